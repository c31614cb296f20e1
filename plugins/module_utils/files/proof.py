# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a files backup beyond its checksums.

archive: the listing is read to its end and needs no pack that is not there; its own packs, and those of earlier ones
whose turn it is, are opened, and every file in them has the bytes that the listing says. restore: the files of these
packs are written into a directory of their own and compared with the listing: content, mode, owner, times, attributes;
SQLite looks at each of its databases.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Optional

from ..base import filesystem, progress
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, compared, ended
from ..base.errors import LifeboatError, Log, printable
from ..base.text import human
from ..repository import catalog, checksums
from ..repository.base import Repository
from ..repository.details import FilesDetails, Pack
from ..repository.manifest import Artefact, Manifest
from ..settings.config import Config
from ..tools import age
from . import contents, packs, restore, walk
from .listing import FILE, Entry, Row, by_source
from .packs import AGAIN, FILES, listed
from .restore import Selection


def levels(
    config: Config, repo: Repository, manifest: Manifest, level: str, sample: Optional[int], log: Log, key: str = ""
) -> Iterator[Check]:
    """Yield the checks of `archive`, and of `restore` where asked for, which is not begun when the former failed.

    sample: 0: every pack is read; else its own, and of the others those whose turn it is.
    """
    details, keys = manifest.detailed(FilesDetails), age.keys(config, key)
    now = datetime.now(timezone.utc).toordinal()
    packs_of = {pack.number: pack for pack in details.packs}
    own = [pack for pack in details.packs if pack.backup == manifest.id]
    earlier = [pack for pack in details.packs if pack.backup != manifest.id]
    turn = [pack for pack in earlier if sample == 0 or _turn(pack) == now % AGAIN]
    found: list[Check] = [_listing(repo, manifest, packs_of, keys)]
    yield found[0]
    if earlier:
        found.append(_check_earlier(repo, earlier, turn))
        yield found[-1]
    readable = [pack for pack in turn if _opens(pack, keys)]
    for pack in turn:
        if pack not in readable:
            yield _proved_before(repo, pack)
    log(f"{manifest.id}: reading {len(own) + len(readable)} of {len(details.packs)} packs back")
    size = sum(pack.size for pack in [*own, *readable])
    with progress.going(progress.Gauge(f"{manifest.id}: reading packs", size)) as gauge:
        for pack in [*own, *readable]:
            found.append(_pack(repo, manifest, pack, keys))
            gauge.add(pack.size)
            yield found[-1]
    if level == "restore" and all(check.result == PASS for check in found):
        with progress.going(progress.Gauge(f"{manifest.id}: restoring packs", size)) as gauge:
            for pack in [*own, *readable]:
                yield _restored(repo, manifest, pack, keys, config.scratch, log)
                gauge.add(pack.size)
    yield _not_in_it(details)


def _turn(pack: Pack) -> int:
    return zlib.crc32(f"{pack.backup}/{pack.artefact}".encode()) % AGAIN


def _not_in_it(details: FilesDetails) -> Check:
    problems = details.problems
    words = "every file was read"
    return Check("files read", FAIL, "; ".join(problems)) if problems else Check("files read", PASS, words)


def _listing(repo: Repository, manifest: Manifest, numbers: Mapping[int, Pack], keys: age.Keys) -> Check:
    """It is whole, in order, and says of every source and pack what the manifest says."""
    name, details = "listing", manifest.detailed(FilesDetails)
    sources: dict[str, Counter[str]] = {source: Counter() for source in details.sources}
    of_pack: dict[int, Counter[str]] = {number: Counter() for number in numbers}
    wrong: list[str] = []
    try:
        with listed(repo, manifest, keys) as lines:
            for line in lines:
                entry = line.entry
                source = entry.path.partition("/")[0]
                if source not in sources or (entry.pack and entry.pack not in of_pack):
                    wrong.append(f"{printable(entry.path)} is of a source or in a pack that the manifest does not name")
                    continue
                sources[source]["entries"] += 1
                if entry.type == FILE:
                    sources[source]["files"] += 1
                    sources[source]["bytes"] += 0 if entry.rest.link else entry.size
                if entry.pack:
                    of_pack[entry.pack]["files"] += 1
    except LifeboatError as exc:
        return ended(name, exc)
    for source, held in details.sources.items():
        told, said = sources[source], (held.entries, held.files, held.bytes)
        if (told["entries"], told["files"], told["bytes"]) != said:
            wrong.append(f"{source}: it has {dict(told)}, and the manifest says {said}")
    entries = sum(counted["entries"] for counted in sources.values())
    return compared(name, wrong, f"{entries} entries of {len(sources)} sources, in {len(numbers)} packs")


def earlier_packs(repo: Repository, manifest: Manifest) -> list[Check]:
    """The packs that earlier backups hold for this one: there, and every byte as it was written."""
    earlier = [pack for pack in manifest.detailed(FilesDetails).packs if pack.backup != manifest.id]
    return [_check_earlier(repo, earlier, earlier)] if earlier else []


