# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A throw-away server without a network that stands at an instant: a base, and the WAL behind it, replayed to it.

Its data lies in its container, and is gone with it; or in a directory of the host, which the stack's own server has
afterwards.

In standby mode, whatever the instant: a server that recovers by itself takes the first file that is missing for the end
of the WAL, and opens with what it has. A standby waits there, and we say why. It pauses before the first commit that is
not before the instant; nothing is promoted unless promote() is called.

https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-RECOVERY-TARGET
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Optional

from ...base import clock, filesystem, pipeline
from ...base.checks import PASS
from ...base.clock import format_time
from ...base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UnverifiedError, UsageError, unable
from ...base.pipeline import Command
from ...base.text import human, named
from ...repository import checksums
from ...repository import manifest as manifests
from ...repository.base import Repository
from ...repository.components import BASE
from ...repository.details import BaseDetails
from ...repository.manifest import Manifest
from ...stack import images
from ...stack.runtime import Opened, exec_command
from ...tools import age
from ...wal.catalogue import Route
from ...wal.instants import At, Instant, Latest, Mark, Position, Transaction
from ...wal.segments import format_lsn, parse_lsn
from .. import scratch
from ..server import Server, answers
from .archive import Archive
from .feed import Feeder

STAND = "stand at an instant"
_PREFIX = "standing-"
_UNPACK = ("zstd", "--decompress", "--stdout", "--quiet")
_DATA = "data"
_FIFO = "base"
# $0: where to, then the command.
_INTO = 'exec "$@" > "$0"'
# $0: the archive. GNU tar reads 10 kB at a time where it is not told otherwise, and others are never told.
_TAR = """exec tar $(if tar --version 2>/dev/null | grep -q GNU; then echo -B -b 512; fi) -x -f "$0" "$@"
"""
_SILENCE = 300.0  # seconds without a byte replayed, after which it is given up
_TRIES, _QUIET = 5, 1.5  # so often, and so many seconds, a server asks for files that it had: at the end of the WAL
_CONFIG = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
_SIGNALS = ("standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts")
# $0: the directory for the settings, $1: the data, $2: files that are removed, then the settings.
_ASIDE = """aside=$0; cd "$1"; signals=$2; shift 2; mkdir -p -m 0700 "$aside"; rm -f $signals
for name; do if [ -e "$name" ]; then mv "$name" "$aside"; fi; done"""
# $0 and $1: the same, then what is removed.
_BACK = """aside=$0; cd "$1"; shift; rm -f "$@"
for path in "$aside"/*; do if [ -e "$path" ]; then mv "$path" .; fi; done"""
# What a base and its replay leave beside the data.
_TRACES = ("backup_manifest", "backup_label.old", "tablespace_map.old")
_MAJOR = 10000
# What would write into it by itself once it is open: the triggers of logins, and jobs of extensions.
_NO_EVENTS, _EVENTS = {"event_triggers": "off"}, 170000
_NO_JOBS: Mapping[str, Mapping[str, str]] = {
    "pg_cron": {"cron.launch_active_jobs": "off"}, "timescaledb": {"timescaledb.max_background_workers": "0"},
}  # fmt: skip
_ANOTHER = "Go by another base: name an instant before it."
_STOPPED = re.compile(r"recovery stopping (?:before|after|at) .*")
_TOO_SMALL = re.compile(r"(\w+) = \d+ is a lower setting than on the primary server, where its value was (\d+)")


@dataclass(frozen=True)
class State:
    """How far the server is. lsn: behind the last record that was replayed. at: of the last commit."""

    recovering: bool
    paused: str
    timeline: int
    lsn: Optional[str] = None
    at: Optional[datetime] = None


_STATE = """SELECT jsonb_build_object('recovering', pg_is_in_recovery(),
  'paused', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE '' END,
  'timeline', (SELECT timeline_id FROM pg_control_checkpoint()),
  'lsn', pg_last_wal_replay_lsn()::text, 'at', pg_last_xact_replay_timestamp());"""


