# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at the vault from another machine: what was there and is not is an alarm, until an operator accepts it.

What a bucket with versions tells besides is in tests/attacks/test_looked_at.py.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow_kit, escrow_look, escrow_record
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import RetentionSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config, make_manifest, publish

NOW = datetime.now(timezone.utc).replace(microsecond=0)
DAY = timedelta(days=1)


class World:
    """A vault with a backup for each of some nights, and the machine that looks at it."""

    def __init__(self, root: Path, **changes: Any) -> None:
        self.root, self.changes = root, changes
        self.made = [publish(root, NOW - nights * DAY) for nights in (3, 2, 1)]

    @property
    def seen(self) -> Path:
        return self.root / "safe" / "look.json"

    def folder(self, made: Manifest) -> Path:
        return self.root / "backup/postgresql" / made.id

    def look(self, *accept: str, now: datetime = NOW) -> tuple[str, str]:
        run = Opened(make_config(self.root, **self.changes))
        result = escrow_look.compare(run, path=self.seen, accept=accept, now=now, log=len)
        return result.verdict, "; ".join(check.detail for check in result.checks if check.result == result.verdict)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(escrow_record, "store", repositories.repository_of)
    return World(tmp_path)


def test_the_first_look_remembers_and_the_second_compares(world: World) -> None:
    assert world.look() == (
        "COULD_NOT_VERIFY",
        "nothing was seen here before; 3 documents are remembered for the next look",
    )
    assert world.seen.stat().st_mode & 0o777 == 0o600
    assert world.look()[0] == "PASS"
    publish(world.root, NOW)
    assert world.look()[0] == "PASS", "a new one is right"
    assert len(json.loads(world.seen.read_bytes())["places"].popitem()[1]["seen"]) == 4


def test_what_is_gone_is_an_alarm_until_it_is_accepted(world: World) -> None:
    world.look()
    lost = world.made[1]
    shutil.rmtree(world.folder(lost))
    for _again in range(2):
        verdict, words = world.look()
        assert (verdict, words.startswith(f"{lost.id}: its document was seen since ")) == ("FAIL", True)
        assert "nothing of it is there now, in no version" in words
    with pytest.raises(NotFoundError, match="no alarm has that id"):
        world.look(world.made[0].id)
    assert world.look(lost.id)[0] == "PASS"
    assert world.look()[0] == "PASS"
    shutil.rmtree(world.folder(world.made[0]))
    assert world.look()[1].startswith(world.made[0].id)


def test_the_control_without_a_memory_nothing_is_missed(world: World) -> None:
    """What any reader of the vault says: it is whole."""
    world.look()
    shutil.rmtree(world.folder(world.made[1]))
    world.seen.unlink()
    assert world.look()[0] == "COULD_NOT_VERIFY"
    assert world.look()[0] == "PASS"


def test_what_retention_removed_is_no_alarm(world: World) -> None:
    world.changes = {"retention": {"daily_days": 3, "weekly_months": 0, "monthly_months": 0, "minimum": 1}}
    world.look()
    shutil.rmtree(world.folder(world.made[0]))
    assert world.look()[0] == "FAIL", "its time is not over"
    later = NOW + 2 * DAY
    publish(world.root, NOW + DAY)
    assert world.look(now=later)[0] == "PASS"
    assert world.made[0].id not in world.seen.read_text(), "and it is forgotten"


def test_another_document_under_an_id_is_an_alarm(world: World) -> None:
    world.look()
    made = world.made[2]
    other = dataclasses.replace(made, finished_at=made.finished_at + timedelta(seconds=1))
    (world.folder(made) / "manifest.json").write_bytes(other.to_bytes())
    for _again in range(2):
        verdict, words = world.look()
        assert (verdict, words) == (
            "FAIL",
            f"{made.id}: it is another document than was seen: its seal is {other.seal}, not {made.seal}",
        )
    assert world.look(made.id)[0] == "PASS"
    assert world.look()[0] == "PASS"


def test_a_document_that_cannot_be_read_is_no_pass(world: World) -> None:
    world.look()
    (world.folder(world.made[0]) / "manifest.json").write_bytes(b"{")
    verdict, words = world.look()
    assert (verdict, f"1 could not be read or are untrusted: {world.made[0].id}" in words) == ("COULD_NOT_VERIFY", True)


def test_an_empty_vault_is_an_alarm(world: World) -> None:
    shutil.rmtree(world.root / "backup/postgresql")
    assert world.look()[0] == "FAIL"
    assert "there is no backup and no recovery point" in world.look()[1]


