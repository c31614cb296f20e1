# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying an object: what a server may do to it on the way, and whose fault it is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Optional
from urllib.parse import urlencode

import layers
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, SpaceError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, copier, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.copier import READ, WRITE, Copier
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import Answer
from botocore.exceptions import ClientError

SOURCE = Bucket("uploads", "http://store:9000", access_key="k", secret_key="s")
TARGET = Bucket("mirror", "http://vault:9000", access_key="k", secret_key="s")
MD5 = hashlib.md5(b"hello").hexdigest()  # noqa: S324
SHA256 = hashlib.sha256(b"hello").hexdigest()


def refusal(code: str, status: int, attempted: str) -> LifeboatError:
    cause = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, attempted)
    try:
        with client.translated_errors(attempted, "one"):
            raise cause
    except LifeboatError as exc:
        return exc


@pytest.mark.parametrize(
    ("code", "status", "attempted", "why"),
    [
        ("NoSuchKey", 404, READ, "it is listed and not there"),
        ("NoSuchVersion", 404, READ, "it is listed and not there"),
        ("AccessDenied", 403, READ, "it may not be read"),
        ("InvalidRequest", 400, WRITE, "it is not taken"),
        ("KeyTooLongError", 400, WRITE, "it is not taken"),
        ("XMinioInvalidResourceName", 400, WRITE, "it is not taken"),
        ("XMinioParentIsObject", 400, WRITE, "it is not taken"),
        # Of these no object is to blame, and the next would fare no better.
        ("AccessDenied", 403, WRITE, ""),
        ("NoSuchBucket", 404, WRITE, ""),
        ("NoSuchBucket", 404, READ, ""),
        ("InvalidAccessKeyId", 403, READ, ""),
        ("SlowDown", 503, WRITE, ""),
        ("InternalError", 500, READ, ""),
        ("QuotaExceeded", 403, WRITE, ""),
        ("XMinioStorageFull", 507, WRITE, ""),
        ("RequestTimeTooSkewed", 403, WRITE, ""),
    ],
)
def test_whose_fault_it_is(code: str, status: int, attempted: str, why: str) -> None:
    found = copier.refusal(refusal(code, status, attempted))
    assert found.startswith(why) if why else found == ""


def test_a_full_vault_is_a_matter_of_space() -> None:
    assert isinstance(refusal("XMinioStorageFull", 507, WRITE), SpaceError)


TAG_SET = b"<Tagging><TagSet><Tag><Key>a b</Key><Value>c&amp;d</Value></Tag></TagSet></Tagging>"


class Fake:
    """Both servers. `gives`: the body and headers of a GET; `puts`: the ETag of what is put, `keeps`: what it holds."""

    def __init__(self, body: bytes, headers: Mapping[str, str], etag: Optional[str] = None, keeps: bytes = b"") -> None:
        self.body, self.headers, self.etag, self.keeps = body, headers, etag, keeps
        self.put: list[tuple[Mapping[str, str], bytes]] = []
        self.put_tags: list[bytes] = []
        self.tagged, self.keeps_tags = b"", True

    def call(
        self, method: str, name: str, key: str, query: Any = None, headers: Any = None, body: bytes = b"", **_: Any
    ) -> Answer:
        if query and "tagging" in query:
            return self.tags(method, name, body)
        if method == "PUT":
            self.put.append((headers, body))
            if self.keeps_tags and "x-amz-tagging" in headers:
                self.tagged = TAG_SET
            etag = self.etag or hashlib.md5(body).hexdigest()  # noqa: S324
            return Answer(200, {"etag": f'"{etag}"', "x-amz-version-id": "w"}, b"")
        if name == TARGET.name:
            return Answer(200, {}, self.keeps)
        return Answer(200, self.headers, self.body)

    def tags(self, method: str, name: str, body: bytes) -> Answer:
        if name == SOURCE.name:
            return Answer(200, {}, TAG_SET)
        if method == "PUT":
            self.put_tags.append(body)
            self.tagged = body
        return Answer(200, {}, self.tagged)


