# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does the stack's bucket answer, and are its files still below it? No object is read, so that no backup is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..base.errors import LifeboatError, UsageError
from ..base.text import human
from ..recovery.state import DAMAGED, DOWN, HEALTHY, RECOVERING_OBJECTS
from ..s3 import error_registry
from ..s3 import settings as s3_settings
from ..settings.config import Config
from ..stack import buckets, runtime
from ..stack.runtime import Opened, Runtime


@dataclass(frozen=True)
class Assessment:
    """condition: healthy, damaged (the endpoint answers, the bucket is wrong) or down (no endpoint). findings: why.

    emptied: its files are gone although it runs: whatever is written to it now may be lost with the next start.
    unreadable: objects could not be read that are listed as they should be. ruined: so many that its disk is to blame.
    held_by: the newest backup that has objects which rows name and the newest backup of all lacks.
    rows_without: rows whose object neither the bucket nor that backup has; lacking: these in words, which are a finding
    where an older backup has the objects, and unchecked where none has.
    additional: the store's other buckets that a backup holds and that are not what it says.
    refused: why the server does not let us look, which says nothing against its data; remedy: what to do about that.
    """

    condition: str
    findings: tuple[str, ...] = ()
    service: str = ""
    unchecked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str = ""
    remedy: str = ""
    held_by: str = ""
    rows_without: int = 0
    lacking: tuple[str, ...] = ()
    emptied: bool = False
    unreadable: bool = False
    ruined: bool = False
    additional: tuple[str, ...] = ()


def answers(run: Opened) -> Assessment:
    """The bucket from outside: healthy where it is there and answers, whatever it holds."""
    stack, service = run.runtime, run.config.objects.service
    state = stack.state(service) if service else None
    words = state.describe() if state else "not ours to start and stop"
    if state and not state.running:
        if told := ended(run):
            why = f"{service} is {words}: {told.cause}"
            return Assessment(DOWN, (why,), words, refused=told.cause, remedy=told.remedy)
        said = runtime.last_words(stack.logs(service))
        return Assessment(DOWN, (f"{service} is {words}", *([f"it last said: {said}"] if said else [])), words)
    try:
        source = buckets.source(run)
        there = s3_settings.exists(source)
    except LifeboatError as exc:
        if fresh(run, exc):
            why = "the store is a fresh one: it knows neither the stack's own key nor its bucket"
            return Assessment(DAMAGED, (why,), words)
        cause = error_registry.cause_of(exc)
        # Keys are in the data directory too: a server whose files are gone under it refuses one that is right.
        emptied = _emptied(run.config, stack, state.id) if state and cause and cause.rebuild else ""
        if emptied:
            return Assessment(DAMAGED, (emptied,), words, emptied=True)
        if isinstance(exc, UsageError) or cause:
            return refused(exc, words)
        return Assessment(DOWN, (f"{service or 'the endpoint'} is {words} and does not answer: {exc.cause}",), words)
    emptied = _emptied(run.config, stack, state.id) if state else ""
    if emptied or not there:
        findings = [emptied] if emptied else []
        findings += [] if there else [f"the bucket {source.name} is missing"]
        return Assessment(DAMAGED, tuple(findings), words, emptied=bool(emptied))
    return Assessment(HEALTHY, (), words)


def fresh(run: Opened, error: LifeboatError) -> bool:
    """Whether a store that refuses the stack's own key is a new, empty one, by a key that such a store knows.

    Then that key is used from now on. One that a recovery began to fill has the bucket already.
    """
    cause = error_registry.cause_of(error)
    if cause is None or cause.name != error_registry.CREDENTIALS:
        return False
    try:
        key = buckets.for_fresh(run)
        if key is None:
            return False
        buckets.use(run, key)
        filling = (run.config.state / RECOVERING_OBJECTS).exists()
        if filling or not s3_settings.exists(buckets.source(run)):
            return True
    except LifeboatError:
        pass
    buckets.use(run, None)
    return False


def refused(error: LifeboatError, service: str) -> Assessment:
    """A server that lives and refuses us: nothing is known of its data, and nothing is said against it."""
    cause = error_registry.cause_of(error)
    remedy = error.remedy if cause is None or not cause.rebuild else ""
    return Assessment(
        DOWN, (f"the endpoint does not let us in: {error.cause}",), service, refused=error.cause, remedy=remedy
    )


def ended(run: Opened) -> Optional[LifeboatError]:
    """Why a server that does not run ended, where its own log tells a cause that is not its data."""
    service = run.config.objects.service
    found = error_registry.logged(run.runtime.logs(service))
    if not found:
        return None
    cause, line = found
    said = f"{cause.description}; it last said of it: {line[:300]}"
    return UsageError("start the object store", service, said, f"{cause.remedy} Then start {service}.")


def _emptied(config: Config, stack: Runtime, container: str) -> str:
    """A running server may serve files that were deleted under it, until it is restarted."""
    try:
        path = runtime.objects_mount(config, stack).path
    except LifeboatError:
        return ""
    if path == Path() or not path.is_dir():
        return f"the data directory of {config.objects.service} is gone" if path != Path() else ""
    sizes = [_size(os.path.join(folder, name)) for folder, _folders, files in os.walk(path) for name in files]
    if not sizes:
        return f"the data directory of {config.objects.service} is empty ({path})"
    gone = _deleted_bytes(
        config.objects.data_directory or runtime.OBJECTS_DIRECTORY, container or config.objects.service
    )
    if gone <= max(sum(sizes), 1 << 20):  # a server that tidies up holds on to a file that it deleted, for a moment
        return ""
    return (
        f"the data directory of {config.objects.service} is emptied: {human(sum(sizes))} are left, {human(gone)} were"
        f" deleted and are there only until the service ends ({path})"
    )


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _deleted_bytes(inside: str, owner: str) -> int:
    """Bytes of files below `inside` that the container (or unit) `owner` holds open and nobody can reach any more."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if owner.encode() not in (process / "cgroup").read_bytes():  # the names in it may be any bytes
                continue
            for path in (process / "fd").iterdir():
                if os.readlink(path).startswith(f"{inside}/"):  # noqa: PTH115 - Path.readlink() tidies the path up
                    info = path.stat()
                    if not info.st_nlink:
                        found[info.st_dev, info.st_ino] = info.st_size
        except OSError:  # it ended meanwhile
            continue
    return sum(found.values())
