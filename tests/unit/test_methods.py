# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods of the database's backups: a backup is proved and restored by the one that its manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError, present
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods import registry
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.base import Method, Restoration, Restored
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config, publish, store


class Invented(Method):
    """A method that keeps a diary; its backups reach an hour further than the instant at which they were taken."""

    name = "invented"

    def __init__(self) -> None:
        self.diary: list[str] = []

    def take(self, run: Opened, *, log: Any, override: bool = False) -> manifest.Manifest:
        self.diary.append(f"take for {run.config.stack}, override {override}")
        return present(self.backup)

    backup: Optional[manifest.Manifest] = None

    def levels(
        self, settings: Any, taken: manifest.Manifest, place: Path, level: str, log: Any, _: Any
    ) -> Iterator[Check]:
        self.diary.append(f"prove {taken.id} at {level}")
        yield Check("invented", PASS, "all of it")

    def reaches(self, taken: manifest.Manifest, wanted: Optional[datetime]) -> datetime:
        return min(filter(None, (wanted, taken.taken_at + timedelta(hours=1))))

    def steps(self, taken: manifest.Manifest, wanted: Optional[datetime], live: str) -> tuple[str, ...]:
        return (f"bring {live} back to {self.reaches(taken, wanted):%H:%M}",)

    def restore(self, wanted: Restoration) -> Restored:
        self.diary.append(f"restore {wanted.manifest.id}")
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
    assert registry.of(taken).reaches(taken, None) == taken.taken_at


def test_a_method_that_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(physical\): there is logical.*A newer Lifeboat may know it"):
        registry.of(of_method(tmp_path, "physical"))
    with pytest.raises(UsageError, match="'physical' is not one of logical"):
        make_config(tmp_path, database={"method": "physical"})


def test_settings_offer_what_the_registry_has() -> None:
    assert tuple(registry.METHODS) == config.METHODS
    assert {name: method.name for name, method in registry.METHODS.items()} == {name: name for name in config.METHODS}


def test_an_invented_method_takes_proves_plans_and_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invented: Invented
) -> None:
    settings = make_config(tmp_path, database={"method": "invented"})
    taken = of_method(tmp_path, "invented")
    invented.backup = taken

    class Quiet:
        def reap(self) -> int:
            return 0

    monkeypatch.setattr(database_server, "connect", lambda *_: Quiet())
    assert components.COMPONENTS["database"].take(Opened(settings), True, print).id == taken.id
    report = operations_verify.verify(Opened(settings), taken.id, "archive", log=lambda _: None)
    assert "invented" in str(report)
    entry = next(item for item in catalog.entries(store(tmp_path), "database", settings.stack))
    steps = database_plan._steps(settings, entry, [], "swap", taken.taken_at + timedelta(minutes=30))
    assert f"bring the database back to {taken.taken_at + timedelta(minutes=30):%H:%M}" in steps
    done = database_recovery.restore_database(Opened(settings), taken.id, fresh=False, stamp="S", log=print)
    assert (done.quarantined_database, [check.name for check in done.checks]) == (
        "aside",
        ["checksums", "invented"],
    )
    assert invented.diary == ["take for shop, override True", f"prove {taken.id} at archive", f"restore {taken.id}"]
