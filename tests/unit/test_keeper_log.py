# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper's log only grows, and says so of itself: what was changed in it is found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import receipts
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper.receipts import Record, Strange

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def written(directory: Path, nights: int = 4) -> Path:
    for number in range(nights):
        seen = receipts.load(directory)
        now = NOW + number * DAY
        seen.append(Record(0, now, "", "received", f"db_backup_2026112{4 + number}_020000", "a" * 64), now)
        seen.append(
            Record(0, now, "", "pulled", began=now, listed={"database": number}, strange=(Strange("x", "y"),)), now
        )
    return directory / receipts.NAME


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path)
    seen = receipts.load(tmp_path)
    assert len(seen) == 8
    assert seen.received["db_backup_20261125_020000"].at == NOW + DAY
    assert [pull.listed["database"] for pull in seen.pulls] == [0, 1, 2, 3]
    assert seen.last_whole is seen.pulls[-1]


def test_a_receipt_counts_from_the_first_time(tmp_path: Path) -> None:
    written(tmp_path, 1)
    seen = receipts.load(tmp_path)
    seen.append(Record(0, NOW, "", "received", "db_backup_20261124_020000", "b" * 64), NOW + 9 * DAY)
    assert receipts.load(tmp_path).received["db_backup_20261124_020000"].at == NOW


def line(change: Callable[[dict[str, object]], object]) -> Callable[[list[bytes]], Sequence[bytes]]:
    """Change the third line, as JSON."""

    def of(lines: list[bytes]) -> list[bytes]:
        body = json.loads(lines[2])
        change(body)
        lines[2] = json.dumps(body, separators=(",", ":")).encode() + b"\n"
        return lines

    return of


TAMPERED: dict[str, tuple[Callable[[list[bytes]], Sequence[bytes]], str]] = {
    "an earlier time": (line(lambda body: body.update(at="2026-11-20T04:00:00.000Z")), "line 2: at is before"),
    "a later time": (line(lambda body: body.update(at="2026-11-25T04:30:00.000Z")), "line 3: before is not"),
    "another digest": (line(lambda body: body.update(digest="c" * 64)), "line 3: before is not"),
    "another number": (line(lambda body: body.update(number=7)), "line 2: number is 7"),
    "a line less": (lambda lines: [*lines[:2], *lines[3:]], "line 2: number is 3"),
    "a line twice": (lambda lines: [*lines[:3], *lines[2:]], "line 3: number is 2"),
    "two exchanged": (lambda lines: [lines[1], lines[0], *lines[2:]], "line 0: number is 1"),
    "the first gone": (lambda lines: lines[1:], "line 0: number is 1"),
    "a blank": (lambda lines: [lines[0], lines[1].replace(b",", b", ", 1), *lines[2:]], "bytes are not as they were"),
    "an empty line": (lambda lines: [*lines[:2], b"\n", *lines[2:]], "line 2: it is not JSON"),
    "a field more": (line(lambda body: body.update(x=1)), "line 2: does not know x"),
    "another kind": (line(lambda body: body.update(kind="forgotten")), "line 2: kind"),
    "another schema": (line(lambda body: body.update(schema="x")), "line 2: schema"),
    "no JSON": (lambda lines: [*lines[:2], b"\xff\n", *lines[2:]], "line 2: it is not JSON"),
    "an endless line": (lambda lines: [*lines[:2], b"x" * (17 << 20), *lines[2:]], "longer than"),
    "deep nesting": (lambda lines: [*lines[:2], b"[" * 9000 + b"]" * 9000 + b"\n", *lines[2:]], "line 2"),
}  # fmt: skip


@pytest.mark.parametrize("tampered", TAMPERED)
def test_what_was_changed_is_found(tmp_path: Path, tampered: str) -> None:
    path = written(tmp_path)
    assert len(receipts.load(tmp_path)) == 8, "the intact log is read"
    change, said = TAMPERED[tampered]
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(IntegrityError, match=said):
        receipts.load(tmp_path)


def test_a_log_that_is_a_link_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError):
        receipts.load(tmp_path)


def test_lines_cut_off_the_end_are_found_by_a_noted_head(tmp_path: Path) -> None:
    path = written(tmp_path)
    seen = receipts.load(tmp_path)
    noted = f"{len(seen) - 1}:{seen.head}"
    receipts.check_head(seen, noted)
    seen.append(Record(0, NOW, "", "acknowledged", why="looked at"), NOW + 5 * DAY)
    receipts.check_head(receipts.load(tmp_path), noted)  # it grew since
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    cut = receipts.load(tmp_path)  # the chain is right
    with pytest.raises(IntegrityError, match="the log ends before it, with line 3"):
        receipts.check_head(cut, noted)
    written(tmp_path, 0)
    for number in range(4):
        cut.append(Record(0, NOW, "", "pruned", ids=(f"x{number}",)), NOW + 6 * DAY)
    with pytest.raises(IntegrityError, match="line 7: it is another"):
        receipts.check_head(receipts.load(tmp_path), noted)


@pytest.mark.parametrize("head", ["", "7", "x:y", "7:abc", f"-1:{'a' * 64}"])
def test_a_head_that_is_none(tmp_path: Path, head: str) -> None:
    written(tmp_path)
    with pytest.raises(UsageError, match="NUMBER:SHA-256"):
        receipts.check_head(receipts.load(tmp_path), head)


def test_what_a_power_cut_left_of_a_line_is_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:30])
    assert len(receipts.load(tmp_path)) == 8
    assert path.read_bytes() != whole, "only who holds the lock repairs it: another may be writing"
    seen = receipts.load(tmp_path, repair=True)
    assert path.read_bytes() == whole
    seen.append(Record(0, NOW, "", "acknowledged", why="looked at"), NOW + 9 * DAY)
    assert len(receipts.load(tmp_path)) == 9


def test_the_clock_may_not_go_back(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(UsageError, match="the log's last line is of 2026-11-27"):
        receipts.load(tmp_path).append(Record(0, NOW, "", "pulled"), NOW)


def test_of_a_million_strange_names_a_few_are_on_record() -> None:
    few, more = receipts.bounded(Strange(str(number), "x") for number in range(1000))
    assert (len(few), more) == (20, 980)


def test_a_prune_of_very_many_can_be_read_again(tmp_path: Path) -> None:
    """More than fit into one line of the log are refused before they are written, and read where one was written."""
    seen, now = receipts.load(tmp_path), NOW
    many = tuple(f"db_backup_20260101_{number:06}" for number in range(20_000))
    with pytest.raises(UsageError, match="a line would have more than"):
        seen.append(Record(0, now, "", "pruned", ids=many), now)
    assert len(receipts.load(tmp_path)) == 0, "and nothing of it was written"
    line = Record(0, now, "0" * 64, "pruned", ids=many).to_line()
    assert len(line) > receipts.MOST
    (tmp_path / receipts.NAME).write_bytes(line)
    assert set(receipts.load(tmp_path).pruned) == set(many)
