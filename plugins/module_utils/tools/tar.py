# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a host into a tar and back: as they are, following no link, with a listing to compare them with.

GNU tar's format, absolute paths without their first slash: by hand it is `tar -xzpf config.tar.gz -C /`, no more.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Annotated, Callable, Optional

from ..base import filesystem, typed
from ..base.errors import IntegrityError, SpaceError, printable
from ..base.pipeline import HashingWriter
from ..base.typed import Range

FILE, DIRECTORY, LINK = "file", "directory", "link"
# What chown() and utime() take. A PAX header may say any number, and `inf`.
Id = Annotated[int, Range(0, 2**32 - 2)]
Time = Annotated[int, Range(-(2**40), 2**40)]
DEPTH = 100
MEMBERS = 200_000
HEADER = 1 << 20  # bytes of what is said of one file, such as its name
_CONTENT = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
IN_MEMORY = 8 << 20
TRIES = 3
_MODE = re.compile(r"[0-7]{1,6}")
_ELSEWHERE = ("/proc", "/sys", "/dev", "/run")


@dataclass(frozen=True)
class Entry:
    """One file of a listing. path: absolute. size, sha256: of a plain file. target: of a link. archive: where it is."""

    path: str
    type: str
    mode: int
    uid: Id
    gid: Id
    mtime: Time
    size: int = 0
    sha256: str = ""
    target: str = ""
    archive: str = ""
    secret: bool = False

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "mode": f"{self.mode:04o}"}

    @classmethod
    def from_json(cls, data: object, wrong: typed.Wrong, where: str) -> Entry:
        """The entry of a listing, whose modes are octal text."""
        given = dict(data) if isinstance(data, Mapping) else {}
        mode = given.get("mode")
        if not isinstance(mode, str) or not _MODE.fullmatch(mode):
            raise wrong(f"{where}.mode", f"wants an octal mode like 0644, has {typed.shown(mode)}")
        return typed.build(cls, {**given, "mode": int(mode, 8)}, wrong, where)

    @property
    def same(self) -> tuple[object, ...]:
        """What must be equal for two to be one file."""
        return (self.path, self.type, self.mode, self.uid, self.gid, self.mtime, self.size, self.sha256, self.target)


