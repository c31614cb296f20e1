# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tab key, in a real bash and, where there is one, a real zsh."""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pseudo_terminal
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli, completion
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.modules import agent
from builders import NOW, publish, settings

BASH = shutil.which("bash")
ZSH = shutil.which("zsh")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as it is installed, so that what completes is what the host has."""
    path = tmp_path_factory.mktemp("bin") / "lifeboat"
    path.write_bytes(agent.build(sys.executable))
    path.chmod(0o755)
    return path


def offered(command: Path, line: str, etc: Path = Path("/nowhere")) -> list[str]:
    """What bash would offer at the end of this line. Its words are cut as readline cuts them, = being one."""
    words = re.sub(r" = $", " =", line.replace("=", " = ")).split(" ")
    installed = completion.script(cli.parser())
    assert "timeout 5 " in installed  # a terminal must not hang; a machine that runs other tests too may take longer
    script = "\n".join(
        [
            installed.replace("completion bash", f"completion bash --config-directory {etc}").replace("timeout 5 ", ""),
            "COMP_WORDS=(" + " ".join(f"'{word}'" for word in words) + f"); COMP_CWORD={len(words) - 1}",
            "_lifeboat || exit 9\nprintf '%s\\n' \"${COMPREPLY[@]}\"",
        ]
    )
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [BASH or "bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


STATIC = [
    ("lifeboat ver", ["verify"]),
    ("lifeboat --v", ["--version"]),
    ("lifeboat backup ", ["database", "objects", "files", "dumps", "config", "base"]),
    ("lifeboat backup --wait 3600 o", ["objects"]),
    ("lifeboat backup --wait ", []),
    ("lifeboat backup database --pr", ["--prune"]),
    ("lifeboat backup database ", []),
    ("lifeboat verify --level ", ["checksum", "archive", "restore"]),
    ("lifeboat verify --level=", ["checksum", "archive", "restore"]),
    ("lifeboat verify --level=re", ["restore"]),
    ("lifeboat prune --d", ["--dry-run"]),
    ("lifeboat checklist --json --period q", ["quarterly"]),
    ("lifeboat report --format j", ["junit", "json"]),
    ("lifeboat completion ", ["bash", "zsh"]),
    ("lifeboat completion --", ["--help"]),
    ("lifeboat recover database --meth", ["--method"]),
    ("lifeboat recover database --others ", ["ask", "restore", "aside"]),
    ("lifeboat quarantine ", ["list", "remove"]),
    ("lifeboat quarantine remove ", ["database", "volume", "directory", "bucket"]),
    ("lifeboat quarantine remove volume ", []),
    ("lifeboat nonsense ", []),
    ("lifeboat review ", []),
]


@pytest.mark.parametrize(("line", "expected"), STATIC)
def test_bash_offers(command: Path, line: str, expected: list[str]) -> None:
    assert offered(command, line) == expected


def subparsers() -> dict[str, argparse.ArgumentParser]:
    return next(action.choices for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))


@pytest.mark.parametrize("verb", sorted(subparsers()))
def test_every_option_of_every_verb_is_offered(command: Path, verb: str) -> None:
    """By the usage that the verb prints, not by the code that made the script."""
    options = set(re.findall(r"(?<!\S)\[?(--[\w-]+)", subparsers()[verb].format_usage()))
    assert set(offered(command, f"lifeboat {verb} --")) == {"--help", *options}


@pytest.mark.slow
def test_what_only_the_host_knows_is_offered(command: Path, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    for stack in ("shop", "wiki"):
        at = tmp_path / stack
        at.mkdir()
        (etc / f"{stack}.json").write_text(json.dumps({**settings(at), "stack": stack}))
        (etc / f"{stack}.secrets.json").write_text("{}")
    (etc / "$(touch owned).json").write_text("{}")
    one = publish(tmp_path / "shop")
    other = publish(tmp_path / "shop", NOW + timedelta(hours=1))
    assert offered(command, "lifeboat status --stack ", etc) == ["shop", "wiki"]
    assert offered(command, "lifeboat status --stack=w", etc) == ["wiki"]
    assert offered(command, "lifeboat verify --stack shop db_", etc) == [one.id, other.id]
    assert offered(command, "lifeboat verify --stack wiki db_", etc) == []
    assert offered(command, "lifeboat verify db_", etc) == [], "which of the two stacks is not said"
    assert not Path("owned").exists()


def test_points_and_records_are_offered(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(settings(tmp_path)))
    one = publish(tmp_path)
    points, records = tmp_path / "backup" / "recovery-points", config.load("", tmp_path).state / "evidence"
    written = ["site_20261124_120000", "backend_20261125_120000"]
    for folder, names in ((points, ["20261124_033000"]), (records, written)):
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.json").write_text("{}")
    (records / "notes.json").write_text("{}")
    assert completion.known("points", "", tmp_path) == ["20261124_033000"]
    assert completion.known("backups", "shop", tmp_path) == [one.id, "20261124_033000"]
    assert completion.known("records", "", tmp_path) == written


def test_a_bucket_is_not_asked_at_the_tab_key(tmp_path: Path) -> None:
    told = settings(tmp_path)
    told["repository"] = {"type": "s3", "bucket": "b", "endpoint_url": "http://192.0.2.1"}
    (tmp_path / "shop.json").write_text(json.dumps(told))
    (tmp_path / "shop.secrets.json").write_text(json.dumps({"s3_access_key": "x", "s3_secret_key": "y"}))
    began = time.monotonic()
    assert completion.known("backups", "shop", tmp_path) == []
    assert time.monotonic() - began < 10  # a connection that is not answered would take a minute


@pytest.mark.slow
def test_nothing_known_is_no_error(command: Path, tmp_path: Path) -> None:
    of_hosts = [kind for kind in completion.KINDS if kind != "alerts"]  # which come with the command
    for kind in of_hosts:
        done = subprocess.run(
            [command, "completion", "bash", "--known", kind, "--config-directory", tmp_path / "none"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert (done.stdout.strip(), done.stderr) == ("", "")


def typed(shell: list[str], setup: str, keys: str, awaited: str, environment: dict[str, str]) -> str:
    """What a terminal shows when this is typed into an interactive shell."""
    shown = ""
    with pseudo_terminal.running(shell, {**os.environ, **environment}) as (_, ours):

        def until(words: str) -> None:
            nonlocal shown
            end = time.monotonic() + 30
            while words not in shown and time.monotonic() < end:
                if select.select([ours], [], [], 0.2)[0]:
                    shown += pseudo_terminal.read(ours).decode(errors="replace")

        os.write(ours, f"{setup}; echo rea''dy\n".encode())
        until("ready\r\n")
        assert "ready\r\n" in shown, shown
        shown = ""
        os.write(ours, keys.encode())
        until(awaited)
    return shown


@pytest.mark.slow
def test_the_tab_key_in_an_interactive_bash(command: Path, tmp_path: Path) -> None:
    """Once through readline itself, with what the command prints; files, too, which only readline completes."""
    (tmp_path / "the kit.json").touch()
    bash = [BASH or "bash", "--norc", "--noprofile", "-i"]
    setup = f"PATH={command.parent}:$PATH; cd {tmp_path}; source <(lifeboat completion bash)"
    shown = typed(bash, setup, "lifeboat verify --le\tarc\t x\b", "--level archive", {"TERM": "dumb"})
    assert "lifeboat verify --level archive" in shown
    shown = typed(bash, setup, "lifeboat escrow --kit the\t", "json", {"TERM": "dumb"})
    assert "--kit the\\ kit.json" in shown


@pytest.mark.skipif(ZSH is None, reason="NOT CHECKED by zsh: there is none")
def test_the_tab_key_in_an_interactive_zsh(command: Path, tmp_path: Path) -> None:
    zsh = [ZSH or "zsh", "-f", "-i"]
    setup = f"PATH={command.parent}:$PATH; cd {tmp_path}; source <(lifeboat completion zsh)"
    environment = {"TERM": "dumb", "ZDOTDIR": str(tmp_path), "HOME": str(tmp_path)}
    shown = typed(zsh, setup, "lifeboat verify --le\tarc\t", "archive", environment)
    assert "--level archive" in shown.replace(" \b", "")


def test_it_follows_the_parser() -> None:
    """A new verb, option or choice is offered without another line of code."""
    top = argparse.ArgumentParser()
    verb = top.add_subparsers().add_parser("sail")
    verb.add_argument("--sea", choices=["north", "south"])
    verb.add_argument("--secret", help=argparse.SUPPRESS)
    text = completion.script(top)
    assert "sail:--sea) words='north south' ;;" in text
    assert "secret" not in text
    assert text != completion.script(cli.parser())
    assert completion.script(cli.parser()) == completion.script(cli.parser())
