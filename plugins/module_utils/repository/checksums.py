# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup's artefacts at rest: their sizes and checksums."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO

from ..base import pipeline
from ..base.checks import Check, compared
from ..base.errors import NotFoundError
from .base import Repository
from .manifest import Artefact, Manifest


def checksums(repo: Repository, manifest: Manifest, folder: Path) -> Check:
    """Every artefact's size and SHA-256, and nothing there that the manifest does not name."""
    files = repo.files(manifest.component, manifest.id)
    wanted = {item.name: item for item in manifest.artefacts}
    differences = [f"{name} does not belong to the backup" for name in files if name not in wanted]
    for name, artefact in wanted.items():
        path = folder / name
        if name not in files or path.is_symlink() or not path.is_file():
            differences.append(f"{name} is missing")
            continue
        had = measure(path, name)
        if had.size != artefact.size:
            differences.append(f"{name} has {had.size} bytes instead of {artefact.size}")
        elif had.sha256 != artefact.sha256:
            differences.append(f"{name} has another SHA-256 than when it was written")
    return compared("checksums", sorted(differences), f"{len(wanted)} artefacts, {manifest.size} bytes")


def in_place(repo: Repository, manifest: Manifest) -> list[str]:
    """What is wrong with the artefacts, each read in the repository to its end; nothing is written to a disk."""
    differences = []
    for artefact in manifest.artefacts:
        try:
            with repo.open(manifest.component, manifest.id, artefact.name) as file:
                had = of(file, artefact.name)
        except NotFoundError:
            differences.append(f"{artefact.name} is missing")
            continue
        if had != artefact:
            differences.append(f"{artefact.name} has another SHA-256 than when it was written")
    return differences


def measure(path: Path, name: str) -> Artefact:
    """Size and SHA-256 of a file, in bounded memory."""
    with path.open("rb") as file:
        return of(file, name)


def of(file: IO[bytes], name: str) -> Artefact:
    """Size and SHA-256 of what is read from it."""
    writer = pipeline.HashingWriter()
    shutil.copyfileobj(file, writer, pipeline.CHUNK)
    return Artefact(name, writer.size, writer.sha256)
