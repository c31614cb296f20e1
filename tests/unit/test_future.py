# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backup taken under a wrong clock: it is never the newest, and nothing is deleted because of it."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune, status, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, points, show
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, entries, make_config, prove, publish, publish_objects, store

DAY = timedelta(days=1)
FAR = datetime(2099, 1, 1, 2, tzinfo=timezone.utc)
RULES: dict[str, Any] = {"daily_days": 5, "weekly_months": 0, "monthly_months": 0, "minimum": 1}


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test alone, and NOW is now."""
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path}))
    it_is(monkeypatch, NOW + timedelta(minutes=5))


def it_is(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


def test_latest_is_the_newest_that_can_be(tmp_path: Path) -> None:
    true, far = publish(tmp_path), publish(tmp_path, FAR)
    chosen, passed = catalog.choose(entries(tmp_path), "shop")
    assert chosen.id == true.id
    assert [entry.id for entry in passed] == [far.id]
    words = "it is dated 2099-01-01T02:00:02.000Z, and by this host's clock it is 2026-11-24T12:05:00.000Z"
    assert words in passed[0].problem
    assert catalog.choose(entries(tmp_path), "shop", identity=far.id)[0].id == far.id, "an operator may name it"
    assert verify.targets(make_config(tmp_path), store(tmp_path), "latest")[0] == [true.id]


def test_a_date_to_come_is_not_accepted_with_a_failure(tmp_path: Path) -> None:
    """Named it may be used, and with accept=failed too; that it failed as well is one doubt too many."""
    far = publish(tmp_path, FAR)
    assert catalog.choose(entries(tmp_path), "shop", identity=far.id, accept=True)[0].failed == ""
    prove(tmp_path, far, FAIL)
    with pytest.raises(IntegrityError, match=r"verification at level restore failed .* it is dated 2099"):
        catalog.choose(entries(tmp_path), "shop", identity=far.id, accept=True)


def test_clocks_may_differ_a_little(tmp_path: Path) -> None:
    publish(tmp_path, NOW + timedelta(minutes=60))
    assert entries(tmp_path)[0].good
    publish(tmp_path, NOW + timedelta(minutes=70))
    assert not entries(tmp_path)[1].good


def test_a_host_whose_own_clock_is_wrong_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its battery is empty: it is 1970. Nothing is newest, and the cause names both times."""
    publish(tmp_path)
    it_is(monkeypatch, datetime(1970, 1, 2, tzinfo=timezone.utc))
    with pytest.raises(NotFoundError, match="by this host's clock it is 1970-01-02"):
        catalog.choose(entries(tmp_path), "shop")


def test_sealing_goes_on(tmp_path: Path) -> None:
    publish(tmp_path, FAR)
    true = publish(tmp_path)
    objects = publish_objects(tmp_path, of=true)
    run = Opened(make_config(tmp_path, **BUCKET))
    point, new = points.seal(run, now=NOW, log=len)
    assert new
    assert (point.ids["database"], point.ids["objects"], point.consistency) == (true.id, objects.id, points.SNAPSHOT)


def test_a_point_that_was_sealed_in_2099_is_not_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Opened(make_config(tmp_path, **BUCKET))
    publish_objects(tmp_path, of=publish(tmp_path))
    true, _new = points.seal(run, now=NOW, log=len)
    jumped = dataclasses.replace(true, id="20990101_020000", sealed_at=FAR)
    publish_objects(tmp_path, FAR, of=publish(tmp_path, FAR))
    it_is(monkeypatch, FAR + DAY)
    wrong, _new = points.seal(run, now=FAR + DAY, log=len)
    store(tmp_path).write_point(jumped.id, jumped.to_bytes())
    made = [true.id, jumped.id, wrong.id]
    it_is(monkeypatch, NOW)
    found = points.entries(store(tmp_path), "shop", points.backups(store(tmp_path), "shop"))
    assert [(entry.id, entry.good, entry.ahead) for entry in found] == [
        (made[0], True, False), (made[1], False, True), (made[2], False, True),
    ]  # fmt: skip
    assert points.choose(found, "shop")[0].id == made[0]
    assert points.choose(found, "shop", identity=made[2])[0].id == made[2]


def test_status_judges_by_the_newest_that_can_be(tmp_path: Path) -> None:
    publish(tmp_path, NOW - 40 * DAY)
    prove(tmp_path, publish(tmp_path, FAR), at=FAR)
    seen = {check.name: check for check in status.status(Opened(make_config(tmp_path)), now=NOW).checks}
    assert seen["newest backup"].result == FAIL
    assert "960.0 h old" in seen["newest backup"].detail
    assert seen["proof"].result == COULD_NOT_VERIFY
    assert (seen["dates of backups"].result, "broken backups" in seen) == (FAIL, False)
    table = show.table([], {"database": entries(tmp_path)}, NOW)
    assert "WRONG DATE: it is dated 2099" in table[-1]
    assert "-" not in table[-1].split("WRONG")[0].replace(" - ", "")


def test_a_proof_of_2099_does_not_last_until_then(tmp_path: Path) -> None:
    prove(tmp_path, publish(tmp_path), at=FAR)
    seen = {check.name: check.result for check in status.status(Opened(make_config(tmp_path)), now=NOW).checks}
    assert (seen["newest backup"], seen["proof"]) == (PASS, COULD_NOT_VERIFY)


def test_three_years_of_retention_with_one_backup_of_2099(tmp_path: Path) -> None:
    """What is kept is what would be kept without it, and it stays itself."""
    backups = [publish(tmp_path, NOW - days * DAY) for days in range(0, 3 * 365, 5)]
    settings = make_config(tmp_path)
    without = prune.prune(Opened(settings), now=NOW, dry_run=True, log=len)
    far = publish(tmp_path, FAR)
    result = prune.prune(Opened(settings), now=NOW, dry_run=True, log=len)
    assert result["delete"] == without["delete"]
    assert len(result["keep"]) == len(without["keep"]) + 1
    assert result["keep"][far.id] == ["future: taken after now"]
    assert len(backups) > 200


def test_one_that_was_only_finished_in_2099_stays_too(tmp_path: Path) -> None:
    """The clock jumped while it was taken: its rows are of a true time, and it is not good."""
    jumped = publish(tmp_path, NOW - 300 * DAY, finished_at=FAR)
    publish(tmp_path)
    (found, _true) = entries(tmp_path)
    assert (found.id, found.ahead) == (jumped.id, True)
    result = prune.prune(Opened(make_config(tmp_path, retention=RULES)), now=NOW, dry_run=True, log=len)
    assert result["delete"] == []


def test_damage_is_said_before_the_date(tmp_path: Path) -> None:
    far = publish(tmp_path, FAR)
    prove(tmp_path, far, checks.FAIL)
    (found,) = entries(tmp_path)
    assert (found.ahead, found.problem.startswith("verification at level restore failed")) == (False, True)
