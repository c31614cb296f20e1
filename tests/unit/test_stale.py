# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pages say of versions and of what is absent is what the files say that decide it. A stale page fails."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base.version import VERSION
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/ja/*.md")])


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def first(pattern: str, path: str) -> str:
    found = re.search(pattern, read(path), re.MULTILINE)
    assert found, f"{path} has no {pattern}"
    return found[1]


def cores() -> set[str]:
    """Those that are tested: the lists of tests/compat, and the developers' own."""
    lists = [*(ROOT / "tests/compat").glob("*.txt"), ROOT / "requirements.lock"]
    texts = [path.read_text(encoding="utf-8") for path in lists]
    return {core for text in texts for core in re.findall(r"^ansible-core==(\d+\.\d+)\.", text, re.MULTILINE)}


def majors() -> set[str]:
    """Of PostgreSQL: those of the tests, but the lab's own."""
    tree = ast.parse(read("tests/integration/postgres_majors.py"))
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MAJORS"
    ]
    return {str(major) for major in ast.literal_eval(value)} - {"17"}


@dataclass(frozen=True)
class Statement:
    """says: what pages say, with the value as its groups. truth: what it may be. fewest: how many pages say it."""

    says: str
    truth: Callable[[], set[str]]
    fewest: int = 1


STATEMENTS = {
    "the version, in the name of an archive or an image": Statement(
        r"(?:lifeboat-dr-|lifeboat-ee:)(\d+\.\d+\.\d+)", lambda: {VERSION}, 3
    ),
    "the oldest ansible-core": Statement(
        r"ansible-core (?:of )?(\d+\.\d+\.\d+)(?: or newer| 以降)",
        lambda: {first(r'^requires_ansible: ">=([\d.]+)"', "meta/runtime.yml")}, 2,
    ),
    "the ansible-cores that are tested": Statement(
        r"ansible-core (2\.\d+)(?: and (2\.\d+)| と (2\.\d+))?(?![.\d])", cores, 4
    ),
    "the base of the execution environment": Statement(
        r"\bFedora (\d+)",
        lambda: {first(r"fedora:(\d+)", "execution-environment/execution-environment.yml")}, 2,
    ),
    "the Python of the controller, and of a host": Statement(
        r"Python (3\.\d+)(?: or newer| 以降)",
        lambda: {
            ".".join(first(r"sys\.version_info < (\(3, \d+\))", "tests/lab/setup.sh").strip("()").split(", ")),
            "3." + first(r"^target-version = .py3(\d+)", "pyproject.toml"),
            "3.12",  # of the newest ansible-core, in CONTRIBUTING.md
        }, 3,
    ),
    "the lab's Debian": Statement(r"tested on Debian (\d+)", lambda: {"13"}, 1),
    "PostgreSQL's other majors": Statement(
        r"(?:rebuild also of|再構築は) \[(\d+)(?:, |、)(\d+)(?: and |、)(\d+)\]", majors, 2
    ),
}  # fmt: skip


def values(statement: Statement, text: str) -> Iterator[str]:
    for found in re.finditer(statement.says, text):
        yield from (value for value in found.groups() if value)


@pytest.mark.parametrize("name", STATEMENTS)
def test_what_pages_say_is_so(name: str) -> None:
    statement = STATEMENTS[name]
    truth = statement.truth()
    said = {
        path.relative_to(ROOT).as_posix(): set(values(statement, path.read_text(encoding="utf-8"))) for path in PAGES
    }
    said = {path: found for path, found in said.items() if found}
    assert len(said) >= statement.fewest, said
    assert {path: found for path, found in said.items() if not found <= truth} == {}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_page_that_went_stale_is_seen(name: str) -> None:
    """Each statement with another number in a page that makes it."""
    statement = STATEMENTS[name]
    page = next(
        text for text in (path.read_text(encoding="utf-8") for path in PAGES) if re.search(statement.says, text)
    )
    found = re.search(statement.says, page)
    assert found
    start, end = found.span(1)
    stale = f"{page[:start]}{re.sub(r'[0-9]+$', '99', found[1])}{page[end:]}"
    assert not set(values(statement, stale)) <= statement.truth()


# What an earlier version did not have: the setting by which it is there, and how pages said that it is not.
ABSENT = {
    "wal": r"[Tt]here is no WAL|keeps no WAL|keeps dumps, not WAL|WAL、[^。]*はありません",
    "files": r"[Vv]olumes? (?:is|are) not (?:kept|backed up)|data belongs in a bucket or the database",
    "dumps": r"PostgreSQL only\b",
    "notify": r"[Nn]obody is told without Prometheus",
    "encryption": r"dumps are not encrypted",
}


@pytest.mark.parametrize("setting", ABSENT)
def test_no_page_says_that_something_is_absent_that_is_here(setting: str) -> None:
    assert setting in {field.name for field in dataclasses.fields(Config)}
    stale = [
        path.relative_to(ROOT).as_posix()
        for path in PAGES
        if re.search(ABSENT[setting], path.read_text(encoding="utf-8"))
    ]
    assert stale == []


def test_the_words_of_absence_are_those_that_pages_used() -> None:
    """Three of them stood in pages when this test was written; two are of earlier findings."""
    sentences = (
        "There is no WAL, no point-in-time recovery", "It keeps dumps, not WAL.", "WAL、レプリケーションはありません",
        "Volumes are not kept", "PostgreSQL only: others cannot be named", "The dumps are not encrypted: use",
    )  # fmt: skip
    for sentence in sentences:
        assert any(re.search(pattern, sentence) for pattern in ABSENT.values()), sentence


def test_the_lab_is_of_the_debian_that_pages_name() -> None:
    assert first(r'^UPSTREAM = "debian:(\w+)-slim', "tests/lab/images.py") == "trixie", "Debian 13"
    tested = yaml.safe_load(read("tests/compat/ran.json"))
    assert {entry["host"] for entry in tested["ran"]} <= {"", "Debian 13"}, "then a page says more"
