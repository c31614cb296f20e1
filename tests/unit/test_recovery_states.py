# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recovery that stopped tells of the state it left: rendered as the role does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLES = Path(__file__).resolve().parents[2] / "roles"
OLD = "Already in place of what was found: shop (the old one is shop_quarantine_1)"
CLOSED = {"checks": [{"detail": "the application stays stopped: the object storage was empty"}]}
OPEN = {"checks": [{"detail": "running"}]}


def state(role: str, reached: str, **facts: Any) -> str:
    """The text of vars/main.yml, with what the phases left behind."""
    from ansible.template import trust_as_template

    def trusted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: trusted(inner) for key, inner in value.items()}
        return [*map(trusted, value)] if isinstance(value, list) else trust_as_template(value)

    loaded = trusted(yaml.safe_load((ROLES / role / "vars/main.yml").read_text()))
    given = {name if name.startswith("agent_") else f"__{role}_{name}": value for name, value in facts.items()}
    known = {"agent_objects": {}, **given}
    found = Templar(loader=DataLoader(), variables={**loaded, **known}).template(loaded[f"__{role}_states"][reached])
    return " ".join(str(found).split())


@pytest.mark.parametrize(
    ("role", "reached", "facts", "words"),
    [
        ("object_storage_recovery", "restore_fill", {"restarted": OPEN}, "was started again"),
        ("object_storage_recovery", "restore_fill", {"restarted": CLOSED}, "stays stopped: a bucket of it was missing"),
        ("object_storage_recovery", "reopen", {"reopened": {"verdict": "PASS"}}, "the application is well"),
        ("object_storage_recovery", "reopen", {"reopened": {"verdict": "FAIL"}}, "the application is not well yet"),
        ("object_storage_recovery", "reopen", {}, "the application is not well yet"),
        ("database_recovery", "restore_swap", {"restarted": OPEN}, "the live database is as it was found, and the"),
        ("database_recovery", "restore_swap", {"restored": {"remedy": f"Look. {OLD}"}}, f"{OLD}, and the application"),
        ("database_recovery", "restore_swap", {"restarted": CLOSED}, "the application stays stopped: the server was"),
        ("database_recovery", "reopen", {"restored": {"reopened": {"verdict": "PASS"}}}, "the application is well"),
        ("database_recovery", "reopen", {"restored": {"reopened": {"verdict": "FAIL"}}}, "is not well yet"),
        ("site_recovery", "verify", {"reopened": {"verdict": "PASS"}}, "the application is well, but not"),
        ("site_recovery", "verify", {"reopened": {"verdict": "FAIL"}}, "the application is not well yet. Nobody was"),
        ("site_recovery", "verify", {}, "the database is restored; the application is not well yet"),
        ("site_recovery", "objects", {}, "the database is restored; the bucket is not whole yet"),
    ],
)
def test_the_state_is_the_true_one(role: str, reached: str, facts: dict[str, Any], words: str) -> None:
    assert words in state(role, reached, **facts)


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({}, ["the bucket is not whole yet", "the application's files are not whole yet", "the application is not"]),
        (
            {"bucket": "uploads"},
            ["the bucket is not", "the bucket is restored; the application's", "the bucket is restored; the app"],
        ),
    ],
)  # fmt: skip
def test_a_site_without_a_database_never_says_that_it_is_restored(objects: dict[str, str], words: list[str]) -> None:
    for reached, start in zip(("objects", "files", "verify"), words):
        told = state("site_recovery", reached, agent_database=False, agent_objects=objects)
        assert told.startswith(start)
        assert "database" not in told


@pytest.mark.parametrize("database", [["database"], []], ids=["database", "no database"])
@pytest.mark.parametrize(
    "files", [[], ["files"], ["dumps"], ["files", "dumps"]], ids=["", "files", "dumps", "files and dumps"]
)
@pytest.mark.parametrize(("objects", "phases"), [({"bucket": "uploads"}, ["objects"]), ({}, [])])
def test_a_site_without_a_bucket_has_no_phase_for_it(
    objects: dict[str, str], phases: list[str], files: list[str], database: list[str]
) -> None:
    """As the tasks after the images begin them."""
    from ansible.template import trust_as_template

    role = ROLES / "site_recovery"
    variables = yaml.safe_load((role / "vars/main.yml").read_text())
    known: dict[str, Any] = {
        "agent_objects": objects,
        "__site_recovery_plan": {"plan": {"parts": dict.fromkeys([*database, *files], "x")}},
    }
    for name in (f"__site_recovery_after_{phase}" for phase in ("files", "objects", "database", "images")):
        known[name] = Templar(loader=DataLoader(), variables=known).template(trust_as_template(variables[name]))
    begun = []
    for part in ("database", "objects", *files, "verify"):
        task = yaml.safe_load((role / f"tasks/{part}.yml").read_text())[0]
        templar = Templar(loader=DataLoader(), variables=known)
        if "when" not in task or templar.evaluate_conditional(trust_as_template(task["when"])):
            begun.append(templar.template(trust_as_template(task["lifeboat.dr.site_phase"]["begin"])))
    assert begun == [*database, *phases, *files, "verify"]
