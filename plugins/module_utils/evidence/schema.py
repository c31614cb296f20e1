# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this a record? What the faces rely on, checked before they do; docs/schema/evidence-1.json says all of it.

The core has no JSON Schema validator and must read records that an older version wrote, that somebody edited, or that
somebody made up: a report that a broken record can stop, or worse, can colour, is no report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.checks import ABORTED, COULD_NOT_VERIFY, FAIL, PASS
from ..base.clock import parse_time
from ..base.errors import LifeboatError
from . import record as evidence_record

VERDICTS = (PASS, FAIL, COULD_NOT_VERIFY, ABORTED)
_NUMBER = (int, float)
_MOST = 1e18
_YEARS = (2000, 2200)
# Since version 1.0.
_FIELDS: Mapping[str, Any] = {
    "id": str,
    "scenario": str,
    "stack": str,
    "host": str,
    "operator": str,
    "reason": str,
    "tool": str,
    "recorded_at": str,
    "verdict": str,
    "error": str,
    "found": Mapping,
    "passed_over": list,
    "phases": list,
    "seconds": _NUMBER,
    "target_seconds": _NUMBER,
    "checks": list,
}
# Since 1.1; None where it does not apply.
_LATER: Mapping[str, Any] = {
    "kind": str,
    "versions": Mapping,
    "commit": str,
    "backup": Mapping,
    "chosen": Mapping,
    "clock": str,
    "rto": Mapping,
    "rpo": Mapping,
    "production": Mapping,
    "untested": list,
    "verification": Mapping,
    "drill": Mapping,
    "findings": list,
    "sign_off": Mapping,
    "logs": list,
    "seal": str,
    "started_at": str,
}
_ITEMS: Mapping[str, Mapping[str, Any]] = {
    "phases": {"name": str, "started_at": str, "finished_at": str, "seconds": _NUMBER},
    "checks": {"name": str, "result": str, "detail": str},
    "passed_over": {"id": str, "problem": str},
    "untested": {"what": str, "why": str},
    "findings": {"what": str, "owner": str, "due": str},
    "logs": {"name": str, "sha256": str},
}
# Numbers, or null where they are not known.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "phases": ("bytes", "mb_per_second"),
    "rpo": ("seconds", "target_seconds"),
}
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "found": {"condition": str, "findings": list, "unchecked": list},
    "backup": {"id": str, "taken_at": str},
    "chosen": {"how": str, "recovery_point": str, "location": str},
    "rpo": {"how": str},
    "production": {"bytes": _NUMBER, "seconds": _NUMBER, "how": str},
    "sign_off": {"by": str, "at": str, "note": str},
    "drill": {"fault": str, "proof": str, "seed": str, "steady_state": str},
    "verification": {"id": str, "level": str},
}


def problem(record: Any, *, expected_id: str = "") -> str:
    """Why this is no record, in words; empty when it is one and nobody edited what the machine saw."""
    if not isinstance(record, Mapping):
        return "it is not a JSON object"
    if record.get("schema") != evidence_record.SCHEMA:
        return f"its schema is {record.get('schema')!r}, not {evidence_record.SCHEMA!r}"
    version = record.get("version")
    if not isinstance(version, list) or len(version) != 2 or version[0] != evidence_record.SCHEMA_VERSION[0]:
        return f"its version is {version!r}; this Lifeboat reads version {evidence_record.SCHEMA_VERSION[0]}"
    wrong = _wrong(record)
    if wrong:
        return wrong
    if expected_id and record["id"] != expected_id:
        return f"it is the record {record['id']}, under another's name"
    if version[1] >= 1:
        body = {key: value for key, value in record.items() if key != "seal"}
        if record.get("seal") != evidence_record.seal(body):
            return "it was edited: its seal does not match its content"
    return ""


def shown(record: Any) -> bool:
    """Whether the faces can show it, whoever wrote it."""
    return isinstance(record, Mapping) and not _wrong(record)


def _wrong(record: Mapping[str, Any]) -> str:
    for name, kind in _FIELDS.items():
        if not _is(record.get(name), kind):
            return f"{name} is missing or of the wrong kind"
    for name, kind in _LATER.items():
        if record.get(name) is not None and not _is(record[name], kind):
            return f"{name} is of the wrong kind"
    for name, fields in _ITEMS.items():
        for one in record.get(name) or ():
            if not isinstance(one, Mapping) or not all(_is(one.get(key), kind) for key, kind in fields.items()):
                return f"{name} has an entry that is not one"
    for name, fields in _PARTS.items():
        part = record.get(name)
        if part is not None and not all(_is(part.get(key), kind) for key, kind in fields.items()):
            return f"{name} lacks a field, or has one of the wrong kind"
    for name, keys in _KNOWN.items():
        for one in record[name] if name in _ITEMS else [record.get(name) or {}]:
            if not all(one.get(key) is None or _is(one[key], _NUMBER) for key in keys):
                return f"{name} has a number that is none"
    ledger = (record.get("drill") or {}).get("ledger")
    if ledger is not None and not isinstance(ledger, Mapping):
        return "drill has a ledger that is none"
    if record["verdict"] not in VERDICTS:
        return f"its verdict is {record['verdict']!r}"
    for moment in _moments(record):
        try:
            fine = isinstance(moment, str) and _YEARS[0] <= parse_time(moment).year <= _YEARS[1]
        except LifeboatError:
            fine = False
        if not fine:
            return f"a time in it cannot be read: {moment!r}"
    return ""


def _moments(record: Mapping[str, Any]) -> list[Any]:
    """Every time that a face shows."""
    found = [record["recorded_at"], record.get("started_at")]
    found += [one[key] for one in record["phases"] for key in ("started_at", "finished_at")]
    found += [(record.get("drill") or {}).get(key) for key in ("injected_at", "transaction_at")]
    found += [(record.get("backup") or {}).get("taken_at"), (record.get("sign_off") or {}).get("at")]
    return [one for one in found if one is not None]


def _is(value: Any, kind: Any) -> bool:
    """NaN, infinity and numbers that no clock shows are JSON to Python, and would be the end of a chart."""
    if kind is _NUMBER:
        return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < _MOST
    return isinstance(value, kind)
