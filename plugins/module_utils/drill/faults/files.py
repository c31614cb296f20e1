# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to the files of an application. Each is done for real, and looked at. No link is followed."""

from __future__ import annotations

import contextlib
import os
import random
import stat
from collections.abc import Collection, Iterator, Sequence
from io import FileIO
from pathlib import Path

from ...base import pipeline
from ...base.errors import Log, UsageError
from ...base.filesystem import CHUNK, explained
from ...base.pipeline import Command
from ...base.text import named
from ...files import contents, sources, walk
from ...files.sources import Directory
from ...files.walk import Node, Problems
from ...settings import scenarios
from ...stack import compose
from ...stack.compose import ComposeRuntime, Container
from ...stack.runtime import Opened
from . import service as drill_service
from .service import did_not_take

_FLIPPED = 64  # bytes of a file
_OVERWRITTEN = 64 << 20  # bytes of a file at most: who encrypts a disk is in a hurry, too
_ENDING = ".locked"
_NAME = 240  # bytes of a name that gets an ending


def _regular(directory: Directory) -> Iterator[Node]:
    """Yield its files, without what no backup of it has to hold."""
    left_out = walk.excluder(directory.source.exclude)
    with explained("read the files", directory.path):
        for found in walk.walk(directory.path, directory.name, Problems(), left_out):
            if stat.S_ISREG(found.status.st_mode):
                yield found


def _filled(run: Opened, least: int = 0) -> list[tuple[Directory, list[str]]]:
    """Return the sources that hold files of at least so many bytes, each with their paths, the logs of a database left
    out: a backup has their rows in that. Raises UsageError where there is no such source."""
    directories = sources.directories(run)
    held = [
        (
            directory,
            [
                found.path
                for found in _regular(directory)
                if found.status.st_size >= least and not found.name.endswith(contents.BESIDE)
            ],
        )
        for directory in directories
    ]
    filled = [(directory, paths) for directory, paths in held if paths]
    if not filled:
        names = ", ".join(directory.name for directory in directories)
        cause = f"{names} holds no file" if names else "lifeboat_files.sources is empty"
        raise UsageError("break the files", run.config.stack, cause, "There is nothing to lose.")
    return filled


def _fullest(run: Opened, least: int = 0) -> tuple[Directory, list[str]]:
    return max(_filled(run, least), key=lambda pair: len(pair[1]))


