# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this host's clock right? Asked before anything is deleted by dates, for a clock that jumped makes all of it old.

A server that backups are kept in has a clock of its own, and its answers' `Date` header tells it. Where none answers,
dates have to do: of the last pruning, and of the good backups since then. A gap that nothing explains is a jump.

And since when does this pruner know that something is hidden in a store with versions? A key that may write to a bucket
can hide every backup in it behind delete markers, choose what a manifest or a verification says, and on some servers
the time of a version. So nothing of that starts or shortens the days that an old version stays: they are counted from
this pruner's own first look, by a record that is kept where it runs. A backup that is hidden and that
neither this pruner removed nor the retention would remove is an alarm, and stays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Optional

from ..base import filesystem, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, Check
from ..base.clock import TOLERANCE, format_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..repository import catalog, copies, points, repositories, retention
from ..repository.base import Altered, Hidden, dated
from ..repository.catalog import Entry
from ..repository.manifest import component_of
from ..repository.points import PointEntry
from ..s3.bucket import Bucket
from ..settings.config import Config
from ..settings.parts import S3Settings
from ..stack import buckets
from ..stack.runtime import Opened

MARK = "pruned.json"
JUMP = timedelta(days=31)  # so long may a stack go without a good backup and without a pruning
UNMARKED = timedelta(days=366)  # or between any two backups, where it is not known when it was pruned last
HIDDEN = "noncurrent.json"
_SCHEMA = "lifeboat.dr/noncurrent"


@dataclass(frozen=True)
class _Mark:
    at: datetime


def require(config: Config, dates: Iterable[datetime], now: datetime) -> None:
    """Raise UsageError where the clock is wrong or may be. dates: of the good backups."""
    told = skews(config)
    for url, seconds in told:
        if abs(seconds) > TOLERANCE.total_seconds():
            raise _refused(config, f"the clock of {url} is {seconds:+.0f} s from this host's")
    if not told:
        _require_dates(config, sorted(date for date in dates if date <= now), now)


def skews(config: Config) -> list[tuple[str, float]]:
    """The servers that keep backups and answer, and how many seconds the clock of each is ahead of this host's."""
    return [(bucket.url, seconds) for bucket in _servers(config) if (seconds := _skew(bucket)) is not None]


