# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack is taken off its host: what goes, what stays, what waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import undeployment
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import timers
from builders import Run, settings

SHARED = ("lifeboat", "completion", "logrotate")


@dataclass
class Host:
    root: Path
    undeploy: Callable[..., dict[str, Any]]

    def deployed(self, stack: str, **changes: Any) -> None:
        given = {**settings(self.root, **changes), "stack": stack, "signing_key": str(self.root / "etc/key")}
        given["monitoring"] = {"textfile_directory": str(self.root / "textfile")}
        given["state_directory"] = str(self.root / "state" / stack)
        for path, text in (
            (f"etc/{stack}.json", json.dumps(given)), (f"etc/{stack}.secrets.json", "{}"), ("etc/key", "key"),
            (f"etc/{stack}.logs.key", "k"), (f"cron/lifeboat-{stack}", "* * * * * root true\n"),
            (f"rsyslog/lifeboat-{stack}.conf", "x"), (f"textfile/lifeboat_{stack}.prom", "x"),
            (f"state/{stack}/runs/verify", "evidence"), ("backup/db/dump", "rows"),
            *((name, "shared") for name in SHARED),
        ):  # fmt: skip
            place = self.root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")

    def files(self) -> set[str]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)) for path in found if path.parent.name != "locks"}


