# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a site is recovered on a machine, to which point, and what is refused before anything is built."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import services as configuration_services
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof as objects_proof
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, manifest, points, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope, state
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show
from ansible_collections.lifeboat.dr.plugins.module_utils.site.instant import Wish
from ansible_collections.lifeboat.dr.plugins.module_utils.site.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At
from builders import BUCKET, NOW, make_config, make_manifest, prove, publish, publish_config, publish_objects, store
from config_world import keys as new_key
from encryption_world import Lab

MACHINE = scope.Machine("Debian", 2, 1 << 40, "/var/lib")
EMPTY = scope.HostState("spare1", machine=MACHINE)
LIVING: dict[str, Any] = typed.plain(
    replace(EMPTY, host="app1", running=("db", "web"), components=(scope.Component("database", "down"),)), nulls=True
)
LATEST = Request()
WIKI = {"name": "wiki", "folder": "buckets/001", "objects": 3, "bytes": 3, "consistency": "snapshot"}
LOST = {"app1": "connection timed out"}


def mount(name: str, protection: Any) -> StateMount:
    return StateMount(name, "volume", (f"web:/{name}",), protection, "no component protects it")


class World:
    """A vault with recovery points; the repository's directory plays it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.versions = [Check("versions", PASS, "all")]
        monkeypatch.setattr(copies, "vault", lambda _: store(root))
        monkeypatch.setattr(objects_proof, "levels", lambda *_: iter(self.versions))
        monkeypatch.setattr(configuration_services, "readable", lambda: False)
        self.files: list[dict[str, Any]] = []
        self.state: Optional[StateInventory] = StateInventory((mount("data", "protected"),))

    def point(
        self, hours: int = 0, *, config: bool = True, artefacts: Sequence[str] = (),
        objects: Mapping[str, Any] = MappingProxyType({}), **details: Any,
    ) -> str:  # fmt: skip
        """objects, details: of the backup of the objects, and of the database."""
        taken = NOW + timedelta(hours=hours)
        dumps = (Artefact(name, 4, hashlib.sha256(b"dump").hexdigest()) for name in artefacts)
        more = {"artefacts": (*make_manifest(taken).artefacts, *dumps)} if artefacts else {}
        database = publish(self.root, taken, **more, **({"details": details} if details else {}))
        parts: dict[str, Optional[Manifest]] = {
            "database": database, "objects": publish_objects(self.root, taken, of=database, **objects),
            "config": publish_config(self.root, taken, files=self.files, **self.mounts()) if config else None,
        }  # fmt: skip
        named = {name: points.Part(part.id, part.seal) if part else None for name, part in parts.items()}
        one = points.Point(
            f"{taken:%Y%m%d_%H%M%S}", "shop", taken, taken, "snapshot", named, {"db": "db@sha256:1"}, (), ()
        )
        store(self.root).write_point(one.id, one.to_bytes())
        return one.id

    def mounts(self) -> dict[str, Any]:
        return {"state": typed.plain(self.state)} if self.state else {}

    def make(
        self, request: Request = LATEST, here: Any = None, others: Any = None, **changes: Any
    ) -> site_show.Plan:  # fmt: skip
        one = make_config(self.root, **{**BUCKET, **changes})
        return site_plan.make(
            Opened(one),
            request,
            EMPTY if here is None else here,
            LOST if others is None else others,
            log=lambda _: None,
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


UNPROTECTED = StateInventory((mount("data", "protected"), mount("media", "unprotected")))
NO_CONFIG = "the point has no backup that says what the services mounted"


def mounts_check(made: site_show.Plan) -> Check:
    (check,) = (check for check in made.checks if check.name == "mounts")
    return check


def test_what_the_lost_host_mounted_and_no_backup_holds_is_no_green(world: World) -> None:
    world.state = UNPROTECTED
    world.point()
    made = world.make()
    check = mounts_check(made)
    assert check.result == COULD_NOT_VERIFY
    assert check.detail.startswith("the volume media (web:/media) is in no backup: no component protects it; ")
    shown = "\n".join(site_show.text(made, EMPTY))
    assert "COULD_NOT_VERIFY  mounts: the volume media (web:/media) is in no backup" in shown
    # Excluded by name, by the inventory of today: named every time, and no verdict is lowered.
    excluded = world.make(mounts={"exclude": [{"name": "media", "reason": "made of the objects"}]})
    words = "excluded by name: the volume media (web:/media): made of the objects"
    assert (mounts_check(excluded).result, words in mounts_check(excluded).detail) == (PASS, True)
    assert ("the volume media (web:/media)", "excluded by name: made of the objects") in [
        (gap.what, gap.why) for gap in excluded.untested
    ]


def test_what_a_backup_protects_that_the_point_does_not_hold_is_no_green(world: World) -> None:
    """As the points did that keepers sealed: the files were pulled, and no point named them."""
    held = dataclasses.replace(mount("uploads", "protected"), by="files")
    world.state = StateInventory((dataclasses.replace(mount("data", "protected"), by="database"), held))
    world.point()
    check = mounts_check(world.make())
    words = "the volume uploads (web:/uploads) is in no backup: the recovery point does not hold its backup (files)"
    assert (check.result, check.detail.startswith(words)) == (COULD_NOT_VERIFY, True), check.detail
    assert "data (web:/data)" not in check.detail
    excluded = world.make(mounts={"exclude": [{"name": "uploads", "reason": "made again"}]})
    assert mounts_check(excluded).result == PASS


@pytest.mark.parametrize("config", [True, False])
def test_a_point_that_does_not_say_what_was_mounted_is_no_green(world: World, config: bool) -> None:
    """Of an earlier Lifeboat, or without a backup of the configuration."""
    world.state = None
    world.point(config=config)
    made = mounts_check(world.make())
    assert made.result == COULD_NOT_VERIFY
    assert ("was taken by an earlier Lifeboat" in made.detail, NO_CONFIG in made.detail) == (config, not config)
    units = world.make(runtime={"type": "host"})
    assert [check for check in units.checks if check.name == "mounts"] == []


def test_a_lost_site_is_planned_to_the_newest_point_and_every_step_is_shown(world: World) -> None:
    world.point(-24)
    newest = world.point()
    made = world.make(Request(cutover="/ops/dns.yml"))
    assert (made.needed, made.ready, made.lacking, made.backup.id) == (True, True, "", newest)
    assert made.condition == "lost with app1"
    assert {check.result for check in made.checks} == {PASS}
    assert any("was not reached, which does not prove that it is off" in warning for warning in made.warnings)
    starts = [step.partition(":")[0].partition(",")[0] for step in made.steps]
    assert starts == [
        "scope", "verify the backups", "build", "configure", "fetch", "images", "database", "objects", "verify",
        "cutover", "backups", "record",
    ]  # fmt: skip
    assert "run /ops/dns.yml" in "".join(made.steps)
    said = site_show.text(made, EMPTY)
    assert any(line.startswith("to do: the site is to be recovered here") for line in said)
    assert any("app1: lost, it cannot be reached (connection timed out)" in line for line in said)


def test_a_rehearsal_neither_cuts_over_nor_takes_backups(world: World) -> None:
    world.point()
    steps = world.make(Request(rehearsal=True), others={"app1": LIVING}).steps
    assert not [step for step in steps if step.startswith(("cutover", "backups"))]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("the site lives elsewhere", {"others": {"app1": LIVING}}, "the site still lives on app1: db, web run there"),
    (
        "it cannot be looked at",
        {"others": {"app1": {"failed": "no Python"}}},
        "app1 answers, and what runs there could not be seen (no Python)",
    ),
    (
        "its engine is down",
        {"others": {"app1": {**LIVING, "running": [], "unknown": "its engine does not answer: x"}}},
        "(its engine does not answer: x)",
    ),
    ("its answer is malformed", {"others": {"app1": {"running": 7}}}, "(its answer is of another shape: running wants"),
    ("one is lost, one in doubt", {"others": {**LOST, "app2": {"failed": "no Python"}}}, "app2 answers, and"),
    ("the target lives", {"here": replace(EMPTY, running=("db",))}, "the stack runs on this machine: db"),
    ("a port is taken", {"here": replace(EMPTY, machine=replace(MACHINE, taken=(8000,)))}, "answers on port 8000"),
    ("no room", {"here": replace(EMPTY, machine=replace(MACHINE, free_bytes=100))}, "100 B free"),
    ("an unknown point", {"request": Request("20200101_000000")}, "the repository has 20261124_120000"),
    ("too early a time", {"request": Request(wish=Wish(At(NOW - timedelta(days=9))))}, "the first is of 2026-11-24"),
]


@pytest.mark.parametrize(("given", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_it_is_refused_before_anything_is_built(world: World, given: dict[str, Any], words: str) -> None:
    world.point()
    with pytest.raises((UsageError, NotFoundError, SpaceError)) as error:
        world.make(**given)
    assert words in error.value.cause


def test_what_each_component_of_a_living_site_needs_is_said(world: World) -> None:
    with pytest.raises(UsageError) as error:
        world.make(others={"app1": LIVING})
    assert "database is down (lifeboat.dr.recover_database)" in error.value.cause
    assert "-e rehearsal=true" in error.value.remedy


@pytest.mark.parametrize("seen", [{"failed": "no Python"}, {**LIVING, "unknown": "no Python"}])
def test_beside_a_machine_in_doubt_one_may_rehearse(world: World, seen: dict[str, Any]) -> None:
    world.point()
    made = world.make(Request(rehearsal=True), others={"app1": seen})
    assert (made.condition, [line for line in made.warnings if "not reached" in line]) == ("unknown elsewhere", [])
    assert made.findings[0] == "app1: what runs there could not be seen (no Python)"


def test_an_engine_that_does_not_run_yet_keeps_no_machine_from_being_the_target(world: World) -> None:
    world.point()
    assert world.make(here=replace(EMPTY, unknown="its engine does not answer")).ready is True


def test_what_is_dead_elsewhere_does_not_keep_the_site_from_being_recovered(world: World) -> None:
    world.point()
    made = world.make(others={"app1": {**LIVING, "running": [], "stopped": ["db"]}})
    assert made.condition == "not running anywhere"


def damage(root: Path, component: str, name: str) -> None:
    folder = {"database": "postgresql"}.get(component, component)
    newest = sorted((root / "backup" / folder).iterdir())[-1] / name
    newest.chmod(0o600)
    newest.write_bytes(b"X" * newest.stat().st_size)


def publish_objects_of(root: Path, point: str) -> Manifest:
    identity = f"objects_backup_{point}"
    return manifest.parse(store(root).manifest("objects", identity), component="objects", expected_id=identity)


@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("database", "database.dump"),
        ("database", "fingerprint.json"),
        ("objects", "listing.jsonl.gz"),
        ("config", "config.tar.gz"),
    ],
)
def test_a_damaged_newest_point_is_passed_over_and_said(world: World, component: str, name: str) -> None:
    older, newest = world.point(-24), world.point()
    assert world.make().backup.id == newest
    damage(world.root, component, name)
    made = world.make()
    assert made.backup.id == older
    assert [point.id for point in made.passed_over] == [newest]
    assert "has another SHA-256" in made.passed_over[0].problem
    with pytest.raises(IntegrityError) as error:
        world.make(Request(newest))
    assert "Nothing was built" in error.value.cause


def test_versions_that_the_vault_lost_make_a_point_unfit(world: World) -> None:
    world.point()
    world.versions = [Check("versions", FAIL, "the vault no longer has these versions: a")]
    with pytest.raises(NotFoundError) as error:
        world.make()
    assert "no longer has these versions: a" in error.value.cause


def test_a_point_with_a_failed_part_is_taken_if_it_is_named_and_accepted(world: World) -> None:
    point = world.point()
    prove(world.root, publish_objects_of(world.root, point), FAIL)
    with pytest.raises(IntegrityError) as error:
        world.make(Request(point))
    assert f"-e recovery_point={point} -e accept=failed" in error.value.remedy
    with pytest.raises(UsageError) as unnamed:
        world.make(Request(accept=True))
    assert "it needs the id of a backup or of a recovery point" in unnamed.value.cause
    made = world.make(Request(point, accept=True))
    assert (made.backup.id, made.ready) == (point, True)
    (why,) = made.accepted
    assert why.endswith("verification at level restore failed (tables: x)")
    assert f"  ACCEPTED although it failed: {why}" in site_show.text(made, EMPTY)
    world.versions = [Check("versions", FAIL, "the vault no longer has these versions: a")]
    made = world.make(Request(point, accept=True))
    assert "versions: the vault no longer has these versions: a" in made.accepted[1]
    assert [check.result for check in made.checks].count(FAIL) == 1, "it stays a failed check"


@pytest.mark.parametrize(
    ("component", "name"),
    [("database", "database.dump"), ("objects", "listing.jsonl.gz"), ("config", "config.tar.gz")],
)
def test_bytes_that_a_new_machine_would_begin_with_are_not_accepted(world: World, component: str, name: str) -> None:
    point = world.point()
    damage(world.root, component, name)
    with pytest.raises(IntegrityError, match="has another SHA-256"):
        world.make(Request(point, accept=True))


def test_a_point_far_smaller_than_those_before_is_not_taken_unasked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = world.point()
    monkeypatch.setattr(site_plan.catalog, "shrunk", lambda *_, **__: ("it holds 3 rows, another 500", "older"))
    with pytest.raises(UsageError) as error:
        world.make()
    assert "which of them is right is not ours to guess" in error.value.cause
    assert world.make(Request(only)).backup.id == only


def server(*databases: str) -> dict[str, Any]:
    """Details of a backup that holds these besides the application's."""
    counts = {"tables": 1, "rows": 7}
    each = {"taken_at": "2026-11-24T12:00:00Z", "size": 1, "fingerprint": counts}
    numbered = enumerate(databases, 1)
    return {"others": [{"name": name, "folder": f"databases/00{number}", **each} for number, name in numbered]}


