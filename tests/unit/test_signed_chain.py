# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of signed documents is checked by one process: the newest one names the one before it, and so on."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, make_manifest

NIGHTS = 5


class Chain:
    """A repository with some signed nights, and how many processes a list of it starts."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.made, self.checked = root, list[Manifest](), list[str]()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "host")], check=True)
        signers = [{"name": "host", "key": (root / "host.pub").read_text()}]
        self.config = make_config(root, signing_key=str(root / "host"), signers=signers)
        for night in reversed(range(NIGHTS)):
            run, made = Opened(self.config), make_manifest(NOW - timedelta(days=night), artefacts=())
            with repositories.repository_of(run).stage("database", made.id) as staging:
                self.made.append(repositories.publish(run, made, staging.publish))
        real = sealing.verify

        def counted(message: bytes, value: str, document: str, key: str) -> str:
            self.checked.append(document)
            return real(message, value, document, key)

        monkeypatch.setattr(sealing, "verify", counted)

    def path(self, number: int, name: str = "manifest.json") -> Path:
        return self.root / "backup/postgresql" / self.made[number].id / name

    def list(self) -> list[str]:
        """What is wrong with each, oldest first, as a reader finds it who remembers nothing."""
        (self.root / "state/signatures.json").unlink(missing_ok=True)
        self.checked.clear()
        return [
            entry.problem
            for entry in catalog.entries(repositories.repository_of(Opened(self.config)), "database", "shop")
        ]


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    return Chain(tmp_path, monkeypatch)


def test_one_process_checks_a_chain(chain: Chain) -> None:
    assert chain.list() == [""] * NIGHTS
    assert chain.checked == ["manifest"]


def test_what_the_next_one_does_not_name_is_checked_and_found(chain: Chain) -> None:
    """Another content with the signature as it was: well sealed, and its seal is another."""
    chain.path(2).write_bytes(dataclasses.replace(chain.made[2], tool={"lifeboat": "9"}).to_bytes())
    found = chain.list()
    assert found[2].startswith("untrusted: its signature is wrong")
    assert found[:2] + found[3:] == [""] * (NIGHTS - 1), "and the others are checked without it"
    assert len(chain.checked) == 3, "the newest, that one, and the one before it, for which nobody vouches now"


def test_a_gap_begins_another_check(chain: Chain) -> None:
    chain.path(2).unlink()
    assert chain.list() == [""] * (NIGHTS - 1)
    assert len(chain.checked) == 2


def test_who_is_not_pinned_vouches_for_nothing(chain: Chain) -> None:
    """The newest is of another key, and names the seal of a document that was altered."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(chain.root / "attacker")], check=True)
    lie = dataclasses.replace(chain.made[3], tool={"lifeboat": "9"})
    chain.path(3).write_bytes(lie.to_bytes())
    bound = dataclasses.replace(chain.made[4].signature or sealing.Signature("", 1, ""), previous=lie.seal)
    forged = chain.made[4].signed(bound, str(chain.root / "attacker"))
    chain.path(4).write_bytes(forged.to_bytes())
    found = chain.list()
    assert "a key that lifeboat_signers does not name" in found[4]
    assert found[3].startswith("untrusted: its signature is wrong")
    assert found[:3] == [""] * 3


def test_verifications_follow_one_another_too(chain: Chain) -> None:
    for made in chain.made:
        run, result = Opened(chain.config), Result(made.id, "restore", (Check("tables", "PASS", "x"),), NOW, NOW)
        verify.keep(run, repositories.repository_of(run), made, result)
    assert chain.list() == [""] * NIGHTS
    assert chain.checked.count("verification") == 1
    path = chain.path(1, "verification.json")
    body = json.loads(path.read_bytes())
    body["levels"]["restore"]["verdict"] = "FAIL"
    path.write_bytes(sealing.render(body))
    assert chain.list() == [""] * NIGHTS, "a forged failure does not count"
    assert chain.checked.count("verification") == 3
