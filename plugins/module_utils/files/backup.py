# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of the directories that an application keeps files in.

listing.zst       every file, directory and link, of all sources
pack-<n>.tar.zst  the contents that changed since the last backup; the others are in the packs of earlier backups

With recipients both end in .age too. What the file system says of a file tells whether it changed; a thirtieth of what
did not is read again all the same, so that silent damage is found while a good copy exists.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Optional, Union

from ..base import filesystem, progress, typed
from ..base.errors import LifeboatError, Log, UsageError, printable
from ..base.filesystem import STALE
from ..base.text import human
from ..base.version import VERSION
from ..recovery import state as recovery_state
from ..repository import catalog, repositories
from ..repository.components import KINDS
from ..repository.details import FEW_FILES, FilesDetails, HeldFiles, Pack
from ..repository.manifest import Artefact, Manifest
from ..stack import standstill
from ..stack.runtime import Opened
from ..tools import age
from . import contents, packs, sources, walk
from .listing import LISTING, Entry, Rest, Row, Rows, Writer, order_of, status_of
from .packs import AGAIN, FILES, Packing, listed
from .rewrites import Rewrites
from .sources import Directory
from .walk import Node, Problems

_TRIES = 3
_NOTHING = filesystem.sha256(b"")
_SMALL = 4 << 20  # bytes of a file that is read whole, before any of it is written


def take(run: Opened, *, log: Log, override: bool = False) -> Manifest:
    """Take one backup of every source and publish it. The caller holds the stack's lock.

    override: an operator says that what is there is right, however much less it is. Raises LifeboatError; whatever
    fails, nothing is published, earlier backups stay as they were, and what was paused goes on. A file that could not
    be read stops nothing: the manifest names it, and `lifeboat status` fails.
    """
    config = run.config
    recovery_state.refuse_while_unfinished(config, "start a backup", (recovery_state.RECOVERING_FILES,))
    started, taken_at = time.monotonic(), datetime.now(timezone.utc)
    repo = repositories.repository_of(run)
    repo.check(writable=True)
    repo.sweep(older_than=STALE, now=taken_at)
    directories = sources.directories(run)
    seal = age.sealing(config, log)
    earlier = _Earlier(run, seal, log)
    identity = catalog.free_id(repo, FILES, taken_at)
    with repo.stage(FILES, identity) as staging, filesystem.explained("write the backup", staging.path):
        with Packing(staging.path, identity, earlier.next, seal) as packing:
            name = seal.named(LISTING)
            with (
                packs.compressed(staging.path / name, seal, f"{identity}/{name}") as (sink, hashed),
                earlier.lines() as lines,
                earlier.reference_lines() as reference_lines,
            ):
                work = _Work(earlier, packing, Writer(sink), staging.path, taken_at, log, lines, reference_lines)
                # The last backup is the best guess of how much it is.
                size = sum(source.bytes for source in earlier.details.sources.values())
                gauge = progress.Gauge(identity, size, about=True, meter=work.bytes)
                with progress.going(gauge):
                    found = {each.name: work.source(run, each) for each in directories}
        held = {name: one for name, (one, _same) in found.items()}
        if not override:
            _refuse_emptied(earlier, held, config.stack)
            _refuse_another_disk(earlier, found, config.stack)
        details = FilesDetails(
            host=socket.gethostname(), sources=held, packs=(*earlier.left(work.alive), *packing.finished),
            previous=earlier.id, reference=earlier.reference_id, accepted=override,
            recipients=seal.recipients, host_key=seal.host, seconds=round(time.monotonic() - started, 2),
        )  # fmt: skip
        listed = Artefact(name, hashed.size, hashed.sha256)
        manifest = Manifest(
            id=identity, component=FILES, stack=config.stack, taken_at=taken_at,
            finished_at=datetime.now(timezone.utc), tool={"lifeboat": VERSION}, details=typed.plain(details),
            artefacts=tuple(sorted((listed, *packing.artefacts), key=lambda artefact: artefact.name)),
        )  # fmt: skip
        manifest = repositories.publish(run, manifest, staging.publish)
    log(f"{identity}: published, {human(manifest.size)} in {details.seconds} s")
    for words in KINDS[FILES].lacks(details):
        log(f"WARNING: {words}")
    return manifest


