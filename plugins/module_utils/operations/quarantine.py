# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What recoveries moved aside and is still there: its age and size, and its removal, which nothing does by itself."""

from __future__ import annotations

import contextlib
import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Callable, Union

from ..base import filesystem
from ..base import text as base_text
from ..base.checks import COULD_NOT_VERIFY, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, NotFoundError, UsageError, prints
from ..base.filesystem import explained
from ..base.text import human, named
from ..database import server as database_server
from ..database.server import answers
from ..files import sources as files_sources
from ..mirror import store
from ..objects import quarantine
from ..recovery.state import RECOVERING_OBJECTS
from ..repository import show
from ..repository.components import DATABASE, configured
from ..s3 import bucket
from ..settings.config import Config
from ..stack import buckets
from ..stack import quarantine as stack_quarantine
from ..stack.quarantine import since
from ..stack.runtime import Opened, database_mount, objects_mount

REMOVE = "remove from quarantine"


@dataclass(frozen=True)
class Item:
    """One thing in quarantine. at: when it was moved there. size: in bytes, as its server or file system counts."""

    kind: str
    name: str
    at: datetime
    size: int

    def command(self, stack: str) -> str:
        """What removes it for good."""
        return shlex.join(["lifeboat", "quarantine", "remove", self.kind, self.name, "--yes", "--stack", stack])

    def age_and_size(self, now: datetime) -> tuple[str, str]:
        """Its age and its size."""
        return show.age(max(0, int((now - self.at).total_seconds()))), human(self.size)


@dataclass(frozen=True)
class Alike:
    """A database whose name is of the form that runs of Lifeboat give, and that none on record made."""

    name: str
    size: int

    def __str__(self) -> str:
        return named(
            f"the database {self.name} ({human(self.size)}) looks like put aside by an earlier version: no record names"
            " it. It is in each backup. To leave it out: lifeboat_database.exclude; to remove it: DROP DATABASE"
        )


@dataclass(frozen=True)
class Contents:
    """Everything in quarantine at a time. unseen: the kinds that could not be looked at, and why. alike: what may have
    been put aside, without a record of it: it is backed up, and removed by nothing."""

    stack: str
    at: datetime
    items: tuple[Item, ...]
    unseen: tuple[Check, ...]
    alike: tuple[Alike, ...] = ()

    def as_dict(self) -> dict[str, object]:
        found = [
            {
                "kind": item.kind,
                "name": item.name,
                "quarantined_at": format_time(item.at),
                "age_seconds": max(0, int((self.at - item.at).total_seconds())),
                "size": item.size,
                "remove": item.command(self.stack),
            }
            for item in self.items
        ]
        alike = [{"name": item.name, "size": item.size} for item in self.alike]
        return {"kept": found, "unseen": [check.as_dict() for check in self.unseen], "alike": alike}

    def lines(self) -> list[str]:
        rows = [("QUARANTINE", "KIND", "AGE", "SIZE", "REMOVE IT FOR GOOD")]
        for item in self.items:
            name, command = (
                text if all(map(prints, text)) else ascii(text) for text in (item.name, item.command(self.stack))
            )
            rows.append((name, item.kind, *item.age_and_size(self.at), command))
        shown = show.aligned(rows) if self.items else [] if self.unseen else ["nothing is in quarantine"]
        return [*shown, *map(str, self.alike), *base_text.checks(self.unseen)]


@dataclass(frozen=True)
class _Kind:
    """where: does a stack have such? entries: each that is there. remove: one of them, for good."""

    where: Callable[[Config], bool]
    entries: Callable[[Opened], Iterator[Union[Item, Alike]]]
    remove: Callable[[Opened, str], None]


@dataclass(frozen=True)
class _Sized:
    name: str
    size: int


def survey(run: Opened, *, now: datetime) -> Contents:
    """Asks the database server, the engine, the file system and the object store; changes nothing."""
    kept: list[Item] = []
    alike: list[Alike] = []
    unseen: list[Check] = []
    for name, kind in KINDS.items():
        if not kind.where(run.config):
            continue
        try:
            for found in kind.entries(run):  # also what was seen before it failed
                kept.append(found) if isinstance(found, Item) else alike.append(found)
        except LifeboatError as exc:
            unseen.append(Check(f"{name} in quarantine", COULD_NOT_VERIFY, str(exc)))
    order = list(KINDS)
    kept.sort(key=lambda item: (order.index(item.kind), item.at, item.name))
    return Contents(run.config.stack, now, tuple(kept), tuple(unseen), tuple(alike))


