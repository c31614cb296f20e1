# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat explain`: each alert's runbook on the host, whatever else is broken there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli, completion, explain
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.modules import agent
from builders import settings
from test_rules import RULES

ROOT = Path(__file__).resolve().parents[2]
JAPANESE = re.compile(r"[\u3040-\u30ff]")


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")


def configured(directory: Path, *stacks: str, **changed: Any) -> Path:
    directory.mkdir(exist_ok=True)
    for stack in stacks:
        (directory / f"{stack}.json").write_text(json.dumps({**settings(directory, stack=stack), **changed}))
    return directory


def run(etc: Path, *arguments: str) -> int:
    return cli.main(["explain", *arguments, "--config-directory", str(etc)])


def test_the_texts_are_those_of_the_pages() -> None:
    argv = [sys.executable, str(ROOT / "docs/generate_runbooks.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("language", explain.LANGUAGES)
@pytest.mark.parametrize("alert", RULES)
def test_each_alert_is_explained(alert: str, language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    etc = configured(tmp_path / "etc", "wiki")
    assert run(etc, alert, "--language", language) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{alert}  {RULES[alert]['labels']['severity']}\n")
    assert bool(JAPANESE.search(shown)) == (language == "ja")
    # Nothing is left of the page's example, of the placeholder, or of what only a page can show.
    assert not re.search(r"\bshop\b|shop1|<stack>|\]\(|```", shown), shown
    commands = [text[4:] for text in shown.splitlines() if text.startswith("    ")]
    assert commands or alert == "LifeboatDrillOverdue", "an alert without a command"
    for command in commands:
        assert "--stack wiki" in command or "lifeboat " not in command.replace("ansible-playbook", "") or "|" in command
        for verb in re.findall(r"\blifeboat ([a-z]+)", command):
            assert verb in cli._VERBS


def test_both_languages_have_the_same_commands() -> None:
    english, japanese = (explain.read(language) for language in ("en", "ja"))
    assert list(english) == list(japanese) == list(RULES)
    for alert, runbook in english.items():
        assert runbook.commands == japanese[alert].commands
        assert runbook.where == RULES[alert]["annotations"]["where"]


def test_without_a_name_the_alerts_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(RULES)
    assert all(len(line.split(maxsplit=2)[2]) > 15 for line in lines), "one says nothing"
    assert run(tmp_path, "--json") == 0
    assert [entry["alert"] for entry in json.loads(capsys.readouterr().out)] == list(RULES)


@pytest.mark.parametrize("typed", ["LifeboatBackupStale", "BackupStale", "backupstale", "LIFEBOATBACKUPSTALE"])
def test_a_name_is_taken_as_people_type_it(typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, typed) == 0
    assert capsys.readouterr().out.startswith("LifeboatBackupStale  critical\n")


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("LifeboatBackupStael", "The nearest: LifeboatBackupStale"),
        ("disk", "The nearest: LifeboatDiskSpace, LifeboatDiskFull."),
        ("x", "`lifeboat explain` lists the alerts."),
        ("\x1b[31m", "`lifeboat explain` lists the alerts."),
    ],
)
def test_an_unknown_name(typed: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, typed) == 2
    out, err = capsys.readouterr()
    assert out == "" and "no alert has this name" in err and remedy in err and "\x1b" not in err
    assert run(tmp_path, typed, "--json") == 2
    assert remedy in json.loads(capsys.readouterr().out)["error"]["remedy"]


@pytest.mark.parametrize(
    ("variables", "japanese"),
    [
        ({}, False),
        ({"LANG": "ja_JP.UTF-8"}, True),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ja"}, True),
        ({"LANG": "java"}, False),
    ],
)
def test_the_language_is_the_terminals(
    variables: dict[str, str],
    japanese: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run(tmp_path, "LifeboatDiskFull") == 0
    assert bool(JAPANESE.search(capsys.readouterr().out)) == japanese


def test_which_stack_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = configured(tmp_path / "several", "shop", "wiki")
    assert run(several, "LifeboatSizeDrop") == 0
    shown = capsys.readouterr().out
    assert "lifeboat list --stack <stack>" in shown and shown.endswith("<stack> is one of: shop, wiki.\n")
    assert run(several, "LifeboatSizeDrop", "--stack", "wiki") == 0
    shown = capsys.readouterr().out
    assert "lifeboat list --stack wiki" in shown and "one of" not in shown
    # On a host that knows none, such as the one that watches.
    assert run(tmp_path / "nowhere", "LifeboatSizeDrop", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["stacks"] == [] and answer["commands"] == ["lifeboat list --stack <stack>"]


def test_a_keepers_stacks_are_known_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "DIRECTORY", tmp_path / "none")
    monkeypatch.setattr(config, "KEEPER_DIRECTORY", configured(tmp_path / "keeper", "wiki"))
    assert cli.main(["explain", "LifeboatKeeperPullStale"]) == 0
    assert "sudo -u keeper-wiki lifeboat keeper pull --stack wiki" in capsys.readouterr().out


def test_a_log_of_json_is_searched_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = configured(tmp_path / "plain", "wiki")
    ecs = configured(tmp_path / "ecs", "wiki", monitoring={"log_format": "json"})
    for etc, command in (
        (plain, "grep ERROR /var/log/lifeboat/wiki.log | tail"),
        (ecs, 'grep \'"log.level": "error"\' /var/log/lifeboat/wiki.log | tail'),
    ):
        assert run(etc, "LifeboatRunFailed", "--json") == 0
        assert json.loads(capsys.readouterr().out)["commands"] == [command]


def test_a_broken_configuration_explains_nothing_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    etc = configured(tmp_path / "etc", "wiki")
    (etc / "wiki.json").write_text("{")
    assert run(etc, "LifeboatRunFailed") == 0
    out, err = capsys.readouterr()
    assert "/var/log/lifeboat/wiki.log" in out and err == ""
    assert not cli.LOG_DIRECTORY.exists()


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("200", 100)])
def test_a_terminal_gets_lines_that_it_can_show(
    columns: str, widest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    assert run(tmp_path, "LifeboatFactsUnreadable", "--stack", "wiki") == 0
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(tmp_path, "LifeboatFactsUnreadable", "--stack", "wiki") == 0
    shown = capsys.readouterr().out
    assert max(map(len, piped.splitlines())) > 200
    assert widest >= max(map(len, shown.splitlines())) > widest - 20
    assert piped.split() == shown.split() and "\n    lifeboat list --stack wiki\n" in shown


def test_the_tab_key_offers_the_alerts(tmp_path: Path) -> None:
    assert completion.known("alerts", "", tmp_path) == list(RULES)
    assert '    explain:0) words="$(_lifeboat_known alerts "$stack")" ;;' in completion.script(cli.parser())


@pytest.mark.slow
def test_the_installed_command_explains_offline(tmp_path: Path) -> None:
    """One file, without the collection and without the right to read anything of the host's."""
    command = tmp_path / "lifeboat"
    command.write_bytes(agent.build(sys.executable))
    argv = [sys.executable, "-I", str(command), "explain", "LifeboatDiskFull", "--stack", "wiki"]
    done = subprocess.run(argv, cwd=tmp_path, env={}, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "    lifeboat checklist --period weekly --stack wiki\n" in done.stdout
