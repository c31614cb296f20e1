# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists: each line is green first, then the one thing is broken that it looks at, and the line is red."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import evidence_world
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist as operations_checklist
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist_line, schedule, status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.checklist_line import BY_HAND, Item
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import local
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.catalog import Entry
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import configured
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, CONFIG, DETAILS, NOW, OBJECTS, folder, make_config, prove, publish

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GB = 10**9
World = dict[str, Any]


def lines(config: Any, period: str, **words: Any) -> dict[str, Item]:
    return {
        line.name: line
        for line in operations_checklist.work_through(Opened(config), period, **{"now": NOW, **words}).lines
    }


def stuff(root: Path) -> Any:
    backup = publish(root)
    prove(root, backup)
    return make_config(root)


# --- two days without backups, with the real status over a real repository ---


def test_two_days_without_backups_turn_the_daily_list_red(tmp_path: Path) -> None:
    config = stuff(tmp_path)
    at = NOW + 2 * HOUR
    assert operations_checklist.work_through(Opened(config), "daily", now=at).verdict == PASS
    late = operations_checklist.work_through(Opened(config), "daily", now=at + 2 * DAY)
    assert late.verdict == FAIL
    (line,) = [line for line in late.lines if line.name == "newest backup"]
    assert (line.result, line.figure, line.limit) == (FAIL, "db_backup_20261124_120000, 50.0 h old", "at most 26 h")


def test_the_look_ahead_finds_the_same_and_says_that_it_is_one(tmp_path: Path) -> None:
    config = stuff(tmp_path)
    found = operations_checklist.work_through(Opened(config), "daily", now=NOW + 2 * HOUR, ahead=2 * DAY)
    assert found.verdict == FAIL
    assert "as if nothing ran for 2 days" in checklist_line.text(found)[0]


ORDER = [BY_HAND, PASS, COULD_NOT_VERIFY, FAIL]


@pytest.mark.parametrize("today", ORDER)
@pytest.mark.parametrize("later", ORDER)
def test_a_look_ahead_turns_nothing_green(today: str, later: str) -> None:
    (line,) = operations_checklist._worse([Item("b", "n", today, "")], [Item("b", "n", later, "")])
    assert line.result == max(today, later, key=ORDER.index)
    assert len(operations_checklist._worse([Item("b", "n", FAIL, "")], [])) == 1, (
        "a line that is gone in the future stays"
    )


def test_a_repository_that_is_gone_is_no_pass(tmp_path: Path) -> None:
    config = stuff(tmp_path)
    (tmp_path / "backup").rename(tmp_path / "elsewhere")
    for period in ("daily", "weekly", "quarterly"):
        found = operations_checklist.work_through(Opened(config), period, now=NOW)
        assert found.verdict != PASS
        assert "there is no such directory" in " ".join(line.figure for line in found.lines)


def test_a_look_ahead_asks_the_endpoints_in_the_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they said is remembered with its time: a day to come would keep them from being asked until then."""
    seen: list[tuple[datetime, datetime]] = []

    def said(config: Any, *, now: datetime, real_now: datetime) -> Any:
        seen.append((now, real_now))
        return status.Status("shop", now, (), (), {})

    monkeypatch.setattr(status, "status", said)
    operations_checklist.work_through(Opened(stuff(tmp_path)), "daily", now=NOW, ahead=2 * DAY)
    assert seen == [(NOW, NOW), (NOW + 2 * DAY, NOW)]


def test_what_status_says_is_on_one_list_and_on_one_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that status judges is lost, whatever it learns to judge; the lists have no opinion of their own on it."""
    config = stuff(tmp_path)
    names = [*operations_checklist._BELONGS, "newest backup", "copies", "broken backups", "something new"]
    said = status.Status("shop", NOW, tuple(Check(name, FAIL, name, 2, 1, "h") for name in names), (), {})
    monkeypatch.setattr(status, "status", lambda config, **_: said)
    monkeypatch.setattr(schedule, "checks", lambda config, now: [])
    found = [
        line
        for period in operations_checklist.PERIODS[:4]
        for line in operations_checklist.work_through(Opened(config), period, now=NOW).lines
    ]
    for name in names:
        (line,) = [line for line in found if line.name == name]
        assert (line.result, line.figure, line.limit) == (FAIL, name, "at most 1 h")


def test_a_figure_and_its_limit_are_told_apart() -> None:
    line = operations_checklist._item(
        "box", Check("recovery point", PASS, "x, 2.0 h old, limit 9 h, consistency snapshot", 2.0, 26, "h")
    )
    assert (line.figure, line.limit) == ("x, 2.0 h old, limit 9 h, consistency snapshot", "at most 26 h"), (
        "a sentence decides nothing"
    )


def test_rows_against_objects_are_of_the_weekly_list() -> None:
    """The names that the reconciliation gives its checks are those of the table."""
    report = reconcile.Report(at=NOW, rows=1, objects=1, sizes=1, hashes=1)
    told = [*report.checks(), reconcile.unconfigured()]
    assert {operations_checklist._BELONGS.get(check.name) for check in told} == {"weekly"}


