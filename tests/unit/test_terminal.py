# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Colour and progress: on a real pseudo terminal they are there, everywhere else not one escape."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pseudo_terminal
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline, terminal
from ansible_collections.lifeboat.dr.plugins.module_utils.base import progress as gauges
from builders import folder, prove, publish, settings, until

COLLECTIONS = next(path for path in sys.path if path.endswith(".ansible/collections"))
RUN = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command.cli import main; sys.exit(main())"
PLAIN = {"NO_COLOR": "", "CI": "", "TERM": "xterm-256color"}
ESCAPE = "\x1b"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A stack with a proved backup, and an older one that is not."""
    (tmp_path / "shop.json").write_text(json.dumps(settings(tmp_path, runtime={"type": "host"})))
    now = datetime.now(timezone.utc)
    publish(tmp_path, now - timedelta(seconds=10))
    prove(tmp_path, publish(tmp_path, now - timedelta(seconds=5)), at=now)
    return tmp_path


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **PLAIN, "PYTHONPATH": COLLECTIONS, **changes}


def seen(argv: list[str], **changes: str) -> tuple[int, str]:
    """What a terminal gets from it, standard output and error alike."""
    shown = b""
    with pseudo_terminal.running(argv, environment(**changes)) as (process, ours):
        while data := pseudo_terminal.read(ours):
            shown += data
        code = process.wait(timeout=60)
    return code, shown.decode().replace("\r\n", "\n")


def lifeboat(etc: Path, *words: str) -> list[str]:
    return [sys.executable, "-c", RUN, *words, "--config-directory", str(etc)]


@pytest.mark.slow
def test_a_terminal_shows_verdicts_and_tables_in_colour(etc: Path) -> None:
    code, shown = seen(lifeboat(etc, "status"))
    assert code == 0, shown
    assert "\n\x1b[32mPASS\x1b[0m             newest backup: " in shown
    assert "\n\x1b[32mPASS\x1b[0m  shop\n" in shown
    (folder(etc, publish(etc)) / "database.dump").unlink()
    code, shown = seen(lifeboat(etc, "list"))
    head, broken, fresh, proved = shown.splitlines()
    assert re.fullmatch(r"\x1b\[1mID .*PROVEN\x1b\[0m", head)
    assert broken.endswith("  \x1b[1;31mBROKEN: database.dump is missing\x1b[0m")
    assert fresh.endswith("  \x1b[33mno\x1b[0m")
    assert re.search(r"  \x1b\[32myes, \d{4}-\d\d-\d\d\x1b\[0m$", proved)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}, {"CI": "true"}], ids=str)
def test_a_terminal_that_wants_plain_text_gets_it(etc: Path, changes: dict[str, str]) -> None:
    coloured = seen(lifeboat(etc, "list"))[1]
    code, shown = seen(lifeboat(etc, "list"), **changes)
    assert (code, ESCAPE in shown, ESCAPE in coloured) == (0, False, True)
    ages = re.compile(r"\d+ (s|min)\b *")
    assert ages.sub("", shown) == ages.sub("", re.sub(r"\x1b\[[\d;]*m", "", coloured)), "the words are the same"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["list"], ["status"], ["verify", "nonsense"]], ids=" ".join)
def test_pipes_files_and_cron_get_plain_text(etc: Path, words: list[str]) -> None:
    done = subprocess.run(lifeboat(etc, *words), env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr
    assert ESCAPE not in done.stdout + done.stderr


@pytest.mark.slow
def test_json_is_json_on_a_terminal(etc: Path) -> None:
    code, shown = seen(lifeboat(etc, "status", "--json"))
    assert (code, json.loads(shown)["verdict"]) == (0, "PASS")


@pytest.mark.slow
def test_an_error_on_a_terminal(etc: Path) -> None:
    code, shown = seen(lifeboat(etc, "verify", "nonsense"))
    assert code == 2
    error = shown.rpartition("\r\x1b[K")[2]  # on a busy machine the seconds were shown before
    assert error.startswith("\x1b[1;31mlifeboat:\x1b[0m verify failed: Could not ")


LINES = [
    ("PASS  shop", "\x1b[32mPASS\x1b[0m  shop"),
    ("  COULD NOT VERIFY  growth: no", "  \x1b[33mCOULD NOT VERIFY\x1b[0m  growth: no"),
    ("database of shop on shop1: FAIL", "database of shop on shop1: \x1b[1;31mFAIL\x1b[0m"),
    ("NEVER DONE        drill: never passed", "\x1b[1;31mNEVER DONE\x1b[0m        drill: never passed"),
    ("PASSED by", "PASSED by"),
    ("keep    x  FAIL of old", "keep    x  FAIL of old"),
    ("the service said PASS and went", "the service said PASS and went"),
    ("the service said PASS", "the service said PASS"),
    ("there is no", "there is no"),
    ("", ""),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_only_a_verdict_is_painted(line: str, expected: str) -> None:
    assert terminal.painted([line]) == [expected]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(screen: Screen, monkeypatch: pytest.MonkeyPatch, moved: Callable[[], int]) -> terminal.Progress:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.0)
    return terminal.Progress(screen, moved=moved, every=0.02)


def test_long_work_shows_that_it_lives_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, amount = Screen(), [7_000_000]
    handler = progress(screen, monkeypatch, lambda: amount[0])
    handler.handle(logging.LogRecord("lifeboat", logging.INFO, "", 0, "x: dumping", None, None))
    until(lambda: screen.getvalue().endswith(" 0 s"))
    amount[0] += 5_000_000
    until(lambda: screen.getvalue().endswith("          0 s, 5.0 MB"))
    handler.handle(logging.LogRecord("lifeboat", logging.ERROR, "", 0, "it broke", None, None))
    assert "5.0 MB\r\x1b[K\x1b[1;31mlifeboat:\x1b[0m it broke\n" in screen.getvalue(), "erased before the next line"
    until(lambda: screen.getvalue().endswith(" 0 s"))
    handler.rest()
    assert screen.getvalue().endswith(" 0 s\r\x1b[K")
    time.sleep(0.1)
    assert screen.getvalue().endswith("\r\x1b[K"), "nothing comes after the rest"


def test_quick_work_shows_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 60.0)
    screen = Screen()
    handler = terminal.Progress(screen, every=0.01)
    handler.handle(logging.LogRecord("lifeboat", logging.INFO, "", 0, "x", None, None))
    time.sleep(0.1)
    handler.rest()
    assert screen.getvalue() == "\x1b[2mlifeboat:\x1b[0m x\n"


def test_a_terminal_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    handler = progress(screen, monkeypatch, lambda: 0)
    screen.close()
    handler.handle(logging.LogRecord("lifeboat", logging.INFO, "", 0, "x", None, None))
    handler.rest()


def test_the_bytes_of_a_chain_are_counted() -> None:
    before = pipeline.moved()
    sink = pipeline.HashingWriter()
    pipeline.run(
        [pipeline.Command(("cat",))], attempted="copy", subject="bytes", source=io.BytesIO(b"x" * 3000), sink=sink
    )
    assert sink.size == 3000
    assert pipeline.moved() - before == 3000, "once, though it was fed in and read out"
    pipeline.run([pipeline.Command(("printf", "abc"))], attempted="print", subject="words", sink=sink)
    assert pipeline.moved() - before == 3003


def test_only_errors_reach_a_plain_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    plain = terminal.handler(io.StringIO())
    assert (plain.level, isinstance(plain, terminal.Progress)) == (logging.ERROR, False)
    live = terminal.handler(Screen())
    assert isinstance(live, terminal.Progress)
    live.rest()


def test_work_with_a_gauge_is_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    handler = progress(screen, monkeypatch, lambda: 0)
    with gauges.going(gauges.Gauge("copying", 8, unit=gauges.OBJECTS)) as gauge:
        gauge.add(2)
        until(lambda: "0 s, 25 %, " in screen.getvalue())
        record = logging.LogRecord("lifeboat", logging.INFO, "", 0, "copying: 25 %", None, None)
        vars(record)[terminal.PROGRESS] = True
        handler.handle(record)
        gauge.add(4)
        until(lambda: "0 s, 75 %, " in screen.getvalue())
    handler.rest()
    assert "\n" not in screen.getvalue(), "what the log gets every 15 seconds is no line here"
