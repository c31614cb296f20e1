# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the files of a config backup where they were, on a new machine. What is in the way is moved aside, not replaced.

The backup is not trusted: configuration/allowed says what of it is placed, configuration/services what may be started.
What starts things by the clock or with the machine (cron files, systemd units) is put there apart, at the end: a job
that runs on a site that is half recovered writes into it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from ..base import filesystem, pipeline
from ..base.errors import LifeboatError, Log, UnverifiedError, UsageError, printable
from ..base.filesystem import explained
from ..base.pipeline import Command
from ..configuration import allowed as configuration_allowed
from ..configuration import parts as configuration_parts
from ..configuration import restore as configuration_restore
from ..configuration import services as configuration_services
from ..configuration.allowed import Allowed, LeftOut
from ..configuration.parts import SITE
from ..configuration.restore import Extracted
from ..configuration.services import Service
from ..recovery import state as recovery_state
from ..recovery.state import RECOVERING_CONFIG, Unfinished
from ..repository.base import Repository
from ..repository.checksums import measure
from ..settings.config import Config
from ..stack.compose import ComposeRuntime
from ..tools import age, timers
from ..tools.tar import DIRECTORY, FILE, LINK, Entry

FILES, SCHEDULES = "files", "schedules"
SAME = "there already"
MEMORY = Path("/run")  # not a disk: a plan unpacks secrets there
UNITS = "/etc/systemd/"
_BY_THE_CLOCK = ("/etc/cron", "/var/spool/cron", UNITS)
# Lifeboat's own come from the inventory, by the role agent.
_OURS = ("/etc/lifeboat/", "/etc/cron.d/lifeboat-", "/usr/local/bin/lifeboat", "/var/lib/lifeboat/")
_ATTEMPTED = "deploy the configuration"
_LATER = "They are read after it is placed, before any of them is started"


@dataclass
class Placed:
    """written: paths that were put there. same: how many were right already. aside: path -> where the old one is.

    left: what of the backup was not put there, of files and schedules. services: what will be started of the project.
    """

    written: list[str] = field(default_factory=list)
    same: int = 0
    aside: dict[str, str] = field(default_factory=dict)
    left: list[LeftOut] = field(default_factory=list)
    services: tuple[Service, ...] = ()


@dataclass(frozen=True)
class File:
    """A file that a recovery would put in its place. what: new, there already, or in place of another. when: which."""

    path: str
    what: str
    when: str


@dataclass(frozen=True)
class Planned:
    """files, left: what would be placed, and what not. services: what would be started. unknown: why not known."""

    files: tuple[File, ...] = ()
    left: tuple[LeftOut, ...] = ()
    services: tuple[Service, ...] = ()
    unknown: str = ""


def plan(config: Config, store: Repository, identity: str, *, key: str, allow: Sequence[str], log: Log) -> Planned:
    """What placing the backup would do and what would be started of it, as far as that can be seen. Changes nothing."""
    listed = _foreign(config, configuration_restore.listing(store, identity, age.keys(config, key)))
    allowed = configuration_allowed.allowed_paths(config, allow)
    fit, left = allowed.sift(listed)
    files = tuple(
        File(printable(path), _what(entry, Path(path)), SCHEDULES if path.startswith(_BY_THE_CLOCK) else FILES)
        for path, entry in fit.items()
        if not (entry.type == DIRECTORY and filesystem.is_directory(Path(path)))
        and not (allowed.on_the_way(path, entry) and os.path.lexists(path))
    )
    made = Planned(files, left)
    if config.runtime.type != "compose":
        return made
    if sum(entry.size for entry in listed.values()) > configuration_restore.SECRETS_LIMIT:  # memory is short
        return replace(made, unknown=f"the backup is too large to be unpacked for a plan. {_LATER}")
    if not configuration_services.readable():
        return replace(made, unknown=f"Compose is not on this machine (apt-get install docker-compose). {_LATER}")
    try:
        memory = MEMORY if MEMORY.is_dir() else None
        with _unpacked(config, store, identity, key, log, memory) as found:
            return replace(made, services=_of_backup(config, found, allow))
    except LifeboatError as exc:
        return replace(made, unknown=f"{exc.cause}. {_LATER}")


