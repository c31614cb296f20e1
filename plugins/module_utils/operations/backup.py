# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take backups, tie them into a recovery point, bring the vault up to date, apply retention: in that order."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Optional, Union

from ..base.errors import IntegrityError, LifeboatError, LockedError, Log, UsageError
from ..base.text import named
from ..recovery import state as recovery_state
from ..repository import catalog, copies, points, repositories
from ..repository.components import CONFIG, DATABASE, FILES, KINDS, OBJECTS, configured
from ..repository.copies import Outcome
from ..repository.details import ConfigDetails, DatabaseDetails, FilesDetails, ObjectsDetails
from ..repository.manifest import Manifest
from ..repository.points import Point
from ..stack import hooks, mounts
from ..stack.runtime import Opened
from ..tools import age
from .components import COMPONENTS

if TYPE_CHECKING:  # what only some backups need is imported by them: it takes as long as to dump a small database
    from ..mirror.guard import Override
    from . import prune


@dataclass(frozen=True)
class Taken:
    """What one run did. point: the recovery point, where one was asked for; new: it did not exist before.

    failed: what of the vault could not be done. not_pruned: why retention has to wait.
    refused: why retention deleted nothing, most often because the clock may be wrong. shrunk: how much less the
    database backup holds than one before it, where that is under half. unprotected: mounts of the stack that are in no
    backup, a sentence each.
    """

    manifests: tuple[Manifest, ...]
    point: Optional[Point] = None
    new: bool = False
    copied: Outcome = field(default_factory=Outcome)
    pruned: Optional[prune.Pruning] = None
    not_pruned: str = ""
    failed: tuple[str, ...] = ()
    refused: Optional[LifeboatError] = None
    shrunk: str = ""
    unprotected: tuple[str, ...] = ()

    @property
    def unheld(self) -> int:
        """Objects that the vault could not hold: they are in no backup."""
        objects = (manifest for manifest in self.manifests if manifest.component == OBJECTS)
        return sum(held.in_no_backup for manifest in objects for held in manifest.detailed(ObjectsDetails).buckets)

    @property
    def missing(self) -> Optional[IntegrityError]:
        """The error where databases of the server, or buckets of the store, are not in their backup, or files were
        rewritten as an attacker does it."""
        for manifest in self.manifests:
            if manifest.component == OBJECTS and (gone := manifest.detailed(ObjectsDetails).missing):
                return IntegrityError(
                    "back up every bucket of the store", manifest.id,
                    "; ".join(f"the bucket {named(name)} is not in it: {why}" for name, why in gone.items()),
                    "The backup is there and is not good. Remove the cause and take another one, or leave the bucket"
                    " out: lifeboat_objects.exclude.",
                )  # fmt: skip
            if manifest.component == DATABASE and (lacks := manifest.detailed(DatabaseDetails).missing):
                cause = "; ".join(f"the database {named(name)} is not in it: {why}" for name, why in lacks.items())
                remedy = (
                    "The backup is there and is not good. Take another one where a database was dropped or renamed"
                    " meanwhile; else let it be read (ALTER DATABASE … ALLOW_CONNECTIONS true; GRANT CONNECT and"
                    " pg_read_all_data), or leave it out: lifeboat_database.exclude."
                )
                return IntegrityError("back up every database of the server", manifest.id, cause, remedy)
            if manifest.component == FILES and (ruined := KINDS[FILES].lacks(manifest.detailed(FilesDetails))):
                remedy = (
                    "The backup is there and is not good. Look at the files; lifeboat.dr.recover_files brings those of"
                    " an earlier backup back. If they are right: lifeboat backup files --override."
                )
                return IntegrityError("back up the files as they should be", manifest.id, "; ".join(ruined), remedy)
        return None

    def as_dict(self) -> dict[str, object]:
        taken = [{"id": manifest.id, "size": manifest.size, **manifest.details} for manifest in self.manifests]
        found: dict[str, object] = dict(taken[0]) if len(taken) == 1 else {}
        if self.point is not None:
            point = {"id": self.point.id, "consistency": self.point.consistency, "components": self.point.ids}
            notes = {"new": self.new, "notes": list(self.point.notes)}
            found = {**point, **notes, "backups": taken} if len(taken) != 1 else found
            found.setdefault("recovery_point", self.point.id)
        if self.copied.location:
            found["copies"] = {**self.copied.as_dict(), "failed": list(self.failed)}
        if self.pruned is not None:
            found["prune"] = self.pruned
        if self.unprotected:
            found["unprotected"] = list(self.unprotected)
        return found

    def lines(self) -> list[str]:
        """For a terminal; the last line says what is wrong, where something is."""
        shown = [f"{manifest.id}  {COMPONENTS[manifest.component].summary(manifest)}" for manifest in self.manifests]
        if self.point is not None:
            parts = ", ".join(self.point.parts)
            shown.append(f"{self.point.id}  recovery point of {parts}, consistency {self.point.consistency}")
            shown += [f"  {why}" for why in [points.why_apart(self.point)] if why]
        if self.copied.location:
            shown.append(
                f"{len(self.copied.copied)} copied to {self.copied.location}, {len(self.copied.copies)} are there"
            )
        if self.pruned is not None:
            from . import prune

            shown.append(f"pruned {len(self.pruned['delete'])}")
            shown += prune.report(self.pruned, "pruned")
        if self.not_pruned:
            shown.append(f"not pruned: {self.not_pruned}")
        if self.shrunk:
            shown.append(f"WARNING: {self.shrunk}; if that is right: lifeboat backup database --override")
        if self.unheld:
            shown.append(f"WARNING: {self.unheld} objects could not be held by the vault and are in no backup")
        shown += [f"WARNING: {words}" for words in self.unprotected]
        if self.missing:
            shown.append(str(self.missing))
        return shown


