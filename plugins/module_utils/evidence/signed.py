# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The signature in the record of a drill: by the key of the host, and believed of the signers of the inventory only.

It is of the canonical JSON of everything but itself, the seal, and what people add later. The seal is of it too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Optional

from ..base import filesystem, typed
from ..base.clock import format_time
from ..base.errors import LifeboatError
from ..repository import sealing
from ..settings.config import DRILLS, Config
from . import schema
from .schema import DRILL, Record, Signature

LAST = "signed-drills.json"  # the last drill that this host signed


@dataclass(frozen=True)
class Last:
    """The last drill of a key, as this host remembers it: the record may be gone."""

    key: str
    id: str
    sequence: int
    seal: str
    schema: str = "lifeboat.dr/signed-drill"
    version: tuple[int, ...] = (1, 0)


def remembered(config: Config) -> Optional[Last]:
    """None where this host signed none, or forgot it."""
    with contextlib.suppress(OSError):
        return typed.maybe(Last, filesystem.read_plain(config.state / LAST))
    return None


def remember(config: Config, record: Record) -> None:
    """What was just kept. Where this fails, the records that are there say it."""
    bound, path = record.signature, config.state / LAST
    if bound is None:
        return
    last = Last(_key(bound, record.id), record.id, bound.sequence, record.seal)
    data = json.dumps(typed.plain(last), indent=1).encode() + b"\n"
    with contextlib.suppress(OSError):
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)
        filesystem.write(path, data, temporary)


def sign(record: Record, key: str, before: Iterable[Record], known: Optional[Last] = None) -> Record:
    """The record, signed and sealed. before: the records that are there; the last drill of this key is named in it,
    also one that is known and gone. Raises LifeboatError where it cannot be signed."""
    mine, last = sealing.public(key), Signature(0, "")
    if known and known.key == mine:
        last = Signature(known.sequence, known.seal)
    for earlier in before:
        bound = earlier.signature
        if bound and bound.sequence > last.sequence and _key(bound, earlier.id) == mine:
            last = Signature(bound.sequence, earlier.seal)
    unsigned = replace(record, signature=Signature(last.sequence + 1, last.previous))
    value = sealing.sign(_message(schema.plain(unsigned)), key, DRILLS)
    return schema.sealed(replace(unsigned, signature=Signature(last.sequence + 1, last.previous, value)))


def refused(config: Config, record: Record, body: Mapping[str, object]) -> str:
    """Why the record of a drill does not count; empty where it does, or where nobody is pinned. body: as written."""
    if not config.signers or record.kind != DRILL:
        return ""
    if record.signature is None:
        return "untrusted: it is not signed"
    try:
        key = sealing.key_of(record.signature.value, record.id, DRILLS)
    except LifeboatError as exc:
        return f"untrusted: {exc.cause}"
    signer = next((pinned for pinned in config.signers if " ".join(pinned.key.split()[:2]) == key), None)
    if signer is None:
        return "untrusted: it is signed with a key that lifeboat_signers does not name"
    if DRILLS not in signer.signs:
        return f"untrusted: {signer.name} may not sign this: {DRILLS}"
    if signer.expires and datetime.now(timezone.utc) >= signer.expires:
        return f"untrusted: {signer.name} signed it, whose key expired {format_time(signer.expires)}"
    why = sealing.verify(_message(body), record.signature.value, DRILLS, key)
    return f"untrusted: its signature is wrong: {why}" if why else ""


def contradicted(records: Iterable[Record]) -> dict[str, str]:
    """By id, what signed drills say of each other: two with one sequence, one that the next does not follow, and one
    before which others are missing. None of these is a choice. records: whose own signatures are right."""
    found: dict[str, str] = {}
    chains: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        if record.signature:
            chain = chains.setdefault(_key(record.signature, record.id), {})
            chain.setdefault(record.signature.sequence, []).append(record)
    for chain in chains.values():
        for there in chain.values():
            if len(there) > 1:
                names = " and ".join(sorted(record.id for record in there))
                found.update({record.id: f"untrusted: {names} have the same sequence" for record in there})
        order = sorted(chain)
        for number, after in zip(order, order[1:]):
            earlier, later = chain[number][0], chain[after][0]
            if after - number > 1:
                why = f"untrusted: {after - number - 1} between {earlier.id} and it are missing, by their sequence"
                found.setdefault(later.id, why)
            elif later.signature and later.signature.previous != earlier.seal:
                why = f"untrusted: {later.id}, the drill after it, names another one as the one before"
                found.setdefault(earlier.id, why)
    return found


def gone(config: Config, ids: Iterable[str]) -> Optional[Last]:
    """The last drill that this host signed, where a pinned signer's and not there any more."""
    last = remembered(config)
    pinned = {" ".join(signer.key.split()[:2]) for signer in config.signers}
    return last if last and last.key in pinned and last.id not in ids else None


def _key(signature: Signature, subject: str) -> str:
    try:
        return sealing.key_of(signature.value, subject, DRILLS)
    except LifeboatError:
        return ""


def _message(body: Mapping[str, object]) -> bytes:
    """What is signed of a record."""
    given = body["signature"]
    bound = {name: value for name, value in given.items() if name != "value"} if isinstance(given, Mapping) else {}
    kept = {name: value for name, value in body.items() if name not in (*schema.BY_PEOPLE, "seal")}
    return sealing.canonical({**kept, "signature": typed.plain(bound)})
