# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of what rebuilds the stack: files, secrets (sealed by age), images, git mirrors, the built site.

config.tar.gz        files that hold no secret, as far as anybody can judge
secrets.tar.gz.age   those that may not, and only where there are recipients
secrets.json.age     what is in it, with hashes; files.json has the same without them, as a hash can be guessed at
files.json           every file of both, and of the site
images.tar.gz, site.tar.gz, git/<name>.bundle    the large parts, only where they differ from an earlier backup's

With recipients, of all components or of this one, each of the others ends in .age too, so that no list decides what a
reader of backups sees. The host's own key opens these, and no secret file.
"""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ..base import filesystem, pipeline, typed
from ..base.errors import LifeboatError, Log, NotFoundError, printable
from ..base.filesystem import STALE
from ..base.text import human
from ..base.version import VERSION
from ..recovery import state as recovery_state
from ..repository import catalog, repositories
from ..repository.base import Repository
from ..repository.details import ConfigDetails, ImageInUse, Part
from ..repository.manifest import Artefact, Manifest
from ..repository.sealing import VERSION as SCHEMA_VERSION
from ..settings import config as configuration
from ..settings.config import Config
from ..stack import mounts, runtime
from ..stack.runtime import Opened
from ..tools import age, tar
from ..tools.tar import Entry, Packer
from . import files, judge, parts, scanner
from .files import Selection
from .parts import GIT, IMAGES, SITE
from .restore import LISTING, PLAIN, SCHEMA, SECRET_LIST, SECRETS, SECRETS_LIMIT

_STATE = 16 << 10  # bytes of what the stack mounts, of the 64 KiB of details that a keeper takes


def take(run: Opened, *, log: Log, directory: Path = configuration.DIRECTORY) -> Manifest:
    """Take one backup of the stack's configuration and publish it. The caller holds the stack's lock.

    Raises LifeboatError; whatever fails, nothing is published and earlier backups stay as they were. A file that could
    not be read stops nothing: the manifest names it, and `lifeboat status` fails.
    """
    config = run.config
    recovery_state.refuse_while_unfinished(config, "start a backup", (recovery_state.RECOVERING_CONFIG,))
    started, taken_at = time.monotonic(), datetime.now(timezone.utc)
    repo = repositories.repository_of(run)
    repo.check(writable=True)
    repo.sweep(older_than=STALE, now=taken_at)
    wanted = files.select(config, run.runtime, directory)
    earlier = catalog.entries(repo, "config", config.stack)
    identity = catalog.free_id(repo, "config", taken_at)
    inventory = mounts.inventory(run)
    seal = age.sealing(config, log, config.config.recipients)
    with repo.stage("config", identity) as staging, filesystem.explained("write the backup", staging.path):
        work = _Work(config, repo, earlier, identity, staging.path, log, seal)
        details, images = work.files(wanted), work.images(run.runtime)
        for repository in config.config.repositories:
            work.git(repository)
        work.site()
        work.listing()
        seconds = round(time.monotonic() - started, 2)
        details = replace(
            details, images=images, site=work.site_facts, parts=work.parts, notes=tuple(wanted.notes), seconds=seconds,
            state=inventory.limited(_STATE) if inventory else None,
        )  # fmt: skip
        manifest = Manifest(
            id=identity, component="config", stack=config.stack, taken_at=taken_at,
            finished_at=datetime.now(timezone.utc), tool={"lifeboat": VERSION}, details=typed.plain(details),
            artefacts=tuple(sorted(work.artefacts, key=lambda artefact: artefact.name)),
        )  # fmt: skip
        manifest = repositories.publish(run, manifest, staging.publish)
    log(f"{identity}: published, {human(manifest.size)} in {seconds} s")
    return manifest


class _Work:
    """One backup in the making: what was written so far."""

    def __init__(
        self, config: Config, repo: Repository, earlier: Sequence[catalog.Entry], identity: str, folder: Path, log: Log,
        seal: age.Seal,
    ) -> None:  # fmt: skip
        self.artefacts: list[Artefact] = []
        self.parts: dict[str, Part] = {}
        self.site_facts: dict[str, object] = {}
        self._entries: dict[str, Entry] = {}
        self._config, self._repo, self._earlier, self._seal = config, repo, earlier, seal
        self._identity, self._folder, self._log = identity, folder, log
        # What a backup must not swallow: the backups.
        self._never = {filesystem.real(str(name)) for name in (config.state, config.backup_directory) if name}

    def files(self, selection: Selection) -> ConfigDetails:
        """Pack the plain and the secret files. A named secret below a named directory is taken for a secret only."""
        recipients = self._config.config.recipients
        secret_paths = {tar.followed(name)[0] for name in selection.secret}
        also = scanner.scan(selection.plain, self._log, never=self._never)
        plain, made = self._pack(
            PLAIN,
            dict.fromkeys(selection.plain),
            [
                *selection.bare,
                *files.above(
                    [*selection.plain, *selection.secret, *filter(None, [self._config.config.site_directory])]
                ),
            ],
            exclude=secret_paths,
            keep_out=judge.secret_filter(self._config, selection.read, also),
        )
        self.artefacts.append(made)
        self._list(plain.entries, PLAIN)
        packed, left = plain, list(dict.fromkeys([*selection.secret, *plain.withheld]))
        for path in plain.withheld:
            self._log(f"{self._identity}: {printable(path)} looks like a secret and is treated as one")
        if recipients:
            packed, left = self._secrets(left), []
        elif left:
            why = "kept elsewhere" if self._config.config.secrets == "elsewhere" else "no recipient is configured"
            self._log(f"{self._identity}: {why}: {len(left)} secret files are left out")
        return ConfigDetails(
            host=socket.gethostname(), files=len(plain.entries), bytes=plain.size, host_key=self._seal.host,
            recipients=self._seal.recipients,
            secrets=0 if left else sum(entry.secret and entry.type == tar.FILE for entry in self._entries.values()),
            left_out=tuple(sorted(map(printable, left))), compose_files=tuple(selection.compose),
            skipped={printable(path): why for path, why in {**plain.skipped, **packed.skipped}.items()},
            torn=tuple(sorted(map(printable, {*plain.torn, *packed.torn}))),
        )  # fmt: skip

    def _pack(
        self, name: str, paths: Iterable[str], bare: Iterable[str] = (), *, exclude: Iterable[str] = (),
        keep_out: Optional[tar.KeepOut] = None,
    ) -> tuple[tar.Packed, Artefact]:  # fmt: skip
        stored = self._seal.named(name)
        with filesystem.create(self._folder / stored) as raw:
            writer = pipeline.HashingWriter(raw)
            with self._seal.writing(writer, subject=f"{self._identity}/{name}") as sink, Packer(
                sink, limit=self._config.config.limit_mb << 20, exclude={*self._never, *exclude}, known=self._entries,
                keep_out=keep_out,
            ) as packer:  # fmt: skip
                for path in bare:
                    packer.add(path, content=False)
                for path in paths:
                    packer.add(path)
        return packer.packed, Artefact(stored, writer.size, writer.sha256)

    def _secrets(self, paths: Sequence[str]) -> tar.Packed:
        """Packed in memory and sealed on its way to the disk."""
        buffer = io.BytesIO()
        with Packer(buffer, limit=SECRETS_LIMIT, in_memory=True, exclude=self._never, known=self._entries) as packer:
            for path in paths:
                packer.add(path)
        self._list(packer.packed.entries, SECRETS, secret=True)
        listed = _listing(entry for entry in self._entries.values() if entry.archive == SECRETS)
        for name, data in ((SECRETS, buffer.getvalue()), (SECRET_LIST, listed)):
            with filesystem.create(self._folder / name) as raw:
                writer = pipeline.HashingWriter(raw)
                recipients, subject = self._config.config.recipients, f"{self._identity}/{name}"
                age.encrypt(io.BytesIO(data), recipients, writer, subject=subject)
            self.artefacts.append(Artefact(name, writer.size, writer.sha256))
        return packer.packed

    def images(self, stack: runtime.Runtime) -> dict[str, ImageInUse]:
        used = parts.images_in_use(stack)
        key = parts.images_key(used)
        if self._config.config.images == "archive" and used and not self._reused(IMAGES, key):
            self._log(f"{self._identity}: saving {len(used)} services' images")
            target = self._folder / parts.artefact_name(IMAGES, self._seal)
            self._keep(IMAGES, key, parts.save_images(used, target, self._config.timeout, self._seal))
        return used

    def git(self, repository: configuration.GitRepository) -> None:
        name = f"{GIT}{repository.name}"
        refs = parts.git_heads(repository, self._config)
        if not refs:
            remedy = "Take it out of lifeboat_config.repositories until it has."
            raise NotFoundError("bundle the git repository", repository.name, "it has no commit yet", remedy)
        key = parts.git_key(refs)
        if not self._reused(name, key):
            target = self._folder / parts.artefact_name(name, self._seal)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            with filesystem.scratch("lifeboat-made-git-") as scratch:
                made = parts.bundle(repository, self._config, target, Path(scratch), self._seal)
            self._keep(name, key, made)

    def site(self) -> None:
        """The built frontend. Its key is what it consists of, so it is packed to know it."""
        root = self._config.config.site_directory
        if not root:
            return
        name = parts.NAMES[SITE]
        packed, made = self._pack(name, [root])
        if not any(entry.type == tar.FILE for entry in packed.entries.values()) or packed.skipped:
            why = (
                "; ".join(f"{printable(path)}: {words}" for path, words in packed.skipped.items()) or "there is no file"
            )
            raise LifeboatError("back up the built site", root, why, "Correct lifeboat_config.site_directory.")
        self._list(packed.entries, name)
        commit = parts.site_commit(self._config)
        self.site_facts = {"directory": root, "commit": commit, "files": len(packed.entries)}
        plain = [entry.same for _name, entry in sorted(packed.entries.items())]
        key = filesystem.sha256(json.dumps([commit, plain]).encode())
        if self._reused(SITE, key):
            (self._folder / made.name).unlink()
        else:
            self._keep(SITE, key, made)

    def listing(self) -> None:
        open_ = [replace(entry, sha256="") if entry.secret else entry for entry in self._entries.values()]
        name = self._seal.named(LISTING)
        with filesystem.create(self._folder / name) as raw:
            writer = pipeline.HashingWriter(raw)
            self._seal.write(_listing(open_), writer, subject=f"{self._identity}/{LISTING}")
        self.artefacts.append(Artefact(name, writer.size, writer.sha256))

    def _reused(self, name: str, key: str) -> bool:
        """Return whether an earlier backup has the part as it is; if so, refer to that backup."""
        part = parts.holder(self._earlier, name, key, self._seal.recipients)
        if part and self._beyond_proof(part):
            words = f"no key here opens that of {part.backup}, which was never verified"
            self._log(f"{self._identity}: {name} is kept again: {words}")
            return False
        if part:
            self._log(f"{self._identity}: {name} is as in {part.backup}")
            self.parts[name] = part
        return part is not None

    def _beyond_proof(self, part: Part) -> bool:
        """Would this host, which has a key of its own, not be able to verify that part of its backup? So it is with
        what another machine kept, and a recovery fetched."""
        if not self._seal.host or not part.host_key or age.HostKeys(self._config.state).text((part.host_key,)):
            return False
        return not any(entry.id == part.backup and catalog.proved(entry) for entry in self._earlier)

    def _keep(self, name: str, key: str, artefact: Artefact) -> None:
        recipients, host = self._seal.recipients, self._seal.host
        self.parts[name] = Part(self._identity, artefact.name, key, artefact.size, artefact.sha256, recipients, host)
        self.artefacts.append(artefact)

    def _list(self, entries: dict[str, Entry], name: str, *, secret: bool = False) -> None:
        self._entries.update({path: replace(entry, archive=name, secret=secret) for path, entry in entries.items()})


def _listing(entries: Iterable[Entry]) -> bytes:
    files = [entry.as_dict() for entry in sorted(entries, key=lambda item: item.path)]
    body = {"schema": SCHEMA, "version": list(SCHEMA_VERSION), "files": files}
    return (json.dumps(body, indent=1) + "\n").encode()  # in ASCII: a name need not be UTF-8
