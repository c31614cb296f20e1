# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes of objects between two backups: their format, which instants they reach, and a bucket as of one of them.

A span is an hour of them, and grows as one of WAL does (repository/notes.py). Its files have a JSON object a line,
gzipped: the line of a listing (listing.py) with three more fields.

    {…, "bucket", "at", "deleted"}

at: since when the bucket holds that, by the store's clock; for a deletion, since when it lacks the key. Lines of one
key and one time come in the order of the writes. The bytes are versions in the vault's mirror, as those of a listing.
Beside a file that is encrypted lies one in the clear, with nothing but the versions that it needs.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Annotated, NamedTuple, Optional, TypeVar, Union

from ..base import typed
from ..base.checks import FAIL, PASS, Check
from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, Log, present
from ..base.typed import Range
from ..base.version import VERSION
from ..repository import notes
from ..repository.base import Repository, dated
from ..repository.components import CHANGES
from ..repository.details import CHANGES_FILE, VERSIONS, ChangesDetails, Count, HeldBucket, ObjectsDetails
from ..repository.manifest import Manifest, parse
from ..repository.notes import MOST_FILE, MOST_NOTES, Entry
from ..repository.points import EVENTUAL
from ..repository.sealing import Signature
from ..s3.bucket import Listed
from ..s3.inventory import Inventory
from ..tools import age
from . import listing
from .listing import Point, RawEntry

E = TypeVar("E", bound=Union[RawEntry, Listed])
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MARGIN = timedelta(seconds=2)  # servers tell whole seconds, and a backup has what was written in that of its instant
MOST_BUCKETS = 10_000  # that a note names
_MILLISECOND, _EPOCH = timedelta(milliseconds=1), datetime(1970, 1, 1, tzinfo=timezone.utc)
READ = "read the changes"


class Change(NamedTuple):
    """entry: what the bucket holds since `at`; of a deletion its key alone counts."""

    bucket: str
    at: datetime
    entry: Listed
    deleted: bool = False

    @property
    def encoded(self) -> bytes:
        more = {"bucket": self.bucket, "at": format_time(self.at), "deleted": self.deleted}
        return listing.encode(self.entry)[:-2] + f",{json.dumps(more, separators=(',', ':'))[1:]}\n".encode()


@dataclass(frozen=True)
class _Head:
    """What a line has beyond that of a listing."""

    bucket: str
    at: datetime
    deleted: bool


@dataclass(frozen=True)
class Reached:
    """The changes of every bucket before `at` are in the span; of those in `behind`, before that time, or none."""

    at: datetime
    behind: Mapping[str, Optional[datetime]] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """As repository/notes.py says. from_at, since, endpoint, vault, clock_skew, recipients, host_key: as of
    ChangesDetails, the same in each note of a span but for `since`, which grows. changes, copied, bytes: of its own
    files. listing_seconds: how long the look took; apart_seconds: since the one before it, 0 where it is the first.
    """

    id: str
    stack: str
    number: Annotated[int, Range(1, MOST_NOTES)]
    reached: Reached
    from_at: datetime
    since: Mapping[str, datetime] = field(default_factory=dict)
    pieces: tuple[Entry, ...] = ()
    endpoint: str = ""
    vault: Mapping[str, str] = field(default_factory=dict)
    clock_skew: float = 0.0
    changes: Count = 0
    copied: Count = 0
    bytes: Count = 0
    listing_seconds: float = 0.0
    apart_seconds: float = 0.0
    recipients: tuple[str, ...] = ()
    host_key: str = ""
    previous: str = ""
    component: str = CHANGES
    signature: Optional[Signature] = None

    @property
    def impossible(self) -> str:
        """Why no note of changes can be like this; empty where one can."""
        if self.component != CHANGES:
            return f"it is of {typed.shown(self.component)}"
        if self.reached.at < self.from_at:
            return "it reached less than it begins with"
        if max(len(self.since), len(self.reached.behind)) > MOST_BUCKETS:
            return f"it names more than {MOST_BUCKETS} buckets"
        strange = (each.name for each in self.pieces if not CHANGES_FILE.fullmatch(each.name))
        return next((f"{typed.shown(name)} is not a file of changes" for name in strange), "")


