# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recoveries that a host carries out alone, by the words of `lifeboat recover`."""

from __future__ import annotations

from . import backend, database, dumps, files, objects

RECOVERIES = {
    "database": database.RECOVERY,
    "objects": objects.RECOVERY,
    "files": files.RECOVERY,
    "dumps": dumps.RECOVERY,
    "backend": backend.RECOVERY,
}
