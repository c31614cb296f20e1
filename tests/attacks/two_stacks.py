#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack, which nobody need mean: two machines back up to one place in a bucket, at the same moment or a day apart.

It uses S3, files and command lines only. A race: a machine and its clone back up the same stack within one second, so
that both choose the same id. Each then waits until the other has come as far: at the `docker` that it asks, which is
one of ours. What a machine reports as published is then looked for in the bucket, byte for byte. A day apart: the
second machine backs up another stack, whose inventory names the same place.

Usage: two_stacks.py product|unprotected RACES ENDPOINT BUCKET DIRECTORY, with AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY in the environment. RACES: how many, until one is lost.

product: `lifeboat backup config`, each time a process of its own. unprotected: a script that looks whether the id is
free, uploads, reads back what it uploaded, and removes all below the id where that is something else; it knows nothing
of stacks. Prints each outcome of a race by which somebody lost a backup, and each backup of the second stack that is
among those of the first. Exit 0: there is one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import boto3
import ended
import machine
from machine import Machine

UNPROTECTED = """
import hashlib, json, os, sys, tarfile, time
import boto3
directory, endpoint, bucket, prefix = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
def taken(id):
    return client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/config/{id}/").get("Contents", ())
for _line in sys.stdin:
    at = time.time()
    while taken(id := time.strftime("config_backup_%Y%m%d_%H%M%S", time.gmtime(at))):
        at += 1
    with tarfile.open(f"{directory}/config.tar.gz", "w:gz") as made:
        made.add(f"{directory}/project/compose.yml")
    data = open(f"{directory}/config.tar.gz", "rb").read()
    manifest = {"artefacts": [{"name": "config.tar.gz", "sha256": hashlib.sha256(data).hexdigest()}]}
    if os.path.exists(f"{directory}/wait"):
        open(f"{directory}/wait").readline()
    code = 0
    try:
        for name, body in ("config.tar.gz", data), ("manifest.json", json.dumps(manifest).encode()):
            key = f"{prefix}/config/{id}/{name}"
            client.put_object(Bucket=bucket, Key=key, Body=body)
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != body:
                raise OSError("what the server holds is something else")
    except Exception as exc:
        code = 1
        for item in taken(id):
            client.delete_object(Bucket=bucket, Key=item["Key"])
    print(json.dumps({"id": id}))
    print(code, flush=True)
"""
# An engine without containers, asked for them when the backup has its id. There it waits for a line, once a run.
DOCKER = """#!/bin/sh
case " $* " in
  *" config "*) echo '{{"name": "shop", "services": {{}}}}' ;;
  *" --quiet "*) if [ -p {wait} ] && [ ! -e {wait}.$PPID ]; then read -r _line <{wait}; : >{wait}.$PPID; fi ;;
esac
"""
KEYS = {"access": "ACCESS_KEY_ID", "secret": "SECRET_ACCESS_KEY"}
SHOP, WIKI = "attacked-shop", "attacked-wiki"
WELL = ("one published, and its backup is whole", "none published, and nothing is there")
LOST = (
    "a backup of that id exists",
    "they are not the same",
)  # the second where a server lets one claim replace another
OTHERS = "it is not known as that of the stack"
TRIES = 5  # for each race: a second may end between the two, and then each has an id of its own


class Place:
    """Where both back up to."""

    def __init__(self, endpoint: str, bucket: str, prefix: str) -> None:
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self.endpoint, self.bucket, self.prefix = endpoint, bucket, prefix

    def there(self) -> dict[str, dict[str, bytes]]:
        """By id and name, claims left out."""
        found: dict[str, dict[str, bytes]] = {}
        start = f"{self.prefix}/config/"
        for item in self.client.list_objects_v2(Bucket=self.bucket, Prefix=start).get("Contents", ()):
            id, _slash, name = item["Key"][len(start) :].partition("/")
            if name and not name.startswith("claim"):
                body = self.client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
                found.setdefault(id, {})[name] = body
        return found

    def clear(self) -> None:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/config/").get("Contents", ())
        for item in found:
            self.client.delete_object(Bucket=self.bucket, Key=item["Key"])


def made(target: str, name: str, place: Place, directory: Path) -> Machine:
    """A machine that both stacks are configured on. A run of it waits where there is a pipe `wait`."""
    root = directory / name
    for folder in ("etc", "project", "bin"):
        (root / folder).mkdir(parents=True)
    (root / "project/compose.yml").write_text(f"# {name}\n" * 100 + "services: {}\n")
    repository = {
        "type": "s3", "bucket": place.bucket, "prefix": place.prefix, "endpoint_url": place.endpoint,
        "staging_root": str(root / "staging"),
    }  # fmt: skip
    keys = {f"s3_{which}_key": os.environ[f"AWS_{word}"] for which, word in KEYS.items()}
    for stack in (SHOP, WIKI):
        settings = {
            "stack": stack,
            "runtime": {"project_directory": str(root / "project")},
            "repository": repository,
            "state_directory": str(root / "state" / stack),
        }
        for file, data in ((f"{stack}.json", settings), (f"{stack}.secrets.json", keys)):
            (root / "etc" / file).touch(0o600)
            (root / "etc" / file).write_text(json.dumps(data))
    docker = root / "bin/docker"
    docker.write_text(DOCKER.format(wait=root / "wait"))
    docker.chmod(0o755)
    if target == "product":
        return Machine(name, machine.LIFEBOAT, str(root / "run"), path=str(docker.parent))
    return Machine(name, UNPROTECTED, str(root), place.endpoint, place.bucket, place.prefix)


