# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What reviewers add to a record when they have read it: findings with an owner and a date, and their sign-off."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime

from ..base import typed
from ..base.clock import format_time
from ..base.errors import IntegrityError, UsageError, present
from ..settings.config import Config
from ..tools import signature
from . import store
from .schema import Finding, SignOff
from .store import Kept

_ATTEMPTED = "review the evidence"


def review(
    config: Config, identity: str, *, finding: str = "", owner: str = "", due: str = "", by: str = "", note: str = "",
    now: datetime,
) -> Kept:  # fmt: skip
    """Add a finding, or the sign-off, or both. What the machine saw is never changed. A record that was signed off is
    final; one with a signature is signed again, by the configured key, or not at all."""
    kept = store.load(config, identity)
    if kept.problem:
        raise IntegrityError(_ATTEMPTED, identity, kept.problem, "Keep it for inquiry; it proves nothing.")
    record = present(kept.record)
    signed = record.sign_off
    if signed:
        cause = f"it was signed off by {signed.by} at {format_time(signed.at)}, and that is final"
        raise UsageError(_ATTEMPTED, identity, cause, "Write the finding into a later record.")
    if kept.signature != signature.NONE and not config.evidence.signing_key:
        remedy = "Name the key: lifeboat_evidence.signing_key."
        raise UsageError(_ATTEMPTED, identity, "its signature would no longer match", remedy)
    if not (finding or by):
        raise UsageError(_ATTEMPTED, identity, "nothing to add", "Give --finding with --owner and --due, or --sign-off")
    if finding:
        record = replace(record, findings=(*record.findings, _finding(identity, finding, owner, due)))
    if by:
        record = replace(record, sign_off=SignOff(by, now, note))
    # The rest stays as it was written: the seal is of that.
    added = {"findings": typed.plain(record.findings), "sign_off": typed.plain(record.sign_off)}
    path = store.replace(config, identity, {**kept.body, **added})
    if kept.signature != signature.NONE:
        signature.make(path, config.evidence.signing_key)
    return store.load(config, identity)


def _finding(identity: str, finding: str, owner: str, due: str) -> Finding:
    """A finding that is nobody's, or of no day, is a wish."""
    if not owner or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", due):
        cause = "a finding needs an owner and a due date"
        raise UsageError(_ATTEMPTED, identity, cause, "Add --owner NAME --due YYYY-MM-DD.")
    try:
        date.fromisoformat(due)
    except ValueError as exc:
        raise UsageError(_ATTEMPTED, identity, f"{due} is no date", "Write it like 2026-12-31.") from exc
    return Finding(finding, owner, due)
