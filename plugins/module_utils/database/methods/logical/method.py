# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logical method: pg_dump and pg_restore, each database restored next to the live one."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Callable, Optional, TypeVar

from ....base.checks import FAIL, Check, ended, verdict
from ....base.clock import format_time
from ....base.errors import IntegrityError, LifeboatError, Log
from ....base.text import named, of_other
from ....repository.details import DumpDetails
from ....repository.manifest import Manifest
from ....settings.config import Config
from ....stack.runtime import Opened
from ... import cluster, held
from ... import server as database_server
from ...fingerprint import facts_of
from ...held import Held
from ...server import Account, Server, fit_name
from ..base import Method, Outcome, Restoration, Restored
from . import dump, proof, restore

T = TypeVar("T")
_HALF_MADE = re.compile(r".+_restore_\d{8}_\d{6}", re.DOTALL | re.ASCII)
ROLES = proof.ROLES


class Logical(Method):
    name = "logical"

    def take(self, run: Opened, *, log: Log, override: bool = False) -> Manifest:
        return dump.take(run, log=log, override=override)

    def levels(
        self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
    ) -> Iterator[Check]:
        return proof.levels(config, manifest, folder, level, log, spoiled)

    def reaches(self, manifest: Manifest, wanted: Optional[datetime]) -> datetime:
        """A dump is of one instant."""
        return manifest.taken_at

    def steps(self, manifest: Manifest, wanted: Optional[datetime], live: str) -> tuple[str, ...]:
        at = format_time(self.reaches(manifest, wanted))
        return (
            f"restore: roles, then {manifest.id} ({at}) into a new database beside",
            f"verify: rows, content, sequences, schema, settings against the backup's fingerprint; only then"
            f" swap {live}",
        )

    def restore(self, wanted: Restoration) -> Restored:
        """Each database beside the live one, compared, swapped in: the required one first."""
        work = _Work(wanted)
        with wanted.server.kept_open():
            try:
                return self._restore(wanted, work)
            except LifeboatError as exc:
                if done := [outcome for outcome in work.outcomes if outcome.action == "restored"]:
                    names = [f"{o.name} (the old one is {o.kept})" if o.kept else o.name for o in done]
                    exc.remedy = f"{exc.remedy} Already in place of what was found: {', '.join(names)}".strip()
                raise

    def _restore(self, wanted: Restoration, work: _Work) -> Restored:
        server, log = wanted.server, wanted.log
        _sweep(server)
        around = work.around()
        made = work.timed("restore", work.roles)
        order = sorted(wanted.databases, key=lambda item: item is not wanted.required)
        for item in order:
            try:
                work.bring_back(item)
            except LifeboatError as exc:
                if item is wanted.required or len(order) == 1:
                    raise
                log(f"{item.shown} was not restored: {named(exc.cause)}")
                work.failed(item, exc)
        if not any(outcome.action == "restored" for outcome in work.outcomes):
            differs = verdict(work.checks) == FAIL  # else nothing was seen of it: a full disk, a server that is gone
            raise (IntegrityError if differs else LifeboatError)(
                "prove the restored databases", wanted.manifest.id,
                "; ".join(f"{outcome.name}: {outcome.why}" for outcome in work.outcomes),
                "Nothing was replaced. Choose another backup, or look at the differences.",
            )  # fmt: skip
        reindexed = work.timed("swap", lambda: restore.refresh_collations(server, log))
        brought = cluster.Brought()
        if around:
            major = wanted.manifest.detailed(DumpDetails).server_version_num // 10000
            brought = work.timed(
                "restore", lambda: cluster.restore(server, wanted.config, around, wanted.stamp, log, major=major)
            )
        if brought.diff:
            log(brought.diff)
        wanted.back()
        kept = next((outcome.kept for outcome in work.outcomes if outcome.kept), "")
        seconds = {name: round(spent, 2) for name, spent in work.seconds.items()}
        return Restored(
            (*work.checks, *brought.checks), kept, tuple(made), tuple(reindexed), seconds, tuple(work.outcomes),
            (*brought.notes, *work.notes),
        )  # fmt: skip


def _around(wanted: Restoration) -> Optional[cluster.Cluster]:
    """What the backup has of the server, and of the databases that it holds: of others nothing was to come back."""
    found = cluster.of(wanted.folder)
    if found is None:
        return None
    live = {item.dump.name: item.live for item in held.of(wanted.manifest, wanted.config.database.name)}
    return replace(
        found,
        databases={live[name]: inside for name, inside in found.databases.items() if name in live},
        subscriptions=tuple(replace(s, database=live[s.database]) for s in found.subscriptions if s.database in live),
        slots=tuple(
            replace(slot, database=live.get(slot.database or ""))
            for slot in found.slots
            if slot.database is None or slot.database in live
        ),
        origins=tuple(
            replace(origin, database=live.get(origin.database or ""))
            for origin in found.origins
            if origin.database is None or origin.database in live
        )
        if found.origins is not None
        else None,
    )


def _sweep(server: Server) -> None:
    """Drop half-made databases of killed runs: they are recorded as ours, and we hold the lock."""
    for name in sorted(server.made.names()):
        if _HALF_MADE.fullmatch(name):
            database_server.drop(server, name)


