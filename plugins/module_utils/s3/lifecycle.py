# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one lifecycle rule that a vault needs: what was replaced or removed goes after so many days, what is live never.

The seed expired objects by age, live ones too: after 30 days the backup of an object that nobody changed was gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, cast

from ..base.errors import LifeboatError
from . import client
from .bucket import Bucket

ABORT_DAYS = 7  # unfinished uploads cost money and show in no listing
_REFUSED_FORM = (*client.UNSUPPORTED, "MalformedXML", "InvalidRequest", "InvalidArgument", "400")


@dataclass(frozen=True)
class Rule:
    """about: its prefix, and whatever else narrows it. said: the whole rule, as servers take and tell it."""

    id: str
    enabled: bool
    about: tuple[str, tuple[str, ...]]
    noncurrent_days: Optional[int]
    expires_live: bool  # it removes objects because they are old, although nobody replaced or removed them
    markers: bool
    uploads: bool
    said: Mapping[str, object]

    def shorter(self, days: int) -> bool:
        """Whether it removes replaced objects sooner than after `days`."""
        return self.enabled and self.noncurrent_days is not None and self.noncurrent_days < days

    @property
    def dropped(self) -> list[str]:
        """What is not cleaned up, in words."""
        cleaned = {"delete markers that hide nothing any more": self.markers, "unfinished uploads": self.uploads}
        return [what for what, done in cleaned.items() if not done]


def rule(id: str, days: int, prefix: str = "") -> Rule:
    """Replaced and removed objects stay `days`; lone delete markers and unfinished uploads are cleaned up."""
    return parse(
        {
            "ID": id,
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "NoncurrentVersionExpiration": {"NoncurrentDays": days},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_DAYS},
        }
    )


def parse(said: Mapping[str, object]) -> Rule:
    """A rule as boto3 takes and gives it."""
    parts = cast("Mapping[str, Mapping[str, object]]", said)
    expiration, about = parts.get("Expiration", {}), parts.get("Filter") or {}
    days = parts.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    enabled = said.get("Status") == "Enabled"
    prefix = about.get("Prefix", said.get("Prefix")) or ""  # old servers say it outside of Filter
    return Rule(
        id=str(said.get("ID") or ""),
        enabled=enabled,
        about=(str(prefix), tuple(sorted(set(about) - {"Prefix"}))),
        noncurrent_days=days if isinstance(days, int) else None,
        expires_live=enabled and ("Days" in expiration or "Date" in expiration),
        markers=bool(expiration.get("ExpiredObjectDeleteMarker")),
        uploads="AbortIncompleteMultipartUpload" in said,
        said=said,
    )


def read(bucket: Bucket) -> Optional[list[Rule]]:
    """The bucket's rules; None where the server knows no such thing."""
    try:
        with client.spoken("read the bucket's lifecycle", bucket.url):
            answer = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name)
    except LifeboatError as exc:
        if client.code(exc) == "NoSuchLifecycleConfiguration":
            return []
        if client.code(exc) in client.UNSUPPORTED:
            return None
        raise
    return [parse(said) for said in answer["Rules"]]


def mine(have: Sequence[Rule], wanted: Rule) -> Optional[Rule]:
    """Our rule, where it is among them and expires what it should, of everything it should."""
    for found in have:
        if found.id == wanted.id:
            same = (found.enabled, found.noncurrent_days, found.about, found.expires_live)
            return found if same == (True, wanted.noncurrent_days, wanted.about, False) else None
    return None


def put(bucket: Bucket, have: Sequence[Rule], wanted: Rule) -> list[Rule]:
    """Set our rule next to those of others, in the fullest form that the server takes; returns what it then says."""
    others = [other.said for other in have if other.id != wanted.id]
    forms = list(_forms(wanted.said))
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


def _forms(form: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The rule, and what is left of it for servers that do not know all of its parts."""
    yield form
    for part in ("AbortIncompleteMultipartUpload", "Expiration"):
        form = {name: value for name, value in form.items() if name != part}
        yield form
