# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send the spans of a component on to the vault: the oldest first, each note after its files, the manifest last.

What was written and signed for the repository is copied byte for byte. A vault that was away is brought up to date in
that order, so that what it has is always the beginning of what there is. It is never waited for: a pass gives it some
seconds, and none where it failed a moment ago.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Callable, Generic, Optional, TypeVar

from ..base import clock, filesystem, throttle, typed
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError
from ..settings.config import Config
from ..stack.runtime import Opened
from . import copies, notes, repositories
from . import manifest as manifests
from .base import MANIFEST, OtherRepositoryError, OtherStackError, Repository, TakenError
from .manifest import Artefact
from .notes import Moment, Note

_COPY = "copy the span to the vault"
_REST = timedelta(minutes=1)  # a vault that does not answer costs a pass its time limits, so not every pass tries
_REPORTED = 8


@dataclass(frozen=True)
class Copied:
    """What the vault of that location has. span, number, previous: of the newest span, its last note there and the
    SHA-256 of that. closed: its manifest is there. whole: the open span when everything else was there.

    reached: what the notes until there say; a component's own class says what that is. failed, tried_at: why the last
    attempt ended early, and when; passed_over: what was not copied, and why."""

    location: str = field(metadata={"json": "place"})
    span: str = ""
    number: int = 0
    previous: str = ""
    closed: bool = False
    whole: Optional[str] = None
    reached: Optional[Moment] = None
    failed: str = ""
    tried_at: Optional[datetime] = None
    passed_over: Mapping[str, str] = field(default_factory=dict)

    @property
    def lacks(self) -> str:
        """Which spans were passed over, and why; empty where none was."""
        return "; ".join(f"{identity} is not there: {why}" for identity, why in self.passed_over.items())


C = TypeVar("C", bound=Copied)


@dataclass(frozen=True)
class Relay(Generic[C]):
    """How one component is sent on. ledger: the file of what the vault has, in the state directory, one for each vault:
    today there is one. copied: its class; note: that of a note. seconds: of a pass, once it knows what to send."""

    component: str
    ledger: str
    copied: type[C]
    note: type[Note]
    bandwidth: Callable[[Config], str]
    seconds: float

    def known(self, config: Config) -> Optional[C]:
        """What this host remembers of the vault of today; None where nothing was sent there."""
        try:
            state = typed.maybe(self.copied, filesystem.read_plain(config.state / self.ledger))
        except OSError:
            return None
        return state if state and state.location == copies.location(config) else None

    def push(
        self, run: Opened, log: Log, opened: str, reached: Optional[Moment], *, at_once: bool = False
    ) -> Optional[C]:
        """Bring the vault up to date, as far as the time of a pass goes. None where there is no vault. Never raises for
        a vault that fails. opened: the span that is written to, reached: what of it is noted. at_once: also right after
        a failure. The caller holds a lock, so that no two do this at once."""
        state, now = self.known(run.config) or self.copied(copies.location(run.config)), clock.now()
        if state.failed and state.tried_at and timedelta() <= now - state.tried_at < _REST and not at_once:
            return state
        work = _Push(self, run, log, state)
        try:
            store = copies.vault(run)
            if store is None:
                return None
            work.go(store, opened, reached)
        except LifeboatError as exc:
            log(f"not in the vault: {exc}")
            work.remember(failed=exc.cause, tried_at=now)
        return work.state


