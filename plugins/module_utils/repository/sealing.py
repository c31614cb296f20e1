# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that carries its own seal, so that an edit is noticed: manifests, recovery points, evidence."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeVar

from ..base import typed
from ..base.errors import IntegrityError, LifeboatError, UsageError

VERSION = (1, 0)


class Sealed(ABC):
    """A dataclass that is written once, with the seal of its content in it; `what` and `remedy` are for errors."""

    schema: ClassVar[str]
    what: ClassVar[str]
    remedy: ClassVar[str]
    id: str
    stack: str
    taken_at: datetime

    @property
    @abstractmethod
    def written_at(self) -> datetime:
        """When it was written, which is not before the time that it is of."""

    def _body(self) -> dict[str, object]:
        return {"schema": self.schema, "version": list(VERSION), **typed.plain(self, nulls=True)}

    @property
    def seal(self) -> str:
        return seal(self._body())

    def to_bytes(self) -> bytes:
        body = self._body()
        return render({**body, "seal": seal(body)})

    @classmethod
    def error(cls, id: str, cause: str) -> IntegrityError:
        return IntegrityError(f"read the {cls.what}", id, cause, cls.remedy)


def render(body: Mapping[str, object]) -> bytes:
    text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # a name's byte that is not UTF-8 becomes JSON's own escape


def seal(body: Mapping[str, object]) -> str:
    """SHA-256 over the canonical JSON of everything but the seal: an edited manifest no longer matches itself."""
    unsealed = {key: value for key, value in body.items() if key != "seal"}
    return hashlib.sha256(json.dumps(unsealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class _Head:
    schema: str
    version: tuple[int, ...]
    seal: str = ""


S = TypeVar("S", bound=Sealed)


def unseal(kind: type[S], data: bytes, id: str, file: str) -> S:
    """What to_bytes() wrote. IntegrityError when it is broken, edited or another's, UsageError when it is too new."""

    def unlike(field: str, cause: str) -> LifeboatError:
        return kind.error(id, f"it is not a {kind.what}: {f'{field} {cause}'.strip()}")

    def wrong(field: str, cause: str) -> LifeboatError:
        return kind.error(id, f"{file}: {f'{field} {cause}'.strip()}")

    body = typed.load(data, unlike)
    head = typed.build(_Head, body, unlike, unknown="ignore")
    if head.schema != kind.schema:
        raise kind.error(id, f"its schema is {head.schema!r}, not {kind.schema!r}")
    if head.version[:1] != VERSION[:1]:
        if not head.version:
            raise unlike("version", "is empty")
        cause = f"its schema has version {head.version[0]}; this Lifeboat reads version {VERSION[0]}"
        remedy = "Upgrade Lifeboat on this host (lifeboat.dr.deploy), then try again."
        raise UsageError(f"read the {kind.what}", id, cause, remedy)
    if render(body) != data:  # a byte more or less outside the values would not break the seal
        raise kind.error(id, "its bytes are not as they were written")
    if head.seal != seal(body):
        raise kind.error(id, "it was edited: its seal does not match its content")
    found = typed.build(kind, body, wrong, unknown="ignore")
    if found.id != id:
        raise kind.error(id, f"it is the {kind.what} {found.id}")
    return found
