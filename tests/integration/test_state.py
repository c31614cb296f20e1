# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real project mounts, as a real engine and Compose tell it: nothing that keeps state is left unsaid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import backup as configuration_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ConfigDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory
from postgres_stack import IMAGE, docker, say

NAME = f"it-state-{os.getpid()}"
FILL = (
    "for n in $(seq 50); do echo x > /srv/media/$n.jpg; done; printf 'SQLite format 3\\0' > /srv/media/app.db;"
    " mkdir /cache/appendonlydir; echo x > /uploads/a; echo x > /anonymous/a"
)


@pytest.fixture(scope="module")
def project(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database, an application with every kind of mount that is stopped, and a job behind a profile."""
    directory = tmp_path_factory.mktemp("state")
    sleeps = {"image": IMAGE, "entrypoint": ["sleep", "infinity"], "stop_grace_period": "0s"}
    binds = ["./uploads:/uploads", "./app.conf:/app.conf:ro", "/etc/localtime:/etc/localtime:ro"]
    health = {"test": ["CMD", "pg_isready", "-qh127.0.0.1"], "interval": "300ms", "retries": 200}
    definition = {
        "name": NAME,
        "services": {
            "db": {
                "image": IMAGE, "environment": {"POSTGRES_PASSWORD": "x"}, "healthcheck": health,
                "volumes": ["data:/var/lib/postgresql/data"],
            },
            "web": {**sleeps, "volumes": ["media:/srv/media", "cache:/cache", "/anonymous", *binds], "tmpfs": ["/tmp"]},
            "job": {**sleeps, "profiles": ["jobs"], "volumes": ["hidden:/work"]},
        },
        "volumes": {"data": {}, "media": {}, "cache": {}, "hidden": {}},
    }  # fmt: skip
    (directory / "compose.yaml").write_text(json.dumps(definition))
    (directory / "app.conf").write_text("x\n")
    (directory / "uploads").mkdir()

    def compose(*argv: str) -> str:
        return docker("compose", "--project-directory", str(directory), *argv)

    with contextlib.ExitStack() as ended:
        ended.callback(compose, "--profile", "*", "down", "--volumes", "--timeout", "1", "--remove-orphans")
        compose("up", "--detach", "--wait")
        compose("exec", "-T", "web", "sh", "-c", FILL)
        compose("stop", "--timeout", "1", "web")
        yield directory


def settings(project: Path, root: Path, **changes: Any) -> config.Config:
    (root / "backup").mkdir(exist_ok=True)
    runtime = {"type": "compose", "project_directory": str(project)}
    given = {
        "stack": NAME, "runtime": runtime, "database": {"name": "postgres"}, "state_directory": str(root / "state"),
        "repository": {"type": "local", "path": str(root / "backup")}, "config": {"secrets": "elsewhere"},
    }  # fmt: skip
    return config.from_mapping({**given, **changes})


def inventory(one: config.Config) -> StateInventory:
    found = mounts.inventory(Opened(one))
    assert found is not None
    print("\n".join(found.table))
    return found


def test_every_mount_of_a_stack_is_protected_excluded_or_said_to_be_in_no_backup(project: Path, tmp_path: Path) -> None:
    found = inventory(settings(project, tmp_path))
    states = {mount.name: (mount.protection, mount.by) for mount in found.mounts}
    assert states == {
        "data": ("protected", "database"),
        "media": ("unprotected", ""),
        "cache": ("unprotected", ""),
        "hidden": ("unprotected", ""),
        "web:/anonymous": ("unprotected", ""),
        "web:/var/lib/postgresql/data": ("no state", ""),
        str(project / "uploads"): ("unprotected", ""),
        str(project / "app.conf"): ("excluded", "config"),
        "/etc/localtime": ("no state", ""),
    }
    servers = {mount.name: mount.servers for mount in found.mounts if mount.servers}
    assert servers == {
        "data": ("PostgreSQL 17",), "media": ("SQLite in app.db",), "cache": ("Redis or Valkey",),
    }  # fmt: skip
    assert (found.problems, found.check.result) == ((), COULD_NOT_VERIFY)
    names = ("media", "cache", "hidden", "web:/anonymous", str(project / "uploads"))
    exclude = {"exclude": [{"name": name, "reason": "of a test"} for name in names]}
    assert inventory(settings(project, tmp_path, mounts=exclude)).check.result == PASS
    files = {"secrets": "elsewhere", "files": [str(project / "uploads")]}
    kept = {mount.name: mount.by for mount in inventory(settings(project, tmp_path, config=files)).mounts}
    assert kept[str(project / "uploads")] == "config"


def test_a_mount_that_comes_after_the_deployment_is_in_the_next_backup_and_in_the_plan_of_the_site(
    project: Path, tmp_path: Path
) -> None:
    names = ("media", "cache", "hidden", "web:/anonymous", str(project / "uploads"))
    exclude = {"exclude": [{"name": name, "reason": "of a test"} for name in names]}
    one = settings(project, tmp_path, mounts=exclude)
    manifest = configuration_backup.take(Opened(one), log=say, directory=tmp_path)
    state = manifest.detailed(ConfigDetails).state
    assert state is not None
    assert state.judged(one).check.result == PASS
    labels = {"project": NAME, "service": "late", "oneoff": "False"}
    words = [word for name, value in labels.items() for word in ("--label", f"com.docker.compose.{name}={value}")]
    docker("create", "--name", f"{NAME}-late", *words, "--volume", f"{NAME}-late:/uploads", IMAGE)
    try:
        found = status.status(Opened(one), now=manifest.finished_at)
        (check,) = (check for check in found.checks if check.name == "mounts")
        assert check.result == COULD_NOT_VERIFY
        assert f"the volume {NAME}-late (late:/uploads) is in no backup" in check.detail
        again = configuration_backup.take(Opened(one), log=say, directory=tmp_path)
        planned = site_plan.state_of(one, again, KINDS)
        assert planned is not None
        assert [mount.name for mount in planned.unprotected] == [f"{NAME}-late"]
    finally:
        docker("rm", "--force", f"{NAME}-late")
        docker("volume", "rm", "--force", f"{NAME}-late")
        shutil.rmtree(tmp_path / "backup")
