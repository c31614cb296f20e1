# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a monitoring system is told of a stack: one textfile for node_exporter's textfile collector.

What lies on this host is read every time. What others have to be asked for (the vault, the database server) is asked
where `ask` says so, and remembered. So is what the repository holds, for thousands of manifests take seconds: it is
read again after each run, where somebody is asked, and as soon as the list of backups is another one.

A collector that fails leaves its figures out and says so: a figure that is there is true. 0 as a time means never.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Callable, Optional

from ..base import filesystem, pipeline, typed, web
from ..base.checks import BUCKET, COULD_NOT_VERIFY, PASS
from ..base.clock import TOLERANCE
from ..base.errors import TIMED_OUT, LifeboatError, NotFoundError, UnverifiedError, UsageError, present
from ..base.version import VERSION
from ..database import server
from ..database.wal import send, vault
from ..evidence import schema, store
from ..evidence.schema import Record
from ..faces.metrics import EVIDENCE, Sample, evidence, exposition
from ..frontend import site as frontend_site
from ..mirror import follow
from ..repository import copies, growth, points, repositories
from ..repository.base import OtherRepositoryError
from ..repository.catalog import Entry
from ..repository.components import CONFIG, DATABASE, KINDS, WAL, AnyKind, configured, watched
from ..repository.details import ConfigDetails
from ..repository.local import LocalRepository
from ..repository.points import PointEntry
from ..settings.config import LEVELS, Config
from ..settings.parts import S3Settings
from ..stack.runtime import Opened
from ..stack.state import StateInventory
from . import checklist, clocks, continuous, glances, quarantine, runs, status
from .glances import Glance, Listing

ASKED, CATALOG = "asked.json", "catalog.json"  # what is remembered of others, and of the repository
HISTORY = "history"  # the collector of what needs all backups; those that were never read are read over some runs
STACK = "stack"  # what a duty is of that has no component or scenario
_DUTY = "lifeboat_duty_last_success_timestamp_seconds"
_ALLOWED = "lifeboat_duty_allowed_age_seconds"
_FIRST = "lifeboat_duty_first_due_timestamp_seconds"
_OTHERS_ASKED = timedelta(hours=6)  # to be asked every hour: docs/monitoring.md
_RETENTION = timedelta(days=8)  # the schedules apply it every night; a week may fail before somebody is told
_DRILLS_READ = 32  # records of each kind and scenario that are looked at for one that passed
_COPIES_READ = 16  # backups of each component that are looked at for one with a copy
_PATIENCE = 10  # seconds
_SOON = 5.0  # of what is asked every minute
_NAMES = 100  # checks; there are about thirty

