# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A year of ordinary nights with one drill a quarter tells nobody anything: no alert that one has not to act on.

What a host, its keeper and the site tell Prometheus is simulated by the roles' schedules; promtool evaluates the rules.
Ordinary: backups that take a third more or less and grow, two changes of the clock, a verification a week that takes
three hours, a reboot a month, a backup that waited for a lock for 20 minutes, a certificate that is renewed. The drills
are on a spare host: on the stack's own the alert that the database is down is true.
"""

from __future__ import annotations

import functools
import json
import random
import re
import subprocess
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Optional

import debian
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from test_rules import FILES, RULES

HOUR, DAY = 3600, 86400
STEP = 1800  # between two evaluations; at each there is a sample, as Prometheus looks back for five minutes only
NIGHTLY = {"database": 2.0, "objects": 3.0, "config": 3.5, "keeper": 4.5}
COMPONENTS = ("database", "objects", "config")
Value = Optional[float]


def duties() -> dict[tuple[str, str], float]:
    vault = config.VaultSettings(repository_bucket="copies")
    one = config.Config("shop", vault=vault, objects=config.ObjectsSettings(bucket="b"))
    one = config.dataclasses.replace(one, config=config.ConfigSettings(recipients=("age1x",)))
    return {duty: age.total_seconds() for duty, age in metrics.duties(one).items()}


class Year:
    """What is told at each step. absent_nights: on which no backup is taken."""

    def __init__(self, days: int, absent_nights: frozenset[int] = frozenset()) -> None:
        self.days, self.absent = days, absent_nights
        chance = random.Random(33)  # noqa: S311 - the same year each time
        self.late = [[chance.uniform(0, 1200) for _day in range(days + 1)] for _of in NIGHTLY]
        self.took = [chance.uniform(400, 800) for _day in range(days + 1)]
        self.took = [1200 + took if day % 97 == 96 else took for day, took in enumerate(self.took)]
        self.size = [1e9 * 1.002**day * chance.uniform(0.85, 1.15) for day in range(days + 1)]

        self.median = [1e9 * 1.002 ** max(0, day - 4) for day in range(days + 1)]

    def night_of(self, figures: Sequence[float], of: str, now: float) -> float:
        """That of the last one."""
        return figures[max(0, self.last(of, now))]

    def night(self, of: str, day: int) -> float:
        """When it begins; summer time is from the 90th to the 300th day."""
        shift = HOUR if 90 <= day < 300 else 0
        return day * DAY + NIGHTLY[of] * HOUR - shift + self.late[list(NIGHTLY).index(of)][day]

    def last(self, of: str, now: float) -> int:
        """The day of the last one that ended; -1: that of the day before, which set the stack up."""
        day = int(now // DAY)
        while day >= 0 and (day in self.absent or self.night(of, day) + self.took[day] > now):
            day -= 1
        return day

    def done(self, duty: str, of: str, now: float) -> float:
        if duty == "drill":
            return now // (88 * DAY) * 88 * DAY - 3 * DAY  # a quarter has 92, and somebody is early
        if duty == "escrow":
            return now // (91 * DAY) * 91 * DAY - DAY
        if duty.startswith("verify_"):  # on Sundays, and it takes three hours
            return (now - 7.5 * HOUR) // (7 * DAY) * 7 * DAY + 7.5 * HOUR
        if duty == "status":
            return now // HOUR * HOUR
        day = self.last(of if of in NIGHTLY else "database", now)
        return self.night("database" if duty == "recovery_point" else of, day) if day >= 0 and of in NIGHTLY else (
            day * DAY + 2 * HOUR
        )  # fmt: skip

    def series(self) -> dict[str, Callable[[float], Value]]:
        own, keeper, site = 'stack="shop"', 'stack="shop"', 'stack="shop",endpoint="https://shop.example/"'
        told: dict[str, Callable[[float], Value]] = {
            f"lifeboat_expected_stack{{{own}}}": lambda now: 1,
            f"lifeboat_expected_keeper{{{own}}}": lambda now: 1,
            f"lifeboat_expected_endpoint{{{site}}}": lambda now: 1,
            f'probe_success{{{site},job="lifeboat-endpoint_shop"}}': lambda now: 1,
            # Renewed 30 days before its end.
            f'probe_ssl_earliest_cert_expiry{{{site},job="lifeboat-endpoint_shop"}}': (
                lambda now: now // (60 * DAY) * 60 * DAY + 90 * DAY
            ),
            f"lifeboat_keeper_metrics_timestamp_seconds{{{keeper}}}": lambda now: now // HOUR * HOUR,
            f"lifeboat_keeper_last_note_timestamp_seconds{{{keeper}}}": lambda now: now // HOUR * HOUR - 60,
            f"lifeboat_keeper_last_pull_timestamp_seconds{{{keeper}}}": lambda now: self.done("pull", "keeper", now),
            f"lifeboat_keeper_last_pull_allowed_age_seconds{{{keeper}}}": lambda now: 30 * HOUR,
            f"lifeboat_keeper_quota_used_ratio{{{keeper}}}": lambda now: 0.3 + 0.5 * now / (self.days * DAY),
            f'lifeboat_keeper_alarm{{{keeper},kind="fewer"}}': lambda now: 0,
            f'lifeboat_keeper_check_passed{{{keeper},check="checksums"}}': lambda now: 1,
        }  # fmt: skip
        host: dict[str, Callable[[float], Value]] = {
            f"lifeboat_metrics_timestamp_seconds{{{own}}}": lambda now: now,
            f'lifeboat_collector_success{{{own},collector="repository"}}': lambda now: 1,
            f"lifeboat_repository_known{{{own}}}": lambda now: 1,
            f"lifeboat_database_up{{{own}}}": lambda now: 1,
            f'lifeboat_evidence_passed{{{own},host="spare",kind="drill",scenario="site"}}': lambda now: 1,
            **{
                f'lifeboat_check_passed{{{own},check="{check}"}}': lambda now: 1
                for check in ("copies", "secrets", "space", "buckets")
            },
            **{
                f'lifeboat_mounts{{{own},seen_by="{by}",protection="unprotected"}}': lambda now: 0
                for by in ("backup", "status")
            },
            f"lifeboat_clock_skew_seconds{{{own}}}": lambda now: 2,
            f'lifeboat_collector_success{{{own},collector="wal_server"}}': lambda now: 1,
            f'lifeboat_wal_check_passed{{{own},check="wal slot"}}': lambda now: 1,
            # Objects are looked at every quarter of an hour.
            f"lifeboat_changes_reached_timestamp_seconds{{{own}}}": lambda now: now // (HOUR / 4) * (HOUR / 4),
            f"lifeboat_changes_allowed_age_seconds{{{own}}}": lambda now: HOUR,
            f'lifeboat_certificate_expiry_timestamp_seconds{{{own},endpoint="vault"}}': (
                lambda now: now // (60 * DAY) * 60 * DAY + 90 * DAY
            ),
            f"lifeboat_repository_free_bytes{{{own}}}": lambda now: 1e12 - 2e11 * now / (self.days * DAY),
            f"lifeboat_repository_largest_backup_bytes{{{own}}}": lambda now: 3e9,
            f"lifeboat_repository_full_timestamp_seconds{{{own}}}": lambda now: now // DAY * DAY + 200 * DAY,
            # A recovery in the second month moved the old volume aside; it is removed three weeks later.
            f'lifeboat_quarantine_oldest_timestamp_seconds{{{own},kind="volume"}}': (
                lambda now: 40 * DAY if 40 * DAY < now < 61 * DAY else None
            ),
        }  # fmt: skip
        for (duty, of), age in duties().items():
            labels = f'{own},duty="{duty}",of="{of}"'
            host[f"lifeboat_duty_allowed_age_seconds{{{labels}}}"] = lambda now, age=age: age  # type: ignore[misc]
            host[f"lifeboat_duty_last_success_timestamp_seconds{{{labels}}}"] = (
                lambda now, duty=duty, of=of: self.done(duty, of, now)  # type: ignore[misc]
            )
            if duty == "drill":
                host[f"lifeboat_duty_first_due_timestamp_seconds{{{labels}}}"] = lambda now, age=age: age  # type: ignore[misc]
        for of in COMPONENTS:
            run, component = f'{own},run="backup_{of}"', f'{own},component="{of}"'

            def began(now: float, of: str = of) -> float:
                day = int(now // DAY)
                start = self.night(of, day)
                return start if day not in self.absent and start <= now < start + self.took[day] else 0

            host |= {
                f"lifeboat_run_last_exit_code{{{run}}}": lambda now: 0,
                f"lifeboat_run_failures_total{{{run}}}": lambda now: 0,
                f"lifeboat_run_killed{{{run}}}": lambda now: 0,
                f"lifeboat_run_began_timestamp_seconds{{{run}}}": began,
                f"lifeboat_run_last_duration_seconds{{{run}}}": functools.partial(self.night_of, self.took, of),
                f"lifeboat_backup_last_error_status{{{component}}}": lambda now: 0,
                f"lifeboat_backup_unprotected_items{{{component}}}": lambda now: 0,
                f"lifeboat_backup_size_bytes{{{component}}}": functools.partial(self.night_of, self.size, of),
                f"lifeboat_backup_median_size_bytes{{{component}}}": functools.partial(self.night_of, self.median, of),
            }

        def heard(value: Callable[[float], Value]) -> Callable[[float], Value]:
            """A reboot each month is seen once."""
            return lambda now: None if now % (30 * DAY) == 15 * DAY + 11 * HOUR else value(now)

        return {**told, **{name: heard(value) for name, value in host.items()}}


def written(value: Callable[[float], Value], days: int) -> str:
    """promtool's words for it: a run of the same values at a time."""
    said = (value(step * STEP) for step in range(days * DAY // STEP + 1))
    runs = ((text, sum(1 for _one in same)) for text, same in groupby("_" if v is None else f"{v:.9g}" for v in said))
    return " ".join(text if count == 1 else f"{text}x{count - 1 if text != '_' else count}" for text, count in runs)


def fired(here: Path, year: Year) -> list[str]:
    """The alerts that fired, as promtool names them."""
    asked = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing",alertname!="LifeboatWatchdog"}[30d]))'
    test = {
        "rule_files": [str(path) for path in FILES], "evaluation_interval": f"{STEP}s",
        "tests": [{
            "interval": f"{STEP}s",
            "input_series": [
                {"series": name, "values": written(value, year.days)} for name, value in year.series().items()
            ],
            "promql_expr_test": [
                {"expr": asked, "eval_time": f"{day}d", "exp_samples": []}
                for day in sorted({*range(30, year.days, 30), year.days})
            ],
        }],
    }  # fmt: skip
    path = here / "year.json"
    path.write_text(json.dumps(test), encoding="utf-8")
    argv = [debian.required("promtool"), "test", "rules", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    found = sorted(set(re.findall(r'alertname="(\w+)"', done.stdout + done.stderr)))
    assert bool(found) is bool(done.returncode), done.stdout + done.stderr
    return found


def test_each_figure_of_a_rule_is_told_in_that_year() -> None:
    """One that is not could not make its rule fire."""
    told = {name.partition("{")[0] for name in Year(1).series()}
    used = {name for rule in RULES.values() for name in re.findall(r"\b(?:lifeboat|probe)_\w+", rule["expr"])}
    assert used - told == set()


@pytest.mark.slow
def test_a_week_in_which_one_night_has_no_backup_is_told(tmp_path: Path) -> None:
    assert "LifeboatBackupStale" in fired(tmp_path, Year(7, frozenset({4})))


@pytest.mark.slow
@pytest.mark.long
def test_a_year_of_ordinary_nights_tells_nobody_anything(tmp_path: Path) -> None:
    assert fired(tmp_path, Year(365)) == []
