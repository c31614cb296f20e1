# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe before endpoints that fail in every way, and what is remembered of one that does not.

What it finds on servers that work: tests/objects/test_probe.py.
"""

from __future__ import annotations

import dataclasses
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import bucket_requests
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, lifecycle
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import Answer
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints, probe, vault, writer
from ansible_collections.lifeboat.dr.plugins.module_utils.vault.probe import (
    MISSING,
    SUPPORTED,
    UNKNOWN,
    Feature,
    Report,
)
from botocore.exceptions import ClientError
from builders import NOW, settings

KEY, SECRET = "AKIATEST", "hunter2-and-more"


def error(code: str) -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said the server</Message></Error>"


@dataclasses.dataclass
class Endpoint:
    """Answers every request alike; keeps what it was asked."""

    status: int = 200
    body: str = ""
    delay: float = 0
    ahead: float = 0
    asked: list[str] = dataclasses.field(default_factory=list)
    url: str = ""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    one = Endpoint()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            one.asked.append(f"{self.command} {self.path}")
            time.sleep(one.delay)
            body = b"" if self.command == "HEAD" else one.body.encode()
            self.send_response_only(one.status)
            self.send_header("Date", format_datetime(datetime.now(timezone.utc) + timedelta(seconds=one.ahead), True))
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *arguments: object) -> None:
            """Into no test's output."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        one.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield one
        server.shutdown()


def bucket(endpoint: Endpoint) -> Bucket:
    return Bucket("uploads", endpoint.url, access_key=KEY, secret_key=SECRET)


FAULTS: list[tuple[dict[str, Any], type[LifeboatError], str]] = [
    ({"status": 403}, UsageError, r"it refuses this key everything.*rights"),
    ({"status": 403, "body": error("AccessDenied")}, UsageError, r"refuses this key everything.*AccessDenied"),
    ({"status": 403, "body": error("InvalidAccessKeyId")}, UsageError, r"refuses the key \(InvalidAccessKeyId"),
    ({"status": 403, "body": error("SignatureDoesNotMatch")}, UsageError, r"refuses the key.*lifeboat_secrets"),
    ({"status": 400, "body": error("ExpiredToken")}, UsageError, r"refuses the key \(ExpiredToken"),
    ({"status": 403, "body": error("RequestTimeTooSkewed"), "ahead": 3600}, UsageError,
     r"clock is wrong.*the server's clock is \+3[56]\d\d s from this host's.*timedatectl"),
    ({"status": 500, "body": error("InternalError")}, LifeboatError, r"InternalError.*look at its log"),
    ({"status": 503, "body": error("SlowDown"), "delay": 0.2}, LifeboatError, r"at this rate \(SlowDown"),
    ({"status": 200, "body": error("InternalError")}, LifeboatError, r"InternalError"),
    ({"status": 200, "body": "<html><p>It works!</p></html>"}, IntegrityError, r"did not keep.*It works.*a web server"),
    ({"status": 200, "body": "<html><p>It works!"}, LifeboatError, r"Internal Server Error|is not S3's"),
    ({"status": 404, "body": "<html><body>no</body></html>"}, UsageError, r"no S3 server.*endpoint_url and port"),
    ({"delay": 5}, LifeboatError, r"Read timeout.*the server runs"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("faults", "kind", "words"), FAULTS, ids=lambda value: str(value)[:40])
def test_an_endpoint_that_cannot_be_used_is_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any], kind: type[LifeboatError], words: str
) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 0.6)
    monkeypatch.setattr(client, "READ_TIMEOUT", 2)
    for name, value in faults.items():
        setattr(endpoint, name, value)
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        probe.probe(bucket(endpoint))
    assert time.monotonic() - began < 30  # six, of a patience of 0.6; a busy machine takes longer
    assert SECRET not in str(caught.value)
    touched = [
        request for request in endpoint.asked if "/uploads" in request and not request.startswith(("GET", "HEAD"))
    ]
    assert touched == []


def test_nobody_listens() -> None:
    with pytest.raises(LifeboatError, match=r"Could not connect to the endpoint URL.*endpoint_url"):
        probe.probe(Bucket("x", "http://127.0.0.1:9", access_key=KEY, secret_key=SECRET))


# --- one feature lies, all else works ---

Lie = Callable[..., Any]


