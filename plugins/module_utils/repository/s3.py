# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository in an S3 bucket, on any server that speaks S3.

S3 cannot rename, so artefacts go straight to their final keys; without the manifest, sent last, they are not a backup.
An upload counts when the server gives back the size sent and an ETag that is the MD5 of the parts sent. Servers that
make other ETags (encryption, gateways) are believed only after the object was read back and its SHA-256 is right.

A run that publishes first writes `claim.json` below the id, which the server refuses where there is one
(`If-None-Match: *`), and then a claim of a name of its own. On a server that ignores the condition each of two runs
finds the other's claim there, and gives up. With the id claimed, the names below it are this run's alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import re
import secrets as token
import shutil
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import BinaryIO, Callable, NamedTuple, Optional

from ..base import clock, filesystem, typed
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..base.filesystem import explained, plain_name
from ..s3.client import DENIED, UNSUPPORTED, Client, code, connect, open_object, purge, status, translated_errors
from . import base, checksums
from .base import (
    CLAIM,
    ID,
    MANIFEST,
    NOTE,
    PARTIAL,
    POINT_ID,
    POINTS,
    RECORDS,
    Altered,
    Hidden,
    Repository,
    Staging,
    TakenError,
)
from .components import GROWING
from .manifest import Artefact

DAMAGED = "damaged"  # what was found in a copy that was sent again, where the bucket keeps no versions
STAGING = Path("/var/lib/lifeboat/staging")
_CHECK = ".check-"
CHECK = re.compile(rf"(?:^|(?<=/)){re.escape(_CHECK)}[0-9a-f]{{8}}$")
_PART = 16 << 20  # bytes; four are on their way at once, so this bounds the memory used
_TWO_STACKS = "Two stacks with one place? Set lifeboat_vault.prefix to a name of its own for each."
_FOR_OWNER = {"ACL": "bucket-owner-full-control"}
_NEW = "claim"  # user metadata of what is written only where nothing of its name is, and by which run
_PARTS = 9000  # S3 allows 10,000 parts of up to 5 GiB


