# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of a store's many buckets, side by side, as a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Optional

from ..base import throttle
from ..base.checks import BUCKET, PASS, SHOWN, Check, ended
from ..base.errors import LifeboatError
from ..base.text import named


def folded(of_each: Iterable[tuple[str, Iterable[Check]]], at_once: int = throttle.SIDE_BY_SIDE) -> Iterator[Check]:
    """The checks of many buckets: one of each name for those that passed it, and each that did not with its bucket.

    at_once: buckets that are looked at side by side.
    """
    passed: dict[str, list[str]] = {}
    each = list(of_each)
    for (name, _checks), (found, failed) in zip(each, throttle.mapped(_gathered, each, at_once)):
        for check in found:
            if check.result == PASS:
                passed.setdefault(check.name, []).append(f"{named(name)}: {check.detail}")
            else:
                yield replace(check, name=f"bucket {named(name)}: {check.name}", kind=BUCKET, subject=name)
        if failed:
            yield replace(ended(f"bucket {named(name)}", failed), kind=BUCKET, subject=name)
    for what, told in passed.items():
        rest = f"; and {len(told) - SHOWN} other buckets alike" if len(told) > SHOWN else ""
        yield Check(f"other buckets: {what}", PASS, "; ".join(told[:SHOWN]) + rest)


def _gathered(one: tuple[str, Iterable[Check]]) -> tuple[list[Check], Optional[LifeboatError]]:
    """The checks of one bucket, and the error that ended them: the others are looked at all the same."""
    found: list[Check] = []
    try:
        for check in one[1]:
            found.append(check)
    except LifeboatError as exc:
        return found, exc
    return found, None
