# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The components of a stack that are backed up, and what a repository and a recovery point must know of each.

This is the only list of them. What is done with one (taken, verified, opened) is operations/components.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Generic, TypeVar

from ..settings.config import Config
from .details import ConfigDetails, DatabaseDetails, ObjectsDetails

DATABASE, OBJECTS, CONFIG = "database", "objects", "config"
D = TypeVar("D")


@dataclass(frozen=True)
class Kind(Generic[D]):
    """One component. folder, prefix: of its backups in a repository. details: what their manifests say beyond the
    artefacts. configured: whether a stack has it.

    needed: a recovery point of a stack that has it cannot do without. tied: its backup should be of the instant of the
    rows. absent: what a point says where the stack does not have it; notes: what it says of the backup. counts: what
    must not shrink by half.
    """

    name: str
    folder: str
    prefix: str
    details: type[D]
    configured: Callable[[Config], bool] = lambda config: True
    needed: bool = False
    tied: bool = False
    absent: str = "no backup of it is wanted"
    notes: Callable[[D], list[str]] = lambda details: []
    counts: Callable[[D], Mapping[str, int]] = lambda details: {}


def _tables(details: DatabaseDetails) -> Mapping[str, int]:
    return {"tables": details.fingerprint.tables, "rows": details.fingerprint.rows}


def _unheld(details: ObjectsDetails) -> list[str]:
    count = details.in_no_backup
    return [f"{count} keys could not be held by the vault and are in no backup"] if count else []


def _left_out(details: ConfigDetails) -> list[str]:
    left = details.left_out
    return [f"{len(left)} secret files are not in it, as no recipient was configured"] if left else []


# The order in which they are taken. The database is first: a recovery point is of the instant of its rows.
KINDS: dict[str, Kind[Any]] = {
    kind.name: kind
    for kind in (
        Kind(DATABASE, "postgresql", "db", DatabaseDetails, needed=True, counts=_tables),
        Kind(
            OBJECTS, "objects", "objects", ObjectsDetails, lambda config: bool(config.objects.bucket),
            needed=True, tied=True, absent="the stack has no bucket", notes=_unheld,
            counts=lambda details: {"objects": details.objects},
        ),
        Kind(CONFIG, "config", "config", ConfigDetails, lambda config: config.config.enabled, notes=_left_out),
    )
}  # fmt: skip


def configured(config: Config) -> list[str]:
    """What the stack has to be backed up."""
    return [name for name, kind in KINDS.items() if kind.configured(config)]
