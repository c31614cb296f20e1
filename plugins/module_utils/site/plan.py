# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan the recovery of a whole site on a machine: read only, decided once, printed before anything is built.

Everything comes from the vault. What is to be used of it is read to its last byte first: a site must not be half built
when it turns out that its backup is damaged, or that the key does not open it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.clock import format_time, parse_time
from ..base.errors import (
    IntegrityError,
    LifeboatError,
    Log,
    NotFoundError,
    SpaceError,
    UnverifiedError,
    UsageError,
    present,
)
from ..base.text import PassedOver, Untested, human, named
from ..configuration import parts as configuration_parts
from ..configuration import proof as configuration_proof
from ..configuration import restore as configuration_restore
from ..configuration import services as configuration_services
from ..database import lacking
from ..files import proof as files_proof
from ..frontend import site as frontend_site
from ..objects import lacking as objects_lacking
from ..objects import proof as objects_proof
from ..recovery.state import HEALTHY
from ..repository import catalog, points, repositories
from ..repository.base import Repository
from ..repository.catalog import Entry
from ..repository.checksums import checks_in_place
from ..repository.components import CONFIG, DATABASE, FILES, KINDS, OBJECTS
from ..repository.details import ConfigDetails, DatabaseDetails, ObjectsDetails
from ..repository.manifest import Manifest
from ..repository.points import EVENTUAL, SNAPSHOT, Point, PointEntry
from ..repository.sources import FROM_VAULT, PAST, past, vault_place
from ..settings.config import RECOVERY_POINTS, Config
from ..settings.scenarios import BACKEND, SCENARIOS, SITE
from ..stack.runtime import Opened
from ..stack.state import StateInventory
from ..tools import age
from ..wal.instants import Latest, Position
from . import files as site_files
from . import instant as site_instant
from . import left_out, show, state
from . import scope as site_scope
from .instant import ANY, Resolved, Way, Wish
from .left_out import LeftOut
from .scope import HostState, Machine
from .show import Backup, Details, Plan
from .state import Recovery
from .store import open_store

LATEST = ("", "latest")
_ATTEMPTED = "plan the recovery of the site"


@dataclass(frozen=True)
class Request:
    """What the operator asked for. wish: an instant, where no recovery point was named; before: no point behind it will
    do, as the plan finds out. rehearsal: beside a living site; no backup is taken and nobody is sent here.

    key: the escrowed age identity, which opens the configuration. cutover: the operator's hook, by its path. accept:
    the recovery point that is named, although it failed. allow: what of the configuration is let through by name.
    """

    identity: str = "latest"
    wish: Wish = ANY
    before: Optional[datetime] = None
    rehearsal: bool = False
    key: str = ""
    cutover: str = ""
    accept: bool = False
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """The recovery point, its backups by component, what was checked of them in the vault, and what was passed over.

    accepted: why it failed, where an operator accepted that. hidden: why old versions are read, where they are.
    lacks: what of the server and of the store other backups hold and this one does not. databases: those that come
    back, where not all of the backup's do. untested: mounts of the stack that are excluded by name.
    """

    point: Point
    parts: Mapping[str, Manifest]
    checks: tuple[Check, ...]
    passed: tuple[PointEntry, ...]
    warnings: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    hidden: str = ""
    lacks: tuple[Untested, ...] = ()
    databases: tuple[str, ...] = ()
    untested: tuple[Untested, ...] = ()

    @property
    def needs(self) -> int:
        """The bytes that the site will take on the machine's disk."""
        elsewhere = (KINDS[name].bytes(manifest.detailed(KINDS[name].details)) for name, manifest in self.parts.items())
        kept = sum(manifest.size for manifest in self.parts.values()) + sum(filter(None, elsewhere))
        database = self.parts.get(DATABASE)
        return (database.detailed(DatabaseDetails).primary.size if database else 0) + kept

    @property
    def leading(self) -> Manifest:
        """The backup that the recovery begins with: of the database; of a stack without one that of its first part."""
        return next(self.parts[name] for name in KINDS if name in self.parts)


