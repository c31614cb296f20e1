# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups, repositories and answers of processes, for tests that are not about how those come about."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Optional, Union

from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command, Finished
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint as database_fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database import planned
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import Fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import plan as frontend_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base as repository_base
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, manifest, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=timezone.utc)
# A fingerprint as it is written, field by field.
DATABASE_FACTS: dict[str, Any] = {
    "acl": None,
    "row": {"datcollate": "en_US.utf8", "datctype": "C", "datlocprovider": "c", "datlocale": None, "datconnlimit": -1},
    "size": 1000,
    "owner": "app",
    "comment": None,
    "preload": "",
    "encoding": "UTF8",
    "settings": [],
    "superuser": "postgres",
    "extensions": {"plpgsql": "1.0"},
    "is_superuser": True,
    "acl_is_default": True,
    "data_checksums": "on",
    "server_version": "17.12",
    "system_identifier": "7711",
    "server_version_num": 170012,
}
FACTS: dict[str, Any] = {
    "scheme": 2,
    "level": "content",
    "facts": DATABASE_FACTS,
    "roles": {"postgres": "1"},
    "schema": {"table public.t": "aa"},
    "sequences": {"before": {}, "after": {}},
    "tables": {"public.t": {"hash": "1", "rows": 500, "method": "record"}},
    "large_objects": {"count": 0, "bytes": 0, "hash": "0"},
}
DETAILS: dict[str, Any] = {
    "database": "shop",
    "format": "custom",
    "server_version_num": 170012,
    "database_size": 1000,
    "role_passwords": True,
    "superuser": "postgres",
    "preload": "",
    "image": "postgres:17",
    "seconds": 1.5,
    "fingerprint": {"level": "content", "tables": 2, "rows": 500, "large_objects": 0, "objects": 3},
}


PLAN = planned.Plan(
    needed=True, condition="damaged", findings=(), unchecked=(), warnings=(), why="the database is damaged",
    asked=False, state="", mode="swap", backup={"id": "db_backup_20261124_120000", "place": "repository"},
    location="/backup", recovery_point="", passed_over=(), accepted=(), writers=("backend", "worker"), stamp="S",
    steps=(), target="shop", target_seconds=14400,
    databases=(planned.Database("shop", "restored", "it is damaged", 1000, 2, 500),),
)  # fmt: skip
FRONTEND_PLAN = frontend_plan.Plan(
    needed=True, condition="down", cause="transient", why="it is gone", findings=("status 404",), unchecked=(),
    warnings=(), steps=("rerun",), method="auto", target="https://www.shop.test/", expected="a" * 40, head="a" * 40,
    good=("a" * 40,), run=None, github="", stamp="S", target_seconds=14400,
)  # fmt: skip


def fingerprint(**changes: Any) -> Fingerprint:
    return database_fingerprint.read(json.dumps({**FACTS, **changes}).encode(), "db_backup_20261124_120000")


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    (root / "backup").mkdir(exist_ok=True)
    found: dict[str, Any] = {
        "stack": "shop",
        "runtime": {"project_directory": str(root)},
        "database": {"name": "shop"},
        "repository": {"type": "local", "path": str(root / "backup")},
        "state_directory": str(root / "state"),
        "config": {"enabled": False},  # most tests are of rows and objects
    }
    return {**found, **changes}


def make_config(root: Path, **changes: Any) -> config.Config:
    return config.from_mapping(settings(root, **changes))


def make_manifest(taken_at: datetime = NOW, facts: Any = FACTS, **changes: Any) -> Manifest:
    details = {**DETAILS, **changes.pop("details", {})}
    files = {"database.dump": b"dump", "globals.sql.gz": b"roles", "fingerprint.json": json.dumps(facts).encode()}
    files |= {f"{other['folder']}/database.dump": b"dump" for other in details.get("others") or ()}
    body: dict[str, Any] = {
        "id": manifest.backup_id("database", taken_at),
        "component": "database",
        "stack": "shop",
        "taken_at": taken_at,
        "finished_at": taken_at + timedelta(seconds=2),
        "artefacts": tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()),
        "tool": {"lifeboat": "0.1.0"},
        "details": details,
    }
    return Manifest(**{**body, **changes})


def publish(root: Path, taken_at: datetime = NOW, facts: Any = FACTS, **changes: Any) -> Manifest:
    """A whole backup in the local repository below `root`."""
    backup = make_manifest(taken_at, facts, **changes)
    (root / "backup").mkdir(exist_ok=True)
    repo = store(root)
    with repo.stage("database", backup.id) as staging:
        for artefact in backup.artefacts:
            (staging.path / artefact.name).parent.mkdir(parents=True, exist_ok=True)
            (staging.path / artefact.name).write_bytes(b"dump")
        (staging.path / "globals.sql.gz").write_bytes(b"roles")
        (staging.path / "fingerprint.json").write_text(json.dumps(facts))
        staging.publish(backup.to_bytes())
    return backup


OBJECTS: dict[str, Any] = {
    "bucket": "uploads",
    "endpoint": "http://127.0.0.1:9000",
    "versioned": True,
    "consistency": "snapshot",
    "database_backup": "",
    "objects": 3,
    "bytes": 30,
    "digest": "d",
    "copied": 1,
    "removed": 0,
    "unheld": [],
    "ambiguous": 0,
    "seconds": 0.5,
}
BUCKET: dict[str, Any] = {
    "objects": {"bucket": "uploads", "endpoint_url": "http://127.0.0.1:9000"},
    "vault": {"objects_bucket": "mirror", "endpoint_url": "http://127.0.0.1:9001"},
}


