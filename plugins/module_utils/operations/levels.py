# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a backup of each component is proved above its checksums: what the levels archive and restore are of it."""

from __future__ import annotations

from collections.abc import Iterator

from ..base.checks import Check
from ..configuration import proof as configuration_proof
from ..database.methods import registry as methods
from ..database.wal import proof as base_proof
from ..dumps import proof as dumps_proof
from ..files import proof as files_proof
from ..objects import proof as objects_proof
from ..repository.components import BASE, CONFIG, DATABASE, DUMPS, FILES, OBJECTS
from ..repository.details import DatabaseDetails
from .proof import Proof, Prove


def _database(proof: Proof) -> Iterator[Check]:
    config, manifest = proof.run.config, proof.manifest
    dumps = manifest.detailed(DatabaseDetails).databases
    folders = [dump.folder for dump in dumps if dump.name not in proof.spoiled] if proof.spoiled else None
    method = methods.of(manifest)
    with method.opened(config, manifest, proof.folder, proof.run.key, folders=folders) as folder:
        yield from method.levels(config, manifest, folder, proof.level, proof.log, proof.spoiled)


PROOFS: dict[str, Prove] = {
    DATABASE: _database,
    OBJECTS: lambda item: objects_proof.levels(
        item.run, item.repo, item.manifest, item.level, item.sample, item.log, record=item.record
    ),
    FILES: lambda item: files_proof.levels(
        item.run.config, item.repo, item.manifest, item.level, item.sample, item.log, item.run.key
    ),
    DUMPS: lambda item: dumps_proof.levels(item.run, item.repo, item.manifest, item.level, item.log),
    CONFIG: lambda item: configuration_proof.levels(
        item.run.config, item.repo, item.manifest, item.level, item.log, item.run.key
    ),
    BASE: lambda item: base_proof.levels(item.run, item.repo, item.manifest, item.level, item.log),
}
