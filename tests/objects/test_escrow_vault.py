# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The escrow against a real vault: copied there, opened there by the writer's own key, put on record there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow, escrow_record
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import publish
from config_world import World, keys
from s3_servers import SeaweedFS

MakeBucket = Callable[..., str]


def settings(world: World, server: SeaweedFS, bucket: str, **secrets: str) -> config.Config:
    plain = world.configured()
    vault = dataclasses.replace(plain.vault, endpoint_url=server.url, repository_bucket=bucket)
    given = {"vault_access_key": server.access_key, "vault_secret_key": server.secret_key, **secrets}
    return dataclasses.replace(plain, vault=vault, secrets=given)


def test_the_escrow_opens_the_vault(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    bucket = make_bucket(weed)
    mine = settings(world, weed, bucket)
    now = datetime.now(timezone.utc)
    publish(world.root, now)
    world.take()
    said: list[str] = world.lines
    held = copies.catch_up(Opened(mine), log=said.append)
    assert held.failed == ()
    point, _ = points.seal(Opened(mine), now=now, copies=held.copies, log=said.append)
    assert copies.send_points(Opened(mine), log=said.append) == ()
    # The host is gone; what is left is the vault, its credentials and the key.
    world.repo.root.rename(tmp_path / "gone")  # type: ignore[attr-defined]

    def prove(given: config.Config, key: str = world.key) -> Any:
        return escrow.prove(Opened(given), key, log=said.append)

    wrong = prove(mine, keys(tmp_path)[0])
    assert (wrong.verdict, "no identity matched" in str(wrong.checks)) == (FAIL, True)
    assert escrow_record.checks(Opened(mine), now)[0].result == COULD_NOT_VERIFY
    refused = prove(settings(world, weed, bucket, vault_secret_key="wrong"))
    assert [(check.name, check.result) for check in refused.checks] == [("vault credentials", FAIL)]
    away = prove(dataclasses.replace(mine, vault=dataclasses.replace(mine.vault, endpoint_url="http://127.0.0.1:9")))
    assert away.verdict == COULD_NOT_VERIFY
    right = prove(mine)
    assert (right.verdict, right.id) == (PASS, point.id), right.checks
    assert escrow_record.checks(Opened(mine), now)[0].result == PASS
    store = escrow_record.store(Opened(mine))
    assert store.points() == [point.id]
    key = f"shop/config/{point.parts['config'].id}/secrets.tar.gz.age"
    data = weed.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    weed.client.put_object(Bucket=bucket, Key=key, Body=data[:-1])
    assert prove(mine).verdict == FAIL
