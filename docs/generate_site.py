#!/usr/bin/env python3
"""Write the pages that say what other files say, and their lines of mkdocs.yml.

docs/playbooks/: a page for each playbook, from the playbook and its roles' argument specs. docs/decisions/index.md: the
list of decisions. `--check` fails where a file is not what it would be, or is there without a playbook.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from generate import markup
from generate_awx import ANSWER, MANDATORY, ROOT, changes, load, of_role, taken

DOCS = ROOT / "docs"
FOLDER = DOCS / "playbooks"
SITE = ROOT / "mkdocs.yml"
BEGIN, END = "  # The playbooks, by make docs.\n", "  # As far as here.\n"
WHEN = {
    "nothing": "It changes nothing on the hosts.",
    "with confirm": "It reads and plans. It changes nothing unless `confirm` names the host.",
    "always": "It acts when it is run; with `--check` it changes nothing.",
}
# Where that is not the whole truth.
OWN = {
    "init": "It changes nothing on the hosts. It writes a file where Ansible runs, and replaces one only if `confirm`"
    " names the host. With `--check --diff` it only shows the file.",
}
# A page that tells the whole story: by the playbook's name, where that is not runbook-<component>.md.
STORIES = {
    "deploy": "quickstart.md", "backup": "recovery-points.md", "verify": "verification.md", "prune": "retention.md",
    "checklist": "checklists.md", "report": "evidence.md", "drill": "drills.md", "escrow": "config-backup.md",
    "awx": "awx.md", "status": "variables.md#lifeboat_alarms", "reconcile": "runbook-object-storage.md",
    "init": "quickstart.md", "keeper": "keeper.md", "readback": "keeper.md#reading-back",
    "undeploy": "upgrade.md#take-a-stack-off-its-host",
}  # fmt: skip


def cell(text: Any) -> str:
    words = " ".join(text) if isinstance(text, list) else str(text)
    return " ".join(linked(markup(words)).replace("|", "\\|").split())


def linked(text: str) -> str:
    """Modules have their page; roles and others' modules are named."""
    text = re.sub(r"\]\(#(\w+)\)", r"](../modules.md#\1)", text)
    return re.sub(r"`([\w.]+)#(?:role|module)`", r"`\1`", text)


def value(given: Any) -> str:
    """A default as people read it: that of a variable of the inventory is that variable."""
    if given in (None, "", [], {}):
        return ""
    if given == MANDATORY:
        return "**required**"
    text = str(given).lower() if isinstance(given, bool) else str(given)
    variable = re.fullmatch(r"\{\{ \(?(\w+)(?: \| default\(\{\}\)\)\.(\w+))?(?: \| default\((.*)\))? \}\}", text)
    if variable and variable[1].startswith("lifeboat_"):
        other = variable[3].strip("'") if variable[3] not in (None, "''", "{}", "[]") else ""
        name = f"`{variable[1]}.{variable[2]}`" if variable[2] else f"`{variable[1]}`"
        return f"{name}, `{other}`" if other else name
    variable = variable or ANSWER.fullmatch(text.removeprefix("{{ ").removesuffix(" }}"))
    if variable:
        return f"`-e {variable[1]}`"
    if "{{" in text:
        environment = re.fullmatch(r"\{\{ lookup\('ansible.builtin.env', '(\w+)'\) \}\}", text)
        return f"`{environment[1]}` in the environment" if environment else "by other variables: see the README"
    return f"`{text}`".replace("|", "\\|")


