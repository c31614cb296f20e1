# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The newest record of each kind and scenario as a Prometheus textfile: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Callable, Optional

from ..base.checks import PASS
from ..evidence.schema import Record
from . import words

_METRICS: Mapping[str, tuple[str, Callable[[Record], float]]] = {
    "timestamp_seconds": ("When the newest record was made.", lambda record: record.recorded_at.timestamp()),
    "passed": ("1 where the verdict of the newest record is PASS, else 0.", lambda record: record.verdict == PASS),
    "duration_seconds": ("How long it took.", lambda record: record.seconds),
    "target_seconds": ("How long it may take; 0 where there is no target.", lambda record: record.target_seconds),
}


_PROOF = "lifeboat_evidence_proof_timestamp_seconds"
_PROOF_HELP = "When a restore last proved a young backup of the component; 0 where none ever did."


@dataclass(frozen=True)
class Proof:
    """When a restore last proved a component of a stack; None: never."""

    stack: str
    host: str
    component: str
    at: Optional[datetime]


def metrics(records: Sequence[Record], proofs: Sequence[Proof] = ()) -> str:
    """records: oldest first, good ones only. A record that is no evidence must not look fresh here."""
    newest = {(record.stack, record.host, record.kind, record.scenario): record for record in records}
    lines = []
    for metric, (text, value) in _METRICS.items():
        name = f"lifeboat_evidence_{metric}"
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        for (stack, host, kind, scenario), record in sorted(newest.items(), key=lambda item: item[0]):
            labels = {"stack": stack, "host": host, "kind": kind, "scenario": scenario}
            lines.append(_line(name, labels, value(record)))
    lines += [f"# HELP {_PROOF} {_PROOF_HELP}", f"# TYPE {_PROOF} gauge"] if proofs else []
    for proof in proofs:
        labels = {"stack": proof.stack, "host": proof.host, "component": proof.component}
        lines.append(_line(_PROOF, labels, proof.at.timestamp() if proof.at else 0))
    return "\n".join(lines) + "\n"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    joined = ",".join(f'{key}="{_label(said)}"' for key, said in labels.items())
    return f"{name}{{{joined}}} {float(value):.15g}"


def _label(value: object) -> str:
    return words.line(value).replace("\\", "\\\\").replace('"', '\\"')