def test_a_database_that_the_point_does_not_hold_is_named_and_stops_nothing(world: World) -> None:
    """One that was dropped since, and one that only a newer backup holds."""
    before = world.point(-24, **server("blog", "postgres"))
    newest = world.point(**server("postgres", "wiki"))
    blog = f"-e recovery_point=db_backup_{before} -e database=blog"
    made = world.make()
    assert made.backup.id == newest
    assert [warning for warning in made.warnings if blog in warning]
    assert not [gap for gap in made.untested if "database" in gap.what]
    made = world.make(Request(before))
    wiki = f"db_backup_{before} does not hold the database wiki; db_backup_{newest} does"
    assert [warning for warning in made.warnings if wiki in warning]
    assert "the database wiki" in [gap.what for gap in made.untested]


# --- by database ---


def verdict(world: World, point: str, **failed: str) -> None:
    """A verification of the point's database on record: which databases failed, and why."""
    identity = f"db_backup_{point}"
    one = manifest.parse(store(world.root).manifest("database", identity), component="database", expected_id=identity)
    names = [dump.name for dump in one.detailed(DatabaseDetails).databases]
    each = {name: {"verdict": FAIL if name in failed else PASS, "reason": failed.get(name, "")} for name in names}
    told = {"verdict": FAIL, "finished_at": "2026-11-24T13:00:00Z", "databases": each}
    repositories.publish_verification(Opened(make_config(world.root)), store(world.root), one, {"restore": told})