def place_files(
    config: Config, store: Repository, identity: str, *, key: str, which: str, stamp: str, check: bool, log: Log,
    allow: Sequence[str] = (),
) -> Placed:  # fmt: skip
    """Put the files (or the schedules) of the backup in their places, with their owners and modes.

    check: only say what would be done. allow: what an operator lets through by name: paths, and what a service may do.
    Raises UsageError where secret files are in no backup and not here either, the key is another's, or a service would
    reach out of its container; IntegrityError where anything is not as it was written.
    """
    placed = Placed()
    allowed, judged = (
        configuration_allowed.allowed_paths(config, allow),
        which == FILES and config.runtime.type == "compose",
    )
    mark = Unfinished(identity, additional=(which,), stamp=stamp)
    with explained("unpack the config backup", config.state):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not check:
            recovery_state.mark(config, RECOVERING_CONFIG, mark)
    with _unpacked(config, store, identity, key, log, config.state) as found:
        if judged:
            with contextlib.suppress(UnverifiedError):  # what Compose can read only in its place is judged there
                configuration_services.refuse(_of_backup(config, found, allow))
        _require_secrets(identity, [path for path in found.missing if allowed.covers(path)])
        fit, left = allowed.sift(_foreign(config, found.entries))
        placed.left += left
        for path, entry in fit.items():
            if path.startswith(_BY_THE_CLOCK) is (which == SCHEDULES) and os.path.lexists(found.root / path[1:]):
                _guarded(config, allowed, entry, found.root / path[1:], placed, stamp, check)
    if placed.written and which == SCHEDULES and not check and any(name.startswith(UNITS) for name in placed.written):
        pipeline.run([Command(["systemctl", "daemon-reload"])], attempted="read the units", subject="systemd")
    if judged and not check:
        placed.services = configuration_services.read(config, allowed, allow)
        configuration_services.refuse(placed.services)
        ComposeRuntime(config).note_judged()
    if not check:
        recovery_state.complete(config, RECOVERING_CONFIG, mark)
    told = [f"left out: {one.description}" for one in placed.left]
    for line in [*told, *(f"{path} was in the way and is kept as {old}" for path, old in placed.aside.items())]:
        log(line)
    log(f"{identity}: {len(placed.written)} files put in place, {placed.same} were there already")
    return placed


def _require_secrets(identity: str, missing: Sequence[str]) -> None:
    lacking = [path for path in missing if not os.path.lexists(path)]
    if lacking:
        raise UsageError(
            _ATTEMPTED, identity, f"it does not hold {', '.join(lacking[:5])}, and neither does this machine",
            "Put them there by hand (mode 0600), then run the same command again. With lifeboat_config.recipients"
            " set, the next backup has them.",
        )  # fmt: skip


