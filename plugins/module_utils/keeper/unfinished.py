# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pull that never came to its end: it was killed, for memory, by systemd's time limit, or with the power."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ..base import filesystem, lock, typed
from ..base.filesystem import explained
from ..settings.config import Config

FILE = "pulling.json"


@dataclass(frozen=True)
class _Begun:
    at: datetime


def begin(directory: Path, at: datetime) -> None:
    path = directory / FILE
    with explained("note that a pull begins", path):
        data = json.dumps(typed.plain(_Begun(at))).encode() + b"\n"
        filesystem.write(path, data, directory / f".{FILE}")


def end(directory: Path) -> None:
    with explained("note that the pull ended", directory / FILE):
        (directory / FILE).unlink(missing_ok=True)


def begun(directory: Path) -> Optional[datetime]:
    """Return when the pull began that has not ended; None if there is none. To a holder of the lock it was killed."""
    try:
        found = typed.maybe(_Begun, filesystem.read_plain(directory / FILE))
    except FileNotFoundError:
        return None
    except OSError:
        found = None
    return found.at if found else datetime.fromtimestamp((directory / FILE).lstat().st_mtime).astimezone()


def killed(config: Config) -> Optional[datetime]:
    """Return the same for somebody who does not hold the lock: a pull that runs is none that was killed."""
    directory = Path(config.keeper.directory)
    at = begun(directory)
    return None if at is None or lock.busy(config.stack, directory) else begun(directory)
