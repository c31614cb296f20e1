# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away Compose project with a real PostgreSQL, and the few things that the tests do to it.

The superuser's name and password are hostile on purpose, so that every test of every feature meets them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins, server
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import Fingerprint, facts_of
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database.protect import ProtectedDatabase
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base as repository_base
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.modules import agent

MakeDatabase = Callable[..., str]
IMAGE = "lifeboat-lab/postgres:17"
STACK = f"it-{os.getpid()}"
# As hostile as initdb lets it be: it refuses quotes, dollars, backslashes, "--" in the first superuser's name.
SUPERUSER = "Ops; DROP =://x"
# Every printable character of ASCII, a space at either end, and some beyond.
PASSWORD = " " + "".join(chr(code) for code in range(33, 127)) + " ß日 "


def docker(*argv: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(["docker", *argv], input=stdin, capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(argv)[:300]}: {done.stderr[-3000:]}"
    return done.stdout


class Stack:
    """The project: `db`, `app` that depends on it, and behind the profile `jobs` `worker` that depends on `app`.

    options: of the server, `name=value`.
    """

    def __init__(
        self,
        directory: Path,
        stack: str = STACK,
        *,
        user: str = SUPERUSER,
        image: str = IMAGE,
        options: Sequence[str] = (),
    ) -> None:
        self.directory, self.stack, self.user = directory, stack, user
        self.name = f"lifeboat-{stack}"
        self.container = f"{self.name}-db-1"
        environment = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "postgres"}
        words = [word for option in ("fsync=off", "shared_buffers=32MB", *options) for word in ("-c", option)]
        sleeps = {"image": image, "entrypoint": ["sleep", "infinity"], "init": True}
        self.definition: dict[str, Any] = {
            "name": self.name,
            "services": {
                "db": {
                    "image": image,
                    "command": ["postgres", *words],
                    "environment": {key: value.replace("$", "$$") for key, value in environment.items()},
                    "volumes": ["data:/var/lib/postgresql/data"],
                    "healthcheck": {"test": ["CMD", "pg_isready", "-qh127.0.0.1"], "interval": "300ms", "retries": 200},
                    "stop_grace_period": "5s",
                },
                "app": {**sleeps, "depends_on": ["db"]},
                "worker": {**sleeps, "depends_on": ["app"], "profiles": ["jobs"]},
            },
            "volumes": {"data": {}},
        }
        self.write()

    def write(self) -> None:
        (self.directory / "compose.yaml").write_text(json.dumps(self.definition))

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Start the project; in the end remove it and all that is its own. Nothing else of ours may be left."""
        try:
            self.compose("up", "--detach", "--wait")
            yield
        finally:
            self.compose("--profile", "*", "down", "--volumes", "--timeout", "1")
            for lock in Path("/run/lifeboat").glob(f"lifeboat-{self.stack}*"):
                lock.unlink()
        left = docker("ps", "-aq", "--filter", f"label=lifeboat.scratch={self.stack}").split()
        if left:
            docker("rm", "--force", "--volumes", *left)
        assert not left, "a throw-away container was left"

    def compose(self, *argv: str) -> str:
        return docker("compose", "--project-directory", str(self.directory), *argv)

    def psql(self, sql: str, database: str = "postgres", *, user: str = "") -> list[str]:
        """Run SQL, no core code involved; what it prints, one row a line."""
        words = ["exec", "-i", "-e", f"PGUSER={user or self.user}", "-e", f"PGDATABASE={database}", self.container]
        return docker(*words, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin=sql).split("\n")[:-1]

    def settings(self, root: Path, **changes: Any) -> dict[str, Any]:
        """The stack's configuration, repository and state below `root`. Mappings in `changes` are merged into it."""
        (root / "backup").mkdir(exist_ok=True)
        settings: dict[str, Any] = {
            "stack": self.stack,
            "timeout": 300,
            "runtime": {"project_directory": str(self.directory)},
            "database": {"name": "postgres"},
            "repository": {"type": "local", "path": str(root / "backup")},
            "application": {"timeout": 60},
            "state_directory": str(root / "state"),
        }
        for key, value in changes.items():
            settings[key] = {**settings[key], **value} if isinstance(settings.get(key), dict) else value
        return settings

    def config(self, root: Path, *, secrets: dict[str, str] | None = None, **changes: Any) -> Config:
        return config.from_mapping(self.settings(root, **changes), secrets)

    def server(self, settings: Config) -> server.Server:
        return server.connect(settings, runtime.connect(settings))

    def traces(self) -> list[str]:
        """What our runs have left behind: sessions in the server, files in its container."""
        where = f"application_name = '{self.name}'"
        left = self.psql(f"SELECT 'session: ' || query FROM pg_stat_activity WHERE {where};", "template1")
        return left + docker("exec", self.container, "find", "/var/tmp", "-mindepth", "1").splitlines()

    def wipe(self) -> None:
        """Drop every database and role that tests made."""
        # By name: a `postgres` that was swapped in is not the one that initdb made.
        kept = "('postgres', 'template0', 'template1')"
        found = self.psql(f"SELECT to_json(datname) FROM pg_database WHERE datname NOT IN {kept};", "template1")
        for name in found:
            quoted = identifier(json.loads(name))
            # One that a test left as a template cannot be dropped, and every test after it would fail.
            self.psql(f"ALTER DATABASE {quoted} IS_TEMPLATE false;\nDROP DATABASE {quoted} WITH (FORCE);", "template1")
        # In the server: a role's name may be bytes that no text is.
        self.psql(
            "DO $$ DECLARE names text; BEGIN"
            " SELECT string_agg(quote_ident(rolname), ', ') INTO names FROM pg_roles WHERE oid >= 16384;"
            " IF names IS NOT NULL THEN EXECUTE 'DROP OWNED BY ' || names; EXECUTE 'DROP ROLE ' || names; END IF;"
            " END $$;"
        )


