# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a keeper has of the stack, read while its operator grants that: its repository by SFTP, and its vault of the
objects through the same connection. Nothing can be written there.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Callable, Optional, cast

from ..base import filesystem
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..base.filesystem import CHUNK, explained
from ..repository import repositories
from ..repository.base import ID, MANIFEST, Repository, Staging
from ..repository.s3 import STAGING
from ..settings.parts import ReadbackSettings
from ..stack.runtime import Opened
from ..tools.sftp import Sftp, command, way
from ..tools.source import Budget, Directory, Parts, Source

_NAMES = 1_000_000  # in one folder
_DEPTH = 8  # of a backup's folders, as a keeper takes them
_ATTEMPTED = "read back what the keeper has"
_Chunks = Generator[bytes, None, None]  # what reads a file there closes it at its end


def opened(run: Opened) -> Opened:
    """The stack with what its keeper has in the vault's place, where that is configured. It is reached when it is first
    asked for, and LifeboatError is raised then where the keeper does not let this host in."""
    one, config = run.config.readback, run.config
    if not one.configured:
        return run
    forward, url = way(one.address, one.port if one.objects_bucket else 0)
    if one.objects_bucket:
        vault = replace(config.vault, objects_bucket=one.objects_bucket, endpoint_url=url or one.endpoint_url)
        config = replace(config, vault=replace(vault, region=one.region, ca_bundle=one.ca_bundle))
    found = run.with_config(config, {})
    folders = {**repositories.repository_of(run).folders, **one.source.folders}
    repositories.grant(found, lambda: Granted(_reach(one, forward, url), partial(_reach, one), folders))
    return found


def reached(run: Opened) -> Opened:
    """The like, and reached now: what asks the vault of the objects asks nothing of the repository before."""
    found = opened(run)
    repositories.granted(found)
    return found


def _reach(readback: ReadbackSettings, forward: str = "", url: str = "") -> Source:
    source = readback.source
    budget = Budget(readback.timeout)
    if source.mounted:
        return Directory(Path(source.mounted), budget)
    remedy = (
        "The keeper's operator grants it, to this host and until a time: lifeboat.dr.readback. See"
        " docs/keeper.md#reading-back."
    )
    if not Path(source.identity_file).is_file():
        raise UsageError(_ATTEMPTED, f"{source.user}@{source.host}", f"there is no {source.identity_file} here", remedy)
    argv = command(source.host, source.port, source.user, source.identity_file, source.known_hosts, forward)
    try:
        return Sftp(argv, f"{source.user}@{source.host}", source.directory, budget, url)
    except LifeboatError as exc:
        raise LifeboatError(_ATTEMPTED, exc.subject, exc.cause, remedy, exit_status=exc.exit_status) from exc


