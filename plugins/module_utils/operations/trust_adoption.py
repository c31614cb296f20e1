# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents that no pinned signer signed, as a list that an operator reads, and signs to vouch for them."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Collection
from dataclasses import dataclass

from ..base import typed
from ..base.errors import LifeboatError, NotFoundError, UsageError
from ..repository import copies, repositories, sealing
from ..repository.base import Repository
from ..repository.components import KINDS
from ..repository.trust import ADOPTION_SCHEMA, Listed
from ..settings.config import ADOPTIONS, MANIFESTS, RECOVERY_POINTS
from ..stack.runtime import Opened

_ATTEMPTED = "list what is untrusted"


@dataclass(frozen=True)
class Adoptable:
    """documents: what can be adopted. left: of what cannot be, the id and why."""

    stack: str
    documents: tuple[Listed, ...]
    left: dict[str, str]

    def text(self) -> str:
        """The list as it is to be signed."""
        body = {"schema": ADOPTION_SCHEMA, "version": list(sealing.VERSION), "stack": self.stack}
        return sealing.render({**body, "documents": typed.plain(self.documents)}).decode()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="*", help="only these backups and recovery points (default: all that are untrusted)"
    )


def untrusted(run: Opened, only: Collection[str]) -> Adoptable:
    """Of the repository and of the copies in the vault, each document once. Raises UsageError where no signers are
    pinned, and NotFoundError where one that was named is not untrusted."""
    if not run.config.signers:
        remedy = "Name an operator's key in lifeboat_signers, with documents: [adoption], and deploy."
        raise UsageError(_ATTEMPTED, run.config.stack, "no signers are pinned: everything is believed", remedy)
    found: dict[tuple[str, str, str], Listed] = {}
    left: dict[str, str] = {}
    for store in filter(None, (repositories.repository_of(run), copies.vault(run))):
        _collect(store, run.config.stack, only, found, left)
    missing = sorted(set(only) - {item.id for item in found.values()} - set(left))
    if missing:
        raise NotFoundError(
            _ATTEMPTED, ", ".join(missing), "nothing untrusted has that id", "`lifeboat list` shows all."
        )
    by_time = sorted(found.values(), key=lambda item: (item.id[-15:], item.id))
    return Adoptable(run.config.stack, tuple(by_time), left)


def _collect(
    store: Repository,
    stack: str,
    only: Collection[str],
    documents: dict[tuple[str, str, str], Listed],
    left: dict[str, str],
) -> None:
    bare = copy.copy(store)
    bare.trust = None
    every = [(MANIFESTS, name, identity) for name in KINDS for identity in store.published(name)]
    every += [(RECOVERY_POINTS, "", identity) for identity in store.points()]
    for document, component, identity in every:
        if only and identity not in only:
            continue
        why = ""
        try:
            _read(store, component, identity)
            continue
        except LifeboatError as exc:
            why = exc.cause
        try:
            read = sealing.opened(_read(bare, component, identity), identity, ADOPTIONS, unsigned=True)
        except LifeboatError as exc:
            left[identity] = exc.cause
            continue
        if (read.stack, read.id, read.component) == (stack, identity, component):
            documents[document, identity, read.seal] = Listed(document, identity, read.seal)
        else:
            left[identity] = why


def _read(store: Repository, component: str, identity: str) -> bytes:
    return store.manifest(component, identity) if component else store.read_point(identity)
