# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The escrow says PASS only where the key opened every sealed byte, and says exactly what is wrong where it did not."""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow, escrow_kit, escrow_record
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import recipient_problem
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import flip, publish
from config_world import World, keys
from fake_age import recipient
from test_age import SSH as PUBLIC


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    one = World(tmp_path, monkeypatch)
    # What the vault holds is what the repository holds; that it is a bucket, tests/objects shows.
    monkeypatch.setattr(escrow_record, "store", lambda _: one.repo)
    return one


def sealed(world: World, **changes: Any) -> points.Point:
    if not world.repo.published("database"):
        publish(world.root, datetime.now(timezone.utc))
    world.take(**changes)
    point, _ = points.seal(Opened(world.configured()), now=datetime.now(timezone.utc), log=world.lines.append)
    return point


def prove(world: World, key: str = "", **more: Any) -> dict[str, tuple[str, str]]:
    found = escrow.prove(Opened(world.configured()), key or world.key, log=world.lines.append, **more)
    return {
        "verdict": (found.verdict, found.id),
        **{check.name: (check.result, check.detail) for check in found.checks},
    }


def test_the_key_opens_everything_and_that_is_put_on_record(world: World) -> None:
    point = sealed(world)
    now = datetime.now(timezone.utc)
    settings = world.configured()
    (before,) = escrow_record.checks(Opened(settings), now)
    assert (before.result, "nobody has shown" in before.detail) == (COULD_NOT_VERIFY, True)
    found = prove(world)
    assert found["verdict"] == (PASS, point.id)
    assert found["config: secrets"] == (PASS, "the key opens all of it: 3 secret files, as listed")
    assert found["database: checksums in the vault"][0] == PASS
    record = json.loads(world.repo.read_escrow("shop") or b"")
    assert (record["point"], record["opened_by"]) == (point.id, [world.recipient])
    assert world.key.split()[-1] not in json.dumps(record) + "".join(world.lines)
    assert escrow_record.checks(Opened(settings), now + timedelta(days=99))[0].result == PASS
    assert escrow_record.checks(Opened(settings), now + timedelta(days=101))[0].result == FAIL
    assert escrow_record.checks(Opened(world.configured(recipients=[])), now) == []
    changed = world.configured(recipients=[world.recipient, recipient("another key")])
    assert escrow_record.checks(Opened(changed), now)[0].result == COULD_NOT_VERIFY
    assert world.repo.points() == [point.id], "the record is no recovery point"


@pytest.mark.parametrize(("allowed", "result"), [(26, FAIL), (300 * 24 + 1, PASS)])
def test_a_point_of_last_year_is_no_proof_of_last_nights(world: World, allowed: int, result: str) -> None:
    publish(world.root, datetime.now(timezone.utc) - timedelta(days=300))
    point = sealed(world)
    settings = replace(world.configured(), alarms=config.AlarmSettings(backup_age_hours=allowed))
    found = escrow.prove(Opened(settings), world.key, log=world.lines.append)
    assert (found.id, found.verdict) == (point.id, result)
    (judged,) = [check for check in found.checks if check.name == "recovery point"]
    assert judged.result == result
    assert judged.words == f"{point.id}, 7200.0 h old, consistency {point.consistency}, limit {allowed} h"
    assert (world.repo.read_escrow("shop") is None) == (result == FAIL)


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime.now(timezone.utc))


def test_a_record_of_a_day_to_come_is_not_fresh(world: World, today: None) -> None:
    sealed(world)
    assert prove(world)["verdict"][0] == PASS
    record = json.loads(world.repo.read_escrow("shop") or b"")
    for change in ({"at": "2099-01-01T00:00:00.000Z"}, {"point": "20990101_000000"}):
        world.repo.write_escrow("shop", json.dumps({**record, **change}).encode())
        (check,) = escrow_record.checks(Opened(world.configured()), datetime.now(timezone.utc))
        assert (check.result, "it is dated 2099-01-01" in check.detail) == (COULD_NOT_VERIFY, True)
    for odd in ("latest", "20261399_999999", "\x1b[2J"):
        world.repo.write_escrow("shop", json.dumps({**record, "point": odd}).encode())
        (check,) = escrow_record.checks(Opened(world.configured()), datetime.now(timezone.utc))
        assert check.result == (PASS if odd[0] == "2" else COULD_NOT_VERIFY)


def another(world: World, point: points.Point, identity: str, **changes: Any) -> Path:
    made = replace(point, id=identity, **changes)
    world.repo.write_point(identity, made.to_bytes())
    return world.root / "backup/recovery-points" / f"{identity}.json"


