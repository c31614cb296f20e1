# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The newest record of each kind and scenario as a Prometheus textfile: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..base.checks import PASS
from ..base.clock import parse_time
from . import words

_HELP = (
    ("lifeboat_evidence_timestamp_seconds", "When the newest record was made."),
    ("lifeboat_evidence_passed", "1 where the verdict of the newest record is PASS, else 0."),
    ("lifeboat_evidence_duration_seconds", "How long it took."),
    ("lifeboat_evidence_target_seconds", "How long it may take; 0 where there is no target."),
)


def metrics(records: Sequence[Mapping[str, Any]]) -> str:
    """records: oldest first, good ones only. A record that is no evidence must not look fresh here."""
    newest: dict[tuple[str, str, str, str], Mapping[str, Any]] = {}
    for one in records:
        newest[(one["stack"], one["host"], words.kind(one), one["scenario"])] = one
    lines = []
    for name, text in _HELP:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        for (stack, host, kind, scenario), one in sorted(newest.items()):
            labels = {"stack": stack, "host": host, "kind": kind, "scenario": scenario}
            joined = ",".join(f'{key}="{_label(value)}"' for key, value in labels.items())
            lines.append(f"{name}{{{joined}}} {_value(name, one):.15g}")
    return "\n".join(lines) + "\n"


def _value(name: str, one: Mapping[str, Any]) -> float:
    if name.endswith("timestamp_seconds"):
        return parse_time(one["recorded_at"]).timestamp()
    if name.endswith("passed"):
        return float(one["verdict"] == PASS)
    return float(one["seconds"] if name.endswith("duration_seconds") else one["target_seconds"])


def _label(value: object) -> str:
    return words.line(value).replace("\\", "\\\\").replace('"', '\\"')
