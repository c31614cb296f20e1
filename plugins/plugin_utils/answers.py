# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator may answer, and how an answer becomes the declared type again.

Answers come from `-e name=value`, from JSON, from a YAML file, and from AWX. AWX writes every text into a YAML file
with the tag `!unsafe`, and ansible-core from 2.19 on resolves such a text once more as a YAML scalar: an empty answer
arrives as null, `no` as false, `0123` as 83, the recovery point `20261124_033000` as the number 20261124033000, and a
time as a datetime. Only what has one possible spelling is turned back; anything else is refused by name.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Optional, Union

import yaml

LIMIT = 1024  # characters of an answer, as AWX's surveys allow
_PATH_LIMIT = 4096  # PATH_MAX of Linux
_SHOWN = 60
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?")
_POINT = re.compile(r"(\d{8})(\d{6})")
# The words of Ansible's own type bool.
_TRUE, _FALSE = frozenset({"y", "yes", "on", "1", "true", "t"}), frozenset({"n", "no", "off", "0", "false", "f"})
# Direction overrides reorder what a person reads in a plan. https://www.unicode.org/reports/tr9/
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Answer = Union[str, int, float, bool, list[str]]


class AnswerError(ValueError):
    """Why an answer cannot be used, without its name: "it arrived as …"."""


_KINDS: tuple[tuple[Union[type, tuple[type, ...]], str], ...] = (
    (bool, "the truth value"), ((int, float), "the number"), (datetime, "the time"), (date, "the date"),
    (str, "the text"), ((list, tuple), "a list"), (dict, "a mapping"),
)  # fmt: skip


def _arrived(value: object) -> str:
    """Ansible's values are subclasses of Python's types."""
    kind = next((words for types, words in _KINDS if isinstance(value, types)), "another type")
    if kind.startswith("a"):
        return kind
    return f"{kind} {_shown(value) if isinstance(value, str) else str(value).lower()}"


def _not_text(value: object) -> AnswerError:
    if isinstance(value, bool):
        spellings = "yes, on and true" if value else "no, off and false"
    elif isinstance(value, int) and value >= 0:
        spellings = f"{value}, 0{value:o} and {value:#x}"
    elif isinstance(value, (int, float)):
        spellings = f"{value} and others"
    else:
        return AnswerError(f"it must be text, and arrived as {_arrived(value)}")
    return AnswerError(
        f"it must be text, and arrived as {_arrived(value)}: {spellings} all arrive so, and which was typed is unknown."
        " Put it in double quotes, also in AWX, or type name=value on the command line"
    )


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _unquoted(text: str) -> str:
    """`"0123"` means 0123, which YAML would read as another type. Any other quoted text keeps its quotes."""
    if len(text) < 2 or not text.startswith('"') or not text.endswith('"'):
        return text
    try:
        scalar = yaml.safe_load(text[1:-1])
    except (yaml.YAMLError, ValueError):
        return text
    return text if isinstance(scalar, (str, list, dict)) else text[1:-1]


def _text(value: object, limit: int = LIMIT) -> str:
    """YAML takes only one spelling for a date. A time keeps its instant and its offset."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, str):
        raise _not_text(value)
    if len(value) > limit:
        raise AnswerError(f"it has {len(value)} characters, and at most {limit} are allowed")
    for letter in value:
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _DIRECTIONS:
            raise AnswerError(
                f"it contains the control character {ascii(letter)[1:-1]}; write it on one line, without it"
            )
    return _unquoted(str(value))


def _path(value: object) -> str:
    return _text(value, _PATH_LIMIT)


def _point(value: object) -> str:
    """`20261124_033000` is an integer for YAML 1.1, which ignores the underscore."""
    digits = _POINT.fullmatch(str(value)) if isinstance(value, int) and not isinstance(value, bool) else None
    return f"{digits[1]}_{digits[2]}" if digits else _text(value)


def _seed(value: object) -> str:
    """Any number is a seed, however it was written."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    raise AnswerError(f"it must be a whole number, and arrived as {_arrived(value)}")


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        return float(value)
    raise AnswerError(f"it must be a number, and arrived as {_arrived(value)}")


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return bool(value)
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise AnswerError(f"it must be true or false, and arrived as {_arrived(value)}")


def _names(value: object) -> list[str]:
    """A list, or its elements in one text with commas between them, as Ansible's type list takes them."""
    elements = value if isinstance(value, (list, tuple)) else _text(value).split(",")
    return [_text(element).strip() for element in elements]


# Each variable that a playbook asks for, and its declared type.
ANSWERS: Mapping[str, Callable[[object], Answer]] = {
    "accept": _text,
    "ahead_days": _number,
    "alert_stack": _text,
    "alertmanager_url": _text,
    "allow": _names,
    "arrived": _text,
    "before": _text,
    "bucket": _text,
    "checklist_directory": _path,
    "confirm": _text,
    "database": _text,
    "details": _truth,
    "exact": _truth,
    "expires": _text,
    "fault": _text,
    "force": _truth,
    "identity_file": _path,
    "keep": _truth,
    "level": _text,
    "max_age": _integer,
    "method": _text,
    "mode": _text,
    "others": _text,
    "override": _integer,
    "partial": _truth,
    "paths": _names,
    "sources": _names,
    "period": _text,
    "prefix": _text,
    "project": _text,
    "reason": _text,
    "recovery_point": _point,
    "recovery_time": _text,
    "rehearsal": _truth,
    "report_directory": _path,
    "sample": _integer,
    "scenario": _text,
    "seal": _text,
    "seed": _seed,
    "settings": _text,
    "severity": _text,
    "signing_key_file": _path,
    "stack_file": _path,
    "state": _text,
    "target": _text,
    "target_seconds": _integer,
    "timeline": _integer,
    "trust_clock": _truth,
    "wait_seconds": _integer,
    "write_seconds": _integer,
}


def read(name: str, value: object) -> Optional[Answer]:
    """Return the answer `value` to the question `name` in its declared type, or None where it was left empty.

    Raises AnswerError where the answer cannot be turned into that type; the message does not repeat the name.
    """
    if value is None or (isinstance(value, str) and value == ""):
        return None
    return ANSWERS[name](value)
