# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could not be read is unknown: it is not good, it is not broken, and nothing is deleted because of it."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune, status, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, points, sealing, show, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.site import point_fetch
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, Run, entries, folder, make_config, publish, publish_objects, store

DAY = timedelta(days=1)
OLDEST = 400  # days; with every rule off but the daily one, what is older than five days is deleted
RULES: dict[str, Any] = {"daily_days": 5, "weekly_months": 0, "monthly_months": 0, "minimum": 1}


@pytest.fixture(autouse=True)
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test alone."""
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path}))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Paths, by their end, that the disk fails to read."""
    ends: set[str] = set()
    opened, looked, asked = filesystem.open_below, Path.lstat, os.lstat

    def broken(path: Path) -> None:
        if any(str(path).endswith(end) for end in ends):
            raise OSError(errno.EIO, "Input/output error", str(path))

    def open_below(directory: Path, parts: tuple[str, ...]) -> Any:
        broken(directory.joinpath(*parts))
        return opened(directory, parts)

    def lstat(path: Path) -> Any:
        broken(path)
        return looked(path)

    def os_lstat(path: Any, **more: Any) -> Any:
        broken(Path(os.fsdecode(path)))
        return asked(path, **more)

    monkeypatch.setattr(filesystem, "open_below", open_below)
    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(os, "lstat", os_lstat)
    return ends


def pruned(tmp_path: Path, *, dry_run: bool = False, said: Callable[[str], Any] = len) -> prune.Pruning:
    settings = make_config(tmp_path, retention=RULES)
    return prune.prune(Opened(settings), now=NOW + timedelta(hours=1), dry_run=dry_run, log=said)


def manifest_of(backup: Manifest) -> str:
    return f"{backup.id}/manifest.json"


def upgrade(path: Path) -> None:
    """As a later Lifeboat may write it."""
    body = json.loads(path.read_bytes())
    body["version"] = [2, 0]
    path.write_bytes(sealing.render({**body, "seal": sealing.seal(body)}))


def test_a_disk_that_fails_for_a_night_deletes_nothing_of_what_it_hid(tmp_path: Path, failing: set[str]) -> None:
    older, monthly, younger = (publish(tmp_path, NOW - days * DAY) for days in (OLDEST, 200, 100))
    newest = publish(tmp_path)
    failing.add(manifest_of(monthly))
    (found,) = [entry for entry in entries(tmp_path) if entry.id == monthly.id]
    assert (found.good, found.unknown, found.problem) == (False, True, "Input/output error")
    assert found.as_dict(NOW)["unknown"] is True
    said: list[str] = []
    result = pruned(tmp_path, said=said.append)
    assert result["delete"] == [younger.id], "what is younger cannot be a part of it"
    assert result["keep"][monthly.id] == ["unknown: Input/output error"]
    assert result["keep"][older.id] == [f"may be a part of {monthly.id}, which could not be read"]
    assert result["unknown"] == {monthly.id: "Input/output error"}
    assert any(monthly.id in line and "Input/output error" in line for line in said)
    failing.clear()
    assert pruned(tmp_path)["delete"] == [older.id, monthly.id], "it could be read, and its time is over"
    assert [entry.id for entry in entries(tmp_path)] == [newest.id]


def test_a_manifest_that_the_disk_does_not_show_is_not_swept_away(tmp_path: Path, failing: set[str]) -> None:
    """os.path.lexists() answers False to EIO: the whole backup then looked like the leftover of a killed run."""
    backup = publish(tmp_path, NOW - 3 * DAY)
    publish(tmp_path)
    failing.add(manifest_of(backup))
    assert store(tmp_path).sweep(timedelta(), NOW + 365 * DAY) == []
    assert folder(tmp_path, backup).exists()
    assert backup.id in store(tmp_path).published("database")


def test_a_verification_that_cannot_be_read_leaves_the_backup_unknown(tmp_path: Path, failing: set[str]) -> None:
    backup = publish(tmp_path)
    failing.add(f"{backup.id}/verification.json")
    (found,) = entries(tmp_path)
    assert (found.unknown, found.manifest, found.problem) == (True, backup, "Input/output error")


