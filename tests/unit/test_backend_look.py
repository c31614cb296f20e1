# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""The look at a backend: what the engine, Compose, the kernel and the files say, hostile names and words among it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import assess as backend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import host as backend_host
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import stores as backend_stores
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.facts import Observations, Unit
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import condition as objects_condition
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import files as stack_files
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened
from builders import BUCKET, Runner, make_config

SECRET = "Sup3rS3cretValue"
MODEL: dict[str, Any] = {
    "name": "shop",
    "services": {
        "db": {"image": "postgres:17"},
        "backend": {"image": "shop/backend:1", "ports": [{"published": "8000", "protocol": "tcp"}],
                    "depends_on": {"migrate": {"condition": "service_completed_successfully"}}},
        "migrate": {"image": "shop/backend:1"},
        "idle": {"image": "x", "deploy": {"replicas": 0}},
    },
}  # fmt: skip


def container(service: str, **state: Any) -> dict[str, Any]:
    return {
        "Id": f"id-{service}",
        "Name": f"/shop-{service}-1",
        "Image": f"sha256:{service}",
        "RestartCount": state.pop("restarts", 0),
        "Config": {
            "Image": f"shop/{service}:1",
            "Env": [f"APP_PASSWORD={SECRET}"],
            "Labels": {"com.docker.compose.service": service, "com.docker.compose.project": "shop"},
        },
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "PortBindings": state.pop("bindings", {})},
        "State": {"Status": "running", "StartedAt": "2020-01-01T00:00:00.123456789Z", **state},
    }


