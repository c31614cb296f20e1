# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lifeboat metrics`: what it says, that it leaves out what it cannot read, and that each run renews it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import debian
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, pipeline, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli, watched
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import site as frontend_site
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    clock_guard,
    glances,
    metrics,
    quarantine,
    runs,
    status,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import metrics as reports_metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from builders import NOW, make_config, prove, publish, publish_config, settings, store, until
from invented import LETTERS

Series = dict[tuple[str, str], float]  # (name, labels without the stack) -> value


def read(text: str) -> Series:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r'(\w+)\{stack="shop",?(.*)\} (\S+)', line).groups()  # type: ignore[union-attr]
            found[name, labels] = float(value)
    return found


def told(root: Path, now: datetime = NOW, ask: bool = False, again: bool = False, **changes: Any) -> Series:
    return read(metrics.textfile(Opened(make_config(root, **changes)), now=now, ask=ask, again=again))


def last(found: Series, duty: str, of: str) -> float | None:
    return found.get(("lifeboat_duty_last_success_timestamp_seconds", f'duty="{duty}",of="{of}"'))


def allowed(found: Series, duty: str, of: str) -> float | None:
    return found.get(("lifeboat_duty_allowed_age_seconds", f'duty="{duty}",of="{of}"'))


def test_what_was_never_done_is_zero(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert {duty: last(found, *duty) for duty in metrics.duties(make_config(tmp_path))} == {
        ("backup", "database"): 0, ("verify_restore", "database"): 0, ("prune", "stack"): 0, ("status", "stack"): 0,
        ("drill", "database"): 0, ("drill", "backend"): 0, ("drill", "site"): 0,
    }  # fmt: skip
    assert found["lifeboat_backups", 'component="database",state="good"'] == 0


def test_a_backup_and_its_proof(tmp_path: Path) -> None:
    taken = [publish(tmp_path, NOW - timedelta(days=days)) for days in (3, 2, 1)]
    before = told(tmp_path)
    assert last(before, "backup", "database") == taken[-1].taken_at.timestamp()
    assert (last(before, "verify_restore", "database"), allowed(before, "backup", "database")) == (0, 26 * 3600)
    prove(tmp_path, taken[1], at=NOW - timedelta(hours=3))
    found = told(tmp_path, again=True)
    for level in ("checksum", "archive", "restore"):
        assert last(found, f"verify_{level}", "database") == (NOW - timedelta(hours=3)).timestamp()
    labels = 'component="database"'
    assert found["lifeboat_backup_size_bytes", labels] == taken[-1].size
    assert found["lifeboat_backup_median_size_bytes", labels] == taken[-1].size
    assert found["lifeboat_backup_duration_seconds", labels] == 2
    assert found["lifeboat_backup_items", f'{labels},item="rows"'] == 500
    assert found["lifeboat_backup_last_error_status", labels] == 0
    assert found["lifeboat_collector_success", 'collector="repository"'] == 1


def test_a_newest_backup_that_is_damaged_does_not_count(tmp_path: Path) -> None:
    older, newest = publish(tmp_path, NOW - timedelta(days=1)), publish(tmp_path, NOW - timedelta(hours=1))
    Path(store(tmp_path).location("database", newest.id), "database.dump").unlink()
    found = told(tmp_path)
    assert last(found, "backup", "database") == older.taken_at.timestamp()
    assert found["lifeboat_backup_last_error_status", 'component="database"'] == 1
    assert found["lifeboat_backups", 'component="database",state="bad"'] == 1


def test_what_cannot_be_read_is_absent_and_that_is_said(tmp_path: Path) -> None:
    publish(tmp_path, NOW - timedelta(days=1))
    assert last(told(tmp_path), "backup", "database"), "the intact one is told"
    one = make_config(tmp_path)
    (tmp_path / "backup").rename(tmp_path / "elsewhere")
    found = read(metrics.textfile(Opened(one), now=NOW))
    assert last(found, "backup", "database") is None
    assert found["lifeboat_collector_success", 'collector="repository"'] == 0
    assert allowed(found, "backup", "database"), "so that a rule sees what is missing"
    assert not [name for name, _labels in found if name.startswith("lifeboat_backup")]
    assert found["lifeboat_collector_success", 'collector="runs"'] == 1, "the others are told all the same"


def test_the_repository_is_read_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = [publish(tmp_path, NOW - timedelta(hours=hours)) for hours in (5, 3)]
    monkeypatch.setattr(glances, "_SETTLED", 1e9)  # what is remembered of single backups is for test_glances.py
    times, real = [], glances.everything
    monkeypatch.setattr(glances, "everything", lambda *a: times.append(a) or real(*a))  # type: ignore[func-returns-value]
    assert [last(told(tmp_path), "backup", "database") for _ in range(3)] == [backups[1].taken_at.timestamp()] * 3
    assert len(times) == 1, "three looks, read once"
    shutil.rmtree(store(tmp_path).location("database", backups[1].id))
    assert last(told(tmp_path), "backup", "database") == backups[0].taken_at.timestamp(), "and it is seen at once"
    assert len(times) == 2
    told(tmp_path, vault={"repository_bucket": "copies", "endpoint_url": "https://s3.example"})
    assert len(times) == 3, "another duty, of which nothing is remembered"


def test_a_young_stacks_drills_are_due_when_its_oldest_backup_is_as_old_as_a_drill_may_be(tmp_path: Path) -> None:
    name, site = "lifeboat_duty_first_due_timestamp_seconds", 'duty="drill",of="site"'
    age = allowed(told(tmp_path), "drill", "site") or 0
    assert told(tmp_path)[name, site] == NOW.timestamp() + age, "no backup yet"
    for days in (3, 1):
        publish(tmp_path, NOW - timedelta(days=days))
    assert told(tmp_path)[name, site] == (NOW - timedelta(days=3)).timestamp() + age


def test_a_verification_of_the_future_proves_nothing(tmp_path: Path) -> None:
    prove(tmp_path, publish(tmp_path, NOW - timedelta(hours=5)), at=NOW + timedelta(days=2))
    assert last(told(tmp_path), "verify_restore", "database") == 0


def test_an_old_backup_that_is_proved_today_is_no_young_proof(tmp_path: Path) -> None:
    old = publish(tmp_path, NOW - timedelta(days=60))
    prove(tmp_path, old, at=NOW - timedelta(hours=1))
    found = told(tmp_path)
    assert last(found, "verify_restore", "database") == old.taken_at.timestamp()
    assert found["lifeboat_duty_allowed_age_seconds", 'duty="verify_restore",of="database"'] == 8 * 86400


def test_a_new_component_and_a_new_scenario_have_their_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "letters", LETTERS)
    monkeypatch.setitem(SCENARIOS, "flood", replace(SCENARIOS["site"], name="flood"))
    found = told(tmp_path, vault={"repository_bucket": "copies", "endpoint_url": "https://s3.example"})
    for duty in (("backup", "letters"), ("verify_restore", "letters"), ("copy", "letters"), ("drill", "flood")):
        assert (last(found, *duty), bool(allowed(found, *duty))) == (0, True)
    assert "backup_letters" in list(runs.names())


