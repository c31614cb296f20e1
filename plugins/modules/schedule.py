#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule
short_description: Set or remove jobs of a stack, in its cron file or as timers of systemd
version_added: 0.1.0
description:
  - Keeps C(/etc/cron.d/lifeboat-<stack>), one file for each stack. The jobs that are given are set or removed; every
    other line stays. A file without jobs is removed. A dot in the stack's name is C(DOT) there, as cron reads no file
    with a dot in its name.
  - The file and the marks are those of C(ansible.builtin.cron), so a job that an earlier version set is replaced and
    not repeated.
  - With O(scheduler=systemd) each job is a timer and a service, C(lifeboat-<job>@<stack>), and no line of the cron
    file. A timer catches up after a boot what was due meanwhile, unless it is due every hour or more often.
  - Makes the directory of a local repository, and tells whether cron runs.
options:
  scheduler:
    description:
      - What starts the jobs. What the other one has of these jobs is removed.
    type: str
    choices: [cron, systemd]
    default: cron
  stack_name:
    description: The stack, which need not be configured yet.
    type: str
    required: true
  jobs:
    description: The jobs.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What marks it in the file.
        type: str
        required: true
      schedule:
        description: Minute, hour, day, month, weekday, in the host's own time.
        type: str
        required: true
      job:
        description: The command.
        type: str
        required: true
      enabled:
        description: Whether it is there.
        type: bool
        default: true
  repository:
    description: The directory of a local repository, to be made for root alone. Empty for none.
    type: str
    default: ""
  group:
    description: A group of the host that may read the repository too, as a keeper's account does.
    type: str
    default: ""
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The file before and after.
"""

EXAMPLES = r"""
- name: Set the backup
  lifeboat.dr.schedule:
    stack_name: shop
    jobs:
      - name: lifeboat backup database
        schedule: 0 2 * * *
        job: lifeboat backup database --stack shop >/dev/null

- name: Set it as a timer, which is caught up after a boot
  lifeboat.dr.schedule:
    stack_name: shop
    scheduler: systemd
    jobs:
      - name: lifeboat backup database
        schedule: 0 2 * * *
        job: lifeboat backup database --stack shop >/dev/null
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
cron:
  description:
    - Which C(service) it is, and whether it C(runs) now and after a boot. With timers C(service) is empty and C(runs)
      true, as no service has to be started.
  returned: success
  type: dict
  sample: {service: cron, runs: true}
timers:
  description: The timers of these jobs. Empty with cron.
  returned: success
  type: list
  elements: str
  sample: [lifeboat-backup-database@shop.timer]
log:
  description: What was done, line by line. Empty, as the diff has it.
  returned: success
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: success
  type: dict
"""

import grp
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, filesystem, pipeline, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.module.placing import Placing
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import timers

CRON = Path("/etc/cron.d")
PATH = f'PATH="{timers.PATH}"'
MARK = "#Ansible: "
DEBIAN = Path("/etc/debian_version")
TIMES = re.compile(r"[\d*/,\-A-Za-z]+(?:[ \t]+[\d*/,\-A-Za-z]+){4}")
PLAIN = re.compile(r"[^\x00-\x1f\x7f]+")
SETS_PATH = re.compile(r"\s*PATH\s*=")
NO_JOB = re.compile(r"\s*(?:#.*|\w+\s*=.*)?")


@dataclass(frozen=True)
class Job:
    name: str
    schedule: str
    job: str
    enabled: bool = True

    @property
    def crontab_line(self) -> str:
        return f"{' '.join(self.schedule.split())} root {self.job}"


@dataclass(frozen=True)
class Cron:
    service: str
    runs: bool


def read(value: object) -> tuple[Job, ...]:
    jobs = typed.build(tuple[Job, ...], value, partial(UsageError, "read the jobs"))
    for job in jobs:
        if not TIMES.fullmatch(job.schedule.strip()):
            cause = f"{typed.shown(job.schedule)} is not minute, hour, day, month and weekday"
            raise UsageError("read the schedule", job.name, cause, "Correct it in the inventory. Nothing was changed.")
        if not PLAIN.fullmatch(job.name) or not PLAIN.fullmatch(job.job):
            raise UsageError("read the jobs", typed.shown(job.name), "a job is one line", "Nothing was changed.")
        timers.read(job.schedule)  # cron reads no line of a file in which one is wrong, and says so in its log only
    return jobs


def edited(text: str, jobs: Sequence[Job]) -> str:
    """Return the file with these jobs set or removed; empty if no job is left. Each stays where it is, once."""
    waiting = {job.name: job for job in jobs}
    known = dict(waiting)
    lines, kept = text.splitlines(), [PATH]
    at = 0
    while at < len(lines):
        name = lines[at].removeprefix(MARK) if lines[at].startswith(MARK) else ""
        if name in known:
            job = waiting.pop(name, None)
            kept += [lines[at], job.crontab_line] if job is not None and job.enabled else []
            at += (
                1 if lines[at + 1 : at + 2] and lines[at + 1].startswith(MARK) else 2
            )  # a mark whose job was taken away
            continue
        kept += [] if SETS_PATH.match(lines[at]) else [lines[at]]
        at += 1
    for job in waiting.values():
        kept += [f"{MARK}{job.name}", job.crontab_line] if job.enabled else []
    return "".join(f"{line}\n" for line in kept) if any(not NO_JOB.fullmatch(line) for line in kept) else ""


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""


def put(placing: Placing, path: Path, content: str) -> None:
    if content:
        placing.file(path, content.encode("utf-8", "surrogateescape"), 0o644)
    else:
        placing.absent(path)


def set_timers(placing: Placing, stack: str, jobs: Sequence[Job]) -> list[str]:
    """Have a timer for each job that is enabled, and none for the others; return the timers."""
    enabled, absent, changed = dict[str, Job](), list[Path](), list[str]()
    for job in jobs:
        path = timers.UNITS / timers.unit(stack, job.name)
        paths = [path.with_name(f"{path.name}{suffix}") for suffix in (timers.TIMER, timers.SERVICE)]
        if not job.enabled:
            absent += [unit for unit in paths if os.path.lexists(unit)]
        elif enabled.setdefault(paths[0].name, job) is not job:
            cause = f"{enabled[paths[0].name].name} would have the same timer, {paths[0].name}"
            raise UsageError("name the timer", job.name, cause, "Name one of them otherwise. Nothing was changed.")
    waits = timers.waiting(list(enabled)) if enabled else {}
    if absent and not placing.check:
        timers.stop([path.name for path in absent if path.suffix == timers.TIMER])
    for path in absent:
        placing.absent(path)
    for name, job in enabled.items():
        times, path = timers.read(job.schedule), timers.UNITS / name
        before = placing.after
        unit = timers.service(stack, job.name, job.job, caught_up=times.caught_up)
        placing.file(path.with_suffix(timers.SERVICE), unit.encode(), 0o644)
        placing.file(path, timers.timer(stack, job.name, times).encode(), 0o644)
        changed += [name] if placing.after != before else []
        if not waits[name]:
            placing.state(name, "not started now and at each boot", "started now and at each boot")
    if not placing.check and (absent or changed or not all(waits.values())):
        if enabled:
            timers.start(enabled, [name for name in changed if waits[name]])
        else:
            timers.reload()
    return list(enabled)


def leave(placing: Placing, before: Path, path: Path, stack: str) -> None:
    """Take this stack's jobs out of the file into which earlier versions put those of the stacks a.b and a_b."""
    lines = text(before).splitlines() if before != path else []
    own = re.compile(rf"--stack {re.escape(stack)}(?=\s|$)")
    marked = zip(lines, lines[1:])
    names = [mark.removeprefix(MARK) for mark, job in marked if mark.startswith(MARK) and own.search(job)]
    if names:
        put(placing, before, edited(text(before), [Job(name, "", "", enabled=False) for name in names]))


