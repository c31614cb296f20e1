# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a backend's recovery, smallest first. Whether a step healed is judged elsewhere.

What a step replaces is kept: a container's own files as an image, an image under another name, files as files.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from ..base import pipeline
from ..base.checks import Check, accepted
from ..base.errors import LifeboatError, Log, UsageError
from ..base.pipeline import Command
from ..configuration import allowed as configuration_allowed
from ..settings.config import Config
from ..stack.compose import ComposeRuntime
from ..stack.runtime import Opened
from . import host, images
from . import redeploy as backend_redeploy
from . import space as backend_space
from . import stores as backend_stores
from .cause import ENGINE, IMAGE, RECREATE, REDEPLOY, RESTART, SPACE
from .facts import BACKEND, DATABASE, OBJECTS, Observations, Unit

# What images write into their own layer while they run and create again at every start.
_FLEETING = re.compile(
    r"/(tmp|run|var/run|var/tmp|var/cache|proc|sys|dev|etc/(hosts|hostname|resolv\.conf|mtab))(/|$)|__pycache__"
)
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass
class Work:
    """What every step needs, and what it leaves for the record. observations: the newest. quarantined: what was put
    aside."""

    run: Opened
    observations: Observations
    stamp: str
    log: Log
    key: str = field(default="", repr=False)
    identity: str = "latest"
    accept: bool = False
    quarantined: list[str] = field(default_factory=list)
    way_back: list[str] = field(default_factory=list)
    pinned: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def compose(self) -> ComposeRuntime:
        """A fresh look at the project: the files may have changed since the last step."""
        stack = self.run.reread()
        if not isinstance(stack, ComposeRuntime):
            raise UsageError(
                "do this step", self.run.config.stack, "it is about containers, and the stack is of systemd units"
            )
        return stack

    @property
    def patience(self) -> float:
        return self.run.config.application.timeout + 60


