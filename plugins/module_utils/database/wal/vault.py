# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spans of WAL in the vault: what repository/relay.py sends of them, and until which commit they are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ...base.errors import Log
from ...repository import relay
from ...repository.components import WAL
from ...repository.relay import Relay
from ...settings.config import Config
from ...stack.runtime import Opened
from ...wal.notes import Note, Reached

LEDGER = "wal-sent-vault.json"


@dataclass(frozen=True)
class Copied(relay.Copied):
    """reached: every commit acknowledged before is there."""

    reached: Optional[Reached] = None


RELAY = Relay(WAL, LEDGER, Copied, Note, lambda config: config.wal.bandwidth, seconds=30.0)


def copied(config: Config) -> Optional[Copied]:
    """What this host remembers of the vault of today; None where nothing was sent there."""
    return RELAY.known(config)


def push(run: Opened, log: Log, opened: str, reached: Optional[Reached], *, at_once: bool = False) -> Optional[Copied]:
    """As Relay.push(). The caller holds the lock of the sender."""
    return RELAY.push(run, log, opened, reached, at_once=at_once)
