# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real MariaDB and a real Valkey: dumped, proved, lost, brought back, and compared by their own tools alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import backup, plan, recovery, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps.recovery import Recovered
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import quarantine as operations_quarantine
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import IMAGE, docker, say

NAME = f"it-dumps-{os.getpid()}"
MARIADB, VALKEY = "lifeboat-lab/mariadb:11", "lifeboat-lab/valkey:8"
PASSWORD = "it's \"se`cret\\ $0 7c41"
HUSH = "hush-93e1"
FILL = r"""
DROP DATABASE IF EXISTS shop; DROP DATABASE IF EXISTS `Другая`; DROP USER IF EXISTS reader@'%';
CREATE DATABASE shop; USE shop;
CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(50) COLLATE utf8mb4_bin, price DECIMAL(10,2),
    f FLOAT, d DOUBLE, b BLOB, j JSON, bits BIT(5), at TIMESTAMP(6), place POINT, KEY w (what(10)));
INSERT INTO orders (what, price, f, d, b, j, bits, at, place)
    SELECT CONCAT('thing ', seq), seq / 3, seq / 7, seq / 9, UNHEX(MD5(seq)), '{"a": 1}', seq % 32,
    '2026-11-24 02:20:00.123456', POINT(seq, 1) FROM seq_1_to_3000;
CREATE TABLE `odd ``name` (`a b` INT, t TEXT) ENGINE = Aria;
INSERT INTO `odd ``name` VALUES (1, 'tab\there\nnew line'), (2, NULL), (3, '\\N'), (4, '日本');
CREATE TABLE children (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES orders (id));
INSERT INTO children VALUES (1, 1), (2, 3000);
CREATE VIEW v AS SELECT what, price FROM orders WHERE price > 100;
CREATE SEQUENCE numbers START 5;
DELIMITER //
CREATE FUNCTION half(n INT) RETURNS INT DETERMINISTIC RETURN n DIV 2//
CREATE TRIGGER tr BEFORE INSERT ON orders FOR EACH ROW BEGIN SET NEW.what = UPPER(NEW.what); END//
CREATE EVENT ev ON SCHEDULE EVERY 1 DAY DO DELETE FROM orders WHERE id < 0//
DELIMITER ;
CREATE DATABASE `Другая`; CREATE TABLE `Другая`.`таблица` (x INT); INSERT INTO `Другая`.`таблица` VALUES (7);
CREATE USER reader@'%' IDENTIFIED BY 'it''s'; GRANT SELECT ON shop.* TO reader@'%';
"""
KEYS = """
FLUSHALL
SET text "with \\xff bytes\\n"
RPUSH list 1 2 3
SADD set z y x
HSET hash f 1 g 2
ZADD sorted 1.5 m 2 n
XADD stream 1-1 k v
SET passing 1 EX 10000
SELECT 3
SET three there
"""
DUMP = (
    "mariadb-dump", "-uroot", "--databases", "shop", "Другая", "--routines", "--events", "--hex-blob",
    "--order-by-primary", "--skip-dump-date", "--default-character-set=utf8mb4",
)  # fmt: skip
RECOVER = """
import sys
sys.path[:0] = {path!r}
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import plan, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
run = Opened(config.from_mapping({settings!r}))
made = plan.make(run, plan.Request(**{request!r}), log=print)
print("planned", made.needed, flush=True)
done = recovery.recover(run, made, log=lambda words: print(words, flush=True))
print("ended", {{check.result for check in done.checks}}, flush=True)
"""


