# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bounds of a fuzzer: memory, time and the size of files, a machine of its own, and how many operations it makes.

OPERATIONS=N make fuzz: so many altogether, the same ones each time; SEED=N: others.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import fuzzing
import hypothesis.configuration
import pytest
import world as worlds
from ansible.module_utils import _internal
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import schedule
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from world import World

hypothesis.configuration.set_hypothesis_home_dir(Path(__file__).parents[2] / ".cache/hypothesis")
TOOLS = ("git", "ssh-keygen", "gzip", "tar", "zstd")
MEMORY, FILE = 1 << 30, 256 << 20


@pytest.fixture(scope="session", autouse=True)
def bounds() -> Iterator[None]:
    """A link to /dev/zero that is read ends in a MemoryError, not with the machine. Children have the same bounds."""
    before = {what: resource.getrlimit(what) for what in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[resource.RLIMIT_AS][1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, before[resource.RLIMIT_FSIZE][1]))
    yield
    for what, limits in before.items():
        resource.setrlimit(what, limits)
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No Docker, no network but the loopback's, no file of the machine that the tests run on."""
    root = tmp_path_factory.mktemp("fuzz")
    (root / "bin").mkdir()
    for name in TOOLS:
        if where := shutil.which(name):
            (root / "bin" / name).symlink_to(where)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(root / "bin"))
        patch.setattr(clock, "now", lambda: datetime(2199, 1, 1, tzinfo=timezone.utc))
        patch.setattr(lock, "DIRECTORY", root / "locks")
        patch.setattr(mounts, "inventory", lambda run: None)  # no project is here whose mounts there could be
        patch.setattr(cli, "LOG_DIRECTORY", root / "world/log")
        patch.setattr(schedule, "LOGS", root / "world/log")
        patch.setattr(schedule, "CRON", root / "world/cron")
        patch.setattr(config, "DIRECTORY", root / "world/etc")
        patch.setattr(_internal, "is_controller", False)
        patch.setattr(os, "fsync", lambda handle: None)  # nothing of this has to outlive a power cut
        yield root


@pytest.fixture(scope="session")
def world(machine: Path) -> World:
    """Built where the damaged ones are going to be, since configurations name whole paths; kept as the template."""
    worlds.clear(machine / "world")
    worlds.build(machine / "world")
    (machine / "world").rename(machine / "template")
    return World(machine / "template", machine / "world")


@pytest.fixture(scope="session")
def kept(machine: Path) -> World:
    worlds.clear(machine / "world")
    worlds.build_kept(machine / "world")
    (machine / "world").rename(machine / "keeper")
    return World(machine / "keeper", machine / "world")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    worlds.forget_log()
    logging.getLogger("lifeboat").setLevel(logging.NOTSET)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(fuzzing.TALLY.words())
    if where := os.environ.get("FUZZ_LOG"):
        with Path(where).open("a", encoding="utf-8") as file:
            print(f"{datetime.now(timezone.utc):%H:%M:%S} {fuzzing.TALLY.words()}", file=file)


sys.setrecursionlimit(1000)  # the interpreter's own: what pytest or a plugin may have raised hides nothing
