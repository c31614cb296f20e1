# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server whose write-ahead log lies outside of its data: `initdb --waldir`, or a link that somebody made."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..base.errors import LifeboatError
from ..base.text import named
from ..stack.runtime import Opened, database_mount


def elsewhere(run: Opened) -> str:
    """Return where `pg_wal` of the server's data leads to; empty where it is a directory there, or cannot be read."""
    with contextlib.suppress(LifeboatError, OSError, ValueError):
        data = database_mount(run.config, run.runtime).path
        return named(str((data / "pg_wal").readlink())) if data != Path() else ""  # a volume that is gone has no path
    return ""


def caution(run: Opened) -> str:
    """Say what a rebuild has to know of that; empty where there is nothing to say."""
    place, service = elsewhere(run), run.config.database.service
    if not place:
        return ""
    return (
        f"the write-ahead log of {service} lies in {place}, outside of its data (initdb --waldir): a rebuild puts the"
        " data aside without it, and that data starts only with it. Keep a copy of that directory first, and empty it"
        " where the fresh server is made with the same --waldir: initdb refuses one that is not empty"
    )
