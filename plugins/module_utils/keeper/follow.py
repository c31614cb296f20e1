# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follow the WAL that a stack's host writes, every minute: the notes after the last one here, and the pieces they name.

    <keeper.directory>/repository/wal/<id>/  what came of a span, open until its manifest is there
    <keeper.directory>/following.json        when the last note came, and what is not followed any more

The host is hostile, as in a pull: every note and piece is bounded and compared with its SHA-256 as it comes, and what
is here is never written again. A span that came wrong, or that the host leaves open, is closed here by the notes that
came before. Receipts are written when a span closes, and only while no pull runs, as there is one log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, Optional

from ..base import clock, filesystem, lock
from ..base.clock import TOLERANCE
from ..base.errors import IntegrityError, LifeboatError, LockedError, Log, NotFoundError, UsageError, printable
from ..base.filesystem import explained
from ..base.text import human
from ..repository import manifest as manifests
from ..repository import repositories
from ..repository.base import ID, MANIFEST, MARKER, Repository, TakenError, marker_of
from ..repository.components import WAL
from ..repository.details import MOST_SPAN_PIECES
from ..repository.manifest import Artefact
from ..settings.config import Config
from ..settings.parts import KeeperSettings
from ..stack.runtime import Opened
from ..tools.source import Source
from ..wal import notes, spans
from ..wal.notes import Note
from ..wal.segments import wrong
from . import receipts as receipts_file
from . import receive
from .following import followed, remember
from .receipts import Receipts, Record, Strange, bounded

KEEPER = "keeper"  # who closed a span
_FOLLOW = "follow the WAL of the stack's host"
_SECONDS = 300  # that one run may take: the next one goes on
_NAMES = notes.MOST_NOTES + MOST_SPAN_PIECES + 16  # of one span's folder
_LARGEST = notes.MOST_PIECE + notes.MORE_STORED
_LEFT = 1000
_OWN = 4  # what a follower itself makes: folders, the marker, what it remembers
_MEASURED = timedelta(hours=1)  # so long what is used is counted on, and not measured again
Chain = list[tuple[Note, str]]


@dataclass
class Done:
    """What one run did. problem: why it ended early."""

    notes: int = 0
    bytes: int = 0
    closed: list[str] = field(default_factory=list)
    strange: list[Strange] = field(default_factory=list)
    problem: Optional[LifeboatError] = None

    def as_dict(self) -> dict[str, object]:
        return {
            "notes": self.notes,
            "bytes": self.bytes,
            "closed": self.closed,
            "strange": [{"what": item.what, "why": item.why} for item in self.strange],
            "stopped": str(self.problem) if self.problem else "",
        }

    def lines(self) -> list[str]:
        return [
            *(f"closed    {identity}" for identity in self.closed),
            *(f"STRANGE   {item.what}: {item.why}" for item in self.strange),
            f"{self.notes} notes, {human(self.bytes)}",
        ]


def reach(keeper: KeeperSettings) -> Source:
    """Open the stack's repository to read it, for as long as one run may take."""
    return receive.reach(replace(keeper, timeout=min(keeper.timeout, _SECONDS)))


def locked(config: Config) -> contextlib.AbstractContextManager[None]:
    """No two runs at once. A pull may take hours, and has another lock."""
    return lock.held(f"{config.stack}.follow", "keeper follow", directory=Path(config.keeper.directory))


def unreached(run: Opened, problem: LifeboatError) -> None:
    """Remember that the stack's host could not be reached. The caller holds the lock of followers."""
    remember(run.config, replace(followed(run.config), tried_at=clock.now(), failed=problem.cause[:500]))


