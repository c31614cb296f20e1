# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries: every secret of a stack is told back by every tool and by the application, and is in nothing that leaves.

All modules and all commands are in a table here, and one that is new and in none fails. What leaves is the result of a
module with `-vvv --diff`, what it writes into the journal, what a command prints with and without --json, and each byte
that either leaves on the disk: logs, evidence, reports, metrics, archives, memories.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import canaries
import evidence_world
import pytest
from ansible.module_utils import _internal
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command, Finished
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import drill
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store as evidence_store
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import schedule
from ansible_collections.lifeboat.dr.plugins.module_utils.phases import step
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer
from builders import NOW, make_manifest, prove, publish, publish_config, publish_objects, settings
from test_modules import MODULES, REQUIRED, WITHOUT_STACK

ROOT = Path(__file__).resolve().parents[2]
# By name, each with signs that are told otherwise in JSON, in an address and in base64.
SECRETS = {
    name: f'canary"{number}&{name[:4]}/x'
    for number, name in enumerate(
        ("database_password", "database_backup_password", "vault_secret_key", "s3_secret_key", "objects_secret_key",
         "objects_admin_secret_key", "github_token", "git_token_app", "drill_authorization", "notify_webhook",
         "notify_slack_token")
    )
}  # fmt: skip
NAMES = {"vault_access_key": "AKVAULT", "objects_access_key": "AKOBJECTS", "objects_admin_access_key": "AKADMIN"}
WORDS = [face for secret in SECRETS.values() for face in pipeline.faces(secret)]
ID = make_manifest(NOW).id
CONFIG, POINT = ID.replace("db_", "config_"), ID[-15:]
# What each module takes beyond the stack; those of test_modules.py are what it must be given. What is in WITHOUT_STACK
# knows a secret by its form only.
ARGUMENTS: dict[str, dict[str, Any]] = {
    **{name: {} for name in (
        "agent", "backend_plan_info", "backup_info", "backup_prune", "backup_verify", "checklist_info",
        "database_backup",
        "database_info", "database_plan_info", "database_restore", "dumps_plan_info", "endpoint_info", "evidence_info",
        "files_plan_info",
        "frontend_plan_info",
        "objects_mirror", "objects_plan_info", "objects_reconcile", "objects_restore", "recovery_point", "report",
        "site_plan_info", "site_scope_info", "stack_check_info", "stack_images", "stack_info", "stack_reopen", "vault",
    )},
    **REQUIRED,
}  # fmt: skip
ARGUMENTS["agent"] = {"path": "{root}/agent", "interpreter": "/no/python"}
ARGUMENTS["alert_test"] = {"url": "http://127.0.0.1:9", "stack_name": "shop", "wait_seconds": 1}
ARGUMENTS["fleet_info"] = {"hosts": [{"host": "app1", "stack": "shop", "problem": "it was not reached"}]}
ARGUMENTS["report"] = {"directory": "{root}/report", "hosts": []}
ARGUMENTS["schedule"] = {
    "stack_name": "shop", "jobs": [{"name": "backup", "schedule": "0 2 * * *", "job": "lifeboat backup"}],
}  # fmt: skip
ARGUMENTS["site_phase"] = {"recovery_point": POINT, "begin": "restore"}
ARGUMENTS["files_recover"] = ARGUMENTS["dumps_recover"] = {"plan": {"needed": True}}
ARGUMENTS["frontend_recover"] = {"plan": {"needed": True}, "token": SECRETS["github_token"]}
ARGUMENTS["vault"] = {"admin_access_key": "AKADMIN", "admin_secret_key": SECRETS["objects_admin_secret_key"]}
HOST = socket.gethostname()
# Every command, with the words that make it do most; {root} is the test's directory.
COMMANDS: dict[str, list[list[str]]] = {
    "adopt": [[]],
    "backup": [["database"], ["config"], ["objects"], []],
    "checklist": [["--period", period, "--html", "{root}/list.html"] for period in ("daily", "monthly", "incident")],
    "escrow": [["--print-kit"], ["--identity", "{root}/none"], ["--look"]],
    "explain": [[], ["LifeboatRunFailed"], ["LifeboatNone"]],
    "keeper": [["status"]],
    "list": [[]],
    "mark": [["before-upgrade"]],
    "metrics": [["--stdout", "--ask"]],
    "notify": [[], ["--test"]],
    "prune": [["--trust-clock"], ["--dry-run"]],
    "recover": [["database", "--confirm", HOST], ["database", "--plan"]],
    "quarantine": [[], ["remove", "database", "x", "--yes"]],
    "report": [[], ["--output", "{root}/report"]],
    "review": [["database_20261121_120105", "--finding", "{said}", "--owner", "a", "--due", "2026-12-31"]],
    # What it sends is searched where it is given lines: test_shipping.
    "ship": [["--url", "http://127.0.0.1:9", "--authorization", "{root}/none"]],
    "status": [[]],
    "transaction": [[]],
    "verify": [["--level", "archive"], [CONFIG], [POINT]],
    "changes": [[], ["enable", "--dry-run"], ["disable", "--dry-run"], ["look", "--now"]],
    "wal": [
        [],
        ["enable", "--dry-run"],
        ["disable", "--dry-run"],
        ["base"],
        ["receive"],
        ["send"],
        ["instants"],
        ["verify"],
        ["dump"],
    ],
    "when": [[]],
}
SETTINGS: dict[str, Any] = {
    "config": {"enabled": True},
    "objects": {"bucket": "uploads", "endpoint_url": "http://127.0.0.1:9", "admin": {"api": "minio"}},
    "vault": {"endpoint_url": "http://127.0.0.1:9", "objects_bucket": "mirror", "repository_bucket": "copies"},
    "application": {"checks": [{"url": "http://127.0.0.1:9/health"}], "timeout": 1},
    "frontend": {
        "url": "http://127.0.0.1:9/", "repository": "a/b", "api_url": "http://127.0.0.1:9",
        "remote_url": "http://127.0.0.1:9/a/b.git",
    },
    "drill": {
        "transactions": [
            {
                "name": "orders",
                "write": {"url": "http://127.0.0.1:9/o", "json": {"name": "{token}"}},
                "read": {"url": "http://127.0.0.1:9/o/{id}"},
            }
        ]
    },
    "notify": [{"type": "webhook"}, {"type": "slack"}, {"type": "mail", "recipients": ["root"]}],
    "environment": "drill",
}  # fmt: skip