METRICS: Mapping[str, str] = {
    "lifeboat_build_info": "Which Lifeboat wrote this; always 1.",
    "lifeboat_metrics_timestamp_seconds": "When this file was written, by the clock of the host.",
    "lifeboat_collector_success": "1 where these facts could be read; 0 where they could not, and are left out.",
    _DUTY: "When the duty was last done with success; 0: never. A backup, a copy and a recovery point count from the"
    " instant that their data is of.",
    _ALLOWED: "How old the last success may be.",
    _FIRST: "When a drill is first due, by the oldest backup. Until then one that was never done is not late.",
    "lifeboat_backups": "Backups in the repository: good, unknown (could not be read) or bad.",
    "lifeboat_backup_last_error_status": "1 where the newest backup cannot be used, else 0.",
    "lifeboat_backup_size_bytes": "What the newest good backup stands for; of objects the bytes of the buckets.",
    "lifeboat_backup_median_size_bytes": f"The median of the {growth.BEFORE} good backups before it.",
    "lifeboat_backup_repo_size_bytes": "What the newest good backup needs in the repository.",
    "lifeboat_backup_duration_seconds": "From the instant that the data is of to the end of the backup.",
    "lifeboat_backup_items": "What the newest good backup holds: rows, tables, databases, objects.",
    "lifeboat_backup_unprotected_items": "What the newest backup lacks, and what nobody chose or left out.",
    "lifeboat_mounts": "Mounts of the stack by protection: protected, excluded by name, unprotected (in no backup),"
    " unknown (could not be looked at); by who saw them: the newest backup of the configuration, or status.",
    "lifeboat_repository_known": "1 where the repository is the one that this host used before; 0 where it is missing"
    " or another: its disk is not mounted.",
    "lifeboat_repository_free_bytes": "Free space where the backups are; absent where there is no limit.",
    "lifeboat_repository_largest_backup_bytes": "The largest backup in the repository.",
    "lifeboat_repository_full_timestamp_seconds": "When the repository will be full if it grows as it did; never later"
    f" than in {growth.HORIZON} days.",
    "lifeboat_database_up": "1 where the stack's database server takes connections, else 0.",
    "lifeboat_run_last_end_timestamp_seconds": "When the last run of this kind ended.",
    "lifeboat_run_last_duration_seconds": "How long it took.",
    "lifeboat_run_last_exit_code": "Its exit code; 0 is good.",
    "lifeboat_run_last_success_timestamp_seconds": "When one last ended with 0; 0: never since this is recorded.",
    "lifeboat_run_failures_total": "How many runs of this kind did not end with 0. A good run does not set it back.",
    "lifeboat_run_killed": "1 where a run of this kind began, never ended, and no other did since: it was killed.",
    "lifeboat_run_began_timestamp_seconds": "When the run began that goes on now; 0: none does.",
    "lifeboat_run_done_bytes": "Bytes that the run that goes on now has read or written; 0: none goes on.",
    "lifeboat_status_passed": "1 where lifeboat status said PASS when it was last asked, else 0.",
    "lifeboat_check_passed": "The same for each of its checks.",
    "lifeboat_wal_check_passed": "1 where this check of lifeboat wal status passed just now, 0 where it failed; absent"
    " where it could not be made.",
    "lifeboat_quarantine_items": "What recoveries moved aside and is still there.",
    "lifeboat_quarantine_bytes": "How much that is.",
    "lifeboat_quarantine_oldest_timestamp_seconds": "When the oldest of it was moved there.",
    "lifeboat_clock_skew_seconds": "How far the clock of a server that keeps backups is from this host's; the largest.",
    "lifeboat_certificate_expiry_timestamp_seconds": "When the certificate of an address that the stack uses ends.",
    "lifeboat_changes_reached_timestamp_seconds": "Until when every change of objects is written down.",
    "lifeboat_changes_allowed_age_seconds": "How old that may be.",
    "lifeboat_changes_listing_seconds": "How long the last look at the objects took; 20 times as long passes at least"
    " until the next one.",
    **EVIDENCE,
}


class Facts:
    """What the collectors share, each part read once. assessment: what status read, where it did."""

    def __init__(self, run: Opened, now: datetime, assessment: Optional[status.Status] = None) -> None:
        self.run, self.config, self.now = run, run.config, now
        self._assessment = assessment

    @functools.cached_property
    def backups(self) -> Mapping[str, Sequence[Entry]]:
        if self._assessment:
            return self._assessment.backups
        repo = repositories.repository_of(self.run)
        return {**points.backups(repo, self.config.stack), **points.bases(repo, self.config)}

    @functools.cached_property
    def glances(self) -> Listing:
        repo = repositories.repository_of(self.run)
        if self._assessment:
            return Listing(
                {
                    name: [glances.glance_of(repo, entry) for entry in some]
                    for name, some in self._assessment.backups.items()
                }
            )
        return glances.everything(repo, self.config)

    @functools.cached_property
    def newest_point(self) -> Optional[datetime]:
        """Of when the newest recovery point is that can be used."""
        repo = repositories.repository_of(self.run)
        if self._assessment or repo.trust or not isinstance(repo, LocalRepository):
            return max((point.taken_at for point in self.points if point.good and point.taken_at), default=None)
        return glances.newest_point(repo, self.config.stack)

    @functools.cached_property
    def points(self) -> Sequence[PointEntry]:
        if self._assessment:
            return self._assessment.points
        return points.entries(repositories.repository_of(self.run), self.config.stack, self.backups)

    def status(self) -> status.Status:
        if self._assessment is None:
            self._assessment = status.status(self.run, now=self.now)
        return self._assessment


Collector = Callable[[Facts], Iterator[Sample]]


