# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy with `mc mirror`, as the seed does, where an operator prefers it and has installed it.

It only copies: what it leaves out is found by comparing and carried by the copier; the guard, the delete markers and
the listing are the mirror's own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

from ..base import filesystem, pipeline
from ..base.errors import LifeboatError, Log, UsageError
from ..base.pipeline import Command
from ..base.throttle import parse_rate
from ..s3.bucket import Bucket
from ..settings.config import Config

NAMES = ("mcli", "minio-client", "mc")
BY_MC = "mc mirrors the bucket as it is now"
WEAKNESSES = (
    "it mirrors the bucket as it is while it reads, not as it was at the database's instant",
    "it neither compares nor keeps checksums: no SHA-256 is known of what it copied",
    "it decides by size and time, and may leave out what was overwritten by as many bytes",
    "tags and headers are carried by a second pass, object by object",
)
_ALIASES = ("lifeboatsource", "lifeboatvault")


def find() -> str:
    """MinIO's client. `mc` may be Midnight Commander, which is something else."""
    for name in NAMES:
        path = shutil.which(name)
        if path:
            _status, out, err = pipeline.probe(Command([path, "--version"]), timeout=20)
            if "minio" in (out + err).lower() or "RELEASE." in out:
                return path
    raise UsageError(
        "mirror the bucket", "engine mc", f"none of {', '.join(NAMES)} is MinIO's client on this host",
        "Install minio-client, or set lifeboat_objects.engine to lifeboat, and deploy.",
    )  # fmt: skip


def run(config: Config, source: Bucket, vault: Bucket, *, log: Log) -> None:
    """Copy what is new and changed. Keys travel in the environment; mc's own configuration is a directory that goes."""
    path = find()
    for weakness in WEAKNESSES:
        log(f"engine mc: {weakness}")
    env = {f"MC_HOST_{alias}": _host(bucket) for alias, bucket in zip(_ALIASES, (source, vault))}
    limit = parse_rate(config.objects.bandwidth)
    with filesystem.scratch("lifeboat-mc-") as home:
        trusted = Path(home, "certs", "CAs")
        trusted.mkdir(parents=True)
        for number, bundle in enumerate(sorted({source.ca_bundle, vault.ca_bundle} - {""})):
            shutil.copy(bundle, trusted / f"{number}.crt")
        words = [path, "--config-dir", str(home), "--quiet", "--no-color", "mirror", "--overwrite"]
        words += ["--limit-download", f"{int(limit)}B"] if limit else []
        pipeline.run(
            [Command([*words, f"{_ALIASES[0]}/{source.name}", f"{_ALIASES[1]}/{vault.name}"], env)],
            attempted="mirror the bucket with mc",
            subject=f"{source.url} to {vault.url}",
            timeout=config.timeout,
            remedy="Look at what mc says, or set lifeboat_objects.engine to lifeboat.",
        )


def _host(bucket: Bucket) -> str:
    """mc takes an endpoint and its keys as one URL."""
    if not bucket.endpoint_url:
        raise LifeboatError("mirror the bucket with mc", bucket.url, "mc needs an endpoint_url", "Set it and deploy.")
    parts = urlsplit(bucket.endpoint_url)
    return f"{parts.scheme}://{quote(bucket.access_key, safe='')}:{quote(bucket.secret_key, safe='')}@{parts.netloc}"
