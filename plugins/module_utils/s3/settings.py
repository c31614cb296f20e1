# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a bucket is told beside its objects: versioning, lifecycle, policy, CORS. Read, compared, and set again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Callable

from ..base.errors import LifeboatError
from . import client as s3_client
from .bucket import Bucket
from .signed import fields

VERSIONING = "versioning"
_NONE = ("NoSuchLifecycleConfiguration", "NoSuchBucketPolicy", "NoSuchCORSConfiguration")
# Servers that do not know a request say so in many ways; a key without the right to ask is told AccessDenied.
_UNTOLD = (*s3_client.UNSUPPORTED, *s3_client.DENIED, "Unsupported")


@dataclass(frozen=True)
class Told:
    """values: {versioning, lifecycle, policy, cors}. None: nothing is set. A key is missing where the server does not
    tell, and of these `denied` are those that the key may not read. versioning: Enabled, Suspended, or None."""

    values: Mapping[str, object]
    denied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """made: the settings that were set. refused: those that the server would not take, and its words."""

    made: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def read(bucket: Bucket) -> Mapping[str, object]:
    """What the server tells, as Told.values."""
    return look(bucket).values


def look(bucket: Bucket, *, quick: bool = False) -> Told:
    """Read the settings. quick: where nothing is set, as mostly, boto3 is not loaded, which takes longer than all that
    is asked."""
    name = bucket.name
    asked: dict[str, Callable[[], object]] = {
        VERSIONING: lambda: bucket.client.get_bucket_versioning(Bucket=name).get("Status"),
        "lifecycle": lambda: bucket.client.get_bucket_lifecycle_configuration(Bucket=name).get("Rules"),
        "policy": lambda: json.loads(bucket.client.get_bucket_policy(Bucket=name)["Policy"]),
        "cors": lambda: bucket.client.get_bucket_cors(Bucket=name).get("CORSRules"),
    }
    found: dict[str, object] = {}
    denied: list[str] = []
    for setting, ask in asked.items():
        attempted = f"read the bucket's {setting}"
        try:
            if quick and setting == VERSIONING:
                found[setting] = fields(bucket.ask_xml(attempted, {setting: ""})).get("Status") or None
                continue
            if quick:
                bucket.ask("GET", query={setting: ""}, attempted=attempted)
            with s3_client.spoken(attempted, bucket.url):
                found[setting] = ask() or None
        except LifeboatError as exc:
            code = s3_client.code(exc)
            if code in _NONE:
                found[setting] = None
            elif code in s3_client.DENIED:
                denied.append(setting)
            elif code not in _UNTOLD:
                raise
    return Told(found, tuple(denied))


def canonical(setting: str, value: object) -> object:
    """The same for all that means the same: servers give the arrays of a policy and the rules in any order."""
    if setting == "policy":
        return _unordered(json.loads(value) if isinstance(value, str) else value)
    if setting == "lifecycle" and isinstance(value, list):
        return sorted(value, key=_text)
    return value


def _unordered(value: object) -> object:
    """An array as a set, of which one element is the element."""
    if isinstance(value, Mapping):
        return {key: _unordered(item) for key, item in value.items()}
    if isinstance(value, list):
        items = sorted({_text(_unordered(item)): _unordered(item) for item in value}.items())
        return items[0][1] if len(items) == 1 else [item for _text, item in items]
    return value


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def lost(wanted: Mapping[str, object], have: Mapping[str, object]) -> list[str]:
    """The settings that were made and are gone: versioning switched off, or no rule left at all."""
    gone = []
    for setting, value in wanted.items():
        if not value or setting not in have:
            continue
        switched_off = value == "Enabled" and have[setting] != "Enabled"
        if switched_off if setting == VERSIONING else not have[setting]:
            gone.append(setting)
    return gone


def changed(wanted: Mapping[str, object], have: Mapping[str, object]) -> list[str]:
    """The settings that are made otherwise than they were: perhaps rightly so, hence told and left alone."""
    return [
        setting
        for setting in wanted
        if setting != VERSIONING
        and wanted[setting]
        and have.get(setting)
        and canonical(setting, have[setting]) != canonical(setting, wanted[setting])
    ]


def describe(setting: str, have: Mapping[str, object]) -> str:
    """One finding, in words."""
    if setting == VERSIONING:
        return f"versioning is {have.get(setting) or 'off'}, it was Enabled"
    return f"the bucket's {setting} is gone"


def apply(bucket: Bucket, wanted: Mapping[str, object]) -> Applied:
    """Set what is lost again. A setting that the server refuses stops none of the others, and raises nothing."""
    try:
        gone = lost(wanted, read(bucket))
    except LifeboatError as exc:
        return Applied((), {setting: exc.cause for setting, value in wanted.items() if value})
    made: list[str] = []
    refused: dict[str, str] = {}
    for setting in gone:
        value = wanted[setting]
        try:
            if setting == "lifecycle" and isinstance(value, list):
                _put_rules(bucket, value)
            else:
                _put(bucket, setting, value)
            made.append(setting)
        except LifeboatError as exc:
            refused[setting] = exc.cause
    return Applied(tuple(made), refused)


def _put(bucket: Bucket, setting: str, value: object) -> None:
    client, name = bucket.client, bucket.name
    with s3_client.spoken(f"set the bucket's {setting}", bucket.url):
        if setting == VERSIONING:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        elif setting == "lifecycle":
            client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": value})
        elif setting == "policy":
            client.put_bucket_policy(Bucket=name, Policy=value if isinstance(value, str) else json.dumps(value))
        else:
            client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": value})


def _put_rules(bucket: Bucket, rules: list[object]) -> None:
    """All rules; where the server refuses one, all the others, and the error names it."""
    try:
        _put(bucket, "lifecycle", rules)
    except LifeboatError as exc:
        kept: list[object] = []
        bad: list[str] = []
        for rule in rules if len(rules) > 1 else ():
            try:
                _put(bucket, "lifecycle", [*kept, rule])
                kept.append(rule)
            except LifeboatError as refused:
                name = rule.get("ID") if isinstance(rule, Mapping) else ""
                bad.append(f"rule {name or 'without a name'}: {refused.cause}")
        if kept:
            raise LifeboatError(exc.attempted, exc.subject, "; ".join(bad)) from exc
        raise


def exists(bucket: Bucket) -> bool:
    """Is the bucket there? Raises what keeps us from knowing: no answer, or no access.

    HEAD has no body and so no reason: what it refuses is asked again by a listing, which says why.
    """
    try:
        with s3_client.spoken("look for the bucket", bucket.url):
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


def make(bucket: Bucket) -> bool:
    """Make the bucket where it is missing; returns whether it was."""
    if exists(bucket):
        return False
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
    with s3_client.spoken("make the bucket", bucket.url):
        bucket.client.create_bucket(Bucket=bucket.name, **options)
