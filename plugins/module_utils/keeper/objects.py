# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirror the stack's object store into the keeper's vault, as of each database backup that was received.

By the product's own mirror, with a key that may only read there, through one forwarded port of the SSH connection. The
objects backup and the recovery point are the keeper's. What the store lists and gives is bounded (stack/buckets.py);
what was mirrored before, and how much may change, is the keeper's own state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Optional

from ..base import clock
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import TOLERANCE
from ..base.errors import IntegrityError, LifeboatError, Log
from ..base.text import named
from ..mirror import take as mirror
from ..operations import verify
from ..operations.verify_proof import Result
from ..repository import catalog, points, repositories
from ..repository.base import Repository
from ..repository.checksums import in_place
from ..repository.components import OBJECTS, configured
from ..repository.details import ObjectsDetails
from ..repository.manifest import Manifest
from ..repository.points import EVENTUAL
from ..s3 import documents, lifecycle, signed, write_rights
from ..s3.bucket import Bucket, Doubts
from ..s3.write_rights import WriteRights
from ..settings.config import Config
from ..settings.parts import StoreSettings
from ..stack import buckets
from ..stack.runtime import Opened
from ..tools import sftp
from ..tools.source import Source
from .alarms import in_time
from .receipts import Receipts, Record

_MIRROR = "mirror the stack's object store"
_HOSTILE = "the stack's host is not trusted"
# What an answer that no S3 server gives may end in, where it is read.
_UNREADABLE = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError, MemoryError)


@dataclass
class Mirrored:
    """The result of a mirror run. created: the ids of objects backups and recovery points. problem: why the store is
    not mirrored as it should be. rights: what the store's key can do beside reading; None where nobody tried."""

    created: list[str] = field(default_factory=list)
    problem: Optional[LifeboatError] = None
    rights: Optional[WriteRights] = None

    @property
    def why(self) -> str:
        return self.problem.cause if self.problem else ""

    def as_dict(self) -> dict[str, object]:
        return {"made": self.created, "unmirrored": str(self.problem) if self.problem else ""}


def way(store: StoreSettings) -> tuple[str, str]:
    """As sftp.way(): to the stack's object store."""
    return sftp.way(store.address, store.port)


def bring(run: Opened, source: Source, receipts: Receipts, *, override: int, log: Log) -> Mirrored:
    """Mirror what is due and seal recovery points. Raises nothing: what failed is in `problem`, and is an alarm."""
    done = Mirrored()
    if not run.config.objects.bucket:
        return done
    inner = _reaching(run, source)
    try:
        done.rights = write_rights.attempt(buckets.source(inner))
        tried: set[str] = set()
        while (todo := due(inner, receipts, clock.now())) and todo[0].id not in tried:
            source.budget.left()
            tried.add(todo[0].id)
            _mirror_as_of(inner, receipts, todo, done, override, log)
    except LifeboatError as exc:
        done.problem = _with_way(exc, source)
    except _UNREADABLE as exc:
        cause = f"its answer cannot be read: {exc!r}"[:300]
        done.problem = IntegrityError(_MIRROR, run.config.stack, cause, "Look at the stack's store.")
    return done


def due(run: Opened, receipts: Receipts, now: datetime) -> list[Manifest]:
    """Return the database backups whose instant the store is to be mirrored of, oldest first: of each day the newest
    one. Of a stack without a database they are those of its files, or else of its configuration.

    None from before the last mirror, which holds what came after it; none that the store need not know of any more. A
    database backup that only lacks something counts, as everywhere.
    """
    config, repo = run.config, repositories.repository_of(run)
    made = catalog.sound(catalog.entries(repo, OBJECTS, config.stack))
    since = now - timedelta(days=config.keeper.store.absence_days)
    after = max((manifest.taken_at for manifest in made), default=since)
    leading = next(kind.name for kind in configured(config) if not kind.elsewhere)
    by_day = {
        manifest.taken_at.date(): manifest
        for manifest in catalog.sound(catalog.entries(repo, leading, config.stack))
        if in_time(receipts, manifest.id) and max(since, after) < manifest.taken_at <= now + TOLERANCE
    }
    return [by_day[day] for day in sorted(by_day)]


def _reaching(run: Opened, source: Source) -> Opened:
    """Return the stack with the endpoint under which the SSH connection reaches its store."""
    objects = run.config.objects
    own = replace(objects, endpoint_url=objects.endpoint_url or source.store, service="")
    return run.with_config(replace(run.config, objects=own), {})


def _mirror_as_of(
    run: Opened, receipts: Receipts, todo: Sequence[Manifest], done: Mirrored, override: int, log: Log
) -> None:
    database, repo = todo[0], repositories.repository_of(run)
    rows = run.config.database.enabled
    doubts = Doubts(_forgotten(buckets.source(run), database, clock.now(), log), _HOSTILE)
    manifest = mirror.take(run, log=log, override=override, doubts=doubts, database=database)
    _note(repo, receipts, manifest.id, done)
    began = clock.now()
    why = "; ".join(in_place(repo, manifest))
    found = Check("checksums", FAIL if why else PASS, why or f"{len(manifest.artefacts)} artefacts were read again")
    verify.keep(run, repo, manifest, Result(manifest.id, "checksum", (found,), began, clock.now()))
    details = manifest.detailed(ObjectsDetails)
    # As the store is now, it is nearest to the newest rows.
    of = todo[-1] if details.primary.consistency == EVENTUAL else database
    point, _new = points.seal(run, now=clock.now(), log=log, database=of if rows else None)
    _note(repo, receipts, point.id, done)
    lacks = [*details.missing, *(held.name for held in details.buckets if held.in_no_backup)]
    if lacks:
        cause = "not all of it is in the backup: " + "; ".join(problems_of(details))
        raise IntegrityError(_MIRROR, manifest.id, cause, "What is there is kept. Remove the cause and pull again.")


