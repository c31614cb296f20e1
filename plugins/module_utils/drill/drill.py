# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drill: what must hold before anything is broken, and what is found when all is done. fault does the breaking."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

from ..base import clock, pipeline
from ..base.checks import FAIL, PASS, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, UsageError
from ..base.filesystem import explained, remove
from ..base.pipeline import Command
from ..database import server as database_server
from ..evidence import record as evidence_record
from ..frontend import assess as frontend_assess
from ..settings.config import Config
from ..settings.scenarios import FRONTEND
from ..stack import answer, runtime
from . import ledger
from .faults import frontend

Log = Callable[[str], None]
_STEADY = 15.0
_AGAIN = 0.5


def begin(config: Config, scenario: str, command: str, *, log: Log) -> str:
    """See that all is well, then start a writer. Returns the steady state in words. Raises LifeboatError where it is
    not.

    What is broken already cannot be broken, and a recovery of it would be no drill.
    """
    if not config.drill.transactions:
        raise UsageError(
            "see the steady state", config.stack,
            "lifeboat_drill.transactions is empty: nobody could tell what a user would have lost",
            "Name at least one thing that a user writes and reads back, and deploy. Nothing was touched.",
        )  # fmt: skip
    words = [f"{check.name}: {check.detail}" for check in steady(config, scenario)]
    count = ledger.start(config, command)
    path = ledger.path_of(config)
    for transaction in config.drill.transactions:
        ledger.hold(config, transaction, path)
        words.append(f"transaction {transaction.name}: written and read back")
    log(f"the writer runs; {count} writes are acknowledged")
    return "; ".join(words)


def steady(config: Config, scenario: str) -> list[Check]:
    """The endpoints' checks, and the site's where the drill is about that. Raises LifeboatError where one fails."""
    deadline = time.monotonic() + _STEADY
    found = [answer.endpoint(check, deadline) for check in config.application.checks]
    if scenario == FRONTEND:
        found.append(site(config))
    bad = [f"{check.name}: {check.detail}" for check in found if check.result != PASS]
    if bad:
        raise LifeboatError(
            "see the steady state", config.stack, "; ".join(bad),
            "Nothing was touched. Recover what is broken first; a drill begins with a stack that is well.",
        )  # fmt: skip
    return found


def site(config: Config) -> Check:
    """Whether the public site answers."""
    seen = frontend_assess.look(config.frontend)
    name = f"site {config.frontend.url}"
    return Check(name, PASS, f"serves {seen.commit[:12] or 'a page'}") if seen.up else Check(name, FAIL, seen.problem)


def serve_again(config: Config, scenario: str, *, seconds: float, log: Log) -> str:
    """Wait until every transaction holds again; returns when the last one of the first round did, UTC.

    Raises LifeboatError after so many seconds.
    """
    path = ledger.path_of(config)
    deadline = time.monotonic() + seconds
    while True:
        try:
            for transaction in config.drill.transactions:
                ledger.hold(config, transaction, path)
            looked = site(config) if scenario == FRONTEND else Check("", PASS)
            if looked.result != PASS:
                raise LifeboatError("look at the site", looked.name, looked.detail)
        except LifeboatError as exc:
            if time.monotonic() >= deadline:
                raise
            log(f"not yet: {exc.cause}")
            time.sleep(_AGAIN)
            continue
        return format_time(datetime.now(timezone.utc))


def end(
    config: Config, scenario: str, began: Mapping[str, Any], *, recovered: bool, brought: str = "", log: Log
) -> dict[str, Any]:
    """{transaction_at, seconds, ledger, rpo_seconds, problems}: what evidence_drill.drilled() takes besides the fault.

    began: what the fault left, {injected_at, monotonic, boot}. brought: the ledger of a machine that is no more.
    Whatever cannot be found out is left out and said in problems: it is no pass.
    """
    path = ledger.path_of(config)
    found: dict[str, Any] = {"problems": []}
    if brought:
        with explained("keep the ledger", path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(brought, encoding="utf-8")
    if recovered:
        try:
            found["transaction_at"] = serve_again(config, scenario, seconds=config.application.timeout, log=log)
            found["seconds"] = _between(began, clock.start())
        except LifeboatError as exc:
            found["problems"].append(str(exc))
    try:
        ledger.stop(config)
        compared = ledger.compare(config, path)
        found["ledger"] = compared
        log(f"ledger: {json.dumps(compared)}")
        if began.get("injected_at"):
            found["rpo_seconds"] = ledger.age_of_loss(compared, str(began["injected_at"]))
    except LifeboatError as exc:
        found["problems"].append(str(exc))
    return found


def _between(began: Mapping[str, Any], now: clock.Clock) -> Any:
    """Seconds by the monotonic clock, where both ends were seen by the same one; else None."""
    if began.get("boot") and began["boot"] == now.boot and began.get("monotonic") is not None:
        return round(now.monotonic - float(began["monotonic"]), 2)
    return None


def clean(
    config: Config, record: Mapping[str, Any], fault: str, *, log: Log
) -> tuple[list[str], list[str], dict[str, Any]]:
    """Remove what this drill's recovery put aside: it was broken on purpose, so nobody will miss it.

    So it is with what the writer wrote, and with a commit that broke a build. Returns what was done, what could not be
    and why, and the record without ways back to what is gone. Whatever cannot be removed, the drill went as it went.
    """
    removed: list[str] = []
    left: list[str] = []

    def tried(work: Callable[[], str]) -> bool:
        try:
            done = work()
        except LifeboatError as exc:
            left.append(str(exc))
            return False
        removed.extend([done] if done else [])
        return bool(done)

    def writes() -> str:
        gone, every = ledger.remove(config, ledger.path_of(config))
        return f"{gone} of {every} writes" if gone else ""

    tried(writes)
    if (record["scenario"], fault) == (FRONTEND, "build_broken"):
        tried(lambda: frontend.mend_build(config, log))
    phases = []
    for phase in record["phases"]:
        where, database = str(phase.get("quarantine") or ""), str(phase.get("quarantined_database") or "")
        gone = [tried(functools.partial(_remove, where)), tried(functools.partial(_drop, config, database))]
        left_out = ("quarantine", "quarantined_database", "way_back") if any(gone) else ()
        phases.append({key: item for key, item in phase.items() if key not in left_out})
    for name in removed:
        log(f"cleaned up: {name}")
    for name in left:
        log(f"not cleaned up: {name}")
    return removed, left, evidence_record.sealed({**record, "phases": phases})


def _remove(where: str) -> str:
    """What quarantine.aside() made: a volume of its own, or a directory beside the data. Nothing else, and no `.`."""
    path = Path(where)
    if not path.is_absolute():
        return ""
    name = path.parent.name
    if path.name == "_data" and "_quarantine_" in name:
        pipeline.run(
            [Command(["docker", "volume", "rm", name])],
            attempted="remove the volume that was put aside", subject=name, timeout=60,
        )  # fmt: skip
        return name
    if ".quarantine_" in path.name and path.is_dir():
        with explained("remove the directory that was put aside", path):
            remove(path)
        return str(path)
    return ""


def _drop(config: Config, database: str) -> str:
    if "_quarantine_" not in database:
        return ""
    server = database_server.connect(config, runtime.connect(config))
    sql = f"DROP DATABASE {database_server.identifier(database)} WITH (FORCE);"  # no script(): that is one transaction
    server.execute(sql, database="template1", attempted="drop the database that was put aside")
    return database
