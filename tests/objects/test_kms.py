# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets whose objects MinIO encrypts with a KMS: their ETags are no checksums. Lost, and brought back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import compare
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client
from s3_faults import Proxy, faulty
from s3_quirks import MinioKms
from s3_servers import SeaweedFS, Server
from test_buckets import Many
from test_object_locks import check
from test_recover import BIG, bad, portrait

MakeBucket = Callable[[Server], str]
KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "my-key"}
FEW = {"one": "text/plain", "two words": "text/html", "empty": "text/plain"}


class Encrypted(Many):
    """Its objects are written through the stand-in, by boto3."""

    kms: MinioKms
    proxy: Proxy
    writer: Any

    def put(self, key: str, **more: Any) -> None:
        body = b"" if key == "empty" else f"body of {key}".encode()
        self.writer.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=FEW.get(key, "text/plain"), **more)

    def encryption(self) -> dict[str, tuple[str, str]]:
        found = {}
        for key in [found["Key"] for found in self.writer.list_objects_v2(Bucket=self.bucket)["Contents"]]:
            head = self.writer.head_object(Bucket=self.bucket, Key=key)
            found[key] = head.get("ServerSideEncryption", ""), head.get("SSEKMSKeyId", "")
        return found


@pytest.fixture
def case(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Encrypted]:
    monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
    made = Encrypted(tmp_path, weed, make_bucket(weed), weed, make_bucket(weed), False)
    made.kms = MinioKms(weed, ["my-key", "other-key"])
    with faulty(weed, made.kms.fault, made.kms.edit, "MinIO") as made.proxy:
        made.proxy.edit_headers = made.kms.edit_headers
        objects = dataclasses.replace(made.config.objects, endpoint_url=made.proxy.url)
        made.config = dataclasses.replace(made.config, objects=objects)
        made.writer = client.connect(made.proxy.url, "", weed.access_key, weed.secret_key)
        yield made


def lose(case: Encrypted) -> None:
    for key in case.encryption():
        case.client.delete_object(Bucket=case.bucket, Key=key)


def test_the_stand_in_answers_as_recorded(case: Encrypted) -> None:
    """What the recorded answers of MinIO say of `hello`, whose MD5 is 5d41402abc4b2a76b9719d911017c592."""
    put = case.writer.put_object
    md5 = '"5d41402abc4b2a76b9719d911017c592"'
    told = [put(Bucket=case.bucket, Key="one", Body=b"hello", **KMS) for _ in range(2)]
    assert len({md5, *(answer["ETag"] for answer in told)}) == 3
    assert {answer["SSEKMSKeyId"] for answer in told} == {"arn:aws:kms:my-key"}
    etag = told[1]["ETag"]
    assert case.writer.head_object(Bucket=case.bucket, Key="one")["ETag"] == etag
    assert case.writer.list_objects_v2(Bucket=case.bucket)["Contents"][0]["ETag"] == etag
    assert put(Bucket=case.bucket, Key="one", Body=b"hello", ServerSideEncryption="AES256")["ETag"] == md5
    assert put(Bucket=case.bucket, Key="one", Body=b"hello")["ETag"] == md5


@pytest.mark.parametrize("how", ["default", "auto"])
def test_a_bucket_that_a_kms_encrypts_is_brought_back(case: Encrypted, how: str) -> None:
    """As its default, or as the server's own, which nothing tells."""
    case.kms.defaults, case.kms.auto = ({case.bucket: "aws:kms"}, False) if how == "default" else ({}, True)
    for key in FEW:
        case.put(key)
    case.writer.put_object(Bucket=case.bucket, Key="big", Body=BIG)
    held, encrypted = case.backup(), case.encryption()
    assert set(encrypted.values()) == {("aws:kms", "arn:aws:kms:my-key")}
    lose(case)
    found = case.recover()
    assert bad(found) == []
    (objects,) = [one["detail"] for one in found["checks"] if one["name"] == "objects"]
    assert "3 of the ETags are no checksums" in objects, "that of `big` is one of parts"
    assert check(found, "object encryption")[0] == "PASS"
    assert (case.portrait(), case.encryption()) == (held, encrypted)
    assert case.plan()["condition"] == "healthy"


