# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL in the vault: in what order it comes there, what a vault that is away costs, what is never taken for a copy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, filesystem, throttle
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, SpaceError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.command import wal as command
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import archive as archives
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import preflight, receiver, standing, vault
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous, instants, metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest as manifests
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as settings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import catalogue, spans
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import Segment, format_lsn
from builders import BUCKET, make_config
from test_wal_send import SIZE, START, SYSTEM, World, put, segment_bytes


class Vault(LocalRepository):
    """A vault in a directory. away: what every write is answered; written: the names, in their order."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        super().__init__(root)
        self.stack = "shop"
        self.away = ""
        self.written: list[str] = []

    def _write_new(self, parts: tuple[str, ...], data: bytes) -> bool:
        if self.away:
            raise LifeboatError("write", "s3://copies", self.away)
        self.written.append(parts[-1])
        return super()._write_new(parts, data)

    def published(self, component: str) -> list[str]:
        if self.away:
            raise LifeboatError("list", "s3://copies", self.away)
        return super().published(component)


def away(*_: Any) -> None:
    raise LifeboatError("ask", "server", "it is away")


class Protected(World):
    """A stack of this host with a vault that does as it is told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **wal: Any) -> None:
        super().__init__(root, monkeypatch)
        more = {"enabled": True, "spool_directory": f"{root}/spool/shop", **wal}
        place = {**BUCKET["vault"], "repository_bucket": "copies"}
        changed = make_config(root, **{**BUCKET, "vault": place, "runtime": {"type": "host"}, "wal": more})
        self.run = Opened(changed)
        self.vault: Optional[Vault] = Vault(root / "vault")
        monkeypatch.setattr(copies, "vault", lambda run: self.vault)
        monkeypatch.setattr(preflight, "read", away)
        self.segment = 6
        self.end = 0

    @property
    def there(self) -> Vault:
        assert self.vault is not None
        return self.vault

    def write(self, size: int = 1000) -> None:
        """Let so many bytes more be written and received, and a pass be made."""
        if not self.end:
            self.segment += 1
        self.end += size
        segment = put(self.folder, self.segment, self.end)
        self.says(segment.start + self.end)
        self.send()
        self.tick(seconds=30)

    @property
    def copied(self) -> vault.Copied:
        found = vault.copied(self.run.config)
        assert found is not None
        return found

    def manifest(self, identity: str) -> manifests.Manifest:
        return manifests.parse(self.repo.manifest("wal", identity), component="wal", expected_id=identity)

    def same(self) -> None:
        """Whether the vault has each file of the repository's spans, byte for byte, and nothing else."""
        assert files(self.there.root / "wal") == files(self.repo_root / "wal")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Protected:
    return Protected(tmp_path, monkeypatch)


def test_each_pass_brings_the_pieces_and_then_their_note(world: Protected) -> None:
    world.write()
    world.write()
    world.same()
    kinds = [
        "note" if name.startswith("note") else "piece" for name in world.there.written if name.startswith(("0", "n"))
    ]
    assert kinds == ["piece", "note", "piece", "note"]
    (identity,) = world.there.growing("wal")
    span = spans.read(world.there, identity, "shop")
    assert (span.closed, span.notes, len(span.pieces)) == (False, 2, 2)
    assert world.copied.reached is not None
    assert world.copied.reached.at == START + timedelta(seconds=30)


