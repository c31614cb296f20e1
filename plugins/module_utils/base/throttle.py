# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Much work over few threads, so much memory and so many bytes a second and no more."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Callable, TypeVar

from .errors import UsageError

T = TypeVar("T")
R = TypeVar("R")
SIDE_BY_SIDE = 4  # buckets of one store that are worked on at once
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([BKMGT]?)(?:i?B?(?:/s)?)?", re.IGNORECASE)


def parse_rate(text: str) -> float:
    """Bytes a second from what rclone's --bwlimit takes (`10M`, `512k`, plain KiB); 0: no limit."""
    if text.strip().lower() in ("", "off", "0"):
        return 0.0
    match = _RATE.fullmatch(text.strip())
    if match is None:
        cause = "it is not a number with K, M or G, such as 10M"
        raise UsageError("read the bandwidth", text, cause, "Correct lifeboat_objects.bandwidth and deploy again.")
    return float(match.group(1)) * 1024.0 ** " BKMGT".index(match.group(2).upper() or "K") / 1024.0


class Rate:
    """Let so many bytes pass a second, over all threads."""

    def __init__(self, limit: float) -> None:
        self._limit, self._lock, self._free_at = limit, threading.Lock(), 0.0

    def take(self, size: int) -> None:
        if not self._limit:
            return
        with self._lock:
            start = max(time.monotonic(), self._free_at)
            self._free_at = start + size / self._limit
        time.sleep(max(0.0, start - time.monotonic()))


class Budget:
    """Bytes that may be held at once. What is larger than all of it gets all of it."""

    def __init__(self, total: int) -> None:
        self._total, self._free, self._changed = total, total, threading.Condition()

    def take(self, size: int, wait: bool = True) -> int:
        """How many were taken; 0 where there are none and we do not wait."""
        size = max(1, min(size, self._total))
        with self._changed:
            while self._free < size:
                if not wait:
                    return 0
                self._changed.wait()
            self._free -= size
        return size

    def give(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


def each(work: Callable[[T], object], items: Iterable[T], workers: int) -> None:
    """Do `work` on every item as they come, a million of them too; the first failure stops the rest and is raised."""
    source, lock = iter(items), threading.Lock()
    failed: list[BaseException] = []
    threads: list[threading.Thread] = []

    def start() -> None:
        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    def run() -> None:
        try:
            while not failed:
                with lock:
                    taken = list(itertools.islice(source, 1))
                    if taken and len(threads) < workers:
                        start()  # one more than there are items, at the most
                if not taken:
                    return
                work(*taken)
        except BaseException as exc:
            failed.append(exc)

    start()
    try:
        for thread in threads:  # one that starts another ends after that
            thread.join()
    except BaseException as exc:  # Ctrl-C
        failed.append(exc)
        raise
    if failed:
        raise failed[0]


def mapped(work: Callable[[T], R], items: Sequence[T], workers: int = SIDE_BY_SIDE) -> list[R]:
    """What `work` makes of each item, in their order, several at once; as each()."""
    done: dict[int, R] = {}

    def one(numbered: tuple[int, T]) -> None:
        done[numbered[0]] = work(numbered[1])

    each(one, enumerate(items), workers)
    return [done[number] for number in range(len(items))]
