# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies in the vault: what is sent, made up for, refused and said. The vault is a directory that can fail."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    CopyError,
    IntegrityError,
    LifeboatError,
    LockedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, copies, points, retention, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import VERIFICATION
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import Mark, S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources, open_place
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, folder, make_config, prove, publish, publish_objects, store

DAY = timedelta(days=1)
SECRETS = {"vault_access_key": "writer", "vault_secret_key": "hunter2"}
PLACE = "s3://copies/shop at http://127.0.0.1:9001"


def mark(data: bytes) -> Mark:
    return Mark(len(data), hashlib.new("md5", data, usedforsecurity=False).hexdigest())


class Vault(LocalRepository):
    """A vault in a directory. `away`: what every question is answered. `locked`: ids that it keeps."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(root)
        self.away = ""
        self.locked: list[str] = []

    def _names(self, folder: str, directories: bool = False) -> list[str]:
        if self.away:
            raise LifeboatError("list the repository", "s3://copies", self.away, "Try again.")
        return super()._names(folder, directories)

    def marks(self, component: str, id: str) -> dict[str, Mark]:
        there = Path(self.location(component, id))
        return {path.name: mark(path.read_bytes()) for path in there.iterdir()}

    def point_marks(self) -> dict[str, Mark]:
        return {id: mark(self.read_point(id)) for id in self.points()}

    def replace_point(self, id: str, data: bytes) -> None:
        self._write(("recovery-points", f"{id}.json"), data)

    def delete(self, component: str, id: str) -> list[str]:
        super().delete(component, id)
        return [f"{id}: locked until 2027-01-01T00:00:00.000Z (COMPLIANCE)"] if id in self.locked else []

    def receive(
        self, component: str, id: str, folder: Path, artefacts: Mapping[str, str], manifest: bytes, ours: bool = False
    ) -> int:
        sent = 0
        for name, expected in artefacts.items():
            data = (folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != expected:
                raise IntegrityError("copy the backup", name, "it has another SHA-256 than when it was written")
            sent += len(data)
        if id in self.published(component):
            there = Path(self.location(component, id))
            wanted = {**{name: (folder / name).read_bytes() for name in artefacts}, "manifest.json": manifest}
            marks = self.marks(component, id)
            again = {name: data for name, data in wanted.items() if marks.get(name) != mark(data)}
            if "manifest.json" in again and not ours:
                raise IntegrityError("copy the backup", id, "another backup of that id is there")
            for name, data in again.items():
                (there / name).unlink(missing_ok=True)
                (there / name).write_bytes(data)
            return sum(map(len, again.values()))
        with self.stage(component, id) as staging:
            for name in artefacts:
                (staging.path / name).write_bytes((folder / name).read_bytes())
            staging.publish(manifest)
        return sent


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    made = Vault(tmp_path / "vault")
    monkeypatch.setattr(copies, "vault", lambda config: made)
    return made


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    monkeypatch.setattr(runtime, "connect", lambda config: Stack())
    yield configured(tmp_path)


class Stack:
    def images(self) -> dict[str, str]:
        return {}


def configured(root: Path, **changes: Any) -> Config:
    return make_config(root, **{**BUCKET, "vault": {**BUCKET["vault"], "repository_bucket": "copies"}, **changes})


def catch_up(settings: Config) -> copies.Outcome:
    return copies.catch_up(Opened(settings), log=lambda _: None)


def sealed(settings: Config, root: Path, at: Any = NOW) -> Point:
    database = publish(root, at)
    publish_objects(root, at + timedelta(hours=1), of=database)
    done = catch_up(settings)
    point, _ = points.seal(Opened(settings), now=at + timedelta(hours=1), copies=done.copies, log=lambda _: None)
    assert copies.send_points(Opened(settings), log=lambda _: None) == ()
    return point


# --- which vault ---

WHICH: list[tuple[str, dict[str, Any], bool]] = [
    ("a local repository", {}, True),
    ("no copies wanted", {"vault": {"objects_bucket": "mirror"}}, False),
    (
        "the repository is that bucket",
        {"repository": {"type": "s3", "bucket": "copies", "endpoint_url": "http://127.0.0.1:9001/"}},
        False,
    ),
    ("that bucket elsewhere", {"repository": {"type": "s3", "bucket": "copies", "endpoint_url": "http://x"}}, True),
    ("another bucket", {"repository": {"type": "s3", "bucket": "b", "endpoint_url": "http://127.0.0.1:9001"}}, True),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in WHICH], ids=[case[0] for case in WHICH])
def test_which_vault(tmp_path: Path, changes: dict[str, Any], expected: bool) -> None:
    given = configured(tmp_path, **changes)
    object.__setattr__(given, "secrets", SECRETS)
    made = copies.vault(Opened(given))
    assert isinstance(made, S3Repository) is expected
    if made:
        assert (made.bucket, made.prefix) == ("copies", "shop")
        assert copies.location(given) == PLACE


def test_a_vault_without_keys_is_a_failed_copy_and_no_crash(tmp_path: Path) -> None:
    publish(tmp_path)
    with pytest.raises(UsageError, match="vault_access_key"):
        copies.vault(Opened(configured(tmp_path)))
    done = catch_up(configured(tmp_path))
    assert "vault_access_key or vault_secret_key is not set" in done.failed[0]
    assert catch_up(make_config(tmp_path)) == copies.Outcome()


# --- sending ---


def test_everything_good_is_sent_once(tmp_path: Path, settings: Config, vault: Vault) -> None:
    old = publish(tmp_path, NOW - DAY)
    broken = publish(tmp_path, NOW - 2 * DAY)
    (folder(tmp_path, broken) / "database.dump").unlink()
    new = publish(tmp_path)
    done = catch_up(settings)
    assert (done.location, done.copied, done.failed) == (PLACE, (new.id, old.id), ()), "the newest first"
    assert done.copies == {new.id: [PLACE], old.id: [PLACE]}
    for manifest in (old, new):
        assert vault.manifest("database", manifest.id) == manifest.to_bytes()
        record = copies.read(store(tmp_path), manifest)
        assert record
        assert (record.location, record.bytes) == (PLACE, manifest.size)
    again = catch_up(settings)
    assert (again.copied, again.copies) == ((), done.copies)


def test_what_the_vault_lost_is_sent_again(tmp_path: Path, settings: Config, vault: Vault) -> None:
    one = publish(tmp_path)
    catch_up(settings)
    vault.delete("database", one.id)
    assert catch_up(settings).copied == (one.id,)


def damaged(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"X" * path.stat().st_size)


DAMAGE: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("a dump deleted", lambda path: (path / "database.dump").unlink(), checks.FAIL, "database.dump is missing"),
    ("cut", lambda path: (path / "globals.sql.gz").write_bytes(b"r"), checks.FAIL, "has 1 bytes instead of 5"),
    ("overwritten", lambda path: damaged(path / "globals.sql.gz"), checks.COULD_NOT_VERIFY, "written again since"),
]


@pytest.mark.parametrize(("damage", "result", "words"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_what_was_damaged_in_the_vault_is_seen_and_sent_again(
    tmp_path: Path, settings: Config, vault: Vault, damage: Callable[[Path], None], result: str, words: str
) -> None:
    point = sealed(settings, tmp_path)
    identity = point.parts["database"].id
    assert said(settings, tmp_path)[0] == checks.PASS
    damage(Path(vault.location("database", identity)))
    found = said(settings, tmp_path)
    assert (found[0], identity in found[1], words in found[1]) == (result, True, True), found
    assert catch_up(settings).copied == (identity,)
    assert said(settings, tmp_path)[0] == checks.PASS
    assert (Path(vault.location("database", identity)) / "globals.sql.gz").read_bytes() == b"roles"
    assert catch_up(settings).copied == ()


def older(data: bytes) -> bytes:
    """As its owner's key would write it: whole, and of another night."""
    body = {**json.loads(data), "taken_at": "2026-01-01T00:00:00.000Z"}
    return sealing.render({**body, "seal": sealing.seal(body)})


