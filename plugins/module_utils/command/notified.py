# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat notify`, which the schedule calls each hour, and a person to try the receivers."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..base import text
from ..base.checks import CODES, PASS, verdict
from ..base.errors import Log, UsageError
from ..operations import notify, notify_look
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from .report import Answer


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test", action="store_true", help="send each receiver a test message, and nothing else")


def run(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    """0: each receiver took what was sent to it, or nothing was to be sent. How the stack is, status says."""
    config, now = run.config, datetime.now(timezone.utc)
    if not config.notify:
        cause = "lifeboat_notify names no receiver"
        raise UsageError("tell the receivers", config.stack, cause, "Name one and run lifeboat.dr.deploy again.")
    if arguments.test:
        identity, checks = notify.test(config, now)
        log(f"sent the test {identity}")
    else:
        identity, checks = "", notify_look.report(run, now=now)
    result = verdict(checks) if checks else PASS
    answer = {"verdict": result, "id": identity, "checks": [check.as_dict() for check in checks]}
    return CODES[result], answer, text.checks(checks) or ["nothing to tell: each receiver knows all"]
