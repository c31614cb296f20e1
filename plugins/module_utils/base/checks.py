# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks a verification makes, and the verdict that follows from them. What was not checked never passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PASS = "PASS"
FAIL = "FAIL"
COULD_NOT_VERIFY = "COULD_NOT_VERIFY"
ABORTED = "ABORTED"
SHOWN = 8


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its result and, in a few words, what was expected and found."""

    name: str
    result: str
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        return dataclasses.asdict(self)


def verdict(checks: Iterable[Check]) -> str:
    """FAIL beats COULD_NOT_VERIFY beats PASS; no check at all proves nothing."""
    results = {check.result for check in checks}
    if FAIL in results:
        return FAIL
    return PASS if results == {PASS} else COULD_NOT_VERIFY


def compared(name: str, differences: Sequence[str], same: str) -> Check:
    """A check that passes when there is no difference; names the first few, counts the rest."""
    if not differences:
        return Check(name, PASS, same)
    shown = "; ".join(differences[:SHOWN])
    rest = len(differences) - SHOWN
    return Check(name, FAIL, shown + (f"; and {rest} more" if rest > 0 else ""))
