# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command as an operator and cron use it: help, exit codes, JSON, errors, pipes; never a traceback."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import types
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, errors, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.version import VERSION
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.faces import nagios
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import schedule
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points, show
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.modules import agent
from builders import BUCKET, NOW, folder, make_config, make_manifest, prove, publish, publish_objects, settings, store

VERBS = [
    "backup",
    "verify",
    "prune",
    "list",
    "status",
    "notify",
    "adopt",
    "escrow",
    "checklist",
    "report",
    "review",
    "transaction",
    "recover",
    "quarantine",
    "keeper",
    "metrics",
    "explain",
    "ship",
    "wal",
    "changes",
    "mark",
    "when",
]


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's configuration of the stack `shop`; locks and log are this test's own."""
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path)))
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    return directory


def run(etc: Path, *words: str) -> int:
    return cli.main([*words, "--config-directory", str(etc)])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: lifeboat {verb}")
    assert "exit codes:" in shown
    for option in ("--stack", "--json"):
        assert option in shown


def test_the_verbs_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(cli._VERBS) == sorted(VERBS)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert not [verb for verb in VERBS if f"\n    {verb}" not in shown]
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"lifeboat {VERSION}\n"


def test_the_exit_codes_are_those_of_the_errors() -> None:
    listed = [line.split()[0] for line in cli.EXIT_CODES.splitlines()[1:]]
    assert listed == [str(code) for code in range(9)]
    used = {kind.exit_code for kind in [errors.LifeboatError, *errors.LifeboatError.__subclasses__()]}
    assert used | set(cli.CODES.values()) == set(range(9))


MISUSE = [
    [],
    ["restore"],
    ["backup", "volumes"],
    ["backup", "database", "--wait", "soon"],
    ["verify", "--level", "deep"],
    ["list", "--all"],
    ["prune", "x"],
]


@pytest.mark.parametrize("words", MISUSE, ids=" ".join)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: lifeboat" in capsys.readouterr().err


def test_list(tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(etc, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(etc, "list") == 0
    assert capsys.readouterr().out.split() == ["ID", "AGE", "SIZE", "DATABASES", "TABLES", "ROWS", "PROVEN"]
    proved = publish(tmp_path)
    prove(tmp_path, proved)
    bad = publish(tmp_path, NOW.replace(hour=13))
    (folder(tmp_path, bad) / "database.dump").unlink()
    assert run(etc, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(proved.id)
    assert lines[1].endswith("yes, 2026-11-24")
    assert "BROKEN: database.dump is missing" in lines[2]
    assert run(etc, "list", "--json", "--stack", "shop") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(backup["id"], backup["good"], backup["proven"]) for backup in found] == [
        (proved.id, True, True),
        (bad.id, False, False),
    ]


def test_status(tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(etc, "status") == 6
    shown = capsys.readouterr()
    assert "FAIL             newest backup: there is no good backup" in shown.out
    assert shown.err.endswith("status: FAIL  shop\n"), "cron mails what is said on standard error"
    one = publish(tmp_path, datetime.now(timezone.utc))
    assert run(etc, "status", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["stack"]) == ("COULD_NOT_VERIFY", "shop")
    prove(tmp_path, one, at=datetime.now(timezone.utc))
    assert run(etc, "status") == 0
    shown = capsys.readouterr()
    assert shown.out.endswith("PASS  shop\n")
    assert shown.err == ""


def test_status_for_nagios(tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its exit statuses: 0 OK, 2 CRITICAL, 3 UNKNOWN. What is not known is never OK."""

    def asked(*words: str) -> tuple[int, str]:
        code = run(etc, "status", "--nagios", *words)
        (line,) = capsys.readouterr().out.splitlines()
        return code, line

    code, line = asked()
    assert code == 2 and line.startswith("LIFEBOAT CRITICAL - shop: newest backup: there is no good backup"), line
    one = publish(tmp_path, datetime.now(timezone.utc) - timedelta(hours=2))
    code, line = asked()
    assert code == 3 and line.startswith("LIFEBOAT UNKNOWN - shop: proof: "), line
    prove(tmp_path, one, at=datetime.now(timezone.utc))
    code, line = asked()
    said, _bar, figures = line.partition(" | ")
    assert code == 0 and re.fullmatch(r"LIFEBOAT OK - shop: \d+ checks passed", said), line
    assert re.search(r"'newest_backup'=7\d\d\ds;;93600(?: |$)", figures), figures
    assert all(re.fullmatch(r"'\w+'=\d+(s|%);;[\d.]*", figure) for figure in figures.split()), figures
    assert run(etc, "status") == 0 and "PASS  shop" in capsys.readouterr().out
    (tmp_path / "backup").rename(tmp_path / "away")
    code, line = asked()
    assert code == 3 and line.startswith("LIFEBOAT UNKNOWN - shop: Could not open the repository"), line


