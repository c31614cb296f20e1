# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where records are kept on a host: written whole, never over another, read with suspicion, reviewed once."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Callable, Optional

from ..base import filesystem, pipeline, typed
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError, present
from ..base.filesystem import explained
from ..settings.config import Config
from ..tools import signature
from . import schema, signed
from .schema import Finding, Record, SignOff

ID = re.compile(r"[a-z][a-z_]{0,40}_\d{8}_\d{6}(_\d{1,4})?")
LARGEST = 8 << 20
LOG = ".log"
_REVIEW = "review the evidence"


@dataclass(frozen=True)
class StoredRecord:
    """One record as a host has it. `problem`: why it is no evidence. `signature`: what is known of that.

    body: its JSON as it was written, which the seal is of; record: what that says, None where no face can show it.
    """

    id: str
    body: Mapping[str, object]
    record: Optional[Record] = None
    problem: str = ""
    signature: str = signature.NONE
    sha256: str = ""

    @property
    def good(self) -> Optional[Record]:
        """The record where it is evidence."""
        return None if self.problem else self.record

    @property
    def order(self) -> tuple[float, str]:
        return (self.record.recorded_at.timestamp() if self.record else 0.0, self.id)


def folder(config: Config) -> Path:
    return config.state / "evidence"


def write(
    config: Config, record: Record, *, log: str = "", say: Callable[[str], None] = lambda message: None
) -> tuple[Path, Record]:
    """Keep the record, readable by root alone, whole or not at all. Returns where, and the record as it was kept: two
    records of one second get two names. The log that `logs` has the hash of goes next to it. The record of a drill is
    signed where the host has a key; what happened is kept also where it cannot be, and `say` says so.

    Each file is on the disk before it has its name, and the log before the record: without it the record is damaged.
    """
    kept, path = _signed(config, record, say), folder(config) / f"{record.id}.json"
    with explained("keep the evidence", path):
        _make(folder(config))
        number = 1
        while not _published(path, _bytes(schema.plain(kept)), log.encode("utf-8", "backslashreplace")):
            number += 1
            kept = _signed(config, schema.sealed(replace(record, id=f"{record.id}_{number}")), say)
            path = folder(config) / f"{kept.id}.json"
    signed.remember(config, kept)
    return path, kept


def _make(directory: Path) -> None:
    """The directory and those above it; each new one is on the disk before something is put into it."""
    lacking = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in reversed(lacking):
        filesystem.sync(place.parent)


def _signed(config: Config, record: Record, say: Callable[[str], None]) -> Record:
    if record.kind != schema.DRILL or not config.signing_key:
        return record
    earlier = (_read(folder(config) / f"{identity}.json").record for identity in ids(config))
    try:
        return signed.sign(
            record,
            config.signing_key,
            (drill for drill in earlier if drill and drill.kind == schema.DRILL),
            signed.remembered(config),
        )
    except LifeboatError as exc:
        say(f"NOT SIGNED: {exc}")
        return record


def _bytes(body: Mapping[str, object]) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _published(path: Path, data: bytes, log: bytes) -> bool:
    """Whether record and log are at `path` now; False where something was there already, which stays as it is: also a
    log without a record, which a run that was killed between the two has left."""
    if path.exists() or path.with_suffix(LOG).exists():
        return False
    try:
        if log:
            filesystem.write_new(path.with_suffix(LOG), log, _partial(path))
        filesystem.write_new(path, data, _partial(path))
    except FileExistsError:  # another run was faster
        return False
    return True


def _partial(path: Path) -> Path:
    """Of this run alone: another one that writes a record of the same second neither removes it nor links it."""
    return path.with_suffix(f".{secrets.token_hex(4)}.partial")


def sign(config: Config, path: Path, log: Callable[[str], None]) -> str:
    """Sign with the operator's key where one is named. A record that cannot be signed is kept, and that is said."""
    if not config.evidence.signing_key:
        return signature.NONE
    try:
        signature.make(path, config.evidence.signing_key)
    except LifeboatError as exc:
        log(f"NOT SIGNED: {exc}")
        return signature.NONE
    return signature.PRESENT


def load(config: Config, identity: str) -> StoredRecord:
    """One record by its id. Raises NotFoundError."""
    if not ID.fullmatch(identity):
        raise UsageError("read the evidence", repr(identity), "not the id of a record", "`lifeboat report` lists them.")
    path = folder(config) / f"{identity}.json"
    if not path.exists():
        raise NotFoundError("read the evidence", identity, "there is no such record", "`lifeboat report` lists them.")
    return _judged(config, _read(path))


