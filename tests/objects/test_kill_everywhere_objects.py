# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery of a store, killed with -9 at its steps, and the same command again: it ends right, by boto3 alone.

KILLS=all: every step; else a seeded sample (SEED=7 takes another), larger with LONG=1. `pytest -s` prints the table.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kill_everywhere
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from kill_everywhere import Job, Recovery
from killed_recovery import Own
from test_buckets import OTHERS
from test_killed import Killed, case, lose

__all__ = ["case"]
LONG = bool(os.environ.get("LONG"))


class Objects(Recovery):
    """Everything of two buckets is gone, and some of a third."""

    name = "objects"
    most = 7 if LONG else 3

    def __init__(self, case: Killed) -> None:
        super().__init__(case.root)
        self.case = case
        case.take()
        self.right = case.every()
        source, vault = case.source, case.vault
        self.settings: dict[str, Any] = {
            "stack": "shop", "runtime": {"project_directory": str(case.root)},
            "state_directory": str(case.root / "state"),
            "repository": {"type": "local", "path": str(case.root / "backup")},
            "objects": {
                "bucket": case.bucket, "endpoint_url": source.url, "admin": {"api": "elsewhere"},
                "buckets": list(OTHERS), "change_limit": 90,
            },
            "vault": {"endpoint_url": vault.url, "objects_bucket": case.mirrored}, "application": {"timeout": 60},
        }  # fmt: skip
        self.secrets = {
            "objects_access_key": source.access_key, "objects_secret_key": source.secret_key,
            "vault_access_key": vault.access_key, "vault_secret_key": vault.secret_key,
        }  # fmt: skip

    def job(self) -> Job:
        prepare = "killed_recovery:elsewhere"
        return {**self.about("objects", self.settings), "secrets": self.secrets, "prepare": prepare}

    def lose(self) -> None:
        shutil.rmtree(self.root / "state", ignore_errors=True)
        lose(self.case)

    def compare(self) -> str:
        now = self.case.every()
        wrong = [f"bucket {name}" for name in sorted({*now, *self.right}) if now.get(name) != self.right.get(name)]
        marks = (recovery_state.RECOVERING_OBJECTS, recovery_state.STOPPED)
        return "; ".join([*wrong, *(f"{name} is left" for name in marks if (self.root / "state" / name).exists())])


class Rebuilt(Objects):
    """The same store is put aside, and a fresh one is filled."""

    name = "objects, rebuilt"
    most = 5 if LONG else 2

    def __init__(self, case: Killed) -> None:
        super().__init__(case)
        self.settings["objects"]["service"] = "objects"
        source = case.source
        source.kill()
        argv, environment = source.command()
        self.server = {
            "argv": argv, "environment": environment, "directory": str(source.directory), "data": str(source.data),
            "log": str(source.log), "pid": str(source.directory / "number"),
        }  # fmt: skip
        self.stack = Own(self.server)
        self.start()

    def start(self) -> None:
        self.stack.start(["objects"], timeout=60)
        deadline = time.monotonic() + 60
        while not self.case.source._answers():
            assert time.monotonic() < deadline, self.case.source.log.read_text()[-3000:]
            time.sleep(0.1)

    def job(self) -> Job:
        about = self.about("objects", self.settings, method="rebuild")
        return {**about, "secrets": self.secrets, "prepare": "killed_recovery:own", "server": self.server}

    def put_aside(self) -> list[Path]:
        data = self.case.source.data
        return [
            path for path in data.parent.iterdir() if path.name.startswith(f"{data.name}.") or "quarantine" in path.name
        ]

    def lose(self) -> None:
        self.start()
        for path in self.put_aside():
            shutil.rmtree(path)
        super().lose()

    def compare(self) -> str:
        aside = ["nothing was put aside"] * (not self.put_aside())
        if not self.stack.state("objects").running:
            return "; ".join([*aside, "the store does not run"])
        return "; ".join(filter(None, [*aside, super().compare()]))


@pytest.fixture
def recovery(case: Any) -> Objects:
    return Objects(case)


@pytest.fixture
def rebuilt(case: Any) -> Iterator[Rebuilt]:
    made = Rebuilt(case)
    try:
        yield made
    finally:
        made.stack.stop(["objects"], timeout=60)


def test_the_objects(recovery: Objects) -> None:
    kill_everywhere.expect_right(recovery.everywhere(every=kill_everywhere.wanted_all()))
    nothing_removed(recovery)


def test_a_store_that_is_rebuilt_from_nothing(rebuilt: Rebuilt) -> None:
    kill_everywhere.expect_right(rebuilt.everywhere(every=kill_everywhere.wanted_all()))
    nothing_removed(rebuilt)


def nothing_removed(recovery: Objects) -> None:
    details = recovery.case.take().detailed(ObjectsDetails)
    assert [(held.name, held.removed) for held in details.buckets if held.removed] == [], "the vault lost something"
