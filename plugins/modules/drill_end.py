#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_end
short_description: Hold what a drill recovered against its writer's ledger, and record it
version_added: 0.1.0
description:
  - Waits for the first business transaction that holds, which ends the clock that began with the fault. Stops the
    writer and asks the application for every write that it had acknowledged.
  - Draws the verdict, removes what the recovery had put aside, and keeps the record as M(lifeboat.dr.evidence) does.
  - C(PASS) needs all of it, a fault that was seen to take, the recovery's own checks, a transaction within the target,
    no write lost from before the recovery point, or from before O(loss). What could not be found out is
    C(COULD_NOT_VERIFY).
  - Internal to the role C(drill).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.scenario
  - lifeboat.dr.options.drill
options:
  fault:
    description: What M(lifeboat.dr.drill_fault) returned; empty where it was not reached.
    type: dict
    default: {}
  chosen:
    description: The name of the fault that was chosen, also where it was not reached.
    type: str
    default: ""
  steady_state:
    description: What M(lifeboat.dr.drill_begin) saw.
    type: str
    default: ""
  seed:
    description: Of a fault that was chosen at random.
    type: str
    default: ""
  loss:
    description: What M(lifeboat.dr.drill_instant) returned. Empty where the recovery did not go to the instant before.
    type: dict
    default: {}
  recovery:
    description: The record of the recovery, as M(lifeboat.dr.evidence) returned it; empty where there is none.
    type: dict
    default: {}
  error:
    description: What ended the drill before its end, empty when nothing did.
    type: str
    default: ""
  keep:
    description: Leave what the recovery put aside.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: In check mode nothing was broken, so there is nothing to end. Nothing is recorded and nothing removed.
  diff_mode:
    support: none
    details: Each record is a new file.
"""

EXAMPLES = r"""
- name: End
  lifeboat.dr.drill_end:
    stack: shop
    scenario: database
    fault: "{{ fault }}"
    recovery: "{{ evidence.record }}"
"""

RETURN = r"""
record:
  description: The record, as docs/schema/evidence-1.json describes it.
  returned: success, not in check mode
  type: dict
verdict:
  description: C(PASS), C(FAIL), C(COULD_NOT_VERIFY) or C(ABORTED).
  returned: success
  type: str
path:
  description: Where the host keeps it.
  returned: success, not in check mode
  type: str
text:
  description: The record as lines of text.
  returned: success
  type: list
  elements: str
rows:
  description:
    - "A table of drills, O(rows) and this one: each C(scenario), C(fault), C(rto), C(target), C(rpo), C(lost),
      C(verdict)."
  returned: success
  type: list
  elements: dict
removed:
  description: What the recovery had put aside and was removed, and what was undone.
  returned: success
  type: list
  elements: str
left:
  description: What could not be removed or taken back, and why. The verdict is of the recovery, so it stays.
  returned: success
  type: list
  elements: str
log:
  description: What was done, line by line, as also written to the journal.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Optional

from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import clean, drill
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import drill as evidence_drill
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema, store
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import DRILL, SCENARIO, Result, Task, run


@dataclass(frozen=True)
class Facts:
    verdict: str
    text: Sequence[str]
    rows: Sequence[object]
    removed: Sequence[str] = ()
    left: Sequence[str] = ()
    record: Optional[object] = None
    path: Optional[str] = None


def wrong(where: str, cause: str) -> LifeboatError:
    return UsageError("record the drill", where, cause)


def work(task: Task) -> Result:
    given, config = task.params, task.config
    if task.check:
        return Result(Facts(checks.COULD_NOT_VERIFY, (), given["rows"]))
    scenario = given["scenario"]
    broke = typed.build(evidence_drill.Injected, given["fault"], wrong, "fault", unknown="ignore")
    told = given["recovery"]
    recovery = typed.build(schema.Record, told, wrong, "recovery", unknown="ignore") if told else None
    loss = typed.build(evidence_drill.Loss, given["loss"], wrong, "loss", unknown="ignore") if given["loss"] else None
    phases = recovery.phases if recovery else ()
    reopened = next((phase.started_at for phase in phases if phase.name == "reopen"), None)
    found = drill.end(
        config, scenario, broke, recovered=bool(told) and not given["error"], reopened=reopened, loss=loss, log=task.log
    )
    record = evidence_record.of_drill(
        config, recovery, replace(found, seed=given["seed"], steady_state=given["steady_state"]), scenario=scenario,
        reason=given["reason"], operator=given["operator"],
        target=given["target_seconds"] or config.target(scenario), error=given["error"],
        now=datetime.now(timezone.utc),
    )  # fmt: skip
    name = broke.name or given["chosen"]
    removed: list[str] = []
    left: list[str] = []
    if record.verdict == checks.PASS and not given["keep"]:
        removed, left, record = clean.clean(Opened(config), record, name, log=task.log)
    hooked = hooks.finish(config, hooks.DRILL, record.verdict, task.log)
    left += [f"{check.name}: {check.detail}" for check in hooked if check.result != checks.PASS]
    path, record = store.write(config, record, say=task.log)
    store.sign(config, path, task.log)
    text = [*evidence_record.lines(record), *(f"not cleaned up: {problem}" for problem in left)]
    rows = [*given["rows"], {**typed.plain(evidence_drill.row(record, name)), "left": left}]
    facts = Facts(record.verdict, text, rows, removed, left, schema.plain(record), str(path))
    return Result(facts, changed=True)


def main() -> None:
    run(
        work,
        {
            **SCENARIO,
            "fault": {"type": "dict", "default": {}},
            "chosen": {"type": "str", "default": ""},
            "steady_state": {"type": "str", "default": ""},
            "seed": {"type": "str", "default": ""},
            "loss": {"type": "dict", "default": {}},
            "recovery": {"type": "dict", "default": {}},
            "error": {"type": "str", "default": ""},
            **DRILL,
            "keep": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