def make(run: Opened, request: Request, here: HostState, machines: Mapping[str, object], *, log: Log) -> Plan:
    """The plan. Raises LifeboatError when the site cannot, or must not, be recovered on this machine.

    here: scope.assess_host() of this machine. machines: the stack's other machines by name, each as
    scope.answered() takes it.
    """
    config = run.config
    catalog.require_named(request.accept, request.identity)
    elsewhere = {name: site_scope.answered(said) for name, said in machines.items()}
    refuse_living(config, request, here, elsewhere)
    last = here.recovery
    scope = [line for name, seen in elsewhere.items() for line in site_scope.described(name, seen)]
    made = Plan(
        needed=True, ready=False, why="the site is to be recovered here", condition=_condition(elsewhere),
        findings=(*scope, *_frontend(config)), unchecked=(), warnings=_off(elsewhere),
        fresh=not (here.running or here.stopped), rehearsal=request.rehearsal, cutover=request.cutover,
        machine=here.machine, target_seconds=config.target(SITE),
    )  # fmt: skip
    if here.machine.missing:
        unread = (
            "the vault was not read, so neither the recovery point nor the key is known to be good:"
            f" {' and '.join(here.machine.missing)} are not on this machine. With the confirmation they are installed,"
            " and the vault is read, before anything else"
        )
        made = replace(made, unchecked=(unread,))
        return replace(made, steps=show.steps(config, made))
    resumed = (
        last if last and state.unfinished(last) and request.identity in LATEST and not request.wish.named else None
    )
    if resumed:
        log(f"an earlier run has begun to recover to {resumed.point} and did not end: going on with it")
        request = replace(request, identity=resumed.point, wish=_wish(resumed))
        why = f"an earlier recovery to {resumed.point} has not ended; this goes on from where it stopped"
        made = replace(made, why=why)
    ended = last if last and last.finished_at and not (last.rehearsal and not request.rehearsal) else None
    if ended and _same(ended, request, run):
        _require_well(here, ended)
        why = f"the site was recovered to {ended.point} here at {ended.finished_at}, and all of it runs"
        return replace(made, needed=False, ready=True, why=why, backup=Backup(ended.point))
    if ended and not ended.rehearsal:
        raise UsageError(
            _ATTEMPTED, request.identity, f"the site was recovered to {ended.point} here and lives on this machine",
            "For another state of it: lifeboat.dr.recover_database and lifeboat.dr.recover_object_storage with"
            f" -e recovery_point={request.identity}.",
        )  # fmt: skip
    store, place = open_store(run)
    by_name = request.identity not in LATEST and not resumed
    if by_name and request.wish.named and request.wish.moment is None:
        cause = "an instant is another state than a recovery point"
        raise UsageError(_ATTEMPTED, f"recovery_point={request.identity}", cause, "Name one of them.")
    goes = not by_name and not (resumed and not _wish(resumed).named)
    instant = site_instant.find(run, store, request.wish, log) if goes else Resolved(moment=request.wish.moment)
    chosen, store, place = choose_anywhere(run, store, place, replace(request, before=instant.moment), log)
    instant = _no_older(instant, chosen, request)
    way = instant.way
    if way and request.wish.consistent and chosen.point.taken_at > parse_time(way.at):
        chosen, store, place = choose_anywhere(run, store, place, replace(request, before=parse_time(way.at)), log)
    _require_room(here.machine, chosen.needs + (way.needs if way else 0))
    point, leading = chosen.point, chosen.leading
    taken_at = parse_time(way.at) if way else point.taken_at
    made = replace(
        made,
        ready=True,
        warnings=(*made.warnings, *_instead(instant, point), *chosen.warnings, *_warnings(config, here, chosen)),
        passed_over=(*instant.passed_over, *(PassedOver(entry.id, entry.problem) for entry in chosen.passed)),
        accepted=chosen.accepted,
        parts={name: manifest.id for name, manifest in chosen.parts.items()},
        databases=chosen.databases,
        source=place,
        images=point.images,
        recovery_point=request.identity if request.identity not in LATEST else "",
        location=vault_place(run) if place in FROM_VAULT else store.location(leading.component, leading.id),
        checks=(*chosen.checks, *instant.checks),
        done=state.done(last, point.id, _remembered(way)),
        way=way,
        untested=(*chosen.lacks, *_untested(chosen.parts), *chosen.untested),
        backup=Backup(
            point.id,
            taken_at,
            sum(manifest.size for manifest in chosen.parts.values()),
            int((datetime.now(timezone.utc) - taken_at).total_seconds()),
            EVENTUAL if way else point.consistency,
            Details(leading.detailed(DatabaseDetails).server_version_num) if DATABASE in chosen.parts else None,
            chosen.hidden,
        ),
    )
    if CONFIG in chosen.parts:
        made = _configured(made, run, store, chosen.parts[CONFIG], request, log)
    if locked(leading, request) and not made.lacking:
        made = replace(made, lacking=f"the key that opens {leading.id}: -e identity_file=<a file here>")
    return replace(made, steps=show.steps(config, made))


