# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What a repository holds, which backup to use, what retention and status make of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    NotFoundError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base, catalog, manifest, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, entries, folder, make_config, make_manifest, prove, publish, publish_objects, store

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_a_whole_backup_is_good_and_proven_only_by_a_restore(tmp_path: Path) -> None:
    one = publish(tmp_path)
    (found,) = entries(tmp_path)
    assert (found.id, found.manifest, found.problem, found.good) == (one.id, one, "", True)
    assert (found.proven_at, dict(found.proof)) == (None, {})
    prove(tmp_path, one, level="checksum")
    (found,) = entries(tmp_path)
    assert (found.proven_at, list(found.proof)) == (None, ["checksum"])
    prove(tmp_path, one, at=NOW + HOUR)
    (found,) = entries(tmp_path)
    assert (found.proven_at, list(found.proof)) == (NOW + HOUR, ["checksum", "restore"])
    shown = found.as_dict(NOW + 2 * HOUR)
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["good"], shown["proven"], shown["age_seconds"]) == (True, True, 7200)
    assert shown["verification"] == {"checksum": "PASS", "restore": "PASS"}


Damage = Callable[[Path], Any]
# (what happened to the backup's folder, what is said of it)
PROBLEMS: list[tuple[str, Damage, str]] = [
    ("an artefact missing", lambda path: (path / "database.dump").unlink(), "database.dump is missing"),
    ("one shorter", lambda path: (path / "database.dump").write_bytes(b"dum"), "database.dump has 3 bytes instead of 4"),
    ("one longer", lambda path: (path / "database.dump").write_bytes(b"dumps"), "database.dump has 5 bytes instead of 4"),
    ("one more", lambda path: (path / "extra").write_bytes(b""), "extra does not belong to it"),
    ("one deep down", lambda path: (path / "d/e").mkdir(parents=True), ""),
    ("a file deep down", lambda path: ((path / "d").mkdir(), (path / "d/f").touch()), "d/f does not belong to it"),
    ("a broken manifest", lambda path: (path / "manifest.json").write_text("{"), "it is not a manifest"),
    ("an edited one", lambda path: edit(path, lambda doc: doc.update(stack="x")), "it was edited"),
    ("another's", lambda path: (path / "manifest.json").write_bytes(make_manifest(NOW - DAY).to_bytes()), "it is the"),
    ("a newer schema", lambda path: edit(path, lambda doc: doc.update(version=[2, 0])), "this Lifeboat reads version 1"),
    ("a failed proof", lambda path: prove_at(path, checks.FAIL), "verification at level restore failed"),
    ("no verdict yet", lambda path: prove_at(path, checks.COULD_NOT_VERIFY), ""),
    ("everything", lambda path: [file.unlink() for file in path.iterdir() if file.name != "manifest.json"], "is missing; "),
]  # fmt: skip


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    body = json.loads((path / "manifest.json").read_bytes())
    change(body)
    (path / "manifest.json").write_bytes(sealing.render(body))


def prove_at(path: Path, verdict: str) -> None:
    prove(path.parents[2], make_manifest(), verdict)


@pytest.mark.parametrize(("damage", "words"), [case[1:] for case in PROBLEMS], ids=[case[0] for case in PROBLEMS])
def test_problems_of_a_backup(tmp_path: Path, damage: Damage, words: str) -> None:
    one = publish(tmp_path)
    assert entries(tmp_path)[0].good
    damage(folder(tmp_path, one))
    (found,) = entries(tmp_path)
    assert words in found.problem
    assert found.good == (words == "")
    assert found.as_dict(NOW)["good"] is found.good
    assert len(found.problem.split("; ")) <= 4


