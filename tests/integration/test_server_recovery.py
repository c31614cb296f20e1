# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server with several databases: what is damaged comes back, what lives on is untouched, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import postgres_stack
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.text import named
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database.protect import ProtectedDatabase
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import answers, identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import quarantine
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.checksums import measure
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import Stack, docker, entries, say

LATIN1, SHOWN = "b\udcfccher; \"x\" 'y'", "b\\xfccher; \"x\" 'y'"
EMPTY = "empty"
ROWS = "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 500) n;"
CONTROL = "/var/lib/postgresql/data/global/pg_control"


@pytest.fixture
def settings(stack: Stack, tmp_path: Path) -> Iterator[config.Config]:
    """A server with the application's database, one in LATIN1 with any bytes in its name, and an empty one."""
    made = stack.config(tmp_path, database={"name": "shop", "format": "custom"})
    stack.psql("CREATE ROLE owner_of_books;")
    stack.psql("CREATE DATABASE shop;")
    stack.psql(ROWS, "shop")
    latin1 = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    stack.psql(f"CREATE DATABASE books OWNER owner_of_books {latin1};")
    stack.psql(f"SET client_encoding = 'UTF8'; {ROWS} INSERT INTO t VALUES (501, 'é');", "books")
    stack.psql(f"CREATE DATABASE {EMPTY};")
    stack.server(made).alter(
        f"ALTER DATABASE books RENAME TO {identifier(LATIN1)};", attempted="give it a name of any bytes"
    )
    yield made
    server = stack.server(made)
    for name in answers(str, server.execute("SELECT to_json(datname) FROM pg_database;", attempted="list")):
        if not name.isascii():
            database_server.drop(server, name, force=True)
    assert not list(Path(tmp_path, "state").glob("others_*")), "a copy was left"


def back_up(settings: config.Config, *, others: bool = True) -> str:
    """One backup of every database; or one as there were before a backup was the server's."""
    taken = dump.take(Opened(settings), log=say)
    manifest = entries(settings)[-1].manifest
    assert manifest
    if not others:
        root = Path(settings.backup_directory) / "postgresql" / taken.id
        shutil.rmtree(root / "databases")
        own = tuple(item for item in manifest.artefacts if not item.name.startswith("databases/"))
        rewrite(root, replace(manifest, artefacts=own, details={**manifest.details, "others": None}))
    return taken.id


def rewrite(root: Path, manifest: Manifest) -> None:
    root.chmod(0o700)
    (root / "manifest.json").chmod(0o600)
    (root / "manifest.json").write_bytes(manifest.to_bytes())


def recover(settings: config.Config, **asked: Any) -> tuple[Plan, ProtectedDatabase, database_recovery.Recovered]:
    made, protected, done = postgres_stack.recover(settings, **asked)
    reopen.reopen(Opened(settings), made.writers, log=say)
    return made, protected, done


def actions(made: Plan) -> dict[str, str]:
    return {item.name: item.action for item in made.databases}


def ask(stack: Stack, settings: config.Config, database: str, sql: str) -> list[object]:
    return stack.server(settings).execute(
        f"SELECT to_json(x) FROM ({sql}) AS q(x);", database=database, attempted="ask"
    )


def rows(stack: Stack, settings: config.Config, database: str) -> list[object]:
    return ask(stack, settings, database, "SELECT count(*) FROM public.t")


def passed(done: database_recovery.Recovered) -> None:
    bad = [f"{check.result} {check.name}: {check.detail}" for check in done.checks if check.result != checks.PASS]
    assert not bad, bad
    names = [check.name for check in done.checks]
    assert len(names) == len(set(names)), f"a check was made twice: {names}"


def test_only_what_is_damaged_is_replaced(stack: Stack, settings: config.Config) -> None:
    back_up(settings)
    stack.psql("INSERT INTO t VALUES (1000, 'written after the backup');", "shop")
    database_server.drop(stack.server(settings), LATIN1)
    made, _protected, done = recover(settings)
    assert made.findings == (f"the database {SHOWN} is missing",)
    assert actions(made) == {"shop": "untouched", SHOWN: "restored", EMPTY: "untouched", "postgres": "untouched"}
    assert {item.name: item.action for item in done.databases} == actions(made)
    passed(done)
    assert f"tables of {SHOWN}" in [check.name for check in done.checks]
    assert (rows(stack, settings, "shop"), rows(stack, settings, LATIN1)) == ([501], [501])
    assert ask(stack, settings, LATIN1, "SELECT b FROM public.t WHERE a = 501") == ["\udce9"], "as LATIN1 stores it"
    assert not database_plan.make(Opened(settings), log=say).needed, "a second run has nothing to do"