@pytest.mark.parametrize("change", [older, lambda data: b"{}", lambda data: data[:-1] + b" "])
def test_a_manifest_that_was_replaced_in_the_vault_is_seen_and_sent_again(
    tmp_path: Path, settings: Config, vault: Vault, change: Callable[[bytes], bytes]
) -> None:
    identity = sealed(settings, tmp_path).parts["database"].id
    path = Path(vault.location("database", identity)) / "manifest.json"
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    result, words = said(settings, tmp_path)
    assert (result, f"{identity}: manifest.json is another than the repository's" in words) == (checks.FAIL, True)
    assert catch_up(settings).copied == (identity,)
    assert path.read_bytes() == whole
    assert said(settings, tmp_path)[0] == checks.PASS


def test_a_backup_that_was_never_sent_there_replaces_none(tmp_path: Path, settings: Config, vault: Vault) -> None:
    """Two hosts of one name: the other's backup of the same second is not ours to replace."""
    one = publish(tmp_path)
    catch_up(settings)
    (folder(tmp_path, one) / "copies.json").unlink()
    path = Path(vault.location("database", one.id)) / "manifest.json"
    path.write_bytes(older(path.read_bytes()))
    assert "another backup of that id is there" in catch_up(settings).failed[0]


@pytest.mark.parametrize("change", [older, lambda data: b"{}"])
def test_a_point_that_was_replaced_in_the_vault_is_seen_and_sent_again(
    tmp_path: Path, settings: Config, vault: Vault, change: Callable[[bytes], bytes]
) -> None:
    point = sealed(settings, tmp_path)
    path = tmp_path / "vault/recovery-points" / f"{point.id}.json"
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    result, words = said(settings, tmp_path)
    assert (result, f"{point.id}: it is another than the repository's" in words) == (checks.FAIL, True)
    assert copies.send_points(Opened(settings), log=lambda _: None) == ()
    assert path.read_bytes() == whole
    assert said(settings, tmp_path)[0] == checks.PASS


