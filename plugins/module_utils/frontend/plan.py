# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say why a frontend is not served as it should be, and what is tried, smallest first. Decided once, printed first."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..base import clock
from ..base.errors import Log, UnverifiedError, UsageError
from ..recovery import state as recovery_state
from ..settings.config import Config
from ..settings.parts import FrontendSettings
from ..settings.scenarios import FRONTEND
from . import assess
from .assess import Assessment, Run
from .build import headline, scratch

HEALTHY, DOWN, STALE, MISCONFIGURED, UNVERIFIED = "healthy", "down", "stale", "misconfigured", "unverified"
# Why: what the seed's operator would say after reading the log.
NONE, DEPLOYING, TRANSIENT, BROKEN, CONFIGURATION, CANNOT_ASK = (
    "none", "deploying", "transient", "build broken", "configuration", "GitHub cannot be asked",
)  # fmt: skip
WAIT, RERUN, START, BUILD, REDEPLOY, PAGES, DOMAIN, FALLBACK = (
    "wait", "rerun", "start", "build", "redeploy", "pages", "domain", "fallback",
)  # fmt: skip
METHODS = ("auto", "rerun", "redeploy", "revert", "fallback")

# What a build says when not the code was at fault, but the network, the registry or the runner.
_TRANSIENT = re.compile(
    r"ECONNRESET|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENOTFOUND|EPIPE|socket hang up|network timeout|[Nn]etwork error"
    r"|Could not resolve host|Connection (reset|refused|timed out)|unexpected disconnect|TLS handshake|early EOF"
    r"|\b50[0234]\b.*(Bad Gateway|Unavailable|Gateway|Internal Server)|lost communication|shutdown signal"
    r"|No space left on device|operation was cancell?ed|[Rr]ate limit|Timeout reached"
    r"|Deployment request failed.*(5\d\d|due to)"
)
_CONFIGURATION = re.compile(
    r"Pages has been enabled|Pages site failed|not accessible by integration|environment protection rules"
    r"|Permission .* denied|Input required and not supplied"
)
_OUR_STEPS = re.compile(r"(?i)\b(npm|npx|yarn|pnpm|vite|build|install|test|lint|tsc)\b")


@dataclass(frozen=True)
class Diagnosis:
    condition: str
    cause: str
    why: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Plan(Diagnosis):
    """What is wrong and what will be tried. Roles see it as JSON, with these names. target: the site's address.

    good: commits to bring back, the likeliest first. github: empty, or why it cannot be asked. turn: the number of the
    host's changes when it was made.
    """

    needed: bool
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]
    warnings: tuple[str, ...]
    method: str
    target: str
    expected: str
    head: str
    good: tuple[str, ...]
    run: Optional[Run]
    github: str
    stamp: str
    target_seconds: int
    passed_over: tuple[str, ...] = ()
    turn: int = 0


def expected(assessment: Assessment) -> str:
    """Return the commit that the site should serve: the newest one or, if that does not build, the one that a recovery
    brought back instead. Empty if that is not known."""
    if assessment.last and assessment.head in ("", assessment.last.head):
        return assessment.last.commit
    return assessment.head or (assessment.good[0] if assessment.good else "")


def classify(assessment: Assessment, settings: FrontendSettings) -> Diagnosis:
    """Return what is wrong and which steps may help. Pure: same assessment, same answer."""
    commit = expected(assessment)
    right = (
        assessment.site.serves(commit)
        or assessment.site.serves(assessment.head)
        or (assessment.site.up and assessment.same)
    )
    domain = assessment.pages.cname if assessment.pages else None
    strange = not assessment.github and settings.domain and domain != settings.domain
    if right and not strange:
        return Diagnosis(HEALTHY, NONE, f"the site serves {assessment.site.commit[:12]}, as it should", ())
    if assessment.site.up and not right and not (commit and assessment.site.commit):
        missing = (
            assessment.site.problem
            if not assessment.site.commit
            else f"{assessment.head_said}, so the newest commit is not known"
        )
        why = f"the site answers, and which commit it should serve or serves is not known: {missing}"
        return Diagnosis(UNVERIFIED, NONE, why, ())
    condition = MISCONFIGURED if right else STALE if assessment.site.up else DOWN
    cause, why, first = _cause(assessment, settings)
    if cause == CANNOT_ASK:
        return Diagnosis(condition, cause, why, (*first, BUILD, FALLBACK))
    return Diagnosis(condition, cause, why, first if right else (*first, BUILD, REDEPLOY, FALLBACK))


