# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a directory with a listing, and bring back what differs: next to it, compared, then in its place.

What lay in the place is moved aside, into a directory of the source's own. A file is never half written: it is there
as it was, or as it is in the backup.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Optional, Union

from ..base import filesystem, progress
from ..base.errors import LifeboatError, printable
from ..repository.base import Repository
from ..repository.details import Pack
from ..tools import age
from . import contents, packs, walk
from .listing import DEVICE, DIRECTORY, FILE, LINK, SOCKET, Entry, Row, Spool, lasting_of, order_of, status_of
from .walk import OWN, Node, Problems

MISSING, ALTERED, ATTRIBUTES, ADDITIONAL = "missing", "altered", "attributes", "additional"
UNMADE = (SOCKET, DEVICE)  # what is named and not made: a program makes its sockets, a device is no data
_NEW = f"{OWN}new"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # nothing more can be written


@dataclass(frozen=True)
class Difference:
    """path: below the name of the source. what: missing; altered, it is of another kind or has another content;
    attributes: mode, owner, time or the like; additional: the backup has none of that name. row: of the backup."""

    path: str
    what: str
    row: Optional[Row] = None


def compare(
    directory: str, source: str, lines: Iterable[Row], problems: Problems, *, left_out: Callable[[str], bool],
    scratch: Path, hashed: Callable[[Row], bool] = lambda row: True, exact: bool = True,
) -> Iterator[Difference]:  # fmt: skip
    """What of the listing differs from what is there, and what is there besides, in order; what SQLite keeps beside a
    database of the listing is none of it: rows may be in it, and put() moves it with the database. lines: those of the
    source.
    hashed: is the content of a file compared, too, that has the size and the times of the backup? exact: a database
    that is another one differs, also where SQLite finds nothing wrong with it. scratch: where there is room for a copy
    of one."""
    gone = not directory or not Path(directory).is_dir()  # a volume that is gone has no place
    here: Iterator[Node] = iter(()) if gone else walk.walk(directory, source, problems, left_out)
    seen = _Comparison(directory, problems, hashed, exact, scratch)
    found = next(here, None)
    for line in lines:
        while found is not None and found.path != line.path and order_of(found.path) < line.order:
            if not seen.is_beside(found.path):
                yield Difference(found.path, ADDITIONAL)
            found = next(here, None)
        there = found if found is not None and found.path == line.path else None
        if what := seen.differs(there, line):
            yield Difference(line.path, what, line)
        found = next(here, None) if there else found
    while found is not None:
        if not seen.is_beside(found.path):
            yield Difference(found.path, ADDITIONAL)
        found = next(here, None)


class _Comparison:
    """What a comparison has to know of entries before this one."""

    def __init__(
        self, directory: str, problems: Problems, hashed: Callable[[Row], bool], exact: bool, scratch: Path
    ) -> None:
        self._directory = directory
        self._problems, self._hashed, self._exact, self._scratch = problems, hashed, exact, scratch
        self._inodes: dict[str, int] = {}  # of files with several names that are as they were: by the first name
        self._instead = ""  # a directory in whose place something else is
        self._databases: set[str] = set()  # by path: what SQLite keeps beside them follows them in the order

    def is_beside(self, path: str) -> bool:
        """Does SQLite keep it beside a database of an earlier row?"""
        return any(path.endswith(suffix) and path[: -len(suffix)] in self._databases for suffix in contents.BESIDE)

    def differs(self, node: Optional[Node], row: Row) -> str:
        if row.database:
            self._databases.add(row.path)
        if node is None:
            if row.type in UNMADE:
                return ""
            return ALTERED if self._instead and row.path.startswith(self._instead) else MISSING
        status = status_of(node.status)
        try:
            what = "" if status == row.status and not self._hashed(row) else self._difference(node, status, row.entry)
        except OSError as exc:
            self._problems.add(node.path, exc)
            return ""
        if what == ALTERED:
            self._instead = f"{row.path}/" if row.type == DIRECTORY else self._instead
        elif not what and node.status.st_nlink > 1 and row.type == FILE:
            self._inodes.setdefault(row.path, node.status.st_ino)
        return what

    def _difference(self, node: Node, status: str, entry: Entry) -> str:
        first, rest = entry.rest.link, entry.rest
        if status.partition(" ")[0] != entry.type:
            return ALTERED
        if entry.type == LINK and os.readlink(node.name, dir_fd=node.at) != rest.target:
            return ALTERED
        if first and self._inodes.get(first) == node.status.st_ino:  # its attributes are those of the first name
            return ""
        if first:
            # The first name comes back as a file of its own: what is the name of both is missing then.
            alone = lasting_of(status) == lasting_of(entry.status) and _lacks(self._directory, first.split("/")[1:])
            return MISSING if alone else ALTERED
        if entry.type != FILE:
            xattrs = walk.xattrs(node.at, node.name)
        else:
            same, xattrs = _contents(node, entry)
            if not same and not rest.database:
                return ALTERED
            if not same and not self._exact:
                return ALTERED if contents.check_database(Path(walk.inside(node.at, node.name))) else ""
            if not same and not self._same_pages(node, entry):
                return ALTERED
            status = status if same else _with_times(status, entry.status)
        return "" if lasting_of(status) == lasting_of(entry.status) and xattrs == rest.xattrs else ATTRIBUTES

    def _same_pages(self, node: Node, entry: Entry) -> bool:
        """Is it the database of the backup, whose file its application has opened since?"""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filesystem.scratch("lifeboat-database-", self._scratch) as folder:
            return contents.copied_digest(node.at, node.name, folder / "copy") == entry.rest.sha256