def copy(monkeypatch: pytest.MonkeyPatch, fake: Fake, **options: Any) -> copier.Copied:
    monkeypatch.setattr(Bucket, "requests", fake)
    with Copier(SOURCE, TARGET) as moving:
        return moving.copy("a", 5, MD5, **options)


HEADERS = {"etag": f'"{MD5}"', "server": "SeaweedFS 4", "date": "now", "content-type": "text/x"}


def test_what_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"x-amz-meta-own": "é".encode().decode("latin-1"), "cache-control": "a", "x-amz-request-id": "1"}
    fake = Fake(b"hello", {**HEADERS, **extra, "x-amz-tagging-count": "1", "x-amz-version-id": "v"})
    done = copy(monkeypatch, fake)
    assert (done.sha256, done.target_version, done.target_etag, done.version) == (SHA256, "w", MD5, "v")
    assert (done.proved, done.doubtful) == (True, False)
    ((headers, body),) = fake.put
    assert body == b"hello"
    assert headers == {
        "content-type": "text/x", "cache-control": "a", "x-amz-meta-own": extra["x-amz-meta-own"],
        "x-amz-tagging": "a%20b=c%26d", "content-md5": "XUFAKrxLKna5cZ2REBfFkg==",
    }  # fmt: skip
    assert (fake.put_tags, done.untagged) == ([], ""), "they were read back"
    own = urlencode({"x-amz-meta-own": extra["x-amz-meta-own"]})
    assert done.record[:2] == (f"cache-control=a&content-type=text%2Fx&{own}", "a%20b=c%26d")
    assert abs(done.record.tags_at - time.time()) < 60


TAGGED = {"etag": f'"{MD5}"', "x-amz-tagging-count": "1"}


