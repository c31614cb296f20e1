# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to an object store. Each is done for real, and looked at."""

from __future__ import annotations

import random
import time

from ...base.errors import LifeboatError, Log, UsageError
from ...s3 import bucket, client, delete_bucket
from ...s3.bucket import Bucket
from ...settings import scenarios
from ...settings.config import Config
from ...stack import buckets
from ...stack.runtime import Opened
from ...stack.service import DataMount
from . import service as drill_service
from .service import did_not_take

_AT_ONCE = 1000
_PATIENCE = 60.0


def _service(config: Config) -> str:
    if not config.objects.service:
        cause = "it is not ours to start and stop: lifeboat_objects.service is empty"
        raise UsageError("break the object store", config.stack, cause, "Choose a fault of the bucket alone.")
    return config.objects.service


def _data(run: Opened) -> DataMount:
    if not run.config.objects.data_directory:
        cause, remedy = "lifeboat_objects.data_directory is not set", "Set it, or choose a fault of the bucket alone."
        raise UsageError("find the object store's data", run.config.stack, cause, remedy)
    return drill_service.mount(run, _service(run.config), run.config.objects.data_directory)


def kill(run: Opened, _lot: random.Random, _log: Log) -> str:
    return f"{_service(run.config)} is {drill_service.kill(run, _service(run.config)).describe()}"


def empty(run: Opened, _lot: random.Random, _log: Log) -> str:
    """Everything is gone, and a file lies where the server wants a directory: it cannot even start empty."""
    data, service = _data(run), _service(run.config)
    names = sorted(path.name for path in data.path.iterdir() if path.is_dir())
    drill_service.kill(run, service)
    count = drill_service.empty(data.path)
    for name in names[:1]:
        (data.path / name).write_text("gone\n", encoding="ascii")
    return f"{count} entries of {data.path} deleted; {service} is {drill_service.stopped(run, service).describe()}"


def noise(run: Opened, lot: random.Random, log: Log) -> str:
    """Noise in the middle of every large file, as of a dying disk."""
    data, service = _data(run), _service(run.config)
    drill_service.kill(run, service)
    files = [path for path in data.path.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = {path: size for path in files if (size := path.stat().st_size) > 1}
    changed = sum(
        drill_service.noise(path, lot, offset=size // 4, size=max(1, size // 2)) for path, size in sizes.items()
    )
    if not sizes:
        raise did_not_take(str(data.path), "there is no file that could be overwritten")
    log(f"{changed} bytes in {len(sizes)} files are noise now")
    return f"{changed} bytes in {len(sizes)} files of {data.path} overwritten; {service} was killed"


def remove(run: Opened, _lot: random.Random, _log: Log) -> str:
    return drill_service.remove_volume(run, _service(run.config), _data(run))


def _delete(source: Bucket, what: str, versions: list[dict[str, str]]) -> int:
    """Delete the versions. Returns how many could not be deleted."""
    failed = 0
    for first in range(0, len(versions), _AT_ONCE):
        page = {"Objects": versions[first : first + _AT_ONCE], "Quiet": True}
        with client.translated_errors(f"delete {what}", source.url):
            failed += len(source.client.delete_objects(Bucket=source.name, Delete=page).get("Errors", ()))
    return failed


def delete_objects(run: Opened, lot: random.Random, _log: Log) -> str:
    """Delete half of the objects, here and there, as a client with a bug would."""
    source = buckets.source(run)
    keys = sorted(version.key for version in bucket.objects(source))
    gone = lot.sample(keys, max(1, len(keys) // 2)) if keys else []
    failed = _delete(source, "objects", [{"Key": key} for key in gone])
    if failed:
        raise did_not_take(source.url, f"{failed} objects could not be deleted")
    left = sum(1 for _key in bucket.objects(source))
    if not gone or left > len(keys) - len(gone) // 2:  # somebody writes meanwhile
        raise did_not_take(source.url, f"{len(keys)} objects before, {left} after")
    return f"{len(gone)} of {len(keys)} objects of {source.url} deleted, {left} left"


def delete_whole_bucket(run: Opened, _lot: random.Random, _log: Log) -> str:
    """Delete every version of everything, and the bucket."""
    source = buckets.source(run)
    count = 0
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:  # somebody writes meanwhile, and a server may make the bucket again for a write
        found = [{"Key": version.key, "VersionId": version.version} for version in bucket.versions(source)]
        _delete(source, "versions", found)
        count += len(found)
        try:
            delete_bucket.delete_bucket(source, confirm=run.config.objects.bucket)
        except LifeboatError as exc:
            if client.code(exc) != "BucketNotEmpty":
                raise
            continue
        try:
            with client.translated_errors("look for the bucket", source.url):
                source.client.head_bucket(Bucket=source.name)
        except LifeboatError as exc:
            return f"{count} versions and the bucket {source.url} deleted: {exc.cause}"
    raise did_not_take(source.url, "the bucket is still there")


SCENARIO = scenarios.OBJECT_STORAGE
FAULTS = (
    (
        "data_directory_emptied", "the store is killed and its data directory emptied, a file left where its index was",
        empty,
    ),
    ("killed", "the store is killed", kill),
    ("corrupted", "the store is killed, and noise written into the middle of each of its files", noise),
    ("volume_removed", "the store's container and its volume are removed", remove),
    ("objects_deleted", "half of the objects are deleted, here and there", delete_objects),
    ("bucket_deleted", "the bucket is deleted, with every version of everything in it", delete_whole_bucket),
)  # fmt: skip