def accept(config: Config, now: datetime) -> None:
    """Remember that it was pruned by this time."""
    path, data = config.state / MARK, (json.dumps(typed.plain(_Mark(now))) + "\n").encode()
    with filesystem.explained("remember when it was pruned", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        filesystem.write(path, data, path.with_name(f".{path.name}"))


def _require_dates(config: Config, dates: list[datetime], now: datetime) -> None:
    mark = pruned_at(config)
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


def pruned_at(config: Config) -> Optional[datetime]:
    """When it was pruned last; None where that is not on record, or the record cannot be read."""
    try:
        found = typed.maybe(_Mark, filesystem.read_plain(config.state / MARK))
    except OSError:
        return None
    return found.at if found else None


def _servers(config: Config) -> list[Bucket]:
    """One bucket of each server that backups are kept in; one whose keys are not set cannot be asked."""
    own, vault, found = config.repository, config.vault, list[Bucket]()
    if isinstance(own, S3Settings):
        access_key, secret_key = (config.secrets.get(key, "") for key in ("s3_access_key", "s3_secret_key"))
        found.append(Bucket(own.bucket, own.endpoint_url, own.region, own.ca_bundle, access_key, secret_key))
    mirror = vault.repository_bucket or vault.objects_bucket
    if mirror and config.secrets.get("vault_access_key") and config.secrets.get("vault_secret_key"):
        found.append(buckets.in_vault(config, mirror))
    return found


def _skew(bucket: Bucket) -> Optional[float]:
    """A refusal has a date as well, and a clock that is far off is why it is refused."""
    try:
        return bucket.requests.skew(bucket.name, bucket.url)
    except LifeboatError:
        return None


# What is hidden in a store with versions.


@dataclass(frozen=True)
class Sighting:
    """since: when this pruner first saw it hidden. removed: it was this pruner that hid it, as the retention says."""

    since: datetime
    removed: bool = False


@dataclass(frozen=True)
class _Hidden:
    """By place, then by the id of the backup or recovery point."""

    schema: str = _SCHEMA
    version: tuple[int, ...] = (1, 0)
    places: Mapping[str, Mapping[str, Sighting]] = field(default_factory=dict)


def read_hidden(config: Config) -> dict[str, dict[str, Sighting]]:
    """The record; empty where there is none yet. IntegrityError where it is not as this code writes it."""
    path = config.state / HIDDEN

    def wrong(name: str, cause: str) -> LifeboatError:
        return IntegrityError(
            "read since when old versions are known", str(path), f"{name} {cause}".strip(),
            "No old version is removed. Find out who wrote it; without the file the days are counted from now.",
        )  # fmt: skip

    try:
        attempted = "read since when old versions are known"
        with filesystem.explained(attempted, path), filesystem.open_below(path.parent, (path.name,)) as file:
            mode, data = os.fstat(file.fileno()), file.read()
    except NotFoundError:
        return {}
    except LifeboatError as exc:
        raise wrong("", exc.cause) from exc
    if mode.st_mode & 0o077 or mode.st_uid != os.geteuid():
        raise wrong("", "it is not a private file of this user (0600)")
    found = typed.build(_Hidden, typed.load(data, wrong), wrong)
    if (found.schema, found.version[:1]) != (_SCHEMA, (1,)):
        raise wrong("schema", f"is {found.schema} {found.version}")
    return {place: dict(those) for place, those in found.places.items()}


def write_hidden(config: Config, record: Mapping[str, Mapping[str, Sighting]]) -> None:
    path, data = config.state / HIDDEN, json.dumps(typed.plain(_Hidden(places=record)), indent=1).encode() + b"\n"
    with filesystem.explained("remember since when old versions are known", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)  # of a run that was killed; the caller holds the stack's lock
        filesystem.write(path, data, temporary)


def seen_hidden(before: Mapping[str, Sighting], hidden: Iterable[str], now: datetime) -> dict[str, Sighting]:
    """The record of one place as of now: what is hidden since then, what is newly hidden, and nothing that is back."""
    return {identity: before.get(identity, Sighting(now)) for identity in hidden}


def removed_hidden(record: Mapping[str, Sighting], identities: Iterable[str], now: datetime) -> dict[str, Sighting]:
    """The record, with those that this pruner is about to hide."""
    return {
        **record,
        **{identity: replace(record.get(identity, Sighting(now)), removed=True) for identity in identities},
    }


def alarms(
    hidden: Mapping[str, Hidden],
    record: Mapping[str, Sighting],
    backups: Mapping[str, Sequence[Entry]],
    tied: Sequence[PointEntry],
    policy: retention.Policy,
    now: datetime,
) -> list[str]:
    """The ids that had a document and have none now, unless this pruner removed them, or the retention would.

    The retention is asked with the hidden ones counted as good, by the day in their names: an attacker who hides them
    cannot change that.
    """
    lost = {name for name, item in hidden.items() if item.document and not (name in record and record[name].removed)}
    for component in (*backups, ""):
        live = catalog.for_retention(backups[component]) if component else list(points.for_retention(tied))
        known = {item.id for item in live}
        gone = [retention.Backup(name, dated(name), good=True) for name in lost - known if _belongs(name, component)]
        if gone:
            lost -= set(retention.plan([*live, *gone], policy, now).delete)
    return sorted(lost)


def _belongs(identity: str, component: str) -> bool:
    """component: empty for recovery points."""
    return ("" if points.is_id(identity) else component_of(identity)) == component


def due(
    hidden: Mapping[str, Hidden], record: Mapping[str, Sighting], alarm: Iterable[str], days: int, now: datetime
) -> list[str]:
    """The ids whose versions may go: nothing of them is live, and this pruner has known that for so many days."""
    kept = set(alarm)
    return sorted(
        name
        for name, item in hidden.items()
        if item.whole and name not in kept and name in record and now - record[name].since >= timedelta(days=days)
    )


def overwritten(altered: Mapping[str, Altered]) -> list[str]:
    """The ids whose document is another than the one that was published. No retention does that."""
    return sorted(name for name, seen in altered.items() if not seen.gone)


def hidden_words(identities: Sequence[str], location: str) -> str:
    shown = ", ".join(identities[-3:]) + (" …" if len(identities) > 3 else "")
    return (
        f"{len(identities)} had a manifest in {location} and have none now, or another one: {shown}. Neither this"
        " host's retention nor its plan removed them. Their old versions stay"
    )


def hidden_entries(
    run: Opened, backups: Mapping[str, Sequence[Entry]], tied: Sequence[PointEntry], now: datetime
) -> tuple[dict[str, list[Entry]], list[PointEntry]]:
    """What the repository had and hides now, read by version, but what retention removed: for a list."""
    repo = repositories.repository_of(run)
    past = repo.past() if repo.hidden() else None
    if past is None:
        return {}, []
    record = read_hidden(run.config).get(repo.address, {})
    lost = alarms(repo.hidden(), record, backups, tied, retention.policy(run.config), now)
    found = points.backups(past, run.config.stack)
    gone = {name: [entry for entry in some if entry.id in lost] for name, some in found.items()}
    return gone, [entry for entry in points.entries(past, run.config.stack, found) if entry.id in lost]


def hidden_checks(
    run: Opened, backups: Mapping[str, Sequence[Entry]], tied: Sequence[PointEntry], now: datetime
) -> list[Check]:
    """For status: a line where something is hidden that should not be. An endpoint that fails has a line of its own."""
    found: list[Check] = []
    for opener in (repositories.repository_of, copies.vault):
        try:
            store = opener(run)
            hidden, altered = store.look_back() if store is not None else ({}, {})
        except LifeboatError:
            continue
        if store is None:
            continue
        if other := overwritten(altered):
            said = "; ".join(f"{name}: {altered[name].detail}" for name in other[-3:])
            more = f" ({len(other)} in all)" if len(other) > 3 else ""
            found.append(Check("overwritten backups", FAIL, f"in {store.address}: {said}{more}"))
        if not hidden:
            continue
        try:
            record = read_hidden(run.config).get(store.address, {})
        except LifeboatError as exc:
            found.append(Check("hidden backups", COULD_NOT_VERIFY, str(exc)))
            continue
        lost = alarms(hidden, record, backups, tied, retention.policy(run.config), now)
        if lost:
            found.append(Check("hidden backups", FAIL, hidden_words(lost, store.address)))
    return found
