# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""archive.py finds every secret in what tar packs, and none in the configuration archive of Lifeboat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from archive import FILES

SCRIPT = Path(__file__).with_name("archive.py")


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_tar_packs_every_secret(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, list(FILES)), done.stderr


def test_no_secret_is_in_the_archive_and_each_is_named(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    (manifest,) = tmp_path.glob("backup/config/*/manifest.json")
    left = json.loads(manifest.read_text())["details"]["left_out"]
    assert {Path(path).name for path in left} >= set(FILES), "each file is named"
