# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""A store that refuses for a reason of its own is not a damaged one: the plan says the reason, and nothing is moved.

What a server answers is said by a proxy before a real one. The answers are those of MinIO.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, error_registry, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Fault, Proxy, Reply, error, faulty
from s3_servers import SeaweedFS, seaweedfs, wipe
from test_recover import Case, empty, make

__all__ = ["make"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT", 5)
    monkeypatch.setattr(signed, "_PAUSE", 0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[SeaweedFS]:
    with seaweedfs() as server:
        yield server


@pytest.fixture
def store(make: Callable[..., Case], server: SeaweedFS) -> Iterator[tuple[Case, Proxy]]:
    """A server of the stack's own that was backed up, and a proxy before it."""
    with faulty(server, lambda call: None) as proxy:
        case = make(server, ours=True)
        for number in range(7):
            case.client.put_object(Bucket=case.bucket, Key=f"key {number}", Body=b"%d" % number)
        case.backup()
        objects = dataclasses.replace(case.config.objects, endpoint_url=proxy.url)
        case.config = dataclasses.replace(case.config, objects=objects)
        yield case, proxy
        if not case.process.up:
            server.start()
        wipe(server.client, case.bucket)


def said(status: int, code: str, message: str = "no") -> Reply:
    return Reply(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>")


def everything(reply: Reply) -> Fault:
    return lambda call: reply


def reading(reply: Reply) -> Fault:
    """GET and HEAD of objects; the bucket can be listed."""
    return lambda call: reply if call.method in ("GET", "HEAD") and _key(call) else None


def writing(reply: Reply) -> Fault:
    return lambda call: reply if call.method == "PUT" and (_key(call) or "quarantine" not in call.path) else None


def _key(call: Call) -> str:
    return call.path.partition("?")[0].strip("/").partition("/")[2]


KMS = said(400, "kms:InvalidCiphertextException", "failed to decrypt ciphertext")
# What the server does -> (the cause, words of the remedy)
REFUSALS: list[tuple[str, Fault, str, str]] = [
    ("a wrong KMS key", reading(KMS), error_registry.ENCRYPTION, "MINIO_KMS_SECRET_KEY"),
    ("an unknown key", everything(error(403, "InvalidAccessKeyId")), error_registry.CREDENTIALS, "objects_access_key"),
    ("a wrong secret", everything(error(403, "SignatureDoesNotMatch")), error_registry.CREDENTIALS, "objects_access_key"),
    ("a key without rights", everything(error(403, "AccessDenied")), error_registry.PERMISSION, "docs/mirror.md"),
    ("a key that may list and not read", reading(error(403, "AccessDenied")), error_registry.PERMISSION, "docs/mirror.md"),
    ("a clock", everything(error(403, "RequestTimeTooSkewed")), error_registry.CLOCK, "timedatectl"),
    ("a licence", everything(said(403, "Forbidden", "The licence has expired")), error_registry.LICENCE, "Renew the licence"),
    ("TLS", everything(Reply(400, "Client sent an HTTP request to an HTTPS server.", kind="text/plain")), error_registry.TLS, "scheme of endpoint_url"),
    ("a full drive", everything(error(507, "XMinioStorageFull")), error_registry.FULL, "Free space"),
    ("requests at too high a rate", everything(error(429, "TooManyRequests")), error_registry.THROTTLED, "transfers"),
    ("a read-only store", everything(said(403, "Forbidden", "The drive is read-only")), error_registry.READ_ONLY, "writable"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "cause", "remedy"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_a_store_that_refuses_is_not_rebuilt(store: tuple[Case, Proxy], fault: Fault, cause: str, remedy: str) -> None:
    case, proxy = store
    before = case.portrait()
    proxy.fault = fault
    for request in ({}, {"force": True}, {"identity": case.id}):
        with pytest.raises(UsageError) as caught:
            case.plan(**request)
        assert error_registry.by_name(cause).description in caught.value.cause
        assert remedy in caught.value.remedy
    proxy.fault = lambda call: None
    assert case.portrait() == before
    assert case.plan()["condition"] == "healthy"


# What takes no writes, and can be read: it is seen when the server is tried, before anything is moved.
WRITES: list[tuple[str, Reply, str, str]] = [
    ("a full drive", error(507, "XMinioStorageFull"), error_registry.FULL, "Free space"),
    ("a quota", error(400, "XMinioAdminBucketQuotaExceeded"), error_registry.QUOTA, "Raise the bucket's quota"),
    ("WORM", said(400, "InvalidRequest", "Object is WORM protected and cannot be overwritten"), error_registry.LOCKED, "until the lock ends"),
    ("a read-only drive", said(400, "Forbidden", "open /data: read-only file system"), error_registry.READ_ONLY, "writable"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "cause", "remedy"), [row[1:] for row in WRITES], ids=[row[0] for row in WRITES])
def test_a_store_that_takes_no_writes_is_not_rebuilt(
    store: tuple[Case, Proxy], reply: Reply, cause: str, remedy: str
) -> None:
    case, proxy = store
    for key in ("key 1", "key 2", "key 3"):
        case.client.delete_object(Bucket=case.bucket, Key=key)
    before = case.portrait()
    made = case.plan()
    assert made["mode"] == "fill"
    proxy.fault = writing(reply)
    with pytest.raises(LifeboatError) as caught:
        objects_recovery.protect(Opened(case.config), case.made, log=case.said.append)
    assert error_registry.by_name(cause).description in caught.value.cause
    assert remedy in caught.value.remedy
    assert not list(case.source.directory.glob("data.quarantine*")), "nothing was moved"
    assert case.portrait() == before


def test_a_few_objects_of_a_clients_own_key_are_told_as_not_read(store: tuple[Case, Proxy]) -> None:
    case, proxy = store
    sse_c = said(400, "InvalidRequest", "The object was stored using a form of Server Side Encryption.")
    proxy.fault = lambda call: sse_c if call.method == "GET" and _key(call) == "key%201" else None
    made = case.plan()
    assert made["condition"] == "healthy"
    (told,) = [line for line in made["unchecked"] if "key 1" in line]
    assert "1 of 7 objects could not be read" in told and "(SSE-C)" in told


LOGS = [
    ("FATAL Unable to initialize KMS: invalid master key", error_registry.ENCRYPTION, "MINIO_KMS_SECRET_KEY"),
    ("FATAL Unable to start: the licence has expired", error_registry.LICENCE, "Renew the licence"),
    ("ERROR Unable to write to the backend: file access denied", error_registry.PERMISSION, "Then start objects"),
    ("FATAL write /data/.minio.sys: no space left on device", error_registry.FULL, "Free space"),
]


@pytest.mark.parametrize(("log", "cause", "remedy"), LOGS)
def test_a_server_that_ends_for_such_a_reason_is_not_rebuilt(
    store: tuple[Case, Proxy], monkeypatch: pytest.MonkeyPatch, log: str, cause: str, remedy: str
) -> None:
    case, _proxy = store
    case.process.stop(["objects"], timeout=1)
    monkeypatch.setattr(case.process, "logs", lambda service: "INFO MinIO\n" + log)
    with pytest.raises(UsageError) as caught:
        case.plan()
    assert error_registry.by_name(cause).description in caught.value.cause and log in caught.value.cause
    assert remedy in caught.value.remedy
    assert any(case.source.data.iterdir())


def test_a_server_that_ends_so_only_when_it_is_started_is_not_rebuilt(
    store: tuple[Case, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan saw it down and could not know why."""
    case, _proxy = store
    case.process.stop(["objects"], timeout=1)
    made = case.plan()
    assert made["mode"] == "start"
    monkeypatch.setattr(case.process, "start", lambda services, timeout: None)
    monkeypatch.setattr(case.process, "logs", lambda service: "FATAL Unable to initialize KMS: wrong key")
    with pytest.raises(UsageError, match=r"the server cannot decrypt what it holds.*MINIO_KMS_SECRET_KEY"):
        objects_recovery.protect(Opened(case.config), case.made, log=case.said.append)
    assert any(case.source.data.iterdir())
    assert not list(case.source.directory.glob("data.quarantine*"))


def test_what_is_really_lost_is_still_rebuilt(store: tuple[Case, Proxy]) -> None:
    case, _proxy = store
    before: dict[str, Any] = case.portrait()
    empty(case.source.data)
    assert case.recover()["mode"] == "rebuild"
    assert case.portrait() == before
