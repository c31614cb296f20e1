# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitHub's API client against a server that answers from the test's own table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import github
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.github import Client, GithubError

TOKEN = "ghp_hunter2hunter2hunter2"


class Server:
    """`answers`: what is said to the requests, in order: (status, headers, body); `asked`: what came."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                status, headers, data = outer.answers.pop(0)
                if status == 0:
                    return  # hangs up without a word
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def say(self, status: int, value: Any = None, **headers: str) -> None:
        data = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        self.answers.append((status, {name.replace("_", "-"): text for name, text in headers.items()}, data))


def listed(identity: int, **more: Any) -> dict[str, Any]:
    """A run, as GitHub has it."""
    return {"id": identity, "head_sha": "abc", "event": "push", "status": "completed", "conclusion": None, **more}


@pytest.fixture
def server() -> Iterator[Server]:
    fake = Server()
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def slept(server: Server) -> list[float]:
    return []


@pytest.fixture
def client(server: Server, slept: list[float]) -> Client:
    return Client(server.url, "acme/shop", TOKEN, patience=30, timeout=5, sleep=slept.append, now=lambda: 1000.0)


def test_it_asks_as_github_wants_to_be_asked(server: Server, client: Client) -> None:
    server.say(200, listed(7))
    assert client.run(7).id == 7
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/repos/acme/shop/actions/runs/7")
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["X-Github-Api-Version"] == github.API_VERSION
    assert TOKEN not in repr(client) and TOKEN not in path


def test_pages_follow_one_another_up_to_the_limit(server: Server, client: Client) -> None:
    link = f'<{server.url}/repos/acme/shop/actions/workflows/pages.yml/runs?page=2>; rel="next", <x>; rel="last"'
    server.say(200, {"workflow_runs": [listed(1), listed(2)]}, Link=link)
    server.say(200, {"workflow_runs": [listed(3)]})
    assert [run.id for run in client.runs("pages.yml", "main")] == [1, 2, 3]
    server.say(200, {"workflow_runs": [listed(1), listed(2)]}, Link=link)
    assert [run.id for run in client.runs("pages.yml", "main", 2)] == [1, 2]
    assert "branch=main&per_page=2" in server.asked[-1][1]


def test_a_next_page_on_another_host_is_not_asked(server: Server, client: Client) -> None:
    server.say(200, {"jobs": []}, Link='<http://elsewhere.example/jobs>; rel="next"')
    with pytest.raises(GithubError, match="on another host"):
        client.jobs(1)


@pytest.mark.parametrize(
    ("status", "body", "reason", "words"),
    [
        (401, {"message": "Bad credentials"}, github.TOKEN, "Give a valid github_token"),
        (403, {"message": "Resource not accessible"}, github.FORBIDDEN, "Give the token the permissions"),
        (404, {"message": "Not Found"}, github.MISSING, "Correct repository and workflow"),
        (422, {"message": "No ref found"}, github.REFUSED, "No ref found"),
        (409, {"message": "already enabled"}, github.REFUSED, "already enabled"),
        (418, b"no json", github.REFUSED, "no reason given"),
    ],
)
def test_why_it_was_refused(server: Server, client: Client, status: int, body: Any, reason: str, words: str) -> None:
    server.say(status, body)
    with pytest.raises(GithubError, match=words) as error:
        client.dispatch("pages.yml", "main", {})
    assert error.value.reason == reason
    assert TOKEN not in str(error.value)
    assert len(server.asked) == 1, "it is not asked again"


def test_reads_are_asked_again_and_writes_are_not(server: Server, client: Client, slept: list[float]) -> None:
    server.say(502, {"message": "Bad Gateway"})
    server.say(0)
    server.say(200, listed(7))
    assert client.run(7).id == 7
    assert slept == [1, 2]
    for _ in range(github.ATTEMPTS):
        server.say(503, {"message": "Unavailable"})
    with pytest.raises(GithubError, match="503: Unavailable") as error:
        client.run(7)
    assert error.value.reason == github.UNREACHABLE
    server.say(502, {"message": "Bad Gateway"})
    with pytest.raises(GithubError):
        client.rerun(7, failed_only=True)
    assert not server.answers


def test_nobody_listens(slept: list[float]) -> None:
    client = Client("http://127.0.0.1:9", "acme/shop", TOKEN, sleep=slept.append, timeout=2)
    with pytest.raises(GithubError, match="refused") as error:
        client.pages()
    assert error.value.reason == github.UNREACHABLE


def test_a_short_limit_is_waited_for_and_a_long_one_is_told(server: Server, client: Client, slept: list[float]) -> None:
    server.say(403, {"message": "secondary rate limit"}, Retry_After="7")
    server.say(201, {})
    client.rerun(7, failed_only=True)
    assert slept == [7]
    server.say(403, {"message": "rate limit exceeded"}, x_ratelimit_remaining="0", x_ratelimit_reset="4600")
    with pytest.raises(GithubError, match=r"it ends at 1970-01-01T01:16:40Z") as error:
        client.run(7)
    assert error.value.reason == github.LIMIT
    server.say(429, {"message": "slow down"})
    with pytest.raises(GithubError, match="slow down"):
        client.run(7)
    assert slept == [7], "23 of 30 seconds were left"


@pytest.mark.slow
def test_a_log_comes_from_another_host_that_never_sees_the_token(server: Server, client: Client) -> None:
    other = Server()
    try:
        server.say(302, None, Location=f"{other.url}/logs/1?signature=x")
        other.say(200, b"the log")
        assert client.job_log(1) == "the log"
        assert "Authorization" not in other.asked[0][2]
        assert "Authorization" in server.asked[0][2]
    finally:
        other.http.shutdown()
        other.http.server_close()
    for _ in range(github.REDIRECTS):
        server.say(302, None, Location="/again")
    with pytest.raises(GithubError, match="again and again"):
        client.job_log(1)


def test_a_log_on_no_web_address_is_not_read(server: Server, client: Client) -> None:
    server.say(302, None, Location="file:///etc/shadow")
    with pytest.raises(GithubError, match="not an http or https address"):
        client.job_log(1)


def test_what_is_not_there_is_none_and_what_is_not_json_is_an_error(server: Server, client: Client) -> None:
    server.say(404, {"message": "Not Found"})
    assert client.pages() is None
    server.say(200, b"<html>a login page</html>")
    with pytest.raises(GithubError, match="is this GitHub's API"):
        client.pages()
    server.say(403, {"message": "no"})
    with pytest.raises(GithubError):
        client.workflow("pages.yml")


DEEP = b"[" * 200_000
MALFORMED: list[tuple[str, str, Any, str]] = [
    ("a list", "run", [], "wants a mapping, has []"),
    ("no id", "run", {**listed(7), "id": None}, "id wants int, has None"),
    ("an id that is text", "run", listed(7, id="7"), "id wants int, has '7'"),
    ("a huge number", "run", listed(10**30), "id has a number beyond 1e+18"),
    ("no commit", "run", {"id": 7}, "lacks head_sha, event, status"),
    ("a conclusion that is a number", "run", listed(7, conclusion=1), "conclusion wants str, has 1"),
    ("a run among others", "runs", {"workflow_runs": [listed(1), 7]}, "workflow_runs[1] wants a mapping, has 7"),
    ("no runs", "runs", {"message": "x"}, "lacks workflow_runs"),
    ("a step", "jobs", {"jobs": [{"id": 1, "name": "b", "steps": [{}]}]}, "jobs[0].steps[0] lacks name"),
    ("a domain", "pages", {"cname": ["x"]}, "cname wants str, has ['x']"),
    ("no state", "workflow", {}, "lacks state"),
    ("nothing", "pages", None, "it is not JSON that can be read"),
    ("not a number", "run", b'{"id": NaN}', "NaN is not a number"),
    ("deep nesting", "run", DEEP, "it is not JSON that can be read"),
    ("deep nesting that parses", "run", b"[" * 60 + b"]" * 60, "it is nested more than 40 levels deep"),
    ("deep nesting in a refusal", "refused", DEEP, "no reason given"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "body", "words"), [case[1:] for case in MALFORMED], ids=[c[0] for c in MALFORMED])
def test_a_malformed_answer_names_the_field(server: Server, client: Client, asked: str, body: Any, words: str) -> None:
    asks = {
        "run": lambda: client.run(7), "runs": lambda: client.runs("pages.yml", "main"), "jobs": lambda: client.jobs(7),
        "pages": client.pages, "workflow": lambda: client.workflow("pages.yml"), "refused": lambda: client.run(7),
    }  # fmt: skip
    server.say(418 if asked == "refused" else 200, body)
    with pytest.raises(GithubError) as error:
        asks[asked]()
    assert words in error.value.cause
    assert ("is this GitHub's API?" in error.value.cause) is (asked != "refused")


@pytest.mark.parametrize("seconds", ["9" * 400, "²", "-1", "1e999"])
def test_a_limit_that_no_clock_shows(server: Server, client: Client, slept: list[float], seconds: str) -> None:
    said = seconds.encode().decode("latin-1")
    server.say(403, {"message": "slow down"}, Retry_After=said, x_ratelimit_remaining="0", x_ratelimit_reset=said)
    with pytest.raises(GithubError, match="403: slow down"):
        client.run(7)
    assert slept == []


@pytest.mark.parametrize("address", ["http://[", "http://x:99999999/", "http://x:port/"])
def test_an_address_that_is_none(server: Server, client: Client, address: str) -> None:
    server.say(302, None, Location=address)
    with pytest.raises(GithubError) as error:
        client.job_log(1)
    assert error.value.reason == github.UNREACHABLE
    server.say(200, {"jobs": []}, Link=f'<{address}>; rel="next"')
    with pytest.raises(GithubError, match="on another host"):
        client.jobs(1)


def test_a_ca_bundle_that_is_not_there() -> None:
    with pytest.raises(LifeboatError, match="Correct ca_bundle"):
        Client("https://api.github.com", "acme/shop", "", ca_bundle="/no/such/file")
