# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a writer was told is safe, kept outside the stack; and what is left of it after a recovery.

A line is on the disk only after the application acknowledged the write, so a line whose write is missing afterwards is
a lost write: what a recovery point objective is about.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, Optional

from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, UnverifiedError
from ..base.filesystem import explained
from ..settings.config import Config
from ..settings.drill import TransactionSettings
from . import transaction

LONGEST = 6 * 3600.0  # a writer that nobody stopped stops by itself
_READERS = 16
_TRIES = 3
_PATIENCE = 120.0  # for all of it: an application that lets every question wait is not asked for hours
_BEGIN = 30.0


def path_of(config: Config) -> Path:
    return config.state / "drill" / "ledger.jsonl"


def keep(config: Config, path: Path, *, seconds: float = LONGEST) -> dict[str, int]:
    """Make one transaction after the other until told to stop (SIGTERM), or so many seconds are over. Blocks.

    Returns {acknowledged, errors}. Holds the lock beside the ledger, in which its process id is, as long as it runs.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    counts = {"acknowledged": 0, "errors": 0}
    end = time.monotonic() + seconds
    rounds = _rounds(config.drill.transactions)
    with explained("keep the ledger", path), _lock(path).open("a+b") as lock, path.open("ab") as file:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        while not stop.is_set() and time.monotonic() < end:
            began = time.monotonic()
            pause = 1 / config.drill.rate
            try:
                _one(config, next(rounds), file)
                counts["acknowledged"] += 1
            except LifeboatError:  # the ledger says which
                counts["errors"] += 1
                pause = max(0.5, pause)  # an application that is down is not asked as fast as it refuses
            stop.wait(max(0.0, began + pause - time.monotonic()))
    return counts


def hold(config: Config, asked: TransactionSettings, path: Path) -> None:
    """Write and read back, and put it into the ledger. Raises LifeboatError where what was written is not what is read.

    A write that the ledger did not know would look, when names come back after a recovery, like somebody else's.
    """
    with explained("keep the ledger", path), path.open("ab") as file:
        token, identity = _one(config, asked, file)
    found = transaction.read(config, asked, token, identity)
    if found != transaction.PRESENT:
        raise LifeboatError("find what was just written", asked.name, f"it is {found}")


def _rounds(transactions: Sequence[TransactionSettings]) -> Iterator[TransactionSettings]:
    while True:
        yield from transactions


def _one(config: Config, asked: TransactionSettings, file: BinaryIO) -> tuple[str, str]:
    """One write and its line in the ledger: its token, and the application's name for it."""
    token = transaction.new_token()
    line: dict[str, Any] = {"name": asked.name, "token": token}
    try:
        line["id"] = transaction.write(config, asked, token)
    except LifeboatError as exc:
        line["error"] = exc.cause
        raise
    finally:
        line["time"] = format_time(datetime.now(timezone.utc))
        file.write(json.dumps(line).encode() + b"\n")  # appended at once: the writer and hold() share the file
        file.flush()
        os.fsync(file.fileno())
    return token, str(line["id"])


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


# --- a writer beside us ---------------------------------------------------------------------------------------------


def start(config: Config, command: str) -> int:
    """Start a new ledger with a writer of its own, which outlives us. Returns how many writes are acknowledged so far.

    command: the agent's path.
    """
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
        written, errors = acknowledged(path)
        if written:
            process.returncode = 0  # it outlives us, and nobody waits for it
            return len(written)
        time.sleep(0.1)
    process.terminate()
    process.wait(timeout=30)
    words = said.read_text(encoding="utf-8", errors="replace").strip()
    _writes, errors = acknowledged(path)
    raise LifeboatError(
        "start the writer", command, words or f"nothing was acknowledged in {_BEGIN:.0f} s; {errors} writes failed"
    )


def stop(config: Config, *, patience: float = 30) -> bool:
    """End the writer, if one runs. Returns whether one did."""
    path = _lock(path_of(config))
    ran = False
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        holder = _holder(path)
        if not holder:
            return ran
        ran = True
        try:
            os.kill(holder, number)
        except ProcessLookupError:
            return ran
        deadline = time.monotonic() + wait
        while _holder(path) and time.monotonic() < deadline:
            time.sleep(0.05)
    if _holder(path):
        raise LifeboatError("stop the writer", f"process {_holder(path)}", "it does not end")
    return ran


def _holder(lock: Path) -> int:
    """The writer's process id; 0 where none holds the lock."""
    try:
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or b"0")
    except FileNotFoundError:
        pass
    return 0


# --- afterwards -----------------------------------------------------------------------------------------------------


