# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run chains of processes with argv lists. No shell anywhere.

A shell pipeline reports the status of its last command only, which is how `pg_dump | gzip` turns a failed dump into
a 20-byte "backup" with exit 0. Here every process's status counts, the first failure kills the chain, time is bounded.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import json
import os
import re
import select
import selectors
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Callable, Optional, Protocol, Union

from .errors import TIMED_OUT, LifeboatError, present, stripped

CHUNK = 1 << 20
STDERR_KEPT = 64 << 10
_FOLLOWED, _LEFT = 200, 32  # ms in which a reader sees that it is closed; pieces of a pipe that are read at the end
_ANSWER = 64 << 20  # bytes of an answer that probe() takes
_GRACE = 5.0  # seconds that a process has to end by itself
_SILENCE = 0.5  # seconds without output, after which it is looked whether anybody is there to write
_LINE_SHOWN = 500  # characters of a line that a tool said
# Where a program in Go says why it crashed, and where the pages begin that it prints then.
_CRASH, _STACKS = re.compile(r"(?m)^(?:fatal error|panic): "), re.compile(r"(?m)^(?:runtime stack:|goroutine \d+ .*\[)")
_METER = [0]
_GROWING: list[Callable[[], int]] = []  # what is written elsewhere, and how large it is by now
BLANK = "********"
SECRET_LENGTH = 8  # a shorter secret is a word that a text may hold for other reasons ("shop")
# What the name of a secret has in it, in any case. Not the plural: `secrets.tar.gz.age: …` is about a file.
SECRET_NAME = (
    r"passw(?!ord_encryption)|passphrase|pwd|secret(?!s\b)|token(?!s\b)|credential(?!s\b)|bearer|jwt|hmac|(?<=[_-])pass"
    r"|(?:api|access|private|service|encryption|signing|master|root|customer|account|shared|client)[_-]?key"
)
_QUOTED = r"""\\"(?:(?!\\").)*(?:\\"|$)|"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.|'')*(?:'|$)"""
# What is blank already stays as it is, and what is empty; a list or a mapping is looked at by itself.
_NEW = r"(?!\\?[\"']?\*{8}|\"\"(?!\")|''(?!')|[\[{][ \t]*(?:[\"'\]}\n]|$))"
_NAME = rf"(?:{SECRET_NAME})[\w-]{{0,40}}"
_AFTER = rf"\1{BLANK}"
# The forms in which services, tools and applications tell a secret, and what is put in its place.
_FORMS = tuple(
    (re.compile(pattern, re.DOTALL), shown)
    for pattern, shown in (
        (r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*-----|$)", BLANK),
        (r"(?i)\bAGE-(?:SECRET-KEY|PLUGIN)-[A-Z0-9-]+", BLANK),
        # PostgreSQL's verifiers, JSON Web Tokens, and tokens that their issuer marks.
        (r"\bSCRAM-SHA-256\$\d+:[^\s'\"]+|\bmd5[0-9a-f]{32}\b|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?", BLANK),
        (
            r"\b(?:gh[pousr]_\w{10,}|github_pat_\w{10,}|glpat-[\w-]{10,}|npm_\w{30,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
            r"|xox[abeprs]-[\w-]{10,}|[sr]k_(?:live|test)_\w{10,}|AIza[\w-]{30,}|pypi-[\w-]{20,}|hf_\w{20,}"
            r"|dckr_pat_[\w-]{10,}|hvs\.[\w-]{20,}|glsa_\w{20,}|SG\.[\w-]{16,}\.[\w-]{16,})",
            BLANK,
        ),
        (r"(hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/)[^\s\"']+", _AFTER),
        # Headers: up to the end of the line, or of the text that quotes one.
        (r"(?i)(\b(?:proxy-)?authorization\\?[\"']?[ \t]{0,3}[:=,][ \t]{0,3}\\?[\"']?)[^\r\n\"'\\]+", _AFTER),
        (r"(?i)(\b(?:set-)?cookie\\?[\"']?[ \t]{0,3}[:,][ \t]{0,3}\\?[\"']?)[^\r\n\"'\\]+", _AFTER),
        (r"(?i)(\b(?:bearer|basic) )[\w.~+/=-]{8,}", _AFTER),
        # Addresses: passwords, a token in the user's place, and what a query carries.
        (r"(://[^\s/:@]{0,99}:)(?:(?!\d{1,5}/)[^\s\"'<>]{0,299}|[^\s/]{1,299})@", rf"\1{BLANK}@"),
        (r"(?i)(\bhttps?://)[^\s/:@\"']{1,299}@", rf"\1{BLANK}@"),
        (
            rf"(?i)([?&;](?:[\w.-]{{0,40}}(?:{SECRET_NAME}|signature|credential)[\w.-]{{0,40}}"
            r"|sig|key|code|auth|pass|session|sid)=)[^&\s\"'<>#]+",
            _AFTER,
        ),
        (r"(?i)(\b(?:x-amz-)?signature=)[\w%+/=-]{16,}", _AFTER),
        # SQL, argument lists and command lines, .netrc, XML, HTML, and what is percent-encoded.
        (
            rf"(?i)(\b(?:password|identified (?:with \S+ )?by)\s+){_NEW}(?:e?(?:{_QUOTED})|\$(\w*)\$.*?(?:\$\2\$|$))",
            _AFTER,
        ),
        (
            rf"(?i)((?<![\w-])--?[\w-]{{0,40}}{_NAME}(?<!file)(?<!path)(?<!stdin)\s+){_NEW}(?:{_QUOTED}|[^\s-]\S*)",
            _AFTER,
        ),
        (rf"(?i)([\"'][\w-]{{0,40}}{_NAME}[\"'][ \t]{{0,3}},[ \t]{{0,3}}){_NEW}(?:b?{_QUOTED})", _AFTER),
        (r"(?i)((?:^|\s)(?:-u|--user)[\s=]+[^\s:/]+:)\S+", _AFTER),
        (r"(?i)(\b(?:login|user)\s+\S+\s+password\s+|\bsshpass\s+-p\s*)\S+", _AFTER),
        (rf"(?i)(<[\w:-]{{0,40}}{_NAME}>)[^<]+", _AFTER),
        (rf"(?i)(\bname=[\"']?[\w-]{{0,40}}{_NAME}[\"']?\s[^<>]{{0,80}}?value=)(?:{_QUOTED}|[^\s<>]+)", _AFTER),
        (rf"(?i)({_NAME}(?:%22|%27)?%3[AD](?:%20|%22|%27|\+)*)[^\s&%\"']+", _AFTER),
        # name=value, name: value, "name": value and their like.
        (
            rf"(?i)({_NAME}\\?[\"']?[ \t]{{0,3}}(?:=>|:=|[=:](?!>))[ \t]{{0,3}}){_NEW}"
            rf"(?!(?:null|none|true|false)\b)(?:b?(?:{_QUOTED})|\S+)",
            _AFTER,
        ),
        (rf"(?i)([\"'](?:auth|pass|pin|otp|passcode)[\"'][ \t]{{0,3}}:[ \t]{{0,3}}){_NEW}(?:{_QUOTED}|\d+)", _AFTER),
    )
)

