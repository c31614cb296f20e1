# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine remembers of a site's recovery: how far it came, and that a killed run is continued."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LockedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.site import state as site_state
from builders import NOW, make_config

POINT = "20261124_120000"
M = {"mode": "m"}
PASSED = [{"name": "tables", "result": "PASS", "detail": "x"}]


def steps(root: Path, *names: str, **more: Any) -> site_state.Recovery:
    assert names
    for number, name in enumerate(names):
        now = NOW + timedelta(seconds=number)
        found = site_state.begin(make_config(root), name, site_state.Goal(POINT), checks=PASSED, now=now, **more)
    return found


def whole(phases: Any) -> str:
    return json.dumps({"point": "x", "rehearsal": False, "finished_at": "", "phases": phases})


def test_nothing_is_remembered_at_first(tmp_path: Path) -> None:
    assert site_state.read(make_config(tmp_path)) is None
    assert site_state.done(None, POINT) == ()
    assert not site_state.unfinished(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"point": "x"}',
        "{",
        "[" * 200_000,
        whole([7]),
        whole([{"name": "build"}]),
        whole([{"name": "build", "started_at": 7}]),
        whole([{"name": "a", "started_at": "b", "checks": [{"name": 1}]}]),
        whole({}),
        '{"point": 7, "rehearsal": false, "finished_at": "", "phases": []}',
    ],
)
def test_what_cannot_be_read_is_nothing(tmp_path: Path, text: str) -> None:
    one = make_config(tmp_path)
    one.state.mkdir()
    (one.state / site_state.FILE).write_text(text)
    assert site_state.read(one) is None
    (one.state / site_state.FILE).write_text(whole([{"name": "build", "started_at": "now", "mode": "m"}]))
    assert site_state.read(one) == site_state.Recovery("x", False, "", (site_state.Phase("build", "now", facts=M),))


def test_each_phase_ends_where_the_next_begins(tmp_path: Path) -> None:
    found = steps(tmp_path, "build", "configure", "database")
    assert [(phase.name, phase.started_at, phase.finished_at) for phase in found.phases] == [
        ("build", "2026-11-24T12:00:00.000Z", "2026-11-24T12:00:01.000Z"),
        ("configure", "2026-11-24T12:00:01.000Z", "2026-11-24T12:00:02.000Z"),
        ("database", "2026-11-24T12:00:02.000Z", ""),
    ]
    assert site_state.read(make_config(tmp_path)) == found
    assert site_state.done(found, POINT) == ("build", "configure")


def test_a_run_that_was_killed_is_gone_on_with_and_its_cut_phase_is_not_done(tmp_path: Path) -> None:
    steps(tmp_path, "build", "database")
    found = site_state.begin(make_config(tmp_path), "build", site_state.Goal(POINT), now=NOW + timedelta(hours=1))
    assert [phase.name for phase in found.phases] == ["build", "database", "build"]
    assert found.phases[0].started_at == "2026-11-24T12:00:00.000Z", "the clock runs from the first run"
    assert site_state.done(found, POINT) == ("build",)
    assert site_state.done(found, "20261123_120000") == ()


def test_another_point_or_a_finished_recovery_begins_anew(tmp_path: Path) -> None:
    steps(tmp_path, "build", "database")
    other = site_state.begin(make_config(tmp_path), "build", site_state.Goal("20261123_120000"), now=NOW)
    assert (other.point, [phase.name for phase in other.phases]) == ("20261123_120000", ["build"])
    ended = site_state.begin(make_config(tmp_path), "", site_state.Goal("20261123_120000"), finished=True, now=NOW)
    assert (ended.finished_at, site_state.unfinished(ended)) == ("2026-11-24T12:00:00.000Z", False)
    again = site_state.begin(make_config(tmp_path), "build", site_state.Goal("20261123_120000"), now=NOW)
    assert (again.finished_at, len(again.phases)) == ("", 1)


def test_checks_of_a_phase_that_was_done_twice_are_those_of_the_last_time(tmp_path: Path) -> None:
    steps(tmp_path, "build", "database", "build")
    later = [{"name": "engine", "result": "PASS", "detail": "y"}]
    found = site_state.begin(
        make_config(tmp_path), "", site_state.Goal(POINT), checks=later, facts={"mode": "m"}, now=NOW
    )
    assert [check.as_dict() for check in site_state.checks_of(found)] == [*later, *PASSED]
    assert found.phases[-1].as_dict()["mode"] == "m"


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("tables", "checks[0]): wants a mapping, has 'tables'"),
        ({"name": "tables"}, "checks[0]): lacks result"),
        ({"name": "tables", "result": 1}, "checks[0].result): wants str, has 1"),
    ],
)
def test_a_malformed_check_is_refused_by_its_field(tmp_path: Path, check: Any, words: str) -> None:
    steps(tmp_path, "build")
    with pytest.raises(UsageError) as error:
        site_state.begin(make_config(tmp_path), "", site_state.Goal(POINT), checks=[check], now=NOW)
    assert words in str(error.value)


def test_of_two_site_recoveries_at_once_the_second_does_nothing(tmp_path: Path) -> None:
    """Both were assessed before either began: the second would put aside what the first one brought back."""
    config = make_config(tmp_path)
    first, second = "2026-11-24T12:00:00.000Z", "2026-11-24T12:00:05.000Z"
    begun = parse_time("2026-11-24T12:00:10.000Z")
    site_state.begin(config, "build", site_state.Goal("p"), since=first, now=begun)
    kept = site_state.read(config)
    with pytest.raises(LockedError, match=r"another run .*\(build, begun at 2026-11-24T12:00:10.*nothing was done"):
        site_state.begin(config, "build", site_state.Goal("p"), since=second, now=begun)
    assert site_state.read(config) == kept
    later = "2026-11-24T12:30:00.000Z"
    found = site_state.begin(
        config, "build", site_state.Goal("p"), since=later, now=parse_time("2026-11-24T12:30:09.000Z")
    )
    assert found.phases[-1].started_at == "2026-11-24T12:30:09.000Z", "one that was killed is continued"