def test_a_named_database_is_the_only_one(stack: Stack, settings: config.Config) -> None:
    identity = back_up(settings)
    stack.server(settings).execute("DELETE FROM public.t WHERE a > 10;", database=LATIN1, attempted="lose rows")
    stack.psql("INSERT INTO t VALUES (1000, 'written after the backup');", "shop")
    stack.psql(f"DROP DATABASE {EMPTY};")
    asked = {"identity": identity, "database": SHOWN}
    made, _protected, done = recover(settings, **asked)
    assert actions(made) == {"shop": "untouched", SHOWN: "restored", EMPTY: "untouched", "postgres": "untouched"}
    assert (rows(stack, settings, "shop"), rows(stack, settings, LATIN1)) == ([501], [501])
    there = answers(str, stack.server(settings).execute("SELECT to_json(datname) FROM pg_database;", attempted="list"))
    (kept,) = [name for name in there if "_quarantine_" in name]
    assert (rows(stack, settings, kept), done.quarantined_database) == ([10], named(kept))
    assert not database_plan.make(Opened(settings), database_plan.Request(**asked), log=say).needed
    with pytest.raises(NotFoundError, match=r"\(books\): db_backup_\w+ holds shop, .*postgres"):
        database_plan.make(Opened(settings), database_plan.Request(database="books"), log=say)
    assert database_plan.make(Opened(settings), database_plan.Request(identity=identity), log=say).replaced == (
        "shop",
        EMPTY,
    )


def test_collations_that_cannot_be_refreshed_end_no_recovery(stack: Stack, settings: config.Config) -> None:
    """A data directory that moved from an image whose C library has versions to one that has none, as Alpine's."""
    identity = back_up(settings)
    moved = "UPDATE pg_database SET datcollversion = '2.36' WHERE datcollate = 'C' AND NOT datistemplate;"
    stack.psql(moved)
    stack.psql("INSERT INTO t VALUES (1000, 'written after the backup');", "shop")
    made, _protected, done = recover(settings, identity=identity)
    assert (actions(made)[SHOWN], rows(stack, settings, "shop"), done.reindexed) == ("untouched", [500], ())
    passed(done)
    assert not (settings.state / "closed.json").exists()


def test_a_name_like_those_that_lifeboat_gives_makes_no_database_its_own(stack: Stack, settings: config.Config) -> None:
    """Somebody's copy of a database is in the backup, and no recovery drops it."""
    names = ["shop_restore_20240101_120000", "shop_quarantine_20240101_120000", "lifeboat_any_bytes", "lifeboat_verify"]
    for name in names:
        stack.psql(f"CREATE DATABASE {name};")
        stack.psql("CREATE TABLE t AS SELECT 7 AS a;", name)
    identity = back_up(settings)
    manifest = entries(settings)[-1].manifest
    assert manifest
    assert set(names) <= {dump.name for dump in manifest.detailed(DumpDetails).databases}
    made, _protected, done = recover(settings, identity=identity)
    assert {name: actions(made)[name] for name in names} == dict.fromkeys(names, "untouched")
    assert [stack.psql("SELECT a FROM t;", name) for name in names] == [["7"]] * 4
    # What the recovery put aside is known: it is in no backup, and listed with the command that removes it.
    back_up(settings)
    manifest = entries(settings)[-1].manifest
    assert manifest
    kept = done.quarantined_database
    assert kept and kept not in {dump.name for dump in manifest.detailed(DumpDetails).databases}
    now = datetime.now(timezone.utc)
    seen = quarantine.survey(Opened(settings), now=now).items
    assert [item.name for item in seen if item.kind == "database"] == [kept]
    quarantine.remove(Opened(settings), "database", kept, sure=True, now=now, log=say)
    assert not list((settings.state / "made").iterdir())


def test_what_cannot_be_opened_may_stay_aside(stack: Stack, settings: config.Config) -> None:
    """A database that cannot be copied is no reason against a rebuild that leaves it in the old data directory."""
    back_up(settings, others=False)
    stack.psql(f"ALTER DATABASE {EMPTY} ALLOW_CONNECTIONS false;")
    asked: dict[str, Any] = {"method": "rebuild", "force": True}
    with pytest.raises(UsageError, match=r"the backup does not hold them.*-e others=restore"):
        database_plan.make(Opened(settings), database_plan.Request(**asked), log=say)
    with pytest.raises(LifeboatError, match=rf"{EMPTY}.*-e others=aside"):
        database_plan.make(Opened(settings), database_plan.Request(**asked, others="restore"), log=say)
    made = database_plan.make(Opened(settings), database_plan.Request(**asked, others="aside"), log=say)
    assert actions(made) == {"shop": "restored", SHOWN: "quarantined", EMPTY: "quarantined", "postgres": "untouched"}


