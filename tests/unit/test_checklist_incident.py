# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list for when it burns: what there is, what is broken, the one command; it ticks nothing for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import assess as frontend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import plan as frontend_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import assess as objects_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import condition as objects_condition
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist as operations_checklist
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.checklist_line import BY_HAND, Item
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.service import ServiceState
from builders import BUCKET, FRONTEND_PLAN, NOW, make_config, prove, publish, publish_objects, store

POINT = "20261124_130000"
WELL = ServiceState(exists=True, running=True, status="running", health="healthy")
DEAD = ServiceState(exists=True, status="exited", exit_code=1)
APPLICATION = {"writers": ["web"], "checks": [{"url": "http://127.0.0.1/health"}]}


class Stack:
    states: Mapping[str, ServiceState] = {"web": WELL}

    def state(self, service: str) -> ServiceState:
        return self.states[service]

    def images(self) -> dict[str, str]:
        return {}

    def dependants(self, service: str) -> list[str]:
        return []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stack that is well, with one recovery point."""
    found: dict[str, Any] = {
        "database": database_assess.Assessment("healthy", (), "running"),
        "objects": objects_condition.Assessment("healthy", (), "running"),
        "stack": Stack(),
        "endpoint": PASS,
    }

    def assessed(name: str) -> Any:
        def look(*_: Any, **__: Any) -> Any:
            if isinstance(found[name], Exception):
                raise found[name]
            return found[name]

        return look

    monkeypatch.setattr(database_assess, "assess", assessed("database"))
    monkeypatch.setattr(objects_assess, "assess", assessed("objects"))
    monkeypatch.setattr(runtime, "connect", lambda config: found["stack"])
    monkeypatch.setattr(answer, "endpoint", lambda check, deadline: Check(check.url, found["endpoint"], "said"))
    found["config"] = make_config(tmp_path, **BUCKET, application=APPLICATION)
    database = publish(tmp_path)
    publish_objects(tmp_path, NOW + timedelta(hours=1), of=database)
    points.seal(Opened(found["config"]), now=NOW + timedelta(hours=1), log=lambda _: None)
    prove(tmp_path, database)
    return found


def look(world: dict[str, Any]) -> dict[str, Item]:
    made = operations_checklist.work_through(Opened(world["config"]), "incident", now=NOW + timedelta(hours=2))
    assert made.verdict != PASS or not any(line.result in (FAIL, COULD_NOT_VERIFY) for line in made.lines)
    return {f"{line.box}: {line.name}": line for line in made.lines}


def test_all_is_well(world: dict[str, Any]) -> None:
    found = look(world)
    judged = {name: line.result for name, line in found.items() if line.result != BY_HAND}
    assert set(judged.values()) == {PASS}
    assert [name.partition(":")[0] for name in judged] == [
        "the latest backup that can be used", *["the recovery"] * 3, "the system was seen to work",
    ]  # fmt: skip
    latest = found["the latest backup that can be used: recovery point"]
    assert latest.figure.startswith(f"{POINT} in the repository, taken 2026-11-24T12:00:00")
    assert "NOT proven by a restore" in latest.figure, "its objects are not"
    people = [line.name for line in found.values() if line.result == BY_HAND]
    assert {"by a person", "cause", "prevention", "evidence", "database", "object storage"} <= set(people)


def test_a_broken_database_names_its_playbook(world: dict[str, Any]) -> None:
    world["database"] = database_assess.Assessment("damaged", ("the table public.t is missing",), "running")
    line = look(world)["the recovery: database"]
    assert line.result == FAIL
    assert line.figure == (
        "damaged: the table public.t is missing; run: ansible-playbook -i <inventory> lifeboat.dr.recover_database"
        " -e target=<host>, read its plan, then add -e confirm=<host>"
    )
    runbooks = [line for name, line in look(world).items() if name.startswith("the runbook")]
    assert ["docs/runbook-database.md (docs/ja/runbook-database.md)" in line.figure for line in runbooks] == [True]


def test_two_that_are_broken_are_recovered_to_one_instant(world: dict[str, Any]) -> None:
    world["database"] = database_assess.Assessment("down", ("db is exited",), "exited")
    world["objects"] = objects_condition.Assessment("damaged", ("the bucket uploads is missing",))
    found = look(world)
    for name in ("database", "object storage"):
        assert f"-e target=<host> -e recovery_point={POINT}, read" in found[f"the recovery: {name}"].figure


def test_a_whole_site_that_is_lost(world: dict[str, Any]) -> None:
    world["database"] = database_assess.Assessment("down", (), "absent")
    world["objects"] = objects_condition.Assessment("down", ("no",))
    world["stack"].states = {"web": DEAD}
    found = look(world)
    assert "lifeboat.dr.recover_site" in found["the runbook: site"].figure
    line = found["the recovery: application"]
    assert (line.result, "down: web is exited, exit code 1; run: " in line.figure) == (FAIL, True)
    assert "recovery_point" not in line.figure


UNKNOWN: list[tuple[str, str, Any, str]] = [
    ("database", "the recovery: database", LifeboatError("reach", "docker", "no engine"), "no engine"),
    (
        "database",
        "the recovery: database",
        database_assess.Assessment("down", (), "up", refused="no such role"),
        "no such role",
    ),
    (
        "database",
        "the recovery: database",
        database_assess.Assessment("healthy", (), "up", ("t was not read",)),
        "t was not read",
    ),
    ("objects", "the recovery: object storage", objects_condition.Assessment("down", (), refused="403"), "403"),
    ("objects", "the recovery: object storage", LifeboatError("list", "it", "gone"), "gone"),
]


@pytest.mark.parametrize(("part", "name", "seen", "words"), UNKNOWN)
def test_what_could_not_be_looked_at_is_no_pass(
    world: dict[str, Any], part: str, name: str, seen: Any, words: str
) -> None:
    world[part] = seen
    line = look(world)[name]
    assert line.result == COULD_NOT_VERIFY
    assert words in line.figure


def test_a_public_site_that_is_not_served(world: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives elsewhere: it neither makes the machine a lost one nor is excused by a machine that is well."""
    assert not any("frontend" in name for name in look(world)), "the stack has none"
    frontend = dataclasses.replace(world["config"].frontend, url="https://shop.example.org")
    world["config"] = dataclasses.replace(world["config"], frontend=frontend)
    monkeypatch.setattr(frontend_assess, "token_of", lambda config, given: "")
    made = [FRONTEND_PLAN]
    monkeypatch.setattr(frontend_plan, "make", lambda config, token, log: made[-1])
    found = look(world)
    assert found["the recovery: frontend"].result == FAIL
    assert "lifeboat.dr.recover_frontend -e target=<host>, read" in found["the recovery: frontend"].figure
    assert "the runbook: site" not in found
    made.append(dataclasses.replace(FRONTEND_PLAN, condition="healthy", unchecked=("GitHub's API: no token",)))
    assert look(world)["the recovery: frontend"].result == COULD_NOT_VERIFY


