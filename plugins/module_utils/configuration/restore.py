# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Out of a config backup: its listing, its files below a directory, its images into the engine.

Nothing here touches the live stack's files: the recovery places them.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Optional

from ..base import filesystem, pipeline, typed
from ..base.errors import IntegrityError, LifeboatError, Log, UsageError
from ..base.pipeline import Command
from ..repository.base import Repository
from ..repository.details import ConfigDetails, ImageInUse
from ..repository.manifest import Manifest, parse
from ..repository.sealing import VERSION
from ..tools import age, tar
from ..tools.tar import Entry
from . import parts

PLAIN = "config.tar.gz"
SECRETS = "secrets.tar.gz.age"
SECRET_LIST = "secrets.json.age"
LISTING = "files.json"
SCHEMA = "lifeboat.dr/files"
SECRETS_LIMIT = 64 << 20  # they are held in memory, so that none touches a disk in the clear
_LIST_LIMIT = 256 << 20


@dataclass(frozen=True)
class Extracted:
    """What was unpacked. entries: path on the lost host -> what it was. missing: secret paths that were not opened."""

    manifest: Manifest
    root: Path
    entries: Mapping[str, Entry]
    missing: tuple[str, ...] = ()

    def where(self, path: str) -> Path:
        """Where a file of the lost host lies now; links are followed as they would be there, never out of `root`."""
        done, rest, links = Path("/"), [part for part in path.split("/") if part], 0
        while rest:
            step = Path(os.path.normpath(done / rest.pop(0)))
            here = self.root / str(step).lstrip("/")
            if here.is_symlink():
                links += 1
                if links > 40:
                    raise IntegrityError("find the file", path, "too many links")
                step = Path(os.path.normpath(done / here.readlink()))
                done, rest = Path("/"), [*step.parts[1:], *rest]
            else:
                done = step
        return self.root / str(done).lstrip("/")


def read_manifest(repo: Repository, identity: str) -> Manifest:
    return parse(repo.manifest("config", identity), component="config", expected_id=identity)


def sealing(manifest: Manifest) -> age.Seal:
    """For whom all of a backup is encrypted; for nobody where only the secret files are, as in older ones."""
    return age.Seal(manifest.recipients, manifest.host_key) if manifest.encrypted else age.OPEN


@contextmanager
def artefact(repo: Repository, manifest: Manifest, name: str, keys: Optional[age.Keys] = None) -> Iterator[IO[bytes]]:
    """Yield one of a backup's own artefacts as it was before it was encrypted. name: as it is called if it is not."""
    seal, subject = sealing(manifest), f"{manifest.id}/{name}"
    with (
        repo.open("config", manifest.id, seal.named(name)) as source,
        (keys or age.keys_of()).stream(source, seal, subject=subject) as stream,
    ):
        yield stream


def listing(repo: Repository, identity: str, keys: Optional[age.Keys] = None) -> dict[str, Entry]:
    """Return every file of the backup by its path, sorted. Of secret ones no SHA-256 is told: it could be guessed at.

    keys: what opens it where it is encrypted. Raises NotFoundError, IntegrityError, NoKeyError, WrongKeyError.
    """
    manifest = read_manifest(repo, identity)
    with artefact(repo, manifest, LISTING, keys) as stream:
        raw = stream.read(_LIST_LIMIT)
    return parse_listing(raw, manifest.id)


@dataclass(frozen=True)
class _Listing:
    schema: str
    version: tuple[int, ...]
    files: tuple[object, ...]


def parse_listing(raw: bytes, subject: str) -> dict[str, Entry]:
    """It has no seal of its own: the manifest names its hash."""
    attempted, remedy = "read the listing", "Choose another backup (lifeboat list)."

    def wrong(field: str, cause: str) -> IntegrityError:
        return IntegrityError(attempted, subject, f"{field} {cause}".strip(), remedy)

    body = typed.build(_Listing, typed.load(raw, wrong), wrong, unknown="ignore")
    if (body.schema, body.version[:1]) != (SCHEMA, VERSION[:1]):
        raise UsageError(attempted, subject, "its schema is not one that this Lifeboat reads", "Upgrade Lifeboat.")
    found = [Entry.from_json(file, wrong, f"files[{number}]") for number, file in enumerate(body.files)]
    return {entry.path: entry for entry in sorted(found, key=lambda entry: entry.path)}