def _no_older(resolved: Resolved, chosen: Chosen, request: Request) -> Resolved:
    """A way that ends before the newest recovery point loses what that has. One to rows and objects of one instant does
    where the point has both of a later one."""
    point = chosen.point
    if resolved.way and request.wish.consistent and point.consistency == SNAPSHOT:
        later = point.taken_at >= parse_time(resolved.way.at)
        return replace(resolved, way=None, checks=()) if later else resolved
    if resolved.way is None or request.wish.named or parse_time(resolved.way.until) >= chosen.point.taken_at:
        return resolved
    cause = f"the WAL in the vault ends at {resolved.way.until}, before that point"
    return replace(resolved, way=None, checks=(), cause=cause)


def _instead(resolved: Resolved, point: Point) -> list[str]:
    """What a point does in the place of an instant."""
    if not resolved.cause:
        return []
    wanted = format_time(resolved.moment) if resolved.moment else "the end of what was received"
    return [f"NOT {wanted}, but the recovery point of {format_time(point.taken_at)}: {resolved.cause}"]


def _remembered(way: Optional[Way]) -> tuple[str, str, int]:
    return (way.recovery_time, way.before, way.timeline) if way else ("", "", 0)


def _wish(recovery: Recovery) -> Wish:
    """What an earlier run went to."""
    if not (recovery.recovery_time or recovery.before):
        return ANY
    return site_instant.requested(recovery.recovery_time, recovery.before, recovery.timeline)


def _configured(plan: Plan, run: Opened, store: Repository, manifest: Manifest, request: Request, log: Log) -> Plan:
    """The plan with what would be placed and started of the configuration, and what must be given before that."""
    try:
        placing = site_files.plan(run.config, store, manifest.id, key=request.key, allow=request.allow, log=log)
    except age.NoKeyError as exc:
        placing = site_files.Planned(unknown=exc.cause)
    plan = replace(plan, placing=placing)
    lacking, refused = [], configuration_services.refused(placing.services)
    if locked(manifest, request):
        lacking.append(f"the key that opens the secrets of {manifest.id}: -e identity_file=<a file here>")
        plan = replace(plan, unchecked=(f"whether the key opens the configuration: none was given ({lacking[0]})",))
    if refused:
        lacking.append(
            f"permission for what reaches out of its container: {configuration_services.allow_option(refused)}"
        )
    return replace(plan, lacking="; ".join(lacking))


