# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample store's entrypoint, as a plain process with a stand-in for `weed`: it stops its store well and soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import s3_servers

ENTRYPOINT = Path(__file__).resolve().parents[1] / "lab/images/objects/objects-entrypoint.sh"
# It opens the master's gRPC door after a while, as the real one does.
WEED = """#!{python}
import os, signal, socket, sys, time
from pathlib import Path
here, part, how = Path(os.environ["S3_DATA"]), sys.argv[2], os.environ

def close(*_):
    time.sleep(0.5)
    (here / "closed").touch()
    os._exit(0)

if part == "server":
    signal.signal(signal.SIGTERM, signal.SIG_IGN if how["STORE"] == "starting" else close)
    (here / "begun").touch()
    time.sleep(0.3)
    door = socket.socket()
    door.bind(("127.0.0.1", int(how["S3_MASTER_PORT"]) + 10000))
    (here / "open").touch()
    door.listen()
elif how["FILER"] == "dies":
    sys.exit(3)
else:
    (here / ("in time" if (here / "open").exists() else "too early")).touch()
time.sleep(60)
"""


def alive(group: int, number: int = 0) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def started(where: Path, *, store: str, filer: str) -> Iterator[subprocess.Popen[bytes]]:
    weed = where / "weed"
    weed.write_text(WEED.format(python=sys.executable))
    weed.chmod(0o755)
    path = f"{where}:{os.environ['PATH']}"
    environment = {
        "PATH": path, "S3_CONFIG": "/dev/null", "S3_DATA": str(where), "STORE": store, "FILER": filer,
        "S3_MASTER_PORT": str(s3_servers.free_port(twin=10000)),
    }  # fmt: skip
    running = subprocess.Popen([ENTRYPOINT], env=environment, start_new_session=True)
    try:
        yield running
        deadline = time.monotonic() + 30
        while alive(running.pid):
            assert time.monotonic() < deadline, "a part of it outlives it"
            time.sleep(0.05)
    finally:
        alive(running.pid, signal.SIGKILL)
        running.wait()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 50
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path.name}"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_store_that_heeds_no_term_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, store="starting", filer="dies") as running:
        wait_for(tmp_path / "open")
        began = time.monotonic()
        assert running.wait(50) == 3, "the exit status of the part that ended"
        assert 2.5 < time.monotonic() - began < 50  # three, on an idle machine; by itself it ends after sixty
    assert not (tmp_path / "closed").exists()


@pytest.mark.slow
def test_a_running_store_closes_its_volumes_when_its_filer_dies(tmp_path: Path) -> None:
    with started(tmp_path, store="well", filer="dies") as running:
        assert running.wait(50) == 3
    assert (tmp_path / "closed").exists()


@pytest.mark.slow
def test_asked_to_stop_it_closes_its_volumes(tmp_path: Path) -> None:
    with started(tmp_path, store="well", filer="well") as running:
        wait_for(tmp_path / "in time")
        running.send_signal(signal.SIGTERM)
        assert running.wait(50) == 0
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / "too early").exists()


@pytest.mark.slow
def test_asked_to_stop_before_its_filer_started_it_stops(tmp_path: Path) -> None:
    with started(tmp_path, store="well", filer="well") as running:
        wait_for(tmp_path / "begun")
        running.send_signal(signal.SIGTERM)
        assert running.wait(50) == 0
