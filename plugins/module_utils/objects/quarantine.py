# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put objects aside before they are overwritten or removed: as older versions, else in a quarantine bucket.

Such a bucket is found again by its name, and removed when an operator says so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..base import throttle
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError
from ..mirror.store import STAMPED, quarantine_name
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import delete_bucket
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket

WORKERS = 16
_WHOLE = 5 << 30  # what one CopyObject takes: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
_HEADERS = ("ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Metadata")


class Aside:
    """Where a recovery leaves what it replaces. versioned: the server itself keeps what is overwritten or removed."""

    def __init__(self, source: Bucket, stamp: str, *, versioned: bool, log: Log) -> None:
        self._source = source
        self._versioned = versioned
        self._log = log
        self._created = False
        self._lock = threading.Lock()
        self.name = quarantine_name(source.name, stamp)
        self.copied = 0
        self.unreadable = 0

    @property
    def bucket(self) -> str:
        """The quarantine bucket's name; empty where none was needed."""
        return self.name if self._created else ""

    def keep(self, keys: Iterable[str]) -> None:
        """See to it that what is under `keys` now is still to be had after they are overwritten."""
        if not self._versioned:
            throttle.each(self._copy, keys, WORKERS)

    def remove(self, keys: Iterable[str]) -> None:
        """Take `keys` out of the bucket; what they hold is kept."""
        throttle.each(self._delete if self._versioned else self._move, keys, WORKERS)

    def _copy(self, key: str) -> bool:
        client, name = self._source.client, self._source.name
        with self._lock:
            if not self._created:
                s3_settings.make(replace(self._source, name=self.name))
                self._created = True
                self._log(f"what is overwritten is kept in the bucket {self.name}")
        try:
            with s3_client.translated_errors("put the object aside", f"{key} in {self._source.url}"):
                head = client.head_object(Bucket=name, Key=key)
                source = {"Bucket": name, "Key": key}
                if head["ContentLength"] <= _WHOLE:
                    client.copy_object(Bucket=self.name, Key=key, CopySource=source)
                else:  # a copy in parts takes its headers from us
                    headers = {header: head[header] for header in _HEADERS if head.get(header)}
                    client.copy(source, self.name, key, ExtraArgs=headers)
        except NotFoundError:
            return True
        except LifeboatError as exc:
            if s3_client.code(exc) not in ("InternalError", "500"):
                raise
            self._log(f"{key} cannot be read, so its damaged bytes cannot be put aside: {exc.cause}")
            with self._lock:
                self.unreadable += 1
            return False
        with self._lock:
            self.copied += 1
        return True

    def _move(self, key: str) -> None:
        if self._copy(key):
            self._delete(key)

    def _delete(self, key: str) -> None:
        with s3_client.translated_errors("take the object out", f"{key} in {self._source.url}"):
            self._source.client.delete_object(Bucket=self._source.name, Key=key)


def quarantined(source: Bucket, additional: Sequence[str] = ()) -> list[Bucket]:
    """Quarantine buckets of this one, and of the `additional` at its endpoint, oldest first."""
    protected = (source.name, *additional)
    with s3_client.translated_errors("list the buckets in quarantine", source.endpoint_url):
        names = sorted(found["Name"] for found in source.client.list_buckets().get("Buckets", ()))
    matches = [found for name in names if (found := STAMPED.fullmatch(name))]
    ours = [found for found in matches if any(quarantine_name(own, found[1]) == found[0] for own in protected)]
    return [replace(source, name=found[0]) for found in ours]


def remove(quarantine: Bucket) -> None:
    """Delete all that the bucket holds, older versions too, and the bucket."""
    client, name = quarantine.client, quarantine.name

    def delete(listed: s3_bucket.Version) -> None:
        with s3_client.translated_errors("delete what is in quarantine", f"{listed.key} in {quarantine.url}"):
            client.delete_object(Bucket=name, Key=listed.key)

    throttle.each(delete, s3_bucket.objects(quarantine), WORKERS)
    stays = s3_client.purge(client, name, "")
    if stays:
        raise IntegrityError("empty the quarantine bucket", quarantine.url, "; ".join(stays[:3]), "Ask again later.")
    delete_bucket.delete_bucket(quarantine, confirm=name if STAMPED.fullmatch(name) else "")
