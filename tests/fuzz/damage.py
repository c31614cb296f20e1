# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk, a bug or somebody who may write does to files: bytes, JSON of wrong types, names, things that are none.

Each damage is chosen at random, done to a directory, and told in one line, so that a finding can be done by hand.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sealing

EVIDENCE = "lifeboat.dr/evidence"
DEEP = 900  # levels of nesting: below what json.loads follows, beyond what a recursion of ours does
# Put in as they are, since no Python value is written so.
RAW = {
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep mappings": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deeper than any parser": "[" * 100_000 + "]" * 100_000,
    "NaN": "NaN",
    "infinity": "-Infinity",
    "a number of 5000 digits": "9" * 5000,
    "a number of 400 digits": "9" * 400,
    "1e999": "1e999",
    "a key twice": '{"id": 1, "id": 2}',
}
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 0.5, 1e308, 2**31, 2**32, 2**63, 2**70, -(2**70), 10**18, "", " ", "0", "x", "inf",
    "\0", "a\0b", "\ud800", "a\udcffb", "\u202e\x1b[2J\n", "../../etc/passwd", "/", ".", "..", "/dev/zero", "~",
    "a" * 300, "a" * 100_000, "99999999_999999", "00000000_000000", "db_backup_99999999_999999", "٢٠٢٦١١٢٤_١٢٠٠٠٠",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T25:00:00Z", "1970-01-01",
    "2199-01-01T00:00:00Z", "http://[::1", "http://[::1]:99999/", "http://a b/", "https://", "file:///etc/passwd",
    "-----BEGIN PRIVATE KEY-----", "age1", "{{ 7*7 }}", "%s%n", "'; --", [], {}, [[]], [None], {"": None}, {"\0": "\0"},
    {"\ud800": 1}, ["a", 1, None],
    [0] * 3000,
)  # fmt: skip
BYTES = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x80", b"\n", b'"', b"\\ud800", b"9" * 400, b"[" * DEEP, b"}",
    b"\x1f\x8b\x08",
)  # fmt: skip
NAMES: tuple[bytes, ...] = (
    b"\xff\xfe", b"a\nb", b"x" * 255, b"-rf", b"$(x)", b".partial-x", b".deleting-x", b"db_backup_99999999_999999",
    b"db_backup_20261124_1200000", b"objects_backup_20260230_250000", b"config_backup_00000000_000000",
    b"99999999_999999.json", b"20260230_250000.json", b"recovery_99999999_999999.json", b"escrow-shop.json",
    "db_backup_٢٠٢٦١١٢٤_١٢٠٠٠٠".encode(), b"claim.json", b"manifest.json", b"\xe2\x80\xae.json",
)  # fmt: skip
HUGE = 3 << 30  # bytes that a file claims to have; it is sparse


@dataclass(frozen=True)
class Damage:
    """words: what was done. forged: by somebody who knows what he does, so that a verdict may well be a better one."""

    words: str
    forged: bool = False


def files(root: Path) -> list[Path]:
    """Sorted, so that the same seed damages the same file; links not followed. Not what is huge by now: a damage
    reads it whole."""
    return sorted(
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_size < HUGE
    )


def damaged(rng: Random, root: Path, places: Sequence[str]) -> list[Damage]:
    """Do one to three damages below these places of `root`."""
    return [_one(rng, root, places) for _ in range(rng.choice((1, 1, 1, 2, 3)))]


def _one(rng: Random, root: Path, places: Sequence[str]) -> Damage:
    found = [path for place in places for path in ([root / place] if (root / place).is_file() else files(root / place))]
    if not found:
        return Damage("nothing is left to damage")
    path = rng.choice(found)
    how = rng.choice(WAYS)
    words = how(rng, path, root)
    shown = repr(os.fsencode(path.relative_to(root)))[1:]
    return words if isinstance(words, Damage) else Damage(f"{shown}: {words}")


# Bytes.


def cut_up(rng: Random, given: bytes) -> tuple[bytes, str]:
    """Bytes with one thing done to them."""
    data, at = bytearray(given), rng.randrange(max(len(given), 1))
    kind, some = rng.choice(("flip", "cut", "insert", "put", "repeat", "drop")), rng.choice(BYTES)
    if kind == "flip" and data:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = some
    elif kind == "put":
        data[at : at + len(some)] = some
    elif kind == "repeat":
        data[at:at] = data[at : at + 64]
    else:
        del data[at : at + rng.randint(1, 64)]
    return bytes(data), f"{kind} at byte {at}{f' {some[:16]!r}' if kind in ('insert', 'put') else ''}"


def _bytes(rng: Random, path: Path, _root: Path) -> str:
    data, words = cut_up(rng, path.read_bytes())
    path.write_bytes(data)
    return words


def spoiled(rng: Random, data: bytes) -> tuple[bytes, str]:
    """The like of what a tool or a server says: JSON of wrong types, where it is JSON or one of its lines is."""
    if rng.random() < 0.4:
        return cut_up(rng, data)
    lines = [data] if rng.random() < 0.5 else data.splitlines(keepends=True)
    number = rng.randrange(max(len(lines), 1))
    try:
        body, words = edited(rng, json.loads(lines[number]))
        text = json.dumps(body, ensure_ascii=rng.random() < 0.5)
    except (ValueError, IndexError, RecursionError):
        return cut_up(rng, data)
    if rng.randrange(8) == 0:
        words, text = rng.choice(list(RAW.items()))
    lines[number] = text.encode("utf-8", "surrogatepass") + b"\n" * (len(lines) > 1)
    return b"".join(lines), f"line {number}: {words}"


