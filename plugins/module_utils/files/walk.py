# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walk a tree of somebody else's files: by handles of its directories, so that no link leads out of it, in the order
of a listing. Nothing is followed, no other file system is entered, and what cannot be read is named."""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import os
import re
import resource
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Union

from ..base import filesystem
from ..base.errors import printable

DEPTH = 2_000  # directories; a path has 4,096 bytes
OWN = ".lifeboat-"  # how the names begin of what a recovery keeps there; no backup has them
Place = Union[int, str]


class Node(NamedTuple):
    """One of a tree. path: below the name of the source. at, name: a handle of its directory, and what it is called
    there; both hold until the next one is asked for."""

    path: str
    at: int
    name: str
    status: os.stat_result


class Problems:
    """What could not be read, and why: the first few by name, the others counted."""

    def __init__(self, most: int = 20) -> None:
        self.first: dict[str, str] = {}
        self.count, self._most = 0, most

    def add(self, path: str, why: Union[str, OSError]) -> None:
        self.count += 1
        if len(self.first) < self._most:
            words = why if isinstance(why, str) else why.strerror or str(why)
            self.first.setdefault(printable(path), words)


def excluder(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Is a path, below the root of its source, left out? A pattern with no slash is one of names, wherever they are;
    one with a slash begins at the root, and ** stands for any number of directories. What is below goes with it."""
    parts = []
    for pattern in patterns:
        anchored = "/" in pattern.strip("/") or pattern.startswith("/")
        shape = fnmatch.translate(pattern.strip("/"))
        inner = shape[shape.index("(?s:") + 4 : shape.rindex(")")]
        inner = inner.replace(".*.*", "\0").replace(".*", "[^/]*").replace("\0", ".*")
        parts.append(f"{'' if anchored else '(?:.*/)?'}{inner}")
    if not parts:
        return nothing
    matches = re.compile(f"(?s:{'|'.join(parts)})").fullmatch
    return lambda path: matches(path) is not None


def nothing(_path: str) -> bool:
    """What is left out where nothing is."""
    return False


def root(path: str) -> int:
    """A handle of a source, whose path may lead through links of the host's."""
    return filesystem.descend(Path("/"), filter(None, filesystem.real(path).split("/")))


def walk(directory: str, source: str, problems: Problems, left_out: Callable[[str], bool] = nothing) -> Iterator[Node]:
    """Everything of the source, itself first, a directory before what is in it. Raises OSError where its root cannot be
    read; below it that is one of the problems."""
    _many_handles()
    top = root(directory)
    status = os.fstat(top)
    yield Node(source, top, ".", status)
    stack, below_source = [(top, source, iter(_names(top)))], len(source) + 1
    try:
        while stack:
            at, path, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                os.close(at)
                continue
            here = f"{path}/{name}"
            if name.startswith(OWN) or (left_out is not nothing and left_out(here[below_source:])):
                continue
            try:
                found = os.stat(name, dir_fd=at, follow_symlinks=False)
                yield Node(here, at, name, found)
                if not stat.S_ISDIR(found.st_mode):
                    continue
                if found.st_dev != status.st_dev:
                    problems.add(here, "another file system is mounted there: name it as a source of its own")
                elif len(stack) >= DEPTH:
                    problems.add(here, f"more than {DEPTH} directories deep")
                else:
                    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                    stack.append((below, here, iter(())))
                    stack[-1] = (below, here, iter(_names(below)))
            except FileNotFoundError:
                continue  # it went while it was walked: so it is in no backup of now
            except OSError as exc:
                problems.add(here, exc)
    finally:
        for at, _path, _names_left in stack:
            with contextlib.suppress(OSError):
                os.close(at)


def _names(at: int) -> list[str]:
    return sorted(os.listdir(at))


def _many_handles() -> None:
    """One is open for each directory on the way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * DEPTH if hard == resource.RLIM_INFINITY else min(2 * DEPTH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def inside(at: int, name: str) -> str:
    """A path to it for calls that take no handle of a directory; no link on the way, and none is followed at its end
    where the call is told so."""
    return f"/proc/self/fd/{at}/{name}"


def xattrs(at: int, name: str) -> Mapping[str, str]:
    """The extended attributes of an entry, as attributes() has them."""
    return attributes(inside(at, name), follow=False)


def attributes(file: Union[str, int], *, follow: bool) -> Mapping[str, str]:
    """Extended attributes, access control lists among them, in base64; none where the file system has no such."""
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError:
        return {}
    found = {}
    for key in sorted(names):
        with contextlib.suppress(OSError):  # gone by now, or not for us
            found[key] = base64.b64encode(os.getxattr(file, key, follow_symlinks=follow)).decode("ascii")
    return found
