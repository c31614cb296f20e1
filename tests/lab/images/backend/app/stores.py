"""How the backend reaches its two stores. Both are made late and heal by themselves after an outage."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

# botocore announces a body (Expect: 100-continue) even when there is none; SeaweedFS then leaves the connection
# unusable and the next request on it hangs until its timeout. This switch of botocore's stops that.
os.environ.setdefault("BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE", "true")
BUCKET = os.environ.get("S3_BUCKET", "uploads")


def setting(name: str) -> str:
    """NAME, or the contents of the file that NAME_FILE names."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else os.environ[name]


@cache
def database() -> ConnectionPool[Any]:
    """A pool that tests a connection before lending it: the server may have been replaced since."""
    return ConnectionPool(
        kwargs={
            "host": os.environ.get("DATABASE_HOST", "db"),
            "dbname": os.environ.get("DATABASE_NAME", "shop"),
            "user": os.environ.get("DATABASE_USER", "shop_app"),
            "password": setting("DATABASE_PASSWORD"),
            "connect_timeout": 3,
            "application_name": "shop-backend",
            "row_factory": dict_row,
        },
        min_size=1,
        max_size=8,
        timeout=5,
        reconnect_timeout=2,
        check=ConnectionPool.check_connection,
        open=True,
    )


@cache
def objects() -> Any:
    return boto3.client(
        "s3",
        endpoint_url=os.environ.get("S3_ENDPOINT", "http://objects:8333"),
        aws_access_key_id=setting("S3_ACCESS_KEY"),
        aws_secret_access_key=setting("S3_SECRET_KEY"),
        region_name="us-east-1",
        config=Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 2},
            s3={"addressing_style": "path"},
            max_pool_connections=32,
        ),
    )
