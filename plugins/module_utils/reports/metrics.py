# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus textfiles, and what records say in one: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Callable, NamedTuple, Optional

from ..base.checks import PASS
from ..evidence.schema import Record
from . import words

_LONGEST = 128  # of a label's value


class Sample(NamedTuple):
    """One figure. All of them are gauges, what a host knows now, but for those whose name ends with `_total`."""

    name: str
    labels: Mapping[str, str]
    value: float


_METRICS: Mapping[str, tuple[str, Callable[[Record], Optional[float]]]] = {
    "timestamp_seconds": ("When the newest record was made.", lambda record: record.recorded_at.timestamp()),
    "passed": ("1 where the verdict of the newest record is PASS, else 0.", lambda record: record.verdict == PASS),
    "duration_seconds": ("How long it took.", lambda record: record.seconds),
    "target_seconds": ("How long it may take; 0 where there is no target.", lambda record: record.target_seconds),
    "rpo_seconds": (
        "How much time of writing was lost; absent where that is not known.",
        lambda record: record.rpo.seconds if record.rpo else None,
    ),
    "rpo_target_seconds": (
        "How much may be lost; absent where there is no target.",
        lambda record: record.rpo.target_seconds if record.rpo else None,
    ),
}


_PROOF = "lifeboat_evidence_proof_timestamp_seconds"
_PROOF_HELP = "When a restore last proved a young backup of the component; 0 where none ever did."
EVIDENCE: Mapping[str, str] = {f"lifeboat_evidence_{metric}": text for metric, (text, _value) in _METRICS.items()}


@dataclass(frozen=True)
class Proof:
    """When a restore last proved a component of a stack; None: never."""

    stack: str
    host: str
    component: str
    at: Optional[datetime]


def metrics(records: Sequence[Record], proofs: Sequence[Proof] = ()) -> str:
    """records: oldest first, good ones only. A record that is no evidence must not look fresh here."""
    found = [
        Sample(_PROOF, {"stack": proof.stack, "host": proof.host, "component": proof.component}, _seconds(proof.at))
        for proof in proofs
    ]
    helps = {**EVIDENCE, **({_PROOF: _PROOF_HELP} if proofs else {})}
    return exposition(helps, [*evidence(records), *found])


def evidence(records: Sequence[Record]) -> list[Sample]:
    """Of the newest record of each kind and scenario. records: oldest first, good ones only."""
    newest = {(record.stack, record.host, record.kind, record.scenario): record for record in records}
    found = []
    for (stack, host, kind, scenario), record in sorted(newest.items(), key=lambda item: item[0]):
        labels = {"stack": stack, "host": host, "kind": kind, "scenario": scenario}
        for metric, (_text, value) in _METRICS.items():
            figure = value(record)
            found += [Sample(f"lifeboat_evidence_{metric}", labels, figure)] if figure is not None else []
    return found


def exposition(helps: Mapping[str, str], samples: Iterable[Sample]) -> str:
    """Return the samples by the order of `helps`: name -> what it means. node_exporter refuses a whole file where two
    samples have the same labels, so that of those the last one counts."""
    lines = []
    of_name: dict[str, dict[str, float]] = {name: {} for name in helps}
    for sample in samples:
        of_name[sample.name][_labels(sample.labels)] = sample.value
    for name, text in helps.items():
        lines += [f"# HELP {name} {_help(text)}", f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"]
        lines += [f"{name}{labels} {_number(value)}" for labels, value in of_name[name].items()]
    return "\n".join(lines) + "\n"


def _seconds(at: Optional[datetime]) -> float:
    return at.timestamp() if at else 0


def _number(value: float) -> str:
    return f"{float(value):.15g}"


def _help(text: str) -> str:
    return words.one_line(text).replace("\\", "\\\\")


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_label(said)}"' for key, said in labels.items()) + "}" if labels else ""


def _label(value: object) -> str:
    return words.one_line(value)[:_LONGEST].replace("\\", "\\\\").replace('"', '\\"')
