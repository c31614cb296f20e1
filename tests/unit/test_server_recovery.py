# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recovery of a server with several databases: which are replaced, which are untouched, and what is said of each."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import types
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, Optional, cast

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base import text as base_text
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import (
    aside,
    clients,
    cluster,
    held,
    listed,
    logins,
    planned,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.assess import Assessment, Reference
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods import registry
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.base import (
    Method,
    Restoration,
    ServerMode,
    Window,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import method
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Living, Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema
from ansible_collections.lifeboat.dr.plugins.module_utils.faces.words import quarantined
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.proof import Result as Judged
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.protect import Protected
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import DAMAGED, DOWN, HEALTHY
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import details
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from builders import FACTS, NOW, PLAN, fingerprint, folder, make_config, make_manifest, store

ODD = "b\udcfccher"  # in LATIN1
SHOWN = "b\\xfccher"
OTHERS = (ODD, "postgres")
NAMES = ("shop", SHOWN, "postgres")


def dump(name: str, place: str) -> dict[str, Any]:
    counts = {"level": "content", "tables": 1, "rows": 7, "large_objects": 0, "objects": 1}
    taken_at = "2026-11-24T12:00:01.000Z"
    return {"name": name, "folder": place, "taken_at": taken_at, "size": 500, "relations": 3, "fingerprint": counts}


def publish(
    root: Path, others: Optional[tuple[str, ...]] = OTHERS, at: datetime = NOW,
    tables: Optional[dict[str, tuple[str, ...]]] = None, **details: Any,
) -> Manifest:  # fmt: skip
    """A backup of the server, with the application's database and these. tables: of those that have others."""

    def facts(name: str) -> bytes:
        names = (tables or {}).get(name, tuple(FACTS["tables"]))
        return json.dumps({**FACTS, "tables": dict.fromkeys(names, FACTS["tables"]["public.t"])}).encode()

    files = {"database.dump": b"dump", "globals.sql.gz": b"roles", "fingerprint.json": facts("shop")}
    dumps = [dump(name, f"databases/{number:03d}") for number, name in enumerate(others or (), 1)]
    for item in dumps:
        files[f"{item['folder']}/database.dump"] = item["folder"].encode()
        files[f"{item['folder']}/fingerprint.json"] = facts(item["name"])
    artefacts = tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    more = {} if others is None else {"others": dumps}
    backup = make_manifest(at, artefacts=artefacts, details={**more, **details})
    (root / "backup").mkdir(exist_ok=True)
    with store(root).stage("database", backup.id) as staging:
        for name, data in files.items():
            (staging.path / name).parent.mkdir(parents=True, exist_ok=True)
            (staging.path / name).write_bytes(data)
        staging.publish(backup.to_bytes())
    return backup


def spoil(root: Path, backup: Manifest, name: str) -> None:
    path = folder(root, backup) / name
    path.write_bytes(b"X" * path.stat().st_size)


# --- which databases a backup holds ---


def test_the_application_s_database_has_the_configured_name() -> None:
    manifest = make_manifest(details={"others": [dump("blog", "databases/001"), dump("postgres", "databases/002")]})
    names = [(item.live, item.dump.folder, item.primary) for item in held.of(manifest)]
    assert names == [("shop", "", True), ("blog", "databases/001", False), ("postgres", "databases/002", False)]
    assert [item.live for item in held.of(manifest, "store")] == ["store", "blog", "postgres"], "it was renamed"
    names = [(item.live, item.dump.folder, item.primary) for item in held.of(manifest, "blog")]
    assert names == [("blog", "databases/001", True), ("shop", "", False), ("postgres", "databases/002", False)]


def test_a_database_is_named_as_it_is_shown(tmp_path: Path) -> None:
    found = held.of(publish(tmp_path), "shop")
    assert held.find(found, SHOWN, "x").live == ODD
    with pytest.raises(NotFoundError, match=r"\(blog\): x holds shop, b\\xfccher, postgres"):
        held.find(found, "blog", "x")


def test_two_databases_that_are_printed_alike_are_not_taken_for_one_another(tmp_path: Path, server: Server) -> None:
    """The name is how the later phases know a database: they would restore one of them twice, and the other never."""
    alike = held.of(publish(tmp_path, (ODD, SHOWN, "postgres")), "shop")
    with pytest.raises(UsageError, match="2 databases of x are printed so"):
        held.find(alike, SHOWN, "x")
    assert held.find(alike, "postgres", "x").live == "postgres"


ALIKE = {
    "shop_quarantine_20261124_020000": True, "shop_restore_20261124_020000": True, "lifeboat_verify": False,
    "lifeboat_any_bytes": False, "shop\nx_restore_20261124_020000": True, "shop": False, "quarantine_2026": False,
    "shop_quarantine_20261124_020000_old": False,
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_databases_called_as_those_that_runs_of_ours_make(name: str) -> None:
    assert database_server.alike(name) is ALIKE[name]


def test_a_template_that_somebody_made_is_a_database_like_any_other() -> None:
    """It may be the only one of its kind, and full: tests/integration/test_databases.py has one in a backup."""
    for sql in (listed.LISTED, database_server._LIVING):
        assert "datistemplate" not in sql
        assert "NOT IN ('template0', 'template1')" in sql


@pytest.mark.parametrize("folder", [False, True])
def test_only_what_was_recorded_is_ours(tmp_path: Path, folder: bool) -> None:
    made = database_server.Made(tmp_path / "state" / "made" if folder else None)
    assert made.names() == set()
    names = {"shop_restore_20261124_020000", "..", "a/b\n%41", ODD, "語" * 21, "a" * 63}
    for name in names:
        made.add(name)
        made.add(name)
    if folder:
        made = database_server.Made(tmp_path / "state" / "made")
    assert made.names() == names
    for name in names:
        made.forget(name)
        made.forget(name)
    assert made.names() == set()


def test_a_record_that_cannot_be_kept_ends_the_run_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("in the way")
    with pytest.raises(LifeboatError, match="remember which databases Lifeboat made"):
        database_server.Made(tmp_path / "made").add("x")


LONG = [
    ("a" * 63, "_x", "a" * 61 + "_x"),
    ("語" * 21, "_xy", "語" * 20 + "_xy"),
    ("\udce9" * 63, "_x", "\udce9" * 61 + "_x"),
]


@pytest.mark.parametrize(("name", "suffix", "wanted"), LONG)
def test_a_name_is_cut_at_a_character_and_no_byte_is_lost(name: str, suffix: str, wanted: str) -> None:
    assert database_server.fit_name(name, suffix) == wanted


# --- assess ---


class Server:
    """Databases of what a test says: a list of tables, or why they cannot be read."""

    database, user, host = "shop", "postgres", ""

    free: Optional[int] = None  # where its tools run

    def free_bytes(self) -> Optional[int]:
        return self.free

    def __init__(self, **content: Any) -> None:
        self.content: dict[str, Any] = {"shop": ["public.t"], ODD: ["public.t"], "postgres": ["public.t"], **content}
        self.closed: list[str] = []
        self.bounded: list[str] = []
        self.gone: Optional[LifeboatError] = None
        self.looked: list[str] = []
        self.identifier = FACTS["facts"]["system_identifier"]
        self.around: dict[str, list[Any]] = {}

    def living(self) -> list[Living]:
        there = [name for name, tables in self.content.items() if tables is not None]
        return [Living(name, name not in self.closed, name in self.bounded) for name in there]

    def problem(self) -> Optional[LifeboatError]:
        return self.gone

    def major(self) -> int:
        return 17

    def execute(self, sql: str, *, database: str = "template1", **_: Any) -> list[Any]:
        if "'filled'" in sql:
            return [{"bytes": 900, "filled": database != "postgres"}]
        if "pg_control_system" in sql:
            return [self.identifier]
        if around := next((rows for words, rows in self.around.items() if words in sql), None):
            return around
        if "pg_shdepend" in sql:
            return [0]
        if "pg_roles" in sql:
            return ["postgres"]
        if any(words in sql for words in ("pg_replication_slots", "pg_replication_origin", "has_table_privilege")):
            return []
        if "pg_depend" in sql:
            return [not self.content[database]]
        self.looked.append(database)
        tables = self.content[database]
        if callable(tables):
            tables = tables()
        if isinstance(tables, str):
            raise LifeboatError("list", database, tables)
        return [{"name": name, "unlogged": False} for name in tables]

    def session(self, database: str) -> Server:
        del database
        return self

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self, sql: str, *, attempted: str) -> list[Any]:
        del sql, attempted
        return [500]


class Stack:
    def __init__(self, up: bool) -> None:
        self.up = up

    def state(self, service: str) -> ServiceState:
        del service
        return ServiceState(exists=True, running=self.up, status="running" if self.up else "exited")

    def data_path(self, service: str) -> str:
        return "/var/lib/postgresql/data"

    def data_mount(self, service: str, inside: str) -> DataMount:
        return DataMount("", "", Path())

    def dependants(self, service: str) -> list[str]:
        del service
        return ["backend"]

    def logs(self, service: str, lines: int = 30) -> str:
        del service, lines
        return ""

    def one_offs(self, *services: str) -> list[str]:
        del services
        return []

    def addresses(self, services: Any, one_offs: Any) -> set[str]:
        del services, one_offs
        return set()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(runtime, "connect", lambda config: Stack(True))
    monkeypatch.setattr(database_server, "reach", lambda run: Reached(found))
    monkeypatch.setattr(database_server, "connect", lambda config, stack, backup=False: found)
    monkeypatch.setattr(database_plan, "_require_major", lambda *_: None)
    monkeypatch.setattr(database_plan, "_require_space", lambda *_: None)
    monkeypatch.setattr(database_plan, "_require_no_prepared", lambda *_: None)
    monkeypatch.setattr(database_plan, "_clients", lambda *_: [])
    monkeypatch.setattr(database_assess, "PATIENCE", 0)
    return found


def look(tmp_path: Path) -> Assessment:
    others = [dump(name, f"databases/{number:03d}") for number, name in enumerate(OTHERS, 1)]
    backup = make_manifest(details={"others": others})
    expected = {place: fingerprint() for place in ("", "databases/001", "databases/002")}
    return database_assess.assess(Opened(make_config(tmp_path)), Reference(backup, expected))


def test_every_database_is_looked_at_the_application_s_first(tmp_path: Path, server: Server) -> None:
    found = look(tmp_path)
    assert (found.condition, found.findings, found.damaged) == (HEALTHY, (), ())
    assert server.looked == ["shop", ODD, "postgres"]
    assert found.databases == ("shop", ODD, "postgres")


WRONG: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    ({ODD: None}, (ODD,), (f"the database {SHOWN} is missing",)),
    ({ODD: []}, (ODD,), (f"{SHOWN}: the table public.t is missing",)),
    ({"shop": []}, ("shop",), ("shop: the table public.t is missing",)),
    ({"postgres": "it is gone"}, ("postgres",), ("the database postgres cannot be read: it is gone",)),
    ({"shop": None, ODD: None}, ("shop", ODD), ("the database shop is missing", f"the database {SHOWN} is missing")),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "damaged", "findings"), WRONG)
