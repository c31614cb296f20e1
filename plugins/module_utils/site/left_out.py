# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The databases and buckets that a site is recovered without: they are spoiled in the newest recovery point, or not in
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ..base.checks import FAIL, PASS, Check, PartCheck
from ..base.errors import present
from ..base.text import named, several
from ..database import held
from ..repository.catalog import Entry
from ..repository.details import DatabaseDetails, ObjectsDetails
from ..repository.manifest import Manifest
from ..settings.config import Config

# The names of the checks: the role site_recovery knows them.
LEFT_OUT = "databases left out"
BUCKETS_LEFT_OUT = "buckets left out"


def optional(config: Config, manifest: Manifest) -> frozenset[str]:
    """The artefacts without which a site can be recovered: those of other databases than the application's."""
    details = manifest.detailed(DatabaseDetails)
    own = held.of(manifest, config.database.name)[0].dump.name
    parts = {artefact.name: details.part_of(artefact.name) for artefact in manifest.artefacts}
    return frozenset(name for name, part in parts.items() if part is not None and part != own)


def buckets(manifest: Optional[Manifest]) -> list[Check]:
    """Return the check of buckets that the backup of the objects could not include; none where it has all."""
    missing = manifest.detailed(ObjectsDetails).missing if manifest else {}
    found = [f"the bucket {named(name)} is not in {present(manifest).id}: {why}" for name, why in missing.items()]
    return [Check(BUCKETS_LEFT_OUT, FAIL, "; ".join(found))] if found else []


@dataclass
class LeftOut:
    """What of a backup of the database a site is recovered without. manifest: None where the point has none. spoiled:
    why, by the names of the databases in it; the application's is never one: without it another point is taken."""

    config: Config
    manifest: Optional[Manifest]
    spoiled: dict[str, str]

    @classmethod
    def of_backup(cls, config: Config, manifest: Optional[Manifest], spoiled: Mapping[str, str]) -> LeftOut:
        return cls(config, manifest, dict(spoiled))

    @property
    def identity(self) -> str:
        return present(self.manifest).id

    @property
    def contents(self) -> tuple[held.Held, ...]:
        return held.of(self.manifest, self.config.database.name) if self.manifest else ()

    @property
    def required(self) -> list[str]:
        """Why the application's database cannot come back of it, or is not wanted."""
        if self.manifest is None:
            wanted = self.config.database.enabled
            return ["it has no backup of the database that lifeboat_database describes"] if wanted else []
        if not self.config.database.enabled:
            return [f"it holds {self.identity}, and lifeboat_database is false: describe the database to bring it back"]
        own = self.contents[0]
        return [f"the database {own.shown}: {self.spoiled[own.dump.name]}"] if own.dump.name in self.spoiled else []

    @property
    def databases(self) -> tuple[str, ...]:
        """Those that come back, as a restore names them; none where all do."""
        return tuple(item.shown for item in self.contents if item.dump.name not in self.spoiled) if self.spoiled else ()

    def without(self, proved: Sequence[Check]) -> list[Check]:
        """The checks but those of other databases that are spoiled, which are left out."""
        own = self.contents[0].dump.name if self.contents else ""
        parts = [check for check in proved if isinstance(check, PartCheck) and check.part != own]
        self.spoiled.update({check.part: check.detail for check in parts})
        rest = [check for check in proved if check not in parts]
        same = f"every byte but of {several('database', [check.part for check in parts])} is the one written"
        return rest if rest or not parts else [Check(f"{self.identity} in the vault", PASS, same)]

    @property
    def checks(self) -> list[Check]:
        """That not everything comes back, as the confirmed plan says."""
        missing = self.manifest.detailed(DatabaseDetails).missing if self.manifest else {}
        found = [f"{named(name)} is spoiled in {self.identity}: {why}" for name, why in self.spoiled.items()]
        found += [f"{named(name)} is not in {self.identity}: {why}" for name, why in missing.items()]
        return [Check(LEFT_OUT, FAIL, "; ".join(found))] if found else []

    def instead(self, entries: Sequence[Entry]) -> list[str]:
        """Of each that is spoiled, the newest backup in which it is good, and how it comes back of that."""
        lines = []
        for item in (item for item in self.contents if item.dump.name in self.spoiled):
            words = f"the database {item.shown} is left out, as it is spoiled in {self.identity}"
            good = [entry.id for entry in entries if entry.id != self.identity and self._holds(entry, item)]
            lines.append(
                f"{words}; {good[-1]} holds it: when the site is back, lifeboat.dr.recover_database"
                f" -e recovery_point={good[-1]} -e database={item.shown}"
                if good
                else f"{words}; no other backup holds it"
            )
        return lines

    def _holds(self, entry: Entry, item: held.Held) -> bool:
        """Whether the backup has it whole."""
        if not entry.serves or item.dump.name in entry.spoiled:
            return False
        return any(other.live == item.live for other in held.of(present(entry.manifest), self.config.database.name))
