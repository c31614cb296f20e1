# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""redirects.py gets a drill's credentials from an ordinary HTTP client, and nothing from Lifeboat's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("redirects.py")
EVERYTHING = [f"{where}: {what}" for where in ("another host", "another port") for what in
              ("another header", "the header Authorization")]  # fmt: skip


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_an_ordinary_client_takes_credentials_along(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, EVERYTHING), done.stderr


def test_a_drills_credentials_stay_with_the_application(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    assert "it sends on to another host, localhost" in done.stderr
    assert "redirects: true follows it" in done.stderr
    assert "another host: asked 0 times" in done.stderr
    assert "another port: asked 0 times" not in done.stderr, "followed where it is configured, without credentials"
