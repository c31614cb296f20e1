# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""The role drill: it recovers with what an operator runs, word for word, and refuses what may not be broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config, from_mapping
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from jinja2 import Environment
from test_awx import render, trusted

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "drill"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_drill_recovers_with_the_roles_of_the_scenarios_playbook(scenario: str) -> None:
    (play,) = load(ROOT / "playbooks" / f"recover_{scenario}.yml")
    wanted = [
        (
            role["role"],
            {**role.get("vars", {}), **{key: value for key, value in role.items() if key not in ("role", "vars")}},
        )
        for role in play["roles"]
    ]
    assert "tasks" not in play
    first, second = (task for task in load(ROLE / "tasks/recover.yml") if "ansible.builtin.include_role" in task)
    instants = {"database_recovery_before", "database_recovery_timeline"}

    def said(value: Any) -> Any:
        text = str(value).strip("{} ")
        shown = Environment().compile_expression(text)(  # noqa: S701 - no page is made of it
            __drill_scenario=scenario,
            inventory_hostname="h",
            drill_reason="drill",
            __drill_role=f"{scenario}_recovery",
            __drill_loss={},
        )
        return value if shown is None else shown

    names = [first["ansible.builtin.include_role"]["name"], second["ansible.builtin.include_role"]["name"]]
    names[1] = names[1].replace("{{ __drill_role }}", f"{scenario}_recovery")
    assert names == [name for name, _ in wanted]
    given = {key: said(value) for key, value in first["vars"].items() if key != "preflight_confirm"}
    defaults = {key: load(ROOT / "roles/preflight/defaults/main.yml")[key] for key in given}
    assert given == {**defaults, **wanted[0][1]}
    assert wanted[1][1] == {}, "what the playbook gives the role, the drill must give it too"
    own = {key: said(value) for key, value in second["vars"].items() if key.startswith(f"{scenario}_recovery_")}
    more = {key: value for key, value in own.items() if not key.endswith(("_confirm", "_reason"))}
    assert own == {f"{scenario}_recovery_confirm": "h", f"{scenario}_recovery_reason": "drill", **more}
    named = {"files": {"files_recovery_point", "files_recovery_exact"}, "database": instants}
    assert set(more) == named.get(scenario, set())
    assert set(more) <= set(load(ROOT / f"roles/{scenario}_recovery/defaults/main.yml"))


ALTERED = ("files_altered", "files_encrypted")
POINT = "recovery_point_20261124_120000"


@pytest.mark.parametrize(
    ("scenario", "name"), [(each.name, name) for each in SCENARIOS.values() for name in each.faults]
)
def test_the_state_of_before_is_named_where_files_were_altered(scenario: str, name: str) -> None:
    """What is missing comes back to whoever names nothing. What was altered is somebody's work until a state is asked for."""
    names = {key: trusted(value) for key, value in load(ROLE / "vars/main.yml").items()}
    given = {
        "__drill_scenario": scenario,
        "__drill_broke": {"scenario": scenario, "name": name},
        "__drill_point": {"id": POINT},
        "drill_victim": "h",
    }
    second = [task for task in load(ROLE / "tasks/recover.yml") if "ansible.builtin.include_role" in task][1]["vars"]
    point, exact = (second[f"files_recovery_{what}"] for what in ("point", "exact"))
    altered = name in ALTERED
    assert render(exact, {**names, **given}) is altered
    assert render(point, {**names, **given}) == (POINT if altered else "latest")
    (taken,) = (task for task in load(ROLE / "tasks/begin.yml") if "lifeboat.dr.recovery_point" in task)
    assert taken["register"] == "__drill_point"


