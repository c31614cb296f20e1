# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listing of an objects backup: written, read, and broken in every way it can be."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from config_world import keys as new_key


def row(key: str, **more: Any) -> Listed:
    return typed.build(Listed, line(key, **more), lambda *why: IntegrityError("read it", *why))


def line(key: str, **more: Any) -> dict[str, Any]:
    return {
        "key": key, "size": 3, "etag": "e", "modified": "2026-11-24T02:00:00.000Z", "version": "v",
        "vault_version": "w", "vault_etag": "e", "sha256": None, **more,
    }  # fmt: skip


ROWS = [row("\x01"), row("a b", size=5, sha256="f" * 64), row("é"), row("😀")]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    summary = listing.write(tmp_path / "one", ROWS)
    assert (summary.objects, summary.bytes) == (4, 14)
    with (tmp_path / "one").open("rb") as file:
        assert list(listing.read(file, "one")) == ROWS


RECORDED = {
    "properties": "hold=1", "headers": "content-type=text%2Fx", "tags": "a=1&b%20c=d", "storage": "GLACIER",
    "tags_as_of": "2026-11-24T02:00:00.000Z",
}  # fmt: skip


@pytest.mark.parametrize("left_out", ["", *RECORDED])
def test_what_is_recorded_of_an_object_and_what_is_not(tmp_path: Path, left_out: str) -> None:
    rows = [row("a", **{name: value for name, value in RECORDED.items() if name != left_out}), row("b", tags="")]
    listing.write(tmp_path / "one", rows)
    with (tmp_path / "one").open("rb") as file:
        assert list(listing.read(file, "one")) == rows
    first, second = (json.loads(line) for line in gzip.decompress((tmp_path / "one").read_bytes()).splitlines())
    assert {*first} == {*line("a"), *RECORDED} - {left_out}
    assert {*second} == {*line("b"), "tags"}, "that it has none is known; of the rest nothing is said"


def test_a_listing_of_before_there_were_records_is_read() -> None:
    (entry,) = listing.read(io.BytesIO(packed(json.dumps(line("a")) + "\n")), "one")
    assert (entry.properties, entry.headers, entry.tags, entry.tags_as_of, entry.storage) == ("", None, None, None, "")


def test_what_many_objects_have_takes_little_room(tmp_path: Path) -> None:
    plain = [row(f"{number:06}") for number in range(5000)]
    listing.write(tmp_path / "plain", plain)
    same = typed.build(Listed, line("a", **RECORDED), lambda *why: IntegrityError("read it", *why))
    noted = {name: getattr(same, name) for name in RECORDED}
    listing.write(tmp_path / "noted", [replace(entry, **noted) for entry in plain])
    more = (tmp_path / "noted").stat().st_size - (tmp_path / "plain").stat().st_size
    assert more < 5000 * 4, f"{more} bytes for {len(RECORDED)} fields of 5,000 objects"


def test_same_listing_same_bytes(tmp_path: Path) -> None:
    assert listing.write(tmp_path / "one", ROWS) == listing.write(tmp_path / "two", ROWS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_the_digest_is_of_what_a_restore_can_see(tmp_path: Path) -> None:
    lines = b"".join(
        json.dumps([row.key, row.size, row.etag, row.sha256], ensure_ascii=False, separators=(",", ":")).encode()
        + b"\n"
        for row in ROWS
    )
    first = listing.write(tmp_path / "one", ROWS)
    assert first.digest == hashlib.sha256(lines).hexdigest()
    other = [replace(row, version="x", vault_version="y") for row in ROWS]
    assert listing.write(tmp_path / "two", other).digest == first.digest
    for name, value in (("key", "\x00"), ("size", 4), ("etag", "f"), ("sha256", "0")):
        changed = [replace(ROWS[0], **{name: value}), *ROWS[1:]]
        assert listing.write(tmp_path / name, changed).digest != first.digest


@pytest.mark.parametrize("keys", [("b", "a"), ("a", "a"), ("😀", "\uffee")])
def test_rows_that_do_not_come_in_order(tmp_path: Path, keys: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="after"):
        listing.write(tmp_path / "one", [row(key) for key in keys])


def test_an_empty_bucket(tmp_path: Path) -> None:
    assert listing.write(tmp_path / "one", []).objects == 0
    with (tmp_path / "one").open("rb") as file:
        assert list(listing.read(file, "one")) == []


def packed(text: str) -> bytes:
    return gzip.compress(text.encode())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="no gzip"),
        pytest.param(packed("".join(json.dumps(line(row.key)) + "\n" for row in ROWS))[:-9], id="cut"),
        pytest.param(packed("{"), id="no JSON"),
        pytest.param(packed("[]\n"), id="no object"),
        pytest.param(packed('{"size": 1}\n'), id="no key"),
        pytest.param(packed('{"key": "a", "size": "1"}\n'), id="a size that is none"),
        pytest.param(packed('{"key": 1, "size": 1}\n'), id="a key that is none"),
        pytest.param(packed(json.dumps(line("a", tags="a b=1")) + "\n"), id="tags that are none of ours"),
        pytest.param(packed(json.dumps(line("a", headers=1)) + "\n"), id="headers that are none"),
        pytest.param(packed(json.dumps(line("a", tags_as_of="yesterday")) + "\n"), id="a time that is none"),
    ],
)
def test_a_broken_listing_says_so(data: bytes) -> None:
    if data:
        with pytest.raises(IntegrityError, match="read the listing"):
            list(listing.read(io.BytesIO(data), "objects_backup_20261124_030000"))
    else:  # an empty file is an empty gzip file to Python; the manifest's SHA-256 tells it from ours
        assert list(listing.read(io.BytesIO(data), "one")) == []


