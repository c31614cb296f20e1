#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who holds the writer's key has the pruner, which may delete versions, do what the key may not.

It uses S3 and command lines only, and of S3 what the writer's key may: objects are written, and delete markers set. In
a bucket with versions are the config backups of some weeks, which `lifeboat backup config` made: one by the command,
and its like with older dates. Then, with each backup but the newest:

markers    its manifest gets a delete marker
old_dates  its manifest is written once more, well sealed, as if it were two years old
failures   a verification is planted that found it damaged, twice

Usage: pruner.py product|unprotected ENDPOINT BUCKET DIRECTORY, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the
environment: the pruner's key.

product: `lifeboat prune` before the attack, soon after it, and 29 days later, for which the machine's clock is set
forward: noncurrent_days are 30. unprotected: a script that goes by what is live, as such scripts are written. Prints
each attack and how many published manifests are gone, in every version. Exit 0: some are.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import ended
import machine
from machine import Machine

DAY = timedelta(days=1)
NIGHTS = 5
APART = 8 * DAY  # so that the oldest are kept for their week, and only while they are good
STACK = "attacked-pruner"
KEYS = {"s3_access_key": "AWS_ACCESS_KEY_ID", "s3_secret_key": "AWS_SECRET_ACCESS_KEY"}
Versions = set[tuple[str, str]]


def told(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.000Z}"


def sealed(manifest: dict[str, Any], **changes: object) -> dict[str, Any]:
    """With other words, and the seal that they must have. No key is needed for that."""
    body = {name: value for name, value in {**manifest, **changes}.items() if name != "seal"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return {**body, "seal": hashlib.sha256(canonical).hexdigest()}


class World:
    """A repository in a bucket with versions: a backup for each of some weeks, the newest of now."""

    def __init__(
        self, pruner: Machine, endpoint: str, bucket: str, prefix: str, directory: Path, *, nights: int = NIGHTS,
        apart: timedelta = APART, **more: Mapping[str, int],
    ) -> None:  # fmt: skip
        """more: settings."""
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self.bucket, self.prefix, self.root, self.now = bucket, prefix, directory, datetime.now(timezone.utc)
        for name in ("etc", "project"):
            (directory / name).mkdir(parents=True)
        (directory / "project/app.conf").write_text("x = 1\n")
        place = {"bucket": bucket, "prefix": prefix, "endpoint_url": endpoint, "staging_root": str(directory / "made")}
        settings = {
            "stack": STACK,
            "runtime": {"type": "host", "project_directory": str(directory / "project")},
            "database": {"service": ""},
            "config": {"files": [str(directory / "project/app.conf")]},
            "repository": {"type": "s3", **place},
            "vault": {"noncurrent_days": 30},
            "state_directory": str(directory / "state"),
            **more,
        }
        secrets = {name: os.environ[word] for name, word in KEYS.items()}
        for name, data in ((f"{STACK}.json", settings), (f"{STACK}.secrets.json", secrets)):
            (directory / "etc" / name).touch(0o600)
            (directory / "etc" / name).write_text(json.dumps(data))
        self.state = directory / "state"
        self.pruner = pruner
        self.manifests = self._publish([self.now - night * apart for night in range(1, nights)])  # the oldest first

    def _run(self, *words: str, days: float = 0) -> tuple[int, dict[str, Any]]:
        return self.pruner.run(*words, "--json", "--config-directory", str(self.root / "etc"), days=days)

    def _publish(self, nights: Sequence[datetime]) -> list[dict[str, Any]]:
        code, made = self._run("backup", "config")
        if code:
            raise SystemExit(f"there is no backup to attack, which proves nothing: {made}")
        newest = json.loads(self.read(self.key(made)))
        found = []
        for at in sorted(nights):
            id, when = f"config_backup_{at:%Y%m%d_%H%M%S}", told(at)
            older = sealed(newest, id=id, taken_at=when, finished_at=when)
            for artefact in newest["artefacts"]:
                data = self.read(self.key(newest, artefact["name"]))
                self.client.put_object(Bucket=self.bucket, Key=self.key(older, artefact["name"]), Body=data)
            self.put(self.key(older), older)
            found.append(older)
        return [*found, newest]

    def key(self, manifest: Mapping[str, Any], name: str = "manifest.json") -> str:
        return f"{self.prefix}/config/{manifest['id']}/{name}"

    def read(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def put(self, key: str, body: Mapping[str, Any]) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=json.dumps(body, indent=1).encode() + b"\n")

    def versions(self, ends: str = "manifest.json") -> Versions:
        """Of manifests, with what is in them: key and version."""
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=f"{self.prefix}/config/")
        return {(item["Key"], item["VersionId"]) for item in found.get("Versions", ()) if item["Key"].endswith(ends)}

    def prune(self, days: float = 0) -> tuple[int, dict[str, Any]]:
        """By the command, where the machine's clock is so many days ahead."""
        return self._run("prune", "--trust-clock", days=days)

    def live(self, below: str = "") -> set[str]:
        """The ids of which anything can be read."""
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/config/")["Contents"]
        return {item["Key"].split("/")[2] for item in found if item["Key"].endswith(below)}

    def clean_up(self) -> None:
        """By a script that believes what is live: what has no manifest, is old, or was found damaged, goes."""
        complete, judged = self.live("/manifest.json"), self.live("/verification.json")
        kept = self.versions("")
        for id in {key.split("/")[2] for key, _version in kept}:
            backup = {"id": id}
            good = id in complete
            if good:
                good = json.loads(self.read(self.key(backup)))["taken_at"] > told(self.now - 365 * DAY)
            if good and id in judged:
                good = b"FAIL" not in self.read(self.key(backup, "verification.json"))
            for key, version in () if good else kept:
                if key.split("/")[2] == id:
                    self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)