def test_every_duty_has_a_limit_and_a_time_or_a_collector_that_failed(tmp_path: Path) -> None:
    """An unset time would be a silence that no rule hears."""
    publish(tmp_path)
    found = told(tmp_path)
    for duty in metrics.duties(make_config(tmp_path)):
        assert last(found, *duty) is not None and allowed(found, *duty) is not None, duty


HOSTILE = 'a"b\\c\nd\u202e' + "x" * 300


def test_labels_are_escaped_and_bounded() -> None:
    text = reports_metrics.exposition({"m": "w\n\\"}, [reports_metrics.Sample("m", {"l": HOSTILE}, 1)])
    heads, line = text.splitlines()[:2], text.splitlines()[2]
    assert heads == ["# HELP m w \\\\", "# TYPE m gauge"]
    assert re.fullmatch(r'm\{l="a\\"b\\\\c d\\\\u202ex+"\} 1', line)
    assert len(line) < 150


def test_two_samples_of_the_same_labels_are_one() -> None:
    """node_exporter refuses a file with both."""
    both = [reports_metrics.Sample("m", {"l": "1"}, 1), reports_metrics.Sample("m", {"l": "1"}, 2)]
    assert reports_metrics.exposition({"m": "words"}, both).splitlines()[2:] == ['m{l="1"} 2']


