# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a service's damaged data aside, moved and never copied; find it again; remove it when an operator says so."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Optional

from ..base import filesystem, pipeline
from ..base.errors import LifeboatError
from ..base.filesystem import explained
from ..base.pipeline import Command
from .runtime import DataMount, Runtime

_LABEL = "lifeboat.quarantine"
REPLACED = ".lifeboat-aside-"  # and the stamp: a directory among an application's files, with what a recovery replaced
_STAMP = re.compile(rf"(?:.[/._-]quarantine[/_-]|/{re.escape(REPLACED)})([0-9]{{8}})[_-]([0-9]{{6}})", re.DOTALL)
_FILES = "quarantine"  # below the stack's state directory: a directory for each recovery

# What a recovery copies out of an object store before it is rebuilt, in the stack's state: this, and its stamp.
COPIES = "buckets.quarantine_"
INDEX = "index.json"  # written last: without it the copy is of a run that was killed, and nothing had been moved
SETTLED = "settled"  # a file in one that no recovery takes up again


def aside(stack_name: str, mount: DataMount, stamp: str) -> Path:
    """Move the data aside by rename: instant, whatever its size, and complete or not at all. Leaves an empty directory.

    A volume's goes into a volume of its own, so that the engine knows of it; a directory's beside it.
    """
    attempted, where = "quarantine the data directory", str(mount.path)
    info, moved = mount.path.stat(), False
    if mount.kind == "volume":
        _remove_empty(stack_name, mount)
        label, name = f"{_LABEL}={stack_name}", f"{mount.name}_quarantine_{stamp}"
        create = Command(["docker", "volume", "create", "--label", label, name])
        made = pipeline.output(create, attempted=attempted, subject=where).strip()
        inspect = Command(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", made])
        target = Path(pipeline.output(inspect, attempted=attempted, subject=where).strip())
    else:
        target = mount.path.with_name(f"{mount.path.name}.quarantine_{stamp}")
    try:
        if mount.kind == "volume":
            target.rmdir()
        mount.path.rename(target)
        moved = True
        filesystem.create_directory(mount.path, info)
    except OSError as exc:
        remedy = f"Move it to {target} by hand, then run the recovery again."
        if moved:
            back = f"rmdir {shlex.quote(where)}; mv {shlex.quote(str(target))} {shlex.quote(where)}"
            remedy = f"The old data lies in {target}. To go back: {back}"
        raise LifeboatError(attempted, where, exc.strerror or str(exc), remedy) from exc
    return target


def _earlier(stack_name: str, mount: DataMount) -> dict[str, Path]:
    """The volumes in which data of this one was put aside, each with its directory."""
    prefix = f"{mount.name}_quarantine_"
    return {name: path for name, path in volumes(stack_name).items() if name.startswith(prefix)}


def _remove_empty(stack_name: str, mount: DataMount) -> None:
    """A run that was killed in aside() before its rename left a volume in which nothing is, or not even a directory."""
    for name, path in _earlier(stack_name, mount).items():
        with explained("look whether a volume in quarantine is empty", path):
            empty = not path.is_dir() or not any(path.iterdir())
        if empty:
            with contextlib.suppress(LifeboatError):  # a container has it: it stays
                remove(name)


def put_aside(
    stack_name: str, stack: Runtime, service: str, mount: DataMount, stamp: str, *, empty: bool = True,
    log: Callable[[str], None],
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """Take the service away from its data, and put that aside where there is any. Returns where, and the way back.
    empty: also a directory in which nothing is."""
    stack.discard(service, timeout=120)
    if mount.path == Path():
        return "", ()
    if not mount.path.is_dir():
        _make_again(stack_name, mount, log)
        return "", ()
    stack.by_hand(service)  # what cannot be told afterwards must fail before
    if not empty and not filesystem.is_filled(mount.path):
        return "", ()
    kept = aside(stack_name, mount, stamp)
    log(f"quarantined {mount.path} as {kept}")
    return str(kept), way_back(stack, service, mount, kept)


def _make_again(stack_name: str, mount: DataMount, log: Callable[[str], None]) -> None:
    """A run that was killed between aside()'s two steps left no directory: the engine starts nothing without it. Where
    nothing was ever put aside, Compose makes it."""
    if mount.kind == "volume":
        earlier = [path for path in _earlier(stack_name, mount).values() if path.is_dir()]
    else:
        earlier = directories(mount.path) if mount.path.parent.is_dir() else []
    if not earlier:
        return
    info = max(earlier, key=lambda path: path.parent.name if mount.kind == "volume" else path.name).stat()
    with explained("make the data directory again", mount.path):
        filesystem.create_directory(mount.path, info)
    log(f"made {mount.path} again, which an earlier run had put aside")


def way_back(stack: Runtime, service: str, mount: DataMount, quarantined: Path) -> tuple[str, ...]:
    """Commands that put the old data back, for an operator to type."""
    stop, start = stack.by_hand(service)
    old, new = shlex.quote(str(quarantined)), shlex.quote(str(mount.path))
    return stop, f"mv {new} {shlex.quote(f'{mount.path}.recovered')}", f"mv {old} {new}", start


def since(name: str) -> Optional[datetime]:
    """When what has this name was put aside; None where it is not a name that a recovery gives."""
    found = _STAMP.search(name)
    if not found or found.end() != len(name):
        return None
    try:
        return datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def volumes(stack_name: str) -> dict[str, Path]:
    """The stack's volumes in quarantine, each with its directory."""
    attempted, subject = "list the volumes in quarantine", stack_name
    listing = Command(["docker", "volume", "ls", "--quiet", "--filter", f"label={_LABEL}={stack_name}"])
    names = pipeline.output(listing, attempted=attempted, subject=subject, timeout=60).split()
    if not names:
        return {}
    inspect = Command(["docker", "volume", "inspect", "--format", "{{.Name}} {{.Mountpoint}}", *names])
    lines = pipeline.output(inspect, attempted=attempted, subject=subject, timeout=60).splitlines()
    return {name: Path(place) for name, _space, place in (line.partition(" ") for line in lines)}


def remove(volume: str) -> None:
    """The engine refuses while a container uses it."""
    command, remedy = Command(["docker", "volume", "rm", volume]), "Does a container use it? docker ps --all"
    pipeline.output(command, attempted="remove the volume", subject=volume, timeout=600, remedy=remedy)


def directories(data: Path) -> list[Path]:
    """What lies in quarantine next to a directory."""
    with explained("look for what is in quarantine", data.parent):
        return sorted(path for path in data.parent.glob(f"{glob.escape(data.name)}.quarantine_*") if path.is_dir())


def replaced(source: Path) -> list[Path]:
    """What recoveries of an application's files replaced in one of its directories. A link is none of them."""
    with explained("look for what is in quarantine", source):
        found = [path for path in source.glob(f"{REPLACED}*") if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in found if since(str(path)))


def files(state: Path) -> list[Path]:
    """A directory for each recovery that replaced files of the project."""
    with explained("look for what is in quarantine", state):
        return sorted(path for path in state.glob(f"{_FILES}/*") if path.is_dir())


def copies(state: Path, *, whole: bool) -> list[Path]:
    """What recoveries copied out of an object store, the oldest first. Not whole: what a killed one began."""
    with explained("look for what was copied out of the object store", state):
        return sorted(path for path in state.glob(f"{COPIES}*") if (path / INDEX).exists() is whole)


def size(path: Path) -> int:
    """Bytes on the disk, what removing it frees. Nothing where the way back moved it home."""

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    found = 0
    with explained("measure what is in quarantine", path):
        for folder, _folders, names in os.walk(path, onerror=failed):
            found += sum(os.lstat(os.path.join(folder, name)).st_blocks * 512 for name in names)
    return found
