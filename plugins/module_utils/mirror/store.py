# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every bucket of the stack's object store, and whether backups hold it; the checks of many of them."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Optional

from ..base import throttle
from ..base.checks import BUCKET, PASS, SHOWN, Check, ended
from ..base.errors import LifeboatError
from ..base.text import named
from ..repository.details import Store
from ..s3 import bucket, client
from ..s3.bucket import Bucket, addresses, host_and_port
from ..s3.signed import fields, plain
from ..settings.config import ObjectsSettings
from ..settings.parts import S3Settings
from ..stack import buckets
from ..stack.runtime import Opened

# Buckets that Lifeboat makes for a moment, see objects/recovery, objects/proof, vault/probe and vault/writer.
SCRATCH = re.compile(
    r"lifeboat-(?:check-\d{8}-\d{6}|verify-[0-9a-f]{8}-\d{14}-[0-9a-f]{6}|probe-\d{14}-[0-9a-f]{8}(?:-lock)?"
    r"|trial-\d{14}-[0-9a-f]{8})"
)
_MARK = re.compile(r".+/(?:objects|repository)")
_PATTERN = re.compile(r"[*?[]")
STAMPED = re.compile(r".*-quarantine-([0-9]{8}-[0-9]{6})")


def read_store(run: Opened, known: Sequence[str] = ()) -> Store:
    """Ask the store. A key sees no bucket that it may not list; one that may list none is no error.

    known: other buckets that backups hold, which may be gone.
    """
    objects = run.config.objects
    try:
        names = bucket.names(buckets.source(run))
    except LifeboatError as exc:
        whole = tuple(name for name in objects.exclude if "/" not in name)
        return Store((objects.bucket, *_by_name(objects)), excluded=whole, unlisted=exc.cause)
    rest = [name for name in names if name != objects.bucket]
    ours = {*_ours(run, names, [objects.bucket, *(name for name in rest if is_selected(objects, name)), *known])}
    rest = [name for name in rest if name not in ours]
    excluded = tuple(name for name in rest if _fits(name, objects.exclude))
    by_name = _by_name(objects)
    vaults = _vaults(run, [name for name in rest if name not in excluded and name not in by_name])
    rest = [name for name in rest if name not in vaults]
    more = [name for name in rest if is_selected(objects, name)]
    left = tuple(name for name in rest if name not in excluded and name not in more)
    return Store((objects.bucket, *more), left, excluded, vaults=vaults)


def is_selected(objects: ObjectsSettings, name: str) -> bool:
    """Is another bucket than the application's to be in the backups?"""
    return name != objects.bucket and _fits(name, objects.buckets) and not _fits(name, objects.exclude)


def left_out(objects: ObjectsSettings, name: str) -> list[str]:
    """The keys of that bucket which no backup needs to hold; one that ends in `*` stands for all that begin so."""
    return [entry.partition("/")[2] for entry in objects.exclude if entry.partition("/")[0] == name and "/" in entry]


def outside(key: str, patterns: Sequence[str]) -> bool:
    """Is it one of the keys of left_out()?"""
    return any(key.startswith(one[:-1]) if one.endswith("*") else key == one for one in patterns)


def absent(objects: ObjectsSettings, store: Store) -> list[str]:
    """The buckets that the configuration names, no pattern, and the store does not show."""
    return [] if store.unlisted else [name for name in _by_name(objects) if name not in store.protected]


def _by_name(objects: ObjectsSettings) -> list[str]:
    names = dict.fromkeys(name for name in objects.buckets if not _PATTERN.search(name))
    return [name for name in names if is_selected(objects, name)]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _ours(run: Opened, names: Sequence[str], protected: Sequence[str]) -> Iterator[str]:
    config = run.config
    vault, repository = config.vault, config.repository
    if _listed_with(run, vault.endpoint_url, vault.region):
        yield from (vault.objects_bucket, vault.repository_bucket)
        for name in protected:
            with contextlib.suppress(LifeboatError):  # no name that a bucket can have
                yield buckets.suffixed(config, name)
    if isinstance(repository, S3Settings) and _listed_with(run, repository.endpoint_url, repository.region):
        yield repository.bucket
    for name in names:
        stamp = STAMPED.fullmatch(name)
        if SCRATCH.fullmatch(name) or (stamp and any(quarantine_name(own, stamp[1]) == name for own in protected)):
            yield name


