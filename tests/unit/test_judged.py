# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until a recovery of a site ends, each start compares the project with the one that was judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.site import state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import judged
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import ComposeRuntime
from builders import Runner, make_config


class Project:
    """A project with one mount, judged a moment ago."""

    def __init__(self, home: Path, runner: Runner) -> None:
        self.data, self.runner = home / "project/data", runner
        self.data.mkdir(parents=True)
        self.config = make_config(home, runtime={"project_directory": str(home / "project")})
        self.config.state.mkdir(parents=True, exist_ok=True)
        self.says({})
        ComposeRuntime(self.config).note_judged()

    def says(self, more: dict[str, Any]) -> None:
        web = {"volumes": [{"type": "bind", "source": str(self.data), "target": "/x"}], **more}
        answer = json.dumps({"name": "shop", "services": {"web": web}})
        self.runner.answers.insert(0, ("config --format json", answer))  # the first one counts

    def start(self) -> bool:
        """Whether it came to that."""
        self.runner.expect("up --detach", "")
        ComposeRuntime(self.config).start(["web"], timeout=1)
        return "up --detach" in self.runner.ran[-1]


@pytest.fixture
def project(tmp_path: Path, runner: Runner) -> Project:
    return Project(tmp_path, runner)


def test_what_was_judged_is_started(project: Project) -> None:
    assert project.start()


def test_another_project_is_not(project: Project) -> None:
    project.says({"privileged": True})
    with pytest.raises(IntegrityError, match="what Compose reads is not what was judged"):
        project.start()
    assert not any("up --detach" in words for words in project.runner.ran)


def test_a_source_that_leads_elsewhere_is_not(project: Project) -> None:
    project.data.rmdir()
    project.data.symlink_to("/etc")
    with pytest.raises(IntegrityError, match="leads to /etc now"):
        project.start()
    assert not any("up --detach" in words for words in project.runner.ran)


def test_a_record_that_is_damaged_starts_nothing(project: Project) -> None:
    for text in ("", "{", "[]", '{"project": 7}', "\0" * 9):
        (project.config.state / judged.NAME).write_text(text)
        with pytest.raises(LifeboatError):
            project.start()


def test_with_the_end_of_the_recovery_the_project_is_its_operators(project: Project) -> None:
    state.begin(project.config, "build", state.Goal("20261124_033000"), now=clock.now())
    project.says({"privileged": True})
    with pytest.raises(IntegrityError):
        project.start()
    state.begin(project.config, "", state.Goal("20261124_033000"), finished=True, now=clock.now())
    assert project.start()
