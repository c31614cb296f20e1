# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What docker and systemd say of a service, and what is asked of them; only the process runner is replaced."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import compose as compose_module
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime, service
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import within
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import (
    ComposeRuntime,
    DataMount,
    HostRuntime,
    ServiceState,
    exec_command,
    last_words,
)
from builders import Runner, make_config

SECRET = "hunter2"
PROJECT: dict[str, Any] = {
    "name": "shop",
    "services": {
        "db": {
            "image": "postgres:17",
            "environment": {"PGDATA": "/data/pg"},
            "volumes": [
                {"type": "volume", "source": "data", "target": "/data"},
                {"type": "bind", "source": "/srv/conf", "target": "/etc/postgresql"},
            ],
        },
        "backend": {"depends_on": {"db": {"condition": "service_healthy"}}},
        "worker": {"depends_on": {"backend": {}}},
        "report": {"depends_on": ["db"]},
        "cache": {},
        "web": {"depends_on": {"worker": {}, "cache": {}}},
    },
    "volumes": {"data": {"name": "shop_data"}},
}


def container(**changes: Any) -> dict[str, Any]:
    state = {"Status": "running", "Running": True, "Restarting": False, "Paused": False, "ExitCode": 0}
    return {
        "Id": "c0ffee",
        "Image": "sha256:1",
        "RestartCount": changes.pop("restarts", 0),
        "Config": {"Image": "postgres:17", "Env": changes.pop("env", ["POSTGRES_USER=app", "X=a=b", "ODD"])},
        "Mounts": changes.pop("mounts", []),
        "State": {**state, **changes},
    }


def stopped(code: int = 1) -> dict[str, Any]:
    return container(Status="exited", Running=False, ExitCode=code)


@pytest.fixture
def compose(tmp_path: Path) -> ComposeRuntime:
    return ComposeRuntime(make_config(tmp_path))


def answer(runner: Runner, *containers: dict[str, Any], project: Any = None) -> None:
    runner.expect("^docker compose .* config --format json$", json.dumps(project or PROJECT))
    runner.expect("^docker ps .*working_dir", "")
    runner.expect("^docker ps ", "".join(f"{number}\n" for number, _ in enumerate(containers)))
    runner.expect("^docker inspect ", json.dumps(containers))


