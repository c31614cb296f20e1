# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of object keys to be held against one another, by the million, in bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Callable, Optional, TypeVar

from ..base.checks import SHOWN
from ..base.errors import LifeboatError, printable
from .bucket import Bucket, Listed, Version

T = TypeVar("T", bound="Inventory")
UNKNOWN = -1  # a size that nobody told
UNHELD = "NOT EXISTS (SELECT 1 FROM held h WHERE h.key = p.key AND h.version = p.version)"  # of a row p of `point`
_BATCH = 5000
ASKED = 1000  # versions that are asked for one by one
# rows: what the database knows. live: what the bucket holds. point: what it should hold, `version` being the vault's.
# held: the versions that the vault has. settled: what was found out of a key in which they differ.
_TABLES: Mapping[str, str] = MappingProxyType(
    {
        "rows": "key TEXT, size INT, sha256 TEXT, at REAL, PRIMARY KEY (key, size, sha256)",
        "live": "key TEXT PRIMARY KEY, size INT, etag TEXT, sha256 TEXT, modified REAL",
        "point": "key TEXT PRIMARY KEY, size INT, etag TEXT, sha256 TEXT, modified REAL, version TEXT, vault_etag TEXT,"
        " properties TEXT, headers TEXT, tags TEXT",
        "held": "key TEXT, version TEXT, size INT, etag TEXT, modified REAL, PRIMARY KEY (key, version)",
        "settled": "key TEXT PRIMARY KEY, how TEXT",
    }
)


def text(key: str) -> str:
    """Return a key as SQLite takes it: what is not UTF-8 (a server may hold it) is written with backslashes."""
    return key.encode("utf-8", "backslashreplace").decode()


