# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the servers of lifeboat_dumps against a backup, and plan what brings back those that lack something. Reads
only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ..base import clock, filesystem
from ..base.errors import Log, NotFoundError, SpaceError, UsageError
from ..base.text import human, named
from ..recovery import sources as recovery_sources
from ..recovery import state as recovery_state
from ..recovery.sources import REOPENS, SHOWN, SourcesPlan, manifest_of
from ..recovery.state import DAMAGED, DOWN, HEALTHY, RECOVERING_DUMPS
from ..repository import checksums
from ..repository.catalog import Entry
from ..repository.details import DumpsDetails, HeldDump
from ..repository.sources import Sources
from ..settings.scenarios import DUMPS as SCENARIO
from ..stack.compose import within
from ..stack.runtime import DataMount, Opened
from ..tools import age
from . import fresh, sources
from .facts import DUMPS, Differences, Facts, read_facts
from .sources import Server

RECOVERED = "recovered_dumps_"  # and the name of the source: what it was recovered to last


@dataclass(frozen=True)
class Request(recovery_sources.Request):
    """force: also what is healthy. reads: a backup of which an artefact has other bytes than were written gives way to
    its copy."""

    force: bool = False
    reads: bool = True


@dataclass(frozen=True)
class Source:
    """One server. path: of its data on the host, empty where its volume has to be made first. kind, mount: volume or
    bind, and its name. missing, differing, additional: facts, against the backup. first: the first few of them. bytes:
    of its dump. writers: who is stopped meanwhile. needed: it is restored."""

    name: str
    service: str
    condition: str = HEALTHY
    why: str = ""
    kind: str = ""
    mount: str = ""
    path: str = ""
    missing: int = 0
    differing: int = 0
    additional: int = 0
    first: tuple[str, ...] = ()
    bytes: int = 0
    writers: tuple[str, ...] = ()
    needed: bool = False

    @property
    def data(self) -> DataMount:
        return DataMount(self.kind, self.mount, Path(self.path))


@dataclass(frozen=True)
class Plan(SourcesPlan):
    """turn: see recovery/state.Turn."""

    sources: tuple[Source, ...]
    turn: int = 0
    untested: tuple[Mapping[str, str], ...] = field(default=())


def make(run: Opened, request: Request, *, log: Log) -> Plan:
    """Raises LifeboatError where no recovery is possible, before anything is touched."""
    with recovery_state.planning(run.config) as number:
        made = _make(run, request, log)
    return replace(made, turn=number)


def _make(run: Opened, request: Request, log: Log) -> Plan:
    config = run.config
    if not config.dumps.sources:
        cause = "the stack has no dumps to recover from"
        raise UsageError("plan the recovery", config.stack, cause, "Name its servers in lifeboat_dumps.sources.")
    mark = recovery_state.unfinished(config, RECOVERING_DUMPS)
    begun = mark.additional if mark else ()
    if mark and mark.backup and mark.requested and not request.requested:
        request = replace(request, identity=mark.backup)

    def problem(entry: Entry) -> str:
        return "; ".join(checksums.in_place(catalogue.repo(entry), manifest_of(entry))) if request.reads else ""

    catalogue = Sources(run, DUMPS, request.identity, request.before, accept=request.accept)
    entry, passed = catalogue.choose(catalogue.identity, request.before, problem)
    manifest = manifest_of(entry)
    repo, details, keys = catalogue.repo(entry), manifest.detailed(DumpsDetails), age.keys(config, run.key)
    servers = {server.name: server for server in sources.servers(run)}
    assessed = []
    for name in _chosen(request, servers, details):
        log(f"comparing {name} with {entry.id}")
        facts = read_facts(repo, manifest, name, keys)
        assessed.append(_assessed(run, servers[name], details.sources[name], facts, entry, request, name in begun))
    differ = [each for each in assessed if each.needed]
    for each in differ:
        fresh.require_version(fresh.image_of(run, servers[each.name], details.sources[each.name]), servers[each.name],
                              details.sources[each.name])  # fmt: skip
        _require_place(each)
    conditions = {each.condition for each in assessed}
    condition = DOWN if DOWN in conditions else DAMAGED if DAMAGED in conditions else HEALTHY
    writers = tuple(sorted({name for each in differ for name in each.writers}))
    warnings = [*catalogue.notes, *(w for each in assessed for w in _warnings(run, servers[each.name], each, entry))]
    warnings += recovery_sources.not_in(entry, servers, details.sources)
    now = datetime.now(timezone.utc)
    left = recovery_state.interrupted(config, RECOVERING_DUMPS)
    why = "; ".join(f"{each.name}: {each.why}" for each in differ)
    why = why or left or f"everything that {entry.id} has is there"
    return Plan(
        needed=bool(differ or left), condition=condition, why=why,
        findings=tuple(filter(None, map(_finding, assessed))),
        unchecked=(), warnings=tuple(warnings),
        backup={**entry.as_dict(now), "details": {}, "location": catalogue.where(entry)},
        recovery_point=catalogue.point, state=clock.format_time(request.before) if request.before else "",
        location=catalogue.where(entry), passed_over=tuple(passed), accepted=catalogue.accepted,
        sources=tuple(assessed), requested=request.requested, writers=writers,
        steps=tuple(_steps(differ, writers, request) if differ else REOPENS if left else ()),
        target=", ".join(each.name for each in assessed),
        stamp=clock.stamp(), target_seconds=config.target(SCENARIO),
    )  # fmt: skip


