# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An invented component, put into the registries and nowhere else, is seen wherever the others are."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow, escrow_record, schedule, status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.checklist import work_through
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.components import COMPONENTS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.escrow_opened import OPENED
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.levels import PROOFS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config, publish, settings, store
from config_world import keys
from invented import DONE, FILE, LETTERS, read, take

CREATED = "letters_backup_"


@dataclasses.dataclass
class World:
    """A stack of a database, of which there is a backup, and of letters, of which there is none."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def config(self) -> Any:
        return make_config(self.root)

    @property
    def here(self) -> list[str]:
        return sorted(store(self.root).published("letters"))

    def run(self, *words: str) -> tuple[int, str]:
        code = cli.main([*words, "--config-directory", str(self.root / "etc")])
        return code, self.capsys.readouterr().out

    def judged(self, now: datetime | None = None) -> dict[str, str]:
        found = status.status(Opened(self.config), now=now or datetime.now(timezone.utc))
        return {check.name: check.result for check in found.checks}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> World:
    monkeypatch.setitem(KINDS, "letters", LETTERS)
    monkeypatch.setitem(COMPONENTS, "letters", DONE)
    monkeypatch.setitem(PROOFS, "letters", read)
    monkeypatch.setitem(OPENED, "letters", read)
    (tmp_path / "etc").mkdir()
    (tmp_path / "locks").mkdir()
    (tmp_path / "etc" / "shop.json").write_text(json.dumps(settings(tmp_path)), encoding="utf-8")
    held = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: held(*a, **{**kw, "directory": tmp_path / "locks"}))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(escrow_record, "store", lambda _: store(tmp_path))
    publish(tmp_path, datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=5))
    return World(tmp_path, capsys)


def test_backup_takes_it_and_a_recovery_point_ties_it(world: World) -> None:
    code, shown = world.run("backup", "letters", "--seal")
    (identity,) = world.here
    assert (code, f"{identity}  3 letters" in shown) == (0, True)
    assert "recovery point of database, letters, consistency snapshot" in shown
    (point,) = store(world.root).points()
    assert json.loads(store(world.root).read_point(point))["components"]["letters"]["id"] == identity


def test_list_shows_it_with_its_own_column(world: World) -> None:
    take(Opened(world.config), False, print)
    world.capsys.readouterr()
    code, shown = world.run("list")
    heads, *rows = shown.splitlines()
    assert (code, heads.split()) == (0, ["ID", "AGE", "SIZE", "DATABASES", "TABLES", "ROWS", "LETTERS", "PROVEN"])
    assert rows[0].split()[0] == world.here[0]
    code, shown = world.run("list", "--component", "letters", "--json")
    assert [entry["id"] for entry in json.loads(shown)] == world.here


def test_status_wants_it_and_says_when_it_shrank(world: World) -> None:
    assert world.judged()["newest letters backup"] == FAIL
    take(Opened(world.config), False, print, "abcdef")
    assert world.judged()["newest letters backup"] == PASS
    assert "content against earlier backups" not in world.judged()
    take(Opened(world.config), False, print, "a")
    assert world.judged()["content against earlier backups"] == FAIL


def test_verify_proves_it_and_status_knows(world: World) -> None:
    one = take(Opened(world.config), False, print)
    code, shown = world.run("verify", one.id)
    assert (code, "PASS             letters: 3 letters" in shown) == (0, True)
    assert world.judged()["letters proof"] == PASS
    path = Path(store(world.root).location("letters", one.id), FILE)
    path.write_text("abd", encoding="utf-8")
    assert world.run("verify", one.id)[0] == 6


def test_prune_deletes_what_no_rule_keeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    old = republished(world, take(Opened(world.config), False, print), days=500)
    newer = [republished(world, take(Opened(world.config), False, print), days=days).id for days in (300, 3, 2, 1)]
    code, shown = world.run("prune")
    assert (code, f"deleted  {old.id}" in shown) == (0, True)
    assert world.here == sorted(newer)


def republished(world: World, manifest: Manifest, days: int) -> Manifest:
    """The same backup as it would have been taken so many days ago."""
    at = manifest.taken_at - timedelta(days=days)
    older = dataclasses.replace(manifest, id=f"{CREATED}{at:%Y%m%d_%H%M%S}", taken_at=at, finished_at=at)
    repo = store(world.root)
    with repo.stage("letters", older.id) as staging:
        (staging.path / FILE).write_text("abc", encoding="utf-8")
        staging.publish(older.to_bytes())
    repo.delete("letters", manifest.id)
    return older


def test_the_checklist_and_the_schedule_ask_for_it(world: World) -> None:
    assert schedule.required(world.config) == {
        "backup database": "backup(?: database)?", "backup letters": "backup(?: letters)?", "verify": "verify",
    }  # fmt: skip
    one = take(Opened(world.config), False, print)
    assert schedule._WORK.search(f"{one.id}: published"), "its runs are found in the log"
    take(Opened(world.config), False, print)
    found = {
        line.name: line for line in work_through(Opened(world.config), "weekly", now=datetime.now(timezone.utc)).lines
    }
    assert found["letters size"].result == PASS
    assert "letters" in found["days until full"].figure
    assert "letters proof" in found
    daily = {line.name for line in work_through(Opened(world.config), "daily", now=datetime.now(timezone.utc)).lines}
    assert "newest letters backup" in daily


def test_escrow_opens_it(world: World) -> None:
    assert world.run("backup", "letters", "--seal")[0] == 0
    vault = {"endpoint_url": "https://s3.example", "repository_bucket": "copies"}
    result = escrow.prove(Opened(make_config(world.root, vault=vault)), keys(world.root)[0], log=print)
    found = {check.name: check for check in result.checks}
    assert found["letters: checksums in the vault"].result == PASS
    assert found["letters"].detail == "3 letters"
