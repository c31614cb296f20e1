# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of continuous protection: what status must have said, what was never received, and what is started again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import continuous, database, fault
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Gap
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config

GAP = Gap("7", 1, "0/5000000", "0/7000000", "the WAL between was not received: the slot or the spool was lost", NOW)
LOT = random.Random(1)  # noqa: S311 - noise, no secret
UNIT = "lifeboat-wal-shop.service"


class Protected:
    """A stack with a receiver. blind: status passes whatever happens. bases: whether the watch takes a base; records:
    whether the sender records a gap. late: looks until something behind it can be gone back to. offers: an instant in
    it leads somewhere. keeps: the server removes no WAL."""

    def __init__(self) -> None:
        self.receives = self.slot = self.based = True
        self.blind = self.offers = self.keeps = self.theirs = self.deaf = False
        self.records, self.bases = True, True
        self.late = self.looks = 0
        self.holes: tuple[Any, ...] = (SimpleNamespace(start=0x5000000, end=0x7000000),)
        self.lacking = 1_200_000
        self.gaps: tuple[Gap, ...] = ()
        self.done: list[str] = []
        self.sent: list[datetime] = []
        self.slept: list[float] = []

    # The server.

    def read(self, _server: Any) -> Any:
        pid = 7 if self.receives and self.slot else None
        ours = SimpleNamespace(pid=pid, theirs="process 9" if self.theirs else "") if self.slot else None
        return SimpleNamespace(ours=ours, others_slots=["standby2"] if self.keeps else [])

    def execute(self, sql: str, **_: Any) -> list[Any]:
        if "pg_wal_lsn_diff" in sql:
            return [{"bytes": self.lacking, "position": "0/5000000"}] if self.slot else []
        self.done.append(sql.split("(")[1].strip("(") if "pg_switch_wal" in sql else sql)
        return [None]

    def drop_slot(self, _server: Any) -> bool:
        self.done.append("drop the slot")
        self.slot = self.receives = False
        return True

    def broken(self, *_: Any) -> bool:
        return "CHECKPOINT;" in self.done and not self.keeps

    # The host.

    def systemctl(self, *arguments: str) -> None:
        self.done.append(" ".join(arguments))
        if arguments[0] in ("stop", "kill"):
            self.receives = False
        elif not self.deaf:
            self.receives = self.slot = True
            if "drop the slot" in self.done and self.records:
                self.gaps, self.based = (GAP,), self.bases

    def docker(self, *arguments: str) -> None:
        self.done.append(" ".join(arguments[2:]))
        self.receives = False

    # What Lifeboat knows.

    def status(self, *_: Any) -> Any:
        whole = {
            "wal receiver": self.receives or self.blind, "wal slot": self.slot or self.blind,
            "wal base": self.based, "wal gaps": self.based,
        }  # fmt: skip
        checks = [Check(name, PASS if good else FAIL, f"{name} in words") for name, good in whole.items()]
        return SimpleNamespace(checks=checks)

    def route(self, *_: Any) -> Any:
        if self.offers:
            return SimpleNamespace(base=SimpleNamespace(id="base_backup_20261124_120000"))
        raise UsageError("go to an instant", "it", f"it is in a gap: {GAP.why}")

    def known(self, _run: Opened) -> Any:
        before = [
            SimpleNamespace(run=SimpleNamespace(hole=hole), since=NOW - timedelta(hours=1)) for hole in self.holes
        ]
        self.looks += 1
        behind = SimpleNamespace(run=SimpleNamespace(hole=None), since=NOW + timedelta(seconds=1))
        windows = [*before, *([behind] if self.looks > self.late else [])]
        return SimpleNamespace(catalogue=SimpleNamespace(windows=windows, route=self.route))


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Protected]:
    stack = Protected()
    times = itertools.count(0, 5)
    until = SimpleNamespace(sleep=stack.slept.append, monotonic=lambda: float(next(times)))
    monkeypatch.setattr(continuous, "time", until)
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setattr(continuous.database_server, "of", lambda _run: stack)
    monkeypatch.setattr(continuous.preflight, "read", stack.read)
    monkeypatch.setattr(continuous.receiver, "drop_slot", stack.drop_slot)
    monkeypatch.setattr(continuous.receiver, "broken", stack.broken)
    monkeypatch.setattr(continuous.receiver, "spools", lambda _config: [tmp_path])
    monkeypatch.setattr(continuous.send, "ask", lambda _server: SimpleNamespace(at=NOW))
    monkeypatch.setattr(continuous.send, "ledger", lambda _config: SimpleNamespace(gaps=stack.gaps))
    monkeypatch.setattr(continuous.instant, "send_until", lambda _run, until, _log: stack.sent.append(until))
    monkeypatch.setattr(continuous.continuous, "systemctl", stack.systemctl)
    monkeypatch.setattr(continuous.continuous, "status", stack.status)
    monkeypatch.setattr(continuous.instants, "known", stack.known)
    monkeypatch.setattr(continuous.drill_service, "docker", stack.docker)
    monkeypatch.setattr(continuous.database, "empty", lambda *_: "12 entries of /data deleted")
    yield stack


def opened(root: Path, **changes: Any) -> Opened:
    return Opened(make_config(root, environment="drill", wal={"enabled": True}, **changes))


def prepared(run: Opened, name: str, inside: Optional[Any] = None) -> str:
    chosen = fault.choose(run.config, "database", name)
    with fault.prepared(run, chosen, lambda _: None) as proof:
        if inside:
            inside()
    return proof


