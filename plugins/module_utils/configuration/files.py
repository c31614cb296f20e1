# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of a stack a config backup takes, and which of them it would leave out."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..base import filesystem
from ..base.errors import printable
from ..settings import config as configuration
from ..settings.config import Config
from ..stack import files as stack_files
from ..stack.compose import ComposeRuntime
from ..stack.runtime import Opened, Runtime
from ..tools import timers
from ..tools.tar import followed

CRON = "/etc/cron.d"


@dataclass
class Selection:
    """The paths to be packed. bare: directories of which only owner and mode are stored. compose: the files given to
    Compose; read: those and all that they include."""

    compose: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def select(config: Config, stack: Runtime, directory: Path) -> Selection:
    """Select what Lifeboat finds by itself, then what the operator names."""
    selection = Selection()
    if isinstance(stack, ComposeRuntime):
        project = stack_files.find(config, stack)
        selection.compose = project.compose
        selection.read = [*project.compose, *project.fragments]
        selection.plain += [*project.compose, *project.plain]
        selection.secret += project.secret
        selection.bare += sorted({str(Path(name).parent) for name in project.compose})
        selection.notes += [f"{printable(name)} is mounted and not in this backup" for name in project.data]
    own = directory / f"{config.stack}.json"
    cron = Path(CRON) / filesystem.cron_name(config.stack)
    selection.plain += [str(path) for path in (own, cron) if path.exists()]
    selection.plain += [str(path) for path in timers.files(config.stack)]
    secrets = directory / f"{config.stack}.secrets.json"
    if secrets.exists():
        (selection.secret if config.secrets else selection.plain).append(str(secrets))
    if config.objects.bucket and config.identities.exists():
        selection.secret.append(str(config.identities))
    selection.plain += config.config.files
    selection.secret += config.config.secret_files
    return selection


def above(names: Iterable[str]) -> list[str]:
    """Return the directories on the way to each of these, but for those that are as a recovery makes one that is
    missing."""
    ways: dict[str, None] = {}
    for name in names:
        real, _links, problem = followed(name)
        ways.update({} if problem else dict.fromkeys(map(str, list(Path(real).parents)[-2::-1])))
    found = []
    for way in ways:
        with contextlib.suppress(OSError):  # gone since: so is what was below it, and that is noted
            status = os.lstat(way)
            if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (0, 0, 0o755):
                found.append(way)
    return found


def left_out(run: Opened, *, directory: Path = configuration.DIRECTORY) -> list[str]:
    """Return the secret files that a backup would leave out now although nobody said that they are kept elsewhere."""
    config = run.config.config
    if not config.enabled or config.recipients or config.secrets == "elsewhere":
        return []
    found = select(run.config, run.runtime, directory)
    # What deploy has yet to write.
    own = [str(directory / f"{run.config.stack}.secrets.json")] if run.config.secrets else []
    return [printable(path) for path in dict.fromkeys([*found.secret, *own])]