@pytest.mark.parametrize(
    ("scenario", "answer", "before", "timeline"),
    [
        ("database", {"scenario": "database", "loss": {"before": "0/A41607C8", "timeline": 2}}, "0/A41607C8", 2),
        ("database", {"scenario": "database", "loss": {}}, "", 0),
        ("database", None, "", 0),
        ("files", {"scenario": "database", "loss": {"before": "0/A41607C8", "timeline": 2}}, "", 0),
    ],
    ids=["a loss", "none that needs an instant", "nobody looked", "that of the scenario before"],
)
def test_a_recovery_goes_to_the_instant_before_the_loss(
    scenario: str, answer: dict[str, Any] | None, before: str, timeline: int
) -> None:
    names = {key: trusted(value) for key, value in load(ROLE / "vars/main.yml").items()}
    given = {"__drill_scenario": scenario, **({"__drill_instant": answer} if answer else {})}
    tasks = load(ROLE / "tasks/recover.yml")
    recovery = [task for task in tasks if "ansible.builtin.include_role" in task][1]["vars"]
    found = [render(recovery[f"database_recovery_{what}"], {**names, **given}) for what in ("before", "timeline")]
    assert found == [before, timeline]
    (looked,) = (task for task in tasks if "lifeboat.dr.drill_instant" in task)
    assert (looked["register"], tasks.index(looked)) == ("__drill_instant", 1), "before it is recovered"
    (end,) = (task for task in load(ROLE / "tasks/end.yml") if "lifeboat.dr.drill_end" in task)
    assert (render(end["lifeboat.dr.drill_end"]["loss"], {**names, **given}) or {}).get("before", "") == before


def test_every_scenario_and_every_fault_is_offered_and_described() -> None:
    options = load(ROLE / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert options["drill_scenario"]["choices"] == ["all", *SCENARIOS]
    text = (ROOT / "docs/drills.md").read_text(encoding="utf-8")
    for known in fault.FAULTS.values():
        for offered in known:
            assert f"`{offered.name}`" in text, offered.name


ALL = list(SCENARIOS)
WANTED: list[tuple[str, str, bool, list[str]]] = [
    ("all", "break", False, ["database", "object_storage", "files", "dumps", "backend", "frontend"]),
    ("all", "break", True, ["site"]),
    ("all", "beside", False, ["database", "object_storage", "files", "dumps"]),
    ("all", "beside", True, []),
    ("site", "break", False, []),
    ("site", "break", True, ["site"]),
    ("database", "break", True, []),
    ("backend", "beside", False, ["backend"]),  # which the module refuses, with the reason
]


@pytest.mark.parametrize(("scenario", "mode", "spare", "wanted"), WANTED)
def test_what_is_rehearsed_on_which_host(scenario: str, mode: str, spare: bool, wanted: list[str]) -> None:
    given = {"drill_scenario": scenario, "drill_mode": mode, "drill_spare": spare, "drill_scenarios": ALL}
    names = {key: trusted(value) for key, value in load(ROLE / "vars/main.yml").items()}
    assert render(names["__drill_wanted"], {**names, **given}) == wanted


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, ["database", "backend", "site"]),
        ({"lifeboat_objects": {"bucket": "b"}}, ["database", "object_storage", "backend", "site"]),
        (
            {"lifeboat_files": {"sources": [{"name": "uploads", "volume": "uploads"}]}},
            ["database", "files", "backend", "site"],
        ),
        ({"lifeboat_files": {"sources": []}}, ["database", "backend", "site"]),
        ({"lifeboat_database": False}, ["backend", "site"]),
        (
            {"lifeboat_database": False, "lifeboat_files": {"sources": [{"name": "uploads", "volume": "uploads"}]}},
            ["files", "backend", "site"],
        ),
        ({"lifeboat_database": {"name": "shop"}}, ["database", "backend", "site"]),
        (
            {"lifeboat_dumps": {"sources": [{"name": "wiki", "service": "wiki", "preset": "mariadb"}]}},
            ["database", "dumps", "backend", "site"],
        ),
        (
            {"lifeboat_frontend": {"url": "https://x/"}, "lifeboat_objects": {}},
            ["database", "backend", "frontend", "site"],
        ),
    ],
)
def test_all_is_what_can_hit_the_stack(variables: dict[str, Any], wanted: list[str]) -> None:
    assert render(load(ROLE / "defaults/main.yml")["drill_scenarios"], variables) == wanted
    assert [scenario.name for scenario in stack_of(variables).scenarios] == wanted


def stack_of(variables: dict[str, Any]) -> Config:
    """What the core makes of the same inventory."""
    bucket = (variables.get("lifeboat_objects") or {}).get("bucket", "")
    more = {"objects": {"bucket": bucket, "service": "store"}, "vault": {"objects_bucket": "mirror"}} if bucket else {}
    frontend = (
        {"frontend": {**variables["lifeboat_frontend"], "repository": "us/site"}}
        if "lifeboat_frontend" in variables
        else {}
    )
    parts = {name: variables[f"lifeboat_{name}"] for name in ("files", "dumps") if f"lifeboat_{name}" in variables}
    parts["database"] = variables.get("lifeboat_database", {})
    return from_mapping({"stack": "shop", "runtime": {"project": "shop"}, **more, **parts, **frontend})


