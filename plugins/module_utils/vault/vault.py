# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The vault's buckets as they must be: there, ours, versioned, locked as configured, expiring only what is not live.

One list of changes is made, shown by check mode, empty the second time. What is somebody else's is left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable, Optional

from ..base import throttle
from ..base.errors import LifeboatError, Log, UsageError
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import delete_bucket, lifecycle
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket
from ..s3.client import DENIED, UNSUPPORTED
from ..s3.lifecycle import Rule
from ..settings.config import Config
from ..stack import buckets
from ..stack.buckets import TAG
from . import policy
from .separation import apart, same_endpoint

OBJECTS, REPOSITORY = "objects", "repository"
_ATTEMPTED = "prepare the vault"
_GROWS = ": replaced and removed objects go only where retention may delete versions"
_BY_ADMIN = (
    "Run lifeboat.dr.vault once with an administrator's keys (admin_access_key, admin_secret_key), or make it so there "
    "yourself (docs/vault.md)."
)


def ensure(
    config: Config,
    check: bool = False,
    *,
    additional: Sequence[str] = (),
    adopt: bool = False,
    access_key: str = "",
    secret_key: str = "",
    warn: Log = lambda text: None,
    note: Log = lambda text: None,
) -> list[str]:
    """Bring the vault's buckets to what is configured; returns the changes made, or with `check` those to be made.

    `access_key`, `secret_key`: an administrator's, where the vault's own may only write. `adopt`: take over a bucket
    that holds objects and is not marked as ours. `additional`: the store's further buckets that backups hold. `warn`
    gets what is not available there and what that costs, `note` what is missing and only a second line of defence.
    """
    changes: list[str] = []

    def ensured(target: tuple[str, Bucket]) -> list[str]:
        return _Ensuring(config, *target, check, adopt, warn, note).changes()

    def known(bucket: Bucket) -> Bucket:
        return dataclasses.replace(bucket, access_key=access_key, secret_key=secret_key) if access_key else bucket

    for kind, bucket in _buckets(config).items():
        changes += ensured((kind, known(bucket)))
    if additional:
        first = known(buckets.in_vault(config, config.vault.objects_bucket))
        places = [(OBJECTS, first.sibling(name)) for name in _additional_buckets(config, additional, warn)]
        changes += [line for lines in throttle.mapped(ensured, places) for line in lines]
    for text in apart(config):
        warn(text)
    return changes


def _buckets(config: Config) -> dict[str, Bucket]:
    """Return the vault's buckets that are configured; without a vault there are none."""
    found: dict[str, Bucket] = {}
    if config.vault.objects_bucket:
        found[OBJECTS] = buckets.in_vault(config, config.vault.objects_bucket)
    if config.vault.repository_bucket:
        found[REPOSITORY] = buckets.in_vault(config, config.vault.repository_bucket)
    own = config.objects.bucket
    if own and own in (bucket.name for bucket in found.values()) and same_endpoint(config):
        raise UsageError(
            _ATTEMPTED, f"s3://{own} at {config.vault.endpoint_url}", "it is the stack's own bucket: a mirror of "
            "itself protects nothing", "Name another bucket, at another endpoint, in lifeboat_vault.",
        )  # fmt: skip
    return found


def _additional_buckets(config: Config, additional: Sequence[str], warn: Log) -> Iterator[str]:
    """Yield the names of the vault's buckets that are to hold the store's additional buckets."""
    for name in additional:
        try:
            target = buckets.suffixed(config, name)
        except LifeboatError as exc:
            warn(f"{exc.subject}: {exc.cause}; it will be in no backup")
            continue
        if target in (config.vault.objects_bucket, config.vault.repository_bucket):
            warn(f"the bucket {name} would be kept in {target}, which is taken; it will be in no backup")
            continue
        yield target