@pytest.fixture
def stack(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    (tmp_path / "compose.yml").write_text("services: {}\n")
    monkeypatch.setattr(answer, "ask", lambda check: "")
    monkeypatch.setattr(backend_host, "read_host", lambda paths, engine: Observations().host)
    return make_config(tmp_path, application={"checks": [{"url": "http://127.0.0.1:8000/"}]})


def tell(runner: Runner, containers: list[dict[str, Any]], model: Any = MODEL, log: str = "") -> None:
    runner.expect("docker compose .*config", json.dumps(model) if isinstance(model, dict) else model)
    runner.expect(r"^docker ps --all --filter .*format", "shop\n")
    runner.expect("^docker ps --all --quiet", " ".join(container["Id"] for container in containers))
    runner.expect("^docker inspect id-", json.dumps(containers))
    runner.expect("^docker logs", log)


def test_services_are_seen_with_their_roles(stack: config.Config, runner: Runner) -> None:
    done = container("migrate", Status="exited", ExitCode=0)
    tell(runner, [container("db"), container("backend"), done])
    found = backend_assess.glance(Opened(stack))
    assert {service.service: service.role for service in found.units} == {
        "db": "database",
        "backend": "backend",
        "migrate": "backend",
    }
    assert (found.absent, found.healthy) == ((), True), (
        "one that was to run once, and a service without replicas, are well"
    )


def test_a_migration_that_failed_is_ill(stack: config.Config, runner: Runner) -> None:
    tell(runner, [container("db"), container("backend"), container("migrate", Status="exited", ExitCode=1)])
    assert [service.service for service in backend_assess.glance(Opened(stack)).ill] == ["migrate"]


def test_what_is_missing_is_absent(stack: config.Config, runner: Runner) -> None:
    tell(runner, [container("db")])
    found = backend_assess.glance(Opened(stack))
    assert (found.absent, found.healthy) == (("backend", "migrate"), False)


def test_the_operator_says_what_the_backend_is(tmp_path: Path, stack: config.Config, runner: Runner) -> None:
    tell(
        runner,
        [container("db"), container("backend", Status="exited"), container("migrate", Status="exited", ExitCode=1)],
    )
    mine = make_config(tmp_path, application={"services": ["backend"]})
    found = backend_assess.glance(Opened(mine))
    assert [service.service for service in found.ill] == ["backend"]
    assert found.services == ("backend",)


def test_a_broken_compose_file_hides_nothing_that_is_there(stack: config.Config, runner: Runner) -> None:
    tell(
        runner, [container("db"), container("backend", Status="exited", ExitCode=1)], (15, "", "yaml: line 3: mapping")
    )
    found = backend_assess.glance(Opened(stack))
    assert "yaml: line 3" in found.compose
    assert [service.describe() for service in found.ill] == ["exited, exit code 1"]


QUOTES = {
    "the rest of the file": f'unexpected character "+" in variable name near "PASS+{SECRET}\\nOTHER=\\"hunter22\\"\\n"',
    "its line": f'unexpected character "+" in variable name "PASS+{SECRET}"',
    "a value that does not end": 'unterminated quoted value "hunter22"',
}


@pytest.mark.parametrize("quoted", QUOTES)
def test_what_compose_quotes_of_env_is_cut_away(stack: config.Config, runner: Runner, quoted: str) -> None:
    Path(stack.runtime.project_directory, ".env").write_text(f'export PASS+{SECRET}\nOTHER="hunter22"\n')
    tell(runner, [], (15, "", f"failed to read /srv/shop/.env: line 1: {QUOTES[quoted]}"))
    found = backend_assess.glance(Opened(stack))
    assert f"line 1: {QUOTES[quoted].split(' ')[0]}" in found.compose
    assert SECRET not in str(found)
    assert "hunter22" not in str(found)


def test_an_engine_that_does_not_answer_is_said(stack: config.Config, runner: Runner) -> None:
    runner.expect("docker compose .*config", json.dumps(MODEL))
    runner.expect("^docker ps", (1, "", "Cannot connect to the Docker daemon"))
    assert "Cannot connect to the Docker daemon" in backend_assess.glance(Opened(stack)).not_looked[0]


def test_hostile_names_and_logs_are_tamed_and_secrets_blanked(stack: config.Config, runner: Runner) -> None:
    evil = container("backend", Status="exited", ExitCode=1, Error=f"exec: {SECRET}: not found")
    evil["Name"] = "/x\x1b[2J; rm -rf /\n"
    evil["State"]["Health"] = {"Status": "unhealthy", "Log": [{"Output": f"login {SECRET} refused\x07"}]}
    tell(
        runner,
        [evil],
        log=f"\x1b[31mhello\n{SECRET}\nDETAIL:  Key (email)=(a@b.example)\nAPI_TOKEN=abcdef123\n" + "x" * 9999,
    )
    one = backend_assess.glance(Opened(stack), logs=True).units[0]
    assert one.name == "x; rm -rf /"
    assert one.log == ("hello", "********", "API_TOKEN=********", "x" * 300)
    assert SECRET not in str(one)
    assert "login ******** refused" in one.health_output


@pytest.mark.parametrize(
    ("compose", "env", "missing", "blank"),
    [
        ("a: ${A:?set it}", "A=1", (), ()),
        ("a: ${A:?set it}", "A=", ("A",), ()),
        ("a: ${A?set it}", "A=", (), ()),
        ("a: ${A?set it}", "", ("A",), ()),
        ("a: ${A}\nb: $B", "", (), ("A", "B")),
        ("a: ${A:-default}\nb: ${B-}", "", (), ()),
        ("a: $$A and $${B}", "", (), ()),
        ("# ${A:?old}\na: 1", "", (), ()),
        ("a: ${A:?x}", "# A=1", ("A",), ()),
    ],
)  # fmt: skip
def test_variables_that_compose_needs(
    tmp_path: Path, compose: str, env: str, missing: tuple[str, ...], blank: tuple[str, ...]
) -> None:
    (tmp_path / "compose.yml").write_text(compose)
    (tmp_path / ".env").write_text(env)
    assert backend_assess.needed_variables(make_config(tmp_path)) == (missing, blank)


def test_the_files_that_compose_would_take(tmp_path: Path) -> None:
    one = make_config(tmp_path)
    assert stack_files.project_files(one) == []
    for name in ("docker-compose.yml", "compose.yml", "compose.override.yml"):
        (tmp_path / name).write_text("")
    assert [path.name for path in stack_files.project_files(one)] == ["compose.yml", "compose.override.yml"]
    named = make_config(
        tmp_path, runtime={"project_directory": str(tmp_path), "files": ["docker-compose.yml", "no.yml"]}
    )
    assert [path.name for path in stack_files.project_files(named)] == ["docker-compose.yml"]


@pytest.mark.parametrize(
    ("line", "wanted", "clashes"),
    [
        ("0: 0100007F:1F40 00000000:0000 0A 0 0 0 0 0 77", ("tcp", "", 8000), True),
        ("0: 0100007F:1F40 00000000:0000 0A 0 0 0 0 0 77", ("tcp", "127.0.0.1", 8000), True),
        ("0: 0100007F:1F40 00000000:0000 0A 0 0 0 0 0 77", ("tcp", "10.0.0.1", 8000), False),
        ("0: 00000000:1F40 00000000:0000 0A 0 0 0 0 0 77", ("tcp", "10.0.0.1", 8000), True),
        ("0: 00000000:1F40 00000000:0000 01 0 0 0 0 0 77", ("tcp", "", 8000), False),
        ("0: 00000000:1F40 00000000:0000 0A 0 0 0 0 0 77", ("udp", "", 8000), False),
        ("0: 00000000:1F41 00000000:0000 0A 0 0 0 0 0 77", ("tcp", "", 8000), False),
        ("0: 00000000000000000000000000000000:1F40 0:0 0A 0 0 0 0 0 77", ("tcp", "", 8000), True),
        ("0: 0000000000000000FFFF00000100007F:1F40 0:0 0A 0 0 0 0 0 77", ("tcp", "127.0.0.1", 8000), True),
    ],
)  # fmt: skip
def test_who_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, wanted: tuple[str, str, int], clashes: bool
) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(f"  sl  local_address ...\n   {line}\n")
    monkeypatch.setattr(backend_host, "PROC", tmp_path)
    protocol, address, port = wanted
    assert (
        any(listener.clashes(backend_host.Listener(protocol, address, port)) for listener in backend_host.listeners())
        is clashes
    )


