# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The repository that did not burn with the machine."""

from __future__ import annotations

from ..base.errors import UsageError
from ..repository import repositories
from ..repository.base import Repository
from ..repository.sources import REPOSITORY, VAULT, in_vault
from ..settings.parts import S3Settings
from ..stack.runtime import Opened


def open_store(run: Opened) -> tuple[Repository, str]:
    """The place that did not burn: what a keeper has, the vault's copies, or a repository that is a bucket itself."""
    store = in_vault(run)
    if store is not None:
        return store, VAULT
    if not isinstance(run.config.repository, S3Settings):
        raise UsageError(
            "plan the recovery of the site", run.config.stack,
            "no copies are kept in a vault, and the repository is a directory of the lost machine",
            "If that disk is at hand, mount it here and recover the database from it. docs/vault.md keeps this from"
            " happening.",
        )  # fmt: skip
    return repositories.repository_of(run), REPOSITORY
