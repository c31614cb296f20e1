# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged repositories, evidence and memories: each command and module ends as it should, and none claims more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random

from damage import damaged
from fuzzing import TALLY, attempt, fuzz
from world import EVIDENCE, KEPT, PAST, Done, Operation, World

EACH = 3  # operations on one damaged world; what one of them changes the next one finds


def before(world: World, operations: Sequence[Operation]) -> None:
    """What each claims of the intact world; all of them end as they should there."""
    world.intact.clear()
    for number, operation in enumerate(operations):
        world.renew()
        world.intact[number] = operation(world)


def evidence(world: World) -> set[str]:
    return {path.stem for path in (world.root / "state/evidence").glob("*.json")}


def compared(intact: Done, done: Done, earned: set[tuple[str, ...]], lost: set[str], story: str) -> None:
    """Nothing good may be said that was not said before, but what a verification said meanwhile. With fewer backups to
    judge, a verdict may be better; and of what failed nobody knows any more where the record of that is gone whole."""
    better = {claim for claim in done.claims - intact.claims - earned if not lost & {*claim}}
    if intact.listed - done.listed or lost:
        better -= {("verdict",)}
    if better:
        TALLY.note("better verdicts", f"{done.name}: {sorted(better)}", f"{story}: {done}")


def hurt(
    world: World, operations: Sequence[Operation], places: Sequence[str], rng: Random, *, other: bool = False
) -> None:
    """Damage it, then do some operations. other: it is another stack then, of which nothing is compared."""
    world.renew()
    told = damaged(rng, world.root, places)
    story = "; ".join(item.words for item in told)
    records = {path.relative_to(world.template) for path in world.template.glob("backup/*/*/verification.json")}
    lost = {path.parent.name for path in records if not os.path.lexists(world.root / path)}
    earned: set[tuple[str, ...]] = set()
    written: set[str] = set()  # records that an operation makes
    for number in rng.sample(range(len(operations)), EACH):
        there = evidence(world)
        done = attempt(operations[number], world, story)
        written |= evidence(world) - there
        if done is not None and not other and not any(item.forged for item in told):
            earned |= {claim for claim in done.claims if claim[0] == "evidence" and claim[1] in written}
            compared(world.intact[number], done, earned, lost, story)
            earned |= {("proven", claim[1]) for claim in done.claims if claim[::2] == ("verified", "restore")}


def test_a_damaged_repository(world: World) -> None:
    before(world, PAST)
    fuzz(0.3, EACH, lambda rng: hurt(world, PAST, ["backup"], rng))


def test_damaged_evidence(world: World) -> None:
    before(world, EVIDENCE)
    fuzz(0.1, EACH, lambda rng: hurt(world, EVIDENCE, ["state/evidence"], rng))


def test_a_damaged_memory(world: World) -> None:
    """What a host remembers, its log, and its schedule."""
    operations = [*PAST, *EVIDENCE]
    before(world, operations)
    fuzz(0.08, EACH, lambda rng: hurt(world, operations, ["state", "log", "cron"], rng))


def test_a_damaged_configuration(world: World) -> None:
    world.renew()
    fuzz(0.1, EACH, lambda rng: hurt(world, [*PAST, *EVIDENCE], ["etc"], rng, other=True))


def test_a_damaged_keeper(kept: World) -> None:
    """What it pulls from, and what it has."""
    before(kept, KEPT)
    fuzz(0.12, EACH, lambda rng: hurt(kept, KEPT, [rng.choice(("backup", "kept"))], rng))