def server_on_disk(world: World, hours: int, *databases: str) -> str:
    """A point whose backup of the database has artefacts for each database."""
    details = server(*databases)
    point = world.point(hours, artefacts=[f"{item['folder']}/database.dump" for item in details["others"]], **details)
    assert world.make().backup.id == point
    return point


def test_a_site_comes_back_to_the_newest_point_without_a_spoiled_other_database(world: World) -> None:
    """Not to the night before, for the sake of the wiki."""
    before = server_on_disk(world, -24, "wiki", "postgres")
    newest = server_on_disk(world, 0, "wiki", "postgres")
    assert world.make().databases == ()
    verdict(world, newest, wiki="rows: public.t differs")
    made = world.make()
    assert (made.backup.id, made.passed_over, made.databases) == (newest, (), ("shop", "postgres"))
    back = f"lifeboat.dr.recover_database -e recovery_point=db_backup_{before} -e database=wiki"
    (said,) = (warning for warning in made.warnings if "wiki" in warning)
    assert said.startswith(f"the database wiki is left out, as it is spoiled in db_backup_{newest}; ") and back in said
    (short,) = (check for check in made.checks if check.result != PASS)
    assert (short.name, short.result) == ("databases left out", FAIL), "what is not back is no PASS"
    assert "verification at level restore failed (rows: public.t differs)" in short.detail
    assert any(said in line for line in site_show.text(made, EMPTY))
    assert world.make(Request(newest)).databases == ("shop", "postgres"), "by name, too"
    assert world.make(Request(newest, accept=True)).databases == (), "an operator takes it as it is"