# PostgreSQL quotes rows, keys and whole statements there; errors and evidence must hold none.
_ROWS = re.compile(r"^\S*\s*(CONTEXT|STATEMENT|QUERY):|Failing row contains|DETAIL:\s+Key |^COPY |^\d+\t")
# What psql's VERBOSITY=verbose adds: the SQLSTATE before the message, names, and the line of PostgreSQL's own source.
_SQLSTATE = re.compile(r"^((?:psql:\S+ )?[^\s:]+:  )([0-9A-Z]{5}): ")
_VERBOSE = re.compile(r"^((SCHEMA|TABLE|COLUMN|DATATYPE|CONSTRAINT) NAME|LOCATION):  |^[^\s:]+:  \w+, \S+:\d+$")


def moved() -> int:
    """Bytes that went through chains in this process, for a sign of life; it decides nothing."""
    return _METER[0]


def count(size: int) -> None:
    """Count bytes that went another way than through a chain."""
    _METER[0] += size


@contextlib.contextmanager
def growing(size: Callable[[], int]) -> Iterator[None]:
    """Meanwhile done() counts what is written where this process does not see it. size: asked for when done() is."""
    _GROWING.append(size)
    try:
        yield
    finally:
        _GROWING.remove(size)


def done() -> int:
    """As moved(), with what grows elsewhere."""
    return moved() + sum(size() for size in list(_GROWING))


