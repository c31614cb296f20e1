# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What the database knows against what the bucket holds, as tables: each kind of difference, and none missed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, verdict
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config
from object_world import row as as_row

T = datetime(2026, 11, 24, 3, 0, 0, tzinfo=timezone.utc)
OLD, PAST, JUST, EDGE, LATER = ((T + timedelta(seconds=n)).isoformat() for n in (-3600, -301, -10, -2, 60))
HASH, OTHER = "ab" * 32, "cd" * 32


class Server:
    """A database of what a test says."""

    database = "shop"

    def __init__(self, rows: list[Any], keyed: bool = True) -> None:
        self.rows = rows
        self.keyed = keyed
        self.sql = ""

    def stream(self, sql: str, take: Any, *, database: str, attempted: str) -> None:
        self.sql = sql
        for row in self.rows:
            take(as_row(row, self.keyed))


def thing(key: str, size: int = 5, sha256: str = "", modified: str = OLD) -> Listed:
    return Listed(key, size, "e", parse_time(modified), sha256=sha256 or None)


def found(rows: list[Any], objects: list[Listed], point: Optional[list[Listed]] = None) -> reconcile.Report:
    with Inventory() as inventory:
        reconcile.read_rows(inventory, Server(rows), "shop", "SELECT key FROM f;")  # type: ignore[arg-type]
        inventory.add_listing("live", objects)
        inventory.add_listing("point", point or [])
        return reconcile.compare(inventory, T)