def refuse_living(config: Config, request: Request, here: HostState, machines: Mapping[str, HostState]) -> None:
    """Two living sites are worse than none: each takes writes that the other never sees, and both fill one vault."""
    for name, seen in machines.items():
        if request.rehearsal:
            break
        if seen.unknown:
            raise UsageError(
                _ATTEMPTED, config.stack,
                f"{name} answers, and what runs there could not be seen ({seen.unknown}): the site may live there",
                "Mend that, so that it can be looked at. Or, to leave it for good, switch it off or cut it off from"
                " everybody, so that this does not reach it either. To rehearse beside it: -e rehearsal=true, which"
                " takes no backups and does not cut over.",
            )  # fmt: skip
        if seen.running:
            raise UsageError(
                _ATTEMPTED, config.stack, f"the site still lives on {name}: {', '.join(seen.running)} run there."
                f" {_component_needs(seen)}",
                "Recover it where it is; or, to leave it for good, stop it there first (docker compose stop) and keep"
                " it stopped. To rehearse beside it: -e rehearsal=true, which takes no backups and does not cut over.",
            )  # fmt: skip
    if here.running and here.recovery is None:
        raise UsageError(
            _ATTEMPTED, here.host, f"the stack runs on this machine: {', '.join(here.running)}",
            "This is the living site, or another one. Name an empty machine: -e target=<host> -e confirm=<host>.",
        )  # fmt: skip
    if here.machine.taken and not here.running:
        raise UsageError(
            _ATTEMPTED, here.host,
            f"something that is not of the stack answers on port {', '.join(map(str, here.machine.taken))}",
            "Stop it (ss -ltnp shows what it is), or name another machine.",
        )  # fmt: skip


def _off(machines: Mapping[str, HostState]) -> tuple[str, ...]:
    """From here a machine that is off and one that is only cut off look the same."""
    return tuple(
        f"{name} was not reached, which does not prove that it is off. If its users still reach it, two sites will"
        " live: see that it is off, or cut off from everybody, before you confirm"
        for name, seen in machines.items()
        if seen.lost
    )


def _component_needs(host: HostState) -> str:
    """What each component there needs, in one line."""
    return ", ".join(
        component.summary + (f" ({component.scenario})" if component.scenario else "") for component in host.components
    )


def _frontend(config: Config) -> list[str]:
    """It is on no machine of ours: it is only asked whether it answers."""
    if not config.frontend.url:
        return []
    seen = frontend_site.probe(
        config.frontend.url, config.frontend.marker, ca_bundle=config.frontend.ca_bundle, timeout=5
    )
    how = "answers" if seen.up else f"does not answer as it should ({seen.problem}) -> lifeboat.dr.recover_frontend"
    return [f"the frontend {config.frontend.url} {how}"]


def _condition(machines: Mapping[str, HostState]) -> str:
    lost = [name for name, seen in machines.items() if seen.lost]
    if lost:
        return f"lost with {', '.join(lost)}"
    if any(seen.unknown for seen in machines.values()):
        return "unknown elsewhere"
    return "alive elsewhere" if any(seen.running for seen in machines.values()) else "not running anywhere"


def _same(ended: Recovery, request: Request, run: Opened) -> bool:
    """Idempotent by identity: is what was asked for what is here already? Only by a time the vault is asked, which a
    keeper may have closed again."""
    wish, before = request.wish, _wish(ended)
    if before.named and wish.instant is not None and not isinstance(wish.instant, Latest):
        return (wish.instant, wish.timeline or before.timeline) == (before.instant, before.timeline)
    if wish.moment is not None:
        store, stack = open_store(run)[0], run.config.stack
        tied = points.entries(store, stack, points.backups(store, stack))
        return points.choose(tied, stack, before=wish.moment, partly=True)[0].id == ended.point
    return request.identity in (*LATEST, ended.point) and not isinstance(wish.instant, Position)


def _require_well(here: HostState, ended: Recovery) -> None:
    ill = [component for component in here.components if component.condition != HEALTHY]
    if here.stopped or ill or not here.running:
        told = [component.summary for component in ill] or [f"{', '.join(here.stopped) or 'all'} stopped"]
        backend = f"lifeboat.dr.{SCENARIOS[BACKEND].playbook}"
        remedy = next((component.scenario for component in ill if component.scenario), backend)
        raise UsageError(
            _ATTEMPTED, here.host, f"the site was recovered to {ended.point} here, and now {'; '.join(told)}",
            f"That is a matter for {remedy}.",
        )  # fmt: skip


