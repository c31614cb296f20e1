# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this stack protected? Age of the newest backup, age of the newest proof, failures, space: one verdict."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from . import catalog, repository
from .checks import COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from .config import Config
from .dump import human


def status(config: Config, *, now: datetime) -> dict[str, Any]:
    """{stack, verdict, checks, backups}. Reads manifests only; a backup nobody proved is never a pass."""
    repo = repository.from_settings(config.repository, config.secrets)
    repo.check(writable=False)
    found = catalog.entries(repo, "database", config.stack)
    checks = [_newest(config, found, now), _proof(config, found, now)]
    bad = [one for one in found if not one.good]
    if bad:
        checks.append(Check("broken backups", FAIL, "; ".join(f"{one.id}: {one.problem}" for one in bad[:3])))
    newest = next((one.id for one in reversed(found) if one.good), "")
    less, _ = catalog.shrunk(found, newest)
    if less:
        checks.append(Check("content against earlier backups", FAIL, less))
    free = repo.free_bytes()
    sizes = [one.manifest.size for one in found if one.manifest]
    if free is None or not sizes:
        checks.append(
            Check(
                "space",
                PASS if sizes else COULD_NOT_VERIFY,
                "a repository without a limit" if sizes else "no backup to judge by",
            )
        )
    else:
        enough = free > 3 * max(sizes)
        checks.append(
            Check("space", PASS if enough else FAIL, f"{human(free)} free, the largest backup has {human(max(sizes))}")
        )
    return {
        "stack": config.stack,
        "verdict": verdict(checks),
        "checks": [one.as_dict() for one in checks],
        "backups": [one.as_dict(now) for one in found],
    }


def _newest(config: Config, found: list[catalog.Entry], now: datetime) -> Check:
    good = [one.manifest for one in found if one.good and one.manifest]
    if not good:
        return Check("newest backup", FAIL, "there is no good backup")
    age = (now - good[-1].taken_at).total_seconds() / 3600
    limit = config.alarms.backup_age_hours
    return Check("newest backup", PASS if age <= limit else FAIL, f"{good[-1].id}, {age:.1f} h old, limit {limit} h")


def _proof(config: Config, found: list[catalog.Entry], now: datetime) -> Check:
    proven = [one for one in found if one.proven_at]
    if not proven:
        return Check("proof", COULD_NOT_VERIFY, "no backup has been restored to prove it; run: lifeboat verify")
    last = max(proven, key=lambda one: one.proven_at or now)
    assert last.proven_at is not None
    days = (now - last.proven_at).total_seconds() / 86400
    limit = config.alarms.proof_age_days
    return Check(
        "proof", PASS if days <= limit else FAIL, f"{last.id} restored {days:.1f} days ago, limit {limit} days"
    )