# (containers that docker inspects, the state, its words, is it well)
STATES: list[tuple[str, list[dict[str, Any]], dict[str, Any], str, bool]] = [
    ("running", [container()], {"exists": True, "running": True, "health": "none"}, "running", True),
    ("healthy", [container(Health={"Status": "healthy"})], {"running": True, "health": "healthy"}, "running, healthy", True),
    ("starting", [container(Health={"Status": "starting"})], {"running": True}, "running, starting", False),
    ("unhealthy", [container(Health={"Status": "unhealthy"})], {"running": True}, "running, unhealthy", False),
    ("no health check", [container(Health=None)], {"health": "none"}, "running", True),
    ("exited", [stopped()], {"exists": True, "running": False, "exit_code": 1}, "exited, exit code 1", False),
    ("exited well", [stopped(0)], {"running": False}, "exited", False),
    ("restarting", [container(Status="restarting", Restarting=True, ExitCode=1, restarts=7)],
     {"running": False, "restarts": 7}, "restarting, exit code 1, restarted 7 times", False),
    ("paused", [container(Status="paused", Paused=True)], {"running": False}, "paused", False),
    ("created", [container(Status="created", Running=False)], {"running": False}, "created", False),
    ("dead and another runs", [stopped(), container()], {"running": True}, "running", True),
    ("no environment", [container(env=None)], {"environment": {}}, "running", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("containers", "fields", "words", "well"), [case[1:] for case in STATES], ids=[case[0] for case in STATES]
)
def test_state(
    runner: Runner,
    compose: ComposeRuntime,
    containers: list[dict[str, Any]],
    fields: dict[str, Any],
    words: str,
    well: bool,
) -> None:
    answer(runner, *containers)
    found = compose.state("db")
    assert {key: getattr(found, key) for key in fields} == fields
    assert (found.describe(), found.well) == (words, well)
    asked = next(command for command in runner.ran if command.startswith("docker ps"))
    for label in ("project=shop", "service=db", "oneoff=False"):
        assert f"label=com.docker.compose.{label}" in asked


def test_a_container_that_went_since_it_was_listed_is_left_out(runner: Runner, compose: ComposeRuntime) -> None:
    """The engine's other stacks come and go between the two commands."""
    gone = "Error: No such object: 1\n"
    runner.expect("^docker compose .* config --format json$", json.dumps(PROJECT))
    runner.expect("^docker ps ", "0\n1\n")
    runner.expect("^docker inspect 0 1$", (1, json.dumps([container()]), gone))
    assert [found.id for found in compose.containers()] == ["c0ffee"]
    runner.answers[-1] = ("^docker inspect ", (1, json.dumps([container()]), f"{gone}permission denied\n"))
    with pytest.raises(LifeboatError, match="permission denied"):
        compose.containers()
    runner.answers[-1] = ("^docker inspect ", (1, "", ""))
    with pytest.raises(LifeboatError, match="exit 1"):
        compose.containers()


def test_the_volumes_of_a_stack_are_those_that_it_made_and_mounts(runner: Runner, compose: ComposeRuntime) -> None:
    """An external one has no label of the project; another stack's is none of ours."""
    mounts = [
        {"Type": "volume", "Name": "elsewhere", "Destination": "/a"},
        {"Type": "bind", "Source": "/srv", "Destination": "/b"},
    ]
    answer(runner, container(mounts=mounts))
    runner.expect("^docker volume ls --quiet --filter label=com.docker.compose.project=shop$", "shop_data\n")
    assert compose.volumes() == ["elsewhere", "shop_data"]


def test_several_services_are_asked_for_at_once(runner: Runner, compose: ComposeRuntime) -> None:
    """Each look at a stack was two programs for each of its services."""
    found = []
    for name, one in (("db", container()), ("web", stopped()), ("web", container())):
        one["Config"]["Labels"] = {"com.docker.compose.service": name}
        found.append(one)
    runner.expect("^docker compose .* config --format json$", json.dumps(PROJECT))
    runner.expect("^docker ps .*working_dir", "")
    runner.expect("^docker ps .*service=(cache|dv) ", "")
    runner.expect("^docker ps .*--format .*project=shop .*oneoff=False$", "1=db\n2=web\n3=web\n4=worker\n")
    runner.expect("^docker inspect", json.dumps(found))
    well = runtime.wait_until_well(compose, ["db", "web"], timeout=60)
    assert well == {"db": "running", "web": "running"}
    looks = [command for command in runner.ran if "working_dir" not in command and " compose " not in command]
    assert [command.split()[1] for command in looks] == ["ps", "inspect"]
    assert runner.ran[-1] == "docker inspect 1 2 3", "no other service's"
    assert compose.states(["web", "cache"])["cache"] == ServiceState()
    with pytest.raises(NotFoundError, match="the project has backend, cache"):
        compose.states(["db", "dv"])


def test_state_reads_image_id_and_environment(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner, container())
    found = compose.state("db")
    assert (found.id, found.image, found.image_id) == ("c0ffee", "postgres:17", "sha256:1")
    assert found.environment == {"POSTGRES_USER": "app", "X": "a=b"}


def test_the_project_is_read_ahead_once(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner, container())
    compose.read_ahead()
    compose.read_ahead()
    assert compose.project == "shop"
    assert compose.state("db").running
    compose.read_ahead()
    assert sum("config --format json" in command for command in runner.ran) == 1


def test_a_project_that_cannot_be_read_ahead_is_an_error_where_it_is_needed(
    runner: Runner, compose: ComposeRuntime
) -> None:
    runner.expect("^docker compose .* config --format json$", "{")
    runner.expect("^docker ps .*working_dir", "")
    compose.read_ahead()
    for _turn in range(2):
        with pytest.raises(LifeboatError, match="Could not read the Compose project"):
            _ = compose.project
    assert sum("config --format json" in command for command in runner.ran) == 2, "the second asks again"


def test_nothing_is_read_ahead_where_the_name_is_configured(runner: Runner, tmp_path: Path) -> None:
    named = ComposeRuntime(make_config(tmp_path, runtime={"project": "shop"}))
    named.read_ahead()
    assert named.project == "shop"
    assert not runner.ran


def test_an_absent_service_is_a_state_and_an_unknown_one_an_error(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner)
    assert compose.state("db") == ServiceState()
    assert compose.state("db").describe() == "absent"
    with pytest.raises(NotFoundError, match="the project has backend, cache, db, report, web, worker"):
        compose.state("dv")


def test_a_directory_that_runs_under_another_name_is_no_absence(runner: Runner, compose: ComposeRuntime) -> None:
    """Starting the database of a project that is not running would make a second, empty one."""
    runner.expect("^docker compose .* config", json.dumps(PROJECT))
    runner.expect("working_dir", "renamed\nrenamed\n")
    runner.expect("^docker ps ", "")
    with pytest.raises(UsageError, match=r"runs as project renamed.*Set lifeboat_runtime.project"):
        compose.state("db")


def test_the_engine_does_not_answer(runner: Runner, compose: ComposeRuntime) -> None:
    runner.expect("config --format json", json.dumps(PROJECT))
    runner.expect("^docker ps", (1, "", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock"))
    with pytest.raises(LifeboatError, match=r"Cannot connect to the Docker daemon.*systemctl status docker"):
        compose.state("db")


def test_a_project_that_is_not_there(runner: Runner, tmp_path: Path) -> None:
    gone = ComposeRuntime(make_config(tmp_path, runtime={"project_directory": str(tmp_path / "gone")}))
    runner.expect("^docker ps --all --filter")
    with pytest.raises(NotFoundError, match="there is no such directory"):
        gone.state("db")
    assert len(runner.ran) == 1, "only its containers could have told"


def test_the_files_and_the_name_of_the_project_are_passed_on(runner: Runner, tmp_path: Path) -> None:
    settings = {"project_directory": str(tmp_path), "files": ["a.yml", "/abs/b.yml"], "project": "named"}
    one = ComposeRuntime(make_config(tmp_path, runtime=settings))
    runner.expect("^docker compose")
    runner.expect("^docker ps")
    one.start(["db", "web"], timeout=5)
    one.stop(["web"], timeout=5)
    one.discard("db", timeout=5)
    one.prepare("db", timeout=5)
    one.start([], timeout=5)
    one.stop([], timeout=5)
    base = (
        f"docker compose --project-directory {tmp_path} --file {tmp_path}/a.yml --file /abs/b.yml --project-name named"
    )
    assert [call for call in runner.ran if not call.startswith("docker ps")] == [
        f"{base} up --detach --no-deps --no-recreate db web",
        f"{base} stop web",
        f"{base} rm --stop --force db",
        f"{base} up --no-start --no-deps --no-recreate db",
    ]
    assert one.by_hand("d b") == (f"{base} rm --stop --force 'd b'", f"{base} up --detach")
    assert one.project == "named"


def test_command(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner, container())
    command = compose.command("db", ["psql", "-c", "x y"], env={"PGPASSWORD": "secret"}, stdin=True, user="pg")
    assert command.argv == [
        "docker", "exec", "--interactive", "--user", "pg", "--env", "PGPASSWORD", "c0ffee", "psql", "-c", "x y",
    ]  # fmt: skip
    assert command.env == {"PGPASSWORD": "secret"}
    assert exec_command("c", ["true"]).argv == ["docker", "exec", "c", "true"]


@pytest.mark.parametrize("found", [[], [stopped()], [container(Status="restarting", Restarting=True)]])
def test_no_command_where_nothing_runs(runner: Runner, compose: ComposeRuntime, found: list[dict[str, Any]]) -> None:
    answer(runner, *found)
    with pytest.raises(NotFoundError, match=r"its container is (absent|exited|restarting).*docker compose up -d db"):
        compose.command("db", ["true"])


DEPENDANTS = [
    ("db", ["backend", "report", "web", "worker"]),
    ("backend", ["web", "worker"]),
    ("cache", ["web"]),
    ("web", []),
    ("unheard of", []),
]


@pytest.mark.parametrize(("service", "found"), DEPENDANTS)
def test_dependants_directly_or_through_others(
    runner: Runner, compose: ComposeRuntime, service: str, found: list[str]
) -> None:
    answer(runner)
    assert compose.dependants(service) == found


def test_dependants_in_a_circle_end(runner: Runner, compose: ComposeRuntime) -> None:
    circle = {"name": "x", "services": {"a": {"depends_on": {"b": {}}}, "b": {"depends_on": {"a": {}}}}}
    answer(runner, project=circle)
    assert compose.dependants("a") == ["a", "b"]
    assert ComposeRuntime.dependants(compose, "z") == []


JOB = {"depends_on": {"worker": {}}, "profiles": ["jobs"]}
EVERY = {**PROJECT, "services": {**PROJECT["services"], "job": JOB, "idle": JOB, "other": {"profiles": ["jobs"]}}}


def of_service(service: str, name: str = "c", address: str = "", **changes: Any) -> dict[str, Any]:
    found = container(**changes)
    found["Config"]["Labels"] = {"com.docker.compose.service": service}
    networks = {"shop_default": {"IPAddress": address, "GlobalIPv6Address": f"fd00::{address[-1:]}" if address else ""}}
    return {**found, "Name": f"/{name}", "NetworkSettings": {"Networks": networks}}


def answer_with_profiles(runner: Runner, lasting: list[dict[str, Any]], one_offs: list[dict[str, Any]]) -> None:
    runner.expect("^docker compose .* --profile [*] config --format json$", json.dumps(EVERY))
    for label, found, number in (("oneoff=False", lasting, "1"), ("oneoff=True", one_offs, "2")):
        runner.expect(f"^docker ps .*{label}$", f"{number}\n" if found else "")
        runner.expect(f"^docker inspect {number}$", json.dumps(found))
    answer(runner)


def test_a_service_behind_a_profile_is_a_dependant_while_its_container_runs(
    runner: Runner, compose: ComposeRuntime
) -> None:
    running = [of_service("job"), of_service("other"), of_service("idle", Status="exited", Running=False)]
    answer_with_profiles(runner, running, [])
    assert compose.dependants("db") == ["backend", "job", "report", "web", "worker"]
    assert compose.dependants("cache") == ["web"], "none of them depends on it"


def test_a_paused_container_behind_a_profile_has_its_sessions_still(runner: Runner, compose: ComposeRuntime) -> None:
    answer_with_profiles(runner, [of_service("job", Status="paused", Paused=True)], [])
    assert "job" in compose.dependants("db")


def test_a_mistake_behind_a_profile_stops_nothing(runner: Runner, compose: ComposeRuntime) -> None:
    runner.expect("^docker compose .* --profile [*] config", (1, "", "service x refers to undefined network"))
    answer(runner)
    assert compose.dependants("db") == ["backend", "report", "web", "worker"]


def test_containers_of_compose_run(runner: Runner, compose: ComposeRuntime) -> None:
    ran = [
        of_service("idle", "shop-idle-run-1", "172.20.0.7"),
        of_service("backend", "shop-backend-run-2", "172.20.0.8"),
        of_service("backend", "shop-backend-run-3", Status="exited", Running=False),
        of_service("db", "shop-db-run-4"),
        of_service("queue", "shop-queue-run-5"),
    ]
    answer_with_profiles(runner, [of_service("backend", "shop-backend-1", "172.20.0.3"), of_service("db")], ran)
    runner.expect("^docker stop ", "")
    assert compose.one_offs("db") == ["shop-backend-run-2", "shop-idle-run-1"], "db's own writes only if somebody types"
    assert compose.one_offs("db", "queue") == ["shop-backend-run-2", "shop-idle-run-1", "shop-queue-run-5"]
    assert compose.addresses(["backend"], ["shop-idle-run-1"]) == {"172.20.0.3", "fd00::3", "172.20.0.7", "fd00::7"}
    compose.end(["shop-idle-run-1", "gone"], timeout=9)
    assert [call for call in runner.ran if call.startswith("docker stop")] == ["docker stop shop-idle-run-1"]
    compose.end(["gone"], timeout=9)
    assert len([call for call in runner.ran if call.startswith("docker stop")]) == 1, "it has ended by itself"


INIT = {"NSpid": "4711\t1", "SigBlk": "0000000000000000", "SigCgt": "0000000000000000"}
HEARING = f"{1 << 14 | 1 << 1:016x}"  # SIGTERM, SIGINT
# (what differs of a container whose program has no handler, of its Config, of its process; is it killed at once?)
DEAF: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], bool]] = {
    "no handler": ({}, {}, {}, True),
    "it has one": ({}, {}, {"SigCgt": HEARING}, False),
    "it waits for it": ({}, {}, {"SigBlk": HEARING}, False),
    "it waits for one": ({}, {}, {"wchan": "do_sigtimedwait"}, False),
    "what it does is not told": ({}, {}, {"wchan": "0"}, False),
    "of another signal": ({}, {"StopSignal": "SIGQUIT"}, {"SigCgt": HEARING}, True),
    "of its own signal": ({}, {"StopSignal": "SIGINT"}, {"SigCgt": HEARING}, False),
    "of a signal by number": ({}, {"StopSignal": "2"}, {"SigCgt": HEARING}, False),
    "a signal that we do not know": ({}, {"StopSignal": "RTMIN+3"}, {}, False),
    "a signal that nobody handles": ({}, {"StopSignal": "KILL"}, {}, False),
    "a time of its own": ({}, {"StopTimeout": 60}, {}, False),
    "not the first of its namespace": ({}, {}, {"NSpid": "4711\t7"}, False),
    "in the host's namespace": ({}, {}, {"NSpid": "4711"}, False),
    "an old kernel": ({}, {}, {"NSpid": ""}, False),
    "no number": ({}, {}, {"SigCgt": "x"}, False),
    "a process of something else": ({}, {}, {"cgroup": "0::/user.slice"}, False),
    "an engine elsewhere": ({"Pid": 4712}, {}, {}, False),
    "an engine that does not tell": ({"Pid": 0}, {}, {}, False),
    "it does not run": ({"Running": False, "Status": "exited"}, {}, {}, False),
}