class Stack:
    def __init__(self, directory: Path, root: Path) -> None:
        self.directory, self.root = directory, root

    def compose(self, *argv: str, stdin: str = "") -> str:
        return docker("compose", "--project-directory", str(self.directory), *argv, stdin=stdin)

    def mariadb(self, sql: str) -> str:
        words = ("exec", "-T", "-e", f"MYSQL_PWD={PASSWORD}", "wiki", "mariadb", "-uroot", "-N", "-B")
        return self.compose(*words, "--default-character-set=utf8mb4", stdin=sql)

    def valkey(self, commands: str) -> str:
        return self.compose(
            "exec", "-T", "-e", f"REDISCLI_AUTH={HUSH}", "jobs", "valkey-cli", "--no-raw", stdin=commands
        )

    def portrait(self) -> list[str]:
        """What both hold, by their own tools."""
        sql = self.compose("exec", "-T", "-e", f"MYSQL_PWD={PASSWORD}", "wiki", *DUMP)
        accounts = self.mariadb("SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2")
        keys = self.valkey(
            "GET text\nLRANGE list 0 -1\nSORT set ALPHA\nHGET hash f\nHGET hash g\nZRANGE sorted 0 -1 WITHSCORES\n"
            "XRANGE stream - +\nEXISTS passing\nDBSIZE\nSELECT 3\nGET three\nDBSIZE\n"
        )
        return [*sql.split("\n"), *accounts.split("\n"), *keys.split("\n")]

    def settings(self, **changes: Any) -> dict[str, Any]:
        (self.root / "backup").mkdir(exist_ok=True)
        return {
            "stack": NAME,
            "environment": "drill",
            "runtime": {"project_directory": str(self.directory)},
            "database": {"name": "postgres"},
            "repository": {"type": "local", "path": str(self.root / "backup")},
            "application": {"timeout": 60},
            "state_directory": str(self.root / "state"),
            "dumps": {
                "sources": [
                    {"name": "wiki", "service": "wiki", "preset": "mariadb", "limit": 300},
                    {"name": "jobs", "service": "jobs", "preset": "valkey", "limit": 300},
                ]
            },
            **changes,
        }

    def config(self, **changes: Any) -> Config:
        return config.from_mapping(self.settings(**changes))

    def running(self) -> list[str]:
        return sorted(self.compose("ps", "--services", "--status", "running").split())

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()


