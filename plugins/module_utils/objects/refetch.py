# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reconcile a stack's database with its live bucket, and fetch what rows miss from older versions in the vault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Callable

from ..base.checks import SHOWN, verdict
from ..base.clock import format_time
from ..database import server as database_server
from ..mirror import back
from ..s3.bucket import Listed
from ..s3.inventory import UNKNOWN, Inventory
from ..settings.config import Config
from ..stack import buckets, runtime
from . import compare, reconcile

Log = Callable[[str], None]
_FEW = 100  # keys that are asked for one by one, rather than by listing the whole vault


@dataclass(frozen=True)
class Offer:
    """A version in the vault that fits a row whose object is missing. why: what it fits by."""

    key: str
    version: str
    size: int
    etag: str
    modified: str
    sha256: str
    why: str

    def entry(self) -> Listed:
        """As a listing's line, as mirror.copy_back() takes it."""
        return Listed(
            self.key, self.size, self.etag, vault_version=self.version, vault_etag=self.etag, sha256=self.sha256 or None
        )


def live(config: Config, *, fetch: bool = False, log: Log) -> dict[str, Any]:
    """Reconcile now. Returns {verdict, checks, report, offers, unfit, fetched}.

    offers: what the vault has for rows without an object. fetch: copy it back. unfit: rows it has nothing for.
    """
    if not config.objects.keys_query:
        checks = [reconcile.unconfigured()]
        return {
            "verdict": verdict(checks), "checks": [check.as_dict() for check in checks], "report": {}, "offers": [],
            "unfit": 0, "fetched": 0,
        }  # fmt: skip
    with Inventory() as inventory:
        report = _reconcile(config, inventory, log)
        missing = report.rows_without_objects.count
        offers = list(_offers(config, inventory, missing)) if missing else []
        fetched = 0
        if fetch and offers:
            log(f"fetching {len(offers)} objects from the vault")
            copied = back.copy_back(config, (offer.entry() for offer in offers), buckets.source(config), log=log)
            fetched = copied.copied
            report = _reconcile(config, inventory, log)
    checks = report.checks()
    return {
        "verdict": verdict(checks),
        "checks": [check.as_dict() for check in checks],
        "report": report.as_dict(),
        "offers": [{key: value for key, value in asdict(offer).items() if key != "etag"} for offer in offers],
        "unfit": missing - len({offer.key for offer in offers}),
        "fetched": fetched,
    }


def _reconcile(config: Config, inventory: Inventory, log: Log) -> reconcile.Report:
    for table in ("rows", "live"):
        inventory.change(f"DELETE FROM {table}")
    # The rows first: an object is written before its row, so what is listed later has every object that they name.
    source = buckets.source(config)
    server = database_server.connect(config, runtime.connect(config))
    reconcile.read_rows(inventory, server, server.database, config.objects.keys_query)
    inventory.add("live", compare.live_rows(source))
    log(f"{inventory.count('rows')} rows, {inventory.count('live')} objects")
    return reconcile.compare(inventory, datetime.now(timezone.utc))


def _offers(config: Config, inventory: Inventory, missing: int) -> Iterator[Offer]:
    vault = buckets.vault(config)
    wanted = "rows r WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.key = r.key)"
    keys = inventory.counted(wanted, shown=_FEW)[1] if missing <= _FEW else [""]
    for prefix in keys:
        compare.add_held(config, inventory, prefix)
    for key, size, sha256 in inventory.each(f"SELECT r.key, r.size, r.sha256 FROM {wanted} ORDER BY r.key"):
        held = "SELECT version, size, etag, modified FROM held WHERE key = ? ORDER BY modified DESC"
        fit = [item for item in inventory.each(held, key) if size in (UNKNOWN, item[1])]
        why = "the newest that the vault has" if size == UNKNOWN else "its size is the row's"
        if sha256:
            fit = [item for item in fit if compare.digests(vault, key, item[0])[1] == sha256][:1]
            why = "its SHA-256 is the row's"
        if fit:
            version, length, etag, modified = fit[0]
            told = format_time(datetime.fromtimestamp(modified, timezone.utc))
            yield Offer(key, version, length, etag, told, sha256, why)


def text(found: dict[str, Any]) -> list[str]:
    """For a terminal."""
    lines = [f"{check['result']:<16} {check['name']}: {check['detail']}" for check in found["checks"]]
    offers: Iterable[dict[str, Any]] = found["offers"][:SHOWN]
    told = "fetched" if found["fetched"] else "the vault has"
    lines += [f"{told}: {item['key']}, version of {item['modified']}: {item['why']}" for item in offers]
    more = len(found["offers"]) - SHOWN
    lines += [f"{told}: {more} more"] if more > 0 else []
    return lines + ([f"the vault has nothing for {found['unfit']} of them"] if found["unfit"] else [])
