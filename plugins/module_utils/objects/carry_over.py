# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no backup holds of a store that is to be rebuilt: out of the old server first, into the fresh one afterwards.

These are buckets that the backup does not bring back, and objects of the others that it does not know: the current
version of each. Meanwhile they lie in a private directory on this host. What the old server does not give is named; it
is in the data directory that is put aside.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ..base import filesystem, progress, throttle, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, SHOWN, Check, ended, verdict
from ..base.errors import IntegrityError, LifeboatError, Log, printable
from ..base.filesystem import create, explained
from ..base.text import human, named
from ..mirror import back, listing, store
from ..mirror import verify as mirror_verify
from ..mirror.listing import Point
from ..recovery.state import RECOVERING_OBJECTS
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import copier
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket, Listed
from ..s3.inventory import Inventory, text
from ..s3.signed import Answer
from ..settings.config import Config
from ..stack import buckets, quarantine
from ..stack.runtime import Opened
from . import locks, restore_settings
from .compare import GONE

_COPY = "copy what no backup holds out of the object store"
_NEW = "live l WHERE NOT EXISTS (SELECT 1 FROM point p WHERE p.key = l.key)"


@dataclass(frozen=True)
class Copied:
    """What was copied of one bucket. whole: all of it, and its settings, for the backup does not bring it back.

    lost: the first few objects that could not be read, and why, of `lost_count`. broken: why it is not known, or could
    not be read, what more there is.
    """

    name: str
    folder: str
    whole: bool
    objects: int
    bytes: int
    settings: Mapping[str, object] = field(default_factory=dict)
    settings_denied: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    lost_count: int = 0
    broken: str = ""

    @property
    def missing(self) -> str:
        """What is not in the copy, in words; empty where nothing is known to be missing."""
        count = f"{self.lost_count} objects could not be read out of the old server" if self.lost_count else ""
        return "; ".join(filter(None, [count, *self.lost, self.broken]))


@dataclass(frozen=True)
class _Index:
    buckets: tuple[Copied, ...]


@dataclass(frozen=True)
class _Files(Bucket):
    """The copy of one bucket, for a Copier to read from."""

    path: Path = Path()

    @property
    def url(self) -> str:
        return str(self.path)

    def ask(
        self, method: str, key: Optional[str] = None, query: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None, body: bytes = b"", *, attempted: str, subject: str = "",
    ) -> Answer:  # fmt: skip
        path = self.path / _file(key or "")
        first, _dash, last = (headers or {}).get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        with explained(attempted, subject or path), path.open("rb") as file:
            size = path.stat().st_size
            file.seek(int(first))
            part = b"" if method == "HEAD" else file.read(int(last) + 1 - int(first) if last else -1)
        return Answer(200, {"content-length": str(size)}, part)


def _file(key: str) -> str:
    """A key may have 1,024 bytes, and any of them."""
    return filesystem.sha256(key.encode())


def take(
    run: Opened, stamp: str, points: Sequence[Point], *, whole: bool, exact: bool, prefix: str, log: Log
) -> Optional[Path]:
    """Copy out of the living server what a rebuild would not bring back; returns where it lies, None: there was none.

    points: the buckets that come back from a backup. whole: copy the other buckets too. exact: what the points do not
    know is to be gone. prefix: of the keys that come back. Nothing was changed yet: what fails on this host leaves the
    server as it is.
    """
    try:
        source = buckets.source(run)
        wanted = [] if exact else [(point.bucket or source.name, point) for point in points]
        names = _additional(run, [source.name, *(point.bucket for point in points)], log) if whole else []
    except LifeboatError as exc:
        log(f"nothing can be copied out of the old server: {exc.cause}")
        return None
    folder = run.config.state / f"{quarantine.COPIES}{stamp}"
    with explained(_COPY, folder):
        for half in _folders(run.config, whole=False):
            filesystem.remove(half)
        folder.mkdir(mode=0o700, parents=True)
        try:
            parts: list[Copied] = []
            for number, (name, point) in enumerate([*wanted, *((name, None) for name in names)], 1):
                parts += _copy_out(run, source.sibling(name), point, prefix, folder / f"{number:03}", log)
            if parts:
                index = json.dumps(typed.plain(_Index(tuple(parts)))).encode()
                filesystem.write(folder / quarantine.INDEX, index, folder / f"{quarantine.INDEX}.partial")
                return folder
        except BaseException:
            filesystem.remove(folder)
            raise
        filesystem.remove(folder)
    return None


def _additional(run: Opened, returning: Sequence[str], log: Log) -> list[str]:
    seen = store.read_store(run, returning)
    if seen.unlisted:
        log(f"which other buckets the old server has is not known: {seen.unlisted}")
        return []
    return [name for name in (*seen.protected, *seen.unprotected, *seen.excluded) if name not in returning]


