# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run per stack, and a lock that never outlives its holder."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, LockedError

HOLD = """
import sys, time
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
with lock.held("shop", "backup database", directory=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its input ends or it is killed."""
    path = next(item for item in sys.path if item.endswith(".ansible/collections"))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_a_second_run_is_told_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockedError) as error, lock.held("shop", "prune", directory=tmp_path):
        pytest.fail("two runs at once")
    assert f"process {holder.pid} holds it since 20" in error.value.cause
    assert error.value.cause.endswith("(backup database)")
    assert error.value.exit_code == 4
    with lock.held("blog", "another stack is free", directory=tmp_path):
        pass
    end(holder)
    with lock.held("shop", "prune", directory=tmp_path):
        pass


def test_kill_9_of_the_holder_frees_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    end(holder)
    assert holder.returncode == -signal.SIGKILL
    assert "backup database" in (tmp_path / "lifeboat-shop.lock").read_text(), "its note should still be there"
    with lock.held("shop", "the next run", directory=tmp_path):
        note = json.loads((tmp_path / "lifeboat-shop.lock").read_text())
    assert (note["pid"], note["purpose"]) == (os.getpid(), "the next run")


def test_waiting_until_it_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    waiting = threading.Timer(0.3, holder.kill)
    waiting.start()
    with lock.held("shop", "patient", wait=60, directory=tmp_path):
        pass
    end(holder)
    waiting.join()


def test_waiting_ends(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockedError), lock.held("shop", "impatient", wait=0.3, directory=tmp_path):
        pytest.fail("two runs at once")
    end(holder)


def test_it_is_free_again_after_an_error_and_within_one_process(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.held("shop", "fails", directory=tmp_path):
        raise ZeroDivisionError
    with lock.held("shop", "outer", directory=tmp_path):
        with pytest.raises(LockedError), lock.held("shop", "inner", directory=tmp_path):
            pytest.fail("two runs at once")
        with pytest.raises(LockedError), lock.held("shop", "inner again", directory=tmp_path):
            pytest.fail("an attempt that failed let go of the lock")


def test_what_a_child_inherits_does_not_hold_it(tmp_path: Path) -> None:
    """A pg_dump that outlives us must not keep the stack locked."""
    with lock.held("shop", "parent", directory=tmp_path):
        child = subprocess.Popen(["sleep", "600"])
    try:
        with lock.held("shop", "next", directory=tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_the_file_is_private_and_links_are_not_followed(tmp_path: Path) -> None:
    with lock.held("shop", "x", directory=tmp_path):
        assert stat.S_IMODE((tmp_path / "lifeboat-shop.lock").stat().st_mode) == 0o600
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lifeboat-evil.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(LifeboatError, match="take the lock"), lock.held("evil", "x", directory=tmp_path):
        pytest.fail("followed a link that anybody may put into a shared directory")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("content", ["", "garbage", "[]", "{}", "null", "5", "\x00" * 10])
def test_a_note_that_cannot_be_read_is_no_trouble(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lifeboat-shop.lock"
    with lock.held("shop", "x", directory=tmp_path):
        path.write_text(content)
        with pytest.raises(LockedError, match="another process holds it"), lock.held("shop", "y", directory=tmp_path):
            pytest.fail("two runs at once")


def test_where_others_may_write_there_is_no_lock(tmp_path: Path) -> None:
    """Who makes the file first, or another in its place, decides who waits."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with (
        pytest.raises(LifeboatError, match=r"others may write there .*mode 1777") as error,
        lock.held("shop", "x", directory=shared),
    ):
        pytest.fail("believed everybody's directory")
    assert "rm -r" in error.value.remedy
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LifeboatError, match="take the lock"), lock.held("shop", "x", directory=tmp_path / "link"):
        pytest.fail("followed a link to a directory")
    (tmp_path / "file").touch()
    with pytest.raises(LifeboatError, match="File exists"), lock.held("shop", "x", directory=tmp_path / "file"):
        pytest.fail("held a file")


def test_a_directory_that_is_not_there_is_made_private(tmp_path: Path) -> None:
    with lock.held("x", "y", directory=tmp_path / "new"):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("user", "place"), [(0, "/run/lifeboat"), (1, "/home/somebody/.cache/lifeboat")], ids=["root", "somebody"]
)
def test_root_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, user: int, place: str, locks: Path) -> None:
    monkeypatch.setattr(lock, "DIRECTORY", locks)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(lock.os, "geteuid", lambda: user)
    assert str(lock._directory()) == place


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(lock.os, "geteuid", lambda: 4_000_000)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    with pytest.raises(LifeboatError, match="Set HOME"), lock.held("shop", "x"):
        pytest.fail("held nothing")


def test_a_program_that_another_thread_is_starting_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Between fork() and exec() a child has every file of ours."""
    with lock.held("shop", "backup", directory=tmp_path):
        links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
        (handle,) = (int(link.name) for link in links if "lifeboat-shop" in str(link.readlink()))
        child = os.dup(handle)
    try:
        with lock.held("shop", "verify", directory=tmp_path):
            pass
    finally:
        os.close(child)
