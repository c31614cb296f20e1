# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack's cron file: set and removed by several roles; what an earlier version wrote is replaced, never doubled."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import timers
from ansible_collections.lifeboat.dr.plugins.modules import schedule
from builders import Run
from test_awx import render

ROOT = Path(__file__).resolve().parents[2]
BACKUP = {"name": "lifeboat backup database", "schedule": "0 2 * * *", "job": "lifeboat backup database --stack shop"}
CONFIG = {
    "name": "lifeboat backup config",
    "schedule": "30 3 * * *",
    "job": "lifeboat backup config --stack shop --seal",
}
PATH = 'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\n'
WRITTEN = f"{PATH}#Ansible: lifeboat backup database\n0 2 * * * root lifeboat backup database --stack shop\n"
BOTH = f"{WRITTEN}#Ansible: lifeboat backup config\n30 3 * * * root lifeboat backup config --stack shop --seal\n"
# What ansible.builtin.cron wrote for the roles of earlier versions.
EARLIER = BOTH.replace("root lifeboat backup config", f"root {PATH.strip()} lifeboat backup config".replace('"', ""))


@pytest.fixture
def cron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cron.d").mkdir()
    monkeypatch.setattr(schedule, "CRON", tmp_path / "cron.d")
    monkeypatch.setattr(timers, "UNITS", tmp_path / "units")
    answer(monkeypatch, "Id=cron.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n")
    return tmp_path / "cron.d" / "lifeboat-shop"


def answer(monkeypatch: pytest.MonkeyPatch, said: str, status: int = 0) -> None:
    monkeypatch.setattr(pipeline, "probe", lambda command: (status, said, ""))


@pytest.fixture
def asked(run: Run) -> Callable[..., dict[str, Any]]:
    return lambda *jobs, name="shop", **more: run("schedule", plain=True, stack_name=name, jobs=list(jobs), **more)


