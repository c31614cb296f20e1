# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the object store and plan its recovery."""

from __future__ import annotations

from ..objects import plan as objects_plan
from ..objects import planned as objects_planned
from ..objects.selection import Request
from ..settings.scenarios import OBJECT_STORAGE
from ..site import keeper_readback
from ..stack.runtime import Opened
from .planning import planned
from .step import ACCEPT, HOLD, IDENTITY, TARGET, Options, Result, Step

OPTIONS: Options = {
    **TARGET,
    **ACCEPT,
    **HOLD,
    **IDENTITY,
    "force": {"type": "bool", "default": False},
    "method": {"type": "str", "choices": ["auto", "fill", "rebuild"], "default": "auto"},
    "prefix": {"type": "str", "default": ""},
    "exact": {"type": "bool", "default": False},
    "partial": {"type": "bool", "default": False},
    "bucket": {"type": "str", "default": ""},
    "others": {"type": "str", "choices": ["", "restore", "aside"], "default": ""},
    "bucket_settings": {"type": "str", "choices": ["", "restore"], "default": ""},
}


def work(step: Step) -> Result:
    given = step.params
    request = Request(
        identity=given["recovery_point"],
        before=step.before(),
        accept=step.accept,
        other_buckets=given["others"],
        **{
            name: given[name] for name in ("force", "method", "prefix", "exact", "partial", "bucket", "bucket_settings")
        },
    )
    opened = keeper_readback.reached(Opened(step.config, step.params["identity"]))
    made = objects_plan.make(opened, request, log=step.log)
    restores = made.mode not in ("none", "reopen")
    return planned(step, opened, made, objects_planned.text(made), OBJECT_STORAGE, restores=restores)
