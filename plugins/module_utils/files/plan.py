# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the directories of lifeboat_files against a backup, and plan what brings back what they lack. Reads only."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable

from ..base import clock, filesystem
from ..base.errors import Log, NotFoundError, SpaceError, UsageError, printable
from ..base.text import assessed, human, named
from ..recovery import sources as recovery_sources
from ..recovery import state as recovery_state
from ..recovery.sources import REOPENS, SHOWN, SourcesPlan, manifest_of
from ..recovery.state import DAMAGED, DOWN, HEALTHY, RECOVERING_FILES
from ..repository import catalog
from ..repository.base import Repository
from ..repository.catalog import Entry
from ..repository.details import FilesDetails
from ..repository.manifest import Artefact
from ..repository.sources import Sources
from ..settings.scenarios import FILES as SCENARIO
from ..stack import answer
from ..stack.runtime import Opened
from ..tools import age
from . import restore, sources, walk
from .listing import Row, by_source
from .packs import FILES, listed
from .restore import ADDITIONAL, ALTERED, ATTRIBUTES, MISSING, Difference
from .sources import Directory
from .walk import Problems


@dataclass(frozen=True)
class Request(recovery_sources.Request):
    """paths: only what lies there, `uploads/2026`; empty: all. exact: what the backup does not know is moved aside."""

    paths: tuple[str, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Source:
    """One directory, and how many of its entries differ. path: empty where its volume has to be made first. bytes: of
    the files that come back. first: the first few of them. packs: the numbers of those that hold them."""

    name: str
    path: str
    volume: str
    missing: int = 0
    altered: int = 0
    attributes: int = 0
    additional: int = 0
    changed: int = 0
    bytes: int = 0
    first: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    packs: tuple[int, ...] = ()

    @property
    def there(self) -> bool:
        return bool(self.path) and Path(self.path).is_dir()

    @property
    def differs(self) -> bool:
        return bool(self.missing or self.altered or self.attributes)


@dataclass(frozen=True)
class Plan(SourcesPlan):
    """turn: see recovery/state.Turn."""

    sources: tuple[Source, ...]
    paths: tuple[str, ...]
    exact: bool
    turn: int = 0
    untested: tuple[Mapping[str, str], ...] = field(default=())


def make(run: Opened, request: Request, *, log: Log) -> Plan:
    """Raises LifeboatError where no recovery is possible, before anything is touched."""
    with recovery_state.planning(run.config) as number:
        made = _make(run, request, log)
    return replace(made, turn=number)


def _make(run: Opened, request: Request, log: Log) -> Plan:
    config = run.config
    if not config.files.sources:
        cause = "the stack has no files to recover"
        raise UsageError("plan the recovery", config.stack, cause, "Name them in lifeboat_files.sources.")
    request = _continuing(run, request)
    found = Sources(run, FILES, request.identity, request.before, accept=request.accept)
    entry, passed = found.choose(found.identity, request.before, lambda entry: _incomplete(found.repo(entry), entry))
    manifest = manifest_of(entry)
    repo, details = found.repo(entry), manifest.detailed(FilesDetails)
    directories = {each.name: each for each in sources.directories(run, there=False)}
    chosen = _chosen(request, directories, details)
    log(f"comparing {', '.join(chosen)} with {entry.id}")
    unread = Problems()
    with listed(repo, manifest, age.keys(config, run.key)) as lines:
        counted = [
            _compared(directories[name], some, unread, request, config.scratch)
            for name, some in by_source(lines)
            if name in chosen
        ]
        for _line in lines:
            pass
    _require_room(counted)
    _require_keys(counted, details, age.keys(config, run.key))
    gone = [each for each in counted if not each.there]
    differ = [each for each in counted if each.differs or (request.exact and each.additional)]
    condition = DOWN if gone else DAMAGED if differ else HEALTHY
    writers = tuple(sorted({name for each in differ for name in each.services}))
    counts = {
        "missing": sum(each.missing for each in differ),
        "altered": sum(each.altered for each in differ),
        "with other attributes": sum(each.attributes for each in differ),
        "not in the backup": sum(each.additional for each in differ) if request.exact else 0,
    }
    told = ", ".join(f"{count} {how}" for how, count in counts.items() if count)
    names = ", ".join(each.name for each in differ)
    left = recovery_state.interrupted(config, RECOVERING_FILES)
    why = f"{names}: {told}" if differ else left or f"everything that {entry.id} has is there"
    changed = sum(each.changed for each in counted)
    warnings = [*found.notes]
    if changed:
        warnings.append(
            f"{changed} files were changed after the backup and stay as they are; to have them as they were:"
            f" -e recovery_point={entry.id}"
        )
    warnings += recovery_sources.not_in(entry, directories, details.sources)
    warnings += recovery_state.warnings_of_unanswered(run.config, answer.PATIENCE) if differ else []
    now = datetime.now(timezone.utc)
    return Plan(
        needed=bool(differ or left), condition=condition, why=why,
        findings=tuple(itertools.chain.from_iterable(map(_findings, counted))),
        unchecked=tuple(f"{path}: {words}" for path, words in unread.first.items()),
        warnings=tuple(warnings), backup={**entry.as_dict(now), "details": {}, "location": found.where(entry)},
        recovery_point=found.point, state=clock.format_time(request.before) if request.before else "",
        location=found.where(entry), passed_over=tuple(passed), accepted=found.accepted, sources=tuple(counted),
        paths=request.paths, exact=request.exact, requested=request.requested, writers=writers,
        steps=tuple(_steps(entry, differ, writers, request) if differ else REOPENS if left else ()),
        target=", ".join(each.name for each in counted),
        stamp=clock.stamp(), target_seconds=config.target(SCENARIO),
    )  # fmt: skip


def _continuing(run: Opened, request: Request) -> Request:
    """What an earlier recovery began, and was killed at, is what the same command goes on with."""
    mark = recovery_state.unfinished(run.config, RECOVERING_FILES)
    if mark is None or not mark.backup or request.requested or not mark.requested:
        return request
    return replace(request, identity=mark.backup, exact=mark.exact, paths=request.paths or mark.additional)


def _incomplete(repo: Repository, entry: Entry) -> str:
    """Why a backup cannot be used: a pack that an earlier one holds is not there."""
    details = manifest_of(entry).detailed(FilesDetails)
    holders: dict[str, Entry] = {}
    for pack in details.packs:
        if pack.backup == entry.id:
            continue
        holder = holders.setdefault(pack.backup, catalog.entry(repo, FILES, pack.backup))
        held = holder.manifest.artefacts if holder.manifest else ()
        if Artefact(pack.artefact, pack.size, pack.sha256) not in held:
            return f"{pack.backup} does not hold {pack.artefact} as it was ({holder.problem or 'it has another'})"
    return ""


def _chosen(request: Request, directories: Mapping[str, Directory], details: FilesDetails) -> list[str]:
    of_paths = tuple(path.partition("/")[0] for path in request.paths)
    for name in (*request.sources, *of_paths):
        if name not in directories:
            known = ", ".join(directories)
            raise UsageError(
                "plan the recovery", named(name), f"no source is called so; there are {known}", "Correct the name."
            )
        if name not in details.sources:
            raise NotFoundError("plan the recovery", named(name), "the backup does not have it", "Choose another.")
    wanted = {*request.sources, *of_paths} or {*directories}
    return [name for name in details.sources if name in wanted and name in directories]


def within(paths: Sequence[str]) -> Callable[[str], bool]:
    """Is a path one of these, or below one of them? All are where none is named."""
    prefixes = tuple(f"{path.rstrip('/')}/" for path in paths)
    return lambda path: not prefixes or f"{path}/".startswith(prefixes)


def differences(
    directory: Directory, lines: Iterable[Row], unread: Problems, requested: bool, scratch: Path
) -> Iterator[Difference]:
    """What differs. requested: a state is, so that every file is read; else only what is missing, or has another
    status, is looked at."""
    return restore.compare(
        directory.path, directory.name, lines, unread, left_out=walk.excluder(directory.source.exclude),
        scratch=scratch, hashed=lambda _row: requested, exact=requested,
    )  # fmt: skip


def comes_back(difference: Difference, requested: bool) -> bool:
    """What was changed since the backup is somebody's work, unless the state of then is asked for."""
    return difference.what == MISSING or (requested and difference.what in (ALTERED, ATTRIBUTES))


def _compared(directory: Directory, lines: Iterable[Row], unread: Problems, request: Request, scratch: Path) -> Source:
    counts: Counter[str] = Counter()
    first: list[str] = []
    needed: set[int] = set()
    wanted = within(request.paths)
    for found in differences(directory, lines, unread, request.requested, scratch):
        if not wanted(found.path):
            continue
        if found.what != ADDITIONAL and not comes_back(found, request.requested):
            counts["changed"] += found.what == ALTERED
            continue
        counts[found.what] += 1
        if found.row is not None:
            counts["bytes"] += found.row.need
            needed.add(found.row.pack)
            first += [printable(found.path)] if len(first) < SHOWN else []
    return Source(
        directory.name, directory.path, directory.volume, counts[MISSING], counts[ALTERED], counts[ATTRIBUTES],
        counts[ADDITIONAL], counts["changed"], counts["bytes"], tuple(first), directory.services,
        directory.users, tuple(sorted(needed - {0})),
    )  # fmt: skip


def _require_room(counted: Sequence[Source]) -> None:
    needed: Counter[tuple[int, str]] = Counter()
    for each in counted:
        place = Path(each.path or "/")
        while not place.is_dir():
            place = place.parent
        needed[place.stat().st_dev, str(place)] += each.bytes
    by_disk: Counter[int] = Counter()
    for (disk, where), size in needed.items():
        by_disk[disk] += size
        free = filesystem.free(Path(where))
        if size and by_disk[disk] > free:
            words = f"{human(by_disk[disk])} come back, and {human(free)} are free"
            raise SpaceError(
                "recover the files", where, words, "Free space there, or recover a part: -e '{\"paths\": […]}'."
            )


def _require_keys(counted: Sequence[Source], details: FilesDetails, keys: age.Keys) -> None:
    """Raise where a pack that is needed cannot be opened here: the host's own key of that week is gone."""
    needed = {number for each in counted for number in each.packs}
    for pack in details.packs:
        if pack.number in needed and pack.recipients:
            keys.opening(age.Seal(pack.recipients, pack.host_key), f"{pack.backup}/{pack.artefact}")


def _findings(each: Source) -> Iterator[str]:
    if not each.there:
        yield f"{each.name}: {each.path or each.volume} is not there"
    for count, what in (
        (each.missing, "missing"), (each.altered, "another than in the backup"),
        (each.attributes, "with other attributes"), (each.additional, "that the backup does not have"),
    ):  # fmt: skip
        if count:
            yield f"{each.name}: {count} {what}"
    if each.first:
        yield f"{each.name}: {', '.join(each.first)}{', …' if each.missing + each.altered > len(each.first) else ''}"


def _steps(entry: Entry, differ: Sequence[Source], writers: Sequence[str], request: Request) -> Iterator[str]:
    yield f"stop: {', '.join(writers)}" if writers else "stop: no service, as none writes there"
    for each in differ:
        count, where = each.missing + each.altered + each.attributes, each.path or f"a new volume {each.volume}"
        yield f"restore: {each.name}: {count} entries, {human(each.bytes)}, into {where}; what they replace is kept"
        if request.exact and each.additional:
            yield f"move aside: {each.additional} entries of {each.name} that {entry.id} does not have"
    yield "verify: every entry that came back against the listing: content, mode, owner, time, attributes"
    yield from REOPENS


def text(plan: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    what = "the files" if len(plan.sources) > 1 else f"the files of {plan.target}"
    return recovery_sources.described(plan, assessed(what, plan, "are"))
