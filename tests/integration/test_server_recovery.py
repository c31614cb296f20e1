# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server with several databases: what is damaged comes back, what lives on is untouched, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.database import aside
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.checksums import measure
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDetails, DatabaseDump
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import Stack, docker, entries, say

LATIN1 = "Bücher; \"x\" 'y'"
EMPTY = "empty"
ROWS = "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 500) n;"


@pytest.fixture
def settings(stack: Stack, tmp_path: Path) -> Iterator[config.Config]:
    """A server with the application's database, one in LATIN1 and an empty one, all in one backup."""
    stack.psql("CREATE ROLE owner_of_books;")
    stack.psql("CREATE DATABASE shop;")
    stack.psql(ROWS, "shop")
    quoted = LATIN1.replace('"', '""')
    latin1 = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    stack.psql(f'CREATE DATABASE "{quoted}" OWNER owner_of_books {latin1};')
    stack.psql(f"SET client_encoding = 'UTF8'; {ROWS} INSERT INTO t VALUES (501, 'é');", LATIN1)
    stack.psql(f"CREATE DATABASE {EMPTY};")
    yield stack.config(tmp_path, database={"name": "shop", "format": "custom"})
    for left in Path(tmp_path, "state").glob("others_*"):
        pytest.fail(f"{left} was left")


def back_up(settings: config.Config, *, others: bool = True) -> str:
    """One backup of every database; or one as there were before a backup was the server's."""
    taken = dump.take(Opened(settings), log=say)
    manifest = entries(settings)[-1].manifest
    assert manifest
    details = manifest.detailed(DatabaseDetails)
    if others and details.others is None:
        with_others(settings, manifest, details)
    if not others and details.others is not None:
        root = Path(settings.repository["path"]) / "postgresql" / taken.id
        shutil.rmtree(root / "databases")
        own = tuple(item for item in manifest.artefacts if not item.name.startswith("databases/"))
        rewrite(root, replace(manifest, artefacts=own, details={**manifest.details, "others": None}))
    return taken.id


def rewrite(root: Path, manifest: Manifest) -> None:
    root.chmod(0o700)
    (root / "manifest.json").chmod(0o600)
    (root / "manifest.json").write_bytes(manifest.to_bytes())


def with_others(settings: config.Config, manifest: Manifest, details: DatabaseDetails) -> None:
    """By hand, as the dump will."""
    root = Path(settings.repository["path"]) / "postgresql" / manifest.id
    root.chmod(0o700)
    run = Opened(settings)
    server = dump.database_server.of(run)
    dumps, artefacts = [], list(manifest.artefacts)
    for number, living in enumerate(item for item in server.living() if item.name != "shop"):
        folder = f"databases/{number + 1:03d}"
        (root / folder).mkdir(parents=True)
        found = aside._dump(settings, server, living.name, root / folder)
        artefacts += [
            measure(root / folder / name, f"{folder}/{name}") for name in ("database.dump", "fingerprint.json")
        ]
        taken_at = manifest.taken_at.isoformat()
        dumps.append(DatabaseDump(living.name, folder, taken_at, 1000, fingerprint=found.summary))
    told: Any = plain(replace(details, others=tuple(dumps)))
    rewrite(root, replace(manifest, artefacts=tuple(artefacts), details=told))


def recover(settings: config.Config, **asked: Any) -> tuple[Plan, Any, database_recovery.Recovered]:
    """The phases of a recovery as the role orders them."""
    made = database_plan.make(Opened(settings), log=say, **asked)
    print("\n".join(database_plan.text(made)))
    assert made.needed
    protected = database_protect.protect(Opened(settings), made, log=say)
    done = database_recovery.restore_database(
        Opened(settings), str(made.backup["id"]), fresh=protected.fresh, stamp=made.stamp, databases=protected.replaced,
        copied=protected.copied, asked="", log=say,
    )  # fmt: skip
    reopen.reopen(Opened(settings), made.writers, log=say)
    return made, protected, done


def actions(made: Plan) -> dict[str, str]:
    return {item.name: item.action for item in made.databases}


def rows(stack: Stack, database: str) -> list[str]:
    return stack.psql("SELECT count(*) FROM t;", database)


def passed(done: database_recovery.Recovered) -> None:
    bad = [f"{check.result} {check.name}: {check.detail}" for check in done.checks if check.result != checks.PASS]
    assert not bad, bad
    names = [check.name for check in done.checks]
    assert len(names) == len(set(names)), f"a check was made twice: {names}"


def test_only_what_is_damaged_is_replaced(stack: Stack, settings: config.Config) -> None:
    back_up(settings)
    quoted = LATIN1.replace('"', '""')
    stack.psql("INSERT INTO t VALUES (1000, 'written after the backup');", "shop")
    stack.psql(f'DROP DATABASE "{quoted}";')
    made, _protected, done = recover(settings)
    assert made.findings == (f"the database {LATIN1} is missing",)
    assert actions(made) == {"shop": "untouched", LATIN1: "restored", EMPTY: "untouched", "postgres": "untouched"}
    assert {item.name: item.action for item in done.databases} == actions(made)
    passed(done)
    assert "tables of " + LATIN1 in [check.name for check in done.checks]
    assert (rows(stack, "shop"), rows(stack, LATIN1)) == (["501"], ["501"])
    assert stack.psql("SET client_encoding = 'UTF8'; SELECT b FROM t WHERE a = 501;", LATIN1) == ["é"]
    assert not database_plan.make(Opened(settings), log=say).needed, "a second run has nothing to do"


