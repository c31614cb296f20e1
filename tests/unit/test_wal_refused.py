# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator types that cannot be gone to: the command ends with 2, names the nearest instants, moves nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import standing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails, Gap
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest, backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import format_lsn
from builders import settings
from test_wal_archive import AT, MIB, SYSTEM, World
from test_wal_when import stands

HOUR = timedelta(hours=1)
FORK = 12 * MIB
HISTORY = f"1\t{format_lsn(FORK)}\tno recovery target specified\n".encode()


def span_id(number: int) -> str:
    return backup_id("wal", AT + number * HOUR)


class Typed(World):
    """A stack of which 13:00 to 15:00 and, behind a gap, 18:00 to 19:00 can be gone to. At 20:00 somebody went back to
    what was at 18:30 or so: 19:00 to 20:00 is on timeline 1, which was left, and from 20:30 on there is timeline 2."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.root = root
        self.started: list[Any] = []
        (root / "etc").mkdir()
        (root / "etc" / "shop.json").write_text(json.dumps(settings(root, wal={"enabled": True})))
        monkeypatch.setattr(cli, "LOG_DIRECTORY", root / "log")
        monkeypatch.setattr(clock, "now", lambda: AT + 12 * HOUR)
        monkeypatch.setattr(standing, "standing", self.stand)

    @contextlib.contextmanager
    def stand(self, run: object, source: object, route: Any, log: object) -> Iterator[None]:
        self.started.append(route)
        raise AssertionError
        yield

    def fill(self) -> None:
        def wal(first: int, last: int, hours: int, number: int, **more: Any) -> None:
            ranges = [(each * MIB, (each + 1) * MIB) for each in range(first, last)]
            self.span(ranges, identity=span_id(number), hours=hours, **more)

        self.put_base(0, 5)
        wal(5, 6, 1, 0)
        wal(6, 7, 2, 1)
        gap = Gap(SYSTEM, 1, format_lsn(7 * MIB), format_lsn(9 * MIB), "the slot was lost", AT + 4 * HOUR)
        wal(9, 11, 5, 4, gaps=(gap,))
        self.put_base(5, 10)
        wal(11, 12, 6, 5)
        wal(12, 14, 7, 6)
        wal(12, 20, 9, 7, timeline=2, history=HISTORY)

    def put_base(self, hours: int, start: int) -> None:
        at, identity = AT + hours * HOUR, backup_id("base", AT + hours * HOUR)
        lsn = format_lsn(start * MIB + 40)
        details = BaseDetails(SYSTEM, 170_002, 1, lsn, format_lsn(start * MIB + 4096), segment_size=MIB)
        with self.repo.stage("base", identity) as staging:
            (staging.path / "base.tar.zst").write_bytes(b"files")
            artefacts = (Artefact("base.tar.zst", 5, filesystem.sha256(b"files")),)
            words = Manifest(identity, "base", "shop", at, at, artefacts, {"lifeboat": "1"}, plain(details))
            staging.publish(words.to_bytes())

    def tree(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (self.root / "backup").rglob("*") if path.is_file()}

    def files(self, pattern: str) -> list[Path]:
        return sorted((self.root / "backup").glob(pattern))


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    made = Typed(tmp_path, monkeypatch)
    made.fill()
    return made


def shown(hours: float) -> str:
    return format_time(AT + hours * HOUR)


def run(typed: Typed, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code, and what was said. Whatever it is, nothing was started or written, and nothing is left."""
    before = typed.tree()
    code = cli.main([*words, "--config-directory", str(typed.root / "etc")])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert typed.started == []
    assert typed.tree() == before
    assert [path.name for path in (typed.root / "state").glob("standing-*")] == []
    return code, out + err


