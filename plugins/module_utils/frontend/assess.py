# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at what a frontend hangs on: the site, the git remote, GitHub Pages, the last workflow run. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..base import pipeline
from ..base.errors import LifeboatError, Log
from ..recovery import state as recovery_state
from ..settings.config import Config
from ..settings.parts import FrontendSettings
from ..tools import github
from ..tools.git import Remote
from ..tools.github import MISSING, TOKEN, Client, GithubError, Pages
from . import site as frontend_site
from .build import telling
from .site import Site

RECOVERED = "recovered_frontend.json"
RUNS = 50
_WELL = ("success", "skipped", "", None)
_STAMP = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT[\d:.]+Z ?")


@dataclass(frozen=True)
class Run:
    """One workflow run. job, step: those that failed first; lines: the end of what the failing step said."""

    id: int
    sha: str
    status: str
    conclusion: str = ""
    attempt: int = 1
    number: int = 0
    job: str = ""
    step: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Last:
    """The result of the last recovery: the commit that is served, and which was the newest then."""

    commit: str
    head: str
    at: str


@dataclass(frozen=True)
class Assessment:
    """The state of the frontend. head: the branch's newest commit, empty if the remote did not answer (`head_said`).
    same: the site's commit holds the same frontend as head. github: empty, or why it could not be asked
    (`github_said`). pages: None if the repository has none. run: the newest one of head, else the newest. good: commits
    of runs that succeeded, newest first.
    """

    site: Site
    head: str = ""
    head_said: str = ""
    same: bool = False
    github: str = ""
    github_said: str = ""
    pages: Optional[Pages] = None
    workflow_state: str = ""
    run: Optional[Run] = None
    good: tuple[str, ...] = ()
    last: Optional[Last] = None


def token_of(config: Config, token: str) -> str:
    return token or config.secrets.get("github_token", "")


def client_of(settings: FrontendSettings, token: str) -> Client:
    return Client(
        settings.api_url, settings.repository, token, ca_bundle=settings.ca_bundle,
        patience=settings.rate_limit_patience,
    )  # fmt: skip


def remote_of(settings: FrontendSettings, token: str) -> Remote:
    url = settings.remote_url or f"https://github.com/{settings.repository}.git"
    return Remote(url, settings.branch, token, ca_bundle=settings.ca_bundle)


def site_of(settings: FrontendSettings) -> Site:
    return frontend_site.probe(settings.url, settings.marker, ca_bundle=settings.ca_bundle)


def workflow_path(settings: FrontendSettings) -> str:
    return f".github/workflows/{settings.workflow}"


def recovered(config: Config) -> Optional[Last]:
    """Return the result of the last recovery; None if there was none."""
    return recovery_state.remembered(config, RECOVERED, Last)


def assess(config: Config, token: str, scratch: Path, *, log: Log) -> Assessment:
    settings = config.frontend
    log(f"looking at {settings.url}")
    assessment = Assessment(site_of(settings), last=recovered(config))
    remote = remote_of(settings, token)
    try:
        assessment = replace(assessment, head=remote.head())
        if assessment.site.commit and not assessment.site.serves(assessment.head):
            assessment = replace(
                assessment, same=_same(settings, remote, assessment.site.commit, assessment.head, scratch)
            )
    except LifeboatError as exc:
        assessment = replace(assessment, head_said=pipeline.scrub(exc.cause))
    log(f"asking {settings.api_url} about {settings.repository}")
    try:
        return _ask_github(assessment, settings, token)
    except GithubError as exc:
        return replace(
            assessment, github=exc.reason, github_said=f"could not {exc.attempted}: {pipeline.scrub(exc.cause)}"
        )


def _same(settings: FrontendSettings, remote: Remote, served: str, head: str, scratch: Path) -> bool:
    """Return whether both commits hold the same frontend: then the site may rightly serve the older one."""
    clone = remote.clone(scratch / "compare")
    whole = clone.full(served)
    made_of = [settings.directory, workflow_path(settings)]
    return bool(whole) and clone.has(whole) and clone.same(whole, head, made_of)


def _ask_github(assessment: Assessment, settings: FrontendSettings, token: str) -> Assessment:
    if not token:
        return replace(assessment, github=TOKEN, github_said="no github_token was given")
    client = client_of(settings, token)
    workflow = client.workflow(settings.workflow)
    if workflow is None:
        said = f"{settings.repository} has no workflow {settings.workflow}, or the token may not see it"
        return replace(assessment, github=MISSING, github_said=said)
    found = client.runs(settings.workflow, settings.branch, RUNS)
    newest = [run for run in found if run.head_sha == assessment.head] or found
    return replace(
        assessment,
        pages=client.pages(),
        workflow_state=workflow.state,
        run=with_failure(client, run_of(newest[0])) if newest else None,
        good=commits(run.head_sha for run in found if run.conclusion == "success" and run.event == "push"),
    )


def run_of(listed: github.Run) -> Run:
    """Return a run as GitHub lists it."""
    conclusion = listed.conclusion or ""
    return Run(listed.id, listed.head_sha, listed.status, conclusion, listed.run_attempt, listed.run_number)


def with_failure(client: Client, run: Run) -> Run:
    """Return a run with the job and step that failed, and what that said."""
    if run.conclusion in _WELL:
        return run
    job = next((job for job in client.jobs(run.id) if job.conclusion not in _WELL), None)
    if job is None:
        return run
    step = next((step.name for step in job.steps or () if step.conclusion not in _WELL), "")
    try:
        lines = failing_lines(client.job_log(job.id))
    except GithubError as exc:
        lines = [f"its log could not be read: {exc.cause}"]
    return replace(run, job=job.name, step=step, lines=tuple(lines))


def failing_lines(text: str) -> list[str]:
    """Return what the failing step of a job's log said of it: the lines between the step's beginning and its error."""
    kept: list[str] = []
    for raw in text.splitlines():
        line = _STAMP.sub("", raw)
        if line.startswith("##[group]"):
            kept.clear()
            continue
        kept.append(line)
        if line.startswith("##[error]"):
            break
    return telling("\n".join(kept)) or [line for line in kept if line][-1:]


def commits(candidates: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(commit for commit in candidates if commit))
