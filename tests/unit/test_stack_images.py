# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the images of a project come from, in which order, and what is said when they come from nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import images as stack_images
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import Project, Service
from builders import Runner

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Engine:
    """References that are here, a registry, and an archive: what `docker` would say."""

    project = "shop"

    def __init__(self, runner: Runner) -> None:
        self.model = Project("shop", services={"db": Service("reg/db:17")})
        self.here: dict[str, str] = {}
        self.registry: dict[str, str] = {}
        self.archive: dict[str, str] = {}
        runner.probe = self.docker  # type: ignore[method-assign]
        runner.output = self.docker  # type: ignore[method-assign,assignment]
        self.ran: list[str] = []

    def docker(self, command: Any, **_: Any) -> Any:
        words = list(command.argv)
        self.ran.append(" ".join(words))
        if words[1:3] == ["image", "inspect"]:
            if words[-1] not in self.here:
                return 1, "", "No such image"
            return 0, f"{self.here[words[-1]]} reg/db@{self.here[words[-1]]}\n", ""
        if words[1] == "pull":
            if words[-1] not in self.registry:
                return 1, "", "manifest unknown"
            self.here[words[-1]] = self.registry[words[-1]]
            return 0, "", ""
        assert words[1] == "tag", words
        self.here[words[3]] = self.here[words[2]]
        return 0, "", ""

    def load(self) -> None:
        if not self.archive:
            raise NotFoundError("load the images", "config", "the backup holds no images")
        self.here.update(self.archive)


@pytest.fixture
def engine(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Engine:
    one = Engine(runner)
    monkeypatch.setattr(stack_images.pipeline, "probe", one.docker)
    monkeypatch.setattr(stack_images.pipeline, "run", lambda commands, **_: [one.docker(c) for c in commands])
    return one


def provide(engine: Engine, recorded: str = f"reg/db@{OLD}", *, check: bool = False) -> Any:
    return stack_images.provide(engine, {"db": recorded}, engine.load, check=check, log=lambda _: None)  # type: ignore[arg-type]


def test_what_is_here_is_left_alone(engine: Engine) -> None:
    engine.here["reg/db:17"] = OLD
    checks, brought = provide(engine)
    assert (brought, [check.detail for check in checks]) == ([], ["reg/db:17, as recorded"])
    assert not [command for command in engine.ran if "pull" in command]


def test_the_archive_comes_first(engine: Engine) -> None:
    engine.archive["reg/db:17"] = OLD
    engine.registry[f"reg/db@{OLD}"] = OLD
    checks, brought = provide(engine)
    assert (brought, checks[0].result) == (["db"], "PASS")
    assert not [command for command in engine.ran if "pull" in command]


def test_then_the_registry_by_digest_and_the_name_is_given(engine: Engine) -> None:
    engine.registry[f"reg/db@{OLD}"] = OLD
    checks, _ = provide(engine)
    assert engine.here["reg/db:17"] == OLD
    assert checks[0].detail == "reg/db:17, as recorded"


def test_then_the_registry_by_name_which_is_another_build_and_said(engine: Engine) -> None:
    engine.registry["reg/db:17"] = NEW
    checks, _ = provide(engine)
    assert (checks[0].result, "another build than was recorded" in checks[0].detail) == ("PASS", True)


def test_then_what_is_here_under_that_name(engine: Engine) -> None:
    engine.here["reg/db:17"] = NEW
    checks, _ = provide(engine)
    assert "another build" in checks[0].detail


def test_nowhere_says_which_image_and_where_it_was_looked_for(engine: Engine) -> None:
    with pytest.raises(NotFoundError) as error:
        provide(engine)
    assert error.value.subject == "db"
    for words in (
        f"reg/db@{OLD}",
        "the backup's archive: the backup holds no images",
        "docker pull reg/db:17: manifest unknown",
    ):
        assert words in error.value.cause


def test_check_mode_brings_nothing(engine: Engine) -> None:
    engine.archive["reg/db:17"] = OLD
    checks, brought = provide(engine, check=True)
    assert (checks, brought, engine.here) == ([], ["db"], {})


def test_a_service_that_is_built_has_composes_name(engine: Engine) -> None:
    engine.model = Project("shop", services={"web": Service()})
    (one,) = stack_images.required_images(engine, {})  # type: ignore[arg-type]
    assert (one.name, one.digest) == ("shop-web", "")
