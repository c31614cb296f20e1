# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An SFTP server on standard input and output, as honest or as hostile as its second argument says.

python sftp_stub.py DIRECTORY MODE
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import Optional

INIT, OPEN, READ, LSTAT, OPENDIR, READDIR = 1, 3, 5, 7, 11, 12
OUT = sys.stdout.buffer


def send(kind: int, body: bytes) -> None:
    OUT.write(struct.pack(">IB", len(body) + 1, kind) + body)
    OUT.flush()


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def status(number: int, code: int, words: bytes = b"as it says") -> None:
    send(101, struct.pack(">II", number, code) + text(words) + text(b"en"))


def exactly(size: int) -> Optional[bytes]:
    data = sys.stdin.buffer.read(size)
    return data if len(data) == size else None


class Server:
    def __init__(self, root: Path, mode: str) -> None:
        self.root, self.mode = root, mode
        self.files: dict[bytes, Path] = {}
        self.listings: dict[bytes, list[list[bytes]]] = {}

    def serve(self) -> None:
        if self.mode == "motd":
            OUT.write(b"Welcome to Debian GNU/Linux\n" * 100)
            OUT.flush()
        while (head := exactly(4)) is not None:
            body = exactly(struct.unpack(">I", head)[0])
            if body is None:
                return
            self.answer(body[0], body[1:])

    def answer(self, kind: int, body: bytes) -> None:
        if kind == INIT:
            if self.mode == "silent":
                time.sleep(600)
            send(2, struct.pack(">I", 2 if self.mode == "version 2" else 3))
            return
        (number,) = struct.unpack(">I", body[:4])
        if self.mode == "wrong request":
            number += 7
        (length,) = struct.unpack(">I", body[4:8])
        name, rest = body[8 : 8 + length], body[8 + length :]
        path = self.root / os.fsdecode(name).lstrip("/")
        if kind == OPENDIR:
            self.open_directory(number, path)
        elif kind == READDIR:
            self.read_directory(number, name)
        elif kind == LSTAT:
            self.look(number, path)
        elif kind == OPEN:
            self.open(number, path)
        elif kind == READ:
            self.read(number, self.files[name], rest)
        else:
            status(number, 0)

    def open(self, number: int, path: Path) -> None:
        handle = b"x" * 300 if self.mode == "long handle" else str(number).encode()
        if path.exists():
            self.files[handle] = path
            send(102, struct.pack(">I", number) + text(handle))
        else:
            status(number, 2)

    def open_directory(self, number: int, path: Path) -> None:
        if self.mode == "denied":
            status(number, 3, b"Permission denied")
        elif not path.is_dir():
            status(number, 2)
        else:
            handle = f"d{number}".encode()
            names = [b".", b"..", *(os.fsencode(item.name) for item in path.iterdir())]
            self.listings[handle] = [names[at : at + 100] for at in range(0, len(names), 100)]
            send(102, struct.pack(">I", number) + text(handle))

    def read_directory(self, number: int, handle: bytes) -> None:
        if self.mode == "endless names":
            names = [f"n{number}-{at}".encode() for at in range(500)]
        elif self.mode == "endless dots":
            names = [b"."] * 500
        elif self.mode == "a slash":
            names = [b"../../etc/passwd"] if self.listings[handle] else []
            self.listings[handle] = []
        else:
            names = self.listings[handle].pop(0) if self.listings[handle] else []
        if not names:
            status(number, 4 if self.mode == "a failing end" else 1)
            return
        count = 4_000_000_000 if self.mode == "four billion names" else len(names)
        body = b"".join(text(name) + text(b"-rw-r--r-- " + name) + struct.pack(">I", 0) for name in names)
        send(104, struct.pack(">II", number, count) + body)

    def look(self, number: int, path: Path) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            status(number, 2)
            return
        if self.mode == "no mode":
            send(105, struct.pack(">IIQ", number, 1, found.st_size))
        elif self.mode == "half attributes":
            send(105, struct.pack(">II", number, 1) + b"\0\0")
        else:
            send(105, struct.pack(">IIQI", number, 5, found.st_size, found.st_mode))

    def read(self, number: int, path: Path, rest: bytes) -> None:
        offset, size = struct.unpack(">QI", rest)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(min(size, 1000) if self.mode == "short blocks" else size)
        if self.mode == "more than asked":
            data += b"more"
        if self.mode == "an empty block":
            data = b""
        if self.mode == "gone":
            sys.exit(3)
        if self.mode == "stops":
            time.sleep(600)
        if self.mode == "a huge message":
            OUT.write(struct.pack(">IB", 4_000_000_000, 103))
            OUT.flush()
            return
        if not data and self.mode != "an empty block":
            status(number, 1)
            return
        send(103, struct.pack(">I", number) + text(data))


if __name__ == "__main__":
    Server(Path(sys.argv[1]), sys.argv[2]).serve()
