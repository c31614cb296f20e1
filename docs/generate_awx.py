#!/usr/bin/env python3
"""Write roles/awx/files/templates.json, one job template and survey for each playbook, from the playbooks themselves.

A survey asks what the playbook takes: the variables that its roles' argument specs and its modules' options read, with
their types, choices and defaults. `--check` fails where the file is not what it would be.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import yaml
from generate import documented

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "roles" / "awx" / "files" / "templates.json"
ANSWER = re.compile(r"lookup\('lifeboat\.dr\.answer', '(\w+)',\s+(default|missing)=((?:[^()]|\([^()]*\))*)\)")
HOSTS = re.compile(r"lookup\('lifeboat\.dr\.hosts', '([^']+)'\)")
# Asked in the same words everywhere.
KNOWN: dict[str, dict[str, Any]] = {
    "target": {"type": "str", "description": "Hosts or groups of the inventory to work on."},
    "confirm": {
        "type": "str",
        "default": "",
        "description": "The host's inventory name, to act on it. Empty: only plan.",
    },
    "identity_file": {
        "type": "path",
        "description": "A file on the machine where Ansible runs, with the escrowed age identity.",
    },
    "signing_key_file": {
        "type": "path",
        "description": "A private SSH key on the machine where Ansible runs; it signs the record of the escrow.",
    },
    "checklist_directory": {
        "type": "path",
        "description": "A directory on the machine where Ansible runs, to write the list to as Markdown and HTML.",
    },
    "stack_file": {
        "type": "path",
        "description": "The file to write on the machine where Ansible runs; `<host>.yml` where you are.",
    },
    "details": {
        "type": "bool",
        "description": "Show everything of each stack too, where the table of many is shown.",
    },
    "report_directory": {
        "type": "path",
        "description": "Where the pages go on the machine where Ansible runs; `lifeboat-report` where you are.",
    },
}
MANDATORY = "(none)"  # in place of a default
# Taken, and asked by nobody: why.
NOT_ASKED = {
    "identity_file": "a credential of the type `Lifeboat escrowed key` brings it as a file",
    "signing_key_file": "an execution environment keeps no key; sign where the operator sits",
    "checklist_directory": "a job's files are gone when it ends; the list is its output",
    "stack_file": "a job's files are gone when it ends; its output has what is left to do",
    "report_directory": "a job's files are gone when it ends",
}
# What changes something without a confirmation, because nothing is lost by it or because it is asked for by running it.
CHANGES = (
    "deploy", "backup", "verify", "prune", "escrow", "drill", "keeper", "awx", "monitoring_agent", "monitoring",
    "alert_test",
)  # fmt: skip


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def literal(text: str) -> Any:
    """The default as it stands in the playbook; what is no literal has none here."""
    words = {"true": True, "false": False, "omit": ""}
    try:
        return words[text] if text in words else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""


def plain(description: Any) -> str:
    text = " ".join(description) if isinstance(description, list) else str(description)
    return " ".join(re.sub(r"\b[A-Z]\(([^)]*)\)", r"\1", text).split())


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def variables(text: str) -> Iterator[tuple[str, Any]]:
    for pattern in HOSTS.findall(text):
        yield "target", pattern
    for name, how, default in ANSWER.findall(text):
        yield name, MANDATORY if how == "missing" else literal(default)


def of_role(name: str) -> dict[str, Any]:
    """A role's specification. The default that is a template of a bool, a number or a map stands in defaults only."""
    folder = ROOT / "roles" / name
    spec: dict[str, Any] = load(folder / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    defaults = load(folder / "defaults" / "main.yml")
    options = {option: {"default": defaults[option], **said} for option, said in spec["options"].items()}
    return {**spec, "options": options}


def of_roles(play: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for role in play.get("roles", []):
        options = of_role(role["role"].rpartition(".")[2])["options"]
        given = {**role, **role.get("vars", {})}
        for option, spec in options.items():
            for variable, default in variables(str(spec["default"])) if option not in given else ():
                yield variable, {**spec, "default": default}


def of_tasks(play: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for text in strings(play.get("vars", {})):
        for variable, default in variables(text):
            yield variable, {"default": default}
    for task in play.get("tasks", []):
        for key, arguments in task.items():
            options = documented()[key]["doc"]["options"] if key.startswith("lifeboat.dr.") else {}
            for option, value in (arguments or {}).items() if options else ():
                spec = options.get(option, {}) if "==" not in str(value) else {}
                for text in strings(value):
                    for variable, default in variables(text):
                        yield variable, {**spec, "default": default}
            for text in strings(arguments) if not options else ():
                for variable, default in variables(text):
                    yield variable, {"default": default}


def question(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """As AWX keeps it. A truth is a choice of two words: AWX has no other, and passes them on as text. A choice that
    may be empty is text: AWX refuses an empty one."""
    mandatory = spec.get("default") == MANDATORY
    kind, default = spec.get("type", "str"), "" if mandatory else spec.get("default", "")
    asked: dict[str, Any] = {
        "question_name": name.replace("_", " ").capitalize(),
        "question_description": plain(spec.get("description", "")),
        "variable": name,
        "required": False,
        "type": "text",
        "choices": [],
        "default": default,
        "min": None,
        "max": None,
    }
    if kind == "bool":
        asked.update(type="multiplechoice", choices=["false", "true"], default=str(bool(default)).lower())
    elif spec.get("choices") and "" not in spec["choices"]:
        asked.update(type="multiplechoice", choices=[str(choice) for choice in spec["choices"]], default=str(default))
    elif kind in ("int", "float"):
        asked.update(type={"int": "integer", "float": "float"}[kind], default=default or 0, min=0, max=2**31 - 1)
    else:
        kind = "password" if spec.get("no_log") else "text"
        asked.update(type=kind, default=str(default or ""), min=int(name == "target"), max=1024)
    # An answer left empty is text, which no number, choice or host is.
    asked["required"] = asked["type"] in ("multiplechoice", "integer", "float") or name == "target" or mandatory
    return asked


def taken(play: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables that a play takes on the command line, with the spec of what reads them."""
    found: dict[str, dict[str, Any]] = {}
    for name, default in variables(play["hosts"]):
        found[name] = {**KNOWN[name], "default": default}
    for name, spec in [*of_roles(play), *of_tasks(play)]:
        if name not in found or not found[name].get("type"):
            found[name] = {**spec, **KNOWN.get(name, {})}
    return found


def changes(name: str, found: Container[str]) -> str:
    return "with confirm" if "confirm" in found else "always" if name in CHANGES else "nothing"


def template(path: Path) -> dict[str, Any]:
    (play,) = load(path)
    found = taken(play)
    asked = sorted(
        (name for name in found if name not in NOT_ASKED), key=lambda name: (name != "target", name == "confirm")
    )
    return {
        "name": f"lifeboat {path.stem}",
        "playbook": f"playbooks/{path.name}",
        "description": play["name"],
        "changes": changes(path.stem, found),
        "not_asked": sorted(name for name in found if name in NOT_ASKED),
        "survey": [question(name, found[name]) for name in asked],
    }


def main() -> int:
    made = [template(path) for path in sorted((ROOT / "playbooks").glob("*.yml"))]
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET.relative_to(ROOT)} is not what the playbooks say: run make docs", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
