"""What can happen to a backend, each done for real, and what a recovery must say of it and make of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from support import Stack

BACKEND = "shop-backend-1"
CONTAINERS = "/var/lib/docker/containers"


def nothing(stack: Stack) -> None:
    """What a recovery mends by itself needs no other hand."""


@dataclass(frozen=True)
class Fault:
    """cause: what the plan must say. step: the one that must heal. tried: all that must be taken, where not it alone.

    undo: what a test must put right of the lab itself, after the recovery.
    """

    name: str
    inject: Callable[[Stack], object]
    cause: str
    step: str
    tried: tuple[str, ...] = ()
    undo: Callable[[Stack], object] = nothing


def shell(stack: Stack, script: str, *argv: str) -> str:
    return stack.host.run("sh", "-ec", script, *argv)


def kill(stack: Stack) -> None:
    stack.host.run("docker", "kill", BACKEND)


def spoil_the_environment(stack: Stack) -> None:
    """A wrong password, deployed: `up` recreates the containers that have it."""
    shell(stack, "sed -i 's/^SHOP_APP_PASSWORD=.*/SHOP_APP_PASSWORD=planted-wrong-one/' /srv/shop/.env")
    stack.compose("up", "--detach", "--no-deps", "backend")
    wait_for(
        stack, "docker logs shop-backend-1 2>&1 | grep -c 'password authentication failed' || true", lambda n: n > "0"
    )


def lose_a_variable(stack: Stack) -> None:
    """Compose refuses to work at all without it; the container is gone besides."""
    shell(stack, "sed -i '/^SHOP_APP_PASSWORD=/d' /srv/shop/.env; docker rm --force shop-backend-1")


def break_the_compose_file(stack: Stack) -> None:
    shell(stack, "printf 'services: {backend: [\\n' >> /srv/shop/compose.yml; docker rm --force shop-backend-1")


def break_the_compose_file_and_kill(stack: Stack) -> None:
    """The container is there: it can be started without the file, and then the file is put back."""
    shell(stack, "printf 'services: {backend: [\\n' >> /srv/shop/compose.yml; docker kill shop-backend-1")


def shadow_the_compose_file(stack: Stack) -> None:
    """A file of another name, which Compose reads before the right one."""
    shell(stack, "echo 'services: {other: {}}' > /srv/shop/compose.yaml; docker rm --force shop-backend-1")


def fill_the_disk(stack: Stack) -> None:
    """A small disk of its own for the containers' directory, filled by the backend's log: real, and harmless."""
    shell(
        stack,
        'systemctl stop docker.socket docker.service; cp -a "$0" /run/lab-containers;'
        ' mount -t tmpfs -o size=24m,mode=0710 tmpfs "$0"; cp -a /run/lab-containers/. "$0"/;'
        " rm -r /run/lab-containers; systemctl start docker.service",
        CONTAINERS,
    )
    stack.wait_until_well()
    shell(
        stack,
        "docker kill shop-backend-1; id=$(docker inspect --format '{{.Id}}' shop-backend-1);"
        """ yes '{"log":"noise","stream":"stdout","time":"2026-11-24T00:00:00Z"}' """
        '>> "$0/$id/$id-json.log" 2>/dev/null || true;'
        " ! docker start shop-backend-1 2>/run/why || exit 1; grep -i 'no space left' /run/why",
        CONTAINERS,
    )


def give_the_disk_back(stack: Stack) -> None:
    shell(
        stack,
        'systemctl stop docker.socket docker.service; cp -a "$0" /run/lab-containers; umount "$0";'
        ' cp -a /run/lab-containers/. "$0"/; rm -r /run/lab-containers; systemctl start docker.service docker.socket',
        CONTAINERS,
    )
    stack.wait_until_well()


def stop_the_engine(stack: Stack) -> None:
    stack.host.run("systemctl", "stop", "docker.socket", "docker.service")


# An image that cannot start is the drills' own: drill/test_drill.py.
FAULTS = (
    Fault("process killed", kill, "it was killed (SIGKILL)", "restart"),
    Fault("bad env", spoil_the_environment, "password authentication failed", "redeploy"),
    Fault("variable lost", lose_a_variable, ".env lacks SHOP_APP_PASSWORD", "redeploy"),
    Fault("compose file broken", break_the_compose_file, "Compose cannot read the project", "redeploy"),
    Fault(
        "compose file broken and killed", break_the_compose_file_and_kill, "Compose cannot read the project",
        "redeploy", tried=("restart", "redeploy"),
    ),
    Fault("disk full", fill_the_disk, "the disk is full", "space", undo=give_the_disk_back),
    Fault("engine stopped", stop_the_engine, "the Docker Engine does not answer", "engine"),
)  # fmt: skip


def wait_for(stack: Stack, script: str, enough: Callable[[str], bool], seconds: float = 60) -> None:
    """Until what the script prints is enough: the fault took."""
    deadline = time.monotonic() + seconds
    said = ""
    while time.monotonic() < deadline:
        said = shell(stack, script).strip()
        if enough(said):
            return
        time.sleep(0.5)
    raise AssertionError(f"the fault did not take: {script} says {said}")


def take_the_port(stack: Stack) -> None:
    """Another program listens where the backend wants to; the backend is told to start and cannot."""
    shell(
        stack,
        "docker rm --force shop-backend-1;"
        " systemd-run --quiet --unit=thief python3 -m http.server 8000 --directory /var/empty",
    )
    wait_for(stack, "ss -Hltn 'sport = :8000'", bool)
    stack.host.probe(
        "docker", "compose", "--project-directory", stack.directory, "up", "--detach", "--no-deps", "backend"
    )


def break_the_database(stack: Stack) -> str:
    """The control file is put aside: the server ends whenever it is started."""
    inside = stack.data_directory()
    stack.compose("stop", "db")
    shell(stack, 'mv "$0/global/pg_control" "$0/pg_control.aside"', inside)
    stack.host.probe("docker", "start", "shop-db-1")
    wait_for(stack, "docker inspect --format '{{.RestartCount}}' shop-db-1", lambda said: int(said) >= 3)
    return inside
