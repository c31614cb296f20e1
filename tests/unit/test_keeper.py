# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A keeper receives what a stack's host published, whole or not at all, and believes nothing else of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import prune, receipts, receive, status
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, points, retention
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.source import Directory, Parts, Source
from builders import make_manifest, prove, store
from keeper_world import DAY, PULLED, START, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def sealed(world: World) -> Manifest:
    """What the host publishes tonight, not pulled yet."""
    made = world.publish(START + DAY)
    world.now = START + DAY + PULLED
    return made


# --- what is right ---


def test_a_published_backup_is_received_whole_with_its_point(world: World) -> None:
    made, pulled = world.night(0)
    assert pulled.problem is None and pulled.strange == []
    assert pulled.received == [made.id, points.stamp(made.taken_at)]
    theirs = {path.name: path.read_bytes() for path in world.folder(made).iterdir()}
    ours = {path.name: path.read_bytes() for path in (world.kept / "repository/postgresql" / made.id).iterdir()}
    assert {name: data for name, data in ours.items() if name != "verification.json"} == theirs
    assert world.kinds() == []
    found = catalog.entry(world.repo, "database", made.id)
    assert found.good and found.proof["checksum"].verdict == PASS


def test_another_pull_receives_what_is_new_and_nothing_else(world: World) -> None:
    world.night(0)
    assert world.pull().received == []
    made, pulled = world.night(1)
    assert pulled.received == [made.id, points.stamp(made.taken_at)]
    assert [record.kind for record in world.log.pulls] == ["pulled"] * 3


def test_the_hosts_own_verifications_are_not_taken(world: World) -> None:
    made = world.publish(START)
    prove(world.root, made, at=START)
    assert catalog.entry(store(world.root), "database", made.id).proven_at, "the host says that it restored it"
    world.now = START + PULLED
    world.pull()
    found = catalog.entry(world.repo, "database", made.id)
    assert list(found.proof) == ["checksum"] and found.proven_at is None


def test_what_is_not_published_yet_is_no_alarm(world: World) -> None:
    made = sealed(world)
    (world.folder(made) / "manifest.json").unlink()
    pulled = world.pull()
    assert pulled.received == [] and pulled.strange == []
    assert pulled.waiting == [points.stamp(made.taken_at)], "its point waits"


def test_what_the_retention_removed_is_not_fetched_again(world: World) -> None:
    made, _pulled = world.night(0)
    seen = receipts.load(world.kept)
    seen.append(receipts.Record(0, world.now, "", "pruned", ids=(made.id,)), world.now)
    world.repo.delete("database", made.id)
    assert world.pull().received == []
    assert made.id not in world.repo.published("database")


def test_what_was_lost_here_is_fetched_again_and_keeps_its_receipt(world: World) -> None:
    made, _pulled = world.night(0)
    first = world.log.received[made.id]
    world.repo.delete("database", made.id)
    world.now += DAY
    assert world.pull().received == [made.id]
    assert world.log.received[made.id] == first


def test_what_an_operator_put_there_is_received_then(world: World) -> None:
    """The history of a vault from before there was a keeper."""
    made = world.publish(START)
    shutil.copytree(world.host / "postgresql", world.kept / "repository/postgresql")
    world.now = START + 40 * DAY
    world.publish(world.now - PULLED)
    assert made.id not in world.pull().received
    receipt = world.log.received[made.id]
    assert (receipt.at, receipt.late) == (world.now, "")
    assert made.id in world.prune().keep


# --- what a hostile host publishes ---

Break = Callable[[World, Manifest], None]


def rewritten(world: World, made: Manifest, **changes: Any) -> None:
    """The manifest once more, well sealed, saying something else."""
    (world.folder(made) / "manifest.json").write_bytes(dataclasses.replace(made, **changes).to_bytes())


