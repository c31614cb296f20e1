# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole recoveries of a frontend: real git, real runs of a workflow, a site that is asked; only Node is left out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import backup as configuration_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import assess as frontend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import build as frontend_build
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import builder as frontend_builder
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import plan as frontend_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import recovery as frontend_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import FrontendSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import github
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.git import Remote
from builders import make_config, settings
from forge_lab import TOKEN, Lab, Site, git, stand_in


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(frontend_recovery, "RUN_PAUSE", 0.02)
    monkeypatch.setattr(frontend_recovery, "SITE_PAUSE", 0.02)
    monkeypatch.setattr(frontend_recovery, "APPEARS", 5.0)
    monkeypatch.setattr(github, "ATTEMPTS", 1)
    # The tests' own directory is closed to other users; a build as nobody is what the lab's hosts are for.
    monkeypatch.setattr(frontend_builder, "owner", lambda _: (os.geteuid(), os.getegid()))
    (tmp_path / "forge").mkdir()
    made = Lab(tmp_path / "forge")
    made.pushed()
    assert made.settled().conclusion == "success"
    yield made
    made.close()


@pytest.fixture
def fallback(tmp_path: Path) -> Iterator[dict[str, str]]:
    directory = tmp_path / "fallback"
    directory.mkdir()
    (directory / "note.txt").write_text("somebody's")
    server = stand_in.serve(0, partial(Site, directory=str(directory)), "127.0.0.1")  # type: ignore[arg-type]
    yield {"directory": str(directory), "url": f"http://127.0.0.1:{server.server_address[1]}/"}
    server.shutdown()
    server.server_close()


def made(tmp_path: Path, lab: Lab, **changes: Any) -> config.Config:
    return make_config(tmp_path, frontend=lab.settings(**changes))


def plan(conf: config.Config, token: str = TOKEN, **asked: Any) -> dict[str, Any]:
    """As a role gets it."""
    found: dict[str, Any] = typed.plain(frontend_plan.make(conf, token, log=lambda _: None, **asked), nulls=True)
    return found


def read(planned: dict[str, Any]) -> frontend_plan.Plan:
    wrong = partial(LifeboatError, "read the plan")
    return typed.build(frontend_plan.Plan, json.loads(json.dumps(planned)), wrong)


def recover(conf: config.Config, planned: dict[str, Any], token: str = TOKEN) -> dict[str, Any]:
    changed, done = frontend_recovery.recover(Opened(conf), read(planned), token, log=lambda _: None)
    return {"changed": changed, **typed.plain(done)}


def results(done: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["result"] for check in done["checks"]}


def steps(done: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["step"], step["result"]) for step in done["tried"]]


def nothing_left(conf: config.Config) -> None:
    again = plan(conf)
    assert (again["needed"], again["condition"]) == (False, "healthy"), again["why"]


