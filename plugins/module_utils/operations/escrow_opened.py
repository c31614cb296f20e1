# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Can a component's backup be used with the escrowed key alone? What is checked of it besides its checksums."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Union

from ..base import filesystem, pipeline
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, compared
from ..base.filesystem import CHUNK, create
from ..configuration import parts
from ..configuration import proof as configuration_proof
from ..configuration import restore as configuration_restore
from ..configuration.restore import SECRET_LIST, SECRETS
from ..objects import proof as objects_proof
from ..repository.components import CONFIG, DATABASE, DUMPS, FILES, OBJECTS
from ..repository.details import ConfigDetails, FilesDetails, Pack, Part
from ..repository.manifest import Manifest
from ..tools import age, tar
from .verify_proof import Proof, Prove

_LONG = 24 * 3600


def _objects(proof: Proof) -> Iterator[Check]:
    yield from _whole(proof)
    if not proof.run.config.vault.objects_bucket:
        yield Check("objects: mirror", COULD_NOT_VERIFY, "its bucket is not named: --objects-bucket, or in the kit")
        return
    for check in objects_proof.levels(proof.run, proof.repo, proof.manifest, "archive", 0, proof.log):
        yield Check(f"objects: {check.name}", check.result, check.detail)


def _config(proof: Proof) -> Iterator[Check]:
    vault, manifest = proof.repo, proof.manifest
    for part in parts.parts_of(manifest).values():
        if part.backup != manifest.id:
            held = configuration_proof.held_elsewhere(vault, part)
            yield Check(f"config: {held.name}", held.result, held.detail)
    left = manifest.detailed(ConfigDetails).left_out
    if left:
        named = ", ".join(left[:3])
        yield Check("config: secrets", FAIL, f"{len(left)} were left out when there was no recipient: {named}")
        return
    yield from _whole(proof)
    if manifest.encrypted and SECRETS not in {artefact.name for artefact in manifest.artefacts}:
        return
    if SECRETS not in {artefact.name for artefact in manifest.artefacts}:
        yield Check("config: secrets", COULD_NOT_VERIFY, "nothing is sealed in it, so that the key opened nothing")
        return
    opened = configuration_restore.open_secrets(vault, manifest, proof.key)
    read = tar.read(io.BytesIO(opened.data), f"{manifest.id}/{SECRETS}")
    wanted, open_list = opened.entries, configuration_restore.listing(vault, manifest.id, age.keys_of(proof.key))
    differ = tar.differences(read, wanted, SECRETS)
    differ += [f"{SECRET_LIST} and files.json differ on {path!r}" for path in wanted if path not in open_list]
    files = sum(entry.type == tar.FILE for entry in wanted.values())
    yield compared("config: secrets", differ, f"the key opens all of it: {files} secret files, as listed")


def _whole(proof: Proof) -> Iterator[Check]:
    """That the key alone opens every artefact of an encrypted backup, to its end."""
    manifest = proof.manifest
    if not manifest.encrypted:
        return
    own = [(manifest.id, artefact.name) for artefact in manifest.artefacts if artefact.name.endswith(age.SUFFIX)]
    held = [(part.backup, part.artefact) for part in _earlier_parts(manifest) if part.recipients]
    size = sum(_opened(proof, *of) for of in (*own, *held))
    words = f"the key opens all of it: {len(own) + len(held)} artefacts, {size} bytes"
    yield Check(f"{manifest.component}: encryption", PASS, words)


def _earlier_parts(manifest: Manifest) -> Sequence[Union[Part, Pack]]:
    """The parts of it that earlier backups keep."""
    if manifest.component == FILES:
        return [pack for pack in manifest.detailed(FilesDetails).packs if pack.backup != manifest.id]
    if manifest.component != CONFIG:
        return []
    return [part for part in parts.parts_of(manifest).values() if part.backup != manifest.id]


def _opened(proof: Proof, backup: str, name: str) -> int:
    """How many bytes an artefact is when it is decrypted."""
    manifest, read = proof.manifest, pipeline.HashingWriter()
    with filesystem.scratch("lifeboat-sealed-") as folder:  # age reads a file; what lies there is encrypted
        path = Path(folder) / "sealed.age"
        with proof.repo.open(manifest.component, backup, name) as source, create(path) as sink:
            shutil.copyfileobj(source, sink, CHUNK)
        recipients = manifest.recipients
        age.decrypt(path, proof.key, read, subject=f"{backup}/{name}", recipients=recipients, timeout=_LONG)
    return read.size


OPENED: dict[str, Prove] = {DATABASE: _whole, OBJECTS: _objects, FILES: _whole, DUMPS: _whole, CONFIG: _config}


def checks(proof: Proof) -> Iterator[Check]:
    """Of some components there is nothing to check."""
    prove = OPENED.get(proof.manifest.component)
    yield from prove(proof) if prove else ()
