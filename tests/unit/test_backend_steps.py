# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each step runs, what it never runs, and what it keeps of what it replaces."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import host as backend_host
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import images as backend_images
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import redeploy, space, steps
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.facts import Disk, Holder, Observations, Unit
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.images import Known
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import allowed
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories, retention
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import ComposeRuntime, Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.tar import Entry
from builders import NOW, Runner, make_config, prove, publish_config
from test_backend_cause import APP, DB, HEALTHY, KILLED, STORE, seen

FORBIDDEN = ("--volumes", "volume rm", "volume prune", "system prune", "rm --force", "down -v")


@pytest.fixture
def work(tmp_path: Path) -> steps.Work:
    return steps.Work(Opened(make_config(tmp_path)), HEALTHY, "20261124_120000", lambda _: None)


def restored(runner: Runner) -> list[str]:
    assert [command for command in runner.ran if any(word in command for word in FORBIDDEN)] == []
    return [command for command in runner.ran if not command.startswith(("docker inspect", "docker image inspect"))]


def test_restart_touches_only_what_is_ill(work: steps.Work, runner: Runner) -> None:
    runner.expect("^docker restart")
    work.observations = seen(KILLED)
    steps.restart(work)
    assert restored(runner) == ["docker restart b"]


def test_restart_wakes_stores_first_and_makes_what_is_absent(work: steps.Work, runner: Runner) -> None:
    runner.expect("^docker (restart|unpause)|compose .* up")
    paused = replace(APP, status="paused")
    work.observations = replace(HEALTHY, units=(replace(DB, status="exited"), STORE, paused), absent=("frontend",))
    steps.restart(work)
    ran = restored(runner)
    assert ran[:3] == ["docker restart d", "docker unpause b", "docker restart b"]
    assert ran[3].endswith("up --detach --no-deps --no-recreate frontend")


def test_restart_stops_a_stray_of_our_own_and_nothing_else(work: steps.Work, runner: Runner) -> None:
    runner.expect("^docker (stop|restart)")
    stray = Holder("8000/tcp", "backend", container="old-backend-1", ours=True)
    work.observations = seen(KILLED, ports=(stray,))
    steps.restart(work)
    assert restored(runner) == ["docker stop old-backend-1", "docker restart b"]
    assert work.quarantined == ["container old-backend-1 (stopped)"]


def test_restart_of_a_stack_that_hangs_restarts_all_of_the_backend(work: steps.Work, runner: Runner) -> None:
    runner.expect("^docker restart")
    steps.restart(work)
    assert restored(runner) == ["docker restart b f"]


def test_units_are_restarted_one_by_one(tmp_path: Path, runner: Runner) -> None:
    units = make_config(tmp_path, runtime={"type": "host"})
    runner.expect("^systemctl")
    one = Unit("app.service", "app.service", status="failed")
    steps.restart(steps.Work(Opened(units), Observations(units=(one,)), "S", lambda _: None))
    assert runner.ran == ["systemctl reset-failed app.service", "systemctl restart app.service"]


def inspected(service: str, **mount: Any) -> dict[str, Any]:
    labels = {"com.docker.compose.service": service}
    name, mounts, given = f"/shop-{service}-1", [mount] if mount else [], {"Labels": labels}
    return {"Id": service[0], "Name": name, "Mounts": mounts, "Config": given, "State": {}, "Image": "sha256:x"}


MODEL = {
    "name": "shop",
    "services": {
        "db": {"volumes": [{"type": "volume", "source": "pgdata", "target": "/var/lib/postgresql/data"}]},
        "backend": {"image": "shop/backend:1"},
    },
    "volumes": {"pgdata": {"name": "shop_pgdata"}},
}


def project(runner: Runner, containers: list[dict[str, Any]], model: Mapping[str, Any] = MODEL) -> None:
    runner.expect("compose .*config", json.dumps(model))
    runner.expect("^docker ps", " ".join(container["Id"] for container in containers))
    runner.expect("^docker inspect --format", "")
    runner.expect(
        "^docker inspect",
        json.dumps([{**container, "Config": {**container["Config"], "Env": []}} for container in containers]),
    )
    runner.expect("^docker volume inspect", "/tmp")
    runner.expect("^docker diff", "")
    runner.expect("compose .*(up|down)")