def _half(paths: Sequence[str], lot: random.Random) -> set[str]:
    return set(lot.sample(paths, max(1, len(paths) // 2)))


def _among(directory: Directory, paths: Collection[str]) -> Iterator[Node]:
    return (found for found in _regular(directory) if found.path in paths)


def _require_gone(directory: Directory, paths: Collection[str]) -> None:
    """See that most of them are gone: an application that runs makes some of them again."""
    left = sum(1 for _found in _among(directory, paths))
    if 2 * left > len(paths):
        raise did_not_take(directory.path, f"{left} of {len(paths)} files are still there")


def remove(run: Opened, _lot: random.Random, log: Log) -> str:
    """Remove a volume, and before it the containers that mount it; of a source that is a directory what it holds."""
    filled = [directory for directory, _paths in _filled(run)]
    directory = next((one for one in filled if one.volume), filled[0])
    if not directory.volume or _mountpoint(directory.volume) != directory.path:  # it binds a directory, which stays
        return f"{drill_service.empty(Path(directory.path))} entries of {directory.path} deleted"
    using = _using(run, directory.volume)
    services = ", ".join(sorted({one.service for one in using})) or "no service"
    if using:
        log(f"removing the containers of {services}, which mount {directory.volume}")
        identities = [one.id for one in using]
        drill_service.docker("remove the containers", services, "rm", "--force", *identities, timeout=120)
    drill_service.docker("remove the volume", directory.volume, "volume", "rm", directory.volume)
    if Path(directory.path).exists():
        raise did_not_take(directory.volume, f"{directory.path} is still there")
    return f"volume {directory.volume} is gone, and the containers of {services}, which mounted it"


def _mountpoint(volume: str) -> str:
    command = Command(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume])
    return pipeline.output(command, attempted="find the volume", subject=volume, timeout=60).strip()


def _using(run: Opened, volume: str) -> tuple[Container, ...]:
    """Return the containers that mount it. Raises UsageError where one is of another project."""
    command = Command(["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", f"volume={volume}"])
    attempted = "find the containers of the volume"
    ids = pipeline.output(command, attempted=attempted, subject=volume, timeout=60).split()
    using = compose.inspect(ids, attempted=attempted, subject=volume)
    project = run.runtime.project if isinstance(run.runtime, ComposeRuntime) else ""
    if others := [named(one.name) for one in using if one.project != project]:
        cause = f"{', '.join(others)} of another project mounts it too; nothing was touched"
        raise UsageError("remove the volume", volume, cause, "Choose another fault.")
    return using


def delete(run: Opened, lot: random.Random, _log: Log) -> str:
    """Delete half of the files of the fullest source, here and there, as a script with a bug would."""
    directory, paths = _fullest(run)
    chosen = _half(paths, lot)
    with explained("delete the files", directory.path):
        for entry in _among(directory, chosen):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.name, dir_fd=entry.at)
    _require_gone(directory, chosen)
    return f"{len(chosen)} of {len(paths)} files of {directory.path} deleted"


def alter(run: Opened, lot: random.Random, _log: Log) -> str:
    """Turn bytes over in half of the files of the fullest source; size and time say nothing of it."""
    directory, paths = _fullest(run, least=1)
    chosen = _half(paths, lot)
    with explained("alter the files", directory.path):
        altered = sum(_flip(entry, lot) for entry in _among(directory, chosen))
    if 2 * altered < len(chosen):
        raise did_not_take(directory.path, f"{altered} of {len(chosen)} files are other ones")
    return f"{altered} of {len(paths)} files of {directory.path} have other bytes, of the size and the time they had"


def _flip(entry: Node, lot: random.Random) -> bool:
    """Return whether it has other bytes now, and says nothing of it. One that went meanwhile has none."""
    with contextlib.suppress(FileNotFoundError), _opened(entry) as file:
        handle, before = file.fileno(), os.fstat(file.fileno())
        offset = lot.randrange(max(1, before.st_size))
        data = os.pread(handle, _FLIPPED, offset)
        os.pwrite(handle, bytes(byte ^ 0xFF for byte in data), offset)
        os.utime(handle, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = os.fstat(handle)
        silent = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        return silent and os.pread(handle, len(data), offset) != data
    return False


def _opened(entry: Node) -> FileIO:
    return FileIO(os.open(entry.name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=entry.at), "r+b")


def encrypt(run: Opened, lot: random.Random, log: Log) -> str:
    """Overwrite every file of every source with noise, and give it another name."""
    proofs = []
    for directory, paths in _filled(run):
        with explained("overwrite the files", directory.path):
            size = sum(_overwrite(entry, lot) for entry in _regular(directory))
        _require_gone(directory, set(paths))
        log(f"{size} bytes of {directory.path} are noise now")
        proofs.append(f"{len(paths)} files of {directory.path} are noise under names that end in {_ENDING}")
    return "; ".join(proofs)


def _overwrite(entry: Node, lot: random.Random) -> int:
    """Return how many bytes are noise now."""
    with contextlib.suppress(FileNotFoundError), _opened(entry) as file:
        size = min(os.fstat(file.fileno()).st_size, _OVERWRITTEN)
        for offset in range(0, size, CHUNK):
            os.pwrite(file.fileno(), lot.randbytes(min(CHUNK, size - offset)), offset)
        name = os.fsdecode(os.fsencode(entry.name)[:_NAME]) + _ENDING
        os.rename(entry.name, name, src_dir_fd=entry.at, dst_dir_fd=entry.at)
        return size
    return 0


SCENARIO = scenarios.FILES
FAULTS = (
    ("volume_removed", "a volume and the containers that mount it are removed; a directory is emptied", remove),
    ("files_deleted", "half of the files are deleted, here and there", delete),
    ("files_altered", "bytes are turned over in half of the files, which keep their sizes and times", alter),
    ("files_encrypted", "every file is overwritten with noise and renamed, as an attacker's program does it", encrypt),
)  # fmt: skip
