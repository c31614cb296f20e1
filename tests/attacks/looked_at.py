#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who holds the writer's key has a backup disappear from the vault; who has the host silences it.

It uses S3, files and command lines only. Another machine looks into the vault, with a kit and a key. Then, with the
backup of one night in the middle:

hidden       its manifest gets a delete marker
overwritten  its manifest is written once more, well sealed, with another instant
destroyed    its manifest's versions are deleted, as the writer's key can on MinIO, whatever its policy says
at first     as hidden, before that machine ever looked

Usage: looked_at.py product|unprotected ENDPOINT BUCKET DIRECTORY, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in
the environment.

product: `lifeboat escrow --look`, in a bucket with versions. It must fail, name the backup, say what became of it and
name the version that is still there; fail at the next look too; and be content when it is told that this is right.
unprotected: the same look by a machine that remembers nothing, in a bucket without versions. Prints each attack that
the look does not tell. Exit 0: there is one.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import ended
import machine
from machine import Machine
from pruner import DAY, STACK, World, markers, sealed, told

NIGHTS = 3
KEYS = {"vault_access_key": "AWS_ACCESS_KEY_ID", "vault_secret_key": "AWS_SECRET_ACCESS_KEY"}
FIRST = "at first"


class Looker:
    """What the other machine has: a kit, a key, and what it saw."""

    def __init__(self, machine: Machine, endpoint: str, world: World) -> None:
        self._machine, self.seen = machine, world.root / "seen.json"
        vault = {"endpoint_url": endpoint, "repository_bucket": world.bucket, "prefix": world.prefix}
        credentials = {name: os.environ[word] for name, word in KEYS.items()}
        self._words = ["escrow", "--look", "--json", "--seen", str(self.seen)]
        for name, content in {"kit": {"stack": STACK, "vault": vault}, "credentials": credentials}.items():
            (world.root / name).touch(0o600)
            (world.root / name).write_text(json.dumps(content))
            self._words += [f"--{name}", str(world.root / name)]

    def look(self, *more: str) -> tuple[int, str]:
        """How it ended, and what it said."""
        code, said = self._machine.run(*self._words, *more)
        return code, json.dumps(said, ensure_ascii=False)


def versions(world: World, victim: dict[str, Any]) -> list[str]:
    return [version for key, version in world.versions() if key == world.key(victim)]


def hidden(world: World, victim: dict[str, Any]) -> str:
    markers(world, victim)
    return "was hidden by a delete marker"


def overwritten(world: World, victim: dict[str, Any]) -> str:
    later = told(world.now - timedelta(hours=23))
    world.put(world.key(victim), sealed(victim, taken_at=later, finished_at=later))
    return "was overwritten at"


def destroyed(world: World, victim: dict[str, Any]) -> str:
    for version in versions(world, victim):
        world.client.delete_object(Bucket=world.bucket, Key=world.key(victim), VersionId=version)
    return "nothing of it is there now, in no version"


ATTACKS = {attack.__name__: attack for attack in (hidden, overwritten, destroyed)}


def told_of(name: str, world: World, looker: Looker) -> bool:
    """Whether the look tells it, and goes on to until an operator says that it is right."""
    victim = world.manifests[1]
    codes = [looker.look()[0], looker.look()[0]]
    if codes != [3, 0]:
        raise SystemExit(f"the looks before the attack ended with {codes}, which proves nothing")
    (published,) = versions(world, victim)
    words = ATTACKS[name](world, victim)
    code, said = looker.look()
    told = victim["id"] in said and words in said and (published in said) == (name != "destroyed")
    codes += [code, looker.look()[0], looker.look("--accept", victim["id"])[0]]
    print(f"{name}: the looks ended with {codes}, it was told: {told}\n{said}", file=sys.stderr)
    return told and codes[2:] == [6, 6, 0]


def told_at_first(world: World, looker: Looker) -> bool:
    hidden(world, world.manifests[1])
    code, said = looker.look()
    print(f"{FIRST}: the look ended with {code}\n{said}", file=sys.stderr)
    return code == 6


def told_without_memory(world: World, looker: Looker) -> bool:
    """Without versions, and without a memory, two nights look like two nights."""
    looker.look()
    hidden(world, world.manifests[1])
    looker.seen.unlink()
    looker.look()
    code, said = looker.look()
    print(f"hidden: the look ended with {code}\n{said}", file=sys.stderr)
    return code != 0


def main() -> int:
    target, endpoint, bucket = sys.argv[1:4]
    directory, found = Path(sys.argv[4]).resolve(), []
    both = Machine("the machine", machine.LIFEBOAT, str(directory / "run"))
    try:
        for number, name in enumerate([*ATTACKS, FIRST] if target == "product" else ["hidden"]):
            root = directory / str(number)
            world = World(both, endpoint, bucket, f"look-{target}-{number}", root, nights=NIGHTS, apart=DAY)
            looker = Looker(both, endpoint, world)
            if target == "unprotected":
                known = told_without_memory(world, looker)
            else:
                known = told_at_first(world, looker) if name == FIRST else told_of(name, world, looker)
            found += [] if known else [name]
    finally:
        both.end()
    print("".join(f"{name}\n" for name in found), end="")
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