class Store:
    """A server that keeps one bucket well, and lies where `lies` says. It takes boto3's calls and our own requests."""

    def __init__(self, lies: dict[str, Lie]) -> None:
        self._lies, self._status, self._rules = lies, "", []  # type: ignore[var-annotated]
        self._begun: dict[str, str] = {}
        self._part: bytes | None = None
        self.held: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.meta = None

    def __getattr__(self, call: str) -> Any:
        if call.startswith("on_"):
            raise AttributeError(call)

        def answer(**arguments: Any) -> Any:
            arguments.pop("Bucket", None)
            work = getattr(self, f"on_{call}", lambda **_: {})
            return self._lies[call](work, **arguments) if call in self._lies else work(**arguments)

        return answer

    def skew(self, *_: str) -> float:
        return 0.0

    def call(
        self, method: str, bucket: str, key: str | None = None, query: Any = None, headers: Any = None,
        body: bytes = b"", *, attempted: str, subject: str,
    ) -> Answer:  # fmt: skip
        """As signed.Requests.call(): a request about an object, or a question about the bucket."""
        query, headers = query or {}, headers or {}
        with client.translated_errors(attempted, subject):
            if key is None and "lifecycle" in query:
                return bucket_requests.answer(self._rulebook(bucket), method, query, body, attempted)
            if key is None:
                return Answer(200, {}, self._of_bucket(query))
            if "uploads" in query or "uploadId" in query:
                return self._by_parts(method, key, headers, body)
            version = {"VersionId": query["versionId"]} if "versionId" in query else {}
            if method == "GET" and "tagging" in query:
                tags = self.get_object_tagging(Key=key)["TagSet"]
                rows = "".join(f"<Tag><Key>{tag['Key']}</Key><Value>{tag['Value']}</Value></Tag>" for tag in tags)
                return Answer(200, {}, f"<T xmlns='x'>{rows}</T>".encode())
            if method == "DELETE":
                self.delete_object(Key=key, **version)
                return Answer(204, {}, b"")
            if method == "PUT":
                told = self.put_object(Key=key, Body=body, **headers)
                return Answer(200, {"x-amz-version-id": told["VersionId"]}, b"")
            found = self.get_object(Key=key, **version) if method == "GET" else self.head_object(Key=key)
            held = found.pop("Body")
            return Answer(200, {"etag": "x", **found, "content-length": str(len(held))}, held)

    attempt = call

    def _rulebook(self, name: str) -> SimpleNamespace:
        """What bucket_requests asks of a fake, of the lifecycle."""
        calls = ("get_bucket_lifecycle_configuration", "put_bucket_lifecycle_configuration")
        return SimpleNamespace(url=name, name=name, answers={calls[0]}, **{call: getattr(self, call) for call in calls})

    def _of_bucket(self, query: dict[str, str]) -> bytes:
        if "versions" in query:
            return listing(self.list_object_versions(Prefix=query["prefix"]))
        return f"<V xmlns='x'><Status>{self.get_bucket_versioning()['Status']}</Status></V>".encode()

    def _by_parts(self, method: str, key: str, headers: dict[str, str], body: bytes) -> Answer:
        if method == "PUT":
            return Answer(200, self.upload_part(Key=key, Body=body), b"")
        if self._part is None:
            upload = self.create_multipart_upload(Key=key, Headers=headers)["UploadId"]
            return Answer(200, {}, f"<R xmlns='x'><UploadId>{upload}</UploadId></R>".encode())
        told = self.complete_multipart_upload(Key=key)
        return Answer(200, {"x-amz-version-id": told["VersionId"]}, b"<R xmlns='x'><ETag>x</ETag></R>")

    def on_put_bucket_versioning(self, VersioningConfiguration: dict[str, str]) -> None:
        self._status = VersioningConfiguration["Status"]

    def on_get_bucket_versioning(self) -> dict[str, str]:
        return {"Status": self._status}

    def on_put_object(self, Key: str, Body: bytes, **more: Any) -> dict[str, Any]:
        if "if-none-match" in more and Key in self.held:
            raise refusal("PreconditionFailed", 412)
        versions = self.held.setdefault(Key, [])
        versions.append((f"v{len(versions)}", {"Body": Body, "at": time.time(), **more}))
        return {"VersionId": versions[-1][0]}

    def on_get_object(self, Key: str, VersionId: str = "") -> dict[str, Any]:
        return {name: value for name, value in self._find(Key, VersionId).items() if name != "at"}

    def on_head_object(self, Key: str) -> dict[str, Any]:
        return self.on_get_object(Key)

    def on_get_object_tagging(self, Key: str) -> dict[str, Any]:
        tags = parse_qsl(self._find(Key, "").get("x-amz-tagging", ""))
        return {"TagSet": [{"Key": name, "Value": value} for name, value in tags]}

    def _find(self, key: str, version: str) -> dict[str, Any]:
        return next((held for name, held in reversed(self.held[key]) if version in ("", name) and "Body" in held), {})

    def on_delete_object(self, Key: str, VersionId: str = "", **_: Any) -> dict[str, Any]:
        if VersionId and "ObjectLockMode" in self._find(Key, VersionId):
            raise refusal("AccessDenied", 403)
        if not VersionId:
            versions = self.held[Key]
            versions.append((f"v{len(versions)}", {"at": time.time()}))
        return {}

    def on_list_object_versions(self, Prefix: str) -> list[dict[str, Any]]:
        return [
            {"Key": key, "VersionId": name, "at": held["at"], "IsLatest": not number, "Deleted": "Body" not in held}
            for key in sorted(self.held)
            if key.startswith(Prefix)
            for number, (name, held) in enumerate(reversed(self.held[key]))
        ]

    def on_put_bucket_lifecycle_configuration(self, LifecycleConfiguration: dict[str, Any]) -> None:
        self._rules = LifecycleConfiguration["Rules"]

    def on_get_bucket_lifecycle_configuration(self) -> dict[str, Any]:
        return {"Rules": self._rules}

    def on_create_multipart_upload(self, Key: str, Headers: dict[str, str]) -> dict[str, Any]:
        self._begun = Headers
        return {"UploadId": "u"}

    def on_upload_part(self, Key: str, Body: bytes) -> dict[str, str]:
        self._part = Body
        return {"etag": "e"}

    def on_complete_multipart_upload(self, Key: str) -> dict[str, Any]:
        part, self._part = self._part, None
        return self.on_put_object(Key=Key, Body=part or b"", **self._begun)


