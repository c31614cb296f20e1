# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Name the likely cause of a backend's failure and the smallest step that may heal it. Pure: facts in, cause out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..settings.scenarios import of_component
from .facts import DATABASE, Observations, Unit

ENGINE, RESTART, RECREATE, SPACE, IMAGE, REDEPLOY = "engine", "restart", "recreate", "space", "image", "redeploy"
LADDER: Mapping[str, str] = {
    ENGINE: "start the Docker Engine",
    RESTART: "restart the services that are not well",
    RECREATE: "docker compose down, then up -d (volumes stay)",
    SPACE: "free disk: old container logs of the project, dangling images, build cache; never a volume",
    IMAGE: "go back to the image of a recovery point, by tag",
    REDEPLOY: "put the compose files and .env of the configuration backup back; what they replace is kept",
}
_REFUSED = re.compile(
    r"password authentication failed|Access denied for user|authentication failed for|no password supplied"
    r"|InvalidAccessKeyId|SignatureDoesNotMatch|invalid_grant|WRONGPASS|role \"[^\"]*\" does not exist",
    re.IGNORECASE,
)
_UNSET = re.compile(r"KeyError: '[A-Z][A-Z0-9_]*'|environment variable|env(ironment)? var\b", re.IGNORECASE)
_ENV = re.compile(r"required variable|\.env\b|env file|env_file")
_FULL = "the disk is full: nothing can be started on it"
_SAME = "it would start the same thing again"
_SAME_IMAGE = "it would start the same image again"


@dataclass(frozen=True)
class Cause:
    """A likely cause. kind: of the table below. useful: steps in the order they are tried. useless: step -> why.

    next: the operator's next command where no step of ours may mend it.
    """

    kind: str
    description: str
    useful: tuple[str, ...] = ()
    useless: Mapping[str, str] = field(default_factory=dict)
    next: str = ""


# kind -> (useful steps, smallest first, {useless step: why})
_STEPS: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "pending": ((), {}),
    "project": ((), {}),
    "engine": ((ENGINE, RESTART, RECREATE, IMAGE, REDEPLOY), {}),
    "disk": ((SPACE, RECREATE), {RESTART: _FULL, IMAGE: _FULL, REDEPLOY: _FULL}),
    "database": ((), {}),
    "objects": ((), {}),
    "stray": ((RESTART, RECREATE), {IMAGE: "the image is not the cause", REDEPLOY: "the files are not the cause"}),
    "port": ((), {}),
    "env": ((REDEPLOY,), {RESTART: _SAME, RECREATE: "Compose cannot read .env", IMAGE: "the image is not the cause"}),
    "compose": (
        (REDEPLOY,),
        {RESTART: _SAME, RECREATE: "Compose cannot read its files", IMAGE: "Compose cannot read its files"},
    ),
    "refused": ((REDEPLOY,), {RESTART: _SAME, RECREATE: _SAME, IMAGE: "the image is not the cause"}),
    "image gone": ((RECREATE, IMAGE, REDEPLOY), {RESTART: "there is no image to start"}),
    "image": ((IMAGE, REDEPLOY), {RESTART: _SAME_IMAGE, RECREATE: _SAME_IMAGE}),
    "unset": ((REDEPLOY,), {RESTART: _SAME, RECREATE: _SAME, IMAGE: "the image is not the cause"}),
    "loop": ((RECREATE, IMAGE, REDEPLOY), {RESTART: "the engine has restarted it again and again"}),
    "memory": ((RESTART, RECREATE, IMAGE, REDEPLOY), {}),
    "stopped": ((RESTART, RECREATE, IMAGE, REDEPLOY), {}),
    "unhealthy": ((RESTART, RECREATE, IMAGE, REDEPLOY), {}),
    "silent": ((RESTART, RECREATE, IMAGE, REDEPLOY), {}),
    "healthy": ((RESTART, RECREATE, IMAGE, REDEPLOY), {}),
}  # fmt: skip
KINDS = tuple(_STEPS)
_SIGNALS = {137: "it was killed (SIGKILL)", 139: "it crashed (SIGSEGV)", 143: "it was told to end (SIGTERM)"}


def _cause(kind: str, description: str, observations: Observations, next: str = "") -> Cause:
    useful, useless = _STEPS[kind]
    if kind == "disk" and observations.host.engine:
        useful = (SPACE, ENGINE, *useful[1:])
    why = dict(useless)
    if kind in ("compose", "env") and any(
        service.status in ("exited", "paused") and not service.looping for service in observations.ill
    ):
        useful = (RESTART, *useful)  # a container that is there is started without any file, as it was made
        why.pop(RESTART, None)
    if ENGINE not in useful:
        why[ENGINE] = "it answers"
    if SPACE not in useful:
        why[SPACE] = "no disk is full"
    for step in LADDER:
        if step not in useful and step not in why:
            why[step] = "it would not help"
    return Cause(kind, description, useful, why, next)


