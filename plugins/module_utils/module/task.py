# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module does around the core: arguments in, result or a clear failure out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Callable, NoReturn, Optional, TypeVar

from ansible.module_utils.basic import AnsibleModule

from ..base import clock, pipeline, progress, typed
from ..base.errors import LifeboatError, UsageError
from ..settings import config
from ..settings.scenarios import SCENARIOS
from ..stack import hook_debts

T = TypeVar("T")
_HALF = re.compile("[\udc80-\udcff]")
_NO_WORD = 16  # letters, from which on a secret is no word
_COMMON = {
    "stack": {"type": "str", "default": ""},
    "config_directory": {"type": "path", "default": str(config.DIRECTORY)},
    "settings": {"type": "dict"},
    "secrets": {"type": "dict", "no_log": True},
    "seal": {"type": "str", "default": ""},
}

# Options that several modules have; plugins/doc_fragments/options.py has their words, under the same names.
IDENTITY = {"identity": {"type": "str", "default": "", "no_log": True}}
WAIT = {"wait": {"type": "int", "default": 0}}
TARGET = {"recovery_point": {"type": "str", "default": "latest"}, "recovery_time": {"type": "str", "default": ""}}
ACCEPT = {"accept": {"type": "str", "choices": ["", "failed"], "default": ""}}
ALLOW = {"allow": {"type": "list", "elements": "str", "default": []}}
HOLD = {"hold": {"type": "bool", "default": False}}
RESTORE = {
    "place": {
        "type": "str",
        "choices": ["auto", "repository", "vault", "repository_versions", "vault_versions"],
        "default": "auto",
    },
    "force": {"type": "bool", "default": False},
    "stamp": {"type": "str", "default": ""},
}
SCENARIO = {"scenario": {"type": "str", "choices": list(SCENARIOS), "required": True}}
DRILL = {
    "target_seconds": {"type": "int", "default": 0},
    "rows": {"type": "list", "elements": "dict", "default": []},
    "reason": {"type": "str", "default": "drill"},
    "operator": {"type": "str", "default": ""},
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


def _text(value: object, secrets: Sequence[str]) -> object:
    """Ansible takes no text with a byte that is not UTF-8, as a database's name may have: it becomes `\\xe9`."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, pipeline.BLANK)
        return _HALF.sub(lambda half: f"\\x{ord(half.group()) & 0xFF:02x}", value)
    if isinstance(value, Mapping):
        return {_text(key, secrets): _text(item, secrets) for key, item in value.items()}
    return [_text(item, secrets) for item in value] if isinstance(value, (list, tuple)) else value


def _unmistakable(known: config.Config) -> list[str]:
    """Return the stack's secrets as they may be told, but those that its settings have too, and short words: in a plan
    such a word is a name, by which a recovery goes."""
    shown = repr(known)  # without the secrets
    found: list[str] = []
    for name, secret in known.secrets.items():
        word = len(secret) < (_NO_WORD if secret.isalpha() else pipeline.SECRET_LENGTH)
        if not word and not name.endswith("access_key") and secret not in shown:
            found += pipeline.faces(secret)
    return found


class Task:
    """One module call: its parameters, the stack's configuration, and a log that ends in the result and the journal."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.clock = clock.start()
        self.params = module.params
        self.check: bool = module.check_mode
        self.now = self.clock.started_at
        self.lines: list[str] = []
        if self.params["settings"] is not None:
            self.config = config.from_mapping(self.params["settings"], self.params["secrets"] or {})
        else:
            self.config = config.load(self.params["stack"], Path(self.params["config_directory"]))
        self.config = config.pinned(self.config, self.params["seal"])

    def log(self, message: str) -> None:
        """Log a message at once, so that `journalctl -f` on the host follows a long step."""
        said = pipeline.scrub(message, self.config.secrets)
        self.lines.append(said)
        self.module.log(said)

    def tell(self, message: str) -> None:
        """Log a message for who follows, and not in the result: how far the work is."""
        self.module.log(pipeline.scrub(message, self.config.secrets))

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

    @property
    def override(self) -> int:
        """Return the option `override`: so many objects may be removed or overwritten. `true` counts as a number for
        Ansible, and is refused."""
        value = self.params["override"]
        if value is True or value < 0:
            raise UsageError(
                "mirror the bucket", self.config.stack, f"override is {value!r} and not a number of objects",
                "Give the number that the refusal names (override: 5).",
            )  # fmt: skip
        return int(value)

    def values(self, result: Result) -> dict[str, object]:
        """Return the result as Ansible gets it."""
        return result.values(_unmistakable(self.config))

    def fail(self, msg: str, result: Result) -> NoReturn:
        """Fail with the result: the check was carried out, and its answer is no."""
        msg = pipeline.scrub(msg, self.config.secrets)
        self.module.fail_json(msg=msg, log=self.lines, phase=typed.plain(self.clock.phase()), **self.values(result))
        raise AssertionError("fail_json does not return")


def added(lines: Iterable[str]) -> Diff:
    """Return the diff of a module that only adds."""
    return Diff(after="".join(f"{line}\n" for line in lines))


def refuse(
    module: AnsibleModule, exc: LifeboatError, started: clock.Clock, lines: Sequence[str] = (),
    secrets: Optional[Mapping[str, str]] = None,
) -> NoReturn:  # fmt: skip
    """End the module with what an error says, in its parts. secrets: of the configuration, once it is read."""
    parts = {name: getattr(exc, name) for name in ("attempted", "subject", "cause", "remedy")}
    said = {name: pipeline.scrub(text, secrets) for name, text in {"msg": str(exc), **parts}.items()}
    module.fail_json(**said, log=list(lines), phase=typed.plain(started.phase()))
    raise AssertionError("fail_json does not return")


def show_names(module: AnsibleModule) -> None:
    """An access key is a name and no secret: hiding `shop` would hide it in every path of the result."""
    given = module.params["secrets"] or {}
    names = {value for name, value in given.items() if name.endswith("_access_key")}
    module.no_log_values -= names - {value for name, value in given.items() if not name.endswith("_access_key")}


def run(
    work: Callable[[Task], Result], arguments: Mapping[str, object], *,
    first: Callable[[AnsibleModule], None] = lambda _module: None, **options: object,
) -> None:  # fmt: skip
    """Run one module: `work` gets a Task and returns the result. A LifeboatError becomes fail_json, never a traceback.
    `first` is done before the configuration is read.

    Adds `phase` {started_at, finished_at, monotonic, boot} to the result, from which evidence takes its timeline.
    """
    module = AnsibleModule(argument_spec={**_COMMON, **arguments}, supports_check_mode=True, **options)
    show_names(module)
    os.umask(0o077)
    started = clock.start()
    lines: list[str] = []
    secrets: Mapping[str, str] = {}
    try:
        first(module)
        task = Task(module)
        lines, secrets = task.lines, task.config.secrets
        if not task.check:
            hook_debts.catch_up(task.config, task.log)
        with progress.told(task.tell):
            result = task.values(work(task))
    except LifeboatError as exc:
        refuse(module, exc, started, lines, secrets)
    module.exit_json(**{"log": lines, "phase": typed.plain(started.phase()), **result})