def test_another_stacks_point_is_not_replaced(tmp_path: Path, settings: Config, vault: Vault) -> None:
    point = sealed(settings, tmp_path)
    path = tmp_path / "vault/recovery-points" / f"{point.id}.json"
    body = {**json.loads(path.read_bytes()), "stack": "wiki"}
    other = sealing.render({**body, "seal": sealing.seal(body)})
    path.write_bytes(other)
    assert "that of the stack wiki is there" in copies.send_points(Opened(settings), log=lambda _: None)[0]
    assert path.read_bytes() == other


def test_a_verdict_that_the_vault_lost_or_that_was_replaced_there_is_sent_again(
    tmp_path: Path, settings: Config, vault: Vault
) -> None:
    point = sealed(settings, tmp_path)
    (database,) = [entry.manifest for entry in points.backups(vault, "shop")["database"] if entry.manifest]
    prove(tmp_path, database)
    assert said(settings, tmp_path)[0] == checks.PASS, "the next backup sends it"
    catch_up(settings)
    path = Path(vault.location("database", point.parts["database"].id)) / VERIFICATION
    proof = path.read_bytes()
    path.unlink()
    result, words = said(settings, tmp_path)
    assert (result, f"{VERIFICATION} is missing" in words) == (checks.FAIL, True)
    catch_up(settings)
    assert path.read_bytes() == proof
    path.write_bytes(proof.replace(b"PASS", b"FAIL"))
    result, words = said(settings, tmp_path)
    assert (result, f"{VERIFICATION} is another" in words) == (checks.COULD_NOT_VERIFY, True)
    catch_up(settings)
    assert path.read_bytes() == proof
    assert said(settings, tmp_path)[0] == checks.PASS


