# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every fault of a service is made of: kill it, take its data, and look whether that took."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from ...base import pipeline
from ...base.errors import LifeboatError, UsageError
from ...base.filesystem import explained, remove
from ...base.pipeline import Command
from ...stack.runtime import Opened
from ...stack.service import DataMount, ServiceState


def docker(attempted: str, subject: str, *arguments: str, timeout: float = 60) -> None:
    pipeline.run([Command(["docker", *arguments])], attempted=attempted, subject=subject, timeout=timeout)


def kill(run: Opened, service: str) -> ServiceState:
    """SIGKILL, as when the kernel is out of memory; it stays dead. Returns what it is then."""
    stack = run.runtime
    before = stack.state(service)
    if not before.running:
        raise UsageError("kill the service", service, f"it is {before.describe()} already")
    attempted = "kill the service"
    if run.config.runtime.type == "compose":
        docker(attempted, service, "kill", before.id)
    else:
        words = ["systemctl", "kill", "--signal=KILL", service]
        pipeline.run([Command(words)], attempted=attempted, subject=service, timeout=60)
        stack.stop([service], timeout=60)  # or systemd starts it again
    return stopped(run, service)


def stopped(run: Opened, service: str) -> ServiceState:
    """Its state, which must be that it does not run."""
    state = run.runtime.state(service)
    if state.running:
        raise did_not_take(service, f"it is {state.describe()}")
    return state


def did_not_take(what: str, cause: str) -> LifeboatError:
    return LifeboatError("see that the fault took", what, cause, "Nothing can be rehearsed; look at it by hand.")


def mount(run: Opened, service: str, inside: str) -> DataMount:
    """Where its data lies on this host."""
    found = run.runtime.data_mount(service, inside)
    if found.path == Path() or not found.path.is_dir():
        raise UsageError("find the data", f"{service}:{inside}", "its directory cannot be seen from this host")
    return found


def empty(directory: Path) -> int:
    """Delete all that is in the directory; returns how many entries that were. There must be some, and none be left."""
    with explained("empty the data directory", directory):
        entries = list(directory.iterdir())
        for entry in entries:
            remove(entry)
        left = len(list(directory.iterdir()))
    if not entries or left:
        raise did_not_take(str(directory), f"{len(entries)} entries before, {left} after")
    return len(entries)


def remove_volume(run: Opened, service: str, data: DataMount) -> str:
    """The container and its volume, or its directory where it has that: gone. Returns the proof."""
    run.runtime.discard(service, timeout=120)
    if data.kind == "volume":
        docker("remove the volume", data.name, "volume", "rm", data.name)
    else:
        with explained("remove the data directory", data.path):
            shutil.rmtree(data.path)
    if data.path.exists():
        raise did_not_take(data.name, f"{data.path} is still there")
    return f"{data.kind} {data.name} is gone, and {service} is {stopped(run, service).describe()}"


def noise(path: Path, lot: random.Random, *, offset: int = 0, size: int = 32768) -> int:
    """Random bytes over what was there, no byte more or less. Returns how many bytes changed."""
    with explained("overwrite the file", path), path.open("r+b") as file:
        file.seek(offset)
        before = file.read(size)
        after = lot.randbytes(len(before))
        file.seek(offset)
        file.write(after)
    changed = sum(old != new for old, new in zip(before, after))
    if not changed:
        raise did_not_take(str(path), "it holds nothing that could be overwritten")
    return changed
