# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `lifeboat backup` does, in which order, and what a failure in the middle leaves."""

from __future__ import annotations

import contextlib
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    LockedError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import backup as configuration_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take as mirror_take
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import REMEDY, StateInventory, StateMount
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import BUCKET, NOW, folder, make_config, make_manifest, publish, publish_config, publish_objects, store


class World:
    """What was called, in order, and what breaks."""

    def __init__(self, root: Path) -> None:
        self.root, self.called, self.broken = root, list[str](), ""
        self.failed: tuple[str, ...] = ()

    def step(self, name: str) -> None:
        self.called.append(name)
        if self.broken == name:
            raise LifeboatError(name, "shop", "it broke")

    def images(self) -> dict[str, str]:
        return {}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    one = World(tmp_path)

    def dumped(config: Any, log: Any, **_: Any) -> Any:
        one.step("database")
        return publish(tmp_path)

    def mirrored(config: Any, log: Any, override: bool, doubts: Doubts) -> Any:
        one.step(f"objects{' override' if override else ''}")
        found = store(tmp_path).published("database")
        newest = publish(tmp_path, NOW - timedelta(days=1)) if not found else None
        return publish_objects(tmp_path, NOW + timedelta(hours=1), database_backup=newest.id if newest else found[-1],
                               consistency="snapshot")  # fmt: skip

    def kept(config: Any, log: Any) -> Any:
        one.step("config")
        return publish_config(tmp_path, NOW + timedelta(hours=1))

    def caught_up(config: Any, log: Any) -> copies.Outcome:
        one.step("copies")
        ids = [identity for component in KINDS for identity in store(tmp_path).published(component)]
        return copies.Outcome("vault", tuple(ids), {identity: ["vault"] for identity in ids}, one.failed)

    def sent(config: Any, log: Any) -> tuple[str, ...]:
        one.step("points")
        return ()

    def pruned(config: Any, **_: Any) -> dict[str, Any]:
        one.step("prune")
        return {
            "keep": {},
            "delete": ["old"],
            "unknown": {},
            "swept": [],
            "locked": [],
            "versions": {"deleted": 0, "bytes": 0, "waits": ""},
            "failed": list(one.failed),
        }

    monkeypatch.setattr(dump, "take", dumped)
    monkeypatch.setattr(mirror_take, "take", mirrored)
    monkeypatch.setattr(endpoints, "doubts", lambda *_, **__: Doubts())
    monkeypatch.setattr(configuration_backup, "take", kept)
    monkeypatch.setattr(copies, "catch_up", caught_up)
    monkeypatch.setattr(copies, "send_points", sent)
    monkeypatch.setattr(operations_prune, "prune", pruned)
    monkeypatch.setattr(runtime, "connect", lambda config: one)
    return one


def take(world: World, component: str = "", bucket: bool = True, **asked: Any) -> operations_backup.Taken:
    changes = {**(BUCKET if bucket else {}), "config": {"enabled": asked.pop("config", True)}}
    return operations_backup.take(Opened(make_config(world.root, **changes)), component, log=lambda _: None, **asked)


ORDERS: list[tuple[str, str, bool, dict[str, Any], list[str], bool]] = [
    ("a recovery point", "", True, {}, ["database", "objects", "config", "copies", "points"], True),
    ("of a stack without a bucket", "", False, {}, ["database", "config", "copies", "points"], True),
    ("where no config is wanted", "", True, {"config": False}, ["database", "objects", "copies", "points"], True),
    ("cron at 02:00", "database", True, {"prune_after": True}, ["database", "copies", "prune"], False),
    (
        "cron at 03:00",
        "objects",
        True,
        {"seal": True, "prune_after": True, "override": True},
        ["objects override", "copies", "points", "prune"],
        True,
    ),
    ("one component", "objects", True, {}, ["objects", "copies"], False),
    ("the configuration", "config", True, {}, ["config", "copies"], False),
]


@pytest.mark.parametrize(
    ("component", "bucket", "asked", "order", "sealed"), [case[1:] for case in ORDERS], ids=[case[0] for case in ORDERS]
)
def test_the_order(
    world: World, component: str, bucket: bool, asked: dict[str, Any], order: list[str], sealed: bool
) -> None:
    done = take(world, component, bucket, **asked)
    assert world.called == order
    assert (done.point is not None, done.new, len(store(world.root).points())) == (sealed, sealed, int(sealed))
    if done.point:
        assert (done.point.consistency, done.point.copies) == ("snapshot", ("vault",))
        assert done.as_dict()["recovery_point"] == done.point.id
        assert f"{done.point.id}  recovery point of {', '.join(done.point.parts)}" in "\n".join(done.lines())


