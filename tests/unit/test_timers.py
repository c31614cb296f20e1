# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as timers of systemd: when they are due, what they run, and that systemd itself reads them so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import timers
from builders import Runner

ROOT = Path(__file__).resolve().parents[2]
ANALYZE = shutil.which("systemd-analyze")
CALENDARS = [
    ("0 2 * * *", ["*-*-* 02:00:00"], True),
    ("30 4 * * 0", ["Sun *-*-* 04:30:00"], True),
    ("30 4 * * 7", ["Sun *-*-* 04:30:00"], True),
    ("17 * * * *", ["*-*-* *:17:00"], False),
    ("* * * * *", ["*-*-* *:*:00"], False),
    ("*/20 * * * *", ["*-*-* *:00,20,40:00"], False),
    ("15  3 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 03:15:00"], True),
    ("0 8-18/4 * jan,JUL mon", ["Mon *-01,07-* 08,12,16:00:00"], True),
    ("0 2 1,15 * *", ["*-*-01,15 02:00:00"], True),
    # Both days are named: one of them is enough (crontab(5)). A star with a step is a star.
    ("0 2 1 * 5", ["*-*-01 02:00:00", "Fri *-*-* 02:00:00"], True),
    ("0 2 */2 * 5", ["Fri *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 02:00:00"], True),
]


@pytest.mark.parametrize(("expression", "calendar", "caught_up"), CALENDARS, ids=[case[0] for case in CALENDARS])
def test_a_job_is_due_when_cron_would_have_started_it(expression: str, calendar: list[str], caught_up: bool) -> None:
    assert timers.read(expression) == timers.Times(tuple(calendar), caught_up)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 2 * *", "it is not minute, hour, day, month and weekday"),
        ("61 2 * * *", "the minute must be 0 to 59, not '61'"),
        ("0 24 * * *", "the hour must be 0 to 23, not '24'"),
        ("0 2 0 * *", "the day of the month must be 1 to 31, not '0'"),
        ("0 2 * 13 *", "the month must be 1 to 12, not '13'"),
        ("0 2 * * 8", "the weekday must be 0 to 7, not '8'"),
        ("0 2 * * monday", "the weekday must be 0 to 7, not 'monday'"),
        ("0 5-2 * * *", "'5-2' is an empty range"),
        ("*/0 2 * * *", "'*/0' is an empty range"),
        ("5/10 * * * *", "'5/10' is a step without a range, such as 5-59/10"),
        ("0 2, * * *", "the hour must be 0 to 23, not ''"),
        ("0 2 * * ~", "the weekday must be 0 to 7, not '~'"),
    ],
)
def test_what_cron_would_not_read_is_refused(expression: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        timers.read(expression)


@pytest.mark.skipif(ANALYZE is None, reason="NOT CHECKED by systemd: there is no systemd-analyze")
@pytest.mark.parametrize("expression", [case[0] for case in CALENDARS])
def test_systemd_means_the_same_times(expression: str) -> None:
    """Asked for the first times after an instant: the cron expression is true at each, and at no minute before."""
    times, start = timers.read(expression), datetime(2026, 12, 2, 3, 38)
    due = set[datetime]()
    for calendar in times.calendar:
        argv = [str(ANALYZE), "calendar", "--iterations=3", f"--base-time={start:%Y-%m-%d %H:%M}", calendar]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"}
        )
        shown = re.findall(r"(?:Next elapse|Iteration #\d+): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d):00 UTC", done.stdout)
        assert len(shown) == 3, done.stdout
        due |= {datetime.strptime(text, "%Y-%m-%d %H:%M") for text in shown}
    last = sorted(due)[2]  # of two calendars the later ones of one may be missing
    expected = [at for at in minutes(start, last) if cron_starts(expression, at)]
    assert expected == sorted(at for at in due if at <= last)


def minutes(start: datetime, end: datetime) -> list[datetime]:
    step = timedelta(minutes=1)
    return [start + step * number for number in range(1, int((end - start) / step) + 1)]


