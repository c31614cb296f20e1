# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What status judges a newest good backup by besides its age and proof, where there is anything of that kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Callable, Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.errors import LifeboatError, UnverifiedError, UsageError, printable
from ..base.text import named, several
from ..configuration import parts
from ..configuration import proof as configuration_proof
from ..configuration import restore as configuration_restore
from ..repository import catalog
from ..repository.base import Repository
from ..repository.components import CONFIG, DATABASE, DUMPS, FILES, KINDS, OBJECTS
from ..repository.details import (
    A_VAULT,
    IDENTITIES,
    UNKEPT,
    USES,
    ConfigDetails,
    DatabaseDetails,
    DumpsDetails,
    FilesDetails,
    HeldIdentities,
    ObjectsDetails,
)
from ..repository.manifest import Manifest
from ..settings.config import ELSEWHERE, Config
from ..tools import age

Judge = Callable[[Config, Repository, Manifest], Iterator[Check]]
_NAMES = 20  # buckets that a line of status names


def _database_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(DatabaseDetails)
    if not details.surveyed:  # the next one holds the server
        return
    words = ", ".join(named(dump.name) for dump in details.databases)
    spread = f", snapshots within {details.spread(manifest.taken_at):.1f} s" if details.additional else ""
    said = [f"{words}{spread}", *KINDS[DATABASE].notes(details)]
    yield Check("databases", PASS, "; ".join(said))


def _objects_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(ObjectsDetails)
    if lost := [unheld.key for held in details.buckets for unheld in held.unheld]:
        first = ", ".join(repr(key) for key in lost[:3])
        count = sum(held.in_no_backup for held in details.buckets)
        yield Check("objects in no backup", FAIL, f"the vault could not hold {count}: {first}")
    yield from _identities_judged(config, repo, manifest.id, details.identities)
    yield from _encryption_judged(details)
    yield from _lost_judged(details)
    if details.unprotected is None:  # the next one looks
        return
    names = [named(held.name) for held in details.buckets]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    words = [", ".join(names[:_NAMES]) + more, *(f"{gap.what}: {gap.why}" for gap in details.left)]
    if details.vaults:
        words.append(f"{several('bucket', details.vaults)}: {A_VAULT}, which no backup holds")
    yield Check("buckets", COULD_NOT_VERIFY if details.left else PASS, "; ".join(words))


def _encryption_judged(details: ObjectsDetails) -> Iterator[Check]:
    """Of objects that the store encrypts: does the vault? It is told, and no failure: that is a choice."""
    found = {held.name: held.properties for held in details.buckets if held.properties and held.properties.encrypted}
    total = sum(sum(one.encrypted.values()) for one in found.values())
    plain = {name: one.clear for name, one in found.items() if one.clear}
    if not total:
        return
    words = f"the vault encrypts its copies of the {total} objects that the store encrypts"
    if plain:
        first = [f"{count} of {named(name)}" for name, count in plain.items()]
        more = f" and of {len(first) - _NAMES} more buckets" if len(first) > _NAMES else ""
        words = (
            f"the vault holds the plain bytes of {sum(plain.values())} of the {total} objects that the store encrypts"
            f" ({', '.join(first[:_NAMES])}{more}); give its buckets a default encryption to change that for new copies"
        )
    yield Check("encryption", PASS, words)


def _lost_judged(details: ObjectsDetails) -> Iterator[Check]:
    """Headers that the vault does not keep. It is told, and no failure: a recovery gives those of the listing."""
    found = {held.name: held.properties.lost for held in details.buckets if held.properties and held.properties.lost}
    if found:
        first = [
            f"{', '.join(f'{name} of {count}' for name, count in sorted(lost.items()))} objects of {named(bucket)}"
            for bucket, lost in found.items()
        ]
        more = f" and in {len(first) - _NAMES} more buckets" if len(first) > _NAMES else ""
        words = f"the vault does not keep {'; '.join(first[:_NAMES])}{more}; a recovery gives what the listing has"
        yield Check("headers in the vault", PASS, words)


