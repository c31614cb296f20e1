"""Somebody else's stack without PostgreSQL: a volume, a directory, SQLite, MariaDB, Valkey. `init` writes its
inventory, it is destroyed with its host, and `recover_site` makes an empty machine of it. Compared by the kernel,
SQLite, mariadb-dump and valkey-cli.

Two machines of its own, which are there as long as this file is tested: neither PostgreSQL nor a bucket is on them.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import IDENTITY, LAB, LANE, ROOT, VAULT, Host, Run, playbook

pytestmark = pytest.mark.long
WIKI, NEW = f"{LANE}-wiki1", f"{LANE}-wiki2"
TREE = (Path(__file__).parents[1] / "tree.py").read_text(encoding="utf-8")
QUIET = {f"{component}_backup_enabled": False for component in ("files", "dumps", "config")}
IMAGES = ("lifeboat-lab/mariadb:11", "lifeboat-lab/valkey:8")
SERVES = """
import sqlite3, time
rows = sqlite3.connect("/srv/media/rows.db", isolation_level=None)
rows.execute("PRAGMA journal_mode = WAL")
rows.execute("CREATE TABLE IF NOT EXISTS page (title TEXT, body TEXT)")
while True:
    time.sleep(1)
"""
FILL = r"""
import os, sqlite3
for top in ("/srv/media", "/srv/uploads"):
    os.makedirs(f"{top}/2026/december", 0o751)
    for number in range(60):
        with open(f"{top}/2026/{number}.bin", "wb") as file:
            file.write(os.urandom(number * 777))
    os.chown(f"{top}/2026/7.bin", 1234, 4321)
    os.chmod(f"{top}/2026/8.bin", 0o4711)
    os.setxattr(f"{top}/2026/8.bin", "user.origin", b"\x00\xff")
    os.utime(f"{top}/2026/9.bin", ns=(1, 1_700_000_000_123_456_789))
    os.link(f"{top}/2026/10.bin", f"{top}/again")
    os.symlink("2026/11.bin", f"{top}/link")
    for name in ("new\nline", os.fsdecode(b"no-utf8-\xff"), "写真"):
        with open(f"{top}/{name}", "w") as file:
            file.write(ascii(name))
    with open(f"{top}/sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"x")
        file.truncate(9 << 20)
with sqlite3.connect("/srv/media/rows.db", timeout=30) as rows:
    rows.execute("CREATE TABLE IF NOT EXISTS page (title TEXT, body TEXT)")
    rows.executemany("INSERT INTO page VALUES (?, ?)", [(f"page {n}", "頁" * n) for n in range(300)])
open("/var/cache/wiki/thumbnail", "w").write("made again where it is missing")
"""
SQL = """
CREATE DATABASE shop; USE shop;
CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(50), price DECIMAL(10,2), b BLOB);
INSERT INTO orders (what, price, b) SELECT CONCAT('品 ', seq), seq / 3, UNHEX(MD5(seq)) FROM seq_1_to_2000;
CREATE VIEW dear AS SELECT what FROM orders WHERE price > 100;
CREATE USER reader@'%' IDENTIFIED BY 'it''s'; GRANT SELECT ON shop.* TO reader@'%';
"""
DUMP = (
    "mariadb-dump", "-uroot", "--databases", "shop", "--hex-blob", "--order-by-primary", "--skip-dump-date",
    "--default-character-set=utf8mb4",
)  # fmt: skip
KEYS = 'SET text "with \\xff bytes"\nRPUSH list 1 2 3\nHSET hash f 1 g 2\nSELECT 3\nSET three there\n'
ASKED = "GET text\nLRANGE list 0 -1\nHGET hash f\nHGET hash g\nDBSIZE\nSELECT 3\nGET three\nDBSIZE\n"


def service(image: str, **more: Any) -> dict[str, Any]:
    return {"image": image, "pull_policy": "never", "init": True, "stop_grace_period": "3s", **more}


def definition(hush: str) -> dict[str, Any]:
    answers = ["CMD-SHELL", "mariadb-admin --host=127.0.0.1 --protocol=tcp ping"]
    return {
        "name": "wiki",
        "services": {
            "web": service(
                "lifeboat-lab/backend:1", entrypoint=["python3", "-c", SERVES], user="0:0",
                depends_on=["pages", "jobs"],
                volumes=["media:/srv/media", "./uploads:/srv/uploads", "cache:/var/cache/wiki"],
            ),
            "pages": service(
                IMAGES[0], environment={"MARIADB_ROOT_PASSWORD_FILE": "/run/secrets/root"}, secrets=["root"],
                command=["--innodb-buffer-pool-size=16M"], volumes=["pages:/var/lib/mysql"],
                healthcheck={"test": answers, "interval": "1s", "retries": 120},
            ),
            "jobs": service(
                IMAGES[1], command=["valkey-server", "--appendonly", "yes", "--requirepass", hush],
                volumes=["jobs:/data"],
            ),
        },
        "volumes": {name: {} for name in ("media", "cache", "pages", "jobs")},
        "secrets": {"root": {"file": "./root.txt"}},
    }  # fmt: skip


class Wiki:
    """The project, on whichever host it is."""

    def __init__(self, host: Host, password: str, hush: str) -> None:
        self.host, self.password, self.hush = host, password, hush

    def compose(self, *argv: str, stdin: str = "") -> str:
        return self.host.run("docker", "compose", "--project-directory", "/srv/wiki", *argv, stdin=stdin)

    def mariadb(self, *argv: str, stdin: str = "") -> list[str]:
        return self.compose("exec", "-T", "-e", f"MYSQL_PWD={self.password}", "pages", *argv, stdin=stdin).splitlines()

    def valkey(self, commands: str) -> list[str]:
        words = ("exec", "-T", "-e", f"REDISCLI_AUTH={self.hush}", "jobs", "valkey-cli", "--no-raw")
        return self.compose(*words, stdin=commands).splitlines()

    def start(self) -> None:
        self.host.run("mkdir", "-p", "/srv/wiki/uploads")
        # MariaDB's own user reads root.txt through its mount, as it does in the official image.
        texts = {"compose.yml": (json.dumps(definition(self.hush)), "077"), "root.txt": (f"{self.password}\n", "022")}
        for name, (text, mask) in texts.items():
            self.host.run("sh", "-c", 'umask "$1"; cat > "/srv/wiki/$0"', name, mask, stdin=text)
        self.compose("up", "--detach", "--wait", "--pull", "never")
        self.compose("exec", "-T", "web", "python3", "-", stdin=FILL)
        self.mariadb("mariadb", "-uroot", "--default-character-set=utf8mb4", stdin=SQL)
        self.valkey(KEYS)

    def portrait(self) -> list[str]:
        volume = self.host.run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "wiki_media").strip()
        accounts = "SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2"
        return [
            *self.host.python(TREE, volume, "/srv/wiki/uploads").splitlines(),
            *self.mariadb(*DUMP),
            *self.mariadb("mariadb", "-uroot", "-N", "-B", stdin=accounts),
            *self.valkey(ASKED),
        ]


def boot(name: str, image: str, *words: str) -> Host:
    """A machine in the lane's network, as the lab makes its own."""
    subprocess.run(
        ["docker", "run", "--detach", "--name", name, "--hostname", name, "--privileged", "--cgroupns", "private",
         "--label", f"lifeboat.lab={LAB}", "--network", LAB, "--tmpfs", "/run", "--tmpfs", "/run/lock", *words,
         f"lifeboat-lab/{image}:trixie"],
        capture_output=True, check=True,
    )  # fmt: skip
    host = Host(name)
    deadline = time.monotonic() + 90
    while host.probe("systemctl", "is-system-running").stdout.strip() not in ("running", "degraded"):
        assert time.monotonic() < deadline, f"systemd has not started on {name}"
        time.sleep(0.5)
    return host


