# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what it says comes back as it was, and whatever was done to it is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import (
    Content,
    DatabaseDetails,
    DumpDetails,
)
from builders import NOW, make_manifest

TOKYO = timezone(timedelta(hours=9))


def parse(data: bytes, **changes: str) -> manifest.Manifest:
    return manifest.parse(data, **{"component": "database", "expected_id": make_manifest().id, **changes})


def test_round_trip() -> None:
    one = make_manifest(details={"database": "日本 \u2028 \"'\\", "nested": {"list": [1, None, True]}})
    assert parse(one.to_bytes()) == one
    assert parse(one.to_bytes()).to_bytes() == one.to_bytes()
    assert one.size == sum(part.size for part in one.artefacts)
    assert json.loads(one.to_bytes())["seal"] == one.seal


def test_the_bytes_and_the_seal_are_those_of_json_dumps() -> None:
    body = {
        "name": 'caf\udce9 日本 \U0001f600 \u2028\x01"\\',
        "z": [1, 2.5, 1e22, None, True, [], {}],
        "a": {"y": {}, "x": ["b"]},
    }
    text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    assert sealing.render(body) == text.encode("utf-8", "backslashreplace")
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert sealing.seal({**body, "seal": "x"}) == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_large_manifest_is_written_and_sealed_piece_by_piece() -> None:
    """That of a store with a thousand buckets has megabytes, in a hundred thousand pieces."""
    bucket = {f"field {number}": None for number in range(40)}
    body = {"seal": "", "others": [{**bucket, "name": f"bucket-{number}"} for number in range(1000)]}
    size = len(sealing.render(body))
    for work, most in ((sealing.render, 3.0), (sealing.seal, 0.5)):
        tracemalloc.start()
        try:
            work(body)
            assert tracemalloc.get_traced_memory()[1] < most * size
        finally:
            tracemalloc.stop()


def test_a_small_and_a_large_document_are_measured_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_manifest().to_bytes()
    for small in (0, len(data)):
        monkeypatch.setattr(sealing, "_SMALL", small)
        sealing._measured.cache_clear()
        assert sealing._measured(data) == (True, json.loads(data)["seal"])


def test_ids_are_in_utc_and_sort_by_time() -> None:
    assert manifest.backup_id("database", datetime(2026, 11, 24, 11, 0, 0, tzinfo=TOKYO)) == "db_backup_20261124_020000"
    assert manifest.backup_id("objects", NOW) == "objects_backup_20261124_120000"
    assert manifest.backup_id("config", NOW).startswith("config_backup_")
    # The hour that summer time repeats: two instants, two ids, in order.
    berlin = [timezone(timedelta(hours=2)), timezone(timedelta(hours=1))]
    twice = [manifest.backup_id("database", datetime(2026, 10, 25, 2, 30, tzinfo=zone)) for zone in berlin]
    assert twice == sorted(set(twice))


# What is done to the manifest's JSON, and what the error says.
Edit = Callable[[dict[str, Any]], Any]
EDITS: list[tuple[str, Edit]] = [
    ("a size", lambda doc: doc["artefacts"][0].update(size=5)),
    ("a checksum", lambda doc: doc["artefacts"][0].update(sha256="0" * 64)),
    ("a name", lambda doc: doc["artefacts"][0].update(name="other")),
    ("an artefact less", lambda doc: doc["artefacts"].pop()),
    ("an artefact more", lambda doc: doc["artefacts"].append({"name": "x", "size": 1, "sha256": "0"})),
    ("the time", lambda doc: doc.update(taken_at="2026-11-25T00:00:00.000Z")),
    ("the stack", lambda doc: doc.update(stack="blog")),
    ("a detail", lambda doc: doc["details"].update(format="plain")),
    ("a detail more", lambda doc: doc["details"].update(x=1)),
    ("a key more", lambda doc: doc.update(x=1)),
    ("the seal", lambda doc: doc.update(seal="0" * 64)),
    ("no seal", lambda doc: doc.pop("seal")),
    ("a minor version", lambda doc: doc.update(version=[1, 1])),
]


