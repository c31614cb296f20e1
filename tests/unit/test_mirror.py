# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror decides, by tables: which version, what is right, what to copy, when to refuse."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import guard, listing
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.state import Numbers, Object, State, remove_journal
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Listed, Version
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.copier import Record
from builders import NOW, make_config, publish

SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
T = datetime(2026, 11, 24, 2, 0, 0, 400_000, tzinfo=timezone.utc)
WHOLE = T.replace(microsecond=0)


def version(key: str = "a", at: datetime = WHOLE - SECOND, **more: Any) -> Version:
    said: dict[str, Any] = {"size": 3, "etag": f"{key}-etag", "version": "v1", "latest": True, **more}
    return Version(key=key, modified=at, **said)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state/mirror.jsonl") as one:
        yield one


OLD = version(version="old", at=WHOLE - 9 * SECOND, latest=False)


@pytest.mark.parametrize(
    ("versions", "chosen", "unsure"),
    [
        pytest.param([version()], "v1", 0, id="one version"),
        pytest.param([version(at=WHOLE + SECOND), OLD], "old", 0, id="overwritten later"),
        pytest.param([OLD, version(at=WHOLE + SECOND)], "old", 0, id="in any order"),
        pytest.param([version(at=WHOLE + SECOND)], None, 0, id="made later"),
        pytest.param([version(at=WHOLE - SECOND, deleted=True), OLD], None, 0, id="deleted before"),
        pytest.param([version(at=WHOLE + SECOND, deleted=True), OLD], "old", 0, id="deleted later"),
        pytest.param([version(at=WHOLE), OLD], "v1", 1, id="overwritten in the very second"),
        pytest.param([version(at=WHOLE, deleted=True), OLD], "old", 1, id="deleted in the very second"),
        pytest.param([version(at=WHOLE)], "v1", 1, id="made in the very second"),
        pytest.param([version(at=T - timedelta(milliseconds=1)), OLD], "v1", 0, id="milliseconds, before"),
        pytest.param([version(at=T + timedelta(milliseconds=1)), OLD], "old", 0, id="milliseconds, after"),
        pytest.param([version(version="2"), version(version="1")], "2", 0, id="two in one second, the newer is first"),
        pytest.param([version(), version()], "v1", 0, id="listed twice"),
    ],
)
def test_the_version_of_an_instant(state: State, versions: list[Version], chosen: str, unsure: int) -> None:
    assert state.read_source(versions, T) == unsure
    assert [version.version for version in state.to_copy()] == ([chosen] if chosen else [])


@pytest.mark.parametrize(
    ("listed", "chosen", "unsure"),
    [
        pytest.param(version(at=T - 600 * MILLISECOND), "v1", 0, id="before, by any clock"),
        pytest.param(version(at=T - 400 * MILLISECOND), "v1", 1, id="perhaps a little later"),
        pytest.param(version(at=T - 400 * MILLISECOND, deleted=True), "old", 1, id="perhaps deleted a little later"),
        pytest.param(version(at=WHOLE - SECOND), "v1", 1, id="in whole seconds"),
        pytest.param(version(at=WHOLE - 2 * SECOND), "v1", 0, id="in whole seconds, before"),
        pytest.param(version(at=T + MILLISECOND), "old", 0, id="later, by any clock"),
    ],
)
def test_what_lies_between_the_ends_of_the_instant_is_ambiguous(
    state: State, listed: Version, chosen: str, unsure: int
) -> None:
    """The server's clock is known to half a second: nothing that may have been there is lost."""
    assert state.read_source([listed, OLD], T, certain=T - 500 * MILLISECOND) == unsure
    assert [version.version for version in state.to_copy()] == [chosen]


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        pytest.param(version(version="v1", latest=False), None, id="as told"),
        pytest.param(version(version="v1", latest=False, at=WHOLE + SECOND / 2), None, id="rounded in another way"),
        pytest.param(version(version="v1", latest=False, at=WHOLE + SECOND), "a", id="later"),
        pytest.param(version(version="v1", latest=False, at=WHOLE - 3 * SECOND), "a", id="earlier"),
        pytest.param(version(version="v2", latest=False, at=WHOLE + SECOND), None, id="one that was never copied"),
        pytest.param(version(version="v1", at=WHOLE + SECOND), None, id="the latest one"),
        pytest.param(version(version="v1", latest=False, deleted=True, at=WHOLE + SECOND), None, id="a delete marker"),
    ],
)
def test_an_old_version_keeps_its_time(state: State, listed: Version, found: str | None) -> None:
    state.read_copies([Listed("a", 3, "a-etag", WHOLE - SECOND, "v1", "w1", "a-etag")])
    versions = [*(version(f"k{number}", latest=False) for number in range(2500)), listed]
    assert list(state.noting_past(versions)) == versions
    assert state.mistimed(2 * SECOND) == found