def named(name: str, sha256: str = "") -> Callable[[World, Manifest], None]:
    def change(world: World, made: Manifest) -> None:
        extra = Artefact(name, 4, sha256 or hashlib.sha256(b"dump").hexdigest())
        rewritten(world, made, artefacts=(*made.artefacts, extra))

    return change


def artefact(change: Callable[[Path], object]) -> Break:
    return lambda world, made: [change(world.folder(made) / "database.dump"), None][1]  # type: ignore[return-value]


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("globals.sql.gz")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def many_files(world: World, made: Manifest) -> None:
    world.with_limits(files=2)


HOSTILE: dict[str, tuple[Break, str]] = {
    "other bytes": (artefact(lambda path: path.write_bytes(b"DUMP")), "not those that its manifest names"),
    "fewer bytes": (artefact(lambda path: path.write_bytes(b"du")), "has 2 bytes instead of 4"),
    "more bytes": (artefact(lambda path: path.write_bytes(b"dump" * 9)), "has 36 bytes instead of 4"),
    "a link": (artefact(link), "not a plain file"),
    "a pipe": (artefact(fifo), "not a plain file"),
    "another stack": (lambda world, made: rewritten(world, made, stack="bank"), "it is of the stack bank"),
    "a name above": (named("../../../etc/cron.d/x"), "not a plain relative path"),
    "an absolute name": (named("/etc/passwd"), "not a plain relative path"),
    "a name with a line break": (named("a\nb"), "not a plain relative path"),
    "the repository's own name": (named("verification.json"), "the repository's own"),
    "a name in it": (named("manifest.json/x"), "the repository's own"),
    "a partial name": (named(".partial-x"), "the repository's own"),
    "a long name": (named("x" * 300), "too long"),
    "deep nesting": (named("/".join("a" * 20)), "nested more than 8 levels"),
    "a file that is a folder": (named("database.dump/x"), "a file and a folder have one name"),
    "a file twice": (named("database.dump"), "names a file twice"),
    "no checksum": (named("more", "x" * 64), "no SHA-256"),
    "many files": (many_files, "more than 2"),
    "a huge backup": (lambda world, made: world.with_limits(backup="1B"), "more than 1 B"),
    "a huge manifest": (lambda world, made: world.with_limits(manifest_bytes=1024), "more than 1024 bytes"),
    "an edited manifest": (
        lambda world, made: [
            (world.folder(made) / "manifest.json").write_bytes(made.to_bytes().replace(b"shop", b"shqp")), None
        ][1],  # type: ignore[dict-item,return-value]
        "its seal does not match",
    ),
    "a day that does not exist": (
        lambda world, made: world.folder(made).rename(world.folder(made).with_name("db_backup_20269999_990000")),
        "a day that does not exist",
    ),
    "another component's": (
        lambda world, made: world.folder(made).rename(world.folder(made).with_name("config_backup_20260102_020000")),
        "not a backup of database",
    ),
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_hostile_is_not_received(world: World, hostile: str) -> None:
    before, _pulled = world.night(0)
    kept = world.bytes()
    made = sealed(world)
    change, said = HOSTILE[hostile]
    change(world, made)
    pulled = world.pull()
    assert made.id not in pulled.received
    assert said in "; ".join(item.why for item in pulled.strange)
    assert {name: world.bytes()[name] for name in kept} == kept, "what was there is as it was"
    assert world.repo.published("database") == [before.id]
    assert not list((world.kept / "incoming").iterdir())
    assert "strange" in world.kinds()
    assert world.prune().alarms, "and the retention stops"


def test_without_any_of_that_it_is_received(world: World) -> None:
    """The intact case of the table above."""
    world.night(0)
    made = sealed(world)
    assert made.id in world.pull().received


def test_an_id_that_the_keeper_has_is_never_written_again(world: World) -> None:
    made, _pulled = world.night(0)
    kept = world.bytes()
    (world.folder(made) / "database.dump").write_bytes(b"evil")
    evil = tuple(
        dataclasses.replace(item, sha256=hashlib.sha256(b"evil").hexdigest()) if item.name == "database.dump" else item
        for item in made.artefacts
    )
    rewritten(world, made, artefacts=evil)
    world.now += DAY
    pulled = world.pull()
    assert [item.what for item in pulled.strange] == [made.id]
    assert "other bytes" in pulled.strange[0].why
    assert world.bytes() == kept
    aside = list((world.kept / "quarantine").iterdir())
    assert [path.read_bytes() for path in aside] == [(world.folder(made) / "manifest.json").read_bytes()]
    world.pull()
    assert len(list((world.kept / "quarantine").iterdir())) == 1, "the same once"


def test_a_point_that_the_keeper_has_is_never_written_again(world: World) -> None:
    made, _pulled = world.night(0)
    kept = world.bytes()
    path = world.host / "recovery-points" / f"{points.stamp(made.taken_at)}.json"
    path.write_bytes(path.read_bytes().replace(b"snapshot", b"eventual"))
    assert "other bytes" in world.pull().strange[0].why
    assert world.bytes() == kept


@pytest.mark.parametrize("years", [-10, 70])
def test_an_id_of_another_time_takes_no_place(world: World, years: int) -> None:
    world.night(0)
    odd = world.publish(START.replace(year=START.year + years))
    _made, pulled = world.night(1)
    assert {item.what for item in pulled.strange} == {odd.id, points.stamp(odd.taken_at)}
    assert world.log.received[odd.id].late
    assert "strange" in world.kinds()
    status.acknowledge(Opened(world.config), "looked at", now=world.now)
    assert world.kinds() == []
    world.night(33)
    backups = points.backups(world.repo, "shop")
    tied = points.entries(world.repo, "shop", backups)
    decided = prune.plan(world.log, backups, tied, retention.policy(world.config), world.now, {})
    assert set(decided.delete) == {odd.id, points.stamp(odd.taken_at)}, "it goes after 30 days, and displaces nothing"


def test_at_the_first_pull_the_past_is_taken_as_it_is(world: World) -> None:
    for days in (40, 20, 0):
        world.publish(START - days * DAY)
    world.now = START + PULLED
    assert len(world.pull().received) == 6
    assert world.kinds() == []


def test_names_that_are_too_many_end_the_pull(world: World) -> None:
    world.night(0)
    world.with_limits(names=50)
    for number in range(60):
        (world.host / "postgresql" / f"junk{number}").mkdir()
    world.now += DAY
    pulled = world.pull()
    assert isinstance(pulled.problem, IntegrityError) and "more than 50 names" in str(pulled.problem)
    assert "stopped" in world.kinds()


def test_more_new_backups_than_the_rate_are_not_fetched(world: World) -> None:
    world.night(0)
    world.with_limits(per_day=3)
    for minute in range(10):
        world.publish(START + DAY + timedelta(minutes=minute))
    world.now = START + DAY
    pulled = world.pull()
    assert len([name for name in pulled.received if name.startswith("db_")]) == 3
    assert "not fetched" in "; ".join(item.why for item in pulled.strange)


def test_another_stacks_repository_is_not_pulled(world: World) -> None:
    world.night(0)
    marker = (
        json.loads((world.host / "repository.json").read_text()) if (world.host / "repository.json").exists() else {}
    )
    marker = {"schema": "lifeboat.dr/repository", "version": [1, 0], "stack": "bank", "repository": "aa", **marker}
    (world.host / "repository.json").write_text(json.dumps({**marker, "stack": "bank"}))
    sealed(world)
    pulled = world.pull()
    assert pulled.received == [] and "names the stack bank" in str(pulled.problem)
    (world.host / "repository.json").write_text(json.dumps({**marker, "stack": "shop", "repository": "other"}))
    if world.log.pulls[0].repository:
        assert "another repository" in world.pull().strange[0].why


# --- time, space, resume ---


class Cut(Directory):
    """The connection is lost after so many bytes."""

    def __init__(self, source: Source, most: int) -> None:
        super().__init__(source.root, source.budget)  # type: ignore[attr-defined]
        self.most, self.read_bytes = most, 0

    def chunks(self, parts: Parts, offset: int, size: int) -> Iterator[bytes]:
        for data in super().chunks(parts, offset, size):
            for at in range(0, len(data), 1000):
                if parts[-1] != "manifest.json":
                    self.read_bytes += len(data[at : at + 1000])
                    if self.read_bytes > self.most:
                        raise LifeboatError("reach the stack's host", "test", "the connection was closed")
                yield data[at : at + 1000]


def big(world: World, taken_at: Any, size: int = 100_000) -> Manifest:
    data = os.urandom(size)
    artefacts = (Artefact("database.dump", size, hashlib.sha256(data).hexdigest()),)
    made = make_manifest(taken_at, artefacts=artefacts)
    with store(world.root).stage("database", made.id) as staging:
        (staging.path / "database.dump").write_bytes(data)
        staging.publish(made.to_bytes())
    return made


def test_the_next_pull_goes_on_where_one_was_cut(world: World) -> None:
    made = big(world, START)
    world.now = START + PULLED
    pulled = world.pull(lambda source: Cut(source, 60_000))
    assert pulled.problem and pulled.received == []
    assert world.kinds()[:1] == ["stopped"]
    again = world.pull()
    assert again.received == [made.id] and again.bytes <= 41_000
    assert world.kinds() == []


def test_what_an_earlier_pull_brought_is_hashed_again(world: World) -> None:
    made = big(world, START)
    world.now = START + PULLED
    world.pull(lambda source: Cut(source, 60_000))
    part = world.kept / "incoming" / made.id / "database.dump"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    assert "not those that its manifest names" in world.pull().strange[0].why
    assert world.pull().received == [made.id], "from the beginning"


def test_a_full_quota_stops_this_stack_and_its_prune(world: World) -> None:
    world.night(0)
    world.with_keeper(quota="150K")
    big(world, START + DAY, 200_000)
    world.now = START + DAY + PULLED
    world.with_limits(backup="1G")
    pulled = world.pull()
    assert isinstance(pulled.problem, SpaceError) and "quota" in str(pulled.problem)
    assert world.kinds() == ["full"]
    assert world.prune().alarms


class Slow(Directory):
    """A byte at a time."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.root, source.budget)  # type: ignore[attr-defined]

    def chunks(self, parts: Parts, offset: int, size: int) -> Iterator[bytes]:
        for data in super().chunks(parts, offset, size):
            for at in range(len(data)):
                time.sleep(0.01)
                self.budget.take(1)
                yield data[at : at + 1]


def test_slow_bytes_end_with_the_time(world: World) -> None:
    big(world, START)
    world.now = START + PULLED
    world.with_keeper(timeout=1)
    begun = time.monotonic()
    pulled = world.pull(Slow)
    assert pulled.problem and "did not end in 1 s" in str(pulled.problem)
    assert time.monotonic() - begun < 30


def test_an_endless_file_is_read_to_the_size_that_its_manifest_names(world: World) -> None:
    made = sealed(world)

    class Endless(Directory):
        asked = 0

        def size(self, parts: Parts) -> int:
            return 4 if parts[-1] == "database.dump" else super().size(parts)

        def chunks(self, parts: Parts, offset: int, size: int) -> Iterator[bytes]:
            if parts[-1] == "database.dump":
                Endless.asked += size
                yield b"\0" * size
            else:
                yield from super().chunks(parts, offset, size)

    (world.folder(made) / "database.dump").write_bytes(b"")
    pulled = world.pull(lambda source: Endless(world.host, source.budget))
    assert "not those" in pulled.strange[0].why
    assert Endless.asked == 4


# --- alarms ---


def test_a_stack_that_stops_publishing_is_an_alarm(world: World) -> None:
    world.night(0)
    world.now += timedelta(hours=29)
    world.pull()
    assert world.kinds() == []
    world.now += timedelta(hours=2)
    world.pull()
    assert world.kinds() == ["silent"]
    assert "31 h" in world.alarms()[0].message


def test_a_stack_that_removes_its_backups_is_an_alarm(world: World) -> None:
    for number in range(4):
        world.night(number)
    kept = world.bytes()
    world.forget_host()
    world.night(4)
    assert set(world.kinds()) == {"fewer"}
    assert kept.items() <= world.bytes().items()
    status.acknowledge(Opened(world.config), "a new host", now=world.now)
    assert world.kinds() == []
    world.night(5)
    assert world.kinds() == []


def test_a_stack_that_shrinks_is_an_alarm_whatever_it_accepts(world: World) -> None:
    fingerprint = {"level": "content", "tables": 2, "rows": 500, "large_objects": 0, "objects": 3}
    world.night(0)
    world.night(1, details={"fingerprint": {**fingerprint, "rows": 3}, "accepted": True})
    assert world.kinds() == ["shrunk"]
    status.acknowledge(Opened(world.config), "they archived last year", now=world.now)
    world.night(2, details={"fingerprint": {**fingerprint, "rows": 3}})
    assert world.kinds() == []


def test_a_gap_in_the_log_is_an_alarm_until_somebody_looks(world: World) -> None:
    """The keeper was off, or its clock jumped ahead and made everything old."""
    world.night(0)
    world.night(400)
    assert "clock" in world.kinds()
    assert world.prune().alarms
    status.acknowledge(Opened(world.config), "it was off", now=world.now)
    assert world.kinds() == []


def test_a_clock_that_went_back_is_refused_until_somebody_looks(world: World) -> None:
    world.night(400)
    world.now = START + DAY
    with pytest.raises(UsageError, match="the log's last line"):
        world.pull()
    with pytest.raises(UsageError, match="the log's last line"):
        world.prune()
    status.acknowledge(Opened(world.config), "the clock was wrong", now=world.now)
    world.pull()
    assert receipts.load(world.kept).last


# --- status ---


def test_status_says_what_is_known_and_what_is_not(world: World) -> None:
    world.night(0)
    found = status.status(Opened(world.config), now=world.now)
    assert found.verdict == PASS
    assert [item["late"] for item in found.entries] == ["", ""]
    assert "COULD_NOT_VERIFY archive, restore" in "\n".join(found.lines())
    world.now += timedelta(days=3)
    said = {check.name: check.result for check in status.status(Opened(world.config), now=world.now).checks}
    assert said["last pull"] == said["silent"] == "FAIL"


def test_status_reports_a_changed_log(world: World) -> None:
    world.night(0)
    path = world.kept / receipts.NAME
    path.write_bytes(path.read_bytes().replace(b"2026", b"2025", 1))
    (check,) = status.status(Opened(world.config), now=world.now).checks
    assert check.result == "FAIL" and "line 1: before is not" in check.detail


def test_another_repository_is_refused_until_an_operator_acknowledges_it(world: World) -> None:
    """The stack's backup disk is not mounted, and something began a new repository below its mount point."""

    def mark(identity: str) -> None:
        body = {"schema": "lifeboat.dr/repository", "version": [1, 0], "stack": "shop", "repository": identity}
        (world.host / "repository.json").write_text(json.dumps(body))

    mark("a" * 32)
    world.night(0)
    world.pull()
    assert world.log.repository == "a" * 32
    for other in ("b" * 32, ""):
        mark(other) if other else (world.host / "repository.json").unlink()
        world.now += timedelta(minutes=1)
        new = world.publish(world.now)
        refused = world.pull()
        assert refused.received == [] and "another repository" in str(refused.problem), other
        assert {item.kind for item in world.alarms()} >= {"stopped", "strange"}
    mark("b" * 32)
    world.now += timedelta(minutes=1)
    status.acknowledge(Opened(world.config), "a new disk", now=world.now)
    pulled = world.pull()
    assert pulled.problem is None and new.id in pulled.received
    assert world.log.repository == "b" * 32
    mark("a" * 32)
    assert world.pull().problem, "what was acknowledged was the other one"


# --- what is told at once, and for how long ---


def test_fewer_stays_until_it_is_acknowledged_or_comes_back(world: World) -> None:
    """Not for seven pulls: they are a week, or an hour of an operator who tries it."""
    for number in range(4):
        world.night(number)
    away = world.root / "away"
    shutil.move(world.host / "postgresql", away)
    for number in range(4, 14):
        world.night(number)
        if number == 4:
            assert "fewer" in world.kinds()
    assert "fewer" not in world.kinds(), "as many as before are there again"
    for backup in sorted((world.host / "postgresql").iterdir())[:-1]:
        shutil.move(backup, away / backup.name)
    for _again in range(12):
        world.now += timedelta(minutes=10)
        world.pull()
        assert "fewer" in world.kinds()
    for backup in away.iterdir():
        shutil.move(backup, world.host / "postgresql" / backup.name)
    world.now += timedelta(minutes=10)
    world.pull()
    assert "fewer" not in world.kinds(), "what was missing has come"


def test_the_newest_strange_thing_is_told(world: World) -> None:
    world.night(0)
    for number in range(1, 6):
        world.publish(START.replace(year=START.year - 20 + number))
        world.night(number)
    (told,) = [alarm.message for alarm in world.alarms() if alarm.kind == "strange"]
    assert str(START.year - 15) in told and str(START.year - 19) not in told


def test_a_planted_date_of_2099_ends_with_the_acknowledgement(world: World) -> None:
    world.night(0)
    world.publish(START.replace(year=2099))
    world.night(1)
    assert status.status(Opened(world.config), now=world.now).verdict == FAIL
    status.acknowledge(Opened(world.config), "planted by who broke in; looked at", now=world.now)
    found = status.status(Opened(world.config), now=world.now)
    assert [check.as_dict() for check in found.checks if check.result != PASS] == []
    assert "2099" in "\n".join(found.lines()), "it is still listed"
    world.night(2)
    assert status.status(Opened(world.config), now=world.now).verdict == PASS


def test_what_is_damaged_and_dated_ahead_is_not_excused(world: World) -> None:
    world.night(0)
    planted = world.publish(START.replace(year=2099))
    world.night(1)
    status.acknowledge(Opened(world.config), "looked at", now=world.now)
    (world.kept / "repository" / "postgresql" / planted.id / "globals.sql.gz").unlink()
    (check,) = [c for c in status.status(Opened(world.config), now=world.now).checks if c.name == "checksums"]
    assert check.result == FAIL


def test_a_pull_that_was_killed_is_an_alarm_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.night(0)
    world.publish(START + DAY)
    world.now = START + DAY + PULLED

    class Killed(BaseException):
        """As SIGKILL: nothing of the process runs any more."""

    def die(*_arguments: Any, **_more: Any) -> None:
        raise Killed

    run = Opened(world.config)
    with (
        monkeypatch.context() as patch,
        pytest.raises(Killed),
        lock.held("shop", "keeper pull", directory=world.kept),
        receive.reach(world.config.keeper) as source,
    ):
        patch.setattr(receive._Pull, "run", die)
        try:
            receive.pull(run, source, log=len)
        finally:
            assert "stopped" not in said(world), "as long as it runs it is none"
    assert "was killed" in said(world)["stopped"]
    assert world.prune().alarms, "and nothing is deleted"
    world.pull()
    assert "stopped" not in said(world)


def said(world: World) -> dict[str, str]:
    found = status.status(Opened(world.config), now=world.now)
    return {check.name: check.detail for check in found.checks if check.result == FAIL}


def test_a_million_values_in_a_manifest_are_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.night(0)
    made = world.publish(START + DAY)
    monkeypatch.setattr(receive, "_NODES", 5)
    world.now = START + DAY + PULLED
    assert "it has more than 5 values" in [item.why for item in world.pull().strange]
    assert made.id not in world.log.received


def test_a_keeper_holds_no_list_of_artefacts(world: World) -> None:
    """Of many manifests, each with its hundred thousand files, they would take the memory of all other stacks."""
    made, _pulled = world.night(0)
    found = points.backups(world.repo, "shop", receive.received(world.config))
    (entry,) = found["database"]
    assert entry.manifest is not None and entry.good
    assert (entry.manifest.artefacts, entry.manifest.size, entry.manifest.seal) == ((), made.size, made.seal)
    (point,) = points.entries(world.repo, "shop", found)
    assert point.good
    with pytest.raises(NotImplementedError):
        _ = entry.manifest.encrypted


def test_an_empty_file_takes_an_inode_of_the_quota(world: World) -> None:
    many = tuple(Artefact(f"{number // 10}/{number}", 0, "0" * 64) for number in range(100))
    made = dataclasses.replace(world.publish(START), artefacts=many)
    assert receive.cost_of(made) == (100 + 10 + 2) * (16 << 10)
    said = receive.refusal(made, "shop", world.config.keeper.limits, 1 << 20)
    assert said == "with its 100 files it takes 1.8 MB, more than 1.0 MB"
    assert [receive.cost(size) for size in (0, 1, 16 << 10, (16 << 10) + 1)] == [16384, 16384, 16384, 20480]


def test_what_was_put_aside_counts_and_ends_with_the_quota(world: World) -> None:
    made, _pulled = world.night(0)
    (world.folder(made) / "manifest.json").write_bytes(b"{}")
    world.with_keeper(quota="10K")
    world.now = START + DAY + PULLED
    world.pull()
    assert not list((world.kept / "quarantine").iterdir())
    world.with_keeper(quota="1G")
    world.now += DAY
    world.pull()
    assert len(list((world.kept / "quarantine").iterdir())) == 1


def test_names_without_a_backup_do_not_count(world: World) -> None:
    for number in range(6):
        made, pulled = world.night(number)
    assert pulled.listed["database"] == 6
    for number in range(5):
        folder = world.host / "postgresql" / f"db_backup_{START + number * DAY:%Y%m%d_%H%M%S}"
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name[:-1]}1").mkdir()
    world.now += DAY
    assert world.pull().listed["database"] == 1
    assert "fewer" in world.kinds()
    assert made.id in world.log.received


