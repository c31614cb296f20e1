# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is what was in the vault still there? Asked from another machine than the host, with a key that only reads.

A key that may write to the vault can hide every backup behind delete markers, or put another one in its place, and an
attacker who has the host switches the host's own alarms off. So this machine remembers what it saw, in a file of its
own, and says what is missing. What the retention of the inventory would have removed by now is no alarm; everything
else stays one until an operator accepts it here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, Optional

from ..base import filesystem, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError
from ..repository import points, retention, sealing
from ..repository.base import Altered, Hidden, Repository
from ..repository.catalog import Entry
from ..repository.points import PointEntry
from ..repository.sealing import Sealed
from ..s3 import client as s3_client
from ..settings.config import Config
from ..stack.runtime import Opened
from . import clock_guard, escrow_record
from .verify_proof import Result

LEVEL = "look"
NAME = "escrow-look.json"
MOST = 32 << 20  # bytes of the file: a hundred thousand backups have fewer
_SHOWN = 20
_SCHEMA = "lifeboat.dr/escrow-look"
_READ = "read what was seen in the vault"


@dataclass(frozen=True)
class Document:
    """A manifest or a recovery point. at: when it was first seen. seal: empty where it could not be read."""

    at: datetime
    seal: str = ""


@dataclass(frozen=True)
class Last:
    """The highest sequence of a chain: of what one key signed of one component."""

    id: str
    sequence: int


@dataclass(frozen=True)
class Snapshot:
    """What was seen in one repository. accepted: ids that an operator said are right, and when."""

    at: datetime
    documents: Mapping[str, Document] = field(metadata={"json": "seen"})
    last: Mapping[str, Last]
    accepted: Mapping[str, datetime]


@dataclass(frozen=True)
class _Looks:
    """No field has a default: a file without one is damaged, and not that of a first look."""

    schema: str
    version: tuple[int, ...]
    places: Mapping[str, Snapshot]


class Alarm(NamedTuple):
    id: str
    detail: str


class _Now(NamedTuple):
    """The vault as it is. unread: ids whose document could not be read, and why. versions: why they are unknown."""

    seals: Mapping[str, str]
    last: Mapping[str, Last]
    unread: Mapping[str, str]
    hidden: Mapping[str, Hidden]
    altered: Mapping[str, Altered]
    versions: str
    backups: Mapping[str, Sequence[Entry]]
    tied: Sequence[PointEntry]


def compare(
    run: Opened, *, path: Optional[Path] = None, accept: Collection[str] = (), now: datetime, log: Log
) -> Result:
    """Compare the vault with what was seen there the last time, and remember what is there now.

    path: of the memory. accept: ids whose alarm an operator has looked into. Raises IntegrityError where the memory is
    damaged, too large or another's: nothing is compared then, and nothing is written.
    """
    config, vault = run.config, escrow_record.store(run)
    path = path or config.state / NAME
    started = datetime.now(timezone.utc)
    before = _read(path)
    try:
        vault.check(writable=False)
        there = _now(vault, config)
    except LifeboatError as exc:
        refused = s3_client.refuses(exc)
        found = [Check("vault credentials", FAIL if refused else COULD_NOT_VERIFY, str(exc))]
        return Result(config.stack, LEVEL, tuple(found), started, datetime.now(timezone.utc))
    place = before.places.get(vault.address)
    known = place or Snapshot(now, {}, {}, {})
    alarms = _alarms(config, known, there, now)
    strange = sorted(set(accept) - {alarm.id for alarm in alarms})
    if strange:
        remedy = "`lifeboat escrow --look` names them."
        raise NotFoundError("accept what is missing", ", ".join(strange), "no alarm has that id", remedy)
    accepted = {**known.accepted, **dict.fromkeys(accept, now)}
    kept = _remembered(known, there, alarms, accepted, now)
    _write(path, replace(before, places={**before.places, vault.address: kept}))
    for identity in accept:
        log(f"{identity}: accepted")
    alarms = [alarm for alarm in alarms if alarm.id not in accepted]
    checks = (Check("vault credentials", PASS, f"they read {vault.address}"), *_checks(place, there, alarms))
    return Result(config.stack, LEVEL, checks, started, datetime.now(timezone.utc))


def _now(vault: Repository, config: Config) -> _Now:
    backups = points.backups(vault, config.stack)
    tied = points.entries(vault, config.stack, backups)
    seals: dict[str, str] = {}
    unread: dict[str, str] = {}
    last: dict[str, Last] = {}
    for entry in (*(entry for some in backups.values() for entry in some), *tied):
        document = entry.sealed
        seals[entry.id] = document.seal if document else ""
        if document is None:
            unread[entry.id] = entry.problem
        elif document.signature:
            chain, sequence = _chain(document), document.signature.sequence
            if chain not in last or last[chain].sequence < sequence:
                last[chain] = Last(entry.id, sequence)
    hidden: Mapping[str, Hidden] = {}
    altered: Mapping[str, Altered] = {}
    versions = ""
    try:
        hidden, altered = vault.look_back()
    except LifeboatError as exc:
        versions = exc.cause
    return _Now(seals, last, unread, hidden, altered, versions, backups, tied)


def _chain(document: Sealed) -> str:
    """Whose it is, and of what. The signature was checked where signers are pinned."""
    opened = sealing.opened(document.to_bytes(), document.id, document.document)
    return f"{document.document}/{opened.component} {opened.key}"


