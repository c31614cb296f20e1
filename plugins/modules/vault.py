#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vault
short_description: Make the vault's buckets and keep them as configured
version_added: 0.1.0
description:
  - Sees that the buckets of C(vault) are there, marked as this stack's, versioned, locked as configured, closed to the
    public where the server can block that, and that replaced and removed objects expire after C(noncurrent_days) while
    live ones never do.
  - A bucket that belongs to somebody else, is marked as another stack's, or holds objects and is not marked, is
    refused.
  - Says which policy the key that writes to the vault needs on this server, and tries with that key what it should not
    be able to do. Rights on a bucket are tried by writing back what is there; everything else in a bucket named
    C(lifeboat-trial-…), made for it and removed. What was found is remembered, and shown by C(status).
  - A server without versioning is refused for the mirror, and warned of for the copies of the repository. A server
    without lifecycle rules is warned of.
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  adopt:
    description: Take over a bucket that holds objects and carries no mark. A bucket of another stack is refused all the
      same.
    type: bool
    default: false
  admin_access_key:
    description: An administrator's key for this run, where the vault's own may only write. Nothing keeps it.
    type: str
  admin_secret_key:
    description: Goes with O(admin_access_key).
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The changes, one a line.
"""

EXAMPLES = r"""
- name: See that the vault is as it should be
  lifeboat.dr.vault:
    stack: shop

- name: Make its buckets with an administrator's key
  lifeboat.dr.vault:
    stack: shop
    admin_access_key: "{{ vault_admin.access_key }}"
    admin_secret_key: "{{ vault_admin.secret_key }}"
"""

RETURN = r"""
changes:
  description: What was changed, or would be.
  returned: success
  type: list
  elements: str
  sample: ["s3://uploads-backup at http://vault1:8333: make the bucket"]
writer:
  description: What the vault's own key can do although it should not, by act. C(can) means that the effect was seen,
    C(held) that it was refused or had none. Of MinIO, C(accounts) are the service accounts of the key's user, as an
    administrator's key found them.
  returned: where it was tried, now or before
  type: dict
  sample:
    acts: {delete versions: {state: held, detail: "refused: AccessDenied"}}
    server: SeaweedFS 4.48
    accounts: null
writer_policy:
  description: The policy for that key, as this server needs it.
  returned: success
  type: dict
vault_warnings:
  description: What the vault lacks and what that costs; also shown as warnings.
  returned: success
  type: list
  elements: str
log:
  description: What was done, line by line, as also written to the journal.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Optional

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, Log
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, added, run
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import service_accounts, policy, vault, writer


@dataclass(frozen=True)
class Facts:
    changes: Sequence[str]
    vault_warnings: Sequence[str]
    writer: object
    writer_policy: Mapping[str, object]


def _additional(task: Task, warn: Log) -> tuple[str, ...]:
    """List the store's additional buckets that backups hold."""
    if not task.config.objects.buckets:
        return ()
    seen = store.read_store(Opened(task.config))
    if seen.unlisted:
        warn(f"which buckets the stack's own store has is not known, so that they may have no place: {seen.unlisted}")
    return tuple(name for name in seen.protected if name != task.config.objects.bucket)


def _server(task: Task) -> str:
    try:
        return writer.server(task.config)
    except LifeboatError:
        return ""


def _tried(task: Task) -> Optional[writer.Rights]:
    """What the writer's key can do: as remembered, or tried where that is older than a day or an administrator asks."""
    admin = task.params["admin_access_key"] or ""
    known = writer.remembered(task.config)
    if task.check or (known and not admin and timedelta() <= task.now - known.tried_at < timedelta(days=1)):
        return known
    try:
        found = writer.attempt(task.config, access_key=admin, secret_key=task.params["admin_secret_key"] or "")
    except LifeboatError as exc:
        task.log(f"what the writer's key can do could not be tried: {exc}")
        return known
    if known and not admin and not found.those(writer.CAN) and found.those(writer.UNTRIED, writer.DESTROYS):
        return known  # an administrator found out more
    if admin and policy.is_minio(found.server):
        found = replace(found, accounts=_accounts(task, admin))
    elif known:
        found = replace(found, accounts=known.accounts)
    writer.remember(task.config, found)
    return found


def _accounts(task: Task, admin: str) -> Optional[tuple[str, ...]]:
    """The writer's service accounts; None where they could not be looked for."""
    try:
        return service_accounts.find(task.config, admin, task.params["admin_secret_key"])
    except LifeboatError as exc:
        task.log(f"which service accounts the writer's key has is not known: {exc}")
        return None


def work(task: Task) -> Result:
    warnings: list[str] = []
    notes: list[str] = []
    with lock.held(f"{task.config.stack}.vault", "prepare the vault", wait=60):
        changes = vault.ensure(
            task.config,
            task.check,
            additional=_additional(task, warnings.append),
            adopt=task.params["adopt"],
            access_key=task.params["admin_access_key"] or "",
            secret_key=task.params["admin_secret_key"] or "",
            warn=warnings.append,
            note=notes.append,
        )
    rights, server = _tried(task), _server(task)
    if rights and rights.those(writer.CAN, writer.DESTROYS):
        warnings.append(f"{task.config.vault.endpoint_url}: {rights.summary} (docs/vault.md)")
    elif rights and rights.further:
        warnings.append(f"{task.config.vault.endpoint_url}: {rights.further} (docs/vault.md)")
    for line in [*changes, *warnings, *notes]:
        task.log(line)
    for line in warnings:
        task.module.warn(line)
    wanted = policy.document(writer.names(task.config), server)
    shown = typed.plain(rights, nulls=True) if rights else None
    return Result(Facts(changes, warnings, shown, wanted), changed=bool(changes), diff=added(changes))


def main() -> None:
    run(
        work,
        {
            "adopt": {"type": "bool", "default": False},
            "admin_access_key": {"type": "str", "no_log": False},  # a name, no secret
            "admin_secret_key": {"type": "str", "no_log": True},
        },
        required_together=[("admin_access_key", "admin_secret_key")],
    )


if __name__ == "__main__":
    main()
