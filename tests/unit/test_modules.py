# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module's real main(): check mode, change, no change, failure. What it reaches of the world is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UnverifiedError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import reopen as database_reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical.method import Logical
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Replay
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take as mirror_take
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import clocks, instants
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen as recovery_reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.protect import Protected
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened, ServiceState
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import Latest
from ansible_collections.lifeboat.dr.plugins.modules import agent
from builders import (
    BUCKET,
    NOW,
    PLAN,
    Run,
    entries,
    flip,
    folder,
    make_config,
    prove,
    publish,
    publish_objects,
    settings,
    store,
)

MODULES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "plugins/modules").glob("*.py"))


def test_every_module_is_tested() -> None:
    here = Path(__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in here.glob("test_modules*.py"))
    for name in MODULES:
        for what in ("change", "fails"):
            assert f"def test_{name}_{what}" in source or f"def test_{name}_never_changes" in source, f"{name}: {what}"


WITHOUT_STACK = ("agent", "alert_test", "fleet_info", "report", "schedule", "stack_info", "undeploy")
WITH_STACK = [name for name in MODULES if name not in WITHOUT_STACK]
REQUIRED: dict[str, dict[str, Any]] = {
    "drill_begin": {"scenario": "database"},
    "drill_fault": {"scenario": "database"},
    "drill_instant": {"scenario": "database", "fault": {}},
    "drill_beside": {"scenario": "database"},
    "drill_end": {"scenario": "database"},
    "config_deploy": {"id": "config_backup_20261124_120000"},
    "point_fetch": {"recovery_point": "20261124_120000"},
    "site_phase": {"recovery_point": "20261124_120000"},
    "backend_recover": {"plan": {"needed": False}},
    "evidence": {"scenario": "database", "plan": {}, "phases": []},
    "database_instant": {"plan": {"mode": "swap", "writers": []}},
    "database_protect": {"plan": {"mode": "swap", "writers": []}},
    "escrow": {"identity": "AGE-SECRET-KEY-1"},
    "objects_protect": {"plan": {"mode": "fill", "writers": []}},
    "frontend_recover": {"plan": {"needed": True}},
    "files_recover": {"plan": {"needed": True}},
    "dumps_recover": {"plan": {"needed": True}},
    "schedule": {"stack_name": "shop", "jobs": []},
    "undeploy": {"stack_name": "shop"},
}


@pytest.mark.parametrize("name", WITH_STACK)
def test_every_module_fails_clearly_on_bad_settings(run: Run, tmp_path: Path, name: str) -> None:
    more = REQUIRED.get(name, {})
    wrong = run(name, settings={"stack": "shop", "databse": {}}, **more)
    assert wrong["failed"]
    assert "does not know databse" in wrong["msg"]
    assert (wrong["attempted"], wrong["subject"]) == ("read the configuration", "settings")
    none = run(name, settings=None, config_directory=str(tmp_path / "none"), **more)
    assert none["failed"]
    assert "no stack is configured" in none["msg"]
    assert none["remedy"] == "Run lifeboat.dr.deploy on this host first."
    assert run(name, settings={"stack": "shop", "secrets": {"x": "hunter2"}}, **more)["failed"]


@pytest.mark.parametrize(
    "name",
    ["backup_info", "backup_prune", "backup_verify", "database_backup", "database_plan_info", "database_restore"],
)
def test_every_module_that_reads_the_repository_says_when_it_is_not_there(run: Run, tmp_path: Path, name: str) -> None:
    result = run(name, settings={**settings(tmp_path), "repository": {"type": "local", "path": "/nowhere"}})
    assert result["failed"]
    assert "/nowhere" in result["msg"]
    assert "there is no such directory" in result["msg"]


@pytest.mark.parametrize("name", [*WITH_STACK, "agent", "schedule", "stack_info", "alert_test", "undeploy"])
def test_every_module_refuses_an_option_it_does_not_know(run: Run, name: str) -> None:
    result = run(name, plain=True, no_such_option=1, **REQUIRED.get(name, {}))
    assert result["failed"]
    assert "no_such_option" in result["msg"]


# --- agent ---


