# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection against itself: documentation and code, defaults and specifications, names and files."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_collections.lifeboat.dr.plugins.module_utils.module.task as module_utils_module
import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/defaults/main.yml"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def load(path: Path | str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@functools.cache
def code(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.modules.{name}")


@functools.cache
def described() -> dict[str, Any]:
    """What ansible-doc makes of all modules at once."""
    words = ["ansible-doc", "--json", "--type", "module", *(f"lifeboat.dr.{name}" for name in MODULES)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def documentation(name: str) -> dict[str, Any]:
    """DOCUMENTATION with its fragments merged in, as Ansible does it."""
    found: dict[str, Any] = described()[f"lifeboat.dr.{name}"]["doc"]
    return found


@functools.cache
def argument_spec(name: str) -> dict[str, dict[str, Any]]:
    """What main() hands to AnsibleModule, by running it as far as that."""

    class Seen(Exception):
        pass

    given: dict[str, Any] = {}

    def see(*_: Any, **options: Any) -> None:
        given.update(options)
        raise Seen

    module = code(name)
    where = module if hasattr(module, "AnsibleModule") else module_utils_module
    real = where.AnsibleModule
    where.AnsibleModule = see
    try:
        with pytest.raises(Seen):
            module.main()
    finally:
        where.AnsibleModule = real
    assert given["supports_check_mode"] is True
    spec: dict[str, dict[str, Any]] = given["argument_spec"]
    return spec


def test_there_is_something_to_test() -> None:
    assert len(MODULES) >= 11
    assert len(ROLES) >= 4
    assert len(PLAYBOOKS) >= 6


@pytest.mark.parametrize("name", MODULES)
def test_options_in_the_documentation_are_those_of_the_code(name: str) -> None:
    documented, spec = documentation(name)["options"], argument_spec(name)
    assert sorted(documented) == sorted(spec)
    for option, wanted in spec.items():
        said = documented[option]
        for key, default in (
            ("type", "str"),
            ("default", None),
            ("choices", None),
            ("elements", None),
            ("required", False),
        ):
            assert said.get(key, default) == wanted.get(key, default), f"{option}: {key}"
        assert said["description"], option


@pytest.mark.parametrize("name", MODULES)
def test_secrets_are_never_logged(name: str) -> None:
    for option, wanted in argument_spec(name).items():
        if re.search("secret|password|token", option):
            assert wanted.get("no_log") is True, option


@pytest.mark.parametrize("name", MODULES)
def test_documentation_is_whole(name: str) -> None:
    text = documentation(name)
    assert text["module"] == name
    assert text["version_added"] == "0.1.0"
    assert not text["short_description"].endswith(".")
    assert set(text["attributes"]) == {"check_mode", "diff_mode"}
    for attribute in text["attributes"].values():
        assert attribute["support"] in ("full", "partial", "none")
        assert attribute["support"] == "full" or attribute["details"]
    returned = yaml.safe_load(code(name).RETURN)
    for key, facts in returned.items():
        assert {"description", "returned", "type"} <= set(facts), key
    if name != "agent":
        assert {"log", "phase"} <= set(returned)


def tasks(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(code(name).EXAMPLES)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_examples_parse_and_use_documented_options_only(name: str) -> None:
    own = [task for task in tasks(name) if f"lifeboat.dr.{name}" in task]
    assert own, "no example of the module itself"
    for task in tasks(name):
        assert re.fullmatch(r"[A-Z].*[^.]", task["name"])
        modules = [key for key in task if "." in key]
        assert len(modules) == 1, "written with its full name"
        called = modules[0].rpartition(".")[2]
        if modules[0].startswith("lifeboat.dr."):
            options = documentation(called)["options"]
            assert set(task[modules[0]]) <= set(options)
            for option, value in task[modules[0]].items():
                choices = options[option].get("choices")
                assert not choices or value in choices
            required = {option for option, facts in options.items() if facts.get("required")}
            assert required <= set(task[modules[0]])


@pytest.mark.parametrize("name", MODULES)
def test_examples_name_only_what_modules_return(name: str) -> None:
    """`info.status.verdict` after `register: info` must be something that backup_info returns."""
    registered: dict[str, set[str]] = {}
    for task in tasks(name):
        text = json.dumps({key: value for key, value in task.items() if key not in ("name", "register")})
        for variable, keys in registered.items():
            for key in re.findall(rf"\b{variable}\.(\w+)", text):
                assert key in keys, f"{variable}.{key}"
        called = next(key for key in task if "." in key)
        if "register" in task and called.startswith("lifeboat.dr."):
            registered[task["register"]] = set(yaml.safe_load(code(called.rpartition(".")[2]).RETURN))


@pytest.mark.parametrize("name", MODULES)
def test_ansible_doc_works(name: str) -> None:
    one = described()[f"lifeboat.dr.{name}"]
    assert sorted(one["doc"]["options"]) == sorted(argument_spec(name))
    assert one["examples"].strip() == code(name).EXAMPLES.strip()
    assert one["return"]


def test_the_version_is_said_once() -> None:
    galaxy = load("galaxy.yml")
    assert galaxy["version"] == VERSION
    assert (galaxy["namespace"], galaxy["name"]) == ("lifeboat", "dr")
    for path in [galaxy["readme"], *([galaxy["license_file"]] if "license_file" in galaxy else [])]:
        assert (ROOT / path).exists()
    changelog = load("changelogs/changelog.yaml")
    assert VERSION in changelog["releases"] or changelog["releases"] == {}


def test_the_action_group_holds_every_module_that_takes_a_stack() -> None:
    """`module_defaults: group/lifeboat.dr.lifeboat: {stack: shop}` must reach them all, and none that refuses it."""
    group = load("meta/runtime.yml")["action_groups"]["lifeboat"]
    assert group == sorted(name for name in MODULES if "stack" in argument_spec(name))
    assert [name for name in MODULES if name not in group] == [
        "agent",
        "alert_test",
        "fleet_info",
        "report",
        "schedule",
        "stack_info",
        "undeploy",
    ]


@pytest.mark.parametrize("name", ROLES)
def test_defaults_are_those_of_the_specification(name: str) -> None:
    options = load(f"roles/{name}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = load(f"roles/{name}/defaults/main.yml")
    assert list(defaults) == list(options), "same names, same order"
    for key, option in options.items():
        if "{{" in str(defaults[key]) and option["type"] not in ("str", "path"):
            assert "default" not in option, "antsibull-docs: the text of a template is not a value of that type"
        else:
            assert defaults[key] == option.get("default")
        assert key.startswith(f"{name}_")
        assert option["description"]
        assert option["type"]


@pytest.mark.parametrize("name", ROLES)
def test_every_role_has_the_same_skeleton(name: str) -> None:
    role = ROOT / "roles" / name
    for part in ("README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (role / part).is_file(), part
    contents = (role / "tasks/main.yml").read_text(encoding="utf-8").splitlines()
    assert len(contents) < 40, "a table of contents"
    assert sorted(ROLES) == sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


# Task files that the operator brings.
OPERATORS = ("{{ site_recovery_cutover }}", "{{ drill_power_off }}")


def each_task(found: Any) -> Iterator[dict[str, Any]]:
    for task in found or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from each_task(task.get(part))


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/tasks/*.yml")), ids=lambda path: "/".join(path.parts[-3:]))
def test_tasks_are_named_after_their_file_and_included_files_exist(path: Path) -> None:
    for task in each_task(load(path)):
        name = task["name"]
        if path.name != "main.yml":
            assert name.startswith(f"{path.stem} | "), name
        assert re.fullmatch(r"[A-Z].*[^.]", name.rpartition(" | ")[2]), name
        for key in ("ansible.builtin.include_tasks", "ansible.builtin.import_tasks"):
            if key in task and task[key] not in OPERATORS:
                assert (path.parent / task[key]).is_file(), task[key]
        assert "ansible.builtin.set_fact" not in task
        assert not [key for key in task if key in ("shell", "ansible.builtin.shell", "raw", "ansible.builtin.raw")]
        for key, arguments in task.items():
            if key.startswith("lifeboat.dr."):
                spec = argument_spec(key.rpartition(".")[2])
                assert set(arguments or {}) <= set(spec), key
                assert {option for option, wanted in spec.items() if wanted.get("required")} <= set(arguments or {})


def test_every_role_needs_the_ansible_that_the_collection_needs() -> None:
    """2.19 is the oldest core whose bundle has community.postgresql 4."""
    assert load("meta/runtime.yml")["requires_ansible"] == ">=2.19.3"
    assert {load(f"roles/{name}/meta/main.yml")["galaxy_info"]["min_ansible_version"] for name in ROLES} == {"2.19"}


def test_every_task_file_of_a_role_is_included() -> None:
    others = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("roles/*/tasks/*.yml"))
    for name in ROLES:
        folder = ROOT / "roles" / name / "tasks"
        text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.yml"))
        for path in folder.glob("*.yml"):
            elsewhere = re.search(rf"name: lifeboat\.dr\.{name}\n\s+tasks_from: {path.stem}\n", others)
            assert path.name == "main.yml" or path.name in text or elsewhere, (
                f"{name}: {path.name} is included by nobody"
            )


PROMETHEUS = {"__name__", "__address__", "__param_target"}  # labels of its own


def private_reads(texts: dict[str, str], roles: list[str]) -> list[str]:
    """`<file>: <name>` of every private variable of another role, or whose name is put together at run time."""
    found = []
    for path, text in texts.items():
        own = f"__{path.split('/')[1]}_" if path.startswith("roles/") else ""
        names = set(re.findall(r"(?<!\w)__[a-z]\w*", text)) - PROMETHEUS
        of_roles = tuple(f"__{role}_" for role in roles)
        foreign = (
            (name for name in names if not name.startswith(own))
            if own
            else (name for name in names if name.startswith(of_roles))
        )
        found += [f"{path}: {name}" for name in sorted(foreign)]
        found += [f"{path}: {part}" for part in re.findall(r"""(?:'__'|"__")\s*~.*|__\w*\{\{.*""", text)]
    return found


def test_no_role_reads_another_roles_private_variables() -> None:
    """Nor does a playbook or an operator's task file: what others may use has a public name."""
    folders = (
        "roles/*/tasks",
        "roles/*/vars",
        "roles/*/defaults",
        "roles/*/templates",
        "playbooks",
        "tests/testinfra/*",
    )
    paths = [path for folder in folders for path in ROOT.glob(f"{folder}/*") if path.suffix in (".yml", ".j2")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}
    assert {path.split("/")[1] for path in texts if path.startswith("roles/")} == set(ROLES)
    assert private_reads(texts, ROLES) == []


def test_a_module_that_is_internal_to_a_role_is_used_by_that_role_only() -> None:
    files = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
    said = {
        name: re.findall(r"Internal to the role C\((\w+)\)\.", str(documentation(name)["description"]))
        for name in MODULES
    }
    for name, owners in said.items():
        used = {path for path in files if re.search(rf"\blifeboat\.dr\.{name}:", path.read_text(encoding="utf-8"))}
        assert not owners or {path.parent.parent.name for path in used} == set(owners), name
    page = (ROOT / "docs/modules.md").read_text(encoding="utf-8")
    front, appendix = page.split("\n## Internal modules\n")
    assert re.findall(r"^### (\w+)$", appendix, re.MULTILINE) == [name for name in MODULES if said[name]]
    assert re.findall(r"^## (\w+)$", front, re.MULTILINE) == [name for name in MODULES if not said[name]]


PRIVATE: list[tuple[str, str, list[str]]] = [
    ("roles/drill/vars/main.yml", "__drill_a: '{{ __drill_b }}'", []),
    ("roles/drill/vars/main.yml", "{{ __agent_configuration }}", ["__agent_configuration"]),
    ("roles/drill/vars/main.yml", "{{ __database_backup_x | default(__drill_x) }}", ["__database_backup_x"]),
    ("roles/drill/vars/main.yml", "{{ __no_role_at_all }}", ["__no_role_at_all"]),
    ("roles/drill/vars/main.yml", "lookup('vars', '__' ~ role ~ '_evidence')", ["'__' ~ role ~ '_evidence')"]),
    ("roles/drill/vars/main.yml", "name: __{{ role }}_evidence", ["__{{ role }}_evidence"]),
    ("playbooks/escrow.yml", "{{ __escrow_settings }}", []),
    ("playbooks/escrow.yml", "{{ __agent_configuration }}", ["__agent_configuration"]),
]


@pytest.mark.parametrize(("path", "text", "found"), PRIVATE)
def test_reading_a_private_variable_is_found(path: str, text: str, found: list[str]) -> None:
    assert private_reads({path: text}, ["agent", "database_backup", "drill"]) == [f"{path}: {name}" for name in found]


def test_roles_know_no_group() -> None:
    """Who is a database server is the inventory's matter; a role that says groups['x'] works in one inventory only."""
    tables = [ROOT / "roles/awx/files/templates.json"]  # of the playbooks, which do know
    for path in sorted({*ROOT.glob("roles/*/*/*")} - {*tables}):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bgroups\s*[\[.]|\bgroup_names\b|lifeboat_stacks", text), path


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)
def test_playbooks(path: Path) -> None:
    (play,) = load(path)
    assert play["hosts"].startswith("{{ lookup('lifeboat.dr.hosts', '"), "a job on no host fails"
    assert play["gather_facts"] is False
    for role in play.get("roles", []):
        namespace, _, name = role["role"].rpartition(".")
        assert namespace == "lifeboat.dr"
        assert (ROOT / "roles" / name / "tasks/main.yml").is_file()
    for task in each_task(play.get("tasks")):
        for key, arguments in task.items():
            if key.startswith("lifeboat.dr."):
                assert set(arguments) <= set(argument_spec(key.rpartition(".")[2]))
    assert play.get("roles") or play.get("tasks")


PYTHON = sorted([*(ROOT / "plugins").rglob("*.py")])


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_file_says_its_licence(path: Path) -> None:
    head = path.read_text(encoding="utf-8")[:400]
    assert "SPDX-License-Identifier: GPL-3.0-or-later" in head
    assert "GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)" in head


CORE = ROOT / "plugins" / "module_utils"
SPEAKS_S3 = {"s3/client.py", "s3/signed.py", "repository/s3.py"}
ALLOWED = {"boto3", "botocore"}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: "/".join(path.parts[-2:]))
def test_the_core_needs_the_standard_library_only_and_knows_no_ansible(path: Path) -> None:
    """Layers, DESIGN 3: boto3 where S3 is spoken, Ansible in module/, and nothing else. No shell, no eval."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            known = top in sys.stdlib_module_names or (
                top in ALLOWED and path.relative_to(CORE).as_posix() in SPEAKS_S3
            )
            assert known or (path.parent.name == "module" and top == "ansible"), name
        if isinstance(node, ast.Call):
            assert not [keyword for keyword in node.keywords if keyword.arg == "shell"], "no shell anywhere"
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            assert called not in ("system", "popen", "eval", "exec"), called
