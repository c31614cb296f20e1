# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a bucket: is it what the newest good backup and the database say that it should be? Reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ..base import throttle
from ..base.errors import LifeboatError, Log, UsageError
from ..base.text import named
from ..mirror import store
from ..mirror.listing import Point
from ..recovery.state import DAMAGED, DOWN, HEALTHY, Unfinished
from ..s3 import bucket as s3_bucket
from ..s3 import error_registry
from ..s3 import settings as s3_settings
from ..s3.inventory import Inventory
from ..stack import buckets
from ..stack.runtime import Opened
from . import compare, condition, selection
from .condition import Assessment


def assess(
    run: Opened, reference: Optional[Point], older: Iterable[Point] = (), *, instead: Sequence[Point] = (),
    whole: bool = True, log: Log,
) -> Assessment:  # fmt: skip
    """Look at the stack's bucket, and where the reference holds others of its store, at these. `reference`: the newest
    good backup, what should be there. instead: buckets that it could not include, of others. whole: false where nobody
    asked for the others.

    older: the backups before it, newest first; they are read where rows name objects that it does not have.
    """
    before = list(older)
    unfinished = selection.unfinished_of(run.config)
    seen = _primary(run, reference, before, unfinished, log)
    others = _protected(run, reference, instead) if whole else []
    if seen.condition == DOWN or seen.emptied or not others:
        return seen
    here = buckets.addressed(run)

    def assess_bucket(point: Point) -> Assessment:
        past = [replace(one, bucket=point.bucket) for one in before]
        return bucket(here, point, past, unfinished, log=log, share=len(others))

    looked = {point.bucket: found for point, found in zip(others, throttle.mapped(assess_bucket, others))}
    wrong = tuple(name for name, found in looked.items() if found.condition != HEALTHY)
    # A rebuild would move what is whole.
    ruined = seen.ruined and not any(name not in wrong and present_in(here, name) for name in looked)
    return replace(
        seen,
        condition=DAMAGED if wrong else seen.condition,
        findings=(*seen.findings, *(_in_bucket(name, text) for name in wrong for text in looked[name].findings)),
        unchecked=(*seen.unchecked, *_collect(looked, "unchecked")),
        warnings=(*seen.warnings, *_collect(looked, "warnings")),
        held_by=seen.held_by or next((found.held_by for found in looked.values() if found.held_by), ""),
        rows_without=seen.rows_without + sum(found.rows_without for found in looked.values()),
        lacking=(*seen.lacking, *_collect(looked, "lacking")),
        ruined=ruined,
        additional=wrong,
    )


def bucket(
    run: Opened, point: Point, older: Iterable[Point] = (), unfinished: Optional[Unfinished] = None, *, log: Log,
    share: int = 1,
) -> Assessment:  # fmt: skip
    """One of the store's other buckets, as the backup's `point` has it. older: as in assess(); share: as in
    compare.sample(). unfinished: a recovery that has not ended: what is missing of it is damage."""
    try:
        one = buckets.alone(run, point.bucket)
        if not s3_settings.exists(buckets.source(one)):
            return Assessment(DAMAGED, ("it is missing",))
        return _look_inside(one, point, older, "", unfinished, log, share)
    except LifeboatError as exc:
        if error_registry.cause_of(exc) or isinstance(
            exc, UsageError
        ):  # it refuses us, which says nothing of what it holds
            return Assessment(HEALTHY, unchecked=(f"it was not looked at: {exc.cause}",))
        return Assessment(DAMAGED, (f"it cannot be read: {exc.cause}",), unreadable=True)


def present_in(run: Opened, name: str) -> bool:
    """Does the bucket hold any object?"""
    with contextlib.suppress(LifeboatError):
        return any(True for _object in s3_bucket.objects(buckets.source(run).sibling(name)))
    return False


def _protected(run: Opened, reference: Optional[Point], instead: Sequence[Point]) -> list[Point]:
    """List what the backup holds besides, or could not include, and the configuration still wants."""
    if reference is None or reference.bucket:
        return []
    included = selection.beside(run.config, reference)
    return [*included, *(point for point in instead if store.is_selected(run.config.objects, point.bucket))]


def only_others(assessment: Assessment) -> bool:
    """Is it the store's other buckets alone with which something is wrong?"""
    starts = tuple(_in_bucket(name, "") for name in assessment.additional)
    return bool(starts) and all(finding.startswith(starts) for finding in assessment.findings)