@pytest.mark.parametrize("edit", [case[1] for case in EDITS], ids=[case[0] for case in EDITS])
def test_every_edit_breaks_the_seal(edit: Edit) -> None:
    body = json.loads(make_manifest().to_bytes())
    edit(body)
    with pytest.raises(IntegrityError, match="it was edited: its seal does not match"):
        parse(sealing.render(body))


def test_every_single_bit_counts() -> None:
    """One flipped bit anywhere, a byte more or less, is noticed, be it in a value, a key or white space."""
    whole = make_manifest().to_bytes()
    for position in range(len(whole)):
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            with pytest.raises(LifeboatError):
                parse(bytes(damaged))
    for damaged in (whole[:-1], whole[1:], whole + b" ", whole + b"\n", whole[: len(whole) // 2], b""):
        with pytest.raises(IntegrityError):
            parse(damaged)


# Sealed anew by somebody who knows how: still no traceback, and what is newer is told from what is broken.
RESEALED: list[tuple[str, Edit, type[LifeboatError], str]] = [
    ("a newer schema", lambda doc: doc.update(version=[2, 0]), UsageError, "this Lifeboat reads version 1"),
    ("an older schema", lambda doc: doc.update(version=[0, 9]), UsageError, "its schema has version 0"),
    ("another schema", lambda doc: doc.update(schema="other"), IntegrityError, "its schema is 'other'"),
    ("no version", lambda doc: doc.pop("version"), IntegrityError, "it is not a manifest"),
    ("an empty version", lambda doc: doc.update(version=[]), IntegrityError, "it is not a manifest"),
    ("version as text", lambda doc: doc.update(version="one"), IntegrityError, "it is not a manifest"),
    ("an endless version", lambda doc: doc.update(version=[float("inf")]), IntegrityError, "it is not a manifest"),
    ("version of nothing", lambda doc: doc.update(version=[None]), IntegrityError, "it is not a manifest"),
    ("no schema", lambda doc: doc.pop("schema"), IntegrityError, "it is not a manifest"),
    ("no id", lambda doc: doc.pop("id"), IntegrityError, "manifest.json: lacks id"),
    ("no artefacts", lambda doc: doc.pop("artefacts"), IntegrityError, "manifest.json: lacks artefacts"),
    ("artefacts of nothing", lambda doc: doc.update(artefacts=None), IntegrityError, "artefacts wants a list"),
    ("an artefact as text", lambda doc: doc.update(artefacts=["x"]), IntegrityError, "artefacts[0] wants a mapping"),
    ("a size as text", lambda doc: doc["artefacts"][0].update(size="x"), IntegrityError, "artefacts[0].size wants int"),
    (
        "an endless size",
        lambda doc: doc["artefacts"][0].update(size=float("inf")),
        IntegrityError,
        "Infinity is not a number",
    ),
    ("a time that is none", lambda doc: doc.update(taken_at="noon"), IntegrityError, "taken_at wants a time"),
    ("time as a number", lambda doc: doc.update(taken_at=5), IntegrityError, "taken_at wants a time"),
    ("details as a list", lambda doc: doc.update(details=[]), IntegrityError, "details wants a mapping, has []"),
    ("no format", lambda doc: doc["details"].pop("format"), IntegrityError, "manifest.json: details lacks format"),
    ("a size that is text", lambda doc: doc["details"].update(database_size="1"), IntegrityError,
     "manifest.json: details.database_size wants int, has '1'"),
    ("fewer than no rows", lambda doc: doc["details"]["fingerprint"].update(rows=-1), IntegrityError,
     "manifest.json: details.fingerprint.rows -1 is not between 0 and"),
    ("more rows than there can be", lambda doc: doc["details"]["fingerprint"].update(rows=10**400), IntegrityError,
     "manifest.json: details.fingerprint.rows has a number beyond"),
    ("passwords as text", lambda doc: doc["details"].update(role_passwords="no"), IntegrityError,
     "manifest.json: details.role_passwords wants bool"),
    ("another's id", lambda doc: doc.update(id="db_backup_20200101_000000"), IntegrityError, "it is the manifest db_"),
    ("another component", lambda doc: doc.update(component="config"), IntegrityError, "it is the manifest of config"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "error", "words"), [case[1:] for case in RESEALED], ids=[case[0] for case in RESEALED]
)
def test_an_edit_sealed_anew(edit: Edit, error: type[LifeboatError], words: str) -> None:
    body = json.loads(make_manifest().to_bytes())
    edit(body)
    body.pop("seal")
    with pytest.raises(error) as raised:
        parse(sealing.render({**body, "seal": sealing.seal(body)}))
    assert words in raised.value.cause


def other(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "folder": "databases/001", "taken_at": "2026-11-24T12:00:00Z", "size": 1, **changes}


# (the other databases that its details name, folders of its artefacts, what the error says)
FOLDERS: list[tuple[str, Any, list[str], str]] = [
    ("a database, whatever its name", [other(name="a'\n=\udce9")], ["databases/001"], ""),
    ("a folder that nothing names", [], ["databases/001"], "do not have the same folders: databases/001"),
    ("of the form before", None, ["databases/001"], "do not have the same folders: databases/001"),
    ("no artefact", [other()], [], "do not have the same folders: databases/001"),
    ("above", [other(folder="../001")], ["databases/001"], "cannot be the folder"),
    ("absolute", [other(folder="/databases/001")], ["databases/001"], "cannot be the folder"),
    ("its own folder", [other(folder="")], [], "cannot be the folder"),
    ("deeper", [other(folder="databases/001/x")], ["databases/001/x"], "cannot be the folder"),
    ("a line more", [other(folder="databases/001\n")], ["databases/001"], "cannot be the folder"),
    ("other digits", [other(folder="databases/\u0661\u0662\u0663")], ["databases/001"], "cannot be the folder"),
    ("a folder twice", [other(), other(name="b")], ["databases/001"], "names 'databases/001' 2 times"),
    ("a name twice", [other(), other(folder="databases/002")], ["databases/001", "databases/002"], "names 'a' 2 times"),
    ("the application's", [other(name="shop")], ["databases/001"], "names 'shop' 2 times"),
    ("a missing one", [other(name="gone")], ["databases/001"], "names 'gone' 2 times"),
    ("no name", [other(name="")], ["databases/001"], "'' cannot be the name"),
    ("half a character", [other(name="\ud800")], ["databases/001"], "cannot be the name"),
    ("a zero byte", [other(name="a\0")], ["databases/001"], "cannot be the name"),
    ("no time", [other(taken_at="soon")], ["databases/001"], "taken_at of the database a: it is not ISO 8601"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("others", "folders", "words"), [case[1:] for case in FOLDERS], ids=[one[0] for one in FOLDERS]
)
def test_a_backups_databases_are_those_of_its_folders(others: Any, folders: list[str], words: str) -> None:
    details = {"others": others, "missing": {"gone": "it takes no connections"}}
    one = make_manifest(details=details, artefacts=make_manifest().artefacts)
    more = tuple(replace(one.artefacts[0], name=f"{folder}/database.dump") for folder in folders)
    data = replace(one, artefacts=(*one.artefacts, *more)).to_bytes()
    with pytest.raises(IntegrityError, match=re.escape(words)) if words else contextlib.nullcontext():
        parse(data)


def test_details_of_a_newer_minor_version_are_read_and_stay_sealed() -> None:
    newer = make_manifest(details={"new": {"a": [1]}, "fingerprint": {"rows": 5, "pages": 7}})
    read = parse(newer.to_bytes())
    assert (read.details, read.seal) == (newer.details, newer.seal)
    found = read.detailed(DumpDetails)
    assert (found.databases[0].fingerprint, found.role_passwords, found.compression) == (Content(rows=5), True, "")


def test_the_primary_database_is_the_first_of_the_list_and_stands_flat_in_a_manifest() -> None:
    """As every version before wrote it: what was read is written again, key for key."""
    body = {**make_manifest().details, "relations": 7, "not_carried": ["a lock"], "others": [other()]}
    found = make_manifest(details=body).detailed(DumpDetails)
    assert [entry.name for entry in found.databases] == ["shop", "a"]
    assert (found.primary.size, found.databases[0].relations, found.primary.not_carried) == (1000, 7, ("a lock",))
    written = typed.plain(found)
    empty = {"relations": 0, "not_carried": [], "fingerprint": typed.plain(Content())}
    assert {name: written[name] for name in body} == {**body, "others": [{**other(), **empty}]}
    assert not {"primary", "databases"} & {*written}


def test_a_backup_by_another_method_is_no_dump_of_no_tables() -> None:
    details = {**make_manifest().details, "method": "physical"}
    found = parse(make_manifest(details=details).to_bytes()).detailed(DatabaseDetails)
    kind = KINDS["database"]
    assert not isinstance(found, DumpDetails) and found.databases[0].content is None
    assert (kind.counted(found), kind.held_parts(found), kind.held_part(found, "")) == ({"databases": 1}, {}, None)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"{" * 5000, b"[" * 100000])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="it is not a manifest"):
        parse(data)


