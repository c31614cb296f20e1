#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for age where none is installed: its command line, its header, its words on errors. It hides nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
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


def recipient(line: str) -> str:
    return "age1" + hashlib.sha256(line.strip().encode()).hexdigest()


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


def age(words: list[str]) -> None:
    if "--encrypt" in words:
        given = [words[n + 1] for n, word in enumerate(words) if word == "--recipient"]
        header = "".join(f"-> X25519 {b64(recipient.encode())}\n{b64(b'x' * 32)}\n" for recipient in given).encode()
        body = sys.stdin.buffer.read()
        mac = b64(hashlib.sha256(header).digest()).encode()
        sys.stdout.buffer.write(INTRO + header + b"--- " + mac + b"\n" + hashlib.sha256(body).digest() + body)
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
    body = rest[44:]
    if hashlib.sha256(body[32:]).digest() != body[:32]:
        fail("failed to decrypt and authenticate payload chunk")
    sys.stdout.buffer.write(body[32:])


if __name__ == "__main__":
    {"age": age, "age-keygen": keygen}[sys.argv[1]](sys.argv[2:])
