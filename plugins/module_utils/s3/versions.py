# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Really remove what was deleted from a bucket that keeps versions, as far as the server lets us."""

from __future__ import annotations

import threading
from collections import defaultdict

from ..base import filesystem
from ..base.clock import format_time
from ..base.errors import LifeboatError, UsageError
from .client import UNSUPPORTED, Client, code, spoken


def purge(client: Client, bucket: str, prefix: str) -> list[str]:
    """Remove every version of the objects below `prefix`, all of which are deleted already. In Amazon's words, "empty".

    Returns what stays and why, one line an object: a lock, or a key that may not delete versions. Neither is an error.
    A delete marker goes only after all that it hides, else the object would be back.
    """
    url = f"s3://{bucket}/{prefix}"
    hidden: dict[str, list[str]] = defaultdict(list)
    markers: dict[str, list[str]] = defaultdict(list)
    try:
        with spoken("list the versions", url):
            for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Versions", ()):
                    hidden[item["Key"]].append(item["VersionId"])
                for deletemarker in page.get("DeleteMarkers", ()):
                    markers[deletemarker["Key"]].append(deletemarker["VersionId"])
    except LifeboatError as exc:
        if code(exc) in UNSUPPORTED:
            return []
        return [f"{url}: its versions could not be listed: {exc.cause}"]
    kept: dict[str, str] = {}
    lock = threading.Lock()

    def empty(key: str) -> None:
        for version in hidden[key]:
            try:
                _drop(client, bucket, key, version)
            except UsageError as exc:  # every other failure is one, and is raised
                with lock:
                    kept[key] = _why(client, bucket, key, version, exc)
        for version in markers[key] if key not in kept else ():
            _drop(client, bucket, key, version)

    filesystem.parallel(empty, sorted({*hidden, *markers}), workers=8)
    return [f"s3://{bucket}/{key}: {why}" for key, why in sorted(kept.items())]


def _drop(client: Client, bucket: str, key: str, version: str) -> None:
    with spoken("delete a version", f"s3://{bucket}/{key}"):
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)


def _why(client: Client, bucket: str, key: str, version: str, refused: LifeboatError) -> str:
    """A lock tells until when; what else refuses is the key's policy."""
    try:
        with spoken("look at the lock", f"s3://{bucket}/{key}"):
            answer = client.get_object_retention(Bucket=bucket, Key=key, VersionId=version)
        lock = answer["Retention"]
        return f"locked until {format_time(lock['RetainUntilDate'])} ({lock['Mode']})"
    except (LifeboatError, LookupError):
        return refused.cause
