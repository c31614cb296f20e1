# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks a verification makes, and the verdict that follows from them. What was not checked never passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Optional

from .errors import IntegrityError, LifeboatError, NotFoundError, UnverifiedError, of_machine

PASS: Final = "PASS"
FAIL: Final = "FAIL"
COULD_NOT_VERIFY: Final = "COULD_NOT_VERIFY"
ABORTED: Final = "ABORTED"
Verdict = Literal["PASS", "FAIL", "COULD_NOT_VERIFY", "ABORTED"]
CODES: Final = {PASS: 0, COULD_NOT_VERIFY: UnverifiedError.exit_code, FAIL: IntegrityError.exit_code}
SHOWN = 8
# Kinds of checks by which other files find them; any other check is of the kind of its name.
NEWEST, PROOF, BUCKET, CHECKSUMS = "newest", "proof", "bucket", "checksums"
# Not written where it says no more than the name, and in no record of evidence or of a verification.
_BESIDES = {"recorded": False}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its result and, in a few words, what was expected and found.

    measured and limit: the figure that decided, and the most that it may be, both in `unit`; None where none did.
    name: what people read. Programs read kind (what was checked) and subject (which database, bucket or component).
    """

    name: str
    result: str
    detail: str = ""
    measured: Optional[float] = None
    limit: Optional[float] = None
    unit: str = ""
    kind: str = field(default="", compare=False, metadata=_BESIDES)
    subject: str = field(default="", compare=False, metadata=_BESIDES)

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.name)

    def as_dict(self) -> dict[str, object]:
        """Without the fields that say nothing, but for the detail, which every reader may count on."""
        found = {**dataclasses.asdict(self), "kind": self.kind if self.kind != self.name else ""}
        return {key: value for key, value in found.items() if key == "detail" or value not in (None, "")}

    @property
    def plain(self) -> Check:
        """As it is kept on record, without what only the run that made it needs."""
        return Check(self.name, self.result, self.detail, self.measured, self.limit, self.unit)

    @property
    def most(self) -> str:
        """The limit in words, empty where there is none: 26 h."""
        return "" if self.limit is None else f"{self.limit:g} {self.unit}"

    @property
    def words(self) -> str:
        """The detail and the limit, as text."""
        return f"{self.detail}, limit {self.most}" if self.most else self.detail


@dataclass(frozen=True)
class PartCheck(Check):
    """A check of one part of a backup, which recovers without the others. part: the name of the database."""

    part: str = ""


def kind_of(name: str) -> str:
    """The kind of a check that was written without one, as earlier versions did."""
    if name.startswith("newest "):
        return NEWEST
    if name.startswith(PROOF) or name.endswith(PROOF):
        return PROOF
    return name.partition(" of ")[0]


def by_kind(check: Check) -> Check:
    """Return a check that came without a kind, as those on record do, with that of its name."""
    return check if check.kind != check.name else replace(check, kind=kind_of(check.name))


def at_most(name: str, measured: float, limit: float, unit: str, detail: str) -> Check:
    """A check of a figure that passes up to its limit."""
    return Check(name, PASS if measured <= limit else FAIL, detail, round(measured, 3), limit, unit)


def verdict(checks: Iterable[Check]) -> Verdict:
    """FAIL beats COULD_NOT_VERIFY beats PASS; no check at all proves nothing."""
    results = {check.result for check in checks}
    if FAIL in results:
        return FAIL
    return PASS if results == {PASS} else COULD_NOT_VERIFY


def accepted(reasons: Sequence[str]) -> Check:
    """Of a backup that was used although it failed: what the restore compares is not all that a verification does."""
    return Check("backup accepted", COULD_NOT_VERIFY, f"ACCEPTED although it failed: {'; '.join(reasons)}")


def ended(name: str, exc: LifeboatError) -> Check:
    """The check that an error ended. FAIL is a difference that was seen: data that is missing, that is not what it
    should be, or that PostgreSQL refused. Of anything else nothing is known."""
    seen = isinstance(exc, (IntegrityError, NotFoundError)) or (exc.sqlstate and not of_machine(exc.sqlstate))
    return Check(name, FAIL, exc.cause) if seen else Check(name, COULD_NOT_VERIFY, str(exc))


def compared(name: str, differences: Sequence[str], same: str) -> Check:
    """A check that passes when there is no difference; names the first few, counts the rest."""
    if not differences:
        return Check(name, PASS, same)
    shown = "; ".join(differences[:SHOWN])
    rest = len(differences) - SHOWN
    return Check(name, FAIL, shown + (f"; and {rest} more" if rest > 0 else ""))