@dataclass
class World:
    """A host whose tools say every secret in every form. said: what they say. journal: what modules wrote there."""

    root: Path
    status: int = 1
    form: str = "connecting as app with "  # none in which anything would know a secret but by its value
    journal: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        return " ".join(f"{self.form}{word}" for word in WORDS)

    def run(
        self, commands: Sequence[Command], *, attempted: str, subject: str, sink: Any = None, remedy: str = "",
        ok: Callable[[Finished], bool] = lambda finished: finished.status == 0, **_: object,
    ) -> list[Finished]:  # fmt: skip
        done = []
        for command in commands:
            self.asked.append(" ".join(command.argv))
            done.append(Finished(command, self.status, pipeline.scrub(self.said)))
            if not ok(done[-1]):
                raise pipeline.failed(attempted, subject, done[-1], remedy)
            if sink is not None:
                sink.write(self.said.encode())
        return done

    def seen(self, *texts: str) -> list[str]:
        """The secrets that are in these texts, in the journal, or in a file beside the configuration."""
        whole = "\n".join([*texts, *self.journal])
        on_disk = canaries.found(self.root / "left", WORDS)
        return [word for word in WORDS if word in whole or on_disk[word]]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    left = tmp_path / "left"
    for folder in ("etc", "left", "left/log", "left/locks", "left/srv"):
        (tmp_path / folder).mkdir()
    given = settings(left, runtime={"project_directory": str(left / "srv")}, **SETTINGS)
    (tmp_path / "etc/shop.json").write_text(json.dumps(given))
    (tmp_path / "etc/shop.secrets.json").write_text(
        json.dumps({**SECRETS, **NAMES, "notify_slack": "http://127.0.0.1:9/"})
    )
    first = publish(left)
    publish_objects(left, of=first)
    publish_config(left)
    prove(left, first)
    evidence_store.write(config.from_mapping(given), evidence_world.typed(evidence_world.record(left, 3)))
    monkeypatch.setattr(pipeline, "run", made.run)
    monkeypatch.setattr(answer, "send", lambda *_, **__: (500, made.said.encode()))
    monkeypatch.setattr(clock, "pause", lambda since: None)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(drill, "_STEADY", 0.0)
    monkeypatch.setattr(lock, "DIRECTORY", left / "locks")
    monkeypatch.setattr(cli, "LOG_DIRECTORY", left / "log")
    monkeypatch.setattr(schedule, "LOGS", left / "log")
    monkeypatch.setattr(config, "DIRECTORY", tmp_path / "etc")
    monkeypatch.setattr(config, "KEEPER_DIRECTORY", tmp_path / "etc")
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, **_: made.journal.append(str(msg)))
    monkeypatch.setattr(_internal, "is_controller", False)
    monkeypatch.setattr(warnings, "_global_warnings", {})
    return made


def filled(value: Any, world: World) -> Any:
    if isinstance(value, str):
        return value.replace("{root}", str(world.root / "left")).replace("{said}", world.said)
    if isinstance(value, dict):
        return {name: filled(inner, world) for name, inner in value.items()}
    return [filled(inner, world) for inner in value] if isinstance(value, list) else value


