# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods by which the database is backed up: the only list of them."""

from __future__ import annotations

from ...base.errors import UsageError
from ...repository.details import DatabaseDetails
from ...repository.manifest import Manifest
from .base import Method
from .logical.method import Logical

METHODS: dict[str, Method] = {method.name: method for method in (Logical(),)}


def named(name: str) -> Method:
    if name not in METHODS:
        raise UsageError(
            "choose the method of the database's backups", name, f"there is {', '.join(METHODS)}",
            "A newer Lifeboat may know it: update, or choose another backup.",
        )  # fmt: skip
    return METHODS[name]


def of(manifest: Manifest) -> Method:
    """The method by which a backup was made."""
    return named(manifest.detailed(DatabaseDetails).method)