def choose_anywhere(
    run: Opened, store: Repository, location: str, request: Request, log: Log
) -> tuple[Chosen, Repository, str]:
    """What is live, or else what was published, read by version; and from where. That is said in the plan."""
    try:
        chosen = choose(run, store, request, log=log)
    except (IntegrityError, NotFoundError, UnverifiedError) as exc:
        older = past(run, PAST[location])
        if older is None:
            raise
        log(f"no recovery point that is live will do ({exc.cause}): looking at old versions")
        try:
            chosen = choose(run, older, request, log=log)
        except LifeboatError:
            raise exc from None
        words = chosen.hidden or f"what is live is not what was published ({exc.cause})"
        said = f"{chosen.point.id} is read from old versions: {words}"
        return replace(chosen, warnings=(said, *chosen.warnings), hidden=words), older, PAST[location]
    newer = {name: seen.detail for name, seen in store.altered("").items() if seen.gone and name > chosen.point.id}
    told = tuple(f"{name} is newer: {words}; to take it: -e recovery_point={name}" for name, words in newer.items())
    if request.identity not in LATEST:
        told = ()
    return replace(chosen, warnings=(*told, *chosen.warnings)), store, location


def choose(run: Opened, store: Repository, request: Request, *, log: Log) -> Chosen:
    """The recovery point, every artefact of it read. A damaged newest one is passed over, and said so; not for the sake
    of another database or bucket than the application's: those that are spoiled in it, or not in it, are left out."""
    config, request = run.config, replace(request, identity=repositories.named(run, request.identity))
    store.check(writable=False)
    found = points.backups(store, config.stack)
    tied = points.entries(store, config.stack, found)
    passed: list[PointEntry] = []
    by_name = request.identity not in LATEST
    if not by_name and request.before is None:
        catalog.require_newest(store.trust, RECOVERY_POINTS, "", tied)
    while True:
        entry, newer = points.choose(
            tied, config.stack, identity=request.identity, before=request.before, accept=request.accept, partly=True
        )
        passed += newer
        point = present(entry.point)
        if point.stack != config.stack:
            raise UsageError(_ATTEMPTED, point.id, f"it is of the stack {point.stack}, not {config.stack}")
        by_id = {item.id: item for some in found.values() for item in some}
        parts = {name: by_id[part.id].manifest for name, part in point.parts.items()}
        if not by_name:
            _refuse_shrunk(config, found, point)
        log(f"reading every artefact of {point.id} in the vault")
        left = LeftOut.of_backup(config, parts.get(DATABASE), {} if request.accept else entry.spoiled)
        checks: list[Check] = []
        bad = left.required
        accepted = list(filter(None, [entry.failed]))
        for manifest in filter(None, parts.values() if not bad else ()):
            proved = left.without(prove(run, store, manifest, log=log))
            checks += proved
            # Bytes must be the written ones: the machine's own repository begins with them. What the vault has lost of
            # the objects' versions is lost either way.
            borne = request.accept and manifest.component == OBJECTS and proved[0].result == PASS
            (accepted if borne else bad).extend(f"{item.name}: {item.detail}" for item in proved if item.result == FAIL)
        if not bad:
            good = {name: manifest for name, manifest in parts.items() if manifest}
            inventory = state_of(config, good.get(CONFIG), good)
            checks += [inventory.check] if inventory else []
            checks += [*_tried(store, good, request), *left.checks, *left_out.buckets(good.get(OBJECTS))]
            lacks = lacking.of(config, found[DATABASE], good[DATABASE], None) if DATABASE in good else None
            objects = by_id[good[OBJECTS].id] if OBJECTS in good else None
            without = objects_lacking.find(config.objects, found[OBJECTS], objects, None) if objects else None
            warnings = (
                *point.notes, *(_elsewhere(lacks) if lacks else ()), *left.instead(found[DATABASE]),
                *(_buckets_elsewhere(without) if without else ()),
            )  # fmt: skip
            return Chosen(
                point, good, tuple(checks), tuple(passed), warnings, tuple(accepted), entry.hidden,
                (*(lacks.untested(()) if lacks else ()), *(without.untested(()) if without else ())), left.databases,
                inventory.untested if inventory else (),
            )  # fmt: skip
        if by_name:
            raise IntegrityError(
                _ATTEMPTED, point.id, f"{'; '.join(bad)}. Nothing was built",
                f"Choose another recovery point (`lifeboat list`).{catalog.although(point.id) if entry.failed else ''}",
            )  # fmt: skip
        passed.append(PointEntry(point.id, point, "; ".join(bad)))
        tied = [item for item in tied if item.id < point.id]
        if not tied:
            raise NotFoundError(
                _ATTEMPTED, config.stack, "; ".join(f"{item.id}: {item.problem}" for item in passed[:3]),
                "No recovery point in the vault is whole. Nothing was built.",
            )  # fmt: skip


