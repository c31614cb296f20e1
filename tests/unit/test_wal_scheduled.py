# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bases by schedule: what is due, what status and metrics say of them, and when one is taken out of turn."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.send import Ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    components,
    continuous,
    glances,
    metrics,
    runs,
    schedule,
    status,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import watched
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Gap
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from builders import NOW, Runner, make_config, prove, publish, publish_base, store

SYSTEM, OTHER = "7412000000000000001", "7412000000000000002"
HOUR = timedelta(hours=1)
SENT = Ledger(SYSTEM, 170_012, 16 << 20, 1, "0/3000000", reached=Reached(SYSTEM, 1, "0/3000000", NOW))


def protected(root: Path) -> Config:
    return make_config(root, wal={"enabled": True})


def gap(start: str, end: str, system: str = SYSTEM) -> Gap:
    return Gap(system, 1, start, end, "the slot was lost", NOW)


# --- a base out of turn ---

DUE: list[tuple[str, Ledger, str]] = [
    ("nothing happened", SENT, ""),
    ("a gap before it", replace(SENT, gaps=(gap("0/1000000", "0/2000000"),)), ""),
    ("a gap behind it", replace(SENT, gaps=(gap("0/2800000", "0/3000000"),)), "a gap from 0/2800000 to 0/3000000"),
    ("a gap in its WAL", replace(SENT, gaps=(gap("0/1000000", "0/2000001"),)), "a gap from 0/1000000 to 0/2000001"),
    ("a gap of a server before", replace(SENT, gaps=(gap("0/9000000", "", OTHER),)), ""),
    ("another server", replace(SENT, system=OTHER), "the server is another one"),
    ("another timeline", replace(SENT, timeline=2), "the server is on timeline 2"),
]


@pytest.mark.parametrize(("state", "why"), [case[1:] for case in DUE], ids=[case[0] for case in DUE])
def test_a_base_is_due_where_none_leads_on(tmp_path: Path, state: Ledger, why: str) -> None:
    publish_base(tmp_path)
    answer = base.due(store(tmp_path), state)
    assert answer.startswith(why) if why else answer == ""


