#!/usr/bin/env python3
"""Write docs/modules.md from the modules' own documentation. `--check` fails where the file is not what it would be."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "modules.md"


def markup(text: str) -> str:
    """Ansible's semantic markup as Markdown: B(x), C(x), O(x), V(x), RV(x#..:y), M(ns.col.x)."""
    text = re.sub(r"\bRV\([^)]*?([\w.]+)\)", r"`\1`", text)
    text = re.sub(r"\bM\(lifeboat\.dr\.(\w+)\)", r"[`\1`](#\1)", text)
    text = re.sub(r"\bB\(([^)]*)\)", r"**\1**", text)
    return re.sub(r"\b[COVP]\(([^)]*)\)", r"`\1`", text)


def words(value: Any) -> str:
    return markup(" ".join(value) if isinstance(value, list) else str(value)).replace("|", "\\|")


def table(options: dict[str, Any]) -> list[str]:
    lines = ["| option | type | default | |", "|---|---|---|---|"]
    for name, spec in options.items():
        default = (
            "**required**" if spec.get("required") else f"`{json.dumps(spec['default'])}`" if "default" in spec else ""
        )
        choices = f" One of {', '.join(f'`{choice}`' for choice in spec['choices'])}." if spec.get("choices") else ""
        lines.append(f"| `{name}` | {spec.get('type', 'str')} | {default} | {words(spec['description'])}{choices} |")
    return lines


def internal_to(doc: dict[str, Any]) -> str:
    """The role whose internals this module is, or nothing."""
    return "".join(re.findall(r"^Internal to the role C\((\w+)\)\.$", "\n".join(doc["description"]), re.MULTILINE))


def page(modules: dict[str, Any]) -> str:
    """Those for your own playbooks first; the internals of a role in an appendix."""
    lines = [
        "# Modules",
        "",
        "Written by `make docs` from the modules themselves. The internals of single roles are in the",
    ]
    lines += ["[appendix](#internal-modules).", ""]
    own = [full for full in sorted(modules) if not internal_to(modules[full]["doc"])]
    for full in own:
        lines += section(full, modules[full], "##")
    lines += ["## Internal modules", "", "Each serves one role, which may change it at any time.", ""]
    for full in sorted(set(modules) - set(own)):
        lines += section(full, modules[full], "###")
    return "\n".join(lines)


def section(full: str, module: dict[str, Any], heading: str) -> list[str]:
    doc = module["doc"]
    name = full.rpartition(".")[2]
    lines = [f"{heading} {name}", "", words(doc["short_description"]) + ".", "", words(doc["description"]), ""]
    lines += [*table(doc.get("options") or {}), ""]
    for mode in ("check_mode", "diff_mode"):
        attribute = doc["attributes"][mode]
        lines.append(f"* {mode}: {attribute['support']}. {words(attribute.get('details', ''))}".rstrip())
    lines += ["", "```yaml", module["examples"].strip(), "```", "", "Returns:", ""]
    returned = module["return"] or {}
    lines += [f"* `{key}` ({spec['type']}): {words(spec['description'])}" for key, spec in returned.items()]
    lines.append("")
    return lines


@functools.cache
def documented() -> dict[str, Any]:
    """What Ansible makes of every module's documentation, with its fragments in it."""
    names = sorted(f"lifeboat.dr.{path.stem}" for path in (ROOT / "plugins" / "modules").glob("*.py"))
    argv = [sys.executable, "-m", "ansible", "doc", "--json", *names]
    found: dict[str, Any] = json.loads(subprocess.run(argv, cwd=ROOT, check=True, capture_output=True).stdout)
    return found


def main() -> int:
    text = page(documented())
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            print("docs/modules.md is not what the modules say: run make docs", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
