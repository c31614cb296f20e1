# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The restore phase of a database recovery: by the backup's method, proved before it takes the live one's place."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Optional

from ..base import typed
from ..base.checks import FAIL, Check, compared
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, Log
from ..base.text import named, of_other, several
from ..recovery import state as recovery_state
from ..recovery.state import DIFFERS, RECOVERING, Unfinished, keep
from ..repository import catalog, repositories
from ..repository.base import Repository
from ..repository.components import BASE
from ..repository.manifest import Manifest, parse
from ..repository.sources import REPOSITORY, open_place
from ..settings.config import Config
from ..stack.runtime import Opened
from . import aside, held, planned
from . import server as database_server
from .held import Held
from .methods import registry as methods
from .methods.base import Outcome, Restoration, Restored
from .methods.physical import fill
from .methods.physical.method import Physical
from .wal import base, receiver


@dataclass(frozen=True)
class Recovered(Restored):
    """id: of the backup. The checks come after those of its bytes. Modules return it as it is."""

    id: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a restore is to bring back. databases: as named() prints them, the one that must prove first; none: every
    database of the backup in a fresh server, else the application's. copied: where aside.take() put databases that the
    backup does not hold, for a fresh server. later: takes what need not be done before the application runs. newer:
    databases that newer backups hold and this one does not, of which a check says whether the server has them.
    """

    databases: tuple[str, ...] = ()
    copied: str = ""
    later: Optional[list[Callable[[], None]]] = None
    newer: tuple[str, ...] = ()


EVERYTHING = Wanted()


def is_base(identity: str) -> bool:
    """Whether the whole server comes back from it, and no dump."""
    return identity.startswith(f"{BASE}_")


def finish(
    run: Opened, identity: str, *, requested: str = "", later: Optional[list[Callable[[], None]]] = None, log: Log
) -> Recovered:  # fmt: skip
    """End the recovery of a server that runs with what was filled from a base: see that it is that server, and take a
    new base, from which instants on its new timeline can be gone to. later: as in Wanted."""
    config, repo = run.config, repositories.repository_of(run)
    manifest = parse(repo.manifest(BASE, identity), component=BASE, expected_id=identity)
    server = database_server.of(run)
    server.reap()
    wanted = Restoration(
        config, server, manifest, manifest.finished_at, Path(), True, "", lambda: None, log
    )  # fmt: skip
    restored = Physical().restore(wanted)
    if bad := [check for check in restored.checks if check.result == FAIL]:
        raise IntegrityError(
            "bring the server back from a base", identity, "; ".join(f"{each.name}: {each.detail}" for each in bad),
            "Run the same command again. Or bring the newest dump back: -e method=rebuild.",
        )  # fmt: skip
    names = [outcome.name for outcome in restored.databases]
    at = format_time(datetime.now(timezone.utc))
    remember(config, {"id": identity, "at": at, "asked": requested, "databases": names})
    recovery_state.unmark(config, RECOVERING)
    recovery_state.unmark(config, fill.FILLED)

    notes = [f"{DIFFERS}{note}" for note in restored.notes]
    if receiver.enabled(config) is None:
        notes.append("no WAL is received, so no new base was taken: lifeboat wal enable, then lifeboat wal base")
    elif later is not None:
        later.append(lambda: _new_base(run, log))
    else:
        try:
            _new_base(run, log)
        except LifeboatError as exc:
            notes.append(f"no new base was taken ({exc.cause}): lifeboat wal base")
    return Recovered(**vars(replace(restored, notes=tuple(notes))), id=identity)


def _new_base(run: Opened, log: Log) -> None:
    """Raises LifeboatError where there is none: the dumps, and what was received before, are there still."""
    log("taking a new base, from which instants on the new timeline can be gone to")
    base.take(run, log)


def restore_database(
    run: Opened,
    identity: str,
    *,
    place: str = REPOSITORY,
    fresh: bool,
    stamp: str,
    asked: str = "",
    wanted: Wanted = EVERYTHING,
    accept: bool = False,
    log: Log,
) -> Recovered:
    """Restore by the method of the backup. Raises IntegrityError, the live database untouched, if it proves wrong.

    place: the repository, or the vault with its copy. asked: the state that an operator named, as the plan has it.
    accept: what is not as it was backed up is let through, as failed checks, of the databases that the verdict of the
    backup names, or where it names none of every one; what cannot be restored at all is an error still.
    """
    wished = _moment(asked)
    repo = open_place(run, place)
    manifest = parse(repo.manifest("database", identity), component="database", expected_id=identity)
    method = methods.of(manifest)
    found = held.of(manifest, run.config.database.name)
    chosen = [held.find(found, name, identity) for name in wanted.databases] or list(found if fresh else found[:1])
    server, config = database_server.of(run), run.config
    server.reap()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(repo.materialise("database", identity))
        artefacts = held.checksums(repo, manifest, folder)
        common = artefacts[None]
        broken = {item: artefacts[item.dump.name].check for item in chosen if artefacts[item.dump.name].differences}
        required, accepted = _required(chosen, fresh), _accepted(repo, manifest, chosen) if accept else ()
        whole = tuple(item for item in chosen if item not in broken or item in accepted)
        refused = common.check.detail if common.differences else ""
        if not refused and (required in broken or not whole or accept):
            refused = "; ".join(check.detail for check in broken.values())
        if refused and (not accept or required not in (None, *whole) or not whole):
            raise IntegrityError("restore the backup", identity, refused, "Choose another (`lifeboat list`).")
        folders = {item.dump.folder for item in whole}
        folder = stack.enter_context(
            method.opened(config, manifest, folder, run.key, folders=folders, accept=bool(accepted))
        )
        if fresh:
            names = tuple(item.shown for item in chosen)
            what = Unfinished(identity, empty=True, requested=bool(asked), state=asked, additional=names)
            recovery_state.mark(config, RECOVERING, what)
        restoration = Restoration(
            config, server, manifest, method.instant(manifest, wished), folder, fresh, stamp, lambda: None, log, whole,
            required, accepted, wanted.later,
        )  # fmt: skip
        try:
            restored = method.restore(restoration)
        except (OSError, EOFError, zlib.error) as exc:
            if not refused:
                raise LifeboatError("restore the backup", identity, str(exc)) from exc
            cause = f"{refused}; it cannot be read: {exc}"
            raise IntegrityError("restore the backup", identity, cause, "Choose another (`lifeboat list`).") from exc
    left_out = {item: check for item, check in broken.items() if item not in whole}
    outcomes = [*restored.databases, *(Outcome(item.shown, "failed", check.detail) for item, check in left_out.items())]
    own = (artefacts[item.dump.name] for item in chosen if not item.dump.folder)
    unread = [of_other(check, item.live) for item, check in broken.items() if item.dump.folder]
    others, more = aside.bring_back(config, server, Path(wanted.copied), stamp, log) if wanted.copied else ((), [])
    outcomes += more
    _end(config, identity, outcomes, fresh=fresh, accepted=[item.shown for item in accepted])
    back = [outcome.name for outcome in outcomes if outcome.action == "restored"]
    when = {"at": format_time(datetime.now(timezone.utc)), "asked": format_time(wished) if wished else asked}
    remember(config, {"id": identity, **when, "databases": back})
    there = [named(database.name) for database in server.living()] if wanted.newer or (outcomes and not fresh) else []
    if outcomes and not fresh:
        known = {outcome.name for outcome in outcomes}
        outcomes += [Outcome(name, "untouched") for name in there if name not in known]
    done = replace(
        restored,
        checks=(sum(own, common).check, *unread, *restored.checks, *others, *_newer(wanted.newer, there, identity)),
        databases=tuple(outcomes),
        notes=tuple(f"{DIFFERS}{note}" for note in restored.notes),
    )
    return Recovered(**vars(done), id=identity)


def _moment(state: str) -> Optional[datetime]:
    """The time that was asked for; None where it was a backup, or an instant of another kind."""
    with contextlib.suppress(LifeboatError):
        return parse_time(state)
    return None


def _required(chosen: Sequence[Held], fresh: bool) -> Optional[Held]:
    """The one without which nothing else is restored either."""
    return chosen[0] if chosen[0].primary or len(chosen) == 1 or fresh else None


def _accepted(repo: Repository, manifest: Manifest, chosen: Sequence[Held]) -> tuple[Held, ...]:
    """Those that an operator takes although they failed: where the verdict tells of each, the ones that it names."""
    spoiled = catalog.entry(repo, manifest.component, manifest.id).spoiled
    return tuple(item for item in chosen if not spoiled or item.dump.name in spoiled)


def _newer(names: Sequence[str], there: Collection[str], identity: str) -> list[Check]:
    """Whether the server has what newer backups hold and this one does not."""
    missing = [name for name in names if name not in there]
    words = f"{several('database', missing)} {'are' if missing[1:] else 'is'} not back: {identity} does not hold"
    failed = [f"{words} {'them' if missing[1:] else 'it'}"] if missing else []
    return (
        [compared("databases of newer backups", failed, f"the server has {several('database', names)}")]
        if names
        else []
    )


def _end(
    config: Config, identity: str, outcomes: Sequence[Outcome], *, fresh: bool, accepted: Collection[str]
) -> None:  # fmt: skip
    """Remove the mark where everything is back; else it names the databases that are not, so that the same command
    goes on with these. accepted: the databases that are taken as they are. A single database that was named ends no
    recovery of all."""
    unfinished = recovery_state.unfinished(config, RECOVERING)
    if unfinished is None or (planned.resumed(config) and not fresh):
        return
    left = tuple(item.name for item in outcomes if item.action == "failed" and item.name not in accepted)
    if left:
        rest = Unfinished(identity, since=unfinished.since, additional=left)
        keep(config, RECOVERING, json.dumps(typed.plain(rest)))
    else:
        recovery_state.unmark(config, RECOVERING)


def remember(config: Config, what: Mapping[str, object]) -> None:
    """Write the identity of the last recovery; whole or not at all."""
    keep(config, recovery_state.RECOVERED, json.dumps(what))
