# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors an operator can act on at 03:00: what was attempted, on what, why it failed, what to do next."""

from __future__ import annotations

import re
from typing import Callable, Optional, TypeVar

T = TypeVar("T")
Log = Callable[[str], None]  # tells an operator how far the work is, a line each
NOT_INSTALLED = 127  # the status that shells give a command that is not there; a Python package that is missing too
TIMED_OUT, ENGINE, CANNOT_RUN = 124, 125, 126  # of timeout(1), of docker's own failures, of shells
_LINE_SHOWN = 4000  # characters of one line of a cause
# Classes of SQLSTATE that tell of the machine: connections, resources, an operator's intervention, the system.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
ENVIRONMENT = ("08", "53", "57", "58")
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # of a terminal


def present(value: Optional[T]) -> T:
    """The value, which the code before has made sure of. Unlike an assert this stays with `python -O`."""
    if value is None:
        raise AssertionError("a value that must be there is None")
    return value


def prints(letter: str) -> bool:
    """Whether it can be shown as it is: spaces that people type too, which Python does not call printable. French has
    two before its punctuation, and Japanese one as wide as a letter."""
    return letter.isprintable() or letter in "\u00a0\u202f\u3000"


def printable(text: str) -> str:
    """Text on one line: a byte that is not UTF-8 as `\\xe9`, a line break as `\\n`, whatever does not print."""
    if text.isprintable():
        return text
    return "".join(letter if prints(letter) else _escape(letter) for letter in text)


def stripped(text: str) -> str:
    """Text that has lines without what does not print, such as colours: the last words of a program."""
    return "".join(letter for letter in _SEQUENCE.sub("", text) if prints(letter) or letter in "\n\t")


def printable_lines(text: str) -> str:
    """The same of a text that has lines, for a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _escape(letter: str) -> str:
    """A byte is half a pair of surrogates here, as the error handler surrogateescape makes it."""
    return f"\\x{ord(letter) - 0xDC00:02x}" if "\udc80" <= letter <= "\udcff" else ascii(letter)[1:-1]


def _cut(line: str) -> str:
    """A tool may say megabytes without a line break; nobody reads them, and logs and evidence keep them."""
    return line if len(line) <= _LINE_SHOWN else f"{line[:_LINE_SHOWN]}… ({len(line)} characters)"


class LifeboatError(Exception):
    """Every failure the core raises on purpose. Anything else that escapes is a bug.

    attempted: verb phrase, "read the manifest". subject: what it was done to. cause: why it failed, in the words of
    the program that failed. remedy: the next thing to do, a command where there is one.

    Decisions are made on data, not on the words of `cause`. exit_status: of the process that failed (negative: killed
    by that signal; 127: not installed, 126: cannot be run). sqlstate: PostgreSQL's code, where psql reported an error.
    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """

    exit_code = 1

    def __init__(
        self,
        attempted: str,
        subject: str,
        cause: str,
        remedy: str = "",
        *,
        exit_status: Optional[int] = None,
        sqlstate: str = "",
    ) -> None:
        self.attempted, self.subject = printable(attempted), _cut(printable(subject))  # of names, which may be hostile
        self.cause, self.remedy = "\n".join(map(_cut, cause.strip().split("\n"))), remedy
        self.exit_status, self.sqlstate = exit_status, sqlstate
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"Could not {self.attempted} ({self.subject}): {self.cause}"
        if text[-1] not in ".!?":
            text += "."
        return f"{text} {self.remedy}" if self.remedy else text


def unable(status: int) -> bool:
    """Whether a process ended so for a reason outside its data: it could not be run, had no time left, or was killed by
    a signal (negative, or 128 + its number from a shell or a container)."""
    return status < 0 or status in (TIMED_OUT, ENGINE, CANNOT_RUN, NOT_INSTALLED) or status > 128


def of_machine(sqlstate: str) -> bool:
    """Whether that SQLSTATE tells of the machine and not of the data."""
    return sqlstate[:2] in ENVIRONMENT


class UsageError(LifeboatError):
    """The request or the configuration is wrong; nothing was tried."""

    exit_code = 2


class UnverifiedError(LifeboatError):
    """A check could not be made, so nothing is known: never a pass."""

    exit_code = 3


class LockedError(LifeboatError):
    """Another run holds the stack's lock."""

    exit_code = 4


class NotFoundError(LifeboatError):
    """The named backup, database, service or file is not there."""

    exit_code = 5


class IntegrityError(LifeboatError):
    """Data is there and is not what it should be."""

    exit_code = 6


class UntrustedError(IntegrityError):
    """A document that nobody signed who may: it is not used, and never deleted for that reason."""


class SpaceError(LifeboatError):
    """A file system is full or read-only."""

    exit_code = 7


class CopyError(LifeboatError):
    """The backup is good where it is, and is not in the vault, or retention could not be applied there."""

    exit_code = 8
