# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Can the stack's database be reached the way a backup reaches it?"""

from __future__ import annotations

from dataclasses import dataclass

from ..stack.runtime import Opened
from . import server as database_server

# Below these minors a plain dump restored by psql can run commands that stand in the data (CVE-2026-18408).
SAFE_MINORS = {17: 170011, 16: 160015, 15: 150019}


@dataclass(frozen=True)
class Database:
    name: str
    size: int
    user: str
    server_version_num: int

    @property
    def warning(self) -> str:
        """What its server's version makes unsafe; empty where nothing is known."""
        major, minor = divmod(self.server_version_num, 10000)
        if self.server_version_num >= SAFE_MINORS.get(major, 0):
            return ""
        return (
            f"PostgreSQL {major}.{minor} restores plain dumps unsafely (CVE-2026-18408);"
            f" update it to {major}.{SAFE_MINORS[major] % 10000} or newer"
        )


def database(run: Opened) -> Database:
    """Log in as the account that takes backups. Raises LifeboatError with the reason where that fails."""
    server = database_server.for_backups(run)
    size = database_server.require_database(server, server.database)
    with server.session(server.database):  # the account may see the database and yet not be let in
        pass
    return Database(server.database, size, server.user, server.version_num)
