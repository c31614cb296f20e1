# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local repository on a real file system: publishing, crashing between any two steps, links, modes, errors."""

from __future__ import annotations

import errno
import grp
import os
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base as repository_base
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings, S3Settings
from builders import make_config
from repository_contract import DAY, FILES, ID, OTHER, Contract, publish

NOW = datetime.now(timezone.utc)
LATER = NOW + 2 * DAY  # ctime cannot be set, so the tests move the clock


@pytest.fixture
def repo(tmp_path: Path) -> LocalRepository:
    root = tmp_path / "backup"
    root.mkdir()
    return LocalRepository(root)


def folder(repo: LocalRepository) -> Path:
    return repo.root / "postgresql"


class TestContract(Contract):
    """In a directory."""


def modes(repo: LocalRepository) -> dict[str, str]:
    return {
        path.relative_to(repo.root).as_posix(): oct(stat.S_IMODE(path.stat().st_mode)) for path in repo.root.rglob("*")
    }


@pytest.mark.parametrize("shared", [False, True])
def test_a_group_reads_what_is_published_and_nothing_else(repo: LocalRepository, shared: bool) -> None:
    """A keeper's account reads backups, points and the marker. Records and holds prove nothing there."""
    group = grp.getgrgid(os.getgid()).gr_name if shared else ""
    repo = LocalRepository(repo.root, group=group)
    repo.stack = "shop"
    publish(repo)
    repo.write_point("20261124_020000", b"{}")
    repo.write_record("database", ID, repository_base.VERIFICATION, b"{}")
    repo.write_hold(ID, b"{}")
    found = modes(repo)
    file, directory = ("0o640", "0o2750") if shared else ("0o600", "0o700")
    names = [f"postgresql/{ID}/{name}" for name in (*FILES, "manifest.json")]
    assert {name: found[name] for name in names} == dict.fromkeys(names, file)
    assert found["recovery-points/20261124_020000.json"] == found["repository.json"] == file
    folders = ["postgresql", f"postgresql/{ID}", f"postgresql/{ID}/dbname.dump", "recovery-points"]
    assert {name: found[name] for name in folders} == dict.fromkeys(folders, directory)
    assert found[f"postgresql/{ID}/verification.json"] == found[f"holds/{ID}.json"] == "0o600"


def test_a_group_that_is_not_there_is_named(repo: LocalRepository) -> None:
    with pytest.raises(UsageError, match=r"no such group.*lifeboat_repository.group"):
        publish(LocalRepository(repo.root, group="no-such-group"))