def test_no_secret_and_no_row_is_in_them(tmp_path: Path) -> None:
    publish(tmp_path, NOW - timedelta(days=1))
    one = config.from_mapping(settings(tmp_path), {"database_password": "hunter2", "vault_secret_key": "hunter3"})
    text = metrics.textfile(Opened(one), now=NOW)
    assert "hunter" not in text
    assert "public.t" not in text, "nor the name of a table"


# What others are asked for.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The database server, the engine and the vault are not there; how often they were asked is counted."""
    seen: list[str] = []
    monkeypatch.setattr(quarantine, "survey", lambda run, now: quarantine.Contents("shop", now, (), ()))
    monkeypatch.setattr(clock_guard, "skews", lambda config: [("https://s3.example", -70.5)])
    real = status.status
    monkeypatch.setattr(status, "status", lambda *a, **kw: seen.append("status") or real(*a, **kw))  # type: ignore[func-returns-value]
    yield seen


def test_others_are_asked_on_demand_and_remembered(tmp_path: Path, asked: list[str]) -> None:
    publish(tmp_path, NOW - timedelta(hours=2))
    assert ("lifeboat_clock_skew_seconds", "") not in told(tmp_path), "nobody asked yet"
    first = told(tmp_path, ask=True)
    later = told(tmp_path, NOW + timedelta(hours=5))
    assert asked == ["status"]
    assert first["lifeboat_clock_skew_seconds", ""] == later["lifeboat_clock_skew_seconds", ""] == 70.5
    assert last(later, "status", "stack") == NOW.timestamp(), "when it was seen, not when it was written"
    assert later["lifeboat_check_passed", 'check="newest backup"'] == 1
    assert later["lifeboat_status_passed", ""] == 0, "nobody proved the backup"


def mounted(*protections: Any) -> StateInventory:
    return StateInventory(tuple(StateMount(f"m{n}", "volume", ("a:/b",), p, "why") for n, p in enumerate(protections)))


def by(seen_by: str, protection: str) -> tuple[str, str]:
    return "lifeboat_mounts", f'seen_by="{seen_by}",protection="{protection}"'


