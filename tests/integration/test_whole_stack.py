# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody else's stack without PostgreSQL: a volume, a directory, SQLite, MariaDB, Valkey. init protects all of it; it
is destroyed with its host, and recovered on another from a copy of the repository. Compared by the kernel, SQLite,
mariadb-dump and valkey-cli."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fake_age
import pytest
import test_any_stack
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.database import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import plan as dumps_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import recovery as dumps_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.phases import Plan, ReportedPhase
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.schema import Record
from ansible_collections.lifeboat.dr.plugins.module_utils.files import plan, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.files.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import preflight, status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import VAULT, open_place
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.site import keeper_readback, point_fetch, scope
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show
from postgres_stack import docker, say
from test_any_stack import NAME, SERVES, containers, opened, unproved
from test_dumps import DUMP, HUSH, KEYS, MARIADB, PASSWORD, VALKEY
from test_dumps import FILL as ROWS
from test_files import APPLICATION, FILL

SERVICES = ["jobs", "pages", "wiki"]
VOLUMES = {name: f"{NAME}_{name}" for name in ("media", "cache", "pages", "jobs")}
# The comparison of Molecule's drill: nothing of ours.
TREE = (Path(__file__).parents[1] / "testinfra" / "tree.py").read_text(encoding="utf-8")
# What only some file systems have.
ATTRIBUTES = """
import os
for path in ("/srv/media/2026/8.bin", "/uploads/2026"):
    os.setxattr(path, "user.origin", b"\\x00\\xff upload")
os.makedirs("/var/cache/wiki", exist_ok=True)
open("/var/cache/wiki/thumbnail", "w").write("made again when it is missing")
"""


class Stack(test_any_stack.Stack):
    """The one of test_any_stack, with two servers and a cache besides."""

    def start(self) -> None:
        self.uploads.mkdir(parents=True)
        answers = ["CMD-SHELL", "mariadb-admin --host=127.0.0.1 --protocol=tcp ping"]
        definition = {
            "name": NAME,
            "services": {
                "wiki": {
                    "image": APPLICATION, "entrypoint": ["python3", "-c", SERVES], "user": "0:0", "init": True,
                    "stop_grace_period": "2s", "depends_on": ["pages", "jobs"],
                    "volumes": ["media:/srv/media", "./uploads:/uploads", "cache:/var/cache/wiki"],
                },
                "pages": {
                    "image": MARIADB, "environment": {"MARIADB_ROOT_PASSWORD_FILE": "/run/secrets/root"},
                    "command": ["--innodb-buffer-pool-size=32M"], "secrets": ["root"],
                    "volumes": ["pages:/var/lib/mysql"],
                    "healthcheck": {"test": answers, "interval": "500ms", "retries": 400},
                },
                "jobs": {
                    "image": VALKEY, "command": ["valkey-server", "--appendonly", "yes", "--requirepass", HUSH],
                    "volumes": ["jobs:/data"],
                },
            },
            "volumes": {name: {} for name in VOLUMES},
            "secrets": {"root": {"file": "./root.txt"}},
        }  # fmt: skip
        (self.directory / "compose.yaml").write_text(json.dumps(definition))
        self.bring_secret()
        self.compose("up", "--detach", "--wait")
        self.compose("exec", "-T", "wiki", "python3", "-c", FILL)
        self.compose("exec", "-T", "wiki", "python3", "-c", ATTRIBUTES)
        self.mariadb("mariadb", "-uroot", "-N", "-B", "--default-character-set=utf8mb4", stdin=ROWS)
        self.valkey(KEYS)

    def bring_secret(self) -> None:
        """The inventory says that the secrets are elsewhere: an operator brings them."""
        (self.directory / "root.txt").write_text(PASSWORD + "\n")
        (self.directory / "root.txt").chmod(0o644)  # read by the server's own user, whatever the umask here

    def mariadb(self, *argv: str, stdin: str = "") -> str:
        words = ("exec", "-T", "-e", f"MYSQL_PWD={PASSWORD}", "pages", *argv)
        return docker("compose", "--project-directory", str(self.directory), *words, stdin=stdin)

    def valkey(self, commands: str) -> str:
        words = ("exec", "-T", "-e", f"REDISCLI_AUTH={HUSH}", "jobs", "valkey-cli", "--no-raw")
        return docker("compose", "--project-directory", str(self.directory), *words, stdin=commands)

    def portrait(self) -> list[str]:
        """Every file, owner, mode, time, attribute, row and key, without the cache."""
        mounts = ("--volume", f"{VOLUMES['media']}:/look/media", "--volume", f"{self.uploads}:/look/uploads")
        words = ("run", "--rm", "--interactive", "--user", "0", "--network", "none", *mounts)
        files = docker(*words, "--entrypoint", "python3", APPLICATION, "-", "/look/media", "/look/uploads", stdin=TREE)
        accounts = "SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2"
        keys = self.valkey(
            "GET text\nLRANGE list 0 -1\nSORT set ALPHA\nHGET hash f\nHGET hash g\nZRANGE sorted 0 -1 WITHSCORES\n"
            "XRANGE stream - +\nEXISTS passing\nDBSIZE\nSELECT 3\nGET three\nDBSIZE\n"
        )
        told = [files, self.mariadb(*DUMP), self.mariadb("mariadb", "-uroot", "-N", "-B", stdin=accounts), keys]
        return "\n".join(told).split("\n")

    def destroy(self) -> None:
        super().destroy()
        assert not set(VOLUMES.values()) & {*docker("volume", "ls", "--quiet").split()}