@pytest.fixture
def host(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(undeployment, "CRON", tmp_path / "cron")
    monkeypatch.setattr(undeployment, "RSYSLOG", tmp_path / "rsyslog")
    monkeypatch.setattr(timers, "UNITS", tmp_path / "units")
    shared = [str(tmp_path / name) for name in SHARED]

    def undeploy(stack: str, **options: Any) -> dict[str, Any]:
        asked = {"stack_name": stack, "config_directory": str(tmp_path / "etc"), "shared": shared, "plain": True}
        return run("undeploy", **asked, **options)

    return Host(tmp_path, undeploy)


def test_undeploy_changes_the_host_once_and_keeps_what_may_be_needed(host: Host) -> None:
    host.deployed("shop")
    before = host.files()
    planned = host.undeploy("shop", check=True)
    assert (planned["changed"], host.files()) == (True, before)
    done = host.undeploy("shop")
    assert done["changed"] is True
    assert (done["removed"], done["kept"], done["diff"]) == (planned["removed"], planned["kept"], planned["diff"])
    assert host.files() == {"backup/db/dump", "etc/key", "state/shop/runs/verify"}
    assert sorted(done["removed"]) == sorted(str(host.root / name) for name in before - host.files())
    assert done["kept"][0] == f"backups: {host.root}/backup"
    assert done["services"] == ["rsyslog"]
    again = host.undeploy("shop")
    assert (again["changed"], again["removed"], again["services"]) == (False, [], [])
    assert again["kept"] == ["the stack shop is not deployed on this host; deployed are: none"]


def test_the_schedule_goes_before_the_command_and_the_configuration_last(host: Host) -> None:
    """Wherever it is killed, no job calls a command that is gone, and the same command continues."""
    host.deployed("shop")
    removed = [Path(path).name for path in host.undeploy("shop")["removed"]]
    assert (removed[0], removed[-1]) == ("lifeboat-shop", "shop.json")
    assert removed.index("lifeboat-shop") < removed.index("lifeboat")


def test_a_stack_of_another_name_is_told_those_that_are_deployed(host: Host) -> None:
    host.deployed("shop")
    host.deployed("blog")
    done = host.undeploy("shpo")
    assert (done["changed"], done["removed"]) == (False, [])
    assert done["kept"] == ["the stack shpo is not deployed on this host; deployed are: blog, shop"]


def test_undeploy_names_what_stays_of_a_stack_without_a_database(host: Host) -> None:
    files = {"sources": [{"name": "uploads", "path": str(host.root / "uploads")}]}
    host.deployed("wiki", database=False, files=files)
    done = host.undeploy("wiki")
    assert not done.get("failed"), done
    assert host.files() == {"backup/db/dump", "etc/key", "state/wiki/runs/verify"}
    assert done["kept"] == [
        f"backups: {host.root}/backup",
        f"evidence and state: {host.root}/state/wiki",
        f"logs: {undeployment.LOGS}/wiki*.log",
        f"signing key: {host.root}/etc/key",
    ]


def test_the_command_stays_for_another_stack(host: Host) -> None:
    host.deployed("shop")
    host.deployed("blog")
    done = host.undeploy("shop")
    assert host.files() >= {*SHARED, "etc/blog.json", "etc/blog.secrets.json", "cron/lifeboat-blog"}
    assert not [name for name in host.files() if "shop" in name and not name.startswith("state/")]
    assert done["kept"][-1] == "the command lifeboat: used by blog"
    assert set(host.undeploy("blog")["removed"]) >= {str(host.root / name) for name in SHARED}


def test_a_removal_that_was_killed_is_continued(host: Host) -> None:
    host.deployed("shop")
    (host.root / "cron/lifeboat-shop").unlink()
    (host.root / "etc/shop.secrets.json").unlink()
    host.undeploy("shop")
    assert host.files() == {"backup/db/dump", "etc/key", "state/shop/runs/verify"}


def test_undeploy_fails_while_a_recovery_has_not_ended(host: Host) -> None:
    host.deployed("shop")
    (host.root / "state/shop" / recovery_state.RECOVERING).write_text("{}", encoding="utf-8")
    before = host.files()
    for check in (True, False):
        result = host.undeploy("shop", check=check)
        assert result["failed"]
        assert "a recovery of the database has not ended" in result["msg"]
        assert "Nothing was changed" in result["msg"]
    assert host.files() == before


def test_undeploy_fails_while_a_command_runs(host: Host) -> None:
    host.deployed("shop")
    before = host.files()
    for name in ("shop", "shop.verify"):
        with lock.held(name, "verify"):
            assert "(verify). Wait for it to end" in host.undeploy("shop")["msg"]
    assert host.files() == before
    assert host.undeploy("shop")["changed"] is True


def test_undeploy_fails_on_a_configuration_that_it_cannot_read(host: Host) -> None:
    host.deployed("shop")
    (host.root / "etc/shop.json").write_text("{", encoding="utf-8")
    before = host.files()
    assert host.undeploy("shop")["failed"]
    assert host.files() == before


def test_a_stack_whose_wal_is_received_is_refused(host: Host) -> None:
    """Its slot would hold WAL back on the server, and nothing would be left to drop it."""
    host.deployed("shop")
    note = host.root / "state/shop/wal.json"
    note.write_text("{}", encoding="utf-8")
    before = host.files()
    refused = host.undeploy("shop")
    assert refused["failed"]
    assert "lifeboat wal disable --stack shop" in refused["msg"]
    assert host.files() == before
    note.unlink()
    assert host.undeploy("shop")["changed"]


def test_timers_are_stopped_before_the_command_goes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"lifeboat-verify@{stack}{suffix}" for stack in ("shop", "blog") for suffix in (".timer", ".service")]
    host.deployed("shop")
    (host.root / "units").mkdir()
    for name in names:
        (host.root / "units" / name).write_text("x")
    calls: list[list[str]] = []

    def run(commands: Any, **_words: Any) -> list[Any]:
        calls.append([*commands[0].argv[1:], str((host.root / "lifeboat").exists())])
        return []

    monkeypatch.setattr(pipeline, "run", run)
    planned = host.undeploy("shop", check=True)
    assert calls == []
    done = host.undeploy("shop")
    assert (done["removed"], done["diff"]) == (planned["removed"], planned["diff"])
    assert calls == [["disable", "--now", names[0], "True"], ["daemon-reload", "False"]]
    assert sorted(path.name for path in (host.root / "units").iterdir()) == sorted(names[2:])
