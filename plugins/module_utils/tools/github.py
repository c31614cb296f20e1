# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few endpoints of GitHub's REST API that a recovery needs. Says why it was refused; the token goes nowhere else.

https://docs.github.com/rest; the requests are held against GitHub's OpenAPI by tests/unit/test_forge.py.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Callable, Optional, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from ..base import typed, web
from ..base.errors import UnverifiedError
from ..base.version import VERSION

T = TypeVar("T")
ATTEMPTS = 3
REDIRECTS = 5
BODY_LIMIT = 32 << 20
TIMEOUT = 20  # seconds
API_VERSION = "2022-11-28"
# Why a request was not answered with what was asked for.
UNREACHABLE, TOKEN, FORBIDDEN, LIMIT, MISSING, REFUSED = (
    "unreachable", "token invalid", "forbidden", "rate limited", "not found", "refused",
)  # fmt: skip
_REMEDY = {
    UNREACHABLE: "See https://www.githubstatus.com and this host's network, then run it again.",
    TOKEN: "Give a valid github_token (lifeboat_secrets, or GITHUB_TOKEN in the environment), then run it again.",
    FORBIDDEN: "Give the token the permissions Actions, Contents and Pages: read and write, then run it again.",
    LIMIT: "Wait until then, then run it again.",
    MISSING: "Correct repository and workflow in lifeboat_frontend; to a token without leave GitHub shows nothing.",
    REFUSED: "",
}
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_SECONDS = re.compile(r"[0-9]{1,11}")  # no clock shows more


class GithubError(UnverifiedError):
    """`reason` is one of the words above."""

    def __init__(self, reason: str, attempted: str, subject: str, cause: str) -> None:
        self.reason = reason
        super().__init__(attempted, subject, cause, _REMEDY[reason])


@dataclass(frozen=True)
class Pages:
    """The Pages site. cname: the custom domain. status: of its newest build; None before the first."""

    cname: Optional[str] = None
    status: Optional[str] = None


@dataclass(frozen=True)
class Workflow:
    state: str


@dataclass(frozen=True)
class Run:
    """A run of a workflow. conclusion: None until it has ended."""

    id: int
    head_sha: str
    event: str
    status: str
    conclusion: Optional[str] = None
    run_attempt: int = 1
    run_number: int = 0


@dataclass(frozen=True)
class Step:
    name: str
    conclusion: Optional[str] = None


@dataclass(frozen=True)
class Job:
    """conclusion: None until it has ended."""

    id: int
    name: str
    conclusion: Optional[str] = None
    steps: Optional[tuple[Step, ...]] = ()


@dataclass(frozen=True)
class _Runs:
    workflow_runs: tuple[Run, ...]


@dataclass(frozen=True)
class _Jobs:
    jobs: tuple[Job, ...]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port; nothing of what is not an address."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", "", 0


