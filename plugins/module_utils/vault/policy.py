# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy of the key that writes to the vault: it may write and hide, and as far as the server allows not destroy.

docs/vault-writer-policy.json and docs/vault-writer-policy-minio.json are this file's, for the buckets of the example.
"""

from __future__ import annotations

from collections.abc import Sequence

TRIALS = "lifeboat-trial-"  # buckets in which is tried what the key may not do, see writer.py
MINIO = "MinIO"
_OF_BUCKETS = (
    "s3:GetBucketLocation", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketTagging", "s3:GetBucketVersioning",
    "s3:GetLifecycleConfiguration", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions",
)  # fmt: skip
_OF_OBJECTS = (
    "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:GetObjectLegalHold", "s3:GetObjectRetention",
    "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging", "s3:ListMultipartUploadParts",
    "s3:PutObject", "s3:PutObjectTagging",
)  # fmt: skip
_OF_THE_BLOCK = "s3:GetBucketPublicAccessBlock"  # MinIO has none, and takes no policy that speaks of it
# All that may be said of an object's access but `private`, which is nothing, and `bucket-owner-full-control`, without
# which a vault's owner could not read on Ceph RGW what the writer wrote.
_PUBLIC = (
    "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
    "log-delivery-write",
)  # fmt: skip
_GRANTS = ("full-control", "read", "read-acp", "write", "write-acp")  # the other way to say who may do what


def is_minio(server: str) -> bool:
    """server: as it names itself in its answers. The JuiceFS gateway has MinIO's name and code."""
    return server.startswith(MINIO)


def document(buckets: Sequence[str], server: str) -> dict[str, object]:
    """Return the policy as servers take it. buckets: names, which may end in `*`."""
    names = [*buckets, f"{TRIALS}*"]
    roots, objects = ([f"arn:aws:s3:::{name}{end}" for name in names] for end in ("", "/*"))
    of_buckets = [*_OF_BUCKETS] if is_minio(server) else sorted([*_OF_BUCKETS, _OF_THE_BLOCK])
    statements: list[dict[str, object]] = [
        {"Sid": "SeeTheBuckets", "Effect": "Allow", "Action": of_buckets, "Resource": roots},
        {"Sid": "WriteAndHideButNeverDestroy", "Effect": "Allow", "Action": [*_OF_OBJECTS], "Resource": objects},
    ]
    denied = _denied(objects) if is_minio(server) else _unshared(objects)
    return {"Version": "2012-10-17", "Statement": [*statements, *denied]}


def _unshared(objects: list[str]) -> list[dict[str, object]]:
    """On Ceph RGW the right to write an object is that to make it public. MinIO has no access control lists, and takes
    no policy that speaks of them."""
    conditions: list[tuple[str, object]] = [("ShareWithNobody", {"StringEquals": {"s3:x-amz-acl": [*_PUBLIC]}})]
    for grant in _GRANTS:
        sid = f"Grant{''.join(part.capitalize() for part in grant.split('-'))}ToNobody"
        conditions.append((sid, {"StringLike": {f"s3:x-amz-grant-{grant}": ["*"]}}))
    put = ["s3:PutObject"]
    return [
        {"Sid": sid, "Effect": "Deny", "Action": put, "Resource": objects, "Condition": condition}
        for sid, condition in conditions
    ]


def _denied(objects: list[str]) -> list[dict[str, object]]:
    """On MinIO the right to write or hide an object is that to overwrite or delete its versions, unless it is denied;
    and every key may make further ones."""
    named = {"StringLike": {"s3:versionid": ["?*"]}}
    by_version = ["s3:DeleteObject", "s3:PutObject"]
    return [
        {"Sid": "DeleteNoVersion", "Effect": "Deny", "Action": ["s3:DeleteObjectVersion"], "Resource": objects},
        {"Sid": "NameNoVersion", "Effect": "Deny", "Action": by_version, "Resource": objects, "Condition": named},
        {"Sid": "MakeNoKeys", "Effect": "Deny", "Action": ["admin:CreateServiceAccount"]},
    ]