def started(process: int) -> str:
    """When that process began, and since which start of the system; empty where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"


class Sink(Protocol):
    """Where bytes go: a file, a digest, or both."""

    def write(self, data: bytes, /) -> object: ...


class HashingWriter:
    """Write through to `target` (or nowhere) while counting bytes and taking their SHA-256."""

    def __init__(self, target: Optional[Sink] = None) -> None:
        self._target, self._digest, self.size = target, hashlib.sha256(), 0

    def write(self, data: bytes, /) -> int:
        self._digest.update(data)
        self.size += len(data)
        if self._target is not None:
            self._target.write(data)
        return len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Command:
    """One process: `argv` is its list of words, `env` what is added to the environment. Secrets travel in `env` only:
    every user of the machine can read argv. alone: `env` is all of its environment, as for a program of strangers.
    memory: how many bytes it and each of its children may take; 0: as many as there are."""

    argv: Sequence[str]
    env: Optional[Mapping[str, str]] = None
    alone: bool = False
    memory: int = 0

    @property
    def name(self) -> str:
        return os.path.basename(self.argv[0])

    def environment(self) -> dict[str, str]:
        return {**({} if self.alone else os.environ), "LC_ALL": "C.UTF-8", **(self.env or {})}


@dataclass(frozen=True)
class Finished:
    """How one process ended: exit `status` (negative: killed by that signal) and the tail of its stderr."""

    command: Command
    status: int
    stderr: str


def scrub(text: str, secrets: Optional[Mapping[str, str]] = None) -> str:
    """The text without what looks like a credential: tools echo connection strings, applications what they were sent.

    Every text that leaves goes through it: errors, logs, evidence, Ansible's results. Safe for a text that has been
    through it before. secrets: of the configuration, by name, blanked wherever they are. An access key is a name, as a
    user's is: in S3 it travels in every request.
    """
    for name, word in (secrets or {}).items():
        if len(word) >= SECRET_LENGTH and not name.endswith("access_key"):
            for told in faces(word):
                text = text.replace(told, BLANK)
    for pattern, shown in _FORMS:
        text = pattern.sub(shown, text)
    return text


@functools.lru_cache(256)
def faces(secret: str) -> tuple[str, ...]:
    """A secret as it may be told, the longest first: in the clear, in JSON, percent-encoded, and in base64 wherever it
    stands in what was encoded."""
    data = secret.encode("utf-8", "surrogatepass")
    found = {secret, json.dumps(secret)[1:-1], urllib.parse.quote(data, safe=""), urllib.parse.quote_plus(data)}
    for before in range(3):
        # Of the characters at both ends only some bits are the secret's.
        whole = base64.b64encode(bytes(before) + data).decode()
        inner = whole[(0, 2, 3)[before] : len(whole) - (0, 3, 2)[(before + len(data)) % 3]]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return tuple(sorted(found, key=len, reverse=True))


def one_line(text: Union[bytes, str]) -> str:
    """Return the beginning of an answer, or a name from outside, as one short line."""
    text = text[:400].decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(stripped(scrub(text)).split())[:120]


def without_rows(lines: Sequence[str]) -> list[str]:
    """The lines in which PostgreSQL does not quote rows, keys or statements."""
    return [line for line in lines if not _ROWS.search(line)]


class Tail:
    """The standard error of one process: its end is kept, in memory. What writes it may be another machine's program,
    and a file of it would fill the disk."""

    def __init__(self) -> None:
        self._kept, self._lock, self._closed = bytearray(), threading.Lock(), False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Where the process writes."""
        return self._write

    def started(self) -> None:
        """The process has its own end now, and with it what it writes ends."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def _follow(self) -> None:
        waiting = select.poll()
        waiting.register(self._read, select.POLLIN)
        while not self._closed:
            if waiting.poll(_FOLLOWED) and not self._take():
                return

    def _take(self) -> bool:
        """Read what is there. Whether there may be more."""
        with self._lock:
            try:
                data = b"" if self._closed else os.read(self._read, STDERR_KEPT)
            except BlockingIOError:
                return True
            self._kept += data
            del self._kept[:-STDERR_KEPT]
            return bool(data)

    def text(self) -> str:
        """Its end so far, without what is secret and without a crash of Go's or Python's."""
        for _turn in range(_LEFT):  # what lies in the pipe, and no more: one that was left behind may still write
            before = len(self._kept)
            if not self._take() or len(self._kept) == before < STDERR_KEPT:
                break
        text = bytes(self._kept).decode("utf-8", "replace")
        stacks = _STACKS.search(text)
        if stacks and _CRASH.search(text, 0, stacks.start()):
            text = text[: stacks.start()]
        return scrub(text).strip()

    def close(self) -> None:
        self.started()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._reader.join(2 * _FOLLOWED / 1000)
        os.close(self._read)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Terminate what still runs, then kill it: a chain never outlives its failure. Close what it wrote to."""
    alive = [process for process in processes if process.poll() is None]
    for sig in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            _signal(process, sig)
        for process in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
    for process in processes:
        if process.stdout is not None:
            process.stdout.close()


