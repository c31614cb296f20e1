# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fill an empty data directory from a base and the WAL behind it, so that the stack's own server starts with that.

A throw-away server does it, whose data lies in the directory FILLING inside the data directory. What stands there is
proved, promoted, stopped and written to the disk; then its files are moved up one level, PG_VERSION last. Until then
neither PostgreSQL nor an image opens the data directory: it lacks PG_VERSION, and is not empty either. Whenever a run
is killed, the next one goes on with what is whole, and removes what is not.
"""

from __future__ import annotations

import contextlib
import json
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ....base import clock, filesystem, typed
from ....base.checks import Check
from ....base.clock import format_time
from ....base.errors import IntegrityError, LifeboatError, Log, NotFoundError, SpaceError, UsageError, present
from ....base.filesystem import explained
from ....base.text import human, named
from ....recovery import state as recovery_state
from ....recovery.state import RECOVERING
from ....repository import checksums
from ....repository import manifest as manifests
from ....repository.components import BASE
from ....repository.details import BaseDetails
from ....repository.manifest import Manifest
from ....settings.config import Config
from ....stack import quarantine
from ....stack.runtime import DataMount, Opened, database_mount
from ....tools import age
from ....wal.catalogue import Route
from ....wal.instants import Position
from ....wal.segments import parse_lsn
from ... import scratch
from ...server import answers
from ...wal import preflight, receiver, standing
from ...wal.archive import Archive
from ...wal.standing import Destination, Standing
from . import proof
from .proof import Proved

FILL = "bring the server back from a base"
FILLING = ".lifeboat-filling"
_VERSION = "PG_VERSION"
FILLED = "filled.json"
_PACE = "replay_pace.json"
_CLOSED, _GROUP = 0o700, 0o750  # the two modes that PostgreSQL accepts
_BY_DUMP = "Or bring the newest dump back: -e method=rebuild."


@dataclass(frozen=True)
class Pace:
    """Bytes a second, measured by the last recovery of this host; before the first one, where this was written. at: of
    the measurement, empty then."""

    unpack: float = 290e6
    replay: float = 88e6
    at: str = ""


@dataclass(frozen=True)
class Filled:
    """A data directory that is whole. began, base, replay, followed: of the mark of the recovery that filled it: since
    when it goes on, the base, the instant, the timeline. lsn, at: where it stands, and of the last commit. timeline: of
    its own."""

    began: str
    base: str
    replay: str
    followed: int
    system: str
    lsn: str
    at: str
    timeline: int
    databases: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    unpacked: float = 0.0
    replayed: float = 0.0


class DamagedBaseError(IntegrityError):
    """The base's own bytes are not as they were written: an older one may lead to the instant, too."""


# Before anything is touched.


@dataclass(frozen=True)
class Usable:
    """What a plan tells of a base that can be used. wal: bytes of WAL between the base and the instant; stored: what it
    takes in the repository."""

    manifest: Manifest
    details: BaseDetails
    wal: int
    stored: int


def require(run: Opened, source: Archive, route: Route, log: Log) -> Usable:
    """Raise a LifeboatError where the server cannot be brought back by that route, with what can be done about it.
    Nothing is touched."""
    details = _manifest(source, route).detailed(BaseDetails)
    _require_openable(run, details, route.base.id)
    _require_room(run, details, _between(route))
    _require_image(run, details, route.base.id)
    return require_whole(run, source, route, log)


def require_whole(run: Opened, source: Archive, route: Route, log: Log) -> Usable:
    """The like on a machine that has no server yet: that the base can be opened, and every byte that leads to the
    instant is as it was written."""
    identity, manifest = route.base.id, _manifest(source, route)
    details, wal = manifest.detailed(BaseDetails), _between(route)
    _require_openable(run, details, identity)
    log(f"checking the bytes of {identity}")
    if bad := checksums.in_place(source.repo, manifest):
        raise DamagedBaseError(FILL, identity, bad[0], f"Name an instant before it. {_BY_DUMP}")
    log(f"checking the bytes of the WAL behind it, {human(wal)}")
    return Usable(manifest, details, wal, source.require(route, source.end(route)))


def _manifest(source: Archive, route: Route) -> Manifest:
    identity = route.base.id
    return manifests.parse(source.repo.manifest(BASE, identity), component=BASE, expected_id=identity)


def _between(route: Route) -> int:
    """Bytes of WAL between the base and the instant, at most."""
    end = route.instant.lsn if isinstance(route.instant, Position) else route.until.position
    return max(0, end - route.base.start)