def test_a_spoiled_database_of_the_application_sets_the_site_back(world: World) -> None:
    before, newest = server_on_disk(world, -24, "wiki"), server_on_disk(world, 0, "wiki")
    verdict(world, newest, shop="rows: public.t differs")
    made = world.make()
    assert (made.backup.id, made.databases) == (before, ())
    assert [(over.id, over.problem) for over in made.passed_over] == [
        (newest, "the database shop: verification at level restore failed (rows: public.t differs)")
    ]
    with pytest.raises(IntegrityError) as error:
        world.make(Request(newest))
    assert f"-e recovery_point={newest} -e accept=failed" in error.value.remedy


def test_bytes_that_differ_leave_out_the_database_that_they_are_of(world: World) -> None:
    before = server_on_disk(world, -24, "wiki")
    newest = server_on_disk(world, 0, "wiki")
    damage(world.root, "database", "databases/001/database.dump")
    made = world.make()
    assert (made.backup.id, made.databases) == (newest, ("shop",))
    assert f"-e recovery_point=db_backup_{before} -e database=wiki" in "".join(made.warnings)
    told = "databases/001/database.dump has another SHA-256 than when it was written"
    assert [check.detail for check in made.checks if check.result == FAIL] == [
        f"wiki is spoiled in db_backup_{newest}: {told}"
    ]
    damage(world.root, "database", "database.dump")
    assert world.make().backup.id == before


