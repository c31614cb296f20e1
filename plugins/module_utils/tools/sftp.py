# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a stack's repository over OpenSSH: keys, ciphers and the host's identity are `ssh`'s; the requests are SFTP's.

Of SFTP (version 3, draft-ietf-secsh-filexfer-02) there are the requests that read: INIT, OPENDIR, READDIR, LSTAT, OPEN,
READ, CLOSE. `sftp -b` has no way to read only so many bytes or so many names, and its listing is text that the other
side writes; here every length is looked at before that many bytes are taken.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Callable, Optional

from ..base.errors import LifeboatError, NotFoundError, UsageError, present, printable
from ..base.pipeline import Tail
from .source import Budget, Parts, Source, late, missing, not_plain, too_many

_READ = "read the stack's repository"
_LOOPBACK = "127.0.0.1"
INIT, VERSION, OPEN, CLOSE, READ, LSTAT, OPENDIR, READDIR = 1, 2, 3, 4, 5, 7, 11, 12
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EOF, NO_SUCH_FILE, PERMISSION_DENIED = 1, 2, 3
LARGEST = 256 << 10  # of one message, as OpenSSH has it
BLOCK = 128 << 10  # bytes that are asked for at once; a server that gives fewer is asked for fewer
SMALLEST = 4 << 10  # bytes that are asked for at once, whatever the server gives
AHEAD = 32  # requests that are on their way
_NAMES = 10_000  # in one answer
_NAME = 256  # bytes of a name that are kept: no file has a longer one, and a cut one is no id


def command(host: str, port: int, user: str, key: str, known_hosts: str, forward: str = "") -> list[str]:
    """`ssh` with this key and this host's pinned key, and nothing that the keeper's own configuration may add.

    forward: the one port that it forwards, as its option -L takes it. Where that port is taken here, it ends.
    """
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": key,
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "no" if forward else "yes",
        "ExitOnForwardFailure": "yes",
        "GatewayPorts": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "PermitLocalCommand": "no",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }
    words = [f"-o{name}={value}" for name, value in options.items()]
    words += ["-L", forward] if forward else []
    return ["ssh", "-F", "none", "-T", *words, "-p", str(port), "-l", user, "-s", "--", host, "sftp"]


def way(address: str, port: int) -> tuple[str, str]:
    """The port to forward, as ssh takes it, and the address that it has here then; both empty without one."""
    if not port:
        return "", ""
    with socket.socket() as free:
        # A process that takes it before ssh gets nothing: ssh ends then, and no key is ever sent, only signatures.
        free.bind((_LOOPBACK, 0))
        own = free.getsockname()[1]
    there = f"[{address}]" if ":" in address else address
    return f"{_LOOPBACK}:{own}:{there}:{port}", f"http://{_LOOPBACK}:{own}"


