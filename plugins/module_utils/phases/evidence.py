# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Record what a recovery did and whether it is proved."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..base.errors import LifeboatError
from ..evidence import phases, schema, store
from ..evidence import record as evidence_record
from ..stack import hooks
from ..stack.runtime import Opened
from ..tools import signature
from .step import Options, Result, Step

OPTIONS: Options = {
    "scenario": {"type": "str", "required": True},
    "plan": {"type": "dict", "required": True},
    "phases": {"type": "list", "elements": "dict", "required": True},
    "checks": {"type": "list", "elements": "dict", "default": []},
    "reason": {"type": "str", "default": ""},
    "operator": {"type": "str", "default": ""},
    "error": {"type": "str", "default": ""},
    "commit": {"type": "str", "default": ""},
    "untested": {"type": "list", "elements": "dict", "default": []},
}


def images(step: Step) -> dict[str, str]:
    """A record is worth having without the images' names: an engine that hangs must not prevent it."""
    try:
        return Opened(step.config).runtime.images()
    except LifeboatError as exc:
        step.log(f"the images' names are not known: {exc.cause}")
        return {}


@dataclass(frozen=True)
class Facts:
    record: object
    verdict: str
    path: str
    signature: str
    text: Sequence[str]


def work(step: Step) -> Result:
    told = evidence_record.recovery(step.params, step.params["phases"])
    build = functools.partial(
        evidence_record.build, step.config, now=step.now, ansible=step.ansible, images=images(step)
    )  # fmt: skip
    record = build(told)
    if not step.check and (hooked := hooks.finish(step.config, hooks.RECOVERY, record.verdict, step.log)):
        record = build(replace(told, checks=(*told.checks, *hooked)))
    path, signed = "", signature.NONE
    if not step.check:
        kept, record = store.write(step.config, record, log=phases.log(told.phases, step.config.secrets))
        path, signed = str(kept), store.sign(step.config, kept, step.log)
    facts = Facts(schema.plain(record), record.verdict, path, signed, evidence_record.lines(record))
    return Result(facts, changed=True)
