# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MinIO's service accounts of the vault's writer: keys of their own, which may outlive the one that made them.

Separate from writer.py, so that what only reads what was found there need not carry MinIO's admin API.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..s3 import identities
from ..s3.admin import Admin
from ..s3.identities import KEY
from ..settings.config import Config


def find(config: Config, access_key: str, secret_key: str) -> tuple[str, ...]:
    """Return the access keys of the writer's user beside the vault's own, by asking with an administrator's key.

    Raises AbsentError where the server does not have MinIO's admin API.
    """
    vault = config.vault
    admin = Admin(vault.endpoint_url, vault.region, access_key, secret_key, vault.ca_bundle)
    own_key = config.secrets.get("vault_access_key", "")
    return siblings(identities.of_minio(admin.export_identities()), own_key)


def siblings(form: identities.Form, access_key: str) -> tuple[str, ...]:
    """Return the other access keys of the user that this key belongs to. A key that a service account makes belongs to
    the account's user, so that siblings count too."""
    nothing: Mapping[str, str] = {}
    user = form.get(f"{KEY} {access_key}", nothing).get("parent", "") or access_key
    keys = {name[len(KEY) + 1 :]: told for name, told in form.items() if name.startswith(f"{KEY} ")}
    return tuple(sorted(name for name, told in keys.items() if told.get("parent") == user and name != access_key))
