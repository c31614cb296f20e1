# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A record as data with types, and whether something that was read is one. docs/schema/evidence-1.json is made of it.

Records come from an older version, from somebody who edited one, or from somebody who made one up: a report that a
broken record can stop, or worse, can colour, is no report. What a reader need not insist on is only published: a later
minor version may add a scenario.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, ClassVar, Literal, Optional, get_args

from ..base import typed
from ..base.checks import Check as Checked
from ..base.checks import Verdict
from ..base.errors import IntegrityError, LifeboatError
from ..base.text import PassedOver, Untested
from ..base.typed import Says
from ..repository import sealing
from ..settings.scenarios import SCENARIOS

VERSION = (1, 4)
KINDS = (RECOVERY, VERIFICATION, DRILL) = ("recovery", "verification", "drill")
# Added when the machine is done; the seal covers everything else.
BY_PEOPLE = ("findings", "sign_off")
# What is worth keeping of a phase; anything else that a module returned stays out of the record.
KEPT = (
    "quarantine", "quarantined_database", "quarantine_bucket", "way_back", "stopped", "reindexed", "mode", "seconds_of",
    "copied", "settings", "reconciled", "tried", "logs", "notes", "commit", "recovery_point",
    "databases",
)  # fmt: skip

_WRONG = functools.partial(IntegrityError, "read the evidence")
_VERSION = {
    "prefixItems": [{"const": 1}, {"type": "integer", "minimum": 0}], "minItems": 2, "maxItems": 2, "items": False,
}  # fmt: skip
_ID = {"pattern": r"^[a-z][a-z_]*_\d{8}_\d{6}(_\d{1,4})?$"}
_SEALED = "SHA-256 of the canonical JSON (sorted keys, no blanks, ASCII) of everything but seal, findings and sign_off."
_SHA256 = {"pattern": "^[0-9a-f]{64}$"}
_NOT_NEGATIVE = {"minimum": 0}
_SOMETHING = {"minLength": 1}

Count = Annotated[int, Says("", _NOT_NEGATIVE)]
Seconds = Annotated[float, Says("", _NOT_NEGATIVE)]
Unknown = Annotated[Optional[float], Says("", _NOT_NEGATIVE)]


@dataclass(frozen=True)
class Versions:
    lifeboat: str
    images: Annotated[Mapping[str, str], Says("Service: its image, with its digest where a registry knows one.")]
    python: Annotated[str, Says("Of the host.")] = ""
    ansible: Annotated[str, Says("Of the controller.")] = ""
    postgresql: Annotated[str, Says("Of the server that the backup is of.")] = ""
    SPARSE: ClassVar[tuple[str, ...]] = ("python", "ansible", "postgresql")
    SAYS: ClassVar[Mapping[str, object]] = {"additionalProperties": {"type": "string"}}


@dataclass(frozen=True)
class Assessment:
    condition: Annotated[str, Says("healthy, damaged, down; empty in a verification.")]
    findings: Annotated[tuple[str, ...], Says("What was wrong.")]
    unchecked: Annotated[tuple[str, ...], Says("What could not be looked at.")]


@dataclass(frozen=True)
class Backup:
    id: str
    taken_at: Annotated[datetime, Says("The instant its data is of.")]
    age_seconds: Optional[int]
    size: Annotated[Optional[int], Says("Bytes.")]


@dataclass(frozen=True)
class Chosen:
    how: str
    recovery_point: Annotated[str, Says("Its id, where one was named.")]
    location: Annotated[str, Says("Where it was read from.")]


@dataclass(frozen=True)
class Database:
    name: str
    action: Annotated[str, Says("restored, copied, failed, quarantined or untouched.")]
    why: str = ""
    retained_as: Annotated[str, Says("The name under which the old one is kept.")] = field(
        default="", metadata={"json": "kept"}
    )
    SPARSE: ClassVar[tuple[str, ...]] = ("why", "retained_as")


