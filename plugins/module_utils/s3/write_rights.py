# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a key can do that should only read. Nothing is written or deleted to find that out.

A server checks a key's rights before it looks for what the request names. So each request names an upload or a version
that does not exist: a key with the right gets NoSuchUpload or NoSuchVersion, any other key gets AccessDenied.
"""

from __future__ import annotations

import secrets as token
from collections.abc import Mapping
from dataclasses import dataclass

from ..base.errors import LifeboatError
from .bucket import Bucket
from .client import DENIED, UNSUPPORTED, code, status
from .signed import NULL

WRITE, DELETE = "write objects", "delete versions"
_NONE = ("NoSuchUpload", "NoSuchVersion", "NoSuchKey")
_TRIED: Mapping[str, tuple[str, Mapping[str, str], bytes]] = {
    WRITE: ("PUT", {"partNumber": "1"}, b"x"),
    DELETE: ("DELETE", {"versionId": NULL}, b""),
}


@dataclass(frozen=True)
class WriteRights:
    """can: of WRITE and DELETE what the key may do. untried: what could not be tried, and why."""

    can: tuple[str, ...] = ()
    untried: str = ""


def attempt(bucket: Bucket) -> WriteRights:
    """Try the bucket's own key there. Raises nothing that the server says."""
    can, untried = list[str](), list[str]()
    key, upload = f"lifeboat-none-{token.token_hex(8)}", token.token_hex(16)
    for name, (method, query, body) in _TRIED.items():
        about = {**query, "uploadId": upload} if method == "PUT" else query
        try:
            bucket.ask(method, key, about, body=body, attempted=f"try whether the key may {name}")
        except LifeboatError as exc:
            refused = code(exc)
            if refused in DENIED or (name == DELETE and refused in UNSUPPORTED):
                continue
            if refused not in _NONE:
                untried.append(f"{name}: {exc.cause}")
                if not status(exc):  # nobody answers
                    break
                continue
        can.append(name)
    return WriteRights(tuple(can), "; ".join(untried)[:500])
