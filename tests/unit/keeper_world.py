# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack's repository and a keeper that pulls it, at times that the test chooses."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import stamp
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import alarms, following, prune, receipts, receive
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper.alarms import Alarm
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper.receipts import Receipts
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper.receive import Pulled
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Part, Point
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as settings_config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.source import Source
from builders import publish, settings

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)  # a Thursday
PULLED = timedelta(hours=2)  # after the backup


def keeper_settings(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        "directory": str(root / "kept"),
        "source": {"mounted": str(root / "backup")},
        "quota": "1G",
        **changes,
    }


class World:
    """`root/backup` is what the stack's host publishes, `root/kept` all that the keeper has."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.root, self.now = root, START
        monkeypatch.setattr(clock, "now", lambda: self.now)
        (root / "kept").mkdir()
        given = settings(root, keeper=keeper_settings(root, **changes))
        self.config: Config = settings_config.from_mapping(given)
        self.said: list[str] = []

    @property
    def host(self) -> Path:
        return self.root / "backup"

    @property
    def kept(self) -> Path:
        return self.root / "kept"

    @property
    def repo(self) -> Repository:
        return repositories.repository_of(Opened(self.config))

    def publish(self, taken_at: datetime, **changes: Any) -> Manifest:
        """On the host: a backup and the point of it."""
        made = publish(self.root, taken_at, **changes)
        self.seal(made)
        return made

    def seal(self, made: Manifest) -> str:
        point = Point(
            id=stamp(made.taken_at), stack=made.stack, sealed_at=made.finished_at, taken_at=made.taken_at,
            consistency="snapshot", components={"database": Part(made.id, made.seal), "objects": None, "config": None},
            images={}, copies=(), notes=(),
        )  # fmt: skip
        (self.host / "recovery-points").mkdir(exist_ok=True)
        (self.host / "recovery-points" / f"{point.id}.json").write_bytes(point.to_bytes())
        return point.id

    def folder(self, made: Manifest) -> Path:
        return self.host / "postgresql" / made.id

    def pull(self, wrap: Callable[[Source], Source] = lambda source: source) -> Pulled:
        with receive.reach(self.config.keeper) as source:
            return receive.pull(Opened(self.config), wrap(source), log=self.said.append)

    def night(self, number: int, **changes: Any) -> tuple[Manifest, Pulled]:
        """The host publishes, and some time later the keeper pulls."""
        made = self.publish(START + number * DAY, **changes)
        self.now = START + number * DAY + PULLED
        return made, self.pull()

    def prune(self, dry_run: bool = False) -> prune.Pruned:
        return prune.prune(Opened(self.config), now=self.now, dry_run=dry_run, log=self.said.append)

    @property
    def log(self) -> Receipts:
        return receipts.load(self.kept)

    def alarms(self) -> list[Alarm]:
        wal = following.followed(self.config)
        backups = {**points.backups(self.repo, "shop"), **points.bases(self.repo, self.config)}
        return alarms.alarms(self.config, self.log, backups, self.now, followed=wal)

    def kinds(self) -> list[str]:
        return [alarm.kind for alarm in self.alarms()]

    def with_limits(self, **changes: Any) -> None:
        limits = dataclasses.replace(self.config.keeper.limits, **changes)
        self.with_keeper(limits=limits)

    def with_keeper(self, **changes: Any) -> None:
        self.config = dataclasses.replace(self.config, keeper=dataclasses.replace(self.config.keeper, **changes))

    def bytes(self) -> Mapping[str, bytes]:
        """All artefacts and documents that the keeper has, without its own records."""
        repo = self.kept / "repository"
        return {
            path.relative_to(repo).as_posix(): path.read_bytes()
            for path in sorted(repo.rglob("*"))
            if path.is_file() and path.name not in ("verification.json", "repository.json")
        }

    def forget_host(self) -> None:
        shutil.rmtree(self.host)
        self.host.mkdir()
