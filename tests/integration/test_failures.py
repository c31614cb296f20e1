# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a table
"""Bad input and bad days: a clear error, a status that is not zero, nothing published, earlier backups as they were."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import DUMP
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status as operations_status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, checksums, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import (
    PASSWORD,
    STACK,
    SUPERUSER,
    Agent,
    Stack,
    back_up_and_prove,
    docker,
    entries,
    on_small_disk,
    recover,
    say,
    store,
)

DATA = "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 500) n;"


@pytest.fixture
def settings(stack: Stack, tmp_path: Path) -> Iterator[config.Config]:
    """A database with one good backup, which must be good afterwards too."""
    stack.psql("CREATE DATABASE shop;")
    stack.psql(DATA, "shop")
    one = stack.config(tmp_path, database={"name": "shop", "format": "custom", "compression": "none"})
    first = dump.take(Opened(one), log=say).id
    yield one
    if (tmp_path / "backup").is_dir():
        assert catalog.entry(store(one), "database", first).good, "an earlier backup was harmed"
        assert operations_verify.verify(Opened(one), first, "checksum", log=say, record=False).verdict == checks.PASS


def leftovers(settings: config.Config) -> list[str]:
    root = Path(settings.backup_directory)
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.name.startswith(".")]


FAILURES: dict[str, tuple[dict[str, Any], dict[str, str], type[LifeboatError], str]] = {
    "wrong database": (
        {"database": {"name": "shop; DROP"}}, {}, NotFoundError, "Could not find the database (shop; DROP): the server has"),
    "wrong role": ({"database": {"user": "nobody"}}, {}, LifeboatError, 'role "nobody" does not exist'),
    "wrong backup role": ({"database": {"backup_user": "nobody"}}, {}, LifeboatError, 'role "nobody" does not exist'),
    "wrong password": (
        {"database": {"host": "db"}}, {"database_password": "wrong"}, LifeboatError, "password authentication failed"),
    "no password": ({"database": {"host": "db"}}, {}, LifeboatError, "no password supplied"),
    "no such host": ({"database": {"host": "nowhere"}}, {}, LifeboatError, 'could not translate host name "nowhere"'),
    "wrong port": ({"database": {"host": "db", "port": 5433}}, {}, LifeboatError, "Connection refused"),
    "wrong service": ({"database": {"service": "dv"}}, {}, NotFoundError, "the project has app, db"),
    "wrong operating system user": ({"database": {"os_user": "nobody-here"}}, {}, LifeboatError, "nobody-here"),
    "wrong project directory": (
        {"runtime": {"project_directory": "/nowhere"}}, {}, NotFoundError, "(/nowhere): there is no such directory"),
    "a directory without a project": ({"runtime": {"project_directory": "/tmp"}}, {}, LifeboatError, "configuration file"),
    "no such repository": ({"repository": {"path": "/nowhere"}}, {}, UsageError, "(/nowhere): there is no such directory"),
    "a service that is no server": ({"database": {"service": "app"}}, {}, LifeboatError, "connection to server on socket"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_wrong_settings_end_in_a_clear_error(stack: Stack, settings: config.Config, tmp_path: Path, case: str) -> None:
    changes, secrets, error, words = FAILURES[case]
    database = {"name": "shop", **changes.get("database", {})}
    wrong = stack.config(tmp_path, **{**changes, "database": database}, secrets=secrets)
    with pytest.raises(error) as raised:
        dump.take(Opened(wrong), log=say)
    assert words in str(raised.value)
    assert "wrong" not in str(raised.value).replace(case, ""), "a password in an error"
    assert len(entries(settings)) == 1
    assert leftovers(settings) == []


def test_the_right_password_of_every_printable_character(stack: Stack, settings: config.Config, tmp_path: Path) -> None:
    """Over TCP, where the server asks for it: what the wrong one above is refused for."""
    database = {"name": "shop", "host": "db"}
    back_up_and_prove(stack.config(tmp_path, database=database, secrets={"database_password": PASSWORD}))
    assert len(entries(settings)) == 2


def test_postgresql_down(stack: Stack, settings: config.Config) -> None:
    docker("stop", stack.container)
    try:
        with pytest.raises(NotFoundError, match=r"its container is exited.*Start it"):
            dump.take(Opened(settings), log=say)
        assert len(entries(settings)) == 1
        assert database_assess.assess(Opened(settings), None).condition == recovery_state.DOWN
    finally:
        stack.compose("up", "--detach", "--wait", "db")
    dump.take(Opened(settings), log=say)
    assert len(entries(settings)) == 2


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_a_dump_that_dies_in_the_middle(stack: Stack, settings: config.Config, tmp_path: Path, form: str) -> None:
    """The seed's case: the dump fails, the compressor does not, and a 20-byte backup is kept."""
    dying = stack.config(tmp_path, database={"name": "shop", "format": form})
    words = ("exec", "-e", f"PGUSER={SUPERUSER}", stack.container, "psql", "-d", "shop", "-c")
    statement = "BEGIN; LOCK t; SELECT pg_sleep(600) -- the blocker"
    blocker = threading.Thread(target=docker, args=(*words, statement), kwargs={"check": False})
    ours = f"application_name = 'lifeboat-{STACK}' AND query LIKE 'LOCK TABLE%'"

    def kill() -> None:
        while stack.psql(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {ours};") == ["0"]:
            time.sleep(0.05)

    blocker.start()
    while stack.psql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted;", "shop") == ["0"]:
        time.sleep(0.05)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        with pytest.raises(LifeboatError, match="terminating connection due to administrator command"):
            dump.take(Opened(dying), log=say)
    finally:
        stack.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%the blocker';")
        killer.join()
        blocker.join()
    assert len(entries(settings)) == 1
    assert leftovers(settings) == []
    assert stack.traces() == []


def test_a_repository_too_full_to_begin(stack: Stack, settings: config.Config, tmp_path: Path) -> None:
    root = tmp_path / "small"
    root.mkdir()
    agent = Agent(root, stack.settings(root, database={"name": "shop"}))
    code, said, _ = agent.run("backup", "database", before=on_small_disk(root, "1m"))
    assert (code, said["error"]["attempted"]) == (SpaceError.exit_code, "start a backup")
    assert "free, about" in said["error"]["cause"]
    assert list((root / "backup").iterdir()) == []
    assert len(entries(settings)) == 1


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_a_disk_that_fills_up_in_the_middle(stack: Stack, tmp_path: Path, form: str) -> None:
    stack.psql("CREATE DATABASE grows;")
    stack.psql(DATA, "grows")
    grow = (
        "CREATE TABLE big AS SELECT (SELECT string_agg(decode(md5(random()::text || n || m), 'hex'), '')"
        " FROM generate_series(1, 500) m) FROM generate_series(1, 1500) n;"
    )
    agent = Agent(tmp_path, stack.settings(tmp_path, database={"name": "grows", "format": form}))
    script = (
        '"$@" >/dev/null || exit 90; docker exec -e PGUSER="$PGUSER" "$C" psql -qd grows -c "$GROW" || exit 91; "$@";'
        ' code=$?; (cd "$1/../backup" 2>/dev/null || cd "${1%/*}/backup"; find . -mindepth 2 -maxdepth 2) >&2; exit $code'
    )
    environment = ["env", f"PGUSER={SUPERUSER}", f"C={stack.container}", f"GROW={grow}"]
    before = [*on_small_disk(tmp_path, "9m"), *environment, "sh", "-c", script, "sh"]
    code, said, err = agent.run("backup", "database", before=before)
    assert code == SpaceError.exit_code, err
    assert said["error"]["attempted"] == "write the backup"
    assert "No space left on device" in said["error"]["cause"]
    there = [line for line in err.splitlines() if line.startswith("./")]
    assert len(there) == 1, "the first backup, and nothing of the second"
    assert there[0].startswith("./postgresql/db_backup_")


def test_a_read_only_repository(stack: Stack, settings: config.Config, tmp_path: Path) -> None:
    root = tmp_path / "locked"
    root.mkdir()
    agent = Agent(root, stack.settings(root, database={"name": "shop"}))
    code, said, _ = agent.run("backup", "database", before=on_small_disk(root, "50m", "ro"))
    assert (code, said["error"]["attempted"]) == (SpaceError.exit_code, "write to the repository")
    assert "Read-only file system" in said["error"]["cause"]
    assert len(entries(settings)) == 1


def test_a_second_run_while_one_holds_the_lock(stack: Stack, settings: config.Config, tmp_path: Path) -> None:
    agent = Agent(tmp_path, stack.settings(tmp_path, database={"name": "shop"}))
    with lock.held(STACK, "a test"):
        code, said, err = agent.run("backup", "database")
    assert code == LockedError.exit_code
    assert "(a test)" in said["error"]["cause"]
    assert "Could not take the lock" in err
    assert len(entries(settings)) == 1
    code, said, _ = agent.run("backup", "database")
    assert code == 0
    assert [entry.id for entry in entries(settings)][1] == said["id"]


def reseal(settings: config.Config, identity: str, **changes: Any) -> None:
    """Edit a manifest as somebody would who knows how it is sealed."""
    path = Path(store(settings).location("database", identity)) / "manifest.json"
    body = json.loads(path.read_bytes())
    for key, value in changes.items():
        body[key] = {**body[key], **value} if isinstance(value, dict) else value
    body.pop("seal")
    path.write_bytes(sealing.render({**body, "seal": sealing.seal(body)}))


def test_a_backup_of_a_newer_major(stack: Stack, settings: config.Config) -> None:
    newest = dump.take(Opened(settings), log=say).id
    reseal(settings, newest, details={"server_version_num": 180001})
    result = operations_verify.verify(Opened(settings), newest, "restore", log=say)
    assert result.verdict == checks.COULD_NOT_VERIFY
    assert "it is of PostgreSQL 18, the image has 17" in result.checks[-1].detail
    with pytest.raises(UsageError, match="it is of PostgreSQL 18, the server is 17"):
        database_plan.make(Opened(settings), database_plan.Request(force=True), log=say)
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]


