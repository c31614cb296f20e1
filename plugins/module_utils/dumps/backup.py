# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of the database servers of lifeboat_dumps by their own tools.

<name>.dump.zst        what `take` wrote
<name>.facts.json.zst  what the server held before and after it, by `facts`

With recipients both end in .age too.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from ..base import filesystem, typed
from ..base.errors import IntegrityError, Log, UsageError
from ..base.filesystem import STALE
from ..base.pipeline import HashingWriter
from ..base.text import human
from ..base.version import VERSION
from ..files import packs
from ..recovery import state as recovery_state
from ..repository import catalog, repositories
from ..repository.details import DumpsDetails, HeldDump
from ..repository.manifest import Artefact, Manifest
from ..stack import standstill
from ..stack.runtime import Opened
from ..tools import age
from . import sources
from .facts import DUMPS, Facts, write
from .sources import Reached, Server

_TRIES, _SHORT = 3, 60.0  # a dump that took less is taken again where the server was written meanwhile
_MANY, _LARGE = 20, 64 << 10  # facts and bytes of a dump, of which half may go from one day to the next
_EDGE = 256  # bytes at either end of a dump that tell whether it is whole


def take(run: Opened, *, log: Log, override: bool = False) -> Manifest:
    """Dump every source and publish it. The caller holds the stack's lock.

    override: an operator says that what is there is right, however much less it is. Raises LifeboatError; whatever
    fails, nothing is published, earlier backups stay as they were, and what was paused goes on.
    """
    config = run.config
    recovery_state.refuse_while_unfinished(config, "start a backup", (recovery_state.RECOVERING_DUMPS,))
    started, taken_at = time.monotonic(), datetime.now(timezone.utc)
    repo = repositories.repository_of(run)
    repo.check(writable=True)
    repo.sweep(older_than=STALE, now=taken_at)
    seal = age.sealing(config, log)
    good = catalog.good(catalog.entries(repo, DUMPS, config.stack))
    identity = catalog.free_id(repo, DUMPS, taken_at)
    dumped: dict[str, HeldDump] = {}
    artefacts: list[Artefact] = []
    with repo.stage(DUMPS, identity) as staging, filesystem.explained("write the backup", staging.path):
        for server in sources.servers(run):
            dumped[server.name] = _dumped(run, server, staging.path, identity, seal, artefacts, log)
        if good and not override:
            _refuse_emptied(good[-1], dumped, config.stack)
        details = DumpsDetails(
            host=socket.gethostname(), sources=dumped, accepted=override, recipients=seal.recipients,
            host_key=seal.host, seconds=round(time.monotonic() - started, 2),
        )  # fmt: skip
        manifest = Manifest(
            id=identity, component=DUMPS, stack=config.stack, taken_at=taken_at,
            finished_at=datetime.now(timezone.utc), tool={"lifeboat": VERSION}, details=typed.plain(details),
            artefacts=tuple(sorted(artefacts, key=lambda artefact: artefact.name)),
        )  # fmt: skip
        manifest = repositories.publish(run, manifest, staging.publish)
    log(f"{identity}: published, {human(manifest.size)} in {details.seconds} s")
    return manifest


