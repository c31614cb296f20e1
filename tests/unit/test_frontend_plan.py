# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sight of the site, the remote and GitHub is called, and which steps follow: a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import plan as planning
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend.assess import (
    Assessment,
    Last,
    Pages,
    Run,
    failing_lines,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend.build import headline, telling
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend.site import Site
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import FallbackSettings, FrontendSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import github

OLD, NEW = "a" * 40, "b" * 40
SETTINGS = FrontendSettings(
    url="https://www.shop.test/", repository="acme/shop", domain="www.shop.test",
    fallback=FallbackSettings(url="https://fallback.test/", directory="/srv/fallback"),
)  # fmt: skip
PAGES = Pages("www.shop.test", "built")
WELL = Assessment(
    Site(200, NEW), head=NEW, pages=PAGES, workflow_state="active", good=(NEW, OLD),
    run=Run(1, NEW, "completed", "success", 1, 1),
)  # fmt: skip
DOWN, STALE = Site(404, "", "answers 404"), Site(200, OLD)


def failed(step: str, *lines: str, conclusion: str = "failure", job: str = "build") -> Run:
    return Run(2, NEW, "completed", conclusion, 1, 2, job, step, lines)


LADDER = ("build", "redeploy", "fallback")
CASES: list[tuple[str, dict[str, Any], str, str, tuple[str, ...]]] = [
    ("healthy", {}, "healthy", "none", ()),
    ("an abbreviated commit", {"site": Site(200, NEW[:7])}, "healthy", "none", ()),
    ("an older commit, the same frontend", {"site": STALE, "same": True}, "healthy", "none", ()),
    ("healthy, GitHub away", {"github": github.UNREACHABLE, "pages": None, "run": None}, "healthy", "none", ()),
    ("set back, and that is known", {"site": STALE, "last": Last(OLD, NEW, "x")}, "healthy", "none",
     ()),
    ("set back, then another push", {"site": STALE, "last": Last(OLD, OLD, "x"),
     "run": failed("Build", "error: x")}, "stale", "build broken", LADDER),
    ("no marker", {"site": Site(200, "", "version.json answers 404")}, "unverified", "none", ()),
    ("no remote, nothing known", {"head": "", "good": (), "head_said": "refused"}, "unverified", "none", ()),
    ("site deleted", {"site": DOWN}, "down", "transient", ("rerun", *LADDER)),
    ("nobody answers", {"site": Site(0, "", "refused")}, "down", "transient", ("rerun", *LADDER)),
    ("under way", {"site": STALE, "run": Run(2, NEW, "in_progress", "", 1, 2)}, "stale", "deploying",
     ("wait", "rerun", *LADDER)),
    ("registry away", {"site": STALE, "run": failed("Run npm ci", "npm error code ECONNREFUSED")}, "stale", "transient",
     ("rerun", *LADDER)),
    ("bad gateway", {"site": STALE, "run": failed("Install", "npm error 502 Bad Gateway - GET https://r/")}, "stale",
     "transient", ("rerun", *LADDER)),
    ("checkout failed", {"site": STALE, "run": failed("Run actions/checkout@v5", "fatal: x")}, "stale", "transient",
     ("rerun", *LADDER)),
    ("cancelled", {"site": STALE, "run": failed("", conclusion="cancelled")}, "stale", "transient", ("rerun", *LADDER)),
    ("timed out", {"site": STALE, "run": failed("Build", conclusion="timed_out")}, "stale", "transient",
     ("rerun", *LADDER)),
    ("does not compile", {"site": STALE, "run": failed("Build", "error: Unexpected token")}, "stale", "build broken",
     LADDER),
    ("a lock out of step", {"site": STALE, "run": failed("Run npm ci", "npm error Missing: x from lock file")}, "stale",
     "build broken", LADDER),
    ("invalid workflow", {"site": STALE, "run": Run(2, NEW, "completed", "failure", 1, 2)}, "stale", "build broken",
     LADDER),
    ("not allowed to deploy", {"site": STALE, "run": failed("Deploy", "Ensure GitHub Pages has been enabled")}, "stale",
     "configuration", ("rerun", *LADDER)),
    ("domain lost", {"site": DOWN, "pages": replace(PAGES, cname=None)}, "down", "configuration", ("domain", *LADDER)),
    ("domain wrong, site up", {"pages": replace(PAGES, cname="x.test")}, "misconfigured", "configuration", ("domain",)),
    ("Pages off", {"site": DOWN, "pages": None}, "down", "configuration", ("pages", "domain", "rerun", *LADDER)),
    ("workflow switched off", {"site": STALE, "workflow_state": "disabled_manually"}, "stale", "configuration", LADDER),
    ("workflow did not run", {"site": STALE, "run": Run(1, OLD, "completed", "success")}, "stale", "configuration",
     ("start", *LADDER)),
    ("never ran", {"site": DOWN, "run": None}, "down", "configuration", ("start", *LADDER)),
    ("API away", {"site": DOWN, "github": github.UNREACHABLE}, "down", "GitHub cannot be asked", ("build", "fallback")),
    ("token invalid", {"site": DOWN, "github": github.TOKEN}, "down", "GitHub cannot be asked", ("build", "fallback")),
    ("rate limited", {"site": STALE, "github": github.LIMIT}, "stale", "GitHub cannot be asked", ("build", "fallback")),
    ("not visible", {"site": DOWN, "github": github.MISSING}, "down", "GitHub cannot be asked", ("build", "fallback")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "condition", "cause", "steps"), CASES, ids=[case[0] for case in CASES])
def test_classify(name: str, change: dict[str, Any], condition: str, cause: str, steps: tuple[str, ...]) -> None:
    del name
    found = planning.classify(replace(WELL, **change), SETTINGS)
    assert (found.condition, found.cause, found.steps) == (condition, cause, steps)
    assert found.why


def test_no_domain_is_watched_where_none_is_named() -> None:
    settings = replace(SETTINGS, domain="")
    assert planning.classify(replace(WELL, pages=Pages("x.test")), settings).condition == "healthy"
    off = planning.classify(replace(WELL, site=DOWN, pages=None), settings)
    assert off.steps == ("pages", "rerun", *LADDER)


def test_which_commit_is_expected() -> None:
    last = Last(OLD, NEW, "x")
    assert planning.expected(WELL) == NEW
    assert planning.expected(replace(WELL, last=last)) == OLD
    assert planning.expected(replace(WELL, last=replace(last, head=OLD))) == NEW
    assert planning.expected(replace(WELL, head="", last=last)) == OLD
    assert planning.expected(replace(WELL, head="")) == NEW
    assert planning.expected(replace(WELL, head="", good=())) == ""


LOG = """\ufeff2026-11-24T22:58:01.1234567Z ##[group]Run actions/checkout@v5
2026-11-24T22:58:01.1234567Z warning: error in another step
2026-11-24T22:58:01.1234567Z ##[endgroup]
2026-11-24T22:58:02.1234567Z ##[group]Build
2026-11-24T22:58:02.2234567Z \x1b[36m> vite build\x1b[39m
2026-11-24T22:58:02.2234567Z github_token=ghp_0123456789abcdef Authorization: Bearer abcdefghij0123
2026-11-24T22:58:02.3234567Z [PARSE_ERROR] Error: Unexpected token
2026-11-24T22:58:02.3234567Z    \u256d\u2500[ src/items.js:7:18 ]
2026-11-24T22:58:02.3234567Z    \u2500\u2500\u2500\u256f
2026-11-24T22:58:02.3234567Z     at async build (file:///x/node.js:1:1)
2026-11-24T22:58:02.4234567Z ##[error]Process completed with exit code 1.
2026-11-24T22:58:03.4234567Z ##[group]Post
2026-11-24T22:58:03.4234567Z error: later
"""


def test_the_failing_lines_of_a_log_are_those_of_the_failing_step_without_secrets() -> None:
    lines = failing_lines(LOG)
    assert lines[0] == "[PARSE_ERROR] Error: Unexpected token"
    assert any("src/items.js:7:18" in line for line in lines)
    assert not any(word in "\n".join(lines) for word in ("ghp_", "abcdefghij", "another step", "later", "at async"))
    assert failing_lines("") == []
    assert failing_lines("2026-11-24T22:58:02.4234567Z ##[error]Process completed with exit code 1.") != []


def test_what_tells_why() -> None:
    many = [f"line {number}" for number in range(50)]
    assert telling("\n".join(many), 3) == many[-3:]
    assert telling("\n".join([*many, "npm error code E404", "npm error 404"]), 3)[0] == "npm error code E404"
    assert headline(["building", "error: no", "more"]) == "error: no"
    vite = ["✗ Build failed in 101ms", "error during build:", "Build failed with 1 error:", "[PARSE_ERROR] Unexpected"]
    assert headline(vite) == "[PARSE_ERROR] Unexpected"
    assert headline(vite[:2]) == vite[0]
    assert headline(["npm error code ECONNREFUSED", "npm error syscall connect"]) == "npm error code ECONNREFUSED"
    assert headline(["building", "more"]) == "more"
    assert headline([]) == "it said nothing"
