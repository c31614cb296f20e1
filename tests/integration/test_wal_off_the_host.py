# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL of a real server in a real vault, and with a keeper: instants are stood at by what is there alone."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import send, standing, vault
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import follow, receipts, receive
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous, instants
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import WalDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import parse
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import spans
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Instant, Latest
from config_world import keys as new_key
from postgres_stack import Stack
from s3_servers import SeaweedFS, seaweedfs
from test_standing import ROWS, Protected, prepared

AGE = b"age-encryption.org/v1\n"


def rows(run: Opened, repo: Repository, instant: Instant) -> int:
    """How many there are in a server that stands at the instant by what that repository has."""
    with standing.archive(run, repo) as archive:
        route = archive.catalogue().route(instant, clock.now(), 0)
        with standing.standing(run, archive, route, print) as server:
            (count,) = server.server.execute(ROWS, database="postgres", attempted="count")
    return int(str(count))


class Elsewhere(Protected):
    """A protected stack, encrypted, whose WAL leaves the host. place: of its bucket, `vault` or `repository`; empty:
    none."""

    def __init__(self, stack: Stack, root: Path, server: SeaweedFS | None = None, place: str = "") -> None:
        super().__init__(stack, root)
        self.root, self.bucket, self.place = root, f"copies-{secrets.token_hex(4)}", place
        self.changes: dict[str, Any] = {
            "wal": {"enabled": True, "spool_directory": f"{root}/spool/{stack.stack}"},
            "encryption": {"recipients": [new_key(root)[1]]},
        }
        self.keys: dict[str, str] = {}
        if server:
            server.client.create_bucket(Bucket=self.bucket)
            to = {"endpoint_url": server.url, "region": "us-east-1"}
            if place == "vault":
                self.changes["vault"] = {"repository_bucket": self.bucket, **to}
            else:
                self.changes["repository"] = {
                    **to,
                    "type": "s3",
                    "bucket": self.bucket,
                    "staging_root": f"{root}/stage",
                }
            name = "vault" if place == "vault" else "s3"
            self.keys = {f"{name}_access_key": server.access_key, f"{name}_secret_key": server.secret_key}
        self.run = self.opened()

    def opened(self, **keys: str) -> Opened:
        """As another process has it."""
        return Opened(config.from_mapping(self.settings(), {**self.keys, **keys}))

    def settings(self) -> dict[str, Any]:
        settings = self.stack.settings(self.root, **self.changes)
        settings["repository"] = self.changes.get("repository", settings["repository"])
        return settings

    @property
    def there(self) -> Repository:
        return sources.open_place(self.opened(), sources.VAULT)

    def off(self, later: timedelta = timedelta()) -> tuple[str, str]:
        """What the check of the status says."""
        standing_now = continuous.status(self.run, clock.now() + later)
        (check,) = [check for check in standing_now.checks if check.name == "wal off the host"]
        return check.result, check.detail


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    with seaweedfs() as server:
        yield server


def test_an_instant_is_stood_at_from_the_vault_alone(stack: Stack, tmp_path: Path, weed: SeaweedFS) -> None:
    """The vault refuses for a while, and catches up; then the host's repository is lost; then a byte in the vault."""
    with prepared(Elsewhere(stack, tmp_path, weed, "vault")) as made:
        assert copies.catch_up(made.run, log=print).failed == ()
        first = made.add()
        made.sent()
        assert made.off()[0] == PASS
        right, before = made.run, vault.copied(made.run.config)
        made.run = made.opened(vault_secret_key="another")
        second = made.add()
        made.sent()
        result, detail = made.off(timedelta(seconds=made.run.config.wal.alarm_seconds))
        assert (result, "the last attempt failed" in detail) == (FAIL, True), detail
        away = vault.copied(made.run.config)
        assert before and away and (away.number, away.reached) == (before.number, before.reached)
        made.run = right
        state = send.ledger(made.run.config)
        assert state is not None
        caught = vault.push(made.run, print, state.span, state.reached, at_once=True)
        assert caught is not None and (caught.failed, caught.reached) == ("", state.reached)
        third = made.add()
        made.sent()
        assert made.off()[0] == PASS
        here, there = repositories.repository_of(made.run), made.there
        for identity in there.ids("wal"):
            assert there.notes("wal", identity) == here.notes("wal", identity)
            for name in there.notes("wal", identity):
                assert there.read_note("wal", identity, name) == here.read_note("wal", identity, name)
            assert there.files("wal", identity) == here.files("wal", identity)
        for name in ("wal", "base"):
            shutil.rmtree(tmp_path / "backup" / name)
        with pytest.raises(LifeboatError):
            instants.stand(made.opened(), At(first), print)
        for moment, count in {At(first): 100, At(second): 200, At(third): 300, Latest(): 300}.items():
            assert rows(made.run, made.there, moment) == count
        stood = instants.stand(made.opened(), At(second), print, 0, sources.VAULT)
        assert stood.route.base.id.startswith("base_backup_")
        listed = weed.client.list_objects_v2(Bucket=made.bucket)["Contents"]
        pieces = sorted(content["Key"] for content in listed if content["Key"].endswith(".zst.age"))
        assert len(pieces) >= 4
        bodies = {key: weed.client.get_object(Bucket=made.bucket, Key=key)["Body"].read() for key in pieces}
        assert all(body.startswith(AGE) for body in bodies.values())
        key = [name for name in pieces if "/wal/" in name][-1]
        flipped = bytes([*bodies[key][:-1], bodies[key][-1] ^ 1])
        weed.client.put_object(Bucket=made.bucket, Key=key, Body=flipped)
        with pytest.raises(IntegrityError, match=key.rpartition("/")[2]):
            rows(made.run, made.there, At(third))