@pytest.mark.parametrize("config", [True, False])
def test_what_nobody_protected_is_said_by_the_backup_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, config: bool
) -> None:
    """By the backup of the configuration, or where the stack has none by every one."""
    mount = StateMount("media", "volume", ("web:/srv/media",), "unprotected", "no component protects it")
    inventory = StateInventory((mount,))
    state = typed.plain(inventory)
    kept = lambda config, log: publish_config(world.root, NOW + timedelta(hours=1), state=state)  # noqa: E731
    monkeypatch.setattr(configuration_backup, "take", kept)
    monkeypatch.setattr(mounts, "inventory", lambda run: None if config else inventory)
    lines: list[str] = []
    asked = {"config": {"enabled": config}}
    done = operations_backup.take(Opened(make_config(world.root, **BUCKET, **asked)), log=lines.append)
    words = f"WARNING: the volume media (web:/srv/media) is in no backup: no component protects it; {REMEDY}"
    assert words in lines
    assert words in done.lines()
    assert done.as_dict()["unprotected"] == [words.removeprefix("WARNING: ")]
    excluded = {"mounts": {"exclude": [{"name": "media", "reason": "previews"}]}}
    later = Opened(make_config(world.root, **BUCKET, **asked, **excluded))
    assert operations_backup._unprotected(later, done.manifests, lines.append) == ()


@pytest.mark.parametrize(
    ("broken", "called"),
    [
        ("database", ["database"]),
        ("objects", ["database", "objects", "copies"]),
        ("config", ["database", "objects", "config", "copies"]),
    ],
)
def test_what_was_taken_before_a_failure_stays_and_is_copied(world: World, broken: str, called: list[str]) -> None:
    world.broken = broken
    with pytest.raises(LifeboatError, match="it broke"):
        take(world, prune_after=True)
    assert world.called == called
    assert store(world.root).points() == []


def test_half_a_point_is_not_sealed_and_the_backup_stays(world: World) -> None:
    with pytest.raises(NotFoundError, match="no good backup of objects"):
        take(world, "database", seal=True)
    assert len(store(world.root).published("database")) == 1


def test_a_vault_that_fails_raises_nothing_and_is_not_asked_twice(world: World) -> None:
    world.failed = ("connection refused",)
    done = take(world, prune_after=True)
    assert world.called == ["database", "objects", "config", "copies", "prune"]
    assert done.failed == ("connection refused",)
    assert done.as_dict()["copies"]["failed"] == ["connection refused"]
    assert done.point


def test_retention_can_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any, **__: Any) -> Any:
        raise LockedError("take the lock", "x", "a verification holds it")

    monkeypatch.setattr(operations_prune, "prune", locked)
    done = take(world, "database", prune_after=True)
    assert (done.pruned, done.not_pruned) == (None, "a verification holds it")
    assert "not pruned: a verification holds it" in done.lines()


def test_a_clock_that_may_be_wrong_does_not_hide_the_backup(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise UsageError("prune by this host's clock", "x", "it was pruned in 2099", "set it")

    monkeypatch.setattr(operations_prune, "prune", refused)
    done = take(world, prune_after=True)
    assert done.pruned is None
    assert done.point
    monkeypatch.setattr(operations_backup, "take", lambda *_, **__: done)
    monkeypatch.setattr(cli.config, "load", lambda *_: make_config(world.root))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", world.root / "log")
    monkeypatch.setattr(cli.lock, "held", lambda *_, **__: contextlib.nullcontext())
    assert cli.main(["backup", "--prune", "--json"]) == UsageError.exit_code
    shown = capsys.readouterr()
    assert json.loads(shown.out)["id"] == done.point.id
    assert "it was pruned in 2099" in shown.err


def test_a_database_that_shrank_is_said_by_its_backup(world: World) -> None:
    """An application that has just made its tables anew backs up without an error."""
    assert not take(world, "database").shrunk
    full = publish(world.root, NOW - timedelta(days=1), details={"fingerprint": {"tables": 2, "rows": 21622}})
    shutil.rmtree(folder(world.root, make_manifest()))
    done = take(world, "database")
    words = f"{done.manifests[0].id} holds 500 rows, {full.id} 21622"
    assert done.shrunk == words
    assert f"WARNING: {words}; if that is right: lifeboat backup database --override" in done.lines()


def test_why_a_point_is_eventual_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    details = {"consistency": "eventual", "why": "the source bucket keeps no versions", "versioned": False}
    monkeypatch.setattr(mirror_take, "take", lambda *_, **__: publish_objects(world.root, NOW, **details))
    lines = take(world).lines()
    assert any("eventual (the source bucket keeps no versions)" in line for line in lines)
    (line,) = [line for line in lines if line.startswith("  objects: of another instant than the rows, 0 s apart")]
    assert "mc version enable ALIAS/uploads" in line
