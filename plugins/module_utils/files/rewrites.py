# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Estimate how many files an attacker's program encrypted: their content is gone, and in its place, or under another
name, there is some that no compression shortens. What was only moved, or is still at its path, does not count."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Optional

from ..base import filesystem
from .listing import Row
from .walk import Node

_SAMPLE = 2_000  # files of a source that are looked at, chosen by their digests; of fewer all
_BLOCK = 4096  # bytes that are compressed: at the start of a file, and in its middle
_SHORTER = 0.95  # to so much of its length is compressed what is worth it
_SHORT = 1024  # bytes of a file of which compression tells nothing


class Rewrites:
    """Of one source. before: how many files the backup has with which it is compared."""

    def __init__(self, before: int) -> None:
        self.same = 0
        self._step = before // _SAMPLE + 1
        self._gone: Counter[str] = Counter()
        self._new: Counter[str] = Counter()

    def gone(self, row: Row) -> None:
        """An entry of that backup is not there any more."""
        self._add(self._gone, row.digest)

    def compare(self, row: Optional[Row], digest: str, node: Node) -> None:
        """A file is there, with that content; row: what that backup has at its path."""
        earlier = row.digest if row is not None else ""
        if earlier and earlier == digest:
            self.same += 1
            return
        self._add(self._gone, earlier)
        if digest and node.status.st_size and self._chosen(digest) and _is_noise(node):
            self._new[digest] += 1

    @property
    def count(self) -> int:
        moved = sum((self._gone & self._new).values())
        return (min(sum(self._gone.values()), sum(self._new.values())) - moved) * self._step

    def _add(self, where: Counter[str], digest: str) -> None:
        if digest and self._chosen(digest):
            where[digest] += 1

    def _chosen(self, digest: str) -> bool:
        return int(digest[:8], 16) % self._step == 0


def _is_noise(node: Node) -> bool:
    """Does compression shorten neither its start nor its middle? Of one that cannot be read nothing is known."""
    try:
        with filesystem.open_at(node.at, node.name) as file:
            return any(map(_incompressible, _blocks(file.fileno(), node.status.st_size)))
    except OSError:
        return False


def _blocks(handle: int, size: int) -> Iterator[bytes]:
    for offset in sorted({0, size // 2 // _BLOCK * _BLOCK}):
        yield os.pread(handle, _BLOCK, offset)


def _incompressible(data: bytes) -> bool:
    if len(data) < _SHORT:
        try:
            data.decode()
        except UnicodeDecodeError:
            return len(zlib.compress(data)) >= len(data)
        return False
    return len(zlib.compress(data, 1)) > _SHORTER * len(data)
