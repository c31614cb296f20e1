# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reach an S3 endpoint by boto3, and say what its refusals mean."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import socket
import sys
import threading
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from ..base import clock, filesystem, web
from ..base.clock import format_time
from ..base.errors import NOT_INSTALLED, IntegrityError, LifeboatError, NotFoundError, UsageError
from . import error_registry
from .error_registry import CLOCK, CREDENTIALS, LOCKED, PERMISSION

Client = Any  # boto3 makes its clients at run time; they have no type
CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 60
ATTEMPTS = 3
_ABOUT = 256 << 20  # bytes of an answer that is no object
_BUFFER = 65536
RESUMED = 3  # times a download is taken up again where it broke
# How servers refuse what they do not have, and what the key may not do. A further server's own words belong here.
UNSUPPORTED = ("NotImplemented", "XNotImplemented", "MethodNotAllowed", "501", "405")
DENIED = ("AccessDenied", "403", "AllAccessDisabled")

# Who may not delete a version is answered as one who deletes a locked one: AccessDenied on Amazon S3 and SeaweedFS,
# InvalidRequest on MinIO. So a lock is named only where the version's own retention or hold says so.
REFUSED = (*DENIED, "ObjectLocked", "InvalidRequest")
# Of a version without a lock, or in a bucket without locks; and of a delete marker, which has none (MethodNotAllowed).
_NO_LOCK = (
    "NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "NoSuchObjectLegalHold", "InvalidRequest",
    *UNSUPPORTED,
)  # fmt: skip

_MAKING = threading.Lock()
_BUCKET = (UsageError, "there is no such bucket", "Make it (with versions), or correct the bucket's name.")
_OBJECT = (NotFoundError, "there is no such object", "Choose another backup (lifeboat list).")
_CODES: dict[str, tuple[type[LifeboatError], str, str]] = {
    "NoSuchBucket": _BUCKET, "NoSuchKey": _OBJECT, "404": _OBJECT, "NotFound": _OBJECT,
}  # fmt: skip


def refused_key(code: str) -> str:
    """Return what a server's code says of the key; empty where it says nothing of it."""
    cause = error_registry.answered(code)
    return f"{cause.description} ({code}). {cause.remedy}" if cause and cause.name in (CREDENTIALS, CLOCK) else ""


def refuses(error: LifeboatError) -> bool:
    """Return whether a server answered that the key is wrong, or may not look there, or that there is no
    such bucket."""
    cause = error_registry.answered(code(error))
    refused = cause is not None and cause.name == CREDENTIALS
    return refused or code(error) in DENIED or _CODES.get(code(error)) == _BUCKET


def connect(
    endpoint_url: str,
    region: str,
    access_key: str,
    secret_key: str,
    ca_bundle: str = "",
    *,
    patience: float = READ_TIMEOUT,
    attempts: int = ATTEMPTS,
) -> Client:
    """Return a client with bounded patience: connect 5 s, silence 60 s, a slow answer three minutes, 3 attempts. Sends
    nothing yet. Thread-safe in use."""
    where = endpoint_url or "Amazon S3"
    # botocore asks `Expect: 100-continue` even for an empty body; some servers (SeaweedFS) then hang the connection.
    os.environ.setdefault("BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE", "true")
    if ca_bundle and not Path(ca_bundle).is_file():
        raise UsageError("connect to S3", where, f"there is no file {ca_bundle}", "Correct ca_bundle.")
    try:
        with warnings.catch_warnings():  # boto3 warns of an old Python in every cron mail
            warnings.simplefilter("ignore")
            import boto3  # noqa: PLC0415
            from botocore.config import Config  # noqa: PLC0415
    except ImportError as exc:
        raise UsageError(
            "connect to S3", where, f"the Python package boto3 is missing ({exc})", "Install python3-boto3.",
            exit_status=NOT_INSTALLED,
        ) from exc  # fmt: skip
    config = _config(Config, endpoint_url, patience, attempts)
    with translated_errors("connect to S3", where), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _MAKING:
                made = _session(boto3).client(
                    "s3",
                    endpoint_url=endpoint_url or None,
                    region_name=region or "us-east-1",
                    aws_access_key_id=access_key,
                    aws_secret_access_key=secret_key,
                    verify=ca_bundle or None,
                    config=config,
                )
        except ValueError as exc:  # botocore: Invalid endpoint
            raise UsageError("connect to S3", where, str(exc), "Correct endpoint_url.") from exc
    _bound(made)
    if endpoint_url:
        made.meta.events.register("before-call.s3", _stays)
    return made