def test_a_further_bucket_that_a_kms_encrypts_is_brought_back(
    case: Encrypted, weed: SeaweedFS, make_bucket: MakeBucket
) -> None:
    """Its ETags are no checksums either."""
    other = make_bucket(weed)
    weed.client.create_bucket(Bucket=f"{case.mirrored}-{other}")
    for name in (other, f"{case.mirrored}-{other}"):
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    case.config = dataclasses.replace(case.config, objects=dataclasses.replace(case.config.objects, buckets=(other,)))
    case.kms.defaults = dict.fromkeys((case.bucket, other), "aws:kms")
    for key in FEW:
        case.put(key)
        case.writer.put_object(Bucket=other, Key=key, Body=f"other {key}".encode())
    held, beside = case.backup(), portrait(weed.client, other)
    lose(case)
    for key in FEW:
        weed.client.delete_object(Bucket=other, Key=key)
    assert bad(case.recover()) == []
    assert (case.portrait(), portrait(weed.client, other)) == (held, beside)
    assert {case.writer.head_object(Bucket=other, Key=key)["ServerSideEncryption"] for key in FEW} == {"aws:kms"}
    assert case.plan()["condition"] == "healthy"


def test_single_objects_are_encrypted_again_with_their_keys(case: Encrypted) -> None:
    case.put("one", **KMS)
    case.put("two words", ServerSideEncryption="aws:kms", SSEKMSKeyId="other-key")
    case.put("empty", ServerSideEncryption="AES256")
    case.put("plain")
    held, encrypted = case.backup(), case.encryption()
    assert encrypted["two words"] == ("aws:kms", "arn:aws:kms:other-key")
    assert encrypted["plain"] == ("", "")
    lose(case)
    found = case.recover()
    assert bad(found) == []
    assert check(found, "object encryption") == ("PASS", "all 3 objects that were encrypted are as they were")
    assert (case.portrait(), case.encryption()) == (held, encrypted)


def test_a_key_that_the_server_refuses_is_named(case: Encrypted) -> None:
    """The objects are there all the same, and encrypted as far as the server does that."""
    for key in FEW:
        case.put(key, ServerSideEncryption="aws:kms", SSEKMSKeyId="other-key")
    held = case.backup()
    lose(case)
    case.kms.keys = ["my-key"]
    case.proxy.calls.clear()
    found = case.recover()
    result, words = check(found, "object encryption")
    assert (result, "with the key arn:aws:kms:my-key" in words) == ("FAIL", True), words
    assert [one["name"] for one in found["checks"] if one["result"] == "FAIL"] == ["object encryption"]
    assert case.portrait() == held
    assert set(case.encryption().values()) == {("aws:kms", "arn:aws:kms:my-key")}


def test_a_server_without_a_kms_gets_the_objects_plain(case: Encrypted) -> None:
    for key in FEW:
        case.put(key, ServerSideEncryption="AES256")
    held = case.backup()
    lose(case)
    case.kms.keys = []
    found = case.recover()
    assert check(found, "object encryption")[0] == "FAIL"
    assert case.portrait() == held


def test_other_bytes_are_found_whatever_the_etag_says(case: Encrypted) -> None:
    """Of the same length, written by the application since: it is damage where the server is not asked by ETag."""
    for key in FEW:
        case.put(key, **KMS)
    held = case.backup()
    case.writer.put_object(Bucket=case.bucket, Key="one", Body=b"BODY OF one", ContentType="text/plain", **KMS)
    found = case.recover(identity=case.id, exact=True)
    assert bad(found) == []
    assert case.portrait() == held


def test_what_there_was_no_time_to_read_is_no_finding(case: Encrypted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written again by a recovery, say: all ETags are others."""
    for key in FEW:
        case.put(key, **KMS)
    case.backup()
    for key in FEW:
        case.put(key, **KMS)
    monkeypatch.setattr(compare, "READ_MOST", 1)
    made = case.plan()
    assert made["condition"] != "damaged", made
    assert any("2 objects encrypted with a KMS were written again" in one or "encrypted with a KMS" in one
               for one in made["unchecked"]), made["unchecked"]  # fmt: skip
