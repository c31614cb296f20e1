#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who may write to the repository forges a backup: a newer one, or the newest itself, with all seals right.

It uses S3, files and command lines only: that of a bucket's writer, and forge_backup.py for a repository of files. The
server of S3, with a bucket `versions` and one that is `plain`, and the writer's key are those of AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

Usage: forged.py product|unpinned|site DIRECTORY

product: the plans of a recovery of the database and of the site, and the commands, where the host's key is pinned.
unpinned: the plans where nobody is. site: the plan of recover_site on a new machine, by a playbook, from a bucket with
versions in which older backups are hidden, the newest is overwritten and a newer one is planted, all at once; where the
host's key is pinned, and before that where nobody is. Prints each forged one that would be recovered, a line each. What
else was said is in DIRECTORY/said.json. Exit 0: there is one.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import ended
import forge_backup
import nights
from nights import Host, Writer

NONE, LATER = timedelta(0), timedelta(minutes=5)
ATTACKS = {"plant": [LATER], "alter": [NONE], "both": [NONE, LATER]}
BUCKETS = {"plant": "plain", "alter": "plain", "both": "versions"}
Said = dict[str, dict[str, Any]]


def forge(host: Host, which: str) -> dict[str, str]:
    """By the writer's key. Returns each forged document's seal by its id, the newest one's backup and point last."""
    writer = Writer(host)
    seals: dict[str, str] = {}
    own, point = host.backups[-1], host.points[-1]
    before, said = writer.get(writer.backup(own)), writer.get(writer.point(point))
    for later in ATTACKS[which]:
        identity, tied = forge_backup.renamed(own, later), forge_backup.renamed(point, later)
        manifest = forge_backup.forged(before, identity, later)
        content = {**nights.CONTENT, forge_backup.ARTEFACT: forge_backup.POISON, "manifest.json": manifest}
        for name, data in content.items():
            writer.put(writer.backup(identity, name), data)
        body = forge_backup.forged_point(said, tied, later, identity, manifest)
        writer.put(writer.point(tied), body)
        seals |= {identity: json.loads(manifest)["seal"], tied: json.loads(body)["seal"]}
    return seals


def taken(found: dict[str, Any], seals: dict[str, str]) -> dict[str, Any]:
    """What a plan takes, or why there is none. A point's seal is in no plan: what is live under a forged one's name is
    the attacker's."""
    if found.get("failed"):
        return {"refused": found["msg"]}
    plan = found["plan"]
    one, place = plan["backup"], plan.get("place") or plan["backup"]["place"]
    forged = one["seal"] == seals.get(one["id"]) if "seal" in one else one["id"] in seals and place == "repository"
    return {"id": one["id"], "place": place, "forged": forged, "text": found["text"]}


def asked_of(host: Host, which: str, seals: dict[str, str], *, pinned: bool) -> list[tuple[str, str]]:
    """The newest one, the forged ones, and those that an operator names where the newest one is lost."""
    named = [*seals] if pinned else [identity for identity in seals if identity[0].isdigit()]
    if pinned and which == "alter":
        named += [host.backups[-2], host.points[-2]]
    return [("database", "latest"), ("site", "latest"), *(("database", identity) for identity in named)]


def in_files(host: Host, which: str) -> list[str]:
    words = [sys.executable, forge_backup.__file__, which, host.settings["repository"]["path"]]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


def of_files(plan: dict[str, Any]) -> dict[str, Any]:
    """A backup is what its directory holds."""
    found = taken(plan, {})
    if "id" in found:
        artefact = Path(plan["plan"]["location"]) / forge_backup.ARTEFACT
        found["forged"] = artefact.read_bytes() == forge_backup.POISON
    return found


def one_by_one(root: Path, *, pinned: bool) -> Said:
    signing = nights.signing(root, pinned=pinned)
    which = [*ATTACKS] if pinned else ["plant", "alter"]
    hosts = {name: nights.in_bucket(root, name, BUCKETS[name], **signing).publish() for name in which}
    files = {name: nights.local(root, f"{name}-files", **signing).publish() for name in which[:2] if pinned}
    jobs = [nights.plan("database", host, "latest") for host in hosts.values()]
    jobs += [nights.lifeboat(host, "verify", "--level", "checksum") for host in files.values()]
    before = [found for _code, found in nights.answers(root, jobs)]
    for host, found in zip(hosts.values(), before):
        if found.get("failed") or found["plan"]["backup"]["id"] != host.backups[-1]:
            raise SystemExit(f"without the attack it is not recovered either, which proves nothing: {found}")
    for host, found in zip(files.values(), before[len(hosts) :]):
        if (found["verdict"], found["id"]) != ("PASS", host.backups[-1]):
            raise SystemExit(f"without the attack it is not verified either, which proves nothing: {found}")
    seals = {name: forge(host, name) for name, host in hosts.items()}
    forged = {name: in_files(host, name) for name, host in files.items()}
    asked = {name: asked_of(host, name, seals[name], pinned=pinned) for name, host in hosts.items()}
    jobs = [nights.plan(kind, hosts[name], identity) for name, of in asked.items() for kind, identity in of]
    for name, host in files.items():
        verify = ["verify", forged[name][0], "--level", "checksum"]
        for words in (["list"], ["status"], verify, ["prune", "--trust-clock"]):
            jobs.append(nights.lifeboat(host, *words))
        jobs.append(nights.plan("database", host, "latest"))
    answers, said = iter(nights.answers(root, jobs)), Said()
    for name, host in hosts.items():
        found = {f"{kind} {identity}": taken(next(answers)[1], seals[name]) for kind, identity in asked[name]}
        said[name] = {"backups": host.backups, "points": host.points, "forged": [*seals[name]], **found}
    for name, host in files.items():
        told = {verb: next(answers) for verb in ("list", "status", "verify", "prune")}
        plan = of_files(next(answers)[1])
        own = {"backups": host.backups, "points": host.points, "forged": forged[name]}
        said[f"{name}, files"] = {**own, **told, "database latest": plan}
    return said


def at_once(root: Path) -> Said:
    """With the host's key pinned; and where nobody is, which must be recovered to what was planted."""
    host = nights.in_bucket(root, "site", "versions", **nights.signing(root, pinned=True)).publish()
    writer, seals = Writer(host), forge(host, "both")
    for backup, tied in zip(host.backups[:-1], host.points[:-1]):
        writer.hide(writer.backup(backup))
        writer.hide(writer.point(tied))
    new, unpinned = (copy.deepcopy(host) for _number in range(2))
    new.settings["state_directory"] = str(root / "new-machine")
    unpinned.settings["state_directory"] = str(root / "another-machine")
    del unpinned.settings["signers"]
    before = writer.state()
    right, control = (taken(found, seals) for found in nights.played(root, [new, unpinned]))
    if writer.state() != before:
        raise SystemExit("a plan writes to the bucket")
    if not control.get("forged"):
        raise SystemExit(f"nothing forged is recovered where nobody is pinned either, which proves nothing: {control}")
    told = {"points": host.points, "forged": [*seals], "site latest": right}
    return {"at once": {**told, "unpinned id": control["id"], "unpinned text": control["text"]}}


def main() -> int:
    target, root = sys.argv[1], Path(sys.argv[2]).resolve()
    said = at_once(root) if target == "site" else one_by_one(root, pinned=target == "product")
    return nights.told(root, said, "forged", "id")


if __name__ == "__main__":
    ended.end(main, nights.STACK)
