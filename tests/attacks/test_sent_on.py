# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is given a key sends each request on to another one, which plays along and notes what it is sent.

That of a drill's transactions is redirects.py. Here are the others that are given a credential: an S3 store, GitHub, a
git server, a dead-man's switch. The controls are git and Python's own client, as scripts use them.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import parts
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import git, github, healthchecks

KEY = "canary0123456789"
# How a credential is recognised: an S3 key by its name, which stands beside the signature; of git in base64.
SIGNS = (KEY, "Y2FuYXJ5", "NhbmFyeT", "jYW5hcnk")


class Server(ThreadingHTTPServer):
    """sends_on: where each request is sent on to; empty: it plays a git server. told: what it was sent, whole."""

    def __init__(self, tls: ssl.SSLContext | None, sends_on: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.sends_on = sends_on
        self.told: list[str] = []

    def was_given_a_key(self) -> bool:
        return any(sign in text for text in self.told for sign in SIGNS)


class Handler(BaseHTTPRequestHandler):
    # The references of a repository, and then what was asked for over protocol 2.
    ADVERTISED = b"001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0000"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.told.append(f"{self.path}\n{self.headers}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(307 if self.server.sends_on else 200)
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


@contextlib.contextmanager
def serving(server: Server) -> Iterator[int]:
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody knows; what is tried here is told not to mind."""
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days"]
    words += ["2", "-subj", "/CN=localhost", "-keyout", str(made), "-out", f"{made}.crt"]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{made}.crt", made)
    return context


def ordinary_client(url: str, _room: Path) -> None:
    headers = {"Authorization": KEY}
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(f"{url}/x", headers=headers))  # noqa: S310 - our own server


def ordinary_git(url: str, _room: Path) -> None:
    told = f"http.{url}/.extraHeader=Authorization: Basic Y2FuYXJ5OmNhbmFyeQ=="
    subprocess.run(["git", "-c", told, "ls-remote", f"{url}/x.git"], check=False, capture_output=True)


def git_of_a_backup(url: str, room: Path) -> None:
    given = config.from_mapping(
        {"stack": "shop", "runtime": {"type": "host"}, "state_directory": str(room),
         "config": {"repositories": [{"name": "app", "url": f"{url}/x.git"}]}}, {"git_token_app": KEY},
    )  # fmt: skip
    parts.git_heads(given.config.repositories[0], given)


def heartbeat(url: str, _room: Path) -> None:
    if said := healthchecks.Switch(f"{url}/{KEY}", patience=60, timeout=60).end("", "x"):
        raise LifeboatError("tell", "the switch", said)


def with_boto3(url: str, _room: Path) -> None:
    with client.spoken("list", "b"):
        client.connect(url, "", KEY, "secret").list_objects_v2(Bucket="b")


def requests(url: str) -> signed.Requests:
    return signed.Requests(url, "", KEY, "secret")


Work = Callable[[str, Path], object]
ORDINARY: dict[str, Work] = {"Python's own client": ordinary_client, "git": ordinary_git}
OURS: dict[str, Work] = {
    "boto3": with_boto3,
    "signed requests": lambda url, _: requests(url).call("GET", "b", "k", attempted="read", subject="b"),
    "a first look at a key": lambda url, _: requests(url).refusal("b"),
    "GitHub": lambda url, _: github.Client(url, "a/b", KEY).pages(),
    "git of a frontend": lambda url, _: git.Remote(f"{url}/x.git", "main", KEY).head(),
    "git of a config backup": git_of_a_backup,
    "a dead-man's switch": heartbeat,
}
OVER_TLS = ("git", "git of a frontend", "git of a config backup")  # a token goes over https only


def sent_on(name: str, work: Work, tls: ssl.SSLContext, room: Path, host: str) -> Server:
    """What the other server was sent, after the first was given the key."""
    context, scheme = (tls, "https") if name in OVER_TLS else (None, "http")
    other = Server(context)
    first = Server(context)
    with serving(other) as port, serving(first) as own:
        first.sends_on = f"{scheme}://{host}:{port}"
        with contextlib.suppress(LifeboatError):
            work(f"{scheme}://127.0.0.1:{own}", room)
    assert first.was_given_a_key(), "there was nothing to take"
    assert len(first.told) < 10, "and it is not asked again and again"
    return other


@pytest.fixture(autouse=True)
def own_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_SSL_NO_VERIFY", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
@pytest.mark.parametrize("name", ORDINARY)
def test_control_ordinary_clients_take_the_key_along(name: str, host: str, tls: ssl.SSLContext, tmp_path: Path) -> None:
    assert sent_on(name, ORDINARY[name], tls, tmp_path, host).was_given_a_key()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
@pytest.mark.parametrize("name", OURS)
def test_ours_ask_nobody_else(name: str, host: str, tls: ssl.SSLContext, tmp_path: Path) -> None:
    other = sent_on(name, OURS[name], tls, tmp_path, host)
    assert not other.was_given_a_key()
    assert other.told == [], "and it is not even asked"
