# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduled runs: what cron has, whether it runs, whether the command does, and how the last runs ended."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.version import VERSION
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import schedule
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import timers
from builders import BUCKET, NOW, Runner, make_config

ROOT = Path(__file__).resolve().parents[2]
CRON = """#Ansible: PATH
PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin
#Ansible: lifeboat backup database
0 2 * * * root lifeboat backup database --stack shop --wait 3600 --prune >/dev/null
#Ansible: lifeboat verify
30 4 * * 0 root lifeboat verify --stack shop --level restore --wait 3600 >/dev/null
#Ansible: lifeboat backup objects
0 3 * * * root PATH={bin} lifeboat backup objects --stack shop --wait 3600 --seal --prune >/dev/null
"""
LOG = """2026-11-23T02:00:01+0000 shop[100] INFO db_backup_20261123_020000: dumping shop (1.0 GB) as directory
2026-11-23T02:10:00+0000 shop[100] INFO db_backup_20261123_020000: published, 1.0 GB in 9 s
2026-11-24T02:00:01+0000 shop[200] INFO db_backup_20261124_020000: dumping shop (1.0 GB) as directory
2026-11-24T02:10:00+0000 shop[200] INFO db_backup_20261124_020000: published, 1.0 GB in 9 s
"""


STARTED = "2026-11-24T09:05:00+0000 shop[300] INFO db_backup_20261124_090000: dumping shop (1.0 GB) as directory"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which everything is as deployed."""
    for name in ("cron", "log", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(schedule, "CRON", tmp_path / "cron")
    monkeypatch.setattr(schedule, "LOGS", tmp_path / "log")
    monkeypatch.setattr(schedule, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(timers, "UNITS", tmp_path / "units")
    write(tmp_path / "cron/lifeboat-shop", CRON.format(bin=tmp_path / "bin"))
    write(tmp_path / "log/shop.log", LOG)
    write(tmp_path / "bin/lifeboat", "")
    (tmp_path / "bin/lifeboat").chmod(0o755)
    runner = Runner()
    runner.expect("is-active", "inactive\nactive\n")
    runner.expect("lifeboat --version", f"lifeboat {VERSION}\n")
    monkeypatch.setattr(pipeline, "probe", runner.probe)
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **kw: owned_by_root(real(self, **kw)))
    return tmp_path


def owned_by_root(facts: os.stat_result) -> os.stat_result:
    return os.stat_result((*facts[:4], 0, 0, *facts[6:]))


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def look(root: Path, **changes: Any) -> dict[str, Check]:
    config = make_config(root, **{**BUCKET, "config": {"enabled": False}, **changes})
    return {check.name: check for check in schedule.checks(config, NOW)}


def test_green(host: Path) -> None:
    found = look(host)
    assert {check.result for check in found.values()} == {PASS}, found
    assert list(found) == ["schedule", "cron", "command", "last runs"]
    assert "backup database 0 2 * * *, backup objects 0 3 * * *, verify 30 4 * * 0" in found["schedule"].detail
    assert found["last runs"].words == "2 in 31 days, 0 failed, the last 9.8 h ago, limit 26 h"


def edit(old: str, new: str) -> Callable[[Path], None]:
    def work(root: Path) -> None:
        path = root / "cron/lifeboat-shop"
        text = path.read_text()
        assert old in text
        write(path, text.replace(old, new))

    return work


def logged(line: str) -> Callable[[Path], None]:
    return lambda root: write(root / "log/shop.log", f"{LOG}2026-11-24T{line}\n")


def answer(pattern: str, said: Any) -> Callable[[Path], None]:
    """Put before the answers of a host that is well."""

    def work(root: Path) -> None:
        runner = pipeline.probe.__self__  # type: ignore[attr-defined]
        runner.answers.insert(0, (pattern, said))

    return work


def old_log(root: Path) -> None:
    write(root / "log/shop.log", LOG.replace("2026-11", "2026-08"))


BROKEN: list[tuple[str, Callable[[Path], None], str, str, str]] = [
    ("no file", lambda root: (root / "cron/lifeboat-shop").unlink(), "schedule", FAIL, "there is no "),
    ("no backup", edit("lifeboat backup database", "true"), "schedule", FAIL, "no job for backup database"),
    ("commented out", edit("0 2 * * *", "#0 2 * * *"), "schedule", FAIL, "no job for backup database"),
    ("no mirror", edit("lifeboat backup objects", "true"), "schedule", FAIL, "no job for backup objects"),
    ("no proof", edit("lifeboat verify", "lifeboat list"), "schedule", FAIL, "no job for verify"),
    ("another stack's", edit("--stack shop", "--stack shopping"), "schedule", FAIL, "backup database, backup objects"),
    ("not root", edit("* root lifeboat backup", "* nobody lifeboat backup"), "schedule", FAIL, "backup database"),
    ("no times", edit("0 2 * * * root", "root"), "schedule", FAIL, "backup database"),
    ("writable", lambda root: (root / "cron/lifeboat-shop").chmod(0o666), "schedule", FAIL, "cron does not read it"),
    ("cron stopped", answer("is-active", (3, "inactive\ninactive\n", "")), "cron", FAIL, "does not run"),
    ("no systemd", answer("is-active", (127, "", "no such file")), "cron", COULD_NOT_VERIFY, "no such file"),
    ("command gone", lambda root: (root / "bin/lifeboat").unlink(), "command", FAIL, "cron finds no lifeboat"),
    ("command broken", answer("--version", (1, "", "SyntaxError")), "command", FAIL, "SyntaxError"),
    ("command old", answer("--version", "lifeboat 0.0.1"), "command", FAIL, "'lifeboat 0.0.1', not lifeboat"),
    ("no log", lambda root: (root / "log/shop.log").unlink(), "last runs", COULD_NOT_VERIFY, "no run in"),
    ("an old log", old_log, "last runs", COULD_NOT_VERIFY, "no run in"),
    (
        "the last failed", logged("09:00:00+0000 shop[300] ERROR backup failed: Could not dump"), "last runs", FAIL,
        "3 in 31 days, 1 failed, the last 3.0 h ago, and it failed: backup failed: Could not dump",
    ),
    ("killed in it", logged("09:00:00+0000 shop[7] ERROR verify interrupted"), "last runs", FAIL, "verify interrupted"),
    (
        "killed without a word", logged("09:00:00+0000 shop[300] DEBUG backup begins\n" + STARTED), "last runs", FAIL,
        "3 in 31 days, 1 failed, the last 2.9 h ago, and it failed: it began and never ended",
    ),
    (
        "killed, and its number used again",
        logged("09:00:00+0000 shop[7] DEBUG backup begins\n2026-11-24T09:30:00+0000 shop[7] DEBUG backup begins\n"
               "2026-11-24T09:31:00+0000 shop[7] DEBUG backup ends\n"
               "2026-11-24T09:35:00+0000 shop[8] DEBUG prune begins"),
        "last runs", FAIL, "5 in 31 days, 2 failed",
    ),
    (
        "of local time", logged("21:00:00+0900 shop[300] ERROR backup failed: x"), "last runs", FAIL,
        "the last 0.0 h ago",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("breaks", "name", "result", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_each_turns_red(host: Path, breaks: Callable[[Path], None], name: str, result: str, words: str) -> None:
    assert look(host)[name].result == PASS
    breaks(host)
    found = look(host)[name]
    assert found.result == result
    assert words in found.detail


def test_the_last_run_must_be_of_last_night(host: Path) -> None:
    config = make_config(host, **BUCKET)
    assert schedule._runs(config, NOW + timedelta(days=2)).result == FAIL


def test_a_failure_that_was_made_up_for_is_told(host: Path) -> None:
    write(host / "log/shop.log.1", "2026-11-10T02:00:00+0000 shop[9] ERROR backup failed: no space\n")
    found = look(host)["last runs"]
    assert found.result == PASS
    assert "3 in 31 days, 1 failed" in found.detail
    assert "2026-11-10: backup failed: no space" in found.detail


def test_a_run_over_midnight_is_one_that_ended(host: Path) -> None:
    lines = "2026-11-23T23:59:00+0000 shop[9] DEBUG backup begins\n2026-11-24T00:20:00+0000 shop[9] DEBUG backup ends\n"
    write(host / "log/shop.log", lines)
    assert look(host)["last runs"].words == "1 in 31 days, 0 failed, the last 11.7 h ago, limit 26 h"


@pytest.mark.parametrize(
    ("program", "result"), [("/usr/bin/python3\0/usr/local/bin/lifeboat\0backup\0", PASS), ("nginx\0", FAIL)]
)
def test_a_run_that_still_runs_has_not_failed_and_counts_for_nothing(host: Path, program: str, result: str) -> None:
    logged("11:59:00+0000 shop[300] DEBUG backup begins")(host)
    (host / "proc/300").mkdir(parents=True)
    (host / "proc/300/cmdline").write_text(program)
    found = look(host)["last runs"]
    assert found.result == result
    if result == PASS:
        assert found.words == "2 in 31 days, 0 failed, the last 9.8 h ago, limit 26 h"


def test_who_looks_is_no_run(host: Path) -> None:
    write(host / "log/shop.log", "2026-11-24T03:00:00+0000 shop[9] ERROR status: FAIL  shop\nrubbish\n")
    assert look(host)["last runs"].result == COULD_NOT_VERIFY


def test_one_job_that_backs_up_everything_does(host: Path) -> None:
    write(
        host / "cron/lifeboat-shop",
        f"PATH={host}/bin\n@daily root lifeboat backup --stack shop\n@weekly root lifeboat verify --stack shop\n",
    )
    assert look(host, config={})["schedule"].result == PASS


def test_the_roles_schedule_what_is_looked_for() -> None:
    """Every job of the roles has the words by which it is found."""
    found: list[str] = []
    for path in sorted(ROOT.glob("roles/*_backup/vars/main.yml")):
        text = str(yaml.safe_load(path.read_text(encoding="utf-8")))
        found += re.findall(r"lifeboat ((?:backup|verify)\b[^{]*)--stack \{\{", text)
    assert {"backup database", "backup objects", "verify"} <= {job.strip() for job in found}
    for job in found:
        assert re.fullmatch(r"(backup (database|objects|files|dumps|config)|verify)", job.strip()), job


JOBS = {
    "lifeboat backup database": ("0 2 * * *", "lifeboat backup database --stack shop --wait 3600 --prune >/dev/null"),
    "lifeboat verify": ("30 4 * * 0", "lifeboat verify --stack shop --level restore --wait 3600 >/dev/null"),
    "lifeboat backup objects": ("0 3 * * *", "lifeboat backup objects --stack shop --wait 3600 --seal >/dev/null"),
}
SHOWN = "\n\n".join(f"Id={timers.unit('shop', job)}.timer\nActiveState=active\nUnitFileState=enabled\n" for job in JOBS)


@pytest.fixture
def by_timers(host: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same host, with timers in place of the cron file, and without cron."""
    (host / "cron/lifeboat-shop").unlink()
    (host / "units").mkdir()
    for job, (times, command) in JOBS.items():
        name = timers.unit("shop", job)
        write(host / f"units/{name}.service", timers.service("shop", job, command, caught_up=True))
        write(host / f"units/{name}.timer", timers.timer("shop", job, timers.read(times)))
    monkeypatch.setattr(timers, "PATH", f"{host}/bin")
    answer("is-active", (3, "inactive\ninactive\n", ""))(host)
    answer("UnitFileState", SHOWN)(host)
    return host


