# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets: where they are, and what servers answer to a listing, by tables of pages."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, listing_parser, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import Runner, make_config

OBJECTS = {"service": "store", "bucket": "uploads"}
VAULT = {"endpoint_url": "http://vault:9000", "objects_bucket": "uploads-mirror"}
KEYS = {
    "objects_access_key": "ours",
    "objects_secret_key": "s1",
    "vault_access_key": "theirs",
    "vault_secret_key": "s2",
}
HEAD = '<?xml version="1.0"?><{0} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
Answer = tuple[int, str]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A server that gives the answers of `said["answers"]`, the last one repeatedly, and keeps the requests."""
    said: dict[str, Any] = {"answers": [], "asked": [], "date": 0.0, "head": 403, "headers": {}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said["asked"].append(parse_qs(urlsplit(self.path).query, keep_blank_values=True))
            answers = said["answers"]
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self._answer(status, body.encode())

        do_PUT = do_GET

        def do_HEAD(self) -> None:
            self._answer(said["head"], b"", said["headers"])

        def _answer(self, status: int, body: bytes, more: Mapping[str, str] = MappingProxyType({})) -> None:
            self.send_response_only(status)
            headers = {"Content-Length": str(len(body)), **more}
            if said["date"] is not None:
                headers.setdefault("Date", formatdate(self._now(), usegmt=True))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _now(self) -> float:
            import time

            return time.time() + float(said["date"])

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setattr(signed, "_PAUSE", 0.001)
    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    said["bucket"] = Bucket("uploads", f"http://127.0.0.1:{one.server_port}", access_key="k", secret_key="hush")
    yield said
    one.shutdown()
    one.server_close()
    thread.join()


def skew(one: Bucket) -> float | None:
    return one.requests.skew(one.name, one.url)


def page(*items: str, kind: str = "ListVersionsResult", more: str = "") -> Answer:
    truncated = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    body = "<EncodingType>url</EncodingType>" + truncated + more + "".join(items)
    return 200, HEAD.format(kind) + body + f"</{kind}>"


def item(key: str, kind: str = "Version", **more: str) -> str:
    said = {"Key": key, "LastModified": "2026-11-24T02:00:00Z", "ETag": "&#34;abc&#34;", "Size": "3", **more}
    return f"<{kind}>" + "".join(f"<{name}>{value}</{name}>" for name, value in said.items()) + f"</{kind}>"


def error(code: str) -> str:
    return HEAD.format("Error").replace(' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', "") + (
        f"<Code>{code}</Code><Message>because</Message></Error>"
    )


def test_versions_of_all_pages_with_their_names_decoded(server: dict[str, Any]) -> None:
    server["answers"] = [
        page(
            item("a%2Fb+c%2B", VersionId="v1", IsLatest="false"),
            item("gone", "DeleteMarker", VersionId="v2"),
            more="<NextKeyMarker>a%2Fb+c%2B</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>",
        ),
        page(item("%F0%9F%98%80%01"), "<CommonPrefixes><Prefix>x</Prefix></CommonPrefixes>"),
    ]
    found = list(bucket.versions(server["bucket"], "a"))
    assert [(version.key, version.version, version.latest, version.deleted) for version in found] == [
        ("a/b c+", "v1", False, False),
        ("gone", "v2", True, True),
        ("😀\x01", "null", True, False),
    ]
    assert found[0].etag == "abc"
    assert found[0].size == 3
    assert found[0].modified.isoformat() == "2026-11-24T02:00:00+00:00"
    assert server["asked"][0]["prefix"] == ["a"]
    assert server["asked"][1]["key-marker"] == ["a/b c+"]
    assert server["asked"][1]["version-id-marker"] == ["v1"]


def test_a_server_without_versions_tells_its_objects(server: dict[str, Any]) -> None:
    server["answers"] = [
        (501, error("NotImplemented")),
        page(item("a", "Contents"), kind="ListBucketResult", more="<NextContinuationToken>t+1</NextContinuationToken>"),
        page(item("b", "Contents"), kind="ListBucketResult"),
    ]
    assert [(version.key, version.version, version.latest) for version in bucket.versions(server["bucket"])] == [
        ("a", "null", True),
        ("b", "null", True),
    ]
    assert server["asked"][2]["continuation-token"] == ["t+1"]


class Pages:
    """A server whose answers follow the token: `b` after the first one, `c` after that. It keeps the tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: str = "") -> None:
        self.asked: list[str] = []
        self.before = before  # what the first page has before its token
        monkeypatch.setattr(Bucket, "ask", self.ask)
        monkeypatch.setattr(bucket, "server", lambda _bucket: "a server")

    def ask(self, _method: str, *, query: Mapping[str, str], attempted: str) -> signed.Answer:
        token = query.get("continuation-token", "a")
        self.asked.append(token)
        following = {"a": "b", "b": "c", "c": "d", "d": "e"}.get(token, "")
        more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
        more = (self.before if token == "a" else "") + more
        status, body = page(item(f"of {token}", "Contents"), kind="ListBucketResult", more=more)
        return signed.Answer(status, {}, body.encode())

    @staticmethod
    def keys() -> list[str]:
        return [version.key for version in bucket.objects(Bucket("uploads", "http://127.0.0.1:1"))]


