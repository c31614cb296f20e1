# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep the object store's identities with a mirror: users, groups, policies, access keys and quotas.

They never stop a mirror: objects that are not copied cost more. What could not be had is told in the manifest.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Optional

from ..base.errors import IntegrityError, LifeboatError, Log
from ..recovery import state as recovery_state
from ..repository.details import HeldIdentities
from ..s3 import identities
from ..settings.config import ELSEWHERE
from ..stack import identities as stack_identities
from ..stack.identities import Snapshot
from ..stack.runtime import Opened


def take(run: Opened, backup: str, *, override: bool, log: Log) -> Optional[HeldIdentities]:
    """Export the identities to the copy that this host keeps; None where nobody said how they are kept.

    backup: the objects backup that they are taken with. override: that half of them are gone is right.
    """
    api = run.config.objects.admin.api
    if not api or api == ELSEWHERE:
        return HeldIdentities(api) if api else None
    try:
        store = stack_identities.store_of(run)
        if store is None:
            return None
        kept = replace(store.export(), backup=backup)
        held = _summary(kept)
        if not override:
            _guard(run, kept)
        stack_identities.keep(run.config, kept)
        recovery_state.unmark(run.config, recovery_state.GIVING_IDENTITIES)
    except LifeboatError as exc:
        log(f"WARNING: the identities of the object store are not in this backup: {exc}")
        return HeldIdentities(api, problem=exc.cause)
    log(f"{backup}: kept the identities of the object store: {kept}")
    return held


def _summary(snapshot: Snapshot) -> HeldIdentities:
    form = snapshot.form
    numbers = asdict(identities.counts(form))
    return HeldIdentities(
        snapshot.api, identities.digest(form), **numbers, quotas=len(snapshot.quotas), uses=snapshot.uses
    )


def _guard(run: Opened, snapshot: Snapshot) -> None:
    """A store that has lost its identities must not replace the copy of them."""
    try:
        before = stack_identities.newest(run.config)
    except IntegrityError:
        return  # there is nothing to be lost
    if before is None or before.api != snapshot.api:
        return
    had = [name for name in before.form if not name.startswith(f"{identities.POLICY} ")]
    gone = [name for name in had if name not in snapshot.form]
    own = run.config.secrets.get("objects_access_key", "")
    unknown = identities.knows(before.form, own) and not identities.knows(snapshot.form, own)
    if unknown or 2 * len(gone) > len(had):
        cause = f"{len(gone)} of {len(had)} users, groups and access keys are gone since {before.backup}"
        cause += ", the application's own key among them" if unknown else ""
        raise IntegrityError(
            "keep the identities", run.config.stack, cause,
            "The copy of before is kept. If that is right: lifeboat backup objects --override.",
        )  # fmt: skip
