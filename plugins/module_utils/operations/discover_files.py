# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which mounts of a project become sources of lifeboat_files in a drafted inventory."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..base.text import named
from ..stack.compose import within
from ..stack.contents import SQLITE
from ..stack.mounts import MountLocation
from ..stack.state import ANONYMOUS, BIND, StateMount

MOST = 50  # sources of a draft
_LONGEST = 60  # characters of a name


def sources(
    unprotected: Sequence[StateMount], places: Sequence[MountLocation], directory: str, stores: Sequence[str]
) -> list[dict[str, str]]:
    """Return a source for each mount that keeps plain files or SQLite.

    directory: of the project, whose files and secrets are in the backup of the configuration. stores: services whose
    data has a backup of its own. Data of another database server is left to the operator: its files, copied while it
    is at work, are no backup.
    """
    found: list[dict[str, str]] = []
    by_name = {(place.volume, named(place.source)): place for place in places}
    for mount in sorted(unprotected, key=lambda mount: mount.name):
        place = by_name.get((mount.type != BIND, mount.volume or mount.name))
        if mount.type == ANONYMOUS or place is None or place.problem or not Path(place.path).is_dir():
            continue
        if mount.services & {*stores} or not all(server.startswith(SQLITE) for server in mount.servers):
            continue
        if within(directory, place.path) or any(within(place.path, other.get("path", "")) for other in found):
            continue
        where = {"volume": place.name} if place.volume else {"path": place.path}
        name = _unused(_plain(place.name if place.volume else os.path.basename(place.path)), found)
        found.append({"name": name, **where})
    return found[:MOST]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST] or "files"


def _unused(name: str, used: Sequence[dict[str, str]]) -> str:
    taken = {source["name"] for source in used}
    numbered = (f"{name}-{number}" if number > 1 else name for number in range(1, len(taken) + 2))
    return next(text for text in numbered if text not in taken)