def test_nagios_gets_one_line_without_bars() -> None:
    wrong = [Check(f"check {n}", FAIL if n else COULD_NOT_VERIFY, "a | b\nc" * 100) for n in range(9)]
    code, line = nagios.status("shop", wrong)
    assert code == 2 and "\n" not in line and "|" not in line and len(line) < 1500
    assert line.endswith("; and 4 more") and line.index("check 1") > 0 and "check 0" not in line
    assert nagios.status("shop", [])[0] == 3, "nothing was checked"


class Stack:
    def images(self) -> dict[str, str]:
        return {"db": "postgres@sha256:1"}


def test_list_shows_points_then_backups(
    tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Stack())
    database = publish(tmp_path)
    objects = publish_objects(tmp_path, of=database)
    point, _ = points.seal(Opened(make_config(tmp_path, **BUCKET)), now=NOW, log=lambda _: None)
    assert run(etc, "list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(backup["component"], backup["id"], backup["good"]) for backup in found] == [
        ("point", point.id, True),
        ("objects", objects.id, True),
        ("database", database.id, True),
    ]
    assert found[0]["components"] == {"database": database.id, "objects": objects.id, "config": None}
    assert found[0]["images"] == {"db": "postgres@sha256:1"}
    assert run(etc, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "RECOVERY POINT"
    assert lines[1].split()[0] == point.id
    assert "snapshot" in lines[1]
    assert "database, objects" in lines[1]
    assert lines[2] == ""
    assert lines[3].split() == ["ID", "AGE", "SIZE", "DATABASES", "TABLES", "ROWS", "OBJECTS", "PROVEN"]
    assert [line.split()[0] for line in lines[4:]] == [objects.id, database.id]
    for component, identity in (("point", point.id), ("objects", objects.id), ("database", database.id)):
        assert run(etc, "list", "--json", "--component", component) == 0
        assert [backup["id"] for backup in json.loads(capsys.readouterr().out)] == [identity]
    assert run(etc, "list", "--component", "point") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


VERDICTS = [(checks.PASS, 0), (checks.COULD_NOT_VERIFY, 3), (checks.FAIL, 6)]


@pytest.mark.parametrize(("verdict", "code"), VERDICTS)
def test_verify(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verdict: str, code: int
) -> None:
    asked: list[Any] = []

    def fake(config: Any, identity: str, level: str, *, sample: Optional[int], log: Any, wait: float) -> Result:
        asked.append((identity, level, sample, wait))
        return Result("x", level, (checks.Check("tables", verdict, "why"),), NOW, NOW)

    monkeypatch.setattr(operations_verify, "verify", fake)
    assert run(etc, "verify") == code
    assert capsys.readouterr().out.splitlines() == [f"{verdict:<16} tables: why", f"{verdict}  x  restore"]
    assert run(etc, "verify", "some-id", "--level", "checksum", "--sample", "0", "--wait", "9", "--json") == code
    assert json.loads(capsys.readouterr().out)["verdict"] == verdict
    assert asked == [("latest", "restore", None, 0), ("some-id", "checksum", 0, 9)]


NAMES = [
    ("latest", 3, "the repository holds no backup"),
    ("nonsense", 2, "that is not a backup id"),
    ("../../etc/passwd", 2, "that is not a backup id"),
    ("db_backup_20200101_000000", 5, "there is no such backup"),
]


@pytest.mark.parametrize(("name", "code", "words"), NAMES)
def test_verify_of_what_is_not_there(
    etc: Path, capsys: pytest.CaptureFixture[str], name: str, code: int, words: str
) -> None:
    assert run(etc, "verify", name, "--level", "checksum") == code
    assert words in capsys.readouterr().err


def test_verify_of_what_lost_its_manifest_is_a_failure(
    tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = publish(tmp_path)
    (folder(tmp_path, one) / "manifest.json").unlink()
    assert run(etc, "verify", one.id, "--level", "checksum") == 6
    assert "FAIL" in capsys.readouterr().out


def test_backup(etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "take", lambda config, log, **_: make_manifest())
    assert run(etc, "backup", "database", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["id"], said["database"]) == (make_manifest().id, "shop")
    assert "prune" not in said
    assert run(etc, "backup", "database") == 0
    assert capsys.readouterr().out == "db_backup_20261124_120000  729 B  1.5 s  2 tables, 500 rows\n"


def test_prune_runs_only_behind_a_good_backup(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned: list[bool] = []

    def fake(config: Any, *, now: Any, dry_run: bool, log: Any) -> dict[str, Any]:
        pruned.append(dry_run)
        return {
            "keep": {},
            "delete": ["old"],
            "unknown": {},
            "swept": [],
            "hidden": {},
            "locked": ["x: locked"],
            "versions": {"deleted": 0, "bytes": 0, "waits": ""},
            "failed": [],
        }

    def fail(config: Any, log: Any, **_: Any) -> Any:
        raise errors.SpaceError("write the backup", "/backup", "No space left on device", "Free space.")

    monkeypatch.setattr(operations_prune, "prune", fake)
    monkeypatch.setattr(dump, "take", fail)
    assert run(etc, "backup", "database", "--prune") == 7
    assert pruned == []
    monkeypatch.setattr(dump, "take", lambda config, log, **_: make_manifest())
    assert run(etc, "backup", "database", "--prune") == 0
    assert capsys.readouterr().out.endswith("\npruned 1\nkept by the store  x: locked\n")
    assert pruned == [False]


def test_a_good_backup_stays_good_when_pruning_has_to_wait(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> Any:
        raise errors.LockedError("take the lock", "x", "a verification holds it")

    monkeypatch.setattr(dump, "take", lambda config, log, **_: make_manifest())
    monkeypatch.setattr(operations_prune, "prune", locked)
    assert run(etc, "backup", "database", "--prune") == 0
    assert "not pruned: a verification holds it" in capsys.readouterr().out


TAKEN = copies.Outcome("s3://copies/shop", ("db_backup_20261124_120000",), {"db_backup_20261124_120000": ["s3"]})


def test_what_fails_in_the_vault_has_the_last_word(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is good and shown as such; cron mails the copy that failed, with an exit code of its own."""
    taken = operations_backup.Taken((make_manifest(),), copied=TAKEN, failed=("connection refused",))
    monkeypatch.setattr(operations_backup, "take", lambda *_, **__: taken)
    assert run(etc, "backup", "database") == 8
    shown = capsys.readouterr()
    assert shown.out.startswith("db_backup_20261124_120000  729 B")
    assert "connection refused" in shown.err
    assert "the backups in the repository are good" in shown.err
    assert run(etc, "backup", "database", "--json") == 8
    said = json.loads(capsys.readouterr().out)
    assert (said["id"], said["copies"]["failed"]) == ("db_backup_20261124_120000", ["connection refused"])
    monkeypatch.setattr(
        operations_prune,
        "prune",
        lambda *_, **__: {
            "keep": {},
            "delete": [],
            "unknown": {},
            "swept": [],
            "hidden": {},
            "locked": [],
            "versions": {"deleted": 0, "bytes": 0, "waits": ""},
            "failed": ["access denied"],
        },
    )
    assert run(etc, "prune") == 8
    assert "access denied" in capsys.readouterr().err


def test_a_database_that_is_not_in_the_backup_is_no_success(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [
        {"name": "wiki", "folder": "databases/001", "taken_at": "2026-11-24T12:00:04Z", "size": 9,
         "fingerprint": {"tables": 12, "rows": 1500}},
    ]  # fmt: skip
    whole = make_manifest(details={"others": others})
    lacking = make_manifest(details={"others": others, "missing": {"o\nld": "it takes no connections"}})
    monkeypatch.setattr(operations_backup, "take", lambda *_, **__: operations_backup.Taken((whole,)))
    assert run(etc, "backup", "database") == 0
    assert "2 databases, 14 tables, 2000 rows" in capsys.readouterr().out
    monkeypatch.setattr(operations_backup, "take", lambda *_, **__: operations_backup.Taken((lacking,)))
    assert run(etc, "backup", "database") == 6
    told = capsys.readouterr().err
    assert "(db_backup_20261124_120000): the database o\\nld is not in it: it takes no connections" in told
    assert "ALLOW_CONNECTIONS true" in told and "lifeboat_database.exclude" in told


def test_objects_that_no_backup_holds_are_no_success(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    details = {"objects": 3, "bytes": 30, "consistency": "snapshot", "copied": 1, "removed": 0, "unheld_count": 2}
    one = make_manifest(component="objects", id="objects_backup_20261124_120000", details=details)
    asked: dict[str, Any] = {}

    def take(config: Any, component: str, **more: Any) -> operations_backup.Taken:
        asked.update(more, component=component)
        return operations_backup.Taken((one,))

    monkeypatch.setattr(operations_backup, "take", take)
    assert run(etc, "backup", "objects", "--seal", "--override", "784") == 6
    assert "WARNING: 2 objects could not be held by the vault" in capsys.readouterr().err
    assert (asked["component"], asked["seal"], asked["override"], asked["prune_after"]) == (
        "objects",
        True,
        784,
        False,
    )
    with pytest.raises(SystemExit) as refused:
        run(etc, "backup", "objects", "--override", "-1")
    assert (refused.value.code, asked["override"]) == (2, 784)
    assert "argument --override: '-1' is not a number of objects" in capsys.readouterr().err


def test_prune(tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "shop.json").write_text(
        json.dumps(
            settings(tmp_path, retention={"daily_days": 0, "weekly_months": 0, "monthly_months": 0, "minimum": 1})
        )
    )
    old, new = publish(tmp_path, NOW.replace(day=1)), publish(tmp_path)
    assert run(etc, "prune", "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"keep    {new.id}  ")
    assert shown[1:] == [f"would delete  {old.id}", "1 kept, 1 would delete"]
    assert store(tmp_path).published("database") == [old.id, new.id]
    assert run(etc, "prune", "--json") == 0
    assert json.loads(capsys.readouterr().out)["delete"] == [old.id]
    assert store(tmp_path).published("database") == [new.id]


ERRORS = [errors.LifeboatError, *errors.LifeboatError.__subclasses__()]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_as_json_and_on_stderr(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[errors.LifeboatError]
) -> None:
    def fail(config: Any, log: Any, **_: Any) -> Any:
        raise error("dump the database", "shop", "it broke", "Mend it.")

    monkeypatch.setattr(dump, "take", fail)
    assert run(etc, "backup", "database") == error.exit_code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "", "lifeboat: backup failed: Could not dump the database (shop): it broke. Mend it.\n"
    )  # fmt: skip
    assert run(etc, "backup", "database", "--json") == error.exit_code
    assert json.loads(capsys.readouterr().out) == {
        "error": {"attempted": "dump the database", "subject": "shop", "cause": "it broke", "remedy": "Mend it."}
    }


def test_the_lock_is_held_during_a_backup(etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock.held("shop", "a test"):
        assert run(etc, "backup", "database") == 4
        assert run(etc, "prune") == 4
    assert "(a test)" in capsys.readouterr().err


def test_ctrl_c(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(config: Any, log: Any, **_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(dump, "take", interrupted)
    assert run(etc, "backup", "database") == 130


CONFIGURATIONS = ["", "{", "[]", "5", '{"stack": "Shop"}', '{"stack": "shop"}', '{"stack": "shop", "x": 1}']


@pytest.mark.parametrize("content", CONFIGURATIONS)
def test_a_broken_configuration(etc: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (etc / "shop.json").write_text(content)
    assert run(etc, "list") == 2
    assert "Could not read the configuration" in capsys.readouterr().err


def test_nothing_deployed_and_several_stacks(tmp_path: Path, etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none", "list") == 2
    assert "Run lifeboat.dr.deploy" in capsys.readouterr().err
    (etc / "blog.json").write_text("{}")
    assert run(etc, "list") == 2
    assert "Name one with --stack" in capsys.readouterr().err
    assert run(etc, "list", "--stack", "shop") == 0
    assert run(etc, "list", "--stack", "gone") == 5


def test_it_logs_to_a_private_file_with_stack_and_time(
    tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").mkdir()

    def take(config: Any, log: Any, **_: Any) -> Any:
        log("dumping 日本")
        return make_manifest()

    monkeypatch.setattr(dump, "take", take)
    assert run(etc, "backup", "database") == 0
    (path,) = (tmp_path / "log").iterdir()
    assert path.name == "shop.log"
    assert path.stat().st_mode & 0o077 == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "DEBUG backup begins", "INFO dumping 日本", "DEBUG backup ends",
    ]  # fmt: skip
    assert all(f" shop[{os.getpid()}] " in line for line in lines)


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "JSON"])
@pytest.mark.parametrize("ends", ["well", "with an error", "with a bug"])
def test_no_secret_leaves(
    tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ends: str,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    """One that the configuration has, and one that another program told: to the terminal, to a reader, to the log."""
    (tmp_path / "log").mkdir()
    known, told = "canary correct horse", '{"password": "canary-of-others"}'
    (etc / "shop.secrets.json").write_text(json.dumps({"database_password": known}))

    def take(run: Any, *_: Any, log: Any, **more: Any) -> Any:
        log(f"it said {known} and {told}")
        if ends == "with an error":
            raise errors.LifeboatError("dump the database", f"shop {known}", f"{known}: {told}", "Mend it.")
        if ends == "with a bug":
            raise ZeroDivisionError(f"{known} {told}")
        return types.SimpleNamespace(
            unheld=(), missing=(), refused=None, pruned=None, failed=(),
            as_dict=lambda: {"said": [f"{known} {told}"]}, lines=lambda: [f"{known} {told}"],
        )  # fmt: skip

    monkeypatch.setattr(operations_backup, "take", take)
    with contextlib.suppress(ZeroDivisionError):
        run(etc, "backup", "database", *words)
    shown, log = capsys.readouterr(), (tmp_path / "log/shop.log").read_text()
    for text in (shown.out, shown.err, log):
        assert "canary" not in text
    assert "it said ********" in log
    if ends == "well":
        assert "********" in shown.out


def test_what_nobody_foresaw_is_in_the_log_by_which_runs_are_judged(
    tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").mkdir()

    def take(config: Any, log: Any, **_: Any) -> Any:
        log("db_backup_20261124_020000: dumping")
        raise ZeroDivisionError("a division\nwith password=s3cret")

    monkeypatch.setattr(dump, "take", take)
    monkeypatch.setattr(schedule, "LOGS", tmp_path / "log")
    with pytest.raises(ZeroDivisionError):
        run(etc, "backup", "database")
    (found,) = schedule.runs(make_config(tmp_path))
    assert found.problem.startswith(
        "backup failed: ZeroDivisionError, which Lifeboat does not foresee: a division with"
    )
    assert "s3cret" not in capsys.readouterr().err
    last = schedule._runs(make_config(tmp_path), datetime.now(timezone.utc))
    assert (last.result, "1 failed" in last.detail) == (checks.FAIL, True)


AGES = [(None, "-"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")]


@pytest.mark.parametrize(("seconds", "shown"), AGES)
def test_age(seconds: Any, shown: str) -> None:
    assert show.age(seconds) == shown


# --- as a process ---


built = functools.cache(agent.build)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The zipapp, and a repository."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shop.json").write_text(json.dumps(settings(tmp_path)))
    path = tmp_path / "lifeboat"
    path.write_bytes(built(sys.executable))
    return [sys.executable, str(path), "list", "--config-directory", str(tmp_path / "etc")]


@pytest.mark.slow
@pytest.mark.parametrize("backups", [0, 1, 100], ids=["a line", "two lines", "more than a buffer holds"])
@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "JSON"])
def test_a_reader_that_goes_away_is_no_error(
    tmp_path: Path, command: list[str], words: list[str], backups: int
) -> None:
    for number in range(backups):
        publish(tmp_path, NOW.replace(hour=number // 60, minute=number % 60), details={"padding": "x" * 1000})
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*command, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_terminal_cannot_show(tmp_path: Path, command: list[str], encoding: str) -> None:
    publish(tmp_path, details={"database": "日本"})
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode(encoding))[0]["details"]["database"] == "日本"
    missing = [*command[:-1], str(tmp_path / "日本")]
    done = subprocess.run(missing, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
