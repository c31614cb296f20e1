# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fresh server of the same image, without a network, into which a dump is restored: to prove it, and to recover from
it, next to the living one."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable

from ..base import filesystem, pipeline
from ..base.errors import IntegrityError, LifeboatError, UnverifiedError, unable
from ..base.pipeline import Command
from ..base.text import named
from ..database import scratch
from ..repository.details import HeldDump
from ..stack.compose import ComposeRuntime, Volume, exec_command, within
from ..stack.runtime import Opened
from ..stack.service import last_words
from .sources import Reached, Server, definition

Dump = Callable[[], AbstractContextManager[IO[bytes]]]
# Root in it prepares the directory and becomes the server's account.
_STRIPPED = (
    "--network", "none", "--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "DAC_OVERRIDE", "--cap-add", "FOWNER",
    "--cap-add", "SETGID", "--cap-add", "SETUID", "--security-opt", "no-new-privileges", "--pids-limit", "2048",
)  # fmt: skip
_STARTS = 600.0  # seconds until it answers: an image initialises its data first
_STOPS = 300  # until it has written everything
_PAUSE = 0.5
TIMES = 3  # what a dump takes where it is restored, of what it takes itself


@dataclass(frozen=True)
class Data:
    """Where the fresh server's data lies. mount: the option of `docker run` but for its target. path: on the host."""

    mount: str
    path: Path
    volume: str = ""


@contextlib.contextmanager
def volume(stack: str) -> Iterator[Data]:
    """A volume that is gone afterwards, unless what is in it was moved away."""
    name = f"lifeboat-{stack}-{secrets.token_hex(4)}"
    attempted = "make a volume for a throw-away server"
    made = Command(["docker", "volume", "create", *scratch.labels(stack), name])
    try:
        pipeline.output(made, attempted=attempted, subject=name, timeout=60)
        asked = Command(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name])
        place = Path(pipeline.output(asked, attempted=attempted, subject=name, timeout=60).strip())
        yield Data(f"type=volume,source={name}", place, name)
    except LifeboatError as exc:
        if exc.attempted != attempted:
            raise
        raise UnverifiedError(attempted, name, exc.cause, "Is the Docker Engine running here?") from exc
    finally:
        pipeline.probe(Command(["docker", "volume", "rm", "--force", name]), timeout=120)


def directory(path: Path) -> Data:
    """A directory of the host, empty."""
    return Data(f"type=bind,{scratch.field(f'source={path}')}", path)


@contextlib.contextmanager
def restored(run: Opened, server: Server, entry: HeldDump, dump: Dump, data: Data) -> Iterator[Reached]:
    """A running server that holds what is in the dump. Raises UnverifiedError where there is no image, or it does not
    start; IntegrityError or LifeboatError where the dump does not restore."""
    stack = run.config.stack
    image = image_of(run, server, entry)
    require_version(image, server, entry)
    if data.path.is_dir():
        filesystem.require_room(data.path, entry.bytes * TIMES)
    name = f"lifeboat-{stack}-{secrets.token_hex(4)}"
    password = secrets.token_hex(16)
    options, environment = _options(run, server, data, password)
    common = ["docker", "run", "--name", name, *scratch.labels(stack), *_STRIPPED, *options]
    reached = Reached(server, name, initial=True, login=_login(server, password))
    try:
        if server.stopped:
            _fill([*common, "--rm", "--interactive"], image, reached, environment, dump)
        words = [*common, "--detach", image, *(server.start or _own_options(run, server))]
        status, _out, err = pipeline.probe(Command(words, environment), timeout=_STARTS)
        if status:
            cause = err.strip().splitlines()[0] if err.strip() else f"exit {status}"
            raise _unverified("start a throw-away server", reached, cause)
        with scratch.bounded(name, entry.bytes):
            _wait(reached)
            if not server.stopped:
                _restore(reached, dump)
            yield reached
    finally:
        pipeline.probe(Command(["docker", "rm", "--force", "--volumes", name]), timeout=120)


def image_of(run: Opened, server: Server, entry: HeldDump) -> str:
    """The image that the service runs; where it is not on this host the one that was named, else that of the backup."""
    runtime = run.runtime
    if isinstance(runtime, ComposeRuntime):
        with contextlib.suppress(LifeboatError):
            if found := runtime.state(server.service).image_id:
                return found
        if found := definition(run, server.service)[0].image:
            return found
    return server.source.image or entry.image


def require_version(image: str, server: Server, entry: HeldDump) -> None:
    preset = server.preset
    if preset is None or not entry.version:
        return
    program, *words = preset.version
    asked = ["docker", "run", "--rm", "--network", "none", "--entrypoint", program, image, *words]
    status, printed, err = pipeline.probe(Command(asked), timeout=_STARTS)
    match = preset.major.search(printed) if status == 0 else None
    attempted, remedy = "use the image", f"Name one of {preset.kind} {entry.version} as the image of {server.name}."
    if match is None:
        cause = (err or printed).strip().splitlines()[-1:] or [f"{program} ended with {status}"]
        raise UnverifiedError(attempted, image, pipeline.scrub(cause[0]), remedy)
    if match[1] != entry.version:
        raise UnverifiedError(
            attempted, image, f"it is of {preset.kind} {match[1]}, and the dump of {entry.version}", remedy
        )