def listing(rows: list[dict[str, Any]]) -> bytes:
    said = ""
    for row in rows:
        kind = "DeleteMarker" if row["Deleted"] else "Version"
        at = datetime.fromtimestamp(row["at"], timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        values = {"Key": row["Key"], "VersionId": row["VersionId"], "LastModified": at,
                  "IsLatest": str(row["IsLatest"]).lower()}  # fmt: skip
        said += f"<{kind}>{''.join(f'<{name}>{value}</{name}>' for name, value in values.items())}</{kind}>"
    return f"<ListVersionsResult xmlns='x'>{said}</ListVersionsResult>".encode()


def moved(seconds: float, only: Callable[[dict[str, Any]], bool] = lambda row: True) -> Lie:
    """The listing's times are so far off."""

    def answer(work: Lie, **arguments: Any) -> Any:
        return [{**row, "at": row["at"] + seconds * only(row)} for row in work(**arguments)]

    return answer


def refusal(code: str, status: int = 400) -> ClientError:
    said: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(said, "X")


def refuse(code: str, status: int = 400, only: str = "") -> Lie:
    def answer(work: Lie, **arguments: Any) -> Any:
        if only in str(arguments):
            raise refusal(code, status)
        return work(**arguments)

    return answer


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "APART", 0.01)


def features(lies: dict[str, Lie]) -> dict[str, Feature]:
    store = Store(lies)
    return probe._features(opened("a", store), opened("a-lock", store), "GOVERNANCE", [])


def opened(name: str, client: Any) -> Bucket:
    """A bucket whose client is there already, and takes our own requests too."""
    made = Bucket(name)
    vars(made)["_lines"] = SimpleNamespace(client=lambda: client, requests=client)
    return made


def test_all_is_seen_where_all_works() -> None:
    found = features({})
    assert {feature.state for feature in found.values()} == {SUPPORTED}, found