# verification.json after somebody or something wrote to it: never a traceback, never a proof.
RECORDS: list[Any] = [
    "",
    "{",
    "[]",
    "null",
    "5",
    '"text"',
    {"seal": "SEAL"},
    {"seal": "SEAL", "levels": None},
    {"seal": "SEAL", "levels": []},
    {"seal": "SEAL", "levels": ["restore"]},
    {"seal": "SEAL", "levels": "restore"},
    {"seal": "SEAL", "levels": {"restore": "PASS"}},
    {"seal": "SEAL", "levels": {"restore": None}},
    {"seal": "SEAL", "levels": {"restore": {}}},
    {"seal": "SEAL", "levels": {"restore": {"verdict": "PASS"}}},
    {"seal": "SEAL", "levels": {"restore": {"verdict": "PASS", "finished_at": "noon"}}},
    {"seal": "SEAL", "levels": {"restore": {"verdict": "PASS", "finished_at": 5}}},
    {"seal": "SEAL", "levels": {"restore": {"verdict": ["PASS"], "finished_at": "2026-11-24T12:00:00Z"}}},
    {"seal": "SEAL", "levels": {"unheard of": {"verdict": "PASS", "finished_at": "2026-11-24T12:00:00Z"}}},
    {"seal": "other", "levels": {"restore": {"verdict": "PASS", "finished_at": "2026-11-24T12:00:00Z"}}},
    {"levels": {"restore": {"verdict": "PASS", "finished_at": "2026-11-24T12:00:00Z"}}},
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_verification_record_that_proves_nothing(tmp_path: Path, record: Any) -> None:
    one = publish(tmp_path)
    text = record if isinstance(record, str) else json.dumps(record).replace("SEAL", one.seal)
    store(tmp_path).write_record("database", one.id, base.VERIFICATION, text.encode())
    (found,) = entries(tmp_path)
    assert found.proven_at is None
    assert found.as_dict(NOW)["proven"] is False
    assert found.manifest == one


def test_the_intact_record_does_prove(tmp_path: Path) -> None:
    one = publish(tmp_path)
    record = {"seal": one.seal, "levels": {"restore": {"verdict": "PASS", "finished_at": "2026-11-24T12:00:00Z"}}}
    store(tmp_path).write_record("database", one.id, base.VERIFICATION, json.dumps(record).encode())
    assert entries(tmp_path)[0].proven_at == NOW


def test_a_proof_does_not_outlive_a_swap_of_the_backup(tmp_path: Path) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one)
    assert entries(tmp_path)[0].proven_at
    edited = make_manifest(details={"format": "plain"})
    (folder(tmp_path, one) / "manifest.json").write_bytes(edited.to_bytes())
    (found,) = entries(tmp_path)
    assert found.good
    assert found.proven_at is None


def test_what_could_not_be_verified_leaves_an_older_proof_be(tmp_path: Path) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one)
    prove(tmp_path, one, checks.COULD_NOT_VERIFY)
    assert entries(tmp_path)[0].proven_at == NOW
    prove(tmp_path, one, checks.FAIL)
    assert not entries(tmp_path)[0].good
    prove(tmp_path, one, checks.COULD_NOT_VERIFY)
    assert not entries(tmp_path)[0].good
    prove(tmp_path, one)
    assert entries(tmp_path)[0].good


def test_another_stacks_backups_are_not_ours_to_judge(tmp_path: Path) -> None:
    ours = publish(tmp_path)
    publish(tmp_path, NOW + HOUR, stack="blog")
    unreadable = publish(tmp_path, NOW + 2 * HOUR)
    (folder(tmp_path, unreadable) / "manifest.json").write_text("{")
    assert [entry.id for entry in entries(tmp_path)] == [ours.id, unreadable.id]


def entry(taken_at: datetime, problem: str = "", stack: str = "shop", **details: Any) -> catalog.Entry:
    one = make_manifest(taken_at, stack=stack, details=details)
    return catalog.Entry(one.id, one, problem)


def lacking(taken_at: datetime) -> catalog.Entry:
    return replace(entry(taken_at, "the database x is not in it: y"), incomplete=True)


def lost(taken_at: datetime) -> catalog.Entry:
    """One whose manifest cannot be read."""
    return catalog.Entry(manifest.backup_id("database", taken_at), problem="it is not a manifest")


OLD, MIDDLE, NEW = NOW - 3 * DAY, NOW - 2 * DAY, NOW - DAY
ALL = [entry(OLD), entry(MIDDLE), entry(NEW)]
BAD_NEWEST = [entry(OLD), entry(MIDDLE), entry(NEW, "cut")]


def names(*moments: datetime) -> list[str]:
    return [manifest.backup_id("database", moment) for moment in moments]


