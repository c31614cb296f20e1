# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out the plan for the files: stop who writes there, bring back what lacks or differs, compare, start again.

Killed at any step, the same command goes on: what is in its place already does not differ any more.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..base import filesystem
from ..base.checks import PASS, Check, compared
from ..base.errors import Log, printable
from ..recovery import reopen
from ..recovery import state as recovery_state
from ..recovery.sources import planned_backup, stop
from ..recovery.state import RECOVERING_FILES, Unfinished
from ..repository.base import Repository
from ..repository.details import FilesDetails
from ..repository.manifest import Manifest
from ..stack import quarantine
from ..stack.compose import ComposeRuntime
from ..stack.runtime import Opened
from ..tools import age
from . import references, restore, sources, walk
from .listing import by_source
from .packs import FILES, listed
from .plan import Plan, Source, comes_back, differences, within
from .restore import ADDITIONAL, Placer, Selection
from .sources import Directory
from .walk import Problems


@dataclass(frozen=True)
class Recovered:
    """restored: entries that came back, by source. aside: where what they replaced is, by source. Modules return it as
    it is."""

    checks: tuple[Check, ...] = ()
    restored: Mapping[str, int] = field(default_factory=dict)
    aside: tuple[str, ...] = ()
    way_back: tuple[str, ...] = ()
    bytes: int = 0


def recover(run: Opened, planned: Plan, *, reopens: bool = True, log: Log) -> Recovered:
    """The caller holds the stack's lock, and has the turn. What is not as in the backup then is a failed check.
    reopens: stop who writes there, and start them again; False where nobody of them runs.
    """
    config = run.config
    identity = str(planned.backup["id"])
    repo, manifest = planned_backup(run, FILES, planned)
    # With a volume the containers of all that mount it were lost, also of those that only read it.
    removed = {name for each in planned.sources if each.volume and not each.there for name in each.users}
    writers = recovery_state.with_stopped(config, sorted({*planned.writers, *removed})) if reopens else []
    doing = Unfinished(
        identity, empty=any(map(_empty, planned.sources)), requested=planned.requested, exact=planned.exact,
        additional=planned.paths, stamp=planned.stamp,
    )  # fmt: skip
    if writers:
        stop(run, writers, log)
    recovery_state.mark(config, RECOVERING_FILES, doing)
    made = {each.name for each in planned.sources if not each.there}
    _make_volumes(run, planned, log)
    names = [each.name for each in planned.sources]
    directories = {each.name: each for each in sources.directories(run) if each.name in names}
    keys = age.keys(config, run.key)
    checks, restored, aside = list[Check](), dict[str, int](), list[str]()
    moved = 0
    for name, directory in directories.items():
        with _scratch(config.scratch) as scratch, Selection(scratch) as selection:
            additional = _select(repo, manifest, keys, directory, planned, name in made, selection, scratch)
            restored[name] = selection.every.count
            moved += selection.bytes
            where, lost = _restored(repo, manifest, keys, directory, planned, selection, additional, log)
            aside += [where] if where else []
            checks.append(_verified(repo, manifest, keys, directory, selection, lost, scratch))
    if all(check.result == PASS for check in checks):
        if planned.paths:
            recovery_state.complete(config, RECOVERING_FILES, doing)
        else:  # all there is was compared, whatever an earlier recovery was to bring back
            recovery_state.unmark(config, RECOVERING_FILES)
    checks += references.checks_of(run, repo, manifest, within(planned.paths))  # before anybody writes again
    checks += reopen.reopen(run, writers, log=log) if writers else []
    return Recovered(
        tuple(checks), restored, tuple(aside), bytes=moved,
        way_back=tuple(
            f"tar -C {where} -cf - . | tar -C {Path(where).parent} -xpf - --no-overwrite-dir" for where in aside
        ),
    )  # fmt: skip


def _empty(source: Source) -> bool:
    """Would an application that starts now find none of its files there?"""
    return not source.there or not filesystem.is_filled(Path(source.path))


