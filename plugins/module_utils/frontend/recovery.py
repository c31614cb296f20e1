# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a static frontend back, the smallest step first. After each step the public site is asked; the first that heals
is the last. Nothing is forced onto the git remote, and what lay in the fallback's directory is kept."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Optional

from ..base import pipeline, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, UnverifiedError
from ..recovery.state import keep
from ..stack.runtime import Opened
from ..tools import github
from ..tools.git import Clone
from ..tools.github import REFUSED, GithubError
from . import assess, backup, build, plan
from . import site as frontend_site
from .assess import Run
from .build import Built
from .plan import Plan
from .site import CERTIFICATE_DAYS

APPEARS = 60.0  # seconds until a run that was asked for is listed
RUN_PAUSE, SITE_PAUSE = 2.0, 1.0
CANDIDATES = 3  # commits, newest first, that are built here to find one that builds


@dataclass(frozen=True)
class Tried:
    """One step: whether it was done or failed, and what was seen."""

    step: str
    result: str
    seconds: float
    detail: str


@dataclass(frozen=True)
class Recovered:
    """mode: the step that healed, empty where none did. commit: what the site serves. Modules return it as it is."""

    mode: str = ""
    commit: str = ""
    tried: tuple[Tried, ...] = ()
    checks: tuple[Check, ...] = ()
    quarantine: str = ""
    way_back: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


class StepError(Exception):
    """A step did not heal, and says why; the next one is tried."""


