# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One record as JUnit XML, for a CI's own report. What could not be verified is an error there: never a green build."""

from __future__ import annotations

from typing import Optional
from xml.etree import ElementTree as ET

from ..base.checks import FAIL, PASS
from ..evidence.schema import Record
from . import words


def junit(record: Record, *, problem: str = "", signature: str = "", sha256: str = "") -> str:
    """Return a suite of the record, a case of each check. What is not tested by design is skipped, and
    decides nothing."""
    # The verdict has a case of its own: an error, an edited record or a record without a check leaves no check red.
    red = problem or ("" if record.verdict == PASS else record.error or f"the verdict is {record.verdict}")
    outcomes = {PASS: "", FAIL: "failure"}
    cases = [("verdict", "error" if red else "", red, record.seconds)]
    for check in record.checks:
        cases.append((check.name, outcomes.get(check.result, "error"), f"{check.result}: {check.detail}", 0.0))
    cases += [(f"not tested: {gap.what}", "skipped", gap.why, 0.0) for gap in record.untested]
    kinds = [kind for _name, kind, _words, _seconds in cases]
    counts = {"tests": len(cases), "failures": kinds.count("failure"), "errors": kinds.count("error")}
    time = _seconds(record.seconds)
    suites = _element(None, "testsuites", name="lifeboat", **counts, time=time)
    suite = _element(
        suites, "testsuite", name=words.title(record), **counts, skipped=len(record.untested), time=time,
        timestamp=words.moment(record.recorded_at)[:19].replace(" ", "T"), hostname=record.host, id=record.id,
    )  # fmt: skip
    properties = _element(suite, "properties")
    for name, value in (*words.origin(record), *words.facts(record), ("Signature", signature), ("SHA-256", sha256)):
        if value:
            _element(properties, "property", name=name, value=value)
    where = f"lifeboat.{record.stack}.{record.scenario}"
    for name, kind, said, seconds in cases:
        case = _element(suite, "testcase", name=name, classname=where, time=_seconds(seconds))
        if kind:
            _element(case, kind, message=said, type=kind).text = words.plain(said)
    ET.indent(suites, space="")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, "unicode")}\n'


def _element(parent: Optional[ET.Element], tag: str, /, **values: object) -> ET.Element:
    attributes = {key: words.one_line(value) for key, value in values.items()}
    return ET.Element(tag, attributes) if parent is None else ET.SubElement(parent, tag, attributes)


def _seconds(seconds: float) -> str:
    return f"{max(0.0, seconds):.3f}"
