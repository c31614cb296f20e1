# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lifeboat wal` and `lifeboat mark`: what enable does and undoes, what status says."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    SpaceError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.command import wal as command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import preflight, receiver, send
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.preflight import Facts, RoleState, SlotState
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.receiver import Enabled, Way
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.send import Ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous, metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Gap
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from builders import Runner, make_config, publish_base
from test_wal_receive import OURS, PLAIN, SYSTEM

NOW = datetime(2026, 12, 1, 13, 0, tzinfo=timezone.utc)
GIB = 1 << 30
ROLE = RoleState(login=True, replication=True, superuser=False)


class Server:
    """Remembers the SQL, and answers as a server that does it."""

    def __init__(self) -> None:
        self.sql: list[str] = []

    def execute(self, sql: str, **_: Any) -> list[object]:
        self.sql.append(sql.split(";", maxsplit=1)[0])
        return ["0/2000060"] if "restore_point" in sql else []

    def free_bytes(self, path: str) -> int:
        return 100 * GIB


class World:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner) -> None:
        self.root, self.runner, self.log = root, runner, list[str]()
        self.server, self.facts = Server(), PLAIN
        self.way = Way(preflight.ROLE, 5432, (os.getuid(), os.getgid()), "c0ffee", "sha256:1", "127.0.0.1")
        self.refused = ""
        self.run = self.opened()
        units = root / "units"
        units.mkdir()
        monkeypatch.setattr(continuous, "UNITS", units)
        monkeypatch.setattr(continuous, "_RUNS", root)
        monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
        monkeypatch.setattr(filesystem, "free", lambda path: 100 * GIB)
        monkeypatch.setattr(database_server, "connect", lambda config, runtime: self.server)
        monkeypatch.setattr(preflight, "read", lambda server, patience=60: self.facts)
        monkeypatch.setattr(preflight, "rules", lambda server: ())
        monkeypatch.setattr(receiver, "way", lambda run, server, facts: self.way)
        monkeypatch.setattr(receiver, "refuse_without_tool", lambda server: None)
        monkeypatch.setattr(receiver, "try_connection", self.tried)
        monkeypatch.setattr(receiver, "shared_disk", lambda run, facts: True)
        runner.expect("^systemctl")
        runner.expect("^docker rm")

    def opened(self, **wal: Any) -> Opened:
        settings = {"enabled": True, "spool_directory": f"{self.root}/spool/shop", **wal}
        return Opened(make_config(self.root, wal=settings))

    def tried(self, run: Opened, route: Way, facts: Facts) -> None:
        if self.refused:
            raise UsageError(preflight.ENABLE, "replication", self.refused)

    def sends(self, at: datetime = NOW, gaps: tuple[Gap, ...] = ()) -> None:
        """Let the sender have written its first note."""
        reached = Reached(SYSTEM, 1, "0/2000000", at)
        send.remember(
            self.run.config, Ledger(SYSTEM, 170012, 16 << 20, 1, "0/2000000", number=1, reached=reached, gaps=gaps)
        )

    def enable(self) -> continuous.Plan:
        return continuous.enable(self.run, self.log.append, wait=0)

    @property
    def systemctl(self) -> list[str]:
        return [text for text in self.runner.ran if text.startswith("systemctl")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner) -> World:
    return World(tmp_path, monkeypatch, runner)


def test_the_plan_changes_nothing(world: World) -> None:
    plan = continuous.plan(world.run)
    assert [step.split(" ")[0] for step in plan.steps] == ["make", "set", "make", *4 * ["write"], "receive"]
    assert plan.limit == 16 * GIB
    assert world.server.sql == []
    assert world.systemctl == []
    assert not (world.root / "spool").exists()
    assert list((world.root / "units").iterdir()) == []
    assert receiver.enabled(world.run.config) is None