_COLLATIONS = 150000  # the catalogue knows the versions of databases' collations from here on
_ACTUAL = """SELECT jsonb_build_object('versions', coalesce(jsonb_object_agg(datname, version), '{}')) FROM (SELECT
  datname, pg_database_collation_actual_version(oid) AS version FROM pg_database) d WHERE version IS NOT NULL;"""


@dataclass(frozen=True)
class _Sorting:
    """By database the version of the library that sorts its text."""

    versions: Mapping[str, str]


@dataclass(frozen=True)
class Reached:
    """Where the server stands. why: what it stopped at, in its own words; empty where it replayed all that there is and
    nothing was committed between that and the instant. unpacked, replayed: seconds."""

    lsn: str
    at: Optional[datetime]
    why: str
    unpacked: float
    replayed: float
    files: int

    def as_dict(self) -> dict[str, object]:
        return {
            "lsn": self.lsn,
            "last_commit": format_time(self.at) if self.at else "",
            "stopped": self.why,
            "seconds": {"unpack": self.unpacked, "replay": self.replayed},
            "files": self.files,
        }


@dataclass(frozen=True)
class Destination:
    """Where the data shall lie that outlives the server. mounted: a directory of this host. below: the data directory
    in it, as a relative path; it is made. owner: `uid:gid`; empty: the account of the image."""

    mounted: Path
    below: str
    owner: str = ""


def image_of(run: Opened, details: BaseDetails) -> str:
    """The image to stand in. Raises UnverifiedError where none is known."""
    image = details.image or run.config.database.verify_image
    if not image:
        remedy = "Set lifeboat_database.verify_image to an image of the same PostgreSQL major."
        raise UnverifiedError(STAND, run.config.stack, "the base names no image", remedy)
    return image


@contextlib.contextmanager
def archive(run: Opened, repo: Repository) -> Iterator[Archive]:
    """The WAL of the repository, with a private directory beside what else is decrypted on this host."""
    parent = Path(run.config.encryption.directory or run.config.state)
    with filesystem.explained("read the WAL", parent):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with filesystem.scratch(_PREFIX, parent) as folder:
        yield Archive(run, repo, folder)


@contextlib.contextmanager
def standing(
    run: Opened, source: Archive, route: Route, log: Log, image: str = "", destination: Optional[Destination] = None
) -> Iterator[Standing]:  # fmt: skip
    """A server that stands at the route's instant. image: instead of the one that the base names. destination: of
    its data; None: in its container.

    Raises UsageError where the instant cannot be gone to, IntegrityError where base or WAL are damaged, UnverifiedError
    where the machine lacks something. Whatever is raised, the container is gone, and nothing was promoted.
    """
    repo, identity = source.repo, route.base.id
    manifest = manifests.parse(repo.manifest(BASE, identity), component=BASE, expected_id=identity)
    details = manifest.detailed(BaseDetails)
    image = image or image_of(run, details)
    source.use(route.base.system)
    exchange = source.folder / "exchange"
    scratch.sweep(run.config.stack)
    with contextlib.ExitStack() as stack:
        with filesystem.explained(STAND, exchange):
            exchange.mkdir()
        stack.callback(filesystem.remove, exchange)
        feeder = stack.enter_context(Feeder(source, exchange, scratch.MOUNT, details.segment_size))
        name = stack.enter_context(
            scratch.container(
                image, run.config.stack, exchange, timeout=run.config.timeout,
                data=destination.mounted if destination else None,
            )
        )  # fmt: skip
        stack.enter_context(scratch.bounded(name, 0 if destination else details.bytes))
        if not is_own(image, details):
            refuse_unlike(name, details, identity)
        room = Standing(run, source, route, feeder, name, details, exchange, log, destination)
        room.unpack(manifest)
        room.go(route)
        room.refuse_other_order()
        yield room


def is_own(image: str, details: BaseDetails) -> bool:
    """Whether the base's own server ran in that image, which then has its major, its architecture, its libraries."""
    return bool(details.image) and images.image_id(image) == details.image


