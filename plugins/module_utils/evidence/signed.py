# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The signature in the record of a drill: by the key of the host, and believed of the signers of the inventory only.

It is of the canonical JSON of everything but itself, the seal, and what people add later. The seal is of it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone

from ..base import typed
from ..base.clock import format_time
from ..base.errors import LifeboatError
from ..repository import sealing
from ..settings.config import DRILLS, Config
from . import schema
from .schema import DRILL, Record, Signature


def sign(record: Record, key: str, before: Iterable[Record]) -> Record:
    """The record, signed and sealed. before: the records that are there; the last drill of this key is named in it.
    Raises LifeboatError where it cannot be signed."""
    mine, last = sealing.public(key), Signature(0, "")
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
