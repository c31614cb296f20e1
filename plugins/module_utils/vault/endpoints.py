# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stack's two S3 endpoints can do, remembered for a day, and what status and preflight say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional

from ..base import filesystem, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.errors import LifeboatError, Log
from ..base.text import named
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import error_registry
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket, Doubts, Version
from ..s3.signed import NULL
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened
from . import probe, writer
from .probe import Report
from .separation import apart

FRESH = timedelta(days=1)
SKEW = 30.0  # seconds
REFUSED = 15 * 60.0  # from here on S3 refuses: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
SOURCE, VAULT = "source", "vault"
_UNNEEDED = {SOURCE: ("lifecycle", "object_lock", "conditions"), VAULT: ("times",)}  # what nobody needs of each
_OF_THE_BUCKET = {
    "s3:GetBucketVersioning": "versioning", "s3:ListBucketVersions": "versions",
    "s3:GetLifecycleConfiguration": "lifecycle", "s3:GetBucketPolicy": "policy", "s3:GetBucketCORS": "cors",
    "s3:GetEncryptionConfiguration": "encryption", "s3:GetBucketWebsite": "website",
    "s3:GetBucketNotification": "notification", "s3:GetBucketTagging": "tagging",
    "s3:GetBucketPublicAccessBlock": "publicAccessBlock", "s3:GetBucketOwnershipControls": "ownershipControls",
    "s3:GetBucketObjectLockConfiguration": "object-lock",
}  # fmt: skip
_OF_A_LOCK = {"s3:GetObjectRetention": "retention", "s3:GetObjectLegalHold": "legal-hold"}
_UNSET = (*s3_settings.UNSET, "NoSuchKey", "NoSuchObjectLockConfiguration", "NoSuchObjectLegalHold")
_PLACES: dict[str, Callable[[Opened], Bucket]] = {SOURCE: buckets.source, VAULT: buckets.vault}


@dataclass(frozen=True)
class _Remembered:
    """A cached report. digest: of the endpoint and the key that it is of."""

    digest: str = field(metadata={"json": "of"})
    report: Report


def configured(config: Config) -> list[str]:
    """Return which of the two endpoints the stack has."""
    has = {SOURCE: config.objects.bucket, VAULT: config.vault.objects_bucket}
    return [side for side, bucket in has.items() if bucket]


def report(run: Opened, side: str, *, now: datetime, fresh: bool = False) -> Report:
    """Return what the endpoint can do: the cached report, or a new one if it is older than a day or `fresh` is set."""
    found = None if fresh else remembered(run.config, side, now=now)
    if found is None:
        found = _probed(run, side, now)
        path = run.config.state / f"endpoint-{side}.json"
        data = json.dumps(
            typed.plain(_Remembered(_endpoint_digest(run.config, side), found), nulls=True), indent=1
        ).encode()
        filesystem.remember(path, data, attempted="remember what the endpoint can do")
    return found


def _probed(run: Opened, side: str, now: datetime) -> Report:
    """Probe with the stack's own key; if that may make no bucket, with the source's admin key if one is configured."""
    bucket, mode = _PLACES[side](run), run.config.vault.object_lock if side == VAULT else ""
    found = probe.probe(bucket, mode=mode, now=now, rights=side == SOURCE)
    admin = buckets.configured(run.config) if side == SOURCE else None
    if admin and len(found.those(probe.UNKNOWN)) == len(found.features):
        bucket = replace(bucket, access_key=admin.access_key, secret_key=admin.secret_key)
        return replace(probe.probe(bucket, mode=mode, now=now, rights=False), denied=found.denied)
    return found


def remembered(config: Config, side: str, *, now: datetime) -> Optional[Report]:
    """Return the last report if it is of this endpoint and key and of the last day. An unreadable file is ignored."""
    path = config.state / f"endpoint-{side}.json"

    def wrong(field: str, cause: str) -> LifeboatError:
        return LifeboatError("read what the endpoint can do", str(path), f"{field} {cause}")

    try:
        found = typed.build(_Remembered, typed.load(filesystem.read_plain(path), wrong), wrong)
    except (OSError, LifeboatError):
        return None
    fresh = found.digest == _endpoint_digest(config, side) and timedelta() <= now - found.report.probed_at < FRESH
    return found.report if fresh else None


def _endpoint_digest(config: Config, side: str) -> str:
    """Return a digest that changes with the endpoint, the key and the requested lock, and reveals none of them."""
    source, vault, keys = config.objects, config.vault, config.secrets
    what = [source.endpoint_url, source.region, keys.get("objects_access_key", ""), source.service, str(source.port)]
    if side == VAULT:
        what = [vault.endpoint_url, vault.region, keys.get("vault_access_key", ""), vault.object_lock]
    return filesystem.sha256("\0".join(what).encode())


