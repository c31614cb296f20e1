"""The five minutes of docs/first-steps.md, as written there: each command is typed, and what it prints is compared.

A machine of its own, reached over SSH as an unprivileged user whose sudo asks for a password, once with pipelining and
once without. It has a Compose project with a secret in a file. Only names, paths and addresses differ: REPLACED.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support import LAB, README, ROOT, Host, Stack

FILES = ROOT / "molecule/foreign_stack/files"
PIPELINING = ["with pipelining", "without pipelining"]
ROWS = """
CREATE TABLE entry (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), body text NOT NULL);
INSERT INTO entry (body) SELECT md5(g::text) FROM generate_series(1, 50000) g;
"""
USER = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq --no-install-recommends install sudo >/dev/null 2>&1
useradd --create-home --shell /bin/bash --groups sudo admin
install -d -m 0700 -o admin -g admin /home/admin/.ssh
cat > /home/admin/.ssh/authorized_keys
chown admin: /home/admin/.ssh/authorized_keys
"""
GONE = """
docker compose --project-directory /srv/shop down --volumes --timeout 2 2>/dev/null
rm -rf /srv/shop /etc/lifeboat /etc/cron.d/lifeboat* /var/lib/lifeboat /var/log/lifeboat /backup /usr/local/bin/lifeboat
"""


@dataclass(frozen=True)
class Block:
    """One block of code. path: the file that its first line names; typed: its commands, each with what it prints."""

    path: str
    text: str
    typed: tuple[tuple[str, tuple[str, ...]], ...]


