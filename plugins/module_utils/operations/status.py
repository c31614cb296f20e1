# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this stack protected? Age of the newest backups and proofs, the vault, failures, space: one verdict."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Optional

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, NEWEST, PASS, PROOF, Check, at_most, verdict
from ..base.clock import TOLERANCE
from ..base.errors import IntegrityError, LifeboatError, present
from ..base.text import human
from ..database import logins
from ..files import references
from ..mirror import follow
from ..mirror.store import folded
from ..objects import reconcile
from ..recovery import state as recovery_state
from ..repository import base as repository_base
from ..repository import catalog, copies, growth, points, repositories, retention, sealing, show
from ..repository.catalog import Entry, Published
from ..repository.components import BASE, DATABASE, AnyKind, component_kind, taken, watched
from ..repository.details import DatabaseDetails
from ..repository.manifest import Manifest
from ..repository.points import Point, PointEntry
from ..s3 import bucket
from ..s3.bucket import Listed
from ..settings import config as settings
from ..settings.config import MANIFESTS, RECOVERY_POINTS, Config
from ..stack import buckets, hook_debts, mounts
from ..stack.runtime import Opened
from ..stack.state import StateInventory
from ..tools import age
from ..vault import endpoints
from . import clocks, continuous, escrow_record, judgements, notify

CONTENT, SIZES = "content against earlier backups", "size against earlier backups"


@dataclass(frozen=True)
class Status:
    """How a stack is protected at a time: what was checked, and what it has to recover from. state: its mounts, where
    it is a Compose project."""

    stack: str
    at: datetime
    checks: tuple[Check, ...]
    points: Sequence[PointEntry]
    backups: Mapping[str, Sequence[Entry]]
    state: Optional[StateInventory] = None

    @property
    def verdict(self) -> str:
        return verdict(self.checks)

    @property
    def proof_age_days(self) -> dict[str, Optional[float]]:
        """By component, as its check measured it; None where no restore ever proved it."""
        found = {check.subject: check.measured for check in self.checks if check.kind == PROOF}
        return {name: found[name] for name in taken() if name in found}

    def as_dict(self) -> dict[str, object]:
        return {
            "stack": self.stack,
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
            "proof_age_days": self.proof_age_days,
            "mounts": [typed.plain(mount) for mount in self.state.mounts] if self.state else [],
            "points": points.listing(self.points, {}, self.at),
            "backups": points.listing([], self.backups, self.at),
        }


def status(run: Opened, *, now: datetime, real_now: Optional[datetime] = None) -> Status:
    """Reads manifests, not artefacts; a backup nobody proved never passes.

    Of a stack with a bucket it also asks the two endpoints, and where keys_query or references is set the database;
    of a Compose project it looks at every mount. real_now: the time that it is, where `now` is a day to come: what an
    endpoint said is remembered as of then.
    """
    config, repo = run.config, repositories.repository_of(run)
    repo.check(writable=False)
    owned = list(_owned(repo))
    backups = points.backups(repo, config.stack)
    tied = points.entries(repo, config.stack, backups)
    judged = {**backups, **points.bases(repo, config)}
    every = [entry for entries in judged.values() for entry in entries]
    checks: list[Check] = [*owned, *_private(config), *logins.unfinished(config), *recovery_state.checked(config)]
    checks += hook_debts.checked(config)
    kinds = watched(config)
    for kind in kinds:
        found = judged.get(kind.name, [])
        newest_one = _newest(config, f"newest {kind.word}backup", found, now, "there is no good backup")
        checks.append(replace(newest_one, kind=NEWEST, subject=kind.name))
        checks.append(replace(_proof(config, kind, found, now), kind=PROOF, subject=kind.name))
        good = catalog.good(found)
        checks += judgements.judged(config, repo, good[-1]) if good else ()
        checks += _recovery_rights(config, good[-1]) if good and kind.name == DATABASE else ()
    if any(kind.tied for kind in kinds) or not config.database.enabled:  # a point is as old as its rows
        words = "there is none that can be used; take one: lifeboat backup"
        checks.append(_newest(config, "recovery point", tied, now, words))
    for what, entries in (("backups", every), ("recovery points", tied)):
        checks += _unfit(what, entries)
    less = {kind.name: catalog.shrunk(judged.get(kind.name, []))[0] for kind in kinds if not kind.guarded}
    if any(less.values()):
        told = (f"{said}; if that is right: lifeboat backup {name} --override" for name, said in less.items() if said)
        checks.append(Check(CONTENT, FAIL, "; ".join(told)))
    checks += _sizes({kind: judged[kind.name] for kind in kinds if kind.counts}, now)
    checks.append(_space(repo, every))
    checks += _encrypted(config, {kind.name: [one for one in judged.get(kind.name, ()) if one.good] for kind in kinds})
    checks += copies.checks(run, backups, tied)
    checks += clocks.hidden_checks(run, backups, tied, now)
    checks += _signatures(run, judged, tied, now)
    checks += _holds(run, now)
    checks += continuous.status(run, real_now or now).checks if config.wal.enabled else ()
    checks += follow.checked(config, now)
    checks += escrow_record.checks(run, now)
    checks += endpoints.checks(run, now=real_now or now)
    checks += notify.checks(config, real_now or now)
    inventory = run.once(mounts.inventory)
    checks += [inventory.check] if inventory else []
    if config.objects.bucket and config.objects.keys_query:
        compared, report = reconcile.checked(config, lambda: _reconciled(run))
        checks += [*compared, *(_rows_of_others(run) if report else ())]
    checks += references.checks(run)
    return Status(config.stack, now, tuple(checks), tied, judged, inventory)


