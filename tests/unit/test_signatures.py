# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed documents: what this host signs, and what is believed of what lies in a repository, by the real ssh-keygen."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    NotFoundError,
    UntrustedError,
    UsageError,
    present,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    escrow,
    prune,
    status,
    trust_adoption,
    verify,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import (
    catalog,
    manifest,
    points,
    repositories,
    sealing,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sealing import Signature
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import FACTS, NOW, make_config, make_manifest, publish, settings

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
    """A stack whose host signs, and pins its own key and the operator's."""

    def __init__(self, root: Path, keys: Path) -> None:
        self.root, self.keys = root, keys
        self.settings: dict[str, Any] = {"signing_key": str(keys / "host")}
        self.pin("host")

    def pin(self, *names: str, **more: Any) -> None:
        self.settings["signers"] = [{"name": name, "key": public(self.keys, name), **more} for name in names]

    @property
    def run(self) -> Opened:
        """Opened again, as by another command."""
        return Opened(make_config(self.root, **self.settings))

    def backup(self, at: datetime = NOW, **changes: Any) -> Manifest:
        run, made = self.run, make_manifest(at, **changes)
        with repositories.repository_of(run).stage("database", made.id) as staging:
            for name, data in CONTENT.items():
                (staging.path / name).write_bytes(data)
            return repositories.publish(run, made, staging.publish)

    def path(self, made: Manifest) -> Path:
        return self.root / "backup/postgresql" / made.id / "manifest.json"

    def entries(self) -> list[catalog.Entry]:
        return catalog.entries(repositories.repository_of(self.run), "database", "shop")

    def problems(self) -> dict[str, str]:
        return {entry.id: entry.problem for entry in self.entries()}


@pytest.fixture
def world(tmp_path: Path, keys: Path) -> World:
    return World(tmp_path, keys)


def edited(made: Manifest, **changes: Any) -> bytes:
    """Other content, well sealed, with the signature as it was."""
    return dataclasses.replace(made, **changes).to_bytes()


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
    repo = repositories.repository_of(Opened(make_config(tmp_path)))
    raw = repo.manifest("database", made.id)
    assert b"signature" not in raw
    assert manifest.parse(raw, component="database", expected_id=made.id).to_bytes() == raw


def test_a_signed_document_is_read_and_written_as_it_is(world: World) -> None:
    made = world.backup()
    raw = world.path(made).read_bytes()
    assert manifest.parse(raw, component="database", expected_id=made.id) == made
    assert made.to_bytes() == raw


def unusable(root: Path, keys: Path, name: str) -> str:
    path = root / f"{name}.key"  # a name without it is that of a secret, and what follows it is blanked
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


# What is believed.


def unsigned(world: World, made: Manifest) -> bytes:
    return edited(made, signature=None)


def altered(world: World, made: Manifest) -> bytes:
    return edited(made, tool={"lifeboat": "9"})


def by_another(world: World, made: Manifest) -> bytes:
    bound = made.signature or Signature("", 1, "")
    return made.signed(bound, str(world.keys / "attacker")).to_bytes()


def of_another_key_in_our_name(world: World, made: Manifest) -> bytes:
    """The blob says that our key made it; the signature in it is another's."""
    bound = made.signature or Signature("", 1, "")
    theirs = base64.b64decode((made.signed(bound, str(world.keys / "attacker")).signature or bound).value)
    ours = base64.b64decode(bound.value)
    mixed = base64.b64encode(ours[:-64] + theirs[-64:]).decode()
    return edited(made, signature=dataclasses.replace(bound, value=mixed))


def of_another_type(world: World, made: Manifest) -> bytes:
    """A signature for a recovery point, on the same bytes."""
    bound = dataclasses.replace(made.signature or Signature("", 1, ""), value="")
    bare = dataclasses.replace(made, signature=bound)
    value = sealing.sign(sealing._unsigned(bare._body()), str(world.keys / "host"), config.RECOVERY_POINTS)
    return edited(made, signature=dataclasses.replace(bound, value=value))


def renumbered(world: World, made: Manifest) -> bytes:
    return edited(made, signature=dataclasses.replace(made.signature or Signature("", 1, ""), sequence=9))


def moved(world: World, made: Manifest) -> bytes:
    return edited(made, signature=dataclasses.replace(made.signature or Signature("", 1, ""), repository="0" * 32))


def of_another_stack(world: World, made: Manifest) -> bytes:
    other = dataclasses.replace(made, stack="other")
    return other.signed(made.signature or Signature("", 1, ""), str(world.keys / "host")).to_bytes()


def of_another_id(world: World, made: Manifest) -> bytes:
    """A signed one, put where another one should be."""
    other = dataclasses.replace(made, id="db_backup_20201124_120000")
    return other.signed(made.signature or Signature("", 1, ""), str(world.keys / "host")).to_bytes()


def not_base64(world: World, made: Manifest) -> bytes:
    return edited(made, signature=dataclasses.replace(made.signature or Signature("", 1, ""), value="!!!!"))


def with_a_tail(world: World, made: Manifest) -> bytes:
    """Bytes behind the signature, which ssh-keygen would pass over."""
    bound = made.signature or Signature("", 1, "")
    longer = base64.b64encode(base64.b64decode(bound.value) + b"\0\0\0\1x").decode()
    return edited(made, signature=dataclasses.replace(bound, value=longer))


def huge(world: World, made: Manifest) -> bytes:
    return edited(made, signature=dataclasses.replace(made.signature or Signature("", 1, ""), value="A" * 10**6))


def with_more_fields(world: World, made: Manifest) -> bytes:
    body = json.loads(made.to_bytes())
    body["signature"]["note"] = "unsigned"
    body["seal"] = sealing.seal(body)
    return sealing.render(body)


def broken(world: World, made: Manifest) -> bytes:
    return b"{"


REFUSED = {
    unsigned: "untrusted: it is not signed",
    altered: "untrusted: its signature is wrong",
    by_another: "untrusted: it is signed with a key that lifeboat_signers does not name",
    of_another_key_in_our_name: "untrusted: its signature is wrong",
    of_another_type: "untrusted: signature.value is for lifeboat-recovery-point@lifeboat.dr, not for"
    " lifeboat-manifest@lifeboat.dr",
    renumbered: "untrusted: its signature is wrong",
    moved: "untrusted: its signature is wrong",
    of_another_stack: "of the stack other",
    of_another_id: "untrusted: it is db_backup_20201124_120000 of the stack shop",
    not_base64: "untrusted: signature.value is not a signature as ssh-keygen writes it",
    with_a_tail: "untrusted: signature.value is not a signature as ssh-keygen writes it",
    huge: "untrusted: signature.value is not a signature as ssh-keygen writes it",
    with_more_fields: "untrusted: signature has other fields than a signature has",
    broken: "untrusted: it is not JSON that can be read",
}


@pytest.mark.parametrize("attack", REFUSED, ids=lambda attack: attack.__name__)
def test_what_no_pinned_signer_signed_is_untrusted(world: World, attack: Callable[[World, Manifest], bytes]) -> None:
    older, newest = world.backup(NOW - DAY), world.backup(NOW)
    assert world.problems() == {older.id: "", newest.id: ""}, "the intact ones are believed"
    world.path(newest).write_bytes(attack(world, newest))
    (good, bad) = world.entries()
    assert (good.id, good.problem) == (older.id, "")
    assert bad.untrusted
    assert bad.unknown
    assert REFUSED[attack] in bad.problem
    with pytest.raises(UntrustedError, match="untrusted"):
        Sources(world.run, "database", newest.id).choose(newest.id, None, lambda entry: "")


def test_latest_passes_over_what_is_untrusted(world: World) -> None:
    older, newest = world.backup(NOW - DAY), world.backup(NOW)
    world.path(newest).write_bytes(unsigned(world, newest))
    chosen, passed = catalog.choose(world.entries(), "shop")
    assert chosen.id == older.id
    assert [(entry.id, entry.untrusted) for entry in passed] == [(newest.id, True)]


def test_without_signers_all_is_believed_as_before(world: World) -> None:
    made = world.backup()
    world.path(made).write_bytes(by_another(world, made))
    del world.settings["signers"]
    assert world.problems() == {made.id: ""}


def test_a_key_that_may_sign_something_else_only(world: World) -> None:
    made = world.backup()
    world.pin("host", documents=["verification"])
    assert world.problems() == {made.id: "untrusted: host may not sign this: manifest"}


def test_a_key_that_expired(world: World) -> None:
    made = world.backup()
    world.pin("host", expires="2199-01-01T00:00:00+00:00")
    assert world.problems() == {made.id: ""}
    world.pin("host", expires="2026-01-01T00:00:00+00:00")
    said = world.problems()[made.id]
    assert said.startswith("untrusted: host signed it, whose key expired 2026-01-01")


def test_a_key_that_is_pinned_no_longer(world: World) -> None:
    """What was checked before counts as long as the key does."""
    made = world.backup()
    assert world.problems() == {made.id: ""}
    world.pin("operator")
    assert "does not name" in world.problems()[made.id]


def test_readers_at_the_same_time_keep_each_others_lines(world: World) -> None:
    first, second = world.backup(NOW - DAY), world.backup(NOW)
    memory = world.root / "state/signatures.json"
    memory.unlink()
    readers = [present(repositories.trust(world.run)) for _ in range(2)]
    for reader, made in zip(readers, (first, second)):
        reader.check("manifest", "database", made.id, world.path(made).read_bytes())
    for reader in readers:
        reader.keep()
    assert {item["id"] for item in json.loads(memory.read_bytes())["known"].values()} == {first.id, second.id}


def test_what_was_checked_once_is_not_checked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [world.backup(NOW - n * DAY) for n in reversed(range(3))]
    (world.root / "state/signatures.json").unlink()
    assert set(world.problems().values()) == {""}

    def never(*_: object) -> str:
        raise AssertionError("a process was started")

    monkeypatch.setattr(sealing, "verify", never)
    assert world.problems() == {backup.id: "" for backup in made}


def test_what_this_host_signed_is_not_checked_by_a_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world.backup()
    monkeypatch.setattr(sealing, "verify", lambda *_: "a process was started")
    assert world.problems() == {made.id: ""}


MEMORY = {
    "open": (lambda path: path.chmod(0o644), "is not a private file of this user (0600)"),
    "garbage": (lambda path: path.write_text("{"), "is not as it was written"),
    "a link": (lambda path: path.rename(path.with_name("x")) and path.symlink_to("x"), "signatures.json"),
}


@pytest.mark.parametrize("name", MEMORY)
def test_a_memory_that_others_could_write_is_not_believed(world: World, name: str) -> None:
    """Everything is checked again, and status says that it is not known what is gone."""
    made = world.backup()
    change, words = MEMORY[name]
    change(world.root / "state/signatures.json")
    assert world.problems() == {made.id: ""}
    check = next(check for check in status.status(world.run, now=NOW).checks if check.name == "signatures")
    assert (check.result, words in check.detail) == ("COULD_NOT_VERIFY", True), check


def test_a_forged_memory_is_no_signature(world: World) -> None:
    """Who may write it is root, but a line in it that another document's bytes would need has another digest."""
    older, newest = world.backup(NOW - DAY), world.backup(NOW)
    world.path(newest).write_bytes(world.path(older).read_bytes())
    assert world.problems()[newest.id] == f"untrusted: it is the manifest {older.id}"


def test_two_valid_documents_with_one_id(world: World) -> None:
    made = world.backup()
    assert world.problems() == {made.id: ""}
    other = dataclasses.replace(made, tool={"lifeboat": "9"})
    bound = dataclasses.replace(made.signature or Signature("", 1, ""), sequence=2, previous=made.seal)
    world.path(made).write_bytes(other.signed(bound, str(world.keys / "host")).to_bytes())
    assert "two valid documents with this id" in world.problems()[made.id]
    world.path(made).write_bytes(made.to_bytes())
    assert "two valid documents with this id" in world.problems()[made.id], "the first is no choice either"


def test_two_valid_documents_with_one_sequence(world: World) -> None:
    """As from a key that two machines have. Both are no choice, also in the run that sees both for the first time."""
    first, second = world.backup(NOW - DAY), world.backup(NOW)
    bound = first.signature or Signature("", 1, "")
    world.path(second).write_bytes(second.signed(bound, str(world.keys / "host")).to_bytes())
    (world.root / "state/signatures.json").unlink()
    words = f"untrusted: {first.id} and {second.id} have the same sequence, 1"
    assert world.problems() == {first.id: words, second.id: words}
    assert world.problems() == {first.id: words, second.id: words}


def test_a_document_that_the_next_one_does_not_follow(world: World) -> None:
    first, second = world.backup(NOW - DAY), world.backup(NOW)
    bound = dataclasses.replace(second.signature or Signature("", 1, ""), previous="0" * 64)
    world.path(second).write_bytes(second.signed(bound, str(world.keys / "host")).to_bytes())
    (world.root / "state/signatures.json").unlink()
    said = world.problems()
    assert "names another one as the one before" in said[first.id]
    assert said[second.id] == ""


def remove(world: World, made: Manifest) -> None:
    path = world.path(made).parent
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def signatures(world: World, now: datetime = NOW) -> tuple[str, str]:
    check = next(check for check in status.status(world.run, now=now).checks if check.name == "signatures")
    return check.result, check.detail


def test_a_sequence_that_was_higher_before(world: World) -> None:
    older, newest = world.backup(NOW - DAY), world.backup(NOW)
    assert signatures(world)[0] == "PASS"
    chosen, _passed = Sources(world.run, "database").choose("latest", None, lambda entry: "")
    assert chosen.id == newest.id
    remove(world, newest)
    words = f"{newest.id} was seen with sequence 2; the newest that is there is {older.id} with 1"
    assert signatures(world) == ("FAIL", words)
    with pytest.raises(UntrustedError, match=words):
        Sources(world.run, "database").choose("latest", None, lambda entry: "")
    chosen, _passed = Sources(world.run, "database", older.id).choose(older.id, None, lambda entry: "")
    assert chosen.id == older.id, "an operator may name it"


def test_a_gap(world: World) -> None:
    first, second, third = [world.backup(NOW - n * DAY) for n in (2, 1, 0)]
    assert signatures(world)[0] == "PASS"
    remove(world, second)
    assert signatures(world) == ("FAIL", f"1 between {first.id} and {third.id}, by their sequence")


def test_the_last_of_an_older_key_may_be_removed(world: World) -> None:
    """By retention, which keeps an older one for its week or month."""
    world.backup(NOW - 60 * DAY)
    last = world.backup(NOW - 50 * DAY)
    world.settings["signing_key"] = str(world.keys / "operator")
    world.pin("host", "operator")
    newest = world.backup(NOW)
    remove(world, last)
    assert signatures(world)[0] == "PASS"
    assert chosen(world.run) == newest.id
    remove(world, newest)
    words = f"{newest.id} was seen with sequence 1; none of its key is there"
    assert signatures(world) == ("FAIL", words)
    with pytest.raises(UntrustedError, match=words):
        chosen(world.run)


def test_what_retention_removed_is_no_gap(world: World) -> None:
    old = [world.backup(NOW - n * DAY) for n in (40, 39, 38, 1, 0)]
    remove(world, old[1])
    assert signatures(world)[0] == "PASS"


def test_status_names_a_key_that_will_not_be_believed(world: World) -> None:
    world.backup()
    world.pin("operator")
    assert signatures(world)[0] == "FAIL"
    assert "its next backups are untrusted" in signatures(world)[1]
    found = {check.name: (check.result, check.detail) for check in status.status(world.run, now=NOW).checks}
    assert found["untrusted backups"][0] == "FAIL"
    assert "lifeboat_signers does not name" in found["untrusted backups"][1]
    assert "broken backups" not in found
    assert "unknown backups" not in found


def test_prune_never_deletes_what_is_untrusted(world: World) -> None:
    """The control: the same backup without pinned signers is deleted by the same rules."""
    world.settings["retention"] = {"weekly_months": 0, "monthly_months": 0}
    old = world.backup(NOW - 40 * DAY)
    for n in (3, 2, 1):
        world.backup(NOW - n * DAY)
    world.path(old).write_bytes(unsigned(world, old))
    result = prune.prune(world.run, now=NOW, dry_run=True, log=lambda line: None, trust_clock=True)
    assert old.id in result["keep"]
    assert result["keep"][old.id] == ["unknown: untrusted: it is not signed"]
    assert result["untrusted"] == [old.id]
    error = prune.unread("shop", result)
    assert isinstance(error, UntrustedError)
    assert "it is not signed" in str(error)
    del world.settings["signers"]
    result = prune.prune(world.run, now=NOW, dry_run=True, log=lambda line: None, trust_clock=True)
    assert result["delete"] == [old.id]


def test_a_recovery_point_is_signed_and_believed_like_its_parts(world: World) -> None:
    world.backup()
    made, new = points.seal(world.run, now=NOW, log=lambda line: None)
    assert new
    assert made.signature
    (entry,) = points.entries(
        repositories.repository_of(world.run), "shop", points.backups(repositories.repository_of(world.run), "shop")
    )
    assert (entry.problem, entry.point) == ("", made)
    path = world.root / f"backup/recovery-points/{made.id}.json"
    path.write_bytes(dataclasses.replace(made, signature=None).to_bytes())
    (entry,) = points.entries(
        repositories.repository_of(world.run), "shop", points.backups(repositories.repository_of(world.run), "shop")
    )
    assert (entry.untrusted, entry.problem) == (True, "untrusted: it is not signed")


def test_a_recovery_point_of_an_untrusted_backup_is_untrusted(world: World) -> None:
    made = world.backup()
    points.seal(world.run, now=NOW, log=lambda line: None)
    world.path(made).write_bytes(unsigned(world, made))
    (entry,) = points.entries(
        repositories.repository_of(world.run), "shop", points.backups(repositories.repository_of(world.run), "shop")
    )
    assert entry.untrusted
    assert entry.problem == f"{made.id}: untrusted: it is not signed"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a private key": ({"signers": [{"name": "a", "key": "-----BEGIN OPENSSH PRIVATE KEY-----"}]}, "private key"),
    "no key": ({"signers": [{"name": "a", "key": "ssh-ed25519"}]}, "wants one line of a public key"),
    "two lines": ({"signers": [{"name": "a", "key": "ssh-ed25519 AAAA\nssh-ed25519 AAAA"}]}, "wants one line"),
    "an option": ({"signers": [{"name": "a", "key": "cert-authority ssh-ed25519 AAAA"}]}, "wants one line"),
    "no name": ({"signers": [{"key": "ssh-ed25519 AAAA"}]}, "a name is plain"),
    "a pattern": ({"signers": [{"name": "*", "key": "ssh-ed25519 AAAA"}]}, "a name is plain"),
    "another document": ({"signers": [{"name": "a", "key": "KEY", "documents": ["money"]}]}, "does not know money"),
    "a key twice": ({"signers": [{"name": "a", "key": "KEY"}, {"name": "b", "key": "KEY x"}]}, "each key once"),
    "a name twice": ({"signers": [{"name": "a", "key": "KEY"}, {"name": "a", "key": "KEY x"}]}, "used once"),
    "a relative path": ({"signing_key": "key"}, "is not an absolute path"),
    "adopted by nobody": ({"adopted": [{"documents": "", "signature": ""}]}, "nobody may sign it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, keys: Path, name: str) -> None:
    given, words = WRONG[name]
    whole = public(keys, "host").rpartition(" ")[0]
    signers = [{**signer, "key": re.sub("^KEY", whole, signer["key"])} for signer in given.get("signers", ())]
    given = {**given, "signers": signers}
    with pytest.raises(UsageError) as caught:
        make_config(tmp_path, **given)
    assert words in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


# Adoption.


def signed_by(world: World, name: str, text: str, namespace: str = "lifeboat-adoption@lifeboat.dr") -> dict[str, str]:
    """As an operator does it, who has the list in a file."""
    path = world.root / "list.json"
    path.write_text(text)
    path.with_name("list.json.sig").unlink(missing_ok=True)
    words = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(world.keys / name), "-n", namespace, str(path)]
    subprocess.run(words, check=True)
    return {"documents": text, "signature": path.with_name("list.json.sig").read_text()}


def unpinned(world: World) -> Manifest:
    """A backup from before anything was signed, and both pinned since then."""
    world.settings.pop("signing_key")
    made = world.backup()
    world.settings["signing_key"] = str(world.keys / "host")
    world.pin("host")
    world.settings["signers"] += [
        {"name": "operator", "key": public(world.keys, "operator"), "documents": ["adoption"]}
    ]
    return made


def listed(world: World, capsys: pytest.CaptureFixture[str], *ids: str) -> str:
    """What the command prints, byte for byte."""
    etc = world.root / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "shop.json").write_text(json.dumps(settings(world.root, **world.settings)))
    assert cli.main(["adopt", *ids, "--config-directory", str(etc)]) == 0
    return capsys.readouterr().out


