# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pg_waldump prints, cut into lines of bounded length for those who read them (wal/records.py, wal/cuts.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...base.errors import IntegrityError
from ...base.text import human

TRANSACTIONS = "--rmgr=Transaction"
_ROW = 64 << 20  # bytes of one line of pg_waldump


class Reader(Protocol):
    """Takes the lines of pg_waldump."""

    def add(self, row: str) -> None: ...


class Rows:
    """A sink for what a process prints."""

    def __init__(self, attempted: str, readers: Sequence[Reader]) -> None:
        self._attempted, self._readers, self._left = attempted, readers, b""

    def write(self, data: bytes, /) -> None:
        *rows, self._left = (self._left + data).split(b"\n")
        if len(self._left) > _ROW:
            raise IntegrityError(self._attempted, "pg_waldump", f"a line of it has more than {human(_ROW)}")
        for row in rows:
            text = row.decode("utf-8", "replace")
            for reader in self._readers:
                reader.add(text)
