# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files the careful way: private modes, nothing through links, on the disk before it counts, errors that help."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Callable, Optional, Union

from .errors import IntegrityError, LifeboatError, NotFoundError, SpaceError, UsageError

CHUNK = 1 << 20
STALE = timedelta(hours=24)  # what a run that died has left is swept after this
LARGEST = 64 << 20  # bytes of a document that is read whole
_UUIDS = Path("/dev/disk/by-uuid")
_EXPORTED = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "9p", "virtiofs")  # by servers
_HELD = ".held"  # how the name of a directory ends that a run holds among those of other programs
_FULL = (SpaceError, "Free space there or run lifeboat.dr.prune, then try again.")
_DENIED = (UsageError, "Run as root, or correct the owner and mode there.")
_OTHER = (LifeboatError, "Check the disk and the mount (dmesg), then try again.")
_ODD = (
    IntegrityError, "A link or a special file lies where a plain one belongs. Find out who put it there and remove it.",
)  # fmt: skip
_REMEDIES: Mapping[Optional[int], tuple[type[LifeboatError], str]] = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _DENIED, errno.EPERM: _DENIED,
    errno.ELOOP: _ODD, errno.ENOTDIR: _ODD, errno.EISDIR: _ODD, errno.ENXIO: _ODD,
    errno.EROFS: (SpaceError, "Find out why it is read-only (dmesg, mount), mount it read-write, then try again."),
    errno.ENOENT: (NotFoundError, "Check the name, and that the file system is mounted."),
}  # fmt: skip


def cron_name(stack: str) -> str:
    """A stack's file in /etc/cron.d, where cron reads no name with a dot (cron(8)). Names of stacks have no capital, so
    that no two of them share a file."""
    return f"lifeboat-{stack.replace('.', 'DOT')}"


@contextlib.contextmanager
def explained(attempted: str, subject: object) -> Iterator[None]:
    """Turn an OSError into the LifeboatError that tells an operator what to do."""
    try:
        yield
    except OSError as exc:
        kind, remedy = _REMEDIES.get(exc.errno, _OTHER)
        where = f": {exc.filename}" if exc.filename and str(exc.filename) != str(subject) else ""
        raise kind(attempted, str(subject), f"{exc.strerror or exc}{where}", remedy) from exc


def plain_name(name: str) -> str:
    """`name`, if it is a relative path that stays below where it starts and survives in S3. Raises UsageError."""
    parts = name.split("/")
    odd = "\\" in name or any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in name)
    if odd or any(part in ("", ".", "..") for part in parts):
        raise UsageError("use the file name", repr(name), "it is not a plain relative path", "Rename the file.")
    return name


def walk(directory: Path) -> Iterator[Path]:
    """Everything below, parents before children, sorted, links not followed; however deep it is."""
    rest = sorted(directory.iterdir(), reverse=True)
    while rest:
        path = rest.pop()
        yield path
        if stat.S_ISDIR(path.lstat().st_mode):
            rest += sorted(path.iterdir(), reverse=True)


def relative_files(directory: Path) -> dict[str, os.stat_result]:
    """Name -> lstat of all below that is not a directory: plain files, links, devices."""
    found = {path.relative_to(directory).as_posix(): path.lstat() for path in walk(directory)}
    return {name: status for name, status in found.items() if not stat.S_ISDIR(status.st_mode)}


def seal(directory: Path, group: Optional[int] = None) -> None:
    """Bring a tree of plain files to private modes and onto the disk. Raises IntegrityError for anything else.

    group: who may read it besides the owner.
    """
    # Several at once: a disk writes what waits for it together.
    parallel(lambda path: _sealed(Path(path), group), map(str, [*walk(directory), directory]))


def _sealed(path: Path, group: Optional[int]) -> None:
    plain_name(path.name)
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise IntegrityError("publish the backup", str(path), "it is not a plain file", "Take the backup again.")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if group is None:
            os.fchmod(handle, 0o700 if stat.S_ISDIR(mode) else 0o600)
        else:
            share(handle, group)
        os.fsync(handle)
    finally:
        os.close(handle)


def share(handle: int, group: int) -> None:
    """Let a group read an open file, or enter an open directory; what is made in that belongs to the group too."""
    os.fchown(handle, -1, group)  # takes special bits away, so the modes come after it
    os.fchmod(handle, 0o2750 if stat.S_ISDIR(os.fstat(handle).st_mode) else 0o640)


