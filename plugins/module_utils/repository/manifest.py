# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest: what a backup is made of. Written last; no manifest, no backup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Optional, TypeVar

from ..base import typed
from ..base.clock import stamp
from ..base.errors import LifeboatError
from ..settings.config import MANIFESTS
from .base import ID, no_id
from .components import component_kind, every
from .details import VERSIONS, Count
from .sealing import VERSION, Sealed, Signature, render, unseal

D = TypeVar("D")


def backup_id(component: str, moment: datetime) -> str:
    """The seed's name for a backup, `db_backup_YYYYMMDD_HHMMSS`, in UTC so that no clock change repeats one."""
    return f"{component_kind(component).prefix}_backup_{stamp(moment)}"


def component_of(identity: str) -> str:
    """The component that a backup's id names. UsageError when it is no backup's id."""
    match = ID.fullmatch(identity)
    known = next((name for name, kind in every().items() if match and kind.prefix == match.group(1)), "")
    if not known:
        raise no_id(identity)
    return known


@dataclass(frozen=True)
class Artefact:
    """One file of a backup: name relative to the backup's folder, size in bytes, SHA-256 in hex."""

    name: str
    size: Count
    sha256: str


@dataclass(frozen=True)
class Manifest(Sealed):
    """One backup of one component.

    taken_at: the instant the data is of (the snapshot's), UTC. details: what only this component knows, as it is
    written and sealed; code reads detailed().
    """

    schema: ClassVar[str] = "lifeboat.dr/backup"
    document: ClassVar[str] = MANIFESTS
    what: ClassVar[str] = "manifest"
    remedy: ClassVar[str] = "Choose another backup (lifeboat list) and keep this one for inquiry."

    id: str
    component: str
    stack: str
    taken_at: datetime
    finished_at: datetime
    artefacts: tuple[Artefact, ...]
    tool: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    signature: Optional[Signature] = None

    @property
    def written_at(self) -> datetime:
        return max(self.taken_at, self.finished_at)

    @property
    def size(self) -> int:
        return sum(artefact.size for artefact in self.artefacts)

    @property
    def recipients(self) -> tuple[str, ...]:
        """For whom it is encrypted, or its secrets alone; none where nothing of it is."""
        return self._names("recipients")

    @property
    def host_key(self) -> str:
        """The recipient of the host's own key that opens it for some days; empty where none does."""
        return "".join(self._names("host_key"))

    @property
    def encrypted(self) -> bool:
        """Is all of it, but what everybody who reads the vault can see?"""
        names = [artefact.name for artefact in self.artefacts if artefact.name.rpartition("/")[2] != VERSIONS]
        return bool(self.recipients) and all(name.endswith(".age") for name in names)

    def _names(self, field: str) -> tuple[str, ...]:
        said = self.details.get(field) or ()
        return tuple(map(str, said)) if isinstance(said, (list, tuple)) else (str(said),)

    def record(self, schema: str, **more: object) -> bytes:
        """One of the repository's RECORDS, of this very backup."""
        return render(self.record_body(schema, **more))

    def record_body(self, schema: str, **more: object) -> dict[str, object]:
        """It names the seal of what it is of."""
        head = {"schema": f"lifeboat.dr/{schema}", "version": list(VERSION), "id": self.id, "seal": self.seal}
        return {**head, **more}

    def detailed(self, kind: type[D]) -> D:
        """Its details as the dataclass of its component; fields that a newer Lifeboat added are passed over."""

        def wrong(field: str, cause: str) -> LifeboatError:
            return self.error(self.id, f"manifest.json: {field} {cause}")

        return typed.build(kind, self.details, wrong, "details", unknown="ignore")


@dataclass(frozen=True)
class Outline(Manifest):
    """A manifest without its list of artefacts, which may be a hundred thousand: for who holds very many manifests."""

    outlined_seal: str = ""
    outlined_size: int = 0

    @property
    def seal(self) -> str:
        return self.outlined_seal

    @property
    def size(self) -> int:
        return self.outlined_size

    @property
    def encrypted(self) -> bool:
        raise NotImplementedError("an outline does not know its artefacts")


def outline(manifest: Manifest) -> Outline:
    kept = {name: getattr(manifest, name) for name in ("id", "component", "stack", "taken_at", "finished_at", "tool")}
    return Outline(
        **kept, artefacts=(), details=manifest.details, signature=manifest.signature, outlined_seal=manifest.seal,
        outlined_size=manifest.size,
    )  # fmt: skip


def parse(data: bytes, *, component: str, expected_id: str) -> Manifest:
    """Read a manifest that lies in the folder `expected_id`; errors as of unseal()."""
    manifest = unseal(Manifest, data, expected_id, "manifest.json")
    if manifest.component != component:
        raise manifest.error(expected_id, f"it is the manifest of {manifest.component} {manifest.id}")
    if component in every():
        kind = component_kind(component)
        cause = kind.impossible(manifest.detailed(kind.details), [artefact.name for artefact in manifest.artefacts])
        if cause:
            raise manifest.error(expected_id, f"manifest.json: details: {cause}")
    return manifest
