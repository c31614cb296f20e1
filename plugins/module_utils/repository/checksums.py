# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup's artefacts at rest: their sizes and checksums."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Optional

from ..base import pipeline
from ..base.checks import Check, compared
from ..base.errors import NotFoundError
from .base import Repository
from .manifest import Artefact, Manifest


def checksums(repo: Repository, manifest: Manifest, folder: Path) -> Check:
    """Every artefact's size and SHA-256, and nothing there that the manifest does not name."""
    return by_folder(repo, manifest, folder, [""])[""]


def by_folder(repo: Repository, manifest: Manifest, folder: Path, folders: Sequence[str]) -> dict[str, Check]:
    """The like for each of the folders in the backup; what lies in none of them is the empty one's."""
    files = repo.files(manifest.component, manifest.id)
    wanted = {item.name: item for item in manifest.artefacts}
    inside = {name: _inside(name, folders) for name in (*wanted, *files)}
    differences: dict[str, list[str]] = {each: [] for each in folders}
    for name in files:
        if name not in wanted:
            differences[inside[name]].append(f"{name} does not belong to the backup")
    for name, artefact in wanted.items():
        path, found = folder / name, differences[inside[name]]
        if name not in files or path.is_symlink() or not path.is_file():
            found.append(f"{name} is missing")
            continue
        had = measure(path, name)
        if had.size != artefact.size:
            found.append(f"{name} has {had.size} bytes instead of {artefact.size}")
        elif had.sha256 != artefact.sha256:
            found.append(f"{name} has another SHA-256 than when it was written")
    checks = {}
    for each, found in differences.items():
        own = [artefact for name, artefact in wanted.items() if inside[name] == each]
        same = f"{len(own)} artefacts, {sum(artefact.size for artefact in own)} bytes"
        checks[each] = compared("checksums", sorted(found), same)
    return checks


def _inside(name: str, folders: Sequence[str]) -> str:
    return next((folder for folder in folders if folder and name.startswith(f"{folder}/")), "")


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


def of(file: IO[bytes], name: str, copy: Optional[IO[bytes]] = None) -> Artefact:
    """Size and SHA-256 of what is read from it, and written to `copy`."""
    writer = pipeline.HashingWriter(copy)
    shutil.copyfileobj(file, writer, pipeline.CHUNK)
    return Artefact(name, writer.size, writer.sha256)
