#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who may write to the repository makes a backup of his own, with all seals right.

It knows the documented layout and nothing else, and needs only to write files. What a restore would run is `poison`.

Usage: forge_backup.py plant|alter REPOSITORY

plant: a newer backup and a recovery point of it. alter: the newest ones themselves. Prints what was written, an id a
line. A document that is signed keeps its signature, as nobody but its signer can make another.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

POISON = b"poison"
ARTEFACT = "globals.sql.gz"


def rendered(body: dict[str, Any]) -> bytes:
    """With the seal that docs/repository.md describes, whatever was changed."""
    body.pop("seal", None)
    body["seal"] = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()


def forged(manifest: bytes, identity: str, later: timedelta) -> bytes:
    """The manifest of another backup: of a later time, and with the attacker's artefact."""
    body = json.loads(manifest)
    body["id"] = identity
    for name in ("taken_at", "finished_at"):
        body[name] = moved(body[name], later)
    own = [item for item in body["artefacts"] if item["name"] == ARTEFACT]
    own[0].update(size=len(POISON), sha256=hashlib.sha256(POISON).hexdigest())
    return rendered(body)


def forged_point(point: bytes, identity: str, later: timedelta, part: str, manifest: bytes) -> bytes:
    """A recovery point of that backup."""
    body = json.loads(point)
    body["id"] = identity
    for name in ("taken_at", "sealed_at"):
        body[name] = moved(body[name], later)
    body["components"]["database"] = {"id": part, "seal": json.loads(manifest)["seal"]}
    return rendered(body)


def moved(moment: str, later: timedelta) -> str:
    written = datetime.fromisoformat(moment.replace("Z", "+00:00")) + later
    return written.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def renamed(identity: str, later: timedelta) -> str:
    stamp = datetime.strptime(identity[-15:], "%Y%m%d_%H%M%S") + later
    return f"{identity[:-15]}{stamp:%Y%m%d_%H%M%S}"


def attack(repository: Path, later: timedelta) -> list[str]:
    folder = max((repository / "postgresql").glob("db_backup_*"))
    point = max((repository / "recovery-points").glob("2*.json"))
    identity, tied = renamed(folder.name, later), renamed(point.stem, later)
    made = folder.parent / identity
    made.mkdir(mode=0o700, exist_ok=True)
    manifest = forged((folder / "manifest.json").read_bytes(), identity, later)
    for path in folder.iterdir():
        if path.name not in ("manifest.json", "verification.json", "copies.json"):
            (made / path.name).write_bytes(POISON if path.name == ARTEFACT else path.read_bytes())
    (made / "manifest.json").write_bytes(manifest)
    said = forged_point(point.read_bytes(), tied, later, identity, manifest)
    point.with_name(f"{tied}.json").write_bytes(said)
    return [identity, tied]


if __name__ == "__main__":
    which, place = sys.argv[1:]
    print("\n".join(attack(Path(place), timedelta(minutes=5) if which == "plant" else timedelta(0))))