def test_an_endpoint_that_does_not_answer(world: dict[str, Any]) -> None:
    world["endpoint"] = FAIL
    assert look(world)["the system was seen to work: http://127.0.0.1/health"].result == FAIL


def test_no_endpoint_is_no_pass(world: dict[str, Any], tmp_path: Path) -> None:
    world["config"] = make_config(tmp_path, **BUCKET)
    assert look(world)["the system was seen to work: endpoints"].result == COULD_NOT_VERIFY
    assert "no service is named" in look(world)["the recovery: application"].figure


def test_a_point_that_is_broken_is_passed_over(world: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "backup/recovery-points/20261124_140000.json").write_text("{}")
    line = look(world)["the latest backup that can be used: recovery point"]
    assert line.result == PASS
    assert "newer, and of no use: 20261124_140000: it is not a recovery point" in line.figure


def test_without_a_point_the_newest_backup(world: dict[str, Any], tmp_path: Path) -> None:
    store(tmp_path).delete_point(POINT)
    line = look(world)["the latest backup that can be used: backup of the database"]
    assert line.figure.startswith("db_backup_20261124_120000 in the repository, ")
    assert "proven by a restore" in line.figure
    for identity in store(tmp_path).published("database"):
        store(tmp_path).delete("database", identity)
    assert look(world)["the latest backup that can be used: recovery point"].result == FAIL


def test_where_the_repository_is_gone_the_vault_is_asked(
    world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backup").rename(tmp_path / "vault")
    line = look(world)["the latest backup that can be used: recovery point"]
    assert line.result == COULD_NOT_VERIFY
    assert "there is no such directory" in line.figure
    (tmp_path / "copies").mkdir()
    (tmp_path / "vault").rename(tmp_path / "copies/backup")
    monkeypatch.setattr(copies, "vault", lambda config: store(tmp_path / "copies"))
    line = look(world)["the latest backup that can be used: recovery point"]
    assert (line.result, line.figure.partition(", ")[0]) == (PASS, f"{POINT} in the vault")
