# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second check for secrets: detect-secrets (PyPI), where the host has it. It only adds to what judge finds.

Only its detectors of known kinds of tokens are used: those of keywords and of entropy also report settings and digests,
and a file that is left out is missed in a recovery. It never asks an issuer whether a token is real (--no-verify), as
that would send the token away.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from ..base import filesystem, pipeline
from ..base.errors import Log
from ..base.pipeline import Command
from ..tools import tar

# Not the caller's PATH: it is run as root.
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LARGEST = 256 << 10  # one line of a MiB keeps it busy for minutes
_LEFT_OUT = ("Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector", "KeywordDetector")
_AT_ONCE, _TIMEOUT = 500, 300.0


def scan(paths: Iterable[str], log: Log, *, never: Container[str] = ()) -> frozenset[str]:
    """Return the files among and below `paths` in which detect-secrets sees a secret; none if it is not installed.

    never: directories that a backup does not enter. A check that fails is told to `log`: judge's own has been made.
    """
    command = shutil.which("detect-secrets", path=PLACES)
    if command is None:
        return frozenset()
    told: set[str] = set()
    for root, names in sorted(_files(paths, never).items()):
        ordered = sorted(names)
        for start in range(0, len(ordered), _AT_ONCE):
            told |= _scan_folder(command, root, ordered[start : start + _AT_ONCE], log)
    return frozenset(told)


def _files(paths: Iterable[str], never: Container[str]) -> dict[str, set[str]]:
    """By the directory that they are below. detect-secrets passes over what is not below the one that it works in."""
    below: dict[str, set[str]] = {}
    for path in paths:
        top = tar.followed(path)[0]
        if _suits(top):
            below.setdefault(str(Path(top).parent), set()).add(top)
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in never]
            below.setdefault(top, set()).update(filter(_suits, (os.path.join(folder, name) for name in names)))
    return below


def _suits(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST


def _scan_folder(command: str, root: str, names: Sequence[str], log: Log) -> set[str]:
    if root == "/":  # of which detect-secrets 1.5.0 takes off two characters, and looks at nothing
        log(f"detect-secrets, the second check for secrets, was not made of {', '.join(names)}")
        return set()
    words = [command, "-C", root, "scan", "--all-files", "--no-verify"]
    words += [word for name in _LEFT_OUT for word in ("--disable-plugin", name)]
    status, out, err = pipeline.probe(Command([*words, *names]), timeout=_TIMEOUT)
    why = err.strip()[-200:]
    if status == 0:
        try:
            return {filesystem.real(os.path.join(root, name)) for name in json.loads(out)["results"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            why = "its answer cannot be read"
    log(f"detect-secrets, the second check for secrets, was not made: it exited {status}: {pipeline.scrub(why)}")
    return set()
