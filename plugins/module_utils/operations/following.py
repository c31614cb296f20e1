# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follow the objects of a stack between two backups: switch it on and off, look, and say how it stands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ..base.checks import COULD_NOT_VERIFY, PASS, Check, verdict
from ..base.clock import format_time
from ..base.errors import LifeboatError, LockedError, Log
from ..database.wal import send, vault
from ..mirror import follow
from ..mirror.follow import Ledger
from ..repository import copies, repositories
from ..repository.components import OBJECTS
from ..repository.relay import Copied
from ..settings.config import Config
from ..stack.runtime import Opened
from ..vault import endpoints
from . import continuous
from .continuous import AGENT, differs, systemctl

RPO = "rpo"
_LOOK = 3600  # seconds that one look may take
_PATIENCE = 60.0  # seconds for the look of the timer, for who calls by hand
_SERVICE = """\
# By Lifeboat (lifeboat changes enable), which writes it again.
[Unit]
Description=Follow the objects of {stack}

[Service]
Type=oneshot
ExecStart={agent} changes look --stack {stack}
TimeoutStartSec={timeout}
Nice=5
UMask=0077
"""
_TIMER = """\
# By Lifeboat (lifeboat changes enable), which writes it again.
[Unit]
Description=Follow the objects of {stack} every {interval} s

[Timer]
OnBootSec={interval}
OnActiveSec=1
OnUnitInactiveSec={interval}
AccuracySec=1

[Install]
WantedBy=timers.target
"""


def units(config: Config) -> dict[Path, str]:
    """The units of a stack, by their files."""
    name = f"lifeboat-changes-{config.stack}"
    words = {
        "stack": config.stack, "agent": shutil.which("lifeboat") or AGENT, "timeout": _LOOK,
        "interval": config.objects.changes_seconds,
    }  # fmt: skip
    return {
        continuous.UNITS / f"{name}.service": _SERVICE.format(**words),
        continuous.UNITS / f"{name}.timer": _TIMER.format(**words),
    }


def enable(run: Opened, log: Log, *, dry_run: bool = False) -> list[str]:
    """Start the timer. Raises UsageError where objects cannot be followed, with the reason. Returns the steps."""
    follow.refuse(run, endpoints.doubts(run, log=log))
    missing = [path for path, text in units(run.config).items() if differs(path, text)]
    if not dry_run:
        continuous.start(units(run.config), log)
    return [f"write {path}" for path in missing]


def disable(run: Opened, log: Log, *, dry_run: bool = False) -> list[str]:
    """Stop the timer. What was written down stays. Returns the steps."""
    paths = [path for path in units(run.config) if os.path.lexists(path)]
    if paths and not dry_run:
        systemctl("disable", "--now", *(path.name for path in paths if path.suffix == ".timer"))
        continuous.remove(paths)
        log("the objects are not followed any more")
    return [f"remove {path}" for path in paths]


def observe(run: Opened, now: datetime, log: Log, *, force: bool = False) -> Optional[Ledger]:
    """One look, where it is time for it or it is forced; None where it is not, a mirror is being taken, or there is no
    backup yet. Whatever became of it, what the vault lacks of the looks before goes there."""
    try:
        if not force and not follow.is_due(run.config, now):
            return None
        if not force and not repositories.repository_of(run).published(OBJECTS):
            # Of a new stack until its first night: `status` says so, and a unit that fails each minute says no more.
            log("the first look follows the first backup of the objects: lifeboat backup objects")
            return None
        return follow.follow(run, log=log, doubts=endpoints.doubts(run, log=log), wait=_PATIENCE if force else 0)
    except LockedError as exc:
        if force:
            raise
        log(f"the next look follows: {exc.cause}")
        return None
    finally:
        follow.push(run, log)


@dataclass(frozen=True)
class Following:
    """How it stands. state: what the last look found. copied: what of the changes is in the vault."""

    checks: tuple[Check, ...]
    state: Optional[Ledger]
    copied: Optional[Copied] = None

    @property
    def verdict(self) -> str:
        return verdict(self.checks)

    def as_dict(self) -> dict[str, object]:
        state, off_the_host = self.state, self.copied.reached if self.copied else None
        return {
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
            "reached": format_time(state.reached.at) if state else "",
            "off_the_host": format_time(off_the_host.at) if off_the_host else "",
            "listing_seconds": state.listing_seconds if state else 0.0,
            "left": dict(state.left) if state else {},
        }


def status(run: Opened, now: datetime) -> Following:
    config = run.config
    return Following(tuple(checks(config, now)), follow.ledger(config), follow.copied(config))


def checks(config: Config, now: datetime) -> Iterator[Check]:
    """None where objects are not to be followed."""
    yield from follow.checked(config, now)
    state = follow.ledger(config)
    if state and config.objects.changes_seconds:
        yield _rpo(config, state, now)


def _rpo(config: Config, state: Ledger, now: datetime) -> Check:
    """How much a loss of this very moment would cost, of rows and of objects: with this host, and with what the vault
    has where the host is lost."""
    objects = (now - state.reached.at).total_seconds()
    every = follow.interval(config, state)
    words = [f"objects {_span(objects)} here{_in_vault(config, follow.copied(config), now)} ({state.objects} objects, a"
             f" look takes {state.listing_seconds:.1f} s and comes every {every:.0f} s)"]  # fmt: skip
    rows: Optional[float] = None
    if config.wal.enabled:
        try:
            sent = send.ledger(config)
        except LifeboatError as exc:
            return Check(RPO, COULD_NOT_VERIFY, f"what was sent of the rows is not known: {exc.cause}")
        rows = (now - sent.reached.at).total_seconds() if sent and sent.reached else None
        there = _in_vault(config, vault.copied(config), now)
        words.insert(0, "rows: nothing was sent yet" if rows is None else f"rows {_span(rows)} here{there}")
        if rows is None:
            return Check(RPO, COULD_NOT_VERIFY, "; ".join(words))
    both = max(rows or 0.0, objects)
    words.append(f"rows and objects together {_span(both)}")
    return Check(RPO, PASS, "; ".join(words), round(both, 1), None, "s")


def _in_vault(config: Config, copied: Optional[Copied], now: datetime) -> str:
    """What the vault adds to the words on this host; empty where no copies are kept there."""
    if not copies.configured(config):
        return ""
    reached = copied.reached if copied else None
    return f", {_span((now - reached.at).total_seconds())} in the vault" if reached else ", nothing in the vault yet"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