def _signal(process: subprocess.Popen[bytes], sig: int) -> None:
    """To the process and to all that it started, which are one process group (_start)."""
    try:
        os.killpg(process.pid, sig)
    except ProcessLookupError:
        return
    except PermissionError:  # the group has a process of another user
        process.send_signal(sig)


def _wait(
    processes: Sequence[subprocess.Popen[bytes]], over: Callable[[], bool], fine: Callable[[int, int], bool]
) -> Optional[dict[int, int]]:
    """Wait until all have ended, or one in a way that is not fine: {index: status}. None when it is over first."""
    ended: dict[int, int] = {}
    pause = 0.0005
    while True:
        for index, process in enumerate(processes):
            status = process.poll()
            if status is not None and index not in ended:
                ended[index] = status
                _signal(process, signal.SIGKILL)  # what it left behind; the next in the chain may wait for its end
                if not fine(index, status):
                    return ended
        if len(ended) == len(processes):
            return ended
        if over():
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def run(
    commands: Sequence[Command],
    *,
    attempted: str,
    subject: str,
    source: Optional[IO[bytes]] = None,
    sink: Optional[Sink] = None,
    timeout: float = 3600,
    remedy: str = "",
    ok: Callable[[Finished], bool] = lambda finished: finished.status == 0,
    unwanted: Optional[threading.Event] = None,
) -> list[Finished]:
    """Run `commands` as one chain; bytes flow source -> first -> ... -> last -> sink.

    Returns how each ended, in order. Raises LifeboatError, with the words of the process that failed first, when any
    status is not ok, when `timeout` seconds pass, or when source or sink fail. An OSError of the sink (disk full)
    passes through unchanged so that its owner can say which file it was.

    unwanted: when another thread sets it the chain is ended, as when its time is up.
    """
    deadline = time.monotonic() + timeout
    over = functools.partial(_over, deadline, unwanted)
    words = f"no end after {timeout:.0f} s"
    late = LifeboatError(attempted, subject, words, "Raise lifeboat_timeout.", exit_status=TIMED_OUT)
    with contextlib.ExitStack() as stack:
        errors = [stack.enter_context(Tail()) for _command in commands]
        fed, read = (subprocess.DEVNULL if end is None else subprocess.PIPE for end in (source, sink))
        try:
            processes = _chain(commands, errors, fed, read)
        except _NotStarted as exc:
            raise LifeboatError(attempted, subject, str(exc), remedy, exit_status=exc.exit_status) from exc.__cause__

        feeder = _Feeder(source, processes[0]) if source is not None else None
        try:
            if sink is not None:
                for data in _read(processes, deadline, over, late):
                    sink.write(data)
                    _METER[0] += len(data) if source is None else 0  # what was fed in is counted there

            def fine(index: int, status: int) -> bool:
                # A process killed by SIGPIPE is a consequence: its reader is about to end with the reason.
                return status == -signal.SIGPIPE or ok(Finished(commands[index], status, errors[index].text()))

            ended = _wait(processes, over, fine)
            if ended is None:
                raise late
        finally:
            _end(processes)
            if feeder is not None:
                feeder.join(timeout=10)

        finished = [Finished(commands[n], status, errors[n].text()) for n, status in sorted(ended.items())]
        bad = [item for item in finished if not ok(item)]
        if bad:
            culprit = next((item for item in bad if item.status != -signal.SIGPIPE), bad[0])
            raise failed(attempted, subject, culprit, remedy)
        if feeder is not None and feeder.error is not None and not isinstance(feeder.error, BrokenPipeError):
            raise LifeboatError(attempted, subject, f"reading its input: {feeder.error}", remedy)
        return finished


