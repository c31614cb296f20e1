# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the project's files of a configuration backup back. What they replace is kept, what is unknown stays."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ..base import filesystem
from ..base.errors import LifeboatError, Log, NotFoundError, printable
from ..base.filesystem import create, explained
from ..configuration import allowed as configuration_allowed
from ..configuration import restore as configuration_restore
from ..configuration.allowed import LeftOut
from ..configuration.restore import Extracted
from ..repository import catalog
from ..repository.catalog import Entry
from ..repository.sources import Sources, hold, release
from ..settings.config import Config
from ..stack.files import NAMES, OVERRIDES
from ..stack.runtime import Opened
from ..tools import age, tar
from ..tools.tar import DIRECTORY

MEMORY = Path("/run")  # secrets are unpacked there on their way: it is no disk
QUARANTINE = "quarantine"
BACK = 10  # so many backups are looked at for one that differs


@dataclass(frozen=True)
class Redeployed:
    """Paths of files: replaced, created where none was, put aside, and missing because they stayed sealed.

    backup: whose files they are; failed: what verifications of it found. quarantine: where what they replace is kept.
    way_back: commands that undo it. left: what of the backup is not placed as it is there.
    """

    replaced: tuple[str, ...]
    created: tuple[str, ...]
    aside: tuple[str, ...]
    quarantine: str
    way_back: tuple[str, ...]
    backup: str = ""
    failed: str = ""
    missing: tuple[str, ...] = ()
    left: tuple[LeftOut, ...] = ()


def candidates(run: Opened, identity: str = "latest", *, accept: bool = False) -> tuple[Sources, list[Entry]]:
    """Return the configuration backups to take, best first: the one that was named, or the good ones from the newest
    on.

    accept: the one that was named, although it failed. Raises LifeboatError where there is none.
    """
    sources = Sources(run, "config", identity, accept=accept)
    chosen, _why = catalog.choose(sources.entries, run.config.stack, identity=sources.identity, accept=accept)
    if sources.identity not in ("", "latest"):
        return sources, [chosen]
    return sources, [entry for entry in reversed(sources.entries) if entry.good and entry.id <= chosen.id][:BACK]


def redeploy(run: Opened, *, identity: str, key: str, stamp: str, accept: bool = False, log: Log) -> Redeployed:
    """Bring every file of the project to what a backup has: the newest in which one differs from what is there now.

    The newest of all may have been taken after the files went bad. key: the age identity, without which secret files
    stay as they are. Raises NotFoundError where no backup has anything else.
    """
    sources, found = candidates(run, identity, accept=accept)
    for entry in found:
        if entry.hidden:
            log(f"{entry.id}: {entry.hidden}; its old versions are read")
    missing: tuple[str, ...] = ()
    for chosen in found:
        # What a killed run had chosen is still there when the same command goes on.
        for line in hold(run, chosen.source, chosen.id, "recover_backend", datetime.now(timezone.utc)):
            log(line.strip())
        with filesystem.scratch(".redeploying-", MEMORY if MEMORY.is_dir() else None) as folder:
            target = folder / "files"
            keys = age.keys(run.config, key)
            got = configuration_restore.extract(sources.repo(chosen), chosen.id, target, keys=keys, site=False, log=log)
            missing = missing or tuple(name for name in got.missing if _ours(run.config, name))
            done = _bring(run.config, got, run.config.state / QUARANTINE / stamp, stamp, log)
        release(run, chosen.source, chosen.id, log)
        if done.replaced or done.created or done.aside:
            return replace(done, backup=chosen.id, failed=chosen.failed, missing=missing)
    raise NotFoundError(
        "redeploy the configuration", ", ".join(entry.id for entry in found[:3]),
        "the files are those of the backup already" + _sealed(missing),
        "Mend them by hand, or name an older backup: -e recovery_point=…",
    )  # fmt: skip


def _bring(config: Config, got: Extracted, quarantine: Path, stamp: str, log: Log) -> Redeployed:
    """Put in place what differs; what it replaces goes into the quarantine first."""
    allowed = configuration_allowed.allowed_paths(config)
    files = {path: got.entries[path] for path in got.entries if _ours(config, path)}
    fit, out = allowed.sift({path: entry for path, entry in files.items() if entry.type != DIRECTORY})
    replaced: list[str] = []
    created: list[str] = []
    left: list[LeftOut] = []
    for path, entry in fit.items():
        live, source = Path(path), got.root / path.lstrip("/")
        if not os.path.lexists(source) or _same(live, source):
            continue
        real = filesystem.real(live.parent)  # looked at once: the project's owner may change it at any time
        why = allowed.way_out(path, real)
        if why:
            left.append(LeftOut(printable(path), why))
            continue
        with explained("put the file back", live), filesystem.within(real) as at:
            (replaced if keep(at, live, quarantine) else created).append(path)
            _put_file(source, at, live.name, entry, stamp)
        log(f"{path} is that of {got.manifest.id} again")
    # A file that was as it should be stays as it is, with its bits.
    told = {printable(path) for path in files if path in {*replaced, *created} or path not in fit}
    left += [one for one in out if one.path in told]
    aside = _set_aside(config, set(files), quarantine, log)
    return Redeployed(
        replaced=tuple(replaced),
        created=tuple(created),
        aside=tuple(aside),
        left=tuple(left),
        quarantine=str(quarantine) if replaced or aside else "",
        way_back=tuple(
            f"cp --archive --no-target-directory {shlex.quote(f'{quarantine}{path}')} {shlex.quote(path)}"
            for path in [*replaced, *aside]
        ),
    )