def newest(assessment: Status) -> list[str]:
    """The last few of each kind, for a terminal."""
    last = {name: entries[-5 if name == DATABASE else -3 :] for name, entries in assessment.backups.items()}
    return show.table(assessment.points[-3:], last, assessment.at)


def _encrypted(config: Config, by_component: Mapping[str, Sequence[Entry]]) -> Iterator[Check]:
    """For whom the good backups are encrypted, by component, and by whom they can be opened. Nothing where none is."""
    wanted = config.encryption.recipients
    current = {*wanted, *config.config.recipients}
    manifests = {name: [present(entry.manifest) for entry in entries] for name, entries in by_component.items()}
    newest = [made[-1] for made in manifests.values() if made]
    clear = [made for made in newest if wanted and not made.encrypted]
    words = [f"{made.id} is not encrypted" for made in clear]
    words += [f"{made.id} is encrypted for none of the configured recipients" for made in _closed(newest, current)]
    if words:
        yield Check("encryption", FAIL, f"{'; '.join(words)}; take a new one: lifeboat backup")
    elif wanted and newest:
        yield Check("encryption", PASS, f"the newest backups are encrypted for {len(wanted)} recipients")
    closed = _closed([made for every in manifests.values() for made in every], current)
    if closed:
        whose = ", ".join(sorted({recipient for made in closed for recipient in made.recipients}))
        few = f"{', '.join(made.id for made in closed[-3:])}{', …' if len(closed) > 3 else ''}"
        told = f"{len(closed)} backups can be opened by the key of none of the configured recipients ({few})"
        yield Check("keys of the past", PASS, f"{told}; keep the keys of {whose} for as long as these are kept")
    yield from _host_key(config, [entries[-1] for entries in by_component.values() if entries])


def _closed(manifests: Sequence[Manifest], recipients: Collection[str]) -> list[Manifest]:
    """Those that the key of none of the recipients opens."""
    return [item for item in manifests if item.recipients and not set(item.recipients) & set(recipients)]


def _host_key(config: Config, newest: Sequence[Entry]) -> Iterator[Check]:
    """The newest backups that the host can verify no longer, and nobody has."""
    keys, lost = age.HostKeys(config.state), []
    for entry in newest:
        key = present(entry.manifest).host_key
        if key and not entry.proven_at and not keys.text([key]):
            lost.append(entry.id)
    if lost:
        words = f"the key of this host's own that opened {', '.join(lost)} is gone, so no schedule can verify it"
        yield Check("host key", COULD_NOT_VERIFY, f"{words}: lifeboat verify --identity <the escrowed key>")


def _signatures(
    run: Opened, backups: Mapping[str, Sequence[Entry]], tied: Sequence[PointEntry], now: datetime
) -> Iterator[Check]:
    """What signatures tell of documents that are not there, and whether this host's own will be believed."""
    trust, config = repositories.trust(run), run.config
    if trust is None or not trust.signers:
        return
    wrong = list(trust.problems)
    try:
        mine = sealing.public(config.signing_key) if config.signing_key else ""
    except LifeboatError as exc:
        wrong.append(str(exc))
    else:
        if mine not in trust.signers:
            had = f"the key {config.signing_key}" if mine else "no signing key"
            wrong.append(f"this host has {had}, which lifeboat_signers does not name: its next backups are untrusted")
    since = now - timedelta(days=retention.policy(config).daily_days)
    for document, component, found in (
        *((MANIFESTS, name, entries) for name, entries in backups.items()), (RECOVERY_POINTS, "", tied)
    ):  # fmt: skip
        there = [entry.id for entry in found if not entry.untrusted]
        wrong += trust.alarms(document, component, there, since)
    refused = [f"the verification of {identity}: {cause}" for identity, cause in trust.verifications.items()]
    wrong += [*refused[:2], *([f"and of {len(refused) - 2} more"] if len(refused) > 2 else [])]
    if wrong:
        yield Check("signatures", FAIL, "; ".join(wrong[:4]))
    elif trust.problem:
        words = f"{trust.problem}: what was checked before is not known, nor what is gone since"
        yield Check("signatures", COULD_NOT_VERIFY, words)
    else:
        good = sum(entry.good for entries in (*backups.values(), tied) for entry in entries)
        yield Check("signatures", PASS, f"{good} documents by {', '.join(sorted(s.name for s in config.signers))}")


