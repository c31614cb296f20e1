# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus's own checker, as it is installed or as Debian's package brings it; the package is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import pytest


def found(folder: Path) -> Optional[str]:
    """promtool; else the one of Debian's package, unpacked into `folder`. None where neither can be had."""
    installed = shutil.which("promtool")
    if installed or not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return installed
    fetched = subprocess.run(
        ["apt-get", "download", "-qq", "promtool"], cwd=folder, capture_output=True, check=False, timeout=300
    )
    packages = sorted(folder.glob("promtool_*.deb"))
    if fetched.returncode or not packages:
        return None
    subprocess.run(["dpkg-deb", "--extract", str(packages[0]), str(folder)], check=True, timeout=300)
    return str(folder / "usr" / "bin" / "promtool")


def required(folder: Path) -> str:
    """The same; where it cannot be had the test is skipped by its name, and fails in CI."""
    program = found(folder)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("there is no promtool here: apt-get install promtool")
        pytest.skip("NOT CHECKED by promtool: there is none, and Debian's package cannot be fetched")
    return program
