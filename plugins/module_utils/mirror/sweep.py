# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read again the tags of objects that are mirrored: they change in place, without a new version, and no listing tells.

Each night a share is read, so that every object's turn comes within lifeboat_objects.tags_days. MinIO can list the tags
of its objects: there those are read as well that it lists with others than are on record. What changed goes into the
listing with the time of reading, from which a recovery gives it, and to the vault's copy.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterable
from typing import Optional
from urllib.parse import parse_qsl

from ..base import throttle
from ..base.errors import LifeboatError, Log, NotFoundError
from ..repository.details import Unheld
from ..s3 import bucket, copier, properties
from ..s3.bucket import Bucket, Tags
from ..s3.copier import Record
from ..s3.signed import NULL
from .state import Object, State

SHOWN = 20  # objects that are named
_DAY = 86_400
_ENOUGH = 100  # objects whose tags may not be read, and none whose may: the key has no right to any


class Sweep:
    """One night's share of one bucket, and what was found out of tags that night."""

    def __init__(self, source: Bucket, vault: Bucket, state: State, log: Log) -> None:
        self._source, self._vault, self._state, self._log = source, vault, state, log
        self._lock = threading.Lock()
        self._exact = self._tagless = False
        self._listed: Optional[Tags] = None
        self.read = self.changed = 0
        self.unread: list[Unheld] = []
        self.unread_count = 0
        self.refused: list[Unheld] = []
        self.refused_count = 0

    def run(self, days: int, before: float, workers: int, *, exact: bool) -> None:
        """days: within which every object is read once. before: when the last backup was made, in seconds since 1970;
        an object whose listing knows no tags has its turn after it. exact: the mirror is of versions, so that the
        `null` one is asked for by that name."""
        self._exact = exact
        today = int(time.time()) // _DAY
        if days:
            self._ask_for_changed()
            throttle.each(lambda due: self._read_tags(*due), self._state.tags_due(today, days, int(before)), workers)
        if self.changed:
            self._log(f"the tags of {self.changed} objects were changed in place; they were put onto {self._vault.url}")
        if self.unread_count:
            first = self.unread[0]
            lost = f"{self.unread_count} objects of {self._source.url}, the first is {first.key!r}: {first.why}"
            self._log(f"WARNING: the tags could not be read of {lost}; those on record stay")

    def listing(self) -> Tags:
        """For the next listing of the source, which may tell the tags beside the objects."""
        self._listed = Tags(self._take)
        return self._listed

    def _take(self, rows: Iterable[tuple[str, str, str]]) -> None:
        self._state.tags_told((key, etag, _tags_text(tags)) for key, etag, tags in rows)

    def _ask_for_changed(self) -> None:
        """Let the source list all tags, where it does that and has not told them: whose are others is read this
        night. An older MinIO tells none beside versions."""
        listed = self._listed
        why = listed.refused if listed else ""
        try:
            if listed is None or (listed.omitted and listed.of_versions):
                self._take(bucket.tagged(self._source))
        except LifeboatError as exc:
            why = exc.cause
        if why:
            self._log(f"{self._source.url} does not list its objects' tags, so they are read in their turn: {why}")

    def warn(self) -> None:
        """Name whose tags the vault does not keep, of the objects that were copied too."""
        if self.refused_count:
            first = self.refused[0]
            lost = f"{self.refused_count} objects, the first is {first.key!r}: {first.why}"
            self._log(f"WARNING: the vault does not keep the tags of {lost}; they are in this backup's listing")

    def refuse(self, key: str, why: str) -> None:
        """The vault has the object and not its tags."""
        with self._lock:
            self.refused_count += 1
            _note(self.refused, key, why)

    def not_read(self, key: str, why: str) -> None:
        """The source does not give the object's tags, of one that was copied too."""
        with self._lock:
            self.unread_count += 1
            _note(self.unread, key, why)

    def _read_tags(
        self, item: Object, vault_version: str, vault_etag: str, sha256: str, properties_text: str, known: Record
    ) -> None:
        if not self.read and self.unread_count >= _ENOUGH:
            return
        version = item.version if self._exact or item.version != NULL else ""
        at = int(time.time())
        try:
            told = None if self._tagless else copier.tags(self._source, item.key, version)
        except NotFoundError:
            return  # gone since it was listed
        except LifeboatError as exc:
            if not copier.answered(exc):
                raise
            self.not_read(item.key, exc.cause)
            return
        self._tagless = told is None  # a server that knows no tags: nothing has any, and it is not asked again
        now = Record(known.headers, properties.written(told or []), at)
        changed = self._bring(item.key, vault_version, known.tags, told or [])
        self._state.tags_read(item, vault_version, vault_etag, (sha256, properties_text), now)
        with self._lock:
            self.read += 1
            self.changed += changed

    def _bring(self, key: str, vault_version: str, known: Optional[str], tags: copier.Tags) -> bool:
        """Give the vault's copy the tags that the source has now, where they are others than before."""
        # Older listings tell nothing, and what the vault has counts.
        before = self._of_copy(key, vault_version) if known is None else list(properties.pairs(known))
        if before == tags:
            return False
        why = copier.ensure_tags(self._vault, key, "" if vault_version == NULL else vault_version, tags)
        if why:
            self.refuse(key, why)
        return True

    def _of_copy(self, key: str, vault_version: str) -> Optional[copier.Tags]:
        """None where that is not known."""
        try:
            return copier.tags(self._vault, key, "" if vault_version == NULL else vault_version) or []
        except LifeboatError as exc:
            if not copier.answered(exc):
                raise
            return None


@functools.lru_cache(maxsize=4096)
def _tags_text(tags: str) -> str:
    """Tags as a server lists them, as they are on record."""
    return properties.written(parse_qsl(tags, keep_blank_values=True))


def _note(named: list[Unheld], key: str, why: str) -> None:
    """Keep the first few, by name."""
    named.append(Unheld(key, why))
    named.sort(key=lambda entry: entry.key)
    del named[SHOWN:]
