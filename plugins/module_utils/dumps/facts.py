# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server held when its dump was taken: a document in the backup, with which a server is compared."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Optional

from ..base import typed
from ..base.errors import IntegrityError, LifeboatError
from ..base.text import human
from ..files import packs
from ..repository.base import Repository
from ..repository.details import DumpsDetails
from ..repository.manifest import Artefact, Manifest
from ..tools import age

DUMPS = "dumps"  # the component, as repository/components has it
FACTS_SCHEMA, _VERSION = "lifeboat.dr/dump-facts", [1, 0]
_MOST_FACTS = 256 << 20  # bytes of the document


@dataclass(frozen=True)
class Facts:
    """What a server held when its dump had been taken, by name; and before it where that was something else."""

    facts: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Optional[str]] = field(default_factory=dict)

    @property
    def unsettled(self) -> frozenset[str]:
        return frozenset(self.before)

    def differences(self, now: Mapping[str, str]) -> Differences:
        """What a server that holds the dump has otherwise."""
        wrong, unproved = list[str](), list[str]()
        for name in sorted({*self.facts, *now, *self.before}):
            after, current = self.facts.get(name), now.get(name)
            if current == after or (name in self.before and current == self.before[name]):
                continue
            what = "is missing" if current is None else "is additional" if after is None else "differs"
            (unproved if name in self.before else wrong).append(f"{name} {what}")
        return Differences(tuple(wrong), tuple(unproved))


@dataclass(frozen=True)
class Differences:
    """wrong: of what was the same before and after the dump. unproved: of what was written meanwhile."""

    wrong: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()


def write(facts: Facts, folder: Path, identity: str, source: str, seal: age.Seal) -> Artefact:
    name = seal.named(f"{source}.facts.json.zst")
    body = {"schema": FACTS_SCHEMA, "version": _VERSION, "facts": dict(facts.facts), "before": dict(facts.before)}
    with packs.compressed(folder / name, seal, f"{identity}/{name}") as (sink, hashed):
        sink.write(json.dumps(body).encode("ascii"))
    return Artefact(name, hashed.size, hashed.sha256)


@contextlib.contextmanager
def opened(repo: Repository, manifest: Manifest, artefact: str, keys: age.Keys) -> Iterator[IO[bytes]]:
    """An artefact as it was before it was compressed and encrypted."""
    details = manifest.detailed(DumpsDetails)
    seal, subject = age.Seal(details.recipients, details.host_key), f"{manifest.id}/{artefact}"
    with (
        repo.open(DUMPS, manifest.id, artefact) as stored,
        packs.decompressed(stored, seal, keys, subject) as stream,
    ):
        yield stream


def read_facts(repo: Repository, manifest: Manifest, source: str, keys: age.Keys) -> Facts:
    """What the server held. Raises LifeboatError, IntegrityError where that is damaged."""
    artefact = manifest.detailed(DumpsDetails).sources[source].facts
    with opened(repo, manifest, artefact, keys) as stream:
        return facts_from(stream.read(_MOST_FACTS + 1), f"{manifest.id}/{artefact}")


def facts_from(data: bytes, subject: str) -> Facts:
    def wrong(at: str, cause: str) -> LifeboatError:
        return IntegrityError("read the facts", subject, f"{at} {cause}".strip())

    if len(data) > _MOST_FACTS:
        raise wrong("", f"they are longer than {human(_MOST_FACTS)}")
    body = typed.load(data, wrong)
    if not isinstance(body, Mapping) or body.get("schema") != FACTS_SCHEMA:
        raise wrong("schema", "is another one")
    return typed.build(Facts, {name: body.get(name, {}) for name in ("facts", "before")}, wrong)
