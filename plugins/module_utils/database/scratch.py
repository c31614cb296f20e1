# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A throw-away PostgreSQL: no network, no trace. Where restores are proved without touching anything that lives."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

from ..base import pipeline
from ..base.errors import NOT_INSTALLED, LifeboatError, UnverifiedError, of_machine
from ..base.pipeline import Command
from ..base.text import human
from ..stack.runtime import exec_command
from .fingerprint import Initialised
from .server import AS_STORED, Server

LABEL = "lifeboat.scratch"
_RUN = f"{LABEL}.run"  # whose it is: the process, and when it began
INSIDE = "/lifeboat"
MOUNT = "/backup"
DATA = "/lifeboat-data"  # where a data directory of the host is mounted, to be filled
LOG = "/dev/shm/lifeboat.log"  # noqa: S108 - in the container, in memory: a full disk can be told there
# What a dump brings runs here as a superuser, who can run programs: it gets no more than the server needs. Root gives
# the server its directory, and reads its log.
_STRIPPED = (
    "--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "DAC_OVERRIDE",
    "--security-opt", "no-new-privileges", "--pids-limit", "2048", "--read-only", "--tmpfs", "/tmp:size=64m",  # noqa: S108 - in the container
)  # fmt: skip
# What is restored may take so many times what it took where it was backed up, sorting included, and the log beside it.
_TIMES, _BEYOND = 4, 8 << 30
# Bytes of a disk that are left to the machine's other programs: the least of these.
_SHARE_OF_DISK, _SHARE_OF_FREE, _LEFT = 20, 4, 4 << 30
_EVERY, _COUNTED_EVERY, _UNKNOWN = 0.3, 5.0, 5  # seconds; times in turn that a disk may not tell
_ASKED_EVERY = 2.0  # seconds, where only the container can tell: to ask takes as long as a query there
_FULL: dict[str, str] = {}  # why a container was ended, by its name
_LOCKS = 64  # PostgreSQL's own default
# Nothing here survives, so nothing needs to be safe on disk.
COMMON = {
    "listen_addresses": "",
    "unix_socket_directories": INSIDE,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "autovacuum": "off",
    "maintenance_work_mem": "256MB",
    # pg_restore tells no SQLSTATE, the log does: the codes of errors, and nothing of what the data is.
    "log_min_messages": "error",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_line_prefix": "%e ",
    "lc_messages": "C",  # what is read of its words is English
    "restart_after_crash": "off",  # one that was killed shall not look as if it had refused the data
}
_FAST = {**COMMON, "wal_level": "minimal", "max_wal_senders": "0"}
# What a session leaves in the log that was cut off because another one had failed, or by us.
_CUT_OFF = ("57014", "57P01")
_NOT_YET = "57P03"  # a session that came before the server was ready
_SQLSTATE = re.compile(r"([0-9A-Z]{5}) (.*)")


def sweep(stack: str) -> None:
    """Remove throw-away containers that killed runs left. Those of a run that lives stay: a recovery is
    planned beside a verification."""
    if left := _left(["docker", "ps", "--all"], ".ID", stack):
        pipeline.probe(Command(["docker", "rm", "--force", "--volumes", *left]), timeout=120)


def sweep_volumes(stack: str) -> None:
    """The like of volumes, once their containers are gone."""
    if left := _left(["docker", "volume", "ls"], ".Name", stack):
        pipeline.probe(Command(["docker", "volume", "rm", "--force", *left]), timeout=120)


def _left(listing: Sequence[str], name: str, stack: str) -> list[str]:
    """What has the stack's label, and that of a run that has ended."""
    shown = f'{{{{{name}}}}} {{{{.Label "{_RUN}"}}}}'
    status, out, _err = pipeline.probe(
        Command([*listing, "--filter", f"label={LABEL}={stack}", "--format", shown])
    )  # fmt: skip
    lines = (line.partition(" ") for line in out.splitlines() if line.strip()) if status == 0 else ()
    return [one for one, _space, run in lines if not _lives(run)]


def labels(stack: str) -> list[str]:
    """Options of `docker run` and `docker volume create` by which sweep() knows what this run made."""
    return ["--label", f"{LABEL}={stack}", "--label", f"{_RUN}={_run(os.getpid())}"]


