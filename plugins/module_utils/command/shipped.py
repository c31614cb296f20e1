# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat ship`: the program that rsyslog gives log lines to."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..base import filesystem, lock
from ..base.errors import Log
from ..operations import shipping
from ..settings import config

if TYPE_CHECKING:
    from .report import Answer


_ENDS = 40.0  # seconds: of one try of a batch, and less than rsyslog waits for us (confirmTimeout)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="the store, such as https://logs.example.org:9200")
    parser.add_argument("--index", default="logs-lifeboat-default", help="the data stream or index")
    parser.add_argument(
        "--ca", default="", metavar="FILE", help="the CA of the store's certificate (default: the system's)"
    )
    parser.add_argument(
        "--authorization", type=Path, default=None, metavar="FILE",
        help="a private file with user:password, or a whole header such as ApiKey ...",
    )  # fmt: skip

    parser.add_argument(
        "--again", action="store_true",
        help="send what the store refused (refused.ndjson) once more, remove what it accepts now, and end",
    )  # fmt: skip


def run(loaded: config.Config, arguments: argparse.Namespace, log: Log) -> Answer:
    """Secrets of all stacks of this host are blanked: any of them may stand in a line of the journal."""
    # rsyslog 8.2504 reports at its own end a program that a signal ended, by a name that it has freed, and crashes: end
    # well instead. What waits is on the disk already.
    signal.signal(signal.SIGTERM, _ended)
    said = ""
    if arguments.authorization:
        with filesystem.explained("read the store's credentials", arguments.authorization):
            said = filesystem.read_plain(arguments.authorization).decode()
    store = shipping.Store(arguments.url, arguments.index, shipping.authorization(said), arguments.ca)
    directory = arguments.config_directory or config.DIRECTORY
    secrets = {"log store": said.strip().rpartition(" ")[2].rpartition(":")[2]}
    for stack in config.stacks(directory):
        found = loaded if stack == loaded.stack else config.load(stack, directory)
        secrets.update({f"{stack} {name}": word for name, word in found.secrets.items()})
    place = loaded.state / "shipping"
    if arguments.again:
        taken, left, why = shipping.again(place, store.post)
        words = f"{taken} lines were taken, {left} are left" + (f": {why}" if why else "")
        return (6 if left else 0), {"taken": taken, "left": left, "why": why}, [words]
    # rsyslog begins another when one of us does not end in time: that one waits for this to have ended.
    with contextlib.suppress(BrokenPipeError), lock.held(f"{loaded.stack}.ship", "ship", wait=_ENDS, directory=place):
        shipping.run(sys.stdin.buffer, sys.stdout, store.post, secrets, shipping.Queue(place, log), log)
    return 0, {}, []


def _ended(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)