def test_schedule_changes_once(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    planned = asked(BACKUP, check=True)
    assert (planned["changed"], cron.exists()) == (True, False)
    done = asked(BACKUP)
    assert (done["changed"], done["diff"], done["path"]) == (True, planned["diff"], str(cron))
    assert (cron.read_text(), cron.stat().st_mode & 0o777) == (WRITTEN, 0o644)
    assert asked(CONFIG)["changed"] is True
    assert cron.read_text() == BOTH
    for check in (True, False):
        assert [asked(job, check=check)["changed"] for job in (BACKUP, CONFIG)] == [False, False]
    other = asked({**BACKUP, "schedule": "15  3 * * 1-5"})
    assert "-0 2" not in other["diff"]["after"]
    assert cron.read_text() == BOTH.replace("0 2 * * *", "15 3 * * 1-5")


def test_a_job_that_an_earlier_version_set_is_replaced_and_not_doubled(
    asked: Callable[..., dict[str, Any]], cron: Path
) -> None:
    cron.write_text(EARLIER)
    assert asked(BACKUP, CONFIG)["changed"] is True
    assert cron.read_text() == BOTH
    cron.write_text(BOTH + BOTH.removeprefix(PATH))
    asked(BACKUP, CONFIG)
    assert cron.read_text() == BOTH


def test_no_two_stacks_share_a_file(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    """Stacks a.b and a_b did, so that the one that was deployed last was the only one with a schedule."""
    shared = cron.with_name("lifeboat-a_b")
    mine, theirs = ({**BACKUP, "job": f"lifeboat backup database --stack {name}"} for name in ("a.b", "a_b"))
    config = {**CONFIG, "job": "lifeboat backup config --stack a_b"}
    asked(mine, config, name="a_b")  # as the file was that both had written
    planned = asked(mine, name="a.b", check=True)
    done = asked(mine, name="a.b")
    assert (planned["changed"], done["diff"], done["path"]) == (
        True,
        planned["diff"],
        str(cron.with_name("lifeboat-aDOTb")),
    )
    assert "--stack a.b" in Path(done["path"]).read_text()
    assert "--stack a.b" not in shared.read_text()
    assert "--stack a_b" in shared.read_text()
    asked(theirs, config, name="a_b")
    assert [asked(job, name=name)["changed"] for job, name in ((mine, "a.b"), (theirs, "a_b"))] == [False, False]
    asked(*({**job, "enabled": False} for job in (theirs, config)), name="a_b")
    assert not shared.exists()
    assert asked(mine, name="a.b")["changed"] is False


def test_what_others_wrote_there_stays(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    own = "MAILTO=ops@example.org\n# by hand\n@daily root lifeboat list --stack shop \xe9\n"
    cron.write_bytes(own.encode("latin-1"))
    asked(BACKUP)
    assert cron.read_bytes() == (PATH + own).encode("latin-1") + WRITTEN.removeprefix(PATH).encode()
    asked({**BACKUP, "enabled": False})
    assert cron.read_bytes() == (PATH + own).encode("latin-1")


def test_a_file_without_jobs_is_removed(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    off = ({**BACKUP, "enabled": False}, {**CONFIG, "enabled": False})
    assert asked(*off)["changed"] is False
    cron.write_text(EARLIER)
    assert (asked(*off, check=True)["changed"], cron.exists()) == (True, True)
    assert (asked(*off)["changed"], cron.exists()) == (True, False)
    assert asked(*off)["changed"] is False


def test_a_mark_without_its_job_takes_no_other_along(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    cron.write_text(f"{PATH}#Ansible: lifeboat backup database\n#Ansible: other\n1 1 * * * root other\n")
    asked(BACKUP)
    assert cron.read_text() == f"{WRITTEN}#Ansible: other\n1 1 * * * root other\n"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"schedule": "0 2 * *"}, "'0 2 * *' is not minute, hour, day, month and weekday"),
        ({"schedule": "0 2 * * *\n* * * * * root rm"}, "is not minute"),
        ({"schedule": "@daily"}, "is not minute"),
        ({"schedule": "0 25 * * *"}, "'25' is no hour (0 to 23)"),
        ({"job": "lifeboat\n* * * * * root rm"}, "a job is one line"),
        ({"name": "a\nb"}, "a job is one line"),
    ],
)
def test_schedule_fails_on_what_cron_would_not_read(
    asked: Callable[..., dict[str, Any]], cron: Path, wrong: dict[str, str], words: str
) -> None:
    result = asked({**BACKUP, **wrong})
    assert result["failed"]
    assert words in result["msg"]
    assert not cron.exists()


def test_schedule_fails_where_there_is_no_place_for_it(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    cron.parent.rmdir()
    assert "No such file or directory" in asked(BACKUP)["msg"]


def test_a_name_with_a_dot_is_one_that_cron_reads(asked: Callable[..., dict[str, Any]], cron: Path) -> None:
    assert asked(BACKUP, name="shop.eu")["path"] == f"{cron}DOTeu"


def test_the_repository_is_for_root_alone(asked: Callable[..., dict[str, Any]], cron: Path, tmp_path: Path) -> None:
    place = tmp_path / "backup" / "shop"
    assert (asked(BACKUP, repository=str(place), check=True)["changed"], place.exists()) == (True, False)
    assert asked(BACKUP, repository=str(place))["changed"] is True
    assert place.stat().st_mode & 0o777 == 0o700
    assert asked(BACKUP, repository=str(place))["changed"] is False
    place.chmod(0o755)
    assert f"{place}: directory 0755\n" in asked(BACKUP, repository=str(place))["diff"]["before"]


SHOWN = "Id={0}.service\nLoadState={1}\nActiveState={2}\nUnitFileState={3}\n"
ABSENT = SHOWN.format("cron", "not-found", "inactive", "")


@pytest.mark.parametrize(
    ("said", "status", "service", "runs"),
    [
        (SHOWN.format("cron", "loaded", "active", "enabled"), 0, "cron", True),
        (f"{ABSENT}\n{SHOWN.format('crond', 'loaded', 'active', 'enabled')}", 0, "crond", True),
        (SHOWN.format("cron", "loaded", "active", "disabled"), 0, "cron", False),
        (SHOWN.format("cron", "loaded", "failed", "enabled"), 0, "cron", False),
        (ABSENT, 0, "crond", False),
        ("", 127, "crond", False),
    ],
)  # fmt: skip
def test_whether_cron_runs(
    asked: Callable[..., dict[str, Any]], cron: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    said: str, status: int, service: str, runs: bool,
) -> None:  # fmt: skip
    answer(monkeypatch, said, status)
    monkeypatch.setattr(schedule, "DEBIAN", tmp_path / "none")
    assert asked(BACKUP)["cron"] == {"service": service, "runs": runs}


def test_a_deployment_sets_the_jobs_of_database_and_configuration_at_once() -> None:
    """Each role alone sets its own."""
    (play,) = yaml.safe_load((ROOT / "playbooks/deploy.yml").read_text(encoding="utf-8"))
    given = {role["role"].rpartition(".")[2]: role.get("vars") for role in play["roles"]}
    assert given["database_backup"] == {
        "database_backup_jobs": "{{ database_wal_jobs + dumps_backup_jobs + files_backup_jobs + config_backup_jobs }}"
    }
    assert given["config_backup"] == {"config_backup_set": False}
    assert given["database_wal"] == {"database_wal_set": False}
    (task,) = yaml.safe_load((ROOT / "roles/config_backup/tasks/main.yml").read_text(encoding="utf-8"))
    assert (task["lifeboat.dr.schedule"]["jobs"], task["when"]) == (
        "{{ config_backup_jobs }}",
        "config_backup_set | bool",
    )


def test_the_vault_has_its_buckets_before_a_base_and_wal_go_there() -> None:
    """`lifeboat wal enable` takes a base at once, which ended as failed on each new host."""
    (play,) = yaml.safe_load((ROOT / "playbooks/deploy.yml").read_text(encoding="utf-8"))
    roles = [role["role"].rpartition(".")[2] for role in play["roles"]]
    assert roles.index("object_storage_backup") < roles.index("database_wal")


@pytest.mark.parametrize("role", ["database_backup", "object_storage_backup", "config_backup", "database_wal"])
def test_the_roles_give_jobs_that_can_be_read(role: str) -> None:
    variables = yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8"))
    given = {
        **defaults,
        "lifeboat_stack": "shop",
        "lifeboat_objects": {"bucket": "uploads"},
        "lifeboat_notify": [{"type": "slack"}],
        "lifeboat_wal": {"enabled": True},
        "agent_reach_database": True,
    }
    if role == "database_backup":
        alone = {**given, "lifeboat_notify": []}
        assert render(given["database_backup_notify"], given) is True, "who is named is told each hour"
        assert render(alone["database_backup_notify"], alone) is False, "and without anybody there is no such job"
    given = {name: render(value, given) if isinstance(value, str) else value for name, value in given.items()}
    (jobs,) = variables.values()
    made = schedule.read(
        [
            {name: render(value, given) if isinstance(value, str) else value for name, value in job.items()}
            for job in jobs
        ]
    )
    assert made
    assert all("--stack shop" in job.crontab_line and job.enabled is True for job in made), made


UPLOADS = {"sources": [{"name": "uploads", "volume": "uploads"}]}
BUCKET = {"bucket": "uploads"}
BARE = {"enabled": False}
FILES = {"lifeboat_database": False, "lifeboat_files": UPLOADS}


@pytest.mark.parametrize(
    ("variables", "jobs", "sealing"),
    [
        ({}, ["backup database", "verify", "backup config"], ["backup config"]),
        (
            {"lifeboat_database": {"name": "shop"}, "lifeboat_config": BARE},
            ["backup database", "verify"], ["backup database"],
        ),
        ({"lifeboat_database": False}, ["verify", "backup config"], ["backup config"]),
        (
            {"lifeboat_database": False, "lifeboat_files": UPLOADS, "lifeboat_objects": BUCKET},
            ["verify", "backup objects", "backup files", "backup config"], ["backup config"],
        ),
        (
            {"lifeboat_database": False, "lifeboat_files": UPLOADS, "lifeboat_config": BARE},
            ["verify", "backup files"], ["backup files"],
        ),
        (
            {**FILES, "lifeboat_objects": BUCKET, "lifeboat_config": BARE},
            ["verify", "backup objects", "backup files"], ["backup files"],
        ),
        (
            {"lifeboat_database": False, "lifeboat_objects": BUCKET, "lifeboat_config": BARE},
            ["verify", "backup objects"], ["backup objects"],
        ),
        (
            {"lifeboat_files": UPLOADS, "lifeboat_config": BARE},
            ["backup database", "verify", "backup files"], ["backup database"],
        ),
    ],
)  # fmt: skip
def test_the_jobs_of_a_stack_are_those_of_what_it_has(
    variables: dict[str, Any], jobs: list[str], sealing: list[str]
) -> None:
    """Of all four roles; the last one that takes data seals, or there would be no recovery point."""
    made = []
    for role in ("database_backup", "object_storage_backup", "files_backup", "config_backup"):
        loaded = {**load(role, "defaults"), "lifeboat_stack": "shop", **variables}
        given = {name: render(value, loaded) if isinstance(value, str) else value for name, value in loaded.items()}
        (listed,) = (value for name, value in load(role, "vars").items() if name.endswith("_jobs"))
        there = role != "object_storage_backup" or given["object_storage_backup_bucket"]
        made += [{name: render(value, given) for name, value in job.items()} for job in listed if there]
    enabled = [job for job in schedule.read(made) if job.enabled]
    assert [job.name.removeprefix("lifeboat ") for job in enabled] == jobs
    assert [job.name.removeprefix("lifeboat ") for job in enabled if "--seal" in job.job] == sealing


def load(role: str, kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / f"roles/{role}/{kind}/main.yml").read_text(encoding="utf-8"))
    return loaded


def test_without_a_database_no_deployment_tries_to_back_one_up() -> None:
    tasks = {task["name"]: task for task in yaml.safe_load((ROOT / "roles/database_backup/tasks/main.yml").read_text())}
    assert "database_backup_wanted | bool" in tasks["See that a backup could be taken"]["when"]
    defaults = load("database_backup", "defaults")
    for given, wanted in ((False, False), ({}, True), ({"name": "shop"}, True)):
        assert render(defaults["database_backup_wanted"], {"lifeboat_database": given}) is wanted
    assert render(defaults["database_backup_account"], {"lifeboat_database": False}) == ""


def test_a_keepers_group_may_read_the_repository_after_every_deployment(
    asked: Callable[..., dict[str, Any]], cron: Path, tmp_path: Path
) -> None:
    """What a keeper's account could not enter was not pulled: each deployment closed it to all but root."""
    place, group = tmp_path / "backup", grp.getgrgid(os.getegid()).gr_name
    assert (asked(BACKUP, repository=str(place), group=group, check=True)["changed"], place.exists()) == (True, False)
    assert asked(BACKUP, repository=str(place), group=group)["changed"] is True
    assert (place.stat().st_mode & 0o7777, place.group()) == (0o2750, group)
    assert asked(BACKUP, repository=str(place), group=group)["changed"] is False
    place.chmod(0o700)
    assert f"{place}: directory 2750" in asked(BACKUP, repository=str(place), group=group)["diff"]["after"]
    assert asked(BACKUP, repository=str(place), group="not-made-yet", check=True)["changed"] is True
    said = asked(BACKUP, repository=str(place), group="nobody-made-it")
    assert said["failed"] and "there is no group nobody-made-it" in said["msg"]
    assert asked(BACKUP, repository=str(place))["changed"] is True and place.stat().st_mode & 0o7777 == 0o700


class Systemd:
    """Keeps of each timer whether it is started, as systemctl is told."""

    def __init__(self) -> None:
        self.started: set[str] = set()
        self.calls: list[str] = []
        self.answers = True

    def probe(self, command: Any) -> tuple[int, str, str]:
        words = list(command.argv)
        if "Id,ActiveState,UnitFileState" not in words:
            return 0, "", ""
        if not self.answers:
            return 1, "", "System has not been booted with systemd"
        state = {True: "ActiveState=active\nUnitFileState=enabled", False: "ActiveState=inactive\nUnitFileState="}
        return 0, "\n\n".join(f"Id={name}\n{state[name in self.started]}" for name in words[4:]), ""

    def run(self, commands: Any, **_words: Any) -> list[Any]:
        for command in commands:
            verb, *names = [word for word in command.argv[1:] if word != "--now"]
            self.calls.append(" ".join([verb, *names]))
            after = {"enable": self.started | set(names), "disable": self.started - set(names)}
            self.started = after.get(verb, self.started)
        return []


@pytest.fixture
def systemd(cron: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    simulated = Systemd()
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(pipeline, "probe", simulated.probe)
    monkeypatch.setattr(pipeline, "run", simulated.run)
    return simulated


DATABASE, CONFIGURATION = "lifeboat-backup-database@shop.timer", "lifeboat-backup-config@shop.timer"
BY_TIMERS = {"scheduler": "systemd"}


def unit_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_schedule_sets_timers_once_and_takes_the_jobs_out_of_the_cron_file(
    asked: Callable[..., dict[str, Any]], cron: Path, systemd: Systemd, tmp_path: Path
) -> None:
    asked(BACKUP, CONFIG)
    cron.write_text(f"{cron.read_text()}5 5 * * * root echo of an operator\n")
    planned = asked(BACKUP, CONFIG, check=True, **BY_TIMERS)
    assert (planned["changed"], unit_names(tmp_path / "units"), systemd.calls) == (True, [], [])
    done = asked(BACKUP, CONFIG, **BY_TIMERS)
    assert (done["diff"], done["timers"]) == (planned["diff"], [DATABASE, CONFIGURATION])
    assert done["cron"] == {"service": "", "runs": True}
    assert systemd.started == {DATABASE, CONFIGURATION}
    assert cron.read_text() == f"{PATH}5 5 * * * root echo of an operator\n"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "units").iterdir()} == {0o644}
    systemd.calls.clear()
    for check in (True, False):
        assert asked(BACKUP, CONFIG, check=check, **BY_TIMERS)["changed"] is False
    assert systemd.calls == []


