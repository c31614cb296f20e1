# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a machine: nothing on it, half of it dead, all well, and what it lacks."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import assess as objects_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened, ServiceState
from builders import BUCKET, Runner, make_config

UP = ServiceState(exists=True, running=True, status="running")
DEAD = ServiceState(exists=True, status="exited", exit_code=137)
NO_DOCKER = (127, "", "No such file or directory")


class Stack:
    def __init__(self, **states: ServiceState) -> None:
        self.states = states

    def state(self, service: str) -> ServiceState:
        return self.states[service]


def look(root: Path, **changes: Any) -> scope.HostState:
    return scope.assess_host(Opened(make_config(root, **changes)), deep=True, log=lambda _: None)


def test_an_empty_machine(runner: Runner, tmp_path: Path) -> None:
    runner.expect("docker", NO_DOCKER)
    found = look(tmp_path)
    assert (found.running, found.stopped, found.components, found.recovery) == ((), (), (), None)
    assert (found.machine.engine, found.machine.compose, found.unknown) == ("", "", "")
    assert found.machine.free_bytes > 0
    assert scope.described("spare1", found) == ["spare1: nothing of the stack is on it"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((1, "", "Cannot connect to the Docker daemon"), "Cannot connect to the Docker daemon"),
        ((1, "", "first\npermission denied: docker.sock"), "permission denied: docker.sock"),
        ((124, "", "no answer after 60 s"), "no answer after 60 s"),
        ((1, "", ""), "docker ps exited 1"),
    ],
)
def test_an_engine_that_does_not_tell_is_not_an_empty_machine(
    runner: Runner, tmp_path: Path, answer: tuple[int, str, str], why: str
) -> None:
    """Its containers may run, and their users reach them."""
    runner.expect("docker", answer)
    found = look(tmp_path)
    assert (found.running, found.stopped) == ((), ())
    assert found.unknown == f"its engine does not answer: {why}"
    assert scope.answered(typed.plain(found, nulls=True)).unknown == found.unknown
    assert scope.described("app1", found) == [f"app1: what runs there could not be seen ({found.unknown})"]


@pytest.mark.parametrize(
    ("seen", "doubt"),
    [
        ("timed out", ""),
        ({"running": []}, ""),
        ({"running": [], "unknown": "no engine"}, "no engine"),
        ({"failed": "no Python"}, "no Python"),
        ({"failed": ""}, "it did not say why"),
        ({}, "it did not say why"),
        ({"running": "db"}, "its answer is of another shape: running wants a list, has 'db'"),
        ({"running": [7]}, "its answer is of another shape: running[0] wants str, has 7"),
        ({"running": [], "machine": {"free_bytes": 10**30}}, "machine.free_bytes has a number beyond 1e+18"),
        ({"running": [], "components": [{"name": "database"}]}, "components[0] lacks condition"),
    ],
)
def test_doubt(seen: Any, doubt: str) -> None:
    found = scope.answered(seen).unknown
    assert found == doubt or (doubt and found.endswith(f": {doubt}"))


@pytest.mark.parametrize(
    ("database", "states", "expected"),
    [
        (recovery_state.HEALTHY, {"web": UP}, [("database", "healthy", ""), ("application", "healthy", "")]),
        (
            recovery_state.DOWN,
            {"web": DEAD},
            [
                ("database", "down", "lifeboat.dr.recover_database"),
                ("application", "down", "lifeboat.dr.recover_backend"),
            ],
        ),
        (
            recovery_state.HEALTHY,
            {"web": UP, "job": DEAD},
            [("database", "healthy", ""), ("application", "damaged", "lifeboat.dr.recover_backend")],
        ),
    ],
)
def test_each_component_and_the_scenario_that_mends_it(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    database: str, states: dict[str, ServiceState], expected: list[tuple[str, str, str]],
) -> None:  # fmt: skip
    rows = "".join(f"{state.status}\t{name}\n" for name, state in {"db": UP, **states}.items())
    runner.expect("docker ps", rows)
    runner.expect("docker", "29.1")
    monkeypatch.setattr(database_assess, "assess", lambda *_: database_assess.Assessment(database, ("why",), "x"))
    monkeypatch.setattr(runtime, "connect", lambda _: Stack(db=UP, **states))
    found = look(tmp_path)
    assert [(component.name, component.condition, component.scenario) for component in found.components] == expected
    assert any(f"database: {database}; why" in line for line in scope.described("a", found))


def test_what_cannot_be_assessed_is_unknown_not_healthy(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise LifeboatError("look", "it", "no answer")

    runner.expect("docker ps", "running\tdb\n")
    runner.expect("docker", "29.1")
    for module in (database_assess, objects_assess):
        monkeypatch.setattr(module, "assess", fails)
    monkeypatch.setattr(scope, "_application", lambda *_: scope.Component("application", "unknown"))
    found = look(tmp_path, **BUCKET)
    assert [component.condition for component in found.components] == ["unknown"] * 3
    assert [component.scenario for component in found.components] == [""] * 3


def test_paused_and_restarting_containers_live(runner: Runner, tmp_path: Path) -> None:
    runner.expect("docker ps", "paused\tdb\nrestarting\tweb\nexited\tjob\n\n")
    assert scope.services(Opened(make_config(tmp_path))) == (("db", "web"), ("job",))
    assert f"working_dir={tmp_path}" in runner.ran[0]
    scope.services(Opened(make_config(tmp_path, runtime={"project": "other"})))
    assert "label=com.docker.compose.project=other" in runner.ran[1]


def test_units_of_a_host_without_docker(runner: Runner, tmp_path: Path) -> None:
    shown = "LoadState={}\nActiveState={}\nSubState=x\nNRestarts=0\nExecMainStatus=0\n"
    runner.expect("systemctl show .* pg", shown.format("loaded", "active"))
    runner.expect("systemctl show .* app", shown.format("loaded", "failed"))
    one = make_config(tmp_path, runtime={"type": "host"}, database={"service": "pg"}, application={"writers": ["app"]})
    assert scope.services(Opened(one)) == (("pg",), ("app",))


def test_a_port_that_is_taken_is_seen(runner: Runner, tmp_path: Path) -> None:
    runner.expect("docker", NO_DOCKER)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        urls = (f"http://127.0.0.1:{port}/health", "https://elsewhere.example/")
        checks = [{"url": url} for url in urls]
        one = make_config(tmp_path, application={"checks": checks})
        assert scope.ports(one) == [port]
        assert scope.machine(one).taken == (port,)


def test_what_the_vault_takes_is_named_as_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope.shutil, "which", lambda _: None)
    monkeypatch.setattr(scope.importlib.util, "find_spec", lambda _: None)
    assert scope.missing_tools() == ("python3-boto3", "age")
    monkeypatch.setattr(scope.shutil, "which", lambda _: "/usr/bin/age")
    monkeypatch.setattr(scope.importlib.util, "find_spec", lambda _: object())
    assert scope.missing_tools() == ()


def test_a_machine_that_cannot_be_reached_is_lost() -> None:
    assert scope.answered("").lost == "it did not say why"
    assert scope.described("app1", scope.answered("timed out")) == ["app1: lost, it cannot be reached (timed out)"]


def test_the_system_is_named(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    assert scope._system(release) == "an unknown system"
    release.write_text('NAME="x"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    assert scope._system(release) == "Debian GNU/Linux 13 (trixie)"
