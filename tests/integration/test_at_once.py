# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery and something else, started within 0 to 10 s of each other: nothing is lost, and who did nothing says why.

KILLS=all: 50 pairs; otherwise one of each kind. `pytest -s` prints how each ended.
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import kill_everywhere
import pytest
from kill_everywhere import SEED, Outcome
from postgres_stack import Stack
from test_kill_everywhere import Database, own

__all__ = ["own"]
OTHERS: dict[str, dict[str, Any]] = {"database": {}, "backup": {"wait": 0}, "prune": {}}
WHY = re.compile(r"nothing was done|holds it since|has not ended|is being recovered")
PAIRS = 50


class AtOnce(Database):
    """What the application writes as soon as it runs again is counted in a table of its own."""

    written = 0

    def lose(self) -> None:
        super().lose()
        self.stack.psql("CREATE TABLE IF NOT EXISTS w (a int);", "shop")

    def pair(self, other: str, gap: float, first: bool) -> list[Outcome]:
        """The recovery and the other one, that much later; `first`: the other one begins."""
        jobs = [self.job(), {**self.about(other, self.settings, **OTHERS[other])}]
        jobs.reverse() if first else None
        with kill_everywhere.started(jobs[0], self.root / "runs") as one:
            began = time.monotonic()
            done: dict[int, Outcome] = {}
            while time.monotonic() - began < gap:
                if one[0].poll() is not None and 0 not in done:
                    done[0] = self.ended_as(*one)
                time.sleep(0.05)
            with kill_everywhere.started(jobs[1], self.root / "runs") as two:
                while len(done) < 2:
                    for number, running in enumerate((one, two)):
                        if number not in done and running[0].poll() is not None:
                            done[number] = self.ended_as(*running)
                    time.sleep(0.05)
        found = [done[0], done[1]]
        return found[::-1] if first else found

    def ended_as(self, process: object, folder: Path) -> Outcome:
        """What it said; where it was a recovery that succeeded, the application writes a row at once."""
        done = kill_everywhere.outcome(process, folder)  # type: ignore[arg-type]
        if "swap" in done.said:
            self.stack.psql("CREATE TABLE IF NOT EXISTS w (a int); INSERT INTO w VALUES (1);", "shop")
            self.written += 1
        return done


@pytest.mark.parametrize("other", OTHERS)
def test_two_at_once(tmp_path: Path, own: Stack, other: str) -> None:
    case, rng = AtOnce(tmp_path, own), random.Random(f"{SEED} {other}")  # noqa: S311 - the same gaps each time
    wrong = []
    for _ in range(PAIRS // len(OTHERS) + 1 if kill_everywhere.wanted_all() else 1):
        case.lose()
        case.written, gap = 0, round(rng.uniform(0, 10), 1)
        # A backup that ends before the recovery is planned holds what is damaged, as any backup of it does.
        pair = case.pair(other, gap, other != "backup" and rng.random() < 0.5)
        said, end = case.until_it_ends()
        rows = case.stack.psql("SELECT count(*) FROM w;", "shop") if case.written else ["0"]
        found = [
            case.compare(), "" if end else f"it does not come to an end: {said}",
            "" if rows == [str(case.written)] else f"{rows[0]} of {case.written} rows that were written since",
            *(one.error for one in pair if one.error and not WHY.search(one.error)),
        ]  # fmt: skip
        if other == "database" and sum("swap" in one.said for one in pair) != 1:
            found.append("not one of them recovered it")
        problem = "; ".join(filter(None, found))
        line = f"{other}, {gap} s apart: {' | '.join(one.text for one in pair)}: {problem or 'right'}"
        print(line, flush=True)
        wrong += [line] if problem else []
    assert not wrong, "\n".join(wrong)
