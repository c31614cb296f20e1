# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 repository against a real server (SeaweedFS, from the virtual environment) on a loopback port."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import io
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import s3 as repository_s3
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client as s3_client
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import S3Settings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from botocore import awsrequest
from builders import make_config, make_manifest
from repository_contract import DAY, FILES, ID, OTHER, Contract, publish

KEYS = {"s3_access_key": "lifeboat", "s3_secret_key": "very-secret"}
pytestmark = pytest.mark.xdist_group("s3")  # one server for all of them


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("weed")
    identity = {
        "identities": [
            {
                "name": "lifeboat",
                "credentials": [{"accessKey": KEYS["s3_access_key"], "secretKey": KEYS["s3_secret_key"]}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {
                "name": "reader",
                "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
                "actions": ["Read", "List"],
            },
        ]
    }
    (directory / "s3.json").write_text(json.dumps(identity))
    ports: list[int] = []
    for _ in range(4):
        ports.append(s3_servers.free_port([*ports, *(port + 10000 for port in ports)], twin=10000))
    master, volume, filer, port = ports
    weed = s3_servers.binary("weed")
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                weed, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=0",
                "-master.volumeSizeLimitMB=128", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-master.port={master}",
                f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}", f"-s3.config={directory}/s3.json",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        client = s3_client.connect(url, "", KEYS["s3_access_key"], KEYS["s3_secret_key"])
        deadline = time.monotonic() + 60
        while True:
            try:
                client.create_bucket(Bucket="vault")
                client.put_object(Bucket="vault", Key="ready", Body=b"x")
                break
            except Exception:
                if time.monotonic() > deadline or server.poll() is not None:
                    pytest.fail((directory / "log").read_text()[-2000:])
                time.sleep(0.3)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # asked politely it takes ten seconds, and its data is thrown away
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def repo(endpoint: str, tmp_path: Path) -> S3Repository:
    """Each test has a prefix of its own."""
    return build(endpoint, tmp_path)


def build(endpoint: str, tmp_path: Path, **more: str) -> S3Repository:
    settings = {
        "bucket": "vault", "prefix": f"test/{uuid.uuid4().hex}", "endpoint_url": endpoint,
        "staging_root": str(tmp_path / "staging"),
    }  # fmt: skip
    secrets = {**KEYS, **{name: more.pop(name) for name in KEYS if name in more}}
    made = repositories.from_settings(S3Settings(**{**settings, **more}), secrets)
    assert isinstance(made, S3Repository)
    return made


def keys(repo: S3Repository) -> list[str]:
    return [found.key[len(repo.prefix) + 1 :] for found in repo._objects(repo.prefix + "/")]


def staged(repo: S3Repository) -> list[Path]:
    return list(repo.staging_root.iterdir()) if repo.staging_root.exists() else []


class TestContract(Contract):
    """In a bucket."""


def test_what_lies_in_the_bucket(repo: S3Repository) -> None:
    publish(repo)
    assert keys(repo) == sorted(f"postgresql/{ID}/{name}" for name in [*FILES, "manifest.json"])
    head = repo.client.head_object(Bucket="vault", Key=f"{repo.prefix}/postgresql/{ID}/globals.sql")
    assert len(head["Metadata"]["sha256"]) == 64
    with repo.materialise("database", ID) as path:
        assert staged(repo) == [path]
    assert staged(repo) == []
    repo.check(writable=True)
    assert not [key for key in keys(repo) if ".check" in key]


@pytest.mark.slow
def test_large_artefacts_go_in_parts(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes around the part size: the ETag worked out from the parts must be the server's, so nothing is read back."""
    part = 5 << 20  # the smallest S3 allows
    monkeypatch.setattr(repository_s3, "_PART", part)
    monkeypatch.setattr(repo, "_read_key", None)
    sizes = {"under": part - 1, "one": part, "over": part + 1, "three": 3 * part}
    data = random.Random(7).randbytes(3 * part)  # noqa: S311
    with repo.stage("database", ID) as staging:
        for name, size in sizes.items():
            (staging.path / name).write_bytes(data[:size])
        staging.publish(b"{}")
    monkeypatch.undo()
    assert repo.files("database", ID) == sizes
    with repo.open("database", ID, "three") as stream:
        assert stream.read() == data
    head = repo.client.head_object(Bucket="vault", Key=f"{repo.prefix}/postgresql/{ID}/three")
    assert head["ETag"].strip('"').endswith("-3")


class Raw(io.BytesIO):
    """The body of an answer, as botocore reads it."""

    def stream(self, *_: object, **more: object) -> Iterator[bytes]:
        yield self.read()


@pytest.mark.parametrize("refused", ["", "AccessDenied 403", "AccessControlListNotSupported 400", "NotImplemented 501"])
@pytest.mark.parametrize("upload", [5, repository_s3._PART + 1], ids=["whole", "in parts"])
def test_what_is_written_is_the_bucket_owners_too(
    repo: S3Repository, tmp_path: Path, refused: str, upload: int
) -> None:
    """On Ceph RGW the bucket's owner cannot read it otherwise. Where the header is refused it is written without."""
    sent: list[tuple[str, str]] = []

    def send(request: Any, **_: object) -> Any:
        said = (request.headers.get("x-amz-acl") or b"").decode()
        if (request.method == "PUT" and "partNumber" not in request.url) or request.url.endswith("?uploads"):
            sent.append((request.url.rpartition("/")[2], said))
        code, _blank, status = refused.partition(" ")
        if said and code:
            body = Raw(f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
            return awsrequest.AWSResponse(request.url, int(status), {}, body)
        return None

    repo.client.meta.events.register("before-send.s3", send)
    path = tmp_path / "large"
    path.write_bytes(b"x" * upload)
    for _ in range(2):
        repo._send(path, repo._key("large"), repo._facts(path))
    repo._put(repo._key("small"), b"x")
    assert repo._put_new(repo._key("new"), b"x")
    said, large = "bucket-owner-full-control", "large" if upload == 5 else "large?uploads"
    if refused:
        assert sent == [(large, said), (large, ""), (large, ""), ("small", ""), ("new", "")]
    else:
        assert sent == [(large, said), (large, said), ("small", said), ("new", said)]


def test_a_refusal_that_is_not_of_the_header_is_the_writes(repo: S3Repository) -> None:
    nowhere = S3Repository("vault", "x", repo._endpoint, "", "lifeboat", "wrong", staging_root=repo.staging_root)
    with pytest.raises(LifeboatError):
        nowhere._put("x/a", b"x")
    assert nowhere._for_owner is None
    repo._put(repo._key("a"), b"x")
    assert repo._for_owner is True


def test_another_kind_of_etag_is_read_back(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    real = repo._head
    monkeypatch.setattr(repo, "_head", lambda key: head._replace(etag="0123") if (head := real(key)) else None)
    publish(repo)
    assert repo.files("database", ID) == FILES


@pytest.mark.parametrize("what", ["size", "bytes"])
def test_an_upload_that_arrived_wrong_is_not_published(
    repo: S3Repository, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    real = repo.client.upload_file
    wrong = b"rolez" if what == "bytes" else b"role"

    def upload(path: str, bucket: str, key: str, **more: Any) -> None:
        if key.endswith("globals.sql"):
            repo.client.put_object(Bucket=bucket, Key=key, Body=wrong)
        else:
            real(path, bucket, key, **more)

    monkeypatch.setattr(repo.client, "upload_file", upload)
    with pytest.raises(IntegrityError, match=f"sent 5 bytes, the server holds {len(wrong)}"):
        publish(repo)
    assert keys(repo) == []
    assert staged(repo) == []


def test_what_is_uploaded_counts_as_sent_and_not_as_moved(repo: S3Repository) -> None:
    before = pipeline.moved()
    publish(repo)
    assert pipeline.moved() == before
    assert repo.sent == sum(repo.files("database", repo.ids("database")[0]).values())


def test_a_failed_publication_leaves_nothing(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**more: Any) -> None:
        raise SpaceError("write", "s3://", "full", "Free space.")

    monkeypatch.setattr(repo.client, "put_object", refuse)  # the manifest; artefacts go by upload_file
    with pytest.raises(SpaceError, match="full"):
        publish(repo)
    monkeypatch.undo()
    assert keys(repo) == []
    assert repo.ids("database") == []
    assert staged(repo) == []
    publish(repo)


class Careless:
    """Before the client of a repository: a server that ignores If-None-Match, as many do."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(self, **more: Any) -> Any:
        kept = {name: value for name, value in more["Metadata"].items() if name != "claim"}
        return self._client.put_object(**{**more, "Metadata": kept})


def claims(repo: S3Repository) -> list[str]:
    return [key for key in keys(repo) if "claim" in key]


@pytest.mark.parametrize("heeded", [True, False], ids=["the condition is heeded", "the condition is ignored"])
def test_who_comes_second_leaves_what_the_first_wrote(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heeded: bool
) -> None:
    """The second one begins when the first has sent an artefact, and had seen nothing there before."""
    first = build(endpoint, tmp_path)
    second = build(endpoint, tmp_path, prefix=first.prefix)
    if not heeded:
        for repo in (first, second):
            monkeypatch.setitem(vars(repo), "client", Careless(repo.client))
    real, refused = first._send, []

    def send(path: Path, key: str, facts: Any) -> None:
        real(path, key, facts)
        if not refused:
            refused.append(key)
            monkeypatch.setattr(second, "_refuse_existing", lambda component, id: None)
            with pytest.raises(UsageError, match="or another run is publishing one"):
                publish(second, manifest=b"[]")

    monkeypatch.setattr(first, "_send", send)
    publish(first)
    assert refused
    assert (first.manifest("database", ID), first.files("database", ID)) == (b"{}", FILES)
    assert claims(first) == []
    assert bool(first.race) is not heeded
    assert heeded or "a race is possible" in first.race


def test_a_claim_that_is_released_while_it_is_compared(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run's is as long as ours, so that its bytes are read; by then that run has ended, with nothing there."""
    claim = f"{repo.prefix}/postgresql/{ID}/claim.json"
    repo.client.put_object(Bucket="vault", Key=claim, Body=json.dumps({"run": "0" * 16}).encode())
    real = repo.client.get_object

    def late(**more: Any) -> Any:
        repo.client.delete_object(Bucket="vault", Key=claim)
        return real(**more)

    monkeypatch.setattr(repo.client, "get_object", late)
    with pytest.raises(UsageError, match="or another run is publishing one"):
        publish(repo)
    monkeypatch.setattr(repo.client, "get_object", real)
    publish(repo)
    assert (repo.manifest("database", ID), claims(repo)) == (b"{}", [])


def test_a_run_that_fails_removes_only_what_it_wrote(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who knows of no claims puts a backup of that id there while ours is on its way."""
    theirs = {f"{repo.prefix}/postgresql/{ID}/{name}": name.encode() for name in ("theirs", "manifest.json")}
    real = repo._put_new

    def late(key: str, data: bytes) -> bool:
        if key.endswith("manifest.json"):
            for name, body in theirs.items():
                repo.client.put_object(Bucket="vault", Key=name, Body=body)
        return real(key, data)

    monkeypatch.setattr(repo, "_put_new", late)
    with pytest.raises(UsageError, match="a backup of that id exists"):
        publish(repo)
    assert repo.manifest("database", ID) == b"manifest.json"
    assert set(theirs) <= {f"{repo.prefix}/{key}" for key in keys(repo)}
    assert claims(repo) == []


def test_a_manifest_whose_answer_was_lost_counts(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is sent again, and refused because the first one was carried out."""
    real = repo.client.put_object

    def twice(**more: Any) -> Any:
        if more["Key"].endswith("manifest.json"):
            real(**more)
        return real(**more)

    monkeypatch.setattr(repo.client, "put_object", twice)
    publish(repo)
    assert (repo.manifest("database", ID), repo.files("database", ID)) == (b"{}", FILES)


def test_an_unpublished_staging_uploads_nothing(repo: S3Repository) -> None:
    with pytest.raises(RuntimeError), repo.stage("database", ID) as staging:
        (staging.path / "half").write_bytes(b"x")
        assert staging.path.stat().st_mode & 0o777 == 0o700
        raise RuntimeError
    assert keys(repo) == []
    assert staged(repo) == []


def test_delete_unpublishes_first(repo: S3Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after each deletion in turn: from the first on it is no backup, and deleting again finishes the work."""
    publish(repo)
    real = repo.client.delete_object

    def once(**more: Any) -> None:
        monkeypatch.setattr(repo.client, "delete_object", stop)
        real(**more)

    def stop(**more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(repo.client, "delete_object", once)
    with pytest.raises(KeyboardInterrupt):
        repo.delete("database", ID)
    monkeypatch.undo()
    assert repo.published("database") == []
    assert repo.ids("database") == [ID]
    assert repo.files("database", ID) == FILES
    with pytest.raises(NotFoundError, match="no such backup"):
        repo.manifest("database", ID)
    repo.delete("database", ID)
    assert keys(repo) == []
    with pytest.raises(NotFoundError):
        repo.delete("database", ID)


@pytest.mark.slow
def test_a_deleted_backup_is_gone_at_once(repo: S3Repository) -> None:
    """SeaweedFS lists the prefix of a large deleted backup for a while; that is not an id."""
    with repo.stage("database", ID) as staging:
        for number in range(150):
            (staging.path / str(number)).touch()
        staging.publish(b"{}")
    repo.delete("database", ID)
    assert repo.ids("database") == repo.published("database") == []
    publish(repo)


def test_sweep(repo: S3Repository) -> None:
    publish(repo)
    publish(repo, OTHER)
    repo._drop(f"{repo.prefix}/postgresql/{OTHER}/manifest.json")
    key = f"{repo.prefix}/postgresql/{OTHER}/big"
    repo.client.create_multipart_upload(Bucket="vault", Key=key)
    partial = repo.staging_root / (".partial-" + ID + "-1234")
    partial.mkdir(parents=True)
    now = datetime.now(timezone.utc)
    later = now + 2 * DAY
    expected = sorted([str(partial), f"s3://vault/{key}", f"s3://vault/{repo.prefix}/postgresql/{OTHER}"])
    assert repo.sweep(DAY, now) == []
    assert repo.sweep(DAY, later, dry_run=True) == expected
    assert partial.exists()
    assert repo.sweep(DAY, later) == expected
    assert repo.sweep(DAY, later) == []
    assert repo.published("database") == [ID]
    assert not [name for name in keys(repo) if OTHER in name]


def test_changed_bytes_are_noticed(repo: S3Repository, tmp_path: Path) -> None:
    publish(repo)
    key = f"{repo.prefix}/postgresql/{ID}/globals.sql"
    head = repo.client.head_object(Bucket="vault", Key=key)
    repo.client.put_object(Bucket="vault", Key=key, Body=b"rolez", Metadata=head["Metadata"])
    with repo.open("database", ID, "globals.sql") as stream, pytest.raises(IntegrityError, match="SHA-256 differs"):
        stream.read()
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        repo.fetch("database", ID, tmp_path / "copy")


@pytest.mark.parametrize(("breaks", "arrives"), [(0, True), (2, True), (3, True), (9, False)])
def test_a_broken_download_is_taken_up_again(
    repo: S3Repository, monkeypatch: pytest.MonkeyPatch, breaks: int, arrives: bool
) -> None:
    publish(repo)
    real = repo.client.get_object
    ranges: list[str] = []
    left = [breaks]

    class Short:
        """Gives 700 bytes, then the connection is gone, as long as breaks are left."""

        def __init__(self, body: Any) -> None:
            self.body, self.given = body, 0

        def read(self, size: int) -> bytes:
            if self.given and left[0]:
                left[0] -= 1
                from botocore.exceptions import ResponseStreamingError

                raise ResponseStreamingError(error="connection reset")
            data: bytes = self.body.read(700 if left[0] else size)
            self.given += len(data)
            return data

        def close(self) -> None:
            self.body.close()

    def get(**more: Any) -> Any:
        ranges.append(more.get("Range", ""))
        answer = real(**more)
        return {**answer, "Body": Short(answer["Body"])}

    monkeypatch.setattr(repo.client, "get_object", get)
    with repo.open("database", ID, "dbname.dump/toc.dat") as stream:
        if arrives:
            assert stream.read() == b"toc" * 1000
            assert ranges == ["", *(f"bytes={700 * n}-" for n in range(1, breaks + 1))]
        else:
            with pytest.raises(LifeboatError, match="connection reset"):
                stream.read()


# --- errors an operator meets on the first day ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"s3_access_key": "nobody"}, UsageError, "refuses the key.*Correct s3_access_key"),
        ({"s3_secret_key": "wrong"}, UsageError, "refuses the key.*Correct s3_access_key"),
        ({"bucket": "no-such-bucket"}, UsageError, "no such bucket.*Make it"),
        ({"bucket": "Not_a bucket"}, UsageError, "bucket"),
        ({"endpoint_url": "http://127.0.0.1:9"}, LifeboatError, "127.0.0.1:9.*firewall"),
        ({"endpoint_url": "http://no-such-host.invalid"}, LifeboatError, "no-such-host.*firewall"),
        ({"endpoint_url": "not a url"}, UsageError, "Correct endpoint_url"),
        ({"ca_bundle": "/no/such/file"}, UsageError, "no file /no/such/file"),
    ],
    ids=str,
)
def test_first_day_errors(
    endpoint: str, tmp_path: Path, settings: dict[str, str], error: type[LifeboatError], message: str
) -> None:
    broken = build(endpoint, tmp_path, **settings)
    started = time.monotonic()
    for call in (
        broken.check,
        lambda: broken.check(writable=True),
        lambda: broken.ids("database"),
        lambda: publish(broken),
        lambda: broken.manifest("database", ID),
    ):
        with pytest.raises(error, match=message) as caught:
            call()
        assert type(caught.value) is error
        assert "very-secret" not in str(caught.value)
    assert time.monotonic() - started < 120  # five calls; a hang would be longer


def test_a_key_that_may_only_read(endpoint: str, tmp_path: Path) -> None:
    reader = build(endpoint, tmp_path, s3_access_key="reader", s3_secret_key="reader-secret")
    reader.check()
    with pytest.raises(UsageError, match="access denied"):
        reader.check(writable=True)
    with pytest.raises(UsageError, match="access denied"):
        publish(reader)


def test_plain_http_where_tls_is_asked_for(endpoint: str, tmp_path: Path) -> None:
    broken = build(endpoint, tmp_path, endpoint_url=endpoint.replace("http:", "https:"))
    with pytest.raises(UsageError, match="Set ca_bundle"):
        broken.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (403, "RequestTimeTooSkewed", UsageError, "timedatectl"),
        (301, "PermanentRedirect", UsageError, "Correct region"),
        (403, "QuotaExceeded", SpaceError, "Raise the bucket"),
        (507, "XMinioStorageFull", SpaceError, "Free space"),
        (503, "SlowDown", LifeboatError, "try again"),
        (501, "NotImplemented", LifeboatError, "NotImplemented"),
        (403, "AccessDenied", UsageError, "access denied"),
    ],
)
def test_answers_that_a_small_server_never_gives(
    tmp_path: Path, status: int, code: str, error: type[LifeboatError], message: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(error, match=message) as caught:
                build(f"http://127.0.0.1:{server.server_port}", tmp_path).check()
            assert type(caught.value) is error
        finally:
            server.shutdown()
            thread.join()


# --- a server that fails to give one object ---


@contextlib.contextmanager
def failing(endpoint: str, key: str) -> Iterator[str]:
    """In front of the server; whatever asks for that key is answered with 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            if self.path.partition("?")[0].endswith(key):
                status, headers, body = 500, {}, b"<Error><Code>InternalError</Code><Message>disk</Message></Error>"
            else:
                server = http.client.HTTPConnection(endpoint.removeprefix("http://"))
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.request(self.command, self.path, data, dict(self.headers.items()))
                answer = server.getresponse()
                status, headers, body = answer.status, dict(answer.headers.items()), answer.read()
                server.close()
            self.send_response(status)
            for name, value in headers.items():
                if name not in ("Transfer-Encoding", "Connection", "Content-Length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_one_500_while_a_manifest_is_read_deletes_nothing(
    repo: S3Repository, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, now = lock.held, datetime.now(timezone.utc)
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path}))
    made = []
    for days in (400, 200, 100, 0):
        backup = make_manifest(now - timedelta(days=days), artefacts=())
        with repo.stage("database", backup.id) as staging:
            staging.publish(backup.to_bytes())
        made.append(backup.id)
    older, hidden, younger, newest = made
    rules = {"daily_days": 5, "weekly_months": 0, "monthly_months": 0, "minimum": 1}

    def pruned(url: str) -> prune.Pruning:
        place = {"type": "s3", "bucket": "vault", "prefix": repo.prefix, "endpoint_url": url}
        config = make_config(tmp_path, repository={**place, "staging_root": str(tmp_path)}, retention=rules)
        run = Opened(dataclasses.replace(config, secrets=KEYS))
        return prune.prune(run, now=datetime.now(timezone.utc), dry_run=False, log=len)

    with failing(endpoint, f"{hidden}/manifest.json") as url:
        result = pruned(url)
    assert list(result["unknown"]) == [hidden]
    assert "500" in result["unknown"][hidden] or "InternalError" in result["unknown"][hidden]
    assert result["delete"] == [younger]
    assert repo.published("database") == [older, hidden, newest]
    with failing(endpoint, "/nothing") as url:
        assert pruned(url)["delete"] == [older, hidden]
