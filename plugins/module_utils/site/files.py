# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the files of a config backup where they were, on a new machine. What is in the way is moved aside, not replaced.

What starts things by the clock or with the machine (cron files, systemd units) is put there apart, at the end: a job
that runs on a site that is half recovered writes into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from ..base import filesystem, pipeline
from ..base.errors import UsageError
from ..base.filesystem import explained
from ..base.pipeline import Command
from ..configuration import restore as configuration_restore
from ..configuration.restore import Extracted
from ..recovery.state import RECOVERING_CONFIG
from ..repository.base import Repository
from ..repository.checksums import measure
from ..settings.config import Config
from ..tools.tar import DIRECTORY, LINK, Entry

Log = Callable[[str], None]
FILES, SCHEDULES = "files", "schedules"
UNITS = "/etc/systemd/"
_BY_THE_CLOCK = ("/etc/cron", "/var/spool/cron", UNITS)
# Lifeboat's own come from the inventory, by the role agent.
_OURS = ("/etc/lifeboat/", "/etc/cron.d/lifeboat-", "/usr/local/bin/lifeboat", "/var/lib/lifeboat/")
_ATTEMPTED = "deploy the configuration"


@dataclass
class Placed:
    """written: paths that were put there. same: how many were right already. aside: path -> where the old one is."""

    written: list[str] = field(default_factory=list)
    same: int = 0
    aside: dict[str, str] = field(default_factory=dict)


def place(
    config: Config, store: Repository, identity: str, *, key: str, which: str, stamp: str, check: bool, log: Log
) -> Placed:
    """Put the files (or the schedules) of the backup in their places, with their owners and modes.

    check: only say what would be done. Raises UsageError where secret files are in no backup and not here either, or
    the key is another's; IntegrityError where anything is not as it was written.
    """
    placed = Placed()
    marker = config.state / RECOVERING_CONFIG
    if not check:
        with explained(_ATTEMPTED, marker):
            config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            marker.touch(mode=0o600)
    with _unpacked(config, store, identity, key, log) as found:
        lacking = [path for path in found.missing if not os.path.lexists(path)]
        if lacking:
            raise UsageError(
                _ATTEMPTED, identity, f"it does not hold {', '.join(lacking[:5])}, and neither does this machine",
                "Put them there by hand (mode 0600), then run the same command again. With lifeboat_config.recipients"
                " set, the next backup has them.",
            )  # fmt: skip
        for path, entry in sorted(found.entries.items()):
            ours = path.startswith(_OURS) and path != str(config.identities)
            if ours or path.startswith(_BY_THE_CLOCK) is not (which == SCHEDULES):
                continue
            new = found.root / path.lstrip("/")
            if os.path.lexists(new):
                with explained(_ATTEMPTED, path):
                    _one(config, entry, new, Path(path), placed, stamp, check)
    if placed.written and which == SCHEDULES and not check and any(name.startswith(UNITS) for name in placed.written):
        pipeline.run([Command(["systemctl", "daemon-reload"])], attempted="read the units", subject="systemd")
    if not check:
        marker.unlink(missing_ok=True)
    for path, old in placed.aside.items():
        log(f"{path} was in the way and is kept as {old}")
    log(f"{identity}: {len(placed.written)} files put in place, {placed.same} were there already")
    return placed


@contextlib.contextmanager
def _unpacked(config: Config, store: Repository, identity: str, key: str, log: Log) -> Iterator[Extracted]:
    """The backup's files below a directory of root's alone, which is gone afterwards."""
    with explained("unpack the config backup", config.state):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".deploying-", dir=config.state))
    try:
        yield configuration_restore.extract(store, identity, folder / "root", key=key, log=log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _one(config: Config, entry: Entry, new: Path, path: Path, placed: Placed, stamp: str, check: bool) -> None:
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
    if entry.type == DIRECTORY:
        path.mkdir(mode=0o700)
        _own(path, entry)
        return
    partial = path.with_name(f".{path.name}.lifeboat-{stamp}")
    filesystem.remove(partial)  # of a run that was killed, within this second of the clock
    if entry.type == LINK:
        partial.symlink_to(entry.target)
        os.chown(partial, entry.uid, entry.gid, follow_symlinks=False)
    else:
        with new.open("rb") as source, filesystem.create(partial) as sink:
            shutil.copyfileobj(source, sink, filesystem.CHUNK)
            sink.flush()
            os.fsync(sink.fileno())
        _own(partial, entry)
    partial.replace(path)
    filesystem.sync(path.parent)


def _make_parents(path: Path) -> None:
    """Those that the backup does not list, as a system has them: our own umask would close them to the stack."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)


def _own(path: Path, entry: Entry) -> None:
    os.chown(path, entry.uid, entry.gid)
    path.chmod(entry.mode)
    os.utime(path, (entry.mtime, entry.mtime))


def _same(entry: Entry, path: Path) -> bool:
    """Whether what lies there is what the listing says: content, owner, mode."""
    if not os.path.lexists(path):
        return False
    status = path.lstat()
    if entry.type == LINK:
        return path.is_symlink() and os.readlink(path) == entry.target  # noqa: PTH115 - as it was written
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