def _vaults(run: Opened, names: Sequence[str]) -> tuple[str, ...]:
    """Those that vault/vault.py has marked as a place of copies: by a tag or, on a server that keeps no tags of
    buckets, by the rule that expires old versions. One request each; what the key may not read is not marked.
    """
    if not names:
        return ()
    first, *others = [buckets.source(run).sibling(name) for name in names]
    told = _tagged(first)
    found = [_ruled(first) if told is None else told, *throttle.mapped(_ruled if told is None else _tagged, others)]
    return tuple(name for name, is_vault in zip(names, found) if is_vault)


def _tagged(candidate: Bucket) -> Optional[bool]:
    """None where the server knows no tags of buckets."""
    try:
        page = candidate.ask_xml("read the bucket's tags", {"tagging": ""})
    except LifeboatError as exc:
        return None if client.code(exc) in client.UNSUPPORTED else False
    told = [fields(element) for element in page.iter() if plain(element.tag) == "Tag"]
    return any(tag.get("Key") == buckets.TAG and _MARK.fullmatch(tag.get("Value", "")) for tag in told)


def _ruled(candidate: Bucket) -> bool:
    with contextlib.suppress(LifeboatError):
        page = candidate.ask_xml("read the bucket's lifecycle", {"lifecycle": ""})
        rules = [fields(element).get("ID", "") for element in page.iter() if plain(element.tag) == "Rule"]
        return any(rule.startswith("lifeboat-") for rule in rules)
    return False


def _listed_with(run: Opened, endpoint_url: str, region: str) -> bool:
    """Does the stack's store list the buckets of that endpoint? Amazon lists those of all its regions."""
    amazon = all(
        host_and_port(url, region)[0].endswith(".amazonaws.com") for url in (_endpoint(run) or "-", endpoint_url)
    )
    return amazon or same_server(run, endpoint_url, region)


def same_server(run: Opened, endpoint_url: str, region: str) -> bool:
    """Is that endpoint at the address where the stack's own store listens?"""
    own = _endpoint(run)
    (ours, port), (theirs, other) = host_and_port(own, ""), host_and_port(endpoint_url, region)
    return bool(own) and port == other and (addresses(ours) or {ours}) == (addresses(theirs) or {theirs})


def _endpoint(run: Opened) -> str:
    try:
        return buckets.source(run).endpoint_url
    except LifeboatError:
        return run.config.objects.endpoint_url


def quarantine_name(name: str, stamp: str) -> str:
    """A bucket's name takes 63 letters, digits and hyphens."""
    suffix = "-quarantine-" + re.sub(r"[^a-z0-9]", "-", stamp.lower())
    return name[: 63 - len(suffix)].rstrip(".-") + suffix


def folded(of_each: Iterable[tuple[str, Iterable[Check]]], at_once: int = throttle.SIDE_BY_SIDE) -> Iterator[Check]:
    """The checks of many buckets: one of each name for those that passed it, and each that did not with its bucket.

    at_once: buckets that are looked at side by side.
    """
    passed: dict[str, list[str]] = {}
    each = list(of_each)
    for (name, _checks), (found, failed) in zip(each, throttle.mapped(_gathered, each, at_once)):
        for check in found:
            if check.result == PASS:
                passed.setdefault(check.name, []).append(f"{named(name)}: {check.detail}")
            else:
                yield replace(check, name=f"bucket {named(name)}: {check.name}", kind=BUCKET, subject=name)
        if failed:
            yield replace(ended(f"bucket {named(name)}", failed), kind=BUCKET, subject=name)
    for what, told in passed.items():
        rest = f"; and {len(told) - SHOWN} other buckets alike" if len(told) > SHOWN else ""
        yield Check(f"other buckets: {what}", PASS, "; ".join(told[:SHOWN]) + rest)


def _gathered(bucket: tuple[str, Iterable[Check]]) -> tuple[list[Check], Optional[LifeboatError]]:
    """Return the checks of one bucket, and the error that ended them: those of the other buckets go on."""
    checks: list[Check] = []
    try:
        for check in bucket[1]:
            checks.append(check)
    except LifeboatError as exc:
        return checks, exc
    return checks, None
