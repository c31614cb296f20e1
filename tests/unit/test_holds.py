# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hold keeps what a recovery has chosen from being pruned between its steps, and nothing keeps it for ever."""

from __future__ import annotations

import json
import platform
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune, status
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Part, Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.retention import Hold
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, publish, store

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
RULES = {"daily_days": 3, "weekly_months": 0, "monthly_months": 0, "minimum": 1}
OLD, NEW = "db_backup_20261104_120000", "db_backup_20261124_120000"
WHY = "recover_database"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A repository with a backup that every rule deletes, and one of today."""
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)
    for days in (20, 0):
        publish(tmp_path, NOW - days * DAY)
    return Opened(make_config(tmp_path, retention=RULES))


def pruned(run: Opened, now: datetime = NOW, *, dry_run: bool = False) -> prune.Pruning:
    again = Opened(run.config)
    return prune.prune(again, now=now, dry_run=dry_run, log=lambda line: None, trust_clock=True)


def held(run: Opened, identity: str = OLD, now: datetime = NOW) -> list[str]:
    return sources.hold(run, sources.REPOSITORY, identity, WHY, now)


def path(run: Opened, identity: str = OLD) -> Path:
    return Path(run.config.backup_directory) / "holds" / f"{identity}.json"


def test_control_without_a_hold_it_goes(run: Opened) -> None:
    assert pruned(run)["delete"] == [OLD]


def test_it_stays_until_the_hold_is_over(run: Opened) -> None:
    assert held(run) == [f"  {OLD} is held for 24 hours: no prune deletes it meanwhile"]
    kept = pruned(run, NOW + 23 * HOUR)
    assert kept["delete"] == []
    assert kept["keep"][OLD] == [f"held until 2026-11-25T12:00:00.000Z by {platform.node()} for {WHY}"]
    assert pruned(run, NOW + 25 * HOUR, dry_run=True)["delete"] == [OLD]
    assert path(run).exists(), "a dry run removes nothing"
    assert pruned(run, NOW + 25 * HOUR)["delete"] == [OLD]
    assert not path(run).exists()


def test_another_plan_renews_it_and_the_end_releases_it(run: Opened) -> None:
    held(run)
    held(run, now=NOW + 20 * HOUR)
    assert pruned(run, NOW + 40 * HOUR)["delete"] == []
    sources.release(run, sources.REPOSITORY, OLD, lambda line: None)
    sources.release(run, sources.REPOSITORY, OLD, lambda line: None)
    assert not path(run).exists()
    assert pruned(run, NOW + 40 * HOUR)["delete"] == [OLD]


def test_another_host_does_not_release_it(run: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    held(run)
    monkeypatch.setattr(platform, "node", lambda: "other")
    sources.release(run, sources.REPOSITORY, OLD, lambda line: None)
    assert path(run).exists()


def test_a_point_holds_its_parts(run: Opened, tmp_path: Path) -> None:
    manifest = sources.Sources(run, "database", OLD).entries[0].manifest
    assert manifest is not None
    parts = {"database": Part(OLD, manifest.seal), "objects": None, "config": None}
    tied = Point("20261104_130000", "shop", NOW - 20 * DAY, NOW - 20 * DAY, "eventual", parts, {}, (), ())
    store(tmp_path).write_point(tied.id, tied.to_bytes())
    held(run, tied.id)
    assert pruned(run)["delete"] == []


def test_where_none_can_be_written_the_plan_says_so(run: Opened) -> None:
    path(run).parent.write_text("a file is in the way")
    (line,) = held(run)
    assert line.startswith(f"  WARNING: no hold could be left on {OLD}; a prune may delete it before that: ")


def hold(**more: Any) -> dict[str, Any]:
    made = Hold(OLD, "shop", "host", WHY, NOW, NOW + DAY)
    return {**typed.plain(made), **more}


BAD: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"{",
    "empty": lambda: b"",
    "another schema": lambda: json.dumps(hold(schema="x")).encode(),
    "another version": lambda: json.dumps(hold(version=[2, 0])).encode(),
    "another id": lambda: json.dumps(hold(id=NEW)).encode(),
    "another stack": lambda: json.dumps(hold(stack="other")).encode(),
    "no time": lambda: json.dumps(hold(until="never")).encode(),
    "made in the future": lambda: json.dumps(
        hold(made_at="2027-01-01T00:00:00Z", until="2027-01-02T00:00:00Z")
    ).encode(),
    "longer than is read": lambda: json.dumps(hold(why="x" * 5000)).encode(),
    "a word for a list": lambda: json.dumps(hold(version="1")).encode(),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_a_hold_keeps_nothing_and_is_removed(run: Opened, bad: str) -> None:
    path(run).parent.mkdir()
    path(run).write_bytes(BAD[bad]())
    assert pruned(run)["delete"] == [OLD]
    assert not path(run).exists()


def test_no_hold_counts_for_longer_than_three_days(run: Opened) -> None:
    path(run).parent.mkdir()
    path(run).write_text(json.dumps(hold(until="2099-01-01T00:00:00Z")))
    assert pruned(run, NOW + 71 * HOUR)["delete"] == []
    assert pruned(run, NOW + 73 * HOUR)["delete"] == [OLD]


def test_a_link_and_strange_names_are_no_holds(run: Opened, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(hold()))
    path(run).parent.mkdir()
    path(run).symlink_to(outside)
    (path(run).parent / "..json").write_text("x")
    (path(run).parent / "README").write_text("x")
    assert pruned(run)["delete"] == [OLD]
    assert outside.exists()


def test_status_shows_it(run: Opened) -> None:
    names = [check.name for check in status.status(run, now=NOW).checks]
    assert "holds" not in names
    held(run)
    (check,) = [check for check in status.status(Opened(run.config), now=NOW).checks if check.name == "holds"]
    assert (check.result, check.detail) == (
        "PASS",
        f"{OLD} held until 2026-11-25T12:00:00.000Z by {platform.node()} for {WHY}",
    )