def refuse_unlike(name: str, details: BaseDetails, identity: str) -> None:
    """Raise UsageError where the image cannot run the base: PostgreSQL reads no other major's files, and none of
    another architecture."""
    needed, major = details.server_version_num // _MAJOR, scratch.image_major(name)
    remedy = f"Set lifeboat_database.verify_image to an image of PostgreSQL {needed} as the server ran in."
    if major != needed:
        cause = f"it is of PostgreSQL {needed}, and the image has {major}"
        raise UsageError(STAND, identity, cause, remedy)
    status, out, _err = pipeline.probe(exec_command(name, ["uname", "-m"], user="0"))
    if status == 0 and details.architecture and out.strip() != details.architecture:
        cause = f"it is of {details.architecture}, and this machine is {out.strip()}"
        raise UsageError(STAND, identity, cause, "Use a machine of that architecture.")


class Standing:
    """The server in its container. server: asked as its first superuser; reached: where it stands."""

    def __init__(
        self, run: Opened, source: Archive, route: Route, feeder: Feeder, name: str, details: BaseDetails,
        exchange: Path, log: Log, destination: Optional[Destination] = None,
    ) -> None:  # fmt: skip
        self.run, self.route, self.name, self.details = run, route, name, details
        self._source, self._feeder, self._exchange, self._log = source, feeder, exchange, log
        self._user = (destination.owner if destination else "") or scratch.account(name)
        self.data = f"{scratch.DATA}/{destination.below}" if destination else f"{scratch.INSIDE}/{_DATA}"
        self._destination = destination
        self._settings_aside = f"{scratch.INSIDE}/settings"
        execute = partial(exec_command, name, user="0")
        self.server = Server(
            execute, user=details.superuser or "postgres", host=scratch.INSIDE, application="lifeboat-standing",
            timeout=run.config.timeout, mount=scratch.MOUNT, database=run.config.database.name,
        )  # fmt: skip
        self.server.image = details.image
        self._unpacked = 0.0
        self.reached: Optional[Reached] = None

    # The base.

    def unpack(self, manifest: Manifest) -> None:
        """The base as the container's server has it: its checksums first, then age, zstd and tar in one chain."""
        began = time.monotonic()
        repo, seal = self._source.repo, age.Seal(self.details.recipients, self.details.host_key)
        file = seal.named("base.tar.zst")
        own = [self.data, scratch.INSIDE, *([str(PurePosixPath(self.data).parent)] if self._destination else [])]
        script = 'user=$0; mkdir -p -m 0700 "$1"; chown "$user" "$@"'
        scratch.step(self.name, "prepare its directory", ["sh", "-ec", script, self._user, *own], "0")
        with repo.materialise(BASE, manifest.id) as folder:
            bad = [check for check in checksums.checksums(repo, manifest, folder) if check.result != PASS]
            if bad:
                raise IntegrityError(STAND, manifest.id, bad[0].detail, _ANOTHER)
            self._log(f"{manifest.id}: unpacking {human(self.details.bytes)}")
            if seal.recipients:
                identity = age.keys(self.run.config, self.run.key).opening(seal, manifest.id)
                with pipeline.writing(lambda reader: self._unpack(reader, manifest.id)) as writer:
                    age.decrypt(
                        folder / file, identity, writer, subject=f"{manifest.id}/{file}", recipients=seal.everybody,
                        timeout=self.run.config.timeout,
                    )  # fmt: skip
            else:
                with filesystem.explained(STAND, folder / file), (folder / file).open("rb") as stream:
                    self._unpack(stream, manifest.id)
        self._verify(manifest.id)
        self._settle()
        self._unpacked = round(time.monotonic() - began, 2)

    def _unpack(self, stream: IO[bytes], identity: str) -> None:
        """Through a FIFO: what goes into a container by `docker exec` is copied by three processes on its way."""
        fifo = self._exchange / _FIFO
        with filesystem.explained(STAND, fifo):
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo)
            fifo.chmod(0o644)  # the user of the container reads it
        words = ["sh", "-ec", _TAR, f"{scratch.MOUNT}/{_FIFO}", "-C", self.data]
        # Both ends are opened by the commands themselves, so that neither waits for ever where the other fails.
        chain = [Command(["sh", "-c", _INTO, str(fifo), *_UNPACK]), exec_command(self.name, words, user=self._user)]
        pipeline.run(
            chain, attempted="unpack the base", subject=identity, source=stream,
            timeout=self.run.config.timeout, remedy="Is zstd installed here? apt install zstd",
        )  # fmt: skip
        fifo.unlink(missing_ok=True)

    def _verify(self, identity: str) -> None:
        """By the list of files and checksums that pg_basebackup wrote into it."""
        argv = ["pg_verifybackup", "--no-parse-wal", self.data]
        status, _out, err = pipeline.probe(self._command(argv), timeout=self.run.config.timeout)
        if status:
            cause = err.strip().splitlines()[0] if err.strip() else f"pg_verifybackup ended with {status}"
            if lacked := cause if unable(status) else scratch.ended(self.name):
                raise UnverifiedError(STAND, identity, lacked)
            raise IntegrityError(STAND, identity, cause, _ANOTHER)

    def _settle(self) -> None:
        """Put the base's own settings aside: they may name files and archives of the stack. They are in `settings`."""
        words = [self._settings_aside, self.data, " ".join(_SIGNALS), *_CONFIG]
        scratch.step(self.name, "prepare its settings", ["sh", "-ec", _ASIDE, *words], self._user)

    def leave(self) -> None:
        """Stop it, and leave its data as the base's own server would have: with the settings that are in the base, none
        of this one's, and on the disk."""
        self.stop()
        ours = [*_CONFIG, *_SIGNALS, *_TRACES]
        words = [self._settings_aside, self.data, *ours]
        scratch.step(self.name, "put its settings back", ["sh", "-ec", _BACK, *words], self._user)
        self._log("writing the data to the disk")
        status, _out, err = pipeline.probe(
            self._command(["initdb", "--sync-only", "-D", self.data]), timeout=self.run.config.timeout
        )
        if status:
            cause = scratch.ended(self.name) or err.strip() or f"initdb --sync-only ended with {status}"
            raise UnverifiedError("write the data to the disk", self.name, cause, "See the machine's disk.")

    def _command(self, argv: list[str]) -> Command:
        return exec_command(self.name, argv, env={"LC_ALL": "C"}, user=self._user)

    # To the instant.

    def go(self, route: Route) -> Reached:
        """Replay to the route's instant, from where the server stands. Never back: that needs the base once more."""
        self.route = route
        self._write({
            "pg_hba.conf": "local all all trust\n", "pg_ident.conf": "", "standby.signal": "",
            "postgresql.conf": rendered(self._settings(route)),
        })  # fmt: skip
        began = time.monotonic()
        self._log(f"replaying the WAL from {format_lsn(route.base.start)} to {route.instant}")
        if self.reached is not None:
            scratch.forget(self.name)
        self._feeder.forget()
        try:
            scratch.start(self.name, self._user, self.data, {})
        except UnverifiedError:
            if error := self._ended():
                raise error from None
            raise
        why = self._wait(began)
        state = self._state()
        self.reached = Reached(
            state.lsn or "", state.at, why, self._unpacked, round(time.monotonic() - began, 2), self._feeder.handed
        )
        self._log(f"stands at {state.lsn}, last commit {format_time(state.at) if state.at else 'unknown'}")
        return self.reached

    def refuse_other_order(self) -> None:
        """Raise UsageError where the image sorts text otherwise than the server did: its indexes would be wrong."""
        if not self.details.collversion or self.details.server_version_num < _COLLATIONS:
            return
        rows = self.server.execute(_ACTUAL, attempted="ask how text is sorted", timeout=60)
        actual = answers(_Sorting, rows)[0].versions
        for name, version in self.details.collversion.items():
            if name in actual and actual[name] != version:
                cause = f"it sorts text of {named(name)} by version {version}, and the image by {actual[name]}"
                remedy = "Set lifeboat_database.verify_image to an image with the libc of the server's."
                raise UsageError(STAND, self.route.base.id, cause, remedy)

    def move(self, route: Route) -> Reached:
        """On to a later instant. UsageError where it is an earlier one, or of another base or timeline."""
        if (route.base, route.timeline) != (self.route.base, self.route.timeline):
            raise UsageError(STAND, str(route.instant), "it needs another base or timeline", "Start from its base.")
        instant, reached = route.instant, self.reached
        behind = reached is not None and (
            (isinstance(instant, At) and reached.at is not None and instant.moment <= reached.at)
            or (isinstance(instant, Position) and instant.lsn < parse_lsn(reached.lsn))
        )
        if behind:
            raise UsageError(STAND, str(instant), "the server is behind it already", "Start from its base.")
        self.stop()
        return self.go(route)

    def stop(self) -> None:
        argv = ["pg_ctl", "-D", self.data, "-w", "-t", "300", "-m", "fast", "stop"]
        scratch.step(self.name, "stop it", argv, self._user)

    def promote(self) -> None:
        """Open it for writing, on a new timeline: no more is replayed then. What a transaction locked that had not
        ended at the instant is free from here on, as the table of a DROP before which the server stands.

        A server with a target that the WAL ended before would refuse to open: it is stopped, and started without one.
        """
        if self.reached and not self.reached.why and target(self.route.instant):
            route, reached = self.route, self.reached
            self.stop()
            ended = self.go(replace(route, instant=Latest()))
            if ended.lsn != reached.lsn:
                cause = f"it stood at {reached.lsn}, and stands at {ended.lsn} now"
                raise UnverifiedError("promote the server", self.name, cause, "Run it again.")
            self.route, self.reached = route, reached
        self.server.execute("SELECT to_json(pg_promote(true, 300));", attempted="promote the server", timeout=330)
        if self._state().recovering:
            raise UnverifiedError("promote the server", self.name, "it is still in recovery after 300 s")

    def _settings(self, route: Route) -> dict[str, str]:
        least = {key: str(value) for key, value in self.details.settings.items()}
        return {
            **scratch.COMMON,
            **least,
            **target(route.instant),
            "log_min_messages": "warning",  # a setting that is too small is a warning,
            "log_error_verbosity": "default",  # and which one is in its DETAIL
            "hot_standby": "on",
            "archive_mode": "off",
            "primary_conninfo": "",
            "recovery_target_timeline": str(route.timeline),
            "recovery_target_inclusive": "off",
            "recovery_target_action": "pause",
            "restore_command": self._feeder.command,
            "wal_retrieve_retry_interval": "200ms",
            "max_standby_archive_delay": "-1",
            **(_NO_EVENTS if self.details.server_version_num >= _EVENTS else {}),
            **{name: value for library in self.details.preload for name, value in _NO_JOBS.get(library, {}).items()},
            **({"shared_preload_libraries": ", ".join(self.details.preload)} if self.details.preload else {}),
        }

    def _write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            with filesystem.explained(STAND, self._exchange / name):
                path = self._exchange / name
                path.write_text(text, encoding="utf-8")
                path.chmod(0o644)
        copy = ["cp", *(f"{scratch.MOUNT}/{name}" for name in files), self.data]
        scratch.step(self.name, "prepare its settings", copy, self._user)

    def _wait(self, began: float) -> str:
        """Until it has paused at the instant, or has replayed all that there is. Returns what it stopped at."""
        deadline = began + self.run.config.timeout
        waiting = clock.Waiting("the WAL to be replayed", deadline, self._log)
        position, moved = "", time.monotonic()
        while True:
            state = self._try_state()
            if state is None and (error := self._ended()):
                raise error
            if self._feeder.error:
                raise self._feeder.error
            lsn = (state.lsn if state else "") or ""
            if lsn != position:
                position, moved = lsn, time.monotonic()
            still = time.monotonic() - moved
            if state and state.paused == "paused":
                return self._paused(state)
            if state and self._feeder.repeated and parse_lsn(lsn or "0/0") >= self.route.until.position:
                return self._end(state)  # it asks again for what is not there, and nothing more was received
            if state and self._feeder.repeated >= _TRIES and still > _QUIET:
                return self._end(state)
            if still > _SILENCE:
                cause = f"it has not gone on from {lsn or 'its beginning'} for {_SILENCE:.0f} s"
                raise UnverifiedError(STAND, self.name, cause, "See its machine's load and disk, then try again.")
            if time.monotonic() > deadline:
                raise UnverifiedError(STAND, self.name, "it did not get there in time", "Raise lifeboat_timeout.")
            waiting.note(f"at {lsn}" if lsn else "it reads its first WAL")
            clock.pause(began)

    def _paused(self, state: State) -> str:
        log = scratch.logged(self.name)
        stopped = _STOPPED.findall(log)
        if stopped:
            return " ".join(stopped[-1].split())
        small = _TOO_SMALL.findall(log)
        if small:
            setting, value = small[-1]
            cause = f"the server raised {setting} to {value} after the base was taken"
            raise UnverifiedError(STAND, self.name, cause, "Take a new base: lifeboat wal base.")
        raise UnverifiedError(STAND, self.name, f"it paused at {state.lsn}, and its log does not say why")

    def _end(self, state: State) -> str:
        """All that there is was replayed. Returns an empty text where that is the instant: nothing follows it."""
        position, route = parse_lsn(state.lsn or "0/0"), self.route
        until = route.until
        if not self._source.ends_at(until.timeline, position, until.position, self.details.segment_size):
            cause = f"the WAL cannot be read at {state.lsn}, and it was received until {until.lsn}"
            raise IntegrityError(
                STAND, str(route.instant), cause, f"Go to an instant before it: before={state.lsn}. Take a new base."
            )
        instant = route.instant
        if isinstance(instant, (Transaction, Mark)):
            cause = f"it is not in the WAL from {format_lsn(route.base.start)} to {until.lsn}"
            raise NotFoundError(STAND, str(instant), cause, "Find what happened, and when: lifeboat when.")
        if isinstance(instant, At) and instant.moment > until.at:
            raise UsageError(STAND, str(instant), f"nothing is known behind {format_time(until.at)}", "Go there.")
        self.server.execute("SELECT to_json(pg_wal_replay_pause()::text);", attempted="stop the replay")
        return ""

    def _state(self) -> State:
        return answers(State, self.server.execute(_STATE, attempted="ask how far the replay is", timeout=60))[0]

    def _try_state(self) -> Optional[State]:
        """None where it does not answer: before its base is consistent, or when it has ended."""
        try:
            return self._state()
        except LifeboatError:
            return None

    def _ended(self) -> Optional[LifeboatError]:
        """Why the server ended; None while it runs."""
        if self._feeder.error:
            return self._feeder.error
        if pipeline.probe(self._command(["pg_ctl", "-D", self.data, "status"]))[0] == 0:
            return None
        if gone := scratch.ended(self.name):
            return UnverifiedError(STAND, self.name, gone)
        cause = scratch.last_fatal(self.name) or "the server ended, and its log does not say why"
        return UnverifiedError(STAND, self.name, cause)


def target(instant: Instant) -> dict[str, str]:
    """The settings that stop a replay before that instant. None of them for the end of the WAL."""
    if isinstance(instant, At):
        moment = instant.moment.astimezone(timezone.utc)
        return {"recovery_target_time": f"{moment:%Y-%m-%d %H:%M:%S.%f}+00"}
    if isinstance(instant, Position):
        return {"recovery_target_lsn": format_lsn(instant.lsn)}
    if isinstance(instant, Transaction):
        return {"recovery_target_xid": str(instant.xid)}
    return {"recovery_target_name": instant.name} if isinstance(instant, Mark) else {}


def rendered(settings: Mapping[str, str]) -> str:
    """A postgresql.conf. https://www.postgresql.org/docs/current/config-setting.html"""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in settings.items()}
    return "".join(f"{name} = '{value}'\n" for name, value in quoted.items())