NAMES = ("rows_without_objects", "objects_without_rows", "mismatches", "newer", "unsure", "young", "in_flight")
# (what, rows, objects, the point or None, {group: keys}, verdict)
CASES: list[tuple[str, list[Any], list[Any], Optional[list[Any]], dict[str, list[str]], str]] = [
    ("nothing at all", [], [], None, {}, PASS),
    ("all is well", [["a", 5, HASH, OLD]], [thing("a", 5, HASH)], None, {}, PASS),
    ("a key alone is enough", [["a"]], [thing("a")], None, {}, PASS),
    ("a row that names no object", [[None, 5]], [], None, {}, PASS),
    ("two rows of one object", [["a", 5], ["a", 5, HASH]], [thing("a", 5, HASH)], None, {}, PASS),
    ("object missing", [["a", 5], ["b"]], [thing("a")], None, {"rows_without_objects": ["b"]}, FAIL),
    ("object missing, dated", [["b", 5, None, OLD]], [], None, {"rows_without_objects": ["b"]}, FAIL),
    ("row newer than the bucket", [["b", 5, None, LATER]], [], None, {"newer": ["b"]}, PASS),
    ("row of the very instant", [["b", 5, None, EDGE]], [], None, {"newer": ["b"]}, PASS),
    ("row written just before", [["b", 5, None, JUST]], [], None, {"young": ["b"]}, COULD_NOT_VERIFY),
    ("row updated just before", [["a", 6, None, JUST]], [thing("a")], None, {"young": ["a"]}, COULD_NOT_VERIFY),
    ("row older than the grace", [["b", 5, None, PAST]], [], None, {"rows_without_objects": ["b"]}, FAIL),
    ("case matters", [["A"]], [thing("a")], None, {"rows_without_objects": ["A"], "objects_without_rows": ["a"]}, FAIL),
    ("row missing", [], [thing("a")], None, {"objects_without_rows": ["a"]}, PASS),
    ("row not written yet", [], [thing("a", modified=JUST)], None, {"in_flight": ["a"]}, PASS),
    ("another size", [["a", 6]], [thing("a")], None, {"mismatches": ["a"]}, FAIL),
    ("another hash", [["a", 5, OTHER]], [thing("a", 5, HASH)], None, {"mismatches": ["a"]}, FAIL),
    ("a hash that is none", [["a", 5, "n/a"]], [thing("a", 5, HASH)], None, {"mismatches": ["a"]}, FAIL),
    ("one of two rows is wrong", [["a", 5], ["a", 6]], [thing("a")], None, {"mismatches": ["a"]}, FAIL),
    ("bytea, capitals, padding", [["a", 5, "\\x" + HASH.upper() + " "]], [thing("a", 5, HASH)], None, {}, PASS),
    ("size as numeric", [["a", 5.0]], [thing("a")], None, {}, PASS),
    ("row updated after the point", [["a", 6, None, LATER]], [thing("a")], None, {"newer": ["a"]}, PASS),
    # with the point's own listing: what it does not name, no recovery to it can bring back
    ("lost in recovery", [["a"]], [], [thing("a")], {"rows_without_objects": ["a"]}, FAIL),
    ("lost in recovery, dated just before", [["a", 5, None, JUST]], [], [thing("a")], {"rows_without_objects": ["a"]}, FAIL),
    ("lost in recovery, dated later", [["a", 5, None, LATER]], [], [thing("a")], {"rows_without_objects": ["a"]}, FAIL),
    ("undated row, unknown to the point", [["b"]], [thing("a")], [thing("a")], {"unsure": ["b"], "objects_without_rows": ["a"]}, COULD_NOT_VERIFY),
    ("dated row, unknown to the point", [["b", 5, None, OLD]], [], [thing("a")], {"rows_without_objects": ["b"]}, FAIL),
    ("undated row, object as in the point", [["a", 6]], [thing("a")], [thing("a")], {"unsure": ["a"]}, COULD_NOT_VERIFY),
    ("undated row, object not as in the point", [["a", 6]], [thing("a", 7)], [thing("a")], {"mismatches": ["a"]}, FAIL),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "objects", "point", "groups", "result"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_every_difference(
    rows: list[Any], objects: list[Any], point: Optional[list[Any]], groups: dict[str, list[str]], result: str
) -> None:
    report = found(rows, objects, point)
    assert {name: list(getattr(report, name).examples) for name in NAMES if getattr(report, name).count} == groups
    assert verdict(report.checks()) == result
    assert report.clean is not bool(set(groups) - {"in_flight"})
    shown = report.as_dict()
    assert shown["verdict"] == result
    assert {name: shown[name]["examples"] for name in groups} == groups


def test_counts_are_whole_and_examples_few() -> None:
    report = found([[f"k{n:03d}"] for n in range(100)], [])
    assert (report.rows_without_objects.count, len(report.rows_without_objects.examples)) == (100, 20)
    words = report.checks()[0].detail
    assert words.startswith("100 rows have no object: k000, k001")
    assert words.endswith("k007 and 92 more")


def test_a_hostile_key_forges_no_line() -> None:
    key = "a\nPASS  all rows have their object\x1b[2J"
    report = found([[key]], [])
    assert report.rows_without_objects.examples == (key,), "as it is, for who reads the result"
    assert all(check.detail.isprintable() for check in report.checks())


def test_what_was_compared_is_counted_and_nothing_else_claimed() -> None:
    rows = [["a", 5], ["b", None, HASH], ["c", 5, HASH]]
    report = found(rows, [thing("a"), thing("b"), thing("c", 5, HASH)])
    assert (report.sizes, report.hashes) == (2, 1)
    assert [check.detail for check in report.checks()] == [
        "all 3 rows have their object",
        "2 sizes and 1 hashes compared",
        "none",
    ]
    assert [check.name for check in found([["a"]], [thing("a")]).checks()] == [
        "rows without objects",
        "objects without rows",
    ]


WRONG = [[5], ["k", "5"], ["k", 1e300], ["k", 5, 7], ["k", 5, None, 7]]


@pytest.mark.parametrize("row", WRONG, ids=str)
def test_a_column_of_a_wrong_type_is_said_without_its_content(row: list[Any]) -> None:
    with pytest.raises(UsageError, match="a column has a wrong type"):
        found([row], [])


def test_a_query_without_a_key_is_said() -> None:
    with Inventory() as inventory, pytest.raises(UsageError, match="keys_query has no column `key`"):
        reconcile.read_rows(inventory, Server([[None]], keyed=False), "shop", "SELECT 1")  # type: ignore[arg-type]


def test_the_query_may_end_in_a_comment_and_cannot_write() -> None:
    server = Server([])
    with Inventory() as inventory:
        reconcile.read_rows(inventory, server, "shop", "SELECT key FROM f -- all of them ;")  # type: ignore[arg-type]
    assert server.sql.startswith("BEGIN READ ONLY;\n")
    assert "\nSELECT key FROM f -- all of them \n) AS q" in server.sql


QUERY = {"service": "objects", "bucket": "uploads", "keys_query": "SELECT key FROM f"}
VAULT = {"objects_bucket": "copy"}


def test_the_stacks_own_database_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: "runtime")
    monkeypatch.setattr(database_server, "connect", lambda config, stack: Server([["a"], ["b"]]))
    config = make_config(tmp_path, objects=QUERY, vault=VAULT)
    report = reconcile.database_with(Opened(config), [thing("a")])
    assert report.rows_without_objects.examples == ("b",)
    assert (datetime.now(timezone.utc) - report.at).total_seconds() < 60