def _config(make: Any, endpoint_url: str, patience: float, attempts: int) -> Any:
    """Return botocore's Config. make: its class."""
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": patience,
        "retries": {"total_max_attempts": attempts, "mode": "standard"},
        "max_pool_connections": 32,
        "signature_version": "s3v4",
        # Servers other than Amazon's seldom have a DNS name for each bucket.
        "s3": {"addressing_style": "path" if endpoint_url else "auto"},
    }
    try:
        # botocore 1.36 began to send CRC trailers unasked, which older servers reject; before it, no such options.
        return make(
            **options, request_checksum_calculation="when_required", response_checksum_validation="when_required"
        )
    except TypeError:
        return make(**options)


class _Socket:
    """A connection whose answers are Timed. The rest is the socket's own."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self.times = connection, web.TIMES
        self.answer: web.Timed | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.RawIOBase | BinaryIO:
        """Unbuffered botocore reads what comes before it sends a body, and at an end of the connection for ever."""
        raw: Any = self._connection.makefile("rb", 0)
        read = self._connection.gettimeout()
        if mode != "rb" or read is None:
            return raw if buffering == 0 else io.BufferedReader(raw, _BUFFER)
        self.answer = web.Timed(self._connection, read, self.times, raw, credit=False, whole=buffering == 0)
        return self.answer if buffering == 0 else io.BufferedReader(self.answer, _BUFFER)


class _RequestState(threading.local):
    """State whether this thread's request is answered by an object."""

    object = False


_ASKED = _RequestState()


def _note(request: Any, **_: object) -> None:
    _ASKED.object = bool(request.stream_output)


@functools.lru_cache(maxsize=1)
def _pools() -> Mapping[str, type]:
    """botocore's own, with such connections."""
    from botocore import awsrequest  # noqa: PLC0415

    def timed(connection: type) -> type:
        class Connection(connection):  # type: ignore[misc]
            sock: Any
            _times = web.TIMES

            def connect(self) -> None:
                super().connect()
                self.sock = _Socket(self.sock)

            def putrequest(self, method: str, *arguments: Any, **more: Any) -> None:
                self._times = web.times_of(method)
                super().putrequest(method, *arguments, **more)

            def getresponse(self) -> Any:
                own = self.sock
                if not isinstance(own, _Socket):
                    return super().getresponse()
                own.times = self._times
                found = super().getresponse()
                length = str(found.headers.get("Content-Length", "0"))
                if not (length.isascii() and length.isdigit()):  # botocore ends in a ValueError
                    raise web.UnusableError(f"the answer's Content-Length is not a size: {length[:40]!r}")
                if own.answer:
                    own.answer.credit = True
                    own.answer.most = 0 if _ASKED.object and found.status < 300 else _ABOUT
                return found

        return Connection

    pools = {"http": awsrequest.AWSHTTPConnectionPool, "https": awsrequest.AWSHTTPSConnectionPool}
    return {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": timed(pool.ConnectionCls)})
        for scheme, pool in pools.items()
    }


def _bound(client: Any) -> None:
    """Give all that this client of boto3's reads a deadline. The limit of a read is the client's."""
    session = client._endpoint.http_session
    session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = _pools()
    client.meta.events.register("before-send.s3", _note)


def _stays(params: Mapping[str, dict[str, dict[str, object]]], **_: object) -> None:
    """A redirect ends the request. For Amazon's regions botocore would ask with HEAD where the bucket is; a server that
    redirects that too, to be asked for ever, is no region."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


@functools.lru_cache(maxsize=1)
def _session(boto3: Any) -> Any:
    """Return one for all clients: the description of S3 takes 0.2 s to read. Making a client of it is not
    thread-safe."""
    return boto3.session.Session()


@functools.lru_cache(maxsize=1)
def _serializer() -> Any:
    from botocore import serialize, session  # noqa: PLC0415

    model = session.get_session().get_service_model("s3")
    return serialize.create_serializer("rest-xml", include_validation=False), model


def document(operation: str, **arguments: object) -> str:
    """Return the XML that boto3 sends with that operation. Raises ValueError for what it cannot say."""
    serializer, model = _serializer()
    try:
        request = serializer.serialize_to_request({"Bucket": "x", **arguments}, model.operation_model(operation))
    except (TypeError, AttributeError, LookupError) as exc:
        raise ValueError(str(exc)) from exc
    body = request["body"]
    return body.decode() if isinstance(body, bytes) else str(body)


@contextlib.contextmanager
def translated_errors(attempted: str, subject: str) -> Iterator[None]:
    """Turn whatever boto3 raises into a LifeboatError; nothing else is touched."""
    try:
        yield
    except LifeboatError:
        raise
    except Exception as exc:
        error = translate(exc, attempted, subject)
        if error is None:
            raise
        raise error from _server_error(exc)  # code() and status() look there


def _server_error(exc: BaseException) -> BaseException:
    """Return the error with the server's answer, which upload_file hides."""
    of_boto3 = _loaded("boto3.exceptions", "Boto3Error")
    return exc.__context__ if isinstance(exc, of_boto3) and exc.__context__ is not None else exc


