# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a keeper has is read back where its operator lets a host in, and nothing is written there."""

from __future__ import annotations

import grp
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sftp_stub
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import OtherStackError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import keeper_readback, point_fetch
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site.keeper_readback import Granted
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.sftp import Sftp
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.source import Budget, Directory, Source
from builders import NOW, publish, settings
from keeper_world import World
from ssh_world import Host, needs_sshd

STUB = Path(sftp_stub.__file__)
GROUP = grp.getgrgid(os.getgid()).gr_name


def directory(root: Path) -> Source:
    return Directory(root, Budget(60))


def stub(root: Path) -> Source:
    return Sftp([sys.executable, str(STUB), str(root), "plain"], "the keeper", "/", Budget(60))


@pytest.fixture
def made(tmp_path: Path) -> Manifest:
    """In tmp_path/backup, which plays what the keeper has."""
    return publish(tmp_path, NOW)


def read(root: Path, reach: Callable[[Path], Source]) -> Granted:
    return Granted(reach(root / "backup"), lambda: reach(root / "backup"), {})


@pytest.mark.parametrize("reach", [directory, stub])
def test_what_the_keeper_has_is_read(tmp_path: Path, made: Manifest, reach: Callable[[Path], Source]) -> None:
    repo = read(tmp_path, reach)
    folder = tmp_path / "backup/postgresql" / made.id
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/file").write_bytes(b"12345")
    (folder / "link").symlink_to("/etc/passwd")
    (tmp_path / "backup/postgresql/db_backup_20261123_120000").mkdir()
    repo.check()
    assert repo.ids("database") == ["db_backup_20261123_120000", made.id]
    assert repo.published("database") == [made.id]
    assert repo.manifest("database", made.id) == made.to_bytes()
    wanted = {artefact.name: artefact.size for artefact in made.artefacts}
    assert repo.files("database", made.id) == {**wanted, "deep/er/file": 5, "link": 0}
    with repo.open("database", made.id, "deep/er/file") as file:
        assert file.read() == b"12345"
    with pytest.raises(IntegrityError, match="not a plain file"):
        repo.open("database", made.id, "link")
    with pytest.raises(NotFoundError):
        repo.files("database", "db_backup_20200101_000000")
    with pytest.raises(NotFoundError, match="there is no such backup"):
        repo.manifest("database", "db_backup_20200101_000000")
    assert (repo.points(), repo.holds(), repo.free_bytes()) == ([], {}, None)
    repo.close()


def test_files_are_read_side_by_side_and_connections_are_kept(tmp_path: Path, made: Manifest) -> None:
    """One SFTP connection answers in order: a manifest that is read amid an artefact needs one of its own."""
    opened: list[Source] = []

    def reach() -> Source:
        opened.append(stub(tmp_path / "backup"))
        return opened[-1]

    big = bytes(range(256)) * 9000
    (tmp_path / "backup/postgresql" / made.id / "big").write_bytes(big)
    repo = Granted(reach(), reach, {})
    for _turn in range(2):
        with repo.open("database", made.id, "big") as file:
            first = file.read(1000)
            assert repo.manifest("database", made.id) == made.to_bytes()
            assert first + file.read() == big
        with repo.open("database", made.id, "big") as file:
            assert file.read(10) == big[:10], "and it is closed amid the file"
    assert len(opened) == 2
    repo.close()


def test_a_connection_that_failed_is_not_used_again(tmp_path: Path, made: Manifest) -> None:
    modes = iter(["a huge message", "plain", "plain"])

    def reach() -> Source:
        return Sftp([sys.executable, str(STUB), str(tmp_path / "backup"), next(modes)], "k", "/", Budget(60))

    repo = Granted(reach(), reach, {})
    with pytest.raises(LifeboatError, match="not SFTP"):
        repo.manifest("database", made.id)
    assert repo.manifest("database", made.id) == made.to_bytes()
    repo.close()


def test_nothing_is_written_there(tmp_path: Path, made: Manifest) -> None:
    repo = read(tmp_path, directory)
    repo.stack = "shop"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "backup").rglob("*")}
    tries: list[Callable[[], object]] = [
        lambda: repo.stage("database", "db_backup_20261125_000000"),
        lambda: repo.delete("database", made.id),
        lambda: repo.sweep(timedelta(0), NOW),
        lambda: repo.check(writable=True),
        lambda: repo.write_point("20261124_120000", b"{}"),
        lambda: repo.delete_point("20261124_120000"),
        lambda: repo.write_hold(made.id, b"{}"),
        lambda: repo.remove_hold(made.id),
        lambda: repo.write_record("database", made.id, "verification.json", b"{}"),
        lambda: repo.write_escrow("shop", b"{}"),
    ]
    for attempt in tries:
        with pytest.raises(UsageError, match="may be read only"):
            attempt()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "backup").rglob("*")} == before


def test_another_stacks_repository_is_refused(tmp_path: Path, made: Manifest) -> None:
    (tmp_path / "backup/repository.json").write_text(
        '{"schema": "lifeboat.dr/repository", "version": [1, 0], "stack": "bank", "repository": "x"}'
    )
    repo = read(tmp_path, directory)
    repo.check()
    repo.stack = "shop"
    with pytest.raises(OtherStackError, match="names the stack bank"):
        repo.check()


# --- the recovery of a site ---


def spare(root: Path, **source: Any) -> Config:
    """A machine with nothing on it, whose inventory names a keeper."""
    given = settings(
        root, repository={"type": "local", "path": str(root / "new"), "group": GROUP}, vault={"mode": "pull"}
    )
    return config.from_mapping({**given, "readback": {"source": source}})


