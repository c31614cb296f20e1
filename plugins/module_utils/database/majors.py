# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the PostgreSQL major of a stack's data directory with that of its image."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from ..base import filesystem
from ..base.errors import LifeboatError, UsageError
from ..stack.runtime import Opened

# Where the images before 18 have it, and where a volume of theirs is still mounted when the image is one of 18.
_BEFORE_18 = "/var/lib/postgresql/data"
_MAJOR = re.compile(r"[1-9][0-9]?")


def older_data(run: Opened) -> str:
    """Say that the image is of another major than the data, which it cannot open; empty where it is not, or where
    nobody tells. Nothing is lost then: the image of before opens the data.

    The image's major is that of its environment (PG_MAJOR of the official images), or of what the server said when it
    refused the data. https://www.postgresql.org/docs/current/upgrading.html
    """
    service, stack = run.config.database.service, run.runtime
    had, places = "", [_BEFORE_18]
    with contextlib.suppress(LifeboatError):
        places.insert(0, stack.data_path(service))
    for inside in places:
        with contextlib.suppress(LifeboatError, OSError):
            had = had or _major_of(stack.data_mount(service, inside).path)
    if not had:
        return ""
    has = (stack.state(service).environment or {}).get("PG_MAJOR", "")
    if not _MAJOR.fullmatch(has):
        refused = re.findall(
            r"DETAIL:.* by PostgreSQL version [0-9]+,.* with this version ([0-9]+)", stack.logs(service)
        )
        has = refused[-1] if refused else had
    if has == had:
        return ""
    return (
        f"the data of {service} was made by PostgreSQL {had}, and its image is of PostgreSQL {has}, which cannot open"
        f" it: nothing is lost, the image of PostgreSQL {had} brings everything back"
    )


def _major_of(data: Path) -> str:
    if data == Path() or (data / "PG_VERSION").is_symlink():  # a link may lead elsewhere in a container
        return ""
    with filesystem.open_below(data, ("PG_VERSION",)) as file:  # it is the container's: it may be a pipe, too
        found = _MAJOR.fullmatch(file.read(16).decode("ascii", "replace").strip())
    return found[0] if found else ""


def refusal(run: Opened, message: str) -> UsageError:
    """A rebuild would lose what was written since the backup, for an image."""
    return UsageError(
        "recover the database", f"{run.config.database.service} of {run.config.stack}", message,
        "Set the image in the Compose file back and start the service. To move to the new major with the backup's data"
        " instead: -e method=rebuild, which puts the data aside and loses what was written since the backup.",
    )  # fmt: skip
