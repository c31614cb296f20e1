# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan the recovery of a database: read only, decided once, printed before anything is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Optional

from ..base import clock, filesystem, typed
from ..base.checks import PASS
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, SpaceError, UsageError, present
from ..base.text import PassedOver, Untested, assessed, cautions, human, named
from ..recovery import state as recovery_state
from ..recovery.state import DAMAGED, DOWN, HEALTHY, Unfinished, recovered, stopped, with_stopped
from ..repository import catalog
from ..repository.base import LATEST
from ..repository.catalog import Entry
from ..repository.details import COPY, LOGICAL, Content, DatabaseDetails
from ..repository.manifest import Manifest
from ..repository.sources import FROM_VAULT, Sources
from ..settings.config import Config
from ..settings.scenarios import DATABASE
from ..stack import answer
from ..stack.runtime import Opened, Runtime, database_mount, wal_elsewhere
from ..wal import instants
from ..wal.instants import At, Instant, Latest
from . import (
    aside,
    assess,
    carried,
    clients,
    cluster,
    hba,
    held,
    lacking,
    logins,
    majors,
    scratch,
)
from . import server as database_server
from .held import Held
from .methods import registry as methods
from .methods.physical import choice
from .planned import ASIDE, ASK, RESTORE, Action, Database, Mode, Plan, Replay, resumed

UNKNOWN_OTHERS = (
    "databases of the server that the backup does not hold, as it does not answer: in a rebuild they stay in the data"
    " directory that is put aside"
)
ANOTHER = (
    "the server is not the one that was backed up: beside its databases, the backup's roles, settings, access rules,"
    " slots and tablespaces may be missing, and a swap brings back none of them; -e method=rebuild brings back or names"
    " each"
)
_OWNERS = (
    "rows of owners who are no superusers come back over such a role, so the restore would end before anything is"
    " replaced. Add a line, as `host all all 127.0.0.1/32 scram-sha-256`, before these, and reload; or, where you trust"
    " the owners, set lifeboat_database.trust_owners: true"
)
LOST = 12  # lines of the text about what does not come back as it was
_ASKED: Mapping[str, Mode] = {"swap": "swap", "rebuild": "rebuild"}


def _warnings(found: list[Entry], chosen: Entry) -> list[str]:
    less, fuller = catalog.shrunk(found, chosen.id, gone=False)
    lines = [f"{less}; to use that one: -e recovery_point={fuller}"] if less else []
    if chosen.incomplete:
        lines.append(f"{chosen.id} is not good: {chosen.problem}")
    lines += [f"{chosen.id} is not good for the database {named(name)}: {why}" for name, why in chosen.spoiled.items()]
    if chosen.manifest and not chosen.manifest.detailed(DatabaseDetails).role_passwords:
        lines.append("the backup has no role passwords: a role that the recovery creates has none until you set it")
    return lines


@dataclass(frozen=True)
class Request:
    """What an operator asks for.

    identity: of a backup or a recovery point, or `latest`. before: nothing later. accept: the one that is named,
    although it failed. database: the only one to be replaced in a server that lives. others: `restore`, `aside` or
    `ask`, for databases that the backup does not hold and a rebuild would lose. state: how the operator named it, where
    neither of the first two is that. replay: how a backup of it is taken once the plan is carried out; None where there
    is one; a server that is lost comes back to that instant as a whole.
    """

    identity: str = "latest"
    before: Optional[datetime] = None
    force: bool = False
    method: str = "auto"
    accept: bool = False
    database: str = ""
    others: str = ASK
    state: str = ""
    replay: Optional[Replay] = None

    @property
    def instant(self) -> Optional[Instant]:
        """What is replayed to."""
        return instants.requested(self.replay.recovery_time, self.replay.before) if self.replay else None

    def physical(self, continues: Optional[Unfinished], sources: Sources) -> choice.Wish:
        """What of it may be a matter of a base and WAL."""
        newest = max((entry.dated for entry in sources.entries if entry.good), default=None)
        instant = self.instant or (At(self.before) if self.before else None)
        backup = "" if self.identity in LATEST else self.identity
        timeline = self.replay.timeline if self.replay else 0
        return choice.Wish(instant, timeline, self.method, backup, self.database, continues, newest)


ANYTHING = Request()