@pytest.mark.slow
def test_agent_changes_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lifeboat"
    asked = {"path": str(path), "settings": settings(tmp_path), "plain": True}
    planned = run("agent", check=True, **asked)
    assert (planned["changed"], path.exists()) == (True, False)
    assert planned["diff"]["before"] == f"{path}: absent\n"
    done = run("agent", **asked)
    assert (done["changed"], path.stat().st_mode & 0o777) == (True, 0o755)
    assert done["sha256"] == planned["sha256"]
    assert run("agent", **asked)["changed"] is False
    assert run("agent", check=True, **asked)["changed"] is False
    path.chmod(0o644)
    assert run("agent", **asked)["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o755
    assert run("agent", interpreter=sys.executable, **asked)["changed"] is True
    flip(path, -1)
    damaged = run("agent", check=True, interpreter=sys.executable, **asked)
    assert (damaged["changed"], damaged["diff"]["before"]) == (True, f"{path}: not as it was installed\n")


def test_agent_warns_of_a_python_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("agent", plain=True, path=str(tmp_path / "lifeboat"), interpreter="/opt/no-python")
    assert result["changed"] is True
    words = f"/opt/no-python cannot be run on this host: until it can, neither can {tmp_path}/lifeboat."
    assert words in json.dumps(result["warnings"])


def test_agent_fails_where_the_sources_do_not_compile(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "COMPILE", "raise SystemExit('out of memory')")
    result = run("agent", plain=True, path=str(tmp_path / "lifeboat"))
    assert result["failed"]
    assert result["msg"].endswith("/usr/bin/python3 exited 1: out of memory.")
    assert not (tmp_path / "lifeboat").exists()


def test_agent_installs_the_completion_beside_it_once(run: Run, tmp_path: Path) -> None:
    path, tab = tmp_path / "lifeboat", tmp_path / "bash-completion" / "completions" / "lifeboat"
    asked = {"path": str(path), "completion": str(tab), "plain": True}
    run("agent", path=str(path), plain=True)
    planned = run("agent", check=True, **asked)
    assert (planned["changed"], tab.exists(), tab.parent.exists()) == (True, False, False)
    assert f"{tab}: absent\n" in planned["diff"]["before"]
    done = run("agent", **asked)
    assert (done["changed"], done["diff"]) == (True, planned["diff"])
    assert (done["path"], done["sha256"]) == (str(path), planned["sha256"])
    assert tab.stat().st_mode & 0o777 == 0o644
    assert "complete -F _lifeboat lifeboat\n" in tab.read_text(encoding="utf-8")
    assert run("agent", **asked)["changed"] is False
    assert run("agent", check=True, **asked)["changed"] is False
    tab.write_text("edited")
    assert run("agent", check=True, **asked)["changed"] is True
    assert tab.read_text(encoding="utf-8") == "edited"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stack": "Shop"}, "not a plain lower-case name"),
        ({"retention": {"dayly": 1}}, "dayly"),
        ({"x": 1}, "does not know x"),
    ],
)
def test_agent_fails_before_it_installs(run: Run, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "lifeboat"
    result = run("agent", plain=True, path=str(path), settings={**settings(tmp_path), **changes})
    assert result["failed"]
    assert words in result["msg"]
    assert result["msg"].endswith("Nothing was changed.")
    assert not path.exists()


def test_agent_fails_where_it_cannot_write(run: Run, tmp_path: Path) -> None:
    result = run("agent", plain=True, path=str(tmp_path / "gone" / "lifeboat"))
    assert result["failed"]
    assert "No such file or directory" in result["msg"]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    found = {"DIRECTORY": tmp_path / "etc", "STATE_DIRECTORY": tmp_path / "state", "LOGS": tmp_path / "log"}
    found["LOGROTATE"] = tmp_path / "logrotate"
    for name, path in found.items():
        monkeypatch.setattr(agent, name, path)
    return found


SECRETS = {"database_password": "hunter2-long", "vault_access_key": "lifeboat"}


def test_agent_makes_the_key_that_the_host_signs_with_once(run: Run, tmp_path: Path, places: dict[str, Path]) -> None:
    key = tmp_path / "keys/shop.signing"
    given = settings(tmp_path, signing_key=str(key))
    asked = {"path": str(tmp_path / "lifeboat"), "settings": given, "configure": True, "plain": True}
    planned = run("agent", check=True, **asked)
    assert (planned["changed"], planned["signer"], key.exists()) == (True, "", False)
    done = run("agent", **asked)
    assert (done["diff"], key.stat().st_mode & 0o777) == (planned["diff"], 0o600)
    assert done["signer"] == sealing.public(str(key))
    assert done["signer"].startswith("ssh-ed25519 ")
    secret = key.read_text().splitlines()[1]
    assert secret not in json.dumps(done)
    again = run("agent", **asked)
    assert (again["changed"], again["signer"]) == (False, done["signer"])
    key.write_text("damaged")
    failed = run("agent", **asked)
    assert failed["failed"], "it is never replaced"
    assert "read the signing key" in failed["msg"]
    assert key.read_text() == "damaged"


def test_agent_writes_the_configuration_once(run: Run, tmp_path: Path, places: dict[str, Path]) -> None:
    path, etc = tmp_path / "lifeboat", places["DIRECTORY"]
    given = settings(tmp_path)
    asked = {"path": str(path), "settings": given, "secrets": SECRETS, "configure": True, "plain": True}
    planned = run("agent", check=True, **asked)
    assert (planned["changed"], [other.exists() for other in places.values()]) == (True, [False] * 4)
    done = run("agent", **asked)
    assert (done["changed"], done["diff"], done["path"]) == (True, planned["diff"], str(path))
    assert "hunter2" not in json.dumps(done)
    assert json.loads((etc / "shop.json").read_text()) == given
    assert json.loads((etc / "shop.secrets.json").read_text()) == SECRETS
    modes = {name: (etc / name).stat().st_mode & 0o777 for name in ("shop.json", "shop.secrets.json", ".")}
    assert modes == {"shop.json": 0o600, "shop.secrets.json": 0o600, ".": 0o700}
    assert (places["STATE_DIRECTORY"] / "shop").stat().st_mode & 0o777 == 0o700
    assert f"{places['LOGS']}/*.log {{\n" in places["LOGROTATE"].read_text()
    for check in (True, False):
        again = run("agent", check=check, **asked)
        assert (again["changed"], str(etc) in again["diff"]["before"]) == (False, False)
    other = run("agent", **{**asked, "secrets": {**SECRETS, "database_password": "correct-horse"}})
    assert (other["changed"], str(etc / "shop.secrets.json") in other["diff"]["after"]) == (True, True)
    assert other["diff"]["before"] != other["diff"]["after"]
    assert not re.search("hunter2|correct-horse", json.dumps(other))
    (etc / "shop.json").chmod(0o644)
    assert "shop.json: file 0644\n" in run("agent", **asked)["diff"]["before"]
    assert (etc / "shop.json").stat().st_mode & 0o777 == 0o600


def test_agent_fails_where_the_configuration_cannot_be_written(
    run: Run, tmp_path: Path, places: dict[str, Path]
) -> None:
    places["DIRECTORY"].write_text("in the way")
    asked = {"path": str(tmp_path / "lifeboat"), "settings": settings(tmp_path), "configure": True, "plain": True}
    result = run("agent", **asked)
    assert result["failed"]
    assert f"({places['DIRECTORY']}): File exists" in result["msg"]
    assert run("agent", plain=True, path=str(tmp_path / "lifeboat"), configure=True)["failed"]


# --- backup_info ---


def test_backup_info_never_changes(run: Run, tmp_path: Path) -> None:
    prove(tmp_path, publish(tmp_path, datetime.now(timezone.utc)), at=datetime.now(timezone.utc))
    for check in (True, False):
        result = run("backup_info", check=check)
        assert (result["changed"], result["failed"]) == (False, False)
        assert result["status"]["verdict"] == checks.PASS
        assert [backup["proven"] for backup in result["backups"]] == [True]
        assert result["table"].index("") == 2, "a head and a backup, then what is in quarantine"
    empty = run("backup_info", settings={**settings(tmp_path), "stack": "blog"})
    assert (empty["status"]["verdict"], empty["backups"]) == (checks.FAIL, [])


# --- backup_prune ---

SHORT = {"daily_days": 1, "weekly_months": 0, "monthly_months": 0, "minimum": 1}


def test_backup_prune_changes(run: Run, tmp_path: Path) -> None:
    old, new = publish(tmp_path, NOW - timedelta(days=9)), publish(tmp_path)
    asked = {**settings(tmp_path), "retention": SHORT}
    planned = run("backup_prune", check=True, settings=asked)
    assert (planned["changed"], planned["delete"], list(planned["keep"])) == (True, [old.id], [new.id])
    assert len(entries(tmp_path)) == 2
    assert planned["diff"] == {"before": f"{old.id}\n{new.id}\n", "after": f"{new.id}\n"}
    done = run("backup_prune", settings=asked)
    assert (done["changed"], done["delete"], done["diff"]) == (True, [old.id], planned["diff"])
    assert [entry.id for entry in entries(tmp_path)] == [new.id]
    again = run("backup_prune", settings=asked)
    assert (again["changed"], again["delete"]) == (False, [])


def test_backup_prune_by_a_clock_that_jumped(run: Run, tmp_path: Path) -> None:
    old, new = publish(tmp_path, NOW - timedelta(days=9)), publish(tmp_path)
    asked = {**settings(tmp_path), "retention": SHORT}
    clocks.accept(make_config(tmp_path), datetime.now(timezone.utc) + timedelta(days=900))
    refused = run("backup_prune", settings=asked)
    assert refused["failed"]
    assert "lifeboat.dr.prune with -e trust_clock=true" in refused["msg"]
    assert [entry.id for entry in entries(tmp_path)] == [old.id, new.id]
    done = run("backup_prune", settings=asked, trust_clock=True)
    assert (done["changed"], done["delete"]) == (True, [old.id])


def test_backup_prune_fails(run: Run, tmp_path: Path) -> None:
    publish(tmp_path, NOW - timedelta(days=9))
    with lock.held("shop", "another run"):
        result = run("backup_prune")
    assert result["failed"]
    assert "(another run)" in result["cause"]
    assert run("backup_prune", settings={**settings(tmp_path), "retention": {"minimum": 0}})["failed"]
    assert len(entries(tmp_path)) == 1


# --- backup_verify ---


def test_backup_verify_changes(run: Run, tmp_path: Path) -> None:
    publish(tmp_path, NOW - timedelta(days=1))
    one = publish(tmp_path)
    asked = {"level": "checksum"}
    planned = run("backup_verify", check=True, **asked)
    assert (planned["changed"], planned["verdict"], planned["id"]) == (True, checks.PASS, one.id)
    assert entries(tmp_path)[1].proof == {}, "check mode leaves no record"
    done = run("backup_verify", **asked)
    assert (done["changed"], done["verdict"]) == (True, checks.PASS)
    assert done["diff"] == {"before": f"{one.id} checksum: none\n", "after": f"{one.id} checksum: PASS\n"}
    assert {check["name"] for check in done["checks"]} == {"manifest", "checksums"}
    assert run("backup_verify", **asked)["changed"] is False
    older = run("backup_verify", id=entries(tmp_path)[0].id, **asked)
    assert (older["changed"], older["id"]) == (True, entries(tmp_path)[0].id)


def test_backup_verify_fails_unless_the_verdict_is_pass(run: Run, tmp_path: Path) -> None:
    none = run("backup_verify", level="checksum")
    assert none["failed"]
    assert "the repository holds no backup" in none["msg"]
    one = publish(tmp_path)
    (folder(tmp_path, one) / "database.dump").write_bytes(b"DUMP")
    result = run("backup_verify", level="checksum")
    assert (result["failed"], result["changed"], result["verdict"]) == (True, True, checks.FAIL)
    assert result["msg"].startswith(f"FAIL: {one.id} at level checksum: checksums: database.dump has another SHA-256")
    nameless = publish(tmp_path, NOW + timedelta(hours=1), details={"image": ""})
    result = run("backup_verify", id=nameless.id, level="archive")
    assert (result["failed"], result["verdict"]) == (True, checks.COULD_NOT_VERIFY), "what was not proved is no success"
    for identity in ("db_backup_20200101_000000", "../x"):
        assert run("backup_verify", id=identity, level="checksum")["failed"]
    assert "value of level must be one of" in run("backup_verify", level="deep", plain=True)["msg"]


def test_backup_verify_of_a_recovery_point(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Images())
    database = publish(tmp_path)
    objects = publish_objects(tmp_path, of=database)
    point, _ = points.seal(Opened(make_config(tmp_path, **BUCKET)), now=NOW, log=lambda _: None)
    done = run("backup_verify", id=point.id, level="checksum")
    assert (done["id"], done["verdict"], done["changed"]) == (point.id, checks.PASS, True)
    assert done["diff"]["after"] == f"{database.id} checksum: PASS\n{objects.id} checksum: PASS\n"
    assert [part["id"] for part in done["parts"]] == [database.id, objects.id]
    assert run("backup_verify", id=point.id, level="checksum")["changed"] is False


# --- recovery_point ---


class Images:
    def images(self) -> dict[str, str]:
        return {}


@pytest.fixture
def taking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """backup.take() of a stack with a bucket, as far as the module sees of it."""
    world: dict[str, Any] = {"failed": (), "unheld": 0, "overrides": []}
    monkeypatch.setattr(runtime, "connect", lambda config: Images())
    moments = (datetime.now(timezone.utc) + timedelta(seconds=number - 60) for number in range(60))

    def dumped(config: Any, log: Any, **_: Any) -> Any:
        return publish(tmp_path, next(moments))

    def mirrored(config: Any, log: Any, override: bool, doubts: Doubts) -> Any:
        world["overrides"].append(override)
        newest = entries(tmp_path)[-1].manifest
        return publish_objects(tmp_path, next(moments), of=newest, unheld_count=world["unheld"])

    monkeypatch.setattr(dump, "take", dumped)
    monkeypatch.setattr(mirror_take, "take", mirrored)
    planned = types.SimpleNamespace(removed=3, overwritten=2)
    monkeypatch.setattr(mirror_take, "preview", lambda run, log, override, doubts: planned if doubts.times else None)
    monkeypatch.setattr(endpoints, "doubts", lambda *_, **__: Doubts())
    monkeypatch.setattr(copies, "catch_up", lambda config, log: copies.Outcome("vault", (), {}, world["failed"]))
    monkeypatch.setattr(copies, "send_points", lambda config, log: ())
    monkeypatch.setattr(database_server, "connect", lambda *_, **__: Server())
    return world


def test_recovery_point_changes(run: Run, tmp_path: Path, taking: dict[str, Any]) -> None:
    asked = {"settings": {**settings(tmp_path), **BUCKET}}
    planned = run("recovery_point", check=True, **asked)
    assert (planned["changed"], "id" in planned, store(tmp_path).points()) == (True, False, [])
    assert planned["changes"] == 5, "the number that an override has to name"
    refused = run("recovery_point", override=True, **asked)
    assert (refused["failed"], refused["cause"]) == (True, "override is True and not a number of objects")
    done = run("recovery_point", override=5, **asked)
    assert (done["changed"], done["consistency"], taking["overrides"]) == (True, "snapshot", [5])
    assert [done["components"]["database"], done["components"]["objects"]] == [
        backup["id"] for backup in done["backups"]
    ]
    assert done["components"]["config"] is None
    below = run("recovery_point", counted=-1, **asked)
    assert (below["failed"], below["cause"], len(taking["overrides"])) == (True, "-1 is not a number of objects", 1)
    assert done["diff"] == {"before": "", "after": f"{done['id']}\n"}
    again = run("recovery_point", max_age=3600, **asked)
    assert (again["changed"], again["id"]) == (False, done["id"])
    assert store(tmp_path).points() == [done["id"]]


def test_recovery_point_fails(run: Run, tmp_path: Path, taking: dict[str, Any]) -> None:
    asked = {"settings": {**settings(tmp_path), **BUCKET}}
    with lock.held("shop", "another run"):
        assert "(another run)" in run("recovery_point", **asked)["cause"]
    taking["failed"] = ("connection refused",)
    result = run("recovery_point", **asked)
    assert (result["failed"], result["changed"]) == (True, True)
    assert result["msg"].startswith(f"The recovery point {result['id']} is there.")
    assert "connection refused" in result["msg"]
    taking.update(failed=(), unheld=2)
    result = run("recovery_point", **asked)
    assert (result["failed"], result["unheld"]) == (True, 2)
    assert "2 objects could not be held by the vault" in result["msg"]


# --- database_backup ---


class Server:
    """A server that can be reached, or not."""

    user, database, version_num = "app", "shop", 170012

    def __init__(self, problem: str = "", databases: tuple[str, ...] = ("shop",)) -> None:
        self.problem = problem
        self.there = databases

    def execute(self, sql: str, **_: Any) -> list[Any]:
        if self.problem:
            raise LifeboatError("find the database", "shop", self.problem)
        return [4096] if any(f"'{name}'" in sql for name in self.there) else []

    def databases(self) -> list[str]:
        return list(self.there)

    def session(self, database: str) -> Server:
        return self

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], None]:
    def use(one: Server) -> None:
        monkeypatch.setattr(runtime, "connect", lambda config: None)
        monkeypatch.setattr(database_server, "connect", lambda config, stack, backup=False: one)

    use(Server())
    return use


