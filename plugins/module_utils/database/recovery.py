# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The restore phase of a database recovery: by the backup's method, proved before it takes the live one's place."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from ..base.checks import PASS, Check
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, Log
from ..recovery import state as recovery_state
from ..recovery.state import keep
from ..repository import checksums
from ..repository.manifest import parse
from ..repository.sources import REPOSITORY, open_place
from ..settings.config import Config
from ..stack.runtime import Opened
from . import server as database_server
from .methods import registry as methods
from .methods.base import Restoration


@dataclass(frozen=True)
class Recovered:
    """id: of the backup. The rest as in Restored, its checks after those of the bytes. Modules return it as it is."""

    id: str
    checks: tuple[Check, ...]
    quarantined_database: str
    roles: tuple[str, ...]
    reindexed: tuple[str, ...]
    seconds: Mapping[str, float]


def restore_database(
    run: Opened, identity: str, *, place: str = REPOSITORY, fresh: bool, stamp: str, asked: str = "",
    accept: bool = False, log: Log,
) -> Recovered:  # fmt: skip
    """Restore by the method of the backup. Raises IntegrityError, the live database untouched, if it proves wrong.

    place: the repository, or the vault with its copy. accept: what is not as it was backed up is let through, as
    failed checks; what cannot be restored at all is an error still.
    """
    when = format_time(parse_time(asked)) if asked else ""  # one instant, however it was written
    repo = open_place(run, place)
    manifest = parse(repo.manifest("database", identity), component="database", expected_id=identity)
    method = methods.of(manifest)
    server, config = database_server.of(run), run.config
    server.reap()
    with repo.materialise("database", identity) as folder:
        check = checksums.checksums(repo, manifest, folder)
        if check.result != PASS and not accept:
            raise IntegrityError("restore the backup", identity, check.detail, "Choose another (`lifeboat list`).")
        back = functools.partial(recovery_state.unmark, config, recovery_state.RECOVERING)
        try:
            restored = method.restore(Restoration(config, server, manifest, folder, fresh, stamp, back, log, accept))
        except (OSError, EOFError, zlib.error) as exc:
            if check.result == PASS:
                raise
            cause = f"{check.detail}; it cannot be read: {exc}"
            raise IntegrityError("restore the backup", identity, cause, "Choose another (`lifeboat list`).") from exc
    remember(config, {"id": identity, "at": format_time(datetime.now(timezone.utc)), "asked": when})
    return Recovered(
        identity, (check, *restored.checks), restored.quarantined, restored.roles, restored.reindexed, restored.seconds
    )


def remember(config: Config, what: Mapping[str, str]) -> None:
    """Write the identity of the last recovery; whole or not at all."""
    keep(config, recovery_state.RECOVERED, json.dumps(what))