class Sftp(Source):
    """The repository behind an SFTP server. `argv`: the process that speaks it, of command()."""

    def __init__(self, argv: Sequence[str], location: str, root: str, budget: Budget, store: str = "") -> None:
        super().__init__(budget)
        self.store = store
        self._location, self._root = location, root.rstrip("/")
        self._number, self._block = 0, BLOCK
        self._late: set[int] = set()  # requests whose answers nobody waits for any more
        self._buffer = bytearray()
        self._errors = Tail()
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors.fileno(), bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            self._errors.close()
            raise LifeboatError("reach the stack's host", location, f"{argv[0]}: {exc.strerror or exc}") from exc
        os.set_blocking(present(self._process.stdin).fileno(), False)
        self._errors.started()
        # Who reads the store through this connection waits for its own answers: with the process they end too.
        self._end = threading.Timer(budget.seconds, self._process.kill)
        self._end.daemon = True
        try:
            if store:
                self._end.start()
            self._send(INIT, struct.pack(">I", 3))
            kind, body = self._message()
            if kind != VERSION or _Answer(body, self._unlike).number() < 3:
                raise self._unlike("it does not speak version 3")
        except BaseException:
            self.close()
            raise

    @property
    def location(self) -> str:
        return self._location

    def last_error(self) -> str:
        """What the process complained of last, such as that the port may not be forwarded."""
        return printable(" / ".join(_lines(self._errors)[-3:]))[:500]

    def close(self) -> None:
        self._end.cancel()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                present(stream).close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._errors.close()

    # What a Source does.

    def names(self, folder: str, most: int) -> list[str]:
        kind, answer = self._ask(OPENDIR, _bytes(self._path((folder,))))
        try:
            self._refuse(kind, answer, (folder,))
        except NotFoundError:
            return []
        found: list[str] = []
        with self._opened(kind, answer, (folder,)) as handle:
            while True:
                kind, answer = self._ask(READDIR, handle)
                if kind == STATUS:
                    self._only_end(answer, (folder,))
                    return sorted(name for name in found if name not in (".", ".."))
                found += self._listed(kind, answer)
                if (
                    len(found) > most + 2
                ):  # the folder itself and the one above it are listed too, and by some many times
                    raise too_many(self.location, folder, most)

    def size(self, parts: Parts) -> int:
        kind, answer = self._ask(LSTAT, _bytes(self._path(parts)))
        self._refuse(kind, answer, parts)
        if kind != ATTRS:
            raise self._unlike("an answer of another kind than was asked for")
        size, mode = answer.attributes()
        if mode is None or not stat.S_ISREG(mode) or size is None:
            raise not_plain(self.location, parts)
        return size

    def chunks(self, parts: Parts, offset: int, size: int) -> Iterator[bytes]:
        kind, answer = self._ask(OPEN, _bytes(self._path(parts)) + struct.pack(">II", 1, 0))
        with self._opened(kind, answer, parts) as handle:
            yield from self._blocks(parts, handle, offset, size)

    def _blocks(self, parts: Parts, handle: bytes, offset: int, size: int) -> Iterator[bytes]:
        """In their order, many requests on their way at once. After a short answer the rest is asked for again: it is
        the end of the file, or all that the server gives at once, which the next answer tells."""
        end = offset + size
        short = 0
        waiting: collections.deque[tuple[int, int]] = collections.deque()  # (request, how much it asks for)
        came: dict[int, tuple[int, _Answer]] = {}
        asked = offset
        try:
            while True:
                while asked < end and len(waiting) < AHEAD:
                    length = min(self._block, end - asked)
                    waiting.append((self._request(READ, handle + struct.pack(">QI", asked, length)), length))
                    asked += length
                if not waiting:
                    return
                number, length = waiting.popleft()
                while number not in came:
                    which, kind, answer = self._next()
                    if which != number and which not in (other for other, _length in waiting):
                        raise self._unlike("an answer that was not requested")
                    came[which] = (kind, answer)
                kind, answer = came.pop(number)
                if kind == STATUS:
                    self._only_end(answer, parts)
                    return
                data = answer.text() if kind == DATA else b""
                if not 0 < len(data) <= length:
                    raise self._unlike("a block of another length than was asked for")
                self.budget.take(len(data))
                offset += len(data)
                yield data
                if short:
                    self._block = max(short, SMALLEST)
                short = 0
                if len(data) < length:  # what comes after it stands elsewhere than the next one that was asked for
                    short = len(data)
                    self._late |= {other for other, _length in waiting} - came.keys()
                    waiting.clear()
                    came.clear()
                    asked = offset
        finally:
            self._late |= {other for other, _length in waiting} - came.keys()

    @contextlib.contextmanager
    def _opened(self, kind: int, answer: _Answer, parts: Parts) -> Iterator[bytes]:
        self._refuse(kind, answer, parts)
        if kind != HANDLE:
            raise self._unlike("an answer of another kind than was asked for")
        handle = answer.text()
        if len(handle) > 256:
            raise self._unlike("a handle of more than 256 bytes")
        try:
            yield _bytes(handle)
        finally:
            with contextlib.suppress(LifeboatError):  # a connection that is lost is told of by what lost it
                self._late.add(self._request(CLOSE, _bytes(handle)))

    def _listed(self, kind: int, answer: _Answer) -> Iterator[str]:
        count = answer.number()
        if kind != NAME or not 0 < count <= _NAMES:
            raise self._unlike(f"a listing of {count} names")
        for _turn in range(count):
            name = answer.text()
            answer.text()  # a line for people, in the words of the other side
            answer.attributes()
            yield name[:_NAME].decode("utf-8", "surrogateescape")

    # Messages.

    def _path(self, parts: Parts) -> bytes:
        return os.fsencode("/".join((self._root, *parts)))

    def _ask(self, kind: int, body: bytes) -> tuple[int, _Answer]:
        number = self._request(kind, body)
        which, answered, answer = self._next()
        if which != number:
            raise self._unlike("an answer that was not requested")
        return answered, answer

    def _request(self, kind: int, body: bytes) -> int:
        self._number = (self._number + 1) % (1 << 32)
        self._send(kind, struct.pack(">I", self._number) + body)
        return self._number

    def _send(self, kind: int, body: bytes) -> None:
        data, handle = memoryview(struct.pack(">IB", len(body) + 1, kind) + body), present(self._process.stdin).fileno()
        try:
            while data:
                if not select.select([], [handle], [], self.budget.left())[1]:
                    self.budget.left()  # raises where all of the time is up
                    raise late(f"nothing was taken for {self.budget.stall:.0f} s")
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(handle, data) :]
        except OSError as exc:
            raise self._lost() from exc

    def _next(self) -> tuple[int, int, _Answer]:
        """The next answer that somebody waits for: of which request, its kind, and what it says."""
        while True:
            kind, body = self._message()
            answer = _Answer(body, self._unlike)
            number = answer.number()
            if number not in self._late:
                return number, kind, answer
            self._late.discard(number)

    def _message(self) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", self._exactly(4))
        if not 1 <= length <= LARGEST:
            raise self._unlike(f"a message of {length} bytes")
        body = self._exactly(length)
        return body[0], body[1:]

    def _exactly(self, size: int) -> bytes:
        output = present(self._process.stdout)
        while len(self._buffer) < size:
            if not select.select([output], [], [], self.budget.left())[0]:
                self.budget.left()  # raises where all of the time is up
                raise late(f"no answer for {self.budget.stall:.0f} s")
            data = os.read(output.fileno(), LARGEST)
            if not data:
                raise self._lost()
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    # Errors.

    def _refuse(self, kind: int, answer: _Answer, parts: Parts) -> None:
        """Raise the error that a status is."""
        if kind != STATUS:
            return
        code = answer.number()
        if code == NO_SUCH_FILE:
            raise missing(self.location, parts)
        cause = f"the server says: {_answer_text(answer)} ({code})"
        subject = f"{self.location}: {'/'.join(parts)}"
        if code == PERMISSION_DENIED:
            remedy = "The keeper's account must be in the group of lifeboat_repository.group: deploy the stack's host."
            raise UsageError(_READ, subject, cause, remedy)
        raise LifeboatError(_READ, subject, cause)

    def _only_end(self, answer: _Answer, parts: Parts) -> None:
        code = answer.number()
        if code != EOF:
            raise LifeboatError(
                _READ, f"{self.location}: {'/'.join(parts)}", f"the server says: {_answer_text(answer)} ({code})"
            )

    def _unlike(self, cause: str) -> LifeboatError:
        """Of the connection and not of one file: after that no answer can be told from another."""
        return LifeboatError(_READ, self.location, f"the answer is not SFTP: {cause}", "Look at the stack's host.")

    def _lost(self) -> LifeboatError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        said = self.last_error()
        status = self._process.returncode
        remedy = "Try it by hand, as the keeper's user: docs/keeper.md#when-a-pull-fails."
        if "Host key verification failed" in said:
            remedy = "Its key is not the pinned one. Find out why before anything else; then deploy the keeper again."
        return LifeboatError(
            "reach the stack's host", self.location, said or "the connection was closed", remedy, exit_status=status
        )


