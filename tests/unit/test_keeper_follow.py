# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A keeper that follows the WAL of a stack's host: what comes, what a hostile host sends, and what stays of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
import sftp_stub
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time, stamp
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import (
    follow,
    following,
    metrics,
    prune,
    receive,
    status,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails, WalDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest, parse
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as settings_config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import WalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.sftp import Sftp
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.source import Budget
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import notes, spans
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import PieceName, Segment, format_lsn
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Writer
from builders import make_config, settings
from keeper_world import DAY, START, World, keeper_settings

MIB, SYSTEM = 1 << 20, "7412345678901234567"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Followed(World):
    """Its host writes WAL: write() is a piece and its note, close() the manifest. Each is a minute later."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        super().__init__(root, monkeypatch, **changes)
        self.config = dataclasses.replace(self.config, wal=WalSettings(enabled=True))
        self.host.mkdir(exist_ok=True)
        self.stack = LocalRepository(self.host)
        self.stack.stack = "shop"
        self.writer: Optional[Writer] = None
        self.position = 5 * MIB
        self.spans: list[str] = []

    def begin(self) -> str:
        identity = f"wal_backup_{stamp(self.now)}"
        self.writer = Writer(self.stack, "shop", identity, MIB, 170_012)
        self.spans.append(identity)
        return identity

    def write(self, size: int = 1000) -> str:
        writer = self.writer
        if writer is None:
            self.begin()
            writer = self.writer
        assert writer is not None
        piece = PieceName(Segment(1, self.position // MIB, MIB), self.position % MIB)
        entry = writer.add(f"{piece}", f"{self.position}".encode().ljust(size, b"x"), size)
        self.position += size
        writer.note(Reached(SYSTEM, 1, format_lsn(self.position), self.now), [entry])
        self.now += MINUTE
        return entry.name

    def close(self) -> str:
        writer = self.writer
        assert writer is not None and writer.span is not None
        self.stack.finish("wal", writer.identity, spans.manifest_of(writer.span, self.now).to_bytes())
        self.writer = None
        self.now += MINUTE
        return writer.identity

    def follow(self) -> follow.Done:
        with follow.reach(self.config.keeper) as source:
            return follow.follow(Opened(self.config), source, log=self.said.append)

    @property
    def known(self) -> following.Followed:
        return following.followed(self.config)

    def there(self, identity: str) -> Path:
        return self.host / "wal" / identity

    def here(self, identity: str) -> Path:
        return self.kept / "repository" / "wal" / identity

    def same(self, identity: str) -> bool:
        return files(self.there(identity)) == files(self.here(identity))

    def span(self, identity: str) -> spans.Span:
        return spans.read(self.repo, identity, "shop")

    def manifest(self, identity: str) -> Manifest:
        return parse(self.repo.manifest("wal", identity), component="wal", expected_id=identity)

    def closed_by(self, identity: str) -> str:
        details: WalDetails = self.manifest(identity).detailed(WalDetails)
        return details.closed_by


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(tmp_path, monkeypatch)


# What comes.


def test_what_was_written_comes_minute_by_minute(world: Followed) -> None:
    world.write()
    first = world.follow()
    (identity,) = world.spans
    assert (first.notes, first.bytes, first.closed, first.strange, first.problem) == (1, 1000, [], [], None)
    assert world.same(identity)
    assert world.follow().notes == 0
    world.write()
    world.write()
    again = world.follow()
    assert (again.notes, again.bytes) == (2, 2000), "what is here does not come again"
    assert world.same(identity)
    assert world.repo.growing("wal") == [identity]
    assert world.span(identity).notes == 3
    assert len(world.log) == 0, "a receipt is written when it closes"
    assert world.known.noted_at == world.now
    assert world.known.reached == world.now - MINUTE


def test_a_closed_span_is_a_backup_with_a_receipt(world: Followed) -> None:
    world.write()
    world.follow()
    world.write()
    identity = world.close()
    done = world.follow()
    assert done.closed == [identity]
    assert world.same(identity)
    assert world.repo.published("wal") == [identity]
    receipt = world.log.received[identity]
    assert receipt.digest == filesystem.sha256((world.there(identity) / "manifest.json").read_bytes())
    assert world.closed_by(identity) == "host"
    before = len(world.log)
    shutil.rmtree(world.there(identity))
    world.follow()
    assert len(world.log) == before, "what is closed is not looked at again"


def test_a_keeper_that_was_away_gets_it_all_in_order(world: Followed) -> None:
    for _ in range(3):
        world.write()
        world.write()
        world.close()
    world.write()
    done = world.follow()
    assert done.closed == world.spans[:3]
    assert (done.notes, done.strange) == (7, [])
    assert all(world.same(identity) for identity in world.spans)


def test_what_has_a_manifest_and_no_notes_is_fetched_by_that(world: Followed) -> None:
    world.write()
    identity = world.close()
    for note in world.there(identity).glob("note-*"):
        note.unlink()
    done = world.follow()
    assert (done.closed, done.notes, done.bytes) == ([identity], 0, 1000)
    assert world.same(identity)


def test_it_comes_by_sftp(world: Followed) -> None:
    world.write(300_000)
    world.write()
    argv = [sys.executable, str(Path(sftp_stub.__file__)), str(world.host), "plain"]
    with Sftp(argv, "the stack's host", "/", Budget(60)) as source:
        done = follow.follow(Opened(world.config), source, log=world.said.append)
    assert (done.notes, done.problem) == (2, None)
    assert world.same(world.spans[0])


def test_while_a_pull_runs_nothing_is_closed(world: Followed) -> None:
    world.write()
    identity = world.close()
    with lock.held("shop", "keeper pull", directory=world.kept):
        done = world.follow()
    assert (done.notes, done.closed) == (1, [])
    assert world.repo.growing("wal") == [identity]
    assert world.follow().closed == [identity]


def test_a_run_that_was_killed_goes_on(world: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    world.write()
    identity = world.close()
    real = LocalRepository.add

    def add(self: LocalRepository, component: str, id: str, name: str, data: bytes) -> None:
        if name == "manifest.json":
            raise Killed
        real(self, component, id, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalRepository, "add", add)
        with pytest.raises(Killed):
            world.follow()
    assert identity in world.log.received, "what has no receipt was never there, so that comes first"
    assert world.follow().closed == [identity]
    assert world.same(identity)


def test_what_is_followed_can_be_gone_back_to_where_the_host_is_lost(world: Followed) -> None:
    made = base(world, START, world.position)
    world.write()
    world.follow()
    world.now += HOUR
    world.pull()
    world.write()
    world.follow()
    shutil.rmtree(world.host)
    given = make_config(world.root, readback={"source": {"mounted": str(world.kept / "repository")}})
    (window,) = instants.known(Opened(given), sources.VAULT).catalogue.windows
    assert [one.id for one in window.bases] == [made]
    assert window.until.position == world.position, "the open hour is in it"


# What the host leaves open.


def test_a_span_that_the_host_leaves_open_is_closed_here(world: Followed) -> None:
    world.write()
    world.follow()
    first = world.spans[0]
    world.begin()
    world.write()
    done = world.follow()
    assert done.closed == [first]
    assert world.closed_by(first) == "keeper"
    assert spans.check(world.repo, world.manifest(first)).result == "PASS"
    assert world.log.received[first].digest == filesystem.sha256((world.here(first) / "manifest.json").read_bytes())
    assert world.repo.growing("wal") == [world.spans[1]], "the newest may go on"
    assert world.pull().strange == [], "a host that closes it later does no harm"


def test_a_span_that_is_taken_away_stays(world: Followed) -> None:
    world.write()
    world.follow()
    (identity,) = world.spans
    before = files(world.here(identity))
    shutil.rmtree(world.there(identity))
    assert world.follow().closed == [identity]
    assert before.items() <= files(world.here(identity)).items()


def test_what_no_note_names_goes(world: Followed) -> None:
    world.write()
    world.close()
    world.follow()
    lost = f"wal_backup_{stamp(START + 9 * MINUTE)}"
    world.repo.add("wal", lost, "0000000100000000000000A4.00000000.zst", b"x")
    world.follow()
    assert lost not in world.repo.ids("wal")


# What a hostile host sends.


def note_of(world: Followed, number: int) -> Path:
    return world.there(world.spans[0]) / notes.note_name(number)


def replayed(world: Followed) -> None:
    world.write()
    note_of(world, 3).write_bytes(note_of(world, 2).read_bytes())


def swapped(world: Followed) -> None:
    world.write()
    world.write()
    third, fourth = note_of(world, 3), note_of(world, 4)
    one, other = third.read_bytes(), fourth.read_bytes()
    third.write_bytes(other)
    fourth.write_bytes(one)


def withheld(world: Followed) -> None:
    world.write()
    world.write()
    note_of(world, 3).unlink()


def rewritten(world: Followed) -> None:
    data = json.loads(note_of(world, 2).read_bytes())
    data["reached"]["at"] = format_time(world.now)
    note_of(world, 2).write_text(json.dumps(data))


def removed(world: Followed) -> None:
    note_of(world, 2).unlink()


def forked(world: Followed) -> None:
    """A note of its own right, after another second one than the keeper has."""
    world.write()
    text = note_of(world, 3).read_text()
    note_of(world, 3).write_text(text.replace(json.loads(text)["previous"], "0" * 64))


def endless(world: Followed) -> None:
    note_of(world, 3).write_bytes(b" " * (notes.MOST_BYTES + 1))


def nested(world: Followed) -> None:
    note_of(world, 3).write_bytes(b"[" * notes.MOST_BYTES)


def of_another_stack(world: Followed) -> None:
    world.write()
    note_of(world, 3).write_text(note_of(world, 3).read_text().replace('"shop"', '"wiki"'))


def cut(world: Followed) -> None:
    piece = world.there(world.spans[0]) / world.write()
    piece.write_bytes(piece.read_bytes()[:-1])


def flipped(world: Followed) -> None:
    piece = world.there(world.spans[0]) / world.write()
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")


def longer(world: Followed) -> None:
    piece = world.there(world.spans[0]) / world.write()
    with piece.open("r+b") as file:
        file.truncate(1 << 40)


def linked(world: Followed) -> None:
    piece = world.there(world.spans[0]) / world.write()
    piece.unlink()
    piece.symlink_to("/etc/passwd")


def other_manifest(world: Followed) -> None:
    """The host says at the end that less was written than it said before."""
    identity = world.spans[0]
    chain = spans.read_notes(world.stack, identity, "shop")
    less = spans.of_notes(identity, chain[:1])
    (world.there(identity) / "manifest.json").write_bytes(spans.manifest_of(less, world.now).to_bytes())


def no_manifest(world: Followed) -> None:
    (world.there(world.spans[0]) / "manifest.json").write_bytes(b"{}")


HOSTILE: list[tuple[Callable[[Followed], None], str]] = [
    (replayed, "it is note 2 of"),
    (swapped, "it is note 4 of"),
    (withheld, "note-000003.json is withheld, and note-000004.json is there"),
    (rewritten, "the keeper has note-000002.json with other bytes"),
    (removed, "the keeper has note-000002.json, and it is gone there"),
    (forked, "note-000003.json does not follow the note that the keeper has before it"),
    (endless, "it has more than 1048576 bytes"),
    (nested, "a document of it has more values than a keeper reads"),
    (of_another_stack, "it is of the stack wiki"),
    (cut, "has 999 bytes instead of 1000"),
    (flipped, "are not those that its note names"),
    (longer, "has 1099511627776 bytes instead of 1000"),
    (linked, "is not a plain file"),
    (other_manifest, "1 notes were written, and 2 are there"),
    (no_manifest, "schema"),
]


@pytest.mark.parametrize(("spoil", "words"), HOSTILE, ids=[case[0].__name__ for case in HOSTILE])
def test_what_is_wrong_is_strange_and_what_came_before_stays(
    world: Followed, spoil: Callable[[Followed], None], words: str
) -> None:
    world.write()
    world.write()
    world.follow()
    (identity,) = world.spans
    before = files(world.here(identity))
    spoil(world)
    done = world.follow()
    (strange,) = done.strange
    assert strange.what == identity
    assert words in strange.why
    after = files(world.here(identity))
    assert {name: after[name] for name in before} == before
    assert world.closed_by(identity) == "keeper"
    assert world.span(identity).notes == 2
    assert len(world.span(identity).pieces) == 2
    assert world.kinds().count("strange") == 1


def test_what_is_strange_is_said_once_until_it_is_acknowledged(world: Followed) -> None:
    world.write()
    world.follow()
    flipped(world)
    world.follow()
    lines = len(world.log)
    for _ in range(3):
        world.now += MINUTE
        world.follow()
    assert len(world.log) == lines
    assert "strange" in world.kinds()
    status.acknowledge(Opened(world.config), "a disk", now=world.now)
    world.follow()
    assert "strange" not in world.kinds(), "it is followed no more"
    world.begin()
    world.write()
    assert world.follow().notes == 1, "and the next hour is"


def test_a_piece_that_is_withheld_is_waited_for_until_the_next_span(world: Followed) -> None:
    world.write()
    world.follow()
    (first,) = world.spans
    (world.there(first) / world.write()).unlink()
    done = world.follow()
    assert done.strange == []
    assert done.problem is not None
    assert "No such file" in str(done.problem)
    world.begin()
    world.write()
    done = world.follow()
    assert [item.what for item in done.strange] == [first]
    assert "it is withheld" in done.strange[0].why
    assert world.closed_by(first) == "keeper"
    assert world.span(first).notes == 1


def test_a_note_that_was_changed_while_its_pieces_came_is_strange(world: Followed) -> None:
    """Its pieces came, and it did not: then it names the same pieces with other bytes."""
    world.write()
    world.follow()
    (identity,) = world.spans
    name = world.write()
    text = note_of(world, 2).read_text()
    world.repo.add("wal", identity, name, (world.there(identity) / name).read_bytes())
    other = b"?" * 1000
    (world.there(identity) / name).chmod(0o600)
    (world.there(identity) / name).write_bytes(other)
    before = json.loads(text)["pieces"][0]["sha256"]
    note_of(world, 2).write_text(text.replace(before, filesystem.sha256(other)))
    done = world.follow()
    assert [(item.what, item.why) for item in done.strange] == [(identity, f"the keeper has {name} with other bytes")]
    assert spans.damaged(world.repo, world.span(identity)) == {}
    assert world.span(identity).notes == 1


def test_more_than_the_quota_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Followed(tmp_path, monkeypatch, quota="200K")
    for _ in range(20):
        world.write()
    done = world.follow()
    assert done.problem is not None
    assert "its quota of" in str(done.problem)
    assert receive.used(world.kept) <= 200 << 10
    assert 0 < done.notes < 20
    assert "its quota of" in world.known.failed


def test_a_thousand_spans_in_a_minute_do_not_come(world: Followed) -> None:
    world.write()
    world.follow()
    world.with_limits(per_day=1)
    world.config = dataclasses.replace(world.config, wal=WalSettings(enabled=True, window_days=1))
    for _ in range(5):
        world.begin()
        world.write()
    done = world.follow()
    assert any("more than 4 new spans" in item.what for item in done.strange)
    assert len(world.repo.ids("wal")) == 5


def test_names_without_end_end_it(world: Followed) -> None:
    world.write()
    world.with_limits(names=10)
    for number in range(11):
        (world.host / "wal" / f"x{number}").mkdir()
    done = world.follow()
    assert done.problem is not None
    assert "more than 10" in str(done.problem)
    assert world.repo.ids("wal") == []


def test_what_is_no_span_or_of_tomorrow_is_not_followed(world: Followed) -> None:
    world.write()
    tomorrow = f"wal_backup_{stamp(world.now + DAY)}"
    for name in ("db_backup_20260101_000000", "wal_backup_20261301_000000", "..x", tomorrow):
        (world.host / "wal" / name).mkdir()
    done = world.follow()
    assert [(item.what, item.why) for item in done.strange] == [(tomorrow, "it is dated after now")]
    assert world.repo.ids("wal") == world.spans
    assert world.follow().strange == []


def test_another_repository_is_not_followed(world: Followed) -> None:
    world.stack.identity()
    world.night(0)
    marker = world.host / "repository.json"
    marker.write_text(marker.read_text().replace(json.loads(marker.read_text())["repository"], "f" * 32))
    world.write()
    done = world.follow()
    assert done.problem is not None
    assert "another repository than at the last pull" in str(done.problem)
    assert world.repo.ids("wal") == []
    marker.write_text(marker.read_text().replace('"shop"', '"wiki"'))
    assert "its marker names the stack wiki" in str(world.follow().problem)


def test_root_who_spoils_everything_spoils_nothing_here(world: Followed) -> None:
    for _ in range(2):
        world.write()
        world.close()
        world.follow()
    world.write()
    world.follow()
    before = world.bytes()
    for path in (world.host / "wal").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"spoiled")
    done = world.follow()
    assert [item.what for item in done.strange] == [world.spans[2]]
    pulled = world.pull()
    assert {item.what for item in pulled.strange} == {*world.spans[:2]}, "the pull compares what is closed"
    after = world.bytes()
    assert {name: after[name] for name in before} == before
    assert [world.closed_by(identity) for identity in world.spans] == ["host", "host", "keeper"]
    assert world.prune().delete == ()


# The alarm.


def test_silence_is_an_alarm(world: Followed) -> None:
    world.follow()
    assert world.kinds().count("behind") == 1
    assert "no WAL came ever" in next(item.message for item in world.alarms() if item.kind == "behind")
    world.write()
    world.follow()
    world.now += timedelta(minutes=9)
    assert "behind" not in world.kinds()
    world.now += timedelta(seconds=1)
    assert "behind" in world.kinds()
    shutil.rmtree(world.host)
    assert world.follow().problem is not None
    (alarm,) = [item for item in world.alarms() if item.kind == "behind"]
    assert format_time(world.known.until or START) in alarm.message
    assert "; the last run: " in alarm.message
    world.config = dataclasses.replace(world.config, wal=WalSettings())
    assert "behind" not in world.kinds()


def test_notes_of_long_ago_are_no_proof_that_all_is_here(world: Followed) -> None:
    """They come now, as after a keeper was away; a host that stopped its sender could make such."""
    world.write()
    world.now += timedelta(minutes=20)
    world.follow()
    assert world.known.noted_at == world.now
    assert "behind" in world.kinds()
    (check,) = [one for one in status.status(Opened(world.config), now=world.now).checks if one.name == "last note"]
    assert check.result == "FAIL"
    world.write()
    world.follow()
    assert "behind" not in world.kinds()


def test_a_note_that_promises_the_future_is_strange(world: Followed) -> None:
    world.write()
    world.now += 30 * DAY
    world.write()
    world.now -= 30 * DAY
    done = world.follow()
    (item,) = done.strange
    assert (item.what, done.notes) == (world.spans[0], 1)
    assert "note-000002.json says what was committed until after now" in item.why
    assert world.known.reached is not None
    assert world.known.reached < world.now


def told(world: Followed) -> dict[str, float]:
    text = metrics.textfile(Opened(world.config), now=world.now)
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def test_status_and_metrics_say_when_the_last_note_came(world: Followed) -> None:
    name = 'lifeboat_keeper_last_note_timestamp_seconds{stack="shop"}'
    world.follow()
    assert told(world)[name] == 0
    world.write()
    world.follow()
    assert told(world)[name] == (world.now - MINUTE).timestamp(), "until then all is here"
    assert told(world)['lifeboat_keeper_alarm{stack="shop",kind="behind"}'] == 0
    checks = {check.name: check for check in status.status(Opened(world.config), now=world.now).checks}
    assert checks["last note"].result == "PASS"
    world.now += HOUR
    checks = {check.name: check for check in status.status(Opened(world.config), now=world.now).checks}
    assert (checks["last note"].result, checks["behind"].result) == ("FAIL", "FAIL")
    assert told(world)['lifeboat_keeper_alarm{stack="shop",kind="behind"}'] == 1
    world.config = dataclasses.replace(world.config, wal=WalSettings())
    assert name not in told(world)


# Bases, and how long all of it stays.


def base(world: Followed, at: datetime, start: int) -> str:
    identity = f"base_backup_{stamp(at)}"
    details = BaseDetails(SYSTEM, 170_012, 1, format_lsn(start), format_lsn(start + 100), segment_size=MIB)
    artefacts = (Artefact("base.tar.zst", 5, filesystem.sha256(b"files")),)
    with world.stack.stage("base", identity) as staging:
        (staging.path / "base.tar.zst").write_bytes(b"files")
        staging.publish(
            Manifest(identity, "base", "shop", at, at, artefacts, {"lifeboat": "1"}, plain(details)).to_bytes()
        )
    return identity


def test_a_pull_brings_the_bases(world: Followed) -> None:
    made = base(world, START, world.position)
    world.now += HOUR
    assert made in world.pull().received
    assert world.repo.published("base") == [made]
    world.config = dataclasses.replace(world.config, wal=WalSettings())
    other = base(world, START + HOUR, world.position)
    world.now += HOUR
    assert other not in world.pull().received


def test_wal_that_no_base_leads_to_is_an_alarm(world: Followed) -> None:
    """All notes come, and nothing can be made of them."""
    world.publish(world.now)
    world.write()
    world.follow()
    world.pull()
    assert [alarm.message for alarm in world.alarms()] == ["no backup of base was ever received"]
    checks = {check.name: check.result for check in status.status(Opened(world.config), now=world.now).checks}
    assert (checks["silent"], checks["last note"]) == ("FAIL", "PASS")
    base(world, world.now, world.position)
    world.now += MINUTE
    world.pull()
    assert world.kinds() == []
    shown = status.status(Opened(world.config), now=world.now)
    assert [entry["id"] for entry in shown.entries if str(entry["id"]).startswith("base_")]


def test_what_no_base_of_the_window_needs_goes(world: Followed) -> None:
    bases = []
    for day in range(20):
        world.now = START + day * DAY
        bases.append(base(world, world.now, world.position))
        world.publish(world.now)
        world.write()
        world.close()
        world.follow()
        world.pull()
        world.write()
        world.close()
        world.follow()
    assert world.kinds() == []
    doomed = prune._trail(Opened(world.config), world.log, {}, world.now).delete
    assert bases[0] in doomed
    oldest = bases[11]
    kept = [identity for identity in world.spans if identity not in doomed]
    assert next(name for name in bases if name not in doomed) == oldest
    assert kept[0][-15:] >= oldest[-15:]
    assert len(kept) == 18, "two a day since then"
    assert {*doomed} <= {*world.prune().delete}
    assert world.repo.published("base") == bases[11:]
    world.now += MINUTE
    world.follow()
    assert world.repo.published("wal") == kept, "what was pruned is not fetched again"


def test_without_a_base_that_is_old_enough_nothing_goes(world: Followed) -> None:
    for day in range(5):
        world.now = START + day * DAY
        base(world, world.now, world.position)
        world.write()
        world.close()
        world.follow()
        world.pull()
    assert prune._trail(Opened(world.config), world.log, {}, world.now).delete == []


# The command.


@pytest.fixture
def command(world: Followed, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    etc = world.root / "etc"
    etc.mkdir()
    given = settings(world.root, keeper=keeper_settings(world.root), wal={"enabled": True})
    (etc / "shop.json").write_text(json.dumps(given))
    monkeypatch.setattr(settings_config, "KEEPER_DIRECTORY", etc)
    monkeypatch.setattr(cli, "LOG_DIRECTORY", world.root / "log")
    return lambda *words: cli.main(["keeper", *words])


def test_the_command(world: Followed, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    world.write()
    assert command("follow", "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == 1
    flipped(world)
    assert command("follow") == 0
    assert "STRANGE" in capsys.readouterr().out
    with follow.locked(world.config):
        assert command("follow") != 0


def test_a_host_that_cannot_be_reached_is_remembered(
    world: Followed, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise LifeboatError("reach the stack's host", "shop", "connection refused")

    monkeypatch.setattr(receive, "reach", away)
    assert command("follow") == LifeboatError.exit_code
    assert world.known.failed == "connection refused"


def test_where_no_wal_is_received_nothing_is_followed(world: Followed, command: Callable[..., int]) -> None:
    given = settings(world.root, keeper=keeper_settings(world.root))
    (world.root / "etc" / "shop.json").write_text(json.dumps(given))
    assert command("follow") == UsageError.exit_code