def test_the_next_page_is_asked_for_before_this_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, read, late = Pages(monkeypatch), listing_parser.read, list[int]()

    def slow(*of: Any) -> listing_parser.Page:
        """The parser of a page, which waits until the request for the next one is under way."""
        number = len(late) + 1
        deadline = time.monotonic() + 5
        while len(pages.asked) <= number and time.monotonic() < deadline:
            time.sleep(0.001)
        late.append(len(pages.asked) - number)
        return read(*of)

    monkeypatch.setattr(listing_parser, "read", slow)
    found = [next(bucket.objects(Bucket("uploads", "http://127.0.0.1:1"))).key]
    assert (found, late[0] > 0) == (["of a"], True), "the request for the second page waited for the first"
    monkeypatch.setattr(listing_parser, "read", read)
    pages.asked.clear()
    assert pages.keys() == ["of a", "of b", "of c", "of d", "of e"]
    assert pages.asked == ["a", "b", "c", "d", "e"], "and each page is asked for once, in its order"


@pytest.mark.parametrize(
    "before",
    [
        "<!-- <NextContinuationToken>x</NextContinuationToken> -->",
        "<Name><NextContinuationToken>x</NextContinuationToken></Name>",
        "<![CDATA[<NextContinuationToken>]]>",
        "<NextContinuationToken>&#98;</NextContinuationToken>",
    ],
)
def test_only_the_document_says_which_page_follows(monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    pages = Pages(monkeypatch, before)
    assert pages.keys() == ["of a", "of b", "of c", "of d", "of e"]
    assert [token for token in pages.asked if token in "abcde"] == ["a", "b", "c", "d", "e"]


def test_a_page_that_nobody_takes_is_followed_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(monkeypatch)
    several = bucket.objects(Bucket("uploads", "http://127.0.0.1:1"))
    assert next(several).key == "of a"
    time.sleep(0.2)
    assert pages.asked in (["a", "b"], ["a", "b", "c"])
    several.close()  # type: ignore[attr-defined]


def test_a_page_that_cannot_be_had_is_an_error_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, answered = Pages(monkeypatch), Pages.ask

    def ask(_bucket: Bucket, *of: Any, **named: Any) -> signed.Answer:
        if named["query"].get("continuation-token") == "b":
            raise IntegrityError("list the bucket", "it", "no more", "")
        return answered(pages, *of, **named)

    monkeypatch.setattr(Bucket, "ask", ask)
    several = bucket.objects(Bucket("uploads", "http://127.0.0.1:1"))
    assert next(several).key == "of a"
    with pytest.raises(IntegrityError, match="no more"):
        next(several)


def test_a_page_that_is_followed_by_itself_is_asked_for_twice(server: dict[str, Any]) -> None:
    """Once because it says so, and once more that it is known."""
    token = "<NextContinuationToken>t</NextContinuationToken>"
    server["answers"] = [page(item("a", "Contents"), kind="ListBucketResult", more=token)]
    with pytest.raises(LifeboatError, match="followed by itself"):
        list(bucket.objects(server["bucket"]))
    assert len(server["asked"]) == 2


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([(503, error("SlowDown")), page(item("a"))], id="busy"),
        pytest.param([(500, "<html>"), (502, ""), page(item("a"))], id="failing twice"),
        pytest.param([(200, error("InternalError")), page(item("a"))], id="an error that says 200"),
    ],
)
def test_a_busy_server_is_asked_again(server: dict[str, Any], answers: list[Answer]) -> None:
    server["answers"] = answers
    assert [version.key for version in bucket.versions(server["bucket"])] == ["a"]


