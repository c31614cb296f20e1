# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the vault apart from the source? A backup that burns with its original is none."""

from __future__ import annotations

import contextlib
import socket

from ..s3.bucket import addresses, host_and_port
from ..settings.config import Config


def apart(config: Config) -> list[str]:
    """Warnings where the vault would go down with the source; none where it is apart. Asks resolvers, no S3 server."""
    if not config.objects.bucket or not config.vault.objects_bucket:
        return []
    theirs, port = host_and_port(config.vault.endpoint_url, config.vault.region)
    name = config.vault.endpoint_url or "Amazon S3"
    there = addresses(theirs)
    if there is None:
        return [f"THE VAULT MAY NOT BE APART: {theirs} has no address, so it could not be compared with the source's"]
    if any(_is_here(text) for text in there):
        return [
            f"THE VAULT IS ON THIS VERY HOST ({name}): what takes the host or its disk, and anyone who is root on it, "
            "takes the backups too. Put lifeboat_vault on another machine, at another site."
        ]
    if not config.objects.endpoint_url:
        return []  # a container on this host; the vault is not on this host
    ours, own_port = host_and_port(config.objects.endpoint_url, config.objects.region)
    here = addresses(ours)
    if here is None:
        return [f"THE VAULT MAY NOT BE APART: {ours} has no address, so it could not be compared with the vault's"]
    if not here & there:
        return []
    what = "THE SAME ENDPOINT AS" if own_port == port else "ON THE SAME MACHINE AS"
    return [
        f"THE VAULT IS {what} THE SOURCE ({name}): losing that server loses the objects and their backups together. "
        "Put lifeboat_vault on another machine, at another site."
    ]


def same_endpoint(config: Config) -> bool:
    """Return whether source and vault are written as one and the same endpoint."""
    ours, theirs = config.objects, config.vault
    if not ours.endpoint_url and ours.service:
        return False
    return host_and_port(ours.endpoint_url, ours.region) == host_and_port(theirs.endpoint_url, theirs.region)


def _is_here(address: str) -> bool:
    """Only an address of this host can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False
