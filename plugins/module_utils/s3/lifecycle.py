# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one lifecycle rule that a vault needs: what was replaced or removed goes after so many days, what is live never.

The seed expired objects by age, live ones too: after 30 days the backup of an object that nobody changed was gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from ..base.errors import LifeboatError
from . import client, documents, signed
from .bucket import Bucket
from .documents import Element, content, new_element

ABORT_DAYS = 7  # unfinished uploads cost money and show in no listing
_REFUSED_FORM = (*client.UNSUPPORTED, "MalformedXML", "InvalidRequest", "InvalidArgument", "400")
_ABORT, _EXPIRATION = "AbortIncompleteMultipartUpload", "Expiration"
_DOCUMENT, _READ = "LifecycleConfiguration", "read the bucket's lifecycle"


@dataclass(frozen=True)
class Rule:
    """A rule of a bucket. about: its prefix, and whatever else narrows it. element: the whole rule as XML."""

    id: str
    enabled: bool
    about: tuple[str, tuple[str, ...]]
    noncurrent_days: Optional[int]
    expires_live: bool  # it removes objects because they are old, although nobody replaced or removed them
    markers: bool
    uploads: bool
    element: Element

    def shorter(self, days: int) -> bool:
        """Return whether it removes replaced objects sooner than after `days`. Without a number of days (MinIO: only
        NewerNoncurrentVersions) it does so at once."""
        expires = documents.child(self.element, "NoncurrentVersionExpiration") is not None
        return self.enabled and expires and (self.noncurrent_days or 0) < days

    @property
    def forgets_deleted(self) -> Optional[int]:
        """Days after which an object that was deleted goes with all its versions: MinIO's DelMarkerExpiration."""
        days = content(self.element, "DelMarkerExpiration", "Days") or ""
        return int(days) if self.enabled and days.isdecimal() else None


def rule(id: str, days: int, prefix: str = "") -> Rule:
    """Replaced and removed objects stay `days`; lone delete markers and unfinished uploads are cleaned up."""
    parts = [
        new_element("ID", content=id),
        new_element("Filter", [new_element("Prefix", content=prefix)]),
        new_element("Status", content="Enabled"),
        new_element(_EXPIRATION, [new_element("ExpiredObjectDeleteMarker", content="true")]),
        new_element("NoncurrentVersionExpiration", [new_element("NoncurrentDays", content=str(days))]),
        new_element(_ABORT, [new_element("DaysAfterInitiation", content=str(ABORT_DAYS))]),
    ]
    return parse(new_element("Rule", parts))


def parse(element: Element) -> Rule:
    about = documents.child(element, "Filter")
    days = content(element, "NoncurrentVersionExpiration", "NoncurrentDays") or ""
    enabled = content(element, "Status") == "Enabled"
    prefix = (
        content(element, "Filter", "Prefix") or content(element, "Prefix") or ""
    )  # old servers say it outside of Filter
    narrow = {signed.plain(part.tag) for part in (about if about is not None else ())} - {"Prefix"}
    return Rule(
        id=content(element, "ID") or "",
        enabled=enabled,
        about=(prefix, tuple(sorted(narrow))),
        noncurrent_days=int(days) if days.isascii() and days.isdigit() else None,
        expires_live=enabled and any(content(element, _EXPIRATION, name) is not None for name in ("Days", "Date")),
        markers=content(element, _EXPIRATION, "ExpiredObjectDeleteMarker") == "true",
        uploads=documents.child(element, _ABORT) is not None,
        element=element,
    )


def read(bucket: Bucket) -> Optional[list[Rule]]:
    """Return the bucket's rules; None where the server does not know rules."""
    try:
        root = bucket.ask_xml(_READ, {"lifecycle": ""})
    except LifeboatError as exc:
        if client.code(exc) == "NoSuchLifecycleConfiguration":
            return []
        if client.code(exc) in client.UNSUPPORTED:
            return None
        raise
    if signed.plain(root.tag) != _DOCUMENT:
        return None
    return [parse(element) for element in root if signed.plain(element.tag) == "Rule"]


def mine(have: Sequence[Rule], expected: Rule) -> Optional[Rule]:
    """Return our rule if it is among them and expires what it should, of everything it should."""
    for found in have:
        if found.id == expected.id:
            same = (found.enabled, found.noncurrent_days, found.about, found.expires_live)
            return found if same == (True, expected.noncurrent_days, expected.about, False) else None
    return None


def uncleaned(bucket: Bucket, rule: Rule) -> list[str]:
    """Return what nothing cleans up in the bucket, in words.

    MinIO keeps no rule for unfinished uploads: it aborts them by itself after a day (`stale_uploads_expiry`).
    """
    cleaned = {"delete markers that hide nothing any more": rule.markers}
    cleaned["unfinished uploads"] = rule.uploads or _server(bucket).startswith("MinIO")
    return [what for what, done in cleaned.items() if not done]


def _server(bucket: Bucket) -> str:
    """Return what the server calls itself."""
    with client.translated_errors("look for the bucket", bucket.url):
        answer = bucket.client.head_bucket(Bucket=bucket.name)
    return str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("server", ""))


def put(bucket: Bucket, have: Sequence[Rule], rule: Rule) -> list[Rule]:
    """Set our rule next to those of others, in the fullest form that the server takes; returns what it then says."""
    others = [other.element for other in have if other.id != rule.id]
    forms = list(_forms(rule.element))
    for form in forms:
        try:
            document = documents.write(new_element(_DOCUMENT, [*others, form]))
            bucket.set("lifecycle", document, "set the bucket's lifecycle")
            break
        except LifeboatError as exc:
            if client.code(exc) not in _REFUSED_FORM or form is forms[-1]:
                raise
    return read(bucket) or []


def _forms(form: Element) -> Iterator[Element]:
    """Yield the rule, and what is left of it for servers that do not know all of its parts."""
    yield form
    for part in (_ABORT, _EXPIRATION):
        form = new_element("Rule", [one for one in form if one.tag != part])
        yield form