def play(tmp_path: Path, hosts: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """Once more where ansible-core hangs: of a play with serial its thread for results dies at times (seen with 2.19.1,
    often, and 2.19.3), and what it waits for never comes."""
    (tmp_path / "hosts").write_text(hosts)
    for last in (False, False, True):
        try:
            return subprocess.run(
                [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts"),
                 str(ROOT / "playbooks/drill.yml"),
                 "-e", json.dumps({"report_directory": str(tmp_path / "report"), **given})],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=90,
                env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "false"},
            )  # fmt: skip
        except subprocess.TimeoutExpired as hung:
            if last or "results_thread_main" not in str(hung.stderr):
                raise
    raise AssertionError


HOSTS = """
[lifeboat_stacks]
here {0}
[lifeboat_spares]
spare {1}
[all:vars]
ansible_connection=local
ansible_become=false
ansible_python_interpreter={2}
lifeboat_stack=no-such-stack
"""
DRILL = "lifeboat_environment=drill"
REFUSED: dict[str, tuple[tuple[str, str], dict[str, Any], str]] = {
    "production": (("lifeboat_environment=production", DRILL), {"scenario": "database", "confirm": "here"}, "here is in the environment production"),
    "nobody said": (("", DRILL), {"scenario": "database", "confirm": "here"}, "here is in the environment production"),
    "the stack that a spare replaces": (("", DRILL), {"scenario": "site", "confirm": "here,spare"}, "here is in the environment production"),
    "the spare itself": ((DRILL, ""), {"scenario": "site", "confirm": "here,spare"}, "spare in production"),
    "another host": ((DRILL, DRILL), {"scenario": "database", "confirm": "elsewhere"}, "names elsewhere"),
    "a backup that failed": ((DRILL, DRILL), {"scenario": "database", "confirm": "here", "accept": "failed"}, "takes no accept=failed"),
    "a backup that failed, next to production": ((DRILL, DRILL), {"scenario": "database", "mode": "beside", "accept": "failed"}, "takes no accept=failed"),
    "an unknown scenario": ((DRILL, DRILL), {"scenario": "network", "confirm": "here"}, "value of drill_scenario must be one of"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("marks", "given", "words"), REFUSED.values(), ids=list(REFUSED))
def test_refused(tmp_path: Path, marks: tuple[str, str], given: dict[str, Any], words: str) -> None:
    ran = play(tmp_path, HOSTS.format(*marks, sys.executable), **given)
    assert ran.returncode
    assert words in " ".join(ran.stdout.split())
    assert "drill_begin" not in ran.stdout + ran.stderr, "nobody even looked"
    assert "drill_beside" not in ran.stdout + ran.stderr, "nothing was restored"
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.slow
def test_half_a_confirmation_plans_only(tmp_path: Path) -> None:
    """A site is broken on one host and built on another: both must be named."""
    ran = play(tmp_path, HOSTS.format(DRILL, DRILL, sys.executable), scenario="site", confirm="spare")
    assert "plan | See that the stack is well" in ran.stdout
    assert "begin |" not in ran.stdout


PULLS: list[tuple[dict[str, Any], str]] = [
    ({"lifeboat_vault": {"mode": "pull"}, "lifeboat_keeper": {"host": "keeper1"}}, "keeper1"),
    ({"lifeboat_vault": {"mode": "push"}, "lifeboat_keeper": {"host": "keeper1"}}, ""),
    ({"lifeboat_keeper": {"host": "keeper1"}}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("given", "keeper"), PULLS)
def test_the_keeper_pulls_the_point_that_the_site_is_recovered_to(given: dict[str, Any], keeper: str) -> None:
    default = load(ROLE / "defaults/main.yml")["drill_keeper"]
    assert render(default, given) == keeper
    names = [task["name"].partition("| ")[2] for task in load(ROLE / "tasks/begin.yml")]
    assert names.index("Take a recovery point") + 1 == names.index("Let the keeper pull it")
    (task,) = (task for task in load(ROLE / "tasks/begin.yml") if task["name"].endswith("Let the keeper pull it"))
    assert task["when"] == ["__drill_scenario == 'site'", "drill_keeper != ''"]
    host = render(task["delegate_to"], {"drill_keeper": keeper, "drill_victim": "app1"})
    assert host == keeper or (not keeper and host), "Ansible refuses a task of no host, also one that it skips"
