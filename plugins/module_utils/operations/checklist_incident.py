# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The list for when it burns: what there is to recover from, what is broken, which command, and what comes after."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Callable, Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ..base.clock import format_time
from ..base.errors import LifeboatError, present
from ..database import assess as database_assess
from ..dumps import plan as dumps_plan
from ..evidence import store
from ..files import plan as files_plan
from ..frontend import assess as frontend_assess
from ..frontend import plan as frontend_plan
from ..objects import condition as objects_condition
from ..objects import plan as objects_plan
from ..recovery import state as recovery_state
from ..recovery.state import HEALTHY
from ..repository import points, sources
from ..repository.catalog import Published
from ..repository.components import configured
from ..repository.sources import LIVE, Sources
from ..settings.config import Config
from ..settings.scenarios import BACKEND, FRONTEND, SCENARIOS, SITE, Scenario
from ..site import scope
from ..stack import answer, runtime
from ..stack.compose import ComposeRuntime
from ..stack.runtime import Opened
from .checklist_line import BY_HAND, Item

LATEST, RUNBOOK, RECOVER = "the latest backup that can be used", "the runbook", "the recovery"
VERIFY, AFTER = "the system was seen to work", "cause and prevention"
Assessed = tuple[str, str, str]  # condition, words, what was not checked
_RECENT = timedelta(days=7)


@dataclass(frozen=True)
class Part:
    """What can be recovered by itself. condition: as its own assessment says, empty where it failed."""

    scenario: Scenario
    condition: str = ""
    detail: str = ""
    unchecked: str = ""

    @property
    def name(self) -> str:
        return scope.APPLICATION if self.scenario.name == BACKEND else self.scenario.name.replace("_", " ")


def lines(run: Opened, now: datetime) -> Iterator[Item]:
    latest, point = _latest(run, now)
    yield latest
    parts = [_looked(run, item) for item in run.config.scenarios if item.component or item.name in _LOOKS]
    broken = [part for part in parts if part.condition not in (HEALTHY, "")]
    yield from _runbooks(parts, broken)
    for part in parts:
        yield _recovery(part, broken, point)
    yield from _endpoints(run.config)
    yield Item(VERIFY, "by a person", BY_HAND, "log in, read, write, upload and download as a customer does")
    yield from _after(run.config, now)


def _latest(run: Opened, now: datetime) -> tuple[Item, str]:
    """The recovery point to use; of a stack that has none, its first component's newest backup. Here, else in the
    vault."""
    name, said = "recovery point", []
    for place in LIVE:
        try:
            repo = sources.open_place(run, place)
            repo.check(writable=False)
            found = points.backups(repo, run.config.stack)
            tied = points.entries(repo, run.config.stack, found)
        except LifeboatError as exc:
            said.append(f"{place}: {exc.cause}")
            continue
        usable = [entry for entry in tied if entry.good and entry.point]
        if usable and usable[-1].point:
            latest = usable[-1]
            words = _described(latest, place, now, f"consistency {usable[-1].point.consistency}, ")
            passed = tied[tied.index(latest) + 1 :]
            words += "".join(f"; newer, and of no use: {other.id}: {other.problem}" for other in passed[:3])
            return Item(LATEST, name, PASS, words, "one whose every part is there and whole"), latest.id
        first = configured(run.config)[0].name
        alone = [entry for entry in found[first] if entry.good]
        if alone:
            words = _described(alone[-1], place, now)
            return Item(LATEST, f"backup of the {first}", PASS, words, "one that is whole"), ""
        said.append(f"{place}: none that can be used")
    result = FAIL if any("none that" in text for text in said) else COULD_NOT_VERIFY
    return Item(LATEST, name, result, "; ".join(said), "one whose every part is there and whole"), ""


def _described(usable: Published, source: str, now: datetime, more: str = "") -> str:
    taken_at = present(usable.taken_at)
    age = f"taken {format_time(taken_at)}, {(now - taken_at).total_seconds() / 3600:.1f} h ago"
    return f"{usable.id} in the {source}, {age}, {more}{'' if usable.proven_at else 'NOT '}proven by a restore"


def _looked(run: Opened, scenario: Scenario) -> Part:
    try:
        seen = _component(run, scenario.component) if scenario.component else _LOOKS[scenario.name](run)
        return Part(scenario, *seen)
    except LifeboatError as exc:
        return Part(scenario, "", str(exc))


def _sources(run: Opened, component: str) -> Optional[Sources]:
    """What should be there; a repository that is gone must not keep us from looking at what is."""
    try:
        return Sources(run, component)
    except LifeboatError:
        return None