def _cause(assessment: Assessment, settings: FrontendSettings) -> tuple[str, str, tuple[str, ...]]:
    """Return (cause, why, the steps that come before a build)."""
    if assessment.github:
        return CANNOT_ASK, f"GitHub's API: {assessment.github} ({assessment.github_said})", ()
    run = assessment.run
    if assessment.pages is None:
        # It has lost its domain, too, and the site.
        steps = (PAGES, *((DOMAIN,) if settings.domain else ()), RERUN if run else START)
        return CONFIGURATION, f"GitHub Pages is switched off for {settings.repository}", steps
    if settings.domain and assessment.pages.cname != settings.domain:
        set_to = assessment.pages.cname or "none"
        return CONFIGURATION, f"the custom domain is {set_to} and should be {settings.domain}", (DOMAIN,)
    if assessment.workflow_state not in ("", "active"):
        return CONFIGURATION, f"the workflow {settings.workflow} is {assessment.workflow_state}: switch it on again", ()
    if run is None or (assessment.head and run.sha != assessment.head):
        return CONFIGURATION, f"the workflow {settings.workflow} did not run for {assessment.head[:12]}", (START,)
    return _cause_in_the_run(run)


def _cause_in_the_run(run: Run) -> tuple[str, str, tuple[str, ...]]:
    name = f"run {run.number} of {run.sha[:12]}"
    if run.status != "completed":
        return DEPLOYING, f"{name} is {run.status}", (WAIT, RERUN)
    if run.conclusion == "success":
        return TRANSIENT, f"{name} deployed it, and the site does not serve it any more", (RERUN,)
    said = "\n".join(run.lines)
    where = f"{name} ended with {run.conclusion}" + (f" in {run.job}: {run.step}" if run.step else "")
    if run.conclusion in ("cancelled", "timed_out", "stale"):
        return TRANSIENT, where, (RERUN,)
    if not run.job:
        return BROKEN, f"{where}: no job was started, the workflow file is not valid", ()
    if _CONFIGURATION.search(said):
        return CONFIGURATION, f"{where}: {headline(run.lines)}", (RERUN,)
    if _TRANSIENT.search(said) or not _OUR_STEPS.search(run.step):
        return TRANSIENT, f"{where}: {headline(run.lines)}", (RERUN,)
    return BROKEN, f"{where}: {headline(run.lines)}", ()