def cron_starts(expression: str, at: datetime) -> bool:
    """By crontab(5), written down a second time: fields by fields, without the code that is tested."""
    names = {**dict(zip(("jan", "jul"), ("1", "7"))), "mon": "1"}
    fields = [re.sub("[a-z]+", lambda name: names[name[0]], field.lower()) for field in expression.split()]
    values = (at.minute, at.hour, at.day, at.month, at.isoweekday() % 7)
    lows, highs = (0, 0, 1, 1, 0), (59, 23, 31, 12, 7)
    matches = []
    for field, value, low, high in zip(fields, values, lows, highs):
        numbers = set[int]()
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, final = f"{low}-{high}".partition("-") if span == "*" else span.partition("-")
            numbers |= set(range(int(first), int(final or first) + 1, int(step or 1)))
        matches.append(value in numbers or (high == 7 and value == 0 and 7 in numbers))
    days = (matches[2], matches[4])
    star = fields[2].startswith("*") or fields[4].startswith("*")
    return matches[0] and matches[1] and matches[3] and (all(days) if star else any(days))


HOSTILE = r"""a "b" $HOME ${x} %n 50\% \ 'c' %%i"""


@pytest.mark.skipif(ANALYZE is None, reason="NOT CHECKED by systemd: there is no systemd-analyze")
@pytest.mark.slow
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    times = timers.read("0 2 1 * 5")
    for job, command in (("lifeboat backup database", "true >/dev/null"), ("50 % of it", HOSTILE)):
        name = timers.unit("shop.eu", job)
        (tmp_path / f"{name}.service").write_text(timers.service("shop.eu", job, command, caught_up=True))
        (tmp_path / f"{name}.timer").write_text(timers.timer("shop.eu", job, times))
    units = sorted(str(path) for path in tmp_path.iterdir())
    argv = [str(ANALYZE), "verify", "--man=no", *units]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:", "SYSTEMD_LOG_LEVEL": "info"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "lifeboat" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
    path = tmp_path / f"{timers.unit('shop.eu', '50 % of it')}.timer"
    path.write_text(path.read_text().replace("02:00:00", "25:00:00"))
    done = subprocess.run([*argv[:3], str(path)], capture_output=True, text=True, check=False, env=environment)
    assert "25:00:00" in done.stderr, "this test sees what systemd does not read"


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(timers, "UNITS", tmp_path)
    return tmp_path


def write(units: Path, stack: str, job: str, command: str = "true") -> None:
    name = timers.unit(stack, job)
    (units / f"{name}.service").write_text(timers.service(stack, job, command, caught_up=True))
    (units / f"{name}.timer").write_text(timers.timer(stack, job, timers.read("0 2 1 * 5")))


def test_what_is_written_is_read_back(units: Path) -> None:
    write(units, "shop", "lifeboat backup database", HOSTILE)
    (unit,) = timers.load("shop")
    assert unit.name == "lifeboat-backup-database@shop"
    assert unit.calendar == ("*-*-01 02:00:00", "Fri *-*-* 02:00:00")
    assert unit.command == HOSTILE.replace(r"\%", "%"), "cron takes a plain % for the end of the line"
    (units / "lifeboat-backup-database@shop.service").unlink()
    assert timers.load("shop") == [timers.Unit(unit.name, unit.calendar, "")]


def test_no_two_stacks_share_a_unit(units: Path) -> None:
    for stack in ("a", "a.b", "a-b", "b-a", "a_b"):
        write(units, stack, "lifeboat verify")
    write(units, "a", "lifeboat x of a.b")
    assert [path.name for path in timers.files("a")] == [
        "lifeboat-verify@a.timer",
        "lifeboat-x-of-a-b@a.timer",
        "lifeboat-verify@a.service",
        "lifeboat-x-of-a-b@a.service",
    ]
    assert [path.name for path in timers.files("a.b")] == ["lifeboat-verify@a.b.timer", "lifeboat-verify@a.b.service"]
    assert all(timers.is_ours(str(path)) for path in units.iterdir())


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/etc/systemd/system/lifeboat-verify@shop.timer", True),
        ("/etc/systemd/system/timers.target.wants/lifeboat-verify@shop.timer", True),
        ("/etc/systemd/system/lifeboat-boats.service", False),
        ("/etc/systemd/system/rescue@shop.service", False),
        ("/home/x/etc/systemd/system/lifeboat-verify@shop.timer", False),
    ],
)
def test_a_recovery_places_no_job_of_ours_and_every_unit_of_the_stacks(path: str, ours: bool) -> None:
    assert timers.is_ours(path) is ours
    assert site_files._is_ours(path) is ours