def make(run: Opened, request: Request = ANYTHING, *, log: Log) -> Plan:
    """The plan of a database recovery. Reads only. Raises LifeboatError when no recovery is possible."""
    database_server.refuse_without(run.config, "plan the recovery of the database")
    with recovery_state.planning(run.config) as number:  # before anything is looked at
        made = _make(run, request, log)
    return replace(made, turn=number)


def _make(run: Opened, request: Request, log: Log) -> Plan:
    identity, before, force, method = request.identity, request.before, request.force, request.method
    database, replay = request.database, request.replay
    config, stack = run.config, run.runtime
    continues = resumed(config)
    sources, state = _sources(run, request, continues)
    log("assessing the database")
    asked = _asked(sources, before) if state and not replay else None
    seen, older = _assess(run, sources, asked, request)
    own = held.of(present(asked.manifest), config.database.name) if asked else None
    holds = {item.shown for item in own} if own else None
    wish = request.state or (_named(identity, before) if continues else state)
    needed, why = _needed(config, seen, wish, force, database, holds)
    if seen.initialised_again and not database:
        why = "the server is lost: what answers was initialised again and holds nothing"
    if continues and not database:
        needed, why = True, f"the recovery of {continues.backup} that began at {continues.since} has not ended; {why}"
    identity = sources.identity
    copies = aside.copied(config)
    mode = _mode(config, seen, method, database, continues) if needed else _left(config, copies)
    why = _why_left(config) if mode == "reopen" else why
    way = choice.choose(run, seen, request.physical(continues, sources), log) if needed else choice.BY_DUMP
    if way.route:
        warnings = list(filter(None, [older, _wal_elsewhere(run), *_copies(copies)]))
        return choice.plan(run, seen, way, why, state, force=force, warnings=warnings, log=log)
    if replay and needed and (seen.condition == DOWN or seen.initialised_again):
        return _make(run, _by_dump(config, request, replay), log)
    scope = Scope(run, seen, mode, database, bool(state) or force, request.others, method=method, replay=replay)
    chosen, passed_over, damaged, lost, better = _choose(run, sources, identity, before, scope, log)
    manifest = present(chosen.manifest)
    scope = scope.fitting(manifest)
    mode, needed = scope.mode, scope.mode != "none"
    if mode == "swap" and not scope.asked:
        scope = replace(scope, better=better)
    until = methods.of(manifest).instant(manifest, before) if needed else manifest.taken_at
    writers = with_stopped(config, list(config.application.writers) or stack.dependants(config.database.service))
    now = datetime.now(timezone.utc)
    databases = scope.databases(manifest)
    back = [item.live for item in scope.restored(manifest)]
    lacks = lacking.of(config, sources.entries, manifest, seen.databases)
    lacks = lacking.with_tables(lacks, sources, chosen, back) if needed else lacks
    stays = {*(seen.databases or ())} - {*seen.damaged} if mode == "swap" else ()
    one_offs: list[str] = []
    remaining: list[str] = []
    if mode not in ("none", "reopen"):
        _require_space(config, stack, sum(item.size for item in databases if item.action in ("restored", "copied")))
        if seen.condition != DOWN:
            methods.of(manifest).require_room(run, manifest, scope.restored(manifest))
        one_offs = stack.one_offs(config.database.service, *writers)
        remaining = _clients(run, writers, one_offs, back) if seen.condition != DOWN else []
    return Plan(
        needed=needed,
        condition=seen.condition,
        findings=seen.findings,
        unchecked=(*seen.unchecked, *scope.unknown),
        warnings=(
            *filter(None, [older, _wal_elsewhere(run) if mode in ("start", "rebuild") else ""]),
            *_another(config, seen, mode, chosen),
            *sources.notes,
            *_warnings(sources.entries, chosen),
            *(scope.newer_copies(better) if mode in ("start", "rebuild", "fill") else ()),
            *lacks.warnings(back, seen.databases),
            *damaged,
            *remaining,
            *(_of_passwords(run, manifest, back) if mode == "swap" else ()),
            *_copies(copies),
            *(recovery_state.warnings_of_unanswered(config, answer.PATIENCE) if needed else ()),
        ),
        why=why,
        asked=force or bool(state),
        state=state,
        mode=mode,
        backup=chosen.as_dict(now),
        location=sources.where(chosen),
        recovery_point=sources.point,
        passed_over=tuple(passed_over),
        accepted=_accepted(sources, chosen, scope.restored(manifest)),
        writers=tuple(writers),
        stamp=clock.stamp(now),
        steps=tuple(_steps(config, chosen, [*writers, *map(_one_off, one_offs)], mode, before, databases, replay))
        if needed
        else (),
        target=scope.target(held.of(manifest, config.database.name), chosen.id).shown,
        target_seconds=config.target(DATABASE),
        databases=databases,
        named=bool(database),
        one_offs=tuple(one_offs),
        lost=tuple(lost),
        untested=(*lacks.untested(stays), *scope.untested) if mode not in ("none", "reopen") else (),
        newer=tuple(named(name) for name in (*lacks.newer, *lacks.missing) if not state or name in seen.damaged),
        until=format_time(until) if until != manifest.taken_at else "",
        headline=way.headline(until) if needed else "",
        replay=replay if mode not in ("none", "reopen") else None,
    )


