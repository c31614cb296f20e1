# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recovery as the order of its phases, run on the host itself: what the role does with the modules, without Ansible.

The role's task files are the other copy of that order and of the options; a unit test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional, Protocol

from ..base import pipeline
from ..base.errors import LifeboatError, Log
from ..evidence import schema
from ..settings.config import Config
from . import evidence
from .step import Failed, Options, Result, Step

_DETAILS = frozenset(schema.KEPT) - {"seconds_of", "recovery_point"}  # of what a phase returns, what the record keeps
_FOLLOW = ("hold", "identity", "host")  # from what else an operator gives
NEXT = "mend the cause, then run the same command again"


class Work(Protocol):
    """A file of this package: the options of a module, and what it does."""

    @property
    def OPTIONS(self) -> Options: ...

    def work(self, step: Step) -> Result: ...


@dataclass(frozen=True)
class Request:
    """What the operator asks for. options: by the names that the playbook has; identity: the age identity as text."""

    host: str
    options: Mapping[str, object]
    identity: str = ""
    confirmed: bool = False
    reason: str = ""
    operator: str = ""

    def text(self, name: str) -> str:
        return str(self.options.get(name) or "")


@dataclass
class State:
    """A recovery under way. results: by the phase's key. error: what stopped it, empty while nothing did."""

    request: Request
    results: dict[str, Mapping[str, object]] = field(default_factory=dict)
    error: str = ""
    failure: Optional[Failed] = None

    def stop(self, failure: Failed) -> None:
        """Remember what stopped it: the first failure, as the role tells it."""
        self.error, self.failure = self.error or str(failure), self.failure or failure

    def result(self, key: str) -> Mapping[str, object]:
        """Return what that phase left behind; nothing where it was not reached."""
        return self.results.get(key, {})

    def failed(self, key: str) -> bool:
        return bool(self.result(key).get("failed"))

    @property
    def plan(self) -> Mapping[str, object]:
        """Return the plan of the last phase that made one."""
        made = [mapping(result["plan"]) for result in self.results.values() if "plan" in result]
        return made[-1] if made else {}

    @property
    def blocked(self) -> str:
        """Return why the plan is not to be carried out; empty where it is."""
        cause = self.result("plan").get("blocked")
        return f"{cause}. Nothing was changed. Next: {self.plan.get('next')}" if cause else ""


def always(state: State) -> bool:
    return True


@dataclass(frozen=True)
class Phase:
    """One module of the role. key: of its result, as the role registers it. options: of the module."""

    key: str
    work: Work
    options: Callable[[State], Mapping[str, object]]
    when: Callable[[State], bool] = always


@dataclass(frozen=True)
class Recovery:
    """A recovery. phases: those that are run once it is confirmed; after_failure: what is run if one of them fails.

    options: of an operator, where they are others than the first phase's. ready: refuses what no recovery can begin
    with. steps: the phases of the record. state, remedy, way_back: what an operator must know when it stopped.
    """

    scenario: str
    role: str
    assess: Phase
    phases: Sequence[Phase]
    steps: Callable[[State], Sequence[tuple[str, Mapping[str, object]]]]
    state: Callable[[State], str]
    way_back: Callable[[State], Sequence[str]] = lambda state: ()
    remedy: Callable[[State], str] = lambda state: NEXT
    after_failure: Sequence[Phase] = ()
    options: Options = field(default_factory=dict)
    ready: Callable[[Config, State], None] = lambda config, state: None

    @property
    def taken(self) -> Options:
        """Return the options that an operator may give, by the playbook's names."""
        options = self.options or self.assess.work.OPTIONS
        return {name: option for name, option in options.items() if name not in _FOLLOW}


@dataclass(frozen=True)
class Runner:
    """Runs phases for one stack on this host."""

    config: Config
    log: Log

    def run(self, phase: Phase, state: State) -> bool:
        """Run one phase and keep its result. Return whether it went well; a phase that is not needed does."""
        if not phase.when(state):
            state.results[phase.key] = {"skipped": True, "changed": False}
            return True
        try:
            state.results[phase.key] = self.call(phase.work, phase.options(state))
        except Failed as exc:
            state.results[phase.key] = {"failed": True, "msg": str(exc), **exc.values}
            state.stop(exc)
        return not state.failed(phase.key)

    def call(self, work: Work, options: Mapping[str, object]) -> Mapping[str, object]:
        """Return what the module would return. Raises Failed with what it would fail with."""
        step = Step(self.config, complete(work.OPTIONS, options), check=False, say=self.log)
        try:
            result = work.work(step)
        except LifeboatError as exc:
            names = ("attempted", "subject", "cause", "remedy")
            parts = {name: pipeline.scrub(getattr(exc, name), self.config.secrets) for name in names}
            text = pipeline.scrub(str(exc), self.config.secrets)
            raise Failed(text, {**parts, **step.ended()}) from exc
        except Failed:
            raise
        except Exception as exc:  # it is recorded as every failure is, and the command raises it again
            text = f"{type(exc).__name__}, which Lifeboat does not foresee: {exc}"
            raise Failed(pipeline.scrub(text, self.config.secrets), step.ended()) from exc
        return {**step.ended(), **step.values(result)}

    def recover(self, recovery: Recovery, state: State) -> None:
        """Carry the plan out, as the role's block and its rescue do. state.error says whether that went well."""
        if state.blocked:
            state.stop(Failed(state.blocked, {}))
            self.record(recovery, state)
            return
        for phase in recovery.phases:
            if not self.run(phase, state):
                break
        else:
            self.record(recovery, state)
            return
        for phase in recovery.after_failure:
            self.run(phase, state)
        self.record(recovery, state)

    def record(self, recovery: Recovery, state: State) -> None:
        """Keep the evidence. One that cannot be written stops the recovery, and is not tried again."""
        steps = recovery.steps(state)
        options = {
            "scenario": recovery.scenario,
            "plan": state.plan,
            "phases": phases(steps),
            "checks": [check for _name, values in steps for check in sequence(values.get("checks"))],
            "reason": state.request.reason,
            "operator": state.request.operator,
            "error": state.error,
        }
        self.run(Phase("evidence", evidence, lambda _state: options), state)


def complete(options: Options, values: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a module with their defaults, as Ansible does. Raises KeyError for one that it lacks."""
    unknown = sorted(values.keys() - options.keys())
    if unknown:
        raise KeyError(f"the module has no option {', '.join(unknown)}")
    return {name: values[name] if name in values else option.get("default") for name, option in options.items()}


def phases(steps: Sequence[tuple[str, Mapping[str, object]]]) -> list[Mapping[str, object]]:
    """Return the phases for the record. One that was not reached or was skipped has no times, and is left out."""
    return [
        {
            **{key: value for key, value in values.items() if key in _DETAILS},
            **mapping(values["phase"]),
            "name": name,
            "log": values.get("log") or [],
            "seconds_of": values.get("seconds") or {},
        }
        for name, values in steps
        if "phase" in values
    ]


def mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


def texts(value: object) -> list[str]:
    return [str(item) for item in sequence(value)]