@dataclass(frozen=True)
class Phase:
    name: str
    started_at: datetime
    finished_at: datetime
    seconds: Annotated[Seconds, Says("By the monotonic clock where known, else by the wall's.")]
    monotonic_seconds: Annotated[Unknown, Says("Since 1.1.")] = None
    bytes: Annotated[Optional[int], Says("Since 1.1. What the phase moved.", _NOT_NEGATIVE)] = None
    mb_per_second: Annotated[Unknown, Says("Since 1.1. 1 MB is 1,000,000 bytes.")] = None
    production_seconds: Annotated[Unknown, Says("Since 1.1. In proportion to the production size.")] = None
    quarantine: Annotated[str, Says("Where the old data directory is kept.")] = ""
    quarantined_database: Annotated[str, Says("The old database's name.")] = ""
    quarantine_bucket: Annotated[str, Says("Where replaced objects are kept.")] = ""
    way_back: Annotated[tuple[str, ...], Says("Commands back to the old data.")] = ()
    stopped: Annotated[tuple[str, ...], Says("Services that were stopped.")] = ()
    reindexed: tuple[str, ...] = ()
    mode: Annotated[str, Says("Which way was taken.")] = ""
    seconds_of: Annotated[Mapping[str, Seconds], Says("The phase's own steps.")] = field(default_factory=dict)
    copied: Annotated[Mapping[str, object], Says("What was copied back.")] = field(default_factory=dict)
    settings: Annotated[tuple[str, ...], Says("The bucket's settings that were set as they were.")] = ()
    reconciled: Annotated[Mapping[str, object], Says("Rows against objects.")] = field(default_factory=dict)
    tried: Annotated[tuple[object, ...], Says("Steps of a ladder, with what came of each.")] = ()
    logs: Annotated[object, Says("Last words: by service, or of what failed.", {"type": ["object", "array"]})] = ()
    notes: tuple[object, ...] = ()
    commit: Annotated[str, Says("What is served now.")] = ""
    recovery_point: str = ""
    databases: Annotated[tuple[Database, ...], Says("Since 1.3. What became of each database of the server.")] = ()
    SPARSE: ClassVar[tuple[str, ...]] = KEPT

    @property
    def quarantined_databases(self) -> tuple[str, ...]:
        """The names under which old databases are kept."""
        found = (self.quarantined_database, *(database.retained_as for database in self.databases))
        return tuple(dict.fromkeys(filter(None, found)))


@dataclass(frozen=True)
class Rto:
    seconds: Seconds
    target_seconds: Seconds
    counted: Annotated[str, Says("From what to what.")]


@dataclass(frozen=True)
class Rpo:
    seconds: Annotated[Unknown, Says("null: not known, or nothing was restored.")]
    target_seconds: Unknown
    how: str


@dataclass(frozen=True)
class Production:
    bytes: Annotated[int, Says("", {"minimum": 1})]
    seconds: Seconds
    how: str


@dataclass(frozen=True)
class Check(Checked):
    """A check as a record holds it: always with its detail. Any word may be its result, and only PASS is a pass."""

    result: Annotated[str, Says("PASS, FAIL or COULD_NOT_VERIFY; any other word is no pass.")]
    detail: Annotated[str, Says("What was expected and found.")] = field()
    measured: Annotated[Optional[float], Says("Since 1.2. The figure that decided, where one did.")] = None
    limit: Annotated[Optional[float], Says("Since 1.2. The most that it may be.")] = None
    unit: Annotated[str, Says("Since 1.2. Of both.")] = ""


@dataclass(frozen=True)
class Verified:
    id: str
    verdict: Annotated[str, Says("", {"enum": list(get_args(Verdict))})]
    taken_at: str
    size: Count


@dataclass(frozen=True)
class Verification:
    id: str
    level: Annotated[str, Says("", {"enum": ["checksum", "archive", "restore"]})]
    backups: tuple[Verified, ...] = field()


@dataclass(frozen=True)
class Ledger:
    acknowledged: Count
    present: Count
    lost: Count
    unexpected: Count


@dataclass(frozen=True)
class Drill:
    fault: str
    proof: Annotated[str, Says("How one saw that it took.")]
    seed: Annotated[str, Says("Of a fault chosen at random.")]
    steady_state: Annotated[str, Says("What held before the fault.")]
    injected_at: Optional[datetime]
    transaction_at: Annotated[Optional[datetime], Says("Of the first business transaction that was verified.")]
    ledger: Annotated[Optional[Ledger], Says("The writer's ledger.")]
    evidence: Annotated[tuple[str, ...], Says("Ids of the recoveries' own records.")]


@dataclass(frozen=True)
class Finding:
    what: Annotated[str, Says("", _SOMETHING)]
    owner: Annotated[str, Says("", _SOMETHING)]
    due: Annotated[str, Says("YYYY-MM-DD", {"format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"})]


@dataclass(frozen=True)
class SignOff:
    by: Annotated[str, Says("", _SOMETHING)]
    at: datetime
    note: str


@dataclass(frozen=True)
class Log:
    name: str
    bytes: Count
    sha256: Annotated[str, Says("", _SHA256)]


@dataclass(frozen=True)
class Signature:
    """Since 1.4. Of the record of a drill."""

    sequence: Annotated[int, Says("Among the drills that this key signed; 1 is the first.", _NOT_NEGATIVE)]
    previous: Annotated[str, Says("The seal of the one before; empty for the first.")]
    value: Annotated[str, Says("By ssh-keygen -Y, in base64.")] = ""