class Client:
    """One repository. `patience`: seconds in all that may be spent waiting for a rate limit to end."""

    def __init__(
        self, api_url: str, repository: str, token: str, *, ca_bundle: str = "", patience: float = 120,
        timeout: float = TIMEOUT, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._api = api_url.rstrip("/")
        self._base = f"{self._api}/repos/{repository}"
        self._token = token
        self._patience, self._timeout, self._sleep, self._now = patience, timeout, sleep, now
        self._http = web.Http(web.ssl_context(ca_bundle))  # a redirect would take the token along

    # --- what is asked ------------------------------------------------------------------------------------------------

    def pages(self) -> Optional[Pages]:
        """The Pages site; None where the repository has none."""
        return self._optional(Pages, "/pages", "look at GitHub Pages")

    def make_pages(self) -> None:
        self._write("POST", "/pages", {"build_type": "workflow"}, "switch GitHub Pages on")

    def set_domain(self, domain: str) -> None:
        self._write("PUT", "/pages", {"cname": domain or None}, "set the custom domain")

    def workflow(self, name: str) -> Optional[Workflow]:
        return self._optional(Workflow, f"/actions/workflows/{quote(name, safe='')}", "look at the workflow")

    def runs(self, workflow: str, branch: str, limit: int = 100) -> list[Run]:
        """The newest runs of a workflow on a branch, newest first."""
        query = urlencode({"branch": branch, "per_page": min(limit, 100)})
        path = f"/actions/workflows/{quote(workflow, safe='')}/runs?{query}"
        found: list[Run] = []
        for page in self._paged(_Runs, path, "list the workflow's runs"):
            found += page.workflow_runs
            if len(found) >= limit:
                break
        return found[:limit]

    def run(self, identity: int) -> Run:
        return self._read(Run, f"/actions/runs/{identity}", "look at the run")

    def jobs(self, identity: int) -> list[Job]:
        """The jobs of a run's last attempt."""
        path = f"/actions/runs/{identity}/jobs?filter=latest&per_page=100"
        return [job for page in self._paged(_Jobs, path, "list the run's jobs") for job in page.jobs]

    def job_log(self, identity: int) -> str:
        """A job's log. GitHub answers with the address of another host, which must not see the token."""
        url, attempted = f"{self._base}/actions/jobs/{identity}/logs", "read the job's log"
        for _redirect in range(REDIRECTS):
            answer = self._ask("GET", url, None, attempted)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer.body.decode("utf-8", "replace")
            try:
                url = urljoin(url, answer.headers.get("location", ""))
            except ValueError as exc:
                raise GithubError(UNREACHABLE, attempted, url, f"it is redirected to no address: {exc}") from exc
        raise GithubError(UNREACHABLE, attempted, url, "it is redirected again and again")

    def rerun(self, identity: int, *, failed_only: bool) -> None:
        path = f"/actions/runs/{identity}/" + ("rerun-failed-jobs" if failed_only else "rerun")
        self._write("POST", path, {}, "run the workflow again")

    def dispatch(self, workflow: str, branch: str, inputs: Mapping[str, str]) -> None:
        path = f"/actions/workflows/{quote(workflow, safe='')}/dispatches"
        self._write("POST", path, {"ref": branch, "inputs": dict(inputs)}, "start the workflow")

    # --- how it is asked ----------------------------------------------------------------------------------------------

    def _optional(self, kind: type[T], path: str, attempted: str) -> Optional[T]:
        try:
            return self._read(kind, path, attempted)
        except GithubError as exc:
            if exc.reason == MISSING:
                return None
            raise

    def _read(self, kind: type[T], path: str, attempted: str) -> T:
        return _built(kind, self._ask("GET", self._base + path, None, attempted), attempted, path)

    def _paged(self, kind: type[T], path: str, attempted: str) -> Iterator[T]:
        url = self._base + path
        while url:
            answer = self._ask("GET", url, None, attempted)
            yield _built(kind, answer, attempted, url)
            following = _NEXT.search(answer.headers.get("link", ""))
            url = following[1] if following else ""
            if url and origin(url) != origin(self._api):
                raise GithubError(UNREACHABLE, attempted, url, "the next page is said to be on another host")

    def _write(self, method: str, path: str, body: Mapping[str, object], attempted: str) -> None:
        answer = self._ask(method, self._base + path, body, attempted)
        if answer.body:
            typed.load(answer.body, _wrong(attempted, path))

    def _ask(self, method: str, url: str, body: Optional[Mapping[str, object]], attempted: str) -> web.Answer:
        """One request, again where that can help: reads that met a 5xx or no answer, anything that met a rate limit."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._send(method, url, body)
            except web.ERRORS as exc:
                if method != "GET" or attempt == ATTEMPTS:
                    raise GithubError(UNREACHABLE, attempted, url, web.cause(exc)) from exc
                self._sleep(attempt)
                continue
            if answer.status < 400:
                return answer
            wait = self._limited(answer)
            if wait is not None:
                if wait > self._patience or attempt == ATTEMPTS:
                    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now() + wait))
                    raise GithubError(LIMIT, attempted, url, f"{_message(answer)}; it ends at {until}")
                self._patience -= wait
                self._sleep(wait)
                continue
            if answer.status >= 500 and method == "GET" and attempt < ATTEMPTS:
                self._sleep(attempt)
                continue
            raise GithubError(_reason(answer.status), attempted, url, f"{answer.status}: {_message(answer)}")
        raise AssertionError("the last attempt returns or raises")

    def _limited(self, answer: web.Answer) -> Optional[float]:
        """Seconds until a rate limit ends; None where it was none. https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"""
        if answer.status not in (403, 429):
            return None
        after, reset = answer.headers.get("retry-after", ""), answer.headers.get("x-ratelimit-reset", "")
        if _SECONDS.fullmatch(after):
            return float(after)
        if answer.headers.get("x-ratelimit-remaining") == "0" and _SECONDS.fullmatch(reset):
            return max(1.0, float(reset) - self._now())
        return 60.0 if answer.status == 429 else None

    def _send(self, method: str, url: str, body: Optional[Mapping[str, object]]) -> web.Answer:
        headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": f"lifeboat/{VERSION}",
        }
        if self._token and origin(url) == origin(self._api):
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        return self._http.exchange(
            url, data, headers, method=method, timeout=self._timeout, most=BODY_LIMIT, of_error=1 << 20
        )


def _wrong(attempted: str, subject: str) -> typed.Wrong:
    return lambda field, cause: GithubError(
        UNREACHABLE, attempted, subject, f"{f'{field} {cause}'.strip()}: is this GitHub's API?"
    )


def _built(kind: type[T], answer: web.Answer, attempted: str, subject: str) -> T:
    """What GitHub answered; of its many fields those that we use."""
    wrong = _wrong(attempted, subject)
    return typed.build(kind, typed.load(answer.body, wrong), wrong, unknown="ignore")


def _reason(status: int) -> str:
    known = {401: TOKEN, 403: FORBIDDEN, 404: MISSING, 409: REFUSED, 422: REFUSED}
    return known.get(status, UNREACHABLE if status >= 500 else REFUSED)


def _message(answer: web.Answer) -> str:
    try:
        said = str(json.loads(answer.body)["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        said = "no reason given"
    return " ".join(said.split())[:300]
