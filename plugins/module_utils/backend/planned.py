# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a backend's recovery: what the recovery is told, and what a role reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rung:
    """A step with what becomes of it: begin, then (in case), or skipped; and why."""

    step: str
    description: str = field(metadata={"json": "words"})
    state: str
    why: str


@dataclass(frozen=True)
class Plan:
    """What is wrong and what would be done. Roles see it as JSON, with these names.

    kind, cause: of the table of causes, and as text. machine: its processor, memory and disks. begin: the first step.
    blocked: why no step of ours may mend it; next: the operator's command then. logs: the last lines, by container.
    host: its name in the inventory, for the commands that are printed. accept: the backup that was named may be used
    although it failed; failed: what verifications of it found. turn: the number of the
    host's changes when it was made.
    """

    needed: bool
    condition: str
    kind: str
    cause: str
    why: str
    machine: tuple[str, ...]
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]
    warnings: tuple[str, ...]
    ladder: tuple[Rung, ...]
    begin: str
    blocked: str
    next: str
    logs: Mapping[str, tuple[str, ...]]
    method: str
    requested: bool = field(metadata={"json": "asked"})
    identity: str
    stamp: str
    host: str
    target_seconds: int
    passed_over: tuple[str, ...] = ()
    accept: bool = False
    failed: str = ""
    turn: int = 0
