# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signed S3 requests without boto3's parser, which takes longer for a page of a listing than the server does.

Signing, connections and their errors are botocore's. Refusals read as those of s3.py.
"""

from __future__ import annotations

import email.utils
import functools
import random
import time
import warnings
from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import quote
from xml.etree import ElementTree

from . import s3
from .errors import LifeboatError

PATIENCE = 4  # attempts in all
_PAUSE = 0.5
_BUSY = ("InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "ServerBusy")


class Requests:
    """GET and HEAD of buckets at one endpoint, path style. Thread-safe; nothing is sent before the first call."""

    def __init__(self, endpoint_url: str, region: str, access_key: str, secret_key: str, ca_bundle: str = "") -> None:
        self._endpoint = endpoint_url.rstrip("/")
        self._region = region or "us-east-1"
        self._keys = (access_key, secret_key)
        self._ca_bundle = ca_bundle

    @functools.cached_property
    def _session(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from botocore.httpsession import URLLib3Session  # noqa: PLC0415
            from botocore.utils import get_environ_proxies  # noqa: PLC0415
        return URLLib3Session(
            verify=self._ca_bundle or True,
            proxies=get_environ_proxies(self._endpoint),
            timeout=(s3.CONNECT_TIMEOUT, s3.READ_TIMEOUT),
            max_pool_connections=8,
        )

    def get(self, bucket: str, query: Mapping[str, str], attempted: str, subject: str) -> bytes:
        """The body of the answer. A server that is busy or cuts the line is asked again, for a bounded time."""
        for attempt in range(PATIENCE):
            try:
                return self._get(bucket, query, attempted, subject)
            except LifeboatError as exc:
                answer = getattr(exc.__cause__, "response", None)
                status = (answer or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                lasting = answer is not None and status not in (500, 502, 503, 504) and s3.code(exc) not in _BUSY
                if lasting or attempt == PATIENCE - 1:
                    raise
            time.sleep(_PAUSE * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _get(self, bucket: str, query: Mapping[str, str], attempted: str, subject: str) -> bytes:
        from botocore.exceptions import ClientError  # noqa: PLC0415

        with s3.spoken(attempted, subject):
            answer = self._send("GET", bucket, query)
            body: bytes = answer.content
            # Some answer 200 and an error: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
            error = _error(body) if answer.status_code != 200 or b"<Error>" in body[:512] else None
            if answer.status_code != 200 or error is not None:
                said = error or {"Code": str(answer.status_code), "Message": body[:200].decode("utf-8", "replace")}
                raise ClientError(
                    {"Error": said, "ResponseMetadata": {"HTTPStatusCode": answer.status_code}},  # type: ignore[arg-type,unused-ignore,typeddict-item]
                    attempted,
                )
            return body

    def _send(self, method: str, bucket: str, query: Mapping[str, str]) -> Any:
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.credentials import Credentials  # noqa: PLC0415

        words = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
        url = f"{self._endpoint}/{quote(bucket)}" + (f"?{words}" if words else "")
        request = AWSRequest(method=method, url=url, headers={"Accept-Encoding": "identity"})
        S3SigV4Auth(Credentials(*self._keys), "s3", self._region).add_auth(request)
        return self._session.send(request.prepare())

    def skew(self, bucket: str, subject: str) -> Optional[float]:
        """Seconds that the server's clock is ahead of this host's, to the second; None where it sends no date.

        Whatever it answers: a refusal has a date as well, and a clock that is far off is why it is refused.
        """
        before = time.time()
        with s3.spoken("ask for the time", subject):
            answer = self._send("HEAD", bucket, {})
        after = time.time()
        told = email.utils.parsedate_to_datetime(answer.headers["Date"]) if answer.headers.get("Date") else None
        if told is None:
            return None
        # The header says the second that has begun: the true time is anywhere in it.
        earliest, latest = told.timestamp() - after, told.timestamp() + 1 - before
        return 0.0 if earliest <= 0 <= latest else min(earliest, latest, key=abs)


def _error(body: bytes) -> Optional[dict[str, str]]:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat bounds entity expansion since 2.4.1
    except ElementTree.ParseError:
        return None
    if root.tag.rpartition("}")[2] != "Error":
        return None
    said = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    return {"Code": said.get("Code", ""), "Message": said.get("Message", "")}
