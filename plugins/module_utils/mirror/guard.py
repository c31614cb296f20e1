# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a mirror is to be of, and what must hold before its first change."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional, Union

from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, NotFoundError, UsageError
from ..repository import base as repository_base
from ..repository import catalog
from ..repository.manifest import Manifest
from ..repository.points import EVENTUAL, SNAPSHOT
from ..s3 import bucket, client
from ..s3.bucket import TRUST, Bucket, Doubts, Watch
from ..s3.signed import fields
from ..settings.config import Config
from ..stack import buckets
from . import mc
from .state import NAME_CHECK, Numbers

_NAMED = 5
MAX_SKEW = 60  # seconds that the source's clock may be wrong


@dataclass(frozen=True)
class Instant:
    """What the mirror is to be of. at None: the bucket as it is now. server: the same moment by the source's clock, at
    the latest, and certain: at the earliest; what was written between them is ambiguous."""

    at: Optional[datetime]
    server: Optional[datetime]
    consistency: str
    database_backup: str = ""
    why: str = ""
    skew: Optional[float] = None
    certain: Optional[datetime] = None

    def watch(self) -> Watch:
        """For a listing that begins now, by the source's clock."""
        return Watch(datetime.now(timezone.utc) + timedelta(seconds=self.skew or 0) - bucket.SETTLED)


def require_vault(source: Bucket, vault: Bucket) -> None:
    attempted = "mirror the bucket"
    if (source.name, source.endpoint_url) == (vault.name, vault.endpoint_url):
        raise UsageError(attempted, source.url, "it is its own vault", "Correct lifeboat_vault and deploy.")
    state = bucket.versioning(vault)
    if state != "Enabled":
        what = f"its versioning is {state}" if "except" in state else "it keeps no versions"
        raise UsageError(
            attempted, vault.url, f"{what}, so a mirror would destroy what it replaces",
            "Run lifeboat.dr.deploy, which makes it with versions, on a server that has them.",
        )  # fmt: skip


def require_place(config: Config, source: Bucket, vault: Bucket) -> None:
    """As require_vault(), of a place that an operator did not name: it may have to be made yet, or be another stack's.

    A mark that cannot be read is none: lifeboat.dr.vault, which makes the place, insists on it.
    """
    try:
        require_vault(source, vault)
    except LifeboatError as exc:
        if client.code(exc) not in ("NoSuchBucket", "404"):
            raise
        cause = f"the vault has no bucket {vault.name} for it yet; lifeboat.dr.vault makes it"
        raise NotFoundError("mirror the bucket", source.url, cause, "Run lifeboat.dr.vault.") from exc
    mark = ""
    with contextlib.suppress(LifeboatError):
        page = vault.ask_xml("read the bucket's tags", {"tagging": ""})
        tags = [fields(tag) for some in page for tag in some]
        mark = next((tag.get("Value", "") for tag in tags if tag.get("Key") == buckets.TAG), "")
    if mark not in ("", f"{config.stack}/objects"):
        cause = f"its place in the vault, {vault.name}, is marked as that of {mark}"
        raise UsageError("mirror the bucket", source.url, cause, "Name another lifeboat_vault.objects_bucket.")


def unversioned(source: Bucket) -> str:
    """Why the bucket does not tell what it held at an instant; empty where it does."""
    state = bucket.versioning(source)
    if state == "Enabled":
        return ""
    return f"the source bucket's versioning is {state}" if "except" in state else "the source bucket keeps no versions"


def choose_instant(
    config: Config, repo: repository_base.Repository, source: Bucket, now: datetime, log: Log, doubts: Doubts = TRUST,
    database: Optional[Manifest] = None,
) -> Instant:  # fmt: skip
    """The newest database backup's instant, where the source can still tell what it held then; now, of a stack without
    a database. One that lacks another database holds the application's rows. database: this backup's instead, however
    old it is."""
    lead = bucket.lead(source)
    skew = min(lead, key=abs) if lead else None
    if skew is not None and abs(skew) > MAX_SKEW:
        remedy = "Set both clocks (timedatectl), then try again: objects cannot be held against rows by such times."
        raise UsageError("mirror the bucket", source.url, f"its clock is {skew:+.0f} s off this host's", remedy)
    wanted = config.database.enabled
    good = [database] if database else catalog.sound(catalog.entries(repo, "database", config.stack)) if wanted else []
    oldest = database.taken_at if database else now - timedelta(hours=config.alarms.backup_age_hours)
    why = ""
    if config.objects.engine == "mc":
        why = mc.BY_MC
    elif excepted := unversioned(source):
        why = excepted
    elif doubts.times:
        why = doubts.times
    elif not good and wanted:
        why = "there is no good database backup to be of the same instant as"
    elif good and good[-1].taken_at < oldest:
        why = f"the newest good database backup is of {format_time(good[-1].taken_at)}, which is long ago"
    if why:
        log(f"consistency is {EVENTUAL}, the bucket as it is now: {why}")
        return Instant(None, None, EVENTUAL, why=why, skew=skew)
    at = good[-1].taken_at if good else now
    if doubts.dates:  # applications do not; who has a key to the store could
        log(f"{SNAPSHOT} is the bucket as it is listed to have been then: {doubts.dates}")
    certain, server = (at + timedelta(seconds=seconds) for seconds in lead or (0.0, 0.0))
    return Instant(at, server, SNAPSHOT, good[-1].id if wanted else "", skew=skew, certain=certain)