def duties(config: Config) -> dict[tuple[str, str], timedelta]:
    """What has to be done of this stack, every so often: (duty, of what) -> how old its last success may be."""
    alarms = config.alarms
    nightly, proof = timedelta(hours=alarms.backup_age_hours), timedelta(days=alarms.proof_age_days)
    kinds = configured(config)
    found = {("backup", kind.name): nightly for kind in watched(config)}
    found.update({(f"verify_{LEVELS[-1]}", kind.name): proof for kind in watched(config)})
    if any(kind.tied for kind in kinds) or not config.database.enabled:  # as status has it
        found["recovery_point", STACK] = nightly
    if copies.configured(config):
        found.update({("copy", kind.name): nightly for kind in watched(config)})  # no WAL leads on without a base
    if config.wal.enabled and (copies.configured(config) or isinstance(config.repository, S3Settings)):
        found["copy", WAL] = timedelta(seconds=config.wal.alarm_seconds)
    if config.config.enabled and config.config.recipients:
        found["escrow", STACK] = timedelta(days=alarms.escrow_age_days)
    found.update({("drill", one.name): timedelta(days=alarms.drill_age_days) for one in config.scenarios})
    found["prune", STACK] = _RETENTION
    found["status", STACK] = _OTHERS_ASKED
    return found


def _done(duty: str, subject: str, at: Optional[datetime]) -> Sample:
    return Sample(_DUTY, {"duty": duty, "of": subject}, at.timestamp() if at else 0)


def _catalog(facts: Facts) -> Iterator[Sample]:
    for kind in watched(facts.config):
        there = facts.glances.backups.get(kind.name, ())
        yield from _component(facts, kind, there, kind.name not in facts.glances.unread)
        if kind.name == CONFIG:
            yield from _backed_up_mounts(facts)
    yield _success(HISTORY, facts.glances.whole)
    if facts.glances.whole:
        oldest = min((glance.dated for some in facts.glances.backups.values() for glance in some), default=facts.now)
        for scenario in facts.config.scenarios:
            due = oldest + duties(facts.config)["drill", scenario.name]
            yield Sample(_FIRST, {"duty": "drill", "of": scenario.name}, due.timestamp())
    if ("recovery_point", STACK) in duties(facts.config):
        yield _done("recovery_point", STACK, facts.newest_point)
    sizes = [glance.size for some in facts.glances.backups.values() for glance in some if glance.size is not None]
    if sizes and facts.glances.whole:
        yield Sample("lifeboat_repository_largest_backup_bytes", {}, max(sizes))


def _disk(facts: Facts) -> Iterator[Sample]:
    free = repositories.repository_of(facts.run).free_bytes()
    if free is not None:
        yield Sample("lifeboat_repository_free_bytes", {}, free)


def _known(facts: Facts) -> Iterator[Sample]:
    """Of a directory on this host. 0 as well where it is not there: what else is wrong with it fails the collector."""
    repo = repositories.repository_of(facts.run)
    if not isinstance(repo, LocalRepository):
        return
    try:
        repo.require_ours()
        known = True
    except OtherRepositoryError:
        known = False
    except UsageError:
        if repo.root.is_dir():
            raise
        known = False
    yield Sample("lifeboat_repository_known", {}, known)


def _component(facts: Facts, kind: AnyKind, entries: Sequence[Glance], whole: bool) -> Iterator[Sample]:
    """whole: there are no older ones that nobody read yet; else what they may change is left out."""
    labels = {"component": kind.name}
    good = [entry for entry in entries if entry.good]
    counted = {"good": len(good), "unknown": sum(entry.unknown for entry in entries)}
    for state, count in {**counted, "bad": len(entries) - sum(counted.values())}.items() if whole else ():
        yield Sample("lifeboat_backups", {**labels, "state": state}, count)
    done = {"backup": good[-1].taken_at if good else None}
    if whole or any(facts.now - entry.dated > _young(facts) for entry in good):
        done.update({f"verify_{level}": _proved(facts, good, level) for level in LEVELS})
    if ("copy", kind.name) in duties(facts.config):
        done["copy"] = _copy(facts, good)
    yield from (_done(duty, kind.name, at) for duty, at in done.items() if at or whole)
    if entries:
        yield Sample("lifeboat_backup_last_error_status", labels, not entries[-1].good)
    readable = [entry for entry in entries if entry.size is not None]
    if readable:
        details = present(readable[-1].full().manifest).detailed(kind.details)
        lacking = len(kind.lacks(details)) + kind.unchosen(details)
        yield Sample("lifeboat_backup_unprotected_items", labels, lacking)
    if not good:
        return
    newest = good[-1].full()
    manifest = present(newest.manifest)
    yield Sample("lifeboat_backup_size_bytes", labels, status.bytes_of(newest))
    yield Sample("lifeboat_backup_repo_size_bytes", labels, manifest.size)
    yield Sample("lifeboat_backup_duration_seconds", labels, (manifest.finished_at - manifest.taken_at).total_seconds())
    before = [status.bytes_of(entry.full()) for entry in good[-1 - growth.BEFORE : -1]]
    if before and (whole or len(before) == growth.BEFORE):
        yield Sample("lifeboat_backup_median_size_bytes", labels, statistics.median(before))
    for what, count in kind.counted(manifest.detailed(kind.details)).items():
        yield Sample("lifeboat_backup_items", {**labels, "item": what}, count)