def _assess(run: Opened, sources: Sources, entry: Optional[Entry], request: Request) -> tuple[assess.Assessment, str]:
    """What is there, and a warning where its data is an older major's. entry: the backup whose state was named."""
    assessment = assess.assess(run, assess.reference_of(sources, entry, request.database))
    if assessment.refused and request.method not in ("rebuild", choice.METHOD):
        raise assess.refusal(run.config, assessment.refused)
    older = majors.older_data(run) if assessment.condition == DOWN else ""
    if older and request.method != "rebuild":
        raise majors.refusal(run, older)
    return assessment, older


def _by_dump(config: Config, request: Request, replay: Replay) -> Request:
    """What is asked for of a server that does not come back as a whole. In a backup that a throw-away server gives, the
    settings and access rules are those of the server that lives: where none does, a dump that there is has to do."""
    if request.database:
        cause = f"{named(request.database)} alone, at {replay.instant}, needs a server that answers"
        remedy = "Name no database: then the whole server goes to that instant."
        raise UsageError("plan the recovery", config.stack, cause, remedy)
    instant = request.instant
    if not isinstance(instant, (At, Latest)):
        cause = f"a dump is of a time, and {replay.instant} is a position in the WAL"
        raise UsageError(
            "plan the recovery", config.stack, cause, "Name a time (recovery_time), or leave method at auto."
        )
    return replace(request, before=instant.moment if isinstance(instant, At) else None, state="", replay=None)


def _left(config: Config, copies: Sequence[str]) -> Mode:
    """Where nothing is to be brought back: whether an earlier recovery left anything to do."""
    shut = (config.state / logins.CLOSED).exists()
    left = stopped(config) or shut or copies or recovery_state.unfinished(config, recovery_state.RECOVERING)
    return "reopen" if left else "none"


def _why_left(config: Config) -> str:
    left = stopped(config)
    if left:
        return f"an earlier recovery stopped {', '.join(left)} and did not start them again"
    return "an earlier recovery closed the database to logins and did not come to its end"


def _mode(config: Config, seen: assess.Assessment, method: str, database: str, continues: Optional[Unfinished]) -> Mode:
    mode = _ASKED.get(method) or ("start" if seen.condition == DOWN else "swap")
    if mode == "swap" and seen.condition == DOWN:
        raise UsageError(
            "plan the recovery", config.stack, "method=swap needs a server that answers", "Leave method at auto."
        )
    if mode == "rebuild" and database:
        raise UsageError(
            "plan the recovery", config.stack, f"method=rebuild replaces every database, not {database} alone",
            "Leave method at auto, or name no database.",
        )  # fmt: skip
    return "fill" if mode == "swap" and not database and (seen.initialised_again or continues) else mode


def _another(config: Config, seen: assess.Assessment, mode: Mode, chosen: Entry) -> list[str]:
    """A warning where what surrounds the databases may be lost, too. One that a recovery rebuilt since has it again."""
    last = recovered(config)
    ours = last is not None and last.at > format_time(present(chosen.manifest).taken_at)
    return [ANOTHER] if mode == "swap" and seen.other and not ours else []


def _asked(sources: Sources, before: Optional[datetime]) -> Optional[Entry]:
    """The backup of the state that was named; None where it cannot be used, which choosing it says."""
    with contextlib.suppress(LifeboatError):
        identity, stack = sources.tied or sources.identity, sources.run.config.stack
        entry, _newer = catalog.choose(
            sources.entries, stack, identity=identity, before=before, accept=sources.accept, partly=True,
            reach=methods.reach,
        )  # fmt: skip
        return entry if entry.manifest else None
    return None


