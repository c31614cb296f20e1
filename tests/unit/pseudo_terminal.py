# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command on a terminal of its own. Not pty.fork(): Python 3.12 warns of a fork where threads run."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Iterator


@contextlib.contextmanager
def running(argv: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process, and our side of its terminal; both are gone afterwards."""
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", "--wait", *argv]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            os.close(ours)  # a hang-up ends what still runs


def read(ours: int) -> bytes:
    """What it shows next; nothing when its last process has closed the terminal."""
    try:
        return os.read(ours, 65536)
    except OSError:  # EIO
        return b""
