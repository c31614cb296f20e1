# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database's backups that are encrypted: what a reader of the repository finds, and who can verify and restore."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import canaries
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from config_world import keys as new_key
from postgres_stack import Stack, assert_pass, entries, say

CANARIES = ["canary-of-a-row", "canary_of_a_table", "canary_of_a_role", "canary-of-a-setting", "canary-of-another"]
SECRETS = """
CREATE TABLE canary_of_a_table (id serial PRIMARY KEY, text text);
INSERT INTO canary_of_a_table (text) SELECT 'canary-of-a-row' FROM generate_series(1, 500);
CREATE ROLE canary_of_a_role LOGIN PASSWORD 'x'; ALTER ROLE canary_of_a_role SET search_path = 'canary-of-a-setting';
"""
FORMATS = [
    ("directory", "zstd:1"),
    ("directory", "gzip:1"),
    ("custom", "gzip:1"),
    ("custom", "none"),
    ("plain", "gzip"),
]


@pytest.fixture(scope="module")
def filled(running: Stack) -> Iterator[Stack]:
    running.psql("CREATE DATABASE shop; CREATE DATABASE other;".replace("; ", ";\n"))
    running.psql(SECRETS, "shop")
    running.psql("CREATE TABLE t AS SELECT 'canary-of-another' AS text;", "other")
    yield running
    running.wipe()


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, str]:
    return new_key(tmp_path)


def configured(stack: Stack, root: Path, recipient: str, **database: Any) -> Config:
    encryption = {"recipients": [recipient] if recipient else []}
    return stack.config(root, database={"name": "shop", **database}, encryption=encryption)


@pytest.mark.parametrize(("form", "compression"), FORMATS)
def test_a_reader_of_the_repository_finds_nothing(
    filled: Stack, tmp_path: Path, key: tuple[str, str], form: str, compression: str
) -> None:
    """And everything where it is not encrypted: the search can find it."""
    for recipient in ("", key[1]):
        root = tmp_path / (recipient or "clear")
        root.mkdir()
        settings = configured(filled, root, recipient, format=form, compression=compression)
        taken = dump.take(Opened(settings), log=say)
        names = {artefact.name for artefact in taken.artefacts}
        seen = canaries.found(root / "backup", CANARIES)
        if recipient:
            assert {name for name in names if not name.endswith(".age")} == set()
            assert {word: files for word, files in seen.items() if files} == {}
        else:
            assert [word for word, files in seen.items() if not files] == []
        # Whether it is encrypted or not, it is what it was.
        result = operations_verify.verify(Opened(settings), taken.id, "restore", log=say)
        assert_pass(result.checks, at_least=13)
    assert filled.traces() == []


def checked(settings: Config, level: str, key: str = "") -> dict[str, str]:
    result = operations_verify.verify(Opened(settings, key), entries(settings)[-1].id, level, log=say)
    print(*result.checks, sep="\n")
    return {"": result.verdict, **{check.name: check.detail for check in result.checks if check.result != PASS}}


def test_who_can_verify_and_restore(filled: Stack, tmp_path: Path, key: tuple[str, str]) -> None:
    identity, recipient = key
    settings = configured(filled, tmp_path, recipient)
    taken = dump.take(Opened(settings), log=say)
    host = age.HostKeys(settings.state)
    (own,) = host.all()
    assert checked(settings, "archive")[""] == PASS, "the host's own key opens it"
    # A thief of the repository, and a host that lost its key.
    own.path.rename(tmp_path / "own")
    assert checked(settings, "checksum")[""] == PASS, "no key is needed for the bytes"
    for level in ("archive", "restore"):
        seen = checked(settings, level)
        assert seen[""] == COULD_NOT_VERIFY
        assert "this host's own key that opened it is gone" in seen["verification"]
    other, _recipient = new_key(tmp_path)
    seen = checked(settings, "restore", other)
    assert seen[""] == COULD_NOT_VERIFY
    assert "no identity matched any of the recipients" in seen["verification"]
    assert checked(settings, "restore", identity)[""] == PASS
    # The plan asks for the key before anything is touched.
    filled.psql("DROP DATABASE shop;", "template1")
    for given, words in (("", "and no key|it is encrypted for"), (other, "no identity matched")):
        with pytest.raises(Exception, match=words):
            plan.make(Opened(settings, given), log=say)
    made = plan.make(Opened(settings, identity), log=say)
    assert made.mode in ("swap", "rebuild", "start")
    done = database_recovery.restore_database(
        Opened(settings, identity), taken.id, fresh=False, stamp="20261124_020000", log=say
    )
    assert_pass(done.checks, at_least=8)
    assert filled.psql("SELECT DISTINCT text FROM canary_of_a_table;", "shop") == ["canary-of-a-row"]
    assert [path.name for path in settings.state.glob("opened-*")] == []
    # A backup is taken without the old key, and with a new one.
    again = dump.take(Opened(settings), log=say)
    (new,) = host.all()
    assert again.details["host_key"] == new.recipient != own.recipient


def test_what_is_damaged_fails_with_a_key_and_without(filled: Stack, tmp_path: Path, key: tuple[str, str]) -> None:
    settings = configured(filled, tmp_path, key[1], format="custom")
    taken = dump.take(Opened(settings), log=say)
    (path,) = (tmp_path / "backup").glob(f"*/{taken.id}/database.dump.age")
    whole = path.read_bytes()
    assert checked(settings, "archive")[""] == PASS
    path.chmod(0o600)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert checked(settings, "archive")[""] == FAIL
    shutil.rmtree(age.HostKeys(settings.state).folder)
    assert checked(settings, "archive")[""] == FAIL


def test_keys_can_be_changed_and_encryption_begun_later(filled: Stack, tmp_path: Path, key: tuple[str, str]) -> None:
    """Each backup stays as it is, and is opened by the key that it was made for."""
    plain = configured(filled, tmp_path, "")
    first = dump.take(Opened(plain), log=say)
    settings = configured(filled, tmp_path, key[1])
    second = dump.take(Opened(settings), log=say)
    new = new_key(tmp_path)
    rotated = replace(settings, encryption=replace(settings.encryption, recipients=(new[1],), host_key_days=0))
    third = dump.take(Opened(rotated), log=say)
    shutil.rmtree(age.HostKeys(settings.state).folder)
    wanted = {first.id: "", second.id: key[0], third.id: new[0]}
    for identity, opens in wanted.items():
        result = operations_verify.verify(Opened(rotated, opens), identity, "archive", log=say)
        assert result.verdict == PASS, result.checks
    assert operations_verify.verify(Opened(rotated, new[0]), second.id, "archive", log=say).verdict == COULD_NOT_VERIFY
