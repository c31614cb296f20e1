# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in for GitHub as plain threads, with a site to look at: no Node, no containers."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import github_schema
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.github import Client, Run

sys.path.insert(0, str(github_schema.FORGE))
import forge as stand_in  # a program of the lab, not a package

TOKEN = "token-of-the-lab"
WORKFLOW = """
"on":
  push: {branches: [main]}
  workflow_dispatch: {inputs: {ref: {default: ""}}}
jobs:
  build:
    steps:
      - uses: actions/checkout@v5
        with: {ref: "${{ inputs.ref }}"}
      - name: Build
        run: sh ./build.sh
      - uses: actions/upload-pages-artifact@v4
        with: {path: dist}
  deploy:
    needs: build
    steps:
      - name: Deploy
        uses: actions/deploy-pages@v4
"""
BUILD = """mkdir dist
git rev-parse HEAD > dist/version.txt
cp page.html dist/index.html || exit 1
[ -z "$BROKEN" ] || { echo "error: $BROKEN"; exit 1; }
"""


def git(where: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@localhost")
    return subprocess.run(("git", "-C", str(where), *who, *words), capture_output=True, text=True, check=True).stdout


class Site(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        return


class Lab:
    """The stand-in as plain threads, and a client whose every request and answer is judged. said: the last answer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: Any = None
        work = root / "source"
        (work / ".github/workflows").mkdir(parents=True)
        (work / ".github/workflows/pages.yml").write_text(WORKFLOW, encoding="utf-8")
        (work / "build.sh").write_text(BUILD, encoding="utf-8")
        (work / "page.html").write_text("<h1>Shop</h1>", encoding="utf-8")
        self.work = work
        bare = root / "git" / stand_in.OWNER / f"{stand_in.NAME}.git"
        git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        git(work, "init", "--quiet", "--initial-branch=main")
        git(work, "remote", "add", "origin", str(bare))
        self.hook = bare / "hooks" / "post-receive"
        self.push("first")
        logs = stand_in.serve(0, stand_in.log_handler(root), "127.0.0.1")
        self.forge = stand_in.Forge(root, "http://localhost/", f"http://127.0.0.1:{logs.server_address[1]}")
        self.api = stand_in.Api(self.forge, TOKEN, "")
        server = stand_in.serve(0, stand_in.handler(self.api), "127.0.0.1")
        self.api.url = f"http://127.0.0.1:{server.server_address[1]}"
        site = stand_in.serve(0, functools.partial(Site, directory=str(root / "pages/hosts/localhost")), "127.0.0.1")
        self.site = f"http://127.0.0.1:{site.server_address[1]}/"
        self.servers = (logs, server, site)
        self.client = self.judged(TOKEN)
        self.listen()

    def judged(self, token: str) -> Client:
        client = Client(self.api.url, f"{stand_in.OWNER}/{stand_in.NAME}", token, sleep=lambda _: None)
        real = client._send

        def send(method: str, url: str, body: Any) -> Any:
            answer = real(method, url, body)
            if url.startswith(self.api.url):
                target = url.removeprefix(self.api.url)
                github_schema.judge_request(method, target, body)
                self.said = json.loads(answer.body) if answer.body else None
                github_schema.judge_answer(method, target, answer.status, self.said, answer.headers)
            return answer

        client._send = send  # type: ignore[method-assign]
        return client

    def listen(self) -> None:
        """From now on a push starts the workflow."""
        program = github_schema.FORGE / "forge.py"
        self.hook.write_text(f"#!/bin/sh\nexec {sys.executable} {program} pushed {self.api.url}\n", encoding="utf-8")
        self.hook.chmod(0o755)

    def push(self, message: str) -> str:
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--allow-empty", "--message", message)
        git(self.work, "push", "--quiet", "origin", "main")
        return git(self.work, "rev-parse", "HEAD").strip()

    def pushed(self) -> None:
        self.api.lab("pushed", b"")

    def settled(self) -> Run:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            newest = self.client.runs("pages.yml", "main", 5)[0]
            if newest.status == "completed":
                return newest
            time.sleep(0.02)
        raise AssertionError("the run did not end")

    def served(self) -> str:
        return (self.root / "pages/hosts/localhost/version.txt").read_text(encoding="utf-8").strip()

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """lifeboat_frontend for this lab."""
        return {
            "url": self.site,
            "repository": f"{stand_in.OWNER}/{stand_in.NAME}",
            "api_url": self.api.url,
            "remote_url": str(self.root / "git" / stand_in.OWNER / f"{stand_in.NAME}.git"),
            "directory": ".",
            "build": [["sh", "./build.sh"]],
            "marker": "version.txt",
            "timeout": 10,
            "rate_limit_patience": 1,
            **changes,
        }

    def break_build(self) -> str:
        """A commit that does not build: the page is gone."""
        (self.work / "page.html").unlink()
        (self.work / "notes.txt").write_text("written with the broken commit", encoding="utf-8")
        broken = self.push("Break the build")
        assert self.settled().conclusion == "failure"
        return broken
