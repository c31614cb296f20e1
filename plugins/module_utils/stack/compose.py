# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reach and control the services of a Compose project."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..base import pipeline
from ..base.errors import LifeboatError, NotFoundError, UsageError
from ..base.pipeline import Command
from ..settings.config import Config
from .service import DataMount, ServiceState


class ComposeRuntime:
    """A Compose project, by its directory. Containers are found by Compose's own labels, so a broken compose file or
    a stopped service does not hide them; `docker exec` is used rather than `docker compose exec`, which is slower."""

    def __init__(self, config: Config) -> None:
        self._directory = config.runtime.project_directory
        self._files = config.runtime.files
        self._project = config.runtime.project
        self._data_directory = config.database.data_directory
        self._model: Optional[dict[str, Any]] = None
        self._borne = ""
        self.label = f"compose project {self._project or self._directory}"

    def compose(self, *argv: str) -> Command:
        """`docker compose`, told where the project is."""
        words = ["docker", "compose"]
        if self._directory:
            words += ["--project-directory", self._directory]
        for file in self._files:
            words += ["--file", os.path.join(self._directory, file)]
        if self._project:
            words += ["--project-name", self._project]
        return Command([*words, *argv])

    @property
    def model(self) -> dict[str, Any]:
        """The project as Compose itself resolves it. Holds secrets: never logged, never returned by a module."""
        if self._model is None:
            if self._directory and not Path(self._directory).is_dir():
                raise NotFoundError(
                    "read the Compose project",
                    self._directory,
                    "there is no such directory",
                    "Correct lifeboat_runtime.project_directory.",
                )
            text = pipeline.output(
                self.compose("config", "--format", "json"),
                attempted="read the Compose project",
                subject=self._directory or self._project,
                timeout=60,
                remedy="`docker compose config` in that directory shows the same.",
            )
            self._model = dict(json.loads(text))
        return self._model

    @property
    def directory(self) -> str:
        return self._directory

    @property
    def project(self) -> str:
        """Its name: as configured, as Compose says, or as its containers bear it where Compose cannot read it."""
        if self._project or self._borne:
            return self._project or self._borne
        try:
            return str(self.model["name"])
        except LifeboatError:
            borne = self._projects_here()
            if len(borne) != 1:
                raise
            self._borne = borne[0]
            return self._borne

    def _projects_here(self, *more: str, running: bool = False) -> list[str]:
        """The names of the projects whose containers, or those that run, were made from our directory."""
        if not self._directory:
            return []
        labels = [f"com.docker.compose.project.working_dir={self._directory}", *more]
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        shown = '{{.Label "com.docker.compose.project"}}'
        every = [] if running else ["--all"]
        _status, out, _err = pipeline.probe(Command(["docker", "ps", *every, *filters, "--format", shown]))
        return sorted(set(out.split()))

    def services(self) -> list[str]:
        """Those that the project runs; one with no replica is none."""
        found = self.model.get("services") or {}
        return sorted(
            name
            for name, item in found.items()
            if 0 not in (item.get("scale"), (item.get("deploy") or {}).get("replicas"))
        )

    def containers(self) -> list[dict[str, Any]]:
        """What the engine says of each container of the project, word for word. Holds secrets: their environment."""
        attempted, subject = "ask the engine for the containers", self.project
        words = ["docker", "ps", "--all", "--quiet", "--no-trunc"]
        for label in (f"project={self.project}", "oneoff=False"):
            words += ["--filter", f"label=com.docker.compose.{label}"]
        ids = pipeline.output(Command(words), attempted=attempted, subject=subject, timeout=60).split()
        if not ids:
            return []
        raw = pipeline.output(Command(["docker", "inspect", *ids]), attempted=attempted, subject=subject, timeout=60)
        return [dict(load) for load in json.loads(raw)]

    def definition(self, service: str) -> dict[str, Any]:
        """The service as Compose resolves it. Holds secrets."""
        services = self.model.get("services") or {}
        if service not in services:
            raise NotFoundError(
                "find the service",
                f"{service} in {self.project}",
                f"the project has {', '.join(sorted(services))}",
                "Correct the service's name in the inventory.",
            )
        return dict(services[service])

    def state(self, service: str) -> ServiceState:
        ids = pipeline.output(
            Command(
                [
                    "docker",
                    "ps",
                    "--all",
                    "--quiet",
                    "--no-trunc",
                    "--filter",
                    f"label=com.docker.compose.project={self.project}",
                    "--filter",
                    f"label=com.docker.compose.service={service}",
                    "--filter",
                    "label=com.docker.compose.oneoff=False",
                ]
            ),
            attempted="ask the engine for the service",
            subject=service,
            timeout=60,
            remedy="Is the Docker Engine running? `systemctl status docker`.",
        ).split()
        if not ids:
            self.definition(service)  # absent is a state; a name nobody knows is an error
            self._refuse_other_project(service)
            return ServiceState()
        inspected = pipeline.output(
            Command(["docker", "inspect", *ids]), attempted="inspect the service", subject=service, timeout=60
        )
        containers = [_container_state(load) for load in json.loads(inspected)]
        return next((container for container in containers if container.running), containers[0])

    def _refuse_other_project(self, service: str) -> None:
        """The same directory may run under another project name: starting ours would make a second, empty database."""
        others = self.elsewhere(service)
        if others:
            raise UsageError(
                "find the service", f"{service} in project {self.project}",
                f"{self._directory} runs as project {', '.join(others)}", "Set lifeboat_runtime.project to that name.",
            )  # fmt: skip

    def elsewhere(self, service: str, *, running: bool = False) -> list[str]:
        """Other projects of our directory that have the service, or run it."""
        return sorted(
            set(self._projects_here(f"com.docker.compose.service={service}", running=running)) - {self.project}
        )

    def command(
        self,
        service: str,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        stdin: bool = False,
        user: str = "",
    ) -> Command:
        found = self.state(service)
        if not found.running:
            raise NotFoundError(
                "reach the service",
                f"{service} of {self.project}",
                f"its container is {found.describe()}",
                f"Start it (docker compose up -d {service}), or recover it with lifeboat.dr.recover_database.",
            )
        return exec_command(found.id, argv, env=env, stdin=stdin, user=user)

    def start(self, services: Sequence[str], *, timeout: float) -> None:
        """Start the containers there are, make those that are missing; a recovery is no time for a new version.

        Without --no-recreate Compose replaces every container that depends on another: --no-deps leaves what it depends
        on out of what it compares.
        """
        if services:
            self.up(
                "--no-deps", "--no-recreate", *services, attempted="start services", subject=", ".join(services),
                timeout=timeout, remedy=self._remedy,
            )  # fmt: skip

    def up(self, *words: str, attempted: str, subject: str, timeout: float, remedy: str) -> None:
        pipeline.run(
            [self.compose("up", "--detach", *words)], attempted=attempted, subject=subject, timeout=timeout,
            remedy=remedy,
        )  # fmt: skip

    def stop(self, services: Sequence[str], *, timeout: float) -> None:
        if services:
            self._control("stop", services, ["stop", *services], timeout)

    def discard(self, service: str, *, timeout: float) -> None:
        """Remove the service's container; its volumes stay."""
        self._control("remove the container of", [service], ["rm", "--stop", "--force", service], timeout)

    def data_path(self, service: str) -> str:
        """Where the server keeps its data, inside the container."""
        environment = self.state(service).environment or self.definition(service).get("environment") or {}
        return self._data_directory or str(environment.get("PGDATA") or "/var/lib/postgresql/data")

    def initialise(self, service: str, path: str, superuser: str) -> None:
        """Nothing to do: the image initialises an empty data directory when it starts."""

    def by_hand(self, service: str) -> tuple[str, str]:
        """What an operator types to take the service away, and to start everything."""
        words = shlex.join(self.compose().argv)
        return f"{words} rm --stop --force {shlex.quote(service)}", f"{words} up --detach"

    def _control(self, verb: str, services: Sequence[str], argv: list[str], timeout: float) -> None:
        pipeline.run(
            [self.compose(*argv)],
            attempted=f"{verb} services",
            subject=", ".join(services),
            timeout=timeout,
            remedy=self._remedy,
        )

    @property
    def _remedy(self) -> str:
        return f"Look at `docker compose --project-directory {self._directory} ps -a` and the services' logs."

    def logs(self, service: str, lines: int = 30) -> str:
        found = self.state(service)
        if not found.exists:
            return ""
        status, out, err = pipeline.probe(Command(["docker", "logs", "--tail", str(lines), found.id]))
        return pipeline.scrub(out + err) if status == 0 else ""

    def dependants(self, service: str) -> list[str]:
        """Services that depend on `service`, directly or through others: they write, so they are stopped first."""
        services = self.model.get("services") or {}
        found: set[str] = set()
        grew = True
        while grew:
            more = {
                name
                for name, item in services.items()
                if name not in found and ({service} | found) & set(item.get("depends_on") or {})
            }
            found |= more
            grew = bool(more)
        return sorted(found)

    def data_mount(self, service: str, inside: str) -> DataMount:
        """The mount that holds the path `inside` the container, by the project's definition, else the container's."""
        mounts = [
            (str(volume.get("target")), str(volume.get("type")), str(volume.get("source") or ""))
            for volume in self.definition(service).get("volumes") or []
        ]
        volumes = self.model.get("volumes") or {}
        holding = [mount for mount in mounts if _within(inside, mount[0])]
        if holding:
            _target, kind, source = max(holding, key=lambda one: len(one[0]))
            if kind == "bind":
                return DataMount("bind", source, Path(source))
            if source:
                return self._volume(str((volumes.get(source) or {}).get("name") or source))
        found = self.state(service)
        if found.exists:
            raw = json.loads(
                pipeline.output(
                    Command(["docker", "inspect", found.id]), attempted="inspect the service", subject=service
                )
            )[0]
            for item in raw.get("Mounts") or []:
                if item.get("Type") == "volume" and _within(inside, str(item.get("Destination"))):
                    return self._volume(str(item["Name"]))
        raise NotFoundError(
            "find the data volume",
            f"{service}:{inside}",
            "no volume or bind mount of the service holds that path",
            "Its data lives in the container's own layer; give the service a named volume.",
        )

    def _volume(self, name: str) -> DataMount:
        status, out, _err = pipeline.probe(
            Command(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name])
        )
        return DataMount("volume", name, Path(out.strip()) if status == 0 else Path())

    def image(self, service: str) -> str:
        found = self.state(service)
        return found.image or str(self.definition(service).get("image") or f"{self.project}-{service}")

    def images(self) -> dict[str, str]:
        """Service -> what its container was made from: name@digest as a registry knows it, else name@image id."""
        used: dict[str, tuple[str, str]] = {}
        for item in self.containers():
            service = str((item["Config"].get("Labels") or {}).get("com.docker.compose.service", ""))
            used[service] = (str(item["Config"].get("Image")), str(item.get("Image")))
        if not used:
            return {}
        # An image that is gone while its container runs on fails the whole question; its id is known all the same.
        shown = '{{.Id}} {{join .RepoDigests ","}}'
        wanted = sorted({image for _service, image in used.values()})
        _status, out, _err = pipeline.probe(Command(["docker", "image", "inspect", "--format", shown, *wanted]))
        digests = dict(line.split(" ", 1) for line in out.splitlines() if " " in line)
        found = {}
        for service, (name, image) in sorted(used.items()):
            known = [part for part in digests.get(image, "").split(",") if part]
            repository = name.partition("@")[0].rpartition(":")[0] or name
            found[service] = next((text for text in known if text.startswith(f"{repository}@")), "".join(known[:1]))
            found[service] = found[service] or f"{name.partition('@')[0]}@{image}"
        return found


def _container_state(raw: Mapping[str, Any]) -> ServiceState:
    state = raw["State"]
    environment = dict(item.split("=", 1) for item in raw["Config"].get("Env") or [] if "=" in item)
    return ServiceState(
        exists=True,
        running=bool(state.get("Running")) and not state.get("Restarting") and not state.get("Paused"),
        status=str(state.get("Status")),
        health=str((state.get("Health") or {}).get("Status") or "none"),
        exit_code=state.get("ExitCode"),
        restarts=int(raw.get("RestartCount") or 0),
        image=str(raw["Config"].get("Image")),
        image_id=str(raw.get("Image")),
        id=str(raw["Id"]),
        environment=environment,
    )


def _within(path: str, parent: str) -> bool:
    return os.path.commonpath([os.path.normpath(path), os.path.normpath(parent)]) == os.path.normpath(parent)


def exec_command(
    container: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False, user: str = ""
) -> Command:
    """`docker exec`, secrets passed by name: `-e PGPASSWORD` takes the value from our environment, not from argv."""
    words = ["docker", "exec"]
    if stdin:
        words.append("--interactive")
    if user:
        words += ["--user", user]
    for name in env or {}:
        words += ["--env", name]
    return Command([*words, container, *argv], env)