def _make_volumes(run: Opened, planned: Plan, log: Log) -> None:
    """A volume that is gone is made as Compose makes it, with its labels, by making the containers that mount it."""
    gone = [each for each in planned.sources if each.volume and not each.there]
    for each in gone:
        if not isinstance(run.runtime, ComposeRuntime) or not each.users:
            continue
        log(f"making the volume {each.volume}")
        # What a removed container had, the engine tells no more: those that mount it are made again.
        words = ("up", "--no-start", "--no-deps", "--force-recreate", *each.users)
        run.runtime.control(*words, attempted="make the volume", subject=each.volume, timeout=300)
    for each in planned.sources:
        if not each.volume and not each.there:
            with filesystem.explained("make the directory", each.path), filesystem.within(each.path):
                log(f"made {each.path}")


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """Where the names of what comes back are kept meanwhile."""
    with filesystem.explained("restore the files", parent):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filesystem.scratch("lifeboat-selection-", parent) as folder:
            yield folder


def _select(
    repo: Repository, manifest: Manifest, keys: age.Keys, directory: Directory, planned: Plan, fresh: bool,
    selection: Selection, scratch: Path,
) -> list[str]:  # fmt: skip
    """Select what comes back into that directory. Returns what is moved aside: of a directory it alone. fresh: the
    directory itself was made just now, so that it has not the owner and mode that it had."""
    unread, chosen = Problems(), within(planned.paths)
    additional: list[str] = []
    with listed(repo, manifest, keys) as lines:
        for name, some in by_source(lines):
            if name != directory.name:
                continue
            for found in differences(directory, some, unread, planned.requested, scratch):
                if not chosen(found.path):
                    continue
                if found.what == ADDITIONAL:
                    inside = additional and found.path.startswith(f"{additional[-1]}/")
                    additional += [found.path] if planned.exact and not inside else []
                    continue
                root = fresh and found.path == directory.name
                if found.row is not None and (root or comes_back(found, planned.requested)):
                    selection.add(found.row)
        for _line in lines:
            pass
    return additional


def _restored(
    repo: Repository, manifest: Manifest, keys: age.Keys, directory: Directory, planned: Plan, selection: Selection,
    additional: Sequence[str], log: Log,
) -> tuple[str, list[str]]:  # fmt: skip
    """Where what was replaced is kept, empty where nothing was, and what could not be brought back."""
    aside = f"{quarantine.REPLACED}{planned.stamp}"
    details = manifest.detailed(FilesDetails)
    with (
        filesystem.explained("restore the files", directory.path),
        Placer(directory.path, directory.name, aside) as placer,
    ):
        busy = []
        for path in additional:
            try:
                placer.move_aside(path)
            except OSError as exc:
                if exc.errno != errno.EBUSY:
                    raise
                busy.append(f"{printable(path)}: {exc.strerror}")  # something is mounted there
        lost = [*busy, *restore.restore(repo, details.packs, keys, selection, placer, log)]
        return f"{directory.path}/{aside}" if placer.moved else "", lost


def _verified(
    repo: Repository, manifest: Manifest, keys: age.Keys, directory: Directory, selection: Selection,
    lost: Sequence[str], scratch: Path,
) -> Check:  # fmt: skip
    """Compare again, every entry that came back with its content; what differs of the others is not ours to judge."""
    wrong, unread = list(lost), Problems()
    with listed(repo, manifest, keys) as lines:
        for name, some in by_source(lines):
            if name != directory.name:
                continue
            for found in restore.compare(
                directory.path, name, some, unread, left_out=walk.excluder(directory.source.exclude),
                scratch=scratch, hashed=lambda row: selection.has(row.path),
            ):  # fmt: skip
                if found.what != ADDITIONAL and selection.has(found.path):
                    wrong.append(f"{printable(found.path)} is {found.what}")
        for _line in lines:
            pass
    wrong += [f"{path}: {why}" for path, why in unread.first.items()]
    words = f"{selection.every.count} entries came back, each as in {manifest.id}"
    found_check = compared(f"files {directory.name}", wrong, words)
    return Check(found_check.name, found_check.result, found_check.detail, kind=FILES, subject=directory.name)
