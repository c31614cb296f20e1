#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a server that is given a key sends each request on to another one, which notes what it is sent.

It uses HTTP, command lines and modules only. That of a drill's transactions is redirects.py. Here are the others that
are given a credential: an S3 store, GitHub, a git server, a dead-man's switch.

Usage: sent_on.py CLIENT HOST DIRECTORY

CLIENT: a name of PRODUCT, which is a command or a module of Lifeboat's, or of UNPROTECTED, which is git or Python's own
client, as scripts use them. HOST: where requests are sent on to, localhost or 127.0.0.1; the port is another one in any
case. Prints each request that went there, a line each, with a word on whether it had the key. Exit 0: there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable

import ended
from hostile_archive import CLI
from machine import module, with_modules

STACK = f"attacked-sent-{os.getpid()}"  # its lock is the machine's, where others may run this too
KEY = "canary0123456789"
# How a credential is recognised: an S3 key by its name, which stands beside the signature; of git in base64.
SIGNS = (KEY, "Y2FuYXJ5", "NhbmFyeT", "jYW5hcnk")
URLLIB = """
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Authorization": sys.argv[2]}))
"""
Work = Callable[[str, Path], list[str]]  # the words of a command, which are told an address


class Server(ThreadingHTTPServer):
    """sends_on: where each request is sent on to; empty: it plays a git server. told: what it was sent, whole."""

    def __init__(self, tls: ssl.SSLContext | None, sends_on: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.sends_on = sends_on
        self.told: list[str] = []


class Handler(BaseHTTPRequestHandler):
    # The references of a repository, and then what was asked for over protocol 2.
    ADVERTISED = b"001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0000"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.told.append(f"{self.command} {self.path}\n{self.headers}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        moved = 302 if self.command == "POST" else 307  # urllib takes a POST elsewhere for 302 only
        self.send_response(moved if self.server.sends_on else 200)
        body = b"" if self.server.sends_on else self.ADVERTISED if self.command == "GET" else b"0000"
        if self.server.sends_on:
            self.send_header("Location", f"{self.server.sends_on}{self.path}")
        kind = "advertisement" if self.command == "GET" else "result"
        self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def key_in(told: str) -> bool:
    return any(sign in told for sign in SIGNS)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[int]:
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def tls(directory: Path) -> ssl.SSLContext:
    """A certificate that nobody knows; what is tried here is told not to mind."""
    made = directory / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days"]
    words += ["2", "-subj", "/CN=localhost", "-keyout", str(made), "-out", f"{made}.crt"]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{made}.crt", made)
    return context


def ordinary_client(url: str, _directory: Path) -> list[str]:
    return [sys.executable, "-c", URLLIB, f"{url}/x", KEY]


def ordinary_git(url: str, _directory: Path) -> list[str]:
    told = f"http.{url}/.extraHeader=Authorization: Basic Y2FuYXJ5OmNhbmFyeQ=="
    return ["git", "-c", told, "ls-remote", f"{url}/x.git"]


def settings(directory: Path, **more: object) -> dict[str, object]:
    for name in ("project", "backup"):
        (directory / name).mkdir()
    return {
        "stack": STACK,
        "runtime": {"type": "host", "project_directory": str(directory / "project")},
        "database": {"service": ""},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
        **more,
    }


def command(directory: Path, given: Mapping[str, object], secrets: Mapping[str, str], *words: str) -> list[str]:
    """The command, with a configuration as deploy writes it."""
    (directory / "etc").mkdir()
    for name, data in ((f"{STACK}.json", given), (f"{STACK}.secrets.json", secrets)):
        (directory / "etc" / name).write_text(json.dumps(data))
        (directory / "etc" / name).chmod(0o600)
    return [sys.executable, "-c", CLI, *words, "--config-directory", str(directory / "etc")]


def listing(url: str, directory: Path) -> list[str]:
    given = settings(directory, repository={"type": "s3", "bucket": "b", "endpoint_url": url})
    return command(directory, given, {"s3_access_key": KEY, "s3_secret_key": "secret"}, "list")


def mirror(url: str, directory: Path) -> list[str]:
    objects = {"bucket": "b", "endpoint_url": url}
    given = settings(directory, objects=objects, vault={"objects_bucket": "v", "endpoint_url": url})
    keys = {f"{whose}_{which}_key": KEY for whose in ("objects", "vault") for which in ("access", "secret")}
    return command(directory, given, keys, "backup", "objects")


def deploying(url: str, directory: Path) -> list[str]:
    given = settings(directory, repository={"type": "s3", "bucket": "b", "endpoint_url": url})
    secrets = {"s3_access_key": KEY, "s3_secret_key": "secret"}
    return module(directory, "stack_check_info", {"settings": given, "secrets": secrets, "reach": False})


def github(url: str, directory: Path) -> list[str]:
    site = {
        "url": "http://127.0.0.1:9/",
        "repository": "a/b",
        "api_url": url,
        "remote_url": str(directory / "none.git"),
    }
    return module(directory, "frontend_plan_info", {"settings": settings(directory, frontend=site), "token": KEY})


def git_of_a_frontend(url: str, directory: Path) -> list[str]:
    site = {
        "url": "http://127.0.0.1:9/",
        "repository": "a/b",
        "api_url": "http://127.0.0.1:9",
        "remote_url": f"{url}/x.git",
    }
    return module(directory, "frontend_plan_info", {"settings": settings(directory, frontend=site), "token": KEY})


def git_of_a_backup(url: str, directory: Path) -> list[str]:
    given = settings(directory, config={"repositories": [{"name": "app", "url": f"{url}/x.git"}]})
    return command(directory, given, {"git_token_app": KEY}, "backup", "config")


def heartbeat(url: str, directory: Path) -> list[str]:
    return command(directory, settings(directory), {"heartbeat_url": f"{url}/{KEY}"}, "backup", "config")


UNPROTECTED: Mapping[str, Work] = {"Python's own client": ordinary_client, "git": ordinary_git}
PRODUCT: Mapping[str, Work] = {
    "boto3": listing,
    "signed requests": mirror,
    "a first look at a key": deploying,
    "GitHub": github,
    "git of a frontend": git_of_a_frontend,
    "git of a config backup": git_of_a_backup,
    "a dead-man's switch": heartbeat,
}
OVER_TLS = ("git", "git of a frontend", "git of a config backup")  # a token goes over https only


def main() -> int:
    name, host, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = with_modules({**environment, "GIT_SSL_NO_VERIFY": "1", "HOME": str(directory)})
    context, scheme = (tls(directory), "https") if name in OVER_TLS else (None, "http")
    first, other = Server(context), Server(context)
    with serving(other) as port, serving(first) as own:
        first.sends_on = f"{scheme}://{host}:{port}"
        words = {**UNPROTECTED, **PRODUCT}[name](f"{scheme}://127.0.0.1:{own}", directory)
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
        )
    print(f"{done.stdout}{done.stderr}exit {done.returncode}", file=sys.stderr)
    print("".join(f"asked: {told}" for told in first.told), file=sys.stderr)
    if not any(map(key_in, first.told)):
        raise SystemExit("the server itself was given no key: there was nothing to take")
    if len(first.told) > 20:
        raise SystemExit(f"the server was asked {len(first.told)} times, again and again")
    lines = [f"{told.splitlines()[0].split('?')[0]}{': with the key' if key_in(told) else ''}" for told in other.told]
    print("".join(f"{line}\n" for line in lines), end="")
    return 0 if lines else 1


if __name__ == "__main__":
    ended.end(main, STACK)
