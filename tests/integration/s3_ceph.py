# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ceph's RADOS Gateway: one node on loopback, from Debian's ceph-mon, ceph-osd, ceph-mgr and radosgw.

It takes minutes to start, so `make rgw` alone starts it. Nothing outside its directory is written, and its processes
end with it. Tried with Ceph 18.2.7.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import s3_servers
from s3_servers import Server, ServerError

CLASSES = "rados-classes"  # a directory of Debian's librados, in the one of the machine's own libraries
STEP = 300  # seconds for one command, or for one daemon to answer
# Without keys of its own a cluster cannot encrypt, which connections to the monitor do unless told otherwise. The
# default of osd_class_dir is relative to the working directory. memstore keeps everything in memory.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = {monitor}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_mon_service_mode = crc
ms_mon_cluster_mode = crc
chdir = ""
run_dir = {directory}
admin_socket = {directory}/$name.asok
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
crash_dir = {directory}/crash
mon_data = {directory}/mon
mon_data_avail_crit = 0
mon_allow_pool_size_one = true
mgr_data = {directory}/mgr
osd_data = {directory}/osd
osd_class_dir = {classes}
osd_class_load_list = *
osd_class_default_list = *
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_mclock_skip_benchmark = true
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
rgw_data = {directory}/rgw
"""


class RGW(Server):
    """`identities`: more keys, each with a `policy`: {name, access_key, secret_key, policy}."""

    kind = "Ceph RGW"
    lacks = frozenset({"conditions"})
    writers = True
    patience = STEP

    def __init__(self, directory: Path, identities: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(directory)
        self.port = s3_servers.free_port()
        second = s3_servers.free_port([self.port])
        third = s3_servers.free_port([self.port, second])
        self._identities = [identity for identity in identities if "policy" in identity]
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._fsid, self._monitor = str(uuid.uuid4()), f"[v2:127.0.0.1:{second},v1:127.0.0.1:{third}]"
        self._configuration = directory / "ceph.conf"
        for name in ("mon", "mgr", "osd", "rgw", "crash"):
            (directory / name).mkdir()
        self._configuration.write_text(
            CONFIGURATION.format(fsid=self._fsid, monitor=self._monitor, directory=directory, classes=_classes())
        )

    def start(self) -> None:
        """Everything below the gateway, its administrator, the gateway, and then the keys of the vault's writers."""
        self._cluster()
        capabilities = "users=*;buckets=*;user-policy=*"
        self._user("root", self.access_key, self.secret_key, f"--caps={capabilities}")
        for identity in self._identities:
            # Any user of a gateway may make buckets, unless told otherwise.
            self._user(identity["name"], identity["access_key"], identity["secret_key"], "--max-buckets=-1")
        super().start()
        for identity in self._identities:
            self._allow(identity["name"], identity["policy"])

    def command(self) -> tuple[list[str], dict[str, str]]:
        frontend = f"--rgw-frontends=beast endpoint=127.0.0.1:{self.port}"
        return [*self._tool("radosgw"), "--name=client.rgw.a", "-d", frontend], {}

    def ready(self) -> bool:
        self.client.list_buckets()
        return True

    def kill(self) -> None:
        super().kill()
        while self._daemons:
            daemon = self._daemons.pop()
            daemon.kill()
            daemon.wait()

    def _cluster(self) -> None:
        monmap = str(self.directory / "monmap")
        self._run(
            s3_servers.binary("monmaptool"), "--create", "--fsid", self._fsid, "--addv", "a", self._monitor, monmap
        )
        self._run(*self._tool("ceph-mon"), "--mkfs", "--id=a", f"--monmap={monmap}", "--keyring=/dev/null")
        self._daemon("ceph-mon", "a")
        self._until("the monitor", lambda: "a" in self._ceph("quorum_status")["quorum_names"])
        disk = str(uuid.uuid4())
        self._run(*self._tool("ceph"), "osd", "new", disk)
        self._run(*self._tool("ceph-osd"), "--mkfs", "--id=0", f"--osd-uuid={disk}")
        self._daemon("ceph-mgr", "x")
        self._daemon("ceph-osd", "0")
        self._until("the disk", lambda: self._ceph("osd", "stat").get("num_up_osds") == 1)

    def _user(self, name: str, access_key: str, secret_key: str, option: str) -> None:
        self._run(
            *self._tool("radosgw-admin"), "user", "create", f"--uid={name}", f"--display-name={name}",
            f"--access-key={access_key}", f"--secret-key={secret_key}", option,
        )  # fmt: skip

    def _allow(self, name: str, policy: dict[str, Any]) -> None:
        """A policy of a user is set through the API of Amazon's IAM, which the gateway has as well."""
        iam = boto3.client(
            "iam", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )  # fmt: skip
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))

    def _tool(self, name: str) -> list[str]:
        return [s3_servers.binary(name), f"--conf={self._configuration}"]

    def _ceph(self, *words: str) -> Any:
        """What the monitor answers."""
        said = self._run(*self._tool("ceph"), "--connect-timeout=10", "--format=json", *words)
        return json.loads(said)

    def _run(self, *argv: str) -> str:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=STEP, check=False, cwd=self.directory, env=_environment()
        )
        if done.returncode:
            raise ServerError(f"{self.kind}: {Path(argv[0]).name} exited {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def _daemon(self, name: str, id: str) -> None:
        with (self.directory / f"{name}.out").open("ab") as log:
            self._daemons.append(
                subprocess.Popen(
                    [*s3_servers.dying_with_us(), *self._tool(name), f"--id={id}", "-f"], stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, cwd=self.directory, env=_environment(),
                )
            )  # fmt: skip

    def _until(self, what: str, ready: Any) -> None:
        deadline = time.monotonic() + STEP
        while True:
            try:
                if ready():
                    return
                said = "it says that it is not up"
            except ServerError as exc:
                said = str(exc)
            if time.monotonic() > deadline or self._daemons[-1].poll() is not None:
                logs = "".join(path.read_text(errors="replace")[-2000:] for path in self.directory.glob("ceph-*.out"))
                raise ServerError(f"{self.kind}: {what} did not come up: {said}\n{logs}")
            time.sleep(1)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("CEPH_ARGS", "CEPH_CONF")}


def _classes() -> str:
    found = sorted(str(path) for path in Path("/usr/lib").glob(f"*/{CLASSES}"))
    found += [path for path in (f"/usr/lib/{CLASSES}", f"/usr/lib64/{CLASSES}") if Path(path).is_dir()]
    if not found or not shutil.which("radosgw"):
        raise ServerError(f"{RGW.kind}: Ceph is not installed: run tests/objects/rgw.sh, or `make rgw`")
    return found[0]
