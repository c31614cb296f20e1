# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real S3 servers as plain processes on loopback ports, and MinIO's own client as a witness of what is in them.

Two that differ: SeaweedFS has versions, lifecycle, object lock and tags; the JuiceFS gateway is MinIO's S3 code over a
file system, without versions and lifecycle. Each has credentials of its own and a directory that goes with it. moto
keeps everything in memory and checks no key; a node of Ceph is in s3_ceph.py.

    with seaweedfs() as server:
        server.client.create_bucket(Bucket="uploads")
        mc(server, "ls", "--versions", f"{ALIAS}/uploads")

The fixtures of tests/objects/conftest.py hand out the same servers, started once.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client as s3_client

ALIAS = "it"  # what mc calls the server
PATIENCE = 60  # seconds for a server to answer


class ServerError(Exception):
    """A server did not start; its log is in the message."""


def binary(name: str) -> str:
    """A tool that requirements.txt installs, from this interpreter's environment or from PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise ServerError(f"there is no {name}: run `make setup`, which installs what requirements.txt pins")
    return found


_LOWEST, _HIGHEST = 10240, 40000
_EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
_OURS = contextlib.ExitStack()  # abstract sockets, one for each port that this process was given


def free_port(taken: Sequence[int] = (), twin: int = 0) -> int:
    """A free loopback port; with `twin`, the port that much above it (weed's gRPC) is free too.

    All below those that the kernel gives to outgoing connections, where it leaves enough of them: one of these may take
    a port before the server does. So may a server of another worker's, which is why the port stays this process' own
    until it ends: an abstract socket has its number, and there is one of a name in a network namespace.
    """
    below = _EPHEMERAL - twin
    while True:
        port = random.randrange(_LOWEST, below if below > _LOWEST + 1000 else _HIGHEST)  # noqa: S311
        wanted = {port, port + twin}
        if wanted & set(taken):
            continue
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as tried:
            try:
                for number in wanted:
                    ours.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0lifeboat-tests-port-{number}")
                    tried.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            _OURS.push(ours.pop_all())
            return port


def dying_with_us() -> list[str]:
    """Even where pytest is killed outright no server outlives it; without setpriv only an orderly end sees to that."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []


class Server(abc.ABC):
    """One server: `start`, `kill` (its data stays), and a client that is its administrator."""

    kind = ""
    lacks: frozenset[str] = frozenset()  # of what the probe tries
    writers = False  # whether it has further keys with the vault's policies: SeaweedFS' `identities`
    patience = PATIENCE

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "server.log"
        self.access_key, self.secret_key = secrets.token_hex(8), secrets.token_hex(20)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @functools.cached_property
    def client(self) -> Any:
        return self.connect(self.access_key, self.secret_key)

    def connect(self, access_key: str, secret_key: str) -> Any:
        return s3_client.connect(self.url, "", access_key, secret_key)

    @abc.abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """The server's argv, and what its environment has more than ours."""

    @abc.abstractmethod
    def ready(self) -> bool:
        """Whether it answers; called until it does."""

    def start(self) -> None:
        """Start it, on the same port with the same data when it ran before, and wait until it answers."""
        argv, environment = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*dying_with_us(), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                start_new_session=True, env={**os.environ, **environment},
            )  # fmt: skip
        deadline = time.monotonic() + self.patience
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.kill()
                raise ServerError(f"{self.kind} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(Exception), socket.create_connection(("127.0.0.1", self.port), 1):
            return self.ready()
        return False

    def remove(self, bucket: str) -> None:
        """The bucket, with all that is in it."""
        wipe(self.client, bucket)

    def kill(self) -> None:
        """End it at once: asked politely SeaweedFS takes ten seconds."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class SeaweedFS(Server):
    """`identities`: more keys: {name, access_key, secret_key} and `actions` ["Read:bucket", ...] or a `policy`."""

    kind = "SeaweedFS"
    writers = True

    def __init__(self, directory: Path, identities: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(directory)
        ports: list[int] = []
        for _ in range(4):
            ports.append(free_port([*ports, *(port + 10000 for port in ports)], twin=10000))
        self._master, self._volume, self._filer, self.port = ports
        root = {
            "name": "root", "access_key": self.access_key, "secret_key": self.secret_key,
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }  # fmt: skip
        known = [
            {
                "name": identity["name"],
                "credentials": [{"accessKey": identity["access_key"], "secretKey": identity["secret_key"]}],
                "actions": identity.get("actions", []),
                "policyNames": [identity["name"]] if "policy" in identity else [],
            }
            for identity in [root, *identities]
        ]
        policies = [
            {"name": identity["name"], "content": json.dumps(identity["policy"])}
            for identity in identities
            if "policy" in identity
        ]
        self._config = directory / "s3.json"
        self._config.touch(0o600)
        self._config.write_text(json.dumps({"identities": known, "policies": policies}))

    def command(self) -> tuple[list[str], dict[str, str]]:
        # With too few or too large volumes writes hang; the iceberg and lance ports are fixed ones unless closed.
        argv = [
            binary("weed"), "-logtostderr=true", "server", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=128", "-volume.max=0", "-filer", "-s3",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.electionTimeout=1s",
            f"-master.port={self._master}", f"-volume.port={self._volume}",
            f"-filer.port={self._filer}", f"-s3.port={self.port}", f"-s3.config={self._config}",
        ]  # fmt: skip
        return argv, {}

    def ready(self) -> bool:
        # Its S3 port answers before there is a volume to write to, and a write would then hang.
        probe = f"ready-{secrets.token_hex(4)}"
        self.client.create_bucket(Bucket=probe)
        self.client.put_object(Bucket=probe, Key="ready", Body=b"x")
        self.client.delete_object(Bucket=probe, Key="ready")
        self.client.delete_bucket(Bucket=probe)
        return True


class JuiceFS(Server):
    """MinIO's S3 code over a file system: tags and metadata, but neither versions nor lifecycle nor object lock."""

    kind = "JuiceFS"
    lacks = frozenset({"versioning", "times", "lifecycle", "object_lock", "conditions"})

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._meta = f"sqlite3://{directory}/meta.db"
        self.port = free_port()
        self._metrics = free_port([self.port])
        made = subprocess.run(
            [binary("juicefs"), "format", "--quiet", "--no-color", "--no-agent", "--storage=file", "--trash-days=0",
             f"--bucket={self.data}/", self._meta, "bucket"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if made.returncode:
            raise ServerError(f"juicefs format: {made.stdout}{made.stderr}")

    def command(self) -> tuple[list[str], dict[str, str]]:
        argv = [
            binary("juicefs"), "gateway", "--no-color", "--no-agent", "--no-banner", "--no-usage-report", "--no-bgjob",
            "--multi-buckets", "--keep-etag", "--object-tag", "--object-meta", "--backup-meta=0", "--cache-size=0",
            # Without these a listing within a second of a write may show what was before it.
            "--attr-cache=0", "--entry-cache=0", "--dir-entry-cache=0",
            f"--cache-dir={self.directory}/cache", f"--log={self.directory}/gateway.log",
            f"--metrics=127.0.0.1:{self._metrics}", self._meta, f"127.0.0.1:{self.port}",
        ]  # fmt: skip
        return argv, {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key}

    def ready(self) -> bool:
        self.client.list_buckets()
        return True


class Moto(Server):
    """Python's mock of Amazon S3. Any key may do anything, and a restart forgets everything."""

    kind = "moto"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [binary("moto_server"), "-H", "127.0.0.1", "-p", str(self.port)], {}

    def ready(self) -> bool:
        self.client.list_buckets()
        return True

    def remove(self, bucket: str) -> None:
        """With all others: it answers 500 when it is to list versions of a key with a control character."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")  # noqa: S310 - http, on loopback
        with urllib.request.urlopen(request, timeout=self.patience):  # noqa: S310
            pass


@contextlib.contextmanager
def running(make: Any) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="lifeboat-s3-", ignore_cleanup_errors=True) as directory:
        server: Server = make(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def seaweedfs(identities: Sequence[dict[str, Any]] = ()) -> Iterator[SeaweedFS]:
    """A SeaweedFS of one's own; three seconds."""
    with running(lambda directory: SeaweedFS(directory, identities)) as server:
        yield server


# What every S3 endpoint is promised is tested on each of these, by the name of its parameter.
SERVERS: dict[str, type[Server]] = {
    "weed": SeaweedFS,
    "gateway": JuiceFS,
}
# These run the conformance suite only: moto cannot show that a wrong key is refused.
CONFORMANCE_ONLY: dict[str, type[Server]] = {"moto": Moto}


def wipe(client: Any, bucket: str) -> None:
    """Remove a bucket with all that is in it: versions, delete markers, locks of governance, unfinished uploads."""
    with contextlib.suppress(client.exceptions.ClientError):  # SeaweedFS removes it whole
        client.delete_bucket(Bucket=bucket)
        return
    with contextlib.suppress(client.exceptions.ClientError):  # a server without versions
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                client.delete_object(
                    Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
                )
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for content in page.get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=content["Key"])
    with contextlib.suppress(client.exceptions.ClientError):
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", ()):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=bucket)


# --- the witness ------------------------------------------------------------------------------------------------------


def may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


@functools.lru_cache
def find_mc() -> str:
    """MinIO's client, installed from Debian where root may; empty where nobody may, an error where apt cannot."""

    def look() -> str:
        for name in ("minio-client", "mcli", "mc"):
            path = shutil.which(name)
            if path is None:
                continue
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
            if "minio" in said.lower() or "RELEASE." in said:  # `mc` may be Midnight Commander
                return path
        return ""

    found = look()
    if not found and may_install():
        said = ""
        for step in (["update"], ["install", "--yes", "--no-install-recommends", "minio-client"]):
            done = subprocess.run(
                ["apt-get", "--quiet", *step], capture_output=True, text=True, timeout=300, check=False,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )  # fmt: skip
            said = f"apt-get {' '.join(step)} exited {done.returncode}: {done.stderr.strip()[-400:]}"
        found = look()
        if not found:
            raise ServerError(f"there is no MinIO client (mc) to check by, and it could not be installed: {said}")
    return found


def mc(server: Server, *argv: str) -> list[dict[str, Any]]:
    """What mc says, one dict a line; ServerError with its words where it fails. Name the server `ALIAS`."""
    key = f"http://{server.access_key}:{server.secret_key}@127.0.0.1:{server.port}"
    with tempfile.TemporaryDirectory(prefix="lifeboat-mc-") as home:
        done = subprocess.run(
            [find_mc(), "--json", "--config-dir", home, *argv],
            capture_output=True, text=True, timeout=120, check=False, env={**os.environ, f"MC_HOST_{ALIAS}": key},
        )  # fmt: skip
    if done.returncode:
        raise ServerError(f"mc {' '.join(argv)}: {done.stdout}{done.stderr}")
    lines: list[dict[str, Any]] = []
    decoder, rest = json.JSONDecoder(), done.stdout.strip()
    while rest:  # some answers of mc are spread over lines
        one, end = decoder.raw_decode(rest)
        lines.append(one)
        rest = rest[end:].lstrip()
    return lines