def test_a_site_is_recovered_from_what_its_keeper_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published by the host, pulled by the keeper, read back by a new machine, when nothing of the host is there."""
    world = World(tmp_path, monkeypatch)
    made, pulled = world.night(0)
    assert pulled.problem is None
    world.forget_host()
    (tmp_path / "new").mkdir()
    one = spare(tmp_path, mounted=str(tmp_path / "kept/repository"))
    run = keeper_readback.opened(Opened(one))
    store, place = site_plan.open_store(run)
    chosen = site_plan.choose(run, store, site_plan.Request(), log=lambda _: None)
    assert (place, chosen.parts["database"].id) == ("vault", made.id)
    assert sources.vault_place(run) == str(tmp_path / "kept/repository")
    assert sources.open_place(run, "vault") is store
    before = world.bytes()
    fetched = point_fetch.fetch(run, chosen.point.id, log=lambda _: None)
    assert fetched == [made.id, chosen.point.id]
    own = repositories.repository_of(run)
    assert own.manifest("database", made.id) == made.to_bytes()
    for artefact in made.artefacts:
        with own.open("database", made.id, artefact.name) as file:
            assert hashlib.sha256(file.read()).hexdigest() == artefact.sha256
    assert points.parse(own.read_point(chosen.point.id), expected_id=chosen.point.id).stack == "shop"
    assert world.bytes() == before and point_fetch.fetch(run, chosen.point.id, log=lambda _: None) == []
    (said,) = sources.hold(run, place, chosen.point.id, "recover_site", NOW)
    assert "no hold could be left" in said and "prunes by its own log" in said


def test_a_damaged_backup_of_the_keeper_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    (older, _first), (newer, _second) = world.night(0), world.night(1)
    (world.kept / "repository/postgresql" / newer.id / newer.artefacts[0].name).write_bytes(b"x")
    run = keeper_readback.opened(Opened(spare(tmp_path, mounted=str(tmp_path / "kept/repository"))))
    chosen = site_plan.choose(run, site_plan.open_store(run)[0], site_plan.Request(), log=lambda _: None)
    assert chosen.parts["database"].id == older.id and newer.id[-15:] in chosen.passed[0].id


def test_without_a_grant_it_is_said_who_gives_one(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    given = {"host": "keeper1", "user": "keeper-shop", "identity_file": "/gone/k", "known_hosts": "/gone/h"}
    run = keeper_readback.opened(Opened(spare(tmp_path, **given)))
    with pytest.raises(LifeboatError) as raised:
        site_plan.open_store(run)
    assert "there is no /gone/k here" in raised.value.cause and "lifeboat.dr.readback" in raised.value.remedy


def test_without_a_keeper_nothing_changes(tmp_path: Path, made: Manifest) -> None:
    run = Opened(config.from_mapping(settings(tmp_path)))
    assert keeper_readback.opened(run) is run and keeper_readback.reached(run) is run
    with pytest.raises(UsageError, match="no copies are kept in a vault"):
        site_plan.open_store(run)


def test_its_vault_is_where_the_objects_are_read(tmp_path: Path) -> None:
    one = spare(tmp_path, mounted="/kept")
    directly = replace(one.readback, objects_bucket="shop-objects", endpoint_url="https://s3.example.org", region="eu")
    found = keeper_readback.opened(Opened(replace(one, readback=directly))).config.vault
    assert (found.objects_bucket, found.endpoint_url, found.region) == ("shop-objects", "https://s3.example.org", "eu")
    through = keeper_readback.opened(Opened(replace(one, readback=replace(directly, port=8333)))).config.vault
    assert through.endpoint_url.startswith("http://127.0.0.1:"), "by the connection's own port"
    assert one.mirrored_elsewhere and one.vault.objects_bucket == "", "the host itself mirrors nothing"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"source": {"host": "-oProxyCommand=x", "user": "keeper-shop"}}, "is not the name or address of a host"),
    ({"source": {"host": "k", "user": "Root!"}}, "is not the name of an account"),
    ({"source": {"host": "k", "user": "u", "identity_file": "k", "known_hosts": "/h"}}, "is not a plain absolute path"),
    ({"source": {"mounted": "/kept"}, "address": "a b"}, "is not the name or address of a host"),
    ({"source": {"mounted": "/kept"}, "port": 9000}, "is no SSH connection to reach the vault by"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config.from_mapping({**settings(tmp_path), "readback": given})


# --- OpenSSH itself, where its server is installed ---


def over_ssh(host: Host, root: Path, **changes: Any) -> Opened:
    given = {"host": "127.0.0.1", "port": host.port, "user": "root", "directory": str(root / "backup"),
             "identity_file": str(host.root / "client"), "known_hosts": str(host.root / "known")}  # fmt: skip
    return keeper_readback.opened(Opened(spare(root, **{**given, **changes})))


@needs_sshd
@pytest.mark.slow
def test_openssh_lets_in_until_the_time_that_was_granted(tmp_path: Path, made: Manifest) -> None:
    (tmp_path / "ssh").mkdir()
    for expiry, lets_in in (("20991231235959Z", True), ("20200101000000Z", False)):
        host = Host(tmp_path / "ssh", tmp_path / "backup", f'restrict,expiry-time="{expiry}"')
        try:
            run = over_ssh(host, tmp_path)
            if lets_in:
                store, _place = site_plan.open_store(run)
                assert store.manifest("database", made.id) == made.to_bytes()
                assert isinstance(store, Granted)
                store.close()
            else:
                with pytest.raises(LifeboatError, match="Permission denied") as raised:
                    site_plan.open_store(run)
                assert "lifeboat.dr.readback" in raised.value.remedy
        finally:
            host.end()
            for name in ("host", "client", "other"):
                (tmp_path / "ssh" / name).unlink()
                (tmp_path / "ssh" / f"{name}.pub").unlink()
