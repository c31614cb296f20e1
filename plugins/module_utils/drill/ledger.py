# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a writer was told is safe, kept outside the stack; and what is left of it after a recovery.

A line is on the disk only after the application acknowledged the write, so a line whose write is missing afterwards is
a lost write: what a recovery point objective is about.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, Optional

from ..base import typed
from ..base.errors import IntegrityError, LifeboatError, UnverifiedError
from ..base.filesystem import explained
from ..evidence.drill import Compared
from ..settings.config import Config
from ..settings.parts import TransactionSettings
from . import transaction

LONGEST = 6 * 3600.0  # a writer that nobody stopped stops by itself
_READERS = 16
_TRIES = 3
_PATIENCE = 120.0  # for all of it: an application that lets every question wait is not asked for hours
_BEGIN = 30.0


@dataclass(frozen=True)
class Write:
    """A line: a write that was acknowledged, or refused with `error`. id: the application's name for it."""

    name: str
    token: str
    time: datetime
    id: Optional[str] = None
    error: Optional[str] = None

    @property
    def name_there(self) -> tuple[str, str]:
        return self.name, self.id or ""


@dataclass(frozen=True)
class Counts:
    acknowledged: int
    errors: int


def path_of(config: Config) -> Path:
    return config.state / "drill" / "ledger.jsonl"


def keep(config: Config, path: Path, *, seconds: float = LONGEST) -> Counts:
    """Make one transaction after the other until told to stop (SIGTERM), or so many seconds are over. Blocks, and holds
    the lock next to the ledger, in which its process id is."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    acknowledged = errors = 0
    end = time.monotonic() + seconds
    rounds = itertools.cycle(config.drill.transactions)
    with explained("keep the ledger", path), _lock(path).open("a+b") as lock, path.open("ab") as file:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        while not stop.is_set() and time.monotonic() < end:
            began = time.monotonic()
            pause = 1 / config.drill.rate
            try:
                _write_one(config, next(rounds), file)
                acknowledged += 1
            except LifeboatError:  # the ledger says which
                errors += 1
                pause = max(0.25, pause)  # an application that is down is not asked as fast as it refuses
            stop.wait(max(0.0, began + pause - time.monotonic()))
    return Counts(acknowledged, errors)


def hold(config: Config, settings: TransactionSettings, path: Path) -> None:
    """Write and read back, and put it into the ledger. Raises LifeboatError where what was written is not what is read.

    A write that the ledger did not know would look, when names come back after a recovery, like somebody else's.
    """
    with explained("keep the ledger", path), path.open("ab") as file:
        write = _write_one(config, settings, file)
    found = transaction.read(config, settings, write.token, write.id or "")
    if found != transaction.PRESENT:
        raise LifeboatError("find what was just written", settings.name, f"it is {found}")


def _write_one(config: Config, settings: TransactionSettings, file: BinaryIO) -> Write:
    """Write once and note that in the ledger."""
    token = transaction.new_token()
    try:
        identity = transaction.write(config, settings, token)
    except LifeboatError as exc:
        _append(file, Write(settings.name, token, datetime.now(timezone.utc), error=exc.cause))
        raise
    write = Write(settings.name, token, datetime.now(timezone.utc), identity)
    _append(file, write)
    return write


def _append(file: BinaryIO, write: Write) -> None:
    file.write(json.dumps(typed.plain(write)).encode() + b"\n")  # at once: the writer and hold() share the file
    file.flush()
    os.fsync(file.fileno())


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


# --- a writer beside us ---------------------------------------------------------------------------------------------


def start(config: Config, command: str) -> int:
    """Start a new ledger with a writer of its own, which outlives us; command: the agent's path. Returns how many
    writes are acknowledged so far."""
    path = path_of(config)
    stop(config)
    with explained("start the ledger", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        said = path.with_suffix(".log")
        with said.open("wb") as log:
            process = subprocess.Popen(
                [command, "transaction", "--stack", config.stack, "--ledger", str(path)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
    deadline = time.monotonic() + _BEGIN
    while time.monotonic() < deadline and process.poll() is None:
        written, _errors = acknowledged(path)
        if written:
            process.returncode = 0  # it outlives us, and nobody waits for it
            return len(written)
        time.sleep(0.1)
    process.terminate()
    process.wait(timeout=30)
    words = said.read_text(encoding="utf-8", errors="replace").strip()
    _writes, errors = acknowledged(path)
    cause = words or f"nothing was acknowledged in {_BEGIN:.0f} s; {errors} writes failed"
    raise LifeboatError("start the writer", command, cause)


def stop(config: Config, *, patience: float = 30) -> bool:
    """End the writer, if one runs. Returns whether one did."""
    path = _lock(path_of(config))
    holder = writer = _holder(path)
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        if holder:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder, number)
        deadline = time.monotonic() + wait
        while (holder := _holder(path)) and time.monotonic() < deadline:
            time.sleep(0.05)
    if holder:
        raise LifeboatError("stop the writer", f"process {holder}", "it does not end")
    return bool(writer)


def _holder(lock: Path) -> int:
    """Return the writer's process id; 0 where none holds the lock."""
    with contextlib.suppress(FileNotFoundError), lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = file.read(20)
            if said and not said.isdigit():
                raise IntegrityError("find the writer", str(lock), f"no process has the number {said!r}") from None
            return int(said or b"0")
    return 0


