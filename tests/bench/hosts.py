# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure a deployment: what each further host costs, and each further stack on one host.

The hosts are containers of the lab's host image with a PostgreSQL of their own (`runtime: host`). Each deployment that
is measured is a first one. A second one must change nothing; where it does, the exit code is 1. Exits 0 also when a
target is missed: a speed is a measurement, not a test. docs/bench/README.md says how it is done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "bench" / "hosts.json"
IMAGE, HOST_IMAGE, LABEL = "lifeboat-bench/host", "lifeboat-lab/host", "lifeboat.bench=hosts"
PER_HOST, PER_STACK = 3.0, 6.0  # seconds
# Without its engine, which a stack of runtime host does not use, and with a server of its own, started by systemd.
DOCKERFILE = f"""FROM {HOST_IMAGE}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-17 \\
 && rm -rf /var/lib/apt/lists/* && systemctl disable docker.service docker.socket containerd.service
"""
DATABASE = (
    "CREATE TABLE items (id integer PRIMARY KEY, body text);"
    " INSERT INTO items SELECT i, md5(i::text) FROM generate_series(1, {rows}) i"
)
FRESH = """rm -rf /etc/lifeboat /var/lib/lifeboat /var/log/lifeboat /backup /usr/local/bin/lifeboat
rm -f /etc/cron.d/lifeboat-* /etc/logrotate.d/lifeboat /usr/share/bash-completion/completions/lifeboat"""
USED = "cd /sys/fs/cgroup; cat cpu.stat 2>/dev/null || cat cpuacct/cpuacct.usage"  # version 2, version 1
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+) ", re.MULTILINE)
BOOT_SECONDS = 180
_started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", flush=True)