def _backed_up_mounts(facts: Facts) -> Iterator[Sample]:
    """What the newest backup of the configuration says, by the exclusions of today: as soon as it is taken, it tells of
    a mount that nobody has chosen yet."""
    entry = next((entry for entry in reversed(facts.glances.backups[CONFIG]) if entry.size is not None), None)
    inventory = present(entry.full().manifest).detailed(ConfigDetails).state if entry else None
    yield from _mounts("backup", inventory.judged(facts.config)) if inventory else ()


def _mounts(by: str, inventory: StateInventory) -> Iterator[Sample]:
    for protection, count in {**inventory.counts, "unknown": len(inventory.problems)}.items():
        yield Sample("lifeboat_mounts", {"seen_by": by, "protection": protection}, count)


def _young(facts: Facts) -> timedelta:
    """How old a backup may be that a proof is to be of."""
    return timedelta(days=facts.config.alarms.proof_age_days, hours=facts.config.alarms.backup_age_hours)


def _proved(facts: Facts, good: Sequence[Glance], level: str) -> Optional[datetime]:
    """When a young backup last passed at this level or a higher one. Where only old ones did, the age of the youngest
    of them counts, as `lifeboat status` has it: last year's backup, restored today, says nothing of the others."""
    recent: list[tuple[datetime, datetime]] = []
    older: list[tuple[datetime, datetime]] = []
    for entry in good:
        for at in (entry.passed[name] for name in LEVELS[LEVELS.index(level) :] if name in entry.passed):
            if at <= facts.now + TOLERANCE:
                (recent if facts.now - entry.dated <= _young(facts) else older).append((at, entry.dated))
    return max((at for at, _dated in recent), default=None) or max((dated for _at, dated in older), default=None)


def _copy(facts: Facts, good: Sequence[Glance]) -> Optional[datetime]:
    """Of when the newest backup is that has been copied to the vault, by this host's own record."""
    place = copies.location(facts.config)
    for entry in list(reversed(good))[:_COPIES_READ]:
        found = copies.read(repositories.repository_of(facts.run), present(entry.full().manifest))
        if found and found.location == place:
            return entry.taken_at
    return None


def _records(facts: Facts) -> Iterator[Sample]:
    """Of each kind and scenario the newest records, back to one that passed: there may be thousands."""
    of_kind: dict[str, list[Record]] = {}
    passed = set()
    looked: dict[str, int] = {}
    for identity in reversed(store.ids(facts.config)):
        kind = re.sub(r"_\d{8}_\d{6}(_\d+)?$", "", identity)
        looked[kind] = looked.get(kind, 0) + 1
        if kind in passed or looked[kind] > _DRILLS_READ:
            continue
        record = store.load(facts.config, identity).good
        if record and record.stack == facts.config.stack and record.recorded_at <= facts.now + TOLERANCE:
            of_kind.setdefault(kind, []).append(record)
            passed |= {kind} if record.verdict == PASS else set()
    found = sorted((record for some in of_kind.values() for record in some), key=lambda record: record.recorded_at)
    yield from evidence(found)
    for scenario in facts.config.scenarios:
        drills = [
            record.recorded_at for record in found
            if (record.kind, record.scenario, record.verdict) == (schema.DRILL, scenario.name, PASS)
        ]  # fmt: skip
        yield _done("drill", scenario.name, max(drills, default=None))


