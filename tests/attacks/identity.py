#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who gets a host's disk, by a snapshot of it or after a power cut, looks for the age identity there.

It uses files and Ansible's command line only. Where a moment counts the attacker gets it: the host's Python copies the
directory in which Ansible puts its files before it runs a module, and all that was copied is searched for the key.

Usage: identity.py product|piped|unprotected DIRECTORY

product: a module of the collection that takes the identity, and a connection without pipelining. piped: the same with
pipelining. unprotected: a module with the same option as anybody writes it, without pipelining. Prints the files of
the host that the key was in, a line each. Exit 0: there are some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
KEY = "AGE-SECRET-KEY-1CANARY"
# The interpreter of the host. What comes through the pipe is noted; it is on no disk.
PYTHON = """#!{python}
import shutil, subprocess, sys, tempfile
piped = None if sys.stdin.isatty() or len(sys.argv) > 1 and sys.argv[1] != "-" else sys.stdin.buffer.read()
shutil.copytree("{host}", tempfile.mkdtemp(dir="{seen}"), dirs_exist_ok=True)
with open("{ran}", "a") as ran:
    print("piped" if {key!r} in (piped or b"") else "ran", file=ran)
sys.exit(subprocess.run([{python!r}, *sys.argv[1:]], input=piped).returncode)
"""
MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
AnsibleModule({"stack": {}, "identity": {"no_log": True}}).exit_json()
"""
TARGETS = {
    "product": ("lifeboat.dr.escrow", "false"),
    "piped": ("lifeboat.dr.escrow", "true"),
    "unprotected": ("open_backup", "false"),
}


def run(directory: Path, module: str, pipelining: str) -> str:
    """What Ansible said. Afterwards `seen` has what was on the host, and `ran` a line for each start of its Python."""
    host, seen, library = (directory / name for name in ("host", "seen", "library"))
    for made in (host, seen, library):
        made.mkdir()
    (library / "open_backup.py").write_text(MODULE)
    python = directory / "python"
    python.write_text(
        PYTHON.format(python=sys.executable, host=host, seen=seen, ran=directory / "ran", key=KEY.encode())
    )
    python.chmod(0o755)
    (directory / "vars.json").write_text(json.dumps({"key": KEY}))  # it is the operator's, and not on the host
    words = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-M", str(library), "-m", module]
    words += ["-a", "stack=shop identity={{ key }}", "-e", f"@{directory}/vars.json"]
    words += ["-e", f"ansible_remote_tmp={host} ansible_python_interpreter={python}"]
    environment = {**os.environ, "ANSIBLE_PIPELINING": pipelining, "ANSIBLE_LOCAL_TEMP": str(directory / "local")}
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    return done.stdout + done.stderr


def main() -> int:
    (module, pipelining), directory = TARGETS[sys.argv[1]], Path(sys.argv[2]).resolve()
    said = run(directory, module, pipelining)
    print(said, file=sys.stderr)
    ran = directory / "ran"
    if not ran.exists() and "Could not send the age identity" not in said:
        raise SystemExit("nothing ran on the host and nothing was refused, which proves nothing")
    print(f"the host's Python: {ran.read_text().split() if ran.exists() else 'never'}", file=sys.stderr)
    copied = [path for path in (directory / "seen").rglob("*") if path.is_file()]
    found = sorted({path.name for path in copied if KEY.encode() in path.read_bytes()})
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
