# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack's jobs as timers of systemd, which catch up after a boot what was due while the host was off.

A unit is called `lifeboat-<job>@<stack>`: no name of a stack or of a job has an @ in it, so no two of them share one.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..base import pipeline
from ..base.errors import LifeboatError, UsageError
from ..base.pipeline import Command

UNITS = Path("/etc/systemd/system")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SERVICE, TIMER = ".service", ".timer"
_HEAD = "# By Lifeboat (lifeboat.dr.deploy), which writes it again.\n"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TERM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,2}))?")
_ELAPSES = re.compile(r"^OnCalendar=(.*)$", re.MULTILINE)
_RUNS = re.compile(r'^ExecStart=/bin/sh -c "(.*)"$', re.MULTILINE)
_ESCAPED: Mapping[str, str] = MappingProxyType({"\\": "\\\\", '"': '\\"', "$": "$$", "%": "%%"})
# In the order in which a night's jobs begin: after a boot all that was missed would begin at once, and the last seals.
_ORDER = ("backup-database", "backup-dumps", "backup-objects", "backup-files", "backup-config", "verify")
# A stack is up some time after its host is. A backup that begins before it fails, and tells somebody.
SETTLED = 300
_SETTLE = f"read -r up rest </proc/uptime; up=${{up%%.*}}; test $up -ge {SETTLED} || sleep $(({SETTLED} - up))"


@dataclass(frozen=True)
class _Field:
    what: str
    first: int
    last: int
    names: tuple[str, ...] = ()  # of the numbers from `offset` on
    offset: int = 0

    def read(self, text: str) -> frozenset[int]:
        """Return the numbers that it names. Raises ValueError."""
        return frozenset(number for term in text.split(",") for number in self._term(term))

    def _term(self, term: str) -> range:
        parsed = _TERM.fullmatch(term)
        if parsed is None:
            raise ValueError(f"{term!r} is no {self.what}")
        step = int(parsed["step"] or 1)
        begin, end = self.first, self.last
        if parsed["first"] is not None:
            begin = self._number(parsed["first"])
            end = begin if parsed["last"] is None else self._number(parsed["last"])
            if parsed["step"] is not None and parsed["last"] is None:
                raise ValueError(f"{term!r} is a step without a range, such as {begin}-{self.last}/{step}")
        if step < 1 or end < begin:
            raise ValueError(f"{term!r} is an empty range")
        return range(begin, end + 1, step)

    def _number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.offset
        if not text.isdigit() or not self.first <= int(text) <= self.last:
            raise ValueError(f"the {self.what} must be {self.first} to {self.last}, not {text!r}")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("weekday", 0, 7, _DAYS),
)


@dataclass(frozen=True)
class Times:
    """When a job is due, as crontab(5) has it: the times in systemd's words, and whether it is caught up."""

    calendar: tuple[str, ...]
    caught_up: bool


@dataclass(frozen=True)
class Unit:
    """A job as it stands in its units: when it is due, and what it runs."""

    name: str
    calendar: tuple[str, ...]
    command: str


def read(expression: str) -> Times:
    """Return when the job is due. Raises UsageError for what cron or systemd would not read."""
    fields = expression.split()
    try:
        if len(fields) != len(_FIELDS):
            raise ValueError("it is not minute, hour, day, month and weekday")
        minutes, hours, days, months, weekdays = (field.read(text) for field, text in zip(_FIELDS, fields))
    except ValueError as exc:
        remedy = "Correct it in the inventory. Nothing was changed."
        raise UsageError("read the schedule", repr(expression), str(exc), remedy) from None
    time = f"{_listed(hours, 0, 23)}:{_listed(minutes, 0, 59)}:00"
    month = _listed(months, 1, 12)
    week = sorted({day % 7 for day in weekdays})
    names = "" if len(week) == len(_DAYS) else f"{','.join(_DAYS[day].capitalize() for day in week)} "
    either = not fields[2].startswith("*") and not fields[4].startswith("*")  # crontab(5): one of the two is enough
    dates = [("", days), (names, _FIELDS[2].read("*"))] if either else [(names, days)]
    calendar = tuple(f"{name}*-{month}-{_listed(which, 1, 31)} {time}" for name, which in dates)
    hourly = len(minutes) > 1 or len(hours) == 24  # what is due so often is due again soon
    return Times(calendar, caught_up=not hourly)


def _listed(numbers: frozenset[int], first: int, last: int) -> str:
    return "*" if len(numbers) == last - first + 1 else ",".join(f"{number:02d}" for number in sorted(numbers))


def unit(stack: str, job: str) -> str:
    """Return the name that the job's units have before the dot. Raises UsageError for a name without a letter."""
    return f"lifeboat-{_slug(job)}@{stack}"


