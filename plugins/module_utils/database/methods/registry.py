# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods by which a backup of the database is brought back: the only list of them."""

from __future__ import annotations

from datetime import datetime
from typing import Optional

from ...base.errors import UsageError
from ...repository import catalog
from ...repository.catalog import Entry
from ...repository.details import DatabaseDetails
from ...repository.manifest import Manifest
from .base import Method
from .logical.method import Logical

METHODS: dict[str, Method] = {method.name: method for method in (Logical(),)}


def of(manifest: Manifest) -> Method:
    """The method by which a backup was made."""
    name = manifest.detailed(DatabaseDetails).method
    if name not in METHODS:
        raise UsageError(
            "choose the method of the database's backups", name, f"there is {', '.join(METHODS)}",
            "A newer Lifeboat may know it: update, or choose another backup.",
        )  # fmt: skip
    return METHODS[name]


def reach(entry: Entry, target: datetime) -> Optional[datetime]:
    """The newest instant that a restore of the backup can bring back, not after the target: by which it is chosen.
    One that cannot be read, or is by another method, counts by its snapshot; the error comes when it is opened."""
    if entry.manifest is None or entry.manifest.detailed(DatabaseDetails).method not in METHODS:
        return catalog.snapshot(entry, target)
    return of(entry.manifest).reaches(entry.manifest, target).newest(target)
