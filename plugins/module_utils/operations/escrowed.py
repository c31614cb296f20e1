# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on record of the escrow: when what is kept elsewhere last opened the vault. `lifeboat escrow` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Optional

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, Check, at_most
from ..base.errors import IntegrityError, LifeboatError, UsageError
from ..repository import copies, repositories
from ..repository.base import Repository
from ..settings.config import Config
from ..stack.runtime import Opened

SCHEMA: Literal["lifeboat.dr/escrow"] = "lifeboat.dr/escrow"


@dataclass(frozen=True)
class EscrowProof:
    """That the escrowed key opened a backup of the configuration. opened_by: the recipients that the key stands for."""

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


def store(config: Config) -> Repository:
    """What is left when the host is gone: the vault's copies, or the repository itself where that is a bucket."""
    found = copies.vault(Opened(config))
    if found is not None:
        return found
    if config.repository.get("type") == "s3":
        return repositories.from_settings(config.repository, config.secrets)
    raise UsageError(
        "prove the escrow", config.stack, "there is no vault: nothing survives the host",
        "Set lifeboat_vault.repository_bucket and deploy, or name the vault (--bucket, --endpoint-url).",
    )  # fmt: skip


def checks(config: Config, now: datetime) -> list[Check]:
    """When the escrow was last proved; nothing where no recipient is configured, as there is nothing to open then."""
    if not (config.config.enabled and config.config.recipients):
        return []
    name, ask = "escrow", "prove it: lifeboat escrow, with the key from where it is kept"
    try:
        raw = store(config).read_escrow(config.stack)
    except LifeboatError as exc:
        return [Check(name, COULD_NOT_VERIFY, exc.cause)]
    opened = _read(raw, config.stack)
    if opened is None:
        return [Check(name, COULD_NOT_VERIFY, f"nobody has shown that the escrowed key opens a backup; {ask}")]
    if sorted(opened.recipients) != sorted(config.config.recipients):
        return [Check(name, COULD_NOT_VERIFY, f"last proved for other recipients than are configured; {ask}")]
    days = (now - opened.at).total_seconds() / 86400
    limit = config.alarms.escrow_age_days
    words = f"the key opened {opened.point} {days:.1f} days ago{'' if days <= limit else f'; {ask}'}"
    return [at_most(name, days, limit, "days", words)]


def _read(raw: Optional[bytes], stack: str) -> Optional[EscrowProof]:
    """The record as `lifeboat escrow` writes it; anything else is none."""
    try:
        opened = typed.build(EscrowProof, typed.load(raw or b"{}", _wrong), _wrong, unknown="ignore")
    except IntegrityError:
        return None
    return opened if opened.version[:1] == (1,) and opened.stack == stack and opened.point else None


def _wrong(where: str, cause: str) -> LifeboatError:
    return IntegrityError("read the record of the escrow", where, cause)
