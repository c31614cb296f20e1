# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that stands at an instant: what it is told, when it is there, and every reason for which it is not.

What the server says is what 17.12 said when this was tried with it. tests/integration/test_standing.py has a real one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import fake_age
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, filesystem, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.database import scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import standing
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.standing import Standing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import images
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.catalogue import Base, Route, Run, Window
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import (
    At,
    Instant,
    Latest,
    Mark,
    Position,
    Transaction,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from builders import make_config

SYSTEM, MIB = "7412345678901234567", 1 << 20
AT = datetime(2026, 12, 2, 4, 10, 56, 167160, timezone.utc)
UNTIL = Reached(SYSTEM, 1, "0/1088118", AT + timedelta(hours=1))
DETAILS = BaseDetails(
    SYSTEM, 170_012, 1, "0/900028", "0/900120", image="postgres:17", architecture="x86_64",
    collversion={"shop": "2.36"}, segment_size=MIB, superuser="ops", preload=("auto_explain",),
    settings={"max_connections": 100, "max_worker_processes": 8},
)  # fmt: skip
STOPPED = "00000 LOG:  recovery stopping before commit of transaction 741, time 2026-12-02 04:10:56.16716+00\n"


def route(instant: Instant) -> Route:
    base = Base("base_backup_20261202_041000", SYSTEM, 170_012, 1, 0x900028, 0x900120, AT - timedelta(hours=1), MIB)
    window = Window(Run(SYSTEM, 1, 0x900000, 0x1088118, base.at, UNTIL), (base,), (), base.at)
    return Route(instant, base, 1, window)


class Feeder:
    command = 'sh /backup/restore.sh %f "%p"'

    def __init__(self) -> None:
        self.error: Optional[LifeboatError] = None
        self.repeated, self.handed = 0, 3

    def forget(self) -> None:
        self.repeated = 0


class Source:
    """ends: whether the archive says that the WAL ends where the server stopped."""

    ends = True

    def ends_at(self, timeline: int, position: int, until: int, size: int) -> bool:
        return self.ends


class World:
    """states: what the server answers in turn, the last one for ever; None: it does not answer."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.feeder, self.source, self.states = Feeder(), Source(), list[Optional[dict[str, Any]]]()
        self.steps, self.sql, self.log, self.runs = list[str](), list[str](), "", True
        self.start_fails = False
        self.sorting = {"shop": "2.36"}
        root.joinpath("exchange").mkdir()
        monkeypatch.setattr(scratch, "account", lambda name: "postgres")
        monkeypatch.setattr(scratch, "step", lambda name, what, argv, user: self.steps.append(" ".join(argv)))
        monkeypatch.setattr(scratch, "start", self.start)
        monkeypatch.setattr(scratch, "forget", lambda name: None)
        monkeypatch.setattr(scratch, "logged", lambda name: self.log)
        monkeypatch.setattr(scratch, "ended", lambda name: "")
        monkeypatch.setattr(pipeline, "probe", lambda command, **_: (0 if self.runs else 3, "", ""))
        monkeypatch.setattr(clock, "pause", lambda since: None)
        monkeypatch.setattr(standing, "_QUIET", -1.0)
        run = Opened(make_config(root))
        self.room = Standing(
            run, self.source, route(Latest()), self.feeder, "scratch", DETAILS, root / "exchange",  # type: ignore[arg-type]
            lambda text: None,
        )  # fmt: skip
        monkeypatch.setattr(self.room.server, "execute", self.execute)
        self.conf = root / "exchange" / "postgresql.conf"

    def start(self, name: str, user: str, data: str, options: object) -> None:
        self.steps.append("start")
        if self.start_fails:
            raise UnverifiedError("start it", name, "pg_ctl: could not start server")

    def execute(self, sql: str, **_: Any) -> list[object]:
        self.sql.append(sql)
        if "datname" in sql:
            return [{"versions": self.sorting}]
        if "pg_is_in_recovery" not in sql:
            return []
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise LifeboatError("ask", "template1", "the database system is starting up")
        return [state]

    def go(self, instant: Instant, *states: Optional[dict[str, Any]]) -> standing.Reached:
        self.states = list(states)
        return self.room.go(route(instant))

    def fails(self, kind: type[LifeboatError], instant: Instant, *states: Optional[dict[str, Any]]) -> LifeboatError:
        with pytest.raises(kind) as error:
            self.go(instant, *states)
        assert not any("pg_promote" in sql for sql in self.sql), "whatever happens, nothing is promoted"
        return error.value


def state(lsn: str = "0/A0C3D0", paused: str = "not paused", recovering: bool = True) -> dict[str, Any]:
    return {
        "recovering": recovering, "paused": paused, "timeline": 1, "lsn": lsn, "at": "2026-12-02T04:10:51.529882+00:00",
    }  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("instant", "setting"),
    [
        (At(AT), "recovery_target_time = '2026-12-02 04:10:56.167160+00'"),
        (Position(0xA0C3D0), "recovery_target_lsn = '0/A0C3D0'"),
        (Transaction(741), "recovery_target_xid = '741'"),
        (Mark("before 'it'"), "recovery_target_name = 'before ''it'''"),
        (Latest(), ""),
    ],
)
def test_what_the_server_is_told(world: World, instant: Instant, setting: str) -> None:
    world.log = STOPPED
    world.go(instant, state(paused="paused"))
    rows = world.conf.read_text().splitlines()
    assert [row for row in rows if row.startswith("recovery_target_") and row.split()[0] not in (
        "recovery_target_inclusive", "recovery_target_action", "recovery_target_timeline",
    )] == ([setting] if setting else [])  # fmt: skip
    for row in (
        "recovery_target_inclusive = 'off'", "recovery_target_action = 'pause'", "recovery_target_timeline = '1'",
        "archive_mode = 'off'", "primary_conninfo = ''", "hot_standby = 'on'", "listen_addresses = ''",
        "restore_command = 'sh /backup/restore.sh %f \"%p\"'", "max_connections = '100'",
        "shared_preload_libraries = 'auto_explain'", "log_min_messages = 'warning'",
    ):  # fmt: skip
        assert row in rows
    assert len({row.split()[0] for row in rows}) == len(rows), "no setting is there twice"
    copied = next(step for step in world.steps if step.startswith("cp "))
    assert "/backup/standby.signal " in copied, "a standby waits where WAL is missing; it does not open"
    assert world.steps.index(copied) < world.steps.index("start")
    assert not any("recovery.signal" in step for step in world.steps)


@pytest.mark.parametrize(
    ("version", "libraries", "there"),
    [
        (170_012, (), ["event_triggers = 'off'"]),
        (160_001, ("auto_explain",), []),
        (160_001, ("pg_cron", "timescaledb"), [
            "cron.launch_active_jobs = 'off'", "timescaledb.max_background_workers = '0'",
        ]),
    ],
)  # fmt: skip
def test_nothing_writes_into_it_by_itself(
    world: World, version: int, libraries: tuple[str, ...], there: list[str]
) -> None:
    world.room.details = replace(DETAILS, server_version_num=version, preload=libraries)
    world.log = STOPPED
    world.go(At(AT), state(paused="paused"))
    quiet = ("event_triggers", "cron.", "timescaledb.")
    assert [row for row in world.conf.read_text().splitlines() if row.startswith(quiet)] == there


def test_it_stands_where_it_was_stopped(world: World) -> None:
    world.log = f"00000 LOG:  starting\n{STOPPED}"
    reached = world.go(At(AT), None, state("0/900120"), state(paused="pause requested"), state(paused="paused"))
    assert (reached.lsn, reached.files) == ("0/A0C3D0", 3)
    assert reached.why == "recovery stopping before commit of transaction 741, time 2026-12-02 04:10:56.16716+00"
    assert reached.as_dict()["last_commit"] == "2026-12-02T04:10:51.529Z"


@pytest.mark.parametrize("instant", [Latest(), At(AT + timedelta(minutes=30)), Position(0x1088118)], ids=str)
def test_the_end_of_the_wal_is_an_instant_where_nothing_follows_it(world: World, instant: Instant) -> None:
    world.feeder.forget = lambda: setattr(world.feeder, "repeated", 9)  # type: ignore[method-assign]
    reached = world.go(instant, state("0/1088118"))
    assert reached.why == ""
    assert any("pg_wal_replay_pause" in sql for sql in world.sql), "it stands still from then on"


def at_the_end(world: World, *, ends: bool = True, repeated: int = 9) -> None:
    world.feeder.forget = lambda: setattr(world.feeder, "repeated", repeated)  # type: ignore[method-assign]
    world.source.ends = ends


@pytest.mark.parametrize("instant", [Transaction(999), Mark("nosuch")], ids=str)
def test_what_the_wal_does_not_have_is_not_reached(world: World, instant: Instant) -> None:
    at_the_end(world)
    error = world.fails(NotFoundError, instant, state("0/1088118"))
    assert error.cause == "it is not in the WAL from 0/900028 to 0/1088118"


def test_the_end_of_what_was_received_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asks again for a file that is not there, and has all that was received: nothing more can come."""
    monkeypatch.setattr(standing, "_QUIET", 1e9)
    at_the_end(world, repeated=1)
    assert world.go(Latest(), state("0/1088118")).lsn == "0/1088118"
    monkeypatch.setattr(standing, "_SILENCE", -1.0)
    assert "not gone on from 0/1088110" in world.fails(UnverifiedError, Latest(), state("0/1088110")).cause
    at_the_end(world, repeated=0)
    assert "not gone on from 0/1088118" in world.fails(UnverifiedError, Latest(), state("0/1088118")).cause


def test_wal_that_cannot_be_read_is_not_its_end(world: World) -> None:
    at_the_end(world, ends=False)
    error = world.fails(IntegrityError, Latest(), state("0/A00000"))
    assert error.cause == "the WAL cannot be read at 0/A00000, and it was received until 0/1088118"
    assert "before=0/A00000" in error.remedy


def test_an_archive_that_cannot_be_reached_ends_it_with_its_reason(world: World) -> None:
    world.feeder.error = IntegrityError("read the WAL", "wal_backup_1/x", "it is damaged")
    for states in ([state()], [None]):
        assert world.fails(IntegrityError, Latest(), *states) is world.feeder.error
    world.start_fails = True
    assert world.fails(IntegrityError, Latest(), None) is world.feeder.error


def test_a_server_that_ended_says_why(world: World) -> None:
    world.runs = False
    world.log = (
        "57P03 FATAL:  the database system is starting up\n"
        "F0000 FATAL:  recovery aborted because of insufficient parameter settings\n"
        "57P03 FATAL:  the database system is starting up\n"
    )
    error = world.fails(UnverifiedError, Latest(), None)
    assert error.cause == "recovery aborted because of insufficient parameter settings"
    world.log, world.start_fails = "", True
    assert "its log does not say why" in world.fails(UnverifiedError, Latest(), None).cause


def test_a_setting_that_was_raised_is_named(world: World) -> None:
    """The server pauses for it and says so in a warning alone."""
    world.log = (
        "22023 WARNING:  hot standby is not possible because of insufficient parameter settings\n"
        "22023 DETAIL:  max_connections = 100 is a lower setting than on the primary server, where its value was 200.\n"
    )
    error = world.fails(UnverifiedError, At(AT), state(paused="paused"))
    assert error.cause == "the server raised max_connections to 200 after the base was taken"
    world.log = ""
    assert "its log does not say why" in world.fails(UnverifiedError, At(AT), state(paused="paused")).cause


def test_it_is_given_up_where_nothing_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "_SILENCE", -1.0)
    assert "it has not gone on from 0/A0C3D0" in world.fails(UnverifiedError, At(AT), state()).cause
    assert "it has not gone on from its beginning" in world.fails(UnverifiedError, At(AT), None).cause


