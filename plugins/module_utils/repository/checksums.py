# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup's artefacts at rest: their sizes and checksums."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Optional

from ..base import pipeline, progress
from ..base.checks import CHECKSUMS, FAIL, Check, PartCheck, compared
from ..base.errors import NotFoundError, present
from ..base.text import named, of_other
from .base import Repository
from .components import component_kind
from .manifest import Artefact, Manifest


@dataclass(frozen=True)
class Artefacts:
    """The artefacts of one part of a backup, and how they differ from what was written."""

    count: int
    size: int
    differences: tuple[str, ...] = ()

    def __add__(self, other: Artefacts) -> Artefacts:
        return Artefacts(self.count + other.count, self.size + other.size, (*self.differences, *other.differences))

    @property
    def check(self) -> Check:
        return compared(CHECKSUMS, sorted(self.differences), f"{self.count} artefacts, {self.size} bytes")


def checksums(repo: Repository, manifest: Manifest, folder: Path) -> list[Check]:
    """Every artefact's size and SHA-256, and nothing there that the manifest does not name. One check of all where
    they are right, or where what every part needs is not; else one of each part that differs."""
    kind = component_kind(manifest.component)
    details = manifest.detailed(kind.details)
    parts = kind.alone(details)
    found = by_part(repo, manifest, folder, parts, lambda name: kind.part_of(details, name))
    differ = [name for name in parts if found[name].differences]
    if found[None].differences or not differ:
        return [sum(found.values(), Artefacts(0, 0)).check]
    right = sum((some for some in found.values() if not some.differences), Artefacts(0, 0))
    own = parts[0]
    checks = [right.check] if own not in differ else []
    for name in differ:
        check = found[name].check
        checks.append(PartCheck(**vars(check if name == own else of_other(check, name)), part=name))
    return checks


def by_part(
    repo: Repository, manifest: Manifest, folder: Path, parts: Sequence[str],
    part_of: Callable[[str], Optional[str]],
) -> dict[Optional[str], Artefacts]:  # fmt: skip
    """The artefacts of each part, by its name. None: what no single part has, and every one needs."""
    files = repo.files(manifest.component, manifest.id)
    wanted = {item.name: item for item in manifest.artefacts}
    inside = {name: part_of(name) if parts else None for name in (*wanted, *files)}
    differences: dict[Optional[str], list[str]] = {each: [] for each in (None, *parts)}
    for name in files:
        if name not in wanted:
            differences[inside[name]].append(f"{name} does not belong to the backup")
    with progress.going(_gauge(manifest)) as gauge:
        for name, artefact in wanted.items():
            path, found = folder / name, differences[inside[name]]
            if name not in files or path.is_symlink() or not path.is_file():
                found.append(f"{name} is missing")
                continue
            had = measure(path, name, gauge)
            if had.size != artefact.size:
                found.append(f"{name} has {had.size} bytes instead of {artefact.size}")
            elif had.sha256 != artefact.sha256:
                found.append(f"{name} has another SHA-256 than when it was written")
    measured = {}
    for each, found in differences.items():
        own = [artefact.size for name, artefact in wanted.items() if inside[name] == each]
        measured[each] = Artefacts(len(own), sum(own), tuple(found))
    return measured


def in_place(repo: Repository, manifest: Manifest) -> list[str]:
    """What is wrong with the artefacts, each read in the repository to its end; nothing is written to a disk."""
    return list(artefacts_in_place(repo, manifest).values())


def checks_in_place(repo: Repository, manifest: Manifest, title: str, same: str) -> list[Check]:
    """The like as one check; and where all that differs is of single parts, one of each of these besides."""
    kind = component_kind(manifest.component)
    details = manifest.detailed(kind.details)
    found = artefacts_in_place(repo, manifest)
    parts = {name: kind.part_of(details, name) for name in found}
    if not found or not kind.alone(details) or None in parts.values():
        return [compared(title, list(found.values()), same)]
    by_part: dict[str, list[str]] = {}
    for name, difference in found.items():
        by_part.setdefault(present(parts[name]), []).append(difference)
    return [
        PartCheck(f"{title}, {named(part)}", FAIL, "; ".join(differences), part=part)
        for part, differences in by_part.items()
    ]


def artefacts_in_place(repo: Repository, manifest: Manifest) -> dict[str, str]:
    """The same, by the names of the artefacts."""
    differences = {}
    with progress.going(_gauge(manifest)) as gauge:
        for artefact in manifest.artefacts:
            try:
                with repo.open(manifest.component, manifest.id, artefact.name) as file:
                    had = artefact_of(file, artefact.name, gauge)
            except NotFoundError:
                differences[artefact.name] = f"{artefact.name} is missing"
                continue
            if had != artefact:
                differences[artefact.name] = f"{artefact.name} has another SHA-256 than when it was written"
    return differences


def _gauge(manifest: Manifest) -> progress.Gauge:
    return progress.Gauge(f"{manifest.id}: reading", manifest.size)


def measure(path: Path, name: str, copy: Optional[pipeline.Sink] = None) -> Artefact:
    """Size and SHA-256 of a file, in bounded memory; what is read is written to `copy`."""
    with path.open("rb") as file:
        return artefact_of(file, name, copy)


def artefact_of(file: IO[bytes], name: str, copy: Optional[pipeline.Sink] = None) -> Artefact:
    """Size and SHA-256 of what is read from it, and written to `copy`."""
    writer = pipeline.HashingWriter(copy)
    shutil.copyfileobj(file, writer, pipeline.CHUNK)
    return Artefact(name, writer.size, writer.sha256)
