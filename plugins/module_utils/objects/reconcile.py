# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold the keys that the database knows against the objects there are: rows without objects, objects without rows.

What the database knows is what `lifeboat_objects.keys_query` returns: `key`, and where known `size`, `sha256` and `at`,
when the row was written. A column `bucket` says which bucket of the store a row is of; without it, or where it is NULL,
that is the application's. Only keys are ever reported, never what else stands in a row.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Optional

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, SHOWN, Check, verdict
from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, UnverifiedError, UsageError, present
from ..base.text import named
from ..base.typed import shown
from ..database import search_path
from ..database import server as database_server
from ..database.server import Server
from ..mirror import store
from ..s3.bucket import Listed
from ..s3.inventory import UNKNOWN, Inventory
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened

GRACE = 300  # seconds before the instant in which an application may be between the object and its row
EDGE = 5  # seconds before it which are the instant itself: S3 tells whole seconds, and two clocks differ
EXAMPLES = 20
_QUERY = "lifeboat_objects.keys_query"
_LARGEST = 1 << 53
_NONE = type(None)
_Known = tuple[str, int, str, Optional[float]]  # key, size, sha256, when it was written
_GROUPS = ("rows_without_objects", "objects_without_rows", "mismatches", "newer", "unsure", "young", "in_flight")

# A row without an object may be newer than the bucket is; of an undated one the point's own listing tells.
_WITHOUT = "rows r WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.key = r.key)"
_IN_POINT = "EXISTS (SELECT 1 FROM point p WHERE p.key = r.key)"
_DIFFERS = (
    "rows r JOIN live l USING (key) WHERE ((r.size <> -1 AND l.size <> r.size)"
    " OR (r.sha256 <> '' AND l.sha256 <> '' AND l.sha256 <> r.sha256))"
)
_AS_IN_POINT = "EXISTS (SELECT 1 FROM point p WHERE p.key = l.key AND p.size = l.size)"


@dataclass(frozen=True)
class Columns:
    """What an operator's query calls what its rows refer to. variable: the setting that has the query. key: the column
    that names it; location: the one that says in which bucket, or which directory, it is. things: what it is."""

    variable: str
    key: str
    location: str
    things: str
    example: str


