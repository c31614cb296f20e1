# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lifeboat recover`: the phases of the role, in its order, with its options, and what is said when one fails."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LockedError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli, recover
from ansible_collections.lifeboat.dr.plugins.module_utils.phases import evidence as phases_evidence
from ansible_collections.lifeboat.dr.plugins.module_utils.phases import recovery as phases_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.phases import step
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.recoveries import RECOVERIES
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.recovery import Phase, Recovery, Request, State
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import Run, settings
from test_awx import render, trusted

ROOT = Path(__file__).resolve().parents[2]
HOST = socket.gethostname()
PREFIX = "lifeboat.dr."
KEY = "AGE-SECRET-KEY-1"
# What an operator asks for, by recovery: each option of the playbook that it has.
OPTIONS: dict[str, dict[str, Any]] = {
    "database": {
        "recovery_point": "20261124_033000", "recovery_time": "2026-11-24T11:00:00+09:00", "accept": "failed",
        "before": "app.items", "timeline": "2", "force": True, "method": "swap", "database": "shop", "others": "aside",
    },
    "files": {
        "recovery_point": "20261124_033000", "recovery_time": "2026-11-24T11:00:00+09:00", "accept": "failed",
        "paths": ["uploads/2026", "uploads/b c"], "exact": True,
    },
    "dumps": {
        "recovery_point": "20261124_033000", "recovery_time": "2026-11-24T11:00:00+09:00", "accept": "failed",
        "sources": ["mysql"], "force": True,
    },
    "objects": {
        "recovery_point": "20261124_033000", "recovery_time": "2026-11-24T11:00:00+09:00", "accept": "failed",
        "prefix": "a/", "exact": True, "partial": True, "force": True, "method": "fill", "bucket": "uploads",
        "others": "aside", "settings": "restore", "sample": "7",
    },
    "backend": {"recovery_point": "20261124_033000", "accept": "failed", "method": "restart", "force": True},
}  # fmt: skip
BACKUP = {
    "id": "db_backup_20261124_120000", "place": "vault", "taken_at": "2026-11-23T23:00:00Z", "age_seconds": 1,
    "size": 1,
}  # fmt: skip
PHASE = {"started_at": "2026-11-24T00:00:00Z", "finished_at": "2026-11-24T00:00:05Z"}
# What the phases returned, by the role's registered variables; each is a case.
RESULTS: dict[str, list[dict[str, Any]]] = {
    "database": [
        {},
        {"stood": {"failed": True, "msg": "no", "phase": PHASE}},
        {"stood": {"plan": {"writers": ["web"], "state": "latest", "newer": [],
                           "stamp": "S", "backup": {"id": "new", "place": "repository"}}, "phase": PHASE},
         "protected": {"mode": "swap", "replaced": ["shop"], "fresh": False, "copied": "", "phase": PHASE},
         "restored": {"databases": [], "phase": PHASE}},
        {"protected": {"failed": True, "msg": "no"}},
        {"protected": {"mode": "started", "reopened": {"verdict": "PASS", "phase": PHASE}, "phase": PHASE},
         "restored": {"skipped": True, "changed": False}},
        {"protected": {"mode": "swap"}, "restored": {"failed": True, "msg": "no", "phase": PHASE}},
        {
            "protected": {"mode": "swap", "way_back": ["mv a b"], "phase": PHASE},
            "restored": {"failed": True, "remedy": "Look. Already in place of what was found: shop (old)"},
            "restarted": {"checks": [{"detail": "the application stays stopped: the store was empty"}]},
        },
        {"protected": {"mode": "rebuild", "quarantine": "/old"}, "restored": {"failed": True}},
        {"protected": {"mode": "rebuild"}, "restored": {"failed": True}},
        {"protected": {"mode": "swap", "replaced": ["shop"], "fresh": False, "copied": "", "phase": PHASE},
         "restored": {"databases": [{"name": "shop", "kept": "shop_quarantine_1"}, {"name": "x"}], "phase": PHASE,
                      "reopened": {"verdict": "FAIL", "phase": PHASE}}},
    ],
    "files": [
        {}, {"done": {"failed": True, "msg": "no space", "phase": PHASE}},
        {"done": {"checks": [], "way_back": ["mv a b"], "restored": {"uploads": 3}, "phase": PHASE}},
    ],
    "dumps": [
        {}, {"done": {"failed": True, "msg": "no space", "phase": PHASE}}, {"done": {"checks": [], "phase": PHASE}},
    ],
    "objects": [
        {},
        {"protected": {"failed": True, "msg": "no"}},
        {"protected": {"failed": True, "remedy": "Look. The old data lies in /old. To go back: mv a b"}},
        {"protected": {"mode": "started", "phase": PHASE}, "restored": {"skipped": True, "changed": False},
         "reopened": {"verdict": "PASS", "phase": PHASE}},
        {"protected": {"mode": "fill", "fresh": False, "phase": PHASE}, "restored": {"failed": True, "msg": "no"}},
        {"protected": {"mode": "fill", "fresh": False}, "restored": {"failed": True},
         "restarted": {"checks": [{"detail": "the application stays stopped: the store was empty"}]}},
        {"protected": {"mode": "rebuild", "fresh": True, "quarantine": "/old"}, "restored": {"failed": True}},
        {"protected": {"mode": "settings", "fresh": False}, "restored": {"failed": True}},
        {"protected": {"mode": "fill", "fresh": False, "way_back": ["mv a b"], "phase": PHASE},
         "restored": {"quarantine_bucket": "q", "phase": PHASE}, "reopened": {"verdict": "FAIL", "phase": PHASE}},
    ],
    "backend": [
        {}, {"recovered": {"failed": True, "msg": "no", "quarantine": "/old", "tried": [{"step": "restart"}],
                           "phase": PHASE}},
        {"recovered": {"way_back": ["cp a b", "cp c d"], "phase": PHASE}},
    ],
}  # fmt: skip
PLAN = {
    "plan": {"backup": BACKUP, "newer": ["docs"], "stamp": "S", "writers": ["backend"], "condition": "damaged",
             "findings": [], "unchecked": [], "passed_over": [], "target_seconds": 3600,
             "service": "s3", "asked": True, "state": "", "bucket": "uploads", "others": ["docs"], "mode": "fill",
             "settings": "", "logs": {"backend": ["it said this"]}, "machine": ["load 1 on 2 processors"]},
    "needed": True, "blocked": "", "text": ["the plan"], "phase": PHASE,
}  # fmt: skip


