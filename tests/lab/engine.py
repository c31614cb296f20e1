#!/usr/bin/env python3
"""Start Docker's engine where no systemd will, whatever an earlier one left behind. Root on Linux only.

Prints "running" when it already was, "started" when this run started it; says on stderr why it could not.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

LOG = Path("/var/log/lifeboat-dockerd.log")
# Left by an engine that was killed. dockerd refuses to start when the process number in its pid file has been taken
# by anything else, and waits forever for the socket of a containerd that is gone.
LEFTOVERS = {
    "dockerd": ("/run/docker.pid", "/run/docker.sock"),
    "containerd": (
        "/run/containerd/containerd.sock",
        "/run/containerd/containerd.sock.ttrpc",
        "/run/docker/containerd/containerd.pid",
        "/run/docker/containerd/containerd.sock",
        "/run/docker/containerd/containerd.sock.ttrpc",
    ),
}


def answers() -> str | None:
    """None when the engine answers, else what docker said."""
    try:
        argv = ("docker", "version", "--format", "{{.Server.Version}}")
        asked = subprocess.run(argv, capture_output=True, text=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return "docker version did not answer within 15 s"
    return None if asked.returncode == 0 else asked.stderr.strip()


def running(name: str) -> list[int]:
    """Process numbers of the programs called name in this mount namespace: a lab host's own engine is not ours."""
    mine = Path("/proc/self/ns/mnt").readlink()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            zombie = ") Z " in (entry / "stat").read_text()
            if (entry / "comm").read_text().strip() == name and not zombie and (entry / "ns/mnt").readlink() == mine:
                found.append(int(entry.name))
        except OSError:
            continue  # it ended while we looked
    return found


def wait_for_engine(seconds: float, process: subprocess.Popen[bytes] | None = None) -> str | None:
    deadline = time.monotonic() + seconds
    while (why := answers()) is not None:
        if process is not None and process.poll() is not None:
            return f"dockerd exited with status {process.returncode}"
        if time.monotonic() > deadline:
            return why
        time.sleep(0.3)
    return None


def clear_leftovers() -> None:
    for name, paths in LEFTOVERS.items():
        if not running(name):
            for path in paths:
                Path(path).unlink(missing_ok=True)


def start() -> subprocess.Popen[bytes]:
    """A session of its own, and no terminal: the engine outlives the playbook that started it."""
    with LOG.open("ab") as log:
        return subprocess.Popen(
            ("dockerd",), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )


def fail(tried: str, why: str) -> int:
    tail = LOG.read_text(errors="replace").splitlines()[-5:] if LOG.exists() else []
    print(
        f"engine: {tried}, but it does not answer: {why}\n"
        + "".join(f"  {LOG}: {line}\n" for line in tail)
        + f"Next: read {LOG}; stop a hanging dockerd by its process number, then run this again",
        file=sys.stderr,
    )
    return 1


def main() -> int:
    if answers() is None:
        print("running")
        return 0
    if pids := running("dockerd"):
        why = wait_for_engine(30)
        if why is None:
            print("running")
            return 0
        return fail(f"dockerd runs as process {', '.join(map(str, pids))} and was given 30 s", why)
    clear_leftovers()
    why = wait_for_engine(60, start())
    if why is not None:
        return fail("dockerd was started by hand and given 60 s", why)
    print("started")
    return 0


if __name__ == "__main__":
    sys.exit(main())