def test_it_moves_on_and_never_back(world: World) -> None:
    world.log = STOPPED
    world.go(At(AT), state(paused="paused"))
    world.steps.clear()
    world.room.move(route(Position(0xA12350)))
    assert world.steps[0].startswith("pg_ctl -D /lifeboat/data -w")
    assert "recovery_target_lsn = '0/A12350'" in world.conf.read_text()
    assert "recovery_target_time =" not in world.conf.read_text()
    world.steps.clear()
    for instant in (At(AT - timedelta(minutes=1)), Position(0x900200)):
        with pytest.raises(UsageError, match="the server is behind it already"):
            world.room.move(route(instant))
    other = route(Latest())
    with pytest.raises(UsageError, match="another base or timeline"):
        world.room.move(Route(other.instant, other.base, 2, other.window))
    assert world.steps == [], "it was not stopped for that"


def test_it_is_promoted_when_somebody_says_so(world: World) -> None:
    world.states = [state(recovering=False, paused="")]
    world.room.promote()
    assert "pg_promote" in world.sql[0]
    world.states = [state()]
    with pytest.raises(UnverifiedError, match="still in recovery"):
        world.room.promote()


@pytest.mark.parametrize("instant", [At(AT + timedelta(minutes=30)), Position(0x1088118)], ids=str)
def test_it_is_promoted_where_the_wal_ended_before_its_target(world: World, instant: Instant) -> None:
    """With the target still set PostgreSQL ends: `recovery ended before configured recovery target was reached`."""
    at_the_end(world)
    reached = world.go(instant, state("0/1088118"))
    world.steps.clear()
    world.states = [state("0/1088118"), state("0/1088118"), state(recovering=False, paused="")]
    world.room.promote()
    assert [step.split()[0] for step in world.steps if "start" in step or "pg_ctl" in step] == ["pg_ctl", "start"]
    assert not re.search(r"^recovery_target_(time|lsn) =", world.conf.read_text(), re.MULTILINE)
    assert (world.room.reached, world.room.route.instant) == (reached, instant), "it stands where it stood"
    world.go(instant, state("0/1088118"))
    world.states = [state("0/1088119")]
    with pytest.raises(UnverifiedError, match="it stood at 0/1088118, and stands at 0/1088119 now"):
        world.room.promote()