def test_database_backup_changes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    def take(config: Any, *, log: Any, **_: Any) -> Any:
        log("dumping")
        return publish(tmp_path, datetime.now(timezone.utc))

    monkeypatch.setattr(dump, "take", take)
    planned = run("database_backup", check=True, max_age=3600)
    assert (planned["changed"], "id" in planned, entries(tmp_path)) == (True, False, [])
    done = run("database_backup", max_age=3600)
    (one,) = entries(tmp_path)
    assert (done["changed"], done["id"], done["size"]) == (True, one.id, 729)
    assert (done["details"]["database"], done["log"]) == ("shop", ["dumping"])
    assert done["diff"] == {"before": "", "after": f"{one.id}\n"}
    young = run("database_backup", max_age=3600)
    assert (young["changed"], young["id"]) == (False, one.id)
    assert run("database_backup", check=True, max_age=3600)["changed"] is False
    assert len(entries(tmp_path)) == 1


def test_database_backup_takes_no_broken_nor_another_stacks_backup_for_a_young_one(
    run: Run, tmp_path: Path, server: Any
) -> None:
    now = datetime.now(timezone.utc)
    bad = publish(tmp_path, now)
    (folder(tmp_path, bad) / "database.dump").unlink()
    publish(tmp_path, now + timedelta(seconds=1), stack="blog")
    publish(tmp_path, now - timedelta(hours=2))
    assert run("database_backup", check=True, max_age=3600)["changed"] is True