def test_a_pass_without_news_asks_the_vault_nothing(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write()

    def asked(*_: Any) -> None:
        raise AssertionError

    for name in ("published", "files", "add", "notes"):
        monkeypatch.setattr(Vault, name, asked)
    world.says(7 * (1 << 20) + 1000)
    world.send()
    assert world.copied.failed == ""
    assert world.copied.reached is not None
    assert world.copied.reached.at == world.now, "and says all the same until when all is there"


def test_a_closed_span_is_a_backup_in_the_vault(world: Protected) -> None:
    world.write()
    world.tick(hours=1)
    world.write()
    (identity,) = world.there.published("wal")
    assert world.there.manifest("wal", identity) == world.repo.manifest("wal", identity)
    assert spans.check(world.there, world.manifest(identity)).result == "PASS"
    world.same()


def test_a_vault_that_was_away_is_brought_up_to_date_in_order(world: Protected) -> None:
    world.write()
    reached = world.copied.reached
    world.there.away = "connection refused"
    for _ in range(3):
        world.write()
        world.tick(hours=1)
        world.write()
    assert len(world.repo.published("wal")) == 3, "the repository has all of it"
    assert world.copied.reached == reached
    assert world.copied.failed == "connection refused"
    world.there.away = ""
    world.there.written.clear()
    world.tick(minutes=1)
    world.write()
    assert world.there.published("wal") == world.repo.published("wal")
    told = [name for name in world.there.written if name.startswith(("note", "manifest"))]
    assert told == [
        "note-000002.json", "note-000003.json", "manifest.json",
        "note-000001.json", "note-000002.json", "manifest.json",
        "note-000001.json", "note-000002.json", "manifest.json",
        "note-000001.json",
    ]  # fmt: skip
    world.same()
    assert world.copied.failed == ""


def test_a_vault_that_failed_is_left_in_peace_for_a_minute(world: Protected) -> None:
    world.there.away = "connection refused"
    world.write()
    world.there.away = ""
    world.write()
    assert world.there.ids("wal") == []
    world.write()
    world.same()
    world.there.away = "connection refused"
    world.write()
    world.now -= timedelta(days=1)
    world.there.away = ""
    world.send()
    world.same()


def test_the_last_pass_of_all_asks_also_a_vault_that_failed(world: Protected) -> None:
    world.there.away = "connection refused"
    world.write()
    world.there.away = ""
    world.send(close=True)
    assert world.there.published("wal") == world.repo.published("wal")
    assert len(world.there.published("wal")) == 1


def test_a_repository_that_is_full_keeps_nothing_from_the_vault(world: Protected) -> None:
    world.there.away = "connection refused"
    world.write()
    world.there.away = ""
    world.tick(minutes=5)
    world.free = 0
    with pytest.raises(SpaceError):
        world.send()
    world.same()


def test_without_a_vault_nothing_is_remembered(world: Protected) -> None:
    world.vault = None
    world.write()
    assert vault.copied(world.run.config) is None
    assert world.repo.growing("wal")


def test_another_vault_gets_all_of_it(world: Protected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write()
    world.tick(hours=1)
    world.write()
    world.vault = Vault(tmp_path / "other")
    monkeypatch.setattr(copies, "location", lambda config: "s3://other/shop at Amazon S3")
    assert vault.copied(world.run.config) is None
    world.write()
    world.same()


def test_a_lost_memory_sends_nothing_twice_that_is_there(world: Protected) -> None:
    world.write()
    world.tick(hours=1)
    world.write()
    world.write()
    (world.run.config.state / vault.LEDGER).unlink()
    world.there.written.clear()
    world.write()
    pieces = [name for name in world.there.written if name.startswith("0")]
    assert len(pieces) == 1, "the new one"
    world.same()


@pytest.mark.parametrize("name", [".zst", "note-000002", "manifest.json"])
def test_a_pass_that_was_killed_costs_nothing(world: Protected, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Killed(BaseException):
        pass

    world.write()
    real = Vault._write_new

    def write(self: Vault, parts: tuple[str, ...], data: bytes) -> bool:
        done = real(self, parts, data)
        if name in parts[-1]:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Vault, "_write_new", write)
        with pytest.raises(Killed):
            world.write()
            world.tick(hours=1)
            world.send()
    world.write()
    world.same()


def test_the_time_of_a_pass_ends_and_the_next_goes_on(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    world.vault, kept = None, world.vault
    for _ in range(3):
        world.write()
    world.vault = kept
    monkeypatch.setattr(vault, "RELAY", replace(vault.RELAY, seconds=-1.0))
    world.write()
    assert [name for name in world.there.written if name.startswith("0")] == []
    assert any("goes on in the next pass" in text for text in world.log)
    monkeypatch.setattr(vault, "RELAY", replace(vault.RELAY, seconds=30.0))
    world.write()
    world.same()


def test_the_bandwidth_bounds_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Protected(tmp_path, monkeypatch, bandwidth="20M")
    took: list[tuple[float, int]] = []
    monkeypatch.setattr(throttle.Rate, "take", lambda rate, size: took.append((rate._limit, size)))
    world.write()
    assert {limit for limit, _size in took} == {20 * 1024.0**2}
    assert sum(size for _limit, size in took) == sum(map(len, files(world.there.root / "wal").values()))


# What is never taken for a copy.


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_what_is_damaged_here_is_not_sent_and_holds_up_nothing(world: Protected) -> None:
    world.there.away = "away"
    world.write()
    first = world.repo.growing("wal")[0]
    world.tick(hours=1)
    world.write()
    world.there.away = ""
    world.tick(minutes=1)
    for path in (world.repo_root / "wal" / first).glob("0*"):
        path.chmod(0o600)
        damage(path)
    world.write()
    world.write()
    assert world.there.published("wal") == []
    assert len(world.there.growing("wal")) == 1, "the one after it"
    assert first in world.copied.passed_over
    check = check_of(world)
    assert check.result == "FAIL"
    assert f"{first} is not there: it has another length or SHA-256" in check.detail


def test_a_note_that_somebody_put_there_is_not_followed(world: Protected) -> None:
    world.write()
    (identity,) = world.there.growing("wal")
    (world.there.root / "wal" / identity / "note-000002.json").write_bytes(b"{}")
    world.write()
    assert identity in world.copied.passed_over
    assert world.copied.reached is not None
    assert world.copied.reached.at == START, "nothing newer is claimed"
    assert "with other bytes" in check_of(world).detail


def test_a_note_that_does_not_follow_is_not_sent(world: Protected) -> None:
    world.there.away = "away"
    world.write()
    world.write()
    (identity,) = world.repo.growing("wal")
    folder = world.repo_root / "wal" / identity
    shutil.copy(folder / "note-000001.json", folder / "swapped")
    (folder / "note-000002.json").unlink()
    (folder / "swapped").rename(folder / "note-000002.json")
    world.there.away = ""
    world.tick(minutes=2)
    world.send()
    assert world.there.notes("wal", identity) == ["note-000001.json"]
    assert "it is note 1 of" in world.copied.passed_over[identity]


def test_another_stacks_vault_is_not_written_to(world: Protected) -> None:
    other = LocalRepository(world.there.root)
    other.stack = "wiki"
    other.require_ours(make=True)
    world.write()
    assert world.there.ids("wal") == []
    assert "wiki" in world.copied.failed


# What is said of it.


def check_of(world: Protected, later: float = 0) -> Any:
    receiver.remember(world.run.config, receiver.Enabled("1", 1))
    found = continuous.status(world.run, world.now + timedelta(seconds=later))
    return next(check for check in found.checks if check.name == "wal off the host")


def test_status_says_what_left_the_host(world: Protected) -> None:
    assert "nothing is in s3://copies/shop" in check_of(world).detail
    world.write()
    check = check_of(world)
    assert (check.result, check.measured) == ("PASS", 30.0)
    assert check_of(world, later=100).result == "FAIL"
    world.there.away = "connection refused"
    world.write()
    check = check_of(world)
    assert check.result == "PASS", "one pass that failed is not behind yet"
    assert "the last attempt failed: connection refused" in check.detail
    world.vault = None
    assert check_of(world).result == "COULD_NOT_VERIFY"


def test_a_vault_without_keys_fails(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(run: Opened) -> None:
        raise LifeboatError("reach the vault", "shop", "vault_access_key is not set")

    monkeypatch.setattr(copies, "vault", closed)
    world.write()
    assert world.repo.growing("wal"), "the repository has it"
    assert check_of(world).result == "FAIL"
    assert "vault_access_key is not set" in world.copied.failed


def test_the_metrics_say_until_when(world: Protected) -> None:
    facts = metrics.Facts(world.run, world.now)
    never, *_checks = metrics.HERE["wal"](facts)
    assert (never.labels, never.value) == ({"duty": "copy", "of": "wal"}, 0)
    world.write()
    told, *_checks = metrics.HERE["wal"](facts)
    assert told.value == START.timestamp()
    assert metrics.duties(world.run.config)["copy", "wal"] == timedelta(seconds=120)
    off = settings.dataclasses.replace(world.run.config, wal=settings.WalSettings())
    assert list(metrics.HERE["wal"](metrics.Facts(Opened(off), clock.now()))) == []


# Closed spans among the other copies.


def test_what_grows_is_left_to_its_sender(world: Protected) -> None:
    world.there.away = "away"
    world.write()
    world.send(close=True)
    world.there.away = ""
    done = copies.catch_up(world.run, log=world.log.append)
    assert (done.copied, done.failed) == ((), ())
    assert world.there.ids("wal") == []


# From the vault alone.


def base_in(vault_repo: Vault, position: int) -> None:
    details = BaseDetails(SYSTEM, 170012, 1, format_lsn(position), format_lsn(position + 100), segment_size=SIZE)
    identity = "base_backup_20261201_125900"
    artefacts = (Artefact("base.tar.zst", 5, filesystem.sha256(b"files")),)
    with vault_repo.stage("base", identity) as staging:
        (staging.path / "base.tar.zst").write_bytes(b"files")
        made = manifests.Manifest(identity, "base", "shop", START, START, artefacts, {"lifeboat": "1"}, plain(details))
        staging.publish(made.to_bytes())


def test_where_the_repository_is_lost_the_vault_says_what_can_be_gone_to(
    world: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_UNPACK", ("cat",))
    world.write()
    base_in(world.there, 7 * SIZE + 200)
    world.tick(hours=1)
    world.write()
    world.write()
    shutil.rmtree(world.repo_root)
    with pytest.raises(LifeboatError):
        instants.known(world.run)
    (window,) = instants.known(world.run, sources.VAULT).catalogue.windows
    assert window.until.lsn == format_lsn(7 * SIZE + 3000)
    with standing.archive(world.run, world.there) as archive:
        archive.use(SYSTEM)
        target = archive.folder / "segment"
        assert archive.write(Segment(1, 7, SIZE).name, target)
        assert target.read_bytes() == segment_bytes(Segment(1, 7, SIZE), 3000)
    world.vault = None
    with pytest.raises(UsageError, match="no copies are kept there"):
        instants.known(world.run, sources.VAULT)


def test_the_command_reads_there(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    nothing = instants.Known(catalogue.Catalogue((), ()), ())

    def known(run: Opened, source: str) -> instants.Known:
        asked.append(source)
        return nothing

    monkeypatch.setattr(instants, "known", known)
    for words in ((), ("--from", "vault")):
        arguments = cli.parser("wal").parse_args(("wal", "instants", *words))
        command.run(world.run, arguments, world.log.append)
    assert asked == ["repository", "vault"]
