# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One recovery_time for rows and for objects: the same recovery point, and where that cannot be, it is said."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Part, Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, prove, publish, publish_objects, store

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BOTH = ("database", "objects")


def tie(root: Path, database: Manifest, objects: Optional[Manifest]) -> Point:
    parts = {
        "database": Part(database.id, database.seal),
        "objects": Part(objects.id, objects.seal) if objects else None,
        "config": None,
    }
    identity = f"{database.taken_at + 2 * HOUR:%Y%m%d_%H%M%S}"
    point = Point(identity, "shop", database.taken_at + 2 * HOUR, database.taken_at, "snapshot", parts, {}, (), ())
    store(root).write_point(point.id, point.to_bytes())
    return point


def night(root: Path, at: datetime, bucket: bool = True) -> Point:
    database = publish(root, at)
    return tie(root, database, publish_objects(root, at + HOUR, of=database) if bucket else None)


def sources(root: Path, component: str, before: datetime, **more: Any) -> Sources:
    return Sources(Opened(make_config(root)), component, "latest", before, **more)


def chosen(root: Path, before: datetime) -> list[tuple[str, str]]:
    several = [sources(root, component, before) for component in BOTH]
    return [(sources.point, sources.tied) for sources in several]


def of(point: Point) -> list[tuple[str, str]]:
    return [(point.id, point.parts[component].id) for component in BOTH]


@pytest.mark.parametrize("component", BOTH)
def test_the_newest_point_at_that_time(tmp_path: Path, component: str) -> None:
    first, second = night(tmp_path, NOW - DAY), night(tmp_path, NOW)
    assert chosen(tmp_path, NOW - HOUR) == of(first)
    assert chosen(tmp_path, NOW) == of(second), "to the instant of its rows, though the bucket was mirrored later"
    assert chosen(tmp_path, NOW + DAY) == of(second)
    one = sources(tmp_path, component, NOW)
    assert (one.identity, one.notes) == ("latest", [])
    run = Opened(make_config(tmp_path))
    assert Sources(run, component).tied == "", "no time, no point"
    assert Sources(run, component, first.id, NOW).point == first.id, "a name is stronger than a time"


def test_a_loose_backup_that_is_newer_is_told(tmp_path: Path) -> None:
    """Rows of noon and files of midnight are no state that ever was; who wants the rows of noon can have them."""
    point = night(tmp_path, NOW)
    noon = publish(tmp_path, NOW + 6 * HOUR)
    assert chosen(tmp_path, NOW + 7 * HOUR) == of(point)
    notes = sources(tmp_path, "database", NOW + 7 * HOUR).notes
    assert notes == [
        f"{noon.id} is of a later time before the one asked for, and in no recovery point that can be used;"
        f" to take it: -e recovery_point={noon.id}"
    ]
    assert sources(tmp_path, "objects", NOW + 7 * HOUR).notes == []
    assert sources(tmp_path, "database", NOW + 5 * HOUR).notes == []


def test_without_a_point_of_that_time_loose_backups_do(tmp_path: Path) -> None:
    publish(tmp_path, NOW - 3 * DAY)
    publish_objects(tmp_path, NOW - 3 * DAY)
    night(tmp_path, NOW)
    for component in BOTH:
        one = sources(tmp_path, component, NOW - 2 * DAY)
        assert (one.point, one.tied) == ("", "")
        (note,) = one.notes
        assert note.startswith("no recovery point is of that time (the first is of 2026-11-24")
        assert note.endswith(f"the {component} are taken by themselves")
    night(tmp_path, NOW + DAY, bucket=False)
    assert "has no objects: they are taken by themselves" in sources(tmp_path, "objects", NOW + DAY).notes[0]


@pytest.mark.parametrize("component", BOTH)
def test_a_broken_point_is_passed_over_by_both(tmp_path: Path, component: str) -> None:
    """Whichever of its parts is missing: both go back to the same older one."""
    first, second = night(tmp_path, NOW - DAY), night(tmp_path, NOW)
    assert chosen(tmp_path, NOW) == of(second)
    store(tmp_path).delete(component, second.parts[component].id)
    assert chosen(tmp_path, NOW) == of(first)
    notes = sources(tmp_path, component, NOW).notes
    assert f"recovery point {second.id} is passed over: {second.parts[component].id} is missing" in notes


@pytest.mark.parametrize("damage", ["a part is missing", "the repository is gone"])
def test_the_vault_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    night(tmp_path, NOW - DAY)
    second = night(tmp_path, NOW)
    shutil.copytree(tmp_path / "backup", tmp_path / "vault")
    vault = repositories.from_settings(LocalSettings(path=str(tmp_path / "vault")), {})
    monkeypatch.setattr(copies, "vault", lambda config: vault)
    if damage == "a part is missing":
        store(tmp_path).delete("objects", second.parts["objects"].id)
    else:
        shutil.rmtree(tmp_path / "backup")
    assert chosen(tmp_path, NOW) == of(second)
    one = sources(tmp_path, "objects", NOW)
    entry = next(each for each in one.entries if each.id == one.tied)
    assert entry.source == "vault"


def test_what_only_reading_finds_is_said(tmp_path: Path) -> None:
    point = night(tmp_path, NOW)
    one = sources(tmp_path, "database", NOW)
    one.untie("another SHA-256")
    assert (one.point, one.tied) == ("", "")
    assert f"of recovery point {point.id} cannot be used (another SHA-256)" in one.notes[0]
    assert "may be of another instant" in one.notes[0]


def taken(root: Path, identity: str, problem: str = "", **more: Any) -> tuple[str, tuple[str, ...]]:
    """The backup that is chosen where its bytes have that problem, and what was accepted of it."""
    one = Sources(Opened(make_config(root)), "database", identity, accept=True)
    entry, _passed = one.choose(
        one.identity, None, lambda entry: problem if entry.source == "repository" else "", **more
    )
    return f"{entry.source} {entry.id}", one.accepted


def test_what_was_accepted_is_known(tmp_path: Path) -> None:
    point = night(tmp_path, NOW)
    database = next(iter(point.parts.values()))
    assert taken(tmp_path, database.id) == (f"repository {database.id}", ())
    prove(tmp_path, publish(tmp_path, NOW + DAY), checks.FAIL)
    newer = f"db_backup_{NOW + DAY:%Y%m%d_%H%M%S}"
    why = "verification at level restore failed (tables: x)"
    assert taken(tmp_path, newer) == (f"repository {newer}", (why,))
    assert taken(tmp_path, newer, "cut", bearable=True) == (f"repository {newer}", (why, "cut"))
    with pytest.raises(IntegrityError, match="cut"):
        taken(tmp_path, newer, "cut")
    with pytest.raises(UsageError, match="it needs the id of a backup or of a recovery point"):
        sources(tmp_path, "database", NOW, accept=True)


def test_a_recovery_points_failed_part_may_be_accepted(tmp_path: Path) -> None:
    database = publish(tmp_path)
    point = tie(tmp_path, database, publish_objects(tmp_path, NOW + HOUR, of=database))
    prove(tmp_path, database, checks.FAIL)
    assert taken(tmp_path, point.id)[0] == f"repository {database.id}"


def test_a_good_copy_is_better_than_what_could_be_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = publish(tmp_path)
    shutil.copytree(tmp_path / "backup", tmp_path / "vault")
    vault = repositories.from_settings(LocalSettings(path=str(tmp_path / "vault")), {})
    monkeypatch.setattr(copies, "vault", lambda config: vault)
    assert taken(tmp_path, one.id, "cut", bearable=True) == (f"vault {one.id}", ())