def test_a_rebuild_brings_every_database_back(stack: Stack, settings: config.Config) -> None:
    back_up(settings)
    docker("exec", stack.container, "truncate", "-s", "0", CONTROL)
    docker("kill", stack.container)
    made, protected, done = recover(settings)
    try:
        assert (made.mode, protected.mode, protected.fresh) == ("start", "rebuild", True)
        assert database_plan.UNKNOWN_OTHERS in made.unchecked
        assert protected.databases[-1].name == "any other"
        assert {item.name: item.action for item in done.databases} == dict.fromkeys(
            ("shop", SHOWN, EMPTY, "postgres"), "restored"
        )
        passed(done)
        assert (rows(stack, settings, "shop"), rows(stack, settings, LATIN1)) == ([500], [501])
        assert not database_plan.make(Opened(settings), log=say).needed
    finally:
        forget(protected.quarantine)


def test_what_the_backup_does_not_hold_is_asked_for_and_copied(stack: Stack, settings: config.Config) -> None:
    back_up(settings, others=False)
    asked: dict[str, Any] = {"method": "rebuild", "force": True}
    with pytest.raises(UsageError, match=r"the backup does not hold them.*-e others=restore") as raised:
        database_plan.make(Opened(settings), database_plan.Request(**asked), log=say)
    assert (SHOWN in str(raised.value), EMPTY in str(raised.value), "postgres" in raised.value.subject) == (
        True, True, False,
    )  # fmt: skip
    stack.psql("CREATE ROLE newcomer;")
    sql = "CREATE TABLE public.of_newcomer (); ALTER TABLE public.of_newcomer OWNER TO newcomer;"
    stack.server(settings).execute(sql, database=LATIN1, attempted="make something")
    made, protected, done = recover(settings, **asked, others="restore")
    try:
        assert actions(made) == {"shop": "restored", SHOWN: "copied", EMPTY: "copied", "postgres": "untouched"}
        passed(done)
        assert {item.name: item.action for item in done.databases} == {
            "shop": "restored",
            SHOWN: "copied",
            EMPTY: "copied",
        }
        assert (rows(stack, settings, "shop"), rows(stack, settings, LATIN1)) == ([500], [501])
        sql = "SELECT tableowner FROM pg_tables WHERE tablename = 'of_newcomer'"
        assert ask(stack, settings, LATIN1, sql) == ["newcomer"]
        assert stack.psql("SELECT 1;", EMPTY) == ["1"]
    finally:
        forget(protected.quarantine)


