# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What status says of a stack with a bucket: it is green only when rows, objects, point and copies are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow_record, status
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as settings_config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import BUCKET, CONFIG, NOW, folder, make_config, prove, publish, publish_config, publish_objects, store

HOUR = timedelta(hours=1)


class Stack:
    def images(self) -> dict[str, str]:
        return {}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Check]]:
    """What the endpoints, the vault's copies and the reconciliation say."""
    world = {name: [Check(name, PASS, "")] for name in ("endpoints", "copies", "reconcile")}
    monkeypatch.setattr(runtime, "connect", lambda config: Stack())
    monkeypatch.setattr(endpoints, "checks", lambda config, now: world["endpoints"])
    monkeypatch.setattr(copies, "checks", lambda config, found, tied: world["copies"])
    monkeypatch.setattr(reconcile, "checked", lambda config, work: (world["reconcile"], None))
    return world


def green(root: Path, **details: Any) -> None:
    database = publish(root)
    objects = publish_objects(root, NOW + HOUR, of=database, **details)
    points.seal(Opened(configured(root)), now=NOW + HOUR, log=lambda _: None)
    for manifest in (database, objects):
        prove(root, manifest, at=NOW + HOUR)


def configured(root: Path, query: str = "") -> Any:
    return make_config(root, **{**BUCKET, "objects": {**BUCKET["objects"], "keys_query": query}})


def look(root: Path, hours: float = 2, query: str = "") -> dict[str, tuple[str, str]]:
    found = status.status(Opened(configured(root, query)), now=NOW + hours * HOUR).as_dict()
    assert found["verdict"] == checks.verdict([Check(**check) for check in found["checks"]])
    return {check["name"]: (check["result"], check["detail"]) for check in found["checks"]}


