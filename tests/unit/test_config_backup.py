# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a config backup holds, what it must never hold in the clear, and that it comes back as it was."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import files as configuration_files
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import parts
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import RECOVERING_CONFIG
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, retention
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ConfigDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import tar
from builders import NOW
from config_world import PLANTED, World, git_repository, keys


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def bytes_of(folder: Path) -> bytes:
    """All that can be read of a backup without a key, unpacked where it is packed."""
    found = b""
    for path in folder.rglob("*"):
        if path.is_file():
            found += path.read_bytes()
            found += gzip.decompress(path.read_bytes()) if path.name.endswith(".tar.gz") else b""
    return found


# --- what is in it ---


def test_what_the_stack_is_made_of(world: World) -> None:
    one = world.take()
    there = configuration_restore.listing(world.repo, one.id, world.own_keys)
    names = {Path(path).name: (entry.archive, entry.secret) for path, entry in there.items() if entry.type == "file"}
    plain, secret = ("config.tar.gz", False), ("secrets.tar.gz.age", True)
    assert names == {
        "compose.yml": plain, ".env.example": plain, "shop.json": plain,
        ".env": secret, "web.env": secret, "shop.secrets.json": secret,
    }  # fmt: skip
    assert one.details["recipients"] == [world.recipient]
    assert (one.details["left_out"], one.details["skipped"], one.details["torn"]) == ([], {}, [])
    assert one.details["compose_files"] == [str(world.stack / "compose.yml")]
    assert one.details["images"]["web"] == {"reference": "web:1", "id": "sha256:" + "1" * 64, "digest": "web@sha256:2"}
    assert {artefact.name for artefact in one.artefacts} == {
        "config.tar.gz.age", "secrets.tar.gz.age", "secrets.json.age", "files.json.age",
    }  # fmt: skip