FAILURES = [
    (UnverifiedError("x", "y", "no image"), "Could not x (y): no image."),
    (LifeboatError("x", "y", "the server is down"), "the server is down"),
]


def test_a_bucket_that_is_looked_at_while_the_database_is_asked_gets_all_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets are recovered side by side: rows that are still on their way would be taken for none."""
    began, go_on = threading.Event(), threading.Event()
    asked: list[str] = []

    class Slow(Server):
        def stream(self, sql: str, take: Any, **_: Any) -> None:
            asked.append(sql)
            began.set()
            go_on.wait(20)
            super().stream(sql, take, database="shop", attempted="")

    rows = [["a"], ["x", None, None, None, "docs"], ["y", None, None, None, "docs"]]
    monkeypatch.setattr(database_server, "connect", lambda config, stack: Slow(rows))
    monkeypatch.setattr(runtime, "connect", lambda config: "runtime")
    run = Opened(make_config(tmp_path, objects={**QUERY, "buckets": ["docs"]}, vault=VAULT))

    def known(bucket: str) -> list[str]:
        here = (
            run
            if bucket == "uploads"
            else run.with_config(
                replace(run.config, objects=replace(run.config.objects, bucket=bucket)),
                {buckets._Whole: run.once(buckets._Whole)},
            )
        )
        with Inventory() as inventory:
            reconcile.read_known(here, inventory)
            return sorted(key for (key,) in inventory.each("SELECT key FROM rows"))

    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(known, "uploads")
        assert began.wait(20)
        other = pool.submit(known, "docs")
        time.sleep(0.1)
        go_on.set()
        assert (own.result(), other.result(), len(asked)) == (["a"], ["x", "y"], 1)


@pytest.mark.parametrize(("error", "words"), FAILURES)
def test_what_was_not_reconciled_is_not_verified(tmp_path: Path, error: LifeboatError, words: str) -> None:
    def work() -> reconcile.Report:
        raise error

    config = make_config(tmp_path, objects=QUERY, vault=VAULT)
    checks, report = reconcile.checked(config, work)
    assert ([check.result for check in checks], [check.detail for check in checks], report) == (
        [COULD_NOT_VERIFY],
        [words],
        None,
    )
    checks, report = reconcile.checked(make_config(tmp_path), work)
    assert (checks[0].result, checks[0].detail) == (COULD_NOT_VERIFY, "lifeboat_objects.keys_query is not set")
    checks, report = reconcile.checked(config, lambda: found([["a"]], []))
    assert (checks[0].result, report is not None) == (FAIL, True)