def docker(*words: str, given: str = "") -> str:
    done = subprocess.run(["docker", *words], input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"docker {words[0]} exited {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout.strip()


@dataclass(frozen=True)
class Deployed:
    """One run of the playbook. changed: the tasks that changed something, of all its hosts. cpu: seconds of the
    controller and of the hosts, which a busy machine does not make longer as it does the wall's."""

    stacks: int
    seconds: float
    cpu: float
    changed: int


@dataclass(frozen=True)
class Row:
    """What is printed, and kept. each: seconds for each further one. cpu: those of processors."""

    what: str
    count: int
    first: float
    all: float
    each: float
    cpu: float
    target: float
    again: float
    again_changed: int

    @property
    def text(self) -> str:
        verdict = "met" if self.each <= self.target else "missed"
        again = f"{self.again:.0f} s, changed={self.again_changed}"
        return (
            f"| {self.what} | {self.first:.1f} s | {self.all:.1f} s ({self.count}) | {self.each:.1f} s |"
            f" {self.cpu:.1f} s | {self.target:.0f} s, {verdict} | {again} |"
        )


def spent(hosts: Iterable[str]) -> float:
    """Seconds of processors by now: this process's children, and all that ran in those containers."""
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + sum(map(used_by, sorted(set(hosts))))


def used_by(host: str) -> float:
    said = docker("exec", host, "sh", "-c", USED)
    found = re.search(r"usage_usec (\d+)", said)
    return int(found[1]) / 1e6 if found else int(said) / 1e9


def row(what: str, one: Deployed, all_: Deployed, again: Deployed, target: float) -> Row:
    further = all_.stacks - one.stacks
    each, cpu = (all_.seconds - one.seconds) / further, (all_.cpu - one.cpu) / further
    return Row(what, all_.stacks, one.seconds, all_.seconds, each, cpu, target, again.seconds, again.changed)


def recap(said: str, stacks: Sequence[str]) -> int:
    """How much changed, where every stack was deployed. Raises SystemExit where one was not."""
    found = {name: (int(changed), int(gone) + int(failed)) for name, _ok, changed, gone, failed in RECAP.findall(said)}
    if set(found) != set(stacks) or any(bad for _changed, bad in found.values()):
        raise SystemExit(f"the deployment failed:\n{said[-3000:]}")
    return sum(changed for changed, _bad in found.values())


class Bench:
    def __init__(self, directory: Path, prefix: str, forks: int, rows: int) -> None:
        self.directory, self.prefix, self.forks, self.rows = directory, prefix, forks, rows

    def names(self, count: int) -> list[str]:
        return [f"{self.prefix}-{number}" for number in range(1, count + 1)]

    def boot(self, count: int) -> list[str]:
        names = self.names(count)
        for name in names:
            docker(
                "run", "-d", "--name", name, "--hostname", name, "--label", LABEL, "--privileged",
                "--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/run/lock", IMAGE,
            )  # fmt: skip
        for number, name in enumerate(names, 1):
            self.wait(name)
            say(f"{name} has booted ({number} of {count})")
        return names

    def wait(self, name: str) -> None:
        until = time.monotonic() + BOOT_SECONDS
        ask = ["docker", "exec", name, "sh", "-c", "systemctl is-system-running --wait; pg_isready -q && echo ready"]
        while time.monotonic() < until:
            said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.split()
            if "ready" in said:
                return
            time.sleep(1)
        raise SystemExit(f"{name} did not boot within {BOOT_SECONDS} s")

    def databases(self, host: str, names: Sequence[str]) -> None:
        for name in names:
            docker("exec", "-u", "postgres", host, "createdb", name)
            docker("exec", "-u", "postgres", host, "psql", "-qXc", DATABASE.format(rows=self.rows), name)

    def deploy(self, stacks: dict[str, str], *, fresh: bool) -> Deployed:
        """stacks: the inventory's name, which is also the database's, and the container."""
        for host in sorted(set(stacks.values())) if fresh else ():
            docker("exec", host, "sh", "-c", FRESH)
        common = {
            "ansible_connection": "community.docker.docker",
            "ansible_user": "root",
            "ansible_become": False,  # the image has no sudo
            "lifeboat_runtime": {"type": "host"},
            "lifeboat_config": {"enabled": True, "secrets": "elsewhere"},
        }
        hosts = {
            name: {
                "ansible_host": host,
                "lifeboat_stack": name,
                "lifeboat_database": {"name": name, "os_user": "postgres"},
                "lifeboat_repository": {"type": "local", "path": f"/backup/{name}"},
            }
            for name, host in stacks.items()
        }
        inventory = self.directory / "hosts.json"
        inventory.write_text(json.dumps({"lifeboat_stacks": {"hosts": hosts, "vars": common}}), encoding="utf-8")
        argv = ["ansible-playbook", "-i", str(inventory), "--forks", str(self.forks), "lifeboat.dr.deploy"]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        used, began = spent(stacks.values()), time.monotonic()
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        cpu = spent(stacks.values()) - used
        changed = recap(done.stdout + done.stderr, [*stacks])
        say(f"{len(stacks)} deployed in {seconds:.1f} s, {cpu:.1f} s of processors, changed={changed}")
        return Deployed(len(stacks), seconds, cpu, changed)

    def hosts(self, count: int) -> Row:
        names = self.boot(count)
        stacks = {name: name for name in names}
        for name in names:
            self.databases(name, [name])
        say(f"{count} hosts have {self.rows} rows each")
        one = self.deploy({names[0]: names[0]}, fresh=True)
        every = self.deploy(stacks, fresh=True)
        return row("further host", one, every, self.deploy(stacks, fresh=False), PER_HOST)

    def stacks(self, count: int) -> Row:
        (host,) = self.boot(1)
        names = [f"shop{number}" for number in range(1, count + 1)]
        self.databases(host, names)
        say(f"{count} databases on {host}")
        one = self.deploy({names[0]: host}, fresh=True)
        every = self.deploy(dict.fromkeys(names, host), fresh=True)
        return row(
            "further stack on one host", one, every, self.deploy(dict.fromkeys(names, host), fresh=False), PER_STACK
        )


@contextlib.contextmanager
def bench(asked: argparse.Namespace) -> Iterator[Bench]:
    """Whatever happens, a signal too, the containers of this run and their volumes are removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prefix = f"lifeboat-bench-{os.getpid()}"
    directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-"))
    one = Bench(directory, prefix, asked.forks, asked.rows)
    try:
        yield one
    finally:
        remove(prefix)
        shutil.rmtree(directory)


def remove(prefix: str) -> None:
    found = docker("ps", "-aq", "--filter", f"label={LABEL}", "--filter", f"name=^{prefix}-").split()
    if found:
        say(f"removing {len(found)} hosts")
        docker("rm", "-f", "-v", *found)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=20, help="hosts with one stack each; below 2 for none")
    parser.add_argument("--stacks", type=int, default=18, help="stacks on one host; below 2 for none")
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1000)
    return parser.parse_args()


def main() -> int:
    asked = parsed()
    say("building the hosts' image")
    docker("build", "-q", "-t", IMAGE, "-", given=DOCKERFILE)
    rows = []
    for count, measured in ((asked.stacks, Bench.stacks), (asked.hosts, Bench.hosts)):
        if count > 1:
            with bench(asked) as one:
                rows.append(measured(one, count))
    print("| | first | all | each further | its processor time | at most | second run |\n|---|---|---|---|---|---|---|")
    print("\n".join(one.text for one in rows))
    if (asked.hosts, asked.stacks) == (20, 18):
        kept = {
            "forks": asked.forks,
            "rows": asked.rows,
            "cores": os.cpu_count(),
            "measured": [asdict(one) for one in rows],
        }
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return 1 if any(one.again_changed for one in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
