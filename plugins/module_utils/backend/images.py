# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images that recovery points name: which service ran what, and how to go back to it by tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..base import pipeline
from ..base.errors import LifeboatError, Log, NotFoundError, UsageError
from ..base.pipeline import Command
from ..repository import points
from ..repository.base import Repository
from ..repository.sources import REPOSITORY, VAULT, in_vault, open_place
from ..settings.config import Config
from ..stack.compose import ComposeRuntime
from ..stack.images import image_id
from ..stack.runtime import Opened
from .facts import Observations

POINTS = 10  # so far back an image is still a good guess; older ones know an older database


@dataclass(frozen=True)
class Known:
    """An image that a service ran when a recovery point was sealed. reference: name@digest, or name@image id."""

    point: str
    reference: str


def recorded(run: Opened) -> list[points.Point]:
    """Return the newest recovery points that can be read, newest first: the repository's, else the vault's copies."""
    places = [REPOSITORY] + ([VAULT] if in_vault(run) is not None else [])
    for place in places:
        try:
            found = _read(run.config, open_place(run, place))
        except LifeboatError:
            continue
        if found:
            return found
    return []


def _read(config: Config, repo: Repository) -> list[points.Point]:
    found = []
    for identity in sorted(repo.points(), reverse=True):
        try:
            one = points.parse(repo.read_point(identity), expected_id=identity)
        except LifeboatError:
            continue
        if one.stack == config.stack and one.images:
            found.append(one)
        if len(found) == POINTS:
            break
    return found


def local(reference: str) -> str:
    """Return the image id that `name@digest` stands for: a digest that a registry gave, or an image's own id."""
    name, _sep, digest = reference.partition("@")
    return image_id(reference) or (image_id(digest) if name else "")


def changed(run: Opened, observations: Observations) -> dict[str, str]:
    """Service -> the newest recovery point in which it ran another image than it does now."""
    return {service: known.point for service, known in candidates(run, observations).items()}


def candidates(run: Opened, observations: Observations) -> dict[str, Known]:
    """For each ill service the newest image that differs from the one it runs now, or would run."""
    ill = {item.service: item.made_from for item in observations.ill_backend}
    ill.update(dict.fromkeys([name for name in observations.absent if name in observations.services], ""))
    found: dict[str, Known] = {}
    for point in recorded(run) if ill else []:
        for service, current in ill.items():
            reference = point.images.get(service, "")
            if reference and service not in found and (local(reference) or reference.partition("@")[2]) != current:
                found[service] = Known(point.id, reference)
    return found


def obtain(reference: str, *, timeout: float) -> str:
    """Return the image on this host, pulled by its digest where it is not. Raises NotFoundError."""
    found = local(reference)
    if not found:
        status, _out, err = pipeline.probe(Command(["docker", "pull", "--quiet", reference]), timeout=timeout)
        found = local(reference) if status == 0 else ""
        if not found:
            raise NotFoundError(
                "get the image of the recovery point", reference,
                f"it is not on this host and no registry gives it: {pipeline.one_line(err) or 'no answer'}",
                "Load it (docker load) where you have it, then run the same command again.",
            )  # fmt: skip
    return found


def pin(config: Config, stack: ComposeRuntime, service: str, known: Known, stamp: str, *, log: Log) -> tuple[str, str]:
    """Let the name that the service uses mean the known image. Returns (name, the name under which the other is kept).

    By tag, so that no file of the operator's is written and his next deployment simply goes on. The image that the tag
    meant is kept under another name: untagged, the next tidying up would remove it.
    """
    reference = stack.image(service)
    if "@" in reference:
        raise UsageError(
            "go back to an earlier image", service, f"the Compose files pin {reference} by its digest",
            "The configuration backup has the Compose files of then: -e method=redeploy.",
        )  # fmt: skip
    good, old = obtain(known.reference, timeout=config.timeout), image_id(reference)
    kept = ""
    if old == good:
        return reference, kept
    if old:
        repository = f"lifeboat-quarantine/{config.stack}-{service}".lower()
        kept = _kept_as(repository, old)
        if not kept:
            kept = f"{repository}:{stamp}".lower()
            _tag(old, kept)
    _tag(good, reference)
    log(
        f"{reference} is the image of recovery point {known.point} again"
        + (f"; what it was is kept as {kept}" if kept else "")
    )
    return reference, kept


def unpin(pinned: Mapping[str, tuple[str, str]], *, log: Log) -> None:
    """It did not heal: the names mean again what they meant."""
    for reference, kept in pinned.values():
        if kept:
            _tag(kept, reference)
            log(f"{reference} is again what it was")


def _kept_as(repository: str, image: str) -> str:
    """Return the name that a run which was killed gave the image; empty where none did."""
    shown = ["docker", "image", "ls", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}", repository]
    _status, out, _err = pipeline.probe(Command(shown))
    lines = (line.partition(" ") for line in out.splitlines())
    return next((name for identity, _sep, name in lines if identity == image and not name.endswith(":<none>")), "")


def _tag(image: str, name: str) -> None:
    pipeline.output(Command(["docker", "tag", image, name]), attempted="name the image", subject=f"{image} {name}")


def needed_ids(run: Opened) -> set[str]:
    """Images that recovery points name: never tidied away."""
    return {found for point in recorded(run) for image in point.images.values() if (found := local(image))}
