# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person at a terminal gets beyond the words: colour, and a sign of life while something takes long.

Nothing of it in cron, pipes, files and CI, nor where NO_COLOR (https://no-color.org) or TERM=dumb ask for plain text.
Colour repeats what a word says; it never says anything alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterable
from typing import Callable, Optional, TextIO

from . import pipeline, progress
from .errors import present, printable, printable_lines
from .text import human

_GREEN, _YELLOW, _RED, _BOLD, _DIM = "32", "33", "1;31", "1", "2"
_COLOURS = {
    "PASS": _GREEN, "FAIL": _RED, "COULD_NOT_VERIFY": _YELLOW, "COULD NOT VERIFY": _YELLOW, "ABORTED": _YELLOW,
    "NO EVIDENCE": _RED, "OVERDUE": _RED, "NEVER DONE": _RED, "BY HAND": _BOLD, "WARNING": _YELLOW,
}  # fmt: skip
_WORDS = "|".join(_COLOURS)
# A verdict stands first on its line or last: in the middle it is somebody's words.
_VERDICT = re.compile(rf"(?P<before>^ *)(?P<first>{_WORDS})(?![\w])|(?<=: )(?P<last>{_WORDS})$")
_PROVEN = re.compile(r"(?<=  )(?:(?P<yes>yes, \d{4}-\d\d-\d\d)|(?P<no>no)|(?P<broken>(?:BROKEN|INCOMPLETE): .*))$")
_HEAD = re.compile(r"(?:ID|RECOVERY POINT) +AGE .*PROVEN")
PROGRESS = "progress"  # what a record has that tells how far some work is
_PATIENCE = 2.0  # seconds without a word before time is shown


def wants_more(stream: TextIO) -> bool:
    """Is a person looking, at something that can do more than plain text?"""
    refused = os.environ.get("NO_COLOR") or os.environ.get("CI")
    return stream.isatty() and not refused and os.environ.get("TERM", "") not in ("", "dumb")


def painted(lines: Iterable[str]) -> list[str]:
    """The same lines with their verdicts and tables in colour. The last column of a table has no padding to upset."""
    return [_line(line) for line in lines]


def _in(colour: str, words: str) -> str:
    return f"\x1b[{colour}m{words}\x1b[0m"


def _line(line: str) -> str:
    if _HEAD.fullmatch(line):
        return _in(_BOLD, line)
    line = _PROVEN.sub(lambda found: _in(_GREEN if found["yes"] else _YELLOW if found["no"] else _RED, found[0]), line)
    return _VERDICT.sub(_verdict, line, count=1)


def _verdict(found: re.Match[str]) -> str:
    word = found["first"] or found["last"]
    return (found["before"] or "") + _in(_COLOURS[word], word)


class Plain(logging.Formatter):
    """A record as text that moves no cursor: what a tool or a server said is in it. one_line: for a log, in which
    each line is taken for one of ours."""

    def __init__(self, form: str, time_form: Optional[str] = None, *, one_line: bool = False) -> None:
        super().__init__(form, time_form)
        self._shown = printable if one_line else printable_lines

    def format(self, record: logging.LogRecord) -> str:
        return self._shown(super().format(record))


def handler(stream: TextIO, *, errors_only: bool = False) -> logging.Handler:
    """Progress for a person; for everybody else errors only, which cron mails."""
    if wants_more(stream) and not errors_only:
        return Progress(stream)
    plain = logging.StreamHandler(stream)
    plain.setLevel(logging.INFO if stream.isatty() and not errors_only else logging.ERROR)
    plain.setFormatter(Plain("lifeboat: %(message)s"))
    return plain


class Progress(logging.Handler):
    """Log lines, and below the last one how long ago it was and how far the work is, until rest()."""

    def __init__(self, stream: TextIO, *, moved: Callable[[], int] = pipeline.moved, every: float = 1.0) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(Plain("%(message)s"))
        self._stream, self._moved, self._every = stream, moved, every
        self._shown, self._ended = False, threading.Event()
        self._begin()
        threading.Thread(target=self._tick, daemon=True).start()

    def _begin(self) -> None:
        self._since, self._base = time.monotonic(), self._moved()

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, PROGRESS):  # the line below the last one shows it
            return
        colour = _RED if record.levelno >= logging.ERROR else _YELLOW if record.levelno >= logging.WARNING else _DIM
        try:
            self._erase()
            self._stream.write(f"{_in(colour, 'lifeboat:')} {self.format(record)}\n")
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone; the work is not
            self._ended.set()
        self._begin()

    def rest(self) -> None:
        """No more of it: what follows is the answer."""
        self._ended.set()
        with present(self.lock), contextlib.suppress(OSError, ValueError):  # as in emit()
            self._erase()

    def _erase(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _tick(self) -> None:
        while not self._ended.wait(self._every):
            seconds = time.monotonic() - self._since
            if seconds < _PATIENCE:
                continue
            text = self._done()
            with present(self.lock):
                if self._ended.is_set():
                    return
                try:
                    self._stream.write(f"\r\x1b[K          {seconds:.0f} s{f', {text}' if text else ''}")
                    self._stream.flush()
                    self._shown = True
                except (OSError, ValueError):
                    return

    def _done(self) -> str:
        if gauge := progress.current():
            return gauge.text()
        moved = self._moved() - self._base
        return human(moved) if moved else ""


def rest(log: logging.Logger) -> None:
    for item in log.handlers:
        if isinstance(item, Progress):
            item.rest()