@pytest.mark.parametrize(
    ("status", "held"),
    [("exited", True), ("created", True), ("running", False), ("paused", False), ("restarting", False)],
)
def test_a_port_is_taken_only_from_a_service_that_does_not_hold_it_itself(
    stack: config.Config, runner: Runner, monkeypatch: pytest.MonkeyPatch, status: str, held: bool
) -> None:
    """A paused container's docker-proxy listens on: that is no thief."""
    tell(runner, [container("backend", Status=status)])
    runner.expect("^docker ps --quiet --no-trunc", "")
    monkeypatch.setattr(backend_host, "listeners", lambda: [backend_host.Listener("tcp", "0.0.0.0", 8000, "77")])  # noqa: S104 - a table
    monkeypatch.setattr(backend_host, "owner", lambda inode: (4711, "python3", ""))
    project = runtime.connect(stack)
    assert isinstance(project, runtime.ComposeRuntime)
    found = backend_assess._ports(backend_assess.glance(Opened(stack)), project, {"db"})
    assert [holder.pid for holder in found] == ([4711] if held else [])


@pytest.mark.parametrize(
    ("directory", "services", "ours"),
    [("here", ["backend"], True), ("here", ["backend", "db"], False), ("elsewhere", ["backend"], False)],
)
def test_a_stray_of_our_own_is_told_from_the_live_stack_under_another_name(
    stack: config.Config, runner: Runner, tmp_path: Path, directory: str, services: list[str], ours: bool
) -> None:
    others = []
    for service in services:
        one = container(service, bindings={"8000/tcp": [{"HostPort": "8000"}]} if service == "backend" else {})
        where = str(tmp_path) if directory == "here" else "/srv/other"
        labels = {"project": "other", "service": service, "project.working_dir": where}
        one["Config"]["Labels"] = {f"com.docker.compose.{key}": value for key, value in labels.items()}
        others.append({**one, "Id": f"other-{service}"})
    tell(runner, [container("backend", Status="created")])
    runner.expect("^docker ps --quiet --no-trunc", "other-1")
    runner.expect("^docker inspect other-1", json.dumps(others))
    project = runtime.connect(stack)
    assert isinstance(project, runtime.ComposeRuntime)
    found = backend_assess._ports(backend_assess.glance(Opened(stack)), project, {"db"})
    assert [(holder.container, holder.ours) for holder in found] == [("shop-backend-1", ours)]


