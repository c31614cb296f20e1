# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Frozen dataclasses from JSON and back, every type, range and field checked: what stands at a border is typed."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Callable, Literal, NoReturn, Optional, TypeVar, Union

from .clock import format_time, parse_time
from .errors import LifeboatError

T = TypeVar("T")
# Says which field is wrong and why; the caller knows what was attempted and what to do next.
Wrong = Callable[[str, str], LifeboatError]


class Build(typing.Protocol):
    """build(), of a part of what is being read. name: of the field that it is; empty: it lies in the same mapping."""

    def __call__(self, kind: type[T], data: object, name: str = "") -> T: ...


_NONE = type(None)
_EMPTY: tuple[object, ...] = (None, "", (), [], {})
MOST = 10**18  # beyond every size in bytes and every time in seconds that we write
DEPTH = 40  # levels of nesting; what we write has fewer than ten
YEARS = (2000, 2200)


@dataclasses.dataclass(frozen=True)
class Range:
    """The bounds of a number, both included: `Annotated[int, Range(0, 100)]`."""

    least: float = -MOST
    most: float = MOST


@dataclasses.dataclass(frozen=True)
class Says:
    """What a published JSON Schema says of a field beyond its type; build() does not insist on it."""

    words: str
    keywords: Mapping[str, object] = dataclasses.field(default_factory=dict)


def load(data: Union[bytes, str], wrong: Wrong) -> Any:
    """Parse JSON that somebody else may have written. NaN, Infinity, a key given twice and deep nesting are refused."""
    try:
        value = json.loads(data, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        said = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise wrong("", f"it is not JSON that can be read: {said[:200]}") from exc
    refuse_deep(value, wrong)
    return value


def refuse_deep(value: Any, wrong: Wrong) -> None:
    """Nesting that no recursion of ours could follow. For what load() did not read."""
    layer = [value]
    for _level in range(DEPTH + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if layer:
        raise wrong("", f"it is nested more than {DEPTH} levels deep")


def build(
    kind: type[T], data: object, wrong: Wrong, where: str = "", *, unknown: Literal["refuse", "ignore"] = "refuse"
) -> T:
    """The dataclass, or value of another type, that `data` describes. Coerced are lists to tuples and text to times.
    A class's own `from_dict`, which is given the mapping and a Build, goes before.

    `unknown`: what to do with a field that the dataclass does not have; a file of a newer minor version may have some.
    Raises what `wrong(field, cause)` makes; `field` is a path like `checks[3].detail`.
    """
    return typing.cast(T, _Reader(wrong, unknown).value(kind, data, where))


def maybe(kind: type[T], data: Optional[bytes]) -> Optional[T]:
    """The dataclass that JSON describes, whatever else stands there; None where it does not, or there is no JSON."""
    wrong = functools.partial(LifeboatError, "read")
    try:
        return build(kind, load(data or b"", wrong), wrong, unknown="ignore")
    except LifeboatError:
        return None


def plain(value: Any, *, nulls: bool = False) -> Any:
    """JSON of a dataclass: times as text, tuples as lists. A field that is None is left out, or null with `nulls`; one
    that the class names in SPARSE is left out wherever it is empty. A class's own `as_dict` goes before."""
    if hasattr(value, "as_dict"):
        return plain(value.as_dict(), nulls=nulls)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        sparse = getattr(value, "SPARSE", ())
        found = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            key(field): plain(inner, nulls=nulls)
            for field, inner in found.items()
            if not (inner in _EMPTY if field.name in sparse else inner is None and not nulls)
        }
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner, nulls=nulls) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, nulls=nulls) for inner in value]
    return value


def key(field: dataclasses.Field[Any]) -> str:
    """A field's name in JSON: its own, or `metadata={"json": "from"}` where Python keeps that word for itself."""
    return str(field.metadata.get("json", field.name))


