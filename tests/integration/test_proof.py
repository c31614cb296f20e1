# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server that is written to while it is dumped: its base and WAL, replayed to the cut of the dump, are equal.

And red, each by itself: one row, one byte, one piece, one note, two notes, the timeline, the cut by one COMMIT.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import present
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import cut as wal_cut
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.standing import Standing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import MANIFEST
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails, Cut, DatabaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import segments
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import format_lsn, parse_lsn
from postgres_stack import SUPERUSER, Stack, docker
from test_standing import Protected, prepared

COMMITTED = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: COMMIT")
# One transaction after the other, without an end.
WRITES = """DO $$ BEGIN LOOP
  INSERT INTO proof (note) VALUES ('x'), ('y');
  DELETE FROM proof WHERE id = (SELECT min(id) FROM proof) AND (SELECT count(*) > 500 FROM proof);
  {commit}
END LOOP; END $$"""


class Proved:
    """A protected stack that was dumped while it was written to."""

    def __init__(self, protected: Protected) -> None:
        self.protected, self.stack, self.run = protected, protected.stack, protected.run
        self.repo = repositories.repository_of(self.run)

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Meanwhile four sessions write; two of them do not wait for their COMMITs, and overtake the others."""
        self.stack.psql("CREATE TABLE IF NOT EXISTS proof (id bigserial PRIMARY KEY, note text)")
        writers = [
            subprocess.Popen(
                ["docker", "exec", self.stack.container, "psql", "-qXU", SUPERUSER, "-d", "postgres",
                 "-c", f"SET synchronous_commit = {how}", "-c", WRITES.format(commit="COMMIT;")],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for how in ("on", "on", "off", "off")
        ]  # fmt: skip
        try:
            time.sleep(2)
            yield
        finally:
            sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$%'"
            self.stack.psql(sql)
            for writer in writers:
                writer.wait(60)

    def dumped(self) -> Manifest:
        return dump.take(self.run, log=print)

    @property
    def base(self) -> catalog.Entry:
        return catalog.entries(self.repo, "base", self.run.config.stack)[-1]

    def verified(self) -> list[Check]:
        return list(verify.verify(self.run, "base", "restore", log=print).checks)

    def commits(self, until: str) -> list[int]:
        """Where every COMMIT lies since the base."""
        start = present(self.base.manifest).detailed(BaseDetails).start
        words = f'pg_waldump --path "$PGDATA/pg_wal" --start {start} --end {until} --rmgr=Transaction'
        return [parse_lsn(lsn) for lsn in COMMITTED.findall(docker("exec", self.stack.container, "sh", "-c", words))]

    def rewrite(self, manifest: Manifest, cut: Cut) -> None:
        """The dump's manifest with another cut, sealed as any."""
        details = {**manifest.details, "cut": typed.plain(cut)}
        path = Path(self.repo.location("database", manifest.id), MANIFEST)
        path.chmod(0o600)
        path.write_bytes(replace(manifest, details=details).to_bytes())

    def files(self, pattern: str) -> list[Path]:
        (folder,) = {Path(self.repo.location("wal", identity)) for identity in self.repo.ids("wal")}
        return sorted(folder.glob(pattern))

    @property
    def piece(self) -> Path:
        """The first one that is not in the base, too: without it there is no way to the cut."""
        base = present(self.base.manifest).detailed(BaseDetails)
        segment = segments.segment_at(base.timeline, parse_lsn(base.stop), base.segment_size).name
        return next(path for path in self.files("*.zst*") if path.name[:24] > segment)


@pytest.fixture
def proved(stack: Stack, tmp_path: Path) -> Iterator[Proved]:
    with prepared(Protected(stack, tmp_path)) as protected:
        made = Proved(protected)
        try:
            yield made
        finally:
            stack.psql("DROP TABLE IF EXISTS proof")


def cut_of(manifest: Manifest) -> Cut:
    return present(manifest.detailed(DatabaseDetails).cut)


def red(checks: list[Check]) -> list[tuple[str, str]]:
    return [(check.name, check.result) for check in checks if check.result != PASS]


@pytest.mark.parametrize("time_of_it", range(3))
def test_what_was_dumped_while_it_was_written_to_is_replayed_equal(proved: Proved, time_of_it: int) -> None:
    with proved.written():
        manifest = proved.dumped()
        time.sleep(1)  # what is committed later is not in it
    assert cut_of(manifest).lsn, cut_of(manifest).why
    proved.protected.sent()
    checks = proved.verified()
    assert red(checks) == []
    assert [check.name for check in checks][2:5] == ["replay", "cut", "promotion"]
    assert {"tables", "sequences", "schema", "roles", "amcheck"} <= {check.name for check in checks}
    assert proved.base.proven_at is not None