def classify(observations: Observations, host: str = "<host>") -> Cause:
    """Return the likely cause, the one below before the one above it: a full disk before the crash that it causes."""
    if observations.pending:
        playbook = of_component(observations.pending_component).playbook
        command = f"ansible-playbook lifeboat.dr.{playbook} -e confirm={host}"
        return _cause("pending", observations.pending, observations, command)
    if observations.elsewhere:
        names = ", ".join(observations.elsewhere)
        words = (
            f"the stack's directory runs as project {names}: that may be the living one, so nothing is started beside"
        )
        return _cause(
            "project", words, observations,
            f"set lifeboat_runtime.project to {names} in the inventory, then: ansible-playbook lifeboat.dr.deploy",
        )  # fmt: skip
    full = observations.host.full
    if full and not observations.healthy:
        where = "; ".join(f"{disk.path} has no {disk.full} left" for disk in full)
        return _cause("disk", f"the disk is full: {where}", observations)
    if observations.host.engine:
        unit = f" (its unit is {observations.host.unit})" if observations.host.unit else ""
        return _cause("engine", f"the Docker Engine does not answer{unit}: {observations.host.engine}", observations)
    for store in sorted(observations.stores, key=lambda item: item.role != DATABASE):
        if store.broken:
            below = "database" if store.role == DATABASE else "object store"
            playbook = of_component(store.role).playbook
            return _cause(
                store.role, f"the {below} underneath is broken: {store.broken}", observations,
                f"ansible-playbook lifeboat.dr.{playbook} -e confirm={host}",
            )  # fmt: skip
    foreign = [holder for holder in observations.ports if not holder.ours]
    if foreign:
        words = "; ".join(
            f"port {holder.port}, which {holder.service} needs, is held by {holder.describe()}" for holder in foreign
        )
        return _cause("port", words, observations, "; ".join(holder.stop for holder in foreign))
    if observations.ports:
        words = "; ".join(
            f"{holder.describe()} of the same project holds port {holder.port} of {holder.service}"
            for holder in observations.ports
        )
        return _cause("stray", words, observations)
    if observations.env_missing:
        return _cause("env", f".env lacks {', '.join(observations.env_missing)}", observations)
    if observations.compose:
        kind = "env" if _ENV.search(observations.compose) else "compose"
        return _cause(kind, f"Compose cannot read the project: {observations.compose}", observations)
    return _of_the_services(observations)


def _of_the_services(observations: Observations) -> Cause:
    """Return the cause among the services themselves: host, stores, ports and files are right."""
    ill = observations.ill_backend
    if observations.images_gone:
        words = ", ".join(f"{image} of {name}" for name, image in sorted(observations.images_gone.items()))
        return _cause("image gone", f"the image is not on this host: {words}", observations)
    for service in ill:
        line = _telling(service, _REFUSED)
        if line:
            return _cause("refused", f"{service.service} is refused by what it depends on: {line}", observations)
    looping = [
        service
        for service in ill
        if service.looping or (service.status in ("exited", "created") and _cannot_run(service))
    ]
    for service in looping:
        if service.service in observations.images_changed:
            other = f"with another image than in recovery point {observations.images_changed[service.service]}"
            words = f"{service.service} crashes in a loop ({service.describe()}) {other}"
            return _cause("image", _with_last_words(words, service), observations)
    for service in looping:
        line = _telling(service, _UNSET)
        if observations.env_blank and line:
            return _cause(
                "unset", f".env lacks {', '.join(observations.env_blank)}; {service.service} says: {line}", observations
            )
    if looping:
        return _cause(
            "loop",
            _with_last_words(f"{looping[0].service} crashes in a loop ({looping[0].describe()})", looping[0]),
            observations,
        )
    for service in observations.ill:
        if service.oom:
            return _cause("memory", f"{service.service} was killed because memory ran out", observations)
    stopped = [service for service in observations.ill if service.status != "running"]
    if stopped or observations.absent:
        told = [f"{service.service} is {service.describe()}{_signal(service)}" for service in stopped]
        told += [f"{name} has no container" for name in observations.absent]
        return _cause("stopped", "; ".join(told), observations)
    if observations.ill:
        service = observations.ill[0]
        said = f"; its check says: {service.health_output}" if service.health_output else ""
        return _cause("unhealthy", f"{service.service} runs and is not well ({service.describe()}){said}", observations)
    if observations.unanswered:
        one_check = observations.unanswered[0]
        return _cause("silent", f"every service runs, but {one_check.name}: {one_check.detail}", observations)
    return _cause("healthy", "every service is well and every endpoint answers", observations)


def _cannot_run(service: Unit) -> bool:
    """Return whether the image lacks the program, or has one for another kind of machine: that is no crash."""
    return service.exit_code in (126, 127) or bool(
        re.search(r"exec format error|executable file not found", service.error)
    )


def _telling(service: Unit, pattern: re.Pattern[str]) -> str:
    """Return the last line of its log, or of its health check, that matches."""
    return next(
        (line for line in (*reversed(service.log), service.health_output, service.error) if pattern.search(line)), ""
    )


def _with_last_words(message: str, service: Unit) -> str:
    last = service.error or (service.log[-1] if service.log else "")
    return f"{message}; it last said: {last}" if last else message


def _signal(service: Unit) -> str:
    return f": {_SIGNALS[service.exit_code]}" if service.exit_code in _SIGNALS and not service.oom else ""


def next_step(cause: Cause, tried: Collection[str], *, method: str = "auto") -> str:
    """Return the smallest step that may still help and was not tried, or none. method: the one that was requested."""
    if method != "auto" and method not in tried:
        return method
    return next((step for step in cause.useful if step not in tried), "")
