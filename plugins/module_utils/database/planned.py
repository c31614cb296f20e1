# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a database recovery: what its phases are told, and what a role reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Optional

from ..base.text import Planned, Untested
from ..recovery.state import RECOVERING, Unfinished, unfinished
from ..settings.config import Config

Mode = Literal["none", "swap", "start", "rebuild", "reopen", "fill"]
Action = Literal["restored", "untouched", "copied", "quarantined"]
ASK, RESTORE, ASIDE = "ask", "restore", "aside"  # what becomes of databases that a rebuild would lose


@dataclass(frozen=True)
class Database:
    """What happens to one database of the backup or of the server, and why. name: as it is shown.

    action: restored (of the backup), copied (out of the server that is put aside, into the fresh one), quarantined (it
    stays in the data directory that is put aside), untouched. size: bytes that it takes in a server.
    """

    name: str
    action: Action
    why: str
    size: int = 0
    tables: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Replay:
    """How the databases come to be as they were at an instant: a throw-away server replays the WAL behind a base.

    instant: that was asked for, as it is shown. recovery_time, before: the one of the two that names it now, where the
    WAL was read for what the instant names. base: its id; taken_at: of the base. wal: bytes that are replayed, at most.
    since: from when on written data will be missing, as far as it is known without replaying.
    """

    instant: str
    recovery_time: str
    before: str
    timeline: int
    base: str
    taken_at: str
    wal: int
    since: str


@dataclass(frozen=True)
class PhysicalRoute:
    """How the new data directory of a lost server is filled: from a base, and the WAL behind it until an instant.

    instant: as it is shown. recovery_time, before: the one of the two that names it. base: its id; timeline: the one
    that is followed from there. first, last: between which any instant can be gone to; end: the position of the last
    one. at: all that was committed before that is back, as far as is known without replaying. unpacked, wal: bytes of
    the base, and of WAL. unpack, replay: about how many seconds; measured: when on this host, empty where never.
    spool: bytes of WAL that were received and are sent before the replay begins; spooled_at: when the last of them
    were, empty where there are none.
    """

    instant: str
    recovery_time: str
    before: str
    base: str
    timeline: int
    first: str
    last: str
    end: str
    at: str
    unpacked: int
    wal: int
    unpack: float
    replay: float
    measured: str = ""
    spool: int = 0
    spooled_at: str = ""


@dataclass(frozen=True)
class Plan(Planned):
    """What is wrong and what will be done. Roles see it as JSON, with these names.

    mode: none, swap (the server lives: restore beside, swap by name), start (it is down: start it and look; if it does
    not come up, or wrong, rebuild), rebuild (quarantine the data directory, fresh server), fill (the server was
    lost, and what answers is an empty new one: it gets all that a rebuilt one gets), reopen (a recovery
    was killed when the data was back and the writers were not). asked: a state was named, so a healthy server will not
    do; state: that name, an identity or a time. backup: as a listing has it. target: the name of the application's
    database, or of the one that was named, which is then the only one to be replaced in a server that lives.
    one_offs: containers of `docker compose run` that are stopped with the writers, and not started again.
    lost: what does not come back as it was, a line each. turn: the number of the host's changes when it was made.
    untested: what newer backups hold and this one does not, for the record. newer: the databases among that which
    ought to be there afterwards. until: the instant that comes back, where that is not the backup's snapshot. replay:
    how a backup of that instant is taken first; the one in the plan is the newest then, and only says what to expect.
    physical: the way of a rebuilt server that is filled from a base and WAL; the backup is the base then. headline:
    what has to be read first.
    """

    SPARSE: ClassVar[tuple[str, ...]] = ("until", "replay", "physical", "headline")

    mode: Mode
    backup: Mapping[str, object]
    one_offs: tuple[str, ...] = ()
    databases: tuple[Database, ...] = ()
    named: bool = False
    lost: tuple[str, ...] = ()
    turn: int = 0
    untested: tuple[Untested, ...] = ()
    newer: tuple[str, ...] = ()
    until: str = ""
    replay: Optional[Replay] = None
    physical: Optional[PhysicalRoute] = None
    headline: str = ""

    @property
    def replaced(self) -> tuple[str, ...]:
        """The databases that come back from the backup."""
        return tuple(database.name for database in self.databases if database.action == "restored")

    @property
    def copied(self) -> tuple[str, ...]:
        return tuple(database.name for database in self.databases if database.action == "copied")


def resumed(config: Config) -> Optional[Unfinished]:
    """The recovery that was filling an empty server and has not ended: all of that is brought back and compared, with
    the roles and the settings of the server."""
    found = unfinished(config, RECOVERING)
    return found if found and found.begun and found.empty else None
