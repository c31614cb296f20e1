"""What can happen to a static site on GitHub Pages, each done for real, and what a recovery says and makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forge import Forge

BREAK = 'echo "export const broken = ;" >> frontend/src/items.js'


@dataclass(frozen=True)
class Fault:
    """condition, cause, finding: what the plan must say. mode: the step that heals. back: the last good commit is
    served, not the newest one. reverts: by a commit on top of the branch. method: what the operator asks for.
    """

    name: str
    inject: Callable[[Forge], object]
    condition: str
    cause: str
    finding: str
    mode: str
    back: bool = False
    reverts: bool = False
    method: str = "auto"


def delete_site(forge: Forge) -> None:
    forge.host.run("find", "/srv/forge/pages/sites/acme/shop", "-mindepth", "1", "-delete")


def push_a_failing_build(forge: Forge) -> None:
    forge.commit(BREAK, "Break the build")
    assert forge.settled()["conclusion"] == "failure"


def push_a_failing_build_and_delete_the_site(forge: Forge) -> None:
    push_a_failing_build(forge)
    delete_site(forge)


def lose_the_registry_once(forge: Forge) -> None:
    """npm finds no package in its cache, and nobody listens where the registry should be."""
    env = {"npm_config_cache": "/tmp/empty", "npm_config_registry": "http://127.0.0.1:9/"}
    forge.host.run("rm", "-rf", "/tmp/empty")
    forge.control("control", env_once=env)
    forge.commit("date > frontend/public.txt", "Change something")
    assert forge.settled()["conclusion"] == "failure"


def set_another_domain(forge: Forge) -> None:
    forge.control("pages", status="built", cname="www.elsewhere.test", build_type="workflow")


def switch_pages_off(forge: Forge) -> None:
    forge.control("pages")


FAULTS = (
    Fault("site deleted", delete_site, "down", "transient", "does not serve it any more", "rerun"),
    Fault("transient job failure", lose_the_registry_once, "stale", "transient", "ECONNREFUSED", "rerun"),
    Fault("wrong CNAME", set_another_domain, "down", "configuration", "should be www.shop.test", "domain"),
    Fault("Pages switched off", switch_pages_off, "down", "configuration", "GitHub Pages is switched off", "domain"),
    Fault("failing build pushed", push_a_failing_build, "stale", "build broken", "src/items.js", "redeploy", back=True),
    Fault(
        "failing build and site deleted", push_a_failing_build_and_delete_the_site, "down", "build broken",
        "src/items.js", "redeploy", back=True, reverts=True, method="revert",
    ),
)  # fmt: skip