def translate(exc: BaseException, attempted: str, subject: str) -> LifeboatError | None:
    """Return what an exception of boto3 means to an operator; None when it is not one of boto3's."""
    from botocore import exceptions as known  # noqa: PLC0415

    # What was never loaded raised nothing; loading it takes longer than many a request.
    of_boto3 = _loaded("boto3.exceptions", "Boto3Error")
    of_a_parser = _loaded("botocore.parsers", "ResponseParserError")
    # Of the answer that comes instead of an object botocore lets them through.
    of_the_network = (*_loaded("urllib3.exceptions", "HTTPError"), web.UnusableError)
    exc = _server_error(exc)
    if isinstance(exc, known.ClientError):
        answer = exc.response.get("Error", {})
        code = str(answer.get("Code", ""))
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"{code}: {answer.get('Message', '')}".strip(": ")
        known_cause = error_registry.answered(code, str(answer.get("Message", "")), status)
        if known_cause:
            return known_cause.kind(attempted, subject, f"{known_cause.description} ({said})", known_cause.remedy)
        kind, cause, remedy = _CODES.get(code) or _CODES.get(str(status)) or (LifeboatError, "", "")
        if not remedy:
            busy = "The server is busy or failing: look at its log, then try again."
            remedy = busy if status >= 500 else "Look up that answer in the server's manual."
        return kind(attempted, subject, f"{cause} ({said})" if cause else said, remedy)
    tls = error_registry.by_name(error_registry.TLS)
    if isinstance(exc, known.SSLError) or error_registry.answered("", str(exc)) is tls:
        return tls.kind(attempted, subject, f"{tls.description}: {exc}", tls.remedy)
    if isinstance(exc, of_a_parser) or _raised_in(exc, "botocore.parsers"):
        cause = "the server's answer is not S3's: " + " ".join(str(exc).split())[:200]
        return LifeboatError(attempted, subject, cause, "Is that an S3 endpoint? Correct endpoint_url and port.")
    if isinstance(exc, known.ParamValidationError):
        return UsageError(attempted, subject, str(exc), "Correct the bucket's name or the prefix.")
    if isinstance(exc, (known.HTTPClientError, known.ConnectionError, known.IncompleteReadError, *of_the_network)):
        remedy = "Check endpoint_url, the route and the firewall, and that the server runs; then try again."
        return LifeboatError(attempted, subject, str(exc), remedy)
    if isinstance(exc, (known.BotoCoreError, *of_boto3)):
        return LifeboatError(attempted, subject, str(exc), "Correct the repository's settings, then try again.")
    return None


def _raised_in(exc: BaseException, module: str) -> bool:
    """botocore parses numbers and dates of an answer as Python does, with Python's errors."""
    frames = traceback.walk_tb(exc.__traceback__)
    return any(frame.f_globals.get("__name__") == module for frame, _line in frames)


def _loaded(module: str, name: str) -> tuple[type[BaseException], ...]:
    found = sys.modules.get(module)
    return (getattr(found, name),) if found else ()


