# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What commit 72b9fc2 wrote, to be read by every commit after it: tests/written/72b9fc2.tar.xz.

Two recovery points of a small shop (a database of two tables, a bucket of twenty objects, a Compose project), taken and
verified by that commit's own command: `backup/` is the repository, `vault/` the data directory of the SeaweedFS with
the mirror and copies, `state/evidence/` its verification and eight records of recoveries and drills of the lab,
`portrait.txt` the database by pg_dump and md5. Nothing in it is secret.

And what a652176d wrote of a store with three buckets: three objects backups by its command. The second lacks `docs`,
from which too much had gone, until it was told that this was right. `vault/` as above.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

ARCHIVES = Path(__file__).resolve().parents[1] / "written"
OLDER, NEWER = "20261125_195903", "20261125_195918"
DATABASE = {OLDER: "db_backup_20261125_195849", NEWER: "db_backup_20261125_195912"}
OBJECTS = {OLDER: "objects_backup_20261125_195858", NEWER: "objects_backup_20261125_195915"}
CONFIG = {OLDER: "config_backup_20261125_195900", NEWER: "config_backup_20261125_195916"}
STORE = ("objects_backup_20261201_073940", "objects_backup_20261201_073944", "objects_backup_20261201_073946")


def unpack(root: Path, commit: str = "72b9fc2") -> dict[str, Any]:
    """Lay out what it wrote below `root` and return the stack's settings, their paths moved there."""
    with tarfile.open(ARCHIVES / f"{commit}.tar.xz") as archive:
        if sys.version_info >= (3, 12):
            archive.extractall(root, filter="data")
        else:
            archive.extractall(root)  # noqa: S202 - our own archive
    settings: dict[str, Any] = json.loads((root / "etc/shop.json").read_text(encoding="utf-8"))
    settings["runtime"]["project_directory"] = str(root / "project")
    settings["repository"]["path"] = str(root / "backup")
    settings["state_directory"] = str(root / "state")
    write(root, settings)
    return settings


def write(root: Path, settings: dict[str, Any], secrets: dict[str, str] | None = None) -> None:
    (root / "etc/shop.json").write_text(json.dumps(settings), encoding="utf-8")
    (root / "etc/shop.secrets.json").write_text(json.dumps(secrets or {}), encoding="utf-8")