@pytest.fixture(scope="module")
def project(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    del engine
    directory = tmp_path_factory.mktemp("dumps")
    for image in (MARIADB, VALKEY):
        if not docker("image", "ls", "--quiet", image).strip():
            pytest.fail(f"these tests need the image {image}; `make engine` makes it", pytrace=False)
    health = {"test": ["CMD", "pg_isready", "-qh127.0.0.1"], "interval": "300ms", "retries": 200}
    answers = ["CMD-SHELL", "mariadb-admin --host=127.0.0.1 --protocol=tcp ping"]
    definition = {
        "name": NAME,
        "services": {
            "db": {
                "image": IMAGE, "environment": {"POSTGRES_PASSWORD": "x"}, "healthcheck": health,
                "volumes": ["data:/var/lib/postgresql/data"], "stop_grace_period": "5s",
            },
            "wiki": {
                "image": MARIADB, "environment": {"MARIADB_ROOT_PASSWORD_FILE": "/run/secrets/root"},
                "command": ["--character-set-server=latin1", "--innodb-buffer-pool-size=32M"], "secrets": ["root"],
                "volumes": ["wiki:/var/lib/mysql", "./own.cnf:/etc/mysql/mariadb.conf.d/99-own.cnf:ro"],
                "healthcheck": {"test": answers, "interval": "500ms", "retries": 400},
            },
            "jobs": {
                "image": VALKEY, "command": ["valkey-server", "--appendonly", "yes", "--requirepass", HUSH],
                "volumes": ["./jobs:/data"],
            },
            "app": {
                "image": VALKEY, "entrypoint": ["sleep", "infinity"], "init": True, "depends_on": ["wiki", "jobs"],
            },
        },
        "volumes": {"data": {}, "wiki": {}},
        "secrets": {"root": {"file": "./root.txt"}},
    }  # fmt: skip
    (directory / "compose.yaml").write_text(json.dumps(definition))
    (directory / "root.txt").write_text(PASSWORD + "\n")
    (directory / "own.cnf").write_text("[mariadbd]\nlower_case_table_names = 1\ninnodb_page_size = 8k\n")
    for name in ("root.txt", "own.cnf"):  # read by the server's own user, whatever the umask here
        (directory / name).chmod(0o644)
    (directory / "jobs").mkdir()
    stack = Stack(directory, directory)
    with contextlib.ExitStack() as ended:
        ended.callback(stack.compose, "down", "--volumes", "--timeout", "1", "--remove-orphans")
        stack.compose("up", "--detach", "--wait")
        yield directory


@pytest.fixture
def stack(project: Path, tmp_path: Path) -> Iterator[Stack]:
    """The stack with the same data each time, and a repository of the test's own. Nothing of ours may be left."""
    one = Stack(project, tmp_path)
    one.compose("up", "--detach", "--wait")
    one.mariadb(FILL)
    one.valkey(KEYS)
    yield one
    left = docker("ps", "--all", "--quiet", "--filter", f"label=lifeboat.scratch={NAME}").split()
    left += docker("volume", "ls", "--quiet", "--filter", f"label=lifeboat.scratch={NAME}").split()
    left += [str(path) for path in project.glob("jobs.restored_*")]
    for volume in docker("volume", "ls", "--quiet", "--filter", f"label=lifeboat.quarantine={NAME}").split():
        docker("volume", "rm", volume)
    for path in project.glob("jobs.quarantine_*"):
        shutil.rmtree(path)
    for lock in Path("/run/lifeboat").glob(f"lifeboat-{NAME}*"):
        lock.unlink()
    assert left == []


def take(one: Config) -> Manifest:
    return backup.take(Opened(one), log=say)


def make(one: Config, **request: Any) -> plan.Plan:
    made = plan.make(Opened(one), Request(**request), log=say)
    print("\n".join(plan.text(made)))
    return made


def recover(one: Config, **request: Any) -> Recovered:
    made = make(one, **request)
    assert made.needed
    done = recovery.recover(Opened(one), made, log=say)
    assert [(check.name, check.result, check.detail) for check in done.checks if check.result != PASS] == []
    assert not make(one).needed, "a second run has nothing to do"
    assert not (one.state / recovery_state.RECOVERING_DUMPS).exists()
    return done


def prove(one: Config, identity: str, level: str = "restore", key: str = "") -> list[Check]:
    return list(operations_verify.verify(Opened(one, key), identity, level, log=say).checks)


def lose(stack: Stack) -> None:
    stack.compose("rm", "--stop", "--force", "wiki", "jobs")
    docker("volume", "rm", f"{NAME}_wiki")
    shutil.rmtree(stack.directory / "jobs")


def test_both_are_dumped_proved_lost_and_come_back_as_they_were(stack: Stack) -> None:
    one, before = stack.config(), stack.portrait()
    taken = take(one)
    entries = taken.detailed(DumpsDetails).sources
    assert {name: (entry.version, entry.unsettled) for name, entry in entries.items()} == {
        "jobs": ("8", 0),
        "wiki": ("11.8", 0),
    }
    assert entries["jobs"].append_only
    rows = {mount.name: mount.row for mount in mounts.of_project(one, sources.compose(Opened(one), "x")).mounts}
    assert rows["wiki"].startswith("protected by dumps: the volume wiki (wiki:/var/lib/mysql, MariaDB)")
    assert rows[str(stack.directory / "jobs")].startswith("protected by dumps")
    checks = prove(one, taken.id)
    assert [(check.name, check.detail) for check in checks if check.result != PASS] == []
    assert {"restore of wiki", "restore of jobs"} <= {check.name for check in checks}

    lose(stack)
    done = recover(one)
    assert done.quarantine == "", "there was nothing to put aside"
    assert stack.running() == ["app", "db", "jobs", "wiki"]
    assert stack.portrait() == before
    stack.compose("restart", "jobs", "wiki")
    stack.compose("up", "--detach", "--wait")
    assert stack.portrait() == before, "also from their own files"


def test_what_was_dropped_comes_back_and_what_was_there_is_kept(stack: Stack) -> None:
    one, before = stack.config(), stack.portrait()
    taken = take(one)
    stack.mariadb("DROP TABLE shop.children; DROP TABLE shop.orders; CREATE TABLE shop.later (x INT)")
    stack.valkey("SELECT 3\nFLUSHDB\n")
    wiki, app = stack.container("wiki"), stack.container("app")
    done = recover(one)
    assert stack.portrait() == before
    assert (stack.container("wiki") != wiki, stack.container("app")) == (True, app)
    kept = done.quarantine.split(", ")
    assert [path.endswith("/_data") or ".quarantine_" in path for path in kept] == [True, True]
    listed = [entry.name for entry in operations_quarantine.survey(Opened(one), now=datetime.now(timezone.utc)).items]
    assert all(any(name in path for name in listed) for path in kept), (listed, kept)

    for line in done.way_back:  # as an operator types it
        subprocess.run(line, shell=True, check=True, capture_output=True, timeout=120)  # noqa: S602
    stack.compose("up", "--detach", "--wait")
    assert stack.mariadb("SHOW TABLES IN shop").split().count("later") == 1
    docker(
        "run",
        "--rm",
        "-v",
        "/var/lib/docker/volumes:/v",
        "--entrypoint",
        "rm",
        VALKEY,
        "-r",
        f"/v/{NAME}_wiki/_data.recovered",
    )
    shutil.rmtree(stack.directory / "jobs.recovered")
    recover(one, identity=taken.id)
    assert stack.portrait() == before


def test_a_state_that_is_asked_for_undoes_what_was_written_since_and_only_once(stack: Stack) -> None:
    one, before = stack.config(), stack.portrait()
    taken = take(one)
    stack.mariadb("UPDATE shop.orders SET price = 0 WHERE id = 17")
    assert not make(one).needed
    recover(one, identity=taken.id)
    assert stack.portrait() == before
    stack.mariadb("UPDATE shop.orders SET price = 0 WHERE id = 18")
    assert not make(one, identity=taken.id).needed, "it was recovered to that; what was written since stays"
    assert make(one, identity=taken.id, force=True).needed


@pytest.mark.parametrize("name", SCENARIOS["dumps"].faults)
def test_every_fault_of_a_drill_takes_and_comes_back(stack: Stack, name: str) -> None:
    one, before = stack.config(), stack.portrait()
    take(one)
    print(fault.inject(Opened(one), fault.choose(one, "dumps", name), "3", log=say))
    recover(one)
    assert stack.running() == ["app", "db", "jobs", "wiki"]
    # InnoDB writes the counter of a table as the statement ended, or not: after a kill it is that, or the last id.
    counted = re.compile(r" AUTO_INCREMENT=\d+") if name == "killed" else re.compile("(?!)")
    assert [counted.sub("", line) for line in stack.portrait()] == [counted.sub("", line) for line in before]


@pytest.mark.parametrize(
    ("sql", "words"),
    [("CREATE TABLE mysql.x (y NONSENSE);", "the server refuses it"), ("CREATE DATABASE shop;", "is missing")],
    ids=["refused", "next to nothing"],
)
def test_a_dump_that_does_not_restore_leaves_the_living_server_alone(stack: Stack, sql: str, words: str) -> None:
    bad = {"name": "wiki", "service": "wiki", "preset": "mariadb", "take": ["echo", sql]}
    one = stack.config(dumps={"sources": [bad]})
    taken = take(one)
    container, before = stack.container("wiki"), stack.portrait()
    found = {check.name: check for check in prove(one, taken.id)}["restore of wiki"]
    assert (found.result, words in found.detail) == (FAIL, True), found
    made = plan.make(Opened(one), Request(identity=taken.id, force=True, accept=True), log=say)
    done = recovery.recover(Opened(one), made, log=say)
    assert [check.result for check in done.checks if check.subject == "wiki"] == [FAIL]
    assert not done.quarantine
    assert stack.container("wiki") == container
    assert stack.portrait() == before
    assert not (one.state / recovery_state.RECOVERING_DUMPS).exists(), "nothing was changed"


def test_no_process_has_the_password_in_its_words(stack: Stack) -> None:
    """Backup and proof, looked at all the time; a command that has it is seen."""
    seen: set[str] = set()
    ends = threading.Event()

    def look() -> None:
        while not ends.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    words = path.read_bytes().decode("utf-8", "replace")
                    own = HUSH in words and "valkey-server\0--appendonly" in words  # the service's own command
                    if not own and (PASSWORD in words or HUSH in words):
                        seen.add(words[:200])
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        one = stack.config()
        prove(one, take(one).id)
        assert seen == set()
        with subprocess.Popen(["sleep", "1", "--", HUSH], stderr=subprocess.DEVNULL):
            time.sleep(0.3)
        subprocess.run(["sh", "-c", "sleep 0.5", HUSH], check=True)
    finally:
        ends.set()
        watcher.join(10)
    assert seen, "or this would not have been seen either"


def test_a_command_that_never_ends_is_ended_in_its_container(stack: Stack) -> None:
    hangs = {"name": "jobs", "service": "jobs", "preset": "valkey", "take": ["sleep", "4711"], "limit": 20}
    with pytest.raises(Exception, match="sleep did not end in 20 s"):
        take(stack.config(dumps={"sources": [hangs]}))
    time.sleep(0.5)
    assert "4711" not in docker("top", stack.container("jobs"), "-eo", "pid,args")


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on(stack: Stack) -> None:
    one, before, lot = stack.config(), stack.portrait(), random.Random(os.environ.get("SEED", "35"))  # noqa: S311 - a lot, no secret
    take(one)
    path = [entry for entry in sys.path if entry]
    script = RECOVER.format(path=path, settings=stack.settings(), request={})
    told = []
    for moment in ("restoring wiki", "restoring jobs", "quarantined", "starting wiki", "starting jobs"):
        stack.mariadb("DROP TABLE IF EXISTS shop.children; DROP TABLE IF EXISTS shop.orders")
        stack.valkey("FLUSHALL\n")
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as killed:
            assert killed.stdout
            for line in killed.stdout:
                if line.startswith(moment):
                    time.sleep(lot.random() * 0.3)
                    break
            killed.kill()
        ended = ""
        for _again in range(3):
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
            ended = done.stdout.strip().split("\n")[-1]
            if not make(one).needed:
                break
        told.append((moment, ended))
        assert stack.portrait() == before, moment
        assert not (one.state / recovery_state.RECOVERING_DUMPS).exists()
        assert stack.running() == ["app", "db", "jobs", "wiki"]
    print("\n".join(f"killed at {moment!r}: {ended}" for moment, ended in told))


MISSING = [tool for tool in ("age", "age-keygen") if shutil.which(tool) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_an_encrypted_dump_opens_with_its_key_and_no_other(stack: Stack) -> None:
    keys = []
    for name in ("right", "wrong"):
        subprocess.run(["age-keygen", "-o", str(stack.root / name)], check=True, capture_output=True)
        keys.append((stack.root / name).read_text())
    recipient = re.search(r"age1\w+", keys[0])
    assert recipient
    one = stack.config(encryption={"recipients": [recipient[0]], "host_key_days": 0})
    taken = take(one)
    folder = stack.root / "backup" / "dumps" / taken.id
    assert b"CREATE TABLE" not in (folder / "wiki.dump.zst.age").read_bytes()
    assert {check.result for check in prove(one, taken.id, "archive") if check.name == "dump of wiki"} == {
        COULD_NOT_VERIFY
    }
    with pytest.raises(Exception, match="no identity matched"):
        plan.make(Opened(one, keys[1]), Request(), log=say)
    assert [check for check in prove(one, taken.id, "archive", keys[0]) if check.result == FAIL] == []
    assert not plan.make(Opened(one, keys[0]), Request(), log=say).needed
    by_hand = f"age -d -i {stack.root}/right {folder}/wiki.dump.zst.age | zstd -d"
    plain = subprocess.run(["bash", "-o", "pipefail", "-c", by_hand], capture_output=True, check=True).stdout
    assert b"CREATE TABLE `orders`" in plain
