# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What prune, verify and the list do with bases and spans of a repository, and without them."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components, prune, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.levels import PROOFS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.proof import Proof
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, show
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import CONTINUOUS, KINDS, configured
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import (
    Artefact,
    Manifest,
    backup_id,
    parse,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import PieceName, Segment, format_lsn
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Writer
from builders import NOW, make_config, prove, publish, store

MIB, DAY = 1 << 20, timedelta(days=1)
NIGHTS = 11  # 0 is the newest


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path}))


def base(root: Path, nights: int) -> Manifest:
    """A base of so many nights ago."""
    at, data = NOW - nights * DAY, b"base"
    start = format_lsn((NIGHTS - nights) * MIB)
    details = BaseDetails("7412345678901234567", 170_002, 1, start, start, segment_size=MIB)
    artefact = Artefact("base.tar.zst", len(data), hashlib.sha256(data).hexdigest())
    made = Manifest(
        backup_id("base", at), "base", "shop", at, at, (artefact,), {"lifeboat": "0.1.0"}, typed.plain(details)
    )
    repo = store(root)
    with repo.stage("base", made.id) as staging:
        (staging.path / artefact.name).write_bytes(data)
        staging.publish(made.to_bytes())
    return made


def span(root: Path, nights: int, *, close: bool = True) -> str:
    """The WAL between that night's base and the next one."""
    repo, at = store(root), NOW - nights * DAY + timedelta(hours=1)
    repo.stack = "shop"
    to = Writer(repo, "shop", backup_id("wal", at), MIB, 170_002)
    start = (NIGHTS - nights) * MIB
    entry = to.add(str(PieceName(Segment(1, NIGHTS - nights, MIB), 0)), b"%d" % nights, MIB)
    to.note(Reached("7412345678901234567", 1, format_lsn(start + MIB), at), [entry])
    if close:
        repo.finish("wal", to.identity, to.manifest(at).to_bytes())
    return to.identity


@pytest.fixture
def filled(tmp_path: Path) -> tuple[list[Manifest], list[str]]:
    """Eleven nights, oldest first, and an open span."""
    publish(tmp_path)
    bases = [base(tmp_path, nights) for nights in reversed(range(NIGHTS))]
    return bases, [*(span(tmp_path, nights) for nights in reversed(range(1, NIGHTS))), span(tmp_path, 0, close=False)]


def pruned(root: Path, now: datetime = NOW, **more: Any) -> prune.Pruning:
    return prune.prune(Opened(make_config(root)), now=now, dry_run=False, log=len, **more)


def test_prune_deletes_nothing_while_no_base_is_proved(
    tmp_path: Path, filled: tuple[list[Manifest], list[str]]
) -> None:
    bases, spans = filled
    assert pruned(tmp_path)["delete"] == []
    prove(tmp_path, bases[-1])
    assert pruned(tmp_path)["delete"] == [], "the window would begin with tonight"
    assert {*store(tmp_path).ids("wal")} == {*spans}


def test_prune_keeps_the_window_and_what_its_bases_need(
    tmp_path: Path, filled: tuple[list[Manifest], list[str]]
) -> None:
    bases, spans = filled
    for item in bases:
        prove(tmp_path, item)
    result = pruned(tmp_path)
    assert result["delete"] == [*(item.id for item in bases[:2]), *spans[:2]], (
        "eight days, as the window has to begin with a base"
    )
    assert store(tmp_path).ids("base") == [item.id for item in bases[2:]]
    assert store(tmp_path).ids("wal") == spans[2:]
    assert "the window of 7 days begins with it" in result["keep"][bases[3].id]


def test_a_base_that_cannot_be_read_keeps_all_spans(tmp_path: Path, filled: tuple[list[Manifest], list[str]]) -> None:
    bases, spans = filled
    for item in bases:
        prove(tmp_path, item)
    Path(store(tmp_path).location("base", bases[3].id), "manifest.json").write_bytes(b"{")
    pruned(tmp_path)
    assert store(tmp_path).ids("wal") == spans


def test_the_list_has_them_before_the_others(tmp_path: Path, filled: tuple[list[Manifest], list[str]]) -> None:
    bases, spans = filled
    repo = store(tmp_path)
    found = {**points.backups(repo, "shop"), **points.continuous(repo, "shop")}
    listed = [item["id"] for item in points.listing([], found, NOW)]
    assert listed[:-1] == [*spans[:-1], *(item.id for item in bases)]
    shown = "\n".join(show.table([], found, NOW))
    assert all(name in shown for name in listed)


def checked(root: Path, identity: str, level: str = "checksum") -> dict[str, str]:
    repo, component = store(root), identity.partition("_")[0]
    manifest = parse(repo.manifest(component, identity), component=component, expected_id=identity)
    run = Opened(make_config(root))
    return {check.name: check.result for check in verify._levels(Proof(run, repo, manifest, level=level, log=len))}


def test_verify_reads_a_span_to_its_end(tmp_path: Path, filled: tuple[list[Manifest], list[str]]) -> None:
    bases, spans = filled
    assert {*checked(tmp_path, spans[0]).values()} == {*checked(tmp_path, bases[0].id).values()} == {PASS}
    assert checked(tmp_path, spans[0], "restore")["restore"] == COULD_NOT_VERIFY
    for name in ("note-000001.json", "000000010000000000000001.00000000.zst"):
        (identity, *spans) = spans
        path = Path(store(tmp_path).location("wal", identity))
        for file in path.glob(name[:4] + "*"):
            file.write_bytes(b"{")
        assert FAIL in checked(tmp_path, identity).values()


def test_a_stack_without_them_is_as_it_was(tmp_path: Path) -> None:
    publish(tmp_path)
    repo = store(tmp_path)
    assert not {*CONTINUOUS} & {*KINDS}
    assert [*components.COMPONENTS] == [*PROOFS] == [*KINDS, "base"]
    assert [kind.name for kind in configured(make_config(tmp_path))] == ["database"]
    assert points.continuous(repo, "shop") == points.bases(repo, make_config(tmp_path)) == {}
    assert pruned(tmp_path)["delete"] == []
    assert not {"base", "wal"} & {path.name for path in repo.root.iterdir()}  # type: ignore[attr-defined]


def test_a_folder_that_an_operator_chose_stays_his(tmp_path: Path) -> None:
    repo = LocalRepository(tmp_path, {"database": "wal"})
    assert (repo.folders["database"], "wal" in repo.folders, repo.folders["base"]) == ("wal", False, "base")
    assert points.continuous(repo, "shop") == {}
    assert dataclasses.asdict(BaseDetails("1", 170_002, 1, "0/0", "0/0"))["wal"] == "inside"
