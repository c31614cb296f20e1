# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests about a bucket's settings, answered by a fake that has boto3's methods: XML on the outside, dicts inside."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, documents
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.documents import Element
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import Answer
from botocore import parsers, session
from botocore.exceptions import ClientError

# By the name in an address: boto3's method without get_ or put_, its operation without Put, and that one's argument.
CALLS: Mapping[str, tuple[str, str, str]] = {
    "versioning": ("bucket_versioning", "BucketVersioning", "VersioningConfiguration"),
    "lifecycle": ("bucket_lifecycle_configuration", "BucketLifecycleConfiguration", "LifecycleConfiguration"),
    "policy": ("bucket_policy", "BucketPolicy", "Policy"),
    "cors": ("bucket_cors", "BucketCors", "CORSConfiguration"),
    "encryption": ("bucket_encryption", "BucketEncryption", "ServerSideEncryptionConfiguration"),
    "website": ("bucket_website", "BucketWebsite", "WebsiteConfiguration"),
    "notification": (
        "bucket_notification_configuration", "BucketNotificationConfiguration", "NotificationConfiguration",
    ),
    "tagging": ("bucket_tagging", "BucketTagging", "Tagging"),
    "publicAccessBlock": ("public_access_block", "PublicAccessBlock", "PublicAccessBlockConfiguration"),
    "ownershipControls": ("bucket_ownership_controls", "BucketOwnershipControls", "OwnershipControls"),
    "object-lock": ("object_lock_configuration", "ObjectLockConfiguration", "ObjectLockConfiguration"),
}  # fmt: skip
_WRAPPED = ("ServerSideEncryptionConfiguration", "PublicAccessBlockConfiguration", "OwnershipControls",
            "ObjectLockConfiguration")  # fmt: skip


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    return session.get_session().get_service_model("s3")


def has(fake: Any, call: str) -> bool:
    """Does the fake know it? One that answers whatever it is asked lists what it does not know as `unknown`."""
    return call in vars(type(fake)) or call in getattr(fake, "answers", {})


def answer(fake: Any, method: str, query: Mapping[str, str], body: bytes, attempted: str) -> Answer:
    """What a server says to a request about a setting of the fake's bucket."""
    (request,) = query
    name, operation, argument = CALLS[request]
    with client.translated_errors(attempted, fake.url):
        if method == "GET":
            if not has(fake, f"get_{name}"):
                refused = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
                raise ClientError(refused, name)  # type: ignore[arg-type]
            told = getattr(fake, f"get_{name}")(Bucket=fake.name)
            return Answer(200, {}, _said(request, operation, argument, told))
        given: Any = body.decode() if request == "policy" else _given(operation, argument, body)
        getattr(fake, f"put_{name}")(Bucket=fake.name, **{argument: given})
        return Answer(200, {}, b"")


def rule(said: Mapping[str, Any]) -> Element:
    """A lifecycle rule that boto3 would tell so."""
    xml = client.document("PutBucketLifecycleConfiguration", LifecycleConfiguration={"Rules": [said]})
    return documents.read(xml, "a test")[0]


def _said(request: str, operation: str, argument: str, told: Mapping[str, Any]) -> bytes:
    if request == "policy":
        policy: str = told["Policy"]
        return policy.encode()
    value = told[argument] if argument in _WRAPPED else {key: told[key] for key in told if key != "ResponseMetadata"}
    return client.document(f"Put{operation}", **{argument: value}).encode()


def _given(operation: str, argument: str, body: bytes) -> Any:
    shape = _model().operation_model(f"Put{operation}").input_shape.members[argument]
    parser = parsers.create_parser("rest-xml")
    return json.loads(json.dumps(parser._parse_shape(shape, parser._initial_body_parse(body)), default=str))
