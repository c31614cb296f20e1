# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a static site from outside: does it answer, which commit does it serve, how long is its certificate good."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Callable, Optional
from urllib.parse import urljoin, urlsplit

from ..base import web
from ..base.filesystem import open_below

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
META = "commit"
BODY_LIMIT = 4 << 20
CERTIFICATE_DAYS = 7  # GitHub renews Let's Encrypt's certificates a month before their end


@dataclass(frozen=True)
class Site:
    """status 0: no answer. commit: as the marker tells it, empty where it does not. problem: why it is not well."""

    status: int = 0
    commit: str = ""
    problem: str = ""
    certificate_days: Optional[int] = None

    @property
    def up(self) -> bool:
        return self.status == 200

    def serves(self, commit: str) -> bool:
        """Return whether the site serves that commit. A marker may tell an abbreviated one."""
        return self.up and bool(self.commit) and bool(commit) and commit.startswith(self.commit)


def probe(url: str, marker: str, *, ca_bundle: str = "", timeout: float = 15) -> Site:
    """Read the site's first page and its marker. It never raises for what the site does."""
    base = url if url.endswith("/") else f"{url}/"
    context = web.ssl_context(ca_bundle)
    status, _body, problem = _get(base, context, timeout)
    if status != 200:
        return Site(status, "", problem or f"{base} answers {status}", None)
    days, why = certificate_days(base, context, timeout)
    address = urljoin(base, marker.partition("#")[0])
    status, body, problem = _get(address, context, timeout)
    commit = commit_of(marker, body) if status == 200 else ""
    if not commit:
        problem = problem or (f"{address} answers {status}" if status != 200 else f"{address} tells no commit")
    return Site(200, commit, problem or why, days)


def commit_of(marker: str, data: bytes) -> str:
    """Return the commit in a marker file, by its kind: JSON (the key `commit`, or that after a #), HTML (the meta tag
    of that name), else text that is nothing but the commit. Empty where there is none."""
    name, _sep, key = marker.partition("#")
    text = data.decode("utf-8", "replace")
    found: object = text.strip()
    if name.endswith(".json"):
        try:
            found = json.loads(text)
            for part in (key or META).split("."):
                found = found[part] if isinstance(found, dict) else ""
        except (ValueError, KeyError, RecursionError):
            return ""
    elif name.endswith((".html", ".htm")):
        reader = _Meta(key or META)
        with contextlib.suppress(AssertionError, NotImplementedError):  # what html.parser raises of `<![`
            reader.feed(text)
        found = reader.content
    commit = str(found).strip().lower()
    return commit if _COMMIT.fullmatch(commit) else ""


def commit_in(directory: Path, marker: str) -> str:
    """Return the commit that a built site tells. Who built it may have put a link there, to a device without an end."""
    try:
        with open_below(directory, tuple(marker.partition("#")[0].split("/"))) as file:
            return commit_of(marker, file.read(BODY_LIMIT))
    except OSError:
        return ""


def wait_until(
    what: Callable[[], Optional[str]], seconds: float, *, pause: float, log: Callable[[str], None], waiting_for: str
) -> bool:
    """Ask until it says nothing is missing (None) or the time is up; log what is still missing whenever it changes."""
    deadline, said = time.monotonic() + seconds, ""
    while True:
        missing = what()
        if missing is None:
            return True
        if missing != said:
            log(f"waiting for {waiting_for}: {missing}")
            said = missing
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)


class _Meta(HTMLParser):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.content = name, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        found = dict(attrs)
        if tag == "meta" and found.get("name") == self.name:
            self.content = found.get("content") or ""


def _get(url: str, context: ssl.SSLContext, timeout: float) -> tuple[int, bytes, str]:
    """(status, body, problem). Past caches: Pages lets a CDN keep every file for ten minutes."""
    fresh = f"{url}{'&' if urlsplit(url).query else '?'}lifeboat={time.time_ns()}"
    headers = {"Cache-Control": "no-cache", "User-Agent": "lifeboat"}
    site = web.Http(context, redirects=web.ANYWHERE)
    try:
        answer = site.exchange(fresh, headers=headers, timeout=timeout, most=BODY_LIMIT, of_error=0)
    except web.ERRORS as exc:
        return 0, b"", f"{url}: {getattr(exc, 'reason', None) or exc!r}"
    return answer.status, answer.body, "" if 200 <= answer.status < 300 else f"{url} answers {answer.status}"


def certificate_days(url: str, context: ssl.SSLContext, timeout: float) -> tuple[Optional[int], str]:
    """(days that the certificate is still good for, what is wrong with it); None where the site has none."""
    try:
        end = certificate_end(url, context, timeout)
    except (OSError, ValueError) as exc:
        return None, f"its certificate could not be looked at: {exc}"
    if end is None:
        return None, ""
    days = int((end - time.time()) // 86400)
    return days, f"its certificate ends in {days} days" if days < CERTIFICATE_DAYS else ""


def certificate_end(url: str, context: ssl.SSLContext, timeout: float) -> Optional[int]:
    """Return when a server's certificate ends, in seconds since the epoch; None where it has none. Raises OSError where
    it cannot be looked at, and where it is not good any more."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    with (
        socket.create_connection((parts.hostname, parts.port or 443), timeout) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as wrapped,
    ):
        return ssl.cert_time_to_seconds(str((wrapped.getpeercert() or {}).get("notAfter", "")))
