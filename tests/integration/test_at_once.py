# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two of Lifeboat's runs, started within 0 to 10 s of each other: nothing is lost, and who did nothing says why.

A recovery with a recovery, a backup, a prune; a drill with a verification, where it breaks the stack and where it only
restores beside it. One start of each pair; ATONCE=50: so many starts over the pairs, the same ones for a SEED; LONG=1:
50. The table of pair x starts x outcomes is printed (`pytest -s`).
"""

from __future__ import annotations

import collections
import os
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import kill_everywhere
import pytest
from kill_everywhere import SEED, Outcome
from postgres_stack import Stack
from test_kill_everywhere import Database, own

__all__ = ["own"]
# The first of a pair is the recovery, by itself or within a drill.
PAIRS: dict[tuple[str, str], dict[str, Any]] = {
    ("database", "database"): {},
    ("database", "backup"): {"wait": 0},
    ("database", "prune"): {},
    ("drill", "verify"): {},
    ("beside", "verify"): {},
}
WHY = re.compile(r"nothing was done|holds it since|has not ended|is being recovered")
STARTS = int(os.environ.get("ATONCE") or (50 if os.environ.get("LONG") else len(PAIRS)))


class AtOnce(Database):
    """What the application writes as soon as it runs again is counted in a table of its own."""

    written = 0

    def __init__(self, root: Path, stack: Stack, pair: tuple[str, str]) -> None:
        super().__init__(root, stack)
        self.pair = pair
        self.settings.update(environment="drill", config={"enabled": False})
        self.backups = root / "backup/postgresql"
        (self.first,) = self.backups.iterdir()
        self.jobs = [self.about(kind, self.settings, **PAIRS[pair] if turn else {}) for turn, kind in enumerate(pair)]

    def lose(self) -> None:
        for backup in self.backups.iterdir():
            if backup != self.first:  # it may hold what was damaged when it was taken
                shutil.rmtree(backup)
        if self.pair[0] == "database":
            super().lose()
        else:  # a drill breaks what is well
            shutil.rmtree(self.root / "state", ignore_errors=True)
            for name in self.stack.psql("SELECT datname FROM pg_database WHERE datname ~ '^shop_';"):
                self.stack.psql(f'DROP DATABASE "{name}" WITH (FORCE);')
            self.stack.psql("DELETE FROM t WHERE a = 0;", "shop")
        self.stack.psql("CREATE TABLE IF NOT EXISTS w (a int);", "shop")

    def aside(self) -> list[str]:
        """What a drill drops is in no quarantine, and what is restored beside puts nothing there."""
        return super().aside() if self.pair[0] == "database" else []

    def start(self, gap: float, first: bool) -> list[Outcome]:
        """Both of the pair, the second that much later; `first`: the other one begins."""
        jobs = self.jobs[::-1] if first else self.jobs
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


def kind_of(done: Outcome) -> str:
    """The outcome in a word or two: what it did, or why it did nothing."""
    if done.error:
        why = WHY.search(done.error)
        return f"waits: {why.group()}" if why else "error"
    return re.sub(r" of .*|_[0-9_]+$| [0-9]+$", "", done.said or "nothing to do")


def table(rows: dict[tuple[str, str], collections.Counter[str]]) -> str:
    lines = []
    for pair, outcomes in rows.items():
        for outcome, count in sorted(outcomes.items()):
            lines.append(f"{' + '.join(pair):<20} {count:>3} x {outcome}")
    return "\n".join(["", *lines, f"{sum(sum(outcomes.values()) for outcomes in rows.values())} starts", ""])


def schedule() -> dict[tuple[str, str], list[float]]:
    """Choose the gaps of each pair: each pair once, then seeded at random."""
    rng, names = random.Random(f"{SEED} at once"), list(PAIRS)  # noqa: S311 - the same ones each time
    lots = [*names, *(rng.choice(names) for _ in range(STARTS - len(names)))][:STARTS]
    return {pair: [round(rng.uniform(0, 10), 1) for lot in lots if lot == pair] for pair in names}


OUTCOMES: dict[tuple[str, str], collections.Counter[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Any:
    yield
    print(table(OUTCOMES), flush=True)


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_at_once(tmp_path: Path, own: Stack, pair: tuple[str, str]) -> None:
    if not (gaps := schedule()[pair]):
        pytest.skip("NOT CHECKED: ATONCE is less than there are pairs")
    case, rng = AtOnce(tmp_path, own, pair), random.Random(f"{SEED} {pair}")  # noqa: S311 - the same order each time
    wrong, outcomes = [], OUTCOMES.setdefault(pair, collections.Counter())
    for gap in gaps:
        began = time.monotonic()
        case.lose()
        case.written = 0
        # A backup that ends before the recovery is planned holds what is damaged, as any backup of it does.
        both = case.start(gap, pair[1] != "backup" and rng.random() < 0.5)
        said, end = case.until_it_ends()
        rows = case.stack.psql("SELECT count(*) FROM w;", "shop") if case.written else ["0"]
        found = [
            case.compare(), "" if end else f"it does not come to an end: {said}",
            "" if rows == [str(case.written)] else f"{rows[0]} of {case.written} rows that were written since",
            *(one.error for one in both if one.error and not WHY.search(one.error)),
        ]  # fmt: skip
        if pair == ("database", "database") and sum("swap" in one.said for one in both) != 1:
            found.append("not one of them recovered it")
        if not any(one.said for one in both):
            found.append("neither of them did anything")
        problem = "; ".join(filter(None, found))
        outcomes["WRONG" if problem else " | ".join(map(kind_of, both))] += 1
        when = f"{gap} s apart, {time.monotonic() - began:.0f} s"
        line = f"{' + '.join(pair)}, {when}: {' | '.join(one.text for one in both)}: {problem or 'right'}"
        print(line, flush=True)
        wrong += [line] if problem else []
    assert not wrong, "\n".join(wrong)
