# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backups of one component wherever they are whole: in the repository, or else as copies in the vault.

The vault is asked only where the repository does not do: it cannot be read, is empty, holds a broken backup, or lacks
the one that was named.

Where neither does, and the store keeps versions, a backup is read as it was published, by versions: its manifest was
hidden or overwritten, or artefacts were. That is always said, and changes nothing there.
"""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Callable, Optional

from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UntrustedError, UsageError, present
from ..base.text import PassedOver
from ..base.typed import maybe, plain
from ..settings.config import MANIFESTS
from ..stack.runtime import Opened
from . import catalog, copies, points, repositories
from .base import LATEST, Repository
from .catalog import Entry
from .points import PointEntry
from .retention import HELD, Hold

REPOSITORY, VAULT = "repository", "vault"
LIVE = (REPOSITORY, VAULT)
PAST = {REPOSITORY: "repository_versions", VAULT: "vault_versions"}  # the same, read by version
FROM_VAULT = (VAULT, PAST[VAULT])
PLACES = (*LIVE, *PAST.values())


def in_vault(run: Opened) -> Optional[Repository]:
    """What does not burn with the machine: what a keeper has, where that may be read, else the copies in the vault.
    None where there are none."""
    return repositories.granted(run) or copies.vault(run)


def vault_place(run: Opened) -> str:
    """Where that is, as plans say it."""
    keeper = repositories.granted(run)
    return keeper.address if keeper else copies.location(run.config)


def open_place(run: Opened, source: str) -> Repository:
    """The repository of that source. Raises UsageError where there is no vault with copies, or no versions are kept."""
    if source in PAST.values():
        found = past(run, source)
        if found is None:
            raise UsageError("open the old versions", run.config.stack, "none are kept there")
        return found
    if source == REPOSITORY:
        return repositories.repository_of(run)
    store = in_vault(run)
    if store is None:
        remedy = "Set lifeboat_vault.repository_bucket and deploy."
        raise UsageError("open the vault's repository", run.config.stack, "no copies are kept there", remedy)
    return store


def past(run: Opened, source: str) -> Optional[Repository]:
    """What PAST names, listed once a run; None where no versions are kept, or there is no vault with copies."""
    return run.once(_own_past if source == PAST[REPOSITORY] else _vault_past)


def _own_past(run: Opened) -> Optional[Repository]:
    return repositories.repository_of(run).past()


def _vault_past(run: Opened) -> Optional[Repository]:
    store = in_vault(run)
    return store.past() if store is not None else None


def hold(run: Opened, source: str, identity: str, why: str, now: datetime) -> list[str]:
    """Keep what a recovery has chosen from being pruned between its steps, for HELD. Returns what a plan says of it:
    where it could not, which ends no recovery."""
    made = Hold(identity, run.config.stack, platform.node(), why, now, now + HELD)
    try:
        open_place(run, _live(source)).write_hold(identity, json.dumps(plain(made), indent=1).encode() + b"\n")
    except LifeboatError as exc:
        return [f"  WARNING: no hold could be left on {identity}; a prune may delete it before that: {exc.cause}"]
    return [f"  {identity} is held for {HELD / timedelta(hours=1):.0f} hours: no prune deletes it meanwhile"]


def release(run: Opened, source: str, identity: str, log: Log) -> None:
    """The end of a recovery. A hold of another host stays; one that cannot be removed ends by itself."""
    try:
        store = open_place(run, _live(source))
        found = maybe(Hold, store.holds().get(identity))
        if found and found.by == platform.node():
            store.remove_hold(identity)
    except LifeboatError as exc:
        log(f"the hold on {identity} stays until it ends: {exc.cause}")


def _live(source: str) -> str:
    return next((live for live, older in PAST.items() if source == older), source)


class Sources:
    """`entries`: the backups, oldest first, each once, with the `source` to take it from. `notes`: what did not do.

    `identity`: what was asked for; a recovery point's id has become that of its backup. `point`: the recovery point
    that was named, or is the newest at `before`; of the latter `tied` is the backup. `accepted`: why the chosen one
    failed, where `accept` let it through.
    """

    def __init__(
        self,
        run: Opened,
        component: str,
        identity: str = "latest",
        before: Optional[datetime] = None,
        *,
        accept: bool = False,
        reach: Callable[[Entry, datetime], Optional[datetime]] = catalog.snapshot,
    ) -> None:
        identity = repositories.named(run, identity)
        catalog.require_named(accept, identity)
        self.accept, self._reach = accept, reach
        self.accepted: tuple[str, ...] = ()
        self.run, self._stack, self._component = run, run.config.stack, component
        self.entries: list[Entry] = []
        self.notes: list[str] = []
        self._copies: Optional[dict[str, Entry]] = None
        problem = self._read()
        if problem or not self.entries or not all(entry.good for entry in self.entries):
            self._add_copies()
        if problem and not self.entries:
            raise problem
        self.identity = self._resolved(identity)
        if self.identity not in (*LATEST, *(entry.id for entry in self.entries)):
            self._add_copies()
        self._add_past()
        self.point = identity if points.is_id(identity) else ""
        self.tied = ""
        if before is not None and identity in LATEST:
            self._tie(before)

    def choose(
        self,
        identity: str,
        before: Optional[datetime],
        problem: Callable[[Entry], str],
        *,
        bearable: bool = False,
        partly: bool = False,
    ) -> tuple[Entry, list[PassedOver]]:
        """The backup to recover from, and newer ones passed over. One with a `problem`, which looks at its bytes, gives
        way to its copy in the vault, and unless it was named to the one before it. bearable: a restore may make
        something of such bytes, so that `accept` lets them through. partly: one that is good for some databases will
        do, unless `problem` says that these are not the ones.
        """
        stack, passed, candidates = self._stack, list[PassedOver](), list(self.entries)
        while True:
            chosen, newer = catalog.choose(
                candidates, stack, identity=self.tied or identity, before=before, accept=self.accept, partly=partly,
                reach=self._reach,
            )  # fmt: skip
            passed += [PassedOver(entry.id, entry.problem) for entry in newer]
            self._require_newest(identity, before)
            why = problem(chosen)
            self.accepted = tuple(filter(None, [chosen.failed])) if self.accept else ()
            if not why:
                self.notes += [f"{chosen.id}: {chosen.hidden}; its old versions are read"] if chosen.hidden else []
                return chosen, passed
            copy = self.copy_of(chosen)
            if copy:
                instead = "the vault has a copy" if copy.source == VAULT else "old versions of it are there"
                passed.append(PassedOver(chosen.id, f"{why} in the {chosen.source}; {instead}"))
                candidates = [copy if entry is chosen else entry for entry in candidates]
                continue
            if self.accept and bearable:
                self.accepted += (why,)
                return chosen, passed
            if identity not in LATEST:
                remedy = "Choose another (`lifeboat list`)."
                remedy += catalog.although(identity) if chosen.failed and bearable else ""
                raise IntegrityError("use the backup", chosen.id, why, remedy)
            passed.append(PassedOver(chosen.id, why))
            reached = self._reach(chosen, before) if before and not self.tied else None
            if self.tied:
                self.untie(why)
            candidates = [
                entry
                for entry in candidates
                if entry.id < chosen.id
                or (reached and before and entry is not chosen and (self._reach(entry, before) or reached) < reached)
            ]
            if not candidates:
                cause = "; ".join(f"{entry.id}: {entry.problem}" for entry in passed[:3])
                remedy = "No backup is whole; look in the vault's repository."
                raise NotFoundError("choose a backup", stack, cause, remedy)

    def _require_newest(self, identity: str, before: Optional[datetime]) -> None:
        """The vault is asked before `latest` is refused."""
        trust = repositories.trust(self.run)
        if identity not in LATEST or before is not None:
            return
        try:
            catalog.require_newest(trust, MANIFESTS, self._component, self.entries)
        except UntrustedError:
            self._add_copies()
            catalog.require_newest(trust, MANIFESTS, self._component, self.entries)

    def untie(self, problem: str) -> None:
        """The backup of the recovery point at that time cannot be used: another one has to do, and that is said."""
        self.notes.append(
            f"{self.tied} of recovery point {self.point} cannot be used ({problem}): what is taken in its place may be"
            " of another instant than the other components"
        )
        self.point = self.tied = ""

    def repo(self, entry: Entry) -> Repository:
        """The repository that holds it."""
        return open_place(self.run, entry.source)

    def copy_of(self, entry: Entry) -> Optional[Entry]:
        """The very same backup elsewhere, where this one turned out damaged: the vault's, else by older versions."""
        if entry.manifest is None or entry.source in PAST.values():
            return None
        copy = self._vault().get(entry.id) if entry.source == REPOSITORY else None
        if copy and copy.sound and copy.manifest and copy.manifest.seal == entry.manifest.seal:
            return copy
        for place in LIVE[LIVE.index(entry.source) :]:
            older = self._as_published(place, entry.id)
            if older and older.sound and older.manifest and older.manifest.seal == entry.manifest.seal:
                return replace(older, hidden=older.hidden or "what is live of it is not what was published")
        return None

    def where(self, entry: Entry) -> str:
        if entry.source in FROM_VAULT:
            versions = ", old versions" if entry.source != VAULT else ""
            return vault_place(self.run) + versions
        return self.repo(entry).location(self._component, entry.id)

    def _read(self) -> Optional[LifeboatError]:
        try:
            repo = repositories.repository_of(self.run)
            repo.check(writable=False)
            self.entries = catalog.entries(repo, self._component, self._stack)
        except LifeboatError as exc:
            self.notes.append(f"the repository cannot be used: {exc.cause}")
            return exc
        return None

    def _vault(self) -> dict[str, Entry]:
        """The copies by id; none where none are kept, or where they cannot be read, which is then noted."""
        if self._copies is None:
            self._copies = {}
            try:
                store = in_vault(self.run)
                if store is not None:
                    read = catalog.entries(store, self._component, self._stack)
                    self._copies = {entry.id: replace(entry, source=VAULT) for entry in read}
            except LifeboatError as exc:
                self.notes.append(f"the copies in the vault cannot be used: {exc.cause}")
        return self._copies

    def _add_past(self) -> None:
        """What was published stands in for a backup that was named, or for all where none that is live will do."""
        named = self.identity not in LATEST
        own = {entry.id: entry for entry in self.entries}
        asked = own.get(self.identity)
        if asked and (asked.sound or asked.ahead or (asked.failed and self.accept)):
            return
        if not named and any(entry.good for entry in self.entries):
            self._tell_hidden()
            return
        for place in LIVE:
            for identity in [self.identity] if named else self._published_ids(place):
                entry = self._as_published(place, identity)
                if entry and entry.sound and not (identity in own and own[identity].sound):
                    unlike = own[identity].problem if identity in own else "nothing of it is live"
                    words = entry.hidden or f"what is live is not what was published: {unlike}"
                    own[identity] = replace(entry, hidden=words)
        self.entries = [own[identity] for identity in sorted(own)]

    def _tell_hidden(self) -> None:
        """Newer ones than the newest good one, where they were hidden: an operator may want one of them."""
        newest = max(entry.id for entry in self.entries if entry.good)
        for place in LIVE if self._copies is not None else (REPOSITORY,):
            try:
                altered = open_place(self.run, place).altered(self._component)
            except LifeboatError:
                continue
            known = {entry.id for entry in self.entries}
            for identity in sorted(name for name, seen in altered.items() if seen.gone and name > newest):
                if identity not in known:
                    self.notes.append(
                        f"{identity} is newer, and in the {place} {altered[identity].detail}; to take it:"
                        f" -e recovery_point={identity}"
                    )

    def _past(self, source: str) -> Optional[Repository]:
        try:
            return past(self.run, PAST[source])
        except LifeboatError as exc:
            self.notes.append(f"the old versions in the {source} cannot be used: {exc.cause}")
            return None

    def _published_ids(self, source: str) -> list[str]:
        store = self._past(source)
        return store.ids(self._component) if store else []

    def _as_published(self, source: str, identity: str) -> Optional[Entry]:
        """A backup of the stack, read by version; None where none of that id was published."""
        store = self._past(source)
        if store is None:
            return None
        found = catalog.entry(store, self._component, identity)
        if found.manifest is None or found.manifest.stack != self._stack:
            return None
        return replace(found, source=PAST[source])

    def _add_copies(self) -> None:
        """A good copy stands in for what is broken or not there."""
        own = {entry.id: entry for entry in self.entries}
        if not own and self._vault() and not self.notes:
            self.notes.append("the repository holds no backup")
        for identity, copy in self._vault().items():
            if identity in own and copy.sound and not own[identity].sound:
                self.notes.append(
                    f"{identity} in the repository: {own[identity].problem}; its copy in the vault is good"
                )
                own[identity] = copy
            own.setdefault(identity, copy)
        self.entries = [own[identity] for identity in sorted(own)]

    def _tie(self, before: datetime) -> None:
        """Choose a recovery point, so that rows and objects that are asked for by one time are of one instant. Not
        where a backup reaches that very time from an earlier snapshot: no point does."""
        component = self._component
        wide = [entry for entry in self.entries if entry.good and entry.taken_at not in (None, before)]
        if any(self._reach(entry, before) == before for entry in wide):
            self.notes.append(f"a backup reaches that very time: the {component} is taken by itself")
            return
        try:
            chosen, passed = points.choose(self._points(before), self._stack, before=before, partly=True)
        except NotFoundError as exc:
            self.notes.append(
                f"no recovery point is of that time ({exc.cause}): the {component} are taken by themselves"
            )
            return
        point = present(chosen.point)
        part = point.components.get(component)
        if part is None:
            self.notes.append(f"recovery point {chosen.id} has no {component}: they are taken by themselves")
            return
        self.point, self.tied = chosen.id, part.id
        if part.id not in (entry.id for entry in self.entries):
            self._add_copies()
        self.notes += [f"recovery point {entry.id} is passed over: {entry.problem}" for entry in passed]
        others = [entry for entry in self.entries if entry.good and entry.id != part.id]
        later = [entry.id for entry in others if point.taken_at < entry.dated <= before]
        if later:
            self.notes.append(
                f"{later[-1]} is of a later time before the one asked for, and in no recovery point that can be used;"
                f" to take it: -e recovery_point={later[-1]}"
            )

    def _points(self, before: datetime) -> list[PointEntry]:
        """The repository's; where those of that time do not do, what is good in the vault stands in for them."""
        found = {entry.id: entry for entry in self._points_of(REPOSITORY)}
        fit = [entry for entry in found.values() if entry.point is None or entry.point.taken_at <= before]
        if not fit or not all(entry.good for entry in fit):
            for entry in self._points_of(VAULT):
                if entry.good or entry.id not in found:
                    found[entry.id] = entry
        if not any(entry.good for entry in found.values()):
            for place in PAST.values():
                found.update({entry.id: entry for entry in self._points_of(place) if entry.good})
        return [found[identity] for identity in sorted(found)]

    def _points_of(self, source: str) -> list[PointEntry]:
        try:
            if source == VAULT and in_vault(self.run) is None:
                return []
            if source in PAST.values() and past(self.run, source) is None:
                return []
            repo = open_place(self.run, source)
            return points.entries(repo, self._stack, points.backups(repo, self._stack))
        except LifeboatError as exc:
            self.notes.append(f"the recovery points in the {source} cannot be read: {exc.cause}")
            return []

    def _resolved(self, identity: str) -> str:
        """What an operator typed: a recovery point's id stands for its backup of this component."""
        if not points.is_id(identity):
            return identity
        failed: list[LifeboatError] = []
        for place in PLACES:
            try:
                if place == VAULT and in_vault(self.run) is None:
                    continue
                store = open_place(self.run, place)
                return points.part_of(store, self._stack, identity, self._component, self.notes.append)
            except LifeboatError as exc:
                failed += [exc] if place in LIVE else []
        raise failed[-1]
