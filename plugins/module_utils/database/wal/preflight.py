# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Can WAL be received from this server? What is in the way, why, and the one line that would allow it.

Decided on what the server says of itself, before anything is made or changed. Whether it lets the receiver in is tried
as well, by IDENTIFY_SYSTEM over the very connection that the receiver will use (receiver.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from ...base.errors import LifeboatError, UsageError
from ...base.text import human, named
from ...base.throttle import parse_rate
from ...settings.parts import WalSettings
from .. import hba
from ..cluster import HBA_RULES, Rule
from ..server import Server, answers

SLOT = ROLE = "lifeboat_wal"  # also the receiver's application_name
OLDEST = 14  # the fingerprint needs hash_record_extended(), and 13 gets no more fixes
ENABLE = "enable continuous protection"
_MEBI, _GIBI = 1 << 20, 1 << 30
# 256 MB were too little for a receiver that was connected; unlimited fills the disk of production.
_LEAST, _MOST, _SHARE = 2 * _GIBI, 16 * _GIBI, 4
_FREE = _GIBI  # what stays free beside everything that WAL may take
SPOOL = 4 * _GIBI


class Obstacle(NamedTuple):
    """cause: why WAL cannot be received. allow: what to type or to write so that it can."""

    cause: str
    allow: str


@dataclass(frozen=True)
class SlotState:
    """A replication slot. pid: of the process that receives from it. safe: bytes of WAL that may be written before
    it is lost, None where there is no bound or it is lost."""

    name: str
    kind: str
    temporary: bool
    pid: Optional[int] = None
    application: Optional[str] = None
    address: Optional[str] = None
    status: Optional[str] = None
    safe: Optional[int] = None
    restart: Optional[str] = None
    reason: Optional[str] = None

    @property
    def why_lost(self) -> str:
        """Servers before 17 do not say, and have one reason only."""
        if self.reason == "idle_timeout":
            return "nobody received for as long as idle_replication_slot_timeout allows"
        return "the server wrote more than max_slot_wal_keep_size while nobody received"

    @property
    def lost(self) -> bool:
        return self.status == "lost"

    @property
    def theirs(self) -> str:
        """Who receives from it and is not our receiver; empty where nobody does."""
        if self.pid is None or self.application == SLOT:
            return ""
        name = f" ({named(self.application)})" if self.application else ""
        return f"process {self.pid}{name} at {self.address or 'a local socket'}"


@dataclass(frozen=True)
class RoleState:
    login: bool
    replication: bool
    superuser: bool


@dataclass(frozen=True)
class Facts:
    """What the server says of itself. limit: max_slot_wal_keep_size in MiB, -1: none; limit_source: where that comes
    from. idle_timeout: seconds after which an unused slot is dropped, 0: never. segment: bytes of a WAL segment."""

    version: int
    system: str
    standby: bool
    superuser: bool
    wal_level: str
    senders: int
    senders_used: int
    slots: int
    limit: int
    limit_source: str
    alter_system: bool
    idle_timeout: int
    synchronous: str
    segment: int
    data: str
    port: int
    slot_states: tuple[SlotState, ...] = ()
    role: Optional[RoleState] = None

    @property
    def ours(self) -> Optional[SlotState]:
        return next((slot for slot in self.slot_states if slot.name == SLOT), None)

    @property
    def others_slots(self) -> list[str]:
        return [slot.name for slot in self.slot_states if slot.name != SLOT and not slot.temporary]


FACTS = f"""SELECT jsonb_build_object('version', current_setting('server_version_num')::int,
  'system', (SELECT system_identifier::text FROM pg_control_system()), 'standby', pg_is_in_recovery(),
  'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'wal_level', current_setting('wal_level'), 'senders', current_setting('max_wal_senders')::int,
  'senders_used', (SELECT count(*) FROM pg_stat_replication WHERE application_name IS DISTINCT FROM '{SLOT}'),
  'slots', current_setting('max_replication_slots')::int,
  'limit', (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  'limit_source', (SELECT source FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  'alter_system', coalesce(current_setting('allow_alter_system', true), 'on') = 'on',
  'idle_timeout',
     coalesce((SELECT setting::int FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), 0),
  'synchronous', current_setting('synchronous_standby_names'),
  'segment', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
  'data', current_setting('data_directory'), 'port', current_setting('port')::int,
  'slot_states', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.slot_name, 'kind', s.slot_type,
     'temporary', s.temporary, 'pid', s.active_pid, 'application', r.application_name,
     'address', host(r.client_addr), 'status', s.wal_status, 'safe', s.safe_wal_size,
     'restart', s.restart_lsn::text, 'reason', to_jsonb(s) ->> 'invalidation_reason')), '[]')
     FROM pg_replication_slots s LEFT JOIN pg_stat_activity r ON r.pid = s.active_pid),
  'role', (SELECT jsonb_build_object('login', rolcanlogin, 'replication', rolreplication, 'superuser', rolsuper)
     FROM pg_roles WHERE rolname = '{ROLE}'));"""


def read(server: Server, timeout: float = 60) -> Facts:
    rows = server.execute(FACTS, attempted="read what continuous protection needs of the server", timeout=timeout)
    return answers(Facts, rows)[0]


def rules(server: Server) -> Sequence[Rule]:
    """The lines of pg_hba.conf; none where the account may not read them."""
    try:
        return answers(Rule, server.execute(HBA_RULES, attempted="read pg_hba.conf", timeout=60))
    except LifeboatError:
        return ()


def slot_limit(free: Optional[int], setting: str) -> int:
    """Bytes of WAL that the slot may hold back. free: where pg_wal lies, None where that is not known.

    Raises UsageError where so much could fill that disk: the database would stop.
    """
    limit = int(parse_rate(setting)) if setting else max(_LEAST, min(_MOST, (free or 0) // _SHARE))
    limit = max(limit // _MEBI, 1) * _MEBI
    if free is not None and free < limit + _FREE:
        raise UsageError(
            ENABLE, "the disk of pg_wal",
            f"{human(free)} are free there: a receiver that is away would hold back up to {human(limit)} of WAL",
            "Make room, so that a GB stays free beside that"
            + (", or lower lifeboat_wal.slot_limit and deploy." if setting else ", then try again."),
        )  # fmt: skip
    return limit


def spool_limit(wal: WalSettings) -> int:
    return int(parse_rate(wal.spool_limit)) or SPOOL


def floor(limit: int, shared: bool) -> int:
    """Bytes that the receiver leaves free where the spool lies. shared: pg_wal lies on the same disk, or nobody knows
    where: what the slot may hold back must find room there, too, once the receiver has stopped."""
    return _FREE + (limit if shared else 0)


def obstacles(
    facts: Facts, lines: Sequence[Rule], wal: WalSettings, *, container: bool, user: str
) -> Iterator[Obstacle]:
    """What is in the way. lines: of pg_hba.conf. container: the receiver connects to 127.0.0.1 inside the container's
    network, else over the socket. user: as whom."""
    if facts.version < OLDEST * 10000:
        major = facts.version // 10000
        yield Obstacle(f"PostgreSQL {major} is too old: it needs {OLDEST} or newer", "upgrade the server")
    if facts.standby:
        yield Obstacle("the server is a standby", "protect the primary's stack instead")
    if facts.wal_level == "minimal":
        yield Obstacle("wal_level is minimal: a recovery needs more", "wal_level = replica (and a restart)")
    if facts.senders_used >= facts.senders:
        used = f"all {facts.senders} are in use" if facts.senders else "it is 0"
        yield Obstacle(
            f"no WAL sender is free: max_wal_senders, {used}",
            f"max_wal_senders = {max(facts.senders + 2, 10)} (and a restart)",
        )
    if facts.ours is None and len(facts.slot_states) >= facts.slots:
        yield Obstacle(
            f"no replication slot is free: max_replication_slots is {facts.slots}",
            f"max_replication_slots = {max(facts.slots + 2, 10)} (and a restart)",
        )
    if facts.idle_timeout:
        yield Obstacle(
            f"idle_replication_slot_timeout is {facts.idle_timeout} s: the server would drop the slot of a receiver"
            " that is away",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
        )
    names = [name.strip(' "').lower() for name in facts.synchronous.partition("(")[2].rpartition(")")[0].split(",")]
    names = names if "(" in facts.synchronous else [name.strip(' "').lower() for name in facts.synchronous.split(",")]
    if "*" in names or SLOT in names:
        yield Obstacle(
            f"synchronous_standby_names is {facts.synchronous!r}: commits would wait for the receiver",
            "name the standbys there, without * and without lifeboat_wal",
        )
    yield from _of_slot(facts)
    yield from _of_limit(facts, wal)
    yield from _of_role(facts, container)
    closed = _closed(lines, container=container, user=user)
    if closed:
        yield closed


def _of_slot(facts: Facts) -> Iterator[Obstacle]:
    slot = facts.ours
    if slot is None:
        if not facts.superuser:
            yield Obstacle(
                f"there is no slot {SLOT}, and the account may not make one",
                f"SELECT pg_create_physical_replication_slot('{SLOT}', true);",
            )
    elif slot.kind != "physical":
        yield Obstacle(f"the slot {SLOT} is somebody's {slot.kind} one", f"SELECT pg_drop_replication_slot('{SLOT}');")
    elif slot.theirs:
        yield Obstacle(
            f"another receiver has the slot {SLOT}: {slot.theirs}", "stop that one: two hosts cannot share a slot"
        )


def _of_limit(facts: Facts, wal: WalSettings) -> Iterator[Obstacle]:
    if facts.limit >= 0:
        if facts.limit * _MEBI < _LEAST and not wal.slot_limit:
            yield Obstacle(
                f"max_slot_wal_keep_size is {facts.limit} MB: a busy server drops the slot of a living receiver",
                "ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'; SELECT pg_reload_conf();",
            )
        return
    others = ", ".join(map(named, facts.others_slots))
    if others and not wal.slot_limit:
        yield Obstacle(
            f"max_slot_wal_keep_size is not set, and a bound for our slot is one for {others}, too",
            "set lifeboat_wal.slot_limit to 16G, or to what these may fall behind",
        )
    set_it = "ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf();"
    if facts.limit_source == "command line":
        yield Obstacle("max_slot_wal_keep_size is unlimited on the server's command line", "take it out there")
    elif not facts.alter_system:
        yield Obstacle(
            "max_slot_wal_keep_size is unlimited, and allow_alter_system is off",
            "max_slot_wal_keep_size = 4GB (where the server's settings are kept; then reload it)",
        )
    elif not facts.superuser:
        yield Obstacle("max_slot_wal_keep_size is unlimited, and the account may not set it", set_it)


def _of_role(facts: Facts, container: bool) -> Iterator[Obstacle]:
    role = facts.role
    if not container:
        return
    if role is None:
        if not facts.superuser:
            yield Obstacle(
                f"there is no role {ROLE}, and the account may not make one", f"CREATE ROLE {ROLE} LOGIN REPLICATION;"
            )
    elif role.superuser or not (role.login and role.replication):
        cause = "is a superuser" if role.superuser else "may not log in for replication"
        yield Obstacle(f"the role {ROLE} is there and {cause}", f"ALTER ROLE {ROLE} LOGIN REPLICATION NOSUPERUSER;")


def allowing(container: bool, user: str) -> str:
    """The line of pg_hba.conf that lets the receiver in; before all others, then reload."""
    return f"host replication {user} 127.0.0.1/32 trust" if container else f"local replication {user} peer"


def _closed(lines: Sequence[Rule], *, container: bool, user: str) -> Optional[Obstacle]:
    """The line that refuses the receiver; None where one lets it in, or where only trying can tell."""
    if not lines or any(rule.error is not None for rule in lines):
        return None
    types = ("host", "hostnossl", "hostssl", "hostnogssenc") if container else ("local",)
    opening = ("trust",) if container else ("trust", "peer")
    remedy = f"{allowing(container, user)}   (first line of pg_hba.conf, then SELECT pg_reload_conf();)"
    for rule in lines:
        if rule.type not in types or "replication" not in rule.databases:
            continue
        if any(name.startswith(("+", "/")) for name in rule.users):
            return None
        if not {"all", user} & {*rule.users}:
            continue
        near = hba.loopback(rule) if container else True
        if near is None:
            return None
        if near:
            return None if rule.method in opening else Obstacle(f"pg_hba.conf has {named(rule.text)}", remedy)
    return Obstacle("pg_hba.conf has no line for replication by this way (`all` does not include it)", remedy)


def refuse(stack: str, obstacles: Sequence[Obstacle]) -> None:
    """Raise UsageError where anything is in the way: all of it at once, each with its line."""
    if obstacles:
        cause = "; ".join(item.cause for item in obstacles)
        lines = "\n".join(f"  {item.allow}" for item in obstacles)
        raise UsageError(ENABLE, stack, cause, f"Nothing was changed. What would allow it:\n{lines}")