def _holds(run: Opened, now: datetime) -> Iterator[Check]:
    """What recoveries keep from being pruned. What does not count is removed by the next prune."""
    told: list[str] = []
    for opener in (repositories.repository_of, copies.vault):
        try:
            store = opener(run)
            found = store.holds() if store is not None else {}
        except LifeboatError:  # an endpoint that fails has a line of its own
            continue
        for identity, data in found.items():
            hold = retention.hold_of(identity, run.config.stack, data, now)
            told.append(f"{identity} {hold.detail}" if hold else f"{identity}: over, or not one of this stack's")
    if told:
        yield Check("holds", PASS, "; ".join(told[:5]) + (f"; {len(told) - 5} more" if len(told) > 5 else ""))


def _owned(repo: repository_base.Repository) -> Iterator[Check]:
    """Nothing is said of a repository that is this stack's, or has no marker yet."""
    try:
        repo.require_ours()
    except (repository_base.OtherStackError, repository_base.OtherRepositoryError, IntegrityError) as exc:
        yield Check("repository", FAIL, str(exc))


def _private(config: Config) -> Iterator[Check]:
    """The file of the stack's passwords and keys, where others than its owner can read it; nothing where none can."""
    path = settings.DIRECTORY / f"{config.stack}.secrets.json"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as exc:
        yield Check("secrets", COULD_NOT_VERIFY, f"{path}: {exc.strerror or exc}")
        return
    if mode & 0o077:
        words = f"{path} has mode {mode:04o}: others on this host may read the passwords in it, or change them"
        yield Check("secrets", FAIL, f"{words}; chmod 0600 {path}, and give the secrets new values")


def _unfit(what: str, entries: Sequence[Published]) -> Iterator[Check]:
    """Those that are not good, by what is the matter with them."""
    unfit = [entry for entry in entries if not entry.good]
    last = {entry.id[:-15]: entry.id for entry in entries if entry.good}  # by kind: it has what an earlier one lacks
    lacking = [entry for entry in unfit if entry.incomplete and entry.id > last.get(entry.id[:-15], "")]
    for words, result, those in (
        (f"broken {what}", FAIL, [e for e in unfit if not e.unknown and not e.ahead and not e.incomplete]),
        (f"incomplete {what}", FAIL, lacking),
        (f"untrusted {what}", FAIL, [entry for entry in unfit if entry.untrusted]),
        (f"unknown {what}", COULD_NOT_VERIFY, [e for e in unfit if e.unknown and not e.untrusted]),
        (f"dates of {what}", FAIL, [entry for entry in unfit if entry.ahead]),
    ):
        if those:
            yield Check(words, result, "; ".join(f"{entry.id}: {entry.problem}" for entry in those[:3]))


def _newest(config: Config, name: str, entries: Sequence[Published], now: datetime, missing: str) -> Check:
    good = [entry.sealed for entry in entries if entry.good and entry.sealed]
    last = next((entry for entry in reversed(entries) if not entry.ahead), None)
    unread = last if last and last.unknown else None
    if not good:
        words = f"{unread.id} could not be read: {unread.problem}" if unread else missing
        return Check(name, COULD_NOT_VERIFY if unread else FAIL, words)
    age = (now - good[-1].taken_at).total_seconds() / 3600
    consistency = _consistency(good[-1]) if isinstance(good[-1], Point) else ""
    words = f"{good[-1].id}, {age:.1f} h old{consistency}"
    check = at_most(name, age, config.alarms.backup_age_hours, "h", words)
    if unread and check.result == FAIL:  # the newer one may be good
        return replace(check, result=COULD_NOT_VERIFY, detail=f"{words}; {unread.id} could not be read")
    return check


def _consistency(point: Point) -> str:
    why = points.why_apart(point)
    return f", consistency {point.consistency}" + (f" ({why})" if why else "")


