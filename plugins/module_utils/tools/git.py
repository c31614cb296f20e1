# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A git remote and clean clones of it. The token travels in the environment, to the remote's own host and no other."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from ..base import pipeline, typed
from ..base.errors import NOT_INSTALLED, LifeboatError
from ..base.pipeline import Command

AUTHOR = {
    "GIT_AUTHOR_NAME": "Lifeboat", "GIT_AUTHOR_EMAIL": "lifeboat@localhost",
    "GIT_COMMITTER_NAME": "Lifeboat", "GIT_COMMITTER_EMAIL": "lifeboat@localhost",
}  # fmt: skip
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Remote:
    """One branch of one repository."""

    def __init__(self, url: str, branch: str, token: str, *, ca_bundle: str = "", timeout: float = 300) -> None:
        self.url, self.branch, self._token, self._ca, self._timeout = url, branch, token, ca_bundle, timeout

    def environment(self) -> dict[str, str]:
        """Never a question on a terminal, no redirect to elsewhere; the token to the remote's own host, and where the
        remote speaks HTTP only."""
        settings = {"http.followRedirects": "false"}
        parts = urlsplit(self.url)
        if parts.scheme in ("http", "https") and self._token:
            basic = base64.b64encode(f"x-access-token:{self._token}".encode()).decode()
            settings[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = f"Authorization: Basic {basic}"
        env = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_COUNT": str(len(settings)), **AUTHOR}
        for number, (key, value) in enumerate(settings.items()):
            env.update({f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value})
        env["GIT_SSH_COMMAND"] = os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        if self._ca:
            env["GIT_SSL_CAINFO"] = self._ca
        return env

    def head(self) -> str:
        """The branch's newest commit. Raises LifeboatError where the remote does not answer or has no such branch."""
        reference = f"refs/heads/{self.branch}"
        said = self._git(["ls-remote", "--exit-code", "--", self.url, reference], "ask the git remote", timeout=60)
        commit = "".join(said.split()[:1])
        if not _COMMIT.fullmatch(commit):
            raise LifeboatError("ask the git remote", self.url, f"it names no commit: {typed.shown(commit)}")
        return commit

    def clone(self, target: Path) -> Clone:
        """All of the branch's history, no files yet. A new directory always: nobody's working copy is touched."""
        self._git(["clone", "--quiet", "--no-checkout", "--single-branch", "--no-tags", f"--branch={self.branch}",
                   "--", self.url, str(target)], "clone the repository")  # fmt: skip
        return Clone(target)

    def push(self, clone: Clone, commit: str) -> None:
        """Add to the branch. Never forced: a commit that somebody pushed meanwhile refuses it, and is kept."""
        self._git(
            ["-C", str(clone.path), "push", "--quiet", "--", self.url, f"{commit}:refs/heads/{self.branch}"],
            "push a commit",
            remedy="Nothing was lost. If somebody else has pushed meanwhile, run it again: it reads the branch again.",
        )

    def _git(
        self, arguments: Sequence[str], attempted: str, *, timeout: Optional[float] = None, remedy: str = ""
    ) -> str:
        return _git(arguments, attempted, self.url, self.environment(), timeout or self._timeout, remedy)


class Clone:
    """A clean clone, ours alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, env: Optional[Mapping[str, str]] = None) -> str:
        return _git(
            ["-C", str(self.path), *arguments], f"run git {arguments[0]}", str(self.path), {**AUTHOR, **(env or {})}
        )

    def has(self, commit: str) -> bool:
        """Whether the branch's history has it."""
        words = ["git", "-C", str(self.path), "merge-base", "--is-ancestor", commit, "HEAD"]
        return pipeline.probe(Command(words))[0] == 0

    def same(self, name: str, other: str, paths: Sequence[str]) -> bool:
        """Whether two commits hold the same below these paths."""
        return (
            pipeline.probe(Command(["git", "-C", str(self.path), "diff", "--quiet", name, other, "--", *paths]))[0] == 0
        )

    def history(self, path: str, count: int) -> list[str]:
        """The branch's own newest commits that touched `path`, newest first."""
        return self.git("rev-list", "--first-parent", f"--max-count={count}", "HEAD", "--", path).split()

    def full(self, commit: str) -> str:
        """A whole name for an abbreviated one; empty where there is none."""
        words = ["git", "-C", str(self.path), "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
        return pipeline.probe(Command(words))[1].strip()

    def bundle(self, target: Path) -> None:
        """All of the history in one file, for another user to clone: git reads no repository of somebody else's."""
        self.git("bundle", "create", "--quiet", str(target), "HEAD", "--branches")

    def revert(self, good: str, paths: Sequence[str]) -> str:
        """A commit on top of HEAD in which `paths` are as `good` has them, and all else as HEAD has it."""
        head = self.git("rev-parse", "HEAD").strip()
        with self._index() as env:
            self.git("read-tree", head, env=env)
            for path in paths:
                if path == ".":
                    self.git("read-tree", good, env=env)
                    continue
                self.git("rm", "-r", "--quiet", "--cached", "--ignore-unmatch", "--", path, env=env)
                there = self.git("ls-tree", "-r", "-z", good, "--", path)
                lines = [line for line in there.split("\0") if line]
                for line in lines:
                    facts, _sep, name = line.partition("\t")
                    mode, _type, blob = facts.split()
                    self.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{name}", env=env)
            tree = self.git("write-tree", env=env).strip()
        subject = self.git("log", "-1", "--format=%s", good).strip()
        message = (
            f"Bring the frontend back to {good[:12]}\n\n{good[:12]} ({subject}) is the last commit that built and was"
            f" served.\n{head[:12]} does not build; what it changed stays in the history, to be mended."
        )
        return self.git("commit-tree", tree, "-p", head, "-m", message).strip()

    def with_file(self, path: str, content: str, message: str) -> str:
        """A commit on top of HEAD in which one file has this content."""
        head = self.git("rev-parse", "HEAD").strip()
        held = self.path / ".git" / "lifeboat-file"
        held.write_text(content, encoding="utf-8")
        blob = self.git("hash-object", "-w", "--", str(held)).strip()
        with self._index() as env:
            self.git("read-tree", head, env=env)
            self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", env=env)
            tree = self.git("write-tree", env=env).strip()
        return self.git("commit-tree", tree, "-p", head, "-m", message).strip()

    def again(self) -> str:
        """A commit on top of HEAD that changes nothing: a push of it starts what a push starts."""
        head = self.git("rev-parse", "HEAD").strip()
        message = f"Deploy {head[:12]} again\n\nIt is not served any more, and its workflow run cannot be repeated."
        return self.git("commit-tree", f"{head}^{{tree}}", "-p", head, "-m", message).strip()

    @contextlib.contextmanager
    def _index(self) -> Iterator[dict[str, str]]:
        file = self.path / ".git" / "lifeboat-index"
        try:
            yield {"GIT_INDEX_FILE": str(file)}
        finally:
            file.unlink(missing_ok=True)


def _git(
    arguments: Sequence[str],
    attempted: str,
    subject: str,
    env: Mapping[str, str],
    timeout: float = 300,
    remedy: str = "",
) -> str:
    try:
        return pipeline.output(
            Command(["git", *arguments], env={"LC_ALL": "C.UTF-8", **env}), attempted=attempted, subject=subject,
            timeout=timeout, remedy=remedy,
        )  # fmt: skip
    except LifeboatError as exc:
        if exc.exit_status == NOT_INSTALLED:
            raise LifeboatError(attempted, subject, "git is not installed on this host", "Install git.") from exc
        raise