def acknowledged(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The acknowledged writes and the number of failed ones. A last line cut short was acknowledged to nobody."""
    writes: list[dict[str, Any]] = []
    errors = 0
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    for text in data.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if "error" in line:
            errors += 1
        else:
            writes.append(line)
    return writes, errors


def compare(config: Config, path: Path) -> dict[str, Any]:
    """Ask the application for each acknowledged write.

    {acknowledged, present, lost, unexpected, errors, first_lost, last_present}; the two are times or None. unexpected:
    under the name of an acknowledged write lies what no acknowledged write put there. Raises UnverifiedError where
    there is no ledger, or the application does not answer.
    """
    writes, errors = acknowledged(path)
    found = _states(config, _known(config, path, writes), writes)
    lost = [item["time"] for item, state in zip(writes, found) if state != transaction.PRESENT]
    kept = [item["time"] for item, state in zip(writes, found) if state == transaction.PRESENT]
    return {
        "acknowledged": len(writes),
        "present": len(kept),
        "lost": len(lost),
        "unexpected": found.count(transaction.OTHER),
        "errors": errors,
        "first_lost": min(lost, default=None),
        "last_present": max(kept, default=None),
    }


def remove(config: Config, path: Path) -> tuple[int, int]:
    """Take away again what the writer wrote, as far as its transactions say how: (how many went, how many there were).

    Only what is surely the writer's: it is there as written, or the application knows of it and cannot give it back,
    and no other write has its name.
    """
    writes, _errors = acknowledged(path)
    known = _known(config, path, writes)
    names = [(item["name"], item["id"]) for item in writes]
    states = _states(config, known, writes)
    ours = [
        item
        for item, name, state in zip(writes, names, states)
        if known[item["name"]].remove.url
        and (state == transaction.PRESENT or (state == transaction.BROKEN and names.count(name) == 1))
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        gone = pool.map(
            lambda item: transaction.remove(config, known[item["name"]], str(item["token"]), str(item["id"])), ours
        )
        return sum(gone), len(writes)


def _known(config: Config, path: Path, writes: Sequence[Mapping[str, Any]]) -> dict[str, TransactionSettings]:
    """The transactions by name. Raises UnverifiedError where there is no ledger, or one of something else."""
    if not writes:
        raise UnverifiedError("read the ledger", str(path), "it holds no acknowledged write")
    known = {item.name: item for item in config.drill.transactions}
    strange = sorted({str(item["name"]) for item in writes} - set(known))
    if strange:
        raise UnverifiedError("read the ledger", str(path), f"nobody knows how to read back {', '.join(strange)}")
    return known


def _states(config: Config, known: Mapping[str, TransactionSettings], writes: Sequence[Mapping[str, Any]]) -> list[str]:
    """PRESENT, LOST, OTHER or BROKEN of each: one that the application cannot give back is lost to its user as well.

    What it does not say at once it is asked again a little later, all of it together.
    """
    found: dict[int, str] = {}
    deadline = time.monotonic() + _PATIENCE
    with ThreadPoolExecutor(_READERS) as pool:
        for attempt in range(_TRIES):
            unsaid = [number for number in range(len(writes)) if number not in found]
            if not unsaid:
                break
            if attempt:
                time.sleep(1)
            last = attempt + 1 == _TRIES
            said = pool.map(lambda number: _state(config, known, writes, number, deadline, last=last), unsaid)  # noqa: B023
            found.update({number: state for number, state in zip(unsaid, said) if state})
    return [found.get(number, transaction.BROKEN) for number in range(len(writes))]


def _state(
    config: Config,
    known: Mapping[str, TransactionSettings],
    writes: Sequence[Mapping[str, Any]],
    number: int,
    deadline: float,
    *,
    last: bool,
) -> str:
    """Empty where the application did not say. Raises UnverifiedError where it still does not answer at the last."""
    line = writes[number]
    if time.monotonic() > deadline:
        raise UnverifiedError(
            "read the ledger back", f"{len(writes)} writes", f"the application took more than {_PATIENCE:.0f} s to say"
        )
    asked = known[str(line["name"])]
    try:
        state = transaction.read(config, asked, str(line["token"]), str(line["id"]))
    except UnverifiedError:
        if last:
            raise
        return ""
    except LifeboatError:
        return ""
    return _taken_over(config, asked, line, writes) if state == transaction.OTHER else state


def _taken_over(
    config: Config, asked: TransactionSettings, line: Mapping[str, Any], writes: Sequence[Mapping[str, Any]]
) -> str:
    """After a recovery the application counts on from where the backup was: a later write may have an old name."""
    later = [item for item in writes if (item["name"], item["id"]) == (line["name"], line["id"]) and item is not line]
    for item in later:
        if transaction.read(config, asked, str(item["token"]), str(item["id"])) == transaction.PRESENT:
            return transaction.LOST
    return transaction.OTHER


def age_of_loss(found: Mapping[str, Any], at: str) -> Optional[float]:
    """Seconds from the first lost write to `at`, the fault; 0 where nothing was lost."""
    first = found.get("first_lost")
    if not first:
        return 0.0
    return max(0.0, (parse_time(at) - parse_time(str(first))).total_seconds())
