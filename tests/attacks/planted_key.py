#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a host that may read its backups back for some days lets itself in for ever.

It uses files and command lines only. The file with the host's public key has a second line. `readback`: the host is the
stack's, and the keeper takes its key. `keeper`: the host is the keeper, and the stack's host takes its key.

Usage: planted_key.py product|unprotected readback|keeper DIRECTORY

product: the tasks of the role that read the key and let it in, by ansible-playbook on this machine, with the file of
keys in DIRECTORY. unprotected: the file's content behind the limits, as in `echo "restrict $(cat key.pub)"`. Exit 0: a
key without limits is let in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ended
import yaml

ROOT = Path(__file__).parents[2]
LIMITS = 'restrict,expiry-time="20270101000000Z"'
OWN, PLANTED = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{letter * 44}" for letter in "AB")


def tasks(way: str, directory: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Those of the role from the reading of the key to its writing, without what needs an account and an SSH server."""
    key = directory / "key.pub"
    if way == "keeper":
        role = yaml.safe_load((ROOT / "roles/vault_keeper/tasks/access.yml").read_text())
        slurp = {"name": "read", "ansible.builtin.slurp": {"src": str(key)}, "register": "__vault_keeper_public"}
        wanted = [slurp, *(task for task in role if "Let the keeper's key in" in task["name"])]
        return wanted, {"__vault_keeper_key_line": LIMITS, "vault_keeper_user": "shop"}
    role = yaml.safe_load((ROOT / "roles/vault_readback/tasks/granted.yml").read_text())
    names = ("Read its public half", "not one key", "Let the host's key in")
    wanted = [task for task in role if any(name in task["name"] for name in names)]
    given = {
        "__vault_readback_line": LIMITS, "__vault_readback_key": str(key).removesuffix(".pub"),
        "__vault_readback_keys": str(directory), "vault_readback_user": "shop", "vault_readback_host": "localhost",
    }  # fmt: skip
    return wanted, given


def run(directory: Path) -> str:
    words = ["ansible-playbook", "-i", "localhost,", str(directory / "play.json")]
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(done.stdout + done.stderr, file=sys.stderr)
    return done.stdout + done.stderr


def main() -> int:
    target, way, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    (directory / "key.pub").write_text(f"{OWN} lifeboat\n{PLANTED} lifeboat\n")
    allowed = directory / "shop"
    if target == "unprotected":
        allowed.write_text(f"{LIMITS} {(directory / 'key.pub').read_text().strip()}\n")
    else:
        wanted, given = tasks(way, directory)
        if len(wanted) < 2:
            raise SystemExit("the role has other tasks, which proves nothing")
        for task in wanted:
            if isinstance(copy := task.get("ansible.builtin.copy"), dict):
                copy["dest"] = str(allowed)
        play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": given, "tasks": wanted}]
        (directory / "play.json").write_text(json.dumps(play))
        hostile = (directory / "key.pub").read_text()
        (directory / "key.pub").write_text(f"{OWN} lifeboat-readback-shop\n")
        run(directory)
        if not allowed.exists() or allowed.read_text() != f"{LIMITS} {OWN}\n":
            raise SystemExit("an honest key is not let in, which proves nothing")
        allowed.unlink()
        (directory / "key.pub").write_text(hostile)
        said = run(directory)
        if not allowed.exists() and "is not one line with one ssh-ed25519 key" not in said:
            raise SystemExit("nothing was let in, for another reason, which proves nothing")
    lines = allowed.read_text().splitlines() if allowed.exists() else []
    return 0 if any(not line.startswith("restrict,") for line in lines) else 1


if __name__ == "__main__":
    ended.end(main)
