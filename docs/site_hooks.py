"""For mkdocs: the pages are written for GitHub, where links leave docs/ and anchors are made in another way."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from typing import Any

_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?(\))")


def slug(heading: str, separator: str = "-") -> str:
    """The anchor that GitHub makes of a heading; Japanese stays."""
    kept = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", heading).lower())
    return kept.replace(" ", separator)


def outward(markdown: str, page: str, repository: str) -> str:
    """Links from `page`, a path below docs/, to what is outside docs/ or a folder in it lead to the repository."""

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), found[2]))
        inside = path.startswith("docs/") and "." in posixpath.basename(path)
        target = found[2] if inside else f"{repository.rstrip('/')}/blob/main/{path}"
        return f"{found[1]}{target}{found[3] or ''}{found[4]}"

    return _LINK.sub(link, markdown)


def on_config(config: Any) -> Any:
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slug
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    del files
    return outward(markdown, page.file.src_uri, config["repo_url"])