def test_a_server_whose_etags_are_no_md5_is_read(
    tmp_path: Path, settings: Config, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(settings, tmp_path)
    monkeypatch.setitem(globals(), "mark", lambda data: Mark(len(data), hashlib.sha256(data).hexdigest()))
    catch_up(settings)
    assert said(settings, tmp_path)[0] == checks.PASS


def test_a_copy_that_an_earlier_version_recorded_is_looked_at_once(
    tmp_path: Path, settings: Config, vault: Vault
) -> None:
    point = sealed(settings, tmp_path)
    identity = point.parts["database"].id
    raw = json.loads(store(tmp_path).read_record("database", identity, "copies.json") or b"")
    del raw["copy"]["marks"]
    store(tmp_path).write_record("database", identity, "copies.json", json.dumps(raw).encode())
    assert said(settings, tmp_path)[0] == checks.COULD_NOT_VERIFY
    assert catch_up(settings).copied == (), "it was whole"
    assert said(settings, tmp_path)[0] == checks.PASS


def said(settings: Config, root: Path) -> tuple[str, str]:
    found = points.backups(store(root), "shop")
    (one,) = copies.checks(Opened(settings), found, points.entries(store(root), "shop", found))
    return one.result, one.detail


def test_a_record_of_another_backup_proves_nothing(tmp_path: Path, settings: Config, vault: Vault) -> None:
    one = publish(tmp_path)
    catch_up(settings)
    raw = store(tmp_path).read_record("database", one.id, "copies.json") or b""
    for text in (raw.replace(one.seal.encode(), b"0" * 64), b"{", b"[]", b'{"seal": 1}'):
        store(tmp_path).write_record("database", one.id, "copies.json", text)
        assert copies.read(store(tmp_path), one) is None


def test_damage_here_is_not_copied_and_does_not_stop_the_rest(tmp_path: Path, settings: Config, vault: Vault) -> None:
    old = publish(tmp_path, NOW - DAY)
    bad = publish(tmp_path)
    (folder(tmp_path, bad) / "database.dump").write_bytes(b"DUMP")
    done = catch_up(settings)
    assert (done.copied, list(done.copies)) == ((old.id,), [old.id])
    assert "it has another SHA-256" in done.failed[0]
    assert vault.published("database") == [old.id]
    said = copies.problem("shop", done.failed)
    assert isinstance(said, CopyError)
    assert "backups in the repository are good" in str(said)
    assert copies.problem("shop", ()) is None


def test_a_vault_that_is_away_fails_the_copy_only(tmp_path: Path, settings: Config, vault: Vault) -> None:
    one = publish(tmp_path)
    vault.away = "connection refused"
    done = catch_up(settings)
    assert (done.copied, done.copies) == ((), {})
    assert PLACE in done.failed[0]
    assert "connection refused" in done.failed[0]
    assert store(tmp_path).published("database") == [one.id]
    vault.away = ""
    assert catch_up(settings).copied == (one.id,)


def test_a_proof_follows_the_copy(tmp_path: Path, settings: Config, vault: Vault) -> None:
    one = publish(tmp_path)
    catch_up(settings)
    assert vault.read_record("database", one.id, VERIFICATION) is None
    prove(tmp_path, one)
    catch_up(settings)
    (found,) = points.backups(vault, "shop")["database"]
    assert found.proven_at == NOW


def failed_at(root: Path, backup: Manifest, checksums: str, moment: datetime = NOW) -> None:
    found = (checks.Check("checksums", checksums, "x"), checks.Check("tables", checks.FAIL, "other content"))
    operations_verify.keep(
        Opened(make_config(root)), store(root), backup, Result(backup.id, "restore", found, moment, moment)
    )


@pytest.mark.parametrize(("checksums", "good_there"), [(checks.PASS, False), (checks.FAIL, True)])
def test_a_verdict_on_the_content_holds_for_the_copy_and_one_on_these_bytes_does_not(
    tmp_path: Path, settings: Config, vault: Vault, checksums: str, good_there: bool
) -> None:
    """Else a recovery would take from the vault, as good, what was found to be wrong here."""
    one = publish(tmp_path)
    catch_up(settings)
    failed_at(tmp_path, one, checksums)
    assert catch_up(settings).copied == ()
    assert catalog.entry(vault, "database", one.id).good is good_there
    chosen = {"identity": one.id, "accept": False}
    found = Sources(Opened(settings), "database", one.id).entries
    if good_there:
        assert catalog.choose(found, "shop", **chosen)[0].source == "vault"
        return
    with pytest.raises(IntegrityError, match="tables: other content"):
        catalog.choose(found, "shop", **chosen)
    prove(tmp_path, one, at=NOW + DAY)
    catch_up(settings)
    assert catalog.entry(vault, "database", one.id).good, "the verdict was revised"


def test_a_configuration_that_failed_here_may_be_whole_in_the_vault() -> None:
    """A part of it that an earlier backup keeps may lack in one place only."""
    said = {"checks": [{"name": "checksums", "result": "PASS"}, {"name": "part images.tar", "result": "FAIL"}]}
    proof = {"archive": catalog.Proof(checks.FAIL, NOW, said)}
    assert not catalog.Entry("config_backup_x", proof=proof, component="config").flawed
    assert catalog.Entry("db_backup_x", proof=proof).flawed


def test_points_go_too_and_know_their_copies(tmp_path: Path, settings: Config, vault: Vault) -> None:
    point = sealed(settings, tmp_path)
    assert point.copies == (PLACE,)
    assert vault.read_point(point.id) == store(tmp_path).read_point(point.id)
    assert [entry.good for entry in points.entries(vault, "shop", points.backups(vault, "shop"))] == [True]
    (tmp_path / "backup/recovery-points/20200101_000000.json").write_text("{")
    assert copies.send_points(Opened(settings), log=lambda _: None) == ()
    assert vault.points() == [point.id], "a broken one is not copied"
    vault.away = "gone"
    assert "gone" in copies.send_points(Opened(settings), log=lambda _: None)[0]


# --- what status says ---


def test_the_check_asks_the_vault(tmp_path: Path, settings: Config, vault: Vault) -> None:
    def look() -> tuple[str, str]:
        found = points.backups(store(tmp_path), "shop")
        (one,) = copies.checks(Opened(settings), found, points.entries(store(tmp_path), "shop", found))
        return one.result, one.detail

    assert look() == (checks.COULD_NOT_VERIFY, f"there is no good backup to be in {PLACE}")
    point = sealed(settings, tmp_path)
    assert look() == (checks.PASS, f"2 backups, 1 recovery points are in {PLACE} too")
    vault.delete_point(point.id)
    assert look() == (checks.FAIL, f"1 are not in {PLACE}: {point.id}")
    new = publish(tmp_path, NOW + DAY)
    assert look() == (checks.FAIL, f"2 are not in {PLACE}: {new.id}, {point.id}")
    vault.away = "connection refused"
    assert look() == (checks.COULD_NOT_VERIFY, f"{PLACE}: connection refused")


def test_no_copies_no_check(tmp_path: Path) -> None:
    assert copies.checks(Opened(make_config(tmp_path)), {}, []) == []


# --- retention on both sides ---

SHORT = {"daily_days": 1, "weekly_months": 0, "monthly_months": 0, "minimum": 1}


@pytest.fixture(autouse=True)
def mirror_held(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Any]]:
    """What mirror_prune was asked to leave alone; tests/objects/test_mirror_prune.py has the real one."""
    asked: list[tuple[list[str], Any]] = []

    def held(config: Config, kept: Any, newest: Any, *, dry_run: bool) -> operations_prune.Pruned:
        asked.append((sorted(backup.id for backup in kept), newest))
        return operations_prune.Pruned(2, 20, ("x: locked",)) if not dry_run else operations_prune.Pruned(2, 20)

    monkeypatch.setattr(operations_prune.mirror_prune, "prune", held)
    return asked


