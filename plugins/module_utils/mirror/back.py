# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring objects back from the vault: the very versions that a listing names, bytes, headers, user metadata and tags."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from ..base import throttle
from ..base.errors import LifeboatError, Log, NotFoundError
from ..base.text import human
from ..repository.details import Unheld
from ..s3 import copier, properties
from ..s3.bucket import Bucket, Listed
from ..s3.copier import Copier, Shared
from ..stack import buckets
from ..stack.runtime import Opened

SHOWN = 1000


@dataclass(frozen=True)
class CopiedBack:
    """failed: the first few objects that could not be had, of `failed_count`; the caller must look. denied: how many of
    them the vault's key may not read."""

    objects: int
    copied: int
    copied_bytes: int
    skipped: int
    failed_count: int
    failed: tuple[Unheld, ...]
    denied: int = 0


def copy_back(
    run: Opened, entries: Iterable[Listed], target: Bucket, *, log: Log, compare: bool = True, lock: bool = False,
    shared: Optional[Shared] = None,
) -> CopiedBack:  # fmt: skip
    """Copy the listing's `entries` from the vault into `target`; what is right there already is left as it is.

    An object that cannot be had does not stop the others. Raises LifeboatError for what stops all of them. Run again
    after it was killed, it copies the rest. compare=False: the target is known to be empty, or entries to be wrong
    there. lock: with the retention and the legal hold on record, for they are to stand from the first second, and
    SeaweedFS forgets the Content-Type where they are set later. shared: with what is copied back beside it.
    """
    now = datetime.now(timezone.utc)
    vault, progress, mutex = buckets.vault(run), throttle.Progress(), threading.Lock()
    done: Counter[str] = Counter()
    failed: list[Unheld] = []

    def bring(entry: Listed) -> None:
        right = compare and is_right(vault, target, entry)
        why = ""
        try:
            if not right:
                _copy(moving, entry, properties.parse(entry.properties).headers(now) if lock else {})
        except LifeboatError as exc:
            why = copier.refusal(exc)
            if not why:
                raise
            if copier.denied(exc):
                with mutex:
                    done["denied"] += 1
        with mutex:
            done["lost" if why else "skipped" if right else "copied"] += 1
            if why and done["lost"] <= SHOWN:
                failed.append(Unheld(entry.key, why))
            elif not why and not right:
                done["bytes"] += entry.size
            if progress.due():
                log(f"copied {done['copied']} objects back, {human(done['bytes'])}; {done['skipped']} were right")

    with Copier(vault, target, shared) as moving:
        throttle.each(bring, entries, run.config.objects.transfers)
    log(
        f"copied {done['copied']} objects back from {vault.url} to {target.url}, {human(done['bytes'])};"
        f" {done['skipped']} were right already"
    )
    failed.sort(key=lambda lost: lost.key)
    if failed:
        log(f"WARNING: {done['lost']} objects could not be had, first {failed[0].key!r}: {failed[0].why}")
    objects = done["lost"] + done["skipped"] + done["copied"]
    counts = (objects, done["copied"], done["bytes"], done["skipped"], done["lost"])
    return CopiedBack(*counts, tuple(failed), done["denied"])


def _copy(moving: Copier, entry: Listed, lock: Mapping[str, str]) -> None:
    """Without the lock where the target does not take it: what is missing then is told when the locks are compared."""
    what = (entry.key, entry.size, entry.vault_etag, entry.vault_version, entry.sha256 or "")
    try:
        moving.copy(*what, lock)
    except LifeboatError as exc:
        if not lock or exc.attempted != copier.WRITE or not copier.refused(exc):
            raise
        moving.copy(*what)


def is_right(vault: Bucket, target: Bucket, entry: Listed) -> bool:
    """Is the object there with the bytes, the headers and the tags that the vault has of it? Bytes by ETag and size."""
    with contextlib.suppress(NotFoundError):
        etag = target.ask("HEAD", entry.key, attempted=copier.WRITE).etag
        if etag not in (entry.etag, entry.vault_etag) or not etag:
            return False
        ours, theirs = copier.facts(target, entry.key), copier.facts(vault, entry.key, entry.vault_version)
        return ours == theirs and ours.size == entry.size
    return False
