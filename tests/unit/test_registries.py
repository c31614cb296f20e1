# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registries of components and scenarios: YAML says what they say, and no other code lists them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.doc_fragments.options import ModuleDocFragment
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.components import COMPONENTS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.escrow_opened import OPENED
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.judgements import JUDGEMENTS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.levels import PROOFS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS, taken
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.mounts import PROTECTORS

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


# --- what is written down, and what the registries say ---


def test_a_component_has_what_is_done_with_it() -> None:
    assert list(COMPONENTS) == list(PROOFS)
    assert {*COMPONENTS} == {*taken()}, "in another order: a base comes after what others register"
    for some in (JUDGEMENTS, OPENED, PROTECTORS):
        assert [name for name in KINDS if name in some] == list(some)
    for scenario in SCENARIOS.values():
        assert scenario.component in ("", *scope.ASSESS), "it can be assessed by itself"
    assert [scenario.component for scenario in SCENARIOS.values() if scenario.component] == list(scope.ASSESS)
    assert set(scope.ASSESS) <= set(KINDS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_what_recovers_it(name: str) -> None:
    scenario = SCENARIOS[name]
    (play,) = load(f"playbooks/{scenario.playbook}.yml")
    assert play["roles"][1]["role"] == f"lifeboat.dr.{name}_recovery"
    for folder in ("docs", "docs/ja"):
        assert (ROOT / folder / f"{scenario.runbook}.md").is_file()
    assert [known.name for known in fault.FAULTS[name]] == list(scenario.faults)


def test_the_words_of_the_specifications_are_those_of_the_registries() -> None:
    options = yaml.safe_load(ModuleDocFragment.SCENARIO)["options"]
    assert options["scenario"]["choices"] == list(SCENARIOS)
    spec = load("roles/drill/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert spec["drill_scenario"]["choices"] == ["all", *SCENARIOS]
    tasks = load("roles/drill/tasks/recover.yml")
    (recover,) = (list(task["vars"]) for task in tasks if task["name"] == "recover | Recover it")
    every = [f"{name}_recovery_{what}" for name in SCENARIOS for what in ("confirm", "reason")]
    assert [name for name in recover if name.endswith(("_confirm", "_reason"))] == every
    owners = [name.partition("_recovery_")[0] for name in recover]
    assert list(dict.fromkeys(owners)) == list(SCENARIOS)
    assert owners == sorted(owners, key=list(SCENARIOS).index), "what one of them needs besides stands with it"


# --- no other code lists them ---

NAMES = {"DATABASE": "database", "OBJECTS": "objects", "CONFIG": "config"}
NAMES |= {"OBJECT_STORAGE": "object_storage", "BACKEND": "backend", "FRONTEND": "frontend", "SITE": "site"}
REGISTRIES = (
    "repository/components.py", "operations/components.py", "operations/escrow_opened.py", "operations/judgements.py",
    "operations/levels.py", "settings/scenarios.py", "stack/mounts.py",
)  # fmt: skip
# What has two components or three scenarios in one literal, and why it does not list them.
SERVICES = "the role of a service, of which two are stores: what lies below a backend is not what is backed up"
EXCEPTIONS = {
    **dict.fromkeys(("backend/cause.py", "backend/facts.py", "backend/steps.py", "backend/stores.py"), SERVICES),
    "phases/recoveries.py": "the recoveries of the host's command; a test compares them with the playbooks",
    "site/scope.py": "ASSESS is of the two that can be broken by themselves; a test compares it with the scenarios",
}


def restated(path: Path) -> list[str]:
    """The literals of a file that name two components or three scenarios, by line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        members: list[ast.expr | None] = []
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            members = [*node.elts]
        elif isinstance(node, ast.Dict):
            members = node.keys
        words = {word(member) for member in members}
        if len(words & set(KINDS)) > 1 or len(words & set(SCENARIOS)) > 2:
            found.append(f"line {getattr(node, 'lineno', 0)}: {', '.join(sorted(filter(None, words)))}")
    return found


def word(node: ast.expr | None) -> str:
    """What a member of a literal says: its text, or the constant that stands for one."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return NAMES.get(getattr(node, "id", getattr(node, "attr", "")), "")


def sources(root: Path) -> dict[str, Path]:
    paths = [*(root / "plugins/module_utils").rglob("*.py"), *(root / "plugins/modules").glob("*.py")]
    names = {path.relative_to(root / "plugins").as_posix().removeprefix("module_utils/"): path for path in paths}
    return {name: path for name, path in sorted(names.items()) if name not in REGISTRIES}


def test_no_other_code_lists_components_or_scenarios() -> None:
    found = {name: said for name, path in sources(ROOT).items() if (said := restated(path))}
    assert set(found) == set(EXCEPTIONS), found


PLANTED = {
    "a tuple of components": ('ALL = ("database", "objects")', "line 1: database, objects"),
    "a set": ('ALL = {"config", "database"}', "line 1: config, database"),
    "keys of a mapping": ('ALL = {"database": 1, "config": 2}', "line 1: config, database"),
    "by their constants": ("ALL = [DATABASE, components.OBJECTS]", "line 1: database, objects"),
    "three scenarios": ('def late():\n    return ["site", "backend", FRONTEND]', "line 2: backend, frontend, site"),
}
FINE = (
    'A = ("database", "x")\nB = ["backend", "frontend"]\nC = {"x": "database", "y": "objects"}\nd = config, objects\n'
)


@pytest.mark.parametrize(("planted", "said"), PLANTED.values(), ids=list(PLANTED))
def test_a_planted_list_is_found(tmp_path: Path, planted: str, said: str) -> None:
    path = tmp_path / "planted.py"
    path.write_text(FINE, encoding="utf-8")
    assert restated(path) == []
    path.write_text(planted, encoding="utf-8")
    assert restated(path) == [said]


# What is written once, and where.
ONCE = {
    "%Y%m%d_%H%M%S": {"base/clock.py"},
    "Log = Callable": {"base/errors.py"},
    # What makes text harmless; and what JSON, XML and S3 servers take, which makes none.
    ".isprintable()": {"base/errors.py", "base/text.py"},
    r"\x1f": {"mirror/listing.py", "mirror/sides.py", "s3/listing_parser.py", "s3/signed.py", "schedule.py"},
    "shutil.disk_usage": {"base/filesystem.py"},
    # The fullest of a container's disks, its inodes, those of a keeper's disk; and what runs with nothing imported.
    "os.statvfs": {"database/scratch.py", "database/wal/watch.py", "backend/host.py", "keeper/receive.py"},
}


@pytest.mark.parametrize("text", ONCE)
def test_what_there_is_once_stays_one(text: str) -> None:
    found = {
        path.relative_to(ROOT / "plugins/module_utils").as_posix()
        for path in (ROOT / "plugins/module_utils").rglob("*.py")
        if text in path.read_text("utf-8")
    }
    found |= {path.name for path in (ROOT / "plugins/modules").glob("*.py") if text in path.read_text("utf-8")}
    assert found == ONCE[text]
