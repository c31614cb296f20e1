# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other backups of the store hold and the one that is to be restored does not: buckets of newer ones, and those
that are gone since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ..base.errors import present
from ..base.text import Untested, named
from ..mirror import store
from ..repository.catalog import Entry
from ..repository.details import ObjectsDetails
from ..settings.config import ObjectsSettings


@dataclass(frozen=True)
class Lacking:
    """Buckets, each with the newest backup that holds it. newer: newer backups than `chosen` hold it, and it does not.
    dropped: neither the newest backup nor the store has it. missing: `chosen` could not include it, an older backup
    did."""

    chosen: str
    newer: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def warnings(self, in_store: Optional[Collection[str]]) -> list[str]:
        """in_store: what is there, None where the store does not tell."""
        gone = ", which is not in the store" if in_store is not None else ""
        return [
            *(
                f"the bucket {named(name)} is neither in the store nor in the newest backup: it counts as deleted on"
                f" purpose; if it was not: {_to_take(name, backup)}"
                for name, backup in self.dropped.items()
            ),
            *(
                f"{self.chosen} does not hold the bucket {named(name)}{gone}; {backup} does: {_to_take(name, backup)}"
                for name, backup in {**self.newer, **self.missing}.items()
                if name not in (in_store or ())
            ),
        ]

    def untested(self, stays: Collection[str]) -> tuple[Untested, ...]:
        """The like for the record of the recovery. stays: the names of buckets that are not touched."""
        gaps = {name: f"only newer backups hold it, such as {backup}" for name, backup in self.newer.items()}
        gaps |= {name: f"the newest that holds it is {backup}" for name, backup in self.missing.items()}
        return tuple(Untested(f"the bucket {named(name)}", why) for name, why in gaps.items() if name not in stays)


def _to_take(name: str, backup: str) -> str:
    return f"-e recovery_point={backup} -e bucket={named(name)}"


def find(
    objects: ObjectsSettings, entries: Sequence[Entry], chosen: Entry, in_store: Optional[Collection[str]]
) -> Lacking:
    """By the manifests alone, of the buckets that are to be in backups. entries: the backups, oldest first. in_store:
    as above."""
    readable = [entry for entry in entries if entry.manifest and not entry.unknown and not entry.ahead]
    holders = {
        name: entry.id for entry in readable for name in _bucket_names(entry) if store.is_selected(objects, name)
    }
    own, newest = _bucket_names(chosen), readable[-1] if readable else None
    in_newest = _bucket_names(newest) if newest else ()
    known = {*in_newest, *(in_store or ())}
    newer = {
        name: backup for name, backup in holders.items() if name in known and name not in own and backup > chosen.id
    }
    left_out = {*present(chosen.manifest).detailed(ObjectsDetails).missing} - {*own}
    missing = {name: backup for name, backup in holders.items() if name in left_out and backup < chosen.id}
    details = present(newest.manifest).detailed(ObjectsDetails) if newest else None
    if details is None or in_store is None or details.unprotected is None or details.unlisted:
        return Lacking(chosen.id, newer, missing=missing)
    known |= {*details.missing, *details.unprotected, *details.excluded, *details.vaults, *own}
    dropped = {name: backup for name, backup in holders.items() if name not in known}
    return Lacking(chosen.id, newer, dropped, missing)


def _bucket_names(entry: Entry) -> tuple[str, ...]:
    return tuple(held.name for held in present(entry.manifest).detailed(ObjectsDetails).buckets)
