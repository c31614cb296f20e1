# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a bucket is told beside its objects: versioning, rules, policy, encryption, lock. Read, compared, and set again.

All but versioning and policy are kept as the XML that the server gave, see documents.py.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from typing import Callable, NamedTuple, Optional
from xml.etree import ElementTree

from ..base import throttle, typed
from ..base.errors import LifeboatError
from . import client as s3_client
from . import documents, signed
from .bucket import Bucket

VERSIONING, ENCRYPTION, LOCK, POLICY = "versioning", "encryption", "object lock", "policy"
BLOCK = "public access block"
EXCEPTED = "versioning exceptions"
# Servers that do not know a request say so in many ways; a key without the right to ask is told AccessDenied.
_UNTOLD = (*s3_client.UNSUPPORTED, "Unsupported", "InvalidRequest", "InvalidArgument", "BadRequest", "400")


class _Setting(NamedTuple):
    """request: its name in an address. document: the element that it is, nothing for JSON. unset: the server's code
    where it is not set."""

    request: str
    document: str
    unset: str = ""


# In the order in which they are set: what lets public policies through comes before these.
_SETTINGS: Mapping[str, _Setting] = {
    VERSIONING: _Setting("versioning", "VersioningConfiguration"),
    EXCEPTED: _Setting("versioning", "VersioningConfiguration"),
    ENCRYPTION: _Setting(
        "encryption", "ServerSideEncryptionConfiguration", "ServerSideEncryptionConfigurationNotFoundError"
    ),
    BLOCK: _Setting("publicAccessBlock", "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration"),
    "object ownership": _Setting("ownershipControls", "OwnershipControls", "OwnershipControlsNotFoundError"),
    "lifecycle": _Setting("lifecycle", "LifecycleConfiguration", "NoSuchLifecycleConfiguration"),
    POLICY: _Setting("policy", "", "NoSuchBucketPolicy"),
    "cors": _Setting("cors", "CORSConfiguration", "NoSuchCORSConfiguration"),
    "website": _Setting("website", "WebsiteConfiguration", "NoSuchWebsiteConfiguration"),
    "notification": _Setting("notification", "NotificationConfiguration"),
    "tags": _Setting("tagging", "Tagging", "NoSuchTagSet"),
    LOCK: _Setting("object-lock", "ObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"),
}
UNSET = tuple(setting.unset for setting in _SETTINGS.values() if setting.unset)
# What closes a bucket. BlockPublicAcls only refuses what IgnorePublicAcls makes private all the same, and with it Ceph
# RGW (18.2.7) refuses every write: it stays as it is.
_BLOCKED = ("IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_REFUSED = "BlockPublicAcls"
# Before the objects: what they replace is kept as an older version, and what was encrypted is encrypted again. All
# others come after them: a policy may forbid the copying, a rule may expire what comes back, and a default retention
# would lock what nobody had locked.
FIRST = (VERSIONING, EXCEPTED, ENCRYPTION)
# Backups of before kept these two as boto3 tells them: the operation and its argument that give the XML of that.
_OLD = {
    "lifecycle": ("PutBucketLifecycleConfiguration", "LifecycleConfiguration", "Rules"),
    "cors": ("PutBucketCors", "CORSConfiguration", "CORSRules"),
}


@dataclass(frozen=True)
class BucketSettings:
    """The settings of a bucket. values: by setting, XML; of versioning Enabled, Suspended or None; of the policy its
    JSON. None: nothing is set. A key is missing where the server does not tell, and of these `denied` are those that
    the key may not read."""

    values: Mapping[str, object]
    denied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """The result of apply(). changed: the settings that were set. refused: those that the server refused, and why."""

    changed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def read(bucket: Bucket, names: Collection[str] = ()) -> Mapping[str, object]:
    """Return the settings that the server tells, as in BucketSettings.values."""
    return inspect(bucket, names).values


def inspect(bucket: Bucket, names: Collection[str] = ()) -> BucketSettings:
    """Return the bucket's settings. Several are asked for at once: there may be a thousand buckets, far away. names:
    only these; empty: all."""
    wanted = {VERSIONING if name == EXCEPTED else name for name in names or _SETTINGS}  # one answer tells both
    asked = [name for name in _SETTINGS if name in wanted]
    found: dict[str, object] = {}
    denied: list[str] = []
    for name, told in zip(asked, throttle.mapped(lambda name: _ask(bucket, name), asked)):
        if told is None:
            denied.append(name)
        else:
            found.update(told)
    return BucketSettings(found, tuple(denied))


def _ask(bucket: Bucket, name: str) -> Optional[Mapping[str, object]]:
    """Return what the server tells of one setting; None where the key may not read it."""
    setting, attempted = _SETTINGS[name], f"read the bucket's {name}"
    try:
        body = bucket.ask("GET", query={setting.request: ""}, attempted=attempted).body
        return _parse_setting(name, setting, body, attempted, bucket.url)
    except LifeboatError as exc:
        code = s3_client.code(exc)
        if code and code == setting.unset:
            return {name: None}
        if code in s3_client.DENIED:
            return None
        if code not in _UNTOLD:
            raise
    return {}


def _parse_setting(name: str, setting: _Setting, body: bytes, attempted: str, subject: str) -> Mapping[str, object]:
    """Nothing of an answer to another question: a server that does not know this one may list the bucket."""
    if name == POLICY:
        try:
            policy = typed.load(body, lambda _field, cause: LifeboatError(attempted, subject, cause))
        except LifeboatError:
            return {}
        return {name: policy or None} if isinstance(policy, dict) else {}
    root = documents.shallow(signed.xml(body, attempted, subject), attempted, subject)
    if signed.plain(root.tag) != setting.document:
        return {}
    if name != VERSIONING:
        return {name: documents.text(root) if len(root) else None}
    usual = {"Status", "MfaDelete", "MFADelete"}
    more = [one for one in root if signed.plain(one.tag) not in usual]
    return {name: documents.content(root, "Status") or None, EXCEPTED: documents.text(root) if more else None}


def alike(setting: str, first: object, second: object) -> bool:
    """Do they mean the same? Servers give the arrays of a policy and the rules in any order."""
    if setting == POLICY:
        return _unordered(_parsed(first)) == _unordered(_parsed(second))
    try:
        return documents.same(_xml(setting, first), _xml(setting, second), f"the bucket's {setting}")
    except ValueError:
        return first == second


def _parsed(policy: object) -> object:
    """Its text where that cannot be read: it is equal to the same text alone."""
    try:
        unread = partial(LifeboatError, "read the policy")
        return typed.load(policy, unread) if isinstance(policy, str) else policy
    except LifeboatError:
        return policy


def _xml(setting: str, value: object) -> str:
    """As XML, also where it is of a backup that kept it as boto3 tells it. Raises ValueError where it is neither."""
    if isinstance(value, str):
        return value
    if setting not in _OLD:
        raise ValueError(setting)
    operation, argument, part = _OLD[setting]
    return s3_client.document(operation, **{argument: {part: value}})


def _unordered(value: object) -> object:
    """Return an array as a set, of which one element is the element."""
    if isinstance(value, Mapping):
        return {key: _unordered(item) for key, item in value.items()}
    if isinstance(value, list):
        items = sorted({_text(item): item for item in map(_unordered, value)}.items())  # each once: lists hold lists
        return items[0][1] if len(items) == 1 else [item for _text, item in items]
    return value


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def lost(expected: Mapping[str, object], have: Mapping[str, object]) -> list[str]:
    """Return the settings that were made and are gone: versioning switched off, or no rule left at all."""
    gone = []
    for setting, value in expected.items():
        if not value or setting not in have:
            continue
        switched_off = setting == VERSIONING and value == "Enabled" and have[setting] != "Enabled"
        if switched_off or not have[setting]:
            gone.append(setting)
    return gone


def changed(expected: Mapping[str, object], have: Mapping[str, object]) -> list[str]:
    """Return the settings that are made otherwise than they were: perhaps rightly so, hence told and left alone."""
    return [
        setting
        for setting in expected
        if not (setting == VERSIONING and expected[setting] == "Enabled")  # that is lost then
        and expected[setting]
        and have.get(setting)
        and not alike(setting, expected[setting], have[setting])
    ]


def describe(setting: str, expected: Mapping[str, object], have: Mapping[str, object]) -> str:
    """Return one finding, in words."""
    if setting == VERSIONING:
        return f"versioning is {have.get(setting) or 'off'}, it was {expected[setting]}"
    return f"the bucket's {setting} is gone"


def added(expected: Mapping[str, object], have: Mapping[str, object]) -> list[str]:
    """Return the settings that are made and were not: perhaps rightly so, too. None is ever removed: a server that does
    not know such a request may take it for one to delete the bucket."""
    return [name for name, value in expected.items() if name != VERSIONING and not value and have.get(name)]


def apply(bucket: Bucket, expected: Mapping[str, object], *, whole: bool = False) -> Applied:
    """Set what is lost again. A setting that the server refuses stops none of the others, and raises nothing.

    whole: what differs too, as in a bucket that was made just now.
    """
    names = [setting for setting, value in expected.items() if value]
    try:
        have = read(bucket, names) if names else {}
        gone = [*lost(expected, have), *(changed(expected, have) if whole else [])]
    except LifeboatError as exc:
        return Applied((), dict.fromkeys(names, exc.cause))
    made: list[str] = []
    refused: dict[str, str] = {}
    for setting in [name for name in _SETTINGS if name in gone]:
        try:
            _set(bucket, setting, expected[setting])
            made.append(setting)
        except LifeboatError as exc:
            refused[setting] = exc.cause
    return Applied(tuple(made), refused)


def _set(bucket: Bucket, setting: str, value: object) -> None:
    if setting == "lifecycle":
        return _set_rules(bucket, value)
    _put(bucket, setting, _document(bucket, setting, value))
    if setting == ENCRYPTION:
        _require_taken(bucket)
    return None


def _document(bucket: Bucket, setting: str, value: object) -> bytes:
    if setting == VERSIONING:
        status = documents.new_element("Status", content=str(value))
        return documents.write(documents.new_element("VersioningConfiguration", [status]))
    if setting == POLICY:
        return (value if isinstance(value, str) else json.dumps(value)).encode()
    try:
        return documents.write(documents.read(_xml(setting, value), bucket.url))
    except ValueError as exc:
        raise LifeboatError(f"set the bucket's {setting}", bucket.url, f"it is not known how: {exc}") from exc


def _put(bucket: Bucket, setting: str, document: bytes) -> None:
    bucket.set(_SETTINGS[setting].request, document, f"set the bucket's {setting}")


def _require_taken(bucket: Bucket) -> None:
    """Does the server encrypt, now that it is to? One without its key takes the setting, and then no object.

    Begun and given up, an upload in parts leaves nothing, not even a version. Where it is refused, the setting goes.
    """
    key, attempted = ".lifeboat-encryption", "try the bucket's encryption"
    try:
        begun = bucket.ask("POST", key, {"uploads": ""}, attempted=attempted)
    except LifeboatError as exc:
        if s3_client.code(exc) in s3_client.DENIED:
            return  # nothing is known; the first object tells
        with contextlib.suppress(LifeboatError):
            bucket.ask("DELETE", query={_SETTINGS[ENCRYPTION].request: ""}, attempted="take back the encryption")
        raise LifeboatError(
            exc.attempted, exc.subject, f"with it the server takes no object: {exc.cause}", exc.remedy
        ) from exc
    with contextlib.suppress(LifeboatError):
        upload = documents.content(signed.xml(begun.body, attempted, bucket.url), "UploadId")
        bucket.ask("DELETE", key, {"uploadId": upload or ""}, attempted=attempted)


def _set_rules(bucket: Bucket, value: object) -> None:
    """All rules; where the server refuses one, all the others, and the error names it."""
    whole = documents.read(_document(bucket, "lifecycle", value).decode(), bucket.url)
    try:
        _put(bucket, "lifecycle", documents.write(whole))
    except LifeboatError as exc:
        rest = [one for one in whole if signed.plain(one.tag) != "Rule"]
        rules = [one for one in whole if signed.plain(one.tag) == "Rule"]
        kept: list[documents.Element] = []
        bad: list[str] = []
        for rule in rules if len(rules) > 1 else ():
            try:
                _put(bucket, "lifecycle", documents.write(documents.new_element(whole.tag, [*kept, rule, *rest])))
                kept.append(rule)
            except LifeboatError as refused:
                bad.append(f"rule {documents.content(rule, 'ID') or 'without a name'}: {refused.cause}")
        if kept:
            raise LifeboatError(exc.attempted, exc.subject, "; ".join(bad)) from exc
        raise


def blocked(bucket: Bucket) -> Optional[bool]:
    """Is all public access to the bucket blocked? None where the server has no such setting.

    A bucket that is not there blocks nothing. Raises where the key may not ask.
    """
    block = _block(bucket)
    return None if block is None else all(_is_true(block, name) for name in _BLOCKED)


def _is_true(block: ElementTree.Element, name: str) -> bool:
    return (documents.content(block, name) or "").lower() == "true"


def _block(bucket: Bucket) -> Optional[ElementTree.Element]:
    """Return the bucket's public access block, empty where there is none; None where the server has no such setting."""
    setting, attempted = _SETTINGS[BLOCK], f"read the bucket's {BLOCK}"
    try:
        body = bucket.ask("GET", query={setting.request: ""}, attempted=attempted).body
        told = _parse_setting(BLOCK, setting, body, attempted, bucket.url)
    except LifeboatError as exc:
        code = s3_client.code(exc)
        if code in (setting.unset, "NoSuchBucket"):
            return documents.new_element(setting.document)
        if code in _UNTOLD:
            return None
        raise
    if BLOCK not in told:
        return None
    return documents.read(str(told[BLOCK]), bucket.url) if told[BLOCK] else documents.new_element(setting.document)


def block(bucket: Bucket) -> None:
    """Block all public access to the bucket: by access control lists and by policies, those that are there and new."""
    before = _block(bucket)
    kept = [_REFUSED] if before is not None and _is_true(before, _REFUSED) else []
    names = [documents.new_element(name, content="true") for name in (*kept, *_BLOCKED)]
    _put(bucket, BLOCK, documents.write(documents.new_element(_SETTINGS[BLOCK].document, names)))


def exists(bucket: Bucket) -> bool:
    """Is the bucket there? Raises what keeps us from knowing: no answer, or no access.

    HEAD has no body and so no reason: what it refuses is asked again by a listing, which says why.
    """
    try:
        with s3_client.translated_errors("look for the bucket", bucket.url):
            bucket.client.head_bucket(Bucket=bucket.name)
    except LifeboatError as exc:
        if s3_client.code(exc) in ("NoSuchBucket", "404"):
            return False
        if s3_client.code(exc) not in ("400", "403", "507"):
            raise
    else:
        return True
    try:
        bucket.ask("GET", query={"list-type": "2", "max-keys": "1"}, attempted="look into the bucket")
    except LifeboatError as exc:
        if s3_client.code(exc) in ("NoSuchBucket", "404"):
            return False
        raise
    return True


def make(bucket: Bucket, *, lock: bool = False, missing: Callable[[], None] = lambda: None) -> bool:
    """Make the bucket where it is missing; returns whether it was. lock: as in create(), if the server can do that.
    missing: called before one is made."""
    if exists(bucket):
        return False
    missing()
    try:
        create(bucket, lock=lock)
    except LifeboatError as exc:
        if not lock or not (400 <= s3_client.status(exc) < 500 or s3_client.code(exc) in s3_client.UNSUPPORTED):
            raise
        create(bucket)
    return True


def abandoned(bucket: Bucket, name: re.Pattern[str], before: datetime) -> list[Bucket]:
    """Scratch buckets at this endpoint of killed runs. name: its first group is when one was made, as digits."""
    found = []
    for other in bucket.client.list_buckets().get("Buckets", ()):
        match = name.fullmatch(other["Name"])
        with contextlib.suppress(ValueError):  # no time at all: not ours
            made = match and datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
            found += [replace(bucket, name=other["Name"])] if made and made < before else []
    return found


def create(bucket: Bucket, *, lock: bool = False) -> None:
    """Make the bucket; `lock`: so that objects in it can be locked, which can be chosen only now."""
    options: dict[str, object] = {"ObjectLockEnabledForBucket": True} if lock else {}
    meta = bucket.client.meta
    # Amazon takes no word for the default region and wants one for any other; other servers have their own.
    if "amazonaws.com" in str(getattr(meta, "endpoint_url", "")) and meta.region_name != "us-east-1":
        options["CreateBucketConfiguration"] = {"LocationConstraint": meta.region_name}
    with s3_client.translated_errors("make the bucket", bucket.url):
        bucket.client.create_bucket(Bucket=bucket.name, **options)