def cron() -> Cron:
    """Ask systemd for the cron service and whether it runs. Without systemd nothing is known to run."""
    asked = ["systemctl", "show", "-p", "Id,LoadState,ActiveState,UnitFileState", "cron.service", "crond.service"]
    status, out, _err = pipeline.probe(Command(asked))
    for block in out.split("\n\n") if status == 0 else ():
        facts = dict(line.partition("=")[::2] for line in block.splitlines())
        if facts.get("LoadState") == "loaded":
            runs = (facts.get("ActiveState"), facts.get("UnitFileState")) == ("active", "enabled")
            return Cron(facts.get("Id", "cron.service").removesuffix(".service"), runs)
    return Cron("cron" if DEBIAN.exists() else "crond", False)


def _make(placing: Placing, path: Path, group: str) -> None:
    """The repository's directory. In check mode the group may not be there yet, and is made before this."""
    if not group:
        placing.directory(path)
        return
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        if not placing.check:
            remedy = "Run lifeboat.dr.deploy, which makes it, or correct lifeboat_repository.group."
            raise UsageError("make the repository", str(path), f"there is no group {group}", remedy) from None
        number = -1
    placing.directory(path, 0o2750, number)


def main() -> None:
    started = clock.start()
    job = {name: {"type": "str", "required": True} for name in ("name", "schedule", "job")}
    module = AnsibleModule(
        argument_spec={
            "stack_name": {"type": "str", "required": True},
            "jobs": {
                "type": "list", "elements": "dict", "required": True,
                "options": {**job, "enabled": {"type": "bool", "default": True}},
            },
            "scheduler": {"type": "str", "choices": ["cron", "systemd"], "default": "cron"},
            "repository": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )  # fmt: skip
    stack = module.params["stack_name"]
    path, placing = CRON / filesystem.cron_name(stack), Placing(module.check_mode)
    try:
        jobs = read(module.params["jobs"])
        if module.params["repository"]:
            _make(placing, Path(module.params["repository"]), module.params["group"])
        leave(placing, CRON / f"lifeboat-{stack.replace('.', '_')}", path, stack)
        by_timers = module.params["scheduler"] == "systemd"
        off = [replace(job, enabled=False) for job in jobs]
        # The new ones first: killed in between a job is done twice, and not never.
        names = set_timers(placing, stack, jobs) if by_timers else []
        put(placing, path, edited(text(path), off if by_timers else jobs))
        if not by_timers:
            set_timers(placing, stack, off)
    except LifeboatError as exc:
        module.fail_json(msg=pipeline.scrub(str(exc)))
    except OSError as exc:
        module.fail_json(msg=f"Could not set the schedule ({exc.filename or path}): {exc.strerror or exc}.")
    module.exit_json(
        changed=placing.changed, path=str(path), timers=names, log=[],
        cron=typed.plain(Cron("", True) if by_timers else cron()),
        phase=typed.plain(started.phase()), diff={"before": placing.before, "after": placing.after},
    )  # fmt: skip


if __name__ == "__main__":
    main()
