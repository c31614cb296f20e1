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


_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.pgp")


@functools.cache
def _of_release(packages: tuple[str, ...], release: str) -> Optional[tempfile.TemporaryDirectory[str]]:
    """As _folder(), of another release of Debian, with package lists of its own: this machine's are left alone."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb") or not _KEYRING.exists():
        return None
    made = tempfile.TemporaryDirectory(prefix=f"lifeboat-{release}-")
    here = Path(made.name)
    for name in ("apt/lists/partial", "apt/cache/archives/partial"):
        (here / name).mkdir(parents=True)
    (here / "apt/sources.list").write_text(
        f"deb [signed-by={_KEYRING}] http://deb.debian.org/debian {release} main\n", encoding="utf-8"
    )
    given = {
        "Dir::Etc::SourceList": f"{here}/apt/sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": f"{here}/apt/lists", "Dir::Cache": f"{here}/apt/cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [word for name, value in given.items() for word in ("-o", f"{name}={value}")]
    for words in (["update"], ["download", *(f"{package}/{release}" for package in packages)]):
        argv = ["apt-get", *options, "-qq", *words]
        if subprocess.run(argv, cwd=here, capture_output=True, check=False, timeout=300).returncode:
            return None
    for file in sorted(here.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(file), made.name], check=True, timeout=300)
        file.unlink()
    return made


def required_of(name: str, release: str) -> str:
    """The program as that release of Debian has it, unpacked; where it cannot be had as with required()."""
    folder = _of_release(PACKAGES[name], release)
    if folder is None:
        words = f"{name} of Debian's {release}: its package {PACKAGES[name][0]} cannot be fetched"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(f"NOT CHECKED by {words}")
    return str(next(Path(folder.name, "usr").glob(f"*bin/{name}")))


def required(name: str) -> str:
    """The same; where it cannot be had the test is skipped by its name, and fails in CI."""
    program = found(name)
    if program is None:
        package = PACKAGES[name][0]
        if os.environ.get("CI"):
            pytest.fail(f"there is no {name} here: apt-get install {package}")
        pytest.skip(f"NOT CHECKED by {name}: there is none, and Debian's package {package} cannot be fetched")
    return program
