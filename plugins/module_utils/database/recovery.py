# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The acting phases of a database recovery: protect, restore and verify, reopen. Damaged data is moved, not deleted."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Callable, Optional

from ..base.checks import FAIL, PASS, Check, verdict
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, UsageError
from ..recovery import state as recovery_state
from ..recovery.protect import Protected, Protection
from ..recovery.state import keep
from ..repository import checksums
from ..repository.manifest import parse
from ..repository.sources import REPOSITORY, Sources, open_place
from ..settings.config import Config
from ..stack import runtime
from ..stack.answer import endpoint
from ..stack.runtime import DataMount, ServiceState
from . import assess, plan
from . import server as database_server
from .methods import registry as methods
from .methods.base import Restoration

Log = Callable[[str], None]


class _Protection(Protection):
    restore = "swap"
    mark = recovery_state.RECOVERING
    marked = ("start", "rebuild")
    attempted = "start PostgreSQL"
    assessed = "the assessment read every table"
    whole = "every table of the newest backup is there and was read to its end"

    def ask(self, state: ServiceState) -> Optional[str]:
        found = database_server.reach(self.config, self.stack) if state.running else database_server.Reached(None)
        return None if found.server else found.why

    def look(self) -> assess.Assessment:
        return assess.assess(self.config, assess.reference_of(Sources(self.config, "database")))

    def refusal(self, said: str) -> UsageError:
        return assess.refusal(self.config, said)

    def refused(self) -> str:
        found = database_server.reach(self.config, self.stack)
        return found.why if found.refused else ""

    def data_mount(self) -> DataMount:
        return assess.data_mount(self.config, self.stack)

    def initialise(self, mount: DataMount) -> None:
        self.stack.initialise(self.service, str(mount.path), self.config.database.user or "postgres")


def protect(config: Config, planned: plan.Plan, *, log: Log) -> Protected:
    """What Protection.protect() does, for the stack's database."""
    return _Protection(config, runtime.connect(config), config.database.service, log).protect(
        planned.mode, planned.writers, asked=planned.asked, unchecked=planned.unchecked, stamp=planned.stamp
    )


def restore_database(
    config: Config, identity: str, *, place: str = REPOSITORY, fresh: bool, stamp: str, asked: str = "", log: Log
) -> dict[str, Any]:
    """Restore by the method of the backup. Raises IntegrityError, the live database untouched, if it proves wrong.

    place: the repository, or the vault with its copy.

    Returns {id, checks, quarantined_database, roles, reindexed, seconds: {restore, verify, swap}}.
    """
    when = format_time(parse_time(asked)) if asked else ""  # one instant, however it was written
    repo = open_place(config, place)
    manifest = parse(repo.manifest("database", identity), component="database", expected_id=identity)
    method = methods.of(manifest)
    server = database_server.connect(config, runtime.connect(config))
    server.reap()
    with repo.materialise("database", identity) as folder:
        check = checksums.checksums(repo, manifest, folder)
        if check.result != PASS:
            raise IntegrityError("restore the backup", identity, check.detail, "Choose another (`lifeboat list`).")
        back = functools.partial(recovery_state.unmark, config, recovery_state.RECOVERING)
        restored = method.restore(Restoration(config, server, manifest, folder, fresh, stamp, back, log))
    remember(config, {"id": identity, "at": format_time(datetime.now(timezone.utc)), "asked": when})
    return {
        "id": identity,
        "checks": [check.as_dict(), *(check.as_dict() for check in restored.checks)],
        "quarantined_database": restored.quarantined,
        "roles": list(restored.roles),
        "reindexed": list(restored.reindexed),
        "seconds": dict(restored.seconds),
    }


def remember(config: Config, what: Mapping[str, Any]) -> None:
    """Write the identity of the last recovery; whole or not at all."""
    keep(config, recovery_state.RECOVERED, json.dumps(what))


def reopen(config: Config, services: Sequence[str], *, log: Log) -> list[Check]:
    """Start the application, wait until it is well, and ask its endpoints. What is wrong is a failed check."""
    stack = runtime.connect(config)
    names = [config.database.service, *services]
    log(f"starting {', '.join(names)}")
    checks: list[Check] = []
    try:
        stack.start(names, timeout=config.application.timeout)
        states = runtime.wait_until_well(stack, names, timeout=config.application.timeout)
        checks += [Check(f"service {name}", PASS, words) for name, words in states.items()]
    except LifeboatError as exc:
        checks.append(Check("services", FAIL, exc.cause))
    deadline = time.monotonic() + config.application.timeout
    checks += [endpoint(check, deadline) for check in config.application.checks]
    if verdict(checks) != FAIL:
        (config.state / recovery_state.STOPPED).unlink(missing_ok=True)
    return checks