def test_a_point_of_a_day_to_come_is_not_the_newest(world: World, today: None) -> None:
    point = sealed(world)
    another(world, point, "20990101_000000", sealed_at=datetime(2099, 1, 1, tzinfo=timezone.utc))
    found = prove(world)
    assert (found["verdict"], found["recovery point"][0]) == ((PASS, point.id), PASS)
    assert "passed over: 20990101_000000: it is dated 2099-01-01" in found["recovery point"][1]
    (world.root / "backup/recovery-points/escrow-shop.json").unlink()
    found = prove(world, point="20990101_000000")
    assert (found["verdict"][0], found["recovery point"][0]) == (COULD_NOT_VERIFY, COULD_NOT_VERIFY)
    assert world.repo.read_escrow("shop") is None


def newer_schema(path: Path) -> None:
    body = {**json.loads(path.read_bytes()), "version": [2, 0]}
    path.write_bytes(sealing.render({**body, "seal": sealing.seal(body)}))


def test_a_point_that_cannot_be_read_is_unknown_and_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    point = sealed(world)
    older = another(world, point, "20200101_000000")
    newer_schema(older)
    found = prove(world)
    assert found["verdict"][0] == PASS, "the newest was opened"
    assert "passed over: 20200101_000000: its schema has version 2" in found["recovery point"][1]
    newest = datetime.now(timezone.utc) + timedelta(minutes=5)
    later = another(world, point, f"{newest:%Y%m%d_%H%M%S}")
    newer_schema(later)
    found = prove(world)
    assert (found["verdict"][0], found["recovery point"][0]) == (COULD_NOT_VERIFY, COULD_NOT_VERIFY)
    assert (
        f"may be newer: 20200101_000000: its schema has version 2; this Lifeboat reads version 1; {later.stem}: its"
        in (found["recovery point"][1])
    )
    assert prove(world, point=later.stem)["recovery point"][0] == COULD_NOT_VERIFY
    later.write_text("{")
    found = prove(world)
    assert (found["recovery point"][0], f"newer ones cannot be used: {later.stem}" in found["recovery point"][1]) == (
        FAIL,
        True,
    )
    assert prove(world, point=later.stem)["recovery point"][0] == FAIL, "that it is damaged was seen"
    assert prove(world, point="20200202_000000")["recovery point"][0] == FAIL, "that it is not there was seen"
    monkeypatch.setattr(LocalRepository, "read_point", refuse_with("AccessDenied"))
    assert prove(world)["recovery point"][0] == COULD_NOT_VERIFY


def test_a_look_leaves_no_record(world: World) -> None:
    sealed(world)
    assert prove(world, record=False)["verdict"][0] == PASS
    assert world.repo.read_escrow("shop") is None


def test_another_key_fails_and_says_whose_it_is(world: World, tmp_path: Path) -> None:
    sealed(world)
    other, recipient = keys(tmp_path)
    found = prove(world, other)
    assert found["verdict"][0] == FAIL
    result, words = found["config"]
    assert result == FAIL
    assert f"the key given is that of {recipient}; it was sealed for {world.recipient}" in words
    assert world.repo.read_escrow("shop") is None


# The head of what ssh-keygen -N writes; the rest is not looked at.
SSH = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDXz0\n"
    "-----END OPENSSH PRIVATE KEY-----\n"
)
NO_KEYS: list[tuple[str, Callable[[World], str], str]] = [
    ("nothing", lambda _: " \n", "it is empty"),
    ("a recipient", lambda world: world.recipient + "\n", "it is a recipient, which only encrypts"),
    ("any text", lambda _: "hunter2", "there is no AGE-SECRET-KEY-1"),
    ("behind a passphrase", lambda _: "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", "protected by a passphrase"),
    ("an ssh key behind a passphrase", lambda _: SSH, "an ssh key protected by a passphrase"),
    ("age's own binary form", lambda _: "age-encryption.org/v1\n-> scrypt x 18\n", "protected by a passphrase"),
]


