"""Say what the sample stack's bucket holds, in one line: run on the host, as `python3 - < bucket.py`.

Every object is read; the line changes with any key, byte, header, metadata or tag.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ.setdefault("BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE", "true")
import boto3  # noqa: E402
from botocore.config import Config  # noqa: E402


def main() -> None:
    lines = Path("/srv/shop/.env").read_text(encoding="utf-8").splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    client = boto3.client(
        "s3", endpoint_url="http://127.0.0.1:8333", region_name="us-east-1",
        aws_access_key_id=env["S3_ACCESS_KEY"], aws_secret_access_key=env["S3_SECRET_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="uploads")
    keys = sorted(one["Key"] for page in pages for one in page.get("Contents", ()))
    digest = hashlib.sha256()
    for key in keys:
        one = client.get_object(Bucket="uploads", Key=key)
        tags = client.get_object_tagging(Bucket="uploads", Key=key)["TagSet"]
        facts = (key, one["ContentType"], one.get("CacheControl"), one.get("ContentDisposition"), one["Metadata"],
                 sorted((tag["Key"], tag["Value"]) for tag in tags))  # fmt: skip
        digest.update(repr(facts).encode() + hashlib.sha256(one["Body"].read()).digest())
    print(f"{len(keys)} objects, SHA-256 {digest.hexdigest()[:32]}")


if __name__ == "__main__":
    main()
