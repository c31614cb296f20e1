# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lifeboat keeper metrics`: what Prometheus is told of a keeper, and that it is told nothing that was not read."""

from __future__ import annotations

import json
import re
import shutil
import stat
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper.alarms import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import settings
from keeper_world import DAY, START, World, keeper_settings
from test_awx import render, trusted

ROLE = Path(__file__).resolve().parents[2] / "roles" / "vault_keeper"
ALARM, CHECK = 'lifeboat_keeper_alarm{stack="shop",kind="%s"}', 'lifeboat_keeper_check_passed{stack="shop",check="%s"}'
LAST = 'lifeboat_keeper_last_pull_timestamp_seconds{stack="shop"}'
QUOTA = 'lifeboat_keeper_quota_used_ratio{stack="shop"}'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch, quota="1M")


def told(world: World) -> dict[str, float]:
    lines = metrics.textfile(Opened(world.config), now=world.now).splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _space, value in pairs}


def test_a_keeper_that_has_what_it_should(world: World) -> None:
    _made, _pulled = world.night(0)
    found = told(world)
    assert found[LAST] == world.now.timestamp()
    assert found['lifeboat_keeper_last_pull_allowed_age_seconds{stack="shop"}'] == 30 * 3600
    assert {kind: found[ALARM % kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert {found[CHECK % name] for name in ("repository", "log", "checksums")} == {1}
    nodes = [path.stat().st_size for path in (world.kept, *world.kept.rglob("*"))]
    assert max(nodes) <= 16 << 10, "each is as an inode"
    assert found[QUOTA] == pytest.approx(16 * len(nodes) / 1024, abs=0.03)
    assert not [name for name in found if '"quota"' in name or '"last pull"' in name]


def test_before_the_first_pull_it_is_zero(world: World) -> None:
    (world.kept / "repository").mkdir()
    found = told(world)
    assert (found[LAST], found[ALARM % "silent"]) == (0, 1)
    assert CHECK % "silent" not in found, "an alarm is told once"


def test_each_alarm_is_told_by_its_kind_until_it_ends(world: World) -> None:
    made, _pulled = world.night(0)
    (world.folder(made) / "manifest.json").write_bytes(b"{}")
    world.now += DAY
    world.pull()
    assert [kind for kind in KINDS if told(world)[ALARM % kind]] == ["strange", "fewer"]
    world.now += timedelta(hours=31)
    assert [kind for kind in KINDS if told(world)[ALARM % kind]] == ["silent", "strange", "fewer"]


def test_a_log_that_was_changed_leaves_nothing_to_believe(world: World) -> None:
    world.night(0)
    world.night(1)
    assert told(world)[LAST]
    path = world.kept / "receipts.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind":"pulled"', b'"kind":"pruned"', 1))
    found = told(world)
    assert found[CHECK % "log"] == 0
    assert not {LAST, QUOTA, *(ALARM % kind for kind in KINDS)} & found.keys()


def test_a_repository_that_is_away_is_told(world: World) -> None:
    world.night(0)
    shutil.rmtree(world.kept / "repository")
    found = told(world)
    assert found[CHECK % "repository"] == 0 and LAST not in found


def test_the_command_writes_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, monkeypatch)
    world.night(0)
    for name in ("etc", "figures"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(config, "KEEPER_DIRECTORY", tmp_path / "etc")
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    given = settings(tmp_path, keeper=keeper_settings(tmp_path))
    (tmp_path / "etc" / "shop.json").write_text(json.dumps(given))
    assert cli.main(["keeper", "metrics"]) == 0
    assert f"{LAST} {world.now.timestamp():.15g}" in capsys.readouterr().out.splitlines()
    given["monitoring"] = {"textfile_directory": str(tmp_path / "figures")}
    (tmp_path / "etc" / "shop.json").write_text(json.dumps(given))
    assert cli.main(["keeper", "metrics"]) == 0
    (path,) = (tmp_path / "figures").iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("lifeboat-keeper_shop.prom", 0o644)
    assert LAST in path.read_text()
    path.unlink()
    world.publish(START + DAY)
    world.now = START + DAY + timedelta(hours=2)
    assert cli.main(["keeper", "pull"]) == 0
    assert list((tmp_path / "figures").iterdir()) == [], (
        "a pull's user may not write there, and tells nothing of the stack"
    )


def test_the_timers_service_may_write_there_only() -> None:
    known = trusted(
        {
            "vault_keeper_stack": "shop", "vault_keeper_agent_path": "/usr/local/bin/lifeboat",
            "vault_keeper_textfile_directory": "/var/lib/prometheus/node-exporter", "vault_keeper_memory": "2G",
            "__vault_keeper_directory": "/srv/lifeboat-keeper/shop",
        }
    )  # fmt: skip
    unit = str(render((ROLE / "templates" / "metrics-service.j2").read_text(encoding="utf-8"), known))
    lines = unit.splitlines()
    assert "ExecStart=/usr/local/bin/lifeboat keeper metrics --stack shop" in lines
    assert [line for line in lines if line.startswith("ReadWritePaths")] == [
        "ReadWritePaths=/var/lib/prometheus/node-exporter"
    ]
    assert {"ProtectSystem=strict", "PrivateNetwork=true", "NoNewPrivileges=true"} <= {*lines}
    tasks = yaml.safe_load((ROLE / "tasks" / "metrics.yml").read_text(encoding="utf-8"))
    assert {task["delegate_to"] for task in tasks} == {"{{ vault_keeper_host }}"}
    removed = [task for task in tasks if task.get("ansible.builtin.file", {}).get("state") == "absent"]
    assert len(removed) == 1 and re.search("metrics", removed[0]["ansible.builtin.file"]["path"])