@pytest.fixture
def stack(engine: None, tmp_path: Path) -> Iterator[Stack]:
    del engine
    fake_age.install()
    for image in (MARIADB, VALKEY):
        if not docker("image", "ls", "--quiet", image).strip():
            pytest.fail(f"these tests need the image {image}; `make engine` makes it", pytrace=False)
    one = Stack(tmp_path)
    with contextlib.ExitStack() as ended:
        for volume in VOLUMES.values():
            ended.callback(docker, "volume", "rm", "--force", volume, check=False)
        ended.callback(lambda: docker("rm", "--force", *containers(), check=False))
        one.start()
        yield one
    docker("network", "rm", f"{NAME}_default", check=False)
    for lock in Path("/run/lifeboat").glob(f"lifeboat-{NAME}*"):
        lock.unlink()


def mounts_of(settings: dict[str, Any]) -> tuple[str, str]:
    """What `status` says of the stack's mounts."""
    found = status.status(opened(settings), now=datetime.now(timezone.utc))
    (check,) = (check for check in found.checks if check.name == "mounts")
    return check.result, check.detail


def chosen(stack: Stack) -> dict[str, Any]:
    """What init writes, which protects all of it, without the line of the cache: to delete it is the choice."""
    written = stack.inventory()
    assert written["lifeboat_database"] is False
    assert {source["name"]: source.get("volume") for source in written["lifeboat_files"]["sources"]} == {
        "uploads": None, "media": "media", "cache": "cache",
    }  # fmt: skip
    assert sorted(written["lifeboat_dumps"]["sources"], key=lambda source: str(source["name"])) == [
        {"name": "jobs", "service": "jobs", "preset": "valkey"},
        {"name": "pages", "service": "pages", "preset": "mariadb"},
    ]
    assert mounts_of(stack.settings("app1", written))[0] == PASS, "init protects all of it"
    sources = written["lifeboat_files"]["sources"]
    written["lifeboat_files"]["sources"] = [source for source in sources if source["name"] != "cache"]
    result, detail = mounts_of(stack.settings("app1", written))
    assert (result, "cache" in detail) == (COULD_NOT_VERIFY, True), detail
    written["lifeboat_mounts"] = {"exclude": [{"name": "cache", "reason": "thumbnails, made again"}]}
    result, detail = mounts_of(stack.settings("app1", written))
    assert (result, "excluded by name" in detail, "cache" in detail) == (PASS, True, True), detail
    return written


