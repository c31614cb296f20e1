# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat keeper` as a timer and an operator use it: exit codes, words, JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli, keeper
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import receive
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import settings
from keeper_world import DAY, PULLED, START, World, keeper_settings


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, monkeypatch)
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "shop.json").write_text(json.dumps(settings(tmp_path, keeper=keeper_settings(tmp_path))))
    monkeypatch.setattr(config, "KEEPER_DIRECTORY", etc)
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    return made


def lifeboat(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = cli.main(["keeper", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_night(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = world.publish(START)
    world.now = START + PULLED
    code, found = lifeboat(capsys, "pull", "--prune")
    assert code == 0 and made.id in found["received"] and found["prune"]["alarms"] == []
    assert lifeboat(capsys, "status")[0] == lifeboat(capsys, "log")[0] == 0
    code, found = lifeboat(capsys, "status")
    assert found["verdict"] == "PASS" and {item["what"] for item in found["untested"]} == {
        "archive, restore",
        "content",
    }
    assert cli.main(["keeper"]) == 0
    assert "PASS  shop" in capsys.readouterr().out


def test_an_alarm_is_the_exit_code_and_says_how_it_ends(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made, _pulled = world.night(0)
    (world.folder(made) / "manifest.json").write_bytes(b"{}")
    world.now += DAY
    code, found = lifeboat(capsys, "pull", "--prune")
    assert (
        code == 6 and found["strange"] and {item["kind"] for item in found["prune"]["alarms"]} == {"strange", "fewer"}
    )
    assert cli.main(["keeper", "prune"]) == 6
    said = capsys.readouterr()
    assert "lifeboat keeper acknowledge --stack shop --why" in said.out + said.err
    assert lifeboat(capsys, "acknowledge")[0] == 2, "not without a word of why"
    (world.folder(made) / "manifest.json").write_bytes(made.to_bytes())
    assert lifeboat(capsys, "acknowledge", "--why", "a test of ours")[0] == 0
    assert lifeboat(capsys, "pull", "--prune")[0] == 0
    assert b"a test of ours" in (world.kept / "receipts.jsonl").read_bytes()


def test_the_head_is_printed_and_compared(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.night(0)
    _code, found = lifeboat(capsys, "log")
    world.night(1)
    assert lifeboat(capsys, "log", "--head", found["head"])[0] == 0
    other = f"0:{'a' * 64}"
    assert lifeboat(capsys, "log", "--head", other)[0] == 6
    path = world.kept / "receipts.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind":"pulled"', b'"kind":"pruned"', 1))
    assert lifeboat(capsys, "log")[0] == 6
    assert lifeboat(capsys, "pull")[0] == 6, "and nothing is pulled or pruned"
    assert lifeboat(capsys, "prune")[0] == 6


def test_a_dry_run_deletes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        world.night(number)
    world.now += 25 * DAY  # no gap of a month
    world.pull()
    for number in (28, 45, 46):
        world.night(number)
    kept = world.bytes()
    code, found = lifeboat(capsys, "prune", "--dry-run")
    assert code == 0 and found["delete"]
    assert world.bytes() == kept
    assert lifeboat(capsys, "prune")[1]["delete"] == found["delete"]
    assert set(found["delete"]).isdisjoint(world.repo.published("database"))


def test_a_pull_that_ended_early_is_an_error_and_shows_what_came(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.night(0)
    for number in range(30):
        (world.host / "postgresql" / f"x{number}").mkdir()
    path = world.root / "etc/shop.json"
    given = json.loads(path.read_text())
    given["keeper"]["limits"] = {"names": 10}
    path.write_text(json.dumps(given))
    code, found = lifeboat(capsys, "pull")
    assert code == 6 and "more than 10 names" in found["stopped"]


def test_a_host_that_is_no_keeper(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.root / "etc/shop.json").write_text(json.dumps(settings(world.root)))
    code, found = lifeboat(capsys, "status")
    assert code == 2 and "no keeper" in found["error"]["cause"]


def test_a_disk_that_is_not_mounted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.kept.rmdir()
    code, found = lifeboat(capsys, "pull")
    assert code == 2 and "not there" in found["error"]["cause"]


def test_another_user_than_the_keepers_writes_nothing_there(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.night(0)
    monkeypatch.setattr(keeper.os, "geteuid", lambda: 4321)
    for action in (["pull"], ["prune"], ["acknowledge", "--why", "x"]):
        code, found = lifeboat(capsys, *action)
        assert code == 2 and "Run it as that user: sudo -u" in found["error"]["remedy"]
    assert lifeboat(capsys, "status")[0] == lifeboat(capsys, "log")[0] == 0, "reading is no harm"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["sh", "-c", "echo Host key verification failed. >&2; exit 255"], "Host key verification failed"),
        (["sh", "-c", "echo Welcome to Debian; sleep 5"], "not SFTP"),
        (["sleep", "30"], "no answer for 1 s"),
        (["/nonexistent/ssh"], "No such file"),
    ],
)
def test_a_pull_that_fails_before_the_first_answer_is_an_alarm_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, argv: list[str], why: str
) -> None:
    world.night(0)
    source = dataclasses.replace(world.config.keeper.source, mounted="", host="shop1", user="k", identity_file="/k")
    world.with_keeper(source=source, stall=1)
    monkeypatch.setattr(receive, "command", lambda *_words: argv)
    run = Opened(world.config)
    with pytest.raises(LifeboatError, match=why):
        keeper._ACTIONS["pull"](run, argparse.Namespace(wait=0, override=0, prune=False), len)
    (alarm,) = [one for one in world.alarms() if one.kind == "stopped"]
    assert why in alarm.message