@dataclass(frozen=True)
class Record:
    """What a recovery, a verification or a drill leaves. A field with a default is there since version 1.1."""

    SPARSE: ClassVar[tuple[str, ...]] = ("accepted", "signature")

    schema: Literal["lifeboat.dr/evidence"]
    version: Annotated[tuple[int, ...], Says("[major, minor]", _VERSION)]
    id: Annotated[str, Says("Scenario and time of the record, UTC; the file's name.", _ID)]
    scenario: Annotated[str, Says("", {"enum": [*SCENARIOS, VERIFICATION]})]
    stack: Annotated[str, Says("The stack's name.")]
    host: Annotated[str, Says("The host's own name.")]
    operator: Annotated[str, Says("Who gave the command; empty where unknown.")]
    reason: Annotated[str, Says("Why, in the operator's words.")]
    tool: Annotated[str, Says("Lifeboat's version.")]
    recorded_at: datetime
    verdict: Annotated[
        Verdict,
        Says("PASS: every check was made and passed. FAIL: something is wrong, or took longer than its target. "
             "COULD_NOT_VERIFY: something could not be checked. ABORTED: stopped before anything was changed."),
    ]  # fmt: skip
    error: Annotated[str, Says("What stopped it; empty when nothing did.")]
    assessment: Annotated[Assessment, Says("The assessment.")] = field(metadata={"json": "found"})
    backup: Annotated[Optional[Backup], Says("The backup that was used.")]
    passed_over: Annotated[tuple[PassedOver, ...], Says("Newer backups that could not be used.")]
    phases: Annotated[tuple[Phase, ...], Says("In order.")]
    seconds: Annotated[Seconds, Says("The whole.")]
    target_seconds: Annotated[Seconds, Says("What is allowed; 0 where there is no target.")]
    checks: Annotated[tuple[Check, ...], Says("Everything that was looked at.")]
    accepted: Annotated[tuple[str, ...], Says("Since 1.3. Why the backup failed that was named and accepted.")] = ()
    kind: Annotated[str, Says("A record without it is of a recovery.", {"enum": list(KINDS)})] = RECOVERY
    versions: Annotated[Versions, Says("What ran, where known.")] = Versions("", {})
    commit: Annotated[str, Says("Of the playbooks or the application; empty where unknown.")] = ""
    started_at: Annotated[Optional[datetime], Says("Of the first phase.")] = None
    finished_at: Annotated[Optional[datetime], Says("Of the last phase.")] = None
    chosen: Annotated[Optional[Chosen], Says("How it was chosen.")] = None
    clock: Annotated[str, Says("Which clock `seconds` is of.", {"enum": ["monotonic", "wall"]})] = ""
    rto: Annotated[Optional[Rto], Says("The recovery time against its objective.")] = None
    rpo: Annotated[Optional[Rpo], Says("How much time of writing was lost, at most.")] = None
    production: Annotated[Optional[Production], Says("The time at production size: an estimate.")] = None
    untested: Annotated[tuple[Untested, ...], Says("What is not proved, and why.")] = ()
    verification: Annotated[Optional[Verification], Says("What was verified.")] = None
    drill: Annotated[Optional[Drill], Says("What only a drill knows.")] = None
    findings: Annotated[
        tuple[Finding, ...], Says("What is to be improved; people add these (`lifeboat review`).")
    ] = ()  # fmt: skip
    sign_off: Annotated[Optional[SignOff], Says("Who read and accepted the record.")] = None
    logs: Annotated[tuple[Log, ...], Says("What lies beside the record, under its id.")] = ()
    signature: Annotated[
        Optional[Signature], Says("Since 1.4. Of a drill, by lifeboat_signing_key, as lifeboat-drill@lifeboat.dr.")
    ] = None  # fmt: skip
    seal: Annotated[str, Says(_SEALED, _SHA256)] = ""


def plain(record: Record) -> dict[str, object]:
    """The record as it is written and returned."""
    return dict(typed.plain(record, nulls=True))


def seal(body: Mapping[str, object]) -> str:
    """SHA-256 over all that the machine saw: what reviewers add later does not break it, an edit does."""
    return sealing.seal({key: value for key, value in body.items() if key not in BY_PEOPLE})


def sealed(record: Record) -> Record:
    """The record with the seal of what is in it now."""
    return replace(record, seal=seal(plain(record)))


def read(body: object, *, expected_id: str = "") -> tuple[Optional[Record], str]:
    """The record, None where no face could show it; and why it is not evidence, empty where it is. The seal is of the
    JSON as it was written, whatever this version knows of it."""
    if not isinstance(body, Mapping):
        return None, "it is not a JSON object"
    version, major = body.get("version"), VERSION[0]
    if not isinstance(version, list) or len(version) != 2 or version[0] != major:
        return None, f"its version is {version!r}; this Lifeboat reads version {major}"
    try:
        typed.refuse_deep(body, _WRONG)
        record = typed.build(Record, body, _WRONG, unknown="ignore")
    except LifeboatError as exc:
        return None, f"{exc.subject}: {exc.cause}" if exc.subject else exc.cause
    if expected_id and record.id != expected_id:
        return record, f"it is the record {record.id}, under another's name"
    if record.version[1] >= 1 and record.seal != seal(body):
        return record, "it was edited: its seal does not match its content"
    return record, ""