def engine(work: Work) -> None:
    """Start it; one that runs and does not answer is restarted."""
    name, state = host.unit()
    if not name:
        raise LifeboatError(
            "start the Docker Engine", "docker", "there is no systemd unit of it", "Start it the way it was installed."
        )
    verb = "restart" if state.startswith("active") else "start"
    work.log(f"{verb}ing {name}")
    pipeline.probe(Command(["systemctl", "reset-failed", name]))
    pipeline.run(
        [Command(["systemctl", verb, name])],
        attempted=f"{verb} the Docker Engine", subject=name, timeout=180,
        remedy=f"journalctl --unit {name} --lines 50 says why.",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (problem := host.engine_problem()) and time.monotonic() < deadline:
        time.sleep(0.5)
    if problem:
        raise LifeboatError("start the Docker Engine", name, problem, f"journalctl --unit {name} --lines 50 says why.")


def restart(work: Work) -> None:
    """Start what is stopped, restart what runs and is not well. Needs no compose file but for what has no container."""
    stack = work.run.reread()
    stores = [service for service in work.observations.ill if service.role in (DATABASE, OBJECTS)]
    ill = work.observations.ill_backend
    if not (stores or ill or work.observations.absent):
        ill = [service for service in work.observations.units if service.role == BACKEND and not service.once]
    if not isinstance(stack, ComposeRuntime):
        _units([service.service for service in (*stores, *ill)], work)
        return
    for holder in work.observations.ports:
        if holder.ours and holder.container:
            work.log(f"stopping {holder.container}, which stands in the way; it is not removed")
            _docker("stop", [holder.container], work)
            work.quarantined.append(f"container {holder.container} (stopped)")
    for group in (stores, ill):
        _wake(group, work)
    absent_stores = [name for name in work.observations.absent if name in work.run.config.stores]
    for names in (absent_stores, [name for name in work.observations.absent if name not in absent_stores]):
        if names:
            work.log(f"starting {', '.join(names)}")
            stack.start(names, timeout=work.patience)


def _units(names: Sequence[str], work: Work) -> None:
    work.log(f"restarting {', '.join(names) or 'nothing'}")
    for name in names:
        pipeline.probe(Command(["systemctl", "reset-failed", name]))
        pipeline.run(
            [Command(["systemctl", "restart", name])], attempted="restart the unit", subject=name,
            timeout=work.patience, remedy=f"journalctl --unit {name} --lines 50 says why.",
        )  # fmt: skip


def _wake(group: Sequence[Unit], work: Work) -> None:
    paused = [service.id for service in group if service.status == "paused"]
    if paused:
        _docker("unpause", paused, work)
    if group:
        work.log(f"restarting {', '.join(service.name for service in group)}")
        _docker("restart", [service.id for service in group], work)


def _docker(verb: str, names: Sequence[str], work: Work) -> None:
    pipeline.run(
        [Command(["docker", verb, *names])], attempted=f"{verb} the container",
        subject=", ".join(name[:40] for name in names), timeout=work.patience,
        remedy="docker ps --all, and the container's log.",
    )  # fmt: skip


def recreate(work: Work) -> None:
    """The seed's `down` and `up -d`. Where `down` would lose data, only the backend's containers are created again."""
    stack = work.compose()
    keep_layers(work)
    reasons = unmovable(work.run.config, stack, work.observations)
    if work.observations.images_gone:
        reasons = [*reasons, "an image must be fetched first"]
    if reasons:
        work.notes.append(f"no `down`: {'; '.join(reasons)}")
        work.log(work.notes[-1])
        _up(stack, work, ["--no-deps", "--force-recreate", *_backend(work)])
        return
    work.log("docker compose down (volumes stay)")
    pipeline.run(
        [stack.compose("down")], attempted="take the project down", subject=stack.project, timeout=work.patience,
        remedy="docker compose ps --all shows what is left.",
    )  # fmt: skip
    _up(stack, work, [])


def _backend(work: Work) -> list[str]:
    return sorted(work.observations.services) or sorted(
        {service.service for service in work.observations.units if service.role == BACKEND}
    )


def _up(stack: ComposeRuntime, work: Work, arguments: Sequence[str]) -> None:
    work.log(f"docker compose up --detach {' '.join(arguments)}".rstrip())
    stack.control(
        "up", "--detach", *arguments, attempted="start the project", subject=work.run.config.stack,
        timeout=work.patience, remedy="docker compose ps --all, and the services' logs.",
    )  # fmt: skip


def unmovable(config: Config, stack: ComposeRuntime, observations: Observations) -> list[str]:
    """List why `down` would lose data: volumes without a name stay behind, and a container's own layer is removed."""
    reasons = []
    for container in stack.containers():
        if any(mount.type == "volume" and _ANONYMOUS.fullmatch(mount.name) for mount in container.mounts):
            reasons.append(f"{pipeline.one_line(container.name)} has a volume without a name")
    for item in observations.units:
        if item.role not in (DATABASE, OBJECTS):
            continue
        try:
            backend_stores.data_mount(config, stack, item.role)
        except LifeboatError as exc:
            reasons.append(f"{item.service}: {exc.cause}")
    return reasons


def keep_layers(work: Work, services: Optional[Collection[str]] = None) -> None:
    """Files that a container of the backend wrote into its own layer go with it: keep them as an image."""
    for service in work.observations.units:
        asked = services is None or service.service in services
        if service.role in (DATABASE, OBJECTS) or not asked or not service.id or not _written(service.id):
            continue
        plainly = re.sub(r"[^a-z0-9]+", "-", service.name.lower()).strip("-")
        name = f"lifeboat-quarantine/{plainly}-files:{work.stamp}"
        pipeline.output(
            Command(["docker", "commit", "--pause=false", service.id, name]),
            attempted="keep the container's own files",
            subject=service.name, timeout=600, remedy="docker cp takes them out of the container by hand.",
        )  # fmt: skip
        if f"image {name}" not in work.quarantined:
            work.log(f"{service.name} holds files of its own: kept as the image {name}")
            work.quarantined.append(f"image {name}")


def _written(container: str) -> list[str]:
    """Paths of files that a container added or changed, without what is fleeting.

    From its layer itself where the storage driver has one: `docker diff` does not tell a file from a directory, and
    every nginx makes directories.
    """
    layer = '{{with .GraphDriver}}{{with .Data}}{{index . "UpperDir"}}{{end}}{{end}}'
    _status, out, _err = pipeline.probe(Command(["docker", "inspect", "--format", layer, container]))
    upper = out.strip()
    if upper.startswith("/") and Path(upper).is_dir():
        found = [os.path.join(folder, name) for folder, _folders, names in os.walk(upper) for name in names]
        paths = [path[len(upper) :] for path in found if _holds_bytes(path)]
    else:
        _status, out, _err = pipeline.probe(Command(["docker", "diff", container]))
        changed = [line[2:] for line in out.splitlines() if line[:2] in ("A ", "C ")]
        above = {path.rpartition("/")[0] for path in changed}
        paths = [path for path in changed if path not in above]
    return [path for path in paths if not _FLEETING.search(path)]


def _holds_bytes(path: str) -> bool:
    """A plain file with something in it; the layer marks what was removed with a device."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def space(work: Work) -> None:
    """Free disk, then start what could not start; an engine that does not run is the next step."""
    backend_space.free(work.run, work.observations.host.full, log=work.log)
    if work.run.config.runtime.type != "compose":
        _units([service.service for service in work.observations.ill_backend], work)
    elif not work.observations.host.engine:
        stopped = [service for service in work.observations.ill if service.status != "running"]
        _wake([service for service in stopped if service.role != BACKEND], work)
        _wake([service for service in work.observations.ill if service.role == BACKEND], work)


def image(work: Work) -> None:
    """Go back to the image that the service ran in a recovery point."""
    stack = work.compose()
    known = images.candidates(work.run, work.observations)
    if not known:
        why = "no recovery point names another image than the present one"
        raise UsageError("go back to an earlier image", work.run.config.stack, why)
    keep_layers(work, known)
    for service, item in known.items():
        work.pinned[service] = images.pin(work.run.config, stack, service, item, work.stamp, log=work.log)
        reference, kept = work.pinned[service]
        if kept:
            work.quarantined.append(f"image {kept}, which was {reference}")
            work.way_back.append(f"docker tag {kept} {reference}")
    _up(stack, work, ["--no-deps", "--force-recreate", "--pull", "never", *sorted(known)])


def redeploy(work: Work) -> None:
    """The files of the configuration backup, then everything as they say."""
    if work.pinned:
        images.unpin(work.pinned, log=work.log)
        work.pinned.clear()
    keep_layers(work)
    done = backend_redeploy.redeploy(
        work.run, identity=work.identity, key=work.key, stamp=work.stamp, accept=work.accept, log=work.log
    )
    work.quarantined += [f"files in {done.quarantine}"] if done.quarantine else []
    work.way_back += done.way_back
    work.notes.append(f"{done.backup}: put back {', '.join([*done.replaced, *done.created]) or 'nothing'}")
    if done.failed:
        work.checks.append(accepted([f"{done.backup}: {done.failed}"]))
    work.checks += configuration_allowed.checks(done.left)
    if done.missing:
        work.notes.append(f"stayed sealed without -e identity_file=…: {', '.join(done.missing)}")
    stack = work.compose()
    stack.model  # noqa: B018 - a project that Compose still cannot read is not started
    only = [service for service in stack.services() if service in _backend(work)]
    _up(
        stack,
        work,
        ["--no-deps", "--force-recreate", *only] if unmovable(work.run.config, stack, work.observations) else [],
    )


STEPS: Mapping[str, Callable[[Work], None]] = {
    ENGINE: engine, RESTART: restart, RECREATE: recreate, SPACE: space, IMAGE: image, REDEPLOY: redeploy,
}  # fmt: skip