def _runs(facts: Facts) -> Iterator[Sample]:
    for run, ended in runs.everything(facts.config).items():
        yield Sample("lifeboat_run_last_end_timestamp_seconds", {"run": run}, ended.ended_at.timestamp())
        yield Sample("lifeboat_run_last_duration_seconds", {"run": run}, ended.seconds)
        yield Sample("lifeboat_run_last_exit_code", {"run": run}, ended.exit_code)
        succeeded = ended.succeeded_at.timestamp() if ended.succeeded_at else 0
        yield Sample("lifeboat_run_last_success_timestamp_seconds", {"run": run}, succeeded)
        yield Sample("lifeboat_run_failures_total", {"run": run}, ended.failures)


def _unfinished(facts: Facts) -> Iterator[Sample]:
    """Of each kind that was ever begun."""
    now = runs.going(facts.config)
    for run in runs.names():
        going, killed = runs.unfinished(facts.config, run)
        if going or killed or runs.read(facts.config, run):
            yield Sample("lifeboat_run_killed", {"run": run}, killed is not None)
            yield Sample("lifeboat_run_began_timestamp_seconds", {"run": run}, going.timestamp() if going else 0)
            yield Sample("lifeboat_run_done_bytes", {"run": run}, now[run].done if run in now else 0)


def _database(facts: Facts) -> Iterator[Sample]:
    """pg_isready ends with 0 where the server takes connections, with 1 while it starts, and with 2 where it is silent.
    Where it cannot be asked at all nothing is told."""
    if DATABASE not in (kind.name for kind in configured(facts.config)):
        return
    try:
        database = server.of(facts.run)
    except NotFoundError:  # its service does not run
        yield Sample("lifeboat_database_up", {}, False)
        return
    status, _out, stderr = pipeline.probe(database.tool("pg_isready", database="template1"), timeout=_PATIENCE)
    if status not in (0, 1, 2, TIMED_OUT):
        raise UnverifiedError("ask whether the database answers", facts.config.database.service, stderr.strip())
    yield Sample("lifeboat_database_up", {}, status == 0)


def _retention(facts: Facts) -> Iterator[Sample]:
    yield _done("prune", STACK, clocks.pruned_at(facts.config))


def _wal(facts: Facts) -> Iterator[Sample]:
    """By the sender's own record: each pass of it asks the vault. A repository in a bucket is off the host itself. And
    what is wrong before that: the slot, the receiver, a repository that is full. Where the server does not answer
    soon, that is said: its checks are absent."""
    if ("copy", WAL) in duties(facts.config):
        copied, ledger = vault.copied(facts.config), send.ledger(facts.config)
        reached = copied and copied.reached if copies.configured(facts.config) else ledger and ledger.reached
        yield _done("copy", WAL, reached.at if reached else None)
    passed: dict[str, bool] = {}
    if facts.config.wal.enabled:
        checks = continuous.status(facts.run, facts.now, _SOON).checks
        unanswered = any((check.kind, check.result) == (continuous.RECEIVER, COULD_NOT_VERIFY) for check in checks)
        yield _success("wal_server", not unanswered)
        for check in checks:
            name = check.name
            if check.kind != continuous.OFF_THE_HOST and check.result != COULD_NOT_VERIFY:
                passed[name] = passed.get(name, True) and check.result == PASS
    for name, whether in passed.items():
        yield Sample("lifeboat_wal_check_passed", {"check": name}, whether)


def _status(facts: Facts) -> Iterator[Sample]:
    """Names of checks are ours, but for those of other buckets, which are told as one."""
    seen = facts.status()
    yield Sample("lifeboat_status_passed", {}, seen.verdict == PASS)
    passed: dict[str, bool] = {}
    for check in seen.checks:
        name = "a bucket" if check.kind == BUCKET else check.name.partition(":")[0]
        passed[name] = passed.get(name, True) and check.result == PASS
    for name, whether in list(passed.items())[:_NAMES]:
        yield Sample("lifeboat_check_passed", {"check": name}, whether)
    for check in seen.checks:
        if check.kind == "escrow" and check.measured is not None:
            yield _done("escrow", STACK, facts.now - timedelta(days=check.measured))
    yield _done("status", STACK, facts.now)
    yield from _mounts("status", seen.state) if seen.state else ()


