# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done with each component of a stack: how it is taken, told, proved, judged and opened in the vault.

The only list of them besides repository/components.py, which holds what their backups are called and where they lie.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Callable

from ..base import lock
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, Verdict, compared, verdict
from ..base.clock import format_time
from ..base.errors import Log, UnverifiedError, UsageError
from ..base.text import human, named
from ..base.version import VERSION
from ..configuration import backup as configuration_backup
from ..configuration import parts
from ..configuration import proof as configuration_proof
from ..configuration import restore as configuration_restore
from ..configuration.restore import SECRET_LIST, SECRETS
from ..database.methods import registry as methods
from ..mirror import take as mirror_take
from ..objects import proof as objects_proof
from ..repository.base import Repository
from ..repository.components import CONFIG, DATABASE, KINDS, OBJECTS
from ..repository.details import ConfigDetails, DatabaseDetails, ObjectsDetails
from ..repository.manifest import Manifest
from ..settings.config import Config
from ..stack.runtime import Opened
from ..tools import tar


@dataclass(frozen=True)
class Proof:
    """A backup to be proved. folder: where its artefacts lie; level, sample: how far to go; key: what opens secrets."""

    run: Opened
    repo: Repository
    manifest: Manifest
    folder: Path = Path()
    level: str = ""
    sample: int = 0
    log: Log = lambda line: None
    key: str = ""


@dataclass(frozen=True)
class Result:
    """What one verification found. verdict: PASS, FAIL or COULD_NOT_VERIFY. parts: of each backup, where several.

    taken_at, size: of the backup, where its manifest could be read.
    """

    id: str
    level: str
    checks: tuple[Check, ...]
    started_at: datetime
    finished_at: datetime
    parts: tuple[Result, ...] = ()
    taken_at: str = ""
    size: int = 0

    @property
    def verdict(self) -> Verdict:
        return verdict(self.checks)

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "level": self.level,
            "verdict": self.verdict,
            "started_at": format_time(self.started_at),
            "finished_at": format_time(self.finished_at),
            "tool": f"lifeboat {VERSION}",
            "checks": [check.as_dict() for check in self.checks],
            **({"parts": [result.as_dict() for result in self.parts]} if self.parts else {}),
        }


@dataclass(frozen=True)
class Component:
    """take: makes a backup; its second argument accepts that much is gone. line: it, for a terminal.

    levels: the checks above checksums. opened: the checks that it can be used with the escrowed key alone, besides its
    checksums. judged: what status says of its newest good backup besides its age and proof.
    """

    take: Callable[[Opened, bool, Log], Manifest]
    line: Callable[[Manifest], str]
    levels: Callable[[Proof], Iterator[Check]]
    opened: Callable[[Proof], Iterator[Check]] = lambda proof: iter(())
    judged: Callable[[Config, Repository, Manifest], Iterator[Check]] = lambda config, repo, manifest: iter(())


def _database_line(one: Manifest) -> str:
    details = one.detailed(DatabaseDetails)
    held = KINDS[DATABASE].counted(details)
    many = f"{held['databases']} databases, " if held["databases"] > 1 else ""
    return f"{human(one.size)}  {details.seconds} s  {many}{held['tables']} tables, {held['rows']} rows"


def _database_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(DatabaseDetails)
    if details.others is None:  # the next one holds the server
        return
    words = ", ".join(named(dump.name) for dump in details.dumps(""))
    spread = f", snapshots within {details.spread(manifest.taken_at):.1f} s" if details.others else ""
    said = [f"{words}{spread}", *KINDS[DATABASE].notes(details)]
    yield Check("databases", PASS, "; ".join(said))


def _objects_line(one: Manifest) -> str:
    details = one.detailed(ObjectsDetails)
    size, done = human(details.bytes), f"{details.copied} copied, {details.removed} removed"
    return f"{details.objects} objects, {size}  {details.seconds} s  {details.consistency}, {done}"


def _objects_levels(proof: Proof) -> Iterator[Check]:
    with lock.held(f"{proof.run.config.stack}.verify", "verify"):
        yield from objects_proof.levels(proof.run, proof.repo, proof.manifest, proof.level, proof.sample, proof.log)


def _objects_opened(proof: Proof) -> Iterator[Check]:
    if not proof.run.config.vault.objects_bucket:
        yield Check("objects: mirror", COULD_NOT_VERIFY, "its bucket is not named: --objects-bucket, or in the kit")
        return
    for check in objects_proof.levels(proof.run, proof.repo, proof.manifest, "archive", 0, proof.log):
        yield Check(f"objects: {check.name}", check.result, check.detail)


