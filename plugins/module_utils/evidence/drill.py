# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only a drill knows: the fault and the proof that it took, the first business transaction, the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import parse_time

LEDGER = ("acknowledged", "present", "lost", "unexpected")
Drilled = tuple[dict[str, Any], list[Check], Optional[float], dict[str, Any]]


def drilled(given: Mapping[str, Any]) -> Drilled:
    """(what the record says of the drill, its checks, seconds from fault to transaction or None, rpo).

    given: fault; proof, how one saw that it took; seed, of a fault drawn by lot; steady_state, in words; injected_at;
    transaction_at, of the first business transaction that was verified; seconds between the two by the monotonic clock,
    where known; ledger {acknowledged, present, lost, unexpected, first_lost}; rpo_seconds, the age of the oldest lost
    write; rpo_target_seconds; kept_until, up to when no write may be lost at all: the recovery point's instant, or the
    fault's where nothing was restored; evidence, the ids of the recoveries' own records; problems, why something of
    this is not known. What is missing is no pass.
    """
    injected, served = given.get("injected_at"), given.get("transaction_at")
    seconds = given.get("seconds")
    if seconds is None and injected and served:
        seconds = (parse_time(str(served)) - parse_time(str(injected))).total_seconds()
    why = [str(problem) for problem in given.get("problems") or ()]
    checks = [
        Check("fault", PASS, str(given["proof"]))
        if given.get("proof")
        else Check("fault", COULD_NOT_VERIFY, "nobody saw the fault take: this may have been a recovery of nothing"),
        Check("business transaction", PASS, f"verified at {served}")
        if served and injected
        else Check("business transaction", COULD_NOT_VERIFY, "; ".join(["none was verified after the fault", *why])),
    ]
    ledger = given.get("ledger")
    target = given.get("rpo_target_seconds")
    lost_seconds = _lost_seconds(given, ledger)
    checks.append(_loss(ledger, lost_seconds, target, why))
    if ledger and given.get("kept_until"):
        checks.append(_promise(ledger, str(given["kept_until"])))
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
        "evidence": [str(item) for item in given.get("evidence") or ()],
    }
    return facts, checks, None if seconds is None else round(float(seconds), 2), rpo


def _lost_seconds(given: Mapping[str, Any], ledger: Optional[Mapping[str, Any]]) -> Optional[float]:
    if given.get("rpo_seconds") is not None:
        return round(float(given["rpo_seconds"]), 2)
    return 0.0 if ledger and not int(ledger["lost"]) else None


def _promise(ledger: Mapping[str, Any], until: str) -> Check:
    """What was acknowledged up to then is in the recovery point, or was never in danger."""
    name, first = "writes before the recovery point", ledger.get("first_lost")
    if first and parse_time(str(first)) <= parse_time(until):
        return Check(name, FAIL, f"one acknowledged at {first} is lost, though all up to {until} must be there")
    return Check(name, PASS, f"all that was acknowledged up to {until} is there")


def _loss(
    ledger: Optional[Mapping[str, Any]], seconds: Optional[float], target: Optional[float], why: Sequence[str]
) -> Check:
    name = "data loss"
    if not ledger:
        return Check(name, COULD_NOT_VERIFY, "; ".join(["no ledger was compared", *why]))
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


def row(record: Mapping[str, Any], fault: str) -> dict[str, str]:
    """One line of a table of drills, in words. What is not known is a dash, never a nought."""
    rto, rpo, ledger = record["rto"] or {}, record["rpo"] or {}, (record["drill"] or {}).get("ledger")
    return {
        "scenario": str(record["scenario"]),
        "fault": fault or "-",
        "rto": _seconds(rto.get("seconds")),
        "target": _seconds(record["target_seconds"]),
        "rpo": _seconds(rpo.get("seconds")),
        "lost": f"{ledger['lost']} of {ledger['acknowledged']}" if ledger else "-",
        "verdict": str(record["verdict"]),
    }


def _seconds(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:g} h"