@pytest.mark.parametrize(
    ("have", "every", "running", "elsewhere"),
    [
        ([], "renamed\n", "renamed\n", ("renamed",)),
        ([], "renamed\n", "", ("renamed",)),
        ([container("backend", Status="created")], "renamed\nshop\n", "renamed\n", ("renamed",)),
        ([container("db", Status="exited")], "renamed\nshop\n", "renamed\n", ("renamed",)),
        ([container("db", Status="exited")], "renamed\nshop\n", "", ()),
        ([container("db")], "renamed\nshop\n", "renamed\nshop\n", ()),
        ([container("db", Status="exited")], "shop\n", "", ()),
        ([], "", "", ()),
    ],
)
def test_the_stack_under_another_name_is_seen_before_its_data_seems_lost(
    stack: config.Config,
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    have: Any,
    every: str,
    running: str,
    elsewhere: Any,
) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(backend_stores, "assess_stores", lambda *_, **__: looked.append(1) or ([], []))
    runner.expect("^docker ps --all --filter .*service=db .*format", every)
    runner.expect("^docker ps --filter .*service=db .*format", running)
    runner.expect("^docker ps --quiet --no-trunc", "")
    runner.expect("^docker image inspect", "sha256:1")
    runner.expect("^systemctl", "")
    tell(runner, have)
    found = backend_assess.observe(Opened(stack), log=lambda _: None)
    assert found.elsewhere == elsewhere
    assert bool(looked) is not bool(elsewhere)


def test_the_process_that_listens_is_found_with_its_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = tmp_path / "4711"
    (process / "fd").mkdir(parents=True)
    (process / "fd/3").symlink_to("socket:[77]")
    (process / "cmdline").write_bytes(b"python3\0server.py\0--password=hunter22\0")
    (process / "cgroup").write_text("0::/system.slice/thief.service\n")
    monkeypatch.setattr(backend_host, "PROC", tmp_path)
    assert backend_host.owner("77") == (4711, "python3 server.py --password=********", "thief.service")
    assert backend_host.owner("78") == (0, "", "")


def test_disks_are_told_once_each_and_what_is_not_there_by_what_is_above(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = backend_host.disks([str(tmp_path / "a"), str(tmp_path), str(tmp_path / "no/such")])
    assert len(found) == 1
    assert found[0].size >= found[0].free > 0


DB = Unit("db", "shop-db-1", "database", id="d")


class Below:
    """A runtime whose database lies in a directory."""

    def __init__(self, mount: DataMount) -> None:
        self.mount = mount

    def data_path(self, service: str) -> str:
        return "/data"

    def data_mount(self, service: str, inside: str) -> DataMount:
        return self.mount


def opened(given: config.Config, stack: Any) -> Opened:
    run = Opened(given)
    run.runtime = stack
    return run


@pytest.mark.parametrize(
    ("one", "data", "answers", "broken"),
    [
        (DB, "full", "yes", ""),
        (DB, "full", "no", "runs and does not answer"),
        (DB, "full", "refused", ""),
        (Unit("db", "x", "database", status="exited"), "full", "no", ""),
        (Unit("db", "x", "database", status="exited"), "empty", "no", "is empty or gone"),
        (Unit("db", "x", "database", status="exited"), "gone", "no", "of db is gone"),
        (None, "gone", "no", "of db is gone"),
        (None, "full", "no", ""),
        (Unit("db", "x", "database", status="restarting", restarts=5, log=("FATAL: no control file",)), "full", "no", "FATAL: no control file"),
        (Unit("db", "x", "database", status="restarting", restarts=1), "full", "no", ""),
        (Unit("db", "x", "database", health="starting"), "full", "no", ""),
    ],
)  # fmt: skip
def test_when_the_database_underneath_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Any, data: str, answers: str, broken: str
) -> None:
    """A server without its data would be started empty: that is for the database's own recovery."""
    (tmp_path / "data").mkdir()
    if data == "full":
        (tmp_path / "data/PG_VERSION").write_text("17")
    mount = DataMount("volume", "shop_pgdata", Path() if data == "gone" else tmp_path / "data")
    found_server: Any = object() if answers == "yes" else None
    reached = server.Reached(found_server, "no answer", answers == "refused")
    monkeypatch.setattr(server, "reach", lambda *_: reached)
    found = Observations(units=(one,) if one else ())
    stores, unsure = backend_stores.assess_stores(
        opened(make_config(tmp_path), Below(mount)), found, log=lambda _: None
    )
    assert (len(stores), unsure) == (1, [])
    assert broken in stores[0].broken
    assert bool(stores[0].broken) is bool(broken)


