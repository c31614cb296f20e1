# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reconcile a stack's database with its live bucket, and fetch what rows miss from older versions in the vault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from ..base import progress
from ..base.checks import COULD_NOT_VERIFY, SHOWN, Check, verdict
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, present
from ..base.text import named
from ..database import server as database_server
from ..mirror import back
from ..mirror.listing import Point
from ..mirror.store import folded
from ..repository import catalog, repositories
from ..s3 import bucket
from ..s3.bucket import Bucket, Listed
from ..s3.inventory import UNKNOWN, Inventory
from ..stack import buckets
from ..stack.runtime import Opened
from ..tools import age
from . import compare, locks, reconcile

_FEW = 100  # keys that are asked for one by one, rather than by listing the whole vault
_LOOKED_INTO = 30  # backups, for the locks that objects had


@dataclass(frozen=True)
class Offer:
    """A version in the vault that fits a row whose object is missing. why: what it fits by. bucket: another one of the
    store than the application's."""

    key: str
    version: str
    size: int
    modified: datetime
    sha256: str
    why: str
    bucket: str = ""


@dataclass(frozen=True)
class Refetched:
    """offers: what the vault has for rows without an object; unfit: how many rows it has nothing for."""

    verdict: str
    checks: tuple[Check, ...]
    report: Mapping[str, object] = field(default_factory=dict)
    offers: tuple[Offer, ...] = ()
    unfit: int = 0
    fetched: int = 0


def live(run: Opened, *, fetch: bool = False, log: Log) -> Refetched:
    """Reconcile now, all buckets that rows name. fetch: copy back what the vault has for rows without an object."""
    database_server.refuse_without(run.config, "compare rows with objects")
    if not run.config.objects.keys_query:
        check = reconcile.unconfigured()
        return Refetched(check.result, (check,))
    several: list[Refetched] = []

    def compare_bucket(whole: Opened, name: str) -> Iterator[Check]:
        several.append(found := _live(buckets.alone(whole, name) if name else whole, name, fetch, log))
        yield from found.checks

    first, here = [*compare_bucket(run, "")], buckets.addressed(run)
    others = folded((name, compare_bucket(here, name)) for name in reconcile.protected(run))
    checks = (*first, *others, *reconcile.unprotected(run))
    return replace(
        several[0],
        verdict=verdict(checks),
        checks=checks,
        offers=tuple(offer for found in several for offer in found.offers),
        unfit=sum(found.unfit for found in several),
        fetched=sum(found.fetched for found in several),
    )


def _live(run: Opened, name: str, fetch: bool, log: Log) -> Refetched:
    with Inventory() as inventory:
        report = _reconcile(run, inventory, log)
        missing = report.rows_without_objects.count
        held = dict(_offers(run, inventory, missing)) if missing else {}
        fetched, of_locks = 0, list[Check]()
        if fetch and held:
            log(f"fetching {len(held)} objects from the vault")
            source = buckets.source(run)
            lock = locks.locking(source)
            entries, unknown = _with_locks(run, name, held, log) if lock else (list(held), [])
            with progress.going(progress.Gauge("objects of rows", len(entries), unit=progress.OBJECTS)) as gauge:
                fetched = back.copy_back(run, gauge.counting(entries), source, log=log, lock=lock).copied
            of_locks = list(_locks_checked(run, source, entries, unknown))
            report = _reconcile(run, inventory, log)
    checks = (*report.checks(), *of_locks)
    offers = tuple(
        Offer(entry.key, entry.vault_version, entry.size, present(entry.modified), entry.sha256 or "", why, name)
        for entry, why in held.items()
    )
    unfit = missing - len({offer.key for offer in offers})
    return Refetched(verdict(checks), checks, report.as_dict(), offers, unfit, fetched)


def _reconcile(run: Opened, inventory: Inventory, log: Log) -> reconcile.Report:
    compare.look_again(run, inventory, buckets.source(run))
    log(f"{inventory.count('rows')} rows, {inventory.count('live')} objects")
    return reconcile.compare(inventory, datetime.now(timezone.utc))


def _offers(run: Opened, inventory: Inventory, missing: int) -> Iterator[tuple[Listed, str]]:
    """What the vault has for rows without an object, and what it fits by."""
    vault = buckets.vault(run)
    wanted = "rows r WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.key = r.key)"
    keys = inventory.counted(wanted, shown=_FEW)[1] if missing <= _FEW else [""]
    for prefix in keys:
        inventory.add_held(bucket.versions(vault, prefix))
    for key, size, sha256 in inventory.each(f"SELECT r.key, r.size, r.sha256 FROM {wanted} ORDER BY r.key"):
        held = "SELECT version, size, etag, modified FROM held WHERE key = ? ORDER BY modified DESC"
        fit = [item for item in inventory.each(held, key) if size in (UNKNOWN, item[1])]
        why = "the newest that the vault has" if size == UNKNOWN else "its size is the row's"
        if sha256:
            fit = [item for item in fit if compare.digests(vault, key, item[0])[1] == sha256][:1]
            why = "its SHA-256 is the row's"
        if fit:
            version, length, etag, modified = fit[0]
            at = datetime.fromtimestamp(modified, timezone.utc)
            yield Listed(key, length, etag, at, "", version, etag, sha256 or None), why


def _with_locks(run: Opened, name: str, offers: Mapping[Listed, str], log: Log) -> tuple[list[Listed], list[str]]:
    """With what is on record of each of these versions, and the keys of which nothing is: a copy in the vault has the
    vault's lock, not the source's."""
    wanted = {(entry.key, entry.vault_version): entry for entry in offers}
    found: dict[tuple[str, str], Listed] = {}
    try:
        repo = repositories.repository_of(run)
        sound = catalog.sound(catalog.entries(repo, "objects", run.config.stack))
        for manifest in sound[: -_LOOKED_INTO - 1 : -1]:
            point = Point(repo, manifest, name, age.keys(run.config, run.key))
            recorded = len(found) < len(wanted) and point.holds and point.held_bucket.properties is not None
            for entry in point.entries() if recorded else ():
                if before := wanted.get((entry.key, entry.vault_version)):
                    found.setdefault((entry.key, entry.vault_version), replace(before, properties=entry.properties))
    except LifeboatError as exc:
        log(f"which of them were locked is not known: {exc}")
    entries = [found.get(which, entry) for which, entry in wanted.items()]
    return entries, [key for key, version in wanted if (key, version) not in found]


def _locks_checked(run: Opened, source: Bucket, entries: list[Listed], unknown: list[str]) -> Iterator[Check]:
    yield from locks.of_these(run, source, entries)
    if unknown:
        words = f"no backup tells whether {len(unknown)} of the fetched objects were locked"
        yield Check(f"{locks.LOCKS} on record", COULD_NOT_VERIFY, f"{words}: {', '.join(map(named, unknown[:SHOWN]))}")


def _where(offer: Offer) -> str:
    return named(f"{offer.bucket}/{offer.key}" if offer.bucket else offer.key)


def text(refetched: Refetched) -> list[str]:
    """For a terminal."""
    lines = [f"{check.result:<16} {check.name}: {check.detail}" for check in refetched.checks]
    told = "fetched" if refetched.fetched else "the vault has"
    lines += [
        f"{told}: {_where(offer)}, version of {format_time(offer.modified)}: {offer.why}"
        for offer in refetched.offers[:SHOWN]
    ]
    more = len(refetched.offers) - SHOWN
    lines += [f"{told}: {more} more"] if more > 0 else []
    return lines + ([f"the vault has nothing for {refetched.unfit} of them"] if refetched.unfit else [])
