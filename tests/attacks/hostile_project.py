#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: the unprivileged owner of a Compose project has root fetch what he likes, whenever a backup is made.

It uses files and command lines only. His project includes files from the network, and his `.env` switches that on. A
server notes which of them were asked for: a Git repository over two protocols, and an artefact of a registry.

Usage: hostile_project.py product|unprotected DIRECTORY

product: `lifeboat backup config`. unprotected: `docker compose config`, as a backup script calls it. Prints what was
asked for, a line each. Exit 0: something was.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"
STACK = f"attacked-project-{os.getpid()}"  # its lock is the machine's, where others may run this too
REMOTE = {
    "a repository over HTTP": "http://127.0.0.1:{port}/evil.git",
    "a repository over Git's protocol": "git://127.0.0.1:{port}/evil.git",
    "an artefact of a registry": "oci://127.0.0.1:{port}/evil:1",
}
REFUSED = "remote resource is disabled"  # what Compose says where it would have fetched something
SWITCHES = "COMPOSE_EXPERIMENTAL_GIT_REMOTE=true\nCOMPOSE_EXPERIMENTAL_OCI_REMOTE=true\n"


@contextlib.contextmanager
def listening(asked: list[int]) -> Iterator[int]:
    """Its port. It hangs up on everybody, and notes that somebody was there."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # it is closed
                while True:
                    connection, _address = server.accept()
                    asked.append(1)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)  # closed alone, it goes on to listen for the thread in accept()


def command(target: str, directory: Path, project: Path) -> tuple[list[str], dict[str, str]]:
    """What reads the project, and its environment."""
    if target == "unprotected":
        return ["docker", "compose", "--project-directory", str(project), "config", "--quiet"], {**os.environ}
    etc = directory / "etc"
    for made in (etc, directory / "backup"):
        made.mkdir(exist_ok=True)
    settings = {
        "stack": STACK,
        "runtime": {"project_directory": str(project)},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
    }
    (etc / f"{STACK}.json").write_text(json.dumps(settings))
    words = [sys.executable, "-c", CLI, "backup", "config", "--config-directory", str(etc)]
    return words, {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}


def main() -> int:
    target, directory = sys.argv[1], Path(sys.argv[2]).resolve()
    project = directory / "project"
    project.mkdir()
    (project / ".env").write_text(SWITCHES)
    found = []
    for name, place in REMOTE.items():
        asked: list[int] = []
        with listening(asked) as port:
            text = f"include:\n  - {place.format(port=port)}\nservices: {{web: {{image: web}}}}\n"
            (project / "compose.yml").write_text(text)
            words, environment = command(target, directory, project)
            said = subprocess.run(words, check=False, capture_output=True, text=True, env=environment).stderr
        print(said, file=sys.stderr)
        if not asked and REFUSED not in said:
            print("Compose did not read the project, which proves nothing", file=sys.stderr)
            return 2
        found += [name] if asked else []
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main, STACK)