class Recovery:
    """One recovery on its way: what was built, which commits the site may serve now, what was tried."""

    def __init__(self, run: Opened, planned: Plan, token: str, folder: Path, *, log: Log) -> None:
        self.run, self.config, self.settings = run, run.config, run.config.frontend
        self.planned, self.log = planned, log
        self.client = assess.client_of(self.settings, token)
        self.remote = assess.remote_of(self.settings, token)
        self.folder, self.head = folder, planned.head
        self.accepted = {planned.expected, self.head} - {""}
        self.built: dict[str, Built] = {}
        self.tried: list[Tried] = []
        self.changed, self.quarantine, self.published = False, "", ""

    # --- the ladder ---------------------------------------------------------------------------------------------------

    def climb(self) -> None:
        for code in self.planned.steps:
            began = time.monotonic()
            self.log(f"{code}: begun")
            try:
                result, detail = "done", getattr(self, f"_{code}")()
            except (StepError, LifeboatError) as exc:
                result, detail = "failed", pipeline.scrub(exc.cause if isinstance(exc, LifeboatError) else str(exc))
            seconds = round(time.monotonic() - began, 1)
            self.log(f"{code}: {result} in {seconds} s: {detail}")
            self.tried.append(Tried(code, result, seconds, detail))
            if self._missing() is None:
                break
        self._keep_domain()

    def _missing(self) -> Optional[str]:
        """Return why the site does not serve what it may; None where it does."""
        site = assess.site_of(self.settings)
        if any(site.serves(commit) for commit in self.accepted):
            return None
        return site.problem or f"it serves {site.commit[:12]}"

    def _await_site(self) -> None:
        """A deployment is done: the site may take a while to show it, and its caches longer."""
        url, seconds = self.settings.url, self.settings.timeout
        wanted = " or ".join(sorted(commit[:12] for commit in self.accepted))
        if not self._until(self._missing, f"{url} to serve {wanted}", seconds, SITE_PAUSE):
            raise StepError(f"deployed, and {url} did not serve {wanted} in {seconds} s")

    def _until(self, missing: Callable[[], Optional[str]], what: str, seconds: float, pause: float) -> bool:
        return frontend_site.wait_until(missing, seconds, pause=pause, log=self.log, waiting_for=what)

    # --- workflow runs ------------------------------------------------------------------------------------------------

    def _wait(self) -> str:
        return self._await_run(self._run())

    def _run(self) -> Run:
        if self.planned.run is None:
            raise StepError("there is no run to repeat")
        return self.planned.run

    def _rerun(self) -> str:
        now = assess.run_of(self.client.run(self._run().id))
        self.changed = True
        self.client.rerun(now.id, failed_only=now.conclusion != "success")
        return self._await_run(replace(now, attempt=now.attempt + 1))

    def _start(self) -> str:
        return self._dispatch({}, self.head)

    def _await_run(self, run: Run) -> str:
        """Wait until that attempt has ended; where it succeeded, until the site shows it."""
        attempt, seconds = run.attempt, self.settings.timeout

        def missing() -> Optional[str]:
            nonlocal run
            run = assess.run_of(self.client.run(run.id))
            if run.attempt < attempt:
                return "it has not begun"
            return None if run.status == "completed" else run.status

        name = f"workflow run {run.id}"
        if not self._until(missing, f"{name} to end", seconds, RUN_PAUSE):
            raise StepError(f"{name} did not end in {seconds} s")
        if run.conclusion != "success":
            run = assess.with_failure(self.client, run)
            where = f" in {run.job}: {run.step}" if run.step else ""
            raise StepError(f"{name} ended with {run.conclusion}{where}: {build.headline(run.lines)}")
        self._await_site()
        return f"{name} succeeded"

    def _runs(self) -> list[github.Run]:
        return self.client.runs(self.settings.workflow, self.settings.branch, assess.RUNS)

    def _dispatch(self, inputs: Mapping[str, str], commit: str) -> str:
        known = {run.id for run in self._runs()}
        self.changed = True
        self.client.dispatch(self.settings.workflow, self.settings.branch, inputs)
        self.accepted = {commit}
        new = self._appear(lambda run: run.event == "workflow_dispatch" and run.id not in known)
        return f"{self._await_run(new)} for {commit[:12]}"

    def _appear(self, matches: Callable[[github.Run], bool]) -> Run:
        found: list[Run] = []

        def missing() -> Optional[str]:
            found.extend(replace(assess.run_of(run), attempt=1) for run in self._runs() if matches(run))
            return None if found else "it is not listed yet"

        if not self._until(missing, "the new workflow run", APPEARS, RUN_PAUSE):
            raise StepError(f"{self.settings.workflow} did not run in {APPEARS:.0f} s")
        return found[0]

    # --- build and redeploy -------------------------------------------------------------------------------------------

    @functools.cached_property
    def clone(self) -> Clone:
        """Made when it is first needed; from then on `head` is what it has."""
        clone = self.remote.clone(self.folder / "clone")
        self.head = clone.git("rev-parse", "HEAD").strip()
        return clone

    def _build(self) -> str:
        """Build the newest commit here, and where it fails the last good ones, until one builds."""
        clone, said = self.clone, list[str]()
        for commit in [self.head, *self._candidates()]:
            made = self.built[commit] = build.build(self.settings, clone, commit, self.folder, log=self.log)
            if made.directory:
                return "; ".join([*said, f"{commit[:12]} builds here"])
            said.append(f"{commit[:12]} does not build here: {build.headline(made.output)}")
        raise StepError("; ".join(said))

    def _candidates(self) -> tuple[str, ...]:
        """Commits that were good once, as far as anybody knows: of runs that succeeded, else the branch's history."""
        clone = self.clone
        known = [commit for commit in map(clone.full, self.planned.good) if commit and clone.has(commit)]
        found = [*known, *clone.history(self.settings.directory, 2 * CANDIDATES)]
        return assess.commits(commit for commit in found if commit != self.head)[:CANDIDATES]

    def _target(self) -> str:
        """Return the commit to bring back: what builds here; where nothing does, the last one that GitHub built."""
        good = [commit for commit, made in self.built.items() if made.directory]
        if not good:
            known = {self.clone.full(commit) for commit in self.planned.good}
            good = [commit for commit in self._candidates() if commit in known]
        if not good:
            raise StepError("no commit is known that builds")
        return good[0]

    def _redeploy(self) -> str:
        settings, target, revert = self.settings, self._target(), self.planned.method == "revert"
        if target == self.head and revert:
            raise StepError(f"{self.head[:12]} builds: there is nothing to revert")
        if target == self.head:
            self.accepted = {self.head}
            tried = any(step.step in (plan.RERUN, plan.START) for step in self.tried)
            return self._rerun() if self.planned.run and not tried else self._deploy_head()
        if settings.dispatch_input and not revert:
            return self._dispatch({settings.dispatch_input: target}, target)
        paths, workflow = [settings.directory], assess.workflow_path(settings)
        if settings.directory != "." and not self.clone.same(target, self.head, [workflow]):
            paths.append(workflow)
        return self._push(self.clone.revert(target, paths), f"which brings {', '.join(paths)} back to {target[:12]}")

    def _deploy_head(self) -> str:
        """Start the workflow. One that cannot be started runs for a push: GitHub repeats no run older than a month."""
        try:
            return self._dispatch({}, self.head)
        except GithubError as exc:
            if exc.reason != REFUSED:
                raise
            self.log(f"it cannot be started: {exc.cause}")
        return self._push(self.clone.again(), f"which changes nothing and deploys {self.head[:12]} again")

    def _push(self, commit: str, what: str) -> str:
        self.changed = True
        self.remote.push(self.clone, commit)
        self.log(f"pushed {commit[:12]}, {what}")
        self.head, self.accepted = commit, {commit}
        return f"{self._await_run(self._appear(lambda run: run.head_sha == commit))} for {commit[:12]}, {what}"

    # --- settings and fallback ----------------------------------------------------------------------------------------

    def _pages(self) -> str:
        if self.client.pages() is None:
            self.changed = True
            self.client.make_pages()
        return "GitHub Pages is on"

    def _domain(self) -> str:
        self.changed = True
        self.client.set_domain(self.settings.domain)
        steps = self.planned.steps
        last = plan.DOMAIN not in steps or steps[-1] == plan.DOMAIN
        if not last and steps[steps.index(plan.DOMAIN) + 1] in (plan.RERUN, plan.START):
            return f"the custom domain is {self.settings.domain} again; nothing is deployed yet"
        try:
            self._await_site()
        except StepError:
            if last:
                raise
        return f"the custom domain is {self.settings.domain} again"

    def _keep_domain(self) -> None:
        """A deployment may take the custom domain away: look once more, at the end."""
        if not self.settings.domain or self.planned.github:
            return
        try:
            pages = self.client.pages()
            if pages and pages.cname != self.settings.domain:
                self.tried.append(Tried(plan.DOMAIN, "done", 0.0, self._domain()))
        except (StepError, LifeboatError) as exc:
            self.log(f"the custom domain could not be seen to: {exc}")

    def _fallback(self) -> str:
        """Publish what was just built, else the last site of the config backups; nothing where it is served already."""
        fallback = self.settings.fallback
        good = [made for made in self.built.values() if made.directory]
        made = good[0] if good else backup.last_site(self.run, self.folder, log=self.log)
        target = self.published = made.commit
        if self._at_fallback(target):
            return f"{fallback.url} serves {target[:12]} already"
        self.changed = True
        self.quarantine = build.publish(self.config, Path(made.directory), self.planned.stamp, log=self.log)
        if not self._at_fallback(target):
            raise StepError(f"published, and {fallback.url} does not serve {target[:12]}")
        return f"{fallback.url} serves {target[:12]}"

    def _at_fallback(self, commit: str) -> bool:
        site = frontend_site.probe(self.settings.fallback.url, self.settings.marker, ca_bundle=self.settings.ca_bundle)
        return site.serves(commit)

    # --- the end ------------------------------------------------------------------------------------------------------

    def checks(self) -> tuple[str, list[Check]]:
        """(the commit that the site serves as it should, what was looked at at the end)."""
        settings, site = self.settings, assess.site_of(self.settings)
        served = next((commit for commit in self.accepted if site.serves(commit)), "")
        if served:
            found = [Check("site", PASS, f"{settings.url} serves {served[:12]}")]
        elif site.up and not self.accepted:
            found = [Check("site", COULD_NOT_VERIFY, f"{settings.url} answers; which commit is right is not known")]
        else:
            wanted = " or ".join(sorted(commit[:12] for commit in self.accepted)) or "any commit"
            what = site.problem or f"it serves {site.commit[:12]}"
            found = [Check("site", FAIL, f"{settings.url} does not serve {wanted}: {what}")]
        if self.published:
            url = settings.fallback.url
            good = f"{url} serves {self.published[:12]}: point the site's name there"
            found.append(_check("fallback", self._at_fallback(self.published), good, f"{url} does not serve"))
        if settings.domain:
            found.append(self._domain_check())
        if site.certificate_days is not None:
            words = f"good for {site.certificate_days} days"
            found.append(_check("certificate", site.certificate_days >= CERTIFICATE_DAYS, words, words))
        return served, found

    def _domain_check(self) -> Check:
        try:
            pages = None if self.planned.github else self.client.pages()
            set_to = pages.cname if pages else None
            why = self.planned.github
        except GithubError as exc:
            why = f"{exc.reason}: {exc.cause}"
        if why:
            return Check("custom domain", COULD_NOT_VERIFY, f"GitHub's API: {why}")
        wanted = self.settings.domain
        return _check("custom domain", set_to == wanted, wanted, f"{set_to}, should be {wanted}")


