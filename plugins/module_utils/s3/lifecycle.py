# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one lifecycle rule that a vault needs: what was replaced or removed goes after so many days, what is live never.

The seed expired objects by age, live ones too: after 30 days the backup of an object that nobody changed was gone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ..base.errors import LifeboatError
from . import client
from .settings import HasBucket

ABORT_DAYS = 7  # unfinished uploads cost money and show in no listing
_REFUSED_FORM = (*client.UNSUPPORTED, "MalformedXML", "InvalidRequest", "InvalidArgument", "400")
_DELETE_MARKERS, _UPLOADS = "delete markers that hide nothing any more", "unfinished uploads"


def rule(id: str, days: int, prefix: str = "") -> dict[str, Any]:
    """Replaced and removed objects stay `days`; lone delete markers and unfinished uploads are cleaned up."""
    return {
        "ID": id,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_DAYS},
    }


def read(bucket: HasBucket) -> Optional[list[dict[str, Any]]]:
    """The bucket's rules; None where the server knows no such thing."""
    try:
        with client.spoken("read the bucket's lifecycle", bucket.url):
            rules: list[dict[str, Any]] = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"]
            return rules
    except LifeboatError as exc:
        if client.code(exc) == "NoSuchLifecycleConfiguration":
            return []
        if client.code(exc) in client.UNSUPPORTED:
            return None
        raise


def right(have: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> bool:
    """Whether our rule is among them and expires what it should, of everything it should."""
    mine = _mine(have, wanted)
    return mine is not None and (
        mine.get("Status") == "Enabled"
        and mine.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays") == _days(wanted)
        and _whole(mine) == _whole(wanted)
        and not expires_live(mine)
    )


def dropped(have: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> list[str]:
    """What the server does not clean up although the rule said so."""
    mine = _mine(have, wanted) or {}
    found = []
    if not mine.get("Expiration", {}).get("ExpiredObjectDeleteMarker"):
        found.append(_DELETE_MARKERS)
    if not mine.get("AbortIncompleteMultipartUpload"):
        found.append(_UPLOADS)
    return found


def expires_live(item: dict[str, Any]) -> bool:
    """Whether a rule removes objects because they are old, although nobody replaced or removed them."""
    expiration = item.get("Expiration", {})
    return item.get("Status") == "Enabled" and ("Days" in expiration or "Date" in expiration)


def shorter(item: dict[str, Any], days: int) -> bool:
    """Whether a rule removes replaced objects sooner than after `days`."""
    said = item.get("NoncurrentVersionExpiration", {})
    return item.get("Status") == "Enabled" and "NoncurrentDays" in said and said["NoncurrentDays"] < days


def put(bucket: HasBucket, have: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Set our rule beside those of others, in the fullest form that the server takes; returns what it then says."""
    others = [item for item in have if item.get("ID") != wanted["ID"]]
    forms = list(_forms(wanted))
    for form in forms:
        try:
            with client.spoken("set the bucket's lifecycle", bucket.url):
                bucket.client.put_bucket_lifecycle_configuration(
                    Bucket=bucket.name, LifecycleConfiguration={"Rules": [*others, form]}
                )
            break
        except LifeboatError as exc:
            if client.code(exc) not in _REFUSED_FORM or form is forms[-1]:
                raise
    return read(bucket) or []


def _forms(wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rule, and what is left of it for servers that do not know all of its parts."""
    form = copy.deepcopy(wanted)
    yield form
    for part in ("AbortIncompleteMultipartUpload", "Expiration"):
        form = {name: value for name, value in form.items() if name != part}
        yield form


def _mine(have: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> Optional[dict[str, Any]]:
    return next((item for item in have if item.get("ID") == wanted["ID"]), None)


def _days(item: dict[str, Any]) -> int:
    days: int = item["NoncurrentVersionExpiration"]["NoncurrentDays"]
    return days


def _whole(item: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What a rule is about: its prefix, and whatever else narrows it. Old servers say Prefix outside of Filter."""
    about = item.get("Filter") or {}
    return about.get("Prefix", item.get("Prefix", "")) or "", tuple(sorted(set(about) - {"Prefix"}))
