# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stack's own bucket and the vault's, from a stack's configuration."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

from ..base.errors import LifeboatError, NotFoundError, UsageError
from ..base.throttle import parse_rate
from ..s3.bucket import Bucket
from ..s3.signed import Bounds
from ..settings.config import Config
from ..settings.parts import StoreSettings
from . import compose
from .runtime import Opened

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
# What every server takes: capitals and underscores are names of old, and only of addresses in path style.
_PLAIN = re.compile(r"[a-z0-9]+(?:(?:\.|-+)[a-z0-9]+)*")
TAG = "lifeboat"  # of a bucket in the vault: whose it is, <stack>/<objects or repository>
_LONGEST = 63  # letters that a bucket's name may have
_DIGEST = 10
_PART, _PARTS, _PAGE, _KEY = 32 << 20, 10_000, 8 << 20, 1024
_NAMES = (("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"), ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"))


@dataclass(frozen=True)
class Key:
    """source: where it is from, in words. secret_key empty: the service has one that cannot be read here."""

    source: str
    access_key: str = ""
    secret_key: str = field(default="", repr=False)


def source(run: Opened) -> Bucket:
    """The stack's own bucket; where no endpoint_url is set, at the address its service has right now."""
    config, one = run.config, run.config.objects
    if not one.bucket:
        raise UsageError(
            "find the stack's bucket", config.stack, "the stack has none", "Set lifeboat_objects.bucket and deploy."
        )
    endpoint = one.endpoint_url or f"http://{_address(run)}:{one.port}"
    key = run.once(_Instead).key
    if key:
        found = Bucket(one.bucket, endpoint, one.region, one.ca_bundle, key.access_key, key.secret_key)
    else:
        found = _bucket(config, one.bucket, endpoint, one.region, one.ca_bundle, "objects")
    if config.keeper.directory:  # the stack's host may be hostile
        found = replace(found, bounds=_bounds(config.keeper.store))
    return run.once(_Connected).over(found)


def _bounds(store: StoreSettings) -> Bounds:
    """One page of a listing has 1000 names of up to 1024 bytes, each of which may be written as three; a large object
    comes in ten thousand parts at most."""
    part = max(_PART, 2 * int(parse_rate(store.quota)) // _PARTS)
    return Bounds(answer=part, about=_PAGE, versions=store.versions, key=_KEY, buckets=store.buckets)


class _Connected:
    """The connections over which the store is asked about each of its buckets, of which it may have a thousand."""

    def __init__(self, run: Opened) -> None:
        del run
        self._first: dict[Bucket, Bucket] = {}

    def over(self, bucket: Bucket) -> Bucket:
        return self._first.setdefault(replace(bucket, name=""), bucket).sibling(bucket.name)


class _Instead:
    """The key that is used in place of the stack's own, as long as the store does not know that."""

    def __init__(self, run: Opened) -> None:
        del run
        self.key: Optional[Key] = None


def use(run: Opened, key: Optional[Key]) -> None:
    """Use this key for the stack's own store from now on; None: the stack's own again."""
    run.once(_Instead).key = key


def vault(run: Opened) -> Bucket:
    """The mirror of the stack's bucket, in the vault."""
    return run.once(_vault)


def _vault(run: Opened) -> Bucket:
    config, one = run.config, run.config.vault
    if not one.objects_bucket:
        raise UsageError(
            "find the vault", config.stack, "the stack has none", "Set lifeboat_vault.objects_bucket and deploy."
        )
    return in_vault(config, one.objects_bucket)


def suffixed(config: Config, name: str) -> str:
    """The bucket in the vault that holds one of the store's other buckets; the name of that is a server's word."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            "find the bucket's place in the vault", repr(name), "a bucket cannot have this name",
            "Look at the stack's own store, or leave it out by lifeboat_objects.exclude.",
        )  # fmt: skip
    whole = f"{config.vault.objects_bucket}-{name}"
    if len(whole) <= _LONGEST and _PLAIN.fullmatch(name):
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST]
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()) if not _PLAIN.fullmatch(name) else name
    return f"{f'{config.vault.objects_bucket}-{plain}'[: _LONGEST - _DIGEST - 1].rstrip('.-')}-{digest}"


class _Whole:
    """The stack with all its buckets, where it is looked at as if it had one alone."""

    def __init__(self, run: Opened) -> None:
        self.run = run


def whole(run: Opened) -> Opened:
    """The stack as it is configured, of what alone() made of it."""
    return run.once(_Whole).run


def alone(run: Opened, name: str) -> Opened:
    """The stack as if it had this one of the store's other buckets."""
    config = run.config
    place = suffixed(config, name)
    objects = replace(config.objects, bucket=name, buckets=())
    held = replace(config.vault, objects_bucket=place)
    return run.with_config(replace(config, objects=objects, vault=held), _cached(run, vault(run).sibling(place)))


def _cached(run: Opened, vault: Bucket) -> Mapping[object, object]:
    return {_vault: vault, **{kind: run.once(kind) for kind in (_Instead, _Connected, _Whole)}}


def addressed(run: Opened) -> Opened:
    """The stack with the address that its store has now: for a look at each of its buckets, and no longer."""
    with contextlib.suppress(LifeboatError):  # a service that is down has none
        objects = replace(run.config.objects, endpoint_url=source(run).endpoint_url)
        return run.with_config(replace(run.config, objects=objects), _cached(run, vault(run)))
    return run


def in_vault(config: Config, name: str) -> Bucket:
    """A bucket at the vault's endpoint, by the vault's keys."""
    return _bucket(config, name, config.vault.endpoint_url, config.vault.region, config.vault.ca_bundle, "vault")


def _bucket(config: Config, name: str, endpoint: str, region: str, ca_bundle: str, whose: str) -> Bucket:
    names = (f"{whose}_access_key", f"{whose}_secret_key")
    access_key, secret_key = (config.secrets.get(text, "") for text in names)
    if not access_key or not secret_key:
        raise UsageError(
            "find the bucket's keys", f"{config.stack}, bucket {name}", f"{' or '.join(names)} is not set",
            "Set them in lifeboat_secrets (vaulted) and deploy.",
        )  # fmt: skip
    return Bucket(name, endpoint, region, ca_bundle, access_key, secret_key)


def _address(run: Opened) -> str:
    """Where the service that serves the bucket is reached from this host. A container's address does not last."""
    if run.config.runtime.type == "host":
        return "127.0.0.1"
    service = run.config.objects.service
    found = run.runtime.state(service)
    attempted = "find the object store's address"
    if found.running:
        for inspected in compose.inspect([found.id], attempted=attempted, subject=service):
            if inspected.host.network_mode == "host":
                return "127.0.0.1"
            for network in inspected.network.networks.values():
                if network.address:
                    return network.address
    raise NotFoundError(
        attempted, service, f"its container is {found.describe()}" if not found.running else "it has no network",
        f"Start it (docker compose up -d {service}), recover it with lifeboat.dr.recover_object_storage,"
        " or set lifeboat_objects.endpoint_url.",
    )  # fmt: skip


# The key that a fresh object store knows. MinIO keeps all others in its data directory, and loses them with that.


def of_service(run: Opened) -> Optional[Key]:
    """The root key in the environment of the service; None where it has none, so that nothing is known of the store."""
    variables = environment(run)
    for user, password in _NAMES:
        if user in variables:
            return Key(f"{user} of {run.config.objects.service}", variables[user], variables.get(password, ""))
        if f"{user}_FILE" in variables:
            return Key(f"{user}_FILE of {run.config.objects.service}")
    return None


def environment(run: Opened) -> Mapping[str, str]:
    """Return the environment of the service that serves the bucket; empty where it is not known."""
    service, stack = run.config.objects.service, run.runtime
    found = stack.state(service).environment if service else None
    if found is None and service and isinstance(stack, compose.ComposeRuntime):  # its container is gone
        try:
            return stack.definition(service).environment
        except LifeboatError:
            return {}
    return found or {}


def configured(config: Config) -> Optional[Key]:
    """The admin key that the operator gave."""
    keys = [config.secrets.get(f"objects_admin_{part}", "") for part in ("access_key", "secret_key")]
    return Key("objects_admin_access_key in lifeboat_secrets", *keys) if all(keys) else None


def for_fresh(run: Opened) -> Optional[Key]:
    """The key to fill a fresh store with, where the stack's own is not root's; None where the stack's own will do.

    Raises UsageError where a fresh store would know no key that is known here.
    """
    root, own = of_service(run), run.config.secrets.get("objects_access_key", "")
    if root is None or root.access_key == own:
        return None
    given = configured(run.config)
    other = given is not None and root.access_key not in ("", given.access_key)  # of another server
    key = root if other and root.secret_key else None if other else given or (root if root.secret_key else None)
    if key:
        return key
    which = "which objects_admin_access_key is not" if other else "which is not known here"
    raise UsageError(
        "plan a fresh object store", run.config.objects.service,
        f"it would know only its root key ({root.source}), {which}, and not the stack's own key",
        "Set objects_admin_access_key and objects_admin_secret_key in lifeboat_secrets and deploy, then run this again."
        " Nothing was moved.",
    )  # fmt: skip
