# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A status for Nagios, Icinga and others that run plugins: one line, and an exit status of theirs.

https://www.monitoring-plugins.org/doc/guidelines.html. What could not be verified is UNKNOWN, never OK.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from ..base.errors import printable

OK, CRITICAL, UNKNOWN = 0, 2, 3
_STATES = {PASS: (OK, "OK"), FAIL: (CRITICAL, "CRITICAL"), COULD_NOT_VERIFY: (UNKNOWN, "UNKNOWN")}
_SHOWN = 5  # checks that the line names
_LONGEST = 200  # letters of one of them
_UNITS = {"h": 3600, "days": 86400}  # in performance data a time is in seconds


def status(stack: str, checks: Sequence[Check]) -> tuple[int, str]:
    """Return the exit status, and the line."""
    code, word = _STATES[verdict(checks)]
    wrong = sorted((check for check in checks if check.result != PASS), key=lambda check: check.result != FAIL)
    said = "; ".join(_plain(f"{check.name}: {check.detail}") for check in wrong[:_SHOWN])
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    text = f"{said}{more}" if wrong else f"{len(checks)} checks passed"
    figures = " ".join(figure for check in checks if (figure := _figure(check)))
    return code, f"LIFEBOAT {word} - {stack}: {text}" + (f" | {figures}" if figures else "")


def unknown(stack: str, cause: str) -> tuple[int, str]:
    """Nothing is known: the command itself failed."""
    return UNKNOWN, f"LIFEBOAT UNKNOWN - {stack or 'no stack'}: {_plain(cause)}"


def _plain(text: str) -> str:
    """Of one line, without what begins the performance data."""
    words = printable(" ".join(text.split())).replace("|", "/")
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."


def _figure(check: Check) -> str:
    """'label'=value[unit];warn;crit"""
    if check.measured is None or check.unit not in (*_UNITS, "%"):
        return ""
    factor, unit = (_UNITS[check.unit], "s") if check.unit in _UNITS else (1, "%")
    label = re.sub("[^a-z0-9]+", "_", check.name.lower()).strip("_")
    limit = "" if check.limit is None else f"{check.limit * factor:g}"
    return f"'{label}'={check.measured * factor:.0f}{unit};;{limit}"