def _foreign(config: Config, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Those that the recovery takes from the backup at all, of the archives that it unpacks."""
    archives = ("", configuration_restore.PLAIN, configuration_restore.SECRETS, configuration_parts.NAMES[SITE])
    return {
        path: entry
        for path, entry in entries.items()
        if entry.archive in archives and (not _is_ours(path) or path == str(config.identities))
    }


def _is_ours(path: str) -> bool:
    return f"{path}/".startswith(_OURS) or timers.is_ours(path)


def _of_backup(config: Config, extracted: Extracted, allow: Sequence[str]) -> tuple[Service, ...]:
    """What would be started, read from the unpacked backup."""
    project = str(extracted.where(config.runtime.project_directory))
    allowed = configuration_allowed.allowed_paths(config, allow)
    return configuration_services.read(config, allowed, allow, directory=project, root=str(extracted.root))


def _what(entry: Entry, path: Path) -> str:
    """Of secret files the open listing has no hash: whether they differ is seen when they are placed."""
    if not os.path.lexists(path):
        return f"new, {entry.mode:04o}" if entry.type == FILE else f"new {entry.type}"
    if entry.secret:
        return "replaces what is here, if it differs"
    return SAME if _same(entry, path) else "replaces what is here, which is put aside"


@contextlib.contextmanager
def _unpacked(
    config: Config, store: Repository, identity: str, key: str, log: Log, where: Optional[Path]
) -> Iterator[Extracted]:
    """The backup's files below a directory of root's alone, which is gone afterwards."""
    with contextlib.ExitStack() as stack:
        with explained("unpack the config backup", where):
            folder = stack.enter_context(filesystem.scratch(".deploying-", where))
        yield configuration_restore.extract(store, identity, folder / "root", keys=age.keys(config, key), log=log)


def _guarded(
    config: Config, allowed: Allowed, entry: Entry, new: Path, placed: Placed, stamp: str, check: bool
) -> None:
    """One file, unless a link on this machine would lead it elsewhere than where it is named."""
    if allowed.on_the_way(entry.path, entry) and os.path.lexists(entry.path):
        return
    out = allowed.way_out(entry.path)
    if out:
        placed.left.append(LeftOut(printable(entry.path), out))
        return
    with explained(_ATTEMPTED, entry.path):
        _place_entry(config, entry, new, Path(entry.path), placed, stamp, check)


def _place_entry(config: Config, entry: Entry, new: Path, path: Path, placed: Placed, stamp: str, check: bool) -> None:
    if entry.type == DIRECTORY and filesystem.is_directory(path):
        return  # a directory that is there is its machine's own: /etc, /srv
    if _same(entry, path):
        placed.same += entry.type != DIRECTORY
        return
    placed.written.append(str(path))
    if check:
        return
    if os.path.lexists(path):
        placed.aside[str(path)] = str(_aside(config, path, stamp))
    _make_parents(path)
    for left in path.parent.iterdir():  # of a run that was killed
        if re.fullmatch(rf"\.{re.escape(path.name)}\.lifeboat-[0-9]{{8}}_[0-9]{{6}}", left.name):
            filesystem.remove(left)
    partial = path.with_name(f".{path.name}.lifeboat-{stamp}")
    filesystem.remove(partial)
    if entry.type == DIRECTORY:
        partial.mkdir(mode=0o700)
        _set_owner(partial, entry)
    elif entry.type == LINK:
        partial.symlink_to(entry.target)
        os.chown(partial, entry.uid, entry.gid, follow_symlinks=False)
    else:
        with new.open("rb") as source, filesystem.create(partial) as sink:
            shutil.copyfileobj(source, sink, filesystem.CHUNK)
            sink.flush()
            os.fsync(sink.fileno())
        _set_owner(partial, entry)
    partial.replace(path)
    filesystem.sync(path.parent)


def _make_parents(path: Path) -> None:
    """Those that the backup does not list, as a system has them: our own umask would close them to the stack."""
    for parent in reversed(path.parents):
        if not parent.exists():
            partial = parent.with_name(f".{parent.name}.lifeboat")
            filesystem.remove(partial)
            partial.mkdir()
            partial.chmod(0o755)
            partial.replace(parent)


def _set_owner(path: Path, entry: Entry) -> None:
    os.chown(path, entry.uid, entry.gid)
    path.chmod(entry.mode)
    os.utime(path, (entry.mtime, entry.mtime))


def _same(entry: Entry, path: Path) -> bool:
    """Whether what lies there is what the listing says: content, owner, mode."""
    if not os.path.lexists(path):
        return False
    status = path.lstat()
    if entry.type == LINK:
        return filesystem.link(path) == entry.target
    if path.is_symlink() or not path.is_file() or status.st_size != entry.size:
        return False
    if (status.st_mode & 0o7777, status.st_uid, status.st_gid) != (entry.mode, entry.uid, entry.gid):
        return False
    return measure(path, path.name).sha256 == entry.sha256


def _aside(config: Config, path: Path, stamp: str) -> Path:
    """Out of the way and kept, readable by root alone: it may hold secrets."""
    kept = config.state / "quarantine" / stamp / str(path).lstrip("/")
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.move(str(path), str(kept))
    return kept
