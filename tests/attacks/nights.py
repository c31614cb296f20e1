# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nights of a host before it is attacked, and afterwards the plans of its recoveries, by a playbook as the roles do it.

A backup of a database takes a server of PostgreSQL, and what is attacked is what it leaves behind: so that alone is
made by functions of the core. Nothing is attacked or judged by them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import boto3
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import FACTS, make_manifest, settings
from hostile_archive import ROOT

STACK = f"attacked-nights-{os.getpid()}"  # its lock is the machine's, where others may run this too
DAY, NIGHTS = timedelta(days=1), 2
ROLES = "globals.sql.gz"
CONTENT = {"database.dump": b"dump", ROLES: b"roles", "fingerprint.json": json.dumps(FACTS).encode()}
# An engine without a container, and with the image of the database's server; that there is an age is only looked for.
DOCKER = """#!/bin/sh
case " $* " in
*" config "*) echo '{"name": "shop", "services": {"db": {"image": "postgres:17"}}}' ;;
*" --version "*) echo 'postgres (PostgreSQL) 17.0' ;;
esac
"""
# Python and what it imports are begun once, as that takes longer than the programs do.
EACH = """
import gc, importlib, json, os, sys
import boto3
boto3.client("s3", region_name="x", aws_access_key_id="x", aws_secret_access_key="x")
jobs = json.load(sys.stdin)
modules = [importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.{name}") for name, words in jobs]
codes = []
gc.freeze()  # a child that collects it would copy it all
for number, (module, (name, words)) in enumerate(zip(modules, jobs)):
    child = os.fork()
    if not child:
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{kind}", os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        sys.argv = [name, *words]
        sys.exit(module.main())
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


@dataclass
class Host:
    """A stack, its repository and what was published there, oldest first: `backups`, and the `points` of them."""

    root: Path
    settings: dict[str, Any]
    secrets: dict[str, str] = field(default_factory=dict)
    backups: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    def publish(self, nights: int = NIGHTS) -> Host:
        """A backup and a recovery point for each of some nights, the newest of a few minutes ago."""
        now = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=10)
        for night in reversed(range(nights)):
            run, at = Opened(config.from_mapping(self.settings, self.secrets)), now - night * DAY
            made = make_manifest(at, stack=STACK)
            with repositories.repository_of(run).stage("database", made.id) as staging:
                for name, data in CONTENT.items():
                    (staging.path / name).write_bytes(data)
                repositories.publish(run, made, staging.publish)
            tied, _new = points.seal(run, now=at, log=lambda line: None)
            self.backups.append(made.id)
            self.points.append(tied.id)
        return self


def signing(root: Path, *, pinned: bool) -> dict[str, Any]:
    """The settings of a host that signs; its signers are pinned, or not."""
    key = root / "signing"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = [{"name": "app1", "key": key.with_suffix(".pub").read_text().strip()}]
    return {"signing_key": str(key), **({"signers": signers} if pinned else {})}


def local(root: Path, name: str, **more: Any) -> Host:
    """A host whose repository is a directory."""
    (root / name).mkdir()
    return Host(root / name, settings(root / name, stack=STACK, **more))


def in_bucket(root: Path, name: str, bucket: str, **more: Any) -> Host:
    """A host whose repository is a bucket of the server that the environment names, below a prefix of its own."""
    (root / name).mkdir()
    place = {
        "type": "s3", "bucket": bucket, "prefix": f"{root.name}-{name}", "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "staging_root": str(root / name / "staging"),
    }  # fmt: skip
    keys = {"s3_access_key": os.environ["AWS_ACCESS_KEY_ID"], "s3_secret_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    return Host(root / name, settings(root / name, stack=STACK, repository=place, **more), keys)


Attack = Callable[[str, str], tuple["subprocess.CompletedProcess[str]", Path]]  # the fixture `attack`
Job = tuple[str, list[str]]  # a program of the product, and its words


class Writer:
    """Who holds the writer's key of that bucket: S3 requests below its prefix."""

    def __init__(self, host: Host) -> None:
        self.client = boto3.client("s3", region_name="us-east-1")
        self.bucket, self.prefix = (host.settings["repository"][name] for name in ("bucket", "prefix"))

    def backup(self, identity: str, name: str = "manifest.json") -> str:
        return f"{self.prefix}/postgresql/{identity}/{name}"

    def point(self, identity: str) -> str:
        return f"{self.prefix}/recovery-points/{identity}.json"

    def hide(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def state(self) -> set[tuple[str, str, bool]]:
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        every = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
        return {(item["Key"], item["VersionId"], item["IsLatest"]) for item in every}


def product(root: Path) -> dict[str, str]:
    """Its environment: an engine of ours, and none of the attacker's keys."""
    tools = root / "bin"
    if not tools.exists():
        tools.mkdir()
        for name, text in (("docker", DOCKER), ("age", "#!/bin/sh\nexit 1\n")):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**own, "PATH": f"{tools}:{own['PATH']}", "PYTHONPATH": str(ROOT / ".ansible/collections")}


