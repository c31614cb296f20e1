# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which `after` of a hook is owed, as the state directory says; how one is paid, and a hook's command run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..base import filesystem, lock, pipeline, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, Check
from ..base.errors import TIMED_OUT, LifeboatError, LockedError, Log
from ..base.pipeline import Command
from ..base.text import named
from ..settings.config import Config
from ..settings.parts import Hook
from .runtime import connect

KILLED = "KILLED"  # LIFEBOAT_RESULT where the run could not say how it ended
RUN = "LIFEBOAT_RUN"  # the variable by which the processes of a hook are known
_OUTPUT, _LINES, _LINE = 16 << 10, 20, 500  # bytes, lines, and characters of a line that are shown, of the end
_SETTLES = 30  # seconds beyond its time limit for which a process is waited that runs the same `after`
_ENVIRONMENT = 4 << 20  # bytes that are read of a process's environment
_ROUNDS = 5  # in which a process may start another one while it is looked for


@dataclass(frozen=True)
class Debt:
    """An `after` that is owed. name: of its file, and of its run. owners: the processes that will pay, the watcher
    first. result: of what it was run around. error: why it failed when it was tried."""

    hook: Hook
    name: str
    since: str
    owners: tuple[str, ...] = ()
    result: str = KILLED
    error: str = ""

    @property
    def awaited(self) -> bool:
        """Return whether a process lives that will pay."""
        for owner in self.owners:
            process, since = owner.partition(" ")[::2]
            if since and process.isdecimal() and pipeline.started(int(process)) == since:
                return True
        return False


def owner(process: int) -> str:
    """Return a process's number, and since when it has that."""
    return f"{process} {pipeline.started(process)}"


def directory(config: Config) -> Path:
    return config.state / "hooks"


def file(config: Config, debt: Debt) -> Path:
    return directory(config) / f"{debt.name}.json"


def keep(config: Config, debt: Debt) -> None:
    """Write it down. A power cut that comes next does not undo that."""
    data = json.dumps(typed.plain(debt)).encode()
    filesystem.remember(file(config, debt), data, attempted="write down that `after` is owed")


def owed(config: Config) -> list[Debt]:
    """Return what is owed, the oldest first; checked() says what of it cannot be read."""
    with contextlib.suppress(OSError):
        return [debt for debt in map(_read, _files(config)) if debt]
    return []


def pay(config: Config, debt: Debt, result: str, log: Log, *, left: bool = False, waits: bool = True) -> str:
    """Run `after`, where no other process did. Return why it failed, so that it is owed on.

    left: by a run that is gone, so that its processes may be left. waits: for a process that runs such ones already.
    """
    name, path, problem = debt.hook.name, file(config, debt), ""
    wait = debt.hook.timeout + _SETTLES if waits else 0
    try:
        with lock.held("hooks", name, wait=wait, directory=path.parent):
            if not path.exists():
                return ""
            if left:
                end_left(debt)
            problem = execute(config, debt, "after", debt.hook.after, result, log)
            if problem:
                keep(config, replace(debt, owners=(), result=result, error=problem))
            else:
                path.unlink()
    except (LifeboatError, OSError) as exc:
        if not waits and isinstance(exc, LockedError):
            return ""
        problem = exc.cause if isinstance(exc, LifeboatError) else str(exc)
    if problem:
        log(f"WARNING: hook {name}: after failed: {problem}")
    return problem and f"{name}: {problem}"


def catch_up(config: Config, log: Log) -> None:
    """Run what processes owe that are gone. Raise nothing: what fails is owed on, and status says so."""
    for debt in reversed([debt for debt in owed(config) if not debt.awaited]):
        log(f"hook {debt.hook.name}: after is owed by a {debt.hook.when} that began at {debt.since}")
        pay(config, debt, debt.result, log, left=True, waits=False)