def _check_earlier(repo: Repository, earlier: Sequence[Pack], turn: Sequence[Pack]) -> Check:
    """The packs that earlier backups hold: there, and of those whose turn it is every byte as it was written."""
    wrong: list[str] = []
    for pack in earlier:
        entry = catalog.entry(repo, FILES, pack.backup)
        if entry.unknown:
            return Check("earlier packs", COULD_NOT_VERIFY, f"{pack.backup}: {entry.problem}")
        artefacts = entry.manifest.artefacts if entry.manifest else ()
        if Artefact(pack.artefact, pack.size, pack.sha256) not in artefacts:
            wrong.append(f"{pack.backup} does not have {pack.artefact} as this backup needs it")
        elif repo.files(FILES, pack.backup).get(pack.artefact) != pack.size:
            wrong.append(f"{pack.backup}/{pack.artefact} is missing or has another size")
        elif pack in turn:
            with repo.open(FILES, pack.backup, pack.artefact) as stream:
                if checksums.artefact_of(stream, pack.artefact).sha256 != pack.sha256:
                    wrong.append(f"{pack.backup}/{pack.artefact} has another SHA-256 than when it was written")
    size = human(sum(pack.size for pack in earlier))
    words = f"{len(earlier)} packs of earlier backups, {size}, are there; every byte of {len(turn)} was read"
    return compared("earlier packs", wrong, f"{words}, the others within {AGAIN} days")


def _opens(pack: Pack, keys: age.Keys) -> bool:
    return not pack.recipients or bool(keys.identity or keys.host.text((*pack.recipients, pack.host_key)))


def _proved_before(repo: Repository, pack: Pack) -> Check:
    """A pack that no key here opens: its bytes are those that were read when the backup that holds it was proved."""
    name = f"pack {pack.number}"
    if good := catalog.proved(catalog.entry(repo, FILES, pack.backup)):
        return Check(name, PASS, f"it was read when {pack.backup} was proved ({good}), and has the bytes of then")
    words = (
        f"no key on this host opens what {pack.backup} keeps, which was never verified: lifeboat verify --identity FILE"
    )
    return Check(name, COULD_NOT_VERIFY, words)


def _rows(lines: Iterable[Row], pack: Pack) -> Iterator[Row]:
    """What the backup has in that pack."""
    return (line for line in lines if line.pack == pack.number)


def _pack(repo: Repository, manifest: Manifest, pack: Pack, keys: age.Keys) -> Check:
    """Every file of it has the bytes of the listing. One that changed while it was read is in it more than once."""
    name, wrong, files = f"pack {pack.number}", dict[str, str](), 0
    try:
        with listed(repo, manifest, keys) as lines, packs.opened(repo, pack, keys) as members:
            before = ""
            for row, content in packs.beside(_rows(lines, pack), members):
                files += row.path != before
                before = row.path
                if content is None:
                    wrong[row.path] = f"{printable(row.path)} is not in it"
                elif _digest(content, row.entry, row.path) == row.digest:
                    wrong.pop(row.path, None)
                else:
                    wrong[row.path] = f"{printable(row.path)} has other bytes than the listing says"
    except LifeboatError as exc:
        return ended(name, exc)
    return compared(name, list(wrong.values()), f"{files} files, {human(pack.bytes)}, as listed")


def _digest(content: IO[bytes], entry: Entry, subject: str) -> str:
    if not entry.rest.sparse:
        plain, size = hashlib.sha256(), 0
        while data := content.read(filesystem.CHUNK):
            plain.update(data)
            size += len(data)
        return plain.hexdigest() if size == entry.size else ""
    digest = contents.SparseDigest()
    for offset, length in packs.sparse_pieces(content, entry.size, subject):
        at, left = offset, length
        while left and (data := content.read(min(filesystem.CHUNK, left))):
            digest.add(at, data)
            at, left = at + len(data), left - len(data)
    return digest.hexdigest()


def _restored(repo: Repository, manifest: Manifest, pack: Pack, keys: age.Keys, parent: Path, log: Log) -> Check:
    """Restore what the backup has in that pack into a directory of its own, and compare it there."""
    name = f"restore of pack {pack.number}"
    try:
        with filesystem.explained("restore the files", parent):
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with filesystem.scratch("lifeboat-files-", parent) as scratch:
                wrong, files = list[str](), 0
                with listed(repo, manifest, keys) as lines:
                    for source, some in by_source(_rows(lines, pack)):
                        of_source, count = _compared(repo, pack, keys, some, scratch, source, log)
                        wrong, files = wrong + of_source, files + count
                    for _line in lines:
                        pass
    except LifeboatError as exc:
        return ended(name, exc)
    return compared(name, wrong, f"{files} files, {human(pack.bytes)}, restored and compared")


def _compared(
    repo: Repository, pack: Pack, keys: age.Keys, rows: Iterable[Row], scratch: Path, source: str, log: Log
) -> tuple[list[str], int]:
    """What differs of one source, and how many files there are."""
    where, lines = scratch / source, scratch / f".lines-{source}"
    for folder in (where, lines):
        folder.mkdir(mode=0o700)
    with Selection(lines) as selection:
        for row in rows:
            selection.add(row)
        filesystem.require_room(scratch, selection.bytes)
        with restore.Placer(str(where), source) as placer:
            wrong = restore.restore(repo, [pack], keys, selection, placer, log)
        for row in selection.every.rows():
            there = where / row.path.partition("/")[2]
            if row.entry.rest.database and (problem := contents.check_database(there)):
                wrong.append(f"{printable(row.path)}: SQLite finds it damaged: {problem}")
        unread = walk.Problems()
        for found in restore.compare(
            str(where), source, selection.every.rows(), unread, left_out=lambda path: False, scratch=lines
        ):
            if found.what != restore.ADDITIONAL:
                wrong.append(f"{printable(found.path)}: {found.what}")
    wrong += [f"{path}: {why}" for path, why in unread.first.items()]
    for folder in (where, lines):
        filesystem.remove(folder)
    return wrong, selection.every.count
