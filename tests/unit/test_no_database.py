# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack of files, objects and configuration alone: what is backed up of it, judged, planned, drilled and refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.phases import Plan, ReportedPhase
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import objects as keeper_objects
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper.receipts import Receipts
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import guard
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import compare, reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    checklist,
    checklist_incident,
    metrics,
    preflight,
    quarantine,
    schedule,
    status,
    verify,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import history
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points, show
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import configured
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as configuration
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope as site_scope
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, Run, make_config, publish, publish_config, publish_objects, settings, store
from test_files import World as FilesWorld

NO_ROWS = {"database": False}
SOURCE = {"sources": [{"name": "uploads", "path": "/srv/uploads"}]}
FILES = {**NO_ROWS, "files": SOURCE}
SAID = "the stack has no database: lifeboat_database is false"


class World(FilesWorld):
    """Files, and where it is enabled the configuration; no database."""

    def __init__(self, tmp_path: Path, **changes: Any) -> None:
        super().__init__(tmp_path)
        self.settings.update({"database": False, "config": {"enabled": False}, **changes})

    def seal(self, now: Optional[datetime] = None) -> points.Point:
        return points.seal(self.run, now=now or datetime.now(timezone.utc), log=self.said.append)[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def read(**changes: Any) -> Config:
    return configuration.from_mapping({"stack": "shop", "runtime": {"project": "shop"}, **changes})


# --- the configuration ---


def test_false_is_no_database_and_true_or_nothing_is_one() -> None:
    for given in ({}, {"database": {}}, {"database": True}, {"database": {"service": "db"}}):
        assert (read(**given).database.enabled, read(**given).stores) == (True, ["db"])
    one = read(**FILES)
    assert (one.database.enabled, one.database.service, one.stores) == (False, "", [])
    assert [kind.name for kind in configured(one)] == ["files", "config"]
    assert [scenario.name for scenario in one.scenarios] == ["files", "backend", "site"]
    assert [scenario.name for scenario in read().scenarios] == ["database", "backend", "site"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"database": {"enabled": False, "name": "shop"}}, "a stack without a database has no settings of one"),
        ({"database": "false"}, "wants a mapping, has 'false'"),
        ({"database": None}, "wants a mapping, has None"),
        ({**NO_ROWS, "config": {"enabled": False}}, "nothing would be backed up"),
        ({**FILES, **BUCKET, "objects": {**BUCKET["objects"], "keys_query": "SELECT 1"}}, "no database could be asked"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(**changes)


def test_the_configuration_alone_is_a_stack() -> None:
    assert [kind.name for kind in configured(read(**NO_ROWS))] == ["config"]


# --- a recovery point ---


def test_a_point_of_files_and_configuration(tmp_path: Path) -> None:
    held = publish_config(tmp_path)
    repository = {"type": "local", "path": str(tmp_path / "backup")}
    world = World(tmp_path, config={"enabled": True, "secrets": "elsewhere"}, repository=repository)
    world.fill()
    files = world.take()
    point = world.seal()
    assert point.ids == {"database": None, "objects": None, "files": files.id, "config": held.id}
    assert "database: the stack has no database" in point.notes
    assert abs(point.taken_at - files.taken_at) < timedelta(milliseconds=1), "since then data may be lost"
    (entry,) = points.entries(world.repo, "shop", points.backups(world.repo, "shop"))
    assert (entry.good, entry.problem) == (True, "")
    assert world.seal().id == point.id, "the same backups are tied once"
    shown = show.table([entry], points.backups(world.repo, "shop"), datetime.now(timezone.utc))
    assert not [line for line in shown if "TABLES" in line or "ROWS" in line]


@pytest.mark.parametrize(
    ("consistency", "more", "wanted"),
    [
        ("pause", (), "snapshot"),
        ("live", (), "eventual (uploads: nothing stands still while it is read)"),
        ("pause", ("other",), "eventual (other, uploads are read one after the other)"),
    ],
)
def test_a_point_of_files_says_whether_all_of_it_is_of_one_instant(
    tmp_path: Path, consistency: str, more: tuple[str, ...], wanted: str
) -> None:
    world = World(tmp_path)
    sources = [{"name": "uploads", "path": str(world.root), "consistency": consistency}]
    for name in more:
        (tmp_path / name).mkdir()
        sources.append({"name": name, "path": str(tmp_path / name), "consistency": consistency})
    world.settings["files"] = {"sources": sources}
    world.fill()
    world.take()
    point = world.seal()
    why = points.why_apart(point).removeprefix("data: of more than one instant").strip()
    assert f"{point.consistency} {why}".strip() == wanted


def test_a_point_of_files_and_objects_is_as_old_as_the_older_of_them(tmp_path: Path) -> None:
    objects = publish_objects(tmp_path, NOW - timedelta(hours=3), consistency="snapshot")
    files = FilesWorld.take
    world = World(tmp_path, **BUCKET, repository={"type": "local", "path": str(tmp_path / "backup")})
    world.fill()
    made = files(world)
    point = world.seal()
    assert point.ids == {"database": None, "objects": objects.id, "files": made.id, "config": None}
    assert (point.taken_at, point.consistency) == (min(objects.taken_at, made.taken_at), "eventual")
    assert "objects and files are backed up one after the other" in points.why_apart(point)


def test_no_point_without_any_backup(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no good backup of files"):
        World(tmp_path).seal()
    alone = make_config(tmp_path, database=False, config={"enabled": True})
    with pytest.raises(NotFoundError, match="there is no good backup"):
        points.seal(Opened(alone), now=NOW, log=lambda _: None)


def test_a_point_that_lost_its_database_is_still_refused(world: World) -> None:
    """The note says that there is none, and is sealed: without it somebody took the database out."""
    world.fill()
    world.take()
    point = world.seal()
    assert points.parse(point.to_bytes(), expected_id=point.id).seal == point.seal
    without = dataclasses.replace(point, notes=tuple(note for note in point.notes if "database" not in note))
    with pytest.raises(IntegrityError, match="its database is missing"):
        points.parse(without.to_bytes(), expected_id=point.id)
    nothing = dataclasses.replace(point, components=dict.fromkeys(point.components))
    with pytest.raises(IntegrityError, match="its database is missing"):
        points.parse(nothing.to_bytes(), expected_id=point.id)


def test_a_point_of_another_database_backup_than_the_newest_names_that_one(tmp_path: Path) -> None:
    """A keeper mirrors the store as of each day: the point is of that day's rows."""
    older, newer = publish(tmp_path, NOW - timedelta(days=1)), publish(tmp_path, NOW)
    objects = publish_objects(tmp_path, NOW - timedelta(days=1), of=older)
    run = Opened(make_config(tmp_path, **BUCKET))
    point, _new = points.seal(run, now=NOW, log=lambda _: None, database=older)
    assert (point.ids["database"], point.ids["objects"], point.consistency) == (older.id, objects.id, "snapshot")
    assert newer.id not in point.ids.values()


# --- the mirror ---


class Store:
    """A versioned bucket whose clock is this host's."""

    name, url = "uploads", "http://127.0.0.1:9000/uploads"


@pytest.fixture
def versioned(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(bucket, "lead", lambda _: (-0.5, 0.5))
    monkeypatch.setattr(bucket, "versioning", lambda _: "Enabled")
    return Store()


def test_the_bucket_is_mirrored_as_of_now(tmp_path: Path, versioned: Any) -> None:
    one = make_config(tmp_path, **BUCKET, **NO_ROWS)
    instant = guard.choose_instant(one, store(tmp_path), versioned, NOW, lambda _: None)
    assert (instant.at, instant.consistency, instant.database_backup, instant.why) == (NOW, "snapshot", "", "")
    doubted = guard.choose_instant(one, store(tmp_path), versioned, NOW, lambda _: None, Doubts(times="they lie"))
    assert (doubted.at, doubted.consistency, doubted.why) == (None, "eventual", "they lie")
    with_rows = guard.choose_instant(make_config(tmp_path, **BUCKET), store(tmp_path), versioned, NOW, lambda _: None)
    assert (with_rows.consistency, "no good database backup" in with_rows.why) == ("eventual", True)


def test_a_keeper_mirrors_as_of_the_files_or_the_configuration(
    tmp_path: Path, versioned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_objects, "in_time", lambda _receipts, _identity: True)
    held = publish_config(tmp_path, NOW)
    run = Opened(make_config(tmp_path, **BUCKET, **NO_ROWS, config={"enabled": True, "secrets": "elsewhere"}))
    due = keeper_objects.due(run, Receipts(tmp_path, (), ""), NOW)
    assert [manifest.id for manifest in due] == [held.id]
    instant = guard.choose_instant(
        run.config, store(tmp_path), versioned, NOW + timedelta(hours=1), lambda _: None, database=held
    )
    assert (instant.at, instant.database_backup) == (NOW, ""), "no backup of a database is named"


# --- what is judged ---


def test_status_looks_at_what_there_is(world: World) -> None:
    world.fill()
    taken = world.take()
    world.seal()
    verify.verify(world.run, "latest", "restore", log=world.said.append)
    seen = status.status(world.run, now=datetime.now(timezone.utc))
    found = {check.name: check for check in seen.checks}
    assert not [check for check in seen.checks if "database" in f"{check.name} {check.detail}"], seen.checks
    assert {name: found[name].result for name in ("newest files backup", "files proof", "recovery point")} == {
        "newest files backup": PASS, "files proof": PASS, "recovery point": PASS,
    }  # fmt: skip
    assert seen.verdict == PASS, [check for check in seen.checks if check.result != PASS]
    assert taken.id in " ".join(status.newest(seen))


def test_without_a_recovery_point_the_site_could_not_be_recovered(world: World) -> None:
    world.fill()
    world.take()
    seen = status.status(world.run, now=datetime.now(timezone.utc))
    (check,) = (check for check in seen.checks if check.name == "recovery point")
    assert (check.result, check.detail) == (FAIL, "there is none that can be used; take one: lifeboat backup")


def test_verify_awaits_no_backup_of_a_database(world: World) -> None:
    world.fill()
    world.take()
    result = verify.verify(world.run, "latest", "restore", log=world.said.append)
    assert (result.verdict, [check.name for check in result.checks if "database" in check.name]) == (PASS, [])
    with_rows = dataclasses.replace(world.run.config, database=read().database)
    checked = verify.verify(Opened(with_rows), "latest", "checksum", log=world.said.append)
    assert Check("database", COULD_NOT_VERIFY, "it was never backed up; run: lifeboat backup database") in (
        checked.checks
    )


def test_nothing_is_awaited_that_does_not_exist(world: World) -> None:
    duties = metrics.duties(world.run.config)
    assert {of for _duty, of in duties} == {"files", "stack", "backend", "site"}
    assert ("recovery_point", "stack") in duties
    assert list(metrics.HERE["database"](metrics.Facts(world.run, NOW))) == []
    assert set(schedule.required(world.run.config)) == {"backup files", "verify"}
    assert "database" not in quarantine_kinds(world.run.config)
    answer = history.answer(world.run.config, ())
    assert not [text for text in json.dumps(typed.plain(answer)).split('"') if text == "database"]


def quarantine_kinds(one: Config) -> list[str]:
    return [name for name, kind in quarantine.KINDS.items() if kind.where(one)]


class Services:
    """Systemd units that run."""

    label = "this host"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def state(self, service: str) -> runtime.ServiceState:
        assert service, "a service without a name was asked for"
        self.asked.append(service)
        return runtime.ServiceState(exists=True, running=True, status="running")

    def images(self) -> dict[str, str]:
        return {}

    def start(self, services: Sequence[str], *, timeout: float) -> None:
        assert not services, "they run already"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    found = Services()
    monkeypatch.setattr(runtime, "connect", lambda _config: found)
    return found


def test_the_checklist_of_an_incident(world: World, services: Services) -> None:
    world.settings["application"] = {"services": ["wiki.service"]}
    world.fill()
    world.take()
    point = world.seal()
    lines = list(checklist_incident.lines(world.run, datetime.now(timezone.utc)))
    assert not [line for line in lines if "database" in f"{line.name} {line.figure}"], lines
    by_name = {line.name: line for line in lines}
    assert (by_name["recovery point"].result, point.id in by_name["recovery point"].figure) == (PASS, True)
    assert (by_name["application"].result, services.asked) == (PASS, ["wiki.service"])
    (world.root / "a" / "one.txt").unlink()
    again = {line.name: line for line in checklist_incident.lines(world.run, datetime.now(timezone.utc))}
    assert (again["files"].result, "lifeboat.dr.recover_files" in again["files"].figure) == (FAIL, True)


def test_the_backup_to_use_where_no_point_is(world: World) -> None:
    world.fill()
    taken = world.take()
    latest = next(iter(checklist_incident.lines(world.run, datetime.now(timezone.utc))))
    assert (latest.name, latest.result, taken.id in latest.figure) == ("backup of the files", PASS, True)


def test_the_lists_of_the_week_and_the_quarter(world: World) -> None:
    world.fill()
    world.take()
    world.take()
    for period in ("daily", "weekly", "quarterly"):
        found = checklist.work_through(world.run, period, now=datetime.now(timezone.utc))
        told = [line for line in found.lines if "database" in f"{line.name} {line.figure}"]
        assert not told, (period, told)
        assert [line for line in found.lines if "files" in f"{line.name} {line.figure}"] or period == "daily"


# --- objects ---


def test_objects_are_compared_with_no_rows_and_nothing_is_missing_for_that(tmp_path: Path) -> None:
    """With a database and without keys_query that is a gap; without a database there is nothing to compare with."""
    without, with_rows = make_config(tmp_path, **BUCKET, **NO_ROWS), make_config(tmp_path, **BUCKET)

    def never() -> Any:
        raise AssertionError("nobody could be asked")

    assert reconcile.checked(without, never) == ([], None)
    assert [check.result for check in reconcile.checked(with_rows, never)[0]] == [COULD_NOT_VERIFY]
    with Inventory() as inventory:
        point: Any = type("Point", (), {"id": "objects_backup_20261124_120000"})()
        words = "lifeboat_objects.keys_query is not set"
        assert compare.judge(without, inventory, point, words) == ([], [], [])
        assert compare.judge(with_rows, inventory, point, words)[1] == [
            f"what the database says of the objects: {words}"
        ]


def test_rows_of_no_database_cannot_be_reconciled(tmp_path: Path, run: Run) -> None:
    found = run("objects_reconcile", settings=settings(tmp_path, **BUCKET, **NO_ROWS))
    assert (found["failed"], SAID in found["msg"]) == (True, True)


# --- recoveries ---


def test_recover_database_refuses_with_a_clear_sentence(tmp_path: Path, run: Run) -> None:
    one = make_config(tmp_path, **FILES)
    with pytest.raises(UsageError, match=SAID):
        database_plan.make(Opened(one), log=lambda _: None)
    for name, more in (("database_plan_info", {}), ("database_backup", {}), ("database_info", {})):
        found = run(name, settings=settings(tmp_path, **FILES), **more)
        assert (found["failed"], SAID in found["msg"]) == (True, True), (name, found)


def test_no_drill_breaks_a_database_that_is_not_there(tmp_path: Path) -> None:
    one = make_config(tmp_path, **FILES, environment="drill")
    with pytest.raises(UsageError, match=SAID):
        fault.refuse_absent(one, "database")
    for scenario in ("files", "backend", "site"):
        fault.refuse_absent(one, scenario)
    with pytest.raises(UsageError, match=SAID):
        beside.rehearse(Opened(one), "database", reason="", operator="", target=60, log=lambda _: None)


def test_a_rehearsal_of_the_files_looks_at_no_database(world: World, services: Services) -> None:
    world.settings["application"] = {"services": ["wiki.service"]}
    world.fill()
    world.take()
    found = beside.rehearse(world.run, "files", reason="", operator="me", target=600, log=world.said.append)
    assert found.verdict == PASS, found.checks
    assert services.asked == ["wiki.service"] * 2


def test_reopening_starts_the_application_alone(world: World, services: Services) -> None:
    checks = reopen.reopen(world.run, ["wiki.service"], log=world.said.append)
    assert [(check.name, check.result) for check in checks] == [("service wiki.service", PASS)]


def evidence(one: Config, scenario: str, checks: tuple[Check, ...]) -> Any:
    phase = ReportedPhase(NOW, NOW + timedelta(seconds=5), None, "", name="files")
    told = evidence_record.Recovery(scenario, Plan("down", (), (), (), 600, None), (phase,), checks)
    return evidence_record.build(one, told, now=NOW)


def test_the_record_of_a_site_is_proved_by_its_files(tmp_path: Path) -> None:
    files = Check("files uploads", PASS, "20 entries came back", kind="files")
    one = make_config(tmp_path, **FILES)
    assert evidence(one, "site", (files,)).verdict == PASS
    nothing = evidence(one, "site", (Check("service wiki", PASS, "running"),))
    assert (nothing.verdict, nothing.checks[1].detail) == (COULD_NOT_VERIFY, "the files was compared with nothing")
    with_rows = evidence(make_config(tmp_path, files=SOURCE), "site", (files,))
    assert with_rows.verdict == COULD_NOT_VERIFY, "files prove nothing of rows"
    alone = make_config(tmp_path, database=False, config={"enabled": True, "secrets": "elsewhere"})
    assert evidence(alone, "site", (Check("service wiki", PASS, "running"),)).verdict == PASS


def test_the_record_names_no_rows_that_were_not_restored(tmp_path: Path) -> None:
    check = Check("files uploads", PASS, "all", kind="files")
    untested = [gap.what for gap in evidence(make_config(tmp_path, **FILES), "files", (check,)).untested]
    assert "the database's rows" not in untested
    assert "the database's rows" in [gap.what for gap in evidence(make_config(tmp_path), "files", (check,)).untested]


# --- the site ---

MACHINE = site_scope.Machine("Debian", 2, 1 << 40, "/var/lib")
SPARE = site_scope.HostState("spare1", machine=MACHINE)


def plan_site(world: World, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> site_show.Plan:
    monkeypatch.setattr(copies, "vault", lambda _run: world.repo)
    run = Opened(configuration.from_mapping({**world.settings, **changes}))
    lost = {"app1": "connection timed out"}
    return site_plan.make(run, site_plan.Request(), SPARE, lost, log=world.said.append)


def test_the_plan_of_a_site_of_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    taken = world.take()
    point = world.seal()
    made = plan_site(world, monkeypatch)
    assert (made.ready, made.parts) == (True, {"files": taken.id})
    assert made.backup is not None and (made.backup.id, made.backup.details) == (point.id, None)
    assert not [check for check in made.checks if check.result != PASS], made.checks
    text = "\n".join(site_show.text(made, SPARE))
    assert f"recovery point: {point.id}, the data of" in text
    assert f"files: every file of {taken.id} into its volume or directory" in text
    assert not [line for line in text.splitlines() if "roles" in line or "rows" in line or "a fresh" in line], text


def test_a_point_of_another_kind_of_stack_is_not_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was described since has no backup in it: the site would come back without its rows."""
    world.fill()
    world.take()
    point = world.seal()
    with pytest.raises(NotFoundError, match="it has no backup of the database that lifeboat_database describes"):
        plan_site(world, monkeypatch, database={"name": "shop"})
    with pytest.raises(LifeboatError, match=f"{point.id}.*No recovery point in the vault is whole"):
        plan_site(world, monkeypatch, database={"name": "shop"})


def test_a_point_with_a_database_is_not_recovered_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, held = publish(tmp_path, NOW), publish_config(tmp_path, NOW)
    one = make_config(tmp_path, config={"enabled": True, "secrets": "elsewhere"})
    monkeypatch.setattr(runtime, "connect", lambda _config: Services())
    point, _new = points.seal(Opened(one), now=NOW, log=lambda _: None)
    assert point.ids == {"database": database.id, "objects": None, "config": held.id}
    monkeypatch.setattr(copies, "vault", lambda _run: store(tmp_path))
    run = Opened(make_config(tmp_path, database=False, config={"enabled": True, "secrets": "elsewhere"}))
    with pytest.raises(NotFoundError, match=f"it holds {database.id}, and lifeboat_database is false"):
        site_plan.make(run, site_plan.Request(), SPARE, {"app1": "timed out"}, log=lambda _: None)


# --- deploy ---


class Compose:
    """A project without the service `db`."""

    def state(self, service: str) -> runtime.ServiceState:
        raise NotFoundError("look at the service", service, "the project has no such service")


def test_deploy_says_what_to_do_where_no_database_was_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "connect", lambda _config: Compose())
    unsaid = read()
    (told,) = preflight.unreachable(Opened(unsaid), stack=True)
    assert told.startswith("lifeboat_database.service: ")
    assert told.endswith("where the stack has no PostgreSQL, say `lifeboat_database: false`.")
    (plain,) = preflight.unreachable(Opened(read(database={"service": "sql"})), stack=True)
    assert "lifeboat_database: false" not in plain, "it was described, and wrongly"
    assert preflight.unreachable(Opened(read(**FILES)), stack=True) == []


def test_a_mount_with_a_database_that_was_denied_is_in_no_backup(tmp_path: Path) -> None:
    """Who says that there is none, and keeps one, is told so: nothing pretends that it is protected."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("17\n")
    one = read(**NO_ROWS)
    mount = mounts._Mount(mounts.VOLUME, "shop_data", "data", {"db:/var/lib/postgresql/data": True}, str(data))
    mount.contents = mounts.contents.read(data)
    stack = mounts.Stack(one, runtime.ComposeRuntime(one), (mount,))
    seen = mounts._judged(stack, mount)
    assert (seen.protection, seen.servers) == ("unprotected", ("PostgreSQL 17",))


def test_the_modules_of_a_deployment_ask_no_database(world: World, run: Run, services: Services) -> None:
    world.fill()
    checked = run("stack_check_info", settings=world.settings, host="a", places=[])
    assert not checked["failed"], checked
    planned = run("recovery_point", settings=world.settings, check=True)
    assert (planned["failed"], planned["changed"]) == (False, True), planned
    taken = run("recovery_point", settings=world.settings)
    assert (taken["failed"], taken["components"]["database"]) == (False, None), taken
    asked = run("stack_reopen", settings=world.settings, services=["wiki.service"])
    assert (asked["verdict"], services.asked[-1]) == (PASS, "wiki.service")


def manifest_of(world: World, identity: str) -> Manifest:
    found = points.backups(world.repo, "shop")["files"]
    return next(entry.manifest for entry in found if entry.id == identity and entry.manifest)


def test_a_second_night_has_a_point_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    first = world.take()
    one = world.seal()
    monkeypatch.setattr(clock, "now", lambda: datetime.now(timezone.utc))
    (world.root / "later").write_text("x")
    second = world.take()
    two = world.seal(datetime.now(timezone.utc) + timedelta(seconds=2))
    assert (one.ids["files"], two.ids["files"]) == (first.id, second.id)
    assert manifest_of(world, second.id).taken_at == two.taken_at