def _objects_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(ObjectsDetails)
    if details.unheld:
        named = ", ".join(repr(unheld.key) for unheld in details.unheld[:3])
        yield Check("objects in no backup", FAIL, f"the vault could not hold {details.in_no_backup}: {named}")


def _config_line(one: Manifest) -> str:
    details = one.detailed(ConfigDetails)
    secrets, left = f"{details.secrets} secrets sealed", len(details.left_out)
    secrets = f"{left} secrets LEFT OUT: no recipient is configured" if left else secrets
    skipped = f", {len(details.skipped)} could not be read" if details.skipped else ""
    return f"{human(one.size)}  {details.seconds} s  {details.files} files, {secrets}{skipped}"


def _config_opened(proof: Proof) -> Iterator[Check]:
    vault, manifest = proof.repo, proof.manifest
    for part in parts.of(manifest).values():
        if part.backup != manifest.id:
            held = configuration_proof.held_elsewhere(vault, part)
            yield Check(f"config: {held.name}", held.result, held.detail)
    left = manifest.detailed(ConfigDetails).left_out
    if left:
        named = ", ".join(left[:3])
        yield Check("config: secrets", FAIL, f"{len(left)} were left out when there was no recipient: {named}")
        return
    if SECRETS not in {artefact.name for artefact in manifest.artefacts}:
        yield Check("config: secrets", COULD_NOT_VERIFY, "nothing is sealed in it, so that the key opened nothing")
        return
    opened = configuration_restore.open_secrets(vault, manifest, proof.key)
    read = tar.read(io.BytesIO(opened.data), f"{manifest.id}/{SECRETS}")
    wanted, open_list = opened.entries, configuration_restore.listing(vault, manifest.id)
    differ = tar.differences(read, wanted, SECRETS)
    differ += [f"{SECRET_LIST} and files.json differ on {path!r}" for path in wanted if path not in open_list]
    files = sum(entry.type == tar.FILE for entry in wanted.values())
    yield compared("config: secrets", differ, f"the key opens all of it: {files} secret files, as listed")


def _config_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(ConfigDetails)
    wanted = sorted(config.config.recipients)
    if details.left_out:
        found = configuration_proof.left_out(config, details.left_out)
        result = FAIL if wanted else found.result  # one that has them can be taken now
        yield replace(found, name=f"config {found.name}", result=result)
    elif sorted(details.recipients) != wanted:
        words = f"{manifest.id} is sealed for other recipients than are configured; take a new one: "
        yield Check("config secrets", FAIL, words + "lifeboat backup config")
    elif wanted:
        yield Check("config secrets", PASS, f"{details.secrets} files, sealed for {len(wanted)} recipients")
    skipped = [f"{path}: {why}" for path, why in details.skipped.items()]
    if skipped:
        yield Check("config files", FAIL, f"not in the backup: {'; '.join(skipped[:3])}")
    elif details.torn:
        words = f"changed while they were read: {', '.join(details.torn[:3])}"
        yield Check("config files", COULD_NOT_VERIFY, words)
    nowhere = parts.images_nowhere(details.images)
    if nowhere and parts.IMAGES not in details.parts:
        words = f"of {', '.join(nowhere)} they are in no backup and, as far as is known, in no registry; "
        yield Check("config images", COULD_NOT_VERIFY, words + "lifeboat_config.images: archive keeps them")
    try:
        wrong = [words for part in details.parts.values() if (words := parts.problem(repo, part))]
    except (UnverifiedError, UsageError) as exc:
        yield Check("config parts", COULD_NOT_VERIFY, str(exc))
        return
    if wrong:
        yield Check("config parts", FAIL, f"{'; '.join(wrong[:3])}; the next backup makes them again")


COMPONENTS: dict[str, Component] = {
    DATABASE: Component(
        lambda run, override, log: methods.named(run.config.database.method).take(run, log=log, override=override),
        _database_line,
        lambda item: methods.of(item.manifest).levels(
            item.run.config, item.manifest, item.folder, item.level, item.log
        ),
        judged=_database_judged,
    ),
    OBJECTS: Component(
        lambda run, override, log: mirror_take.take(run, log=log, override=override),
        _objects_line,
        _objects_levels,
        opened=_objects_opened,
        judged=_objects_judged,
    ),
    CONFIG: Component(
        lambda run, override, log: configuration_backup.take(run, log=log),
        _config_line,
        lambda item: configuration_proof.levels(item.run.config, item.repo, item.manifest, item.level, item.log),
        opened=_config_opened,
        judged=_config_judged,
    ),
}
