# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A config backup that is encrypted as a whole: what a reader finds, who verifies it, and its parts over the years."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import canaries
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import parts
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow_opened, status_checks
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Proof
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import flip
from config_world import PLANTED, World, git_repository
from config_world import keys as new_key

pytestmark = pytest.mark.slow
CANARIES = ["canary-of-compose", "canary-of-the-site", "canary-of-a-commit", "canary-of-a-name"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)
    made = World(tmp_path, monkeypatch)
    made.encryption = {"recipients": [made.recipient]}
    compose = made.stack / "compose.yml"
    compose.write_text(f"{compose.read_text()}# canary-of-compose\n")
    (made.root / "canary-of-a-name.conf").write_text("x")
    return made


def everything(world: World) -> dict[str, Any]:
    site, source = world.root / "dist", world.root / "app"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("canary-of-the-site")
    if not source.exists():
        git_repository(source, "canary-of-a-commit")
    return {
        "images": "archive", "site_directory": str(site), "repositories": [{"name": "app", "path": str(source)}],
        "files": [str(world.root / "canary-of-a-name.conf")],
    }  # fmt: skip


def look(world: World, manifest: Manifest, key: str = "", level: str = "restore") -> dict[str, tuple[str, str]]:
    run = Opened(world.configured(**everything(world)), key)
    found = operations_verify.verify(run, manifest.id, level, log=world.lines.append)
    return {"": (found.verdict, ""), **{check.name: (check.result, check.detail) for check in found.checks}}


def host(world: World) -> age.HostKeys:
    return age.HostKeys(world.configured().state)


def lose(world: World) -> None:
    for key in host(world).all():
        key.path.unlink()


def test_a_reader_of_the_repository_finds_nothing(world: World) -> None:
    """Whether recipients are those of every component or of this one. And everything where there are none: the search
    can find it."""
    own = {"recipients": [world.recipient]}
    for encryption, more in (({}, {"recipients": []}), (own, {}), ({}, own)):
        world.encryption = encryption
        made = world.take(**everything(world), **more)
        seen = canaries.found(world.folder(made), [*CANARIES, PLANTED])
        assert not seen.pop(PLANTED)
        assert made.details["recipients"] == more.get("recipients", [world.recipient])
        if made.details["recipients"]:
            assert made.host_key == host(world).all()[-1].recipient
            assert {artefact.name for artefact in made.artefacts if not artefact.name.endswith(".age")} == set()
            assert {word: files for word, files in seen.items() if files} == {}
        else:
            assert [word for word, files in seen.items() if not files] == []


def test_either_key_verifies_it_and_secrets_stay_sealed(world: World) -> None:
    made = world.take(**everything(world))
    found = look(world, made)
    assert {result for result, _ in found.values()} == {PASS}, found
    assert "files unpacked and compared; 3 are sealed" in found["restore"][1]
    lose(world)
    for level in ("archive", "restore"):
        found = look(world, made, level=level)
        assert found[""][0] == COULD_NOT_VERIFY
        assert "it is encrypted for" in found["verification"][1]
    assert look(world, made, level="checksum")[""][0] == PASS
    assert look(world, made, new_key(world.root)[0])[""][0] == COULD_NOT_VERIFY
    assert look(world, made, world.key)[""][0] == PASS
    assert list(world.configured().state.glob("opened-*")) == []


def test_it_is_extracted_with_the_key_and_with_no_other(world: World, tmp_path: Path) -> None:
    made = world.take(**everything(world))
    lose(world)
    with pytest.raises(age.NoKeyError):
        world.extract(made, "none")
    with pytest.raises(age.WrongKeyError):
        world.extract(made, "other", key=new_key(tmp_path)[0])
    out = world.extract(made, key=world.key)
    assert out.missing == ()
    assert "canary-of-compose" in out.where(str(world.stack / "compose.yml")).read_text()
    assert PLANTED in out.where(str(world.stack / ".env")).read_text()
    assert out.where(str(world.root / "dist" / "index.html")).read_text() == "canary-of-the-site"
    keys = age.keys_of(world.key)
    assert configuration_restore.load_images(world.repo, made.id, keys=keys, log=print) == {"web": "sha256:" + "1" * 64}


def test_the_hosts_key_opens_all_but_the_secret_files(world: World) -> None:
    """What the host must verify is read with it; what only a recovery needs is not."""
    made = world.take(**everything(world))
    (own,) = host(world).all()
    secret = world.folder(made) / configuration_restore.SECRETS
    with pytest.raises(age.WrongKeyError):
        age.decrypt_bytes(secret, own.path.read_text(), subject="secrets", limit=1 << 20)
    listed = configuration_restore.listing(world.repo, made.id, age.keys(world.configured()))
    assert str(world.stack / ".env") in listed
    assert listed[str(world.stack / ".env")].sha256 == ""


