# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply retention to a repository. Decided by retention.plan(), carried out oldest first, one backup at a time."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any, Callable

from . import catalog, lock, repository, retention
from .config import Config

Log = Callable[[str], None]
LEFTOVER_AGE = timedelta(hours=24)


def policy(config: Config) -> retention.Policy:
    return retention.Policy.from_mapping({"timezone": config.timezone, **config.retention})


def prune(config: Config, *, now: datetime, dry_run: bool, log: Log) -> dict[str, Any]:
    """Delete what the plan deletes. The caller holds the stack's lock. Returns {keep, delete, swept}."""
    repo = repository.from_settings(config.repository, config.secrets)
    repo.check(writable=False)  # a full disk is what pruning is for
    found = [
        one
        for one in catalog.entries(repo, "database", config.stack)
        if one.manifest is None or one.manifest.stack == config.stack
    ]
    plan = retention.plan(catalog.for_retention(found), policy(config), now)
    # A verification that is under way reads artefacts for as long as it takes: do not pull them from under it.
    with contextlib.nullcontext() if dry_run else lock.held(f"{config.stack}.verify", "prune"):
        for identity in plan.delete:
            log(f"{'would delete' if dry_run else 'deleting'} {identity}")
            if not dry_run:
                repo.delete("database", identity)
        swept = repo.sweep(older_than=LEFTOVER_AGE, now=now, dry_run=dry_run)
    return {"keep": plan.keep, "delete": list(plan.delete), "swept": list(swept)}
