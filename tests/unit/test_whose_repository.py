# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository that is another stack's: what each way in says. The marker itself is in repository_contract.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import preflight, prune, status
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import OtherStackError, Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import NOW, make_config, publish

CAUSE = r"it is not known as that of the stack shop: its marker names the stack wiki\."


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Of the stack shop, whose backups lie in a repository that wiki has marked."""
    monkeypatch.setattr(runtime, "connect", lambda config: None)
    monkeypatch.setattr(endpoints, "checks", lambda run, now: [])
    publish(tmp_path, NOW)
    marked(LocalRepository(tmp_path / "backup"), "wiki")
    return Opened(make_config(tmp_path))


def marked(repo: Repository, stack: str) -> None:
    body = '{"schema": "lifeboat.dr/repository", "version": [1, 0], "stack": "%s", "repository": "0a"}'
    repo._write(("repository.json",), (body % stack).encode())


def test_status_fails(run: Opened) -> None:
    found = {check.name: (check.result, check.detail) for check in status.status(run, now=NOW).checks}
    assert found["repository"][0] == FAIL
    assert CAUSE.replace("\\", "") in found["repository"][1]


def test_prune_and_backup_stop(run: Opened) -> None:
    repo = repositories.repository_of(run)
    before = repo.ids("database")
    with pytest.raises(OtherStackError, match=CAUSE):
        prune.prune(run, now=NOW, dry_run=False, log=len)
    with pytest.raises(OtherStackError, match=CAUSE):
        repo.check(writable=True)
    assert repo.ids("database") == before
    assert repo.read_record("database", before[0], "verification.json") is None


def test_deploy_refuses(run: Opened) -> None:
    (said,) = preflight.unreachable(run, stack=False)
    assert said.startswith("lifeboat_repository: Could not use the repository (")
    marked(repositories.repository_of(run), "shop")
    assert preflight.unreachable(Opened(run.config), stack=False) == []


class Vault:
    """A vault that is reached and is another's; whatever else is asked of it fails the test."""

    race = ""

    def require_ours(self, **more: Any) -> None:
        raise OtherStackError("use the repository", "s3://vault/shop", "its marker names the stack wiki")


def test_the_vaults_copies(run: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    marked(repositories.repository_of(run), "shop")
    monkeypatch.setattr(repositories, "in_vault", lambda run: Vault())
    said = copies.catch_up(run, log=len)
    assert [line.partition("): ")[2] for line in said.failed] == ["its marker names the stack wiki."]
    (check,) = copies.checks(run, {}, [])
    assert (check.result, "its marker names the stack wiki" in check.detail) == (FAIL, True)
    assert any("its marker names" in line for line in preflight.unreachable(run, stack=False))
