# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scheduled run tells a dead-man's switch that it begins and how it ended; the switch alarms where it hears nothing.

It works where all else is dead: cron, the host, Prometheus. What is told leaves the host: it has no row and no secret.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Optional

from ..base import pipeline, web
from ..base.errors import LifeboatError, Log
from ..settings.config import HEARTBEAT, Config
from ..tools import healthchecks

RUN = "{run}"  # in the address: one switch for each kind of run
_LINES = 20  # of the end of what a run that failed said


class Heartbeat:
    """Of one run. Nothing of it fails the run: what goes wrong is a warning."""

    def __init__(self, config: Config, run: str, began: datetime, warn: Log) -> None:
        self._config, self._run, self._began, self._warn = config, run, began, warn
        self._switch: Optional[healthchecks.Switch] = None
        self._secrets = dict(config.secrets)
        try:
            url = healthchecks.address(config.secrets[HEARTBEAT].replace(RUN, run))
            self._secrets[HEARTBEAT] = url  # as it is sent, without the newline that its file had
            self._secrets.update({f"{HEARTBEAT} {n}": part for n, part in enumerate(web.secret_parts(url))})
            self._where = healthchecks.host(url)
            self._switch = healthchecks.Switch(url)
            self._switch.start(self._scrubbed(f"{self._title()} begins\n"))
        except LifeboatError as exc:
            warn(f"the dead-man's switch is not told: {exc}")

    def ended(self, code: Optional[int], ended: datetime, messages: Sequence[str]) -> None:
        """code: the exit code; None: the run was interrupted, or failed in a way that is not foreseen."""
        if self._switch is None:
            return
        signal = healthchecks.FAIL if code is None else str(code) if code else healthchecks.SUCCESS
        cause = self._switch.end(signal, self._scrubbed(self._text(code, ended, messages)))
        if cause:
            cause = self._scrubbed(cause)
            self._warn(f"the dead-man's switch at {self._where} was not told how {self._run} ended: {cause}")

    def _title(self) -> str:
        return f"{self._run} of stack {self._config.stack} on {socket.gethostname()}"

    def _text(self, code: Optional[int], ended: datetime, messages: Sequence[str]) -> str:
        """What somebody needs who reads nothing but this."""
        times = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (self._began, ended)]
        when = f"from {times[0]} to {times[1]}, {max(0.0, (ended - self._began).total_seconds()):.0f} s"
        if code == 0:
            return f"{self._title()} ended well\n{when}\n"
        how = "was interrupted, or failed unforeseen" if code is None else f"failed with exit code {code}"
        stack = self._config.stack
        look = f"Look on the host: grep ERROR /var/log/lifeboat/{stack}.log | tail; lifeboat status --stack {stack}"
        if self._config.keeper.directory:
            look = f"Look on the keeper: journalctl -u lifeboat-keeper-{stack}; lifeboat keeper status --stack {stack}"
        return "\n".join([f"{self._title()} {how}", when, "", *messages[-_LINES:], "", look, ""])

    def _scrubbed(self, text: str) -> str:
        return pipeline.scrub(text, self._secrets)
