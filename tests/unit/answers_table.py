# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each answer to each question of each playbook, with the ansible-core that runs this.

The answers are written into a YAML file as AWX 24.6.1 writes them for a job, and read by Ansible's own loader. Every
expression of the playbook and of its roles that reads the answer is rendered by Ansible's own engine, and what a role
or a module gets is validated against its argument spec.

    python tests/unit/answers_table.py          prints the table
    python tests/unit/answers_table.py --json   {playbook: {variable: {answer: [outcome, value or message]}}}
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.cli import CLI  # noqa: F401 # initializes Ansible as its commands do
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.release import __version__
from ansible.template import Templar, trust_as_template
from ansible.utils.context_objects import CLIArgs
from awx_answers import as_awx_writes

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = json.loads((ROOT / "roles/awx/files/templates.json").read_text(encoding="utf-8"))
LEFT_OUT = object()
DEFAULT = object()
ANSWERS: dict[str, Any] = {
    "left out": LEFT_OUT,
    "empty": "",
    "default": DEFAULT,
    "text": "shop1",
    "0123": "0123",
    "no": "no",
    "~": "~",
    "a time": "2026-11-30T18:00:00Z",
    "a date": "2026-11-30",
    "a point": "20261124_033000",
    "quoted": '"0123"',
    "a number": 5,
    "a list": ["shop1"],
    "a template": "{{ 7*7 }}",
    "1 MB": "x" * 2**20,
    "U+2028": "a\u2028b",
}
EXPRESSION = re.compile(
    r"lookup\('lifeboat\.dr\.answer',\s+'(\w+)',\s+(?:default|missing)=(?:[^()]|\([^()]*\))*\)"
    r"|lookup\('lifeboat\.dr\.(hosts)', '[^']+'\)"
)
OPTION = ("type", "choices", "elements", "default", "no_log")
AROUND = {
    "inventory_hostname": "shop1",
    "groups": {"all": ["shop1", "spare1"], "lifeboat_stacks": ["shop1"], "lifeboat_spares": ["spare1"],
               "lifeboat_watch": ["shop1"], "localhost": ["localhost"]},
}  # fmt: skip


def load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)


def trusted(value: Any) -> Any:
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(child) for key, child in value.items()}
    return [trusted(child) for child in value] if isinstance(value, list) else value


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def readers(path: Path) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """List what reads an answer in a playbook and its roles: (variable, template, option or "", its specification)."""
    (play,) = load(path)
    for role in play.get("roles", []):
        name = role["role"].rpartition(".")[2]
        folder = ROOT / "roles" / name
        options = load(folder / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        given = {**load(folder / "defaults/main.yml"), **role.get("vars", {})}
        for option, template in given.items():
            for variable, _ in EXPRESSION.findall(str(template)):
                yield variable, template, option, options[option]
        for file in sorted(folder.glob("tasks/*.yml")):
            yield from _bare(load(file))
    yield from _bare(play["hosts"])
    yield from _bare(play.get("vars", {}))
    for task in play.get("tasks", []):
        for key, arguments in task.items():
            options = _documented(key) if key.startswith("lifeboat.dr.") else None
            for option, template in ({} if options is None else arguments).items():
                whole = EXPRESSION.fullmatch(str(template).removeprefix("{{ ").removesuffix(" }}"))
                if whole and whole[1]:
                    yield whole[1], template, option, options.get(option, {})
                else:
                    yield from _bare(template)
            yield from _bare(arguments if options is None else None)


def _bare(value: Any) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for text in strings(value):
        for found in EXPRESSION.finditer(text):
            yield ("target" if found[2] else found[1]), f"{{{{ {found[0]} }}}}", "", {}


def _documented(module: str) -> dict[str, Any]:
    text = (ROOT / "plugins/modules" / f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    found = re.search(r'^DOCUMENTATION = r"""\n(.*?)^"""', text, re.DOTALL | re.MULTILINE)
    assert found
    options: dict[str, Any] = yaml.load(found[1], yaml.CSafeLoader).get("options", {})
    return options


def outcome(loader: Any, answers: Mapping[str, Any], reader: tuple[str, str, str, dict[str, Any]]) -> list[Any]:
    """["runs", value] or ["refused", message]."""
    _, template, option, spec = reader
    try:
        value = Templar(loader=loader, variables={**AROUND, **answers}).template(trusted(template))
    except AnsibleError as problem:
        return ["refused", str(problem)]
    if option and value is not None:
        plain = {name: spec[name] for name in OPTION if name in spec and "lookup(" not in str(spec[name])}
        result = ArgumentSpecValidator({option: plain}).validate({option: value})
        if result.error_messages:
            return ["refused", "; ".join(result.error_messages)]
        value = result.validated_parameters[option]
    return ["runs", value]


def plain(value: Any) -> Any:
    """Without Ansible's tags."""
    return json.loads(json.dumps(value, default=str))


def table() -> dict[str, dict[str, dict[str, list[Any]]]]:
    init_plugin_loader([str(ROOT / ".ansible/collections")])
    context.CLIARGS = CLIArgs({})
    found: dict[str, dict[str, dict[str, list[Any]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for template in TEMPLATES:
            name = Path(template["playbook"]).stem
            by_variable: dict[str, list[Any]] = {}
            for reader in readers(ROOT / template["playbook"]):
                by_variable.setdefault(reader[0], []).append(reader)
            for question in template["survey"]:
                variable = question["variable"]
                row = found.setdefault(name, {}).setdefault(variable, {})
                for label, typed in ANSWERS.items():
                    answer = question["default"] if typed is DEFAULT else typed
                    file = Path(folder) / f"{variable}.yml"
                    file.write_text(as_awx_writes({} if answer is LEFT_OUT else {variable: answer}), encoding="utf-8")
                    loader = DataLoader()
                    answers = loader.load_from_file(str(file), cache="none") or {}
                    outcomes = [outcome(loader, answers, reader) for reader in by_variable[variable]]
                    # What the first reader refuses ends the run; without a refusal each got the same.
                    row[label] = plain(min(outcomes, key=lambda each: each[0] != "refused"))
    return found


def _cell(what: list[Any]) -> str:
    return "refused" if what[0] == "refused" else json.dumps(what[1], ensure_ascii=False)[:24]


def main() -> None:
    found = table()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found))
        return
    print(f"ansible-core {__version__}, Python {sys.version.split()[0]}\n")
    print("| playbook | variable |", " | ".join(ANSWERS), "|")
    print("|---|---|" + "---|" * len(ANSWERS))
    for playbook, rows in found.items():
        for variable, row in rows.items():
            print(f"| {playbook} | {variable} |", " | ".join(_cell(row[label]) for label in ANSWERS), "|")


if __name__ == "__main__":
    main()