def _proof(config: Config, kind: AnyKind, entries: Sequence[Entry], now: datetime) -> Check:
    """The newest proof of a backup that was young when restored: last year's, restored today, proves no other."""
    name, limit = f"{kind.word}{PROOF}", config.alarms.proof_age_days
    command = f"lifeboat verify{' base' if kind.name == BASE else ''}"
    proven = [(at, entry) for entry in entries if (at := entry.proven_at) and at <= now + TOLERANCE]
    if not proven:
        last = entries[-1].proof.get("restore") if entries else None
        if last and last.verdict == COULD_NOT_VERIFY and last.gap:  # to verify it again would change nothing
            return Check(name, COULD_NOT_VERIFY, f"{entries[-1].id} could not be proved: {last.gap}")
        words = f"no backup of the {kind.name} has been restored to prove it; run: {command}"
        return Check(name, COULD_NOT_VERIFY, words)
    young = timedelta(days=limit, hours=config.alarms.backup_age_hours)
    of_late = [(at, entry) for at, entry in proven if now - entry.dated <= young]
    at, entry = max(of_late or proven, key=lambda item: item[0])
    words = f"{entry.id} restored {_days(now - at):.1f} days ago"
    if of_late or now - at > timedelta(days=limit):
        return at_most(name, _days(now - at), limit, "days", words)
    words += f", and no newer one was: it was taken {_days(now - entry.dated):.1f} days ago; run: {command}"
    return at_most(name, _days(now - entry.dated), limit, "days", words)


def bytes_of(entry: Entry) -> int:
    """What it stands for: of objects the bucket's bytes, of a configuration also what earlier ones hold of it."""
    kind, manifest = component_kind(entry.component), present(entry.manifest)
    size = kind.bytes(manifest.detailed(kind.details))
    return manifest.size + sum(catalog.held_of(entry).values()) if size is None else size


def _sizes(by_kind: Mapping[AnyKind, Sequence[Entry]], now: datetime) -> Iterator[Check]:
    """A size that the backups before it do not explain is told for a week, or until an operator accepts it. It may be
    right, so that it is no failure; and nobody has said that it is."""
    told = []
    for kind, entries in by_kind.items():
        good = [entry for entry in entries if entry.good and entry.manifest]
        accepted = [n for n, entry in enumerate(good) if kind.accepted(present(entry.manifest).detailed(kind.details))]
        since = good[accepted[-1] :] if accepted else good
        seen = growth.jump([(retention.Backup(entry.id, entry.dated, True), bytes_of(entry)) for entry in since], now)
        if seen:
            identity, size, median = seen
            told.append(f"{identity} has {human(size)}, the median of those before it is {human(int(median))}")
    if told:
        yield Check(SIZES, COULD_NOT_VERIFY, f"{'; '.join(told)}: is that right?")


def _days(age: timedelta) -> float:
    return age / timedelta(days=1)


def _space(repo: repository_base.Repository, entries: Sequence[Entry]) -> Check:
    free = repo.free_bytes()
    sizes = [entry.manifest.size for entry in entries if entry.manifest]
    if free is None or not sizes:
        words = "a repository without a limit" if sizes else "no backup to judge by"
        return Check("space", PASS if sizes else COULD_NOT_VERIFY, words)
    words = f"{human(free)} free, the largest backup has {human(max(sizes))}"
    return Check("space", PASS if free > 3 * max(sizes) else FAIL, words)


def _recovery_rights(config: Config, newest: Manifest) -> Iterator[Check]:
    """What the account that recovers the database lacks, as the newest backup saw it: by that account it was taken,
    where no other one is named for backups."""
    details = newest.detailed(DatabaseDetails)
    if not (config.database.backup_user or details.role_passwords):
        words = f"the account that took {newest.id} is no superuser, which a recovery needs, and it is the one that"
        yield Check("recovery rights", FAIL, f"{words} recovers: name a superuser as lifeboat_database.user")


def _rows_of_others(run: Opened) -> list[Check]:
    """The rows that name other buckets of the store, each against its bucket."""
    here = buckets.addressed(run)

    def judged(name: str) -> Iterator[Check]:
        one = buckets.alone(here, name)
        yield from reconcile.checked(one.config, lambda: _reconciled(one))[0]

    held, left = reconcile.protected(run), reconcile.unprotected(run)
    return [*folded((name, judged(name)) for name in held), *left]


def _reconciled(run: Opened) -> reconcile.Report:
    source = buckets.source(run)
    live = (Listed(found.key, found.size, found.etag, found.modified) for found in bucket.objects(source))
    return reconcile.database_with(run, live)
