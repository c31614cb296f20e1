# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a bucket: is it what the newest good backup and the database say that it should be? Reads only."""

from __future__ import annotations

from collections.abc import Iterable
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


def assess(run: Opened, reference: Optional[Point], older: Iterable[Point] = (), *, log: Log) -> Assessment:
    """Look at the stack's bucket. `reference`: the newest good backup, what should be there.

    older: the backups before it, newest first; they are read where rows name objects that it does not have.
    """
    seen = condition.answers(run)
    if seen.condition != HEALTHY:
        return seen
    if reference is None:
        return replace(seen, unchecked=("no good backup to compare the objects with",))
    try:
        return _look_inside(run, reference, older, seen.service, log)
    except LifeboatError as exc:  # it died of the question, or cannot list what it holds
        if causes.of(exc):
            return condition.refused(exc, seen.service)
        words = f"the bucket {run.config.objects.bucket} cannot be read: {exc.cause}"
        return Assessment(DAMAGED, (words,), seen.service, unreadable=True)


def _look_inside(run: Opened, reference: Point, older: Iterable[Point], words: str, log: Log) -> Assessment:
    source = buckets.source(run)
    told_settings = s3_settings.look(source)
    have = told_settings.values
    findings = [s3_settings.describe(name, have) for name in s3_settings.lost(reference.settings, have)]
    warnings = [
        f"the bucket's {name} is not what it was; it is left as it is"
        for name in s3_settings.changed(reference.settings, have)
    ]
    with Inventory() as inventory:
        unknown = compare.hold(run, inventory, source, reference, log=log)
        found, unsure, told = compare.judge(run.config, inventory, reference, unknown)
        bad, unread, damaged = compare.sample(inventory, source)
        lacking, held_by = ("", "") if unknown else _rows_without(inventory, older)
    findings += [*found, *bad, *([lacking] if held_by else [])]
    unknown_settings = {*reference.settings_denied, *told_settings.denied}
    unsure += [f"the bucket's {name}: the key may not read it" for name in sorted(unknown_settings)]
    unsure += [f"{lacking}; the rows may be wrong"] if lacking and not held_by else []
    return Assessment(
        DAMAGED if findings else HEALTHY, tuple(findings), words, (*unsure, *unread), (*warnings, *told),
        unreadable=bool(bad), ruined=damaged >= compare.ENOUGH, held_by=held_by,
    )  # fmt: skip


def _rows_without(inventory: Inventory, older: Iterable[Point]) -> tuple[str, str]:
    """Rows whose object neither the bucket nor the reference has, in words, and the backup that has most of them."""
    wanted, words = compare.rows_without(inventory)
    if not wanted:
        return "", ""
    best, most = "", 0
    try:
        for point in older:
            count = sum(entry.key in wanted for entry in point.entries())
            if count > most:
                best, most = point.id, count
            if most == len(wanted):
                break
    except LifeboatError as exc:
        return f"rows have no object: {words}; an older backup cannot be read: {exc.cause}", best
    where = f"{best} has {most} of them" if best else "no earlier backup that was looked into has one of them"
    return f"rows have no object: {words}; {where}", best
