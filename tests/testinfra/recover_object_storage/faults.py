"""What can happen to an object store, each done for real, and what a recovery must say of it and make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import store
from support import Stack

VOLUME = "shop_objectdata"


@dataclass(frozen=True)
class Fault:
    """condition, finding: what the plan must say. mode: how it must be recovered. kept: the old data directory lies in
    quarantine. loses: the object written after the recovery point is gone; None where that depends on what the server
    has in memory.
    """

    name: str
    inject: Callable[[Stack], object]
    condition: str
    finding: str
    mode: str
    kept: bool = False
    loses: bool | None = True


def directory(stack: Stack) -> str:
    return stack.data_directory(VOLUME)


def stop_service(stack: Stack) -> None:
    stack.compose("stop", "objects")


def remove_container(stack: Stack) -> None:
    stack.host.run("docker", "rm", "--force", "shop-objects-1")


def remove_volume(stack: Stack) -> None:
    stack.compose("rm", "--stop", "--force", "objects")
    stack.host.run("docker", "volume", "rm", VOLUME)


def refuse_to_start(stack: Stack) -> None:
    """A file lies where the directory with the names of all objects was."""
    stack.compose("stop", "objects")
    stack.host.run("sh", "-ec", 'cd "$0" && rm -r filerldb2 && echo x > filerldb2', directory(stack))
    stack.host.probe("docker", "start", "shop-objects-1")


def empty_while_stopped(stack: Stack) -> None:
    stack.compose("stop", "objects")
    stack.host.run("find", directory(stack), "-mindepth", "1", "-delete")


def empty_while_running(stack: Stack) -> None:
    """It continues to serve from the files that it has open, so what no backup has can be copied out of it: but for
    names that it had written to a file, and then needs to open again."""
    stack.host.run("find", directory(stack), "-mindepth", "1", "-delete")


def corrupt(stack: Stack) -> None:
    """Noise over the bytes of every object, behind the 8 of the file's own; the names are all there."""
    stack.compose("stop", "objects")
    noise = 'cd "$0" && for f in uploads_*.dat; do size=$(stat -c %s "$f");'
    noise += ' head -c "$size" /dev/urandom | dd of="$f" bs=64K oflag=seek_bytes seek=8 conv=notrunc status=none; done'
    stack.host.run("sh", "-ec", noise, directory(stack))
    stack.compose("start", "objects")
    stack.wait_until_well()


def delete_bucket(stack: Stack) -> None:
    store.act(stack.host, store.DELETE_BUCKET)


def delete_prefix(stack: Stack) -> None:
    store.act(stack.host, store.DELETE_PREFIX, "seed/2026/")


def overwrite_prefix(stack: Stack) -> None:
    store.act(stack.host, store.OVERWRITE_PREFIX, "seed/")


def switch_versioning_off(stack: Stack) -> None:
    store.act(stack.host, store.SUSPEND)


FAULTS = (
    Fault("service stopped", stop_service, "down", "objects is exited", "started", loses=False),
    Fault("container removed", remove_container, "down", "objects is absent", "started", loses=False),
    Fault("service refuses to start", refuse_to_start, "down", "objects is", "rebuild", kept=True),
    Fault("data directory emptied", empty_while_stopped, "down", "objects is exited", "fill"),
    Fault(
        "data directory emptied under it",
        empty_while_running,
        "damaged",
        "objects is empt",
        "rebuild",
        kept=True,
        loses=None,
    ),
    Fault("data directory corrupted", corrupt, "damaged", "objects read are damaged", "rebuild", kept=True),
    Fault("volume removed", remove_volume, "down", "objects is absent", "fill"),
    Fault("bucket deleted", delete_bucket, "damaged", "the bucket uploads is missing", "fill"),
    Fault("prefix deleted", delete_prefix, "damaged", "objects are gone that the database knows", "fill", loses=False),
    Fault("prefix overwritten", overwrite_prefix, "damaged", "objects are neither what", "fill", loses=False),
    Fault("versioning off", switch_versioning_off, "damaged", "versioning is Suspended", "fill", loses=False),
)