def test_the_current_state(state: State) -> None:
    assert state.read_source([version("a"), version("b", deleted=True), version("c", latest=False)], None) == 0
    assert [version.key for version in state.to_copy()] == ["a"]


def row(**more: Any) -> Listed:
    return dataclasses.replace(Listed("a", 3, "a-etag", WHOLE - SECOND, "v1", "w1", "a-etag", "f" * 64), **more)


HELD = version(version="w1")


@pytest.mark.parametrize(
    ("vault", "before", "what"),
    [
        pytest.param([HELD], [row()], "right", id="as the last mirror left it"),
        pytest.param([], [row()], "copy", id="gone from the vault"),
        pytest.param([version(version="w1", deleted=True)], [row()], "copy", id="deleted in the vault"),
        pytest.param([version(version="w2", etag="other")], [row()], "copy", id="overwritten in the vault"),
        pytest.param([version(version="w1", size=4)], [row()], "copy", id="another size"),
        pytest.param([HELD], [row(etag="other")], "alike", id="changed at the source to what the vault has"),
        pytest.param([version(version="w1", etag="x-2")], [row(vault_etag="x-2")], "right", id="a multipart copy"),
        pytest.param([version(version="w1", etag="x-2")], [row(etag="old", vault_etag="x-2")], "copy", id="new"),
        pytest.param([HELD], [row(version="v0")], "alike", id="written again with the same bytes"),
        pytest.param([HELD], [row(modified=T - timedelta(days=1))], "alike", id="the same without versions"),
        pytest.param([HELD], [], "alike", id="no listing, but the bytes are there"),
        pytest.param([version(version="w1", etag="x-2")], [], "copy", id="no listing and another ETag"),
        pytest.param([version(version="w1", etag="")], [], "copy", id="no listing and no ETag"),
    ],
)
def test_what_is_right(state: State, vault: list[Version], before: list[Listed], what: str) -> None:
    state.read_source([version()], T)
    state.read_vault(vault)
    state.read_copies(before)
    numbers = state.numbers()
    assert (numbers.copy, numbers.alike) == {"right": (0, 0), "copy": (1, 0), "alike": (0, 1)}[what]
    assert len(list(state.to_copy())) == numbers.copy
    assert len(list(state.alike())) == numbers.alike
    again = what == "alike" and any(each.etag == "other" for each in before)  # a look has copied it meanwhile
    assert numbers.overwritten == (again or (numbers.copy and any(not version.deleted for version in vault)))
    assert [row.key for row in state.listing()] == (["a"] if what == "right" else [])
    assert state.compare() == (what != "right")


@pytest.mark.parametrize(
    ("versions", "read", "alike"),
    [
        pytest.param("null", SECOND, 1, id="read in the second of its writing"),
        pytest.param("null", 61 * SECOND, 1, id="or so, by another clock"),
        pytest.param("null", 63 * SECOND, 0, id="read later"),
        pytest.param("null", None, 0, id="nobody noted when it was read"),
        pytest.param("v1", SECOND, 0, id="a version says that it is another"),
    ],
)
def test_what_may_have_been_written_again_in_that_second(
    state: State, versions: str, read: timedelta | None, alike: int
) -> None:
    state.read_source([version(version=versions)], None)
    state.read_vault([HELD])
    at = None if read is None else WHOLE - SECOND + read
    state.read_copies([row(version=versions, headers="", tags="", tags_as_of=at)])
    assert (state.numbers().copy, state.numbers().alike) == (0, alike)
    for item, *held in state.alike():
        state.copied(item, held[0], held[1], held[2], record=Record("", "", int(WHOLE.timestamp())))
    assert state.numbers().alike == 0, "this run has looked at it"
    assert [found.key for found in state.listing()] == ["a"]
    assert state.compare() == 0