def test_data_that_is_damaged_is_found_only_where_the_backend_is_ill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "reach", lambda *_: server.Reached(object()))  # type: ignore[arg-type]
    lost = database_assess.Assessment(recovery_state.DAMAGED, ("the table app.items is missing",), "running")
    monkeypatch.setattr(database_assess, "assess", lambda *_: lost)
    here = make_config(tmp_path)
    below: Any = Below(DataMount("bind", "x", tmp_path))
    calm, _ = backend_stores.assess_stores(opened(here, below), Observations(units=(DB,)), log=lambda _: None)
    assert calm[0].broken == ""
    ill = Observations(units=(DB, Unit("backend", "b", health="unhealthy")))
    found, _ = backend_stores.assess_stores(opened(here, below), ill, log=lambda _: None)
    assert found[0].broken == "the table app.items is missing"


def test_a_bucket_that_is_gone_is_broken_and_what_cannot_be_asked_is_unsure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = {**BUCKET, "objects": {**BUCKET["objects"], "service": "objects"}}
    here = make_config(tmp_path, **objects)
    seen = Observations(units=(Unit("objects", "o", "objects"),))
    below: Any = Below(DataMount("bind", "x", tmp_path))
    gone = objects_condition.Assessment(recovery_state.DAMAGED, ("the bucket uploads is missing",))
    monkeypatch.setattr(objects_condition, "answers", lambda *_, **__: gone)
    assert (
        backend_stores.assess_stores(opened(here, below), seen, log=lambda _: None)[0][1].broken
        == "the bucket uploads is missing"
    )

    def fail(*_: Any, **__: Any) -> None:
        raise NotFoundError("ask", "objects", "no route to host")

    monkeypatch.setattr(objects_condition, "answers", fail)
    stores, unsure = backend_stores.assess_stores(opened(here, below), seen, log=lambda _: None)
    assert ([store.broken for store in stores], unsure) == (["", ""], ["objects: no route to host"])


@pytest.mark.parametrize(
    ("name", "words", "component"),
    [
        ("recovering", "of the database", "database"),
        ("recovering_objects", "of the object storage", "objects"),
        ("stopped.json", "of the database", "database"),
    ],
    ids=["recovering-of the database", "recovering_objects-of the object storage", "stopped.json-of the database"],
)
def test_a_recovery_of_the_data_that_has_not_ended_is_seen(
    stack: config.Config, runner: Runner, name: str, words: str, component: str
) -> None:
    tell(runner, [container("db"), container("backend"), container("migrate", Status="exited", ExitCode=0)])
    stack.state.mkdir(parents=True)
    (stack.state / name).write_text('["backend"]' if name.endswith("json") else "")
    found, of_component = backend_assess._pending(stack)
    assert words in found and of_component == component
    assert runtime.connect(stack)
