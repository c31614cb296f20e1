# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pull what a stack's host published since the last time, whole and compared with its checksums.

    <keeper.directory>/repository/     as every repository
    <keeper.directory>/receipts.jsonl  what was first seen when
    <keeper.directory>/incoming/       what is on its way; the next pull goes on with it
    <keeper.directory>/quarantine/     documents that came under an id which the keeper has

The host is hostile. What it lists and sends is bounded, an id that was ever received is never written again, and its
verifications, holds and escrow records are not fetched: they prove nothing here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Optional

from ..base import clock, filesystem, progress
from ..base.checks import PASS, Check
from ..base.clock import TOLERANCE, format_time
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, SpaceError, UsageError, printable
from ..base.filesystem import explained, plain_name
from ..base.text import human
from ..base.throttle import parse_rate
from ..operations import verify
from ..operations.proof import Result
from ..repository import points, repositories
from ..repository.base import CLAIM, ID, MANIFEST, MARKER, PARTIAL, POINT_ID, POINTS, RECORDS, Repository, marker_of
from ..repository.components import BASE, CONTINUOUS, KINDS, WAL
from ..repository.details import WalDetails
from ..repository.manifest import Artefact, Manifest, component_of, parse
from ..settings.config import Config
from ..settings.parts import KeeperSettings, LimitSettings
from ..stack.runtime import Opened
from ..tools.sftp import Sftp, command
from ..tools.source import BoundError, Budget, Directory, Source
from . import objects, unfinished
from . import receipts as receipts_file
from .objects import Mirrored
from .receipts import NO_MARKER, Receipts, Record, Strange, bounded

INCOMING = "incoming"
QUARANTINE = "quarantine"
_PULL = "pull from the stack's host"
_QUARANTINED = 50  # documents that are kept of what came under an id that is taken
MARKER_MOST = 4096
_NODE, _BLOCK = 16 << 10, 4 << 10  # what an inode and a block take of a quota
_OWN = 2  # a backup's folder, and the record that it was compared
_NODES = 1_000_000  # values in one document: a list takes thirty times the memory that its brackets take in JSON
_DETAILS = 64 << 10  # of JSON, in one manifest: all of them are in memory at once
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class Pulled:
    """What one pull did. waiting: points that name what is not here. problem: why it ended early. mirrored: what became
    of the object store."""

    received: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    strange: list[Strange] = field(default_factory=list)
    listed: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    problem: Optional[LifeboatError] = None
    mirrored: Mirrored = field(default_factory=Mirrored)

    def as_dict(self) -> dict[str, object]:
        return {
            "received": self.received,
            "waiting": self.waiting,
            "strange": [{"what": item.what, "why": item.why} for item in self.strange],
            "listed": self.listed,
            "bytes": self.bytes,
            "stopped": str(self.problem) if self.problem else "",
            **self.mirrored.as_dict(),
        }

    def lines(self) -> list[str]:
        return [
            *(f"received  {identity}" for identity in self.received),
            *(f"waiting   {identity}: what it names is not here" for identity in self.waiting),
            *(f"STRANGE   {item.what}: {item.why}" for item in self.strange),
            *(f"made      {identity}" for identity in self.mirrored.created),
            f"{len(self.received)} received, {human(self.bytes)}",
        ]


def reach(keeper: KeeperSettings, *, store: bool = False) -> Source:
    """Open the stack's repository to read it. store: and a way to its object store."""
    one = keeper.source
    budget = Budget(keeper.timeout, keeper.stall, parse_rate(keeper.bandwidth))
    if one.mounted:
        return Directory(Path(one.mounted), budget)
    forward, url = objects.way(keeper.store) if store else ("", "")
    argv = command(one.host, one.port, one.user, one.identity_file, one.known_hosts, forward)
    return Sftp(argv, f"{one.user}@{one.host}", one.directory, budget, url)


