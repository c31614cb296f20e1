#!/usr/bin/env python3
"""Write the tables of the core's files in docs/architecture.md, from the first sentence of each file's docstring.

`--check` fails where the page is not what it would be.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "unit"))

from layers import CORE, RANKS  # noqa: E402 - the order of the packages is the one that the tests hold

TARGET = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- By make docs, from the docstrings. -->\n", "<!-- As far as here. -->\n"


def first_sentence(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    if not said:
        raise SystemExit(f"{path.relative_to(ROOT)} has no docstring: say in one sentence what it is")
    paragraph = " ".join(said.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?!])\s", paragraph, maxsplit=1)[0].replace("|", "\\|")


def tables() -> str:
    lines: list[str] = []
    for rank, package in enumerate(RANKS, 1):
        lines += [f"### {rank}. `{package}`", "", "| file | what it is |", "|---|---|"]
        for path in sorted((CORE / package).rglob("*.py")):
            name = path.relative_to(CORE / package).with_suffix("").as_posix()
            lines.append(f"| `{name}` | {first_sentence(path)} |")
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    before, _, rest = TARGET.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    text = page()
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in sys.argv[1:]:
        print("docs/architecture.md is not what the core's docstrings say: run make docs", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
