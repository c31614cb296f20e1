# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a base, and the WAL behind it, by a throw-away server that replays them.

archive: it stands where the WAL ends that was received.
restore: it stands at the cut of the newest dump, which is judged once more over all WAL since the base; then it is
opened for writing, has the very rows that the dump's fingerprint has, and amcheck reads every table and index.

It is opened first: a transaction that has not ended at the cut may hold a table locked for as long as the server only
replays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Optional

from ...base import filesystem
from ...base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, ended
from ...base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UnverifiedError, UsageError
from ...base.text import named, several
from ...repository import catalog
from ...repository import manifest as manifests
from ...repository.base import Repository
from ...repository.components import DATABASE, WAL
from ...repository.details import BaseDetails, Cut, DatabaseDetails
from ...repository.manifest import Manifest
from ...stack.runtime import Opened
from ...tools import age
from ...wal import cuts, spans
from ...wal.catalogue import Route, Window
from ...wal.instants import Latest, Position
from ...wal.segments import parse_lsn
from .. import fingerprint
from ..fingerprint import FINGERPRINT, Fingerprint
from ..methods.logical import proof as logical
from ..server import answers
from . import standing, when
from .archive import Archive
from .rows import TRANSACTIONS
from .standing import Standing

PROVE = "prove a base"
REPLAY, CUT, PROMOTION = "replay", "cut", "promotion"
_WRITE = "CREATE SCHEMA lifeboat_verify; DROP SCHEMA lifeboat_verify;"
_PATIENCE = "SET lock_timeout = '60s';"  # of a prepared transaction that holds a table
# A replay leaves such a table empty and such a sequence at its beginning, and WAL has nothing of them.
_UNLOGGED = """SELECT to_json(format('%I.%I', n.nspname, c.relname)) FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'S') AND c.relpersistence = 'u';"""


@dataclass(frozen=True)
class Goal:
    """A dump whose cut lies behind the base."""

    dump: Manifest
    cut: Cut

    @property
    def position(self) -> int:
        return parse_lsn(self.cut.lsn)


def levels(run: Opened, repo: Repository, base: Manifest, level: str, log: Log) -> Iterator[Check]:
    """The checks of archive, and of restore where that is asked for; the checksums were compared before."""
    goal, why = _goal(run, repo, base) if level == "restore" else (None, "")
    with standing.archive(run, repo) as archive:
        try:
            route = _route(archive, base, goal)
        except LifeboatError as exc:
            # WAL that is there and cannot be read is damage; WAL that was never received is none.
            lost = "; ".join(archive.passed_over[:3]) if isinstance(exc, UsageError) else ""
            yield Check(REPLAY, FAIL, lost) if lost else ended(REPLAY, exc)
            return
        judged = _judged(run, archive, route, goal, log) if goal else Check(CUT, COULD_NOT_VERIFY, why)
        with contextlib.ExitStack() as stack:
            try:
                room = stack.enter_context(standing.standing(run, archive, route, log))
            except LifeboatError as exc:
                yield ended(REPLAY, exc)
                return
            yield _replayed(room)
            if level == "restore":
                yield judged
                yield from _compared(run, repo, room, goal, log) if goal and judged.result == PASS else ()


def _goal(run: Opened, repo: Repository, base: Manifest) -> tuple[Optional[Goal], str]:
    """The newest dump that the base can be compared with; else why there is none, of the newest one."""
    details, reasons = base.detailed(BaseDetails), list[str]()
    for identity in reversed(repo.published(DATABASE)):
        entry = catalog.entry(repo, DATABASE, identity)
        manifest = entry.manifest
        if manifest is None or not entry.good:
            reasons.append(f"{identity}: {entry.problem}")
            continue
        if manifest.stack != run.config.stack:
            continue
        if manifest.finished_at < base.taken_at:
            break
        cut = manifest.detailed(DatabaseDetails).cut
        if cut is None:
            reasons.append(f"{identity}: nobody looked for a cut when it was taken")
        elif cut.why:
            reasons.append(f"{identity}: {cut.why}")
        elif cut.system == details.system_identifier and parse_lsn(cut.lsn) >= parse_lsn(details.stop):
            return Goal(manifest, cut), ""
        else:
            reasons.append(f"{identity}: it was taken before the base, or of another server")
    return None, reasons[0] if reasons else "no dump was taken since the base, with which it could be compared"


def _route(archive: Archive, base: Manifest, goal: Optional[Goal]) -> Route:
    """From the base to the cut, or to the end of the WAL. UsageError where that was not received."""
    windows = [each for each in archive.catalogue().windows if base.id in [own.id for own in each.bases]]
    if goal:
        windows = [each for each in windows if each.timeline == goal.cut.timeline]
    if not windows:
        raise UsageError(PROVE, base.id, "no WAL that was received leads on from it", "See: lifeboat wal instants.")
    window = windows[-1]
    _require_whole(archive, base, window)
    own = next(each for each in window.bases if each.id == base.id)
    if goal is None:
        return Route(Latest(), own, window.timeline, window)
    if goal.position > window.until.position:
        cause = f"the WAL from it was received until {window.until.lsn}, and the cut of {goal.dump.id} is behind that"
        raise UsageError(PROVE, base.id, cause, "Wait until it was sent, or see: lifeboat wal status.")
    return Route(Position(goal.position), own, window.timeline, window)


