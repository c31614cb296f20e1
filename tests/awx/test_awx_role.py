"""The real playbook and the real modules of awx.awx against a stand-in of AWX's API: all is made, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import Awx, serve

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = json.loads((ROOT / "roles/awx/files/templates.json").read_text(encoding="utf-8"))
SETTINGS = {
    "awx_project_url": "https://git.example.org/lifeboat.git",
    "awx_inventory_path": "inventories/mine",
    "awx_credentials": ["machines"],
    "awx_timezone": "Asia/Tokyo",
    "awx_notifications": {"slack": {"token": "hunter2", "channels": ["#dr"]}},
}


def apply(port: int, *words: str) -> str:
    environment = {
        **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "CONTROLLER_HOST": f"http://127.0.0.1:{port}",
        "CONTROLLER_OAUTH_TOKEN": "x", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "playbooks/awx.yml", "-e", json.dumps(SETTINGS), *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def awx() -> Iterator[tuple[Awx, list[str]]]:
    """(the stand-in, what the first and the second run said)."""
    state = Awx(credentials=("machines",))
    server = serve(state)
    try:
        yield state, [apply(server.server_port), apply(server.server_port)]
    finally:
        server.shutdown()
        server.server_close()


def by_name(state: Awx, endpoint: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in state.objects[endpoint].values()}


def test_the_second_run_changes_nothing(awx: tuple[Awx, list[str]]) -> None:
    _, (first, second) = awx
    assert "changed=0" not in first
    assert " changed=0 " in " ".join(second.split())


def test_every_playbook_can_be_launched(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    made = by_name(state, "job_templates")
    assert list(made) == [template["name"] for template in TEMPLATES]
    machines = by_name(state, "credentials")["machines"]["id"]
    slack = by_name(state, "notification_templates")["lifeboat slack"]["id"]
    for template in TEMPLATES:
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


def test_the_workflow_waits_for_a_person(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    nodes = {node["identifier"]: node for node in state.objects["workflow_job_template_nodes"].values()}
    assert nodes["plan"]["job_type"] == "check"
    (approval,) = state.objects["approvals"].values()
    assert nodes["approve"]["unified_job_template"] == approval["id"]
    for before, after in (("plan", "approve"), ("approve", "recover"), ("recover", "look")):
        path = f"/api/v2/workflow_job_template_nodes/{nodes[before]['id']}/success_nodes/"
        assert state.links[path] == [nodes[after]["id"]]
    recover = by_name(state, "job_templates")["lifeboat recover_site"]["id"]
    assert nodes["plan"]["unified_job_template"] == nodes["recover"]["unified_job_template"] == recover


def test_the_schedules_of_which_cron_is_the_master_are_off(awx: tuple[Awx, list[str]]) -> None:
    state, _ = awx
    enabled = {name: schedule["enabled"] for name, schedule in by_name(state, "schedules").items()}
    assert enabled.pop("lifeboat backup, every night") is False
    assert enabled.pop("lifeboat verify, every Sunday") is False
    assert enabled.pop("lifeboat drill, every quarter") is False, "no host was named that may be broken"
    assert enabled.pop("lifeboat alert_test, every month") is False, "no stack was named that it is of"
    assert enabled and all(enabled.values())