def _chosen(request: Request, servers: Mapping[str, Server], details: DumpsDetails) -> list[str]:
    for name in request.sources:
        if name not in servers:
            cause = f"no source is called so; there are {', '.join(servers)}"
            raise UsageError("plan the recovery", named(name), cause, "Correct the name.")
        if name not in details.sources:
            raise NotFoundError("plan the recovery", named(name), "the backup does not have it", "Choose another.")
    chosen = {*request.sources} or {*servers}
    return [name for name in details.sources if name in chosen and name in servers]


def _assessed(
    run: Opened, server: Server, dumped: HeldDump, facts: Facts, entry: Entry, request: Request, begun: bool
) -> Source:
    """What the live server lacks of the backup, and whether it is restored. begun: an earlier run began with it."""
    condition, why, differences = _compared(run, server, facts)
    wrong, missing = differences.wrong, [item for item in differences.wrong if item.endswith(" is missing")]
    if condition == HEALTHY and missing:
        condition, why = DAMAGED, f"{len(missing)} facts of {entry.id} are missing"
    last = recovery_state.recovered(run.config, RECOVERED + server.name)
    needed = condition != HEALTHY or request.force or begun
    if begun:
        why = why or "a recovery of it has not ended"
    elif not needed and request.requested and wrong and not (last and last.id == entry.id):
        needed, why = True, f"it has other data than {entry.id}, which was asked for"
    elif request.force:
        why = why or "force was given"
    mount = _mount(run, server)
    return Source(
        server.name, server.service, condition, why, mount.kind, mount.name,
        "" if mount.path == Path() else str(mount.path), len(missing),
        sum(item.endswith(" differs") for item in wrong), sum(item.endswith(" is additional") for item in wrong),
        tuple(map(named, (missing or wrong)[:SHOWN])), dumped.bytes, _writers(run, server), needed,
    )  # fmt: skip


def _compared(run: Opened, server: Server, facts: Facts) -> tuple[str, str, Differences]:
    """Its condition, why, and what it has otherwise. Raises LifeboatError of a server that answers and does not tell
    what it holds: that is no reason to replace it."""
    state = run.runtime.state(server.service)
    if state.status == "paused":
        raise UsageError(
            "look at the server",
            server.service,
            "it is paused",
            f"Let it go on: docker compose unpause {server.service}",
        )
    if not state.running:
        return DOWN, f"its container is {state.describe()}", Differences()
    reached = sources.reach(run, server)
    if not reached.answers():
        return DOWN, f"its container is {state.describe()}, and the server does not answer", Differences()
    return HEALTHY, "", facts.differences(reached.facts())


def _mount(run: Opened, server: Server) -> DataMount:
    return sources.compose(run, server.name).data_mount(server.service, server.source.data_path)


def _writers(run: Opened, server: Server) -> tuple[str, ...]:
    found = run.runtime.dependants(server.service) or list(run.config.application.writers)
    return tuple(name for name in found if name != server.service)


def _require_place(each: Source) -> None:
    """That its data can be moved aside, and that another one fits beside it."""
    if not each.path:
        return
    place = Path(each.path)
    if filesystem.is_mounted(place):
        raise UsageError(
            "recover the server", each.name, f"{place} is a mount point of its own, so that it cannot be moved aside",
            "Give its data a directory below the mount point, or restore the dump by hand (docs/dumps.md).",
        )  # fmt: skip
    while not place.is_dir():
        place = place.parent
    free, needed = filesystem.free(place), each.bytes * fresh.TIMES
    if needed > free:
        cause = f"a server with {human(each.bytes)} of dump takes about {human(needed)}, and {human(free)} are free"
        raise SpaceError("recover the server", str(place), cause, "Free space there.")


def _warnings(run: Opened, server: Server, each: Source, entry: Entry) -> Iterator[str]:
    if each.needed and each.condition != DOWN:
        yield f"{each.name} goes back to {entry.id} as a whole; what was written since stays in quarantine only"
    if not each.needed and (each.differing or each.additional):
        yield (
            f"{each.name} was written after the backup and stays as it is; to have it as it was:"
            f" -e recovery_point={entry.id}"
        )
    found = sources.definition(run, server.service)[0]
    target = fresh.target_of(found.volumes, server.source.data_path)
    if each.needed and target != server.source.data_path and within(server.source.data_path, target):
        yield f"whatever else lies in {target} of {server.service} goes into quarantine with its data"


def _finding(each: Source) -> str:
    if each.condition == HEALTHY:
        return ""
    shown = f": {', '.join(each.first)}{', …' if each.missing > len(each.first) else ''}" if each.first else ""
    return f"{each.name}: {each.why}{shown}"


def _steps(differ: Sequence[Source], writers: Sequence[str], request: Request) -> Iterator[str]:
    for each in differ:
        if each.condition == DOWN and not request.requested and each.path:
            yield f"start: {each.service}; if it comes up with all that the backup has, nothing of it is restored"
        yield (
            f"restore: {each.name}, a dump of {human(each.bytes)}, into a fresh server next to the living one, and"
            " compare its facts"
        )
    yield f"stop: {', '.join(writers)}" if writers else "stop: no service, as none depends on it"
    for each in differ:
        yield f"swap: the data of {each.service} into quarantine, the restored data in its place; start it, compare"
    yield from REOPENS


def text(plan: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    lines = [f"{each.name} ({each.service}) is {each.condition}" for each in plan.sources]
    lines += [f"  found: {finding}" for finding in plan.findings]
    lines.append(f"{'to do' if plan.needed else 'nothing to do'}: {plan.why}")
    return recovery_sources.described(plan, lines)