def _require_openable(run: Opened, details: BaseDetails, identity: str) -> None:
    if details.tablespaces:
        names = ", ".join(named(space.name) for space in details.tablespaces)
        raise UsageError(FILL, identity, f"it has tablespaces of its own ({names})", _BY_DUMP)
    seal = age.Seal(details.recipients, details.host_key)
    if seal.recipients:
        age.keys(run.config, run.key).opening(seal, identity)


def _require_room(run: Opened, details: BaseDetails, wal: int) -> None:
    if filled(run.config):
        return
    try:
        mount = database_mount(run.config, run.runtime)
        path, left = mount.path, quarantine.size(mount.data / FILLING) if half_filled(mount) else 0
        free = filesystem.free(path) + left
    except (LifeboatError, OSError):
        return  # a volume that is gone: the new one is the engine's matter
    needed = int(details.bytes * 1.1) + wal
    if free < needed:
        raise SpaceError(
            FILL, str(path), f"{human(free)} are free, and about {human(needed)} are needed: the old data stays beside",
            "Free space there: nothing was changed yet.",
        )  # fmt: skip


def image_of(run: Opened, details: BaseDetails) -> str:
    """The image that the stack's server starts in; without containers that of the base."""
    return run.runtime.image(run.config.database.service) or standing.image_of(run, details)


_SORTING = """SELECT to_json(version) FROM (SELECT DISTINCT pg_collation_actual_version(oid) AS version
  FROM pg_collation) v WHERE version IS NOT NULL;"""


def _require_image(run: Opened, details: BaseDetails, identity: str) -> None:
    """PostgreSQL reads no files of another major or architecture, and another library sorts text otherwise than the
    indexes are. In the very image that the base's own server ran in there is nothing to compare."""
    image = image_of(run, details)
    if standing.is_own(image, details):
        return
    recorded = {*details.collversion.values()}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(filesystem.scratch("lifeboat-image-"))
        name = stack.enter_context(scratch.container(image, run.config.stack, folder, timeout=300))
        standing.refuse_unlike(name, details, identity)
        if not recorded:
            return
        server = stack.enter_context(scratch.server(name, superuser="postgres", preload="", timeout=120))
        known = {*answers(str, server.execute(_SORTING, attempted="ask how text is sorted", timeout=60))}
    # An image without any locale knows no version: then the server is asked that has the base.
    if known and not recorded <= known:
        cause = (
            f"its text is sorted by version {', '.join(sorted(recorded - known))}, and {image} has"
            f" {', '.join(sorted(known))}: its indexes would be wrong"
        )
        raise UsageError(FILL, identity, cause, f"Start the server in an image with the libc of before. {_BY_DUMP}")


def pace(config: Config) -> Pace:
    return recovery_state.remembered(config, _PACE, Pace) or Pace()


# The directory.


def filled(config: Config) -> Optional[Filled]:
    """What the recovery that has not ended has filled; None where it has not, or where there is none such."""
    mark = recovery_state.unfinished(config, RECOVERING)
    known = recovery_state.remembered(config, FILLED, Filled)
    if mark is None or known is None or not (mark.begun and mark.empty and mark.replay):
        return None
    marked = (mark.since, mark.backup, mark.replay, mark.timeline)
    return known if (known.began, known.base, known.replay, known.followed) == marked else None


def half_filled(mount: DataMount) -> bool:
    """Whether a run was killed while it filled the directory: nothing may start there."""
    return mount.path != Path() and (mount.data / FILLING).is_dir() and not (mount.data / FILLING).is_symlink()


def completed(config: Config, mount: DataMount) -> Optional[Filled]:
    """What is whole in the directory, whose files are moved into place where a run was killed meanwhile. None where
    it has to be filled."""
    known = filled(config)
    if known is None or mount.path == Path():
        return None
    with explained(FILL, mount.data):
        if half_filled(mount):
            _move_up(mount.data)
        return known if (mount.data / _VERSION).is_file() else None


def clear(config: Config, mount: DataMount) -> None:
    """Remove what a killed run has left of its own. What is not its own stays, to be put aside."""
    recovery_state.unmark(config, FILLED)
    if not half_filled(mount):
        return
    with explained(FILL, mount.data):
        filesystem.remove(mount.data / FILLING)
        path = mount.data
        while path != mount.path and not filesystem.is_filled(path):
            path.rmdir()
            path = path.parent


