# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log as JSON lines with the names of the Elastic Common Schema: what a run writes, and that it is read again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import ecs, errors
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import schedule
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from builders import make_config, settings

# https://www.elastic.co/docs/reference/ecs/ecs-field-reference, those that are used, and their types there.
FIELDS = {
    "@timestamp": str, "log.level": str, "message": str, "ecs.version": str, "service.name": str,
    "service.version": str, "event.dataset": str, "event.kind": str, "event.action": str, "event.outcome": str,
    "event.sequence": int, "host.hostname": str, "process.pid": int, "process.exit_code": int, "labels": dict,
}  # fmt: skip


def said(text: str, *, exit_code: int | None = None) -> dict[str, Any]:
    record = logging.makeLogRecord({"name": "lifeboat", "msg": text, "levelno": 20, "levelname": "INFO"})
    if exit_code is not None:
        record.exit_code = exit_code
    line = ecs.Formatter("shop", "backup").format(record)
    assert len(line.splitlines()) == 1
    assert len(line.encode()) < 8192
    found = json.loads(line)
    assert list(found)[:3] == ["@timestamp", "log.level", "message"], "as the ECS logging specification wants it"
    assert {name: type(value) for name, value in found.items()} == {name: FIELDS[name] for name in found}
    return dict(found)