def _dumped(
    run: Opened, server: Server, folder: Path, identity: str, seal: age.Seal, artefacts: list[Artefact], log: Log
) -> HeldDump:
    """One server: what it holds, its dump, what it holds then. Taken again where that is something else."""
    source = server.source
    how = standstill.STOP if source.consistency == standstill.STOP else standstill.PAUSE
    with standstill.still(run, _paused(run, server), how, source.limit, log) as still:
        reached = sources.reach(run, server)
        for attempt in range(1, _TRIES + 1):
            before, began = reached.facts(), time.monotonic()
            dump, plain = _take(reached, folder, identity, seal)
            after = reached.facts()
            if before == after or attempt == _TRIES or time.monotonic() - began > _SHORT:
                break
            log(f"{server.name} was written while it was dumped; again")
            (folder / dump.name).unlink()
        append_only, version = reached.append_only(), reached.version()
    kept = "live" if still.late else source.consistency
    if still.late:
        log(f"{server.name}: {source.limit} s were not enough, so that its services were let go before the end")
    facts = Facts(after, {name: before.get(name) for name in {*before, *after} if before.get(name) != after.get(name)})
    if facts.before:
        log(f"{server.name}: {len(facts.before)} facts changed while it was dumped")
    facts_artefact = write(facts, folder, identity, server.name, seal)
    artefacts += [dump, facts_artefact]
    log(f"{server.name}: {human(plain.size)}, {len(after)} facts")
    return HeldDump(
        dump.name, facts_artefact.name, server.service, source.preset, version, run.runtime.image(server.service),
        plain.size, plain.sha256, len(after), len(facts.before), append_only, kept, still.services, still.seconds,
    )  # fmt: skip


def _paused(run: Opened, server: Server) -> tuple[str, ...]:
    """Who stands still while it is dumped."""
    if server.source.consistency == "live":
        return ()
    return server.source.services or tuple(
        name for name in run.runtime.dependants(server.service) if name != server.service
    )


class _Edges(HashingWriter):
    """The digest, the size, and the bytes at either end of what goes through."""

    def __init__(self, target: IO[bytes]) -> None:
        super().__init__(target)
        self.first, self.last = b"", b""

    def write(self, data: bytes, /) -> int:
        self.first = (self.first + data[:_EDGE])[:_EDGE] if len(self.first) < _EDGE else self.first
        self.last = (self.last + data[-_EDGE:])[-_EDGE:]
        return super().write(data)


def _take(reached: Reached, folder: Path, identity: str, seal: age.Seal) -> tuple[Artefact, _Edges]:
    server = reached.server
    name = seal.named(f"{server.name}.dump.zst")
    with packs.compressed(folder / name, seal, f"{identity}/{name}") as (sink, hashed):
        plain = _Edges(sink)
        reached.run("take", attempted="take the dump", sink=plain)
    if problem := _problem(server, plain.first, plain.last):
        raise IntegrityError(
            "take the dump", reached.subject, f"{server.argv('take')[0]} ended with 0 and {problem}",
            "Nothing was published. Run it by hand in the container.",
        )  # fmt: skip
    return Artefact(name, hashed.size, hashed.sha256), plain


def _problem(server: Server, first: bytes, last: bytes) -> str:
    """Why that is no whole dump; empty where it is one, as far as its ends tell."""
    if not first:
        return "wrote nothing"
    preset = server.preset
    if preset is None or server.source.take:
        return ""
    if preset.begins and not first.startswith(preset.begins):
        return f"what it wrote does not begin as a dump of {preset.kind} does"
    if not preset.ends.search(last):
        return f"what it wrote does not end as a dump of {preset.kind} does"
    return ""


def _refuse_emptied(earlier: Manifest, now: Mapping[str, HeldDump], stack: str) -> None:
    """A server that was emptied, or initialised again, dumps without an error."""
    for name, before in earlier.detailed(DumpsDetails).sources.items():
        entry = now.get(name)
        if entry is None:
            continue
        cause = ""
        if before.lines > _MANY and 2 * entry.lines < before.lines:
            cause = f"{name} has {entry.lines} facts, and in {earlier.id} {before.lines}"
        elif before.bytes > _LARGE and 2 * entry.bytes < before.bytes:
            cause = f"the dump of {name} is of {human(entry.bytes)}, and in {earlier.id} of {human(before.bytes)}"
        if cause:
            raise UsageError(
                "back up the dumps", f"{stack}: {name}", cause,
                "Look what became of it; lifeboat.dr.recover_dumps brings it back. If it is right:"
                " lifeboat backup dumps --override.",
            )  # fmt: skip
