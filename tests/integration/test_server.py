# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole server as somebody else made it is destroyed and recovered; PostgreSQL's own tools say that it is the same.

Part of `make test`. With LONG=1, as in `make release`, one of its databases has 10,000 tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from foreign_server import APPLICATION, NAMES, TABLES, ForeignServer, Picture
from postgres_stack import assert_pass, docker, entries, say

EVERY = (APPLICATION, *sorted({*NAMES, "postgres"} - {APPLICATION}))


@pytest.fixture(scope="module")
def foreign(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    del engine
    one = ForeignServer(tmp_path_factory.mktemp("foreign"))
    with one.up():
        one.fill()
        yield one


@pytest.fixture(scope="module")
def settings(foreign: ForeignServer, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return foreign.config(tmp_path_factory.mktemp("backups"), timeout=1200, database={"name": APPLICATION})


@pytest.fixture(scope="module")
def before(foreign: ForeignServer) -> dict[str, Picture]:
    return foreign.pictures()


@pytest.fixture(scope="module")
def roles(foreign: ForeignServer) -> list[bytes]:
    return foreign.roles()


@pytest.fixture(scope="module")
def taken(foreign: ForeignServer, settings: Config, before: dict[str, Picture], roles: list[bytes]) -> str:
    identity = dump.take(Opened(settings), log=say).id
    assert foreign.pictures() == before, "the backup changed the server"
    assert foreign.roles() == roles
    assert foreign.traces() == []
    return identity


def details_of(settings: Config, identity: str) -> DumpDetails:
    (entry,) = [entry for entry in entries(settings) if entry.id == identity]
    assert entry.manifest
    return entry.manifest.detailed(DumpDetails)


def test_the_backup_holds_every_database_and_each_is_proved(settings: Config, taken: str) -> None:
    details = details_of(settings, taken)
    assert tuple(one.name for one in details.databases) == EVERY
    tables = {one.name: one.fingerprint.tables for one in details.databases}
    assert tables == {APPLICATION: 5, "bytes": 2, "icu, 日本": 1, "latin": 1, "many": TABLES, "postgres": 1}
    result = operations_verify.verify(Opened(settings), taken, "restore", log=say)
    assert_pass(result.checks, at_least=13 + 7 * len(EVERY[1:]))


def truncate_pg_control(foreign: ForeignServer) -> None:
    docker("exec", "-u", "0", foreign.container, "sh", "-ec", ": >$PGDATA/global/pg_control")


def remove_everything(foreign: ForeignServer) -> None:
    """The server runs, and may write into a directory that is just being removed."""
    script = "for turn in $(seq 100); do rm -rf $PGDATA/* && exit; done; exit 1"
    docker("exec", "-u", "0", foreign.container, "sh", "-c", script)


@pytest.mark.parametrize("destroy", [truncate_pg_control, remove_everything])
def test_a_destroyed_server_comes_back_with_every_database(
    foreign: ForeignServer,
    settings: Config,
    before: dict[str, Picture],
    roles: list[bytes],
    taken: str,
    destroy: Callable[[ForeignServer], None],
) -> None:
    foreign.compose("--profile", "jobs", "up", "--detach", "night")
    destroy(foreign)
    docker("kill", foreign.container)
    run = Opened(settings)
    made = database_plan.make(run, log=say)
    assert made.backup["id"] == taken
    assert {one.name: one.action for one in made.databases} == dict.fromkeys(EVERY, "restored")
    assert "night" in made.writers, "it is behind a profile"
    lines: list[str] = []
    protected = database_protect.protect(run, made, log=say)
    assert docker("ps", "-q", "--filter", f"name={foreign.name}-night").split() == []
    restored = database_recovery.restore_database(
        run,
        taken,
        place=str(made.backup["place"]),
        fresh=protected.fresh,
        stamp=made.stamp,
        wanted=database_recovery.Wanted(protected.replaced, protected.copied),
        log=lines.append,
    )
    assert {one.name: one.action for one in restored.databases} == dict.fromkeys(EVERY, "restored")
    assert_pass(restored.checks, at_least=7 * len(EVERY))
    after = foreign.pictures()
    for name in EVERY:
        assert after[name].schema == before[name].schema, name
        assert after[name].content == before[name].content, name
    assert foreign.roles() == roles
    # What came back beside the databases, and every exception by its name.
    assert foreign.psql("SHOW work_mem; SHOW log_min_duration_statement;") == ["5MB", "250ms"]
    told = "\n".join([*made.warnings, *restored.notes])
    assert [line for line in restored.notes if line.startswith(("---", "+++", "@@", "+", "-"))] == []
    assert [line.splitlines()[0] for line in lines if "+++ pg_hba.conf.lifeboat_" in line] == ["--- pg_hba.conf"]
    for exception in ("replication slot reporting", "pg_hba.conf", "left here"):
        assert exception in told, told
