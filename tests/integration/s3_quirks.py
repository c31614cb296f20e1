# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other S3 servers do, reproduced by a proxy before SeaweedFS, as it was recorded on loopback in November 2026.

Each is a fault or an edit for s3_faults.faulty(). MinIO is of February 2026, VersityGW of August 2026, Ceph RGW 18.2.7.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import secrets
import tarfile
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode, urlsplit
from xml.sax.saxutils import escape, unescape

from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import KEPT, LOCK, NULL, USER, Answer
from s3_faults import Call, Edit, Fault, Reply, error
from s3_servers import Server

_SSE, _SSE_KEY = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"
_ARN = "arn:aws:kms:"
_FORWARDED = frozenset({*KEPT, *LOCK, "content-md5", "x-amz-tagging"})


def minio_unpacks(server: Server) -> Fault:
    """MinIO unpacks a tar that is put in one request with this metadata, and keeps no object of it."""

    def fault(call: Call) -> Reply | None:
        if call.method != "PUT" or "uploadId" in call.query:
            return None
        if call.headers.get("x-amz-meta-snowball-auto-extract") != "true":
            return None
        bucket = call.path.lstrip("/").partition("/")[0]
        with tarfile.open(fileobj=io.BytesIO(call.body)) as tar:
            for member in tar:
                found = tar.extractfile(member)
                assert found is not None
                server.client.put_object(Bucket=bucket, Key=member.name, Body=found.read())
        etag = hashlib.md5(call.body, usedforsecurity=False).hexdigest()
        return Reply(headers={"ETag": f'"{etag}"'})

    return fault


class Minio:
    """What MinIO lets a key do that may write and hide objects: all that its policy does not deny in so many words.

    `policy`: that key's; what it allows is SeaweedFS' business, and only its denials are looked at here.
    """

    def __init__(self, server: Server, access_key: str, policy: dict[str, Any]) -> None:
        self._server, self._access_key, self._policy = server, access_key, policy
        self._overwritten: dict[tuple[str, str, str], bytes] = {}
        self._etags: dict[tuple[str, str], str] = {}
        self._dated: dict[str, str] = {}

    def _denies(self, action: str, version: bool) -> bool:
        return any(
            statement["Effect"] == "Deny"
            and action in statement["Action"]
            and ("Condition" not in statement or (version and "s3:versionid" in str(statement["Condition"])))
            for statement in self._policy["Statement"]
        )

    def fault(self, call: Call) -> Reply | None:
        bucket, key = urlsplit(call.path).path.lstrip("/").partition("/")[0], call.key
        version = call.query.get("versionId", "")
        if not key or "tagging" in call.query:
            return None
        if call.method in ("GET", "HEAD"):
            if (bucket, key, version) in self._overwritten:
                body = self._overwritten[bucket, key, version].decode()
                return Reply(body=body, headers={"x-amz-version-id": version})
            if call.method == "HEAD" and not version and (bucket, key) in self._etags:
                return Reply(headers={"ETag": f'"{self._etags[bucket, key]}"'})
            return None
        if call.access_key != self._access_key:
            return None
        return self._delete(call, bucket, version) if call.method == "DELETE" else self._put(call, bucket, version)

    def _delete(self, call: Call, bucket: str, version: str) -> Reply | None:
        client = self._server.client
        if version:
            if self._denies("s3:DeleteObjectVersion", True) or self._denies("s3:DeleteObject", True):
                return error(403, "AccessDenied")
            client.delete_object(Bucket=bucket, Key=call.key, VersionId=version)
            return Reply(204, headers={"x-amz-version-id": version})
        if call.headers.get("x-minio-force-delete") != "true":
            return None
        with contextlib.suppress(client.exceptions.ClientError):
            if client.get_object_lock_configuration(Bucket=bucket):
                said = "force-delete is forbidden on Object Locking enabled buckets"
                return Reply(400, f"<Error><Code>XMinioAdminInvalidArgument</Code><Message>{said}</Message></Error>")
        for found in client.list_object_versions(Bucket=bucket, Prefix=call.key).get("Versions", ()):
            client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
        return Reply(204)

    def _put(self, call: Call, bucket: str, version: str) -> Reply | None:
        if version and "uploadId" not in call.query:
            if self._denies("s3:PutObject", True):
                return error(403, "AccessDenied")
            self._overwritten[bucket, call.key, version] = call.body
            return Reply(headers={"x-amz-version-id": version})
        dated, etag = (call.headers.get(f"x-minio-source-{what}", "") for what in ("mtime", "etag"))
        if dated or etag:
            put = self._server.client.put_object(Bucket=bucket, Key=call.key, Body=call.body)
            if dated:
                self._dated[put["VersionId"]] = dated
            if etag:
                self._etags[bucket, call.key] = etag
            return Reply(headers={"x-amz-version-id": put["VersionId"], "ETag": f'"{etag}"' if etag else put["ETag"]})
        if call.headers.get("x-amz-meta-snowball-auto-extract") == "true" and "uploadId" not in call.query:
            with tarfile.open(fileobj=io.BytesIO(call.body)) as tar:
                for member in tar:
                    found = tar.extractfile(member)
                    assert found is not None
                    self._overwritten[bucket, member.name, member.pax_headers["minio.versionId"]] = found.read()
            return Reply(headers={"ETag": '"61fc855b8291f618cb578a43c6a2cec4"'})
        return None

    def edit(self, call: Call, body: bytes) -> bytes:
        rows = re.split(rb"(?=<Version>)", body)
        for version, dated in self._dated.items():
            time = f"<LastModified>{dated}</LastModified>".encode()
            named = f"<VersionId>{version}</VersionId>".encode()
            rows = [
                re.sub(rb"<LastModified>.*?</LastModified>", time, row, count=1) if named in row else row
                for row in rows
            ]
        return b"".join(rows)


