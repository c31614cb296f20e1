# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each Japanese page against its English one: commands, output, sections, tables, code words, links."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from test_docs import DOCS, ROOT, name, prose

PAIRS = {ROOT / "README.ja.md": ROOT / "README.md"}
PAIRS |= {DOCS / "ja" / path.name: path for path in DOCS.glob("runbook-*.md")}
PAIRS |= {path: DOCS / path.name for path in (DOCS / "ja").glob("*.md")}
# Held to more than the same commands: every code word, link and row. The others say some things in fewer words.
FAITHFUL = [ROOT / "README.ja.md", *(DOCS / "ja" / name for name in ("first-steps.md", "commands.md", "tested.md"))]


def commands(text: str) -> list[str]:
    """The lines of the code blocks, without comments and without an operator's own words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\s+#.*|^#(?! inventories/).*", "", line) for block in blocks for line in block.splitlines()]
    return [re.sub(r"reason=\"[^\"]*\"", "reason", line) for line in lines if line]


def code_words(text: str) -> Counter[str]:
    """`these`, where what stands in <angle brackets> is a word of the language."""
    return Counter(re.sub(r"<[^>]*>", "<>", word) for word in re.findall(r"`([^`\n]+)`", text))


def links(text: str) -> Counter[str]:
    """Where a page leads, whichever language it leads to; anchors are made of headings, which are translated."""
    found = re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", text)
    plain = [re.sub(r"^(?:\.\./|ja/)+", "", link.replace("/ja/", "/")) for link in found if link != "README.ja.md"]
    return Counter(link.replace(".ja.md", ".md") for link in plain)


def rows(text: str) -> int:
    return len(re.findall(r"^\|", text, re.MULTILINE))


@pytest.mark.parametrize("page", sorted(PAIRS), ids=name)
def test_it_has_the_commands_and_sections_of_the_english_page(page: Path) -> None:
    def sections(path: Path) -> int:
        return len(re.findall(r"^#+ ", prose(path), re.MULTILINE))

    assert commands(page.read_text(encoding="utf-8")) == commands(PAIRS[page].read_text(encoding="utf-8"))
    assert sections(page) == sections(PAIRS[page])


@pytest.mark.parametrize("page", sorted(PAIRS), ids=name)
def test_each_page_leads_to_the_other(page: Path) -> None:
    english = PAIRS[page]
    assert f"[日本語]({os.path.relpath(page, english.parent)})" in prose(english)
    assert f"[English]({os.path.relpath(english, page.parent)})" in prose(page)


@pytest.mark.parametrize("page", FAITHFUL, ids=name)
def test_it_says_no_less_than_the_english_page(page: Path) -> None:
    ours, english = prose(page), prose(PAIRS[page])
    there = links(english)
    here = links(ours)
    here[PAIRS[page].name] -= 1  # the link back
    there[page.name] -= page.parent.name == "ja"  # and the link there, which is not counted of the README
    assert +here == +there
    assert code_words(ours) == code_words(english)
    assert rows(ours) == rows(english)


def test_the_japanese_front_page_leads_to_the_japanese_pages() -> None:
    text = (DOCS / "ja/index.md").read_text(encoding="utf-8")
    pages = [path.name for path in sorted((DOCS / "ja").glob("*.md")) if path.name != "index.md"]
    assert [name for name in pages if f"]({name})" not in text] == []
    assert "](docs/ja/index.md)" in (ROOT / "README.ja.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("```\nlifeboat list\n```", "```\nlifeboat status\n```"),
        ("```\n$ lifeboat list\nPASS\n```", "```\n$ lifeboat list\n```"),
        ("```yaml\na: 1 # one\n```", "```yaml\na: 2 # 一\n```"),
    ],
)
def test_the_comparison_sees_another_command(one: str, other: str) -> None:
    assert commands(one) != commands(other)


def test_the_comparison_sees_another_word_and_another_link() -> None:
    assert code_words("`-e target=<host>`") == code_words("`-e target=<ホスト>`")
    assert code_words("`-e target=<host>`") != code_words("`-e confirm=<ホスト>`")
    assert links("[a](docs/ja/x.md#b)") == links("[a](docs/x.md)") != links("[a](docs/y.md)")
    assert commands("```\nls   # list\n# a\n```") == commands("```\nls  # 一覧\n```")