def test_enable_does_what_the_plan_says_and_once(world: World) -> None:
    world.sends()
    world.enable()
    assert world.server.sql == [
        "CREATE ROLE lifeboat_wal LOGIN REPLICATION",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '16384MB'",
        "SELECT to_json(pg_reload_conf())",
        "SELECT to_json(pg_create_physical_replication_slot('lifeboat_wal', true)::text)",
    ]
    names = "lifeboat-wal-shop.service lifeboat-send-shop.timer"
    assert world.systemctl == [
        "systemctl daemon-reload",
        f"systemctl enable --now {names}",
        f"systemctl restart {names}",
    ]
    note = receiver.enabled(world.run.config)
    assert note is not None
    assert (note.system, note.limit, note.limit_set, note.role_made) == (SYSTEM, 16 * GIB, True, True)
    assert any(f"any instant from {format_time(NOW)} on is received" in text for text in world.log)
    world.facts = dataclasses.replace(PLAIN, role=ROLE, slot_states=(OURS,), limit=16384)
    world.server.sql.clear()
    world.runner.ran.clear()
    assert world.enable().steps == ()
    assert world.server.sql == []
    assert world.systemctl == [f"systemctl enable --now {names}"], "nothing is started again"
    assert receiver.enabled(world.run.config) == note, "what it did the first time stays on record"


def test_the_units_survive_what_may_happen(world: World) -> None:
    texts = {path.name: text for path, text in continuous.units(world.run.config).items()}
    unit = texts["lifeboat-wal-shop.service"]
    assert "ExecStart=/usr/bin/lifeboat wal receive --stack shop\n" in unit
    assert "ExecStopPost=-/usr/bin/docker stop --time 5 lifeboat-wal-shop\n" in unit
    for setting in ("Restart=always", "RestartSec=2", "StartLimitIntervalSec=0", "WantedBy=multi-user.target"):
        assert f"{setting}\n" in unit
    assert "OnUnitInactiveSec=30\n" in texts["lifeboat-send-shop.timer"]
    assert "{" not in "".join(texts.values())
    host = make_config(world.root, runtime={"type": "host"}, wal={"enabled": True, "interval": 10})
    texts = {path.name: text for path, text in continuous.units(host).items()}
    assert "docker stop" not in texts["lifeboat-wal-shop.service"]
    assert "OnUnitInactiveSec=10\n" in texts["lifeboat-send-shop.timer"]


def test_a_server_that_refuses_the_receiver_is_as_it_was(world: World) -> None:
    world.refused = "no pg_hba.conf entry"
    with pytest.raises(UsageError, match="no pg_hba"):
        world.enable()
    assert world.server.sql == ["CREATE ROLE lifeboat_wal LOGIN REPLICATION", "DROP ROLE lifeboat_wal"]
    assert receiver.enabled(world.run.config) is None
    assert world.systemctl == []
    world.facts = dataclasses.replace(PLAIN, role=ROLE)
    world.server.sql.clear()
    with pytest.raises(UsageError):
        world.enable()
    assert world.server.sql == [], "somebody else's role stays"


def test_obstacles_are_refused_before_anything(world: World) -> None:
    world.facts = dataclasses.replace(PLAIN, wal_level="minimal")
    with pytest.raises(UsageError, match="wal_level is minimal"):
        world.enable()
    assert world.server.sql == []


def test_what_this_host_lacks_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    off = Opened(make_config(world.root))
    with pytest.raises(UsageError, match="enabled is false on this host"):
        continuous.plan(off)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda name, **_: None if name == "zstd" else f"/usr/bin/{name}")
        with pytest.raises(UnverifiedError, match="zstd is not installed"):
            continuous.plan(world.run)
    with monkeypatch.context() as patch:
        patch.setattr(continuous, "_RUNS", world.root / "not" / "there")
        with pytest.raises(UsageError, match="systemd does not run here"):
            continuous.plan(world.run)
    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "free", lambda path: 20 * GIB)
        with pytest.raises(SpaceError, match="what the slot may hold back on the same disk"):
            continuous.plan(world.run)
    assert world.server.sql == []


