# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that carries its own seal, so that whoever edits it is found out: manifests, recovery points, evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..base.errors import IntegrityError, UsageError

VERSION = (1, 0)


def sealed(body: Mapping[str, Any]) -> bytes:
    """The bytes to keep of `body`, its seal in them."""
    return _render({**body, "seal": seal(body)})


def _render(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()


def seal(body: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything but the seal: an edited manifest no longer matches itself."""
    unsealed = {key: value for key, value in body.items() if key != "seal"}
    return hashlib.sha256(json.dumps(unsealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def unseal(data: bytes, schema: str, *, attempted: str, subject: str, remedy: str) -> dict[str, Any]:
    """The body of what sealed() wrote. IntegrityError when it is broken or edited, UsageError when it is too new."""
    try:
        body: dict[str, Any] = json.loads(data)
        major = int(body["version"][0])
        known = body["schema"] == schema
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as exc:
        what = schema.rpartition("/")[2].replace("-", " ").replace("backup", "manifest")
        raise IntegrityError(attempted, subject, f"it is not a {what}: {exc!r}", remedy) from exc
    if not known:
        raise IntegrityError(attempted, subject, f"its schema is {body['schema']!r}, not {schema!r}", remedy)
    if major != VERSION[0]:
        raise UsageError(
            attempted,
            subject,
            f"its schema has version {major}; this Lifeboat reads version {VERSION[0]}",
            "Upgrade Lifeboat on this host (lifeboat.dr.deploy), then try again.",
        )
    if _render(body) != data:  # a byte more or less outside the values would not break the seal
        raise IntegrityError(attempted, subject, "its bytes are not as they were written", remedy)
    if body.get("seal") != seal(body):
        raise IntegrityError(attempted, subject, "it was edited: its seal does not match its content", remedy)
    return body
