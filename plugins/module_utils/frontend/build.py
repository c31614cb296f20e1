# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the frontend in a clean clone, and publish what was built. Foreign code runs without our rights and secrets."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base import filesystem, pipeline
from ..base.errors import IntegrityError, Log, UsageError
from ..base.filesystem import explained, open_below, relative_files, remove
from ..s3 import client as s3_client
from ..settings.config import Config
from ..settings.parts import FrontendSettings
from ..tools.git import Clone
from . import site
from .builder import Builder

_PREFIX = "lifeboat-frontend-"
SCRATCH = Path("/var/tmp")  # noqa: S108 - mkdtemp makes a private directory there; builds are too big for /run
LINES = 12  # that are kept of what a build said
_MARKUP = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|^##\[\w+\]")
_TRACE = re.compile(r"at (async )?\S.*[:(]|errors: \[|> |Process completed with exit code")
_NAMED = re.compile(r"[A-Z]\w*(Error|_ERROR)\b|\berror: \S|npm (error|ERR!) \S|\bE[A-Z]{5,}\b")
_ERROR = re.compile(r"(?i)\berr(or)?\b[!:\]]?|\bfailed\b|ERR!|✗|error\w*:")


@dataclass(frozen=True)
class Built:
    """The result of a build. `directory` empty: it failed, and `output` has the build's last lines."""

    commit: str
    directory: str
    output: tuple[str, ...] = ()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory for clones and builds, removed at the end. Others may pass through, not look into it."""
    filesystem.sweep(_PREFIX, SCRATCH, _without_the_builders)
    with explained("make a scratch directory", SCRATCH), filesystem.locked_directory(_PREFIX, SCRATCH) as folder:
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            for item in folder.iterdir():
                if item.lstat().st_uid == os.geteuid():  # a tree of the builder's that is not empty is left to him
                    shutil.rmtree(item, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _without_the_builders(folder: Path) -> None:
    """What a killed run left. Its builder may still write there: each directory is listed once."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


def build(settings: FrontendSettings, clone: Clone, commit: str, folder: Path, *, log: Log) -> Built:
    """Check out one commit into a clean clone and run the build there. That it fails is an answer, not an error."""
    log(f"building {commit[:12]}: {', then '.join(' '.join(words) for words in settings.build)}")
    builder = Builder(settings, commit, folder)
    with builder.opened(clone):
        if not (builder.tree / settings.directory).is_dir():
            return Built(commit, "", (f"{commit[:12]} has no directory {settings.directory}",))
        for number, words in enumerate(settings.build):
            # The first one fetches packages. Their code runs later, without a network.
            status, out, err = builder.run(words, network=number == 0)
            if status == 127 and not settings.builder_image:
                remedy = (
                    "Install Node, name its directory in lifeboat_frontend.builder_path, or give"
                    " lifeboat_frontend.builder_image."
                )
                raise UsageError("build the frontend", words[0], f"this host has no {words[0]}", remedy)
            if status:
                late = f"no end after {settings.build_timeout} s"
                # 137: by SIGKILL, which timeout(1) sends to what does not heed SIGTERM, and the kernel to others.
                how = {124: late, 137: f"{late}, or out of memory"}.get(status, f"exit {status}")
                return Built(commit, "", (*telling(f"{out}\n{err}"), f"{' '.join(words)}: {how}"))
        taken = folder / f"built-{commit[:12]}"
        why = builder.take(settings.output, taken)
    if why:
        return Built(commit, "", (why,))
    made = taken / settings.directory / settings.output
    if not (made / "index.html").is_file():
        return Built(commit, "", (f"the build left no {settings.directory}/{settings.output}/index.html",))
    told = site.commit_in(made, settings.marker)
    if not told or not commit.startswith(told):
        return Built(commit, "", (f"{settings.marker} of the built site tells {told or 'no commit'}",))
    return Built(commit, str(made))


