"""The stand-in refuses what a real AWX 24.6.1 refuses, and starts jobs with answers as AWX writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jobs
import pytest
from rules import answer_errors, rrule_errors, survey_error
from standin import Awx

START = "DTSTART;TZID=Asia/Tokyo:20261201T080000"
SHOW = """
- hosts: "{{ target }}"
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.debug:
        msg: "{{ {'confirm': [confirm, confirm | type_debug], 'max_age': [max_age, max_age | type_debug]} }}"
    - ansible.builtin.debug:
        msg: "{{ identity_file is defined and lookup('ansible.builtin.file', identity_file) == 'secret' }}"
"""


def question(variable: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    asked = {
        "question_name": variable, "question_description": "", "variable": variable, "type": kind, "required": False,
        "default": "", "choices": [], "min": None, "max": None,
    }  # fmt: skip
    return {**asked, **more}


SURVEY = [
    question("target", required=True, default="shop1", min=1, max=10),
    question("confirm"),
    question("max_age", "integer", required=True, default=26, min=0, max=100),
    question("details", "multiplechoice", required=True, default="false", choices=["false", "true"]),
]
ANSWERS = {"target": "shop1", "max_age": 26, "details": "false"}


@pytest.mark.parametrize(
    ("rule", "refused"),
    [
        (f"{START} RRULE:FREQ=MONTHLY;INTERVAL=3;BYDAY=TU;BYSETPOS=2", []),
        ("DTSTART:20261201T080000Z RRULE:FREQ=DAILY;INTERVAL=1", []),
        (f"{START} RRULE:FREQ=DAILY;INTERVAL=1;COUNT=999", []),
        (f"{START} RRULE:FREQ=MONTHLY;INTERVAL=3;BYDAY=2TU", ["BYDAY with numeric prefix not supported"]),
        ("RRULE:FREQ=DAILY;INTERVAL=1", ["Valid DTSTART required in rrule", "A valid TZID must be provided"]),
        ("DTSTART:20261201T080000 RRULE:FREQ=DAILY;INTERVAL=1", ["DTSTART cannot be a naive", "A valid TZID"]),
        (f"{START} {START} RRULE:FREQ=DAILY;INTERVAL=1", ["Multiple DTSTART is not supported"]),
        (START, ["One or more rule required"]),
        (f"{START} RRULE:FREQ=DAILY", ["INTERVAL required in rrule"]),
        (f"{START} RRULE:FREQ=DAILY;INTERVAL=1 EXDATE:20261202T080000Z", ["EXDATE not allowed"]),
        (f"{START} RRULE:FREQ=DAILY;INTERVAL=1 RDATE:20261202T080000Z", ["RDATE not allowed"]),
        (f"{START} RRULE:FREQ=SECONDLY;INTERVAL=1", ["SECONDLY is not supported"]),
        (f"{START} RRULE:FREQ=DAILY;INTERVAL=1;COUNT=3;UNTIL=20270101T000000Z", ["both COUNT and UNTIL"]),
        (f"{START} RRULE:FREQ=DAILY;INTERVAL=1;COUNT=1000", ["COUNT > 999 is unsupported"]),
        (f"{START} RRULE:FREQ=DAILY;INTERVAL=1;BYDAY=XX", ["rrule parsing failed validation"]),
        ("DTSTART;TZID=Mars/Olympus:20261201T080000 RRULE:FREQ=DAILY;INTERVAL=1", ["A valid TZID must be provided"]),
    ],
)
def test_rules_of_a_schedule(rule: str, refused: list[str]) -> None:
    errors = rrule_errors(rule)
    assert bool(errors) == bool(refused)
    for message in refused:
        assert any(message in error for error in errors), errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"required": "yes"}, "'required' in survey question"),
        ({"type": "choice"}, "not one of the allowed question types"),
        ({"default": 3}, "Default value 3 in survey question"),
        ({"min": "1"}, "The min limit in survey question"),
        ({"type": "multiplechoice", "choices": ["a"], "default": "b"}, "Default choice must be answered"),
        ({"type": "multiplechoice", "choices": ["a", "b"], "default": "a\nb"}, "only have one default value"),
        ({"variable": "confirm"}, "'variable' 'confirm' duplicated"),
    ],
)
def test_surveys(change: dict[str, Any], message: str) -> None:
    spec = {"name": "x", "description": "x", "spec": [{**question("target"), **change}, question("confirm")]}
    error = survey_error(spec)
    assert message in error if message else error == ""


def test_surveys_that_are_none() -> None:
    assert "'description' is missing" in survey_error({"name": "x", "spec": []})
    assert "doesn't contain any items" in survey_error({"name": "x", "description": "x", "spec": []})
    assert "'variable' missing" in survey_error(
        {"name": "x", "description": "x", "spec": [{"type": "text", "question_name": "x", "required": True}]}
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, ""),
        ({"confirm": ""}, ""),
        ({"target": None}, "Value None for 'target' expected to be a string."),
        ({"target": ["shop1"]}, "Value ['shop1'] for 'target' expected to be a string."),
        ({"target": ""}, "'target' value  is too small (length is 0 must be at least 1)."),
        ({"target": "x" * 1024 * 1024}, "is too large (must be no more than 10)."),
        ({"target": "\u2028"}, ""),
        ({"target": "{{ 7*7 }}"}, ""),
        ({"max_age": "26"}, "Value 26 for 'max_age' expected to be an integer."),
        ({"max_age": True}, "Value True for 'max_age' expected to be an integer."),
        ({"max_age": -1}, "'max_age' value -1 is too small (must be at least 0)."),
        ({"max_age": 101}, "'max_age' value 101 is too large (must be no more than 100)."),
        ({"details": "maybe"}, "Value maybe for 'details' expected to be one of ['false', 'true']."),
        ({"details": False}, "Value False for 'details' expected to be one of ['false', 'true']."),
    ],
)
def test_answers(answer: dict[str, Any], message: str) -> None:
    errors = answer_errors(SURVEY, {**ANSWERS, **answer})
    assert len(errors) == bool(message)
    assert message in "".join(errors)


def test_answers_that_are_left_out() -> None:
    missing = ["'target' value missing", "'max_age' value missing", "'details' value missing"]
    assert answer_errors(SURVEY, {}) == missing
    assert answer_errors(SURVEY, {}, required=False) == [], "a node of a workflow"


def test_the_file_of_answers_is_as_awx_writes_it() -> None:
    answers = {"target": "shop1", "confirm": "", "max_age": 26, "awx_job_id": 12, "others": ["a"]}
    assert jobs.answers_file(answers) == (
        "!unsafe 'target': !unsafe 'shop1'\n"
        "!unsafe 'confirm': !unsafe ''\n"
        "!unsafe 'max_age': 26\n"
        "!unsafe 'awx_job_id': 12\n"
        "!unsafe 'others':\n- !unsafe 'a'\n"
    )
    assert jobs.answers_file({"confirm": "", "target": "shop2"}, {"confirm": "", "target": "shop1"}) == (
        "confirm: ''\n!unsafe 'target': !unsafe 'shop2'\n"
    )


# --- launches ---


@pytest.fixture
def awx(tmp_path: Path) -> Awx:
    """A project with one playbook, its template with a survey, and credentials."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/show.yml").write_text(SHOW, encoding="utf-8")
    state = Awx({"machines": "Machine", "other machines": "Machine", "vault password": "Vault"}, checkout=tmp_path)
    injected = {"file": {"template": "{{ identity }}\n"}, "extra_vars": {"identity_file": "{{ tower.filename }}"}}
    state.new("credential_types", {"name": "key", "injectors": injected})
    state.add_credential("the key", "key", {"identity": "secret"})
    created(state, "projects", {"name": "lifeboat", "scm_url": "https://git.example.org/x.git", "scm_type": "git"})
    created(state, "inventories", {"name": "hosts"})
    add_template(state, "show")
    return state


