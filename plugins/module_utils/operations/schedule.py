# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do the scheduled runs happen? The jobs, cron or systemd's timers, the command, and how its last runs ended."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional

from ..base import ecs, filesystem, pipeline
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, at_most
from ..base.errors import LifeboatError
from ..base.pipeline import Command
from ..base.version import VERSION
from ..repository.base import ID
from ..repository.components import KINDS, watched
from ..settings.config import Config
from ..tools import timers

CRON = Path("/etc/cron.d")
LOGS = Path("/var/log/lifeboat")
PROCESSES = Path("/proc")
USUAL_PATH = "/usr/bin:/bin"  # cron's own, where the file names none
MONTH = timedelta(days=31)
_LARGEST = 32 << 20
_CUT = "it began and never ended: the process was killed, or the host went down"
_JOB = re.compile(r"(?P<when>@\w+|(?:[\d*/,\-A-Za-z]+\s+){4}[\d*/,\-A-Za-z]+)\s+(?P<user>\S+)\s+(?P<command>\S.*)")
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}) \S+\[(\d+)\] ([A-Z]+) (.*)")
_TIMES = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z")  # of a line of text, of one of JSON
# What a backup, a verification or a pruning says; `lifeboat status` and its like are no scheduled work.
WORK = ("backup", "verify", "prune")
BEGINS, ENDS = "%s begins", "%s ends"
_VERB = f"(?:{'|'.join(WORK)})"
_BEGINS = re.compile(BEGINS % _VERB)
_ENDS = re.compile(f"{_VERB}(?: failed| interrupted|:| ends$)")
# From the beginning of a word on, or of a MiB without a blank each letter is looked at half a million times.
_ID = f"(?<![a-z0-9]){ID.pattern}"
_WORK = re.compile(f"{_BEGINS.pattern}|{_ENDS.pattern}|{_ID}")
_MAYBE = re.compile(f"{_VERB}|{_ID}")  # lines worth reading, of what may be 32 MiB


@dataclass(frozen=True)
class Run:
    """One process of the log that did scheduled work, and what it failed of. over: it said how it ended."""

    at: datetime
    problem: str = ""
    over: bool = True


@dataclass(frozen=True)
class Job:
    """A job that is scheduled: when, and what it runs as root."""

    when: str
    command: str


def checks(config: Config, now: datetime) -> list[Check]:
    path = CRON / filesystem.cron_name(config.stack)
    units = timers.files(config.stack)
    if units:
        services = [_waiting(units), *([_daemon()] if path.exists() else [])]
        return [_timers(config, units, path), *services, _agent(f"PATH={timers.PATH}", "systemd"), _runs(config, now)]
    text, found = _file(config, path)
    return [found, _daemon(), _agent(text), _runs(config, now)]


def required(config: Config) -> dict[str, str]:
    """What has to be scheduled: its name, and the words that its command has."""
    backups, proofs = {}, {"verify": "verify"}
    for kind in watched(config):
        alone = kind.name not in KINDS  # it is in no recovery point, so that no backup of everything has it
        backups[f"backup {kind.name}"] = f"backup {kind.name}" if alone else rf"backup(?: {kind.name})?"
        proofs.update({f"verify {kind.name}": f"verify {kind.name}"} if alone else {})
    return {**backups, **proofs, **({"notify": "notify"} if config.notify else {})}