def _copies(names: Sequence[str]) -> list[str]:
    """What a recovery that did not end has left to do."""
    words = "of these, which a recovery that did not end copied out of the server, it brings back what is missing"
    return [f"{words}: {', '.join(names)}"] if names else []


@dataclass(frozen=True)
class Scope:
    """Which databases a recovery is about: of those that a backup holds, and of those that the server has.

    named: the only one to be replaced in a server that lives. asked: its state was named. others, method, replay: see
    make().
    better: databases of which a newer backup than the chosen one has a good copy, and which backup: they are left to
    the next recovery, which takes that one.
    """

    run: Opened
    seen: assess.Assessment
    mode: Mode
    named: str
    asked: bool
    others: str
    better: Mapping[str, str] = field(default_factory=dict)
    method: str = "auto"
    replay: Optional[Replay] = None

    def fitting(self, manifest: Manifest) -> Scope:
        """The same for a backup that does not come back into a server that lives: into a fresh one."""
        if self.mode not in ("swap", "fill") or methods.of(manifest).mode(self.seen) == "running":
            return self
        if self.method == "swap" or self.named:
            raise UsageError(
                "plan the recovery", self.run.config.stack, f"{manifest.id} brings back the whole server, a fresh one",
                "Name a backup that is a dump, or leave method at auto and name no database.",
            )  # fmt: skip
        return replace(self, mode="rebuild")

    def target(self, found: Sequence[Held], identity: str) -> Held:
        return held.find(found, self.named, identity) if self.named else found[0]

    def useless(self, restored: Sequence[Held], spoiled: Collection[Held]) -> bool:
        """Whether a backup will not do in which these are spoiled: each stands for itself, but for the application's
        database and one that was named."""
        first = restored[0]
        required = first.primary or self.named or self.asked or self.mode != "swap"
        return len(spoiled) == len(restored) or bool(required and first in spoiled)

    def absent(self, manifest: Manifest) -> str:
        """Why a backup will not do that could not include what is damaged or was named; empty where it did."""
        missing = manifest.detailed(DatabaseDetails).missing
        if self.mode != "swap" or not missing or (self.asked and not self.named):
            return ""
        found = [item.live for item in held.of(manifest, self.run.config.database.name)]
        wanted = [name for name in missing if self.named in (name, named(name))] if self.named else self.seen.damaged
        if any(name in found for name in wanted):
            return ""
        causes = {name: missing[name] for name in wanted if name in missing}
        return "; ".join(f"the database {named(name)} is not in it: {cause}" for name, cause in causes.items())

    def restored(self, manifest: Manifest) -> tuple[Held, ...]:
        """Those that come back from this backup, the target first."""
        found = held.of(manifest, self.run.config.database.name)
        target = self.target(found, manifest.id)
        if self.mode in ("none", "reopen"):
            return ()
        if self.mode != "swap":
            return (target, *(item for item in found if item is not target))
        wrong = [item for item in found if item.live in self.seen.damaged and (not self.named or item is target)]
        if self.asked:
            wrong = [target, *(item for item in wrong if item is not target)]
        wrong = [item for item in wrong if item.live not in self.better]
        if not wrong:
            raise NotFoundError(
                "restore the database", ", ".join(map(named, self.seen.damaged)), f"{manifest.id} does not hold it",
                "Name a backup that does: -e recovery_point=<id> (`lifeboat list`).",
            )  # fmt: skip
        for item in wrong:
            held.find(found, item.shown, manifest.id)  # the later phases know it by that name
        return tuple(wrong)

    def databases(self, manifest: Manifest) -> tuple[Database, ...]:
        """Every database of the backup and of the server, and what happens to it."""
        found = held.of(manifest, self.run.config.database.name)
        chosen, details = self.restored(manifest), manifest.detailed(DatabaseDetails)
        lines = []
        for item in found:
            content, wrong = item.dump.content or Content(), item.live in self.seen.damaged
            action: Action = "restored" if item in chosen else "untouched"
            if item in chosen:
                why = {
                    "start": "unless the server comes up with its data", "rebuild": "the server will be a fresh one",
                    "fill": "the server is an empty one",
                }.get(self.mode) or ("it is damaged" if wrong else "it was asked for")  # fmt: skip
            elif item.live in self.better:
                newer = self.better[item.live]
                why = f"it is damaged, and {newer} has a newer good copy: the same command takes it then"
            elif wrong and self.named:
                why = f"it is damaged, and only {self.named} was named"
            elif self.seen.databases is not None and item.live not in self.seen.databases:
                why = "neither the server nor the newest backup has it"
            elif self.seen.databases is not None and item.live not in self.seen.expected:
                why = "the newest backup does not hold it, so that it was not looked at"
            else:
                why = "nothing is wrong with it" if self.seen.databases is not None else "nothing is restored"
            lines.append(Database(item.shown, action, why, item.dump.size, content.tables, content.rows))
        known = [item.live for item in found]
        rest = [name for name in self.seen.databases or (*details.excluded, *details.missing) if name not in known]
        return (*lines, *self._rest(rest, details))

    def _rest(self, names: Sequence[str], details: DatabaseDetails) -> list[Database]:
        """Databases that the backup does not hold."""
        why = dict.fromkeys(details.excluded, "it is excluded from backups")
        why.update({name: f"the backup could not include it: {cause}" for name, cause in details.missing.items()})
        for name in details.missing:
            if self.mode == "swap" and name in self.seen.damaged:
                why[name] = f"it is damaged, and {why[name]}: the same command takes an older one then"
        tell = {name: why.get(name, "the backup does not hold it") for name in names}
        if self.mode not in ("start", "rebuild"):
            return [Database(named(name), "untouched", text) for name, text in tell.items()]
        if self.mode == "start" or self.seen.databases is None:
            return [Database(named(name), "quarantined", f"{text}; in a rebuild") for name, text in tell.items()]
        server = database_server.of(self.run)
        sizes: dict[str, aside.Size] = {}
        shut: dict[str, str] = {}  # those that cannot be opened, and so not be copied
        for name in names:
            try:
                sizes[name] = aside.size(server, name)
            except LifeboatError as exc:
                sizes[name] = aside.Size(0, True)
                shut[name] = exc.cause
        sizes = {name: size for name, size in sizes.items() if name != aside.EVERYWHERE or size.filled}
        if sizes and self.others not in (RESTORE, ASIDE):
            raise UsageError(
                "rebuild the server", ", ".join(map(named, sizes)),
                "the server has these databases and the backup does not hold them",
                f"-e others={RESTORE} copies each into the fresh server; -e others={ASIDE} leaves them in the data"
                " directory that is put aside. method=auto replaces only what is damaged.",
            )  # fmt: skip
        if shut and self.others == RESTORE:
            raise UsageError(
                "rebuild the server", ", ".join(map(named, shut)),
                "; ".join(f"{named(name)} cannot be copied: {cause}" for name, cause in shut.items()),
                "Let it be read (ALTER DATABASE … ALLOW_CONNECTIONS true; GRANT CONNECT), drop it, or leave all of"
                f" these in the data directory that is put aside: -e others={ASIDE}. Nothing was changed.",
            )  # fmt: skip
        action: Action = "copied" if self.others == RESTORE else "quarantined"
        lines = [Database(named(name), action, tell[name], size.bytes) for name, size in sizes.items()]
        bare = [name for name in names if name not in sizes]
        return lines + [
            Database(name, "untouched", "it holds nothing, and the fresh server has its own") for name in bare
        ]

    @property
    def untested(self) -> tuple[Untested, ...]:
        """What is still damaged afterwards, for the record of the recovery."""
        why = "it is damaged, and {} has a newer good copy: run the same command again"
        return tuple(Untested(f"the database {named(name)}", why.format(entry)) for name, entry in self.better.items())

    def newer_copies(self, better: Mapping[str, str]) -> list[str]:
        """Where everything comes back of an older backup, as that is good for the application."""
        return [
            f"{entry} has a newer good copy of the database {named(name)}; to take it when the server is back:"
            f" -e recovery_point={entry} -e database={named(name)}"
            for name, entry in better.items()
        ]

    @property
    def unknown(self) -> tuple[str, ...]:
        """What a rebuild may leave behind without anybody having seen it."""
        if self.mode not in ("start", "rebuild") or self.seen.databases is not None:
            return ()
        return (UNKNOWN_OTHERS,)


