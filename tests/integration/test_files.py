# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of somebody else's stack on a real engine: a volume, a bind mount, SQLite. Lost, brought back, and compared by
find, stat, sha256sum and SQLite's own dump in a container; and services that never stay paused, whoever kills what."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.files import backup, plan, recovery, references
from ansible_collections.lifeboat.dr.plugins.module_utils.files.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import FilesDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import IMAGE, docker, say, store

NAME = f"it-files-{os.getpid()}"
APPLICATION = "lifeboat-lab/backend:1"  # for its Python
VOLUME = f"{NAME}_media"
# A file first, then the row that names it: whoever copies both of one instant never has a row without its file. Who
# reads while it goes on has: by-row is read before rows.db.
WRITER = """
import hashlib, os, sqlite3, time
os.makedirs("/srv/media/by-row", exist_ok=True)
rows = sqlite3.connect("/srv/media/rows.db", isolation_level=None)
rows.execute("PRAGMA journal_mode = WAL")
rows.execute("PRAGMA wal_autocheckpoint = 0")
rows.execute("CREATE TABLE IF NOT EXISTS file (name TEXT, sha256 TEXT)")
number = rows.execute("SELECT count(*) FROM file").fetchone()[0]
while True:
    if not os.path.exists("/tmp/write"):
        time.sleep(0.05)
        continue
    number += 1
    data = os.urandom(1000 + number)
    with open(f"/srv/media/by-row/{number}", "wb") as file:
        file.write(data)
    rows.execute("INSERT INTO file VALUES (?, ?)", (str(number), hashlib.sha256(data).hexdigest()))
    time.sleep(0.002)
"""
FILL = r"""
import os, sqlite3, time
for top in ("/srv/media", "/uploads"):
    os.makedirs(f"{top}/2026/december")
    os.mkdir(f"{top}/empty directory", 0o751)
    for number in range(60):
        with open(f"{top}/2026/{number}.bin", "wb") as file:
            file.write(os.urandom(number * 777))
    os.chown(f"{top}/2026/7.bin", 1234, 4321)
    os.chmod(f"{top}/2026/8.bin", 0o4711)
    os.utime(f"{top}/2026/9.bin", ns=(1, 1_700_000_000_123_456_789))
    os.link(f"{top}/2026/10.bin", f"{top}/again")
    os.symlink("2026/11.bin", f"{top}/link")
    os.symlink("/nowhere/at all", f"{top}/dangling")
    os.mkfifo(f"{top}/pipe")
    for name in ("new\nline", "n" * 255, os.fsdecode(b"no-utf8-\xff\xfe"), "写真"):
        with open(f"{top}/{name}", "w") as file:
            file.write(name.encode("utf-8", "surrogateescape").hex())
    with open(f"{top}/sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"x")
        file.truncate(9 << 20)
with sqlite3.connect("/uploads/second.db") as rows:
    rows.execute("CREATE TABLE t (n INTEGER)")
    rows.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(500)])
for _attempt in range(300):
    try:
        sqlite3.connect("file:/srv/media/rows.db?mode=ro", uri=True).execute("SELECT count(*) FROM file")
        break
    except sqlite3.Error:
        time.sleep(0.1)
"""
# No time of a directory: what lies beside a place while it is filled touches it. Of a database its rows. Bytes of names
# as text (cat -v).
LOOK = r"""
set -eu
for top in media uploads; do
    cd /look/$top
    echo "== $top"
    find . -name '.lifeboat-*' -prune -o \( -name '*.db' -o -type d \) -printf '%y %m %U %G %P\n' \
        -o -name '*.db-*' -prune -o -printf '%y %m %U %G %s %T@ %n %l %P\n' | sort | cat -v
    find . -name '.lifeboat-*' -prune -o -type f ! -name '*.db' ! -name '*.db-*' -exec sha256sum {} + | sort | cat -v
    find . -name '.lifeboat-*' -prune -o -type f -size +1M -printf '%P is sparse: %S\n' \
        | sed 's/: 0\.[0-9]*$/: yes/' | sort | cat -v
done
mkdir /tmp/copy
cp /look/media/rows.db* /look/uploads/second.db* /tmp/copy
python3 -c '
import sqlite3
for name in ("rows", "second"):
    with sqlite3.connect(f"/tmp/copy/{name}.db") as rows:
        print(name, rows.execute("PRAGMA integrity_check").fetchall(), *rows.iterdump(), sep="\n")
'
"""
# Every row names a file that is there, with its content.
CONSISTENT = """
import hashlib, sqlite3
rows = sqlite3.connect("/srv/media/rows.db").execute("SELECT name, sha256 FROM file").fetchall()
lacking = []
for name, digest in rows:
    try:
        with open(f"/srv/media/by-row/{name}", "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        found = "missing"
    if found != digest:
        lacking.append(name)
print(len(rows), len(lacking))
"""
# A backup that reads for as long as it is let.
SLOW = """
import sys, time
sys.path[:0] = {path!r}
from ansible_collections.lifeboat.dr.plugins.module_utils.files import backup, walk
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
real, begun = walk.walk, []
def slow(*place, **how):
    for number, entry in enumerate(real(*place, **how)):
        if number == 3 and not begun:
            begun.append(entry.path)
            print("reading", flush=True)
            time.sleep({seconds})
        yield entry
walk.walk = slow
taken = backup.take(Opened(config.from_mapping({settings!r})), log=print)
print("published", taken.id, flush=True)
"""
# What the command does, in a process that can be killed: a backup, or where a state is asked for a recovery to it.
COMMAND = """
import sys
sys.path[:0] = {path!r}
from ansible_collections.lifeboat.dr.plugins.module_utils.files import backup, plan, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
asked = {asked!r}
run = Opened(config.from_mapping({settings!r}))
print("begun", flush=True)
if not asked:
    print("published", backup.take(run, log=print).id)
    sys.exit()
made = plan.make(run, plan.Request(**asked), log=print)
if made.needed:  # as the role does: what a plan does not find to be needed is not done
    done = recovery.recover(run, made, log=print)
    sys.exit(any(check.result != "PASS" for check in done.checks))
"""


