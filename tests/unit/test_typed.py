# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a file says becomes a dataclass or an error that names the field; never a traceback, whoever wrote the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError


@dataclass(frozen=True)
class Part:
    name: str
    share: float = 0.0


@dataclass(frozen=True)
class Whole:
    at: datetime
    size: Annotated[int, typed.Range(0, 10**15)] = 0
    kind: Literal["a", "b"] = "a"
    done: bool = False
    note: Optional[str] = None
    parts: tuple[Part, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    either: Union[int, str] = 0
    since: Optional[datetime] = field(default=None, metadata={"json": "from"})
    free: object = None


INTACT: dict[str, Any] = {
    "at": "2026-11-24T02:00:00Z",
    "size": 7,
    "kind": "b",
    "done": True,
    "note": "x",
    "parts": [{"name": "p", "share": 1}],
    "counts": {"rows": 3},
    "either": "some",
    "from": "2026-11-23T02:00:00+00:00",
    "free": {"any": [1, None]},
}


def wrong(where: str, cause: str) -> UsageError:
    return UsageError("read the file", where, cause, "Write it right.")


def read(data: Any) -> Whole:
    return typed.build(Whole, data, wrong)


def test_there_and_back() -> None:
    whole = read(INTACT)
    assert whole.at == datetime(2026, 11, 24, 2, tzinfo=timezone.utc)
    assert whole.parts == (Part("p", 1),)
    assert read(typed.load(json.dumps(typed.plain(whole)), wrong)) == whole
    assert typed.plain(Whole(whole.at)) == {
        "at": "2026-11-24T02:00:00.000Z", "size": 0, "kind": "a", "done": False, "parts": [], "counts": {}, "either": 0
    }  # fmt: skip
    nulls = {"note": None, "from": None, "free": None}
    assert typed.plain([Whole(whole.at)], nulls=True) == [{**typed.plain(Whole(whole.at)), **nulls}]
    assert typed.plain((Check("x", "PASS"),)) == [{"name": "x", "result": "PASS", "detail": ""}], "as_dict says it"


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"at": None}, r"at\): wants a time like .*, has None"),
    ({"at": "yesterday"}, r"at\): wants a time"),
    ({"at": "0001-01-01T00:00:00+23:59"}, r"at\): "),
    ({"at": "2999-01-01T00:00:00Z"}, "has the year 2999, which no clock showed"),
    ({"at": 5}, "wants a time"),
    ({"size": "7"}, r"size\): wants int, has '7'"),
    ({"size": True}, r"size\): wants int, has True"),
    ({"size": 1.5}, r"size\): wants int, has 1.5"),
    ({"size": -1}, r"size\): -1 is not between 0 and 1e\+15"),
    ({"size": 10**30}, "beyond 1e"),
    ({"kind": "c"}, r"kind\): 'c' is not one of a, b"),
    ({"kind": ["a"]}, r"kind\): \['a'\] is not one of"),
    ({"done": 1}, r"done\): wants bool, has 1"),
    ({"note": 1}, r"note\): wants str, has 1"),
    ({"parts": "p"}, r"parts\): wants a list, has 'p'"),
    ({"parts": [{"name": "p"}, {"share": 1.0}]}, r"parts\[1\]\): lacks name"),
    ({"parts": [{"name": "p", "share": float("inf")}]}, r"parts\[0\].share\): is not a number"),
    ({"parts": [None]}, r"parts\[0\]\): wants a mapping, has None"),
    ({"counts": {"rows": "many"}}, r"counts.rows\): wants int"),
    ({"counts": []}, r"counts\): wants a mapping, has \[\]"),
    ({"either": None}, r"either\): wants str, has None"),
    ({"extra": 1, "more": 2}, "does not know extra, more; it knows at, counts"),
    ({"note": ["x" * 500]}, r"has \['x{70,80}\.\.\."),
]


@pytest.mark.parametrize(("change", "said"), BROKEN, ids=[str(change)[:40] for change, _ in BROKEN])
def test_what_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    assert read(INTACT), "the intact file passes"
    with pytest.raises(UsageError, match=said):
        read({**INTACT, **change})


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_what_is_not_a_mapping_is_no_dataclass(data: Any) -> None:
    with pytest.raises(UsageError, match="wants a mapping"):
        read(data)


def test_a_field_of_a_newer_version_is_ignored_where_asked() -> None:
    data = {**INTACT, "newer": 1, "parts": [{"name": "p", "share": 1, "newer": 2}]}
    assert typed.build(Whole, data, wrong, unknown="ignore") == read(INTACT)


def test_what_is_only_published_is_not_insisted_on() -> None:
    @dataclass(frozen=True)
    class Said:
        size: Annotated[int, typed.Says("Bytes.", {"minimum": 0})]

    assert typed.build(Said, {"size": -1}, wrong).size == -1


TEXTS = [
    b"", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1, "a": 2}', b"[" * 100_000,
    b'{"a":' * 60 + b"1" + b"}" * 60,
    b"1" + b"0" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=[repr(text[:12]) for text in TEXTS])
def test_json_that_cannot_be_trusted_is_an_error(text: bytes) -> None:
    assert typed.load(b'{"a": [1]}', wrong) == {"a": [1]}, "the intact text passes"
    with pytest.raises(LifeboatError):
        typed.load(text, wrong)
