# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lost site comes back to an instant behind its recovery point: which one, by what, and what of that is refused."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import changes
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.changes import Change
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import notes, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.site import instant, point_fetch, scope, state
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show
from ansible_collections.lifeboat.dr.plugins.module_utils.site.instant import Wish
from ansible_collections.lifeboat.dr.plugins.module_utils.site.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Latest, Position
from builders import BUCKET, NOW, make_config, store
from test_site_plan import EMPTY, LOST, World
from test_wal_archive import AT, BASE, MIB, SPAN
from test_wal_archive import World as Stored

HOUR = timedelta(hours=1)
DAYS = int((AT - NOW) / HOUR)  # from the recovery points of the builders to the WAL
SECOND = "wal_backup_20261201_140000"


class Continuous(World):
    """A vault that has WAL, too: a base at AT, and spans that reach until AT, and an hour later."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.stored = Stored(root, monkeypatch)
        self.stored.base(5 * MIB)
        self.span = self.stored.span([(4 * MIB, 5 * MIB), (5 * MIB, 6 * MIB), (6 * MIB, 7 * MIB)])
        self.later = self.stored.span([(7 * MIB, 8 * MIB)], identity=SECOND, hours=1)

    def plan(self, wish: Wish = instant.ANY, identity: str = "latest", **more: Any) -> site_show.Plan:
        here = more.pop("here", EMPTY)
        config = make_config(self.root, **{**BUCKET, "wal": {"enabled": True}, **more})
        return site_plan.make(Opened(config), Request(identity, wish), here, LOST, log=lambda _: None)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Continuous:
    return Continuous(tmp_path, monkeypatch)


def unfinished(point: str, made: site_show.Plan, *phases: str, ended: bool = False) -> scope.HostState:
    way = made.way
    assert way is not None
    done = tuple(state.Phase(name, "2026-12-01T15:00:00Z", "2026-12-01T15:01:00Z", made.checks) for name in phases)
    instant_of_way = (way.recovery_time, way.before, way.timeline)
    last = state.Recovery(point, False, "2026-12-01T16:00:00Z" if ended else "", done, *instant_of_way)
    return replace(EMPTY, recovery=last, **({"running": ("db", "web")} if ended else {}))


def test_a_lost_site_comes_back_to_all_that_was_received(world: Continuous) -> None:
    point = world.point(DAYS)
    made = world.plan()
    way = made.way
    assert way is not None
    assert (way.recovery_time, way.base, way.at) == ("latest", BASE, "2026-12-01T14:00:00.000Z")
    assert way.brought == (BASE, SPAN, SECOND)
    assert (made.backup.id, made.backup.consistency, made.backup.taken_at) == (point, "eventual", AT + HOUR)
    assert {check.name for check in made.checks} >= {f"{BASE} in the vault", "WAL in the vault"}
    shown = "\n".join(site_show.text(made, EMPTY))
    assert f"to an instant behind the recovery point {point}" in shown
    assert "rows: latest: all that was committed before 2026-12-01T14:00:00.000Z" in shown
    assert "objects: those of the recovery point: no changes lead on from it" in shown
    assert f"database: {BASE} and the WAL behind it, to latest" in shown


@pytest.mark.parametrize(
    ("wish", "given"),
    [
        (Wish(At(AT + HOUR / 2)), ("2026-12-01T13:30:00+00:00", "")),
        (Wish(Position(6 * MIB + 5)), ("", "0/600005")),
    ],
)
def test_an_instant_that_is_named_is_handed_on(world: Continuous, wish: Wish, given: tuple[str, str]) -> None:
    older = world.point(DAYS - 1)
    made = world.plan(wish)
    assert made.way is not None
    assert (made.way.recovery_time, made.way.before) == given
    assert made.backup.id == older
    if isinstance(wish.instant, Position):
        assert made.way.brought == (BASE, SPAN), "none behind the instant"


def test_what_is_behind_the_instant_is_not_of_it(world: Continuous) -> None:
    """The files, the configuration and the other databases are of the newest point before."""
    before, _after = world.point(DAYS - 1), world.point(DAYS + 1)
    assert world.plan(Wish(At(AT + HOUR / 2))).backup.id == before


def test_a_point_that_is_named_is_what_comes_back(world: Continuous) -> None:
    point = world.point(DAYS)
    made = world.plan(identity=point)
    assert (made.way, made.backup.id, made.backup.consistency) == (None, point, "snapshot")
    with pytest.raises(UsageError, match="an instant is another state than a recovery point"):
        world.plan(Wish(Latest()), point)


def test_a_point_that_is_newer_than_the_wal_is_taken_and_that_is_said(world: Continuous) -> None:
    point = world.point(DAYS + 2)
    made = world.plan()
    assert (made.way, made.backup.id) == (None, point)
    assert "the WAL in the vault ends at 2026-12-01T14:00:00.000Z, before that point" in made.warnings[1]
    assert world.plan(Wish(Latest())).way is not None, "unless that is what was named"


def test_without_a_base_the_point_is_taken_and_that_is_said(world: Continuous) -> None:
    point = world.point(DAYS)
    shutil.rmtree(world.stored.repo.root / "base")  # type: ignore[attr-defined]
    made = world.plan()
    assert (made.way, made.backup.id) == (None, point)
    assert "NOT the end of what was received, but the recovery point of" in made.warnings[1]
    named = world.plan(Wish(At(AT + HOUR / 2)))
    assert named.way is None
    assert "NOT 2026-12-01T13:30:00.000Z, but the recovery point of" in named.warnings[1]
    assert "no base leads to WAL that was received" in named.warnings[1]


def test_a_time_before_all_wal_is_a_matter_of_points(world: Continuous) -> None:
    point = world.point()
    world.point(DAYS)
    made = world.plan(Wish(At(NOW + HOUR)))
    assert (made.way, made.backup.id, made.backup.taken_at) == (None, point, NOW)
    assert "it is before all that can be gone back to" in made.warnings[1]


def test_an_instant_that_there_is_no_way_to_names_the_nearest(world: Continuous) -> None:
    world.point(DAYS)
    with pytest.raises(UsageError, match=r"not in the repository yet.*the last one before it: 2026-12-01T14:00:00"):
        world.plan(Wish(At(AT + 2 * HOUR)))


def test_every_byte_of_the_way_is_read_before_anything_is_built(world: Continuous) -> None:
    world.point(DAYS)
    piece = next(path for path in world.later.iterdir() if path.suffix == ".zst")
    piece.chmod(0o600)
    piece.write_bytes(piece.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"another length or SHA-256.*before=0/700000"):
        world.plan(Wish(Latest()))
    assert world.plan().way is None, "where none was named a point does"
    assert world.plan(Wish(Position(7 * MIB))).way is not None


def test_a_damaged_base_is_no_way(world: Continuous) -> None:
    world.point(DAYS)
    path = world.stored.repo.root / "base" / BASE / "base.tar.zst"  # type: ignore[attr-defined]
    path.chmod(0o600)
    path.write_bytes(b"filed")
    with pytest.raises(IntegrityError, match="another SHA-256"):
        world.plan(Wish(Latest()))


def test_without_continuous_protection_a_time_is_of_points_and_a_position_is_refused(world: Continuous) -> None:
    point = world.point(DAYS)
    made = world.plan(Wish(At(AT + HOUR / 2)), wal={})
    assert (made.way, made.backup.id) == (None, point)
    with pytest.raises(UsageError, match="no continuous protection"):
        world.plan(Wish(Position(6 * MIB)), wal={})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("consistent", "0/60"), "consistent is another instant"),
        (("", "app.items"), r"found by reading the WAL.*recovery_time"),
        (("", "mark:upgrade"), "found by reading the WAL"),
        (("yesterday", ""), "yesterday"),
        (("2026-12-01T13:30:00Z", "0/60"), "another instant"),
    ],
)
def test_what_is_no_instant_here_is_refused(given: tuple[str, str], words: str) -> None:
    with pytest.raises(LifeboatError, match=words):
        instant.requested(*given)


def test_a_timeline_alone_is_no_instant() -> None:
    with pytest.raises(UsageError, match="a timeline alone"):
        instant.requested("", "", 2)


# Objects.


def followed(world: Continuous, until: datetime, *points: int) -> None:
    """Points, and a span of changes from an hour before AT until then, which is open."""
    for hours in points:
        world.point(hours)
    repo, began = world.stored.repo, AT - HOUR
    identity, line = backup_id("changes", began), Change("uploads", AT, Listed("a", 1, "e", AT, "v", "v", "e"))
    plain = changes.packed([line])
    data = gzip.compress(plain, mtime=0)
    entry = notes.Entry("000001.jsonl.gz", len(data), filesystem.sha256(data), len(plain))
    repo.add("changes", identity, entry.name, data)
    note = changes.Note(identity, "shop", 1, changes.Reached(until), began, {"uploads": began}, (entry,), changes=1)
    repo.add("changes", identity, notes.note_name(1), notes.to_bytes(note))


def test_rows_and_objects_are_as_they_were_at_the_instant(world: Continuous) -> None:
    followed(world, AT + HOUR, DAYS - 1)
    moment = AT + HOUR / 2
    made = world.plan(Wish(At(moment)))
    assert made.way is not None
    objects = backup_id("objects", AT - HOUR)
    assert made.way.objects == moment.isoformat()
    assert made.way.brought[-2:] == (objects, backup_id("changes", AT - HOUR))
    assert made.way.state == f"as of 2026-12-01T13:30:00.000Z, by {objects} and all changes since"


def test_objects_that_were_followed_less_far_are_told_by_how_much(world: Continuous) -> None:
    followed(world, AT + HOUR / 2, DAYS - 1)
    made = world.plan()
    assert made.way is not None
    assert made.way.state.startswith("as of 2026-12-01T13:30:00.000Z, 30 min before the rows, by ")
    assert (made.way.recovery_time, made.way.objects) == ("latest", (AT + HOUR / 2).isoformat())


def test_consistent_is_the_last_instant_that_both_have(world: Continuous) -> None:
    followed(world, AT + HOUR / 2, DAYS - 1)
    made = world.plan(Wish(consistent=True))
    assert made.way is not None
    assert (made.way.recovery_time, made.way.objects) == ((AT + HOUR / 2).isoformat(),) * 2


def test_objects_that_are_not_followed_any_more_are_those_of_the_point(world: Continuous) -> None:
    """The last look was before the last mirror: going by it would lose what that has."""
    followed(world, AT - HOUR / 2, DAYS - 1, DAYS)
    made = world.plan()
    assert made.way is not None
    assert (made.way.objects, made.way.recovery_time) == ("", "latest")


def test_a_point_that_is_newer_than_what_both_have_is_consistent_itself(world: Continuous) -> None:
    followed(world, AT + HOUR / 4, DAYS - 1)
    point = world.point(DAYS + 1)
    made = world.plan(Wish(consistent=True))
    assert (made.way, made.backup.id, made.backup.consistency) == (None, point, "snapshot")
    assert not [line for line in made.warnings if line.startswith("NOT ")]


def test_without_changes_of_objects_consistent_is_the_newest_point(world: Continuous) -> None:
    point = world.point(DAYS)
    made = world.plan(Wish(consistent=True))
    assert (made.way, made.backup.id, made.backup.consistency) == (None, point, "snapshot")


def test_changes_that_are_damaged_are_not_gone_by(world: Continuous) -> None:
    followed(world, AT + HOUR, DAYS - 1)
    folder = world.stored.repo.root / "changes" / backup_id("changes", AT - HOUR)  # type: ignore[attr-defined]
    lines = next(path for path in folder.iterdir() if path.suffix == ".gz")
    lines.chmod(0o600)
    lines.write_bytes(lines.read_bytes()[:-1])
    made = world.plan()
    assert made.way is not None
    assert (made.way.objects, made.way.state) == ("", "")


# The machine.


def test_what_leads_to_the_instant_is_brought_as_far_as_its_notes_go(world: Continuous, tmp_path: Path) -> None:
    followed(world, AT + HOUR, DAYS - 1)
    made = world.plan()
    assert made.way is not None
    spare = tmp_path / "spare"
    (spare / "backup").mkdir(parents=True)
    config = make_config(spare, **BUCKET, wal={"enabled": True})
    run, lines = Opened(config), list[str]()
    (world.later / "note-000002.json.partial").write_bytes(b"no note names it")
    done = point_fetch.fetch(run, made.backup.id, made.way.brought, log=lines.append)
    repo, vault = repositories.repository_of(run), store(world.root)
    assert {*made.way.brought} <= {*done}
    for identity in (SPAN, SECOND):
        assert repo.growing("wal") == [SPAN, SECOND]
        for name in vault.notes("wal", identity):
            assert repo.read_note("wal", identity, name) == vault.read_note("wal", identity, name)
    assert f"{SECOND}: fetched from the vault as far as it was written" in "\n".join(lines)
    assert repo.published("base") == [BASE]
    assert point_fetch.fetch(run, made.backup.id, made.way.brought, log=lines.append) == [], "a second time nothing"


def test_a_run_that_was_killed_is_gone_on_with_to_its_instant(world: Continuous) -> None:
    point = world.point(DAYS - 1)
    named = world.plan(Wish(At(AT + HOUR / 2)))
    world.point(DAYS)
    here = unfinished(point, named, "build", "database")
    made = world.plan(here=here)
    assert made.way == named.way
    assert (made.backup.id, made.done) == (point, ("build", "database"))
    other = world.plan(Wish(Position(6 * MIB + 5)), here=here)
    assert (other.way != named.way, other.done) == (True, ())


def test_a_site_that_is_back_at_its_instant_is_left_alone(world: Continuous) -> None:
    point = world.point(DAYS - 1)
    wish = Wish(At(AT + HOUR / 2))
    here = unfinished(point, world.plan(wish), "database", ended=True)
    assert not world.plan(wish, here=here).needed
    assert not world.plan(here=here).needed
    with pytest.raises(UsageError, match="lives on this machine"):
        world.plan(Wish(At(AT + HOUR / 4)), here=here)


def test_a_new_run_to_another_instant_begins_again(tmp_path: Path) -> None:
    config, first = make_config(tmp_path), state.Goal("p", instant=("latest", "", 1))
    state.begin(config, "build", first, since="2026-12-01T15:00:00Z", now=AT)
    kept = state.begin(config, "configure", state.Goal("p"), now=AT)
    assert (kept.instant, [phase.name for phase in kept.phases]) == (first.instant, ["assess", "build", "configure"])
    again = state.begin(config, "build", first, since="2026-12-01T15:00:00Z", now=AT)
    assert len(again.phases) == 4, "the same is gone on with"
    other = state.begin(config, "build", state.Goal("p"), since="2026-12-01T15:00:00Z", now=AT)
    assert (other.instant, [phase.name for phase in other.phases]) == (state.NONE, ["assess", "build"])