def run_prune(settings: Config, now: Any, dry_run: bool = False) -> dict[str, Any]:
    return operations_prune.prune(Opened(settings), now=now, dry_run=dry_run, log=lambda _: None)


def test_both_sides_are_pruned_by_one_plan(
    tmp_path: Path, vault: Vault, settings: Config, held: None, mirror_held: list[Any]
) -> None:
    settings = configured(tmp_path, retention=SHORT)
    made = [sealed(settings, tmp_path, NOW + day * DAY) for day in range(4)]
    before = (store(tmp_path).published("objects"), vault.published("objects"))
    planned = run_prune(settings, NOW + 4 * DAY, dry_run=True)
    assert (store(tmp_path).published("objects"), vault.published("objects")) == before
    done = run_prune(settings, NOW + 4 * DAY)
    gone = [point.id for point in made[:2]]
    parts = [
        part.id for component in ("database", "objects") for point in made[:2] for part in [point.parts[component]]
    ]
    assert planned["delete"] == done["delete"] == [*gone, *parts], "points before their parts"
    for side in (store(tmp_path), vault):
        assert side.points() == [point.id for point in made[2:]]
        assert side.published("database") == [point.parts["database"].id for point in made[2:]]
        assert side.published("objects") == [point.parts["objects"].id for point in made[2:]]
    assert done["keep"][made[2].parts["objects"].id][-1] == f"part of {made[2].id}"
    assert (done["locked"], done["failed"]) == (["x: locked"], [])
    newest = made[3].parts["objects"].id
    left = [made[2].parts["objects"].id, newest]
    assert [held for held, _ in mirror_held] == [left, left], "a dry run counts as what it would do"
    assert done["versions"] == {"deleted": 2, "bytes": 20, "waits": ""}
    assert operations_prune.report(done, "deleted") == [
        "deleted  2 old versions in the mirror, 20 B",
        "kept by the store  x: locked",
    ]