class S3Repository(Repository):
    """Backups under `prefix` of a bucket, which must exist. `staging_root` needs room for one backup."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        endpoint_url: str = "",
        region: str = "",
        access_key: str = "",
        secret_key: str = "",
        ca_bundle: str = "",
        folders: Mapping[str, str] = MappingProxyType({}),
        staging_root: Path = STAGING,
    ) -> None:
        super().__init__(folders)
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        if not bucket or "/" in bucket:
            raise base.bad_setting("bucket", bucket, "it must be the name of a bucket")
        if self.prefix:
            plain_name(self.prefix)
        if not staging_root.is_absolute():
            raise base.bad_setting("staging_root", str(staging_root), "it must be an absolute path")
        if not access_key or not secret_key:
            raise base.bad_setting("s3_access_key, s3_secret_key", "", "the secrets lack one of them")
        self.staging_root = staging_root
        self._connect = functools.partial(connect, endpoint_url, region, access_key, secret_key, ca_bundle)
        self._endpoint = endpoint_url
        self._conditional: Optional[bool] = None  # whether the server heeds If-None-Match; not tried yet
        self._for_owner: Optional[bool] = None  # whether the server takes what _put_for_owner() says; not tried yet

    @functools.cached_property
    def client(self) -> Client:
        found = self._connect()
        # put_object(IfNoneMatch=) is of botocore 1.35; the core runs with older ones.
        found.meta.events.register("before-call.s3.PutObject", _only_new)
        return found

    @property
    def race(self) -> str:
        if self._conditional is not False:
            return ""
        return (
            f"s3://{self.bucket} at {self._endpoint or 'Amazon S3'}: the server ignores If-None-Match, so two runs with"
            " one id see each other only by listing the bucket, and a race is possible"
        )

    @property
    def address(self) -> str:
        return f"{self._url(self.prefix)} at {self._endpoint or 'Amazon S3'}"

    def location(self, component: str, id: str) -> str:
        return self._url(self._key(*self._backup(component, id)))

    def ids(self, component: str) -> list[str]:
        # Servers that keep objects in a file system (SeaweedFS) go on listing a prefix after its last object is gone.
        return self._those(component, lambda key: next(self._objects(key + "/"), None))

    def published(self, component: str) -> list[str]:
        return self._those(component, lambda key: self._head(f"{key}/{MANIFEST}"))

    def _unpublished(self, key: str) -> Optional[bool]:
        """True where it is certain that there is no manifest; an error is no answer."""
        try:
            return self._head(f"{key}/{MANIFEST}") is None or None
        except LifeboatError:
            return None

    def _those(self, component: str, ask: Callable[[str], object]) -> list[str]:
        """The ids of which `ask`, given the key, finds something."""
        folder, found = self._folder(component), []

        def add(id: str) -> None:
            if ask(self._key(folder, id)) is not None:
                found.append(id)

        filesystem.parallel(add, filter(ID.fullmatch, self._names(folder, directories=True)), workers=8)
        return sorted(found)

    @contextlib.contextmanager
    def stage(self, component: str, id: str) -> Iterator[Staging]:
        self.require_ours(make=True)
        self._refuse_existing(component, id)
        with self._scratch(id) as path:
            with explained("begin the backup", path):
                path.mkdir(mode=0o700, parents=True)
            yield Staging(path, lambda path, manifest: self._publish(path, component, id, manifest))

    @contextlib.contextmanager
    def _scratch(self, id: str) -> Iterator[Path]:
        """A path in the staging directory; what is there afterwards is removed."""
        path = self.staging_root / f"{PARTIAL}{id}-{token.token_hex(4)}"
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _publish(self, path: Path, component: str, id: str, manifest: bytes) -> None:
        with explained("publish the backup", path):
            base.refuse_reserved(path)
            filesystem.seal(path)
            names = filesystem.relative_files(path)
        self._refuse_existing(component, id)
        key = self._key(*self._backup(component, id))
        sent: list[str] = []

        def send(name: str) -> None:
            sent.append(f"{key}/{name}")
            self._send(path / name, f"{key}/{name}", self._facts(path / name))

        with self._claimed(key, token.token_hex(8)):
            self._refuse_existing(component, id)
            try:
                filesystem.parallel(send, names)
                if not self._put_new(f"{key}/{MANIFEST}", manifest):
                    raise base.exists(self._url(key))
            except LifeboatError:
                with contextlib.suppress(LifeboatError):
                    self._undo(f"{key}/{MANIFEST}", manifest, sent)
                raise

    def _undo(self, key: str, manifest: bytes, sent: Sequence[str]) -> None:
        """Remove what this run wrote below an id that it has claimed; another's manifest, and all with it, stays.

        The manifest first: perhaps it arrived and only the answer was lost. Delete markers where there are versions:
        an earlier backup of that id may have some below these names.
        """
        if self._head(key) is not None:
            if not self._holds(key, _facts(manifest)):
                return
            self._drop(key)
        filesystem.parallel(self._drop, sent, workers=8)

    @contextlib.contextmanager
    def _claimed(self, key: str, run: str, *, resumed: bool = False) -> Iterator[None]:
        """Keep other runs from writing below that id meanwhile. TakenError where one does.

        run: 16 hexadecimal digits. resumed: a later run with the same ones goes on with what this one leaves if it
        fails, so that the claim then stays; it is swept with the rest.
        """
        claim, own = f"{key}/claim.json", f"{key}/claim-{run}.json"
        mine = json.dumps({"run": run}).encode()
        if not self._put_new(claim, mine):
            raise base.exists(self._url(key), base.OR_COMING)
        try:
            if self._conditional is None:  # once more: a server that heeds the condition refuses this
                self._conditional = not self._written_if_new(claim, mine)
            self._put(own, mine)
            if set(self._claims(key)) - {claim, own}:
                raise base.exists(self._url(key), base.OR_COMING)
            yield
        except LifeboatError as exc:
            if not resumed or isinstance(exc, TakenError):
                self._release(claim, own, mine)
            raise
        self._release(claim, own, mine)

    def _release(self, claim: str, own_key: str, mine: bytes) -> None:
        """A claim that stays hinders nobody: a backup of that id is there, or its leftovers are."""
        with contextlib.suppress(LifeboatError):
            self._drop(own_key)
            if self._holds(claim, _facts(mine)):
                self._drop(claim)

    def _claims(self, key: str) -> list[str]:
        return [item.key for item in self._objects(f"{key}/claim") if CLAIM.fullmatch(item.key[len(key) + 1 :])]

    def files(self, component: str, id: str) -> dict[str, int]:
        found = self._contents(component, id)
        return {name: size for name, size in found.items() if self._artefact(component, name)}

    def _begin(self, parts: tuple[str, ...]) -> None:
        """Nothing: a bucket has no directories."""

    def _contents(self, component: str, id: str) -> dict[str, int]:
        key = self._key(*self._backup(component, id)) + "/"
        found = {item.key[len(key) :]: item.size for item in self._objects(key)}
        if not found:
            raise NotFoundError(
                "find the backup", self.location(component, id), "it is not there", "Choose another (lifeboat list)."
            )
        return found

    @contextlib.contextmanager
    def materialise(self, component: str, id: str) -> Iterator[Path]:
        with self._scratch(id) as path:
            self.fetch(component, id, path)
            yield path

    def delete(self, component: str, id: str) -> list[str]:
        self.require_ours()
        self.files(component, id)  # raises where there is nothing
        return self._erase(self._key(*self._backup(component, id)))

    keeps_versions = True

    def hide(self, component: str, id: str) -> list[str]:
        self.require_ours()
        self.files(component, id)  # raises where there is nothing
        self._cover(self._key(*self._backup(component, id)))
        return []

    def hide_point(self, id: str) -> list[str]:
        return super().delete_point(id)

    def delete_point(self, id: str) -> list[str]:
        super().delete_point(id)
        return purge(self.client, self.bucket, self._key(POINTS, f"{id}.json"), exact=True)

    def remove_hold(self, id: str) -> None:
        super().remove_hold(id)
        purge(self.client, self.bucket, self._key(base.HOLDS, f"{id}.json"), exact=True)

    def _cover(self, key: str) -> None:
        self._drop(f"{key}/{MANIFEST}")
        filesystem.parallel(self._drop, [item.key for item in self._objects(key + "/")], workers=8)

    def _erase(self, key: str) -> list[str]:
        self._cover(key)
        return self._purge(key + "/")

    def _purge(self, prefix: str) -> list[str]:
        """Returns what stays and why. Old versions of claims hold nothing of a backup, and are not told."""
        stays = purge(self.client, self.bucket, prefix, exact=not prefix.endswith("/"))
        return [line for line in stays if not CLAIM.fullmatch(line.partition(": ")[0].rpartition("/")[2])]

    def marks(self, component: str, id: str) -> dict[str, Mark]:
        """What the server says of the bytes of all that a backup has there, artefacts, manifest and records; what was
        overwritten has another mark. Reads none of them. The notes of what grew are not among them."""
        found = self._marks(self._key(*self._backup(component, id)) + "/")
        return {name: mark for name, mark in found.items() if not _is_note(component, name)}

    def point_marks(self) -> dict[str, Mark]:
        """The same of each recovery point, by its id."""
        found = self._marks(self._key(POINTS) + "/")
        named = {name[: -len(".json")]: mark for name, mark in found.items() if name.endswith(".json")}
        return {id: mark for id, mark in named.items() if POINT_ID.fullmatch(id)}

    def _marks(self, prefix: str) -> dict[str, Mark]:
        found = {item.key[len(prefix) :]: Mark(item.size, item.etag) for item in self._objects(prefix)}
        return {name: mark for name, mark in found.items() if not CLAIM.fullmatch(name)}

    def replace_point(self, id: str, data: bytes) -> None:
        """Put a recovery point in the place of another of its name, which is kept as in receive()."""
        self.require_ours(make=True)
        key = self._key(POINTS, f"{id}.json")
        self._keep(key)
        self._put(key, data)

    def receive(
        self, component: str, id: str, folder: Path, artefacts: Mapping[str, str], manifest: bytes, ours: bool = False
    ) -> int:
        """Take a copy of a backup whose artefacts, name -> SHA-256, lie in `folder`. Returns the bytes sent.

        What a killed copy left is gone on with: what arrived whole is not sent again. The manifest comes last.
        Of a copy that was complete a damaged object is replaced and kept: as a version, or aside where there are none.
        ours: this very backup was sent before, so that another manifest in its place is damage too, and no other
        stack's backup.
        """
        self.require_ours(make=True)
        key = self._key(*self._backup(component, id))
        if self._head(f"{key}/{MANIFEST}") is not None:
            return self._bring(component, key, folder, artefacts, manifest, ours)
        try:
            with self._claimed(key, filesystem.sha256(manifest)[:16], resumed=True):
                return self._bring(component, key, folder, artefacts, manifest, ours)
        except TakenError as exc:
            raise IntegrityError("copy the backup", self._url(key), exc.cause, _TWO_STACKS) from exc

    def _bring(
        self, component: str, key: str, folder: Path, artefacts: Mapping[str, str], manifest: bytes, ours: bool
    ) -> int:
        """Send what is not there as it should be. With no manifest there the id is claimed. Notes without a manifest
        may be some of those that there were: they go, as a copy has all of them or none."""
        there = set(self._marks(key + "/"))
        if MANIFEST in there:
            there = {name for name in there if not _is_note(component, name)}
        other = MANIFEST in there and not self._holds(f"{key}/{MANIFEST}", _facts(manifest))
        if other and not ours:
            raise IntegrityError("copy the backup", self._url(key), "another backup of that id is there", _TWO_STACKS)
        filesystem.parallel(
            self._drop, [f"{key}/{item}" for item in there - {*artefacts, MANIFEST, *RECORDS}], workers=8
        )
        sent: list[int] = []

        def send(name: str) -> None:
            facts = self._facts(folder / name)
            if facts.sha256 != artefacts[name]:
                raise IntegrityError(
                    "copy the backup", str(folder / name), "it has another SHA-256 than when it was written",
                    f"It is damaged: lifeboat verify {key.rpartition('/')[2]} --level checksum.",
                )  # fmt: skip
            if name not in there or not self._holds(f"{key}/{name}", facts):
                if name in there and MANIFEST in there:
                    self._keep(f"{key}/{name}")
                self._send(folder / name, f"{key}/{name}", facts)
                sent.append(facts.size)

        filesystem.parallel(send, artefacts)
        if other:
            self._keep(f"{key}/{MANIFEST}")
            sent.append(len(manifest))
            self._put(f"{key}/{MANIFEST}", manifest)
        elif MANIFEST not in there and not self._put_new(f"{key}/{MANIFEST}", manifest):
            raise IntegrityError("copy the backup", self._url(key), "another backup of that id is there", _TWO_STACKS)
        return sum(sent)

    def sweep(self, older_than: timedelta, now: datetime, dry_run: bool = False) -> list[str]:
        """As everywhere, and uploads of parts that nobody finished: they cost money and show in no listing.

        A backup whose manifest was hidden or deleted is not taken for a leftover of a run.
        """
        self.require_ours()
        with explained("sweep the staging directory", self.staging_root):
            local = [path for path in base.leftovers(self.staging_root) if filesystem.untouched(path, older_than, now)]
        stale: list[str] = []
        for component in [name for name in self.folders if name not in GROWING]:
            for id in sorted(set(self.ids(component)) & set(self._those(component, self._unpublished))):
                key = self._key(*self._backup(component, id))
                newest = max((item.modified for item in self._objects(key + "/")), default=now)
                stale += [key] if now - newest > older_than and not self._had(f"{key}/{MANIFEST}") else []
        uploads = [(key, upload) for key, upload, initiated in self._uploads() if now - initiated > older_than]
        if not dry_run:
            for path in local:
                with explained("sweep the staging directory", path):
                    filesystem.remove(path)
            for key in stale:
                self._erase(key)
            for key, upload in uploads:
                with translated_errors("sweep an unfinished upload", self._url(key)):
                    self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
        return sorted([*map(str, local), *map(self._url, stale), *(self._url(key) for key, _upload in uploads)])

    def _had(self, key: str) -> bool:
        """Whether there is an old version of it. What cannot be known counts as that."""
        try:
            return any(found.key == key and not found.marker for found in self._versions(key))
        except LifeboatError as exc:
            return code(exc) not in UNSUPPORTED

    def look_back(self) -> tuple[dict[str, Hidden], dict[str, Altered]]:
        kept: _Kept = {}
        had, live, shown, named = set[str](), set[str](), set[str](), dict[str, str]()
        try:
            for found in self._versions():
                place = self._root(found.key)
                if not place or CHECK.search(place):
                    continue
                named[place] = _name(place)
                document = found.key in (place, f"{place}{MANIFEST}")
                if document and not found.marker:
                    kept.setdefault(found.key, []).append(found)
                had |= {place} if document and not found.marker else set()
                live |= {place} if document and found.latest else set()
                shown |= {place} if found.latest else set()
        except LifeboatError as exc:
            if code(exc) in UNSUPPORTED:
                return {}, {}
            raise
        lost = {place: Hidden(place in had, place not in shown) for place in named if place not in live}
        hidden = {named[place]: item for place, item in lost.items() if item.document or item.whole}
        return hidden, self._altered(kept)

    def altered(self, component: str, id: str = "") -> dict[str, Altered]:
        """The first version is what was published under the claim. Of others the bytes are compared: a copy that is
        sent again puts the same there, and some servers let a write choose its ETag."""
        start = self._key(self._folder(component) if component else POINTS, *filter(None, [id]))
        try:
            history = _history(self._versions(f"{start}.json" if id and not component else f"{start}/"))
        except LifeboatError as exc:
            if code(exc) in (*UNSUPPORTED, *DENIED):
                return {}
            raise
        return self._altered(history)

    def _altered(self, history: _Kept) -> dict[str, Altered]:
        found: dict[str, Altered] = {}

        def compare(key: str) -> None:
            first, live = history[key][-1], next((item for item in history[key] if item.latest), None)
            what, said = f"it, as of {format_time(first.at)}, is there as an old version", ""
            if live is None:
                said = f"was hidden by a delete marker; {what}"
            elif live.id != first.id and self._bytes(key, live) != self._bytes(key, first):
                said = f"was overwritten at {format_time(live.at)}; {what}"
            if said:
                place = self._root(key)
                kind = "its manifest" if place.endswith("/") else "the recovery point"
                found[_name(place)] = Altered(live is None, f"{kind} {said}", first.id)

        documents = [key for key in history if (place := self._root(key)) and key in (place, f"{place}{MANIFEST}")]
        filesystem.parallel(compare, [key for key in documents if not CHECK.search(key)], workers=8)
        return found

    def past(self) -> Optional[Repository]:
        try:
            return _Past(self)
        except LifeboatError as exc:
            if code(exc) in UNSUPPORTED:
                return None
            raise

    def _bytes(self, key: str, version: _Version) -> bytes:
        """Of a document; of a longer one, which is none, as much as tells that."""
        with self._read_version(key, version) as stream:
            return stream.read(filesystem.LARGEST + 1)

    def _read_version(self, key: str, version: _Version) -> BinaryIO:
        named = SimpleNamespace(get_object=functools.partial(self.client.get_object, VersionId=version.id))
        return open_object(named, self.bucket, key)

    def purge_hidden(
        self, before: datetime, dry_run: bool = False, only: Optional[Collection[str]] = None
    ) -> tuple[list[str], list[str]]:
        """A run was killed between the markers and the purge, the key might not delete versions, or a lock has ended.

        Only what has one of the repository's own names, and of which nothing is live.
        """
        self.require_ours()
        live: set[str] = set()
        newest: dict[str, datetime] = {}
        try:
            for found in self._versions():
                place = self._root(found.key)
                newest[place] = max(found.at, newest.get(place, found.at))
                live |= {place} if found.latest else set()
        except LifeboatError as exc:
            unsupported = code(exc) in UNSUPPORTED
            return [], [] if unsupported else [
                f"{self._url(self.prefix)}: its versions could not be listed: {exc.cause}"
            ]

        def meant(prefix: str) -> bool:
            """What the caller names goes whatever time the server gives it; without names that time counts."""
            if only is None or CHECK.search(prefix):
                return newest[prefix] < before
            return _name(prefix) in only

        gone = sorted(place for place in newest if place and place not in live and meant(place))
        kept: list[str] = []
        for place in () if dry_run else gone:
            stays = self._purge(place)
            ours = "a leftover of Lifeboat's own write check, " if CHECK.search(place) else ""
            kept += [f"{ours}{line}" for line in stays]
        return [self._url(place) for place in gone], kept

    def _versions(self, exact: str = "") -> Iterator[_Version]:
        """Every version and delete marker where ours may be; or of what begins with a key."""
        starts = (*(f"{folder}/" for folder in self.folders.values()), f"{POINTS}/", _CHECK)
        for prefix in [exact] if exact else [self._key(start) for start in starts]:
            with translated_errors("list the versions", self._url(prefix)):
                for page in self.client.get_paginator("list_object_versions").paginate(
                    Bucket=self.bucket, Prefix=prefix
                ):
                    for item in page.get("Versions", ()):
                        etag = item.get("ETag", "").strip('"').lower()
                        yield _Version(
                            item["Key"], item["LastModified"], item["IsLatest"], False, item["VersionId"], item["Size"],
                            etag,
                        )  # fmt: skip
                    for item in page.get("DeleteMarkers", ()):
                        yield _Version(item["Key"], item["LastModified"], False, True)

    def _root(self, key: str) -> str:
        """What a key is a part of: the folder of a backup, or itself; empty where the name is not one of ours."""
        below = key[len(self.prefix) + 1 :] if self.prefix else key
        for folder in self.folders.values():
            id = below[len(folder) + 1 :].partition("/")[0] if below.startswith(f"{folder}/") else ""
            if ID.fullmatch(id):
                return self._key(folder, id) + "/"
        point = below[len(POINTS) + 1 : -len(".json")]
        ours = CHECK.fullmatch(below) or (POINT_ID.fullmatch(point) and below == f"{POINTS}/{point}.json")
        return key if ours else ""

    def check(self, writable: bool = False) -> None:
        with translated_errors("reach the repository", self._url(self.prefix)):
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)
        if not writable:
            return
        with explained("use the staging directory", self.staging_root):
            self.staging_root.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.staging_root / f"{PARTIAL}check-{token.token_hex(4)}"
            filesystem.write(probe, b"x" * 4096, probe.with_name(probe.name + "x"))
            probe.unlink()
        key = self._key(f"{_CHECK}{token.token_hex(4)}")
        self._put(key, b"x")
        self._drop(key)
        self.require_ours(make=True)

    def free_bytes(self) -> Optional[int]:
        """Of the staging directory: a bucket has no end that it would tell."""
        at = next(path for path in [self.staging_root, *self.staging_root.parents] if path.exists())
        with explained("measure the free space", at):
            return filesystem.free(at)

    # Objects.

    def _key(self, *parts: str) -> str:
        return "/".join([self.prefix, *parts] if self.prefix else parts)

    def _url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def _refuse_existing(self, component: str, id: str) -> None:
        key = self._key(*self._backup(component, id))
        if any(not CLAIM.fullmatch(item.key[len(key) + 1 :]) for item in self._objects(key + "/")):
            raise base.exists(self._url(key))

    def _objects(self, prefix: str) -> Iterator[_Object]:
        """The objects below; a key that ends in / is how consoles draw an empty folder, not a file."""
        with translated_errors("list the repository", self._url(prefix)):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    if not found["Key"].endswith("/"):
                        etag = found.get("ETag", "").strip('"').lower()
                        yield _Object(found["Key"], found["Size"], found["LastModified"], etag)

    def _names(self, folder: str, directories: bool = False) -> list[str]:
        prefix = self._key(folder) + "/"
        listed, field = ("CommonPrefixes", "Prefix") if directories else ("Contents", "Key")
        with translated_errors("list the repository", self._url(prefix)):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            keys = [found[field] for page in pages for found in page.get(listed, ())]
        return sorted(key[len(prefix) :].rstrip("/") if directories else key[len(prefix) :] for key in keys)

    def _uploads(self) -> list[tuple[str, str, datetime]]:
        """As s3.bucket.uploads()."""
        found: list[tuple[str, str, datetime]] = []
        with translated_errors("list unfinished uploads", self._url(self.prefix)):
            for folder in self.folders.values():
                prefix = self._key(folder) + "/"
                pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
                found += [
                    (upload["Key"], upload["UploadId"], upload["Initiated"])
                    for page in pages
                    for upload in page.get("Uploads", ())
                    if upload["Key"].startswith(prefix)
                ]
        return found

    def _head(self, key: str) -> Optional[_Head]:
        try:
            with translated_errors("look at", self._url(key)):
                head = self.client.head_object(Bucket=self.bucket, Key=key)
                return _Head(head["ContentLength"], head.get("ETag", "").strip('"').lower())
        except NotFoundError:
            return None

    def _write(self, parts: tuple[str, ...], data: bytes) -> None:
        self._put(self._key(*parts), data)

    def _write_new(self, parts: tuple[str, ...], data: bytes) -> bool:
        return self._put_new(self._key(*parts), data)

    def _put_new(self, key: str, data: bytes) -> bool:
        """Write what is not there yet; False where something else is, also what another run wrote just now.

        What a server has that ignores the condition is looked at before.
        """
        if self._conditional is not True and self._head(key) is not None and not self._holds(key, _facts(data)):
            return False
        # An answer that was lost is asked for again, and then it is our own object that is in the way.
        written = self._written_if_new(key, data) or self._holds(key, _facts(data))
        if written:
            self._confirm(key, _facts(data))
        return written

    def _written_if_new(self, key: str, data: bytes) -> bool:
        """Write it on the condition that nothing is there; False where the server refuses that."""
        facts = _facts(data)
        try:
            self._put_object(key, data, {"sha256": facts.sha256, _NEW: facts.sha256[:16]})
        except LifeboatError as exc:
            if status(exc) in (409, 412):
                return False
            if code(exc) not in UNSUPPORTED:
                raise
            self._conditional = False
            self._put(key, data)
        return True

    def _put(self, key: str, data: bytes) -> None:
        facts = _facts(data)
        self._put_object(key, data, {"sha256": facts.sha256})
        self._confirm(key, facts)

    def _put_object(self, key: str, data: bytes, metadata: Mapping[str, str]) -> None:
        def put(more: Mapping[str, str]) -> None:
            with translated_errors("write", self._url(key)):
                self.client.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata=metadata, **more)

        self._put_for_owner(put)

    def _put_for_owner(self, put: Callable[[Mapping[str, str]], None]) -> None:
        """Write such that the bucket's owner can read it: on Ceph RGW only the writer can otherwise. Amazon S3 wants a
        right of its own for that, and some servers know no access control lists: they get the object without it."""
        if self._for_owner is not False:
            try:
                put(_FOR_OWNER)
            except LifeboatError as exc:
                if self._for_owner or status(exc) not in (400, 403, 501):
                    raise
            else:
                self._for_owner = True
                return
        put({})
        self._for_owner = self._for_owner or False

    def _facts(self, path: Path) -> _Facts:
        with explained("upload", path), path.open("rb") as file:
            return _measure(file, _part(path))

    def _send(self, path: Path, key: str, facts: _Facts) -> None:
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415

        part = _part(path)
        transfer = TransferConfig(multipart_threshold=part, multipart_chunksize=part, max_concurrency=4)

        def put(more: Mapping[str, str]) -> None:
            with translated_errors("upload", self._url(key)), explained("upload", path):
                self.client.upload_file(
                    str(path), self.bucket, key, ExtraArgs={"Metadata": {"sha256": facts.sha256}, **more},
                    Config=transfer, Callback=self._count_sent,
                )  # fmt: skip

        self._put_for_owner(put)
        self._confirm(key, facts)

    def _count_sent(self, size: int) -> None:
        self.sent += size

    def _holds(self, key: str, facts: _Facts) -> bool:
        try:
            self._confirm(key, facts)
        except IntegrityError:
            return False
        return True

    def _keep(self, key: str) -> None:
        versioned = False
        try:
            with translated_errors("see whether versions are kept", f"s3://{self.bucket}"):
                versioned = self.client.get_bucket_versioning(Bucket=self.bucket).get("Status") == "Enabled"
        except LifeboatError as exc:
            if code(exc) not in UNSUPPORTED:
                raise
        if not versioned:
            below = key[len(self.prefix) + 1 :] if self.prefix else key
            aside = self._key(DAMAGED, clock.stamp(), below)
            with translated_errors("keep the damaged object", f"{self._url(key)} as {self._url(aside)}"):
                self.client.copy({"Bucket": self.bucket, "Key": key}, self.bucket, aside)

    def _confirm(self, key: str, facts: _Facts) -> None:
        """The bytes the server holds are the bytes we measured, or IntegrityError."""
        head = self._head(key) or _Head(0, "")
        same = head.size == facts.size
        if same and head.etag != facts.etag:
            try:
                with self._read_key(key) as stream:
                    same = checksums.artefact_of(stream, key).sha256 == facts.sha256
            except NotFoundError:  # another run's claim, released since we looked
                head, same = _Head(0, ""), False
        if not same:
            raise IntegrityError(
                "upload", self._url(key),
                f"sent {facts.size} bytes, the server holds {head.size}, and they are not the same",
                "Run it again; if it repeats, check the network and the server's disks.",
            )  # fmt: skip

    def _open(self, parts: tuple[str, ...]) -> BinaryIO:
        return self._read_key(self._key(*parts))

    def _read_key(self, key: str) -> BinaryIO:
        return open_object(self.client, self.bucket, key)

    def _remove(self, parts: tuple[str, ...]) -> None:
        self._drop(self._key(*parts))

    def _drop(self, key: str) -> None:
        with translated_errors("delete", self._url(key)):
            self.client.delete_object(Bucket=self.bucket, Key=key)


def _is_note(component: str, name: str) -> bool:
    return component in GROWING and bool(NOTE.fullmatch(name))


class _Object(NamedTuple):
    key: str
    size: int
    modified: datetime
    etag: str


class _Version(NamedTuple):
    """latest: it is what a reader gets."""

    key: str
    at: datetime
    latest: bool
    marker: bool
    id: str = ""
    size: int = 0
    etag: str = ""


_Kept = dict[str, list[_Version]]  # what has bytes, by key, the newest first


def _history(versions: Iterator[_Version]) -> _Kept:
    kept: _Kept = {}
    for item in versions:
        if not item.marker:
            kept.setdefault(item.key, []).append(item)
    return kept


def _name(prefix: str) -> str:
    """The id of a backup or recovery point, from where it is."""
    return prefix.rstrip("/").rpartition("/")[2].removesuffix(".json")


@dataclass(frozen=True)
class _Listed:
    """What of a manifest tells one version of an artefact from another."""

    artefacts: tuple[Artefact, ...]


class _Past(S3Repository):
    """What was published, whatever was hidden, overwritten or added since then. Nothing is written.

    Of a manifest and of a recovery point the first version is read, of an artefact the one that the manifest means, of
    a record the last. Versions are listed once.
    """

    by_version = True

    def __init__(self, live: S3Repository) -> None:
        vars(self).update(vars(live))
        self._by_key = _history(live._versions())
        self._below: dict[str, list[str]] = {}
        for key in self._by_key:
            self._below.setdefault(self._root(key), []).append(key)
        self._listed: dict[str, dict[str, Artefact]] = {}
        self._right: dict[str, _Version] = {}

    @property
    def address(self) -> str:
        return f"{super().address}, old versions"

    def location(self, component: str, id: str) -> str:
        return f"{super().location(component, id)}, old versions"

    def past(self) -> Optional[Repository]:
        return self

    def altered(self, component: str, id: str = "") -> dict[str, Altered]:
        if id:
            place = self._key(*self._backup(component, id), "") if component else self._key(POINTS, f"{id}.json")
            kept = {key: self._by_key[key] for key in self._below.get(place, ())}
        else:
            start = self._key(self._folder(component) if component else POINTS, "")
            kept = {key: versions for key, versions in self._by_key.items() if key.startswith(start)}
        return self._altered(kept)

    def ids(self, component: str) -> list[str]:
        start = self._key(self._folder(component), "")
        return sorted(_name(place) for place in self._below if place.startswith(start) and self._has(place))

    def published(self, component: str) -> list[str]:
        return self.ids(component)

    def files(self, component: str, id: str) -> dict[str, int]:
        """What was added since then does not belong to it, and is not named."""
        found, wanted = super().files(component, id), self._artefacts(self._key(*self._backup(component, id), ""))
        return {name: size for name, size in found.items() if not wanted or name in wanted}

    def require_ours(self, *, make: bool = False) -> None:
        """Whatever writes or deletes asks this first."""
        del make
        raise UsageError("write to the repository", self.address, "old versions are only read")

    def _put(self, key: str, data: bytes) -> None:
        del key, data
        self.require_ours()

    def _drop(self, key: str) -> None:
        del key
        self.require_ours()

    def _has(self, prefix: str) -> bool:
        return prefix.endswith("/") and f"{prefix}{MANIFEST}" in self._by_key

    def _artefacts(self, prefix: str) -> dict[str, Artefact]:
        if prefix not in self._listed:
            found = typed.maybe(_Listed, self._read_whole(f"{prefix}{MANIFEST}") if self._has(prefix) else None)
            self._listed[prefix] = {item.name: item for item in found.artefacts} if found else {}
        return self._listed[prefix]

    def _read_whole(self, key: str) -> bytes:
        return self._bytes(key, self._by_key[key][-1])

    def _fit(self, key: str) -> list[_Version]:
        """The versions that may be the one that was published, the oldest first."""
        kept, place = self._by_key.get(key, []), self._root(key)
        name = key[len(place) :]
        if not kept or name in RECORDS:
            return kept[:1]
        wanted = self._artefacts(place).get(name) if name not in ("", MANIFEST) else None
        if wanted is None:
            return kept[-1:]
        return [item for item in reversed(kept) if item.size == wanted.size] or kept[-1:]

    def _exact(self, key: str) -> Optional[_Version]:
        """Of several that have the size of the artefact the one that has its bytes; they are read for that."""
        fit = self._fit(key)
        if key not in self._right and fit:
            place = self._root(key)
            wanted = self._artefacts(place).get(key[len(place) :]) if len(fit) > 1 else None
            self._right[key] = next((item for item in fit if wanted and self._is(key, item, wanted.sha256)), fit[0])
        return self._right.get(key)

    def _is(self, key: str, version: _Version, sha256: str) -> bool:
        try:
            with self._read_version(key, version) as stream:
                return checksums.artefact_of(stream, key).sha256 == sha256
        except IntegrityError:
            return False

    def _objects(self, prefix: str) -> Iterator[_Object]:
        keys = self._below.get(self._root(prefix), []) if self._root(prefix) else list(self._by_key)
        for key in keys:
            fit = self._fit(key) if key.startswith(prefix) else []
            if fit:
                yield _Object(key, fit[0].size, fit[0].at, fit[0].etag)

    def _names(self, folder: str, directories: bool = False) -> list[str]:
        start = self._key(folder, "")
        below = {key[len(start) :] for key in self._by_key if key.startswith(start)}
        if directories:
            return sorted({name.partition("/")[0] for name in below if "/" in name})
        return sorted(name for name in below if "/" not in name)

    def _head(self, key: str) -> Optional[_Head]:
        fit = self._fit(key)
        return _Head(fit[0].size, fit[0].etag) if fit else None

    def _read_key(self, key: str) -> BinaryIO:
        version = self._exact(key)
        if version is None:
            raise NotFoundError("read", self._url(key), "no version of it is there", "`lifeboat list` shows what is.")
        return self._read_version(key, version)


class Mark(NamedTuple):
    """What a server tells of an object's bytes without reading them."""

    size: int
    etag: str


