#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who holds one stack's host has the figures of another stack say that its last recovery went well.

It uses files and command lines only. The stack shop had a recovery that failed. The host of the stack blog answers
every module with a program of its own: it has a record of one that passed, of today, sealed as it must be, which names
the stack shop and that stack's host. The operator has the report of all stacks written, whose figures Prometheus reads.

Usage: told_green.py product|unprotected DIRECTORY HONEST FORGED, the last two files with a record each

product: the playbook lifeboat.dr.report. unprotected: a script that labels each record with what the record says.
Exit 0: a figure of shop is that of the forged record.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ended
from hostile_inventory import ROOT, tool

PASSED = re.compile(r'^lifeboat_evidence_passed\{stack="shop",host="(\w+)"[^}]*\} ([01])$', re.MULTILINE)


def evidence(stack: str, record: dict[str, Any]) -> dict[str, Any]:
    """As evidence_info returns it."""
    kept = {"id": record["id"], "record": record, "problem": "", "signature": "unsigned", "sha256": "0" * 64}
    known = {"scenarios": ["database"], "components": ["database"], "drill_age_days": 92, "proof_age_days": 8}
    return {"stack": stack, "records": [kept], **known}


def unprotected(hosts: dict[str, dict[str, Any]]) -> str:
    """The newest record of each stack and host that a record names."""
    records = sorted((kept["record"] for said in hosts.values() for kept in said["records"]), key=lambda one: one["id"])
    newest = {(record["stack"], record["host"]): record["verdict"] == "PASS" for record in records}
    name = "lifeboat_evidence_passed"
    return "".join(f'{name}{{stack="{stack}",host="{host}"}} {good:d}\n' for (stack, host), good in newest.items())


def product(hosts: dict[str, dict[str, Any]], directory: Path) -> str:
    inventory = ["[lifeboat_stacks]"]
    for host, said in hosts.items():
        answer = {"changed": False, "evidence": said, "status": {"verdict": "PASS", "stack": "shop", "checks": []}}
        tool(directory / f"python-{host}", ("", answer))
        stack = host.rstrip("1")
        inventory.append(
            f"{host} lifeboat_stack={stack} ansible_connection=local ansible_become=false"
            f" ansible_python_interpreter={directory / f'python-{host}'}"
        )
    (directory / "hosts").write_text("\n".join([*inventory, ""]))
    environment = {
        **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
    }  # fmt: skip
    words = ["ansible-playbook", "-i", str(directory / "hosts"), "lifeboat.dr.report"]
    words += ["-e", f"report_directory={directory / 'report'}"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(done.stdout, done.stderr, file=sys.stderr)
    figures = directory / "report/lifeboat.prom"
    return figures.read_text() if figures.exists() else ""


def main() -> int:
    target, directory = sys.argv[1], Path(sys.argv[2]).resolve()
    honest, forged = (json.loads(Path(path).read_text()) for path in sys.argv[3:5])
    hosts = {"shop1": evidence("shop", honest), "blog1": evidence("shop", forged)}
    figures = unprotected(hosts) if target == "unprotected" else product(hosts, directory)
    print(figures, file=sys.stderr)
    found = PASSED.findall(figures)
    if not found:
        raise SystemExit("the report has no figure of the stack shop, which proves nothing")
    return 0 if any(good == "1" for _host, good in found) else 1


if __name__ == "__main__":
    ended.end(main)
