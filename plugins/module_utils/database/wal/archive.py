# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The WAL of a repository as the files that PostgreSQL reads: segments put together, histories, decrypted here.

"It is not in the archive" and "the archive cannot be read" are two answers: the first one is False, the second one
raises. A recovery that took the one for the other would end early and call that the end of the WAL.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ...base import filesystem, pipeline
from ...base.errors import IntegrityError, LifeboatError, UnverifiedError, unable
from ...base.filesystem import explained
from ...base.pipeline import Command
from ...repository import manifest as manifests
from ...repository.base import Repository
from ...repository.components import BASE, WAL
from ...repository.details import BaseDetails, WalDetails
from ...repository.manifest import Artefact
from ...stack.runtime import Opened
from ...tools import age
from ...wal import catalogue, notes, segments, spans
from ...wal.catalogue import Base, Catalogue, Route
from ...wal.instants import At, Position
from ...wal.notes import Reached
from ...wal.segments import Fork, parse_lsn, wrong
from ...wal.spans import Piece, Span

READ = "read the WAL of the repository"
_UNPACK = ("zstd", "--decompress", "--stdout", "--quiet")
_PAGE = 8192  # bytes of a page of WAL, unless PostgreSQL was built otherwise
_SHORT_PAGE, _LONG_PAGE = 24, 40  # bytes of the header of a page, and of a segment's first one