def test_a_point_that_lacks_another_database_is_the_newest_all_the_same(world: World) -> None:
    before = world.point(-24, **server("wiki"))
    newest = world.point(missing={"wiki": "it takes no connections"}, **server())
    made = world.make()
    assert (made.backup.id, made.passed_over) == (newest, ())
    assert f"db_backup_{newest} does not hold the database wiki; db_backup_{before} does" in "".join(made.warnings)
    words = f"wiki is not in db_backup_{newest}: it takes no connections"
    assert [check.detail for check in made.checks if check.result == FAIL] == [words]


def test_a_point_that_lacks_another_bucket_is_the_newest_all_the_same(world: World) -> None:
    """As one that lacks a database: the lack is named, and the command that brings the bucket back."""
    before = world.point(-24, objects={"others": [WIKI], "unprotected": []})
    newest = world.point(objects={"missing": {"wiki": "access denied"}, "unprotected": []})
    made = world.make(objects={**BUCKET["objects"], "buckets": ["*"]})
    assert (made.backup.id, made.passed_over) == (newest, ())
    words = f"objects_backup_{newest} does not hold the bucket wiki; objects_backup_{before} does"
    command = f"lifeboat.dr.recover_object_storage -e recovery_point=objects_backup_{before} -e bucket=wiki"
    assert [line for line in made.warnings if "the bucket wiki" in line] == [
        f"{words}: when the site is back, {command}"
    ]
    assert [(check.name, check.detail) for check in made.checks if check.result == FAIL] == [
        ("buckets left out", f"the bucket wiki is not in objects_backup_{newest}: access denied")
    ]
    gap = f"the newest that holds it is objects_backup_{before}"
    assert [(one.what, one.why) for one in made.untested if "wiki" in one.what] == [("the bucket wiki", gap)]
    unwanted = world.make()
    assert [check for check in unwanted.checks if check.result == FAIL], "the backup says that it should be in it"


SEALED = "AGE-SECRET-KEY-1TEST"