def test_timers_are_green_without_cron(by_timers: Path) -> None:
    found = look(by_timers)
    assert {check.result for check in found.values()} == {PASS}, found
    assert list(found) == ["schedule", "timers", "command", "last runs"]
    assert "backup objects *-*-* 03:00:00, verify Sun *-*-* 04:30:00" in found["schedule"].detail
    assert found["timers"].detail == "3 started now and at each boot"


def without(suffix: str) -> Callable[[Path], None]:
    return lambda root: (root / f"units/lifeboat-verify@shop{suffix}").unlink()


def changed(old: str, new: str) -> Callable[[Path], None]:
    def work(root: Path) -> None:
        path = root / "units/lifeboat-verify@shop.service"
        assert old in path.read_text()
        write(path, path.read_text().replace(old, new))

    return work


NO_TIMERS: list[tuple[str, Callable[[Path], None], str, str, str]] = [
    ("no proof", without(".timer"), "schedule", FAIL, "no job for verify"),
    ("no service", without(".service"), "schedule", FAIL, "no job for verify"),
    ("another command", changed("lifeboat verify", "lifeboat list"), "schedule", FAIL, "no job for verify"),
    ("another stack's", changed("--stack shop", "--stack shopping"), "schedule", FAIL, "no job for verify"),
    (
        "writable", lambda root: (root / "units/lifeboat-verify@shop.service").chmod(0o666), "schedule", FAIL,
        "lifeboat-verify@shop.service is not root's alone to write",
    ),
    (
        "stopped", answer("UnitFileState", SHOWN.replace("=active", "=inactive", 1)), "timers", FAIL,
        "systemctl enable --now lifeboat-backup-database@shop.timer",
    ),
    ("no systemd", answer("UnitFileState", (1, "", "no bus")), "timers", COULD_NOT_VERIFY, "no bus"),
    ("command gone", lambda root: (root / "bin/lifeboat").unlink(), "command", FAIL, "systemd finds no lifeboat"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("breaks", "name", "result", "words"), [case[1:] for case in NO_TIMERS], ids=[case[0] for case in NO_TIMERS]
)
def test_each_of_the_timers_turns_red(
    by_timers: Path, breaks: Callable[[Path], None], name: str, result: str, words: str
) -> None:
    assert look(by_timers)[name].result == PASS
    breaks(by_timers)
    found = look(by_timers)[name]
    assert found.result == result
    assert words in found.detail


def test_a_job_in_the_cron_file_counts_and_then_cron_must_run(by_timers: Path) -> None:
    without(".timer")(by_timers)
    write(by_timers / "cron/lifeboat-shop", "30 4 * * 0 root lifeboat verify --stack shop\n")
    found = look(by_timers)
    assert (found["schedule"].result, found["cron"].result) == (PASS, FAIL)
