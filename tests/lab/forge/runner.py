"""Run a GitHub workflow's steps for real: checkout, the commands, the artefact, the deployment to the static host.

It knows what the lab's workflow uses, and fails a step that it does not know instead of passing over it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

STEP_SECONDS = 300
_EXPRESSION = re.compile(r"\$\{\{\s*([\w.]+)\s*\}\}")


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: str) -> dict[str, Any]:
    """A workflow file. YAML 1.1 reads its key `on` as true."""
    found = yaml.safe_load(text)
    if not isinstance(found, dict) or not isinstance(found.get("jobs"), dict):
        raise ValueError("Invalid workflow file: no jobs are defined")
    found["on"] = found.pop(True, found.get("on", {}))
    return found


class StepError(Exception):
    """A step failed, in the words that go to its log."""


class Job:
    """One job of one run: a workspace of its own, a log as GitHub writes them."""

    def __init__(
        self, run: dict[str, Any], facts: dict[str, Any], definition: dict[str, Any], *, workspace: Path,
        artefacts: Path, repository: Path, log: Path, env: dict[str, str], deploy: Callable[[Path], None],
    ) -> None:  # fmt: skip
        self.run, self.facts, self.definition = run, facts, definition
        self.workspace, self.artefacts, self.repository, self.log = workspace, artefacts, repository, log
        self.env, self.deploy = env, deploy

    def say(self, text: str) -> None:
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        with self.log.open("a", encoding="utf-8") as file:
            file.writelines(f"{stamp} {line}\n" for line in text.splitlines())

    def value(self, text: str) -> str:
        known = {f"inputs.{key}": str(value) for key, value in self.run["inputs"].items()}
        return _EXPRESSION.sub(lambda found: known.get(found[1], ""), text)

    def work(self) -> str:
        """Run the steps; returns the conclusion. What comes after a failed step is skipped."""
        shutil.rmtree(self.workspace, ignore_errors=True)
        self.workspace.mkdir(parents=True)
        conclusion = "success"
        for number, step in enumerate(self.definition["steps"], 1):
            name = step.get("name") or f"Run {step.get('uses') or step['run'].splitlines()[0]}"
            facts = {"name": name, "number": number, "status": "in_progress", "conclusion": None,
                     "started_at": now(), "completed_at": None}  # fmt: skip
            self.facts["steps"].append(facts)
            if conclusion == "success":
                self.say(f"##[group]{name}")
                try:
                    self._step(step)
                    facts["conclusion"] = "success"
                except StepError as exc:
                    self.say(f"##[error]{exc}")
                    facts["conclusion"] = conclusion = "failure"
                self.say("##[endgroup]")
            else:
                facts["conclusion"] = "skipped"
            facts.update(status="completed", completed_at=now())
        shutil.rmtree(self.workspace, ignore_errors=True)
        return conclusion

    def _step(self, step: dict[str, Any]) -> None:
        given = {key: self.value(str(value)) for key, value in (step.get("with") or {}).items()}
        action = str(step.get("uses", "")).partition("@")[0]
        if "run" in step:
            inside = (self.definition.get("defaults") or {}).get("run", {}).get("working-directory", ".")
            self._shell(self.value(step["run"]), self.workspace / step.get("working-directory", inside))
        elif action == "actions/checkout":
            self._run(["git", "clone", "--quiet", "--no-checkout", str(self.repository), "."], self.workspace)
            self._run(
                ["git", "checkout", "--quiet", "--detach", given.get("ref") or self.run["head_sha"]], self.workspace
            )
        elif action in ("actions/setup-node", "actions/configure-pages"):
            self._run(["node", "--version"], self.workspace)
        elif action == "actions/upload-pages-artifact":
            source = self.workspace / given["path"]
            if not source.is_dir():
                raise StepError(f"File not found: '{given['path']}'")
            shutil.rmtree(self.artefacts, ignore_errors=True)
            shutil.copytree(source, self.artefacts)
        elif action == "actions/deploy-pages":
            self.deploy(self.artefacts)
        else:
            raise StepError(f"Unable to resolve action {step.get('uses')}: the stand-in does not know it")

    def _shell(self, script: str, where: Path) -> None:
        """As GitHub runs them: https://docs.github.com/actions/reference/workflow-syntax#jobsjob_idstepsshell"""
        self._run(["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script], where)

    def _run(self, argv: list[str], where: Path) -> None:
        if not where.is_dir():
            raise StepError(f"An error occurred trying to start process: no such directory {where}")
        env = {**os.environ, "CI": "true", "GITHUB_SHA": self.run["head_sha"], "GITHUB_ACTIONS": "true", **self.env}
        try:
            done = subprocess.run(
                argv, cwd=where, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=STEP_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise StepError(str(exc)) from exc
        self.say(done.stdout.decode("utf-8", "replace"))
        if done.returncode:
            raise StepError(f"Process completed with exit code {done.returncode}.")
