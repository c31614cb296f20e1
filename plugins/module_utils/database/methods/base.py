# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One way to bring a database server back: a new one is a subclass in a file of its own, and a line in the registry."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Callable, Literal, Optional

from ...base.checks import Check
from ...base.errors import Log
from ...repository.details import DatabaseDetails
from ...repository.manifest import Manifest
from ...settings.config import Config
from ...stack.runtime import Opened
from ...tools import age
from ..assess import Assessment
from ..held import Held
from ..server import Server

# How the server has to be for a restore: it runs; it stands still, with its data; or its data directory is empty.
ServerMode = Literal["running", "stopped", "empty"]


@dataclass(frozen=True)
class Window:
    """The instants that a restore can bring back: every one from `first` to `last`, both included."""

    first: datetime
    last: datetime

    def newest(self, target: Optional[datetime]) -> Optional[datetime]:
        """The newest of them that is not after the target; None where all are."""
        if target is None or target >= self.last:
            return self.last
        return target if target >= self.first else None


@dataclass(frozen=True)
class Restoration:
    """What is to be restored, to which instant, and where to. folder: the backup's artefacts, whose checksums are right
    but of what is `accepted`.

    fresh: the server was made for this. stamp: in the names of what is put aside. back: called when the data is back.
    databases: those of the backup that are to be restored. required: the one among them without which nothing else is
    restored either; None where each stands for itself. accepted: those that an operator takes although they failed:
    differences that are seen in them do not end the restore. later: takes what need not be done before the application
    runs; None: do it.
    """

    config: Config
    server: Server
    manifest: Manifest
    until: datetime
    folder: Path
    fresh: bool
    stamp: str
    back: Callable[[], None]
    log: Log
    databases: tuple[Held, ...] = ()
    required: Optional[Held] = None
    accepted: tuple[Held, ...] = ()
    later: Optional[list[Callable[[], None]]] = None


@dataclass(frozen=True)
class Outcome:
    """What became of one database. name: as named() prints it. kept: the name under which the old one is kept.

    action: restored; failed, where what came back was not what was backed up or did not come back, so that what is in
    the server is as it was; copied, quarantined or untouched as in a plan.
    """

    name: str
    action: str
    why: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Restored:
    """checks: of the data, before it took the live one's place; of any but the application's each check is named
    after it. quarantined_database: the name under which the first one that was replaced is kept. databases: what
    became of each.

    notes: what differs from what was backed up, as no dump brings it back, a sentence each.
    roles: those that were made. reindexed: databases whose collations had moved. seconds: what each step took.
    """

    checks: tuple[Check, ...]
    quarantined_database: str = ""
    roles: tuple[str, ...] = ()
    reindexed: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    databases: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()


class Method(abc.ABC):
    """One way to bring back a backup of the database, by whomever it was taken. Every failure is a LifeboatError.

    name: what the manifest says. common: the artefacts that every database needs, as they are called where they are not
    encrypted.
    """

    name: str
    common: Collection[str] = ()

    @abc.abstractmethod
    def levels(
        self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
    ) -> Iterator[Check]:
        """The checks of the level `archive`, and of `restore` where that is asked for; its checksums are right, but
        those of the databases `spoiled`. What tells of one database alone is a PartCheck."""

    @abc.abstractmethod
    def reaches(self, manifest: Manifest, target: Optional[datetime]) -> Window:
        """Which instants a restore of the backup can bring back: of several windows the one that holds the target,
        or else the last before it; None: the last."""

    def instant(self, manifest: Manifest, target: Optional[datetime]) -> datetime:
        """Which one it does bring back: the newest, not after the target; of a backup that was named and is later, its
        newest."""
        window = self.reaches(manifest, target)
        return window.newest(target) or window.last

    @abc.abstractmethod
    def mode(self, assessment: Assessment) -> ServerMode:
        """How the server has to be for a restore."""

    @abc.abstractmethod
    def steps(self, source: str, live: str) -> tuple[str, ...]:
        """What a restore does, for the plan that an operator reads. source: the backup, and of which instant. live: the
        names of what is replaced."""

    def lost(self, run: Opened, manifest: Manifest, folder: Path) -> list[str]:
        """What a server that is rebuilt or filled does not have as it was, a line each. folder: of the artefacts."""
        return []

    def require_room(self, run: Opened, manifest: Manifest, databases: Sequence[Held]) -> None:
        """Raise SpaceError where the server that lives has no room for a restore of these, beside their data."""
        return

    @abc.abstractmethod
    def restore(self, wanted: Restoration) -> Restored:
        """Bring the databases back. Raises IntegrityError, nothing replaced, where the required one, or each, is not
        what was backed up."""

    @contextlib.contextmanager
    def opened(
        self, config: Config, manifest: Manifest, folder: Path, key: str = "", *,
        folders: Optional[Collection[str]] = None, accept: bool = False,
    ) -> Iterator[Path]:  # fmt: skip
        """The artefacts as they were before they were encrypted; the folder itself where they are not.

        key: the identity that an operator gave. folders: only those of the databases in these folders of the backup,
        and what is the server's; None: all. accept: of what is damaged there is what can be read. Raises NoKeyError and
        WrongKeyError, IntegrityError where one is damaged.
        """
        details = manifest.detailed(DatabaseDetails)
        seal = age.Seal(details.recipients, details.host_key)

        def only(name: str) -> bool:
            return folders is None or name.rpartition("/")[0] in folders or name[: -len(age.SUFFIX)] in self.common

        with age.keys(config, key).opened(folder, seal, subject=manifest.id, only=only, accept=accept) as found:
            yield found
