# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lose the lab's database again and again, and say where the time of its recovery goes. `make lab` comes before.

The time counts from the end of the plan, where an operator has read and confirmed it, to the first business transaction
that the drill made and read back. All times are of the records that the drill and its recovery left on the host.
Exits 0 also when a target is missed: a speed is a measurement, not a test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TARGETS = dict.fromkeys(("table_dropped", "corrupted", "data_directory_emptied", "volume_removed"), 15.0) | {
    "killed": 8.0
}
EVIDENCE = "/var/lib/lifeboat/shop/evidence"
GAPS = "between the phases"
TOTAL = "plan to transaction"


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def between(first: str, last: str) -> float:
    return (instant(last) - instant(first)).total_seconds()


def rows(drill: dict[str, Any], recovery: dict[str, Any]) -> dict[str, float]:
    """Seconds of each phase after the plan, of what lies between them, and to the transaction.

    The application serves before the last phase, which starts it, has seen that all of it is well.
    """
    plan, *phases = recovery["phases"]
    if plan["name"] != "assess" or not phases:
        raise ValueError(f"{recovery['id']}: its phases are {[phase['name'] for phase in recovery['phases']]}")
    served = drill["drill"]["transaction_at"]
    *whole, last = phases
    found = {phase["name"]: float(phase["seconds"]) for phase in whole}
    total, rest = between(plan["finished_at"], served), between(last["started_at"], served)
    gaps = total - rest - sum(found.values())
    return {**found, f"{last['name']}, to the transaction": rest, GAPS: gaps, TOTAL: total}


def play(options: argparse.Namespace, name: str, *words: str) -> None:
    """Run a playbook; what it says is shown where it fails."""
    extra = [part for word in words for part in ("-e", word)]
    done = subprocess.run(
        ["ansible-playbook", "-i", options.inventory, f"lifeboat.dr.{name}", *extra],
        cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nlifeboat.dr.{name} exited {done.returncode}")


def run(fault: str, options: argparse.Namespace) -> dict[str, float]:
    """One drill."""
    report = ROOT / ".lab" / "report"
    named = [f"fault={fault}", f"confirm={options.host}", f"report_directory={report}"]
    play(options, "drill", "scenario=database", "write_seconds=2", *named)
    drill = newest(options.host, "drill_database")
    return rows(drill, record(options.host, drill["drill"]["evidence"][0] + ".json"))


def on_host(host: str, *words: str) -> str:
    return subprocess.run(["docker", "exec", host, *words], check=True, capture_output=True, text=True).stdout


def newest(host: str, prefix: str) -> dict[str, Any]:
    names = on_host(host, "ls", EVIDENCE).split()
    return record(host, max(name for name in names if name.startswith(prefix) and name.endswith(".json")))


def record(host: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on_host(host, "cat", f"{EVIDENCE}/{name}"))
    return found


def table(measured: dict[str, list[dict[str, float]]]) -> str:
    """One column a fault, one line a phase: the median of its runs, in seconds."""
    names = list(dict.fromkeys(name for runs in measured.values() for one in runs for name in one if name != TOTAL))
    lines = [f"| phase | {' | '.join(f'`{fault}`' for fault in measured)} |", f"|---|{'--:|' * len(measured)}"]
    for name in [*names, TOTAL]:
        cells = []
        for runs in measured.values():
            seen = [one[name] for one in runs if name in one]
            cells.append(f"{statistics.median(seen):.1f}" if seen else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    targets = " | ".join(f"{TARGETS[fault]:.0f}" if fault in TARGETS else "" for fault in measured)
    return "\n".join([*lines, f"| target | {targets} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="drills of each fault (3)")
    parser.add_argument("--faults", nargs="+", default=["killed", "data_directory_emptied", "corrupted"])
    parser.add_argument("--inventory", default="inventories/lab")
    parser.add_argument("--host", default="app1", help="the lab's host that runs the stack (app1)")
    options = parser.parse_args()
    play(options, "deploy")
    measured: dict[str, list[dict[str, float]]] = {fault: [] for fault in options.faults}
    for number in range(1, options.runs + 1):
        for fault, runs in measured.items():
            runs.append(run(fault, options))
            print(f"{number} of {options.runs}, {fault}: {runs[-1][TOTAL]:.1f} s", file=sys.stderr, flush=True)
    print(f"{options.runs} runs, {os.cpu_count()} cores\n\n{table(measured)}")


if __name__ == "__main__":
    main()
