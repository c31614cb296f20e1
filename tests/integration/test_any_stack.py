# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody else's stack without PostgreSQL on a real engine: init, deploy's checks, backup, proof, total loss, and the
steps of a site's recovery from another machine's copy. Compared by find, stat, sha256sum and SQLite's own dump."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fake_age
import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.phases import Plan, ReportedPhase
from ansible_collections.lifeboat.dr.plugins.module_utils.files import plan, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.files.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import discover, preflight, status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import VAULT, open_place
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.site import keeper_readback, point_fetch, scope
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.plugin_utils import inventory
from postgres_stack import docker, say
from test_files import APPLICATION, FILL, LOOK

NAME = f"it-any-{os.getpid()}"
VOLUME = f"{NAME}_media"
# An application that keeps rows in SQLite and files beside them, as most without a database server do.
SERVES = """
import os, sqlite3, time
os.makedirs("/srv/media", exist_ok=True)
rows = sqlite3.connect("/srv/media/rows.db", isolation_level=None)
rows.execute("PRAGMA journal_mode = WAL")
rows.execute("CREATE TABLE IF NOT EXISTS file (name TEXT, sha256 TEXT)")
while True:
    time.sleep(1)
"""


class Stack:
    def __init__(self, root: Path) -> None:
        self.root, self.directory = root, root / "srv" / "wiki"
        self.uploads = self.directory / "uploads"

    def compose(self, *argv: str) -> str:
        return docker("compose", "--project-directory", str(self.directory), *argv)

    def start(self) -> None:
        self.uploads.mkdir(parents=True)
        definition = {
            "name": NAME,
            "services": {
                "wiki": {
                    "image": APPLICATION, "entrypoint": ["python3", "-c", SERVES], "user": "0:0", "init": True,
                    "stop_grace_period": "2s", "volumes": ["media:/srv/media", "./uploads:/uploads"],
                },
            },
            "volumes": {"media": {}},
        }  # fmt: skip
        (self.directory / "compose.yaml").write_text(json.dumps(definition))
        self.compose("up", "--detach", "--wait")
        self.compose("exec", "-T", "wiki", "python3", "-c", FILL)

    def portrait(self) -> list[str]:
        """The files of both, by the tools of a container, with nothing of ours."""
        mounts = ("--volume", f"{VOLUME}:/look/media", "--volume", f"{self.uploads}:/look/uploads")
        words = ("run", "--rm", "--user", "0", "--network", "none", *mounts, "--entrypoint", "sh", APPLICATION)
        return docker(*words, "-c", LOOK).split("\n")

    def destroy(self) -> None:
        """Nothing of the stack is left: its containers, its volume, its directory with the Compose file."""
        self.compose("down", "--volumes", "--timeout", "1")
        shutil.rmtree(self.directory)
        assert VOLUME not in docker("volume", "ls", "--quiet").split()

    def inventory(self) -> dict[str, Any]:
        """What init writes, read as Ansible reads it."""
        drafted = discover.survey(NAME)
        text = inventory.text(inventory.draft_of(json.loads(json.dumps(typed.plain(drafted)))))
        print(text)
        loaded = yaml.safe_load(text)
        assert loaded.pop("lifeboat_stack") == NAME
        return dict(loaded)

    def settings(self, host: str, written: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The configuration that the role agent makes of the inventory, on one of two hosts."""
        place = self.root / host
        (place / "backup").mkdir(parents=True, exist_ok=True)
        return {
            "stack": NAME,
            **{key.removeprefix("lifeboat_"): value for key, value in written.items()},
            "repository": {"type": "local", "path": str(place / "backup")},
            "state_directory": str(place / "state"),
            "config": {"secrets": "elsewhere"},
            **more,
        }


@pytest.fixture
def stack(engine: None, tmp_path: Path) -> Iterator[Stack]:
    del engine
    fake_age.install()
    one = Stack(tmp_path)
    with contextlib.ExitStack() as ended:
        ended.callback(docker, "volume", "rm", "--force", VOLUME)
        ended.callback(lambda: docker("rm", "--force", *containers(), check=False))
        one.start()
        yield one
    docker("network", "rm", f"{NAME}_default", check=False)
    for lock in Path("/run/lifeboat").glob(f"lifeboat-{NAME}*"):
        lock.unlink()


def containers() -> list[str]:
    label = f"label=com.docker.compose.project={NAME}"
    return docker("ps", "--all", "--quiet", "--filter", label).split() or ["none"]


def opened(settings: dict[str, Any]) -> Opened:
    return Opened(config.from_mapping(settings))


def unproved(found: Any) -> list[tuple[str, str, str]]:
    """What did not pass; the lab's own image is in no registry, which has nothing to do with what is tested."""
    bad = [(check.name, check.result, check.detail) for check in found if check.result != PASS]
    return [item for item in bad if item[0] != "config images"]


def protected(stack: Stack, settings: dict[str, Any]) -> operations_backup.Taken:
    """deploy, backup, verify and status: all of it is green, and none of it speaks of a database."""
    run = opened(settings)
    assert preflight.unreachable(run, stack=True) == []
    notes = preflight.notes(run)
    assert [note for note in notes if "IN NO BACKUP" in note] == []
    assert len([note for note in notes if note.startswith("mount protected by files: ")]) == 2, notes
    taken = operations_backup.take(run, log=say)
    assert [manifest.component for manifest in taken.manifests] == ["files", "config"]
    assert taken.point is not None and taken.point.ids["database"] is None
    assert unproved(operations_verify.verify(run, taken.point.id, "restore", log=say).checks) == []
    seen = status.status(opened(settings), now=datetime.now(timezone.utc))
    assert unproved(seen.checks) == []
    assert [check for check in seen.checks if "database" in check.name] == []
    assert stack.compose("ps", "--services", "--status", "running").split() == ["wiki"]
    return taken


def test_init_protects_a_stack_without_postgresql_and_a_total_loss_comes_back(stack: Stack) -> None:
    written = stack.inventory()
    assert written["lifeboat_database"] is False
    assert written["lifeboat_files"]["sources"] == [
        {"name": "uploads", "path": str(stack.uploads)}, {"name": "media", "volume": "media"},
    ]  # fmt: skip
    on_host = stack.settings("app1", written)
    before = stack.portrait()
    assert len([line for line in before if line.startswith("f ")]) > 120
    assert [line for line in before if line.startswith("INSERT INTO")], "SQLite's rows are compared, too"
    taken = protected(stack, on_host)

    # Another machine keeps a copy of the repository; the host and all that is on it are gone.
    kept = stack.root / "keeper1"
    shutil.copytree(stack.root / "app1" / "backup", kept)
    stack.destroy()
    shutil.rmtree(stack.root / "app1")

    # The tasks of the role site_recovery, in their order, on a machine that has nothing but the inventory.
    on_spare = stack.settings("spare1", written, readback={"source": {"mounted": str(kept)}})
    run = keeper_readback.opened(opened(on_spare))
    seen = scope.assess_host(run, deep=True, log=say)
    assert (seen.running, seen.stopped) == ((), ())
    made = site_plan.make(run, site_plan.Request(), seen, {"app1": "connection timed out"}, log=say)
    shown = site_show.text(made, seen)
    print("\n".join(shown))
    assert (made.ready, made.lacking, sorted(made.parts)) == (True, "", ["config", "files"])
    assert unproved(made.checks) == []
    assert not [line for line in shown if "a fresh" in line or "rows" in line or "roles" in line]
    site_files.place_files(
        run.config, open_place(run, VAULT), made.parts["config"], key="", which="files", stamp="20261201_150000",
        check=False, log=say,
    )  # fmt: skip
    point_fetch.fetch(run, str(made.backup.id if made.backup else ""), log=say)
    run = opened(on_spare)
    planned = plan.make(run, Request(made.parts["files"], exact=True), log=say)
    began = datetime.now(timezone.utc)
    done = recovery.recover(run, planned, reopens=False, log=say)
    reopened = reopen.reopen(run, ["wiki"], log=say)
    assert unproved([*done.checks, *reopened]) == []
    assert stack.portrait() == before, "every file, owner, mode, time, link and row"

    phase = ReportedPhase(began, datetime.now(timezone.utc), None, "", name="files")
    told = evidence_record.Recovery(
        "site", Plan(made.condition, made.findings, made.unchecked, (), made.target_seconds), (phase,),
        (*made.checks, *done.checks, *reopened),
    )  # fmt: skip
    found = evidence_record.build(run.config, told, now=datetime.now(timezone.utc))
    assert found.verdict == PASS, unproved(found.checks)
    assert not plan.make(opened(on_spare), Request(), log=say).needed, "a second run has nothing to do"
    again = operations_backup.take(opened(on_spare), log=say)
    assert again.point is not None and again.point.ids["files"] != taken.manifests[0].id


def test_the_files_alone_come_back_and_a_database_is_refused(stack: Stack) -> None:
    settings = stack.settings("app1", stack.inventory())
    before = stack.portrait()
    protected(stack, settings)
    with pytest.raises(UsageError, match="the stack has no database: lifeboat_database is false"):
        database_plan.make(opened(settings), log=say)
    stack.compose("rm", "--stop", "--force", "wiki")
    docker("volume", "rm", VOLUME)
    (stack.uploads / "2026" / "7.bin").unlink()
    planned = plan.make(opened(settings), Request(), log=say)
    assert planned.needed
    assert unproved(recovery.recover(opened(settings), planned, log=say).checks) == []
    assert stack.portrait() == before


def test_what_nobody_protected_is_no_green(stack: Stack) -> None:
    """A line of the draft that somebody deleted: the mount is named, and the verdict is none."""
    written = stack.inventory()
    written["lifeboat_files"] = {"sources": [{"name": "media", "volume": "media"}]}
    settings = stack.settings("app1", written)
    taken = operations_backup.take(opened(settings), log=say)
    assert len(taken.unprotected) == 1 and str(stack.uploads) in taken.unprotected[0]
    found = status.status(opened(settings), now=datetime.now(timezone.utc))
    (check,) = (check for check in found.checks if check.name == "mounts")
    assert isinstance(check, Check) and check.result == COULD_NOT_VERIFY
    settings["mounts"] = {"exclude": [{"name": str(stack.uploads), "reason": "made again from media"}]}
    excluded = status.status(opened(settings), now=datetime.now(timezone.utc))
    (check,) = (check for check in excluded.checks if check.name == "mounts")
    assert (check.result, "excluded by name" in check.detail) == (PASS, True)