def test_a_manifest_swapped_with_an_older_one() -> None:
    older = make_manifest(NOW - timedelta(days=1))
    with pytest.raises(IntegrityError, match=f"it is the manifest {older.id}"):
        parse(older.to_bytes())


TIMES = [
    ("2026-11-24T02:00:00Z", "2026-11-24T02:00:00.000Z"),
    ("2026-11-24T02:00:00z", "2026-11-24T02:00:00.000Z"),
    ("2026-11-24T11:00:00+09:00", "2026-11-24T02:00:00.000Z"),
    ("2026-11-24T02:00:00", "2026-11-24T02:00:00.000Z"),
    ("2026-11-24 02:00", "2026-11-24T02:00:00.000Z"),
    ("2026-11-24", "2026-11-24T00:00:00.000Z"),
    (" 2026-11-24T02:00:00Z ", "2026-11-24T02:00:00.000Z"),
    # PostgreSQL leaves trailing zeros out, and so writes anything from one to six digits.
    ("2026-11-24T02:00:00.4+00:00", "2026-11-24T02:00:00.400Z"),
    ("2026-11-24T02:00:00.41+00:00", "2026-11-24T02:00:00.410Z"),
    ("2026-11-24T02:00:00.412Z", "2026-11-24T02:00:00.412Z"),
    ("2026-11-24T02:00:00.4123+00:00", "2026-11-24T02:00:00.412Z"),
    ("2026-11-24T02:00:00.41234+09:00", "2026-11-23T17:00:00.412Z"),
    ("2026-11-24T02:00:00.412345+00:00", "2026-11-24T02:00:00.412Z"),
    ("2026-11-24T02:00:00.412345678Z", "2026-11-24T02:00:00.412Z"),
]
# What datetime.fromisoformat() of Python 3.9 takes: https://docs.python.org/3.9/library/datetime.html
OLD_PYTHON = re.compile(r"\d{4}-\d\d-\d\d(.\d\d(:\d\d(:\d\d(\.\d{3}(\d{3})?)?)?)?([+-]\d\d:\d\d(:\d\d(\.\d{6})?)?)?)?")


@pytest.mark.parametrize(("text", "shown"), TIMES)
def test_times_are_read_as_python_3_9_reads_them(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    class Old(datetime):
        @classmethod
        def fromisoformat(cls, date_string: str, /) -> Any:
            given.append(date_string)
            return datetime.fromisoformat(date_string)

    monkeypatch.setattr(manifest, "datetime", Old)
    moment = clock.parse_time(text)
    assert moment.tzinfo is not None
    assert clock.format_time(moment) == shown
    assert [moment for moment in given if not OLD_PYTHON.fullmatch(moment)] == []


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "24.11.2026", "2026-11-24T25:00:00Z", "Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"it is not ISO 8601. Write it like 2026-11-24T02:00:00Z"):
        clock.parse_time(text)