def test_another_run_that_was_faster_by_a_moment_is_not_replaced(
    repo: LocalRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the rename."""
    with repo.stage("database", ID) as first, repo.stage("database", ID) as second:
        monkeypatch.setattr(LocalRepository, "_refuse_existing", staticmethod(lambda target: None))
        first.publish(b"first")
        with pytest.raises(UsageError, match="a backup of that id exists"):
            second.publish(b"second")
    assert repo.manifest("database", ID) == b"first"


def test_a_backup_is_read_in_place(repo: LocalRepository) -> None:
    with pytest.raises(NotFoundError), repo.materialise("database", ID):
        pytest.fail("it was read")
    publish(repo)
    with repo.materialise("database", ID) as path:
        assert path == folder(repo) / ID == Path(repo.location("database", ID))
    repo.check(writable=True)
    assert [path.name for path in repo.root.iterdir()] == ["postgresql"]


def test_everything_is_private(repo: LocalRepository, tmp_path: Path) -> None:
    with repo.stage("database", ID) as staging:
        assert stat.S_IMODE(staging.path.stat().st_mode) == 0o700
        (staging.path / "d").mkdir(mode=0o755)
        (staging.path / "d/f").write_bytes(b"x")
        (staging.path / "d/f").chmod(0o644)
        staging.publish(b"{}")
    repo.write_record("database", ID, repository_base.VERIFICATION, b"{}")
    repo.write_point("20261124_033000", b"{}")
    repo.fetch("database", ID, tmp_path / "copy")
    for top in (folder(repo), repo.root / "recovery-points", tmp_path / "copy"):
        for path in [top, *top.rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("present", ["published", "unpublished", "a file", "a dangling link"])
def test_an_existing_id_is_refused(repo: LocalRepository, present: str) -> None:
    publish(repo, OTHER)
    target = folder(repo) / ID
    if present == "published":
        publish(repo)
    elif present == "unpublished":
        target.mkdir()
    elif present == "a file":
        target.touch()
    else:
        target.symlink_to("/nowhere")
    with pytest.raises(UsageError, match="a backup of that id exists"), repo.stage("database", ID):
        pytest.fail("it was staged")


def test_the_seeds_files_are_left_alone(repo: LocalRepository) -> None:
    """A repository may start life as the seed's /backup/postgresql, full of *.sql.gz."""
    publish(repo)
    (folder(repo) / "db_backup_20260101_020000.sql.gz").write_bytes(b"x")
    (folder(repo) / "lost+found").mkdir()
    assert repo.ids("database") == [ID]
    assert repo.sweep(timedelta(0), LATER) == []


# --- links ----------------------------------------------------------------------------------------------------------


def test_a_backup_that_is_a_link_is_no_backup(repo: LocalRepository, tmp_path: Path) -> None:
    publish(repo)
    precious = tmp_path / "precious"
    (folder(repo) / ID).rename(precious)
    (folder(repo) / ID).symlink_to(precious)
    assert repo.ids("database") == repo.published("database") == []
    for call in (repo.delete, repo.files, repo.manifest):
        with pytest.raises(IntegrityError):
            call("database", ID)
    with pytest.raises(IntegrityError), repo.materialise("database", ID):
        pytest.fail("it was read")
    assert repo.sweep(timedelta(0), LATER) == []
    assert (precious / "globals.sql").exists()


def test_links_inside_are_seen_never_followed(repo: LocalRepository, tmp_path: Path) -> None:
    publish(repo)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "toc.dat").write_bytes(b"stolen")
    inside = folder(repo) / ID
    (inside / "link").symlink_to(secret / "toc.dat")
    (inside / "dir").symlink_to(secret)
    os.mkfifo(inside / "fifo")
    assert {"link", "dir", "fifo"} < set(repo.files("database", ID))
    for name in ("link", "dir", "dir/toc.dat", "fifo"):
        with pytest.raises(IntegrityError, match="special file"):
            repo.open("database", ID, name)
    with pytest.raises(IntegrityError):
        repo.fetch("database", ID, tmp_path / "copy")
    repo.delete("database", ID)
    assert (secret / "toc.dat").read_bytes() == b"stolen"
    assert list(folder(repo).iterdir()) == []


# --- crashes --------------------------------------------------------------------------------------------------------

