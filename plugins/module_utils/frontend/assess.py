# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at what a frontend hangs on: the site, the git remote, GitHub Pages, the last workflow run. Reads only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ..base import pipeline
from ..base.errors import LifeboatError
from ..settings.config import Config
from ..settings.frontend import FrontendSettings
from ..tools.git import Remote
from ..tools.github import MISSING, TOKEN, Client, GithubError
from . import site as frontend_site
from .build import telling
from .site import Site

Log = Callable[[str], None]
RECOVERED = "recovered_frontend.json"
LINES = 12
RUNS = 50
_STAMP = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT[\d:.]+Z ?")


@dataclass(frozen=True)
class Run:
    """One workflow run. job, step: those that failed first; lines: the end of what the failing step said."""

    id: int
    sha: str
    status: str
    conclusion: str
    attempt: int = 1
    number: int = 0
    job: str = ""
    step: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """head: the branch's newest commit, empty where the remote did not answer (`head_said`). same: the site's commit
    holds the same frontend as head. github: empty, or why it could not be asked (`github_said`). pages: None where the
    repository has none. run: the newest one of head, else the newest. good: commits of runs that succeeded, newest
    first. last: what the last recovery left.
    """

    site: Site
    head: str = ""
    head_said: str = ""
    same: bool = False
    github: str = ""
    github_said: str = ""
    pages: Optional[Mapping[str, Any]] = None
    workflow_state: str = ""
    run: Optional[Run] = None
    good: tuple[str, ...] = ()
    last: Mapping[str, str] = field(default_factory=dict)


def token_of(config: Config, given: str) -> str:
    return given or config.secrets.get("github_token", "")


def client_of(settings: FrontendSettings, token: str) -> Client:
    return Client(
        settings.api_url, settings.repository, token, ca_bundle=settings.ca_bundle,
        patience=settings.rate_limit_patience,
    )  # fmt: skip


def remote_of(settings: FrontendSettings, token: str) -> Remote:
    url = settings.remote_url or f"https://github.com/{settings.repository}.git"
    return Remote(url, settings.branch, token, ca_bundle=settings.ca_bundle)


def look(settings: FrontendSettings) -> Site:
    return frontend_site.look(settings.url, settings.marker, ca_bundle=settings.ca_bundle)


def content(settings: FrontendSettings) -> list[str]:
    """What of the repository a deployment is made of."""
    return [settings.directory, workflow_path(settings)]


def workflow_path(settings: FrontendSettings) -> str:
    return f".github/workflows/{settings.workflow}"


def recovered(config: Config) -> dict[str, str]:
    """What the last recovery left: {commit, head, at}; empty when there was none."""
    try:
        last = json.loads((config.state / RECOVERED).read_text(encoding="utf-8"))
        return {key: str(last[key]) for key in ("commit", "head", "at")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def assess(config: Config, token: str, scratch: Path, *, log: Log) -> Seen:
    settings = config.frontend
    facts: dict[str, Any] = {"last": recovered(config)}
    log(f"looking at {settings.url}")
    site = look(settings)
    remote = remote_of(settings, token)
    try:
        facts["head"] = remote.head()
        if site.commit and not site.serves(facts["head"]):
            facts["same"] = _same(settings, remote, site.commit, facts["head"], scratch)
    except LifeboatError as exc:
        facts["head_said"] = pipeline.scrub(exc.cause)
    log(f"asking {settings.api_url} about {settings.repository}")
    try:
        facts.update(_ask_github(settings, token, str(facts.get("head", ""))))
    except GithubError as exc:
        facts.update(github=exc.reason, github_said=f"could not {exc.attempted}: {pipeline.scrub(exc.cause)}")
    return Seen(site=site, **facts)


def _same(settings: FrontendSettings, remote: Remote, served: str, head: str, scratch: Path) -> bool:
    """A commit that changes nothing of the frontend need not be deployed: the site may rightly tell an older one."""
    clone = remote.clone(scratch / "compare")
    whole = clone.full(served)
    return bool(whole) and clone.has(whole) and clone.same(whole, head, content(settings))


def _ask_github(settings: FrontendSettings, token: str, head: str) -> dict[str, Any]:
    if not token:
        return {"github": TOKEN, "github_said": "no github_token was given"}
    client = client_of(settings, token)
    workflow = client.workflow(settings.workflow)
    if workflow is None:
        return {
            "github": MISSING,
            "github_said": f"{settings.repository} has no workflow {settings.workflow}, or the token may not see it",
        }
    found = client.runs(settings.workflow, settings.branch, RUNS)
    of_head = [item for item in found if item["head_sha"] == head]
    newest = (of_head or found)[:1]
    done = [item["head_sha"] for item in found if item["conclusion"] == "success" and item["event"] == "push"]
    return {
        "pages": client.pages(),
        "workflow_state": str(workflow["state"]),
        "run": run_of(client, newest[0]) if newest else None,
        "good": tuple(dict.fromkeys(done)),
    }


def run_of(client: Client, run: Mapping[str, Any]) -> Run:
    """A run with the job and step that failed, and what that said."""
    made = Run(
        int(run["id"]), str(run["head_sha"]), str(run["status"]), str(run["conclusion"] or ""),
        int(run.get("run_attempt") or 1), int(run["run_number"]),
    )  # fmt: skip
    if made.conclusion in ("success", ""):
        return made
    failed = [job for job in client.jobs(made.id) if job["conclusion"] not in ("success", "skipped", None)]
    if not failed:
        return made
    job = failed[0]
    steps = [item["name"] for item in job.get("steps") or () if item["conclusion"] not in ("success", "skipped", None)]
    try:
        lines = failing_lines(client.job_log(int(job["id"])))
    except GithubError as exc:
        lines = [f"its log could not be read: {exc.cause}"]
    return Run(
        made.id, made.sha, made.status, made.conclusion, made.attempt, made.number, str(job["name"]),
        steps[0] if steps else "", tuple(lines),
    )  # fmt: skip


def failing_lines(text: str, count: int = LINES) -> list[str]:
    """What the failing step of a job's log said of it: the lines between the step's beginning and its error."""
    kept: list[str] = []
    for raw in text.splitlines():
        line = _STAMP.sub("", raw)
        if line.startswith("##[group]"):
            kept.clear()
            continue
        kept.append(line)
        if line.startswith("##[error]"):
            break
    return telling("\n".join(kept), count) or [line for line in kept if line][-1:]


def commits(candidates: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(candidate for candidate in candidates if candidate))
