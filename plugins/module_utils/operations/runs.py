# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the last runs of scheduled work ended, remembered for the metrics of a stack that is monitored.

The log tells it too, but it may have 32 MiB, and metrics are made every minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ..base import filesystem, pipeline, typed
from ..base.errors import LifeboatError
from ..repository.components import taken
from ..repository.details import Count
from ..settings.config import Config
from .schedule import WORK

_FOLDER = "runs"
_EVERY = 15.0  # seconds after which a run says again how many bytes are done


@dataclass(frozen=True)
class Ended:
    """How the last run ended. succeeded_at: when one last ended with 0; None: none did since this is recorded.
    failures: how many did not end with 0, since then."""

    ended_at: datetime
    seconds: float
    exit_code: int
    succeeded_at: Optional[datetime] = None
    failures: int = 0


def name(verb: str, component: str = "") -> str:
    """What a run is called: backup_database. Never anything that is not in the registries."""
    return f"{verb}_{component}" if component else verb


def names() -> Iterator[str]:
    for verb in WORK:
        yield verb
        yield from (name(verb, component) for component in taken() if verb == "backup")


@dataclass(frozen=True)
class Begun:
    """A run that has not ended. process, since: which process it is; another one may get its number later.
    done: how many bytes it has read or written so far."""

    at: datetime
    process: int
    since: str
    done: Count = 0


def begin(config: Config, run: str, at: datetime, done: int = 0) -> None:
    """Note that this process begins a run: where it is killed, the note stays. done: bytes, where it goes on."""
    path = _note(config, run, os.getpid())
    with filesystem.explained("note that the run begins", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = json.dumps(typed.plain(Begun(at, os.getpid(), pipeline.started(os.getpid()), done))).encode() + b"\n"
        filesystem.write(path, data, path.with_name(f".{path.name}"))


@contextlib.contextmanager
def noted(config: Config, run: str, at: datetime) -> Iterator[None]:
    """Meanwhile the note says again and again how many bytes are done. What fails of that is left out."""
    ended, before = threading.Event(), pipeline.moved()

    def follow() -> None:
        most = 0
        while not ended.wait(_EVERY):
            with contextlib.suppress(LifeboatError):
                most = max(most, pipeline.done() - before)  # what was written elsewhere is fetched after that
                begin(config, run, at, most)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def end(config: Config, run: str, *, tried: bool) -> None:
    """Remove this process's note. tried: it did what it should, so that one that was killed before is made up for."""
    with filesystem.explained("note that the run ended", config.state / _FOLDER):
        _note(config, run, os.getpid()).unlink(missing_ok=True)
        for path, found in _begun(config, run) if tried else ():
            if not (found and _alive(found)):
                path.unlink(missing_ok=True)


def unfinished(config: Config, run: str) -> tuple[Optional[datetime], Optional[datetime]]:
    """When the run began that goes on now, and that which was killed; None where there is none."""
    with filesystem.explained("read how the runs began", config.state / _FOLDER):
        going, killed = list[datetime](), list[datetime]()
        for path, found in _begun(config, run):
            at = found.at if found else datetime.fromtimestamp(path.lstat().st_mtime, timezone.utc)
            (going if found and _alive(found) else killed).append(at)
    return min(going, default=None), max(killed, default=None)


def going(config: Config) -> Mapping[str, Begun]:
    """The runs that go on now, by name; of each kind the first."""
    with filesystem.explained("read how the runs began", config.state / _FOLDER):
        found = {run: [one for _path, one in _begun(config, run) if one and _alive(one)] for run in names()}
    return {run: min(some, key=lambda begun: begun.at) for run, some in found.items() if some}


def _begun(config: Config, run: str) -> Iterator[tuple[Path, Optional[Begun]]]:
    for path in sorted((config.state / _FOLDER).glob(f"{run}.*.begun")):
        try:
            yield path, typed.maybe(Begun, filesystem.read_plain(path))
        except FileNotFoundError:
            continue  # it ended meanwhile
        except OSError:
            yield path, None


def _alive(begun: Begun) -> bool:
    return bool(begun.since) and pipeline.started(begun.process) == begun.since


def _note(config: Config, run: str, process: int) -> Path:
    return config.state / _FOLDER / f"{run}.{process}.begun"


def remember(config: Config, run: str, exit_code: int, began: datetime, ended: datetime) -> None:
    try:
        before = read(config, run)
    except OSError:  # a link, a pipe, a directory: what it was is not known, and that ends no backup
        before = None
    succeeded = ended if exit_code == 0 else before.succeeded_at if before else None
    failures = (before.failures if before else 0) + (exit_code != 0)
    seconds = max(0.0, (ended - began).total_seconds())
    data = json.dumps(typed.plain(Ended(ended, seconds, exit_code, succeeded, failures))).encode() + b"\n"
    path = _path(config, run)
    with filesystem.explained("remember how the run ended", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        filesystem.write(path, data, path.with_name(f".{path.name}.{os.getpid()}"))


def read(config: Config, run: str) -> Optional[Ended]:
    """None where there was none, or what is there cannot be read as one."""
    try:
        return typed.maybe(Ended, filesystem.read_plain(_path(config, run)))
    except FileNotFoundError:
        return None


def everything(config: Config) -> Mapping[str, Ended]:
    """By name. Raises LifeboatError where a record cannot be read."""
    with filesystem.explained("read how the runs ended", config.state / _FOLDER):
        return {run: ended for run in names() if (ended := read(config, run))}


def _path(config: Config, run: str) -> Path:
    return config.state / _FOLDER / f"{run}.json"