def test_mounts_in_no_backup_are_counted_as_status_and_the_newest_backup_saw_them(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came since the deployment is told as soon as a backup was taken, before anybody is asked."""
    on = {"config": {"enabled": True, "secrets": "elsewhere"}}
    publish(tmp_path, NOW - timedelta(hours=3))
    publish_config(tmp_path, NOW - timedelta(hours=3))
    assert by("backup", "unprotected") not in told(tmp_path, **on), "that one does not say"
    state = typed.plain(mounted("unprotected", "unprotected", "protected", "no state"))
    publish_config(tmp_path, NOW - timedelta(hours=2), state=state)
    found = told(tmp_path, **on)
    assert [found[by("backup", name)] for name in ("protected", "excluded", "unprotected", "unknown")] == [1, 0, 2, 0]
    assert by("status", "unprotected") not in found, "nobody asked yet"
    monkeypatch.setattr(mounts, "inventory", lambda run: replace(mounted("unprotected"), problems=("no engine",)))
    found = told(tmp_path, ask=True, **on)
    assert [found[by("status", name)] for name in ("unprotected", "unknown")] == [1, 1]
    assert found["lifeboat_check_passed", 'check="mounts"'] == 0
    exclude = {"mounts": {"exclude": [{"name": f"m{number}", "reason": "r"} for number in (0, 1)]}}
    found = told(tmp_path, again=True, **on, **exclude)
    assert found[by("backup", "unprotected")] == 0, "by the exclusions of today"


def test_status_and_metrics_read_the_catalog_once(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, NOW - timedelta(hours=2))
    read, real = [], points.backups
    monkeypatch.setattr(points, "backups", lambda *a: read.append(a) or real(*a))  # type: ignore[func-returns-value]
    told(tmp_path, ask=True)
    told(tmp_path)
    assert len(read) == 1


def test_where_asking_fails_nothing_is_claimed(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, NOW - timedelta(hours=2))
    assert ("lifeboat_status_passed", "") in told(tmp_path, ask=True)

    def fails(*_: Any, **__: Any) -> None:
        raise LifeboatError("ask", "the vault", "it is away")

    monkeypatch.setattr(status, "status", fails)
    for ask in (True, False):
        found = told(tmp_path, ask=ask)
        assert ("lifeboat_status_passed", "") not in found
        assert last(found, "status", "stack") is None
        assert found["lifeboat_collector_success", 'collector="status"'] == 0


def test_when_a_certificate_ends(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    vault = {"repository_bucket": "copies", "endpoint_url": "https://s3.example"}
    name = ("lifeboat_certificate_expiry_timestamp_seconds", 'endpoint="vault"')
    monkeypatch.setattr(frontend_site, "certificate_end", lambda url, *_: 1234 if "s3.example" in url else None)
    assert told(tmp_path, ask=True, vault=vault)[name] == 1234

    def ended(*_: Any) -> None:
        raise ssl.SSLCertVerificationError(1, "certificate has expired")

    monkeypatch.setattr(frontend_site, "certificate_end", ended)
    found = told(tmp_path, ask=True, vault=vault)
    assert (found.get(name), found["lifeboat_collector_success", 'collector="certificates"']) == (None, 0)


def test_names_of_other_buckets_are_no_labels(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [
        status.Check("bucket one: x", "PASS", kind="bucket", subject="one"),
        status.Check("bucket two: y", "FAIL", kind="bucket", subject="two"),
        status.Check("space", "PASS"),
    ]
    seen = status.Status("shop", NOW, tuple(checks), (), {name: [] for name in KINDS})
    monkeypatch.setattr(status, "status", lambda *_, **__: seen)
    found = told(tmp_path, ask=True)
    assert {labels: value for (name, labels), value in found.items() if name == "lifeboat_check_passed"} == {
        'check="a bucket"': 0, 'check="space"': 1,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "x"}', '{"at": "2026-11-24T12:00:00Z", "samples": [1]}'])
def test_a_record_of_what_was_asked_that_is_none(tmp_path: Path, text: str) -> None:
    path = make_config(tmp_path).state / metrics.ASKED
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert last(told(tmp_path), "status", "stack") == 0


# The file.


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (tmp_path / "locks").mkdir()
    (tmp_path / "textfiles").mkdir()
    monitored = {"monitoring": {"textfile_directory": str(tmp_path / "textfiles")}}
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path, **monitored)))
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    return directory


def run(etc: Path, *words: str) -> int:
    return cli.main([*words, "--config-directory", str(etc)])


def file(etc: Path) -> Path:
    return etc.parent / "textfiles" / "lifeboat_shop.prom"


def test_the_file_is_whole_and_readable_by_all(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(etc, "metrics") == 0
    assert capsys.readouterr().out == f"written to {file(etc)}\n"
    assert stat.S_IMODE(file(etc).stat().st_mode) == 0o644
    assert [path.name for path in file(etc).parent.iterdir()] == ["lifeboat_shop.prom"]
    assert run(etc, "metrics", "--stdout") == 0
    assert capsys.readouterr().out.startswith("# HELP lifeboat_build_info ")


def test_a_directory_that_is_missing(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file(etc).parent.rmdir()
    assert run(etc, "metrics") == 5
    assert "write the metrics" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, etc: Path) -> None:
    assert run(etc, "metrics") == 0
    before = file(etc).read_text()
    one = config.load("shop", etc)
    with pytest.raises(SpaceError):
        metrics.write(one, FullText("x" * 100))
    assert (file(etc).read_text(), len(list(file(etc).parent.iterdir()))) == (before, 1)


class FullText(str):
    """A text that no disk has room for."""

    def encode(self, *_: Any) -> bytes:
        raise OSError(28, "No space left on device")


def test_a_relative_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="textfile_directory"):
        make_config(tmp_path, monitoring={"textfile_directory": "textfiles"})


# After a run.


def test_a_run_renews_them_and_its_end_is_told(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(etc.parent, datetime.now(NOW.tzinfo).replace(microsecond=0) - timedelta(hours=1))
    assert run(etc, "prune") == 0
    found = read(file(etc).read_text())
    assert found["lifeboat_run_last_exit_code", 'run="prune"'] == 0
    ended = found["lifeboat_run_last_end_timestamp_seconds", 'run="prune"']
    assert found["lifeboat_run_last_success_timestamp_seconds", 'run="prune"'] == ended > time.time() - 60
    assert abs((last(found, "prune", "stack") or 0) - time.time()) < 60


def test_a_run_that_fails_keeps_the_time_of_the_last_success(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(etc, "prune") == 0
    good = read(file(etc).read_text())["lifeboat_run_last_success_timestamp_seconds", 'run="prune"']
    (etc.parent / "backup").rename(etc.parent / "away")
    assert run(etc, "prune") == 2
    found = read(file(etc).read_text())
    assert found["lifeboat_run_last_exit_code", 'run="prune"'] == 2
    assert found["lifeboat_run_last_success_timestamp_seconds", 'run="prune"'] == good


def test_a_run_that_looks_only_or_found_the_lock_held_does_not_count(etc: Path) -> None:
    assert run(etc, "prune", "--dry-run") == 0
    with lock.held("shop", "a test"):
        assert run(etc, "prune") == 4
    assert not file(etc).exists()


def test_a_run_that_was_killed_is_told_at_once_and_until_another_ends(etc: Path) -> None:
    """As the kernel kills for memory: nothing of the process runs any more."""

    def figures() -> tuple[float | None, float | None]:
        found = told(etc.parent)
        names = ("lifeboat_run_killed", "lifeboat_run_began_timestamp_seconds")
        killed, began = (found.get((name, 'run="prune"')) for name in names)
        return killed, began

    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        config_of = make_config(etc.parent)
        runs.begin(config_of, "prune", datetime.now(NOW.tzinfo))
        os.write(write_end, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(read_end, 1)
    killed, began = figures()
    assert killed == 0 and began and abs(began - time.time()) < 60, "it goes on"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert figures() == (1, 0)
    with lock.held("shop", "a test"):
        assert run(etc, "prune") == 4
    assert figures()[0] == 1, "one that did nothing makes up for nothing"
    assert run(etc, "prune") == 0
    assert figures() == (0, 0)
    os.close(read_end), os.close(write_end)


def test_how_far_a_backup_has_come_is_told_while_it_goes_on(
    etc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "_EVERY", 0.01)
    one, name = config.load("shop", etc), "backup_database"
    publish(etc.parent, datetime.now(NOW.tzinfo).replace(microsecond=0) - timedelta(hours=1))
    done = ("lifeboat_run_done_bytes", f'run="{name}"')

    def figure() -> float | None:
        return read(metrics.textfile(Opened(one), now=NOW)).get(done)

    def work() -> tuple[int, object, list[str]]:
        assert figure() == 0, "it has begun"
        elsewhere = [0]
        with pipeline.growing(lambda: elsewhere[0]):
            elsewhere[0] = 5000
            until(lambda: figure() == 5000)
        pipeline.run([pipeline.Command(["printf", "%1000s", "x"])], attempted="x", subject="x", sink=io.BytesIO())
        assert figure() == 5000, "what was written elsewhere is fetched afterwards: that is no progress yet"
        pipeline.count(5000)
        until(lambda: figure() == 6000)
        assert run(etc, "status", "--json") != 4
        (shown,) = json.loads(capsys.readouterr().out)["running"]
        assert (shown["run"], shown["bytes"]) == (name, 6000)
        run(etc, "status")
        assert re.search(rf"^running   {name}, 6.0 kB since \S+Z$", capsys.readouterr().out, re.MULTILINE)
        return 0, {}, []

    watched.reported(Opened(one), name, work, print)
    assert figure() == 0, "it has ended"
    run(etc, "status", "--json")
    assert json.loads(capsys.readouterr().out)["running"] == []


def test_a_failure_is_counted_also_when_a_good_run_followed(etc: Path) -> None:
    """Between two looks of Prometheus a run may fail and another end well."""

    def failures() -> float | None:
        return told(etc.parent).get(("lifeboat_run_failures_total", 'run="prune"'))

    assert failures() is None, "nothing ran yet"
    one = make_config(etc.parent)
    for code, counted in ((0, 0), (8, 1), (0, 1), (6, 2), (0, 2)):
        runs.remember(one, "prune", code, NOW, NOW)
        assert failures() == counted
    assert "# TYPE lifeboat_run_failures_total counter" in metrics.textfile(Opened(one), now=NOW)
    (one.state / "runs/prune.json").write_text(
        json.dumps({"ended_at": "2026-11-24T02:00:00Z", "seconds": 1.0, "exit_code": 0, "succeeded_at": None})
    )
    assert failures() == 0, "of a version that did not count"


@pytest.mark.parametrize(("status", "up"), [(0, 1), (1, 0), (2, 0), (127, None), (3, None)])
def test_whether_the_database_answers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, up: float | None
) -> None:
    """pg_isready: 1 where the server takes nobody, 2 where it is silent. Where it cannot be asked nothing is told."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/runuser").write_text(f"#!/bin/sh\nexit {status}\n")
    (tmp_path / "bin/runuser").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    found = told(tmp_path, runtime={"type": "host"})
    assert found.get(("lifeboat_database_up", "")) == up
    assert found["lifeboat_collector_success", 'collector="database"'] == (up is not None)