def _run(process: int) -> str:
    return f"{process} {pipeline.started(process)}"


def _lives(run: str) -> bool:
    """Whether the run of that label goes on; not one of an earlier Lifeboat, which left none."""
    process = run.partition(" ")[0]
    if not process.isdecimal() or len(process) > 9:
        return False
    return pipeline.started(int(process)) != "" and _run(int(process)) == run


@contextlib.contextmanager
def container(
    image: str, stack: str, artefacts: Path, *, timeout: float, data: Optional[Path] = None
) -> Iterator[str]:  # fmt: skip
    """A container of `image` that does nothing, with `artefacts` mounted read-only, and at DATA the directory `data`
    to be written to; yields its name.

    Raises UnverifiedError when the engine or the image is not to be had: then nothing was proved.
    """
    name = f"lifeboat-{stack}-{secrets.token_hex(4)}"
    filled = ["--mount", f"type=bind,{field(f'source={data}')},target={DATA}"] if data is not None else []
    status, _out, err = pipeline.probe(
        Command([
            "docker", "run", "--detach", "--name", name, *labels(stack), "--network", "none",
            *_STRIPPED, "--memory", str(memory()), "--user", "0", "--entrypoint", "sleep", "--volume", INSIDE,
            "--mount", f"type=bind,{field(f'source={artefacts}')},target={MOUNT},readonly", *filled, image,
            str(int(timeout)),
        ]),
        timeout=600,
    )  # fmt: skip
    try:
        if status:
            cause = err.strip().splitlines()[0] if err.strip() else f"exit {status}"
            remedy = "Name an image of the same PostgreSQL major in lifeboat_database.verify_image."
            if status == NOT_INSTALLED and not shutil.which("docker"):
                cause = "there is no docker command on this machine"
                remedy = "Install Docker here, or prove the backup on another machine (docs/verification.md)."
            raise UnverifiedError("start a throw-away container", image, cause, remedy)
        yield name
    finally:
        pipeline.probe(Command(["docker", "rm", "--force", "--volumes", name]), timeout=120)


