# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this stack protected? Age of the newest backups and proofs, the vault, failures, space: one verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, at_most, verdict
from ..base.clock import format_time
from ..base.errors import present
from ..base.text import human
from ..configuration import parts
from ..objects import reconcile
from ..repository import base as repository_base
from ..repository import catalog, copies, points, repositories
from ..repository.catalog import Entry
from ..repository.details import ConfigDetails, ObjectsDetails
from ..repository.points import PointEntry
from ..s3 import bucket
from ..settings.config import Config
from ..stack import buckets
from ..vault import endpoints
from . import escrow

_SHOWN = {"point": 3, "objects": 3, "config": 3, "database": 5}


def status(config: Config, *, now: datetime, asked: Optional[datetime] = None) -> dict[str, Any]:
    """{stack, verdict, checks, points, backups}. Reads manifests, not artefacts; a backup nobody proved never passes.

    Of a stack with a bucket it also asks the two endpoints, and the database where keys_query is set. asked: the time
    that it is, where `now` is a day to come: what an endpoint said is remembered as of then.
    """
    repo = repositories.from_settings(config.repository, config.secrets)
    repo.check(writable=False)
    all_ = points.backups(repo, config.stack)
    tied = points.entries(repo, config.stack, all_)
    found = all_["database"]
    checks = [_newest(config, found, now), _proof(config, found, now)]
    if config.objects.bucket:
        checks += _objects(config, all_["objects"], now)
        checks.append(_point(config, tied, now))
    if config.config.enabled:
        checks += _config(config, repo, all_["config"], now)
    bad = [entry for some in all_.values() for entry in some if not entry.good]
    if bad:
        checks.append(Check("broken backups", FAIL, "; ".join(f"{entry.id}: {entry.problem}" for entry in bad[:3])))
    broken = [entry for entry in tied if not entry.good]
    if broken:
        checks.append(
            Check("broken recovery points", FAIL, "; ".join(f"{entry.id}: {entry.problem}" for entry in broken[:3]))
        )
    newest = next((entry.id for entry in reversed(found) if entry.good), "")
    less, _larger = catalog.shrunk(found, newest)
    if less:
        checks.append(Check("content against earlier backups", FAIL, less))
    checks.append(_space(repo, [entry for some in all_.values() for entry in some]))
    checks += copies.checks(config, all_, tied)
    if config.config.enabled:
        checks += escrow.checks(config, all_["config"], now)
    checks += endpoints.checks(config, now=asked or now)
    if config.objects.bucket and config.objects.keys_query:
        checks += reconcile.checked(config, lambda: _reconciled(config))[0]
    return {
        "stack": config.stack,
        "verdict": verdict(checks),
        "checks": [check.as_dict() for check in checks],
        "points": points.listing(tied, {}, now),
        "backups": points.listing([], all_, now),
    }


