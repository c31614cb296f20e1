# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a stack's state: the engine's answers are given, the directories are real."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import contents, mounts, runtime, state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from builders import BUCKET, Runner, make_config

ID = "0123456789abcdef" * 4


class World:
    """A project in a directory of its own, and the engine's volumes."""

    def __init__(self, root: Path, runner: Runner) -> None:
        self.root, self.runner = root, runner
        self.project = root / "project"
        self.project.mkdir()
        (self.project / "compose.yml").write_text("services: {}\n", encoding="utf-8")
        self.services: dict[str, Any] = {"db": {"volumes": [volume("data", "/var/lib/postgresql/data")]}}
        self.hidden: dict[str, Any] = {}  # of profiles
        self.containers: list[dict[str, Any]] = []
        self.volumes: dict[str, dict[str, Any]] = {}
        self.broken: dict[str, tuple[int, str, str]] = {}
        cluster(self.make("shop_data"))

    def make(self, name: str, **facts: Any) -> Path:
        path = self.root / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        self.volumes[name] = {"Name": name, "Driver": "local", "Mountpoint": str(path), "Options": None, **facts}
        return path

    def inventory(self, **changes: Any) -> StateInventory:
        runtime_ = {"project_directory": str(self.project)}
        config = make_config(self.root, **{"runtime": runtime_, "config": {"recipients": [AGE]}, **changes})
        self.answers()
        found = mounts.inventory(Opened(config))
        assert found is not None
        return found

    def answers(self) -> None:
        expect, self.runner.answers = self.runner.expect, []
        names = {name: {"name": f"shop_{name}"} for name in ("data", "media", "cache", "store", "hidden")}
        for words, answer in self.broken.items():
            expect(words, answer)
        plain = {"name": "shop", "services": self.services, "volumes": names}
        expect("--profile .* --no-interpolate", json.dumps({"services": {}}))
        expect("--profile", json.dumps({**plain, "services": {**self.services, **self.hidden}}))
        expect("config --format json$", json.dumps(plain))
        expect("^docker ps .*oneoff=True", "")
        expect("^docker ps .*working_dir|^docker ps .*Label", "")
        expect("^docker ps .*service=", "")
        expect("^docker ps ", "\n".join(one["Id"] for one in self.containers))
        expect("^docker inspect ", json.dumps(self.containers))
        expect("^docker volume inspect --format", "/nowhere")
        expect("^docker volume ls ", "\n".join([*self.volumes, "of_another_stack"]))
        expect("^docker volume inspect ", json.dumps(list(self.volumes.values())))

    def run(self, service: str, *mounted: dict[str, Any]) -> None:
        labels = {"com.docker.compose.service": service, "com.docker.compose.project": "shop"}
        self.containers.append(
            {"Id": f"c{len(self.containers)}", "Config": {"Labels": labels}, "Mounts": list(mounted)}
        )


AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def volume(source: str, target: str, **more: Any) -> dict[str, Any]:
    return {"type": "volume", "source": source, "target": target, **more}


def bind(source: object, target: str, **more: Any) -> dict[str, Any]:
    return {"type": "bind", "source": str(source), "target": target, **more}


def mounted(kind: str, name: str, destination: str, *, source: str = "", writable: bool = True) -> dict[str, Any]:
    return {"Type": kind, "Name": name, "Source": source, "Destination": destination, "RW": writable}


def cluster(path: Path, version: str = "17") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "PG_VERSION").write_text(f"{version}\n", encoding="ascii")
    return path


def database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE t (x)")
    return path


@pytest.fixture
def world(tmp_path: Path, runner: Runner) -> World:
    return World(tmp_path, runner)


def by_name(found: StateInventory) -> dict[str, StateMount]:
    return {mount.name: mount for mount in found.mounts}


