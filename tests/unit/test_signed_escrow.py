# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of an escrow check: signed by the machine that made it, believed of pinned signers only, never removed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow, escrow_kit, escrow_record
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Signer
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import FACTS, make_config, make_manifest
from config_world import World

CONTENT = {"database.dump": b"dump", "globals.sql.gz": b"roles", "fingerprint.json": json.dumps(FACTS).encode()}
NAMES = ("host", "escrow", "attacker")


class Signing(World):
    """A stack whose host signs what it publishes. Pinned are the host, and for escrow records another machine."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.pinned: tuple[Signer, ...] = ()
        self.signing_key = str(root / "host")
        for name in NAMES:
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(root / name)]
            subprocess.run(words, check=True)
        self.pinned = (Signer("host", self.public("host")), Signer("safe", self.public("escrow"), ("escrow",)))
        monkeypatch.setattr(escrow_record, "store", repositories.repository_of)  # the bucket is of tests/objects

    def public(self, name: str) -> str:
        return (self.root / f"{name}.pub").read_text().strip()

    def configured(self, **changes: Any) -> config.Config:
        made = super().configured(**changes)
        return dataclasses.replace(made, signing_key=self.signing_key, signers=self.pinned)

    def sealed(self) -> points.Point:
        run, made = Opened(self.configured()), make_manifest(datetime.now(timezone.utc))
        with repositories.repository_of(run).stage("database", made.id) as staging:
            for name, data in CONTENT.items():
                (staging.path / name).write_bytes(data)
            repositories.publish(run, made, staging.publish)
        self.take()
        return points.seal(Opened(self.configured()), now=datetime.now(timezone.utc), log=self.lines.append)[0]

    def prove(self, name: str) -> str:
        """`lifeboat escrow --signing-key`, with that key; without one where it is empty."""
        mine = dataclasses.replace(self.configured(), signing_key="")
        run = Opened(escrow_kit.signing(mine, str(self.root / name) if name else ""))
        return escrow.prove(run, self.key, log=self.lines.append).verdict

    def said(self) -> tuple[str, str]:
        (check,) = escrow_record.checks(Opened(self.configured()), datetime.now(timezone.utc))
        return check.result, check.detail

    @property
    def record(self) -> Path:
        return self.root / "backup/recovery-points/escrow-shop.json"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signing:
    return Signing(tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_record_is_signed_and_only_a_pinned_key_is_believed(world: Signing) -> None:
    world.sealed()
    assert world.prove("") == PASS
    unsigned = world.record.read_bytes()
    assert b"signature" not in unsigned
    result, words = world.said()
    assert (result, "untrusted: it is not signed" in words, "--signing-key" in words) == (COULD_NOT_VERIFY, True, True)
    assert "`lifeboat status` will not believe the record: untrusted: it is not signed" in "\n".join(world.lines)
    assert world.record.read_bytes() == unsigned, "an untrusted record is not removed"
    for name, why in (("attacker", "a key that lifeboat_signers does not name"), ("host", "host may not sign this")):
        assert world.prove(name) == PASS
        assert (world.said()[0], why in world.said()[1]) == (COULD_NOT_VERIFY, True), world.said()
    assert world.prove("escrow") == PASS
    assert world.said()[0] == PASS
    first = world.record.read_bytes()
    assert world.prove("escrow") == PASS
    bound = json.loads(world.record.read_bytes())["signature"]
    marker = json.loads((world.root / "backup/repository.json").read_bytes())["repository"]
    seal = sealing.opened_record(first, "", "escrow").seal
    assert (bound["sequence"], bound["previous"], bound["repository"]) == (2, seal, marker)
    world.record.write_bytes(unsigned)
    world.pinned = ()
    assert world.said()[0] == PASS, "the control: where nobody is pinned, anybody is believed"


def later(body: dict[str, Any]) -> None:
    body["at"] = "2099-01-01T00:00:00.000Z"


def later_unsigned(body: dict[str, Any]) -> None:
    later(body)
    body.pop("signature")


def fresh_unsigned(body: dict[str, Any]) -> None:
    body.pop("signature")


def of_an_earlier_lifeboat(body: dict[str, Any]) -> None:
    body.pop("signature")
    body.pop("id")


def of_another_point(body: dict[str, Any]) -> None:
    body["point"] = "20261124_010101"


def without_a_sequence(body: dict[str, Any]) -> None:
    body["signature"].pop("sequence")


PLANTED: dict[Callable[[dict[str, Any]], None], str] = {
    later: "untrusted: its signature is wrong",
    later_unsigned: "untrusted: it is not signed",
    fresh_unsigned: "untrusted: it is not signed",
    of_an_earlier_lifeboat: "untrusted: it is not signed",
    of_another_point: "untrusted: it is of ",
    without_a_sequence: "untrusted: it is not signed",
}


@pytest.mark.slow
def test_a_planted_record_proves_nothing(world: Signing) -> None:
    """Who may write to the vault can write one; the year 2099 would be fresh for seventy years."""
    world.sealed()
    assert world.prove("escrow") == PASS
    right = world.record.read_bytes()
    for attack, why in PLANTED.items():
        body = json.loads(right)
        attack(body)
        world.record.write_bytes(sealing.render(body))
        assert (world.said()[0], why in world.said()[1]) == (COULD_NOT_VERIFY, True), (attack, world.said())
    world.record.write_bytes(right)
    assert world.said()[0] == PASS


@pytest.mark.parametrize("document", ["escrow", "verification"])
def test_a_signature_of_another_document_is_none(tmp_path: Path, document: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    everything = ("manifest", "recovery-point", "verification", "escrow")
    pinned = [{"name": "a", "key": (tmp_path / "key.pub").read_text(), "documents": everything}]
    repo = repositories.repository_of(Opened(make_config(tmp_path, signers=pinned)))
    place = sealing.Signature("r", 1, "")
    data = sealing.signed_record({"id": "x", "seal": "s", "stack": "shop"}, place, str(tmp_path / "key"), document)
    assert repo.trust is not None
    said = repo.trust.refused_escrow("x", data)
    assert said == ("" if document == "escrow" else "signature.value is for lifeboat-verification@lifeboat.dr,"
                    " not for lifeboat-escrow@lifeboat.dr")  # fmt: skip


def test_a_record_that_cannot_be_signed_is_not_written(world: Signing) -> None:
    world.sealed()
    world.root.joinpath("escrow").chmod(0o644)
    assert world.prove("escrow") == PASS, "what was opened was opened"
    assert not world.record.exists()
    assert any("not put on record" in line and "not a private file" in line for line in world.lines)


def test_the_command_takes_the_key(tmp_path: Path) -> None:
    given = cli.parser("escrow").parse_args(["escrow", "--signing-key", "some.key"])
    made = escrow_kit.signing(make_config(tmp_path), given.signing_key)
    assert made.signing_key == str(Path("some.key").absolute())
    assert escrow_kit.signing(make_config(tmp_path), "").signing_key == ""
