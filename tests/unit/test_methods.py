# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods of the database's backups: a backup is proved and restored by the one that its manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.assess import Assessment
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods import registry
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.base import (
    Method,
    Restoration,
    Restored,
    ServerMode,
    Window,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, manifest, points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, publish, store

HOUR = timedelta(hours=1)


class Invented(Method):
    """A method that keeps a diary; its backups reach an hour further than the instant at which they were taken, and
    come back into a server that is made for them."""

    name = "invented"

    def __init__(self) -> None:
        self.diary: list[str] = []

    def levels(
        self, settings: Any, taken: manifest.Manifest, place: Path, level: str, log: Any, _: Any
    ) -> Iterator[Check]:
        self.diary.append(f"prove {taken.id} at {level}")
        yield Check("invented", PASS, "all of it")

    def reaches(self, taken: manifest.Manifest, target: Optional[datetime]) -> Window:
        return Window(taken.taken_at, taken.taken_at + HOUR)

    def mode(self, assessment: Assessment) -> ServerMode:
        return "empty"

    def steps(self, source: str, live: str) -> tuple[str, ...]:
        return (f"bring {live} back to {source}",)

    def restore(self, wanted: Restoration) -> Restored:
        self.diary.append(f"restore {wanted.manifest.id} to {wanted.until:%H:%M}")
        wanted.back()
        return Restored((Check("invented", PASS, "all of it"),), "aside")


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> Invented:
    made = Invented()
    monkeypatch.setitem(registry.METHODS, made.name, made)
    monkeypatch.setattr(config, "METHODS", (*config.METHODS, made.name))
    return made


def of_method(tmp_path: Path, name: str) -> manifest.Manifest:
    """A published backup whose manifest names the method; with an empty name it has no such field."""
    return publish(tmp_path, details={"method": name} if name else {})


@pytest.mark.parametrize("name", ["", "logical"])
def test_a_backup_that_names_no_method_is_logical(tmp_path: Path, name: str) -> None:
    taken = of_method(tmp_path, name)
    assert registry.of(taken).name == "logical"
    assert registry.of(taken).reaches(taken, None) == Window(taken.taken_at, taken.taken_at)


def test_a_method_that_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(physical\): there is logical.*A newer Lifeboat may know it"):
        registry.of(of_method(tmp_path, "physical"))
    with pytest.raises(UsageError, match="'physical' is not one of logical"):
        make_config(tmp_path, database={"method": "physical"})


def test_settings_offer_what_the_registry_has() -> None:
    assert tuple(registry.METHODS) == config.METHODS
    assert {name: method.name for name, method in registry.METHODS.items()} == {name: name for name in config.METHODS}


def test_an_invented_method_proves_plans_and_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invented: Invented
) -> None:
    settings = make_config(tmp_path, database={"method": "invented"})
    taken = of_method(tmp_path, "invented")

    class Quiet:
        def reap(self) -> int:
            return 0

    monkeypatch.setattr(database_server, "connect", lambda *_: Quiet())
    report = operations_verify.verify(Opened(settings), taken.id, "archive", log=lambda _: None)
    assert "invented" in str(report)
    entry = next(item for item in catalog.entries(store(tmp_path), "database", settings.stack))
    steps = database_plan._steps(settings, entry, [], "swap", taken.taken_at + timedelta(minutes=30))
    until = format_time(taken.taken_at + timedelta(minutes=30))
    assert f"bring the database back to {taken.id} ({until})" in steps
    done = database_recovery.restore_database(Opened(settings), taken.id, fresh=False, stamp="S", log=print)
    assert (done.quarantined_database, [check.name for check in done.checks]) == (
        "aside",
        ["checksums", "invented"],
    )
    assert invented.diary == [f"prove {taken.id} at archive", f"restore {taken.id} to 13:00"]


def test_the_component_takes_and_no_method_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dump, "take", lambda run, *, log, override: asked.append((run.config.stack, override)))
    components.COMPONENTS["database"].take(Opened(make_config(tmp_path)), True, print)
    assert (asked, hasattr(Method, "take")) == ([("shop", True)], False)


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


