# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator answers, as AWX and YAML files bring it: a playbook gets its declared type or refuses it by name."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.plugin_utils import answers

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
TEMPLATES = json.loads((ROOT / "roles/awx/files/templates.json").read_text(encoding="utf-8"))
QUESTIONS = {
    Path(template["playbook"]).stem: {question["variable"]: question for question in template["survey"]}
    for template in TEMPLATES
}
DEFAULT, REFUSED = "(default)", "(refused)"

# What each declared type makes of each answer. Text that ansible-core resolves as another type has several spellings.
TEXT = {
    "left out": DEFAULT, "empty": DEFAULT, "default": DEFAULT, "~": DEFAULT, "text": "shop1", "quoted": "0123",
    "a time": "2026-11-30T18:00:00Z", "a date": "2026-11-30", "a template": "{{ 7*7 }}", "a list": REFUSED,
    "0123": REFUSED, "no": REFUSED, "a point": REFUSED, "a number": REFUSED, "1 MB": REFUSED, "U+2028": REFUSED,
}  # fmt: skip
NOTHING_ELSE = {**dict.fromkeys(TEXT, REFUSED), "left out": DEFAULT, "empty": DEFAULT, "default": DEFAULT, "~": DEFAULT}
RULES: dict[str, dict[str, Any]] = {
    "text": TEXT,
    "choice": NOTHING_ELSE,
    "point": {**TEXT, "a point": "20261124_033000"},
    "seed": {**TEXT, "0123": "83", "a number": "5", "a point": "20261124033000"},
    "truth": {**NOTHING_ELSE, "no": False},
    "integer": {**NOTHING_ELSE, "0123": 83, "a number": 5, "a point": 20261124033000},
    "number": {**NOTHING_ELSE, "0123": 83, "a number": 5, "a point": 20261124033000},
    "names": {
        **{label: value if value in (DEFAULT, REFUSED) else [value] for label, value in TEXT.items()},
        "a list": ["shop1"],
    },
    # A target that is left empty is not every host of the default.
    "target": {
        **dict.fromkeys(TEXT, REFUSED), "left out": DEFAULT, "default": DEFAULT, "text": "shop1", "a list": "shop1",
    },
}  # fmt: skip
OTHER_KINDS = {
    "recovery_point": "point", "seed": "seed", "allow": "names", "paths": "names", "sources": "names",
    "target": "target",
}  # fmt: skip
# Texts of which a role's argument spec knows the values; a survey could not offer the empty one.
CHOICES = {("recover_object_storage", "others"), ("recover_object_storage", "settings")}


def kind(playbook: str, variable: str) -> str:
    question = QUESTIONS[playbook][variable]
    if variable == "accept" or (playbook, variable) in CHOICES:
        return "choice"
    if question["type"] == "multiplechoice":
        return "truth" if question["choices"] == ["false", "true"] else "choice"
    return OTHER_KINDS.get(variable, {"integer": "integer", "float": "number"}.get(question["type"], "text"))


@functools.cache
def table() -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Made once, by the ansible-core that runs the tests, in a process of its own: it installs Ansible's importer."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/unit/answers_table.py"), "--json"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, dict[str, list[Any]]]] = json.loads(done.stdout)
    return found


def expected(playbook: str, variable: str, label: str) -> Any:
    value = RULES[kind(playbook, variable)][label]
    if value != DEFAULT:
        return value
    default = QUESTIONS[playbook][variable]["default"]
    return {"truth": default == "true", "names": []}.get(kind(playbook, variable), default)


@pytest.mark.slow
@pytest.mark.xdist_group("answers")
@pytest.mark.parametrize("playbook", QUESTIONS)
def test_every_answer_runs_or_is_refused_by_name(playbook: str) -> None:
    rows = table()[playbook]
    assert set(rows) == set(QUESTIONS[playbook])
    for variable, row in rows.items():
        assert set(row) == set(TEXT)
        for label, (outcome, value) in row.items():
            wanted = expected(playbook, variable, label)
            assert (REFUSED if outcome == "refused" else value) == wanted, f"{variable}: {label}: {value}"
            if outcome == "refused":
                assert re.search(rf"\b\w*{variable}\b", value), f"{variable}: {label}: {value}"
                assert len(value) < 2000, "an answer of 1 MB is not repeated"