def test_without_one_that_can_be_read_a_base_is_due(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    assert base.due(store(tmp_path), SENT) == "there is no base yet"
    assert base.open_gaps(store(tmp_path), replace(SENT, gaps=(gap("0/1", "0/2"),))) != []
    publish_base(tmp_path)
    broken = publish_base(tmp_path, NOW + HOUR, timeline=2)
    assert base.due(store(tmp_path), replace(SENT, timeline=2)) == ""
    Path(store(tmp_path).location("base", broken.id), "manifest.json").write_bytes(b"{")
    assert base.due(store(tmp_path), SENT) == "", "the one before it leads on"
    assert base.due(store(tmp_path), replace(SENT, timeline=2)) != ""


def test_the_sender_has_it_taken_and_does_not_wait(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backup").mkdir()
    runner.expect("^systemctl")
    run, said = Opened(protected(tmp_path)), list[str]()
    continuous.renew(run, SENT, said.append)
    assert runner.ran == ["systemctl start --no-block lifeboat-base-shop.service"]
    assert said == ["a base is taken now: there is no base yet"]
    continuous.renew(run, SENT, said.append)
    assert len(runner.ran) == 1, "one that failed is not tried again every half minute"
    os.utime(run.config.state / "base-started", (0, 0))
    continuous.renew(run, SENT, said.append)
    assert len(runner.ran) == 2
    publish_base(tmp_path)
    os.utime(run.config.state / "base-started", (0, 0))
    continuous.renew(run, SENT, said.append)
    assert len(runner.ran) == 2, "now there is one"


def test_a_new_gap_does_not_wait_for_the_base_before_it(tmp_path: Path, runner: Runner) -> None:
    publish_base(tmp_path)
    runner.expect("^systemctl")
    run = Opened(protected(tmp_path))
    for number, tries in (("1", 1), ("1", 1), ("2", 2), ("2", 2)):
        state = replace(SENT, gaps=(gap(f"0/{number}9000000", f"0/{number}A000000"),))
        continuous.renew(run, state, lambda _: None)
        assert len(runner.ran) == tries, f"gap {number}"


def test_what_fails_of_it_does_not_stop_the_sender(tmp_path: Path, runner: Runner) -> None:
    (tmp_path / "backup").mkdir()
    runner.expect("^systemctl", (5, "", "Unit lifeboat-base-shop.service not found."))
    said = list[str]()
    continuous.renew(Opened(protected(tmp_path)), SENT, said.append)
    assert "not found" in said[-1]


def test_its_unit_starts_nothing_by_itself(tmp_path: Path) -> None:
    texts = {path.name: text for path, text in continuous.units(protected(tmp_path)).items()}
    unit = texts["lifeboat-base-shop.service"]
    assert "lifeboat backup base --stack shop --wait 3600\n" in unit
    assert "[Install]" not in unit
    assert cli.parser("backup").parse_args(["backup", "base", "--stack", "shop", "--wait", "3600"]).component == "base"


# --- status, metrics, the schedule ---


def looked(root: Path, hours: float, config: Config) -> dict[str, tuple[str, str]]:
    found = status.status(Opened(config), now=NOW + hours * HOUR)
    return {check.name: (check.result, check.detail) for check in found.checks}


def test_status_judges_bases_as_it_does_other_backups(tmp_path: Path) -> None:
    publish(tmp_path)
    checks = looked(tmp_path, 2, protected(tmp_path))
    assert checks["newest base backup"] == (FAIL, "there is no good backup")
    assert checks["base proof"][0] == COULD_NOT_VERIFY
    assert checks["base proof"][1].endswith("run: lifeboat verify base")
    manifest = publish_base(tmp_path)
    prove(tmp_path, manifest, at=NOW + HOUR)
    checks = looked(tmp_path, 2, protected(tmp_path))
    assert (checks["newest base backup"][0], checks["base proof"][0]) == (PASS, PASS)
    assert looked(tmp_path, 48, protected(tmp_path))["newest base backup"][0] == FAIL
    assert looked(tmp_path, 24 * 30, protected(tmp_path))["base proof"][0] == FAIL
    found = status.status(Opened(protected(tmp_path)), now=NOW + 2 * HOUR)
    assert found.proof_age_days["base"] is not None
    assert manifest.id in "\n".join(status.newest(found))


def test_a_base_that_is_broken_is_named(tmp_path: Path) -> None:
    publish(tmp_path)
    manifest = publish_base(tmp_path)
    Path(store(tmp_path).location("base", manifest.id), "base.tar.zst").write_bytes(b"b")
    checks = looked(tmp_path, 2, protected(tmp_path))
    assert checks["newest base backup"][0] == FAIL
    assert manifest.id in checks["broken backups"][1]


def test_a_stack_without_continuous_protection_hears_nothing_of_them(tmp_path: Path) -> None:
    publish(tmp_path)
    publish_base(tmp_path)
    plain = make_config(tmp_path)
    assert not [name for name in looked(tmp_path, 2, plain) if "base" in name.split()]
    assert [kind.name for kind in watched(plain)] == ["database"]
    assert not [of for _duty, of in metrics.duties(plain) if of == "base"]
    assert not [name for name in schedule.required(plain) if "base" in name.split()]


def told(root: Path, config: Config) -> dict[tuple[str, ...], float]:
    text = metrics.textfile(Opened(config), now=NOW + 2 * HOUR)
    found: dict[tuple[str, ...], float] = {}
    for row in text.splitlines():
        name, _brace, rest = row.partition("{")
        labels, _space, value = rest.partition("} ")
        words = [label.split('"')[1] for label in labels.split(",") if label and not label.startswith("stack")]
        if "base" in words:
            found[(name, *words)] = float(value)
    return found


def test_metrics_have_their_duties(tmp_path: Path) -> None:
    publish(tmp_path)
    manifest = publish_base(tmp_path, bytes=5000)
    prove(tmp_path, manifest, at=NOW + HOUR)
    found = told(tmp_path, protected(tmp_path))
    done = "lifeboat_duty_last_success_timestamp_seconds"
    assert found[done, "backup", "base"] == NOW.timestamp()
    assert found[done, "verify_restore", "base"] == (NOW + HOUR).timestamp()
    assert found["lifeboat_duty_allowed_age_seconds", "backup", "base"] == 26 * 3600
    assert found["lifeboat_backup_size_bytes", "base"] == 5000
    assert found["lifeboat_backups", "base", "good"] == 1
    assert not [key for key in found if "copy" in key], "nothing copies them yet"


def test_what_metrics_remember_has_the_bases(tmp_path: Path) -> None:
    publish(tmp_path)
    publish_base(tmp_path)
    config = protected(tmp_path)
    for _time in range(2):
        (glance,) = glances.everything(store(tmp_path), config).backups["base"]
        assert (glance.component, glance.good) == ("base", True)


def test_the_schedule_needs_a_base_and_its_proof(tmp_path: Path) -> None:
    config = protected(tmp_path)
    command = "lifeboat {} --stack shop >/dev/null"
    jobs = [
        schedule.Job("0 2 * * *", command.format(words))
        for words in ("backup", "verify --level restore", "backup base --wait 3600", "verify base --level restore")
    ]
    jobs = [replace(job, command=job.command.replace("backup --stack", "backup --wait 1 --stack")) for job in jobs]
    assert schedule._scheduled(config, jobs, "x").result == PASS
    for missing, names in ((jobs[:2], "backup base, verify base"), (jobs[:3], "verify base"), (jobs[2:], "database")):
        check = schedule._scheduled(config, missing, "x")
        assert check.result == FAIL
        assert names in check.detail


def test_a_run_of_it_is_one_that_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "backup_base" in runs.names()
    taken: list[Any] = []
    manifest = publish_base(tmp_path, bytes=5000)
    monkeypatch.setattr(base, "take", lambda run, log: taken.append(run) or manifest)
    run = Opened(protected(tmp_path))
    assert components.COMPONENTS["base"].take(run, 0, print) is manifest
    assert taken == [run]
    assert "WAL from 0/2000028 to 0/2000100" in components.COMPONENTS["base"].summary(manifest)
