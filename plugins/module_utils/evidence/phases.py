# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes into a record of the phases: durations, bytes, speed, versions, logs; and what must not go into it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..base import clock, pipeline
from ..base.clock import parse_time
from ..base.version import VERSION
from ..settings.config import Config
from ..settings.scenarios import SCENARIOS

# What is worth keeping of a phase; anything else that a module returned stays out of the record. Each of these is
# described in docs/schema/evidence-1.json; a test holds the two together.
KEPT = (
    "quarantine", "quarantined_database", "quarantine_bucket", "way_back", "stopped", "reindexed", "mode", "seconds_of",
    "copied", "settings", "reconciled", "tried", "logs", "notes", "commit", "recovery_point",
)  # fmt: skip
# A secret shorter than this is a word that a record may hold for other reasons ("shop").
SECRET_LENGTH = 8
BLANK = "********"
OUR_OWN = ("id", "kind", "scenario", "verdict", "result", "level", "clock", "recorded_at", "started_at", "finished_at",
           "taken_at", "injected_at", "transaction_at")  # fmt: skip


def timeline(
    config: Config, scenario: str, phases: Sequence[Mapping[str, Any]], backup: Optional[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], Optional[dict[str, Any]]]:
    """The phases for the record, and the time at production size: {bytes, seconds, how}, or None where unknown."""
    wanted = _production_bytes(config, scenario)
    found = [_phase(item, backup, wanted) for item in phases]
    scaled = [item for item in found if item["production_seconds"] is not None]
    if not scaled:
        return found, None
    wall, monotonic = clock.elapsed(phases)
    total = (wall if monotonic is None else monotonic) + sum(
        item["production_seconds"] - item["seconds"] for item in scaled
    )
    names = ", ".join(item["name"] for item in scaled)
    return found, {
        "bytes": wanted,
        "seconds": round(total, 2),
        "how": f"{names} in proportion to the bytes, everything else as measured; an estimate, not a measurement",
    }


def _production_bytes(config: Config, scenario: str) -> int:
    component = SCENARIOS[scenario].component if scenario in SCENARIOS else ""
    return int(getattr(config.evidence, f"production_{component}_bytes", 0))


def _phase(item: Mapping[str, Any], backup: Optional[Mapping[str, Any]], wanted: int) -> dict[str, Any]:
    wall, monotonic = clock.elapsed([item])
    seconds = wall if monotonic is None else monotonic
    moved = _bytes(item, backup)
    return {
        "name": item["name"],
        "started_at": item["started_at"],
        "finished_at": item["finished_at"],
        "seconds": seconds,
        "monotonic_seconds": monotonic,
        "bytes": moved,
        "mb_per_second": round(moved / 1e6 / seconds, 2) if moved and seconds > 0 else None,
        "production_seconds": round(seconds * wanted / moved, 2) if moved and wanted else None,
        **{key: item[key] for key in KEPT if item.get(key)},
    }


def _bytes(item: Mapping[str, Any], backup: Optional[Mapping[str, Any]]) -> Optional[int]:
    """What the phase moved: as it says itself, the objects it copied, or the database that it restored."""
    if item.get("bytes"):
        return int(item["bytes"])
    copied = item.get("copied")
    if isinstance(copied, Mapping) and copied.get("copied_bytes"):
        return int(copied["copied_bytes"])
    size = ((backup or {}).get("details") or {}).get("database_size")
    return int(size) if size and item["name"] == "restore" else None


def steps(phase: Mapping[str, Any]) -> list[tuple[str, float]]:
    """A phase's own steps with their seconds, as far as they are that."""
    detail = phase.get("seconds_of")
    if not isinstance(detail, Mapping):
        return []
    return [(str(name), float(item)) for name, item in detail.items() if isinstance(item, (int, float))]


def rpo(backup: Optional[Mapping[str, Any]], phases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much time may be lost: from the backup's instant to when the writers were stopped. seconds: None unknown."""
    restored = any(item["name"] in ("restore", "database") for item in phases)  # a site's phases are its components
    if not backup or not restored:
        return {"seconds": None, "target_seconds": None, "how": "no data was restored from a backup"}
    stopped = next((item["finished_at"] for item in phases if item["name"] == "protect"), phases[0]["started_at"])
    seconds = (parse_time(str(stopped)) - parse_time(str(backup["taken_at"]))).total_seconds()
    how = "at most: from the backup's instant to when writing was stopped; what was written in between is in no backup"
    return {"seconds": round(max(0.0, seconds), 2), "target_seconds": None, "how": how}


def chosen(planned: Mapping[str, Any]) -> Optional[dict[str, str]]:
    """The recovery point, and how it was chosen: by name, by time, or as the newest one that can be used."""
    backup = planned.get("backup")
    if not backup:
        return None
    point = str(planned.get("recovery_point") or "")
    over = len(planned["passed_over"])
    how = (
        f"the recovery point {point} was asked for" if point
        else f"{planned['state']} was asked for" if planned.get("state")
        else "the newest good backup"
    )  # fmt: skip
    how += f"; {over} newer {'one was' if over == 1 else 'ones were'} passed over" if over else ""
    return {"how": how, "recovery_point": point, "location": str(planned.get("location") or "")}


def versions(
    backup: Optional[Mapping[str, Any]], phases: Sequence[Mapping[str, Any]], given: Optional[Mapping[str, Any]]
) -> dict[str, Any]:
    """What ran, where known; images by service."""
    details = (backup or {}).get("details") or {}
    number = int(details.get("server_version_num") or 0)
    found: dict[str, Any] = {"lifeboat": VERSION, "python": platform.python_version(), "images": {}}
    if number:
        found["postgresql"] = f"{number // 10000}.{number % 10000}"
    for more in (*(item.get("versions") or {} for item in phases), given or {}):
        found["images"].update(more.get("images") or {})
        found.update({key: str(value) for key, value in more.items() if key != "images" and value})
    return found


def log(phases: Sequence[Mapping[str, Any]], secrets: Mapping[str, str]) -> str:
    """What the phases said while they ran, without secrets and rows: kept beside the record, which has its hash."""
    said = [
        f"{item['name']}: {line}"
        for item in phases
        for line in pipeline.without_rows([part for said in item.get("log") or () for part in str(said).splitlines()])
    ]
    return "".join(f"{cleaned(line, secrets)}\n" for line in said)


def hashes(text: str) -> list[dict[str, Any]]:
    """Of the log that lies beside the record. An empty one is none."""
    data = text.encode("utf-8", "backslashreplace")
    if not data:
        return []
    return [{"name": "phases.log", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}]


def cleaned(value: Any, secrets: Mapping[str, str]) -> Any:
    """The last line of defence: whatever a module or a tool put into its words, no secret gets into a record.

    An access key is a name, as a user's is: in S3 it travels in every request. Where a password is an everyday word,
    the record's own words stay what the schema says.
    """
    if isinstance(value, str):
        for name, secret in secrets.items():
            if len(secret) >= SECRET_LENGTH and not name.endswith("access_key"):
                value = value.replace(secret, BLANK)
        return pipeline.scrub(value)
    if isinstance(value, Mapping):
        return {key: item if key in OUR_OWN else cleaned(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item, secrets) for item in value]
    return value
