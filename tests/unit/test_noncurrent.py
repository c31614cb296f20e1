# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pruner's own record of what is hidden: what it lets go, what it calls an alarm, and how strictly it is read."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import stamp
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import clock_guard
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.clock_guard import Sighting
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Altered, Hidden
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.retention import Policy
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config

DAY = timedelta(days=1)
RULES = Policy(daily_days=30, weekly_months=0, monthly_months=0, minimum=1)
WHOLE, HALF, RUBBISH = Hidden(True, True), Hidden(True, False), Hidden(False, True)


def backup(days: float) -> str:
    return backup_id("database", NOW - days * DAY)


def test_the_days_begin_with_the_first_look_and_again_after_it_was_back() -> None:
    first = clock_guard.seen_hidden({}, [backup(1)], NOW)
    assert first == {backup(1): Sighting(NOW)}
    assert clock_guard.seen_hidden(first, [backup(1), backup(2)], NOW + DAY) == {
        **first,
        backup(2): Sighting(NOW + DAY),
    }
    assert clock_guard.seen_hidden(first, [], NOW + DAY) == {}
    assert clock_guard.removed_hidden(first, [backup(1), backup(3)], NOW + DAY) == {
        backup(1): Sighting(NOW, removed=True), backup(3): Sighting(NOW + DAY, removed=True),
    }  # fmt: skip


DUE: list[tuple[str, Hidden, float | None, bool, bool]] = [
    ("known for so long", WHOLE, 30, False, True),
    ("not so long", WHOLE, 29.9, False, False),
    ("never seen before", WHOLE, None, False, False),
    ("seen in the future, by a clock that was wrong", WHOLE, -5, False, False),
    ("something of it is live", HALF, 30, False, False),
    ("an alarm", WHOLE, 300, True, False),
    ("never had a manifest", RUBBISH, 30, False, True),
]


@pytest.mark.parametrize(("item", "known", "alarm", "goes"), [case[1:] for case in DUE], ids=[case[0] for case in DUE])
def test_what_may_go(item: Hidden, known: float | None, alarm: bool, goes: bool) -> None:
    name = backup(100)
    record = {} if known is None else {name: Sighting(NOW - known * DAY)}
    assert clock_guard.due({name: item}, record, [name] if alarm else [], 30, NOW) == ([name] if goes else [])


ALARMS: list[tuple[str, str, Hidden, dict[str, Sighting], bool]] = [
    ("nobody here removed it", backup(3), WHOLE, {}, True),
    ("it was only seen", backup(3), WHOLE, {backup(3): Sighting(NOW - 90 * DAY)}, True),
    ("artefacts are left", backup(3), HALF, {}, True),
    ("this pruner removed it", backup(3), WHOLE, {backup(3): Sighting(NOW, removed=True)}, False),
    ("another pruner of the same rules would have", backup(50), WHOLE, {}, False),
    ("it never had a manifest", backup(3), RUBBISH, {}, False),
    ("a recovery point", stamp(NOW - 3 * DAY), WHOLE, {}, True),
    ("an old recovery point", stamp(NOW - 50 * DAY), WHOLE, {}, False),
]


@pytest.mark.parametrize(
    ("name", "item", "record", "alarm"), [case[1:] for case in ALARMS], ids=[case[0] for case in ALARMS]
)
def test_what_is_an_alarm(name: str, item: Hidden, record: dict[str, Sighting], alarm: bool) -> None:
    newest = {backup(0): WHOLE, stamp(NOW): WHOLE}  # so that the rules count from today
    hidden = {**newest, name: item}
    known = {**{each: Sighting(NOW, removed=True) for each in newest}, **record}
    found = clock_guard.alarms(
        {**hidden, backup(1): WHOLE, stamp(NOW - DAY): WHOLE}, known, {"database": []}, [], RULES, NOW
    )
    assert (name in found) is alarm
    assert {backup(1), stamp(NOW - DAY)} <= set(found)


def test_what_is_written_is_read_and_private(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert clock_guard.read_hidden(config) == {}
    record = {"s3://vault/shop at http://vault1": {backup(1): Sighting(NOW), backup(2): Sighting(NOW, removed=True)}}
    for _time in range(2):
        clock_guard.write_hidden(config, record)
    assert clock_guard.read_hidden(config) == record
    assert (config.state / clock_guard.HIDDEN).stat().st_mode & 0o777 == 0o600


def replaced(path: Path) -> None:
    path.rename(path.with_name("x"))
    path.symlink_to("x")


def silent(path: Path) -> None:
    """What would let a reader wait for ever."""
    path.unlink()
    os.mkfifo(path, 0o600)


DAMAGES: list[Callable[[Path], object]] = [
    lambda path: path.write_text(""),
    lambda path: path.write_text("[]"),
    lambda path: path.write_text('{"schema": "lifeboat.dr/noncurrent", "version": [2], "places": {}}'),
    lambda path: path.write_text(path.read_text().replace('"since"', '"until"')),
    lambda path: path.write_text(path.read_text().replace('"removed": false', '"removed": "no"')),
    lambda path: path.write_text(path.read_text().replace('"version"', '"more": 1, "version"')),
    lambda path: path.chmod(0o640),
    replaced,
    silent,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_that_is_not_as_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    class Store:
        address = "s3://vault"

        def look_back(self) -> tuple[dict[str, Hidden], dict[str, Altered]]:
            return {backup(3): WHOLE}, {}

    config = make_config(tmp_path)
    monkeypatch.setattr(copies, "vault", lambda run: Store())
    clock_guard.write_hidden(config, {"s3://vault": {backup(1): Sighting(NOW)}})
    (check,) = clock_guard.hidden_checks(Opened(config), {"database": []}, [], NOW)
    assert (check.result, backup(3) in check.detail) == (FAIL, True)
    damage(config.state / clock_guard.HIDDEN)
    with pytest.raises(IntegrityError, match="read since when old versions are known"):
        clock_guard.read_hidden(config)
    (check,) = clock_guard.hidden_checks(Opened(config), {"database": []}, [], NOW)
    assert check.result == COULD_NOT_VERIFY