def test_a_volume_with_fifty_files_that_nobody_chose_is_in_no_backup(world: World) -> None:
    """The false green of every version before: a named volume of the application, and not one word."""
    files = world.make("shop_media")
    for number in range(50):
        (files / f"{number}.jpg").write_bytes(b"\xff\xd8")
    world.services["web"] = {"volumes": [volume("media", "/srv/media")]}
    found = world.inventory()
    assert found.check.result == COULD_NOT_VERIFY
    assert "the volume media (web:/srv/media) is in no backup: no component protects it" in found.check.detail
    assert found.counts == {"protected": 1, "excluded": 0, "unprotected": 1}
    assert found.table[0] == "IN NO BACKUP: the volume media (web:/srv/media): no component protects it"
    assert found.table[1].startswith(
        "protected by database: the volume data (db:/var/lib/postgresql/data, PostgreSQL 17)"
    )
    assert found.untested == ()


def test_excluded_by_name_it_is_named_every_time_and_lowers_nothing(world: World) -> None:
    world.make("shop_cache")
    world.services["web"] = {"volumes": [volume("cache", "/cache")]}
    exclude = {"exclude": [{"name": "cache", "reason": "made again from the rows"}]}
    found = world.inventory(mounts=exclude)
    assert found.check.result == PASS
    words = "excluded by name: the volume cache (web:/cache): made again from the rows"
    assert found.check.detail == f"1 protected (data); {words}"
    assert [(gap.what, gap.why) for gap in found.untested] == [
        ("the volume cache (web:/cache)", "excluded by name: made again from the rows")
    ]
    # by the engine's name too; and a name that is of no mount is told
    again = world.inventory(mounts={"exclude": [{"name": n, "reason": "r"} for n in ("shop_cache", "gone")]})
    assert by_name(again)["cache"].protection == "excluded"
    assert again.unused == ("gone",)
    assert again.check.result == PASS
    assert "lifeboat_mounts.exclude names gone, which matches no mount of the stack" in again.check.detail
    # What was excluded when the inventory was taken, and is not any more
    assert found.judged(make_config(world.root)).check.result == COULD_NOT_VERIFY
    assert found.judged(make_config(world.root, mounts=exclude)).check.result == PASS


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "", "reason": "r"}, "exclude[0].name"),
        ({"name": "a", "reason": " "}, "exclude[0].reason"),
        ({"name": "a", "reason": "..."}, "exclude[0].reason"),
        ({"name": "a", "why": "r"}, "does not know why"),
    ],
)
def test_an_exclusion_has_a_name_and_a_reason(tmp_path: Path, entry: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_config(tmp_path, mounts={"exclude": [entry]})
    assert words in str(raised.value)
    twice = {"exclude": [{"name": "a", "reason": "r"}] * 2}
    with pytest.raises(UsageError, match="used once"):
        make_config(tmp_path, mounts=twice)


def redis(path: Path) -> None:
    (path / "dump.rdb").write_bytes(b"REDIS0011")


def appendonly(path: Path) -> None:
    (path / "appendonlydir").mkdir()


def innodb(name: str) -> Any:
    def write(path: Path) -> None:
        (path / "ibdata1").write_bytes(b"\0")
        if name:
            (path / name).write_bytes(b"\0")

    return write


# (what lies there, the servers as a person reads them)
SERVERS: list[tuple[Any, tuple[str, ...]]] = [
    (cluster, ("PostgreSQL 17",)),
    (lambda path: cluster(path / "18" / "docker", "18"), ("PostgreSQL 18 in 18/docker",)),
    (lambda path: cluster(path, "9.6"), ("PostgreSQL 9.6",)),
    (innodb("aria_log_control"), ("MariaDB",)),
    (innodb("mysql.ibd"), ("MySQL",)),
    (innodb(""), ("MySQL or MariaDB",)),
    (redis, ("Redis or Valkey",)),
    (appendonly, ("Redis or Valkey",)),
    (lambda path: (path / "WiredTiger").write_bytes(b"WiredTiger 11"), ("MongoDB",)),
    (lambda path: (path / ".minio.sys").mkdir(), ("MinIO",)),
    (lambda path: database(path / "a" / "b.db"), ("SQLite in a/b.db",)),
    (lambda path: [database(path / f"{n}.db") for n in range(7)], ("SQLite in ",)),
    (lambda path: (path / "notes.db").write_bytes(b"SQLite format 2\0"), ()),
    (lambda path: (path / "PG_VERSION").write_bytes(b"# not a version\n"), ()),
    (lambda path: None, ()),
]


@pytest.mark.parametrize(("fill", "servers"), SERVERS)
def test_a_server_is_known_by_what_lies_in_its_data(world: World, fill: Any, servers: tuple[str, ...]) -> None:
    fill(world.make("shop_media"))
    world.services["other"] = {"image": "busybox", "volumes": [volume("media", "/x")]}
    found = by_name(world.inventory())["media"]
    assert found.protection == "unprotected"
    if servers == ("SQLite in ",):
        assert found.servers[0].endswith(" and 2 more")
        assert found.servers[0].startswith("SQLite in ")
    else:
        assert found.servers == servers
    assert found.unseen == ""


def test_profiles_stopped_services_runs_and_containers_that_the_model_does_not_know(world: World) -> None:
    world.make("shop_hidden")
    world.hidden["batch"] = {"volumes": [volume("hidden", "/work")]}
    world.run("gone", mounted("volume", "shop_old", "/old"), mounted("volume", ID, "/anonymous"))
    world.run("db", mounted("volume", "shop_data", "/var/lib/postgresql/data"))
    found = by_name(world.inventory())
    assert found["hidden"].uses == ("batch:/work",)
    assert found["shop_old"].unseen == "the engine has no such volume (yet)"
    assert found["gone:/anonymous"].type == "anonymous volume"
    assert found["gone:/anonymous"].protection == "unprotected"
    assert found["data"].uses == ("db:/var/lib/postgresql/data",), "the model's and the container's are one"
    excluded = world.inventory(mounts={"exclude": [{"name": "gone:/anonymous", "reason": "a cache"}]})
    assert by_name(excluded)["gone:/anonymous"].protection == "excluded"


def test_an_anonymous_volume_is_one_whatever_its_container_calls_it(world: World) -> None:
    path = world.make(ID)
    redis(path)
    world.services["cache"] = {"volumes": [{"type": "volume", "target": "/data"}]}
    world.run("cache", mounted("volume", ID, "/data"))
    found = by_name(world.inventory())
    assert found["cache:/data"].servers == ("Redis or Valkey",)
    assert found["cache:/data"].display == "the anonymous volume cache:/data, Redis or Valkey"


def test_an_anonymous_volume_that_an_image_asks_for_and_nobody_uses_is_no_state(world: World) -> None:
    path = world.make(ID)
    world.run("cache", mounted("volume", ID, "/data"))
    found = by_name(world.inventory())["cache:/data"]
    assert (found.protection, found.why) == ("no state", "it is empty: an image asks for it, and nothing is kept there")
    (path / "a").write_bytes(b"")
    assert by_name(world.inventory())["cache:/data"].protection == "unprotected"
    world.make("shop_media")
    world.services["web"] = {"volumes": [volume("media", "/media")]}
    assert by_name(world.inventory())["media"].protection == "unprotected", "somebody gave it a name"


def test_binds(world: World) -> None:
    inside, outside = world.project / "uploads", world.root / "outside"
    conf = world.project / "nginx.conf"
    inside.mkdir()
    outside.mkdir()
    conf.write_text("x", encoding="ascii")
    world.services["web"] = {
        "volumes": [
            bind(inside, "/uploads"),
            bind(outside, "/more", read_only=True),
            bind(conf, "/etc/nginx.conf", read_only=True),
            bind("/etc/localtime", "/etc/localtime", read_only=True),
            bind("/etc/ssl", "/etc/ssl"),
            bind("/proc", "/host/proc"),
            {"type": "tmpfs", "target": "/tmp"},
            {"type": "image", "source": "busybox", "target": "/image"},
        ]
    }
    found = by_name(world.inventory())
    states = {name: (mount.protection, mount.by) for name, mount in found.items()}
    assert states == {
        "data": ("protected", "database"),
        str(inside): ("unprotected", ""),
        str(outside): ("unprotected", ""),
        str(conf): ("protected", "config"),
        "/etc/localtime": ("no state", ""),
        "/etc/ssl": ("unprotected", ""),
        "/proc": ("no state", ""),
    }
    assert found["/etc/localtime"].why == "the host's own, and only read"
    named = world.inventory(config={"recipients": [AGE], "files": [str(inside)]})
    assert by_name(named)[str(inside)].by == "config"
    off = by_name(world.inventory(config={"enabled": False}))
    assert off[str(conf)].protection == "unprotected", "no configuration backup is taken"


def test_a_socket_is_no_state(world: World) -> None:
    path = Path(f"/tmp/lifeboat-state-{os.getpid()}.sock")  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        try:
            world.services["proxy"] = {"volumes": [bind(path, "/var/run/docker.sock")]}
            found = by_name(world.inventory())[str(path)]
        finally:
            path.unlink()
    assert (found.protection, found.why) == ("no state", "a socket or device, which holds no data")


def test_a_disk_is_state_wherever_it_is(world: World) -> None:
    """A database may keep its data on a block device, and removable disks are mounted below /run."""
    disks = [str(path) for path in Path("/dev").iterdir() if path.is_block_device()][:1]
    if not disks:
        pytest.skip("NOT CHECKED: this machine shows no block device")
    paths = [*disks, "/run/media/operator/archive"]
    world.services["store"] = {"volumes": [bind(Path(path), f"/disks/{number}") for number, path in enumerate(paths)]}
    found = by_name(world.inventory())
    assert {path: found[path].protection for path in paths} == dict.fromkeys(paths, "unprotected")
    assert found[disks[0]].unseen == "it is a block device, whose data is not read"


def test_a_volume_of_sockets_alone_is_no_state(world: World) -> None:
    run = world.make("shop_media")
    with contextlib.ExitStack() as stack:
        directory = os.open(run, os.O_RDONLY)
        stack.callback(os.close, directory)
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(f"/proc/self/fd/{directory}/s")
        world.services["web"] = {"volumes": [volume("media", "/run/app")]}
        assert by_name(world.inventory())["media"].why == "it holds sockets only"
        (run / "data").write_bytes(b"x")
        assert by_name(world.inventory())["media"].protection == "unprotected"


def test_secret_files_are_protected_only_where_somebody_can_open_them(world: World) -> None:
    key = world.project / "key.pem"
    key.write_text("x", encoding="ascii")
    world.services["web"] = {"volumes": [bind(key, "/key.pem", read_only=True)]}
    without = by_name(world.inventory(config={}))[str(key)]
    assert (without.protection, without.why) == (
        "unprotected",
        "a secret file, and lifeboat_config.recipients names no key",
    )
    elsewhere = world.inventory(config={"secrets": "elsewhere"})
    assert by_name(elsewhere)[str(key)].protection == "excluded"
    assert elsewhere.check.result == PASS
    assert elsewhere.judged(make_config(world.root)).check.result == PASS, "it is not excluded by name"


def test_a_database_at_work_is_not_protected_by_a_copy_of_its_files(world: World) -> None:
    path = database(world.project / "data" / "app.db").parent
    world.services["web"] = {"volumes": [bind(path, "/data")]}
    found = by_name(world.inventory(config={"recipients": [AGE], "files": [str(path)]}))[str(path)]
    assert found.protection == "unprotected"
    assert found.why.startswith("a configuration backup copies its files one after the other")
    world.services["web"] = {"volumes": [bind(path, "/data", read_only=True)]}
    read = by_name(world.inventory(config={"recipients": [AGE], "files": [str(path)]}))[str(path)]
    assert read.by == "config"


def test_the_stores_volumes(world: World) -> None:
    world.make("shop_store")
    (world.make("shop_media") / ".minio.sys").mkdir()
    world.services["objects"] = {"volumes": [volume("store", "/data"), volume("media", "/data2")]}
    objects = {**BUCKET, "objects": {**BUCKET["objects"], "service": "objects", "data_directory": "/data"}}
    found = by_name(world.inventory(**objects))
    assert {name: found[name].by for name in ("data", "store", "media")} == {
        "data": "database", "store": "objects", "media": "objects",
    }  # fmt: skip
    without = by_name(world.inventory())
    assert without["store"].protection == "unprotected", "no bucket is backed up"
    world.services["web"] = {"volumes": [volume("store", "/files")]}
    shared = by_name(world.inventory(**objects))["store"]
    assert shared.protection == "unprotected"
    assert shared.why == "the store's objects lie in it, and web may keep files there too"


def test_a_volume_of_the_database_that_another_service_writes_to(world: World) -> None:
    world.services["web"] = {"volumes": [volume("data", "/all")]}
    assert by_name(world.inventory())["data"].by == "database", "it is the server's data and nothing else"
    data = world.volumes["shop_data"]["Mountpoint"]
    (Path(data) / "PG_VERSION").unlink()
    found = by_name(world.inventory())["data"]
    assert found.why == "the database's data lies in it, and web may keep files there too"
    world.services["web"] = {"volumes": [volume("data", "/all", read_only=True)]}
    assert by_name(world.inventory())["data"].by == "database"


def test_a_container_with_another_volume_than_the_model_says(world: World) -> None:
    """The volume was renamed in the Compose file, and nobody has made the container again."""
    cluster(world.make("shop_old"))
    world.run("db", mounted("volume", "shop_old", "/var/lib/postgresql/data"), mounted("volume", "shop_x", "/var/lib"))
    found = by_name(world.inventory())
    assert {name: found[name].by for name in ("data", "shop_old", "shop_x")} == {
        "data": "database", "shop_old": "database", "shop_x": "",
    }  # fmt: skip


def test_tablespaces_and_write_ahead_log_in_volumes_of_their_own(world: World) -> None:
    data = Path(world.volumes["shop_data"]["Mountpoint"])
    (data / "pg_tblspc").mkdir()
    (data / "pg_tblspc" / "16400").symlink_to("/spaces/fast")
    (data / "pg_wal").symlink_to("/wal/17")
    world.make("shop_media")
    world.make("shop_store")
    world.make("shop_cache")
    more = [volume("media", "/spaces"), volume("store", "/wal"), volume("cache", "/backup")]
    world.services["db"]["volumes"] += more
    found = by_name(world.inventory())
    assert {name: found[name].by for name in ("media", "store", "cache")} == {
        "media": "database", "store": "database", "cache": "",
    }  # fmt: skip


def test_drivers_that_are_not_local_and_local_ones_with_options(world: World) -> None:
    elsewhere = world.root / "elsewhere"
    database(elsewhere / "a.db")
    world.make("shop_media", Driver="rclone", Mountpoint="/var/lib/nowhere")
    world.make("shop_store", Options={"type": "none", "o": "bind", "device": str(elsewhere)})
    world.make("shop_cache", Options={"type": "tmpfs", "device": "tmpfs"})
    world.services["web"] = {"volumes": [volume("media", "/a"), volume("store", "/b"), volume("cache", "/c")]}
    found = by_name(world.inventory())
    assert found["media"].unseen == "it is of the volume driver rclone, whose data is not read from here"
    assert found["media"].protection == "unprotected"
    assert found["store"].servers == ("SQLite in a.db",)
    assert (found["cache"].protection, found["cache"].why) == ("no state", "it is in memory")


def test_what_could_not_be_looked_at_is_never_green(world: World) -> None:
    world.broken = {"^docker ps ": (1, "", "Cannot connect to the Docker daemon")}
    found = world.inventory()
    assert found.check.result == COULD_NOT_VERIFY
    assert "the containers could not be looked at" in found.check.detail
    assert by_name(found)["data"].by == "database", "by the model, which needs no engine"
    world.broken = {"--profile": (1, "", "no such file: extra.yml")}
    found = world.inventory()
    assert "the services of inactive profiles could not be read" in found.check.detail
    assert by_name(found)["data"].by == "database"
    world.broken = {"config --format json": (1, "", "yaml: line 3")}
    found = world.inventory()
    assert "the Compose project could not be read" in found.check.detail
    world.broken = {"^docker volume inspect shop": (0, "not JSON", "")}
    assert "the volumes could not be looked at: it is not JSON" in world.inventory().check.detail
    world.broken = {"^docker volume ls": (1, "", "permission denied")}
    found = world.inventory()
    assert "the volumes could not be looked at: docker: permission denied (exit 1)" in found.check.detail
    assert by_name(found)["data"].by == "database"
    assert by_name(found)["data"].unseen == "the engine could not be asked for it"


def test_a_project_that_is_known_by_its_name_alone_is_what_its_containers_are(world: World) -> None:
    world.broken = {"config --format json": (1, "", "no configuration file provided")}
    world.run("db", mounted("volume", "shop_data", "/var/lib/postgresql/data"), mounted("volume", "shop_x", "/x"))
    found = world.inventory(runtime={"project": "shop"}, config={"enabled": False})
    assert found.problems == ()
    assert {mount.name: mount.protection for mount in found.mounts} == {
        "shop_data": "protected", "shop_x": "unprotected",
    }  # fmt: skip


def test_neither_units_of_systemd_nor_a_keeper_have_mounts_of_ours(tmp_path: Path, runner: Runner) -> None:
    host = make_config(tmp_path, runtime={"type": "host"})
    assert mounts.inventory(Opened(host)) is None
    source = {"mounted": "/mnt/pulled", "directory": "/"}
    keeper = make_config(tmp_path, keeper={"directory": str(tmp_path / "keeper"), "source": source})
    assert isinstance(Opened(keeper).runtime, runtime.ComposeRuntime)
    assert mounts.inventory(Opened(keeper)) is None
    assert runner.ran == []


def test_hostile_names_are_printable_and_can_be_excluded(world: World) -> None:
    bad = world.root / "a\n\x1b[31mb"
    bad.mkdir()
    database(bad / "x\ny.db")
    world.services["web"] = {"volumes": [bind(bad, "/x")]}
    found = world.inventory()
    assert all(row.isprintable() for row in found.table)
    assert found.check.detail.isprintable()
    shown = f"{world.root}/a\\n\\x1b[31mb"
    excluded = world.inventory(mounts={"exclude": [{"name": shown, "reason": "r"}]})
    assert by_name(excluded)[shown].protection == "excluded"


def read(path: Path, **more: Any) -> contents.Contents:
    return contents.read(path, **more)


def test_nothing_is_followed_out(tmp_path: Path) -> None:
    database(tmp_path / "out" / "a.db")
    cluster(tmp_path / "pg")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "dir").symlink_to(tmp_path / "out")
    (tree / "file").symlink_to(tmp_path / "out" / "a.db")
    (tree / "PG_VERSION").symlink_to(tmp_path / "pg" / "PG_VERSION")
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "dump.rdb")
    os.mkfifo(tree / "ibdata1")
    os.mkfifo(tree / "pipe")
    assert read(tree).servers == ()
    assert read(tree).problem == ""