def test_database_backup_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    def take(config: Any, *, log: Any, **_: Any) -> Any:
        log('the application said {"password": "hunter2"}')
        raise LifeboatError("dump the database", "shop", "password=hunter2 was refused", "Mend it.")

    monkeypatch.setattr(dump, "take", take)
    result = run("database_backup")
    assert result["failed"]
    assert (result["attempted"], result["subject"], result["remedy"]) == ("dump the database", "shop", "Mend it.")
    assert result["msg"].startswith("Could not dump the database (shop): password=********")
    assert "hunter2" not in json.dumps(result)
    with lock.held("shop", "another run"):
        assert "(another run)" in run("database_backup")["msg"]
    server(Server(databases=("blog",)))
    planned = run("database_backup", check=True)
    assert planned["failed"], "check mode looks as far as it can"
    assert "the server has blog" in planned["msg"]


def test_database_backup_names_the_database_that_is_not_in_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    missing = {"missing": {"old": "it takes no connections"}}
    moments = iter([datetime.now(timezone.utc) - timedelta(minutes=1), datetime.now(timezone.utc)])
    monkeypatch.setattr(dump, "take", lambda *_, **__: publish(tmp_path, next(moments), details=missing))
    result = run("database_backup")
    (one,) = entries(tmp_path)
    assert (result["failed"], result["changed"], result["id"], one.good) == (True, True, one.id, False)
    assert "the database old is not in it: it takes no connections" in result["msg"]
    assert "lifeboat_database.exclude" in result["msg"]
    monkeypatch.setattr(points, "seal", lambda *_, **__: (types.SimpleNamespace(
        id="20261124_120000", consistency="snapshot", components={}, ids={}, notes=(), parts={}), True))  # fmt: skip
    told = run("recovery_point")
    assert told["msg"].startswith("The recovery point 20261124_120000 is there. Could not back up every database")