def test_a_plan_that_another_recovery_disturbs_says_so(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub cannot be asked and nothing can be published: while another run has its turn, that is no answer."""
    (tmp_path / "locks").mkdir(mode=0o700)
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path / "locks")
    conf = made(tmp_path, lab)
    lab.api.lab("control", b'{"remaining": 0, "reset": 9999999999}')
    shutil.rmtree(lab.forge.site)
    with pytest.raises(UnverifiedError, match="there is no fallback"):
        plan(conf)
    with (
        lock.held(conf.stack, "recover frontend"),
        recovery_state.own_turn(conf, "recover the frontend", "S"),
        pytest.raises(
            LockedError, match=r"another run \(recover the frontend, at 2.*there is no fallback.*nothing was"
        ),
    ):
        plan(conf)


def test_healthy_needs_nothing(tmp_path: Path, lab: Lab) -> None:
    conf = made(tmp_path, lab)
    planned = plan(conf)
    assert (planned["needed"], planned["condition"], planned["steps"]) == (False, "healthy", [])
    assert frontend_plan.text(read(planned), conf.frontend)[-1].startswith("nothing to do: the site serves")
    forced = plan(conf, force=True)
    assert forced["steps"] == ["rerun", "build", "redeploy"], "there is no fallback"
    assert not (tmp_path / "state").exists()


def test_a_site_that_was_deleted_is_deployed_again(tmp_path: Path, lab: Lab) -> None:
    shutil.rmtree(lab.forge.site)
    conf = made(tmp_path, lab)
    planned = plan(conf)
    assert (planned["condition"], planned["cause"], planned["steps"][0]) == ("down", "transient", "rerun")
    shown = "\n".join(frontend_plan.text(read(planned), conf.frontend))
    assert "1. rerun: run the failed jobs" in shown and "record: evidence" in shown
    done = recover(conf, planned)
    assert (done["changed"], done["mode"], steps(done)) == (True, "rerun", [("rerun", "done")])
    assert results(done) == {"site": "PASS"}
    assert done["commit"] == lab.served()
    nothing_left(conf)


def test_a_transient_failure_is_run_again(tmp_path: Path, lab: Lab) -> None:
    lab.api.lab("control", b'{"env_once": {"BROKEN": "npm error code ECONNRESET"}}')
    (lab.work / "page.html").write_text("<h1>New</h1>")
    commit = lab.push("Change the page")
    assert lab.settled().conclusion == "failure"
    conf = made(tmp_path, lab)
    planned = plan(conf)
    assert (planned["condition"], planned["cause"]) == ("stale", "transient")
    assert "ECONNRESET" in planned["why"]
    done = recover(conf, planned)
    assert (done["mode"], done["commit"], lab.served()) == ("rerun", commit, commit)
    nothing_left(conf)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dispatch", "revert"])
def test_a_commit_that_does_not_build_is_set_back(tmp_path: Path, lab: Lab, how: str) -> None:
    good = lab.served()
    broken = lab.break_build()
    conf = made(tmp_path, lab, dispatch_input="ref", directory=".")
    planned = plan(conf, method="auto" if how == "dispatch" else "revert")
    assert (planned["condition"], planned["cause"]) == ("stale", "build broken")
    assert "page.html" in planned["why"]
    done = recover(conf, planned)
    assert steps(done) == [("build", "done"), ("redeploy", "done")], done["tried"]
    assert f"{broken[:12]} does not build here" in done["tried"][0]["detail"]
    assert results(done) == {"site": "PASS"}
    head = git(lab.work, "ls-remote", "origin", "main").split()[0]
    git(lab.work, "fetch", "--quiet", "origin", "main")
    if how == "dispatch":
        assert (head, lab.served()) == (broken, good)
    else:
        assert lab.served() == head != broken
        assert git(lab.work, "rev-parse", f"{head}^").strip() == broken, "on top of it: no commit is lost"
        assert git(lab.work, "diff", "--stat", good, head) == ""
        assert "written with the broken commit" in git(lab.work, "show", f"{broken}:notes.txt")
    nothing_left(conf)


@pytest.mark.slow
def test_a_run_that_cannot_be_repeated_is_made_anew(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub repeats no run older than a month, and a workflow without workflow_dispatch runs for pushes only."""
    file = lab.work / ".github/workflows/pages.yml"
    file.write_text(file.read_text().replace("workflow_dispatch", "workflow_call"))
    good = lab.push("No dispatch")
    assert lab.settled().head_sha == good

    def refuse(one: Any, failed_only: bool) -> None:
        raise stand_in.Refused(403, "Unable to retry this workflow run because it was created over a month ago")

    monkeypatch.setattr(lab.forge, "again", refuse)
    shutil.rmtree(lab.forge.site)
    conf = made(tmp_path, lab)
    done = recover(conf, plan(conf))
    assert steps(done) == [("rerun", "failed"), ("build", "done"), ("redeploy", "done")], done["tried"]
    git(lab.work, "fetch", "--quiet", "origin", "main")
    assert git(lab.work, "rev-parse", f"{done['commit']}^").strip() == good
    assert git(lab.work, "diff", "--stat", good, done["commit"]) == ""
    nothing_left(conf)


@pytest.mark.slow
def test_the_last_commit_that_github_built_is_deployed_where_nothing_builds_here(tmp_path: Path, lab: Lab) -> None:
    good = lab.served()
    lab.break_build()
    conf = made(tmp_path, lab, dispatch_input="ref", build=[["false"]])
    done = recover(conf, plan(conf))
    assert steps(done) == [("build", "failed"), ("redeploy", "done")], done["tried"]
    assert done["commit"] == lab.served() == good


def test_only_the_frontend_is_reverted(tmp_path: Path, lab: Lab) -> None:
    """A repository that holds more than the frontend: what else the broken commit changed stays."""
    remote = frontend_assess.remote_of(made(tmp_path, lab).frontend, TOKEN)
    (lab.work / "site").mkdir()
    (lab.work / "site" / "a").write_text("1")
    good = lab.push("Add the site")
    (lab.work / "site" / "a").unlink()
    (lab.work / "site" / "b").write_text("2")
    (lab.work / "backend.py").write_text("3")
    head = lab.push("Change both")
    clone = remote.clone(tmp_path / "clone")
    commit = clone.revert(good, ["site"])
    assert clone.git("ls-tree", "-r", "--name-only", commit).split() == [
        ".github/workflows/pages.yml", "backend.py", "build.sh", "page.html", "site/a",
    ]  # fmt: skip
    assert clone.git("rev-parse", f"{commit}^").strip() == head
    assert clone.same(commit, good, ["site"]) and not clone.same(commit, good, ["."])


def test_a_push_that_came_in_between_is_not_overwritten(tmp_path: Path, lab: Lab) -> None:
    remote = frontend_assess.remote_of(made(tmp_path, lab).frontend, TOKEN)
    clone = remote.clone(tmp_path / "clone")
    commit = clone.revert(lab.served(), ["."])
    theirs = lab.push("Meanwhile")
    with pytest.raises(LifeboatError, match=r"Nothing was lost\. If somebody else has pushed"):
        remote.push(clone, commit)
    assert remote.head() == theirs


def test_a_commit_that_changes_nothing_of_the_frontend_is_no_reason(tmp_path: Path, lab: Lab) -> None:
    (lab.work / "README.md").write_text("words")
    lab.hook.unlink()
    lab.push("Write")
    conf = made(tmp_path, lab, directory="build.sh")
    assert plan(conf)["condition"] == "healthy"
    assert plan(made(tmp_path, lab))["cause"] == "configuration", "the workflow did not run for it"


def test_the_domain_and_pages_come_back(tmp_path: Path, lab: Lab) -> None:
    conf = made(tmp_path, lab, domain="www.shop.test")
    planned = plan(conf)
    assert (planned["condition"], planned["steps"]) == ("misconfigured", ["domain"])
    done = recover(conf, planned)
    assert (done["mode"], results(done)) == ("domain", {"site": "PASS", "custom domain": "PASS"})
    nothing_left(conf)
    lab.api.lab("pages", b"null")
    planned = plan(conf)
    assert planned["steps"][:3] == ["pages", "domain", "rerun"]
    done = recover(conf, planned)
    assert results(done) == {"site": "PASS", "custom domain": "PASS"}
    nothing_left(conf)


@pytest.mark.parametrize("why", ["token", "limit", "away"])
def test_github_cannot_be_asked(tmp_path: Path, lab: Lab, fallback: dict[str, str], why: str) -> None:
    commit, token = lab.served(), TOKEN
    shutil.rmtree(lab.forge.site)
    conf = made(tmp_path, lab, fallback=fallback)
    if why == "token":
        token = "wrong"
    elif why == "limit":
        lab.api.lab("control", b'{"remaining": 0, "reset": 9999999999}')
    else:
        conf = made(tmp_path, lab, fallback=fallback, api_url="http://127.0.0.1:9")
    planned = plan(conf, token)
    assert (planned["cause"], planned["steps"]) == ("GitHub cannot be asked", ["build", "fallback"])
    assert any("GitHub's API" in line for line in planned["unchecked"])
    done = recover(conf, planned, token)
    assert (done["changed"], done["mode"], done["commit"]) == (True, "", "")
    assert results(done) == {"site": "FAIL", "fallback": "PASS"}
    directory = Path(fallback["directory"])
    assert (directory / "version.txt").read_text().strip() == commit
    assert (Path(done["quarantine"]) / "note.txt").read_text() == "somebody's"
    assert (directory / "version.txt").stat().st_mode & 0o777 == 0o644
    again = recover(conf, plan(conf, token), token)
    assert (again["changed"], again["quarantine"]) == (False, "")


def test_nothing_can_be_built_and_a_config_backup_holds_the_last_site(
    tmp_path: Path, lab: Lab, fallback: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "built"
    shutil.copytree(lab.forge.site, built)
    shutil.rmtree(lab.forge.site)
    more = {"api_url": "http://127.0.0.1:9", "fallback": fallback}
    conf = make_config(tmp_path, frontend=lab.settings(**more), config={"site_directory": str(built)})
    monkeypatch.setattr(runtime, "connect", lambda _: None)
    monkeypatch.setattr(configuration_backup._Work, "images", lambda self, stack: {})
    planned = plan(conf)
    shutil.move(lab.root / "git", lab.root / "gone")
    with pytest.raises(UnverifiedError, match="none holds one"):
        recover(conf, planned)
    (built / "version.txt").rename(built / "away.txt")
    configuration_backup.take(Opened(conf), log=lambda _: None, directory=tmp_path)
    with pytest.raises(UnverifiedError, match=r"version\.txt of its site tells no commit"):
        recover(conf, planned)
    (built / "away.txt").rename(built / "version.txt")
    configuration_backup.take(Opened(conf), log=lambda _: None, directory=tmp_path)
    done = recover(conf, planned)
    assert results(done) == {"site": "FAIL", "fallback": "PASS"}
    assert (Path(fallback["directory"]) / "version.txt").read_bytes() == (built / "version.txt").read_bytes()
    assert not recover(conf, planned)["changed"]


def test_nowhere_to_go_is_said_before_anything_is_done(tmp_path: Path, lab: Lab) -> None:
    shutil.rmtree(lab.forge.site)
    with pytest.raises(UnverifiedError, match="there is no fallback to publish it to"):
        plan(made(tmp_path, lab), "wrong")
    with pytest.raises(UsageError, match="the stack has no frontend"):
        plan(make_config(tmp_path))


def test_no_marker_is_no_proof(tmp_path: Path, lab: Lab) -> None:
    planned = plan(made(tmp_path, lab, marker="other.txt"))
    assert (planned["needed"], planned["condition"]) == (False, "unverified")


def test_a_step_that_cannot_begin_changes_nothing(tmp_path: Path, lab: Lab, fallback: dict[str, str]) -> None:
    shutil.rmtree(lab.forge.site)
    conf = made(tmp_path, lab, fallback=fallback, api_url="http://127.0.0.1:9")
    planned = plan(conf)
    shutil.move(lab.root / "git", lab.root / "gone")
    with pytest.raises(UnverifiedError, match="none holds one"):
        recover(conf, planned)
    assert os.listdir(fallback["directory"]) == ["note.txt"]  # noqa: PTH208


@pytest.mark.slow
def test_a_build_gets_no_secret_and_its_result_must_tell_its_commit(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_hunter2hunter2")
    conf = made(
        tmp_path, lab, build=[["sh", "-c", "mkdir dist; env > dist/index.html; echo $GITHUB_SHA > dist/version.txt"]]
    )
    clone = frontend_assess.remote_of(conf.frontend, TOKEN).clone(tmp_path / "clone")
    commit = lab.served()

    def build(settings: FrontendSettings, name: str) -> frontend_build.Built:
        (tmp_path / name).mkdir()
        return frontend_build.build(settings, clone, commit, tmp_path / name, log=lambda _: None)

    shutil.copytree(lab.forge.site, tmp_path / "elsewhere")
    good = build(conf.frontend, "good")
    assert "hunter2" not in Path(good.directory, "index.html").read_text()
    for name, words, said in (
        ("fails", "echo 'error: no' >&2; exit 3", "sh -c echo 'error: no' >&2; exit 3: exit 3"),
        ("empty", "true", "the build left no ./dist/index.html"),
        ("link", f"ln -s {tmp_path}/elsewhere dist", "./dist leads out of the clone"),
        ("other", "mkdir dist; touch dist/index.html; echo abcdef0 > dist/version.txt", "tells abcdef0"),
    ):
        made_so = build(made(tmp_path, lab, build=[["sh", "-c", words]]).frontend, name)
        assert not made_so.directory and said in made_so.output[-1]
    slow = build(made(tmp_path, lab, build=[["sleep", "20"]], build_timeout=1).frontend, "slow")
    assert slow.output == ("sleep 20: no end after 1 s",)
    monkeypatch.setattr(frontend_builder, "GRACE", 1)
    deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
    made_so = build(made(tmp_path, lab, build=[deaf], build_timeout=1).frontend, "deaf")
    assert made_so.output == (f"{' '.join(deaf)}: no end after 1 s, or out of memory",)
    with pytest.raises(UsageError, match="this host has no no-such-npm"):
        build(made(tmp_path, lab, build=[["no-such-npm", "ci"]]).frontend, "none")


def test_a_container_builds_without_our_environment(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend_builder, "owner", lambda _: (65534, 65534))
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:hunter2hunter2@proxy:3128")
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_hunter2hunter2")
    settings = made(tmp_path, lab, builder_image="node:24", directory="frontend").frontend
    builder = frontend_builder.Builder(settings, "c" * 40, tmp_path)
    command = builder.contained(("npm", "ci"), "built-1", network=True)
    words = " ".join(command.argv)
    tree = tmp_path / "build-cccccccccccc"
    assert f"docker run --rm --init --user 65534:65534 --volume {tree}:/work --workdir /work/frontend" in words
    assert words.endswith("node:24 npm ci")
    assert command.env is None
    assert "--env=HTTPS_PROXY " in words and "--env=npm_config_ignore_scripts=true " in words
    assert "--network=none" not in words and "hunter2" not in words and "GITHUB_TOKEN" not in words
    words = " ".join(builder.contained(("npm", "run", "build"), "built-2", network=False).argv)
    assert "--network=none" in words and "PROXY" not in words and "ignore_scripts" not in words


def test_the_words_that_everybody_can_read_hold_no_proxy(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://ada:hunter2hunter2@proxy:3128")
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_hunter2hunter2")
    builder = frontend_builder.Builder(made(tmp_path, lab).frontend, "c" * 40, tmp_path)
    for network in (True, False):
        command = builder.apart(("npm", "ci"), builder._environment(tmp_path, network), tmp_path, network=network)
        assert "hunter2" not in " ".join(command.argv)
        assert ("https_proxy" in command.environment()) is network, "only what has a network needs its proxy"
        assert "GITHUB_TOKEN" not in command.environment(), "of no process on the way"
        assert ("--net" in command.argv) is not network
        assert command.environment().get("npm_config_ignore_scripts") == ("true" if network else None)
        assert command.argv[:5] == ["unshare", "--fork", "--pid", "--kill-child", "--mount-proc"]


def test_where_nothing_ends_what_a_build_leaves_nothing_is_built(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without privileges, such as an execution environment of AWX."""
    conf = made(tmp_path, lab)
    clone = frontend_assess.remote_of(conf.frontend, TOKEN).clone(tmp_path / "clone")
    refused = (1, "", "unshare: unshare failed: Operation not permitted\n")
    monkeypatch.setattr(frontend_builder.pipeline, "probe", lambda *_, **__: refused)
    with pytest.raises(UsageError, match=r"Operation not permitted.*execution environment"):
        frontend_build.build(conf.frontend, clone, lab.served(), tmp_path, log=lambda _: None)
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith("build-")] == []


def test_a_bucket_gets_the_pages_last(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[tuple[str, str, str]] = []
    given: list[str] = []

    class Client:
        def put_object(self, *, Bucket: str, Key: str, Body: Any, ContentType: str) -> None:
            put.append((Key, ContentType, Body.read().decode()))

    def connect(*words: str) -> Client:
        given.extend(words)
        return Client()

    monkeypatch.setattr(client, "connect", connect)
    bucket = {"bucket": "site", "url": "https://fallback.test/", "endpoint_url": "https://s3.test", "region": "r"}
    conf = config.from_mapping(
        settings(tmp_path, frontend=lab.settings(fallback=bucket)),
        {"fallback_access_key": "k", "fallback_secret_key": "s"},
    )
    built = tmp_path / "built"
    (built / "assets").mkdir(parents=True)
    for name in ("index.html", "version.txt", "assets/x.js"):
        (built / name).write_text(name)
    assert frontend_build.publish(conf, built, "S", log=lambda _: None) == ""
    assert [file[0] for file in put] == ["assets/x.js", "index.html", "version.txt"], "and then what tells the commit"
    assert (put[1][1], put[1][2]) == ("text/html", "index.html")
    assert given == ["https://s3.test", "r", "k", "s", ""]


def test_git_over_http_gets_the_token_and_nobody_else_does(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    server = stand_in.serve(0, stand_in.git_handler(lab.root, TOKEN), "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_address[1]}/{stand_in.OWNER}/{stand_in.NAME}.git"
    try:
        remote = Remote(url, "main", TOKEN)
        assert remote.head() == git(lab.work, "rev-parse", "HEAD").strip()
        clone = remote.clone(tmp_path / "clone")
        assert TOKEN not in (clone.path / ".git/config").read_text()
        commit = clone.again()
        remote.push(clone, commit)
        assert remote.head() == commit
        for token in ("wrong", ""):
            with pytest.raises(LifeboatError, match="ask the git remote") as error:
                Remote(url, "main", token).head()
            assert TOKEN not in str(error.value)
    finally:
        server.shutdown()
        server.server_close()
    env = Remote("https://github.com/acme/shop.git", "main", TOKEN).environment()
    (name,) = [key for key, value in env.items() if value.startswith("Authorization: ")]
    assert env[name.replace("VALUE", "KEY")] == "http.https://github.com/.extraHeader"
    for elsewhere in ("git@github.com:acme/shop.git", "ssh://git@github.com/acme/shop.git", "/srv/git/shop.git"):
        assert not any("Authorization" in value for value in Remote(elsewhere, "main", TOKEN).environment().values())


def test_a_link_in_a_built_site_is_not_published(tmp_path: Path, lab: Lab, fallback: dict[str, str]) -> None:
    built = tmp_path / "built"
    built.mkdir()
    (built / "index.html").write_text("x")
    (built / "shadow").symlink_to("/etc/shadow")
    with pytest.raises(IntegrityError, match="not a plain file"):
        frontend_build.publish(made(tmp_path, lab, fallback=fallback), built, "S", log=lambda _: None)
    assert os.listdir(fallback["directory"]) == ["note.txt"]  # noqa: PTH208
