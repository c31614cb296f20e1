# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Search every byte of a directory, in what is compressed too, for words that should not be there."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

GZIP, ZSTD, PACKED = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def faces(data: bytes) -> Iterator[bytes]:
    """The bytes, and what they are once they are decompressed, however often."""
    yield data
    if data.startswith(GZIP):
        yield from faces(gzip.decompress(data))
    elif data.startswith(ZSTD):
        done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True)
        yield from faces(done.stdout)
    else:
        yield from streams(data)


def streams(data: bytes) -> Iterator[bytes]:
    """The zlib streams within: of a dump in the custom format, of a git bundle."""
    for head in PACKED:
        at = data.find(head)
        while at >= 0:
            with contextlib.suppress(zlib.error):  # two bytes that are the head of nothing
                yield zlib.decompressobj().decompress(data[at:])
            at = data.find(head, at + 1)


def found(root: Path, wanted: Iterable[str]) -> dict[str, set[str]]:
    """By each of the words, the files below `root` that hold it: in their bytes, or in their names."""
    where: dict[str, set[str]] = {word: set() for word in wanted}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        bodies = list(faces(path.read_bytes())) if path.is_file() else []
        for word, files in where.items():
            if word in name or any(word.encode() in body for body in bodies):
                files.add(name)
    return where
