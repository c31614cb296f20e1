#!/usr/bin/env python3
"""Start and remove many containers in a lab host's engine while every core is busy, and count what the engine loses.

Usage: churn.py [--count 500] [--workers 4]     makes a host of its own, and removes it
A loss is a step that fails, or that succeeds and does not show what is there: a container is missing from the listing,
or a command inside it has no output. Exits 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = "lifeboat-churn"
HOST = "churn1"
IMAGE = "lifeboat-lab/backend:1"
VARIABLES = json.dumps({"lab_name": LAB, "lab_hosts": [{"name": HOST, "role": "app"}]})


def lab(playbook: str) -> None:
    subprocess.run(
        ("ansible-playbook", f"molecule/shared/{playbook}.yml", "--extra-vars", VARIABLES),
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, stdout=sys.stderr, check=True,
    )  # fmt: skip


def inside(*argv: str) -> subprocess.CompletedProcess[str]:
    """A command on the host, through two engines as the tests go."""
    return subprocess.run(("docker", "exec", HOST, *argv), capture_output=True, text=True, timeout=300, check=False)


def live(number: int) -> list[tuple[str, str]]:
    """One container's life: started, listed, spoken to, removed. What was lost on the way."""
    name = f"churn-{number}"
    steps = (
        ("start", ("run", "--detach", "--init", "--name", name, IMAGE, "sleep", "600"), ""),
        ("list", ("ps", "--filter", f"name=^{name}$", "--format", "{{.Names}}"), name),
        ("exec", ("exec", name, "echo", "alive"), "alive"),
        ("restart", ("restart", "--time", "0", name), name),
        ("remove", ("rm", "--force", name), name),
    )
    lost = []
    for step, argv, expected in steps:
        done = inside("docker", *argv)
        if done.returncode or done.stdout.strip() != (expected or done.stdout.strip()):
            lost.append((step, f"{name} exited {done.returncode}: {done.stdout.strip()!r} {done.stderr.strip()!r}"))
    return lost


def burn() -> None:
    """What the machine has to spare: playbooks that run at the same time come first."""
    os.nice(10)
    while True:
        sum(range(100_000))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    lab("create")
    cores = os.cpu_count() or 1
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(cores)]
    for burner in burners:
        burner.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(options.workers) as pool:
            lost = [loss for losses in pool.map(live, range(options.count)) for loss in losses]
        seconds = time.monotonic() - began
        load = os.getloadavg()[0]
    finally:
        for burner in burners:
            burner.terminate()
        lab("destroy")
    for step, words in lost:
        print(f"lost: {step}: {words}")
    kinds = dict(collections.Counter(step for step, _ in lost))
    print(
        f"{options.count} containers started, listed, entered, restarted and removed in {seconds:.0f} s by "
        f"{options.workers} workers, {cores} cores busy (load {load:.1f}): {len(lost)} lost {kinds or ''}".rstrip()
    )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