def remove(run: Opened, kind: str, name: str, *, sure: bool, now: datetime, log: Log) -> Item:
    """Remove one thing for good, if it is in quarantine now. Not sure: say what would go, and refuse."""
    subject = f"{kind} {name}"
    there = (item for item in KINDS[kind].entries(run) if isinstance(item, Item))
    found = next((item for item in there if item.name == name), None)
    if found is None:
        raise NotFoundError(
            REMOVE, subject, "nothing of that kind and name is there", "`lifeboat quarantine` lists what is."
        )
    age, size = found.age_and_size(now)
    if not sure:
        cause = f"it was not confirmed; {size}, {age} old, would be gone for good"
        raise UsageError(
            REMOVE, subject, cause, f"Nothing was removed. To remove it: {found.command(run.config.stack)}"
        )
    KINDS[kind].remove(run, name)
    log(f"removed {subject} from quarantine: {size}, {age} old")
    return found


def _databases(run: Opened) -> Iterator[Union[Item, Alike]]:
    sql = "SELECT jsonb_build_object('name', datname, 'size', coalesce(pg_database_size(oid), 0)) FROM pg_database;"
    server = database_server.of(run)
    rows, ours = server.execute(sql, attempted="list the databases in quarantine", timeout=60), server.made.names()
    known = {run.config.database.name, *run.config.database.exclude}
    for found in answers(_Sized, rows):
        at = since(found.name) if found.name in ours else None
        if at and found.name != run.config.database.name:
            yield Item("database", found.name, at, found.size)
        elif database_server.alike(found.name) and found.name not in {*known, *ours}:
            yield Alike(found.name, found.size)


def _drop(run: Opened, name: str) -> None:
    """Not by force: a session in it is somebody who still needs it."""
    database_server.drop(database_server.of(run), name)


def _volumes(run: Opened) -> Iterator[Item]:
    for name, place in stack_quarantine.volumes(run.config.stack).items():
        at = since(name)
        if at:
            yield Item("volume", name, at, stack_quarantine.size(place))


def _directories(run: Opened) -> Iterator[Item]:
    """The project's files that a recovery replaced, what one copied out of an object store and could not put back, what
    lies next to the directories that one moves, and what it replaced of the application's files."""
    state = run.config.state
    for path in itertools.chain(stack_quarantine.files(state), _copied(state), _beside(run), _replaced(run)):
        at = since(str(path))
        if at:
            yield Item("directory", str(path), at, stack_quarantine.size(path))


def _copied(state: Path) -> list[Path]:
    """Without what the recovery that is to be run again takes up."""
    ahead = (state / RECOVERING_OBJECTS).exists()
    found = stack_quarantine.copies(state, whole=True)
    return [path for path in found if not ahead or (path / stack_quarantine.SETTLED).exists()]


def _beside(run: Opened) -> Iterator[Path]:
    config = run.config
    if config.frontend.fallback.directory:
        yield from stack_quarantine.directories(Path(config.frontend.fallback.directory))
    for asked, mounted in ((_has_database, database_mount), (_has_bucket, objects_mount)):
        with contextlib.suppress(NotFoundError):  # no directory, so nothing next to it
            mount = mounted(config, run.runtime) if asked(config) else None
            if mount and mount.kind == "bind":
                yield from stack_quarantine.directories(mount.path)
    for source in config.dumps.sources:
        with contextlib.suppress(NotFoundError):
            mount = run.runtime.data_mount(source.service, source.data_path)
            if mount.kind == "bind":
                yield from stack_quarantine.directories(mount.path)


def _replaced(run: Opened) -> Iterator[Path]:
    for directory in files_sources.directories(run, there=False):
        if directory.path:
            yield from stack_quarantine.replaced(Path(directory.path))


def _remove_directory(_run: Opened, name: str) -> None:
    with explained(REMOVE, name):
        filesystem.remove(Path(name))


def _buckets(run: Opened) -> Iterator[Item]:
    others = store.read_store(run).protected if run.config.objects.buckets else ()
    for found in quarantine.quarantined(buckets.source(run), others):
        at = since(found.name)
        if at:
            yield Item("bucket", found.name, at, sum(listed.size for listed in bucket.objects(found)))


def _remove_bucket(run: Opened, name: str) -> None:
    quarantine.remove(replace(buckets.source(run), name=name))


def _has_database(config: Config) -> bool:
    return any(kind.name == DATABASE for kind in configured(config))


def _has_bucket(config: Config) -> bool:
    return bool(config.objects.bucket)


KINDS: Mapping[str, _Kind] = {
    "database": _Kind(_has_database, _databases, _drop),
    "volume": _Kind(
        lambda config: config.runtime.type == "compose", _volumes, lambda run, name: stack_quarantine.remove(name)
    ),
    "directory": _Kind(lambda config: True, _directories, _remove_directory),
    "bucket": _Kind(_has_bucket, _buckets, _remove_bucket),
}