def test_a_named_database_is_the_only_one(stack: Stack, settings: config.Config) -> None:
    identity = back_up(settings)
    stack.psql("DELETE FROM t WHERE a > 10;", LATIN1)
    stack.psql("INSERT INTO t VALUES (1000, 'written after the backup');", "shop")
    stack.psql(f"DROP DATABASE {EMPTY};")
    asked = {"identity": identity, "database": LATIN1}
    made, _protected, done = recover(settings, **asked)
    assert actions(made) == {"shop": "untouched", LATIN1: "restored", EMPTY: "untouched", "postgres": "untouched"}
    assert (rows(stack, "shop"), rows(stack, LATIN1)) == (["501"], ["501"])
    assert rows(stack, done.quarantined_database) == ["10"], "the old one is kept"
    assert not database_plan.make(Opened(settings), log=say, **asked).needed
    with pytest.raises(NotFoundError, match=r"\(books\): db_backup_\w+ holds shop, .*postgres"):
        database_plan.make(Opened(settings), log=say, database="books")
    assert database_plan.make(Opened(settings), log=say, identity=identity).replaced == ("shop", EMPTY)


def test_a_rebuild_brings_every_database_back(stack: Stack, settings: config.Config) -> None:
    back_up(settings)
    size = "/var/lib/postgresql/data/global/pg_control"
    docker("exec", stack.container, "truncate", "-s", "0", size)
    docker("kill", stack.container)
    made, protected, done = recover(settings)
    try:
        assert (made.mode, protected.mode, protected.fresh) == ("start", "rebuild", True)
        assert database_plan.UNKNOWN_OTHERS in made.unchecked
        assert protected.databases[-1].name == "any other"
        assert {item.name: item.action for item in done.databases} == dict.fromkeys(
            ("shop", LATIN1, EMPTY, "postgres"), "restored"
        )
        passed(done)
        assert (rows(stack, "shop"), rows(stack, LATIN1)) == (["500"], ["501"])
        assert not database_plan.make(Opened(settings), log=say).needed
    finally:
        forget(protected.quarantine)


def test_what_the_backup_does_not_hold_is_asked_for_and_copied(stack: Stack, settings: config.Config) -> None:
    back_up(settings, others=False)
    asked: dict[str, Any] = {"method": "rebuild", "force": True}
    with pytest.raises(UsageError, match=r"the backup does not hold them.*-e others=restore") as raised:
        database_plan.make(Opened(settings), log=say, **asked)
    assert (LATIN1 in str(raised.value), EMPTY in str(raised.value), "postgres" in raised.value.subject) == (
        True, True, False,
    )  # fmt: skip
    stack.psql("CREATE ROLE newcomer;")
    stack.psql("CREATE TABLE of_newcomer (); ALTER TABLE of_newcomer OWNER TO newcomer;", LATIN1)
    made, protected, done = recover(settings, **asked, others="restore")
    try:
        assert actions(made) == {"shop": "restored", LATIN1: "copied", EMPTY: "copied", "postgres": "untouched"}
        passed(done)
        assert {item.name: item.action for item in done.databases} == {
            "shop": "restored",
            LATIN1: "copied",
            EMPTY: "copied",
        }
        assert (rows(stack, "shop"), rows(stack, LATIN1)) == (["500"], ["501"])
        assert stack.psql("SELECT tableowner FROM pg_tables WHERE tablename = 'of_newcomer';", LATIN1) == ["newcomer"]
        assert stack.psql("SELECT 1;", EMPTY) == ["1"]
    finally:
        forget(protected.quarantine)


def test_what_the_backup_does_not_hold_may_stay_aside(stack: Stack, settings: config.Config) -> None:
    back_up(settings, others=False)
    made, protected, done = recover(settings, method="rebuild", force=True, others="aside")
    try:
        assert actions(made) == {
            "shop": "restored",
            LATIN1: "quarantined",
            EMPTY: "quarantined",
            "postgres": "untouched",
        }
        assert [item.name for item in protected.databases] == [LATIN1, EMPTY]
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
    dumps = {item.name: item.folder for item in manifest.detailed(DatabaseDetails).dumps("")}
    root = Path(settings.repository["path"]) / "postgresql" / identity
    books, empty = (root / dumps[name] / "database.dump" for name in (LATIN1, EMPTY))
    books.write_bytes(b"PGDMP" + b"\0" * 100)
    empty.write_bytes(b"x" * empty.stat().st_size)
    whole = measure(books, f"{dumps[LATIN1]}/database.dump")
    rewrite(root, replace(manifest, artefacts=tuple(whole if a.name == whole.name else a for a in manifest.artefacts)))
    docker("exec", stack.container, "truncate", "-s", "0", "/var/lib/postgresql/data/global/pg_control")
    docker("kill", stack.container)
    made, protected, done = recover(settings)
    try:
        assert f"{EMPTY} cannot be restored" in " ".join(made.warnings)
        assert {item.name: item.action for item in done.databases} == {
            "shop": "restored", "postgres": "restored", LATIN1: "failed", EMPTY: "failed",
        }  # fmt: skip
        assert rows(stack, "shop") == ["500"]
        bad = {check.name for check in done.checks if check.result != checks.PASS}
        assert bad == {f"restore of {LATIN1}", f"checksums of {EMPTY}"}
        assert checks.verdict(done.checks) == checks.FAIL
    finally:
        forget(protected.quarantine)


def forget(quarantine: str) -> None:
    """Remove the volume of the data that was put aside."""
    assert "_quarantine_" in quarantine, quarantine
    docker("volume", "rm", Path(quarantine).parent.name)
