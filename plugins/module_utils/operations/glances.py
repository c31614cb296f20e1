# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What metrics ask of each backup, remembered, so that a new one is no reason to read 5,000 manifests.

A good backup in a directory of this host says what it said as long as all its files are the same: by name, size, inode
and time of change, which only the kernel sets. What is not good is read every time, and so is everything where signers
are pinned (one document may contradict another) and where the repository is in S3 (its manifests have no such times).

Where nothing is remembered, the first time or after an upgrade, a run reads a few hundred, the newest first, and the
next runs read on. Until all were read once, `Listing.whole` is false, and the figures that need all are left out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ..base import filesystem
from ..base.checks import PASS
from ..base.errors import UnverifiedError, UsageError, present
from ..base.version import VERSION
from ..repository import catalog, points
from ..repository.base import Repository
from ..repository.catalog import Entry
from ..repository.components import KINDS, watched
from ..repository.local import LocalRepository
from ..repository.manifest import component_of
from ..settings.config import Config

FILE = "glances.json"
_AT_ONCE = 250  # backups that were never read; `lifeboat metrics` may take a second, and one takes a millisecond
_SETTLED = 5.0  # seconds: a file that changed again within a tick of the clock would look the same


@dataclass(frozen=True)
class Summary:
    """passed: by level, when a verification passed."""

    face: str
    taken_at: datetime
    dated: datetime
    size: int
    passed: Mapping[str, datetime]


@dataclass(frozen=True)
class Glance:
    """One backup as metrics see it; `full()` reads the rest of one that is only remembered."""

    id: str
    component: str
    good: bool
    unknown: bool
    taken_at: Optional[datetime]
    dated: datetime
    size: Optional[int]
    passed: Mapping[str, datetime]
    repo: Repository
    entry: Optional[Entry] = None

    def full(self) -> Entry:
        """Raises UnverifiedError where it went away since it was looked at."""
        entry = self.entry or catalog.entry(self.repo, self.component, self.id)
        if entry.manifest is None:
            raise UnverifiedError("read the backup again", self.id, entry.problem)
        return entry


@dataclass(frozen=True)
class Listing:
    """By component the backups that were looked at, oldest first. unread: components that have older ones."""

    backups: Mapping[str, Sequence[Glance]]
    unread: frozenset[str] = frozenset()

    @property
    def whole(self) -> bool:
        return not self.unread


@dataclass(frozen=True)
class _Memory:
    """backups: the good ones, by id. reread: the ids of those that are read every time: bad ones, another stack's."""

    backups: Mapping[str, Summary] = field(default_factory=dict)
    reread: frozenset[str] = frozenset()

    def same(self, id: str, face: str) -> Optional[Summary]:
        """What it said, where it has not changed since."""
        kept = self.backups.get(id)
        return kept if kept and face and kept.face == face else None

    def knows(self, id: str, face: str) -> bool:
        return id in self.reread or self.same(id, face) is not None

    def after(self, glances: Iterable[Glance], looked: AbstractSet[str], faces: Mapping[str, str]) -> _Memory:
        """With what was looked at now, and without what is not there any more."""
        kept = {
            glance.id: Summary(
                faces[glance.id], present(glance.taken_at), glance.dated, present(glance.size), glance.passed
            )
            for glance in glances if glance.good and faces[glance.id]
        }  # fmt: skip
        kept.update({id: old for id, old in self.backups.items() if id in faces and id not in looked})
        others = {id for id in self.reread if id in faces and id not in looked}
        return _Memory(kept, frozenset(others | (looked - kept.keys())))


def glance_of(repo: Repository, entry: Entry) -> Glance:
    passed = {
        level: proof.finished_at for level, proof in entry.proof.items()
        if proof.verdict == PASS and proof.finished_at
    }  # fmt: skip
    size = entry.manifest.size if entry.manifest else None
    return Glance(
        entry.id, entry.component, entry.good, entry.unknown, entry.taken_at, entry.dated, size, passed, repo, entry
    )