def test_a_manifest_of_a_newer_schema(settings: config.Config) -> None:
    first = entries(settings)[0].id
    newest = dump.take(Opened(settings), log=say).id
    reseal(settings, newest, version=[2, 0])
    found = entries(settings)[-1]
    assert not found.good
    assert "this Lifeboat reads version 1" in found.problem
    assert operations_verify.verify(Opened(settings), newest, "checksum", log=say).verdict == checks.COULD_NOT_VERIFY
    made = database_plan.make(Opened(settings), database_plan.Request(force=True), log=say)
    assert made.backup["id"] == first, "an older one that can be read is used"
    assert [passed.id for passed in made.passed_over] == [newest], "and the plan says so"
    with pytest.raises(UnverifiedError, match="this Lifeboat reads version 1"):
        database_plan.make(Opened(settings), database_plan.Request(identity=newest), log=say)


def test_bytes_that_match_their_checksums_and_are_wrong(stack: Stack, settings: config.Config) -> None:
    """One row changed in an uncompressed dump and the manifest sealed again: only the fingerprint shows it."""
    newest = entries(settings)[-1]
    assert newest.manifest
    path = Path(store(settings).location("database", newest.id)) / DUMP
    whole = path.read_bytes()
    assert whole.count(b"row 77\n") == 1
    path.write_bytes(whole.replace(b"row 77\n", b"row 76\n"))
    changed = [
        checksums.measure(path, DUMP) if artefact.name == DUMP else artefact for artefact in newest.manifest.artefacts
    ]
    original = Path(store(settings).location("database", newest.id), "manifest.json").read_bytes()
    reseal(settings, newest.id, artefacts=[dataclasses.asdict(artefact) for artefact in changed])
    assert (
        operations_verify.verify(Opened(settings), newest.id, "archive", log=say, record=False).verdict == checks.PASS
    )
    result = operations_verify.verify(Opened(settings), newest.id, "restore", log=say, record=False)
    assert {check.name for check in result.checks if check.result == checks.FAIL} == {"tables"}
    databases = stack.psql("SELECT datname FROM pg_database ORDER BY 1;")
    with pytest.raises(IntegrityError, match=r"public.t has other content.*shop is untouched"):
        database_recovery.restore_database(Opened(settings), newest.id, fresh=False, stamp="20261124_020000", log=say)
    assert stack.psql("SELECT datname FROM pg_database ORDER BY 1;") == databases
    assert stack.psql("SELECT count(*) FROM t WHERE b = 'row 77';", "shop") == ["1"]
    path.write_bytes(whole)
    Path(store(settings).location("database", newest.id), "manifest.json").write_bytes(original)