def markers(world: World, manifest: dict[str, Any]) -> None:
    world.client.delete_object(Bucket=world.bucket, Key=world.key(manifest))


def old_dates(world: World, manifest: dict[str, Any]) -> None:
    old = told(world.now - 700 * DAY)
    world.put(world.key(manifest), sealed(manifest, taken_at=old, finished_at=old))


def failures(world: World, manifest: dict[str, Any]) -> None:
    said = {"verdict": "FAIL", "finished_at": told(world.now)}
    body = {"seal": manifest["seal"], "levels": {"checksum": {**said, "before": [said]}}}
    world.put(world.key(manifest, "verification.json"), body)


ATTACKS = {attack.__name__: attack for attack in (markers, old_dates, failures)}


def prune(target: str, world: World, days: float) -> tuple[int, list[str], list[str]]:
    """How it ended, what it removed, and what it says was hidden by somebody else."""
    if target == "unprotected":
        world.clean_up()
        return 0, [], []
    code, said = world.prune(days)
    if "error" in said or not said:
        raise SystemExit(f"the pruner did not prune, which proves nothing: {said}")
    return code, said["delete"], sorted(said["hidden"])


def attacked(target: str, world: World, name: str) -> int:
    """How many of the published manifests are gone."""
    before = world.versions()
    if prune(target, world, 0)[0] or world.versions() != before or len(before) != NIGHTS:
        raise SystemExit("without an attack the pruner removes something too, which proves nothing")
    for manifest in world.manifests[:-1]:
        ATTACKS[name](world, manifest)
    seen = [prune(target, world, days) for days in (0.1, 29)]
    victims = [manifest["id"] for manifest in world.manifests[:-1]]
    for code, removed, hidden in seen if target == "product" else ():
        shown = "every victim" if hidden == victims else f"{len(hidden)}"
        print(f"{name}: exit {code}, {len(removed)} removed, hidden: {shown}", file=sys.stderr)
    lost = len(before - world.versions())
    if target == "product" and not lost and not any(removed or hidden for _code, removed, hidden in seen):
        raise SystemExit(f"{name}: the pruner saw nothing of the attack, which proves nothing")
    return lost


def main() -> int:
    target, endpoint, bucket = sys.argv[1:4]
    directory = Path(sys.argv[4]).resolve()
    pruner = Machine("the pruner", machine.LIFEBOAT, str(directory / "run"))
    try:
        found = {
            name: attacked(target, World(pruner, endpoint, bucket, f"{target}-{name}", directory / name), name)
            for name in ATTACKS
        }
    finally:
        pruner.end()
    print("".join(f"{name}: {count} manifests are gone\n" for name, count in found.items() if count), end="")
    return 0 if any(found.values()) else 1


if __name__ == "__main__":
    ended.end(main)