@pytest.mark.parametrize("moment", ["the server is a fresh one", "the application is back"])
def test_what_a_killed_recovery_copied_comes_back_with_the_next(
    stack: Stack, settings: config.Config, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    back_up(settings, others=False)
    made = database_plan.make(
        Opened(settings), database_plan.Request(method="rebuild", force=True, others="restore"), log=say
    )
    protected = database_protect.protect(Opened(settings), made, log=say)
    try:
        if moment == "the application is back":
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(database_recovery.aside, "bring_back", lambda *_: os.kill(os.getpid(), signal.SIGINT))
                with logins.opened_afterwards(Opened(settings), log=say):
                    database_recovery.restore_database(
                        Opened(settings), str(made.backup["id"]), fresh=True, stamp=made.stamp,
                        wanted=database_recovery.Wanted((), protected.copied), log=say,
                    )  # fmt: skip
        time.sleep(1)  # another stamp
        made, protected2, recovered = recover(settings)
        assert (made.mode, protected2.fresh, protected2.copied) == ("fill", True, protected.copied)
        passed(recovered)
        outcomes = {item.name: item.action for item in recovered.databases}
        assert (outcomes[SHOWN], outcomes[EMPTY]) == ("copied", "copied")
        assert (rows(stack, settings, "shop"), rows(stack, settings, LATIN1)) == ([500], [501])
        assert stack.psql("SELECT 1;", EMPTY) == ["1"]
    finally:
        forget(protected.quarantine)


def test_what_the_backup_does_not_hold_may_stay_aside(stack: Stack, settings: config.Config) -> None:
    back_up(settings, others=False)
    made, protected, done = recover(settings, method="rebuild", force=True, others="aside")
    try:
        assert actions(made) == {
            "shop": "restored",
            SHOWN: "quarantined",
            EMPTY: "quarantined",
            "postgres": "untouched",
        }
        assert [item.name for item in protected.databases] == [SHOWN, EMPTY]
        passed(done)
        left = stack.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1;", "template1")
        assert left == ["postgres", "shop"]
    finally:
        forget(protected.quarantine)


def test_a_broken_dump_of_another_database_stops_nothing(stack: Stack, settings: config.Config) -> None:
    """Its bytes are right, and it cannot be restored; or they are not right at all."""
    identity = back_up(settings)
    manifest = entries(settings)[-1].manifest
    assert manifest
    dumps = {item.name: item.folder for item in manifest.detailed(DumpDetails).databases}
    root = Path(settings.backup_directory) / "postgresql" / identity
    books, empty = (root / dumps[name] / "database.dump" for name in (LATIN1, EMPTY))
    books.write_bytes(b"PGDMP" + b"\0" * 100)
    empty.write_bytes(b"x" * empty.stat().st_size)
    whole = measure(books, f"{dumps[LATIN1]}/database.dump")
    rewrite(root, replace(manifest, artefacts=tuple(whole if a.name == whole.name else a for a in manifest.artefacts)))
    docker("exec", stack.container, "truncate", "-s", "0", CONTROL)
    docker("kill", stack.container)
    made, protected, done = recover(settings)
    try:
        assert f"{EMPTY} cannot be restored" in " ".join(made.warnings)
        assert {item.name: item.action for item in done.databases} == {
            "shop": "restored", "postgres": "restored", SHOWN: "failed", EMPTY: "failed",
        }  # fmt: skip
        assert rows(stack, settings, "shop") == [500]
        bad = {check.name: check.result for check in done.checks if check.result != checks.PASS}
        assert bad == {
            f"restore of {SHOWN}": checks.FAIL,  # pg_restore cannot read a byte of it
            f"checksums of {EMPTY}": checks.FAIL,
            "publications": checks.COULD_NOT_VERIFY,  # of those that did not come back nothing is known
            "extension libraries": checks.COULD_NOT_VERIFY,
        }
        assert checks.verdict(done.checks) == checks.FAIL
    finally:
        forget(protected.quarantine)


def test_a_spoiled_database_spoils_the_backup_for_no_other(stack: Stack, settings: config.Config) -> None:
    """The newest backup has every byte that was written, and one of its dumps cannot be restored."""
    older, newer = back_up(settings), back_up(settings)
    manifest = entries(settings)[-1].manifest
    assert manifest and manifest.id == newer
    books = next(dump.folder for dump in manifest.detailed(DumpDetails).additional if dump.name == LATIN1)
    path = Path(settings.backup_directory) / "postgresql" / newer / books / "database.dump"
    path.parent.chmod(0o700)
    path.chmod(0o600)
    path.write_bytes(b"PGDMP" + b"\0" * 100)
    whole = measure(path, f"{books}/database.dump")
    changed = tuple(whole if one.name == whole.name else one for one in manifest.artefacts)
    rewrite(path.parents[2], replace(manifest, artefacts=changed))
    found = operations_verify.verify(Opened(settings), newer, "restore", log=say)
    assert found.verdict == checks.FAIL
    assert {name: result for name, (result, _why) in found.databases.items()} == {
        "shop": checks.PASS, "postgres": checks.PASS, EMPTY: checks.PASS, LATIN1: checks.FAIL,
    }  # fmt: skip
    assert list(entries(settings)[-1].spoiled) == [LATIN1]
    stack.psql("DROP TABLE t;", "shop")
    made, _protected, done = recover(settings)
    assert (made.backup["id"], made.replaced) == (newer, ("shop",))
    passed(done)
    stack.server(settings).alter(f"DROP DATABASE {identifier(LATIN1)};", attempted="lose it")
    made, _protected, done = recover(settings)
    assert (made.backup["id"], made.replaced) == (older, (SHOWN,))
    assert rows(stack, settings, LATIN1) == [501]
    passed(done)


def forget(quarantine: str) -> None:
    """Remove the volume of the data that was put aside."""
    assert "_quarantine_" in quarantine, quarantine
    docker("volume", "rm", Path(quarantine).parent.name)