def test_a_downgrade_deletes_nothing_that_the_newer_version_wrote_or_needs(tmp_path: Path) -> None:
    made = [publish(tmp_path, NOW - days * DAY) for days in (300, 200, 3, 2, 1, 0)]
    for backup in made[1:3]:
        upgrade(folder(tmp_path, backup) / "manifest.json")
    result = pruned(tmp_path)
    assert result["delete"] == []
    assert list(result["unknown"]) == [backup.id for backup in made[1:3]]
    assert all("this Lifeboat reads version 1" in why for why in result["unknown"].values())


def test_unknown_backups_are_no_reason_to_delete_good_ones(tmp_path: Path) -> None:
    """After a downgrade every newer backup is unknown: the window stands still at the newest that is known."""
    old = [publish(tmp_path, NOW - days * DAY) for days in (104, 102, 100)]
    for days in range(20):
        upgrade(folder(tmp_path, publish(tmp_path, NOW - days * DAY)) / "manifest.json")
    result = pruned(tmp_path)
    assert result["delete"] == []
    assert [identity for identity in result["keep"] if identity in {backup.id for backup in old}]


def test_damage_is_not_unknown(tmp_path: Path) -> None:
    """JSON that was read and is broken: a difference that was seen."""
    broken = publish(tmp_path, NOW - 100 * DAY)
    (folder(tmp_path, broken) / "manifest.json").write_text("{")
    publish(tmp_path)
    assert [entry.unknown for entry in entries(tmp_path)] == [False, False]
    assert pruned(tmp_path)["unknown"] == {}
    assert "unknown backups" not in checked(tmp_path)


def checked(tmp_path: Path, **changes: Any) -> dict[str, str]:
    seen = status.status(Opened(make_config(tmp_path, **changes)), now=NOW + timedelta(hours=1))
    return {check.name: check.result for check in seen.checks}


def test_status_says_unknown_and_neither_green_nor_broken(tmp_path: Path, failing: set[str]) -> None:
    publish(tmp_path, NOW - 40 * DAY)
    assert checked(tmp_path)["newest backup"] == FAIL, "too old, and all of it is known"
    newest = publish(tmp_path)
    failing.add(manifest_of(newest))
    found = checked(tmp_path)
    assert found["unknown backups"] == COULD_NOT_VERIFY
    assert found["newest backup"] == COULD_NOT_VERIFY, "the newest may be a good one"
    assert "broken backups" not in found
    assert "UNKNOWN: Input/output error" in "\n".join(show.table([], {"database": entries(tmp_path)}, NOW))


def test_nothing_but_unknown_backups(tmp_path: Path, failing: set[str]) -> None:
    failing.add(manifest_of(publish(tmp_path)))
    assert checked(tmp_path)["newest backup"] == COULD_NOT_VERIFY


def test_one_that_is_named_could_not_be_verified(tmp_path: Path, failing: set[str]) -> None:
    older, newest = publish(tmp_path, NOW - DAY), publish(tmp_path)
    failing.add(manifest_of(newest))
    with pytest.raises(UnverifiedError, match="Input/output error"):
        catalog.choose(entries(tmp_path), "shop", identity=newest.id)
    chosen, passed = catalog.choose(entries(tmp_path), "shop")
    assert (chosen.id, [entry.id for entry in passed]) == (older.id, [newest.id])


# --- recovery points ---


def tied(tmp_path: Path, days: int) -> points.Point:
    at = NOW - days * DAY
    publish_objects(tmp_path, at, of=publish(tmp_path, at))
    run = Opened(make_config(tmp_path, **BUCKET))
    return points.seal(run, now=at + timedelta(minutes=1), log=len)[0]


def read(tmp_path: Path) -> list[points.PointEntry]:
    return points.entries(store(tmp_path), "shop", points.backups(store(tmp_path), "shop"))


def test_a_point_is_unknown_where_a_part_of_it_is(tmp_path: Path, failing: set[str]) -> None:
    point = tied(tmp_path, 100)
    tied(tmp_path, 0)
    failing.add(f"{point.ids['database']}/manifest.json")
    old, new = read(tmp_path)
    assert (old.unknown, old.problem, new.good) == (True, f"{point.ids['database']}: Input/output error", True)
    result = pruned(tmp_path)
    assert result["delete"] == []
    assert set(result["unknown"]) == {point.id, point.ids["database"]}
    assert result["keep"][str(point.ids["objects"])] == [f"part of {point.id}"]
    (tmp_path / "backup/objects" / str(point.ids["objects"]) / "listing.jsonl.gz").write_bytes(b"")
    assert not read(tmp_path)[0].unknown, "another part is broken, and that was seen"