class _Head(NamedTuple):
    size: int
    etag: str


class _Facts(NamedTuple):
    size: int
    sha256: str
    etag: str  # what S3 makes of the parts: one MD5, or the MD5 of their MD5s and their number


def _only_new(params: Mapping[str, MutableMapping[str, str]], **more: object) -> None:
    """Make the condition of a request that is about to be signed."""
    del more
    if f"x-amz-meta-{_NEW}" in params["headers"]:
        params["headers"]["If-None-Match"] = "*"


def _facts(data: bytes) -> _Facts:
    return _measure(io.BytesIO(data), len(data) + 1)


def _part(path: Path) -> int:
    return max(_PART, -(-path.stat().st_size // _PARTS))


def _measure(file: BinaryIO, part: int) -> _Facts:
    """Read a file once, in parts of `part` bytes as the upload will; from one full part on it is a multipart upload."""
    whole, size = hashlib.sha256(), 0
    sums: list[bytes] = []
    while data := file.read(part):
        whole.update(data)
        sums.append(hashlib.new("md5", data, usedforsecurity=False).digest())
        size += len(data)
    md5 = hashlib.new("md5", b"".join(sums), usedforsecurity=False).hexdigest()  # of nothing where there is no part
    if size < part:
        return _Facts(size, whole.hexdigest(), sums[0].hex() if sums else md5)
    return _Facts(size, whole.hexdigest(), f"{md5}-{len(sums)}")