def test_a_nights_jobs_follow_one_another_and_the_last_one_seals() -> None:
    """Those that the roles set, in the order of their times; after a boot all would begin at once."""
    jobs = {}
    for path in sorted(ROOT.glob("roles/*_backup/vars/main.yml")):
        for listed in yaml.safe_load(path.read_text(encoding="utf-8")).values():
            jobs.update({timers._slug(job["name"]): path.parts[-3] for job in listed})
    assert set(jobs) == {*timers._ORDER, "notify"}, "who is told must not wait for a backup that hangs"
    times = {
        slug: yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8"))
        for slug, role in jobs.items()
    }
    begin = {}
    for slug in timers._ORDER[:5]:
        template = times[slug][f"{jobs[slug]}_schedule"]
        minute, hour = re.search(r"'(\d+) (\d+) \* \* \*'", template).groups()  # type: ignore[union-attr]
        begin[slug] = (int(hour), int(minute))
    assert sorted(begin, key=lambda slug: begin[slug]) == list(timers._ORDER[:5])
    after = re.search(
        r"^After=(.*)$", timers.service("shop", "lifeboat backup config", "x", caught_up=True), re.MULTILINE
    )
    assert after and after[1].split()[2:] == [f"lifeboat-{slug}@shop.service" for slug in timers._ORDER[:4]]


def settle(service: str, uptime: Path, slept: Path) -> str:
    """Run what the unit runs first, as systemd would call it, with another clock and no sleep."""
    (line,) = re.findall(r'^ExecStartPre=/bin/sh -c "(.*)"$', service, re.MULTILINE)
    script = timers._unquoted(line).replace("/proc/uptime", str(uptime)).replace("sleep", f"echo >{slept}")
    subprocess.run(["/bin/sh", "-euc", script], check=True, timeout=10)
    return slept.read_text().strip() if slept.exists() else ""


@pytest.mark.parametrize(
    ("uptime", "seconds"), [("12.34 5.6", "288"), ("299.99 1", "1"), ("300.00 1", ""), ("900000.12 1", "")]
)
def test_after_a_boot_the_stack_has_its_time(tmp_path: Path, uptime: str, seconds: str) -> None:
    (tmp_path / "uptime").write_text(f"{uptime}\n")
    service = timers.service("shop", "lifeboat verify", "x", caught_up=True)
    assert settle(service, tmp_path / "uptime", tmp_path / "slept") == seconds
    assert "ExecStartPre" not in timers.service("shop", "lifeboat metrics", "x", caught_up=False)


def test_what_is_due_often_is_not_caught_up() -> None:
    assert "Persistent=true" in timers.timer("shop", "lifeboat verify", timers.read("17 4 * * *"))
    for often in ("* * * * *", "17 * * * *"):
        assert "Persistent" not in timers.timer("shop", "lifeboat metrics", timers.read(often))


def test_a_name_without_a_letter_is_refused() -> None:
    with pytest.raises(UsageError, match="it has no letter"):
        timers.unit("shop", "lifeboat %")


SHOWN = "Id={}\nActiveState={}\nUnitFileState={}\n"
A, B = SHOWN.format("a.timer", "active", "enabled"), SHOWN.format("b.timer", "active", "disabled")
FAILED = f"{SHOWN.format('b.timer', 'failed', 'enabled')}\n{SHOWN.format('a.timer', 'inactive', 'enabled')}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"{A}\n{B}", [True, False]),
        (FAILED, [False, False]),
        ((1, "", "System has not been booted with systemd as init system"), "System has not been booted"),
        (A, "does not name each of them"),
        ((127, "", "no such file"), "no such file"),
    ],
)  # fmt: skip
def test_whether_timers_are_started(monkeypatch: pytest.MonkeyPatch, answer: Any, expected: Any) -> None:
    runner = Runner()
    runner.expect("systemctl show", answer)
    monkeypatch.setattr(pipeline, "probe", runner.probe)
    if isinstance(expected, str):
        with pytest.raises(LifeboatError, match=expected):
            timers.waiting(["a.timer", "b.timer"])
    else:
        assert list(timers.waiting(["a.timer", "b.timer"]).values()) == expected
