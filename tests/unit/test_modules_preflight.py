# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What deploy refuses before it installs anything: names, values, addresses, ports, keys, a shared repository."""

from __future__ import annotations

import http.server
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import reach
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import preflight
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.preflight import Location
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import files as stack_files
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import ComposeRuntime, ServiceState
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from builders import Run, settings

KNOWN = ["lifeboat_stack", "lifeboat_repository", "lifeboat_database", "lifeboat_drill", "lifeboat_drill_power_off"]
COMPRESSION_PROBLEM = dump.compression_problem
KEY, SECRET = "VAULTKEY0001", "vault-secret-0001"


class S3(http.server.BaseHTTPRequestHandler):
    """Takes one key. A bucket that the name says is missing is."""

    def do_GET(self) -> None:
        status, body = 200, b"<ListBucketResult></ListBucketResult>"
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            status, body = 403, b"<Error><Code>InvalidAccessKeyId</Code></Error>"
        elif self.path.startswith("/missing"):
            status, body = 404, b"<Error><Code>NoSuchBucket</Code></Error>"
        elif self.path.startswith("/denied"):
            status, body = 403, b"<Error><Code>AccessDenied</Code></Error>"
        elif self.path.startswith("/console"):
            body = b"<html>Sign in</html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def s3() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), S3)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture(autouse=True)
def up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_PAUSE", 0)
    monkeypatch.setattr(reach, "database", lambda run: reach.Database("shop", 4096, "app", 170012))
    monkeypatch.setattr(dump, "compression_problem", lambda run: "")
    state(monkeypatch, ServiceState(exists=True, running=True, status="running"))


def state(monkeypatch: pytest.MonkeyPatch, found: ServiceState) -> None:
    monkeypatch.setattr(ComposeRuntime, "state", lambda self, service: found)


def vault(url: str, bucket: str = "uploads-backup", key: str = KEY) -> dict[str, Any]:
    return {"vault": {"endpoint_url": url, "objects_bucket": bucket}, "key": key}


def check(run: Run, root: Path, *, plain: bool = False, key: str = KEY, **more: Any) -> dict[str, Any]:
    """The module on this configuration; every option that it has is taken out of `more` first."""
    options = {
        name: more.pop(name) for name in ("variables", "known", "host", "places", "reach", "packages") if name in more
    }
    secrets = {"vault_access_key": key, "vault_secret_key": SECRET, "s3_access_key": key, "s3_secret_key": SECRET}
    secrets |= {"objects_access_key": key, "objects_secret_key": SECRET}
    directory = root / "etc"
    directory.mkdir(exist_ok=True)
    return run(
        "stack_check_info", plain=plain, settings=settings(root, **more), secrets=secrets,
        config_directory=str(directory), **options,
    )  # fmt: skip


def checks(*urls: str) -> dict[str, Any]:
    return {"checks": [{"url": url} for url in urls]}


def test_stack_check_info_never_changes(run: Run, tmp_path: Path, s3: str) -> None:
    given = {"repository": {"type": "s3", "bucket": "b", "endpoint_url": s3}, **vault(s3)}
    found = check(run, tmp_path, application=checks(f"{s3}/health"), variables=KNOWN, known=KNOWN, **given)
    assert (found["failed"], found["changed"]) == (False, False), found.get("msg")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "2 secret files will be in no backup (/srv/shop/password, "),
        ({"enabled": False}, ""),
        ({"secrets": "elsewhere"}, ""),
        ({"recipients": ["age1px20ruqptq3ct67gnhrw5hhnmsnnsux0w6jmn5lezs2g7qppqcpsa6fxz0"]}, ""),
    ],
)
def test_secret_files_without_a_recipient_are_said_at_once(
    run: Run, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], said: str
) -> None:
    files = stack_files.ProjectFiles([], [], ["/srv/shop/password"], [], [])
    monkeypatch.setattr(stack_files, "find", lambda config, stack: files)
    found = check(run, tmp_path, application=checks(f"{s3}/health"), config=config)
    assert found["failed"] is False
    assert [said in note for note in found["notes"]] == ([True] if said else [])
    if said:
        assert "lifeboat_config.recipients" in found["notes"][0]
    assert check(run, tmp_path, application=checks(f"{s3}/health"), config=config, reach=False)["notes"] == []