@pytest.mark.parametrize(("within", "asked", "said"), [(60.0, 3, ""), (0.0, 1, "no such bucket")])
def test_a_new_bucket_is_waited_for(
    server: dict[str, Any], monkeypatch: pytest.MonkeyPatch, within: float, asked: int, said: str
) -> None:
    """SeaweedFS read the settings of a bucket that had just been made, and refused to set one."""
    monkeypatch.setattr(bucket, "KNOWN_WITHIN", within)
    server["answers"] = [(404, error("NoSuchBucket")), (404, error("NoSuchBucket")), (200, "")]
    with pytest.raises(LifeboatError, match=said) if said else contextlib.nullcontext():
        server["bucket"].set("versioning", b"<VersioningConfiguration/>", "set the bucket's versioning")
    assert len(server["asked"]) == asked


LOOP = "<NextKeyMarker>a</NextKeyMarker>"


@pytest.mark.parametrize(
    ("answers", "asked", "said"),
    [
        pytest.param([(503, error("SlowDown"))], 4, "SlowDown: because", id="busy for ever"),
        pytest.param([(200, error("InternalError"))], 4, "InternalError", id="200 and an error for ever"),
        pytest.param([(403, error("InvalidAccessKeyId"))], 1, "refuses the key", id="wrong key"),
        pytest.param([(403, "")], 1, "access denied", id="no words"),
        pytest.param([(404, error("NoSuchBucket"))], 1, "no such bucket", id="no bucket"),
        pytest.param([(200, "<html>hello</html>")], 1, "is not a bucket listing: <html>", id="another site"),
        pytest.param([(200, "hello")], 1, "is not S3's: it is not XML", id="not even XML"),
        pytest.param([page(item("a"), more=LOOP)], 2, "followed by itself", id="endless"),
        pytest.param([page(item("a"), more="<x/>")], 1, "followed by itself", id="more without a mark"),
        pytest.param([page(item("a", Size="many"))], 1, "is not a bucket listing", id="a size that is none"),
        pytest.param(
            [page(item("a", LastModified="yesterday"))], 1, "is not a bucket listing", id="a time that is none"
        ),
        pytest.param([page(item("a", Size="-5"))], 1, "is not a bucket listing", id="less than nothing"),
        pytest.param([page(item("a", Size="9" * 20))], 1, "is not a bucket listing", id="more than there can be"),
        pytest.param(
            [page(item("a", LastModified="9999-12-31T23:59:59Z"))],
            1,
            "is not a bucket listing",
            id="the end of all times",
        ),
    ],
)
def test_what_is_no_listing_says_so(server: dict[str, Any], answers: list[Answer], asked: int, said: str) -> None:
    server["answers"] = answers
    with pytest.raises(LifeboatError) as caught:
        list(bucket.versions(server["bucket"]))
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
    assert len(server["asked"]) == asked


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, "_PAUSE", 0.001)
    with pytest.raises(LifeboatError, match=r"Could not connect to the endpoint URL.*Check endpoint_url"):
        list(bucket.versions(Bucket("uploads", "http://127.0.0.1:9", access_key="k", secret_key="s")))