def changed_row(settings: config.Config, identity: str) -> None:
    """Row 77 becomes another in the uncompressed dump, under a manifest that says so."""
    found = catalog.entry(store(settings), "database", identity)
    assert found.manifest
    folder = Path(store(settings).location("database", identity))
    whole = (folder / DUMP).read_bytes()
    assert whole.count(b"row 77\n") == 1
    (folder / DUMP).write_bytes(whole.replace(b"row 77\n", b"row 76\n"))
    artefacts = tuple(checksums.measure(folder / item.name, item.name) for item in found.manifest.artefacts)
    (folder / "manifest.json").write_bytes(dataclasses.replace(found.manifest, artefacts=artefacts).to_bytes())


def test_a_failed_backup_is_recovered_from_only_where_that_was_accepted(stack: Stack, settings: config.Config) -> None:
    run, failed = Opened(settings), dump.take(Opened(settings), log=say).id
    changed_row(settings, failed)
    assert operations_verify.verify(run, failed, "restore", log=say).verdict == checks.FAIL
    stack.psql("UPDATE t SET b = 'later' WHERE a = 1;", "shop")
    with pytest.raises(
        IntegrityError, match=rf"public\.t has other content.*-e recovery_point={failed} -e accept=failed"
    ):
        database_plan.make(run, database_plan.Request(identity=failed), log=say)
    made = database_plan.make(run, database_plan.Request(identity=failed, accept=True), log=say)
    (why,) = made.accepted
    assert why.startswith("shop: verification at level restore failed (tables: public.t has other content")
    assert f"  ACCEPTED although it failed: {why}" in database_plan.text(made)
    assert stack.psql("SELECT b FROM t WHERE a IN (1, 77) ORDER BY a;", "shop") == ["later", "row 77"]
    stamp = "20261124_020000"
    with pytest.raises(IntegrityError, match="shop is untouched"):
        database_recovery.restore_database(run, failed, fresh=False, stamp=stamp, log=say)
    done = database_recovery.restore_database(run, failed, fresh=False, stamp=stamp, accept=True, log=say)
    assert {check.name for check in done.checks if check.result == checks.FAIL} == {"tables"}
    assert stack.psql("SELECT b FROM t WHERE a IN (1, 77) ORDER BY a;", "shop") == ["row 1", "row 76"]
    assert stack.psql("SELECT b FROM t WHERE a IN (1, 77) ORDER BY a;", done.quarantined_database) == [
        "later",
        "row 77",
    ]
    told = {"scenario": "database", "plan": typed.plain(made), "checks": typed.plain(done.checks)}
    record = evidence_record.build(settings, evidence_record.recovery(told, []), now=datetime.now(timezone.utc))
    assert (record.verdict, record.accepted) == (checks.FAIL, made.accepted)


