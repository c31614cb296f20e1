# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a service's damaged data aside. It is moved, never copied and never deleted."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Callable

from ..base import pipeline
from ..base.errors import LifeboatError
from ..base.pipeline import Command
from .runtime import DataMount, Runtime


def aside(stack_name: str, mount: DataMount, stamp: str) -> Path:
    """Move the data aside by rename: instant, whatever its size, and complete or not at all. Leaves an empty directory.

    A volume's goes into a volume of its own, so that the engine knows of it; a directory's beside it.
    """
    attempted, where = "quarantine the data directory", str(mount.path)
    info = mount.path.stat()
    if mount.kind == "volume":
        label, name = f"lifeboat.quarantine={stack_name}", f"{mount.name}_quarantine_{stamp}"
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
        mount.path.mkdir(mode=info.st_mode & 0o7777)
        os.chown(mount.path, info.st_uid, info.st_gid)
    except OSError as exc:
        remedy = f"Move it to {target} by hand, then run the recovery again."
        raise LifeboatError(attempted, where, exc.strerror or str(exc), remedy) from exc
    return target


def put_aside(
    stack_name: str, stack: Runtime, service: str, mount: DataMount, stamp: str, *, log: Callable[[str], None]
) -> tuple[str, tuple[str, ...]]:
    """Take the service away from its data, and put that aside where there is any. Returns where, and the way back."""
    stack.discard(service, timeout=120)
    if mount.path == Path() or not mount.path.is_dir():
        return "", ()
    kept = aside(stack_name, mount, stamp)
    log(f"quarantined {mount.path} as {kept}")
    return str(kept), way_back(stack, service, mount, kept)


def way_back(stack: Runtime, service: str, mount: DataMount, kept: Path) -> tuple[str, ...]:
    """Commands that put the old data back, for an operator to type."""
    stop, start = stack.by_hand(service)
    old, new = shlex.quote(str(kept)), shlex.quote(str(mount.path))
    return stop, f"mv {new} {shlex.quote(f'{mount.path}.recovered')}", f"mv {old} {new}", start
