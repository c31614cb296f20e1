# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypted backups of the database: what verify, status and escrow say of them, with which key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import method
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow, escrow_record
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import flip, make_config, prove
from config_world import World
from config_world import keys as new_key
from encryption_world import NOW, Lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path)

    def levels(_self: object, _config: Config, _manifest: Manifest, folder: Path, *_: object) -> Sequence[Any]:
        made.opened.append({path.name: path.read_bytes() for path in folder.iterdir()})
        return []

    monkeypatch.setattr(method.Logical, "levels", levels)
    return made


PLAIN = {"database.dump": b"rows", "globals.sql.gz": b"rows", "fingerprint.json": b"rows"}


def test_the_hosts_key_verifies_and_no_key_is_needed_for_the_bytes(lab: Lab) -> None:
    lab.back_up()
    assert lab.verify("restore")[""] == PASS
    assert lab.opened == [PLAIN]
    lab.lose_the_hosts_keys()
    assert lab.verify("checksum")[""] == PASS


@pytest.mark.parametrize("level", ["archive", "restore"])
@pytest.mark.parametrize("given", ["none", "another's", "no key at all"])
def test_without_the_key_it_could_not_be_verified(lab: Lab, level: str, given: str) -> None:
    """Never FAIL, which would say that the backup is bad, and never PASS."""
    lab.back_up()
    lab.lose_the_hosts_keys()
    key = {"none": "", "another's": new_key(lab.root)[0], "no key at all": "hello"}[given]
    found = lab.verify(level, key)
    assert found[""] == COULD_NOT_VERIFY
    assert found["checksums"].startswith(PASS)
    words = {"none": "it is encrypted for", "another's": "no identity matched", "no key at all": "no private key in it"}
    assert words[given] in found["verification"]
    assert lab.opened == []
    assert lab.verify(level, lab.identity)[""] == PASS
    assert lab.opened == [PLAIN]


def test_a_damaged_artefact_fails_without_a_key(lab: Lab) -> None:
    made = lab.back_up()
    lab.lose_the_hosts_keys()
    path = lab.root / "backup" / "postgresql" / made.id / "globals.sql.gz.age"
    flip(path, -1)
    assert lab.verify("restore")[""] == FAIL


def test_a_key_goes_when_the_newest_backup_that_it_opens_is_proved(lab: Lab) -> None:
    """By the real verification of the new one; the old one's was left out one night."""
    keys = age.HostKeys(lab.config().state)
    old = lab.back_up(taken_at=NOW - timedelta(days=1))
    (first,) = keys.all()
    aged = first.path.with_name(f"{NOW - timedelta(days=8):%Y%m%d_%H%M%S}.key")
    first.path.rename(aged)
    lab.back_up()
    assert len(keys.all()) == 2
    lab.verify("restore")
    assert [key.path for key in keys.all()][:1] == [aged], "what it opens is not proved"
    lab.verify("restore", identity=old.id)
    (left,) = keys.all()
    assert left.path != aged


# Status.


def test_status_is_silent_where_nothing_is_encrypted(lab: Lab) -> None:
    plain = make_config(lab.root)
    lab.back_up(plain)
    assert not {"encryption", "keys of the past", "host key"} & set(lab.status(plain))


def test_status_fails_where_the_newest_is_not_encrypted_as_configured(lab: Lab) -> None:
    made = lab.back_up(make_config(lab.root))
    assert lab.status(lab.config())["encryption"] == (
        FAIL, f"{made.id} is not encrypted; take a new one: lifeboat backup",
    )  # fmt: skip
    lab.back_up(taken_at=NOW + timedelta(seconds=1))
    assert lab.status(lab.config())["encryption"] == (PASS, "the newest backups are encrypted for 1 recipients")


def test_status_names_the_backups_that_no_current_key_opens(lab: Lab) -> None:
    old = lab.back_up(taken_at=NOW - timedelta(days=1))
    rotated = lab.config(new_key(lab.root)[1])
    found = lab.status(rotated)
    assert found["encryption"][0] == FAIL
    assert f"{old.id} is encrypted for none of the configured recipients" in found["encryption"][1]
    lab.back_up(rotated)
    found = lab.status(rotated)
    assert found["encryption"][0] == PASS
    assert found["keys of the past"][0] == PASS
    assert "1 backups can be opened by the key of none" in found["keys of the past"][1]
    assert old.id in found["keys of the past"][1]
    assert lab.recipient in found["keys of the past"][1]


def test_status_says_that_the_host_lost_its_key(lab: Lab) -> None:
    made = lab.back_up()
    assert "host key" not in lab.status(lab.config())
    lab.lose_the_hosts_keys()
    result, words = lab.status(lab.config())["host key"]
    assert (result, made.id in words) == (COULD_NOT_VERIFY, True)
    assert "lifeboat verify --identity" in words
    prove(lab.root, made, at=NOW)
    assert "host key" not in lab.status(lab.config()), "it was proved before"


# Escrow.


@pytest.mark.parametrize("whose", ["operator's", "host's", "another's"])
def test_the_escrow_opens_it_with_the_paper_key_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    world = World(tmp_path, monkeypatch)
    monkeypatch.setattr(escrow_record, "store", lambda _: world.repo)
    lab = Lab(tmp_path)
    lab.identity, lab.recipient = world.key, world.recipient
    lab.back_up()
    world.take()
    run = Opened(world.configured())
    points.seal(run, now=datetime.now(timezone.utc), log=print)
    host = age.HostKeys(lab.config().state)
    key = {"operator's": world.key, "another's": new_key(tmp_path)[0], "host's": host.all()[0].path.read_text()}[whose]
    if whose != "host's":
        lab.lose_the_hosts_keys()
    found = escrow.prove(run, key, log=print)
    checks = {check.name: (check.result, check.detail) for check in found.checks}
    if whose == "operator's":
        assert checks["database: encryption"] == (PASS, "the key opens all of it: 3 artefacts, 12 bytes")
        assert found.verdict == PASS
    elif whose == "host's":  # it opens this week's database, and not the configuration
        assert found.verdict == FAIL
    else:
        assert "no identity matched" in checks["database"][1]
        assert checks["database"][0] == FAIL
