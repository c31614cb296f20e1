# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One record as JUnit XML, for a CI's own report. What could not be verified is an error there: never a green build."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from ..base.checks import FAIL, PASS
from ..evidence.schema import Record
from . import words


def junit(record: Record, *, problem: str = "", signature: str = "", sha256: str = "") -> str:
    """A suite of the record, a case of each check. What is not tested by design is skipped, and decides nothing."""
    cases = [_case(record, check.name, _outcome(check.result, check.detail)) for check in record.checks]
    failures = sum(check.result == FAIL for check in record.checks)
    errors = sum(check.result not in (PASS, FAIL) for check in record.checks)
    # The verdict has a case of its own: an error, an edited record or a record without a check leaves no check red.
    red = problem or ("" if record.verdict == PASS else record.error or f"the verdict is {record.verdict}")
    cases.insert(0, _case(record, "verdict", _element("error", red) if red else "", record.seconds))
    cases += [_case(record, f"not tested: {gap.what}", _element("skipped", gap.why)) for gap in record.untested]
    properties = [*words.origin(record), *words.facts(record), ("Signature", signature), ("SHA-256", sha256)]
    kept = "".join(f"<property{_attributes(name=name, value=value)}/>" for name, value in properties if value)
    counts = {"tests": len(cases), "failures": failures, "errors": errors + bool(red)}
    suite = _attributes(
        name=words.title(record), **counts, skipped=len(record.untested), time=_seconds(record.seconds),
        timestamp=words.moment(record.recorded_at)[:19].replace(" ", "T"), hostname=record.host, id=record.id,
    )  # fmt: skip
    whole = _attributes(name="lifeboat", **counts, time=_seconds(record.seconds))
    body = "\n".join(cases)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites{whole}>\n<testsuite{suite}>\n'
        f"<properties>{kept}</properties>\n{body}\n</testsuite>\n</testsuites>\n"
    )


def _seconds(seconds: float) -> str:
    return f"{max(0.0, seconds):.3f}"


def _outcome(result: str, detail: str) -> str:
    if result == PASS:
        return ""
    return _element("failure" if result == FAIL else "error", f"{result}: {detail}")


def _element(name: str, message: str) -> str:
    return f"<{name}{_attributes(message=words.line(message), type=name)}>{escape(words.plain(message))}</{name}>"


def _case(record: Record, name: str, inner: str, seconds: float = 0.0) -> str:
    where = f"lifeboat.{record.stack}.{record.scenario}"
    return f"<testcase{_attributes(name=name, classname=where, time=_seconds(seconds))}>{inner}</testcase>"


def _attributes(**given: object) -> str:
    return "".join(f" {name}={quoteattr(words.line(value))}" for name, value in given.items())