def everything(config: Config, *, newest: int = 2000) -> list[StoredRecord]:
    """The host's records, oldest first. What cannot be read is in the list too, with its problem; so is the last drill
    that was signed here, where its record is gone."""
    named = ids(config)
    found = [_read(folder(config) / f"{identity}.json") for identity in named]
    judged = [_judged(config, kept) for kept in sorted(found, key=lambda stored: stored.order)[-newest:]]
    if not config.signers:
        return judged
    drills = (kept.good for kept in judged if kept.good and kept.good.kind == schema.DRILL)
    why = signed.contradicted(drills)
    last = signed.gone(config, named)
    lost = (
        [StoredRecord(last.id, {}, problem=f"it is gone: this host signed it with sequence {last.sequence}")]
        if last
        else []
    )
    return [*(replace(kept, problem=kept.problem or why.get(kept.id, "")) for kept in judged), *lost]


def _judged(config: Config, stored: StoredRecord) -> StoredRecord:
    """The record of a drill that no pinned signer signed is no evidence; it is kept."""
    record = stored.good
    return replace(stored, problem=signed.refused(config, record, stored.body)) if record else stored


def ids(config: Config) -> list[str]:
    """Of every record there is, read or not, by the time in its name."""
    with explained("read the evidence", folder(config)):
        if not folder(config).exists():
            return []
        found = [path.stem for path in folder(config).iterdir() if path.suffix == ".json" and ID.fullmatch(path.stem)]
    return sorted(found, key=lambda identity: (re.findall(r"\d{8}_\d{6}", identity)[0], identity))


def _read(path: Path) -> StoredRecord:
    try:
        with filesystem.open_below(path.parent, (path.name,)) as file:
            data = file.read(LARGEST + 1)
    except OSError as exc:
        return StoredRecord(path.stem, {}, problem=f"it cannot be read: {exc.strerror or exc}")
    digest = filesystem.sha256(data)
    if len(data) > LARGEST:
        return StoredRecord(path.stem, {}, problem=f"it has more than {LARGEST} bytes", sha256=digest)
    try:
        body = typed.load(data, lambda _, cause: IntegrityError("read the evidence", str(path), cause))
    except IntegrityError as exc:
        return StoredRecord(path.stem, {}, problem=exc.cause, sha256=digest)
    record, problem = schema.read(body, expected_id=path.stem)
    if record is None:
        return StoredRecord(path.stem, {}, problem=problem, sha256=digest)
    signed = signature.PRESENT if path.with_suffix(".json.sig").exists() else signature.NONE
    return StoredRecord(path.stem, body, record, problem or _log_problem(path, record), signed, digest)


def _log_problem(path: Path, record: Record) -> str:
    """The log beside a record is the one that the record was made with, or the record says more than is there."""
    for log in record.logs:
        try:
            data = filesystem.read_plain(path.with_suffix(LOG))
        except OSError as exc:
            return f"its log cannot be read: {exc.strerror or exc}"
        if filesystem.sha256(data) != log.sha256:
            return "its log is not the one that the record was made with"
    return ""


def review(
    config: Config, identity: str, *, finding: str = "", owner: str = "", due: str = "", by: str = "", note: str = "",
    now: datetime,
) -> StoredRecord:  # fmt: skip
    """Add a finding, or the sign-off, or both. What the machine saw is never changed. A record that was signed off is
    final; one with a signature is signed again, by the configured key, or not at all."""
    kept = load(config, identity)
    if kept.problem:
        raise IntegrityError(_REVIEW, identity, kept.problem, "Keep it for inquiry; it proves nothing.")
    record = present(kept.record)
    signed = record.sign_off
    if signed:
        cause = f"it was signed off by {signed.by} at {format_time(signed.at)}, and that is final"
        raise UsageError(_REVIEW, identity, cause, "Write the finding into a later record.")
    if kept.signature != signature.NONE and not config.evidence.signing_key:
        remedy = "Name the key: lifeboat_evidence.signing_key."
        raise UsageError(_REVIEW, identity, "its signature would no longer match", remedy)
    if not (finding or by):
        raise UsageError(_REVIEW, identity, "nothing to add", "Give --finding with --owner and --due, or --sign-off")
    finding, note = (pipeline.scrub(words, config.secrets) for words in (finding, note))
    if finding:
        record = replace(record, findings=(*record.findings, _finding(identity, finding, owner, due)))
    if by:
        record = replace(record, sign_off=SignOff(by, now, note))
    # The rest stays as it was written: the seal is of that.
    added = {"findings": typed.plain(record.findings), "sign_off": typed.plain(record.sign_off)}
    path = folder(config) / f"{identity}.json"
    with explained("keep the evidence", path):
        filesystem.write(path, _bytes({**kept.body, **added}), _partial(path))
    if kept.signature != signature.NONE:
        signature.make(path, config.evidence.signing_key)
    return load(config, identity)


def _finding(identity: str, finding: str, owner: str, due: str) -> Finding:
    """A finding that is nobody's, or of no day, is a wish."""
    if not owner or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", due):
        cause = "a finding needs an owner and a due date"
        raise UsageError(_REVIEW, identity, cause, "Add --owner NAME --due YYYY-MM-DD.")
    try:
        date.fromisoformat(due)
    except ValueError as exc:
        raise UsageError(_REVIEW, identity, f"{due} is no date", "Write it like 2026-12-31.") from exc
    return Finding(finding, owner, due)
