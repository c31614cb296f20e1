# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper reads over SFTP: from an honest server what is there, from a hostile one an error and no more."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sftp_stub
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import sftp
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.sftp import Sftp, command
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.source import BoundError, Budget, Directory, Source
from ssh_world import Host, needs_sshd

STUB = Path(sftp_stub.__file__)
BIG = os.urandom(3_000_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "backup" / "postgresql"
    folder.mkdir(parents=True)
    for number in range(250):
        (folder / f"n{number:03}").write_bytes(b"x" * number)
    (folder / "big").write_bytes(BIG)
    (folder / "link").symlink_to("big")
    os.mkfifo(folder / "pipe")
    return tmp_path / "backup"


def opened(root: Path, mode: str = "plain", budget: Budget | None = None) -> Sftp:
    return Sftp([sys.executable, str(STUB), str(root), mode], "the stack's host", "/", budget or Budget(60))


@contextlib.contextmanager
def sources(root: Path, kind: str) -> Iterator[Source]:
    """The same contract for each."""
    with Directory(root, Budget(60)) if kind == "directory" else opened(root, kind) as source:
        yield source


@pytest.mark.parametrize("kind", ["directory", "plain", "short blocks"])
def test_what_is_there_is_read(root: Path, kind: str) -> None:
    with sources(root, kind) as source:
        names = source.names("postgresql", 1000)
        assert names == sorted([*(f"n{number:03}" for number in range(250)), "big", "link", "pipe"])
        assert source.names("nothing", 10) == []
        assert source.size(("postgresql", "big")) == len(BIG)
        assert b"".join(source.chunks(("postgresql", "big"), 0, len(BIG))) == BIG
        assert b"".join(source.chunks(("postgresql", "big"), 1_000_001, 500_000)) == BIG[1_000_001:1_500_001]
        assert b"".join(source.chunks(("postgresql", "big"), len(BIG) - 5, 100)) == BIG[-5:]
        assert source.read(("postgresql", "n100"), 100) == b"x" * 100
        assert source.read(("postgresql", "n000"), 100) == b""


def test_the_end_of_a_small_file_is_no_limit_of_the_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is read up to a bound the last answer is short. What is read then is read as fast as before."""
    asked: list[int] = []
    send = Sftp._send
    monkeypatch.setattr(Sftp, "_send", lambda self, kind, body: (asked.append(kind), send(self, kind, body)))
    with opened(root) as source:
        for number in (100, 7, 1):
            assert source.read(("postgresql", f"n{number:03}"), 1000) == b"x" * number
        del asked[:]
        assert b"".join(source.chunks(("postgresql", "big"), 0, len(BIG))) == BIG
    assert asked.count(sftp.READ) == -(-len(BIG) // sftp.BLOCK)


@pytest.mark.parametrize("kind", ["directory", "plain"])
def test_what_is_no_plain_file_or_too_much_is_refused(root: Path, kind: str) -> None:
    with sources(root, kind) as source:
        for odd in ("link", "pipe"):
            with pytest.raises(IntegrityError, match="not a plain file"):
                source.read(("postgresql", odd), 10**9)
        with pytest.raises(BoundError, match="more than 99 bytes"):
            source.read(("postgresql", "n100"), 99)
        with pytest.raises(BoundError, match="more than 100 names"):
            source.names("postgresql", 100)
        with pytest.raises(NotFoundError):
            source.read(("postgresql", "gone"), 10)
        assert source.read(("postgresql", "n007"), 10) == b"x" * 7, "and the connection is as good as before"


def read(source: Source) -> None:
    source.names("postgresql", 1000)
    source.size(("postgresql", "big"))
    for _data in source.chunks(("postgresql", "big"), 0, len(BIG)):
        pass


HOSTILE: dict[str, tuple[type[LifeboatError], str]] = {
    "motd": (LifeboatError, "not SFTP: a message of"),
    "version 2": (LifeboatError, "does not speak version 3"),
    "wrong request": (LifeboatError, "nobody asked for"),
    "denied": (UsageError, "Permission denied"),
    "endless names": (BoundError, "more than 1000 names"),
    "endless dots": (BoundError, "more than 1000 names"),
    "four billion names": (LifeboatError, "a listing of 4000000000 names"),
    "a failing end": (LifeboatError, r"as it says \(4\)"),
    "no mode": (IntegrityError, "not a plain file"),
    "half attributes": (LifeboatError, "ends in the middle of a field"),
    "long handle": (LifeboatError, "a handle of more than 256 bytes"),
    "more than asked": (LifeboatError, "a block of another length"),
    "an empty block": (LifeboatError, "a block of another length"),
    "a huge message": (LifeboatError, "a message of 4000000000 bytes"),
    "gone": (LifeboatError, "the connection was closed"),
    "silent": (LifeboatError, "no answer for 1 s"),
    "stops": (LifeboatError, "no answer for 1 s"),
}  # fmt: skip


@pytest.mark.parametrize("mode", HOSTILE)
def test_a_hostile_server_is_an_error_and_no_more(root: Path, mode: str) -> None:
    kind, said = HOSTILE[mode]
    begun = time.monotonic()
    with pytest.raises(kind, match=said), opened(root, mode, Budget(60, stall=1 if "1 s" in said else 30)) as source:
        read(source)
    assert time.monotonic() - begun < 40


def test_an_honest_server_is_none(root: Path) -> None:
    """The intact case of the table above."""
    with opened(root) as source:
        read(source)


def test_a_name_with_a_slash_is_given_to_who_decides(root: Path) -> None:
    with opened(root, "a slash") as source:
        assert source.names("postgresql", 10) == ["../../etc/passwd"]


def test_the_time_of_all_is_bounded_too(root: Path) -> None:
    with (
        pytest.raises(LifeboatError, match="did not end in 1 s"),
        opened(root, budget=Budget(1, rate=100_000)) as source,
    ):
        read(source)


def test_a_server_that_takes_no_requests_is_waited_for_as_long_as_for_an_answer() -> None:
    """It answers, and reads nothing: a request more than the pipe holds would wait without end."""
    silent = ["sh", "-c", r"printf '\000\000\000\005\002\000\000\000\003'; exec sleep 60"]
    begun = time.monotonic()
    with (
        pytest.raises(LifeboatError, match="nothing was taken for 1 s"),
        Sftp(silent, "host", "/", Budget(60, stall=1)) as source,
    ):
        for _request in range(10_000):
            source._request(17, b"/a/path/of/some/length")
    assert time.monotonic() - begun < 20
    with (
        pytest.raises(LifeboatError, match="did not end in 1 s"),
        Sftp(silent, "host", "/", Budget(1, stall=30)) as source,
    ):
        for _request in range(10_000):
            source._request(17, b"/a/path/of/some/length")


def test_a_program_that_is_not_there(root: Path) -> None:
    with pytest.raises(LifeboatError, match="No such file"):
        Sftp(["/nonexistent/ssh"], "host", "/", Budget(5))


# --- OpenSSH itself, where its server is installed ---


@pytest.fixture
def host(tmp_path: Path, root: Path) -> Iterator[Host]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    made = Host(folder, root)
    yield made
    made.end()


@needs_sshd
def test_real_openssh_is_read(host: Host, root: Path) -> None:
    with Sftp(host.argv(), "host", str(root), Budget(60)) as source:
        read(source)
        assert b"".join(source.chunks(("postgresql", "big"), 0, len(BIG))) == BIG
        assert len(source.names("postgresql", 1000)) == 253


@needs_sshd
def test_a_host_with_another_key_is_refused(host: Host, root: Path) -> None:
    host.pin("other")
    with pytest.raises(LifeboatError, match=r"Host key verification failed.*not the pinned one"):
        Sftp(host.argv(), "host", str(root), Budget(60))


@needs_sshd
def test_another_key_than_the_keepers_is_refused(host: Host, root: Path) -> None:
    with pytest.raises(LifeboatError, match="Permission denied"):
        Sftp(host.argv("other"), "host", str(root), Budget(60))


@needs_sshd
def test_the_account_reads_and_does_nothing_else(host: Host, root: Path) -> None:
    """By OpenSSH's own tools: no shell, no writing, no forwarding."""
    argv = host.argv()
    words = argv[: argv.index("-s")]
    for more in (["--", "127.0.0.1", "id"], ["-W", "127.0.0.1:22", "--", "127.0.0.1"]):
        done = subprocess.run([*words, *more], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        assert done.returncode != 0 and b"uid=" not in done.stdout
    options = [word for word in words if word.startswith("-o")]
    batch = f"put {root / 'postgresql/n001'} {root / 'postgresql/new'}\n"
    done = subprocess.run(
        ["sftp", "-F", "none", "-b", "-", *options, "-P", str(host.port), "root@127.0.0.1"],
        input=batch.encode(), capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert b"denied" in done.stderr.lower() and not (root / "postgresql/new").exists()


def test_nothing_of_the_keepers_own_configuration_counts() -> None:
    argv = command("app1", 22, "keeper-shop", "/k", "/h")
    assert argv[:3] == ["ssh", "-F", "none"]
    for option in ("StrictHostKeyChecking=yes", "IdentityAgent=none", "ClearAllForwardings=yes", "BatchMode=yes"):
        assert f"-o{option}" in argv
    assert argv[-4:] == ["-s", "--", "app1", "sftp"]
    assert sftp.LARGEST == 256 << 10


def test_who_reads_the_store_by_the_same_connection_does_not_wait_without_end(root: Path) -> None:
    """At the end of the time the process goes, and with it the forwarded port: the time is set, not waited for."""
    argv = [sys.executable, str(STUB), str(root), "plain"]
    source = Sftp(argv, "the stack's host", "/", Budget(3600), "http://127.0.0.1:1")
    with contextlib.closing(source):
        assert source.names("postgresql", 1000)
        timer = source._end
        assert (timer.is_alive(), timer.interval) == (True, 3600)
        timer.function()
        with pytest.raises(LifeboatError, match="reach the stack's host"):
            source.names("postgresql", 1000)
    assert timer.finished.is_set()
    source = opened(root)
    with contextlib.closing(source):
        assert not source._end.is_alive(), "without a store each answer is waited for here"