@pytest.mark.parametrize("case", DEAF)
def test_a_program_that_only_a_kill_ends_is_not_waited_for(
    runner: Runner, compose: ComposeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    state, made, process, killed = DEAF[case]
    told = {**INIT, "cgroup": "0::/system.slice/docker-c0ffee.scope", "wchan": "do_wait", **process}
    folder = tmp_path / "proc" / "4711"
    folder.mkdir(parents=True)
    for name in ("cgroup", "wchan"):
        (folder / name).write_text(told.pop(name), encoding="utf-8")
    (folder / "status").write_text("".join(f"{name}:\t{value}\n" for name, value in told.items()), encoding="utf-8")
    monkeypatch.setattr(service, "_PROC", tmp_path / "proc")
    one = of_service("web", "shop-web-run-1", **{"Pid": 4711, **state})
    one["Config"].update(made)
    answer_with_profiles(runner, [one], [one])
    runner.expect("^docker compose .* stop ", "")
    runner.expect("^docker stop ", "")
    words = compose.stop(["web"], timeout=5), compose.end(["shop-web-run-1"], timeout=5)
    ran = [call.partition(" stop ")[2] for call in runner.ran if " stop " in call]
    assert ran == (["-t 1 web", "-t 1 shop-web-run-1"] if killed else ["web", "shop-web-run-1"])
    signal = made.get("StopSignal", "SIGTERM")
    said = f"its program has no handler for {signal}: killed after 1 s, not after Docker's 10 s"
    assert words == ((f"web: {said}",), (f"shop-web-run-1: {said}",)) if killed else ((), ())


def test_one_of_several_containers_that_hears_is_waited_for(
    runner: Runner, compose: ComposeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose_module, "signal_in_vain", lambda identity, pid, name: pid != 2)
    found = [of_service("web", Pid=1), of_service("web", Pid=2), of_service("job", Pid=3), of_service("db", Pid=4)]
    answer_with_profiles(runner, found, [])
    runner.expect("^docker compose .* stop ", "")
    assert [line.partition(":")[0] for line in compose.stop(["web", "job", "gone"], timeout=5)] == ["job"]
    assert sorted(call.partition(" stop ")[2] for call in runner.ran if " stop " in call) == ["-t 1 job", "web gone"]


def test_who_is_killed_waits_for_nobody_who_takes_his_time(
    runner: Runner, compose: ComposeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(compose_module, "signal_in_vain", lambda identity, pid, name: pid == 1)
    monkeypatch.setattr(compose_module.ComposeRuntime, "control", lambda self, *words, **_: both.wait())
    monkeypatch.setattr(pipeline, "run", lambda commands, **_: both.wait())
    found = [of_service("web", "shop-web-1", Pid=1), of_service("job", "shop-job-1", Pid=2)]
    answer_with_profiles(runner, found, found)
    assert len(compose.stop(["web", "job"], timeout=5)) == 1
    assert len(compose.end(["shop-web-1", "shop-job-1"], timeout=5)) == 1


@pytest.mark.parametrize("deaf", [True, False])
def test_one_that_cannot_be_stopped_is_an_error_on_either_side(
    runner: Runner, compose: ComposeRuntime, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    monkeypatch.setattr(compose_module, "signal_in_vain", lambda identity, pid, name: (pid == 1) == deaf)
    found = [of_service("web", "shop-web-1", Pid=1), of_service("job", "shop-job-1", Pid=2)]
    answer_with_profiles(runner, found, found)
    runner.expect("^docker compose .* stop .*web", (1, "", "the engine refuses"))
    runner.expect("^docker compose .* stop ", "")
    with pytest.raises(LifeboatError, match="the engine refuses"):
        compose.stop(["web", "job"], timeout=5)


def volumes(*mounts: tuple[str, str, str]) -> dict[str, Any]:
    listed = [{"type": kind, "source": source, "target": target} for kind, source, target in mounts]
    return {**PROJECT, "services": {"db": {**PROJECT["services"]["db"], "volumes": listed}}}


VOLUME = ("volume", "data", "/data")
# (mounts of the definition, mounts of the container, what holds /data/pg)
MOUNTS: list[tuple[str, Any, list[dict[str, Any]], DataMount]] = [
    ("a named volume", volumes(VOLUME), [], DataMount("volume", "shop_data", Path("/vol/shop_data"))),
    ("a bind mount", volumes(("bind", "/srv/pg", "/data/pg")), [], DataMount("bind", "/srv/pg", Path("/srv/pg"))),
    ("the deeper one", volumes(VOLUME, ("bind", "/srv/pg", "/data/pg"), ("bind", "/x", "/")), [],
     DataMount("bind", "/srv/pg", Path("/srv/pg"))),
    ("no name that merely begins alike", volumes(VOLUME, ("bind", "/x", "/data/p")), [],
     DataMount("volume", "shop_data", Path("/vol/shop_data"))),
    ("an external volume", {**volumes(("volume", "ext", "/data")), "volumes": {}}, [],
     DataMount("volume", "ext", Path("/vol/ext"))),
    ("an anonymous one of the definition", volumes(("volume", "", "/data")),
     [{"Type": "volume", "Name": "abc", "Destination": "/data"}], DataMount("volume", "abc", Path("/vol/abc"))),
    ("an anonymous one of the image", volumes(),
     [{"Type": "volume", "Name": "other", "Destination": "/else"}, {"Type": "volume", "Name": "abc", "Destination": "/data/pg"}],
     DataMount("volume", "abc", Path("/vol/abc"))),
    ("a volume that is gone", volumes(("volume", "gone", "/data")), [], DataMount("volume", "gone", Path())),
]  # fmt: skip


@pytest.mark.parametrize(
    ("project", "mounts", "found"), [case[1:] for case in MOUNTS], ids=[case[0] for case in MOUNTS]
)
def test_data_mount(
    runner: Runner, compose: ComposeRuntime, project: Any, mounts: list[dict[str, Any]], found: DataMount
) -> None:
    runner.expect("volume inspect .* gone$", (1, "", "no such volume"))
    runner.expect("volume ls --quiet --filter name=gone$", "gone_too\n")
    for name in ("shop_data", "ext", "abc"):
        runner.expect(f"volume inspect .* {name}$", f"/vol/{name}\n")
    answer(runner, container(mounts=mounts), project=project)
    assert compose.data_mount("db", "/data/pg") == found


@pytest.mark.parametrize(
    "listed", [(1, "", "Cannot connect to the Docker daemon"), "other\nshop_data\n"], ids=["silent", "listed"]
)
def test_a_volume_that_cannot_be_seen_is_not_gone(runner: Runner, compose: ComposeRuntime, listed: Any) -> None:
    runner.expect("volume inspect .* shop_data$", (1, "", "the engine is busy"))
    runner.expect("volume ls --quiet --filter name=shop_data$", listed)
    answer(runner, container(), project=volumes(VOLUME))
    with pytest.raises(LifeboatError, match="the engine is busy"):
        compose.data_mount("db", "/data/pg")


@pytest.mark.parametrize(
    ("inside", "below"), [("/data", ""), ("/data/", ""), ("/data/18/docker", "18/docker"), ("/data/x/../pg", "pg")]
)
def test_where_in_a_mount_the_data_lies(runner: Runner, compose: ComposeRuntime, inside: str, below: str) -> None:
    """PostgreSQL 18's images keep it two levels down what they declare as a volume."""
    runner.expect("volume inspect .* (shop_data|abc)$", "/vol/shop_data\n")
    for project, mounts in (
        (volumes(VOLUME), []), (volumes(("volume", "", "/data")), [{"Type": "volume", "Name": "abc", "Destination": "/data"}]),
    ):  # fmt: skip
        answer(runner, container(mounts=mounts), project=project)
        found = compose.data_mount("db", inside)
        assert (found.below, found.data) == (below, Path("/vol/shop_data") / below)


def test_data_in_the_containers_own_layer_is_an_error(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner, container(), project=volumes(("bind", "/x", "/other")))
    with pytest.raises(NotFoundError, match="give the service a named volume"):
        compose.data_mount("db", "/data/pg")


@pytest.mark.parametrize(
    ("path", "parent", "inside"),
    [
        ("/a/b", "/a", True),
        ("/a/b", "/a/b/", True),
        ("/a/b", "/", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a/../b", "/b", True),
        ("/a", "a", False),
        ("/a", "", False),
    ],
)
def test_within(path: str, parent: str, inside: bool) -> None:
    assert within(path, parent) is inside


# (what Compose says of the project, the field that the error names)
MALFORMED_PROJECTS: list[tuple[Any, str]] = [
    ([], "cannot be used: wants a mapping"),
    ({}, "lacks name"),
    ({"services": [SECRET]}, "services wants a mapping"),
    ({"services": {"db": SECRET}}, "services.db wants a mapping"),
    ({"services": {"db": {"environment": {"PGPASSWORD": [SECRET]}}}}, "services.db.environment.PGPASSWORD wants str"),
    ({"services": {"db": {"volumes": [{"type": "bind", "source": 7}]}}}, "services.db.volumes[0].source wants str"),
    ({"services": {"db": {"deploy": {"replicas": 10**30}}}}, "services.db.deploy.replicas has a number beyond 1e+18"),
    ({"volumes": {"data": SECRET}}, "volumes.data wants a mapping"),
    ("[" * 200_000, "it is not JSON that can be read"),
    ("[" * 60 + "]" * 60, "it is nested more than 40 levels deep"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "words"), MALFORMED_PROJECTS)
def test_a_malformed_project_names_the_field_and_tells_no_secret(
    runner: Runner, compose: ComposeRuntime, said: Any, words: str
) -> None:
    named = {"name": "shop", **said} if isinstance(said, dict) and said else said
    runner.expect("config --format json", named if isinstance(named, str) else json.dumps(named))
    with pytest.raises(LifeboatError, match=r"^Could not read the Compose project.*docker compose config") as error:
        compose.services()
    assert words in error.value.cause
    assert SECRET not in str(error.value)


MALFORMED_CONTAINERS: list[tuple[Any, str]] = [
    ({}, "containers wants a list"),
    ([7], "containers[0] wants a mapping"),
    ([{**container(), "State": "up"}], "containers[0].State wants a mapping"),
    ([container(env=[7])], "containers[0].Config.Env[0] wants str"),
    ([container(env=SECRET)], "containers[0].Config.Env wants a list"),
    ([container(ExitCode="1")], "containers[0].State.ExitCode wants int"),
    ([container(restarts=10**30)], "containers[0].RestartCount has a number beyond 1e+18"),
    ("[" * 200_000, "it is not JSON that can be read"),
]


@pytest.mark.parametrize(("said", "words"), MALFORMED_CONTAINERS)
def test_a_malformed_container_names_the_field_and_tells_no_secret(
    runner: Runner, compose: ComposeRuntime, said: Any, words: str
) -> None:
    runner.expect("config --format json", json.dumps(PROJECT))
    runner.expect("^docker ps ", "1\n")
    runner.expect("^docker inspect ", said if isinstance(said, str) else json.dumps(said))
    with pytest.raises(LifeboatError, match=r"^Could not inspect the service \(db\).*docker version") as error:
        compose.state("db")
    assert words in error.value.cause
    assert SECRET not in str(error.value)


PATHS = [
    ([container(env=["PGDATA=/run/pg"])], "", "/run/pg"),
    ([container(env=["A=b"])], "", "/var/lib/postgresql/data"),
    ([], "", "/data/pg"),
    ([container(env=["PGDATA=/run/pg"])], "/mine", "/mine"),
]


@pytest.mark.parametrize(("containers", "configured", "path"), PATHS)
def test_data_path(
    runner: Runner, tmp_path: Path, containers: list[dict[str, Any]], configured: str, path: str
) -> None:
    answer(runner, *containers)
    one = ComposeRuntime(make_config(tmp_path, database={"data_directory": configured}))
    assert one.data_path("db") == path


def test_image_of_a_service_that_is_gone(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner)
    assert (compose.image("db"), compose.image("cache")) == ("postgres:17", "shop-cache")


def test_logs(runner: Runner, compose: ComposeRuntime) -> None:
    answer(runner, container())
    runner.expect("^docker logs --tail 30 c0ffee", (0, "out password=hunter2\n", "err"))
    assert compose.logs("db") == "out password=********\nerr"


LOGS = [
    ("", ""),
    ("one\ntwo\n\n", "two"),
    ("FATAL:  could not open\nlater, calmly", "FATAL:  could not open"),
    ("FATAL:  first\nPANIC:  second\nbye", "PANIC:  second"),
    ("ERROR:  duplicate key\nDETAIL:  Key (card)=(4111) exists.\nSTATEMENT:  INSERT 4111", "ERROR:  duplicate key"),
    ("STATEMENT:  SELECT 4111", ""),
    (
        "FATAL:  database files are incompatible with server\nDETAIL:  The data directory was initialized by PostgreSQL"
        " version 15, which is not compatible with this version 17.10 (Debian 17.10-1.pgdg13+1).",
        "FATAL:  database files are incompatible with server: The data directory was initialized by PostgreSQL version 15,"
        " which is not compatible with this version 17.10",
    ),
    ("x" * 500, "x" * 300),
]


@pytest.mark.parametrize(("log", "words"), LOGS)
def test_last_words_tell_why_and_hold_no_rows(log: str, words: str) -> None:
    assert last_words(log) == words


UNITS = [
    ("LoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=0\nExecMainStatus=0", True, "running"),
    (
        "LoadState=loaded\nActiveState=failed\nNRestarts=3\nExecMainStatus=1",
        False,
        "failed, exit code 1, restarted 3 times",
    ),
    ("LoadState=loaded\nActiveState=inactive\nNRestarts=\nExecMainStatus=", False, "inactive"),
    ("LoadState=loaded\nActiveState=activating\nExecMainStatus=0", False, "activating"),
]


@pytest.mark.parametrize(("shown", "running", "words"), UNITS)
def test_a_units_state(runner: Runner, tmp_path: Path, shown: str, running: bool, words: str) -> None:
    runner.expect("^systemctl show .* postgresql$", shown)
    found = HostRuntime(make_config(tmp_path, runtime={"type": "host"})).state("postgresql")
    assert (found.exists, found.running, found.describe()) == (True, running, words)


def test_a_unit_nobody_knows(runner: Runner, tmp_path: Path) -> None:
    host = HostRuntime(make_config(tmp_path, runtime={"type": "host"}))
    runner.expect("show .* gone$", "LoadState=not-found\nActiveState=inactive")
    assert host.state("gone").exists is False
    runner.expect("show .* x$", (1, "", "Failed to connect to bus"))
    with pytest.raises(LifeboatError, match="Failed to connect to bus"):
        host.state("x")


def test_a_start_that_fails_is_not_tried_again(runner: Runner, tmp_path: Path) -> None:
    """500 containers were started on a machine under load, and none was lost: a second try would hide a failure."""
    runner.expect(" up ", (1, "", "Error response from daemon: OCI runtime create failed: runc"))
    with pytest.raises(LifeboatError, match="OCI runtime create failed"):
        ComposeRuntime(make_config(tmp_path)).start(["web"], timeout=5)
    assert len(runner.ran) == 1


def test_the_host_runtime_controls_units(runner: Runner, tmp_path: Path) -> None:
    host = HostRuntime(make_config(tmp_path, runtime={"type": "host"}, database={"os_user": "pg"}))
    runner.expect("^systemctl (start|stop|reset-failed) ")
    host.start(["a", "b"], timeout=5)
    host.stop(["b"], timeout=5)
    host.discard("a", timeout=5)
    host.start([], timeout=5)
    assert runner.ran == ["systemctl reset-failed a b", "systemctl start a b", "systemctl stop b", "systemctl stop a"]
    assert host.command("x", ["psql"]).argv == ["runuser", "--user", "pg", "--", "psql"]
    assert host.dependants("a") == []
    assert (host.one_offs("a", "b"), host.addresses(["a"], [])) == ([], set()), "units share the machine's addresses"
    assert host.image("a") == ""
    assert host.data_mount("a", "/var/lib/x") == DataMount("bind", "/var/lib/x", Path("/var/lib/x"))
    assert host.by_hand("a b") == ("systemctl stop 'a b'", "systemctl start 'a b'")


CLUSTERS = [
    ("postgresql@17-main", "", "/var/lib/postgresql/17/main"),
    ("postgresql@16-two-words.service", "", "/var/lib/postgresql/16/two-words"),
    ("postgresql", "", "/var/lib/postgresql/data"),
    ("postgresql@17-main", "/data", "/data"),
]


@pytest.mark.parametrize(("service", "configured", "path"), CLUSTERS)
def test_a_clusters_directory(tmp_path: Path, service: str, configured: str, path: str) -> None:
    settings = make_config(tmp_path, runtime={"type": "host"}, database={"data_directory": configured})
    assert HostRuntime(settings).data_path(service) == path


def test_connect_by_type(tmp_path: Path) -> None:
    assert isinstance(runtime.connect(make_config(tmp_path)), ComposeRuntime)
    assert isinstance(runtime.connect(make_config(tmp_path, runtime={"type": "host"})), HostRuntime)


class Slow:
    """Services that become well after some looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def state(self, service: str) -> ServiceState:
        if service == "db":
            return ServiceState(exists=True, running=True, status="running", health="healthy")
        self.looks -= 1
        health = "starting" if self.looks > 0 else "healthy"
        return ServiceState(exists=True, running=True, status="running", health=health)

    def logs(self, service: str, lines: int = 30) -> str:
        assert service == "web"
        return "ERROR: no database"


def test_wait_until_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.time, "sleep", lambda _: None)
    found = runtime.wait_until_well(Slow(3), ["db", "web"], timeout=60)  # type: ignore[arg-type]
    assert found == {"db": "running, healthy", "web": "running, healthy"}
    with pytest.raises(LifeboatError) as error:
        runtime.wait_until_well(Slow(10**9), ["db", "web"], timeout=0)  # type: ignore[arg-type]
    said = list[str]()
    monkeypatch.setattr(clock, "SAY_EVERY", 0)
    runtime.wait_until_well(Slow(3), ["db", "web"], timeout=60, log=said.append)  # type: ignore[arg-type]
    assert said[0] == "waiting for services to be well for 0 s, 60 s more at most: web is running, starting"
    assert error.value.subject == "web"
    assert error.value.cause == "after 0 s: web is running, starting; it last said: ERROR: no database"


def test_no_format_joins_what_may_be_empty() -> None:
    """Docker 26 ends its answer there, `wrong type for value`, which looks like no image."""
    core = Path(runtime.__file__).parents[1]
    assert [path.name for path in core.rglob("*.py") if "{{join ." in path.read_text(encoding="utf-8")] == []