@pytest.mark.parametrize("url", ["store:9000", "ftp://store", "http://", "/srv"])
def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(signed, "_PAUSE", 0.001)
    with pytest.raises(UsageError, match="it is not like http://host:9000"):
        list(bucket.versions(Bucket("uploads", url, access_key="k", secret_key="s")))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (page(kind="VersioningConfiguration"), ""),
        (
            (200, HEAD.format("VersioningConfiguration") + "<Status>Enabled</Status></VersioningConfiguration>"),
            "Enabled",
        ),
        ((501, error("NotImplemented")), ""),
    ],
)
def test_versioning(server: dict[str, Any], answer: Answer, state: str) -> None:
    server["answers"] = [answer]
    assert bucket.versioning(server["bucket"]) == state


@pytest.mark.parametrize(("ahead", "low", "high"), [(0, 0, 0), (120, 117, 121), (-3600, -3602, -3597)])
def test_skew(server: dict[str, Any], ahead: float, low: float, high: float) -> None:
    server["date"] = ahead
    assert low <= (skew(server["bucket"]) or 0.0) <= high


@pytest.mark.parametrize("ahead", [3, -3, 120])
def test_the_lead_of_a_clock_is_an_interval_that_holds_the_true_one(server: dict[str, Any], ahead: float) -> None:
    server["date"] = ahead
    low, high = bucket.lead(server["bucket"]) or (0.0, 0.0)
    assert low <= ahead <= high <= low + 2


def test_the_lead_of_a_clock_that_may_be_right_is_none(server: dict[str, Any]) -> None:
    assert bucket.lead(server["bucket"]) == (0.0, 0.0)


def test_skew_of_a_server_without_a_clock(server: dict[str, Any]) -> None:
    server["date"] = None
    assert skew(server["bucket"]) is None


def stack(tmp_path: Path, **objects: Any) -> Any:
    made = make_config(tmp_path, objects={**OBJECTS, **objects}, vault=VAULT)
    return dataclasses.replace(made, secrets=KEYS)


def test_the_two_buckets_and_their_keys(tmp_path: Path) -> None:
    made = stack(tmp_path, endpoint_url="http://store:9000")
    ours, theirs = buckets.source(Opened(made)), buckets.vault(Opened(made))
    assert (ours.name, ours.endpoint_url, ours.access_key, ours.secret_key) == (
        "uploads",
        "http://store:9000",
        "ours",
        "s1",
    )
    assert (theirs.name, theirs.access_key) == ("uploads-mirror", "theirs")
    assert ours.url == "s3://uploads at http://store:9000"
    assert "s1" not in repr(ours)
    assert "ours" not in repr(ours)


RUNNING = '[{"HostConfig": {}, "NetworkSettings": {"Networks": {"shop": {"IPAddress": "172.20.0.3"}}}}]'


@pytest.mark.parametrize(
    ("inspected", "address"),
    [
        (RUNNING, "172.20.0.3"),
        ('[{"HostConfig": {"NetworkMode": "host"}, "NetworkSettings": {"Networks": {"host": {}}}}]', "127.0.0.1"),
    ],
)
def test_the_services_own_address(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch, inspected: str, address: str
) -> None:
    found = runtime.ServiceState(exists=True, running=True, status="running", id="abc")
    monkeypatch.setattr(runtime.ComposeRuntime, "state", lambda *_: found)
    runner.expect("^docker inspect abc$", inspected)
    assert buckets.source(Opened(stack(tmp_path))).endpoint_url == f"http://{address}:9000"


def test_a_service_that_does_not_run_has_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = runtime.ServiceState(exists=True, status="exited", exit_code=1)
    monkeypatch.setattr(runtime.ComposeRuntime, "state", lambda *_: found)
    with pytest.raises(NotFoundError, match="its container is exited, exit code 1"):
        buckets.source(Opened(stack(tmp_path)))