OBJECTS = Columns(_QUERY, "key", "bucket", "objects", "SELECT path AS key, bytes AS size FROM app.files.")
FILE_COLUMNS = Columns(
    "lifeboat_files.references", "path", "source", "files",
    "SELECT 'uploads' AS source, path, bytes AS size FROM app.files.",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Keys that share a fate: how many, and the first of them."""

    count: int = 0
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        rest = self.count - min(SHOWN, len(self.examples))
        return ", ".join(map(named, self.examples[:SHOWN])) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class Report:
    """What one reconciliation found. at: the instant that the objects are of.

    newer: rows written after it, whose objects (or versions of them) it cannot have. unsure: rows that the query does
    not date, and that may be such. young: rows so young then that their object may not have been there yet;
    in_flight: objects so young that their row may not have been.
    """

    at: datetime
    rows: int
    objects: int
    sizes: int
    hashes: int
    rows_without_objects: Group = Group()
    objects_without_rows: Group = Group()
    mismatches: Group = Group()
    newer: Group = Group()
    unsure: Group = Group()
    young: Group = Group()
    in_flight: Group = Group()

    @property
    def clean(self) -> bool:
        """Every row has its object and every object its row, as far as could be seen."""
        return not any(getattr(self, name).count for name in _GROUPS if name != "in_flight")

    def as_dict(self) -> dict[str, object]:
        found = {name: typed.plain(value) for name, value in vars(self).items()}
        return {**found, "clean": self.clean, "verdict": verdict(self.checks())}

    def checks(self, columns: Columns = OBJECTS) -> list[Check]:
        """An object that no row knows is no loss: it is told and passes. A row without its object is one.

        columns: of the query that named them; they may be files.
        """
        things, one = columns.things, columns.things[:-1]
        missing, newer, unsure, young = self.rows_without_objects, self.newer, self.unsure, self.young
        after = f"{newer.count} rows were written after {format_time(self.at)}, their {things} are lost: {newer.text}"
        undated = (
            f"{unsure.count} rows point to what the recovery point does not have: written after it, or wrong before;"
            f" a column `at` in {columns.variable.rpartition('.')[2]} would tell: {unsure.text}"
        )
        making = (
            f"{young.count} rows whose {one} is missing or another were written within {GRACE} s before"
            f" {format_time(self.at)}: in the making then, or wrong; reconcile later to see which: {young.text}"
        )
        said = [f"{missing.count} rows have no {one}: {missing.text}"] if missing.count else []
        said += [undated] if unsure.count else []
        said += [making] if young.count else []
        said += [after] if newer.count else []
        result = FAIL if missing.count else COULD_NOT_VERIFY if unsure.count or young.count else PASS
        whole = f"all {self.rows} rows have their {one}"
        found = [Check(f"rows without {things}", result, "; ".join(said) or whole)]
        if self.sizes or self.hashes:
            compared = f"{self.sizes} sizes and {self.hashes} hashes compared"
            wrong = f"{self.mismatches.count} {things} are not what their row says: {self.mismatches.text}"
            bad = self.mismatches.count
            found.append(Check(f"rows and {things} agree", FAIL if bad else PASS, wrong if bad else compared))
        orphans = self.objects_without_rows
        kept = f"{orphans.count} of {self.objects}, kept: {orphans.text}" if orphans.count else "none"
        written = f"; {self.in_flight.count} were just being written" if self.in_flight.count else ""
        return [*found, Check(f"{things} without rows", PASS, kept + written)]


def unconfigured() -> Check:
    return Check("rows and objects", COULD_NOT_VERIFY, "lifeboat_objects.keys_query is not set")


def read_rows(
    inventory: Inventory,
    server: Server,
    database: str,
    query: str,
    primary: str = "",
    additional: Optional[Inventory] = None,
    limit: int = 0,
    columns: Columns = OBJECTS,
) -> int:
    """Read what the database knows into the table `rows`, in a transaction that cannot write. Returns the count.

    primary: the application's bucket. additional: takes into its table `known` what is of other buckets. limit: rows to
    read at most; 0: all. columns: what the query calls them.
    """
    kept: list[_Known] = []
    besides: list[tuple[object, ...]] = []

    def flush() -> None:
        inventory.add("rows", kept)
        kept.clear()
        if additional:
            additional.add("known", besides)
        besides.clear()

    def take(row: object) -> None:
        if not isinstance(row, list):
            raise database_server.wrong_answer("", f"wants a list, has {shown(row)}")
        if row[4] and row[0] is not None:  # a row that names no object has none to miss
            known = _row(columns, *row[:4])
            if row[5] in (None, "", primary):
                kept.append(known)
            else:
                besides.append((_location(columns, row[5]), *known))
        elif not row[4]:
            raise UsageError(
                "read the keys that the database knows", f"database {database}",
                f"{columns.variable.rpartition('.')[2]} has no column `{columns.key}`", f"Name it: {columns.example}",
            )  # fmt: skip
        if len(kept) + len(besides) >= 5000:
            flush()

    plain, some = query.strip().rstrip(";"), f" LIMIT {limit}" if limit else ""
    try:
        server.stream(
            f"{search_path.BEGIN}"
            f"SELECT json_build_array(j->'{columns.key}', j->'size', j->'sha256', j->'at', j ? '{columns.key}',"
            f" j->'{columns.location}')"
            f" FROM (SELECT to_jsonb(q) AS j FROM (\n{plain}\n) AS q{some}) AS r;\nCOMMIT;",
            take,
            database=database,
            attempted=f"read the keys that the database knows ({columns.variable})",
        )
    except LifeboatError as exc:
        raise search_path.explained(server, database, columns.variable, exc) from exc
    flush()
    return inventory.count("rows")


def query_problem(run: Opened, columns: Columns = OBJECTS) -> str:
    """What is wrong with the query of these columns: its SQL, its columns, the type of its first row. Empty where the
    database cannot be asked."""
    of_files = columns is FILE_COLUMNS
    query = run.config.files.references if of_files else run.config.objects.keys_query
    bucket = "" if of_files else run.config.objects.bucket
    try:
        server = database_server.of(run)
        with Inventory() as unused:
            read_rows(unused, server, server.database, query, bucket, limit=1, columns=columns)
    except UsageError as exc:
        return problem_of(exc)
    except LifeboatError as exc:
        return problem_of(exc) if exc.sqlstate[:2] == search_path.WRONG_SQL else ""
    return ""


class _AdditionalRows:
    """What the database knew of the store's other buckets when it was last asked. why: it could not be."""

    def __init__(self, run: Opened) -> None:
        del run
        self._rows: Optional[Inventory] = None  # replaced and not emptied: some may still be read
        self._asking = threading.RLock()  # buckets are looked at side by side
        self._why: Optional[LifeboatError] = None

    def ask(self, run: Opened, inventory: Inventory) -> int:
        """Ask again: what is of the application's bucket goes into the inventory."""
        columns = "bucket TEXT, key TEXT, size INT, sha256 TEXT, at REAL, PRIMARY KEY (bucket, key, size, sha256)"
        with self._asking:
            self._rows, self._why, objects = Inventory({"known": columns}), None, run.config.objects
            try:
                server = database_server.of(run)
                return read_rows(inventory, server, server.database, objects.keys_query, objects.bucket, self._rows)
            except LifeboatError as exc:
                self._why = exc
                raise

    def known(self, run: Opened) -> Inventory:
        """As of when the application's bucket was last read: a query for each of a thousand would be too much."""
        with self._asking:
            if not self._rows:
                with Inventory() as unused:
                    self.ask(run, unused)
            if self._why:
                raise self._why
            return present(self._rows)


def read_known(run: Opened, inventory: Inventory) -> int:
    """What the stack's own database knows of the bucket, as read_rows()."""
    whole, bucket = buckets.whole(run), run.config.objects.bucket
    others = whole.once(_AdditionalRows)
    if bucket == whole.config.objects.bucket:
        return others.ask(whole, inventory)
    columns = "key, size, sha256, at"
    return inventory.add("rows", others.known(whole).each(f"SELECT {columns} FROM known WHERE bucket = ?", bucket))


def of_others(run: Opened) -> dict[str, int]:
    """The store's other buckets that rows name, and how many do."""
    whole = buckets.whole(run)
    if not whole.config.objects.keys_query:
        return {}
    rows = whole.once(_AdditionalRows).known(whole)
    return dict(rows.each("SELECT bucket, count(*) FROM known GROUP BY bucket ORDER BY bucket"))


def names(run: Opened, bucket: str) -> bool:
    """Do rows name this one of the store's other buckets? No, where the database cannot be asked; its check says so."""
    with contextlib.suppress(LifeboatError):
        return bucket in of_others(run)
    return False


def _row(columns: Columns, key: object, size: object, sha256: object, at: object) -> _Known:
    """One row as the inventory has it. A bytea comes as `\\x…`, char(64) may be padded."""
    sized = size is None or (isinstance(size, (int, float)) and abs(size) < _LARGEST)
    if isinstance(key, str) and sized and isinstance(sha256, (str, _NONE)) and isinstance(at, (str, _NONE)):
        digest = re.sub(r"^\\x", "", (sha256 or "").strip()).lower()
        when = parse_time(at).timestamp() if at else None
        return key, int(size) if isinstance(size, (int, float)) else UNKNOWN, digest, when
    raise _wrong_type(columns)


def _location(columns: Columns, name: object) -> str:
    if isinstance(name, str):
        return name
    raise _wrong_type(columns)


def _wrong_type(columns: Columns) -> UsageError:
    return UsageError(
        "read the keys that the database knows", columns.variable, "a column has a wrong type",
        f"{columns.key} is text, size a number of bytes, sha256 text or bytea, at a time, {columns.location} text.",
    )  # fmt: skip


def compare(inventory: Inventory, at: datetime) -> Report:
    """Hold the tables `rows` and `live` against each other; `point`, where filled, is what the bucket should hold."""
    edge, grace = at.timestamp() - EDGE, at.timestamp() - GRACE
    pointed = inventory.count("point") > 0
    known = _IN_POINT if pointed else "0"
    late = f"coalesce(r.at, 0) > {edge!r}"
    young = f"coalesce(r.at, 0) > {grace!r} AND NOT {late}"
    undated = f"(r.at IS NULL AND {int(pointed)})"

    def group(*sources: str) -> Group:
        found = [inventory.counted(source, shown=EXAMPLES) for source in sources]
        examples = [key for _count, some in found for key in some]
        return Group(sum(count for count, _keys in found), tuple(examples[:EXAMPLES]))

    # What the point has cannot be missing for its youth.
    missing, wrong = f"{_WITHOUT} AND NOT {known}", _DIFFERS
    settled = f"NOT coalesce(r.at, 0) > {grace!r}"
    orphans = "live l WHERE NOT EXISTS (SELECT 1 FROM rows r WHERE r.key = l.key)"
    compared = "SELECT count(*) FROM rows r JOIN live l USING (key) WHERE"
    return Report(
        at=at,
        rows=inventory.count("rows"),
        objects=inventory.count("live"),
        sizes=int(inventory.value(f"{compared} r.size <> -1")),
        hashes=int(inventory.value(f"{compared} r.sha256 <> '' AND l.sha256 <> ''")),
        rows_without_objects=group(f"{_WITHOUT} AND ({known} OR ({settled} AND NOT {undated}))"),
        objects_without_rows=group(f"{orphans} AND l.modified <= {grace!r}"),
        mismatches=group(f"{wrong} AND {settled} AND NOT ({undated} AND {_AS_IN_POINT})"),
        newer=group(f"{missing} AND {late}", f"{wrong} AND {late}"),
        unsure=group(
            f"{missing} AND {settled} AND {undated}", f"{wrong} AND {settled} AND {undated} AND {_AS_IN_POINT}"
        ),
        young=group(f"{missing} AND {young}", f"{wrong} AND {young}"),
        in_flight=group(f"{orphans} AND l.modified > {grace!r}"),
    )


def database_with(run: Opened, objects: Iterable[Listed]) -> Report:
    """Reconcile the stack's database with objects given as listing lines."""
    with Inventory() as inventory:
        read_known(run, inventory)
        inventory.add_listing("live", objects)
        return compare(inventory, datetime.now(timezone.utc))


def unprotected(run: Opened) -> list[Check]:
    """Of the rows that name a bucket which no backup is to hold."""
    objects = run.config.objects
    left = {name: count for name, count in of_others(run).items() if not store.is_selected(objects, name)}
    told = "; ".join(f"{count} rows name the bucket {named(name)}" for name, count in list(left.items())[:SHOWN])
    rest = f"; and {len(left) - SHOWN} more buckets" if len(left) > SHOWN else ""
    words = f"{told}{rest}: lifeboat_objects.buckets does not name it, so no backup holds it"
    return [Check("rows of other buckets", COULD_NOT_VERIFY, words)] if left else []


def protected(run: Opened) -> list[str]:
    """The store's other buckets that rows name and backups are to hold."""
    return [name for name in of_others(run) if store.is_selected(run.config.objects, name)]


def checked(config: Config, work: Callable[[], Report]) -> tuple[list[Check], Optional[Report]]:
    """The checks of a reconciliation, or the one that says why none could be made. None of a stack without rows."""
    if not config.database.enabled:
        return [], None
    if not config.objects.keys_query:
        return [unconfigured()], None
    try:
        report = work()
    except UnverifiedError as exc:
        return [Check("rows and objects", COULD_NOT_VERIFY, str(exc))], None
    except LifeboatError as exc:
        return [Check("rows and objects", COULD_NOT_VERIFY, problem_of(exc))], None
    return report.checks(), report


def problem_of(exc: LifeboatError) -> str:
    """Return what went wrong and what to do, as one text."""
    return ". ".join(filter(None, [exc.cause.rstrip("."), exc.remedy]))
