# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servers of lifeboat_dumps: what is run in their containers, with a password that is in no command's words."""

from __future__ import annotations

import contextlib
import io
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Optional, Union

from ..base import pipeline, typed
from ..base.errors import TIMED_OUT, LifeboatError, NotFoundError, UsageError
from ..base.pipeline import Command, Sink
from ..base.text import named
from ..settings.parts import DumpSource
from ..stack import hook_debts
from ..stack.compose import ComposeRuntime, Resource, Volume, exec_command
from ..stack.runtime import Opened
from .presets import INPUT, PRESETS, Preset

_ASKED = 60.0  # seconds for a question
_FACTS = 64 << 20  # bytes


@dataclass(frozen=True)
class _Config:
    """A config as a service has it."""

    source: str = ""
    target: str = ""


@dataclass(frozen=True)
class Definition:
    """What of a service is needed to start one like it."""

    image: str = ""
    user: Union[str, int] = ""
    command: Union[str, tuple[str, ...]] = ()
    volumes: tuple[Volume, ...] = ()
    configs: tuple[_Config, ...] = ()


@dataclass(frozen=True)
class _Project:
    services: Mapping[str, Definition] = field(default_factory=dict)
    configs: Mapping[str, Resource] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One source with what its preset knows."""

    source: DumpSource
    preset: Optional[Preset] = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def service(self) -> str:
        return self.source.service

    @property
    def kind(self) -> str:
        """What people call it."""
        return self.preset.kind if self.preset else "server"

    @property
    def stopped(self) -> bool:
        """Is a dump restored before the server starts?"""
        return self.preset.stopped if self.preset and not self.source.restore else self.source.stopped

    @property
    def start(self) -> tuple[str, ...]:
        return self.source.start or (self.preset.start if self.preset else ())

    def argv(self, command: str, *, initial: bool = False) -> tuple[str, ...]:
        """The words of take, restore or facts. initial: with the account that a fresh server has."""
        given: tuple[str, ...] = getattr(self.source, command)
        if given or self.preset is None:
            return given
        user = self.preset.user if initial else self.source.user or self.preset.user
        words: tuple[str, ...] = getattr(self.preset, command)
        return tuple(word.replace("{user}", user) for word in words)


def servers(run: Opened) -> list[Server]:
    """Every source, in the order of their names."""
    found = (Server(source, PRESETS.get(source.preset)) for source in run.config.dumps.sources)
    return sorted(found, key=lambda server: server.name)


def compose(run: Opened, subject: str) -> ComposeRuntime:
    if not isinstance(run.runtime, ComposeRuntime):
        raise UsageError(
            "reach the server", subject, "the stack is no Compose project",
            "lifeboat_dumps reaches Compose services only: take it out.",
        )  # fmt: skip
    return run.runtime


def definition(run: Opened, service: str) -> tuple[Definition, Mapping[str, str]]:
    """The service as Compose resolves it, and the files of the host that it has as configs, by their targets. An empty
    one where nothing of the project is on this host. Holds secrets."""
    runtime = run.runtime
    if not isinstance(runtime, ComposeRuntime):
        return Definition(), {}
    try:
        project = runtime.read(_Project, "--profile", "*", "config")
    except LifeboatError:
        return Definition(), {}
    found = project.services.get(service, Definition())
    files = {config.target: project.configs.get(config.source, Resource()).file for config in found.configs}
    return found, {target: file for target, file in files.items() if target and file}


@dataclass(frozen=True)
class Reached:
    """A container in which the commands of a server are run. initial: it is a fresh one, that has the account and the
    password that its image gave it. login: what its commands need in their environment; a secret."""

    server: Server
    container: str
    initial: bool = False
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def subject(self) -> str:
        return f"{self.server.name} ({self.server.service})"

    def run(
        self, command: str, *, attempted: str, source: Optional[IO[bytes]] = None, sink: Optional[Sink] = None
    ) -> None:
        """Run take, restore or facts. What did not end in time is ended, in its container too."""
        argv, limit = self.server.argv(command, initial=self.initial), self.server.source.limit
        mark = secrets.token_hex(16)
        environment, login = {**self.login, hook_debts.RUN: mark}, b""
        preset = self.server.preset
        if preset and preset.login_by == INPUT and command == "take" and not self.server.source.take:
            login = f"password: {json.dumps(self.login.get(preset.login, ''))}\n".encode()
        given = io.BytesIO(login) if login else source
        words = exec_command(self.container, argv, env=environment, stdin=given is not None)
        try:
            pipeline.run(
                [words], attempted=attempted, subject=self.subject, source=given, sink=sink, timeout=float(limit)
            )
        except LifeboatError as exc:
            if exc.exit_status != TIMED_OUT:
                raise
            remedy = f"Look what it waits for, or raise the limit of {self.server.name} in lifeboat_dumps."
            cause = f"{argv[0]} did not end in {limit} s"
            raise LifeboatError(attempted, self.subject, cause, remedy, exit_status=TIMED_OUT) from exc
        finally:
            hook_debts.end_processes(mark)  # that `docker exec` was ended ends nothing in the container

    def facts(self) -> dict[str, str]:
        """What the server holds: by name, and its value. Raises LifeboatError where it does not tell."""
        attempted, printed = "ask what it holds", _Printed()
        self.run("facts", attempted=attempted, sink=printed)
        text = bytes(printed.data).decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        begin = self.server.preset.facts_begin if self.server.preset and not self.server.source.facts else ""
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines or not text.startswith(begin):
            cause = f"it printed {lines[0][:200]!r}" if lines else "it printed nothing"
            raise LifeboatError(attempted, self.subject, pipeline.scrub(cause), "Run `facts` by hand in the container.")
        return facts_of(lines)

    def version(self) -> str:
        """The major version, as far as the preset can tell; empty without one."""
        preset = self.server.preset
        if preset is None:
            return ""
        status, printed, _err = pipeline.probe(exec_command(self.container, preset.version), timeout=_ASKED)
        match = preset.major.search(printed) if status == 0 else None
        return match[1] if match else ""

    def answers(self) -> bool:
        """Does the server answer, whatever it is?"""
        preset = self.server.preset
        if preset and not self.server.source.facts:
            argv = [word.replace("{user}", preset.user) for word in preset.ping]
            status, _out, _err = pipeline.probe(exec_command(self.container, argv, env=self.login), timeout=_ASKED)
            return status == 0
        with contextlib.suppress(LifeboatError):
            return bool(self.facts())
        return False

    def append_only(self) -> bool:
        """Does it keep an append-only file, which it reads instead of a dump?"""
        preset = self.server.preset
        if preset is None or not preset.append_only:
            return False
        command = exec_command(self.container, preset.append_only, env=self.login)
        _status, printed, _err = pipeline.probe(command, timeout=_ASKED)
        return re.search(r"^aof_enabled:1\r?$", printed, re.MULTILINE) is not None


class _Printed:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes, /) -> None:
        self.data += data
        if len(self.data) > _FACTS:
            raise LifeboatError("ask what it holds", "facts", f"it printed more than {_FACTS >> 20} MiB")


def facts_of(lines: Sequence[str]) -> dict[str, str]:
    """What comes before the last tab is a name, what comes after it its value; of a name that comes again every one."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, tab, value = line.rpartition("\t")
        found.setdefault(name if tab else line, []).append(value if tab else "")
    return {name: "\t".join(sorted(values)) for name, values in found.items()}