def module(world: World, name: str, capsys: pytest.CaptureFixture[str], *, check: bool) -> str:
    """What Ansible gets of a module with -vvv --diff."""
    one = importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.modules.{name}")
    internal = {"_ansible_verbosity": 3, "_ansible_diff": True, "_ansible_check_mode": check}
    common = {} if name in WITHOUT_STACK else {"stack": "shop"}
    common |= {"config_directory": str(world.root / "etc")} if common else {}
    with patch_module_args({**common, **filled(ARGUMENTS[name], world), **internal}), pytest.raises(SystemExit):
        one.main()
    return capsys.readouterr().out


def test_each_module_and_each_command_is_in_a_table() -> None:
    assert sorted(ARGUMENTS) == MODULES, "a new module: say here what it is given, so that its results are searched"
    assert sorted(COMMANDS) == sorted(cli._VERBS), "a new command: say here how it is called"


@pytest.mark.parametrize("status", [1, 0], ids=["tools fail", "tools answer"])
@pytest.mark.parametrize("name", MODULES)
def test_no_secret_leaves_a_module(world: World, name: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    world.status = status
    world.form = "password=" if name in WITHOUT_STACK else world.form
    told = module(world, name, capsys, check=status == 0)
    assert json.loads(told), "it ended as modules end"
    assert world.seen(told) == []


@pytest.mark.parametrize(("verb", "words"), [(verb, words) for verb, every in COMMANDS.items() for words in every])
def test_no_secret_leaves_a_command(
    world: World, verb: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    texts: list[str] = []
    for status, more in ((1, []), (0, ["--json"])):
        world.status = status
        cli.main([verb, *filled(words, world), *more, "--config-directory", str(world.root / "etc")])
        texts += capsys.readouterr()
    assert world.seen(*texts) == []


def test_without_the_scrubber_secrets_leave(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others look for is there to be found: in a result, in what is printed, and in a file."""
    monkeypatch.setattr(pipeline, "scrub", lambda text, secrets=None: text)
    monkeypatch.setattr(step, "unmistakable", lambda known: [])
    assert world.seen(module(world, "backup_verify", capsys, check=False))
    cli.main(["checklist", "--period", "incident", "--config-directory", str(world.root / "etc")])
    assert world.seen(*capsys.readouterr())
    world.journal.clear()
    assert world.seen(), "the log and the evidence"


def test_a_name_is_no_secret(world: World, tmp_path: Path) -> None:
    """A recovery goes by the names of a plan: a password that is one of them, or a short word, is left in a result."""
    given = settings(tmp_path, database={"name": "shop2026"})
    known = {"database_password": "shop2026", "vault_secret_key": "postgres", "objects_access_key": "AKOBJECTS1"}
    assert step.unmistakable(config.from_mapping(given, known)) == []
    found = step.unmistakable(config.from_mapping(given, {**known, "s3_secret_key": "aB3/x&yz"}))
    assert {"aB3/x&yz", "aB3%2Fx%26yz"} <= {*found}
    made = step.Result(step.Diff("with aB3/x&yz", "shop2026"), diff=step.Diff("aB3/x&yz")).values(found)
    assert made == {
        "before": "with ********",
        "after": "shop2026",
        "changed": False,
        "diff": {"before": "********", "after": ""},
    }


PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  ignore_errors: true
  tasks:
    - ansible.builtin.copy: {content: "{{ control }}", dest: "{{ root }}/control", mode: "0600"}
    - lifeboat.dr.stack_check_info: {settings: "{{ settings }}", secrets: "{{ secrets }}"}
    - lifeboat.dr.database_backup: {stack: shop, config_directory: "{{ root }}/etc"}
    - lifeboat.dr.vault: {stack: shop, config_directory: "{{ root }}/etc", admin_access_key: AK, admin_secret_key: "{{ secrets.s3_secret_key }}"}
"""  # noqa: E501 - a task is a line


@pytest.mark.slow
def test_no_secret_leaves_ansible_itself(tmp_path: Path) -> None:
    """A whole ansible-playbook with -vvv --diff: invocations, differences, failures. The control is no secret to it."""
    given = settings(tmp_path, runtime={"project_directory": str(tmp_path)}, **SETTINGS)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/shop.json").write_text(json.dumps(given))
    (tmp_path / "etc/shop.secrets.json").write_text(json.dumps({**SECRETS, **NAMES}))
    told = {"root": str(tmp_path), "settings": given, "secrets": {**SECRETS, **NAMES}, "control": "canary-control"}
    (tmp_path / "vars.json").write_text(json.dumps(told))
    (tmp_path / "play.yml").write_text(PLAY)
    words = ["ansible-playbook", "-i", "localhost,", "-vvv", "--diff", "-e", f"@{tmp_path}/vars.json"]
    words += ["-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")]
    environment = {**os.environ, "ANSIBLE_PIPELINING": "true", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local")}
    environment["ANSIBLE_INJECT_INVOCATION"] = "true"  # since 2.21 it has to be asked for
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "canary-control" in said, "the control"
    assert said.count("module_args") >= 4, "each task ran, and told how it was called"
    assert [word for word in WORDS if word in said] == []