class _NotStarted(Exception):
    def __init__(self, command: Command, error: OSError) -> None:
        super().__init__(f"{command.name}: {error.strerror or error}")
        self.exit_status = _not_run(error)


def _chain(commands: Sequence[Command], errors: Sequence[Tail], fed: int, read: int) -> list[subprocess.Popen[bytes]]:
    """Start each command with the output of the one before; all of them, or none."""
    processes: list[subprocess.Popen[bytes]] = []
    for command, error in zip(commands, errors):
        try:
            stdout = read if command is commands[-1] else subprocess.PIPE
            processes.append(_start(command, processes[-1].stdout if processes else fed, stdout, error.fileno()))
            error.started()
        except OSError as exc:
            _end(processes)
            raise _NotStarted(command, exc) from exc
    return processes


def _over(deadline: float, unwanted: Optional[threading.Event]) -> bool:
    return time.monotonic() >= deadline or (unwanted is not None and unwanted.is_set())


def _start(command: Command, stdin: Union[int, IO[bytes], None], stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    env = command.environment()
    argv = list(command.argv)
    # From its first instruction on: what it starts inherits the bound only if it is there before.
    if command.memory and shutil.which(argv[0], path=(env or os.environ).get("PATH")):
        argv = ["/bin/sh", "-c", 'ulimit -d "$0" && exec "$@"', str(command.memory >> 10), *argv]
    process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, start_new_session=True)
    if stdin is not None and not isinstance(stdin, int):
        stdin.close()  # ours, or the writer never sees EPIPE when the reader dies
    return process


def failed(attempted: str, subject: str, finished: Finished, remedy: str = "") -> LifeboatError:
    """The error of a process that ended badly."""
    codes = [found.group(2) for found in map(_SQLSTATE.match, finished.stderr.splitlines()) if found]
    # Warnings have codes as well: classes 00 to 02. The first error is psql's own, later lines may be a message's text.
    code = next((code for code in codes if code[:2] not in ("00", "01", "02")), "")
    return LifeboatError(attempted, subject, describe(finished), remedy, exit_status=finished.status, sqlstate=code)


def describe(finished: Finished) -> str:
    """One line on why a process failed, its own words first."""
    how = f"signal {-finished.status}" if finished.status < 0 else f"exit {finished.status}"
    lines = without_rows([line.strip() for line in finished.stderr.splitlines() if line.strip()])
    lines = [_SQLSTATE.sub(r"\1", line) for line in lines if not _VERBOSE.search(line)]
    words = " / ".join(line if len(line) <= _LINE_SHOWN else f"{line[:_LINE_SHOWN]}…" for line in lines[-6:])
    return f"{finished.command.name}: {words} ({how})" if words else f"{finished.command.name} ended with {how}"


class _Feeder(threading.Thread):
    """Feed a process's stdin from another thread, so that neither side can block the other."""

    def __init__(self, source: IO[bytes], process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.error: Optional[Exception] = None
        self._source, self._stdin = source, present(process.stdin)
        self.start()

    def run(self) -> None:
        try:
            while data := self._source.read(CHUNK):
                self._stdin.write(data)
                _METER[0] += len(data)
        except Exception as exc:
            self.error = exc
        finally:
            with contextlib.suppress(OSError):
                self._stdin.close()


def _read(
    processes: Sequence[subprocess.Popen[bytes]], deadline: float, over: Callable[[], bool], late: LifeboatError
) -> Iterator[bytes]:  # fmt: skip
    """Yield what the last process writes until its end, never waiting past the deadline.

    A process that has ended may have left one behind that has its end of a pipe: it is killed. One that has taken
    itself out of the group is not waited for.
    """
    output = present(processes[-1].stdout)
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if selector.select(min(_SILENCE, max(0.0, deadline - time.monotonic()))):
                if not (data := os.read(output.fileno(), CHUNK)):
                    return
                yield data
                # One that never falls silent has no more time than another; what has ended leaves a pipe at most.
                if over() and processes[-1].poll() is None:
                    raise late
                continue
            gone = [process for process in processes if process.poll() is not None]
            for process in gone:
                _signal(process, signal.SIGKILL)
            if processes[-1] in gone and not selector.select(_SILENCE):
                return
            if over():
                raise late


@contextlib.contextmanager
def writing(work: Callable[[IO[bytes]], object]) -> Iterator[IO[bytes]]:
    """Something to write to. `work` reads it, in another thread, and has ended afterwards; what it raises is raised."""

    def read(reader: IO[bytes]) -> None:
        with reader:  # closed where the work fails, so that who writes learns of it
            work(reader)

    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1) as pool, os.fdopen(read_end, "rb") as reader:
        working = pool.submit(read, reader)
        try:
            with os.fdopen(write_end, "wb") as writer:
                yield writer
        except BrokenPipeError:
            working.result()  # says why it stopped reading
            raise
        working.result()