def pull(run: Opened, source: Source, *, log: Log, override: int = 0) -> Pulled:
    """Receive what is new, and mirror the object store as of it. override: so many objects there may be removed or
    overwritten beyond the limit. The caller holds the stack's lock. What ended it early is in `problem`, not raised.

    Raises where nothing could be begun: a log that was changed, a clock that went back, a directory that is not there.
    """
    directory = Path(run.config.keeper.directory)
    if not directory.is_dir():
        remedy = "Run the role vault_keeper on this host, or mount the disk."
        raise UsageError(_PULL, str(directory), "the keeper's directory is not there", remedy)
    receipts, began = receipts_file.load(directory, repair=True), clock.now()
    receipts.require_clock(began)
    for name in (Path(run.config.keeper.repository).name, INCOMING, QUARANTINE):
        with explained("make the keeper's directory", directory / name):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
    unfinished.begin(directory, began)
    work = _Pull(run, source, receipts, began, log)
    try:
        work.run()
    except LifeboatError as exc:
        work.done.problem = exc
    else:
        work.done.mirrored = objects.bring(run, source, receipts, override=override, log=log)
    work.end()
    unfinished.end(directory)
    return work.done


def unreached(run: Opened, problem: LifeboatError) -> None:
    """Put on record that the stack's host could not be reached: that is an alarm at once. The caller holds the lock."""
    directory = Path(run.config.keeper.directory)
    receipts, now = receipts_file.load(directory, repair=True), clock.now()
    receipts.append(Record(0, now, "", "pulled", began=now, stopped=problem.cause[:500]), now)
    unfinished.end(directory)


