# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of a config backup may be put on a machine: those that the inventory names, and what an operator allows.

The backup was written by the stack's host. Who held that host wrote what he wanted into it, and a recovery places files
as root: a path that only the backup names is left out, and said so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..base import filesystem
from ..base.checks import COULD_NOT_VERIFY, SHOWN, Check
from ..base.errors import printable
from ..settings.config import Config
from ..tools.tar import DIRECTORY, LINK, Entry

LEFT_OUT = "files left out"  # the name of the check: the role site_recovery knows it
UNNAMED = "the inventory does not name it"
_SPECIAL = {0o4000: "setuid", 0o2000: "setgid", 0o1000: "sticky"}


@dataclass(frozen=True)
class LeftOut:
    """A file of a backup that is not restored as it is there. path: as text for a terminal and as an allowed path."""

    path: str
    why: str

    @property
    def description(self) -> str:
        return f"{self.path}: {self.why}"


@dataclass(frozen=True)
class Allowed:
    """roots: paths that may be placed, with all that is below them. exact: paths that may be placed as they are."""

    roots: tuple[str, ...]
    exact: frozenset[str] = frozenset()

    def covers(self, path: str) -> bool:
        """Return whether a path, which must be in its plain form, is one that may be placed."""
        plain = path.startswith("/") and not path.startswith("//") and os.path.normpath(path) == path
        return plain and "\0" not in path and any(path == root or path.startswith(f"{root}/") for root in self.roots)

    def sift(self, entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], tuple[LeftOut, ...]]:
        """Return the entries as they may be placed, and what is left out of them."""
        fit: dict[str, Entry] = {}
        left: list[LeftOut] = []
        for path, entry in sorted(entries.items()):
            why = self._refused(path, entry)
            if why:
                if not _in_place(path, entry):
                    left.append(LeftOut(printable(path), why))
                continue
            as_it_is = path in self.exact or self.on_the_way(path, entry)  # of a directory no bit gives a right
            fit[path], bits = (entry, "") if as_it_is else _without_bits(entry)
            if bits:
                left.append(LeftOut(printable(path), f"it is placed without its {bits} bit ({entry.mode:04o})"))
        return fit, tuple(left)

    def way_out(self, path: str, real: str = "") -> str:
        """Return why a path would not land where it is named: a link on this machine leads out on its way. Empty: it
        would.

        real: where its directory lies, for who is going to write just there.
        """
        real = real or filesystem.real(Path(path).parent)
        place = os.path.join(real, Path(path).name)
        if self.covers(place) or (place == path and self._leads(path)):
            return ""
        return f"on this machine its directory is a link that leads outside, to {printable(real)}"

    def _leads(self, path: str) -> bool:
        """Return whether a path is above one that may be placed."""
        return path.startswith("/") and any(root.startswith(f"{path}/") for root in self.roots)

    def on_the_way(self, path: str, entry: Entry) -> bool:
        """Return whether it is a directory above what may be placed: only one that is missing is made."""
        return entry.type == DIRECTORY and not self.covers(path) and self._leads(path)

    def _refused(self, path: str, entry: Entry) -> str:
        if not self.covers(path):
            return "" if self.on_the_way(path, entry) else UNNAMED
        if entry.type == LINK and path not in self.exact and not self._inside(path, entry.target):
            return f"it is a link that leads outside, to {printable(entry.target)}"
        return ""

    def _inside(self, path: str, target: str) -> bool:
        """`..` behind a name is refused: behind a link it leads elsewhere than it reads."""
        names = [part for part in target.split("/") if part not in ("", ".")]
        climbs = 0 if target.startswith("/") else next((n for n, part in enumerate(names) if part != ".."), len(names))
        return ".." not in names[climbs:] and self.covers(os.path.normpath(os.path.join(Path(path).parent, target)))


def allowed_paths(config: Config, allow: Iterable[str] = ()) -> Allowed:
    """Return the stack's directory, the paths of lifeboat_config and lifeboat_runtime, and those that are allowed."""
    directory = config.runtime.project_directory
    exact = frozenset(_plain(path) for path in allow if path.startswith("/"))
    named = [directory, *(os.path.join(directory or "/", file) for file in config.runtime.files)]
    named += [*config.config.files, *config.config.secret_files, config.config.site_directory]
    named += [str(config.identities)] if config.objects.bucket else []
    inventory = _topmost(_plain(path) for path in named if path)
    # What lies above a named path is this machine's own: nothing of a backup can have put a link there.
    ours = [path for path in inventory if not _turned(path)]
    above = [os.path.join(filesystem.real(Path(path).parent), Path(path).name) for path in ours]
    linked = [filesystem.real(path) for path in ours if Path(path).is_symlink() and path not in exact]
    return Allowed(_topmost([*inventory, *above, *linked, *exact]), exact)


def checks(left: Sequence[LeftOut]) -> tuple[Check, ...]:
    """Return the check of a recovery for these files, none if there are none. A file left out could not be verified."""
    more = f"; and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    words = "; ".join(one.description for one in left[:SHOWN]) + more
    return (Check(LEFT_OUT, COULD_NOT_VERIFY, words),) if left else ()


def _plain(path: str) -> str:
    return os.path.normpath(path).replace("//", "/", 1)


def _turned(path: str) -> bool:
    """Return whether a link on the way is somebody else's than root's, who may have turned it anywhere a moment ago."""
    done, rest, links = "/", [part for part in path.split("/") if part], 0
    while rest:
        step = os.path.normpath(os.path.join(done, rest.pop(0)))
        try:
            target, owner = os.readlink(step), os.lstat(step).st_uid  # noqa: PTH115 - as it was written
        except OSError:  # none, or nothing
            done = step
            continue
        links += 1
        if owner not in (0, os.geteuid()) or links > 40:
            return True
        rest, done = [*(part for part in target.split("/") if part), *rest], "/" if target.startswith("/") else done
    return False


def _topmost(paths: Iterable[str]) -> tuple[str, ...]:
    """Without those below others. `/` is the whole machine, which no inventory means."""
    found: list[str] = []
    for path in sorted(set(paths) - {"/"}):
        if not any(path.startswith(f"{other}/") for other in found):
            found.append(path)
    return tuple(found)


def _without_bits(entry: Entry) -> tuple[Entry, str]:
    bits = [name for bit, name in _SPECIAL.items() if entry.mode & bit and entry.type != LINK]
    return replace(entry, mode=entry.mode & 0o777), " and ".join(bits)


def _in_place(path: str, entry: Entry) -> bool:
    """Is it a directory or a link that this machine has just so? Then nothing is lacking."""
    live = Path(path.replace("\0", "?"))
    if entry.type == DIRECTORY:
        return live.is_dir()
    return entry.type == LINK and filesystem.link(live) == entry.target
