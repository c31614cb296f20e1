# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the vault keeps of the escrow's last proof, where that is, and what `lifeboat status` says of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ..base import clock, typed
from ..base.checks import COULD_NOT_VERIFY, Check, at_most
from ..base.errors import LifeboatError, UsageError
from ..repository import copies, points, repositories
from ..repository.base import Repository, dated
from ..settings.parts import S3Settings
from ..stack.runtime import Opened

SCHEMA: Literal["lifeboat.dr/escrow"] = "lifeboat.dr/escrow"
SIGN = "Sign it: lifeboat escrow --signing-key FILE, a key that lifeboat_signers names with documents: [escrow]"


@dataclass(frozen=True)
class EscrowProof:
    """That the escrowed key opened a backup of the configuration. opened_by: the recipients that the key stands for.
    id: the point's again, as documents that are signed have it; earlier records lack it."""

    schema: Literal["lifeboat.dr/escrow"]
    version: tuple[int, ...]
    stack: str
    point: str
    recipients: tuple[str, ...]
    at: datetime
    backup: str = ""
    seal: str = ""
    opened_by: tuple[str, ...] = ()
    tool: str = ""
    id: str = ""


def store(run: Opened) -> Repository:
    """What is left when the host is gone: the vault's copies, or the repository itself where that is a bucket."""
    found = copies.vault(run)
    if found is not None:
        return found
    if isinstance(run.config.repository, S3Settings):
        return repositories.repository_of(run)
    remedy = "Set lifeboat_vault.repository_bucket and deploy, or name the vault (--bucket, --endpoint-url)."
    raise UsageError("prove the escrow", run.config.stack, "there is no vault: nothing survives the host", remedy)


def checks(run: Opened, now: datetime) -> list[Check]:
    """When the escrow was last proved; nothing where no recipient is configured, as there is nothing to open then."""
    config = run.config
    if not (config.config.enabled and config.config.recipients):
        return []
    name, ask = "escrow", "prove it: lifeboat escrow, with the key from where it is kept"
    try:
        vault = store(run)
        raw = vault.read_escrow(config.stack)
    except LifeboatError as exc:
        return [Check(name, COULD_NOT_VERIFY, exc.cause)]
    opened = typed.maybe(EscrowProof, raw)
    if opened is None or opened.version[:1] != (1,) or opened.stack != config.stack or not points.is_id(opened.point):
        return [Check(name, COULD_NOT_VERIFY, f"it was never shown that the escrowed key opens a backup; {ask}")]
    refused = vault.trust.refused_escrow(opened.point, raw or b"") if vault.trust else ""
    if refused:
        return [Check(name, COULD_NOT_VERIFY, f"the record that the key opened {opened.point} is {refused}. {SIGN}")]
    if sorted(opened.recipients) != sorted(config.config.recipients):
        return [Check(name, COULD_NOT_VERIFY, f"last proved for other recipients than are configured; {ask}")]
    early = clock.ahead(max(opened.at, dated(opened.point)))
    if early:
        return [Check(name, COULD_NOT_VERIFY, f"when the key last opened {opened.point} is not known: {early}; {ask}")]
    days = (now - opened.at).total_seconds() / 86400
    limit = config.alarms.escrow_age_days
    words = f"the key opened {opened.point} {days:.1f} days ago{'' if days <= limit else f'; {ask}'}"
    return [at_most(name, days, limit, "days", words)]
