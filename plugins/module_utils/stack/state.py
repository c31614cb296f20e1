# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a stack, mount by mount: what a backup protects, what is excluded by name, and what is in no backup.

mounts.py takes the inventory. It is written into the manifest of a configuration backup, so that the plan of a site
whose host is gone knows it too. What nobody protected or excluded is COULD_NOT_VERIFY wherever it is judged.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, Optional

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, PASS, SHOWN, Check
from ..base.text import Untested, named
from ..settings.config import Config

CHECK = "mounts"  # what the check is called, in status, plans and evidence
EXCLUDE = "lifeboat_mounts.exclude"
VOLUME, ANONYMOUS, BIND = "volume", "anonymous volume", "bind mount"
Protection = Literal["protected", "excluded", "unprotected", "no state"]
PROTECTED: Final = "protected"
EXCLUDED: Final = "excluded"
UNPROTECTED: Final = "unprotected"
NO_STATE: Final = "no state"
_LONGEST = 250  # characters of a name in a manifest
REMEDY = f"back it up by other means and name it in {EXCLUDE} with the reason"


@dataclass(frozen=True)
class StateMount:
    """One mount of the stack, as text that prints.

    name: as lifeboat_mounts.exclude takes it: of a volume its key in the Compose files, of an anonymous one
    service:/target, of a bind mount the path on the host. volume: as the engine calls it. uses: service:/target of
    each. by: the component that protects it. why: the reason of its protection. servers: the databases found in it.
    unseen: what of it could not be read, and why.
    """

    SPARSE: ClassVar[tuple[str, ...]] = ("volume", "by", "servers", "unseen")
    name: str
    type: str
    uses: tuple[str, ...]
    protection: Protection
    why: str
    volume: str = ""
    by: str = ""
    servers: tuple[str, ...] = ()
    unseen: str = ""

    @property
    def services(self) -> frozenset[str]:
        return frozenset(use.partition(":")[0] for use in self.uses)

    @property
    def display(self) -> str:
        """What it is and where: the volume media (web:/srv/media, SQLite in app.db)."""
        uses = ", ".join(self.uses[:3]) + (f" and {len(self.uses) - 3} more" if len(self.uses) > 3 else "")
        held = f", {'; '.join(self.servers)}" if self.servers else ""
        return (
            f"the {self.type} {self.name} ({uses}{held})" if self.type != ANONYMOUS else f"the {self.type} {uses}{held}"
        )

    @property
    def shortened(self) -> StateMount:
        """The same, of names and lists as long as people read."""
        uses, servers = tuple(map(_cut, self.uses[:4])), tuple(map(_cut, self.servers[:4]))
        return replace(
            self, name=_cut(self.name), uses=uses, servers=servers, why=_cut(self.why), volume=_cut(self.volume),
            unseen=_cut(self.unseen),
        )  # fmt: skip

    @property
    def row(self) -> str:
        """Its line of the table."""
        state = {
            PROTECTED: f"protected by {self.by}",
            EXCLUDED: "kept elsewhere" if self.by else "excluded by name",
            UNPROTECTED: "IN NO BACKUP",
            NO_STATE: "no state",
        }[self.protection]
        unseen = f" (not all of it was read: {self.unseen})" if self.unseen and self.protection != NO_STATE else ""
        return f"{state}: {self.display}: {self.why}{unseen}"


