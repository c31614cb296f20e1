# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do operations on what hypothesis seeds, each within bounds, and count what none may do.

Three things are wrong: what Lifeboat does not foresee (any exception but its own), an operation without an end, and a
verdict that is better than that of the intact. The first of each kind is told with its damage; the rest are counted,
so that one run finds many. Nothing is shrunk: a damage is one line.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Optional, TypeVar

import hypothesis
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from hypothesis import strategies as st

OPERATIONS = int(os.environ.get("OPERATIONS") or 300)
SEED = os.environ.get("SEED") or ""
SECONDS = 30  # of processor time
PATIENCE = 300  # of time that passes: a pipe that is read for ever needs no processor; the machine may be a busy one
CORE = "module_utils"
T = TypeVar("T")
R = TypeVar("R")


class Endless(BaseException):
    """Not an Exception: nothing may take it for an answer."""


@dataclass
class Tally:
    operations: int = 0
    worlds: int = 0
    seen: Counter[str] = field(default_factory=Counter)  # tracebacks, hangs, better verdicts
    found: dict[str, str] = field(default_factory=dict)  # by where: the first of its kind

    def words(self) -> str:
        kinds = ("tracebacks", "hangs", "better verdicts")
        counted = ", ".join(f"{self.seen[kind]} {kind}" for kind in kinds)
        return f"fuzz: {self.operations} operations on {self.worlds} damaged inputs (seed {SEED or 'fixed'}): {counted}"

    def note(self, kind: str, where: str, story: str) -> None:
        self.seen[kind] += 1
        self.found.setdefault(f"{kind}: {where}", story)


TALLY = Tally()


def _late(number: int, _frame: object) -> None:
    raise Endless(f"no end after {SECONDS if number == signal.SIGPROF else PATIENCE} s")


@contextmanager
def bounded() -> Iterator[None]:
    """By two clocks, and a third that ends the process where the interpreter itself does not come back."""
    faulthandler.dump_traceback_later(2 * PATIENCE, exit=True)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, _late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def attempt(work: Callable[[T], R], given: T, story: str) -> Optional[R]:
    """Do it; None where it ended as it should not, or with an error of Lifeboat's own."""
    TALLY.operations += 1
    try:
        with bounded():
            return work(given)
    except LifeboatError:
        return None
    except Endless as exc:
        TALLY.note("hangs", _where(exc), f"{story}\n{traceback.format_exc()}")
    except Exception as exc:
        TALLY.note("tracebacks", f"{type(exc).__name__} {_where(exc)}", f"{story}\n{traceback.format_exc()[-3000:]}")
    return None


def _where(exc: BaseException) -> str:
    """The innermost line of the core."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if CORE in frame.filename]
    last = frames[-1] if frames else traceback.extract_tb(exc.__traceback__)[-1]
    return f"{last.filename.rpartition('/')[2]}:{last.lineno} {last.name}: {str(exc)[:100]!r}"


def fuzz(share: float, each: int, body: Callable[[Random], None]) -> None:
    """Call `body` with random numbers until its share of the operations is done. each: how many one call makes."""
    before = dict(TALLY.found)
    examples = max(1, round(OPERATIONS * share / each))

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=not SEED, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(st.randoms(use_true_random=True))  # to draw each choice would take as long as the operations
    def run(rng: Random) -> None:
        TALLY.worlds += 1
        body(rng)

    (hypothesis.seed(int(SEED))(run) if SEED else run)()
    new = {where: story for where, story in TALLY.found.items() if where not in before}
    assert not new, "\n\n".join(f"{where}\n{story}" for where, story in new.items())
