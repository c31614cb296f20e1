# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drill breaks, for real, and how it is seen that it broke. Refused where nobody said that this may be."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Callable, Optional

from ...base.errors import Log, UsageError
from ...database import server as database_server
from ...settings import scenarios
from ...settings.config import Config
from ...settings.parts import REHEARSED
from ...settings.scenarios import SCENARIOS, Scenario
from ...stack.runtime import Opened
from . import backend, continuous, database, dumps, files, frontend, objects

RANDOM = "random"
Break = Callable[[Opened, random.Random, Log], str]
Prepare = Callable[[Opened, Log], AbstractContextManager[str]]


@dataclass(frozen=True)
class Fault:
    """A fault that a drill injects. description: what happens. inject: injects it and returns the proof that it took
    effect; None where the host itself goes, which no module on it can do. prepare: what goes wrong before that without
    any loss of data, with the proof of it; it ends after the damage."""

    name: str
    description: str
    inject: Optional[Break] = None
    prepare: Optional[Prepare] = None


_POWER_OFF = (("power_off", "the machine is switched off and does not come back", None),)
_MODULES = (database, objects, files, dumps, backend, frontend)


def _faults(scenario: Scenario) -> tuple[Fault, ...]:
    breaks = next((module.FAULTS for module in _MODULES if scenario.name == module.SCENARIO), _POWER_OFF)
    known = {name: Fault(name, words, inject) for name, words, inject in breaks}
    if scenario.name == continuous.SCENARIO:
        known.update({each[0]: Fault(*each) for each in continuous.FAULTS})
    return tuple(known[name] for name in scenario.faults)


# By scenario; the first is the one that happens where none is named.
FAULTS: Mapping[str, tuple[Fault, ...]] = {name: _faults(scenario) for name, scenario in SCENARIOS.items()}


def offered(scenario: str, config: Config) -> tuple[Fault, ...]:
    """Return the faults that this stack has: without continuous protection none of what receives its WAL."""
    if scenario not in FAULTS:
        raise UsageError("choose the fault", scenario, f"the scenarios are {', '.join(FAULTS)}")
    absent = () if config.wal.enabled else SCENARIOS[scenario].continuous
    return tuple(known for known in FAULTS[scenario] if known.name not in absent)


def choose(config: Config, scenario: str, name: str = "", seed: str = "") -> Fault:
    """Return the fault of that name, the scenario's first where none is given, or a random one: one seed,
    one choice."""
    known = offered(scenario, config)
    if name == RANDOM:
        return random.Random(f"{scenario} {seed}").choice(known)  # noqa: S311 - a lot, no secret
    found = [fault for fault in known if name in ("", fault.name)]
    if not found:
        names = ", ".join(fault.name for fault in known)
        remedy = "It takes continuous protection: lifeboat_wal." if name in SCENARIOS[scenario].continuous else ""
        raise UsageError("choose the fault", f"{name} of {scenario}", f"it has {names}, and {RANDOM}", remedy)
    return found[0]


def refuse_elsewhere(config: Config) -> None:
    """Nothing is broken where the host's own configuration does not say that it is there to be broken."""
    if config.environment != REHEARSED:
        raise UsageError(
            "break something", config.stack,
            f"this host is deployed as {config.environment or 'nothing'}, not as {REHEARSED}; nothing was touched",
            f"Only where everything on it may be lost: lifeboat_environment: {REHEARSED}, then lifeboat.dr.deploy."
            " To rehearse beside production, -e drill_mode=beside.",
        )  # fmt: skip


def refuse_absent(config: Config, scenario: str) -> None:
    """A database that the stack does not have cannot be broken."""
    if scenario == scenarios.DATABASE:
        database_server.refuse_without(config, "break the database")


@contextlib.contextmanager
def prepared(run: Opened, fault: Fault, log: Log) -> Iterator[str]:
    """Do what comes before the damage, which is done inside: it takes time, and the clock has not begun. Yields the
    proof, empty where nothing comes before."""
    refuse_elsewhere(run.config)
    if fault.prepare is None:
        yield ""
        return
    with fault.prepare(run, log) as proof:
        yield proof


def inject(run: Opened, fault: Fault, seed: str, *, log: Log) -> str:
    """Break it, and return what shows that it took. Raises LifeboatError where it did not."""
    refuse_elsewhere(run.config)
    if fault.inject is None:
        raise UsageError("break something", fault.name, "a module on the host cannot do that")
    log(f"breaking: {fault.description}")
    return fault.inject(run, random.Random(seed or None), log)  # noqa: S311 - noise, no secret