# --- weekly ---


def backup(number: int, component: str = "database", size: int = GB, **details: Any) -> Entry:
    at = NOW - number * DAY
    known = {"database": DETAILS, "objects": {**OBJECTS, "bytes": GB}, "config": CONFIG}[component]
    identity = f"{component}-{number}"
    artefacts = (Artefact("all", size, "0" * 64),)
    return Entry(
        identity, Manifest(identity, component, "shop", at, at, artefacts, details={**known, **details}),
        component=component,
    )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A stack with everything, as status tells of it, all of it well."""
    found: World = {"free": 500 * GB, "checks": ["proof", "space"]}
    found["config"] = make_config(tmp_path, **BUCKET, config={})
    names = [kind.name for kind in configured(found["config"])]
    found["backups"] = {name: [backup(number, name) for number in range(9, -1, -1)] for name in names}

    def said(config: Any, **_: Any) -> Any:
        told = tuple(Check(name, PASS, "x", 0.5, 1, "days") for name in found["checks"])
        return status.Status("shop", NOW, told, (), found["backups"])

    monkeypatch.setattr(status, "status", said)
    monkeypatch.setattr(local.LocalRepository, "free_bytes", lambda self: found["free"])
    return found


def test_the_weekly_list_is_green(world: World) -> None:
    found = operations_checklist.work_through(Opened(world["config"]), "weekly", now=NOW)
    assert found.verdict == PASS, checklist_line.text(found)
    assert [line.name for line in found.lines] == [
        "database size", "objects size", "config size", "proof", "content against earlier backups", "space",
        "days until full",
    ]  # fmt: skip


def change(world: World, component: str, number: int, **more: Any) -> None:
    world["backups"][component][-1 - number] = backup(number, component, **more)


def only(world: World, number: int) -> None:
    for name, entries in world["backups"].items():
        world["backups"][name] = entries[len(entries) - number :]


WEEKLY: list[tuple[str, Callable[[World], None], str, str, str]] = [
    ("a small dump", lambda w: change(w, "database", 0, size=GB // 3), "database size", FAIL, "before is 1.0 GB"),
    ("a huge dump", lambda w: change(w, "database", 0, size=4 * GB), "database size", FAIL, "4.0 GB"),
    ("half the bucket", lambda w: change(w, "objects", 0, bytes=GB // 3), "objects size", FAIL, "333 MB"),
    ("a small config", lambda w: change(w, "config", 0, size=1), "config size", FAIL, "1 B"),
    ("one backup", lambda w: only(w, 1), "database size", COULD_NOT_VERIFY, "no earlier one"),
    ("one backup", lambda w: only(w, 1), "content against earlier backups", COULD_NOT_VERIFY, "no two good"),
    ("no backup", lambda w: only(w, 0), "objects size", COULD_NOT_VERIFY, "no good backup"),
    ("no backup", lambda w: only(w, 0), "days until full", COULD_NOT_VERIFY, "no backup to measure by"),
    ("a full disk", lambda w: w.update(free=20 * GB), "days until full", FAIL, "full in 7 days"),
    ("a new stack", lambda w: only(w, 1), "days until full", COULD_NOT_VERIFY, "backups of two days"),
    ("a new stack, a full disk", lambda w: (only(w, 1), w.update(free=GB))[0], "days until full", FAIL, "in 1 days"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "name", "result", "words"), [case[1:] for case in WEEKLY])
def test_each_weekly_line_turns_red(
    world: World, broken: Callable[[World], None], name: str, result: str, words: str
) -> None:
    broken(world)
    line = lines(world["config"], "weekly")[name]
    assert line.result == result
    assert words in line.figure


def test_parts_that_an_earlier_config_backup_holds_are_counted(world: World) -> None:
    """The newest one is small because nothing changed: it refers to what another holds."""
    part = {"backup": "config-9", "artefact": "site.tar.gz", "key": "k", "size": GB, "sha256": "0" * 64}
    change(world, "config", 0, size=1000, parts={"site": part})
    assert lines(world["config"], "weekly")["config size"].result == PASS


def test_small_sizes_may_jump(world: World) -> None:
    for number in range(10):
        change(world, "database", number, size=2_000 if number else 60_000)
    assert lines(world["config"], "weekly")["database size"].result == PASS


# --- monthly ---


def test_overdue_backups_turn_the_monthly_list_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "checks", lambda config, now: [])
    config = stuff(tmp_path)
    for days in (200, 4, 3, 2, 1):
        publish(tmp_path, NOW - days * DAY)
    assert lines(config, "monthly")["retention"].result == PASS
    old = publish(tmp_path, NOW - 500 * DAY)
    line = lines(config, "monthly")["retention"]
    assert line.result == FAIL
    assert f"1 overdue: {old.id}; lifeboat prune deletes them" in line.figure
    assert folder(tmp_path, old).is_dir(), "a look deletes nothing"


def test_a_plan_that_is_not_known_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stuff(tmp_path)
    monkeypatch.setattr(schedule, "checks", lambda config, now: [])
    old = {"deleted": 3, "bytes": 5, "waits": "x"}
    plan = {"keep": {}, "delete": [], "unknown": {"a": "EIO"}, "versions": old, "locked": [], "failed": []}
    monkeypatch.setattr(operations_prune, "prune", lambda *_, **__: plan)
    line = lines(config, "monthly")["retention"]
    assert (line.result, "not looked at: a: EIO; old versions: x" in line.figure) == (COULD_NOT_VERIFY, True)

    def fails(*_: Any, **__: Any) -> Any:
        raise LifeboatError("list", "it", "no answer")

    monkeypatch.setattr(operations_prune, "prune", fails)
    assert lines(config, "monthly")["retention"].result == COULD_NOT_VERIFY


# --- quarterly ---


FAILED = {"proof": ""}  # the fault was not observed


DRILLS: list[tuple[str, list[tuple[float, str, dict[str, Any]]], str, str]] = [
    ("in time", [(10, "database", {})], PASS, "the last that passed was 10 days ago"),
    ("failed, then passed", [(20, "database", FAILED), (10, "database", {})], PASS, "was 10 days ago"),
    ("never", [], FAIL, "there was none that passed; hold one"),
    ("overdue", [(93, "database", {})], FAIL, "was 93 days ago; hold one"),
    ("failed", [(1, "database", FAILED)], FAIL, "none that passed; a later one ended with COULD_NOT_VERIFY"),
    ("passed, then failed", [(10, "database", {}), (1, "database", FAILED)], FAIL, "a later one ended with"),
    ("of another scenario", [(1, "object_storage", {})], FAIL, "there was none"),
    ("from the future", [(-1, "database", {})], FAIL, "there was none"),
]


@pytest.mark.parametrize(("held", "result", "words"), [case[1:] for case in DRILLS], ids=[case[0] for case in DRILLS])
def test_drills(tmp_path: Path, held: list[Any], result: str, words: str) -> None:
    config = stuff(tmp_path)
    for days, scenario, more in held:
        store.write(config, evidence_world.typed(evidence_world.drill(tmp_path, days, scenario=scenario, **more)))
    store.write(config, evidence_world.typed(evidence_world.record(tmp_path, 1)))  # a recovery is no drill
    store.write(config, evidence_world.typed(evidence_world.proof(tmp_path, 1)))
    found = lines(config, "quarterly")
    assert found["drill of the database"].result == result, found
    assert words in found["drill of the database"].figure
    assert set(found) == {"drill of the database", "drill of the backend", "drill of the site"}
    later = operations_checklist.work_through(Opened(config), "quarterly", now=NOW, ahead=100 * DAY)
    assert next(line for line in later.lines if line.name == "drill of the database").result == FAIL


def test_a_drill_whose_record_was_edited_does_not_count(tmp_path: Path) -> None:
    config = stuff(tmp_path)
    path, _ = store.write(config, evidence_world.typed(evidence_world.drill(tmp_path, 10)))
    assert lines(config, "quarterly")["drill of the database"].result == PASS
    path.write_text(path.read_text().replace("the data directory is wiped", "the data directory is damaged"))
    found = lines(config, "quarterly")
    assert found["drill of the database"].result == FAIL
    assert (found["records"].result, "1 are not evidence" in found["records"].figure) == (FAIL, True)


# --- how it is shown ---

HOSTILE = "<script>alert(1)</script> **x** | [y](http://z) \x1b[31m\nrow"


def test_faces_are_harmless_and_say_all() -> None:
    made = checklist_line.Checklist(
        "shop", "daily", NOW,
        (Item("a box", HOSTILE, FAIL, HOSTILE, HOSTILE), Item("a box", "ok", PASS, "1", "2"),
         Item("another", "cause", BY_HAND, "why")),
    )  # fmt: skip
    page, marked, text = checklist_line.page(made), checklist_line.markdown(made), checklist_line.text(made)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<" not in marked.replace("\\<", "")
    assert "**x**" not in marked
    assert "- [ ] **BY_HAND** cause: why" in marked
    assert "- [x] **PASS** ok: 1 (2)" in marked
    for face in (page, marked, *text):
        assert "\x1b" not in face
    assert len([line for line in text if "script" in line]) == 2, "a name begins no line of its own"
    assert text[-1].startswith("FAIL  shop: ")


def test_what_is_for_people_passes_nothing_and_fails_nothing() -> None:
    def of(*results: str) -> str:
        return checklist_line.Checklist(
            "s", "daily", NOW, tuple(Item("b", "n", result, "") for result in results)
        ).verdict

    assert of(PASS, BY_HAND) == PASS
    assert of(BY_HAND) == COULD_NOT_VERIFY
    assert of(PASS, COULD_NOT_VERIFY, BY_HAND) == COULD_NOT_VERIFY
    assert of(FAIL, COULD_NOT_VERIFY) == FAIL