def _options(run: Opened, server: Server, data: Data, password: str) -> tuple[list[str], dict[str, str]]:
    """Options of `docker run`, and the environment that they take values from."""
    found, configs = definition(run, server.service)
    preset, target = server.preset, target_of(found.volumes, server.source.data_path)
    options = ["--memory", str(scratch.memory()), "--mount", f"{data.mount},{scratch.field(f'target={target}')}"]
    options += ["--user", str(found.user)] if str(found.user) else []
    binds = {mount.target: mount.source for mount in found.volumes if mount.type == "bind"}
    for inside, source in {**binds, **configs}.items():
        if preset and any(within(inside, top) for top in preset.config) and Path(source).exists():
            fields = f"type=bind,{scratch.field(f'source={source}')},{scratch.field(f'target={inside}')},readonly"
            options += ["--mount", fields]
    environment = {name: value.replace("{password}", password) for name, value in (
        preset.environment if preset else {}).items()}  # fmt: skip
    environment.update(server.source.environment)
    for name in environment:
        options += ["--env", name]
    return options, environment


def target_of(volumes: Sequence[Volume], data: str) -> str:
    """Where the mount is mounted that holds the data; the data's own path where the service has none."""
    holding = [volume.target for volume in volumes if within(data, volume.target)]
    return max(holding, key=len) if holding else data


def _own_options(run: Opened, server: Server) -> list[str]:
    """The options in the service's command: how the server stores what it is given may depend on them."""
    if server.preset is None or not server.preset.options:
        return []
    command = definition(run, server.service)[0].command
    words = command.split() if isinstance(command, str) else list(command)
    options = [word for word in words if word.startswith("--")]
    secret = any(pipeline.scrub(word, run.config.secrets) != word for word in options)
    hidden = secret or any("password" in word for word in options)
    return [*(() if hidden else options), *server.preset.calm]


def _login(server: Server, password: str) -> dict[str, str]:
    preset = server.preset
    return {preset.login: password} if preset and preset.environment else {}


def _unverified(attempted: str, reached: Reached, cause: str) -> UnverifiedError:
    remedy = f"Look whether its image starts alone: docker run, with what lifeboat_dumps says of {reached.server.name}."
    return UnverifiedError(attempted, reached.subject, pipeline.scrub(cause), remedy)


def _fill(prefix: list[str], image: str, reached: Reached, environment: dict[str, str], dump: Dump) -> None:
    """Restore before the server starts: the command writes into its directory."""
    program, *rest = reached.server.argv("restore", initial=True)
    command = Command([*prefix, "--entrypoint", program, image, *rest], environment)
    limit = float(reached.server.source.limit)
    with dump() as stream:
        pipeline.run(
            [command], attempted="restore the dump", subject=reached.subject, source=stream, timeout=limit + _STARTS
        )


def _restore(reached: Reached, dump: Dump) -> None:
    try:
        with dump() as stream:
            reached.run("restore", attempted="restore the dump", source=stream)
    except LifeboatError as exc:
        if why := scratch.ended(reached.container):
            raise _unverified("restore the dump", reached, why) from exc
        if exc.exit_status is not None and unable(exc.exit_status):
            raise _unverified("restore the dump", reached, exc.cause) from exc
        raise IntegrityError("restore the dump", reached.subject, f"the server refuses it: {exc.cause}") from exc


def _wait(reached: Reached) -> None:
    """Until it answers. One that ends, or does not come up, tells nothing of the dump."""
    deadline, preset = time.monotonic() + _STARTS, reached.server.preset
    ready = preset.ready if preset and not reached.server.source.facts else ()
    argv = [word.replace("{user}", preset.user) for word in ready] if preset else []
    why = ""
    while time.monotonic() < deadline:
        if gone := scratch.ended(reached.container):
            raise _unverified("start a throw-away server", reached, _logged(reached.container) or gone)
        if argv:
            if pipeline.probe(exec_command(reached.container, argv, env=reached.login), timeout=60)[0] == 0:
                return
        else:
            try:
                reached.facts()
                return
            except LifeboatError as exc:
                why = exc.cause
        time.sleep(_PAUSE)
    cause = f"it did not answer in {_STARTS:g} s: {why or _logged(reached.container)}"
    raise _unverified("start a throw-away server", reached, cause)


def _logged(container: str) -> str:
    status, out, err = pipeline.probe(Command(["docker", "logs", "--tail", "30", container]))
    return named(last_words(pipeline.scrub(out + err))) if status == 0 else ""


def settle(reached: Reached) -> None:
    """Let it make the append-only file that the living server reads."""
    preset = reached.server.preset
    if preset is None or not preset.append:
        return
    attempted = "write the append-only file"
    pipeline.output(exec_command(reached.container, preset.append), attempted=attempted, subject=reached.subject)
    deadline = time.monotonic() + reached.server.source.limit
    while time.monotonic() < deadline:
        printed = pipeline.probe(exec_command(reached.container, preset.append_only))[1]
        if preset.appended.search(printed):
            return
        time.sleep(_PAUSE)
    raise LifeboatError(attempted, reached.subject, f"it was not ready in {reached.server.source.limit} s")


def stop(reached: Reached) -> None:
    """Stop it so that everything is on the disk. Raises LifeboatError where it had to be killed."""
    attempted, name = "stop the throw-away server", reached.container
    pipeline.output(
        Command(["docker", "stop", "--time", str(_STOPS), name]), attempted=attempted, subject=reached.subject,
        timeout=_STOPS + 60,
    )  # fmt: skip
    asked = Command(["docker", "inspect", "--format", "{{.State.ExitCode}}", name])
    code = pipeline.output(asked, attempted=attempted, subject=reached.subject, timeout=60).strip()
    if code not in ("0", "143"):  # of SIGTERM itself, where a server has no handler
        raise LifeboatError(attempted, reached.subject, f"it ended with {code}: {_logged(name)}")