@pytest.mark.parametrize("runtime", ["compose", "host"])
def test_the_receiver_is_back_once_and_away_when_the_database_is_lost(
    stack: Protected, tmp_path: Path, runtime: str
) -> None:
    run = opened(tmp_path)
    run = Opened(replace(run.config, runtime=replace(run.config.runtime, type=runtime)))
    lost: list[str] = []

    def loses() -> None:
        assert not stack.receives
        lost.append(continuous.lose(run, LOT, lambda _: None))

    proof = prepared(run, "receiver_killed", loses)
    kill = "kill lifeboat-wal-shop" if runtime == "compose" else f"kill --signal=KILL {UNIT}"
    assert stack.done == [kill, f"stop {UNIT}", f"start --no-block {UNIT}"] * 2
    assert stack.slept == [continuous.AWAY] * 2
    assert stack.sent == [NOW], "what the slot held has arrived before the receiver is killed again"
    assert proof.count("status said: FAIL wal receiver: wal receiver in words") == 2
    assert "the slot held 1.2 MB meanwhile, and all of it arrived" in proof
    assert lost == [
        "12 entries of /data deleted; 1.2 MB of WAL from 0/5000000 on was in its slot only, and never arrived"
    ]


@pytest.mark.parametrize("name", ["receiver_killed", "slot_lost"])
def test_a_status_that_says_nothing_is_no_drill(stack: Protected, tmp_path: Path, name: str) -> None:
    stack.blind = True
    with pytest.raises(LifeboatError, match=r"it says PASS wal (receiver|slot)"):
        prepared(opened(tmp_path), name)
    assert stack.done[-1] == f"start --no-block {UNIT}", "the receiver is started all the same"


@pytest.mark.parametrize("name", ["receiver_killed", "slot_lost"])
@pytest.mark.parametrize("how", ["receives", "slot", "theirs"])
def test_what_does_not_receive_cannot_be_broken(stack: Protected, tmp_path: Path, name: str, how: str) -> None:
    setattr(stack, how, how == "theirs")
    with pytest.raises(UsageError, match="the receiver does not receive"):
        prepared(opened(tmp_path), name)
    assert stack.done == [f"start --no-block {UNIT}"]


def test_a_receiver_that_does_not_come_back_ends_it(stack: Protected, tmp_path: Path) -> None:
    stack.deaf = True
    with pytest.raises(LifeboatError, match="wal receiver in words"):
        prepared(opened(tmp_path), "receiver_killed", lambda: pytest.fail("nothing may be lost"))


def test_nothing_is_lost_where_something_receives_or_all_was_received(stack: Protected, tmp_path: Path) -> None:
    run = opened(tmp_path)
    with pytest.raises(LifeboatError, match="something receives"):
        continuous.lose(run, LOT, lambda _: None)
    stack.receives, stack.lacking = False, 0
    with pytest.raises(LifeboatError, match="all that the server wrote was received"):
        continuous.lose(run, LOT, lambda _: None)


def test_a_slot_that_is_dropped_leaves_a_gap_that_the_window_says(stack: Protected, tmp_path: Path) -> None:
    stack.late = 2
    proof = prepared(opened(tmp_path), "slot_lost")
    assert stack.looks == 3
    assert stack.done[:2] == [f"stop {UNIT}", "drop the slot"]
    assert stack.done[-1] == f"start --no-block {UNIT}"
    assert "CHECKPOINT;" in stack.done
    assert "status said: FAIL wal slot: wal slot in words" in proof
    assert "the WAL from 0/5000000 to 0/7000000 was never received" in proof
    assert f"it is in a gap: {GAP.why}" in proof


RED = [
    ("no gap is recorded", {"records": False}, "no gap was recorded"),
    ("the watch takes no base", {"bases": False}, "wal base: wal base in words"),
    ("the server keeps the WAL", {"keeps": True}, "for the slots standby2"),
    (
        "nothing behind the gap",
        {"late": 1000},
        "nothing behind the gap from 0/5000000 to 0/7000000 can be gone back to",
    ),
    ("the window has no hole", {"holes": ()}, "does not say the gap from 0/5000000 to 0/7000000"),
    ("the window has another hole", {"holes": (SimpleNamespace(start=1, end=2),)}, "does not say the gap"),
    ("an instant in the gap is offered", {"offers": True}, "base_backup_20261124_120000 would lead there"),
]


@pytest.mark.parametrize(("changes", "words"), [case[1:] for case in RED], ids=[case[0] for case in RED])
def test_a_gap_that_nobody_is_warned_of_is_seen(
    stack: Protected, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    for name, value in changes.items():
        setattr(stack, name, value)
    with pytest.raises(LifeboatError, match=words):
        prepared(opened(tmp_path), "slot_lost", lambda: pytest.fail("nothing may be broken"))
    assert f"start --no-block {UNIT}" in stack.done


def test_a_gap_of_before_is_not_taken_for_this_one(stack: Protected, tmp_path: Path) -> None:
    stack.gaps, stack.records = (replace(GAP, at=NOW - timedelta(hours=1)),), False
    with pytest.raises(LifeboatError, match="no gap was recorded"):
        prepared(opened(tmp_path), "slot_lost")


def test_nothing_comes_before_another_fault_and_nothing_on_another_host(stack: Protected, tmp_path: Path) -> None:
    assert prepared(opened(tmp_path), "killed") == ""
    production = make_config(tmp_path, wal={"enabled": True})
    with pytest.raises(UsageError, match="nothing was touched"):
        prepared(Opened(production), "receiver_killed")
    assert stack.done == []
    assert database.SCENARIO == continuous.SCENARIO
