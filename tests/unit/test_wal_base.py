# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a base: what is streamed, what is published of it, and what leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base, preflight, receiver
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.receiver import Enabled, Way
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config
from test_wal_receive import PLAIN, SYSTEM

SAID = (
    "pg_basebackup: initiating base backup, waiting for checkpoint to complete\n"
    "pg_basebackup: write-ahead log start point: 0/2000028 on timeline 3\n"
    "pg_basebackup: write-ahead log end point: 0/2000100\n"
)
ABOUT: dict[str, Any] = {
    "size": 1000, "tablespaces": [], "superuser": "ops", "preload": "auto_explain, pg_stat_statements",
    "checksums": True, "collations": {"shop": "2.36"}, "settings": {"max_connections": 100},
}  # fmt: skip


class World:
    """A host whose pg_basebackup is a script."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wal = {"enabled": True, "spool_directory": f"{root}/spool/shop"}
        self.run = Opened(make_config(root, runtime={"type": "host"}, wal=wal))
        self.about, self.argv, self.slots = dict(ABOUT), list[str](), list[str]()
        self.script = 'printf files; printf %s "$SAID" >&2'
        self.repo = repositories.repository_of(self.run)
        monkeypatch.setenv("SAID", SAID)
        monkeypatch.setattr(database_server, "connect", lambda config, runtime: self)
        monkeypatch.setattr(preflight, "read", lambda server: PLAIN)
        monkeypatch.setattr(base, "_COMPRESS", ("cat",))
        way = Way("postgres", 5433, (os.getuid(), os.getgid()), host="/run/pg")
        monkeypatch.setattr(receiver, "way", lambda run, server, facts: way)
        monkeypatch.setattr(self.run.runtime, "command", self.command)
        receiver.remember(self.run.config, Enabled(SYSTEM, 1))

    def execute(self, sql: str, **_: Any) -> list[object]:
        return [self.about]

    def run_command(self, argv: Any, **_: Any) -> Command:
        return Command(["echo", "x86_64"])

    @contextlib.contextmanager
    def session(self, database: str) -> Iterator[World]:
        yield self
        self.slots.append("gone")

    def rows(self, sql: str, **_: Any) -> list[object]:
        self.slots.append(sql)
        return []

    def command(self, service: str, argv: Any, **_: Any) -> Command:
        self.argv = list(argv)
        return Command(["sh", "-c", self.script])

    def take(self) -> BaseDetails:
        return base.take(self.run, lambda text: None).detailed(BaseDetails)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_base_is_streamed_and_published(world: World) -> None:
    details = world.take()
    (identity,) = world.repo.published("base")
    assert world.repo.files("base", identity) == {"base.tar.zst": 5}
    assert world.repo.read_file("base", identity, "base.tar.zst") == b"files"
    assert (details.start, details.stop, details.timeline) == ("0/2000028", "0/2000100", 3)
    assert (details.system_identifier, details.wal, details.superuser) == (SYSTEM, "inside", "ops")
    assert details.preload == ("auto_explain", "pg_stat_statements")
    assert (details.architecture, details.data_checksums) == ("x86_64", True)
    (entry,) = catalog.entries(world.repo, "base", "shop")
    assert entry.good


def test_it_holds_the_wal_back_that_it_needs_and_no_longer(world: World) -> None:
    world.take()
    assert "pg_create_physical_replication_slot('lifeboat_base', true, true)" in world.slots[0], "a temporary one"
    assert world.slots[1:] == ["gone"]
    text = " ".join(world.argv)
    assert "--wal-method fetch --format tar --pgdata -" in text
    assert "--host /run/pg --port 5433 --username postgres --no-password" in text


def test_it_is_compressed_in_the_container_where_the_server_can(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else by zstd on this host: programs of PostgreSQL 14, or built without it, know no such option."""
    monkeypatch.setattr(base, "_COMPRESS", ("sed", "s/^/on this host: /"))
    world.take()
    assert "--compress" not in world.argv
    world.about["zstd"] = True
    world.take()
    assert " ".join(world.argv).endswith("--compress client-zstd:level=1,workers=2")
    first, second = world.repo.published("base")
    names = (world.repo.read_file("base", first, "base.tar.zst"), world.repo.read_file("base", second, "base.tar.zst"))
    assert names == (b"on this host: files", b"files")


def test_where_zstd_has_no_threads_it_does_with_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.about["zstd"], log = True, list[str]()
    refused = f"if [ ! -e {tmp_path}/once ]; then touch {tmp_path}/once; printf head; echo no threads >&2; exit 1; fi"
    world.script = f"{refused}; {world.script}"
    base.take(world.run, log.append)
    assert world.argv[-1] == "client-zstd:level=1"
    (identity,) = world.repo.published("base")
    assert world.repo.read_file("base", identity, "base.tar.zst") == b"files"
    assert "once more, by one thread: sh: no threads (exit 1)" in log
    (tmp_path / "once").unlink()
    monkeypatch.setattr(base, "_NOTHING", 3)
    with pytest.raises(LifeboatError, match="no threads"):
        base.take(world.run, log.append)
    assert world.argv[-1] == "client-zstd:level=1,workers=2", "what failed on its way is no matter of threads"


@pytest.mark.parametrize("script", ["printf half; exit 1", "printf files"], ids=["it fails", "it does not say where"])
def test_what_did_not_end_well_is_no_base(world: World, script: str) -> None:
    world.script = script
    with pytest.raises(LifeboatError):
        world.take()
    assert world.repo.ids("base") == []


def test_what_cannot_be_taken_is_refused_before_it_begins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.about["tablespaces"] = ["fast"]
    with pytest.raises(UsageError, match=r"the server has tablespaces \(fast\)"):
        world.take()
    world.about = {**ABOUT, "size": 1 << 59}
    with pytest.raises(SpaceError, match="are free there"):
        world.take()
    world.about = dict(ABOUT)
    receiver.remember(world.run.config, None)
    with pytest.raises(UsageError, match="no WAL is received"):
        world.take()
    assert world.argv == []


@pytest.mark.parametrize("said", ["", SAID.splitlines()[1], SAID.splitlines()[2], SAID.replace(" on timeline 3", "")])
def test_without_both_points_nothing_is_known(said: str) -> None:
    with pytest.raises(IntegrityError, match="did not say"):
        base.points(said, "base_backup_20261201_130000")
