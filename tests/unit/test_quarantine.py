# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in quarantine is listed as it is there now, and goes only by its name and a word that it is sure."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Made
from ansible_collections.lifeboat.dr.plugins.module_utils.files import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import quarantine
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.quarantine import Item
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import RECOVERING_OBJECTS
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket as s3_bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client as s3_client
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import FileSource, FilesSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import quarantine as stack_quarantine
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened
from builders import BUCKET, Run, Runner, make_config, settings
from object_world import FakeBucket, failure

STAMP, SINCE = "20261121_120000", datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
NOW = SINCE + timedelta(days=3)
DATABASE, VOLUME = f"shop_quarantine_{STAMP}", f"shop_data_quarantine_{STAMP}"
BUCKET_NAME = "uploads-quarantine-20261121-120000"


class Server:
    """Databases and their sizes, as the server has them."""

    def __init__(self) -> None:
        somebody_s = f"wiki_quarantine_{STAMP}"
        self.databases = {"shop": 9, "postgres": 7, DATABASE: 350_000_000, "shop_quarantine_old": 1, somebody_s: 1}
        self.made = Made()
        for name in (DATABASE, "shop_quarantine_old"):
            self.made.add(name)
        self.error: LifeboatError | None = None
        self.busy = False

    def execute(self, sql: str, **_: Any) -> list[object]:
        if self.error:
            raise self.error
        if sql.startswith("DROP"):
            if self.busy:
                raise LifeboatError("drop it", "x", "database is being accessed by other users")
            self.databases = {name: size for name, size in self.databases.items() if f'"{name}"' not in sql}
            return []
        return [{"name": name, "size": size} for name, size in self.databases.items()]

    alter = execute


