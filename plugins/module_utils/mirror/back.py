# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring objects back from the vault: the very versions that a listing names, with the headers, user metadata and tags
that it has on record."""

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
from ..s3.bucket import Bucket, Listed, server
from ..s3.copier import Copier, Record, Shared
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
    encrypt: bool = True, shared: Optional[Shared] = None, source: Optional[Bucket] = None,
) -> CopiedBack:  # fmt: skip
    """Copy the listing's `entries` from the vault into `target`; what is right there already is left as it is.

    An object that cannot be had does not stop the others. Raises LifeboatError for what stops all of them. Run again
    after it was killed, it copies the rest. compare=False: the target is known to be empty, or entries to be wrong
    there. lock: with the retention and the legal hold on record, for they are to stand from the first second, and
    SeaweedFS forgets the Content-Type where they are set later. encrypt: with the algorithm and the key on record. What
    the target refuses of these it has the object without. shared: with what is copied back beside it. source:
    where the objects are in place of the vault.
    """
    now = datetime.now(timezone.utc)
    vault, told, refused = source or buckets.vault(run), _Outcomes(log), _Refused()
    # Set once more where it was cut, a retention would cost the object its Content-Type there.
    whole = lock and server(target).startswith("SeaweedFS")

    def bring(entry: Listed) -> None:
        if compare and is_right(vault, target, entry):
            told.right()
            return
        try:
            known = properties.parse(entry.properties)
            locked = known.headers(now, whole_seconds=whole) if lock else {}
            untagged = _copy(moving, entry, locked, known.encryption_headers if encrypt else {}, refused)
        except LifeboatError as exc:
            why = copier.refusal(exc)
            if not why:
                raise
            told.lost(entry, why, denied=copier.denied(exc))
        else:
            told.copied(entry, untagged)

    with Copier(vault, target, shared) as moving:
        throttle.each(bring, entries, run.config.objects.transfers)
    return told.result(vault, target)


class _Outcomes:
    """What became of each object, from many threads."""

    def __init__(self, log: Log) -> None:
        self._log, self._lock = log, threading.Lock()
        self._done: Counter[str] = Counter()
        self._lost: list[Unheld] = []
        self._untagged: list[Unheld] = []

    def right(self) -> None:
        """It was there as it is to be."""
        self._count("skipped")

    def lost(self, entry: Listed, why: str, *, denied: bool) -> None:
        with self._lock:
            if len(self._lost) < SHOWN:
                self._lost.append(Unheld(entry.key, why))
            self._done["denied"] += denied
        self._count("lost")

    def copied(self, entry: Listed, untagged: str) -> None:
        """untagged: why it is there without its tags."""
        with self._lock:
            self._done["bytes"] += entry.size
            if untagged:
                self._done["untagged"] += 1
                self._untagged += [Unheld(entry.key, untagged)] if len(self._untagged) < SHOWN else []
        self._count("copied")

    def _count(self, what: str) -> None:
        with self._lock:
            self._done[what] += 1

    def result(self, vault: Bucket, target: Bucket) -> CopiedBack:
        """The result, which is also logged."""
        done = self._done
        self._log(
            f"copied {done['copied']} objects back from {vault.url} to {target.url}, {human(done['bytes'])};"
            f" {done['skipped']} were right already"
        )
        for lost, words in ((self._lost, "could not be had"), (self._untagged, "are there without their tags")):
            lost.sort(key=lambda entry: entry.key)
            if lost:
                count = done["lost" if lost is self._lost else "untagged"]
                self._log(f"WARNING: {count} objects {words}, first {lost[0].key!r}: {lost[0].why}")
        objects = done["lost"] + done["skipped"] + done["copied"]
        counts = (objects, done["copied"], done["bytes"], done["skipped"], done["lost"])
        return CopiedBack(*counts, tuple(self._lost), done["denied"])


class _Refused:
    """Which encryption the target does not take, so that it is not asked to for each of a million objects.

    May be used by many threads.
    """

    def __init__(self) -> None:
        self._encryption: set[frozenset[tuple[str, str]]] = set()

    def add(self, encryption: Mapping[str, str]) -> None:
        self._encryption.add(frozenset(encryption.items()))

    def attempts(self, lock: Mapping[str, str], encryption: Mapping[str, str]) -> list[tuple[Mapping[str, str], ...]]:
        """(lock, encryption) to try one after the other. A lock can be set later, an encryption cannot. Any key is
        better than none."""
        algorithm = {name: value for name, value in encryption.items() if name == properties.ALGORITHM}
        ways = [way for way in (encryption, algorithm) if way and frozenset(way.items()) not in self._encryption]
        made: list[tuple[Mapping[str, str], ...]] = []
        for way in (*ways, {}):
            made += [pair for pair in ((lock, way), ({}, way)) if pair not in made]
        return made


def _copy(
    moving: Copier, entry: Listed, lock: Mapping[str, str], encryption: Mapping[str, str], refused: _Refused
) -> str:
    """Without the lock or the encryption where the target does not take it: what is missing then is told when these
    are compared.

    Returns why the target has the object without its tags.
    """
    what = (entry.key, entry.size, entry.vault_etag, entry.vault_version, entry.sha256 or "")
    record, attempts = Record(entry.headers, entry.tags), refused.attempts(lock, encryption)
    for number, (locked, encrypted) in enumerate(attempts):
        try:
            done = moving.copy(*what, {**locked, **encrypted}, record)
        except LifeboatError as exc:
            if number == len(attempts) - 1 or exc.attempted != copier.WRITE or not copier.answered(exc):
                raise
            continue
        for _locked, other in attempts[:number]:
            if other != encrypted:
                refused.add(other)
        break
    return done.untagged or done.unread


def is_right(vault: Bucket, target: Bucket, entry: Listed) -> bool:
    """Is the object there with the bytes, the headers and the tags on record, or else the vault's? Bytes by ETag and
    size or, where the ETag says nothing of them, by SHA-256."""
    with contextlib.suppress(NotFoundError):
        head = target.ask("HEAD", entry.key, attempted=copier.WRITE)
        if head.etag not in (entry.etag, entry.vault_etag) or not head.etag:
            encryption = properties.encryption(head.headers)
            if not entry.sha256 or not encryption or properties.is_md5(head.etag, encryption):
                return False
            if head.size != entry.size or copier.digest(target, entry.key, entry.size)[0] != entry.sha256:
                return False
        ours, record = copier.facts(target, entry.key), Record(entry.headers, entry.tags)
        wanted = copier.recorded(vault, entry.key, entry.vault_version, record)
        return (ours.headers, ours.tags) == wanted and ours.size == entry.size
    return False
