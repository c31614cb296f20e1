# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a stack is rehearsed: what a business transaction is, and how much may be lost. A part of the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Optional

from ..base.typed import Range

PRODUCTION = "production"
REHEARSED = "drill"  # the only environment in which anything is ever broken on purpose
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class RequestSettings:
    """One HTTP request. `{token}` is a word that no other transaction has, `{id}` what the application called it.

    `json`: its body; or `size`: a body of so many bytes, made of the token. `status` 0: any of 200 to 299.
    """

    url: str = ""
    method: str = "GET"
    json: Optional[Mapping[str, object]] = None
    size: Annotated[int, Range(0, 10**9)] = 0
    headers: Mapping[str, object] = field(default_factory=dict)
    status: int = 0


@dataclass(frozen=True)
class TransactionSettings:
    """Something that a user does and must find again. `id`: the field of the write's JSON answer that names it.

    What `read` answers must hold the token; where `write` sent `size` bytes, it must be those bytes. `remove`, where it
    is given, takes it away again when a drill is over.
    """

    name: str = ""
    write: RequestSettings = field(default_factory=RequestSettings)
    read: RequestSettings = field(default_factory=RequestSettings)
    remove: RequestSettings = field(default_factory=RequestSettings)
    id: str = "id"


@dataclass(frozen=True)
class DrillSettings:
    """`transactions` empty: no drill can pass, as nobody knows what the application is for. `rate`: writes a second
    while a drill runs. `rpo_target_seconds`: how much time may be lost; daily backups promise a day.

    Secret: drill_authorization, sent as the header Authorization.
    """

    transactions: tuple[TransactionSettings, ...] = ()
    rate: Annotated[int, Range(1, 100)] = 5
    rpo_target_seconds: Annotated[int, Range(1, 10**9)] = 24 * 3600


def problems(drill: DrillSettings) -> Iterator[tuple[str, str]]:
    """(the setting's name with a dot before it, what is wrong with its value)."""
    names = [transaction.name for transaction in drill.transactions]
    for number, transaction in enumerate(drill.transactions):
        where = f".transactions[{number}]"
        if not transaction.name or names.count(transaction.name) > 1:
            yield f"{where}.name", f"{transaction.name!r}: a name is not empty, and used once"
        parts = {"write": transaction.write, "read": transaction.read, "remove": transaction.remove}
        for which, asked in parts.items():
            if which == "remove" and not asked.url:
                continue
            if not asked.url.startswith(("http://", "https://")) or "@" in asked.url.split("?")[0]:
                yield f"{where}.{which}.url", "wants an http or https address without a password in it"
            if asked.method not in METHODS or (asked.method == "DELETE") > (which == "remove"):
                yield f"{where}.{which}.method", f"{asked.method!r} is not one of {', '.join(METHODS)}"
            if asked.json is not None and asked.size:
                yield f"{where}.{which}", "has a body of json or of size bytes, not both"
        if transaction.write.json is None and not transaction.write.size and "{token}" not in transaction.write.url:
            yield f"{where}.write", "{token} is nowhere in it: nobody could tell afterwards what it wrote"