@dataclass(frozen=True)
class StateInventory:
    """Every mount of a stack. problems: why there may be others. unused: names that are excluded, of no mount."""

    mounts: tuple[StateMount, ...] = ()
    problems: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def with_protection(self, protection: str) -> tuple[StateMount, ...]:
        return tuple(mount for mount in self.mounts if mount.protection == protection)

    def within(self, components: Collection[str]) -> StateInventory:
        """The same for a recovery point that holds these: what another component protects does not come back by it."""
        mounts = [
            replace(
                mount, protection=UNPROTECTED, by="", why=f"the recovery point does not hold its backup ({mount.by})"
            )
            if mount.protection == PROTECTED and mount.by and mount.by not in components
            else mount
            for mount in self.mounts
        ]
        return replace(self, mounts=tuple(mounts))

    @property
    def unprotected(self) -> tuple[StateMount, ...]:
        return self.with_protection(UNPROTECTED)

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(self.with_protection(name)) for name in (PROTECTED, EXCLUDED, UNPROTECTED)}

    @property
    def table(self) -> list[str]:
        """A line for each mount, what is in no backup first; then what could not be looked at."""
        order = (UNPROTECTED, EXCLUDED, PROTECTED, NO_STATE)
        rows = [mount.row for protection in order for mount in self.with_protection(protection)]
        rows += [f"NOT KNOWN: {problem}" for problem in self.problems]
        return rows + [f"{EXCLUDE} names {name}, which matches no mount of the stack" for name in self.unused]

    @property
    def check(self) -> Check:
        """COULD_NOT_VERIFY for what nobody protected or excluded, and for what could not be looked at."""
        words = [f"{mount.display} is in no backup: {mount.why}" for mount in self.unprotected[:SHOWN]]
        more = len(self.unprotected) - SHOWN
        words += [f"and {more} more"] if more > 0 else []
        words += [REMEDY] if words else []
        words += self.problems[:SHOWN]
        result = COULD_NOT_VERIFY if words else PASS
        words += [f"excluded by name: {mount.display}: {mount.why}" for mount in self.with_protection(EXCLUDED)]
        words += [f"{EXCLUDE} names {name}, which matches no mount of the stack" for name in self.unused[:SHOWN]]
        protected = self.with_protection(PROTECTED)
        if protected and result == PASS:
            words.insert(0, f"{len(protected)} protected ({', '.join(mount.name for mount in protected[:SHOWN])})")
        return Check(CHECK, result, "; ".join(words) or "the stack mounts nothing that keeps state")

    @property
    def notes(self) -> list[str]:
        """What a list of backups and a recovery point say of it."""
        found = [f"in no backup: {mount.display}" for mount in self.unprotected]
        found += [f"excluded by name: {mount.display}: {mount.why}" for mount in self.with_protection(EXCLUDED)]
        return found[:SHOWN] + ([f"and {len(found) - SHOWN} more mounts"] if len(found) > SHOWN else [])

    @property
    def untested(self) -> tuple[Untested, ...]:
        """What is excluded, for records: it is named every time and lowers no verdict."""
        return tuple(
            Untested(mount.display, f"excluded by name: {mount.why}") for mount in self.with_protection(EXCLUDED)
        )

    @property
    def gaps(self) -> tuple[Untested, ...]:
        """What is in no backup, or not known, where that lowers no verdict; then what is excluded."""
        found = [Untested(mount.display, f"it is in no backup: {mount.why}") for mount in self.unprotected]
        found += [Untested("other mounts of the stack", problem) for problem in self.problems]
        return (*found, *self.untested)

    @property
    def warnings(self) -> list[str]:
        """The like of the check where it must not lower a verdict."""
        found = [f"{mount.display} is in no backup: {mount.why}; {REMEDY}" for mount in self.unprotected]
        return found + [f"mounts of the stack are not known: {problem}" for problem in self.problems]

    def limited(self, most: int) -> StateInventory:
        """The same in at most so many bytes of JSON, for a manifest: a keeper refuses one whose details are long. What
        is in no backup comes first; that there was no room for more is a problem, unless it is all protected."""
        order = (UNPROTECTED, EXCLUDED, PROTECTED)
        short = [mount.shortened for protection in order for mount in self.with_protection(protection)]
        problems = tuple(_cut(problem) for problem in self.problems[:SHOWN])
        size, mounts = len(json.dumps(problems)), []
        for mount in short:
            size += len(json.dumps(typed.plain(mount)))
            if size > most:
                break
            mounts.append(mount)
        rest = [mount for mount in short[len(mounts) :] if mount.protection != PROTECTED]
        more = (f"{len(rest)} more mounts are in no backup, or excluded",) if rest else ()
        return StateInventory(tuple(mounts), (*problems, *more))

    def without(self, services: Iterable[str]) -> StateInventory:
        """The mounts that others than these services use."""
        stores = frozenset(services)
        return replace(self, mounts=tuple(mount for mount in self.mounts if mount.services - stores), unused=())

    def judged(self, config: Config) -> StateInventory:
        """The same by the exclusions of today: one that was taken earlier knows those of its time."""
        return judge(self.mounts, config, self.problems)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def judge(mounts: Sequence[StateMount], config: Config, problems: Sequence[str] = ()) -> StateInventory:
    """What of the unprotected mounts is excluded by name."""
    reasons = {named(entry.name): entry.reason for entry in config.mounts.exclude}
    short = {_cut(name): reason for name, reason in reasons.items()}  # as a manifest has them
    judged = tuple(_excluded(mount, {**short, **reasons}) for mount in mounts)
    names = {name for mount in mounts for name in _names(mount)}
    return StateInventory(judged, tuple(problems), tuple(name for name in reasons if not names & {name, _cut(name)}))


def _excluded(mount: StateMount, reasons: Mapping[str, str]) -> StateMount:
    reason: Optional[str] = next((reasons[name] for name in _names(mount) if name in reasons), None)
    if mount.protection == UNPROTECTED and reason is not None:
        return replace(mount, protection=EXCLUDED, why=named(reason))
    if mount.protection == EXCLUDED and reason is None and not mount.by:
        return replace(mount, protection=UNPROTECTED, why=f"{EXCLUDE} does not name it any more")
    return mount


def _names(mount: StateMount) -> tuple[str, ...]:
    return (mount.name, mount.volume) if mount.volume else (mount.name,)
