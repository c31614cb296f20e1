"""Fetch what a package-lock.json names for one platform, each file proved by the lock's own hash.

No Node and no npm is needed for it: an operator's machine need have neither.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ATTEMPTS = 3


def wanted(lock: Mapping[str, Any], cpu: str) -> Iterator[tuple[str, str]]:
    """(address, integrity) of every package that npm would install on Linux with glibc."""
    for package in lock["packages"].values():
        fits = (("os", "linux"), ("cpu", cpu), ("libc", "glibc"))
        if package.get("resolved") and all(mine in package.get(key, [mine]) for key, mine in fits):
            yield package["resolved"], package["integrity"]


def fetch(address: str, integrity: str, folder: Path) -> Path:
    algorithm, _, expected = integrity.partition("-")
    target = folder / (hashlib.sha256(address.encode()).hexdigest()[:16] + ".tgz")
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - the lock names https
                data = answer.read()
            break
        except OSError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(2**attempt)
    if base64.b64encode(hashlib.new(algorithm, data).digest()).decode() != expected:
        raise OSError(f"{address} is not what package-lock.json says")
    target.write_bytes(data)
    return target


def fetch_all(lockfile: Path, cpu: str, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = json.loads(lockfile.read_text(encoding="utf-8"))
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda package: fetch(*package, folder), wanted(lock, cpu)))