def test_what_is_not_configured(tmp_path: Path) -> None:
    bare = make_config(tmp_path)
    with pytest.raises(UsageError, match="the stack has none"):
        buckets.source(Opened(bare))
    with pytest.raises(UsageError, match="the stack has none"):
        buckets.vault(Opened(bare))
    made = dataclasses.replace(stack(tmp_path), secrets={"vault_access_key": "x"})
    with pytest.raises(UsageError, match="vault_access_key or vault_secret_key is not set"):
        buckets.vault(Opened(made))


def every(*names: str, more: str = "") -> Answer:
    """A page of a list of buckets."""
    kind = "ListAllMyBucketsResult"
    listed = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in names)
    token = f"<ContinuationToken>{more}</ContinuationToken>" if more else ""
    return 200, f"{HEAD.format(kind)}<Owner><ID>o</ID></Owner><Buckets>{listed}</Buckets>{token}</{kind}>"


def test_every_bucket_that_the_key_sees(server: dict[str, Any]) -> None:
    server["answers"] = [every("uploads", "docs", more="t&amp;1"), every("avatars", "docs")]
    assert bucket.names(server["bucket"]) == ["avatars", "docs", "uploads"]
    assert server["asked"] == [{}, {"continuation-token": ["t&1"]}]
    server["answers"] = [every("a", more="t")]
    assert bucket.names(server["bucket"]) == ["a"], "a page that is followed by itself is the last"
    server["answers"] = [every()]
    assert bucket.names(server["bucket"]) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, error("AccessDenied")), "access denied"),
        (page(item("a")), "is not a bucket listing"),
        ((200, "<p>"), "no XML"),
    ],
)
def test_a_server_that_does_not_tell_its_buckets(server: dict[str, Any], answer: Answer, words: str) -> None:
    server["answers"] = [answer]
    with pytest.raises(LifeboatError, match="list the buckets") as caught:
        bucket.names(server["bucket"])
    assert words in caught.value.cause


def upload(key: str) -> str:
    said = {"Key": key, "UploadId": f"u{key}", "Initiated": "2026-11-24T02:00:00Z"}
    return "<Upload>" + "".join(f"<{name}>{value}</{name}>" for name, value in said.items()) + "</Upload>"


def test_unfinished_uploads_of_all_pages(server: dict[str, Any]) -> None:
    kind = "ListMultipartUploadsResult"
    marks = "<NextKeyMarker>a+b</NextKeyMarker><NextUploadIdMarker>u1</NextUploadIdMarker>"
    server["answers"] = [page(upload("a+b"), kind=kind, more=marks), page(upload("c%2Bd"), kind=kind)]
    assert [(key, upload) for key, upload, _ in bucket.uploads(server["bucket"])] == [
        ("a b", "ua+b"),
        ("c+d", "uc%2Bd"),
    ]
    assert (server["asked"][1]["key-marker"], server["asked"][1]["upload-id-marker"]) == (["a b"], ["u1"])
    server["answers"] = [page(kind=kind, more=marks)]  # always the same: two pages and no more
    server["asked"].clear()
    assert list(bucket.uploads(server["bucket"])) == []
    assert len(server["asked"]) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("query", [{}, {"uploads": ""}, {"versionId": "v"}, {"tagging": ""}])
def test_a_request_about_an_object_without_a_name_is_never_sent(
    server: dict[str, Any], method: str, query: dict[str, str]
) -> None:
    server["answers"] = [page()]
    with pytest.raises(signed.NamelessError, match=r"copy .'' in s3://uploads .*an empty name"):
        server["bucket"].ask(method, "", query, attempted="copy")
    assert server["asked"] == []


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("DELETE", {}), ("PUT", {}), ("PUT", {"acl": ""}), ("POST", {}), ("DELETE", {"policy": ""}),
        ("PUT", {"lifecycle": "", "acl": ""}), ("DELETE", {"encryption": "", "versionId": "v"}),
    ],
)  # fmt: skip
def test_nothing_is_made_of_a_bucket_as_a_whole(server: dict[str, Any], method: str, query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="of a whole bucket"):
        server["bucket"].ask(method, None, query, attempted="destroy")
    assert server["asked"] == []


