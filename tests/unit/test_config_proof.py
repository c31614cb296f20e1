# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A config backup that is not what was written never passes: first that the whole one does, then one thing broken."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import files
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import parts as configuration_parts
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store as evidence_store
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status_checks
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from builders import flip
from config_world import World, git_repository
from fake_age import recipient

ARTEFACTS = [
    "config.tar.gz", "secrets.tar.gz.age", "secrets.json.age", "files.json", "images.tar.gz", "site.tar.gz",
    "git/app.bundle",
]  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)
    return World(tmp_path, monkeypatch)


@pytest.fixture
def older(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Whose backups are as they were once: clear, but for the secret files."""
    world.as_before(monkeypatch)
    return world


def everything(world: World) -> dict[str, Any]:
    site = world.root / "dist"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("1")
    source = world.root / "app"
    source = source if source.exists() else git_repository(source)
    return {"images": "archive", "site_directory": str(site), "repositories": [{"name": "app", "path": str(source)}]}


def look(world: World, manifest: Manifest, level: str = "restore", **changes: Any) -> dict[str, tuple[str, str]]:
    settings = world.configured(**changes)
    found = operations_verify.verify(Opened(settings), manifest.id, level, log=world.lines.append)
    assert found.verdict == checks.verdict(found.checks)
    return {"verdict": (found.verdict, ""), **{check.name: (check.result, check.detail) for check in found.checks}}


def test_what_no_backup_holds_is_told_and_lowers_no_verdict_on_what_this_one_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = StateMount("media", "volume", ("web:/srv/media",), "unprotected", "no component protects it")
    monkeypatch.setattr(mounts, "inventory", lambda run: StateInventory((mount,)))
    one = world.take()
    run = Opened(world.configured())
    found = operations_verify.verify(run, one.id, "checksum", log=world.lines.append)
    assert found.verdict == PASS
    assert any(line.startswith("WARNING: the volume media (web:/srv/media) is in no backup") for line in world.lines)
    gap = {"what": "the volume media (web:/srv/media)", "why": "it is in no backup: no component protects it"}
    (record,) = (entry.good for entry in evidence_store.everything(run.config))
    assert record is not None
    assert gap in [vars(item) for item in record.untested]


def test_a_whole_one_passes_at_every_level(world: World) -> None:
    one = world.take(**everything(world))
    assert {artefact.name for artefact in one.artefacts} == {f"{name.removesuffix('.age')}.age" for name in ARTEFACTS}
    for level in ("checksum", "archive", "restore"):
        assert look(world, one, level)["verdict"][0] == PASS, level
    found = look(world, one)
    assert found["secrets"] == (PASS, "sealed for 1 recipients; `lifeboat escrow` proves that the key opens it")
    above = len(files.above([str(world.stack / "compose.yml")]))  # of pytest's own
    assert found["restore"] == (PASS, f"{6 + above} files unpacked and compared; 3 are sealed")
    assert found["clone git/app"][0] == PASS
    assert found["compose project"][1].startswith("Compose reads it from the backup alone")
    assert catalog.entries(world.repo, "config", "shop")[0].proven_at


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    (path.parent / "more").write_text("x")


@pytest.mark.parametrize("name", ARTEFACTS)
@pytest.mark.parametrize("how", [truncate, flip, empty, delete, add], ids=lambda damage: damage.__name__)
def test_every_damage_of_every_artefact_is_noticed(older: World, name: str, how: Callable[[Path], None]) -> None:
    one = older.take(**everything(older))
    assert look(older, one, "checksum")["verdict"][0] == PASS
    how(older.folder(one) / name)
    found = look(older, one)
    assert found["verdict"][0] == FAIL
    assert ("more does not belong" if how is add else name) in found["checksums"][1]


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_of_another_backup_is_noticed(older: World, name: str) -> None:
    one = older.take(**everything(older))
    (older.stack / ".env.example").write_text("PASSWORD=\nMORE=\n")
    (older.stack / ".env").write_text("PASSWORD=another\n")
    (older.root / "dist" / "index.html").write_text("2")
    git_repository(older.root / "app", "two")
    older.images["web"] = ("web:2", "sha256:" + "4" * 64)
    other = older.take(**everything(older))
    shutil.copy(older.folder(one) / name, older.folder(other) / name)
    assert look(older, other)["verdict"][0] == FAIL


def resealed(world: World, manifest: Manifest, name: str, data: bytes, **details: Any) -> Manifest:
    """As an attacker who can write manifests would leave it: every checksum is right."""
    (world.folder(manifest) / name).write_bytes(data)
    artefacts = tuple(
        Artefact(name, len(data), hashlib.sha256(data).hexdigest()) if old.name == name else old
        for old in manifest.artefacts
    )
    new = dataclasses.replace(manifest, artefacts=artefacts, details={**manifest.details, **details})
    (world.folder(manifest) / "manifest.json").write_bytes(new.to_bytes())
    return new


SEALED_WRONG: list[tuple[str, str, Callable[[bytes], bytes], str, str]] = [
    ("an archive cut", "config.tar.gz", lambda data: data[:-9], "verification|archive|manifest", "cut or damaged"),
    ("no age file", "secrets.tar.gz.age", lambda data: b"plain" + data, "", "it is not an age file"),
    ("an age file cut at its header", "secrets.json.age", lambda data: data[:60], "", "it is not an age file"),
    ("a bundle cut", "git/app.bundle", lambda data: data[:-20], "", "early EOF"),
    ("no images", "images.tar.gz", lambda data: data[:-9], "", "cut or damaged"),
    (
        "a listing of another",
        "files.json",
        lambda data: data.replace(b'"mode": "0644"', b'"mode": "0600"'),
        "",
        "not as listed",
    ),
]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [(case[1], case[2], case[4]) for case in SEALED_WRONG],
    ids=[case[0] for case in SEALED_WRONG],
)
def test_the_archive_level_finds_what_checksums_cannot(
    older: World, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    one = older.take(**everything(older))
    data = (older.folder(one) / name).read_bytes()
    changed = change(data)
    assert changed != data
    parts = json.loads(json.dumps(one.details["parts"]))
    for part in parts.values():
        if part["artefact"] == name:
            part.update(size=len(changed), sha256=hashlib.sha256(changed).hexdigest())
    new = resealed(older, one, name, changed, parts=parts)
    assert look(older, new, "checksum")["verdict"][0] == PASS
    found = look(older, new, "archive")
    assert found["verdict"][0] == FAIL
    assert message in json.dumps(found)


def test_a_file_that_compose_needs_and_the_backup_lacks_fails(world: World) -> None:
    one = world.take()
    docker = world._docker

    def engine(words: list[str]) -> tuple[int, str, str]:
        return (1, "", "open /x/more.yml: no such file") if "--quiet" in words else docker(words)

    world._docker = engine  # type: ignore[method-assign]
    assert look(world, one)["compose project"] == (FAIL, "open /x/more.yml: no such file")
    world._docker = lambda words: (127, "", "docker: not found")  # type: ignore[method-assign]
    assert look(world, one)["compose project"][0] == COULD_NOT_VERIFY


GIT_UNABLE: list[tuple[str, dict[str, int], str]] = [
    ("killed for its memory", {"exit_status": -9}, "the words of git"),
    ("no end", {}, "the words of git"),
    ("not installed", {"exit_status": 127}, "git"),
    ("a full disk", {"exit_status": 128}, "No space left on device"),
]


@pytest.mark.parametrize("name", ["bundle git/app", "clone git/app"])
@pytest.mark.parametrize(("status", "words"), [case[1:] for case in GIT_UNABLE], ids=[case[0] for case in GIT_UNABLE])
def test_what_git_lacks_is_no_fault_of_the_bundle(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, status: dict[str, int], words: str
) -> None:
    one = world.take(**everything(world))
    real, verb = pipeline.output, "unbundle" if name.startswith("bundle") else "clone"

    def output(command: Command, **told: Any) -> str:
        if verb in command.argv:
            raise LifeboatError("run git", "it", "the words of git", **status)
        return real(command, **told)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as machine:
        machine.setattr(pipeline, "output", output)
        machine.setattr(os, "posix_fallocate", full)
        found = look(world, one)
    assert found["verdict"][0] == COULD_NOT_VERIFY
    assert any(words in detail for result, detail in found.values() if result == COULD_NOT_VERIFY)
    assert catalog.entries(world.repo, "config", "shop")[0].good
    with monkeypatch.context() as machine:
        machine.setattr(pipeline, "output", output)
        assert look(world, one)["verdict"][0] == (FAIL if status.get("exit_status") == 128 else COULD_NOT_VERIFY)


def test_compose_that_is_not_installed_proves_nothing(world: World) -> None:
    """`docker` ends with 1 then, as Compose does for a project that it cannot read."""
    one = world.take()
    docker = world._docker
    world._docker = lambda words: (1, "", "unknown flag") if "compose" in words else docker(words)  # type: ignore[method-assign]
    assert look(world, one)["compose project"][0] == COULD_NOT_VERIFY


def test_a_directory_that_is_mounted_and_sealed_stands_in_as_one(world: World) -> None:
    certificates = world.stack / "certificates"
    certificates.mkdir()
    (certificates / "key.pem").write_text("PLANTED")
    (certificates / "empty").mkdir()
    one = world.take(secret_files=[str(certificates)])
    found = look(world, one)
    assert found["verdict"][0] == PASS, found


def test_a_part_that_its_holder_lost_is_missed(older: World) -> None:
    first = older.take(images="archive")
    second = older.take(images="archive")
    assert look(older, second)["part images.tar.gz"][0] == PASS
    flip(older.folder(first) / "images.tar.gz")
    assert look(older, second)["part images.tar.gz"] == (
        FAIL, f"{first.id}: it has another SHA-256 than when it was written",
    )  # fmt: skip
    shutil.rmtree(older.folder(first))
    found = look(older, second)
    assert found["verdict"][0] == FAIL
    assert first.id in found["part images.tar.gz"][1]


def test_images_that_another_backup_holds_are_opened_too(older: World) -> None:
    """Their SHA-256 says that they are what was written, and not that this was an archive of images."""
    one = older.take(images="archive")
    assert look(older, one)["archive images.tar.gz"][0] == PASS
    again = older.take(images="archive")
    assert configuration_parts.parts_of(again)["images"].backup == one.id
    assert look(older, again)["archive images.tar.gz"] == (PASS, "1 files, read to the end")
    shutil.rmtree(older.folder(one))
    shutil.rmtree(older.folder(again))
    older.image_file = "another"
    one, again = older.take(images="archive"), older.take(images="archive")
    assert configuration_parts.parts_of(again)["images"].backup == one.id
    found = look(older, again)
    assert found["part images.tar.gz"][0] == PASS, "the bytes are those that were written"
    assert found["archive images.tar.gz"] == (FAIL, "there is no manifest.json of docker save in it")


def test_without_recipients_it_could_not_be_verified(world: World) -> None:
    taken = world.take(recipients=[])
    found = look(world, taken)
    assert found["verdict"][0] == COULD_NOT_VERIFY, "what was left out of it stays out, whatever a new one would have"
    assert "take a new one: lifeboat backup config" in found["secrets"][1]
    found = look(world, taken, recipients=[])
    assert found["verdict"][0] == COULD_NOT_VERIFY
    assert found["secrets"][1].startswith("3 files are in no backup: ")
    assert "lifeboat_config.recipients" in found["secrets"][1]


def test_secrets_that_are_kept_elsewhere_are_named_and_no_gap(world: World) -> None:
    taken = world.take(recipients=[], secrets="elsewhere")
    assert "kept elsewhere: 3 secret files are left out" in "".join(world.lines)
    found = look(world, taken, recipients=[], secrets="elsewhere")
    assert found["verdict"][0] == PASS
    assert "3 files are in no backup: " in found["secrets"][1]
    assert found["secrets"][1].endswith(" (lifeboat_config.secrets: elsewhere)")
    assert judged(world, recipients=[], secrets="elsewhere")["config secrets"] == found["secrets"]
    assert judged(world, recipients=[])["config secrets"][0] == COULD_NOT_VERIFY
    assert judged(world)["config secrets"][0] == FAIL, "the recipients are given now, and it has none"
    with pytest.raises(LifeboatError, match="remove either"):
        world.configured(secrets="elsewhere")


# --- status ---


def judged(world: World, **changes: Any) -> dict[str, tuple[str, str]]:
    last = configuration_restore.read_manifest(world.repo, world.repo.ids("config")[-1])
    found = status_checks.judged(world.configured(**changes), world.repo, last)
    return {check.name: (check.result, check.detail) for check in found}


def test_status_asks_for_images_that_are_nowhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    built = {name: f"{reference}@{image}" for name, (reference, image) in world.images.items()}
    monkeypatch.setattr(runtime.ComposeRuntime, "images", lambda _: built)
    world.take()
    result, words = judged(world)["config images"]
    assert (result, "of web they are in no backup" in words) == (COULD_NOT_VERIFY, True)
    world.take(images="archive")
    assert "config images" not in judged(world)


def test_status_says_what_is_in_no_backup(world: World) -> None:
    world.take(recipients=[])
    assert judged(world, recipients=[])["config secrets"][0] == COULD_NOT_VERIFY
    assert judged(world)["config secrets"][0] == FAIL, "there is a recipient now, and no backup for it"
    world.take()
    assert judged(world)["config secrets"] == (PASS, "3 files, sealed for 1 recipients")
    other = recipient("another key")
    assert "sealed for other recipients" in judged(world, recipients=[world.recipient, other])["config secrets"][1]
    world.take(files=["/no/such"])
    assert judged(world)["config files"] == (FAIL, "not in the backup: /no/such: there is no such file")
    first = world.take(images="archive")
    world.take(images="archive")
    assert "config parts" not in judged(world)
    shutil.rmtree(world.folder(first))
    assert judged(world)["config parts"][0] == FAIL
