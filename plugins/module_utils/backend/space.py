# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free disk from what is known to be safe, and from nothing else: never a volume, never a file that is not known.

Safe are the container logs of this project, dangling images that no recovery point names and no container uses, and the
builder's cache. Of a log the last lines are in the evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..base import filesystem, pipeline
from ..base.errors import LifeboatError, Log, SpaceError
from ..base.pipeline import Command
from ..base.text import human
from ..settings.config import Config
from ..stack.runtime import Opened
from . import host, images
from .facts import Disk

SMALL_LOG = 1 << 20  # what is smaller is worth more to read than to free
_ROTATED = re.compile(r"\.log\.\d+(\.gz)?$")
_LABEL = "com.docker.compose.project"


def logs(config: Config, root: Path) -> list[tuple[Path, int, bool]]:
    """Return the project's container logs: (file, bytes that would be freed, whether it is a rotated one)."""
    found = []
    for described in sorted(root.glob("containers/*/config.v2.json")):
        try:
            labels = (json.loads(filesystem.read_file(described)).get("Config") or {}).get("Labels") or {}
            labels = {**labels}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            continue
        mine = bool(config.runtime.project) and labels.get(_LABEL) == config.runtime.project
        directory = config.runtime.project_directory
        if not mine and not (directory and labels.get(f"{_LABEL}.working_dir") == directory):
            continue
        name = described.parent.name
        for path in sorted(described.parent.glob(f"{name}-json.log*")):
            rotated = bool(_ROTATED.search(path.name))
            if path.is_symlink() or not path.is_file() or not (rotated or path.name == f"{name}-json.log"):
                continue
            size = path.stat().st_size
            if rotated or size > SMALL_LOG:
                found.append((path, size, rotated))
    return found


def free(run: Opened, full: Sequence[Disk], *, log: Log) -> list[str]:
    """Free what is safe to free. Returns what was freed; raises SpaceError where the disk is as full as it was."""
    done: list[str] = []
    for path, size, rotated in logs(run.config, Path(host.docker_root())):
        try:
            if rotated:
                path.unlink()
            else:
                with path.open("r+b") as file:  # the engine appends to it: it goes on at the new end
                    file.truncate(0)
        except OSError as exc:
            log(f"{path.name}: {exc.strerror}")
            continue
        done.append(f"{'rotated log' if rotated else 'log'} {path.parent.name[:12]}: {human(size)}")
    if not host.engine_problem():
        done += _dangling(run, log) + _cache(log)
    for name in done:
        log(f"freed {name}")
    still = [item for item in host.disks([disk.path for disk in full]) if item.full]
    if still:
        where = ", ".join(f"{item.path} ({item.full})" for item in still)
        raise SpaceError(
            "free disk", where, f"freed {'; '.join(done) or 'nothing: there was nothing that is safe to remove'}",
            f"Look at what fills it: du -xh --max-depth 2 {still[0].path} | sort -h | tail. Volumes were not touched.",
        )  # fmt: skip
    return done


def _dangling(run: Opened, log: Log) -> list[str]:
    """`docker image prune` would take the previous image, which a recovery point may still name, along."""
    words = ["docker", "image", "ls", "--filter", "dangling=true", "--quiet", "--no-trunc"]
    status, out, _err = pipeline.probe(Command(words))
    if status or not out.split():
        return []
    try:
        needed = images.needed_ids(run)
    except LifeboatError as exc:
        log(f"no image is removed, because it is not known which are needed: {exc.cause}")
        return []
    freed = []
    for image in dict.fromkeys(out.split()):
        if image not in needed and pipeline.probe(Command(["docker", "image", "rm", image]))[0] == 0:
            freed.append(f"dangling image {image[7:19]}")
    return freed


def _cache(log: Log) -> list[str]:
    status, out, err = pipeline.probe(Command(["docker", "builder", "prune", "--force"]), timeout=600)
    if status:
        log(f"the build cache could not be tidied: {pipeline.one_line(err)}")
        return []
    found = re.search(r"Total:?\s*(reclaimed space:)?\s*(\S.*)", out)
    return [f"build cache: {pipeline.one_line(found.group(2))}"] if found and not found.group(2).startswith("0") else []
