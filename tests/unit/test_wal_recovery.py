# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery to any instant: what its plan says, what is refused, and the backup of the instant that it goes by."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Replay
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import when
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import instants as wal_instants
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Latest, Position, Table
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.records import Event
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import format_lsn
from builders import make_config
from test_wal_archive import AT, BASE, MIB, World

HOUR = timedelta(hours=1)
START = 5 * MIB


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A base of AT, and WAL until two hours later."""
    made = World(tmp_path, monkeypatch)
    made.base(START)
    made.span([(START, START + 4096 * 4)])
    made.span([(START + 4096 * 4, 6 * MIB)], identity="wal_backup_20261201_140000", hours=2)
    return made


def replayed(world: World, recovery_time: str = "", before: str = "", timeline: int = 0) -> Optional[Replay]:
    instant = wal_instants.requested(recovery_time, before)
    assert instant is not None
    return instants.replay(world.run, instant, lambda _: None, timeline)


def test_a_time_of_the_window_is_gone_to_by_base_and_wal(world: World) -> None:
    moment = (AT + HOUR).replace(microsecond=123456)
    found, shown = replayed(world, moment.isoformat()), format_time(moment)
    assert found == Replay(shown, moment.isoformat(), "", 1, BASE, format_time(AT), 6 * MIB - (START + 40), shown), (
        "to the microsecond, with as much WAL as is known to reach it"
    )


def test_the_end_of_the_wal_is_an_instant(world: World) -> None:
    found = replayed(world, "latest")
    assert found is not None
    assert (found.instant, found.recovery_time, found.since) == ("latest", "latest", format_time(AT + 2 * HOUR))


def test_a_position_says_nothing_of_time(world: World) -> None:
    found = replayed(world, before=format_lsn(START + 8192))
    assert found is not None
    assert (found.before, found.recovery_time, found.since) == (format_lsn(START + 8192), "", "")
    assert found.wal == 8192 - 40


@pytest.mark.parametrize("text", ["app.items", "918233", "mark:before-upgrade"])
def test_what_the_wal_is_read_for_is_a_position_from_then_on(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The backup of the instant is taken by that, and the WAL is read once."""
    monkeypatch.setattr(when, "resolved", lambda *_: Position(START + 8192))
    found = replayed(world, before=text)
    assert found is not None
    assert (found.instant, found.before) == (str(wal_instants.parse_before(text)), format_lsn(START + 8192))


def test_before_the_window_a_backup_has_to_do(world: World) -> None:
    assert replayed(world, format_time(AT - HOUR)) is None


def test_what_there_is_no_way_to_is_refused_with_the_nearest_instants(world: World) -> None:
    with pytest.raises(UsageError, match=format_time(AT + 2 * HOUR)) as refused:
        replayed(world, format_time(AT + 3 * HOUR))
    assert refused.value.exit_code == 2
    with pytest.raises(UsageError, match="no base leads to timeline 7"):
        replayed(world, "latest", timeline=7)


def test_without_continuous_protection_a_time_alone_can_be_asked_for(tmp_path: Path) -> None:
    run = Opened(make_config(tmp_path))
    assert instants.replay(run, At(AT), lambda _: None) is None
    for instant in (Latest(), Position(1), Table("app.items")):
        with pytest.raises(UsageError, match="the stack has no continuous protection"):
            instants.replay(run, instant, lambda _: None)


def test_two_instants_are_refused() -> None:
    with pytest.raises(UsageError, match=r"before=0/1 is another instant.*Name one of them"):
        wal_instants.requested("latest", "0/1")
    assert wal_instants.requested("", "") is None


def test_what_a_damaged_server_can_be_brought_back_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest loss first, then the newest backup, then all that there is."""
    losses = [
        Event(what, xid, AT, lsn, 1, 5, (1,), names=(name,))
        for what, xid, lsn, name in (("TRUNCATE", 800, 0x5000100, "app.a"), ("DROP TABLE", 900, 0x5000200, "app.b"))
    ]
    monkeypatch.setattr(instants, "happened", lambda *_, **__: losses)
    at = format_time(AT)
    assert instants.choices(world.run, "db_backup_x", at, lambda _: None) == [
        f"-e before=0/5000200  before DROP TABLE app.b at {at}, transaction 900",
        f"-e before=0/5000100  before TRUNCATE app.a at {at}, transaction 800",
        f"-e recovery_point=db_backup_x  the newest backup that will do, of {at}",
        f"-e recovery_time=latest  all that was received until {format_time(AT + 2 * HOUR)}, with each loss",
    ]


def test_an_archive_that_cannot_be_read_leaves_the_newest_backup_to_be_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise UnverifiedError("find what happened", "the WAL", "the disk is gone")

    monkeypatch.setattr(instants, "happened", away)
    (choice,) = instants.choices(world.run, "db_backup_x", "T", lambda _: None)
    assert choice.startswith("-e recovery_point=db_backup_x")
    assert choice.endswith("what else there is is not known: the disk is gone")


def test_without_a_base_there_is_nothing_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instants, "happened", lambda *_, **__: [])
    assert instants.choices(World(tmp_path, monkeypatch).run, "db_backup_x", "T", lambda _: None) == []
