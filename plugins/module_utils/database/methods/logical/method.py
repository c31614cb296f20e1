# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logical method: pg_dump and pg_restore, each database restored next to the live one."""

from __future__ import annotations

import contextlib
import functools
import re
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Callable, Optional, TypeVar

from ....base.checks import FAIL, Check, ended, verdict
from ....base.errors import IntegrityError, LifeboatError, Log, SpaceError
from ....base.text import human, named, of_other
from ....repository.details import LOGICAL, DumpDetails
from ....repository.manifest import Manifest
from ....settings.config import Config
from ....stack.runtime import Opened
from ... import cluster, held, passwords
from ... import server as database_server
from ...assess import Assessment
from ...fingerprint import DUMP, FINGERPRINT, GLOBALS, facts_of, globals_of
from ...held import Held
from ...server import Account, Server, decoded, fit_name
from ..base import Method, Outcome, Restoration, Restored, ServerMode, Window
from . import proof, restore

S = TypeVar("S", cluster.Slot, cluster.Origin)
T = TypeVar("T")
_HALF_MADE = re.compile(r".+_restore_\d{8}_\d{6}", re.DOTALL | re.ASCII)
ROLES = proof.ROLES


class Logical(Method):
    name = LOGICAL
    common = (GLOBALS, cluster.CLUSTER, FINGERPRINT)

    def levels(
        self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
    ) -> Iterator[Check]:
        return proof.levels(config, manifest, folder, level, log, spoiled)

    def reaches(self, manifest: Manifest, target: Optional[datetime]) -> Window:
        """A dump is of one instant."""
        return Window(manifest.taken_at, manifest.taken_at)

    def mode(self, assessment: Assessment) -> ServerMode:
        """It fills a server that runs: the one that lives, or a fresh one."""
        return "running"

    def steps(self, source: str, live: str) -> tuple[str, ...]:
        return (
            f"restore: roles, then {source} into a new database beside",
            f"verify: rows, content, sequences, schema, settings against the backup's fingerprint; only then"
            f" swap {live}",
        )

    def lost(self, run: Opened, manifest: Manifest, folder: Path) -> list[str]:
        """What surrounds the databases, and the passwords of roles that are not the backup's."""
        around = cluster.of(folder)
        return [*(cluster.notes(around) if around else ()), *_passwords(run, folder, manifest)]

    def require_room(self, run: Opened, manifest: Manifest, databases: Sequence[Held]) -> None:
        """A dump that pg_restore reads as files is copied to where the tools run, one database after the other."""
        if manifest.detailed(DumpDetails).format == "plain":
            return
        starts = ["/".join(filter(None, (item.dump.folder, DUMP))) for item in databases]
        dumps = [sum(one.size for one in manifest.artefacts if one.name.startswith(start)) for start in starts]
        free, needed = None, max(dumps, default=0)
        with contextlib.suppress(LifeboatError):
            free = database_server.of(run).free_bytes()
        if free is not None and free < needed * 1.05:
            raise SpaceError(
                "plan the recovery", f"{database_server.SCRATCH} where PostgreSQL's tools run",
                f"{human(free)} free, about {human(int(needed * 1.05))} needed for a copy of the dump",
                "Free space there: nothing was changed yet.",
            )  # fmt: skip

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


def _passwords(run: Opened, folder: Path, manifest: Manifest) -> list[str]:
    if not manifest.detailed(DumpDetails).role_passwords:
        return []
    initial = database_server.initial_account(run)
    user = run.config.database.user or (initial.user if initial else "postgres")
    password = run.config.secrets.get("database_password", "")
    with contextlib.suppress(OSError, EOFError, zlib.error):
        stored = passwords.of_globals(restore.statements(decoded(globals_of(folder))))
        if password and user in stored and not passwords.matches(stored[user], user, password):
            return [restore.keeps_password(user)]
        if initial and restore.other_than_initial(stored, initial):
            return [restore.not_the_initial(initial)]
    return []


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
        slots=_renamed(found.slots, live),
        origins=None if found.origins is None else _renamed(found.origins, live),
    )


def _renamed(items: Sequence[S], live: Mapping[str, str]) -> tuple[S, ...]:
    """Return those of the server, and of the databases in `live`, which has their names now."""
    there = (item for item in items if item.database is None or item.database in live)
    return tuple(replace(item, database=live.get(item.database or "")) for item in there)


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