def _slug(job: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", job.lower().removeprefix("lifeboat ")).strip("-")
    if not slug:
        raise UsageError("name the timer", repr(job), "it has no letter", "Rename the job. Nothing was changed.")
    return slug


def service(stack: str, job: str, command: str, *, caught_up: bool) -> str:
    """Return the unit that runs the job, as cron would: by the shell, with the PATH of its file, and \\% for %."""
    slug = _slug(job)
    earlier = _ORDER[: _ORDER.index(slug)] if slug in _ORDER else ()
    after = ["network-online.target", "docker.service", *(f"lifeboat-{name}@{stack}{SERVICE}" for name in earlier)]
    settle = f'ExecStartPre=/bin/sh -c "{_quoted(_SETTLE)}"\n' if caught_up else ""
    return (
        f"{_HEAD}[Unit]\nDescription={_described(stack, job)}\nWants=network-online.target\nAfter={' '.join(after)}\n\n"
        f"[Service]\nType=oneshot\nEnvironment=HOME=/root\nEnvironment=PATH={PATH}\n{settle}"
        f'ExecStart=/bin/sh -c "{_quoted(command.replace(chr(92) + "%", "%"))}"\n'
    )


def timer(stack: str, job: str, times: Times) -> str:
    elapses = "".join(f"OnCalendar={line}\n" for line in times.calendar)
    persistent = "Persistent=true\n" if times.caught_up else ""
    return (
        f"{_HEAD}[Unit]\nDescription={_described(stack, job)}\n\n[Timer]\n{elapses}{persistent}AccuracySec=1s\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )


def _described(stack: str, job: str) -> str:
    return f"{job.replace('%', '%%')} of {stack}"


def _quoted(command: str) -> str:
    """As systemd.syntax(7) and systemd.service(5) have it."""
    return "".join(_ESCAPED.get(letter, letter) for letter in command)


def _unquoted(text: str) -> str:
    return re.sub(r'\\([\\"])|([$%])\2', lambda escaped: escaped[1] or escaped[2], text)


def files(stack: str) -> list[Path]:
    """Return the units of the stack's jobs, timers first."""
    return [
        path for suffix in (TIMER, SERVICE) for path in sorted(UNITS.glob(f"lifeboat-*@{glob.escape(stack)}{suffix}"))
    ]


def is_ours(path: str) -> bool:
    """Return whether this is a unit of one of Lifeboat's jobs, of any stack."""
    pattern = rf"{re.escape(str(UNITS))}/(?:timers\.target\.wants/)?lifeboat-[^/@]+@[^/@]+\.(?:service|timer)"
    return re.fullmatch(pattern, path) is not None


def load(stack: str) -> list[Unit]:
    """Return the jobs of the stack's timers, as their files have them. Raises OSError."""
    units = []
    for path in files(stack):
        if path.suffix == TIMER:
            run = path.with_suffix(SERVICE)
            command = _RUNS.search(run.read_text(encoding="utf-8", errors="replace") if run.is_file() else "")
            calendar = _ELAPSES.findall(path.read_text(encoding="utf-8", errors="replace"))
            units.append(Unit(path.stem, tuple(calendar), _unquoted(command[1]) if command else ""))
    return units


def waiting(names: Sequence[str]) -> dict[str, bool]:
    """Return of each timer whether it is started, now and at each boot. Raises LifeboatError where nobody answers."""
    argv = ["systemctl", "show", "-p", "Id,ActiveState,UnitFileState", *names]
    status, out, err = pipeline.probe(Command(argv))
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in out.split("\n\n")]
    states = {block.get("Id", ""): (block.get("ActiveState"), block.get("UnitFileState")) for block in blocks}
    if status or not set(names) <= set(states):
        cause = err.strip() or f"systemctl ended with {status} and does not name each of them"
        remedy = "Where systemd does not run, set lifeboat_scheduler: cron."
        raise LifeboatError("ask systemd for the timers", ", ".join(names), cause, remedy)
    return {name: states[name] == ("active", "enabled") for name in names}


def start(names: Iterable[str], changed: Iterable[str]) -> None:
    """Read the units again, and have the timers wait now and after a boot."""
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", *names)
    again = list(changed)
    if again:
        _systemctl("restart", *again)


def stop(names: Sequence[str]) -> None:
    """What runs now goes on to its end."""
    if names:
        _systemctl("disable", "--now", *names)


def reload() -> None:
    _systemctl("daemon-reload")


def _systemctl(*arguments: str) -> None:
    pipeline.run(
        [Command(["systemctl", *arguments])], attempted=f"{arguments[0]} the timers",
        subject=", ".join(arguments[1:]) or "systemd", timeout=120, remedy="Look at `systemctl status 'lifeboat-*'`.",
    )  # fmt: skip