# --- database_info ---


def test_database_info_never_changes(run: Run, server: Any) -> None:
    for check in (True, False):
        result = run("database_info", check=check)
        assert (result["changed"], result["failed"]) == (False, False)
        assert result["database"] == {"name": "shop", "size": 4096, "user": "app", "server_version_num": 170012}
        assert "warnings" not in result


@pytest.mark.parametrize(
    ("version", "warned"),
    [(170010, True), (170011, False), (160014, True), (150018, True), (180000, False), (140001, False)],
)
def test_database_info_warns_of_minors_that_are_not_safe(
    run: Run, server: Any, monkeypatch: pytest.MonkeyPatch, version: int, warned: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text, **_: said.append(text))
    one = Server()
    one.version_num = version  # type: ignore[misc]
    server(one)
    run("database_info")
    assert [("CVE-2026-18408" in text) for text in said] == [True] * warned


@pytest.mark.parametrize(
    ("problem", "there", "words"), [("no route", ("shop",), "no route"), ("", ("blog",), "the server has blog")]
)
def test_database_info_fails(run: Run, server: Any, problem: str, there: tuple[str, ...], words: str) -> None:
    server(Server(problem, there))
    result = run("database_info")
    assert result["failed"]
    assert words in result["msg"]


# --- database_protect ---

REBUILD = dataclasses.replace(PLAN, mode="rebuild", writers=("backend",))
PLANNED: dict[str, Any] = typed.plain(REBUILD)


def test_database_protect_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def protect(config: Any, planned: Any, *, log: Any) -> dict[str, Any]:
        seen.append(planned)
        return {"mode": "rebuild", "fresh": True, "quarantine": "/old", "way_back": ["mv"], "stopped": ["backend"]}

    monkeypatch.setattr(database_protect, "protect", protect)
    planned = run("database_protect", check=True, plan=PLANNED)
    assert (planned["changed"], planned["mode"], planned["fresh"], seen) == (True, "rebuild", True, [])
    assert run("database_protect", check=True, plan={**PLANNED, "one_offs": ["seed"]})["stopped"][-1] == "seed"
    done = run("database_protect", plan=PLANNED)
    assert (done["changed"], done["quarantine"], done["way_back"], seen) == (True, "/old", ["mv"], [REBUILD])


@pytest.mark.parametrize(("mode", "opens"), [("started", True), ("swap", False)])
def test_database_protect_starts_the_writers_of_a_server_that_is_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, mode: str, opens: bool
) -> None:
    def protect(run: Any, planned: Any, *, log: Any) -> Protected:
        log("starting db")
        return Protected(mode)

    monkeypatch.setattr(database_protect, "protect", protect)
    asked = follow(monkeypatch)
    assert "reopened" not in run("database_protect", plan=PLANNED)
    assert "another run" in run("database_protect", plan=PLANNED, reopen=True)["cause"], "by the same plan, again"
    done = run("database_protect", plan={**PLANNED, "turn": 2}, reopen=True)
    assert (asked, "reopened" in done, done["log"]) == ([["backend"]] if opens else [], opens, ["starting db"])
    if opens:
        follows(done)
        follow(monkeypatch, LifeboatError("inspect the service", "db", "no engine"))
        ill = run("database_protect", plan={**PLANNED, "turn": 4}, reopen=True)["reopened"]
        assert (ill["verdict"], ill["checks"][0]["detail"]) == (checks.FAIL, "no engine"), "a check, and not an error"


def follow(monkeypatch: pytest.MonkeyPatch, error: Optional[LifeboatError] = None) -> list[list[str]]:
    """The reopen phase after another one: what it was asked to start."""
    asked: list[list[str]] = []

    def reopen(run: Any, services: Any, *, log: Any) -> list[checks.Check]:
        asked.append(list(services))
        log("starting the writers")
        if error:
            raise error
        return [checks.Check("service backend", checks.PASS, "")]

    monkeypatch.setattr(database_reopen, "reopen", reopen)
    return asked


def follows(done: dict[str, Any]) -> None:
    """Each of the two phases has its own time and its own log."""
    after = done["reopened"]
    assert (after["verdict"], after["log"]) == (checks.PASS, ["starting the writers"])
    assert done["phase"]["finished_at"] <= after["phase"]["started_at"] <= after["phase"]["finished_at"]


def test_database_protect_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def protect(config: Any, planned: Any, *, log: Any) -> dict[str, Any]:
        log("stopping the writers")
        raise LifeboatError("stop services", "backend", "the engine is gone")

    monkeypatch.setattr(database_protect, "protect", protect)
    result = run("database_protect", plan=PLANNED)
    assert result["failed"]
    assert (result["cause"], result["log"]) == ("the engine is gone", ["stopping the writers"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"mode": "other"}, "mode): 'other' is not one of"), ({"writers": "backend"}, "writers): wants a list"),
     ({"more": 1}, "does not know more"), ({"passed_over": [{"id": 5, "problem": ""}]}, "[0].id): wants str")],
)  # fmt: skip
def test_database_protect_takes_a_whole_plan_only(run: Run, changes: dict[str, Any], words: str) -> None:
    result = run("database_protect", plan={**PLANNED, **changes})
    assert result["failed"]
    assert words in result["msg"]


def test_database_protect_fails_without_a_plan(run: Run) -> None:
    assert "plan" in run("database_protect", plain=True)["msg"]