class _Answer:
    """One message, taken apart from its beginning."""

    def __init__(self, body: bytes, unlike: Callable[[str], LifeboatError]) -> None:
        self._body, self._at, self._unlike = body, 0, unlike

    def _take(self, size: int) -> bytes:
        taken = self._body[self._at : self._at + size]
        if len(taken) < size:
            raise self._unlike("a message ends in the middle of a field")
        self._at += size
        return taken

    def number(self) -> int:
        return int(struct.unpack(">I", self._take(4))[0])

    def text(self) -> bytes:
        return self._take(self.number())

    def attributes(self) -> tuple[Optional[int], Optional[int]]:
        """Size and mode, where they are told."""
        flags = self.number()
        size = int(struct.unpack(">Q", self._take(8))[0]) if flags & 1 else None
        if flags & 2:
            self._take(8)
        mode = self.number() if flags & 4 else None
        if flags & 8:
            self._take(8)
        if flags & 0x80000000:
            for _turn in range(min(self.number(), 100)):
                self.text(), self.text()
        return size, mode


def _bytes(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _answer_text(answer: _Answer) -> str:
    return printable(answer.text()[:200].decode("utf-8", "replace"))


def _lines(stream: Tail) -> list[str]:
    return [line.strip() for line in stream.text().splitlines() if line.strip()]