def blocks(page: str, heading: str) -> list[Block]:
    text = Path(ROOT, page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [block(language, body) for language, body in found]


def block(language: str, body: str) -> Block:
    """A block that is neither a file nor a list of commands is one that this test does not know how to follow."""
    lines = body.splitlines()
    if language == "yaml":
        assert lines[0].startswith("# inventories/mine/"), f"it is not said which file this is: {body}"
        return Block(lines[0].removeprefix("# "), body, ())
    assert language == "", f"a block of {language}: {body}"
    if not any(line.startswith("$ ") for line in lines):
        return Block("", body, tuple((line, ()) for line in lines))
    assert lines[0].startswith("$ "), f"output without a command: {body}"
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return Block("", body, tuple((part.splitlines()[0], tuple(filter(None, part.splitlines()[1:]))) for part in parts))


def pattern(line: str) -> str:
    """What a printed line may differ in: numbers, times, ids, the unit of a size, and what is left out as `…`."""
    words = re.escape(" ".join(line.split())).replace(re.escape("…"), ".*").replace(r"\ ", r"\s+")
    words = re.sub(r"\b[kM]B\b", "[kMG]?B", words)
    return re.sub(r"\d(?:[\d_:T]|\\[.\-]\d)*Z?", lambda _number: r"\\d[\\d_:T.\\-]*Z?".replace("\\\\", "\\"), words)


def misprinted(expected: tuple[str, ...], said: str, command: str) -> list[str]:
    """Compared line by line, in that order; between two lines is nothing but where a line is `…`."""
    wanted = "\n".join(pattern(line) if line != "…" else ".*" for line in expected)
    wanted = wanted.replace("\n.*\n", r"\n(?:.*\n)*?").removeprefix(".*\n").removesuffix("\n.*")
    printed = re.search(rf"^\s*{wanted}\s*?$", said, re.MULTILINE)
    return [] if printed else [f"{command}\nshould print\n{wanted}\nand prints\n{said}"]


@dataclass(frozen=True)
class Operator:
    """Somebody at a terminal on the controller."""

    home: Path
    environment: dict[str, str]
    replaced: tuple[tuple[str, str], ...]

    def typed(self, command: str) -> str:
        for here, there in self.replaced:
            command = command.replace(here, there)
        return command

    def run(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", f"source .venv/bin/activate 2>/dev/null; {self.typed(command)}"],
            cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=1800, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def does(self, command: str) -> str:
        status, said = self.run(command)
        assert status == 0, f"{command} ended with {status}\n{said}"
        return said

    def path(self, name: str) -> Path:
        return Path(self.typed(name))


@pytest.fixture(scope="module")
def machine() -> Iterator[Host]:
    """Fresh, with the images of the lab's stack in its engine; SSH answers on a port of this machine."""
    remove()
    told = subprocess.run(
        [sys.executable, ROOT / "tests/lab/images.py", "--check"], stdout=subprocess.PIPE, text=True, check=True
    )
    cache = json.loads(told.stdout)["cache"]
    volumes = [sys.executable, ROOT / "tests/lab/volumes.py", "--lab", LAB, "--cache", cache, README]
    subprocess.run(volumes, stdout=subprocess.PIPE, check=True)
    subprocess.run(
        ["docker", "run", "--detach", "--name", README, "--hostname", "shop1", "--privileged", "--cgroupns", "private",
         "--label", f"lifeboat.lab={LAB}", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--publish", "127.0.0.1::22",
         "--volume", f"{LAB}-{README}-docker:/var/lib/docker", "lifeboat-lab/host:trixie"],
        capture_output=True, check=True,
    )  # fmt: skip
    host = Host(README)
    deadline = time.monotonic() + 60
    while host.probe("systemctl", "is-system-running").stdout.strip() not in ("running", "degraded"):
        assert time.monotonic() < deadline, "systemd has not started"
        time.sleep(0.5)
    yield host
    remove()


def remove() -> None:
    subprocess.run(["docker", "rm", "--force", "--volumes", README], capture_output=True, check=False)
    subprocess.run(["docker", "volume", "rm", f"{LAB}-{README}-docker"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def account(machine: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of who may log in: `key`, `known`, `password` of sudo, and `port`."""
    folder = tmp_path_factory.mktemp("account")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    machine.run("sh", "-c", USER, stdin=(folder / "key.pub").read_bytes())
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(secrets.token_urlsafe(16))
    machine.run("chpasswd", stdin=f"admin:{(folder / 'password').read_text()}\n")
    said = subprocess.run(["docker", "port", README, "22/tcp"], capture_output=True, text=True, check=True).stdout
    port = said.split()[0].rpartition(":")[2]
    (folder / "port").write_text(port)
    key = machine.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    (folder / "known").write_text(f"shop1 {' '.join(key)}\n")
    return folder


@pytest.fixture(params=[PIPELINING[0], pytest.param(PIPELINING[1], marks=pytest.mark.long)])
def operator(request: pytest.FixtureRequest, account: Path, tmp_path: Path) -> Operator:
    """The password of sudo comes from a file, or from the inventory; it is in no command."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE", "MOLECULE", "LIFEBOAT"))
    }
    environment |= {
        "ANSIBLE_PRIVATE_KEY_FILE": str(account / "key"),
        # The example's names stand for this machine's port: an address of one's own is no remote host to Ansible.
        "ANSIBLE_SSH_COMMON_ARGS": f"-o HostName=127.0.0.1 -o HostKeyAlias=shop1 -o UserKnownHostsFile={account}/known",
        "ANSIBLE_REMOTE_USER": "admin",
        "ANSIBLE_REMOTE_PORT": (account / "port").read_text(),
    }
    if request.param == PIPELINING[0]:
        environment["ANSIBLE_BECOME_PASSWORD_FILE"] = str(account / "password")
    else:
        environment["ANSIBLE_PIPELINING"] = "False"
    replaced = (("$PWD/inventories/mine", "inventories/mine"), ("inventories/mine", str(tmp_path / "mine")))
    return Operator(tmp_path, environment, replaced)


@pytest.fixture
def shop(machine: Host) -> Iterator[Stack]:
    """The project of somebody who has never heard of Lifeboat."""
    machine.run("sh", "-c", f"{GONE} true")
    machine.run("mkdir", "/srv/shop")
    for name, target in (("shop.yml", "compose.yml"), ("web.py", "web.py")):
        machine.run("sh", "-c", f"cat > /srv/shop/{target}", stdin=(FILES / name).read_bytes())
    password = secrets.token_urlsafe(16)
    machine.run("sh", "-c", "umask 077; cat > /srv/shop/password; chmod 0444 /srv/shop/password", stdin=password)
    machine.run("docker", "compose", "--project-directory", "/srv/shop", "up", "--detach", "--wait", "--pull", "never")
    stack = Stack(
        machine, directory="/srv/shop", project="shop", service="db", user="shop", database="shop", password=password
    )
    stack.sql(ROWS)
    assert machine.http("GET", "http://127.0.0.1:8000/health") == (200, {"rows": 50000})
    yield stack


def describe(operator: Operator, account: Path) -> None:
    """In hosts.yml the group that looks like it is kept and its host is named; the others go, with their files."""
    mine = operator.path("inventories/mine")
    path = mine / "hosts.yml"
    inventory = yaml.safe_load(path.read_text(encoding="utf-8"))
    groups = inventory["all"]["children"]
    for group in [name for name in groups if name != "shop" and not name.startswith("lifeboat_")]:
        for host in groups.pop(group)["hosts"]:
            for members in (groups["lifeboat_stacks"]["hosts"], groups["lifeboat_spares"]["hosts"]):
                members.pop(host, None)
        for file in (mine / "group_vars").glob(f"{group}*"):
            subprocess.run(["rm", "-r", file], check=True)
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    if "ANSIBLE_BECOME_PASSWORD_FILE" not in operator.environment:
        own = mine / "host_vars" / "shop1.yml"
        own.parent.mkdir()
        own.touch(mode=0o600)
        own.write_text(yaml.safe_dump({"ansible_become_password": (account / "password").read_text()}))


def test_the_five_minutes(operator: Operator, account: Path, machine: Host, shop: Stack) -> None:
    before = shop.portrait()
    # What somebody does between the commands, by the command that it comes before.
    between: dict[str, Callable[[], object]] = {
        "ansible-playbook -i inventories/mine lifeboat.dr.deploy": lambda: describe(operator, account),
        "ansible-playbook -i inventories/mine lifeboat.dr.recover_database": lambda: shop.sql("DROP TABLE entry;"),
    }
    followed, wrong = 0, []
    for block in blocks("docs/first-steps.md", "Five minutes on your own stack"):
        if block.path:
            operator.path(block.path).write_text(block.text, encoding="utf-8")
        for command, expected in block.typed:
            between.pop(command, lambda: None)()
            print(f"$ {command}", flush=True)
            said = operator.does(command)
            print(said, flush=True)
            wrong += misprinted(expected, said, command)
            followed += 1
    assert not wrong, "\n\n".join(wrong)
    assert followed >= 7
    assert not between, f"the page has no such command any more: {list(between)}"
    assert shop.portrait() == before
    assert machine.http("GET", "http://127.0.0.1:8000/health") == (200, {"rows": 50000})


@pytest.mark.long
@pytest.mark.parametrize("operator", PIPELINING[:1], indirect=True)
def test_without_a_key_deploy_says_what_to_provide(
    operator: Operator, account: Path, machine: Host, shop: Stack
) -> None:
    """With the inventory that lifeboat.dr.init wrote, which leaves the key to its reader."""
    operator.does("cp -r inventories/example inventories/mine")
    describe(operator, account)
    variables = operator.path("inventories/mine/group_vars/shop.yml")
    variables.unlink()
    ((command, _printed),) = blocks("docs/quickstart.md", "Let it be written")[0].typed
    assert "/srv/shop/password" in operator.does(command), "init names the secrets that will be in no backup"
    said = operator.does("ansible-playbook -i inventories/mine lifeboat.dr.deploy")
    assert "lifeboat_config.recipients names no key" in said
    assert "/srv/shop/password" in said
    assert shop.password not in said
    assert machine.lifeboat("backup")[0] == 0
    code, proved = machine.lifeboat("verify")
    gaps = [check for check in proved["checks"] if check["result"] != "PASS"]
    assert (code, [check["name"] for check in gaps]) == (3, ["config: secrets"])
    code, seen = machine.lifeboat("status")
    same = {check["name"]: check["detail"] for check in seen["checks"] if check["result"] != "PASS"}
    same.pop("config images", "")  # the lab's are in no registry
    assert "/srv/shop/password" in same.pop("mounts"), "it is mounted, and in no backup"
    proof = same.pop("config proof")
    assert (code, same) == (3, {"config secrets": gaps[0]["detail"]})
    assert proof.endswith(f"could not be proved: secrets: {gaps[0]['detail']}"), "it is verified, and not to be again"


def test_a_line_or_block_that_is_not_as_in_the_readme_is_seen() -> None:
    expected = ("shop1 | PASS  tables  1 tables, 50000 rows", "…", "shop1 | kept: the old database as …")
    said = "shop1 | PASS  tables  2 tables, 7 rows\nmore\nshop1 | kept:    the old database as shop_1\n"
    assert misprinted(expected, said, "recover") == []
    for old, new in (("PASS", "FAIL"), ("kept", "lost"), ("rows", "rows at least"), ("shop1 | PASS", "shop | PASS")):
        assert misprinted(expected, said.replace(old, new), "recover"), new
    for language, body in (("json", "{}"), ("yaml", "lifeboat_stack: shop"), ("", "output\n$ command")):
        with pytest.raises(AssertionError):
            block(language, body)
