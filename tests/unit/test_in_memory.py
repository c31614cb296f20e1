# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret that no host keeps is sent through a pipe, or not at all."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.playbook.play_context import PlayContext
from ansible.plugins.action.normal import ActionModule as Normal
from ansible.plugins.loader import become_loader, connection_loader
from ansible_collections.lifeboat.dr.plugins.action import in_memory

ROOT = Path(__file__).resolve().parents[2]
KEY = "AGE-SECRET-KEY-1CANARY"
ROUTES = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["plugin_routing"]["modules"]
ACTIONS = sorted(name for name, route in ROUTES.items() if route == {"action_plugin": "lifeboat.dr.in_memory"})
TAKES = re.compile(rf"\*\*IDENTITY\b|\"({'|'.join(in_memory.SECRETS)})\": \{{")


def action(
    name: str = "escrow",
    *,
    connection: str = "ssh",
    pipelining: bool = True,
    become: str = "",
    later: int = 0,
    **arguments: str,
) -> Any:
    """The plugin as the executor makes it, over a real connection plugin that connects to nothing."""
    context = PlayContext()
    link = connection_loader.get(connection, context, os.devnull)
    link.set_options(direct={"pipelining": pipelining})
    if become:
        link.set_become_plugin(become_loader.get(become))
    task = SimpleNamespace(args=arguments, action=f"lifeboat.dr.{name}", async_val=later)
    return in_memory.ActionModule(task, link, context, None, None, None)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would run on the host."""
    found: list[str] = []
    monkeypatch.setattr(Normal, "run", lambda self, *_: found.append(self._task.action) or {})
    return found


def test_each_module_that_takes_such_a_secret_has_its_action() -> None:
    phases = ROOT / "plugins/module_utils/phases"  # whose options are those of the modules of the same names
    paths = [*(ROOT / "plugins/modules").glob("*.py"), *(path for path in phases.glob("*_*.py"))]
    taking = {path.stem for path in paths if TAKES.search(path.read_text())}
    assert sorted(ROUTES.get(name, {}).get("redirect", name).rpartition(".")[2] for name in taking) == ACTIONS


@pytest.mark.parametrize("name", ACTIONS)
def test_it_is_piped_or_refused(name: str, sent: list[str]) -> None:
    option = "admin_secret_key" if name == "vault" else "identity"
    action(name, **{option: KEY}).run(None, {"inventory_hostname": "shop1"})
    assert sent == [f"lifeboat.dr.{name}"]
    with pytest.raises(AnsibleActionFail) as refused:
        action(name, pipelining=False, **{option: KEY}).run(None, {"inventory_hostname": "shop1"})
    words = str(refused.value)
    assert f"lifeboat.dr.{name} on shop1" in words and "ansible_pipelining" in words
    assert KEY not in words
    assert len(sent) == 1, "nothing was sent"


def test_without_the_secret_nothing_is_asked(sent: list[str]) -> None:
    action("backup_verify", pipelining=False).run()
    action("backup_verify", pipelining=False, identity="").run()
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("changes", "keep", "words"),
    [
        ({"become": "su"}, False, "set ansible_become_method to sudo"),
        ({}, True, "ANSIBLE_KEEP_REMOTE_FILES"),
        ({"later": 60}, False, "leave async out"),
        ({"connection": "local", "pipelining": False}, False, "set ansible_pipelining"),
    ],
)
def test_what_turns_it_off_is_said(
    monkeypatch: pytest.MonkeyPatch, sent: list[str], changes: dict[str, Any], keep: bool, words: str
) -> None:
    """The setting alone does not decide whether Ansible pipelines."""
    monkeypatch.setattr(constants, "DEFAULT_KEEP_REMOTE_FILES", keep)
    with pytest.raises(AnsibleActionFail, match=words):
        action(identity=KEY, **changes).run()
    assert sent == []


def test_a_connection_that_cannot_is_refused(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    plugin = action(identity=KEY)
    monkeypatch.setattr(type(plugin._connection), "has_pipelining", False)
    with pytest.raises(AnsibleActionFail, match="has no pipelining; use ssh"):
        plugin.run()
    assert sent == []


@pytest.mark.slow
def test_ansible_itself_takes_the_action(tmp_path: Path) -> None:
    """The control is the same file on the disk for a secret that the hosts keep anyway."""
    (tmp_path / "vars.json").write_text(f'{{"key": "{KEY}"}}')
    words = ["ansible", "localhost", "-c", "local", "-m", "lifeboat.dr.escrow", "-a", "stack=shop identity={{ key }}"]
    env = {**os.environ, "ANSIBLE_PIPELINING": "false", "ANSIBLE_LOCAL_TEMP": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(
        [*words, "-e", f"@{tmp_path}/vars.json", "-vvv"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Could not send the age identity (lifeboat.dr.escrow on localhost): pipelining is off" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert "AnsiballZ_escrow" not in done.stdout, "no file was written"
