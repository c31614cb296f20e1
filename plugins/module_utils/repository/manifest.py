# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest: what a backup is made of. Written last; no manifest, no backup."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

from ..base import typed
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, UsageError
from .components import KINDS
from .sealing import VERSION, seal, sealed, unseal

SCHEMA = "lifeboat.dr/backup"
ID = re.compile(r"([a-z][a-z0-9]*)_backup_(\d{8}_\d{6})")
_READ = "read the manifest"
_REMEDY = "Choose another backup (lifeboat list) and keep this one for inquiry."
D = TypeVar("D")


def backup_id(component: str, moment: datetime) -> str:
    """The seed's name for a backup, `db_backup_YYYYMMDD_HHMMSS`, in UTC so that no clock change repeats one."""
    return f"{KINDS[component].prefix}_backup_{moment.astimezone(timezone.utc):%Y%m%d_%H%M%S}"


def component_of(identity: str) -> str:
    """The component that a backup's id names. UsageError when it is no backup's id."""
    match = ID.fullmatch(identity)
    known = next((name for name, kind in KINDS.items() if match and kind.prefix == match.group(1)), "")
    if not known:
        raise UsageError(
            "find the backup", repr(identity), "that is not a backup id", "Write it like db_backup_20261124_020000."
        )
    return known


@dataclass(frozen=True)
class Artefact:
    """One file of a backup: name relative to the backup's folder, size in bytes, SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One backup of one component.

    taken_at: the instant the data is of (the snapshot's), UTC. details: what only this component knows, as it is
    written and sealed; code reads detailed().
    """

    id: str
    component: str
    stack: str
    taken_at: datetime
    finished_at: datetime
    artefacts: tuple[Artefact, ...]
    tool: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(artefact.size for artefact in self.artefacts)

    def detailed(self, kind: type[D]) -> D:
        """Its details as the dataclass of its component; fields that a newer Lifeboat added are passed over."""

        def wrong(field: str, cause: str) -> LifeboatError:
            return IntegrityError(_READ, self.id, f"manifest.json: {field} {cause}", _REMEDY)

        return typed.build(kind, self.details, wrong, "details", unknown="ignore")

    def _body(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": list(VERSION),
            **dataclasses.asdict(self),
            "taken_at": format_time(self.taken_at),
            "finished_at": format_time(self.finished_at),
        }

    @property
    def seal(self) -> str:
        return seal(self._body())

    def to_bytes(self) -> bytes:
        return sealed(self._body())


def parse(data: bytes, *, component: str, expected_id: str) -> Manifest:
    """Read a manifest that lies in the folder `expected_id`.

    Raises IntegrityError when it is broken, edited or another backup's; UsageError when its schema is newer than ours.
    """
    body = unseal(data, SCHEMA, attempted=_READ, subject=expected_id, remedy=_REMEDY)
    try:
        manifest = Manifest(
            id=body["id"],
            component=body["component"],
            stack=body["stack"],
            taken_at=parse_time(body["taken_at"]),
            finished_at=parse_time(body["finished_at"]),
            artefacts=tuple(
                Artefact(artefact["name"], int(artefact["size"]), artefact["sha256"]) for artefact in body["artefacts"]
            ),
            tool=dict(body["tool"].items()),
            details=dict(body["details"].items()),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, UsageError) as exc:
        raise IntegrityError(_READ, expected_id, f"a field is missing or wrong: {exc!r}", _REMEDY) from exc
    if manifest.id != expected_id or manifest.component != component:
        raise IntegrityError(_READ, expected_id, f"it is the manifest of {manifest.component} {manifest.id}", _REMEDY)
    if component in KINDS:
        manifest.detailed(KINDS[component].details)
    return manifest