# --- database_restore ---


def test_database_restore_changes_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = publish(tmp_path)
    asked: list[Any] = []

    def restore(opened: Any, identity: str, **options: Any) -> dict[str, Any]:
        asked.append((identity, options["fresh"], options["stamp"], options["asked"]))
        database_recovery.remember(opened.config, {"id": identity, "at": format_time(NOW), "asked": ""})
        return {"id": identity, "checks": [], "quarantined_database": "old", "seconds": {}}

    monkeypatch.setattr(database_recovery, "restore_database", restore)
    planned = run("database_restore", check=True)
    assert (planned["changed"], planned["id"], asked) == (True, one.id, [])
    done = run("database_restore", fresh=True, stamp="S", asked="2026-11-24T12:00:00Z")
    assert (done["changed"], done["quarantined_database"]) == (True, "old")
    assert done["diff"] == {"before": "\n", "after": f"{one.id}\n"}
    assert asked == [(one.id, True, "S", "2026-11-24T12:00:00Z")]
    again = run("database_restore")
    assert (again["changed"], again["id"], len(asked)) == (False, one.id, 1)
    assert run("database_restore", check=True)["changed"] is False
    assert run("database_restore", force=True)["changed"] is True
    assert asked[1][1] is False
    assert len(asked[1][2]) == len("20261124_020000"), "an empty stamp means now"
    started, dropped = follow(monkeypatch), []

    def left(opened: Any, identity: str, *, wanted: database_recovery.Wanted, **options: Any) -> dict[str, Any]:
        def drop() -> None:
            dropped.append("after the reopen" if started else "before it")
            raise LifeboatError("drop the database", "shop_quarantine", "it is in use")

        if wanted.later is not None:
            wanted.later.append(drop)
        return restore(opened, identity, **options)

    monkeypatch.setattr(database_recovery, "restore_database", left)
    assert "reopened" not in run("database_restore", force=True, services=["backend"])
    assert dropped == []
    follows(run("database_restore", force=True, reopen=True, services=["backend"]))
    assert started == [["backend"]]
    assert dropped == ["after the reopen"]


def test_database_restore_accepts_a_failed_backup_that_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one, checks.FAIL)
    asked: list[Any] = []

    def restore(opened: Any, identity: str, **options: Any) -> dict[str, Any]:
        asked.append((identity, options["accept"]))
        return {"id": identity, "checks": []}

    monkeypatch.setattr(database_recovery, "restore_database", restore)
    refused = run("database_restore", id=one.id)
    assert (refused["failed"], asked) == (True, [])
    assert f"-e recovery_point={one.id} -e accept=failed" in refused["remedy"]
    assert "it needs the id of a backup" in run("database_restore", accept="failed")["cause"]
    assert run("database_restore", check=True, id=one.id, accept="failed")["changed"] is True
    assert asked == []
    assert run("database_restore", id=one.id, accept="failed")["changed"] is True
    assert asked == [(one.id, True)]


def test_database_restore_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = run("database_restore")
    assert none["failed"]
    assert "the repository holds no backup" in none["msg"]
    publish(tmp_path)

    def restore(config: Any, identity: str, **_: Any) -> dict[str, Any]:
        raise IntegrityError("prove the restored database", identity, "tables: x differs", "shop is untouched.")

    monkeypatch.setattr(database_recovery, "restore_database", restore)
    result = run("database_restore")
    assert result["failed"]
    assert "tables: x differs" in result["msg"]
    assert recovery_state.recovered(make_config(tmp_path)) is None
    assert run("database_restore", id="db_backup_20200101_000000")["failed"]
    assert run("database_restore", check=True, id="db_backup_20200101_000000")["failed"]


# --- evidence ---

PLAN: dict[str, Any] = {
    "condition": "damaged", "findings": [], "unchecked": [], "passed_over": [], "target_seconds": 60,
    "backup": {"id": "x", "taken_at": format_time(NOW), "age_seconds": 1, "size": 1},
}  # fmt: skip
PHASES = [{"name": "restore", "started_at": format_time(NOW), "finished_at": format_time(NOW + timedelta(seconds=5))}]
RECORD: dict[str, Any] = {
    "scenario": "database",
    "plan": PLAN,
    "phases": PHASES,
    "checks": [{"name": "tables", "result": "PASS", "detail": ""}],
}


def test_evidence_changes(run: Run, tmp_path: Path) -> None:
    planned = run("evidence", check=True, **RECORD)
    assert (planned["verdict"], planned["path"], (tmp_path / "state").exists()) == ("PASS", "", False)
    done = run("evidence", reason="a test", operator="me", **RECORD)
    assert (done["changed"], done["verdict"], done["record"]["reason"]) == (True, "PASS", "a test")
    assert json.loads(Path(done["path"]).read_text(encoding="utf-8")) == done["record"]
    assert done["text"][0].startswith("database of shop on ")
    failed = run("evidence", error="boom", **RECORD)
    assert (failed["failed"], failed["verdict"]) == (False, "FAIL"), "to record a failure is no failure"


def test_evidence_fails_clearly_where_it_cannot_be_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    result = run("evidence", **RECORD)
    assert result["failed"]
    assert (result["attempted"], "Not a directory" in result["cause"]) == ("keep the evidence", True)


# --- database_plan ---


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    class Stack:
        def dependants(self, service: str) -> list[str]:
            return ["backend"]

        def one_offs(self, service: str, *more: str) -> list[str]:
            return []

        def state(self, service: str) -> ServiceState:
            return ServiceState(exists=True, running=True)

    def use(condition: str) -> None:
        monkeypatch.setattr(runtime, "connect", lambda config: Stack())
        monkeypatch.setattr(
            database_assess,
            "assess",
            lambda config, reference: database_assess.Assessment(condition, ("why",), "", damaged=("shop",)),
        )
        monkeypatch.setattr(database_plan, "_require_major", lambda *_: None)
        monkeypatch.setattr(database_plan, "_require_space", lambda *_: None)
        monkeypatch.setattr(Logical, "require_room", lambda *_: None)
        monkeypatch.setattr(database_plan, "_wal_elsewhere", lambda *_: "")
        monkeypatch.setattr(database_plan, "_clients", lambda *_: [])
        monkeypatch.setattr(database_plan, "_require_no_prepared", lambda *_: None)
        monkeypatch.setattr(database_plan, "_staying", lambda *_: [])
        monkeypatch.setattr(database_plan, "_of_passwords", lambda *_: [])

    return use