def test_a_timer_that_somebody_stopped_is_started_and_one_of_another_time_started_again(
    asked: Callable[..., dict[str, Any]], systemd: Systemd
) -> None:
    asked(BACKUP, **BY_TIMERS)
    systemd.started.clear()
    systemd.calls.clear()
    planned = asked(BACKUP, check=True, **BY_TIMERS)
    assert f"{DATABASE}: started now and at each boot" in planned["diff"]["after"] and systemd.calls == []
    assert asked(BACKUP, **BY_TIMERS)["diff"] == planned["diff"]
    assert systemd.calls == ["daemon-reload", f"enable {DATABASE}"]
    systemd.calls.clear()
    assert asked({**BACKUP, "schedule": "5 2 * * *"}, **BY_TIMERS)["changed"] is True
    assert systemd.calls == ["daemon-reload", f"enable {DATABASE}", f"restart {DATABASE}"]


def test_the_way_back_to_cron_leaves_no_timer(
    asked: Callable[..., dict[str, Any]], cron: Path, systemd: Systemd, tmp_path: Path
) -> None:
    asked(BACKUP, CONFIG, **BY_TIMERS)
    asked({**CONFIG, "enabled": False}, **BY_TIMERS)
    assert systemd.started == {DATABASE} and not (tmp_path / f"units/{CONFIGURATION}").exists()
    planned = asked(BACKUP, CONFIG, check=True)
    assert systemd.started == {DATABASE}
    assert asked(BACKUP, CONFIG)["diff"] == planned["diff"]
    assert (unit_names(tmp_path / "units"), systemd.started, cron.read_text()) == ([], set(), BOTH)
    systemd.calls.clear()
    assert asked(BACKUP, CONFIG)["changed"] is False
    assert systemd.calls == []


