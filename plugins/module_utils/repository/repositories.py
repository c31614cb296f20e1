# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open the repository that a stack's settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .base import Repository, bad_setting


def from_settings(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Repository:
    """Build the repository that the settings name; raises UsageError for a setting that is missing or unknown.

    {type: local, path} or {type: s3, bucket, prefix, endpoint_url, region, ca_bundle, staging_root}; both may have
    `folders`, component -> folder. secrets: s3_access_key, s3_secret_key.
    """
    known = {
        "local": ("type", "path", "folders"),
        "s3": ("type", "bucket", "prefix", "endpoint_url", "region", "ca_bundle", "folders", "staging_root"),
    }
    kind = settings.get("type", "local")
    if kind not in known:
        raise bad_setting("type", kind, "it must be local or s3")
    for name, value in settings.items():
        if name not in known[kind]:
            raise bad_setting(name, value, f"a {kind} repository knows {', '.join(known[kind])}")
        if name == "folders" and not isinstance(value, Mapping):
            raise bad_setting(name, value, "it must map components to folder names")
        if name != "folders" and not isinstance(value, str):
            raise bad_setting(name, value, "it must be text")
    folders = settings.get("folders", {})
    # The implementations build on this module, so they are imported when one is asked for.
    if kind == "local":
        from .local import LocalRepository  # noqa: PLC0415

        return LocalRepository(Path(settings.get("path", "")), folders)
    from .s3 import S3Repository  # noqa: PLC0415

    return S3Repository(
        bucket=settings.get("bucket", ""),
        prefix=settings.get("prefix", ""),
        endpoint_url=settings.get("endpoint_url", ""),
        region=settings.get("region", ""),
        access_key=secrets.get("s3_access_key", ""),
        secret_key=secrets.get("s3_secret_key", ""),
        ca_bundle=settings.get("ca_bundle", ""),
        folders=folders,
        **({"staging_root": Path(settings["staging_root"])} if settings.get("staging_root") else {}),
    )
