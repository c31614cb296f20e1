# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark of a recovery: what it names, what replaces it, what ends it, and what waits for its end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LockedError
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Task
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen, state
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import RECOVERING_OBJECTS, Unfinished
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import Run, make_config

WHOLE = Unfinished("objects_backup_1", additional=("docs", "ruled"), stamp="one")


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return make_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "covers"),
    [
        ({}, True),
        ({"backup": "objects_backup_2"}, True),
        ({"additional": ("docs", "ruled", "more")}, True),
        ({"additional": ("docs",)}, False),
        ({"prefix": "a/"}, False),
        ({"bucket": "docs", "additional": ()}, False),
    ],
)
def test_only_what_brings_back_as_much_replaces_a_mark_and_ends_it(
    settings: Config, change: dict[str, Any], covers: bool
) -> None:
    state.mark(settings, RECOVERING_OBJECTS, dataclasses.replace(WHOLE, empty=True))
    first = state.unfinished(settings, RECOVERING_OBJECTS)
    assert first and first.since
    other = dataclasses.replace(WHOLE, **{"stamp": "two", **change})
    state.mark(settings, RECOVERING_OBJECTS, other)
    now = state.unfinished(settings, RECOVERING_OBJECTS)
    assert now and (now.empty, now.since, now.stamp) == (True, first.since, "one"), "when and how it began is kept"
    assert dataclasses.replace(now, empty=False, since="", stamp="two") == (
        other if covers else dataclasses.replace(WHOLE, stamp="two")
    )
    assert state.complete(settings, RECOVERING_OBJECTS, other) is covers
    assert (state.unfinished(settings, RECOVERING_OBJECTS) is None) is covers


def test_the_whole_store_ends_what_began_with_one_bucket_or_a_prefix(settings: Config) -> None:
    for alone in (Unfinished("b", bucket="docs", prefix="x/"), Unfinished("b", prefix="x/")):
        state.mark(settings, RECOVERING_OBJECTS, alone)
        assert state.complete(settings, RECOVERING_OBJECTS, WHOLE)


def test_the_mark_of_an_earlier_version_says_that_something_is_missing(settings: Config) -> None:
    state.mark(settings, RECOVERING_OBJECTS)
    assert state.unfinished(settings, RECOVERING_OBJECTS) == Unfinished()
    assert Unfinished().begun


def test_a_server_that_was_only_started_does_not_forget_what_began_before(settings: Config) -> None:
    state.mark(settings, RECOVERING_OBJECTS, Unfinished(begun=False))
    first = state.unfinished(settings, RECOVERING_OBJECTS)
    assert first and not first.begun
    state.mark(settings, RECOVERING_OBJECTS, WHOLE)
    state.mark(settings, RECOVERING_OBJECTS, Unfinished(begun=False, empty=True))
    now = state.unfinished(settings, RECOVERING_OBJECTS)
    assert now and (now.backup, now.begun, now.empty) == (WHOLE.backup, True, True)


def test_what_waits_says_what_for_and_the_next_command(settings: Config) -> None:
    state.refuse_while_unfinished(settings, "prune")
    state.mark(settings, RECOVERING_OBJECTS, WHOLE)
    with pytest.raises(LockedError, match=r"of the object storage of objects_backup_1 that began at .* has not ended"):
        state.refuse_while_unfinished(settings, "prune")
    state.refuse_while_unfinished(settings, "start a backup", (state.RECOVERING,))
    (told,) = state.checked(settings)
    assert (told.name, told.result) == ("recovery", FAIL)
    assert "has not ended" in told.detail and f"rm {settings.state / RECOVERING_OBJECTS}" in told.detail


def test_an_empty_store_keeps_the_application_closed(settings: Config) -> None:
    """Nothing is started, and nothing is waited for."""
    state.mark(settings, RECOVERING_OBJECTS, dataclasses.replace(WHOLE, empty=True))
    log: list[str] = []
    (found,) = reopen.reopen(Opened(settings), ["backend"], log=log.append)
    assert (found.name, found.result) == ("services", FAIL)
    assert "the application stays stopped: the object storage was empty" in found.detail
    assert "recover_object_storage again" in found.detail
    assert log == [found.detail]


def test_what_an_earlier_recovery_stopped_is_started_with_the_rest(settings: Config) -> None:
    state.keep(settings, state.STOPPED, '["worker", "seed"]')
    assert state.with_stopped(settings, ["backend", "worker"]) == ["backend", "worker", "seed"]


# --- two recoveries at once ---


def phases(settings: Config, stamp: str, planned: int) -> list[str]:
    """Protect and restore of one run, as its modules do them."""
    done = []
    with state.own_turn(settings, "recover", stamp, planned):
        done.append("protect")
    with state.own_turn(settings, "restore", stamp):
        done.append("restore")
    return done


def test_a_plan_that_was_made_before_another_recovery_does_nothing(settings: Config) -> None:
    """Both were planned while the data was damaged. The second would put the rows aside that were written since."""
    one = two = state.turn(settings).number
    assert phases(settings, "one", one) == ["protect", "restore"]
    with pytest.raises(LockedError, match=r"another run \(restore, at 2.*nothing was done.*Run the same command again"):
        phases(settings, "two", two)
    assert phases(settings, "two", state.turn(settings).number) == ["protect", "restore"], "by a new plan"


@pytest.mark.parametrize("within", ["protect", "restore"])
def test_a_plan_that_was_made_during_another_recovery_does_nothing(settings: Config, within: str) -> None:
    with state.own_turn(settings, "recover", "one", state.turn(settings).number):
        early = state.turn(settings).number
    with state.own_turn(settings, "restore", "one"):
        late = state.turn(settings).number
    with pytest.raises(LockedError, match="nothing was done"):
        phases(settings, "two", early if within == "protect" else late)


def test_of_two_that_take_turns_the_first_one_stops(settings: Config) -> None:
    """The lock is free between the phases of a run."""
    with state.own_turn(settings, "recover", "one", 0):
        pass
    with state.own_turn(settings, "recover", "two", state.turn(settings).number):
        pass
    with pytest.raises(LockedError, match="nothing was done"), state.own_turn(settings, "restore", "one"):
        pytest.fail("it restored")
    with state.own_turn(settings, "restore", "two"):
        pass
    with state.own_turn(settings, "restore", ""):
        pass  # a module that is called without a plan


@pytest.mark.parametrize(
    "module", ["database_protect", "objects_protect", "files_recover", "backend_recover", "frontend_recover"]
)
def test_whatever_is_recovered_by_an_earlier_plan_is_left_as_it_is(
    run: Run, settings: Config, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    with state.own_turn(settings, "restore", "one", 0):
        pass
    before = state.turn(settings)
    monkeypatch.setattr(Task, "plan", lambda *_: SimpleNamespace(stamp="two", turn=0, needed=True, mode="swap"))
    done = run(module, plan={})
    assert done["failed"] and "another run (restore, at 2" in done["cause"], done
    assert done["cause"].endswith("nothing was done")
    assert state.turn(settings) == before


def test_a_run_that_was_killed_had_its_turn(settings: Config) -> None:
    planned = state.turn(settings).number
    with pytest.raises(KeyboardInterrupt), state.own_turn(settings, "recover", "one", planned):
        raise KeyboardInterrupt
    with pytest.raises(LockedError):
        phases(settings, "two", planned)
