# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only a drill knows: the fault and the proof that it took, the first business transaction, the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from .checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from .manifest import parse_time

LEDGER = ("acknowledged", "present", "lost", "unexpected")
Drilled = tuple[dict[str, Any], list[Check], Optional[float], dict[str, Any]]


def drilled(given: Mapping[str, Any]) -> Drilled:
    """(what the record says of the drill, its checks, seconds from fault to transaction or None, rpo).

    given: fault; proof, how one saw that it took; seed, of a fault drawn by lot; steady_state, in words; injected_at;
    transaction_at, of the first business transaction that was verified; seconds between the two by the monotonic clock,
    where known; ledger {acknowledged, present, lost, unexpected}; rpo_seconds, the age of the oldest lost write;
    rpo_target_seconds; evidence, the ids of the recoveries' own records. What is missing is no pass.
    """
    injected, served = given.get("injected_at"), given.get("transaction_at")
    seconds = given.get("seconds")
    if seconds is None and injected and served:
        seconds = (parse_time(str(served)) - parse_time(str(injected))).total_seconds()
    checks = [
        Check("fault", PASS, str(given["proof"]))
        if given.get("proof")
        else Check("fault", COULD_NOT_VERIFY, "nobody saw the fault take: this may have been a recovery of nothing"),
        Check("business transaction", PASS, f"verified at {served}")
        if served and injected
        else Check("business transaction", COULD_NOT_VERIFY, "none was verified after the fault"),
    ]
    ledger = given.get("ledger")
    target = given.get("rpo_target_seconds")
    lost_seconds = _lost_seconds(given, ledger)
    checks.append(_loss(ledger, lost_seconds, target))
    rpo = {
        "seconds": lost_seconds,
        "target_seconds": None if target is None else float(target),
        "how": "from the writer's ledger: acknowledged before the fault, and absent after the recovery",
    }
    facts = {
        "fault": str(given.get("fault") or ""),
        "proof": str(given.get("proof") or ""),
        "seed": str(given.get("seed") or ""),
        "steady_state": str(given.get("steady_state") or ""),
        "injected_at": injected or None,
        "transaction_at": served or None,
        "ledger": {key: int(ledger[key]) for key in LEDGER} if ledger else None,
        "evidence": [str(one) for one in given.get("evidence") or ()],
    }
    return facts, checks, None if seconds is None else round(float(seconds), 2), rpo


def _lost_seconds(given: Mapping[str, Any], ledger: Optional[Mapping[str, Any]]) -> Optional[float]:
    if given.get("rpo_seconds") is not None:
        return round(float(given["rpo_seconds"]), 2)
    return 0.0 if ledger and not int(ledger["lost"]) else None


def _loss(ledger: Optional[Mapping[str, Any]], seconds: Optional[float], target: Optional[float]) -> Check:
    name = "data loss"
    if not ledger:
        return Check(name, COULD_NOT_VERIFY, "no ledger was kept")
    words = ", ".join(f"{ledger[key]} {key}" for key in LEDGER)
    if int(ledger["unexpected"]):
        return Check(name, FAIL, f"{words}: something is there that nobody wrote")
    if seconds is None:
        return Check(name, COULD_NOT_VERIFY, f"{words}: of which time is not known")
    if target is not None and seconds > float(target):
        return Check(name, FAIL, f"{words}; {seconds:.0f} s, target {float(target):.0f} s")
    return Check(
        name, PASS, f"{words}; {seconds:.0f} s" + ("" if target is None else f", target {float(target):.0f} s")
    )
