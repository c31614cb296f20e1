# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site: its navigation, what is reachable, the pages made from playbooks, the quick start against the example."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_docs import DOCS, ROOT, anchors, prose

sys.path.insert(0, str(DOCS))
import generate_architecture
import generate_site
import site_hooks

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))


def pages_of(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values():
                yield from pages_of(inner if isinstance(inner, list) else [inner])


def reachable(start: list[Path]) -> set[Path]:
    """By links alone, within docs/."""
    seen, todo = set(start), list(start)
    while todo:
        page = todo.pop()
        for link in re.findall(r"\]\(([^)\s#]+)", prose(page)):
            target = (page.parent / link).resolve() if "://" not in link else page
            if target.suffix == ".md" and target.is_relative_to(DOCS) and target.is_file() and target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def test_every_page_of_the_navigation_exists_once() -> None:
    named = list(pages_of(SITE["nav"]))
    assert [page for page in named if not (DOCS / page).is_file()] == []
    assert len(named) == len(set(named))
    assert named[0] == "index.md"


def test_every_page_is_reachable_from_the_front_page_and_from_the_navigation() -> None:
    every = set(DOCS.rglob("*.md"))
    assert sorted(every - reachable([DOCS / "index.md"])) == []
    named = [DOCS / page for page in pages_of(SITE["nav"])]
    assert sorted(every - reachable(named)) == []
    alone = reachable([DOCS / "decisions" / "index.md"])
    assert every - alone, "the search can miss a page"


@pytest.mark.slow
def test_the_pages_of_lists_are_what_the_files_say() -> None:
    """As `make lint` does: after adding a playbook, an option or a decision, run `make docs`."""
    wrong = [path.name for path, text in generate_site.everything().items() if path.read_text(encoding="utf-8") != text]
    assert wrong == [], "run make docs"
    assert {path.stem for path in generate_site.FOLDER.glob("*.md")} == {"index", *(path.stem for path in PLAYBOOKS)}


@pytest.mark.slow
def test_a_page_that_is_behind_is_noticed(tmp_path: Path) -> None:
    """In a copy of the tree: a changed default, a new playbook, a page without one."""
    for part in ("docs", "playbooks", "roles", "plugins/modules", "mkdocs.yml"):
        source, target = ROOT / part, tmp_path / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.png", "__pycache__"))
        else:
            shutil.copy(source, target)

    def generate(*words: str) -> tuple[int, str]:
        command = [sys.executable, str(tmp_path / "docs" / "generate_site.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert generate("--check") == (0, "")
    spec = tmp_path / "roles" / "agent" / "meta" / "argument_specs.yml"
    spec.write_text(spec.read_text(encoding="utf-8").replace("default: /usr/local/bin/lifeboat", "default: /bin/boat"))
    code, said = generate("--check")
    assert (code, said) == (1, "docs/playbooks/deploy.md is not what the playbooks say: run make docs\n")
    (tmp_path / "playbooks" / "sail.yml").write_text(
        "---\n- name: Sail away\n  hosts: \"{{ lookup('lifeboat.dr.hosts', 'lifeboat_stacks') }}\"\n  tasks:\n"
        "    - name: Look\n      lifeboat.dr.checklist_info:\n"
        "        period: \"{{ lookup('lifeboat.dr.answer', 'period', default='weekly') }}\"\n"
    )
    (tmp_path / "docs" / "playbooks" / "gone.md").write_text("# gone\n")
    assert generate()[0] == 0
    assert generate("--check") == (0, "")
    page = (tmp_path / "docs" / "playbooks" / "sail.md").read_text(encoding="utf-8")
    assert "# lifeboat.dr.sail\n\nSail away. " in page
    assert "| `period` | str | `weekly` | Which list. One of `daily`, `weekly`," in page
    assert "- playbooks/sail.md\n" in (tmp_path / "mkdocs.yml").read_text(encoding="utf-8")
    assert not (tmp_path / "docs" / "playbooks" / "gone.md").exists()


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbooks_page_has_every_variable_it_takes(path: Path) -> None:
    """Counted from the playbook's own text, not by the code that made the page."""
    page = (generate_site.FOLDER / path.name).with_suffix(".md").read_text(encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    roles = re.findall(r"role: lifeboat\.dr\.(\w+)", text)
    specs = [yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text()) for role in roles]
    named = {option for spec in specs for option in spec["argument_specs"]["main"]["options"]}
    given = set(re.findall(r"lookup\('lifeboat\.dr\.answer', '(\w+)'", text))
    assert sorted(item for item in {*named, *given} if f"| `{item}` |" not in page) == []
    assert "{{" not in page


SLUGS = [
    ("The writer's key", "the-writers-key"),
    ("`lifeboat_alarms`", "lifeboat_alarms"),
    ("7. Lifeboat を使わない手作業での復旧", "7-lifeboat-を使わない手作業での復旧"),
    ("A — B", "a--b"),
]


@pytest.mark.parametrize(("heading", "expected"), SLUGS)
def test_the_site_makes_anchors_as_github_does(heading: str, expected: str) -> None:
    assert site_hooks.slug(heading) == expected


def test_the_sites_anchors_are_those_that_links_are_tested_against() -> None:
    for page in DOCS.rglob("*.md"):
        headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
        assert {site_hooks.slug(heading) for heading in headings} == anchors(page)


LINKS = [
    ("[a](../README.md)", "index.md", "[a](https://x/blob/main/README.md)"),
    ("[a](../../roles/agent/README.md)", "playbooks/deploy.md", "[a](https://x/blob/main/roles/agent/README.md)"),
    ("[a](../vault.md#b)", "playbooks/deploy.md", "[a](../vault.md#b)"),
    ("[a](decisions/)", "index.md", "[a](https://x/blob/main/docs/decisions)"),
    ("[a](https://y/z) [b](#c)", "index.md", "[a](https://y/z) [b](#c)"),
]


@pytest.mark.parametrize(("text", "page", "expected"), LINKS)
def test_links_out_of_the_site_lead_to_the_repository(text: str, page: str, expected: str) -> None:
    assert site_hooks.outward(text, page, "https://x/") == expected


UNPUBLISHED = [
    ("[a](../README.md).", "index.md", "a (`README.md`)."),
    ("[`roles/agent`](../roles/agent)", "index.md", "`roles/agent`"),
    (
        "[a](../vault.md#b), [b](../../roles/agent/README.md#c)",
        "playbooks/x.md",
        "[a](../vault.md#b), b (`roles/agent/README.md`)",
    ),
    ("[a](https://y/z) [b](#c)", "index.md", "[a](https://y/z) [b](#c)"),
]


@pytest.mark.parametrize(("text", "page", "expected"), UNPUBLISHED)
def test_without_an_address_the_path_is_said(text: str, page: str, expected: str) -> None:
    assert site_hooks.outward(text, page, "") == expected


def test_the_address_of_the_repository_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "galaxy.yml").write_text("repository: https://git.shop.test/dr\n")
    assert "repo_url" not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert site_hooks.on_config({"mdx_configs": {}})["repo_url"] is None
    monkeypatch.setattr(site_hooks, "GALAXY", tmp_path / "galaxy.yml")
    assert site_hooks.on_config({"mdx_configs": {}})["repo_url"] == "https://git.shop.test/dr"


LANGUAGES = [
    ("vault.md", ("vault.html", "ja/index.html")),
    ("drills.md", ("drills.html", "ja/drills.html")),
    ("ja/drills.md", ("drills.html", "ja/drills.html")),
    ("ja/alone.md", ("index.html", "ja/alone.html")),
]


@pytest.mark.parametrize(("page", "expected"), LANGUAGES)
def test_a_page_knows_its_twin_in_the_other_language(page: str, expected: tuple[str, str]) -> None:
    pages = {"index.md", "vault.md", "drills.md", "ja/index.md", "ja/drills.md", "ja/alone.md"}
    found = site_hooks.languages(page, pages)
    assert [choice["lang"] for choice in found] == ["en", "ja"]
    assert tuple(choice["link"] for choice in found) == expected


def test_each_cell_has_its_columns_heading() -> None:
    head = "<table>\n<thead>\n<tr>\n<th><code>a</code></th>\n<th></th>\n</tr>\n</thead>\n"
    made = site_hooks.labelled(f"{head}<tbody>\n<tr>\n<td>1</td>\n<td style='x'>2</td>\n</tr>\n</tbody>\n</table> <td>")
    assert '<td data-label="a">1</td>' in made
    assert "<td data-label=\"\" style='x'>2</td>" in made
    assert made.endswith(" <td>"), "outside a table nothing is changed"


def yaml_blocks(page: Path) -> list[Any]:
    found = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [yaml.safe_load(block) for block in found]


def names(value: Any, before: str = "") -> Iterator[str]:
    """`lifeboat_database.service` and so on."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield f"{before}{key}"
        if isinstance(inner, dict):
            yield from names(inner, f"{before}{key}.")


def test_what_the_quick_start_sets_is_in_the_example_inventory() -> None:
    """Set there, or shown there in a comment, or said by the page to be an addition of its own."""
    example = ""
    for path in sorted((ROOT / "inventories" / "example" / "group_vars").rglob("*")):
        example += path.read_text(encoding="utf-8") if path.is_file() else ""
    known = set(re.findall(r"^(?:# ?)? *(\w+):", example, re.MULTILINE))
    known |= set(re.findall(r"[{,] *(\w+):", example))
    shown = [block for block in yaml_blocks(DOCS / "quickstart.md") if "all" not in block]
    assert len(shown) >= 6
    used = {name for block in shown for name in names(block)}
    assert "lifeboat_database.service" in used
    # Variants that the page explains whole: images in the backup, an account of its own with its login.
    own = {"images", "backup_user", "database_backup_password", "lifeboat_database_login"}
    inside = {name for name in used if name.startswith("lifeboat_database_login.")}
    assert sorted(name for name in used - inside if name.rpartition(".")[2] not in known | own) == []
    variables = (DOCS / "variables.md").read_text(encoding="utf-8")
    assert (
        sorted(item for item in own | {name.partition(".")[0] for name in used} if f"`{item}`" not in variables) == []
    )


def numbers(titles: list[tuple[str, str]]) -> list[str]:
    """What is wrong with the decisions' numbers: a file's name and its title differ, or two files share a number."""
    wrong = [name for name, title in titles if not title.startswith(f"# {int(name[:4])}. ")]
    taken = [name[:4] for name, _ in titles]
    return wrong + sorted({number for number in taken if taken.count(number) > 1})


def test_every_decision_has_a_number_of_its_own() -> None:
    paths = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    titles = [(path.name, path.read_text(encoding="utf-8").partition("\n")[0]) for path in paths]
    assert len(titles) > 30
    assert numbers(titles) == []
    assert numbers([*titles, ("0001-other.md", "# 1. Other"), ("0999-moved.md", "# 26. Moved")]) == [
        "0999-moved.md",
        "0001",
    ]


SENTENCES = [
    ('"""One thing. Another."""', "One thing."),
    (
        '"""Wrapped\nover lines, e.g.a | b: all of it.\n\nMore. And more."""',
        "Wrapped over lines, e.g.a \\| b: all of it.",
    ),
    ('"""Is it? It is."""', "Is it?"),
    ('"""No full stop"""', "No full stop"),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES)
def test_a_file_of_the_core_is_told_by_its_first_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "file.py"
    path.write_text(text, encoding="utf-8")
    assert generate_architecture.first_sentence(path) == expected


@pytest.mark.slow
def test_every_file_of_the_core_is_in_the_architecture_page_once() -> None:
    """In the page as it would be written; `make lint` checks that it was written."""
    rows = re.findall(r"^### \d+\. `(\w+)`|^\| `([\w/]+)` \| \S", generate_architecture.page(), re.MULTILINE)
    found, package = [], ""
    for heading, file in rows:
        package = heading or package
        found += [f"{package}/{file}.py"] if file else []
    core = ROOT / "plugins" / "module_utils"
    assert sorted(found) == sorted(path.relative_to(core).as_posix() for path in core.rglob("*.py"))


def test_a_file_that_does_not_say_what_it_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_architecture, "ROOT", tmp_path)
    (tmp_path / "mute.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"mute\.py has no docstring"):
        generate_architecture.first_sentence(tmp_path / "mute.py")
