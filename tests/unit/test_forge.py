# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in and our client, each held against GitHub's OpenAPI while they speak to one another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import github_schema
import jsonschema
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import assess as frontend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import github
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.github import GithubError
from forge_lab import Lab, git


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def test_a_push_runs_the_workflow_and_deploys(lab: Lab) -> None:
    lab.pushed()
    run = lab.settled()
    listed = lab.said["workflow_runs"][0]
    assert (run.conclusion, run.event, listed["head_branch"]) == ("success", "push", "main")
    assert lab.served() == run.head_sha
    workflow = lab.client.workflow("pages.yml")
    assert workflow is not None and workflow.state == "active"
    assert lab.client.workflow("other.yml") is None
    jobs = lab.client.jobs(run.id)
    assert [job.conclusion for job in jobs] == ["success", "success"]
    assert "##[group]Build" in lab.client.job_log(jobs[0].id)


def test_a_failure_is_real_and_a_rerun_of_the_failed_jobs_heals_a_transient_one(lab: Lab) -> None:
    lab.api.lab("control", b'{"env_once": {"BROKEN": "connect ECONNREFUSED"}}')
    lab.pushed()
    run = lab.settled()
    assert run.conclusion == "failure"
    seen = frontend_assess.with_failure(lab.client, frontend_assess.run_of(run))
    assert (seen.job, seen.step) == ("build", "Build")
    assert "error: connect ECONNREFUSED" in seen.lines
    lab.client.rerun(run.id, failed_only=True)
    again = lab.settled()
    assert (again.id, again.run_attempt, again.conclusion) == (run.id, 2, "success")
    with pytest.raises(GithubError, match="cannot be retried"):
        lab.client.rerun(run.id, failed_only=True)
    lab.client.rerun(run.id, failed_only=False)
    assert lab.settled().run_attempt == 3
    assert lab.client.run(run.id).run_attempt == 3


def test_a_dispatch_deploys_the_commit_it_names(lab: Lab) -> None:
    first = git(lab.work, "rev-parse", "HEAD").strip()
    lab.push("second")
    lab.client.dispatch("pages.yml", "main", {"ref": first})
    assert lab.settled().event == "workflow_dispatch"
    assert lab.served() == first
    with pytest.raises(GithubError, match="Unexpected inputs"):
        lab.client.dispatch("pages.yml", "main", {"no": "such"})
    with pytest.raises(GithubError, match="No ref found"):
        lab.client.dispatch("pages.yml", "none", {})


def test_pages_and_its_domain(lab: Lab) -> None:
    lab.client.set_domain("www.shop.test")
    pages = lab.client.pages()
    assert pages is not None and pages.cname == "www.shop.test"
    assert sorted(path.name for path in (lab.root / "pages/hosts").iterdir()) == ["localhost", "www.shop.test"]
    lab.api.lab("pages", b"null")
    assert lab.client.pages() is None
    lab.pushed()
    run = lab.settled()
    assert frontend_assess.with_failure(lab.client, frontend_assess.run_of(run)).step == "Deploy"
    lab.client.make_pages()
    made = lab.client.pages()
    assert made is not None and (made.cname, lab.said["build_type"]) == (None, "workflow")
    with pytest.raises(GithubError, match="already enabled"):
        lab.client.make_pages()


def test_tokens_and_limits(lab: Lab) -> None:
    with pytest.raises(GithubError, match="Bad credentials") as error:
        lab.judged("another").pages()
    assert error.value.reason == github.TOKEN
    lab.api.lab("control", b'{"retry_after": 1}')
    assert lab.client.pages() is not None, "waited for and asked again"
    lab.api.lab("control", b'{"remaining": 0, "reset": 9999999999}')
    with pytest.raises(GithubError, match="rate limit exceeded") as error:
        lab.client.pages()
    assert error.value.reason == github.LIMIT


def test_the_judge_sees_what_is_not_githubs(lab: Lab) -> None:
    """Each thing that is judged has been seen to fail."""
    lab.client.pages()
    pages = lab.said
    github_schema.judge_answer("GET", "/repos/a/b/pages", 200, pages)
    for bad in ({**pages, "status": "gone"}, {}, {**pages, "public": "yes"}):
        with pytest.raises(jsonschema.ValidationError):
            github_schema.judge_answer("GET", "/repos/a/b/pages", 200, bad)
    with pytest.raises(AssertionError, match="has no DELETE"):
        github_schema.judge_request("DELETE", "/repos/a/b/pages", None)
    with pytest.raises(AssertionError, match="knows no"):
        github_schema.judge_request("GET", "/repos/a/b/actions/runs/1/jobs?newest=1", None)
    with pytest.raises(jsonschema.ValidationError):
        github_schema.judge_request("POST", "/repos/a/b/actions/workflows/x/dispatches", {"inputs": {}})
    assert urlsplit(lab.api.url).port