@dataclass
class Packed:
    """What became of the files that were named. skipped: path -> why. torn: changed whenever they were read.

    withheld: paths that `keep_out` refused.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries.values())


KeepOut = Callable[[str, IO[bytes]], bool]


class Packer:
    """Writes a gzipped tar. limit: bytes of content at most. in_memory: no content may touch a disk in the clear.

    exclude: paths that are not entered. known: paths that another archive has; directories of them are entered all the
    same. keep_out: asked of each plain file's path and content.
    """

    def __init__(
        self, sink: IO[bytes], *, limit: int, in_memory: bool = False, exclude: Iterable[str] = (),
        known: Container[str] = (), keep_out: Optional[KeepOut] = None,
    ) -> None:  # fmt: skip
        self.packed = Packed()
        self._limit, self._in_memory, self._known, self._keep_out = limit, in_memory, known, keep_out
        self._exclude = {*exclude, *_ELSEWHERE}
        self._total, self._named, self._real = 0, "", ""
        self._gzip = gzip.GzipFile("", "wb", 6, sink, mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|", format=tarfile.GNU_FORMAT)

    def __enter__(self) -> Packer:
        return self

    def __exit__(self, failed: Optional[type[BaseException]], *_: object) -> None:
        # Closed also on a failure: a tar that is thrown away open writes its end to a file that is gone.
        with contextlib.suppress(Exception) if failed else contextlib.nullcontext():
            self._tar.close()
            self._gzip.close()

    def add(self, path: str, *, content: bool = True) -> None:
        """A named file or directory, with all that is below it; content: a directory's own."""
        real, links, problem = followed(path)
        self._named, self._real = path, real
        for link in links:
            self._link(link)
        if problem:
            self.packed.skipped[path] = problem
            return
        try:
            above, name = os.path.split(real)
            at = filesystem.descend(Path("/"), filter(None, above.split("/")))
        except OSError as exc:
            self.packed.skipped[path] = exc.strerror or str(exc)
            return
        try:
            self._add(at, name, real, 0 if content else DEPTH + 1)
        finally:
            os.close(at)

    def _link(self, path: str) -> None:
        with contextlib.suppress(OSError):
            self._record(path, os.lstat(path), target=str(Path(path).readlink()))

    def _add(self, at: int, name: str, path: str, depth: int) -> None:
        if path in self.packed.entries or path in self._exclude:
            return
        try:
            status = os.stat(name or "/", dir_fd=at, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._directory(at, name, path, status, depth)
            elif stat.S_ISLNK(status.st_mode):
                self._record(path, status, target=os.readlink(name, dir_fd=at))
            elif not stat.S_ISREG(status.st_mode):
                if path != self._real:
                    return  # below a named directory: they hold nothing
                self.packed.skipped[path] = "it is a socket, a pipe or a device"
            elif path not in self._known:
                self._file(at, name, path)
        except OSError as exc:
            self.packed.skipped[path] = exc.strerror or str(exc)

    def _directory(self, at: int, name: str, path: str, status: os.stat_result, depth: int) -> None:
        self._record(path, status)
        if depth == DEPTH:
            self.packed.skipped[path] = f"more than {DEPTH} directories deep"
        if depth >= DEPTH:  # deeper: only the directory itself was asked for
            return
        below = os.open(name or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        try:
            for text in sorted(os.listdir(below)):  # noqa: PTH208 - of a handle, which nobody can swap
                self._add(below, text, os.path.join(path, text), depth + 1)
        finally:
            os.close(below)

    def _file(self, at: int, name: str, path: str) -> None:
        # O_NONBLOCK: a pipe put there in the meantime must not hang us.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        with os.fdopen(handle, "rb") as file, self._spool() as spool:
            for _attempt in range(TRIES):
                before = os.fstat(handle)
                if not stat.S_ISREG(before.st_mode):
                    self.packed.skipped[path] = "it is not a plain file any more"
                    return
                size, digest = self._read(file, spool, path)
                after = os.fstat(handle)
                if (before.st_size, before.st_mtime_ns, size) == (after.st_size, after.st_mtime_ns, after.st_size):
                    break
            else:
                self.packed.torn.append(path)
            spool.seek(0)
            if self._keep_out is not None and self._keep_out(path, spool):
                self.packed.withheld.append(path)
                return
            spool.seek(0)
            self._total += size
            self._record(path, after, size=size, sha256=digest, content=spool)

    def _spool(self) -> IO[bytes]:
        return io.BytesIO() if self._in_memory else tempfile.SpooledTemporaryFile(IN_MEMORY)

    def _read(self, file: IO[bytes], spool: IO[bytes], path: str) -> tuple[int, str]:
        file.seek(0)
        spool.seek(0)
        spool.truncate()
        writer = HashingWriter(spool)
        while data := file.read(filesystem.CHUNK):
            writer.write(data)
            if self._total + writer.size > self._limit:
                raise SpaceError(
                    "back up the configuration", self._named,
                    f"it holds more than {self._limit >> 20} MiB (at {printable(path)})",
                    "Name less of it, or raise lifeboat_config.limit_mb.",
                )  # fmt: skip
        return writer.size, writer.sha256

    def _record(
        self, path: str, status: os.stat_result, *, size: int = 0, sha256: str = "", target: str = "",
        content: Optional[IO[bytes]] = None,
    ) -> None:  # fmt: skip
        if path in self.packed.entries or path in self._known:
            return
        if len(self.packed.entries) >= MEMBERS:
            raise SpaceError(
                "back up the configuration", self._named, f"there are more than {MEMBERS} files", "Name less of it."
            )
        kind = LINK if stat.S_ISLNK(status.st_mode) else DIRECTORY if stat.S_ISDIR(status.st_mode) else FILE
        entry = Entry(
            path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, int(status.st_mtime),
            size, sha256, target,
        )  # fmt: skip
        member = tarfile.TarInfo(path.lstrip("/") or ".")
        member.type = {FILE: tarfile.REGTYPE, DIRECTORY: tarfile.DIRTYPE, LINK: tarfile.SYMTYPE}[kind]
        member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
        member.mtime, member.size, member.linkname = entry.mtime, size, target
        self._tar.addfile(member, content)
        self.packed.entries[path] = entry


def followed(path: str) -> tuple[str, list[str], str]:
    """Where a named path really is, the links on the way, and why it cannot be used; empty where it can.

    A link is followed where it is root's, or its owner's own file is behind it (as Linux's protected_symlinks has it):
    else write access to a directory would be enough to put any file of the host into the backup.
    """
    links: list[str] = []
    done, rest = "/", [part for part in os.path.normpath(path).split("/") if part]
    while rest:
        step = os.path.join(done, rest.pop(0))
        try:
            status = os.lstat(step)
            if not stat.S_ISLNK(status.st_mode):
                done = step
                continue
            links.append(step)
            if len(links) > 40:
                return path, links, "too many links"
            if status.st_uid not in (0, Path(step).stat().st_uid):
                return path, links, f"{step} is a link of another owner than what it points to; name that file itself"
            target = os.path.normpath(os.path.join(done, Path(step).readlink()))
        except FileNotFoundError:
            return path, links, "there is no such file"
        except OSError as exc:
            return path, links, exc.strerror or str(exc)
        done, rest = "/", [part for part in target.split("/") if part] + rest
    return done, links, ""


def members(stream: IO[bytes], subject: str, most: int = MEMBERS) -> Iterator[tuple[Entry, Optional[IO[bytes]]]]:
    """Every member of a gzipped tar, to its very end, with the content of plain files; hashes are for who reads it.

    Raises IntegrityError for what is no whole archive, for one with more than `most` files, and for a member that could
    leave the place it is unpacked to.
    """
    with whole(subject), gzip.GzipFile(fileobj=stream, mode="rb") as plain:
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=Member) as archive:
            number = 0
            while (member := archive.next()) is not None:
                number += 1
                if number > most:
                    raise IntegrityError("read the archive", subject, f"it has more than {most} files")
                yield _entry(member, subject), archive.extractfile(member) if member.isreg() else None
                archive.members.clear()  # type: ignore[attr-defined,unused-ignore]  # it would keep each of them
        while plain.read(filesystem.CHUNK):  # what comes after the end, such as gzip's own checksum
            pass


class Member(tarfile.TarInfo):
    """An archive ends with a block of zeros. Python takes a header that it cannot read for the end as well, and what
    follows it would not be there. A header that is followed by text, which Python reads whole, is bounded, and a sparse
    file is refused: nobody writes one for us, and its map may have no end."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # pylint: disable=arguments-renamed  # as below
        if self.type not in _CONTENT and self.size > HEADER:
            raise tarfile.InvalidHeaderError(f"a header of {self.size} bytes")  # type: ignore[attr-defined,unused-ignore]
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return,unused-ignore]

    def _refuse(self, *_: object) -> tarfile.TarInfo:
        raise tarfile.InvalidHeaderError("a sparse file")  # type: ignore[attr-defined,unused-ignore]

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Member:  # pylint: disable=arguments-renamed  # its base hides the module
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined,unused-ignore]  # typeshed has not all of them
            raise
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(str(exc)) from exc
        except RecursionError as exc:  # a name before a name before a name
            raise tarfile.ReadError("headers without a file") from exc


@contextlib.contextmanager
def whole(subject: str) -> Iterator[None]:
    """What reading an archive ends with, by its headers or by the content of a member, as one error."""
    try:
        yield
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, ValueError, OverflowError, zlib.error) as exc:
        raise IntegrityError("read the archive", subject, f"it is cut or damaged: {exc}") from exc


def _entry(member: tarfile.TarInfo, subject: str) -> Entry:
    kind = FILE if member.isreg() else DIRECTORY if member.isdir() else LINK if member.issym() else ""
    name = member.name.rstrip("/")
    if not kind:
        raise IntegrityError("read the archive", subject, f"{name!r} is not a plain file, directory or symbolic link")
    if name != "." and (any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name):
        raise IntegrityError("read the archive", subject, f"{name!r} would leave the place it is unpacked to")
    mtime = int(member.mtime)
    if not (0 <= member.uid < 2**32 - 1 and 0 <= member.gid < 2**32 - 1 and abs(mtime) <= 2**40):
        raise IntegrityError("read the archive", subject, f"{name!r} has an owner or a time that no file has")
    return Entry(
        "/" if name == "." else f"/{name}", kind, member.mode & 0o7777, member.uid, member.gid, mtime,
        member.size if kind == FILE else 0, "", member.linkname if kind == LINK else "",
    )  # fmt: skip


def read(stream: IO[bytes], subject: str) -> dict[str, Entry]:
    """Read an archive to its end, hashing all of it; a name that comes twice is an error."""
    found: dict[str, Entry] = {}
    for entry, content in members(stream, subject):
        if entry.path in found:
            raise IntegrityError("read the archive", subject, f"{entry.path!r} is in it twice")
        with whole(subject):
            found[entry.path] = _hashed(entry, content, None, subject)
    return found


def unpack(stream: IO[bytes], target: Path, listing: Mapping[str, Entry], subject: str) -> list[str]:
    """Unpack below `target` what `listing` lists, all of it and nothing else. Returns the paths.

    Owner and group are set where we are root. Nothing is written through a link, and nothing that is there replaced.
    """
    done: list[Entry] = []
    for entry, content in members(stream, subject):
        listed = listing.get(entry.path)
        if listed is None:
            raise IntegrityError("unpack", subject, f"{entry.path!r} is in it and not in the listing")
        if entry.size != listed.size:  # before a byte of it is written: the listing is what room was reckoned by
            raise IntegrityError("unpack", subject, f"{entry.path!r} is not as the listing has it")
        with whole(subject), filesystem.explained("unpack", str(target) + entry.path):
            had = _write_entry(entry, content, target, subject)
        if had.same != listed.same:
            raise IntegrityError("unpack", subject, f"{entry.path!r} is not as the listing has it")
        done.append(entry)
    paths = [entry.path for entry in done]
    missing = sorted(set(listing) - set(paths))
    if missing:
        raise IntegrityError("unpack", subject, f"{missing[0]!r} is in the listing and not in it")
    for entry in reversed(done):  # last, and the deepest first: a closed directory could not be filled
        if entry.type == DIRECTORY:
            where = f"{target}{entry.path}"
            with filesystem.explained("unpack", where):
                Path(where).chmod(entry.mode)
                os.utime(where, (entry.mtime, entry.mtime))
    return paths


def _write_entry(entry: Entry, content: Optional[IO[bytes]], target: Path, subject: str) -> Entry:
    above, name = os.path.split(entry.path)
    at = filesystem.descend(target, filter(None, above.split("/")), make=True)
    root = os.geteuid() == 0
    try:
        if entry.type == FILE:
            handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=at)
            with os.fdopen(handle, "wb") as file:
                found = _hashed(entry, content, file, subject)
                file.flush()
                if root:
                    os.fchown(handle, entry.uid, entry.gid)
                os.fchmod(handle, entry.mode)
                os.utime(handle, (entry.mtime, entry.mtime))
            return found
        if entry.type == LINK:
            os.symlink(entry.target, name, dir_fd=at)
        elif name:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=at)
        if root and name:
            os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        return entry
    finally:
        os.close(at)


def _hashed(entry: Entry, content: Optional[IO[bytes]], sink: Optional[IO[bytes]], subject: str) -> Entry:
    if content is None:
        return entry
    writer = HashingWriter(sink)
    shutil.copyfileobj(content, writer, filesystem.CHUNK)
    if writer.size != entry.size:
        raise IntegrityError("read the archive", subject, f"{entry.path!r} is cut")
    return replace(entry, sha256=writer.sha256)


def differences(archived: Mapping[str, Entry], listed: Mapping[str, Entry], name: str) -> list[str]:
    """What an archive and its listing do not agree on, in words."""
    wrong = [f"{name}: {path!r} is missing" for path in listed if path not in archived]
    wrong += [f"{name}: {path!r} is not in the listing" for path in archived if path not in listed]
    both = (path for path in listed if path in archived)
    wrong += [f"{name}: {path!r} is not as listed" for path in both if archived[path].same != listed[path].same]
    return wrong