def _sources(run: Opened, request: Request, continues: Optional[Unfinished]) -> tuple[Sources, str]:
    """The backups, and the state that was named. Where none is, a recovery that has not ended goes on with its own."""
    identity, before, accept = request.identity, request.before, request.accept
    if continues and continues.backup and not continues.replay and not (request.state or _named(identity, before)):
        return Sources(run, DATABASE, continues.backup, None, accept=accept), continues.state
    sources = Sources(run, DATABASE, identity, before, accept=accept, reach=methods.reach)
    return sources, request.state or _named(sources.identity, before)


def _named(identity: str, before: Optional[datetime]) -> str:
    return identity if identity not in LATEST else format_time(before) if before else ""


def _needed(
    config: Config,
    seen: assess.Assessment,
    requested: str,
    force: bool,
    database: str = "",
    holds: Optional[Collection[str]] = None,
) -> tuple[bool, str]:
    """holds: the names, as named() prints them, of the databases of the backup whose state was named. What it does not
    hold it cannot bring back, so that a damage of these is no reason to restore it."""
    last, condition, what = recovered(config), seen.condition, f"database {database}" if database else "database"
    wrong = [named(name) for name in seen.damaged if holds is None or named(name) in holds]
    if condition == DAMAGED and seen.damaged and not wrong:
        condition = HEALTHY
    if condition == DAMAGED and database:
        condition = DAMAGED if database in wrong else HEALTHY
    elif condition == DAMAGED and wrong and wrong != [named(config.database.name or wrong[0])]:
        return True, f"{', '.join(wrong)}: {'damaged' if len(wrong) == 1 else 'these databases are damaged'}"
    if last and last.databases and (database or named(config.database.name) or last.databases[0]) not in last.databases:
        last = None  # it brought back others
    return recovery_state.needed(what, condition, requested, force, last)