def test_what_an_operator_vouches_for_is_believed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = unpinned(world)
    assert world.problems() == {made.id: "untrusted: it is not signed"}
    text = listed(world, capsys)
    assert json.loads(text)["documents"] == [{"document": "manifest", "id": made.id, "seal": made.seal}]
    world.settings["adopted"] = [signed_by(world, "operator", text)]
    assert world.problems() == {made.id: ""}
    assert json.loads(listed(world, capsys))["documents"] == []
    world.settings["adopted"][0]["documents"] = text.rstrip("\n")
    assert world.problems() == {made.id: ""}, "what reads a file for an inventory may cut its end"


def test_what_a_host_signed_before_it_fell_is_adopted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Its key is pinned no longer, and this machine had checked the document before."""
    made = world.backup()
    assert world.problems() == {made.id: ""}
    world.pin("operator", documents=["adoption"])
    assert "does not name" in world.problems()[made.id]
    world.settings["adopted"] = [signed_by(world, "operator", listed(world, capsys))]
    assert world.problems() == {made.id: ""}


def test_only_the_very_document_is_adopted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = unpinned(world)
    world.settings["adopted"] = [signed_by(world, "operator", listed(world, capsys, made.id))]
    world.path(made).write_bytes(edited(made, tool={"lifeboat": "9"}))
    assert world.problems() == {made.id: "untrusted: it is not signed"}


def test_what_is_adopted_may_contradict(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator says which of two is right."""
    unpinned(world)
    first, second = world.backup(NOW - DAY), world.backup(NOW + DAY)
    bound = first.signature or Signature("", 1, "")
    world.path(second).write_bytes(second.signed(bound, str(world.keys / "host")).to_bytes())
    (world.root / "state/signatures.json").unlink()
    assert "have the same sequence" in world.problems()[first.id]
    world.settings["adopted"] = [signed_by(world, "operator", listed(world, capsys, first.id))]
    assert world.problems()[first.id] == ""
    assert "have the same sequence" in world.problems()[second.id]


