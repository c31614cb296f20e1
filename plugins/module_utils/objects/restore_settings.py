# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the settings of buckets back that are not those of a recovery point. No object is touched, nothing is stopped."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..base import filesystem, throttle, typed
from ..base.checks import PASS, Check
from ..base.errors import IntegrityError, LifeboatError, Log
from ..base.filesystem import explained
from ..base.text import named
from ..mirror.listing import Point
from ..recovery import state as recovery_state
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket
from ..s3.settings import Applied
from ..stack import buckets
from ..stack.runtime import Opened

_KEEPING = threading.Lock()  # buckets are worked on side by side


@dataclass(frozen=True)
class _Replaced:
    """By bucket."""

    buckets: Mapping[str, object]


def differing(source: Bucket, expected: Mapping[str, object]) -> list[str]:
    """What would be put back, in words. A setting that the key may not read cannot be compared, and is not there."""
    have = s3_settings.read(source)
    return [
        *(s3_settings.describe(name, expected, have) for name in s3_settings.lost(expected, have)),
        *(f"the bucket's {name} is not what it was" for name in s3_settings.changed(expected, have)),
    ]


def assess(run: Opened, points: Sequence[Point]) -> dict[str, list[str]]:
    """Return what would be put back, by bucket: "" is the first, which `run` is of. Buckets without a difference are
    left out."""
    first = buckets.source(run)

    def of_each(point: Point) -> list[str]:
        if point is points[0]:
            return differing(first, point.settings)
        source = first.sibling(point.bucket)
        words = differing(source, point.settings) if s3_settings.exists(source) else []
        return [f"the bucket {named(point.bucket)}: {text}" for text in words]

    names = ["", *(point.bucket for point in points[1:])]
    return {name: words for name, words in zip(names, throttle.mapped(of_each, points)) if words}


def put_back(run: Opened, source: Bucket, point: Point, stamp: str, log: Log) -> Applied:
    """Make every setting what it was; what the server refuses is told, and stops nothing.

    What is replaced is kept on this host first. What is set and was not stays, and is told by its check.
    """
    try:
        have = s3_settings.read(source)
        replaced = {name: have[name] for name in s3_settings.changed(point.settings, have)}
        _keep(run, source.name, replaced, stamp, log)
    except LifeboatError as exc:
        return Applied((), dict.fromkeys(point.settings, exc.cause))
    applied = s3_settings.apply(source, point.settings, whole=True)
    for name in applied.changed:
        log(f"the bucket's {name} is what it was in {point.id}: {source.url}")
    return applied


def check_replaced(run: Opened, stamp: str) -> list[Check]:
    """Where what was replaced lies."""
    path = run.config.state / _name(stamp)
    return [Check("settings that were replaced", PASS, f"kept in {path}")] if path.exists() else []


def _keep(run: Opened, bucket: str, replaced: Mapping[str, object], stamp: str, log: Log) -> None:
    if not replaced:
        return
    path = run.config.state / _name(stamp)
    with _KEEPING:
        before = _kept_before(path) if os.path.lexists(path) else {}
        recovery_state.keep(run.config, path.name, json.dumps({**before, bucket: dict(replaced)}, default=str))
    log(f"what is replaced of the settings of {bucket} is kept in {path}")


def _kept_before(path: Path) -> Mapping[str, object]:
    def wrong(field: str, cause: str) -> LifeboatError:
        what = f"{field} {cause}".strip()
        return IntegrityError("keep what is replaced of the settings", str(path), what, "Move that file away.")

    with explained("keep what is replaced of the settings", path):
        return typed.build(_Replaced, {"buckets": typed.load(filesystem.read_plain(path), wrong)}, wrong).buckets


def _name(stamp: str) -> str:
    return f"bucket_settings_{stamp}.json"


def and_what_differs(run: Opened, source: Bucket, point: Point, applied: Applied, stamp: str, log: Log) -> Applied:
    """What was set again, and what put_back() does after it; what that made was refused before for another reason."""
    more = put_back(run, source, point, stamp, log)
    refused = {name: why for name, why in applied.refused.items() if name not in more.changed}
    return replace(
        more, changed=tuple(dict.fromkeys((*applied.changed, *more.changed))), refused={**refused, **more.refused}
    )