def _require_whole(archive: Archive, base: Manifest, window: Window) -> None:
    """Raise IntegrityError where the notes of a closed span on the way are not those that it was closed with: a replay
    reads its pieces alone."""
    start = parse_lsn(base.detailed(BaseDetails).start)
    for span in archive.spans:
        if span.closed and span.system == window.system and span.end > start:
            manifest = manifests.parse(archive.repo.manifest(WAL, span.id), component=WAL, expected_id=span.id)
            check = spans.check(archive.repo, manifest)
            if check.result != PASS:
                raise IntegrityError(PROVE, span.id, check.detail, "Keep it for inquiry. Take a new base.")


def _judged(run: Opened, archive: Archive, route: Route, goal: Goal, log: Log) -> Check:
    """The cut once more, over every COMMIT since the base and not the last second's alone."""
    search = cuts.Search(cuts.parse(goal.cut.snapshot))
    try:
        end = parse_lsn(goal.cut.until)
        with when.dump(run, archive, route.window, route.base.start, log, end) as source:
            source.scan(TRANSACTIONS, reader=search)
    except LifeboatError as exc:
        return ended(CUT, exc)
    if why := cuts.differs(search, goal.position):
        return Check(CUT, FAIL, f"{goal.dump.id}: {why}")
    words = f"{goal.cut.lsn}, the snapshot of {goal.dump.id}, by {search.commits} COMMITs since the base"
    return Check(CUT, PASS, words)


def _replayed(room: Standing) -> Check:
    reached = room.reached
    if reached is None:
        raise UnverifiedError(PROVE, room.name, "it does not stand anywhere")
    words = f"stands at {reached.lsn}, after {reached.files} files of WAL in {reached.replayed} s"
    return Check(REPLAY, PASS, words)


def _compared(run: Opened, repo: Repository, room: Standing, goal: Goal, log: Log) -> Iterator[Check]:
    try:
        expected = _expected(run, repo, goal.dump)
    except LifeboatError as exc:  # it says nothing of the base
        yield Check("fingerprint", COULD_NOT_VERIFY, f"that of {goal.dump.id} cannot be read: {exc.cause}")
        return
    try:
        room.promote()
        room.server.execute(_WRITE, attempted="write into the server")
    except LifeboatError as exc:
        yield ended(PROMOTION, exc)
        return
    yield Check(PROMOTION, PASS, "it opened for writing, and took a write")
    name = goal.dump.detailed(DatabaseDetails).primary.name
    log(f"comparing {named(name)} with the fingerprint of {goal.dump.id}")
    try:
        yield from _equal(room, name, expected)
    except LifeboatError as exc:
        yield ended("comparison", exc)
        return
    yield logical.amcheck(room.name, room.server, run.config.database.jobs, run.config.timeout, "--all")
    try:
        room.stop()
    except LifeboatError as exc:
        yield ended("stop", exc)


def _expected(run: Opened, repo: Repository, dump: Manifest) -> Fingerprint:
    details = dump.detailed(DatabaseDetails)
    seal = age.Seal(details.recipients, details.host_key)
    name = seal.named(FINGERPRINT)
    artefact = next((item for item in dump.artefacts if item.name == name), None)
    if artefact is None:
        raise NotFoundError(PROVE, dump.id, f"it has no {name}")
    with repo.materialise(DATABASE, dump.id) as folder:
        with filesystem.explained(PROVE, folder / name):
            stored = filesystem.read_file(folder / name, fingerprint.LARGEST)
        if filesystem.sha256(stored) != artefact.sha256:
            raise IntegrityError(PROVE, f"{dump.id}/{name}", "it has another SHA-256 than when it was written")
        keys = age.keys(run.config, run.key)
        with keys.opened(folder, seal, subject=dump.id, only=lambda each: each == name) as plain:
            return fingerprint.facts_of(plain)


def _equal(room: Standing, name: str, expected: Fingerprint) -> Iterator[Check]:
    """Against the fingerprint that was taken in the living server, in the dump's snapshot."""
    attempted = "compare the replayed database"
    with room.server.session(name) as session:
        session.rows(f"{_PATIENCE}\nBEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", attempted=attempted)
        found = fingerprint.take(session, expected.level, expected.scheme, expected.facts.major)
        ahead = fingerprint.reserve(session)
        unlogged = answers(str, session.rows(_UNLOGGED, attempted=attempted))
    tables = sorted({*unlogged} & {*expected.tables, *found.tables})
    expected, found = (_logged(each, unlogged) for each in (expected, found))
    for check in fingerprint.compare(expected, found, ahead=ahead):
        if check.kind == "tables" and tables:
            words = f"{check.detail}; without {several('unlogged table', tables)}, of which WAL has nothing"
            yield replace(check, detail=words)
        else:
            yield check


def _logged(facts: Fingerprint, unlogged: Collection[str]) -> Fingerprint:
    """Without what WAL has nothing of."""
    tables = {name: table for name, table in facts.tables.items() if name not in unlogged}
    before = {name: stood for name, stood in facts.sequences.before.items() if name not in unlogged}
    return replace(facts, tables=tables, sequences=replace(facts.sequences, before=before))