# What is typed, why it is refused, and what is offered instead.
REFUSED: dict[str, tuple[list[str], str, list[str]]] = {
    "in the future": (
        ["--at", shown(24)], f"it has not come yet: it is {shown(12)}", [f"the last one before it: {shown(9)}"],
    ),
    "not received yet": (
        ["--at", shown(10)], "is not in the repository yet", [f"the last one before it: {shown(9)}"],
    ),
    "before the window": (
        ["--at", shown(-1)], "it is before all that can be gone back to", [f"the first one after it: {shown(0)}"],
    ),
    "in a gap": (
        ["--at", shown(3)], "it is in a gap: the slot was lost",
        [f"the last one before it: {shown(2)}", f"the first one after it: {shown(5)}"],
    ),
    "on an abandoned timeline": (
        ["--at", shown(6.9)], "two timelines lived then",
        [f"timeline=1 (nothing that a newer one wrote since {shown(6)})", "timeline=2"],
    ),
    "no such timeline": (["--at", shown(1), "--timeline", "3"], "no base leads to timeline 3", ["Timelines: 1, 2."]),
    "in an hour that was there twice": (
        ["--at", "2026-10-25 02:30 Europe/Berlin"],
        "showed it twice: at 2026-10-25T00:30:00.000Z and at 2026-10-25T01:30:00.000Z", ["Write the one that is meant"],
    ),
    "in an hour that was never there": (
        ["--at", "2026-03-29 02:30 Europe/Berlin"], "were put forward over it",
        ["2026-03-29T00:30:00.000Z or 2026-03-29T01:30:00.000Z"],
    ),
    "a zone that is none": (["--at", "2026-12-01 14:00 Mars/Olympus"], "knows no time zone", ["Write the offset"]),
    "no time": (["--at", "yesterday"], "it is not ISO 8601", ["Write it like"]),
    "in another zone, before the window": (
        ["--at", "2026-12-01T21:59:59+09:00"], "it is before all", [f"the first one after it: {shown(0)}"],
    ),
    "a position behind the end": (
        ["--before", "0/2000000"], "it is behind 0/1400000, where the WAL ends that was received", [f"to {shown(9)}"],
    ),
    "a position in the gap": (
        ["--before", format_lsn(8 * MIB)], "no base leads to WAL that has it", [f"to {shown(9)}"],
    ),
    "neither": (["--before", "items"], "it is neither a position", ["mark:before-upgrade"]),
    "two instants": (["--at", "latest", "--before", "0/1"], "are two instants", ["Name one of them"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("action", ["verify", "dump"])
def test_what_cannot_be_gone_to_ends_with_2(
    typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, action: str, name: str
) -> None:
    words, cause, near = REFUSED[name]
    if action == "dump":
        answering = type("Living", (), {"problem": lambda self: None})()
        monkeypatch.setattr("ansible_collections.lifeboat.dr.plugins.module_utils.operations.instants.database_server"
                            ".for_backups", lambda run: answering)  # fmt: skip
    code, said = run(typed, capsys, "wal", action, *words)
    assert (code, cause in said) == (2, True), said
    for each in near:
        assert each in said


def test_an_offset_and_a_zone_are_the_instant_that_they_say(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("2026-12-01T23:00:00+09:00", "2026-12-01 15:00 Europe/Berlin", "2026-12-01T14:00:00"):
        with pytest.raises(AssertionError):
            cli.main(["wal", "verify", "--at", text, "--config-directory", str(typed.root / "etc")])
    assert [str(route.instant) for route in typed.started] == [shown(1)] * 3
    capsys.readouterr()


# What lies in the repository and is not what it was.


def without_manifest(typed: Typed) -> None:
    for path in typed.files("base/*/manifest.json"):
        path.unlink()


def swapped(typed: Typed) -> None:
    """Two notes of two spans."""
    first, second = typed.files("wal/*/note-*.json")[:2]
    one, other = first.read_bytes(), second.read_bytes()
    for path, data in ((first, other), (second, one)):
        path.chmod(0o600)
        path.write_bytes(data)


def replayed(typed: Typed) -> None:
    """The first note once more, as the second."""
    (note,) = typed.files(f"wal/{span_id(1)}/note-*.json")
    (note.parent / "note-000002.json").write_bytes(note.read_bytes())


def withheld(typed: Typed) -> None:
    (note,) = typed.files(f"wal/{span_id(1)}/note-*.json")
    note.rename(note.with_name("note-000002.json"))


def of_another_stack(typed: Typed) -> None:
    (note,) = typed.files(f"wal/{span_id(1)}/note-*.json")
    data = note.read_bytes()
    note.chmod(0o600)
    note.write_bytes(data.replace(b'"shop"', b'"wiki"'))


DAMAGED: list[tuple[Callable[[Typed], None], str, list[str]]] = [
    (without_manifest, "no base leads", ["lifeboat wal base"]),
    (swapped, span_id(0), [shown(5)]),
    (replayed, span_id(1), [shown(1), shown(5)]),
    (withheld, span_id(1), [shown(1), shown(5)]),
    (of_another_stack, span_id(1), [shown(1), shown(5)]),
]


@pytest.mark.parametrize(("harm", "cause", "near"), DAMAGED, ids=[case[0].__name__ for case in DAMAGED])
def test_what_is_not_as_it_was_written_is_no_way_and_is_named(
    typed: Typed, capsys: pytest.CaptureFixture[str], harm: Callable[[Typed], None], cause: str, near: list[str]
) -> None:
    """The operator asks for 14:30, which was in it."""
    harm(typed)
    code, said = run(typed, capsys, "wal", "verify", "--at", shown(1.5))
    assert code == 2, said
    assert cause in said
    for each in near:
        assert each in said


def test_an_end_that_is_not_the_newest_one_is_not_gone_to_unsaid(
    typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest span cannot be read: what is the latest without it was not what was received last."""
    routes = stands(monkeypatch)
    (note,) = typed.files(f"wal/{span_id(7)}/note-*.json")
    note.chmod(0o600)
    note.write_bytes(note.read_bytes()[:-20])
    code, said = run(typed, capsys, "wal", "verify", "--at", "latest")
    assert (code, format_time(routes[0].until.at)) == (0, shown(7))
    assert f"passed over: {span_id(7)}: " in said