@pytest.mark.parametrize(
    ("key", "marker", "asked"),
    [
        pytest.param("a%2520b", "a%20b", "a%20b", id="Ceph RGW: not encoded"),
        pytest.param("a%2Bb", "a+b", "a+b", id="Ceph RGW: a plus"),
        pytest.param("a%2520b", "a%2520b", "a%20b", id="encoded"),
        pytest.param("a+b", "a+b", "a b", id="encoded with a plus"),
        pytest.param("a%2520b", "a%2520b[minio_cache:v2]", "a%20b[minio_cache:v2]", id="MinIO: with its own addition"),
        pytest.param("a", "b%20c", "b c", id="of a key that is not in the page"),
    ],
)
@pytest.mark.parametrize("what", ["versions", "uploads"])
def test_the_marker_of_the_next_page(server: dict[str, Any], what: str, key: str, marker: str, asked: str) -> None:
    more = f"<NextKeyMarker>{marker}</NextKeyMarker>"
    if what == "versions":
        server["answers"] = [page(item("0"), item(key), more=more), page(item("z"))]
        assert len(list(bucket.versions(server["bucket"]))) == 3
    else:
        upload = f"<Upload><Key>{key}</Key><UploadId>u</UploadId><Initiated>2026-11-24T02:00:00Z</Initiated></Upload>"
        kind = "ListMultipartUploadsResult"
        server["answers"] = [page(upload, kind=kind, more=more), page(kind=kind)]
        assert len(list(bucket.uploads(server["bucket"]))) == 1
    assert server["asked"][1]["key-marker"] == [asked]