def of_a_check(key: str) -> bool:
    """Is it what a check of names left, and nobody's object?"""
    return key.lstrip("/").startswith(NAME_CHECK)


class Override:
    """How many objects a run may remove or overwrite beyond the limit: in all buckets together. True: any number.

    counted: so many were counted before, and within the limit too no more may go; None: nobody counted.
    """

    def __init__(self, number: int, counted: Optional[int] = None) -> None:
        for given in (number, counted or 0):
            if given < 0:
                raise UsageError(
                    "mirror the bucket", "the vault", f"{given} is not a number of objects",
                    "Give the number that the refusal names, or none.",
                )  # fmt: skip
        self._number, self._left, self._counted = number, number, counted
        self._lock = threading.Lock()  # buckets are mirrored side by side

    def __bool__(self) -> bool:
        return bool(self._number)

    def covers(self, count: int) -> bool:
        """Whether so many more may go; those that may are taken off."""
        with self._lock:
            if not self._number or (self._number is not True and count > self._left):
                return False
            self._left -= count
            return True

    def exceeds(self, count: int) -> bool:
        """Whether so many more are more than were counted; where they are not they are taken off."""
        with self._lock:
            if self._counted is None:
                return False
            if count > self._counted:
                return True
            self._counted -= count
            return False


def guard(
    config: Config, source: Bucket, vault: Bucket, numbers: Numbers, override: Union[int, Override],
    first: Callable[[int], list[str]] = lambda most: [], log: Log = lambda text: None,
) -> None:  # fmt: skip
    """A wiped or encrypted source must not become the newest mirror unasked.

    override: so many objects may be removed or overwritten; of a run with several buckets one Override. first: those
    that would be.
    """
    accepted = override if isinstance(override, Override) else Override(override)
    if not numbers.vault:
        return
    said = (
        f"{numbers.removed} of the {numbers.vault} objects there would be removed and {numbers.overwritten} overwritten"
    )
    count = numbers.removed + numbers.overwritten
    if accepted.exceeds(count):
        raise UsageError(
            "mirror the bucket", f"{source.url} to {vault.url}",
            f"{said}, which is more than was counted before{_named(count, first)}",
            "See what changes the bucket, then count again (lifeboat.dr.recovery_point in check mode).",
        )  # fmt: skip
    if not numbers.source:
        said = f"the bucket is empty, and {said}"
    elif numbers.share <= config.objects.change_limit:
        return
    else:
        said += f", {numbers.share:.0f} % where {config.objects.change_limit} % is the limit"
    said += _named(count, first)
    if accepted.covers(count):
        log(f"WARNING, and done all the same: {said}")
        return
    raise UsageError(
        "mirror the bucket", f"{source.url} to {vault.url}", said,
        _accept(config, max(count, 1)),
    )  # fmt: skip


def _named(count: int, first: Callable[[int], list[str]]) -> str:
    return f"; the first: {', '.join(map(repr, first(_NAMED)))}" if count else ""


def _accept(config: Config, count: int) -> str:
    if config.keeper.directory:
        command = f"lifeboat keeper pull --stack {config.stack} --override {count}"
        return f"If that is right, run `{command}` once. If not, find out who did it: the vault is as it was."
    return (
        f"If that is right, run `lifeboat backup objects --override {count}` (module: override={count})"
        " once. If not, recover with lifeboat.dr.recover_object_storage: the vault is as it was."
    )


def sweep(vault: Bucket, older_than: timedelta, now: datetime) -> list[str]:
    """Abort uploads of parts that a killed run left: they cost money and show in no listing. Returns their keys."""
    swept = []
    for key, upload, initiated in list(bucket.uploads(vault)):
        if key and now - initiated > older_than:
            vault.ask("DELETE", key, {"uploadId": upload}, attempted="sweep an unfinished upload")
            swept.append(key)
    return swept