@contextlib.contextmanager
def bounded(name: str, size: int) -> Iterator[None]:
    """Within it the container `name` is removed when it writes much more than `size` bytes, or leaves the disk less
    than the machine needs; 0: it is not known how much it should write. full() then says why."""
    done = threading.Event()
    most = size * _TIMES + _BEYOND if size else 0
    watcher = threading.Thread(target=_watch, args=(name, most, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(60)
        _FULL.pop(name, None)


def full(name: str) -> str:
    """Why bounded() ended the container `name`; empty where it did not."""
    return _FULL.get(name, "")


def _watch(name: str, most: int, done: threading.Event) -> None:
    volumes: Optional[list[_Volume]] = None
    least, unknown, counted, pace = 0, 0, time.monotonic(), _EVERY
    while not done.wait(pace):
        free = None
        with contextlib.suppress(LifeboatError):
            volumes = volumes or _volumes(name)
            free = _free(volumes)
            pace = _EVERY if free else _ASKED_EVERY
            free = free or _free_inside(name, volumes)
        unknown = unknown + 1 if free is None else 0
        why = "how full its disk is cannot be seen" if unknown >= _UNKNOWN else ""
        if free is not None:
            least = least or min(free[1] // _SHARE_OF_DISK, free[0] // _SHARE_OF_FREE, _LEFT)
            if free[0] < least:
                why = f"only {human(free[0])} of the disk were left, and {human(least)} stay free"
        if most and volumes and not why and time.monotonic() - counted > _COUNTED_EVERY:
            used = _used(name, volumes)
            counted = time.monotonic()
            if used > most:
                why = f"it wrote {human(used)}, and the backup needs {human(most)} at most"
        if why:
            if not done.is_set():
                _FULL[name] = f"the throw-away server was ended: {why}"
                pipeline.probe(Command(["docker", "rm", "--force", "--volumes", name]), timeout=120)
            return


class _Volume(NamedTuple):
    """source: on the machine of the engine. inside: in the container."""

    source: str
    inside: str


def _volumes(name: str) -> list[_Volume]:
    """Where the container can write."""
    form = '{{range .Mounts}}{{if .RW}}{{.Source}}\t{{.Destination}}{{"\\n"}}{{end}}{{end}}'
    _status, out, _err = pipeline.probe(Command(["docker", "inspect", "--format", form, name]))
    found = [line.split("\t") for line in out.splitlines()]
    return [_Volume(*words) for words in found if len(words) == 2] or [_Volume("", INSIDE)]


def _free(volumes: Sequence[_Volume]) -> Optional[tuple[int, int]]:
    """Return the bytes that are free, and all, of the fullest disk; None where this machine does not see them."""
    try:
        disks = [os.statvfs(volume.source) for volume in volumes]
    except OSError:
        return None
    return min((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize) for disk in disks)


def _free_inside(name: str, volumes: Sequence[_Volume]) -> Optional[tuple[int, int]]:
    """Return the same as the container sees it: the engine is on another machine, or its directory is root's."""
    status, out, _err = pipeline.probe(exec_command(name, ["df", "-Pk", *[one.inside for one in volumes]], user="0"))
    rows = [line.split() for line in out.splitlines()[1:]] if status == 0 else []
    found = [(int(row[3]) << 10, int(row[1]) << 10) for row in rows if len(row) >= 6 and row[1].isdigit()]
    return min(found) if found else None


def _used(name: str, volumes: Sequence[_Volume]) -> int:
    """Files go while they are counted: that is no failure."""
    words = ["du", "-sk", *[volume.inside for volume in volumes]]
    _status, out, _err = pipeline.probe(exec_command(name, words, user="0"), timeout=120)
    sizes = [line.split()[0] for line in out.splitlines() if line.split()]
    return sum(int(size) << 10 for size in sizes if size.isdigit())


def memory() -> int:
    """Bytes that the container may take: the machine's other programs go on."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


def field(text: str) -> str:
    """One field of the comma-separated line that `docker run --mount` takes."""
    return '"' + text.replace('"', '""') + '"'


def account(name: str) -> str:
    """The account the image runs PostgreSQL as: initdb and postgres refuse to run as root."""
    for user in ("postgres", "1001", "nobody"):
        if pipeline.probe(exec_command(name, ["id", user], user="0"))[0] == 0 or user.isdigit():
            return user
    return "nobody"


@contextlib.contextmanager
def server(
    name: str, *, superuser: str, preload: str, timeout: float, locks: int = 0,
    initialised: Optional[Initialised] = None,
) -> Iterator[Server]:  # fmt: skip
    """A running server inside the container `name`, whose first superuser is `superuser` as in the backup.

    locks: how many relations one transaction must be able to hold at the same time. initialised: what the stack's
    server was initialised with; where it is not known, template1 has no encoding, so that names of roles and databases
    may be any bytes. A database made of template0 has the encoding it is given.
    """
    user = account(name)
    data = make_data(name, user, superuser, initialised)
    # The lock table has this many entries for each of at least 100 sessions, and ours is all but alone.
    # https://www.postgresql.org/docs/current/runtime-config-locks.html
    options = {**_FAST, "max_locks_per_transaction": str(max(_LOCKS, -(-locks // _LOCKS)))}
    if preload:
        options["shared_preload_libraries"] = preload
    start(name, user, data, options)
    # Root, because the artefacts are readable by root alone; the server itself runs as `user`.
    execute = partial(exec_command, name, user="0")
    yield Server(execute, user=superuser, host=INSIDE, application="lifeboat-verify", timeout=timeout, mount=MOUNT)


def make_data(name: str, user: str, superuser: str, initialised: Optional[Initialised] = None) -> str:
    """Make a data directory in the container, of the account `user` there; returns its path. initialised: see
    server()."""
    data = f"{INSIDE}/data"
    step(name, "prepare its directory", ["chown", user, INSIDE], "0")
    options = ["--auth=trust", *_like(initialised), "--no-sync", "--data-checksums"]
    step(name, "initialise it", ["initdb", "-D", data, "-U", superuser, *options], user)
    return data


def start(name: str, user: str, data: str, options: Mapping[str, str]) -> None:
    """Start a server in the container on that data directory, with these settings."""
    words = " ".join(f"-c {key}='{value}'" for key, value in options.items())
    argv = ["pg_ctl", "-D", data, "-w", "-t", "120", "-l", LOG, "-o", words, "start"]
    step(name, "start it", argv, user)


def step(name: str, what: str, argv: list[str], user: str) -> None:
    status, out, err = pipeline.probe(exec_command(name, argv, user=user), timeout=300)
    if status:
        log = logged(name)
        output = (err.strip() or out.strip() or log.strip()).splitlines()
        lines = [words for _code, words in _errors(log)] or output[-1:]
        raise UnverifiedError(
            f"{what} (throw-away PostgreSQL)", name, lines[0] if lines else f"exit {status}",
            "The image must hold PostgreSQL's own tools: see lifeboat_database.verify_image.",
        )  # fmt: skip


def _like(initialised: Optional[Initialised]) -> list[str]:
    """Options of initdb. Checksums are always on: they change nothing that is restored, and show more."""
    if initialised is None:
        return [f"--encoding={AS_STORED}"]
    options = [f"--lc-collate={initialised.collate}", f"--lc-ctype={initialised.ctype}"]
    # ICU has no text without an encoding. Elsewhere names may be any bytes.
    by_icu = initialised.provider == "i"
    options.append(f"--encoding={initialised.encoding if by_icu else AS_STORED}")
    own = initialised.locale or ""
    if by_icu:
        options += ["--locale-provider=icu", f"--icu-locale={own}"]
        options += [f"--icu-rules={initialised.rules}"] if initialised.rules else []
    elif initialised.provider == "b" and own == "C":  # its other locales want UTF-8
        options += ["--locale-provider=builtin", f"--builtin-locale={own}"]
    elif initialised.provider == "b":
        options[-1] = f"--encoding={initialised.encoding}"
        options += ["--locale-provider=builtin", f"--builtin-locale={own}"]
    if initialised.wal_segment:
        options.append(f"--wal-segsize={initialised.wal_segment >> 20}")
    return options


def forget(name: str) -> None:
    """Empty the log of the server in the container: what is in it is of a database that was looked at before. Where it
    has none yet, none is made: the server could not write into one of root's."""
    pipeline.probe(exec_command(name, ["truncate", "-c", "-s", "0", LOG], user="0"))


def ended(name: str) -> str:
    """Why the container `name` does not run any more; empty while it does. docker exec tells that by no status."""
    if why := full(name):
        return why
    status, _out, err = pipeline.probe(exec_command(name, ["true"], user="0"))
    return f"the throw-away container does not answer: {err.strip() or f'exit {status}'}" if status else ""


def trouble(name: str, server: Server) -> str:
    """What the machine lacked for the server in the container: space, memory, locks. Empty where it lacked nothing."""
    if gone := ended(name):
        return gone
    told = [words for code, words in _errors(logged(name)) if of_machine(code) and code[:2] != "08"]
    if told:
        return " / ".join(pipeline.without_rows(told)[:1])
    problem = server.problem()
    return f"the throw-away server does not answer: {problem.cause}" if problem else ""


def first_error(name: str) -> tuple[str, str]:
    """The SQLSTATE of the first error of the server in the container, and its words; empty where it had none."""
    code, words = next(iter(_errors(logged(name))), ("", ""))
    return code, " / ".join(pipeline.without_rows([words]))


def last_fatal(name: str) -> str:
    """What ended the server in the container, in its own words; empty where its log does not say."""
    errors = [words for code, words in _errors(logged(name)) if code != _NOT_YET]
    fatal = [words for words in errors if words.startswith(("FATAL:", "PANIC:"))]
    return fatal[-1].partition(":")[2].strip() if fatal else ""


def logged(name: str) -> str:
    return pipeline.probe(exec_command(name, ["cat", LOG], user="0"))[1]


def _errors(log: str) -> list[tuple[str, str]]:
    """What the server logged, each with its SQLSTATE, but for what is no error and for sessions that were cut off."""
    lines = filter(None, map(_SQLSTATE.match, log.splitlines()))
    return [(code, words) for code, words in (line.groups() for line in lines) if code not in ("00000", *_CUT_OFF)]


def image_major(name: str) -> int:
    """The PostgreSQL major inside the container."""
    try:
        return Server(partial(exec_command, name), user="postgres").major()
    except LifeboatError as exc:
        raise UnverifiedError(
            "find PostgreSQL", f"container {name}", exc.cause, "Name another lifeboat_database.verify_image."
        ) from exc