class World:
    """A stack with one of everything in quarantine, and much that only looks like it."""

    def __init__(self, root: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.runner, self.server = make_config(root, **BUCKET), runner, Server()
        self.volume = root / VOLUME / "_data"
        self.data = root / "objects"
        self.replaced = self.config.state / "quarantine" / STAMP
        self.directory = root / f"objects.quarantine_{STAMP}"
        for folder in (self.volume, self.data, self.replaced, self.directory, root / f"other.quarantine_{STAMP}"):
            folder.mkdir(parents=True)
            (folder / "file").write_bytes(b"x" * 8192)
        self.volumes = {VOLUME: self.volume, "shop_cache": root}
        self.bucket = FakeBucket(
            aside={BUCKET_NAME: {"a": b"12345", "b": b"123"}, "other-quarantine-20261121-120000": {}}
        )
        self.docker: tuple[int, str, str] | None = None
        monkeypatch.setattr(database_server, "of", lambda run: self.server)
        monkeypatch.setattr(quarantine, "objects_mount", lambda *_: DataMount("bind", "", self.data))
        monkeypatch.setattr(quarantine, "database_mount", lambda *_: DataMount("volume", "shop_data", root / "other"))
        monkeypatch.setattr(buckets, "source", lambda run: self.bucket)
        monkeypatch.setattr(s3_bucket, "objects", self.listed)
        monkeypatch.setattr(s3_bucket, "names", lambda bucket: [bucket.name, *bucket.aside])
        monkeypatch.setattr(s3_client, "purge", lambda *_: [])
        runner.expect(r"volume ls --quiet --filter label=lifeboat.quarantine=shop$", "\n".join(self.volumes))
        places = "".join(f"{name} {place}\n" for name, place in self.volumes.items())
        runner.expect(r"volume inspect --format \{\{.Name\}\} \{\{.Mountpoint\}\} ", places)
        runner.expect(r"volume rm ")

    def listed(self, bucket: FakeBucket) -> Any:
        for key, body in list(bucket.aside[bucket.name].items()):
            yield s3_bucket.Version(key, len(body), "", SINCE)

    def look(self) -> quarantine.Contents:
        return quarantine.survey(Opened(self.config), now=NOW)

    def remove(self, kind: str, name: str, *, sure: bool = True) -> Item:
        return quarantine.remove(Opened(self.config), kind, name, sure=sure, now=NOW, log=lambda _: None)


@pytest.fixture
def world(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, runner, monkeypatch)


def test_everything_is_listed_and_nothing_that_only_looks_like_it(world: World) -> None:
    seen = world.look()
    assert (seen.unseen, [(item.kind, item.name, item.at) for item in seen.items]) == (
        (),
        [
            ("database", DATABASE, SINCE),
            ("volume", VOLUME, SINCE),
            ("directory", str(world.directory), SINCE),
            ("directory", str(world.replaced), SINCE),
            ("bucket", BUCKET_NAME, SINCE),
        ],
    )
    assert [item.size for item in seen.items] == [350_000_000, 8192, 8192, 8192, 8]
    head, first = seen.lines()[:2]
    assert head.split() == ["QUARANTINE", "KIND", "AGE", "SIZE", "REMOVE", "IT", "FOR", "GOOD"]
    command = f"lifeboat quarantine remove database {DATABASE} --yes --stack shop"
    assert first.split(maxsplit=6)[1:] == ["database", "3", "d", "350", "MB", command]
    told: Any = seen.as_dict()["kept"]
    assert (told[0]["age_seconds"], told[0]["remove"]) == (3 * 86400, command)


def test_what_an_earlier_version_seems_to_have_put_aside_is_told_and_left_alone(world: World) -> None:
    """Only a name tells of it. It is in each backup, unless an operator excludes it."""
    name = f"wiki_quarantine_{STAMP}"
    told: Any = world.look().as_dict()["alike"]
    assert told == [{"name": name, "size": 1}]
    (line,) = [line for line in world.look().lines() if name in line]
    assert "looks like put aside by an earlier version" in line
    with pytest.raises(NotFoundError):
        world.remove("database", name)
    world.server.made.add(half := f"shop_restore_{STAMP}")
    world.server.databases[half] = 1
    assert len(world.look().alike) == 1, "what a killed run left is known"
    world.config = make_config(world.config.state.parent, **BUCKET, database={"name": "shop", "exclude": [name]})
    assert world.look().alike == ()


def test_a_name_cannot_make_a_line_of_its_own(world: World) -> None:
    hostile = f"x\nPASS  shop\u202e_quarantine_{STAMP}"
    world.server.databases[hostile] = 1
    world.server.made.add(hostile)
    (shown,) = [line for line in world.look().lines() if "PASS" in line]
    assert shown.startswith(f"'x\\nPASS  shop\\u202e_quarantine_{STAMP}'")


def test_nothing_is_said_to_be_nothing(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.databases = {"shop": 9, "shop_quarantine_old": 1}
    monkeypatch.setattr(database_server, "of", lambda run: server)
    runner.expect("volume ls")
    runner.expect("compose", (1, "", "no such project"))
    seen = quarantine.survey(Opened(make_config(tmp_path, runtime={"type": "host"})), now=NOW)
    assert (seen.items, seen.unseen, seen.lines()) == ((), (), ["nothing is in quarantine"])


def test_what_could_not_be_looked_at_is_named_with_its_reason(world: World) -> None:
    world.server.error = LifeboatError("reach PostgreSQL", "db", "the server does not run")
    world.bucket.error = failure("AccessDenied", 403)
    world.runner.answers.insert(0, ("volume ls", (1, "", "Cannot connect to the Docker daemon")))
    seen = world.look()
    assert [item.kind for item in seen.items] == ["directory", "directory"]
    assert [(check.name, check.result) for check in seen.unseen] == [
        (f"{kind} in quarantine", "COULD_NOT_VERIFY") for kind in ("database", "volume", "bucket")
    ]
    whys = [check.detail for check in seen.unseen]
    for why, words in zip(whys, ("the server does not run", "Cannot connect to the Docker daemon", "AccessDenied")):
        assert words in why
    assert "nothing is in quarantine" not in seen.lines()


NAMED = [("database", DATABASE), ("volume", VOLUME), ("directory", "objects"), ("bucket", BUCKET_NAME)]


@pytest.mark.parametrize(("kind", "name"), NAMED, ids=[kind for kind, _ in NAMED])
def test_it_goes_by_its_name_and_a_word_that_it_is_sure(world: World, kind: str, name: str) -> None:
    name = str(world.directory) if kind == "directory" else name
    before = world.look().items
    with pytest.raises(UsageError) as refused:
        world.remove(kind, name, sure=False)
    assert "would be gone for good" in str(refused.value)
    assert f"lifeboat quarantine remove {kind} {name} --yes" in str(refused.value)
    assert world.look().items == before
    assert not [words for words in world.runner.ran if " rm " in words]
    world.bucket.objects = {}
    assert world.remove(kind, name).name == name
    if kind == "volume":
        assert world.runner.ran[-1] == f"docker volume rm {VOLUME}"
    else:
        assert [item.name for item in before if item.name not in {left.name for left in world.look().items}] == [name]


OTHERS = [
    ("database", "shop", "the live one"), ("database", "shop_quarantine_old", "a name that no recovery gives"),
    ("database", VOLUME, "another kind's"), ("volume", "shop_cache", "a volume in use"),
    ("directory", "/", "everything"), ("directory", "objects", "the live data"), ("bucket", "uploads", "the live one"),
    ("bucket", "other-quarantine-20261121-120000", "another bucket's"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [case[:2] for case in OTHERS], ids=[case[2] for case in OTHERS])
def test_nothing_else_is_removed(world: World, kind: str, name: str) -> None:
    with pytest.raises(NotFoundError, match="nothing of that kind and name is there"):
        world.remove(kind, str(world.data) if name == "objects" else name)
    assert len(world.look().items) == 5


def test_what_was_copied_out_of_a_store_is_listed_once_no_recovery_waits_for_it(world: World) -> None:
    copies = world.config.state / f"buckets.quarantine_{STAMP}"
    copies.mkdir()
    (copies / "object").write_bytes(b"x" * 8192)

    def listed() -> list[str]:
        return [item.name for item in world.look().items if item.name.startswith(str(copies.parent / "buckets"))]

    assert listed() == [], "a copy without its index is of a run that was killed; the next one removes it"
    (copies / "index.json").write_text("{}")
    (world.config.state / RECOVERING_OBJECTS).touch()
    assert listed() == [], "the recovery that is to be run again takes it up"
    (copies / "settled").touch()
    assert listed() == [str(copies)]
    assert world.remove("directory", str(copies)).at == SINCE
    assert not copies.exists()


def test_what_a_recovery_of_files_replaced_is_listed_and_removed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies among the files. What only has such a name, and a link that an application made, is left alone."""
    data, elsewhere = tmp_path / "uploads", tmp_path / "elsewhere"
    kept = data / f".lifeboat-aside-{STAMP}"
    others = [".lifeboat-aside-20261122_120000", ".lifeboat-aside-20261123_120000", ".lifeboat-aside-of-somebody"]
    for folder in (kept / "2026", elsewhere, data / others[2]):
        folder.mkdir(parents=True)
    (kept / "2026" / "a.jpg").write_bytes(b"x" * 8192)
    (elsewhere / "precious").write_bytes(b"x")
    (data / others[0]).symlink_to(elsewhere)
    (data / others[1]).write_bytes(b"a file")
    world.config = replace(world.config, files=FilesSettings((FileSource("uploads", path=str(data)),)))
    monkeypatch.setattr(sources.mounts, "places", lambda _: [])
    found = {item.name: item for item in world.look().items if item.kind == "directory"}
    assert sorted(found) == sorted(map(str, (world.directory, world.replaced, kept)))
    assert (found[str(kept)].at, found[str(kept)].size) == (SINCE, 8192)
    with pytest.raises(NotFoundError):
        world.remove("directory", str(data / others[0]))
    world.remove("directory", str(kept))
    assert sorted(path.name for path in data.iterdir()) == others
    assert (elsewhere / "precious").exists()


def test_a_source_that_no_service_mounts_hides_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.config = replace(world.config, files=FilesSettings((FileSource("uploads", volume="gone"),)))
    monkeypatch.setattr(sources.mounts, "places", lambda _: [])
    seen = world.look()
    assert [check.name for check in seen.unseen] == ["directory in quarantine"]
    assert str(world.replaced) in [item.name for item in seen.items]


def test_a_database_that_somebody_reads_stays(world: World) -> None:
    world.server.busy = True
    with pytest.raises(LifeboatError, match="accessed by other users"):
        world.remove("database", DATABASE)
    assert DATABASE in world.server.databases


@pytest.mark.parametrize(
    ("name", "at"),
    [
        (DATABASE, SINCE), (BUCKET_NAME, SINCE), (f"/srv/data.quarantine_{STAMP}", SINCE),
        (f"/state/quarantine/{STAMP}", SINCE), ("shop_quarantine_1", None), ("shop_quarantine_20261321_120000", None),
        (f"{DATABASE}_copy", None), (f"_quarantine_{STAMP}", None), (f"{DATABASE}\n", None),
    ],
)  # fmt: skip
def test_a_name_says_since_when(name: str, at: datetime | None) -> None:
    assert stack_quarantine.since(name) == at


# --- the command, the module ---


def run_command(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/shop.json").write_text(json.dumps(settings(root, runtime={"type": "host"})))
    code = cli.main([*words, "--config-directory", str(root / "etc")])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    monkeypatch.setattr(database_server, "of", lambda run: server)
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(cli.lock, "held", lambda *_: contextlib.nullcontext())
    code, said = run_command(tmp_path, capsys, "quarantine")
    assert (code, DATABASE in said) == (0, True)
    for words in (
        ["remove"],
        ["remove", "database"],
        ["remove", "database", DATABASE],
        ["remove", "database", "", "--yes"],
    ):
        assert run_command(tmp_path, capsys, "quarantine", *words)[0] == 2
        assert DATABASE in server.databases
    assert run_command(tmp_path, capsys, "quarantine", "remove", "database", "shop", "--yes")[0] == 5
    printed = next(line for line in said.splitlines() if " --yes " in line).partition("lifeboat ")[2].split()
    assert run_command(tmp_path, capsys, *printed)[0] == 0
    assert list(server.databases) == ["shop", "postgres", "shop_quarantine_old", f"wiki_quarantine_{STAMP}"]
    assert "nothing is in quarantine" in run_command(tmp_path, capsys, "status")[1]
    server.error = LifeboatError("reach PostgreSQL", "db", "the server does not run")
    assert run_command(tmp_path, capsys, "quarantine")[0] == 3


def test_status_lists_it_and_keeps_its_verdict(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = Server()
    monkeypatch.setattr(database_server, "of", lambda opened: server)
    with_it = run("backup_info", settings=settings(tmp_path, runtime={"type": "host"}))
    assert with_it["quarantine"]["kept"][0]["name"] == DATABASE
    assert any(DATABASE in line for line in with_it["table"])
    del server.databases[DATABASE]
    without = run("backup_info", settings=settings(tmp_path, runtime={"type": "host"}))
    assert (without["quarantine"]["kept"], without["status"]) == ([], with_it["status"])


def test_a_move_that_ends_half_way_says_how_to_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is away already, and the empty directory cannot be made like it was."""
    data = tmp_path / "the data"
    data.mkdir()
    (data / "file").write_text("x")

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(stack_quarantine.os, "chown", refuse)
    with pytest.raises(LifeboatError) as caught:
        stack_quarantine.aside("shop", DataMount("bind", "", data), STAMP)
    kept = tmp_path / f"the data.quarantine_{STAMP}"
    assert (kept / "file").read_text() == "x"
    said, _, back = caught.value.remedy.partition(" To go back: ")
    assert said == f"The old data lies in {kept}."
    subprocess.run(["sh", "-c", back], check=True)
    assert (data / "file").read_text() == "x"


class Discarding:
    def discard(self, service: str, *, timeout: float) -> None:
        pass


def test_a_move_that_was_killed_half_way_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrow_umask: None
) -> None:
    """The data is away, and the engine starts nothing without a directory."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "create_directory", killed)
        with pytest.raises(KeyboardInterrupt):
            stack_quarantine.aside("shop", DataMount("bind", "", data), STAMP)
    assert not data.exists()
    lines: list[str] = []
    mount = DataMount("bind", "", data)
    found = stack_quarantine.put_aside(
        "shop",
        Discarding(),
        "objects",
        mount,
        "20261121_130000",
        log=lines.append,  # type: ignore[arg-type]
    )
    assert (found, data.stat().st_mode & 0o7777) == (("", ()), 0o755)
    assert lines == [f"made {data} again, which an earlier run had put aside"]


def test_what_is_left_empty_has_the_mode_of_what_was_moved(tmp_path: Path, narrow_umask: None) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    stack_quarantine.aside("shop", DataMount("bind", "", data), STAMP)
    assert data.stat().st_mode & 0o7777 == 0o755


def test_an_empty_directory_is_never_there_without_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed between two calls left one of root's own, and the next made another like that."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    data = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(filesystem.os, "chown", killed)
        with pytest.raises(KeyboardInterrupt):
            filesystem.create_directory(data, tmp_path.stat())
    assert not data.exists()
    filesystem.create_directory(data, tmp_path.stat())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_is_made_where_nothing_was_put_aside(tmp_path: Path) -> None:
    mount = DataMount("bind", "", tmp_path / "data")
    stack_quarantine.put_aside("shop", Discarding(), "objects", mount, STAMP, log=print)  # type: ignore[arg-type]
    assert not mount.path.exists()


def test_nothing_is_moved_where_the_way_back_cannot_be_told(tmp_path: Path) -> None:
    class Stack(Discarding):
        def by_hand(self, service: str) -> tuple[str, str]:
            raise LifeboatError("read the project", "compose.yml", "no such file")

    (tmp_path / "data").mkdir()
    mount = DataMount("bind", "", tmp_path / "data")
    with pytest.raises(LifeboatError, match="no such file"):
        stack_quarantine.put_aside("shop", Stack(), "objects", mount, STAMP, log=print)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