def test_accepted_bytes_that_no_tool_can_read_leave_the_live_database(stack: Stack, tmp_path: Path) -> None:
    stack.psql("CREATE DATABASE shop;")
    stack.psql(DATA, "shop")
    settings = stack.config(tmp_path, database={"name": "shop", "format": "plain", "compression": "gzip:6"})
    identity = dump.take(Opened(settings), log=say).id
    path = Path(store(settings).location("database", identity)) / f"{identity}.sql.gz"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    assert operations_verify.verify(Opened(settings), identity, "checksum", log=say).verdict == checks.FAIL
    made = database_plan.make(Opened(settings), database_plan.Request(identity=identity, accept=True), log=say)
    assert "another SHA-256" in made.accepted[1]
    before = stack.psql("SELECT datname FROM pg_database ORDER BY 1;")
    with pytest.raises(LifeboatError, match=re.escape(path.name) + "|restore the plain dump"):
        database_recovery.restore_database(
            Opened(settings), identity, fresh=False, stamp="20261124_020000", accept=True, log=say
        )
    assert stack.psql("SELECT datname FROM pg_database ORDER BY 1;") == before
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]


LONG_AGO = datetime(2001, 1, 1, tzinfo=timezone.utc)


def test_nothing_to_recover_from(stack: Stack, settings: config.Config, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"the first is of .*Ask for a later recovery_time"):
        database_plan.make(Opened(settings), database_plan.Request(before=LONG_AGO), log=say)
    with pytest.raises(NotFoundError, match="the repository has db_backup_"):
        database_plan.make(Opened(settings), database_plan.Request(identity="db_backup_20010101_000000"), log=say)
    (tmp_path / "other").mkdir()
    empty = stack.config(tmp_path / "other", database={"name": "shop"})
    with pytest.raises(NotFoundError, match="the repository holds no backup"):
        database_plan.make(Opened(empty), log=say)
    with pytest.raises(UnverifiedError, match="the repository holds no backup"):
        operations_verify.verify(Opened(empty), "latest", "checksum", log=say)


