"""Fill what the shop keeps besides: COUNT uploads with their rows, COUNT reviews, COUNT baskets. Runs in the backend's
image, which has what it takes.

Usage: seed_other_stores.py COUNT. Idempotent: what is there is left alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import sys
from contextlib import closing

import other_stores
from stores import database

WORDS = ("invoice", "delivery", "photo", "contract", "写真", "note")


def make_places() -> None:
    for number in range(256):  # later uploads make none, so that a comparison finds the same directories
        (other_stores.UPLOADS / f"{number:02x}").mkdir(exist_ok=True)
    with closing(sqlite3.connect(other_stores.LIST)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS upload (path TEXT PRIMARY KEY, name TEXT, sha256 TEXT)")
    with other_stores.reviews() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS reviews (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(500) NOT NULL,"
            " at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) CHARACTER SET utf8mb4"
        )


def upload(number: int) -> None:
    """Upload NUMBER: the same bytes each time, a third of them noise."""
    source = random.Random(number)  # noqa: S311 - test data
    size = source.choice((0, 300, 3_000, 12_000)) if number != 7 else 3_000_000
    text = f"{number} {source.choice(WORDS)} ".encode()
    body = source.randbytes(size // 3) + (text * (size // len(text) + 1))[: size - size // 3]
    other_stores.store_upload(f"{source.choice(WORDS)}-{number}.bin", body)


def odd_files() -> None:
    """What a file system knows besides contents."""
    folder = other_stores.UPLOADS / "odd"
    if folder.exists():
        return
    folder.mkdir()
    (folder / "new\nline").write_bytes(b"a name of two lines")
    (folder / os.fsdecode(b"no-utf8-\xff")).write_bytes(b"a name that is no text")
    first = folder / "first"
    first.write_bytes(b"a file with two names")
    os.link(first, folder / "second")
    first.chmod(0o4751)
    os.utime(first, ns=(1, 1_700_000_000_123_456_789))
    (folder / "link").symlink_to("../nowhere")
    with contextlib.suppress(OSError):  # not every file system has them
        os.setxattr(first, "user.origin", b"seed\xff")
    with (folder / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"x")
        file.truncate(9 << 20)


def main() -> None:
    count = int(sys.argv[1])
    make_places()
    with other_stores.rows() as cursor:
        cursor.execute("SELECT count(*) AS n FROM app.uploads")
        there = cursor.fetchone()["n"]
    for number in range(there, count):
        upload(number)
    with other_stores.reviews() as cursor:
        cursor.execute("SELECT count(*) FROM reviews")
        (reviews,) = cursor.fetchone()
        texts = [(f'商品 {number}: it\'s \\ "good"\n',) for number in range(reviews, count)]
        if texts:
            cursor.executemany("INSERT INTO reviews (text) VALUES (%s)", texts)
    for number in range(count):
        basket = other_stores.Basket(items=[f"商品 {number}"])
        other_stores.baskets().set(f"basket:seed-{number}", basket.model_dump_json(), nx=True)
    odd_files()
    database().close()
    print(f"uploaded {max(0, count - there)}")


if __name__ == "__main__":
    main()
