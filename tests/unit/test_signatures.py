# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed documents, by the real ssh-keygen."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import (
    manifest,
    repositories,
    sealing,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sealing import Signature
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import FACTS, NOW, make_config, make_manifest, publish

DAY = timedelta(days=1)
CONTENT = {
    "database.dump": b"dump",
    "globals.sql.gz": b"roles",
    "fingerprint.json": json.dumps(FACTS).encode(),
}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Private keys of a host, of an operator and of an attacker."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("host", "operator", "attacker"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(words, check=True)
    return folder


def public(keys: Path, name: str) -> str:
    return (keys / f"{name}.pub").read_text().strip()


class World:
    """A stack whose host signs."""

    def __init__(self, root: Path, keys: Path) -> None:
        self.root, self.keys = root, keys
        self.settings: dict[str, Any] = {"signing_key": str(keys / "host")}

    @property
    def run(self) -> Opened:
        """Opened again, as by another command."""
        return Opened(make_config(self.root, **self.settings))

    def backup(self, at: datetime = NOW, **changes: Any) -> Manifest:
        run, made = self.run, make_manifest(at, **changes)
        with repositories.of(run).stage("database", made.id) as staging:
            for name, data in CONTENT.items():
                (staging.path / name).write_bytes(data)
            return repositories.publish(run, made, staging.publish)

    def path(self, made: Manifest) -> Path:
        return self.root / "backup/postgresql" / made.id / "manifest.json"


@pytest.fixture
def world(tmp_path: Path, keys: Path) -> World:
    return World(tmp_path, keys)


# What this host signs.


def test_the_signature_is_one_that_ssh_keygen_itself_finds_good(world: World, tmp_path: Path) -> None:
    """An auditor needs no Lifeboat: the message is the document's canonical JSON without the signature and the seal."""
    body = json.loads(world.path(world.backup()).read_bytes())
    value = body["signature"].pop("value")
    body.pop("seal")
    (tmp_path / "allowed").write_text(f"host {public(world.keys, 'host')}\n")
    armour = f"-----BEGIN SSH SIGNATURE-----\n{value}\n-----END SSH SIGNATURE-----\n"
    (tmp_path / "sig").write_text(armour)
    message = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    words = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "host"]
    words += ["-n", "lifeboat-manifest@lifeboat.dr", "-s", str(tmp_path / "sig")]
    assert subprocess.run(words, input=message, capture_output=True, check=False).returncode == 0
    done = subprocess.run(words, input=message.replace(b"shop", b"shoq"), capture_output=True, check=False)
    assert done.returncode != 0


def test_a_chain_names_the_one_before(world: World) -> None:
    first, second = world.backup(NOW - DAY), world.backup(NOW)
    assert first.signature and second.signature
    assert (first.signature.sequence, first.signature.previous) == (1, "")
    assert (second.signature.sequence, second.signature.previous) == (2, first.seal)
    marker = json.loads((world.root / "backup/repository.json").read_bytes())
    assert {first.signature.repository, second.signature.repository} == {marker["repository"]}


@pytest.mark.parametrize("lost", [True, False])
def test_a_chain_goes_on_where_the_memory_of_it_is_lost(world: World, lost: bool) -> None:
    """Also where the last run was killed after it had published and before it remembered."""
    world.backup(NOW - 2 * DAY)
    kept = (world.root / "state/signed.json").read_bytes()
    second = world.backup(NOW - DAY)
    if lost:
        (world.root / "state/signed.json").unlink()
    else:
        (world.root / "state/signed.json").write_bytes(kept)
    third = world.backup(NOW)
    assert third.signature == dataclasses.replace(
        third.signature or Signature("", 1, ""), sequence=3, previous=second.seal
    )


def test_another_key_begins_another_chain(world: World) -> None:
    world.backup(NOW - DAY)
    world.settings["signing_key"] = str(world.keys / "operator")
    made = world.backup(NOW)
    assert made.signature
    assert (made.signature.sequence, made.signature.previous) == (1, "")


def test_without_a_key_nothing_is_signed_and_nothing_changes(tmp_path: Path) -> None:
    made = publish(tmp_path)
    repo = repositories.of(Opened(make_config(tmp_path)))
    raw = repo.manifest("database", made.id)
    assert b"signature" not in raw
    assert manifest.parse(raw, component="database", expected_id=made.id).to_bytes() == raw


def test_a_signed_document_is_read_and_written_as_it_is(world: World) -> None:
    made = world.backup()
    raw = world.path(made).read_bytes()
    assert manifest.parse(raw, component="database", expected_id=made.id) == made
    assert made.to_bytes() == raw


def unusable(root: Path, keys: Path, name: str) -> str:
    path = root / name
    if name == "open":
        path.write_bytes((keys / "host").read_bytes())
        path.chmod(0o644)
    if name == "passphrase":
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret words", "-f", str(path)]
        subprocess.run(words, check=True)
    if name == "garbage":
        path.write_text("no key")
        path.chmod(0o600)
    if name == "link":
        path.symlink_to(keys / "host")
    return str(path)


UNUSABLE = {
    "absent": (NotFoundError, "there is no such key"),
    "open": (UsageError, "it is not a private file of root's (0600)"),
    "link": (UsageError, "it is not a private file of root's (0600)"),
    "passphrase": (LifeboatError, "incorrect passphrase"),
    "garbage": (LifeboatError, ""),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_signed_is_not_published(world: World, name: str) -> None:
    """The intact case is every other test here."""
    kind, cause = UNUSABLE[name]
    world.settings["signing_key"] = unusable(world.root, world.keys, name)
    with pytest.raises(kind) as caught:
        world.backup()
    assert cause in str(caught.value)
    assert "Nothing was published" in caught.value.remedy
    assert list((world.root / "backup/postgresql").iterdir()) == []


def test_nothing_secret_is_in_argv(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = sealing.pipeline.probe

    def probe(command: Any, **more: Any) -> Any:
        seen.append(command)
        return real(command, **more)

    monkeypatch.setattr(sealing.pipeline, "probe", probe)
    made = world.backup()
    assert seen
    private = (world.keys / "host").read_text().splitlines()[1]
    for command in seen:
        assert not any(private in word or made.seal in word or "globals" in word for word in command.argv)
        assert command.environment()["SSH_AUTH_SOCK"] == ""