def test_what_is_removed(state: State) -> None:
    state.read_source([version("a"), version("b", deleted=True)], T)
    state.read_vault([version("a"), version("b"), version("c"), version("d", deleted=True)])
    state.read_copies([row(key="a"), row(key="b"), row(key="c")])
    assert list(state.to_remove()) == ["b", "c"]
    numbers = state.numbers()
    assert (numbers.vault, numbers.removed, round(numbers.share)) == (3, 2, 67)


@pytest.mark.parametrize(
    ("key", "more", "removed", "foreign"),
    [
        pytest.param("theirs", {}, False, True, id="what no mirror put there stays"),
        pytest.param("ours", {}, True, False, id="what the last one put there goes"),
        pytest.param(".lifeboat-name-0123456789ab/a/", {}, True, False, id="so does what a killed check left"),
        pytest.param("/.lifeboat-name-0123456789ab", {}, True, False, id="under any name"),
        pytest.param("dir/", {"size": 0, "version": "null"}, False, False, id="a placeholder has no history"),
        pytest.param("dir/", {"size": 0, "version": "v1"}, True, False, id="where it has one it is hidden"),
        pytest.param("adopted", {"version": "null"}, True, False, id="so is an old object without a version"),
    ],
)
def test_what_is_removed_was_ours_and_leaves_its_versions(
    state: State, key: str, more: dict[str, Any], removed: bool, foreign: bool
) -> None:
    state.read_source([version("a")], T)
    state.read_vault([version("a"), version(key, **more)])
    state.read_copies([row(), *(row(key=known) for known in ("dir/", "ours", "adopted"))])
    assert list(state.to_remove()) == [key] * removed
    assert (state.numbers().removed, state.foreign()) == (int(removed), (1, [key]) if foreign else (0, []))


def test_a_journal_is_taken_up_and_ends_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "state/mirror.jsonl"
    one = Object("a", 3, "a-etag", int((WHOLE - SECOND).timestamp() * 1000), "v1")
    with State(path) as first:
        first.read_source([version()], T)
        first.copied(one, "w1", "x-2", "f" * 64)
        first.copied(one._replace(key="b\n\u2028"), "w2", "x", None)
    with path.open("a") as file:
        file.write('["c", 3, "et')
    assert path.stat().st_mode & 0o777 == 0o600
    with State(path) as second:
        second.read_source([version(), version("b\n\u2028"), version("c")], T)
        second.read_vault([version(version="w1", etag="x-2"), version("b\n\u2028", version="w2", etag="x")])
        second.read_copies([row(vault_version="w0")])
        assert [found.key for found in second.to_copy()] == ["b\n\u2028", "c"], "the ETag of b is another"
        assert [found.sha256 for found in second.listing()] == ["f" * 64]
    remove_journal(path)
    assert not path.exists()


DAY = 20_000  # days since 1970
YESTERDAY = datetime.fromtimestamp((DAY - 1) * 86_400 + 7200, timezone.utc)
KEYS = [f"key {number}" for number in range(70)]


def sweep(state: State, day: int, days: int, otherwise: int = 0, stop: int = 10**6) -> list[str]:
    """Read the tags that are due; the keys."""
    read: list[str] = []
    for item, version_there, etag, sha256, line, known in list(state.tags_due(day, days, otherwise))[:stop]:
        record = known._replace(tags=f"day={day}", tags_at=day * 86_400 + 7200)
        state.tags_read(item, version_there, etag, (sha256, line), record)
        read.append(item.key)
    return read


@pytest.fixture
def held(state: State) -> State:
    """As the last mirror left it, its tags read on the day before."""
    fill(state, headers="", tags="", tags_as_of=YESTERDAY)
    return state


def fill(state: State, **more: Any) -> None:
    state.read_source(map(version, KEYS), T)
    state.read_vault(version(key, version="w1") for key in KEYS)
    state.read_copies(row(key=key, etag=f"{key}-etag", vault_etag=f"{key}-etag", **more) for key in KEYS)


