# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation against the code: links, paths, keys, variables, quoted errors."""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories, retention
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("roles/*/README.md")],
)
ROLES = sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(page.parent / path)) if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_of_this_repository_exist(page: Path) -> None:
    """`roles/x`, `tests/y.py` in backticks or code; a user's own copy, inventories/mine, is theirs to make."""
    found = re.findall(
        r"(?<![\w./-])(?:docs|inventories|molecule|playbooks|plugins|roles|tests|changelogs)/[\w./-]*[\w/]",
        page.read_text(encoding="utf-8"),
    )
    assert not [
        path for path in found if not path.startswith("inventories/mine") and not (ROOT / path).exists()
        and not (page.parent / path).exists()
    ]  # fmt: skip


@pytest.mark.parametrize("page", [page for page in PAGES if "example" not in page.parts], ids=name)
def test_no_table_has_two_rows_about_the_same(page: Path) -> None:
    """Where two changes met, both rows stayed, and they differ. A dash begins a part of the row above."""
    twice = []
    for table in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        first = [row.split("|")[1].strip() for row in table.splitlines()]
        named = [cell for cell in first if cell.strip("-: ") and not cell.startswith("–")]
        twice += sorted({cell for cell in named if named.count(cell) > 1})
    assert not twice


def keys(settings: type, skip: tuple[str, ...] = ()) -> list[str]:
    return [field.name for field in dataclasses.fields(settings) if field.name not in skip]


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_key_of_the_configuration_is_described() -> None:
    text = (DOCS / "variables.md").read_text(encoding="utf-8")
    hints = get_type_hints(config.Config)
    expected = {"": keys(config.Config, ("secrets", "pin"))}
    for key in ("runtime", "database", "application", "alarms"):
        expected[f"lifeboat_{key}"] = keys(hints[key])
    expected["lifeboat_targets"] = list(SCENARIOS)
    expected["lifeboat_application"] += keys(config.EndpointCheck)
    expected["lifeboat_retention"] = keys(retention.Policy, ("timezone",))
    s3, local = (dict.fromkeys(re.findall(r"\w+", message)) for message in known_repository_keys())
    expected["lifeboat_repository"] = list({**local, **s3})
    missing = [
        f"{where}.{key}"
        for where, wanted in expected.items()
        for key in wanted
        if f"`{key}`" not in (section(text, where) if where else text)
    ]
    assert not missing


def known_repository_keys() -> tuple[str, str]:
    """The keys that a configuration accepts, from its own error messages."""
    said = []
    for kind in ("s3", "local"):
        with pytest.raises(config.UsageError) as error:
            config.from_mapping({"stack": "shop", "repository": {"type": kind, "no such key": ""}})
        said.append(error.value.cause.partition(" knows ")[2])
    return said[0], said[1]


@pytest.mark.parametrize("spec", ROLES, ids=lambda path: path.parent.parent.name)
def test_every_variable_of_a_role_is_in_its_readme(spec: Path) -> None:
    options = yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    text = (spec.parent.parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE)
    assert dict(rows) == {key: option["type"] for key, option in options.items()}


def test_collection_wide_variables_are_described() -> None:
    used = {
        found
        for path in ROOT.glob("roles/*/defaults/main.yml")
        for found in re.findall(r"\blifeboat_\w+", path.read_text(encoding="utf-8"))
    }
    text = (DOCS / "variables.md").read_text(encoding="utf-8")
    assert sorted(name for name in used if f"`{name}`" not in text) == []


def test_every_playbook_and_verb_is_on_the_page_of_commands() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    playbooks = [f"`lifeboat.dr.{path.stem}`" for path in ROOT.glob("playbooks/*.yml")]
    verbs = re.findall(r"^    (\w+)\b", cli.parser().format_help().partition("COMMAND")[2], re.MULTILINE)
    assert verbs
    assert [name for name in [*playbooks, *verbs] if name not in text] == []


MUST = ["first-steps.md", "concepts.md", "how-a-recovery-runs.md", "drills.md", "notify.md", "security.md"]


def test_the_readme_is_two_screens_with_a_picture_and_names_what_one_must_read() -> None:
    for page, before in ((ROOT / "README.md", "docs/"), (ROOT / "README.ja.md", "docs/"), (DOCS / "index.md", "")):
        text = page.read_text(encoding="utf-8")
        listed = re.findall(r"^\d\. \[[^\]]*\]\(([^)]*)\)", text, re.MULTILINE)
        assert [link.replace("/ja/", "/") for link in listed] == [f"{before}{name}" for name in MUST], page
        assert f"({before}recovery.svg)" in text
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 80
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 700
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert nav[1] == {"Read first": MUST}


# PostgreSQL's, the kernel's and boto3's own words are not in our sources.
NOT_OURS = ("no password supplied", "password authentication failed", "No space left on device",
            "Could not connect to the endpoint URL")  # fmt: skip


@functools.cache
def literals() -> str:
    """Every string that the code may say: literals with those beside them joined, their insertions as …; no comment."""
    found = []
    folders = ("module_utils", "lookup", "plugin_utils")
    for path in sorted(path for folder in folders for path in ROOT.glob(f"plugins/{folder}/**/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, DOCUMENTED) and is_documented(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(value.value if isinstance(value, ast.Constant) else "…" for value in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found.append(node.value)
    for path in sorted(ROOT.glob("roles/*/tasks/*.yml")):
        found.append(" ".join(re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8")).split()))
    return "\n".join(found)


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def is_documented(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def unknown_words(page: str, known: str) -> list[str]:
    """What the headings of a page quote and the code never says."""
    headings = re.findall(r"^### (.*)$", page, re.MULTILINE)
    quoted = [quote for heading in headings for quote in re.findall(r"`([^`]+)`", heading) if quote not in NOT_OURS]
    return [
        part
        for quote in quoted
        for part in (piece.strip(" :,;.") for piece in quote.removeprefix("Could not ").split("…"))
        if part and part not in known
    ]


def test_errors_in_troubleshooting_are_those_of_the_code() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^### ", page, re.MULTILINE)) >= 50
    assert unknown_words(page, literals()) == []


def test_a_message_that_nobody_says_is_noticed() -> None:
    known = literals()
    assert unknown_words("### `Could not take the lock …: process … holds it since …`", known) == []
    assert unknown_words("### `the moon is full`, `its container is …`", known) == ["the moon is full"]
    assert unknown_words("### `Every failure the core raises on purpose`", known) != [], "a docstring is not said"


def test_the_example_inventory_loads_and_every_stack_in_it_is_valid() -> None:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command = [
        str(Path(sys.executable).with_name("ansible-inventory")),
        "-i",
        str(ROOT / "inventories/example"),
        "--list",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    hosts = yaml.safe_load(done.stdout)["_meta"]["hostvars"]
    assert done.stderr == ""
    assert sorted(hosts) == ["ledger1", "shop1", "shop2", "wiki1"]
    for variables in hosts.values():
        settings = {
            key: variables[f"lifeboat_{key}"]
            for key in (*keys(config.Config, ("secrets", "pin")),)
            if f"lifeboat_{key}" in variables
        }
        loaded = config.from_mapping(settings)
        retention.policy(loaded)
        repositories.from_settings(loaded.repository, {"s3_access_key": "x", "s3_secret_key": "x"})