def doubts(run: Opened, *, log: Log, probing: bool = True) -> Doubts:
    """Return what the probes say against the listings. probing: a server is tried where no report is cached.

    What could not be tried is logged and no doubt: then only the listing itself can show that its times are wrong.
    """
    now = datetime.now(timezone.utc)
    found: dict[str, Report] = {}
    for side in configured(run.config):
        try:
            told = report(run, side, now=now) if probing else remembered(run.config, side, now=now)
        except LifeboatError as exc:
            log(f"what the {side}'s server does could not be tried: {exc.cause}")
        else:
            found.update({side: told} if told else {})
    times, dates = _of_times(found[SOURCE], log) if SOURCE in found else ("", "")
    etags = ""
    for side, told in found.items():
        if told.features["etags"].state == probe.MISSING:
            etags = etags or f"the {side}'s server lets a write choose its ETag"
    rights = writer.remembered(run.config)
    if rights and "choose ETags" in rights.those(writer.CAN):
        etags = etags or f"the {VAULT}'s server lets a write choose its ETag"
    return Doubts(times, etags, dates)


def _of_times(source: Report, log: Log) -> tuple[str, str]:
    """Return what is known against the times of its versions: of all of them, and of those that a write can choose."""
    times, seen = "", source.features["times"]
    if seen.state == probe.MISSING:
        times = f"the source's server does not tell when a version was written: {seen.detail}"
    elif seen.state == probe.UNKNOWN:
        log(f"whether the source lists its versions with the times of their writes is not known: {seen.detail}")
    dated = source.features["dates"].state == probe.MISSING
    return times, "the source's server lets a write choose the time that it is listed with" if dated else ""


def lacking(side: str, report: Report) -> list[str]:
    """List what is missing there and what that costs."""
    return [f"no {name}: {report.features[name].cost}" for name in _needed(side, report.those(probe.MISSING))]


def _needed(side: str, names: list[str]) -> list[str]:
    return [name for name in names if name not in _UNNEEDED[side]]


def checks(run: Opened, *, now: datetime, fresh: bool = False) -> list[Check]:
    """Return the checks for status, preflight and checklist: one per endpoint, and whether the vault is apart."""
    found: list[Check] = []
    for side in configured(run.config):
        try:
            told = report(run, side, now=now, fresh=fresh)
            found.append(check(run.config, side, told))
        except LifeboatError as exc:
            found.append(Check(f"{side} endpoint", FAIL, str(exc)))
            continue
        found += recovery_rights(run.config, told) if side == SOURCE else []
        found += rights(run) if side == SOURCE else []
    if configured(run.config) == [SOURCE, VAULT]:
        together = apart(run.config)
        found.append(Check("vault apart", FAIL if together else PASS, " ".join(together) or "not where the source is"))
    return found


def recovery_rights(config: Config, report: Report) -> list[Check]:
    """Return the check of the rights that a recovery needs if the bucket is gone; none if the key has them in the
    probe's bucket, or if nobody tried. A policy may allow in the stack's bucket what it denies in the probe's, so a
    denial there is COULD_NOT_VERIFY."""
    words = f"{_denied(config, report.denied)}: see docs/mirror.md" if report.denied else ""
    return [Check(f"{SOURCE} recovery rights", COULD_NOT_VERIFY, words)] if words else []


def _denied(config: Config, denied: Mapping[str, str]) -> str:
    rights = ", ".join(f"{right} ({why})" for right, why in denied.items())
    return (
        f"the key has no {rights} in a bucket of the probe's; a recovery needs it if the bucket"
        f" {named(config.objects.bucket)} is gone, and whether the key has it there was not tried"
    )


def recovery_denied(config: Config) -> list[str]:
    """For a plan: the same, as far as the last day's try told."""
    found = remembered(config, SOURCE, now=datetime.now(timezone.utc))
    return [_denied(config, found.denied)] if found and found.denied else []


class _Tried:
    """What a key was tried with: the actions that it may not do, and those of which nothing is known."""

    def __init__(self, source: Bucket) -> None:
        self._source = source
        self.denied: list[str] = []
        self.untried: list[str] = []
        self.object_read = False

    def ask(self, action: str, key: Optional[str], query: Mapping[str, str]) -> bytes:
        """key: None is about the bucket. Returns what the server said, nothing where it refused."""
        headers = {"range": "bytes=0-0"} if key and not {"tagging", *_OF_A_LOCK.values()} & set(query) else {}
        try:
            return self._source.ask("GET", key, query, headers, attempted=f"try {action}").body
        except LifeboatError as exc:
            code, cause = s3_client.code(exc), error_registry.cause_of(exc)
            if code in s3_client.DENIED:
                self.denied.append(action)
            elif cause and cause.whole:
                raise
            elif code not in (*s3_client.UNSUPPORTED, *_UNSET) and s3_client.status(exc) != 416:
                self.untried.append(f"{action} ({exc.cause})")
        return b""

    def object(self) -> Optional[Version]:
        """Return one to read, as far as the key may list."""
        if "s3:ListBucketVersions" not in self.denied:
            return next((version for version in s3_bucket.versions(self._source) if not version.deleted), None)
        return None if "s3:ListBucket" in self.denied else next(s3_bucket.objects(self._source), None)

    def check(self, name: str) -> Check:
        untried = [f"not tried: {'; '.join(self.untried)}"] if self.untried else []
        if self.denied:
            words = f"the key may not {', '.join(self.denied)}: see docs/mirror.md"
            return Check(name, FAIL, "; ".join([words, *untried]))
        if untried:
            return Check(name, COULD_NOT_VERIFY, untried[0])
        return Check(name, PASS, "the key may do all that a backup needs")