class _Push(Generic[C]):
    """One pass, as far as it came."""

    def __init__(self, relay: Relay[C], run: Opened, log: Log, state: C) -> None:
        self.relay, self.run, self.log, self.state = relay, run, log, state
        self.component = relay.component
        self.repo: Repository = repositories.repository_of(run)
        self.rate = throttle.Rate(throttle.parse_rate(relay.bandwidth(run.config)))
        self.ends = 0.0

    def go(self, store: Repository, opened: str, reached: Optional[Moment]) -> None:
        first = self.state.whole != opened
        todo = self._lacking(store) if first else [opened] if opened and not self._up_to_date(opened) else []
        skipped: dict[str, str] = {} if first else {**self.state.passed_over}
        self.ends = time.monotonic() + self.relay.seconds
        for identity in todo:
            try:
                skipped.pop(identity, None)
                if not self._span(store, identity):
                    self.remember(failed="", passed_over=skipped)
                    self.log(f"{identity}: goes on in the next pass")
                    return
            except (OtherStackError, OtherRepositoryError):
                raise
            except (IntegrityError, NotFoundError, TakenError) as exc:
                self.log(f"not in the vault: {exc}")
                skipped[identity] = exc.cause
        complete = reached if self.state.span not in skipped else None
        reported = dict(list(skipped.items())[-_REPORTED:])
        self.remember(whole=opened, failed="", passed_over=reported, reached=complete or self.state.reached)

    def _lacking(self, store: Repository) -> list[str]:
        """The spans that are not closed there, the oldest first."""
        store.require_ours(make=True)
        copies.require_source(self.run, store, make=True)
        there = {*store.published(self.component)}
        return [identity for identity in sorted(self.repo.ids(self.component)) if identity not in there]

    def _up_to_date(self, opened: str) -> bool:
        """Whether the last note of the open span is there."""
        return self.state.span == opened and len(self.repo.notes(self.component, opened)) == self.state.number

    def _span(self, store: Repository, identity: str) -> bool:
        """Send what one span has more than the vault. False where the time of the pass is up."""
        if self.state.span != identity:
            self.remember(span=identity, number=0, previous="", closed=False)
        closed = self.repo.read_file(self.component, identity, MANIFEST) is not None
        try:
            there = store.files(self.component, identity)
        except NotFoundError:
            there = {}
        for name in self.repo.notes(self.component, identity)[self.state.number :]:
            data = self.repo.read_note(self.component, identity, name)
            note = notes.parse(self.relay.note, data, identity, notes.note_number(name), self.run.config.stack)
            if (note.number, note.previous) != (self.state.number + 1, self.state.previous):
                raise notes.wrong(_COPY, identity, f"{name} does not follow the note before it")
            if not self._files(store, identity, [entry.artefact for entry in note.pieces], there) or self._late():
                return False
            self._add(store, identity, name, data)
            self.remember(number=note.number, previous=notes.digest(data), reached=self._later(note.reached))
        return self._finish(store, identity, there) if closed else True

    def _late(self) -> bool:
        return time.monotonic() > self.ends

    def _later(self, reached: Moment) -> Moment:
        before = self.state.reached
        return before if before and before.at > reached.at else reached

    def _files(self, store: Repository, identity: str, artefacts: list[Artefact], there: dict[str, int]) -> bool:
        """Send those that are not there, each compared with its SHA-256 before. False where the time is up."""
        for artefact in artefacts:
            if there.get(artefact.name) == artefact.size:
                continue
            if self._late():
                return False
            data = b"".join(notes.stored(self.repo, self.component, identity, artefact, _COPY))
            self._add(store, identity, artefact.name, data)
            there[artefact.name] = artefact.size
        return True

    def _add(self, store: Repository, identity: str, name: str, data: bytes) -> None:
        self.rate.take(len(data))
        try:
            store.add(self.component, identity, name, data)
        except NotFoundError as exc:  # its bucket is gone: that is nothing of this span
            raise LifeboatError(_COPY, exc.subject, exc.cause, exc.remedy) from exc

    def _finish(self, store: Repository, identity: str, there: dict[str, int]) -> bool:
        """The manifest, after all that it names."""
        data = self.repo.manifest(self.component, identity)
        manifest = manifests.parse(data, component=self.component, expected_id=identity)
        if not self._files(store, identity, list(manifest.artefacts), there) or self._late():
            return False
        self._add(store, identity, MANIFEST, data)
        self.remember(closed=True)
        self.log(f"{identity}: copied to {self.state.location}")
        return True

    def remember(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        data = json.dumps(typed.plain(self.state), indent=1).encode() + b"\n"
        attempted = "remember what the vault has"
        filesystem.remember(self.run.config.state / self.relay.ledger, data, attempted=attempted)
