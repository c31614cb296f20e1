# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts, and errors that say what was attempted, on what, why it failed, and what to do next."""

from __future__ import annotations

import ast

import pytest
import reading
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, errors
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.text import of_other

VERDICTS = [
    ([], COULD_NOT_VERIFY),
    ([PASS], PASS),
    ([PASS, PASS], PASS),
    ([COULD_NOT_VERIFY], COULD_NOT_VERIFY),
    ([PASS, COULD_NOT_VERIFY], COULD_NOT_VERIFY),
    ([FAIL], FAIL),
    ([PASS, FAIL], FAIL),
    ([COULD_NOT_VERIFY, FAIL, PASS], FAIL),
    ([PASS, "pass"], COULD_NOT_VERIFY),
    ([""], COULD_NOT_VERIFY),
]


@pytest.mark.parametrize(("results", "expected"), VERDICTS)
def test_verdict(results: list[str], expected: str) -> None:
    assert checks.verdict(Check("x", result) for result in results) == expected


def test_compared_shows_a_few_and_counts_the_rest() -> None:
    assert checks.compared("tables", [], "all equal") == Check("tables", PASS, "all equal")
    assert checks.compared("tables", ["a", "b"], "-") == Check("tables", FAIL, "a; b")
    eight = [str(number) for number in range(8)]
    assert checks.compared("tables", eight, "-").detail == "; ".join(eight)
    assert checks.compared("tables", [*eight, "8", "9"], "-").detail == "; ".join(eight) + "; and 2 more"
    assert Check("a", PASS, "b").as_dict() == {"name": "a", "result": PASS, "detail": "b"}


def test_a_figure_and_its_limit() -> None:
    """The sentence names the limit, the data carry it: nobody needs to take one apart for the other."""
    good, bad = (checks.at_most("age", hours, 26, "h", "some hours old") for hours in (26.0, 26.0004))
    assert (good.result, good.words) == (PASS, "some hours old, limit 26 h")
    assert (bad.result, bad.most) == (FAIL, "26 h")
    assert good.as_dict() == {
        "name": "age", "result": PASS, "detail": "some hours old", "measured": 26.0, "limit": 26, "unit": "h"
    }  # fmt: skip
    assert (Check("a", PASS, "b").words, Check("a", PASS).as_dict()["detail"]) == ("b", "")


def test_a_program_finds_a_check_by_its_kind() -> None:
    """Which is written only where the name does not say it, and never in a record."""
    own = Check("tables", PASS)
    other = of_other(own, "sales\n2")
    assert (own.kind, own.subject) == ("tables", "") and set(own.as_dict()) == {"name", "result", "detail"}
    assert (other.name, other.kind, other.subject) == ("tables of sales\\n2", "tables", "sales\n2")
    assert other.as_dict() == {
        "name": "tables of sales\\n2", "result": PASS, "detail": "", "kind": "tables", "subject": "sales\n2"
    }  # fmt: skip
    assert set(other.plain.as_dict()) == {"name", "result", "detail"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("newest backup", "newest"), ("newest objects backup", "newest"), ("proof", "proof"), ("config proof", "proof"),
        ("tables of sales", "tables"), ("checksums", "checksums"), ("recovery point", "recovery point"),
    ],
)  # fmt: skip
def test_what_an_earlier_version_wrote_has_a_kind(name: str, kind: str) -> None:
    assert checks.kind_of(name) == kind


def decisions(tree: ast.Module) -> list[str]:
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [found for scope in scopes or [tree] for found in _decisions(scope)]


def _decisions(tree: ast.AST) -> list[str]:
    """Where the name of a check is compared, looked up or taken apart: of a variable called so, of a parameter
    annotated so, and of whatever comes out of something that is called checks."""
    variables = {"check", "one_check"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.comprehension)) and "check" in ast.unparse(node.iter).rpartition(".")[2]:
            variables |= {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation and ast.unparse(node.annotation) == "Check":
            variables.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))

    def names(at: ast.AST) -> bool:
        found = [node for node in ast.walk(at) if isinstance(node, ast.Attribute) and node.attr == "name"]
        return any(isinstance(node.value, ast.Name) and node.value.id in variables for node in found)

    found = []
    for node in ast.walk(tree):
        asked = (
            (isinstance(node, ast.Compare) and names(node))
            or (isinstance(node, ast.Subscript) and names(node.slice))
            or (isinstance(node, ast.DictComp) and names(node.key))
            or (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                and (
                    (node.func.attr in ("startswith", "endswith") and names(node.func.value))
                    or (node.func.attr in ("get", "match", "fullmatch", "search") and any(map(names, node.args)))
                )
            )
        )  # fmt: skip
        found += [ast.unparse(node)] if asked else []
    return found


# The name is what is shown, and is asked for that.
SHOWN_BY_NAME = {
    "module_utils/base/checks.py": {"self.kind != self.name", "check.kind != check.name"},
}


def test_no_code_decides_by_the_name_of_a_check() -> None:
    found = {
        path.relative_to(reading.PLUGINS).as_posix(): set(decisions(reading.parsed(path)))
        for path in reading.PLUGINS.rglob("*.py")
    }
    left = {path: told - SHOWN_BY_NAME.get(path, set()) for path, told in found.items()}
    assert {path: told for path, told in left.items() if told} == {}, "ask for its kind and its subject"


@pytest.mark.parametrize(
    "planted",
    [
        "any(check.name.partition(' of ')[0] in proofs for check in checks)",
        "[check for check in done.checks if check.name.endswith(' of a')]",
        "[one for one in self.checks if one.name.startswith('newest ')]",
        "for held in run.checks():\n    belongs.get(held.name, 'daily')",
        "{held.name: held for held in checks}",
        "def judged(seen: Check) -> bool:\n    return 'keeper' not in seen.name",
        "table[check.name]",
        "PATTERN.fullmatch(check.name)",
    ],
)
def test_a_decision_by_a_name_is_found(planted: str) -> None:
    assert decisions(ast.parse(planted)) and not decisions(ast.parse(planted.replace(".name", ".kind")))


SENTENCES = [
    (("dump", "shop", "it broke", "Mend it."), "Could not dump (shop): it broke. Mend it."),
    (("dump", "shop", " it broke.\n", ""), "Could not dump (shop): it broke."),
    (("dump", "shop", "why?", "Ask."), "Could not dump (shop): why? Ask."),
    (("dump", "shop", "", ""), "Could not dump (shop): ."),
    (("drop a\nb", "\udcff \ud800 \x1b[2J é", "why", ""), "Could not drop a\\nb (\\xff \\ud800 \\x1b[2J é): why."),
]


@pytest.mark.parametrize(("parts", "sentence"), SENTENCES)
def test_errors_are_sentences(parts: tuple[str, str, str, str], sentence: str) -> None:
    assert str(errors.LifeboatError(*parts)) == sentence


def test_every_error_has_an_exit_code_of_its_own() -> None:
    found = [subclass for subclass in errors.LifeboatError.__subclasses__() if subclass.__module__ == errors.__name__]
    codes = {error.__name__: error.exit_code for error in found}
    assert codes == {
        "UsageError": 2,
        "UnverifiedError": 3,
        "LockedError": 4,
        "NotFoundError": 5,
        "IntegrityError": 6,
        "SpaceError": 7,
        "CopyError": 8,
    }
    assert errors.LifeboatError.exit_code == 1
