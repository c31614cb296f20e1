# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other S3 servers do, reproduced by a proxy before SeaweedFS, as it was recorded on loopback in November 2026.

Each is a fault or an edit for s3_faults.faulty(). MinIO is of February 2026, VersityGW of August 2026, Ceph RGW 18.2.7.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from urllib.parse import quote, unquote_plus
from xml.sax.saxutils import escape, unescape

from s3_faults import Call, Edit, Fault, Reply
from s3_servers import Server


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


def minio_overwrites(bucket: str, key: str, version: str, etag: str) -> Edit:
    """As after `PUT ?versionId=OLD`: that very version has other bytes, of the same length, and another ETag."""

    def edit(call: Call, body: bytes) -> bytes:
        if not call.path.startswith(f"/{bucket}") or "versions" not in call.query:
            return body
        rows = re.split(rb"(?=<Version>)", body)
        of_it = (f"<Key>{key}</Key>".encode(), f"<VersionId>{version}</VersionId>".encode())
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
