# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a stack's services and see that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base import checks
from ..database import logins, reopen
from ..stack.runtime import Opened
from .step import Options, Result, Step

OPTIONS: Options = {"services": {"type": "list", "elements": "str", "default": []}}


@dataclass(frozen=True)
class Facts:
    verdict: str
    checks: Sequence[checks.Check]


def work(step: Step) -> Result:
    names, opened = step.params["services"], Opened(step.config)
    needed = filter(None, [step.config.database.service, *names])
    asleep = [item for item in needed if not opened.runtime.state(item).running]
    shut = (step.config.state / logins.CLOSED).exists()
    if step.check:
        return Result(Facts(checks.COULD_NOT_VERIFY, ()), changed=bool(asleep) or shut)
    found = reopen.reopen(opened, names, log=step.log)
    return Result(Facts(checks.verdict(found), found), changed=bool(asleep) or shut)
