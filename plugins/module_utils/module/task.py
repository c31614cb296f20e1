# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module does around the core: arguments in, result or a clear failure out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NoReturn, Optional

from ansible.module_utils.basic import AnsibleModule

from ..base import clock, pipeline, progress, typed
from ..base.errors import LifeboatError, UsageError
from ..phases.step import ACCEPT, HOLD, IDENTITY, INSTANT, RESTORE, TARGET, Diff, Result, Step, added
from ..settings import config
from ..settings.scenarios import SCENARIOS
from ..stack import hook_debts

__all__ = [
    "ACCEPT", "ALLOW", "DRILL", "HOLD", "IDENTITY", "INSTANT", "RESTORE", "SCENARIO", "TARGET", "WAIT",
    "Diff", "Result", "Task", "added", "refuse", "run", "show_names",
]  # fmt: skip
_COMMON = {
    "stack": {"type": "str", "default": ""},
    "config_directory": {"type": "path", "default": str(config.DIRECTORY)},
    "settings": {"type": "dict"},
    "secrets": {"type": "dict", "no_log": True},
    "seal": {"type": "str", "default": ""},
}

# Options that several modules have, and no phase of a recovery; the others are those of phases/step.py.
WAIT = {"wait": {"type": "int", "default": 0}}
ALLOW = {"allow": {"type": "list", "elements": "str", "default": []}}
SCENARIO = {"scenario": {"type": "str", "choices": list(SCENARIOS), "required": True}}
DRILL = {
    "target_seconds": {"type": "int", "default": 0},
    "rows": {"type": "list", "elements": "dict", "default": []},
    "reason": {"type": "str", "default": "drill"},
    "operator": {"type": "str", "default": ""},
}


class Task(Step):
    """One module call: its parameters, the stack's configuration, and a log that ends in the result and the journal."""

    def __init__(self, module: AnsibleModule) -> None:
        began = clock.start()
        self.module = module
        self.ansible = module.ansible_version
        params = module.params
        if params["settings"] is not None:
            loaded = config.from_mapping(params["settings"], params["secrets"] or {})
        else:
            loaded = config.load(params["stack"], Path(params["config_directory"]))
        loaded = config.pinned(loaded, params["seal"])
        super().__init__(loaded, params, check=module.check_mode, say=module.log, began=began)

    def tell(self, message: str) -> None:
        """Log a message for who follows, and not in the result: how far the work is."""
        self.module.log(pipeline.scrub(message, self.config.secrets))

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

    def fail(self, msg: str, result: Result) -> NoReturn:
        """Fail with the result: the check was carried out, and its answer is no."""
        msg = pipeline.scrub(msg, self.config.secrets)
        self.module.fail_json(msg=msg, **{**self.ended(), **self.values(result)})
        raise AssertionError("fail_json does not return")


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