def _alarms(config: Config, known: Snapshot, there: _Now, now: datetime) -> list[Alarm]:
    """Everything that is not as it was, accepted or not, by id."""
    hidden = {name: item for name, item in there.hidden.items() if name not in there.seals}
    # Of what was seen here it is known that it had a document, also where every version of that was destroyed.
    hidden |= {name: Hidden(True, True) for name in known.documents if name not in there.seals}
    lost = clock_guard.alarms(hidden, {}, there.backups, there.tied, retention.policy(config), now)
    found = [Alarm(name, _lost(name, known, there)) for name in lost]
    for name in clock_guard.overwritten(there.altered):
        found.append(Alarm(name, f"{name}: {_versioned(there.altered[name])}"))
    told = {alarm.id for alarm in found}
    for name, seen in known.documents.items():
        seal = there.seals.get(name, "")
        if name not in told and seal and seen.seal and seal != seen.seal:
            found.append(
                Alarm(name, f"{name}: it is another document than was seen: its seal is {seal}, not {seen.seal}")
            )
    found += _back(known, there, {alarm.id for alarm in found})
    return sorted(found)


def _lost(name: str, known: Snapshot, there: _Now) -> str:
    altered = there.altered.get(name)
    if altered is not None:
        return f"{name}: {_versioned(altered)}"
    first = known.documents.get(name)
    since = f"was seen since {format_time(first.at)}" if first else "was there"
    return f"{name}: its document {since}, and nothing of it is there now, in no version"


def _versioned(altered: Altered) -> str:
    return f"{altered.detail}, {altered.version}" if altered.version else altered.detail


def _back(known: Snapshot, there: _Now, alarmed: Collection[str]) -> Iterator[Alarm]:
    """The last of a chain is missing or another one, so that its sequence is lower than before. What retention removed
    of a key that signs no longer is not missing."""
    for chain, last in known.last.items():
        newest = there.last.get(chain)
        if newest is not None and newest.sequence >= last.sequence:
            continue
        if last.id in alarmed or (last.id in there.seals and last.id not in there.unread):
            here = f"now the highest is {newest.sequence}, of {newest.id}" if newest else "none of its key is there"
            words = f"{last.id}: the sequence of {chain.partition(' ')[0]} went back: it was {last.sequence}, {here}"
            yield Alarm(last.id, words)


def _remembered(
    known: Snapshot, there: _Now, alarms: Sequence[Alarm], accepted: Mapping[str, datetime], now: datetime
) -> Snapshot:
    """What is there, and what an alarm is about, so that it is one the next time as well."""
    about = {alarm.id for alarm in alarms}
    seen = {name: item for name, item in known.documents.items() if name in about and name not in accepted}
    for name, seal in there.seals.items():
        before = known.documents.get(name)
        if before is None or name in accepted:
            seen[name] = Document(now, seal)
        else:  # with the first seal that could be read: another one is an alarm, also tomorrow
            seen[name] = replace(before, seal=before.seal or seal)
    last = dict(there.last)
    for chain, item in known.last.items():
        went_back = chain not in last or last[chain].sequence < item.sequence
        if went_back and item.id in about and item.id not in accepted:
            last[chain] = item
    still = {name: at for name, at in accepted.items() if name in about}
    return Snapshot(now, seen, last, still)


def _checks(known: Optional[Snapshot], there: _Now, alarms: Sequence[Alarm]) -> Iterator[Check]:
    name = "what was seen before"
    if not there.seals:
        yield Check("backups", FAIL, "there is no backup and no recovery point")
    for alarm in alarms[:_SHOWN]:
        yield Check(name, FAIL, alarm.detail)
    if len(alarms) > _SHOWN:
        yield Check(name, FAIL, f"and {len(alarms) - _SHOWN} more")
    if there.versions:
        yield Check("old versions", COULD_NOT_VERIFY, f"they cannot be listed: {there.versions}")
    unread = [f"{identity}: {why}" for identity, why in there.unread.items()]
    if unread:
        words = "; ".join(unread[-3:])
        yield Check("documents", COULD_NOT_VERIFY, f"{len(unread)} could not be read or are untrusted: {words}")
    if known is None:
        words = f"nothing was seen here before; {len(there.seals)} documents are remembered for the next look"
        yield Check(name, COULD_NOT_VERIFY, words)
    elif not alarms:
        words = f"all of {len(known.documents)} documents of {format_time(known.at)} are there, or their time is over"
        yield Check(name, PASS, words)


def _read(path: Path) -> _Looks:
    """Nothing where there is no such file."""

    def wrong(name: str, cause: str) -> LifeboatError:
        return IntegrityError(
            _READ, str(path), f"{name} {cause}".strip(),
            "Nothing was compared. Find out who wrote it; without the file the next look only remembers what is there.",
        )  # fmt: skip

    try:
        with filesystem.open_below(path.parent, (path.name,)) as file:
            mode, data = os.fstat(file.fileno()), file.read(MOST + 1)
    except FileNotFoundError:
        return _Looks(_SCHEMA, (1, 0), {})
    except OSError as exc:
        raise wrong("", exc.strerror or str(exc)) from exc
    if mode.st_mode & 0o077 or mode.st_uid != os.geteuid():
        raise wrong("", "it is not a private file of this user (0600)")
    if len(data) > MOST:
        raise wrong("", f"it has more than {MOST} bytes")
    found = typed.build(_Looks, typed.load(data, wrong), wrong)
    if (found.schema, found.version[:1]) != (_SCHEMA, (1,)):
        raise wrong("schema", f"is {found.schema} {found.version}")
    return found


def _write(path: Path, looks: _Looks) -> None:
    attempted = "remember what was seen in the vault"
    data = json.dumps(typed.plain(looks), separators=(",", ":")).encode() + b"\n"
    if len(data) > MOST:
        cause = f"there is so much of it that the file would have {len(data)} bytes, more than {MOST}"
        raise LifeboatError(attempted, str(path), cause, "Remove from the vault what does not belong there.")
    with filesystem.explained(attempted, path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        filesystem.write(path, data, temporary)
