# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a bucket: is it what the newest good backup and the database say that it should be? Reads only."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ..base.errors import LifeboatError, Log
from ..mirror.listing import Point
from ..recovery.state import DAMAGED, HEALTHY
from ..s3 import causes
from ..s3 import settings as s3_settings
from ..s3.inventory import Inventory
from ..stack import buckets
from ..stack.runtime import Opened
from . import compare, condition
from .condition import Assessment


def assess(run: Opened, reference: Optional[Point], *, log: Log) -> Assessment:
    """Look at the stack's bucket. `reference`: the newest good backup, what should be there."""
    seen = condition.answers(run)
    if seen.condition != HEALTHY:
        return seen
    if reference is None:
        return replace(seen, unchecked=("no good backup to compare the objects with",))
    try:
        return _look_inside(run, reference, seen.service, log)
    except LifeboatError as exc:  # it died of the question, or cannot list what it holds
        if causes.of(exc):
            return condition.refused(exc, seen.service)
        words = f"the bucket {run.config.objects.bucket} cannot be read: {exc.cause}"
        return Assessment(DAMAGED, (words,), seen.service, unreadable=True)


def _look_inside(run: Opened, reference: Point, words: str, log: Log) -> Assessment:
    source = buckets.source(run)
    have = s3_settings.read(source)
    findings = [s3_settings.describe(name, have) for name in s3_settings.lost(reference.settings, have)]
    warnings = [
        f"the bucket's {name} is not what it was; it is left as it is"
        for name in s3_settings.changed(reference.settings, have)
    ]
    with Inventory() as inventory:
        unknown = compare.hold(run, inventory, source, reference, log=log)
        found, unsure, told = compare.judge(run.config, inventory, reference, unknown)
        bad, unread, damaged = compare.sample(inventory, source)
    findings += [*found, *bad]
    return Assessment(
        DAMAGED if findings else HEALTHY, tuple(findings), words, (*unsure, *unread), (*warnings, *told),
        unreadable=bool(bad), ruined=damaged >= compare.ENOUGH,
    )  # fmt: skip
