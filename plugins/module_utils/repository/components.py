# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The components of a stack that are backed up, and what a repository and a recovery point must know of each.

This is the only list of them. What is done with each (taken, verified, judged, opened) says operations/components.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, Optional, TypeVar

from ..settings.config import Config
from .details import ConfigDetails, DatabaseDetails, ObjectsDetails

DATABASE, OBJECTS, CONFIG = "database", "objects", "config"
D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class Kind(Generic[D]):
    """One component. folder, prefix: of its backups in a repository. details: what their manifests say beyond the
    artefacts. configured: whether a stack has it.

    needed: a recovery point of a stack that has it cannot do without. tied: its backup should be of the instant of the
    rows. absent: what a point says where the stack does not have it; notes: what it says of the backup. counts: what
    must not shrink by half; accepted: whether an operator said that a backup is right, however much less it holds;
    guarded: a backup that shrank is refused when it is taken, unless an operator insists.
    elsewhere: what it stands for lies in the vault's mirror: an error there says nothing of the backup, and the mirror
    keeps what a backup needs. bytes: how much it is; held: the earlier backups that hold some of it, and how much.
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
    counts: Mapping[str, Callable[[D], int]] = field(default_factory=dict)
    accepted: Callable[[D], bool] = lambda details: False
    guarded: bool = False
    elsewhere: bool = False
    bytes: Callable[[D], Optional[int]] = lambda details: None
    held: Callable[[D], Mapping[str, int]] = lambda details: {}

    @property
    def word(self) -> str:
        """What the names of its checks have before `backup` and `proof`: of the database nothing."""
        return "" if self.name == DATABASE else f"{self.name} "

    def counted(self, details: D) -> dict[str, int]:
        return {what: count(details) for what, count in self.counts.items()}


def _unheld(details: ObjectsDetails) -> list[str]:
    count = details.in_no_backup
    return [f"{count} keys could not be held by the vault and are in no backup"] if count else []


def _held(details: ConfigDetails) -> Mapping[str, int]:
    held: dict[str, int] = {}
    for part in details.parts.values():
        held[part.backup] = held.get(part.backup, 0) + part.size
    return held


def _left_out(details: ConfigDetails) -> list[str]:
    left = details.left_out
    return [f"{len(left)} secret files are not in it, as no recipient was configured"] if left else []


_TABLES: Mapping[str, Callable[[DatabaseDetails], int]] = {
    "tables": lambda details: details.fingerprint.tables, "rows": lambda details: details.fingerprint.rows,
}  # fmt: skip

AnyKind = Kind[Any]
# The order in which they are taken. The database is first: a recovery point is of the instant of its rows.
KINDS: dict[str, AnyKind] = {
    kind.name: kind
    for kind in (
        Kind(
            DATABASE, "postgresql", "db", DatabaseDetails, needed=True, counts=_TABLES,
            accepted=lambda details: details.accepted,
        ),
        Kind(
            OBJECTS, "objects", "objects", ObjectsDetails, lambda config: bool(config.objects.bucket),
            needed=True, tied=True, absent="the stack has no bucket", notes=_unheld,
            counts={"objects": lambda details: details.objects}, guarded=True, elsewhere=True,
            bytes=lambda details: details.bytes,
        ),
        Kind(
            CONFIG, "config", "config", ConfigDetails, lambda config: config.config.enabled, notes=_left_out,
            held=_held,
        ),
    )
}  # fmt: skip


def configured(config: Config) -> list[AnyKind]:
    """What the stack has to be backed up."""
    return [kind for kind in KINDS.values() if kind.configured(config)]
