# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reopen phase of a recovery, of a stack that has a database."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.checks import FAIL, Check
from ..base.errors import LifeboatError, Log
from ..base.text import named
from ..recovery import reopen as recovery_reopen
from ..stack.runtime import Opened
from . import logins


def reopen(run: Opened, services: Sequence[str], *, log: Log) -> list[Check]:
    """Open the database to logins where a killed run left it closed, then start the services and ask the endpoints."""
    return [*_open(run, log), *recovery_reopen.reopen(run, services, log=log)]


def _open(run: Opened, log: Log) -> list[Check]:
    """Before the writers start: they would not get in."""
    try:
        left = logins.reopen(run, log=log)
    except LifeboatError as exc:
        return [Check("logins", FAIL, f"{exc.cause}. {exc.remedy}")]
    words = "a fresh server's and not filled yet: lifeboat.dr.recover_database does it"
    return [Check("logins", FAIL, f"closed to {', '.join(map(named, left))}, {words}")] if left else []