@dataclass(frozen=True)
class Span:
    """What is in a span, open or closed. files: by their names."""

    id: str
    stack: str
    details: ChangesDetails
    files: tuple[Entry, ...] = ()

    @property
    def seal(self) -> age.Seal:
        return age.Seal(self.details.recipients, self.details.host_key)

    def covers(self, bucket: str) -> Optional[tuple[datetime, datetime]]:
        """Between which times its changes of that bucket are complete; None where it was not followed."""
        until = self.details.behind.get(bucket, self.details.last_at)
        begin = self.details.since.get(bucket, self.details.from_at)
        return (begin, until) if until is not None and begin <= until else None

    def manifest(self, finished_at: datetime) -> Manifest:
        """What closes it: sign it by repositories.publish() and give its bytes to repo.finish()."""
        artefacts = tuple(each.artefact for each in self.files)
        at = self.details.last_at
        written = max(finished_at, at)
        tool = {"lifeboat": VERSION}
        return Manifest(
            self.id, CHANGES, self.stack, at, written, artefacts, tool, typed.plain(self.details, nulls=True)
        )


# Reading.


def read_notes(repo: Repository, identity: str, stack: str = "") -> list[tuple[Note, str]]:
    return notes.read(repo, CHANGES, Note, identity, stack, READ)


def _read(repo: Repository, identity: str, stack: str, *, closed: bool) -> Span:
    """One span. Raises as notes.read() does."""
    if not closed:
        return of_notes(read_notes(repo, identity, stack))
    manifest = parse(repo.manifest(CHANGES, identity), component=CHANGES, expected_id=identity)
    if stack and manifest.stack != stack:
        raise notes.wrong(READ, identity, f"it is of the stack {manifest.stack[:80]}")
    return of_manifest(manifest)


def read_open(repo: Repository, ids: Iterable[str], stack: str) -> list[Span]:
    """Those of these spans that are open and can be read."""
    spans = []
    for identity in ids:
        with contextlib.suppress(LifeboatError):
            spans.append(_read(repo, identity, stack, closed=False))
    return spans


def of_notes(chain: Sequence[tuple[Note, str]]) -> Span:
    """The span that these notes are of, which is open."""
    first, last = chain[0][0], chain[-1][0]
    at = first.from_at
    for note, _digest in chain:
        place = (note.stack, note.from_at, note.endpoint, note.vault, note.recipients, note.host_key)
        if place != (first.stack, first.from_at, first.endpoint, first.vault, first.recipients, first.host_key):
            raise notes.wrong(READ, f"{note.id}/{notes.note_name(note.number)}", "it is of another span or store")
        if note.reached.at < at:
            raise notes.wrong(READ, f"{note.id}/{notes.note_name(note.number)}", "it reached less than the one before")
        at = note.reached.at
    files = tuple(sorted((entry for note, _digest in chain for entry in note.pieces), key=lambda entry: entry.name))
    if len({entry.name for entry in files}) != len(files):
        raise notes.wrong(READ, first.id, "it names a file twice")
    details = ChangesDetails(
        first.from_at, at, last.since, last.reached.behind, first.endpoint, first.vault, last.clock_skew,
        sum(note.changes for note, _digest in chain), sum(note.copied for note, _digest in chain),
        sum(note.bytes for note, _digest in chain), max(note.listing_seconds for note, _digest in chain),
        max(note.apart_seconds for note, _digest in chain), {entry.name: entry.bytes for entry in files}, len(chain),
        chain[-1][1], recipients=first.recipients, host_key=first.host_key,
    )  # fmt: skip
    return Span(first.id, first.stack, details, files)


def of_manifest(manifest: Manifest) -> Span:
    """The span that a manifest closed."""
    details = manifest.detailed(ChangesDetails)
    files = (Entry(each.name, each.size, each.sha256, details.lengths[each.name]) for each in manifest.artefacts)
    return Span(manifest.id, manifest.stack, details, tuple(sorted(files, key=lambda entry: entry.name)))


