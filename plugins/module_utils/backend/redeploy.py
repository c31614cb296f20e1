# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the project's files of a configuration backup back. What they replace is kept, what is unknown stays."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..base.errors import LifeboatError, Log, NotFoundError
from ..base.filesystem import create, explained
from ..configuration import allowed as configuration_allowed
from ..configuration import restore as configuration_restore
from ..configuration.allowed import LeftOut
from ..configuration.restore import Extracted
from ..repository import catalog
from ..repository.catalog import Entry
from ..repository.sources import Sources
from ..settings.config import Config
from ..stack.files import NAMES, OVERRIDES
from ..stack.runtime import Opened
from ..tools import age
from ..tools.tar import DIRECTORY, shown

MEMORY = Path("/run")  # secrets are unpacked there on their way: it is no disk
QUARANTINE = "quarantine"
BACK = 10  # so many backups are looked at for one that differs


@dataclass(frozen=True)
class Redeployed:
    """Paths of files: put back in place of others, put back where none was, set aside, and those that stayed sealed.

    backup: whose files they are; failed: what verifications of it found. quarantine: where what they replace is kept.
    way_back: commands that undo it. left: what of the backup is not placed as it is there.
    """

    replaced: tuple[str, ...]
    made: tuple[str, ...]
    aside: tuple[str, ...]
    quarantine: str
    way_back: tuple[str, ...]
    backup: str = ""
    failed: str = ""
    missing: tuple[str, ...] = ()
    left: tuple[LeftOut, ...] = ()


def candidates(run: Opened, identity: str = "latest", *, accept: bool = False) -> tuple[Sources, list[Entry]]:
    """The configuration backups to take, best first: the one that was named, or the good ones from the newest on.

    accept: the one that was named, although it failed. Raises LifeboatError where there is none.
    """
    sources = Sources(run, "config", identity, accept=accept)
    chosen, _why = catalog.choose(sources.found, run.config.stack, identity=sources.identity, accept=accept)
    if sources.identity not in ("", "latest"):
        return sources, [chosen]
    return sources, [entry for entry in reversed(sources.found) if entry.good and entry.id <= chosen.id][:BACK]


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
        with tempfile.TemporaryDirectory(prefix="lifeboat-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
            target = Path(folder) / "files"
            keys = age.keys(run.config, key)
            got = configuration_restore.extract(sources.repo(chosen), chosen.id, target, keys=keys, site=False, log=log)
            missing = missing or tuple(name for name in got.missing if _ours(run.config, name))
            done = _bring(run.config, got, run.config.state / QUARANTINE / stamp, stamp, log)
        if done.replaced or done.made or done.aside:
            return replace(done, backup=chosen.id, failed=chosen.failed, missing=missing)
    raise NotFoundError(
        "redeploy the configuration", ", ".join(entry.id for entry in found[:3]),
        "the files are those of the backup already" + _sealed(missing),
        "Mend them by hand, or name an older backup: -e recovery_point=…",
    )  # fmt: skip


def _bring(config: Config, got: Extracted, kept: Path, stamp: str, log: Log) -> Redeployed:
    """Put in place what differs; what it replaces goes into the quarantine first."""
    allowed = configuration_allowed.of(config)
    files = {path: got.entries[path] for path in got.entries if _ours(config, path)}
    fit, out = allowed.sift({path: entry for path, entry in files.items() if entry.type != DIRECTORY})
    replaced, made, left = [], [], []
    for path, entry in fit.items():
        live, source = Path(path), got.root / path.lstrip("/")
        if not os.path.lexists(source) or _same(live, source):
            continue
        if allowed.way_out(path):
            left.append(LeftOut(shown(path), allowed.way_out(path)))
            continue
        if os.path.lexists(live):
            keep(live, kept)
            replaced.append(path)
        else:
            made.append(path)
        _place(source, live, entry.mode, entry.uid, entry.gid, stamp)
        log(f"{path} is that of {got.manifest.id} again")
    # A file that was as it should be stays as it is, with its bits.
    told = {shown(path) for path in files if path in {*replaced, *made} or path not in fit}
    left += [one for one in out if one.path in told]
    aside = _set_aside(config, set(files), kept, log)
    return Redeployed(
        replaced=tuple(replaced),
        made=tuple(made),
        aside=tuple(aside),
        left=tuple(left),
        quarantine=str(kept) if replaced or aside else "",
        way_back=tuple(
            f"cp --archive --no-target-directory {shlex.quote(f'{kept}{path}')} {shlex.quote(path)}"
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
    if live.is_symlink() or source.is_symlink():
        return live.is_symlink() and source.is_symlink() and live.readlink() == source.readlink()
    return live.is_file() and live.read_bytes() == source.read_bytes()


def keep(live: Path, kept: Path) -> None:
    """A copy of a file (or link) under its whole path, with its mode and owner; only root looks into the quarantine."""
    target = kept / str(live).lstrip("/")
    with explained("put the file into quarantine", live):
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if live.is_dir() and not live.is_symlink():
            live.rename(target) if live.stat().st_dev == kept.stat().st_dev else shutil.move(str(live), target)
            return
        shutil.copy2(live, target, follow_symlinks=False)
        status = live.lstat()
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not target.is_symlink():
            with target.open("rb") as file:
                os.fsync(file.fileno())


def _place(source: Path, live: Path, mode: int, uid: int, gid: int, stamp: str) -> None:
    """Whole or not at all; a container that mounts the old file keeps it until it is created again."""
    partial = live.with_name(f".{live.name}.lifeboat-{stamp}")
    with explained("put the file back", live):
        _make_directories(live.parent)
        try:
            if source.is_symlink():
                partial.symlink_to(source.readlink())
            else:
                with create(partial) as file:
                    file.write(source.read_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                os.chown(partial, uid, gid)
                partial.chmod(mode & 0o777)
            partial.replace(live)
        finally:
            partial.unlink(missing_ok=True)


def _make_directories(path: Path) -> None:
    """As an operator makes them; ours are private, and the services may run as somebody else."""
    if not path.is_dir():
        _make_directories(path.parent)
        path.mkdir()
        path.chmod(0o755)


def _set_aside(config: Config, wanted: set[str], kept: Path, log: Log) -> list[str]:
    """Compose files that the backup does not know and that Compose would read before or over its own."""
    if config.runtime.files or not any(Path(text).name in (*NAMES, *OVERRIDES) for text in wanted):
        return []
    aside = []
    for name in (*NAMES, *OVERRIDES):
        path = Path(config.runtime.project_directory) / name
        if str(path) not in wanted and os.path.lexists(path):
            keep(path, kept)
            path.unlink(missing_ok=True)
            aside.append(str(path))
            log(f"{path} is not in the backup: moved to {kept}")
    return aside


def available(run: Opened, identity: str = "latest", *, accept: bool = False) -> tuple[Optional[Entry], str]:
    """The backup that a redeployment would take, or why there is none."""
    try:
        return candidates(run, identity, accept=accept)[1][0], ""
    except LifeboatError as exc:
        return None, exc.cause
