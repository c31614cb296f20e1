"""The stack's bucket and the vault, seen from outside Lifeboat: boto3 on the host, with the keys that lie there."""

from __future__ import annotations

import json
from typing import Any

from support import Host

# Runs on the host. `store()` is the stack's own server, by its own .env; `vault()` the vault, by Lifeboat's settings.
_PRELUDE = """
import hashlib, json, os, sys, warnings
warnings.simplefilter("ignore")
os.environ["BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE"] = "true"
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

def client(url, access, secret):
    patience = Config(connect_timeout=5, read_timeout=60, s3={"addressing_style": "path"}, max_pool_connections=32)
    return boto3.client("s3", endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret,
                        region_name="us-east-1", config=patience)

def store():
    env = dict(line.strip().split("=", 1) for line in open("/srv/shop/.env") if "=" in line)
    return client("http://127.0.0.1:8333", env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])

def vault():
    secrets = json.load(open("/etc/lifeboat/shop.secrets.json"))
    settings = json.load(open("/etc/lifeboat/shop.json"))["vault"]
    return client(settings["endpoint_url"], secrets["vault_access_key"], secrets["vault_secret_key"])

def keys(s3, bucket, prefix=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]
"""

_PORTRAIT = """
s3, found = store(), {}
try:
    for key in keys(s3, "uploads"):
        one = s3.get_object(Bucket="uploads", Key=key)
        tags = s3.get_object_tagging(Bucket="uploads", Key=key)["TagSet"]
        found[key] = [hashlib.sha256(one["Body"].read()).hexdigest(), one["ContentType"], one.get("CacheControl"),
                      one.get("ContentDisposition"), one["Metadata"], sorted([t["Key"], t["Value"]] for t in tags)]
    versioning = s3.get_bucket_versioning(Bucket="uploads").get("Status")
except ClientError as exc:
    found, versioning = {}, exc.response["Error"]["Code"]
print(json.dumps({"objects": found, "versioning": versioning}))
"""


def act(host: Host, source: str, *argv: str) -> Any:
    """Run Python on the host with the prelude's names; its JSON, where it prints any."""
    said = host.python(_PRELUDE + source, *argv)
    return json.loads(said) if said.strip() else None


def portrait(host: Host) -> dict[str, Any]:
    """Every current object's bytes, headers, metadata and tags, and whether the bucket keeps versions."""
    found: dict[str, Any] = act(host, _PORTRAIT)
    return found


def objects_of(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = portrait(host)["objects"]
    return found


DELETE_PREFIX = (
    "s3 = store()\nfor key in keys(s3, 'uploads', sys.argv[1]): s3.delete_object(Bucket='uploads', Key=key)\n"
)
OVERWRITE_PREFIX = (
    "s3 = store()\nfor key in keys(s3, 'uploads', sys.argv[1]):"
    " s3.put_object(Bucket='uploads', Key=key, Body=b'encrypted by somebody')\n"
)
SUSPEND = "store().put_bucket_versioning(Bucket='uploads', VersioningConfiguration={'Status': 'Suspended'})\n"
DELETE_BUCKET = """
s3 = store()
for page in s3.get_paginator("list_object_versions").paginate(Bucket="uploads"):
    for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
        s3.delete_object(Bucket="uploads", Key=version["Key"], VersionId=version["VersionId"])
s3.delete_bucket(Bucket="uploads")
"""
# A version that the vault's lifecycle has taken away.
EXPIRE = """
s3 = vault()
found = s3.list_object_versions(Bucket="uploads-backup", Prefix=sys.argv[1])
for version in found.get("Versions", ()):
    s3.delete_object(Bucket="uploads-backup", Key=version["Key"], VersionId=version["VersionId"])
"""
MANY = """
from concurrent.futures import ThreadPoolExecutor
s3 = store()
with ThreadPoolExecutor(16) as pool:
    list(pool.map(lambda n: s3.put_object(Bucket="uploads", Key=f"many/{n:05d}", Body=str(n).encode() * 50),
                  range(int(sys.argv[1]))))
"""
# Stop the restore of a bucket while fewer objects than given are back, so that it cannot end. Says who has the lock.
FREEZE = """
import signal, time
s3, end, most = store(), time.monotonic() + 180, int(sys.argv[1])
while time.monotonic() < end:
    try:
        count = len(keys(s3, "uploads"))
        if 100 < count < most:
            holder = json.load(open("/run/lifeboat/lifeboat-shop.lock"))
            os.kill(holder["pid"], signal.SIGSTOP)
            if len(keys(s3, "uploads")) < most:
                print(json.dumps(holder))
                break
            os.kill(holder["pid"], signal.SIGCONT)
    except ClientError:
        pass
    time.sleep(0.05)
"""
