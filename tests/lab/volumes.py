#!/usr/bin/env python3
"""Put the stack's images into lab hosts.

Before boot: volumes for /var/lib/docker, copies of the image cache: volumes.py --lab NAME --cache VOLUME HOST...
After boot: images that changed since such a copy was made: volumes.py --load TAG... -- HOST...
Progress on stderr, one JSON line on stdout. A volume that exists is left alone unless it was never finished.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HELPER = "lifeboat-lab/base:trixie"
MARK = ".lifeboat-images"


def docker(*argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("docker", *argv), capture_output=True, text=True, timeout=timeout, check=False)


def complete(volume: str) -> bool:
    """The copy writes the mark last. A running host's volume is complete: its engine started on it."""
    if docker("volume", "inspect", volume).returncode != 0:
        return False
    mounted = ("run", "--rm", "--network=none", "--volume", f"{volume}:/disk:ro", HELPER)
    return docker(*mounted, "test", "-e", f"/disk/{MARK}").returncode == 0


def fill(volume: str, cache: str, lab: str) -> None:
    docker("volume", "create", "--label", f"lifeboat.lab={lab}", volume)
    began = time.monotonic()
    copied = docker(
        "run", "--rm", "--network=none", "--volume", f"{cache}:/from:ro", "--volume", f"{volume}:/to", HELPER,
        "sh", "-ec", f"find /to -mindepth 1 -delete; cp -a /from/* /to/; cp -a /from/{MARK} /to/",
        timeout=600,
    )  # fmt: skip
    if copied.returncode != 0:
        raise RuntimeError(
            f"volume {volume}: copying {cache} into it exited {copied.returncode}: {copied.stderr.strip()}. "
            "Next: check the disk's space (docker system df), then run this again"
        )
    print(f"{volume}: filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def lacks(host: str, tag: str) -> bool:
    """Whether a running host's engine has another image by that name than this one, or none."""
    wanted = docker("image", "inspect", "--format", "{{.Id}}", tag).stdout.strip()
    has = docker("exec", host, "docker", "image", "inspect", "--format", "{{.Id}}", tag)
    return has.returncode != 0 or has.stdout.strip() != wanted


def load(host: str, tags: list[str]) -> list[str]:
    """Bring a host that lives on an older copy of the cache up to date."""
    stale = [tag for tag in tags if lacks(host, tag)]
    if stale:
        print(f"{host}: loading {', '.join(stale)}", file=sys.stderr, flush=True)
        with subprocess.Popen(("docker", "save", *stale), stdout=subprocess.PIPE) as save:
            argv = ("docker", "exec", "--interactive", host, "docker", "load", "--quiet")
            loaded = subprocess.run(argv, stdin=save.stdout, capture_output=True, text=True, timeout=600, check=False)
        if save.returncode != 0 or loaded.returncode != 0:
            raise RuntimeError(
                f"{host}: loading {', '.join(stale)}: docker save exited {save.returncode}, docker load exited "
                f"{loaded.returncode}: {loaded.stderr.strip()}. Next: docker exec {host} systemctl status docker"
            )
    return [f"{host}:{tag}" for tag in stale]


def ensure_volumes(lab: str, cache: str, hosts: list[str]) -> list[str]:
    volumes = [f"{lab}-{host}-docker" for host in hosts]
    missing = [volume for volume in volumes if not complete(volume)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda volume: fill(volume, cache, lab), missing))
    return missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="lifeboat-lab")
    parser.add_argument("--cache")
    parser.add_argument("--load", nargs="*", metavar="TAG")
    parser.add_argument("hosts", nargs="*")
    options = parser.parse_args()
    try:
        if options.cache:
            changed = ensure_volumes(options.lab, options.cache, options.hosts)
        else:
            changed = [done for host in options.hosts for done in load(host, options.load)]
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"volumes: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"changed": changed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