def sync(directory: Path) -> None:
    """Put a directory's entries on the disk: without it a rename may be undone by a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create(path: Path) -> BinaryIO:
    """Open a new private file for writing; whatever is there already, link or file, is an error."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def _fill(path: Path, data: bytes, group: Optional[int] = None) -> None:
    with create(path) as file:
        if group is not None:
            share(file.fileno(), group)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, data: bytes, temporary: Path, group: Optional[int] = None) -> None:
    """Put `data` at `path` at once or not at all, by way of `temporary` on the same file system.

    group: who may read it besides the owner.
    """
    try:
        _fill(temporary, data, group)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_new(path: Path, data: bytes, temporary: Path, group: Optional[int] = None) -> None:
    """Like write(), and FileExistsError where something lies at `path`, also what another run put there just now."""
    try:
        _fill(temporary, data, group)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links, where a moment remains between the look and the rename
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def descend(top: Path, parts: Iterable[str], *, make: bool = False, shared: bool = False) -> int:
    """A handle of a directory below `top`, following no link, whatever others do meanwhile. make: those that lack.
    shared: with these open to all, as an operator makes them; our own umask closes them."""
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for part in parts:
        made = False
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=at)
                    made = True
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = below
        if made and shared:
            os.fchmod(at, 0o755)
    return at


def link(path: Union[str, Path]) -> Optional[str]:
    """What a link says, as it was written; None where there is no link. One call: what was looked at first may be
    something else by now, where the directory is somebody else's."""
    try:
        return os.readlink(path)  # noqa: PTH115 - Path.readlink() tidies the path up
    except OSError:
        return None


def real(path: Union[str, Path]) -> str:
    """os.path.realpath(), whose answer holds no link. Where a link is none any more when it is read, that fails, or
    from Python 3.13 on takes the link for a directory. Its owner may turn it back and forth all the time, so that it
    is looked at again, some times. Raises IntegrityError."""
    for _attempt in range(20):
        with contextlib.suppress(OSError):
            found = Path(os.path.realpath(path))
            if not any(os.path.islink(part) for part in (found, *found.parents)):  # noqa: PTH114 - it raises nothing
                return str(found)
    raise IntegrityError(
        "find where a directory lies", str(path),
        "a link on its way leads back to itself, or becomes something else while it is read",
        "Look at it with namei -l. Find out who changes it (the owner of the directory above), end that, try again.",
    )  # fmt: skip


@contextlib.contextmanager
def within(directory: str) -> Iterator[int]:
    """A handle of a directory, which is made where it lacks, for what root does in directories of others.

    directory: without links, as real() tells it. One that somebody puts on the way afterwards is refused,
    and what is done by the handle (dir_fd) happens in the directory that was looked at, or not at all.
    """
    at = descend(Path("/"), filter(None, directory.split("/")), make=True, shared=True)
    try:
        yield at
    finally:
        os.close(at)


def open_below(directory: Path, parts: tuple[str, ...]) -> BinaryIO:
    """Open a plain file for reading, following no link on the way down from `directory`."""
    at = descend(directory, parts[:-1])
    try:
        return open_at(at, parts[-1])
    finally:
        os.close(at)


def open_at(at: int, name: str) -> BinaryIO:
    """Open a plain file for reading, which is no link. at: a handle of its directory."""
    # O_NONBLOCK: a FIFO put there must not hang us; it means nothing to a plain file.
    return _plain(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at), name)


def plain_at(at: int, name: str) -> tuple[int, os.stat_result]:
    """The like of open_at() for very many files: a handle, which the caller closes, and what is told of it."""
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    return handle, _status(handle, name)


def _plain(handle: int, name: str) -> BinaryIO:
    _status(handle, name)
    return os.fdopen(handle, "rb")


