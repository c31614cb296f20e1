# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a real stack: nothing secret in the clear, back by tar and age alone, and only with the key."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archived
import pytest
from support import Host, Stack, identity, playbook

KEY = "/dev/shm/test.key"  # memory: the host's disk never sees it


@pytest.fixture(scope="module")
def backup(shop: Stack) -> dict[str, Any]:
    """A backup of the configuration, in a recovery point: that ties the newest of all three, so all three are taken."""
    shop.wait_until_well(60)
    for words in (("database",), ("objects",), ("--seal", "config")):
        code, said = shop.host.lifeboat("backup", *words)
        assert code == 0, said
    found: dict[str, Any] = shop.host.lifeboat("list", "--component", "config")[1][-1]
    return found


@pytest.fixture(scope="module")
def key(app1: Host) -> Iterator[str]:
    app1.run("sh", "-c", f"umask 077; cat > {KEY}", stdin=identity())
    yield KEY
    app1.run("rm", KEY)


def test_the_stacks_secrets_are_nowhere_in_the_clear(app1: Host, backup: dict[str, Any], key: str) -> None:
    """And the archive of what holds none is encrypted too, so that no list decides."""
    assert (backup["details"]["left_out"], backup["details"]["skipped"]) == ([], {})
    assert len(backup["details"]["images"]) == 4
    here = f"/backup/config/{backup['id']}"
    secrets = [line.partition("=")[2] for line in app1.run("grep", "-E", "PASSWORD|SECRET", "/srv/shop/.env").split()]
    assert len(secrets) >= 3
    app1.run("sh", "-c", f"test -f {here}/files.json.age -a ! -e {here}/files.json -a ! -e {here}/config.tar.gz")
    opened = f"age --decrypt --identity {key} {here}/config.tar.gz.age | tar -xzO"
    clear = app1.run("sh", "-c", f"cat {here}/*.json; {opened}; journalctl -q")
    assert "\nservices:\n" in clear, "the archive was read"
    assert not [secret for secret in secrets if secret in clear]


def test_another_program_finds_no_secret_in_the_archive(
    app1: Host, backup: dict[str, Any], key: str, tmp_path: Path
) -> None:
    """detect-secrets, on the controller. The control is what is sealed, where it finds them, and a token beside."""
    here = f"/backup/config/{backup['id']}"
    secrets = [line.partition("=")[2] for line in app1.run("grep", "-E", "PASSWORD|SECRET", "/srv/shop/.env").split()]
    own = json.loads(app1.run("cat", "/etc/lifeboat/shop.secrets.json"))
    secrets += [value for name, value in own.items() if value and not name.endswith("access_key")]
    opened = app1.run("sh", "-c", f"age --decrypt --identity {key} {here}/config.tar.gz.age | base64")
    clear = archived.scanned(base64.b64decode(opened), tmp_path / "clear")
    assert clear.files > 1
    assert (clear.tokens, clear.tells(secrets)) == (set(), [])
    opened = app1.run("sh", "-c", f"age --decrypt --identity {key} {here}/secrets.tar.gz.age | base64")
    assert archived.scanned(base64.b64decode(opened), tmp_path / "sealed").tells(secrets)
    planted = tmp_path / "clear/planted.conf"
    planted.write_text("account: " + "AC" + "0123456789abcdef" * 2 + "\n")
    assert {name for name, _kind in archived.looked_at(tmp_path / "clear").tokens} == {"planted.conf"}


def test_it_comes_back_by_hand(app1: Host, backup: dict[str, Any], key: str) -> None:
    """As docs/config-backup.md says."""
    here, there = f"/backup/config/{backup['id']}", "/root/restored"
    app1.run("sh", "-c", f"rm -rf {there}; mkdir {there}")
    for name in ("config", "secrets"):
        app1.run("sh", "-c", f"age --decrypt --identity {key} {here}/{name}.tar.gz.age | tar -xzp -C {there}")
    for path in ("/srv/shop/.env", "/srv/shop/compose.yml", "/etc/lifeboat/shop.secrets.json"):
        app1.run("cmp", path, there + path)
        assert app1.run("stat", "-c", "%a %u %Y", path) == app1.run("stat", "-c", "%a %u %Y", there + path)
    app1.run("rm", "-rf", there)


def test_the_escrowed_key_opens_it_and_another_does_not(app1: Host, shop: Stack, backup: dict[str, Any]) -> None:
    other = app1.run("age-keygen")
    wrong = app1.probe("lifeboat", "escrow", "--identity", "-", stdin=other)
    assert wrong.returncode == 6
    assert "no identity matched any of the recipients: the key given is that of age1" in wrong.stdout
    assert app1.run("lifeboat", "escrow", "--identity", "-", stdin=identity()).splitlines()[-1].startswith("PASS")
    results = {check["name"]: check["result"] for check in shop.host.lifeboat("status")[1]["checks"]}
    assert (results["escrow"], results["config secrets"]) == ("PASS", "PASS")


def test_a_damaged_one_is_found_out(app1: Host, backup: dict[str, Any]) -> None:
    path = f"/backup/config/{backup['id']}/secrets.tar.gz.age"
    app1.run("cp", "-p", path, "/var/tmp/kept")
    app1.run("sh", "-c", f"printf 'not what I wrote' | dd of={path} bs=1 seek=300 conv=notrunc status=none")
    try:
        assert app1.lifeboat("verify", backup["id"], "--level", "checksum")[0] == 6
    finally:
        app1.run("cp", "-p", "/var/tmp/kept", path)
        app1.run("rm", "/var/tmp/kept")
    assert app1.lifeboat("verify", backup["id"])[0] == 0
    assert playbook("lifeboat.dr.prune", check=True).status == 0