def take(
    run: Opened,
    component: str = "",
    *,
    seal: bool = False,
    prune_after: bool = False,
    override: Union[int, Override] = 0,
    log: Log,
) -> Taken:
    """Back up one component, or all that the stack has and seal them. The caller holds the stack's lock.

    Raises LifeboatError where a backup, the seal or a hook fails; what was taken before stays, and is copied. A vault
    that fails raises nothing: it is in `failed`, for copies.problem().
    """
    manifests: list[Manifest] = []
    try:
        with hooks.running(run.config, hooks.BACKUP, log) as hooked:
            for name in [component] if component else [kind.name for kind in configured(run.config)]:
                with hooked.around(name):
                    manifests.append(COMPONENTS[name].take(run, override, log))
    except LifeboatError:
        if manifests:
            copies.catch_up(run, log=log)
        raise
    unheard = _unanswered(run, log)
    race = repositories.repository_of(run).race
    if race:
        log(race)
    # Where no verification runs, it does not keep the host's old keys alive.
    age.HostKeys(run.config.state).destroy(
        datetime.now(timezone.utc), run.config.encryption.host_key_days, lambda recipient: True, log
    )
    copied = copies.catch_up(run, log=log)
    failed = list(copied.failed)
    point, new = None, False
    if seal or not component:
        point, new = points.seal(run, now=datetime.now(timezone.utc), copies=copied.copies, more=unheard, log=log)
        failed += copies.send_points(run, log=log) if not failed else []
    pruned, waits, refused = None, "", None
    if prune_after:
        from . import prune

        try:
            pruned = prune.prune(run, now=datetime.now(timezone.utc), dry_run=False, log=log)
            failed += [item for item in pruned["failed"] if not failed]
        except LockedError as exc:  # the backup is good; retention can wait for tomorrow
            waits = exc.cause
            log(f"not pruned: {waits}")
        except UsageError as exc:  # the backup is good; that the clock may be wrong has to be said
            refused = exc
    shrunk = _shrunk(run, manifests)
    if shrunk:
        log(f"WARNING: {shrunk}")
    unprotected = _unprotected(run, manifests, log)
    hooked.refuse_problems()
    return Taken(tuple(manifests), point, new, copied, pruned, waits, tuple(failed), refused, shrunk, unprotected)


def _unprotected(run: Opened, manifests: Sequence[Manifest], log: Log) -> tuple[str, ...]:
    """What of the stack's state nobody protected or excluded, as the backup of its configuration says; looked at here
    where the stack has none. A mount that came since the deployment is seen by the next night."""
    config, inventory = run.config, None
    for manifest in manifests:
        if manifest.component == CONFIG:
            inventory = manifest.detailed(ConfigDetails).state
    if not config.config.enabled:
        inventory = mounts.inventory(run)
    warnings = tuple(inventory.judged(config).warnings) if inventory else ()
    for words in warnings:
        log(f"WARNING: {words}")
    return warnings


def _unanswered(run: Opened, log: Log) -> list[str]:
    """The endpoints that do not answer now, for the recovery point. They are remembered: a recovery that comes later
    need not wait for what was wrong before. One that is asked by another method than GET or HEAD is left alone, as the
    request may change something."""
    try:
        asked = [check for check in run.config.application.checks if check.method.upper() in ("GET", "HEAD")]
        if not asked and not recovery_state.unanswered(run.config).at:
            return []
        from ..stack import answer

        problems = [answer.ask(check) for check in asked]
        return recovery_state.keep_unanswered(run.config, asked, problems, datetime.now(timezone.utc)).notes
    except LifeboatError as exc:  # the backups are good
        log(f"which endpoints answer is not remembered: {exc.cause}")
        return []


def _shrunk(run: Opened, manifests: Sequence[Manifest]) -> str:
    """What status says of it too: nobody may look at that before the older backups are gone."""
    for manifest in manifests:
        if manifest.component == DATABASE:
            with contextlib.suppress(LifeboatError):  # the backup is good, and status looks again
                backups = catalog.entries(repositories.repository_of(run), DATABASE, run.config.stack)
                return catalog.shrunk(backups, manifest.id)[0]
    return ""