def test_which_databases_are_wrong(
    tmp_path: Path, server: Server, changes: dict[str, Any], damaged: tuple[str, ...], findings: tuple[str, ...]
) -> None:
    server.content.update(changes)
    found = look(tmp_path)
    assert (found.condition, found.damaged, found.findings) == (DAMAGED, damaged, findings)


def test_another_database_that_only_cannot_be_seen_is_not_damaged(tmp_path: Path, server: Server) -> None:
    """What a second look finds whole, what accepts no connection of ours, and what a dead server could not show."""
    answers = [["public.t"], "the database system is in recovery mode"]
    server.content[ODD] = answers.pop
    assert look(tmp_path).condition == HEALTHY
    server.closed = [ODD]
    found = look(tmp_path)
    assert (found.condition, found.unchecked) == (HEALTHY, (f"the database {SHOWN} does not accept our connections",))
    server.closed, server.bounded, server.content[ODD] = [], [ODD], "too many connections"
    found = look(tmp_path)
    assert (found.condition, "too many connections" in found.unchecked[0]) == (HEALTHY, True)
    server.bounded, server.gone = [], LifeboatError("reach", "it", "gone")
    found = look(tmp_path)
    assert (found.condition, "stopped answering" in found.unchecked[0]) == (HEALTHY, True)


def test_a_fingerprint_that_cannot_be_read_leaves_its_database_unchecked(tmp_path: Path, server: Server) -> None:
    backup = publish(tmp_path)
    spoil(tmp_path, backup, "databases/001/fingerprint.json")
    made = make(tmp_path)
    assert (made.condition, made.unchecked) == (
        HEALTHY, (f"the database {SHOWN}: its fingerprint in {backup.id} cannot be read",),
    )  # fmt: skip


# --- plan ---


def make(tmp_path: Path, **asked: Any) -> planned.Plan:
    return database_plan.make(Opened(make_config(tmp_path)), database_plan.Request(**asked), log=lambda _: None)


def actions(made: planned.Plan) -> tuple[str, ...]:
    return tuple(item.action for item in made.databases)


U, R, C, Q = "untouched", "restored", "copied", "quarantined"
# (what is wrong, what is asked) -> (mode, what happens to shop, the odd one, postgres)
PLANS: list[tuple[dict[str, Any], dict[str, Any], str, tuple[str, ...]]] = [
    ({}, {}, "none", (U, U, U)),
    ({}, {"force": True}, "swap", (R, U, U)),
    ({"shop": []}, {}, "swap", (R, U, U)),
    ({ODD: None}, {}, "swap", (U, R, U)),
    ({ODD: None}, {"force": True}, "swap", (R, R, U)),
    ({"shop": [], ODD: None}, {"database": SHOWN}, "swap", (U, R, U)),
    ({"shop": []}, {"database": SHOWN}, "none", (U, U, U)),
    ({}, {"database": SHOWN, "force": True}, "swap", (U, R, U)),
    ({}, {"method": "rebuild", "force": True}, "rebuild", (R, R, R)),
]


@pytest.mark.parametrize(("changes", "asked", "mode", "wanted"), PLANS)
def test_what_happens_to_each_database(
    tmp_path: Path, server: Server, changes: dict[str, Any], asked: dict[str, Any], mode: str, wanted: tuple[str, ...]
) -> None:
    publish(tmp_path)
    server.content.update(changes)
    made = make(tmp_path, **asked)
    assert (made.mode, actions(made)) == (mode, wanted)
    assert tuple(item.name for item in made.databases) == NAMES
    assert made.target == asked.get("database", "shop")
    text = "\n".join(database_plan.text(made))
    for item in made.databases:
        assert (f"database {item.name}: {item.action} ({item.why})" in text) is made.needed
    told = json.loads(json.dumps(Result(made).values([])))
    assert typed.build(
        planned.Plan, {key: told[key] for key in told if key != "changed"}, wrong
    ) == dataclasses.replace(made, backup=told["backup"])
    assert "\\udc" not in json.dumps(told), "Ansible takes no such text"


def wrong(field: str, cause: str) -> UsageError:
    return UsageError("read the plan", field, cause)


def test_the_plan_tells_from_when_on_data_will_be_missing(tmp_path: Path, server: Server) -> None:
    publish(tmp_path)
    server.content[ODD] = None
    text = database_plan.text(make(tmp_path))
    assert f"data written after 2026-11-24T12:00:01.000Z will be missing from {SHOWN}; it is kept aside" in text


REPLAY = planned.Replay(
    "the last loss of app.items", "", "0/A41607C8", 2, "base_backup_20261124_013000", "2026-11-24T01:30:00.000Z",
    1 << 30, "",
)  # fmt: skip


def test_the_plan_of_an_instant_says_how_a_backup_of_it_is_taken(tmp_path: Path, server: Server) -> None:
    """The newest backup only says what to expect: its bytes do not count, and nothing of it is held."""
    newest = publish(tmp_path)
    spoil(tmp_path, newest, "database.dump")
    server.content["shop"] = []
    made = make(tmp_path, replay=REPLAY, state=REPLAY.instant)
    assert (made.needed, made.mode, made.replay, made.state) == (True, "swap", REPLAY, REPLAY.instant)
    assert [step.split(":")[0] for step in made.steps[:4]] == ["stand", "back up", "plan", "protect"]
    text = "\n".join(database_plan.text(made))
    assert "all that was committed before the last loss of app.items, on timeline 2:" in text
    assert "base_backup_20261124_013000 taken 2026-11-24T01:30:00.000Z, and at most 1.1 GB of WAL behind it" in text
    assert "data written after that instant will be missing from shop" in text
    assert f"backup: {newest.id}" not in text
    assert made == typed.build(planned.Plan, json.loads(json.dumps(typed.plain(made))), wrong)