class MinioKms:
    """MinIO with a KMS that has the keys `keys`, the first of them its default one.

    An object that is encrypted by it has an ETag of 32 hexadecimal digits that is no MD5 and new at each write, and a
    listing does not tell that it is encrypted. `defaults`: algorithms by bucket. `auto`: MINIO_KMS_AUTO_ENCRYPTION,
    which nothing tells but the objects.
    """

    def __init__(
        self, server: Server, keys: Collection[str] = ("my-key",), defaults: dict[str, str] | None = None,
        *, auto: bool = False,
    ) -> None:  # fmt: skip
        self._server, self.keys, self.defaults, self.auto = server, [*keys], defaults or {}, auto
        self._objects: dict[tuple[str, str, str], dict[str, str]] = {}  # by bucket, key and version: headers
        self._uploads: dict[str, dict[str, str]] = {}
        self._parts: dict[str, str] = {}  # the server's own ETag by the one that was told

    def _ask(self, call: Call, headers: dict[str, str], body: bytes | None = None) -> Answer:
        """The same request with other headers, signed by the administrator."""
        name = urlsplit(call.path).path.lstrip("/").partition("/")[0]
        server = self._server
        bucket = Bucket(name, server.url, access_key=server.access_key, secret_key=server.secret_key)
        body = call.body if body is None else body
        return bucket.ask(call.method, call.key, call.query, headers, body, attempted="stand in for MinIO")

    def _encryption(self, call: Call, bucket: str) -> dict[str, str] | Reply:
        """Headers of an object that is written so; an error where there is no such key."""
        default = self.defaults.get(bucket) or ("aws:kms" if self.auto else "")
        how = call.headers.get(_SSE, default)
        if how == "AES256":
            return {_SSE: how} if self.keys else error(501, "NotImplemented")
        if not how:
            return {}
        key = call.headers.get(_SSE_KEY, "").removeprefix(_ARN) or (self.keys or [""])[0]
        if key not in self.keys:
            return error(400, "InvalidArgument")
        return {_SSE: how, _SSE_KEY: f"{_ARN}{key}"}

    def fault(self, call: Call) -> Reply | None:
        bucket, query = urlsplit(call.path).path.lstrip("/").partition("/")[0], call.query
        if not call.key or {"tagging", "retention", "legal-hold"} & query.keys():
            return None
        if call.method == "POST" and "uploads" in query:
            return self._write(call, bucket)
        if "uploadId" in query and self._uploads.get(query["uploadId"], {}).get(_SSE, "") == "aws:kms":
            return self._of_upload(call, bucket)
        if call.method == "PUT" and not query:
            return self._write(call, bucket)
        return self._read(call, bucket) if call.method == "GET" and "if-match" in call.headers else None

    def _write(self, call: Call, bucket: str) -> Reply | None:
        told = self._encryption(call, bucket)
        if isinstance(told, Reply):
            return told
        if not told:
            self._objects.pop((bucket, call.key, NULL), None)
            return None
        kept = {name: value for name, value in call.headers.items() if name in _FORWARDED or name.startswith(USER)}
        answer = self._ask(call, kept)
        if call.method == "POST":
            found = re.search(rb"<UploadId>(.*?)</UploadId>", answer.body)
            assert found
            self._uploads[found[1].decode()] = told
            return Reply(body=answer.body, headers=told)
        return self._written(call, bucket, told, answer)

    def _written(self, call: Call, bucket: str, told: dict[str, str], answer: Answer, parts: str = "") -> Reply:
        etag = f"{secrets.token_hex(16)}{parts}" if told[_SSE] == "aws:kms" else answer.etag
        self._objects[bucket, call.key, answer.version] = {**told, "etag": f'"{etag}"'}
        body = re.sub(rb"<ETag>.*?</ETag>", f"<ETag>&#34;{etag}&#34;</ETag>".encode(), answer.body)
        version = {"x-amz-version-id": answer.version} if answer.version != NULL else {}
        return Reply(body=body, headers={**told, **version, "ETag": f'"{etag}"'})

    def _of_upload(self, call: Call, bucket: str) -> Reply | None:
        if call.method == "PUT":
            kept = {name: value for name, value in call.headers.items() if name == "content-md5"}
            etag = secrets.token_hex(16)
            self._parts[etag] = self._ask(call, kept).etag
            return Reply(headers={"ETag": f'"{etag}"'})
        if call.method != "POST":
            return None
        body = re.sub(rb"[0-9a-f]{32}", lambda found: self._parts.get(found[0].decode(), "").encode(), call.body)
        answer = self._ask(call, {"content-type": "application/xml"}, body)
        count = call.body.count(b"<Part>")
        return self._written(call, bucket, self._uploads[call.query["uploadId"]], answer, f"-{count}")

    def _read(self, call: Call, bucket: str) -> Reply | None:
        version = call.query.get("versionId", "") or self._current(bucket, call.key)
        known = self._objects.get((bucket, call.key, version))
        if not known:
            return None
        if call.headers["if-match"] != known["etag"]:
            return error(412, "PreconditionFailed")
        answer = self._ask(call, {"range": call.headers["range"]} if "range" in call.headers else {})
        return Reply(answer.status, answer.body, headers={**known, "x-amz-version-id": version})

    def _current(self, bucket: str, key: str) -> str:
        client = self._server.client
        with contextlib.suppress(client.exceptions.ClientError):
            return str(client.head_object(Bucket=bucket, Key=key).get("VersionId", NULL))
        return NULL

    def edit_headers(self, call: Call, headers: dict[str, str]) -> dict[str, str]:
        bucket = urlsplit(call.path).path.lstrip("/").partition("/")[0]
        if call.method not in ("GET", "HEAD") or not call.key:
            return headers
        known = self._objects.get((bucket, call.key, headers.get("x-amz-version-id", NULL)), {})
        return {**headers, **known} if "etag" in headers else headers

    def edit(self, call: Call, body: bytes) -> bytes:
        bucket = urlsplit(call.path).path.strip("/")
        if call.key or call.method != "GET" or not {"versions", "list-type"} & call.query.keys():
            return body

        def told(found: re.Match[bytes]) -> bytes:
            key = _field(found[0], "Key")
            key = unquote_plus(key) if b"<EncodingType>url</EncodingType>" in body else key
            version = _field(found[0], "VersionId") or self._current(bucket, key)
            known = self._objects.get((bucket, key, version))
            if not known:
                return found[0]
            return re.sub(rb"<ETag>.*?</ETag>", f"<ETag>{escape(known['etag'])}</ETag>".encode(), found[0])

        return _ROW.sub(told, body)