def check(repo: Repository, manifest: Manifest) -> Check:
    """Whether a closed span is what its notes say. A copy has no notes: of that the manifest's own account counts."""
    try:
        span = of_manifest(manifest)
        count, until = span.details.changes, format_time(span.details.last_at)
        if not repo.notes(CHANGES, manifest.id) and span.details.notes:
            return Check("span", PASS, f"{count} changes until {until}; its notes are not here")
        opened = of_notes(read_notes(repo, manifest.id, manifest.stack))
    except LifeboatError as exc:
        return Check("span", FAIL, exc.cause)
    said = replace(opened.details, closed_by=span.details.closed_by, host=span.details.host)
    if (said, opened.files) != (span.details, span.files):
        return Check("span", FAIL, "its manifest says something else than its notes")
    return Check("span", PASS, f"{count} changes until {until}")


def packed(changes: Iterable[Change]) -> bytes:
    """The lines of a file, before they are compressed."""
    return b"".join(change.encoded for change in changes)


def needed(changes: Iterable[Change]) -> bytes:
    """The lines of the file in the clear: what everybody sees who may list the vault's bucket."""
    return packed(
        change._replace(entry=Listed(change.entry.key, change.entry.size, vault_version=change.entry.vault_version))
        for change in changes
        if not change.deleted
    )


def lines(repo: Repository, span: Span, entry: Entry, keys: Optional[age.Keys] = None) -> Iterator[Change]:
    """The changes in one file of a span. Raises IntegrityError where it is not what was written, and as keys do."""
    subject = f"{span.id}/{entry.name}"
    data = b"".join(notes.stored(repo, CHANGES, span.id, entry.artefact, READ))
    seal = span.seal if entry.name.endswith(age.SUFFIX) else age.OPEN
    with (keys or age.keys_of()).stream(io.BytesIO(data), seal, subject=subject) as plain:
        try:
            with gzip.open(plain) as file:
                text = file.read(min(entry.bytes, MOST_FILE) + 1)
        except (OSError, EOFError, zlib.error) as exc:
            raise notes.wrong(READ, subject, str(exc) or repr(exc)) from exc
    if len(text) != entry.bytes:
        raise notes.wrong(READ, subject, f"it has another length than {entry.bytes} bytes")
    for number, raw in enumerate(io.BytesIO(text), 1):
        yield parse_line(raw, f"{subject}, line {number}")


def parse_line(raw: bytes, subject: str) -> Change:
    """One change. Raises IntegrityError where it is none."""

    def wrong(name: str, cause: str) -> LifeboatError:
        return notes.wrong(READ, subject, f"{name} {cause}".strip())

    if len(raw) > listing.LONGEST:
        raise wrong("", f"has more than {listing.LONGEST >> 20} MiB")
    head = typed.build(_Head, typed.load(raw, wrong), wrong, unknown="ignore")
    return Change(head.bucket, head.at, listing.entry(raw, wrong), head.deleted)


@dataclass(frozen=True)
class Trail:
    """Every span of a repository, or of a vault's, oldest first, open ones last. unread: those that cannot be read, and
    why."""

    repo: Repository
    spans: tuple[Span, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, repo: Repository, stack: str, since: Optional[datetime] = None) -> Trail:
        """since: only those that may have what was written down after that."""
        spans, unread = list[Span](), dict[str, str]()
        ids = repo.ids(CHANGES) if CHANGES in repo.folders else []
        closed = {*repo.published(CHANGES)} if ids else set[str]()
        for identity in ids:
            if since is not None and dated(identity) < since - DAY and identity in closed:
                continue
            if identity not in closed and not repo.notes(CHANGES, identity):
                continue  # what no note names is not in it: a sender was killed before the first
            try:
                spans.append(_read(repo, identity, stack, closed=identity in closed))
            except LifeboatError as exc:
                unread[identity] = exc.cause
        return cls(repo, tuple(sorted(spans, key=lambda span: (span.details.from_at, span.id))), unread)

    def reach(self, bucket: str, since: datetime, target: datetime) -> Optional[datetime]:
        """Until when the changes since that time are complete, at most until the target; None where they do not go on
        from there. Spans that do not follow one another leave out what was between them."""
        begin: Optional[datetime] = None
        until: Optional[datetime] = None
        for span in self.spans:
            covered = span.covers(bucket)
            if covered is None:
                continue
            if begin is None or until is None or covered[0] > until:
                if begin is not None and until is not None and begin <= since <= until:
                    break
                begin, until = covered
            else:
                until = max(until, covered[1])
        if begin is None or until is None or not begin <= since <= until:
            return None
        return min(until, target)

    def end(self, bucket: str) -> Optional[datetime]:
        """Until when the bucket was followed; None where it was not."""
        ends = [covered[1] for span in self.spans if (covered := span.covers(bucket))]
        return max(ends, default=None)

    def apart(self, since: datetime) -> float:
        """The longest time between two looks since then, in seconds."""
        return max((span.details.apart_seconds for span in self.spans if span.details.last_at >= since), default=0.0)

    def changes(
        self, bucket: str, since: datetime, until: Optional[datetime], keys: Optional[age.Keys] = None
    ) -> Iterator[Change]:
        """The changes of one bucket between two instants of this host's clock, as they were written down."""
        for span in self.spans:
            if span.details.last_at < since - MARGIN:
                continue
            skew = timedelta(seconds=span.details.clock_skew)
            for entry in span.files:
                if entry.name.endswith(VERSIONS):
                    continue
                for change in lines(self.repo, span, entry, keys):
                    early = change.at <= since + skew - MARGIN
                    late = until is not None and change.at > until + skew - _MILLISECOND
                    if change.bucket == bucket and not (early or late):
                        yield change


