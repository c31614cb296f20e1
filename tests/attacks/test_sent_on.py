# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sent_on.py has ordinary clients take a key along to another server, and none of Lifeboat's, which ask nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sent_on import PRODUCT, UNPROTECTED

SCRIPT = Path(__file__).with_name("sent_on.py")
HOSTS = pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
# What the server itself is asked, where a command has two clients.
ASKED = {
    "boto3": "asked: GET /b?list-type=2&prefix=", "signed requests": "asked: GET /v?versioning=",
    "a first look at a key": "asked: GET /b?list-type=2&max-keys=1",
}  # fmt: skip


def attack(name: str, host: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), name, host, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@HOSTS
@pytest.mark.parametrize("name", UNPROTECTED)
def test_control_ordinary_clients_take_the_key_along(name: str, host: str, tmp_path: Path) -> None:
    done = attack(name, host, tmp_path)
    assert (done.returncode, "with the key" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
@HOSTS
@pytest.mark.parametrize("name", PRODUCT)
def test_ours_ask_nobody_else(name: str, host: str, tmp_path: Path) -> None:
    done = attack(name, host, tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert ASKED.get(name, "") in done.stderr, "it is that client"