def test_where_no_server_answers_a_dump_of_the_instant_is_one_that_there_is(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A throw-away server has no settings of it; a base is another way (test_physical.py)."""
    first = publish(tmp_path)
    publish(tmp_path, at=first.taken_at + timedelta(days=1))
    monkeypatch.setattr(runtime, "connect", lambda config: Stack(False))
    monkeypatch.setattr(database_server, "reach", lambda run: Reached(None))
    time = (first.taken_at + timedelta(minutes=90)).isoformat()
    replay = replace(REPLAY, instant=time, recovery_time=time, before="")
    made = make(tmp_path, replay=replay, state=time, method="rebuild")
    assert (made.mode, made.backup["id"], made.replay) == ("rebuild", first.id, None)
    assert database_plan.text(made)[0].startswith("NOT the instant that was asked for, ")
    with pytest.raises(UsageError, match=r"shop alone, at .*, needs a server that answers"):
        make(tmp_path, replay=replay, state=time, database="shop")
    position = replace(REPLAY, recovery_time="", before="0/100")
    with pytest.raises(UsageError, match="is a position in the WAL"):
        make(tmp_path, replay=position, state=time, method="rebuild")


def test_the_backup_of_an_instant_is_what_was_asked_for(tmp_path: Path, server: Server) -> None:
    """A healthy server has it once it came back from there, however the instant was named."""
    taken = publish(tmp_path)
    made = make(tmp_path, identity=taken.id, state=REPLAY.instant)
    assert (made.needed, made.state, made.replay) == (True, REPLAY.instant, None)
    database_recovery.remember(
        make_config(tmp_path), {"id": taken.id, "asked": REPLAY.instant, "at": "T", "databases": ["shop"]}
    )
    again = make(tmp_path, replay=REPLAY, state=REPLAY.instant)
    assert (again.needed, again.replay) == (False, None)


def test_a_time_that_no_backup_has_is_said_first(tmp_path: Path, server: Server) -> None:
    taken = publish(tmp_path)
    asked = taken.taken_at + timedelta(minutes=90)
    first = database_plan.text(make(tmp_path, before=asked))[0]
    assert first.startswith("NOT the instant that was asked for, 2026-11-24T13:30:00.000Z: what comes back is of")
    assert first.endswith(", 1:30:00 earlier")
    assert "NOT" not in database_plan.text(make(tmp_path, before=taken.taken_at))[0]
    assert "NOT" not in database_plan.text(make(tmp_path, identity=taken.id))[0]


class Reaching(method.Logical):
    """One that copies the whole server and its log of the hour after."""

    name, lost, require_room = "reaching", Method.lost, Method.require_room

    def reaches(self, manifest: Manifest, target: Optional[datetime]) -> Window:
        return Window(manifest.taken_at, manifest.taken_at + timedelta(hours=1))

    def mode(self, assessment: Assessment) -> ServerMode:
        return "empty"


def test_the_plan_of_an_instant_between_two_backups(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.METHODS, Reaching.name, Reaching())
    whole = publish(tmp_path, None, method=Reaching.name, fingerprint={})
    dumped = publish(tmp_path, at=NOW + timedelta(minutes=30))
    server.content["shop"] = None
    made = make(tmp_path, before=NOW + timedelta(minutes=45), others="aside")
    text = database_plan.text(made)
    assert (made.mode, made.backup["id"], made.until) == ("rebuild", whole.id, "2026-11-24T12:45:00.000Z")
    assert "data written after 2026-11-24T12:45:00.000Z will be missing from shop; it is kept aside" in text
    assert any(line.startswith(f"backup: {whole.id} taken") and "a copy of the server" in line for line in text)
    assert any(f"then {whole.id} (2026-11-24T12:45:00.000Z)" in step for step in made.steps)
    assert Result(made).values([])["until"] == "2026-11-24T12:45:00.000Z"
    snapshot = make(tmp_path, before=NOW + timedelta(minutes=30))
    assert (snapshot.mode, snapshot.backup["id"], snapshot.until) == ("swap", dumped.id, "")
    assert "until" not in Result(snapshot).values([])


def test_space_is_needed_for_all_that_is_restored(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(database_plan, "_require_space", lambda config, stack, size: sizes.append(size))
    publish(tmp_path)
    server.content[ODD] = None
    make(tmp_path)
    make(tmp_path, force=True, method="rebuild")
    assert sizes == [500, 1000 + 2 * 500]


def test_a_dump_must_fit_to_where_the_tools_run_before_anything_is_stopped(tmp_path: Path, server: Server) -> None:
    """It was copied to /var/tmp after the writers had been stopped, and did not fit."""
    backup = publish(tmp_path)
    (needed,) = [one.size for one in backup.artefacts if one.name == "databases/001/database.dump"]
    server.content[ODD] = None
    server.free = needed - 1
    with pytest.raises(SpaceError, match=r"about .* needed for a copy of the dump") as caught:
        make(tmp_path)
    assert (caught.value.subject, caught.value.remedy) == (
        "/var/tmp where PostgreSQL's tools run", "Free space there: nothing was changed yet."
    )  # fmt: skip
    server.free = 2 * needed
    assert make(tmp_path).needed


def test_a_write_ahead_log_outside_of_the_data_is_named(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`initdb --waldir`: a rebuild puts aside the data without it, and initdb refuses a directory with the old one."""
    publish(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(Stack, "data_mount", lambda self, service, inside: DataMount("volume", "data", data))
    assert not [line for line in make(tmp_path, force=True, method="rebuild").warnings if "write-ahead" in line]
    (data / "pg_wal").symlink_to("/wal/17")
    (line,) = [line for line in make(tmp_path, force=True, method="rebuild").warnings if "write-ahead" in line]
    assert line.startswith(
        "the write-ahead log of db lies in /wal/17, outside of its data (initdb --waldir): a rebuild"
    )
    server.content[ODD] = None
    assert not [line for line in make(tmp_path).warnings if "write-ahead" in line], "nothing of it is put aside"


def test_a_server_that_is_down_gets_every_database_unless_it_comes_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = publish(tmp_path, excluded=["scratch"], missing={"closed": "it accepts no connections"})
    monkeypatch.setattr(runtime, "connect", lambda config: Stack(False))
    made = make(tmp_path, identity=backup.id)
    assert (made.condition, made.mode, actions(made)) == (DOWN, "start", (R, R, R, Q, Q))
    assert made.unchecked == (database_plan.UNKNOWN_OTHERS,)
    assert "it is excluded from backups" in made.databases[3].why
    assert "it accepts no connections" in made.databases[4].why


@pytest.mark.parametrize("others", [None, ("postgres",)])
def test_a_rebuild_that_would_lose_a_database_is_refused_until_one_is_chosen(
    tmp_path: Path, server: Server, others: Optional[tuple[str, ...]]
) -> None:
    """The earlier form of a backup, and a database made since. The `postgres` that every server has is no loss."""
    publish(tmp_path, others)
    asked: dict[str, Any] = {"force": True, "method": "rebuild"}
    with pytest.raises(UsageError, match=r"\(b\\xfccher\): .*-e others=restore .*-e others=aside") as raised:
        make(tmp_path, **asked)
    assert "postgres" not in raised.value.subject
    by_name = {item.name: item for item in make(tmp_path, others="restore", **asked).databases}
    assert (by_name[SHOWN].action, by_name[SHOWN].size) == (C, 900)
    assert by_name["postgres"].action == (U if others is None else R)
    made = make(tmp_path, others="aside", **asked)
    assert {item.name: item.action for item in made.databases}[SHOWN] == Q
    made = make(tmp_path, others="restore", **asked)
    assert made.steps[1].startswith(f"protect: dump {SHOWN} out of the server")
    assert make(tmp_path, force=True).replaced == ("shop",), "a swap touches none"


def test_a_plan_that_another_run_disturbs_says_so(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions are ended by a recovery that has begun since, or has its turn now."""
    publish(tmp_path)
    one, lock_at = make_config(tmp_path), tmp_path / "locks"
    monkeypatch.setattr(lock, "DIRECTORY", lock_at)
    monkeypatch.setattr(lock, "_directory", lambda: lock_at)

    def disturbed(*_: Any, **__: Any) -> Any:
        raise LifeboatError("look for prepared transactions", "template1", "terminating connection", "Look.")

    def begun(*_: Any, **__: Any) -> Any:
        with recovery_state.own_turn(one, "restore the database", "S"):
            disturbed()

    monkeypatch.setattr(database_plan, "_make", disturbed)
    with pytest.raises(LifeboatError, match="terminating connection") as raised:
        make(tmp_path)
    assert not isinstance(raised.value, LockedError), "nobody else is at work"
    monkeypatch.setattr(database_plan, "_make", begun)
    with pytest.raises(LockedError, match=r"another run \(restore the database, at .*; nothing was done") as raised:
        make(tmp_path)
    assert "terminating connection" in raised.value.cause and raised.value.subject == "template1"
    monkeypatch.setattr(database_plan, "_make", disturbed)
    with (
        lock.held(one.stack, "restore"),
        recovery_state.own_turn(one, "restore the database", "S"),
        pytest.raises(LockedError, match="nothing was done"),
    ):
        make(tmp_path)


def test_what_cannot_be_planned(tmp_path: Path, server: Server) -> None:
    publish(tmp_path, None)
    with pytest.raises(NotFoundError, match=r"\(postgres\): db_backup_20261124_120000 holds shop\."):
        make(tmp_path, database="postgres")
    with pytest.raises(UsageError, match="method=rebuild replaces every database, not shop alone"):
        make(tmp_path, database="shop", method="rebuild", force=True)


def test_a_broken_dump_of_another_database_does_not_pass_the_backup_over(tmp_path: Path, server: Server) -> None:
    backup = publish(tmp_path)
    spoil(tmp_path, backup, "databases/001/database.dump")
    assert not make(tmp_path, force=True).warnings, "it is not to be restored"
    made = make(tmp_path, force=True, method="rebuild")
    assert (made.backup["id"], made.passed_over) == (backup.id, ())
    assert f"{SHOWN} cannot be restored from {backup.id}: databases/001/database.dump has another" in made.warnings[0]
    server.content[ODD] = None
    with pytest.raises(NotFoundError, match="No backup is whole"):
        make(tmp_path)


# --- a backup that is good for some of its databases ---


def judge(tmp_path: Path, backup: Manifest, *spoiled: str, level: str = "restore") -> None:
    """Leave the verdict that these databases of the backup are not what they should be."""
    names = [item.dump.name for item in held.of(backup)]
    databases = {
        name: (checks.FAIL, f"restore of {base_text.named(name)}: x") if name in spoiled else (checks.PASS, "")
        for name in names
    }
    said = (checks.Check("checksums", checks.PASS), checks.Check("restore", checks.FAIL, "x"))
    result = Judged(backup.id, level, said, backup.taken_at, backup.taken_at, databases=databases)
    operations_verify.keep(Opened(make_config(tmp_path)), store(tmp_path), backup, result)


def test_a_spoiled_database_spoils_the_backup_for_no_other(tmp_path: Path, server: Server) -> None:
    older, newer = publish(tmp_path, at=NOW - timedelta(days=1)), publish(tmp_path)
    judge(tmp_path, newer, ODD)
    server.content["shop"] = []
    made = make(tmp_path)
    assert (made.backup["id"], made.passed_over, made.replaced) == (newer.id, (), ("shop",))
    assert made.accepted == ()
    assert "\\udc" not in json.dumps(Result(made).values([])), "Ansible takes no such text"
    text = "\n".join(database_plan.text(made))
    assert f"{newer.id} is not good for the database {SHOWN}: verification at level restore failed" in text
    server.content.update({"shop": ["public.t"], ODD: None})
    made = make(tmp_path)
    assert (made.backup["id"], made.replaced) == (older.id, (SHOWN,))
    assert [item.id for item in made.passed_over] == [newer.id]


def test_a_named_backup_serves_for_the_databases_that_are_good_in_it(tmp_path: Path, server: Server) -> None:
    backup = publish(tmp_path)
    judge(tmp_path, backup, ODD)
    made = make(tmp_path, identity=backup.id, database="postgres")
    assert (made.backup["id"], made.replaced, made.accepted) == (backup.id, ("postgres",), ())
    with pytest.raises(IntegrityError, match=r"verification at level restore failed.*-e accept=failed"):
        make(tmp_path, identity=backup.id, database=SHOWN)


def test_a_backup_is_accepted_for_the_databases_that_its_verdict_fails(tmp_path: Path, server: Server) -> None:
    backup = publish(tmp_path)
    judge(tmp_path, backup, ODD)
    made = make(tmp_path, identity=backup.id, database=SHOWN, accept=True, force=True)
    assert made.accepted == (f"{SHOWN}: verification at level restore failed (restore of {SHOWN}: x)",)
    assert make(tmp_path, identity=backup.id, accept=True, force=True).accepted == (), "the application's is good"
    spoil(tmp_path, backup, "databases/002/database.dump")
    with pytest.raises(IntegrityError, match=f"another SHA-256.*lifeboat verify {backup.id}"):
        make(tmp_path, identity=backup.id, database="postgres", accept=True, force=True)


def test_a_spoiled_application_s_database_does_not_drag_the_others_back(tmp_path: Path, server: Server) -> None:
    """Both are damaged: the application's comes from the older backup, the other must not."""
    older, newer = publish(tmp_path, at=NOW - timedelta(days=1)), publish(tmp_path)
    judge(tmp_path, newer, "shop")
    server.content.update({"shop": [], ODD: None})
    made = make(tmp_path)
    assert (made.backup["id"], made.replaced) == (older.id, ("shop",))
    assert (
        made.databases[1].why == f"it is damaged, and {newer.id} has a newer good copy: the same command takes it then"
    )
    assert [gap.what for gap in made.untested] == [f"the database {SHOWN}"]
    server.content["shop"] = ["public.t"]
    made = make(tmp_path)
    assert (made.backup["id"], made.replaced) == (newer.id, (SHOWN,))


def test_of_several_others_a_spoiled_one_passes_the_backup_over_for_itself_alone(
    tmp_path: Path, server: Server
) -> None:
    publish(tmp_path, at=NOW - timedelta(days=1))
    newer = publish(tmp_path)
    judge(tmp_path, newer, ODD)
    server.content.update({ODD: None, "postgres": None})
    made = make(tmp_path)
    assert made.backup["id"] == newer.id
    assert any(f"{SHOWN} cannot be restored from {newer.id}" in line for line in made.warnings)


def test_a_rebuild_takes_the_newest_backup_that_is_good_for_the_application(tmp_path: Path, server: Server) -> None:
    older, newer = publish(tmp_path, at=NOW - timedelta(days=1)), publish(tmp_path)
    judge(tmp_path, newer, ODD)
    made = make(tmp_path, force=True, method="rebuild")
    assert made.backup["id"] == newer.id
    assert any(f"{SHOWN} cannot be restored from {newer.id}" in line for line in made.warnings)
    judge(tmp_path, newer, "shop")
    made = make(tmp_path, force=True, method="rebuild")
    assert made.backup["id"] == older.id
    assert f"{newer.id} has a newer good copy of the database postgres" in "\n".join(made.warnings)


def test_a_spoiled_database_is_held_against_a_backup_in_which_it_is_good(tmp_path: Path, server: Server) -> None:
    """Its fingerprint may be what is wrong: a healthy database must not look damaged by it."""
    publish(tmp_path, at=NOW - timedelta(days=1))
    newer = publish(tmp_path, tables={"shop": ("public.t", "public.new"), ODD: ("public.t", "public.new")})
    judge(tmp_path, newer, ODD)
    made = make(tmp_path)
    assert made.findings == ("shop: the table public.new is missing",)
    assert made.backup["id"] == newer.id


def test_a_backup_that_holds_far_less_is_no_choice_because_another_database_is_spoiled(
    tmp_path: Path, server: Server
) -> None:
    publish(tmp_path, at=NOW - timedelta(days=1))
    few = {"level": "content", "tables": 1, "rows": 1, "large_objects": 0, "objects": 1}
    newer = publish(tmp_path, fingerprint=few)
    judge(tmp_path, newer, ODD)
    server.content["shop"] = []
    with pytest.raises(UsageError, match="which of them is right is not ours to guess"):
        make(tmp_path)


def test_a_prune_keeps_the_last_good_copy_of_each_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    nights = [publish(tmp_path, at=NOW - timedelta(days=days)) for days in (40, *range(10, -1, -1))]
    for night in nights[1:]:
        judge(tmp_path, night, ODD)
        judge(tmp_path, night, ODD)  # a second look: no doubt is left
    rules = {"daily_days": 5, "weekly_months": 0, "monthly_months": 0, "minimum": 1}
    opened = Opened(make_config(tmp_path, retention=rules))
    done = operations_prune.prune(opened, now=NOW + timedelta(hours=1), dry_run=False, log=lambda _: None)
    assert done["delete"] == [night.id for night in nights[1:-6]]
    assert done["keep"][nights[0].id][-1] == f"database {SHOWN}: floor: newest 1"
    publish(tmp_path, at=NOW + timedelta(days=1))
    done = operations_prune.prune(opened, now=NOW + timedelta(days=1), dry_run=False, log=lambda _: None)
    assert nights[0].id in done["delete"], "the newest one has a good copy of it"


# --- what the chosen backup, newer ones and the server have ---

DAY = timedelta(days=1)
FEW = {"level": "content", "tables": 2, "rows": 9, "large_objects": 0, "objects": 1}


def dropped(backup: Manifest) -> str:
    return (
        f"the database {SHOWN} is neither on the server nor in the newest backup: it counts as dropped on purpose; if"
        f" it was not: -e recovery_point={backup.id} -e database={SHOWN}"
    )


def test_what_only_the_newest_backup_holds_is_missed_too(tmp_path: Path, server: Server) -> None:
    """The fuller one before it is what the rows are compared with, and knows nothing of what came since."""
    full = publish(tmp_path, ("postgres",), NOW - DAY)
    publish(tmp_path, (ODD, "postgres"), tables={"shop": ("public.t", "public.new")}, fingerprint=FEW)
    server.content = {"shop": ["public.t", "public.new"], ODD: ["public.t"], "postgres": ["public.t"]}
    assert make(tmp_path).condition == HEALTHY
    server.content[ODD] = None
    seen = database_assess.assess(
        Opened(make_config(tmp_path)),
        database_assess.reference_of(Sources(Opened(make_config(tmp_path)), "database")),
    )
    assert (seen.condition, seen.findings) == (DAMAGED, (f"the database {SHOWN} is missing",))
    with pytest.raises(UsageError, match=f"-e recovery_point={full.id}"):
        make(tmp_path)
    server.content[ODD], server.content["shop"] = ["public.t"], ["public.t"]
    with pytest.raises(UsageError, match=f"-e recovery_point={full.id}"):
        make(tmp_path)


def test_a_database_that_was_dropped_on_purpose_stops_no_automatic_choice(tmp_path: Path, server: Server) -> None:
    before = publish(tmp_path, at=NOW - DAY)
    newest = publish(tmp_path, ("postgres",))
    server.content[ODD] = None
    made = make(tmp_path)
    assert (made.condition, made.mode, made.warnings) == (HEALTHY, "none", (dropped(before),))
    server.content["shop"] = []
    made = make(tmp_path)
    assert (made.backup["id"], made.mode, actions(made)) == (newest.id, "swap", (R, U))
    assert made.warnings == (dropped(before),)
    made = make(tmp_path, identity=before.id, database=SHOWN)
    assert (made.replaced, made.warnings) == ((SHOWN,), ())


def test_what_was_dropped_is_not_missed_for_the_sake_of_a_fuller_backup(tmp_path: Path, server: Server) -> None:
    """The rows are compared with that one; of what was dropped since, it knows nothing."""
    full = publish(tmp_path, at=NOW - DAY)
    publish(tmp_path, ("postgres",), fingerprint=FEW)
    server.content[ODD] = None
    made = make(tmp_path)
    assert (made.condition, made.needed, dropped(full) in made.warnings) == (HEALTHY, False, True)
    server.content[ODD] = []
    with pytest.raises(UsageError, match=f"-e recovery_point={full.id}"):
        make(tmp_path)


def test_no_database_is_dropped_that_a_backup_could_not_hold(tmp_path: Path, server: Server) -> None:
    publish(tmp_path, at=NOW - DAY)
    server.content[ODD] = None
    for more in ({"excluded": [ODD]}, {"missing": {ODD: "it takes no connections"}}, {"created": [ODD]}):
        publish(tmp_path, ("postgres",), **more)
        assert not [line for line in make(tmp_path).warnings if "dropped on purpose" in line]
        shutil.rmtree(folder(tmp_path, make_manifest()))


def test_a_backup_that_lacks_another_database_is_taken_for_what_it_holds(tmp_path: Path, server: Server) -> None:
    """Not the night before, for the sake of a database that nobody lost."""
    publish(tmp_path, at=NOW - DAY)
    newest = publish(tmp_path, ("postgres",), missing={ODD: "it takes no connections"})
    server.content["shop"] = []
    made = make(tmp_path)
    assert (made.backup["id"], made.replaced, made.passed_over) == (newest.id, ("shop",), ())
    assert f"{newest.id} is not good: the database {SHOWN} is not in it: it takes no connections" in made.warnings
    assert [item.why for item in made.databases if item.name == SHOWN] == [
        "the backup could not include it: it takes no connections"
    ]
    assert (made.newer, made.untested) == ((SHOWN,), ()), "it lives, and is looked for afterwards"


def test_what_a_newer_backup_lacks_comes_back_from_an_older_one(tmp_path: Path, server: Server) -> None:
    before = publish(tmp_path, at=NOW - DAY)
    newest = publish(tmp_path, ("postgres",), missing={ODD: "it takes no connections"})
    server.content[ODD] = None
    made = make(tmp_path)
    assert (made.needed, made.backup["id"], made.replaced) == (True, before.id, (SHOWN,))
    words = f"the database {SHOWN} is not in it: it takes no connections"
    assert [(over.id, over.problem) for over in made.passed_over] == [(newest.id, words)]
    server.content["shop"] = []
    made = make(tmp_path)
    assert (made.backup["id"], made.replaced, made.newer) == (newest.id, ("shop",), (SHOWN,))
    to_take = f"-e recovery_point={before.id} -e database={SHOWN}"
    assert (
        f"{newest.id} does not hold the database {SHOWN}, which is not on the server; {before.id} does: {to_take}"
        in (made.warnings)
    )
    assert [(gap.what, gap.why) for gap in made.untested] == [
        (f"the database {SHOWN}", f"the newest that holds it is {before.id}")
    ]
    server.content[ODD] = []
    made = make(tmp_path)
    assert [item.why for item in made.databases if item.name == SHOWN] == [
        "it is damaged, and the backup could not include it: it takes no connections: the same command takes an older"
        " one then"
    ]
    assert [gap.what for gap in made.untested] == [f"the database {SHOWN}"], "it is there, and damaged"


@pytest.mark.parametrize("named", [False, True])
def test_a_rebuild_takes_the_newest_and_names_what_it_lacks(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    before = publish(tmp_path, at=NOW - DAY)
    newest = publish(tmp_path, ("postgres",), missing={ODD: "it takes no connections"})
    monkeypatch.setattr(runtime, "connect", lambda config: Stack(False))
    made = make(tmp_path, **({"identity": newest.id} if named else {}))
    assert (made.condition, made.backup["id"], made.newer) == (DOWN, newest.id, (SHOWN,) * (not named))
    assert f"; {before.id} does: -e recovery_point={before.id} -e database={SHOWN}" in "".join(made.warnings)
    assert [gap.what for gap in made.untested] == [f"the database {SHOWN}"]


def test_a_missing_database_comes_back_with_the_state_that_was_asked_for(tmp_path: Path, server: Server) -> None:
    """Not `untouched (nothing is wrong with it)`."""
    before = publish(tmp_path, at=NOW - DAY)
    publish(tmp_path, ("postgres",), accepted=True)
    server.content[ODD] = None
    made = make(tmp_path, identity=before.id)
    assert (actions(made), made.findings) == ((R, R, U), (f"the database {SHOWN} is missing",))
    assert made.databases[2].why == "nothing is wrong with it"
    made = make(tmp_path, identity=before.id, database="postgres")
    assert made.databases[1].why == "it is damaged, and only postgres was named"


def test_an_older_backup_that_has_to_do_says_what_newer_ones_hold(tmp_path: Path, server: Server) -> None:
    before = publish(tmp_path, ("blog", "postgres"), NOW - DAY)
    newest = publish(tmp_path, (ODD, "postgres"), tables={"shop": ("public.t", "public.new")})
    spoil(tmp_path, newest, "database.dump")
    server.content.update({"shop": [], ODD: None})
    made = make(tmp_path)
    assert (made.backup["id"], made.replaced, made.newer) == (before.id, ("shop",), (SHOWN,))
    words = f"{before.id} does not hold the database {SHOWN}, which is not on the server; {newest.id} does"
    tables = f"{before.id} does not hold the table public.new of shop; {newest.id} does"
    assert made.warnings[0].startswith("the database blog is neither on the server nor in the newest backup")
    assert made.warnings[1:] == (f"{words}: -e recovery_point={newest.id} -e database={SHOWN}", tables)
    only = f"only newer backups hold it, such as {newest.id}"
    assert [(gap.what, gap.why) for gap in made.untested] == [
        (f"the database {SHOWN}", only), ("the table public.new of shop", only),
    ]  # fmt: skip
    blog = made.databases[1]
    assert (blog.name, blog.action, blog.why) == ("blog", U, "neither the server nor the newest backup has it")
    assert f"  WARNING: {tables}" in database_plan.text(made)
    told = {"scenario": "database", "plan": typed.plain(made), "checks": []}
    record = evidence_record.build(make_config(tmp_path), evidence_record.recovery(told, []), now=NOW)
    assert f"not tested: the database {SHOWN} ({only})" in evidence_record.lines(record)


def test_a_state_that_was_asked_for_is_there_whatever_newer_backups_hold(tmp_path: Path, server: Server) -> None:
    """Asking for it again would put aside what was written since."""
    before = publish(tmp_path, ("postgres",), NOW - DAY)
    newest = publish(tmp_path, (ODD, "postgres"), tables={"shop": ("public.t", "public.new")})
    made = make(tmp_path, identity=before.id)
    assert (made.needed, made.newer, made.replaced) == (True, (), ("shop",))
    assert [gap.what for gap in made.untested] == ["the table public.new of shop"]
    database_recovery.remember(make_config(tmp_path), {"id": before.id, "at": "x", "databases": ["shop"]})
    assert not make(tmp_path, identity=before.id).needed
    server.content[ODD] = None
    made = make(tmp_path, identity=before.id)
    assert (made.needed, made.why) == (False, f"the database is healthy and was recovered to {before.id} at x")
    assert f"{newest.id} does: -e recovery_point={newest.id} -e database={SHOWN}" in made.warnings[0]
    server.content["shop"] = []
    made = make(tmp_path, identity=before.id)
    assert (made.replaced, made.newer) == (("shop",), (SHOWN,)), "it was missing, and it is not back after this"


def test_an_older_state_of_one_database_says_nothing_of_the_tables_of_others(tmp_path: Path, server: Server) -> None:
    """Its neighbours have had their own migrations since."""
    before = publish(tmp_path, (ODD, "postgres"), NOW - DAY, tables={ODD: ("public.t", "public.old")})
    publish(tmp_path, (ODD, "postgres"))
    made = make(tmp_path, identity=before.id)
    assert (made.findings, actions(made)) == ((), (R, U, U))
    made = make(tmp_path, identity=before.id, database=SHOWN)
    assert (made.findings, actions(made)) == ((f"{SHOWN}: the table public.old is missing",), (U, R, U))


def test_a_database_that_was_not_looked_at_is_not_called_right(tmp_path: Path, server: Server) -> None:
    before = publish(tmp_path, at=NOW - DAY)
    publish(tmp_path, ("postgres",), excluded=[ODD])
    made = make(tmp_path, identity=before.id)
    assert actions(made) == (R, U, U)
    assert made.databases[1].why == "the newest backup does not hold it, so that it was not looked at"


def test_what_newer_backups_hold_and_the_server_lacks_is_no_pass(tmp_path: Path, steps: dict[str, Any]) -> None:
    backup = publish(tmp_path)
    wanted = database_recovery.Wanted(("shop",), newer=("postgres", "wiki"))
    done = restore(tmp_path, backup, wanted=wanted)
    (check,) = [check for check in done.checks if check.name == "databases of newer backups"]
    assert (check.result, check.detail) == (checks.FAIL, f"the database wiki is not back: {backup.id} does not hold it")
    done = restore(tmp_path, backup, wanted=dataclasses.replace(wanted, newer=("postgres",)))
    assert [check.result for check in done.checks if check.name == "databases of newer backups"] == [checks.PASS]
    assert "databases of newer backups" not in [check.name for check in restore(tmp_path, backup).checks]


# --- protect ---


def test_a_server_that_came_up_is_held_against_the_state_that_was_asked_for(tmp_path: Path, server: Server) -> None:
    before = publish(tmp_path, at=NOW - DAY)
    publish(tmp_path, ("postgres",), tables={"shop": ("public.t", "public.new")}, accepted=True)
    server.content[ODD] = None
    plan = dataclasses.replace(PLAN, mode="start", backup={**PLAN.backup, "id": before.id}, target="shop")
    for state, findings in (
        (before.id, f"the database {SHOWN} is missing"),
        ("", "shop: the table public.new is missing"),
    ):
        protection = database_protect._Protection(
            Opened(make_config(tmp_path)), dataclasses.replace(plan, state=state), lambda _: None
        )
        assert protection.assess().findings == (findings,)


@pytest.mark.parametrize(
    ("changes", "damaged", "wanted"),
    [
        ({}, ("shop",), ("shop",)),
        ({}, (ODD,), (SHOWN,)),
        ({"asked": True}, (ODD,), ("shop", SHOWN)),
        ({"named": True, "target": SHOWN, "asked": True}, ("shop",), (SHOWN,)),
    ],
)
def test_what_a_server_that_came_up_needs(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    damaged: tuple[str, ...], wanted: tuple[str, ...],
) -> None:  # fmt: skip
    def came_up(self: Any, *_: Any, **__: Any) -> Protected:
        self.assess()
        return Protected("swap")

    publish(tmp_path)
    seen = Assessment(DAMAGED, ("why",), "", damaged=damaged)
    monkeypatch.setattr(database_assess, "assess", lambda run, reference: seen)
    monkeypatch.setattr(database_protect._Protection, "protect", came_up)
    databases = tuple(planned.Database(name, "restored", "x") for name in NAMES)
    plan = dataclasses.replace(PLAN, mode="start", databases=databases, **changes)
    done = database_protect.protect(Opened(make_config(tmp_path)), plan, log=lambda _: None)
    assert done.replaced == wanted


def test_a_damaged_database_that_the_backup_does_not_hold_replaces_no_other(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path)
    seen = Assessment(DAMAGED, ("why",), "", damaged=(ODD,))
    monkeypatch.setattr(database_assess, "assess", lambda run, reference: seen)
    monkeypatch.setattr(
        database_protect._Protection, "protect", lambda self, *_, **__: (self.assess(), Protected("swap"))[1]
    )
    with pytest.raises(NotFoundError, match="the chosen backup does not hold it"):
        database_protect.protect(
            Opened(make_config(tmp_path)), dataclasses.replace(PLAN, mode="start"), log=lambda _: None
        )


# --- restore ---


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The steps of a restore; `fail`: of which new database, `differ`: which one is not what was backed up."""
    diary: list[str] = []
    found: dict[str, Any] = {
        "diary": diary, "fail": "", "differ": "", "made": database_server.Made(), "there": [], "slots": False,
    }  # fmt: skip

    class Living:
        made, user, configured = found["made"], "postgres", None

        def kept_open(self) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

        def reap(self, *_: Any) -> int:
            return 0

        def living(self) -> list[database_server.Living]:
            return [database_server.Living(name, True, False) for name in ("shop", ODD, "postgres", "blog")]

    def database(server: Any, manifest: Any, directory: Path, facts: Any, name: str, **_: Any) -> None:
        diary.append(f"restore {directory.name} as {name}")
        if found["fail"] and name.startswith(found["fail"]):
            raise LifeboatError("restore the dump", name, "no space left", sqlstate="53100")

    def compare(
        server: Any, name: str, facts: Any, *, fresh: bool, application: bool, dumped: database_restore.Dumped
    ) -> list[checks.Check]:
        assert dumped.directory.is_dir()
        assert application is name.startswith("shop")
        result = checks.FAIL if found["differ"] and name.startswith(found["differ"]) else checks.PASS
        return [checks.Check("tables", result, "t differs"), checks.Check("roles", checks.PASS)]

    def swap(server: Any, live: str, beside: str, stamp: str) -> str:
        diary.append(f"swap {live}")
        return f"{live}_quarantine_{stamp}"

    monkeypatch.setattr(runtime, "connect", lambda config: Stack(True))
    monkeypatch.setattr(database_server, "connect", lambda config, stack: Living())
    monkeypatch.setattr(database_restore, "roles", lambda *_, **__: diary.append("roles") or [])
    monkeypatch.setattr(database_restore, "role_passwords", lambda *_, **__: ([], []))
    monkeypatch.setattr(
        cluster, "staying", lambda server, names: [f"a slot of {name}" for name in names if found["slots"]]
    )
    monkeypatch.setattr(database_restore, "database", database)
    monkeypatch.setattr(database_restore, "untouched", lambda *_: True)
    monkeypatch.setattr(database_restore, "compare", compare)
    monkeypatch.setattr(database_restore, "analyze", lambda *_: None)
    monkeypatch.setattr(database_restore, "swap", swap)
    monkeypatch.setattr(database_restore, "refresh_collations", lambda *_: [])
    monkeypatch.setattr(database_restore, "exists", lambda server, name: name in found["there"])
    monkeypatch.setattr(database_server, "drop", lambda server, name: diary.append(f"drop {name}"))
    return found


def restore(tmp_path: Path, backup: Optional[Manifest] = None, **options: Any) -> database_recovery.Recovered:
    one = backup or publish(tmp_path)
    wanted = database_recovery.Wanted(options.pop("databases", ()))
    plain: dict[str, Any] = {"fresh": False, "stamp": "20261124_020000", "wanted": wanted, "log": lambda _: None}
    return database_recovery.restore_database(Opened(make_config(tmp_path)), one.id, **{**plain, **options})


def swapped(steps: dict[str, Any]) -> list[str]:
    return [line.removeprefix("swap ") for line in steps["diary"] if line.startswith("swap ")]


def test_a_fresh_server_gets_every_database_the_application_s_first(tmp_path: Path, steps: dict[str, Any]) -> None:
    done = restore(tmp_path, fresh=True)
    assert swapped(steps) == ["shop", ODD, "postgres"]
    assert steps["diary"].count("roles") == 1
    assert [line for line in steps["diary"] if line.startswith("drop")] == [
        f"drop {name}_quarantine_20261124_020000" for name in ("shop", ODD, "postgres")
    ], "the fresh server's own"
    assert [check.name for check in done.checks] == [
        "checksums", "tables", "roles", f"tables of {SHOWN}", "tables of postgres",
    ]  # fmt: skip
    assert [(item.name, item.action, item.kept) for item in done.databases] == [(name, R, "") for name in NAMES]


def test_in_a_living_server_the_others_are_untouched(tmp_path: Path, steps: dict[str, Any]) -> None:
    for name in (f"{ODD}_restore_20250101_000000", "shop_restore_20250101_000000", "shop_quarantine_20250101_000000"):
        steps["made"].add(name)
    done = restore(tmp_path, databases=(SHOWN, "shop"))
    assert swapped(steps) == [ODD, "shop"]
    assert [line for line in steps["diary"] if line.startswith("drop")] == [
        f"drop {ODD}_restore_20250101_000000", "drop shop_restore_20250101_000000",
    ]  # fmt: skip
    assert "shop_quarantine_20250101_000000" in steps["made"].names()
    assert {item.name: (item.action, item.kept) for item in done.databases} == {
        SHOWN: (R, f"{SHOWN}_quarantine_20261124_020000"), "shop": (R, "shop_quarantine_20261124_020000"),
        "postgres": (U, ""), "blog": (U, ""),
    }  # fmt: skip
    last = database_recovery.recovery_state.recovered(make_config(tmp_path))
    assert last is not None
    assert last.databases == (SHOWN, "shop")


def test_somebody_s_database_of_the_name_that_a_restore_takes_is_kept(tmp_path: Path, steps: dict[str, Any]) -> None:
    steps["there"] = ["shop_restore_20261124_020000"]
    with pytest.raises(LifeboatError, match="Lifeboat did not make it"):
        restore(tmp_path)
    assert steps["diary"] == ["roles"]


def test_another_database_that_does_not_prove_stops_no_other(tmp_path: Path, steps: dict[str, Any]) -> None:
    backup = publish(tmp_path)
    steps["differ"] = ODD
    done = restore(tmp_path, backup, fresh=True)
    assert swapped(steps) == ["shop", "postgres"]
    assert {item.name: item.action for item in done.databases} == {"shop": R, SHOWN: "failed", "postgres": R}
    assert f"drop {ODD}_restore_20261124_020000" in steps["diary"]
    assert [check.name for check in done.checks if check.result == checks.FAIL] == [f"tables of {SHOWN}"]
    steps["differ"], steps["fail"] = "", ODD
    done = restore(tmp_path, backup, fresh=True)
    bad = [(check.name, check.result) for check in done.checks if check.result != checks.PASS]
    assert bad == [(f"restore of {SHOWN}", checks.COULD_NOT_VERIFY)], "a full disk is no difference"


def test_the_application_s_database_must_prove(tmp_path: Path, steps: dict[str, Any]) -> None:
    backup = publish(tmp_path)
    steps["differ"] = "shop"
    for databases in ((), ("shop", "postgres")):
        with pytest.raises(IntegrityError, match=r"tables: t differs. shop is untouched"):
            restore(tmp_path, backup, fresh=not databases, databases=databases)
    assert swapped(steps) == []


def test_of_several_others_each_stands_for_itself_and_none_is_an_error(tmp_path: Path, steps: dict[str, Any]) -> None:
    backup = publish(tmp_path)
    steps["differ"] = ODD
    done = restore(tmp_path, backup, databases=(SHOWN, "postgres"))
    assert swapped(steps) == ["postgres"]
    assert done.databases[0].action == "failed"
    with pytest.raises(IntegrityError, match="t differs"):
        restore(tmp_path, backup, databases=(SHOWN,))


def test_where_none_could_be_restored_the_error_tells_whether_a_difference_was_seen(
    tmp_path: Path, steps: dict[str, Any]
) -> None:
    backup = publish(tmp_path)
    steps["fail"] = (ODD, "postgres")
    with pytest.raises(LifeboatError, match="no space left") as full:
        restore(tmp_path, backup, databases=(SHOWN, "postgres"))
    assert not isinstance(full.value, IntegrityError)
    steps["fail"], steps["differ"] = ODD, "postgres"
    with pytest.raises(IntegrityError, match="t differs"):
        restore(tmp_path, backup, databases=(SHOWN, "postgres"))


def test_what_surrounds_the_databases_is_read_before_anything_is_replaced(
    tmp_path: Path, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes may be wrong where an operator takes a backup that failed."""

    def damaged(_folder: Path) -> None:
        raise IntegrityError("read the server's settings", "it", "it is not JSON")

    backup = publish(tmp_path)
    monkeypatch.setattr(cluster, "of", damaged)
    with pytest.raises(IntegrityError, match="not JSON"):
        restore(tmp_path, backup, fresh=True)
    assert swapped(steps) == []
    done = restore(tmp_path, backup, fresh=True, accept=True)
    assert swapped(steps) == ["shop", ODD, "postgres"]
    assert [check.name for check in done.checks if check.result == checks.FAIL] == [cluster.SETTINGS]


def test_an_error_of_the_system_while_restoring_is_told_as_one(
    tmp_path: Path, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database_restore, "roles", full)
    with pytest.raises(LifeboatError, match="No space left on device") as told:
        restore(tmp_path)
    assert not isinstance(told.value, IntegrityError)


def test_broken_bytes_of_another_database_fail_that_one_alone(tmp_path: Path, steps: dict[str, Any]) -> None:
    backup = publish(tmp_path)
    spoil(tmp_path, backup, "databases/001/database.dump")
    done = restore(tmp_path, backup, fresh=True)
    assert swapped(steps) == ["shop", "postgres"]
    assert [check.name for check in done.checks if check.result == checks.FAIL] == [f"checksums of {SHOWN}"]
    with pytest.raises(IntegrityError, match="another SHA-256"):
        restore(tmp_path, backup, databases=(SHOWN,))
    spoil(tmp_path, backup, "database.dump")
    with pytest.raises(IntegrityError, match=r"database\.dump has another SHA-256"):
        restore(tmp_path, backup, fresh=True)


def test_broken_bytes_of_the_application_s_database_fail_no_other(tmp_path: Path, steps: dict[str, Any]) -> None:
    backup = publish(tmp_path)
    spoil(tmp_path, backup, "database.dump")
    done = restore(tmp_path, backup, databases=(SHOWN,))
    assert swapped(steps) == [ODD]
    assert checks.verdict(done.checks) == checks.PASS
    spoil(tmp_path, backup, "globals.sql.gz")
    with pytest.raises(IntegrityError, match=r"globals\.sql\.gz has another SHA-256"):
        restore(tmp_path, backup, databases=(SHOWN,))


def test_what_is_accepted_is_the_database_that_failed(tmp_path: Path, steps: dict[str, Any]) -> None:
    """A difference in another one was in no verdict: nobody agreed to it."""
    backup = publish(tmp_path)
    judge(tmp_path, backup, ODD)
    steps["differ"] = ODD
    done = restore(tmp_path, backup, databases=(SHOWN,), accept=True)
    assert swapped(steps) == [ODD]
    assert checks.verdict(done.checks) == checks.FAIL
    steps["differ"] = "postgres"
    with pytest.raises(IntegrityError, match="t differs"):
        restore(tmp_path, backup, databases=("postgres",), accept=True)
    spoil(tmp_path, backup, "databases/002/database.dump")
    with pytest.raises(IntegrityError, match="another SHA-256"):
        restore(tmp_path, backup, databases=("postgres",), accept=True)


def test_what_was_copied_stays_where_it_lies_until_it_is_back(
    tmp_path: Path, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "others_20261124_120000"
    (place / "databases" / "001").mkdir(parents=True)
    files = ("database.dump", "fingerprint.json", "databases/001/database.dump", "databases/001/fingerprint.json")
    for name in files:
        (place / name).write_text(json.dumps(FACTS))
    artefacts = tuple(Artefact(name, 1, "0" * 64) for name in files)
    backup = make_manifest(artefacts=artefacts, details={"database": "blog", "others": [dump(ODD, "databases/001")]})
    (place / "manifest.json").write_bytes(backup.to_bytes())
    living = database_server.connect(None, None)  # type: ignore[arg-type]
    settings = make_config(tmp_path)

    def back(stamp: str = "20261124_120000") -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        found, outcomes = aside.bring_back(settings, living, place, stamp, lambda _: None)
        return [(check.name, check.result) for check in found], [(item.name, item.action) for item in outcomes]

    steps["fail"] = ODD
    bad = (f"restore of {SHOWN}", checks.COULD_NOT_VERIFY)
    assert back() == ([("tables of blog", checks.PASS), bad], [("blog", C), (SHOWN, "failed")])
    assert place.is_dir()
    steps["fail"] = ""
    monkeypatch.setattr(aside, "size", lambda server, name: aside.Size(9, name == "blog"))
    bad = ("copy of blog", checks.COULD_NOT_VERIFY)
    another = ([bad, (f"tables of {SHOWN}", checks.PASS)], [("blog", U), (SHOWN, C)])
    assert back("20261125_120000") == another, "the recovery of another time may have brought it back"
    assert place.is_dir()
    names = [("tables of blog", checks.PASS), (f"tables of {SHOWN}", checks.PASS)]
    assert back() == (names, [("blog", C), (SHOWN, C)])
    assert not place.exists()


def test_what_a_copy_does_not_carry_is_told_of_each_database(
    tmp_path: Path, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [details.DatabaseDump(**{**dump(name, place), "not_carried": (f"{name} is a template",)})
              for name, place in (("blog", ""), ("wiki", "databases/001"))]  # fmt: skip
    files = ("fingerprint.json", "databases/001/fingerprint.json")
    done = [aside.dump._Done(entry, [], fingerprint().facts, set()) for entry in copies]
    copied = make_manifest(
        artefacts=tuple(Artefact(file, 1, "0" * 64) for file in files),
        details=typed.plain(aside.dump._details(make_config(tmp_path), done, aside.dump.age.OPEN)),
    )
    monkeypatch.setattr(aside.dump, "copy", lambda *_: copied)
    place = tmp_path / "others_20261124_120000"
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(json.dumps(FACTS))
    server, settings = database_server.connect(None, None), make_config(tmp_path)  # type: ignore[arg-type]
    aside._fill(settings, server, ["blog", "wiki"], place, lambda _: None)
    _checks, outcomes = aside.bring_back(settings, server, place, "20261124_120000", lambda _: None)
    assert [(item.name, item.why.partition("; ")[2]) for item in outcomes] == [
        ("blog", "blog: blog is a template"), ("wiki", "wiki: wiki is a template"),
    ]  # fmt: skip


def test_only_a_recovery_that_did_not_end_leaves_copies_for_the_next(tmp_path: Path) -> None:
    settings = make_config(tmp_path)
    assert (aside.waiting(settings), aside.copied(settings)) == ("", ())
    recovery_state.mark(settings, recovery_state.RECOVERING)
    for stamp, whole in (("20261124_120000", True), ("20261125_120000", True), ("20261126_120000", False)):
        place = settings.state / f"others_{stamp}"
        place.mkdir()
        if whole:
            made = dataclasses.replace(make_manifest(details={"database": ODD}), id=f"db_backup_{stamp}")
            (place / "manifest.json").write_bytes(made.to_bytes())
    assert aside.waiting(settings) == str(settings.state / "others_20261125_120000")
    assert aside.copied(settings) == (SHOWN,)
    recovery_state.unmark(settings, recovery_state.RECOVERING)
    assert aside.waiting(settings) == "", "it ended"
    aside.settle(settings)
    recovery_state.mark(settings, recovery_state.RECOVERING)
    assert aside.waiting(settings) == "", "another one that did not end did not copy this"


def test_a_copy_that_fails_leaves_nothing_behind(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(config: Any, server: Any, names: Any, identity: str, root: Path, log: Any) -> None:
        assert (names, root.stat().st_mode & 0o777) == ([ODD], 0o700)
        (root / "half").touch()
        raise LifeboatError("dump the database", "it", "it was dropped meanwhile")

    monkeypatch.setattr(aside.dump, "copy", copy)
    with pytest.raises(LifeboatError, match="dropped meanwhile"):
        aside.take(Opened(make_config(tmp_path)), [SHOWN], "20261124_020000", lambda _: None)
    assert list((tmp_path / "state").iterdir()) == []


def test_size_asks_the_database_itself(server: Server) -> None:
    assert aside.size(server, ODD) == aside.Size(900, True)  # type: ignore[arg-type]
    assert not aside.size(server, "postgres").filled  # type: ignore[arg-type]


def around(folder: Path, name: str) -> Optional[cluster.Cluster]:
    """What surrounded the databases of a backup, as a restore compares it. name: the application's as configured."""
    others = [dump(other, f"databases/{number:03d}") for number, other in enumerate(OTHERS, 1)]
    config, manifest = make_config(folder, database={"name": name}), make_manifest(details={"others": others})
    server: Any = None
    return method._around(Restoration(config, server, manifest, NOW, folder, True, "S", lambda: None, lambda _: None))


def test_only_of_what_the_backup_holds_anything_is_to_come_back(tmp_path: Path) -> None:
    assert around(tmp_path, "shop") is None, "a backup of the time before it was recorded"
    inside = cluster.Inside({}, ())
    there = ("shop", ODD, "excluded")
    found = cluster.Cluster(
        1,
        databases=dict.fromkeys(there, inside),
        subscriptions=tuple(cluster.Subscription("s", name, "o", True, ("p",)) for name in there),
        slots=(cluster.Slot("physical", "physical"), *(cluster.Slot("l", "logical", "x", name) for name in there)),
    )
    (tmp_path / cluster.CLUSTER).write_bytes(found.to_bytes())
    for name in ("shop", "store"):  # and under the name that it has now
        seen = around(tmp_path, name)
        assert seen is not None
        assert sorted(seen.databases) == sorted([name, ODD])
        assert [item.database for item in seen.subscriptions] == [name, ODD]
        assert [(slot.name, slot.database) for slot in seen.slots] == [("physical", None), ("l", name), ("l", ODD)]


HOSTILE, ONE_LINE = "a\nPASS\x1b[2J \udcff", "a\\nPASS\\x1b[2J \\xff"


def no_database() -> str:
    there = types.SimpleNamespace(execute=lambda *_, **__: [], databases=lambda: [HOSTILE])
    with pytest.raises(NotFoundError) as missing:
        database_server.require_database(cast("database_server.Server", there), "shop")
    return str(missing.value)


def unfinished(tmp_path: Path) -> str:
    config = make_config(tmp_path)
    recovery_state.keep(config, logins.CLOSED, json.dumps(typed.plain(logins.Closed((HOSTILE,), False, True))))
    (check,) = logins.unfinished(config)
    return check.detail


def closed_to_us(tmp_path: Path) -> str:
    look, item = database_assess._Look(0), held.of(make_manifest(), HOSTILE)[0]
    database_assess._shut(look, make_config(tmp_path), item)
    return look.findings[0]


PRINTED: dict[str, Callable[[Path], str]] = {
    "an error": lambda _: str(LifeboatError(f"drop {HOSTILE}", f"database {HOSTILE}", "it is used")),
    "a check": lambda _: base_text.checks([checks.Check(f"restore of {HOSTILE}", checks.FAIL, HOSTILE)])[0],
    "a client": lambda _: str(clients.Client(1, HOSTILE, HOSTILE, HOSTILE)),
    "a client that lasts": lambda _: clients.lasting([clients.Client(1, HOSTILE, "u")], [])[0],
    "the databases that there are": lambda _: no_database(),
    "what a recovery closed": unfinished,
    "what the assessment found": closed_to_us,
}


@pytest.mark.parametrize("what", PRINTED)
def test_no_name_makes_a_line_of_its_own(tmp_path: Path, what: str) -> None:
    line = PRINTED[what](tmp_path)
    assert ONE_LINE in line
    assert line.isprintable()


def test_the_plan_prints_a_hostile_name_on_one_line(tmp_path: Path, server: Server) -> None:
    server.content[HOSTILE] = ["public.t"]
    publish(tmp_path, (HOSTILE,), missing={f"b{HOSTILE}": HOSTILE})
    lines = database_plan.text(make(tmp_path, force=True, identity=make_manifest().id))
    assert [line for line in lines if not line.isprintable()] == []
    assert len([line for line in lines if ONE_LINE in line]) > 1


# --- what is put on record ---


def test_the_evidence_names_each_database_and_what_is_kept(tmp_path: Path) -> None:
    moment = {"started_at": format_time(NOW), "finished_at": format_time(NOW)}
    left = [{"name": "blog", "action": Q, "why": "the backup does not hold it", "kept": ""}]
    restored = [
        {"name": SHOWN, "action": R, "why": "", "kept": f"{SHOWN}_quarantine_S"},
        {"name": "postgres", "action": "failed", "why": "t differs", "kept": ""},
        {"name": "shop", "action": U, "why": "", "kept": ""},
    ]
    phases = [
        {"name": "protect", "databases": left, **moment},
        {"name": "restore", "databases": restored, "quarantined_database": f"{SHOWN}_quarantine_S", **moment},
    ]
    plan = {"condition": "damaged", "findings": [], "unchecked": [], "passed_over": [], "target_seconds": 60}
    checked = [{"name": f"tables of {SHOWN}", "result": checks.PASS, "detail": ""}]
    told = evidence_record.recovery({"scenario": "database", "plan": plan, "checks": checked}, phases)
    made = evidence_record.build(make_config(tmp_path), told, now=NOW)
    assert made.verdict == checks.PASS, "the tables of another database are proof of it"
    lines = evidence_record.lines(made)
    assert [line for line in lines if line.startswith(("database: ", "kept: "))] == [
        "database: blog quarantined (the backup does not hold it)",
        f"database: {SHOWN} restored",
        "database: postgres failed (t differs)",
        "database: shop untouched",
        f"kept:     the old database as {SHOWN}_quarantine_S",
    ]
    assert quarantined(made) == [f"the old database: {SHOWN}_quarantine_S"]
    again, why = schema.read(json.loads(json.dumps(schema.plain(made))))
    assert (again, why) == (made, "")


def test_the_oldest_records_name_one_database() -> None:
    phase = schema.Phase("restore", NOW, NOW, 1.0, quarantined_database="shop_quarantine_S")
    assert phase.quarantined_databases == ("shop_quarantine_S",)


# --- a recovery that was killed ---


@pytest.mark.parametrize("step", ["roles", "database", "swap", "refresh_collations"])
def test_the_mark_of_a_rebuilt_server_stands_until_all_is_back(
    tmp_path: Path, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also when the databases are back and what surrounds them is not: no step after the last one that restores."""
    backup, settings = publish(tmp_path), make_config(tmp_path)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(database_restore, step, killed)
        restore(tmp_path, backup, fresh=True)
    found = planned.resumed(settings)
    assert found and (found.backup, found.empty, found.additional) == (backup.id, True, NAMES)
    assert list(recovery_state.kept_closed(settings)), "nobody may fill a server that is half restored"
    restore(tmp_path, backup, fresh=False, databases=("shop",))
    assert planned.resumed(settings) == found, "one database by its name is not all of them"
    restore(tmp_path, backup, fresh=True)
    assert recovery_state.unfinished(settings, recovery_state.RECOVERING) is None
    assert list(recovery_state.kept_closed(settings)) == []


def test_databases_that_did_not_come_back_keep_the_mark(tmp_path: Path, steps: dict[str, Any]) -> None:
    """The application may run with its own; backups wait, and the same command goes on with the others."""
    backup, settings, steps["fail"] = publish(tmp_path), make_config(tmp_path), "postgres"
    restore(tmp_path, backup, fresh=True)
    left = recovery_state.unfinished(settings, recovery_state.RECOVERING)
    assert left and (left.additional, left.empty) == (("postgres",), False)
    assert (planned.resumed(settings), list(recovery_state.kept_closed(settings))) == (None, [])
    steps["fail"] = ""
    restore(tmp_path, backup, databases=("postgres",))
    assert recovery_state.unfinished(settings, recovery_state.RECOVERING) is None


def test_a_killed_rebuild_is_continued_whatever_is_seen(tmp_path: Path, server: Server) -> None:
    backup, settings = publish(tmp_path), make_config(tmp_path)
    assert make(tmp_path).needed is False
    mark = recovery_state.Unfinished(backup.id, empty=True, additional=NAMES)
    recovery_state.mark(settings, recovery_state.RECOVERING, mark)
    made = make(tmp_path)
    assert (made.needed, made.mode, made.replaced, made.asked) == (True, "fill", NAMES, False)
    assert f"the recovery of {backup.id} that began at 2" in made.why
    assert database_protect._Protection(Opened(settings), made, lambda _: None).blank(), "with its roles and settings"
    recovery_state.keep(settings, recovery_state.RECOVERING, json.dumps({"backup": backup.id, "others": ["postgres"]}))
    assert make(tmp_path).mode == "reopen", "the databases that were left are whole by now"


# --- a server that was initialised again ---


def initialise_again(server: Server) -> None:
    server.identifier = "another"
    server.content = {"postgres": [], "shop": []}


def test_a_server_that_was_made_anew_is_a_lost_server(tmp_path: Path, server: Server) -> None:
    backup = publish(tmp_path)
    initialise_again(server)
    made = make(tmp_path)
    words = f"the server was initialised again and holds nothing: 3 databases with 3 tables of {backup.id} are missing"
    assert (made.mode, made.replaced, made.findings) == ("fill", NAMES, (words,))
    assert made.why == "the server is lost: what answers was initialised again and holds nothing"
    assert {item.why for item in made.databases} == {"the server is an empty one"}
    assert make(tmp_path, method="swap").mode == "fill", "beside is where a rebuild's databases are made, too"
    assert make(tmp_path, method="rebuild").mode == "rebuild"
    one = make(tmp_path, database="shop")
    assert (one.mode, one.replaced) == ("swap", ("shop",)), "nothing else was asked for"


@pytest.mark.parametrize("answers", [True, False])
def test_what_surrounds_the_databases_of_a_lost_server_is_named(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    publish(tmp_path)
    initialise_again(server)
    around = cluster.Cluster(
        1, hba=("local all all trust",), slots=(cluster.Slot("feed", "physical"),),
        tablespaces=(cluster.Tablespace("fast", "postgres", "/fast"),),
        origins=(cluster.Origin("upstream", "0/12"), cluster.Origin("pg_9", None, "it's", "shop")),
    )  # fmt: skip
    monkeypatch.setattr(cluster, "of", lambda folder: around)
    monkeypatch.setattr(method, "_passwords", lambda *_: ["the role x keeps its password"])
    made = make(tmp_path) if answers else make(tmp_path, method="rebuild")
    before = "" if answers else "in a rebuild "
    assert [line.partition(":")[0] for line in made.lost] == [f"{before}not restored"] * 5 + [
        f"{before}the role x keeps its password"
    ]
    told = "\n".join(made.lost)
    for words in (
        "pg_hba.conf",
        "slot feed",
        "tablespace fast",
        "origin upstream at 0/12",
        "subscription it's of shop",
    ):
        assert words in told
    assert "SELECT pg_replication_origin_advance('upstream', '0/12');" in told
    assert "WHERE subname = 'it''s'), '...'); in the database shop" in told


def test_what_somebody_made_since_makes_no_empty_server(tmp_path: Path, server: Server) -> None:
    """Its application has made a table in it: that is put aside by name, and what a swap leaves out is said."""
    publish(tmp_path)
    initialise_again(server)
    server.content["shop"] = ["public.other"]
    made = make(tmp_path)
    assert (made.mode, database_plan.ANOTHER in made.warnings) == ("swap", True)
    assert "shop: the table public.t is missing" in made.findings
    server.identifier = FACTS["facts"]["system_identifier"]
    assert database_plan.ANOTHER not in make(tmp_path).warnings
    server.identifier = "one that a recovery made since"
    remembered = {"id": "x", "at": format_time(NOW + timedelta(hours=1))}
    recovery_state.keep(make_config(tmp_path), recovery_state.RECOVERED, json.dumps(remembered))
    assert database_plan.ANOTHER not in make(tmp_path).warnings


def test_an_empty_server_that_is_the_same_lost_its_databases_only(tmp_path: Path, server: Server) -> None:
    publish(tmp_path)
    server.content = {"postgres": [], "shop": []}
    made = make(tmp_path)
    assert (made.mode, len(made.findings)) == ("swap", 3)


@pytest.mark.parametrize("others", [True, False])
def test_an_empty_server_with_another_password_is_looked_at_as_its_image_made_it(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    publish(tmp_path)
    initialise_again(server)
    if others:
        server.content["blog"] = ["public.t"]
    monkeypatch.setattr(database_server, "reach", lambda run: Reached(None, "password authentication failed", True))
    monkeypatch.setattr(database_server, "as_initialised", lambda run: server)
    if others:
        with pytest.raises(UsageError, match="password authentication failed"):
            make(tmp_path)
    else:
        assert make(tmp_path).mode == "fill"


def test_the_phases_fill_a_server_that_was_made_anew(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, settings = publish(tmp_path), make_config(tmp_path)
    initialise_again(server)
    made = make(tmp_path)
    modes: list[str] = []

    def protect(self: database_protect._Protection, mode: str, *_: Any, **__: Any) -> Protected:
        mark = recovery_state.unfinished(settings, recovery_state.RECOVERING)
        assert mark and (mark.backup, mark.empty, mark.additional) == (backup.id, True, NAMES), "from the first step on"
        modes.append(mode)
        return Protected(mode, fresh=self.blank())

    monkeypatch.setattr(database_protect._Protection, "protect", protect)
    done = database_protect.protect(Opened(settings), made, log=lambda _: None)
    assert (modes, done.mode, done.fresh, done.replaced) == (["swap"], "swap", True, ())


def test_what_stays_with_the_database_that_is_put_aside_is_named(
    tmp_path: Path, server: Server, steps: dict[str, Any]
) -> None:
    backup = publish(tmp_path)
    steps["slots"] = True
    done = restore(tmp_path, backup)
    assert "differs: shop: a slot of shop" in done.notes
    assert not [note for note in restore(tmp_path, backup, fresh=True).notes if "slot" in note]
    del server


def test_slots_and_origins_of_the_databases_that_are_replaced() -> None:
    server = Server()
    slot = {"kind": "logical", "plugin": "p", "two_phase": False, "failover": False}
    server.around = {
        "pg_replication_slots": [
            {"name": "feed", "database": "shop", **slot}, {"name": "other", "database": "blog", **slot},
        ],
        "'origins'": [{"files": True, "all": True, "ident": True, "conninfo": True, "origins": True}],
        "pg_replication_origin o": [
            {"name": "pg_7", "lsn": "0/7", "subscription": "sub", "database": "shop"},
            {"name": "own", "lsn": "0/8", "subscription": None, "database": None},
        ],
    }  # fmt: skip
    slots, origin = cluster.staying(cast(database_server.Server, server), ["shop"])
    assert slots.startswith("the logical replication slot feed stays with the database that is put aside.")
    assert "SELECT pg_create_logical_replication_slot('feed', 'p'); in the database shop" in slots
    assert origin.startswith("the replication origin pg_7 of the subscription sub of shop at 0/7 stays with")


def test_what_fails_after_a_swap_tells_what_was_replaced(
    tmp_path: Path, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`as it was found` would be untrue."""

    def broken(*_: Any, **__: Any) -> None:
        raise LifeboatError("compare collation versions", "shop", "the server went away", "Look at it.")

    monkeypatch.setattr(database_restore, "refresh_collations", broken)
    backup = publish(tmp_path)
    with pytest.raises(LifeboatError) as caught:
        restore(tmp_path, backup, databases=("shop",))
    assert caught.value.remedy == (
        "Look at it. Already in place of what was found: shop (the old one is shop_quarantine_20261124_020000)"
    )
    monkeypatch.setattr(database_restore, "roles", broken)
    with pytest.raises(LifeboatError) as caught:
        restore(tmp_path, backup, databases=("shop",))
    assert caught.value.remedy == "Look at it."