# A bucket as of an instant.


@dataclass(frozen=True)
class AsOf(Point):
    """A bucket as it was at an instant after its backup: what that held, with the changes until then.

    instant: which; None: all changes that are known.
    """

    trail: Optional[Trail] = field(default=None, compare=False)
    instant: Optional[datetime] = None

    @property
    def _trail(self) -> Trail:
        return present(self.trail)

    @property
    def at(self) -> datetime:
        return self.instant or self.manifest.taken_at

    @functools.cached_property
    def held_bucket(self) -> HeldBucket:
        """What the backup says of it. What came and went between two looks is in no change."""
        base, apart = self.base.held_bucket, self._trail.apart(self.manifest.taken_at)
        why = f"what was written and deleted again between two looks, at most {apart:.0f} s apart, is not in it"
        return replace(base, consistency=EVENTUAL, why="; ".join(filter(None, (base.why, why))))

    @functools.cached_property
    def base(self) -> Point:
        return Point(self.repo, self.manifest, self.bucket, self.keys)

    def points(self) -> list[Point]:
        """Every bucket of the backup; one whose changes do not reach the instant as the backup has it."""
        return [as_of(point, self._trail, self.instant) for point in self.base.points()]

    def copied(self, folder: object, seal: age.Seal) -> bool:
        del folder, seal  # no listing of it was ever written
        return False

    def problem(self) -> str:
        """Of the backup, or of the changes."""
        return self.base.problem() or "; ".join(self._broken())

    def _broken(self) -> Iterator[str]:
        for span in self._trail.spans:
            if span.details.last_at < self.manifest.taken_at - MARGIN:
                continue
            for entry in span.files:
                try:
                    for _data in notes.stored(self.repo, CHANGES, span.id, entry.artefact, READ):
                        pass
                except LifeboatError as exc:
                    yield f"{span.id}/{entry.name}: {exc.cause}"

    def entries(self, prefix: str = "") -> Iterator[Listed]:
        """The lines below `prefix`, in the order of their keys."""
        return self._merged(self.base.entries(prefix), prefix)

    def lines(self) -> Iterator[Union[RawEntry, Listed]]:
        return self._merged(self.base.lines(), "")

    def _merged(self, before: Iterator[E], prefix: str) -> Iterator[Union[E, Listed]]:
        with Inventory(_TABLES) as inventory:
            self._fill(inventory, prefix)
            changed = (_newest(group) for group in _by_key(inventory))
            entry, change = next(before, None), next(changed, None)
            while entry is not None or change is not None:
                if change is None or (entry is not None and entry.key < change.entry.key):
                    if entry is not None:
                        yield entry
                        entry = next(before, None)
                    continue
                if entry is not None and entry.key == change.entry.key:
                    if _older(change, entry):
                        yield entry
                    elif not change.deleted:
                        yield change.entry
                    entry = next(before, None)
                elif not change.deleted:
                    yield change.entry
                change = next(changed, None)

    def _fill(self, inventory: Inventory, prefix: str) -> None:
        found = self._trail.changes(self.held_bucket.name, self.manifest.taken_at, self.instant, self.keys)
        inventory.add(
            "changed",
            (
                (change.entry.key, (change.at - _EPOCH) // _MILLISECOND, number, change.encoded)
                for number, change in enumerate(found)
                if change.entry.key.startswith(prefix)
            ),
        )

    def versions(self) -> Iterator[tuple[str, str]]:
        for entry in self.entries():
            yield entry.key, entry.vault_version


_TABLES = {"changed": "key TEXT, at INT, number INT, line BLOB, PRIMARY KEY (key, at, number)"}


def _by_key(inventory: Inventory) -> Iterator[Iterator[bytes]]:
    rows = inventory.each("SELECT key, line FROM changed ORDER BY key, at, number")
    for _key, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield (line for _same, line in group)


def _newest(group: Iterator[bytes]) -> Change:
    *_older_ones, last = group
    return parse_line(last, "changed")


def _older(change: Change, entry: Union[RawEntry, Listed]) -> bool:
    """Whether the backup has something newer: of one time what was deleted is gone, and another version came later."""
    modified = entry.modified if isinstance(entry, Listed) else parse_time(entry.modified)
    return modified is not None and change.at < modified


def as_of(point: Point, trail: Trail, target: Optional[datetime]) -> Point:
    """The bucket as it was at that instant; the backup's own where its changes do not reach it. None: as is known."""
    if not point.holds or (target is not None and target <= point.manifest.taken_at):
        return point
    name, since = point.held_bucket.name, point.manifest.taken_at
    if target is not None and trail.reach(name, since, target) != target:
        return point
    return AsOf(point.repo, point.manifest, point.bucket, point.keys, trail, target)


def reaches(manifest: Manifest, trail: Trail, target: datetime) -> bool:
    """Whether the changes since that backup reach the instant, of the application's bucket."""
    since, name = manifest.taken_at, manifest.detailed(ObjectsDetails).primary.name
    return since < target and trail.reach(name, since, target) == target


# What goes, and what it needs of the mirror.


def outdated(
    spans: Sequence[Span], backups: Sequence[datetime], window: timedelta, holds: Sequence[datetime] = ()
) -> list[str]:
    """The spans that no instant of the window needs: those behind the newest of these backups that is older than the
    window, which is counted back from the newest of them. Without such a backup nothing goes. holds: when the backups
    were taken that recoveries hold; what is behind them stays."""
    ordered = sorted(backups)
    before = [at for at in ordered if at <= ordered[-1] - window]
    oldest = min([before[-1], *holds]) if before else None
    return [span.id for span in spans if oldest is not None and span.details.last_at < oldest - MARGIN]


@dataclass(frozen=True)
class Needed(Point):
    """What a span needs of the mirror, as a prune asks for it; bucket: by its name in the store."""

    span: Optional[Span] = None
    primary: str = ""

    def points(self) -> list[Point]:
        names = sorted({change.bucket for change in self._lines()})
        return [replace(self, bucket="" if name == self.primary else name) for name in names]

    def problem(self) -> str:
        try:
            for _change in self._lines():
                pass
        except LifeboatError as exc:
            return exc.cause
        return ""

    def versions(self) -> Iterator[tuple[str, str]]:
        name = self.bucket or self.primary
        for change in self._lines():
            if change.bucket == name and not change.deleted:
                yield change.entry.key, change.entry.vault_version

    def _lines(self) -> Iterator[Change]:
        """In the clear, where the lines are encrypted."""
        if self.span is None:
            return
        clear = [entry for entry in self.span.files if not entry.name.endswith(age.SUFFIX)]
        for entry in clear:
            yield from lines(self.repo, self.span, entry)


def needs(repo: Repository, span: Span, primary: str) -> Needed:
    return Needed(repo, span.manifest(span.details.last_at), "", None, span, primary)


def warn(trail: Trail, log: Log) -> None:
    """Say which spans cannot be read: an instant in them cannot be gone to."""
    for identity, why in trail.unread.items():
        log(f"WARNING: {identity} is passed over: {why}")