def test_green(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    green(tmp_path)
    found = look(tmp_path, query="SELECT key FROM files")
    assert {result for result, _ in found.values()} == {PASS}
    assert list(found) == [
        "newest backup", "proof", "newest objects backup", "objects proof", "recovery point", "space",
        "copies", "endpoints", "reconcile",
    ]  # fmt: skip
    assert found["recovery point"][1] == "20261124_130000, 2.0 h old, consistency snapshot"
    assert "reconcile" not in look(tmp_path), "no query, nothing to say"


def test_a_mount_that_nobody_protected_or_excluded_is_no_green(
    tmp_path: Path, said: dict[str, list[Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    green(tmp_path)
    mount = StateMount("media", "volume", ("web:/srv/media",), "unprotected", "no component protects it")
    monkeypatch.setattr(mounts, "inventory", lambda run: StateInventory((mount,)))
    found = status.status(Opened(configured(tmp_path)), now=NOW + 2 * HOUR)
    assert found.verdict == COULD_NOT_VERIFY
    assert [check.name for check in found.checks if check.result != PASS] == ["mounts"]
    (shown,) = found.as_dict()["mounts"]  # type: ignore[misc]
    assert shown["protection"] == "unprotected"
    excluded = make_config(tmp_path, mounts={"exclude": [{"name": "media", "reason": "previews"}]})
    monkeypatch.setattr(mounts, "inventory", lambda run: StateInventory((mount,)).judged(excluded))
    assert look(tmp_path)["mounts"] == (PASS, "excluded by name: the volume media (web:/srv/media): previews")


def test_rights_that_only_a_recovery_needs_are_named(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    """A backup needs no superuser, and a recovery does; nothing had said so before the data was lost."""
    one = publish(tmp_path, details={"role_passwords": False})
    words = f"the account that took {one.id} is no superuser, which a recovery needs"
    assert look(tmp_path)["recovery rights"][0] == FAIL
    assert words in look(tmp_path)["recovery rights"][1]
    another = make_config(tmp_path, **BUCKET, database={"backup_user": "keeper"})
    found = {check.name for check in status.status(Opened(another), now=NOW + HOUR).checks}
    assert "recovery rights" not in found, "the one that recovers is another"


def server(**details: Any) -> dict[str, Any]:
    wiki = {"name": "wiki", "folder": "databases/001", "taken_at": "2026-11-24T12:00:04Z", "size": 9}
    return {"details": {"others": [wiki], **details}}


def test_every_database_of_the_newest_backup_is_named(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    publish(tmp_path, NOW, **server(excluded=["scratch"], standby=True))
    words = "shop, wiki, snapshots within 4.0 s; left out by lifeboat_database.exclude: scratch; taken from a standby"
    assert look(tmp_path)["databases"] == (PASS, words)
    shown = status.newest(status.status(Opened(configured(tmp_path)), now=NOW))
    assert shown[-2:] == [f"db_backup_20261124_120000: {note}" for note in words.split("; ")[1:]]


def test_what_a_restore_brings_back_otherwise_is_told_and_makes_nothing_worse(
    tmp_path: Path, said: dict[str, list[Check]]
) -> None:
    lost = server(not_carried=["prepared transaction a", "subscription b"])
    lost["details"]["others"][0]["not_carried"] = ["index c"]
    publish(tmp_path, NOW, **lost)
    words = "a restore brings back otherwise: 2 things of shop, 1 thing of wiki (not_carried in --json says what)"
    assert look(tmp_path)["databases"] == (PASS, f"shop, wiki, snapshots within 4.0 s; {words}")
    found = status.status(Opened(configured(tmp_path)), now=NOW)
    assert status.newest(found)[-1] == f"db_backup_20261124_120000: {words}"
    assert "prepared transaction a" in json.dumps(found.as_dict(), default=str)
    # of the time when a backup held the application's database alone
    publish(tmp_path, NOW + HOUR, details={"not_carried": ["subscription b"]})
    found = status.status(Opened(configured(tmp_path)), now=NOW + HOUR)
    assert "1 thing of shop" in status.newest(found)[-1]


CLOSED = [
    (
        logins.Closed(("shop", "a b"), False, True),
        "a recovery closed shop, a b to logins and has not ended; unless it runs now: lifeboat.dr.recover_database ends"
        ' it, or keep the data as it is: ALTER DATABASE "shop" ALLOW_CONNECTIONS true; ALTER DATABASE "a b"'
        " ALLOW_CONNECTIONS true; in template1, then rm {}",
    ),
    (
        logins.Closed(("shop",), True, True),
        "a recovery closed shop to logins and has not ended; unless it runs now: lifeboat.dr.recover_database ends it",
    ),
    (
        "torn",
        "a recovery closed what {}, which cannot be read, named to logins and has not ended; unless it runs now:"
        " lifeboat.dr.recover_database ends it",
    ),
]


@pytest.mark.parametrize(("left", "words"), CLOSED, ids=["a living server", "a fresh one", "torn"])
def test_a_database_that_a_killed_recovery_left_closed_is_red(
    tmp_path: Path, said: dict[str, list[Check]], left: Any, words: str
) -> None:
    green(tmp_path)
    settings = configured(tmp_path)
    recovery_state.keep(settings, logins.CLOSED, left if left == "torn" else json.dumps(typed.plain(left)))
    assert look(tmp_path)["logins"] == (FAIL, words.format(settings.state / logins.CLOSED))
    recovery_state.unmark(settings, logins.CLOSED)
    assert "logins" not in look(tmp_path)


def test_an_incomplete_backup_is_named_until_a_good_one_follows(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    green(tmp_path)
    one = publish(tmp_path, NOW + HOUR, details={"missing": {"old": "it takes no connections"}})
    found = look(tmp_path)
    assert found["incomplete backups"] == (FAIL, f"{one.id}: the database old is not in it: it takes no connections")
    assert "broken backups" not in found
    publish(tmp_path, NOW + 2 * HOUR)
    assert "incomplete backups" not in look(tmp_path)


def lose_objects(root: Path) -> None:
    for identity in store(root).published("objects"):
        store(root).delete("objects", identity)


def damage_point(root: Path) -> None:
    (root / "backup/recovery-points/20261124_130000.json").write_text("{}")


def lose_point(root: Path) -> None:
    store(root).delete_point("20261124_130000")


RED: list[tuple[str, Callable[[Path], None], str, str, str]] = [
    ("no objects", lose_objects, "newest objects backup", FAIL, "there is no good backup"),
    (
        "so the point is broken",
        lose_objects,
        "broken recovery points",
        FAIL,
        "objects_backup_20261124_130000 is missing",
    ),
    ("so there is no proof", lose_objects, "objects proof", COULD_NOT_VERIFY, "lifeboat verify"),
    ("no point", lose_point, "recovery point", FAIL, "there is none that can be used; take one: lifeboat backup"),
    ("a damaged point", damage_point, "broken recovery points", FAIL, "it is not a recovery point"),
]


@pytest.mark.parametrize(
    ("change", "name", "result", "words"), [case[1:] for case in RED], ids=[case[0] for case in RED]
)
def test_red(
    tmp_path: Path,
    said: dict[str, list[Check]],
    change: Callable[[Path], None],
    name: str,
    result: str,
    words: str,
) -> None:
    green(tmp_path)
    change(tmp_path)
    found = look(tmp_path)[name]
    assert found[0] == result
    assert words in found[1]


def test_everything_grows_old(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    green(tmp_path)
    old = look(tmp_path, hours=40)
    for name in ("newest backup", "newest objects backup", "recovery point"):
        assert old[name][0] == FAIL, name
    older = look(tmp_path, hours=24 * 20)
    assert older["objects proof"][0] == FAIL


def test_todays_restore_of_last_years_backup_is_no_proof_of_the_others(
    tmp_path: Path, said: dict[str, list[Check]]
) -> None:
    old = publish(tmp_path, NOW - timedelta(days=365))
    new = publish(tmp_path)
    prove(tmp_path, old, at=NOW)
    proof = {check.name: check for check in status.status(Opened(configured(tmp_path)), now=NOW).checks}["proof"]
    assert (proof.result, proof.measured, proof.limit) == (FAIL, 365, 8)
    assert proof.detail == (
        f"{old.id} restored 0.0 days ago, and no newer one was: it was taken 365.0 days ago; run: lifeboat verify"
    )
    prove(tmp_path, new, at=NOW - HOUR)
    assert look(tmp_path, hours=0)["proof"] == (PASS, f"{new.id} restored 0.0 days ago")


def test_a_weekly_proof_of_last_nights_backup_lasts_for_its_days(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    one = publish(tmp_path, NOW - 26 * HOUR)
    prove(tmp_path, one, at=NOW)
    assert look(tmp_path, hours=24 * 8)["proof"] == (PASS, f"{one.id} restored 8.0 days ago")
    assert look(tmp_path, hours=24 * 8 + 1)["proof"] == (FAIL, f"{one.id} restored 8.0 days ago")


def test_a_loss_is_told_for_as_long_as_nobody_accepts_it(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    less = {"fingerprint": {"tables": 1, "rows": 1}}
    full = publish(tmp_path, NOW - 300 * HOUR, details={"fingerprint": {"tables": 9, "rows": 1000}})
    for night in range(10):
        small = publish(tmp_path, NOW + 24 * (night - 10) * HOUR, details=less)
    assert look(tmp_path, hours=0)[status.CONTENT] == (
        FAIL, f"{small.id} holds 1 tables, {full.id} 9; if that is right: lifeboat backup database --override"
    )  # fmt: skip
    publish(tmp_path, details={**less, "accepted": True})
    assert status.CONTENT not in look(tmp_path, hours=0)


def test_objects_that_are_in_no_backup_are_red(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    green(tmp_path, unheld=[{"key": "a//b", "why": "x"}], unheld_count=7)
    assert look(tmp_path)["objects in no backup"] == (FAIL, "the vault could not hold 7: 'a//b'")


ENCRYPTED: list[tuple[dict[str, Any], str]] = [
    ({"properties": {"retained": 3}}, ""),
    (
        {"properties": {"encrypted": {"AES256": 3, "aws:kms": 2}}},
        "the vault encrypts its copies of the 5 objects that the store encrypts",
    ),
    (
        {"properties": {"encrypted": {"AES256": 3, "aws:kms": 2}, "clear": 4}},
        "the vault holds the plain bytes of 4 of the 5 objects that the store encrypts (4 of uploads); give its buckets"
        " a default encryption to change that for new copies",
    ),
]


@pytest.mark.parametrize(("details", "words"), ENCRYPTED)
def test_encrypted_objects_that_lie_in_the_vault_in_clear_are_told(
    tmp_path: Path, said: dict[str, list[Check]], details: dict[str, Any], words: str
) -> None:
    green(tmp_path, **details)
    assert look(tmp_path).get("encryption") == ((PASS, words) if words else None)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, ""),
        ({"properties": {"encrypted": {}}}, ""),
        (
            {"properties": {"lost": {"expires": 3, "user metadata": 1}}},
            "the vault does not keep expires of 3, user metadata of 1 objects of uploads; a recovery gives what the"
            " listing has",
        ),
    ],
)
def test_headers_that_the_vault_does_not_keep_are_told(
    tmp_path: Path, said: dict[str, list[Check]], details: dict[str, Any], words: str
) -> None:
    green(tmp_path, **details)
    assert look(tmp_path).get("headers in the vault") == ((PASS, words) if words else None)


BUCKETS = [
    ("the only one", {"unprotected": []}, PASS, "uploads"),
    (
        "others",
        {"unprotected": ["avatars", "docs"], "excluded": ["cache"]},
        COULD_NOT_VERIFY,
        "uploads; the buckets avatars, docs: in no backup, as lifeboat_objects.bucket names uploads alone;"
        " the bucket cache: left out by lifeboat_objects.exclude",
    ),
    (
        "only excluded",
        {"unprotected": [], "excluded": ["cache"]},
        COULD_NOT_VERIFY,
        "uploads; the bucket cache: left out by lifeboat_objects.exclude",
    ),
    (
        "nobody knows",
        {"unprotected": [], "unlisted": "access denied"},
        COULD_NOT_VERIFY,
        "uploads; which other buckets the store has: not known: access denied",
    ),
]


@pytest.mark.parametrize(("details", "result", "words"), [case[1:] for case in BUCKETS], ids=[c[0] for c in BUCKETS])
def test_every_bucket_of_the_store_is_named_every_time(
    tmp_path: Path, said: dict[str, list[Check]], details: dict[str, Any], result: str, words: str
) -> None:
    green(tmp_path, **details)
    assert look(tmp_path)["buckets"] == look(tmp_path, 3)["buckets"] == (result, words)
    (point,) = status.status(Opened(configured(tmp_path)), now=NOW + HOUR).points
    assert point.point and [note for note in point.point.notes if "bucket" in note] == [
        f"objects: {note}" for note in words.split("; ")[1:]
    ]


def test_a_backup_of_the_time_when_nobody_looked_says_nothing_of_buckets(
    tmp_path: Path, said: dict[str, list[Check]]
) -> None:
    green(tmp_path)
    assert "buckets" not in look(tmp_path)


@pytest.mark.parametrize("name", ["endpoints", "copies", "reconcile"])
def test_what_others_say_counts(tmp_path: Path, said: dict[str, list[Check]], name: str) -> None:
    green(tmp_path)
    said[name] = [Check(name, COULD_NOT_VERIFY, "nobody answered")]
    found = status.status(Opened(configured(tmp_path, "SELECT 1")), now=NOW + 2 * HOUR)
    assert found.verdict == COULD_NOT_VERIFY


def test_continuous_protection_that_does_not_run_is_no_green(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    """A receiver that has been dead for a week is a week that is lost, however good last night's dump is."""
    green(tmp_path)
    wanted = replace(configured(tmp_path), wal=replace(configured(tmp_path).wal, enabled=True))
    seen = status.status(Opened(wanted), now=NOW + 2 * HOUR)
    (check,) = (check for check in seen.checks if check.name == "wal")
    assert (seen.verdict, check.result) == (FAIL, FAIL)
    assert check.detail == "continuous protection is not enabled: lifeboat wal enable"


def test_the_terminal_has_the_last_few_of_each(tmp_path: Path, said: dict[str, list[Check]]) -> None:
    for hour in range(8):
        database = publish(tmp_path, NOW + hour * HOUR)
        publish_objects(tmp_path, NOW + hour * HOUR, of=database)
        points.seal(Opened(configured(tmp_path)), now=NOW + hour * HOUR, log=lambda _: None)
    (folder(tmp_path, database) / "database.dump").unlink()
    lines = status.newest(status.status(Opened(configured(tmp_path)), now=NOW + 9 * HOUR))
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == [
        f"20261124_{hour}0000" for hour in (17, 18, 19)
    ]
    assert len([line for line in lines if line.startswith("objects_")]) == 3
    assert len([line for line in lines if line.startswith("db_")]) == 5
    assert "BROKEN: database.dump is missing" in lines[-1]


def test_a_verification_that_left_a_gap_is_not_asked_for_again(tmp_path: Path) -> None:
    green(tmp_path)
    settings = make_config(tmp_path, config={"secrets": "elsewhere"})
    one = publish_config(tmp_path, NOW + HOUR)

    def proof() -> str:
        found = status.status(Opened(settings), now=NOW + 2 * HOUR)
        (check,) = [check for check in found.checks if check.name == "config proof"]
        assert check.result == COULD_NOT_VERIFY
        return check.detail

    assert proof() == "no backup of the config has been restored to prove it; run: lifeboat verify"
    prove(tmp_path, one, COULD_NOT_VERIFY, at=NOW + HOUR)
    assert proof() == f"{one.id} could not be proved: tables: x"
    publish_config(tmp_path, NOW + 2 * HOUR)
    assert proof().endswith("run: lifeboat verify"), "the newest one was not verified"


def test_a_configuration_that_is_wanted_counts(tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    green(tmp_path)
    wanted = {**BUCKET, "config": {"recipients": CONFIG["recipients"]}}
    settings = make_config(tmp_path, **wanted)

    def results() -> dict[str, str]:
        found = status.status(Opened(settings), now=NOW + 2 * HOUR).as_dict()
        return {check["name"]: check["result"] for check in found["checks"]} | {"verdict": found["verdict"]}

    assert (results()["newest config backup"], results()["verdict"]) == (FAIL, FAIL)
    one = publish_config(tmp_path, NOW + HOUR)
    assert (results()["config proof"], results()["escrow"]) == (COULD_NOT_VERIFY, COULD_NOT_VERIFY)
    prove(tmp_path, one, at=NOW + HOUR)
    assert results()["verdict"] == COULD_NOT_VERIFY, "nobody has shown that the key opens it"
    monkeypatch.setattr(escrow_record, "checks", lambda config, now: [Check("escrow", PASS, "")])
    assert results()["verdict"] == PASS


@pytest.mark.parametrize(
    ("mode", "result"), [(0o600, None), (0o400, None), (0o644, FAIL), (0o640, FAIL), (0o602, FAIL)]
)
def test_secrets_that_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, result: str | None
) -> None:
    publish(tmp_path, NOW)
    monkeypatch.setattr(settings_config, "DIRECTORY", tmp_path)
    path = tmp_path / "shop.secrets.json"
    path.write_text("{}")
    path.chmod(mode)
    found = {check.name: check for check in status.status(Opened(make_config(tmp_path)), now=NOW).checks}
    assert ("secrets" in found) is (result is not None)
    if result:
        assert found["secrets"].result == result and f"{mode:04o}" in found["secrets"].detail