def _identities_judged(
    config: Config, repo: Repository, backup: str, identities: Optional[HeldIdentities]
) -> Iterator[Check]:
    """The users and keys of a store that is the stack's own."""
    api = config.objects.admin.api
    if not api and not config.objects.service:
        return
    name, unknown = IDENTITIES, ""
    if api == ELSEWHERE:
        yield Check(name, PASS, "not in any backup (lifeboat_objects.admin: elsewhere)")
        return
    if not api:
        unknown = UNKEPT
    elif identities is None or identities.api != api:
        unknown = f"{backup} was taken without them; take a new one: lifeboat backup objects"
    elif identities.problem:
        unknown = f"{backup} was taken without them: {identities.problem}"
    elif identities.uses:
        unknown = f"the {USES}: {', '.join(identities.uses[:3])}"
    else:
        unknown = _unsealed(config, repo)
    words = f"as with {backup}, sealed with the configuration"
    yield Check(name, COULD_NOT_VERIFY, unknown) if unknown else Check(name, PASS, words)


def _unsealed(config: Config, repo: Repository) -> str:
    """Why the copy of the identities is on this host alone; empty where a config backup has it."""
    alone = "the copy of them is on this host alone"
    try:
        good = catalog.good(catalog.entries(repo, CONFIG, config.stack)) if config.config.enabled else []
        listed = configuration_restore.listing(repo, good[-1].id, age.keys(config)) if good else {}
    except LifeboatError as exc:
        return f"whether a config backup has the copy of them could not be seen: {exc.cause}"
    path = str(config.identities)
    if path in listed:
        return ""
    if good and printable(path) in good[-1].detailed(ConfigDetails).left_out:
        return f"{alone}: {good[-1].id} was taken without a recipient (lifeboat_config.recipients)"
    return f"{alone}: the newest config backup does not have it; take one: lifeboat backup config"


def _config_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(ConfigDetails)
    wanted = sorted(config.encryption.recipients or config.config.recipients)
    if details.left_out:
        found = configuration_proof.left_out(config, details.left_out)
        result = FAIL if wanted else found.result  # one that has them can be taken now
        yield replace(found, name=f"config {found.name}", result=result)
    elif sorted(details.recipients) != wanted:
        words = f"{manifest.id} is sealed for other recipients than are configured; take a new one: "
        yield Check("config secrets", FAIL, words + "lifeboat backup config")
    elif wanted:
        rest = "" if manifest.encrypted else "; the rest is not encrypted, as of any backup of an earlier Lifeboat"
        yield Check("config secrets", PASS, f"{details.secrets} files, sealed for {len(wanted)} recipients{rest}")
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


def _files_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(FilesDetails)
    absent = sorted({source.name for source in config.files.sources} - set(details.sources))
    if absent:
        words = f"{', '.join(absent)}: in no backup yet; take one: lifeboat backup files"
        yield Check("files sources", COULD_NOT_VERIFY, words)
    problems = details.problems
    words = f"{sum(source.files for source in details.sources.values())} files of {', '.join(details.sources)}"
    yield Check("files read", FAIL, "; ".join(problems)) if problems else Check("files read", PASS, words)


def _dumps_judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    details = manifest.detailed(DumpsDetails)
    absent = sorted({source.name for source in config.dumps.sources} - set(details.sources))
    if absent:
        words = f"{', '.join(absent)}: in no backup yet; take one: lifeboat backup dumps"
        yield Check("dumps sources", COULD_NOT_VERIFY, words)


# The newest good backup -> what status says of it besides its age and proof.
JUDGEMENTS: dict[str, Judge] = {
    DATABASE: _database_judged,
    OBJECTS: _objects_judged,
    FILES: _files_judged,
    DUMPS: _dumps_judged,
    CONFIG: _config_judged,
}


def judged(config: Config, repo: Repository, manifest: Manifest) -> Iterator[Check]:
    judge = JUDGEMENTS.get(manifest.component)
    yield from judge(config, repo, manifest) if judge else ()
