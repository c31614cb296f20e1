# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blank what a stack keeps secret, in any text that leaves the core: logs, errors, findings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..base import pipeline
from ..base.errors import stripped

_SECRET_NAME = re.compile(
    r"pass|secret|token|credential|api_?key|private|access_?key|signing|salt|dsn|auth|_key$|_url$", re.I
)
_SHORTEST = 5
_IN_URL = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]\s?(.*)")
# Rows of a database do not belong into evidence either: PostgreSQL quotes them in these lines.
_ROWS = re.compile(r"\b(STATEMENT|DETAIL|CONTEXT|QUERY):")


class Redactor:
    """Called with a text, returns it with every secret it knows blanked, in the clear or encoded."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] = re.compile(r"(?!)")
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        for value in values:
            # A key of several lines is told line by line.
            for name in {value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) > 15)}:
                if len(name) >= _SHORTEST:
                    self._known.update(pipeline.faces(name))
        if self._known:
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(name) for name in longest_first))

    def __call__(self, text: str) -> str:
        return pipeline.scrub(self._pattern.sub(pipeline.BLANK, text))

    def lines(self, text: str, count: int, width: int = 300) -> tuple[str, ...]:
        """The last lines of a log, fit for a terminal and the evidence: no secret, no row, no control character."""
        redacted = self(stripped(text.replace("\r", "\n")))
        kept: list[tuple[str, int]] = []
        for line in (part.strip()[:width] for part in redacted.split("\n")):
            if line and not _ROWS.search(line):
                again = bool(kept) and kept[-1][0] == line
                kept[-1:] = [(line, kept[-1][1] + 1)] if again else [*kept[-1:], (line, 1)]
        return tuple(line if times == 1 else f"{line} ({times} times)" for line, times in kept[-count:])

    def one_line(self, text: str, width: int = 300) -> str:
        return " / ".join(self.lines(text, 6))[:width]


def assignments(text: str) -> dict[str, str]:
    """NAME=value lines as Compose and shells write them; what is none is passed over."""
    found = {}
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _ASSIGNMENT.fullmatch(line.rstrip())
        if match:
            value = match.group(2).strip()
            quoted = re.match(r"(['\"])(.*?)\1\s*(#.*)?$", value)
            found[match.group(1)] = quoted.group(2) if quoted else re.sub(r"\s+#.*$", "", value)
    return found


def secrets_of(variables: Mapping[str, object]) -> list[str]:
    """Return the values that look secret: by their variable's name, or a password inside of an address, or a long odd
    word."""
    found = []
    for name, value in variables.items():
        text = str(value if value is not None else "")
        found += _IN_URL.findall(text)
        odd = bool(re.fullmatch(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/=_-]{20,}", text))
        named = _SECRET_NAME.search(name) and len(text) >= _SHORTEST and not re.fullmatch(r"https?://[^@\s]*", text)
        if named or odd:
            found.append(text)
    return found