def test_a_directory_that_turns_into_a_link_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database(tmp_path / "out" / "a.db")
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    real = filesystem.descend

    def turned(top: Path, parts: tuple[str, ...], **more: Any) -> int:
        if parts == ("dir",):
            (tree / "dir").rmdir()
            (tree / "dir").symlink_to(tmp_path / "out")
        return real(top, parts, **more)

    monkeypatch.setattr(filesystem, "descend", turned)
    found = read(tree)
    assert (tree / "dir").is_symlink()
    assert (found.servers, found.problem) == ((), "")


def test_a_million_entries_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a directory that gives entries for ever; what a server's own file says is known all the same."""
    read_: list[int] = []

    class Endless:
        def __enter__(self) -> Iterator[Any]:
            return self.entries()

        def __exit__(self, *_: object) -> None:
            return None

        def entries(self) -> Iterator[Any]:
            number = 0
            while True:
                number += 1
                read_.append(number)
                yield Entry(f"f{number}")

    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            assert not follow_symlinks
            return False

        is_symlink = is_file = lambda self, **_: False  # type: ignore[assignment]

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError

    (tmp_path / "dump.rdb").write_bytes(b"REDIS")
    monkeypatch.setattr(os, "scandir", lambda at: Endless())
    found = read(tmp_path, seconds=60)
    assert len(read_) == contents.ENTRIES + 1
    assert found.partly == f"only its first {contents.ENTRIES} entries were read"
    assert [server.text for server in found.servers] == ["Redis or Valkey"]
    found = read(tmp_path, seconds=0.05)
    assert found.partly.startswith("only ")


