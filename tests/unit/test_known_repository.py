# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository that is another than before: its disk is not mounted, or another one is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import metrics, prune, status
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import OtherRepositoryError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import NOW, make_config, publish

KNOWN = 'lifeboat_repository_known{stack="shop"} %d\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a backup, which this host has used."""
    monkeypatch.setattr(runtime, "connect", lambda config: None)
    monkeypatch.setattr(endpoints, "checks", lambda run, now: [])
    publish(tmp_path, NOW)
    repositories.repository_of(opened(tmp_path)).check(writable=True)
    return tmp_path / "backup"


def opened(tmp_path: Path, **changed: Any) -> Opened:
    return Opened(make_config(tmp_path, **changed))


def unmount(root: Path) -> None:
    """What an empty mount point looks like."""
    root.rename(root.with_name("the disk"))
    root.mkdir()


def test_an_empty_mount_point_is_not_backed_up_into(root: Path) -> None:
    unmount(root)
    repo = repositories.repository_of(opened(root.parent))
    with (
        pytest.raises(OtherRepositoryError, match="its marker is not there") as refused,
        repo.stage("database", "db_backup_20261201_020000"),
    ):
        pytest.fail("the backup was begun")
    assert "ount" in refused.value.remedy
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("write", [lambda repo: repo.check(writable=True), lambda repo: repo.identity()])
def test_nothing_is_written_there(root: Path, write: Any) -> None:
    unmount(root)
    with pytest.raises(OtherRepositoryError):
        write(repositories.repository_of(opened(root.parent)))
    assert list(root.iterdir()) == []


def test_prune_refuses(root: Path) -> None:
    unmount(root)
    with pytest.raises(OtherRepositoryError):
        prune.prune(opened(root.parent), now=NOW, dry_run=False, log=len)


def test_another_disk_is_refused(root: Path) -> None:
    unmount(root)
    other = LocalRepository(root)
    other.stack = "shop"
    other.identity()
    with pytest.raises(OtherRepositoryError, match="is not the one that this host knows"):
        repositories.repository_of(opened(root.parent)).check(writable=True)


def test_the_disk_comes_back(root: Path) -> None:
    unmount(root)
    root.rmdir()
    root.with_name("the disk").rename(root)
    repositories.repository_of(opened(root.parent)).check(writable=True)


def test_another_path_is_a_choice(root: Path) -> None:
    new = root.with_name("new")
    new.mkdir()
    run = opened(root.parent, repository={"type": "local", "path": str(new)})
    assert repositories.repository_of(run).identity()


def test_an_operator_forgets_the_old_one(root: Path) -> None:
    unmount(root)
    run = opened(root.parent)
    (run.config.state / repositories.REPOSITORY).unlink()
    assert repositories.repository_of(run).identity()
    with pytest.raises(OtherRepositoryError):
        shutil.rmtree(root)
        root.mkdir()
        repositories.repository_of(opened(root.parent)).identity()


def test_status_fails(root: Path) -> None:
    unmount(root)
    found = {check.name: check for check in status.status(opened(root.parent), now=NOW).checks}
    assert found["repository"].result == FAIL
    assert "its marker is not there" in found["repository"].detail


def test_metrics_say_so_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_run: Opened) -> None:
        raise NotFoundError("ask whether the database answers", "db", "it does not run")

    monkeypatch.setattr(server, "of", lost)
    assert KNOWN % 1 in metrics.textfile(opened(root.parent), now=NOW)
    unmount(root)
    assert KNOWN % 0 in metrics.textfile(opened(root.parent), now=NOW)
    root.rmdir()
    assert KNOWN % 0 in metrics.textfile(opened(root.parent), now=NOW)


def test_a_path_that_must_be_a_mount(tmp_path: Path) -> None:
    publish(tmp_path, NOW)
    run = opened(tmp_path, repository={"type": "local", "path": str(tmp_path / "backup"), "mounted": True})
    with pytest.raises(UsageError, match="nothing is mounted there"):
        repositories.repository_of(run).check(writable=True)
    assert KNOWN % 0 in metrics.textfile(opened(tmp_path, repository=vars(run.config.repository)), now=NOW)
    LocalRepository(Path("/dev/shm"), mounted=True).check()


class Vault(LocalRepository):
    """A vault in a directory: what is remembered there of the repository that it copies."""

    race = ""
    marks = S3Repository.marks


def test_the_vault_refuses_the_copies_of_another_repository(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vault").mkdir()
    vault = Vault(tmp_path / "vault")
    vault.stack = "shop"
    monkeypatch.setattr(repositories, "in_vault", lambda run: vault)
    run = opened(tmp_path)
    mine = repositories.repository_of(run).identity()
    copies.require_source(run, vault, make=True)
    assert json.loads((vault.root / "source.json").read_bytes())["repository"] == mine

    # The host has lost its memory, and another disk of the stack is mounted.
    unmount(root)
    other = LocalRepository(root)
    other.stack = "shop"
    other.identity()
    (run.config.state / repositories.REPOSITORY).unlink()
    run = opened(tmp_path)
    said = copies.catch_up(run, log=len)
    assert "copies of another repository" in said.failed[0]
    (check,) = copies.checks(run, {}, [])
    assert (check.result, "copies of another repository" in check.detail) == (FAIL, True)


def test_a_rebuilt_host_begins_a_new_repository(root: Path, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    vault = Vault(tmp_path / "vault")
    vault.stack = "shop"
    copies.require_source(opened(tmp_path), vault, make=True)
    unmount(root)
    run = opened(tmp_path)
    (run.config.state / repositories.REPOSITORY).unlink()  # a new host remembers nothing
    mine = repositories.repository_of(run).identity()
    copies.require_source(run, vault, make=True)
    assert json.loads((vault.root / "source.json").read_bytes())["repository"] == mine