CRASH = """
import os, sys
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
repo, action, left = LocalRepository(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
def dying(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return real(*args, **kwargs)
    return call
for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "open"):
    setattr(os, name, dying(getattr(os, name)))
if action == "delete":
    repo.delete("database", "db_backup_20261124_020000")
else:
    with repo.stage("database", "db_backup_20261125_020000") as staging:
        for name in ("a", "b"):
            (staging.path / name).write_bytes(b"x" * 100)
        staging.publish(b"{}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("action", ["publish", "delete"])
def test_killed_between_any_two_steps(repo: LocalRepository, action: str) -> None:
    """Kill it at step 0, 1, 2 … until it gets through. Every time: a whole backup or none, and sweep cleans up."""
    survived = False
    outcomes = set()
    for step in range(200):
        for id in repo.ids("database"):
            repo.delete("database", id)
        publish(repo)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", CRASH, str(repo.root), action, str(step)], env=environment, check=False
        )
        assert done.returncode in (0, 9)
        for id in repo.published("database"):
            expected = {"a": 100, "b": 100} if id == OTHER else FILES
            assert repo.files("database", id) == expected, f"step {step} left a broken backup"
        assert repo.ids("database") == repo.published("database")
        outcomes.add(tuple(repo.published("database")))
        repo.sweep(DAY, LATER)
        assert sorted(path.name for path in folder(repo).iterdir()) == repo.published("database")
        if done.returncode == 0:
            survived = True
            break
    assert survived
    assert step > 5  # it was really killed on the way
    assert outcomes == ({(ID,), (ID, OTHER)} if action == "publish" else {(ID,), ()})


# --- sweep ----------------------------------------------------------------------------------------------------------


def test_sweep(repo: LocalRepository) -> None:
    publish(repo)
    base = folder(repo)
    for name in (".partial-" + OTHER + "-1234", ".deleting-" + OTHER + "-1234", OTHER):
        (base / name / "sub").mkdir(parents=True)
        (base / name / "sub/f").write_bytes(b"x")
    (base / ".partial-verification.json-77").write_bytes(b"x")
    (repo.root / ".partial-check-77").write_bytes(b"x")
    (base / ".hidden").touch()
    stale = [".partial-" + OTHER + "-1234", ".deleting-" + OTHER + "-1234", OTHER, ".partial-verification.json-77"]
    expected = sorted([*(str(base / name) for name in stale), str(repo.root / ".partial-check-77")])
    assert repo.sweep(DAY, NOW) == []
    assert repo.sweep(DAY, LATER, dry_run=True) == expected
    assert repo.sweep(DAY, LATER) == expected
    assert sorted(path.name for path in base.iterdir()) == [".hidden", ID]
    assert repo.sweep(DAY, LATER) == []


def test_sweep_spares_a_backup_that_is_being_written(repo: LocalRepository) -> None:
    with repo.stage("database", ID) as staging:
        os.utime(staging.path, (0, 0))  # an old mtime, as tar and rsync leave behind
        assert repo.sweep(DAY, NOW + timedelta(hours=1)) == []
        staging.publish(b"{}")


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error", "remedy"),
    [
        (errno.ENOSPC, SpaceError, "Free space"),
        (errno.EDQUOT, SpaceError, "Free space"),
        (errno.EROFS, SpaceError, "read-write"),
        (errno.EACCES, UsageError, "Run as root"),
        (errno.EPERM, UsageError, "Run as root"),
        (errno.EIO, LifeboatError, "dmesg"),
    ],
)
@pytest.mark.parametrize("action", ["check", "stage", "publish", "record", "delete", "point"])
def test_errors_of_the_disk(
    repo: LocalRepository,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[LifeboatError],
    remedy: str,
    action: str,
) -> None:
    publish(repo)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    def stage(fail_at: str) -> None:
        with repo.stage("database", OTHER) as staging:
            if fail_at == "publish":
                monkeypatch.setattr(os, "fsync", broken)
            staging.publish(b"{}")

    actions: dict[str, Callable[[], None]] = {
        "check": lambda: repo.check(writable=True),
        "stage": lambda: stage("stage"),
        "publish": lambda: stage("publish"),
        "record": lambda: repo.write_record("database", ID, repository_base.VERIFICATION, b"1"),
        "delete": lambda: repo.delete("database", ID),
        "point": lambda: repo.write_point("20261124_033000", b"1"),
    }
    target = {"stage": (Path, "mkdir"), "delete": (Path, "rename")}.get(action, (os, "fsync"))
    if action != "publish":
        monkeypatch.setattr(*target, broken)
    with pytest.raises(error, match=remedy):
        actions[action]()
    monkeypatch.undo()
    # Whatever failed, what was there is whole and nothing lies about.
    assert repo.published("database") == [ID]
    assert repo.read_record("database", ID, repository_base.VERIFICATION) is None
    assert [path.name for path in folder(repo).iterdir()] == [ID]


def test_a_full_disk_for_real(tmp_path: Path) -> None:
    """A 1 MB tmpfs: the write fails with ENOSPC as a disk would, and the error says so."""
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"NOT CHECKED on a disk that is really full: {mounted.stderr.decode().strip()}")
    try:
        repo = LocalRepository(root)
        publish(repo)
        with (root / "filler").open("wb") as file, pytest.raises(OSError, match="No space"):
            file.write(b"x" * (2 << 20))
        with pytest.raises(SpaceError, match="No space left on device"):
            repo.check(writable=True)
        with pytest.raises(SpaceError, match="No space left on device"):
            repo.write_record("database", ID, repository_base.VERIFICATION, b"x" * 9000)
        assert repo.read_record("database", ID, repository_base.VERIFICATION) is None
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        with pytest.raises(SpaceError, match="read-write"):
            repo.check(writable=True)
        repo.check()
        assert repo.published("database") == [ID]
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_repository_that_is_not_mounted_is_not_made_anew(tmp_path: Path) -> None:
    repo = LocalRepository(tmp_path / "missing")
    calls: list[Callable[[], Any]] = [
        repo.check, lambda: repo.check(writable=True), repo.free_bytes, repo.points, lambda: repo.ids("database"),
        lambda: repo.published("database"), lambda: repo.manifest("database", ID),
        lambda: repo.read_record("database", ID, repository_base.VERIFICATION), lambda: publish(repo),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(UsageError, match="there is no such directory"):
            call()
    assert not (tmp_path / "missing").exists()


# --- settings -------------------------------------------------------------------------------------------------------

S3 = {"type": "s3", "bucket": "b"}
KEYS = {"s3_access_key": "a", "s3_secret_key": "b"}


@pytest.mark.parametrize(
    ("settings", "secrets", "message"),
    [
        ({"type": "ftp"}, {}, "must be local or s3"),
        ({"type": "local", "path": "/backup", "bucket": "b"}, {}, "it knows folders, group, mounted, path, type"),
        ({"type": "local", "path": "backup"}, {}, "absolute path"),
        ({"type": "local"}, {}, "absolute path"),
        ({"type": "local", "path": "/"}, {}, "absolute path"),
        ({"type": "local", "path": "/a/../b"}, {}, "absolute path"),
        ({"type": "local", "path": 7}, {}, "wants str, has 7"),
        ({"path": "/backup", "folders": {"database": "../x"}}, {}, "one plain name"),
        ({"path": "/backup", "folders": {"database": "config"}}, {}, "used once"),
        ({"path": "/backup", "folders": {"database": "recovery-points"}}, {}, "used once"),
        ({"path": "/backup", "folders": "x"}, {}, "wants a mapping"),
        ({"type": "s3"}, KEYS, "name of a bucket"),
        ({**S3, "prefix": "a/../b"}, KEYS, "not a plain relative path"),
        ({**S3, "staging_root": "x"}, KEYS, "absolute path"),
        (S3, {}, "the secrets lack"),
        ({**S3, "secret_key": "x"}, KEYS, "does not know secret_key; it knows bucket"),
    ],
)
def test_bad_settings(settings: dict[str, Any], secrets: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        repositories.from_settings(make_config(tmp_path, repository=settings).repository, secrets)


def test_good_settings(tmp_path: Path) -> None:
    local = repositories.from_settings(LocalSettings(path=str(tmp_path), folders={"config": "etc"}), {})
    assert isinstance(local, LocalRepository)
    assert local.folders == {
        "database": "postgresql",
        "objects": "objects",
        "files": "files",
        "dumps": "dumps",
        "config": "etc",
        "base": "base",
        "wal": "wal",
        "changes": "changes",
    }
    vault = repositories.from_settings(S3Settings(bucket="b", prefix="/web1/"), KEYS)
    assert vault.location("database", ID) == f"s3://b/web1/postgresql/{ID}"


def test_parallel_raises_the_first_failure() -> None:
    def work(item: str) -> None:
        if item == "b":
            raise NotFoundError("do", "b", "gone")

    with pytest.raises(NotFoundError):
        filesystem.parallel(work, ["a", "b", "c"])