def _with_times(status: str, other: str) -> str:
    """A status with the times and the size of another."""
    words, others = status.split(" "), other.split(" ")
    return " ".join([*words[:4], *others[4:]])


def _contents(node: Node, entry: Entry) -> tuple[bool, Mapping[str, str]]:
    """Has a file the content of the backup, and which attributes has it?"""
    handle, status = filesystem.plain_at(node.at, node.name)
    try:
        size, rest = status.st_size, entry.rest
        same = size == entry.size and contents.digest(handle, size, sparse=rest.sparse) == rest.sha256
        return same, walk.attributes(handle, follow=True)
    finally:
        os.close(handle)


class Placer:
    """Puts entries of a backup into a directory. top: a handle of it. aside: the name of the directory in it into which
    what is replaced is moved; empty where nothing is there to be replaced."""

    def __init__(self, directory: str, source: str, aside: str = "") -> None:
        self.top = walk.root(directory)
        self._source, self._aside = source, aside
        self._folder, self._handle = "", -1  # the last one that was opened: many entries in a row are in one
        self.moved = 0

    def __enter__(self) -> Placer:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self.top)

    def _forget(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._folder, self._handle = "", -1

    def _above(self, path: str) -> tuple[int, str]:
        """A handle of the directory that it lies in, made where it lacks, and its name there. It holds until the next
        is asked for."""
        folder, _slash, name = path.partition("/")[2].rpartition("/")
        if self._handle < 0 or folder != self._folder:
            self._forget()
            self._folder, self._handle = folder, _descended(self.top, folder.split("/") if folder else [])
        return self._handle, name or "."

    def move_aside(self, path: str) -> None:
        """What lies there goes into the directory for that; nothing where nothing does."""
        at, name = self._above(path)
        if not _exists(at, name):
            return
        there = _descended(self.top, [self._aside, *path.split("/")[1:-1]])
        try:
            target, number = name, 0
            while _exists(there, target):
                number += 1
                target = f"{name[:200]}~{number}"
            os.rename(name, target, src_dir_fd=at, dst_dir_fd=there)
        finally:
            os.close(there)
        self.moved += 1
        self._forget()  # the handle may be of what was moved

    def directory(self, entry: Entry) -> None:
        """A directory, with owner and mode from the start: who goes on after a run that was killed takes another mode
        for somebody's wish. Its time comes at the end (settle)."""
        at, name = self._above(entry.path)
        if name != "." and not _is_directory(at, name):
            self.move_aside(entry.path)
            at, name = self._above(entry.path)
            _fresh_directory(at, _NEW)
            if os.geteuid() == 0 or entry.mode & 0o700 == 0o700:  # else it could not be filled
                _set(at, _NEW, entry)
            os.rename(_NEW, name, src_dir_fd=at, dst_dir_fd=at)

    def settle(self, entry: Entry) -> None:
        """Mode, owner and time of a directory in which everything is."""
        at, name = self._above(entry.path)
        _set(at, name, entry)

    def other(self, entry: Entry) -> None:
        """A link, a pipe, or a further name of a file that is in its place."""
        if entry.type in UNMADE:
            return
        if entry.rest.link:
            self._link(entry)
            return
        self.move_aside(entry.path)
        at, name = self._above(entry.path)
        if entry.type == LINK:
            os.symlink(entry.rest.target, name, dir_fd=at)
        else:
            os.mkfifo(name, 0o600, dir_fd=at)
        _set(at, name, entry)

    def _link(self, entry: Entry) -> None:
        """Beside it first: where the file did not come back, what has this name stays."""
        at, _name = self._above(entry.path)
        _source, *inner, first = entry.rest.link.split("/")
        first_at = _descended(self.top, inner)
        try:
            if _exists(at, _NEW):
                _clear(at, _NEW)
            os.link(first, _NEW, src_dir_fd=first_at, dst_dir_fd=at, follow_symlinks=False)
        finally:
            os.close(first_at)
        self.move_aside(entry.path)
        at, name = self._above(entry.path)
        os.rename(_NEW, name, src_dir_fd=at, dst_dir_fd=at)

    def empty(self, entry: Entry) -> None:
        """A file that holds nothing."""
        if not self.staged(entry, None, entry.path):
            self.drop(entry)
            raise OSError(errno.ENODATA, "the listing names no pack that has its content")
        self.put(entry)

    def staged(self, entry: Entry, content: Optional[IO[bytes]], subject: str) -> bool:
        """Write it beside its place, with its attributes. Returns whether it is what the listing has."""
        at, _name = self._above(entry.path)
        handle = _fresh(at, _NEW)
        try:
            good = _filled(handle, content, entry, subject)
            if good:
                _set_open(handle, entry)
        finally:
            os.close(handle)
        return good

    def put(self, entry: Entry) -> None:
        self.move_aside(entry.path)
        for suffix in contents.BESIDE if entry.rest.database else ():  # or its rows would be written into another one
            self.move_aside(entry.path + suffix)
        at, name = self._above(entry.path)
        os.rename(_NEW, name, src_dir_fd=at, dst_dir_fd=at)

    def drop(self, entry: Entry) -> None:
        at, _name = self._above(entry.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_NEW, dir_fd=at)


def _descended(top: int, parts: Sequence[str]) -> int:
    """A handle of a directory below another one, made where it lacks. No link is followed."""
    at = os.dup(top)
    try:
        for part in parts:
            try:
                below = os.open(part, _FOLDER, dir_fd=at)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=at)
                below = os.open(part, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
    except OSError:
        os.close(at)
        raise
    return at


def _lacks(directory: str, parts: Sequence[str]) -> bool:
    """Is nothing there that has this name, nor anything in the place of a directory on the way?"""
    try:
        at = filesystem.descend(Path(directory), parts[:-1])
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return not _exists(at, parts[-1])
    finally:
        os.close(at)


def _fresh_directory(at: int, name: str) -> None:
    """A new directory."""
    try:
        os.mkdir(name, 0o700, dir_fd=at)
    except FileExistsError:
        _clear(at, name)
        os.mkdir(name, 0o700, dir_fd=at)


def _fresh(at: int, name: str) -> int:
    """A new file."""
    try:
        return os.open(name, _NEW_FILE, 0o600, dir_fd=at)
    except FileExistsError:
        _clear(at, name)
        return os.open(name, _NEW_FILE, 0o600, dir_fd=at)


def _clear(at: int, name: str) -> None:
    """What a run that was killed left under the name that is none of the application's."""
    if _is_directory(at, name):
        os.rmdir(name, dir_fd=at)
    else:
        os.unlink(name, dir_fd=at)


def _exists(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_directory(at: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _filled(handle: int, content: Optional[IO[bytes]], entry: Entry, subject: str) -> bool:
    """Write what it holds; whether that is what the listing has."""
    if entry.rest.sparse and content is not None:
        return _filled_sparse(handle, content, entry, subject)
    digest, size = hashlib.sha256(), 0
    while content is not None and (data := content.read(filesystem.CHUNK)):
        if size + len(data) > entry.size:
            return False
        digest.update(data)
        _write(handle, data, size)
        size += len(data)
    return size == entry.size and digest.hexdigest() == entry.rest.sha256


def _filled_sparse(handle: int, content: IO[bytes], entry: Entry, subject: str) -> bool:
    digest = contents.SparseDigest()
    for offset, length in packs.sparse_pieces(content, entry.size, subject):
        left = length
        while left and (data := content.read(min(filesystem.CHUNK, left))):
            _write(handle, data, offset + length - left)
            digest.add(offset + length - left, data)
            left -= len(data)
    os.ftruncate(handle, entry.size)
    return digest.hexdigest() == entry.rest.sha256


def _write(handle: int, data: bytes, offset: int) -> None:
    done = os.pwrite(handle, data, offset)
    while done < len(data):
        done += os.pwrite(handle, data[done:], offset + done)


def _set_open(handle: int, entry: Entry) -> None:
    """The like of _set() for an open file."""
    _type, mode, uid, gid, mtime, *_rest = entry.status.split(" ")
    if os.geteuid() == 0:
        os.fchown(handle, int(uid), int(gid))
    _set_xattrs(handle, entry.rest.xattrs)
    os.fchmod(handle, int(mode, 8))
    os.utime(handle, ns=(int(mtime), int(mtime)))


def _set(at: int, name: str, entry: Entry) -> None:
    """Owner first: to change that takes special bits away. Time last."""
    link = entry.type == LINK
    if os.geteuid() == 0:
        os.chown(name, *entry.owner, dir_fd=at, follow_symlinks=False)
    place = walk.inside(at, name)
    _set_xattrs(place, entry.rest.xattrs)
    if not link:
        os.chmod(place, entry.mode)  # noqa: PTH101 - of what is no link, below a handle
    os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)


def _set_xattrs(file: Union[str, int], attributes: Mapping[str, str]) -> None:
    follow = isinstance(file, int)
    try:
        there = os.listxattr(file, follow_symlinks=follow)
    except OSError:
        there = []
    for key in there:
        if key not in attributes:
            with contextlib.suppress(OSError):
                os.removexattr(file, key, follow_symlinks=follow)
    for key, value in attributes.items():
        os.setxattr(file, key, base64.b64decode(value), follow_symlinks=follow)


class Selection:
    """What comes back, in order, on disk: of a million entries none is in memory. folder: nobody else's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.every = Spool(folder / "every")
        self.directories = Spool(folder / "directories", backwards=True)
        self.bare = Spool(folder / "bare")  # links, pipes, further names, files that hold nothing
        self.packs: dict[int, Spool] = {}
        self.bytes = 0
        self._rows: Optional[Iterator[Row]] = None
        self._row: Optional[Row] = None

    def __enter__(self) -> Selection:
        return self

    def __exit__(self, *_: object) -> None:
        for spool in (self.every, self.directories, self.bare, *self.packs.values()):
            spool.close()

    def add(self, row: Row) -> None:
        self.every.add(row)
        self.bytes += row.need
        if row.pack:
            if row.pack not in self.packs:
                self.packs[row.pack] = Spool(self._folder / f"pack-{row.pack}")
            self.packs[row.pack].add(row)
        else:
            (self.directories if row.type == DIRECTORY else self.bare).add(row)

    def has(self, path: str) -> bool:
        """Is it one of them? Asked in their order."""
        order = order_of(path)
        if self._rows is None:
            self._rows = self.every.rows()
            self._row = next(self._rows, None)
        while self._row is not None and self._row.order < order:
            self._row = next(self._rows, None)
        return self._row is not None and self._row.path == path


def restore(
    repo: Repository, needed: Collection[Pack], keys: age.Keys, selection: Selection, placer: Placer,
    log: Callable[[str], None],
) -> list[str]:  # fmt: skip
    """Put every entry into its place: directories, files from their packs, then links and further names.

    Returns what could not be brought back, in words; each is left as it was. What is in its place is whole.
    """
    lost: list[str] = []

    def each(rows: Iterable[Row], action: Callable[[Entry], None]) -> None:
        for row in rows:
            try:
                action(row.entry)
            except OSError as exc:
                lost.append(f"{printable(row.path)}: {exc.strerror or exc}")

    def bare(entry: Entry) -> None:
        if entry.type == FILE and not entry.rest.link:
            placer.empty(entry)
        else:
            placer.other(entry)

    each(selection.directories.rows(), placer.directory)
    with progress.going(progress.Gauge("files from the packs", selection.bytes)) as gauge:
        lost += _from_packs(repo, needed, keys, selection.packs, placer, log, gauge)
    each(selection.bare.rows(), bare)
    each(selection.directories.backwards(), placer.settle)
    return lost


def _from_packs(
    repo: Repository, needed: Collection[Pack], keys: age.Keys, chosen: Mapping[int, Spool], placer: Placer,
    log: Callable[[str], None], gauge: progress.Gauge,
) -> Iterator[str]:  # fmt: skip
    """Yield what could not be brought back."""
    numbers = {pack.number: pack for pack in needed}
    for number, spool in sorted(chosen.items()):
        pack = numbers.get(number)
        if pack is None:
            yield from (f"{printable(row.path)}: its pack {number} is not in the backup" for row in spool.rows())
            continue
        log(f"{spool.count} files from {pack.backup}/{pack.artefact}")
        try:
            yield from _from_pack(repo, pack, keys, spool, placer, gauge)
        except LifeboatError as exc:
            yield f"{pack.backup}/{pack.artefact}: {exc.cause}"


def _from_pack(
    repo: Repository, pack: Pack, keys: age.Keys, spool: Spool, placer: Placer, gauge: progress.Gauge
) -> list[str]:
    """A file that changed while it was read is in the pack more than once, and the last is what the listing has."""
    subject, wrong = f"{pack.backup}/{pack.artefact}", dict[str, str]()
    words = f"{subject} does not hold it as the listing has it"
    with packs.opened(repo, pack, keys) as members:
        for row, content in packs.beside(spool.rows(), members):
            if content is None:
                wrong[row.path] = words
                continue
            entry = row.entry
            try:
                if placer.staged(entry, content, subject):
                    placer.put(entry)
                    wrong.pop(row.path, None)
                    gauge.add(row.need)
                else:
                    placer.drop(entry)
                    wrong[row.path] = words
            except OSError as exc:
                if exc.errno in _FULL:
                    raise
                wrong[row.path] = exc.strerror or str(exc)
    return [f"{printable(path)}: {why}" for path, why in wrong.items()]
