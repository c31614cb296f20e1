# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a keeper remembers of the WAL that it follows: see follow.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional

from ..base import filesystem, typed
from ..settings.config import Config

FILE = "following.json"
BEHIND = timedelta(minutes=10)  # a note comes every five minutes at least, also of a quiet stack


@dataclass(frozen=True)
class Followed:
    """noted_at: when the last note came, by the keeper's clock. reached: until when that one says that all is there.
    tried_at, failed: the last run, and why it ended early. left: spans that are not followed any more, as something of
    them was strange. used, measured_at: bytes of the quota, and when they were measured."""

    noted_at: Optional[datetime] = None
    reached: Optional[datetime] = None
    tried_at: Optional[datetime] = None
    failed: str = ""
    left: tuple[str, ...] = ()
    used: int = 0
    measured_at: Optional[datetime] = None

    @property
    def until(self) -> Optional[datetime]:
        """Since when something may be missing. Notes may come that say it of long ago, as after a keeper was away, and
        a host whose clock is ahead says it of later than they came."""
        return min(self.noted_at, self.reached) if self.noted_at and self.reached else None


def followed(config: Config) -> Followed:
    """What is remembered; nothing where it cannot be read: the spans themselves say the rest."""
    try:
        found = typed.maybe(Followed, filesystem.read_plain(Path(config.keeper.directory) / FILE))
    except OSError:
        found = None
    return found or Followed()


def remember(config: Config, state: Followed) -> None:
    data = json.dumps(typed.plain(state), indent=1).encode() + b"\n"
    filesystem.remember(Path(config.keeper.directory) / FILE, data, attempted="remember what was followed")
