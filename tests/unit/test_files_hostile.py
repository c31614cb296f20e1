# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files backups of what nobody expects: trees that change under the walk, packs that somebody else wrote."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.files import (
    backup,
    contents,
    headers,
    listing,
    packs,
    plan,
    recovery,
    walk,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.files import restore as restore_module
from ansible_collections.lifeboat.dr.plugins.module_utils.files.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from test_files import World, by_path, details, portrait


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- what changes while it is read ---


def test_a_directory_that_turns_into_a_link_while_it_is_walked_is_not_entered(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and its opening; what the link leads to is the host's."""
    world.fill()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    real = os.open

    def swapped(name: Any, flags: int, *more: Any, **how: Any) -> int:
        if name == "a" and how.get("dir_fd") is not None and not (world.root / "a").is_symlink():
            (world.root / "a").rename(tmp_path / "moved")
            (world.root / "a").symlink_to(outside)
        return real(name, flags, *more, **how)

    monkeypatch.setattr(walk.os, "open", swapped)
    taken = world.take()
    assert not [path for path in by_path(world, taken) if path.startswith("uploads/a/")]
    assert list(details(taken).sources["uploads"].skipped) == ["uploads/a"]
    assert (world.root / "a").is_symlink(), "it was swapped"


@pytest.mark.parametrize("instead", ["link", "pipe"])
def test_a_file_that_turns_into_something_else_is_not_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    """A link leads to a file of the host's; a pipe would never end."""
    world.fill()
    (tmp_path / "secret").write_text("of the host")
    path, real = world.root / "mode", filesystem.plain_at

    def swapped(at: int, name: str) -> Any:
        if name == "mode":
            path.unlink()
            path.symlink_to(tmp_path / "secret") if instead == "link" else os.mkfifo(path)
        return real(at, name)

    monkeypatch.setattr(backup.filesystem, "plain_at", swapped)
    taken = world.take()
    assert "uploads/mode" not in by_path(world, taken)
    assert list(details(taken).sources["uploads"].skipped) == ["uploads/mode"]


def test_a_disk_that_fails_in_the_middle_of_a_file_takes_no_other_file_along(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header and its first bytes are in the pack by then."""
    world.fill()
    for number in range(3):
        (world.root / f"large-{number}").write_bytes(os.urandom(70_000))
    before = portrait(world.root)
    broken, real = (world.root / "large-1").stat().st_ino, contents.read_pieces

    def failing(handle: int, *more: Any) -> Any:
        for offset, data in real(handle, *more):
            yield offset, data[:5000] if os.fstat(handle).st_ino == broken else data
            if os.fstat(handle).st_ino == broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(contents, "read_pieces", failing)
    monkeypatch.setattr(backup, "_SMALL", 60_000)
    taken = world.take()
    assert dict(details(taken).sources["uploads"].skipped) == {"uploads/large-1": os.strerror(errno.EIO)}
    monkeypatch.undo()
    found = world.levels(taken)
    assert {name: result for name, (result, _detail) in found.items() if result != PASS} == {"files read": FAIL}
    shutil.rmtree(world.root)
    assert [check.result for check in world.recover().checks] == [PASS]
    del before["large-1"]
    assert portrait(world.root) == before


# --- whose it is ---


def test_two_stacks_that_share_a_directory_have_each_a_backup_of_their_own(world: World, tmp_path: Path) -> None:
    world.fill()
    (tmp_path / "second").mkdir()
    second = World(tmp_path / "second")
    second.settings["stack"] = "blog"
    second.settings["files"]["sources"][0]["path"] = str(world.root)
    assert by_path(world, world.take()).keys() == by_path(second, second.take()).keys()
    before = portrait(world.root)
    shutil.rmtree(world.root / "a" / "b")
    assert [check.result for check in second.recover().checks] == [PASS]
    assert portrait(world.root) == before
    assert not world.plan().needed, "what one brought back is there for the other, too"


def test_another_key_opens_nothing_and_nothing_is_touched(tmp_path: Path) -> None:
    own, another = (
        subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout for _key in range(2)
    )
    world = World(tmp_path)
    recipient = next(line.split()[-1] for line in own.splitlines() if "public key" in line)
    world.settings["encryption"] = {"recipients": [recipient]}
    world.fill()
    world.take()
    for key in (tmp_path / "state" / "keys").iterdir():
        key.unlink()
    (world.root / "mode").unlink()
    before = portrait(world.root)
    with pytest.raises(LifeboatError):
        plan.make(Opened(world.run.config, another), Request(), log=world.said.append)
    assert portrait(world.root) == before
    run = Opened(world.run.config, own)
    done = recovery.recover(run, plan.make(run, Request(), log=world.said.append), log=world.said.append)
    assert [check.result for check in done.checks] == [PASS]


def test_a_mount_that_is_in_use_stays_and_is_named_and_the_rest_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lets nobody move a directory on which a disk is mounted."""
    world.fill()
    taken = world.take()
    before = portrait(world.root)
    (world.root / "disk").mkdir()
    (world.root / "new").write_text("new")
    (world.root / "mode").unlink()
    real = os.rename

    def busy(name: Any, *more: Any, **how: Any) -> None:
        if name == "disk":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(name, *more, **how)

    monkeypatch.setattr(restore_module.os, "rename", busy)
    done = world.recover(identity=taken.id, exact=True)
    assert [check.result for check in done.checks] == [FAIL]
    assert f"uploads/disk: {os.strerror(errno.EBUSY)}" in done.checks[0].detail
    (world.root / "disk").rmdir()
    assert portrait(world.root) == before


# --- packs ---


def failed(cause: str) -> LifeboatError:
    return IntegrityError("read", "a pack", cause)


def read(data: bytes) -> list[tuple[str, bytes]]:
    return [(path, content.read()) for path, content in packs._members(io.BytesIO(data), "a pack")]


FILES: tuple[tuple[str, bytes, dict[str, str], int, int], ...] = (
    ("uploads/a", b"x", {}, 0, 1),
    ("uploads/" + "n" * 255, b"y" * 512, {}, 1000, 1_700_000_000),
    (os.fsdecode(b"uploads/\xff\xfe"), b"z" * 513, {}, 3_000_000, 1),
    ("uploads/写真", b"w", {}, 1, -5),
    ("uploads/new\nline", b"q" * 70_000, {"SCHILY.xattr.user.a": os.fsdecode(b"\xff1")}, 1, 8**11),
    ("uploads" + "/d" * 2000, b"r" * (3 << 20), {"SCHILY.xattr.user.a": "v"}, 1, 5),
    ("uploads/" + "m" * 92, b"1", {}, 1, 5),
    ("uploads/" + "m" * 93, b"2", {}, 1, 5),
)  # fmt: skip


def by_tarfile() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for path, data, records, uid, mtime in FILES:
            info = tarfile.TarInfo(path)
            info.size, info.uid, info.mtime, info.mode, info.pax_headers = len(data), uid, mtime, 0o4755, dict(records)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def by_hand() -> bytes:
    out = b""
    for path, data, records, uid, mtime in FILES:
        pairs = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in records.items()]
        out += headers.header(path, len(data), 0o4755, (uid, 0), mtime, pairs) + data + headers.padding(len(data))
    return out + headers.end(len(out))


@pytest.mark.parametrize("pack", [by_tarfile, by_hand])
def test_packs_that_tarfile_wrote_and_ours_are_read_alike(pack: Callable[[], bytes]) -> None:
    data = pack()
    assert len(data) % 10_240 == 0
    assert read(data) == [(path, content) for path, content, *_rest in FILES]
    passed_over = [path for path, _content in packs._members(io.BytesIO(data), "a pack")]
    assert passed_over == [path for path, *_rest in FILES], "also where nobody reads what is stored"


def test_tarfile_reads_what_we_write() -> None:
    with tarfile.open(fileobj=io.BytesIO(by_hand()), errors="surrogateescape") as archive:
        for member, (path, data, records, uid, mtime) in zip(archive, FILES):
            content = archive.extractfile(member)
            assert content is not None
            assert (member.name, content.read(), member.uid, member.mtime) == (path, data, uid, mtime)
            assert {name: member.pax_headers.get(name) for name in records} == records
            assert (member.mode, member.isreg()) == (0o4755, True)


def linked(kind: bytes) -> bytes:
    info = tarfile.TarInfo("uploads/a")
    info.type, info.linkname = kind, "/etc/passwd"
    return info.tobuf(tarfile.PAX_FORMAT) + headers.end(512)


def extended(records: bytes, size: int = 1) -> bytes:
    """A file of one byte, and before it these pax records."""
    head = headers._block(b"p", len(records), 0, 0, 0, 0, b"x") + records + headers.padding(len(records))
    return head + headers.header("uploads/a", size, 0, (0, 0), 0) + b"x" * 512 + headers.end(0)


SOUND = headers.header("uploads/a", 1, 0, (0, 0), 0) + b"x".ljust(512, b"\0")
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no end": SOUND,
    "cut in a header": SOUND[:300],
    "cut in a file": SOUND[:600],
    "another checksum": SOUND.replace(b"uploads/a", b"uploads/b") + headers.end(0),
    "a symbolic link": linked(tarfile.SYMTYPE),
    "a hard link": linked(tarfile.LNKTYPE),
    "a directory": linked(tarfile.DIRTYPE),
    "a device": linked(tarfile.BLKTYPE),
    "GNU's sparse file": linked(tarfile.GNUTYPE_SPARSE),
    "GNU's long name": linked(tarfile.GNUTYPE_LONGNAME),
    "records of every file": linked(tarfile.XGLTYPE),
    "a way out": headers.header("uploads/../../etc/passwd", 0, 0, (0, 0), 0) + headers.end(0),
    "an absolute path": headers.header("/etc/passwd", 0, 0, (0, 0), 0) + headers.end(0),
    "a way out by a record": extended(headers._record(b"path", b"../etc/passwd")),
    "a sparse file's way out": extended(headers._record(b"GNU.sparse.name", b"../etc/passwd")),
    "a record without a length": extended(b"path=a\n"),
    "a record longer than all": extended(b"99 path=a\n"),
    "a record of no length": extended(b"0 path=a\n"),
    "a record without an end": extended(b"9 path=ab"),
    "a size that is no number": extended(headers._record(b"size", b"-1")),
    "more than a disk holds": extended(headers._record(b"size", b"9" * 17)),
    "records before records": headers._block(b"p", 0, 0, 0, 0, 0, b"x") * 2 + SOUND + headers.end(0),
    "records before nothing": headers._block(b"p", 0, 0, 0, 0, 0, b"x") + headers.end(0),
    "records without an end": headers._block(b"p", headers.RECORDS + 1, 0, 0, 0, 0, b"x") + bytes(3 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pack_that_no_backup_wrote_is_refused(name: str) -> None:
    assert read(SOUND + headers.end(0)) == [("uploads/a", b"x")], "one that is right is read"
    with pytest.raises(IntegrityError):
        read(HOSTILE[name])


def test_more_files_than_a_pack_may_have_are_refused() -> None:
    data = io.BytesIO(SOUND * 3 + headers.end(0))
    with pytest.raises(IntegrityError, match="more than 2 files"):
        list(headers.members(data, 2, failed))


def test_of_a_file_that_is_longer_than_the_listing_says_no_more_is_written(tmp_path: Path) -> None:
    entry = listing.Entry("uploads/a", "file 644 0 0 1 1 1 10", 1, listing.Rest(filesystem.sha256(b"x" * 10)))
    with restore_module.Placer(str(tmp_path), "uploads") as placer:
        assert not placer.staged(entry, io.BytesIO(b"x" * (5 << 20)), "a pack")
        assert (tmp_path / ".lifeboat-new").stat().st_size == 0
        placer.drop(entry)
        assert placer.staged(entry, io.BytesIO(b"x" * 10), "a pack")


# --- listings beside a walk ---

HEAD = b'{"schema": "lifeboat.dr/file-listing", "version": [1, 0]}\n'
STATUS = "file 644 0 0 1 1 1 3"
PATHS = ("uploads/a", 'uploads/b"', "uploads/c\\", os.fsdecode(b"uploads/d\xff"), "uploads/é\n", "uploads/写真")


def test_an_unchanged_line_is_the_one_that_reading_it_tells() -> None:
    entries = [listing.Entry(path, STATUS, 7, listing.Rest("0" * 64)) for path in PATHS]
    data = HEAD + b"".join(entry.encoded for entry in entries)
    whole = list(listing.read(io.BytesIO(data), "x"))
    rows = listing.read(io.BytesIO(data), "x")
    for path, row in zip(PATHS, whole):
        assert rows.unchanged(path, STATUS + "1") is None
        assert rows.unchanged(path + "1", STATUS) is None
        same = rows.unchanged(path, STATUS)
        assert same is not None
        names = ("raw", "text", "path", "status", "pack", "digest", "entry", "order", "need")
        assert [getattr(same, name) for name in names] == [getattr(row, name) for name in names]
    assert next(rows, None) is None


@pytest.mark.parametrize(
    "line",
    [
        f'"uploads/a"\t{STATUS}\t1\t{{}}\n',
        f'"uploads/a"\t{STATUS}\t99999999999\t{{}}\n',
        f'"uploads/b"\t{STATUS}\t1\t{{}}',
        f'"uploads/b"\t{STATUS}\t1\t{{}}\t\n',
        f'"uploads/b"\t{STATUS}\t1\n',
        f'"uploads/b"\t{STATUS}\tx\t{{}}\n',
    ],
)
def test_what_is_wrong_behind_an_unchanged_line_is_seen(line: str) -> None:
    """It comes twice, is cut, or is none: each is refused, also where a walk has something of that name."""
    rows = listing.read(io.BytesIO(HEAD + f'"uploads/a"\t{STATUS}\t1\t{{}}\n'.encode() + line.encode()), "x")
    assert rows.unchanged("uploads/a", STATUS) is not None
    if "uploads/b" in line:
        assert rows.unchanged("uploads/b", STATUS) is None
    with pytest.raises(IntegrityError):
        next(rows)