def _refuse_emptied(earlier: _Earlier, now_held: Mapping[str, HeldFiles], stack: str) -> None:
    """A volume that was emptied, and a mount that failed, back up without an error."""
    for name, now in now_held.items():
        before = earlier.reference.sources.get(name)
        if before is None:
            continue
        if before.mounted and not now.mounted and before.path == now.path:
            since = earlier.reference_id
            cause = f"{before.path} is not a mount point any more, as it was in {since}: its disk is not mounted"
        elif before.files > FEW_FILES and 2 * now.files < before.files:
            cause = f"{name} holds {now.files} files, and in {earlier.reference_id} {before.files}"
        else:
            continue
        raise UsageError(
            "back up the files", f"{stack}: {name}", cause,
            "Look what became of them; lifeboat.dr.recover_files brings them back. If it is right:"
            " lifeboat backup files --override.",
        )  # fmt: skip


def _refuse_another_disk(earlier: _Earlier, now_held: Mapping[str, tuple[HeldFiles, int]], stack: str) -> None:
    """A disk of another machine, or an older copy of this one, mounts without an error too. One to which the files
    were moved holds what they held."""
    for name, (now, same) in now_held.items():
        before = earlier.reference.sources.get(name)
        if before is None or not before.disk or not now.disk or before.disk == now.disk:
            continue
        if before.files > FEW_FILES and 2 * same < before.files:
            raise UsageError(
                "back up the files", f"{stack}: {name}",
                f"{now.path} is on another disk ({now.disk}) than in {earlier.reference_id} ({before.disk}), and of"
                f" the {before.files} files of then it has {same} as they were",
                "Mount the right one. If it is right: lifeboat backup files --override.",
            )  # fmt: skip


class _Earlier:
    """The newest backup that holds all: what did not change since is not stored again. reference: the newest that is
    good, too, so that nobody has to look at it first; what is found now is compared with that."""

    def __init__(self, run: Opened, seal: age.Seal, log: Log) -> None:
        self._repo, self._keys, self._log = repositories.repository_of(run), age.keys(run.config, run.key), log
        entries = catalog.entries(self._repo, FILES, run.config.stack)
        good = catalog.good(entries)
        held = [entry.manifest for entry in entries if entry.sound and entry.manifest]
        self._manifest: Optional[Manifest] = held[-1] if held else None
        self._reference = good[-1] if good else self._manifest
        self.details = self._manifest.detailed(FilesDetails) if self._manifest else FilesDetails()
        self.reference = self._reference.detailed(FilesDetails) if self._reference else FilesDetails()
        self.id = self._manifest.id if self._manifest else ""
        self.reference_id = self._reference.id if self._reference else ""
        self.next = 1 + max((pack.number for pack in self.details.packs), default=0)
        self.usable = self._usable(sorted(seal.recipients))

    def _usable(self, recipients: Sequence[str]) -> dict[int, Pack]:
        """The packs that tonight's backup may refer to: by number. Of one that is mostly dead the living go into new
        ones, and so they do where there would be too many, or where it is encrypted for others."""
        found: dict[int, Pack] = {}
        good: dict[str, bool] = {}
        for pack in sorted(self.details.packs, key=lambda pack: pack.bytes, reverse=True):
            if 2 * pack.bytes < pack.all_bytes or len(found) >= packs.MOST:
                continue
            if pack.backup not in good:
                good[pack.backup] = catalog.entry(self._repo, FILES, pack.backup).sound
            if good[pack.backup] and sorted(pack.recipients) == recipients:
                found[pack.number] = pack
        return found

    @contextlib.contextmanager
    def lines(self) -> Iterator[Iterator[Row]]:
        """Its listing; empty where there is none that can be opened here."""
        with contextlib.ExitStack() as stack:
            lines: Iterator[Row] = iter(())
            if self._manifest is not None:
                try:
                    lines = stack.enter_context(listed(self._repo, self._manifest, self._keys))
                except LifeboatError as exc:
                    self._log(
                        f"{self.id}: its listing cannot be read here, so that every file is stored again: {exc.cause}"
                    )
                    self.usable = {}
            yield lines
            for _line in lines:  # to its end, so that its programs end well
                pass

    @contextlib.contextmanager
    def reference_lines(self) -> Iterator[Optional[Iterator[Row]]]:
        """The listing of the reference; None where it is the other one, or none that can be opened here."""
        with contextlib.ExitStack() as stack:
            lines: Optional[Iterator[Row]] = None
            if self._reference is not None and self.reference_id != self.id:
                try:
                    lines = stack.enter_context(listed(self._repo, self._reference, self._keys))
                except LifeboatError as exc:
                    self._log(f"{self.reference_id}: its listing cannot be read here: {exc.cause}")
            yield lines
            for _line in lines or ():
                pass

    def left(self, alive: Mapping[int, list[int]]) -> list[Pack]:
        """The packs that tonight's backup refers to, and how much of each it does."""
        return [
            replace(pack, files=alive[number][0], bytes=alive[number][1])
            for number, pack in sorted(self.usable.items())
            if number in alive
        ]


