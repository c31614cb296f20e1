# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a recovery point out of the vault into this machine's own repository, whole.

A new machine then recovers from its own disk, and the backups that it takes from now on stand in one row with that
point: what has not changed (images, above all) is not saved and sent again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..base import filesystem
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UsageError
from ..base.filesystem import explained
from ..base.pipeline import HashingWriter
from ..base.text import human
from ..recovery import state as recovery_state
from ..repository import notes, points, repositories
from ..repository.base import MANIFEST, VERIFICATION, Repository
from ..repository.components import DATABASE, GROWING, KINDS
from ..repository.manifest import Artefact, Manifest, component_of, parse
from ..repository.sources import PAST, past
from ..stack.runtime import Opened
from . import left_out
from .store import open_store

_ATTEMPTED = "fetch the recovery point"


def fetch(
    run: Opened, identity: str, more: Sequence[str] = (), *, check: bool = False, log: Log
) -> list[str]:  # fmt: skip
    """Returns the ids that were not here. more: backups beside those of the point; a span that is open there as far as
    its notes go. What is here already must be the very same, or IntegrityError. Raises
    UsageError for a point that names a component which this Lifeboat does not know: it would not be whole here."""
    store, place = open_store(run)
    repo = repositories.repository_of(run)
    repo.check(writable=not check)
    try:
        return [*_fetch(run, store, repo, identity, check, log), *_rest(run, store, repo, more, check, log)]
    except (IntegrityError, NotFoundError) as exc:
        older = past(run, PAST[place])
        if older is None:
            raise
        log(f"{identity}: {exc.cause}: old versions are read")
        try:
            return [*_fetch(run, older, repo, identity, check, log), *_rest(run, older, repo, more, check, log)]
        except LifeboatError:
            raise exc from None


def _fetch(run: Opened, store: Repository, repo: Repository, identity: str, check: bool, log: Log) -> list[str]:
    altered = store.altered("", identity).get(identity)
    if altered and not store.by_version:
        raise IntegrityError(_ATTEMPTED, identity, altered.detail, "Choose another: -e recovery_point=<id>.")
    sealed = store.read_point(identity)
    point = points.parse(sealed, expected_id=identity)
    if point.strange:
        remedy = "Upgrade Lifeboat here, or choose another recovery point: -e recovery_point=<id>."
        raise UsageError(_ATTEMPTED, identity, point.strange, remedy)
    wanted = [part.id for part in point.parts.values()]
    for name, part in point.parts.items():
        kind = KINDS[name]
        manifest = parse(store.manifest(name, part.id), component=name, expected_id=part.id)
        wanted = [*sorted({*kind.earlier(manifest.detailed(kind.details))} - {part.id}), *wanted]
    done = [name for name in wanted if _bring(run, store, repo, name, check, log)]
    if not check:
        recovery_state.adopt_unanswered(run.config, point.notes, point.taken_at)
    if identity not in repo.points():
        done.append(identity)
        if not check:
            repo.write_point(identity, sealed)
    return done


def _rest(
    run: Opened, store: Repository, repo: Repository, more: Sequence[str], check: bool, log: Log
) -> list[str]:  # fmt: skip
    """What leads to an instant behind the point."""
    opened = {identity for name in GROWING for identity in store.growing(name)} & {*more}
    return [
        identity
        for identity in more
        if (_bring_open if identity in opened else _bring)(run, store, repo, identity, check, log)
    ]


def _bring_open(run: Opened, store: Repository, repo: Repository, identity: str, check: bool, log: Log) -> bool:
    """A span that nobody closes any more: each note after its files, as it was written. The first backup that is sent
    from here closes it."""
    component = component_of(identity)
    if repo.read_file(component, identity, MANIFEST) is not None:
        return False
    chain = list(notes.outlines(store, component, identity, run.config.stack, _ATTEMPTED))
    here = len(repo.notes(component, identity)) if identity in repo.ids(component) else 0
    if here >= len(chain) or check:
        return here < len(chain)
    for note in chain:
        for entry in note.pieces:
            data = b"".join(notes.stored(store, component, identity, entry.artefact, _ATTEMPTED))
            repo.add(component, identity, entry.name, data)
        repo.add(component, identity, note.name, note.data)
    size = sum(entry.size for note in chain for entry in note.pieces)
    log(f"{identity}: fetched from the vault as far as it was written, {human(size)}")
    return True


def _bring(run: Opened, store: Repository, repo: Repository, identity: str, check: bool, log: Log) -> bool:
    component = component_of(identity)
    raw = store.manifest(component, identity)
    altered = store.altered(component, identity).get(identity)
    if altered and not store.by_version:
        raise IntegrityError(_ATTEMPTED, identity, altered.detail, "Choose another: -e recovery_point=<id>.")
    if identity in repo.published(component):
        if repo.manifest(component, identity) != raw:
            raise IntegrityError(
                _ATTEMPTED, identity, "another backup of that id is in this machine's repository",
                f"Move {repo.location(component, identity)} aside, then run the same command again.",
            )  # fmt: skip
        return False
    if check:
        return True
    manifest = parse(raw, component=component, expected_id=identity)
    without = left_out.optional(run.config, manifest) if component == DATABASE else frozenset()
    with repo.stage(component, identity) as staging:
        for artefact in manifest.artefacts:
            problem = _copied(store, manifest, artefact, staging.path / artefact.name)
            if problem and artefact.name not in without:
                raise IntegrityError(
                    _ATTEMPTED, manifest.id, problem, "Choose another recovery point: -e recovery_point=<id>."
                )
            if problem:
                log(f"{identity}: {problem}; its database is left out")
        staging.publish(raw)
    proof = store.read_record(component, identity, VERIFICATION)
    if proof:
        repo.write_record(component, identity, VERIFICATION, proof)
    log(f"{identity}: fetched from the vault, {human(manifest.size)}")
    return True


def _copied(store: Repository, manifest: Manifest, artefact: Artefact, path: Path) -> str:
    """Fetch one artefact; why it is not there afterwards, where what lies in the vault is not what was written."""
    with explained(_ATTEMPTED, path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with store.open(manifest.component, manifest.id, artefact.name) as source, filesystem.create(path) as sink:
                writer = HashingWriter(sink)
                shutil.copyfileobj(source, writer, filesystem.CHUNK)
        except NotFoundError:
            path.unlink(missing_ok=True)
            return f"{artefact.name} is missing"
        if (writer.size, writer.sha256) == (artefact.size, artefact.sha256):
            return ""
        path.unlink()
    return f"{artefact.name} has another SHA-256 than when it was written"
