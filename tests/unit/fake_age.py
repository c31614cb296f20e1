#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for age where none is installed: its command line, its header, its words on errors.

What it wrote cannot be read by eye, and that is all: anybody with this file can.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

INTRO = b"age-encryption.org/v1\n"


def install() -> None:
    """Put it on PATH, once, unless the real one is there."""
    if shutil.which("age") and shutil.which("age-keygen"):
        return
    folder = Path(tempfile.mkdtemp(prefix="fake-age-"))
    for name in ("age", "age-keygen"):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {Path(__file__).resolve()} {name} "$@"\n')
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def identity() -> str:
    """A fresh one, as age-keygen prints it."""
    install()
    return subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout


def recipient(line: str) -> str:
    """In Bech32, with its checksum: https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki"""
    data = [byte & 31 for byte in hashlib.sha256(line.strip().encode()).digest()] * 2
    data = data[:52]
    letters = b"age"
    values = [letter >> 5 for letter in letters] + [0] + [letter & 31 for letter in letters] + data
    checksum = 1
    for value in values + [0] * 6:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    data += [(checksum ^ 1) >> 5 * (5 - place) & 31 for place in range(6)]
    return "age1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[value] for value in data)


def fail(words: str) -> None:
    sys.exit(f"age: error: {words}\nage: report unexpected or unhelpful errors at https://filippo.io/age/report")


def keygen(words: list[str]) -> None:
    if "-y" in words:
        lines = [line for line in sys.stdin.read().splitlines() if line.startswith("AGE-SECRET-KEY-1")]
        print("\n".join(recipient(line) for line in lines))
        return
    key = f"AGE-SECRET-KEY-1{secrets.token_hex(29).upper()}"
    print(f"# public key: {recipient(key)}\n{key}")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def veiled(data: bytes, header: bytes) -> bytes:
    """Scrambled, and back again."""
    size = len(data)
    stream = hashlib.shake_256(header).digest(size)
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def age(words: list[str]) -> None:
    if "--encrypt" in words:
        given = [words[n + 1] for n, word in enumerate(words) if word == "--recipient"]
        header = "".join(f"-> X25519 {b64(recipient.encode())}\n{b64(b'x' * 32)}\n" for recipient in given).encode()
        body = sys.stdin.buffer.read()
        mac = b64(hashlib.sha256(header).digest()).encode()
        sys.stdout.buffer.write(INTRO + header + b"--- " + mac + b"\n" + hashlib.sha256(body).digest())
        sys.stdout.buffer.write(veiled(body, header))
        return
    lines = [line for line in sys.stdin.read().splitlines() if line.startswith("AGE-SECRET-KEY-1")]
    data = Path(words[-1]).read_bytes()
    header, found, rest = data.removeprefix(INTRO).partition(b"--- ")
    if not data.startswith(INTRO) or not found or len(rest) < 44:
        fail("failed to read header: parsing age header: unexpected intro")
    names = {b64(recipient(line).encode()).encode() for line in lines}
    if not any(name in header for name in names):
        fail("no identity matched any of the recipients")
    if rest[:43] != b64(hashlib.sha256(header).digest()).encode():
        fail("failed to read header: bad header MAC")
    body = veiled(rest[76:], header)
    if hashlib.sha256(body).digest() != rest[44:76]:
        fail("failed to decrypt and authenticate payload chunk")
    sys.stdout.buffer.write(body)


if __name__ == "__main__":
    {"age": age, "age-keygen": keygen}[sys.argv[1]](sys.argv[2:])