# (minutes of a window, the one wanted, the newest instant not after it)
WINDOWS = [
    ((0, 60), None, 60),
    ((0, 60), 90, 60),
    ((0, 60), 30, 30),
    ((0, 60), 0, 0),
    ((10, 60), 9, None),
    ((5, 5), 5, 5),
]


@pytest.mark.parametrize(("window", "wanted", "newest"), WINDOWS)
def test_the_newest_instant_of_a_window(
    window: tuple[int, int], wanted: Optional[int], newest: Optional[int]
) -> None:  # fmt: skip
    found = Window(at(window[0]), at(window[1])).newest(None if wanted is None else at(wanted))
    assert found == (None if newest is None else at(newest))


@pytest.fixture
def two(tmp_path: Path, invented: Invented) -> tuple[manifest.Manifest, manifest.Manifest]:
    """One that reaches from 12:00 to 13:00, and a dump of 12:30."""
    return of_method(tmp_path, "invented"), publish(tmp_path, at(30))


# (minutes of the instant that is asked for, which of the two is taken, the instant that it brings back)
BETWEEN = [(20, 0, 20), (30, 1, 30), (45, 0, 45), (60, 0, 60), (80, 0, 60)]


@pytest.mark.parametrize(("wanted", "which", "until"), BETWEEN)
def test_the_backup_that_comes_nearest_to_an_instant_is_chosen(
    tmp_path: Path, two: tuple[manifest.Manifest, ...], wanted: int, which: int, until: int
) -> None:
    found = Sources(Opened(make_config(tmp_path)), "database", "latest", at(wanted), reach=registry.reach)
    chosen, passed = found.choose("latest", at(wanted), lambda entry: "")
    assert (chosen.id, registry.reach(chosen, at(wanted))) == (two[which].id, at(until)), passed
    assert registry.of(two[which]).instant(two[which], at(wanted)) == at(until)


def test_the_next_best_reaches_less_whenever_it_was_taken(tmp_path: Path, two: tuple[manifest.Manifest, ...]) -> None:
    """The dump is the newer one, and comes second: it is of 15 minutes before."""
    found = Sources(Opened(make_config(tmp_path)), "database", "latest", at(45), reach=registry.reach)
    chosen, passed = found.choose("latest", at(45), lambda entry: "it is broken" if entry.id == two[0].id else "")
    assert (chosen.id, [entry.id for entry in passed]) == (two[1].id, [two[0].id])


def test_no_point_is_nearer_than_a_backup_that_reaches_the_instant(
    tmp_path: Path, two: tuple[manifest.Manifest, ...]
) -> None:
    run = Opened(make_config(tmp_path))
    points.seal(run, now=at(31), log=lambda _: None, database=two[1])
    tied = [Sources(run, "database", "latest", at(minutes), reach=registry.reach).tied for minutes in (45, 80)]
    assert tied == ["", two[1].id]


def test_a_backup_of_an_unknown_method_counts_by_its_snapshot(tmp_path: Path) -> None:
    (entry,) = catalog.entries(store(tmp_path), "database", of_method(tmp_path, "unheard").stack)
    assert [registry.reach(entry, at(minutes)) for minutes in (-1, 0, 5)] == [None, NOW, NOW]


ASSESSED = Assessment("damaged", ("a table is missing",), "db", damaged=("shop",), databases=("shop",))


def scope(root: Path, mode: Any = "swap", **changes: Any) -> database_plan.Scope:
    made = database_plan.Scope(Opened(make_config(root)), ASSESSED, mode, "", False, "ask")
    return replace(made, **changes)


def test_a_method_says_how_the_server_has_to_be(tmp_path: Path, two: tuple[manifest.Manifest, ...]) -> None:
    whole, dumped = two
    assert [scope(tmp_path).fitting(backup).mode for backup in (dumped, whole)] == ["swap", "rebuild"]
    assert [scope(tmp_path, mode).fitting(whole).mode for mode in ("none", "start", "fill")] == [
        "none", "start", "rebuild",
    ]  # fmt: skip
    for changes in ({"method": "swap"}, {"named": "shop"}):
        assert scope(tmp_path, **changes).fitting(dumped).mode == "swap"
        with pytest.raises(UsageError, match="brings back the whole server, a fresh one"):
            scope(tmp_path, **changes).fitting(whole)