def test_each_mount_is_said_at_once_and_what_protects_it(
    run: Run, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = [("media", "unprotected", ""), ("data", "protected", "database"), ("/etc/localtime", "no state", "")]
    listed = tuple(StateMount(name, "volume", (f"web:/{name}",), kind, "why", by=by) for name, kind, by in of)  # type: ignore[arg-type]
    monkeypatch.setattr(mounts, "inventory", lambda run: StateInventory(listed, ("no engine",)))
    found = check(run, tmp_path, application=checks(f"{s3}/health"), config={"enabled": False})
    assert found["notes"] == [
        "mount IN NO BACKUP: the volume media (web:/media): why",
        "mount protected by database: the volume data (web:/data): why",
        "mount no state: the volume /etc/localtime (web://etc/localtime): why",
        "mount NOT KNOWN: no engine",
    ]
    assert check(run, tmp_path, application=checks(f"{s3}/health"), reach=False)["notes"] == []


def database(name: str, **changes: Any) -> dict[str, Any]:
    return {"oid": 7, "name": name, "size": 1_500_000, "connects": True, "torn": False, **changes}


def test_what_each_backup_will_hold_is_said_at_once(
    run: Run, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [
        *map(database, ("a\n", "left", "shop", "wiki")),
        database("closed", connects=False), database("half", torn=True, connects=False),
    ]  # fmt: skip
    monkeypatch.setattr(database_server.Server, "execute", lambda self, sql, **_: [there])
    given: dict[str, Any] = {"database": {"name": "shop", "exclude": ["left", "nowhere"]}, "config": {"enabled": False}}
    found = check(run, tmp_path, application=checks(f"{s3}/health"), **given)
    assert (found["failed"], found["notes"]) == (
        False,
        [
            "each backup will hold the databases shop (1.5 MB), a\\n (1.5 MB), wiki (1.5 MB)",
            "lifeboat_database.exclude leaves out left",
            "lifeboat_database.exclude names nowhere, which the server lacks",
            "no backup will be good: it cannot hold closed (it takes no connections (datallowconn is false)); allow"
            " that, or name it in lifeboat_database.exclude",
        ],
    )
    there = [database("shop"), *(database(f"d{number}") for number in range(40))]
    (note,) = check(run, tmp_path, application=checks(f"{s3}/health"), config={"enabled": False})["notes"]
    assert note.endswith("d4 (1.5 MB) and 35 more")


def test_stack_check_info_fails_where_a_variable_is_unknown(run: Run, tmp_path: Path) -> None:
    """Before the configuration is read: its error would be about the variable that was not given."""
    given = ["lifeboat_repositry", "lifeboat_shop_bucket", "lifeboat_stack"]
    found = check(run, tmp_path, variables=given, known=KNOWN, runtime={}, host="shop1")
    assert found["subject"] == "shop1"
    reserved = "rename it: names that begin with lifeboat_ are Lifeboat's own"
    assert found["cause"] == (
        f"lifeboat_repositry is unknown; did you mean lifeboat_repository? If not, {reserved};"
        f" lifeboat_shop_bucket is unknown; {reserved}"
    )
    assert found["remedy"].startswith("Nothing was changed.")


def test_no_more_than_ten_lines_are_said() -> None:
    problems = [f"lifeboat_{number} is unknown" for number in range(30)]
    with pytest.raises(preflight.UsageError, match=r"; and 22 more\. Nothing was changed"):
        preflight.refuse(problems, "shop1")
    preflight.refuse([], "shop1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"database": {"name": "shop", "format": "zip"}}, "lifeboat_database.format"),
        ({"database": {"nmae": "shop"}}, "(lifeboat_database): does not know nmae"),
        ({"retention": {"dayly_days": 3}}, "dayly_days"),
    ],
)
def test_a_wrong_value_names_the_variable(run: Run, tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    found = check(run, tmp_path, **wrong)
    assert found["failed"]
    assert words in found["msg"]


@pytest.mark.parametrize("url", ["shop.example.org/health", "127.0.0.1:8000", "", "ftp://shop/", "http://", "http://["])
def test_an_address_without_a_scheme_is_refused(run: Run, tmp_path: Path, url: str) -> None:
    found = check(run, tmp_path, application=checks("http://127.0.0.1:1/", url), reach=False)
    assert "lifeboat_application.checks[1].url" in found["msg"]
    said = "its host or its port cannot be read" if url == "http://[" else "does not begin with http:// or https://"
    assert said in found["cause"]


def test_so_is_an_endpoint_without_one(run: Run, tmp_path: Path) -> None:
    found = check(run, tmp_path, **vault("vault.example.org:9000"))
    assert found["cause"].startswith("lifeboat_vault.endpoint_url is 'vault.example.org:9000'")


def test_a_port_that_does_not_answer(run: Run, tmp_path: Path, s3: str, closed: str) -> None:
    objects = {"objects": {"bucket": "uploads", "endpoint_url": closed}, **vault(s3)}
    found = check(run, tmp_path, application=checks(f"{s3}/", closed), **objects)
    assert "lifeboat_application.checks[1].url" in found["cause"]
    assert "checks[0]" not in found["cause"]
    assert "lifeboat_objects: s3://uploads" in found["cause"]
    assert "refused" in found["cause"]
    assert "-e agent_reach_database=false" in found["cause"]
    assert not check(run, tmp_path, application=checks(closed), reach=False, **objects)["failed"]


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (LifeboatError("read", "database shop", 'column "path" does not exist', sqlstate="42703"), True),
        (UsageError("read", "database shop", "keys_query has no column `key`"), True),
        (LifeboatError("read", "database shop", "could not connect"), False),
        (None, False),
    ],
)
def test_a_query_for_keys_that_does_not_run_is_refused(
    run: Run, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, error: LifeboatError | None, refused: bool
) -> None:
    asked = []

    def stream(_self: object, sql: str, take: object, **_: object) -> None:
        asked.append(sql)
        if error:
            raise error

    monkeypatch.setattr(database_server.Server, "stream", stream)
    objects = {"objects": {"bucket": "uploads", "endpoint_url": s3, "keys_query": "SELECT path FROM f"}, **vault(s3)}
    found = check(run, tmp_path, application=checks(f"{s3}/"), **objects)
    assert found["failed"] is refused
    if refused:
        assert found["cause"].startswith(f"lifeboat_objects.keys_query: {error.cause!s}")  # type: ignore[union-attr]
        assert "-e agent_reach_database=false" in found["cause"]
    assert " LIMIT 1)" in asked[0], "no more than that is read"
    asked.clear()
    assert not check(run, tmp_path, application=checks(f"{s3}/"), reach=False, **objects)["failed"]
    assert not asked


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("pg_dump: error: this build does not support compression with zstd", "does not support compression with zstd"),
        ("pg_dump: error: permission denied for schema public", ""),
        ("", ""),
    ],
)
def test_deploy_tries_the_compression(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, said: str
) -> None:
    """The first night found it, by an error that named no key."""
    tried, real = list[list[str]](), pipeline.probe

    def probe(command: Command, **more: Any) -> tuple[int, str, str]:
        if "pg_dump" not in command.argv:
            return real(command, **more)
        tried.append(list(command.argv))
        return int(bool(stderr)), "", stderr

    monkeypatch.setattr(dump, "compression_problem", COMPRESSION_PROBLEM)
    state(monkeypatch, ServiceState(exists=True, running=True, status="running", id="c0ffee"))
    monkeypatch.setattr(database_server.Server, "version_num", 170012)
    monkeypatch.setattr(pipeline, "probe", probe)
    found = check(run, tmp_path)
    (words,) = tried
    assert words[-2:] == ["--dbname", "dbname='template1'"]
    assert {"--compress=zstd:1", "--schema-only"} <= {*words}
    assert found["failed"] is bool(said)
    if said:
        assert found["cause"].startswith("lifeboat_database.compression: ") and said in found["cause"]
        assert "Set lifeboat_database.compression to gzip:6." in found["cause"]


