# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logical method: pg_dump and pg_restore, one database, restored next to the live one."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Optional

from ....base.checks import FAIL, Check, verdict
from ....base.clock import format_time
from ....base.errors import IntegrityError, LifeboatError, Log
from ....repository.details import DatabaseDetails
from ....repository.manifest import Manifest
from ....settings.config import Config
from ....stack.runtime import Opened
from ... import server as database_server
from ...fingerprint import facts_of
from ...server import fit_name
from ..base import Method, Restoration, Restored
from . import dump, proof, restore


class Logical(Method):
    name = "logical"

    def take(self, run: Opened, *, log: Log, override: bool = False) -> Manifest:
        return dump.take(run, log=log, override=override)

    def levels(self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log) -> Iterator[Check]:
        return proof.levels(config, manifest, folder, level, log)

    def reaches(self, manifest: Manifest, wanted: Optional[datetime]) -> datetime:
        """A dump is of one instant."""
        return manifest.taken_at

    def steps(self, manifest: Manifest, wanted: Optional[datetime], live: str) -> tuple[str, ...]:
        at = format_time(self.reaches(manifest, wanted))
        return (
            f"restore: roles, then {manifest.id} ({at}) into a new database beside",
            f"verify: rows, content, sequences, schema, settings against the backup's fingerprint; only then"
            f" swap {live}",
        )

    def restore(self, wanted: Restoration) -> Restored:
        """Restore beside, compare, swap."""
        server, manifest, jobs, log = wanted.server, wanted.manifest, wanted.config.database.jobs, wanted.log
        live = wanted.config.database.name or manifest.detailed(DatabaseDetails).database
        beside = fit_name(live, f"_restore_{wanted.stamp}")
        for left in server.databases():  # a killed run's half-made database; ours by name, and we hold the lock
            if re.fullmatch(re.escape(fit_name(live, "_restore_" + "0" * 15)[:-15]) + r"\d{8}_\d{6}", left):
                database_server.drop(server, left)
        facts = facts_of(wanted.folder)
        clock = [time.monotonic()]
        made = restore.roles(server, wanted.folder, facts, fresh=wanted.fresh)
        try:
            restore.database(server, manifest, wanted.folder, facts, beside, jobs=jobs, log=log)
            clock.append(time.monotonic())
            log("comparing with the backup's fingerprint")
            checks = restore.compare(server, beside, facts, fresh=wanted.fresh)
            if verdict(checks) == FAIL and not wanted.accept:
                raise IntegrityError(
                    "prove the restored database",
                    manifest.id,
                    "; ".join(f"{check.name}: {check.detail}" for check in checks if check.result == FAIL),
                    f"{live} is untouched. Choose another backup, or look at the differences; to use it although it"
                    f" differs: -e recovery_point={manifest.id} -e accept=failed.",
                )
            restore.analyze(server, beside, jobs)
        except BaseException:
            with contextlib.suppress(LifeboatError):  # the error that brought us here is the one to show
                server.reap()
                database_server.drop(server, beside)
            raise
        clock.append(time.monotonic())
        log(f"swapping {live}")
        kept = restore.swap(server, live, beside, wanted.stamp)
        wanted.back()
        if wanted.fresh and kept and restore.untouched(server, kept):
            # the empty database that the fresh server came with, moments ago
            database_server.drop(server, kept)
            kept = ""
        reindexed = restore.refresh_collations(server)
        clock.append(time.monotonic())
        spent = zip(("restore", "verify", "swap"), clock, clock[1:])
        return Restored(
            tuple(checks), kept, tuple(made), tuple(reindexed),
            {name: round(end - start, 2) for name, start, end in spent},
        )  # fmt: skip