def test_a_bound_that_is_set_stays_and_one_of_the_inventory_counts(world: World) -> None:
    world.facts = dataclasses.replace(PLAIN, limit=4096)
    assert continuous.plan(world.run).limit == 4 * GIB
    assert not any("max_slot" in step for step in continuous.plan(world.run).steps)
    world.run = world.opened(slot_limit="3G")
    plan = continuous.plan(world.run)
    assert plan.limit == 3 * GIB
    assert any("max_slot_wal_keep_size to 3.0 GB" in step or "max_slot" in step for step in plan.steps)


def test_without_a_first_note_it_does_not_say_that_all_is_well(world: World) -> None:
    with pytest.raises(UnverifiedError, match="no WAL was sent within 0 s") as raised:
        world.enable()
    assert "journalctl -u lifeboat-wal-shop" in raised.value.remedy
    assert receiver.enabled(world.run.config) is not None, "the next enable, or disable, goes on from here"


def test_disable_undoes_what_enable_did(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sends()
    world.enable()
    world.facts = dataclasses.replace(PLAIN, role=ROLE, slot_states=(OURS,), limit=16384)
    world.server.sql.clear()
    world.runner.ran.clear()
    steps = continuous.disable(world.run, world.log.append, dry_run=True)
    assert [step.split(" ")[0] for step in steps] == ["stop", "drop", "reset", "drop", *4 * ["remove"]]
    assert world.runner.ran == []
    assert world.server.sql == []
    sent: list[bool] = []
    monkeypatch.setattr(send, "send", lambda run, log, close: sent.append(close))
    continuous.disable(world.run, world.log.append)
    assert world.runner.ran[0].startswith("systemctl disable --now lifeboat-wal-shop.service")
    assert "docker rm --force lifeboat-wal-shop" in world.runner.ran
    assert [sql.split(" ")[0] + sql.split(" ")[1] for sql in world.server.sql[2:]] == [
        "ALTERSYSTEM", "SELECTto_json(pg_reload_conf())", "DROPROLE",
    ]  # fmt: skip
    assert "pg_drop_replication_slot" in world.server.sql[1], "before anything else of the server"
    assert sent == [True], "what was received is sent, and the span is closed"
    assert list((world.root / "units").iterdir()) == []
    assert receiver.spools(world.run.config) == []
    assert receiver.enabled(world.run.config) is None
    assert continuous.disable(world.run, world.log.append) == []


def test_disable_leaves_what_others_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.facts = dataclasses.replace(PLAIN, role=ROLE, limit=4096)
    world.sends()
    world.enable()
    monkeypatch.setattr(send, "send", lambda run, log, close: None)
    world.server.sql.clear()
    continuous.disable(world.run, world.log.append)
    assert not any("RESET" in sql or "DROP ROLE" in sql for sql in world.server.sql)


# Status.


def checks(world: World) -> dict[str, tuple[str, str]]:
    standing = continuous.status(world.run, NOW + timedelta(seconds=20))
    return {check.name: (check.result, check.detail) for check in standing.checks}


RECEIVES = dataclasses.replace(OURS, pid=7, application=preflight.SLOT, safe=3 * GIB, restart="0/2000000")


def protect(world: World, slot: SlotState | None = RECEIVES, **facts: Any) -> None:
    receiver.remember(world.run.config, Enabled(SYSTEM, 4 * GIB))
    if not world.run.once(repositories.repository_of).published("base"):
        publish_base(world.root)
    slots = (slot,) if slot else ()
    world.facts = dataclasses.replace(PLAIN, slot_states=slots, role=ROLE, limit=4096, **facts)


def test_all_is_well(world: World) -> None:
    protect(world)
    world.sends()
    found = checks(world)
    assert found.pop("wal off the host")[0] == "COULD_NOT_VERIFY", "there is no vault"
    assert {result for result, _detail in found.values()} == {"PASS"}
    assert set(found) == {"wal receiver", "wal slot", "wal behind", "wal spool", "wal base", "wal gaps"}


BUCKET = {"type": "s3", "bucket": "b", "endpoint_url": "http://127.0.0.1:9"}
KEYS = {"s3_access_key": "writer", "s3_secret_key": "very-secret"}


def test_a_repository_in_a_bucket_is_off_the_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Repository, "check", lambda repo, writable: None)
    monkeypatch.setattr(S3Repository, "published", lambda repo, component: ["base_backup_20261201_110000"])
    with_bucket = {"repository": BUCKET, "wal": {"enabled": True, "spool_directory": f"{world.root}/spool/shop"}}
    config = make_config(world.root, **with_bucket)
    object.__setattr__(config, "secrets", KEYS)
    world.run = Opened(config)
    assert continuous.plan(world.run).steps
    protect(world)
    assert checks(world)["wal off the host"] == ("FAIL", "nothing was sent yet")
    world.sends()
    result, detail = checks(world)["wal off the host"]
    assert result == "PASS"
    assert "is in s3://b/ at http://127.0.0.1:9" in detail
    told, *_checks = metrics.HERE["wal"](metrics.Facts(world.run, NOW))
    assert (told.labels, told.value) == ({"duty": "copy", "of": "wal"}, NOW.timestamp())