class Stack:
    def __init__(self, directory: Path, root: Path) -> None:
        self.directory, self.root = directory, root
        self.uploads = directory / "uploads"

    def compose(self, *argv: str) -> str:
        return docker("compose", "--project-directory", str(self.directory), *argv)

    def inside(self, script: str) -> str:
        return self.compose("exec", "-T", "app", "python3", "-c", script)

    def write(self, on: bool) -> None:
        self.compose("exec", "-T", "app", *(("touch", "/tmp/write") if on else ("rm", "-f", "/tmp/write")))

    def portrait(self, *, whole: bool = True) -> list[str]:
        """The files of both, with nothing of ours. whole: a database that cannot be read is an error."""
        mounts = ("--volume", f"{VOLUME}:/look/media", "--volume", f"{self.uploads}:/look/uploads")
        words = ("run", "--rm", "--user", "0", "--network", "none", *mounts, "--entrypoint", "sh", APPLICATION)
        return docker(*words, "-c", LOOK, check=whole).split("\n")

    def settings(self, consistency: str = "pause", limit: int = 60) -> dict[str, Any]:
        (self.root / "backup").mkdir(exist_ok=True)
        how = {"consistency": consistency, "limit": limit}
        return {
            "stack": NAME,
            "environment": "drill",
            "runtime": {"project_directory": str(self.directory)},
            "database": {"name": "postgres"},
            "repository": {"type": "local", "path": str(self.root / "backup")},
            "application": {"timeout": 60},
            "state_directory": str(self.root / "state"),
            "files": {
                "sources": [
                    {"name": "media", "volume": "media", **how},
                    {"name": "uploads", "path": str(self.uploads), **how},
                ]
            },
        }

    def config(self, **how: Any) -> Config:
        return config.from_mapping(self.settings(**how))

    def paused(self) -> list[str]:
        words = ("--filter", "status=paused", "--filter", f"label=com.docker.compose.project={NAME}")
        return docker("ps", "--quiet", *words).split()

    def running(self) -> list[str]:
        return sorted(self.compose("ps", "--services", "--status", "running").split())