def test_a_database_that_does_not_run_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(run: Opened) -> None:
        raise NotFoundError("run in the service", "db", "it has exited")

    monkeypatch.setattr(metrics.server, "of", missing)
    assert told(tmp_path)["lifeboat_database_up", ""] == 0


def test_metrics_that_cannot_be_written_fail_no_run(etc: Path, caplog: pytest.LogCaptureFixture) -> None:
    file(etc).parent.rmdir()
    assert run(etc, "prune") == 0
    assert "the metrics are not renewed" in caplog.text


def test_without_a_directory_nothing_is_remembered(etc: Path) -> None:
    (etc / "shop.json").write_text(json.dumps(settings(etc.parent)))
    assert run(etc, "prune") == 0
    assert not (etc.parent / "state" / "runs").exists()


# By Prometheus itself, and how long it takes.


@pytest.mark.slow
def test_promtool_accepts_them(tmp_path: Path, asked: list[str]) -> None:
    program = debian.required("promtool")
    prove(tmp_path, publish(tmp_path, NOW - timedelta(hours=5)), at=NOW - timedelta(hours=1))
    text = metrics.textfile(Opened(make_config(tmp_path)), now=NOW, ask=True)
    bad = text.replace("# HELP lifeboat_backups ", "# OTHER ", 1)
    for said, good in ((text, True), (bad, False)):
        argv = [program, "check", "metrics"]
        checked = subprocess.run(argv, input=said.encode(), capture_output=True, timeout=60, check=False)
        assert (checked.returncode == 0) is good, checked.stderr.decode()