class Inventory:
    """A private SQLite database on disk that is gone when it is closed, or its process is. Use it with `with`.

    One that an open stack keeps (Opened.once) is closed when nobody has it any more.
    Keys compare by their UTF-8 bytes, whatever a server's own order is.
    """

    def __init__(self, tables: Mapping[str, str] = _TABLES, *, share: int = 1) -> None:
        """share: it is one of so many that are open at once, and takes that part of the memory."""
        # Threads share the connection, and with it each statement that it has prepared: one of them at a time.
        self._lock = threading.Lock()
        self._batch = _BATCH // share
        # An empty name is a temporary file that SQLite unlinks at once: https://www.sqlite.org/inmemorydb.html
        with _explained():
            self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            # Python 3.13 warns of one that was not closed.
            self._close = weakref.finalize(self, _close, self._base, self._lock)
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{(32 << 10) // share}"):
                self._base.execute(f"PRAGMA {pragma}")
            for name, columns in tables.items():
                self._base.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the tables, and of the memory that they take."""
        self._close()

    def function(self, name: str, make: Callable[[Any], Any]) -> None:
        """Let queries call it, with one value. The same value gives the same answer."""
        with _explained():
            self._base.create_function(name, 1, make, deterministic=True)

    def add(self, table: str, rows: Iterable[tuple[Any, ...]], newest: bool = False) -> int:
        """Add rows as they come; a key that is repeated keeps what was said of it last. Returns how many came.

        newest: it keeps the row whose `modified` is the latest; of two with the same, the one that came first.
        Several threads may add at once.
        """
        with _explained(), self._lock:
            names = [item[0] for item in self._base.execute(f"SELECT * FROM {table} LIMIT 0").description]
        values = f"INTO {table} VALUES ({', '.join('?' * len(names))})"
        statement = f"INSERT OR REPLACE {values}"
        if newest:
            kept = ", ".join(f"{name} = excluded.{name}" for name in names)
            later = f"WHERE excluded.modified > {table}.modified"
            statement = f"INSERT {values} ON CONFLICT (key) DO UPDATE SET {kept} {later}"
        return self._many(statement, rows)

    def drop(self, table: str, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Remove the rows whose columns `names` are those of one of `rows`, which may be millions."""
        statement = f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in names)}"
        self._many(statement, rows)

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
        """Run it once for each row; returns for how many."""
        count, several = 0, iter(rows)
        while batch := list(itertools.islice(several, self._batch)):
            with _explained(), self._lock:
                self._base.execute("BEGIN")
                self._base.executemany(statement, batch)
                self._base.execute("COMMIT")
            count += len(batch)
        return count

    def add_listing(self, table: str, entries: Iterable[Listed]) -> int:
        """Add the lines of an objects backup's listing, as `live` or as `point`."""

        def columns(entry: Listed) -> tuple[Any, ...]:
            modified = entry.modified.timestamp() if entry.modified else 0.0
            row = (text(entry.key), entry.size, entry.etag, entry.sha256 or "", modified)
            if table == "live":
                return row
            return (*row, entry.vault_version, entry.vault_etag, entry.properties, entry.headers, entry.tags)

        return self.add(table, map(columns, entries))

    def add_held(self, versions: Iterable[Version]) -> None:
        """Fill `held` with what the vault has."""
        rows = (
            (text(version.key), version.version, version.size, version.etag, version.modified.timestamp())
            for version in versions
            if not version.deleted
        )
        self.add("held", rows)

    def add_unlisted(self, vault: Bucket, condition: str) -> None:
        """Ask the vault for those versions of `point` that it does not list, before they are called lost: MinIO lists
        no `a/b` once there is `a`, and gives it all the same. `condition`: in SQL, on a row p of `point`.

        Of more than ASKED some at random are asked for, and all of them if one of these is there.
        """
        source = f"SELECT p.key, p.version FROM point p WHERE {condition} AND {UNHELD}"
        count = int(self.value(f"SELECT count(*) FROM ({source})"))
        limit = ASKED
        while True:
            rows = list(self.each(f"{source} ORDER BY random() LIMIT {limit}"))
            found = [row for row in (_row_of_vault(vault, *asked) for asked in rows) if row]
            self.add("held", found)
            if not found or count <= limit:
                return
            limit = count

    def count(self, table: str) -> int:
        return int(self.value(f"SELECT count(*) FROM {table}"))

    def value(self, sql: str, *values: Any) -> Any:
        with _explained(), self._lock:
            return self._base.execute(sql, values).fetchone()[0]

    def each(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, as they are asked for."""
        with _explained(), self._lock:
            cursor = self._base.execute(sql, values)
        while True:
            with _explained(), self._lock:
                batch = cursor.fetchmany(self._batch)
            if not batch:
                return
            yield from batch

    def change(self, sql: str, *values: Any) -> int:
        """Run a statement that changes rows; returns how many."""
        with _explained(), self._lock:
            return self._base.execute(sql, values).rowcount

    def counted(self, source: str, *values: Any, shown: int = 20, order: str = "key") -> tuple[int, list[str]]:
        """Return how many keys there are in `source` (what follows FROM), and the first few."""
        total = int(self.value(f"SELECT count(DISTINCT key) FROM {source}", *values))
        first = f"SELECT DISTINCT key FROM {source} ORDER BY {order} LIMIT {shown}"
        return total, [str(row[0]) for row in self.each(first, *values)] if total else []

    def summary(self, source: str) -> str:
        """Return how many keys are in `source` and the first of them as text; nothing where there are none."""
        count, keys = self.counted(source, shown=SHOWN)
        rest = f" and {count - len(keys)} more" if count > len(keys) else ""
        return f"{count} ({', '.join(map(printable, keys))}{rest})" if count else ""

    def entries(self, source: str, *values: Any) -> Iterator[Listed]:
        """Yield the point's listing lines whose rows are in `source` (what follows FROM), in the order of their
        keys."""
        columns = "key, size, etag, sha256, modified, version, vault_etag, properties, headers, tags"
        for key, size, etag, sha256, modified, *rest in self.each(
            f"SELECT {columns} FROM {source} ORDER BY key", *values
        ):
            at = datetime.fromtimestamp(modified, timezone.utc)
            version, vault_etag, properties, headers, tags = rest
            yield Listed(key, size, etag, at, "", version, vault_etag, sha256 or None, properties, headers, tags)


def _row_of_vault(vault: Bucket, key: str, version: str) -> Optional[tuple[str, str, int, str, float]]:
    """Return the version's row for the table `held`; None where the server does not say that it is there."""
    try:
        head = vault.ask("HEAD", key, {"versionId": version}, attempted="look for the version")
    except LifeboatError:
        return None
    if head.version != version:
        return None
    return key, version, head.size, head.etag, head.modified.timestamp()


def _close(base: sqlite3.Connection, lock: threading.Lock) -> None:
    """When no statement runs: after Ctrl-C threads may still be at work, and to close it under one of them is the end
    of the process (SIGSEGV)."""
    with lock:
        base.close()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        remedy = "Free space in /var/tmp, or set SQLITE_TMPDIR, then try again."
        raise LifeboatError("compare lists of keys", "a temporary SQLite file", str(exc), remedy) from exc