def _copy_out(
    run: Opened, source: Bucket, point: Optional[Point], prefix: str, folder: Path, log: Log
) -> Iterator[Copied]:
    with Inventory() as known, Inventory() as copied:
        if point:
            known.add_listing("point", point.entries(prefix))
        broken: list[str] = []
        known.add("live", _listed(source, broken))
        count = int(known.value(f"SELECT count(*) FROM {_NEW}"))
        if point and not count:  # how long ago the backup was tells what may be lost
            why = f"; {broken[0]}" if broken else ""
            log(f"nothing is listed in {named(source.name)} that the backup does not know{why}")
            return
        folder.mkdir(mode=0o700)
        filesystem.require_room(folder, int(known.value(f"SELECT coalesce(sum(l.size), 0) FROM {_NEW}")))
        work = _Reading(source, folder, copied)
        each = known.each(f"SELECT l.key, l.etag, l.modified FROM {_NEW} ORDER BY l.key")
        settings = s3_settings.BucketSettings({})
        try:
            settings = settings if point else s3_settings.inspect(source)
        except LifeboatError as exc:
            broken.append(f"its settings could not be read: {exc.cause}")
        try:
            throttle.each(lambda row: work.read(*row), each, run.config.objects.transfers)
        except LifeboatError as exc:
            broken.append(f"not all of it was read: {exc.cause}")
        summary = listing.write(folder / listing.NAME, copied.entries("point"))
        found = Copied(
            source.name, folder.name, point is None, summary.objects, summary.bytes, settings.values, settings.denied,
            tuple(sorted(work.lost)[:SHOWN]), count - summary.objects, "; ".join(broken),
        )  # fmt: skip
        log(f"copied {found.objects} objects of {named(source.name)} out of the old server, {human(found.bytes)}")
        if found.missing:
            log(f"WARNING: of {named(source.name)}: {found.missing}")
        yield found


def _listed(source: Bucket, broken: list[str]) -> Iterator[tuple[str, int, str, str, float]]:
    """Rows of `live`, as far as the server lists them. broken: is given why that was not to the end."""
    try:
        for version in s3_bucket.objects(source):
            yield text(version.key), version.size, version.etag, "", version.modified.timestamp()
    except LifeboatError as exc:
        broken.append(f"it was not listed to its end: {exc.cause}")


class _Reading:
    """Objects on their way into files, from many threads."""

    def __init__(self, source: Bucket, folder: Path, copied: Inventory) -> None:
        self._source, self._folder, self._copied = source, folder, copied
        self.lost: list[str] = []
        self._lock = threading.Lock()

    def read(self, key: str, etag: str, modified: float) -> None:
        """An object that cannot be had stops no other; a server that is silent stops all of them."""
        path = self._folder / _file(key)
        try:
            with create(path) as file:
                facts = copier.facts(self._source, key)
                sha256, md5, _headers = copier.digest(self._source, key, facts.size, into=file)
        except LifeboatError as exc:
            path.unlink(missing_ok=True)
            why = copier.refusal(exc) or (exc.cause if s3_client.status(exc) else "")
            if not why:
                raise
            with self._lock:
                self.lost += [f"{printable(key)}: {why}"]
            return
        (headers, tags, _at), at = facts.record, datetime.fromtimestamp(modified, timezone.utc)
        entry = Listed(
            key, facts.size, etag, at, vault_etag=md5, sha256=sha256, properties=facts.properties.encoded,
            headers=headers, tags=tags,
        )  # fmt: skip
        self._copied.add_listing("point", [entry])


def _folders(config: Config, *, whole: bool) -> list[Path]:
    return quarantine.copies(config.state, whole=whole)


def waiting(config: Config) -> list[Path]:
    """What recoveries copied out that did not end, the newest first: it is what was there last."""
    if not (config.state / RECOVERING_OBJECTS).exists():
        return []
    return [path for path in reversed(_folders(config, whole=True)) if not (path / quarantine.SETTLED).exists()]


def settle(config: Config) -> None:
    """Before a recovery that takes nothing up: what lies there is of one that ended, or that somebody ended by hand."""
    for folder in _folders(config, whole=True):
        with explained("look at what was copied", folder):
            (folder / quarantine.SETTLED).touch(mode=0o600)


def read(folder: Path) -> tuple[Copied, ...]:
    """What is in the copy."""
    path = folder / quarantine.INDEX

    def wrong(at: str, why: str) -> LifeboatError:
        return IntegrityError("read what was copied", str(path), f"{at} {why}".strip())

    with explained("read what was copied", folder):
        return typed.build(_Index, typed.load(filesystem.read_plain(path), wrong), wrong, unknown="ignore").buckets


