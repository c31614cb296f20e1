"""Fill the bucket: COUNT objects, and a row describing each. Runs in the backend's image, which has what it takes.

Usage: seed_objects.py COUNT. Idempotent: objects are named by number; what has its row already is left alone.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from stores import BUCKET, database, objects

TYPES = ("text/plain; charset=utf-8", "image/png", "application/pdf", "application/octet-stream")


def ensure_bucket() -> None:
    """Versioned from the start. The first requests may come before the server has its volumes."""
    client = objects()
    for attempt in range(40):
        try:
            if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=BUCKET)
            client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
            return
        except (BotoCoreError, ClientError):
            if attempt == 39:
                raise
            time.sleep(0.5)


def describe(number: int) -> dict[str, Any]:
    """Object NUMBER: the same bytes, key and headers every time."""
    source = random.Random(number)  # noqa: S311 - test data
    body = source.randbytes(source.choice((0, 100, 4_000, 20_000, 60_000)) if number != 7 else 6_000_000)
    folder = ("2025", "2026", "写真", "with space+plus")[number % 4]
    headers: dict[str, Any] = {"ContentType": TYPES[number % 4]}
    if number % 5 == 0:
        headers["Metadata"] = {"origin": "seed", "number": str(number)}
        headers["CacheControl"] = "max-age=3600"
    if number % 10 == 0:
        headers["ContentDisposition"] = f'attachment; filename="file-{number}.bin"'
        headers["Tagging"] = f"kind=seed&number={number}"
    return {"key": f"seed/{folder}/file-{number:04d}.bin", "body": body, "headers": headers}


def upload(number: int) -> tuple[str, str, int, str, str]:
    what = describe(number)
    objects().put_object(Bucket=BUCKET, Key=what["key"], Body=what["body"], **what["headers"])
    digest = hashlib.sha256(what["body"]).hexdigest()
    return what["key"], f"file-{number:04d}.bin", len(what["body"]), digest, what["headers"]["ContentType"]


def main() -> None:
    count = int(sys.argv[1])
    ensure_bucket()
    with database().connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT substring(key FROM 'file-(\\d+)')::int AS n FROM app.files WHERE key LIKE 'seed/%'")
        there = {row["n"] for row in cursor.fetchall()}
    missing = [number for number in range(count) if number not in there]
    with ThreadPoolExecutor(16) as pool:
        rows = list(pool.map(upload, missing))
    if rows:
        with database().connection() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO app.files (key, name, size, sha256, content_type) VALUES (%s, %s, %s, %s, %s)", rows
            )
    database().close()
    print(f"uploaded {len(rows)}")


if __name__ == "__main__":
    main()
