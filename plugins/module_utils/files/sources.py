# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the directories of lifeboat_files lie on this host, and which services write to them."""

from __future__ import annotations

from dataclasses import dataclass

from ..base import filesystem
from ..base.errors import NotFoundError, UsageError
from ..base.text import named
from ..settings.parts import FileSource
from ..stack import mounts
from ..stack.runtime import Opened


@dataclass(frozen=True)
class Directory:
    """One source. path: on this host. volume: as the engine calls it, where it is one. services: those that mount it
    and may write, of its users."""

    source: FileSource
    path: str
    volume: str = ""
    services: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def paused(self) -> tuple[str, ...]:
        """The services that stand still while it is read."""
        if self.source.consistency == "live":
            return ()
        return self.source.services or self.services


def directories(run: Opened, *, there: bool = True) -> list[Directory]:
    """Every source, in the order of their names. Raises NotFoundError where a volume is none that the stack mounts.
    there: it must be there, too; else the place of a volume that has to be made is empty."""
    configured = run.config.files.sources
    stack = mounts.places(run) if configured else []
    found = []
    for source in sorted(configured, key=lambda source: source.name):
        if source.volume:
            mount = next(
                (mount for mount in stack if source.volume in (mount.name, mount.source) and mount.volume), None
            )
            if mount is None:
                known = ", ".join(sorted(named(mount.name) for mount in stack if mount.volume)) or "none"
                raise NotFoundError(
                    "find the volume of the files", source.volume, f"no service mounts it; the stack mounts {known}",
                    f"Correct the volume of {source.name} in lifeboat_files, or take it out.",
                )  # fmt: skip
            if mount.problem and (there or mount.path):
                raise UsageError(
                    "find the volume of the files", source.volume, mount.problem, "Correct lifeboat_files."
                )
            found.append(Directory(source, mount.path, mount.source, mount.writers, mount.users))
        else:
            below = [mount for mount in stack if _touches(mount.path, source.path)]
            writers = sorted({writer for mount in below for writer in mount.writers})
            found.append(Directory(source, source.path, "", tuple(writers)))
    return found


def _touches(first: str, second: str) -> bool:
    """Is one of two directories in the other, or the other?"""
    if not first or not second:
        return False
    upper, lower = sorted(filesystem.real(path).rstrip("/") + "/" for path in (first, second))
    return lower.startswith(upper)