LISTS: dict[str, tuple[Callable[[World, str], dict[str, str]], str]] = {
    "by the host": (
        lambda world, text: signed_by(world, "host", text),
        "host may not sign this: adoption",
    ),
    "by an attacker": (lambda world, text: signed_by(world, "attacker", text), "does not name"),
    "for another type": (
        lambda world, text: signed_by(world, "operator", text, "lifeboat-manifest@lifeboat.dr"),
        "is for lifeboat-manifest@lifeboat.dr",
    ),
    "edited": (
        lambda world, text: {**signed_by(world, "operator", text), "documents": text.replace('"seal"', '"seal" ')},
        "its signature is wrong",
    ),
    "of another stack": (
        lambda world, text: signed_by(world, "operator", text.replace('"shop"', '"other"')),
        "it is not a list of the stack shop",
    ),
    "no list": (lambda world, text: signed_by(world, "operator", "[]\n"), "wants a mapping"),
    "no signature": (lambda world, text: {"documents": text, "signature": "yes"}, "is not what `ssh-keygen -Y sign`"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_not_right_counts_for_nothing(
    world: World, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made = unpinned(world)
    make, words = LISTS[name]
    world.settings["adopted"] = [make(world, listed(world, capsys))]
    assert world.problems() == {made.id: "untrusted: it is not signed"}
    result, said = signatures(world)
    assert (result, words in said, "lifeboat_adopted[0]" in said) == ("FAIL", True, True), said


def test_what_is_broken_cannot_be_adopted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = unpinned(world)
    world.path(made).write_bytes(made.to_bytes().replace(b"db_backup", b"xx_backup"))
    assert json.loads(listed(world, capsys))["documents"] == []


def test_adopt_where_nothing_is_pinned_or_nothing_fits(world: World) -> None:
    made = world.backup()
    with pytest.raises(NotFoundError, match="nothing untrusted has that id"):
        trust_adoption.untrusted(world.run, [made.id])
    del world.settings["signers"]
    with pytest.raises(UsageError, match="no signers are pinned"):
        trust_adoption.untrusted(world.run, [])


# Verifications.


def proved(world: World, made: Manifest, verdict: str = "PASS", at: datetime = NOW) -> Path:
    """What a verification that ran leaves beside the backup."""
    run, result = world.run, Result(made.id, "restore", (Check("tables", verdict, "x"),), at, at)
    verify.keep(run, repositories.repository_of(run), made, result)
    return world.path(made).with_name("verification.json")


def proof(world: World) -> tuple[str, bool]:
    (entry,) = world.entries()
    return entry.problem, entry.proven_at is not None


def test_a_verification_is_signed_and_counts(world: World, tmp_path: Path) -> None:
    made = world.backup()
    body = json.loads(proved(world, made).read_bytes())
    assert proof(world) == ("", True)
    assert signatures(world)[0] == "PASS"
    value = body["signature"].pop("value")
    armour = f"-----BEGIN SSH SIGNATURE-----\n{value}\n-----END SSH SIGNATURE-----\n"
    (tmp_path / "sig").write_text(armour)
    (tmp_path / "allowed").write_text(f"host {public(world.keys, 'host')}\n")
    words = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "host"]
    words += ["-n", "lifeboat-verification@lifeboat.dr", "-s", str(tmp_path / "sig")]
    assert subprocess.run(words, input=sealing.canonical(body), capture_output=True, check=False).returncode == 0


def planted_pass(body: dict[str, Any]) -> None:
    body.pop("signature")


def planted_fail(body: dict[str, Any]) -> None:
    body["levels"]["restore"]["verdict"] = "FAIL"


def of_another_backup(body: dict[str, Any]) -> None:
    body["id"] = "db_backup_20201124_120000"


def with_garbage(body: dict[str, Any]) -> None:
    body["signature"]["value"] = "AAAA"


RECORDS = {
    planted_pass: "untrusted: it is not signed",
    planted_fail: "untrusted: its signature is wrong",
    of_another_backup: "untrusted: it is of db_backup_20201124_120000",
    with_garbage: "is not a signature as ssh-keygen writes it",
}


@pytest.mark.parametrize("attack", RECORDS, ids=lambda attack: attack.__name__)
def test_a_planted_verification_does_not_count(world: World, attack: Callable[[dict[str, Any]], None]) -> None:
    """Neither as a proof nor against the backup; status says so."""
    made = world.backup()
    path = proved(world, made)
    body = json.loads(path.read_bytes())
    attack(body)
    path.write_bytes(sealing.render(body))
    assert proof(world) == ("", False)
    result, said = signatures(world)
    assert (result, f"the verification of {made.id}" in said, RECORDS[attack] in said) == ("FAIL", True, True), said
    del world.settings["signers"]
    if attack is planted_fail:
        assert proof(world)[0].startswith("verification at level restore failed"), "the control"
    if attack is planted_pass:
        assert proof(world) == ("", True), "the control"


def test_an_older_verification_that_was_put_back_does_not_count(world: World) -> None:
    made = world.backup()
    before = proved(world, made).read_bytes()
    path = proved(world, made, "FAIL", NOW + timedelta(hours=1))
    assert proof(world) == ("verification at level restore failed (tables: x)", False)
    path.write_bytes(before)
    assert proof(world) == ("", False)
    assert "untrusted: it is an older one, put back" in signatures(world)[1]


def test_two_valid_verifications_with_one_sequence_do_not_count(world: World) -> None:
    """The key signed another one: neither is a choice, whichever lies there."""
    made = world.backup()
    path = proved(world, made)
    first = path.read_bytes()
    assert proof(world) == ("", True)
    path.unlink()
    (world.root / "state/signed-verifications.json").unlink()
    path = proved(world, made, "FAIL", NOW + timedelta(hours=1))
    second = path.read_bytes()
    sequences = [json.loads(data)["signature"]["sequence"] for data in (first, second)]
    assert sequences[0] == sequences[1] and first != second
    for data in (second, first):
        path.write_bytes(data)
        assert proof(world) == ("", False)
        assert f"two valid ones with the sequence {sequences[0]} were seen" in signatures(world)[1]


@pytest.mark.parametrize("lost", [True, False])
def test_verifications_are_a_chain_that_goes_on(world: World, lost: bool) -> None:
    first, second = world.backup(NOW - DAY), world.backup(NOW)
    proved(world, first)
    before = proved(world, second)
    digest = hashlib.sha256(before.read_bytes()).hexdigest()
    if lost:
        (world.root / "state/signed-verifications.json").unlink()
    bound = json.loads(proved(world, first).read_bytes())["signature"]
    assert (bound["sequence"], bound["previous"]) == (3, digest)


def test_a_verification_that_cannot_be_signed_is_not_written(world: World) -> None:
    made = world.backup()
    world.settings["signing_key"] = str(world.root / "gone")
    with pytest.raises(NotFoundError, match="there is no such key"):
        proved(world, made)
    assert not world.path(made).with_name("verification.json").exists()


# One recovery point, by its seal.


def tied(world: World, at: datetime) -> points.Point:
    world.backup(at)
    return points.seal(world.run, now=at, log=lambda line: None)[0]


def with_seal(world: World, seal: str) -> Opened:
    return Opened(config.pinned(world.run.config, seal))


def chosen(run: Opened, identity: str = "latest") -> str:
    sources = Sources(run, "database", identity)
    return sources.choose(sources.identity, None, lambda entry: "")[0].id


def test_the_point_that_an_operator_pins_is_recovered(world: World) -> None:
    """Whoever signed it, and although a newer one is there."""
    older, newest = tied(world, NOW - DAY), tied(world, NOW)
    parts = [point.parts["database"].id for point in (older, newest)]
    for signers in (["host"], ["operator"], []):
        world.pin(*signers)
        assert chosen(with_seal(world, older.seal)) == parts[0]
        assert chosen(with_seal(world, older.seal), older.id) == parts[0]
        assert chosen(with_seal(world, newest.seal)) == parts[1]
    world.pin("host")
    assert chosen(world.run) == parts[1], "the control"
    world.pin("operator")
    with pytest.raises(NotFoundError, match="untrusted"):
        chosen(world.run)


def test_a_pin_is_of_the_very_point_and_of_its_very_parts(world: World) -> None:
    older = tied(world, NOW - DAY)
    tied(world, NOW)
    world.pin("operator")
    path = world.root / f"backup/postgresql/{older.parts['database'].id}/manifest.json"
    made = manifest.parse(path.read_bytes(), component="database", expected_id=path.parent.name)
    path.write_bytes(edited(made, signature=None))
    with pytest.raises(LifeboatError, match="untrusted"):
        chosen(with_seal(world, older.seal))
    with pytest.raises(NotFoundError, match="none has that seal"):
        chosen(with_seal(world, "0" * 64))


def test_a_pin_and_another_point(world: World) -> None:
    older, newest = tied(world, NOW - DAY), tied(world, NOW)
    with pytest.raises(UsageError, match=f"the seal is that of {older.id}"):
        chosen(with_seal(world, older.seal), newest.id)


@pytest.mark.parametrize("seal", ["abc", "Z" * 64, "a" * 63, "a" * 65, "../../x"])
def test_what_is_no_seal_is_refused(world: World, seal: str) -> None:
    with pytest.raises(UsageError, match="that is no seal"):
        with_seal(world, seal)


def test_no_file_pins(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a seal is given to one run"):
        make_config(tmp_path, pin="0" * 64)


def test_the_escrow_fails_where_a_newer_point_is_untrusted(world: World) -> None:
    point = tied(world, datetime.now(timezone.utc).replace(microsecond=0))
    entry = points.PointEntry(point.id, point)
    found = escrow._newest(world.run.config, entry, [], [])
    assert found.result == "PASS"
    planted = points.PointEntry("20991124_120000", problem="untrusted: it is not signed", unknown=True, untrusted=True)
    found = escrow._newest(world.run.config, entry, [planted], [planted])
    assert (found.result, "20991124_120000: untrusted" in found.detail) == ("FAIL", True)
