# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Provide the images of a Compose project on a new machine: the very ones that were recorded, or the nearest there is.

For each service in turn: the recorded image that is here already; the backup's archive; a registry, asked for the
recorded digest; a registry, asked for the name; whatever is here under that name. The last two are another build, which
is said: a newer minor of a database or another C library is what the recovery itself can deal with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable

from ..base import pipeline
from ..base.checks import FAIL, PASS, Check
from ..base.errors import LifeboatError, Log, NotFoundError
from ..base.pipeline import Command
from .compose import ComposeRuntime

PULL_SECONDS = 1800


@dataclass(frozen=True)
class RequiredImage:
    """name: as the Compose file has it. recorded: name@digest when the recovery point was sealed; empty: unknown."""

    service: str
    name: str
    recorded: str

    @property
    def digest(self) -> str:
        return self.recorded.rpartition("@")[2] if "@" in self.recorded else ""


def required_images(runtime: ComposeRuntime, recorded: Mapping[str, str]) -> list[RequiredImage]:
    """The image of each service, by the project's own definition; one that is built is known by Compose's name."""
    return [
        RequiredImage(service, item.image or f"{runtime.project}-{service}", recorded.get(service, ""))
        for service, item in sorted(runtime.model.services.items())
    ]


def provide(
    runtime: ComposeRuntime, recorded: Mapping[str, str], load: Callable[[], object], *, check: bool, log: Log
) -> tuple[list[Check], list[str]]:
    """See that every service has its image. Returns the checks, and what was or would be brought here.

    load: puts the backup's archive into the engine; raises NotFoundError where there is none. Raises NotFoundError
    that names every image that is to be had from nowhere, and where it was looked for.
    """
    wants = required_images(runtime, recorded)
    lacking = [item for item in wants if not _right(item)]
    if check or not lacking:
        return [_image_check(item) for item in wants if item not in lacking], [item.service for item in lacking]
    tried: dict[str, list[str]] = {item.service: [] for item in lacking}
    try:
        load()
    except LifeboatError as exc:
        log(f"no images from the backup's archive: {exc.cause}")
        for told in tried.values():
            told.append(f"the backup's archive: {exc.cause}")
    for item in [image for image in lacking if not _right(image)]:
        _pull(item, tried[item.service], log)
    gone = [item for item in wants if not _ids(item.name)]
    if gone:
        said = {item.recorded or item.name: ", ".join(tried.get(item.service) or ["not tried"]) for item in gone}
        raise NotFoundError(
            "provide the images", ", ".join(item.service for item in gone),
            "; ".join(f"{image}: {told}" for image, told in said.items()),
            "Bring them here (docker load, docker login and docker pull, or docker compose build where the source is),"
            " then run the same command again; lifeboat_config.images=archive keeps them in the backup.",
        )  # fmt: skip
    return [_image_check(item) for item in wants], [item.service for item in lacking]


def _right(image: RequiredImage) -> bool:
    """Is the recorded image here under the name that the Compose file uses?"""
    ids = _ids(image.name)
    return bool(ids) and (not image.digest or image.digest in ids)


def image_id(reference: str) -> str:
    """Return the image's id on this host, empty where it is not there."""
    status, out, _err = pipeline.probe(Command(["docker", "image", "inspect", "--format", "{{.Id}}", reference]))
    return out.strip() if status == 0 else ""


def _ids(reference: str) -> set[str]:
    """The id and the registry digests of an image that is here; none where it is not."""
    shown = "{{.Id}}{{range .RepoDigests}} {{.}}{{end}}"
    status, out, _err = pipeline.probe(Command(["docker", "image", "inspect", "--format", shown, reference]))
    if status:
        return set()
    return {digest.rpartition("@")[2] for digest in out.split()}


def _pull(image: RequiredImage, tried: list[str], log: Log) -> None:
    """The recorded digest first; a registry that no longer has it may have the name."""
    for reference in dict.fromkeys([image.recorded, image.name] if image.digest else [image.name]):
        log(f"{image.service}: pulling {reference}")
        argv = ["docker", "pull", "--quiet", reference]
        status, _out, err = pipeline.probe(Command(argv), timeout=PULL_SECONDS)
        if status:
            tried.append(f"docker pull {reference}: {' '.join(err.split())[:200] or f'exit {status}'}")
            continue
        if reference != image.name and "@" not in image.name:
            pipeline.run(
                [Command(["docker", "tag", reference, image.name])], attempted="name the image", subject=image.name
            )
        return


def _image_check(image: RequiredImage) -> Check:
    ids, name = _ids(image.name), f"image {image.service}"
    if not ids:
        return Check(name, FAIL, f"{image.name} is not here")
    if image.digest and image.digest not in ids:
        return Check(name, PASS, f"{image.name}: another build than was recorded ({image.digest[:19]}…)")
    return Check(name, PASS, f"{image.name}, {'as' if image.digest else 'none'} recorded")