def state_of(
    config: Config, manifest: Optional[Manifest], components: Collection[str]
) -> Optional[StateInventory]:  # fmt: skip
    """What the lost host's services mounted, by its last backup of the configuration: what was in no backup, or in none
    of these components', does not come back. None of a stack that is no Compose project."""
    if config.runtime.type != "compose":
        return None
    inventory = manifest.detailed(ConfigDetails).state if manifest else None
    if inventory is not None:
        return inventory.within(components).judged(config)
    which = f"{manifest.id} was taken by an earlier Lifeboat, and" if manifest else "the point has no backup that"
    return StateInventory(problems=(f"{which} {'does not say' if manifest else 'says'} what the services mounted",))


def _elsewhere(lacks: lacking.Lacking) -> list[str]:
    """The databases that other backups hold, and how each is brought back once the site is there."""
    return [
        f"{lacks.chosen} does not hold the database {named(name)}; {backup} does: when the site is back,"
        f" lifeboat.dr.recover_database -e recovery_point={backup} -e database={named(name)}"
        for name, backup in {**lacks.dropped, **lacks.newer, **lacks.missing}.items()
    ]


def _buckets_elsewhere(lacks: objects_lacking.Lacking) -> list[str]:
    """The like of the store's buckets."""
    return [
        f"{lacks.chosen} does not hold the bucket {named(name)}; {backup} does: when the site is back,"
        f" lifeboat.dr.recover_object_storage -e recovery_point={backup} -e bucket={named(name)}"
        for name, backup in {**lacks.newer, **lacks.missing}.items()
    ]


def _tried(store: Repository, good: Mapping[str, Manifest], request: Request) -> Iterator[Check]:
    """Whether the key that was given opens what is encrypted."""
    if CONFIG in good and not locked(good[CONFIG], request):
        yield _opened(store, good[CONFIG], request.key)
    first = good.get(DATABASE) or good.get(FILES)
    if first and first.encrypted and request.key:
        yield _opened_artefact(store, first, request.key)


def prove(run: Opened, store: Repository, manifest: Manifest, *, log: Log) -> list[Check]:
    """Every artefact's SHA-256, read where it lies; of objects also that the vault still has every version, of the
    configuration also the parts that an earlier backup keeps for it."""
    same = f"{len(manifest.artefacts)} artefacts, {human(manifest.size)}: every byte in the vault is the one written"
    where = f"{manifest.id} in the vault"
    found = checks_in_place(store, manifest, where, same)
    whole = all(check.result == PASS for check in found)
    besides: list[Check] = []
    if manifest.component == OBJECTS and whole and manifest.encrypted and not run.key:
        besides.append(
            Check("listing", COULD_NOT_VERIFY, "no key was given to open it: -e identity_file=<a file here>")
        )
    elif manifest.component == OBJECTS and whole:
        besides += objects_proof.levels(run, store, manifest, "archive", 0, log)
    if manifest.component == CONFIG:
        parts = configuration_parts.parts_of(manifest).values()
        besides += [configuration_proof.held_elsewhere(store, part) for part in parts if part.backup != manifest.id]
    if manifest.component == FILES:
        besides += files_proof.earlier_packs(store, manifest) if whole else []
    return [*found, *(replace(check, name=f"{where}, {check.name}") for check in besides)]