def reach(run: Opened, server: Server) -> Reached:
    """The live server. Raises NotFoundError where its container does not run."""
    runtime = compose(run, server.name)
    state = runtime.state(server.service)
    if not state.running:
        raise NotFoundError(
            "reach the server", f"{server.name} ({server.service})", f"its container is {state.describe()}",
            f"Start it (docker compose up -d {server.service}), or recover it with lifeboat.dr.recover_dumps.",
        )  # fmt: skip
    return Reached(server, state.id, login=_login(server, state.id, state.environment or {}))


def _login(server: Server, container: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The password, from where the container has it; nothing where it has none."""
    preset, source = server.preset, server.source
    if preset is None or not preset.login:
        return {}
    names = (source.password,) if source.password else preset.passwords
    for name in names:
        path = name if name.startswith("/") else environment.get(f"{name}_FILE", "")
        if path.startswith("/"):
            return {preset.login: _read(server, container, path)}
        if environment.get(name):
            return {preset.login: environment[name]}
    if source.password:
        raise NotFoundError(
            "log in to the server", f"{server.name} ({server.service})",
            f"its container has no variable {named(source.password)}, and none that ends in _FILE",
            f"Correct the password of {server.name} in lifeboat_dumps.",
        )  # fmt: skip
    told = _option(container, "--requirepass") if preset.login == "REDISCLI_AUTH" else ""
    return {preset.login: told} if told else {}


def _read(server: Server, container: str, path: str) -> str:
    command = exec_command(container, ["cat", path], user="0")
    subject = f"{server.name} ({server.service})"
    text = pipeline.output(command, attempted="read the password", subject=subject, timeout=_ASKED, limit=1 << 16)
    return text.split("\n")[0].rstrip("\r")


def _option(container: str, name: str) -> str:
    """The value of an option of the container's command."""
    asked = Command(["docker", "inspect", "--format", "{{json .Config.Cmd}}", container])
    _status, printed, _err = pipeline.probe(asked)
    words = typed.maybe(tuple[str, ...], printed.encode()) or ()
    for word, following in zip(words, (*words[1:], "")):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""