def test_deep_trees_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    deep = tmp_path.joinpath("deep", *["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a.db").write_bytes(b"SQLite format 3\0")
    found = read(tmp_path / "deep")
    assert (found.servers, found.partly) == ((), f"only its first {contents.LEVELS} levels were read")
    assert read(tmp_path / "none").problem == "it could not be read: No such file or directory"
    assert read(Path("/dev/zero")).special
    empty = tmp_path / "empty"
    empty.mkdir()
    assert read(empty).empty


def test_a_file_system_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(contents, "_PATIENCE", 0.1)
    monkeypatch.setattr(contents, "_read", lambda path, seconds: released.wait(30))
    began = time.monotonic()
    try:
        found = read(tmp_path, seconds=0.1)
    finally:
        released.set()
    assert found.problem == "its file system did not answer within 0.2 s"
    assert time.monotonic() - began < 5


def test_time_for_all_mounts_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "SECONDS", 0.0)
    found = by_name(world.inventory())
    assert found["data"].unseen == "there was no time left, of 0 s for all mounts"
    assert found["data"].by == "database", "what protects it is known by the configuration"
    assert "not all of it was read" in found["data"].row


def test_so_many_mounts_that_not_all_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOST", 3)
    world.services["web"] = {"volumes": [bind(f"/srv/{number}", f"/{number}") for number in range(9)]}
    found = world.inventory()
    assert len(found.mounts) == 3
    assert found.check.result == COULD_NOT_VERIFY
    assert "the stack has 10 mounts, of which 3 were looked at" in found.check.detail