def role_file(recovery: Recovery, name: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / recovery.role / f"{name}.yml").read_text(encoding="utf-8"))


def tasks(recovery: Recovery, name: str) -> Iterator[dict[str, Any]]:
    """The tasks that call a module of ours, in the order in which the role's files include each other."""
    yield from _tasks(recovery, role_file(recovery, f"tasks/{name}"))


def _tasks(recovery: Recovery, found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in found:
        for inner in ("block", "always"):
            yield from _tasks(recovery, task.get(inner, []))
        include = task.get("ansible.builtin.include_tasks", "").removesuffix(".yml")
        if include:
            yield from tasks(recovery, include)
        elif any(key.startswith(PREFIX) for key in task):
            yield task


def module(task: dict[str, Any]) -> str:
    return next(key for key in task if key.startswith(PREFIX)).removeprefix(PREFIX)


def name(phase: Phase) -> str:
    stem = str(getattr(phase.work, "__name__", "")).rpartition(".")[2]
    return f"{stem}_info" if stem.endswith("_plan") else stem


def variables(scenario: str, results: dict[str, Any]) -> dict[str, Any]:
    """What the role's templates read: its variables, its options as they were given, and what it registered."""
    recovery = RECOVERIES[scenario]
    given = {
        "sample": 0,
        **OPTIONS[scenario],
        "confirm": "shop1",
        "identity_file": "",
        "stack": "shop",
        "reason": "why",
        "seal": "",
    }
    renamed = ROLE_NAMES.get(scenario, {})
    return {
        **trusted(role_file(recovery, "vars/main")),
        **{f"{recovery.role}_{renamed.get(key, key)}": value for key, value in given.items()},
        **{f"__{recovery.role}_{key}": value for key, value in results.items()},
        f"__{recovery.role}_identity": KEY,
        "inventory_hostname": "shop1",
    }


# Where the role's variable has another name than the option.
ROLE_NAMES: dict[str, dict[str, str]] = {
    scenario: {"recovery_point": "point", "recovery_time": "time"} for scenario in OPTIONS
}


def state(scenario: str, results: dict[str, Any]) -> State:
    return State(Request("shop1", OPTIONS[scenario], KEY, confirmed=True), dict(results))


CASES = [(scenario, {"plan": PLAN, **case}) for scenario, cases in RESULTS.items() for case in cases]


@pytest.mark.parametrize("scenario", RECOVERIES)
def test_the_order_is_that_of_the_role(scenario: str) -> None:
    recovery = RECOVERIES[scenario]
    phases = [recovery.assess, *recovery.phases]
    assert [name(phase) for phase in phases] == [module(task) for task in tasks(recovery, "main")]
    registered = [task["register"] for task in tasks(recovery, "main")]
    assert [f"__{recovery.role}_{phase.key}" for phase in phases] == registered
    after = list(tasks(recovery, "failed"))
    assert [name(phase) for phase in recovery.after_failure] == [module(task) for task in after]
    assert [f"__{recovery.role}_{phase.key}" for phase in recovery.after_failure] == [t["register"] for t in after]
    (main,) = [task for task in role_file(recovery, "tasks/main") if "block" in task][-1:]
    inner = [task for task in main["block"] if "rescue" in task] or [main]
    assert inner[0]["block"][-1]["ansible.builtin.include_tasks"] == "record.yml", "evidence comes last"
    assert inner[0]["rescue"][0]["ansible.builtin.include_tasks"] == "failed.yml"


@pytest.mark.parametrize("scenario", RECOVERIES)
def test_a_phase_is_what_its_module_does(scenario: str) -> None:
    recovery = RECOVERIES[scenario]
    for phase in (recovery.assess, *recovery.phases, *recovery.after_failure):
        found = importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.modules.{name(phase)}")
        assert found.work is phase.work.work
        assert found.OPTIONS is phase.work.OPTIONS


@pytest.mark.parametrize(("scenario", "results"), CASES)
def test_each_phase_gets_the_options_of_the_role(scenario: str, results: dict[str, Any]) -> None:
    """The role's templates and the command's functions are given the same results of the phases before."""
    recovery, known = RECOVERIES[scenario], variables(scenario, results)
    every = [*tasks(recovery, "main"), *tasks(recovery, "failed")]
    for phase, task in zip([recovery.assess, *recovery.phases, *recovery.after_failure], every):
        now = state(scenario, results)
        conditions = task.get("when", [])
        conditions = conditions if isinstance(conditions, list) else [conditions]
        if not phase.when(now):
            assert not all(render("{{ " + condition + " }}", known) for condition in conditions), phase.key
            continue
        if phase is not recovery.assess and not ready(phase.key, results):
            continue  # the role does not come to it
        assert all(render("{{ " + condition + " }}", known) for condition in conditions), phase.key
        wanted = {key: render(value, known) for key, value in task[PREFIX + module(task)].items()}
        got = phases_recovery.complete(phase.work.OPTIONS, phase.options(now))
        assert {key: got[key] for key in wanted if key not in ("stack", "seal")} == {
            key: value for key, value in wanted.items() if key not in ("stack", "seal")
        }
        defaults = phases_recovery.complete(phase.work.OPTIONS, {})
        assert {key: value for key, value in got.items() if key not in wanted} == {
            key: value for key, value in defaults.items() if key not in wanted
        }


def ready(key: str, results: dict[str, Any]) -> bool:
    """Whether the results are those after which the role comes to this phase."""
    protected = results.get("protected", {})
    return key not in ("restored", "reopened") or "replaced" in protected or "fresh" in protected


@pytest.mark.parametrize(("scenario", "results"), CASES)
def test_what_is_said_of_a_recovery_that_stopped_is_what_the_role_says(scenario: str, results: dict[str, Any]) -> None:
    recovery, known, now = RECOVERIES[scenario], variables(scenario, results), state(scenario, results)
    (task,) = role_file(recovery, "tasks/record")
    given = task["vars"]
    assert given["recovery_common_scenario"] == recovery.scenario
    rendered = render(given["recovery_common_state"], known)
    assert recovery.state(now) == " ".join(str(rendered).split())
    assert recovery.remedy(now) == render(given["recovery_common_next"], known)
    assert list(recovery.way_back(now)) == render(given.get("recovery_common_kept", []), known)
    common = trusted(yaml.safe_load((ROOT / "roles/recovery_common/vars/main.yml").read_text(encoding="utf-8")))
    steps = render(given["recovery_common_steps"], known)
    wanted = render(common["__recovery_common_phases"], {**common, "recovery_common_steps": steps})
    assert phases_recovery.phases(recovery.steps(now)) == wanted


@pytest.mark.parametrize("scenario", RECOVERIES)
def test_the_options_are_those_of_the_playbook(scenario: str) -> None:
    recovery = RECOVERIES[scenario]
    defaults = (ROOT / "roles" / recovery.role / "defaults/main.yml").read_text(encoding="utf-8")
    answers = set(re.findall(r"lookup\('lifeboat.dr.answer', '(\w+)'", defaults))
    assert answers == {*OPTIONS[scenario], *recover._ALL}
    assert {*OPTIONS[scenario]} == {*recovery.taken} - {"preflight_vault"}, "that one is of the role preflight"


# --- the command, its phases replaced ---


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path)))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setenv("SUDO_USER", "mika")
    return directory