def _full(facts: Facts) -> Iterator[Sample]:
    # Of bases and WAL the window is kept, whatever the rules of the others are.
    good = {name: [entry for entry in facts.backups[name] if entry.good] for name in KINDS}
    if any(good.values()):
        free, days = checklist.until_full(facts.run, good, facts.now)
        if free is not None:
            at = facts.now + timedelta(days=growth.HORIZON if days is None else days)
            yield Sample("lifeboat_repository_full_timestamp_seconds", {}, at.timestamp())


def _quarantine(facts: Facts) -> Iterator[Sample]:
    seen = quarantine.survey(facts.run, now=facts.now)
    if seen.unseen:
        raise UnverifiedError("look into the quarantine", facts.config.stack, seen.unseen[0].detail)
    for kind in quarantine.KINDS:
        kept = [item for item in seen.items if item.kind == kind]
        yield Sample("lifeboat_quarantine_items", {"kind": kind}, len(kept))
        yield Sample("lifeboat_quarantine_bytes", {"kind": kind}, sum(item.size for item in kept))
        if kept:
            oldest = min(item.at for item in kept).timestamp()
            yield Sample("lifeboat_quarantine_oldest_timestamp_seconds", {"kind": kind}, oldest)


def _changes(facts: Facts) -> Iterator[Sample]:
    state = follow.ledger(facts.config) if facts.config.objects.changes_seconds else None
    if state is not None:
        yield Sample("lifeboat_changes_reached_timestamp_seconds", {}, state.reached.at.timestamp())
        yield Sample("lifeboat_changes_allowed_age_seconds", {}, follow.allowed(facts.config, state))
        yield Sample("lifeboat_changes_listing_seconds", {}, state.listing_seconds)


def _skew(facts: Facts) -> Iterator[Sample]:
    told = [seconds for _url, seconds in clocks.skews(facts.config)]
    if told:
        yield Sample("lifeboat_clock_skew_seconds", {}, max(map(abs, told)))


def _certificates(facts: Facts) -> Iterator[Sample]:
    """Of the addresses that are configured. One that cannot be looked at may have ended: then all are unknown."""
    one = facts.config
    own = one.repository if isinstance(one.repository, S3Settings) else S3Settings()
    used = {
        "repository": (own.endpoint_url, own.ca_bundle),
        "vault": (one.vault.endpoint_url, one.vault.ca_bundle),
        "objects": (one.objects.endpoint_url, one.objects.ca_bundle),
        "frontend": (one.frontend.url, one.frontend.ca_bundle),
    }
    for name, (url, ca_bundle) in used.items():
        try:
            end = frontend_site.certificate_end(url, web.ssl_context(ca_bundle), _PATIENCE) if url else None
        except (OSError, ValueError) as exc:
            raise UnverifiedError("look at the certificate", url, str(exc)) from exc
        if end is not None:
            yield Sample("lifeboat_certificate_expiry_timestamp_seconds", {"endpoint": name}, end)


# What lies on this host, and what others are asked for.
HERE: Mapping[str, Collector] = {
    "disk": _disk, "mount": _known, "evidence": _records, "runs": _runs, "unfinished": _unfinished,
    "retention": _retention, "database": _database, "changes": _changes, "wal": _wal,
}  # fmt: skip
REPOSITORY: Mapping[str, Collector] = {"repository": _catalog}
OTHERS: Mapping[str, Collector] = {
    "status": _status, "space": _full, "quarantine": _quarantine, "clock": _skew, "certificates": _certificates,
}  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class _Remembered:
    """What was seen at a time. listing: which backups and recovery points there were."""

    at: datetime
    samples: tuple[_Stored, ...]
    listing: str = ""

    @property
    def plain(self) -> list[Sample]:
        return [
            Sample(kept.name, kept.labels, kept.value) for kept in self.samples
            if kept.name in METRICS and math.isfinite(kept.value)
        ]  # fmt: skip