def test_a_mount_that_came_since_is_in_the_manifest_of_the_next_backup(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody deployed again, and nobody asked for the status."""
    assert "state" not in world.take().details, "of a stack that is no Compose project there is nothing to say"
    there = StateMount("data", "volume", ("db:/data",), "protected", "whose databases are backed up", by="database")
    came = StateMount("media", "volume", ("web:/srv/media",), "unprotected", "no component protects it")
    monkeypatch.setattr(mounts, "inventory", lambda run: StateInventory((there, came)))
    one = world.take()
    state = one.detailed(ConfigDetails).state
    assert state is not None
    assert state.mounts == (came, there)
    kind = KINDS["config"]
    assert kind.notes(one.detailed(kind.details)) == ["in no backup: the volume media (web:/srv/media)"]


def test_a_secret_is_nowhere_in_the_clear(world: World) -> None:
    (world.root / "units").mkdir()
    (world.root / "units" / "app.service").write_text(f"Environment=PASSWORD={PLANTED}\n")
    (world.root / "units" / "tls.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{PLANTED}\n")
    (world.root / "units" / "app.env").write_text(f"X={PLANTED}\n")
    (world.root / "units" / "plain.conf").write_text("listen 80\n")
    one = world.take(files=[str(world.root / "units"), str(world.stack)])
    assert PLANTED.encode() not in bytes_of(world.folder(one))
    assert PLANTED.encode() not in bytes_of(world.extract(one).root), "nor in what the host's own key opens"
    assert PLANTED not in json.dumps(one.details) + "".join(world.lines)
    there = configuration_restore.listing(world.repo, one.id, world.own_keys)
    units = {Path(path).name: entry.secret for path, entry in there.items() if "/units/" in path}
    assert units == {"app.service": True, "tls.pem": True, "app.env": True, "plain.conf": False}
    # A hash of a secret is something to try guesses on.
    assert [entry for entry in there.values() if entry.secret and entry.sha256] == []
    assert one.details["secrets"] == 6


def test_without_a_recipient_secrets_are_left_out_and_named(world: World) -> None:
    one = world.take(recipients=[])
    assert PLANTED.encode() not in bytes_of(world.folder(one))
    assert [Path(path).name for path in one.details["left_out"]] == ["shop.secrets.json", ".env", "web.env"]
    assert {artefact.name for artefact in one.artefacts} == {"config.tar.gz", "files.json"}
    assert "no recipient is configured: 3 secret files are left out" in "".join(world.lines)
    out = world.extract(one)
    assert len(out.missing) == 3


def test_a_project_that_compose_cannot_read_is_not_backed_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> Any:
        raise LifeboatError("read the Compose project", "x", "yaml: line 3")

    monkeypatch.setattr(world, "_docker", broken)
    with pytest.raises(LifeboatError, match="yaml: line 3"):
        world.take()
    assert world.repo.ids("config") == []


def test_what_a_project_refers_to_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.stack / "compose.yml").write_text("include: [more/db.yml]  # not other.yml\nservices: {}\n")
    (world.stack / "more").mkdir()
    (world.stack / "more" / "db.yml").write_text("services: {db: {extends: {file: base.yaml}}}\n")
    for name in ("more/base.yaml", "other.yml", "token.txt", "nginx.conf", "prod.env"):
        (world.stack / name).write_text("x\n")
    (world.stack / ".env").write_text("STAGE='prod'\n")
    (world.stack / "conf.d").mkdir()
    (world.stack / "conf.d" / "a.conf").write_text("a")
    (world.stack / "data").mkdir()

    def engine(words: list[str]) -> tuple[int, str, str]:
        binds = [
            {"type": "bind", "source": str(world.stack / "nginx.conf"), "read_only": True},
            {"type": "bind", "source": str(world.stack / "conf.d"), "read_only": True},
            {"type": "bind", "source": str(world.stack / "data")},
            {"type": "bind", "source": "/etc/localtime", "read_only": True},
        ]
        service: dict[str, Any] = {"image": "web:1", "volumes": binds}
        if "--no-interpolate" in words:
            wanted = [{"path": str(world.stack / "${STAGE:-dev}.env")}, {"path": "/no/where", "required": False}]
            service["env_file"] = wanted
        secrets = {"token": {"file": str(world.stack / "token.txt")}}
        return 0, json.dumps({"name": "shop", "services": {"web": service}, "secrets": secrets}), ""

    docker = world._docker
    monkeypatch.setattr(world, "_docker", lambda words: engine(words) if "config" in words else docker(words))
    one = world.take()
    there = configuration_restore.listing(world.repo, one.id, world.own_keys)
    found = {str(Path(path).relative_to(world.stack)): entry.secret for path, entry in there.items()
             if entry.type == "file" and path.startswith(str(world.stack))}  # fmt: skip
    assert found == {
        "compose.yml": False, "more/db.yml": False, "more/base.yaml": False, ".env.example": False,
        ".env": True, "token.txt": True, "nginx.conf": True, "conf.d/a.conf": True, "prod.env": True,
    }  # fmt: skip
    assert one.details["compose_files"] == [str(world.stack / "compose.yml")]
    assert one.details["skipped"] == {}
    assert one.details["notes"] == [f"{world.stack / 'data'} is mounted and not in this backup"]


def mounting(world: World, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the service mount these files of the project's directory."""
    binds = [{"type": "bind", "source": str(world.stack / name), "read_only": True} for name in names]
    answer = json.dumps({"name": "shop", "services": {"web": {"image": "web:1", "volumes": binds}}})
    docker = world._docker
    monkeypatch.setattr(world, "_docker", lambda words: (0, answer, "") if "config" in words else docker(words))


def test_a_mounted_program_is_no_secret_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be executed and begins as a program is none; what only may be, or holds a secret, is sealed."""
    for name, content, mode in [
        ("start.sh", b"#!/bin/sh\nexec web\n", 0o755),
        ("loader", b"\x7fELF\x02\x01\x01\0", 0o750),
        ("password", b"hunter2hunter2\n", 0o777),
        ("reset.sh", f"#!/bin/sh\nPASSWORD={PLANTED}\n".encode(), 0o755),
        ("notes.sh", b"#!/bin/sh\n", 0o600),
    ]:
        (world.stack / name).write_bytes(content)
        (world.stack / name).chmod(mode)
    mounting(world, monkeypatch, "start.sh", "loader", "password", "reset.sh", "notes.sh")
    one = world.take()
    there = configuration_restore.listing(world.repo, one.id, world.own_keys)
    found = {Path(path).name: entry.secret for path, entry in there.items() if path.startswith(str(world.stack))}
    assert {name: found[name] for name in ("start.sh", "loader", "password", "reset.sh", "notes.sh")} == {
        "start.sh": False, "loader": False, "password": True, "reset.sh": True, "notes.sh": True,
    }  # fmt: skip
    assert f"{world.stack / 'reset.sh'} looks like a secret and is treated as one" in "".join(world.lines)
    lacking = configuration_files.left_out(Opened(world.configured(recipients=[])), directory=world.etc)
    assert not {str(world.stack / name) for name in ("start.sh", "loader")} & set(lacking)
    bare = world.take(recipients=[])
    assert PLANTED.encode() not in bytes_of(world.folder(bare))
    out = world.extract(bare)
    assert (Path(f"{out.root}{world.stack}") / "start.sh").read_bytes() == b"#!/bin/sh\nexec web\n"


def test_none_is_taken_while_files_are_being_placed(world: World) -> None:
    (world.root / "state").mkdir()
    (world.root / "state" / RECOVERING_CONFIG).touch()
    with pytest.raises(LockedError, match="a recovery of the stack's files has not ended"):
        world.take()


# --- files as they are ---


def test_modes_times_links_and_hostile_names_come_back(world: World) -> None:
    odd = world.root / "odd"
    odd.mkdir(mode=0o750)
    (odd / "run.sh").write_text("#!/bin/sh\n")
    (odd / "run.sh").chmod(0o4755)
    (odd / "link").symlink_to("/etc/shadow")
    (odd / "dangling").symlink_to("nowhere")
    os.mkfifo(odd / "pipe")
    for name in (b"new\nline", b"not-\xff-utf8", b"-rf", b" ", b"\\", "äö".encode(), b"x" * 200):
        Path(os.fsdecode(os.fsencode(str(odd)) + b"/" + name)).write_text("n")
    (odd / "run.sh").touch()
    os.utime(odd / "run.sh", (1_600_000_000, 1_600_000_000))
    one = world.take(files=[str(odd)])
    assert one.details["skipped"] == {}
    out = world.extract(one, key=world.key)
    there = Path(f"{out.root}{odd}")
    names = {path.name for path in odd.iterdir()} - {"pipe"}
    assert {path.name for path in there.iterdir()} == names
    for name in names - {"link", "dangling"}:
        before, after = (odd / name).lstat(), (there / name).lstat()
        assert (before.st_mode, before.st_uid, int(before.st_mtime)) == (
            after.st_mode, after.st_uid, int(after.st_mtime),
        )  # fmt: skip
    assert (there / "link").readlink() == Path("/etc/shadow")
    assert there.stat().st_mode == odd.stat().st_mode
    assert (Path(f"{out.root}{world.stack}") / ".env").read_text() == f"PASSWORD={PLANTED}\n"


def test_by_hand_tar_and_age_are_enough(world: World) -> None:
    """GNU tar reads what we write, whatever the names are."""
    one = world.take()
    target = world.root / "hand"
    target.mkdir()
    folder = world.folder(one)
    for name in ("config.tar.gz.age", "secrets.tar.gz.age"):
        opened = subprocess.run(
            ["age", "--decrypt", "--identity", "-", str(folder / name)],
            input=world.key.encode(), capture_output=True, check=True,
        ).stdout  # fmt: skip
        subprocess.run(["tar", "-xzpf", "-", "-C", str(target)], input=opened, check=True)
    assert (target / str(world.stack).lstrip("/") / ".env").read_text() == f"PASSWORD={PLANTED}\n"
    assert (target / str(world.stack).lstrip("/") / "compose.yml").is_file()


def test_a_link_is_followed_only_where_its_owner_could_read_the_file(world: World, monkeypatch: Any) -> None:
    release = world.root / "releases" / "1"
    release.mkdir(parents=True)
    (release / "app.conf").write_text("a")
    (world.root / "current").symlink_to(release)
    one = world.take(files=[str(world.root / "current" / "app.conf")])
    there = configuration_restore.listing(world.repo, one.id, world.own_keys)
    assert there[str(world.root / "current")].target == str(release)
    assert there[str(release / "app.conf")].type == "file"
    out = world.extract(one)
    assert out.where(str(world.root / "current" / "app.conf")).read_text() == "a"
    # A directory that an application may write to must not have root's files fetched into a backup.
    real = os.lstat
    monkeypatch.setattr(
        os,
        "lstat",
        lambda path: (
            real(path) if "current" not in str(path) else os.stat_result([*real(path)[:4], 4711, *real(path)[5:]])
        ),
    )
    _, _, why = tar.followed(str(world.root / "current" / "app.conf"))
    assert "is a link of another owner than what it points to" in why


def test_what_cannot_be_read_is_named_and_stops_nothing(world: World) -> None:
    os.mkfifo(world.root / "named-pipe")
    one = world.take(files=["/no/such/unit", str(world.root / "named-pipe")])
    assert one.details["skipped"] == {
        "/no/such/unit": "there is no such file",
        str(world.root / "named-pipe"): "it is a socket, a pipe or a device",
    }


def test_a_file_that_changes_whenever_it_is_read_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = world.root / "busy.log"
    busy.write_text("0")
    read = tar.Packer._read

    def racing(self: Any, file: Any, spool: Any, path: str) -> Any:
        found = read(self, file, spool, path)
        if path == str(busy):
            with busy.open("a") as more:
                more.write("x")
        return found

    monkeypatch.setattr(tar.Packer, "_read", racing)
    one = world.take(files=[str(busy)])
    assert one.details["torn"] == [str(busy)]
    world.extract(one)


def test_more_than_the_limit_is_refused(world: World) -> None:
    big = world.root / "big"
    big.mkdir()
    for name in ("a", "b"):
        with (big / name).open("wb") as file:
            file.truncate(700 << 10)
    with pytest.raises(SpaceError, match=r"more than 1 MiB \(at .*/big/b\).*limit_mb"):
        world.take(files=[str(big)], limit_mb=1)
    assert world.repo.ids("config") == []


def test_the_backup_does_not_swallow_the_backups(world: World) -> None:
    world.take()
    one = world.take(files=[str(world.root)])
    assert [
        path for path in configuration_restore.listing(world.repo, one.id, world.own_keys) if "/backup/" in path
    ] == []


# --- the large parts ---


def test_images_are_kept_once_for_as_long_as_they_are_the_same(world: World) -> None:
    first, second = world.take(images="archive"), world.take(images="archive")
    assert world.saved == [["web:1"]]
    assert (parts.parts_of(second)["images"].backup, len(second.artefacts)) == (first.id, 4)
    world.images["web"] = ("web:2", "sha256:" + "3" * 64)
    third = world.take(images="archive")
    assert (parts.parts_of(third)["images"].backup, len(world.saved)) == (third.id, 2)
    # One whose holder is broken is not referred to.
    (world.folder(third) / "images.tar.gz.age").unlink()
    fourth = world.take(images="archive")
    assert (parts.parts_of(fourth)["images"].backup, len(world.saved)) == (fourth.id, 3)


def test_retention_holds_what_is_referred_to(world: World) -> None:
    first, second = world.take(images="archive"), world.take(images="archive")
    plain = catalog.for_retention(catalog.entries(world.repo, "config", "shop"))
    assert [backup.needs for backup in plain] == [(), (first.id,)]
    policy = retention.Policy(daily_days=0, weekly_months=0, monthly_months=0, minimum=1)
    plan = retention.plan_all([], [plain], policy, NOW.replace(year=2099))
    assert plan.keep[first.id][-1] == f"holds a part of {second.id}"


def test_loading_images_names_them_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world.take(images="archive")
    assert configuration_restore.load_images(world.repo, one.id, keys=world.own_keys, log=world.lines.append) == {
        "web": "sha256:" + "1" * 64
    }
    assert "loading images" not in "".join(world.lines), "they are all there"
    images, done = dict(world.images), []
    world.images.clear()
    answered = world._docker

    def engine(words: list[str]) -> tuple[int, str, str]:
        if words[:2] == ["docker", "tag"]:
            done.append(words[2:])
        return answered(words)

    monkeypatch.setattr(world, "_docker", engine)
    with pytest.raises(IntegrityError, match="they do not hold sha256:111"):
        configuration_restore.load_images(world.repo, one.id, keys=world.own_keys, log=world.lines.append)
    world.images.update({"other": ("other:1", images["web"][1])})
    monkeypatch.setattr(world, "run", lambda *_, **__: None)
    configuration_restore.load_images(world.repo, one.id, keys=world.own_keys, log=world.lines.append)
    assert done == [["sha256:" + "1" * 64, "web:1"]]
    with pytest.raises(NotFoundError, match="it has no images"):
        world.images.clear()
        configuration_restore.load_images(world.repo, take_digests(world, images).id, log=world.lines.append)


def take_digests(world: World, images: dict[str, Any]) -> Any:
    world.images.update(images)
    one = world.take(images="digests")
    world.images.clear()
    return one


@pytest.mark.slow
def test_git_repositories_are_mirrored_and_kept_once(world: World, tmp_path: Path) -> None:
    source = git_repository(tmp_path / "app")
    asked = {"repositories": [{"name": "app", "path": str(source)}]}
    first, second = world.take(**asked), world.take(**asked)
    assert parts.parts_of(second)["git/app"].backup == first.id
    git_repository(source, "two")
    third = world.take(**asked)
    assert parts.parts_of(third)["git/app"].backup == third.id
    parts.fetch(world.repo, third, "git/app", tmp_path / "app.bundle", world.own_keys)
    subprocess.run(["git", "clone", "--quiet", "app.bundle", "clone"], check=True, cwd=tmp_path)
    assert (tmp_path / "clone" / "file").read_text() == "two"
    assert subprocess.check_output(["git", "tag"], cwd=tmp_path / "clone") == b"v1\n"


def test_a_remote_repository_is_read_with_a_token_that_is_in_no_argv(world: World) -> None:
    settings = world.configured(repositories=[{"name": "app", "url": "https://git.example/app.git"}])
    settings = type(settings)(**{**vars(settings), "secrets": {"git_token_app": PLANTED}})
    command = parts.git(settings.config.repositories[0], settings, "ls-remote", "x")
    assert PLANTED not in " ".join(command.argv)
    assert command.env and command.env["GIT_CONFIG_KEY_0"] == "http.https://git.example/.extraHeader"


def test_an_empty_repository_is_an_error(world: World, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "empty")], check=True)
    with pytest.raises(NotFoundError, match="no commit yet"):
        world.take(repositories=[{"name": "e", "path": str(tmp_path / "empty")}])


def test_the_built_site_with_its_commit(world: World) -> None:
    site = world.root / "dist"
    (site / "assets").mkdir(parents=True)
    (site / "index.html").write_text("<title>1</title>")
    (site / "assets" / "app.js").write_text("1")
    (world.root / "COMMIT").write_text("abc123 main\n")
    asked = {"site_directory": str(site), "site_commit_file": str(world.root / "COMMIT")}
    first, second = world.take(**asked), world.take(**asked)
    assert (first.details["site"]["commit"], parts.parts_of(second)["site"].backup) == ("abc123", first.id)
    assert world.extract(second).where(str(site / "index.html")).read_text() == "<title>1</title>"
    (site / "index.html").write_text("<title>2</title>")
    third = world.take(**asked)
    assert parts.parts_of(third)["site"].backup == third.id
    shutil.rmtree(site)
    with pytest.raises(LifeboatError, match="there is no such file"):
        world.take(**asked)


# --- back again ---


def test_without_the_key_secrets_stay_sealed(world: World) -> None:
    out = world.extract(world.take())
    assert [Path(path).name for path in out.missing] == ["shop.secrets.json", ".env", "web.env"]
    assert PLANTED.encode() not in bytes_of(out.root)


def test_another_key_says_for_whom_it_is(world: World, tmp_path: Path) -> None:
    one = world.take()
    other, recipient = keys(tmp_path)
    with pytest.raises(UsageError) as error:
        world.extract(one, key=other)
    said = str(error.value)
    assert "no identity matched any of the recipients" in said
    assert f"the key given is that of {recipient}" in said and f"it was sealed for {world.recipient}" in said
    assert other.split()[-1] not in said


def test_the_directory_must_be_empty(world: World) -> None:
    one = world.take()
    (world.root / "full").mkdir()
    (world.root / "full" / "x").touch()
    with pytest.raises(UsageError, match="it is not empty"):
        world.extract(one, "full")


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("climbs", {"name": "srv/../../../etc/cron.d/x"}, "would leave the place"),
    ("absolute", {"name": "/etc/cron.d/x"}, "would leave the place"),
    ("hard link", {"name": "x", "type": tarfile.LNKTYPE, "linkname": "etc/passwd"}, "is not a plain file"),
    ("device", {"name": "x", "type": tarfile.CHRTYPE}, "is not a plain file"),
    ("unlisted", {"name": "srv/evil"}, "is in it and not in the listing"),
]


@pytest.mark.parametrize(("member", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_an_archive_cannot_leave_its_place(tmp_path: Path, member: dict[str, Any], message: str) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as made:
        info = tarfile.TarInfo()
        for name, value in member.items():
            setattr(info, name, value)
        made.addfile(info)
    (tmp_path / "out").mkdir()
    with (tmp_path / "evil.tar.gz").open("rb") as stream, pytest.raises(IntegrityError, match=message):
        tar.unpack(stream, tmp_path / "out", {}, "evil")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "out").mkdir()
    link = tar.Entry("/a", "link", 0o777, os.getuid(), os.getgid(), 0, target=str(tmp_path / "target"))
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as made:
        one = tarfile.TarInfo("a")
        one.type, one.linkname, one.mode, one.uid, one.gid = tarfile.SYMTYPE, link.target, 0o777, link.uid, link.gid
        made.addfile(one)
        made.addfile(tarfile.TarInfo("a/b"))
    with (tmp_path / "evil.tar.gz").open("rb") as stream, pytest.raises(LifeboatError, match=r"out/a/b"):
        tar.unpack(stream, tmp_path / "out", {"/a": link, "/a/b": link}, "evil")
    assert list((tmp_path / "target").iterdir()) == []


LISTED: dict[str, Any] = {
    "path": "/srv/.env", "type": "file", "mode": "0600", "uid": 0, "gid": 0, "mtime": 1, "size": 3, "archive": "a",
}  # fmt: skip
# (changes to the listing, changes to its only file, what the error names)
MALFORMED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"files": {}}, {}, "files wants a list"),
    ({"files": ["/etc"]}, {}, "files[0].mode wants an octal mode"),
    ({"version": "1"}, {}, "version wants a list"),
    ({}, {"mode": 384}, "files[0].mode wants an octal mode like 0644, has 384"),
    ({}, {"mode": "0o600"}, "files[0].mode wants an octal mode like 0644, has '0o600'"),
    ({}, {"path": 7}, "files[0].path wants str, has 7"),
    ({}, {"size": "3"}, "files[0].size wants int, has '3'"),
    ({}, {"mtime": 10**30}, "files[0].mtime has a number beyond 1e+18"),
    ({}, {"secret": "yes"}, "files[0].secret wants bool, has 'yes'"),
    ({}, {"owner": "root"}, "files[0] does not know owner"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "file", "words"), MALFORMED)
def test_a_malformed_listing_names_the_field(changes: dict[str, Any], file: dict[str, Any], words: str) -> None:
    whole = {"schema": configuration_restore.SCHEMA, "version": [1, 0], "files": [LISTED]}
    assert list(configuration_restore.parse_listing(json.dumps(whole).encode(), "x")) == ["/srv/.env"]
    body = {**whole, "files": [{**LISTED, **file}], **changes}
    with pytest.raises(IntegrityError) as error:
        configuration_restore.parse_listing(json.dumps(body).encode(), "x")
    assert words in error.value.cause


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 200_000, b"[" * 60 + b"]" * 60])
def test_a_listing_that_is_no_json(raw: bytes) -> None:
    with pytest.raises(IntegrityError, match="Could not read the listing"):
        configuration_restore.parse_listing(raw, "x")


def test_a_listing_of_another_version_is_not_read() -> None:
    body = {"schema": configuration_restore.SCHEMA, "version": [2], "files": [{"new": 1}]}
    with pytest.raises(UsageError, match="Upgrade Lifeboat"):
        configuration_restore.parse_listing(json.dumps(body).encode(), "x")


def test_a_file_of_another_size_than_listed_is_not_written(tmp_path: Path) -> None:
    """The listing is what room is reckoned by: an archive must not hold more than it says."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("large")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"large"))
    stream.seek(0)
    wanted = {"/large": tar.Entry("/large", tar.FILE, 0o644, 0, 0, 0, size=1)}
    with pytest.raises(IntegrityError, match="is not as the listing has it"):
        tar.unpack(stream, tmp_path, wanted, "it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["files", "secret_files", "site_directory"])
def test_the_directories_on_the_way_to_a_named_file_are_kept(world: World, kind: str) -> None:
    """Those that a machine does not have so by itself: one of root's, mode 0755, is made where it is missing."""
    way = world.root / "var" / "app"
    (way / "data").mkdir(parents=True)
    (way / "data" / "file").write_text("x")
    world.root.joinpath("var").chmod(0o755)
    way.chmod(0o2770)
    named = str(way / "data") if kind == "site_directory" else [str(way / "data" / "file")]
    made = world.take(**{kind: named})
    listed = configuration_restore.listing(world.repo, made.id, world.own_keys)
    entry = listed[str(way)]
    assert (entry.type, entry.mode, entry.archive) == ("directory", 0o2770, "config.tar.gz")
    assert (str(way.parent) in listed) is (os.geteuid() != 0)
    assert "/" not in listed
    out = world.extract(made, kind)
    assert out.where(str(way)).stat().st_mode & 0o7777 == 0o2770