def test_each_answer_is_read_in_one_place() -> None:
    """A variable that an operator answers has its type in the registry, and nobody reads it past the lookup."""
    folders = ("playbooks/*.yml", "roles/*/defaults/*.yml", "roles/*/tasks/*.yml", "roles/*/vars/*.yml")
    name = re.compile(r"^\s*- name:.*$", re.MULTILINE)
    texts = {path: name.sub("", path.read_text(encoding="utf-8")) for folder in folders for path in ROOT.glob(folder)}
    lookup = r"lookup\('lifeboat\.dr\.answer',\s+'(\w+)'"
    read = {name for text in texts.values() for name in re.findall(lookup, text)} | {"target"}
    assert read == set(answers.ANSWERS)
    names = "|".join(read - {"target"})
    past = re.compile(rf"(?<![\w.'\"])({names}) (?:\| |is (?:not )?defined)")
    found = {f"{path.relative_to(ROOT)}: {match[0]}" for path, text in texts.items() for match in past.finditer(text)}
    assert found == set()


def test_the_registry_has_the_types_of_the_surveys() -> None:
    for playbook, questions in QUESTIONS.items():
        for variable, question in questions.items():
            answer = answers.read(variable, str(question["default"]))
            wanted = {"integer": int, "float": float}.get(
                question["type"], bool if kind(playbook, variable) == "truth" else str
            )
            assert answer is None or isinstance(answer, (wanted, list)), variable
            assert question["max"] in (None, answers.LIMIT) or question["type"] in ("integer", "float"), variable


@pytest.mark.slow
@pytest.mark.xdist_group("answers")
@pytest.mark.parametrize("playbook", QUESTIONS)
def test_each_choice_of_a_survey_is_text_for_yaml_or_the_truth_that_it_says(playbook: str) -> None:
    for question in QUESTIONS[playbook].values():
        for choice in question["choices"]:
            arrived = yaml.safe_load(choice)
            assert answers.read(question["variable"], arrived) == ({"true": True, "false": False}.get(choice, choice))


MOMENT = datetime(2026, 11, 30, 18, 0, tzinfo=timezone.utc)
READ: list[tuple[str, Any, Any]] = [
    ("confirm", None, None),
    ("confirm", "", None),
    ("confirm", "0123", "0123"),  # on the command line, as name=value
    ("confirm", '"no"', "no"),
    ("confirm", '"', '"'),
    ("reason", '"quoted by somebody"', '"quoted by somebody"'),
    ("reason", "\u3000理由 ", "\u3000理由 "),
    ("recovery_time", MOMENT, "2026-11-30T18:00:00Z"),
    ("recovery_time", MOMENT.astimezone(timezone(timedelta(hours=9))), "2026-12-01T03:00:00+09:00"),
    ("recovery_time", MOMENT.replace(tzinfo=None), "2026-11-30T18:00:00"),
    ("expires", date(2026, 11, 30), "2026-11-30"),
    ("recovery_point", 20261124033000, "20261124_033000"),
    ("identity_file", "/x" * 1000, "/x" * 1000),
    ("max_age", " 26 ", 26),
    ("max_age", 26.0, 26),
    ("ahead_days", "1.5", 1.5),
    ("ahead_days", 2, 2.0),
    ("force", "Yes", True),
    ("force", 0, False),
    ("allow", "a, b", ["a", "b"]),
    ("allow", ["a", "b: c"], ["a", "b: c"]),
]


@pytest.mark.parametrize(("name", "value", "answer"), READ)
def test_what_has_one_spelling_is_turned_back(name: str, value: Any, answer: Any) -> None:
    found = answers.read(name, value)
    assert (found, type(found)) == (answer, type(answer))


