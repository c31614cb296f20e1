#!/usr/bin/env python3
"""Every package that pip may install here, with the hashes of its files: a lock for each virtual environment.

People write lists (requirements.txt and its neighbours); `make lock` writes a lock from each, for every Python that the
environment may have. An environment is made from its lock only (venv.sh), from wheels whose hash is in it.

Usage: locks.py [--upgrade]    (by make lock: what a list does not pin keeps its version, unless --upgrade)
       locks.py --check        (by make lint: nothing is fetched)
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*?)(?:\[[\w,-]+\])?==(?P<version>[\w.!+]+)(?: ?; ?(?P<marker>[^\\]+?))?(?: \\)?"
)
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
OF_LISTS = "# Of its lists: "


@dataclass(frozen=True)
class Lock:
    """A lock, its lists, and the oldest Python it must serve. A package is taken from the first list that pins it."""

    path: str
    lists: tuple[str, ...]
    python: str = "3.11"


PROJECT = ("requirements.txt", "tests/lab/requirements.txt")
LOCKS = (
    Lock("requirements.lock", PROJECT),
    Lock("docs/requirements.lock", ("docs/requirements.txt",), "3.11.5"),  # as pymdown-extensions wants
    Lock("tests/compat/between.lock", ("tests/compat/between.txt", *PROJECT), "3.12"),
    Lock("tests/compat/newest.lock", ("tests/compat/newest.txt", *PROJECT), "3.12"),
    Lock("tests/compat/oldest.lock", ("tests/compat/oldest.txt", *PROJECT)),
    Lock("tests/lab/images/requirements.lock", ("tests/lab/images/requirements.txt",)),
    Lock("tests/supply/requirements.lock", ("tests/supply/requirements.txt",)),
)


@dataclass(frozen=True)
class Pin:
    """A package of a list or a lock. In a lock a package may be there twice, for different Pythons."""

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()


def normal(name: str) -> str:
    """PEP 503: names that are the same package are the same text."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lines_of(text: str) -> list[str]:
    """What a list says, without its comments."""
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()) if line]


def named(line: str) -> str:
    return normal(re.split(r"[\[=<>~!; ]", line, maxsplit=1)[0])


def wanted(texts: Mapping[str, str]) -> list[str]:
    """The lists as one. What the first list says of a package holds, as an environment has it once."""
    found: dict[str, list[str]] = {}
    for text in texts.values():
        own: dict[str, list[str]] = {}
        for line in lines_of(text):
            own.setdefault(named(line), []).append(line)
        found = {**own, **found}
    return [line for name in sorted(found) for line in found[name]]


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def header(lock: Lock, lines: list[str]) -> str:
    return (
        f"# Written by `make lock` from {', '.join(lock.lists)}, for Python {lock.python} and newer. Not by hand.\n"
        f"{OF_LISTS}{digest(lines)}\n"
    )


def pins(text: str) -> Iterator[Pin]:
    """The packages of a lock. ValueError names a line that is neither a pinned package nor a hash of one."""
    current, hashes = None, list[str]()
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if HASH.fullmatch(line) and current:
            hashes.append(line.strip(" \\").removeprefix("--hash="))
        elif found := PIN.fullmatch(line):
            if current:
                yield Pin(*current, tuple(hashes))
            current, hashes = (normal(found["name"]), found["version"], (found["marker"] or "").strip()), []
        else:
            raise ValueError(f"{line!r} is neither a pinned package nor a hash")
    if current:
        yield Pin(*current, tuple(hashes))


def problems(lock: Lock, text: str, lines: list[str]) -> list[str]:
    """What keeps a lock from being that of its lists. Empty: an environment made from it has what they name."""
    again = "run make lock"
    if OF_LISTS + digest(lines) not in text.splitlines()[:2]:
        return [f"{lock.path} was not written from {', '.join(lock.lists)} as they are now: {again}"]
    try:
        locked = list(pins(text))
    except ValueError as error:
        return [f"{lock.path}: {error}: {again}"]
    found = [f"{lock.path}: {pin.name} {pin.version} has no hash: {again}" for pin in locked if not pin.hashes]
    versions = {(pin.name, pin.version) for pin in locked}
    for line in lines:
        pinned = PIN.fullmatch(line)
        if not pinned:
            found.append(f"{', '.join(lock.lists)}: {line} is not pinned: name one version with ==")
        elif (named(line), pinned["version"]) not in versions:
            found.append(f"{lock.path} does not hold {line}: {again}")
    return found


def lists(lock: Lock) -> list[str]:
    return wanted({name: (ROOT / name).read_text(encoding="utf-8") for name in lock.lists})


def environment() -> dict[str, str]:
    """What uv may know of this machine: where an index is, and no constraints, overrides or links of its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("UV_") or name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "UV_CACHE_DIR"))
    }


def write(lock: Lock, *, upgrade: bool) -> str:
    """Resolve the lists for all Pythons and platforms at once, and say what came of it. One that fails stays."""
    target, lines = ROOT / lock.path, lists(lock)
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    with tempfile.TemporaryDirectory() as work:
        asked, made = Path(work, "wanted.txt"), Path(work, "made.lock")
        asked.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        # uv prefers the versions of the file that it writes to.
        if not upgrade:
            made.write_text(before, encoding="utf-8")
        # Wheels only: a source distribution runs code of its own when it is built.
        argv = (
            Path(sys.prefix, "bin", "uv"), "pip", "compile", "--no-config", "--quiet", "--universal",
            "--python-version", lock.python, "--generate-hashes", "--only-binary", ":all:",
            "--no-header", "--no-annotate", "--output-file", made, asked,
        )  # fmt: skip
        done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            return (
                f"could not be resolved from {', '.join(lock.lists)}:\n{done.stderr.strip()}\n"
                "Next: see that the package index answers and that the lists agree with each other"
            )
        text = header(lock, lines) + made.read_text(encoding="utf-8")
    if found := problems(lock, text, lines):
        return "\n".join(("cannot be what uv resolved:", *found))
    if text == before:
        return "is as it was"
    target.write_text(text, encoding="utf-8")
    return "is new"


def check() -> int:
    found: list[str] = []
    for lock in LOCKS:
        path = ROOT / lock.path
        found += problems(lock, path.read_text(encoding="utf-8") if path.exists() else "", lists(lock))
    print("\n".join(f"lock: {problem}" for problem in found), end="\n" if found else "", file=sys.stderr)
    return bool(found)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return check()
    with ThreadPoolExecutor(len(LOCKS)) as pool:  # they wait for the index
        results = list(pool.map(lambda lock: write(lock, upgrade=sys.argv[1:] == ["--upgrade"]), LOCKS))
    for lock, result in zip(LOCKS, results):
        print(f"lock: {lock.path} {result}")
    return bool(set(results) - {"is new", "is as it was"})


if __name__ == "__main__":
    sys.exit(main())