def test_the_next_page_is_asked_for_while_this_one_is_worked_on(server: dict[str, Any]) -> None:
    more = "<NextKeyMarker>a</NextKeyMarker>"
    server["answers"] = [page(item("a"), more=more), page(item("b"))]
    listed = bucket.versions(server["bucket"])
    assert next(listed).key == "a"
    deadline = time.monotonic() + 30
    while len(server["asked"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(server["asked"]) == 2, "nobody has taken the first page's end yet"
    assert [version.key for version in listed] == ["b"]


def test_why_the_next_page_did_not_come_is_said_after_this_one(server: dict[str, Any]) -> None:
    server["answers"] = [page(item("a"), more="<NextKeyMarker>a</NextKeyMarker>"), (403, error("AccessDenied"))]
    listed = bucket.versions(server["bucket"])
    assert next(listed).key == "a"
    with pytest.raises(LifeboatError, match="AccessDenied"):
        next(listed)


WRITTEN = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)


def seen(key: str, second: int, latest: bool = True, deleted: bool = False) -> bucket.Version:
    return bucket.Version(key, 1, "e", WRITTEN + timedelta(seconds=second), f"v{second}", latest, deleted)


@pytest.mark.parametrize(
    ("pages", "order", "times"),
    [
        pytest.param([["a", "a-b", "a/b", "b"]], "", "", id="by bytes"),
        pytest.param([["a", "a/b", "a-b", "b"]], "", "", id="directory by directory"),
        pytest.param([["a", "a/b", "a-b", "a.c", "a/c"]], "'a/c' is listed after 'a.c'", "", id="neither"),
        pytest.param([["a", "c"], ["b"]], "'b' is listed after 'c'", "", id="across pages"),
        pytest.param([["a", "b"], ["b", "c"]], "", "", id="a key goes on in the next page"),
        pytest.param([["a", "c\ufffd", "b"]], "", "", id="one that cannot be read says nothing"),
        pytest.param([[seen("a", 5), seen("a", 3, False)]], "", "", id="the newest first"),
        pytest.param([[seen("a", 3), seen("a", 3, False)]], "", "", id="both in one second"),
        pytest.param(
            [[seen("a", 3, deleted=True), seen("a", 5, False)]], "", "the latest version of 'a' is listed as older",
            id="VersityGW: a marker that is older than what it hides",
        ),
        pytest.param([[seen("a", 3), seen("a", 61, False)]], "", "", id="not settled yet"),
        pytest.param(
            [["a"], [seen("b", 3, False), "c"]], "no version of 'b' is listed as its latest", "",
            id="the latest is missing",
        ),
        pytest.param(
            [["a", seen("b", 3, False)]], "no version of 'b' is listed as its latest", "", id="and that of the last"
        ),
        pytest.param([["a", seen("b", 61, False)]], "", "", id="it is being written"),
        pytest.param([["a", seen("b", 5)], [seen("b", 3, False)]], "", "", id="it was in the page before"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_listing(pages: list[list[Any]], order: str, times: str) -> None:
    watch = bucket.Watch(WRITTEN + timedelta(seconds=60))
    for page_of in pages:
        watch.page([seen(item, 0) if isinstance(item, str) else item for item in page_of])
    watch.end()
    assert watch.order == order
    assert watch.times.startswith(times) if times else watch.times == ""


@pytest.mark.parametrize(
    ("pages", "topless"),
    [
        pytest.param([["a"], [seen("b", 61, False), "c"]], {"b"}, id="of a page's first object"),
        pytest.param([["a", seen("b", 61, False)]], {"b"}, id="and of the listing's last"),
        pytest.param([["a", seen("b", 61)], [seen("b", 60, False)]], set(), id="it was in the page before"),
        pytest.param([["a", seen("b", 3, False), "c"]], set(), id="of an old one the listing is not in order"),
    ],
)
def test_what_is_listed_without_its_latest_is_to_be_asked_for(pages: list[list[Any]], topless: set[str]) -> None:
    watch = bucket.Watch(WRITTEN + timedelta(seconds=59))
    for page_of in pages:
        watch.page([seen(item, 0) if isinstance(item, str) else item for item in page_of])
    watch.end()
    assert watch.topless == topless


def test_where_too_many_are_listed_without_their_latest_it_is_not_in_order() -> None:
    watch = bucket.Watch(WRITTEN)
    watch.page([seen(f"{number:04}", 1, False) for number in range(bucket.KEYS + 1)])
    assert (watch.order, len(watch.topless)) == ("", bucket.KEYS)
    watch.end()
    assert watch.order == f"no version of '{bucket.KEYS:04}' is listed as its latest"


def test_the_last_object_of_a_listing_is_looked_at_too(server: dict[str, Any]) -> None:
    server["answers"] = [page(item("a"), item("b", IsLatest="false"))]
    watch = bucket.Watch(datetime(2199, 1, 1, tzinfo=timezone.utc))
    assert [version.latest for version in bucket.versions(server["bucket"], watch=watch)] == [True, False]
    assert watch.order == "no version of 'b' is listed as its latest"


@pytest.mark.parametrize("said", ["c&#x1;d", "c&#1;d", "c\x01d", "c&#xFFFE;d", "c&#xD800;d", "c&#99999999;d"])
def test_a_key_that_no_xml_can_say_costs_only_itself(server: dict[str, Any], said: str) -> None:
    one_page = page(item("a&#x41;"), item(said), item("z&amp;"))
    body = one_page[1].replace("<EncodingType>url</EncodingType>", "")
    server["answers"] = [(200, body), page(kind="ListBucketResult")]
    watch = bucket.Watch(WRITTEN)
    assert [version.key for version in bucket.versions(server["bucket"], watch=watch)] == ["aA", "z&"]
    assert watch.unread == {"c\ufffdd"}


def test_the_buckets_of_a_store_share_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand buckets each would else have a client of its own, which takes longer to make than all it asks."""
    made: list[str] = []
    monkeypatch.setattr(bucket.client, "connect", lambda url, *_, **__: made.append(url) or object())
    first = bucket.Bucket("a", "http://127.0.0.1:9000", access_key="k", secret_key="s")
    others = [first.sibling(name) for name in ("b", "c")]
    assert len({one.client for one in [*others, first, first.sibling("d")]}) == 1 and len(made) == 1
    assert {one.requests for one in others} == {first.requests}
    assert [one.name for one in others] == ["b", "c"]
    other_key = dataclasses.replace(others[0], access_key="other")
    assert other_key.client is not first.client and other_key.requests is not first.requests


@pytest.mark.parametrize(
    ("told", "year"),
    [
        ("Sun, 29 Nov 2026 16:09:14 GMT", 2026), ("Sun, 29 Nov 2026 16:09:14 -0000", 2026),
        ("Sun, 29 Nov 2026 16:09:14", 2026), ("", 1970), ("yesterday", 1970), ("29 Nov", 1970),
        ("Fri, 31 Dec 9999 23:59:59 -1200", 1970), ("Sun, 29 Nov 99999999999 16:09:14 GMT", 1970),
    ],
)  # fmt: skip
def test_when_a_server_says_that_an_object_was_written(told: str, year: int) -> None:
    modified = signed.Answer(200, {"last-modified": told}, b"").modified
    assert (modified.year, modified.utcoffset()) == (year, timedelta())
    assert year == 1970 or modified == datetime(2026, 11, 29, 16, 9, 14, tzinfo=timezone.utc)


@pytest.mark.parametrize("size", ["many", "-1", "5, 5", "9" * 19, "\u00b2"])
def test_a_size_that_is_none_is_of_the_one_object(server: dict[str, Any], size: str) -> None:
    server["head"], server["headers"] = 200, {"Content-Length": size}
    with pytest.raises(IntegrityError, match=r"'a' in s3://uploads.*Content-Length is not a size"):
        server["bucket"].ask("HEAD", "a", attempted="read the object")
    with pytest.raises(IntegrityError, match="Content-Length is not a size"):
        bucket.server(server["bucket"])


def test_a_clock_that_tells_no_time(server: dict[str, Any]) -> None:
    server["headers"] = {"Date": "soon"}
    assert skew(server["bucket"]) is None


@pytest.mark.parametrize(
    "row", ["<UploadId>u</UploadId>", "<Key>a</Key><UploadId>u</UploadId><Initiated>x</Initiated>"]
)
def test_an_upload_that_is_listed_by_half_is_no_listing(server: dict[str, Any], row: str) -> None:
    server["answers"] = [page(f"<Upload>{row}</Upload>", kind="ListMultipartUploadsResult")]
    with pytest.raises(LifeboatError, match="is not a bucket listing"):
        list(bucket.uploads(server["bucket"]))


# SeaweedFS may leave names out that go on after a folder's with a character before `/`. A page ends in `q/1`; what it
# says then of names that begin with `q`, and how many that begin so are asked for: all by 15 characters, or none.
NEXT_TO_Q = {
    "nothing": ("", "", 0),
    "the folder, and what comes after it": ("<CommonPrefixes><Prefix>q/</Prefix></CommonPrefixes>", "", 0),
    "others, and what comes after them": (item("q0"), "more", 0),
    "an object": (item("q-1"), "", 15),
    "a folder": ("<CommonPrefixes><Prefix>q%20r/</Prefix></CommonPrefixes>", "", 15),
    "no more than fits": (item("q"), "more", 15),
    "a name that it does not tell": (item("q&#xFFFD;"), "more", 15),
}


@pytest.mark.parametrize("case", NEXT_TO_Q)
def test_names_next_to_a_folder_are_asked_for_where_there_are_any(server: dict[str, Any], case: str) -> None:
    told, more, asked = NEXT_TO_Q[case]
    marker = "<NextKeyMarker>q/1</NextKeyMarker>"
    server["headers"], server["head"] = {"Server": "SeaweedFS 4"}, 404
    server["answers"] = [page(item("q/1"), more=marker), page(item("z")), page(told, more=more and marker), page()]
    assert [version.key for version in bucket.versions(server["bucket"])] == ["q/1", "z"]
    assert server["asked"][2]["delimiter"] == ["/"]
    assert len(server["asked"]) == 3 + asked