# JSON.


def places_of(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within, the whole first."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places_of(item, (*at, key))


def edited(rng: Random, body: Any) -> tuple[Any, str]:
    """JSON with one thing changed: a value by another, a key that is gone, one that is new, one that moved."""
    at = rng.choice(list(places_of(body)))
    kind = rng.choice(("value", "value", "value", "drop", "new", "wrap", "borrow"))
    value = rng.choice(VALUES)
    if kind == "borrow":
        value = _at(body, rng.choice(list(places_of(body))))
    if kind == "wrap":
        value = [_at(body, at)]
    value = json.loads(json.dumps(value))  # what is borrowed must not hold itself
    if not at:
        return value, f"all of it is {shown(value)}"
    held = _at(body, at[:-1])
    where = ".".join(map(str, at))
    if kind == "drop":
        del held[at[-1]]
        return body, f"without {where}"
    if kind == "new" and isinstance(held, dict):
        name = rng.choice(("", "x", "\0", "signature", "\ud800"))
        held[name] = value
        return body, f"{where} has next to it {name!r}: {shown(value)}"
    held[at[-1]] = value
    return body, f"{where} is {shown(value)}"


def _at(body: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        body = body[key]
    return body


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:50]}… ({len(text)} characters)"


def _json(rng: Random, path: Path, root: Path) -> Any:
    try:
        body = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return _bytes(rng, path, root)
    name = repr(os.fsencode(path.relative_to(root)))[1:]
    if rng.randrange(6) == 0:
        word, text = rng.choice(list(RAW.items())), "LIFEBOAT-RAW"
        at = rng.choice(list(places_of(body)))
        if at:
            _at(body, at[:-1])[at[-1]] = text
            said = json.dumps(body, indent=1, ensure_ascii=False).replace(f'"{text}"', word[1])
        else:
            said = word[1]
        path.write_text(said, encoding="utf-8", errors="backslashreplace")
        return Damage(f"{name}: {'.'.join(map(str, at)) or 'all of it'} is {word[0]}", forged=not _sealed(body))
    sealed = _sealed(body)
    body, words = edited(rng, body)
    again = sealed and rng.random() < 0.5
    path.write_bytes(resealed(body) if again else _rendered(body))
    return Damage(f"{name}: {words}{', resealed' if again else ''}", forged=again or not sealed)


def _sealed(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get("seal"), str) and "levels" not in body


def resealed(body: Any) -> bytes:
    """With a seal that is right: anybody who can write the file can make it."""
    if not isinstance(body, dict):
        return _rendered(body)
    with contextlib.suppress(RecursionError, ValueError):
        if body.get("schema") == EVIDENCE:
            return _rendered({**body, "seal": schema.seal(body)})
        return sealing.render({**body, "seal": sealing.seal(body)})
    return _rendered(body)


def _rendered(body: Any) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _lines(rng: Random, path: Path, root: Path) -> Any:
    """One line of a gzipped list, or of a text."""
    try:
        packed = path.suffix == ".gz"
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        lines = data.splitlines(keepends=True)
        number = rng.randrange(len(lines))
        body, words = edited(rng, json.loads(lines[number]))
    except (ValueError, OSError, EOFError, RecursionError):
        return _bytes(rng, path, root)
    lines[number] = json.dumps(body).encode() + b"\n"
    path.write_bytes(gzip.compress(b"".join(lines)) if packed else b"".join(lines))
    return Damage(f"{path.relative_to(root)}: line {number}: {words}", forged=True)


# Names, and what is no plain file.


def _replaced(rng: Random, path: Path, root: Path) -> str:
    word = rng.choice(tuple(THINGS))
    path.unlink()
    THINGS[word](path)
    return f"is now {word}"


def _huge(path: Path) -> None:
    path.touch()
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bounds[1], bounds[1]))
    os.truncate(path, HUGE)
    resource.setrlimit(resource.RLIMIT_FSIZE, bounds)


THINGS: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: None,
    "empty": lambda path: path.touch(),
    "a directory": lambda path: path.mkdir(),
    "a directory with a file": lambda path: (path.mkdir(), (path / "x").touch()),
    "a pipe": os.mkfifo,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "a link to a directory": lambda path: path.symlink_to("/"),
    "a link to a pipe": lambda path: (os.mkfifo(path.with_name("x-pipe")), path.symlink_to("x-pipe")),
    "3 GiB of zeros": _huge,
}


def _swapped(rng: Random, path: Path, root: Path) -> str:
    other = rng.choice(files(root))
    path.write_bytes(other.read_bytes() if other.stat().st_size < 1 << 24 else b"")
    return f"has the content of {os.fsencode(other.relative_to(root))!r}"


def _copied(rng: Random, path: Path, root: Path) -> str:
    """The file, or the directory that it is in, under another name next to it."""
    name = rng.choice(NAMES)
    source = path if rng.random() < 0.5 or path.parent == root else path.parent
    target = source.with_name(os.fsdecode(name))
    with contextlib.suppress(OSError, shutil.Error):
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        elif not os.path.lexists(target):
            target.write_bytes(path.read_bytes())
    return f"{'its directory' if source != path else 'it'} is also there as {name!r}"


def _removed(rng: Random, path: Path, root: Path) -> str:
    if path.parent == root or rng.random() < 0.5:
        path.unlink()
        return "gone"
    shutil.rmtree(path.parent)
    return "gone with its directory"


WAYS: tuple[Callable[[Random, Path, Path], Any], ...] = (
    _bytes, _bytes, _json, _json, _json, _json, _lines, _replaced, _swapped, _copied, _removed,
)  # fmt: skip
