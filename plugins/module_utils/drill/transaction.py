# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A business transaction: something a user writes through the application and must find again."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Mapping
from typing import Optional
from uuid import uuid4

from ..base import pipeline, web
from ..base.errors import LifeboatError, UnverifiedError
from ..settings.config import Config
from ..settings.parts import RequestSettings, TransactionSettings
from ..stack import answer

PRESENT, LOST, OTHER = "present", "lost", "other"
BROKEN = "broken"  # the application knows of it, and cannot give it back
SECRET = "drill_authorization"
_LONGEST = 1000  # bytes of what an application calls a thing
_LARGEST = 64 << 20
_TIMEOUT = 15


def new_token() -> str:
    return uuid4().hex


def content(token: str, size: int) -> bytes:
    """So many bytes that only this token makes: they prove which write they are of."""
    return hashlib.shake_128(token.encode()).digest(size)


def write(config: Config, transaction: TransactionSettings, token: str) -> str:
    """Do it, and return what the application calls it. Raises LifeboatError where it was not acknowledged."""
    body = _ask(config, transaction, "write", transaction.write, token, "") or b""
    if "{id}" not in transaction.read.url:
        return ""
    try:
        identity = str(json.loads(body)[transaction.id])
        if len(identity.encode()) > _LONGEST:  # it becomes a part of an address
            raise ValueError
        return identity
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        cause = f"the answer has no field {transaction.id}: {pipeline.one_line(body)}"
        raise _failed("write", transaction, cause) from exc


def read(config: Config, transaction: TransactionSettings, token: str, identity: str) -> str:
    """PRESENT; LOST, where the application says that it has none; OTHER, where it has something else under that name.
    Raises LifeboatError where it says neither, UnverifiedError where it says nothing."""
    body = _ask(config, transaction, "read", transaction.read, token, identity)
    if body is None:
        return LOST
    whole = body == content(token, transaction.write.size) if transaction.write.size else token.encode() in body
    return PRESENT if whole else OTHER


def remove(config: Config, transaction: TransactionSettings, token: str, identity: str) -> bool:
    """Take it away again; whether the application did. One that is gone already is no error."""
    return _ask(config, transaction, "remove", transaction.remove, token, identity) is not None


def _ask(
    config: Config, transaction: TransactionSettings, verb: str, settings: RequestSettings, token: str, identity: str
) -> Optional[bytes]:
    """Send the request and return the answer's body; None if there is nothing to read or remove."""
    status, body = _send(config, settings, token, identity)
    if status in (404, 410) and verb != "write":
        return None
    if status != settings.status if settings.status else not 200 <= status < 300:
        raise _failed(verb, transaction, f"status {status}: {pipeline.one_line(body)}")
    return body


def _send(config: Config, settings: RequestSettings, token: str, identity: str) -> tuple[int, bytes]:
    """Send the request and return status and body of the answer, whatever the status."""
    url = settings.url.replace("{token}", token).replace("{id}", urllib.parse.quote(identity, safe=""))
    headers = {str(name): str(value) for name, value in settings.headers.items()}
    data = None
    if settings.size:
        data = content(token, settings.size)
        headers.setdefault("Content-Type", "application/octet-stream")
    elif settings.json is not None:
        data = json.dumps(_filled(settings.json, token, identity)).encode()
        headers.setdefault("Content-Type", "application/json")
    if config.secrets.get(SECRET):
        headers["Authorization"] = config.secrets[SECRET]
    try:
        return answer.send(
            url, method=settings.method, data=data, headers=headers,
            redirects=settings.redirects, timeout=_TIMEOUT, largest=_LARGEST,
        )  # fmt: skip
    except web.ERRORS as exc:
        subject = f"{settings.method} {settings.url}"
        raise UnverifiedError("ask the application", subject, str(exc) or repr(exc), "Is it running?") from exc


def _filled(value: object, token: str, identity: str) -> object:
    if isinstance(value, str):
        return value.replace("{token}", token).replace("{id}", identity)
    if isinstance(value, Mapping):
        return {key: _filled(item, token, identity) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(item, token, identity) for item in value]
    return value


def _failed(verb: str, transaction: TransactionSettings, cause: str) -> LifeboatError:
    remedy = f"Look at lifeboat_drill.transactions, {transaction.name}."
    return LifeboatError(f"{verb} a business transaction", transaction.name, cause, remedy)
