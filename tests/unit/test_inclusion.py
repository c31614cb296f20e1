# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible asks of a collection that it includes, and what Galaxy's importer asks, line by line.

https://docs.ansible.com/projects/ansible/latest/community/collection_contributors/collection_requirements.html
"""

from __future__ import annotations

import ast
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
ALONE = ("meta", "playbooks", "plugins", "roles")  # with which everything must work
# Documented for examples, RFC 2606 and 6761: whoever follows a link to one finds nothing of ours.
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
EXAMPLE = re.compile(r"\bexample\.(?:org|com|net)\b")
ROLE_PATH = re.compile(r"role_path(?: \}\}/|\s*~\s*'/)([^'\"\s]+)")
# Looked for where a checkout is; where it is not there, the role says that it did not look.
SEARCHED = {("awx", "../..")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path of collections with these four directories of this one, and the collections beside it."""
    place = tmp_path_factory.mktemp("alone")
    target = place / "ansible_collections/lifeboat/dr"
    for name in ALONE:
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "ansible.cfg").touch()  # the tree's own names directories of the tree
    return place


def ansible(place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "ANSIBLE_COLLECTIONS_PATH": str(place), "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false", "HOME": str(place),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
    }  # fmt: skip
    program = str(Path(sys.executable).parent / argv[0])
    return subprocess.run(
        [program, *argv[1:]], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def role_files() -> Iterator[tuple[str, str, str]]:
    """The role, the file that names something by the role's path, and what it names."""
    for path in sorted(ROOT.glob("roles/*/*/*.yml")):
        for named in ROLE_PATH.findall(path.read_text(encoding="utf-8")):
            yield path.parts[-3], path.relative_to(ROOT).as_posix(), named


def test_no_role_reads_beyond_its_own_directory() -> None:
    assert {role for role, _path, _named in role_files()} >= {"awx", "log_shipping", "monitoring_server"}
    outside = [(path, named) for role, path, named in role_files() if ".." in named and (role, named) not in SEARCHED]
    assert outside == []
    for role, path, named in role_files():
        assert (role, named) in SEARCHED or (ROOT / "roles" / role / named).exists(), f"{path} names {named}"


def test_what_works_without_the_rest_is_whole() -> None:
    """A link out of the four directories leads nowhere once they are alone."""
    links = [path for name in ALONE for path in (ROOT / name).rglob("*") if path.is_symlink()]
    assert links == []


@pytest.mark.slow
def test_every_playbook_is_found_without_the_rest(alone: Path) -> None:
    names = [f"lifeboat.dr.{path.stem}" for path in sorted((ROOT / "playbooks").glob("*.yml"))]
    done = ansible(alone, "ansible-playbook", "--syntax-check", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("playbook: ") == len(names)


def brought(path: Path) -> Iterator[str]:
    """What a task file copies or fills in from the role itself."""
    for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
        for folder, module in (("files", "ansible.builtin.copy"), ("templates", "ansible.builtin.template")):
            arguments = task.get(module, {})
            if "src" in arguments and not arguments.get("remote_src"):
                yield f"{folder}/{arguments['src']}"


def test_a_role_has_what_it_copies() -> None:
    named = {
        (path.parts[-3], file)
        for path in ROOT.glob("roles/*/tasks/*.yml")
        for file in brought(path)
        if not re.search(r"{{|//", file)
    }
    assert ("monitoring_server", "files/alertmanager.tmpl") in named
    assert [pair for pair in sorted(named) if not (ROOT / "roles" / Path(*pair)).is_file()] == []


@pytest.mark.slow
def test_the_server_that_watches_is_set_up_without_the_rest(alone: Path) -> None:
    """It reads its rules already while it checks what is given."""
    given = {
        "monitoring_server_stacks": [{"stack": "shop", "address": "shop1:9100"}],
        "monitoring_server_slack": {"url": "https://hooks.shop.test/x", "channel": "#x"},
        "monitoring_server_patience": {"LifeboatMetricsOld": "30m"},
    }
    include = {"name": "lifeboat.dr.monitoring_server", "tasks_from": "check.yml"}
    task: dict[str, Any] = {"name": "Check", "ansible.builtin.include_role": include, "vars": given}
    play = alone / "play.yml"
    play.write_text(yaml.safe_dump([{"name": "Try", "hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    done = ansible(alone, "ansible-playbook", str(play))
    assert done.returncode == 0, done.stdout + done.stderr
    given["monitoring_server_patience"] = {"LifeboatNobodyKnows": "30m"}
    play.write_text(yaml.safe_dump([{"name": "Try", "hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    done = ansible(alone, "ansible-playbook", str(play))
    assert done.returncode != 0 and "monitoring_server_patience takes LifeboatStackAbsent, " in done.stdout


# Nobody is sent to an address that stands for another one: not by what is installed, written or shown. Examples in
# documentation, in comments and in the example inventory are what these names are for.
SPEAKING = ("galaxy.yml", "mkdocs.yml", "meta", "monitoring/rules", "monitoring/dashboards", "playbooks", "roles")


def said(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield re.sub(r"(^|\s)#.*", "", line)


def test_no_example_address_reaches_a_user() -> None:
    paths = [path for name in SPEAKING for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
    paths = [path for path in paths if path.suffix != ".md" and path.name != "argument_specs.yml"]
    assert len(paths) > 150
    assert [(str(path), line) for path in paths for line in said(path) if EXAMPLE.search(line)] == []
    assert "repository" not in GALAXY or not EXAMPLE.search(GALAXY["repository"])


def strings(path: Path) -> Iterator[str]:
    """Every text of a source but its documentation for ansible-doc."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        documentation = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in DOCUMENTATION
        for part in ast.walk(node) if not documentation else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


def test_no_code_speaks_of_an_example_address() -> None:
    """An option's help may show what an address looks like."""
    paths = [path for path in (ROOT / "plugins").rglob("*.py") if path.parent.name != "doc_fragments"]
    spoken = [text for path in paths for text in strings(path) if EXAMPLE.search(text)]
    assert [text for text in spoken if "such as https://" not in text] == []
    assert len(spoken) == 1, "the help of `lifeboat ship`, by which this test sees what it looks for"


# --- files ---

# What is found at ansible/ansible, lib/ansible/plugins/loader.py, and two that the requirements add.
KINDS = {
    "action", "become", "cache", "callback", "cliconf", "connection", "doc_fragments", "filter", "httpapi", "inventory",
    "lookup", "modules", "module_utils", "netconf", "plugin_utils", "shell", "strategy", "sub_plugins", "terminal",
    "test", "vars",
}  # fmt: skip


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def load(path: str) -> Any:
    return yaml.safe_load(read(path))


def test_the_code_of_conduct_is_ansibles() -> None:
    assert "community/code_of_conduct.html" in read("CODE_OF_CONDUCT.md")
    assert "(CODE_OF_CONDUCT.md)" in read("README.md") and "(CODE_OF_CONDUCT.md)" in read("CONTRIBUTING.md")


def test_a_vulnerability_is_reported_in_private() -> None:
    page = read("SECURITY.md")
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [
        "Report a vulnerability",
        "What counts",
        "Supported versions",
    ]
    assert "in private" in page and "(SECURITY.md)" in read("README.md")


def test_what_is_accepted_is_said() -> None:
    page = read("CONTRIBUTING.md").partition("## ")[0]
    assert "always welcome" in page and "pull requests" in page


def test_the_metadata_are_those_that_galaxy_takes() -> None:
    required = {"namespace", "name", "version", "readme", "authors", "description", "license", "tags"}
    assert required <= GALAXY.keys() and all(GALAXY[name] for name in required)
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", GALAXY["version"]), "semantic"
    assert len(GALAXY["tags"]) <= 20 and all(re.fullmatch(r"[a-z][a-z0-9_]*", tag) for tag in GALAXY["tags"])
    assert set(GALAXY["tags"]) & {"application", "cloud", "database", "infrastructure", "storage", "tools"}
    assert GALAXY["license"] == ["GPL-3.0-or-later"] and "GNU GENERAL PUBLIC LICENSE" in read("LICENSE")
    assert (ROOT / GALAXY["readme"]).is_file()
    for name in ("repository", "documentation", "homepage", "issues"):
        assert re.match(r"https://", GALAXY.get(name, "https://")), name


def test_the_oldest_ansible_core_is_said_and_no_newest() -> None:
    assert re.fullmatch(r">=2\.19\.\d+", load("meta/runtime.yml")["requires_ansible"])


def test_plugins_are_of_kinds_that_ansible_knows() -> None:
    kinds = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert kinds and kinds <= KINDS


def test_the_changelog_is_one_that_antsibull_writes() -> None:
    released = load("changelogs/changelog.yaml")["releases"]
    assert released and read("CHANGELOG.rst").count("\nv") == len(released)
    assert load("changelogs/config.yaml")["changelog_filename_template"] == "../CHANGELOG.rst"


def test_dependencies_have_bounds_and_are_in_ansibles_package() -> None:
    """A new major version of theirs may break ours."""
    assert {name.partition(".")[0] for name in GALAXY["dependencies"]} == {"community"}
    assert all(re.fullmatch(r">=\d+\.\d+\.\d+,<\d+\.0\.0", bound) for bound in GALAXY["dependencies"].values())


# --- issues, pull requests, continuous integration ---


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_an_issue_has_a_form(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"] and form["description"] and form["labels"]
    fields = [entry for entry in form["body"] if entry["type"] != "markdown"]
    assert {entry["type"] for entry in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({entry["id"] for entry in fields}) == len(fields)
    assert all(entry["attributes"]["label"] for entry in fields)
    assert any(entry.get("validations", {}).get("required") for entry in fields)
    # GitHub takes the words no and yes in a choice as text only.
    assert all(isinstance(choice, str) for entry in fields for choice in entry["attributes"].get("options", []))


def test_a_bug_report_asks_for_what_is_needed_and_for_no_secret() -> None:
    text = read(".github/ISSUE_TEMPLATE/bug_report.yml")
    assert "SECURITY.md" in text and "Leave out passwords, keys" in text and "`lifeboat --version`" in text


def test_a_pull_request_is_asked_for_a_test_pages_and_a_fragment() -> None:
    text = read(".github/PULL_REQUEST_TEMPLATE.md")
    for asked in ("a test that fails without it", "Japanese", "changelogs/fragments", "make quick"):
        assert asked in text


WORKFLOW = load(".github/workflows/ci.yml")
# Of ansible-core, as its support matrix has it for the controller.
PYTHONS = {
    "oldest": {"3.11", "3.12", "3.13"}, "between": {"3.12", "3.13", "3.14"}, "newest": {"3.12", "3.13", "3.14"},
}  # fmt: skip
CORES = {"oldest": "2.19", "between": "2.20", "newest": "2.21"}


def test_the_lists_have_the_cores_that_the_workflow_names() -> None:
    for name, core in CORES.items():
        assert re.search(rf"^ansible-core=={re.escape(core)}\.\d+$", read(f"tests/compat/{name}.txt"), re.MULTILINE)
    assert load("meta/runtime.yml")["requires_ansible"].startswith(f">={CORES['oldest']}.")


def test_unit_tests_run_with_each_core_and_each_python_that_it_supports() -> None:
    matrix = WORKFLOW["jobs"]["unit"]["strategy"]["matrix"]
    pairs = {(core, python) for core in matrix["core"] for python in matrix["python"]}
    pairs -= {(entry["core"], entry["python"]) for entry in matrix["exclude"]}
    assert pairs == {(core, python) for core, pythons in PYTHONS.items() for python in pythons}


def test_sanity_runs_with_each_core() -> None:
    rows = WORKFLOW["jobs"]["sanity"]["strategy"]["matrix"]["include"]
    assert sorted(row["core"] for row in rows) == sorted(CORES)
    assert all(row["python"] in PYTHONS[row["core"]] for row in rows)
    names = {path.name for path in (ROOT / "tests/sanity").glob("ignore-*.txt")}
    assert names == {f"ignore-{core}.txt" for core in CORES.values()}


def test_it_runs_on_each_change_and_every_week() -> None:
    triggers = WORKFLOW[True]  # `on` is a truth in YAML 1.1
    assert {"push", "pull_request", "schedule"} == set(triggers)
    (weekly,) = triggers["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", weekly["cron"])
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_it_calls_what_is_here() -> None:
    """Nothing is only in the workflow: each command is one that a contributor has."""
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert sorted(commands) == ["make lint", "tests/compat/compat.sh built", "tests/compat/compat.sh unit"]
    script = read("tests/compat/compat.sh")
    given = {name for step in steps for name in step.get("env", {})}
    assert given == {"COMPAT_CORES", "COMPAT_PYTHON"} and all(f"${{{name}:-" in script for name in given)
    assert re.search(r"^lint:", read("Makefile"), re.MULTILINE)
    assert {step["uses"].partition("@")[0] for step in steps if "uses" in step} == {
        "actions/checkout",
        "actions/setup-python",
    }


# May not be ignored, by the requirements: they are mended.
NEVER_IGNORED = {
    "doc-choices-do-not-match-spec", "doc-default-does-not-match-spec", "doc-missing-type", "doc-required-mismatch",
    "mutually_exclusive-unknown", "no-log-needed", "nonexistent-parameter-documented", "parameter-list-no-elements",
    "parameter-type-not-in-doc", "undocumented-parameter",
}  # fmt: skip


def unjustified(text: str) -> list[str]:
    """The entries of a list of ignored findings that have no reason, or that may not be ignored."""
    entries = [(line, *line.partition(" # ")[::2]) for line in text.splitlines() if line.strip()]
    return [
        line
        for line, entry, reason in entries
        if len(reason.split()) < 3 or entry.split()[1].partition(":")[2] in NEVER_IGNORED
    ]


@pytest.mark.parametrize("core", CORES.values())
def test_each_ignored_finding_has_a_reason_and_none_is_one_that_must_be_mended(core: str) -> None:
    assert unjustified(read(f"tests/sanity/ignore-{core}.txt")) == []


def test_a_finding_that_is_ignored_without_a_reason_is_noticed() -> None:
    bad = ["plugins/x.py pylint:y", "plugins/x.py validate-modules:doc-missing-type # it is a long story"]
    assert unjustified("\n".join([*bad, "plugins/x.py pylint:y # it is a long story"])) == bad


# --- modules ---


def documentation(path: Path) -> dict[str, Any]:
    """What a module says of itself, without its fragments."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            loaded: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return loaded
    raise AssertionError(f"{path.name} has no documentation")


MODULES = {path.stem: documentation(path) for path in sorted((ROOT / "plugins/modules").glob("*.py"))}
# What a module was called before 1.0.0, and is called now.
RENAMED = {
    "backend_plan": "backend_plan_info", "checklist": "checklist_info", "database_plan": "database_plan_info",
    "dumps_plan": "dumps_plan_info", "files_plan": "files_plan_info", "frontend_plan": "frontend_plan_info",
    "objects_plan": "objects_plan_info", "site_plan": "site_plan_info", "site_scope": "site_scope_info",
    "stack_check": "stack_check_info", "stack_inspect": "stack_info",
}  # fmt: skip


def reads_only(document: dict[str, Any]) -> bool:
    return "lifeboat.dr.stack.reads_only" in document["extends_documentation_fragment"]


def test_a_module_that_only_gathers_information_is_called_info() -> None:
    gathering = {name for name, document in MODULES.items() if reads_only(document)}
    assert [name for name in sorted(gathering) if not name.endswith("_info")] == []
    # endpoint_info tries what it asks for: it makes a bucket, and removes it.
    assert {name for name in MODULES if name.endswith("_info")} - gathering == {"endpoint_info"}
    assert set(RENAMED.values()) <= gathering and not set(RENAMED) & set(MODULES)


@pytest.mark.slow
def test_what_a_module_was_called_goes_on_to_work() -> None:
    """As Ansible itself resolves it: the module, and the action that keeps its secrets off the host's disk."""
    routed = load("meta/runtime.yml")["plugin_routing"]
    redirects = {name: route["redirect"] for name, route in routed["modules"].items() if "redirect" in route}
    assert redirects == {old: f"lifeboat.dr.{new}" for old, new in RENAMED.items()}
    assert routed["action"] == {"stack_inspect": {"redirect": "lifeboat.dr.stack_info"}}
    script = """
import json, sys
from ansible.plugins.loader import action_loader, init_plugin_loader, module_loader
init_plugin_loader()
found = [module_loader.find_plugin_with_context(f"lifeboat.dr.{name}") for name in json.loads(sys.argv[1])]
action = action_loader.find_plugin_with_context("lifeboat.dr." + sys.argv[2])
print(json.dumps([[[one.resolved, one.resolved_fqcn, one.action_plugin] for one in found], action.resolved_fqcn]))
"""
    (action,) = routed["action"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    argv = [sys.executable, "-c", script, json.dumps([*RENAMED, "nothing_plan"]), action]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    (*found, nothing), resolved = json.loads(done.stdout)
    for new, seen in zip(RENAMED.values(), found):
        assert seen == [True, f"lifeboat.dr.{new}", routed["modules"].get(new, {}).get("action_plugin")]
    assert nothing[0] is False and resolved == "lifeboat.dr.stack_info"


def test_nothing_here_uses_a_name_of_before() -> None:
    names = "|".join(name for name in RENAMED if name != "checklist")  # which is a playbook too
    listed = ["git", "ls-files", "-z", "playbooks", "roles", "plugins", "docs", "molecule", "tests"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    paths = [ROOT / name for name in tracked if name.endswith((".yml", ".md", ".py")) and (ROOT / name).is_file()]
    old = [path for path in paths if re.search(rf"lifeboat\.dr\.(?:{names})\b", path.read_text(encoding="utf-8"))]
    assert old == []
    assert len(paths) > 800


def test_every_module_says_that_it_supports_check_mode() -> None:
    for name, document in MODULES.items():
        given = document.get("attributes", {}).get("check_mode", {}).get("support")
        assert given in (None, "full", "partial") and (given or reads_only(document)), name


def answers_by_state(document: dict[str, Any]) -> bool:
    """Whether an option makes a module query instead of act, which the requirements leave to modules of their own."""
    choices = {
        str(choice) for name, option in document.get("options", {}).items() if name == "state"
        for choice in option.get("choices", [])
    }  # fmt: skip
    return bool(choices & {"get", "list", "query", "info"})


def test_no_module_queries_by_its_state() -> None:
    assert [name for name, document in MODULES.items() if answers_by_state(document)] == []
    assert answers_by_state({"options": {"state": {"choices": ["present", "query"]}}})


def test_no_module_returns_facts_and_none_is_called_so() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "plugins/modules").glob("*.py")]
    assert not [name for name in MODULES if name.endswith("_facts")]
    assert not [source for source in sources if "ansible_facts" in source]


def test_options_say_the_version_of_this_collection_that_added_them() -> None:
    for name, document in MODULES.items():
        added = [document, *document.get("options", {}).values()]
        versions = {str(entry["version_added"]) for entry in added if "version_added" in entry}
        assert versions and all(re.fullmatch(r"[01]\.\d+\.\d+", version) for version in versions), name


def test_git_has_no_large_and_no_temporary_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    names = [name for name in tracked.split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 1000
    assert [name for name in names if (ROOT / name).stat().st_size > 2 * 2**20] == []
    assert [name for name in names if re.search(r"(?:~|\.(?:orig|rej|bak|tmp|swp|pyc|retry|tar\.gz))$", name)] == []


# --- releases ---

# When a Fedora ends: four weeks after the next but one, https://docs.fedoraproject.org/en-US/releases/eol/
ENDS = {"42": "2026-05-28", "44": "2027-05"}


def test_the_execution_environment_is_of_a_base_that_lives_when_a_release_is_made() -> None:
    base = load("execution-environment/execution-environment.yml")["images"]["base_image"]["name"].partition("@")[0]
    name, _, version = base.rpartition(":")
    assert name == "quay.io/fedora/fedora" and version in ENDS
    released = max(entry["release_date"] for entry in load("changelogs/changelog.yaml")["releases"].values())
    assert ENDS[version] > released
    assert ENDS["42"] < released, "the base before this one had ended"


def test_the_execution_environment_has_an_ansible_core_that_is_tested() -> None:
    core = load("execution-environment/execution-environment.yml")["dependencies"]["ansible_core"]["package_pip"]
    assert core in {line for name in CORES for line in read(f"tests/compat/{name}.txt").splitlines()}


def test_how_versions_are_made_and_features_removed_is_announced() -> None:
    page = read("CONTRIBUTING.md").partition("\n## A release\n")[2].partition("\n## ")[0]
    assert "semver.org" in page and "deprecated_features" in page and "at least one minor release" in page
    assert "Before 1.0.0" in page or GALAXY["version"] >= "1.0.0"


def test_no_contributor_signs_an_agreement() -> None:
    """The requirements allow a certificate of origin at most."""
    assert "By contributing you agree to GPL-3.0-or-later." in read("CONTRIBUTING.md")
    assert not re.search(r"\bCLA\b|licen[cs]e agreement", read("CONTRIBUTING.md"), re.IGNORECASE)


# --- the archive ---

# What runs is 711 files and 1.2 MB of these, packed. The core needs no Ansible, and roles are made of short files.
MOST_FILES, MOST_BYTES = 960, 1_900_000
# Of the checkout: a page of the archive leads to these, and says so.
OUTSIDE = {"tests/lab/README.md", "tests/lab/power_off.yml"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ansible-galaxy collection build` makes of the files that git has."""
    place = tmp_path_factory.mktemp("archive")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        if os.path.lexists(ROOT / name):
            target = place / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
    program = str(Path(sys.executable).parent / "ansible-galaxy")
    argv = [program, "collection", "build", "--output-path", str(place / "built"), str(place / "tree")]
    subprocess.run(argv, cwd=place, capture_output=True, check=True, timeout=600)
    (path,) = (place / "built").glob("*.tar.gz")
    return path


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(archive) as opened:
        return {member.name: member for member in opened if not member.isdir()}


@pytest.mark.slow
def test_the_archive_is_small(archive: Path) -> None:
    assert len(members(archive)) <= MOST_FILES
    assert archive.stat().st_size <= MOST_BYTES


@pytest.mark.slow
def test_the_archive_has_what_runs_and_what_is_read(archive: Path) -> None:
    names = set(members(archive))
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {
        "changelogs", "docs", "execution-environment", "inventories", "meta", "monitoring", "playbooks", "plugins",
        "roles", "tests",
    }  # fmt: skip
    assert {name for name in names if name.startswith("tests/")} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/sanity").iterdir()
    }
    assert not [name for name in names if name.endswith((".png", ".pyc", ".lock", ".tar.gz")) or "/." in name]
    assert {"README.md", "LICENSE", "CHANGELOG.rst", "CODE_OF_CONDUCT.md", "SECURITY.md", "CONTRIBUTING.md"} <= names
    for name, member in members(archive).items():
        if member.issym():
            assert posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)) in names, name


@pytest.mark.slow
def test_a_page_of_the_archive_leads_to_what_is_in_it(archive: Path) -> None:
    names = set(members(archive))
    folders = {posixpath.dirname(name) for name in names} | {""}
    broken = set()
    for page in sorted(name for name in names if name.endswith(".md")):
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)\s#]+)", read(page)):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            if path not in names and path not in folders and not any(name.startswith(f"{path}/") for name in folders):
                broken.add(path)
    assert broken == OUTSIDE


@pytest.mark.slow
def test_the_archive_is_installed_and_used_as_the_page_says(archive: Path, tmp_path: Path) -> None:
    """In an empty directory, by the page's own commands, on the machine itself. A misspelt variable is refused."""
    page = read("docs/first-steps.md").partition("\n## Without a checkout\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    shutil.copy(archive, tmp_path)
    typed = block.replace(
        "lifeboat-dr-<version>.tar.gz", f"{archive.name} --no-deps"
    )  # as the page has it without Galaxy
    assert typed.count(archive.name) == 1
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
        )

    done = run("bash", "-euc", typed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "inventory/hosts.yml").is_file()
    host = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    group = {"hosts": {"shop1": host}, "vars": {"lifeboat_stack": "shop", "lifeboat_databse": {"name": "shop"}}}
    (tmp_path / "own.yml").write_text(yaml.safe_dump({"lifeboat_stacks": group}), encoding="utf-8")
    done = run("ansible-playbook", "-i", "own.yml", "lifeboat.dr.deploy")
    assert done.returncode != 0
    assert "lifeboat_databse is unknown; did you mean lifeboat_database?" in done.stdout, done.stdout + done.stderr
    assert "TASK [" not in done.stdout, "the page's two lines give the page's output"