def plan(kind: str, host: Host, identity: str) -> Job:
    """What recover_database or recover_site would do, by its module, run as Ansible runs it: JSON in, JSON out."""
    path = host.root / f"{kind}-{identity}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": options(host, identity)}))
    return f"modules.{kind}_plan_info", [str(path)]


def lifeboat(host: Host, *words: str, json_too: bool = True) -> Job:
    """A command, which says it as JSON too, or as an operator reads it."""
    etc = host.root / "etc"
    etc.mkdir(exist_ok=True)
    for name, data in ((f"{STACK}.json", host.settings), (f"{STACK}.secrets.json", host.secrets)):
        (etc / name).write_text(json.dumps(data))
        (etc / name).chmod(0o600)
    return "module_utils.command.cli", [*words, *(["--json"] if json_too else []), "--config-directory", str(etc)]


def answers(root: Path, jobs: Sequence[Job]) -> list[tuple[int, Any]]:
    """Each a process of its own, one after the other: its exit code, and what it says."""
    scratch = Path(tempfile.mkdtemp(dir=root))
    done = subprocess.run(
        [sys.executable, "-c", EACH],
        check=True, input=json.dumps(jobs), text=True, stdout=subprocess.PIPE, env=product(root), cwd=scratch,
    )  # fmt: skip
    found = []
    for number, (code, (name, words)) in enumerate(zip(json.loads(done.stdout), jobs)):
        out, err = ((scratch / f"{number}.{kind}").read_text() for kind in ("out", "err"))
        print(f"{name} {' '.join(words)}: exit {code}\n{out}{err}", file=sys.stderr)
        found.append((code, json.loads(out) if out.lstrip()[:1] in ("{", "[") else out))
    return found


def options(host: Host, identity: str) -> dict[str, Any]:
    return {"settings": host.settings, "secrets": host.secrets, "recovery_point": identity}


def played(root: Path, hosts: Sequence[Host]) -> list[dict[str, Any]]:
    """What recover_site would do, as its role asks it, by a playbook: that takes four times as long as plan()."""
    tasks = [{"lifeboat.dr.site_plan_info": options(host, "latest"), "ignore_errors": True} for host in hosts]
    made = root / "playbook.json"
    made.touch(mode=0o600)
    made.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    words = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(made)]
    words += ["-e", f"ansible_python_interpreter={sys.executable}"]
    told = {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal", "ANSIBLE_NOCOLOR": "1"}
    told |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env={**product(root), **told})
    print(f"{done.stdout}{done.stderr}", file=sys.stderr)
    parts = done.stdout.split("localhost | ")[1:]
    found = [json.JSONDecoder().raw_decode(part.partition("=> ")[2])[0] for part in parts]
    if len(found) != len(hosts):
        raise SystemExit(f"{len(hosts)} plans were asked for, and {len(found)} came, which proves nothing")
    return found


def told(root: Path, said: Mapping[str, Mapping[str, Any]], got: str, shown: str) -> int:
    """Note all that was said in said.json, and print where the attacker `got` something, a line each, with what is
    `shown` of it. Returns how the attack ended."""
    (root / "said.json").write_text(json.dumps(said, indent=1))
    found = [
        f"{which}: {asked}: {one[shown]}"
        for which, of in said.items()
        for asked, one in of.items()
        if isinstance(one, dict) and one.get(got)
    ]
    print("".join(f"{line}\n" for line in found), end="")
    return 0 if found else 1
