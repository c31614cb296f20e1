# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A component that nobody has: letters, which are backed up as one file in a real repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check, compared
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import Log
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.components import Component
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Proof
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.checksums import measure
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import Kind
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

FILE = "letters.txt"
TEXT = "abc"


@dataclass(frozen=True)
class LettersDetails:
    letters: int


def take(run: Opened, override: bool, log: Log, text: str = TEXT) -> Manifest:
    repo = repositories.repository_of(run)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    identity = catalog.free_id(repo, "letters", now)
    with repo.stage("letters", identity) as staging:
        (staging.path / FILE).write_text(text, encoding="utf-8")
        artefacts = (measure(staging.path / FILE, FILE),)
        manifest = Manifest(
            identity, "letters", run.config.stack, now, now, artefacts, details=plain(LettersDetails(len(text)))
        )
        staging.publish(manifest.to_bytes())
    log(f"{identity}: published")
    return manifest


def read(proof: Proof) -> Iterator[Check]:
    with proof.repo.open("letters", proof.manifest.id, FILE) as file:
        letters = len(file.read().decode())
    wanted = proof.manifest.detailed(LettersDetails).letters
    yield compared("letters", [] if letters == wanted else [f"{letters} letters, not {wanted}"], f"{letters} letters")


LETTERS = Kind("letters", "letters", "letters", LettersDetails, counts={"letters": lambda details: details.letters})
DONE = Component(take, lambda manifest: f"{manifest.detailed(LettersDetails).letters} letters")