def test_recreate_is_the_seeds_down_and_up(work: steps.Work, runner: Runner) -> None:
    project(runner, [inspected("db", Type="volume", Name="shop_pgdata"), inspected("backend")])
    work.observations = replace(HEALTHY, units=(DB, APP))
    steps.recreate(work)
    ran = [command for command in restored(runner) if command.startswith("docker compose") and "config" not in command]
    assert [command.rpartition(" --project-directory ")[2].split(" ", 1)[1] for command in ran] == [
        "down",
        "up --detach",
    ]


@pytest.mark.parametrize("why", ["anonymous volume", "own layer", "image gone"])
def test_down_is_left_out_where_it_would_lose_something(work: steps.Work, runner: Runner, why: str) -> None:
    model = MODEL if why != "own layer" else {**MODEL, "services": {"db": {}, "backend": {}}}
    mount = {"Type": "volume", "Name": "0" * 64} if why == "anonymous volume" else {}
    project(runner, [inspected("db"), inspected("backend", **mount)], model)
    gone = {"backend": "shop/backend:1"} if why == "image gone" else {}
    work.observations = replace(HEALTHY, services=("backend",), units=(DB, APP), images_gone=gone)
    steps.recreate(work)
    ran = [command for command in restored(runner) if "config" not in command]
    assert not [command for command in ran if command.endswith("down")]
    assert ran[-1].endswith("up --detach --no-deps --force-recreate backend")
    assert work.notes[0].startswith("no `down`: ")


def test_what_a_container_wrote_is_kept_as_an_image(work: steps.Work, runner: Runner, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "run").mkdir(parents=True)
    (layer / "run/pid").write_text("1")
    (layer / "empty").touch()
    runner.expect("^docker inspect --format", str(layer))
    runner.expect("^docker commit")
    steps.keep_layers(work, ["backend"])
    assert work.quarantined == [], "what is fleeting, and what is empty, is nothing to keep"
    (layer / "upload.txt").write_text("mine")
    steps.keep_layers(work, ["backend"])
    assert work.quarantined == ["image lifeboat-quarantine/shop-backend-1-files:20261124_120000"]
    assert runner.ran[-1].startswith("docker commit --pause=false b lifeboat-quarantine/shop-backend-1-files:")


def test_without_a_layer_to_look_into_the_engine_is_asked(work: steps.Work, runner: Runner) -> None:
    runner.expect("^docker inspect", "<no value>")
    runner.expect("^docker diff", "C /app\nA /app/data\nA /app/data/x.db\nC /run\nA /run/pid\nD /app/gone")
    assert steps._written("b") == ["/app/data/x.db"]


# Disk.


def log_of(root: Path, identity: str, project: str, **sizes: int) -> Path:
    folder = root / "containers" / identity
    folder.mkdir(parents=True)
    labels = {"com.docker.compose.project.working_dir": project}
    (folder / "config.v2.json").write_text(json.dumps({"Config": {"Labels": labels}}))
    for name, size in sizes.items():
        (folder / f"{identity}-json.log{'' if name == 'log' else '.' + name[1:]}").write_bytes(b"x" * size)
    return folder