def test_database_plan_info_never_changes(run: Run, tmp_path: Path, seen: Any) -> None:
    old, new = publish(tmp_path, NOW - timedelta(days=1)), publish(tmp_path)
    seen(recovery_state.HEALTHY)
    for check in (True, False):
        result = run("database_plan_info", check=check)
        assert (result["changed"], result["needed"], result["plan"]["mode"]) == (False, False, "none")
    seen(recovery_state.DAMAGED)
    result = run("database_plan_info")
    assert (result["changed"], result["needed"], result["plan"]["backup"]["id"]) == (False, True, new.id)
    assert result["text"][0] == "the database is damaged"
    earlier = run("database_plan_info", recovery_time="2026-11-24T20:59:59+09:00")
    assert earlier["plan"]["backup"]["id"] == old.id
    assert run("database_plan_info", recovery_point=old.id)["plan"]["backup"]["id"] == old.id
    assert run("database_plan_info", method="rebuild")["plan"]["mode"] == "rebuild"


def test_only_a_plan_that_is_carried_out_leaves_a_hold(run: Run, tmp_path: Path, seen: Any) -> None:
    one = publish(tmp_path)
    hold = tmp_path / "backup/holds" / f"{one.id}.json"
    said = f"  {one.id} is held for 24 hours: no prune deletes it meanwhile"
    for condition, options in (
        (recovery_state.DAMAGED, {}), (recovery_state.DAMAGED, {"hold": True, "check": True}),
        (recovery_state.HEALTHY, {"hold": True}),
    ):  # fmt: skip
        seen(condition)
        assert said not in run("database_plan_info", **options)["text"]
        assert not hold.exists()
    seen(recovery_state.DAMAGED)
    assert said in run("database_plan_info", hold=True)["text"]
    assert hold.exists()


def test_database_plan_accepts_a_failed_backup_that_is_named(run: Run, tmp_path: Path, seen: Any) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one, checks.FAIL)
    seen(recovery_state.DAMAGED)
    assert "-e accept=failed" in run("database_plan_info", recovery_point=one.id)["remedy"]
    result = run("database_plan_info", recovery_point=one.id, accept="failed")
    assert (result["failed"], result["changed"], result["plan"]["backup"]["id"]) == (False, False, one.id)
    (why,) = result["plan"]["accepted"]
    assert f"  ACCEPTED although it failed: {why}" in result["text"]
    assert "it needs the id of a backup" in run("database_plan_info", accept="failed")["cause"]
    assert "must be one of: , failed" in run("database_plan_info", plain=True, accept="all")["msg"]


def test_database_plan_info_fails(run: Run, tmp_path: Path, seen: Any) -> None:
    seen(recovery_state.DAMAGED)
    assert "the repository holds no backup" in run("database_plan_info")["msg"]
    publish(tmp_path)
    for asked, words in (
        ({"recovery_time": "yesterday"}, "it is not ISO 8601"),
        ({"recovery_time": "2001-01-01"}, "Ask for a later recovery_time"),
        ({"recovery_point": "db_backup_20200101_000000"}, "the repository has"),
        ({"method": "magic"}, "must be one of: auto, swap, rebuild, physical"),
    ):
        result = run("database_plan_info", plain="method" in asked, **asked)
        assert result["failed"]
        assert words in result["msg"]


