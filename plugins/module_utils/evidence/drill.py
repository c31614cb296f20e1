# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only a drill knows: the fault and the proof that it took, the first business transaction, the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import format_time
from .schema import Drill, Ledger, Record, Rpo

Drilled = tuple[Drill, list[Check], Optional[float], Rpo]


@dataclass(frozen=True)
class Compared(Ledger):
    """A ledger, compared with what there is. unexpected: under the name of an acknowledged write lies another thing."""

    errors: int = 0
    first_lost: Optional[datetime] = None
    last_present: Optional[datetime] = None


@dataclass(frozen=True)
class Injected:
    """What was broken. injected_at, monotonic, boot: when the clock began. ledger: of a machine that is about to go."""

    fault: str = ""
    name: str = ""
    proof: str = ""
    injected_at: Optional[datetime] = None
    monotonic: Optional[float] = None
    boot: str = ""
    ledger: str = ""


@dataclass(frozen=True)
class Loss:
    """What `lifeboat when` says of a fault. what: such as `DROP TABLE`; names: of what it was done to. at: when it was
    committed; before: the position of that, up to which the recovery goes. command: what an operator pastes."""

    what: str = ""
    names: tuple[str, ...] = ()
    transaction: int = 0
    at: Optional[datetime] = None
    before: str = ""
    timeline: int = 0
    command: str = ""


@dataclass(frozen=True)
class Account:
    """What was seen of a drill. What is missing is no pass.

    proof: how one saw that the fault took; seed: of a fault that was chosen at random; steady_state: in words;
    transaction_at: of the first business transaction that was verified; seconds: from the fault to it by the monotonic
    clock, where known; rpo_seconds: the age of the oldest lost write; evidence: the ids of the recoveries' own records;
    problems: why something of this is not known. loss: where the recovery went to the instant just before it.
    """

    fault: str = ""
    proof: str = ""
    seed: str = ""
    steady_state: str = ""
    injected_at: Optional[datetime] = None
    transaction_at: Optional[datetime] = None
    seconds: Optional[float] = None
    ledger: Optional[Compared] = None
    rpo_seconds: Optional[float] = None
    rpo_target_seconds: Optional[float] = None
    evidence: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    loss: Optional[Loss] = None


def drilled(account: Account, until: Optional[datetime]) -> Drilled:
    """(what the record says of the drill, its checks, seconds from fault to transaction or None, rpo).

    until: no earlier write may be lost: the recovery point's instant, or the fault's where nothing was restored. Where
    the recovery went to the instant just before a loss, none that was acknowledged before the loss was committed.
    """
    seconds, injected, served = account.seconds, account.injected_at, account.transaction_at
    if seconds is None and injected and served:
        seconds = (served - injected).total_seconds()
    unseen = "nobody saw the fault take: this may have been a recovery of nothing"
    unverified = "; ".join(["none was verified after the fault", *account.problems])
    verified = f"verified at {format_time(served)}" if served and injected else ""
    checks = [
        Check("fault", PASS if account.proof else COULD_NOT_VERIFY, account.proof or unseen),
        Check("business transaction", PASS if verified else COULD_NOT_VERIFY, verified or unverified),
    ]
    ledger, target, lost = account.ledger, account.rpo_target_seconds, account.rpo_seconds
    if lost is None and ledger and not ledger.lost:
        lost = 0.0
    lost = None if lost is None else round(lost, 2)
    checks.append(_loss(ledger, lost, target, account.problems))
    if ledger and account.loss and account.loss.at:
        checks.append(_promise_of_instant(ledger, account.loss, account.loss.at))
    elif ledger and until:
        checks.append(_promise(ledger, until))
    how = "from the writer's ledger: acknowledged before the fault, and absent after the recovery"
    counted = Ledger(ledger.acknowledged, ledger.present, ledger.lost, ledger.unexpected) if ledger else None
    facts = Drill(
        account.fault, account.proof, account.seed, account.steady_state, injected, served, counted, account.evidence
    )
    return facts, checks, None if seconds is None else round(seconds, 2), Rpo(lost, target, how)


def _promise(ledger: Compared, until: datetime) -> Check:
    """What was acknowledged before then is in the recovery point, or was never in danger. Times are known to the
    millisecond: a write of the very same one may have come after it."""
    name, first, last = "writes before the recovery point", ledger.first_lost, format_time(until)
    if first and first < until:
        words = f"one acknowledged at {format_time(first)} is lost, though all before {last} must be there"
        return Check(name, FAIL, words)
    return Check(name, PASS, f"all that was acknowledged before {last} is there")


def _promise_of_instant(ledger: Compared, loss: Loss, at: datetime) -> Check:
    """What was acknowledged before a loss was committed has its own COMMIT before that, and is there."""
    name, first = "writes before the loss", ledger.first_lost
    which = f"{loss.what} {', '.join(loss.names)} by transaction {loss.transaction}, {format_time(at)}"
    if first and first < at:
        return Check(name, FAIL, f"one acknowledged at {format_time(first)} is lost, though it came before the {which}")
    return Check(name, PASS, f"all that was acknowledged before the {which}, is there")


def _loss(
    ledger: Optional[Ledger], seconds: Optional[float], target: Optional[float], problems: Sequence[str]
) -> Check:
    name = "data loss"
    if not ledger:
        return Check(name, COULD_NOT_VERIFY, "; ".join(["no ledger was compared", *problems]))
    words = (
        f"{ledger.acknowledged} acknowledged, {ledger.present} present, {ledger.lost} lost,"
        f" {ledger.unexpected} unexpected"
    )
    if ledger.unexpected:
        return Check(name, FAIL, f"{words}: something is there that nobody wrote")
    if seconds is None:
        return Check(name, COULD_NOT_VERIFY, f"{words}: of which time is not known")
    allowed = "" if target is None else f", target {target:.0f} s"
    late = target is not None and seconds > target
    return Check(name, FAIL if late else PASS, f"{words}; {seconds:.0f} s{allowed}")


@dataclass(frozen=True)
class Row:
    """One line of a table of drills, in words. What is not known is a dash, never a nought."""

    scenario: str
    fault: str
    rto: str
    target: str
    rpo: str
    lost: str
    verdict: str


def row(record: Record, fault: str) -> Row:
    ledger = record.drill.ledger if record.drill else None
    return Row(
        record.scenario,
        fault or "-",
        _seconds(record.rto.seconds if record.rto else None),
        _seconds(record.target_seconds),
        _seconds(record.rpo.seconds if record.rpo else None),
        f"{ledger.lost} of {ledger.acknowledged}" if ledger else "-",
        record.verdict,
    )


def _seconds(value: Optional[float]) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:g} h"
