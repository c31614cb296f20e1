# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What servers answer for reasons of their own, in their own words, and what an operator is told to do about it."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, copier, error_registry, signed
from botocore import exceptions as known
from botocore.exceptions import ClientError

# (code, message, status) -> (cause, the kind of error, words of the remedy)
ANSWERS: list[tuple[str, str, int, str, type[LifeboatError], str]] = [
    ("kms:InvalidCiphertextException", "failed to decrypt ciphertext", 400, error_registry.ENCRYPTION, LifeboatError, "MINIO_KMS_SECRET_KEY"),
    ("InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be provided", 400, error_registry.CUSTOMER_KEY, LifeboatError, "leave it out of the mirror"),
    ("InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.", 403, error_registry.CREDENTIALS, UsageError, "lifeboat_secrets"),
    ("SignatureDoesNotMatch", "The request signature we calculated does not match", 403, error_registry.CREDENTIALS, UsageError, "lifeboat_secrets"),
    ("AccessDenied", "Forbidden: No such key: GK1", 403, error_registry.CREDENTIALS, UsageError, "lifeboat_secrets"),
    ("AccessDenied", "Access Denied.", 403, error_registry.PERMISSION, UsageError, "docs/mirror.md"),
    ("Weird", "", 403, error_registry.PERMISSION, UsageError, "docs/mirror.md"),
    ("RequestTimeTooSkewed", "", 403, error_registry.CLOCK, UsageError, "timedatectl"),
    ("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.", 507, error_registry.FULL, SpaceError, "Free space"),
    ("Weird", "", 507, error_registry.FULL, SpaceError, "Free space"),
    ("XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded", 400, error_registry.QUOTA, SpaceError, "Raise the bucket's quota"),
    ("InvalidRequest", "Object is WORM protected and cannot be overwritten", 400, error_registry.LOCKED, LifeboatError, "until the lock ends"),
    ("AccessDenied", "Access Denied because object protected by object lock.", 403, error_registry.LOCKED, LifeboatError, "until the lock ends"),
    ("InvalidRequest", "Bucket is missing Object Lock Configuration", 403, error_registry.PERMISSION, UsageError, "docs/mirror.md"),
    ("QuotaExceeded", "", 403, error_registry.QUOTA, SpaceError, "Raise the bucket's quota"),
    ("InternalError", "write /data/x: disk quota exceeded", 500, error_registry.QUOTA, SpaceError, "Raise the bucket's quota"),
    ("InternalError", "no free volumes left", 500, error_registry.FULL, SpaceError, "Free space"),
    ("InternalError", "open /data/x: read-only file system", 500, error_registry.READ_ONLY, LifeboatError, "Make them writable"),
    ("SlowDownWrite", "Resource requested is unwritable, please reduce your request rate", 503, error_registry.READ_ONLY, LifeboatError, "Make them writable"),
    ("SlowDown", "Please reduce your request rate.", 503, error_registry.THROTTLED, LifeboatError, "lower lifeboat_objects.transfers"),
    ("TooManyRequests", "", 429, error_registry.THROTTLED, LifeboatError, "lower lifeboat_objects.transfers"),
    ("Weird", "", 429, error_registry.THROTTLED, LifeboatError, "lower lifeboat_objects.transfers"),
    ("Forbidden", "The licence has expired", 403, error_registry.LICENCE, UsageError, "Renew the licence"),
    ("400", "Client sent an HTTP request to an HTTPS server.", 400, error_registry.TLS, UsageError, "the scheme of endpoint_url"),
    ("PermanentRedirect", "", 301, error_registry.REGION, UsageError, "Correct region"),
]  # fmt: skip


def said(code: str, message: str, status: int) -> LifeboatError:
    answer = ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )
    with pytest.raises(LifeboatError) as caught, client.translated_errors("read", "s3://uploads"):
        raise answer
    return caught.value


