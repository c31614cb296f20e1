# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The physical method: a whole server, from a base and the WAL behind it. For bringing back only: what is verified of
a base is seen by standing it up (`lifeboat wal verify`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ....base.checks import Check, compared
from ....base.errors import Log, UsageError
from ....base.text import named, several
from ....repository.manifest import Manifest
from ....settings.config import Config
from ...assess import Assessment
from ...server import answers
from ..base import Method, Outcome, Restoration, Restored, ServerMode, Window
from . import fill


@dataclass(frozen=True)
class _State:
    system: str
    recovering: bool
    timeline: int


_NOW = """SELECT jsonb_build_object('system', (SELECT system_identifier::text FROM pg_control_system()),
  'recovering', pg_is_in_recovery(), 'timeline', (SELECT timeline_id FROM pg_control_checkpoint()));"""


class Physical(Method):
    name = "physical"

    def levels(
        self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
    ) -> Iterator[Check]:
        raise UsageError(
            "verify the backup", manifest.id, "a base is verified together with the WAL behind it",
            "Stand it up: lifeboat wal verify.",
        )  # fmt: skip

    def reaches(self, manifest: Manifest, target: Optional[datetime]) -> Window:
        """From where it is whole, to the target: how far its WAL leads the catalogue knows."""
        return Window(manifest.finished_at, max(target or manifest.finished_at, manifest.finished_at))

    def mode(self, assessment: Assessment) -> ServerMode:
        """It fills an empty data directory."""
        return "empty"

    def steps(self, source: str, live: str) -> tuple[str, ...]:
        return (f"restore: see that the server runs with all that was proved of {source}",)

    def restore(self, wanted: Restoration) -> Restored:
        """The data is back when the server runs: see that it is that server, with each of its databases."""
        known = fill.filled(wanted.config)
        if known is None or known.base != wanted.manifest.id:
            raise UsageError(
                "restore the backup", wanted.manifest.id, "no data directory was filled from it",
                "Run the recovery: lifeboat.dr.recover_database.",
            )  # fmt: skip
        state = answers(_State, wanted.server.execute(_NOW, attempted="look which server it is", timeout=60))[0]
        wrong = [
            *([f"it is the server {state.system}, not {known.system}"] if state.system != known.system else []),
            *(["it is in recovery"] if state.recovering else []),
            *([f"its timeline is {state.timeline}, not {known.timeline}"] if state.timeline < known.timeline else []),
        ]
        there = [database.name for database in wanted.server.living()]
        missing = [name for name in known.databases if name not in there]
        checks = (
            *known.checks,
            compared("server", wrong, f"{known.system}, on timeline {known.timeline}"),
            compared(
                "databases", [f"{several('database', missing)} are missing"] if missing else [],
                several("database", known.databases),
            ),
        )  # fmt: skip
        return Restored(
            checks,
            seconds={"unpack": known.unpacked, "replay": known.replayed},
            databases=tuple(
                Outcome(named(name), "failed" if name in missing else "restored") for name in known.databases
            ),
            notes=known.notes,
        )  # fmt: skip