@pytest.mark.parametrize(("late", "spoiled"), [(False, ("odd",)), (True, ())])
def test_a_backup_that_is_good_for_others_only_stands_for_these_alone(late: bool, spoiled: tuple[str, ...]) -> None:
    """One that came too late counts for nobody."""
    item = retention.Backup("db_backup_20261130_020000", START, good=True, spoiled=("odd",))
    log = SimpleNamespace(received={item.id: SimpleNamespace(at=START, late=late)})
    (found,) = prune._by_receipt([item], log, {}, START)  # type: ignore[arg-type]
    assert (found.good, found.spoiled) == (not late, spoiled)


def test_a_keeper_keeps_the_newest_that_is_good_for_each_database() -> None:
    """The newer ones do not stand for `odd`, so that the older one stays past every rule."""
    rules = retention.Policy(daily_days=1, weekly_months=0, monthly_months=0)
    items = [
        retention.Backup(f"db_backup_{day}", START + day * DAY, good=True, spoiled=("odd",) if day else ())
        for day in range(90)
    ]
    log = SimpleNamespace(received={item.id: SimpleNamespace(at=item.taken_at, late=False) for item in items})
    now = START + 90 * DAY
    decided = retention.plan_all([], [prune._by_receipt(items, log, {}, now)], rules, now)  # type: ignore[arg-type]
    assert items[0].id in decided.keep, decided.keep
    assert items[-1].id in decided.keep
    assert items[1].id in decided.delete