def _status(handle: int, name: str) -> os.stat_result:
    """The status of a plain file; of anything else the handle is closed."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise OSError(errno.ENXIO, "Not a plain file", name)
    return status


def read_plain(path: Path, most: int = LARGEST) -> bytes:
    """The whole of a small file that Lifeboat itself keeps. OSError for whatever is none: a link, which may lead to
    /dev/zero and so fill the memory, a pipe, which may never end, and more than `most` bytes."""
    with open_below(path.parent, (path.name,)) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def open_file(path: Path) -> BinaryIO:
    """Open a file that somebody else keeps: a link is followed, and where it leads must be a plain file."""
    return _plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK), str(path))


def read_file(path: Path, most: int = LARGEST, *, cut: bool = False) -> bytes:
    """Like read_plain(), of a file that somebody else keeps. cut: no more than that of it is wanted."""
    with open_file(path) as file:
        data = file.read(most + (not cut))
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def remember(path: Path, data: bytes, *, attempted: str) -> None:
    """Write what several runs may find out at once, in a directory that is made for it."""
    with explained(attempted, path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(path, data, path.with_name(f".{path.name}.{sha256(data)[:8]}"))


def free(path: Path) -> int:
    """The bytes that fit there, as df tells them to who is not root."""
    return shutil.disk_usage(path).free


def require_room(directory: Path, size: int) -> None:
    """Raise SpaceError unless so many bytes fit there now: tools tell a full disk in words only."""
    with explained("write below", directory), tempfile.TemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


def untouched(path: Path, older_than: timedelta, now: datetime) -> bool:
    """Whether nothing in the tree changed for so long. By ctime: tools that unpack set mtime back."""
    try:
        newest = max(item.lstat().st_ctime for item in [path, *(walk(path) if is_directory(path) else [])])
    except FileNotFoundError:  # somebody is at work in it
        return False
    return now.timestamp() - newest > older_than.total_seconds()


@contextlib.contextmanager
def scratch(prefix: str, parent: Optional[Path] = None) -> Iterator[Path]:
    """A private directory to unpack into, which is gone afterwards, however deep it is. What runs that were killed left
    there under the prefix goes, too: secrets may lie in it. parent: where nobody else of that prefix works; without one
    it is the directory for temporary files, which is everybody's."""
    sweep(prefix, parent)
    with locked_directory(prefix, parent) as made:
        try:
            yield made
        finally:
            for item in made.iterdir():
                with contextlib.suppress(OSError):  # where a mode is in the way, the other changes it
                    remove(item)
            shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def locked_directory(prefix: str, parent: Optional[Path] = None) -> Iterator[Path]:
    """A fresh directory that this process holds: the kernel lets go of it when the process ends, kill -9 included."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, suffix="" if parent else _HELD, dir=parent))
        try:
            handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # another run took it for one that nobody holds
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if made.exists():  # it may have gone since
            break
        os.close(handle)
    try:
        yield made
    finally:
        os.close(handle)


def create_directory(path: Path, like: os.stat_result) -> None:
    """Create an empty one with the owner and the mode of another, whatever the umask is. It is there with both, or
    not at all: a run that is killed here leaves none of root's own, which the next would take for what was there."""
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.suppress(FileNotFoundError):
        partial.rmdir()
    partial.mkdir(mode=0o700)
    os.chown(partial, like.st_uid, like.st_gid)
    partial.chmod(like.st_mode & 0o7777)
    partial.rename(path)


def sweep(prefix: str, parent: Optional[Path] = None, delete: Optional[Callable[[Path], None]] = None) -> None:
    """Remove our directories of that prefix that no process holds any more."""
    shape = re.compile(re.escape(prefix) + "[a-z0-9_]{8}" + ("" if parent else re.escape(_HELD)))
    root = parent or Path(tempfile.gettempdir())
    for path in root.glob(f"{prefix}*"):
        if not shape.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(handle).st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    (delete or remove)(path)
            finally:
                os.close(handle)


def is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def is_filled(directory: Path) -> bool:
    """Whether there is such a directory and anything lies in it."""
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False


def is_mounted(path: Path) -> bool:
    """Whether `path` is a mount point, also of a directory of the same file system, which os.path.ismount() misses."""
    if os.path.ismount(path):
        return True
    at = os.path.realpath(path)
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    points = (line.split(" ")[4] for line in lines if line.count(" ") > 4)
    return at in (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point) for point in points)


def disk_of(path: Path) -> str:
    """Return what tells the file system of a directory from another one, after each mount of it: its UUID, or what a
    server exports; empty where it has neither."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
        status = path.stat()
        number = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        uuids = {link.stat().st_rdev: link.name for link in _UUIDS.iterdir()} if _UUIDS.is_dir() else {}
    except OSError:
        return ""
    for line in mounts:
        head, _dash, tail = line.partition(" - ")
        words, kind = head.split(" "), tail.split(" ")
        if len(words) > 4 and words[2] == number and len(kind) > 1:
            if kind[0] in _EXPORTED:
                return f"{kind[0]} {kind[1]}"
            device = os.makedev(*map(int, number.split(":")))
            with contextlib.suppress(OSError):  # of btrfs the number is none of a device
                device = Path(kind[1]).stat().st_rdev or device
            return f"uuid {uuids[device]}" if device in uuids else ""
    return ""


def remove(path: Path) -> None:
    """Remove a file, a link or a tree, following no link; gone already is fine."""
    if is_directory(path):
        _remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_tree(path: Path) -> None:
    """However deep it is: shutil.rmtree() calls itself for each level, and ends with a RecursionError. Directories are
    brought up to the top before they are removed, so that none is ever deep."""
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    number, own = 0, secrets.token_hex(8)
    try:
        while names := os.listdir(top):  # noqa: PTH208 - of a handle, which nobody can swap
            for name in names:
                if not _unlinked(top, name):
                    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                    try:
                        for inner in os.listdir(below):  # noqa: PTH208
                            if not _unlinked(below, inner):
                                number += 1
                                os.rename(inner, f"{own}-{number}", src_dir_fd=below, dst_dir_fd=top)
                    finally:
                        os.close(below)
                    os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    path.rmdir()


def _unlinked(at: int, name: str) -> bool:
    """Remove it unless it is a directory."""
    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=at)
    return True


def parallel(work: Callable[[str], object], items: Iterable[str], workers: int = 4) -> None:
    """Do `work` on every item; the first failure cancels what has not begun and is raised."""
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            for future in running:
                future.result()
        except BaseException:
            for future in running:
                future.cancel()
            raise