UNREAD: list[tuple[str, Any, str]] = [
    ("confirm", 83, "it must be text, and arrived as the number 83: 83, 0123 and 0x53 all arrive so, and which was"
                    " typed is unknown. Put it in double quotes, also in AWX, or type name=value on the command line"),
    ("confirm", -1, "-1 and others all arrive so"),
    ("reason", False, "arrived as the truth value false: no, off and false all arrive so"),
    ("reason", True, "yes, on and true all arrive so"),
    ("reason", 1.5, "the number 1.5"),
    ("confirm", ["shop1"], "it must be text, and arrived as a list"),
    ("confirm", {"shop1": 1}, "it must be text, and arrived as a mapping"),
    ("confirm", "x" * 2**20, "it has 1048576 characters, and at most 1024 are allowed"),
    ("identity_file", "/x" * 2049, "at most 4096 are allowed"),
    ("reason", "a\u2028b", "it contains the control character \\u2028"),
    ("reason", "a\nb", "it contains the control character \\n"),
    ("reason", "a\x1b[2Jb", "it contains the control character \\x1b"),
    ("reason", "a\u202eb", "it contains the control character \\u202e"),
    ("reason", "a\udc80", "it contains the control character \\udc80"),
    ("recovery_point", 2026112403300, "it must be text, and arrived as the number 2026112403300"),
    ("recovery_point", True, "it must be text, and arrived as the truth value true"),
    ("seed", True, "it must be text"),
    ("max_age", True, "it must be a whole number, and arrived as the truth value true"),
    ("max_age", 1.5, "it must be a whole number, and arrived as the number 1.5"),
    ("max_age", "٣", "it must be a whole number, and arrived as the text '\\u0663'"),
    ("max_age", "9" * 19, "it must be a whole number, and arrived as the text"),
    ("max_age", MOMENT, "it must be a whole number, and arrived as the time 2026-11-30 18:00:00+00:00"),
    ("ahead_days", float("inf"), "it must be a number, and arrived as the number inf"),
    ("ahead_days", "1e3", "it must be a number, and arrived as the text '1e3'"),
    ("force", "perhaps", "it must be true or false, and arrived as the text 'perhaps'"),
    ("force", 2, "it must be true or false, and arrived as the number 2"),
    ("force", date(2026, 11, 30), "it must be true or false, and arrived as the date 2026-11-30"),
    ("allow", ["a", 3], "it must be text, and arrived as the number 3"),
    ("allow", {"a": 1}, "it must be text, and arrived as a mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), UNREAD, ids=range(len(UNREAD)))
def test_what_has_none_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(answers.AnswerError, match=re.escape(message)):
        answers.read(name, value)


# --- a play on no host ---

HOSTS = "[stacks_that_were_renamed]\nshop1\nshop2\n"


def run(playbook: str, *words: str, hosts: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["ansible-playbook", "-i", str(hosts), f"playbooks/{playbook}.yml", *words],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
             "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.slow
@pytest.mark.parametrize("playbook", [path.stem for path in PLAYBOOKS if path.stem != "awx"])
def test_a_playbook_without_a_host_fails(playbook: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    code, printed = run(playbook, hosts=tmp_path / "hosts")
    assert code != 0, printed
    assert (
        "which this playbook is for. Nothing was done. Groups: stacks_that_were_renamed. Hosts: shop1, shop2."
        in printed
    )
    assert "Traceback" not in printed


NO_HOST: list[tuple[str, list[str], str]] = [
    ("empty", ["-e", "target="], "No host of the inventory matches target=. Nothing was done."),
    ("null", ["-e", '{"target": null}'], "No host of the inventory matches target=. Nothing was done."),
    ("mistyped", ["-e", "target=shpo1"], "No host of the inventory matches target=shpo1. Nothing was done."),
    (
        "one of two mistyped",
        ["-e", "target=shop1,shpo2"],
        "No host of the inventory matches target=shpo2. Nothing was done.",
    ),
    ("one of two mistyped, with a colon", ["-e", "target=shop1:shpo2"], "matches target=shpo2. Nothing was done."),
    (
        "all excluded",
        ["-e", "target=shop1:!shop1"],
        "No host of the inventory matches target=shop1:!shop1. Nothing was done.",
    ),
    (
        "a limit to another",
        ["-e", "target=shop1", "--limit", "shop2"],
        "matches target=shop1 within --limit shop2. Nothing",
    ),
    (
        "a number",
        ["-e", '{"target": 83}'],
        "Could not read the answer target: it must be text, and arrived as the number 83",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "message"), [case[1:] for case in NO_HOST], ids=[case[0] for case in NO_HOST])
def test_a_target_without_a_host_fails(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    code, printed = run("status", *words, hosts=tmp_path / "hosts")
    assert code != 0, printed
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_a_target_with_a_host_runs_and_a_syntax_check_needs_none(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    for target in ("shop*", "all:!shop2", "stacks_that_were_renamed:&shop1", "~shop[12]"):
        code, printed = run("status", "-e", f"target={target}", "--list-hosts", hosts=tmp_path / "hosts")
        assert (code, "shop1" in printed) == (0, True), printed
    code, printed = run("status", "--syntax-check", hosts=tmp_path / "hosts")
    assert code == 0, printed