# (entries, what is asked, the id chosen, ids passed over)
CHOICES: list[tuple[str, Sequence[catalog.Entry], dict[str, Any], datetime, list[datetime]]] = [
    ("latest", ALL, {}, NEW, []),
    ("latest by name", ALL, {"identity": "latest"}, NEW, []),
    ("empty is latest", ALL, {"identity": ""}, NEW, []),
    ("by id", ALL, {"identity": names(OLD)[0]}, OLD, []),
    ("newest broken", BAD_NEWEST, {}, MIDDLE, [NEW]),
    ("newest unreadable", [*ALL[:2], lost(NEW)], {}, MIDDLE, [NEW]),
    ("two newest broken", [entry(OLD), entry(MIDDLE, "x"), lost(NEW)], {}, OLD, [MIDDLE, NEW]),
    ("before, exactly", ALL, {"before": MIDDLE}, MIDDLE, []),
    ("before, a second less", ALL, {"before": MIDDLE - timedelta(seconds=1)}, OLD, []),
    ("before everything later", ALL, {"before": NOW}, NEW, []),
    ("before, the best one broken", [entry(OLD), entry(MIDDLE, "x"), entry(NEW)], {"before": MIDDLE}, OLD, [MIDDLE]),
    ("by id, older than a broken one", BAD_NEWEST, {"identity": names(MIDDLE)[0]}, MIDDLE, []),
    ("an incomplete one by id", [*ALL[:2], lacking(NEW)], {"identity": names(NEW)[0]}, NEW, []),
    ("newest incomplete", [*ALL[:2], lacking(NEW)], {}, MIDDLE, [NEW]),
    ("before, in another zone", ALL, {"before": MIDDLE.astimezone(timezone(9 * HOUR))}, MIDDLE, []),
]


@pytest.mark.parametrize(
    ("found", "asked", "chosen", "passed"), [case[1:] for case in CHOICES], ids=[case[0] for case in CHOICES]
)
def test_choose(
    found: Sequence[catalog.Entry], asked: dict[str, Any], chosen: datetime, passed: list[datetime]
) -> None:
    one, over = catalog.choose(found, "shop", **asked)
    assert one.id == names(chosen)[0]
    assert [each.id for each in over] == names(*passed)


