# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a config backup beyond its checksums.

archive: every archive is read to its end and is what the listing says; every git bundle is whole; what is sealed has
the header of an age file for as many recipients as the manifest names. restore: it is unpacked, bundles are cloned,
and Compose reads the project from what was unpacked. Whether the escrowed key opens what is sealed only
`lifeboat escrow` can tell: no key is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from ..base import filesystem, pipeline
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, compared, ended
from ..base.errors import LifeboatError, Log, unable
from ..base.pipeline import Command
from ..repository import catalog, checksums
from ..repository.base import Repository
from ..repository.details import ConfigDetails, Part
from ..repository.manifest import Manifest
from ..settings.config import Config
from ..stack.compose import ALONE, MOST_MEMORY
from ..tools import age, tar
from ..tools.tar import Entry
from . import parts as configuration_parts
from . import restore
from .parts import GIT, IMAGES, NAMES, SITE
from .restore import PLAIN, SECRET_LIST, SECRETS, Extracted


def levels(
    config: Config, repo: Repository, manifest: Manifest, level: str, log: Log, key: str = ""
) -> Iterator[Check]:
    """Yield the checks of `archive`, and of `restore` where asked for, which is not begun when the former failed.

    key: the identity that was given to open an encrypted backup; of its secret files only what needs none is checked.
    """
    log(f"{manifest.id}: reading the archives back")
    found, keys = [], age.keys(config, key)
    for check in _archive(config, repo, manifest, keys):
        yield check
        found.append(check)
    if level == "restore" and all(item.result == PASS for item in found):
        yield from _restored(config, repo, manifest, keys, log)


def _archive(config: Config, repo: Repository, manifest: Manifest, keys: age.Keys) -> Iterator[Check]:
    listed = restore.listing(repo, manifest.id, keys)
    parts = configuration_parts.parts_of(manifest)
    for part in parts.values():
        if part.backup != manifest.id:
            yield held_elsewhere(repo, part)
    with restore.artefact(repo, manifest, PLAIN, keys) as stream:
        yield _tar(listed, manifest, PLAIN, stream)
    readable = [name for name, part in parts.items() if _opens(manifest, part, keys)]
    if SITE in readable:
        with configuration_parts.opened(repo, manifest, SITE, keys) as stream:
            yield _tar(listed, manifest, NAMES[SITE], stream)
    if IMAGES in readable:
        yield _images(repo, manifest, keys)
    for name in readable:
        if name.startswith(GIT):
            yield _bundle(repo, manifest, name, parts[name], keys)
    for name in parts:
        if name not in readable:
            yield _proved_before(repo, name, parts[name])
    yield _sealed(config, repo, manifest)


def _opens(manifest: Manifest, part: Part, keys: age.Keys) -> bool:
    """Can the part be read here? Of one that an earlier backup keeps, the host's key of that week is gone."""
    own = part.backup == manifest.id or not part.recipients
    return own or bool(keys.identity or keys.host.text((*part.recipients, part.host_key)))


def _proved_before(repo: Repository, name: str, part: Part) -> Check:
    """A part that no key here opens: its bytes are those that were read when the backup that keeps it was proved."""
    what = f"archive {name}"
    good = catalog.proved(catalog.entry(repo, "config", part.backup))
    if good:
        return Check(what, PASS, f"it was read when {part.backup} was proved ({good}), and has the bytes of then")
    words = (
        f"no key on this host opens what {part.backup} keeps, which was never verified: lifeboat verify --identity FILE"
    )
    return Check(what, COULD_NOT_VERIFY, words)


def _tar(listed: Mapping[str, Entry], manifest: Manifest, name: str, stream: IO[bytes]) -> Check:
    wanted = {path: entry for path, entry in listed.items() if entry.archive == name}
    read = tar.read(stream, f"{manifest.id}/{name}")
    return compared(f"archive {name}", tar.differences(read, wanted, name), f"{len(wanted)} files, as listed")


def held_elsewhere(repo: Repository, part: Part) -> Check:
    """A part that an earlier backup keeps is this one's too: it must be there, every byte of it."""
    name = f"part {part.artefact}"
    wrong = configuration_parts.problem(repo, part)
    if wrong:
        return Check(name, FAIL, wrong)
    with repo.open("config", part.backup, part.artefact) as stream:
        same = checksums.artefact_of(stream, part.artefact).sha256 == part.sha256
    other = [] if same else [f"{part.backup}: it has another SHA-256 than when it was written"]
    return compared(name, other, f"held by {part.backup}, {part.size} bytes")


def _images(repo: Repository, manifest: Manifest, keys: age.Keys) -> Check:
    """`docker save` writes a tar of plain files, its manifest.json among them."""
    name = NAMES[IMAGES]
    with configuration_parts.opened(repo, manifest, IMAGES, keys) as stream:
        read = tar.read(stream, f"{manifest.id}/{name}")
    lacks = [] if "/manifest.json" in read else ["there is no manifest.json of docker save in it"]
    return compared(f"archive {name}", lacks, f"{len(read)} files, read to the end")


