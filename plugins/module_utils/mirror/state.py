# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a mirror knows while it works: the source as it shall be, the vault as it is, what was copied before.

All of it by key, on disk, in bounded memory; every decision is a query.
"""

from __future__ import annotations

import functools
import json
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple, Optional, TextIO, Union, get_args

from ..base import typed
from ..base.clock import parse_time
from ..base.filesystem import explained
from ..repository.details import Unheld
from ..s3 import properties
from ..s3.bucket import Listed, Version
from ..s3.copier import UNRECORDED, Record
from ..s3.inventory import Inventory
from . import listing
from .listing import RawEntry

NAME_CHECK = ".lifeboat-name-"  # names are tried in the vault by objects whose keys begin so, see sides
_VERSION = "key TEXT PRIMARY KEY, size INT, etag TEXT, modified INT, version TEXT"
# copies: what is known of objects that were copied: by the last backup's listing, by a killed run, by this one (then
# looked). line: the whole of what that listing says, where it may stand in the next one as it is. past: what the source
# keeps of old versions. seen: the properties that this run saw of others. told: the tags that the source lists.
_TABLES = {
    "source": f"{_VERSION}, deleted INT, storage TEXT",
    "vault": f"{_VERSION}, deleted INT, storage TEXT",
    "copies": f"{_VERSION}, vault_version TEXT, vault_etag TEXT, sha256 TEXT, properties TEXT, headers TEXT, tags TEXT,"
    " tags_at INT, looked INT, vault_modified INT, storage TEXT, line BLOB",
    "past": "key TEXT, version TEXT, modified INT, PRIMARY KEY (key, version)",
    "seen": "key TEXT PRIMARY KEY, properties TEXT",
    "told": "key TEXT PRIMARY KEY, etag TEXT, tags TEXT",
    "unlike": "key TEXT PRIMARY KEY",
    "unheld": "key TEXT PRIMARY KEY, why TEXT",
}
_SAME = "c.key IS NOT NULL AND c.size = s.size AND c.etag = s.etag"
_IN_VAULT = "v.key IS NOT NULL AND v.size = s.size"
# A version should never change; MinIO overwrites one in place where a PUT names it, and the ETag shows that.
_AS_COPIED = "c.vault_version = v.version AND v.version <> '' AND c.vault_etag = v.etag"
_REPLACED = f"{_SAME} AND c.vault_version = v.version AND (c.vault_etag <> v.etag OR v.size <> s.size)"
# Servers that tell whole seconds list nothing new of an object without versions that is written twice in one, such as
# before and after it was copied. So what was read within a minute of its writing, the most that its server's clock may
# be off, is compared once more by the next run.
_UNSETTLED = (
    "s.version = 'null' AND s.modified % 1000 = 0 AND NOT c.looked AND c.tags_at > 0"
    " AND c.tags_at * 1000 < s.modified + 62000"
)
_WRITTEN = "c.version = s.version AND c.modified = s.modified"
# Of a list of current objects, which tells no versions ('' then): is it the version that was listed before? Servers
# tell times in several ways, so that of two the coarser one counts.
_SAME_MOMENT = (
    "(c.vault_modified = vault.modified OR (c.vault_modified / 1000 = vault.modified / 1000"
    " AND (c.vault_modified % 1000 = 0 OR vault.modified % 1000 = 0)))"
)
_SAME_IN_VAULT = (
    "c.key = vault.key AND c.size = vault.size AND c.vault_etag = vault.etag AND c.vault_etag <> ''"
    f" AND c.vault_version <> '' AND c.vault_modified > 0 AND {_SAME_MOMENT}"
)
# Of two writes in one whole second such a list shows the same. So a version counts that was the current one more than a
# minute after its writing, the most that the server's clock may be off.
_LIKE_AT_SOURCE = "c.size = source.size AND c.etag = source.etag AND c.etag <> '' AND c.modified = source.modified"
_SAME_AT_SOURCE = f"c.key = source.key AND {_LIKE_AT_SOURCE} AND (c.modified % 1000 <> 0 OR c.modified + 62000 <= ?)"
_RIGHT = f"{_IN_VAULT} AND {_SAME} AND {_WRITTEN} AND {_AS_COPIED} AND NOT ({_UNSETTLED})"
# The same bytes, but perhaps other headers: written again since, or copied by someone else.
_ALIKE = f"NOT ({_RIGHT}) AND {_IN_VAULT} AND ((s.etag <> '' AND s.etag = v.etag) OR ({_SAME} AND {_AS_COPIED}))"
_JOINED = "source s LEFT JOIN vault v ON v.key = s.key LEFT JOIN copies c ON c.key = s.key"
_OURS = f"(v.key IN (SELECT key FROM copies) OR v.key LIKE '{NAME_CHECK}%' OR v.key LIKE '/{NAME_CHECK}%')"
# An empty folder's placeholder that has no version would be gone for good, and older listings name it.
_PLACEHOLDER = "v.key LIKE '%/' AND v.size = 0 AND v.version = 'null'"
_GONE = f"vault v WHERE v.key NOT IN (SELECT key FROM source) AND {_OURS} AND NOT ({_PLACEHOLDER})"
_FOREIGN = f"vault v WHERE v.key NOT IN (SELECT key FROM source) AND NOT {_OURS} AND NOT ({_PLACEHOLDER})"
_SEEN = "LEFT JOIN seen q ON q.key = s.key"
# Of what is right: nothing that a line of the listing says is other than it was.
_AS_LISTED = "q.key IS NULL AND v.modified = c.vault_modified AND s.storage = c.storage"
_PROPERTIES = "coalesce(q.properties, c.properties)"
_HELD = "s.key NOT IN (SELECT key FROM unheld)"
_NOTED = "c.headers, c.tags, c.tags_at"
_DAY = 86_400
_BATCH = 1000
_OBJECT = "s.key, s.size, s.etag, s.modified, s.version"


class Object(NamedTuple):
    """One object of the source, as it is to be copied. modified: milliseconds since 1970."""

    key: str
    size: int
    etag: str
    modified: int
    version: str


@dataclass(frozen=True)
class Numbers:
    """What a mirror would do. vault: keys there now. removed, overwritten: of those. bytes: to be copied."""

    source: int
    vault: int
    copy: int
    alike: int
    removed: int
    overwritten: int
    bytes: int

    @property
    def share(self) -> float:
        """Percent of the vault's keys that would be removed or overwritten."""
        return 100.0 * (self.removed + self.overwritten) / self.vault if self.vault else 0.0


def milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND, _SECOND = timedelta(milliseconds=1), timedelta(seconds=1)
_Row = tuple[str, int, str, int, str, int, str]


# A line of the journal, and a row of the table `copies` but for its end: an Object, the vault's version and ETag of it,
# its SHA-256, its properties, its Record.
_Copied = tuple[str, int, str, int, str, str, str, str, str, Optional[str], Optional[str], int]
_UNRECORDED = (str, int, str, int, str, str, str, str, str)  # the types of a line before there were records


class _Tally:
    """What the lines of a listing have in all. oldest: when tags were read, in seconds since 1970; 0 where never."""

    def __init__(self) -> None:
        self.properties, self.storage = Counter[str](), Counter[str]()
        self.untagged = 0
        self.oldest: Optional[int] = None

    def add(self, properties: str, tags: Optional[str], tags_at: int, storage: str) -> None:
        if properties:
            self.properties[properties] += 1
        if storage:
            self.storage[storage] += 1
        if tags is None:
            self.untagged += 1
        if self.oldest is None or tags_at < self.oldest:
            self.oldest = tags_at


class State(Inventory):
    """Use it with `with`; it is gone afterwards, but for the journal."""

    def __init__(self, journal: Path, *, share: int = 1) -> None:
        super().__init__(_TABLES, share=share)
        self.function("spread", lambda key: zlib.crc32(str(key).encode("utf-8", "surrogatepass")))
        self._tally = _Tally()
        self.vault_bytes = 0  # bytes of all versions that the vault lists
        self.removes = True  # False: a listing is not believed, and so nothing is removed for not being in it
        self._journal = Journal(journal)
        self.interrupted = self._journal.exists

    def __exit__(self, *_: object) -> None:
        self._journal.close()
        super().__exit__()

    # Filling.

    def read_source(
        self, versions: Iterable[Version], at: Optional[datetime], current: bool = False,
        certain: Optional[datetime] = None,
    ) -> int:  # fmt: skip
        """Take the source as it was at `at`, or as it is where that is None; returns how many keys are ambiguous.

        current: it is a list of current objects, which tells no versions; know_source() looks for them. certain: the
        same instant at the earliest, where the server's clock is not known to the second.

        S3 tells times in whole seconds: what was written in the second of `at` may be a little younger than it. It is
        taken, and what was deleted in that second is kept: too much can be told from the rows, too little is lost. So
        is what was written or deleted between `certain` and `at`.
        """
        unsure: set[str] = set()
        self.change("DELETE FROM source")

        def rows(at: datetime) -> Iterator[_Row]:
            sure = min(certain or at, at)
            for item in versions:
                if item.modified > at:
                    continue
                if item.modified > (sure if item.modified.microsecond else sure - _SECOND):
                    unsure.add(item.key)
                    if item.deleted:
                        continue
                yield _row(item)

        if at is None:
            self.add("source", _unversioned(versions) if current else _current(versions), newest=True)
        else:
            self.add("source", rows(at), newest=True)
            self.change("DELETE FROM source WHERE deleted")
        return len(unsure)

    def noting_past(self, versions: Iterable[Version]) -> Iterator[Version]:
        """The same versions; of the old ones it is noted when they were written."""
        past: list[tuple[str, str, int]] = []
        for item in versions:
            if not item.latest and not item.deleted:
                past.append((item.key, item.version, milliseconds(item.modified)))
                if len(past) >= _BATCH:
                    self.add("past", past)
                    past.clear()
            yield item
        self.add("past", past)

    def there(self, version: Version) -> None:
        """An object that the source holds, although it does not list it."""
        self.add("source", [_row(version)])

    def read_vault(self, versions: Iterable[Version], current: bool = False) -> None:
        """current: it is a list of current objects, which tells no versions; know_vault() looks for them."""
        self.change("DELETE FROM vault")
        self.vault_bytes = 0
        if current:
            self.add("vault", _unversioned(item for item in versions if item.key))
            return

        def counted() -> Iterator[Version]:
            for item in versions:
                self.vault_bytes += item.size
                yield item

        self.add("vault", (_row(item) for item in counted() if item.latest and not item.deleted and item.key))

    def put_vault(self, key: str, versions: Sequence[Version]) -> None:
        """What the vault now has under a key: one version, or none."""
        if versions:
            self.add("vault", map(_row, versions))
        else:
            self.change("DELETE FROM vault WHERE key = ?", key)

    def read_copies(self, entries: Iterable[Union[RawEntry, Listed]]) -> None:
        """The listing of the last backup, then what a killed run after it had done already."""
        self.add("copies", (_entry_row(entry) if isinstance(entry, RawEntry) else _copy(entry) for entry in entries))
        self.add("copies", ((*row, 0, 0, "", None) for row in self._journal.read()))

    def know_vault(self, most: int) -> list[str]:
        """After a list of current objects: which of the vault's versions they are, where the last listing has that.

        Returns the first `most` others, by key, whose versions count: a mirror put them there, the source has them too,
        or they may be an empty folder's placeholder.
        """
        same = f"FROM copies c WHERE {_SAME_IN_VAULT}"
        self.change(f"UPDATE vault SET version = coalesce((SELECT c.vault_version {same}), '') WHERE version = ''")
        counts = "key IN (SELECT key FROM copies) OR key IN (SELECT key FROM source) OR (key LIKE '%/' AND size = 0)"
        rows = self.each(f"SELECT key FROM vault WHERE version = '' AND ({counts}) ORDER BY key LIMIT {most}")
        return [str(key) for (key,) in rows]

    def name_vault(self, key: str, size: int, etag: str, version: str) -> bool:
        """One of these is that version; False where the object that was listed has another size or ETag."""
        row = (version, key, size, etag)
        return bool(self.change("UPDATE vault SET version = ? WHERE key = ? AND size = ? AND etag = ?", *row))

    def garbled(self, table: str) -> bool:
        """Whether a listing does not tell all names."""
        return bool(self.value(f"SELECT count(*) FROM {table} WHERE instr(key, char(65533))"))

    def know_source(self, before: datetime) -> int:
        """The same of the source, which the last listing tells as of `before`; returns of how many it is not known."""
        same = f"FROM copies c WHERE {_SAME_AT_SOURCE}"
        known = f"UPDATE source SET version = coalesce((SELECT c.version {same}), '') WHERE version = ''"
        self.change(known, milliseconds(before))
        return int(self.value("SELECT count(*) FROM source WHERE version = ''"))

    def unsettled(self) -> list[tuple[str, str]]:
        """What know_source() does not know for its time alone: the keys, and the versions on record."""
        unknown = f"source JOIN copies c ON c.key = source.key WHERE source.version = '' AND {_LIKE_AT_SOURCE}"
        rows = self.each(f"SELECT source.key, c.version FROM {unknown} ORDER BY source.key")
        return [(str(key), str(version)) for key, version in rows]

    def name_source(self, key: str, size: int, etag: str, version: str) -> None:
        """As name_vault()."""
        row = (version, key, size, etag)
        self.change("UPDATE source SET version = ? WHERE key = ? AND size = ? AND etag = ?", *row)

    # Asking.

    def mistimed(self, most: timedelta) -> Optional[str]:
        """The key of an old version whose time differs by `most` from what was told of it when it was copied."""
        same = "p.key = c.key AND p.version = c.version"
        differs = f"abs(p.modified - c.modified) >= {most // _MILLISECOND}"
        rows = self.each(f"SELECT p.key FROM past p JOIN copies c ON {same} WHERE {differs} ORDER BY p.key LIMIT 1")
        return next((str(key) for (key,) in rows), None)

    def copied_version(self, key: str) -> str:
        """The version of the source's that was copied last; empty where that is not known."""
        return next((str(version) for (version,) in self.each("SELECT version FROM copies WHERE key = ?", key)), "")

    def numbers(self) -> Numbers:
        # On most nights all is right, and the rest of the judgement is made of no row.
        columns = f"({_ALIKE}) AS alike, c.key IS NOT NULL AS known, ({_SAME}) AS same"
        other = f"SELECT s.size AS size, v.key IS NOT NULL AS there, {columns} FROM {_JOINED}"
        # What a look between two backups has copied was overwritten since the last one all the same.
        over = "(NOT alike AND there) OR (alike AND known AND NOT same)"
        sums = f"coalesce(sum(NOT alike), 0), coalesce(sum(alike), 0), coalesce(sum({over}), 0)"
        summed = f"SELECT {sums}, coalesce(sum((NOT alike) * size), 0) FROM ({other} WHERE NOT ({_RIGHT}))"
        copy, alike, overwritten, size = next(self.each(summed))
        removed = int(self.value(f"SELECT count(*) FROM {_GONE}")) if self.removes else 0
        return Numbers(self.count("source"), self.count("vault"), copy, alike, removed, overwritten, size)

    def replaced(self) -> tuple[int, list[str]]:
        """Of how many objects the vault's very version is no longer what was copied, and the first few."""
        return self.counted(f"(SELECT s.key FROM {_JOINED} WHERE {_REPLACED})")

    def to_copy(self) -> Iterator[Object]:
        """Largest first: the last object to end must not be a long one."""
        where = f"{_HELD} AND NOT ({_RIGHT}) AND (NOT ({_ALIKE}) OR s.key IN (SELECT key FROM unlike))"
        # That order is not any index's, so SQLite has read all of it before the first is copied.
        for row in self.each(f"SELECT {_OBJECT} FROM {_JOINED} WHERE {where} ORDER BY s.size DESC"):
            yield Object(*row)

    def alike(self) -> Iterator[tuple[Object, str, str, Optional[str]]]:
        """What has the right bytes: with the vault's version and ETag of it, and the SHA-256 where that is known."""
        known = f"CASE WHEN {_SAME} AND {_AS_COPIED} THEN c.sha256 END"
        wanted = f"SELECT {_OBJECT}, v.version, v.etag, {known} FROM {_JOINED} WHERE {_ALIKE} ORDER BY s.size DESC"
        for row in self.each(wanted):
            yield Object(*row[:5]), row[5], row[6], row[7]

    def any_key(self) -> str:
        """One of the source's objects; empty where it has none."""
        return next((str(key) for (key,) in self.each("SELECT key FROM source WHERE key <> '' LIMIT 1")), "")

    def unlisted(self) -> Iterator[str]:
        """What a mirror put into the vault, and the source does not list."""
        for (key,) in self.each(f"SELECT v.key FROM {_GONE}"):
            yield key

    def unseen(self) -> Iterator[str]:
        """What was copied before, and neither server lists: a vault may hide as well what it holds."""
        listed = " AND ".join(f"key NOT IN (SELECT key FROM {table})" for table in ("source", "vault"))
        for (key,) in self.each(f"SELECT key FROM copies WHERE {listed}"):
            yield str(key)

    def to_remove(self) -> Iterator[str]:
        if self.removes:
            yield from self.unlisted()

    def lost(self, most: int) -> list[str]:
        """The first few keys that would be removed or overwritten, those first that would be removed."""
        overwritten = f"SELECT s.key, 1 FROM {_JOINED} WHERE v.key IS NOT NULL AND NOT ({_RIGHT}) AND NOT ({_ALIKE})"
        removed = f"SELECT v.key, 0 FROM {_GONE}" if self.removes else "SELECT NULL, 0 WHERE 0"
        rows = self.each(f"SELECT * FROM ({removed} UNION ALL {overwritten}) ORDER BY 2, 1 LIMIT {most}")
        return [str(key) for key, _how in rows]

    def foreign(self) -> tuple[int, list[str]]:
        """What the vault holds that no mirror is known to have put there, and the source has not: it stays."""
        return self.counted(_FOREIGN, shown=1)

    # Telling it what was done.

    def copied(
        self, item: Object, vault_version: str, vault_etag: str, sha256: Optional[str], properties: str = "",
        record: Record = UNRECORDED,
    ) -> None:  # fmt: skip
        """properties: the object's properties."""
        row = (*item, vault_version, vault_etag, sha256 or "", properties, *record)
        self._journal.add(row)
        self.add("copies", [(*row, 1, 0, "", None)])

    def tags_told(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """The tags that the source lists: (key, ETag, a line of properties.py)."""
        self.add("told", rows)

    def tags_due(self, today: int, days: int, otherwise: int) -> Iterator[tuple[Object, str, str, str, str, Record]]:
        """What is held and whose tags are to be read again: with the vault's version and ETag, SHA-256, properties, and
        what is on record. Those are due as well that the source lists with other tags.

        Each key has one day in every `days`, chosen by its hash. It is due if its tags were not read since the last
        such day: so a night without a mirror is made up for, and a killed one goes on. today: days since 1970.
        otherwise: when tags are taken to have been read that no listing has, in seconds since 1970.
        """
        day = f"({today} - ({today} - spread(s.key) % {days}) % {days})"
        due = f"(CASE WHEN c.tags IS NULL THEN {otherwise} ELSE c.tags_at END) < {day} * {_DAY}"
        columns = f"{_OBJECT}, v.version, v.etag, c.sha256, c.properties, {_NOTED}"
        others = "EXISTS (SELECT 1 FROM told t WHERE t.key = s.key AND t.etag = s.etag AND t.tags <> c.tags)"
        wanted = f"SELECT {columns} FROM {_JOINED} WHERE {_HELD} AND {_RIGHT} AND NOT c.looked AND ({due} OR {others})"
        # Not in the order of an index, so that SQLite has read all of them before the first row is changed.
        for row in self.each(f"{wanted} ORDER BY spread(s.key)"):
            yield Object(*row[:5]), row[5], row[6], row[7], row[8], Record(*row[9:])

    def tags_read(self, item: Object, vault_version: str, vault_etag: str, rest: tuple[str, str], now: Record) -> None:
        """rest: its SHA-256 and its properties, which stay. Written at once, so that a killed sweep goes on."""
        row = (*item, vault_version, vault_etag, *rest, *now)
        self._journal.add(row)
        self.add("copies", [(*row, 0, 0, "", None)])

    def tags_known(self) -> tuple[int, Optional[datetime]]:
        """Of how many objects of the listing nobody read the tags, and when those were read that were so first."""
        unknown, oldest = self._tally.untagged, self._tally.oldest
        return unknown, None if unknown or not oldest else _EPOCH + timedelta(seconds=oldest)

    def unlooked(self) -> Iterator[tuple[Object, str, str]]:
        """What this run did not look at, as it is as it was: with the vault's version, and the properties on record."""
        columns = f"{_OBJECT}, v.version, c.properties"
        wanted = f"SELECT {columns} FROM {_JOINED} WHERE {_HELD} AND {_RIGHT} AND NOT c.looked ORDER BY s.size DESC"
        for row in self.each(wanted):
            yield Object(*row[:5]), row[5], row[6]

    def noted(self, key: str) -> tuple[str, Optional[str]]:
        """The properties and the headers on record of an object that was copied."""
        for line, headers in self.each("SELECT properties, headers FROM copies WHERE key = ?", key):
            return line, headers
        return "", None

    def note_read(self, key: str, properties: str) -> None:
        self.add("seen", [(key, properties)])

    def changed(self, item: Object) -> None:
        """The source's object was another when it was read than when it was listed, or its version was not listed."""
        row = (item.size, item.etag, item.version, item.key)
        self.change("UPDATE source SET size = ?, etag = ?, version = ? WHERE key = ?", *row)

    def unlike(self, key: str) -> None:
        """It is to be copied though its bytes are right."""
        self.add("unlike", [(key,)])

    def unheld(self, key: str, why: str) -> None:
        self.add("unheld", [(key, why)])

    def vanished(self, key: str) -> None:
        self.change("DELETE FROM source WHERE key = ?", key)

    # The result.

    def compare(self) -> int:
        """Hold the vault's own listing against what was copied; what is not there as it must be, is unheld."""
        wrong = f"{_JOINED} WHERE {_HELD} AND NOT ({_RIGHT})"
        why = "CASE WHEN v.key IS NULL THEN 'the vault does not list it' ELSE 'the vault lists another object' END"
        return self.change(f"INSERT INTO unheld SELECT s.key, {why} FROM {wrong}")

    def unheld_rows(self, limit: int) -> tuple[int, list[Unheld]]:
        rows = self.each(f"SELECT key, why FROM unheld ORDER BY key LIMIT {limit}")
        return self.count("unheld"), [Unheld(key, why) for key, why in rows]

    def unchanged(self) -> bool:
        """Are lines() all those of the last listing, as they are there?"""
        same = f"{_JOINED} {_SEEN} WHERE {_HELD} AND {_RIGHT} AND {_AS_LISTED}"
        return bool(self.value(f"SELECT count(*) FROM {same}") == self.count("copies"))

    def listing(self) -> Iterator[Listed]:
        """What the vault holds of the source, in the order of the keys."""
        return (listing.parsed(one) if isinstance(one, bytes) else one for one in self.lines())

    def lines(self) -> Iterator[Union[Listed, bytes]]:
        """The same, as listing.write() takes it. tags_known(), properties() and storage() are of what is given here."""
        columns = f"{_OBJECT}, v.version, v.etag, c.sha256, {_PROPERTIES}, {_NOTED}, v.modified, s.storage"
        columns += f", CASE WHEN {_AS_LISTED} THEN c.line END"
        wanted = f"SELECT {columns} FROM {_JOINED} {_SEEN} WHERE {_HELD} AND {_RIGHT} ORDER BY s.key"
        tally = self._tally = _Tally()
        for row in self.each(wanted):
            key, size, etag, modified, version, vault_version, vault_etag, sha256, line, *noted, storage, written = row
            tally.add(line, noted[1], noted[2], storage)
            if written is not None:
                yield written
                continue
            at, (headers, tags, read, vault_modified) = _EPOCH + modified * _MILLISECOND, noted
            as_of = None if tags is None else _moment(read)
            seen = _EPOCH + vault_modified * _MILLISECOND if vault_modified > 0 else None
            held = (version, vault_version, vault_etag, sha256 or None)
            yield Listed(key, size, etag, at, *held, line, headers, tags, as_of, seen, storage)

    def properties(self) -> Iterator[tuple[str, int]]:
        """Those that objects of the listing have, and how many have them."""
        return iter(sorted(self._tally.properties.items()))

    def storage(self) -> dict[str, int]:
        """The storage classes other than the usual one, and how many objects of the listing have them."""
        return dict(sorted(self._tally.storage.items()))


def _current(versions: Iterable[Version]) -> Iterator[_Row]:
    return (_row(item) for item in versions if item.latest and not item.deleted)


def _unversioned(objects: Iterable[Version]) -> Iterator[_Row]:
    return (
        (key, size, etag, (modified - _EPOCH) // _MILLISECOND, "", 0, storage)
        for key, size, etag, modified, _version, _latest, _deleted, storage in objects
    )


def _row(item: Version) -> _Row:
    key, size, etag, modified, version, _latest, deleted, storage = item
    return key, size, etag, (modified - _EPOCH) // _MILLISECOND, version, int(deleted), storage


def _copy(entry: Listed) -> tuple[Union[str, int, None], ...]:
    """A row of the table `copies`."""
    return (
        entry.key, entry.size, entry.etag, milliseconds(entry.modified or _EPOCH), entry.version, entry.vault_version,
        entry.vault_etag, entry.sha256 or "", entry.properties, entry.headers, entry.tags,
        _seconds(entry.tags_as_of or _EPOCH), 0, milliseconds(entry.vault_modified or _EPOCH), entry.storage, None,
    )  # fmt: skip


def _entry_row(entry: RawEntry) -> tuple[Union[str, int, bytes, None], ...]:
    """The same of a line that may stand in the next listing as it is."""
    return (
        entry.key, entry.size, entry.etag, _time(entry.modified), entry.version, entry.vault_version, entry.vault_etag,
        entry.sha256 or "", entry.properties or "", entry.headers, entry.tags,
        _time(entry.tags_as_of) // 1000 if entry.tags_as_of else 0, 0,
        _time(entry.vault_modified) if entry.vault_modified else 0, entry.storage or "", entry.raw,
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _time(text: str) -> int:
    return milliseconds(parse_time(text))


@functools.lru_cache(maxsize=4096)
def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


@functools.lru_cache(maxsize=4096)
def _moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _sound(row: _Copied) -> bool:
    """Is it a line as we write it?"""
    kinds = get_args(_Copied)
    if len(row) != len(kinds) or any(type(value) not in (get_args(kind) or (kind,)) for value, kind in zip(row, kinds)):
        return False
    if max(row[1], abs(row[3]), abs(row[-1])) > typed.MOST:
        return False
    try:
        properties.parse(row[8])
        for line in row[9:11]:
            properties.check(line or "")
    except ValueError:
        return False
    return True


class Journal:
    """What was copied since the last listing, a line each: a killed run is taken up where it was killed.

    Not synced to the disk: a line that is lost is an object copied again, and a wrong one does not match the vault.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._file: Optional[TextIO] = None

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def read(self) -> Iterator[_Copied]:
        with explained("read the mirror's journal", self._path):
            if not self._path.exists():
                return
            with self._path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        row: _Copied = tuple(json.loads(line))
                        if tuple(map(type, row)) == _UNRECORDED:
                            row = (*row, *UNRECORDED)  # type: ignore[assignment]
                    except (ValueError, TypeError, RecursionError):
                        return  # cut in the middle of a line
                    if not _sound(row):
                        return
                    yield row

    def add(self, row: _Copied) -> None:
        with self._lock, explained("write the mirror's journal", self._path):
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8", buffering=1)
                self._path.chmod(0o600)
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def remove_journal(path: Path) -> None:
    """The listing knows everything now."""
    with explained("remove the mirror's journal", path):
        path.unlink(missing_ok=True)