def problems_of(details: ObjectsDetails) -> list[str]:
    """List what of the store is in no backup."""
    unheld = [
        f"{held.in_no_backup} objects of {held.name}, the first is {held.unheld[0].key!r}: {held.unheld[0].why}"
        for held in details.buckets
        if held.in_no_backup
    ]
    return [*(f"the bucket {name}: {why}" for name, why in details.missing.items()), *unheld]


def _note(repo: Repository, receipts: Receipts, identity: str, done: Mirrored) -> None:
    data = repo.read_point(identity) if points.is_id(identity) else repo.manifest(OBJECTS, identity)
    if identity not in receipts.received:
        record = Record(0, clock.now(), "", "made", identity, hashlib.sha256(data).hexdigest())
        receipts.append(record, clock.now())
        done.created.append(identity)


def _forgotten(source: Bucket, database: Manifest, now: datetime, log: Log) -> str:
    """Return why the store may not know any more what it held at that instant; empty where nothing says so."""
    days = math.ceil(max(now - database.taken_at, timedelta()) / timedelta(days=1)) + 1
    try:
        rules = lifecycle.read(source)
    except LifeboatError as exc:
        log(f"how long the store keeps what is replaced is not known: {exc.cause}")
        return ""
    gone = next((rule for rule in rules or () if rule.shorter(days)), None)
    if gone is None:
        return ""
    return f"the store's rule {gone.id or 'without a name'} removes what is replaced within {days} days"


def _with_way(error: LifeboatError, source: Source) -> LifeboatError:
    """Return the same, with what the way there says: a port that may not be forwarded looks like a server that hangs
    up."""
    said = source.last_error()
    if not source.store or "open failed" not in said:
        return error
    return LifeboatError(
        error.attempted, error.subject, f"{error.cause}; ssh says: {said}",
        "Run lifeboat.dr.keeper: it permits the port of the store.", exit_status=error.exit_status,
    )  # fmt: skip


def store_key(receipts: Receipts) -> Check:
    """For status: whether the key of the stack's store may only read, as the last pull that came so far tried it."""
    name, rights = "store key", next((pull.store_key for pull in reversed(receipts.pulls) if pull.store_key), None)
    if rights is None:
        return Check(name, COULD_NOT_VERIFY, "no pull has tried what the key of the stack's store may do")
    if rights.can:
        words = f"the key of the stack's store can {' and '.join(rights.can)}, and should only read"
        remedy = "give the keeper another one (lifeboat_keeper_secrets.objects_access_key), and pull"
        return Check(name, FAIL, f"{words}: anyone who controls the keeper can change the store; {remedy}")
    if rights.untried:
        return Check(name, COULD_NOT_VERIFY, named(rights.untried))
    return Check(name, PASS, "the key of the stack's store can neither write objects nor delete versions")


def backup_checks(config: Config, entries: Sequence[catalog.Entry]) -> list[Check]:
    """Return the checks of status about the newest objects backup, and about how long the store keeps old versions."""
    made = catalog.sound(entries)
    if not made:
        return [Check("objects", COULD_NOT_VERIFY, "the store was never mirrored")]
    details = made[-1].detailed(ObjectsDetails)
    missing = problems_of(details)
    count = sum(held.objects for held in details.buckets)
    said = f"{made[-1].id}: {count} objects of {len(details.buckets)} buckets, {details.primary.consistency}"
    why = f", for {details.primary.why}" if details.primary.why else ""
    objects = Check("objects", FAIL if missing else PASS, "; ".join([said + why, *missing]))
    return [objects, _outlives(config, details)]


def _outlives(config: Config, details: ObjectsDetails) -> Check:
    """Does the store keep what is replaced for as long as the keeper may be away?"""
    name, days = "source versions", config.keeper.store.absence_days
    if not details.primary.versioned:
        return Check(name, COULD_NOT_VERIFY, "the store did not tell what it held at an instant")
    for held in details.buckets:
        settings = held.settings
        if settings is None or "lifecycle" in held.settings_denied or "lifecycle" not in settings:
            return Check(name, COULD_NOT_VERIFY, f"the key may not read the lifecycle rules of {held.name}")
        told = settings["lifecycle"]
        for element in documents.read(told, held.name) if isinstance(told, str) else ():
            rule = lifecycle.parse(element) if signed.plain(element.tag) == "Rule" else None
            if rule and rule.shorter(days):
                words = f"a rule of {held.name} removes what is replaced sooner than after {days} days"
                remedy = "raise it, or lower keeper.store.absence_days"
                return Check(name, FAIL, f"{words}, which the keeper may be away (store.absence_days): {remedy}")
    return Check(name, PASS, f"no rule of the store removes what is replaced within {days} days")
