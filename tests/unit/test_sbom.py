# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/supply: sbom.json says what the locks and the roles say, and an audit that was not made does not pass."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.version import VERSION
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.preflight import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/supply"))
import audit  # noqa: E402
import sbom  # noqa: E402

TEXT = (ROOT / "sbom.json").read_text(encoding="utf-8")
HASH = "    --hash=sha256:" + "0" * 64
CASES = {
    "another version": ('"specVersion": "1.6"', '"specVersion": "1.5"'),
    "one component less": ('"name": "boto3"', '"name": "boto4"'),
    "another host package": ("pkg:deb/debian/age", "pkg:deb/debian/rage"),
    "unreadable": ("{", ""),
}
WEAK = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "aliases": []}]}
GOOD = {"name": "b", "version": "1", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "not on PyPI"}
# (exit status, what it knows of packages or its output, its errors, the verdict, what is said)
AUDITS = {
    "no weakness": (0, [GOOD], "", "PASS", "1 packages, no known weakness"),
    "a weakness": (1, [WEAK, GOOD], "Found 1", "FAIL", "a 1: CVE-1, fixed in 2"),
    "a weakness, and one left out": (1, [WEAK, SKIPPED], "", "FAIL", "a 1: CVE-1"),
    "one left out": (0, [GOOD, SKIPPED], "", "COULD_NOT_VERIFY", "1 of 2 packages; c: not on PyPI"),
    "nobody answers": (1, "", "ERROR: Could not connect to PyPI", "COULD_NOT_VERIFY", "Could not connect to PyPI"),
    "an error after an answer": (1, [GOOD], "ERROR: gone", "COULD_NOT_VERIFY", "exited 1: ERROR: gone"),
    "an empty lock": (0, [], "", "COULD_NOT_VERIFY", "exited 0"),
    "nothing": (137, "", "", "COULD_NOT_VERIFY", "exited 137 and said nothing"),
}


def test_the_bill_of_materials_here_is_true_and_is_made_twice_the_same() -> None:
    assert sbom.problems(TEXT) == []
    assert sbom.text_of(sbom.made()) == TEXT


@pytest.mark.parametrize("case", CASES)
def test_one_that_is_not_true_is_refused(case: str) -> None:
    before, after = CASES[case]
    assert before in TEXT
    assert "run make lock" in sbom.problems(TEXT.replace(before, after, 1))[0]


def test_it_lists_each_package_of_the_lock_and_of_the_roles() -> None:
    document = json.loads(TEXT)
    refs = [part["bom-ref"] for part in document["components"]]
    assert len(refs) == len(set(refs)), "a reference names one part"
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert {ref for ref in refs if ref.startswith("pkg:pypi/")} == {
        f"pkg:pypi/{line.split()[0].replace('==', '@')}"
        for line in locked.splitlines()
        if "==" in line and line[0] not in "# "
    }
    assert {f"pkg:deb/debian/{name}" for name in PACKAGES} <= set(refs)
    assert {"collection:community.docker", "lifeboat-agent", "lifeboat-controller"} <= set(refs)
    assert document["metadata"]["component"]["version"] == VERSION
    depended = {ref for entry in document["dependencies"] for ref in entry["dependsOn"]}
    assert depended == set(refs), "each part belongs to something"


def test_a_package_that_a_role_installs_and_the_bill_does_not_list_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sbom.packages_of_roles() == {*sbom.AGENT_PACKAGES, *sbom.MONITORING_PACKAGES, *sbom.HOST_PACKAGES}
    monkeypatch.setattr(
        sbom,
        "packages_of_roles",
        lambda: {*sbom.AGENT_PACKAGES, *sbom.MONITORING_PACKAGES, *sbom.HOST_PACKAGES, "socat"} - {"age"},
    )
    assert sbom.problems(TEXT) == [
        "the roles install socat, which sbom.py does not list",
        "sbom.py lists age, which no role installs",
    ]


@pytest.mark.parametrize("case", AUDITS)
def test_the_verdict_of_an_audit(case: str) -> None:
    code, known, err, verdict, said = AUDITS[case]
    out = json.dumps({"dependencies": known, "fixes": []}) if isinstance(known, list) else known
    found, lines = audit.judged("x.lock", code, out, err)
    assert found == verdict
    assert said in "\n".join(lines)


@pytest.mark.parametrize(
    ("verdicts", "code"), [(["PASS"], 0), (["COULD_NOT_VERIFY", "PASS"], 2), (["FAIL", "COULD_NOT_VERIFY"], 1)]
)
def test_the_worst_verdict_is_the_exit_status(verdicts: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LOCKS", verdicts)
    monkeypatch.setattr(audit, "audited", lambda verdict: (verdict, ["x"]))
    assert audit.main() == code
