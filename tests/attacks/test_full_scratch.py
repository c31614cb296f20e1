# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who owns a table fills the disk of the machine that proves the backup.

A check's function writes rows without an end as soon as it runs in another database than its own, which is where a
verification restores it. The control is the same verification without the bound, as it was; and a large honest database
is proved beside it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.database import scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import Stack, docker, say

pytestmark = [pytest.mark.docker, pytest.mark.slow]
MIB = 1 << 20
BEYOND = 256 * MIB  # the product's is 8 GiB, which takes long to write
WRITTEN = 1500 * MIB
STEPS = 30  # with a pause after each, so that a busy machine sees it in time
PAGE = 8192
ROWS = """
CREATE TABLE {schema}.many (v text);
ALTER TABLE {schema}.many ALTER COLUMN v SET STORAGE PLAIN;
"""
HOSTILE = """
CREATE FUNCTION hostile.fill(v int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  IF current_database() <> 'hostile' THEN
    FOR step IN 1..{steps} LOOP
      INSERT INTO hostile.many SELECT repeat('x', 7900) FROM generate_series(1, {rows});
      PERFORM pg_sleep(0.4);
    END LOOP;
  END IF;
  RETURN true;
END $$;
CREATE TABLE hostile.t (v int CHECK (hostile.fill(v)));
INSERT INTO hostile.t VALUES (1);
"""
HONEST = "INSERT INTO honest.many SELECT repeat('x', 7900) FROM generate_series(1, 50000);"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    one = Stack(tmp_path_factory.mktemp("project"))
    with one.up():
        for name, sql in (("hostile", HOSTILE.format(steps=STEPS, rows=WRITTEN // STEPS // PAGE)), ("honest", HONEST)):
            one.psql(f"CREATE DATABASE {name}; CREATE ROLE {name} LOGIN;")
            one.psql(f"CREATE SCHEMA {name} AUTHORIZATION {name};", name)
            one.psql(ROWS.format(schema=name) + sql, name, user=name)
        yield one


class Peak:
    """The most that the volumes of the stack's throw-away container held, seen from outside."""

    def __init__(self, stack: Stack) -> None:
        self._label = f"label={scratch.LABEL}={stack.stack}"
        self.bytes, self._end = 0, threading.Event()

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        form = '{{range .Mounts}}{{if .RW}}{{.Source}}{{"\\n"}}{{end}}{{end}}'
        while not self._end.wait(0.2):
            for name in docker("ps", "-q", "--filter", self._label).split():
                places = docker("inspect", "--format", form, name, check=False).split()
                self.bytes = max(self.bytes, sum(map(size, places)))


def size(place: str) -> int:
    found = 0
    for folder, _folders, files in os.walk(place):
        for file in files:
            with contextlib.suppress(OSError):
                found += os.lstat(f"{folder}/{file}").st_blocks * 512
    return found


def proved(stack: Stack, tmp_path: Path, name: str) -> tuple[list[tuple[str, str, str]], int]:
    others = [other for other in ("hostile", "honest") if other != name]
    settings = stack.config(tmp_path, database={"name": name, "exclude": others})
    taken = dump.take(Opened(settings), log=say)
    with Peak(stack) as peak:
        found = verify.verify(Opened(settings), taken.id, "restore", log=say)
    checks = [(check.name, check.result, check.detail) for check in found.checks if check.result != PASS]
    assert not list(scratch._FULL), "nothing is remembered"
    return checks, peak.bytes


@pytest.fixture
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_BEYOND", BEYOND)
    monkeypatch.setattr(scratch, "_COUNTED_EVERY", 0.5)


def test_control_without_a_bound_it_writes_all_it_wants(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "bounded", lambda name, size: contextlib.nullcontext())
    _checks, peak = proved(stack, tmp_path, "hostile")
    assert peak > WRITTEN


@pytest.mark.usefixtures("smaller")
def test_a_throw_away_server_that_writes_without_an_end_is_ended(stack: Stack, tmp_path: Path) -> None:
    checks, peak = proved(stack, tmp_path, "hostile")
    assert [result for _name, result, _detail in checks] == [COULD_NOT_VERIFY] * 2, "and of the other database nothing"
    assert "the throw-away server was ended: it wrote" in checks[0][2]
    assert peak < WRITTEN
    left = docker("ps", "-aq", "--filter", f"label={scratch.LABEL}={stack.stack}")
    assert left == "", "and what it wrote is gone"


@pytest.mark.parametrize("name", ["_free", "_free_inside"], ids=["this machine sees it", "the container tells"])
def test_it_leaves_the_disk_what_the_machine_needs(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever size the backup says that it has."""
    real = getattr(scratch, name)

    def free(*arguments: Any) -> tuple[int, int] | None:
        """Of a disk that only the throw-away server writes to: other tests fill this one, too."""
        found, used = real(*arguments), sum(size(volume.source) for volume in arguments[-1])
        return (600 * MIB - used, 100 * found[1]) if found else None

    monkeypatch.setattr(scratch, "_free", lambda volumes: None)  # as where the engine is elsewhere
    monkeypatch.setattr(scratch, "_ASKED_EVERY", 0.3)
    monkeypatch.setattr(scratch, name, free)
    checks, peak = proved(stack, tmp_path, "hostile")
    assert [result for _name, result, _detail in checks] == [COULD_NOT_VERIFY] * 2, "and of the other database nothing"
    assert "of the disk were left" in checks[0][2]
    assert peak < WRITTEN


@pytest.mark.usefixtures("smaller")
def test_a_large_honest_database_is_proved(stack: Stack, tmp_path: Path) -> None:
    checks, peak = proved(stack, tmp_path, "honest")
    assert checks == []
    assert peak > 50_000 * PAGE > BEYOND, "it is larger than what a small one may write"