class _Reader:
    def __init__(self, wrong: Wrong, unknown: str) -> None:
        self._wrong, self._unknown = wrong, unknown

    def dataclass(self, kind: Any, data: Any, where: str) -> Any:
        if not isinstance(data, Mapping):
            raise self._wrong(where, f"wants a mapping, has {shown(data)}")
        if hasattr(kind, "from_dict"):
            return kind.from_dict(data, functools.partial(self._below, where))
        known, required = _shape(kind)
        if data.keys() != known.keys():
            if self._unknown == "refuse" and (strange := sorted(str(name) for name in data if name not in known)):
                raise self._wrong(where, f"does not know {', '.join(strange)}; it knows {', '.join(sorted(known))}")
            if not required <= data.keys():
                missing = [name for name in known if name in required and name not in data]
                raise self._wrong(where, f"lacks {', '.join(missing)}")
        given = {
            field: inner if type(inner) in right else self.value(wanted, inner, f"{where}.{name}" if where else name)
            for name, (field, wanted, right) in known.items()
            if (inner := data.get(name, _NONE)) is not _NONE
        }
        return kind(**given)

    def _below(self, where: str, kind: Any, data: Any, name: str = "") -> Any:
        return self.value(kind, data, ".".join(filter(None, (where, name))))

    def value(self, kind: Any, data: Any, where: str) -> Any:
        if kind is Any or kind is object:  # JSON of somebody else's making
            return data
        if hasattr(kind, "__dataclass_fields__"):
            return self.dataclass(kind, data, where)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is None:
            return self._scalar(kind, data, where)
        if origin is typing.Annotated:
            return self._bounded(self.value(arguments[0], data, where), arguments[1:], where)
        if origin is Union:
            return self._first_that_fits(arguments, data, where)
        if origin is Literal:
            if data not in arguments or isinstance(data, bool) is not isinstance(arguments[0], bool):
                raise self._wrong(where, f"{shown(data)} is not one of {', '.join(map(str, arguments))}")
            return data
        if origin is tuple:
            if not isinstance(data, (list, tuple)):
                raise self._wrong(where, f"wants a list, has {shown(data)}")
            return tuple(self.value(arguments[0], inner, f"{where}[{number}]") for number, inner in enumerate(data))
        if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
            raise self._wrong(where, f"wants a mapping, has {shown(data)}")
        wanted, right = arguments[1], _as_it_is(arguments[1])  # Mapping[str, ...]
        return {
            name: inner if type(inner) in right else self.value(wanted, inner, f"{where}.{name}")
            for name, inner in data.items()
        }

    def _scalar(self, kind: Any, data: Any, where: str) -> Any:
        if kind is datetime:
            return self._time(data, where)
        if kind is float and isinstance(data, int) and not isinstance(data, bool):
            kind = int
        if not isinstance(data, kind) or (kind is not bool and isinstance(data, bool)):
            raise self._wrong(where, f"wants {kind.__name__}, has {shown(data)}")
        if isinstance(data, float) and not math.isfinite(data):
            raise self._wrong(where, "is not a number")
        if kind in (int, float) and abs(data) > MOST:
            raise self._wrong(where, f"has a number beyond {MOST:.0e}")
        return data

    def _time(self, data: Any, where: str) -> datetime:
        if isinstance(data, datetime):
            return data
        try:
            moment = parse_time(data) if isinstance(data, str) else None
        except LifeboatError:
            moment = None
        if moment is None:
            raise self._wrong(where, f"wants a time like 2026-11-24T02:00:00+00:00, has {shown(data)}")
        if not YEARS[0] <= moment.year <= YEARS[1]:
            raise self._wrong(where, f"has the year {moment.year}, which no clock showed")
        return moment

    def _bounded(self, value: Any, bounds: Sequence[Any], where: str) -> Any:
        for bound in bounds:
            if isinstance(bound, Range) and value is not None and not bound.least <= value <= bound.most:
                raise self._wrong(where, f"{value} is not between {bound.least:g} and {bound.most:g}")
        return value

    def _first_that_fits(self, kinds: Sequence[Any], data: Any, where: str) -> Any:
        if data is None and _NONE in kinds:
            return None
        tagged = _tagged(tuple(kinds))
        if tagged and isinstance(data, Mapping):
            word = data.get("type", next(iter(tagged)))
            if not isinstance(word, str) or word not in tagged:
                raise self._wrong(f"{where}.type".lstrip("."), f"{shown(word)}: it must be {' or '.join(tagged)}")
            return self.dataclass(tagged[word], data, where)
        *others, last = (kind for kind in kinds if kind is not _NONE)
        for kind in others:
            try:
                return self.value(kind, data, where)
            except LifeboatError:
                continue
        return self.value(last, data, where)


@functools.cache
def hints(kind: Any) -> Mapping[str, Any]:
    """The types of a dataclass's fields. Text is evaluated for each of them: once is enough."""
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def _tagged(kinds: tuple[Any, ...]) -> Mapping[str, Any]:
    """Of dataclasses that a word in their field `type` tells apart: each by its word. Without one it is the first."""
    if not all(hasattr(kind, "__dataclass_fields__") and "type" in kind.__dataclass_fields__ for kind in kinds):
        return {}
    return {typing.get_args(hints(kind)["type"])[0]: kind for kind in kinds}


@functools.cache
def _shape(kind: Any) -> tuple[Mapping[str, tuple[str, Any, Sequence[type]]], frozenset[str]]:
    """By its name in JSON each field's own name, type, and what _as_it_is() says; and the names that must be given."""
    fields = [field for field in dataclasses.fields(kind) if field.init]
    required = (key(field) for field in fields if _required(field))
    wanted = ((field, hints(kind)[field.name]) for field in fields)
    return {key(field): (field.name, inner, _as_it_is(inner)) for field, inner in wanted}, frozenset(required)


def _as_it_is(kind: Any) -> Sequence[type]:
    """The types whose values are all right, so that none has to be looked at: there may be a million."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) is Union else (kind,)
    return kinds if all(inner in (str, bool, _NONE) for inner in kinds) else ()


def shown(value: Any) -> str:
    """A value in an error, short: who can write a file decides what stands in it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found