def test_an_image_that_sorts_otherwise_is_refused(world: World) -> None:
    world.room.refuse_other_order()
    world.sorting = {"shop": "2.41", "other": "1"}
    with pytest.raises(UsageError, match=r"sorts text of shop by version 2\.36, and the image by 2\.41"):
        world.room.refuse_other_order()


class PackedBase:
    """A base in a repository, and a container that is this machine: tar is real, PostgreSQL's programs do nothing."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool) -> None:
        self.inside, self.verified, self.argv = root / "inside", (0, "", ""), list[list[str]]()
        self.inside.mkdir()
        identity = fake_age.identity() if encrypted else ""
        recipients = [row.split()[-1] for row in identity.splitlines() if "public key" in row]
        self.run = Opened(make_config(root), identity)
        self.repo = repositories.repository_of(self.run)
        (root / "files").mkdir()
        for name in ("PG_VERSION", "postgresql.conf", "postgresql.auto.conf", "standby.signal"):
            (root / "files" / name).write_text(name)
        archive = root / "base.tar"
        subprocess.run(["tar", "-cf", archive, "-C", root / "files", "."], check=True)
        data = archive.read_bytes()
        if encrypted:
            words = ["age", "--encrypt", "--recipient", recipients[0]]
            data = subprocess.run(words, input=data, capture_output=True, check=True).stdout
        self.name = "base.tar.zst.age" if encrypted else "base.tar.zst"
        details = replace(DETAILS, recipients=tuple(recipients), bytes=10)
        self.manifest = Manifest(
            "base_backup_20261202_041000", "base", "shop", AT, AT,
            (Artefact(self.name, len(data), filesystem.sha256(data)),), {"lifeboat": "1"}, plain(details),
        )  # fmt: skip
        with self.repo.stage("base", self.manifest.id) as staging:
            (staging.path / self.name).write_bytes(data)
            staging.publish(self.manifest.to_bytes())
        monkeypatch.setattr(scratch, "INSIDE", str(self.inside))
        monkeypatch.setattr(scratch, "account", lambda name: "postgres")
        monkeypatch.setattr(scratch, "ended", lambda name: "")
        monkeypatch.setattr(scratch, "step", lambda name, what, argv, user: self.step(argv))
        monkeypatch.setattr(standing, "exec_command", self.command)
        monkeypatch.setattr(standing, "_UNPACK", ("cat",))
        monkeypatch.setattr(scratch, "MOUNT", str(root))
        self.room = Standing(
            self.run, self, route(Latest()), Feeder(), "scratch", details, root, lambda text: None,  # type: ignore[arg-type]
        )  # fmt: skip

    def step(self, argv: list[str]) -> None:
        if argv[:1] == ["sh"] and "chown" in argv[2]:  # the accounts are the container's
            argv = [*argv[:2], argv[2].partition("chown")[0], *argv[3:]]
        self.argv.append(argv)
        subprocess.run(argv, check=True)

    def command(self, name: str, argv: list[str], **_: Any) -> Command:
        self.argv.append(argv)
        if argv[0] == "pg_verifybackup":
            status, _out, err = self.verified
            return Command(["sh", "-c", 'printf %s "$1" >&2; exit "$0"', str(status), err])
        return Command(argv)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_base_is_unpacked_and_its_settings_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    made = PackedBase(tmp_path, monkeypatch, encrypted)
    made.room.unpack(made.manifest)
    assert sorted(path.name for path in (made.inside / "data").iterdir()) == ["PG_VERSION"]
    aside = sorted(path.name for path in (made.inside / "settings").iterdir())
    assert aside == ["postgresql.auto.conf", "postgresql.conf"]
    ran = [" ".join(argv) for argv in made.argv]
    verified, moved = (next(i for i, words in enumerate(ran) if word in words) for word in ("pg_verifybackup", "mv "))
    assert verified < moved, "before anything of it is moved"
    assert not (tmp_path / "base").exists(), "the FIFO is gone"


@pytest.mark.parametrize(
    ("unpack", "inside", "why"),
    [(("false",), "", "false|sh"), (("cat",), "exit 3", "exit 3"), (("lifeboat-no-such",), "", "not found")],
    ids=["the decompression fails", "tar does not begin", "no program"],
)
def test_neither_end_of_the_fifo_waits_for_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpack: tuple[str, ...], inside: str, why: str
) -> None:
    made = PackedBase(tmp_path, monkeypatch, encrypted=False)
    monkeypatch.setattr(standing, "_UNPACK", unpack)
    if inside:
        monkeypatch.setattr(standing, "_TAR", inside)
    began = time.monotonic()
    with pytest.raises(LifeboatError, match=why):
        made.room.unpack(made.manifest)
    assert time.monotonic() - began < 20


def test_a_base_that_is_damaged_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = PackedBase(tmp_path, monkeypatch, encrypted=False)
    path = made.repo.root / "base" / made.manifest.id / made.name  # type: ignore[attr-defined]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="bytes instead of"):
        made.room.unpack(made.manifest)
    assert list((made.inside / "data").iterdir()) == []


def test_what_pg_verifybackup_finds_is_damage_and_what_stops_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PackedBase(tmp_path, monkeypatch, encrypted=False)
    made.verified = (1, "", 'pg_verifybackup: error: checksum mismatch for file "base/5/1259"')
    with pytest.raises(IntegrityError, match="checksum mismatch"):
        made.room.unpack(made.manifest)
    shutil.rmtree(made.inside / "data")
    made.verified = (137, "", "")
    with pytest.raises(UnverifiedError, match="ended with 137"):
        made.room.unpack(made.manifest)


def test_a_base_that_no_key_here_opens_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = PackedBase(tmp_path, monkeypatch, encrypted=True)
    made.run.key = ""
    with pytest.raises(age.NoKeyError, match="it is encrypted for"):
        made.room.unpack(made.manifest)


@pytest.mark.parametrize(
    ("major", "machine", "cause"),
    [
        (16, "x86_64", "it is of PostgreSQL 17, and the image has 16"),
        (18, "x86_64", "it is of PostgreSQL 17, and the image has 18"),
        (17, "aarch64", "it is of x86_64, and this machine is aarch64"),
    ],
)
def test_another_major_or_architecture_is_refused(
    monkeypatch: pytest.MonkeyPatch, major: int, machine: str, cause: str
) -> None:
    monkeypatch.setattr(scratch, "image_major", lambda name: major)
    monkeypatch.setattr(pipeline, "probe", lambda command, **_: (0, f"{machine}\n", ""))
    with pytest.raises(UsageError) as error:
        standing.refuse_unlike("scratch", DETAILS, "base")
    assert error.value.cause == cause


def test_an_image_is_the_bases_own_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its name, which may mean another one today; nor where nobody recorded one."""
    known = {"postgres:17": "sha256:now"}
    monkeypatch.setattr(images, "image_id", lambda reference: known.get(reference, ""))
    assert standing.is_own("postgres:17", replace(DETAILS, image="sha256:now"))
    assert not standing.is_own("postgres:17", replace(DETAILS, image="sha256:then"))
    assert not standing.is_own("postgres:17", replace(DETAILS, image="postgres:17"))
    assert not standing.is_own("gone:17", replace(DETAILS, image=""))


def test_the_image_is_the_bases_own(tmp_path: Path) -> None:
    run = Opened(make_config(tmp_path, database={"verify_image": "other:17"}))
    assert standing.image_of(run, DETAILS) == "postgres:17"
    host = BaseDetails(SYSTEM, 170_012, 1, "0/1", "0/2")
    assert standing.image_of(run, host) == "other:17"
    with pytest.raises(UnverifiedError, match="the base names no image"):
        standing.image_of(Opened(make_config(tmp_path)), host)


def test_a_settings_file_is_quoted() -> None:
    assert standing.rendered({"a": "it's", "b": "c\\d"}) == "a = 'it''s'\nb = 'c\\\\d'\n"
