#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who holds the writer's key makes every backup unusable: hides it, overwrites it, or adds to it.

It uses S3 and command lines only. The server of S3, with a bucket `versions` and one that is `plain`, and the writer's
key are those of AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

Usage: hidden.py product|plain|unprotected DIRECTORY

product: the plans of a recovery of the database and of the site, and the commands, where the bucket keeps versions.
plain: the plan of the database's recovery where it keeps none. unprotected: there too, a script that restores the
newest backup with a manifest, and joins the parts of a dump, as `cat NAME*` does. Prints each attack that kept the
newest backup from being recovered, a line each, and what came instead. What else was said is in DIRECTORY/said.json.
Exit 0: there is one.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import ended
import forge_backup
import nights
from nights import Host, Writer

NONE = timedelta(0)
OLDER = "repository_versions"  # what a plan calls a bucket that is read by versions
Said = dict[str, dict[str, Any]]


def hidden(writer: Writer, host: Host) -> None:
    for backup, tied in zip(host.backups, host.points):
        writer.hide(writer.backup(backup))
        writer.hide(writer.point(tied))


def removed(writer: Writer, host: Host) -> None:
    """As hidden, and the artefacts too."""
    hidden(writer, host)
    for backup in host.backups:
        for name in nights.CONTENT:
            writer.hide(writer.backup(backup, name))


def lied(writer: Writer, host: Host) -> None:
    """Another manifest and other bytes under each name, well sealed."""
    for backup, tied in zip(host.backups, host.points):
        manifest = forge_backup.forged(writer.get(writer.backup(backup)), backup, NONE)
        said = forge_backup.forged_point(writer.get(writer.point(tied)), tied, NONE, backup, manifest)
        writer.put(writer.backup(backup, nights.ROLES), forge_backup.POISON)
        writer.put(writer.backup(backup), manifest)
        writer.put(writer.point(tied), said)


def damaged(writer: Writer, host: Host) -> None:
    """Bytes of the same size, which a look at names and sizes does not find."""
    for backup in host.backups:
        writer.put(writer.backup(backup, nights.ROLES), b"ruins")


def crowded(writer: Writer, host: Host) -> None:
    """A file that does not belong to it, so that no backup is whole."""
    for backup in host.backups:
        writer.put(writer.backup(backup, f"{nights.ROLES}.1"), b"more")


ATTACKS = {attack.__name__: attack for attack in (hidden, removed, lied, damaged, crowded)}
NAMED = ("hidden", "lied")  # where an operator names what he wants, too


def restored(writer: Writer) -> bytes:
    """By the script: what it restores; nothing where it finds no backup."""
    listed = writer.client.list_objects_v2(Bucket=writer.bucket, Prefix=f"{writer.prefix}/postgresql/")
    keys = sorted(item["Key"] for item in listed.get("Contents", ()))
    whole = [key.rpartition("/")[0] for key in keys if key.endswith("/manifest.json")]
    return b"".join(writer.get(key) for key in keys if whole and key.startswith(f"{whole[-1]}/{nights.ROLES}"))


def unprotected(root: Path) -> Said:
    said = Said()
    for name, attack in ATTACKS.items():
        host = nights.in_bucket(root, name, "plain").publish(1)
        writer = Writer(host)
        if restored(writer) != nights.CONTENT[nights.ROLES]:
            raise SystemExit("the script restores nothing without the attack either, which proves nothing")
        attack(writer, host)
        got = restored(writer)
        lost = got != nights.CONTENT[nights.ROLES]
        said[name] = {"the script": {"kept": got.decode() or "nothing" if lost else ""}}
    return said


def judged(found: dict[str, Any], host: Host, seal: str, *, versions: bool) -> dict[str, Any]:
    """A plan: what kept it from the newest backup, as that was published, is `kept`."""
    if found.get("failed"):
        return {"kept": found["msg"]}
    plan = found["plan"]
    one, place = plan["backup"], plan.get("place") or plan["backup"]["place"]
    right = one["id"] == host.backups[-1] and one["seal"] == seal if "seal" in one else one["id"] == host.points[-1]
    kept = "" if right and (place == OLDER or not versions) else f"{one['id']} in the {place}"
    return {"kept": kept, "id": one["id"], "text": found["text"]}


