# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a keeper reads: the repository of a stack's host, which may be hostile. Nothing here can write there.

Whoever answers decides what is read, so every call names the most that it takes, and a budget of time is over all.
"""

from __future__ import annotations

import abc
import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Optional

from ..base import filesystem
from ..base.errors import TIMED_OUT, IntegrityError, LifeboatError, NotFoundError
from ..base.filesystem import CHUNK, explained
from ..base.throttle import Rate

_READ = "read the stack's repository"
Parts = tuple[str, ...]


class BoundError(IntegrityError):
    """There is more than a keeper takes."""


class Budget:
    """The time that one pull has, the time that an answer has, and how many bytes may come a second."""

    def __init__(self, seconds: float, stall: float = 120, rate: float = 0) -> None:
        self._ends, self.seconds, self.stall, self._rate = time.monotonic() + seconds, seconds, stall, Rate(rate)

    def left(self) -> float:
        """Seconds that an answer may take now. Raises where the time is up."""
        rest = self._ends - time.monotonic()
        if rest <= 0:
            raise late(f"it did not end in {self.seconds:.0f} s")
        return min(rest, self.stall)

    def take(self, size: int) -> None:
        """So many bytes came."""
        self.left()
        self._rate.take(size)


def late(cause: str) -> LifeboatError:
    remedy = "The next pull goes on where this one ended. Raise keeper.timeout if the link is slow."
    return LifeboatError("pull from the stack's host", "the time limit", cause, remedy, exit_status=TIMED_OUT)


class Source(abc.ABC):
    """A repository to read, by paths below its root. What is not a plain file is never read, and no link is followed at
    the end of a path; where a link leads on the way does not matter, as bytes count only by their checksum."""

    store = ""  # where the stack's object store is reached as long as this is open, by a port of this host

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    @property
    @abc.abstractmethod
    def location(self) -> str:
        """Where it is, as text."""

    @abc.abstractmethod
    def names(self, folder: str, most: int) -> list[str]:
        """What a folder holds, sorted; nothing where it is not there. Raises BoundError where it holds more."""

    @abc.abstractmethod
    def size(self, parts: Parts) -> int:
        """The size of a plain file. Raises NotFoundError; IntegrityError where it is anything else."""

    @abc.abstractmethod
    def chunks(self, parts: Parts, offset: int, size: int) -> Iterator[bytes]:
        """At most `size` bytes from `offset` on; fewer where the file ends before."""

    def read(self, parts: Parts, most: int) -> bytes:
        """A small file. Raises BoundError where it has more bytes."""
        if self.size(parts) > most:
            raise BoundError(_READ, f"{self.location}: {'/'.join(parts)}", f"it has more than {most} bytes")
        data = b"".join(self.chunks(parts, 0, most + 1))
        if len(data) > most:
            raise BoundError(_READ, f"{self.location}: {'/'.join(parts)}", f"it does not end after {most} bytes")
        return data

    def last_error(self) -> str:
        """What the way there complained of last."""
        return ""

    def close(self) -> None:  # noqa: B027 - a directory has nothing to let go of
        """Let go of whatever is open."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Directory(Source):
    """A repository that is mounted here."""

    def __init__(self, root: Path, budget: Budget) -> None:
        super().__init__(budget)
        self.root = root

    @property
    def location(self) -> str:
        return str(self.root)

    def names(self, folder: str, most: int) -> list[str]:
        self.budget.left()
        found: list[str] = []
        with explained("list the stack's repository", self.root / folder):
            try:
                entries = os.scandir(self.root / folder)
            except FileNotFoundError:
                self.root.stat()  # raises: a repository that is not mounted is not an empty one
                return []
            with entries:
                for entry in entries:
                    found.append(entry.name)
                    if len(found) > most:
                        raise too_many(self.location, folder, most)
        return sorted(found)

    def size(self, parts: Parts) -> int:
        path = self.root.joinpath(*parts)
        with explained(_READ, path):
            status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise not_plain(self.location, parts)
        return status.st_size

    def chunks(self, parts: Parts, offset: int, size: int) -> Iterator[bytes]:
        with explained(_READ, self.root.joinpath(*parts)), contextlib.ExitStack() as stack:
            file = stack.enter_context(filesystem.open_below(self.root, parts))
            file.seek(offset)
            while size > 0 and (data := file.read(min(size, CHUNK))):
                self.budget.take(len(data))
                size -= len(data)
                yield data


def too_many(location: str, folder: str, most: int) -> BoundError:
    cause = f"{folder} holds more than {most} names"
    return BoundError(
        "list the stack's repository", location, cause, "Look there; raise keeper.limits.names if it is right."
    )


def not_plain(location: str, parts: Parts) -> IntegrityError:
    return IntegrityError(_READ, f"{location}: {'/'.join(parts)}", "it is not a plain file")


def missing(location: str, parts: Parts) -> NotFoundError:
    return NotFoundError(_READ, f"{location}: {'/'.join(parts)}", "it is not there")
