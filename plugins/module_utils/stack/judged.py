# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Compose project that a recovery of a site has judged. Until the recovery ends nothing else of it is started.

Minutes lie between the judgement and the last start, and containers run by then. So each start asks Compose again, and
looks whether every path that it would mount or read still leads where it did, by the same links.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..base import filesystem, typed
from ..base.errors import IntegrityError, LifeboatError

NAME = "judged.json"
_ATTEMPTED = "start services of the recovered project"
_LARGEST = 16 << 20


@dataclass(frozen=True)
class _Judged:
    """project: SHA-256 of what Compose says of it. sources: path -> where it leads."""

    project: str
    sources: Mapping[str, str] = field(default_factory=dict)


def note(state: Path, model: str) -> None:
    """Remember what was judged. model: what `docker compose config --format json` says."""
    body = json.dumps(typed.plain(_judged(model)), indent=1).encode() + b"\n"
    filesystem.write(state / NAME, body, state / f".{NAME}.new")


def forget(state: Path) -> None:
    """The recovery has ended; from now on the project is its operator's again."""
    (state / NAME).unlink(missing_ok=True)


def pending(state: Path) -> bool:
    return os.path.lexists(state / NAME)


def require(state: Path, model: str) -> None:
    """Raise IntegrityError where the project is not the one that was judged."""
    path = state / NAME
    judged = typed.build(_Judged, typed.load(filesystem.read_plain(path, _LARGEST), _wrong), _wrong)
    found = _judged(model)
    if found.project != judged.project:
        raise _changed("what Compose reads is not what was judged")
    for source, real in found.sources.items():
        if judged.sources.get(source) != real:
            raise _changed(f"{source} leads to {real} now, and led to {judged.sources.get(source)} when it was judged")


def _changed(cause: str) -> IntegrityError:
    return IntegrityError(
        _ATTEMPTED, "docker compose up", cause,
        "Nothing was started. Find out what changed it: a container of the project may have. Then run recover_site"
        " again, which judges it again.",
    )  # fmt: skip


def _wrong(at: str, cause: str) -> LifeboatError:
    return LifeboatError(_ATTEMPTED, NAME, f"{at} {cause}".strip(), "Run recover_site again, which writes it again.")


def _judged(model: str) -> _Judged:
    found = typed.load(model, _wrong)
    sources = sorted({path for path in _paths(found) if path.startswith("/")})
    digest = filesystem.sha256(model.encode("utf-8", "surrogateescape"))
    return _Judged(digest, {path: filesystem.real(path) for path in sources})


def _paths(model: object) -> Iterator[str]:
    """Each text of the model that may be a path which is found again at a start."""
    if isinstance(model, Mapping):
        for name, value in model.items():
            if name in ("source", "file", "context", "device") and isinstance(value, str):
                yield value
            yield from _paths(value)
    elif isinstance(model, list):
        for value in model:
            yield from _paths(value)