# Encrypted.


@pytest.fixture
def seal(tmp_path: Path) -> tuple[str, age.Seal]:
    identity, recipient = new_key(tmp_path)
    return identity, age.Seal((recipient,))


def test_an_encrypted_listing_is_read_with_the_key(tmp_path: Path, seal: tuple[str, age.Seal]) -> None:
    rows = [replace(one, **{name: getattr(row("a", **RECORDED), name) for name in RECORDED}) for one in ROWS]
    plain, summary = listing.write(tmp_path / "one", rows), listing.write(tmp_path / listing.NAME, rows, seal[1])
    assert summary == plain
    assert not (tmp_path / listing.NAME).exists()
    with (
        (tmp_path / f"{listing.NAME}.age").open("rb") as file,
        age.keys_of(seal[0]).stream(file, seal[1], subject="x") as opened,
    ):
        assert list(listing.read(opened, "one")) == rows


def test_next_to_it_lies_what_a_reader_of_the_bucket_sees(tmp_path: Path, seal: tuple[str, age.Seal]) -> None:
    rows = [row("a", **RECORDED, sha256="f" * 64)]
    listing.write(tmp_path / listing.NAME, rows, seal[1])
    (said,) = map(json.loads, gzip.decompress((tmp_path / "versions.jsonl.gz").read_bytes()).splitlines())
    assert said == {**line("a"), "etag": "", "version": "", "vault_etag": "", "sha256": None}
    assert listing.artefacts("buckets/001", seal[1]) == [
        "buckets/001/listing.jsonl.gz.age",
        "buckets/001/versions.jsonl.gz",
    ]
    assert listing.artefacts("", age.OPEN) == [listing.NAME]


def test_a_listing_in_disorder_is_refused_encrypted_too(tmp_path: Path, seal: tuple[str, age.Seal]) -> None:
    with pytest.raises(ValueError, match="after"):
        listing.write(tmp_path / listing.NAME, [row("b"), row("a")], seal[1])


ONE = json.dumps(line("a", sha256="f" * 64, **RECORDED), separators=(",", ":")) + "\n"


def lines_of(text: str) -> list[listing.RawEntry | Listed]:
    return list(listing.read_lines(io.BytesIO(packed(text)), "one"))


