# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done with each component of a stack: how it is taken and told.

A list of all of them, as is repository/components.py, which holds what their backups are called and where they lie.
How each is proved is in levels.py; what is said of some only, in judgements.py and escrow_opened.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Union

from ..base.errors import Log
from ..base.text import human, named
from ..repository.components import BASE, CONFIG, DATABASE, DUMPS, FILES, KINDS, OBJECTS
from ..repository.details import (
    COPY,
    BaseDetails,
    ConfigDetails,
    DatabaseDetails,
    DumpsDetails,
    FilesDetails,
    ObjectsDetails,
)
from ..repository.manifest import Manifest
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from ..mirror.guard import Override


@dataclass(frozen=True)
class Component:
    """take: makes a backup; its second argument accepts that much is gone. summary: of it, for a terminal."""

    take: Callable[[Opened, Union[int, Override], Log], Manifest]
    summary: Callable[[Manifest], str]


def _database_summary(manifest: Manifest) -> str:
    details = manifest.detailed(DatabaseDetails)
    held = KINDS[DATABASE].counted(details)
    many = f"{held['databases']} databases, " if held["databases"] > 1 else ""
    what = f"{held['tables']} tables, {held['rows']} rows" if "tables" in held else COPY
    return f"{human(manifest.size)}  {details.seconds} s  {many}{what}"


def _objects_summary(manifest: Manifest) -> str:
    details = manifest.detailed(ObjectsDetails)
    objects, size, copied, removed = (
        sum(getattr(bucket, what) for bucket in details.buckets) for what in ("objects", "bytes", "copied", "removed")
    )
    many = f"{len(details.buckets)} buckets, " if details.additional else ""
    done = f"{copied} copied, {removed} removed"
    primary = details.primary
    why = f" ({named(primary.why)})" if primary.why else ""
    return f"{many}{objects} objects, {human(size)}  {details.seconds} s  {primary.consistency}{why}, {done}"


def _files_summary(manifest: Manifest) -> str:
    details = manifest.detailed(FilesDetails)
    held = details.sources.values()
    files, size, changed, new = (
        sum(getattr(source, what) for source in held) for what in ("files", "bytes", "changed", "changed_bytes")
    )
    gaps = sum(source.skipped_count + source.torn_count + source.damaged_count for source in held)
    wrong = f", {gaps} COULD NOT BE READ as they should" if gaps else ""
    return (
        f"{human(manifest.size)}  {details.seconds} s  {files} files, {human(size)}; {changed} of them new or changed,"
        f" {human(new)}{wrong}"
    )


def _dumps_summary(manifest: Manifest) -> str:
    details = manifest.detailed(DumpsDetails)
    dumped = ", ".join(f"{name} {human(entry.bytes)}" for name, entry in details.sources.items())
    changed = sum(entry.unsettled for entry in details.sources.values())
    meanwhile = f"; {changed} facts changed meanwhile" if changed else ""
    return f"{human(manifest.size)}  {details.seconds} s  {dumped}{meanwhile}"


def _config_summary(manifest: Manifest) -> str:
    details = manifest.detailed(ConfigDetails)
    secrets, left = f"{details.secrets} secrets sealed", len(details.left_out)
    secrets = f"{left} secrets LEFT OUT: no recipient is configured" if left else secrets
    skipped = f", {len(details.skipped)} could not be read" if details.skipped else ""
    return f"{human(manifest.size)}  {details.seconds} s  {details.files} files, {secrets}{skipped}"


def _base_summary(manifest: Manifest) -> str:
    details = manifest.detailed(BaseDetails)
    size = human(details.bytes)
    return f"{human(manifest.size)}  {details.seconds} s  {size} of files, WAL from {details.start} to {details.stop}"


# Each imports what takes its backup: all of them together take as long to import as a small database to dump.
def _take_database(run: Opened, override: Union[int, Override], log: Log) -> Manifest:
    from ..database.methods.logical import dump

    return dump.take(run, log=log, override=bool(override))


def _take_objects(run: Opened, override: Union[int, Override], log: Log) -> Manifest:
    from ..mirror import take
    from ..vault import endpoints

    return take.take(run, log=log, override=override, doubts=endpoints.doubts(run, log=log))


def _take_files(run: Opened, override: Union[int, Override], log: Log) -> Manifest:
    from ..files import backup

    return backup.take(run, log=log, override=bool(override))


def _take_dumps(run: Opened, override: Union[int, Override], log: Log) -> Manifest:
    from ..dumps import backup

    return backup.take(run, log=log, override=bool(override))


def _take_config(run: Opened, override: Union[int, Override], log: Log) -> Manifest:
    from ..configuration import backup

    del override
    return backup.take(run, log=log)


def _take_base(run: Opened, override: Union[int, Override], log: Log) -> Manifest:
    from ..database.wal import base

    del override
    return base.take(run, log)


COMPONENTS: dict[str, Component] = {
    DATABASE: Component(_take_database, _database_summary),
    OBJECTS: Component(_take_objects, _objects_summary),
    FILES: Component(_take_files, _files_summary),
    DUMPS: Component(_take_dumps, _dumps_summary),
    CONFIG: Component(_take_config, _config_summary),
    BASE: Component(_take_base, _base_summary),
}