def created(state: Awx, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    status, made = state.answer("POST", f"/api/v2/{endpoint}/", {}, dict(body))
    assert status == 201, made
    return dict(made)


def number(state: Awx, endpoint: str, name: str) -> int:
    return int(state.named(endpoint, name)["id"])


def add_template(state: Awx, name: str, **more: Any) -> int:
    body = {
        "name": name, "project": number(state, "projects", "lifeboat"), "playbook": "playbooks/show.yml",
        "job_type": "run",
        "inventory": number(state, "inventories", "hosts"), "survey_enabled": True, "allow_simultaneous": False,
        **more,
    }  # fmt: skip
    made = created(state, "job_templates", body)
    spec = {"name": name, "description": "", "spec": SURVEY}
    assert state.answer("POST", f"{made['url']}survey_spec/", {}, spec)[0] == 200
    machines = {"id": number(state, "credentials", "machines")}
    assert state.answer("POST", f"{made['url']}credentials/", {}, machines)[0] == 204
    return int(made["id"])


def test_a_launch_needs_every_required_answer(awx: Awx) -> None:
    status, errors = awx.launch("show", {"confirm": ""})
    assert status == 400
    assert errors["variables_needed_to_start"][0] == "'target' value missing"


def test_what_no_survey_asks_for_is_taken_out_of_a_launch_without_an_error(awx: Awx) -> None:
    status, job = awx.launch("show", {**ANSWERS, "reason": "x"}, job_type="check")
    assert status == 201
    assert job["ignored_fields"] == {"extra_vars": {"reason": "x"}, "job_type": "check"}
    assert job["extra_vars"] == {**ANSWERS, "confirm": ""}
    assert job["job_type"] == "run", "the template does not ask"


def test_credentials_at_a_launch(awx: Awx) -> None:
    key, machines, others = (number(awx, "credentials", name) for name in ("the key", "machines", "other machines"))
    assert awx.launch("show", ANSWERS, credentials=[key])[1]["ignored_fields"] == {"credentials": [key]}
    add_template(awx, "asks", ask_credential_on_launch=True)
    status, errors = awx.launch("asks", ANSWERS, credentials=[key])
    assert status == 400
    assert "Removing Machine credential at launch time without replacement is not supported" in errors["credentials"][0]
    for replaced in (machines, others):
        status, job = awx.launch("asks", ANSWERS, credentials=[replaced, key])
        assert (status, job["credentials"]) == (201, [replaced, key])


def test_the_second_launch_of_a_template_waits_for_the_first(awx: Awx) -> None:
    assert [awx.launch("show", ANSWERS)[1]["status"] for _ in range(2)] == ["waiting", "pending"]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_schedule_needs_every_required_answer_even_where_it_is_off(awx: Awx, enabled: bool) -> None:
    body = {
        "name": "nightly", "unified_job_template": number(awx, "job_templates", "show"), "enabled": enabled,
        "rrule": f"{START} RRULE:FREQ=DAILY;INTERVAL=1", "extra_data": {"max_age": 26},
    }  # fmt: skip
    status, errors = awx.answer("POST", "/api/v2/schedules/", {}, body)
    assert status == 400
    assert errors["variables_needed_to_start"] == ["'target' value missing", "'details' value missing"]
    unknown = {**body, "extra_data": {**ANSWERS, "reason": "x"}}
    assert awx.answer("POST", "/api/v2/schedules/", {}, unknown)[0] == 400
    wrong = {**body, "extra_data": ANSWERS, "rrule": f"{START} RRULE:FREQ=MONTHLY;INTERVAL=3;BYDAY=2TU"}
    assert "rrule" in awx.answer("POST", "/api/v2/schedules/", {}, wrong)[1]
    assert "rrule" in awx.answer("POST", "/api/v2/schedules/", {}, {"name": "x", "enabled": False, "extra_data": {}})[1]
    made = created(awx, "schedules", {**body, "extra_data": ANSWERS})
    off = {"name": "nightly", "enabled": False}
    assert awx.answer("PATCH", made["url"], {}, off)[0] == 200, "nothing of it is checked again"
    assert awx.answer("PATCH", made["url"], {}, {"extra_data": {"target": ""}})[0] == 400


def test_playbooks_sources_and_approvals(awx: Awx) -> None:
    project = number(awx, "projects", "lifeboat")
    unknown = {"name": "x", "project": project, "playbook": "playbooks/new.yml", "inventory": 1}
    assert awx.answer("POST", "/api/v2/job_templates/", {}, unknown) == (
        400,
        {"playbook": ["Playbook not found for project."]},
    )
    (awx.checkout / "playbooks/new.yml").write_text("[]\n", encoding="utf-8")
    assert awx.answer("POST", "/api/v2/job_templates/", {}, unknown)[0] == 400, "until the project is updated"
    assert awx.answer("POST", f"/api/v2/projects/{project}/update/", {}, {})[0] == 202
    assert awx.answer("POST", "/api/v2/job_templates/", {}, unknown)[0] == 201
    source = {"name": "x", "source": "scm", "inventory": 1, "credential": number(awx, "credentials", "vault password")}
    status, errors = awx.answer("POST", "/api/v2/inventory_sources/", {}, source)
    assert (status, "insights and vault are disallowed for scm" in errors["credential"][0]) == (400, True)
    node = created(awx, "workflow_job_template_nodes", {"identifier": "approve", "workflow_job_template": 1})
    path = node["related"]["create_approval_template"]
    made = awx.answer("POST", path, {}, {"name": "Approve", "identifier": "approve", "timeout": 60})[1]
    assert "identifier" not in made
    assert "identifier" not in awx.answer("PATCH", made["url"], {}, {"identifier": "approve"})[1]


def test_a_node_takes_credentials_where_its_template_asks_for_them(awx: Awx) -> None:
    key = {"id": number(awx, "credentials", "the key")}
    add_template(awx, "asks", ask_credential_on_launch=True, ask_job_type_on_launch=True)
    for name, status in (("show", 400), ("asks", 204)):
        body = {
            "identifier": name,
            "workflow_job_template": 1,
            "unified_job_template": number(awx, "job_templates", name),
        }
        node = created(awx, "workflow_job_template_nodes", body)
        assert awx.answer("POST", f"{node['url']}credentials/", {}, key)[0] == status
        check = {"job_type": "check"}
        assert awx.answer("PATCH", node["url"], {}, check)[0] == (200 if name == "asks" else 400)
        assert awx.answer("PATCH", node["url"], {}, {"extra_data": {"max_age": -1}})[0] == 400


def test_the_secrets_of_a_notification_are_not_returned(awx: Awx) -> None:
    body = {
        "name": "x",
        "notification_type": "slack",
        "notification_configuration": {"token": "hunter2", "channels": ["#dr"]},
    }
    made = created(awx, "notification_templates", body)
    assert made["notification_configuration"] == {"token": "$encrypted$", "channels": ["#dr"]}
    for config in ({"token": "x"}, {"token": "x", "channels": "#dr"}):
        wrong = {**body, "notification_configuration": config}
        assert awx.answer("POST", "/api/v2/notification_templates/", {}, wrong)[0] == 400


# --- jobs ---


@pytest.mark.parametrize(
    ("answer", "arrives"),
    [("", [None, "NoneType"]), ("no", [False, "bool"]), ("0123", [83, "int"]), ("{{ 7*7 }}", ["{{ 7*7 }}", "str"])],
)
def test_a_job_gets_the_answers_as_awx_writes_them(awx: Awx, tmp_path: Path, answer: str, arrives: list[Any]) -> None:
    """And what its credentials inject. ansible-core 2.19 and later read a marked text again, as YAML."""
    add_template(awx, "asks", ask_credential_on_launch=True)
    keys = [number(awx, "credentials", name) for name in ("machines", "the key")]
    status, job = awx.launch("asks", {**ANSWERS, "target": "localhost", "confirm": answer}, credentials=keys)
    assert status == 201
    result = awx.run(job, tmp_path / "job", "localhost,")
    assert (result.status, result.rc) == ("successful", 0), result.stdout
    messages = [event["event_data"]["res"]["msg"] for event in result.events if event["event"] == "runner_on_ok"]
    assert messages == [{"confirm": arrives, "max_age": [26, "int"]}, True]


def test_a_job_fails_whose_inventory_cannot_be_read(awx: Awx, tmp_path: Path) -> None:
    hosts = awx.checkout / "inventories/mine"
    (hosts / "group_vars").mkdir(parents=True)
    (hosts / "hosts.yml").write_text("all: {hosts: {shop1: {}}}\n", encoding="utf-8")
    created(awx, "inventory_sources", {
        "name": "mine", "source": "scm", "source_path": "inventories/mine", "update_on_launch": True,
        "inventory": number(awx, "inventories", "hosts"),
    })  # fmt: skip
    (source,) = awx.objects["inventory_sources"].values()
    assert awx.reads(source)
    (hosts / "group_vars/all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n", encoding="utf-8")
    job = awx.launch("show", ANSWERS)[1]
    result = awx.run(job, tmp_path / "job", "localhost,")
    assert (result.status, result.stdout) == ("failed", "Previous Task Failed")