def locked(manifest: Manifest, request: Request) -> bool:
    """Whether a backup, or secrets in it, are encrypted and no key was given to open them."""
    sealed = manifest.encrypted or configuration_restore.SECRETS in {artefact.name for artefact in manifest.artefacts}
    return sealed and not request.key


def _opened(store: Repository, manifest: Manifest, key: str) -> Check:
    """That the key opens the secrets, to their end. Another's key is an error: no other recovery point will help."""
    if manifest.encrypted:
        configuration_restore.listing(store, manifest.id, age.keys_of(key))
    if configuration_restore.SECRETS not in {artefact.name for artefact in manifest.artefacts}:
        return Check(f"{manifest.id}, secrets", PASS, "none are sealed in it")
    opened = configuration_restore.open_secrets(store, manifest, key)
    return Check(f"{manifest.id}, secrets", PASS, f"the key opens {len(opened.entries)} files")


def _opened_artefact(store: Repository, manifest: Manifest, key: str) -> Check:
    """That the key opens the smallest artefact of an encrypted backup; each is for the same recipients."""
    smallest = min(manifest.artefacts, key=lambda artefact: artefact.size).name
    seal, subject = age.Seal(manifest.recipients), f"{manifest.id}/{smallest}"
    with (
        store.open(manifest.component, manifest.id, smallest) as source,
        age.keys_of(key).stream(source, seal, subject=subject),
    ):
        return Check(f"{manifest.id}, encryption", PASS, "the key opens it")


def _refuse_shrunk(config: Config, entries: Mapping[str, Sequence[Entry]], point: Point) -> None:
    """An emptied database and a wiped bucket back up without an error; which point is right is not ours to say. A
    database that was dropped stops nothing: a warning names it."""
    for name, part in point.parts.items():
        less, _larger = catalog.shrunk(entries[name], part.id, gone=False)
        if less:
            raise UsageError(
                _ATTEMPTED, point.id, f"{less}: which of them is right is not ours to guess",
                f"Name the one that you want: -e recovery_point={point.id}, or an older one (`lifeboat list`).",
            )  # fmt: skip


def _require_room(machine: Machine, need: int) -> None:
    if machine.free_bytes < need * 1.2:
        raise SpaceError(
            _ATTEMPTED, machine.free_at, f"{human(machine.free_bytes)} free, about {human(int(need * 1.2))} needed",
            "Give the machine a larger disk there: nothing was changed yet.",
        )  # fmt: skip


def _untested(parts: Mapping[str, Manifest]) -> tuple[Untested, ...]:
    details = parts[OBJECTS].detailed(ObjectsDetails) if OBJECTS in parts else None
    return (*details.left, *details.not_carried) if details else ()


def _warnings(config: Config, here: HostState, chosen: Chosen) -> list[str]:
    lines = []
    if not config.signers and not config.pin:
        lines.append(
            "nobody is pinned (lifeboat_signers): whether the host published this point, or somebody else who could"
            " write there, cannot be known. Compare its seal with one that you noted elsewhere; to take no other:"
            f" -e seal={chosen.point.seal}"
        )
    database = chosen.parts.get(DATABASE)
    if database and not database.detailed(DatabaseDetails).role_passwords:
        lines.append("the backup has no role passwords: the application cannot log in until you set them")
    if CONFIG not in chosen.parts:
        lines.append("the point has no backup of the configuration: put the compose files and .env here yourself first")
    if here.stopped:
        lines.append(f"{', '.join(here.stopped)} are on this machine and stopped: their data is put aside, not used")
    return lines
