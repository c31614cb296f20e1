# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that name files, held against a stack's files: each kind of difference, and what is not compared is said."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, verdict
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.files import references
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist, preflight, status
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as configuration
from builders import Run
from test_files import World as FilesWorld

QUERY = "SELECT 'uploads' AS source, path, bytes AS size FROM app.files"
LONG_AGO = "2026-01-01T00:00:00+00:00"
ONE = hashlib.sha256(b"one\n").hexdigest()
# What a row says, as the query returns it: path, size, sha256, at, source.
Row = tuple[Any, ...]


class Database:
    """Answers the query with rows."""

    database = "shop"

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.sql: list[str] = []
        self.error: Optional[LifeboatError] = None
        self.named = True

    def stream(self, sql: str, take: Callable[[object], None], *, database: str, attempted: str) -> None:
        self.sql.append(sql)
        if self.error:
            raise self.error
        for row in self.rows:
            path, size, sha256, at, source = (*row, *[None] * 5)[:5]
            take([path, size, sha256, at, self.named, source])


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database()
    monkeypatch.setattr(database_server, "of", lambda _run: found)
    return found


@pytest.fixture
def world(tmp_path: Path) -> FilesWorld:
    one = FilesWorld(tmp_path, exclude=["cache"])
    one.settings["files"]["references"] = QUERY
    (one.root / "a").mkdir()
    (one.root / "a" / "one.txt").write_text("one\n")
    (one.root / "two.bin").write_bytes(b"12345")
    (one.root / "link").symlink_to("two.bin")
    (one.root / "cache").mkdir()
    (one.root / "cache" / "page").write_text("x")
    for path in (one.root / "a" / "one.txt", one.root / "two.bin"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    os.utime(one.root / "link", (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return one


def found(world: FilesWorld) -> dict[str, tuple[str, str]]:
    return {check.name: (check.result, check.detail) for check in references.checks(world.run)}


WHOLE = [("a/one.txt", 4, None, LONG_AGO, "uploads"), ("uploads/two.bin", 5), ("link", None, None, None, "uploads")]
CASES: list[tuple[str, list[Row], dict[str, str], str]] = [
    ("all is well", WHOLE, {"rows without files": "all 3 rows have their file", "files without rows": "none"}, PASS),
    ("a slash before the path", [("/a/one.txt", 4, None, None, "uploads")], {"rows without files": "all 1 rows"}, PASS),
    ("a row that names no file", [(None, 5)], {"rows without files": "all 0 rows have their file"}, PASS),
    ("a directory that a row names", [("uploads/a",)], {"rows without files": "all 1 rows have their file"}, PASS),
    (
        "files without rows are told, and are no loss", [("uploads/two.bin",)],
        {"files without rows": "2 of 3, kept: uploads/a/one.txt, uploads/link"}, PASS,
    ),
    ("a file is missing", [("uploads/b",)], {"rows without files": "1 rows have no file: uploads/b"}, FAIL),
    (
        "a row that is newer than what was looked at", [("b", 1, None, "2099-01-01T00:00:00+00:00", "uploads")],
        {"rows without files": "their files are lost: uploads/b"}, PASS,
    ),
    ("another size", [("uploads/two.bin", 6)], {"rows and files agree": "1 files are not what their row says"}, FAIL),
    (
        "out of its source", [("../../etc/passwd", 1, None, None, "uploads")],
        {"rows of other directories": "1 rows name .."}, COULD_NOT_VERIFY,
    ),
    (
        "another directory", [("media/a.jpg",), ("b.jpg", 1, None, None, "media")],
        {"rows of other directories": "2 rows name media: lifeboat_files has no source of that name"}, COULD_NOT_VERIFY,
    ),
    (
        "an excluded file", [("uploads/cache/page",)],
        {"rows of excluded files": "rows name files that lifeboat_files excludes: uploads/cache/page"},
        COULD_NOT_VERIFY,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words", "result"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)  # fmt: skip
def test_every_difference(
    world: FilesWorld, database: Database, rows: list[Row], words: dict[str, str], result: str
) -> None:
    database.rows = rows
    checks = found(world)
    for name, text in words.items():
        assert text in checks[name][1], checks
    assert verdict(references.checks(world.run)) == result
    assert "READ ONLY" in database.sql[0] and QUERY in database.sql[0]


def test_a_hash_is_compared_where_a_listing_knows_it(world: FilesWorld, database: Database) -> None:
    """Nothing is read again for it: a file with the size and time of the newest listing has that one's hash."""
    database.rows = [("uploads/a/one.txt", 4, ONE), ("uploads/two.bin", 5, "\\x" + "0" * 64)]
    assert found(world)["rows and files agree"] == (PASS, "2 sizes and 0 hashes compared"), "there is no backup yet"
    world.take()
    result, words = found(world)["rows and files agree"]
    assert (result, words) == (FAIL, "1 files are not what their row says: uploads/two.bin")
    (world.root / "two.bin").write_bytes(b"54321")
    assert found(world)["rows and files agree"] == (PASS, "2 sizes and 1 hashes compared"), (
        "changed: nobody knows its hash"
    )


def test_the_copy_of_a_database_has_another_hash_than_the_file(world: FilesWorld, database: Database) -> None:
    with sqlite3.connect(world.root / "rows.db") as rows:
        rows.execute("CREATE TABLE t (n INTEGER)")
    rows.close()
    world.take()
    digest = hashlib.sha256((world.root / "rows.db").read_bytes()).hexdigest()
    database.rows = [("uploads/rows.db", None, digest), ("uploads/a/one.txt", None, ONE)]
    assert found(world)["rows and files agree"] == (PASS, "0 sizes and 1 hashes compared")


def test_without_a_query_nothing_is_said(world: FilesWorld, database: Database) -> None:
    del world.settings["files"]["references"]
    assert references.checks(world.run) == []
    assert database.sql == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnverifiedError("ask", "db", "it does not answer", "Start it."), "it does not answer"),
        (LifeboatError("ask", "db", "no such table", "Correct it."), "no such table. Correct it."),
    ],
)
def test_a_database_that_cannot_be_asked_is_no_green(
    world: FilesWorld, database: Database, error: LifeboatError, words: str
) -> None:
    database.error = error
    ((name, (result, detail)),) = found(world).items()
    assert (name, result, words in detail) == ("rows and files", COULD_NOT_VERIFY, True)


def test_a_query_without_its_column_says_what_to_write(world: FilesWorld, database: Database) -> None:
    database.rows, database.named = [("uploads/x",)], False
    (detail,) = (detail for _result, detail in found(world).values())
    assert detail == (
        "references has no column `path`. Name it: SELECT 'uploads' AS source, path, bytes AS size FROM app.files."
    )
    assert reconcile.query_problem(world.run, reconcile.FILE_COLUMNS) == detail
    database.rows, database.named = [(7,)], True
    assert "path is text, size a number of bytes" in reconcile.query_problem(world.run, reconcile.FILE_COLUMNS)
    assert " LIMIT 1" in database.sql[-1]


def test_a_source_that_is_gone_is_no_green(world: FilesWorld, database: Database) -> None:
    database.rows = [("uploads/two.bin",)]
    world.root.rename(world.root.with_name("elsewhere"))
    assert [result for result, _detail in found(world).values()] == [COULD_NOT_VERIFY]


def test_a_directory_that_cannot_be_read_is_said(
    world: FilesWorld, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.rows = [("uploads/two.bin",)]
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda at: denied() if len(real(at)) == 1 else real(at))
    assert found(world)["rows and files"] == (COULD_NOT_VERIFY, "1 could not be read: uploads/a: Permission denied")


def denied() -> list[str]:
    raise PermissionError(13, "Permission denied")


def test_after_a_recovery_the_rows_of_before_have_their_files(world: FilesWorld, database: Database) -> None:
    taken = world.take()
    earlier, later = (format_time(taken.taken_at + timedelta(hours=hours)) for hours in (-1, 1))
    (world.root / "a" / "one.txt").unlink()
    database.rows = [("uploads/a/one.txt", 4, ONE, earlier), ("uploads/new.txt", 1, None, later)]
    done = world.recover()
    by_name = {check.name: (check.result, check.detail) for check in done.checks}
    assert by_name["rows without files"] == (
        PASS, f"1 rows were written after {format_time(taken.taken_at)[:19]}"
        + by_name["rows without files"][1].partition(format_time(taken.taken_at)[:19])[2],
    )  # fmt: skip
    assert "their files are lost: uploads/new.txt" in by_name["rows without files"][1]
    assert by_name["rows and files agree"][1] == "1 sizes and 1 hashes compared"
    database.rows.append(("uploads/never.txt", 1, None, earlier))
    (world.root / "a" / "one.txt").unlink()
    again = world.recover()
    assert verdict(again.checks) == FAIL
    assert "1 rows have no file: uploads/never.txt" in str(again.checks)


def test_a_recovery_of_one_path_is_held_against_its_rows_alone(world: FilesWorld, database: Database) -> None:
    world.take()
    (world.root / "a" / "one.txt").unlink()
    (world.root / "two.bin").unlink()
    database.rows = [("uploads/a/one.txt", 4), ("uploads/two.bin", 5)]
    done = world.recover(paths=("uploads/a",))
    words = {check.name: check.detail for check in done.checks}
    assert (verdict(done.checks), words["rows without files"]) == (PASS, "all 1 rows have their file")


def test_an_undated_row_that_the_backup_does_not_know_is_nobodys_to_judge(
    world: FilesWorld, database: Database
) -> None:
    world.take()
    (world.root / "two.bin").unlink()
    database.rows = [("uploads/two.bin", 5), ("uploads/maybe.txt",)]
    checks = {check.name: (check.result, check.detail) for check in world.recover().checks}
    result, words = checks["rows without files"]
    assert result == COULD_NOT_VERIFY
    assert "a column `at` in references would tell: uploads/maybe.txt" in words


def test_names_that_are_no_utf8_and_hostile_paths_forge_nothing(world: FilesWorld, database: Database) -> None:
    Path(os.fsdecode(os.fsencode(world.root) + b"/no-utf8-\xff")).write_text("x")
    os.utime(os.fsencode(world.root) + b"/no-utf8-\xff", (1, 1))
    database.rows = [("uploads/a\nPASS  all is well\x1b[2J",)]
    checks = references.checks(world.run)
    assert all(check.detail.isprintable() for check in checks)
    assert verdict(checks) == FAIL
    assert "no-utf8-" in checks[-1].detail


def test_a_hundred_thousand_rows_take_bounded_time(world: FilesWorld, database: Database) -> None:
    database.rows = [(f"uploads/{number}",) for number in range(100_000)]
    began = time.monotonic()
    result, words = found(world)["rows without files"]
    assert (result, words.startswith("100000 rows have no file: uploads/0, ")) == (FAIL, True)
    assert time.monotonic() - began < 60


# --- where it is looked at ---


def test_status_the_weekly_list_and_deploy_ask_it(world: FilesWorld, database: Database) -> None:
    database.rows = [("uploads/gone.txt", 1, None, LONG_AGO)]
    world.settings["environment"] = "drill"
    seen = status.status(world.run, now=datetime.now(timezone.utc))
    (check,) = (check for check in seen.checks if check.name == "rows without files")
    assert (check.result, check.detail) == (FAIL, "1 rows have no file: uploads/gone.txt")
    weekly = checklist.work_through(world.run, "weekly", now=datetime.now(timezone.utc))
    assert [line.result for line in weekly.lines if line.name == "rows without files"] == [FAIL]
    daily = checklist.work_through(world.run, "daily", now=datetime.now(timezone.utc))
    assert [line for line in daily.lines if "rows" in line.name] == []


def test_deploy_refuses_a_query_that_is_wrong(
    world: FilesWorld, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_database_problem", lambda _run: "")
    assert preflight.unreachable(world.run, stack=True) == []
    database.rows, database.named = [("uploads/x",)], False
    monkeypatch.setattr(preflight, "_PAUSE", 0)
    (told,) = preflight.unreachable(world.run, stack=True)
    assert told.startswith("lifeboat_files.references: references has no column `path`. Name it: ")


def test_the_playbook_reconcile_compares_files_alone_where_there_is_no_bucket(
    world: FilesWorld, database: Database, run: Run
) -> None:
    database.rows = [("uploads/a/one.txt", 4), ("uploads/gone.txt", 1, None, LONG_AGO)]
    said = run("objects_reconcile", settings=world.settings)
    assert (said["failed"], said["verdict"]) == (False, FAIL)
    assert "FAIL             rows without files: 1 rows have no file: uploads/gone.txt" in said["text"]
    database.rows.pop()
    assert run("objects_reconcile", settings=world.settings)["verdict"] == PASS
    del world.settings["files"]["references"]
    assert run("objects_reconcile", settings=world.settings)["verdict"] == COULD_NOT_VERIFY, "no query at all"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": {"references": QUERY}}, "there is no source in which the files of its rows could be"),
        (
            {"database": False, "files": {"sources": [{"name": "u", "path": "/u"}], "references": QUERY}},
            "lifeboat_database",
        ),
    ],
)
def test_a_query_that_could_name_nothing_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        configuration.from_mapping({"stack": "shop", "runtime": {"project": "shop"}, **changes})
