# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instant before a drill's fault: what is sent before it is looked for, what is taken, and when there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, LockedError, UnverifiedError
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import instant
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.records import Event
from builders import NOW, Run, make_config
from test_modules_drill import settings

BROKE = "the largest table is dropped"


def event(seconds: float, names: tuple[str, ...] = ("app.items",)) -> Event:
    return Event("DROP TABLE", 918, NOW + timedelta(seconds=seconds), 0xA41607C8, 1, 5, (16384,), names=names)


class Sender:
    """Answers like send.send(), one answer a call; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0

    def send(self, _run: Opened, _log: Any) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(reached=SimpleNamespace(at=answer) if answer else None)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    config = make_config(tmp_path)
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setattr(instant, "_AGAIN", 0.0)
    monkeypatch.setattr(instant.send, "send", Sender(NOW).send)
    yield Opened(replace(config, wal=replace(config.wal, enabled=True)))


def happens(monkeypatch: pytest.MonkeyPatch, *events: Event) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    def happened(_run: Opened, _log: Any, **named: Any) -> list[Event]:
        asked.update(named)
        return list(events)

    monkeypatch.setattr(instant.instants, "happened", happened)
    return asked


def test_what_when_says_of_the_first_loss_since_the_fault_is_taken(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = happens(monkeypatch, event(-3, ("app.older",)), event(1), event(2, ("app.newer",)))
    lines: list[str] = []
    found = instant.find(opened, BROKE, NOW, log=lines.append)
    assert (found.what, found.names, found.transaction, found.before, found.timeline) == (
        "DROP TABLE", ("app.items",), 918, "0/A41607C8", 1,
    )  # fmt: skip
    assert found.at == NOW + timedelta(seconds=1)
    assert found.command == "lifeboat recover database --stack shop --before 0/A41607C8 --timeline 1"
    assert any(found.command in line for line in lines), "as an operator reads it"
    assert asked == {"since": NOW, "rows": 0}


@pytest.mark.parametrize("events", [[], [event(-1)]])
def test_a_fault_that_the_wal_does_not_name_ends_the_drill(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    happens(monkeypatch, *events)
    with pytest.raises(UnverifiedError, match=r"names no loss since .* though this was broken: the largest table"):
        instant.find(opened, BROKE, NOW, log=lambda _: None)


def test_it_is_looked_for_when_all_of_before_was_sent(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(None, NOW - timedelta(seconds=1), NOW)
    monkeypatch.setattr(instant.send, "send", sender.send)
    happens(monkeypatch, event(1))
    instant.find(opened, BROKE, NOW, log=lambda _: None)
    assert sender.calls == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (LockedError("take the lock", "x", "process 7 holds it"), "process 7 holds it"),
        (NOW - timedelta(seconds=1), "not every commit before 2026-11-24T12:00:00.000Z was received"),
    ],
)
def test_what_is_never_sent_ends_it(opened: Opened, monkeypatch: pytest.MonkeyPatch, answer: Any, words: str) -> None:
    monkeypatch.setattr(instant.send, "send", Sender(answer).send)
    happens(monkeypatch, event(1))
    with pytest.raises(LifeboatError, match=words):
        instant.find(opened, BROKE, NOW, log=lambda _: None, patience=0.05)


def test_the_objects_are_looked_at_where_they_are_followed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    monkeypatch.setattr(instant.following, "observe", lambda *_, force: looked.append(force))
    happens(monkeypatch, event(1))
    instant.find(opened, BROKE, NOW, log=lambda _: None)
    assert looked == []
    followed = replace(opened.config, objects=replace(opened.config.objects, bucket="uploads", changes_seconds=60))
    instant.find(Opened(followed), BROKE, NOW, log=lambda _: None)
    assert looked == [True]


def named(config: Config) -> set[tuple[str, str]]:
    return {
        (scenario, known.name)
        for scenario, several in fault.FAULTS.items()
        for known in several
        if instant.named(config, scenario, known.name)
    }


def test_an_instant_is_named_where_a_server_lives_that_is_protected_continuously(
    opened: Opened, tmp_path: Path
) -> None:
    living = ("table_dropped", "database_dropped", "slot_lost")
    assert named(opened.config) == {("database", name) for name in living}
    assert named(make_config(tmp_path)) == set()


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(("check", "wal", "looks"), [(False, True, True), (True, True, False), (False, False, False)])
def test_drill_instant_never_changes_anything_and_looks_where_something_was_broken(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool, wal: bool, looks: bool
) -> None:
    happens(monkeypatch, event(1))
    broke = {"fault": BROKE, "name": "table_dropped", "proof": "gone", "injected_at": clock.format_time(NOW)}
    given = settings(tmp_path, wal={"enabled": wal})
    answer = run("drill_instant", settings=given, scenario="database", fault=broke, check=check)
    assert (answer["changed"], answer["scenario"]) == (False, "database")
    assert answer["loss"].get("before", "") == ("0/A41607C8" if looks else "")