class _Pull:
    """One pull, as far as it came."""

    def __init__(self, run: Opened, source: Source, receipts: Receipts, began: datetime, log: Log) -> None:
        self._run, self._source, self._receipts, self._began, self._log = run, source, receipts, began, log
        self._keeper = run.config.keeper
        self._repo: Repository = repositories.repository_of(run)
        self._directory = Path(self._keeper.directory)
        self._marker = self._refused = ""
        self._used = 0
        self.done = Pulled()

    def run(self) -> None:
        self._check_marker()
        self._adopt()
        folders = {**self._repo.folders, **self._keeper.source.folders}
        self._used = used(self._directory)
        fresh: list[str] = []
        for component in [*self._published, *bases(self._run.config)]:
            fresh += [name for name in self._listed(component, folders[component]) if self._is_new(name, folders)]
        self._compare_spans(folders)
        tied = [name for name in self._points() if self._is_new(name, folders)]
        if self._sweep(fresh):
            self._used = used(self._directory)
        # A point comes after what it names; of each kind the newest first, where the time does not do for all.
        for identity in [*self._within_rate(fresh), *self._within_rate(tied)]:
            try:
                self._receive(identity, folders)
            except NotFoundError:
                continue  # it is being published, or the host's retention was faster
            except (IntegrityError, UsageError) as exc:
                self._strange(identity, exc.cause)
                shutil.rmtree(self._directory / INCOMING / identity, ignore_errors=True)

    @property
    def _published(self) -> list[str]:
        return received(self._run.config)

    def _points(self) -> list[str]:
        return self._listed("", POINTS) if len(self._published) == len(KINDS) else []

    def end(self) -> None:
        """Put on record what was seen, whether it was all or not."""
        few, more = bounded(self.done.strange)
        problem = self.done.problem
        self._receipts.append(
            Record(
                0, self._began, "", "pulled", began=self._began, listed=self.done.listed, repository=self._marker,
                strange=few, more=more, stopped=problem.cause[:500] if problem else "",
                full=isinstance(problem, SpaceError), refused=self._refused, unmirrored=self.done.mirrored.why[:500],
                store_key=self.done.mirrored.rights,
            ),
            clock.now(),
        )  # fmt: skip

    def _compare_spans(self, folders: Mapping[str, str]) -> None:
        """Spans of WAL are followed every minute (follow.py). Here those that are whole are seen to be what they were,
        but for what the keeper itself closed."""
        for identity in self._listed(WAL, folders.get(WAL, WAL)) if self._run.config.wal.enabled else ():
            held = self._stored_document(identity)
            if held and parse(held, component=WAL, expected_id=identity).detailed(WalDetails).closed_by == "host":
                self._is_new(identity, folders)
        for component in CONTINUOUS:  # how many there are follows the host's proofs of its bases, by jumps
            self.done.listed.pop(component, None)

    # What there is.

    def _check_marker(self) -> None:
        """Whose repository it is, and whether it is the one of the last pull."""
        try:
            found = marker_of(self._source.read((MARKER,), MARKER_MOST))
        except NotFoundError:
            found = None  # made before there were markers
        except IntegrityError as exc:
            found = None
            self._strange(MARKER, exc.cause)
        if found and found.stack != self._run.config.stack:
            cause = f"its marker names the stack {printable(found.stack)[:80]}"
            remedy = "Nothing was received. If the stack was renamed, set up a keeper for the new name."
            raise UsageError(_PULL, self._source.location, cause, remedy)
        marker, known = found.repository[:64] if found else "", self._receipts.repository
        if known and marker not in (known, *self._receipts.accepted):
            self._refused = marker or NO_MARKER
            cause = "the stack has another repository than at the last pull"
            self._strange(MARKER, cause)
            remedy = (
                "Nothing was received. Is the backup disk of the stack mounted? If the repository was replaced for"
                " good: lifeboat keeper acknowledge --why '...', and pull again."
            )
            raise UsageError(_PULL, self._source.location, cause, remedy)
        self._marker = marker

    def _adopt(self) -> None:
        """Write the receipt of what an operator put into the keeper's repository: it is here since now."""
        kinds = [component for component in (*KINDS, *CONTINUOUS) if component in self._repo.folders]
        held = [*(name for component in kinds for name in self._repo.published(component)), *self._repo.points()]
        for identity in held:
            if identity not in self._receipts.received:
                record = Record(
                    0, self._began, "", "received", identity, filesystem.sha256(self._stored_document(identity) or b"")
                )
                self._receipts.append(record, clock.now())

    def _listed(self, component: str, folder: str) -> list[str]:
        """Return the ids there, oldest first. component: empty for recovery points."""
        most = self._keeper.limits.names
        found = []
        for name in self._source.names(folder, most):
            identity = name if component else name.removesuffix(".json")
            known = bool(component and ID.fullmatch(name)) or bool(
                name.endswith(".json") and POINT_ID.fullmatch(identity)
            )
            if "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
                self._strange(f"{folder}: {_short(name)}", "no file can have that name")
            elif known and clock.stamped(identity) is None:
                self._strange(f"{folder}: {_short(name)}", "it is dated by a day that does not exist")
            elif known and component and _component(identity) != component:
                self._strange(f"{folder}: {_short(name)}", f"it is not a backup of {component}")
            elif known:
                found.append(identity)
        self.done.listed[component or "points"] = 0  # they count when each is seen to be one
        return found

    def _counts(self, identity: str) -> None:
        """The host has it, whole and as it was, and its date is no lie: a name alone is no backup."""
        receipt = self._receipts.received.get(identity)
        if receipt and not receipt.late:
            kind = "points" if points.is_id(identity) else component_of(identity)
            self.done.listed[kind] = self.done.listed.get(kind, 0) + 1

    def _is_new(self, identity: str, folders: Mapping[str, str]) -> bool:
        """Return whether it is to be fetched. What was ever received stays as it was: other bytes are an alarm."""
        receipt = self._receipts.received.get(identity)
        held = self._stored_document(identity)
        if receipt is None:
            return True
        try:
            data = self._source.read(_document(identity, folders), self._keeper.limits.manifest_bytes)
        except NotFoundError:
            return False
        except IntegrityError as exc:
            self._strange(identity, f"the keeper has it, and there {exc.cause}")
            return False
        if filesystem.sha256(data) != receipt.digest:
            self._strange(identity, "the keeper has it with other bytes")
            self._put_aside(identity, data)
            return False
        self._counts(identity)
        return held is None and identity not in self._receipts.pruned

    def _stored_document(self, identity: str) -> Optional[bytes]:
        try:
            if points.is_id(identity):
                return self._repo.read_point(identity)
            return self._repo.manifest(component_of(identity), identity)
        except NotFoundError:
            return None

    def _within_rate(self, fresh: Sequence[str]) -> list[str]:
        """As many as may come since the last pull, the newest first; those that take a place in the retention before
        those that do not."""
        last = self._receipts.last_whole
        most = self._keeper.limits.names
        if last:
            days = math.ceil((self._began - last.at) / timedelta(days=1))
            most = self._keeper.limits.per_day * max(1, days)
        ordered = sorted(fresh, key=lambda identity: (not self._late(identity), identity[-15:]), reverse=True)
        if len(ordered) > most:
            self._strange(
                f"{len(ordered) - most} new ids", f"more than {most} since the last pull; they are not fetched"
            )
        return ordered[:most]

    def _late(self, identity: str) -> str:
        """Why an id takes no place in the retention; empty where it does. At the first pull nothing is known of what
        was published when."""
        moment, last = clock.stamped(identity), self._receipts.last_whole
        if moment is None or moment > self._began + TOLERANCE:
            return f"it is dated after now, which is {format_time(self._began)}"
        since = last.began if last else None
        if since and moment < since - timedelta(hours=self._keeper.tolerance_hours):
            return f"it is dated long before the last pull, of {format_time(since)}, and was not there then"
        return ""

    # What comes.

    def _receive(self, identity: str, folders: Mapping[str, str]) -> None:
        data = self._source.read(_document(identity, folders), self._keeper.limits.manifest_bytes)
        if too_many_values(data):
            raise IntegrityError(_PULL, identity, f"it has more than {_NODES} values")
        if points.is_id(identity):
            self._receive_point(identity, data)
            return
        component = component_of(identity)
        manifest = parse(data, component=component, expected_id=identity)
        why = refusal(manifest, self._run.config.stack, self._keeper.limits, most(self._keeper))
        if why:
            raise IntegrityError(_PULL, identity, why)
        began = clock.now()
        folder = self._begin(identity, data, manifest)
        with progress.going(progress.Gauge(identity, manifest.size)) as gauge:
            for artefact in manifest.artefacts:
                parts = (folders[component], identity, *artefact.name.split("/"))
                self._fetch(identity, parts, artefact, folder, gauge)
        with self._repo.stage(component, identity) as staging:
            for artefact in manifest.artefacts:
                with explained("place the backup", folder / artefact.name):
                    (staging.path / artefact.name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    (folder / artefact.name).rename(staging.path / artefact.name)
            self._note(identity, data, self._late(identity) or _apart(identity, manifest))
            staging.publish(data)
        shutil.rmtree(folder, ignore_errors=True)
        self._used += cost_of(manifest) + cost(len(data))
        same = f"{len(manifest.artefacts)} artefacts, {manifest.size} bytes, compared as they came"
        checks = (Check("manifest", PASS, f"sealed {manifest.seal[:12]}, schema 1"), Check("checksums", PASS, same))
        verify.keep(self._run, self._repo, manifest, Result(identity, "checksum", checks, began, clock.now()))
        self._log(f"{identity}: received, {human(manifest.size)}")

    def _receive_point(self, identity: str, data: bytes) -> None:
        point = points.parse(data, expected_id=identity)
        if point.stack != self._run.config.stack:
            raise IntegrityError(_PULL, identity, f"it is of the stack {printable(point.stack)[:80]}")
        for component, part in point.parts.items():
            held = self._stored_document(part.id) if component in KINDS else None
            if component in KINDS and (
                held is None or parse(held, component=component, expected_id=part.id).seal != part.seal
            ):
                self.done.waiting.append(identity)
                return
        self._room(cost(len(data)), 1)
        self._note(identity, data, self._late(identity))
        self._repo.write_point(identity, data)
        self._used += cost(len(data))
        self._log(f"{identity}: recovery point received")

    def _begin(self, identity: str, data: bytes, manifest: Manifest) -> Path:
        """Where its artefacts are put together: what an earlier pull has brought of this very backup is there."""
        folder = self._directory / INCOMING / identity
        size, nodes = cost_of(manifest) + cost(len(data)), len(manifest.artefacts) + len(_above(manifest)) + _OWN
        with explained("receive the backup", folder):
            document = folder / MANIFEST
            if filesystem.is_directory(folder) and not (document.is_file() and document.read_bytes() == data):
                shutil.rmtree(folder)
            if not folder.exists():
                self._room(size, nodes)
                folder.mkdir(mode=0o700)
                filesystem.write(document, data, folder / f"{PARTIAL}{MANIFEST}")
            else:
                self._room(size - used(folder), nodes)
        return folder

    def _room(self, size: int, nodes: int) -> None:
        require_room(self._run.config, self._used, size, nodes)

    def _fetch(
        self, identity: str, parts: tuple[str, ...], artefact: Artefact, folder: Path, gauge: progress.Gauge
    ) -> None:
        """One artefact, from where an earlier pull ended. What is there of it is hashed again, never believed."""
        size = self._source.size(parts)
        if size != artefact.size:
            raise IntegrityError(_PULL, identity, f"{artefact.name} has {size} bytes instead of {artefact.size}")
        path = folder / artefact.name
        with explained("receive the backup", path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "r+b") as file:
                digest, had = _hashed(file, artefact.size)
                gauge.add(had)
                for data in self._source.chunks(parts, had, artefact.size - had):
                    file.write(data)
                    digest.update(data)
                    had += len(data)
                    self.done.bytes += len(data)
                    gauge.write(data)
        if had != artefact.size or digest.hexdigest() != artefact.sha256:
            raise IntegrityError(_PULL, identity, f"the bytes of {artefact.name} are not those that its manifest names")

    # What is remembered.

    def _note(self, identity: str, data: bytes, late: str) -> None:
        """Before it is placed: what has no receipt was never there. A receipt counts from the first time on."""
        if late:
            self._strange(identity, late)
        if identity not in self._receipts.received:
            record = Record(0, self._began, "", "received", identity, filesystem.sha256(data), late)
            self._receipts.append(record, clock.now())
        self.done.received.append(identity)
        self._counts(identity)

    def _strange(self, what: str, why: str) -> None:
        item = strange(what, why)
        self.done.strange.append(item)
        if len(self.done.strange) <= 20:
            self._log(f"STRANGE: {item.what}: {item.why}")

    def _put_aside(self, identity: str, data: bytes) -> None:
        """Keep what came under an id that is taken, for inquiry, and not without end."""
        with contextlib.suppress(SpaceError):
            self._room(cost(len(data)), 1)
            self._used += cost(len(data)) if put_aside(self._directory, identity, data) else 0

    def _sweep(self, fresh: Sequence[str]) -> bool:
        """Remove what was on its way and is no longer there to be fetched. Whether there was any."""
        gone = [path for path in (self._directory / INCOMING).iterdir() if path.name not in fresh]
        for path in gone:
            with explained("remove what was on its way", path):
                filesystem.remove(path)
        return bool(gone)


def put_aside(directory: Path, identity: str, data: bytes) -> bool:
    """Keep a document that is strange, for inquiry; False where it is there, or enough of them are."""
    folder = directory / QUARANTINE
    path = folder / f"{identity}-{filesystem.sha256(data)[:16]}.json"
    with explained("put the document aside", path):
        if path.exists() or sum(1 for _entry in folder.iterdir()) >= _QUARANTINED:
            return False
        filesystem.write(path, data, folder / f"{PARTIAL}{path.name}")
    return True


def strange(what: str, why: str) -> Strange:
    """As the log takes it: the host chose the words."""
    return Strange(_short(what), printable(why)[:300])


def too_many_values(data: bytes) -> bool:
    """Whether a document would take too much memory."""
    return sum(map(data.count, (b"[", b"{", b","))) > _NODES


def most(keeper: KeeperSettings) -> int:
    """Bytes that one backup may have."""
    return _bytes(keeper.limits.backup or keeper.quota)


def bases(config: Config) -> list[str]:
    """What leads to the WAL that is followed."""
    return [BASE] if config.wal.enabled else []


def received(config: Config) -> list[str]:
    """Return the components that the host publishes: what the keeper makes itself it takes from nobody."""
    own = bool(config.objects.bucket)
    return [name for name, kind in KINDS.items() if not (own and kind.elsewhere)]


def refusal(manifest: Manifest, stack: str, limits: LimitSettings, most: int) -> str:
    """Return why a backup is not fetched at all; empty where it is. Pure."""
    if manifest.stack != stack:
        return f"it is of the stack {printable(manifest.stack)[:80]}"
    if too_large := _too_large(manifest, limits, most):
        return too_large
    names = {artefact.name for artefact in manifest.artefacts}
    if len(names) != len(manifest.artefacts):
        return "it names a file twice"
    for artefact in manifest.artefacts:
        why = _name_problem(artefact.name, limits)
        above = artefact.name.rpartition("/")[0]
        while not why and above:
            why = "a file and a folder have one name" if above in names else ""
            above = above.rpartition("/")[0]
        if not why and not _SHA256.fullmatch(artefact.sha256):
            why = "its checksum is no SHA-256"
        if why:
            return f"{_short(artefact.name)}: {why}"
    return ""


def _too_large(manifest: Manifest, limits: LimitSettings, most: int) -> str:
    if len(manifest.artefacts) > limits.files:
        return f"it has {len(manifest.artefacts)} files, more than {limits.files}"
    if manifest.size > most:
        return f"it has {human(manifest.size)}, more than {human(most)}"
    if cost_of(manifest) > most:
        return f"with its {len(manifest.artefacts)} files it takes {human(cost_of(manifest))}, more than {human(most)}"
    if len(json.dumps([manifest.details, manifest.tool])) > _DETAILS:
        return f"its details have more than {human(_DETAILS)}"
    return ""


def _name_problem(name: str, limits: LimitSettings) -> str:
    try:
        plain_name(name)
    except UsageError as exc:
        return exc.cause
    first = name.partition("/")[0]
    if first in (MANIFEST, *RECORDS) or CLAIM.fullmatch(first) or first.startswith(PARTIAL):
        return "that name is the repository's own"
    if len(name.encode()) > limits.name_bytes or max(len(part.encode()) for part in name.split("/")) > 255:
        return "the name is too long"
    return f"it is nested more than {limits.depth} levels deep" if name.count("/") > limits.depth else ""


def require_room(config: Config, used_now: int, size: int, nodes: int) -> None:
    """Raise SpaceError unless so many bytes and nodes (files and folders) may come, beside what is used."""
    directory = Path(config.keeper.directory)
    quota = _bytes(config.keeper.quota)
    if used_now + size > quota:
        raise SpaceError(
            _PULL, config.stack,
            f"its quota of {human(quota)} is full: {human(used_now)} are used, {human(size)} would come",
            "Raise keeper.quota, or look at what came: lifeboat keeper status. Other stacks are pulled as before.",
        )  # fmt: skip
    with explained("measure the free space", directory):
        free = filesystem.free(directory)
    if size > free - free // 20:
        cause = f"{human(free)} are free, {human(size)} would come"
        raise SpaceError(_PULL, str(directory), cause, "Free space on the keeper's disk.")
    with explained("measure the free inodes", directory):
        disk = os.statvfs(directory)
    if disk.f_files and nodes > disk.f_favail - disk.f_files // 20:
        cause = f"{disk.f_favail} inodes are free, {nodes} would be taken"
        raise SpaceError(_PULL, str(directory), cause, "Delete small files on the keeper's disk (df -i).")


def used(directory: Path) -> int:
    """Return what the directory and everything below takes of a quota."""
    total = 0
    with explained("measure what is kept", directory):
        for _folder, _below, names, handle in os.fwalk(directory):
            total += cost(os.fstat(handle).st_size)
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # what a follower is writing has another name by now
                    total += cost(os.stat(name, dir_fd=handle, follow_symlinks=False).st_size)
    return total


def cost(size: int) -> int:
    """Return what a file or folder of that size takes of a quota. One that is empty takes an inode, of which ext4 has
    one for 16 KiB of the disk; so quotas that fit the disk fit its inodes too."""
    return max(_NODE, -(-size // _BLOCK) * _BLOCK)


def cost_of(manifest: Manifest) -> int:
    """Return what a backup takes of a quota, but its manifest."""
    folders = len(_above(manifest)) + _OWN
    return sum(cost(artefact.size) for artefact in manifest.artefacts) + folders * _NODE


def _above(manifest: Manifest) -> set[str]:
    """Return the folders that its artefacts' names have."""
    found: set[str] = set()
    for artefact in manifest.artefacts:
        above = artefact.name.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _apart(identity: str, manifest: Manifest) -> str:
    """Whether a manifest says another time than its id does."""
    moment = clock.stamped(identity)
    if moment is None or abs(manifest.taken_at - moment) <= timedelta(days=1):
        return ""
    return f"its manifest is dated {format_time(manifest.taken_at)}"


def _component(identity: str) -> str:
    try:
        return component_of(identity)
    except UsageError:
        return ""


def _document(identity: str, folders: Mapping[str, str]) -> tuple[str, ...]:
    if points.is_id(identity):
        return POINTS, f"{identity}.json"
    return folders[component_of(identity)], identity, MANIFEST


def _hashed(file: BinaryIO, most: int) -> tuple[hashlib._Hash, int]:
    """Return the SHA-256 so far of what an earlier pull brought, and how much it is; the file stands at its end."""
    digest, had = hashlib.sha256(), 0
    while had < most and (data := file.read(min(filesystem.CHUNK, most - had))):
        digest.update(data)
        had += len(data)
    file.truncate(had)
    file.seek(had)
    return digest, had


def _bytes(text: str) -> int:
    return int(parse_rate(text))


def _short(name: str) -> str:
    text = printable(name)
    return text if len(text) <= 120 else f"{text[:117]}..."


__all__ = ["INCOMING", "QUARANTINE", "BoundError", "Pulled", "pull", "reach", "refusal", "unreached", "used"]