def protected(settings: dict[str, Any]) -> None:
    """deploy's checks, a backup, its proof and status."""
    run = opened(settings)
    assert preflight.unreachable(run, stack=True) == []
    notes = preflight.notes(run)
    assert [note for note in notes if "IN NO BACKUP" in note] == []
    for component in ("files", "dumps"):
        assert len([note for note in notes if note.startswith(f"mount protected by {component}: ")]) == 2, notes
    taken = operations_backup.take(run, log=say)
    assert {manifest.component for manifest in taken.manifests} == {"files", "dumps", "config"}
    assert taken.point is not None
    assert unproved(operations_verify.verify(run, taken.point.id, "restore", log=say).checks) == []
    assert unproved(status.status(opened(settings), now=datetime.now(timezone.utc)).checks) == []


def recovered(stack: Stack, settings: dict[str, Any]) -> Record:
    """By the tasks of the role site_recovery, in their order, on a machine that has nothing but the inventory."""
    stack.directory.mkdir(parents=True)
    stack.bring_secret()
    run = keeper_readback.opened(opened(settings))
    seen = scope.assess_host(run, deep=True, log=say)
    made = site_plan.make(run, site_plan.Request(), seen, {"app1": "connection timed out"}, log=say)
    print("\n".join(site_show.text(made, seen)))
    assert (made.ready, made.lacking, sorted(made.parts)) == (True, "", ["config", "dumps", "files"])
    site_files.place_files(
        run.config, open_place(run, VAULT), made.parts["config"], key="", which="files", stamp="20261202_150000",
        check=False, log=say,
    )  # fmt: skip
    point_fetch.fetch(run, str(made.backup.id if made.backup else ""), log=say)
    run, began = opened(settings), datetime.now(timezone.utc)
    of_files = plan.make(run, Request(made.parts["files"], exact=True), log=say)
    checks = [*made.checks, *recovery.recover(run, of_files, reopens=False, log=say).checks]
    of_dumps = dumps_plan.make(run, dumps_plan.Request(made.parts["dumps"]), log=say)
    checks += dumps_recovery.recover(run, of_dumps, reopens=False, log=say).checks
    checks += reopen.reopen(run, SERVICES, log=say)
    assert unproved(checks) == []
    phase = ReportedPhase(began, datetime.now(timezone.utc), None, "", name="files")
    assessed = Plan(made.condition, made.findings, made.unchecked, (), made.target_seconds)
    told = evidence_record.Recovery("site", assessed, (phase,), tuple(checks))
    return evidence_record.build(run.config, told, now=datetime.now(timezone.utc))


def test_all_of_a_foreign_stack_comes_back_on_another_host(stack: Stack) -> None:
    written, before = chosen(stack), stack.portrait()
    for words in ("user.origin", "INSERT INTO `orders`", "CREATE TABLE file", "sparse", "with \\xff bytes"):
        assert [line for line in before if words in line], f"{words} is not compared"
    protected(stack.settings("app1", written))

    # Another machine keeps a copy of the repository; the host and all that is on it are gone.
    kept = stack.root / "keeper1"
    shutil.copytree(stack.root / "app1" / "backup", kept)
    stack.destroy()
    shutil.rmtree(stack.root / "app1")

    on_spare = stack.settings("spare1", written, readback={"source": {"mounted": str(kept)}})
    record = recovered(stack, on_spare)
    assert stack.portrait() == before, "every file, owner, mode, time, attribute, row and key"
    assert record.verdict == PASS, unproved(record.checks)
    assert sorted(stack.compose("ps", "--services", "--status", "running").split()) == SERVICES
    assert not plan.make(opened(on_spare), Request(), log=say).needed, "a second run has nothing to do"
    assert not dumps_plan.make(opened(on_spare), dumps_plan.Request(), log=say).needed
    again = operations_backup.take(opened(on_spare), log=say)
    assert again.point is not None and set(again.point.parts) == {"files", "dumps", "config"}
