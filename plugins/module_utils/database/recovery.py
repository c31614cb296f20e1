# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The acting phases of a database recovery: protect, restore and verify, reopen. Damaged data is moved, not deleted."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Callable, Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError
from ..base.filesystem import explained
from ..recovery import state as recovery_state
from ..recovery.state import keep
from ..recovery.wait import wait_for_answer
from ..repository import checksums
from ..repository.manifest import parse
from ..repository.sources import REPOSITORY, Sources, open_place
from ..settings.config import Config
from ..stack import quarantine, runtime
from ..stack.answer import endpoint
from ..stack.runtime import Runtime, ServiceState
from . import assess, plan
from . import server as database_server
from .methods import registry as methods
from .methods.base import Restoration

Log = Callable[[str], None]


def protect(config: Config, planned: plan.Plan, *, log: Log) -> dict[str, Any]:
    """Stop the writers; where the server is down, start it, or put its data aside and start a fresh one.

    Returns {mode, fresh, quarantine, way_back, stopped}. mode `started`: it came up healthy, no restore is needed.
    """
    stack = runtime.connect(config)
    writers = list(planned.writers)
    if planned.mode == "reopen":
        result = Check("data", COULD_NOT_VERIFY if planned.unchecked else PASS, "the assessment read every table")
        return {"mode": "started", "fresh": False, "quarantine": "", "way_back": [], "checks": [result.as_dict()]}
    keep(config, recovery_state.STOPPED, json.dumps(writers))
    log(f"stopping the writers: {', '.join(writers) or 'none known'}")
    stack.stop(writers, timeout=120)
    done: dict[str, Any] = {
        "mode": planned.mode,
        "fresh": False,
        "quarantine": "",
        "way_back": [],
        "stopped": writers,
    }
    if planned.mode in ("start", "rebuild"):
        _mark(config)
    if planned.mode == "start":
        done["mode"], done["checks"] = _start_and_look(config, stack, planned.asked, log)
    if done["mode"] == "rebuild":
        done.update(_rebuild(config, stack, planned.stamp, log), fresh=True)
    return done


def _start_and_look(config: Config, stack: Runtime, asked: bool, log: Log) -> tuple[str, list[dict[str, object]]]:
    """The smallest step first: a server that was merely stopped loses nothing when it is merely started."""
    service = config.database.service
    log(f"starting {service} to see whether it comes up")
    try:
        stack.start([service], timeout=120)
        _wait_for_answer(config, stack)
    except LifeboatError as exc:
        found = database_server.reach(config, stack)
        if found.refused:
            raise assess.refusal(config, found.why) from exc
        log(f"it does not: {exc.cause}")
        return "rebuild", []
    reference = assess.reference_of(Sources(config, "database"))
    seen = assess.assess(config, reference)
    if seen.condition == recovery_state.DOWN:
        # What answered may be the temporary server with which an image initialises an empty directory.
        with contextlib.suppress(LifeboatError):
            _wait_until_settled(config, stack)
            seen = assess.assess(config, reference)
    if seen.condition == recovery_state.HEALTHY and asked:
        log("it came up whole; another state of it was asked for")
        return "swap", []
    if seen.condition == recovery_state.HEALTHY:
        log("it came up, and its data is all there")
        unmark(config)
        read = "every table of the newest backup is there and was read to its end"
        looked = Check("data", COULD_NOT_VERIFY if seen.unchecked else PASS, "; ".join(seen.unchecked) or read)
        return "started", [looked.as_dict()]
    log(f"it came up {seen.condition}: {'; '.join(seen.findings[:3])}")
    return ("swap" if seen.condition == recovery_state.DAMAGED else "rebuild"), []


def _wait_for_answer(config: Config, stack: Runtime) -> None:
    def ask(state: ServiceState) -> Optional[str]:
        found = database_server.reach(config, stack) if state.running else database_server.Reached(None)
        return None if found.server else found.why

    wait_for_answer(config, stack, config.database.service, ask, attempted="start PostgreSQL")


def _rebuild(config: Config, stack: Runtime, stamp: str, log: Log) -> dict[str, Any]:
    """Move the data directory aside and let the stack's own definition initialise a fresh one."""
    service = config.database.service
    mount = assess.data_mount(config, stack)
    done = quarantine.put_aside(config.stack, stack, service, mount, stamp, log=log)
    log(f"starting a fresh {service}")
    stack.initialise(service, str(mount.path), config.database.user or "postgres")
    stack.start([service], timeout=300)
    _wait_for_answer(config, stack)
    _wait_until_settled(config, stack)
    return done


def _wait_until_settled(config: Config, stack: Runtime) -> None:
    """Images initialise with a temporary server that answers on the socket, stops, and makes room for the real one."""
    deadline = time.monotonic() + config.application.timeout
    calm = 0
    while calm < 4:
        if time.monotonic() > deadline:
            raise LifeboatError("start PostgreSQL", config.database.service, "it does not stay up")
        state = stack.state(config.database.service)
        up = state.running and state.health != "starting" and database_server.reach(config, stack).server is not None
        calm = calm + 1 if up else 0
        time.sleep(0.5)


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
        back = functools.partial(unmark, config)
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


def _mark(config: Config) -> None:
    """From now until the swap the server may be an empty one: a backup of it must never become the newest good one."""
    with explained("mark the stack as being recovered", config.state / recovery_state.RECOVERING):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (config.state / recovery_state.RECOVERING).touch(mode=0o600)


def unmark(config: Config) -> None:
    (config.state / recovery_state.RECOVERING).unlink(missing_ok=True)


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