def test_a_vault_that_does_not_answer_forgets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.look()
    before = world.seen.read_bytes()

    def away(*given: object, **more: object) -> None:
        raise LifeboatError("read", "s3://x", "connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(LocalRepository, "check", away)
        assert world.look()[0] == "COULD_NOT_VERIFY"
    assert world.seen.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(LocalRepository, "look_back", away)
        assert world.look() == ("COULD_NOT_VERIFY", "they cannot be listed: connection refused")


def other_mode(path: Path) -> None:
    path.chmod(0o644)


def too_large(path: Path) -> None:
    path.write_bytes(b" " * (escrow_look.MOST + 1))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_kind(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema": "lifeboat.dr/signatures"}))


def without_places(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "places": None}))


def a_newer_one(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "version": [2, 0]}))


def a_link(path: Path) -> None:
    path.rename(path.with_name("there"))
    path.symlink_to(path.with_name("there"))


DAMAGED: Mapping[Any, str] = {
    other_mode: "it is not a private file of this user",
    too_large: "it has more than 33554432 bytes",
    cut: "it is not JSON that can be read",
    empty: "it is not JSON that can be read",
    of_another_kind: "schema is lifeboat.dr/signatures",
    without_places: "places wants a mapping",
    a_newer_one: "schema is lifeboat.dr/escrow-look (2, 0)",
    a_link: "Too many levels of symbolic links",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_a_memory_that_is_not_as_it_was_written_is_an_error(world: World, damage: Any) -> None:
    world.look()
    assert world.look()[0] == "PASS", "the intact one passes"
    damage(world.seen)
    before = world.seen.read_bytes()
    with pytest.raises(IntegrityError) as error:
        world.look()
    assert DAMAGED[damage] in error.value.cause
    assert error.value.exit_code == 6
    assert world.seen.read_bytes() == before, "and it is kept for an inquiry"


def test_a_memory_that_would_be_too_large_is_not_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escrow_look, "MOST", 200)
    with pytest.raises(LifeboatError, match="more than 200"):
        world.look()
    assert not world.seen.exists()


def test_a_sequence_that_went_back_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest nights are gone, and the host wrote no other since: by its dates nothing is missing after its time."""
    monkeypatch.setattr(escrow_record, "store", repositories.repository_of)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    run, made = Opened(make_config(tmp_path, signing_key=str(tmp_path / "key"))), []
    for nights in (2, 1):
        one = make_manifest(NOW - nights * DAY)
        with repositories.repository_of(run).stage("database", one.id) as staging:
            for item in one.artefacts:
                (staging.path / item.name).write_bytes(b"dump")
            made.append(repositories.publish(run, one, staging.publish))
    seen, config = tmp_path / "look.json", make_config(tmp_path)

    def look() -> list[str]:
        result = escrow_look.compare(Opened(config), path=seen, now=NOW, log=len)
        return [check.detail for check in result.checks if check.result == "FAIL"]

    assert look() == []
    kept = json.loads(seen.read_bytes())
    (place,) = kept["places"].values()
    assert [item["sequence"] for item in place["last"].values()] == [2]
    (key,) = place["last"]
    shutil.rmtree(tmp_path / "backup/postgresql" / made[1].id)
    found = look()
    assert len(found) == 2, found
    assert f"{made[1].id}: the sequence of manifest/database went back: it was 2, now the highest is 1" in found[1]
    assert look() == found, "it stays an alarm"
    place["last"][key] = {"id": made[0].id, "sequence": 7}
    seen.write_text(json.dumps(kept))
    assert any("went back: it was 7" in line for line in look())


def test_the_command_needs_no_identity(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = escrow_kit.kit(make_config(world.root, retention={"daily_days": 4}, timezone="Asia/Tokyo"))
    (world.root / "kit.json").write_text(json.dumps(kit))
    (world.root / "keys.json").write_text(json.dumps({"vault_access_key": "a", "vault_secret_key": "b"}))
    (world.root / "keys.json").chmod(0o600)
    words = ["escrow", "--kit", str(world.root / "kit.json"), "--credentials", str(world.root / "keys.json")]
    loaded = escrow_kit.configured(cli.parser("escrow").parse_args(words))
    assert (loaded.retention, loaded.timezone) == (RetentionSettings(daily_days=4), "Asia/Tokyo")
    assert kit["retention"] == {"daily_days": 4}
    monkeypatch.setattr(escrow_record, "store", lambda _: repositories.repository_of(Opened(make_config(world.root))))
    words += ["--look", "--seen", str(world.seen)]
    assert [cli.main(words), cli.main(words)] == [3, 0]
    shutil.rmtree(world.folder(world.made[0]))
    assert cli.main(words) == 6
    assert world.made[0].id in capsys.readouterr().out
    world.seen.write_text("{}")
    assert cli.main(words) == 6
    assert cli.main([*words, "--accept", "x"]) == 6
