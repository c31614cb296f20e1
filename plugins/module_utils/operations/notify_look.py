# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hourly look: what status finds is told where it is new, and once a week that all is well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from ..base.checks import COULD_NOT_VERIFY, FAIL, NEWEST, PASS, PROOF, Check, Verdict, ended, verdict
from ..base.errors import LifeboatError
from ..evidence import store
from ..faces import history
from ..repository.components import BASE, taken
from ..settings.config import Config
from ..stack.runtime import Opened
from ..tools.notices import Trouble
from . import notify, receivers, status
from .status import Status


def report(run: Opened, *, now: datetime) -> list[Check]:
    """Ask status, and tell what is new. Return a check for each receiver to which something was sent."""
    config, before = run.config, {trouble.key: trouble for trouble in notify.memory(run.config).troubles}
    try:
        assessment = status.status(run, now=now)
    except LifeboatError as exc:  # what was ill before is not well for that
        unread = _trouble(config, ended("status", exc), before, now)
        return notify.tell(config, now, [*(item for item in before.values() if item.key != unread.key), unread])
    # How receivers were told is notify's own matter.
    checks = [check for check in assessment.checks if check.kind != notify.KIND]
    troubles = [_trouble(config, check, before, now) for check in checks if check.result != PASS]
    remarks = list(_remarks(config, assessment, now)) if verdict(checks) == PASS else []
    return notify.tell(config, now, troubles, remarks)


def _trouble(config: Config, check: Check, before: Mapping[str, Trouble], now: datetime) -> Trouble:
    key, command = f"status {check.name}", "lifeboat status"
    if check.kind == NEWEST and check.subject in taken():
        command = f"lifeboat backup {check.subject}"
    elif check.kind == PROOF:
        command = f"lifeboat verify{' base' if check.subject == BASE else ''}"
    since = before[key].since if key in before else now
    detail = receivers.safe(config, check.words, 2000)
    result: Verdict = FAIL if check.result == FAIL else COULD_NOT_VERIFY
    return Trouble(key, check.name, result, detail, since, f"{command} --stack {config.stack}")


def _remarks(config: Config, assessment: Status, now: datetime) -> Iterator[str]:
    """Yield the weekly word: what there is to recover from, when it was proved, and the next drill."""
    yield f"All {len(assessment.checks)} checks passed."
    good = [point.sealed for point in assessment.points if point.good and point.sealed]
    if good:
        yield f"Newest recovery point: {good[-1].id}, {(now - good[-1].taken_at) / timedelta(hours=1):.1f} h old"
    for name, days in assessment.proof_age_days.items():
        yield f"Last proof of the {name} by a restore: {'never' if days is None else f'{days:.1f} days ago'}"
    try:
        duties = history.judge(history.answer(config, store.everything(config)), now).duties
    except LifeboatError as exc:
        yield f"Drills: {receivers.safe(config, str(exc), 300)}"
        return
    for duty in (duty for duty in duties if duty.name.startswith("drill")):
        if duty.last is None:
            yield f"Next {duty.name}: now, as there was none that passed"
        else:
            due = duty.last + timedelta(days=duty.days)
            yield f"Next {duty.name}: {'by' if due > now else 'overdue since'} {due:%Y-%m-%d}"
