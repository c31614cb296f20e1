# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stack's own bucket and the vault's, from a stack's configuration."""

from __future__ import annotations

from ..base.errors import NotFoundError, UsageError
from ..s3.bucket import Bucket
from ..settings.config import Config
from . import compose
from .runtime import Opened


def source(run: Opened) -> Bucket:
    """The stack's own bucket; where no endpoint_url is set, at the address its service has right now."""
    config, one = run.config, run.config.objects
    if not one.bucket:
        raise UsageError(
            "find the stack's bucket", config.stack, "the stack has none", "Set lifeboat_objects.bucket and deploy."
        )
    endpoint = one.endpoint_url or f"http://{_address(run)}:{one.port}"
    return _bucket(config, one.bucket, endpoint, one.region, one.ca_bundle, "objects")


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
        (inspected,) = compose.inspect([found.id], attempted=attempted, subject=service)
        if inspected.host.network_mode == "host":
            return "127.0.0.1"
        addresses = [network.address for network in inspected.network.networks.values() if network.address]
        if addresses:
            return addresses[0]
    raise NotFoundError(
        attempted, service, f"its container is {found.describe()}" if not found.running else "it has no network",
        f"Start it (docker compose up -d {service}), recover it with lifeboat.dr.recover_object_storage,"
        " or set lifeboat_objects.endpoint_url.",
    )  # fmt: skip
