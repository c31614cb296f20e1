# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which databases of a server runs of ours made or moved aside. They are in no backup, and half-made ones are dropped.

A name alone tells nothing: somebody may call a database of his own `shop_restore_20260101_120000`. So each name is
recorded before a database gets it. Where the record is lost, such a database is only backed up like any other.
"""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from typing import Optional
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..base.filesystem import explained

FOLDER = "made"  # in the stack's state directory: an empty file for each: = and its name, percent-encoded
_LIKE = re.compile(r".+_(quarantine|restore)_\d{8}_\d{6}", re.DOTALL | re.ASCII)
_ATTEMPT = "remember which databases Lifeboat made"


def alike(name: str) -> bool:
    """Is that a name as runs of ours give them?"""
    return _LIKE.fullmatch(name) is not None


class Made:
    """folder: where the names are recorded; None keeps them for this process alone."""

    def __init__(self, folder: Optional[Path] = None) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def names(self) -> Set[str]:
        if self._folder is None:
            return frozenset(self._names)
        with explained(_ATTEMPT, self._folder):
            files = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        return {unquote_to_bytes(file[1:]).decode("utf-8", "surrogateescape") for file in files}

    def add(self, name: str) -> None:
        """Before the database has that name."""
        self._names.add(name)
        if self._folder:
            with explained(_ATTEMPT, self._folder):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path(self._folder, name).touch(mode=0o600)

    def forget(self, name: str) -> None:
        """When the database is gone, or has another name."""
        self._names.discard(name)
        if self._folder:
            with explained(_ATTEMPT, self._folder):
                self._path(self._folder, name).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"={quote_from_bytes(name.encode('utf-8', 'surrogateescape'), safe='')}"