# --- afterwards -----------------------------------------------------------------------------------------------------


def acknowledged(path: Path) -> tuple[list[Write], int]:
    """Return the acknowledged writes and the number of failed ones. A line cut short was acknowledged to nobody."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = [line for number, text in enumerate(data.splitlines(), 1) if (line := _read(text, f"{path}:{number}"))]
    return [line for line in lines if line.error is None], sum(line.error is not None for line in lines)


def _read(text: bytes, where: str) -> Optional[Write]:
    def wrong(field: str, cause: str) -> LifeboatError:
        return IntegrityError("read the ledger", where, f"{field}: {cause}" if field else cause)

    try:
        return typed.build(Write, typed.load(text, wrong), wrong)
    except IntegrityError as exc:
        if isinstance(exc.__cause__, (json.JSONDecodeError, UnicodeDecodeError)):
            return None
        raise


def compare(config: Config, path: Path) -> Compared:
    """Ask the application for each acknowledged write. Raises UnverifiedError where there is no ledger or no answer."""
    writes, errors = acknowledged(path)
    found = _states(config, _known(config, path, writes), writes)
    lost = [write.time for write, state in zip(writes, found) if state != transaction.PRESENT]
    kept = [write.time for write, state in zip(writes, found) if state == transaction.PRESENT]
    first, last = min(lost, default=None), max(kept, default=None)
    return Compared(len(writes), len(kept), len(lost), found.count(transaction.OTHER), errors, first, last)


def served(config: Config, path: Path, since: datetime) -> Optional[datetime]:
    """Return when the writer had made each of its transactions again: the first of each that was acknowledged after
    `since` and is there now. None where one of them was not made, or is not there."""
    writes, _errors = acknowledged(path)
    first: list[datetime] = []
    for asked in config.drill.transactions:
        made = [write for write in writes if write.name == asked.name and write.time >= since][:_TRIES]
        there = next((write for write in made if _reads_back(config, asked, write)), None)
        if there is None:
            return None
        first.append(there.time)
    return max(first, default=None)


def _reads_back(config: Config, settings: TransactionSettings, write: Write) -> bool:
    with contextlib.suppress(LifeboatError):
        return transaction.read(config, settings, write.token, write.id or "") == transaction.PRESENT
    return False


def remove(config: Config, path: Path) -> tuple[int, int]:
    """Remove what the writer wrote, as far as its transactions say how: (how many went, how many there were).

    Only what is surely the writer's: it is there as written, or the application knows of it and cannot give it back,
    and no other write has its name.
    """
    writes, _errors = acknowledged(path)
    known = _known(config, path, writes)
    names = [write.name_there for write in writes]
    ours = [
        write
        for write, state in zip(writes, _states(config, known, writes))
        if known[write.name].remove.url
        and (state == transaction.PRESENT or (state == transaction.BROKEN and names.count(write.name_there) == 1))
    ]
    gone, left, refusal = 0, ours, None
    with ThreadPoolExecutor(_READERS) as pool:
        for attempt in range(_TRIES):
            if left and attempt:
                time.sleep(1)
            said = list(pool.map(functools.partial(_removed, config, known), left))
            gone += sum(there for there, _refusal in said)
            left = [write for write, (_there, refused) in zip(left, said) if refused]
            refusal = next((refused for _there, refused in said if refused), None)
    if refusal:
        raise refusal
    return gone, len(writes)


def _removed(
    config: Config, known: Mapping[str, TransactionSettings], write: Write
) -> tuple[bool, Optional[LifeboatError]]:
    """Return whether it was there and went, and what went wrong."""
    try:
        return transaction.remove(config, known[write.name], write.token, write.id or ""), None
    except LifeboatError as exc:
        return False, exc


def _known(config: Config, path: Path, writes: Sequence[Write]) -> dict[str, TransactionSettings]:
    """Return the transactions by name. Raises UnverifiedError where there is no ledger, or one of something else."""
    if not writes:
        raise UnverifiedError("read the ledger", str(path), "it holds no acknowledged write")
    known = {asked.name: asked for asked in config.drill.transactions}
    strange = sorted({write.name for write in writes} - set(known))
    if strange:
        raise UnverifiedError("read the ledger", str(path), f"there is no way to read back {', '.join(strange)}")
    return known


def _states(config: Config, known: Mapping[str, TransactionSettings], writes: Sequence[Write]) -> list[str]:
    """PRESENT, LOST, OTHER or BROKEN of each: one that the application cannot give back is lost to its user as well.
    What it does not say at once it is asked again a little later, all of it together."""
    found: dict[str, str] = {}
    deadline = time.monotonic() + _PATIENCE
    with ThreadPoolExecutor(_READERS) as pool:
        for attempt in range(_TRIES):
            unsaid = [write for write in writes if write.token not in found]
            if unsaid and attempt:
                time.sleep(1)
            last = attempt + 1 == _TRIES
            said = pool.map(functools.partial(_state, config, known, writes, deadline, last), unsaid)
            found.update({write.token: state for write, state in zip(unsaid, said) if state})
    return [found.get(write.token, transaction.BROKEN) for write in writes]


def _state(
    config: Config, known: Mapping[str, TransactionSettings], writes: Sequence[Write], deadline: float, last: bool,
    write: Write,
) -> str:  # fmt: skip
    """Empty where the application did not say. Raises UnverifiedError where it still does not answer at the last."""
    if time.monotonic() > deadline:
        cause = f"the application took more than {_PATIENCE:.0f} s to say"
        raise UnverifiedError("read the ledger back", f"{len(writes)} writes", cause)
    asked = known[write.name]
    try:
        state = transaction.read(config, asked, write.token, write.id or "")
        return _taken_over(config, asked, write, writes) if state == transaction.OTHER else state
    except UnverifiedError:
        if last:
            raise
        return ""
    except LifeboatError:
        return ""


def _taken_over(config: Config, settings: TransactionSettings, write: Write, writes: Sequence[Write]) -> str:
    """Return whether the write is lost: after a recovery the application counts on from where the backup was, so that a
    later write may have its name."""
    later = (other for other in writes if other.name_there == write.name_there and other is not write)
    there = (transaction.read(config, settings, other.token, other.id or "") == transaction.PRESENT for other in later)
    return transaction.LOST if any(there) else transaction.OTHER


def age_of_loss(compared: Compared, at: datetime) -> float:
    """Return the seconds from the first lost write to `at`, the fault; 0 if nothing was lost."""
    return max(0.0, (at - compared.first_lost).total_seconds()) if compared.first_lost else 0.0