@pytest.mark.parametrize("days", [1, 2, 7, 30])
def test_within_the_period_the_tags_of_every_object_are_read_once(held: State, days: int) -> None:
    nights = [sweep(held, DAY + night, days) for night in range(2 * days)]
    assert sorted(itertools.chain(*nights[:days])) == sorted(KEYS)
    assert [sorted(night) for night in nights[days:]] == [sorted(night) for night in nights[:days]], "and so again"
    assert days > 7 or all(len(night) > len(KEYS) // days // 3 for night in nights), "a share each night"
    assert sweep(held, DAY + 2 * days - 1, days) == [], "a second run has nothing to read"


def test_a_night_without_a_mirror_is_made_up_for(held: State) -> None:
    first = sweep(held, DAY, 7)
    assert sorted([*first, *sweep(held, DAY + 6, 7)]) == sorted(KEYS)
    assert sorted(sweep(held, DAY + 100, 7)) == sorted(KEYS), "and nothing is read twice"


def test_a_killed_sweep_goes_on(tmp_path: Path, held: State) -> None:
    before = sweep(held, DAY, 1, stop=30)
    with State(tmp_path / "state/mirror.jsonl") as again:
        fill(again, headers="content-type=a", tags="", tags_as_of=YESTERDAY)
        assert not {*before} & {*sweep(again, DAY, 1)}
        entries = list(again.listing())
    assert {entry.tags for entry in entries} == {f"day={DAY}"}
    assert {entry.headers for entry in entries} == {"", "content-type=a"}


def test_a_listing_without_tags_has_its_turn_night_by_night(state: State) -> None:
    """As if they were read with the last backup: a first night must not read all of a large bucket."""
    fill(state)
    assert len(list(state.lines())) == len(KEYS)
    assert state.tags_known() == (len(KEYS), None)
    nights = [sweep(state, DAY + night, 7, (DAY + night - 1) * 86_400 + 7200) for night in range(7)]
    assert sorted(itertools.chain(*nights)) == sorted(KEYS)
    assert max(map(len, nights)) < len(KEYS) // 3
    assert len(list(state.lines())) == len(KEYS)
    assert state.tags_known() == (0, datetime.fromtimestamp(DAY * 86_400 + 7200, timezone.utc))


def test_what_was_copied_just_now_was_read_just_now(held: State) -> None:
    item = Object(KEYS[0], 3, f"{KEYS[0]}-etag", int((WHOLE - SECOND).timestamp() * 1000), "v1")
    held.copied(item, "w1", f"{KEYS[0]}-etag", None)
    assert sorted(sweep(held, DAY, 1)) == sorted(KEYS[1:])


def test_a_journal_of_before_there_were_records_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state/mirror.jsonl"
    path.parent.mkdir()
    modified = int((WHOLE - SECOND).timestamp() * 1000)
    path.write_text(json.dumps(["a", 3, "a-etag", modified, "v1", "w1", "a-etag", "", ""]) + "\n")
    with State(path) as state:
        state.read_source([version()], T)
        state.read_vault([version(version="w1")])
        state.read_copies([])
        (entry,) = state.listing()
    assert (entry.headers, entry.tags, entry.tags_as_of) == (None, None, None)


@pytest.mark.parametrize("record", [[1, None, 0], ["a", "=&", 0], [None, None, "0"], [None, None, True]])
def test_a_journal_ends_where_a_record_is_not_ours(tmp_path: Path, record: list[Any]) -> None:
    path = tmp_path / "state/mirror.jsonl"
    path.parent.mkdir()
    line = ["a", 3, "a-etag", 1, "v1", "w1", "a-etag", "", ""]
    path.write_text("".join(json.dumps([*line, *more]) + "\n" for more in (record, ["", "", 1])))
    with State(path) as state:
        state.read_copies([])
        assert state.count("copies") == 0


BUCKET = Bucket("uploads", "http://store:9000", access_key="k", secret_key="s")


@pytest.mark.parametrize(
    ("versioning", "skew", "age", "engine", "consistency", "why"),
    [
        pytest.param("Enabled", 0.0, 1, "lifeboat", "snapshot", "", id="a snapshot"),
        pytest.param("Enabled", None, 1, "lifeboat", "snapshot", "", id="a server that tells no time"),
        pytest.param("Enabled", -3.0, 1, "lifeboat", "snapshot", "", id="a clock that is a little wrong"),
        pytest.param("Suspended", 0.0, 1, "lifeboat", "eventual", "keeps no versions", id="versions switched off"),
        pytest.param("", 0.0, 1, "lifeboat", "eventual", "keeps no versions", id="no versions"),
        pytest.param("Enabled", 0.0, None, "lifeboat", "eventual", "no good database backup", id="no backup"),
        pytest.param("Enabled", 0.0, 48, "lifeboat", "eventual", "which is long ago", id="an old backup"),
        pytest.param("Enabled", 0.0, 1, "mc", "eventual", "mc mirrors", id="mc"),
    ],
)
def test_the_instant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    versioning: str,
    skew: float | None,
    age: int | None,
    engine: str,
    consistency: str,
    why: str,
) -> None:
    monkeypatch.setattr(bucket, "versioning", lambda _: versioning)
    monkeypatch.setattr(bucket, "lead", lambda _: None if skew is None else (skew, skew + 1))
    made = make_config(
        tmp_path,
        objects={"bucket": "uploads", "endpoint_url": "http://store:9000", "engine": engine},
        vault={"objects_bucket": "mirror", "endpoint_url": "http://vault:9000"},
    )
    taken = publish(tmp_path, NOW - timedelta(hours=age)) if age is not None else None
    repo = repositories.from_settings(made.repository, {})
    lines: list[str] = []
    found = guard.choose_instant(made, repo, BUCKET, NOW, lines.append)
    assert found.consistency == consistency
    assert why in found.why
    assert bool(lines) == (consistency == "eventual"), "it is said aloud"
    if consistency == "snapshot":
        assert taken is not None
        assert (found.at, found.database_backup) == (taken.taken_at, taken.id)
        assert found.certain == taken.taken_at + timedelta(seconds=skew or 0)
        assert found.server == taken.taken_at + timedelta(seconds=0 if skew is None else skew + 1)
    else:
        assert (found.at, found.database_backup) == (None, "")