def _file(config: Config, path: Path) -> tuple[str, Check]:
    name, ask = "schedule", "run lifeboat.dr.deploy"
    try:
        facts, text = path.stat(), filesystem.read_file(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return "", Check(name, FAIL, f"there is no {path}; {ask}")
    except OSError as exc:
        return "", Check(name, COULD_NOT_VERIFY, f"{path}: {exc.strerror or exc}")
    if not _of_root_alone(facts):
        # cron(8): such a file is not read
        return text, Check(name, FAIL, f"{path} is not root's alone to write, so that cron does not read it; {ask}")
    return text, _scheduled(config, _cron_jobs(text), path)


def _of_root_alone(facts: os.stat_result) -> bool:
    return facts.st_uid == 0 and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and stat.S_ISREG(facts.st_mode)


def _cron_jobs(text: str) -> list[Job]:
    jobs = [job for line in text.splitlines() if (job := _JOB.fullmatch(line.strip())) and job["user"] == "root"]
    return [Job(" ".join(job["when"].split()), job["command"]) for job in jobs]


def _scheduled(config: Config, jobs: Sequence[Job], where: object) -> Check:
    times: dict[str, str] = {}
    for what, words in required(config).items():
        asked = rf"\blifeboat {words} (?=--).*--stack {re.escape(config.stack)}(?:\s|$)"
        times[what] = next((job.when for job in jobs if re.search(asked, job.command)), "")
    missing = [what for what, when in times.items() if not when]
    if missing:
        return Check("schedule", FAIL, f"{where} has no job for {', '.join(missing)}; run lifeboat.dr.deploy")
    return Check("schedule", PASS, f"{where}: {', '.join(f'{what} {when}' for what, when in times.items())}")


def _timers(config: Config, units: Sequence[Path], path: Path) -> Check:
    """The jobs of the timers, and of the cron file, which may have jobs of the operator's own."""
    try:
        writable = next((unit for unit in units if not _of_root_alone(unit.stat())), None)
        jobs = [Job(" and ".join(unit.calendar), unit.command) for unit in timers.load(config.stack) if unit.calendar]
        jobs += _cron_jobs(filesystem.read_file(path).decode("utf-8", "replace")) if path.exists() else []
    except OSError as exc:
        return Check("schedule", COULD_NOT_VERIFY, f"{exc.filename or timers.UNITS}: {exc.strerror or exc}")
    if writable:
        return Check("schedule", FAIL, f"{writable} is not root's alone to write; run lifeboat.dr.deploy")
    return _scheduled(config, jobs, f"timers of {timers.UNITS}")


def _waiting(units: Sequence[Path]) -> Check:
    names = [path.name for path in units if path.suffix == timers.TIMER]
    try:
        idle = [name for name, waits in timers.waiting(names).items() if not waits] if names else []
    except LifeboatError as exc:
        return Check("timers", COULD_NOT_VERIFY, exc.cause)
    if idle:
        cause = f"{', '.join(idle)} not started now and at each boot"
        return Check("timers", FAIL, f"{cause}; start: systemctl enable --now {' '.join(idle)}")
    return Check("timers", PASS if names else FAIL, f"{len(names)} started now and at each boot")


def _daemon() -> Check:
    status, out, err = pipeline.probe(Command(["systemctl", "is-active", "cron.service", "crond.service"]))
    if "active" in out.split():
        return Check("cron", PASS, "the service runs")
    if status in (124, 126, 127) or not out.strip():
        return Check("cron", COULD_NOT_VERIFY, err.strip() or "systemd said nothing")
    return Check("cron", FAIL, "the service does not run; start it: systemctl enable --now cron")


def _agent(text: str, caller: str = "cron") -> Check:
    """The command as cron or systemd finds it, which need not be the one that an operator's PATH has."""
    path = (re.findall(r"^\s*(?:[^#\n]*\s)?PATH\s*=\s*(\S+)", text, re.MULTILINE) or [USUAL_PATH])[0]
    command = shutil.which("lifeboat", path=path)
    if command is None:
        return Check("command", FAIL, f"{caller} finds no lifeboat in {path}; run lifeboat.dr.deploy")
    status, out, err = pipeline.probe(Command([command, "--version"]))
    if status:
        return Check("command", FAIL, f"{command} ended with {status}: {(err or out).strip()[-200:]}")
    if out.strip() != f"lifeboat {VERSION}":
        return Check("command", FAIL, f"{command} is {out.strip()!r}, not lifeboat {VERSION}; run lifeboat.dr.deploy")
    return Check("command", PASS, f"{command} runs: {out.strip()}")


def _runs(config: Config, now: datetime) -> Check:
    """By what the runs themselves wrote. One that never began wrote nothing: its absence is judged."""
    name = "last runs"
    found = sorted((run for run in runs(config) if now - MONTH <= run.at <= now), key=lambda run: run.at)
    if not found:
        return Check(name, COULD_NOT_VERIFY, f"{LOGS / config.stack}.log tells of no run in the last 31 days")
    failed = [run for run in found if run.problem]
    age = (now - found[-1].at).total_seconds() / 3600
    words = f"{len(found)} in 31 days, {len(failed)} failed, the last {age:.1f} h ago"
    if found[-1].problem:
        return Check(name, FAIL, f"{words}, and it failed: {found[-1].problem}")
    words += f"; {failed[-1].at:%Y-%m-%d}: {failed[-1].problem}" if failed else ""
    return at_most(name, age, config.alarms.backup_age_hours, "h", words)


def runs(config: Config) -> list[Run]:
    """What the log, and the one before it, tells of processes that backed up, verified or pruned, and are over.

    A run that began and wrote no end was killed, or its host went down: it failed, although it wrote no error.
    """
    found: dict[tuple[str, str], Run] = {}
    begun: dict[str, tuple[str, str]] = {}  # by process
    for line in _lines(config):
        said = _entry(line)
        at = _time(said.at) if said else None
        if said is None or at is None:  # not a line of ours
            continue
        begins = bool(_BEGINS.fullmatch(said.text))
        if begins:
            begun[said.process] = (said.process, said.at)
        key = begun.get(said.process, (said.process, said.at[:10]))  # earlier versions did not log that they began
        before = found.get(key, Run(at))
        wrong = said.text[:200] if said.level in ("ERROR", "CRITICAL") else ""
        over = not begins and (before.over or bool(_ENDS.match(said.text)))
        found[key] = Run(max(at, before.at), before.problem or pipeline.scrub(wrong), over)
        if over:
            begun.pop(said.process, None)
    running = {key for pid, key in begun.items() if _runs_now(pid)}
    return [run if run.over else replace(run, problem=_CUT) for key, run in found.items() if key not in running]


def _entry(text: str) -> Optional[ecs.Line]:
    """What a line of scheduled work says; None for any other. A log that was turned to JSON has lines of both kinds."""
    if not _MAYBE.search(text):
        return None
    one = _LINE.fullmatch(text)
    said = ecs.Line(*one.groups()) if one else ecs.read(text)
    return said if said and _WORK.search(said.text) else None


def _time(text: str) -> Optional[datetime]:
    for form in _TIMES:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form)
    return None


def _runs_now(pid: str) -> bool:
    """Is that process a lifeboat? Another program may have its number by now."""
    try:
        return b"lifeboat" in (PROCESSES / pid / "cmdline").read_bytes()
    except OSError:
        return False


def _lines(config: Config) -> Iterator[str]:
    for path in (LOGS / f"{config.stack}.log.1", LOGS / f"{config.stack}.log"):
        try:
            with filesystem.open_file(path) as file:
                file.seek(max(0, path.stat().st_size - _LARGEST))
                yield from file.read(_LARGEST).decode("utf-8", "replace").split("\n")
        except OSError:
            continue
