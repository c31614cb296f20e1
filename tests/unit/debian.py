# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs as they are installed, or as Debian's packages bring them; nothing is installed, and each comes once."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

# The first has it. The others are libraries, which not every release of Debian has.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "promtool": ("promtool",),
    "amtool": ("prometheus-alertmanager",),
    "prometheus-alertmanager": ("prometheus-alertmanager",),
    "sshd": ("openssh-server", "libwrap0", "libwtmpdb0"),
    "rsyslogd": ("rsyslog", "libestr0", "libfastjson4"),
}


@functools.cache
def _folder(packages: tuple[str, ...]) -> Optional[tempfile.TemporaryDirectory[str]]:
    """Where they are unpacked until this process ends."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    made = tempfile.TemporaryDirectory(prefix="lifeboat-debian-")
    for package in packages:
        words = ["apt-get", "download", "-qq", package]
        fetched = subprocess.run(words, cwd=made.name, capture_output=True, check=False, timeout=300)
        if fetched.returncode and package == packages[0]:
            return None
    for file in sorted(Path(made.name).glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(file), made.name], check=True, timeout=300)
        file.unlink()
    return made


def found(name: str) -> Optional[str]:
    """The program; None where it can be had in neither way."""
    installed = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    folder = None if installed else _folder(PACKAGES[name])
    return str(next(Path(folder.name, "usr").glob(f"*bin/{name}"))) if folder else installed


def required(name: str) -> str:
    """The same; where it cannot be had the test is skipped by its name, and fails in CI."""
    program = found(name)
    if program is None:
        package = PACKAGES[name][0]
        if os.environ.get("CI"):
            pytest.fail(f"there is no {name} here: apt-get install {package}")
        pytest.skip(f"NOT CHECKED by {name}: there is none, and Debian's package {package} cannot be fetched")
    return program
