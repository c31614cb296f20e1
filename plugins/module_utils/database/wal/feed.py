# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hand a throw-away server its WAL through two FIFOs in a directory that it can read.

The server's `restore_command` is a script of ours: it writes the name of the file that it needs, and reads the answer.
Segments are put together and decrypted here, some ahead, so that no key and no network is needed in the container.

What the script's exit status does was tried with PostgreSQL 15 and 17, in standby mode and otherwise: 0 and the file is
there; 1: the archive does not have it, so the server waits, or looks in its own pg_wal; above 125: the archive cannot
be reached, and the recovery ends with FATAL. With 1 in place of that it would end as if the WAL had ended.
"""

from __future__ import annotations

import os
import re
import select
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Optional, Protocol

from ...base.errors import LifeboatError
from ...base.filesystem import explained
from ...wal import segments

HANDED, MISSING, UNREACHABLE = 0, 1, 200
SCRIPT = "restore.sh"
_FILES = "files"
_WANT, _HAVE = "want", "have"
_AHEAD = 2  # segments that are put together before they are asked for
_MOST = 4096  # bytes that are read at once, and of a line
_EVERY = 200  # milliseconds in which the end is noticed
_NAME = re.compile(r"[0-9A-F]{24}|[0-9A-F]{8}\.history", re.ASCII)
_FEED = "hand the server its WAL"

# $1: the file that is needed, $2: where it goes. What an earlier one was answered, who was stopped, is passed over.
_RESTORE = """\
#!/bin/sh
printf '%s\\n' "$1" > "{inside}/{want}" || exit {unreachable}
while read -r name answer; do
  [ "$name" = "$1" ] || continue
  [ "$answer" = {handed} ] || exit "$answer"
  cp "{inside}/{files}/$1" "$2" && exit {handed}
  exit {unreachable}
done < "{inside}/{have}"
exit {unreachable}
"""


class Files(Protocol):
    """Where the files come from: an Archive."""

    def write(self, name: str, target: Path) -> bool: ...


class Feeder:
    """Answers in a thread of its own, within the `with`. error: why the archive could not be read; the server ends
    then. repeated: how often in turn files were asked for that had been asked for before, as at the end of the WAL."""

    def __init__(self, files: Files, folder: Path, inside: str, segment: int) -> None:
        self._files, self._folder, self._segment = files, folder, segment
        self.command = f'sh {inside}/{SCRIPT} %f "%p"'
        self.error: Optional[LifeboatError] = None
        self.repeated = self.handed = 0
        self._asked: set[str] = set()
        self._done = threading.Event()
        self._ahead: dict[str, Future[bool]] = {}
        with explained(_FEED, folder):
            self._prepare(inside)

    def forget(self) -> None:
        """A server is started that has asked for nothing yet."""
        self._asked.clear()
        self.repeated = 0

    def _prepare(self, inside: str) -> None:
        self._folder.chmod(0o755)  # it lies in a directory that root alone may enter; the server's user sees this one
        (self._folder / _FILES).mkdir(mode=0o755)
        (self._folder / _FILES).chmod(0o755)
        for name in (_WANT, _HAVE):
            os.mkfifo(self._folder / name)
            (self._folder / name).chmod(0o666)
        script = self._folder / SCRIPT
        script.write_text(
            _RESTORE.format(
                inside=inside, want=_WANT, have=_HAVE, files=_FILES, handed=HANDED, unreachable=UNREACHABLE
            ),
            encoding="ascii",
        )
        script.chmod(0o755)

    def __enter__(self) -> Feeder:
        with explained(_FEED, self._folder):
            # For both directions: neither end waits for the other, and none sees the end of the file.
            self._want = os.open(self._folder / _WANT, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._have = os.open(self._folder / _HAVE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._pool = ThreadPoolExecutor(_AHEAD)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._pool.shutdown()
        os.close(self._want)
        os.close(self._have)

    def _run(self) -> None:
        waiting = select.poll()
        waiting.register(self._want, select.POLLIN)
        text = ""
        while not self._done.is_set():
            if not waiting.poll(_EVERY):
                continue
            text += os.read(self._want, _MOST).decode("ascii", "replace")
            *names, text = text.split("\n")
            text = text[:_MOST]
            for name in names:
                self._answer(name)

    def _answer(self, name: str) -> None:
        self.repeated = self.repeated + 1 if name in self._asked else 0
        self._asked.add(name)
        status = self._status(name)
        self._drain()
        os.write(self._have, f"{name} {status}\n".encode("ascii", "replace"))
        self.handed += status == HANDED

    def _drain(self) -> None:
        """Take away what nobody read: the script of a server that was stopped."""
        try:
            while os.read(self._have, _MOST):
                pass
        except BlockingIOError:
            return

    def _status(self, name: str) -> int:
        if self.error is not None:
            return UNREACHABLE
        if not _NAME.fullmatch(name):
            return MISSING
        try:
            there = self._start(name).result()
            self._next(name if there else "")
        except LifeboatError as exc:
            self.error = exc
            return UNREACHABLE
        except Exception as exc:  # whatever it is, the server must not take it for the end of the WAL
            self.error = LifeboatError(_FEED, name, str(exc) or type(exc).__name__)
            return UNREACHABLE
        return HANDED if there else MISSING

    def _start(self, name: str) -> Future[bool]:
        if name not in self._ahead:
            self._ahead[name] = self._pool.submit(self._files.write, name, self._folder / _FILES / name)
        return self._ahead[name]

    def _next(self, name: str) -> None:
        """Prepare the files behind this one, and remove those before it."""
        if not name or segments.history_timeline(name):
            return
        segment = segments.parse_segment(name, self._segment)
        following = [replace(segment, number=segment.number + step).name for step in range(1, _AHEAD + 1)]
        for other in [*self._ahead]:
            if other not in (name, *following):
                self._ahead.pop(other).exception()
                (self._folder / _FILES / other).unlink(missing_ok=True)
        for other in following:
            self._start(other)