def _bundle(repo: Repository, manifest: Manifest, name: str, part: Part, keys: age.Keys) -> Check:
    with filesystem.scratch("lifeboat-bundle-") as scratch:
        path = Path(scratch) / "one.bundle"
        configuration_parts.fetch(repo, manifest, name, path, keys)
        heads = configuration_parts.bundle_heads(path)
    wrong = [] if configuration_parts.git_key(heads) == part.key else ["its refs are not those of when it was made"]
    return compared(f"bundle {name}", wrong, f"whole, {len(heads.splitlines())} refs")


def left_out(config: Config, left: Sequence[str]) -> Check:
    """Return what status and a verification say of secret files that are in no backup."""
    named = f"{len(left)} files are in no backup: {', '.join(left[:3])}{', …' if len(left) > 3 else ''}"
    if config.config.secrets == "elsewhere":
        return Check("secrets", PASS, f"{named} (lifeboat_config.secrets: elsewhere)")
    remedy = "name a key in lifeboat_config.recipients, or say secrets: elsewhere"
    if config.config.recipients:
        remedy = "it was taken when there was no recipient; take a new one: lifeboat backup config"
    return Check("secrets", COULD_NOT_VERIFY, f"{named}; {remedy}")


def _sealed(config: Config, repo: Repository, manifest: Manifest) -> Check:
    """Only what can be known without the key."""
    details = manifest.detailed(ConfigDetails)
    recipients = details.recipients
    if details.left_out:
        return left_out(config, details.left_out)
    if SECRETS not in {artefact.name for artefact in manifest.artefacts}:
        return Check("secrets", PASS, "there are none to keep")
    wrong = []
    for name in (SECRETS, SECRET_LIST):
        with repo.open("config", manifest.id, name) as stream:
            kinds = age.stanzas(stream, f"{manifest.id}/{name}")
        if len(kinds) != len(recipients):
            wrong.append(f"{name} is sealed for {len(kinds)} recipients, the manifest names {len(recipients)}")
    words = f"sealed for {len(recipients)} recipients; `lifeboat escrow` proves that the key opens it"
    return compared("secrets", wrong, words)


def _restored(config: Config, repo: Repository, manifest: Manifest, keys: age.Keys, log: Log) -> Iterator[Check]:
    readable = [name for name, part in configuration_parts.parts_of(manifest).items() if _opens(manifest, part, keys)]
    with filesystem.scratch("lifeboat-verify-") as scratch:
        try:
            # The secret files stay sealed, also where their key was given: they are not written to a disk.
            out = restore.extract(
                repo, manifest.id, scratch / "files", keys=keys, site=SITE in readable, secrets=False, log=log
            )
        except LifeboatError as exc:
            yield ended("restore", exc)
            return
        sealed = sum(path in out.entries for path in out.missing)
        words = f"{len(out.entries) - sealed} files unpacked and compared; {sealed} are sealed"
        yield Check("restore", PASS, words)
        for name in readable:
            if name.startswith(GIT):
                yield _cloned(config, repo, manifest, name, keys, scratch)
        if manifest.detailed(ConfigDetails).compose_files:
            yield _parsed(config, manifest, out)


def _cloned(config: Config, repo: Repository, manifest: Manifest, name: str, keys: age.Keys, scratch: Path) -> Check:
    path, clone = scratch / "one.bundle", scratch / "clone.git"
    configuration_parts.fetch(repo, manifest, name, path, keys)
    try:
        command = Command(["git", "clone", "--quiet", "--mirror", str(path), str(clone)])
        pipeline.output(command, attempted="clone the bundle", subject=name)
        command = Command(["git", "-C", str(clone), "fsck", "--full", "--no-dangling"])
        pipeline.output(command, attempted="check the clone", subject=name, timeout=config.timeout)
    except LifeboatError as exc:
        return ended(f"clone {name}", configuration_parts.git_error(exc, path, scratch))
    finally:
        filesystem.remove(clone)
        filesystem.remove(path)
    return Check(f"clone {name}", PASS, "cloned, git fsck finds it whole")


def _parsed(config: Config, manifest: Manifest, out: Extracted) -> Check:
    """Does Compose read the project from the backup alone? What is sealed or left out is empty: only names matter."""
    name = "compose project"
    with filesystem.explained("stand in for what is sealed", out.root):
        for path in out.missing:
            place = out.where(path)
            listed = out.entries.get(path)
            directory = listed is not None and listed.type == tar.DIRECTORY
            (place if directory else place.parent).mkdir(parents=True, exist_ok=True)
            if not directory and not place.exists():
                place.touch()
    files = manifest.detailed(ConfigDetails).compose_files
    project = config.runtime.project_directory or str(Path(files[0]).parent)
    words = ["docker", "compose", "--project-directory", str(out.where(project))]
    for file in files:
        words += ["--file", str(out.where(file))]
    words += ["config", "--no-interpolate", "--quiet"]
    status, _out, err = pipeline.probe(Command(words, ALONE, memory=MOST_MEMORY))
    said = err.strip().splitlines()
    if status and (unable(status) or pipeline.probe(Command(["docker", "compose", "version"]))[0]):
        return Check(name, COULD_NOT_VERIFY, said[-1] if said else f"docker ended with {status}")
    wrong = [] if status == 0 else [(said[-1] if said else f"exit {status}").replace(str(out.root), "")]
    return compared(name, wrong, f"Compose reads it from the backup alone: {', '.join(files)}")
