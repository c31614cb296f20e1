# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts, and errors that say what was attempted, on what, why it failed, and what to do next."""

from __future__ import annotations

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, errors
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check

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