class Return:
    """The way back of what take() copied. What is there already is left; what does not come back whole stays in its
    directory, and stops nothing else."""

    def __init__(self, run: Opened, folders: Iterable[Path], log: Log) -> None:
        self._run, self._log = run, log
        self._parts: list[tuple[Path, Copied]] = []
        self._unread: list[Check] = []
        for folder in folders:
            try:
                self._parts += [(folder, copied) for copied in read(folder)]
            except LifeboatError as exc:
                self._unread.append(ended(f"what was copied to {folder}", exc))
        self._refused: dict[tuple[Path, str], Mapping[str, str]] = {}
        self._ended: dict[tuple[Path, str], LifeboatError] = {}

    def bring(self) -> Return:
        """Put the objects of each bucket back, and the settings of one that no backup brings back."""
        for folder, copied in self._parts:
            try:
                self._refused[folder, copied.folder] = self._bring(folder, copied)
            except LifeboatError as exc:
                self._log(f"what was copied of the bucket {named(copied.name)} is not put back: {exc}")
                self._ended[folder, copied.folder] = exc
        return self

    def _bring(self, folder: Path, copied: Copied) -> Mapping[str, str]:
        """Returns the settings that the server refused."""
        source = buckets.source(self._run).sibling(copied.name)
        made = copied.whole and s3_settings.make(source, lock=bool(copied.settings.get(s3_settings.LOCK)))
        settings = copied.settings if made else {}
        first = {name: value for name, value in settings.items() if name in s3_settings.FIRST}
        refused = s3_settings.apply(source, first, whole=True).refused
        with Inventory() as inventory:
            inventory.add_listing("point", _entries(folder, copied))
            inventory.add_listing("live", (Listed(one.key, one.size, one.etag) for one in s3_bucket.objects(source)))
            files = _Files(name=copied.name, path=folder / copied.folder)
            missing = inventory.entries(GONE)
            with progress.going(progress.Gauge(f"objects to {source.url}", unit=progress.OBJECTS)) as gauge:
                missing = gauge.counting(missing)
                back.copy_back(self._run, missing, source, log=self._log, compare=False, lock=True, source=files)
        rest = {name: value for name, value in settings.items() if name not in first}
        return {**refused, **s3_settings.apply(source, rest, whole=True).refused}

    def checks(self, sample: int = 0) -> list[Check]:
        """One of each bucket. The copies go when all that is in them is back."""
        checks = [*self._unread]
        whole: dict[Path, bool] = {}
        for folder, copied in self._parts:
            name = f"copy of the bucket {named(copied.name)}"
            try:
                if error := self._ended.get((folder, copied.folder)):
                    raise error
                found = self._proved(folder, copied, sample)
            except LifeboatError as exc:
                found = ended(name, exc)
            back_again = verdict([found]) == PASS or (copied.missing and found.detail == copied.missing)
            whole[folder] = whole.get(folder, True) and bool(back_again)
            if not back_again:
                found = Check(name, found.result, f"{found.detail}; its copy is in {folder / copied.folder}")
            checks.append(Check(name, found.result, found.detail))
        for folder, right in whole.items():
            with explained("put away what was copied", folder):
                if right:
                    filesystem.remove(folder)
                else:
                    (folder / quarantine.SETTLED).touch(mode=0o600)
        return checks

    def _proved(self, folder: Path, copied: Copied, sample: int) -> Check:
        source = buckets.source(self._run).sibling(copied.name)
        checks = mirror_verify.verify_objects(self._run, _entries(folder, copied), source, sample=sample or None)
        checks += locks.of_these(self._run, source, _entries(folder, copied))
        refused = self._refused.get((folder, copied.folder), {})
        told = [f"the bucket's {name} is not restored: {why}" for name, why in refused.items()]
        told += [] if refused else restore_settings.differing(source, copied.settings)
        checks += [Check("settings", FAIL, "; ".join(told))] if told else []
        if copied.settings_denied:
            words = f"not on record, as the key might not read it: {', '.join(copied.settings_denied)}"
            checks.append(Check("settings", COULD_NOT_VERIFY, words))
        # What was written after the backup is lost with the disk, as rows are: named, and no FAIL.
        lost = "" if copied.whole or copied.broken else copied.missing
        if copied.missing and not lost:
            checks.append(Check("objects", FAIL if copied.whole else COULD_NOT_VERIFY, copied.missing))
        wrong = [check.detail for check in checks if check.result != PASS]
        what = "and its settings " if copied.whole else ""
        right = f"{copied.objects} objects ({human(copied.bytes)}) {what}as they were before the rebuild"
        right += f"; lost, as the backup does not have them: {lost}" if lost else ""
        return Check("", verdict(checks), "; ".join(wrong) or right)


def _entries(folder: Path, copied: Copied) -> Iterator[Listed]:
    path = folder / copied.folder / listing.NAME
    with explained("read what was copied", path), path.open("rb") as file:
        yield from listing.read(file, str(path))
