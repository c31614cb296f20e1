"""What a shop may keep besides rows in PostgreSQL and objects: uploads in a volume, with SQLite beside them; reviews in
MariaDB; baskets in Valkey. main.py uses it where UPLOADS_DIRECTORY is set."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import redis
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from stores import database, setting

UPLOADS = Path(os.environ.get("UPLOADS_DIRECTORY", "/srv/uploads"))
LIST = UPLOADS / "uploads.db"
ERRORS = (pymysql.MySQLError, redis.RedisError, sqlite3.Error)
router = APIRouter()


@contextmanager
def rows() -> Iterator[Any]:
    with database().connection() as connection, connection.cursor() as cursor:
        yield cursor


@contextmanager
def uploads_list() -> Iterator[sqlite3.Connection]:
    """One transaction. A database that is gone is an error: an application that makes an empty one hides its loss."""
    with closing(sqlite3.connect(f"file:{quote(str(LIST))}?mode=rw", uri=True, timeout=5)) as connection, connection:
        yield connection


@contextmanager
def reviews() -> Iterator[Any]:
    """One transaction, over a connection of its own: the server may have been replaced since the last."""
    connection = pymysql.connect(
        host=setting("MARIADB_HOST"), user=setting("MARIADB_USER"), password=setting("MARIADB_PASSWORD"),
        database=setting("MARIADB_DATABASE"), connect_timeout=3, read_timeout=10, write_timeout=10,
    )  # fmt: skip
    with closing(connection), connection.cursor() as cursor:
        yield cursor
        connection.commit()


@cache
def baskets() -> Any:
    return redis.Redis(
        host=setting("VALKEY_HOST"), password=setting("VALKEY_PASSWORD"), socket_connect_timeout=3, socket_timeout=10
    )


def health() -> dict[str, str]:
    """Use each for real."""
    checks: dict[str, str] = {}
    for name, use in (("uploads", _use_uploads), ("mariadb", _use_reviews), ("valkey", lambda: baskets().ping())):
        try:
            use()
            checks[name] = "ok"
        except (*ERRORS, OSError) as error:
            checks[name] = type(error).__name__
    return checks


def _use_uploads() -> None:
    with uploads_list() as uploads:
        uploads.execute("SELECT path FROM upload LIMIT 1").fetchall()


def _use_reviews() -> None:
    with reviews() as cursor:
        cursor.execute("SELECT id FROM reviews LIMIT 1")


# --- uploads ---------------------------------------------------------------------------------------------------------


@router.put("/uploads/{name}", status_code=201)
async def create_upload(name: str, request: Request) -> dict[str, Any]:
    return await run_in_threadpool(store_upload, name, await request.body())


def store_upload(name: str, body: bytes) -> dict[str, Any]:
    """The file first, then SQLite, the row last: a row never names bytes that were not stored."""
    folder, digest = uuid.uuid4().hex[:2], hashlib.sha256(body).hexdigest()
    path = f"{folder}/{uuid.uuid4()}"
    part = UPLOADS / f"{path}.part"
    part.parent.mkdir(exist_ok=True)
    with part.open("xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    part.rename(UPLOADS / path)
    with uploads_list() as uploads:
        uploads.execute("INSERT INTO upload (path, name, sha256) VALUES (?, ?, ?)", (path, name, digest))
    with rows() as cursor:
        cursor.execute(
            "INSERT INTO app.uploads (path, size, sha256) VALUES (%s, %s, %s) RETURNING id", (path, len(body), digest)
        )
        row = cursor.fetchone()
    assert row is not None
    return {"id": row["id"], "path": path, "size": len(body), "sha256": digest}


@router.get("/uploads/{upload_id}")
def read_upload(upload_id: int) -> Response:
    """Never serve what is not as both databases have it."""
    with rows() as cursor:
        cursor.execute("SELECT path, size, sha256 FROM app.uploads WHERE id = %s", (upload_id,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, f"no upload {upload_id}")
    try:
        body = (UPLOADS / row["path"]).read_bytes()
    except OSError as error:
        raise HTTPException(502, f"the file {row['path']} of upload {upload_id} cannot be read: {error}") from error
    if (len(body), hashlib.sha256(body).hexdigest()) != (row["size"], row["sha256"]):
        raise HTTPException(502, f"the file {row['path']} of upload {upload_id} is not the one uploaded")
    with uploads_list() as uploads:
        known = uploads.execute("SELECT sha256 FROM upload WHERE path = ?", (row["path"],)).fetchone()
    if known != (row["sha256"],):
        raise HTTPException(502, f"SQLite does not have upload {upload_id} as PostgreSQL has it: {known}")
    return Response(body, media_type="application/octet-stream")


@router.delete("/uploads/{upload_id}")
def delete_upload(upload_id: int) -> dict[str, int]:
    """The row first, the file last: a row never names bytes that are gone. Bytes that are gone already are no error."""
    with rows() as cursor:
        cursor.execute("DELETE FROM app.uploads WHERE id = %s RETURNING path", (upload_id,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, f"no upload {upload_id}")
    with uploads_list() as uploads:
        uploads.execute("DELETE FROM upload WHERE path = ?", (row["path"],))
    (UPLOADS / row["path"]).unlink(missing_ok=True)
    return {"deleted": upload_id}


# --- reviews and baskets ---------------------------------------------------------------------------------------------


class NewReview(BaseModel):
    text: str


@router.post("/reviews", status_code=201)
def create_review(review: NewReview) -> dict[str, int]:
    with reviews() as cursor:
        cursor.execute("INSERT INTO reviews (text) VALUES (%s)", (review.text,))
        return {"id": cursor.lastrowid}


@router.get("/reviews/{review_id}")
def read_review(review_id: int) -> dict[str, Any]:
    with reviews() as cursor:
        cursor.execute("SELECT text FROM reviews WHERE id = %s", (review_id,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, f"no review {review_id}")
    return {"id": review_id, "text": row[0]}


@router.delete("/reviews/{review_id}")
def delete_review(review_id: int) -> dict[str, int]:
    with reviews() as cursor:
        gone = cursor.execute("DELETE FROM reviews WHERE id = %s", (review_id,))
    if not gone:
        raise HTTPException(404, f"no review {review_id}")
    return {"deleted": review_id}


class Basket(BaseModel):
    items: list[str] = []


@router.put("/baskets/{name}", status_code=201)
def fill_basket(name: str, basket: Basket) -> dict[str, str]:
    baskets().set(f"basket:{name}", basket.model_dump_json())
    return {"id": name}


@router.get("/baskets/{name}")
def read_basket(name: str) -> Basket:
    stored = baskets().get(f"basket:{name}")
    if stored is None:
        raise HTTPException(404, f"no basket {name}")
    return Basket.model_validate_json(stored)


@router.delete("/baskets/{name}")
def empty_basket(name: str) -> dict[str, str]:
    if not baskets().delete(f"basket:{name}"):
        raise HTTPException(404, f"no basket {name}")
    return {"deleted": name}