def checked(config: Config) -> Iterator[Check]:
    """Yield what status says of each `after` that should have run; nothing where there is none."""
    try:
        paths = _files(config)
    except OSError as exc:
        yield Check("hooks", COULD_NOT_VERIFY, f"{directory(config)}: {exc.strerror}")
        return
    for path in paths:
        debt = _read(path)
        if debt is None:
            words = "says which `after` is owed, and cannot be read. See to it, then remove it"
            yield Check("hooks", FAIL, f"{path} {words}")
        elif not debt.awaited:
            what = f"after of the hook {debt.hook.name}, owed by a {debt.hook.when} since {debt.since}, has not run"
            again = "The next command tries it again. Where nothing has to be undone"
            yield Check("hooks", FAIL, f"{what}: {debt.error or 'the run was killed'}. {again}: rm {path}")


def _files(config: Config) -> list[Path]:
    try:
        return sorted(path for path in directory(config).iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []


def _read(path: Path) -> Optional[Debt]:
    try:
        debt = typed.maybe(Debt, filesystem.read_plain(path))
    except OSError:
        return None
    return replace(debt, name=path.stem) if debt else None


class _Output:
    """The end of what a command prints."""

    def __init__(self) -> None:
        self._data, self._cut = bytearray(), False

    def write(self, data: bytes, /) -> None:
        self._data += data
        if len(self._data) > _OUTPUT:
            del self._data[:-_OUTPUT]
            self._cut = True

    def lines(self, secrets: Mapping[str, str]) -> list[str]:
        """Return the last lines as harmless text. What is left of a line that was cut may be half of a secret."""
        data = bytes(self._data).partition(b"\n")[2] if self._cut else bytes(self._data)
        text = pipeline.scrub(data.decode("utf-8", "replace"), secrets)
        lines = [named(line.strip()) for line in text.split("\n") if line.strip()]
        return [line if len(line) <= _LINE else f"{line[:_LINE]}…" for line in lines[-_LINES:]]


def execute(config: Config, debt: Debt, which: str, argv: Sequence[str], result: str, log: Log) -> str:
    """Run `before` or `after`. Return why it failed; empty where it did not."""
    hook, output, late = debt.hook, _Output(), False
    if not argv:
        return ""
    log(f"hook {hook.name}: {which}: {named(' '.join(argv))}")
    try:
        (done,) = pipeline.run(
            [_command(config, debt, argv, result)], attempted=f"run {which}", subject=hook.name, sink=output,
            timeout=hook.timeout, ok=lambda _: True,
        )  # fmt: skip
        output.write(b"\n" + done.stderr.encode())
        how = f"ended with exit {done.status}" if done.status > 0 else f"was killed by signal {-done.status}"
        problem = f"{named(argv[0])} {how}" if done.status else ""
    except LifeboatError as exc:
        late = exc.exit_status == TIMED_OUT
        problem = f"{named(argv[0])} had not ended after {hook.timeout} s and was killed" if late else exc.cause
    if late:
        end_left(debt)
    lines = output.lines(config.secrets)
    for line in lines:
        log(f"hook {hook.name}: {line}")
    return f"{problem}; it last said: {lines[-1]}" if problem and lines else problem


def _command(config: Config, debt: Debt, argv: Sequence[str], result: str) -> Command:
    hook = debt.hook
    env = {"LIFEBOAT_STACK": config.stack, "LIFEBOAT_WHAT": hook.when, RUN: debt.name}
    if result:
        env["LIFEBOAT_RESULT"] = result
    if hook.service:
        return connect(config).command(hook.service, argv, env=env, user=hook.user)
    return Command(["runuser", "--user", hook.user, "--", *argv] if hook.user else argv, env)


def end_left(debt: Debt) -> None:
    """Kill what the hook's commands left running, in containers too: it must not go on beside `after`."""
    end_processes(debt.name)


def end_processes(run: str) -> None:
    """Kill every process of this machine, in containers too, that has RUN with that value in its environment."""
    variable = f"{RUN}={run}".encode()
    for _round in range(_ROUNDS):
        paths = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
        processes = [int(path.name) for path in paths if variable in _environment(path / "environ")]
        if not processes:
            return
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)


def _environment(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            return file.read(_ENVIRONMENT).split(b"\0")
    except OSError:
        return []