@pytest.mark.slow
def test_five_thousand_backups_take_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processor: how long it takes next to others is not a property of the code. Also the first time, when the
    newest are read; what is not in the others' directories is not read in that second."""
    first = publish(tmp_path, NOW - timedelta(hours=5000))
    folder = Path(store(tmp_path).location("database", first.id))
    for hours in range(1, 5000):
        folder.with_name(backup_id("database", NOW - timedelta(hours=5000 - hours))).mkdir()
    for hours in range(1, glances._AT_ONCE + 1):  # a whole manifest to read, although of another
        one = folder.with_name(backup_id("database", NOW - timedelta(hours=hours)))
        (one / "manifest.json").hardlink_to(folder / "manifest.json")
    began = time.process_time()
    found = told(tmp_path)
    took = time.process_time() - began
    assert found["lifeboat_collector_success", 'collector="history"'] == 0
    assert found["lifeboat_backup_last_error_status", 'component="database"'] == 1, "the newest were read"
    assert took <= 1, f"{took:.2f} s the first time"
    monkeypatch.setattr(glances, "_AT_ONCE", 10_000)
    assert told(tmp_path)["lifeboat_backups", 'component="database",state="good"'] == 1
    began = time.process_time()
    found = told(tmp_path)
    took = time.process_time() - began
    assert last(found, "backup", "database") == first.taken_at.timestamp()
    assert took <= 1, f"{took:.2f} s"
