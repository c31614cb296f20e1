# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The newest record of each kind and scenario as a Prometheus textfile: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Sequence

from ..base.checks import PASS
from ..evidence.schema import Record
from . import words

_HELP = (
    ("lifeboat_evidence_timestamp_seconds", "When the newest record was made."),
    ("lifeboat_evidence_passed", "1 where the verdict of the newest record is PASS, else 0."),
    ("lifeboat_evidence_duration_seconds", "How long it took."),
    ("lifeboat_evidence_target_seconds", "How long it may take; 0 where there is no target."),
)


def metrics(records: Sequence[Record]) -> str:
    """records: oldest first, good ones only. A record that is no evidence must not look fresh here."""
    newest = {(record.stack, record.host, record.kind, record.scenario): record for record in records}
    lines = []
    for name, text in _HELP:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        for (stack, host, kind, scenario), record in sorted(newest.items(), key=lambda item: item[0]):
            labels = {"stack": stack, "host": host, "kind": kind, "scenario": scenario}
            joined = ",".join(f'{key}="{_label(value)}"' for key, value in labels.items())
            lines.append(f"{name}{{{joined}}} {_value(name, record):.15g}")
    return "\n".join(lines) + "\n"


def _value(name: str, record: Record) -> float:
    if name.endswith("timestamp_seconds"):
        return record.recorded_at.timestamp()
    if name.endswith("passed"):
        return float(record.verdict == PASS)
    return record.seconds if name.endswith("duration_seconds") else record.target_seconds


def _label(value: object) -> str:
    return words.line(value).replace("\\", "\\\\").replace('"', '\\"')