@pytest.fixture(scope="module")
def project(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    del engine
    directory = tmp_path_factory.mktemp("files")
    health = {"test": ["CMD", "pg_isready", "-qh127.0.0.1"], "interval": "300ms", "retries": 200}
    definition = {
        "name": NAME,
        "services": {
            "db": {
                "image": IMAGE, "environment": {"POSTGRES_PASSWORD": "x"}, "healthcheck": health,
                "volumes": ["data:/var/lib/postgresql/data"], "stop_grace_period": "5s",
            },
            "app": {
                "image": APPLICATION, "entrypoint": ["python3", "-c", WRITER], "user": "0:0", "init": True,
                "stop_grace_period": "2s", "volumes": ["media:/srv/media", "./uploads:/uploads"],
            },
        },
        "volumes": {"data": {}, "media": {}},
    }  # fmt: skip
    (directory / "compose.yaml").write_text(json.dumps(definition))
    (directory / "uploads").mkdir()
    stack = Stack(directory, directory)
    with contextlib.ExitStack() as ended:
        ended.callback(stack.compose, "down", "--volumes", "--timeout", "1", "--remove-orphans")
        stack.compose("up", "--detach", "--wait")
        yield directory


@pytest.fixture
def stack(project: Path, tmp_path: Path) -> Iterator[Stack]:
    """The stack with the same files each time, and a repository of the test's own."""
    one = Stack(project, tmp_path)
    empty = "import os, shutil\nfor top in ('/srv/media', '/uploads'):\n"
    empty += "    for entry in os.scandir(top):\n"
    empty += "        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)\n"
    one.compose("up", "--detach", "--wait")
    one.write(False)
    one.inside(empty)
    one.compose("restart", "--timeout", "2", "app")
    one.inside(FILL)
    yield one
    assert one.paused() == []
    for lock in Path("/run/lifeboat").glob(f"lifeboat-{NAME}*"):
        lock.unlink()


def take(one: Config) -> Manifest:
    return backup.take(Opened(one), log=say)


def held(manifest: Manifest) -> FilesDetails:
    return manifest.detailed(FilesDetails)


def recover(one: Config, **asked: Any) -> None:
    made = plan.make(Opened(one), Request(**asked), log=say)
    print("\n".join(plan.text(made)))
    assert made.needed
    done = recovery.recover(Opened(one), made, log=say)
    assert [(check.name, check.result, check.detail) for check in done.checks if check.result != PASS] == []
    assert not plan.make(Opened(one), Request(), log=say).needed, "a second run has nothing to do"


def test_a_volume_and_a_directory_that_are_gone_come_back_as_they_were(stack: Stack) -> None:
    """By the hands of an operator: nothing of the drill's code has a part in it."""
    before = stack.portrait()
    assert len([line for line in before if line.startswith("f ")]) > 120
    taken = take(stack.config())
    for name, found in held(taken).sources.items():
        assert (found.consistency, found.services, found.skipped_count, found.torn_count) == ("pause", ("app",), 0, 0)
        assert found.databases == 1, name
    assert (stack.running(), stack.paused()) == (["app", "db"], [])
    proof = operations_verify.verify(Opened(stack.config()), taken.id, "restore", log=say)
    assert [check for check in proof.checks if check.result != PASS] == []

    stack.compose("rm", "--stop", "--force", "app")
    docker("volume", "rm", VOLUME)
    for entry in stack.uploads.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    recover(stack.config())
    assert stack.running() == ["app", "db"]
    assert stack.portrait() == before


@pytest.mark.parametrize("name", SCENARIOS["files"].faults)
def test_every_fault_of_a_drill_takes_and_comes_back(stack: Stack, name: str) -> None:
    before = stack.portrait()
    one = stack.config()
    taken = take(one)
    print(fault.inject(Opened(one), fault.choose(one, "files", name), "7", log=say))
    if name == "volume_removed":
        assert VOLUME not in docker("volume", "ls", "--quiet").split()
    else:
        assert stack.portrait(whole=False) != before
    asked = {"identity": taken.id, "exact": True} if name in ("files_altered", "files_encrypted") else {}
    recover(one, **asked)
    assert stack.running() == ["app", "db"]
    assert stack.portrait() == before


def test_with_a_pause_no_row_names_a_file_that_the_recovery_lacks(stack: Stack) -> None:
    stack.write(True)
    wait(lambda: int(stack.inside(CONSISTENT).split()[0]) > 300)
    one = stack.config()
    taken = take(one)
    assert held(taken).sources["media"].torn_count == 0
    time.sleep(1)
    stack.compose("rm", "--stop", "--force", "app")
    docker("volume", "rm", VOLUME)
    recover(one)
    rows, lacking = map(int, stack.inside(CONSISTENT).split())
    assert (rows > 300, lacking) == (True, 0)


def psql(stack: Stack, sql: str) -> str:
    return stack.compose("exec", "-T", "db", "psql", "-qAtU", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql)


def test_rows_of_postgresql_are_held_against_the_files(stack: Stack) -> None:
    """Every path, size and hash that a real server has of them; after a loss, what rows older than the backup name."""
    listed = "find . -path ./by-row -prune -o -type f -name '*.bin' -printf '%P,%s,' -exec sh -c"
    hashed = f"""{listed} 'sha256sum "$1" | cut -c-64' - {{}} \\;"""
    lines = stack.compose("exec", "-T", "app", "sh", "-c", f"cd /uploads && {hashed}").split()
    assert len(lines) == 60
    psql(stack, "DROP TABLE IF EXISTS files; CREATE TABLE files (path text, bytes bigint, sha256 text, at timestamptz)")
    told = (line.split(",") for line in lines)
    values = ", ".join(f"('{path}', {size}, '{digest}', now() - interval '1 day')" for path, size, digest in told)
    psql(stack, f"INSERT INTO files VALUES {values}")
    settings = stack.settings()
    settings["files"]["references"] = "SELECT 'uploads' AS source, path, bytes AS size, sha256, at FROM files"
    one = config.from_mapping(settings)
    assert reconcile.query_problem(Opened(one), reconcile.FILE_COLUMNS) == ""
    taken = take(one)
    found = {check.name: (check.result, check.detail) for check in references.checks(Opened(one))}
    assert found["rows without files"] == (PASS, "all 60 rows have their file")
    assert found["rows and files agree"] == (PASS, "60 sizes and 60 hashes compared")

    psql(stack, "INSERT INTO files VALUES ('2026/later.bin', 1, NULL, now() + interval '1 hour')")
    stack.compose("rm", "--stop", "--force", "app")
    docker("volume", "rm", VOLUME)
    shutil.rmtree(stack.uploads / "2026")
    broken = {check.name: check.result for check in references.checks(Opened(one))}
    assert broken["rows and files"] == COULD_NOT_VERIFY, "a volume is gone, so not all could be looked at"
    made = plan.make(Opened(one), Request(), log=say)
    done = {check.name: (check.result, check.detail) for check in recovery.recover(Opened(one), made, log=say).checks}
    assert done["rows without files"][0] == PASS
    assert done["rows without files"][1].endswith("their files are lost: uploads/2026/later.bin"), taken.id
    (stack.uploads / "2026" / "7.bin").unlink()
    gone = {check.name: (check.result, check.detail) for check in references.checks(Opened(one))}
    assert gone["rows without files"][0] == FAIL
    assert gone["rows without files"][1].startswith("1 rows have no file: uploads/2026/7.bin")
    psql(stack, "ALTER TABLE files RENAME path TO name")
    assert "references" in reconcile.query_problem(Opened(one), reconcile.FILE_COLUMNS)
    psql(stack, "DROP TABLE files")


def wait(condition: Callable[[], object], seconds: float = 60) -> float:
    """Return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


@contextlib.contextmanager
def slow_backup(stack: Stack, seconds: float, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A backup in a process of its own, in the middle of its reading."""
    script = SLOW.format(path=sys.path, seconds=seconds, settings=stack.settings(**how))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line == "reading\n" for line in process.stdout)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("consistency", ["pause", "stop"])