def test_warnings_say_it_where_no_verdict_may_be_lowered(world: World) -> None:
    world.make("shop_media")
    world.services["web"] = {"volumes": [volume("media", "/srv/media")]}
    assert world.inventory().warnings == [
        f"the volume media (web:/srv/media) is in no backup: no component protects it; {state.REMEDY}"
    ]
    assert world.inventory().without(["web"]).check.result == PASS
    assert world.inventory().without(["db"]).check.result == COULD_NOT_VERIFY


def test_in_a_manifest_it_has_a_size_that_a_keeper_takes(world: World) -> None:
    """A keeper takes 64 KiB of details, whatever the names are."""
    long = "é" * 200
    world.services["web"] = {"volumes": [bind(f"/srv/{number}/{long}", f"/{number}") for number in range(300)]}
    found = world.inventory()
    short = found.limited(16_000)
    assert len(json.dumps(typed.plain(short))) < 20_000
    assert {mount.protection for mount in short.mounts} == {"unprotected"}
    assert short.check.result == COULD_NOT_VERIFY
    assert f"{300 - len(short.mounts)} more mounts are in no backup" in short.check.detail
    name = f"/srv/0/{long}{long}"
    world.services["web"] = {"volumes": [bind(name, "/0")]}
    exclude = {"exclude": [{"name": name, "reason": "r"}]}
    excluded = world.inventory(mounts=exclude).limited(16_000).judged(make_config(world.root, mounts=exclude))
    assert (excluded.counts["excluded"], excluded.unused) == (1, ())
    world.services["web"] = {}
    assert world.inventory().limited(16_000) == world.inventory()
    assert world.inventory().limited(10).check.result == PASS, "what is protected needs no room"


def test_a_stack_that_mounts_nothing(world: World) -> None:
    world.services["db"] = {}
    assert world.inventory().check.detail == "the stack mounts nothing that keeps state"
    found: Optional[StateInventory] = StateInventory()
    assert found is not None
    assert found.check.result == PASS