def _check(name: str, right: bool, good: str, bad: str) -> Check:
    return Check(name, PASS if right else FAIL, good if right else bad)


def recover(run: Opened, planned: Plan, token: str, *, log: Log) -> tuple[bool, Recovered]:
    """Carry a plan out. Returns whether it changed something, and what became of it. Raises UnverifiedError where a
    step was needed and none could be begun: nothing is known and nothing was changed."""
    with build.scratch() as folder:
        work = Recovery(run, planned, token, folder, log=log)
        work.climb()
        served, checks = work.checks()
    if not served and not work.changed and not work.published:
        said = "; ".join(f"{step.step}: {step.detail}" for step in work.tried)
        raise UnverifiedError("recover the frontend", run.config.frontend.url, said, "Mend that, then run it again.")
    if served:
        # Until another commit is pushed, the site rightly serves this.
        last = assess.Last(served, work.head, format_time(datetime.now(timezone.utc)))
        keep(run.config, assess.RECOVERED, json.dumps(typed.plain(last)))
    fallback, aside = run.config.frontend.fallback.directory, work.quarantine
    return work.changed, Recovered(
        mode=work.tried[-1].step if served and work.tried else "", commit=served, tried=tuple(work.tried),
        checks=tuple(checks), quarantine=aside, logs=planned.run.lines if planned.run else (),
        way_back=(f"mv {fallback} {fallback}.recovered", f"mv {aside} {fallback}") if aside else (),
        seconds={step.step: step.seconds for step in work.tried},
    )  # fmt: skip
