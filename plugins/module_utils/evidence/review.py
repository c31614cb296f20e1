# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people add to a record when they have read it: findings with an owner and a date, and their sign-off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from ..base.clock import format_time
from ..base.errors import IntegrityError, UsageError
from ..settings.config import Config
from ..tools import signature
from . import store
from .store import Kept

_ATTEMPTED = "review the evidence"


def review(
    config: Config,
    identity: str,
    *,
    finding: str = "",
    owner: str = "",
    due: str = "",
    by: str = "",
    note: str = "",
    now: datetime,
) -> Kept:
    """Add a finding, or the sign-off, or both. What the machine saw is never changed.

    A record that was signed off is final; one with a signature is signed anew, by the configured key, or not at all.
    """
    kept = store.load(config, identity)
    if kept.problem:
        raise IntegrityError(_ATTEMPTED, identity, kept.problem, "Keep it for inquiry; it proves nothing.")
    record = dict(kept.record)
    if record.get("sign_off"):
        cause = f"it was signed off by {record['sign_off']['by']} at {record['sign_off']['at']}, and that is final"
        raise UsageError(_ATTEMPTED, identity, cause, "Write the finding into a later record.")
    if kept.signature != signature.NONE and not config.evidence.signing_key:
        raise UsageError(
            _ATTEMPTED, identity, "its signature would no longer match", "Name the key: lifeboat_evidence.signing_key."
        )
    if not (finding or by):
        raise UsageError(_ATTEMPTED, identity, "nothing to add", "Give --finding with --owner and --due, or --sign-off")
    if finding:
        record["findings"] = [*record.get("findings", []), _finding(identity, finding, owner, due)]
    if by:
        record["sign_off"] = {"by": by, "at": format_time(now), "note": note}
    path = store.replace(config, record)
    if kept.signature != signature.NONE:
        signature.make(path, config.evidence.signing_key)
    return store.load(config, identity)


def _finding(identity: str, finding: str, owner: str, due: str) -> Mapping[str, Any]:
    """A finding that is nobody's, or of no day, is a wish."""
    if not owner or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", due):
        raise UsageError(
            _ATTEMPTED, identity, "a finding needs an owner and a due date", "Add --owner NAME --due YYYY-MM-DD."
        )
    try:
        date.fromisoformat(due)
    except ValueError as exc:
        raise UsageError(_ATTEMPTED, identity, f"{due} is no date", "Write it like 2026-12-31.") from exc
    return {"what": finding, "owner": owner, "due": due}