def code(error: LifeboatError) -> str:
    """Return the code with which the server answered, where `error` is such an answer: NoSuchBucket, 404;
    else nothing."""
    answer = getattr(error.__cause__, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


def status(error: LifeboatError) -> int:
    """Return the HTTP status of such an answer; else 0."""
    answer = getattr(error.__cause__, "response", None) or {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def open_object(client: Client, bucket: str, key: str) -> BinaryIO:
    """Read an object as a stream. NotFoundError comes now, IntegrityError at the end, if the bytes are wrong."""
    return io.BufferedReader(_Reader(client, bucket, key), 1 << 20)


class _Reader(io.RawIOBase):
    """An object as a stream. A broken connection is taken up where it broke, if the object is still the same one.

    At the end, size and the SHA-256 that was stored with the object must be right, or IntegrityError.
    """

    def __init__(self, client: Client, bucket: str, key: str) -> None:
        super().__init__()
        self._get, self._url = functools.partial(client.get_object, Bucket=bucket, Key=key), f"s3://{bucket}/{key}"
        self._at, self._tries, self._digest = 0, RESUMED, hashlib.sha256()
        with translated_errors("read", self._url):
            first = self._get()
        self._body = first["Body"]
        if "ContentLength" not in first:
            raise LifeboatError(
                "read", self._url, "the server does not say how many bytes it has", "Is that an S3 endpoint? Try again."
            )
        self._size = int(first["ContentLength"])
        self._etag = first.get("ETag", "")  # without one nothing says that it is still the same object
        self._expected = first.get("Metadata", {}).get("sha256", "")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._receive(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        self._digest.update(data)
        if not data and self._expected and self._digest.hexdigest() != self._expected:
            cause = "its bytes are not those that were uploaded (SHA-256 differs)"
            raise IntegrityError("read", self._url, cause, "Choose another backup, and keep this one for inquiry.")
        return len(data)

    def _receive(self, size: int) -> bytes:
        while self._at < self._size:
            try:
                with translated_errors("read", self._url):
                    data: bytes = self._body.read(size)
                if data:
                    return data
                cause = LifeboatError(
                    "read", self._url, f"the connection ended after {self._at} of {self._size} bytes",
                    "Check the network and the server, then try again.",
                )  # fmt: skip
            except (NotFoundError, UsageError):
                raise
            except LifeboatError as exc:
                cause = exc
            if not self._tries or not self._etag:
                raise cause
            self._tries -= 1
            self._body.close()
            with translated_errors("read", self._url):
                self._body = self._get(Range=f"bytes={self._at}-", IfMatch=self._etag)["Body"]
        return b""

    def close(self) -> None:
        if not self.closed and hasattr(self, "_body"):  # none where even the first request failed
            self._body.close()
        super().close()


def purge(client: Client, bucket: str, prefix: str, *, exact: bool = False) -> list[str]:
    """Remove every version of the objects below `prefix`, all of which are deleted already. exact: of this one object.

    Returns what stays and why, one line an object: a lock, or a key that may not delete versions. Neither is an error.
    A delete marker goes only after all that it hides, else the object would be back.
    """
    try:
        hidden, markers = _versions(client, bucket, prefix, exact)
    except LifeboatError as exc:
        if code(exc) in UNSUPPORTED:
            return []
        return [f"s3://{bucket}/{prefix}: its versions could not be listed: {exc.cause}"]
    kept: dict[str, str] = {}
    lock = threading.Lock()

    def drop(key: str, version: str) -> None:
        try:
            with translated_errors("delete a version", f"s3://{bucket}/{key}"):
                client.delete_object(Bucket=bucket, Key=key, VersionId=version)
        except LifeboatError as exc:
            if not undeletable(exc):
                raise
            with lock:
                kept[key] = reason(client, bucket, key, version, code(exc))

    def empty(key: str) -> None:
        for version in hidden[key]:
            drop(key, version)
        for version in markers[key] if key not in kept else ():
            drop(key, version)

    filesystem.parallel(empty, sorted({*hidden, *markers}), workers=8)
    return [f"s3://{bucket}/{key}: {words}" for key, words in sorted(kept.items())]


_Ids = dict[str, list[str]]  # of versions, by key


def _versions(client: Client, bucket: str, prefix: str, exact: bool) -> tuple[_Ids, _Ids]:
    """Return what holds bytes, and the delete markers."""
    hidden: _Ids = defaultdict(list)
    markers: _Ids = defaultdict(list)
    with translated_errors("list the versions", f"s3://{bucket}/{prefix}"):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for listed, found in (("Versions", hidden), ("DeleteMarkers", markers)):
                for item in page.get(listed, ()):
                    if item["Key"] == prefix or not exact:
                        found[item["Key"]].append(item["VersionId"])
    return hidden, markers


def undeletable(exc: LifeboatError) -> bool:
    """Does the server refuse to delete this version, for a lock or for want of a right?"""
    cause = error_registry.cause_of(exc)
    return code(exc) == "InvalidRequest" or (cause is not None and cause.name in (PERMISSION, LOCKED))


def reason(client: Client, bucket: str, key: str, version: str, answer: str) -> str:
    """Return why a version stays whose deletion was refused with the code `answer`."""
    said = lock(client, bucket, key, version)
    unseen = ", nor see whether a lock keeps it" if said is None else ""
    return said or f"the key may not delete it ({answer}){unseen}"


def lock(client: Client, bucket: str, key: str, version: str) -> str | None:
    """Return what locks a version, in words; empty where nothing does; None where the server does not tell this key."""
    url = f"s3://{bucket}/{key}"
    which = {"Bucket": bucket, "Key": key, "VersionId": version}
    told = True
    try:
        with translated_errors("look at the lock", url):
            retention = client.get_object_retention(**which).get("Retention", {})
        until = retention.get("RetainUntilDate")
        if isinstance(until, datetime) and until > clock.now():
            return f"locked until {format_time(until)} ({retention.get('Mode', '')})"
    except LifeboatError as exc:
        told = code(exc) in _NO_LOCK
    try:
        with translated_errors("look at the hold", url):
            if client.get_object_legal_hold(**which).get("LegalHold", {}).get("Status") == "ON":
                return "locked by a legal hold"
    except LifeboatError as exc:
        told = told and code(exc) in _NO_LOCK
    return "" if told else None
