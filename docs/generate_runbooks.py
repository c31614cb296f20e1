#!/usr/bin/env python3
"""Write plugins/module_utils/command/runbooks.py, what `lifeboat explain` prints on a host: the section of each alert.

The texts are those of docs/alerts.md and docs/ja/alerts.md, the severity and the place of each alert those of
monitoring/rules. `--check` fails where the file is not what it would be.
"""

from __future__ import annotations

import posixpath
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "monitoring" / "rules" / "lifeboat.yml"
PAGES = {"en": "docs/alerts.md", "ja": "docs/ja/alerts.md"}
TARGET = ROOT / "plugins" / "module_utils" / "command" / "runbooks.py"
# Where an alert's command is typed, as the rules say it.
JAPANESE = {
    "the stack's host, as root": "スタックのホスト（root）",
    "the keeper, as root": "キーパー（root）",
    "the host that watches": "監視ホスト",
    "the controller; HOST is the stack's host, without confirm it shows the plan": "コントローラー。HOST はスタックの"
    "ホスト。confirm を付けなければ計画だけを表示します",
}
WIDTH = 110  # columns of a line of the source
HEAD = '''\
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runbook of each alert in each language: docs/alerts.md as `make docs` writes it here. Changes are lost.

A section begins with the alert's name, its severity and where its command is typed. `<stack>` is the stack's name.
"""

from __future__ import annotations

SECTIONS = {
'''


def width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def linked(text: str, folder: str) -> str:
    """A link as somebody reads it who cannot follow it: its words, and the page where it is in the repository."""

    def plain(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        if not target or "://" in target:
            return link["words"] if not target else f"{link['words']} ({target})"
        return f"{link['words']} ({posixpath.normpath(posixpath.join(folder, target))})"

    return re.sub(r"\[(?P<words>[^]]+)\]\((?P<target>[^)\s]+)\)", plain, text)


def with_placeholder(text: str) -> str:
    return re.sub(r"\bshop\b", "<stack>", text)


def paragraphs(section: str, folder: str) -> Iterator[str]:
    """Paragraphs of one line each, and blocks of commands, which are indented."""
    for index, part in enumerate(re.split(r"^```\w*\n", section, flags=re.MULTILINE)):
        if index % 2:
            yield "\n".join(f"    {with_placeholder(line)}" for line in part.splitlines())
            continue
        for paragraph in part.strip().split("\n\n"):
            lines = paragraph.split("\n")
            text = re.sub(r"`[^`\n]+`", lambda code: with_placeholder(code[0]), linked(" ".join(lines), folder))
            if text:
                yield text


def sections(language: str) -> dict[str, list[str]]:
    page = PAGES[language]
    parts = re.split(r"^## (Lifeboat\w+)\n", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        name: list(paragraphs(text, posixpath.dirname(page)))
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def rules() -> dict[str, tuple[str, str]]:
    """The severity of each alert, and where its command is typed."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {
        rule["alert"]: (rule["labels"]["severity"], rule["annotations"]["where"])
        for group in groups
        for rule in group["rules"]
    }


def cut(text: str) -> Iterator[str]:
    """Lines of source for one line of text: all but the last end in a backslash, which joins them again."""
    while width(text) > WIDTH:
        end = next(end for end in range(len(text), 0, -1) if width(text[:end]) <= WIDTH)
        space = text.rfind(" ", end // 2, end)
        end = space + 1 if space > 0 else end
        yield f"{text[:end]}\\"
        text = text[end:]
    yield text


def literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return "\n".join(piece for line in escaped.split("\n") for piece in cut(line))


def source() -> str:
    known = rules()
    lines = [HEAD]
    for language in PAGES:
        lines.append(f'    "{language}": """\\\n')
        for alert, texts in sections(language).items():
            severity, where = known[alert]
            where = JAPANESE[where] if language == "ja" else where
            lines.append(literal("\n\n".join([f"## {alert} {severity} {where}", *texts])) + "\n\n")
        lines.append('""",\n')
    return "".join([*lines, "}\n"])


def main() -> int:
    text = source()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET.relative_to(ROOT)} is not what docs/alerts.md says: run make docs", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
