# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a dumps backup beyond its checksums.

archive: each dump is read to its end and is what `take` wrote, its facts can be read. restore: each is restored into a
fresh server of the same image, without a network, which then holds what the facts say.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Optional

from ..base import pipeline
from ..base.checks import COULD_NOT_VERIFY, PASS, Check, compared, ended
from ..base.errors import LifeboatError, Log, UnverifiedError
from ..base.pipeline import HashingWriter
from ..base.text import human
from ..database import scratch
from ..repository.base import Repository
from ..repository.details import DumpsDetails, HeldDump
from ..repository.manifest import Manifest
from ..stack.runtime import Opened
from ..tools import age
from . import fresh, sources
from .facts import DUMPS, Facts, opened, read_facts
from .sources import Server

UNSETTLED = "dumps written meanwhile"  # the check of what no comparison proves
_SHOWN = 5


def levels(run: Opened, repo: Repository, manifest: Manifest, level: str, log: Log) -> Iterator[Check]:
    """Yield the checks of `archive`, and of `restore` where asked for, which is not begun when the former failed."""
    keys = age.keys(run.config, run.key)
    servers = {server.name: server for server in sources.servers(run)}
    entries = manifest.detailed(DumpsDetails).sources
    sound: list[str] = []
    for name, entry in entries.items():
        check = _archive(repo, manifest, name, entry, keys)
        sound += [name] if check.result == PASS else []
        yield check
    if level != "restore":
        return
    scratch.sweep(run.config.stack)
    scratch.sweep_volumes(run.config.stack)
    for name in sound:
        yield from _restored(run, repo, manifest, name, servers.get(name), keys, log)


def _archive(repo: Repository, manifest: Manifest, name: str, entry: HeldDump, keys: age.Keys) -> Check:
    check, digest = f"dump of {name}", HashingWriter()
    try:
        with opened(repo, manifest, entry.artefact, keys) as stream:
            while data := stream.read(pipeline.CHUNK):
                digest.write(data)
        facts = read_facts(repo, manifest, name, keys)
    except LifeboatError as exc:
        return ended(check, exc)
    wrong = []
    if (digest.size, digest.sha256) != (entry.bytes, entry.sha256):
        wrong.append(f"{entry.artefact} has other bytes than were dumped")
    if (len(facts.facts), len(facts.before)) != (entry.lines, entry.unsettled):
        wrong.append(f"{entry.facts} has other facts than the manifest says")
    return compared(check, wrong, f"{human(entry.bytes)}, every byte as it was dumped; {entry.lines} facts")


def _restored(
    run: Opened, repo: Repository, manifest: Manifest, name: str, server: Optional[Server], keys: age.Keys, log: Log
) -> Iterator[Check]:
    check, entry = f"restore of {name}", manifest.detailed(DumpsDetails).sources[name]
    try:
        if server is None:
            raise UnverifiedError(
                "restore the dump", name, "lifeboat_dumps names no such source any more", "Name it, to prove it."
            )
        facts = read_facts(repo, manifest, name, keys)
        dump = partial(opened, repo, manifest, entry.artefact, keys)
        log(f"restoring {name} into a throw-away server")
        with (
            fresh.volume(run.config.stack) as data,
            fresh.restored(run, server, entry, dump, data) as reached,
        ):
            now = reached.facts()
    except LifeboatError as exc:
        yield ended(check, exc)
        return
    yield from comparison(check, name, facts, now)


def comparison(check: str, name: str, facts: Facts, now: dict[str, str]) -> Iterator[Check]:
    """Whether a server holds what was dumped; then what nobody can tell, as it was written meanwhile."""
    differences = facts.differences(now)
    same = f"{len(facts.facts) - len(facts.unsettled)} facts are those that were taken with the dump"
    result = compared(check, differences.wrong, same)
    yield Check(result.name, result.result, result.detail, kind=DUMPS, subject=name)
    if differences.unproved:
        names = "; ".join(differences.unproved[:_SHOWN])
        more = f" and {len(differences.unproved) - _SHOWN} more" if len(differences.unproved) > _SHOWN else ""
        words = f"{name} was written while it was dumped: {names}{more}. consistency: pause lets it stand still"
        yield Check(UNSETTLED, COULD_NOT_VERIFY, words, subject=name)
