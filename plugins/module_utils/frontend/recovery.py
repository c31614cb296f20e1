# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a static frontend back, the smallest step first. After each step the public site is asked; the first that heals
is the last. Nothing is forced onto the git remote, and what lay in the fallback's directory is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from ..base import pipeline
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, UnverifiedError
from ..recovery.state import keep
from ..settings.config import Config
from ..tools.git import Clone
from ..tools.github import REFUSED, GithubError
from . import assess, backup, build, plan
from . import site as frontend_site
from .build import Built
from .site import CERTIFICATE_DAYS

Log = Callable[[str], None]
APPEARS = 60.0  # seconds until a run that was asked for is listed
RUN_PAUSE, SITE_PAUSE = 2.0, 1.0
CANDIDATES = 3  # commits, newest first, that are built here to find one that builds


class StepError(Exception):
    """A step did not heal, and says why; the next one is tried."""


class Recovery:
    """One recovery on its way: what was built, which commits the site may serve now, what was tried."""

    def __init__(self, config: Config, planned: Mapping[str, Any], token: str, folder: Path, *, log: Log) -> None:
        self.config, self.settings, self.planned, self.log = config, config.frontend, planned, log
        self.client = assess.client_of(self.settings, token)
        self.remote = assess.remote_of(self.settings, token)
        self.folder = folder
        self.head = str(planned["head"])
        self.accepted = {str(planned["expected"]), self.head} - {""}
        self.built: dict[str, Built] = {}
        self.tried: list[dict[str, Any]] = []
        self.changed = False
        self.quarantine = ""
        self.published = ""
        self._clone: Optional[Clone] = None

    # --- the ladder ---------------------------------------------------------------------------------------------------

    def climb(self) -> None:
        for code in self.planned["steps"]:
            began = time.monotonic()
            self.log(f"{code}: begun")
            try:
                result, detail = "done", getattr(self, f"_{code}")()
            except (StepError, LifeboatError) as exc:
                result, detail = "failed", pipeline.scrub(exc.cause if isinstance(exc, LifeboatError) else str(exc))
            seconds = round(time.monotonic() - began, 1)
            self.log(f"{code}: {result} in {seconds} s: {detail}")
            self.tried.append({"step": code, "result": result, "seconds": seconds, "detail": detail})
            if self._serving():
                break
        self._keep_domain()

    def _serving(self) -> bool:
        site = assess.look(self.settings)
        return any(site.serves(name) for name in self.accepted)

    def _await_site(self) -> None:
        """A deployment is done: the site may take a while to show it, and its caches longer."""

        def missing() -> Optional[str]:
            site = assess.look(self.settings)
            if any(site.serves(name) for name in self.accepted):
                return None
            return site.problem or f"it serves {site.commit[:12]}"

        wanted = " or ".join(sorted(name[:12] for name in self.accepted))
        if not frontend_site.wait_until(
            missing,
            self.settings.timeout,
            pause=SITE_PAUSE,
            log=self.log,
            waiting_for=f"{self.settings.url} to serve {wanted}",
        ):
            raise StepError(f"deployed, and {self.settings.url} did not serve {wanted} in {self.settings.timeout} s")

    # --- workflow runs ------------------------------------------------------------------------------------------------

    def _wait(self) -> str:
        run = self.planned["run"]
        return self._await_run(int(run["id"]), int(run["attempt"]))

    def _rerun(self) -> str:
        run = self.planned["run"]
        if not run:
            raise StepError("there is no run to repeat")
        now = self.client.run(int(run["id"]))
        failed_only = now["conclusion"] != "success"
        self.changed = True
        self.client.rerun(int(run["id"]), failed_only=failed_only)
        return self._await_run(int(run["id"]), int(now.get("run_attempt") or 1) + 1)

    def _start(self) -> str:
        return self._dispatch({}, self.head)

    def _await_run(self, identity: int, attempt: int) -> str:
        """Wait until that attempt has ended; where it succeeded, until the site shows it."""
        seen: dict[str, Any] = {}

        def missing() -> Optional[str]:
            seen.update(self.client.run(identity))
            if int(seen.get("run_attempt") or 1) < attempt:
                return "it has not begun"
            return None if seen["status"] == "completed" else str(seen["status"])

        name = f"workflow run {identity}"
        if not frontend_site.wait_until(
            missing, self.settings.timeout, pause=RUN_PAUSE, log=self.log, waiting_for=f"{name} to end"
        ):
            raise StepError(f"{name} did not end in {self.settings.timeout} s")
        if seen["conclusion"] != "success":
            run = assess.run_of(self.client, seen)
            where = f" in {run.job}: {run.step}" if run.step else ""
            raise StepError(f"{name} ended with {run.conclusion}{where}: {build.headline(run.lines)}")
        self._await_site()
        return f"{name} succeeded"

    def _dispatch(self, inputs: Mapping[str, str], commit: str) -> str:
        settings = self.settings
        known = {item["id"] for item in self.client.runs(settings.workflow, settings.branch, assess.RUNS)}
        self.changed = True
        self.client.dispatch(settings.workflow, settings.branch, inputs)
        self.accepted = {commit}
        new = self._appear(lambda item: item["id"] not in known and item["event"] == "workflow_dispatch")
        return f"{self._await_run(new, 1)} for {commit[:12]}"

    def _appear(self, ours: Callable[[Mapping[str, Any]], bool]) -> int:
        found: list[int] = []

        def missing() -> Optional[str]:
            listed = self.client.runs(self.settings.workflow, self.settings.branch, assess.RUNS)
            found.extend(int(item["id"]) for item in listed if ours(item))
            return None if found else "it is not listed yet"

        if not frontend_site.wait_until(
            missing, APPEARS, pause=RUN_PAUSE, log=self.log, waiting_for="the new workflow run"
        ):
            raise StepError(f"{self.settings.workflow} did not run in {APPEARS:.0f} s")
        return found[0]

    # --- build and redeploy -------------------------------------------------------------------------------------------

    def clone(self) -> Clone:
        if self._clone is None:
            self._clone = self.remote.clone(self.folder / "clone")
            self.head = self._clone.git("rev-parse", "HEAD").strip()
        return self._clone

    def _build(self) -> str:
        """Build the newest commit here, and where it fails the last good ones, until one builds."""
        clone = self.clone()
        said: list[str] = []
        for commit in [self.head, *self._candidates(clone)]:
            made = self.built[commit] = build.build(self.settings, clone, commit, self.folder, log=self.log)
            if made.directory:
                return "; ".join([*said, f"{commit[:12]} builds here"])
            said.append(f"{commit[:12]} does not build here: {build.headline(made.said)}")
        raise StepError("; ".join(said))

    def _candidates(self, clone: Clone) -> list[str]:
        """Commits that were good once, as far as anybody knows: of runs that succeeded, else the branch's history."""
        known = [clone.full(item) for item in self.planned["good"]]
        found = [name for name in known if name and name != self.head and clone.has(name)]
        found += [name for name in clone.history(self.settings.directory, 2 * CANDIDATES) if name != self.head]
        return assess.commits(found)[:CANDIDATES]

    def _target(self) -> str:
        """The commit to bring back: what builds here; where nothing does, the last one that GitHub built."""
        good = [commit for commit, made in self.built.items() if made.directory]
        if good:
            return good[0]
        clone = self.clone()
        known = {clone.full(item) for item in self.planned["good"]}
        built = [candidate for candidate in self._candidates(clone) if candidate in known]
        if not built:
            raise StepError("no commit is known that builds")
        return built[0]

    def _redeploy(self) -> str:
        settings = self.settings
        target = self._target()
        if target == self.head and self.planned["method"] != "revert":
            self.accepted = {self.head}
            tried = any(item["step"] in (plan.RERUN, plan.START) for item in self.tried)
            if self.planned["run"] and not tried:
                return self._rerun()
            return self._deploy_head()
        if target == self.head:
            raise StepError(f"{self.head[:12]} builds: there is nothing to revert")
        if settings.dispatch_input and self.planned["method"] != "revert":
            return self._dispatch({settings.dispatch_input: target}, target)
        clone = self.clone()
        paths = [settings.directory]
        workflow = assess.workflow_path(settings)
        if settings.directory != "." and not clone.same(target, self.head, [workflow]):
            paths.append(workflow)
        return self._push(clone.revert(target, paths), f"which brings {', '.join(paths)} back to {target[:12]}")

    def _deploy_head(self) -> str:
        """Start the workflow. One that cannot be started runs for a push: GitHub repeats no run older than a month."""
        try:
            return self._dispatch({}, self.head)
        except GithubError as exc:
            if exc.reason != REFUSED:
                raise
            self.log(f"it cannot be started: {exc.cause}")
        return self._push(self.clone().again(), f"which changes nothing and deploys {self.head[:12]} again")

    def _push(self, commit: str, what: str) -> str:
        self.changed = True
        self.remote.push(self.clone(), commit)
        self.log(f"pushed {commit[:12]}, {what}")
        self.head, self.accepted = commit, {commit}
        new = self._appear(lambda item: item["head_sha"] == commit)
        return f"{self._await_run(new, 1)} for {commit[:12]}, {what}"

    # --- settings and fallback ----------------------------------------------------------------------------------------

    def _pages(self) -> str:
        if self.client.pages() is None:
            self.changed = True
            self.client.make_pages()
        return "GitHub Pages is on"

    def _domain(self) -> str:
        self.changed = True
        self.client.set_domain(self.settings.domain)
        steps = self.planned["steps"]
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
        if not self.settings.domain or self.planned["github"]:
            return
        try:
            pages = self.client.pages() or {}
            if pages and pages.get("cname") != self.settings.domain:
                detail = self._domain()
                self.tried.append({"step": plan.DOMAIN, "result": "done", "seconds": 0.0, "detail": detail})
        except (StepError, LifeboatError) as exc:
            self.log(f"the custom domain could not be seen to: {exc}")

    def _fallback(self) -> str:
        """Publish what was just built, else the last site of the config backups; nothing where it is served already."""
        fallback = self.settings.fallback
        good = [built for built in self.built.values() if built.directory]
        made = good[0] if good else backup.last_site(self.config, self.folder, log=self.log)
        target = made.commit
        self.published = target
        if self._at_fallback(target):
            return f"{fallback.url} serves {target[:12]} already"
        self.changed = True
        stamp = str(self.planned["stamp"])
        self.quarantine = build.publish(self.config, Path(made.directory), stamp, log=self.log)
        if not self._at_fallback(target):
            raise StepError(f"published, and {fallback.url} does not serve {target[:12]}")
        return f"{fallback.url} serves {target[:12]}"

    def _at_fallback(self, commit: str) -> bool:
        site = frontend_site.look(self.settings.fallback.url, self.settings.marker, ca_bundle=self.settings.ca_bundle)
        return site.serves(commit)

    # --- the end ------------------------------------------------------------------------------------------------------

    def checks(self) -> tuple[str, list[Check]]:
        """(the commit that the site serves as it should, what was looked at at the end)."""
        settings, site = self.settings, assess.look(self.settings)
        served = next((name for name in self.accepted if site.serves(name)), "")
        found = []
        if served:
            found.append(Check("site", PASS, f"{settings.url} serves {served[:12]}"))
        elif site.up and not self.accepted:
            found.append(Check("site", COULD_NOT_VERIFY, f"{settings.url} answers; which commit is right is not known"))
        else:
            wanted = " or ".join(sorted(name[:12] for name in self.accepted)) or "any commit"
            what = site.problem or f"it serves {site.commit[:12]}"
            found.append(Check("site", FAIL, f"{settings.url} does not serve {wanted}: {what}"))
        if self.published:
            ok = self._at_fallback(self.published)
            where = f"{settings.fallback.url} serves {self.published[:12]}: point the site's name there"
            found.append(
                Check("fallback", PASS if ok else FAIL, where if ok else f"{settings.fallback.url} does not serve")
            )
        if settings.domain:
            found.append(self._domain_check())
        if site.certificate_days is not None:
            good = site.certificate_days >= CERTIFICATE_DAYS
            found.append(Check("certificate", PASS if good else FAIL, f"good for {site.certificate_days} days"))
        return served, found

    def _domain_check(self) -> Check:
        if self.planned["github"]:
            return Check("custom domain", COULD_NOT_VERIFY, f"GitHub's API: {self.planned['github']}")
        try:
            set_to = (self.client.pages() or {}).get("cname")
        except GithubError as exc:
            return Check("custom domain", COULD_NOT_VERIFY, f"GitHub's API: {exc.reason}: {exc.cause}")
        wanted = self.settings.domain
        right = set_to == wanted
        return Check(
            "custom domain",
            PASS if right else FAIL,
            str(set_to) if right else f"{set_to}, should be {wanted}",
        )


