# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring objects back from the vault: the very versions that a listing names, bytes, headers, user metadata and tags."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ..base import throttle
from ..base.errors import LifeboatError, NotFoundError
from ..base.text import human
from ..s3 import copier
from ..s3.bucket import Bucket
from ..s3.copier import Copier
from ..settings.config import Config
from ..stack import buckets

Log = Callable[[str], None]
SHOWN = 1000
_PROGRESS = 10


def copy_back(
    config: Config, entries: Iterable[Mapping[str, Any]], target: Bucket, *, log: Log, compare: bool = True
) -> dict[str, Any]:
    """Copy the listing's `entries` from the vault into `target`; what is right there already is left as it is.

    Returns {objects, copied, copied_bytes, skipped, failed: [{key, why}], failed_count}: an object that cannot be had
    does not stop the others, and the caller must look. Raises LifeboatError for what stops all of them. Run again after
    it was killed, it copies the rest. compare=False: the target is known to be empty, or entries to be wrong there.
    """
    vault = buckets.vault(config)
    done = {"objects": 0, "copied": 0, "copied_bytes": 0, "skipped": 0, "failed_count": 0}
    failed: list[dict[str, str]] = []
    lock, told = threading.Lock(), [time.monotonic()]

    def count(**more: int) -> None:
        with lock:
            for name, number in more.items():
                done[name] += number
            if time.monotonic() - told[0] > _PROGRESS:
                told[0] = time.monotonic()
                log(
                    f"copied {done['copied']} objects back, {human(done['copied_bytes'])}; {done['skipped']} were right"
                )

    def bring(item: Mapping[str, Any]) -> None:
        count(objects=1)
        if compare and is_right(vault, target, item):
            count(skipped=1)
            return
        try:
            moving.copy(item["key"], item["size"], item["vault_etag"], item["vault_version"], item.get("sha256") or "")
        except LifeboatError as exc:
            why = copier.refusal(exc)
            if not why:
                raise
            with lock:
                done["failed_count"] += 1
                if len(failed) < SHOWN:
                    failed.append({"key": item["key"], "why": why})
            return
        count(copied=1, copied_bytes=item["size"])

    with Copier(vault, target) as moving:
        throttle.each(bring, entries, config.objects.transfers)
    log(
        f"copied {done['copied']} objects back from {vault.url} to {target.url}, {human(done['copied_bytes'])};"
        f" {done['skipped']} were right already"
    )
    if failed:
        log(f"WARNING: {done['failed_count']} objects could not be had, first {failed[0]['key']!r}: {failed[0]['why']}")
    return {**done, "failed": sorted(failed, key=lambda item: item["key"])}


def is_right(vault: Bucket, target: Bucket, item: Mapping[str, Any]) -> bool:
    """Is the object there with the bytes, the headers and the tags that the vault has of it? Bytes by ETag and size."""
    with contextlib.suppress(NotFoundError):
        head = target.requests.call(
            "HEAD", target.name, item["key"], attempted=copier.WRITE, subject=f"{item['key']!r} in {target.url}"
        )
        etag = head.headers.get("etag", "").strip('"')
        if etag not in (item["etag"], item["vault_etag"]) or not etag:
            return False
        ours, theirs = copier.facts(target, item["key"]), copier.facts(vault, item["key"], item["vault_version"])
        return ours == theirs and ours.size == item["size"]
    return False
