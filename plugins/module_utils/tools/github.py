# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few endpoints of GitHub's REST API that a recovery needs. Says why it was refused; the token goes nowhere else.

https://docs.github.com/rest; the requests are held against GitHub's OpenAPI by tests/unit/test_forge.py.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional
from urllib.parse import quote, urlencode, urljoin, urlsplit

from ..base.errors import UnverifiedError, UsageError
from ..base.version import VERSION

ATTEMPTS = 3
REDIRECTS = 5
BODY_LIMIT = 32 << 20
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


class GithubError(UnverifiedError):
    """`reason` is one of the words above."""

    def __init__(self, reason: str, attempted: str, subject: str, cause: str) -> None:
        self.reason = reason
        super().__init__(attempted, subject, cause, _REMEDY[reason])


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would send the token along to wherever it is sent on."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ssl_context(ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as exc:
        raise UsageError("read the CA certificates", ca_bundle, exc.strerror or str(exc), "Correct ca_bundle.") from exc


def origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class Client:
    """One repository. `patience`: seconds in all that may be spent waiting for a rate limit to end."""

    def __init__(
        self,
        api_url: str,
        repository: str,
        token: str,
        *,
        ca_bundle: str = "",
        patience: float = 120,
        timeout: float = 20,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._api = api_url.rstrip("/")
        self._base = f"{self._api}/repos/{repository}"
        self._token = token
        self._patience, self._timeout, self._sleep, self._now = patience, timeout, sleep, now
        self._opener = urllib.request.build_opener(
            _NoRedirects, urllib.request.HTTPSHandler(context=ssl_context(ca_bundle))
        )

    # --- what is asked ------------------------------------------------------------------------------------------------

    def pages(self) -> Optional[dict[str, Any]]:
        """The Pages site; None where the repository has none."""
        return self._optional("look at GitHub Pages", "/pages")

    def make_pages(self) -> None:
        self._json("POST", "/pages", {"build_type": "workflow"}, attempted="switch GitHub Pages on")

    def set_domain(self, domain: str) -> None:
        self._json("PUT", "/pages", {"cname": domain or None}, attempted="set the custom domain")

    def workflow(self, name: str) -> Optional[dict[str, Any]]:
        return self._optional("look at the workflow", f"/actions/workflows/{quote(name, safe='')}")

    def runs(self, workflow: str, branch: str, limit: int = 100) -> list[dict[str, Any]]:
        """The newest runs of a workflow on a branch, newest first."""
        query = urlencode({"branch": branch, "per_page": min(limit, 100)})
        path = f"/actions/workflows/{quote(workflow, safe='')}/runs?{query}"
        found: list[dict[str, Any]] = []
        for page in self._paged(path, "list the workflow's runs"):
            found += page["workflow_runs"]
            if len(found) >= limit:
                break
        return found[:limit]

    def run(self, identity: int) -> dict[str, Any]:
        found: dict[str, Any] = self._json("GET", f"/actions/runs/{identity}", attempted="look at the run")
        return found

    def jobs(self, identity: int) -> list[dict[str, Any]]:
        """The jobs of a run's last attempt."""
        pages = self._paged(f"/actions/runs/{identity}/jobs?filter=latest&per_page=100", "list the run's jobs")
        return [job for page in pages for job in page["jobs"]]

    def job_log(self, identity: int) -> str:
        """A job's log. GitHub answers with the address of another host, which must not see the token."""
        url, attempted = f"{self._base}/actions/jobs/{identity}/logs", "read the job's log"
        for _redirect in range(REDIRECTS):
            answer = self._ask("GET", url, None, attempted)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer.body.decode("utf-8", "replace")
            url = urljoin(url, answer.headers.get("location", ""))
        raise GithubError(UNREACHABLE, attempted, url, "it is redirected again and again")

    def rerun(self, identity: int, *, failed_only: bool) -> None:
        path = f"/actions/runs/{identity}/" + ("rerun-failed-jobs" if failed_only else "rerun")
        self._json("POST", path, {}, attempted="run the workflow again")

    def dispatch(self, workflow: str, branch: str, inputs: Mapping[str, str]) -> None:
        path = f"/actions/workflows/{quote(workflow, safe='')}/dispatches"
        self._json("POST", path, {"ref": branch, "inputs": dict(inputs)}, attempted="start the workflow")

    # --- how it is asked ----------------------------------------------------------------------------------------------

    def _optional(self, attempted: str, path: str) -> Optional[dict[str, Any]]:
        try:
            found: dict[str, Any] = self._json("GET", path, attempted=attempted)
        except GithubError as exc:
            if exc.reason == MISSING:
                return None
            raise
        return found

    def _paged(self, path: str, attempted: str) -> Iterator[dict[str, Any]]:
        url = self._base + path
        while url:
            answer = self._ask("GET", url, None, attempted)
            yield self._parsed(answer, attempted, url)
            following = _NEXT.search(answer.headers.get("link", ""))
            url = following[1] if following else ""
            if url and origin(url) != origin(self._api):
                raise GithubError(UNREACHABLE, attempted, url, "the next page is said to be on another host")

    def _json(self, method: str, path: str, body: Any = None, *, attempted: str) -> Any:
        answer = self._ask(method, self._base + path, body, attempted)
        return self._parsed(answer, attempted, path)

    @staticmethod
    def _parsed(answer: _Answer, attempted: str, subject: str) -> Any:
        if not answer.body:
            return None
        try:
            return json.loads(answer.body)
        except ValueError as exc:
            raise GithubError(UNREACHABLE, attempted, subject, "the answer is not JSON: is this GitHub's API?") from exc

    def _ask(self, method: str, url: str, body: Any, attempted: str) -> _Answer:
        """One request, again where that can help: reads that met a 5xx or no answer, anything that met a rate limit."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._send(method, url, body)
            except (OSError, http.client.HTTPException) as exc:
                if method != "GET" or attempt == ATTEMPTS:
                    cause = getattr(exc, "reason", None) or str(exc) or repr(exc)
                    raise GithubError(UNREACHABLE, attempted, url, str(cause)) from exc
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

    def _limited(self, answer: _Answer) -> Optional[float]:
        """Seconds until a rate limit ends; None where it was none. https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"""
        if answer.status not in (403, 429):
            return None
        after, reset = answer.headers.get("retry-after", ""), answer.headers.get("x-ratelimit-reset", "")
        if after.isdigit():
            return float(after)
        if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
            return max(1.0, float(reset) - self._now())
        return 60.0 if answer.status == 429 else None

    def _send(self, method: str, url: str, body: Any) -> _Answer:
        headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": f"lifeboat/{VERSION}",
        }
        if self._token and origin(url) == origin(self._api):
            headers["Authorization"] = f"Bearer {self._token}"
        if not url.startswith(("https://", "http://")):
            raise OSError(f"{url!r} is not an http or https address")
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=data, method=method, headers=headers)  # noqa: S310 - looked at above
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return _Answer(answer.status, _lower(answer.headers), answer.read(BODY_LIMIT))
        except urllib.error.HTTPError as exc:
            with exc:
                return _Answer(exc.code, _lower(exc.headers), exc.read(1 << 20))


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _reason(status: int) -> str:
    known = {401: TOKEN, 403: FORBIDDEN, 404: MISSING, 409: REFUSED, 422: REFUSED}
    return known.get(status, UNREACHABLE if status >= 500 else REFUSED)


def _message(answer: _Answer) -> str:
    try:
        said = str(json.loads(answer.body)["message"])
    except (ValueError, LookupError, TypeError):
        said = "no reason given"
    return " ".join(said.split())[:300]