def minio_overwrites(bucket: str, key: str, version: str, etag: str) -> Edit:
    """As after `PUT ?versionId=OLD`: that very version has other bytes, of the same length, and another ETag."""

    def edit(call: Call, body: bytes) -> bytes:
        if not call.path.startswith(f"/{bucket}") or not {"versions", "list-type"} & {*call.query}:
            return body
        rows = re.split(rb"(?=<Version>|<Contents>)", body)
        named = [f"<VersionId>{version}</VersionId>".encode()] if "versions" in call.query else []
        of_it = [f"<Key>{key}</Key>".encode(), *named]  # the other list is of current objects, as this is one
        for number, row in enumerate(rows):
            if all(part in row for part in of_it):
                rows[number] = re.sub(rb"<ETag>.*?</ETag>", f"<ETag>&#34;{etag}&#34;</ETag>".encode(), row)
        return b"".join(rows)

    return edit


def rgw_markers(call: Call, body: bytes) -> bytes:
    """Ceph RGW says EncodingType=url, encodes the keys, and not NextKeyMarker."""
    if call.key or "versions" not in call.query or b"<Error>" in body[:512]:
        return body
    encoded = b"<EncodingType>url</EncodingType>" in body
    if not encoded:
        body = re.sub(rb"(?<=<Key>).*?(?=</Key>)", lambda found: _quoted(found[0]), body)
        return re.sub(rb"(<IsTruncated>)", rb"<EncodingType>url</EncodingType>\1", body, count=1)
    return re.sub(rb"(?<=<NextKeyMarker>).*?(?=</NextKeyMarker>)", lambda found: _unquoted(found[0]), body)