def newest(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """The last few of each kind, for a terminal."""
    every = [*found["points"], *found["backups"]]
    return [
        item
        for kind, most in _SHOWN.items()
        for item in [entry for entry in every if entry["component"] == kind][-most:]
    ]


def _newest(config: Config, found: Sequence[Entry], now: datetime, name: str = "newest backup") -> Check:
    good = [entry.manifest for entry in found if entry.good and entry.manifest]
    if not good:
        return Check(name, FAIL, "there is no good backup")
    age = (now - good[-1].taken_at).total_seconds() / 3600
    return at_most(name, age, config.alarms.backup_age_hours, "h", f"{good[-1].id}, {age:.1f} h old")


def _proof(config: Config, found: Sequence[Entry], now: datetime, name: str = "proof") -> Check:
    proven = [entry for entry in found if entry.proven_at]
    if not proven:
        return Check(name, COULD_NOT_VERIFY, "no backup has been restored to prove it; run: lifeboat verify")
    last = max(proven, key=lambda entry: entry.proven_at or now)
    days = (now - present(last.proven_at)).total_seconds() / 86400
    return at_most(name, days, config.alarms.proof_age_days, "days", f"{last.id} restored {days:.1f} days ago")


def _objects(config: Config, found: Sequence[Entry], now: datetime) -> list[Check]:
    checks = [_newest(config, found, now, "newest objects backup"), _proof(config, found, now, "objects proof")]
    last = next((entry.manifest for entry in reversed(found) if entry.good and entry.manifest), None)
    details = last.detailed(ObjectsDetails) if last else None
    if details and details.unheld:
        named = ", ".join(repr(unheld.key) for unheld in details.unheld[:3])
        words = f"the vault could not hold {details.in_no_backup}: {named}"
        checks.append(Check("objects in no backup", FAIL, words))
    return checks


def _config(config: Config, repo: repository_base.Repository, found: Sequence[Entry], now: datetime) -> list[Check]:
    checks = [_newest(config, found, now, "newest config backup"), _proof(config, found, now, "config proof")]
    last = next((entry.manifest for entry in reversed(found) if entry.good and entry.manifest), None)
    if last is None:
        return checks
    details = last.detailed(ConfigDetails)
    left, sealed = details.left_out, sorted(details.recipients)
    wanted = sorted(config.config.recipients)
    if left:
        words = f"{len(left)} files are in no backup, as there was no recipient: {', '.join(left[:3])}"
        checks.append(Check("config secrets", FAIL if wanted else COULD_NOT_VERIFY, words))
    elif sealed != wanted:
        words = f"{last.id} is sealed for other recipients than are configured; take a new one: lifeboat backup config"
        checks.append(Check("config secrets", FAIL, words))
    elif wanted:
        checks.append(Check("config secrets", PASS, f"{details.secrets} files, sealed for {len(wanted)} recipients"))
    skipped = [f"{path}: {why}" for path, why in details.skipped.items()]
    if skipped:
        checks.append(Check("config files", FAIL, f"not in the backup: {'; '.join(skipped[:3])}"))
    elif details.torn:
        words = f"changed while they were read: {', '.join(details.torn[:3])}"
        checks.append(Check("config files", COULD_NOT_VERIFY, words))
    nowhere = parts.images_nowhere(details.images)
    if nowhere and parts.IMAGES not in parts.of(last):
        words = f"of {', '.join(nowhere)} they are in no backup and, as far as is known, in no registry; "
        words += "lifeboat_config.images: archive keeps them"
        checks.append(Check("config images", COULD_NOT_VERIFY, words))
    wrong = [words for part in parts.of(last).values() if (words := parts.problem(repo, part))]
    if wrong:
        checks.append(Check("config parts", FAIL, f"{'; '.join(wrong[:3])}; the next backup makes them anew"))
    return checks


def _point(config: Config, tied: Sequence[PointEntry], now: datetime) -> Check:
    """A point is as old as its rows."""
    name = "recovery point"
    good = [entry.point for entry in tied if entry.good and entry.point]
    if not good:
        return Check(name, FAIL, "there is none that can be used; take one: lifeboat backup")
    age = (now - good[-1].taken_at).total_seconds() / 3600
    words = f"{good[-1].id}, {age:.1f} h old, consistency {good[-1].consistency}"
    return at_most(name, age, config.alarms.backup_age_hours, "h", words)


def _space(repo: repository_base.Repository, found: Sequence[Entry]) -> Check:
    free = repo.free_bytes()
    sizes = [entry.manifest.size for entry in found if entry.manifest]
    if free is None or not sizes:
        words = "a repository without a limit" if sizes else "no backup to judge by"
        return Check("space", PASS if sizes else COULD_NOT_VERIFY, words)
    enough = free > 3 * max(sizes)
    words = f"{human(free)} free, the largest backup has {human(max(sizes))}"
    return Check("space", PASS if enough else FAIL, words)


def _reconciled(config: Config) -> reconcile.Report:
    source = buckets.source(config)
    live = (
        {"key": version.key, "size": version.size, "etag": version.etag, "modified": format_time(version.modified)}
        for version in bucket.objects(source)
    )
    return reconcile.database_with(config, live)
