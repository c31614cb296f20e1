# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects a verification reads: another part each night, and every object within a stated number of nights."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.proof import Turn, Turns
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from builders import make_config

NIGHTS = 13
# How many nights lie between two verifications.
SCHEDULES = {
    "every night": lambda dice: 1,
    "every week": lambda dice: 7,
    "as it comes": lambda dice: dice.choice([1, 1, 1, 2, 3, 9, 30]),
}


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("seed", range(3))
def test_every_object_is_read_within_the_period(schedule: str, seed: int) -> None:
    """Objects appear and go all the time; a night may pass without a verification."""
    dice = random.Random(seed)  # noqa: S311
    alive: dict[str, int] = {}  # since which verification: the night of the one before it
    read: dict[str, int] = {}
    last, night, number = 20_000, 20_000, 0
    for _ in range(200):
        night += SCHEDULES[schedule](dice)
        for key in dice.sample(sorted(alive), len(alive) // 20):
            alive.pop(key)
            read.pop(key, None)
        for _more in range(dice.randrange(20)):
            number += 1
            alive[f"uploads/{number}.jpg"] = last
        turn = Turn(last, night, NIGHTS)
        read.update(dict.fromkeys(filter(turn.due, alive), night))
        overdue = {key for key, since in alive.items() if night - max(since, read.get(key, 0)) >= NIGHTS}
        assert not overdue, (schedule, night)
        last = night
    assert number > 500


def test_each_night_reads_another_part_and_all_parts_are_everything() -> None:
    keys = [f"{number}" for number in range(2000)]
    parts = [{*filter(Turn(night - 1, night, NIGHTS).due, keys)} for night in range(100, 100 + NIGHTS)]
    assert sum(map(len, parts)) == len(keys), "none twice"
    assert {*keys} == {key for part in parts for key in part}
    assert min(map(len, parts)) > len(keys) / NIGHTS / 2
    again = [*filter(Turn(112, 113, NIGHTS).due, keys)]
    assert {*again} == parts[0], "after the period it begins again"
    assert [*filter(Turn(99, 102, NIGHTS).due, keys)] == [
        key for key in keys if key in parts[0] | parts[1] | parts[2]
    ], "missed nights are made up for"
    assert len([*filter(Turn(0, 102, NIGHTS).due, keys)]) == len(keys)


def test_what_is_due_comes_first() -> None:
    turn = Turn(99, 100, NIGHTS)
    due = [turn.due(key) for key in sorted(map(str, range(500)), key=turn.distance)]
    assert due == sorted(due, reverse=True)


NIGHT = datetime(2026, 11, 24, 4, 30, tzinfo=timezone.utc)


def night(config: Config, days: int) -> Turns:
    return Turns(config, NIGHT + timedelta(days=days))


def test_when_objects_were_read_is_remembered_for_each_bucket(tmp_path: Path) -> None:
    config = make_config(tmp_path, vault={"objects_bucket": "v", "endpoint_url": "http://v", "read_days": 30})
    today = NIGHT.timestamp() // 86400
    assert night(config, 0).turn("uploads") == Turn(today - 7, today, 30), "nothing is known: as of last week"
    night(config, 0).read("uploads")
    night(config, 1).read("docs")
    assert night(config, 3).turn("uploads") == Turn(today, today + 3, 30)
    assert night(config, 3).turn("docs") == Turn(today + 1, today + 3, 30)
    assert night(config, 0).turn("uploads") == Turn(today - 1, today, 30), "twice in one night"
    assert night(config, -5).turn("uploads") == Turn(today - 6, today - 5, 30), "a clock that went back"
    path = config.state / proof._FILE
    for broken in ("", "[]", '{"nights": {"uploads": "x"}}', "{"):
        path.write_text(broken)
        assert night(config, 0).turn("uploads") == Turn(today - 7, today, 30)
