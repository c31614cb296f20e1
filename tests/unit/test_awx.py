# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX without an AWX: playbooks, argument specs and surveys agree; what is sent is what AWX's modules take."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import ansible_runner
import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from dateutil import rrule

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "awx"
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


TEMPLATES: list[dict[str, Any]] = json.loads((ROLE / "files/templates.json").read_text(encoding="utf-8"))
CREDENTIAL_TYPES = json.loads((ROLE / "files/credential_types.json").read_text(encoding="utf-8"))
BY_PLAYBOOK = {Path(template["playbook"]).stem: template for template in TEMPLATES}


def trusted(value: Any) -> Any:
    """As Ansible marks what it read from its own files: only that may be a template."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(child) for key, child in value.items()}
    return [trusted(child) for child in value] if isinstance(value, list) else value


def render(value: Any, variables: dict[str, Any]) -> Any:
    return Templar(loader=DataLoader(), variables=variables).template(trusted(value))


# --- one template a playbook, and its survey ---


@pytest.mark.slow
def test_the_data_is_what_the_playbooks_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate_awx.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_playbook_has_one_template_and_every_template_a_playbook() -> None:
    assert [template["playbook"] for template in TEMPLATES] == [f"playbooks/{path.name}" for path in PLAYBOOKS]
    assert len({template["name"] for template in TEMPLATES}) == len(TEMPLATES)


def taken(path: Path) -> set[str]:
    """The variables that a playbook takes, found in another way than the generator does: by who reads them."""
    (play,) = load(path)
    text = path.read_text(encoding="utf-8")
    for role in play.get("roles", []):
        name = role["role"].rpartition(".")[2]
        given = {**role, **role.get("vars", {})}
        defaults = load(ROOT / "roles" / name / "defaults/main.yml")
        text += json.dumps({key: default for key, default in defaults.items() if key not in given})
    return {"target", *re.findall(r"lifeboat\.dr\.answer',\s+'(\w+)'", text)}


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_survey_asks_for_what_its_playbook_takes_and_for_nothing_else(path: Path) -> None:
    template = BY_PLAYBOOK[path.stem]
    asked = [question["variable"] for question in template["survey"]]
    assert set(asked) | set(template["not_asked"]) == taken(path)
    assert not set(asked) & set(template["not_asked"])
    assert len(asked) == len(set(asked))
    assert asked[0] == "target"
    assert template["description"] == load(path)[0]["name"]
    assert ("confirm" in asked) == (template["changes"] == "with confirm")


def test_a_survey_that_a_person_wrote_down() -> None:
    """The generator is not its own witness."""
    asked = {question["variable"]: question for question in BY_PLAYBOOK["recover_database"]["survey"]}
    assert {name: (question["type"], question["choices"], question["default"]) for name, question in asked.items()} == {
        "target": ("text", [], "lifeboat_stacks"),
        "recovery_point": ("text", [], "latest"),
        "seal": ("text", [], ""),
        "accept": ("text", [], ""),
        "recovery_time": ("text", [], ""),
        "before": ("text", [], ""),
        "timeline": ("integer", [], 0),
        "reason": ("text", [], ""),
        "force": ("multiplechoice", ["false", "true"], "false"),
        "method": ("multiplechoice", ["auto", "swap", "rebuild", "physical"], "auto"),
        "database": ("text", [], ""),
        "others": ("multiplechoice", ["ask", "restore", "aside"], "ask"),
        "confirm": ("text", [], ""),
    }
    assert list(asked)[-1] == "confirm", "what acts is asked last"
    assert asked["target"]["required"]
    assert not asked["confirm"]["required"], "without it, it only plans"


QUESTION = {
    "question_name", "question_description", "variable", "required", "type", "choices", "default", "min", "max",
}  # fmt: skip


def assert_survey(spec: dict[str, Any]) -> None:
    """What AWX 24 refuses otherwise: api/views/__init__.py, JobTemplateSurveySpec._validate_spec_data."""
    assert all(isinstance(spec[key], str) for key in ("name", "description"))
    assert spec["spec"]
    for question in spec["spec"]:
        assert set(question) == QUESTION
        assert question["type"] in ("text", "textarea", "password", "integer", "float", "multiplechoice", "multiselect")
        assert isinstance(question["required"], bool)
        assert question["question_name"] and question["variable"].isidentifier()
        default = question["default"]
        if question["type"] == "multiplechoice":
            assert question["choices"] and all(isinstance(each, str) and each for each in question["choices"])
            assert default in question["choices"]
        elif question["type"] in ("integer", "float"):
            assert isinstance(default, (int, float)) and not isinstance(default, bool)
            assert question["min"] <= default <= question["max"]
        else:
            assert isinstance(default, str) and len(default) <= question["max"]
            assert question["min"] <= len(default) or not question["default"]
            assert not question["required"] or question["min"] > 0 or default


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda case: case["name"])
def test_surveys_are_as_awx_takes_them(template: dict[str, Any]) -> None:
    assert_survey({"name": "x", "description": "x", "spec": template["survey"]})
    for question in template["survey"]:
        assert not re.search(r"\b[A-Z]\(", question["question_description"]), "markup of ansible-doc"


# --- answers: see test_answers.py ---


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_truth_that_arrives_as_text_is_read_as_one(path: Path) -> None:
    """`when: x_force` fails with text since ansible-core 2.19, and `{{ 'false' }}` is true to Jinja."""
    (play,) = load(path)
    for role in play.get("roles", []):
        folder = ROOT / "roles" / role["role"].rpartition(".")[2]
        spec = load(folder / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        for name in [key for key, option in spec.items() if option["type"] == "bool"]:
            for file in [*folder.glob("tasks/*.yml"), *folder.glob("vars/*.yml")]:
                for line in file.read_text(encoding="utf-8").splitlines():
                    tested = re.search(rf"\bwhen:.*\b{name}\b|\bif {name}\b|\b(and|or|not) {name}\b", line)
                    assert not tested or re.search(rf"\b{name} \| bool", line), f"{file.name}: {line}"


# --- what the role sends ---


@functools.cache
def awx_spec(module: str) -> dict[str, Any]:
    """What a module of awx.awx hands to its own base class, by running its main() as far as that."""

    class Seen(Exception):
        pass

    loaded = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{module}")
    given: dict[str, Any] = {}

    def see(*words: Any, **options: Any) -> None:
        given.update(options or {"argument_spec": words[0]})
        raise Seen

    with mock.patch.object(loaded, "ControllerAPIModule", see), pytest.raises(Seen):
        loaded.main()
    found: dict[str, Any] = given["argument_spec"]
    return found


SETTINGS: dict[str, Any] = {
    "awx_project_url": "https://git.example.org/lifeboat.git",
    "awx_inventory_path": "inventories/mine",
    "awx_execution_environment": "lifeboat-ee",
    "awx_execution_environment_image": "registry.example.org/lifeboat-ee:0.1.0",
    "awx_credentials": ["machines", "vault password"],
    "awx_timezone": "Asia/Tokyo",
    "awx_notifications": {
        "slack": {"token": "x", "channels": ["#dr"]},
        "pagerduty": {"token": "x", "subdomain": "shop", "service_key": "k", "client_name": "lifeboat"},
        "email": {"host": "mail.example.org", "port": 25, "sender": "a@example.org", "recipients": ["b@example.org"],
                  "username": "", "password": "", "use_tls": False, "use_ssl": False, "timeout": 30},
    },
}  # fmt: skip


def sent(**settings: Any) -> list[tuple[str, dict[str, Any]]]:
    """(module, arguments) of every call that the role makes, rendered as Ansible would."""
    variables = {
        **trusted(load(ROLE / "defaults/main.yml")), **trusted(load(ROLE / "vars/main.yml")),
        # Read by a lookup, which needs more of Ansible than is here; its text is no template there either.
        "__awx_templates": TEMPLATES, "__awx_credential_types": CREDENTIAL_TYPES, "ansible_check_mode": False,
        "__awx_existing": {"schedules": []}, "__awx_updatable": False, **settings,
    }  # fmt: skip
    found = []
    for part in load(ROLE / "tasks/main.yml"):
        for task in in_blocks(load(ROLE / "tasks" / part["ansible.builtin.include_tasks"])):
            for key in [name for name in task if name.startswith("awx.awx.")]:
                for item in render(task["loop"], variables) if "loop" in task else [None]:
                    here = {**variables, "item": item, "omit": "<omit>"}
                    here.update({name: render(value, here) for name, value in task.get("vars", {}).items()})
                    conditions = task.get("when", [])
                    for condition in [conditions] if isinstance(conditions, str) else conditions:
                        if not render("{{ 'yes' if " + condition + " else '' }}", here):
                            break
                    else:
                        arguments = render(task[key], here)
                        kept = {name: argument for name, argument in arguments.items() if argument != "<omit>"}
                        found.append((key.removeprefix("awx.awx."), kept))
    return found


def in_blocks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield from in_blocks(task["block"]) if "block" in task else [task]


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["defaults", "everything"])
def test_the_modules_of_awx_take_all_that_is_sent(settings: dict[str, Any]) -> None:
    for module, arguments in sent(**settings):
        result = ArgumentSpecValidator(awx_spec(module)).validate(arguments)
        assert not result.error_messages, f"{module}: {arguments.get('name')}"


def test_job_templates() -> None:
    made = {arguments["name"]: arguments for module, arguments in sent(**SETTINGS) if module == "job_template"}
    assert list(made) == [template["name"] for template in TEMPLATES]
    for arguments in made.values():
        assert arguments["allow_simultaneous"] is False
        assert arguments["ask_job_type_on_launch"] is True, "the dry run"
        assert arguments["survey_enabled"] is True
        assert (ROOT / arguments["playbook"]).is_file()
        assert arguments["credentials"] == SETTINGS["awx_credentials"]
        assert sorted(arguments["notification_templates_error"]) == [
            "lifeboat email",
            "lifeboat pagerduty",
            "lifeboat slack",
        ]
        assert_survey(arguments["survey_spec"])
    asks = {name for name, arguments in made.items() if arguments["ask_credential_on_launch"]}
    assert {template["name"] for template in TEMPLATES if "identity_file" in template["not_asked"]} <= asks


def test_without_notifications_none_are_made() -> None:
    modules = [module for module, _ in sent()]
    assert "notification_template" not in modules
    assert {"project", "inventory", "execution_environment"}.isdisjoint(modules), "they are there already"


def test_what_is_empty_takes_nothing_away() -> None:
    """An empty list given to the modules of awx.awx removes what the object has."""
    for module, arguments in sent():
        empty = {name for name, value in arguments.items() if value in ("", [], {}, None)}
        assert not empty, f"{module}: {arguments['name']}"


def test_secrets_are_not_logged_and_are_in_no_data() -> None:
    tasks = load(ROLE / "tasks/notifications.yml")
    assert [task["no_log"] for task in tasks] == [True]
    types = {kind["name"]: kind for module, kind in sent() if module == "credential_type"}
    assert len(types) == 3
    for kind in types.values():
        fields = {field["id"]: field.get("secret", False) for field in kind["inputs"]["fields"]}
        assert set(kind["inputs"]["required"]) <= set(fields)
        used = set(re.findall(r"{{ (\w+) }}", json.dumps(kind["injectors"])))
        assert used == set(fields), "AWX renders these, not Ansible"
        assert any(fields.values())


@pytest.mark.slow
def test_schedules() -> None:
    made = {schedule["name"]: schedule for module, schedule in sent(**SETTINGS) if module == "schedule"}
    surveys = {template["name"]: {each["variable"]: each for each in template["survey"]} for template in TEMPLATES}
    for schedule in made.values():
        start, rule = schedule["rrule"].split(" ")
        assert start.startswith("DTSTART;TZID=Asia/Tokyo:")
        assert re.search(r"\bINTERVAL=\d+", rule), "AWX refuses a rule without one"
        moment = datetime.strptime(start.rpartition(":")[2], "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc)
        runs = rrule.rrulestr(f"DTSTART:{moment:%Y%m%dT%H%M%SZ}\n{rule}")
        year = runs.between(moment - timedelta(days=1), moment + timedelta(days=365))
        assert len(year) in (365, 52, 12, 4), schedule["name"]
        for name, value in schedule["extra_data"].items():
            asked = surveys[schedule["unified_job_template"]].get(name)
            assert asked, (
                f"{schedule['name']}: nobody asks for {name}; correct __awx_schedules in roles/awx/vars/main.yml"
            )
            assert not asked["choices"] or value in asked["choices"]
    assert made["lifeboat checklist, every day"]["enabled"] is True
    for name in ("lifeboat backup, every night", "lifeboat verify, every Sunday"):
        assert made[name]["enabled"] is False, "the hosts' cron is the master"
        again = {
            schedule["name"]: schedule for module, schedule in sent(awx_schedule_backups="true") if module == "schedule"
        }
        assert again[name]["enabled"] is True


def scheduled(**settings: Any) -> dict[str, dict[str, Any]]:
    return {schedule["name"]: schedule for module, schedule in sent(**settings) if module == "schedule"}


def test_a_drill_is_scheduled_where_a_host_for_it_is_named() -> None:
    name = "lifeboat drill, every quarter"
    assert name not in scheduled()
    made = scheduled(awx_drill_target="drill1")[name]
    assert made["enabled"] is True
    assert (made["extra_data"]["target"], made["extra_data"]["confirm"]) == ("drill1", "drill1")


def test_the_alerts_are_tested_every_month_where_a_stack_is_named() -> None:
    name = "lifeboat alert_test, every month"
    assert name not in scheduled()
    made = scheduled(awx_alert_stack="shop")[name]
    assert made["enabled"] is True
    assert made["extra_data"] == {
        "target": "lifeboat_watch:lifeboat_stacks",
        "alert_stack": "shop",
        "severity": "critical",
        "wait_seconds": 180,
    }


def test_a_schedule_that_is_there_is_turned_off_where_its_setting_is_empty_now() -> None:
    name = "lifeboat drill, every quarter"
    made = scheduled(__awx_existing={"schedules": [name]})[name]
    assert made == {
        "name": name,
        "organization": "Default",
        "unified_job_template": "lifeboat drill",
        "enabled": False,
    }, "and keeps its rule and its answers"


def skipped(time: str, day: datetime, zone: zoneinfo.ZoneInfo) -> bool:
    """Whether a change of clocks leaves this time out on that day."""
    local = day.replace(hour=int(time[:2]), minute=int(time[2:4]), tzinfo=zone)
    return local.astimezone(timezone.utc).astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None)


@pytest.mark.slow
def test_no_schedule_is_at_a_time_that_a_change_of_clocks_leaves_out() -> None:
    """AWX skips such a run. All zones, every change from 2026 to 2037."""
    starts = [schedule["rrule"].split(" RRULE")[0] for schedule in load(ROLE / "vars/main.yml")["__awx_schedules"]]
    times = {start.rpartition("}}")[2] for start in starts}
    days = [datetime(2026, 1, 1) + timedelta(days=number) for number in range(12 * 365)]
    hit, control = [], False
    for name in zoneinfo.available_timezones():
        zone = zoneinfo.ZoneInfo(name)
        offsets = [zone.utcoffset(day) for day in days]
        for number in [at for at in range(1, len(days)) if offsets[at] != offsets[at - 1]]:
            for day in days[number - 1 : number + 1]:
                hit += [(name, day, time) for time in times if skipped(time, day, zone)]
                control |= skipped("0200", day, zone)
    assert control, "the hour that Berlin and New York leave out"
    assert not hit


def test_a_webhook_is_told_too() -> None:
    hook = {
        "url": "https://x.example.org/hunter2",
        "http_method": "POST",
        "headers": {},
        "disable_ssl_verification": False,
    }
    calls = sent(awx_notifications={"webhook": hook})
    (made,) = [arguments for module, arguments in calls if module == "notification_template"]
    assert not ArgumentSpecValidator(awx_spec("notification_template")).validate(made).error_messages
    assert (made["notification_type"], made["notification_configuration"]) == ("webhook", hook)
    templates = [arguments for module, arguments in calls if module == "job_template"]
    assert {tuple(arguments["notification_templates_error"]) for arguments in templates} == {("lifeboat webhook",)}


def test_the_workflow_of_scenario_5() -> None:
    (made,) = [arguments for module, arguments in sent(**SETTINGS) if module == "workflow_job_template"]
    nodes = {node["identifier"]: node for node in made["workflow_nodes"]}
    order, at = ["plan"], "plan"
    while following := nodes[at].get("related", {}).get("success_nodes"):
        (one,) = following
        at = one["identifier"]
        order.append(at)
    assert order == ["plan", "approve", "recover", "look"] == list(nodes)
    assert nodes["plan"]["job_type"] == "check", "the confirmation reaches it too, and nobody has approved"
    assert nodes["approve"]["unified_job_template"]["type"] == "workflow_approval"
    assert "job_type" not in nodes["recover"]
    names = {template["name"] for template in TEMPLATES}
    for node in nodes.values():
        template = node["unified_job_template"]
        assert template["type"] == "workflow_approval" or template["name"] in names
    asked = {question["variable"] for question in made["survey_spec"]["spec"]}
    site = {question["variable"] for question in BY_PLAYBOOK["recover_site"]["survey"]}
    assert {"target", "confirm", "recovery_point", "accept"} <= asked <= site
    assert_survey(made["survey_spec"])
    assert made["notification_templates_approvals"]
    assert made["allow_simultaneous"] is False


# --- where the jobs run ---


def test_a_checkout_finds_the_collection_by_the_path_of_a_playbook() -> None:
    """AWX runs `playbooks/x.yml` of a checkout, in which `make setup` never ran."""
    link = ROOT / "collections/ansible_collections/lifeboat/dr"
    assert link.is_symlink()
    assert link.resolve() == ROOT
    assert ":collections:" in (ROOT / "ansible.cfg").read_text(encoding="utf-8")


def test_the_execution_environment_has_what_the_modules_need() -> None:
    meta = load(ROOT / "meta/execution-environment.yml")
    assert set(meta) == {"version", "dependencies"}
    whole = load(ROOT / "execution-environment/execution-environment.yml")
    assert whole["version"] == 3
    for kind in ("python", "system"):
        assert (ROOT / meta["dependencies"][kind]).is_file()
        named = whole["dependencies"][kind]
        assert (ROOT / "execution-environment" / named).resolve() == ROOT / meta["dependencies"][kind]
    galaxy = load(ROOT / "galaxy.yml")["dependencies"]
    bundled = [
        collection["name"] for collection in load(ROOT / "execution-environment/requirements.yml")["collections"]
    ]
    assert set(bundled) == {*galaxy, "awx.awx"}
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert whole["dependencies"]["ansible_runner"]["package_pip"] == f"ansible-runner=={pins['ansible-runner']}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What AWX has of this repository: the files that git knows, and nothing that `make setup` made."""
    target = tmp_path_factory.mktemp("project")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [part for part in listed.split("\0") if part and (ROOT / part).exists()]:
        if name.startswith(("playbooks/", "plugins/", "roles/", "meta/", "collections/", "ansible.cfg", "galaxy.yml")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


@pytest.mark.slow
def test_ansible_runner_runs_a_playbook_of_a_checkout_with_answers_as_text(project: Path, tmp_path: Path) -> None:
    """As AWX starts a job. The host has no stack and says so: the answers came as far as the module."""
    (tmp_path / "hosts").write_text(
        "[lifeboat_stacks]\nhere ansible_connection=local ansible_become=false"
        f" ansible_python_interpreter={sys.executable} lifeboat_stack=no-such-stack\n"
    )
    given = {question["variable"]: str(question["default"]) for question in BY_PLAYBOOK["checklist"]["survey"]}
    ran = ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(project),
        playbook="playbooks/checklist.yml",
        inventory=str(tmp_path / "hosts"),
        extravars={**given, "period": "weekly", "ahead_days": "2"},
        envvars={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": "",
            "ANSIBLE_INJECT_INVOCATION": "1",  # ansible-core 2.21 returns no arguments unless it is asked to
        },
        cmdline="--check",
        quiet=True,
    )
    failed = [event["event_data"] for event in ran.events if event["event"] == "runner_on_failed"]
    said = "".join(event["stdout"] for event in ran.events)
    assert (ran.status, [task["task"] for task in failed]) == ("failed", ["Make its checks"]), said
    result = failed[0]["res"]
    assert "/etc/lifeboat/no-such-stack.json" in result["msg"]
    assert result["remedy"] == "Run lifeboat.dr.deploy on this host first."
    arguments = result["invocation"]["module_args"]
    assert (arguments["period"], arguments["ahead_days"]) == ("weekly", 2.0)
