#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who may write to a repository plants config backups whose archives have headers that lie.

It uses files and command lines only. Each backup is written by hand, with all hashes that it must have, and its listing
says nothing of it where it need not. What reads it may have 1 GiB of memory and a minute of the processor's time.

Usage: hostile_archive.py product|unprotected DIRECTORY

product: `lifeboat verify`, which reads, unpacks and judges a backup. unprotected: a script that unpacks with Python's
tarfile and without its filters. Prints each lie that got something, and what: a file elsewhere, a traceback, a
process that was ended at its limit, or a backup that is said to be good. Exit 0: there are some. (What a recovery
does with a setuid program is place_files.py.)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"
STACK = "attacked-headers"
HARMLESS = "nothing"
# The lie -> the name of the one member, and its PAX headers.
LIES: dict[str, tuple[str, dict[str, str]]] = {
    HARMLESS: ("file", {}),
    "an endless time": ("file", {"mtime": "inf"}),
    "an owner beyond all": ("file", {"uid": str(2**70)}),
    "a size that lies": ("file", {"size": str(2**50)}),
    "two thousand levels": ("dd/" * 2000 + "file", {}),
    "a name that leads out": ("../" * 40 + "{outside}/planted", {}),
    "an absolute name": ("/{outside}/planted", {}),
}
TRUE = (HARMLESS, "two thousand levels")  # such directories there can be
UNPACK = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='fully_trusted')"
MEMORY, SECONDS = 1 << 30, 60


def archive(name: str, headers: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as made:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.pax_headers = 1, 0o644, headers
        member.uid, member.gid, member.mtime = os.getuid(), os.getgid(), 1_700_000_000
        made.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()


def plant(
    repository: Path, number: int, lie: str, outside: Path, stack: str = STACK, **details: object
) -> str:  # fmt: skip
    """A backup of the attacker's. Returns its id. details: more of what its manifest says."""
    id = f"config_backup_202611{number + 1:02d}_033000"
    name, headers = LIES[lie]
    name = name.format(outside=str(outside).lstrip("/"))
    listed = {
        "path": f"/{name.lstrip('./')}", "type": "file", "mode": "0644", "uid": os.getuid(), "gid": os.getgid(),
        "mtime": 1_700_000_000, "size": int(headers.get("size", 1)), "target": "", "archive": "config.tar.gz",
        "sha256": hashlib.sha256(b"x").hexdigest(),
    }  # fmt: skip
    listing = {"schema": "lifeboat.dr/files", "version": [1, 0], "files": [listed]}
    artefacts = {"config.tar.gz": archive(name, headers), "files.json": json.dumps(listing).encode()}
    taken = f"2026-11-{number + 1:02d}T03:30:00Z"
    manifest = {
        "schema": "lifeboat.dr/backup", "version": [1, 0], "id": id, "component": "config", "stack": stack,
        "taken_at": taken, "finished_at": taken, "tool": {"lifeboat": "0.1.0"},
        "details": {"files": 1, "bytes": 0, "secrets": 0, **details},
        "artefacts": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(artefacts.items())
        ],
    }  # fmt: skip
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    sealed = {**manifest, "seal": hashlib.sha256(canonical).hexdigest()}  # no key is needed for that
    artefacts["manifest.json"] = (json.dumps(sealed, indent=1) + "\n").encode()
    folder = repository / "config" / id
    folder.mkdir(parents=True, mode=0o700)
    for name, data in artefacts.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    return id


def bounded(words: list[str], scratch: Path) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections"), "TMPDIR": str(scratch)}
    return subprocess.run(
        [sys.executable, "-c", *words],
        check=False, capture_output=True, text=True, env=environment, preexec_fn=limit,
    )  # fmt: skip


def product(directory: Path, id: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    done = bounded([CLI, "verify", id, "--json", "--config-directory", str(directory / "etc")], scratch)
    print(f"{done.stdout}{done.stderr}", file=sys.stderr)
    return done


def unprotected(directory: Path, id: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    return bounded([UNPACK, str(directory / "backup/config" / id / "config.tar.gz"), str(scratch)], scratch)


def got(done: subprocess.CompletedProcess[str], outside: Path, lie: str) -> str:
    """What the attacker has of it; empty: nothing."""
    if done.returncode < 0 or "MemoryError" in done.stderr:
        return "a process that was ended at its limit"
    if "Traceback" in done.stderr:
        return "a traceback"
    if any(outside.iterdir()):
        return "a file elsewhere"
    if done.returncode == 0 and lie not in TRUE:
        return "a backup that is said to be good"
    return ""


def main() -> int:
    target, directory = {"product": product, "unprotected": unprotected}[sys.argv[1]], Path(sys.argv[2]).resolve()
    outside, etc = directory / "outside", directory / "etc"
    settings = {
        "stack": STACK,
        "runtime": {"type": "host", "project_directory": str(directory)},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
    }
    for made in (outside, etc):
        made.mkdir()
    (etc / f"{STACK}.json").write_text(json.dumps(settings))
    results = {}
    for number, lie in enumerate(LIES):
        id = plant(directory / "backup", number, lie, outside)
        scratch = directory / "scratch"
        scratch.mkdir()
        done = target(directory, id, scratch)
        results[lie] = got(done, outside, lie)
        if lie == HARMLESS and done.returncode:
            raise SystemExit(f"a backup without a lie failed, so that nothing is shown: {done.stderr}")
        subprocess.run(["rm", "-rf", str(scratch), str(outside / "planted")], check=True)  # it may be deep
    print("".join(f"{lie}: {result}\n" for lie, result in results.items() if result), end="")
    return 0 if any(results.values()) else 1


if __name__ == "__main__":
    ended.end(main)
