"""For mkdocs: the pages are written for GitHub, where links leave docs/ and anchors are made in another way.

A page and its twin in the other language lead to each other, and a Japanese page has a Japanese frame around it.
"""

from __future__ import annotations

import copy
import posixpath
import re
import unicodedata
from collections.abc import Container
from pathlib import Path
from typing import Any

import yaml

_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?(\))")
_WHOLE = re.compile(r"\[([^\[\]]+)\]\((?!https?:|#|mailto:)([^)\s#]+)(?:#[^)\s]*)?\)")
GALAXY = Path(__file__).resolve().parent.parent / "galaxy.yml"
_CELL = re.compile(r"<td(?=[ >])")
JAPANESE = "日本語"


def slug(heading: str, separator: str = "-") -> str:
    """The anchor that GitHub makes of a heading; Japanese stays."""
    kept = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", heading).lower())
    return kept.replace(" ", separator)


def outward(markdown: str, page: str, repository: str) -> str:
    """Links from `page`, a path below docs/, to what is outside docs/ or a folder in it lead to the repository.

    Where the repository has no address yet they say the path instead.
    """

    def outside(target: str) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        return "" if path.startswith("docs/") and "." in posixpath.basename(path) else path

    def link(found: re.Match[str]) -> str:
        path = outside(found[2])
        target = f"{repository.rstrip('/')}/blob/main/{path}" if path else found[2]
        return f"{found[1]}{target}{found[3] or ''}{found[4]}"

    def words(found: re.Match[str]) -> str:
        path = outside(found[2])
        return found[0] if not path else found[1] if path in found[1] else f"{found[1]} (`{path}`)"

    return _LINK.sub(link, markdown) if repository else _WHOLE.sub(words, markdown)


def languages(page: str, pages: Container[str]) -> list[dict[str, str]]:
    """The same page in both languages, or the other language's front page where there is none."""
    english = page.removeprefix("ja/")
    known = {"en": english if english in pages else "index.md", "ja": f"ja/{english}"}
    if known["ja"] not in pages:
        known["ja"] = "ja/index.md"
    names = {"en": "English", "ja": JAPANESE}
    return [{"lang": lang, "name": names[lang], "link": path[:-2] + "html"} for lang, path in known.items()]


def labelled(html: str) -> str:
    """Each cell with its column's heading, for tables that a phone shows as one cell below the other."""

    def table(found: re.Match[str]) -> str:
        heads = [re.sub(r"<[^>]*>", "", head) for head in re.findall(r"<th(?: [^>]*)?>(.*?)</th>", found[0], re.DOTALL)]

        def row(cells: re.Match[str]) -> str:
            labels = iter(heads)
            return _CELL.sub(lambda _: f'<td data-label="{next(labels, "")}"', cells[0])

        return re.sub(r"<tr>.*?</tr>", row, found[0], flags=re.DOTALL)

    return re.sub(r"<table>.*?</table>", table, html, flags=re.DOTALL)


def on_config(config: Any) -> Any:
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slug
    config["repo_url"] = yaml.safe_load(GALAXY.read_text(encoding="utf-8")).get("repository")
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    del files
    return outward(markdown, page.file.src_uri, config["repo_url"] or "")


def on_page_content(html: str, *, page: Any, config: Any, files: Any) -> str:
    del page, config, files
    return labelled(html)


def on_page_context(context: dict[str, Any], *, page: Any, config: Any, nav: Any) -> dict[str, Any]:
    """The pages are rendered one after the other: the theme reads what is set here for this one."""
    here = page.file.src_uri
    japanese = here.startswith("ja/")
    config["theme"]["language"] = "ja" if japanese else "en"
    config["extra"]["alternate"] = languages(here, {known.file.src_uri for known in nav.pages} | {here})
    config["extra"]["homepage"] = "ja/index.html" if japanese else "index.html"
    context["nav"] = copy.copy(nav)
    other = [item for item in nav.items if item.title == JAPANESE]
    context["nav"].items = other[0].children if japanese else [item for item in nav.items if item not in other]
    return context
