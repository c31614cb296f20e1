# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole config archives, looked at by detect-secrets: of a stack with a secret in every form and place, and of the lab.

tests/testinfra/recovery_point/test_config.py has the same done to the archive of a deployed host.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import archived
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import scanner
from config_world import PLANTED, World
from test_config_judge import SECRETS

ROOT = Path(__file__).resolve().parents[2]
# What the judge does not know, put together here so that nobody takes it for a real one.
TOKENS = {
    "mailchimp.conf": "list: " + "0123456789abcdef" * 2 + "-us1\n",
    "twilio.conf": "account: " + "AC" + "0123456789abcdef" * 2 + "\n",
}
pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its project is the lab's, and `named` has every planted secret; no second check on this host."""
    made = World(tmp_path, monkeypatch)
    monkeypatch.setattr(scanner, "PLACES", str(tmp_path / "none"))
    shutil.copy(ROOT / "tests/lab/shop/compose.yml", made.stack / "compose.yml")
    planted = {what: file for what, file in SECRETS.items() if "own" not in what}  # here the stack's own are others
    for number, (name, content) in enumerate([*planted.values(), ("own.conf", f"x {PLANTED} y\n".encode())]):
        path = tmp_path / "named" / str(number) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    for name, text in TOKENS.items():
        (tmp_path / "named" / name).write_text(text)
    return made


def seen(world: World, room: str, **changes: Any) -> archived.Seen:
    one = world.take(files=[str(world.root / "named")], **changes)
    with configuration_restore.artefact(world.repo, one, configuration_restore.PLAIN, world.own_keys) as stream:
        return archived.scanned(stream.read(), world.root / room)


@pytest.mark.parametrize("sealed", [True, False], ids=["with recipients", "without"])
def test_no_planted_secret_is_in_an_archive(world: World, monkeypatch: pytest.MonkeyPatch, sealed: bool) -> None:
    """The control is the archive of a host without detect-secrets: what only it knows is there, and nothing else."""
    recipients = {} if sealed else {"recipients": []}
    before = seen(world, "before", **recipients)
    assert {Path(name).name for name, _kind in before.tokens} == set(TOKENS)
    monkeypatch.setattr(scanner, "PLACES", str(Path(sys.executable).parent))
    after = seen(world, "after", **recipients)
    assert after.tokens == set()
    assert after.tells([PLANTED, "hunter2x"]) == []
    assert after.files == before.files - len(TOKENS) > 2


def test_what_is_sealed_is_what_it_would_find(world: World) -> None:
    one = world.take()
    out = world.extract(one, key=world.key)
    inside = Path(out.where(str(world.etc / "shop.secrets.json"))).read_bytes()
    (world.root / "plain").mkdir()
    (world.root / "plain/shop.secrets.json").write_bytes(inside)
    assert archived.looked_at(world.root / "plain").tells([PLANTED]) == [PLANTED]