def follow(run: Opened, source: Source, *, log: Log) -> Done:
    """Receive what is new. The caller holds the lock of followers. What ended it early is in `problem`, not raised."""
    directory = Path(run.config.keeper.directory)
    receipts, began = receipts_file.load(directory), clock.now()
    receipts.require_clock(began)
    for name in (Path(run.config.keeper.repository).name, receive.QUARANTINE):
        with explained("make the keeper's directory", directory / name):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
    work = _Follow(run, source, receipts, began, log)
    try:
        work.run()
    except LifeboatError as exc:
        work.done.problem = exc
    try:
        work.settle()
    except LockedError:
        log("a pull is under way: spans are closed after it")
    problem = work.done.problem
    work.state = replace(work.state, tried_at=began, failed=problem.cause[:500] if problem else "")
    remember(run.config, work.state)
    return work.done


class _Follow:
    """One run, as far as it came. ready: spans to close, with the host's manifest, or None where it is the keeper's."""

    def __init__(self, run: Opened, source: Source, receipts: Receipts, began: datetime, log: Log) -> None:
        self._run, self._source, self._receipts, self._began, self._log = run, source, receipts, began, log
        self._config, self._keeper = run.config, run.config.keeper
        self._directory = Path(self._keeper.directory)
        self._repo: Repository = repositories.repository_of(run)
        self._folder = {**self._repo.folders, **self._keeper.source.folders}.get(WAL, WAL)
        self._here: dict[str, int] = {}  # the artefacts of the span that is looked at, by name
        self.state = followed(run.config)
        self.ready: dict[str, Optional[bytes]] = {}
        self.done = Done()

    def run(self) -> None:
        self._check_marker()
        there = self._listed()
        opened = self._repo.growing(WAL)
        known = {*self._repo.published(WAL), *self._receipts.received, *self._receipts.pruned, *self.state.left}
        fresh = self._within_rate([identity for identity in there if identity not in {*known, *opened}])
        newest = max(there, default="")
        for identity in sorted({*opened, *fresh} - {*self.state.left}):
            try:
                self._span(identity, identity in there, newer=identity < newest)
            except (IntegrityError, TakenError) as exc:
                self._strange(identity, exc.cause)
                self._leave(identity)
            except (NotFoundError, UsageError) as exc:
                self._unread(identity, exc, newer=identity < newest)
        for identity in {*opened} & {*self.state.left}:  # what a run that was killed did not close
            self._leave(identity)

    def _unread(self, identity: str, problem: LifeboatError, *, newer: bool) -> None:
        """It is pruned just now, or not readable for this account. What a note names is there before the note is: where
        the host has begun another span since, it was taken away."""
        self._log(f"{identity}: {problem.cause}")
        if isinstance(problem, NotFoundError) and newer and self._source.names(f"{self._folder}/{identity}", _NAMES):
            self._strange(identity, f"it is withheld: {problem.subject}")
            self._leave(identity)
        else:
            self.done.problem = problem

    # What there is.

    def _check_marker(self) -> None:
        """As a pull does, which also says that it is strange."""
        try:
            found = marker_of(self._source.read((MARKER,), receive.MARKER_MOST))
        except NotFoundError:
            found = None
        known, mine = self._receipts.repository, self._config.stack
        if found and found.stack != mine:
            cause = f"its marker names the stack {printable(found.stack)[:80]}"
            raise UsageError(_FOLLOW, self._source.location, cause, "See what the pull says: lifeboat keeper pull.")
        if known and (found.repository[:64] if found else "") not in (known, *self._receipts.accepted):
            cause = "the stack has another repository than at the last pull"
            raise UsageError(_FOLLOW, self._source.location, cause, "See what the pull says: lifeboat keeper pull.")

    def _listed(self) -> list[str]:
        """The ids of spans there, oldest first. What is none of them is for the pull to say."""
        found = []
        for name in self._source.names(self._folder, self._keeper.limits.names):
            match = ID.fullmatch(name)
            moment = clock.stamped(name)
            if match is None or match.group(1) != WAL or moment is None or name in self.state.left:
                continue
            if moment > self._began + TOLERANCE:
                self._strange(name, "it is dated after now")
                self._leave(name)
            else:
                found.append(name)
        return found

    def _within_rate(self, fresh: list[str]) -> list[str]:
        """As many as a host may have that keeps what its proved bases need, the oldest first."""
        most = self._keeper.limits.per_day * 2 * (self._config.wal.window_days + 1)
        if len(fresh) > most:
            self._strange(f"{self._folder}: more than {most} new spans", "they are not followed")
        return fresh[:most]

    # One span.

    def _span(self, identity: str, there: bool, *, newer: bool) -> None:
        """newer: the host has begun another one since, which it does only after this one is closed."""
        chain = self._chain(identity)
        names = {*self._source.names(f"{self._folder}/{identity}", _NAMES)} if there else set[str]()
        if chain and names:
            self._compare_last(identity, chain, names)
        self._here = self._files(identity)
        while notes.note_name(len(chain) + 1) in names:
            chain.append(self._note(identity, chain))
        newest = max(map(notes.note_number, names), default=0)
        if newest > len(chain):
            cause = f"{notes.note_name(len(chain) + 1)} is withheld, and {notes.note_name(newest)} is there"
            raise wrong(_FOLLOW, identity, cause)
        if MANIFEST in names:
            self._closed(identity, chain)
        elif newer or not names:
            self._close(identity, chain)

    def _chain(self, identity: str) -> Chain:
        """The notes that are here."""
        try:
            there = self._repo.notes(WAL, identity)
        except NotFoundError:
            return []
        return spans.read_notes(self._repo, identity, self._config.stack) if there else []

    def _files(self, identity: str) -> dict[str, int]:
        try:
            return self._repo.files(WAL, identity)
        except NotFoundError:
            return {}

    def _compare_last(self, identity: str, chain: Chain, names: Collection[str]) -> None:
        """A note has the SHA-256 of the one before it, so the last one stands for all of them."""
        name = chain[-1][0].name
        if name not in names:
            raise wrong(_FOLLOW, identity, f"the keeper has {name}, and it is gone there")
        if notes.digest(self._source.read((self._folder, identity, name), notes.MOST_BYTES)) != chain[-1][1]:
            raise wrong(_FOLLOW, identity, f"the keeper has {name} with other bytes")

    def _note(self, identity: str, chain: Chain) -> tuple[Note, str]:
        """The next note, after all that it names."""
        number = len(chain) + 1
        data = self._source.read((self._folder, identity, notes.note_name(number)), notes.MOST_BYTES)
        self._require_flat(identity, data)
        note = notes.parse(data, identity, number, self._config.stack)
        if note.previous != (chain[-1][1] if chain else ""):
            raise wrong(_FOLLOW, identity, f"{note.name} does not follow the note that the keeper has before it")
        if note.reached.at > self._began + TOLERANCE:
            raise wrong(_FOLLOW, identity, f"{note.name} says what was committed until after now")
        span = spans.of_notes(identity, [*chain, (note, notes.digest(data))])
        if span.size > receive.most(self._keeper):
            raise wrong(_FOLLOW, identity, f"it has {human(span.size)}, more than {human(receive.most(self._keeper))}")
        for entry in note.pieces:
            self._fetch(identity, Artefact(entry.name, entry.size, entry.sha256))
        self._room(len(data))
        self._repo.add(WAL, identity, note.name, data)
        self.done.notes += 1
        self.state = replace(self.state, noted_at=clock.now(), reached=note.reached.at)
        return note, notes.digest(data)

    def _fetch(self, identity: str, artefact: Artefact) -> None:
        """One piece, compared as it comes. One that came in a run that ended before its note did is compared again: the
        note may be another now."""
        name = artefact.name
        if name in self._here:
            if spans.damaged_piece(self._repo, identity, artefact):
                raise wrong(_FOLLOW, identity, f"the keeper has {name} with other bytes")
            return
        parts = (self._folder, identity, name)
        size = self._source.size(parts)
        if size != artefact.size or size > _LARGEST:
            raise wrong(_FOLLOW, identity, f"{name} has {size} bytes instead of {min(artefact.size, _LARGEST)}")
        self._room(size)
        data = self._source.read(parts, size)
        if len(data) != size or filesystem.sha256(data) != artefact.sha256:
            raise wrong(_FOLLOW, identity, f"the bytes of {name} are not those that its note names")
        self._repo.add(WAL, identity, name, data)
        self._here[name] = size
        self.done.bytes += size

    def _require_flat(self, identity: str, data: bytes) -> None:
        if receive.too_many_values(data):
            raise wrong(_FOLLOW, identity, "a document of it has more values than a keeper reads")

    def _room(self, size: int) -> None:
        state, now = self.state, clock.now()
        if state.measured_at is None or not timedelta() <= now - state.measured_at < _MEASURED:
            self.state = state = replace(
                state, used=receive.used(self._directory) + _OWN * receive.cost(0), measured_at=now
            )
        receive.require_room(self._config, state.used, receive.cost(size), 1)
        self.state = replace(state, used=state.used + receive.cost(size))

    # Its end.

    def _closed(self, identity: str, chain: Chain) -> None:
        """The host has closed it: by a manifest that says what the notes said."""
        data = self._source.read((self._folder, identity, MANIFEST), self._keeper.limits.manifest_bytes)
        self._require_flat(identity, data)
        try:
            manifest = manifests.parse(data, component=WAL, expected_id=identity)
            span = spans.of_manifest(manifest)
            why = receive.refusal(manifest, self._config.stack, self._keeper.limits, receive.most(self._keeper))
            why = why or (spans.unlike_notes(span, chain) if chain else "")
            if why:
                raise wrong(_FOLLOW, identity, why)
            noted = {entry.name for note, _digest in chain for entry in note.pieces}
            for artefact in manifest.artefacts:
                if artefact.name not in noted:  # those are what the notes say
                    self._fetch(identity, artefact)
        except IntegrityError:
            self._room(len(data))
            receive.put_aside(self._directory, identity, data)
            raise
        self.ready[identity] = data

    def _close(self, identity: str, chain: Chain) -> None:
        """The host never closed it, or took it away."""
        if chain:
            self._log(f"{identity}: the host leaves it open; it is closed here, with {len(chain)} notes")
            self.ready[identity] = None
        elif identity in self._repo.growing(WAL):
            self._repo.delete(WAL, identity)  # no note names what is in it

    def _leave(self, identity: str) -> None:
        """Follow it no more, and keep what came before."""
        self.state = replace(self.state, left=(*self.state.left, identity)[-_LEFT:])
        with contextlib.suppress(IntegrityError):  # damaged here: it stays as it is, for whoever looks into it
            self._close(identity, self._chain(identity))

    def _strange(self, what: str, why: str) -> None:
        item = receive.strange(what, why)
        self.done.strange.append(item)
        self._log(f"STRANGE: {item.what}: {item.why}")

    def settle(self) -> None:
        """Close what is ready, and put on record what was strange and is not on record. Raises LockedError while a pull
        runs: the next run does it."""
        if not self.ready and not self.done.strange:
            return
        with lock.held(self._config.stack, "keeper follow", directory=self._directory):
            receipts = receipts_file.load(self._directory, repair=True)
            for identity in sorted(self.ready):
                data = self.ready[identity]
                if data is None:
                    span = spans.of_notes(identity, self._chain(identity))
                    made = spans.manifest_of(span, clock.now(), closed_by=KEEPER)
                    repositories.publish(self._run, made, partial(self._publish, receipts, identity, "made"))
                else:
                    self._publish(receipts, identity, "received", data)
                self.done.closed.append(identity)
            few, more = bounded(item for item in self.done.strange if item not in receipts.reported)
            if few:
                receipts.append(Record(0, self._began, "", "followed", strange=few, more=more), clock.now())

    def _publish(self, receipts: Receipts, identity: str, kind: Literal["received", "made"], data: bytes) -> None:
        """What has no receipt was never there, so that comes first."""
        if identity not in receipts.received:
            receipts.append(Record(0, self._began, "", kind, identity, filesystem.sha256(data)), clock.now())
        self._repo.finish(WAL, identity, data)
        self._log(f"{identity}: closed")