def test_tags_that_the_target_lost_are_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceph RGW: GET ?tagging then answers 200 and nothing."""
    fake = Fake(b"hello", TAGGED)
    fake.keeps_tags = False
    assert copy(monkeypatch, fake).untagged == ""
    (body,) = fake.put_tags
    assert b"<Tag><Key>a b</Key><Value>c&amp;d</Value></Tag>" in body


@pytest.mark.parametrize(("code", "status"), [("InvalidTag", 400), ("AccessDenied", 403), ("NotImplemented", 501)])
def test_a_refused_tag_leaves_the_bytes(monkeypatch: pytest.MonkeyPatch, code: str, status: int) -> None:
    fake = Fake(b"hello", TAGGED)
    real = fake.call

    def call(
        method: str, name: str, key: str, query: Any = None, headers: Any = None, *rest: Any, **more: Any
    ) -> Answer:
        if name == TARGET.name and ("tagging" in (query or {}) or "x-amz-tagging" in (headers or {})):
            raise refusal(code, status, WRITE)
        return real(method, name, key, query, headers, *rest, **more)

    monkeypatch.setattr(fake, "call", call)
    done = copy(monkeypatch, fake)
    assert (len(fake.put), code in done.untagged, done.record.tags) == (1, True, "a%20b=c%26d")
    assert "x-amz-tagging" not in fake.put[0][0]


def test_what_is_on_record_is_written_and_not_what_the_vault_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(b"hello", {**TAGGED, "content-type": "of the vault"})
    record = copier.Record("content-type=text%2Fx", "old=1")
    monkeypatch.setattr(
        fake, "tags", lambda *asked: Answer(200, {}, b"<T><Tag><Key>old</Key><Value>1</Value></Tag></T>")
    )
    assert copy(monkeypatch, fake, record=record).record == record
    assert {**fake.put[0][0], "content-md5": ""} == {
        "content-type": "text/x",
        "x-amz-tagging": "old=1",
        "content-md5": "",
    }


@pytest.mark.parametrize(
    ("server", "count", "asked"),
    [
        ("SeaweedFS 4", None, False), ("AmazonS3", None, False), ("MinIO", None, False), ("MinIO", "2", True),
        ("MinIO", "0", False), ("Ceph", None, True), (None, None, True), ("Ceph", "0", False),
    ],
)  # fmt: skip
def test_tags_are_asked_where_a_server_does_not_tell_how_many(server: str, count: str, asked: bool) -> None:
    said = {"server": server, "x-amz-tagging-count": count}
    headers = {name: value for name, value in said.items() if value is not None}
    assert copier.may_have_tags(Answer(200, headers, b"")) is asked


@pytest.mark.parametrize(
    ("headers", "proved", "doubtful"),
    [
        pytest.param({}, True, False, id="an MD5"),
        pytest.param({"etag": '"0123456789abcdef0123456789abcdef"'}, True, False, id="listed with the right one"),
        pytest.param({"x-amz-server-side-encryption": "aws:kms"}, False, False, id="encrypted with a key"),
        pytest.param({"x-amz-server-side-encryption": "AES256"}, True, False, id="encrypted by the server"),
    ],
)
def test_what_an_etag_proves(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], proved: bool, doubtful: bool
) -> None:
    done = copy(monkeypatch, Fake(b"hello", {**HEADERS, **headers}))
    assert (done.proved, done.doubtful) == (proved, doubtful)


def test_a_damaged_source_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    done = copy(monkeypatch, Fake(b"hellp", HEADERS))
    assert (done.proved, done.doubtful) == (False, True)


def test_other_bytes_than_were_mirrored_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(b"hellp", HEADERS)
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        copy(monkeypatch, fake, sha256=SHA256)
    assert fake.put == []


def test_a_target_with_other_etags_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert copy(monkeypatch, Fake(b"hello", HEADERS, etag="opaque", keeps=b"hello")).target_etag == "opaque"
    with pytest.raises(IntegrityError, match="what the target holds is not what it was sent"):
        copy(monkeypatch, Fake(b"hello", HEADERS, etag="opaque", keeps=b"hellp"))


@pytest.mark.parametrize(("code", "status"), [("MethodNotAllowed", 405), ("NotImplemented", 501)])
def test_tags_of_one_object_that_are_refused_say_nothing_of_the_next(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    """As of a delete marker on Amazon S3. Where the server counts an object's tags, it knows tags."""
    fake = Fake(b"hello", {**HEADERS, **TAGGED})
    real, refusals = fake.call, [refusal(code, status, READ)]

    def call(method: str, name: str, key: str, query: Any = None, *rest: Any, **more: Any) -> Answer:
        if query and "tagging" in query and name == SOURCE.name and refusals:
            raise refusals.pop()
        return real(method, name, key, query, *rest, **more)

    monkeypatch.setattr(fake, "call", call)
    monkeypatch.setattr(Bucket, "requests", fake)
    with Copier(SOURCE, TARGET) as moving:
        first, second = (moving.copy(key, 5, MD5) for key in "ab")
    assert (first.record.tags, second.record.tags, second.unread) == (None, "a%20b=c%26d", "")
    assert first.unread == "the server says that it knows no tags"
    assert ["x-amz-tagging" in headers for headers, _body in fake.put] == [False, True]


def test_an_object_without_tags_says_nothing_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(b"hello", {**HEADERS, "server": "one that counts no tags"})
    real, refusals = fake.call, [refusal("NoSuchTagSet", 404, READ)]

    def call(method: str, name: str, key: str, query: Any = None, *rest: Any, **more: Any) -> Answer:
        if query and "tagging" in query and refusals:
            raise refusals.pop()
        return real(method, name, key, query, *rest, **more)

    monkeypatch.setattr(fake, "call", call)
    monkeypatch.setattr(Bucket, "requests", fake)
    with Copier(SOURCE, TARGET) as moving:
        moving.copy("a", 5, MD5)
        moving.copy("b", 5, MD5)
    assert ["x-amz-tagging" in headers for headers, _body in fake.put] == [False, True]