@dataclass
class _Counts:
    """What is counted of one source."""

    files: int = 0
    bytes: int = 0
    entries: int = 0
    changed: int = 0
    changed_bytes: int = 0
    databases: int = 0
    rewrites: Rewrites = field(default_factory=lambda: Rewrites(0))
    skipped: Problems = field(default_factory=Problems)
    torn: Problems = field(default_factory=Problems)
    damaged: Problems = field(default_factory=Problems)


class _Cursor:
    """Goes through a listing beside a walk, which is in the same order."""

    def __init__(self, lines: Iterator[Row]) -> None:
        self._lines = lines
        self._unchanged = lines.unchanged if isinstance(lines, Rows) else None
        self._ahead: Optional[Row] = None
        self.passed: Callable[[Row], None] = lambda row: None

    def at(self, path: str, status: str) -> Optional[Row]:
        """The line of that path, which has that status if nothing changed. What comes before it was not found."""
        if self._ahead is None and self._unchanged and (same := self._unchanged(path, status)) is not None:
            return same
        while (row := self._next()) is not None:
            if row.path == path:
                self._ahead = None
                return row
            if row.order > order_of(path):
                return None
            self._ahead = None
            self.passed(row)
        return None

    def leave(self, source: str) -> None:
        """The walk through a source is over: nothing else of it was found."""
        while (row := self._next()) is not None and row.path.partition("/")[0] <= source:
            self._ahead = None
            self.passed(row)

    def _next(self) -> Optional[Row]:
        if self._ahead is None:
            self._ahead = next(self._lines, None)
        return self._ahead