def test_what_an_unreadable_point_may_name_stays(tmp_path: Path, failing: set[str]) -> None:
    points_made = [tied(tmp_path, days) for days in (200, 100, 0)]
    old, unread, newest = points_made
    failing.add(f"recovery-points/{unread.id}.json")
    result = pruned(tmp_path)
    assert result["delete"] == [old.id], "one point is not part of another"
    for name in ("database", "objects"):
        for point in (old, unread):
            words = f"may be a part of {unread.id}, which could not be read"
            assert result["keep"][str(point.ids[name])] == [words]
    assert result["unknown"] == {unread.id: "Input/output error"}
    assert read(tmp_path)[-1].id == newest.id


STRANGE = "no component is called 'mail' here: a newer Lifeboat wrote it"


@pytest.fixture
def newer(tmp_path: Path) -> points.Point:
    """A recovery point of a Lifeboat that backs up something more, and one that was sealed before it."""
    tied(tmp_path, 101)
    point = tied(tmp_path, 100)
    path = tmp_path / "backup/recovery-points" / f"{point.id}.json"
    body = json.loads(path.read_bytes())
    body["components"]["mail"] = {"id": "mail_backup_20261124_120000", "seal": "0"}
    path.write_bytes(sealing.render({**body, "seal": sealing.seal(body)}))
    return point


def test_a_point_of_a_newer_lifeboat_is_unknown_and_stays(tmp_path: Path, newer: points.Point) -> None:
    older, found = read(tmp_path)
    assert (found.good, found.unknown, found.problem) == (False, True, STRANGE)
    tied(tmp_path, 0)
    result = pruned(tmp_path)
    assert result["delete"] == [older.id], "one point is not part of another"
    assert result["unknown"] == {newer.id: STRANGE}
    assert result["keep"][str(newer.ids["database"])] == [f"part of {newer.id}"]
    assert f"may be a part of {newer.id}" in result["keep"][str(points_ids(older)["database"])][0]
    assert checked(tmp_path, **BUCKET)["unknown recovery points"] == COULD_NOT_VERIFY


def points_ids(entry: points.PointEntry) -> dict[str, Any]:
    assert entry.point is not None
    return entry.point.ids


def test_what_a_newer_point_names_can_be_recovered_by_its_name(tmp_path: Path, newer: points.Point) -> None:
    run = Opened(make_config(tmp_path, **BUCKET))
    for component in ("database", "objects"):
        named = sources.Sources(run, component, newer.id)
        assert named.identity == newer.ids[component]
        assert named.notes == [f"recovery point {newer.id}: {STRANGE}; only its {component} is recovered by this"]
    with pytest.raises(UnverifiedError, match="no component is called 'mail'"):
        points.choose(read(tmp_path), "shop", identity=newer.id)
    ids, found = verify.targets(run.config, store(tmp_path), newer.id)
    assert ids == [newer.ids["database"], newer.ids["objects"]]
    assert [(check.name, check.result) for check in found] == [
        ("recovery point", PASS),
        ("recovery point, other parts", COULD_NOT_VERIFY),
    ]


def test_a_newer_point_is_fetched_by_no_older_lifeboat(
    tmp_path: Path, newer: points.Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_fetch, "open_store", lambda _: (store(tmp_path), "the vault"))
    with pytest.raises(UsageError, match="no component is called 'mail'"):
        point_fetch.fetch(Opened(make_config(tmp_path, **BUCKET)), newer.id, log=len)


# --- the exit ---


def test_the_command_and_the_module_do_not_end_green(
    tmp_path: Path, failing: set[str], run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = publish(tmp_path, NOW - 100 * DAY)
    publish(tmp_path)
    assert not run("backup_prune", check=True)["failed"]
    failing.add(manifest_of(backup))
    result = run("backup_prune", check=True)
    assert result["failed"]
    assert backup.id in result["msg"]
    assert result["unknown"] == {backup.id: "Input/output error"}
    monkeypatch.setattr(logging.getLogger("lifeboat"), "handlers", [])
    monkeypatch.setattr(cli.config, "load", lambda *_: make_config(tmp_path, retention=RULES))
    assert cli.main(["prune", "--stack", "shop", "--dry-run"]) == UnverifiedError.exit_code
    assert f"{backup.id}: Input/output error" in capsys.readouterr().out