def publish_objects(root: Path, taken_at: datetime = NOW, *, of: Optional[Manifest] = None, **details: Any) -> Manifest:
    """An objects backup in the local repository; `of`: the database backup of whose instant it is."""
    data = b"listing"
    folders = ["", *(f"{other['folder']}/" for other in details.get("others", ()))]
    names = [f"{folder}listing.jsonl.gz" for folder in folders]
    backup = make_manifest(
        taken_at,
        id=manifest.backup_id("objects", taken_at),
        component="objects",
        artefacts=tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name in names),
    )
    more = {"database_backup": of.id} if of else {"consistency": "eventual"}
    backup = dataclasses.replace(backup, details={**OBJECTS, **more, **details})
    (root / "backup").mkdir(exist_ok=True)
    with store(root).stage("objects", backup.id) as staging:
        for name in names:
            (staging.path / name).parent.mkdir(parents=True, exist_ok=True)
            (staging.path / name).write_bytes(data)
        staging.publish(backup.to_bytes())
    return backup


CONFIG: dict[str, Any] = {
    "host": "app1",
    "files": 3,
    "bytes": 30,
    "secrets": 2,
    "recipients": ["age1px20ruqptq3ct67gnhrw5hhnmsnnsux0w6jmn5lezs2g7qppqcpsa6fxz0"],
    "left_out": [],
    "skipped": {},
    "torn": [],
    "compose_files": ["/srv/shop/compose.yml"],
    "images": {},
    "site": {},
    "parts": {},
    "notes": [],
    "seconds": 0.3,
}


def publish_config(
    root: Path, taken_at: datetime = NOW, *, files: Sequence[dict[str, Any]] = (), **details: Any
) -> Manifest:
    """A config backup in the local repository; its archive is not looked into. files: of its listing."""
    listed = [{"mode": "0644", "uid": 0, "gid": 0, "mtime": 0, "type": "file", **file} for file in files]
    body = {"schema": "lifeboat.dr/files", "version": [1, 0], "files": listed}
    artefacts = {"config.tar.gz": b"archive", "files.json": json.dumps(body).encode()}
    backup = make_manifest(
        taken_at,
        id=manifest.backup_id("config", taken_at),
        component="config",
        artefacts=tuple(
            Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in artefacts.items()
        ),
    )
    backup = dataclasses.replace(backup, details={**CONFIG, **details})
    (root / "backup").mkdir(exist_ok=True)
    with store(root).stage("config", backup.id) as staging:
        for name, data in artefacts.items():
            (staging.path / name).write_bytes(data)
        staging.publish(backup.to_bytes())
    return backup


def publish_base(root: Path, taken_at: datetime = NOW, **details: Any) -> Manifest:
    """A base in the local repository; its archive is not looked into."""
    data = b"base"
    said = {"system_identifier": "7412000000000000001", "server_version_num": 170_012, "timeline": 1}
    backup = make_manifest(
        taken_at,
        id=manifest.backup_id("base", taken_at),
        component="base",
        artefacts=(Artefact("base.tar.zst", len(data), hashlib.sha256(data).hexdigest()),),
    )
    backup = dataclasses.replace(backup, details={**said, "start": "0/2000028", "stop": "0/2000100", **details})
    (root / "backup").mkdir(exist_ok=True)
    with store(root).stage("base", backup.id) as staging:
        (staging.path / "base.tar.zst").write_bytes(data)
        staging.publish(backup.to_bytes())
    return backup


def prove(root: Path, backup: Manifest, verdict: str = checks.PASS, level: str = "restore", at: datetime = NOW) -> None:
    """Leave the record of a verification."""
    result = Result(backup.id, level, (checks.Check("tables", verdict, "x"),), at, at)
    operations_verify.keep(Opened(make_config(root)), store(root), backup, result)


def store(root: Path) -> repository_base.Repository:
    return repositories.from_settings(LocalSettings(path=str(root / "backup")), {})


def entries(root: Path, stack: str = "shop") -> list[catalog.Entry]:
    return catalog.entries(store(root), "database", stack)


def folder(root: Path, backup: Manifest) -> Path:
    return root / "backup" / "postgresql" / backup.id


Answer = Union[str, tuple[int, str, str]]
Run = Callable[..., dict[str, Any]]  # the fixture `run`: a module's name and arguments, its result


def flip(path: Path, at: Optional[int] = None) -> None:
    """Change one bit of a file, in the middle if not told where. (A byte that is replaced may have been the same.)"""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.chmod(path.stat().st_mode | 0o200)
    path.write_bytes(data)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for another process or thread: as long as a busy machine may need, not for a fixed time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Runner:
    """Answers commands by the first pattern that their words match; a command nobody expected fails the test."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Answer]] = []
        self.ran: list[str] = []

    def expect(self, pattern: str, answer: Answer = "") -> None:
        self.answers.append((pattern, answer))

    def answer(self, command: Command) -> tuple[int, str, str]:
        words = " ".join(command.argv)
        self.ran.append(words)
        for pattern, answer in self.answers:
            if re.search(pattern, words):
                return (0, answer, "") if isinstance(answer, str) else answer
        raise AssertionError(f"nobody expected: {words}")

    def output(self, command: Command, *, attempted: str, subject: str, remedy: str = "", **_: Any) -> str:
        status, out, err = self.answer(command)
        if status:
            raise LifeboatError(attempted, subject, pipeline.describe(Finished(command, status, err)), remedy)
        return out

    def probe(self, command: Command, **_: Any) -> tuple[int, str, str]:
        return self.answer(command)

    def run(self, commands: Sequence[Command], **words: Any) -> list[Finished]:
        for command in commands:
            self.output(
                command, **{key: words[key] for key in ("attempted", "subject")}, remedy=words.get("remedy", "")
            )
        return [Finished(command, 0, "") for command in commands]