def everything(repo: Repository, config: Config) -> Listing:
    """By component, oldest first, as points.backups() has them; of those that were never read some hundred, the newest
    of all components first."""
    stack, state = config.stack, config.state
    if not isinstance(repo, LocalRepository) or repo.trust:
        read = {**points.backups(repo, stack), **points.bases(repo, config)}.items()
        return Listing({name: [glance_of(repo, entry) for entry in entries] for name, entries in read})
    before = _recall(state, stack)
    names = [*KINDS, *(kind.name for kind in watched(config) if kind.name not in KINDS)]
    listed = {name: repo.ids(name) for name in names if name in repo.folders}
    faces = {id: _face(repo, name, id) for name, ids in listed.items() for id in ids}
    new = sorted((id for id, face in faces.items() if not before.knows(id, face)), key=lambda id: id[-15:])
    waiting = set(new[:-_AT_ONCE])
    found: dict[str, Sequence[Glance]] = {}
    looked, unread = set[str](), set[str]()
    for name, ids in listed.items():
        # What is older than one that waits waits too, so that nothing is missing between those that are told.
        first = max((number for number, id in enumerate(ids, 1) if id in waiting), default=0)
        found[name] = list(_looked(repo, name, stack, before, {id: faces[id] for id in ids[first:]}))
        looked |= set(ids[first:])
        unread |= {name} if first else set()
    _remember(state, stack, before.after([glance for some in found.values() for glance in some], looked, faces), before)
    return Listing(found, frozenset(unread))


def _looked(
    repo: Repository, component: str, stack: str, before: _Memory, faces: Mapping[str, str]
) -> Iterator[Glance]:
    for id, face in faces.items():
        kept = before.same(id, face)
        if kept:
            yield Glance(id, component, True, False, kept.taken_at, kept.dated, kept.size, kept.passed, repo)
            continue
        entry = catalog.entry_of(repo, component, id, stack)
        if entry:
            yield glance_of(repo, entry)


def newest_point(repo: Repository, stack: str) -> Optional[datetime]:
    """Of when the newest recovery point is that can be used. Ids are in the order of time."""
    backups = _OnDemand(repo)
    for id in reversed(repo.points()):
        entry = points.entry(repo, id, backups)
        if entry.good and entry.stack == stack:
            return entry.taken_at
    return None


class _OnDemand(Mapping[str, Entry]):
    """The backups that recovery points name, each read when it is asked for."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._read: dict[str, Entry] = {}

    def __getitem__(self, id: str) -> Entry:
        if id not in self._read:
            try:
                component = component_of(id)
            except UsageError as exc:
                raise KeyError(id) from exc
            self._read[id] = catalog.entry(self._repo, component, id)
        return self._read[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def _face(repo: Repository, component: str, id: str) -> str:
    """Empty where it cannot be told, or where something of it has just changed."""
    lines: list[str] = []
    try:
        newest = _facts(repo.location(component, id), lines)
    except OSError:
        return ""
    settled = newest < (time.time() - _SETTLED) * 1e9
    return filesystem.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")) if settled else ""


def _facts(directory: str, lines: list[str]) -> int:
    newest = 0
    for path, status in _below(directory):
        newest = max(newest, status.st_ctime_ns, status.st_mtime_ns)
        lines.append(f"{status.st_mode} {status.st_ino} {status.st_size} {status.st_ctime_ns} {path!r}")
    return newest


def _below(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """However deep it is. Raises OSError where a path becomes longer than the system takes."""
    rest = [directory]
    while rest:
        at = rest.pop()
        yield at, os.lstat(at)
        with os.scandir(at) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    rest.append(item.path)
                else:
                    yield item.path, item.stat(follow_symlinks=False)


def _recall(state: Path, stack: str) -> _Memory:
    """Empty where it cannot be read, or another version saw it: then everything is read. By hand and not by typed:
    of 5,000 that takes half of the time that there is."""
    try:
        memory = json.loads(filesystem.read_plain(state / FILE))
        if (memory["version"], memory["stack"]) != (VERSION, stack):
            return _Memory()
        kept = {str(id): _summary(*row) for id, row in memory["backups"].items()}
        return _Memory(kept, frozenset(map(str, memory["others"])))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return _Memory()


def _summary(face: str, taken_at: float, dated: float, size: int, passed: Mapping[str, float]) -> Summary:
    if not isinstance(face, str) or not isinstance(size, int):
        raise TypeError(face)
    return Summary(face, _time(taken_at), _time(dated), size, {level: _time(at) for level, at in passed.items()})


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _remember(state: Path, stack: str, now: _Memory, before: _Memory) -> None:
    if now == before:
        return
    rows = {
        id: [
            one.face, one.taken_at.timestamp(), one.dated.timestamp(), one.size,
            {level: at.timestamp() for level, at in one.passed.items()},
        ]
        for id, one in now.backups.items()
    }  # fmt: skip
    path = state / FILE
    with filesystem.explained("remember what was seen of the backups", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        body = {"version": VERSION, "stack": stack, "backups": rows, "others": sorted(now.reread)}
        filesystem.write(path, json.dumps(body).encode() + b"\n", path.with_name(f".{path.name}.{os.getpid()}"))