def test_schedule_fails_where_there_is_no_systemd_and_for_two_jobs_of_one_name(
    asked: Callable[..., dict[str, Any]], cron: Path, systemd: Systemd, tmp_path: Path
) -> None:
    asked(BACKUP)
    two = asked(BACKUP, {**BACKUP, "name": "lifeboat backup-database"}, **BY_TIMERS)
    assert f"lifeboat backup database would have the same timer, {DATABASE}" in two["msg"]
    systemd.answers = False
    missing = asked(BACKUP, **BY_TIMERS)["msg"]
    assert "System has not been booted with systemd" in missing and "set lifeboat_scheduler: cron" in missing
    assert (cron.read_text(), unit_names(tmp_path / "units")) == (WRITTEN, [])


def test_one_setting_is_that_of_every_role_with_a_job() -> None:
    calls = []
    for path in sorted(ROOT.glob("roles/*/tasks/*.yml")):
        tasks = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        calls += [(path.parts[-3], task["lifeboat.dr.schedule"]) for task in tasks if "lifeboat.dr.schedule" in task]
    backups = {f"{name}_backup" for name in ("database", "object_storage", "files", "dumps", "config")}
    assert {role for role, _options in calls} >= {*backups, "monitoring_agent"}
    for role, options in calls:
        assert options["scheduler"] == f"{{{{ {role}_scheduler }}}}"
        for given, expected in (({}, "cron"), ({"lifeboat_scheduler": "systemd"}, "systemd")):
            assert render(load(role, "defaults")[f"{role}_scheduler"], given) == expected


def test_without_cron_it_is_not_installed() -> None:
    packages = load("agent", "vars")["__agent_packages"]
    given = {f"__agent_{name}_packages": list[str]() for name in ("s3", "config", "files", "signing")}
    assert render(packages, {**given, "agent_scheduler": "systemd"}) == ["logrotate", "tzdata"]
    assert render(packages, {**given, "agent_scheduler": "cron"}) == ["cron", "logrotate", "tzdata"]