def test_parts_are_kept_once_until_their_recipients_change(world: World) -> None:
    asked = everything(world)
    world.encryption = {}
    first = world.take(**asked, recipients=[])
    world.encryption = {"recipients": [world.recipient]}
    second, third = world.take(**asked), world.take(**asked)
    wanted = {"images", "site", "git/app"}
    assert {name: part.backup for name, part in parts.parts_of(second).items()} == dict.fromkeys(wanted, second.id)
    assert {name: part.backup for name, part in parts.parts_of(third).items()} == dict.fromkeys(wanted, second.id)
    assert first.id != second.id
    identity, recipient = new_key(world.root)
    world.encryption = {"recipients": [recipient]}
    fourth = world.take(**asked, recipients=[recipient])
    assert {name: part.backup for name, part in parts.parts_of(fourth).items()} == dict.fromkeys(wanted, fourth.id)
    parts.fetch(world.repo, fourth, "git/app", world.root / "app.bundle", age.keys_of(identity))
    assert parts.bundle_heads(world.root / "app.bundle")


def test_a_part_whose_host_key_is_gone_counts_by_its_backups_proof(world: World) -> None:
    asked = everything(world)
    first = world.take(**asked)
    assert look(world, first)[""][0] == PASS
    lose(world)
    second = world.take(**asked)
    assert parts.parts_of(second)["images"].backup == first.id
    (world.folder(first) / "verification.json").unlink()
    found = look(world, second)
    assert found["archive images"] == (
        COULD_NOT_VERIFY,
        f"no key on this host opens what {first.id} keeps, which was never verified: lifeboat verify --identity FILE",
    )
    assert look(world, first, world.key)[""][0] == PASS
    assert parts.parts_of(world.take(**asked))["images"].backup == first.id, "it was proved"
    found = look(world, second)
    assert found[""][0] == PASS, found
    assert f"it was read when {first.id} was proved (restore)" in found["archive git/app"][1]
    kept = world.folder(first) / "images.tar.gz.age"
    flip(kept, -1)
    assert look(world, second)[""][0] == FAIL


@pytest.mark.parametrize("proved", [True, False])
def test_a_part_that_nobody_proved_and_no_key_here_opens_is_kept_anew(world: World, proved: bool) -> None:
    """Another machine fetched the backups: what its first one names it must be able to prove by itself."""
    asked = {**everything(world), "site_directory": ""}
    first = world.take(**asked)
    if proved:
        assert look(world, first)[""][0] == PASS
    lose(world)
    second = world.take(**asked)
    assert {part.backup for part in parts.parts_of(second).values()} == {first.id if proved else second.id}
    assert look(world, second)[""][0] == PASS
    third = world.take(**asked)
    assert {part.backup for part in parts.parts_of(third).values()} == {first.id if proved else second.id}, "and once"
    words = f"{second.id}: images is kept again: no key here opens that of {first.id}, which was never verified"
    assert (words in "\n".join(world.lines)) is not proved


def test_the_paper_key_alone_opens_all_of_it_and_its_parts(world: World) -> None:
    asked = everything(world)
    world.take(**asked)
    made = world.take(**asked)
    lose(world)

    def opened(key: str) -> dict[str, tuple[str, str]]:
        found = escrow_opened.checks(Proof(Opened(world.configured(**asked)), world.repo, made, key=key))
        return {check.name: (check.result, check.detail) for check in found}

    found = opened(world.key)
    assert {result for result, _ in found.values()} == {PASS}
    assert "the key opens all of it: 7 artefacts" in found["config: encryption"][1]
    with pytest.raises(age.WrongKeyError):
        opened(new_key(world.root)[0])


def test_older_backups_with_sealed_secrets_alone_go_on_to_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of before, when config.recipients sealed the secret files and nothing else."""
    world.encryption, asked = {}, everything(world)
    with monkeypatch.context() as before:
        world.as_before(before)
        first = world.take(**asked)
        second = world.take(**asked)
    assert {artefact.name for artefact in first.artefacts} >= {"config.tar.gz", "files.json", "secrets.tar.gz.age"}
    third = world.take(**asked)
    assert (first.encrypted, third.encrypted) == (False, True)
    assert {part.backup for part in parts.parts_of(second).values()} == {first.id}
    assert {part.backup for part in parts.parts_of(third).values()} == {third.id}, (
        "what lies there in the clear is not used"
    )
    assert look(world, second)[""][0] == PASS
    assert look(world, third)[""][0] == PASS
    plain = {item.id: item.needs for item in catalog.for_retention(catalog.entries(world.repo, "config", "shop"))}
    assert plain == {first.id: (), second.id: (first.id,), third.id: ()}
    for made, rest in ((second, True), (third, False)):
        found = {check.name: check for check in status_checks.judged(world.configured(**asked), world.repo, made)}
        assert found["config secrets"].result == PASS
        assert ("the rest is not encrypted" in found["config secrets"].detail) == rest
    lose(world)
    assert [Path(path).name for path in world.extract(second, "clear").missing][-1] == "web.env"
    with pytest.raises(age.NoKeyError, match="it is encrypted for"):
        world.extract(third, "none")
    for made in (second, third):
        out = world.extract(made, made.id, key=world.key)
        assert out.missing == ()
        assert PLANTED in out.where(str(world.stack / ".env")).read_text()
        assert out.where(str(world.root / "dist" / "index.html")).read_text() == "canary-of-the-site"
