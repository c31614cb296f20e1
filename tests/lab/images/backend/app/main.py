"""The sample backend: items in PostgreSQL, files in S3, and a health check that means it."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from stores import BUCKET, database, objects


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the pool on the way out: its threads would keep the process alive until the engine kills it."""
    yield
    if database.cache_info().currsize:
        database().close()


OTHER_STORES = bool(os.environ.get("UPLOADS_DIRECTORY"))
app = FastAPI(title="shop", lifespan=lifespan)
if OTHER_STORES:  # a shop without them starts sooner
    import other_stores

    app.include_router(other_stores.router)


class NewItem(BaseModel):
    name: str
    payload: dict[str, Any] = {}


@contextmanager
def query() -> Iterator[psycopg.Cursor[dict[str, Any]]]:
    """One transaction; committed when the block ends, so an answer sent afterwards is a durable one."""
    with database().connection() as connection, connection.cursor() as cursor:
        yield cursor


@app.exception_handler(psycopg.OperationalError)
@app.exception_handler(BotoCoreError)
def store_unavailable(_request: Request, error: Exception) -> JSONResponse:
    """A store that is away is the caller's cue to try again, not a crash."""
    return JSONResponse({"detail": f"store unavailable: {type(error).__name__}"}, status_code=503)


if OTHER_STORES:
    for kind in other_stores.ERRORS:
        app.exception_handler(kind)(store_unavailable)


@app.get("/health")
def health() -> JSONResponse:
    """Use the stores for real: a role, a table, a bucket."""
    checks: dict[str, str] = other_stores.health() if OTHER_STORES else {}
    try:
        with query() as cursor:
            cursor.execute("SELECT id FROM app.items LIMIT 1")
        checks["database"] = "ok"
    except psycopg.Error as error:
        checks["database"] = type(error).__name__
    try:
        objects().head_bucket(Bucket=BUCKET)
        checks["objects"] = "ok"
    except (BotoCoreError, ClientError) as error:
        checks["objects"] = type(error).__name__
    healthy = all(state == "ok" for state in checks.values())
    return JSONResponse({"status": "ok" if healthy else "degraded", "checks": checks}, 200 if healthy else 503)


@app.post("/items", status_code=201)
def create_item(item: NewItem) -> dict[str, Any]:
    with query() as cursor:
        cursor.execute(
            "INSERT INTO app.items (name, payload) VALUES (%s, %s) RETURNING id, created_at",
            (item.name, psycopg.types.json.Jsonb(item.payload)),
        )
        row = cursor.fetchone()
    assert row is not None
    return {"id": row["id"], "name": item.name, "created_at": row["created_at"]}


@app.get("/items")
def list_items(limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
    with query() as cursor:
        cursor.execute(
            "SELECT id, name, payload, created_at FROM app.items"
            " WHERE %(before)s::bigint IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(limit)s",
            {"before": before, "limit": min(limit, 1000)},
        )
        return cursor.fetchall()


@app.get("/items/count")
def count_items() -> dict[str, int]:
    with query() as cursor:
        cursor.execute("SELECT count(*) AS items FROM app.items")
        row = cursor.fetchone()
    assert row is not None
    return {"items": row["items"]}


@app.get("/items/{item_id}")
def read_item(item_id: int) -> dict[str, Any]:
    with query() as cursor:
        cursor.execute("SELECT id, name, payload, created_at FROM app.items WHERE id = %s", (item_id,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, f"no item {item_id}")
    return row


@app.delete("/items/{item_id}")
def delete_item(item_id: int) -> dict[str, int]:
    with query() as cursor:
        cursor.execute("DELETE FROM app.items WHERE id = %s RETURNING id", (item_id,))
        if cursor.fetchone() is None:
            raise HTTPException(404, f"no item {item_id}")
    return {"deleted": item_id}


@app.put("/files/{name}", status_code=201)
async def upload_file(name: str, request: Request) -> dict[str, Any]:
    """Bytes first, row second: a row never names bytes that were not stored."""
    return store_file(name, await request.body(), request.headers.get("content-type", "application/octet-stream"))


def store_file(name: str, body: bytes, content_type: str) -> dict[str, Any]:
    key = f"files/{uuid.uuid4()}"
    digest = hashlib.sha256(body).hexdigest()
    objects().put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type, Metadata={"sha256": digest})
    with query() as cursor:
        cursor.execute(
            "INSERT INTO app.files (key, name, size, sha256, content_type) VALUES (%s, %s, %s, %s, %s) RETURNING id",
            (key, name, len(body), digest, content_type),
        )
        row = cursor.fetchone()
    assert row is not None
    return {"id": row["id"], "key": key, "name": name, "size": len(body), "sha256": digest}


@app.get("/files")
def list_files(limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
    with query() as cursor:
        cursor.execute(
            "SELECT id, key, name, size, sha256, content_type FROM app.files"
            " WHERE %(before)s::bigint IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(limit)s",
            {"before": before, "limit": min(limit, 1000)},
        )
        return cursor.fetchall()


@app.get("/files/{file_id}")
def download_file(file_id: int) -> Response:
    """Never serve bytes that are not the ones the row promises."""
    with query() as cursor:
        cursor.execute("SELECT key, size, sha256, content_type FROM app.files WHERE id = %s", (file_id,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, f"no file {file_id}")
    try:
        body = objects().get_object(Bucket=BUCKET, Key=row["key"])["Body"].read()
    except ClientError as error:
        raise HTTPException(502, f"the object {row['key']} of file {file_id} cannot be read: {error}") from error
    digest = hashlib.sha256(body).hexdigest()
    if (len(body), digest) != (row["size"], row["sha256"]):
        raise HTTPException(502, f"the object {row['key']} of file {file_id} is not the one uploaded: sha256 {digest}")
    return Response(body, media_type=row["content_type"], headers={"x-sha256": digest})


@app.delete("/files/{file_id}")
def delete_file(file_id: int) -> dict[str, int]:
    """Row first, bytes second: a row never names bytes that are gone. Bytes that are gone already are no error."""
    with query() as cursor:
        cursor.execute("DELETE FROM app.files WHERE id = %s RETURNING key", (file_id,))
        row = cursor.fetchone()
    if row is None:
        raise HTTPException(404, f"no file {file_id}")
    objects().delete_object(Bucket=BUCKET, Key=row["key"])
    return {"deleted": file_id}


class Presence(BaseModel):
    items: list[int] = []
    files: list[int] = []


@app.post("/presence")
def presence(wanted: Presence) -> dict[str, list[Any]]:
    """Which of these exist: lets a ledger of thousands be compared in a few requests."""
    with query() as cursor:
        cursor.execute("SELECT id, name FROM app.items WHERE id = ANY(%s)", (wanted.items,))
        items = cursor.fetchall()
        cursor.execute("SELECT id, sha256 FROM app.files WHERE id = ANY(%s)", (wanted.files,))
        return {"items": items, "files": cursor.fetchall()}
