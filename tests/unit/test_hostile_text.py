# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others can write, in the texts that people and programs read: no line of its own, no word to a terminal."""

from __future__ import annotations

import json
import types
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import errors, text
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.faces import nagios
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import schedule
from builders import make_config, settings

FORGED = "2026-11-24T02:00:00+0000 shop[99] DEBUG backup ends"
HOSTILE = f"a\x1b[2J\x9b2Jb\r\x00\x08\u2028\u2029\x85\u202e\x7f\U000e0041\udce9日本\n{FORGED}"


def unseen(shown: str) -> set[str]:
    """The letters of a text that a terminal acts on, or that nobody sees."""
    return {
        letter for letter in shown if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (tmp_path / "log").mkdir()
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path)))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(schedule, "LOGS", tmp_path / "log")
    return directory


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "JSON"])
@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
def test_what_a_container_says_is_one_line_and_harmless(
    tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    """On the terminal, to a reader of JSON, and in the log, by which the scheduled runs are judged."""

    def take(run: Any, *_: Any, log: Any, **more: Any) -> Any:
        log(f"it said {HOSTILE}")
        if fails:
            raise errors.LifeboatError("dump the database", f"shop {HOSTILE}", HOSTILE, "Mend it.")
        return types.SimpleNamespace(
            unheld=(), missing=(), refused=None, pruned=None, failed=(),
            as_dict=lambda: {HOSTILE: [HOSTILE]}, lines=lambda: [HOSTILE],
        )  # fmt: skip

    monkeypatch.setattr(operations_backup, "take", take)
    assert cli.main(["backup", "database", *words, "--config-directory", str(etc)]) == int(fails)
    shown, log = capsys.readouterr(), (tmp_path / "log/shop.log").read_text("utf-8")
    assert [unseen(part) for part in (shown.out, shown.err, log)] == [set(), set(), set()]
    assert "日本" in log
    if words and not fails:
        assert json.loads(shown.out) == {HOSTILE: [HOSTILE]}
    found = schedule.runs(make_config(tmp_path))
    assert [bool(run.problem) for run in found] == [fails], "nobody else's line is a run"


def test_what_nagios_gets() -> None:
    lines = [nagios.unknown("shop", HOSTILE)[1], nagios.status("shop", [Check("a", "FAIL", HOSTILE)])[1]]
    assert [(unseen(line), line.count("\n")) for line in lines] == [(set(), 0)] * 2


def test_json_says_the_same() -> None:
    """And a text of one line is as long as it was, where all of it can be read."""
    value = {HOSTILE: ["\U0001f6df", HOSTILE, 1e308, None]}
    assert json.loads(text.printable_json(value)) == value
    assert unseen(text.printable_json(value)) == set()
    assert text.printable_json({"店": "a b"}) == '{"店": "a b"}'
    assert errors.printable_lines("a b\n日本") == "a b\n日本"