class Archive:
    """What a repository has of one stack's WAL. folder: a private directory, for what is decrypted on the way."""

    def __init__(self, run: Opened, repo: Repository, folder: Path) -> None:
        self.run, self.repo, self.folder = run, repo, folder
        self.passed_over: list[str] = []
        self.spans = tuple(self._spans())
        self.marks: tuple[Reached, ...] = ()
        self._segments: dict[str, list[tuple[Span, Piece]]] = {}
        self._histories: dict[tuple[str, str], tuple[Span, Artefact]] = {}
        self._seals: dict[str, age.Seal] = {}
        self._system = ""
        for span in self.spans:
            for artefact in span.histories:
                plain = segments.history_name(segments.history_timeline(artefact.name))
                self._histories[span.system, plain] = (span, artefact)

    def _spans(self) -> Iterator[Span]:
        begun = {*self.repo.growing(WAL)}
        for identity in self.repo.ids(WAL):
            if identity in begun and not self.repo.notes(WAL, identity):
                continue  # no note names what is in it yet
            try:
                yield spans.read(self.repo, identity, self.run.config.stack)
            except IntegrityError as exc:
                self.passed_over.append(f"{identity}: {exc.cause}")

    def catalogue(self) -> Catalogue:
        """What can be gone back to. Raises LifeboatError where what is there cannot be read."""
        histories = {key: self._forks(*key) for key in sorted({(span.system, span.timeline) for span in self.spans})}
        self.marks = tuple(self._marks())
        found = catalogue.assemble(self._bases(), self.spans, histories, self.marks)
        return replace(found, passed_over=tuple(self.passed_over))

    def _bases(self) -> list[Base]:
        bases = []
        for identity in self.repo.published(BASE):
            try:
                manifest = manifests.parse(self.repo.manifest(BASE, identity), component=BASE, expected_id=identity)
                details = manifest.detailed(BaseDetails)
            except IntegrityError as exc:
                self.passed_over.append(f"{identity}: {exc.cause}")
                continue
            bases.append(
                Base(
                    identity, details.system_identifier, details.server_version_num, details.timeline,
                    parse_lsn(details.start), parse_lsn(details.stop), manifest.finished_at, details.segment_size,
                )
            )  # fmt: skip
        return bases

    def _marks(self) -> Iterator[Reached]:
        """What notes say was reached, of spans with a hole or an end: elsewhere the manifests are near enough."""
        last = {(span.system, span.timeline): span.id for span in sorted(self.spans, key=lambda span: span.end)}
        for span in self.spans:
            if span.gaps or span.id in last.values() or not span.closed:
                for name in self.repo.notes(WAL, span.id):
                    data = self.repo.read_note(WAL, span.id, name)
                    yield notes.parse(data, span.id, notes.note_number(name), span.stack).reached

    def _forks(self, system: str, timeline: int) -> Sequence[Fork]:
        data = self._history(system, segments.history_name(timeline)) if timeline > 1 else None
        return segments.parse_history(data, timeline) if data is not None else ()

    # The files.

    def use(self, system: str) -> None:
        """Serve the WAL of that server from now on: the names of two servers' segments are the same."""
        self._system = system
        self._segments = {}
        for span in sorted(self.spans, key=lambda span: (span.timeline, span.start)):
            if span.system == system:
                for piece in span.pieces:
                    self._segments.setdefault(piece.name.segment.name, []).append((span, piece))

    def has(self, name: str) -> bool:
        """Whether there is a file of that name: a segment from its first byte on, or a history."""
        if segments.history_timeline(name):
            return (self._system, name) in self._histories
        return any(piece.name.offset == 0 for _span, piece in self._segments.get(name, ()))

    def write(self, name: str, target: Path) -> bool:
        """Write the file as PostgreSQL reads it. False where the repository does not have it. Raises LifeboatError
        where it has it and it cannot be read, or is damaged."""
        if not self.has(name):
            return False
        with explained(READ, target), filesystem.create(target) as file:
            if segments.history_timeline(name):
                file.write(self._history(self._system, name) or b"")
            else:
                owners = {piece: span for span, piece in self._segments[name]}
                ordered = _together(sorted(owners, key=lambda piece: piece.start))
                spans.put_together(
                    file, ordered[0].name.segment, ordered, lambda piece: self._plain(owners[piece], piece)
                )
        target.chmod(0o644)  # the server's user reads it; nobody else comes so far
        return True

    def end(self, route: Route) -> int:
        """Where the WAL ends that is replayed, as far as is known: not before it."""
        instant, until = route.instant, route.until
        if isinstance(instant, Position):
            return instant.lsn
        marks = [*self.marks, *(span.reached for span in self.spans)]
        stream = (until.system, until.timeline)
        behind = [
            mark.position
            for mark in marks
            if isinstance(instant, At) and mark.at >= instant.moment and (mark.system, mark.timeline) == stream
        ]
        return min([*behind, until.position])

    def require(self, route: Route, end: int) -> int:
        """See that all WAL is as it was written that leads from the route's base to that position. Returns how many
        bytes of the repository it is. Raises IntegrityError with the instant before what is damaged."""
        read = 0
        for span, piece in self._leading(route, end):
            try:
                read += sum(map(len, spans.stored(self.repo, span.id, piece.artefact)))
            except IntegrityError as exc:
                exc.remedy = f"Go to an instant before it: before={segments.format_lsn(piece.start)}. {exc.remedy}"
                raise
        return read

    def leading(self, route: Route) -> list[str]:
        """The spans that have the WAL from the route's base to its instant, and those with its timelines' histories."""
        ids = {span.id for span, _piece in self._leading(route, self.end(route))}
        return sorted(
            ids | {span.id for (system, _name), (span, _file) in self._histories.items() if system == route.base.system}
        )

    def _leading(self, route: Route, end: int) -> Iterator[tuple[Span, Piece]]:
        """The pieces from the base to that position, on its timeline and on those that this one was forked off."""
        left = {fork.parent: fork.position for fork in route.window.path}
        for span in sorted(self.spans, key=lambda span: (span.timeline, span.start)):
            if span.system != route.base.system or not route.base.timeline <= span.timeline <= route.timeline:
                continue
            if span.timeline != route.timeline and span.timeline not in left:
                continue
            until = min(end, left.get(span.timeline, end)) if span.timeline != route.timeline else end
            yield from ((span, piece) for piece in span.pieces if piece.end > route.base.start and piece.start < until)

    def _history(self, system: str, name: str) -> Optional[bytes]:
        span, artefact = self._histories.get((system, name), (None, None))
        if span is None or artefact is None:
            return None
        stored = b"".join(spans.stored(self.repo, span.id, artefact))
        seal = self._seal(span) if artefact.name.endswith(age.SUFFIX) else age.OPEN
        return self._decrypted(stored, seal, f"{span.id}/{name}", segments.HISTORY_BYTES)

    def _plain(self, span: Span, piece: Piece) -> Iterable[bytes]:
        """The bytes of the log that a piece has."""
        stored = b"".join(spans.stored(self.repo, span.id, piece.artefact))
        subject, name = f"{span.id}/{piece.name}", piece.artefact.name
        seal = self._seal(span) if name.endswith(age.SUFFIX) else age.OPEN
        return [self.unpacked(stored, seal, subject, piece.bytes)]

    def unpacked(self, stored: bytes, seal: age.Seal, subject: str, limit: int) -> bytes:
        """What was compressed and then encrypted. Raises IntegrityError where it is more than `limit` bytes, or
        damaged."""
        packed = self._decrypted(stored, seal, subject, limit + notes.MORE_STORED)
        sink = _Bounded(limit, subject)
        try:
            pipeline.run(
                [Command(_UNPACK)], attempted=READ, subject=subject, source=io.BytesIO(packed), sink=sink, timeout=300
            )
        except IntegrityError:
            raise
        except LifeboatError as exc:
            if exc.exit_status is None or unable(exc.exit_status):
                raise UnverifiedError(READ, subject, exc.cause, "apt install zstd") from exc
            raise wrong(READ, subject, f"it cannot be unpacked: {exc.cause}") from exc
        return bytes(sink.data)

    def _decrypted(self, stored: bytes, seal: age.Seal, subject: str, limit: int) -> bytes:
        if not seal.recipients:
            return stored
        identity = age.keys(self.run.config, self.run.key).opening(seal, subject)
        with filesystem.scratch("piece-", self.folder) as private, explained(READ, private):
            with filesystem.create(private / "sealed") as file:
                file.write(stored)
            return age.decrypt_bytes(
                private / "sealed", identity, subject=subject, recipients=seal.everybody, limit=limit
            )

    def _seal(self, span: Span) -> age.Seal:
        """For whom a span is encrypted. One that is open does not say yet, nor does one that a keeper closed: for those
        of the configuration, and for any key of this host."""
        if span.id not in self._seals:
            own = [key.recipient for key in age.HostKeys(self.run.config.state).all()]
            seal = age.Seal((*self.run.config.encryption.recipients, *own))
            if span.closed:
                manifest = manifests.parse(self.repo.manifest(WAL, span.id), component=WAL, expected_id=span.id)
                details = manifest.detailed(WalDetails)
                if details.recipients:
                    seal = age.Seal(details.recipients, details.host_key)
            self._seals[span.id] = seal
        return self._seals[span.id]

    # Where it ends.

    def ends_at(self, timeline: int, position: int, until: int, size: int) -> bool:
        """Whether the WAL ends at that position, where a server found no record more: all until `until` was received.
        Behind it lies nothing but the beginning of a record that was not written whole."""
        if position >= until:
            return True
        name = segments.segment_at(timeline, position, size).name
        target = self.folder / f"end-{name}"
        if until - position > size or not self.write(name, target):
            return False
        try:
            with explained(READ, target), filesystem.open_file(target) as file:
                segment = segments.segment_at(timeline, position, size)
                file.seek(position - segment.start)
                head = file.read(_LONG_PAGE + 4)
        finally:
            target.unlink(missing_ok=True)
        skipped = 0 if position % _PAGE else (_LONG_PAGE if position % size == 0 else _SHORT_PAGE)
        length = int.from_bytes(head[skipped : skipped + 4], sys.byteorder)
        return until - position <= _PAGE if length == 0 else position + skipped + length > until


def _together(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces of a segment from its first byte on, until the first one that does not follow."""
    chosen: list[Piece] = []
    for piece in pieces:
        if piece.start != (chosen[-1].end if chosen else piece.name.segment.start):
            break
        chosen.append(piece)
    return chosen


class _Bounded:
    """What is unpacked, and no more of it than the note said."""

    def __init__(self, limit: int, subject: str) -> None:
        self.data, self._limit, self._subject = bytearray(), limit, subject

    def write(self, data: bytes, /) -> None:
        self.data += data
        if len(self.data) > self._limit:
            raise wrong(READ, self._subject, f"it has more than the {self._limit} bytes that its note says")