class Granted(Repository):
    """A repository to read only. A connection is for one file at a time, so more are made as they are needed, and kept.

    first: a connection that is open, and is to stay so: others may come through it.
    """

    def __init__(self, first: Source, reach: Callable[[], Source], folders: Mapping[str, str]) -> None:
        super().__init__(folders)
        self._first, self._reach = first, reach
        self._idle, self._lock = [first], threading.Lock()

    @property
    def address(self) -> str:
        return self._first.location

    def location(self, component: str, id: str) -> str:
        return "/".join((self.address, *self._backup(component, id)))

    def ids(self, component: str) -> list[str]:
        return [name for name in self._names(self._folder(component)) if ID.fullmatch(name)]

    def published(self, component: str) -> list[str]:
        with self._source() as source:
            return [id for id in self.ids(component) if _there(source, (*self._backup(component, id), MANIFEST))]

    def files(self, component: str, id: str) -> dict[str, int]:
        return {name: size for name, size in self._contents(component, id).items() if self._artefact(component, name)}

    def _contents(self, component: str, id: str) -> dict[str, int]:
        with self._source() as source:
            found = dict(_below(source, self._backup(component, id), _DEPTH))
        if not found:
            raise NotFoundError("find the backup", self.location(component, id), "it is not there", "Choose another.")
        return found

    @contextlib.contextmanager
    def materialise(self, component: str, id: str) -> Iterator[Path]:
        with explained("make a directory to fetch into", STAGING):
            STAGING.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filesystem.scratch("granted-", STAGING) as path:
            self.fetch(component, id, path)
            yield path

    def check(self, writable: bool = False) -> None:
        if writable:
            raise self._read_only()
        self._names("")  # raises where it is missing
        self.require_ours()

    def free_bytes(self) -> Optional[int]:
        return None

    def _names(self, folder: str) -> list[str]:
        with self._source() as source:
            return source.names(folder, _NAMES)

    def _open(self, parts: Parts) -> BinaryIO:
        source = self._take()
        try:
            size = source.size(parts)
        except BaseException as exc:
            self._give(source, exc)
            raise
        stream = _Stream(source.chunks(parts, 0, size), partial(self._give, source))
        return cast(BinaryIO, io.BufferedReader(stream, CHUNK))

    # Connections.

    def close(self) -> None:
        """End those that are open; all of them end with the process."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _source(self) -> Iterator[Source]:
        source = self._take()
        try:
            yield source
        except BaseException as exc:
            self._give(source, exc)
            raise
        self._give(source)

    def _take(self) -> Source:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._reach()

    def _give(self, source: Source, error: Optional[BaseException] = None) -> None:
        """error: after what is not about one file, no answer can be told from another."""
        if error is None or isinstance(error, (NotFoundError, IntegrityError, UsageError)):
            with self._lock:
                self._idle.append(source)
        else:
            source.close()

    # What a keeper's repository is not for.

    def _read_only(self) -> UsageError:
        cause = "it may be read only; the keeper itself writes there, and prunes by its own log"
        return UsageError("write to the keeper's repository", self.address, cause)

    def stage(self, component: str, id: str) -> contextlib.AbstractContextManager[Staging]:
        raise self._read_only()

    def _begin(self, parts: Parts) -> None:
        raise self._read_only()

    def delete(self, component: str, id: str) -> list[str]:
        raise self._read_only()

    def sweep(self, older_than: timedelta, now: datetime, dry_run: bool = False) -> list[str]:
        raise self._read_only()

    def _write(self, parts: Parts, data: bytes) -> None:
        raise self._read_only()

    def _write_new(self, parts: Parts, data: bytes) -> bool:
        raise self._read_only()

    def _remove(self, parts: Parts) -> None:
        raise self._read_only()


class _Stream(io.RawIOBase):
    """The bytes of a file as they come. `done`: called once, when it is closed, with the error that ended it."""

    def __init__(self, chunks: Iterator[bytes], done: Callable[[Optional[BaseException]], None]) -> None:
        self._chunks, self._done, self._rest = chunks, done, memoryview(b"")
        self._error: Optional[BaseException] = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self._rest:
            try:
                self._rest = memoryview(next(self._chunks, b""))
            except BaseException as exc:
                self._error = exc
                raise
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            cast("_Chunks", self._chunks).close()
            self._done(self._error)


def _there(source: Source, parts: Parts) -> bool:
    try:
        source.size(parts)
    except NotFoundError:
        return False
    except IntegrityError:  # something is there that is no file; reading it says so
        return True
    return True


def _below(source: Source, parts: Parts, depth: int, above: str = "") -> Iterator[tuple[str, int]]:
    """Name -> size of the plain files; what is neither file nor folder counts as an empty one, and cannot be read."""
    for name in source.names("/".join(parts), _NAMES):
        try:
            yield above + name, source.size((*parts, name))
            continue
        except IntegrityError:
            inside: list[tuple[str, int]] = []
        with contextlib.suppress(IntegrityError):
            inside += _below(source, (*parts, name), depth - 1, f"{above}{name}/") if depth else []
        yield from inside or [(above + name, 0)]