def fill(run: Opened, source: Archive, route: Route, mount: DataMount, log: Log) -> Filled:
    """Bring the server as it was at the route's instant into the empty data directory. Raises LifeboatError; whatever
    is raised, nothing there can be opened."""
    config = run.config
    mark = present(recovery_state.unfinished(config, RECOVERING))
    destination = _destination(run, mount)
    repo, identity = source.repo, route.base.id
    manifest = manifests.parse(repo.manifest(BASE, identity), component=BASE, expected_id=identity)
    details = manifest.detailed(BaseDetails)
    with standing.standing(run, source, route, log, image_of(run, details), destination) as room:
        proved = _prove(run, room, log)
        timeline = answers(int, room.server.execute(_TIMELINE, attempted="ask for the timeline", timeout=60))[0]
        room.leave()
    reached = present(room.reached)
    made = Filled(
        mark.since, mark.backup, mark.replay, mark.timeline, route.base.system, reached.lsn,
        format_time(reached.at) if reached.at else "", timeline, proved.databases, proved.checks, proved.notes,
        reached.unpacked, reached.replayed,
    )  # fmt: skip
    _new_spool(run, route, mount)
    recovery_state.keep(config, FILLED, json.dumps(typed.plain(made)))
    with explained(FILL, mount.data):
        _move_up(mount.data)
    _measure(config, details, route, made)
    return made


# Of the WAL that is written: the control file has that of the last checkpoint.
_TIMELINE = "SELECT to_json(('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int);"


def _prove(run: Opened, room: Standing, log: Log) -> Proved:
    """Look at what stands there, then open it. The tables are read before: what reads them afterwards writes, too."""
    reading = proof.Reading(room, log)
    reading.read_tables()
    room.promote()
    if receiver.enabled(run.config) is not None:
        # From here on, so that no WAL of the new timeline is missing when the receiver is back.
        sql = f"SELECT to_json(pg_create_physical_replication_slot('{preflight.SLOT}', true)::text);"
        room.server.execute(sql, attempted="make the replication slot", timeout=60)
    reading.read_rest()
    proved = reading.proved()
    if bad := [check for check in proved.checks if check.result not in proof.BEARABLE]:
        raise IntegrityError(
            FILL, room.route.base.id, "; ".join(f"{check.name}: {check.detail}" for check in bad),
            f"Nothing of it is opened. Go to an instant before it, or by an older base. {_BY_DUMP}",
        )  # fmt: skip
    return proved


def _destination(run: Opened, mount: DataMount) -> Destination:
    """Make the way to the directory that is filled, and tell whose it shall be."""
    data, config = mount.data, run.config
    if mount.path == Path():
        raise NotFoundError(FILL, mount.name, "there is no such volume", f"docker volume create {mount.name}")
    with explained(FILL, data):
        for path in (*reversed(data.parents), data):
            if (path == mount.path or mount.path in path.parents) and not path.is_dir():
                path.mkdir(parents=path == mount.path)
                path.chmod(0o755)  # whatever the umask is: the server's user goes through it
        (data / FILLING).mkdir(mode=_CLOSED, exist_ok=True)  # from here on no image makes a server of its own there
        info = mount.path.stat()
    owner = (info.st_uid, info.st_gid)
    if not info.st_uid and config.runtime.type != "compose":
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(config.database.os_user or "postgres")
            owner = (account.pw_uid, account.pw_gid)
    shown = f"{owner[0]}:{owner[1]}" if owner[0] else ""
    return Destination(mount.path, f"{mount.below}/{FILLING}".lstrip("/"), shown)


def _move_up(data: Path) -> None:
    """Move what was filled into place. Interrupted, it goes on; with PG_VERSION the directory can be opened."""
    source = data / FILLING
    if data.stat().st_mode & 0o777 not in (_CLOSED, _GROUP):
        data.chmod(_CLOSED)
    for path in sorted(source.iterdir(), key=lambda path: path.name == _VERSION):
        if path.name == _VERSION:
            filesystem.sync(data)
        path.rename(data / path.name)
    filesystem.sync(data)
    source.rmdir()
    filesystem.sync(data)


def _new_spool(run: Opened, route: Route, mount: DataMount) -> None:
    """What the receiver has of the old timeline may be behind the instant: the server could not go on from there."""
    config = run.config
    if receiver.enabled(config) is None or not receiver.spools(config):
        return
    info = (mount.data / FILLING / _VERSION).stat()
    receiver.make_spool(config, route.base.system, (info.st_uid, info.st_gid), fresh=True)


def _measure(config: Config, details: BaseDetails, route: Route, made: Filled) -> None:
    """Remember how fast it went, for the next plan. What took no second tells nothing."""
    wal, known = max(0, parse_lsn(made.lsn) - route.base.start), pace(config)
    unpack = details.bytes / made.unpacked if made.unpacked > 1 else known.unpack
    replay = wal / made.replayed if made.replayed > 1 else known.replay
    measured = Pace(round(unpack), round(replay), format_time(clock.now()))
    if (measured.unpack, measured.replay) != (known.unpack, known.replay):
        recovery_state.keep(config, _PACE, json.dumps(typed.plain(measured)))
