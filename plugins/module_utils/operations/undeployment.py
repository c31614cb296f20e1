# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a stack off a host: which of the files that a deployment wrote go, and what stays.

Backups, keys, evidence and whatever a recovery moved aside stay: a stack that was taken off by mistake is deployed
again, and nothing was lost.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base import filesystem
from ..base.errors import LockedError
from ..recovery import state as recovery_state
from ..settings.config import WAL_NOTE, Config
from ..settings.parts import LocalSettings
from ..stack import hook_debts
from ..tools import timers

CRON = Path("/etc/cron.d")
RSYSLOG = Path("/etc/rsyslog.d")
LOGS = Path("/var/log/lifeboat")


@dataclass(frozen=True)
class Undeployment:
    """remove: files, in this order. keep: what stays and is the stack's, one line each. services: to be restarted, as
    they have read one of the files."""

    remove: tuple[Path, ...]
    keep: tuple[str, ...]
    services: tuple[str, ...]


def plan(config: Config, directory: Path, shared: Sequence[Path]) -> Undeployment:
    """Return what goes and what stays. directory: of the configurations. shared: files that all stacks of a host use,
    which go with the last stack.

    Raises LockedError while a recovery or a hook of the stack has not ended: what it has left to do is in the
    configuration. And while WAL is received or objects are followed: the command that ends that must still be
    there.
    """
    for check in (*recovery_state.checked(config), *hook_debts.checked(config)):
        raise LockedError(
            "take the stack off this host", config.stack, check.detail, "Nothing was changed. Then run this again."
        )
    if os.path.lexists(config.state / WAL_NOTE):
        cause = "WAL is received, and its slot would go on to hold WAL back on the server"
        remedy = f"Nothing was changed. Run `lifeboat wal disable --stack {config.stack}`, then this again."
        raise LockedError("take the stack off this host", config.stack, cause, remedy)
    if os.path.lexists(timers.UNITS / f"lifeboat-changes-{config.stack}.timer"):
        cause = "its objects are followed, and the timer would go on to call a command that is gone"
        remedy = f"Nothing was changed. Run `lifeboat changes disable --stack {config.stack}`, then this again."
        raise LockedError("take the stack off this host", config.stack, cause, remedy)
    shipping = RSYSLOG / f"lifeboat-{config.stack}.conf"
    others = [name for name in deployed(directory) if name != config.stack]
    files = [
        CRON / filesystem.cron_name(config.stack),  # first: no job may call a command that is gone
        *timers.files(config.stack),
        *([config.textfile()] if config.monitoring.textfile_directory else []),
        *(() if others else shared),
        shipping,
        directory / f"{config.stack}.logs.key",
        directory / f"{config.stack}.secrets.json",
        directory / f"{config.stack}.json",  # last: while it is there the same command continues
    ]
    remove = tuple(path for path in files if os.path.lexists(path))
    return Undeployment(remove, _remaining(config, others), ("rsyslog",) if shipping in remove else ())


def deployed(directory: Path) -> list[str]:
    """Return the stacks that have a configuration there."""
    names = (path.name[: -len(".json")] for path in directory.glob("*.json"))
    return sorted(name for name in names if not name.endswith(".secrets"))


def _remaining(config: Config, stacks: Sequence[str]) -> tuple[str, ...]:
    repository = config.repository
    where = repository.path if isinstance(repository, LocalSettings) else f"bucket {repository.bucket}"
    lines = [f"backups: {where}", f"evidence and state: {config.state}", f"logs: {LOGS}/{config.stack}*.log"]
    if config.signing_key:
        lines.append(f"signing key: {config.signing_key}")
    if config.vault.repository_bucket or config.vault.objects_bucket:
        buckets = filter(None, (config.vault.repository_bucket, config.vault.objects_bucket))
        lines.append(f"vault: bucket {', bucket '.join(buckets)}")
    if config.vault.mode == "pull":
        lines.append("the keeper and its account here: take the stack out of the keeper's inventory")
    if stacks:
        lines.append(f"the command lifeboat: used by {', '.join(stacks)}")
    return tuple(lines)
