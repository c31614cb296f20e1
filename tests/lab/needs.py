#!/usr/bin/env python3
"""Say what the lab needs and this machine or its engine has not; nothing is changed.

Usage: needs.py machine|engine     machine: where an engine is to be started by hand; engine: one that answers
machine: exits 1 and says on stderr what is missing and what to do. engine: says what may be missed later.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The number of each capability: include/uapi/linux/capability.h.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
STATUS = Path("/proc/self/status")
DOCKER = "https://docs.docker.com/engine/install/ (package docker-compose-plugin of Docker's own repository)"
COMPOSE = f"needs: `docker compose` is missing: make integration and make bench need Compose v2. Next: {DOCKER}"
# Not refused: the lab has been seen to run with it, on a kernel that mounts both versions.
CGROUP_V1 = (
    "needs: this engine uses cgroup v1, with which newer systemd does not start. If a host of the lab does not boot, "
    "use a system that has cgroup v2 by default (Debian 11, Ubuntu 22.04 and newer)"
)


def lacking(status: str) -> list[str]:
    """The capabilities that a process with this /proc/<pid>/status does not have."""
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return [name for name, number in CAPABILITIES.items() if not effective >> number & 1]


def of_machine(status: str) -> list[str]:
    """What an engine that is started here could not do."""
    missing = lacking(status)
    return missing and [
        f"{' and '.join(missing)}, for Docker's engine and for its hosts, which are privileged containers. "
        "Next: use a machine of its own, or start the container that this is with --privileged"
    ]


def docker(*argv: str) -> tuple[int, str]:
    done = subprocess.run(("docker", *argv), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()


def of_engine() -> list[str]:
    """What may be missed later."""
    notes = [CGROUP_V1] if docker("info", "--format", "{{.CgroupVersion}}") == (0, "1") else []
    return notes if docker("compose", "version")[0] == 0 else [*notes, COMPOSE]


def main(place: str) -> int:
    if place == "engine":
        for note in of_engine():
            print(note)
        return 0
    problems = of_machine(STATUS.read_text(encoding="utf-8"))
    for problem in problems:
        print(f"needs: the lab needs {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
