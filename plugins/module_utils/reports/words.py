# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text of a record for its readers: units, and hostile text made harmless before any face shows it.

Whatever stands in a record may come from a database's names, a container's last words or somebody who edited the file.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Optional

from ..base.errors import printable_lines
from ..base.text import human
from ..evidence.schema import Phase, Record, Rpo

_LONGEST = 4000


def plain(value: object) -> str:
    """Return the text with everything escaped that does not print but line breaks and tabs: U+202E becomes \\u202e."""
    text = "" if value is None else str(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} [{len(text) - _LONGEST} more characters]"
    return "\t".join(map(printable_lines, text.split("\t")))


def one_line(value: object) -> str:
    """Return the same on one line."""
    return " ".join(plain(value).split())


def terminal(value: object) -> str:
    """Return the same on one line with its spaces: columns stay columns, and no name begins a line of its own."""
    return plain(value).replace("\n", "\\n").replace("\t", " ")


class Markup(str):
    """HTML or SVG that is safe already, because tag() made it."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(plain(value), quote=True))


_VOID = ("meta", "link", "br")


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """Return one element. Children are escaped unless tag() made them; lists are taken apart; None is left out.

    Attributes: class_ is class, an underscore is a hyphen.
    """
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = "".join(f' {name}="{escaped(value)}"' for name, value in named.items())
    if element in _VOID:
        return Markup(f"<{element}{words}>")
    return Markup(f"<{element}{words}>{joined(children)}</{element}>")


def joined(children: object) -> Markup:
    if isinstance(children, (list, tuple)):
        return Markup("".join(joined(item) for item in children))
    return Markup("") if children is None else escaped(children)


def duration(seconds: Optional[float]) -> str:
    """12.3 s, 4 min 05 s, 2 h 03 min, 5 d 2 h."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: Optional[float]) -> str:
    return "unknown" if count is None else human(count)


def moment(when: Optional[datetime]) -> str:
    """2026-11-24 02:00:00 UTC."""
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC" if when else "unknown"


def title(record: Record) -> str:
    what = "" if record.kind == record.scenario else f" of the {record.scenario.replace('_', ' ')}"
    return f"{record.kind.capitalize()}{what}: {record.stack}"


def facts(record: Record) -> list[tuple[str, str]]:
    """Return the few numbers that everybody asks for: (name, words)."""
    found = []
    target = record.target_seconds
    name = "Recovery time" if record.kind != "verification" else "Time taken"
    found.append((name, duration(record.seconds) + (f" of {duration(target)} allowed" if target else "")))
    if record.rpo:
        found.append(("Data loss, at most", _loss(record.rpo)))
    if record.production:
        found.append((f"Estimate at {size(record.production.bytes)}", duration(record.production.seconds)))
    moved = sum(phase.bytes for phase in record.phases if phase.bytes is not None)
    if moved:
        found.append(("Data moved", size(moved)))
    return found


def vouched(record: Record, signature: str) -> list[tuple[str, str]]:
    """Who did it, and what is known of the signature: (name, words)."""
    return [("Operator", record.operator or "unknown"), *([("Signature", signature)] if signature else [])]


def _loss(rpo: Rpo) -> str:
    if rpo.seconds is None:
        return rpo.how
    allowed = "" if rpo.target_seconds is None else f" of {duration(rpo.target_seconds)} allowed"
    return duration(rpo.seconds) + allowed


def moved(phase: Phase) -> str:
    """Return how much a phase moved, and how fast."""
    if phase.bytes is None:
        return ""
    return size(phase.bytes) + (f", {phase.mb_per_second:g} MB/s" if phase.mb_per_second is not None else "")


def origin(record: Record) -> list[tuple[str, str]]:
    """Who, why, where, with what: (name, words)."""
    versions, chosen, backup, verified = record.versions, record.chosen, record.backup, record.verification
    found = [
        ("Stack", record.stack),
        ("Host", record.host),
        ("Reason", record.reason or "none given"),
        ("Recorded", moment(record.recorded_at)),
        ("Backup", f"{backup.id}, taken {moment(backup.taken_at)}" if backup else ""),
        ("Chosen", chosen.how if chosen else ""),
        ("Read from", chosen.location if chosen else ""),
        ("Verified", f"{verified.id} at level {verified.level}" if verified else ""),
        ("Clock", f"durations by the {record.clock} clock" if record.clock else ""),
        ("Tool", record.tool),
        ("Ansible", versions.ansible),
        ("Postgresql", versions.postgresql),
        ("Python", versions.python),
        ("Commit", record.commit),
        *((f"Image of {service}", image) for service, image in versions.images.items()),
    ]
    return [(name, words) for name, words in found if words]


def drill(record: Record) -> list[tuple[str, str]]:
    """Return what only a drill has."""
    given = record.drill
    if not given:
        return []
    ledger = "none was kept"
    if given.ledger:
        counted = given.ledger
        ledger = f"{counted.acknowledged} acknowledged, {counted.present} present, {counted.lost} lost,"
        ledger += f" {counted.unexpected} unexpected"
    found = [
        ("Fault", given.fault),
        ("It took", given.proof),
        ("Seed", given.seed),
        ("Before", given.steady_state),
        ("Injected", moment(given.injected_at)),
        ("First transaction", moment(given.transaction_at)),
        ("Ledger", ledger),
    ]
    return [(name, words) for name, words in found if words]


def signed_off(record: Record) -> str:
    signed = record.sign_off
    if not signed:
        return "Nobody has signed it off."
    return f"Signed off by {signed.by}, {moment(signed.at)}. {signed.note}".strip()


def tried(record: Record) -> list[str]:
    """Return the steps of a ladder, each with what came of it, and what a phase noted."""
    found = []
    for phase in record.phases:
        for step in (*phase.tried, *phase.notes):
            words = (
                [f"{name} {value}" for name, value in step.items() if value != ""]
                if isinstance(step, Mapping)
                else [str(step)]
            )
            found.append(f"{phase.name}: {', '.join(words)}")
    return found


def quarantined(record: Record) -> list[str]:
    """List what was put into quarantine instead of being deleted, and the way back to it."""
    found = []
    for phase in record.phases:
        aside = (
            ("the old data", phase.quarantine),
            *(("the old database", name) for name in phase.quarantined_databases),
            ("the objects that were replaced, in the bucket", phase.quarantine_bucket),
        )
        found += [f"{words}: {where}" for words, where in aside if where]
        found += [f"way back: {step}" for step in phase.way_back]
    return found