LIES: list[tuple[str, dict[str, Lie], str, str]] = [
    ("versioning", {"put_bucket_versioning": lambda work, **_: None}, MISSING, "then says nothing"),
    ("versioning", {"put_bucket_versioning": refuse("NotImplemented", 501)}, MISSING, "NotImplemented"),
    ("versioning", {"put_bucket_versioning": refuse("AccessDenied", 403)}, UNKNOWN, "access denied"),
    ("versioning", {"put_bucket_versioning": refuse("InternalError", 500)}, UNKNOWN, "InternalError"),
    ("versioning", {"put_object": lambda work, **more: {**work(**more), "VersionId": "null"}}, MISSING, "no version"),
    ("etags", {"head_object": lambda work, Key: {**work(Key=Key), "etag": probe._CHOSEN}}, MISSING, "chose its own"),
    ("etags", {"put_object": refuse("InternalError", 500, only="source-etag")}, UNKNOWN, "InternalError"),
    ("times", {"put_bucket_versioning": lambda work, **_: None}, MISSING, "has no versions"),
    ("times", {"list_object_versions": moved(-60)}, MISSING, "listed with a time that is -5"),
    ("times", {"list_object_versions": moved(60)}, MISSING, "listed with a time that is +5"),
    ("times", {"list_object_versions": moved(9, lambda row: row["VersionId"] == "v0")}, MISSING, "a version is listed"),
    ("times", {"list_object_versions": moved(-9, lambda row: row["Deleted"])}, MISSING, "a delete marker is listed"),
    ("times", {"list_object_versions": lambda work, **more: sorted(work(**more), key=lambda row: not row["Deleted"])},
     MISSING, "not listed in the order of their keys"),
    ("times", {"list_object_versions": lambda work, **more: work(**more)[::-1]}, MISSING, "not listed newest first"),
    ("times", {"list_object_versions": refuse("InternalError", 500, only="dated")}, UNKNOWN, "InternalError"),
    ("versioning", {"get_object": lambda work, VersionId="", **more: work(**more)}, MISSING, "not what it had been"),
    ("versioning", {"list_object_versions": lambda work, **_: []}, MISSING, "do not show in the list"),
    ("lifecycle", {"put_bucket_lifecycle_configuration": lambda work, **_: None}, MISSING, "not there or another one"),
    ("lifecycle", {"put_bucket_lifecycle_configuration": refuse("NotImplemented", 501)}, MISSING, "NotImplemented"),
    ("lifecycle", {"put_bucket_lifecycle_configuration": refuse("AccessDenied", 403)}, UNKNOWN, "access denied"),
    ("lifecycle", {"put_bucket_lifecycle_configuration": refuse("MalformedXML", only="Abort")}, SUPPORTED,
     "without unfinished uploads"),
    ("lifecycle", {"put_bucket_lifecycle_configuration": refuse("MalformedXML", only="DeleteMarker")}, SUPPORTED,
     "without delete markers that hide nothing any more and unfinished uploads"),
    ("object_lock", {"put_object": refuse("InvalidRequest", only="ObjectLock")}, MISSING, "InvalidRequest"),
    ("object_lock", {"delete_object": lambda work, **_: {}}, MISSING, "locked in GOVERNANCE was deleted all the same"),
    ("object_lock", {"delete_object": refuse("AccessDenied", 403, only="VersionId")}, UNKNOWN, "not locked"),
    ("object_lock", {"delete_object": refuse("InternalError", 500, only="'locked'")}, UNKNOWN, "InternalError"),
    ("object_lock", {"create_bucket": refuse("InvalidRequest")}, MISSING, "InvalidRequest"),
    ("tagging", {"get_object_tagging": lambda work, **_: {"TagSet": []}}, MISSING, "read back it has none"),
    ("tagging", {"get_object_tagging": refuse("NotImplemented", 501)}, MISSING, "knows no tags"),
    ("tagging", {"create_multipart_upload": lambda work, Headers, **more: work(Headers={}, **more)}, MISSING,
     "written in parts with a tag, and read back it has none"),
    ("metadata", {"head_object": lambda work, **more: {**work(**more), "x-amz-meta-probe": ""}}, MISSING, "meta-probe"),
    ("metadata", {"head_object": lambda work, **more: {**work(**more), "cache-control": ""}}, MISSING, "cache-control"),
    ("conditions", {"put_object": lambda work, **more: work(**{k: v for k, v in more.items() if k != "if-none-match"})},
     MISSING, "an object was overwritten on the condition that there is none"),
    ("conditions", {"put_object": refuse("NotImplemented", 501, only="if-none-match")}, MISSING, "NotImplemented"),
    ("conditions", {"put_object": refuse("PreconditionFailed", 412, only="if-none-match")}, UNKNOWN, "Precondition"),
    ("conditions", {"put_object": refuse("InternalError", 500, only="if-none-match")}, UNKNOWN, "InternalError"),
    ("multipart", {"upload_part": lambda work, Body, **more: work(Body=b"", **more)}, MISSING, "was not what had been"),
    ("dates", {"list_object_versions": lambda work, **more: [
        {**row, "at": probe._PAST.timestamp()} if row["Key"] == "past" else row for row in work(**more)
    ]}, MISSING, "chose the time that it is listed with"),
    ("dates", {"list_object_versions": lambda work, **more: [row for row in work(**more) if row["Key"] != "past"]},
     MISSING, "is not listed"),
    ("dates", {"put_object": refuse("AccessDenied", 403, only="source-mtime")}, SUPPORTED, "could not choose the time"),
    ("dates", {"put_object": refuse("InternalError", 500, only="source-mtime")}, UNKNOWN, "InternalError"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lies", "state", "words"), LIES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_the_server_only_says_does_not_count(name: str, lies: dict[str, Lie], state: str, words: str) -> None:
    found = features(lies)[name]
    assert (found.state, words in found.detail) == (state, True), found
    assert bool(found.cost) == (state == MISSING)


def minio(name: str) -> dict[str, Lie]:
    """A server that takes the rule without its part on unfinished uploads."""

    def put(work: Lie, LifecycleConfiguration: dict[str, Any]) -> Any:
        kept = [
            {key: value for key, value in rule.items() if key != "AbortIncompleteMultipartUpload"}
            for rule in LifecycleConfiguration["Rules"]
        ]
        return work(LifecycleConfiguration={"Rules": kept})

    said = {"ResponseMetadata": {"HTTPHeaders": {"server": name}}}
    return {"put_bucket_lifecycle_configuration": put, "head_bucket": lambda work, **_: said}


@pytest.mark.parametrize(("server", "told"), [("MinIO", False), ("SeaweedFS 4.48", True), ("", True)])
def test_minio_cleans_unfinished_uploads_up_by_itself(server: str, told: bool, tmp_path: Path) -> None:
    assert ("unfinished uploads" in features(minio(server))["lifecycle"].detail) is told
    said: list[str] = []
    bucket = opened("uploads-backup", Store(minio(server)))
    work = vault._Ensuring(stack(tmp_path), vault.OBJECTS, bucket, False, False, said.append)
    work._expire(False, [], lifecycle.rule("lifeboat-shop", 30))
    assert (said != []) is told


# --- lifecycle rules ---

OURS = lifecycle.rule("lifeboat-shop", 30)
RULE: dict[str, Any] = {
    "ID": "lifeboat-shop", "Status": "Enabled", "Filter": {"Prefix": ""},
    "Expiration": {"ExpiredObjectDeleteMarker": True}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": lifecycle.ABORT_DAYS},
}  # fmt: skip
RIGHT: list[tuple[dict[str, Any], bool]] = [
    (RULE, True),
    ({**RULE, "Filter": {}}, True),
    ({**{key: value for key, value in RULE.items() if key != "Filter"}, "Prefix": ""}, True),
    ({key: value for key, value in RULE.items() if key != "AbortIncompleteMultipartUpload"}, True),
    ({**RULE, "Status": "Disabled"}, False),
    ({**RULE, "ID": "another"}, False),
    ({**RULE, "Filter": {"Prefix": "a/"}}, False),
    ({**RULE, "Filter": {"Prefix": "", "Tag": {"Key": "x", "Value": "y"}}}, False),
    ({**RULE, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, False),
    ({**RULE, "Expiration": {"Days": 30}}, False),
]


@pytest.mark.parametrize(("have", "right"), RIGHT)
def test_a_rule_is_right_when_it_expires_what_it_should(have: dict[str, Any], right: bool) -> None:
    found = [lifecycle.parse(bucket_requests.rule(one)) for one in ({"ID": "theirs", "Status": "Enabled"}, have)]
    assert (lifecycle.mine(found, OURS) is not None) is right


def test_a_bucket_is_made_where_amazon_wants_it() -> None:
    asked: list[dict[str, Any]] = []

    class Client:
        meta = type("meta", (), {"endpoint_url": "https://s3.eu-west-1.amazonaws.com", "region_name": "eu-west-1"})

        def create_bucket(self, **arguments: Any) -> None:
            asked.append(arguments)

    made = opened("a", Client())
    s3_settings.create(made, lock=True)
    Client.meta.region_name = "us-east-1"
    s3_settings.create(made)
    Client.meta.endpoint_url, Client.meta.region_name = "http://minio:9000", "eu-west-1"
    s3_settings.create(made)
    assert asked == [
        {"Bucket": "a", "ObjectLockEnabledForBucket": True,
         "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}},
        {"Bucket": "a"}, {"Bucket": "a"},
    ]  # fmt: skip


# --- what is remembered, and what status says of it ---


def report(skew: float | None = 0.0, **changed: str) -> Report:
    states = {**dict.fromkeys(probe.COSTS, SUPPORTED), **changed}
    found = {
        name: Feature(state, "seen", probe.COSTS[name] if state == MISSING else "") for name, state in states.items()
    }
    return Report("http://vault1:9000", "MinIO", NOW, skew, found)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes that were tried; `probe` itself is replaced."""
    modes: list[str] = []

    def fake(bucket: Bucket, *, mode: str, now: datetime, rights: bool) -> Report:
        assert bucket.secret_key == SECRET
        modes.append(mode)
        return dataclasses.replace(report(), probed_at=now)

    monkeypatch.setattr(probe, "probe", fake)
    return modes


def stack(root: Path, key: str = KEY, vault: str = "http://192.0.2.9:9000", **more: Any) -> config.Config:
    said = settings(
        root,
        objects={"bucket": "uploads", "endpoint_url": "http://192.0.2.1:9000"},
        vault={"endpoint_url": vault, "objects_bucket": "mirror", **more},
    )
    keys = {"objects_access_key": key, "vault_access_key": key}
    return config.from_mapping(said, {**keys, "objects_secret_key": SECRET, "vault_secret_key": SECRET})


def test_tried_once_a_day_for_each_endpoint_and_key(tmp_path: Path, tried: list[str]) -> None:
    one = stack(tmp_path)
    first = endpoints.report(Opened(one), "vault", now=NOW)
    assert endpoints.report(Opened(one), "vault", now=NOW + timedelta(hours=23)) == first
    assert endpoints.remembered(one, "source", now=NOW) is None
    assert len(tried) == 1
    again: list[tuple[config.Config, datetime, bool]] = [
        (one, NOW + timedelta(hours=24), False),
        (one, NOW + timedelta(hours=25), True),
        (one, NOW - timedelta(hours=1), False),  # a clock that went back
        (stack(tmp_path, key="another"), NOW, False),
        (stack(tmp_path, vault="http://192.0.2.9:9001"), NOW, False),
        (stack(tmp_path, object_lock="COMPLIANCE", lock_days=3), NOW, False),
    ]
    for number, (changed, now, fresh) in enumerate(again, 2):
        endpoints.report(Opened(changed), "vault", now=now, fresh=fresh)
        assert len(tried) == number
    assert tried[-1] == "COMPLIANCE"
    path = one.state / "endpoint-vault.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert KEY not in path.read_text()


@pytest.mark.parametrize("content", ["", "[]", "null", '{"of": 1}', '{"of": "x", "report": {}}'])
def test_what_cannot_be_read_is_forgotten(tmp_path: Path, tried: list[str], content: str) -> None:
    one = stack(tmp_path)
    endpoints.report(Opened(one), "vault", now=NOW)
    (one.state / "endpoint-vault.json").write_text(content)
    assert endpoints.remembered(one, "vault", now=NOW) is None
    endpoints.report(Opened(one), "vault", now=NOW)
    assert len(tried) == 2


def test_features_of_another_release_are_forgotten(tmp_path: Path, tried: list[str]) -> None:
    one = stack(tmp_path)
    endpoints.report(Opened(one), "vault", now=NOW)
    path = one.state / "endpoint-vault.json"
    said = json.loads(path.read_text())
    del said["report"]["features"]["tagging"]
    path.write_text(json.dumps(said))
    assert endpoints.remembered(one, "vault", now=NOW) is None


STATUS: list[tuple[str, Report, dict[str, Any], str, str]] = [
    ("vault", report(), {}, PASS, "MinIO"),
    ("vault", report(versioning=MISSING), {}, FAIL, "no versioning"),
    ("vault", report(versioning=UNKNOWN), {}, COULD_NOT_VERIFY, "versioning seen"),
    ("vault", report(lifecycle=MISSING), {}, PASS, "the vault grows"),
    ("vault", report(object_lock=MISSING), {}, PASS, "MinIO"),
    ("vault", report(object_lock=MISSING), {"object_lock": "GOVERNANCE", "lock_days": 1}, FAIL, "no object_lock"),
    ("vault", report(tagging=UNKNOWN), {}, COULD_NOT_VERIFY, "tagging seen"),
    ("vault", report(skew=-90.0), {}, FAIL, "-90 s"),
    ("vault", report(skew=None), {}, PASS, "MinIO"),
    ("source", report(versioning=MISSING), {}, PASS, "consistency: eventual"),
    ("source", report(skew=45.0), {}, FAIL, "+45 s"),
    ("source", report(dates=MISSING), {}, PASS, "no dates: a write can choose the time that it is listed with"),
    ("vault", report(dates=MISSING), {}, PASS, "a lifecycle rule may remove what was replaced before its time"),
]


def test_a_right_that_only_a_recovery_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose volume was emptied, and a key that may not make buckets: nothing had said so before."""
    run = Opened(stack(tmp_path))

    def checked(found: Report) -> dict[str, tuple[str, str]]:
        monkeypatch.setattr(endpoints, "report", lambda config, which, **_: found)
        monkeypatch.setattr(endpoints, "rights", lambda run: [])
        return {check.name: (check.result, check.detail) for check in endpoints.checks(run, now=NOW)}

    name = "source recovery rights"
    assert name not in checked(report()), "it was tried before there was such a try"
    assert name not in checked(dataclasses.replace(report(), denied={})), "it has them all"
    denied = {"s3:CreateBucket": "AccessDenied", "s3:PutBucketPolicy": "AccessDenied: no"}
    result, words = checked(dataclasses.replace(report(), denied=denied))[name]
    assert result == COULD_NOT_VERIFY, "a policy of the stack's bucket alone says nothing of the probe's"
    assert (
        "the key has no s3:CreateBucket (AccessDenied), s3:PutBucketPolicy (AccessDenied: no) in a bucket of" in words
    )


@pytest.mark.parametrize(
    ("lies", "denied"),
    [
        ({}, []),
        ({"create_bucket": "AccessDenied"}, ["s3:CreateBucket"]),
        (
            {"policy": "AccessDenied", "object-lock": "AllAccessDisabled"},
            ["s3:PutBucketObjectLockConfiguration", "s3:PutBucketPolicy"],
        ),
        ({"policy": "MalformedPolicy", "versioning": "NotImplemented", "cors": "InternalError"}, []),
    ],
)  # fmt: skip
def test_what_a_key_may_not_set_is_found_in_the_probes_own_bucket(
    monkeypatch: pytest.MonkeyPatch, lies: dict[str, str], denied: list[str]
) -> None:
    asked: list[tuple[str, bytes]] = []

    def put(bucket: Bucket, what: str, document: bytes, attempted: str) -> None:
        if what != "lifecycle":  # which is really set
            asked.append((bucket.name, document))
        if what in lies:
            with client.translated_errors(attempted, bucket.url):
                raise refusal(lies[what], 403)

    monkeypatch.setattr(Bucket, "set", put)
    refused = {"create_bucket": refuse(lies["create_bucket"], 403)} if "create_bucket" in lies else {}
    monkeypatch.setattr(probe, "sweep", lambda *_: [])
    monkeypatch.setattr(probe, "discard", lambda *_: True)
    monkeypatch.setattr(probe, "replace", lambda one, name, **_: opened(name, one.client))
    found = probe.probe(opened("uploads", Store(refused)), rights=True, now=NOW)
    assert found.denied is not None and sorted(found.denied) == denied
    assert {name.startswith(probe.PREFIX) for name, _document in asked} <= {True}, "no bucket of the stack's is touched"
    assert {document for _name, document in asked} <= {b"<"}, "what is sent sets nothing"
    assert probe.probe(opened("uploads", Store(refused)), now=NOW).denied is None


@pytest.mark.parametrize(("place", "found", "vault", "result", "words"), STATUS)
def test_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, found: Report, vault: dict[str, Any], result: str,
    words: str,
) -> None:  # fmt: skip
    other = report()
    monkeypatch.setattr(endpoints, "report", lambda config, which, **_: found if which == place else other)
    monkeypatch.setattr(endpoints, "rights", lambda run: [Check("source permissions", PASS, "")])
    said = {check.name: check for check in endpoints.checks(Opened(stack(tmp_path, **vault)), now=NOW)}
    assert sorted(said) == ["source endpoint", "source permissions", "vault apart", "vault endpoint"]
    assert (said[f"{place} endpoint"].result, words in said[f"{place} endpoint"].detail) == (result, True), said
    assert said["vault apart"].result == PASS


def test_status_says_what_does_not_answer_and_is_not_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **more: Any) -> Report:
        raise LifeboatError("try the endpoint", "vault1", "no answer", "Start it.")

    monkeypatch.setattr(endpoints, "report", gone)
    said = endpoints.checks(Opened(stack(tmp_path, vault="http://192.0.2.1:9000")), now=NOW)
    assert [check.result for check in said] == [FAIL, FAIL, FAIL]
    assert "no answer" in said[0].detail
    assert "THE SAME ENDPOINT" in said[2].detail
    assert endpoints.checks(Opened(config.from_mapping(settings(tmp_path))), now=NOW) == []


def test_a_store_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question may wait for a minute, and there is one for each right."""
    asked = []

    def silent(_bucket: Bucket, method: str, key: Any, *_: Any, **__: Any) -> Any:
        asked.append((method, key))
        raise LifeboatError("try s3:ListBucket", "s3://uploads", "no answer")

    monkeypatch.setattr(Bucket, "ask", silent)
    run = Opened(stack(tmp_path))
    (told,) = endpoints.rights(run)
    assert (told.result, asked) == (COULD_NOT_VERIFY, [("GET", None)])
    assert "not tried: s3:ListBucket (no answer)" in told.detail
    assert endpoints.denied(run) == []


# --- what a mirror makes of it ---

DATES = "the source's server lets a write choose the time that it is listed with"
DOUBTS: list[tuple[Report | Exception, Doubts, str]] = [
    (report(), Doubts(), ""),
    (report(times=MISSING), Doubts(times="the source's server does not tell when a version was written: seen"), ""),
    (report(times=UNKNOWN), Doubts(), "with the times of their writes is not known: seen"),
    (report(etags=MISSING), Doubts(etags="the source's server lets a write choose its ETag"), ""),
    (report(etags=UNKNOWN), Doubts(), ""),
    (LifeboatError("try the endpoint", "shop1", "no answer", "Start it."), Doubts(), "could not be tried: no answer"),
    (
        report(dates=MISSING),
        Doubts(dates=DATES),
        "",
    ),
    (report(dates=UNKNOWN), Doubts(), ""),
]


@pytest.mark.parametrize(("found", "doubts", "logged"), DOUBTS)
def test_what_is_found_out_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Report | Exception, doubts: Doubts, logged: str
) -> None:
    def tell(run: Opened, place: str, **_: Any) -> Report:
        told = found if place == "source" else report(times=MISSING, dates=MISSING)
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(endpoints, "report", tell)
    lines: list[str] = []
    run = Opened(stack(tmp_path))
    assert endpoints.doubts(run, log=lines.append) == doubts, "of a vault the times do not matter"
    assert (logged in "".join(lines), bool(lines)) == (True, bool(logged))
    assert endpoints.doubts(run, log=lines.append, probing=False) == Doubts(), "nothing is remembered"


def test_a_source_whose_key_may_make_no_bucket_is_tried_with_the_admin_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []

    def fake(bucket: Bucket, *, mode: str, now: datetime, rights: bool) -> Report:
        keys.append(bucket.access_key)
        return report() if bucket.access_key == "admin" else report(**dict.fromkeys(probe.COSTS, UNKNOWN))

    monkeypatch.setattr(probe, "probe", fake)
    one = stack(tmp_path)
    for place in ("source", "vault"):
        assert endpoints.report(Opened(one), place, now=NOW).those(UNKNOWN)
    admin = {"objects_admin_access_key": "admin", "objects_admin_secret_key": SECRET}
    known = dataclasses.replace(one, secrets={**one.secrets, **admin})
    for place, unknown in (("source", False), ("vault", True)):
        assert bool(endpoints.report(Opened(known), place, now=NOW, fresh=True).those(UNKNOWN)) is unknown
    assert keys == [KEY, KEY, KEY, "admin", KEY]


def test_status_says_what_the_writers_key_can_still_do(tmp_path: Path) -> None:
    one = stack(tmp_path)
    assert "what the writer's key can destroy there was not tried" in endpoints.check(one, "vault", report()).detail
    acts = {"delete versions": writer.Act(writer.CAN, "seen"), "choose ETags": writer.Act(writer.HELD, "refused")}
    writer.remember(one, writer.Rights(writer._key_digest(one), "MinIO", NOW, acts))
    words = "the writer's key can destroy what the vault holds: delete versions"
    assert words in endpoints.check(one, "vault", report()).detail
    assert words not in endpoints.check(one, "source", report()).detail
    assert words not in endpoints.check(stack(tmp_path, key="another"), "vault", report()).detail
    assert KEY not in (one.state / "vault-writer.json").read_text()


def test_status_names_the_service_accounts_of_the_writers_key(tmp_path: Path) -> None:
    """Of MinIO: they are keys of their own, and a key that is revoked may leave them."""
    one = stack(tmp_path)
    found = writer.Rights(
        writer._key_digest(one), "MinIO", NOW, {"delete versions": writer.Act(writer.HELD, "refused")}
    )
    writer.remember(one, dataclasses.replace(found, accounts=("BACKDOOR1", "it's\x1b[2J")))
    detail = endpoints.check(one, "vault", report()).detail
    assert "mc admin accesskey rm vault BACKDOOR1; mc admin accesskey rm vault 'it'" in detail
    assert "\x1b" not in detail
    assert "can destroy nothing" not in detail
    for none in ((), None):
        writer.remember(one, dataclasses.replace(found, accounts=none))
        assert "the writer's key can destroy nothing there" in endpoints.check(one, "vault", report()).detail


def test_where_nothing_was_tried_nothing_is_claimed() -> None:
    assert writer.Rights("x", "MinIO", NOW, {}).summary == "nothing was tried with the writer's key"
