#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who is root on the stack's host writes its repository, and another host fetches that every night.

It uses files and command lines only. Some nights pass in which the host is sound. Then the attacker rewrites old
backups, dates others back, deletes some, and plants names, links, verifications and backups of other times; each is
well sealed, as no key is needed for that. The other host fetches once more and applies its retention.

Usage: hostile_host.py product|unprotected ROOT

product: `lifeboat keeper`. unprotected: what many scripts do, a copy that follows the source, and a deletion by the
dates in the manifests. Prints each thing that the attacker got, a line each. Exit 0: he got something.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

STACK = "shop"
NOW = datetime.now(timezone.utc).replace(microsecond=0)
DAY = timedelta(days=1)
NIGHTS = 8
FLOOD = 600  # names; the keeper is told to take 500
DETAILS = {
    "database": "shop", "format": "custom", "server_version_num": 170012, "database_size": 1000,
    "role_passwords": True, "superuser": "postgres", "preload": "", "image": "postgres:17", "seconds": 1.5,
    "fingerprint": {"level": "content", "tables": 2, "rows": 500, "large_objects": 0, "objects": 3},
}  # fmt: skip
COMMAND = (
    "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command.cli import main; sys.exit(main())"
)


def identity(moment: datetime) -> str:
    return f"db_backup_{moment:%Y%m%d_%H%M%S}"


def publish(root: Path, name: str, taken: datetime, artefacts: dict[str, bytes]) -> None:
    """A backup as the host publishes one: its files, and a manifest that names them with their hashes."""
    folder = root / "backup/postgresql" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, data in artefacts.items():
        if not file.startswith(".."):
            (folder / file).write_bytes(data)
    said = taken.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    manifest: dict[str, Any] = {
        "schema": "lifeboat.dr/backup", "version": [1, 0], "id": name, "component": "database", "stack": STACK,
        "taken_at": said, "finished_at": said,
        "artefacts": [
            {"name": file, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for file, data in artefacts.items()
        ],
        "tool": {"lifeboat": "0.1.0"}, "details": DETAILS,
    }  # fmt: skip
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    sealed = {**manifest, "seal": hashlib.sha256(canonical).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(sealed, indent=1) + "\n")


class Unprotected:
    """A copy that follows the source, and a deletion by the dates in the manifests."""

    def __init__(self, root: Path) -> None:
        self.root, self.vault = root, root / "vault/repository"

    def night(self) -> None:
        shutil.rmtree(self.vault, ignore_errors=True)
        shutil.copytree(self.root / "backup", self.vault)  # follows links, as `cp -rL` and many tools do
        for path in self.vault.glob("postgresql/*/manifest.json"):
            said = json.loads(path.read_bytes())
            for artefact in said["artefacts"]:  # a file that is not there yet is fetched to where it is named
                target = path.parent / artefact["name"]
                if not target.exists():
                    target.write_bytes(b"attacker")
            if datetime.fromisoformat(said["taken_at"].replace("Z", "+00:00")) < NOW - 366 * DAY:
                shutil.rmtree(path.parent)


class Product:
    """`lifeboat keeper pull --prune`, as its timer runs it."""

    def __init__(self, root: Path) -> None:
        self.root, self.vault = root, root / "vault/repository"
        (root / "vault").mkdir()
        (root / "etc").mkdir()
        keeper = {
            "directory": str(root / "vault"), "source": {"mounted": str(root / "backup")}, "quota": "1G",
            "limits": {"names": 500},
        }  # fmt: skip
        settings = {"stack": STACK, "config": {"enabled": False}, "keeper": keeper}
        (root / "etc/shop.json").write_text(json.dumps(settings))

    def night(self) -> None:
        words = ["keeper", "pull", "--prune", "--stack", STACK, "--config-directory", str(self.root / "etc")]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], check=False, capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / ".ansible/collections")},
        )  # fmt: skip
        sys.stderr.write(f"exit {done.returncode}\n{done.stdout}{done.stderr}")


def attack(root: Path, nights: list[str]) -> None:
    """Everything at once, as root on the stack's host."""
    host = root / "backup/postgresql"
    publish(root, nights[0], NOW - NIGHTS * DAY, {"database.dump": b"attacker"})
    publish(root, nights[1], NOW - 700 * DAY, {"database.dump": b"rows 1"})
    shutil.rmtree(host / nights[2])
    publish(root, identity(NOW), NOW, {"database.dump": b"x", "../../../escaped": b"attacker"})
    linked = identity(NOW - timedelta(seconds=1))
    publish(root, linked, NOW, {"database.dump": (root / "secret").read_bytes()})
    (host / linked / "database.dump").unlink()
    (host / linked / "database.dump").symlink_to(root / "secret")
    said = json.loads((host / nights[3] / "manifest.json").read_bytes())
    proof = {"verdict": "PASS", "finished_at": said["finished_at"], "checks": []}
    planted = {"seal": said["seal"], "levels": {"restore": proof}}
    (host / nights[3] / "verification.json").write_text(json.dumps(planted))


def got(root: Path, vault: Path, nights: list[str]) -> list[str]:
    """What the attacker reached, by looking at the vault's files."""
    kept = vault / "postgresql"
    found = []

    def data(name: str, file: str = "database.dump") -> bytes:
        path = kept / name / file
        return path.read_bytes() if path.exists() else b""

    found += ["overwritten"] if data(nights[0]) == b"attacker" else []
    found += ["dated-back"] if not data(nights[1]) else []
    found += ["deleted"] if not data(nights[2]) else []
    found += ["escaped"] if any(path.name == "escaped" for path in (root / "vault").rglob("*")) else []
    found += ["read"] if any(b"the keeper's own" in path.read_bytes() for path in kept.rglob("database.dump")) else []
    found += ["proven"] if b'"restore"' in data(nights[3], "verification.json") else []
    return found


def main() -> int:
    target, root = sys.argv[1], Path(sys.argv[2])
    side = Product(root) if target == "product" else Unprotected(root)
    (root / "secret").write_text("the keeper's own")
    nights = [identity(NOW - (NIGHTS - number) * DAY) for number in range(NIGHTS)]
    for number, name in enumerate(nights):
        publish(root, name, NOW - (NIGHTS - number) * DAY, {"database.dump": f"rows {number}".encode()})
    side.night()
    attack(root, nights)
    side.night()
    found = got(root, side.vault, nights)
    for number in range(FLOOD):
        publish(root, identity(NOW - 9 * DAY - timedelta(seconds=number)), NOW, {"database.dump": b"junk"})
    side.night()
    junk = sum(path.read_bytes() == b"junk" for path in side.vault.rglob("database.dump"))
    found += ["flooded"] if junk else []
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