def _require_told(entry: Entry, wrong: Mapping[Held, str]) -> None:
    """Refuse a database whose bytes differ where the verdict on record fails others alone: nobody accepted that."""
    untold = [f"{item.shown}: {why}" for item, why in wrong.items() if item.dump.name not in entry.spoiled]
    if entry.spoiled and untold:
        remedy = f"Have it on record first: lifeboat verify {entry.id}. Then -e accept=failed takes it, too."
        raise IntegrityError("use the backup", entry.id, "; ".join(untold), remedy)


def _accepted(sources: Sources, chosen: Entry, restored: Sequence[Held]) -> tuple[str, ...]:
    """Why the backup failed that an operator accepts: of the databases that come back, where the verdict tells that."""
    told = [(item, chosen.spoiled.get(item.dump.name)) for item in restored]
    verdicts = [f"{item.shown}: {why}" for item, why in told if why] if chosen.spoiled else [chosen.failed]
    return tuple(filter(None, [*verdicts, *sources.accepted[1 if chosen.failed else 0 :]])) if sources.accept else ()


def _choose(
    run: Opened, sources: Sources, identity: str, before: Optional[datetime], scope: Scope, log: Log
) -> tuple[Entry, list[PassedOver], list[str], list[str], dict[str, str]]:
    """The backup, its bytes checked before anything is touched. A broken newest one is passed over, and said so.

    One in which only other databases are spoiled will do where the vault has no better: which those are. Then: what
    does not come back as it was. Last: the databases of which a newer one that was passed over has a good copy, and
    which one.
    """
    damaged: list[str] = []
    lost: list[str] = []
    better: dict[str, str] = {}

    def problem(entry: Entry) -> str:
        damaged.clear()
        lost.clear()
        manifest = present(entry.manifest)
        if (absent := scope.absent(manifest)) or scope.mode in ("none", "reopen") or scope.replay:
            return absent
        here = scope.fitting(manifest)
        less, fuller = catalog.shrunk(sources.entries, entry.id, gone=False)
        if less and identity in LATEST:
            raise UsageError(
                "choose a backup", run.config.stack, f"{less}: which of them is right is not ours to guess",
                f"Name the one you want: -e recovery_point={fuller} (or {entry.id}).",
            )  # fmt: skip
        log(f"checking the bytes of {entry.id}")
        repo, restored = sources.repo(entry), here.restored(manifest)
        if here.mode in ("swap", "fill") and not here.seen.initialised_again:
            _require_no_prepared(run, restored)
        with repo.materialise("database", entry.id) as folder:
            found = held.checksums(repo, manifest, folder)
            common = found[None].check
            wrong = {item: found[item.dump.name].check.detail for item in restored if found[item.dump.name].differences}
            method = methods.of(manifest)
            open_it = partial(method.opened, run.config, manifest, folder, run.key, folders=(), accept=sources.accept)
            if sources.accept:
                _require_told(entry, wrong)
                with open_it():
                    pass  # a key that is missing or wrong must end the plan, not the recovery
                _require_major(run, entry, folder)
                return "; ".join(filter(None, [common.detail * (common.result != PASS), *wrong.values()]))
            if common.result != PASS:
                return common.detail
            spoiled = {item: entry.spoiled[item.dump.name] for item in restored if item.dump.name in entry.spoiled}
            if wrong and sources.copy_of(entry):
                return "; ".join(wrong.values())
            bad = {**spoiled, **wrong}
            if here.useless(restored, bad):
                better.update(
                    {item.live: entry.id for item in restored if item not in {*bad} and item.live not in better}
                )
                return "; ".join(bad.values())
            damaged.extend(f"{item.shown} cannot be restored from {entry.id}: {why}" for item, why in bad.items())
            with open_it() as plain:
                when = {"start": "in a rebuild ", "rebuild": "in a rebuild ", "fill": ""}.get(here.mode)
                lost.extend(f"{when}{line}" for line in (method.lost(run, manifest, plain) if when is not None else ()))
            if here.mode == "swap":
                lost.extend(_staying(run, restored))
            lost.extend(f"{item.shown}: {named(line)}" for item in restored for line in item.dump.not_carried)
            _require_major(run, entry, folder)
        return ""

    chosen, passed_over = sources.choose(identity, before, problem, bearable=True, partly=True)
    own = {item.live for item in held.of(present(chosen.manifest), run.config.database.name)}
    better = {name: newer for name, newer in better.items() if newer != chosen.id and name in own}
    return chosen, passed_over, damaged, lost, better