def remove(name: str) -> None:
    subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
    subprocess.run(["docker", "volume", "rm", f"{LAB}-{name}-docker"], capture_output=True, check=False)


def filled(*words: str) -> None:
    argv = [sys.executable, str(ROOT / "tests/lab/volumes.py"), *words]
    subprocess.run(argv, stdout=subprocess.PIPE, check=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Host, Host]]:
    for name in (WIKI, NEW):
        remove(name)
    images = [sys.executable, str(ROOT / "tests/lab/images.py"), "--check"]
    told = subprocess.run(images, stdout=subprocess.PIPE, text=True, check=True)
    filled("--lab", LAB, "--cache", json.loads(told.stdout)["cache"], WIKI)
    try:
        wiki = boot(WIKI, "host", "--volume", f"{LAB}-{WIKI}-docker:/var/lib/docker")
        filled("--load", *IMAGES, "--", WIKI)
        yield wiki, boot(NEW, "spare")
    finally:
        for name in (WIKI, NEW):
            remove(name)


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    reached = {
        "ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_pipelining": True, "ansible_become": False,
    }  # fmt: skip
    groups = {
        "wiki": {"hosts": {WIKI: None, NEW: None}},
        "lifeboat_stacks": {"hosts": {WIKI: None}},
        "lifeboat_spares": {"hosts": {NEW: None}},
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": reached, "children": groups}}))
    (folder / "group_vars").mkdir()
    return folder


def run(inventory: Path, name: str, **extra: object) -> Run:
    done = playbook(f"lifeboat.dr.{name}", inventories=(str(inventory),), seconds=1800, **extra)
    assert done.status == 0, f"{name}: {done.said}"
    return done


def mounts_of(host: Host) -> tuple[str, str]:
    _code, seen = host.lifeboat("status", "--stack", "wiki")
    (check,) = (check for check in seen["checks"] if check["name"] == "mounts")
    return check["result"], check["detail"]


def test_everything_comes_back_on_an_empty_machine(machines: tuple[Host, Host], inventory: Path) -> None:
    host, new = machines
    wiki = Wiki(host, secrets.token_urlsafe(16), secrets.token_urlsafe(16))
    wiki.start()
    before = wiki.portrait()
    for words in ("user.origin", "INSERT INTO `orders`", 'INSERT INTO "page"', "SQLite", "with \\xff bytes"):
        assert [line for line in before if words in line], f"{words} is not compared"

    variables = inventory / "group_vars" / "wiki.yml"
    run(inventory, "init", stack_file=str(variables))
    written = yaml.safe_load(variables.read_text(encoding="utf-8"))
    assert written["lifeboat_database"] is False
    assert {source["name"] for source in written["lifeboat_files"]["sources"]} == {"uploads", "media", "cache"}
    presets = {source["service"]: source["preset"] for source in written["lifeboat_dumps"]["sources"]}
    assert presets == {"pages": "mariadb", "jobs": "valkey"}
    keys = IDENTITY.parent
    written |= {
        "lifeboat_repository": {"type": "local", "path": "/backup"},
        "lifeboat_vault": {"endpoint_url": f"http://{VAULT}:8333", "repository_bucket": "wiki-repository"},
        "lifeboat_config": {"recipients": [(keys / "age.pub").read_text().strip()], "images": "archive"},
        "lifeboat_secrets": {
            "vault_access_key": "lifeboat", "vault_secret_key": (keys / "vault_secret_key").read_text().strip(),
        },
    }  # fmt: skip
    variables.touch(mode=0o600)
    variables.write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")
    run(inventory, "deploy", **QUIET)
    assert mounts_of(host)[0] == "PASS", "init protects all of it"

    # To delete a line is the choice; it is named until he says why, and after that too.
    sources = written["lifeboat_files"]["sources"]
    written["lifeboat_files"]["sources"] = [source for source in sources if source["name"] != "cache"]
    written["lifeboat_mounts"] = {"exclude": [{"name": "cache", "reason": "thumbnails, made again"}]}
    variables.write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")
    run(inventory, "deploy", **QUIET)
    result, detail = mounts_of(host)
    assert (result, "excluded by name" in detail, "cache" in detail) == ("PASS", True, True), detail
    run(inventory, "backup")
    run(inventory, "verify")

    remove(WIKI)
    new.run("apt-get", "install", "--yes", "--no-install-recommends", "python3-boto3", "age")  # to read it for the plan
    plan = run(inventory, "recover_site", target=NEW, identity_file=str(IDENTITY))
    assert plan.changed == 0 and "cache" in plan.said, "what is in no backup by choice is named before it is confirmed"
    recovered = run(inventory, "recover_site", target=NEW, confirm=NEW, identity_file=str(IDENTITY), **QUIET)
    record = recovered.result("record | Record the evidence")["record"]
    assert record["verdict"] == "PASS", recovered.said
    assert {"files", "dumps"} <= {phase["name"] for phase in record["phases"]}
    back = Wiki(new, wiki.password, wiki.hush)
    assert back.portrait() == before, "every file, owner, mode, time, attribute, row and key"
    again = run(inventory, "recover_site", target=NEW, confirm=NEW, identity_file=str(IDENTITY), **QUIET)
    assert again.changed == 0, again.changed_tasks