class _Ensuring:
    """One bucket on its way to what it should be."""

    def __init__(
        self,
        config: Config,
        kind: str,
        bucket: Bucket,
        check: bool,
        adopt: bool,
        warn: Log,
        note: Log = lambda text: None,
    ) -> None:
        self._config, self._kind, self._bucket = config, kind, bucket
        self._check, self._adopt, self._warn, self._note = check, adopt, warn, note
        self._mark = f"{config.stack}/{kind}"
        self._changes: list[str] = []
        self._created = False

    def changes(self) -> list[str]:
        vault, bucket = self._config.vault, self._bucket
        there = self._exists()
        prefix = f"{vault.prefix.strip('/')}/" if self._kind == REPOSITORY and vault.prefix.strip("/") else ""
        expected = lifecycle.rule(f"lifeboat-{self._config.stack}", vault.noncurrent_days, prefix)
        if not there:
            locked = f", objects in it can be locked ({vault.object_lock})" if vault.object_lock else ""
            self._change(f"make the bucket{locked}", self._create)
        new = not there and self._check
        with self._allowed("read the bucket's lifecycle"):
            rules = [] if new else lifecycle.read(bucket)
        self._claim(new, rules, expected)
        self._version(new)
        self._lock(new)
        self._block()
        self._expire(new, rules, expected)
        return self._changes

    def _change(self, text: str, work: Callable[[], object]) -> None:
        self._changes.append(f"{self._bucket.url}: {text}")
        if not self._check:
            with self._allowed(text):
                work()

    def _set(self, text: str, request: str, **what: object) -> None:
        self._change(text, functools.partial(getattr(self._bucket.client, request), Bucket=self._bucket.name, **what))

    def _tell(self, text: str) -> None:
        self._warn(f"{self._bucket.url}: {text}")

    def _wrong(self, cause: str, remedy: str) -> UsageError:
        return UsageError(_ATTEMPTED, self._bucket.url, cause, remedy)

    @contextlib.contextmanager
    def _allowed(self, what: str) -> Iterator[None]:
        """A refusal for want of rights says who has them."""
        try:
            with s3_client.translated_errors(what, self._bucket.url):
                yield
        except LifeboatError as exc:
            if s3_client.code(exc) in DENIED:
                raise UsageError(what, self._bucket.url, exc.cause, _BY_ADMIN) from exc
            raise

    # Is it there, and ours?

    def _exists(self) -> bool:
        bucket = self._bucket
        try:
            return s3_settings.exists(bucket)
        except LifeboatError as exc:
            if s3_client.code(exc) in DENIED:
                raise UsageError(
                    "look into the bucket", bucket.url,
                    f"it belongs to somebody else, or the key has no right to it ({exc.cause})",
                    f"Choose another name in lifeboat_vault. If it is yours or yet to be made: {_BY_ADMIN}",
                ) from exc  # fmt: skip
            raise

    def _create(self) -> None:
        # Where objects can be locked, MinIO lets no key erase all versions below a prefix in one request.
        minio = policy.is_minio(s3_bucket.server(self._bucket))
        try:
            s3_settings.create(self._bucket, lock=minio or bool(self._config.vault.object_lock))
            self._created = True
        except LifeboatError as exc:
            if s3_client.code(exc) == "BucketAlreadyExists":
                raise UsageError(
                    "make the bucket", self._bucket.url, "the name is taken by somebody else",
                    "Choose another name in lifeboat_vault.",
                ) from exc  # fmt: skip
            if s3_client.code(exc) != "BucketAlreadyOwnedByYou":  # made by another run of ours in this moment
                raise

    def _claim(self, new: bool, rules: Optional[list[Rule]], expected: Rule) -> None:
        """See that the bucket is this stack's, and mark it so."""
        tags = {} if new else self._tags()
        mark = "" if tags is None else tags.get(TAG, "")
        if mark == self._mark:
            return
        shared = self._kind == REPOSITORY and bool(self._config.vault.prefix.strip("/"))
        if mark and not (shared and mark.endswith(f"/{REPOSITORY}")):
            raise self._wrong(
                f"the bucket is marked as that of {mark}, this is {self._mark}",
                "Choose another bucket; or, if that stack is no more, remove the bucket's tag "
                f"'{TAG}' with the S3 API and run this again with adopt.",
            )  # fmt: skip
        if mark:
            return  # several stacks, each below its own prefix: the first one's mark stays
        ruled = any(rule.id == expected.id for rule in rules or ())
        if not new and not self._adopt and not (tags is None and ruled) and self._holds_objects():
            raise self._wrong(
                "it holds objects and is not marked as ours; a mirror would replace those of the same name",
                "Choose another bucket. To take it over with what is in it, run lifeboat.dr.vault once with "
                "adopt: true, or the role with object_storage_backup_adopt.",
            )  # fmt: skip
        if tags is None:
            self._tell("the server keeps no tags of buckets, so the lifecycle rule marks it as ours")
            return
        marked = [{"Key": key, "Value": value} for key, value in {**tags, TAG: self._mark}.items()]
        self._set(f"mark it as that of {self._mark}", "put_bucket_tagging", Tagging={"TagSet": marked})

    def _tags(self) -> Optional[dict[str, str]]:
        """Return the bucket's own tags; None where the server knows none."""
        try:
            with self._allowed("read the bucket's tags"):
                found = self._bucket.client.get_bucket_tagging(Bucket=self._bucket.name)
        except LifeboatError as exc:
            if s3_client.code(exc) in ("NoSuchTagSet", "NoSuchTagSetError"):
                return {}
            if s3_client.code(exc) in UNSUPPORTED:
                return None
            raise
        return {item["Key"]: item["Value"] for item in found["TagSet"]}

    def _holds_objects(self) -> bool:
        """Old versions and delete markers count: they are somebody's past."""
        with self._allowed("look into the bucket"):
            for _version in s3_bucket.versions(self._bucket):
                return True
        return False

    # Is it as configured?

    def _version(self, new: bool) -> None:
        implied = "Enabled" if self._config.vault.object_lock else ""  # a bucket made for locks has versions
        state = implied if new else self._versioning()
        if state == "Enabled":
            return
        if state and s3_bucket.EXCEPT in state:
            raise self._wrong(
                f"its versioning is {state}: what is overwritten or deleted there is gone",
                "Switch versioning on for all of it (MinIO: mc version enable ALIAS/BUCKET), or name another bucket.",
            )  # fmt: skip
        if state is not None:
            enabled = {"Status": "Enabled"}
            try:
                self._set("switch versioning on", "put_bucket_versioning", VersioningConfiguration=enabled)
            except LifeboatError as exc:
                if s3_client.code(exc) not in UNSUPPORTED:  # Garage tells that it has none, and takes no other
                    raise
            if self._check or self._versioning() == "Enabled":
                return
            self._changes.pop()  # it was not taken, or it did nothing
        if self._kind == OBJECTS:
            if self._created and not self._holds_objects():  # SeaweedFS removes a bucket with all that is in it
                with contextlib.suppress(LifeboatError):
                    delete_bucket.delete_bucket(self._bucket, confirm=self._config.vault.objects_bucket)
            raise self._wrong(
                "the server has no versioning: the mirror could be gone back to its newest state only, and one bad"
                " night would overwrite the last good copy",
                "Put the vault on a server with versioning (SeaweedFS, MinIO, Ceph, Amazon S3).",
            )  # fmt: skip
        self._tell(
            "the server has no versioning: anyone with the writer's key can destroy these copies, and what retention"
            " removes is gone at once"
        )

    def _versioning(self) -> Optional[str]:
        """As s3.bucket.versioning(); None where the server knows no versioning."""
        try:
            with self._allowed("read the bucket's versioning"):
                return s3_bucket.told_versioning(self._bucket)
        except LifeboatError as exc:
            if s3_client.code(exc) in UNSUPPORTED:
                return None
            raise

    def _lock(self, new: bool) -> None:
        vault = self._config.vault
        want = {"Mode": vault.object_lock, "Days": vault.lock_days} if vault.object_lock else None
        lockable, have = (bool(want), None) if new else self._locked()
        unlocked = not new and not lockable and policy.is_minio(s3_bucket.server(self._bucket))
        if unlocked and self._versioning() == "Enabled":
            self._tell(
                "it was made without object lock: on MinIO, a key that may set delete markers there can erase all"
                " versions below a prefix in one request. Name another bucket, and this makes it with object lock"
            )
        if have == want:
            return
        if want and not lockable:
            raise self._wrong(
                f"lifeboat_vault.object_lock is {vault.object_lock} and this bucket has none; it is chosen when a"
                " bucket is made (lifeboat.dr.endpoint_info says whether the server has it at all)",
                "Name another bucket and let this make it, or remove lifeboat_vault.object_lock and"
                " lifeboat_vault.lock_days.",
            )  # fmt: skip
        if have and have.get("Mode") != vault.object_lock:
            raise self._wrong(
                f"it locks every object in mode {have.get('Mode')}, configured is {vault.object_lock or 'no lock'}",
                "Set lifeboat_vault.object_lock and lifeboat_vault.lock_days to what the bucket does, or name another"
                " bucket.",
            )  # fmt: skip
        rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": want}}
        text = f"lock every new object for {vault.lock_days} days in {vault.object_lock}"
        self._set(text, "put_object_lock_configuration", ObjectLockConfiguration=rule)

    def _locked(self) -> tuple[bool, Optional[Mapping[str, object]]]:
        """Return whether objects can be locked, and the lock that every new one gets."""
        try:
            with s3_client.translated_errors("read the bucket's object lock", self._bucket.url):
                found = self._bucket.client.get_object_lock_configuration(Bucket=self._bucket.name)
        except LifeboatError as exc:
            code = s3_client.code(exc)
            if code == "ObjectLockConfigurationNotFoundError" or code in UNSUPPORTED:
                return False, None
            if code in DENIED and not self._config.vault.object_lock:
                self._tell("the key may not see whether the bucket locks its objects")
                return False, None
            if code in DENIED:
                raise UsageError("read the bucket's object lock", self._bucket.url, exc.cause, _BY_ADMIN) from exc
            raise
        said = found.get("ObjectLockConfiguration", {})
        return said.get("ObjectLockEnabled") == "Enabled", said.get("Rule", {}).get("DefaultRetention")

    def _block(self) -> None:
        """See that nobody makes public what is in it."""
        missing = "the server has no public access block: only the policy of a key keeps objects there from the public"
        try:
            blocked = s3_settings.blocked(self._bucket)
        except LifeboatError as exc:
            if s3_client.code(exc) not in DENIED:
                raise
            self._tell(
                "the key may not see whether public access to it is blocked; the policy in docs/vault.md lets it"
                " (s3:GetBucketPublicAccessBlock)"
            )
            return
        if blocked is None:
            self._note(f"{self._bucket.url}: {missing}")
        if blocked is not False:
            return
        try:
            self._change("block public access", lambda: s3_settings.block(self._bucket))
        except LifeboatError as exc:
            if s3_client.code(exc) not in UNSUPPORTED:
                raise
        if not self._check and not s3_settings.blocked(self._bucket):
            self._changes.pop()  # it was not taken, or it did nothing
            self._note(f"{self._bucket.url}: {missing}")

    def _expire(self, new: bool, rules: Optional[list[Rule]], expected: Rule) -> None:
        days = self._config.vault.noncurrent_days
        if rules is None:
            self._tell(f"the server knows no lifecycle rules{_GROWS}")
            return
        for rule in rules:
            if rule.expires_live:
                raise self._wrong(
                    f"its lifecycle rule {rule.id or 'without a name'} removes objects by age: the only copy of what"
                    " nobody changed would go", "Remove that rule from the bucket.",
                )  # fmt: skip
            if rule.id != expected.id and rule.shorter(days):
                self._tell(f"its rule {rule.id} removes old versions sooner than after {days} days")
            if rule.forgets_deleted is not None and rule.forgets_deleted < days:
                after = f"{rule.forgets_deleted} days after it was deleted (DelMarkerExpiration)"
                self._tell(f"its rule {rule.id} removes an object with all its versions {after}")
        mine = lifecycle.mine(rules, expected) or self._put_rule(new, rules, expected)
        if mine and (dropped := lifecycle.uncleaned(self._bucket, mine)):
            self._tell(f"the server does not clean up {' and '.join(dropped)}")

    def _put_rule(self, new: bool, rules: list[Rule], expected: Rule) -> Optional[Rule]:
        """Our rule as it is there afterwards; None where it was not set, or could not be."""
        found: list[list[Rule]] = []
        why = ""
        try:
            self._change(
                f"expire replaced and removed objects after {self._config.vault.noncurrent_days} days",
                lambda: found.append(lifecycle.put(self._bucket, rules, expected)),
            )
        except LifeboatError as exc:
            if s3_client.code(exc) not in UNSUPPORTED:
                raise
            why = "the server takes no lifecycle rules"
        mine = lifecycle.mine(found[0], expected) if found else None
        if found and not new and not mine:
            why = "the server took the lifecycle rule and did not keep it"
        if why:
            self._changes.pop()
            self._tell(f"{why}{_GROWS}")
        return None if new else mine
