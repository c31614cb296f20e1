# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every database of the server is in a backup, each proved; what cannot be is named, and the backup is not good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, show
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.checksums import measure
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import (
    SUPERUSER,
    Agent,
    MakeDatabase,
    Stack,
    assert_pass,
    back_up_and_prove,
    docker,
    entries,
    say,
    store,
)

ROOT = Path(__file__).resolve().parents[2]
QUERY = "community.postgresql.postgresql_query"
LATIN1, BYTES = "la'tin\n=1", "raw\udce9"
SQL = "CREATE TABLE t AS SELECT n, 'é' || n AS a FROM generate_series(1, {}) n;"
IN_BYTES = "DO $$ BEGIN EXECUTE E'ALTER DATABASE {} RENAME TO {}'; END $$;"


@pytest.fixture
def three(stack: Stack, make_database: MakeDatabase) -> Iterator[Stack]:
    """The application's database, and others whose names and content are hostile."""
    make_database("shop", SQL.format(50))
    make_database(
        LATIN1, f"SET client_encoding = 'UTF8'; {SQL.format(20)}", "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    )
    ascii_ = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    make_database("plain", "CREATE TABLE t AS SELECT E'\\xe9\\xff'::text AS a;", ascii_)
    make_database("raw", "CREATE TABLE t AS SELECT 1 AS a;", ascii_)
    stack.psql(IN_BYTES.format("raw", '"raw\\xe9"'), "plain")  # a name that a session of another encoding cannot say
    yield stack
    stack.psql(IN_BYTES.format('"raw\\xe9"', "raw"), "plain")


def details_of(settings: Config) -> DumpDetails:
    manifest = entries(settings)[-1].manifest
    assert manifest
    return manifest.detailed(DumpDetails)


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_every_database_is_in_it_and_proved(three: Stack, tmp_path: Path, form: str) -> None:
    settings = three.config(tmp_path, database={"name": "shop", "format": form, "exclude": ["plain", "nowhere"]})
    identity = back_up_and_prove(settings)
    details = details_of(settings)
    found = {
        other.name: (other.folder, other.fingerprint.tables, other.fingerprint.rows) for other in details.databases[1:]
    }
    assert found == {
        LATIN1: ("databases/001", 1, 20),
        "postgres": ("databases/002", 0, 0),
        BYTES: ("databases/003", 1, 1),
    }
    assert (details.missing, details.excluded, details.standby) == ({}, ("nowhere", "plain"), False)
    assert 0 < details.spread(entries(settings)[-1].manifest.taken_at) < 300  # type: ignore[union-attr]
    names = [check["name"] for check in entries(settings)[-1].proof["restore"].record["checks"]]  # type: ignore[attr-defined]
    assert {"tables", "tables of la'tin\\n=1", "amcheck of postgres", "archive of raw\\xe9"} < set(names)
    assert entries(settings)[-1].id == identity and three.traces() == []


def test_every_command_can_say_any_name(three: Stack, tmp_path: Path) -> None:
    agent = Agent(tmp_path, three.settings(tmp_path, database={"name": "shop", "exclude": ["plain"]}))
    code, told, _err = agent.run("backup", "database")
    assert (code, [other["name"] for other in told["others"]]) == (0, [LATIN1, "postgres", BYTES])
    code, listed, _err = agent.run("list")
    assert (code, listed[-1]["details"]["others"]) == (0, told["others"])
    assert agent.run("status")[1]["backups"][-1]["details"]["excluded"] == ["plain"]


def test_what_cannot_be_read_is_named_and_the_backup_is_not_good(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    make_database("shop", SQL.format(5))
    for name in ("closed", "private", "secret"):
        make_database(name, SQL.format(5))
    stack.psql(
        "CREATE ROLE backups LOGIN; GRANT pg_read_all_data TO backups; REVOKE CONNECT ON DATABASE private FROM PUBLIC;"
    )
    stack.psql("REVOKE EXECUTE ON FUNCTION pg_export_snapshot() FROM PUBLIC;", "secret")
    stack.psql("ALTER DATABASE closed ALLOW_CONNECTIONS false;")
    settings = stack.config(tmp_path, database={"name": "shop", "backup_user": "backups"})
    lines: list[str] = []
    taken = dump.take(Opened(settings), log=lines.append)
    missing = taken.detailed(DumpDetails).missing
    assert list(missing) == ["closed", "private", "secret"]
    assert missing["closed"] == "it takes no connections (datallowconn is false)"
    assert 'permission denied for database "private"' in missing["private"]
    assert "permission denied for function pg_export_snapshot" in missing["secret"]
    assert any("the database private is NOT in it" in line for line in lines)
    (entry,) = entries(settings)
    assert (entry.good, entry.incomplete) == (False, True)
    assert catalog.choose([entry], settings.stack, identity=entry.id) == (entry, [])
    assert_pass(operations_verify.verify(Opened(settings), taken.id, "restore", log=say).checks, at_least=20)
    assert stack.traces() == []
    stack.psql("ALTER DATABASE closed ALLOW_CONNECTIONS true;")


def test_the_account_that_the_role_makes_may_connect_to_every_database(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    for name in ("shop", "pri'v %s", "open", "left", "shop_quarantine_20261124_120000"):
        make_database(name, SQL.format(5))
        if name != "open":
            stack.psql(f"REVOKE CONNECT ON DATABASE {identifier(name)} FROM PUBLIC;")
    stack.psql('CREATE ROLE "back-ups" LOGIN BYPASSRLS; GRANT pg_read_all_data, pg_monitor TO "back-ups";')
    tasks = yaml.safe_load((ROOT / "roles/database_backup/tasks/account.yml").read_text(encoding="utf-8"))
    (query,) = [task[QUERY] for task in tasks if "named_args" in task.get(QUERY, {})]
    sql = query["query"].replace("%(account)s", "'back-ups'").replace("%%", "%")
    found = dict(row.rsplit("|", 1) for row in stack.psql(sql))
    assert list(found) == ["left", "pri'v %s", "shop", "shop_quarantine_20261124_120000"]
    stack.psql(";".join(statement for name, statement in found.items() if name != "left"))
    settings = stack.config(tmp_path, database={"name": "shop", "backup_user": "back-ups", "exclude": ["left"]})
    details = dump.take(Opened(settings), log=say).detailed(DumpDetails)
    others = ["open", "postgres", "pri'v %s", "shop_quarantine_20261124_120000"]  # only its name is like one of ours
    assert (details.missing, [other.name for other in details.additional]) == ({}, others)


def test_a_template_that_somebody_made_is_in_it(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    for name in ("shop", "moulds"):
        make_database(name, SQL.format(5))
    stack.psql("ALTER DATABASE moulds IS_TEMPLATE true;")
    settings = stack.config(tmp_path, database={"name": "shop"})
    identity = back_up_and_prove(settings)
    found = {other.name: other.not_carried for other in details_of(settings).additional}
    stack.psql("ALTER DATABASE moulds IS_TEMPLATE false;")  # the fixture drops it
    assert entries(settings)[-1].id == identity
    assert list(found) == ["moulds", "postgres"]
    assert [line for line in found["moulds"] if "ALTER DATABASE moulds IS_TEMPLATE true;" in line]


def test_databases_come_and_go_while_a_backup_runs(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    for name in ("shop", "away", "moved"):
        make_database(name, SQL.format(5))
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if "dumping shop" in line:
            stack.psql(
                "DROP DATABASE away; CREATE DATABASE fresh; ALTER DATABASE moved RENAME TO elsewhere;".replace(
                    " CREATE", "\nCREATE"
                )
            )

    settings = stack.config(tmp_path, database={"name": "shop"})
    with lock.held(settings.stack, "backup"):
        done = operations_backup.take(Opened(settings), "database", log=log)
    (taken,) = done.manifests
    details = taken.detailed(DumpDetails)
    assert [other.name for other in details.additional] == ["postgres"]
    assert details.missing == {
        "away": "it was dropped while the backup ran",
        "moved": "it was given the name elsewhere while the backup ran",
    }
    assert details.created == ("elsewhere", "fresh")
    assert isinstance(done.missing, IntegrityError)
    assert done.missing.cause.startswith("the database away is not in it: it was dropped while the backup ran; the")
    assert done.missing.remedy.startswith("The backup is there and is not good. Take another one")
    (entry,) = entries(settings)
    assert (entry.good, entry.incomplete) == (False, True)
    told = show.table([], {"database": [entry]}, entry.dated)
    assert f"{taken.id}: made while it was taken, the next one will hold it: elsewhere, fresh" in told
    assert f"{taken.id}: fresh was made while the backup ran; the next one will hold it" in lines


def test_a_server_that_takes_no_more_connections(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    make_database("shop", SQL.format(5))
    stack.psql("CREATE ROLE backups LOGIN CONNECTION LIMIT 1; GRANT pg_read_all_data TO backups;")
    settings = stack.config(tmp_path, database={"name": "shop", "backup_user": "backups"})
    with pytest.raises(LifeboatError, match="too many connections"):
        dump.take(Opened(settings), log=say)
    assert entries(settings) == []
    assert list((tmp_path / "backup/postgresql").iterdir()) == []


@pytest.fixture
def standby(stack: Stack, make_database: MakeDatabase) -> Iterator[dict[str, Any]]:
    """A standby of the server, in the same container; the settings by which it is reached."""
    make_database("shop", f"{SQL.format(5)} CREATE UNLOGGED TABLE u AS SELECT 1 AS a;")
    run = ["exec", "--user", "postgres", stack.container]
    data, user = "/var/lib/postgresql/standby", ["--username", SUPERUSER]
    docker("exec", stack.container, "install", "-d", "-o", "postgres", "-m", "700", data)
    docker(*run, "pg_basebackup", "-D", data, "-R", "-c", "fast", *user)
    options = "-c port=5433 -c listen_addresses= -c fsync=off -c shared_buffers=32MB"
    try:
        docker(*run, "pg_ctl", "-D", data, "-w", "-l", "/tmp/standby.log", "-o", options, "start")
        yield {"name": "shop", "host": "/var/run/postgresql", "port": 5433}
    finally:
        docker(*run, "pg_ctl", "-D", data, "-m", "immediate", "stop", check=False)
        docker("exec", stack.container, "rm", "-rf", data, check=False)


def test_a_standby_is_backed_up_and_said_so(stack: Stack, standby: dict[str, Any], tmp_path: Path) -> None:
    settings = stack.config(tmp_path, database=standby)
    lines: list[str] = []
    taken = dump.take(Opened(settings), log=lines.append)
    assert taken.detailed(DumpDetails).standby
    assert any("the server is a standby" in line for line in lines)
    checked = operations_verify.verify(Opened(settings), taken.id, "restore", log=say).checks
    assert_pass(checked, at_least=20)
    assert "2 tables, 5 rows: rows and content equal" in [check.detail for check in checked]


def reseal(folder: Path, manifest: Manifest, details: Mapping[str, Any]) -> None:
    """As somebody would who may write the repository."""
    artefacts = tuple(measure(folder / item.name, item.name) for item in manifest.artefacts)
    again = replace(manifest, artefacts=artefacts, details={**manifest.details, **details})
    (folder / "manifest.json").write_bytes(again.to_bytes())


def failed(settings: Config, identity: str) -> list[str]:
    result = operations_verify.verify(Opened(settings), identity, "restore", log=say)
    assert result.verdict == checks.FAIL
    return [check.name for check in result.checks if check.result == checks.FAIL]


def test_a_changed_byte_and_swapped_folders_are_seen(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    for name, rows in (("shop", 50), ("a", 20), ("b", 20)):
        make_database(name, SQL.format(rows))
    settings = stack.config(tmp_path, database={"name": "shop", "format": "custom", "compression": "none"})
    identity = back_up_and_prove(settings)
    whole = entries(settings)[-1].manifest
    assert whole
    with store(settings).materialise("database", identity) as folder:
        one, other = (folder / "databases" / number for number in ("001", "002"))
        data = (one / "database.dump").read_bytes()
        (one / "database.dump").write_bytes(data.replace("é1".encode(), "é2".encode(), 1))
        assert failed(settings, identity) == ["checksums of a"]
        reseal(folder, whole, {})
        assert failed(settings, identity) == ["tables of a"]
        (one / "database.dump").write_bytes(data)
        one.rename(folder / "x")
        other.rename(one)
        (folder / "x").rename(other)
        assert failed(settings, identity) == ["checksums of a", "checksums of b"]
        reseal(folder, whole, {})
        assert failed(settings, identity) == ["fingerprint of a", "fingerprint of b"]
        for path in (one, other):
            path.rename(path.with_name(f"{path.name}x"))
        assert not entries(settings)[-1].sound
