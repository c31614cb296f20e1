# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which instants can be gone back to: every refusal names the nearest ones, and every way has a base and no hole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Gap
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import catalogue
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.catalogue import Base, Catalogue, Route
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Instant, Latest, Position, Transaction
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import Fork, PieceName, Segment, format_lsn
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Piece, Span

MIB, SYSTEM = 1 << 20, "7412345678901234567"
DAY = datetime(2026, 12, 1, tzinfo=timezone.utc)
NOW = DAY + timedelta(hours=20)


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def base(hour: float, position: int, timeline: int = 1, system: str = SYSTEM) -> Base:
    """A base whose WAL is the MiB at that position."""
    start = position * MIB
    return Base(f"base_{hour:g}", system, 170_012, timeline, start + 40, start + 4096, at(hour), MIB)


def span(
    first: int, last: int, hours: tuple[float, float], timeline: int = 1, gaps: Sequence[tuple[int, int]] = (),
    system: str = SYSTEM,
) -> Span:  # fmt: skip
    """WAL from one MiB to another, a piece for each, but for those in a gap."""
    lacks = {number for start, end in gaps for number in range(start, end)}
    pieces = tuple(
        Piece(PieceName(Segment(timeline, number, MIB), 0), Artefact(f"{number}", 1, "0"), MIB)
        for number in range(first, last)
        if number not in lacks
    )
    holes = tuple(
        Gap(system, timeline, format_lsn(start * MIB), format_lsn(end * MIB), "the slot was lost")
        for start, end in gaps
    )
    reached = Reached(system, timeline, format_lsn(last * MIB), at(hours[1]))
    return Span(f"wal_{first}_{timeline}", "shop", system, 170_012, MIB, reached, at(hours[0]), pieces, (), holes)


def mark(hour: float, position: int, timeline: int = 1) -> Reached:
    return Reached(SYSTEM, timeline, format_lsn(position * MIB), at(hour))


def go(found: Catalogue, hour: float, timeline: int = 0) -> Route:
    return found.route(At(at(hour)), NOW, timeline)


def refused(found: Catalogue, instant: Instant, timeline: int = 0) -> UsageError:
    with pytest.raises(UsageError) as error:
        found.route(instant, NOW, timeline)
    assert error.value.exit_code == 2
    return error.value


# One timeline.

PLAIN = catalogue.assemble([base(2, 5), base(10, 20)], [span(5, 15, (1, 8)), span(15, 40, (8, 16))], {})