def test_a_line_is_read_off_as_it_stands() -> None:
    """In the order in which it is written, whatever of it is missing; what it says is what a reader of JSON is told."""
    (whole,) = listing.read(io.BytesIO(packed(ONE)), "one")
    blank = {name: getattr(row("a"), name) for name in RECORDED}
    less = [replace(whole, **{name: value}) for name, value in blank.items()]
    rows = [whole, *less, replace(whole, sha256=None, vault_modified=whole.modified), row("é \x7f")]
    for entry in rows:
        text = listing._lines(entry)[0]
        (found,) = lines_of(text)
        assert isinstance(found, listing.RawEntry), text
        assert (found.raw, listing.parsed(found.raw)) == (text.encode(), entry)
        said = {name: value for name, value in found._asdict().items() if name != "raw" and value is not None}
        assert said == {name: value for name, value in json.loads(text).items() if value is not None}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"key":"a"', '"key":"a\\u0062"', id="an escape"),
        pytest.param('"key":"a"', '"key":"x","key":"a"', id="a name twice"),
        pytest.param(',"size":3', ', "size":3', id="other blanks"),
        pytest.param('"size":3', '"size":03', id="no JSON"),
        pytest.param('"size":3', '"size":9999999999999999999', id="too large"),
        pytest.param('"size":3', '"size":3.0', id="no whole number"),
        pytest.param("2026-11-24T02:00:00.000Z", "2026-11-34T02:00:00.000Z", id="no day"),
        pytest.param("2026-11-24T02:00:00.000Z", "2026-11-24T02:00:00Z", id="written in another way"),
        pytest.param('"hold=1"', '"hold=7"', id="no properties"),
        pytest.param("a=1&b%20c=d", "=&", id="no tags"),
        pytest.param('"sha256":"', '"sha256":"","x":"', id="an empty hash, and more than we know"),
        pytest.param('"storage":"GLACIER"', '"storage":""', id="what we do not say"),
        pytest.param("}\n", "}", id="the end is missing"),
    ],
)
def test_a_line_that_we_would_write_in_another_way_is_not_kept(old: str, new: str) -> None:
    assert old in ONE
    text = ONE.replace(old, new)
    try:
        whole: object = list(listing.read(io.BytesIO(packed(text)), "one"))
    except IntegrityError as exc:
        whole = str(exc)
    try:
        found: object = lines_of(text)
    except IntegrityError as exc:
        found = str(exc)
    assert found == whole


def test_lines_that_are_kept_come_in_order_too(tmp_path: Path) -> None:
    kept = listing._lines(row("b"))[0].encode()
    for entries in ([row("c"), kept], [kept, kept], [kept, row("a")]):
        with pytest.raises(ValueError, match="after"):
            listing.write(tmp_path / "wrong", entries)
        (tmp_path / "wrong").unlink()
    assert listing.write(tmp_path / "right", [row("a"), kept]) == listing.write(tmp_path / "made", [row("a"), row("b")])


def many(odd: str = "", at: int = 700) -> list[str]:
    """Lines of several blocks, in which `odd` is said in place of the size of one."""
    texts = [listing._lines(row(f"k{number:04}", sha256="f" * 64, **RECORDED))[0] for number in range(1000)]
    assert len("".join(texts)) > 4 * listing._BLOCK
    texts[at] = texts[at].replace('"size":3', odd or '"size":3')
    return texts


@pytest.mark.parametrize("odd", ["", ' "size":3', '"size":3,"x":1'])
@pytest.mark.parametrize("at", [0, 700, 999])
def test_of_many_lines_only_the_odd_one_is_made_anew(odd: str, at: int) -> None:
    texts = many(odd, at)
    found = lines_of("".join(texts))
    assert [each.raw.decode() for each in found if isinstance(each, listing.RawEntry)] == [
        text for number, text in enumerate(texts) if not odd or number != at
    ]
    read = listing.read(io.BytesIO(packed("".join(texts))), "one")
    assert [listing.parsed(each.raw) if isinstance(each, listing.RawEntry) else each for each in found] == list(read)


@pytest.mark.parametrize(
    ("odd", "why"),
    [('"size":03', "Expecting"), ('"size":-1', "size"), ('"x":"' + "y" * (1 << 20), "has more than 1 MiB")],
)
def test_of_many_lines_those_before_a_broken_one_come_first(odd: str, why: str) -> None:
    found = list[object]()
    with pytest.raises(IntegrityError, match="line 701") as caught:
        for each in listing.read_lines(io.BytesIO(packed("".join(many(odd)))), "one"):
            found.append(each)
    assert why in str(caught.value)
    assert len(found) == 700


def test_of_a_cut_listing_the_whole_lines_come_first() -> None:
    text = "".join(many())
    found = list[listing.RawEntry | listing.Listed]()
    with pytest.raises(IntegrityError, match="ended before the end-of-stream"):
        for each in listing.read_lines(io.BytesIO(packed(text)[:-12]), "one"):
            found.append(each)
    assert len(found) > 500
    assert (
        "".join(each.raw.decode() for each in found if isinstance(each, listing.RawEntry))
        == text[: sum(len(each.raw) for each in found if isinstance(each, listing.RawEntry))]
    )


def test_a_line_without_end_is_refused_before_it_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    file, taken, several = io.BytesIO(packed("x" * (40 << 20))), list[int](), listing._several
    monkeypatch.setattr(listing, "_several", lambda block: taken.append(len(block)) or several(block))  # type: ignore[func-returns-value]
    with pytest.raises(IntegrityError, match="has more than 1 MiB"):
        list(listing.read_lines(file, "one"))
    assert 0 < sum(taken) < 2 * listing.LONGEST