def telling(text: str, count: int = LINES) -> list[str]:
    """Return the lines that tell why a build failed: from the first that speaks of an error, else the last; without
    colours, secrets, frames and the way through Node's own files."""
    plain = [_MARKUP.sub("", line).strip() for line in pipeline.scrub(text).splitlines()]
    lines = [line[:300] for line in plain if any(name.isalnum() for name in line) and not _TRACE.match(line)]
    first = next((index for index, line in enumerate(lines) if _ERROR.search(line)), 0)
    return lines[first:][:count] if first else lines[-count:]


def headline(lines: Sequence[str]) -> str:
    """Return the line that tells most: rather one that names the error than one that only counts it."""
    found = [line for pattern in (_NAMED, _ERROR) for line in lines if pattern.search(line)]
    return found[0] if found else lines[-1] if lines else "it said nothing"


# --- publishing ------------------------------------------------------------------------------------------------------


def publish(config: Config, built: Path, stamp: str, *, log: Log) -> str:
    """Put a built site where the fallback serves it. What lay there is moved aside; returns where to, or nothing.

    The file that tells the commit comes last, so that a site that a killed run published in part does not tell it.
    """
    fallback = config.frontend.fallback
    files = _plain_files(built)
    if fallback.bucket:
        _publish_to_bucket(config, built, files, log)
        return ""
    target = Path(fallback.directory)
    fresh, kept = target.with_name(f"{target.name}.new_{stamp}"), target.with_name(f"{target.name}.quarantine_{stamp}")
    log(f"publishing {len(files)} files in {target}")
    with explained("publish the site", target):
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        for left in target.parent.iterdir():  # of a run that was killed
            if re.fullmatch(rf"{re.escape(target.name)}\.new_[0-9]{{8}}_[0-9]{{6}}", left.name):
                remove(left)
        for name in files:
            path = fresh / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with open_below(built, tuple(name.split("/"))) as source, path.open("xb") as copy:
                shutil.copyfileobj(source, copy)
            path.chmod(0o644)
        for folder in [fresh, *(item for item in fresh.rglob("*") if item.is_dir())]:
            folder.chmod(0o755)
        old = sorted(target.iterdir())
        if old:
            kept.mkdir(mode=0o700)
        # Entry by entry: a web server in a container holds the directory itself, and would go on serving a renamed one.
        for entry in old:
            entry.rename(kept / entry.name)
        marker = _marker(config)
        for entry in sorted(fresh.iterdir(), key=lambda entry: (entry.name == marker.split("/")[0], entry.name)):
            entry.rename(target / entry.name)
        fresh.rmdir()
    return str(kept) if old else ""


def _marker(config: Config) -> str:
    """Return the path of the file that tells the commit."""
    return config.frontend.marker.partition("#")[0]


def _plain_files(built: Path) -> list[str]:
    """List the files of a built site. Refuse a link: it could show the world any file of this host."""
    found = relative_files(built)
    odd = [name for name, status in found.items() if not stat.S_ISREG(status.st_mode)]
    if odd:
        raise IntegrityError("publish the site", odd[0], "it is not a plain file", "Look at the build: why a link?")
    return sorted(found)


def _publish_to_bucket(config: Config, built: Path, files: list[str], log: Log) -> None:
    """Upload the files first and the pages last, so that no page names a file that is not there yet; then the file that
    tells the commit."""
    fallback, marker = config.frontend.fallback, _marker(config)
    access, secret = (config.secrets.get(name, "") for name in ("fallback_access_key", "fallback_secret_key"))
    client = s3_client.connect(fallback.endpoint_url, fallback.region, access, secret, fallback.ca_bundle)
    log(f"publishing {len(files)} files in the bucket {fallback.bucket}")
    with s3_client.translated_errors("publish the site", fallback.bucket):
        for name in sorted(files, key=lambda text: (text == marker, text.endswith(".html"), text)):
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            with open_below(built, tuple(name.split("/"))) as source:
                client.put_object(Bucket=fallback.bucket, Key=name, Body=source, ContentType=kind)