def test_an_instant_by_times_that_a_write_can_choose_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the bucket as it is listed to have been then: right unless somebody with a key chose a time."""
    monkeypatch.setattr(bucket, "versioning", lambda _: "Enabled")
    monkeypatch.setattr(bucket, "lead", lambda _: (3.0, 3.9))
    made, taken = make_config(tmp_path), publish(tmp_path, NOW - timedelta(hours=1))
    repo = repositories.from_settings(made.repository, {})
    lines: list[str] = []
    found = guard.choose_instant(made, repo, BUCKET, NOW, lines.append, bucket.Doubts(dates="a write can choose"))
    assert (found.at, found.server, found.database_backup) == (taken.taken_at, taken.taken_at + 3.9 * SECOND, taken.id)
    assert (found.consistency, found.why) == ("snapshot", "")
    assert lines == ["snapshot is the bucket as it is listed to have been then: a write can choose"]


@pytest.mark.parametrize("skew", [61.0, -3600.0])
def test_a_clock_that_is_far_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float) -> None:
    monkeypatch.setattr(bucket, "lead", lambda _: None if skew is None else (skew, skew + 1))
    made = make_config(tmp_path)
    repo = repositories.from_settings(made.repository, {})
    with pytest.raises(UsageError, match=r"its clock is [+-]\d+ s off this host's"):
        guard.choose_instant(made, repo, BUCKET, NOW, print)


@pytest.mark.parametrize(
    ("numbers", "limit", "refused"),
    [
        (Numbers(100, 100, 0, 0, 0, 0, 0), 30, ""),
        (Numbers(0, 0, 0, 0, 0, 0, 0), 30, ""),
        (Numbers(100, 0, 100, 0, 0, 0, 9), 30, ""),
        (Numbers(85, 100, 15, 0, 15, 15, 9), 30, ""),
        (
            Numbers(85, 100, 16, 0, 15, 16, 9),
            30,
            "15 of the 100 objects there would be removed and 16 overwritten",
        ),
        (Numbers(0, 1, 0, 0, 1, 0, 0), 100, "the bucket is empty"),
        (Numbers(1, 10, 0, 0, 9, 0, 0), 100, ""),
        (Numbers(9, 10, 0, 0, 1, 0, 0), 0, "10 % where 0 % is the limit"),
    ],
)
def test_the_guard(tmp_path: Path, numbers: Numbers, limit: int, refused: str) -> None:
    made = make_config(
        tmp_path,
        objects={"bucket": "uploads", "endpoint_url": "http://store:9000", "change_limit": limit},
        vault={"objects_bucket": "mirror", "endpoint_url": "http://vault:9000"},
    )
    if refused:
        with pytest.raises(UsageError) as caught:
            guard.guard(made, BUCKET, BUCKET, numbers, False)
        assert refused in str(caught.value)
        count = numbers.removed + numbers.overwritten
        assert f"--override {count}`" in str(caught.value)
        with pytest.raises(UsageError, match="the first: 'a', 'b'"):
            guard.guard(made, BUCKET, BUCKET, numbers, count - 1, lambda most: ["a", "b"][:most])
        told: list[str] = []
        guard.guard(made, BUCKET, BUCKET, numbers, count, lambda most: ["a", "b"][:most], told.append)
        assert len(told) == 1 and "done all the same" in told[0] and "the first: 'a', 'b'" in told[0]
    else:
        guard.guard(made, BUCKET, BUCKET, numbers, False)
    guard.guard(made, BUCKET, BUCKET, numbers, True)


def test_an_override_is_of_all_buckets_together() -> None:
    """Each bucket was measured against the whole number: two could lose twice as many as were named."""
    accepted = guard.Override(20)
    assert (bool(accepted), accepted.covers(12), accepted.covers(12), accepted.covers(8)) == (True, True, False, True)
    assert (accepted.covers(0), accepted.covers(1)) == (True, False)
    nothing, anything = guard.Override(0), guard.Override(True)
    assert (bool(nothing), nothing.covers(0)) == (False, False)
    assert (bool(anything), anything.covers(10**9), anything.covers(10**9)) == (True, True, True)


@pytest.mark.parametrize(
    ("number", "counted", "buckets", "refused"),
    [
        pytest.param(1, 0, [0, 0], [False, False], id="nothing goes"),
        pytest.param(1, 0, [1], [True], id="one more than none is counted"),
        pytest.param(5, 5, [2, 3], [False, False], id="as counted, in all buckets together"),
        pytest.param(5, 5, [2, 4, 3], [False, True, False], id="one bucket is not as counted"),
        pytest.param(5, None, [6], [False], id="nobody counted: the limit alone"),
    ],
)
def test_no_more_goes_than_was_counted(
    tmp_path: Path, number: int, counted: int | None, buckets: list[int], refused: list[bool]
) -> None:
    """Far below the limit: of 100 objects 30 may go unasked."""
    made = make_config(
        tmp_path,
        objects={"bucket": "uploads", "endpoint_url": "http://store:9000"},
        vault={"objects_bucket": "mirror", "endpoint_url": "http://vault:9000"},
    )
    accepted, seen = guard.Override(number, counted), list[bool]()
    for removed in buckets:
        try:
            guard.guard(made, BUCKET, BUCKET, Numbers(100, 100, 0, 0, removed, 0, 0), accepted, lambda most: ["a"])
        except UsageError as exc:
            seen.append(True)
            assert "which is more than was counted before; the first: 'a'" in str(exc)
        else:
            seen.append(False)
    assert seen == refused


def test_an_empty_source_of_which_nothing_is_in_the_vault_ends_a_sites_recovery(tmp_path: Path) -> None:
    """The vault holds what no mirror put there; nothing of it would go."""
    made = make_config(
        tmp_path,
        objects={"bucket": "uploads", "endpoint_url": "http://store:9000"},
        vault={"objects_bucket": "mirror", "endpoint_url": "http://vault:9000"},
    )
    guard.guard(made, BUCKET, BUCKET, Numbers(0, 3, 0, 0, 0, 0, 0), guard.Override(1, 0))


@pytest.mark.parametrize(("number", "counted"), [(-1, None), (0, -1)])
def test_a_number_below_none_is_refused(number: int, counted: int | None) -> None:
    with pytest.raises(UsageError, match="-1 is not a number of objects"):
        guard.Override(number, counted)


def listed_before(**more: Any) -> Listed:
    return row(**{"vault_modified": WHOLE, **more})


@pytest.mark.parametrize(
    ("now", "before", "known"),
    [
        pytest.param({}, {}, "w1", id="as it was listed before"),
        pytest.param({}, {"vault_modified": WHOLE + SECOND / 2}, "w1", id="a server that told milliseconds elsewhere"),
        pytest.param({"at": WHOLE + SECOND / 2}, {}, "w1", id="or tells them here"),
        pytest.param({"at": WHOLE + SECOND / 2}, {"vault_modified": WHOLE + SECOND / 4}, "", id="two in one second"),
        pytest.param({"at": WHOLE + SECOND}, {}, "", id="written later"),
        pytest.param({"at": WHOLE - SECOND}, {}, "", id="an older one came back"),
        pytest.param({"etag": "other"}, {}, "", id="overwritten in place"),
        pytest.param({"size": 4}, {}, "", id="another size"),
        pytest.param({}, {"vault_modified": None}, "", id="no listing told its time"),
        pytest.param({"etag": ""}, {"vault_etag": ""}, "", id="no ETag says that it is the same"),
        pytest.param({}, {"vault_version": ""}, "", id="no version is on record"),
        pytest.param({}, {"key": "b"}, "", id="no mirror put it there"),
    ],
)
def test_which_version_a_current_object_of_the_vault_is(
    state: State, now: dict[str, Any], before: dict[str, Any], known: str
) -> None:
    state.read_source([version()], T)
    state.read_copies([listed_before(**before)])
    state.read_vault([version(**{"at": WHOLE, "version": "null", **now})], current=True)
    assert state.know_vault(9) == ([] if known else ["a"])
    assert [held for _item, held, *_more in state.unlooked()] == ([known] if known else [])
    assert state.numbers().vault == 1
    if not known:
        assert not state.name_vault("a", 99, "a-etag", "w9"), "another object than was listed"
        assert state.name_vault("a", now.get("size", 3), now.get("etag", "a-etag"), "w1")
        assert state.know_vault(9) == [], "what was asked for is not forgotten"


def test_whose_versions_in_the_vault_do_not_matter(state: State) -> None:
    """What is foreign there is never touched, so nobody asks for it; a placeholder is, for it may have no version."""
    state.read_source([version("ours"), version("adopted")], T)
    state.read_copies([listed_before(key="ours"), listed_before(key="gone")])
    held = [version(key, at=WHOLE, etag="other") for key in ("adopted", "foreign", "gone", "ours", "")]
    state.read_vault([*held, version("dir/", size=0)], current=True)
    assert state.know_vault(9) == ["adopted", "dir/", "gone", "ours"]
    assert state.know_vault(2) == ["adopted", "dir/"]
    assert state.numbers().vault == 5, "what has no name is none"
    assert [state.garbled("vault"), state.garbled("source")] == [False, False]
    state.read_vault([version("x\ufffdy")], current=True)
    assert state.garbled("vault")


@pytest.mark.parametrize(
    ("now", "before", "known"),
    [
        pytest.param({}, {}, True, id="as it was listed before"),
        pytest.param({"at": WHOLE}, {}, False, id="written later"),
        pytest.param({"etag": "other"}, {}, False, id="another ETag"),
        pytest.param({"etag": ""}, {"etag": ""}, False, id="none"),
        pytest.param({"size": 4}, {}, False, id="another size"),
        pytest.param({"at": T}, {"modified": T}, True, id="milliseconds, just before it was listed"),
        pytest.param({"at": WHOLE - 59 * SECOND}, {"modified": WHOLE - 59 * SECOND}, True, id="long enough before"),
        pytest.param({"at": WHOLE + 2 * SECOND}, {"modified": WHOLE + 2 * SECOND}, False, id="perhaps in that second"),
    ],
)
def test_which_version_a_current_object_of_the_source_is(
    state: State, now: dict[str, Any], before: dict[str, Any], known: bool
) -> None:
    state.read_copies([row(**before)])
    assert state.read_source([version(**{"version": "null", **now})], None, current=True) == 0
    assert state.know_source(WHOLE + 62 * SECOND) == (not known)
    state.read_vault([version(version="w1", etag=before.get("etag", "a-etag"))])
    assert [item.version for item, *_more in state.unlooked()] == (["v1"] if known else [])
    if not known:
        item = Object("a", 5, "new", 7, "v7")
        state.changed(item)
        assert [found[:3] + found[4:] for found in state.to_copy()] == [("a", 5, "new", "v7")]


def test_the_time_that_the_vault_lists_is_in_the_next_listing(state: State) -> None:
    state.read_source([version()], T)
    state.read_copies([listed_before(vault_modified=None)])
    state.read_vault([version(version="w1", at=T)])
    assert [found.vault_modified for found in state.listing()] == [T]
    state.put_vault("a", [version(version="w1", at=datetime(1970, 1, 1, tzinfo=timezone.utc))])
    assert [found.vault_modified for found in state.listing()] == [None], "a server that does not tell it"


def test_what_is_asked_for_because_its_second_may_have_gone_on(state: State) -> None:
    state.read_copies([row(key=key) for key in "abc"])
    listed = [version("a"), version("b", etag="other"), version("c", at=WHOLE), version("d")]
    state.read_source([one._replace(etag=row().etag) if one.key in "ac" else one for one in listed], None, current=True)
    assert state.know_source(WHOLE) == 4
    assert state.unsettled() == [("a", "v1")]
    state.name_source("a", 3, "other", "v1")
    assert state.unsettled() == [("a", "v1")]
    state.name_source("a", 3, "a-etag", "v1")
    assert state.unsettled() == []
    assert state.know_source(WHOLE) == 3


def written(
    tmp_path: Path, name: str, entries: Iterable[Listed | bytes]
) -> tuple[listing.Summary, list[listing.RawEntry]]:
    """A listing as it is in a backup, and what the next mirror reads of it."""
    summary = listing.write(tmp_path / name, entries)
    with (tmp_path / name).open("rb") as file:
        return summary, [line for line in listing.read_lines(file, name) if isinstance(line, listing.RawEntry)]


def test_what_stays_as_it_is_stands_in_the_next_listing_as_it_is(state: State, tmp_path: Path) -> None:
    """Line for line the same bytes as if they were made from what is known, and the same digest."""
    more = {"headers": "content-type=a", "tags": "", "tags_as_of": T.replace(microsecond=0), "storage": "COLD"}
    entries = [listed_before(key=key, etag=f"{key}-etag", vault_etag=f"{key}-etag", **more) for key in "abcde"]
    entries[4] = dataclasses.replace(entries[4], properties="hold=1")
    before, lines = written(tmp_path, "before", entries)
    state.read_copies(lines)
    state.read_source([version(key, storage="COLD" if key != "b" else "HOT") for key in "abcde"], T)
    state.read_vault(
        [version(key, version="w1", at=WHOLE + (SECOND / 2 if key == "c" else 0 * SECOND)) for key in "abcde"]
    )
    state.note_read("d", "hold=1")
    found = list(state.lines())
    assert [type(one) for one in found] == [bytes, Listed, Listed, Listed, bytes]
    changed = [
        entries[0], dataclasses.replace(entries[1], storage="HOT"),
        dataclasses.replace(entries[2], vault_modified=WHOLE + SECOND / 2),
        dataclasses.replace(entries[3], properties="hold=1"), entries[4],
    ]  # fmt: skip
    assert list(state.listing()) == changed
    assert dict(state.properties()) == {"hold=1": 2}
    assert state.storage() == {"COLD": 4, "HOT": 1}
    assert state.tags_known() == (0, T.replace(microsecond=0))
    assert written(tmp_path, "now", found) == written(tmp_path, "made", changed)
    assert (tmp_path / "now").read_bytes() == (tmp_path / "made").read_bytes()
    assert before == listing.write(tmp_path / "again", (line.raw for line in lines))
    item = Object("a", 3, "a-etag", int((WHOLE - SECOND).timestamp() * 1000), "v1")
    state.copied(item, "w1", "a-etag", None)
    assert isinstance(next(state.lines()), Listed), "what this run looked at is said again"