class _Work:
    """What was done so far for a restoration, and how long each step took."""

    def __init__(self, wanted: Restoration) -> None:
        self._wanted = wanted
        self.checks: list[Check] = []
        self.outcomes: list[Outcome] = []
        self.notes: list[str] = []
        self.seconds = dict.fromkeys(("restore", "verify", "swap"), 0.0)

    def timed(self, step: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[step] += time.monotonic() - started

    def around(self) -> Optional[cluster.Cluster]:
        """What surrounds the databases, where it is to come back: read before anything is replaced."""
        try:
            return _around(self._wanted) if self._wanted.fresh else None
        except LifeboatError as exc:
            if not self._wanted.accepted:
                raise
            self.checks.append(ended(cluster.SETTINGS, exc))
            return None

    def roles(self) -> list[str]:
        """Returns the names of those that were made. Into a fresh server each comes with its password."""
        wanted, server = self._wanted, self._wanted.server
        facts = facts_of(wanted.folder)
        if not wanted.fresh:
            return restore.roles(server, wanted.folder, facts, fresh=False)
        user = (server.configured or server).user
        account = Account(user, wanted.config.secrets.get("database_password", ""))
        recorded = wanted.manifest.detailed(DumpDetails).role_passwords
        made = restore.roles(server, wanted.folder, facts, fresh=True, account=account, recorded=recorded)
        checks, notes = restore.role_passwords(server, wanted.folder, facts, account, recorded=recorded)
        self.checks += checks
        self.notes += notes
        return made

    def bring_back(self, item: Held) -> None:
        """One database; where it fails the live one is as it was, and an error says why."""
        wanted, server = self._wanted, self._wanted.server
        beside = fit_name(item.live, f"_restore_{wanted.stamp}")
        if beside not in server.made.names() and restore.exists(server, beside):  # a killed run's was swept
            raise LifeboatError(
                "restore beside", named(beside), "a database of that name is there, and Lifeboat did not make it",
                "Run the same command again: the name has the time in it.",
            )  # fmt: skip
        server.made.add(beside)
        try:
            checks = self._made(item, beside)
        except BaseException:
            with contextlib.suppress(LifeboatError):  # the error that brought us here is the one to show
                server.reap()
                database_server.drop(server, beside)
            raise
        staying = [] if wanted.fresh else cluster.staying(server, [item.live])
        wanted.log(f"swapping {item.shown}")
        kept = self.timed("swap", lambda: restore.swap(server, item.live, beside, wanted.stamp))
        server.made.forget(beside)
        if wanted.fresh and kept and restore.untouched(server, kept):
            # The empty database that the fresh server came with, moments ago. Before it drops one the server writes out
            # all that was restored.
            drop = functools.partial(database_server.drop, server, kept)
            if wanted.later is None:
                self.timed("swap", drop)
            else:
                wanted.later.append(drop)
            kept = ""
        self.checks += checks
        self.outcomes.append(Outcome(item.shown, "restored", kept=named(kept)))
        self.notes += [f"{item.shown}: {named(line)}" for line in (*item.dump.not_carried, *staying)]

    def _made(self, item: Held, beside: str) -> list[Check]:
        """Restored beside and compared. Raises IntegrityError where anything differs."""
        wanted, server, settings = self._wanted, self._wanted.server, self._wanted.config.database
        jobs = settings.jobs
        folder = wanted.folder / item.dump.folder
        facts = facts_of(folder)
        self.timed(
            "restore",
            lambda: restore.database(
                server, wanted.manifest, folder, facts, beside, jobs=jobs, log=wanted.log,
                trust_owners=settings.trust_owners,
            ),
        )  # fmt: skip
        wanted.log(f"comparing {item.shown} with the backup's fingerprint")

        def compared() -> list[Check]:
            """And analysed meanwhile: each of the two leaves a core idle."""
            with ThreadPoolExecutor(1) as pool:
                analysed = pool.submit(restore.analyze, server, beside, jobs)
                found = restore.compare(
                    server, beside, facts, fresh=wanted.fresh, application=item.primary,
                    dumped=restore.Dumped(wanted.manifest, folder),
                )  # fmt: skip
                analysed.result()
            return found

        checks = self.timed("verify", compared)
        if any(check.kind == ROLES for check in self.checks):
            checks = [check for check in checks if check.kind != ROLES]
        if not item.primary:
            checks = [check if check.kind == ROLES else of_other(check, item.live) for check in checks]
        if verdict(checks) == FAIL and item not in wanted.accepted:
            raise Unproved(checks, wanted.manifest.id, item.shown)
        return checks

    def failed(self, item: Held, exc: LifeboatError) -> None:
        checks = exc.checks if isinstance(exc, Unproved) else [of_other(ended("restore", exc), item.live)]
        self.checks += checks
        self.outcomes.append(Outcome(item.shown, "failed", named(exc.cause)))


class Unproved(IntegrityError):
    """What was restored is not what was backed up. checks: all that were made of it."""

    def __init__(self, checks: Sequence[Check], identity: str, name: str) -> None:
        super().__init__(
            "prove the restored database",
            identity,
            "; ".join(f"{check.name}: {check.detail}" for check in checks if check.result == FAIL),
            f"{name} is untouched. Choose another backup, or look at the differences; to use it although it differs:"
            f" -e recovery_point={identity} -e accept=failed.",
        )
        self.checks = tuple(checks)
