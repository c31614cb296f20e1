# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What state a component was found in, what a host remembers of its last recovery, and what every plan says of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, TypeVar

from ..base import filesystem, typed
from ..base.errors import LifeboatError
from ..base.filesystem import explained
from ..settings.config import Config

T = TypeVar("T")
RECOVERING = "recovering"
# While it exists the bucket may be half filled: a mirror of it must never become the newest good backup.
RECOVERING_OBJECTS = "recovering_objects"
# While it exists the stack's files may be half placed: they must never become the newest good backup.
RECOVERING_CONFIG = "recovering_config"
# The store is being given its identities: it may have some of them, and has lost the others.
GIVING_IDENTITIES = "giving_identities"
HEALTHY = "healthy"
DAMAGED = "damaged"
DOWN = "down"
STOPPED = "stopped.json"
RECOVERED = "recovered.json"
RECOVERED_OBJECTS = "recovered_objects"  # how the names of those begin that are of a bucket
DIFFERS = "differs: "  # how a phase's note begins that names what no restore brings back as it was


@dataclass(frozen=True)
class Last:
    """The last recovery of a component that this host completed. asked: the backup or time, empty where none was.

    databases: those that it brought back; empty where it does not say, and it was the application's.
    """

    id: str
    at: str
    asked: str = ""
    prefix: str = ""  # of the keys that were recovered, empty: all of them
    databases: tuple[str, ...] = ()


def stopped(config: Config) -> list[str]:
    """Writers that a recovery stopped and that no reopening has started since: it was killed in between."""
    try:
        writers = typed.load(
            _kept(config, STOPPED) or b"[]", lambda _at, why: LifeboatError("read the writers", STOPPED, why)
        )
    except LifeboatError:
        return []
    return [str(writer) for writer in writers] if isinstance(writers, list) else []


def recovered(config: Config, name: str = RECOVERED) -> Optional[Last]:
    """None where there was none."""
    return remembered(config, name, Last)


def remembered(config: Config, name: str, kind: type[T]) -> Optional[T]:
    """What this host remembers under that name; None where that is nothing, or nothing that can be read."""
    return typed.maybe(kind, _kept(config, name))


def _kept(config: Config, name: str) -> Optional[bytes]:
    try:
        return filesystem.read_plain(config.state / name)
    except OSError:  # also a directory, a link or a pipe of that name: no recovery of ours wrote it
        return None


def keep(config: Config, name: str, text: str) -> None:
    """Remember `text` on this host under that name; whole or not at all."""
    with explained("remember the recovery", config.state / name):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = config.state / f"{name}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(config.state / name)


def mark(config: Config, name: str) -> None:
    """From now until the data is back the store may be an empty one: a backup of it must not become the newest good."""
    with explained("mark the stack as being recovered", config.state / name):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (config.state / name).touch(mode=0o600)


def unmark(config: Config, name: str) -> None:
    (config.state / name).unlink(missing_ok=True)


def needed(what: str, condition: str, asked: str, force: bool, last: Optional[Last]) -> tuple[bool, str]:
    """Idempotent by identity: healthy, and nothing else asked for than what is there already, needs nothing."""
    if condition != HEALTHY:
        return True, f"the {what} is {condition}"
    if force:
        return True, "force was given"
    if not asked:
        return False, f"the {what} is healthy and no recovery point was asked for"
    if last and asked in (last.id, last.asked):
        return False, f"the {what} is healthy and was recovered to {last.id} at {last.at}"
    return True, f"{asked} was asked for"


def steps(
    mode: str, service: str, writers: Sequence[str], then: Sequence[str], *, living: Sequence[str] = (), fresh: str = ""
) -> list[str]:
    """What will be done, in the words of the runbook, one line a step.

    then: from the restore on. living: what is done first to a server that lives; fresh: also to a fresh one.
    """
    reopen = [
        "reopen: start the application, wait for its health, ask its endpoints",
        "record: evidence with the time of each phase",
    ]
    if mode == "reopen":
        return reopen
    rebuild = [
        f"quarantine the data directory of {service} (moved aside, nothing is deleted)",
        f"start a fresh, empty {service}{fresh}",
    ]
    start = f"start {service} and look again; if it comes up whole and nothing else was asked for, nothing is restored"
    first = {"start": [start, *(f"otherwise {step}" for step in rebuild)], "rebuild": rebuild}.get(mode, living)
    stop = f"stop the writers ({', '.join(writers) or 'none known'})"
    return [*(f"protect: {step}" for step in (stop, *first)), *then, *reopen]