def test_a_backup_that_is_killed_lets_the_services_go_on(stack: Stack, consistency: str) -> None:
    first = take(stack.config(consistency=consistency))
    with slow_backup(stack, 600, consistency=consistency, limit=600) as process:
        if consistency == "pause":
            assert len(stack.paused()) == 1
        else:
            assert stack.running() == ["db"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        took = wait(lambda: stack.paused() == [] and stack.running() == ["app", "db"], 20)
    print(f"{consistency}: the service went on {took:.1f} s after kill -9")
    one = stack.config(consistency=consistency)
    entries = catalog.entries(store(one), "files", NAME)
    assert [(entry.id, entry.good) for entry in entries] == [(first.id, True)], "no half backup"
    again = take(one)
    assert held(again).sources["media"].consistency == consistency
    assert stack.running() == ["app", "db"]


def test_who_reads_for_too_long_lets_the_services_go_on_and_says_so(stack: Stack) -> None:
    with slow_backup(stack, 8, limit=3) as process:
        assert len(stack.paused()) == 1
        took = wait(lambda: stack.paused() == [], 7)
        assert process.poll() is None, "the backup still reads"
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait() == 0, rest
    print(f"the service went on after {took:.1f} s")
    assert "3 s were not enough, so that it is of no one instant" in rest
    (entry,) = catalog.entries(store(stack.config()), "files", NAME)
    assert entry.manifest is not None
    assert held(entry.manifest).sources["media"].consistency == "live"


class Command:
    """A backup or a recovery of the files, as the operator's command runs it. asked: of a recovery."""

    def __init__(self, stack: Stack, asked: dict[str, Any]) -> None:
        path = [entry for entry in sys.path if entry]
        self.words = [sys.executable, "-c", COMMAND.format(path=path, asked=asked, settings=stack.settings())]

    def run(self) -> float:
        """To its end; returns how long it took from its first step."""
        with subprocess.Popen(self.words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
            began = time.monotonic()
            said = process.stdout.read()
        assert process.returncode == 0, said
        return time.monotonic() - began

    def kill_after(self, seconds: float) -> bool:
        """Begin, and kill it with -9 after so long. Returns whether it had ended by then."""
        with subprocess.Popen(self.words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
            time.sleep(seconds)
            ended = process.poll() is not None
            process.kill()
        wait(lambda: not group_is_alive(process.pid))  # a docker that it had started ends by itself
        return ended


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


MOMENTS = int(os.environ.get("MOMENTS", "30"))


@pytest.mark.slow
def test_backups_that_are_killed_at_random_moments(stack: Stack) -> None:
    """Half of the moments: the services go on, no backup is half, and the next one is whole."""
    lot = random.Random(os.environ.get("SEED", "35"))  # noqa: S311 - a lot, no secret
    command, one = Command(stack, {}), stack.config()
    whole = command.run()
    told: list[str] = []
    for number in range(MOMENTS // 2):
        (stack.uploads / f"new-{number}").write_bytes(os.urandom(200_000))
        before = {entry.id for entry in catalog.entries(store(one), "files", NAME)}
        after = lot.uniform(0, whole)
        ended = command.kill_after(after)
        took = wait(lambda: stack.paused() == [] and stack.running() == ["app", "db"], 30)
        entries = catalog.entries(store(one), "files", NAME)
        assert [entry.id for entry in entries if not entry.good] == [], f"killed after {after:.2f} s"
        assert ended or len({entry.id for entry in entries} - before) <= 1
        told.append(f"killed after {after:.2f} of {whole:.2f} s: the services went on {took:.1f} s later")
        time.sleep(1)  # the next one's id is another second's
        command.run()
    print("\n".join(told))
    newest = catalog.entries(store(one), "files", NAME)[-1]
    proof = operations_verify.verify(Opened(one), newest.id, "restore", log=say)
    assert [(check.name, check.detail) for check in proof.checks if check.result != PASS] == []
    portrait = stack.portrait()
    stack.compose("rm", "--stop", "--force", "app")
    docker("volume", "rm", VOLUME)
    recover(one, identity=newest.id, exact=True)
    assert stack.portrait() == portrait


@pytest.mark.slow
def test_recoveries_that_are_killed_at_random_moments(stack: Stack) -> None:
    """The other half: the same command ends it, everything is as it was, and the services run again."""
    lot = random.Random(os.environ.get("SEED", "53"))  # noqa: S311 - a lot, no secret
    one, before = stack.config(), stack.portrait()
    taken = take(one)
    command = Command(stack, {"identity": taken.id, "exact": True})

    def lose() -> None:
        stack.compose("rm", "--stop", "--force", "app")
        docker("volume", "rm", VOLUME)
        shutil.rmtree(stack.uploads / "2026")
        (stack.uploads / "again").write_text("somebody's other one")
        (stack.uploads / "additional").write_text("somebody's new one")

    lose()
    whole = command.run()
    assert stack.portrait() == before
    told: list[str] = []
    for _number in range(MOMENTS - MOMENTS // 2):
        lose()
        after = lot.uniform(0, whole)
        ended = command.kill_after(after)
        told.append(f"killed after {after:.2f} of {whole:.2f} s{', when it had ended' if ended else ''}")
        print(told[-1])
        command.run()
        assert stack.running() == ["app", "db"], told[-1]
        assert stack.portrait() == before, told[-1]
        assert not plan.make(Opened(one), Request(identity=taken.id, exact=True), log=say).needed, told[-1]
        assert recovery_state.unfinished(one, recovery_state.RECOVERING_FILES) is None, told[-1]
        assert recovery_state.stopped(one) == [], told[-1]
