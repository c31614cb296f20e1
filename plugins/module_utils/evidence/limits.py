# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a record does not prove, and why: said in the record itself, so that nobody takes silence for a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base.checks import FAIL, PASS, Check
from ..settings.config import LEVELS
from ..settings.scenarios import SCENARIOS
from .schema import Untested

UNNOTICED = "the time until somebody noticed"
_SKIPPED = {
    "archive": ("whether the real tools can read the backup", "that is checked at level archive"),
    "restore": ("whether the backup can be restored", "that is checked at level restore"),
}


@dataclass(frozen=True)
class Gap:
    """What a playbook says that it did not test."""

    what: str
    why: str = ""


def untested(
    scenario: str, unchecked: Sequence[str], checks: Sequence[Check], *, extrapolated: bool, more: Sequence[Gap]
) -> tuple[Untested, ...]:
    """Of a recovery."""
    found = [(thing, "the assessment could not look at it") for thing in unchecked]
    found += _unmade(checks)
    found += SCENARIOS[scenario].untested
    found.append((f"{UNNOTICED} and decided", "the clock starts with the operator's command"))
    if not extrapolated:
        found.append(
            ("the time at production size", "no size is configured, or no bytes were moved (lifeboat_evidence)")
        )
    found += [(gap.what, gap.why or "not said") for gap in more]
    return tuple(Untested(what, why) for what, why in found)


def unproved(level: str, checks: Sequence[Check]) -> tuple[Untested, ...]:
    """Of a verification: the checks that could not be made, and the levels above the one that was asked for."""
    found = _unmade(checks)
    found += [_SKIPPED[above] for above in LEVELS[LEVELS.index(level) + 1 :]]
    found.append(("whether the data made sense when it was backed up", "a wrong value is faithfully kept"))
    return tuple(Untested(what, why) for what, why in found)


def _unmade(checks: Sequence[Check]) -> list[tuple[str, str]]:
    return [(check.name, check.detail or "not said") for check in checks if check.result not in (PASS, FAIL)]