def _sealed(missing: Iterable[str]) -> str:
    names = ", ".join(Path(name).name for name in missing)
    return f"; {names} stayed sealed: give -e identity_file=<the age identity's file>" if names else ""


def _ours(config: Config, path: str) -> bool:
    """Below the project's directory: what else a backup holds is not this recovery's to change."""
    directory = config.runtime.project_directory
    return bool(directory) and os.path.normpath(path).startswith(directory.rstrip("/") + "/")


def _same(live: Path, source: Path) -> bool:
    if source.is_symlink() or live.is_symlink():
        return source.is_symlink() and filesystem.link(live) == filesystem.link(source)
    wanted = source.read_bytes()
    try:
        with filesystem.open_below(live.parent, (live.name,)) as file:
            return file.read(len(wanted) + 1) == wanted
    except OSError:  # nothing, or what is no file: it is to be replaced
        return False


def keep(at: int, live: Path, quarantine: Path) -> bool:
    """Put what lies under a name into the quarantine, with its mode and owner and under its whole path; only root may
    read there. A file and a link are copied, anything else is moved. Return whether there was something.

    at: a handle of the directory. It may be somebody else's, who may put a link anywhere in the meantime.
    """
    name, target = live.name, quarantine / str(live).lstrip("/")
    try:
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    quarantine.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(os.readlink(name, dir_fd=at))
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    elif stat.S_ISREG(status.st_mode):
        with filesystem.open_at(at, name) as source, create(target) as sink:
            shutil.copyfileobj(source, sink, filesystem.CHUNK)
            sink.flush()
            status = os.fstat(source.fileno())
            os.fchown(sink.fileno(), status.st_uid, status.st_gid)
            os.fchmod(sink.fileno(), stat.S_IMODE(status.st_mode))
            os.utime(sink.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(sink.fileno())
    else:
        _move(at, name, status, target)
    return True


def _move(at: int, name: str, status: os.stat_result, target: Path) -> None:
    try:
        os.rename(name, target, src_dir_fd=at)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        if stat.S_ISDIR(status.st_mode):
            shutil.move(f"/proc/self/fd/{at}/{name}", target)
            return
        os.mknod(target, status.st_mode, status.st_rdev)  # a pipe, a socket or a device: there is nothing in it
        os.unlink(name, dir_fd=at)


def _put_file(source: Path, at: int, name: str, entry: tar.Entry, stamp: str) -> None:
    """Write the file whole or not at all. A container that mounts the old file keeps it until it is created again."""
    for left in os.listdir(at):  # of a run that was killed
        if re.fullmatch(rf"\.{re.escape(name)}\.lifeboat-[0-9]{{8}}_[0-9]{{6}}", left):
            with contextlib.suppress(OSError):
                os.unlink(left, dir_fd=at)
    partial = f".{name}.lifeboat-{stamp}"
    try:
        if source.is_symlink():
            os.symlink(source.readlink(), partial, dir_fd=at)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with source.open("rb") as new, os.fdopen(os.open(partial, flags, 0o600, dir_fd=at), "wb") as file:
                shutil.copyfileobj(new, file, filesystem.CHUNK)
                file.flush()
                os.fchown(file.fileno(), entry.uid, entry.gid)
                os.fchmod(file.fileno(), entry.mode & 0o777)
                os.fsync(file.fileno())
        os.replace(partial, name, src_dir_fd=at, dst_dir_fd=at)
        os.fsync(at)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=at)


def _set_aside(config: Config, expected: set[str], quarantine: Path, log: Log) -> list[str]:
    """Put aside Compose files that the backup does not have and that Compose would read before or over its own."""
    if config.runtime.files or not any(Path(text).name in (*NAMES, *OVERRIDES) for text in expected):
        return []
    aside = []
    for name in (*NAMES, *OVERRIDES):
        path = Path(config.runtime.project_directory) / name
        if str(path) in expected or not os.path.lexists(path):
            continue
        with explained("put the file into quarantine", path), filesystem.within(filesystem.real(path.parent)) as at:
            if keep(at, path, quarantine):
                with contextlib.suppress(FileNotFoundError):  # a directory was moved
                    os.unlink(name, dir_fd=at)
                aside.append(str(path))
                log(f"{path} is not in the backup: moved to {quarantine}")
    return aside


def available(run: Opened, identity: str = "latest", *, accept: bool = False) -> tuple[Optional[Entry], str]:
    """Return the backup that a redeployment would take, or why there is none."""
    try:
        return candidates(run, identity, accept=accept)[1][0], ""
    except LifeboatError as exc:
        return None, exc.cause