@pytest.mark.parametrize(("code", "message", "status", "cause", "kind", "remedy"), ANSWERS)
def test_an_answer_has_a_cause(
    code: str, message: str, status: int, cause: str, kind: type[LifeboatError], remedy: str
) -> None:
    error = said(code, message, status)
    found = error_registry.cause_of(error)
    assert found is error_registry.by_name(cause)
    assert (type(error), remedy in error.remedy, found.description in error.cause, code in error.cause) == (
        kind, True, True, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("NoSuchKey", "no licence to read", 404), ("404", "", 404), ("InternalError", "We encountered an error", 500),
        ("InvalidRequest", "unknown argument", 400), ("XMinioObjectTampered", "may be compromised", 206),
        ("SlowDownRead", "Resource requested is unreadable, please reduce your request rate", 503),
    ],
)  # fmt: skip
def test_what_may_be_damage_has_none(code: str, message: str, status: int) -> None:
    assert error_registry.cause_of(said(code, message, status)) is None


def test_what_stops_writing_has_a_message_of_its_own() -> None:
    names = (
        error_registry.READ_ONLY,
        error_registry.FULL,
        error_registry.QUOTA,
        error_registry.THROTTLED,
        error_registry.LOCKED,
    )
    assert (
        len({error_registry.by_name(name).description for name in names})
        == len({error_registry.by_name(name).remedy for name in names})
        == 5
    )


@pytest.mark.parametrize(
    ("code", "message", "status", "object_alone"),
    [
        ("Forbidden", "The drive is read-only", 400, False),
        ("TooManyRequests", "", 429, False),
        ("XMinioStorageFull", "", 507, False),
        ("QuotaExceeded", "", 403, False),
        ("InvalidRequest", "Object is WORM protected and cannot be overwritten", 400, True),
        ("InvalidArgument", "", 400, True),
    ],
)
def test_what_is_of_one_object_and_what_of_all(code: str, message: str, status: int, object_alone: bool) -> None:
    """A drive that takes nothing stops a mirror; it would refuse each object in turn."""
    assert copier.refused(said(code, message, status)) is object_alone


@pytest.mark.parametrize(
    ("code", "status", "again"), [("TooManyRequests", 429, True), ("SlowDown", 503, True), ("AccessDenied", 403, False)]
)
def test_who_is_busy_is_asked_again(code: str, status: int, again: bool) -> None:
    assert signed.lasting(said(code, "", status)) is not again


def test_tls_is_a_cause_and_a_silent_server_is_none() -> None:
    failures = {
        known.SSLError(endpoint_url="https://x", error="certificate verify failed"): error_registry.TLS,
        known.ConnectTimeoutError(endpoint_url="https://x"): "",
        known.EndpointConnectionError(endpoint_url="https://x"): "",
    }
    for failure, cause in failures.items():
        with pytest.raises(LifeboatError) as caught, client.translated_errors("look", "s3://uploads"):
            raise failure
        found = error_registry.cause_of(caught.value)
        assert (found.name if found else "") == cause
    assert error_registry.cause_of(NotFoundError("look", "it", "is not there")) is None


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("INFO ready\nFATAL Unable to initialize KMS: invalid key length", error_registry.ENCRYPTION),
        ("ERROR Unable to validate credentials: Invalid credentials", error_registry.CREDENTIALS),
        ("FATAL Unable to start: the licence is expired", error_registry.LICENCE),
        ("ERROR Unable to write to the backend: file access denied", error_registry.PERMISSION),
        ("ERROR open /data/x: read-only file system: cannot write", error_registry.READ_ONLY),
        ("ERROR write /data/x: no space left on device", error_registry.FULL),
        ("ERROR Invalid TLS certificate: no PEM", error_registry.TLS),
        ("INFO license AGPLv3\nINFO using KMS\nFATAL unexpected end of file", None),
        ("panic: runtime error: format.json is corrupted", None),
    ],
)
def test_a_log_tells_why_a_server_ended(log: str, cause: Optional[str]) -> None:
    found = error_registry.logged(log)
    assert (found[0].name if found else None) == cause
    if found:
        assert found[1] in log


def test_the_registry_is_whole() -> None:
    codes = [code for cause in error_registry.CAUSES for code in cause.codes]
    assert len(codes) == len(set(codes)), "a code has one meaning"
    assert len({cause.name for cause in error_registry.CAUSES}) == len(error_registry.CAUSES)
    for cause in error_registry.CAUSES:
        assert cause.codes or cause.message, f"nothing leads to {cause.name}"
        assert cause.remedy.endswith("."), cause.name
        assert "rebuild" not in cause.remedy, "no fresh server cures it"