def test_only_the_projects_own_logs_are_freed(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    here, root = make_config(tmp_path), tmp_path / "docker"
    mine = log_of(root, "aaa", str(tmp_path), log=2 << 20, _1=100)
    small = log_of(root, "bbb", str(tmp_path), log=100)
    other = log_of(root, "ccc", "/srv/other", log=2 << 20, _1=100)
    (mine / "secrets").write_text("keep")
    (mine / "aaa-json.log.2").symlink_to(other / "ccc-json.log.1")
    monkeypatch.setattr(backend_host, "docker_root", lambda: str(root))
    monkeypatch.setattr(backend_host, "disks", lambda paths: (Disk("/", 100, 50),))
    monkeypatch.setattr(backend_host, "engine_problem", lambda: "")
    monkeypatch.setattr(backend_images, "needed_ids", lambda _: {"sha256:good"})
    runner.expect("^docker image ls", "sha256:good sha256:bad")
    runner.expect("^docker image rm")
    runner.expect("^docker builder prune", "Total:\t12MB")
    done = space.free(Opened(here), [Disk("/", 100, 0)], log=lambda _: None)
    assert (mine / "aaa-json.log").stat().st_size == 0
    assert not (mine / "aaa-json.log.1").exists()
    assert (mine / "aaa-json.log.2").is_symlink()
    assert (small / "bbb-json.log").stat().st_size == 100
    assert [(other / name).stat().st_size for name in ("ccc-json.log", "ccc-json.log.1")] == [2 << 20, 100]
    assert [command for command in runner.ran if " rm " in command] == ["docker image rm sha256:bad"], (
        "the good image stays"
    )
    assert restored(runner)
    assert any("build cache: 12MB" in line for line in done)


def test_a_disk_that_stays_full_is_an_error_that_says_where_to_look(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Disk("/var/lib/docker", 100, 0)
    monkeypatch.setattr(backend_host, "docker_root", lambda: str(tmp_path))
    monkeypatch.setattr(backend_host, "disks", lambda paths: (full,))
    monkeypatch.setattr(backend_host, "engine_problem", lambda: "down")
    with pytest.raises(SpaceError, match=r"nothing that is safe to remove.*du -xh .*Volumes were not touched"):
        space.free(Opened(make_config(tmp_path)), [full], log=lambda _: None)
    assert runner.ran == []


# Images.


def test_the_earlier_image_is_the_newest_that_differs(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def point(identity: str, image: str) -> points.Point:
        parts = {"database": points.Part("db_backup_20261124_120000", "s")}
        return points.Point(
            identity, "shop", NOW, NOW, "eventual", parts, {"backend": f"shop/backend@sha256:{image}"}, (), ()
        )

    found = [point("20261124_040000", "bad"), point("20261123_040000", "good"), point("20261122_040000", "older")]
    monkeypatch.setattr(backend_images, "recorded", lambda _: found)
    runner.expect("^docker image inspect .* shop/backend@sha256:(bad|good)", (1, "", "no such image"))
    runner.expect("^docker image inspect .* sha256:bad", "sha256:bad")
    runner.expect("^docker image inspect", (1, "", "no such image"))
    here = make_config(tmp_path)
    ill = seen(replace(KILLED, made_from="sha256:bad"))
    assert backend_images.candidates(Opened(here), ill) == {
        "backend": Known("20261123_040000", "shop/backend@sha256:good")
    }
    assert backend_images.candidates(Opened(here), HEALTHY) == {}


def test_going_back_is_by_tag_and_what_the_tag_meant_is_kept(tmp_path: Path, runner: Runner) -> None:
    here = make_config(tmp_path)
    runner.expect("compose .*config", json.dumps(MODEL))
    runner.expect("^docker ps", "")
    runner.expect("^docker image inspect .* shop/backend@sha256:good", "sha256:good")
    runner.expect("^docker image inspect .* shop/backend:1", "sha256:bad")
    runner.expect("^docker image ls", "sha256:older lifeboat-quarantine/shop-backend:r\n")
    runner.expect("^docker tag")
    known = Known("20261123_040000", "shop/backend@sha256:good")
    pinned = backend_images.pin(here, ComposeRuntime(here), "backend", known, "S", log=lambda _: None)
    assert pinned == ("shop/backend:1", "lifeboat-quarantine/shop-backend:s")
    assert [command for command in runner.ran if " tag " in command] == [
        "docker tag sha256:bad lifeboat-quarantine/shop-backend:s",
        "docker tag sha256:good shop/backend:1",
    ]
    backend_images.unpin({"backend": pinned}, log=lambda _: None)
    assert runner.ran[-1] == "docker tag lifeboat-quarantine/shop-backend:s shop/backend:1"


def test_what_a_run_that_was_killed_kept_has_no_second_name(tmp_path: Path, runner: Runner) -> None:
    """It was killed between the two tags: the same image was kept twice."""
    here = make_config(tmp_path)
    runner.expect("compose .*config", json.dumps(MODEL))
    runner.expect("^docker ps", "")
    runner.expect("^docker image inspect .* shop/backend@sha256:good", "sha256:good")
    runner.expect("^docker image inspect .* shop/backend:1", "sha256:bad")
    listed = ["sha256:bad {}:<none>", "sha256:older {}:r", "sha256:bad {}:s"]
    runner.expect("^docker image ls", "\n".join(listed).format(*["lifeboat-quarantine/shop-backend"] * 3))
    runner.expect("^docker tag")
    known = Known("20261123_040000", "shop/backend@sha256:good")
    pinned = backend_images.pin(here, ComposeRuntime(here), "backend", known, "T", log=lambda _: None)
    assert pinned == ("shop/backend:1", "lifeboat-quarantine/shop-backend:s")
    assert [command for command in runner.ran if " tag " in command] == ["docker tag sha256:good shop/backend:1"]


def test_a_digest_cannot_be_retagged_and_a_lost_image_is_said(tmp_path: Path, runner: Runner) -> None:
    here = make_config(tmp_path)
    model = {"name": "shop", "services": {"backend": {"image": "shop/backend@sha256:bad"}}}
    runner.expect("compose .*config", json.dumps(model))
    runner.expect("^docker ps", "")
    known = Known("20261123_040000", "shop/backend@sha256:good")
    with pytest.raises(UsageError, match="pin shop/backend@sha256:bad by its digest"):
        backend_images.pin(here, ComposeRuntime(here), "backend", known, "S", log=lambda _: None)
    runner.expect("^docker image inspect", (1, "", "no such image"))
    runner.expect("^docker pull", (1, "", "connection refused"))
    with pytest.raises(NotFoundError, match="no registry gives it: connection refused"):
        backend_images.obtain(known.reference, timeout=5)


# Files.


@pytest.fixture
def backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """A project, and a backup of it with another compose.yml and .env; whatever else lies there is unknown to it."""
    live = tmp_path / "shop"
    live.mkdir()
    (live / "compose.yml").write_text("broken")
    (live / ".env").write_text("A=bad")
    (live / ".env").chmod(0o600)
    (live / "notes.txt").write_text("mine")
    files = {"compose.yml": ("right", 0o644), ".env": ("A=good", 0o600), "new/new.conf": ("new", 0o640)}

    def extract(repo: Any, identity: str, target: Path, *, keys: age.Keys, site: bool, log: Any) -> Any:
        key = keys.identity
        wanted = {name: file for name, file in files.items() if key or name != ".env"}
        entries = {}
        for name, (text, mode) in wanted.items():
            path = target / str(live / name).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            entries[str(live / name)] = Entry(str(live / name), "file", mode, os.getuid(), os.getgid(), 0)
        entries["/etc/cron.d/shop"] = Entry("/etc/cron.d/shop", "file", 0o644, 0, 0, 0)
        missing = () if key else (str(live / ".env"),)
        manifest = type("M", (), {"id": identity})()
        return configuration_restore.Extracted(manifest, target, entries, missing)  # type: ignore[arg-type]

    class FakeSources:
        def repo(self, one: Any) -> None:
            return None

    entry = type("E", (), {"id": "config_backup_20261124_033000", "failed": "", "hidden": "", "source": "repository"})()
    monkeypatch.setattr(configuration_restore, "extract", extract)
    monkeypatch.setattr(redeploy, "candidates", lambda *_, **__: (FakeSources(), [entry]))
    return make_config(tmp_path, runtime={"project_directory": str(live)})


def test_files_come_back_and_what_they_replace_is_kept(backup: config.Config) -> None:
    live = Path(backup.runtime.project_directory)
    (live / "compose.yaml").write_text("shadow")
    done = redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    assert [(live / name).read_text() for name in ("compose.yml", ".env", "new/new.conf", "notes.txt")] == [
        "right", "A=good", "new", "mine",
    ]  # fmt: skip
    assert (live / ".env").stat().st_mode & 0o777 == 0o600
    assert (live / "new").stat().st_mode & 0o777 == 0o755
    kept = Path(done.quarantine)
    assert (kept / str(live / "compose.yml").lstrip("/")).read_text() == "broken"
    assert (kept / str(live / ".env").lstrip("/")).read_text() == "A=bad"
    assert (kept / str(live / ".env").lstrip("/")).stat().st_mode & 0o777 == 0o600
    assert (kept / str(live / "compose.yaml").lstrip("/")).read_text() == "shadow", "Compose would read it first"
    assert not (live / "compose.yaml").exists()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert sorted(Path(path).name for path in done.replaced) == [".env", "compose.yml"]
    assert len(done.way_back) == 3
    assert not list(live.glob(".*lifeboat-*"))


def test_files_come_back_without_special_bits_and_without_links_that_lead_outside(
    backup: config.Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who held the host wrote the backup; it places no more than the project's own files."""
    live, whole = Path(backup.runtime.project_directory), configuration_restore.extract

    def hostile(repo: Any, identity: str, target: Path, **more: Any) -> Any:
        found = whole(repo, identity, target, **more)
        below = target / str(live).lstrip("/")
        entries = dict(found.entries)
        for name, mode, link in (("helper", 0o4755, ""), ("conf", 0o777, "/etc"), ("inside/file", 0o644, "")):
            (below / name).parent.mkdir(exist_ok=True)
            (below / name).symlink_to(link) if link else (below / name).write_text("x")
            kind = "link" if link else "file"
            entries[str(live / name)] = Entry(str(live / name), kind, mode, os.getuid(), os.getgid(), 0, target=link)
        return configuration_restore.Extracted(found.manifest, found.root, entries, found.missing)

    monkeypatch.setattr(configuration_restore, "extract", hostile)
    (tmp_path / "elsewhere").mkdir()
    (live / "inside").symlink_to(tmp_path / "elsewhere")
    done = redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    assert (live / "helper").stat().st_mode & 0o7777 == 0o755
    assert not os.path.lexists(live / "conf")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {Path(one.path).name for one in done.left} == {"helper", "conf", "file"}


def test_files_of_a_backup_that_failed_are_told(work: steps.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def put_back(run: Any, **options: Any) -> redeploy.Redeployed:
        asked.append((options["identity"], options["accept"]))
        return redeploy.Redeployed(("/srv/a",), (), (), "", (), backup="config_backup_x", failed="archive: cut")

    monkeypatch.setattr(redeploy, "redeploy", put_back)
    monkeypatch.setattr(steps, "keep_layers", lambda work: None)
    monkeypatch.setattr(steps, "_up", lambda *_: None)
    monkeypatch.setattr(steps.Work, "compose", lambda self: type("C", (), {"model": 0, "services": lambda self: ()})())
    monkeypatch.setattr(steps, "unmovable", lambda *_: False)
    work.identity, work.accept = "config_backup_x", True
    steps.redeploy(work)
    assert asked == [("config_backup_x", True)]
    (check,) = work.checks
    assert (check.result, check.detail) == (
        checks.COULD_NOT_VERIFY, "ACCEPTED although it failed: config_backup_x: archive: cut",
    )  # fmt: skip


def test_a_failed_configuration_is_a_candidate_if_it_is_named_and_accepted(tmp_path: Path) -> None:
    run, one = Opened(make_config(tmp_path)), publish_config(tmp_path, NOW)
    prove(tmp_path, one, checks.FAIL)
    found, why = redeploy.available(run, one.id)
    assert (found, why) == (None, "verification at level restore failed (tables: x)")
    with pytest.raises(IntegrityError, match="-e accept=failed"):
        redeploy.candidates(run, one.id)
    accepted, why = redeploy.available(run, one.id, accept=True)
    assert accepted is not None
    assert (accepted.id, accepted.failed, why) == (one.id, "verification at level restore failed (tables: x)", "")
    assert redeploy.available(run)[0] is None, "unnamed it is not taken"


def test_without_the_key_the_secret_files_stay_and_that_is_said(backup: config.Config) -> None:
    live = Path(backup.runtime.project_directory)
    done = redeploy.redeploy(Opened(backup), identity="latest", key="", stamp="S", log=lambda _: None)
    assert (live / ".env").read_text() == "A=bad"
    assert done.missing == (str(live / ".env"),)


def test_where_nothing_differs_there_is_nothing_to_put_back(backup: config.Config) -> None:
    def again(stamp: str, key: str = "AGE") -> Any:
        return redeploy.redeploy(Opened(backup), identity="latest", key=key, stamp=stamp, log=lambda _: None)

    again("S")
    with pytest.raises(NotFoundError, match="the files are those of the backup already"):
        again("T")
    with pytest.raises(NotFoundError, match=r"\.env stayed sealed: give -e identity_file="):
        again("U", key="")
    assert not (backup.state / "quarantine/T").exists()


def test_the_backup_is_held_until_its_files_are_in_place(
    backup: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune after kill -9 leaves the same command what it had chosen."""

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    store = repositories.from_settings(backup.repository, backup.secrets)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(redeploy, "_bring", killed)
        redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    ((identity, hold),) = store.holds().items()
    found = retention.hold_of(identity, "shop", hold, datetime.now(timezone.utc))
    assert identity == "config_backup_20261124_033000" and found and "recover_backend" in found.detail
    redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    assert store.holds() == {}


def test_a_link_is_kept_as_a_link(backup: config.Config, tmp_path: Path) -> None:
    live = Path(backup.runtime.project_directory)
    (tmp_path / "elsewhere").write_text("A=theirs")
    (live / ".env").unlink()
    (live / ".env").symlink_to(tmp_path / "elsewhere")
    done = redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    assert (tmp_path / "elsewhere").read_text() == "A=theirs", "what it points to is not written through"
    assert (Path(done.quarantine) / str(live / ".env").lstrip("/")).is_symlink()
    assert not (live / ".env").is_symlink()


def test_a_link_that_the_owner_puts_there_meanwhile_is_not_followed(
    backup: config.Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    live, roots, looked = Path(backup.runtime.project_directory), tmp_path / "etc", allowed.Allowed.way_out
    for directory, text in ((roots, "root's"), (live / "new", "mine")):
        directory.mkdir()
        (directory / "new.conf").write_text(text)

    def swapped(self: allowed.Allowed, path: str, *more: str) -> str:
        found = looked(self, path, *more)
        if path.endswith("new.conf") and not (live / "old").exists():
            (live / "new").rename(live / "old")
            (live / "new").symlink_to(roots)
        return found

    monkeypatch.setattr(allowed.Allowed, "way_out", swapped)
    with pytest.raises(IntegrityError, match=r"Could not put the file back \(.*/new\.conf\)"):
        redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    assert (roots / "new.conf").read_text() == "root's"
    assert (live / "old/new.conf").read_text() == "mine"
    assert len(list(roots.iterdir())) == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["one file system", "another file system"])
@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file_is_moved_into_the_quarantine(
    backup: config.Config, monkeypatch: pytest.MonkeyPatch, kind: str, elsewhere: bool
) -> None:
    """Docker makes a directory where the file of a bind mount lacks."""
    live = Path(backup.runtime.project_directory) / "compose.yml"
    live.unlink()
    if kind == "directory":
        live.mkdir()
        (live / "inside").write_text("kept")
    else:
        os.mkfifo(live)

    def rename(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if elsewhere:
        monkeypatch.setattr(os, "rename", rename)
    done = redeploy.redeploy(Opened(backup), identity="latest", key="AGE", stamp="S", log=lambda _: None)
    kept = Path(done.quarantine) / str(live).lstrip("/")
    assert (kept / "inside").read_text() == "kept" if kind == "directory" else kept.is_fifo()
    assert live.read_text() == "right"


def test_an_engine_is_started_or_restarted_and_waited_for(
    work: steps.Work, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_host, "engine_problem", lambda: "")
    runner.expect("^systemctl show", "LoadState=loaded\nActiveState=inactive\nResult=success")
    runner.expect("^systemctl")
    steps.engine(work)
    assert runner.ran[-1] == "systemctl start docker.service"
    runner.answers.insert(0, ("^systemctl show", "LoadState=loaded\nActiveState=active\nResult=success"))
    steps.engine(work)
    assert runner.ran[-1] == "systemctl restart docker.service"


def test_the_units_seen_of_the_engine(runner: Runner) -> None:
    runner.expect("docker.service", "LoadState=masked\nActiveState=failed\nResult=exit-code")
    assert backend_host.unit() == ("docker.service", "masked, failed, exit-code")
    runner.answers[:] = [("systemctl", "LoadState=not-found\nActiveState=inactive")]
    assert backend_host.unit() == ("", "")