def test_a_vault_must_answer_even_where_the_stack_is_down(run: Run, tmp_path: Path, closed: str) -> None:
    found = check(run, tmp_path, reach=False, **vault(closed))
    assert found["cause"].startswith(f"lifeboat_vault: s3://uploads-backup at {closed}: ")


@pytest.mark.parametrize("boto3", [True, False])
def test_a_key_that_is_refused(run: Run, tmp_path: Path, s3: str, boto3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host that was never deployed, too, which has no boto3."""
    for name in () if boto3 else ("boto3", "botocore", "urllib3"):
        monkeypatch.setitem(sys.modules, name, None)
    repository = {"type": "s3", "bucket": "b", "endpoint_url": s3}
    found = check(run, tmp_path, repository=repository, **vault(s3, key="ANOTHERKEY01"))
    for variable in ("lifeboat_vault", "lifeboat_repository"):
        assert f"{variable}: s3://" in found["cause"]
    assert "the endpoint refuses the key (InvalidAccessKeyId). Correct s3_access_key" in found["cause"]
    assert SECRET not in json.dumps(found)


@pytest.mark.parametrize("bucket", ["missing", "denied"])
def test_what_deploy_makes_or_cannot_be_told_is_not_refused(run: Run, tmp_path: Path, s3: str, bucket: str) -> None:
    assert not check(run, tmp_path, **vault(s3, bucket))["failed"]


def test_the_port_of_a_console_is_none_of_s3(run: Run, tmp_path: Path, s3: str) -> None:
    assert "the answer is not an S3 server's" in check(run, tmp_path, **vault(s3, "console"))["cause"]


def test_a_stack_that_is_down_is_one_problem(
    run: Run, tmp_path: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(monkeypatch, ServiceState(exists=True, status="exited"))
    found = check(run, tmp_path, application=checks(closed))
    assert found["cause"] == f"lifeboat_database.service: db is exited. Start it. {preflight.NOT_UP}"
    assert not check(run, tmp_path, application=checks(closed), reach=False)["failed"]


def test_a_service_that_nobody_knows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(self: object, service: str) -> ServiceState:
        raise NotFoundError("find the service", service, "the project has backend, db", "Correct the service's name.")

    monkeypatch.setattr(ComposeRuntime, "state", state)
    assert "lifeboat_database.service: Could not find the service" in check(run, tmp_path)["cause"]


def place(host: str, stack: str, machine: str = "", **repository: Any) -> dict[str, Any]:
    return {"host": host, "machine": machine or host, "stack": stack, "repository": repository}


BUCKET = {"type": "s3", "bucket": "b", "endpoint_url": "http://s3:9000"}


@pytest.mark.parametrize(
    ("own", "other", "same"),
    [
        (place("shop1", "shop", "m", path="/backup"), place("wiki1", "wiki", "m", path="/backup/"), True),
        (place("shop1", "shop", "m", path="/backup"), place("wiki1", "wiki", "m", path="/backup/wiki"), False),
        (place("shop1", "shop", path="/backup"), place("wiki1", "wiki", path="/backup"), False),
        (place("shop1", "shop", "m", path="/backup"), place("shop2", "shop", "m", path="/backup"), False),
        (place("shop1", "shop", path="/backup"), place("wiki1", "", "shop1", path="/backup"), False),
        (place("shop1", "shop", prefix="x", **BUCKET), place("wiki1", "wiki", prefix="/x/", **BUCKET), True),
        (place("shop1", "shop", **BUCKET), place("shop2", "shop", **BUCKET), True),
        (place("shop1", "shop", prefix="x", **BUCKET), place("wiki1", "wiki", prefix="y", **BUCKET), False),
        (place("shop1", "shop", **BUCKET), place("wiki1", "wiki", path="/backup"), False),
    ],
)
def test_two_stacks_of_the_play_with_one_repository(
    own: dict[str, Any], other: dict[str, Any], same: bool, tmp_path: Path
) -> None:
    mine = Location(**own)
    found = preflight.shared(mine, [mine, Location(**other)], tmp_path)
    assert bool(found) is same, found
    if same:
        assert found[0].startswith(f"lifeboat_repository is also that of stack {other['stack']} on {other['host']}")


def test_a_stack_that_was_deployed_on_this_host_before(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    repository = {"type": "local", "path": str(tmp_path / "backup")}
    for stack in ("wiki", "shop"):
        configuration = {"stack": stack, "repository": repository, "of": "another version"}
        (directory / f"{stack}.json").write_text(json.dumps(configuration))
    (directory / "torn.json").write_text("{")
    found = check(run, tmp_path, host="shop1")
    where = f"which is deployed here ({directory}/wiki.json)"
    assert found["cause"].startswith(f"lifeboat_repository is also that of stack wiki, {where}; ")
    assert found["cause"].count("lifeboat_repository") == 1


def test_the_database_is_reached_where_the_stack_is_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_run: object) -> reach.Database:
        raise NotFoundError("find the database", "shoq", "the server has shop", "Correct lifeboat_database.name.")

    monkeypatch.setattr(reach, "database", refused)
    assert "the server has shop" in check(run, tmp_path)["msg"]
    assert check(run, tmp_path, reach=False)["failed"] is False


@pytest.mark.parametrize(("version", "warned"), [(170012, False), (170010, True), (130001, False)])
def test_an_unsafe_server_is_warned_of(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, warned: bool
) -> None:
    monkeypatch.setattr(reach, "database", lambda run: reach.Database("shop", 4096, "app", version))
    assert ("CVE-2026-18408" in json.dumps(check(run, tmp_path).get("warnings", []))) is warned


def test_packages_are_looked_for_by_what_they_bring(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the distribution calls them, and however they came there."""
    (tmp_path / "bin").mkdir()
    for name in ("crond", "git"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setattr(preflight, "_PLACES", str(tmp_path / "bin"))
    monkeypatch.setattr(preflight, "ZONES", tmp_path / "zones")
    monkeypatch.setattr(preflight, "INTERPRETER", "/nowhere/python3")
    asked = sorted(preflight.PACKAGES)
    commands = ["openssh-client", "zstd"]
    assert check(run, tmp_path, packages=asked)["missing"] == [
        "age",
        "logrotate",
        *commands[:1],
        "python3-boto3",
        "tzdata",
        "zstd",
    ]
    (tmp_path / "zones").write_text("")
    monkeypatch.setattr(preflight, "INTERPRETER", sys.executable)
    assert check(run, tmp_path, packages=asked)["missing"] == ["age", "logrotate", *commands]
    assert check(run, tmp_path)["missing"] == []


def test_every_package_of_the_agent_can_be_looked_for(run: Run, tmp_path: Path) -> None:
    """One that the module does not know ends each deployment of a stack that needs it."""
    path = Path(__file__).parents[2] / "roles/agent/vars/main.yml"
    variables = yaml.safe_load(path.read_text(encoding="utf-8"))
    lists = [text for name, text in variables.items() if name.endswith("_packages")]
    packages = {package for text in lists for package in re.findall(r"[\[,] ?'([a-z0-9-]+)'", text)}
    assert packages >= {"cron", "python3-boto3", "age", "git"}
    assert set(check(run, tmp_path, packages=sorted(packages))["missing"]) <= packages
    assert packages == {*preflight.PACKAGES}
