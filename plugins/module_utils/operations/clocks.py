# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this host's clock right? Asked before anything is deleted by dates, for a clock that jumped makes all of it old.

A server that backups are kept in has a clock of its own, and its answers' `Date` header tells it. Where none answers,
dates have to do: of the last pruning, and of the good backups since then. A gap that nothing explains is a jump.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional

from ..base import filesystem, typed
from ..base.clock import TOLERANCE, format_time
from ..base.errors import LifeboatError, UsageError
from ..s3.bucket import Bucket, skew
from ..settings.config import Config
from ..stack import buckets

MARK = "pruned.json"
JUMP = timedelta(days=31)  # so long may a stack go without a good backup and without a pruning
UNMARKED = timedelta(days=366)  # or between any two backups, where it is not known when it was pruned last


@dataclass(frozen=True)
class _Mark:
    at: datetime


def require(config: Config, dates: Iterable[datetime], now: datetime) -> None:
    """Raise UsageError where the clock is wrong or may be. dates: of the good backups."""
    told = [(bucket.url, seconds) for bucket in _servers(config) if (seconds := _skew(bucket)) is not None]
    for url, seconds in told:
        if abs(seconds) > TOLERANCE.total_seconds():
            raise _refused(config, f"the clock of {url} is {seconds:+.0f} s from this host's")
    if not told:
        _require_dates(config, sorted(date for date in dates if date <= now), now)


def accept(config: Config, now: datetime) -> None:
    """Remember that it was pruned by this time."""
    path, data = config.state / MARK, (json.dumps(typed.plain(_Mark(now))) + "\n").encode()
    with filesystem.explained("remember when it was pruned", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        filesystem.write(path, data, path.with_name(f".{path.name}"))


def _require_dates(config: Config, dates: list[datetime], now: datetime) -> None:
    mark = _mark(config)
    if mark and now < mark - TOLERANCE:
        raise _refused(config, f"it is {format_time(now)} here, and it was pruned at {format_time(mark)}")
    known = [mark, *(date for date in dates if date > mark)] if mark else dates
    for before, after in zip(known, [*known[1:], now]):
        if after - before > (JUMP if mark else UNMARKED):
            cause = f"from {format_time(before)} to {format_time(after)} there is no good backup and no pruning"
            raise _refused(config, f"{cause}, and no server's clock to compare with")


def _refused(config: Config, cause: str) -> UsageError:
    return UsageError(
        "prune by this host's clock", config.stack, cause,
        "Nothing was deleted. Set the clock that is wrong (timedatectl). If this host's is right, run once: lifeboat"
        f" prune --stack {config.stack} --trust-clock, or lifeboat.dr.prune with -e trust_clock=true",
    )  # fmt: skip


def _mark(config: Config) -> Optional[datetime]:
    """When it was pruned last; None where that is not on record, or the record cannot be read."""
    try:
        found = typed.maybe(_Mark, (config.state / MARK).read_bytes())
    except OSError:
        return None
    return found.at if found else None


def _servers(config: Config) -> list[Bucket]:
    """One bucket of each server that backups are kept in; one whose keys are not set cannot be asked."""
    own, vault, found = config.repository, config.vault, list[Bucket]()
    if own.get("type") == "s3":
        name, endpoint, region, ca = (
            str(own.get(key, "")) for key in ("bucket", "endpoint_url", "region", "ca_bundle")
        )
        access_key, secret_key = (config.secrets.get(key, "") for key in ("s3_access_key", "s3_secret_key"))
        found.append(Bucket(name, endpoint, region, ca, access_key, secret_key))
    mirror = vault.repository_bucket or vault.objects_bucket
    if mirror and config.secrets.get("vault_access_key") and config.secrets.get("vault_secret_key"):
        found.append(buckets.in_vault(config, mirror))
    return found


def _skew(bucket: Bucket) -> Optional[float]:
    """A refusal has a date as well, and a clock that is far off is why it is refused."""
    try:
        return skew(bucket)
    except LifeboatError:
        return None
