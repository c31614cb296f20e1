# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that what is kept elsewhere opens the vault: the age identity and the vault's credentials, and nothing else.

It reads the vault alone and asks nothing of the protected host, so that it says what there would be if that host were
gone. Its success is written beside the recovery points: `lifeboat status` tells how long ago that was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Optional

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, at_most, compared
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, present
from ..base.version import VERSION
from ..configuration import restore as configuration_restore
from ..repository import copies, points, repositories
from ..repository.base import LATEST, Repository
from ..repository.checksums import in_place
from ..repository.components import CONFIG
from ..repository.details import ConfigDetails
from ..repository.manifest import Manifest, parse
from ..repository.points import Point, PointEntry
from ..repository.sealing import render
from ..s3 import client as s3_client
from ..settings.config import Config
from ..stack.runtime import Opened
from ..tools import age as tools_age
from . import escrow_opened, escrow_record
from .escrow_record import SCHEMA, EscrowProof
from .verify_proof import Proof, Result

LEVEL = "escrow"


def prove(run: Opened, identity: str, *, point: str = "latest", record: bool = True, log: Log) -> Result:
    """Open a recovery point in the vault with what is given alone. A failed check is no error.

    Raises UsageError where the identity cannot be one at all, or there is no vault to look into.
    """
    tools_age.check_identity(identity)
    started = datetime.now(timezone.utc)
    run.key, vault = identity, escrow_record.store(run)
    found: list[Check] = []
    chosen = _choose(run.config, vault, point, found)
    name = chosen.id if chosen else point
    if chosen:
        for component, part in chosen.parts.items():
            log(f"{name}: reading {part.id} in the vault")
            found += _guarded(component, _component(run, vault, component, part.id, identity, log))
        if CONFIG not in chosen.parts:
            words = "the recovery point has no config backup: nothing says how to run the stack"
            found.append(Check(CONFIG, FAIL, words))
    result = Result(name, LEVEL, tuple(found), started, datetime.now(timezone.utc))
    log(f"{name}: {result.verdict}")
    if record and chosen is not None and result.verdict == PASS:
        _record(run.config, vault, chosen, identity, result.finished_at, log)
    return result


def _choose(config: Config, vault: Repository, point: str, checks: list[Check]) -> Optional[Point]:
    """The recovery point to open; where there is nothing to look at, the last check says why."""
    try:
        vault.check(writable=False)
        there = points.backups(vault, config.stack)
        tied = points.entries(vault, config.stack, there)
        place = copies.location(config) if config.vault.repository_bucket else getattr(config.repository, "bucket", "")
        checks.append(Check("vault credentials", PASS, f"they read {place}"))
    except LifeboatError as exc:
        refused = s3_client.refuses(exc)  # not a clock that is wrong, or a package that is missing here
        checks.append(Check("vault credentials", FAIL if refused else COULD_NOT_VERIFY, str(exc)))
        return None
    try:
        one, passed = points.choose(tied, config.stack, identity=point)
    except LifeboatError as exc:
        unread = point in LATEST and any(entry.unknown for entry in tied)
        seen = isinstance(exc, (IntegrityError, NotFoundError)) and not unread
        checks.append(Check("recovery point", FAIL if seen else COULD_NOT_VERIFY, exc.cause))
        return None
    checks.append(_newest(config, one, passed, [entry for entry in tied if entry.unknown]))
    return present(one.point)


def _newest(config: Config, chosen: PointEntry, passed: Sequence[PointEntry], unread: Sequence[PointEntry]) -> Check:
    """Whether the point that is opened is the newest one. None is by a date that is yet to come; one that could not be
    read may be it."""
    name, opened = "recovery point", present(chosen.point)
    age, limit = (datetime.now(timezone.utc) - opened.taken_at).total_seconds() / 3600, config.alarms.backup_age_hours
    words = f"{chosen.id}, {age:.1f} h old, consistency {opened.consistency}"
    broken = [entry for entry in passed if entry.untrusted or not (entry.unknown or entry.ahead)]
    if broken:
        return Check(name, FAIL, f"{words}; newer ones cannot be used: {_problems(broken)}")
    if chosen.ahead:
        return Check(name, COULD_NOT_VERIFY, f"{chosen.id}, of an unknown age: {chosen.problem}")
    if any(entry.unknown for entry in passed):
        return Check(name, COULD_NOT_VERIFY, f"{words}; what could not be read may be newer: {_problems(unread)}")
    early = [entry for entry in passed if entry.ahead]
    words += f"; passed over: {_problems([*early, *unread])}" if early or unread else ""
    return at_most(name, age, limit, "h", words)


def _problems(entries: Sequence[PointEntry]) -> str:
    return "; ".join(f"{entry.id}: {entry.problem}" for entry in entries[-3:])


def _guarded(component: str, checks: Iterator[Check]) -> Iterator[Check]:
    """A component that cannot be looked at stops no other one from being looked at."""
    try:
        yield from checks
    except (IntegrityError, NotFoundError, tools_age.WrongKeyError) as exc:
        yield Check(component, FAIL, str(exc))
    except LifeboatError as exc:  # the network, a server that is busy or denies access, what could not be checked
        yield Check(component, COULD_NOT_VERIFY, str(exc))


def _component(run: Opened, vault: Repository, component: str, identity: str, key: str, log: Log) -> Iterator[Check]:
    manifest = parse(vault.manifest(component, identity), component=component, expected_id=identity)
    yield _bytes(vault, manifest)
    yield from escrow_opened.checks(Proof(run, vault, manifest, key=key, log=log))


def _bytes(vault: Repository, manifest: Manifest) -> Check:
    """Every artefact, read from the vault to its end and hashed, and nothing else there."""
    known = {artefact.name for artefact in manifest.artefacts}
    files = vault.files(manifest.component, manifest.id)
    wrong = [f"{name} does not belong to it" for name in files if name not in known] + in_place(vault, manifest)
    words = f"{manifest.id}, {len(known)} artefacts, {manifest.size} bytes"
    return compared(f"{manifest.component}: checksums in the vault", wrong, words)


def _record(config: Config, vault: Repository, point: Point, identity: str, at: datetime, log: Log) -> None:
    part = point.parts[CONFIG]
    manifest = configuration_restore.read_manifest(vault, part.id)
    opened = EscrowProof(
        SCHEMA, (1, 0), config.stack, point.id, manifest.detailed(ConfigDetails).recipients, at, part.id, part.seal,
        tuple(tools_age.recipients_of(identity)), f"lifeboat {VERSION}", point.id,
    )  # fmt: skip
    body = typed.plain(opened)
    try:
        key = config.signing_key
        data = repositories.signed_escrow(vault, config.stack, body, key) if key else render(body)
        refused = vault.trust.refused_escrow(point.id, data) if vault.trust else ""
        vault.write_escrow(config.stack, data)
        log(f"{point.id}: put on record in the vault")
        if refused:
            log(f"{point.id}: `lifeboat status` will not believe the record: {refused}. {escrow_record.SIGN}")
    except LifeboatError as exc:
        log(f"not put on record, so that `lifeboat status` will not know of it: {exc.cause}")
