# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to a site on GitHub Pages, as far as its owner's own token can do it. Each is done for real."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Optional

from ...base import filesystem
from ...base.errors import Log, UsageError
from ...frontend import assess as frontend_assess
from ...frontend import site as frontend_site
from ...settings import scenarios
from ...settings.config import Config
from ...stack.runtime import Opened
from ...tools.github import Run
from .service import did_not_take

_PAUSE = 1.0
_SUBJECT = "Break the build"
# Reserved for ever: https://www.rfc-editor.org/rfc/rfc2606#section-2
_NOWHERE = "lifeboat-drill.invalid"


def _token(config: Config) -> str:
    token = frontend_assess.token_of(config, "")
    if not config.frontend.url or not token:
        cause = "lifeboat_frontend.url or the secret github_token is not set"
        remedy = "Set both and deploy: the fault is pushed with that token."
        raise UsageError("break the frontend", config.stack, cause, remedy)
    return token


def break_build(run: Opened, _lot: random.Random, log: Log) -> str:
    """A commit that no npm can build, pushed to the branch; its workflow run must have failed."""
    config = run.config
    remote, file = frontend_assess.remote_of(config.frontend, _token(config)), _package(config)
    with filesystem.scratch("lifeboat-fault-") as scratch:
        clone = remote.clone(Path(scratch) / "clone")
        if not clone.git("ls-tree", "HEAD", "--", file):
            raise UsageError("break the build", file, "the repository has no such file", "Choose another fault.")
        commit = clone.with_file(file, "{ this is a drill\n", f"{_SUBJECT}\n\nA drill; it takes this back itself.")
        remote.push(clone, commit)
    log(f"pushed {commit[:12]}, which does not build")
    conclusion = _conclusion(config, commit, log)
    if conclusion in ("", "success"):
        raise did_not_take(f"workflow {config.frontend.workflow}", conclusion or "its run did not end")
    return f"{commit[:12]} was pushed, and its workflow run ended with {conclusion}"


def _conclusion(config: Config, commit: str, log: Log) -> str:
    """Return how the workflow run of that commit ended; empty where it did not end in time."""
    settings, client = config.frontend, frontend_assess.client_of(config.frontend, _token(config))
    seen: Optional[Run] = None

    def missing() -> Optional[str]:
        nonlocal seen
        listed = client.runs(settings.workflow, settings.branch, frontend_assess.RUNS)
        seen = next((run for run in listed if run.head_sha == commit), seen)
        if seen is None:
            return "it is not listed yet"
        return None if seen.status == "completed" else seen.status

    what = f"the workflow run of {commit[:12]} to end"
    ended = frontend_site.wait_until(missing, settings.timeout, pause=_PAUSE, log=log, waiting_for=what)
    return seen.conclusion or "" if seen and ended else ""


def mend_build(config: Config, log: Log) -> str:
    """Take the commit back that broke the build, by another one; returns which, or nothing where there was none."""
    remote, file = frontend_assess.remote_of(config.frontend, _token(config)), _package(config)
    with filesystem.scratch("lifeboat-fault-") as scratch:
        clone = remote.clone(Path(scratch) / "clone")
        newest = clone.history(file, 1)
        if not newest or clone.git("log", "-1", "--format=%s", newest[0]).strip() != _SUBJECT:
            return ""  # the recovery has reverted it, or somebody has
        before = clone.git("show", f"{newest[0]}^:{file}")
        commit = clone.with_file(file, before, f"Mend the build\n\nThe drill is over that broke it: {newest[0][:12]}.")
        remote.push(clone, commit)
    conclusion = _conclusion(config, commit, log)
    log(f"pushed {commit[:12]}, which takes {newest[0][:12]} back; its workflow run: {conclusion or 'not ended'}")
    return f"{commit[:12]} takes {newest[0][:12]} back"


def _package(config: Config) -> str:
    return f"{config.frontend.directory}/package.json".removeprefix("./")


def change_domain(run: Opened, _lot: random.Random, _log: Log) -> str:
    """Somebody's slip in the settings: the site is served under a name that nobody knows."""
    settings, token = run.config.frontend, _token(run.config)
    if not settings.domain:
        cause = "lifeboat_frontend.domain is not set"
        raise UsageError("change the domain", run.config.stack, cause, "Choose another fault.")
    client = frontend_assess.client_of(settings, token)
    client.set_domain(_NOWHERE)
    pages = client.pages()
    now = pages.cname if pages else None
    if now != _NOWHERE:
        raise did_not_take("the custom domain", f"GitHub says {now}")
    return f"the custom domain is {now} instead of {settings.domain}"


SCENARIO = scenarios.FRONTEND
FAULTS = (
    ("build_broken", "a commit is pushed that does not build", break_build),
    ("domain_changed", "the custom domain is set to another name", change_domain),
)