def _component(run: Opened, name: str) -> Assessed:
    seen = scope.ASSESS[name](run, _sources(run, name), lambda _: None)
    if isinstance(seen, (files_plan.Plan, dumps_plan.Plan)):
        return seen.condition, "; ".join(seen.findings) or seen.target, "; ".join(seen.unchecked)
    if seen.refused:
        refusal = (
            objects_plan.refusal(run.config, seen.refused, seen.remedy)
            if isinstance(seen, objects_condition.Assessment)
            else database_assess.refusal(run.config, seen.refused)
        )
        return "", str(refusal), ""
    return seen.condition, "; ".join(seen.findings) or seen.service, "; ".join(seen.unchecked)


def _application(run: Opened) -> Assessed:
    """Whether the services that need the data run. Why they do not is for the recovery's own plan to find out."""
    stack = run.runtime
    names = list(run.config.application.writers) or _users(run)
    states = runtime.states_of(stack, names)
    ill = [f"{name} is {state.describe()}" for name, state in states.items() if not state.well]
    if ill:
        return recovery_state.DOWN, "; ".join(ill), ""
    unchecked = "" if states else "no service is named in lifeboat_application.writers"
    return HEALTHY, ", ".join(f"{name} {state.describe()}" for name, state in states.items()), unchecked


def _users(run: Opened) -> list[str]:
    """List the services that need the data: those that depend on the database; without one, all but the store's."""
    config, stack = run.config, run.runtime
    if config.database.enabled:
        return stack.dependants(config.database.service)
    services = stack.services() if isinstance(stack, ComposeRuntime) else config.application.services
    return [name for name in services if name not in config.stores]


def _frontend(run: Opened) -> Assessed:
    made = frontend_plan.make(run.config, frontend_assess.token_of(run.config, ""), log=lambda _: None)
    return made.condition, "; ".join(made.findings) or made.why, "; ".join(made.unchecked)


# Besides the components, which have an assessment of their own.
_LOOKS: Mapping[str, Callable[[Opened], Assessed]] = {BACKEND: _application, FRONTEND: _frontend}


def _runbooks(parts: Sequence[Part], broken: Sequence[Part]) -> Iterator[Item]:
    read = "read docs/{0}.md (docs/ja/{0}.md) before you type"
    data = [part for part in parts if part.scenario.component]
    here = [part for part in parts if part.scenario.name != FRONTEND]
    if all(part in broken for part in here):
        site = SCENARIOS[SITE]
        words = f"all of it is broken. Where the machine itself is lost: {read.format(site.runbook)}"
        yield Item(RUNBOOK, site.name, BY_HAND, f"{words}, then lifeboat.dr.{site.playbook}")
    for part in broken or data:
        yield Item(RUNBOOK, part.name, BY_HAND, read.format(part.scenario.runbook))


def _recovery(part: Part, broken: Sequence[Part], point: str) -> Item:
    limit = "healthy"
    if not part.condition:
        return Item(RECOVER, part.name, COULD_NOT_VERIFY, part.detail, limit)
    if part.condition != HEALTHY:
        # Two of them recovered to two instants would not fit one another.
        both = sum(bool(other.scenario.component) for other in broken) > 1
        same = f" -e recovery_point={point}" if point and both and part.scenario.component else ""
        command = f"ansible-playbook -i <inventory> lifeboat.dr.{part.scenario.playbook} -e target=<host>{same}"
        words = f"{part.condition}: {part.detail}; run: {command}, read its plan, then add -e confirm=<host>"
        return Item(RECOVER, part.name, FAIL, words, limit)
    if part.unchecked:
        return Item(RECOVER, part.name, COULD_NOT_VERIFY, f"{part.detail}; not checked: {part.unchecked}", limit)
    return Item(RECOVER, part.name, PASS, f"nothing to recover: {part.detail}", limit)


def _endpoints(config: Config) -> Iterator[Item]:
    if not config.application.checks:
        yield Item(VERIFY, "endpoints", COULD_NOT_VERIFY, "none is named in lifeboat_application.checks")
    for item in config.application.checks:
        check = answer.endpoint(item, time.monotonic())
        yield Item(VERIFY, check.name, check.result, check.detail, f"status {item.status}")


def _after(config: Config, now: datetime) -> Iterator[Item]:
    words = "no recovery in the last 7 days"
    try:
        records = (kept.record for kept in store.everything(config) if kept.record)
        recent = [item.id for item in records if item.kind == "recovery" and item.recorded_at >= now - _RECENT]
        words = f"the recoveries of the last 7 days: {', '.join(recent)}" if recent else words
    except LifeboatError as exc:
        words = f"the evidence cannot be read: {exc.cause}"
    yield Item(AFTER, "evidence", BY_HAND, f"keep it with the report of the incident; {words}")
    yield Item(
        AFTER, "cause", BY_HAND, "what broke, since when, how it was noticed; what is in quarantine is the witness"
    )
    yield Item(AFTER, "prevention", BY_HAND, "what is changed, by whom, until when; what the runbook lacked")