def extract(
    repo: Repository,
    identity: str,
    target: Path,
    *,
    keys: Optional[age.Keys] = None,
    site: bool = True,
    secrets: bool = True,
    log: Log,
) -> Extracted:
    """Unpack a backup below `target`, a directory that is made or empty: `/srv/shop/compose.yml` becomes
    `<target>/srv/shop/compose.yml`. Every file is compared with the listing.

    keys: what opens an encrypted backup. Without an identity that was given, or without `secrets`, the secret files
    stay sealed and are told in `missing`. Raises UsageError where the key is another's, IntegrityError where anything
    is not as it was written.
    """
    manifest, key = read_manifest(repo, identity), keys.identity if keys and secrets else ""
    entries = listing(repo, identity, keys)
    archives = (PLAIN, SECRETS, parts.NAMES[parts.SITE])
    wanted = {name: {path: entry for path, entry in entries.items() if entry.archive == name} for name in archives}
    built = wanted[parts.NAMES[parts.SITE]]
    with filesystem.explained("unpack the config backup", target):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise UsageError("unpack the config backup", str(target), "it is not empty", "Name another directory.")
    with artefact(repo, manifest, PLAIN, keys) as stream:
        tar.unpack(stream, target, wanted[PLAIN], f"{identity}/{PLAIN}")
    sealed = SECRETS in {artefact.name for artefact in manifest.artefacts}
    if sealed and key:
        opened = open_secrets(repo, manifest, key)
        if _without_digests(opened.entries) != _without_digests(wanted[SECRETS]):
            raise IntegrityError("unpack the config backup", identity, "the two listings of its secrets differ")
        tar.unpack(io.BytesIO(opened.data), target, opened.entries, f"{identity}/{SECRETS}")
        entries = {**entries, **opened.entries}
        log(f"{identity}: {len(opened.entries)} secret files unpacked")
    if site and built:
        with parts.opened(repo, manifest, parts.SITE, keys) as stream:
            tar.unpack(stream, target, built, f"{identity}/{parts.NAMES[parts.SITE]}")
    log(f"{identity}: unpacked into {target}")
    left = list(manifest.detailed(ConfigDetails).left_out)
    missing = left + ([] if key or not sealed else [path for path, item in entries.items() if item.secret])
    return Extracted(manifest, target, entries, tuple(sorted(set(missing))))


@dataclass(frozen=True)
class Opened:
    """The secrets, in memory: the archive's bytes and its listing."""

    data: bytes
    entries: Mapping[str, Entry]


def open_secrets(repo: Repository, manifest: Manifest, key: str) -> Opened:
    """Decrypt both secret artefacts to their end."""
    recipients = manifest.detailed(ConfigDetails).recipients
    plain = {}
    with filesystem.scratch("lifeboat-sealed-") as folder:  # age reads a file; what lies there is sealed
        for name in (SECRET_LIST, SECRETS):
            path, subject = Path(folder) / name, f"{manifest.id}/{name}"
            with repo.open("config", manifest.id, name) as source, filesystem.create(path) as sink:
                shutil.copyfileobj(source, sink, filesystem.CHUNK)
            plain[name] = age.decrypt_bytes(path, key, subject=subject, recipients=recipients, limit=2 * SECRETS_LIMIT)
    return Opened(plain[SECRETS], parse_listing(plain[SECRET_LIST], f"{manifest.id}/{SECRET_LIST}"))


def _without_digests(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries as the open listing has secret files: without a digest."""
    return {path: replace(entry, sha256="") for path, entry in entries.items()}


def load_images(
    repo: Repository, identity: str, *, keys: Optional[age.Keys] = None, log: Log, timeout: float = 3600
) -> dict[str, str]:
    """Put the backup's images into the engine under the names the services use. Returns service -> image id.

    Does nothing where they are all there. Raises NotFoundError where the backup holds none (lifeboat_config.images).
    A reference by digest (name@sha256:…) cannot be given to a loaded image: a registry must serve it.
    """
    manifest = read_manifest(repo, identity)
    used = manifest.detailed(ConfigDetails).images
    if _absent(used):
        with parts.opened(repo, manifest, parts.IMAGES, keys) as stream:
            log(f"{identity}: loading images")
            pipeline.run(
                [Command(["docker", "load", "--quiet"])],
                attempted="load the images", subject=identity, source=stream, timeout=timeout,
                remedy="Is the Docker Engine running, and is there space below /var/lib/docker?",
            )  # fmt: skip
    lost = sorted({image.id for image in used.values() if not _image_id(image.id)})
    if lost:
        raise IntegrityError("load the images", identity, f"they do not hold {', '.join(lost)}", "Choose another.")
    for reference, image in _absent(used).items():
        pipeline.output(Command(["docker", "tag", image, reference]), attempted="name the image", subject=reference)
    return {name: image.id for name, image in used.items()}


def _absent(used: Mapping[str, ImageInUse]) -> dict[str, str]:
    """reference -> image id, of those that the engine does not have under that name."""
    named = {item.reference: item.id for item in used.values() if "@" not in item.reference}
    lacking = {reference: image for reference, image in named.items() if _image_id(reference) != image}
    lacking.update({item.id: item.id for item in used.values() if "@" in item.reference and not _image_id(item.id)})
    return lacking


def _image_id(reference: str) -> str:
    status, out, err = pipeline.probe(Command(["docker", "image", "inspect", "--format", "{{.Id}}", reference]))
    if status and "No such image" not in err and "no such image" not in err:
        raise LifeboatError(
            "ask the engine for an image", reference, err.strip() or f"docker ended with {status}",
            "Is the Docker Engine running? `systemctl status docker`.",
        )  # fmt: skip
    return out.strip()