def _quoted(text: bytes) -> bytes:
    return quote(unescape(text.decode()), safe="/").encode()


def _unquoted(text: bytes) -> bytes:
    return escape(unquote_plus(text.decode())).encode()


def rgw_tags_of_parts() -> Fault:
    """Ceph RGW takes tags with CreateMultipartUpload, and the object then has none."""
    forgotten: set[str] = set()

    def fault(call: Call) -> Reply | None:
        if "tagging" in call.query and call.method == "GET" and call.path.partition("?")[0] in forgotten:
            return Reply(body="<Tagging><TagSet/></Tagging>")
        if "uploads" in call.query and call.method == "POST":
            forgotten.add(call.path.partition("?")[0])
        elif call.method == "PUT" and ("tagging" in call.query or not call.query):
            forgotten.discard(call.path.partition("?")[0])
        return None

    return fault


_ROW = re.compile(rb"<(Contents|Version|DeleteMarker)>.*?</\1>", re.DOTALL)


def _field(row: bytes, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>".encode(), row)
    return unescape(found[1].decode()) if found else ""


def _rows(make: Callable[[list[bytes]], list[bytes]]) -> Edit:
    """Change the rows of every listing of objects or versions."""

    def edit(call: Call, body: bytes) -> bytes:
        if call.key or call.method != "GET" or not {"versions", "list-type"} & call.query.keys():
            return body
        found = list(_ROW.finditer(body))
        if not found:
            return body
        changed = b"".join(make([row[0] for row in found]))
        return body[: found[0].start()] + changed + body[found[-1].end() :]

    return edit


@_rows
def minio_hides(rows: list[bytes]) -> list[bytes]:
    """Once `a` is written MinIO lists `a/b` no longer, and gives it all the same."""
    keys = {_field(row, "Key") for row in rows}
    parts = [(row, _field(row, "Key").split("/")) for row in rows]
    return [row for row, part in parts if not {"/".join(part[:end]) for end in range(1, len(part))} & keys]


def minio_hides_below(folder: str) -> Edit:
    """As minio_hides(), where the listing that is asked for does not show the object above: nothing is listed there,
    whatever the prefix and also where that object was deleted."""
    return _rows(lambda rows: [row for row in rows if not _field(row, "Key").startswith(folder)])


def minio_hides_after(folder: str) -> Edit:
    """As minio_hides_below(), but for what a page begins with that goes on with an object of the page before."""
    hides = minio_hides_below(folder)
    return lambda call, body: body if "key-marker" in call.query else hides(call, body)


def minio_tells_tags(server: Server, *, of_versions: bool = True, any_tags: bool = True) -> Edit:
    """MinIO's listing with `metadata=true`: with each object its metadata and its tags, blanks as `+`.

    Listings of versions tell them since 2023 (generateListVersionsResponse in its cmd/api-response.go). any_tags:
    False where no object has any, and none need be asked for.
    """

    def edit(call: Call, body: bytes) -> bytes:
        if call.query.get("metadata") != "true" or ("versions" in call.query and not of_versions):
            return body
        bucket = urlsplit(call.path).path.strip("/")

        def told(found: re.Match[bytes]) -> bytes:
            key = unquote_plus(_field(found[0], "Key"))
            version = {"VersionId": _field(found[0], "VersionId")} if found[1] == b"Version" else {}
            asked = any_tags and found[1] != b"DeleteMarker"
            tags = server.client.get_object_tagging(Bucket=bucket, Key=key, **version)["TagSet"] if asked else []
            said = escape(urlencode([(tag["Key"], tag["Value"]) for tag in tags]))
            more = "<UserMetadata><content-type>binary/octet-stream</content-type></UserMetadata>"
            more += f"<UserTags>{said}</UserTags>" if said else ""
            end = b"</%b>" % found[1]
            return found[0].replace(end, f"{more}<Internal><K>1</K><M>0</M></Internal>".encode() + end)

        return _ROW.sub(told, body)

    return edit


@_rows
def backwards(rows: list[bytes]) -> list[bytes]:
    """No server that we know: its keys go back."""
    return rows[::-1]


@_rows
def versity_times(rows: list[bytes]) -> list[bytes]:
    """VersityGW lists all markers before all versions, an old version with the time of its replacement, and a marker
    with the time of what it hides."""
    moments: dict[str, list[str]] = {}
    for row in rows:
        moments.setdefault(_field(row, "Key"), []).append(_field(row, "LastModified"))  # the newest first
    taken: dict[str, int] = {}
    changed = []
    for row in rows:
        key = _field(row, "Key")
        number = taken[key] = taken.get(key, -1) + 1
        marker = row.startswith(b"<DeleteMarker")
        at = min(number + 1, len(moments[key]) - 1) if marker else max(number - 1, 0)
        time = f"<LastModified>{moments[key][at]}</LastModified>".encode()
        changed.append(re.sub(rb"<LastModified>.*?</LastModified>", time, row))
    return sorted(changed, key=lambda row: not row.startswith(b"<DeleteMarker"))


def versity_bytes(call: Call, body: bytes) -> bytes:
    """VersityGW encodes no key, and writes a control character as it is: such a page is not XML."""
    if call.key or call.method != "GET" or not {"versions", "list-type"} & call.query.keys():
        return body
    encoded = b"<EncodingType>url</EncodingType>" in body

    def plain(found: re.Match[bytes]) -> bytes:
        return _unquoted(found[0]) if encoded else found[0].replace(b"\xef\xbf\xbd", b"\x01")

    body = re.sub(rb"(?<=<Key>).*?(?=</Key>)", plain, body)
    return body.replace(b"<EncodingType>url</EncodingType>", b"<EncodingType></EncodingType>")


def rgw_echo(call: Call, body: bytes) -> bytes:
    """Ceph RGW echoes a control character of a prefix as a reference that XML does not know."""
    if call.key or call.method != "GET" or not {"versions", "list-type"} & call.query.keys():
        return body
    return re.sub(rb"(<IsTruncated>)", rb"<StartAfter>&#x01;</StartAfter>\1", body, count=1)


def not_implemented(key: str) -> Fault:
    """One object that a server lists and does not give."""
    reply = error(501, "NotImplemented")
    return lambda call: reply if call.method == "GET" and call.key == key else None


def minio_excludes(call: Call, body: bytes) -> bytes:
    """MinIO keeps no versions of what begins with tmp/, nor of folders."""
    if "versioning" in call.query and call.method == "GET":
        more = b"<ExcludedPrefixes><Prefix>tmp/</Prefix></ExcludedPrefixes><ExcludeFolders>true</ExcludeFolders>"
        return re.sub(rb"(?=</VersioningConfiguration>)", more, body)
    return without_versions(call, body)


@_rows
def without_versions(rows: list[bytes]) -> list[bytes]:
    """What begins with tmp/ is there as version `null` only, where nothing says why: it was so for a while."""
    kept = [row for row in rows if not _field(row, "Key").startswith("tmp/") or b"<IsLatest>true" in row]
    null = b"<VersionId>null</VersionId>"
    return [
        re.sub(rb"<VersionId>.*?</VersionId>", null, row) if _field(row, "Key").startswith("tmp/") else row
        for row in kept
    ]


def refuses_deletion(keys: Collection[str], code: str, status: int) -> Fault:
    """What AWS and SeaweedFS (AccessDenied) and MinIO (InvalidRequest) answer to who deletes a version that is locked,
    or that the key has no right to delete. Several in one request are answered one by one."""
    message = "Object is WORM protected and cannot be overwritten" if code == "InvalidRequest" else "Access Denied."
    said = f"<Code>{code}</Code><Message>{message}</Message>"

    def fault(call: Call) -> Reply | None:
        if call.method == "DELETE" and "versionId" in call.query and call.key in keys:
            return Reply(status, f"<Error>{said}</Error>")
        if call.method == "POST" and "delete" in call.query:
            found = re.findall(r"<Key>(.*?)</Key><VersionId>(.*?)</VersionId>", call.body.decode())
            if {unescape(key) for key, _version in found} & {*keys}:
                rows = "".join(
                    f"<Error><Key>{key}</Key><VersionId>{version}</VersionId>{said}</Error>"
                    for key, version in found
                    if unescape(key) in keys
                )
                return Reply(200, f"<DeleteResult>{rows}</DeleteResult>")
        return None

    return fault


def rgw_refuses_several(call: Call) -> Reply | None:
    """Ceph RGW looks for the right to delete several at the bucket's ARN; its errors have no message."""
    several = call.method == "POST" and "delete" in call.query
    return Reply(403, "<Error><Code>AccessDenied</Code></Error>") if several else None


def garage(call: Call) -> Reply | None:
    """Garage has no versions, tags, lifecycle rules or locks, and says that its versioning is off."""
    missing = {"tagging", "lifecycle", "object-lock", "versions", "retention", "legal-hold"} & call.query.keys()
    if missing or (call.method == "PUT" and "versioning" in call.query):
        said = f"Unimplemented action: {call.method} {call.path}"
        return Reply(501, f"<Error><Code>NotImplemented</Code><Message>{escape(said)}</Message></Error>")
    return None


class PublicAccessBlock:
    """Amazon S3 and Ceph RGW can close a bucket to the public, whatever a policy or an access control list says.

    `administrator`: the access key that may do so; others may look. `keeps`: False where it answers 200 and forgets.
    """

    def __init__(self, administrator: str, *, keeps: bool = True) -> None:
        self._administrator, self._keeps = administrator, keeps
        self.closed: dict[str, str] = {}  # by bucket, the document

    def fault(self, call: Call) -> Reply | None:
        bucket = urlsplit(call.path).path.lstrip("/").partition("/")[0]
        if "publicAccessBlock" in call.query:
            if call.method != "PUT":
                unset = error(404, "NoSuchPublicAccessBlockConfiguration")
                return Reply(body=self.closed[bucket]) if bucket in self.closed else unset
            if call.access_key != self._administrator:
                return error(403, "AccessDenied")
            if self._keeps:
                self.closed[bucket] = call.body.decode()
            return Reply()
        public = call.headers.get("x-amz-acl", "").startswith("public-")
        return error(403, "AccessDenied") if public and bucket in self.closed else None


def minio_marker_rule(call: Call, body: bytes) -> bytes:
    """A rule of MinIO's own among the bucket's: a deleted object goes with all its versions."""
    if call.method != "GET" or "lifecycle" not in call.query:
        return body
    rule = b"<Rule><ID>d</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>"
    rule += b"<DelMarkerExpiration><Days>1</Days></DelMarkerExpiration></Rule>"
    return body.replace(b"</LifecycleConfiguration>", rule + b"</LifecycleConfiguration>")