@contextlib.contextmanager
def reading(
    command: Command, source: IO[bytes], *, attempted: str, subject: str, timeout: float
) -> Iterator[IO[bytes]]:
    """What the command makes of the source, to read. Where that was read to its end, the command has ended well; who
    stops reading before is told nothing of how it ended."""
    read_end, write_end = os.pipe()

    def work() -> None:
        with os.fdopen(write_end, "wb") as writer:
            run([command], attempted=attempted, subject=subject, source=source, sink=writer, timeout=timeout)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        with os.fdopen(read_end, "rb") as reader:
            yield reader
            left = reader.read(1)
        with contextlib.suppress(BrokenPipeError) if left else contextlib.nullcontext():
            working.result()


class _Collector:
    def __init__(self, limit: int) -> None:
        self.data, self._limit = bytearray(), limit

    def write(self, data: bytes, /) -> None:
        self.data += data
        if len(self.data) > self._limit:
            raise LifeboatError("collect the output", "process", f"more than {self._limit} bytes")


def output(
    command: Command,
    *,
    attempted: str,
    subject: str,
    source: Optional[IO[bytes]] = None,
    timeout: float = 300,
    remedy: str = "",
    limit: int = 256 << 20,
    errors: str = "strict",
) -> str:
    """Run one command and return what it printed. errors: what becomes of bytes that are not UTF-8, see `codecs`."""
    collected = _Collector(limit)
    (finished,) = run(
        [command], attempted=attempted, subject=subject, source=source, sink=collected, timeout=timeout, remedy=remedy,
        ok=lambda _: True,
    )  # fmt: skip
    if finished.status:
        raise failed(attempted, subject, with_output(finished, bytes(collected.data)), remedy)
    try:
        return collected.data.decode("utf-8", errors)
    except UnicodeDecodeError as exc:
        cause = f"{command.argv[0]} printed bytes that are not UTF-8, from byte {exc.start} on"
        raise LifeboatError(attempted, subject, cause, remedy) from exc


def with_output(finished: Finished, printed: bytes) -> Finished:
    """`docker exec` tells on standard output why it could not run a command at all."""
    if finished.status not in (126, 127) or finished.stderr:
        return finished
    return replace(finished, stderr=scrub(printed[-STDERR_KEPT:].decode("utf-8", "replace")))


def _not_run(exc: OSError) -> int:
    """The status that shells give a command that could not be started."""
    return 127 if isinstance(exc, FileNotFoundError) else 126


def probe(command: Command, *, timeout: float = 60, given: bytes = b"") -> tuple[int, str, str]:
    """Run one command whose failure is an answer: (status, stdout, stderr). As in shells 127 is not installed, 126
    cannot be run, 124 timed out. Of stderr the end; 126 too where it prints more than any answer has.
    given: what it reads on standard input."""
    collected = _Collector(_ANSWER)
    try:
        (done,) = run(
            [command], attempted="ask", subject=command.name, source=io.BytesIO(given) if given else None,
            sink=collected, timeout=timeout, ok=lambda _: True,
        )  # fmt: skip
    except LifeboatError as exc:
        if exc.exit_status == TIMED_OUT:
            return TIMED_OUT, "", f"no answer after {timeout:.0f} s"
        return exc.exit_status or 126, "", exc.cause
    return done.status, collected.data.decode("utf-8", "replace"), done.stderr