@dataclasses.dataclass(frozen=True)
class Facts:
    """Any values that a phase returns."""

    values: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return self.values


class Phases:
    """The phases of a recovery, replaced: what each was called with, in order, and what it answers."""

    def __init__(self, recovery: Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[str] = []
        self.pins: list[str] = []
        self.options: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, Any] = {"plan": {key: value for key, value in PLAN.items() if key != "phase"}}
        self.replaced: dict[str, list[str]] = {}
        for phase in (recovery.assess, *recovery.phases, *recovery.after_failure):
            self.replaced.setdefault(name(phase), []).append(phase.key)
            monkeypatch.setattr(phase.work, "work", functools.partial(self.work, name(phase)))

    def work(self, file: str, task: step.Step) -> step.Result:
        keys = self.replaced[file]  # stack_reopen is two phases of objects: the last one comes where one failed
        failed = any(isinstance(answer, BaseException) for answer in self.answers.values())
        key = keys[-1] if failed else keys[0]
        self.called.append(key)
        self.pins.append(task.config.pin)
        self.options[key] = dict(task.params)
        task.log(f"doing {key}")
        answer = self.answers.get(key, {})
        if isinstance(answer, BaseException):
            raise answer
        return step.Result(Facts(answer), changed=True)


@pytest.mark.parametrize("scenario", ["files", "dumps", "backend"])
def test_the_other_recoveries_end_to_end(
    etc: Path, tmp_path: Path, scenario: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recovery = RECOVERIES[scenario]
    phases = Phases(recovery, monkeypatch)
    phase = recovery.phases[-1]
    proof = {"name": PROOFS[scenario], "result": "PASS", "detail": "same"}
    phases.answers[phase.key] = {"checks": [proof], "way_back": ["mv a b"]}
    words = [
        *(f"--{key.replace('_', '-')}" if value is True else f"--{key.replace('_', '-')}={text}"
          for key, value in OPTIONS[scenario].items()
          for text in (value if isinstance(value, list) else [value])),
    ]  # fmt: skip
    assert typed_in(etc, scenario, *words) == 2
    assert phases.called == ["plan"]
    assert {key: phases.options["plan"][key] for key in OPTIONS[scenario]} == OPTIONS[scenario]
    again = capsys.readouterr().out.splitlines()[-1].partition("run: sudo lifeboat recover ")[2]
    assert typed_in(etc, *shlex.split(again)) == 0
    assert phases.called == ["plan", "plan", phase.key]
    assert {key: phases.options["plan"][key] for key in OPTIONS[scenario]} == OPTIONS[scenario], (
        "what it prints it takes"
    )
    assert phases.options[phase.key]["plan"] == PLAN["plan"]
    (record,) = evidence(tmp_path)
    assert (record["scenario"], record["verdict"], record["operator"]) == (scenario, "PASS", "mika")
    assert [item["name"] for item in record["phases"]] == ["assess", "restore"]
    capsys.readouterr()
    phases.answers[phase.key] = IntegrityError("bring it back", "it", "it differs", "Look.")
    assert typed_in(etc, *shlex.split(again)) == IntegrityError.exit_code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Could not bring it back (it): it differs. Look."
    assert lines[-2].startswith("next: mend ")
    assert [item["verdict"] for item in evidence(tmp_path)] == ["PASS", "FAIL"]


def test_objects_end_to_end(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = Phases(RECOVERIES["objects"], monkeypatch)
    vault = Check("vault", "FAIL", "the vault does not answer.")
    monkeypatch.setattr(endpoints, "ready", lambda run, *, now: vault)
    assert typed_in(etc, "objects", "--plan") == 1
    assert "the vault does not answer. Nothing was changed" in capsys.readouterr().err
    assert phases.called == []
    assert typed_in(etc, "objects", "--plan", "-e", "preflight_vault=false") == 0
    vault = Check("vault", "PASS", "it answers")
    check = {"name": "objects", "result": "PASS", "detail": "same"}
    phases.answers |= {"protected": {"mode": "fill", "fresh": False}, "restored": {"checks": [check]}}
    phases.answers["reopened"] = phases.answers["restarted"] = {"verdict": "PASS", "checks": []}
    assert typed_in(etc, "objects", "--confirm", HOST, "--sample", "7", "--settings", "restore") == 0
    assert phases.called[1:] == ["plan", "protected", "restored", "reopened"]
    assert phases.options["plan"]["bucket_settings"] == "restore"
    assert (phases.options["restored"]["sample"], phases.options["reopened"]["services"]) == (7, ["backend", "s3"])
    (record,) = evidence(tmp_path)
    assert (record["scenario"], record["verdict"]) == ("object_storage", "PASS")
    assert [phase["name"] for phase in record["phases"]] == ["assess", "protect", "restore", "reopen"]
    phases.answers["restored"] = IntegrityError("copy the objects", "uploads", "one differs", "Look.")
    assert typed_in(etc, "objects", "--confirm", HOST) == IntegrityError.exit_code
    assert phases.called[-2:] == ["restored", "restarted"]
    assert typed_in(etc, "objects", "--sample", "many") == 2


PROOFS = {"files": "files", "dumps": "dumps", "backend": "application"}


def test_a_backend_that_is_not_its_to_mend_is_left_alone(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = Phases(RECOVERIES["backend"], monkeypatch)
    command = f"ansible-playbook lifeboat.dr.recover_database -e confirm={HOST}"
    phases.answers["plan"] = {
        **phases.answers["plan"], "blocked": "the database is damaged", "plan": {**PLAN["plan"], "next": command},
    }  # fmt: skip
    said = f"the database is damaged. Nothing was changed. Next: sudo lifeboat recover database --confirm {HOST}"
    assert typed_in(etc, "backend") == 1
    assert capsys.readouterr().out.splitlines() == ["the plan", said]
    assert evidence(tmp_path) == []
    assert typed_in(etc, "backend", "--confirm", HOST, "--json") == 1
    body = json.loads(capsys.readouterr().out)
    assert (body["changed"], body["state"], body["error"]["cause"]) == (False, "nothing was changed", said)
    (record,) = evidence(tmp_path)
    assert (record["verdict"], phases.called) == ("ABORTED", ["plan", "plan"])
    assert record["phases"][0]["logs"] == {"backend": ["it said this"]}


def test_a_step_that_did_not_heal_is_recorded_with_its_checks(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As backend_recover fails: with its values."""
    Phases(RECOVERIES["backend"], monkeypatch)
    check = {"name": "application", "result": "FAIL", "detail": "it answers 500"}

    def work(task: step.Step) -> step.Result:
        task.fail("no step healed it", step.Result(Facts({"checks": [check], "tried": ["restart"]})))

    monkeypatch.setattr(RECOVERIES["backend"].phases[0].work, "work", work)
    assert typed_in(etc, "backend", "--confirm", HOST) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "no step healed it"
    (record,) = evidence(tmp_path)
    assert (record["verdict"], record["error"]) == ("FAIL", "no step healed it")
    assert record["checks"][0]["detail"] == "it answers 500"


def test_an_option_of_another_recovery_is_refused(
    etc: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed_in(etc, "database", "--paths", "uploads") == 2
    assert "paths is an option of files" in capsys.readouterr().err
    assert database.called == []


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Phases:
    phases = Phases(RECOVERIES["database"], monkeypatch)
    reopened = {"verdict": "PASS", "checks": [{"name": "health", "result": "PASS", "detail": "200"}], "phase": PHASE}
    phases.answers["protected"] = {"mode": "swap", "replaced": ["shop"], "fresh": False, "copied": "", "way_back": []}
    phases.answers["restored"] = {
        "id": BACKUP["id"], "checks": [{"name": "tables", "result": "PASS", "detail": "same"}], "databases": [],
        "seconds": {"restore": 1.0}, "reopened": reopened,
    }  # fmt: skip
    return phases


def typed_in(etc: Path, *words: str) -> int:
    return cli.main(["recover", *words, "--config-directory", str(etc)])


def evidence(tmp_path: Path) -> list[dict[str, Any]]:
    paths = sorted((tmp_path / "state/evidence").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


@pytest.mark.parametrize("words", [("--plan",), ("--check",), ("--plan", "--confirm", HOST)], ids=" ".join)
def test_the_plan_alone_changes_nothing(
    etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert typed_in(etc, "database", *words) == 0
    assert capsys.readouterr().out == "the plan\n"
    assert (database.called, database.options["plan"]["hold"], evidence(tmp_path)) == (["plan"], False, [])


def test_without_a_confirmation_it_names_the_host_and_the_command(
    etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["database", "--to", "20261124_033000", "--force", "--reason", "a bad night", "--operator", "ana"]
    again = (
        "sudo lifeboat recover database --stack shop --reason 'a bad night' --recovery-point 20261124_033000 --force"
        f" --operator ana --confirm {HOST}"
    )
    assert typed_in(etc, *words) == 2
    out = capsys.readouterr().out.splitlines()
    assert out == ["the plan", f"Nothing was changed. To carry this plan out on {HOST}, run: {again}"]
    assert (database.called, evidence(tmp_path)) == (["plan"], [])
    assert typed_in(etc, *words, "--json") == 2
    body = json.loads(capsys.readouterr().out)
    assert (body["changed"], body["needed"]) == (False, True)
    assert body["error"]["remedy"] == f"To carry this plan out on {HOST}, run: {again}"
    # What it prints is what it takes.
    database.called.clear()
    assert typed_in(etc, *shlex.split(again)[3:]) == 0
    assert database.called == ["plan", "protected", "restored"]
    (record,) = evidence(tmp_path)
    assert (database.options["plan"]["force"], record["reason"], record["operator"]) == (True, "a bad night", "ana")


def test_another_host_is_refused_before_anything_is_read(
    etc: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed_in(etc, "database", "--confirm", "elsewhere") == 2
    said = capsys.readouterr().err
    assert f"elsewhere is confirmed, and this host is {HOST}" in said
    assert f"--confirm {HOST}" in said
    assert database.called == []


def test_a_recovery_ends_with_its_evidence(
    etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").mkdir()
    assert typed_in(etc, "database", "--confirm", HOST, "--reason", "a test") == 0
    said = capsys.readouterr()
    (record,) = evidence(tmp_path)
    assert (record["verdict"], record["operator"], record["reason"]) == ("PASS", "mika", "a test")
    assert [phase["name"] for phase in record["phases"]] == ["assess", "protect", "restore", "reopen"]
    assert [check["name"] for check in record["checks"]] == ["tables", "health", "recovery time"]
    assert f"evidence: {tmp_path}/state/evidence/" in said.out
    logged = (tmp_path / "log/shop.log").read_text(encoding="utf-8")
    assert logged.index("the plan") < logged.index("doing protected") < logged.index("doing restored")
    assert database.options["plan"]["hold"] is True


def test_its_record_is_the_playbooks_but_for_the_operator(
    etc: Path, tmp_path: Path, database: Phases, run: Run, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real, options = phases_evidence.work, {}

    def work(task: step.Step) -> step.Result:
        options.update(task.params)
        return real(task)

    monkeypatch.setattr(phases_evidence, "work", work)
    assert typed_in(etc, "database", "--confirm", HOST) == 0
    monkeypatch.setattr(phases_evidence, "work", real)
    (here,) = evidence(tmp_path)
    capsys.readouterr()
    playbook = run("evidence", **{**options, "operator": "awx"})["record"]
    assert playbook["versions"].pop("ansible")
    differ = {key for key in {*here, *playbook} if here.get(key) != playbook.get(key)}
    assert differ <= {"operator", "id", "recorded_at", "seal"}
    assert "operator" in differ


def test_nothing_to_do(etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str]) -> None:
    database.answers["plan"] = {**database.answers["plan"], "needed": False, "text": ["it is healthy"]}
    assert typed_in(etc, "database", "--confirm", HOST, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["changed"], body["text"], database.called) == (False, ["it is healthy"], ["plan"])
    assert evidence(tmp_path) == []


def test_a_failed_restore_starts_the_application_and_is_recorded(
    etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    database.answers["restored"] = IntegrityError("prove the database", "shop", "tables: x differs", "Choose another.")
    assert typed_in(etc, "database", "--confirm", HOST) == IntegrityError.exit_code
    said = capsys.readouterr()
    assert database.called == ["plan", "protected", "restored", "restarted"]
    assert database.options["restarted"]["services"] == ["backend"]
    (record,) = evidence(tmp_path)
    assert record["verdict"] == "FAIL"
    assert "tables: x differs" in record["error"]
    lines = said.out.splitlines()
    assert lines[-4:] == [
        "state: the live database is as it was found, and the application was started again",
        "way back to the old data: not needed",
        "next: mend the cause, then run the same command again; it continues from here",
        "Could not prove the database (shop): tables: x differs. Choose another.",
    ]
    assert "recover: Could not prove the database (shop)" in said.err
    assert typed_in(etc, "database", "--confirm", HOST, "--json") == IntegrityError.exit_code
    body = json.loads(capsys.readouterr().out)
    assert (body["changed"], body["verdict"], body["error"]["cause"]) == (True, "FAIL", "tables: x differs")
    assert body["next"].startswith("mend the cause")


def test_a_server_that_is_whole_is_not_restored(etc: Path, tmp_path: Path, database: Phases) -> None:
    database.answers["protected"] = {
        "mode": "started", "checks": [{"name": "tables", "result": "PASS", "detail": "all there"}],
        "reopened": database.answers["restored"]["reopened"],
    }  # fmt: skip
    assert typed_in(etc, "database", "--confirm", HOST) == 0
    assert database.called == ["plan", "protected"]
    assert [phase["name"] for phase in evidence(tmp_path)[0]["phases"]] == ["assess", "protect", "reopen"]


def test_what_is_not_proved_fails(etc: Path, database: Phases, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [{"name": "tables", "result": "FAIL", "detail": "one lacks"}]
    database.answers["restored"] = {**database.answers["restored"], "checks": checks}
    assert typed_in(etc, "database", "--confirm", HOST) == 6
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("The verdict is FAIL, see the checks above and ")
    assert "state: the database is restored; the application is well" in lines


@pytest.mark.parametrize("key", ["protected", "restored"])
def test_a_lock_that_another_run_holds_is_told_with_its_code(etc: Path, database: Phases, key: str) -> None:
    database.answers[key] = LockedError("take the lock", "shop", "lifeboat backup holds it")
    assert typed_in(etc, "database", "--confirm", HOST) == LockedError.exit_code
    assert database.called[-1] in (key, "restarted")


def test_a_plan_that_cannot_be_made_changes_nothing(
    etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    database.answers["plan"] = IntegrityError("choose a backup", "shop", "none is good", "Name one.")
    assert typed_in(etc, "database", "--confirm", HOST) == IntegrityError.exit_code
    assert "Could not choose a backup (shop): none is good. Name one." in capsys.readouterr().err
    assert (database.called, evidence(tmp_path)) == (["plan"], [])


def test_evidence_that_cannot_be_written_fails_with_the_state(
    etc: Path, tmp_path: Path, database: Phases, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("a file in the way")
    code, lines = typed_in(etc, "database", "--confirm", HOST), capsys.readouterr().out.splitlines()
    assert code == IntegrityError.exit_code, lines
    assert lines[-1].startswith("Could not keep the evidence")
    assert lines[0] == "state: the database is restored; the application is well"


def test_what_nobody_foresaw_is_recorded_and_raised(etc: Path, tmp_path: Path, database: Phases) -> None:
    database.answers["restored"] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        typed_in(etc, "database", "--confirm", HOST)
    (record,) = evidence(tmp_path)
    assert (record["verdict"], record["error"]) == ("FAIL", "ZeroDivisionError, which Lifeboat does not foresee: a bug")


def test_ctrl_c_says_how_to_go_on(etc: Path, tmp_path: Path, database: Phases) -> None:
    (tmp_path / "log").mkdir()
    database.answers["restored"] = KeyboardInterrupt()
    assert typed_in(etc, "database", "--confirm", HOST) == 130
    logged = (tmp_path / "log/shop.log").read_text(encoding="utf-8")
    assert "next: mend the cause, then run the same command again" in logged
    assert evidence(tmp_path) == []


EXTRA: dict[str, tuple[list[str], dict[str, Any]]] = {
    "as a remedy prints it": (
        ["-e", "recovery_point=x", "-e", "accept=failed"], {"recovery_point": "x", "accept": "failed"},
    ),
    "several in one": (["-e", "recovery_point=x method=rebuild"], {"recovery_point": "x", "method": "rebuild"}),
    "a flag": (["-e", "force=true"], {"force": True}),
    "no flag": (["-e", "force=no"], {"force": False}),
    "JSON": (["-e", '{"database": "shop", "force": true}'], {"database": "shop", "force": True}),
    "options": (
        ["--recovery-time", "2026-11-24T11:00:00Z", "--others", "aside"],
        {"recovery_time": "2026-11-24T11:00:00Z", "others": "aside"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EXTRA)
def test_options_as_the_playbook_has_them(etc: Path, database: Phases, case: str) -> None:
    words, wanted = EXTRA[case]
    assert typed_in(etc, "database", "--plan", *words) == 0
    assert {key: database.options["plan"][key] for key in wanted} == wanted


WRONG = {
    "unknown": (["-e", "recovery_pont=x"], "there is no such option"),
    "no pair": (["-e", "recovery_point"], "it is not NAME=VALUE"),
    "an open quotation": (["-e", "reason='x"], "No closing quotation"),
    "broken JSON": (["-e", '{"force": '], "it is not JSON"),
    "no flag": (["-e", "force=maybe"], "'maybe' is no bool"),
    "not text": (["-e", '{"database": ["a"]}'], "is no str"),
    "a choice": (["-e", "method=luck"], "it must be one of auto, swap, rebuild, physical"),
    "a seal": (["--seal", "abc"], "that is no seal"),
    "an identity": (["--identity", "/nowhere"], "No such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused(etc: Path, database: Phases, capsys: pytest.CaptureFixture[str], case: str) -> None:
    words, said = WRONG[case]
    assert typed_in(etc, "database", *words) == 2
    assert said in capsys.readouterr().err
    assert database.called == []


def test_the_seal_that_was_named_is_every_phases(etc: Path, database: Phases) -> None:
    assert typed_in(etc, "database", "--confirm", HOST, "--seal", "a" * 64) == 0
    assert database.pins == ["a" * 64] * 3
    database.pins.clear()
    assert typed_in(etc, "database", "--plan", "-e", f"seal={'b' * 64}") == 0
    assert typed_in(etc, "database", "--plan") == 0
    assert database.pins == ["b" * 64, ""]


def test_the_identity_is_read_here_and_handed_on(etc: Path, tmp_path: Path, database: Phases) -> None:
    (tmp_path / "key").write_text(KEY)
    assert typed_in(etc, "database", "--confirm", HOST, "--identity", str(tmp_path / "key")) == 0
    assert (database.options["plan"]["identity"], database.options["restored"]["identity"]) == (KEY, KEY)
    assert KEY not in json.dumps(evidence(tmp_path))


def test_the_one_who_types_is_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    assert recover.operator() == ""
    monkeypatch.setenv("USER", "root")
    assert recover.operator() == "root"
    monkeypatch.setenv("SUDO_USER", "mika")
    assert recover.operator() == "mika"