def _staying(run: Opened, restored: Sequence[Held]) -> list[str]:
    server = database_server.of(run)
    return [f"{item.shown}: {line}" for item in restored for line in cluster.staying(server, [item.live])]


def _require_major(run: Opened, chosen: Entry, folder: Path) -> None:
    """A dump restores into its own major or a newer one, never into an older."""
    needed = present(chosen.manifest).detailed(DatabaseDetails).server_version_num // 10000
    try:
        have = database_server.of(run).major()
    except LifeboatError:
        if run.config.runtime.type != "compose":
            raise
        image = run.runtime.image(run.config.database.service)
        with scratch.container(image, run.config.stack, folder, timeout=300) as name:
            have = scratch.image_major(name)
    if have < needed:
        raise UsageError(
            "restore the backup",
            chosen.id,
            f"it is of PostgreSQL {needed}, the server is {have}",
            f"Run PostgreSQL {needed} or newer, or choose an older backup.",
        )


def _require_no_prepared(run: Opened, restored: Sequence[Held]) -> None:
    carried.refuse_prepared(database_server.of(run), [item.live for item in restored])


def _require_space(config: Config, stack: Runtime, database_size: int) -> None:
    """The old data stays until an operator removes it, so the restored database needs room of its own."""
    try:
        mount = database_mount(config, stack)
        free = filesystem.free(mount.path)
    except (LifeboatError, OSError):
        return  # a volume that is gone: the fresh one is the engine's matter
    if free < database_size * 1.1:
        raise SpaceError(
            "plan the recovery",
            str(mount.path),
            f"{human(free)} free, about {human(database_size * 1.1)} needed",
            "Free space there: nothing was changed yet.",
        )


def _wal_elsewhere(run: Opened) -> str:
    """Say what a rebuild has to know of that; empty where there is nothing to say."""
    place, service = wal_elsewhere(run.config, run.runtime), run.config.database.service
    if not place:
        return ""
    return (
        f"the write-ahead log of {service} lies in {place}, outside of its data (initdb --waldir): a rebuild puts the"
        " data aside without it, and that data starts only with it. Keep a copy of that directory first, and empty it"
        " where the fresh server is made with the same --waldir: initdb refuses one that is not empty"
    )


def _clients(run: Opened, writers: list[str], one_offs: list[str], databases: Sequence[str]) -> list[str]:
    """Who else is connected, and will be when the writers are stopped."""
    try:
        found = clients.connected(database_server.of(run), databases)
        return clients.lasting(found, run.runtime.addresses(writers, one_offs)) if found else []
    except LifeboatError as exc:
        return [f"who else is connected is not known: {exc.cause}"]


def _of_passwords(run: Opened, manifest: Manifest, databases: Sequence[str]) -> list[str]:
    if run.config.database.trust_owners or manifest.detailed(DatabaseDetails).method != LOGICAL:
        return []
    refused = hba.closed_to_passwords(database_server.of(run), databases)
    return [f"{refused}; {_OWNERS}"] if refused else []