def findings(assessment: Assessment, settings: FrontendSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (findings, what could not be checked), as text."""
    site, run, pages = assessment.site, assessment.run, assessment.pages
    same = " (the same frontend as head)" if assessment.same else ""
    found = (
        site.problem,
        f"{settings.url} serves {site.commit[:12]}{same}" if site.commit else "",
        "" if site.certificate_days is None else f"its certificate is good for {site.certificate_days} days",
        f"{settings.branch} is at {assessment.head[:12]}" if assessment.head else "",
        f"workflow run {run.number} of {run.sha[:12]}: {run.conclusion or run.status}" if run else "",
        f"GitHub Pages: {pages.status or 'no build yet'}, domain {pages.cname or 'none'}" if pages else "",
    )
    unchecked = (
        f"GitHub's API: {assessment.github}: {assessment.github_said}" if assessment.github else "",
        f"the git remote: {assessment.head_said}" if assessment.head_said else "",
    )
    return tuple(filter(None, found)), tuple(filter(None, unchecked))


def make(config: Config, token: str, *, force: bool = False, method: str = "auto", log: Log) -> Plan:
    """Plan the recovery of the frontend. It only reads. Raise UnverifiedError if nothing can be known or done."""
    with recovery_state.planning(config) as number:  # before anything is looked at
        made = _make(config, token, force, method, log)
    return replace(made, turn=number)


def _make(config: Config, token: str, force: bool, method: str, log: Log) -> Plan:
    settings = config.frontend
    if not settings.url:
        raise UsageError("plan the recovery", config.stack, "the stack has no frontend", "Set lifeboat_frontend.url.")
    with scratch() as folder:
        assessment = assess.assess(config, token, Path(folder), log=log)
    diagnosis = _as_requested(classify(assessment, settings), force, method)
    if not (settings.fallback.directory or settings.fallback.bucket):
        diagnosis = replace(diagnosis, steps=tuple(step for step in diagnosis.steps if step != FALLBACK))
        if diagnosis.steps == (BUILD,):
            cause = f"it is {diagnosis.condition}, {diagnosis.why}, and there is no fallback to publish it to"
            remedy = "Mend that, or set lifeboat_frontend.fallback, then run it again."
            raise UnverifiedError("recover the frontend", settings.url, cause, remedy)
    found, unchecked = findings(assessment, settings)
    last = assessment.last
    set_back = last is not None and last.head == assessment.head != last.commit
    return Plan(
        **vars(diagnosis), needed=bool(diagnosis.steps), findings=found, unchecked=unchecked, method=method,
        warnings=tuple(_warnings(config, token, diagnosis, set_back)), target=settings.url,
        expected=expected(assessment), head=assessment.head,
        good=assess.commits([*assessment.good, last.commit if last else "", assessment.site.commit]),
        run=assessment.run, github=assessment.github, stamp=clock.stamp(),
        target_seconds=config.target(FRONTEND),
    )  # fmt: skip


def _as_requested(diagnosis: Diagnosis, force: bool, method: str) -> Diagnosis:
    """Return the diagnosis with the steps that the operator requested in addition to those that are needed."""
    if not diagnosis.steps and not force:
        return diagnosis
    only = {
        "rerun": (RERUN,), "redeploy": (BUILD, REDEPLOY), "revert": (BUILD, REDEPLOY), "fallback": (BUILD, FALLBACK),
    }  # fmt: skip
    steps = only.get(method) or diagnosis.steps or (RERUN, BUILD, REDEPLOY, FALLBACK)
    return replace(
        diagnosis, why=diagnosis.why if diagnosis.steps else f"{diagnosis.why}; force was given", steps=steps
    )


def _warnings(config: Config, token: str, diagnosis: Diagnosis, set_back: bool) -> list[str]:
    settings = config.frontend
    lines = []
    if set_back and diagnosis.condition == HEALTHY:
        lines.append(f"the newest commit of {settings.branch} still does not build: mend it, commit and push")
    clear = [url for url in (settings.api_url, settings.remote_url) if url.startswith("http://")]
    if token and clear:
        lines.append(f"the token goes to {clear[0]} in the clear: use https")
    return lines


# --- as text ---------------------------------------------------------------------------------------------------------


def _step(code: str, plan: Plan, settings: FrontendSettings) -> str:
    head = plan.head[:12] or "the newest commit"
    number = plan.run.number if plan.run else None
    build = ", ".join(" ".join(words) for words in settings.build)
    dispatch = bool(settings.dispatch_input) and plan.method != "revert"
    how = (
        f"start {settings.workflow} for it ({settings.dispatch_input}=…)"
        if dispatch
        else f"commit on top of {settings.branch} what brings {settings.directory} back to it, and push (never forced)"
    )
    where = settings.fallback.directory or f"the bucket {settings.fallback.bucket}"
    return {
        WAIT: f"wait: until run {number} has ended",
        RERUN: f"rerun: run the failed jobs of run {number} again (all of them where none failed), and wait",
        START: f"start: start {settings.workflow} on {settings.branch}, and wait",
        BUILD: f"build: in a clean clone, cd {settings.directory}, {build}: at {head}, and where that fails at the last"
        " good commit",
        REDEPLOY: f"redeploy: where {head} builds here, run it again on GitHub; else the last good commit: {how};"
        " GitHub Actions deploys it",
        PAGES: "pages: switch GitHub Pages on again",
        DOMAIN: f"domain: set the custom domain to {settings.domain}",
        FALLBACK: f"fallback: publish the site that was just built, else the last one that a config backup holds,"
        f" in {where}, served at {settings.fallback.url}",
    }[code]


def text(plan: Plan, settings: FrontendSettings) -> list[str]:
    """Return the plan for a terminal, as an operator reads it before typing the confirmation."""
    cause = "" if plan.condition in (HEALTHY, UNVERIFIED) else f": {plan.cause}"
    lines = [f"the site {plan.target} is {plan.condition}{cause}"]
    lines += [f"  found: {line}" for line in plan.findings]
    lines += [f"  not checked: {line}" for line in plan.unchecked]
    lines += [f"  WARNING: {line}" for line in plan.warnings]
    if plan.run and plan.run.lines:
        lines.append(f"the build log of run {plan.run.number}, {plan.run.job}: {plan.run.step}")
        lines += [f"  | {line}" for line in plan.run.lines]
    lines.append(f"{'to do' if plan.needed else 'nothing to do'}: {plan.why}")
    if not plan.needed:
        return lines
    steps = [
        *(_step(code, plan, settings) for code in plan.steps),
        f"verify: after each step, wait until {settings.url} serves the commit; the first step that heals is the last",
        "record: evidence with the time of each phase",
    ]
    return lines + [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