def recover(config: Config, planned: Mapping[str, Any], token: str, *, log: Log) -> dict[str, Any]:
    """Carry a plan out. Returns {changed, mode, commit, tried, checks, quarantine, way_back, logs, seconds}.

    mode: the step that healed, empty where none did. Raises UnverifiedError where a step was needed and none could be
    begun, so that nothing is known and nothing was changed.
    """
    with build.scratch() as folder:
        one = Recovery(config, planned, token, folder, log=log)
        one.climb()
        served, checks = one.checks()
    if not served and not one.changed and not one.published:
        said = "; ".join(f"{step['step']}: {step['detail']}" for step in one.tried)
        raise UnverifiedError("recover the frontend", config.frontend.url, said, "Mend that, then run it again.")
    if served:
        remember(config, served, one.head)
    fallback = config.frontend.fallback.directory
    return {
        "changed": one.changed,
        "mode": one.tried[-1]["step"] if served and one.tried else "",
        "commit": served,
        "tried": one.tried,
        "checks": [check.as_dict() for check in checks],
        "quarantine": one.quarantine,
        "way_back": [f"mv {fallback} {fallback}.recovered", f"mv {one.quarantine} {fallback}"]
        if one.quarantine
        else [],
        "logs": list((planned["run"] or {}).get("lines") or ()),
        "seconds": {step["step"]: step["seconds"] for step in one.tried},
    }


def remember(config: Config, commit: str, head: str) -> None:
    """What the site was brought to, and which commit was the newest then: until another is pushed, so it is."""
    last = {"commit": commit, "head": head, "at": format_time(datetime.now(timezone.utc))}
    keep(config, assess.RECOVERED, json.dumps(last))