def _one_off(name: str) -> str:
    return f"{name} of `docker compose run`, which is not started again"


def _steps(
    config: Config,
    chosen: Entry,
    writers: list[str],
    mode: str,
    before: Optional[datetime],
    databases: Sequence[Database] = (),
    replay: Optional[Replay] = None,
) -> list[str]:
    manifest = present(chosen.manifest)
    live = ", ".join(item.name for item in databases if item.action == "restored")
    method = methods.of(manifest)
    source = f"{chosen.id} ({format_time(method.instant(manifest, before))})" if not replay else "that backup"
    then = method.steps(source, live or config.database.name or "the database")
    copied = ", ".join(item.name for item in databases if item.action == "copied")
    shut = "close what is replaced to logins, end the sessions that are left"
    fresh = ", whose databases take no logins until they are filled"
    steps = recovery_state.steps(mode, config.database.service, writers, then, living=[shut], fresh=fresh)
    if copied:
        steps.insert(1, f"protect: dump {copied} out of the server, each with a fingerprint")
        steps.insert(len(steps) - 2, f"restore and verify: {copied} as they were when they were dumped")
    if replay:
        first = (
            f"stand: {replay.base} and the WAL behind it in a throw-away server without a network, replayed to the"
            " instant", "back up: each database out of that server, with a fingerprint, while the application runs on",
            "plan: once more, with that backup",
        )  # fmt: skip
        return [*first, *steps]
    return steps


@dataclass(frozen=True)
class _Listed:
    """What the text tells of the backup."""

    id: str
    taken_at: str
    size: int
    place: str
    details: DatabaseDetails
    proven_at: Optional[str] = None


def _replayed(replay: Replay) -> list[str]:
    return [
        f"all that was committed before {replay.instant}, on timeline {replay.timeline}:",
        f"  {replay.base} taken {replay.taken_at}, and at most {human(replay.wal)} of WAL behind it",
        "  a backup of that instant is taken and planned with first; what follows is by the newest backup there is",
    ]


def _late(plan: Plan, taken_at: str) -> list[str]:
    """What has to be read first: that a time was asked for, and what comes back is older."""
    try:
        wished, back = clock.parse_time(plan.state), clock.parse_time(plan.until or taken_at)
    except LifeboatError:
        return []  # a backup was named, or nothing was
    if plan.replay or not plan.needed or wished - back < timedelta(seconds=1):
        return []
    what = f"NOT the instant that was asked for, {plan.state}"
    return [f"{what}: what comes back is of {format_time(back)}, {wished - back} earlier"]


def text(made: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    if made.physical:
        return list(map(named, choice.text(made, made.physical)))
    backup = typed.build(_Listed, made.backup, partial(UsageError, "show the plan"), "backup", unknown="ignore")
    summary, proof = backup.details.primary.content, backup.proven_at
    tables = f"{summary.tables} tables, {summary.rows} rows" if summary else COPY
    lines = [*([made.headline] if made.headline else _late(made, backup.taken_at)), *assessed("the database", made)]
    if made.replay:
        lines += _replayed(made.replay)
    else:
        lines.append(
            f"backup: {backup.id} taken {backup.taken_at}, {human(backup.size)}, {tables},"
            f" {f'proven {proof}' if proof else 'NOT proven by a restore'}"
        )
    lines += [f"  it is the database of recovery point {made.recovery_point}"] if made.recovery_point else []
    lines += [f"  it is taken from the vault: {made.location}"] if backup.place in FROM_VAULT else []
    lines += cautions(made.warnings, made.passed_over, made.accepted)
    if made.needed and len(made.databases) > 1:
        lines += [f"  database {item.name}: {item.action} ({item.why})" for item in made.databases]
    lines += [f"  {line}" for line in made.lost[:LOST]]
    if len(made.lost) > LOST:
        lines.append(f"  and {len(made.lost) - LOST} more: the module's result has them all (lost)")
    if made.mode in ("swap", "start", "rebuild", "fill"):
        dumps = {named(item.name): item.taken_at or backup.taken_at for item in backup.details.databases}
        since = made.until or min((dumps[name] for name in made.replaced if name in dumps), default=backup.taken_at)
        gone = ", ".join(made.replaced) or made.target
        if made.replay:
            since = made.replay.since or "that instant"
        lines.append(f"data written after {since} will be missing from {gone}; it is kept aside")
    lines += [f"  {number}. {step}" for number, step in enumerate(made.steps, 1)]
    return list(map(named, lines))