@pytest.mark.parametrize("why", ["a recovery", "unreadable"])
def test_old_versions_wait_for_what_is_not_known(
    tmp_path: Path, vault: Vault, settings: Config, held: None, mirror_held: list[Any], why: str
) -> None:
    made = sealed(settings, tmp_path)
    assert run_prune(settings, NOW + DAY)["versions"]["deleted"] == 2
    if why == "a recovery":
        settings.state.mkdir(exist_ok=True)
        (settings.state / "recovering_objects").touch()
        assert operations_prune.RECOVERING_OBJECTS == "recovering_objects"
        with pytest.raises(LockedError, match=r"of the object storage has not ended.*recover_object_storage again"):
            run_prune(settings, NOW + DAY)
    else:
        folder = tmp_path / "backup" / "objects" / made.parts["objects"].id
        (folder / "manifest.json").write_text("{}")
        vault.delete("objects", made.parts["objects"].id)
    done = run_prune(settings, NOW + DAY, dry_run=why == "a recovery")
    wanted = {"a recovery": "a recovery of the bucket has begun", "unreadable": "its manifest cannot be read"}[why]
    assert wanted in done["versions"]["waits"]
    assert wanted in operations_prune.report(done, "deleted")[0]
    assert len(mirror_held) == 1, "the vault was not touched again"


def test_a_good_copy_tells_what_a_damaged_listing_needs(
    tmp_path: Path, vault: Vault, settings: Config, held: None, mirror_held: list[Any]
) -> None:
    made = sealed(settings, tmp_path)
    path = tmp_path / "backup" / "objects" / made.parts["objects"].id / "listing.jsonl.gz"
    path.chmod(0o600)
    path.write_bytes(b"gnitsil")
    assert run_prune(settings, NOW + DAY)["versions"]["waits"] == ""
    assert mirror_held[0][0] == [made.parts["objects"].id]


