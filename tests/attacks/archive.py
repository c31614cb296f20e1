#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who can read the backups looks for secrets in the configuration archive of a stack without recipients.

It uses files and a command line only. A directory that the inventory names has a secret in each of the places in which
an audit found some; the archive is searched for them, unpacked as anybody unpacks it.

Usage: archive.py product|unprotected DIRECTORY

product: `lifeboat backup config`. unprotected: tar, as a backup script calls it. Prints the files whose secret was
found, a line each. Exit 0: there are some.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"
CANARY, OWN = b"canary0123456789", "own/canary+0123456789"
FILES = {
    "database.yml": b"production:\n  password: " + CANARY + b"\n",
    "vars.yaml": b"db_password: '" + CANARY + b"'\n",
    ".env.example": b"DB_PASSWORD=" + CANARY + b"\n",
    "server.key.dist": b"-----BEGIN PRIVATE KEY-----\n" + CANARY + b"\n-----END PRIVATE KEY-----\n",
    "large.conf": b"# nothing\n" * 200_000 + b"secret = " + CANARY + b"\n",
    "base64.conf": base64.b64encode(b"app:" + OWN.encode() + b":x"),
    "percent.conf": b"own%2Fcanary%2B0123456789",
    "credentials": b"[default]\naws_secret_access_key = " + CANARY + b"\n",
    "config": b"users:\n- user:\n    token: " + CANARY + b"\n",
    "deploy.sh": b"git clone https://ghp_" + CANARY + b"@github.com/a/b\n",
    "app.ini": b"url = postgresql://app:" + CANARY + b"@db/shop\n",
}
HARMLESS = {"notes.txt": b"nothing to see\n"}


def unprotected(directory: Path, wanted: Path) -> Path:
    made = directory / "backup.tar.gz"
    subprocess.run(["tar", "-czf", str(made), "-C", "/", str(wanted).lstrip("/")], check=True)
    return made


def product(directory: Path, wanted: Path) -> Path:
    settings = {
        "stack": "attacked-archive",
        "runtime": {"type": "host"},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
        "config": {"files": [str(wanted)]},
    }
    etc = directory / "etc"
    for made in (etc, directory / "backup"):
        made.mkdir()
    (etc / "attacked-archive.json").write_text(json.dumps(settings))
    (etc / "attacked-archive.secrets.json").write_text(json.dumps({"vault_secret_key": OWN}))
    words = [sys.executable, "-c", CLI, "backup", "config", "--config-directory", str(etc)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(done.stdout + done.stderr, file=sys.stderr)
    found = list(directory.glob("backup/config/*/config.tar.gz"))
    if not found:
        raise SystemExit("there is no backup, which proves nothing")
    return found[0]


def main() -> int:
    target, directory = {"product": product, "unprotected": unprotected}[sys.argv[1]], Path(sys.argv[2]).resolve()
    wanted = directory / "named"
    wanted.mkdir()
    for name, content in {**FILES, **HARMLESS}.items():
        (wanted / name).write_bytes(content)
    with tarfile.open(target(directory, wanted)) as archive:
        names = {Path(member.name).name for member in archive if member.isfile()}
    if not names >= set(HARMLESS):
        raise SystemExit("the archive lacks what is harmless, so that it shows nothing")
    found = [name for name in FILES if name in names]
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
