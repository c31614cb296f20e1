# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository in a directory of this host."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import secrets as token
import shutil
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Optional

from ..base import filesystem
from ..base.errors import IntegrityError, NotFoundError, UsageError
from ..base.filesystem import explained
from . import base
from .base import DELETING, ID, MANIFEST, PARTIAL, POINTS, OtherRepositoryError, Repository, Staging
from .components import GROWING


class LocalRepository(Repository):
    """Backups in a directory of this host, which must exist: on an unmounted disk none is created.

    group: who may read backups and recovery points besides their owner, as a keeper's account does; empty: nobody.
    Records and holds stay private: they prove nothing elsewhere. mounted: the directory must be a mount point.
    """

    def __init__(
        self, root: Path, folders: Mapping[str, str] = MappingProxyType({}), group: str = "", mounted: bool = False
    ) -> None:
        super().__init__(folders)
        self._group, self._mounted = group, mounted
        if not root.is_absolute() or ".." in root.parts or root == Path("/"):
            raise base.bad_setting("path", str(root), "it must be an absolute path of a directory")
        self.root = root

    @property
    def address(self) -> str:
        return str(self.root)

    def location(self, component: str, id: str) -> str:
        return str(self.root.joinpath(*self._backup(component, id)))

    def ids(self, component: str) -> list[str]:
        return [name for name in self._names(self._folder(component), directories=True) if ID.fullmatch(name)]

    def published(self, component: str) -> list[str]:
        folder = self.root / self._folder(component)
        with explained("list the backups", folder):
            return [id for id in self.ids(component) if not base.absent(folder / id / MANIFEST)]

    @contextlib.contextmanager
    def stage(self, component: str, id: str) -> Iterator[Staging]:
        target = self.root.joinpath(*self._backup(component, id))
        self.require_ours(make=True)
        with explained("begin the backup", target):
            self._refuse_existing(target)
            folder = self._make_folder(target.parent.name)
            path = folder / f"{PARTIAL}{id}-{token.token_hex(4)}"
            path.mkdir(mode=0o700)
        try:
            yield Staging(path, lambda path, manifest: self._publish(path, target, manifest))
        finally:
            shutil.rmtree(path, ignore_errors=True)  # once published nothing is there any more

    def _publish(self, path: Path, target: Path, manifest: bytes) -> None:
        with explained("publish the backup", target):
            base.refuse_reserved(path)
            readers = self._readers()
            filesystem.seal(path, readers)
            filesystem.write(path / MANIFEST, manifest, path / (PARTIAL + MANIFEST), readers)
            self._refuse_existing(target)
            try:
                path.rename(target)
            except OSError as exc:
                if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another run was a moment faster
                    raise base.exists(str(target)) from exc
                raise
            filesystem.sync(target.parent)

    def files(self, component: str, id: str) -> dict[str, int]:
        found = self._contents(component, id)
        return {name: size for name, size in found.items() if self._artefact(component, name)}

    def _contents(self, component: str, id: str) -> dict[str, int]:
        path = self._directory(component, id)
        with explained("list the backup's files", path):
            return {name: status.st_size for name, status in filesystem.relative_files(path).items()}

    def _begin(self, parts: tuple[str, ...]) -> None:
        path = self.root.joinpath(*parts)
        with explained("begin the backup", path):
            folder = self._make_folder(parts[0])
            try:
                (folder / parts[1]).mkdir(mode=0o700)
            except FileExistsError:
                os.close(filesystem.descend(folder, parts[1:]))  # a link that somebody put there is refused
            else:
                self._open_to_readers(folder / parts[1])
                filesystem.sync(folder)

    @contextlib.contextmanager
    def materialise(self, component: str, id: str) -> Iterator[Path]:
        yield self._directory(component, id)

    def delete(self, component: str, id: str) -> list[str]:
        self.require_ours()
        path = self._directory(component, id)
        doomed = path.parent / f"{DELETING}{id}-{token.token_hex(4)}"
        with explained("delete the backup", path):
            path.rename(doomed)
            filesystem.sync(path.parent)
            filesystem.remove(doomed)
        return []

    def sweep(self, older_than: timedelta, now: datetime, dry_run: bool = False) -> list[str]:
        self.require_ours()
        stale = []
        growing = [self.folders[name] for name in GROWING if name in self.folders]
        for name in ["", *self.folders.values(), POINTS]:
            folder = self.root / name
            with explained("sweep the repository", folder):
                left = base.leftovers(folder, name in growing)
                stale += [path for path in left if filesystem.untouched(path, older_than, now)]
        for path in [] if dry_run else stale:
            with explained("sweep the repository", path):
                filesystem.remove(path)
        return sorted(map(str, stale))

    def check(self, writable: bool = False) -> None:
        self._names("")  # raises where the root is missing or closed to us
        for folder in ["", *self.folders.values()]:
            directory = self.root / folder
            if writable and (not folder or directory.exists()):
                with explained("write to the repository", directory):
                    probe = directory / f"{PARTIAL}check-{token.token_hex(4)}"
                    filesystem.write(probe, b"x" * 4096, probe.with_name(probe.name + "x"))
                    probe.unlink()
        if writable:
            self.require_ours(make=True)

    def free_bytes(self) -> Optional[int]:
        self._require_root()
        with explained("measure the free space", self.root):
            return filesystem.free(self.root)

    def _open(self, parts: tuple[str, ...]) -> BinaryIO:
        self._require_root()
        with explained("read", self.root.joinpath(*parts)):
            top = self.root / parts[0] if len(parts) > 1 else self.root  # a component's folder may be a link
            return filesystem.open_below(top, parts[1:] or parts)

    def _write(self, parts: tuple[str, ...], data: bytes) -> None:
        path = self.root.joinpath(*parts)
        with explained("write", path):
            folder = self._make_folder(parts[0]) if len(parts) > 1 else self.root
            # Beside the backup, not in it: a leftover there would be an unexpected file of the backup.
            filesystem.write(path, data, folder / f"{PARTIAL}{path.name}-{token.token_hex(4)}")

    def _write_new(self, parts: tuple[str, ...], data: bytes) -> bool:
        path = self.root.joinpath(*parts)
        with explained("write", path):
            folder = self._make_folder(parts[0]) if len(parts) > 1 else self.root
            temporary = folder / f"{PARTIAL}{path.name}-{token.token_hex(4)}"
            try:
                filesystem.write_new(path, data, temporary, self._readers())
            except FileExistsError:
                return False
        return True

    def _names(self, folder: str, directories: bool = False) -> list[str]:
        self._require_root()
        path = self.root / folder
        with explained("list the repository", path):
            try:  # not Path.exists(), which from Python 3.14 takes a refusal for nothing
                entries = os.scandir(path)
            except FileNotFoundError:
                return []
            with entries:
                return sorted(item.name for item in entries if item.is_dir(follow_symlinks=False) is directories)

    def _require_root(self) -> None:
        with explained("open the repository", self.root):
            try:
                there = stat.S_ISDIR(self.root.stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                there = False
        if not there:
            remedy = "Mount it, or run lifeboat.dr.deploy to make it, then try again."
            raise UsageError("open the repository", str(self.root), "there is no such directory", remedy)
        if self._mounted and not filesystem.is_mounted(self.root):
            remedy = "Mount its disk, then try again. It must be a mount point: lifeboat_repository.mounted is true."
            raise OtherRepositoryError("open the repository", str(self.root), "nothing is mounted there", remedy)

    def _remove(self, parts: tuple[str, ...]) -> None:
        path = self.root.joinpath(*parts)
        with explained("remove", path):
            path.unlink(missing_ok=True)

    def _make_folder(self, name: str) -> Path:
        self._names(name)
        folder = self.root / name
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            self._open_to_readers(folder)
            filesystem.sync(self.root)
        return folder

    def _readers(self) -> Optional[int]:
        """The number of the group that may read; None where none may."""
        if not self._group:
            return None
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError as exc:
            remedy = "Run lifeboat.dr.deploy, which makes it, or correct lifeboat_repository.group."
            raise UsageError("let a group read the backups", self._group, "there is no such group", remedy) from exc

    def _open_to_readers(self, folder: Path) -> None:
        readers = self._readers()
        if readers is not None:
            handle = filesystem.descend(folder, ())
            try:
                filesystem.share(handle, readers)
            finally:
                os.close(handle)

    def _directory(self, component: str, id: str) -> Path:
        """The backup's own directory, never a link to another. The others are not listed: that cost a repository of
        5,000 backups 25 million names."""
        path = self.root.joinpath(*self._backup(component, id))
        self._require_root()
        with explained("find the backup", path):
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                mode = 0
        if not stat.S_ISDIR(mode):
            if mode:
                remedy = "Find out who put it there and remove it."
                raise IntegrityError("find the backup", str(path), "it is not a directory", remedy)
            raise NotFoundError("find the backup", str(path), "it is not there", "Choose another (lifeboat list).")
        return path

    @staticmethod
    def _refuse_existing(target: Path) -> None:
        if os.path.lexists(target):
            raise base.exists(str(target))