def textfile(run: Opened, *, now: datetime, ask: bool = False, again: bool = False) -> str:
    """Everything that is known of the stack, as node_exporter reads it. ask: others too. again: read the repository,
    although the list of its backups is the same: a verification may have written into one."""
    config, facts = run.config, Facts(run, now)
    own = [
        Sample("lifeboat_build_info", {"version": VERSION}, 1),
        Sample("lifeboat_metrics_timestamp_seconds", {}, now.timestamp()),
        *(
            Sample(_ALLOWED, {"duty": duty, "of": of}, age.total_seconds())
            for (duty, of), age in duties(config).items()
        ),
    ]
    # Others first: status reads the repository, and what it read is not read twice.
    samples = [*own, *_external(facts, ask), *_repository(facts, ask or again), *_collected(facts, HERE)]
    return exposition(METRICS, (sample._replace(labels={STACK: config.stack, **sample.labels}) for sample in samples))


def _external(facts: Facts, ask: bool) -> list[Sample]:
    """Where nobody was asked yet, the duty `status` was never done."""
    if not ask:
        before = _recall(facts.config, ASKED)
        return before.plain if before else [_done("status", STACK, None)]
    found = _collected(facts, OTHERS)
    _remember(facts, ASKED, found)
    return found


def _repository(facts: Facts, again: bool) -> list[Sample]:
    """One in S3 is not even listed where nobody is to be asked: each look costs requests."""
    before = _recall(facts.config, CATALOG)
    try:
        remote = isinstance(facts.config.repository, S3Settings)
        listing = before.listing if before and remote and not again else _listing(facts)
    except LifeboatError:
        return [_success("repository", False)]
    if before and not again and before.listing == listing:
        return before.plain
    found = _collected(facts, REPOSITORY)
    if _success("repository", True) in found:
        whole = _success(HISTORY, True) in found
        _remember(facts, CATALOG, found, listing if whole else "")  # no listing is empty: the next run reads on
    return found


def _listing(facts: Facts) -> str:
    repo = repositories.repository_of(facts.run)
    repo.check(writable=False)
    names = [*(identity for kind in _there(facts) for identity in repo.ids(kind.name)), *repo.points()]
    names += [
        VERSION,
        *(f"{duty} {of}" for duty, of in duties(facts.config)),
    ]  # what is told of them changes with these
    return filesystem.sha256("\n".join(names).encode())


def _there(facts: Facts) -> list[AnyKind]:
    """What is watched, and has a folder in the repository: an operator may have given that to another component."""
    folders = repositories.repository_of(facts.run).folders
    return [kind for kind in watched(facts.config) if kind.name in folders]


def _success(collector: str, good: bool) -> Sample:
    return Sample("lifeboat_collector_success", {"collector": collector}, good)


def _collected(facts: Facts, collectors: Mapping[str, Collector]) -> list[Sample]:
    found: list[Sample] = []
    for name, collector in collectors.items():
        try:
            found += [*collector(facts), _success(name, True)]
        except LifeboatError:
            found.append(_success(name, False))
    return found


def _remember(facts: Facts, file: str, samples: Sequence[Sample], listing: str = "") -> None:
    kept = tuple(_Stored(name, labels, float(value)) for name, labels, value in samples)
    path = facts.config.state / file
    with filesystem.explained("remember what was seen for the metrics", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = json.dumps(typed.plain(_Remembered(facts.now, kept, listing))).encode() + b"\n"
        filesystem.write(path, data, path.with_name(f".{path.name}.{os.getpid()}"))


def _recall(config: Config, file: str) -> Optional[_Remembered]:
    """None where nothing is remembered, or it cannot be read."""
    try:
        return typed.maybe(_Remembered, filesystem.read_plain(config.state / file))
    except OSError:
        return None


def write(config: Config, text: str, whose: str = "lifeboat") -> Path:
    """At once or not at all: node_exporter reads every file that ends with .prom, as a user of its own. Not by way of
    filesystem.write(): once a minute, what a power cut may take is not worth a wait for the disk."""
    path = config.textfile(whose)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with filesystem.explained("write the metrics", path):
        try:
            with filesystem.create(partial) as file:
                file.write(text.encode("utf-8", "backslashreplace"))
                os.fchmod(file.fileno(), 0o644)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return path