def test_a_side_that_lacks_the_newest_keeps_its_old_ones(
    tmp_path: Path, vault: Vault, settings: Config, held: None
) -> None:
    """Copies fail for a week: the vault's window stands still, the repository's does not."""
    settings = configured(tmp_path, retention=SHORT)
    old = [publish(tmp_path, NOW + day * DAY) for day in range(3)]
    catch_up(settings)
    new = [publish(tmp_path, NOW + day * DAY) for day in (8, 9, 10)]
    done = run_prune(settings, NOW + 10 * DAY)
    assert store(tmp_path).published("database") == [manifest.id for manifest in new[1:]]
    assert vault.published("database") == [manifest.id for manifest in old[1:]]
    assert done["delete"] == [manifest.id for manifest in [*old, new[0]]]


def test_what_only_the_vault_has_is_pruned_there(tmp_path: Path, vault: Vault, settings: Config, held: None) -> None:
    settings = configured(tmp_path, retention=SHORT)
    old = publish(tmp_path)
    catch_up(settings)
    store(tmp_path).delete("database", old.id)  # the repository was lost and started again
    new = publish(tmp_path, NOW + 5 * DAY)
    assert run_prune(settings, NOW + 5 * DAY)["delete"] == []
    assert vault.published("database") == [old.id], "the vault has nothing newer"
    catch_up(settings)
    assert run_prune(settings, NOW + 5 * DAY)["delete"] == [old.id]
    assert vault.published("database") == [new.id]


def test_a_locked_version_is_reported(tmp_path: Path, vault: Vault, settings: Config, held: None) -> None:
    settings = configured(tmp_path, retention=SHORT)
    old, _ = publish(tmp_path), publish(tmp_path, NOW + 9 * DAY)
    catch_up(settings)
    vault.locked = [old.id]
    done = run_prune(settings, NOW + 9 * DAY)
    assert done["locked"] == [f"{old.id}: locked until 2027-01-01T00:00:00.000Z (COMPLIANCE)"]
    assert (done["delete"], done["failed"]) == ([old.id], [])


def test_a_vault_that_is_away_does_not_stop_the_repository(
    tmp_path: Path, vault: Vault, settings: Config, held: None
) -> None:
    settings = configured(tmp_path, retention=SHORT)
    old, new = publish(tmp_path), publish(tmp_path, NOW + 9 * DAY)
    catch_up(settings)
    vault.away = "connection refused"
    done = run_prune(settings, NOW + 9 * DAY)
    assert (done["delete"], store(tmp_path).published("database")) == ([old.id], [new.id])
    assert "connection refused" in done["failed"][0]
    vault.away = ""
    assert vault.published("database") == [old.id, new.id]
    assert run_prune(settings, NOW + 9 * DAY)["delete"] == [old.id]
    assert vault.published("database") == [new.id]


def test_what_is_good_on_one_side_is_good(tmp_path: Path, vault: Vault, settings: Config) -> None:
    one, other = publish(tmp_path), publish(tmp_path, NOW + DAY)
    catch_up(settings)
    (folder(tmp_path, other) / "database.dump").unlink()
    sides = [
        operations_prune._side("repository", settings, store(tmp_path)),
        operations_prune._side("vault", settings, vault),
    ]
    whole, (ours, theirs) = operations_prune.plans(sides, retention.Policy(), NOW + DAY)
    assert "daily: 0 days old, kept 30" in whole.keep[other.id]
    assert ours.keep[other.id] == ["not good: kept until a newer good backup exists"]
    assert one.id in whole.keep
    assert theirs == whole
    assert json.dumps(whole.keep)


# --- taking from the vault what the repository no longer has ---


@pytest.fixture
def two(tmp_path: Path, settings: Config, vault: Vault) -> list[str]:
    """Two backups, both in both places."""
    made = [publish(tmp_path, NOW - DAY), publish(tmp_path)]
    catch_up(settings)
    return [manifest.id for manifest in made]


