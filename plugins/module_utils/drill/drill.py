# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drill: what must hold before anything is broken, and what is found when all is done. fault does the breaking."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from ..base import clock, typed
from ..base.checks import FAIL, PASS, Check
from ..base.errors import LifeboatError, Log, UsageError
from ..base.filesystem import explained
from ..evidence.drill import Account, Injected, Loss
from ..frontend import assess as frontend_assess
from ..settings.config import Config
from ..settings.scenarios import FRONTEND
from ..stack import answer
from . import ledger

_STEADY = 15.0
_AGAIN = 0.5


def begin(config: Config, scenario: str, command: str, *, log: Log) -> str:
    """See that all is well, then start a writer. Returns the steady state in words. Raises LifeboatError where it is
    not: what is broken already cannot be broken, and a recovery of it would be no drill."""
    if not config.drill.transactions:
        cause = "lifeboat_drill.transactions is empty: nobody could tell what a user would have lost"
        remedy = "Name at least one thing that a user writes and reads back, and deploy. Nothing was touched."
        raise UsageError("see the steady state", config.stack, cause, remedy)
    words = [f"{check.name}: {check.detail}" for check in steady(config, scenario)]
    count = ledger.start(config, command)
    path = ledger.path_of(config)
    for transaction in config.drill.transactions:
        ledger.hold(config, transaction, path)
        words.append(f"transaction {transaction.name}: written and read back")
    log(f"the writer runs; {count} writes are acknowledged")
    return "; ".join(words)


def steady(config: Config, scenario: str) -> list[Check]:
    """Return the endpoints' checks, and the site's where the drill is about that. Raise LifeboatError if one fails."""
    deadline = time.monotonic() + _STEADY
    found = [answer.endpoint(check, deadline) for check in config.application.checks]
    if scenario == FRONTEND:
        found.append(site(config))
    bad = [f"{check.name}: {check.detail}" for check in found if check.result != PASS]
    if bad:
        remedy = "Nothing was touched. Recover what is broken first; a drill begins with a stack that is well."
        raise LifeboatError("see the steady state", config.stack, "; ".join(bad), remedy)
    return found


def site(config: Config) -> Check:
    """Return whether the public site answers."""
    seen = frontend_assess.site_of(config.frontend)
    name = f"site {config.frontend.url}"
    return Check(name, PASS, f"serves {seen.commit[:12] or 'a page'}") if seen.up else Check(name, FAIL, seen.problem)


def serve_again(config: Config, scenario: str, *, seconds: float, log: Log) -> datetime:
    """Wait until every transaction holds again; returns that time. Raises LifeboatError after so many seconds."""
    path = ledger.path_of(config)
    deadline = time.monotonic() + seconds
    while True:
        try:
            for transaction in config.drill.transactions:
                ledger.hold(config, transaction, path)
            looked = site(config) if scenario == FRONTEND else Check("", PASS)
            if looked.result != PASS:
                raise LifeboatError("look at the site", looked.name, looked.detail)
            return datetime.now(timezone.utc)
        except LifeboatError as exc:
            if time.monotonic() >= deadline:
                raise
            log(f"not yet: {exc.cause}")
            time.sleep(_AGAIN)


def end(
    config: Config, scenario: str, broke: Injected, *, recovered: bool, reopened: Optional[datetime] = None,
    loss: Optional[Loss] = None, log: Log,
) -> Account:  # fmt: skip
    """Return what was found afterwards. Whatever cannot be found out is left out and said in problems: it is no pass.

    reopened: when the recovery began to start the application. The writer's transactions after it end the clock: ours
    are later, by the time that the recovery needs to record what it did. loss: what it went back before, if anything.
    """
    path = ledger.path_of(config)
    target = config.drill.rpo_target_seconds
    seen = Account(broke.fault, broke.proof, injected_at=broke.injected_at, rpo_target_seconds=target, loss=loss)
    if broke.ledger:
        with explained("keep the ledger", path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(broke.ledger, encoding="utf-8")
    if recovered:
        try:
            served = serve_again(config, scenario, seconds=config.application.timeout, log=log)
            seconds = _between(broke, clock.start())
            earlier = ledger.served(config, path, reopened) if reopened and scenario != FRONTEND else None
            if earlier and earlier < served:
                log("the writer's transactions were there before ours")
                seconds = None if seconds is None else round(seconds - (served - earlier).total_seconds(), 2)
                served = earlier
            seen = replace(seen, transaction_at=served, seconds=seconds)
        except LifeboatError as exc:
            seen = replace(seen, problems=(str(exc),))
    try:
        ledger.stop(config)
        compared = ledger.compare(config, path)
        log(f"ledger: {json.dumps(typed.plain(compared, nulls=True))}")
        lost = ledger.age_of_loss(compared, broke.injected_at) if broke.injected_at else None
        return replace(seen, ledger=compared, rpo_seconds=lost)
    except LifeboatError as exc:
        return replace(seen, problems=(*seen.problems, str(exc)))


def _between(broke: Injected, now: clock.Clock) -> Optional[float]:
    """Seconds by the monotonic clock, where both ends were seen by the same one."""
    if broke.boot and broke.boot == now.boot and broke.monotonic is not None:
        return round(now.monotonic - broke.monotonic, 2)
    return None