def test_a_repository_in_a_bucket_takes_wal(stack: Stack, tmp_path: Path, weed: SeaweedFS) -> None:
    with prepared(Elsewhere(stack, tmp_path, weed, "repository")) as made:
        moment = made.add()
        made.stack.psql("DELETE FROM standing")
        made.sent()
        result, detail = made.off()
        assert (result, made.bucket in detail) == (PASS, True), detail
        send.send(made.run, print, close=True)
        made.add()
        made.sent()
        run = made.opened()
        repo = repositories.repository_of(run)
        assert (len(repo.published("wal")), len(repo.growing("wal"))) == (1, 1)
        assert [rows(run, repo, At(moment)), rows(run, repo, Latest())] == [100, 100]
        assert instants.stand(run, At(moment), print).route.base.id == repo.published("base")[0]


def test_a_keeper_closes_what_the_host_leaves_open_and_leads_to_its_instants(stack: Stack, tmp_path: Path) -> None:
    """Root on the stack's host spoils all of it afterwards."""
    with prepared(Elsewhere(stack, tmp_path)) as made:
        kept = tmp_path / "kept"
        kept.mkdir()
        words = {"directory": str(kept), "source": {"mounted": str(tmp_path / "backup")}, "quota": "1G"}
        given = {"stack": stack.stack, "keeper": words, "wal": {"enabled": True}, "config": {"enabled": False}}
        keeper = config.from_mapping(given)

        def followed() -> follow.Done:
            with follow.reach(keeper.keeper) as source, follow.locked(keeper):
                return follow.follow(Opened(keeper), source, log=print)

        first = made.add()
        made.sent()
        done = followed()
        assert (done.problem, done.strange, done.closed) == (None, [], [])
        assert done.notes > 0
        with receive.reach(keeper.keeper) as source:
            pulled = receive.pull(Opened(keeper), source, log=print)
        assert (pulled.problem, pulled.strange) == (None, [])
        second = made.add()
        state = made.sent()
        assert followed().notes > 0
        repo = repositories.repository_of(Opened(keeper))
        assert (repo.growing("wal"), repo.published("wal")) == ([state.span], [])
        assert [rows(made.run, repo, At(first)), rows(made.run, repo, At(second))] == [100, 200], "while it is open"
        for name in ("wal", "base"):
            for path in (tmp_path / "backup" / name).rglob("*"):
                if path.is_file():
                    path.write_bytes(path.read_bytes()[::-1])
        done = followed()
        assert ([item.what for item in done.strange], done.closed) == ([state.span], [state.span])
        shutil.rmtree(tmp_path / "backup/wal")
        assert followed().closed == []
        assert (repo.growing("wal"), repo.published("wal")) == ([], [state.span])
        manifest = parse(repo.manifest("wal", state.span), component="wal", expected_id=state.span)
        assert manifest.detailed(WalDetails).closed_by == "keeper"
        assert spans.check(repo, manifest).result == PASS
        assert state.span in receipts.load(kept).received
        found = [rows(made.run, repo, each) for each in (At(first), At(second), Latest())]
        assert found == [100, 200, 200]