@pytest.fixture
def sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The config backup of the point has sealed secrets."""
    real = publish_config

    def publish_sealed(root: Path, taken: Any, **more: Any) -> Manifest:
        one = real(root, taken, **more)
        first = dataclasses.replace(one.artefacts[0])
        monkeypatch.setattr(configuration_restore, "SECRETS", first.name)
        return one

    monkeypatch.setattr("test_site_plan.publish_config", publish_sealed)
    return world


def test_without_the_key_it_is_planned_and_not_carried_out(sealed: World) -> None:
    sealed.point()
    made = sealed.make()
    assert "-e identity_file=" in made.lacking
    assert any("whether the key opens the configuration" in line for line in made.unchecked)


def test_the_key_is_tried_before_anything_is_built(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.point()
    monkeypatch.setattr(
        configuration_restore,
        "open_secrets",
        lambda *_: configuration_restore.Opened(b"", {"/srv/.env": None}),  # type: ignore[dict-item]
    )
    made = sealed.make(Request(key=SEALED))
    assert (made.lacking, made.checks[-1].detail) == ("", "the key opens 1 files")

    def refuse(*_: Any) -> Any:
        raise UsageError("decrypt", "it", "no identity matched any of the recipients")

    monkeypatch.setattr(configuration_restore, "open_secrets", refuse)
    with pytest.raises(UsageError, match="no identity matched"):
        sealed.make(Request(key=SEALED))


def test_a_machine_that_cannot_read_the_vault_yet_gets_a_plan_that_says_so(world: World) -> None:
    made = world.make(here=replace(EMPTY, machine=replace(MACHINE, missing=("python3-boto3", "age"))))
    assert (made.needed, made.ready, made.backup) == (True, False, None)
    assert "python3-boto3 and age are not on this machine" in made.unchecked[0]
    assert any("not checked" in line for line in site_show.text(made, EMPTY))


def recovered(point: str, *, ended: bool = True, rehearsal: bool = False) -> scope.HostState:
    done = state.Phase("database", "2026-11-24T12:00:00Z", "2026-11-24T12:30:00Z", (Check("tables", PASS),))
    last = state.Recovery(point, rehearsal, "2026-11-24T13:00:00Z" if ended else "", (done,))
    return replace(EMPTY, running=("db",), components=(scope.Component("database", "healthy"),), recovery=last)


@pytest.mark.parametrize("asked", ["latest", "", "20261124_120000"])
def test_a_site_that_was_recovered_and_runs_is_left_alone(world: World, asked: str) -> None:
    point = world.point()
    world.point(5)  # its own first backup, newer than what it was recovered to
    made = world.make(Request(asked), here=recovered(point))
    assert (made.needed, made.steps) == (False, ())
    assert "nothing to do: the site was recovered to 20261124_120000" in "\n".join(site_show.text(made, EMPTY))
    assert not world.make(Request(wish=Wish(At(NOW + timedelta(hours=1)))), here=recovered(point)).needed


def test_a_recovered_site_that_does_not_run_is_a_matter_of_the_other_scenarios(world: World) -> None:
    here = recovered(world.point())
    here = replace(here, components=(scope.Component("database", "down"),))
    with pytest.raises(UsageError) as error:
        world.make(here=here)
    assert "database is down" in error.value.cause
    assert "lifeboat.dr.recover_database" in error.value.remedy


def test_another_point_on_a_recovered_site_is_not_a_total_loss(world: World) -> None:
    world.point()
    with pytest.raises(UsageError) as error:
        world.make(Request("20261124_120000"), here=recovered("20261120_120000"))
    assert "lives on this machine" in error.value.cause


def test_after_a_rehearsal_the_real_thing_is_done(world: World) -> None:
    point = world.point()
    assert not world.make(Request(rehearsal=True), here=recovered(point, rehearsal=True)).needed
    assert world.make(here=recovered(point, rehearsal=True)).needed


def test_an_unfinished_recovery_is_gone_on_with_although_a_newer_point_is_there(world: World) -> None:
    point = world.point()
    world.point(5)
    made = world.make(here=recovered(point, ended=False))
    assert (made.needed, made.backup.id, made.done) == (True, point, ("database",))
    assert "has not ended" in made.why
    assert any("done by an earlier run: database" in line for line in site_show.text(made, EMPTY))


def test_without_a_vault_there_is_nothing_to_recover_from(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "vault", lambda _: None)
    with pytest.raises(UsageError) as error:
        world.make()
    assert "no copies are kept in a vault" in error.value.cause


def test_a_vault_that_does_not_answer_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Any) -> Any:
        raise LifeboatError("reach the vault", "http://vault", "connection refused")

    monkeypatch.setattr(copies, "vault", away)
    with pytest.raises(LifeboatError, match="connection refused"):
        world.make()


@pytest.mark.parametrize("key", ["none", "another's", "right"])
def test_an_encrypted_database_is_opened_before_anything_is_built(world: World, key: str) -> None:
    lab = Lab(world.root)
    world.monkeypatch.setattr(sys.modules[__name__], "publish", lambda _root, taken: lab.back_up(taken_at=taken))
    point = world.point(config=False)
    given = {"none": "", "another's": new_key(world.root)[0], "right": lab.identity}[key]
    if key == "another's":
        with pytest.raises(UsageError, match="no identity matched any of the recipients"):
            world.make(Request(key=given))
        return
    made = world.make(Request(key=given))
    if key == "none":
        assert made.lacking.startswith("the key that opens db_backup_")
        assert "-e identity_file=" in made.lacking
    else:
        assert made.lacking == ""
        assert [check.detail for check in made.checks if check.name.endswith(", encryption")] == ["the key opens it"]
    assert made.backup.id == point


def test_the_plan_holds_no_key(world: World) -> None:
    world.point()
    assert SEALED not in json.dumps(typed.plain(world.make(Request(key=SEALED))))


def test_every_file_and_service_is_in_the_plan_and_what_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.files = [
        {"path": f"{world.root}/compose.yml"},
        {"path": f"{world.root}/bin/helper", "mode": "4755"},
        {"path": "/etc/ld.so.preload"},
        {"path": "/etc/systemd/system/shop.service"},
    ]
    world.point()
    web = configuration_services.Service("web", "web:1", "not named", ("*:80",), ("web: privileged", "web: pid host"))
    monkeypatch.setattr(site_plan.site_files, "_of_backup", lambda *_: (replace(web, allowed=("web: pid host",)),))
    unpacked = contextlib.contextmanager(lambda *_: iter([None]))
    monkeypatch.setattr(site_plan.site_files, "_unpacked", unpacked)
    monkeypatch.setattr(configuration_services, "readable", lambda: True)
    made = world.make(config={"enabled": False, "files": ["/etc/systemd/system/shop.service"]})
    said = [line.strip() for line in site_show.text(made, EMPTY)]
    begin = said.index("files: 3 to be placed, 0 there already, 2 differ from the backup")
    assert said[begin + 1 : begin + 9] == [
        "/etc/systemd/system/shop.service: new, 0644; cron or systemd runs what it says, as root unless it names"
        " another user: read it first",
        f"{world.root}/bin/helper: new, 0755",
        f"{world.root}/compose.yml: new, 0644",
        "LEFT OUT  /etc/ld.so.preload: the inventory does not name it",
        f"LEFT OUT  {world.root}/bin/helper: it is placed without its setuid bit (4755)",
        "starts web: web:1, the inventory does not name it, answers on *:80",
        "REFUSED  web: privileged",
        "ALLOWED  web: pid host",
    ]
    assert 'what reaches out of its container: -e \'{"allow": ["web: privileged"]}\'' in made.lacking
    assert json.loads(json.dumps(typed.plain(made, nulls=True)))["placing"]["left"][0]["path"] == "/etc/ld.so.preload"


def test_a_plan_without_compose_says_when_the_services_are_known(world: World) -> None:
    world.point()
    made = world.make()
    (line,) = [line for line in site_show.text(made, EMPTY) if "services: not known yet" in line]
    assert "Compose is not on this machine" in line and "before any of them is started" in line
    assert made.lacking == ""


def test_without_signers_the_plan_says_what_cannot_be_known(world: World) -> None:
    """Of a planted point all seals fit. The seal that an operator noted elsewhere is what tells it from his own."""
    newest = world.point()
    made = world.make()
    (said,) = (line for line in made.warnings if "cannot be known" in line)
    seal = points.parse(store(world.root).read_point(newest), expected_id=newest).seal
    assert said.startswith("nobody is pinned (lifeboat_signers)") and said.endswith(f"-e seal={seal}")
    assert f"  WARNING: {said}" in site_show.text(made, EMPTY)
    one = dataclasses.replace(make_config(world.root, **BUCKET), pin=seal)
    pinned = site_plan.make(Opened(one), LATEST, EMPTY, LOST, log=lambda _: None)
    assert pinned.ready and not [line for line in pinned.warnings if "cannot be known" in line]