def test_the_newest_base_before_the_instant_is_taken() -> None:
    (window,) = PLAIN.windows
    assert (window.since, window.until.at, window.shared) == (at(2), at(16), None)
    assert go(PLAIN, 2).base.id == "base_2"
    assert go(PLAIN, 9.99).base.id == "base_2"
    assert go(PLAIN, 10).base.id == "base_10"
    assert go(PLAIN, 16).base.id == "base_10"
    assert PLAIN.route(Latest(), NOW).base.id == "base_10"
    assert PLAIN.route(Transaction(700), NOW).base.id == "base_10"
    assert PLAIN.route(Position(19 * MIB), NOW).base.id == "base_2"
    assert PLAIN.route(Position(21 * MIB), NOW).base.id == "base_10"
    assert PLAIN.as_dict() == {
        "windows": [
            {
                "system": SYSTEM, "timeline": 1, "from": "2026-12-01T02:00:00.000Z", "to": "2026-12-01T16:00:00.000Z",
                "lsn": "0/2800000", "bases": ["base_2", "base_10"], "left": "", "gap": None,
            }
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("instant", "cause", "near"),
    [
        (At(at(21)), "it has not come yet", "the last one before it: 2026-12-01T16:00:00.000Z"),
        (At(at(18)), "is not in the repository yet", "the last one before it: 2026-12-01T16:00:00.000Z"),
        (At(at(1.5)), "it is before all", "the first one after it: 2026-12-01T02:00:00.000Z"),
        (Position(50 * MIB), "it is behind 0/2800000", "2026-12-01T02:00:00.000Z to 2026-12-01T16:00:00.000Z"),
        (Position(4 * MIB), "no base leads", "2026-12-01T02:00:00.000Z to 2026-12-01T16:00:00.000Z"),
    ],
)
def test_what_is_outside_the_window_is_refused(instant: Instant, cause: str, near: str) -> None:
    error = refused(PLAIN, instant)
    assert cause in error.cause
    assert near in error.remedy
    assert "lifeboat wal instants" in error.remedy


def test_without_a_base_or_without_wal_there_is_no_instant() -> None:
    assert "no WAL was received" in refused(catalogue.assemble([base(2, 5)], [], {}), Latest()).cause
    assert "no base leads" in refused(catalogue.assemble([], [span(5, 15, (1, 8))], {}), Latest()).cause
    early = catalogue.assemble([base(2, 3)], [span(5, 15, (1, 8))], {})
    assert "no base leads" in refused(early, Latest()).cause, "between the base and the first piece there is a hole"
    foreign = catalogue.assemble([base(2, 5, system="8")], [span(5, 15, (1, 8))], {})
    assert "no base leads" in refused(foreign, Latest()).cause, "of another server"


# A hole.


def holed(*bases: Base, marks: Sequence[Reached] = (mark(5, 9), mark(6, 13))) -> Catalogue:
    return catalogue.assemble(bases, [span(5, 20, (1, 8), gaps=[(10, 12)])], {}, marks)


def test_a_hole_ends_the_window_and_a_base_behind_it_begins_another() -> None:
    found = holed(base(2, 5), base(7, 14))
    first, second = found.windows
    assert (first.until.at, second.since) == (at(5), at(7))
    assert first.run.hole is not None
    assert (first.run.hole.start, first.run.hole.end, first.run.hole.why) == (10 * MIB, 12 * MIB, "the slot was lost")
    assert go(found, 5).base.id == "base_2"
    assert go(found, 7.5).base.id == "base_7"
    error = refused(found, At(at(6)))
    assert error.cause == "it is in a gap: the slot was lost"
    assert "the last one before it: 2026-12-01T05:00:00.000Z" in error.remedy
    assert "the first one after it: 2026-12-01T07:00:00.000Z" in error.remedy
    assert found.route(Latest(), NOW).base.id == "base_7"
    assert "no base leads" in refused(found, Position(11 * MIB)).cause
    assert "no base leads" in refused(found, Position(13 * MIB)).cause, "behind the hole, and before the base"


def test_behind_a_hole_nothing_is_the_latest_until_a_base_was_taken() -> None:
    found = holed(base(2, 5))
    for instant in (Latest(), At(at(7))):
        error = refused(found, instant)
        assert "no base was taken since" in error.cause
        assert "2026-12-01T05:00:00.000Z" in error.remedy


def test_a_piece_that_is_missing_without_a_gap_on_record_is_a_hole() -> None:
    found = catalogue.assemble([base(2, 5)], [span(5, 10, (1, 4)), span(12, 20, (4, 8))], {})
    (window,) = found.windows
    assert window.until.at == at(4)
    assert window.run.hole is not None
    assert window.run.hole.why == "nothing has the WAL between"
    assert "in the repository yet" not in refused(found, At(at(6))).cause


# Timelines: at 12:00 somebody went back to what was at 9:00.

FORK = 20 * MIB + 500


def forked(*bases: Base, histories: Optional[dict[tuple[str, int], Sequence[Fork]]] = None) -> Catalogue:
    spans = [span(5, 30, (1, 12)), span(20, 50, (12.5, 18), timeline=2)]
    known = {(SYSTEM, 2): (Fork(1, FORK),)} if histories is None else histories
    return catalogue.assemble(bases or [base(2, 5)], spans, known, [mark(9, 19), mark(9.1, 21)])


def test_what_both_timelines_have_needs_no_choice() -> None:
    found = forked()
    old, new = found.windows
    assert (old.timeline, old.shared, old.left) == (1, at(9), FORK)
    assert (new.timeline, new.shared, new.bases) == (2, None, old.bases)
    assert (go(found, 8).timeline, go(found, 9).timeline, go(found, 13).timeline) == (1, 1, 2)
    assert found.route(Latest(), NOW).timeline == 2
    assert go(found, 8, timeline=2).timeline == 1, "the way to timeline 2 goes through it"
    assert found.route(Position(19 * MIB), NOW).timeline == 1
    assert found.route(Position(40 * MIB), NOW).timeline == 2


def test_where_two_lived_the_timeline_is_named() -> None:
    found = forked()
    error = refused(found, At(at(10)))
    assert error.cause == "two timelines lived then"
    assert "timeline=1 (nothing that a newer one wrote since 2026-12-01T09:00:00.000Z)" in error.remedy
    assert "timeline=2 (nothing that an older one wrote behind its fork)" in error.remedy
    assert go(found, 10, timeline=1).timeline == 1
    assert go(found, 10, timeline=2).timeline == 2, "as it was at the fork"
    assert refused(found, Position(25 * MIB)).cause == "two timelines lived then"
    assert found.route(Position(25 * MIB), NOW, 1).timeline == 1
    assert found.route(Latest(), NOW, 1).timeline == 1
    assert "no base leads to timeline 7" in refused(found, Latest(), 7).cause
    assert "Timelines: 1, 2." in refused(found, Latest(), 7).remedy


def test_an_abandoned_timeline_is_gone_to_only_by_name() -> None:
    # A base of the new timeline, and nothing that leads there from the old one: at 10:00 only the old one lived.
    found = catalogue.assemble(
        [base(2, 5), base(13, 25, 2)], [span(5, 30, (1, 12)), span(24, 50, (12.5, 18), timeline=2)],
        {(SYSTEM, 2): (Fork(1, FORK),)}, [mark(9, 19)],
    )  # fmt: skip
    error = refused(found, At(at(10)))
    assert error.cause == "it is on timeline 1, which was left before that"
    assert "Name it: timeline=1" in error.remedy
    assert "the newest one has, too: 2026-12-01T09:00:00.000Z" in error.remedy
    assert go(found, 10, timeline=1).base.id == "base_2"
    assert go(found, 14).base.id == "base_13"
    assert "no base leads to it" in refused(found, At(at(12.2))).cause


def test_without_its_history_a_timeline_has_no_ancestors() -> None:
    found = forked(base(2, 5), histories={})
    assert [window.timeline for window in found.windows] == [1]
    assert "no base was taken since the last gap or fork" in refused(found, Latest()).cause
    assert found.windows[0].shared is not None, "and nobody knows what of timeline 1 is in it"


def test_a_base_behind_the_fork_does_not_lead_to_the_new_timeline() -> None:
    found = forked(base(11, 25))
    assert [(window.timeline, len(window.bases)) for window in found.windows] == [(1, 1)]


def test_a_hole_before_the_fork_cuts_the_way() -> None:
    spans = [span(5, 30, (1, 12), gaps=[(10, 12)]), span(20, 50, (12.5, 18), timeline=2)]
    histories = {(SYSTEM, 2): (Fork(1, FORK),)}
    found = catalogue.assemble([base(2, 5)], spans, histories)
    assert [window.timeline for window in found.windows] == [1]
    found = catalogue.assemble([base(2, 5), base(8, 14)], spans, histories)
    assert [base.id for base in found.windows[-1].bases] == ["base_8"]
    assert found.windows[-1].timeline == 2


def test_the_segment_of_a_fork_is_not_needed_of_the_old_timeline() -> None:
    spans = [span(5, 20, (1, 12)), span(20, 50, (12.5, 18), timeline=2)]
    found = catalogue.assemble([base(2, 5)], spans, {(SYSTEM, 2): (Fork(1, FORK),)})
    assert [window.timeline for window in found.windows] == [1, 2]
    assert [go(found, hour).timeline for hour in (12, 12.2, 12.5)] == [1, 2, 2], "what was not received of the old one"


def test_a_server_that_was_initialised_again_has_windows_of_its_own() -> None:
    other = span(1, 9, (13, 18), system="8")
    found = catalogue.assemble([base(2, 5), base(14, 2, system="8")], [span(5, 30, (1, 12)), other], {})
    assert [window.system for window in found.windows] == [SYSTEM, "8"]
    assert go(found, 10).base.id == "base_2"
    assert go(found, 15).base.id == "base_14"
    assert found.route(Latest(), NOW).base.id == "base_14"
    assert "no base leads to it" in refused(found, At(at(12.5))).cause