def backup(stack: str, name: str, directory: Path) -> list[str]:
    return ["backup", "config", "--json", "--stack", stack, "--config-directory", str(directory / name / "etc")]


def together(both: list[Machine], directory: Path) -> bool:
    """Let them go on when both wait; False where one of them ended before."""
    pipes: list[int] = []
    for each in both:
        while not each.ended():
            with contextlib.suppress(OSError):  # nobody reads it yet
                pipes.append(os.open(directory / each.name / "wait", os.O_WRONLY | os.O_NONBLOCK))
                break
            time.sleep(0.005)
    for pipe in pipes:
        os.write(pipe, b"\n")
        os.close(pipe)
    return len(pipes) == len(both)


def whose(files: dict[str, bytes]) -> str:
    """The machine whose backup this is, every byte of it; empty where it is not one."""
    listed = json.loads(files.get("manifest.json", b"{}")).get("artefacts", ())
    for artefact in listed:
        if hashlib.sha256(files.get(artefact["name"], b"")).hexdigest() != artefact["sha256"]:
            return ""
    if not listed:
        return ""
    with tarfile.open(fileobj=io.BytesIO(files["config.tar.gz"])) as archive:
        (member,) = (one for one in archive if one.name.endswith("compose.yml"))
        content = archive.extractfile(member)
        return content.readline().decode().strip("# \n") if content else ""


def alone(one: Machine, place: Place, directory: Path) -> str:
    """The id of its backup."""
    code, told = one.run(*backup(SHOP, one.name, directory))
    if code or whose(place.there().get(told["id"], {})) != one.name:
        raise SystemExit(f"{one.name} makes no backup where it is alone, which proves nothing: {told}")
    return str(told["id"])


def race(both: list[Machine], place: Place, directory: Path) -> str:
    """What came of it, in words; empty where it was not one, as each had an id of its own."""
    for each in both:
        each.begin(*backup(SHOP, each.name, directory))
    met = together(both, directory)
    answers = {each.name: each.answer() for each in both}
    there = place.there()
    place.clear()
    reported = {name: told["id"] for name, (code, told) in answers.items() if code == 0}
    for code, told in answers.values():
        if code and not any(words in told.get("error", {}).get("cause", LOST[0]) for words in LOST):
            raise SystemExit(f"a machine failed for another reason, which proves nothing: {told}")
    if not met or len({*reported.values()}) > 1:
        return ""
    whole = [name for name, id in reported.items() if whose(there.get(id, {})) == name]
    if len(reported) == 1 and whole:
        return WELL[0]
    if not reported and not there:
        return WELL[1]
    files = sum(map(len, there.values()))
    return f"{len(reported)} reported success, {len(whole)} backups are whole, {files} files are there"


def at_once(both: list[Machine], place: Place, directory: Path, races: int) -> list[str]:
    """The outcome by which somebody lost a backup, with which it ends."""
    for each in both:
        alone(each, place, directory)
        place.clear()
        os.mkfifo(directory / each.name / "wait")
    seen: Counter[str] = Counter()
    tries = 0
    while sum(seen.values()) < races and not {*seen} - {*WELL}:
        tries += 1
        if tries > races * TRIES:
            raise SystemExit(f"in {races * TRIES} tries both met {sum(seen.values())} times, which proves nothing")
        outcome = race(both, place, directory)
        seen.update([outcome] if outcome else [])
    for each in both:
        (directory / each.name / "wait").unlink()
    print(
        *(f"{number} of {sum(seen.values())} races: {said}" for said, number in seen.items()), sep="\n", file=sys.stderr
    )
    return sorted({*seen} - {*WELL})


def later(both: list[Machine], place: Place, directory: Path) -> list[str]:
    """The backups of the second stack that are among those of the first."""
    first, second = both
    id = alone(first, place, directory)
    code, told = second.run(*backup(WIKI, second.name, directory))
    if code and OTHERS not in told.get("error", {}).get("cause", ""):
        raise SystemExit(f"the second stack's backup failed for another reason, which proves nothing: {told}")
    there = {id: whose(files) for id, files in place.there().items()}
    if there.pop(id, "") != first.name:
        return [f"{id} is not the first stack's any more"]
    if code == 0 and not there:
        raise SystemExit("the second stack's backup is nowhere, which proves nothing")
    return [f"{id}, of the second stack, is among those of the first" for id in there]


def main() -> int:
    target, races, endpoint, bucket = sys.argv[1:5]
    place, directory = Place(endpoint, bucket, target), Path(sys.argv[5]).resolve()
    both = [made(target, name, place, directory) for name in ("first", "second")]
    try:
        found = at_once(both, place, directory, int(races)) + later(both, place, directory)
    finally:
        for each in both:
            each.end()
    print("".join(f"{line}\n" for line in found), end="")
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
