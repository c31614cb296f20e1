# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The listing of an objects backup: one JSON object a line, gzipped, in the order of the keys' UTF-8 bytes.

    {"key", "size", "etag", "modified", "version", "vault_version", "vault_etag", "sha256"}

etag, modified and version are the source's; sha256 is null where no one has read the bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from ..base.errors import IntegrityError
from ..base.filesystem import create
from ..base.pipeline import HashingWriter
from ..repository.base import Repository
from ..repository.details import ObjectsDetails
from ..repository.manifest import Manifest

NAME = "listing.jsonl.gz"
FIELDS = ("key", "size", "etag", "modified", "version", "vault_version", "vault_etag", "sha256")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one a line
_COMPARED = ("key", "size", "etag", "sha256")


@dataclass(frozen=True)
class Summary:
    """digest: SHA-256 over [key, size, etag, sha256] of each line as compact JSON, each ended by a newline."""

    objects: int
    bytes: int
    digest: str


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Summary:
    """Write a new listing as the rows come. Raises ValueError where they do not come in the order of their keys."""
    count, size, digest, last = 0, 0, hashlib.sha256(), ""
    # No name and no time in the head of the file: same listing, same bytes.
    with create(path) as raw, gzip.GzipFile("", "wb", 3, raw, mtime=0) as packed:
        file = io.BufferedWriter(packed, 1 << 20)  # type: ignore[type-var,unused-ignore]
        for row in rows:
            if count and row["key"] <= last:
                raise ValueError(f"{row['key']!r} after {last!r}")
            last = row["key"]
            file.write(_line({name: row[name] for name in FIELDS}))
            digest.update(_line([row[name] for name in _COMPARED]))
            count += 1
            size += row["size"]
        file.flush()
    return Summary(count, size, digest.hexdigest())


def _line(value: Any) -> bytes:
    return _encode(value).encode() + b"\n"


def read(file: IO[bytes], subject: str) -> Iterator[dict[str, Any]]:
    """The lines of a listing, as they are asked for. Raises IntegrityError where it is broken or cut."""
    try:
        with gzip.open(file) as lines:
            for line in lines:
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row["key"], str) or not isinstance(row["size"], int):
                    raise ValueError(f"a line is {line[:80]!r}")
                yield row
    except (OSError, EOFError, ValueError, LookupError, zlib.error) as exc:
        raise IntegrityError(
            "read the listing", subject, str(exc) or repr(exc), "Choose another backup (`lifeboat list`)."
        ) from exc


@dataclass(frozen=True)
class Point:
    """One objects backup: what the bucket held at an instant."""

    repo: Repository
    manifest: Manifest

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def at(self) -> datetime:
        return self.manifest.taken_at

    @property
    def settings(self) -> Mapping[str, Any]:
        return dict(self.manifest.detailed(ObjectsDetails).settings)

    def problem(self) -> str:
        """Why its listing cannot be used; empty when every byte is the one that was written."""
        wanted = next((artefact for artefact in self.manifest.artefacts if artefact.name == NAME), None)
        if wanted is None:
            return f"it has no {NAME}"
        writer = HashingWriter()
        with self.repo.open("objects", self.id, NAME) as file:
            for data in iter(lambda: file.read(1 << 20), b""):
                writer.write(data)
        right = (writer.size, writer.sha256) == (wanted.size, wanted.sha256)
        return "" if right else f"{NAME} has another SHA-256 than when it was written"

    def entries(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """The listing's lines below `prefix`, in the order of their keys."""
        with self.repo.open("objects", self.id, NAME) as file:
            for item in read(file, self.id):
                if item["key"].startswith(prefix):
                    yield item