def test_a_healthy_database_is_left_alone_and_a_damaged_one_is_found(stack: Stack, settings: config.Config) -> None:
    made = database_plan.make(Opened(settings), log=say)
    assert (made.needed, made.condition, made.findings) == (False, recovery_state.HEALTHY, ())
    stack.psql("TRUNCATE t;", "shop")
    made = database_plan.make(Opened(settings), log=say)
    assert (made.needed, made.mode) == (True, "swap")
    assert made.findings == ("shop: the table public.t is empty, the backup has 500 rows",)
    stack.psql("DROP TABLE t;", "shop")
    assert database_plan.make(Opened(settings), log=say).findings == ("shop: the table public.t is missing",)
    stack.psql("DROP DATABASE shop;")
    assert database_plan.make(Opened(settings), log=say).findings == ("the database shop is missing",)
    identity = entries(settings)[-1].id
    done = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp="20261124_020000", log=say)
    assert done.quarantined_database == ""
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]
    made = database_plan.make(Opened(settings), database_plan.Request(identity=identity), log=say)
    assert made.needed is False
    assert f"was recovered to {identity}" in made.why


def test_a_restore_that_fails_leaves_the_live_database_and_no_half_made_one(
    stack: Stack, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stack.psql("SELECT datname FROM pg_database ORDER BY 1;")

    def fail(*_: Any, **__: Any) -> None:
        raise LifeboatError("analyse the restored database", "shop", "the disk is full")

    monkeypatch.setattr(database_restore, "analyze", fail)
    with pytest.raises(LifeboatError, match="the disk is full"):
        database_recovery.restore_database(
            Opened(settings), entries(settings)[-1].id, fresh=False, stamp="20261124_020000", log=say
        )
    assert stack.psql("SELECT datname FROM pg_database ORDER BY 1;") == before


def test_a_live_database_in_use_is_swapped_all_the_same(stack: Stack, settings: config.Config) -> None:
    """Sessions that will not go, a transaction that holds locks: the swap ends them."""
    statement = "BEGIN; LOCK t; SELECT pg_sleep(600)"
    words = ("exec", "-e", f"PGUSER={SUPERUSER}", stack.container, "psql", "-d", "shop", "-c", statement)
    user = threading.Thread(target=docker, args=words, kwargs={"check": False})
    user.start()
    while stack.psql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%';") < ["2"]:
        time.sleep(0.05)
    database_recovery.restore_database(
        Opened(settings), entries(settings)[-1].id, fresh=False, stamp="20261124_020000", log=say
    )
    user.join()
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]


def test_a_damaged_page_is_found_in_a_table_that_an_index_could_count(stack: Stack, tmp_path: Path) -> None:
    """After a vacuum count(*) reads the index alone, and not one page of the table."""
    stack.psql("CREATE DATABASE shop;")
    rows = "INSERT INTO t SELECT n, repeat('row', 99) FROM generate_series(1, 20000) n;"
    stack.psql(f"CREATE TABLE t (a int PRIMARY KEY, b text); {rows}", "shop")
    settings = stack.config(tmp_path, database={"name": "shop"})
    dump.take(Opened(settings), log=say)
    stack.psql("VACUUM (FREEZE, ANALYZE) t; CHECKPOINT;", "shop")
    assert "Index Only Scan" in "".join(stack.psql("EXPLAIN SELECT count(*) FROM t;", "shop"))
    (path,) = stack.psql("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('t');", "shop")
    overwrite = f"printf 'not a page header' | dd of='{path}' bs=1 seek=16384 conv=notrunc status=none"
    docker("exec", stack.container, "sh", "-ec", overwrite)
    stack.compose("restart", "db")
    stack.compose("up", "--detach", "--wait", "db")
    made = database_plan.make(Opened(settings), log=say)
    assert made.condition == "damaged", made
    assert re.search(r"t cannot be read: .*invalid page in block 2", made.findings[0])


def test_who_is_no_superuser_backs_up_and_cannot_recover(stack: Stack, tmp_path: Path) -> None:
    """Whatever other rights it has: a recovery runs SQL as roles that only a superuser may make. status says it before."""
    stack.psql("CREATE ROLE keeper LOGIN CREATEDB CREATEROLE IN ROLE pg_read_all_data, pg_monitor, pg_signal_backend;")
    stack.psql("CREATE DATABASE shop OWNER keeper;")
    stack.psql("CREATE TABLE t AS SELECT 1 AS a; ALTER TABLE t OWNER TO keeper;", "shop")
    settings = stack.config(tmp_path, database={"name": "shop", "user": "keeper", "exclude": ["postgres"]})
    taken = dump.take(Opened(settings), log=say)
    (rights,) = (
        check
        for check in operations_status.status(Opened(settings), now=datetime.now(timezone.utc)).checks
        if check.name == "recovery rights"
    )
    assert rights.result == checks.FAIL and f"{taken.id} is no superuser" in rights.detail
    stack.psql("DROP TABLE t;", "shop")
    with pytest.raises(LifeboatError, match="permission denied"):
        recover(settings)
