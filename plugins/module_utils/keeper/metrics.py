# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a monitoring system is told of a stack by its keeper: a textfile of its own, out of reach of the stack's host.

All names begin with `lifeboat_keeper_`, so that Prometheus can believe each host about its own side only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from ..base.checks import PASS
from ..base.errors import LifeboatError
from ..faces.metrics import Sample, exposition
from ..operations import metrics
from ..settings.config import Config
from ..stack.runtime import Opened
from . import status
from .alarms import KINDS

METRICS: Mapping[str, str] = {
    "lifeboat_keeper_metrics_timestamp_seconds": "When this file was written, by the clock of the keeper.",
    "lifeboat_keeper_last_pull_timestamp_seconds": "When the last pull ended that saw all that there was; 0: never.",
    "lifeboat_keeper_last_pull_allowed_age_seconds": "How old that may be.",
    "lifeboat_keeper_last_note_timestamp_seconds": "Until when the WAL is here that is followed; 0: none ever came.",
    "lifeboat_keeper_alarm": "1 where there is an alarm of this kind, else 0. While there is one, nothing is deleted.",
    "lifeboat_keeper_check_passed": "1 where the check of lifeboat keeper status passed, else 0.",
    "lifeboat_keeper_quota_used_ratio": "How much of the quota is used; 1 is all.",
}
_TOLD = ("quota", "last pull", "last note")  # they have figures of their own


def textfile(run: Opened, *, now: datetime) -> str:
    """What cannot be read is left out, and the check that says so has not passed."""
    stack = {"stack": run.config.stack}
    return exposition(METRICS, (sample._replace(labels={**stack, **sample.labels}) for sample in _samples(run, now)))


def _samples(run: Opened, now: datetime) -> Iterator[Sample]:
    yield Sample("lifeboat_keeper_metrics_timestamp_seconds", {}, now.timestamp())
    yield Sample("lifeboat_keeper_last_pull_allowed_age_seconds", {}, run.config.keeper.silent_hours * 3600)
    try:
        seen = status.status(run, now=now)
    except LifeboatError:
        yield _check("repository", False)
        return
    yield _check("repository", True)
    if seen.alarms is not None:
        yield Sample(
            "lifeboat_keeper_last_pull_timestamp_seconds", {}, seen.pulled_at.timestamp() if seen.pulled_at else 0
        )
        if run.config.wal.enabled:
            noted = seen.noted_at.timestamp() if seen.noted_at else 0
            yield Sample("lifeboat_keeper_last_note_timestamp_seconds", {}, noted)
        for kind in KINDS:
            yield Sample("lifeboat_keeper_alarm", {"kind": kind}, kind in seen.alarms)
    for check in seen.checks:
        if check.kind == "quota" and check.measured is not None:
            yield Sample("lifeboat_keeper_quota_used_ratio", {}, check.measured / 100)
        if check.kind not in (*_TOLD, *(seen.alarms or ())):
            yield _check(check.name, check.result == PASS)


def _check(name: str, passed: bool) -> Sample:
    return Sample("lifeboat_keeper_check_passed", {"check": name}, passed)


def write(config: Config, text: str) -> Path:
    """Next to that of another stack, whose own host this may be."""
    return metrics.write(config, text, "lifeboat-keeper")