# What a source can say, and none of which is sent: it would change what a vault does with the object.
FORBIDDEN = (
    "x-minio-source-mtime", "x-minio-source-etag", "x-minio-force-delete", "x-minio-extract", "x-amz-acl",
    "x-amz-copy-source", "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-storage-class",
    "x-amz-server-side-encryption", "x-amz-version-id", "x-amz-tagging", "x-amz-bypass-governance-retention",
    "x-amz-security-token", "x-amz-content-sha256", "x-amz-date", "authorization", "host", "content-length",
    "transfer-encoding", "connection", "expect", "if-none-match", "if-match", "range", "x-amz-replication-status",
)  # fmt: skip


@pytest.mark.parametrize("size", [5, copier.PART + 1])
def test_what_a_source_can_make_us_send(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """docs/decisions/0037: every header and parameter of a write whose value a source controls."""
    body = b"x" * size
    headers = {
        "etag": '"e"', "content-length": str(size), "server": "S", "x-amz-tagging-count": "1",
        **dict.fromkeys(signed.KEPT, "theirs"), "x-amz-meta-own": "theirs", **dict.fromkeys(FORBIDDEN, "theirs"),
    }  # fmt: skip
    headers["content-length"] = str(size)
    sent: list[tuple[str, dict[str, str], dict[str, str]]] = []
    told = [b""]  # the tags of the copy, which are lost at first

    def call(
        method: str, name: str, key: str, query: Any = None, headers_sent: Any = None, data: bytes = b"", **_: Any
    ) -> Answer:
        if name == SOURCE.name:
            assert method in ("GET", "HEAD")
            if "tagging" in query:
                return Answer(200, {}, b"<Tagging><Tag><Key>theirs</Key><Value>theirs</Value></Tag></Tagging>")
            start, _, end = (headers_sent or {}).get("range", "bytes=0-").removeprefix("bytes=").partition("-")
            return Answer(200, headers, body[int(start) : int(end) + 1 if end else None])
        sent.append((method, dict(query), dict(headers_sent or {})))
        if "tagging" in query:
            told[:] = [data] if method == "PUT" else told
            return Answer(200, {}, told[0])
        said = b"<R><UploadId>u</UploadId><ETag>e</ETag></R>" if method == "POST" else data or body
        return Answer(200, {}, body if method == "GET" else said)

    monkeypatch.setattr(Bucket, "requests", SimpleNamespace(call=call))
    monkeypatch.setattr(Copier, "_read_back", lambda *_: None)
    with Copier(SOURCE, TARGET) as moving:
        moving.copy("a", size, "e")
    theirs = {
        name for _method, _query, sent_headers in sent for name, value in sent_headers.items() if "theirs" in value
    }
    assert theirs == {*signed.KEPT, "x-amz-meta-own", "x-amz-tagging"}
    assert {name for _method, query, _headers in sent for name in query} <= {
        "uploads", "uploadId", "partNumber", "tagging",
    }  # fmt: skip
    assert not [query for _method, query, _headers in sent if "theirs" in query.values()]


def test_the_decision_lists_what_a_source_can_make_us_send() -> None:
    text = (layers.ROOT / "docs/decisions/0037-what-a-source-controls.md").read_text(encoding="utf-8")
    table = {cell.strip("` ") for line in text.splitlines() if line.startswith("| `") for cell in [line.split("|")[1]]}
    assert table >= {*signed.KEPT, "x-amz-meta-*", "x-amz-tagging", "range", "if-match", "content-md5"}
    assert {name for name in table if name.startswith("x-amz")} == {
        "x-amz-acl", "x-amz-meta-*", "x-amz-tagging", "x-amz-website-redirect-location",
    }  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_other_header_is_ever_sent(name: str) -> None:
    # A recovery sends the locks and the encryption that are on record.
    if name in ("if-match", "range", "x-amz-tagging", *signed.LOCK, *signed.ENCRYPTION):
        return
    with pytest.raises(ValueError, match="a header that is not to be sent"):
        TARGET.ask("PUT", "a", headers={name: "theirs"}, attempted=WRITE)


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_no_write_names_a_version(method: str) -> None:
    """MinIO overwrites that version in place."""
    for query in ({}, {"retention": "", "acl": ""}, {"tagging": ""}):
        with pytest.raises(ValueError, match="a write that names a version"):
            TARGET.ask(method, "a", {"versionId": "v", **query}, attempted=WRITE)


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-amz-meta-\xe9", "a"), ("x-amz-meta-a b", "a"), ("x-amz-meta-a", "b\r\nx: y"), ("x-amz-meta-", "a\0")],
)
def test_an_object_whose_headers_cannot_be_sent_is_its_own_fault(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    def send(self: signed.Requests, request: Any, **_: Any) -> Answer:
        assert request.bucket == SOURCE.name, "nothing reaches the vault"
        return Answer(200, {**HEADERS, name: value}, b"hello")

    monkeypatch.setattr(signed.Requests, "_send", send)
    with pytest.raises(signed.UnsendableError) as caught, Copier(SOURCE, TARGET) as moving:
        moving.copy("a", 5, MD5)
    assert copier.refusal(caught.value).startswith(f"its header {name!r} cannot be sent")


class Forgets:
    """A vault that keeps no `expires`, and no metadata without a value."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.raises: Optional[LifeboatError] = None

    def call(self, method: str, name: str, key: str, *_: Any, **more: Any) -> Answer:
        assert (method, name) == ("HEAD", TARGET.name)
        self.asked.append(key)
        if self.raises:
            raise self.raises
        kept = {name: value for name, value in self.held[key].items() if name != "expires" and value}
        return Answer(200, {**kept, "date": "now"}, b"")


def test_of_many_copies_the_first_with_each_header_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Forgets()
    monkeypatch.setattr(Bucket, "requests", vault)
    losses = copier.Losses(TARGET)

    def lost(key: str, **headers: str) -> tuple[str, ...]:
        vault.held[key] = {name.replace("_", "-"): value for name, value in headers.items()}
        return losses.headers_lost(key, "v", vault.held[key])

    assert lost("a", content_type="x") == ()
    assert lost("b", content_type="y") == (), "not asked again"
    assert lost("c", content_type="y", expires="1") == ("expires",)
    assert lost("d", expires="2") == ("expires",), "taken to be lost as the first"
    assert lost("e", x_amz_meta_own="1") == ()
    assert lost("f", x_amz_meta_own="") == ("user metadata",)
    assert lost("g", x_amz_meta_own="1", content_type="z") == ()
    assert vault.asked == ["a", "c", "e", "f"]
    monkeypatch.setattr(copier, "LOOKS", 1)
    losses, vault.asked = copier.Losses(TARGET), []
    for number in range(5):
        lost(f"{number}", **{f"x_amz_meta_{number}": "1"})
    assert vault.asked == ["0"], "a hostile source cannot make us ask for each"


@pytest.mark.parametrize("code", [("AccessDenied", 403), ("NoSuchKey", 404), ("InternalError", 500)])
def test_a_copy_that_cannot_be_looked_at_fails_nothing(monkeypatch: pytest.MonkeyPatch, code: tuple[str, int]) -> None:
    vault = Forgets()
    vault.raises = refusal(*code, WRITE)
    monkeypatch.setattr(Bucket, "requests", vault)
    assert copier.Losses(TARGET).headers_lost("a", "v", {"expires": "1"}) == ()


def test_what_is_read_back_tells_what_the_copy_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """At no further request."""
    fake = Fake(b"hello", {**HEADERS, "expires": "1", "x-amz-meta-own": "1"}, etag="other", keeps=b"hello")
    done = copy(monkeypatch, fake)
    assert (done.read_back, done.properties.lost) == (True, ("content-type", "expires", "user metadata"))
    fake = Fake(b"hello", HEADERS)
    assert copy(monkeypatch, fake).read_back is False


class Strict(Fake):
    """A vault that refuses some of what is written, by the code that it gives."""

    def __init__(self, refuses: Mapping[str, tuple[str, int]]) -> None:
        super().__init__(b"hello", HEADERS)
        self._refuses = refuses

    def call(
        self, method: str, name: str, key: str, query: Any = None, headers: Any = None, body: bytes = b"", **more: Any
    ) -> Answer:
        if method == "PUT" and name == TARGET.name:
            for header, (code, status) in self._refuses.items():
                if header in headers or header == key:
                    self.put.append((headers, b"refused"))
                    raise refusal(code, status, WRITE)
        return super().call(method, name, key, query, headers, body, **more)


ACL = "x-amz-acl"


@pytest.mark.parametrize(
    ("refuses", "keys", "sent", "fails"),
    [
        ({}, "abc", [True, True, True], ""),
        # Amazon S3 wants a right of its own; others know no access control lists.
        ({ACL: ("AccessDenied", 403)}, "abc", [True, False, False, False], ""),
        ({ACL: ("AccessControlListNotSupported", 400)}, "ab", [True, False, False], ""),
        ({ACL: ("NotImplemented", 501)}, "ab", [True, False, False], ""),
        # An object that is refused all the same says nothing of the header.
        ({"a": ("KeyTooLongError", 400)}, "abc", [True, False, True, True], "KeyTooLong"),
        # Where the header was taken once it is not its fault.
        ({"b": ("KeyTooLongError", 400)}, "abc", [True, True, True], "KeyTooLong"),
    ],
)
def test_copies_are_the_bucket_owners_too(
    monkeypatch: pytest.MonkeyPatch, refuses: Mapping[str, tuple[str, int]], keys: str, sent: list[bool], fails: str
) -> None:
    """Ceph RGW: or the vault's administrator cannot read what the writer wrote, and recovers nothing."""
    fake = Strict(refuses)
    monkeypatch.setattr(Bucket, "requests", fake)
    said = ""
    with Copier(SOURCE, TARGET, for_owner=True) as moving:
        for key in keys:
            try:
                moving.copy(key, 5, MD5)
            except LifeboatError as exc:
                said += exc.cause
    assert [headers.get(ACL) for headers, _body in fake.put] == [
        "bucket-owner-full-control" if there else None for there in sent
    ]
    assert bool(said) == bool(fails)
    assert fails in said


def test_a_recovery_gives_its_objects_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Strict({})
    copy(monkeypatch, fake)
    assert [ACL in headers for headers, _body in fake.put] == [False]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a header that is not to be sent"):
        TARGET.ask("PUT", "a", headers={ACL: "public-read"}, attempted=WRITE)


def test_parts_are_begun_for_the_buckets_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Mapping[str, str]] = []

    def call(
        method: str, name: str, key: str, query: Any = None, headers: Any = None, data: bytes = b"", **_: Any
    ) -> Answer:
        if name == SOURCE.name:
            return Answer(200, {**HEADERS, "x-amz-meta-snowball-auto-extract": "true"}, b"hello")
        if method == "POST" and "uploads" in query:
            begun.append(headers)
            if ACL in headers:
                raise refusal("AccessDenied", 403, WRITE)
        return Answer(200, {}, b"hello" if method == "GET" else b"<R><UploadId>u</UploadId><ETag>e</ETag></R>")

    monkeypatch.setattr(Bucket, "requests", SimpleNamespace(call=call))
    with Copier(SOURCE, TARGET, for_owner=True) as moving:
        moving.copy("a", 5, MD5)
    assert [ACL in headers for headers in begun] == [True, False]