@pytest.mark.parametrize(("given", "message"), [case[1:] for case in NO_KEYS], ids=[case[0] for case in NO_KEYS])
def test_what_is_no_key_is_refused_unspoken(world: World, given: Callable[[World], str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        escrow.prove(Opened(world.configured()), given(world), log=world.lines.append)
    assert "hunter2" not in str(error.value)


def test_a_cut_key_is_no_key(world: World) -> None:
    sealed(world)
    found = prove(world, world.key.strip()[:-4])
    assert found["verdict"][0] == FAIL


@pytest.mark.parametrize("name", ["config.tar.gz", "files.json", "secrets.tar.gz.age", "secrets.json.age"])
def test_damage_in_the_vault_is_noticed(world: World, name: str) -> None:
    point = sealed(world)
    name = f"{name.removesuffix('.age')}.age"
    flip(world.root / "backup" / "config" / point.parts["config"].id / name, -5)
    found = prove(world)
    assert found["verdict"][0] == FAIL
    assert name in found["config: checksums in the vault"][1]


@pytest.mark.slow
def test_a_part_that_another_backup_keeps_is_read_too(world: World) -> None:
    first = world.take(images="archive")
    sealed(world, images="archive")
    assert prove(world)["config: part images.tar.gz.age"][0] == PASS
    flip(world.root / "backup" / "config" / first.id / "images.tar.gz.age")
    assert prove(world)["config: part images.tar.gz.age"][0] == FAIL


def test_a_point_without_its_configuration_or_its_secrets_fails(world: World) -> None:
    publish(world.root, datetime.now(timezone.utc))
    points.seal(Opened(world.configured()), now=datetime.now(timezone.utc), log=world.lines.append)
    assert "no config backup" in prove(world)["config"][1]
    sealed(world, recipients=[])
    found = prove(world)
    assert (found["verdict"][0], "left out" in found["config: secrets"][1]) == (FAIL, True)


def test_no_point_no_vault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prove(world)["recovery point"] == (FAIL, "the repository holds no recovery point")

    class Away:
        def check(self, writable: bool) -> None:
            raise LifeboatError("read", "s3://x", "connection refused")

    monkeypatch.setattr(escrow_record, "store", lambda _: Away())
    assert prove(world)["verdict"][0] == COULD_NOT_VERIFY


ANSWERS = [
    ("InvalidAccessKeyId", FAIL), ("SignatureDoesNotMatch", FAIL), ("AccessDenied", FAIL), ("403", FAIL),
    ("NoSuchBucket", FAIL), ("RequestTimeTooSkewed", COULD_NOT_VERIFY), ("PermanentRedirect", COULD_NOT_VERIFY),
    ("SlowDown", COULD_NOT_VERIFY),
]  # fmt: skip


def answered(code: str) -> LifeboatError:
    error = UsageError("read", "s3://x", code)
    error.__cause__ = RuntimeError()
    error.__cause__.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
    return error


def refuse_with(code: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise answered(code)

    return refuse


@pytest.mark.parametrize(("code", "result"), ANSWERS)
def test_credentials_fail_where_the_vault_refuses_them(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str, result: str
) -> None:
    monkeypatch.setattr(LocalRepository, "check", refuse_with(code))
    assert prove(world)["vault credentials"][0] == result


def test_what_the_key_may_not_read_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(world)
    monkeypatch.setattr(LocalRepository, "open", refuse_with("AccessDenied"))
    found = prove(world)
    assert (found["database"][0], found["config"][0]) == (COULD_NOT_VERIFY, COULD_NOT_VERIFY)
    assert found["verdict"][0] == COULD_NOT_VERIFY


def test_without_age_nothing_is_claimed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(world)
    monkeypatch.setattr(age.shutil, "which", lambda _: None)
    found = prove(world)
    assert found["verdict"][0] == COULD_NOT_VERIFY
    assert "age is not installed" in found["config"][1]
    with pytest.raises(UnverifiedError, match="apt install age"):
        age.encrypt(io.BytesIO(b"x"), [world.recipient], io.BytesIO(), subject="x")


# --- the age file itself ---


class Slow(io.BytesIO):
    """It takes what a pipe holds at a time: what writes more has not ended yet, however busy the machine is."""

    def write(self, data: Any) -> int:
        time.sleep(0.5)
        return super().write(data)


def test_decrypting_says_what_is_wrong(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x.age"
    with path.open("wb") as sink:
        age.encrypt(io.BytesIO(b"secret" * 50_000), [world.recipient], sink, subject="x")
    with path.open("rb") as file:
        assert age.stanzas(file, "x") == ("X25519",)
    whole = path.read_bytes()
    assert age.decrypt_bytes(path, world.key, subject="x", limit=1 << 20) == b"secret" * 50_000
    with pytest.raises(IntegrityError, match="more than 10 bytes"):
        age.decrypt_bytes(path, world.key, subject="x", limit=10)
    with pytest.raises(UnverifiedError, match="no end after 0 s"):
        age.decrypt(path, world.key, Slow(), subject="x", timeout=0)
    for broken in (whole[:-1], whole[: 64 << 10], whole[:-9] + b"123456789", whole + b"x", whole[:100]):
        path.write_bytes(broken)
        with pytest.raises(IntegrityError, match="cut or damaged"):
            age.decrypt_bytes(path, world.key, subject="x", limit=1 << 20)
    for broken in (b"", b"text", whole[:50], whole[30:]):
        path.write_bytes(broken)
        with path.open("rb") as file, pytest.raises(IntegrityError, match=r"no age file|no recipient"):
            age.stanzas(file, "x")


def test_a_secret_key_is_never_taken_for_a_recipient_nor_shown(world: World) -> None:
    secret = world.key.split()[-1]
    with pytest.raises(UsageError, match="it is a secret key") as error:
        world.configured(recipients=[secret])
    assert secret not in str(error.value)
    for wrong in ("", "age1", "bob", "ssh-ed25519", "age1" + "Q" * 58):
        assert recipient_problem(wrong)
    assert recipient_problem(PUBLIC) == ""


# --- the kit ---


def options(*words: str) -> argparse.Namespace:
    return cli.parser().parse_args(["escrow", *words])


VAULT = {"endpoint_url": "https://s3.example", "repository_bucket": "copies", "objects_bucket": "mirror"}


def test_a_kit_is_enough_and_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = config.from_mapping(
        {"stack": "shop", "runtime": {"type": "host"}, "vault": VAULT, "alarms": {"backup_age_hours": 170}},
        {"vault_secret_key": "very-secret"},
    )
    kit = escrow_kit.kit(whole)
    assert "very-secret" not in json.dumps(kit)
    (tmp_path / "kit.json").write_text(json.dumps(kit))
    monkeypatch.setenv("LIFEBOAT_VAULT_ACCESS_KEY", "a")
    monkeypatch.setenv("LIFEBOAT_VAULT_SECRET_KEY", "b")
    got = escrow_kit.configured(options("--kit", str(tmp_path / "kit.json")))
    assert (got.stack, got.vault.repository_bucket, got.vault.prefix) == ("shop", "copies", "shop")
    assert got.alarms.backup_age_hours == 170
    assert (got.secrets["vault_access_key"], got.secrets["vault_secret_key"]) == ("a", "b")
    written_before = {name: value for name, value in kit.items() if name != "alarms"}
    (tmp_path / "old.json").write_text(json.dumps(written_before))
    assert escrow_kit.configured(options("--kit", str(tmp_path / "old.json"))).alarms.backup_age_hours == 26
    single = escrow_kit.configured(
        options("--stack", "shop", "--bucket", "copies", "--endpoint-url", "https://s3.example")
    )
    assert single.vault.endpoint_url == "https://s3.example"


def test_a_kit_says_whose_recovery_points_are_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signers = [{"name": "app1", "key": f"ssh-ed25519 {'A' * 68}"}, {"name": "rin", "key": f"ssh-ed25519 {'B' * 68}"}]
    adopted = [{"documents": "{}", "signature": "-"}]
    given = {"stack": "shop", "runtime": {"type": "host"}, "vault": VAULT, "signers": signers, "adopted": adopted}
    whole = config.from_mapping(given)
    (tmp_path / "kit.json").write_text(json.dumps(escrow_kit.kit(whole)))
    monkeypatch.setenv("LIFEBOAT_VAULT_ACCESS_KEY", "a")
    monkeypatch.setenv("LIFEBOAT_VAULT_SECRET_KEY", "b")
    got = escrow_kit.configured(options("--kit", str(tmp_path / "kit.json")))
    assert (got.signers, got.adopted) == (whole.signers, whole.adopted)
    assert len(got.signers) == 2


def test_credentials_come_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "LIFEBOAT_VAULT_ACCESS_KEY",
        "LIFEBOAT_VAULT_SECRET_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="no vault_access_key and no vault_secret_key"):
        escrow_kit.credentials("")
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"vault_access_key": "a", "vault_secret_key": "b", "other": "c"}))
    path.chmod(0o640)
    with pytest.raises(UsageError, match="others may read it"):
        escrow_kit.credentials(str(path))
    path.chmod(0o600)
    assert escrow_kit.credentials(str(path)) == {"vault_access_key": "a", "vault_secret_key": "b"}
    path.write_text("no json, hunter2")
    with pytest.raises(UsageError, match="no JSON") as error:
        escrow_kit.credentials(str(path))
    assert "hunter2" not in str(error.value)


def test_the_command_without_a_configuration(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = sealed(world)
    monkeypatch.setenv("LIFEBOAT_VAULT_ACCESS_KEY", "a")
    monkeypatch.setenv("LIFEBOAT_VAULT_SECRET_KEY", "b")
    (tmp_path / "key").write_text(world.key)
    words = ["escrow", "--stack", "shop", "--bucket", "copies", "--config-directory", str(tmp_path / "none")]
    assert cli.main([*words, "--identity", str(tmp_path / "key")]) == 0
    assert f"PASS  {point.id}  escrow" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(keys(tmp_path)[0]))
    assert cli.main([*words, "--identity", "-"]) == 6
    assert "no identity matched any of the recipients" in capsys.readouterr().out
    assert cli.main(words) == 2
    assert cli.main(["escrow", "--config-directory", str(tmp_path / "none"), "--identity", "x"]) == 2
    assert os.environ["LIFEBOAT_VAULT_SECRET_KEY"] == "b"