def _in_bucket(name: str, text: str) -> str:
    return f"the bucket {named(name)}: {text}"


def _collect(looked: Mapping[str, Assessment], what: str) -> list[str]:
    return [_in_bucket(name, text) for name, found in looked.items() for text in getattr(found, what)]


def _primary(
    run: Opened, reference: Optional[Point], older: Iterable[Point], unfinished: Optional[Unfinished], log: Log
) -> Assessment:
    """The application's bucket, or the one that is looked at alone."""
    seen = condition.answers(run)
    if seen.condition != HEALTHY:
        return seen
    if reference is None:
        return replace(seen, unchecked=("no good backup to compare the objects with",))
    try:
        return _look_inside(run, reference, older, seen.service, unfinished, log)
    except LifeboatError as exc:  # it died of the question, or cannot list what it holds
        if error_registry.cause_of(exc):
            return condition.refused(exc, seen.service)
        words = f"the bucket {run.config.objects.bucket} cannot be read: {exc.cause}"
        return Assessment(DAMAGED, (words,), seen.service, unreadable=True)


def _look_inside(
    run: Opened,
    reference: Point,
    older: Iterable[Point],
    service: str,
    unfinished: Optional[Unfinished],
    log: Log,
    share: int = 1,
) -> Assessment:
    source = buckets.source(run)
    told_settings = s3_settings.inspect(source)
    have = told_settings.values
    findings = [
        s3_settings.describe(name, reference.settings, have) for name in s3_settings.lost(reference.settings, have)
    ]
    warnings = [
        f"the bucket's {name} is not what it was; it is left as it is"
        for name in s3_settings.changed(reference.settings, have)
    ]
    with Inventory(share=throttle.SIDE_BY_SIDE if reference.bucket else 1) as inventory:
        unknown = compare.hold(run, inventory, source, reference, log=log)
        # Of a bucket that is not the application's the database is not asked.
        found, unsure, told = compare.judge(run.config, inventory, reference, "" if reference.bucket else unknown)
        found += _not_back(inventory, reference, unfinished) if unfinished and not found else []
        bad, unread, damaged = compare.sample(inventory, source, share)
        rows, lacking, held_by = (0, "", "") if unknown else _rows_without(inventory, older)
    findings += [*found, *bad, *([lacking] if held_by else [])]
    unknown_settings = {*reference.settings_denied, *told_settings.denied}
    unsure += [f"the bucket's {name}: the key may not read it" for name in sorted(unknown_settings)]
    unsure += [lacking] if lacking and not held_by else []
    return Assessment(
        DAMAGED if findings else HEALTHY, tuple(findings), service, (*unsure, *unread), (*warnings, *told),
        unreadable=bool(bad), ruined=damaged >= compare.ENOUGH, held_by=held_by,
        rows_without=rows, lacking=(lacking,) if lacking else (),
    )  # fmt: skip


def _not_back(inventory: Inventory, reference: Point, unfinished: Unfinished) -> list[str]:
    """What a recovery that has not ended has not brought back: damage, however little it is."""
    if reference.bucket and reference.bucket not in (unfinished.bucket, *unfinished.additional):
        return []
    wanted = f"point p WHERE {compare.to_restore(keep=not unfinished.requested)}"
    within = " AND substr(p.key, 1, length(?)) = ?"
    count = inventory.counted(wanted + within, unfinished.prefix, unfinished.prefix)[0]
    begun = f" that began at {unfinished.since}" if unfinished.since else ""
    return [f"{count} objects are not back, of the recovery of {reference.id}{begun}"] if count else []


def _rows_without(inventory: Inventory, older: Iterable[Point]) -> tuple[int, str, str]:
    """Rows whose object neither the bucket nor the reference has: how many, in words, and the newest backup of those
    that have most of them."""
    wanted, rows, words = compare.rows_without(inventory)
    if not wanted:
        return 0, "", ""
    best, most = "", 0
    try:
        for point in older:
            if not point.holds:
                continue
            count = sum(entry.key in wanted for entry in point.entries())
            if count > most:
                best, most = point.id, count
            if most == len(wanted):
                break
    except LifeboatError as exc:
        return rows, f"rows have no object: {words}; an older backup cannot be read: {exc.cause}", best
    where = "no earlier backup that was looked into has one of them; the rows may be wrong"
    where = f"{best} has {most} of them" if best else where
    return rows, f"rows have no object: {words}; {where}", best
