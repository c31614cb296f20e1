# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every phase of a recovery does around the core, in a module and in the command: options in, result out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NoReturn, Optional, TypedDict, TypeVar

from ..base import clock, pipeline, typed
from ..base.errors import Log, UsageError
from ..settings.config import Config

T = TypeVar("T")


class Option(TypedDict, total=False):
    """One option, as Ansible's argument_spec has it."""

    type: str
    required: bool
    default: object
    choices: Sequence[str]
    elements: str
    no_log: bool


Options = Mapping[str, Option]
_HALF = re.compile("[\udc80-\udcff]")
_NO_WORD = 16  # letters, from which on a secret is no word

# Options that several modules have; plugins/doc_fragments/options.py has their words, under the same names.
IDENTITY: Options = {"identity": {"type": "str", "default": "", "no_log": True}}
TARGET: Options = {
    "recovery_point": {"type": "str", "default": "latest"},
    "recovery_time": {"type": "str", "default": ""},
}
INSTANT: Options = {"before": {"type": "str", "default": ""}, "timeline": {"type": "int", "default": 0}}
ACCEPT: Options = {"accept": {"type": "str", "choices": ["", "failed"], "default": ""}}
HOLD: Options = {"hold": {"type": "bool", "default": False}}
RESTORE: Options = {
    "place": {
        "type": "str",
        "choices": ["auto", "repository", "vault", "repository_versions", "vault_versions"],
        "default": "auto",
    },
    "force": {"type": "bool", "default": False},
    "stamp": {"type": "str", "default": ""},
}


@dataclass(frozen=True)
class Diff:
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Result:
    """What a module returns. facts: its own values, a frozen dataclass; a field that is None is left out.

    A module that goes on after its own phase says in `phase` and `log` what belongs to that.
    """

    facts: object
    changed: bool = False
    diff: Optional[Diff] = None

    def values(self, secrets: Sequence[str]) -> dict[str, object]:
        """For Ansible. secrets: what no text of it may hold."""
        diff = {} if self.diff is None else {"diff": _text(typed.plain(self.diff), secrets)}
        facts = {name: _text(value, secrets) for name, value in typed.plain(self.facts).items()}
        return {**facts, "changed": self.changed, **diff}


class Failed(Exception):
    """A phase was carried out, and its answer is no: what a module would end with."""

    def __init__(self, message: str, values: Mapping[str, object]) -> None:
        super().__init__(message)
        self.values = values


class Step:
    """One phase on a host: its options, the stack's configuration, and a log that ends in the result."""

    ansible = ""  # its version, where Ansible runs the phase

    def __init__(
        self, config: Config, params: Mapping[str, Any], *, check: bool, say: Log, began: Optional[clock.Clock] = None
    ) -> None:
        self.clock = began or clock.start()
        self.params = params
        self.check = check
        self.now = self.clock.started_at
        self.lines: list[str] = []
        self.config = config
        self._say = say

    def log(self, message: str) -> None:
        """Log a message at once, so that who follows sees a long phase go on."""
        said = pipeline.scrub(message, self.config.secrets)
        self.lines.append(said)
        self._say(said)

    def plan(self, kind: type[T], module: str) -> T:
        """Return the option `plan`: what that module returned."""
        remedy = f"Give what lifeboat.dr.{module} returned as plan."
        return typed.build(kind, self.params["plan"], partial(UsageError, "read the plan", remedy=remedy))

    def before(self) -> Optional[datetime]:
        """Return the option `recovery_time` of TARGET: nothing later is to be chosen."""
        return clock.parse_time(self.params["recovery_time"]) if self.params["recovery_time"] else None

    @property
    def accept(self) -> bool:
        """Return the option of ACCEPT: a backup that is named may be used although its verification failed."""
        return bool(self.params["accept"] == "failed")

    @property
    def holds(self) -> bool:
        """Return the option of HOLD: the plan is going to be carried out, and not in check mode."""
        return bool(self.params["hold"]) and not self.check

    def values(self, result: Result) -> dict[str, object]:
        """Return the result as Ansible gets it."""
        return result.values(unmistakable(self.config))

    def ended(self) -> dict[str, object]:
        """Return what each result has besides: its log, and when it was, from which evidence takes its timeline."""
        return {"log": self.lines, "phase": typed.plain(self.clock.phase())}

    def fail(self, msg: str, result: Result) -> NoReturn:
        """Fail with the result: the phase was carried out, and its answer is no."""
        msg = pipeline.scrub(msg, self.config.secrets)
        raise Failed(msg, {**self.ended(), **self.values(result)})


def added(lines: Iterable[str]) -> Diff:
    """Return the diff of a module that only adds."""
    return Diff(after="".join(f"{line}\n" for line in lines))


def unmistakable(known: Config) -> list[str]:
    """Return the stack's secrets as they may be told, but those that its settings have too, and short words: in a plan
    such a word is a name, by which a recovery goes."""
    shown = repr(known)  # without the secrets
    found: list[str] = []
    for name, secret in known.secrets.items():
        word = len(secret) < (_NO_WORD if secret.isalpha() else pipeline.SECRET_LENGTH)
        if not word and not name.endswith("access_key") and secret not in shown:
            found += pipeline.faces(secret)
    return found


def _text(value: object, secrets: Sequence[str]) -> object:
    """Ansible takes no text with a byte that is not UTF-8, as a database's name may have: it becomes `\\xe9`."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, pipeline.BLANK)
        return _HALF.sub(lambda half: f"\\x{ord(half.group()) & 0xFF:02x}", value)
    if isinstance(value, Mapping):
        return {_text(key, secrets): _text(item, secrets) for key, item in value.items()}
    return [_text(item, secrets) for item in value] if isinstance(value, (list, tuple)) else value