def options(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| variable | type | default | |", "|---|---|---|---|"]
    for name, spec in found.items():
        choices = f" One of {', '.join(f'`{choice}`' for choice in spec['choices'])}." if spec.get("choices") else ""
        said = f"{cell(spec.get('description', ''))}{choices}".strip()
        lines.append(f"| `{name}` | {spec.get('type', 'str')} | {value(spec.get('default'))} | {said} |")
    return lines


def roles(play: dict[str, Any]) -> list[str]:
    return [role["role"].rpartition(".")[2] for role in play.get("roles", [])]


def modules(play: dict[str, Any]) -> list[str]:
    used = [key for task in play.get("tasks", []) for key in task if key.startswith("lifeboat.dr.")]
    return [key.rpartition(".")[2] for key in dict.fromkeys(used)]


def story(name: str) -> list[str]:
    page = STORIES.get(name, f"runbook-{name.removeprefix('recover_').replace('_', '-')}.md")
    path, _sep, anchor = page.partition("#")
    if not (DOCS / path).is_file():
        return []
    japanese = f" ([日本語](../ja/{path}))" if not anchor and (DOCS / "ja" / path).is_file() else ""
    kind = "Runbook" if path.startswith("runbook-") else "More"
    return [f"{kind}: [{path.removesuffix('.md')}](../{page}){japanese}.", ""]


def page(path: Path) -> str:
    (play,) = load(path)
    name, found = path.stem, taken(play)
    needs_key = "identity_file" in found and ("confirm" in found or found["identity_file"]["default"] == MANDATORY)
    given = " -e identity_file=<file>" if needs_key else ""
    confirmed = f" -e target=<host> -e confirm=<host>{given}" if "confirm" in found else ""
    lines = [
        f"# lifeboat.dr.{name}",
        "",
        f"{play['name']}. {OWN.get(name, WHEN[changes(name, found)])}",
        "",
        *story(name),
    ]
    command = f"ansible-playbook -i inventories/mine lifeboat.dr.{name}"
    first = given if "confirm" not in found else ""
    lines += ["```", command + first, *([command + confirmed] if confirmed else []), "```", ""]
    lines += ["## On the command line", "", "Each as `-e <variable>=<value>`.", "", *options(found), ""]
    for role in roles(play):
        spec = of_role(role)
        lines += [
            f"## Role {role}",
            "",
            f"{cell(spec['short_description'])}. {cell(spec.get('description', ''))}".strip(),
        ]
        lines += [f"[README](../../roles/{role}/README.md)", "", *options(spec["options"]), ""]
    if modules(play):
        links = ", ".join(f"[`lifeboat.dr.{module}`](../modules.md#{module})" for module in modules(play))
        lines += ["## Modules", "", f"It calls {links}.", ""]
    return "\n".join(lines)


def index(paths: list[Path]) -> str:
    lines = [
        "# Playbooks",
        "",
        "One operation each. All take `-e target=<host or group>`. Written by `make docs` from the",
    ]
    lines += ["playbooks and the argument specs of their roles.", "", "| playbook | does | changes |", "|---|---|---|"]
    for path in paths:
        (play,) = load(path)
        when = changes(path.stem, taken(play)).replace("with confirm", "nothing without `confirm`")
        lines.append(f"| [`lifeboat.dr.{path.stem}`]({path.stem}.md) | {play['name']} | {when} |")
    return "\n".join([*lines, ""])


def decisions() -> str:
    lines = [
        "# Decisions",
        "",
        "Decisions between alternatives that look equally good, with the reasons. `make docs` writes this list.",
        "",
    ]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"* [{title}]({path.name})")
    return "\n".join([*lines, ""])


def site(paths: list[Path]) -> str:
    """mkdocs.yml with the playbooks' lines between the two comments."""
    before, _sep, rest = SITE.read_text(encoding="utf-8").partition(BEGIN)
    lines = [
        "  - Playbooks:\n",
        "      - playbooks/index.md\n",
        *(f"      - playbooks/{path.stem}.md\n" for path in paths),
    ]
    return before + BEGIN + "".join(lines) + END + rest.partition(END)[2]


def everything() -> dict[Path, str]:
    paths = sorted((ROOT / "playbooks").glob("*.yml"))
    pages = {FOLDER / f"{path.stem}.md": page(path) for path in paths}
    lists = {FOLDER / "index.md": index(paths), DOCS / "decisions" / "index.md": decisions()}
    return {**pages, **lists, SITE: site(paths)}


def main() -> int:
    made = everything()
    stale = [path for path in FOLDER.glob("*.md") if path not in made]
    wrong = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in [*wrong, *stale]:
            print(f"{path.relative_to(ROOT)} is not what the playbooks say: run make docs", file=sys.stderr)
        return 1 if wrong or stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.unlink()
    for path in wrong:
        path.write_text(made[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
