"""The real playbook and the real modules of awx.awx against a stand-in of AWX's API: all is made, once.

With LONG=1, as in `make release`, the template of every playbook; else, but in one check, those that the tests name. A
module of awx.awx is a process for each template, and the set-up is run twenty times.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from standin import Awx, serve

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = json.loads((ROOT / "roles/awx/files/templates.json").read_text(encoding="utf-8"))
SURVEYS = {template["name"]: template["survey"] for template in TEMPLATES}
SETTINGS: dict[str, Any] = {
    "awx_project_url": "https://git.example.org/lifeboat.git",
    "awx_project_credential": "git",
    "awx_inventory_path": "inventories/mine",
    "awx_credentials": ["machines"],
    "awx_escrow_credential": "escrowed key of shop",
    "awx_timezone": "Asia/Tokyo",
    "awx_notifications": {"slack": {"token": "hunter2", "channels": ["#dr"]}},
    "awx_drill_target": "drill1",
}
# The templates that schedules and the workflow need, for what need not be tried with each of them.
NAMES = [f"lifeboat {name}" for name in ("alert_test", "backup", "checklist", "drill", "recover_site", "verify")]
FEW = {"__awx_templates": [template for template in TEMPLATES if template["name"] in NAMES]}
LAUNCHED = [*NAMES, "lifeboat escrow", "lifeboat status"]
MADE = [template for template in TEMPLATES if os.environ.get("LONG") or template["name"] in LAUNCHED]
EVERY = dict(SETTINGS)
if MADE != TEMPLATES:
    SETTINGS["__awx_templates"] = MADE
NO_NOTIFICATION = {name: value for name, value in SETTINGS.items() if name != "awx_notifications"}
IDENTITY = "AGE-SECRET-KEY-NOT-A-REAL-ONE"


def new_awx(**options: Any) -> Awx:
    """An AWX with what its administrator made before the set-up."""
    state = Awx(credentials={"machines": "Machine", "vault password": "Vault", "git": "Source Control"}, **options)
    escrowed = json.loads((ROOT / "roles/awx/files/credential_types.json").read_text(encoding="utf-8"))[1]
    state.new("credential_types", escrowed)
    state.add_credential("escrowed key of shop", escrowed["name"], {"identity": IDENTITY})
    return state


@contextmanager
def served(state: Awx) -> Iterator[int]:
    server = serve(state)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def attempt(port: int, *words: str, settings: dict[str, Any] | None = None, folder: Path = ROOT) -> tuple[int, str]:
    """(exit status, output) of the set-up."""
    environment = {
        **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "CONTROLLER_HOST": f"http://127.0.0.1:{port}",
        "CONTROLLER_OAUTH_TOKEN": "an-oauth-token", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PWD": str(folder),
    }  # fmt: skip
    chosen = json.dumps(SETTINGS if settings is None else settings)
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", str(ROOT / "playbooks/awx.yml"), "-e", chosen, *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "hunter2" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def apply(port: int, *words: str, settings: dict[str, Any] | None = None) -> str:
    code, output = attempt(port, *words, settings=settings)
    assert code == 0, output
    return output


def changed_tasks(output: str) -> dict[str, list[str]]:
    """{task: [what was changed]}; the whole task where it has no loop."""
    changed: dict[str, list[str]] = {}
    task = ""
    for line in output.splitlines():
        header = re.match(r"TASK \[(?:[\w.]+ : )?(.*?)\] \*", line)
        task = header[1] if header else task
        entry = re.match(r"changed: \[localhost\](?: => \(item=(.*?)\))?", line)
        if entry:
            changed.setdefault(task, []).append(entry[1] or "")
    return changed


def counted(output: str) -> int:
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


@pytest.fixture(scope="module")
def awx() -> Iterator[tuple[Awx, list[str]]]:
    """(the stand-in, what the check of an empty AWX, the first and the second run said). The check knows every one."""
    state = new_awx()
    with served(state) as port:
        checked = apply(port, "--check", settings=EVERY)
        assert state.writes == [], "a check writes nothing"
        yield state, [checked, apply(port), apply(port)]


def by_name(state: Awx, endpoint: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in state.objects[endpoint].values()}


# --- what is made ---


def test_the_second_run_changes_nothing(awx: tuple[Awx, list[str]]) -> None:
    """Except what AWX does not return."""
    _, (_, first, second) = awx
    assert counted(first) > 0
    assert changed_tasks(second) == {
        "notifications | Make those that are set": ["(censored due to no_log"],
        "workflow | Plan, approve, recover the site": [""],
    }
    message = (
        "Changed in every run: the workflow lifeboat site, because AWX does not return how its approval is identified"
    )
    assert f"{message}; lifeboat slack, because AWX does not return their secrets." in second


def test_a_check_of_an_empty_awx_says_what_would_be_made(awx: tuple[Awx, list[str]]) -> None:
    _, (checked, first, _) = awx
    assert "failed=0" in checked
    for template in TEMPLATES:
        assert f"Would make the job template {template['name']}." in checked
    for name in ("lifeboat checklist, every day", "lifeboat drill, every quarter"):
        assert f"Would set the schedule {name}." in checked
    assert "Would set the schedule lifeboat alert_test" not in checked
    assert "Would make the workflow lifeboat site." in checked
    assert "Would make the inventory source" in checked
    assert "Would " not in first


def test_every_playbook_can_be_launched(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    made = by_name(state, "job_templates")
    assert list(made) == [template["name"] for template in MADE]
    machines = by_name(state, "credentials")["machines"]["id"]
    slack = by_name(state, "notification_templates")["lifeboat slack"]["id"]
    for template in MADE:
        one = made[template["name"]]
        at = f"/api/v2/job_templates/{one['id']}/"
        assert (one["playbook"], one["allow_simultaneous"]) == (template["playbook"], False)
        assert one["ask_job_type_on_launch"] is True
        assert state.specs[f"{at}survey_spec/"]["spec"] == template["survey"]
        assert state.links[f"{at}credentials/"] == [machines]
        assert state.links[f"{at}notification_templates_error/"] == [slack]


def test_what_awx_renders_arrived_as_it_is(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    escrow = by_name(state, "credential_types")["Lifeboat escrowed key"]
    assert escrow["injectors"]["extra_vars"] == {"identity_file": "{{ tower.filename }}"}


def test_a_private_project_has_its_credential(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    assert by_name(state, "projects")["lifeboat"]["credential"] == by_name(state, "credentials")["git"]["id"]


def test_the_workflow_waits_for_a_person(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    nodes = {node["identifier"]: node for node in state.objects["workflow_job_template_nodes"].values()}
    assert nodes["plan"]["job_type"] == "check"
    (approval,) = state.objects["workflow_approval_templates"].values()
    assert nodes["approve"]["unified_job_template"] == approval["id"]
    for before, after in (("plan", "approve"), ("approve", "recover"), ("recover", "look")):
        path = f"/api/v2/workflow_job_template_nodes/{nodes[before]['id']}/success_nodes/"
        assert state.links[path] == [nodes[after]["id"]]
    recover = by_name(state, "job_templates")["lifeboat recover_site"]["id"]
    assert nodes["plan"]["unified_job_template"] == nodes["recover"]["unified_job_template"] == recover


# --- schedules ---


def test_every_schedule_has_every_answer_that_its_template_requires(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    made = by_name(state, "schedules")
    assert len(made) == 7
    names = {template["id"]: name for name, template in by_name(state, "job_templates").items()}
    for schedule in made.values():
        survey = SURVEYS[names[schedule["unified_job_template"]]]
        required = {question["variable"]: question["default"] for question in survey if question["required"]}
        assert set(required) <= set(schedule["extra_data"])
        assert "" not in schedule["extra_data"].values()
    assert made["lifeboat drill, every quarter"]["extra_data"] == {
        "target": "drill1", "confirm": "drill1", "scenario": "all", "mode": "break", "target_seconds": 0,
        "write_seconds": 5, "keep": "false",
    }  # fmt: skip
    assert made["lifeboat backup, every night"]["extra_data"]["target"] == "lifeboat_stacks"


def test_the_schedules_of_which_cron_is_the_master_are_off(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    enabled = {name: schedule["enabled"] for name, schedule in by_name(state, "schedules").items()}
    assert enabled.pop("lifeboat backup, every night") is False
    assert enabled.pop("lifeboat verify, every Sunday") is False
    assert enabled and all(enabled.values())


def test_a_schedule_without_an_answer_is_not_made_and_this_is_said(awx: tuple[Awx, list[str]]) -> None:
    state, (checked, first, second) = awx
    assert "lifeboat alert_test, every month" not in by_name(state, "schedules")
    for output in (checked, first, second):
        assert "lifeboat alert_test, every month is not made: awx_alert_stack is empty." in output
        assert "lifeboat drill, every quarter is not made" not in output


# --- launches ---


def test_the_workflow_brings_the_answers_and_the_escrowed_key(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    answers = {"target": "spare1", "confirm": "spare1", "recovery_point": "latest", "reason": "fire", "accept": ""}
    planned, recovered, looked = state.workflow_jobs("lifeboat site", answers, approve=True)
    assert [job["node"] for job in (planned, recovered, looked)] == ["plan", "recover", "look"]
    assert [job["job_type"] for job in (planned, recovered, looked)] == ["check", "run", "run"]
    machines, key = (by_name(state, "credentials")[name]["id"] for name in ("machines", "escrowed key of shop"))
    assert planned["credentials"] == recovered["credentials"] == [machines, key]
    assert looked["credentials"] == [machines]
    for job in (planned, recovered, looked):
        assert job["extra_vars"].items() >= answers.items()
    assert looked["extra_vars"]["period"] == "incident"


def test_nothing_is_recovered_without_an_approval(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    started = state.workflow_jobs("lifeboat site", {"target": "spare1", "confirm": "spare1"}, approve=False)
    assert [(job["node"], job["job_type"]) for job in started] == [("plan", "check")]


@pytest.mark.parametrize("answers", [{}, {"target": "", "confirm": "spare1"}, {"target": "spare1", "confirm": ""}])
def test_the_workflow_asks_for_the_machine_twice(awx: tuple[Awx, list[str]], answers: dict[str, str]) -> None:
    state, _ = awx
    status, errors = state.launch("lifeboat site", answers)
    assert (status, list(errors)) == (400, ["variables_needed_to_start"])


def test_a_job_that_needs_the_escrowed_key_gets_it(awx: tuple[Awx, list[str]], tmp_path: Path) -> None:
    """Through ansible-runner, as a dry run. The module reads the key, and refuses it for what it is."""
    state, _ = awx
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "[lifeboat_stacks]\nhere ansible_connection=local ansible_become=false"
        f" ansible_python_interpreter={sys.executable} lifeboat_stack=no-such-stack\n",
        encoding="utf-8",
    )
    machines, key = (by_name(state, "credentials")[name]["id"] for name in ("machines", "escrowed key of shop"))
    answers = {"target": "here"}
    for credentials, message in (
        ([machines], "The answer identity_file is missing. Name the file on this machine"),
        ([machines, key], "Could not read the identity (the key that was given)"),
    ):
        status, job = state.launch("lifeboat escrow", answers, credentials=credentials, job_type="check")
        assert status == 201, job
        result = state.run(job, tmp_path / str(job["id"]), hosts)
        assert (result.status, result.rc) == ("failed", 2), result.stdout
        assert message in result.stdout, result.stdout
        assert IDENTITY not in result.stdout


# --- again, with less, from elsewhere, from what is broken ---


def test_variables_that_are_empty_now_take_nothing_away(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    before = json.loads(json.dumps([state.objects["job_templates"], state.objects["projects"], state.links]))
    rules = {name: schedule["rrule"] for name, schedule in by_name(state, "schedules").items()}
    empty: dict[str, Any] = {name: None for name, value in SETTINGS.items() if isinstance(value, str)}
    with served(state) as port:
        output = apply(port, settings={**empty, "awx_timezone": "Asia/Tokyo", "__awx_templates": MADE})
    assert json.loads(json.dumps([state.objects["job_templates"], state.objects["projects"], state.links])) == before
    assert {name: schedule["rrule"] for name, schedule in by_name(state, "schedules").items()} == rules
    assert "lifeboat drill, every quarter is turned off: awx_drill_target is empty." in output
    assert by_name(state, "schedules")["lifeboat drill, every quarter"]["enabled"] is False
    assert changed_tasks(output) == {
        "schedules | Turn those off of which an answer is missing now": ["lifeboat drill, every quarter"],
        "workflow | Plan, approve, recover the site": [""],
    }
    assert "awx_escrow_credential is empty" in output


def test_a_job_of_awx_without_the_variables_is_refused(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    writes = list(state.writes)
    with served(state) as port:
        code, output = attempt(port, "-e", "awx_job_id=12", settings={})
        assert code == 2, output
        assert "none of the role's variables" in output
        assert state.writes == writes
        code, output = attempt(
            port, "-e", "awx_job_id=12", "--check", settings={"awx_credentials": ["machines"], **FEW}
        )
        assert code == 0, output


def test_a_survey_of_an_older_version_is_brought_in_line(awx: tuple[Awx, list[str]]) -> None:
    """A variable that is gone, and one that is missing."""
    state, _ = awx
    number = by_name(state, "job_templates")["lifeboat checklist"]["id"]
    path = f"/api/v2/job_templates/{number}/survey_spec/"
    older = json.loads(json.dumps(state.specs[path]))
    older["spec"] = [{**older["spec"][0], "variable": "hosts_to_check"}, *older["spec"][1:-1]]
    state.specs[path] = older
    with served(state) as port:
        output = apply(port, settings={**NO_NOTIFICATION, **FEW})
    assert state.specs[path]["spec"] == SURVEYS["lifeboat checklist"]
    assert changed_tasks(output)["templates | Make one for each playbook"] == ["lifeboat checklist"]


def test_a_playbook_that_an_upgrade_brings_is_found(awx: tuple[Awx, list[str]]) -> None:
    """AWX has not updated the project since, and had no reason to."""
    state, _ = awx
    (project,) = state.objects["projects"].values()
    project.update(playbook_files=["playbooks/backup.yml"], scm_revision="older")
    added = [template for template in TEMPLATES if template["name"] == "lifeboat status"]
    del state.objects["job_templates"][by_name(state, "job_templates")["lifeboat status"]["id"]]
    with served(state) as port:
        output = apply(port, settings={**NO_NOTIFICATION, "__awx_templates": FEW["__awx_templates"] + added})
    assert "base | Update the project" in changed_tasks(output)
    assert by_name(state, "job_templates")["lifeboat status"]["playbook"] == "playbooks/status.yml"


def test_an_update_of_the_project_that_failed_is_tried_again() -> None:
    state = new_awx()
    state.private = True
    less = {name: value for name, value in NO_NOTIFICATION.items() if name != "awx_project_credential"}
    with served(state) as port:
        code, output = attempt(port, settings=less)
        assert code == 2
        assert "A private repository needs awx_project_credential" in output
        code, output = attempt(port, settings=less)
        assert code == 2, "nothing was changed, and the update still fails"
        assert "A private repository needs awx_project_credential" in output
        state.private = False
        apply(port, settings={**less, **FEW})
    assert list(by_name(state, "job_templates")) == NAMES


def test_an_expired_token_is_said_and_nothing_is_written() -> None:
    state = new_awx()
    state.token = "another"
    with served(state) as port:
        code, output = attempt(port)
    assert code == 2
    assert "HTTP 401" in output
    assert state.writes == []


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("job_templates/\\d+/survey_spec/$", marks=pytest.mark.long),
        "nodes/\\d+/create_approval_template/$",
        pytest.param("schedules/$", marks=pytest.mark.long),
    ],
)
def test_the_second_run_completes_what_a_server_error_interrupted(awx: tuple[Awx, list[str]], broken: str) -> None:
    whole, _ = awx
    paths = [path for method, path, _ in whole.writes if method == "POST"]
    assert [path for path in paths if re.search(broken, path)], "it is written"
    state = new_awx()
    state.breaks_at = broken
    with served(state) as port:
        code, output = attempt(port, settings={**SETTINGS, **FEW})
        assert code == 2
        assert "server error" in output
        state.breaks_at = ""
        apply(port, settings={**SETTINGS, **FEW})
    assert list(by_name(state, "job_templates")) == NAMES
    assert sorted(by_name(state, "schedules")) == sorted(by_name(whole, "schedules"))
    for endpoint in ("workflow_job_template_nodes", "workflow_approval_templates"):
        assert len(state.objects[endpoint]) == len(whole.objects[endpoint])
    for template in state.objects["job_templates"].values():
        assert state.survey(template["id"]) == SURVEYS[template["name"]]


# --- vaulted files ---


@pytest.mark.parametrize(
    ("file", "refused"),
    [
        ("group_vars/all/vault.yml", True),
        pytest.param("host_vars/shop1.yml", True, marks=pytest.mark.long),
        ("group_vars/shop", True),
        ("group_vars/vault.yml.bak", False),
        pytest.param("files/vault.yml", False, marks=pytest.mark.long),
    ],
)
def test_a_file_of_the_inventory_that_is_encrypted_as_a_whole_is_refused(
    tmp_path: Path, file: str, refused: bool
) -> None:
    path = tmp_path / "inventories/mine" / file
    path.parent.mkdir(parents=True)
    path.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n", encoding="utf-8")
    inline = tmp_path / "inventories/mine/group_vars/inline.yml"
    inline.parent.mkdir(parents=True, exist_ok=True)
    inline.write_text("password: !vault |\n          $ANSIBLE_VAULT;1.1;AES256\n          6162\n", encoding="utf-8")
    state = new_awx()
    with served(state) as port:
        code, output = attempt(port, "--check", settings={**SETTINGS, **FEW}, folder=tmp_path)
    assert (code != 0) == refused, output
    assert (str(path) in output) == refused
    assert str(inline) not in output
    assert state.writes == []
    assert "Not checked" not in output


def test_an_inventory_that_is_not_here_is_not_claimed_to_be_readable(awx: tuple[Awx, list[str]]) -> None:
    _, (_, first, _) = awx
    assert "Not checked: whether a file of inventories/mine is encrypted as a whole" in first