def say(line: str) -> None:
    """The core's log: pytest shows it with a failure."""
    print(line)


def store(settings: Config) -> repository_base.Repository:
    return repositories.from_settings(settings.repository, settings.secrets)


def entries(settings: Config) -> list[catalog.Entry]:
    return catalog.entries(store(settings), "database", settings.stack)


def assert_pass(found: Sequence[checks.Check], *, at_least: int) -> None:
    bad = [f"{check.result} {check.name}: {check.detail}" for check in found if check.result != checks.PASS]
    assert not bad, "\n".join(bad)
    assert len(found) >= at_least, f"only {[name.name for name in found]} were checked"


def back_up_and_prove(settings: Config) -> str:
    """Backup, then restore into a server of its own and compare: everything must be equal. Returns the backup's id."""
    taken = dump.take(Opened(settings), log=say)
    result = operations_verify.verify(Opened(settings), taken.id, "restore", log=say)
    assert_pass(result.checks, at_least=13)
    return taken.id


def recover(settings: Config, **asked: Any) -> tuple[Plan, ProtectedDatabase, database_recovery.Recovered]:
    """The phases of a recovery of the database as its role orders them, up to the one that starts the application."""
    made = database_plan.make(Opened(settings), database_plan.Request(**asked), log=say)
    print("\n".join(database_plan.text(made)))
    assert made.needed
    protected = database_protect.protect(Opened(settings), made, log=say)
    with logins.opened_afterwards(Opened(settings), log=say):
        done = database_recovery.restore_database(
            Opened(settings), str(made.backup["id"]), place=str(made.backup["place"]), fresh=protected.fresh,
            stamp=made.stamp, wanted=database_recovery.Wanted(protected.replaced, protected.copied), log=say,
        )  # fmt: skip
    print("\n".join(done.notes))
    return made, protected, done


def restore_beside(stack: Stack, settings: Config, name: str) -> Fingerprint:
    """Restore the newest backup into the live server as the database `name`; the fingerprint it should have."""
    newest = entries(settings)[-1]
    assert newest.manifest
    with store(settings).materialise("database", newest.id) as folder:
        facts = facts_of(folder)
        trusted = settings.database.trust_owners
        database_restore.database(
            stack.server(settings), newest.manifest, folder, facts, name, jobs=2, log=say, trust_owners=trusted
        )
    return facts


class Agent:
    """The `lifeboat` command as a host has it: the zipapp and its configuration files."""

    def __init__(self, root: Path, settings: dict[str, Any], secrets: dict[str, str] | None = None) -> None:
        self.path = root / "lifeboat"
        self.etc = root / "etc"
        self.path.write_bytes(agent.build(sys.executable))
        self.path.chmod(0o755)
        self.etc.mkdir()
        (self.etc / f"{STACK}.json").write_text(json.dumps(settings))
        (self.etc / f"{STACK}.secrets.json").write_text(json.dumps(secrets or {}))

    def argv(self, *words: str) -> list[str]:
        return [str(self.path), *words, "--config-directory", str(self.etc)]

    def run(self, *words: str, before: Sequence[str] = ()) -> tuple[int, Any, str]:
        """(exit code, what --json printed, stderr). `before`: a command that runs it."""
        argv = [*before, *self.argv(*words), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr


def on_small_disk(root: Path, size: str, *options: str) -> list[str]:
    """What to put before a command so that `root`/backup is a small file system, which ends with the command."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
    words = ["sh", "-c", script, "sh", ",".join([f"size={size}", "mode=700", *options]), str(root / "backup")]
    return ["unshare", *as_root, "--mount", *words]