GAP = Gap(SYSTEM, 1, "0/1000000", "0/2000000", "the slot was lost", NOW)
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("nobody receives", {"slot": dataclasses.replace(RECEIVES, pid=None)}, "wal receiver", "nothing receives"),
    ("somebody else", {"slot": dataclasses.replace(RECEIVES, application="x")}, "wal receiver", "another receiver"),
    ("another server", {"system": "8"}, "wal receiver", "the server is 8"),
    ("no slot", {"slot": None}, "wal slot", "is not there"),
    ("lost", {"slot": dataclasses.replace(RECEIVES, status="lost")}, "wal slot", "more than max_slot_wal_keep_size"),
    (
        "invalidated",
        {"slot": dataclasses.replace(RECEIVES, status="lost", reason="idle_timeout")},
        "wal slot",
        "is lost: nobody received for as long as idle_replication_slot_timeout allows",
    ),
    ("at risk", {"slot": dataclasses.replace(RECEIVES, safe=GIB)}, "wal slot", "before the slot is lost"),
    ("no bound", {"slot": dataclasses.replace(RECEIVES, safe=None)}, "wal slot", "could fill the disk"),
    ("dropped when idle", {"idle_timeout": 9}, "wal slot", "set it to 0"),
]


@pytest.mark.parametrize(("facts", "name", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_status_fails_for(world: World, facts: dict[str, Any], name: str, words: str) -> None:
    protect(world, **facts)
    world.sends()
    standing = continuous.status(world.run, NOW)
    bad = [check for check in standing.checks if check.result == "FAIL"]
    assert [check.name for check in bad] == [name]
    assert words in bad[0].detail
    assert standing.verdict == "FAIL"
    assert [each for each, passed in measured(world).items() if not passed] == [name], "and an alert is of it"


def measured(world: World) -> dict[str, float]:
    """What LifeboatWalCheckFailed is told, by check."""
    samples = metrics.HERE["wal"](metrics.Facts(world.run, NOW))
    return {each.labels["check"]: each.value for each in samples if each.name == "lifeboat_wal_check_passed"}


def unread(world: World) -> list[str]:
    samples = metrics.HERE["wal"](metrics.Facts(world.run, NOW))
    return [
        each.labels["collector"] for each in samples if each.name == "lifeboat_collector_success" and not each.value
    ]


def test_what_could_not_be_checked_is_in_no_metric(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down has an alert of its own; what does not leave the host, too."""
    protect(world)
    world.sends(at=NOW - timedelta(minutes=3))
    assert measured(world) == {
        "wal receiver": 1, "wal slot": 1, "wal behind": 0, "wal spool": 1, "wal base": 1, "wal gaps": 1
    }  # fmt: skip

    def away(server: object, patience: float) -> Facts:
        assert patience <= 5, "the metrics of everything else wait for it"
        raise LifeboatError("ask", "server", "connection refused")

    assert not unread(world)
    monkeypatch.setattr(preflight, "read", away)
    assert measured(world) == {"wal behind": 0, "wal spool": 1, "wal base": 1, "wal gaps": 1}
    assert unread(world) == ["wal_server"], "and LifeboatFactsUnreadable is told of that"
    world.run = Opened(make_config(world.root))
    assert measured(world) == {}


def test_what_is_behind_or_has_a_gap_fails(world: World) -> None:
    protect(world)
    assert checks(world)["wal behind"] == ("FAIL", "nothing was sent yet")
    world.sends(at=NOW - timedelta(minutes=3))
    assert checks(world)["wal behind"][0] == "FAIL"
    world.sends(at=NOW + timedelta(hours=1))
    assert checks(world)["wal behind"][0] == "FAIL", "a time in the future was not reached"
    world.sends(gaps=(dataclasses.replace(GAP, end="0/3000000"),))
    found = checks(world)
    assert found["wal gaps"] == ("FAIL", "from 0/1000000 to 0/3000000: the slot was lost")
    assert found["wal base"][0] == "FAIL"
    assert "a gap from 0/1000000 to 0/3000000" in found["wal base"][1]
    world.sends(gaps=(GAP,))
    assert checks(world)["wal gaps"] == ("PASS", "closed by a base: from 0/1000000 to 0/2000000: the slot was lost")


def test_a_server_that_does_not_answer_is_not_called_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    protect(world)
    world.sends()

    def away(server: object, patience: float) -> Facts:
        raise LifeboatError("ask", "server", "connection refused")

    monkeypatch.setattr(preflight, "read", away)
    found = checks(world)
    assert found["wal receiver"][0] == "COULD_NOT_VERIFY"
    assert found["wal behind"][0] == "PASS"


def test_what_was_not_enabled(world: World) -> None:
    assert checks(world) == {"wal": ("FAIL", "continuous protection is not enabled: lifeboat wal enable")}
    world.run = Opened(make_config(world.root))
    assert checks(world)["wal"][0] == "PASS"


# Marks, and the command.


def test_a_mark_is_a_restore_point(world: World) -> None:
    protect(world)
    assert continuous.mark(world.run, "before'upgrade") == "0/2000060"
    assert "pg_create_restore_point('before''upgrade')" in world.server.sql[0]


@pytest.mark.parametrize("name", ["", "x" * 64, "a\nb"])
def test_a_name_that_is_none_is_refused(world: World, name: str) -> None:
    protect(world)
    with pytest.raises(UsageError, match="1 to 63 bytes"):
        continuous.mark(world.run, name)


def test_a_mark_that_could_not_be_gone_to_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="no WAL is received"):
        continuous.mark(world.run, "x")
    assert world.server.sql == []


def arguments(*words: str) -> argparse.Namespace:
    return cli.parser(words[0]).parse_args(words)


def test_the_command(world: World) -> None:
    code, result, shown = command.run(world.run, arguments("wal", "enable", "--dry-run"), world.log.append)
    assert code == 0
    assert isinstance(result, dict)
    assert result["changed"] is True
    assert shown[0].startswith("would make the role")
    protect(world)
    world.sends(at=datetime.now(timezone.utc))
    code, result, shown = command.run(world.run, arguments("wal"), world.log.append)
    assert shown[-1].endswith("shop")
    assert command.mark(world.run, arguments("mark", "here"), world.log.append)[2] == ["here is at 0/2000060"]
    code, result, shown = command.run(world.run, arguments("wal", "disable", "--dry-run"), world.log.append)
    assert (code, shown) == (0, ["would drop the slot lifeboat_wal"])