def lose(root: Path) -> None:
    shutil.rmtree(root / "backup")


def empty(root: Path) -> None:
    lose(root)
    (root / "backup").mkdir()


def damage(root: Path) -> None:
    (root / "backup/postgresql" / "db_backup_20261124_120000" / "database.dump").unlink()


REPLACED: list[tuple[str, Callable[[Path], None], list[str], list[str]]] = [
    ("whole", lambda root: None, ["repository", "repository"], []),
    ("gone", lose, ["vault", "vault"], ["the repository cannot be used: there is no such directory"]),
    ("begun anew", empty, ["vault", "vault"], ["the repository holds no backup"]),
    (
        "one damaged",
        damage,
        ["repository", "vault"],
        [
            "db_backup_20261124_120000 in the repository: database.dump is missing; its copy in the vault is good",
        ],
    ),
]


@pytest.mark.parametrize(
    ("change", "places", "notes"), [case[1:] for case in REPLACED], ids=[case[0] for case in REPLACED]
)
def test_the_vault_stands_in(
    tmp_path: Path,
    settings: Config,
    two: list[str],
    change: Callable[[Path], None],
    places: list[str],
    notes: list[str],
) -> None:
    change(tmp_path)
    sources = Sources(Opened(settings), "database")
    assert [(entry.id, entry.source, entry.good) for entry in sources.entries] == [
        (two[0], places[0], True),
        (two[1], places[1], True),
    ]
    assert sources.notes == notes
    with sources.repo(sources.entries[1]).materialise("database", two[1]) as path:
        assert (path / "database.dump").read_bytes() == b"dump"


def test_neither_place(tmp_path: Path, settings: Config, two: list[str], vault: Vault) -> None:
    vault.away = "connection refused"
    damage(tmp_path)
    sources = Sources(Opened(settings), "database")
    assert [entry.good for entry in sources.entries] == [True, False], "what there is can be used"
    assert sources.notes == ["the copies in the vault cannot be used: connection refused"]
    lose(tmp_path)
    with pytest.raises(UsageError, match="there is no such directory"):
        Sources(Opened(settings), "database")


def test_a_whole_repository_asks_no_vault(tmp_path: Path, settings: Config, two: list[str], vault: Vault) -> None:
    vault.away = "nobody must ask"
    assert Sources(Opened(settings), "database").notes == []
    assert Sources(Opened(settings), "database", two[0]).notes == []
    assert Sources(Opened(settings), "database", "db_backup_20200101_000000").notes != []


def test_a_point_is_found_in_the_vault_too(tmp_path: Path, settings: Config, vault: Vault) -> None:
    point = sealed(settings, tmp_path)
    for change in (lambda root: None, empty):
        change(tmp_path)
        assert Sources(Opened(settings), "database", point.id).identity == point.parts["database"].id
        assert Sources(Opened(settings), "objects", point.id).identity == point.parts["objects"].id
    with pytest.raises(LifeboatError, match="none of that name"):
        Sources(Opened(settings), "database", "20200101_000000")


def test_a_copy_is_one_of_the_very_same_backup(tmp_path: Path, settings: Config, two: list[str], vault: Vault) -> None:
    sources = Sources(Opened(settings), "database")
    copy = sources.copy_of(sources.entries[1])
    assert copy
    assert (copy.id, copy.source) == (two[1], "vault")
    assert sources.copy_of(copy) is None, "a copy has none"
    store(tmp_path).delete("database", two[1])
    publish(tmp_path, details={"seconds": 9})
    another = Sources(Opened(settings), "database")
    assert another.copy_of(another.entries[1]) is None


def test_no_vault_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no copies are kept there"):
        open_place(Opened(make_config(tmp_path)), "vault")
    assert open_place(Opened(make_config(tmp_path)), "repository").points() == []