TEXTS = {
    "Japanese": "商店をバックアップしています",
    "quotes and a backslash": 'a "name" of C:\\',
    "line breaks of every kind": "one\ntwo\r\nthree\u2028four\u2029five\x85six\x0bseven\x0c",
    "a terminal's words": "\x1b[31mred\x7f\x00",
    "outside the first plane": "𠮷野家 🛟",
    "nothing": "",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_message_is_one_line_and_intact(text: str) -> None:
    assert said(text)["message"] == text


def test_japanese_can_be_read_without_a_decoder() -> None:
    record = logging.makeLogRecord({"msg": "商店 に"})
    assert "商店 に" in ecs.Formatter("shop", "backup").format(record)


def test_a_name_that_is_not_utf_8_is_shown() -> None:
    assert said("caf\udce9.txt")["message"] == "caf\\udce9.txt"


@pytest.mark.parametrize("letter", ["a", "店", "\x00", '"', "𠮷", "\udce9"])
def test_a_long_message_is_cut_and_says_so(letter: str) -> None:
    found = said(letter * 100_000)["message"]
    kept, words = re.fullmatch(r"(.*) … and (\d+) more characters", found, re.DOTALL).groups()  # type: ignore[union-attr]
    shown = letter.encode("utf-8", "backslashreplace").decode()
    assert len(kept) + int(words) == 100_000 * len(shown)
    assert kept == (shown * 100_000)[: len(kept)]
    assert said("x" * (ecs.LONGEST - 2))["message"] == "x" * (ecs.LONGEST - 2), "the longest is whole"


@pytest.mark.parametrize(("code", "outcome"), [(0, "success"), (3, "unknown"), (1, "failure"), (130, "failure")])
def test_the_end_of_a_run_has_its_outcome(code: int, outcome: str) -> None:
    found = said("backup ends", exit_code=code)
    assert (found["event.outcome"], found["process.exit_code"]) == (outcome, code)
    assert "event.outcome" not in said("dumping")
    assert errors.UnverifiedError.exit_code == ecs._UNVERIFIED


RUBBISH = ["", "{", "[]", "5", "null", '{"@timestamp": "x"}', '"backup ends"', "{" * 10_000, "[" * 100_000]


@pytest.mark.parametrize("line", RUBBISH, ids=range(len(RUBBISH)))
def test_what_is_not_ours_is_not_read(line: str) -> None:
    assert ecs.read(line) is None
    record = logging.makeLogRecord({"msg": "backup ends", "levelname": "ERROR", "process": 7})
    whole = ecs.Formatter("shop", "backup").format(record)
    assert ecs.read(whole) is not None
    for name in ("@timestamp", "log.level", "message", "process.pid"):
        assert ecs.read(json.dumps({**json.loads(whole), name: None})) is None


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose log is JSON."""
    (tmp_path / "log").mkdir()
    directory = tmp_path / "etc"
    directory.mkdir()
    monitoring = {"log_format": "json"}
    (directory / "shop.json").write_text(json.dumps({**settings(tmp_path), "monitoring": monitoring}))
    (directory / "shop.secrets.json").write_text(json.dumps({"database_password": 'canary "correct" 馬'}))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(schedule, "LOGS", tmp_path / "log")
    return directory


def ran(etc: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException | None, words: str) -> list[dict[str, Any]]:
    def verify(*_: Any, log: Any, **__: Any) -> Any:
        log(words)
        raise problem or errors.LifeboatError("verify", "shop", words, "Mend it.")

    monkeypatch.setattr(operations_verify, "verify", verify)
    with contextlib.suppress(ZeroDivisionError):
        cli.main(["verify", "--config-directory", str(etc)])
    text = (etc.parent / "log/shop.log").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.mark.parametrize(
    ("problem", "code"),
    [(None, 1), (ZeroDivisionError("商店\n"), 1), (KeyboardInterrupt(), 130)],
    ids=["error", "bug", "ctrl-c"],
)
def test_a_run_in_json(etc: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException | None, code: int) -> None:
    lines = ran(etc, monkeypatch, problem, "商店\n{}")
    assert [line["message"] for line in lines[:2]] == ["verify begins", "商店\n{}"]
    assert [line["event.sequence"] for line in lines] == [0, 1, 2]
    assert {(line["process.pid"], line["labels"]["stack"], line["event.action"]) for line in lines} == {
        (os.getpid(), "shop", "verify")
    }
    assert (lines[2]["log.level"], lines[2]["process.exit_code"]) == ("error", code)
    (run,) = schedule.runs(make_config(etc.parent))
    assert run.problem == lines[2]["message"][:200], "by which the checklist judges the scheduled runs"


def test_no_secret_is_in_it_in_any_form(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = 'canary "correct" 馬'
    lines = ran(etc, monkeypatch, None, f"said {secret}, {json.dumps(secret)} and password=canary2")
    text = (etc.parent / "log/shop.log").read_text(encoding="utf-8")
    assert "canary" not in text and "correct" not in text
    assert "said ********" in lines[1]["message"]
    lines = ran(etc, monkeypatch, None, "x" * (ecs.LONGEST - 10) + secret)
    assert "canary" not in (etc.parent / "log/shop.log").read_text(encoding="utf-8"), "nor half of one where it is cut"


def test_a_log_of_both_kinds_is_read(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is turned to JSON has last night's text in the same file."""
    path = etc.parent / "log/shop.log"
    path.write_text(f"2026-11-23T02:00:01+0000 shop[{os.getpid()}] DEBUG backup begins\n")
    assert [run.problem for run in schedule.runs(make_config(etc.parent))] == [schedule._CUT]
    with path.open("a", encoding="utf-8") as file:
        for level, text, code in (("DEBUG", "backup ends", 0), ("DEBUG", "prune begins", None), ("INFO", "x", None)):
            record = logging.makeLogRecord({"msg": text, "levelname": level, "process": os.getpid()})
            if code is not None:
                record.exit_code = code
            file.write(ecs.Formatter("shop", "backup").format(record) + "\n")
    assert [run.problem for run in schedule.runs(make_config(etc.parent))] == ["", schedule._CUT]


def test_a_configuration_that_cannot_be_read_is_told_as_text(etc: Path) -> None:
    (etc / "shop.json").write_text("{")
    assert cli.main(["verify", "--stack", "shop", "--config-directory", str(etc)]) == 2
    assert (etc.parent / "log/shop.log").read_text().splitlines()[0].split()[2] == "ERROR"


def test_only_the_two_formats_are_known(tmp_path: Path) -> None:
    assert make_config(tmp_path).monitoring.log_format == "text"
    with pytest.raises(errors.UsageError) as caught:
        make_config(tmp_path, monitoring={"log_format": "xml"})
    assert "monitoring.log_format" in str(caught.value)