def permissions(run: Opened) -> Check:
    """Check that the stack's key may do each thing that a backup needs. Each is tried by reading; nothing is written.

    What the server does not know it does not refuse. Without an object, what is done with objects is not tried.
    """
    name = f"{SOURCE} permissions"
    try:
        tried = _try_rights(run)
    except LifeboatError as exc:
        return Check(name, FAIL, str(exc))
    if not tried.object_read:
        tried.untried.append("s3:GetObject and the like (there is no object to read)")
    return tried.check(name)


def _try_rights(run: Opened) -> _Tried:
    tried = _Tried(buckets.source(run))
    tried.ask("s3:ListBucket", None, {"list-type": "2", "max-keys": "1"})
    if tried.untried:  # it does not answer: not once more for each right
        return tried
    told = {
        query: tried.ask(action, None, {query: "", **({"max-keys": "1"} if query == "versions" else {})})
        for action, query in _OF_THE_BUCKET.items()
    }
    found = tried.object()
    if found:
        tried.object_read = True
        versioned = {} if found.version == NULL else {"versionId": found.version}
        action = "s3:GetObjectVersion" if versioned else "s3:GetObject"
        tried.ask(action, found.key, versioned)
        tried.ask(f"{action}Tagging", found.key, {"tagging": "", **versioned})
        for action, query in _OF_A_LOCK.items() if b"<ObjectLockEnabled>" in told["object-lock"] else ():
            tried.ask(action, found.key, {query: ""})
    return tried


def denied(run: Opened) -> list[str]:
    """List the actions that a backup needs and the stack's key may not do, as far as the server answers."""
    try:
        return _try_rights(run).denied
    except LifeboatError:
        return []


def rights(run: Opened) -> list[Check]:
    """permissions() for who looks at a running stack: a bucket without objects is no gap, and neither is a server that
    does not answer, which others tell."""
    name = f"{SOURCE} permissions"
    try:
        tried = _try_rights(run)
    except LifeboatError as exc:
        cause = error_registry.cause_of(exc)
        return [Check(name, FAIL if cause and cause.whole else COULD_NOT_VERIFY, str(exc))]
    if not tried.object_read and not tried.denied and not tried.untried:
        return [Check(name, PASS, "the key may do what was tried; there is no object to read")]
    return [tried.check(name)]


def ready(run: Opened, *, now: datetime) -> Check:
    """Check for preflight that a recovery can read what it needs from the vault. Three requests, nothing is written."""
    name, vault = f"{VAULT} endpoint", buckets.vault(run)
    try:
        skew = vault.requests.skew(vault.name, vault.url)
        if skew is not None and abs(skew) > REFUSED:
            cause = f"{vault.url}: its clock is {skew:+.0f} s from this host's; set the wrong one (timedatectl)"
            return Check(name, FAIL, cause)
        state = s3_bucket.versioning(vault)
        next(s3_bucket.versions(vault), None)
    except LifeboatError as exc:
        return Check(name, FAIL, str(exc))
    if not state:
        return Check(
            name, FAIL, f"{vault.url}: it keeps no versions, so it is of no instant that could be gone back to; correct"
            " lifeboat_vault, or name the vault that the mirror was made in"
        )  # fmt: skip
    words = [f"{vault.url} answers"]
    partly = state if "except" in state else "suspended"
    words += [f"its versioning is {partly}: what is mirrored now replaces what was"] if state != "Enabled" else []
    known = remembered(run.config, VAULT, now=now)
    return Check(name, PASS, "; ".join([*words, *(lacking(VAULT, known) if known else [])]))


def check(config: Config, side: str, report: Report) -> Check:
    """Check whether the endpoint can do what the stack needs of it."""
    name = f"{side} endpoint"
    needed = ["versioning"] if side == VAULT else []
    needed += ["object_lock"] if side == VAULT and config.vault.object_lock else []
    unknown = _needed(side, report.those(probe.UNKNOWN))
    words = [f"{report.server or report.endpoint}", *lacking(side, report)]
    if side == VAULT:
        rights = writer.remembered(config)
        words.append(rights.summary if rights else "what the writer's key can destroy there was not tried")
    if report.skew is not None and abs(report.skew) > SKEW:
        return Check(name, FAIL, f"its clock is {report.skew:+.0f} s from this host's; set the wrong one (timedatectl)")
    if any(report.features[text].state == probe.MISSING for text in needed):
        return Check(name, FAIL, "; ".join(words))
    if unknown:
        words.append(f"{', '.join(unknown)} {report.features[unknown[0]].detail}")
    if unknown:
        return Check(name, COULD_NOT_VERIFY, "; ".join(words))
    return Check(name, PASS, "; ".join(words))