class _Work:
    """One backup in the making."""

    def __init__(
        self, earlier: _Earlier, packing: Packing, listing: Writer, folder: Path, now: datetime, log: Log,
        lines: Iterator[Row], reference_lines: Optional[Iterator[Row]],
    ) -> None:  # fmt: skip
        self.alive: dict[int, list[int]] = {}
        self._earlier, self._packing, self._listing, self._folder, self._log = earlier, packing, listing, folder, log
        self._turn = now.toordinal() % AGAIN
        self._cursor = _Cursor(lines)
        self._reference = _Cursor(reference_lines) if reference_lines is not None else self._cursor
        self._names: dict[tuple[int, int], str] = {}  # of files with several names, the first
        self._through = 0  # bytes of the sources that are done
        self._counts = _Counts()
        self._uncopied: set[str] = set()  # databases of which SQLite made no copy
        self._standing = False  # does who writes there stand still?

    def bytes(self) -> int:
        """Return how much of the sources is through."""
        return self._through + self._counts.bytes

    def source(self, run: Opened, directory: Directory) -> tuple[HeldFiles, int]:
        """What is held of it, and how many of the files have the content that they have in the reference."""
        self._through += self._counts.bytes
        counts = self._counts = _Counts()
        counts.rewrites = Rewrites(self._earlier.reference.sources.get(directory.name, HeldFiles("")).files)
        self._reference.passed = counts.rewrites.gone
        self._names = {}
        source = directory.source
        how = standstill.STOP if source.consistency == standstill.STOP else standstill.PAUSE
        with standstill.still(run, directory.paused, how, source.limit, self._log) as still:
            mounted = filesystem.is_mounted(Path(directory.path))
            self._standing = bool(still.services)
            with filesystem.explained("read the files", directory.path):
                for node in walk.walk(directory.path, directory.name, counts.skipped, walk.excluder(source.exclude)):
                    self._add(node)
                self._cursor.leave(directory.name)
                self._reference.leave(directory.name)
        kept = "live" if still.late else source.consistency
        if still.late:
            self._log(f"{directory.name}: {source.limit} s were not enough, so that it is of no one instant")
        compared, rewritten = self._rewritten(directory.name)
        held = HeldFiles(
            directory.path, directory.volume, counts.files, counts.bytes, counts.entries, counts.changed,
            counts.changed_bytes,
            counts.databases, kept, still.services, still.seconds, mounted, counts.skipped.first, counts.skipped.count,
            tuple(counts.torn.first), counts.torn.count, tuple(counts.damaged.first), counts.damaged.count,
            filesystem.disk_of(Path(directory.path)), compared, rewritten,
        )  # fmt: skip
        return held, counts.rewrites.same

    def _rewritten(self, source: str) -> tuple[int, int]:
        """Of how many files of the reference how many were rewritten. As an earlier backup says where the reference
        cannot be read here: that nothing changed since then makes nothing good."""
        before = self._earlier
        if self._reference is self._cursor and before.reference_id != before.id:
            held = before.details.sources.get(source, HeldFiles(""))
            return held.compared, held.rewritten
        return before.reference.sources.get(source, HeldFiles("")).files, self._counts.rewrites.count

    def _add(self, node: Node) -> None:
        counts, status = self._counts, status_of(node.status)
        before = self._cursor.at(node.path, status)
        reference = before if self._reference is self._cursor else self._reference.at(node.path, status)
        try:
            same = before is not None and before.status == status
            if stat.S_ISREG(node.status.st_mode):
                entry = self._file(node, status, before if same else None)
            elif same and before is not None:
                entry = before
            else:
                entry = self._other(node, status)
        except FileNotFoundError:
            return  # it went meanwhile
        except OSError as exc:
            counts.skipped.add(node.path, exc)
            return
        if entry is None:
            return
        if entry is reference:
            counts.rewrites.same += bool(entry.digest)
        elif self._earlier.reference_id:
            counts.rewrites.compare(reference, entry.digest, node)
        counts.entries += 1
        if isinstance(entry, Row):
            self._listing.again(entry)
        else:
            self._listing.add(entry)

    def _other(self, node: Node, status: str) -> Entry:
        """A directory, a link, or what holds nothing."""
        is_link = stat.S_ISLNK(node.status.st_mode)
        target = os.readlink(node.name, dir_fd=node.at) if is_link else ""
        return Entry(node.path, status, 0, Rest(target=target, xattrs=walk.xattrs(node.at, node.name)))

    def _file(self, node: Node, status: str, same: Optional[Row]) -> Union[Entry, Row, None]:
        counts = self._counts
        first = self._first_name(node)
        if first:
            counts.files += 1
            return Entry(node.path, status, 0, Rest(link=first))
        if node.name.endswith(contents.BESIDE) and self._beside_database(node):
            return None  # the copy of that has what is in it
        if same is not None and (entry := self._unchanged(node, same)) is not None:
            return entry
        return self._stored(node)

    def _first_name(self, node: Node) -> str:
        if node.status.st_nlink < 2:
            return ""
        key = (node.status.st_dev, node.status.st_ino)
        first = self._names.setdefault(key, node.path)
        return "" if first == node.path else first

    def _beside_database(self, node: Node) -> bool:
        """Is it what SQLite keeps beside a database of which a copy was made?"""
        ending = next(suffix for suffix in contents.BESIDE if node.name.endswith(suffix))
        main = node.name[: -len(ending)]
        if node.path[: -len(ending)] in self._uncopied:
            return False
        with contextlib.suppress(OSError), filesystem.open_at(node.at, main) as file:
            return contents.is_database(file.fileno())
        return False

    def _unchanged(self, node: Node, row: Row) -> Union[Entry, Row, None]:
        """The row of a file that is as it was; None where its content has to be stored."""
        pack = self._earlier.usable.get(row.pack)
        if pack is None and (row.pack or node.status.st_size):
            return None
        if node.status.st_size and zlib.crc32(row.text.encode()) % AGAIN == self._turn:
            rest = row.entry.rest
            if rest.database:
                return None
            with filesystem.open_at(node.at, node.name) as file:
                now = contents.digest(file.fileno(), node.status.st_size, sparse=rest.sparse)
                if now != rest.sha256 and status_of(os.fstat(file.fileno())) == row.status:
                    self._counts.damaged.add(node.path, "its bytes are other ones, and nothing else says so")
                if now != rest.sha256:
                    return None
        elif b'"database"' in row.raw and self._log_has_rows(node):
            return None
        self._count(node.status.st_size)
        if pack is not None:
            alive = self.alive.setdefault(pack.number, [0, 0])
            alive[0] += 1
            alive[1] += node.status.st_size
        return row

    @staticmethod
    def _log_has_rows(node: Node) -> bool:
        """May rows of a database lie in its write-ahead log, while its own file is as it was?"""
        with contextlib.suppress(OSError):
            return os.stat(f"{node.name}-wal", dir_fd=node.at, follow_symlinks=False).st_size > 0
        return False

    def _count(self, size: int) -> None:
        self._counts.files += 1
        self._counts.bytes += size

    def _stored(self, node: Node) -> Entry:
        counts = self._counts
        handle, before = filesystem.plain_at(node.at, node.name)
        try:
            xattrs = walk.attributes(handle, follow=True)
            if contents.is_database(handle):
                entry = self._database(node, xattrs)
                if entry is not None:
                    return entry
                before = os.fstat(handle)
            for left in reversed(range(_TRIES)):
                status = status_of(before)
                stored = self._content(node.path, handle, before, xattrs)
                after = os.fstat(handle)
                if status == status_of(after):
                    break
                if not left:
                    counts.torn.add(node.path, f"it changed whenever it was read, {_TRIES} times")
                    break
                before = after
        finally:
            os.close(handle)
        self._count(before.st_size)
        counts.changed += 1
        counts.changed_bytes += before.st_size
        return stored

    def _content(self, path: str, handle: int, status: os.stat_result, xattrs: Mapping[str, str]) -> Entry:
        """Write what an open file holds into a pack, as much as its status says."""
        size, stored = status.st_size, 0
        if not size:
            return Entry(path, status_of(status), 0, Rest(_NOTHING, xattrs=xattrs))
        packing = self._packing
        number = packing.begin()
        if contents.is_sparse(status):
            digest, stored = packs.add_sparse(packing, path, status, xattrs, handle)
        elif size <= _SMALL:
            data = os.pread(handle, size, 0)
            data = data if len(data) == size else data.ljust(size, b"\0")
            digest = filesystem.sha256(data)
            packing.add(packs.header(path, status, size, xattrs), size, (data,))
        else:
            digest = packs.add_large(packing, path, status, xattrs, handle, size)
        return Entry(
            path, status_of(status), number, Rest(digest, sparse=bool(stored), stored=stored, xattrs=xattrs)
        )  # fmt: skip

    def _database(self, node: Node, xattrs: Mapping[str, str]) -> Optional[Entry]:
        """A copy that SQLite makes; None where it cannot, so that the file itself is stored."""
        target = self._folder / ".database"
        try:
            contents.copy_database(node.at, node.name, target)
        except LifeboatError as exc:
            target.unlink(missing_ok=True)
            self._log(f"{printable(node.path)}: {exc.cause}; the file is stored as it is, with what lies beside it")
            self._uncopied.add(node.path)
            if not self._standing:
                self._counts.torn.add(node.path, exc.cause)
            return None
        try:
            with target.open("rb") as file:
                made = os.fstat(file.fileno())
                number = self._packing.begin()
                digest = packs.add_large(
                    self._packing, node.path, node.status, xattrs, file.fileno(), made.st_size
                )  # fmt: skip
        finally:
            target.unlink(missing_ok=True)
        self._count(made.st_size)
        self._counts.databases += 1
        self._counts.changed += 1
        self._counts.changed_bytes += made.st_size
        words = status_of(node.status).rpartition(" ")[0]
        return Entry(node.path, f"{words} {made.st_size}", number, Rest(digest, database=True, xattrs=xattrs))