REFUSALS: list[tuple[str, Sequence[catalog.Entry], dict[str, Any], type[LifeboatError], str]] = [
    ("none at all", [], {}, NotFoundError, "the repository holds no backup"),
    ("none, by id", [], {"identity": names(OLD)[0]}, NotFoundError, "the repository has none at all"),
    ("unknown id", ALL, {"identity": "db_backup_20200101_000000"}, NotFoundError, f"the repository has {names(OLD)[0]}"),
    ("a broken one by id", BAD_NEWEST, {"identity": names(NEW)[0]}, IntegrityError, "cut"),
    ("an unreadable one by id", [lost(NEW)], {"identity": names(NEW)[0]}, IntegrityError, "it is not a manifest"),
    ("a newer schema by id", [catalog.Entry(names(NEW)[0], problem="reads version 1", unknown=True)],
     {"identity": names(NEW)[0]}, UnverifiedError, "reads version 1"),
    ("another stack's by id", [entry(NEW, stack="blog")], {"identity": names(NEW)[0]}, UsageError, "of the stack blog"),
    ("only another stack's", [entry(NEW, stack="blog")], {}, NotFoundError, "the repository holds no backup"),
    ("before the first", ALL, {"before": OLD - DAY}, NotFoundError, "the first is of 2026-11-21T12:00:00.000Z"),
    ("before, none readable", [lost(NEW)], {"before": NOW}, NotFoundError, "none can be read"),
    ("all incomplete", [lacking(OLD), lacking(NEW)], {}, NotFoundError, "the database x is not in it: y"),
    ("all broken", [entry(OLD, "one"), entry(NEW, "two")], {}, NotFoundError, f"{names(NEW)[0]}: two"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "asked", "error", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_choose_refuses(
    found: Sequence[catalog.Entry], asked: dict[str, Any], error: type[LifeboatError], words: str
) -> None:
    with pytest.raises(error) as raised:
        catalog.choose(found, "shop", **asked)
    assert words in raised.value.cause


def failed(root: Path, level: str = "archive", **changes: Any) -> manifest.Manifest:
    one = publish(root, **changes)
    prove(root, one, checks.FAIL, level)
    return one


def test_a_failed_backup_that_is_named_may_be_accepted(tmp_path: Path) -> None:
    one = failed(tmp_path)
    with pytest.raises(IntegrityError, match=r"verification at level archive failed \(tables: x\)") as refused:
        catalog.choose(entries(tmp_path), "shop", identity=one.id, accept=False)
    assert f"-e recovery_point={one.id} -e accept=failed" in refused.value.remedy
    assert f"`lifeboat verify {one.id}`" in refused.value.remedy
    chosen, passed = catalog.choose(entries(tmp_path), "shop", identity=one.id, accept=True)
    assert (chosen.id, chosen.failed, passed) == (one.id, "verification at level archive failed (tables: x)", [])
    prove(tmp_path, one, level="archive", at=NOW + HOUR)
    assert catalog.choose(entries(tmp_path), "shop", identity=one.id, accept=True)[0].failed == "", "revised"


def test_where_accepting_is_not_offered_nobody_is_told_of_it(tmp_path: Path) -> None:
    one = failed(tmp_path)
    with pytest.raises(IntegrityError) as refused:
        catalog.choose(entries(tmp_path), "shop", identity=one.id)
    assert refused.value.remedy == "Choose another (`lifeboat list`)."


@pytest.mark.parametrize("identity", ["", "latest"])
def test_nothing_is_accepted_that_was_not_named(tmp_path: Path, identity: str) -> None:
    failed(tmp_path)
    with pytest.raises(UsageError, match=r"accept=failed\): it needs the id of a backup or of a recovery point"):
        catalog.choose(entries(tmp_path), "shop", identity=identity, before=NOW, accept=True)


# What else may be wrong with a backup that failed: it stays refused.
NOT_ACCEPTED: dict[str, tuple[Damage, type[LifeboatError], str]] = {
    "an artefact missing": (lambda path: (path / "database.dump").unlink(), IntegrityError, "database.dump is missing"),
    "one shorter": (lambda path: (path / "database.dump").write_bytes(b"dum"), IntegrityError, "3 bytes instead of 4"),
    "one more": (lambda path: (path / "extra").write_bytes(b""), IntegrityError, "extra does not belong to it"),
    "an edited manifest": (lambda path: edit(path, lambda doc: doc.update(stack="blog")), IntegrityError, "it was edited"),
    "a broken manifest": (lambda path: (path / "manifest.json").write_text("{"), IntegrityError, "not a manifest"),
    "a newer schema": (lambda path: edit(path, lambda doc: doc.update(version=[2, 0])), UnverifiedError, "reads version 1"),
    "gone": (shutil.rmtree, NotFoundError, "none at all"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "error", "words"), NOT_ACCEPTED.values(), ids=list(NOT_ACCEPTED))
def test_only_failed_verifications_are_accepted(
    tmp_path: Path, damage: Damage, error: type[LifeboatError], words: str
) -> None:
    one = failed(tmp_path)
    assert catalog.choose(entries(tmp_path), "shop", identity=one.id, accept=True)[0].id == one.id
    damage(folder(tmp_path, one))
    with pytest.raises(error, match=words) as refused:
        catalog.choose(entries(tmp_path), "shop", identity=one.id, accept=True)
    assert "accept=failed" not in str(refused.value)


def test_another_stacks_failed_backup_is_not_accepted(tmp_path: Path) -> None:
    one = failed(tmp_path, stack="blog")
    with pytest.raises(UsageError, match="of the stack blog"):
        catalog.choose(entries(tmp_path, "blog"), "shop", identity=one.id, accept=True)


def test_a_good_backup_needs_no_accepting(tmp_path: Path) -> None:
    one = publish(tmp_path)
    assert catalog.choose(entries(tmp_path), "shop", identity=one.id, accept=True)[0].failed == ""


def rows(tables: int, count: int) -> dict[str, Any]:
    return {"fingerprint": {"tables": tables, "rows": count}}


SHRUNK: list[tuple[str, list[dict[str, Any]], str]] = [
    ("the first", [rows(5, 5)], ""),
    ("as many", [rows(5, 100), rows(5, 100)], ""),
    ("half of the rows", [rows(5, 100), rows(5, 50)], ""),
    ("under half", [rows(5, 100), rows(5, 49)], "49 rows"),
    ("none", [rows(5, 100), rows(0, 0)], "0 tables"),
    ("fewer tables", [rows(5, 100), rows(2, 100)], "2 tables"),
    ("grown again", [rows(5, 100), rows(5, 10), rows(5, 100)], ""),
    ("still small, a week on", [rows(5, 100), *[rows(5, 10)] * 7], "10 rows"),
    ("small for longer than a week", [rows(5, 100), *[rows(5, 10)] * 8], "10 rows"),
    ("smaller again, and back to half", [rows(5, 100), *[rows(5, 10)] * 9, rows(5, 50)], ""),
    ("less every night", [rows(5, 100 - number) for number in range(90)], ""),
]


@pytest.mark.parametrize(("sizes", "words"), [case[1:] for case in SHRUNK], ids=[case[0] for case in SHRUNK])
def test_shrunk(sizes: list[dict[str, Any]], words: str) -> None:
    found = [entry(NOW + number * DAY, **size) for number, size in enumerate(sizes)]
    said, fuller = catalog.shrunk(found, found[-1].id)
    assert (words in said) if words else said == ""
    assert fuller == (found[0].id if words else "")


def server(*names: str, rows: int = 100, **details: Any) -> dict[str, Any]:
    """Details of a backup with these databases besides the application's."""
    held = {"tables": 5, "rows": rows}
    return {"others": [{"name": name, "folder": f"databases/00{number}", "taken_at": "2026-11-24T12:00:00Z", "size": 1,
                        "fingerprint": held} for number, name in enumerate(names, 1)], **details}  # fmt: skip


SHRUNK_SERVERS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("as many", [server("a", "b"), server("a", "b")], ""),
    ("one more", [server("a"), server("a", "b")], ""),
    ("the first of its form", [{}, server("a")], ""),
    ("one of the form before", [server("a"), {}], ""),
    ("one is gone", [server("a", "b"), server("a")], "holds 0 tables of database b, "),
    ("one is left out now", [server("a", "b"), server("a", excluded=["b"])], ""),
    ("one has half of its rows", [server("a"), server("a", rows=49)], "holds 49 rows of database a, "),
    ("the application's has half", [server("a", **rows(2, 9)), server("a", **rows(2, 4))], "holds 4 rows, "),
    ("the application's has another name", [server("a", database="shop"), server("a", database="store")], ""),
    ("another is the application's now", [server("a", database="b"), server("b", database="a", **rows(9, 400))], ""),
    ("a copy of the server after a dump", [server("a"), {"method": "physical", "fingerprint": {}}], ""),
    (
        "a dump after a copy of the server",
        [server("a"), {"method": "physical", "fingerprint": {}}, server("a", rows=9)],
        "holds 9 rows",
    ),
    ("a hostile name", [server("a\n\udce9"), server()], "holds 0 tables of database a\\n\\xe9, "),
]


@pytest.mark.parametrize(
    ("sizes", "words"), [case[1:] for case in SHRUNK_SERVERS], ids=[case[0] for case in SHRUNK_SERVERS]
)
def test_a_server_shrank_where_one_of_its_databases_did(sizes: list[dict[str, Any]], words: str) -> None:
    found = [entry(NOW + number * DAY, **size) for number, size in enumerate(sizes)]
    said, fuller = catalog.shrunk(found)
    assert (words in said) if words else said == ""
    assert fuller == (found[0].id if words else "")


def test_a_backup_that_lacks_a_database_is_not_good_and_no_less_than_it_is(tmp_path: Path) -> None:
    publish(tmp_path, details={"missing": {"old\n": "it takes no connections"}})
    (found,) = entries(tmp_path)
    assert (found.good, found.sound, found.incomplete) == (False, True, True)
    assert found.problem == "the database old\\n is not in it: it takes no connections"
    assert found.as_dict(NOW)["incomplete"] is True
    (plain,) = catalog.for_retention([found])
    assert (plain.good, plain.incomplete, plain.doubted) == (False, True, False)
    prove(tmp_path, make_manifest(details={"missing": {"old\n": "it takes no connections"}}), checks.FAIL)
    (found,) = entries(tmp_path)
    assert (found.sound, found.incomplete, found.failures) == (False, False, 1)


def test_a_loss_is_over_when_an_operator_says_so() -> None:
    accepts = {**rows(5, 10), "accepted": True}
    sizes = [rows(5, 100), *[rows(5, 10)] * 8, accepts, rows(5, 9)]
    found = [entry(NOW + number * DAY, **size) for number, size in enumerate(sizes)]
    assert catalog.shrunk(found[:-2])[1] == found[0].id
    assert catalog.shrunk(found[:-1]) == catalog.shrunk(found) == ("", "")
    again = [*found, entry(NOW + 20 * DAY, **rows(5, 4))]
    assert catalog.shrunk(again)[1] == found[-1].id, "the next loss is another"


def test_what_retention_left_of_a_loss_still_tells_of_it_and_of_a_years_shrinking_not() -> None:
    nights = [(0, 100), (30, 10), (60, 9), (90, 9), (91, 9)]
    found = [entry(NOW + number * DAY, **rows(5, count)) for number, count in nights]
    assert catalog.shrunk(found)[1] == found[0].id
    months = [entry(NOW + number * 30 * DAY, **rows(5, 100 - 7 * number)) for number in range(12)]
    nights = [entry(NOW + 400 * DAY + number * DAY, **rows(5, 20)) for number in range(9)]
    assert catalog.shrunk([*months, *nights]) == ("", "")


def test_for_retention_takes_the_time_of_an_unreadable_one_from_its_id() -> None:
    odd = catalog.Entry("not an id", problem="x")
    plain = catalog.for_retention([entry(OLD), lost(NEW), odd])
    assert [(entry.id, entry.taken_at, entry.good) for entry in plain] == [
        (names(OLD)[0], OLD, True),
        (names(NEW)[0], NEW, False),
    ]


# --- prune ---


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test alone."""
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    return tmp_path / "locks"


def test_prune_deletes_what_the_plan_says_and_a_dry_run_nothing(tmp_path: Path, held: Path) -> None:
    moments = [NOW - number * DAY for number in range(60, -1, -1)]
    for moment in moments:
        publish(tmp_path, moment)
    other = publish(tmp_path, NOW - 300 * DAY + HOUR, stack="blog")
    settings = make_config(tmp_path, retention={"daily_days": 5, "weekly_months": 0, "monthly_months": 0, "minimum": 2})
    said: list[str] = []
    planned = operations_prune.prune(Opened(settings), now=NOW + HOUR, dry_run=True, log=said.append)
    assert planned["delete"] == names(*moments[:-6])
    assert list(planned["keep"]) == names(*moments[-6:])
    assert said[0] == f"would delete {names(moments[0])[0]}"
    assert len(store(tmp_path).published("database")) == 62
    done = operations_prune.prune(Opened(settings), now=NOW + HOUR, dry_run=False, log=said.append)
    assert (done["delete"], done["swept"]) == (planned["delete"], [])
    assert said[-1].startswith("deleting ")
    assert store(tmp_path).published("database") == [other.id, *names(*moments[-6:])]
    assert operations_prune.prune(Opened(settings), now=NOW + HOUR, dry_run=False, log=said.append)["delete"] == []


@pytest.mark.parametrize(
    "mark", ["RECOVERING", "RECOVERING_OBJECTS", "RECOVERING_FILES", "RECOVERING_DUMPS", "RECOVERING_CONFIG"]
)
def test_a_recovery_that_has_not_ended_refuses_a_prune(tmp_path: Path, held: Path, mark: str) -> None:
    """It may need what the prune would delete."""
    moments = [NOW - number * DAY for number in range(4, -1, -1)]
    for moment in moments:
        publish(tmp_path, moment)
    settings = make_config(tmp_path, retention={"daily_days": 1, "weekly_months": 0, "monthly_months": 0, "minimum": 2})
    name = getattr(recovery_state, mark)
    recovery_state.mark(settings, name)
    with pytest.raises(LockedError, match="has not ended"):
        operations_prune.prune(Opened(settings), now=NOW, dry_run=False, log=lambda _: None)
    assert store(tmp_path).published("database") == names(*moments)
    planned = operations_prune.prune(Opened(settings), now=NOW, dry_run=True, log=lambda _: None)["delete"]
    recovery_state.unmark(settings, name)
    done = operations_prune.prune(Opened(settings), now=NOW, dry_run=False, log=lambda _: None)["delete"]
    assert done == planned != []


def test_a_streak_of_failures_deletes_nothing(tmp_path: Path, held: Path) -> None:
    publish(tmp_path, NOW - 90 * DAY)
    for number in range(1, 30):
        bad = publish(tmp_path, NOW - number * DAY)
        (folder(tmp_path, bad) / "database.dump").write_bytes(b"")
    settings = make_config(tmp_path, retention={"daily_days": 1, "weekly_months": 0, "monthly_months": 0, "minimum": 1})
    assert operations_prune.prune(Opened(settings), now=NOW, dry_run=False, log=lambda _: None)["delete"] == []


def test_one_failed_verification_deletes_nothing_and_a_second_one_may(tmp_path: Path, held: Path) -> None:
    first = publish(tmp_path, NOW.replace(month=9, day=1))
    publish(tmp_path, NOW.replace(month=9, day=2))
    publish(tmp_path)
    settings = make_config(tmp_path, retention={"daily_days": 5, "weekly_months": 0, "minimum": 1})

    def deleted() -> list[str]:
        return operations_prune.prune(Opened(settings), now=NOW, dry_run=True, log=lambda _: None)["delete"]

    prove(tmp_path, first, checks.FAIL, at=NOW)
    assert (entries(tmp_path)[0].failures, deleted()) == (1, [])
    prove(tmp_path, first, checks.COULD_NOT_VERIFY, at=NOW)
    assert (entries(tmp_path)[0].failures, deleted()) == (1, [])
    prove(tmp_path, first, checks.FAIL, at=NOW + HOUR)
    assert (entries(tmp_path)[0].failures, deleted()) == (2, [first.id])
    prove(tmp_path, first, at=NOW + 2 * HOUR)
    assert (entries(tmp_path)[0].failures, entries(tmp_path)[0].good) == (0, True)
    prove(tmp_path, first, checks.FAIL, at=NOW + 3 * HOUR)
    assert (entries(tmp_path)[0].failures, deleted()) == (1, []), "counted from the last pass"
    prove(tmp_path, first, checks.FAIL, level="checksum", at=NOW + 4 * HOUR)
    assert entries(tmp_path)[0].failures == 2
    (folder(tmp_path, first) / "extra").touch()
    assert entries(tmp_path)[0].failures == 0, "that is not all that is wrong with it"


def test_a_verification_under_way_keeps_its_artefacts(tmp_path: Path, held: Path) -> None:
    for number in range(10):
        publish(tmp_path, NOW - number * DAY)
    settings = make_config(tmp_path, retention={"daily_days": 1, "weekly_months": 0, "monthly_months": 0, "minimum": 1})
    with lock.held("shop.verify", "verify"), pytest.raises(LockedError):
        operations_prune.prune(Opened(settings), now=NOW, dry_run=False, log=lambda _: None)
    assert len(entries(tmp_path)) == 10


@pytest.mark.parametrize(
    ("retention", "words"),
    [({"dayly_days": 1}, "dayly_days"), ({"minimum": 0}, "minimum"), ({"timezone": "Mars"}, "Mars")],
)
def test_a_misspelt_promise_is_no_promise(tmp_path: Path, retention: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settings = make_config(tmp_path, retention=retention)
        operations_prune.prune(Opened(settings), now=NOW, dry_run=True, log=lambda _: None)


def test_the_stacks_time_zone_judges(tmp_path: Path) -> None:
    assert operations_prune.policy(make_config(tmp_path, timezone="Asia/Tokyo")).timezone == "Asia/Tokyo"


# --- status ---


def checked(tmp_path: Path, now: datetime = NOW + HOUR, **changes: Any) -> dict[str, str]:
    result = status.status(Opened(make_config(tmp_path, **changes)), now=now).as_dict()
    found = {check["name"]: check["result"] for check in result["checks"]}
    return {**found, "verdict": result["verdict"]}


def test_nothing_is_no_protection(tmp_path: Path) -> None:
    found = checked(tmp_path)
    assert found == {
        "newest backup": "FAIL",
        "proof": "COULD_NOT_VERIFY",
        "space": "COULD_NOT_VERIFY",
        "verdict": "FAIL",
    }


def test_a_backup_is_protection_only_once_it_is_proved(tmp_path: Path) -> None:
    one = publish(tmp_path)
    assert checked(tmp_path) == {
        "newest backup": "PASS",
        "proof": "COULD_NOT_VERIFY",
        "space": "PASS",
        "verdict": "COULD_NOT_VERIFY",
    }
    prove(tmp_path, one)
    assert checked(tmp_path)["verdict"] == "PASS"


def test_each_components_own_proof_counts(tmp_path: Path) -> None:
    """That of the database says nothing of the bucket."""
    run = Opened(make_config(tmp_path, **BUCKET))
    database = publish(tmp_path)
    objects = publish_objects(tmp_path, of=database)
    prove(tmp_path, database)
    seen = status.status(run, now=NOW + DAY)
    found = {check.name: check for check in seen.checks}
    assert (found["proof"].result, found["objects proof"].result) == ("PASS", "COULD_NOT_VERIFY")
    assert found["objects proof"].detail.startswith("no backup of the objects has been restored to prove it")
    assert seen.as_dict()["proof_age_days"] == {"database": 1.0, "objects": None}
    prove(tmp_path, objects)
    assert status.status(run, now=NOW + DAY).proof_age_days == {"database": 1.0, "objects": 1.0}


@pytest.mark.parametrize("component", ["database", "objects"])
def test_a_sudden_size_is_told_and_is_no_failure(tmp_path: Path, component: str) -> None:
    run = Opened(make_config(tmp_path, **BUCKET))
    name = "size against earlier backups"

    def take(night: int, size: int, accepted: bool = False) -> manifest.Manifest:
        at = NOW + night * DAY
        made = publish(tmp_path, at, details={"accepted": accepted})
        if component == "objects":
            return publish_objects(tmp_path, at, of=made, bytes=size)
        path = folder(tmp_path, made)
        for file in path.iterdir():
            file.unlink()
        with (path / "database.dump").open("wb") as sparse:
            sparse.truncate(size)
        body = dataclasses.replace(made, artefacts=(manifest.Artefact("database.dump", size, "0" * 64),))
        (path / "manifest.json").write_bytes(body.to_bytes())
        return body

    def seen(night: int) -> list[checks.Check]:
        found = status.status(run, now=NOW + night * DAY + HOUR).checks
        return [check for check in found if check.name == name]

    for night in range(5):
        take(night, 9_000_000)
    assert seen(4) == []
    take(5, 1_000_000)
    (told,) = seen(5)
    assert told.result == checks.COULD_NOT_VERIFY
    assert "has 1.0 MB, the median of those before it is 9.0 MB" in told.detail
    take(6, 1_000_000)
    assert len(seen(6)) == 1
    assert seen(13) == [], "a week is over"
    if component == "database":
        take(7, 1_000_000, accepted=True)
        assert seen(7) == [], "an operator said so"


AGES = [
    (26 * HOUR, {}, "newest backup", "PASS"),
    (26 * HOUR + timedelta(minutes=1), {}, "newest backup", "FAIL"),
    (3 * HOUR, {"backup_age_hours": 2}, "newest backup", "FAIL"),
    (8 * DAY, {}, "proof", "PASS"),
    (8 * DAY + HOUR, {}, "proof", "FAIL"),
    (2 * DAY, {"proof_age_days": 1}, "proof", "FAIL"),
]


@pytest.mark.parametrize(("age", "alarms", "name", "result"), AGES)
def test_alarms_by_age(tmp_path: Path, age: timedelta, alarms: dict[str, int], name: str, result: str) -> None:
    prove(tmp_path, publish(tmp_path))
    assert checked(tmp_path, NOW + age, alarms=alarms)[name] == result


def test_a_broken_newest_backup_and_one_that_shrank_turn_it_red(tmp_path: Path) -> None:
    prove(tmp_path, publish(tmp_path, NOW - HOUR))
    bad = publish(tmp_path)
    (folder(tmp_path, bad) / "database.dump").write_bytes(b"")
    found = checked(tmp_path)
    assert (found["broken backups"], found["newest backup"], found["verdict"]) == ("FAIL", "PASS", "FAIL")
    publish(tmp_path, NOW + timedelta(minutes=1), details=rows(1, 1))
    assert checked(tmp_path)["content against earlier backups"] == "FAIL"


def test_another_stacks_fresh_backup_does_not_hide_ours_missing(tmp_path: Path) -> None:
    prove(tmp_path, publish(tmp_path, stack="blog"))
    assert checked(tmp_path)["newest backup"] == "FAIL"


def test_space_for_three_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one)
    kind = type(store(tmp_path))
    for free, result in ((3 * one.size, "FAIL"), (3 * one.size + 1, "PASS"), (None, "PASS")):
        monkeypatch.setattr(kind, "free_bytes", lambda self, free=free: free)
        assert checked(tmp_path)["space"] == result


def test_one_backup_is_found_without_listing_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of each folder for each backup made a repository of 5,000 a matter of minutes."""
    for hours in range(4):
        publish(tmp_path, NOW - timedelta(hours=hours))
    listed: list[str] = []
    kind = type(store(tmp_path))
    real = kind._names  # type: ignore[attr-defined]
    monkeypatch.setattr(kind, "_names", lambda self, name, **kw: listed.append(name) or real(self, name, **kw))
    assert [entry.good for entry in entries(tmp_path)] == [True] * 4
    assert listed.count("postgresql") == 1


@pytest.mark.parametrize(
    ("planted", "kind", "words"),
    [("nothing", NotFoundError, "it is not there"), ("a file", IntegrityError, "it is not a directory"),
     ("a link", IntegrityError, "it is not a directory")],
)  # fmt: skip
def test_what_is_no_directory_is_no_backup(tmp_path: Path, planted: str, kind: type[Exception], words: str) -> None:
    backup, other = publish(tmp_path), publish(tmp_path, NOW - HOUR)
    assert store(tmp_path).files("database", backup.id), "the intact one is found"
    path = folder(tmp_path, backup)
    shutil.rmtree(path)
    if planted == "a file":
        path.write_bytes(b"")
    elif planted == "a link":
        path.symlink_to(folder(tmp_path, other))
    with pytest.raises(kind, match=words):
        store(tmp_path).files("database", backup.id)