def planned(root: Path, *, versions: bool) -> Said:
    """Each attack, and what is planned after it; where there are no versions, of the database alone."""
    bucket = "versions" if versions else "plain"
    hosts = {name: nights.in_bucket(root, name, bucket).publish() for name in ATTACKS if versions or name != "crowded"}
    writers = {name: Writer(host) for name, host in hosts.items()}
    seals = {
        name: json.loads(writers[name].get(writers[name].backup(host.backups[-1])))["seal"]
        for name, host in hosts.items()
    }
    before = nights.answers(root, [nights.plan("database", host, "latest") for host in hosts.values()])
    for host, (_code, found) in zip(hosts.values(), before):
        if found.get("failed") or found["plan"]["backup"]["id"] != host.backups[-1]:
            raise SystemExit(f"without the attack it is not recovered either, which proves nothing: {found}")
    for name, host in hosts.items():
        ATTACKS[name](writers[name], host)
    states = {name: writer.state() for name, writer in writers.items()}
    asked: dict[str, list[tuple[str, str]]] = {}
    for name, host in hosts.items():
        asked[name] = [("database", "latest"), *([("site", "latest")] if versions else [])]
        if name in NAMED:
            backup, own = host.backups[-1], host.points[-1]
            asked[name] += [("database", backup), *([("database", own), ("site", own)] if versions else [])]
    jobs = [nights.plan(kind, hosts[name], identity) for name, of in asked.items() for kind, identity in of]
    answers, said = iter(nights.answers(root, jobs)), Said()
    for name, host in hosts.items():
        found = {
            f"{kind} {identity}": judged(next(answers)[1], host, seals[name], versions=versions)
            for kind, identity in asked[name]
        }
        own = {"backups": host.backups, "points": host.points}
        said[name] = {**own, "nothing is written": writers[name].state() == states[name], **found}
    return said


def commands(root: Path) -> Said:
    """Of one backup that is hidden and one that is overwritten: what verify, list and status say, and the next plan."""
    proved, told = (nights.in_bucket(root, name, "versions").publish(3) for name in ("proved", "told"))
    writers = [Writer(host) for host in (proved, told)]
    verify = ("--level", "checksum")
    first = nights.answers(root, [nights.lifeboat(proved, "verify", proved.backups[0], *verify)])
    for writer, host, hide, lie in zip(writers, (proved, told), (1, 2), (2, 0)):
        writer.hide(writer.backup(host.backups[hide]))
        manifest = forge_backup.forged(writer.get(writer.backup(host.backups[lie])), host.backups[lie], NONE)
        writer.put(writer.backup(host.backups[lie]), manifest)
    before = writers[0].state()
    jobs = [nights.lifeboat(proved, "verify", identity, *verify) for identity in proved.backups[1:]]
    jobs += [nights.lifeboat(told, "list"), nights.lifeboat(told, "status"), nights.plan("database", told, "latest")]
    jobs.append(nights.lifeboat(told, "list", json_too=False))
    second, third, listed, status, plan, table = nights.answers(root, jobs)
    return {
        "verify": {
            "backups": proved.backups, "said": [*first, second, third],
            "nothing is written": writers[0].state() == before,
        },
        "list": {"backups": told.backups, "said": listed, "table": table[1]},
        "status": {"backups": told.backups, "said": status},
        "plan": {"backups": told.backups, "id": plan[1]["plan"]["backup"]["id"], "text": plan[1]["text"]},
    }  # fmt: skip


def main() -> int:
    target, root = sys.argv[1], Path(sys.argv[2]).resolve()
    said = unprotected(root) if target == "unprotected" else planned(root, versions=target == "product")
    if target == "product":
        said |= commands(root)
    return nights.told(root, said, "kept", "kept")


if __name__ == "__main__":
    ended.end(main, nights.STACK)
