# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a component's backup is judged by besides age, proof and checksums, where there is anything of that kind.

Status judges the newest good backup; the escrow judges one in the vault, with the escrowed key alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Callable, Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, compared
from ..base.errors import LifeboatError, UnverifiedError, UsageError
from ..base.text import named
from ..configuration import parts
from ..configuration import proof as configuration_proof
from ..configuration import restore as configuration_restore
from ..configuration.restore import SECRET_LIST, SECRETS
from ..objects import proof as objects_proof
from ..repository import catalog
from ..repository.base import Repository
from ..repository.components import CONFIG, DATABASE, KINDS, OBJECTS
from ..repository.details import (
    IDENTITIES,
    UNKEPT,
    USES,
    ConfigDetails,
    DatabaseDetails,
    HeldIdentities,
    ObjectsDetails,
)
from ..repository.manifest import Manifest
from ..settings.config import ELSEWHERE, Config
from ..tools import tar
from ..tools.tar import shown
from .proof import Proof


@dataclass(frozen=True)
class Judgement:
    """judged: what status says of the newest good backup besides its age and proof. opened: the checks that a backup
    can be used with the escrowed key alone, besides its checksums.
    """

    judged: Callable[[Config, Repository, Manifest], Iterator[Check]] = lambda config, repo, manifest: iter(())
    opened: Callable[[Proof], Iterator[Check]] = lambda proof: iter(())


def _database_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(DatabaseDetails)
    if details.others is None:  # the next one holds the server
        return
    words = ", ".join(named(dump.name) for dump in details.dumps(""))
    spread = f", snapshots within {details.spread(manifest.taken_at):.1f} s" if details.others else ""
    said = [f"{words}{spread}", *KINDS[DATABASE].notes(details)]
    yield Check("databases", PASS, "; ".join(said))


def _objects_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(ObjectsDetails)
    if details.unheld:
        first = ", ".join(repr(unheld.key) for unheld in details.unheld[:3])
        yield Check("objects in no backup", FAIL, f"the vault could not hold {details.in_no_backup}: {first}")
    yield from _identities_judged(config, repo, manifest.id, details.identities)
    if details.unprotected is None:  # the next one looks
        return
    words = [named(details.bucket), *(f"{gap.what}: {gap.why}" for gap in details.left)]
    yield Check("buckets", COULD_NOT_VERIFY if details.left else PASS, "; ".join(words))


def _identities_judged(
    config: Config, repo: Repository, backup: str, held: Optional[HeldIdentities]
) -> Iterator[Check]:
    """The users and keys of a store that is the stack's own."""
    api = config.objects.admin.api
    if not api and not config.objects.service:
        return
    name, unknown = IDENTITIES, ""
    if api == ELSEWHERE:
        yield Check(name, PASS, "kept elsewhere, as lifeboat_objects.admin says")
        return
    if not api:
        unknown = UNKEPT
    elif held is None or held.api != api:
        unknown = f"{backup} was taken without them; take a new one: lifeboat backup objects"
    elif held.problem:
        unknown = f"{backup} was taken without them: {held.problem}"
    elif held.uses:
        unknown = f"the {USES}: {', '.join(held.uses[:3])}"
    else:
        unknown = _unsealed(config, repo)
    words = f"as with {backup}, sealed with the configuration"
    yield Check(name, COULD_NOT_VERIFY, unknown) if unknown else Check(name, PASS, words)


def _unsealed(config: Config, repo: Repository) -> str:
    """Why the copy of the identities is on this host alone; empty where a config backup has it."""
    alone = "the copy of them is on this host alone"
    try:
        good = catalog.good(catalog.entries(repo, CONFIG, config.stack)) if config.config.enabled else []
        listed = configuration_restore.listing(repo, good[-1].id) if good else {}
    except LifeboatError as exc:
        return f"whether a config backup has the copy of them could not be seen: {exc.cause}"
    path = str(config.identities)
    if path in listed:
        return ""
    if good and shown(path) in good[-1].detailed(ConfigDetails).left_out:
        return f"{alone}: {good[-1].id} was taken without a recipient (lifeboat_config.recipients)"
    return f"{alone}: the newest config backup does not have it; take one: lifeboat backup config"


def _objects_opened(proof: Proof) -> Iterator[Check]:
    if not proof.run.config.vault.objects_bucket:
        yield Check("objects: mirror", COULD_NOT_VERIFY, "its bucket is not named: --objects-bucket, or in the kit")
        return
    for check in objects_proof.levels(proof.run, proof.repo, proof.manifest, "archive", 0, proof.log):
        yield Check(f"objects: {check.name}", check.result, check.detail)


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


JUDGEMENTS: dict[str, Judgement] = {
    DATABASE: Judgement(_database_judged),
    OBJECTS: Judgement(_objects_judged, _objects_opened),
    CONFIG: Judgement(_config_judged, _config_opened),
}


def of(component: str) -> Judgement:
    return JUDGEMENTS.get(component, Judgement())