def test_what_a_damaged_database_is_brought_back_to_is_no_guess(
    run: Run, tmp_path: Path, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = publish(tmp_path)
    asked: list[tuple[str, str]] = []

    def choices(_: Any, backup: str, taken_at: str, __: Any) -> list[str]:
        asked.append((backup, taken_at))
        return ["-e before=0/1  before DROP TABLE app.items"]

    monkeypatch.setattr(instants, "choices", choices)
    protected = {**settings(tmp_path), "wal": {"enabled": True, "spool_directory": f"{tmp_path}/spool"}}
    seen(recovery_state.DAMAGED)
    shown = run("database_plan_info", settings=protected)
    assert shown["text"][-2:] == [
        "it can be brought back to more than one state; add one of these to the command:",
        "  -e before=0/1  before DROP TABLE app.items",
    ]  # fmt: skip
    refused = run("database_plan_info", settings=protected, hold=True)
    assert refused["failed"]
    assert "it can be brought back to more than one state" in refused["cause"]
    assert refused["remedy"] == "Add one of these: -e before=0/1  before DROP TABLE app.items"
    assert not (tmp_path / "backup/holds").exists(), "a plan that is refused leaves nothing"
    assert asked == [(newest.id, format_time(newest.taken_at))] * 2
    for options in ({"recovery_point": newest.id}, {"check": True, "hold": True}):
        assert run("database_plan_info", settings=protected, **options)["needed"]
    assert run("database_plan_info", hold=True)["needed"], "without continuous protection there is the backup alone"
    seen(recovery_state.HEALTHY)
    assert not run("database_plan_info", settings=protected, hold=True)["needed"]


# --- database_instant ---


def stood(run: Run, monkeypatch: pytest.MonkeyPatch, backup: Any) -> tuple[dict[str, Any], list[Any]]:
    """A plan for the end of the WAL, and the instants of which a backup is taken: it is the one that is there."""
    taken: list[Any] = []
    way = Replay(
        "latest", "latest", "", 3, "base_backup_20261124_013000", "2026-11-24T01:30:00.000Z", 1, "2026-11-24T12:30:00Z"
    )

    def dump(_: Any, instant: Any, __: Any, timeline: int) -> Any:
        taken.append((instant, timeline))
        return backup

    monkeypatch.setattr(instants, "replay", lambda *_: way)
    monkeypatch.setattr(instants, "dump", dump)
    made = run("database_plan_info", recovery_time="latest", hold=True)
    assert (made["needed"], made["plan"]["replay"]["base"]) == (True, way.base)
    assert "is held" not in str(made["text"]), "nothing of that backup is used"
    return made["plan"], taken


def test_database_instant_changes(run: Run, tmp_path: Path, seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = publish(tmp_path)
    seen(recovery_state.DAMAGED)
    plan, taken = stood(run, monkeypatch, newest)
    checked = run("database_instant", plan=plan, check=True)
    assert (checked["changed"], checked["plan"], taken) == (True, plan, []), "nothing is taken"
    done = run("database_instant", plan=plan, hold=True)
    assert (done["changed"], done["id"], done["needed"], taken) == (True, newest.id, True, [(Latest(), 3)])
    assert (done["plan"]["backup"]["id"], done["plan"]["state"]) == (newest.id, "latest")
    assert "replay" not in done["plan"], "the later phases go by that backup"
    assert done["diff"]["after"] == f"{newest.id}\n"
    assert (tmp_path / "backup/holds" / f"{newest.id}.json").exists()


def test_database_instant_fails(run: Run, tmp_path: Path, seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = publish(tmp_path)
    seen(recovery_state.DAMAGED)
    plan, _taken = stood(run, monkeypatch, newest)

    def away(*_: Any) -> Any:
        raise UnverifiedError("stand at an instant", "base", "the archive cannot be read", "Mount it.")

    monkeypatch.setattr(instants, "dump", away)
    result = run("database_instant", plan=plan)
    assert result["failed"]
    assert (result["cause"], result["remedy"]) == ("the archive cannot be read", "Mount it.")
    assert "a timeline alone is no instant" in run("database_plan_info", timeline=2)["msg"]
    nowhere = {**plan, "replay": {**plan["replay"], "recovery_time": ""}}
    assert "goes back to a backup that there is" in run("database_instant", plan=nowhere)["msg"], "it names no instant"
    other = run("database_plan_info")["plan"]
    assert "the plan goes back to a backup that there is" in run("database_instant", plan=other)["msg"]


# --- stack_reopen ---


def test_stack_reopen_changes_what_is_asleep(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    awake = {"db", "backend"}
    started: list[Any] = []

    class Stack:
        def state(self, service: str) -> ServiceState:
            if service == "gone":
                raise NotFoundError("find the service", "gone in shop", "the project has backend, db")
            return ServiceState(exists=True, running=service in awake)

    def reopen(config: Any, services: Any, *, log: Any) -> list[checks.Check]:
        started.append(list(services))
        return [checks.Check("service backend", checks.PASS if "backend" in services else checks.FAIL, "")]

    monkeypatch.setattr(runtime, "connect", lambda config: Stack())
    monkeypatch.setattr(recovery_reopen, "reopen", reopen)
    assert run("stack_reopen", services=["backend"])["changed"] is False
    awake.remove("backend")
    planned = run("stack_reopen", check=True, services=["backend"])
    assert (planned["changed"], planned["verdict"], len(started)) == (True, checks.COULD_NOT_VERIFY, 1)
    done = run("stack_reopen", services=["backend"])
    assert (done["changed"], done["verdict"], started[-1]) == (True, checks.PASS, ["backend"])
    ill = run("stack_reopen", services=[])
    assert (ill["failed"], ill["verdict"]) == (False, checks.FAIL), "what is wrong is a check; the caller decides"
    assert run("stack_reopen", services=["gone"])["failed"]


LOGINS: list[tuple[str, Any, str, str]] = [
    ("opened", [], checks.PASS, ""),
    ("a fresh server's", ["shop"], checks.FAIL, "closed to shop, a fresh server's and not filled yet"),
    ("no server", LifeboatError("open", "db", "refused", "Start it."), checks.FAIL, "refused. Start it."),
]  # fmt: skip


@pytest.mark.parametrize(("left", "verdict", "words"), [case[1:] for case in LOGINS], ids=[case[0] for case in LOGINS])
def test_stack_reopen_opens_the_logins_before_the_writers_start(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Any, verdict: str, words: str
) -> None:
    diary: list[str] = []

    class Stack:
        def state(self, service: str) -> ServiceState:
            return ServiceState(exists=True, running=True)

    def open_(opened: Any, *, log: Any) -> list[str]:
        diary.append("logins")
        if isinstance(left, LifeboatError):
            raise left
        return list(left)

    def reopen(config: Any, services: Any, *, log: Any) -> list[checks.Check]:
        diary.append("writers")
        return [checks.Check("service backend", checks.PASS, "")]

    monkeypatch.setattr(runtime, "connect", lambda config: Stack())
    monkeypatch.setattr(recovery_reopen, "reopen", reopen)
    monkeypatch.setattr(logins, "reopen", open_)
    assert run("stack_reopen", services=["backend"])["changed"] is False
    recovery_state.mark(make_config(tmp_path), logins.CLOSED)
    assert run("stack_reopen", check=True, services=["backend"])["changed"] is True
    done = run("stack_reopen", services=["backend"])
    assert (done["changed"], done["verdict"], diary[-2:]) == (True, verdict, ["logins", "writers"])
    assert words in done["checks"][0]["detail"]


def test_database_restore_opens_the_logins_however_it_ends(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    @contextlib.contextmanager
    def opened_afterwards(opened: Any, *, log: Any) -> Iterator[None]:
        try:
            yield
        finally:
            ended.append("opened")

    def fails(*_: Any, **__: Any) -> None:
        raise LifeboatError("restore", "shop", "no space")

    publish(tmp_path)
    monkeypatch.setattr(logins, "opened_afterwards", opened_afterwards)
    monkeypatch.setattr(database_recovery, "restore_database", fails)
    assert "no space" in run("database_restore")["msg"]
    assert ended == ["opened"]


def test_stack_reopen_fails(run: Run, tmp_path: Path) -> None:
    missing = {**settings(tmp_path), "runtime": {"project_directory": str(tmp_path / "gone")}}
    result = run("stack_reopen", settings=missing)
    assert result["failed"]
    assert "there is no such directory" in result["msg"]