def test_a_quiet_server_has_a_cut(proved: Proved) -> None:
    proved.protected.add()
    manifest = proved.dumped()
    assert cut_of(manifest).lsn
    proved.protected.sent()
    assert red(proved.verified()) == []


def test_what_a_replay_leaves_empty_is_not_compared(proved: Proved) -> None:
    """Nor the sequence of such a table, which is unlogged, too, from PostgreSQL 15 on, and begins anew."""
    proved.stack.psql("CREATE UNLOGGED TABLE proof (id bigserial PRIMARY KEY, note text)")
    proved.stack.psql("INSERT INTO proof (note) SELECT 'x' FROM generate_series(1, 100)")
    proved.protected.add()
    proved.dumped()
    proved.protected.sent()
    checks = proved.verified()
    assert red(checks) == []
    (tables,) = [check.detail for check in checks if check.name == "tables"]
    assert "without the unlogged table public.proof" in tables


def test_without_a_cut_the_backup_is_good_and_the_proof_says_why(
    proved: Proved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_cut, "_TOOL", "no_such_pg_waldump")
    monkeypatch.setattr(wal_cut, "_ELSEWHERE", ())
    manifest = proved.dumped()
    assert "is not there" in cut_of(manifest).why
    (entry,) = catalog.entries(proved.repo, "database", proved.run.config.stack)
    assert entry.good
    proved.protected.sent()
    assert red(proved.verified()) == [("cut", COULD_NOT_VERIFY)]
    assert catalog.proved(proved.base) == "archive", "it was replayed all the same"


# Red, each by itself.


@pytest.fixture
def dumped(proved: Proved) -> tuple[Proved, Manifest]:
    with proved.written():
        manifest = proved.dumped()
    proved.protected.add()
    proved.protected.sent()
    return proved, manifest


def test_one_row_that_is_changed(dumped: tuple[Proved, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    proved, _manifest = dumped
    real = Standing.promote

    def promote(room: Standing) -> None:
        real(room)
        sql = "UPDATE public.proof SET note = 'z' WHERE id = (SELECT max(id) FROM public.proof);"
        room.server.execute(sql, database="postgres", attempted="change one row")

    monkeypatch.setattr(Standing, "promote", promote)
    assert red(proved.verified()) == [("tables", FAIL)]
    assert not proved.base.good


def test_the_cut_one_commit_further_and_one_before(dumped: tuple[Proved, Manifest]) -> None:
    proved, manifest = dumped
    cut = cut_of(manifest)
    there = proved.commits(cut.until)
    number = there.index(parse_lsn(cut.lsn))
    for other in (number - 1, number + 1):
        moved = format_lsn(there[other])
        proved.rewrite(manifest, replace(cut, lsn=moved, until=max(cut.until, moved, key=parse_lsn)))
        assert red(proved.verified()) == [("cut", FAIL)]


def test_another_timeline(dumped: tuple[Proved, Manifest]) -> None:
    proved, manifest = dumped
    proved.rewrite(manifest, replace(cut_of(manifest), timeline=2))
    assert red(proved.verified()) == [("replay", COULD_NOT_VERIFY)]


def flipped(proved: Proved) -> None:
    path = proved.piece
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def piece(proved: Proved) -> None:
    proved.piece.unlink()


def note(proved: Proved) -> None:
    proved.files("note-*.json")[0].unlink()


def notes(proved: Proved) -> None:
    first, second = proved.files("note-*.json")[:2]
    one, other = first.read_bytes(), second.read_bytes()
    for path, data in ((first, other), (second, one)):
        path.chmod(0o600)
        path.write_bytes(data)


@pytest.mark.parametrize("damage", [flipped, piece, note, notes])
def test_damage_of_the_wal(dumped: tuple[Proved, Manifest], damage: Callable[[Proved], None]) -> None:
    proved, _manifest = dumped
    damage(proved)
    names: dict[str, Any] = dict(red(proved.verified()))
    first: Optional[str] = names.get("replay")
    assert first == FAIL
    assert set(names) <= {"replay", "cut"}
    label = f"label=lifeboat.scratch={proved.stack.stack}"
    assert docker("ps", "--all", "--quiet", "--filter", label) == "", "nothing is left of it"
