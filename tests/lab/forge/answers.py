"""What GitHub's REST API answers, made of the stand-in's own state.

tests/unit/test_forge.py holds it against GitHub's OpenAPI.
"""

from __future__ import annotations

import base64
from typing import Any

_REPOSITORY_URLS = [
    "archive",
    "assignees",
    "blobs",
    "branches",
    "collaborators",
    "comments",
    "commits",
    "compare",
    "contents",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "git_commits",
    "git_refs",
    "git_tags",
    "hooks",
    "issue_comment",
    "issue_events",
    "issues",
    "keys",
    "labels",
    "languages",
    "merges",
    "milestones",
    "notifications",
    "pulls",
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
]
_USER_URLS = [
    "events",
    "followers",
    "following",
    "gists",
    "organizations",
    "received_events",
    "repos",
    "starred",
    "subscriptions",
]


def node_id(kind: str, number: int) -> str:
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def user(api: str, login: str) -> dict[str, Any]:
    own = f"{api}/users/{login}"
    return {
        "login": login, "id": 1, "node_id": node_id("User", 1), "avatar_url": f"{own}/avatar",
        "gravatar_id": "", "url": own,
        "html_url": f"{own}/html", "type": "Organization", "site_admin": False,
        **{f"{name}_url": f"{own}/{name}" for name in _USER_URLS},
    }  # fmt: skip


def repository(api: str, owner: str, name: str) -> dict[str, Any]:
    own = f"{api}/repos/{owner}/{name}"
    return {
        "id": 1, "node_id": node_id("Repository", 1), "name": name, "full_name": f"{owner}/{name}", "private": True,
        "owner": user(api, owner), "html_url": f"{own}/html", "description": None, "fork": False, "url": own,
        **{f"{kind}_url": f"{own}/{kind}" for kind in _REPOSITORY_URLS},
    }  # fmt: skip


def workflow(base: str, definition: dict[str, Any]) -> dict[str, Any]:
    url = f"{base}/actions/workflows/{definition['id']}"
    return {
        **definition,
        "node_id": node_id("Workflow", definition["id"]),
        "url": url,
        "html_url": url,
        "badge_url": f"{url}/badge.svg",
    }


def run(api: str, owner: str, name: str, workflow_id: int, facts: dict[str, Any]) -> dict[str, Any]:
    base = f"{api}/repos/{owner}/{name}"
    url = f"{base}/actions/runs/{facts['id']}"
    whole = repository(api, owner, name)
    return {
        "id": facts["id"], "node_id": node_id("WorkflowRun", facts["id"]), "name": facts["name"],
        "head_branch": facts["ref"], "head_sha": facts["head_sha"], "path": facts["path"],
        "display_title": facts["title"], "run_number": facts["number"], "event": facts["event"],
        "status": facts["status"], "conclusion": facts["conclusion"], "workflow_id": workflow_id,
        "check_suite_id": facts["id"], "check_suite_node_id": node_id("CheckSuite", facts["id"]), "url": url,
        "html_url": url,
        "pull_requests": [], "created_at": facts["created_at"], "updated_at": facts["updated_at"],
        "run_started_at": facts["started_at"], "run_attempt": facts["attempt"], "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs", "check_suite_url": f"{base}/check-suites/{facts['id']}",
        "artifacts_url": f"{url}/artifacts", "cancel_url": f"{url}/cancel", "rerun_url": f"{url}/rerun",
        "previous_attempt_url": None, "workflow_url": f"{base}/actions/workflows/{workflow_id}",
        "head_commit": None, "repository": whole, "head_repository": whole,
    }  # fmt: skip


def job(api: str, owner: str, name: str, of: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    base = f"{api}/repos/{owner}/{name}"
    url = f"{base}/actions/jobs/{facts['id']}"
    return {
        "id": facts["id"], "run_id": of["id"], "workflow_name": of["name"], "head_branch": of["ref"],
        "run_url": f"{base}/actions/runs/{of['id']}", "run_attempt": of["attempt"],
        "node_id": node_id("Job", facts["id"]),
        "head_sha": of["head_sha"], "url": url, "html_url": url, "status": facts["status"],
        "conclusion": facts["conclusion"], "created_at": of["created_at"], "started_at": facts["started_at"],
        "completed_at": facts["completed_at"], "name": facts["name"], "steps": facts["steps"],
        "check_run_url": f"{base}/check-runs/{facts['id']}", "labels": ["ubuntu-latest"], "runner_id": 1,
        "runner_name": "stand-in", "runner_group_id": 1, "runner_group_name": "lab",
    }  # fmt: skip


def page(api: str, owner: str, name: str, site: dict[str, Any], default_url: str) -> dict[str, Any]:
    return {
        "url": f"{api}/repos/{owner}/{name}/pages", "status": site["status"], "cname": site["cname"],
        "custom_404": False, "html_url": f"http://{site['cname']}/" if site["cname"] else default_url,
        "build_type": site["build_type"], "source": {"branch": "main", "path": "/"}, "public": True,
        "protected_domain_state": None, "pending_domain_unverified_at": None, "https_enforced": False,
    }  # fmt: skip
