# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a store that lost its identities those that this host keeps, before anything needs them, and compare.

A store that has any of them keeps what it has: a key that is gone since the backup was most likely revoked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.errors import LifeboatError, Log, NotFoundError
from ..base.text import named
from ..recovery import state as recovery_state
from ..repository.details import IDENTITIES, UNKEPT, USES, WHAT_THEY_ARE
from ..s3 import identities
from ..s3.identities import Form
from ..settings.config import ELSEWHERE
from ..stack import identities as stack_identities
from ..stack.identities import Snapshot, Store
from ..stack.runtime import Opened

SHOWN = 5


@dataclass(frozen=True)
class _Quota:
    quota: int = 0
    quotatype: str = ""


@dataclass(frozen=True)
class Brought:
    """What bring() found and did. imported: the store had lost them, and has been given them. error: why nothing can
    be said."""

    store: Optional[Store] = None
    snapshot: Optional[Snapshot] = None
    imported: bool = False
    error: Optional[LifeboatError] = field(default=None, compare=False)


def bring(run: Opened, *, log: Log) -> Brought:
    """Give the store its identities where it has none of those that are kept, or a run that did so was ended.

    Raises nothing: see checks().
    """
    config, giving = run.config, recovery_state.GIVING_IDENTITIES
    try:
        store, kept = stack_identities.store_of(run), stack_identities.newest(run.config)
        if store is None or kept is None:
            return Brought(store, kept)
        if not (config.state / giving).exists() and not lost(kept.form, _now(store)):
            return Brought(store, kept)
        recovery_state.mark(config, giving)
        log(f"giving the object store its identities of {kept.backup}: {kept}")
        store.put(kept, log)
    except LifeboatError as exc:
        log(f"the identities of the object store: {exc}")
        return Brought(error=exc)
    return Brought(store, kept, imported=True)


def checks(run: Opened, brought: Brought, *, fresh: bool, created: bool, log: Log) -> list[Check]:
    """Whether the store's identities are those that are kept, read once more.

    fresh: the store is a new, empty one. created: the bucket was, and has no quota yet.
    """
    store, kept = brought.store, brought.snapshot
    if brought.error:
        return [
            Check(IDENTITIES, COULD_NOT_VERIFY, f"not compared: {brought.error.cause}. {brought.error.remedy}".strip())
        ]
    if store is None or kept is None:
        if not fresh or run.config.objects.admin.api == ELSEWHERE:
            return []
        words = UNKEPT if store is None else f"no backup of the {WHAT_THEY_ARE} was taken before this recovery"
        return [Check(IDENTITIES, COULD_NOT_VERIFY, words)]
    given = brought.imported or fresh
    try:
        if given or created:
            store.put_quotas(kept, log)
        found = store.export()
        recovery_state.unmark(run.config, recovery_state.GIVING_IDENTITIES)
    except LifeboatError as exc:
        return [Check(IDENTITIES, COULD_NOT_VERIFY, f"not compared: {exc.cause}. {exc.remedy}".strip())]
    return [_judged(kept, found, store.exceptions(kept) if given else {}, imported=given)]


def _judged(expected: Snapshot, actual: Snapshot, left_out: Mapping[str, str], *, imported: bool) -> Check:
    left = {name: why for name, why in left_out.items() if actual.form.get(name) != expected.form[name]}
    differ = identities.differences(
        {name: told for name, told in expected.form.items() if name not in left}, actual.form
    )
    quotas = actual.buckets & expected.quotas.keys()  # what is told of a bucket that is gone is told of the bucket
    differ += [
        f"the quota of {named(name)} is not as it was" for name in sorted(quotas) if not _same(name, expected, actual)
    ]
    if differ and imported:
        return Check(IDENTITIES, FAIL, _shortened(differ))
    if differ:
        words = f"the store kept its own, which differ from those of {expected.backup}: {_shortened(differ)}"
        return Check(IDENTITIES, COULD_NOT_VERIFY, words)
    if imported and expected.uses:
        left[USES] = ", ".join(expected.uses)
    if left:
        words = _shortened([f"the {named(name)}: {why}" for name, why in sorted(left.items())])
        return Check(IDENTITIES, COULD_NOT_VERIFY, f"{expected}, as with {expected.backup}; not given back: {words}")
    added = identities.added(expected.form, actual.form)
    more = f"; the store has others too: {_shortened(added)}" if added else ""
    return Check(IDENTITIES, PASS, f"{expected}, as with {expected.backup}{more}")


def _same(bucket: str, expected: Snapshot, actual: Snapshot) -> bool:
    wanted, have = (typed.maybe(_Quota, members.quotas.get(bucket)) for members in (expected, actual))
    return wanted == have


def warnings(run: Opened) -> list[str]:
    """What a fresh server will not have, for an operator to know before agreeing to one."""
    api = run.config.objects.admin.api
    if not api:
        return [UNKEPT]
    if api == ELSEWHERE:
        return [f"the {WHAT_THEY_ARE} are kept elsewhere (lifeboat_objects.admin): give them to a fresh store by hand"]
    left_out: Mapping[str, str] = {}
    try:
        kept = stack_identities.newest(run.config)
        if kept is None:
            return [f"this host has no copy of the {WHAT_THEY_ARE} of the object store: a fresh one has none of them"]
        with contextlib.suppress(NotFoundError):  # it is down, so that nothing is known of its address
            store = stack_identities.store_of(run)
            left_out = store.exceptions(kept) if store else {}
    except LifeboatError as exc:
        return [f"the identities of the object store cannot be given back: {exc.cause}"]
    lines = [f"the {named(name)} does not come back: {why}" for name, why in sorted(left_out.items())]
    return [*lines, *([f"the {USES}: {', '.join(kept.uses)}"] if kept.uses else [])]


def step(run: Opened) -> list[str]:
    """The step of a plan that brings them back, where they are kept."""
    try:
        kept = stack_identities.newest(run.config) if run.config.objects.admin.api in identities.FORMS else None
    except LifeboatError:
        return []
    return [f"restore: where the store has lost its identities, those of {kept.backup} ({kept})"] if kept else []


def needed(run: Opened) -> str:
    """Why the store does not take the application's key, where it has lost its identities and they are kept.

    Empty where that is not so, or cannot be told.
    """
    own = run.config.secrets.get("objects_access_key", "")
    try:
        store, kept = stack_identities.store_of(run), stack_identities.newest(run.config)
        if store is None or kept is None or not lost(kept.form, _now(store)):
            return ""
    except LifeboatError:
        return ""
    if not identities.knows(kept.form, own):
        return ""
    return f"the object store has lost its identities, the application's key {named(own)} among them"


def revive(run: Opened, *, log: Log) -> bool:
    """Give a store that refuses the application's key its identities, where that is why; returns whether it was."""
    return bool(needed(run)) and bring(run, log=log).imported


def lost(expected: Form, actual: Form) -> bool:
    """Has the store none of the users, groups and access keys that it had? Policies are built in."""
    had = {name for name in expected if not name.startswith(f"{identities.POLICY} ")}
    return bool(had) and not any(name in actual for name in had)


def _now(store: Store) -> Form:
    try:
        return store.export().form
    except NotFoundError:  # a file that is gone
        return {}


def _shortened(lines: list[str]) -> str:
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more
