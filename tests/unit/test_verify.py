# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification as far as it goes without a server, and the throw-away container, with docker's answers in tables."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable

import builders
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, filesystem, lock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    LockedError,
    NotFoundError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import Initialised
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import proof as database_proof
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Proof, Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import local as repository_local
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import show
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.checksums import measure
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Content, DatabaseDump
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest, backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import LEVELS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, Runner, entries, flip, folder, make_config, make_manifest, publish, store

FACTS = {**builders.FACTS, "roles": {"postgres": "1", "app": "2"}, "tables": {}}
ROLES = b"CREATE ROLE postgres;\nCREATE ROLE app;\nCOMMENT ON ROLE app IS 'a\nCREATE ROLE x;\n';\n"
END = b"\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n\n"


@pytest.fixture(autouse=True)
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))


def make(
    tmp_path: Path,
    taken_at: datetime = NOW,
    *,
    form: str = "custom",
    files: dict[str, bytes] | None = None,
    **details: Any,
) -> Manifest:
    """A backup of real files, with a dump of that form."""
    name = {
        "custom": "database.dump",
        "directory": "database.dump/toc.dat",
        "plain": f"{backup_id('database', taken_at)}.sql.gz",
    }[form]
    content = {
        name: gzip.compress(b"CREATE TABLE t ();\n" * 1000 + END) if form == "plain" else b"PGDMP",
        "globals.sql.gz": gzip.compress(ROLES),
        "fingerprint.json": json.dumps(FACTS).encode(),
        **(files or {}),
    }
    (tmp_path / "backup").mkdir(exist_ok=True)
    with store(tmp_path).stage("database", backup_id("database", taken_at)) as staging:
        parts = []
        for part, data in content.items():
            (staging.path / part).parent.mkdir(parents=True, exist_ok=True)
            (staging.path / part).write_bytes(data)
            parts.append(measure(staging.path / part, part))
        one = make_manifest(taken_at, artefacts=tuple(parts), details={"format": form, **details})
        staging.publish(one.to_bytes())
    return one


def run(tmp_path: Path, level: str = "checksum", identity: str = "latest", **options: Any) -> Result:
    return operations_verify.verify(Opened(make_config(tmp_path)), identity, level, log=lambda _: None, **options)


Damage = Callable[[Path], Any]
CORRUPTIONS: list[tuple[str, Damage, str]] = [
    ("one bit", lambda path: flip(path / "database.dump"), "database.dump has another SHA-256"),
    ("one byte less", lambda path: (path / "database.dump").write_bytes(b"PGDM"), "has 4 bytes instead of 5"),
    ("empty", lambda path: (path / "database.dump").write_bytes(b""), "has 0 bytes instead of 5"),
    ("gone", lambda path: (path / "database.dump").unlink(), "database.dump is missing"),
    ("a link to the like", lambda path: relink(path / "database.dump"), "database.dump is missing"),
    (
        "a directory in its place",
        lambda path: ((path / "database.dump").unlink(), (path / "database.dump").mkdir()),
        "is missing",
    ),
    ("a file more", lambda path: (path / "x").touch(), "x does not belong to the backup"),
    ("globals", lambda path: flip(path / "globals.sql.gz"), "globals.sql.gz has another SHA-256"),
    ("fingerprint", lambda path: flip(path / "fingerprint.json"), "fingerprint.json has another SHA-256"),
    ("the manifest", lambda path: flip(path / "manifest.json"), ""),
    ("no manifest", lambda path: (path / "manifest.json").unlink(), "there is no such backup"),
]


def relink(path: Path) -> None:
    copy = path.parents[3] / "copy"
    shutil.copy(path, copy)
    path.unlink()
    path.symlink_to(copy)


@pytest.mark.parametrize(("damage", "words"), [case[1:] for case in CORRUPTIONS], ids=[case[0] for case in CORRUPTIONS])
def test_checksums_find_every_corruption(tmp_path: Path, damage: Damage, words: str) -> None:
    one = make(tmp_path)
    assert run(tmp_path).verdict == PASS
    damage(folder(tmp_path, one))
    result = run(tmp_path, identity=one.id)
    assert result.verdict == FAIL
    assert words in result.checks[-1].detail


def test_the_newest_is_verified_whatever_its_state(tmp_path: Path) -> None:
    """A verification that takes yesterday's file says OK for a today that is broken."""
    make(tmp_path, NOW - timedelta(days=1))
    newest = make(tmp_path)
    flip(folder(tmp_path, newest) / "database.dump")
    result = run(tmp_path)
    assert (result.id, result.verdict) == (newest.id, FAIL)
    assert not entries(tmp_path)[1].good
    assert entries(tmp_path)[1].problem.startswith("verification at level checksum failed (checksums: database.dump")


def test_another_stacks_newer_backup_is_not_the_latest(tmp_path: Path) -> None:
    ours = make(tmp_path)
    publish(tmp_path, NOW + timedelta(hours=1), stack="blog")
    assert run(tmp_path).id == ours.id


def test_what_was_never_backed_up_is_named_and_not_passed(tmp_path: Path) -> None:
    ours = make(tmp_path)
    wide = Opened(make_config(tmp_path, **{**BUCKET, "config": {}}))
    found = operations_verify.verify(wide, "latest", "checksum", log=lambda _: None)
    assert (found.id, found.verdict) == (ours.id, COULD_NOT_VERIFY)
    assert [(check.name, check.result) for check in found.checks] == [
        ("objects", COULD_NOT_VERIFY), ("config", COULD_NOT_VERIFY),
        ("database: manifest", PASS), ("database: checksums", PASS),
    ]  # fmt: skip
    assert found.checks[1].detail == "it was never backed up; run: lifeboat backup config"
    assert entries(tmp_path)[0].proof["checksum"].verdict == PASS, "what is there is proved all the same"
    named = operations_verify.verify(wide, ours.id, "checksum", log=lambda _: None)
    assert named.verdict == PASS, "nobody asked for the others"


def test_nothing_to_verify_and_wrong_words(tmp_path: Path) -> None:
    with pytest.raises(UnverifiedError, match="the repository holds no backup"):
        run(tmp_path)
    with pytest.raises(UsageError, match=r"unknown level 'deep'. One of: checksum, archive, restore"):
        run(tmp_path, "deep")
    with pytest.raises(NotFoundError):
        run(tmp_path, identity="db_backup_20200101_000000")


def test_a_record_is_left_unless_told_not_to(tmp_path: Path) -> None:
    make(tmp_path)
    run(tmp_path, record=False)
    assert entries(tmp_path)[0].proof == {}
    result = run(tmp_path)
    proof = entries(tmp_path)[0].proof["checksum"]
    assert proof.record == json.loads(json.dumps(result.as_dict()))
    assert proof.verdict == PASS


def verdicts(tmp_path: Path, level: str) -> list[object]:
    return [said["verdict"] for said in entries(tmp_path)[0].proof[level].history]


def test_a_failure_is_revised_by_a_new_check_and_stays_on_record(tmp_path: Path) -> None:
    one = make(tmp_path)
    run(tmp_path)
    flip(folder(tmp_path, one) / "database.dump")
    run(tmp_path, identity=one.id)
    assert verdicts(tmp_path, "checksum") == [PASS, FAIL]
    assert entries(tmp_path)[0].problem == (
        "verification at level checksum failed (checksums: database.dump has another SHA-256 than when it was written)"
    )
    flip(folder(tmp_path, one) / "database.dump")
    assert run(tmp_path, identity=one.id).verdict == PASS
    assert entries(tmp_path)[0].good
    assert verdicts(tmp_path, "checksum") == [PASS, FAIL, PASS]
    failed = entries(tmp_path)[0].proof["checksum"].history[1]
    assert "another SHA-256" in json.dumps(failed["checks"])


def test_a_pass_revises_the_failures_of_the_levels_that_it_includes(
    tmp_path: Path, container: list[str], runner: Runner
) -> None:
    runner.expect("pg_restore")
    one = make(tmp_path)
    flip(folder(tmp_path, one) / "database.dump")
    assert run(tmp_path).verdict == FAIL
    flip(folder(tmp_path, one) / "database.dump")
    assert run(tmp_path, "archive").verdict == PASS
    (entry,) = entries(tmp_path)
    assert (entry.good, list(entry.proof)) == (True, ["archive"])
    assert verdicts(tmp_path, "archive") == [FAIL, PASS]
    flip(folder(tmp_path, one) / "database.dump")
    run(tmp_path)
    assert not entries(tmp_path)[0].good, "a new failure of a lower level counts beside the older pass"


def test_a_pass_does_not_revise_the_failure_of_a_higher_level(
    tmp_path: Path, container: list[str], runner: Runner
) -> None:
    make(tmp_path)
    runner.expect("pg_restore", (1, "", "broken"))
    runner.expect("box true$")
    runner.expect("--version$", "postgres (PostgreSQL) 17.12\n")
    assert run(tmp_path, "archive").verdict == FAIL
    assert run(tmp_path).verdict == PASS
    assert entries(tmp_path)[0].problem == "verification at level archive failed (archive: broken)"


@pytest.mark.parametrize("verdict", [PASS, FAIL])
def test_what_could_not_be_verified_replaces_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    one = make(tmp_path)
    if verdict == FAIL:
        flip(folder(tmp_path, one) / "database.dump")
    assert run(tmp_path, identity=one.id).verdict == verdict
    record = (folder(tmp_path, one) / "verification.json").read_bytes()
    monkeypatch.setattr(operations_verify, "checksums", full)
    assert run(tmp_path, identity=one.id).verdict == COULD_NOT_VERIFY
    assert (folder(tmp_path, one) / "verification.json").read_bytes() == record


def test_a_record_keeps_so_many_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations_verify, "HISTORY", 3)
    make(tmp_path)
    for _ in range(6):
        run(tmp_path)
    assert verdicts(tmp_path, "checksum") == [PASS] * 4


@pytest.mark.parametrize("before", ["x", {}, None, ["x", 1]])
def test_a_history_that_is_none_is_passed_over(tmp_path: Path, before: object) -> None:
    one = make(tmp_path)
    run(tmp_path)
    path = folder(tmp_path, one) / "verification.json"
    record = json.loads(path.read_text())
    record["levels"]["checksum"].update(before=before, checks=before)
    path.write_text(json.dumps(record))
    run(tmp_path)
    assert verdicts(tmp_path, "checksum") == [PASS, PASS]


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A throw-away container that is there, and the images that were asked for."""
    asked: list[str] = []

    @contextlib.contextmanager
    def there(image: str, stack: str, artefacts: Path, *, timeout: float) -> Iterator[str]:
        asked.append(image)
        yield "box"

    monkeypatch.setattr(scratch, "container", there)
    monkeypatch.setattr(scratch, "sweep", lambda stack: asked.append("swept"))
    return asked


ARCHIVES: list[tuple[str, tuple[int, str, str], str, str]] = [
    ("read to its end", (0, "", ""), PASS, "pg_restore reads every byte"),
    ("broken", (1, "", "pg_restore: error: could not read from input file: end of file\n"), FAIL, "end of file"),
    ("broken, silently", (1, "", ""), FAIL, "pg_restore ended with 1"),
    ("of no version", (1, "", "pg_restore: error: unsupported version (0.0) in file header\n"), FAIL, "version (0.0)"),
    ("newer", (1, "", "pg_restore: error: unsupported version (1.17) in file header"), COULD_NOT_VERIFY, "(1.17)"),
    ("no pg_restore", (127, "", "exec: pg_restore: not found"), COULD_NOT_VERIFY, "not found"),
    ("it cannot be run", (126, "", ""), COULD_NOT_VERIFY, "pg_restore ended with 126"),
    ("no end", (124, "", "no answer after 9 s"), COULD_NOT_VERIFY, "no answer after 9 s"),
    ("killed for its memory", (137, "", ""), COULD_NOT_VERIFY, "pg_restore ended with 137"),
    ("no engine", (125, "", "Cannot connect to the Docker daemon"), COULD_NOT_VERIFY, "Cannot connect"),
]


@pytest.mark.parametrize(
    ("answer", "result", "words"), [case[1:] for case in ARCHIVES], ids=[case[0] for case in ARCHIVES]
)
def test_archive(
    tmp_path: Path, container: list[str], runner: Runner, answer: tuple[int, str, str], result: str, words: str
) -> None:
    make(tmp_path)
    runner.expect("pg_restore --file=/dev/null /backup/database.dump$", answer)
    runner.expect("box true$")
    runner.expect("--version$", "postgres (PostgreSQL) 17.12\n")
    found = run(tmp_path, "archive")
    assert (found.verdict, found.checks[-1].name, found.checks[-1].result) == (result, "archive", result)
    assert words in found.checks[-1].detail
    assert container == ["swept", "postgres:17"]


@pytest.mark.parametrize(
    ("alive", "version", "words"),
    [
        ((1, "", "Error response from daemon: container box is not running"), "", "box is not running"),
        ((0, "", ""), "postgres (PostgreSQL) 16.4\n", "it is of PostgreSQL 17, the image has 16"),
    ],
    ids=["the container has ended", "the image is older"],
)
def test_an_archive_is_not_broken_where_its_reader_is(
    tmp_path: Path, container: list[str], runner: Runner, alive: tuple[int, str, str], version: str, words: str
) -> None:
    """Both end with 1, as pg_restore does for a broken archive."""
    make(tmp_path)
    runner.expect("pg_restore", (1, "", "pg_restore: error: unsupported version (1.16) in file header"))
    runner.expect("box true$", alive)
    runner.expect("--version$", version)
    found = run(tmp_path, "archive")
    assert found.verdict == COULD_NOT_VERIFY
    assert words in found.checks[-1].detail
    assert entries(tmp_path)[0].good


def full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp")


def unreadable(*_: object, **__: object) -> Any:
    with filesystem.explained("read", "manifest.json"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def no_memory(*_: object, **__: object) -> Any:
    raise MemoryError


OURS: list[tuple[str, object, str, Callable[..., Any], str]] = [
    ("a full disk", repository_local.LocalRepository, "materialise", full, "No space left"),
    ("no memory", operations_verify, "checksums", no_memory, "MemoryError"),
    ("a manifest that cannot be read", repository_local.LocalRepository, "_open", unreadable, "Input/output error"),
    ("an artefact that cannot be read", operations_verify, "checksums", unreadable, "Input/output error"),
]


@pytest.mark.parametrize(
    ("where", "name", "broken", "words"), [case[1:] for case in OURS], ids=[case[0] for case in OURS]
)
def test_what_this_machine_lacks_is_no_fault_of_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, broken: Callable[..., Any], words: str
) -> None:
    one = make(tmp_path)
    with monkeypatch.context() as machine:
        machine.setattr(where, name, broken)
        found = run(tmp_path, identity=one.id)
    assert found.verdict == COULD_NOT_VERIFY
    assert words in found.checks[-1].detail
    assert entries(tmp_path)[0].good
    assert run(tmp_path).verdict == PASS


def globals_with(text: bytes) -> dict[str, bytes]:
    return {"globals.sql.gz": gzip.compress(text)}


# Files whose checksums are right and whose content is not: written so, not damaged later.
CONTENTS: list[tuple[str, str, dict[str, bytes], str, str]] = [
    ("a role less", "custom", globals_with(b"CREATE ROLE postgres;\n"), "globals", "1 roles, the fingerprint has 2"),
    (
        "globals that are no gzip",
        "custom",
        {"globals.sql.gz": b"plain"},
        "globals and fingerprint",
        "Not a gzipped file",
    ),
    ("globals cut", "custom", {"globals.sql.gz": gzip.compress(ROLES)[:-9]}, "globals and fingerprint", "ended before"),
    ("a fingerprint that is no JSON", "custom", {"fingerprint.json": b"{"}, "globals and fingerprint", "Expecting"),
    (
        "a plain dump cut",
        "plain",
        {"db_backup_20261124_120000.sql.gz": gzip.compress(b"CREATE TABLE t ();")},
        "archive",
        "it was cut",
    ),
    (
        "a plain dump's gzip cut",
        "plain",
        {"db_backup_20261124_120000.sql.gz": gzip.compress(b"x" * 9999 + END)[:-5]},
        "archive",
        "ended before",
    ),
    (
        "a plain dump that is no gzip",
        "plain",
        {"db_backup_20261124_120000.sql.gz": END},
        "archive",
        "Not a gzipped file",
    ),
    ("an empty plain dump", "plain", {"db_backup_20261124_120000.sql.gz": gzip.compress(b"")}, "archive", "it was cut"),
]


@pytest.mark.parametrize(
    ("form", "files", "name", "words"), [case[1:] for case in CONTENTS], ids=[case[0] for case in CONTENTS]
)
def test_contents(
    tmp_path: Path, container: list[str], runner: Runner, form: str, files: dict[str, bytes], name: str, words: str
) -> None:
    runner.expect("pg_restore")
    make(tmp_path, NOW - timedelta(days=1), form=form)
    assert run(tmp_path, "archive").verdict == PASS
    make(tmp_path, form=form, files=files)
    assert run(tmp_path).verdict == PASS, "its checksums are right"
    found = run(tmp_path, "archive")
    assert (found.verdict, found.checks[-1].name) == (FAIL, name)
    assert words in found.checks[-1].detail


def test_a_dump_without_passwords_says_so(tmp_path: Path, container: list[str], runner: Runner) -> None:
    runner.expect("pg_restore")
    make(tmp_path, role_passwords=False)
    found = run(tmp_path, "archive")
    assert next(check.detail for check in found.checks if check.name == "globals") == "2 roles, without passwords"


def test_the_image_is_the_configured_one_else_the_backups(tmp_path: Path, container: list[str], runner: Runner) -> None:
    runner.expect("pg_restore")
    make(tmp_path)
    operations_verify.verify(
        Opened(make_config(tmp_path, database={"verify_image": "mine:17"})), "latest", "archive", log=lambda _: None
    )
    assert container == ["swept", "mine:17"]
    make(tmp_path, NOW + timedelta(hours=1), image="")
    found = run(tmp_path, "archive")
    assert found.verdict == COULD_NOT_VERIFY
    assert "no image is known to verify with" in found.checks[-1].detail


def test_a_level_is_not_entered_when_the_one_before_failed(
    tmp_path: Path, container: list[str], runner: Runner
) -> None:
    one = make(tmp_path)
    flip(folder(tmp_path, one) / "database.dump")
    assert run(tmp_path, "restore").verdict == FAIL
    assert container == [], "no container was started"
    newer = make(tmp_path, NOW + timedelta(hours=1))
    runner.expect("pg_restore --file", (1, "", "broken"))
    runner.expect("box true$")
    runner.expect("--version$", "postgres (PostgreSQL) 17.12\n")
    found = run(tmp_path, "restore")
    assert (found.id, [check.name for check in found.checks][-1]) == (newer.id, "archive")


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A restore that goes as a test says."""
    world: dict[str, Any] = {"major": 17, "error": None, "checks": [checks.Check("tables", PASS, "")], "compared": []}

    class Server:
        def tool(self, *words: str) -> Command:
            return Command(list(words))

        def execute(self, sql: str, **_: Any) -> list[object]:
            if "dead" in world:
                raise LifeboatError("list", "x", world["dead"])
            if "pg_database_collation_actual_version" in sql:
                return [world.get("sorts", "153.120")]
            assert "pg_available_extensions" in sql
            offered = {"plpgsql": "1.0", "amcheck": "1.4"}
            names, has = world.get("offered", list(offered)), world.get("has", {})
            made = {
                name: world.get("installs") or has.get(name, offered[name]) for name in world.get("made", ["plpgsql"])
            }
            return [
                {"name": name, "version": has.get(name, offered[name]), "installed": made.get(name)} for name in names
            ]

        def problem(self) -> LifeboatError | None:
            return LifeboatError("reach PostgreSQL", "x", world["dead"]) if "dead" in world else None

    @contextlib.contextmanager
    def server(name: str, **options: Any) -> Iterator[Server]:
        world["server"] = options
        yield Server()

    def database(*_: Any, **__: Any) -> None:
        if world["error"]:
            how = {"attempted": "restore the dump", "exit_status": 1, **world.get("how", {})}
            raise LifeboatError(how.pop("attempted"), "x", world["error"], **how)

    def compare(
        server: Any, name: str, facts: Any, *, fresh: bool, application: bool, dumped: database_restore.Dumped
    ) -> list[checks.Check]:
        assert dumped.directory.is_dir()
        world["compared"].append((name, fresh))
        return list(world["checks"])

    monkeypatch.setitem(builders.DATABASE_FACTS["row"], "datcollversion", "153.120")
    monkeypatch.setattr(scratch, "image_major", lambda name: world["major"])
    monkeypatch.setattr(scratch, "server", server)
    monkeypatch.setattr(scratch, "bounded", lambda name, size: contextlib.nullcontext())
    monkeypatch.setattr(database_restore, "roles", lambda *_, **__: [])
    monkeypatch.setattr(database_restore, "database", database)
    monkeypatch.setattr(database_restore, "compare", compare)
    return world


CREATING = "create the database lifeboat_verify"
OUTCOMES: list[tuple[str, dict[str, Any], tuple[int, str, str], str, str]] = [
    ("no space", {"error": "e", "log": "53100 ERROR:  could not extend file"}, (0, "", ""), COULD_NOT_VERIFY, "extend"),
    (
        "too many locks",
        {"error": "pg_restore: error", "log": "00000 LOG:  up\n53200 ERROR:  out of shared memory\n57014 ERROR:  x\n"},
        (0, "", ""),
        COULD_NOT_VERIFY,
        "out of shared memory",
    ),
    (
        "a library the image lacks",
        {"error": "e", "log": "58P01 ERROR:  no file"},
        (0, "", ""),
        COULD_NOT_VERIFY,
        "no file",
    ),
    *(
        (f"{what}, {code}", {"error": "e", **world}, (0, "", ""), COULD_NOT_VERIFY, words)
        for what, code, world, words in (
            ("an extension the image lacks", "0A000", {"offered": [], "log": "0A000 ERROR:  x"}, "extension plpgsql;"),
            ("an extension, which is why", "42704", {"offered": [], "log": "42704 ERROR:  x"}, "verify_image: e"),
            (
                "a feature",
                "0A000",
                {"log": "00000 LOG:  up\n0A000 ERROR:  no XML"},
                "lacks what this needs (ERROR:  no XML)",
            ),
            ("a feature, by psql", "0A000", {"how": {"sqlstate": "0A000"}}, "lifeboat_database.verify_image: e"),
            ("a library, by psql", "58P01", {"how": {"sqlstate": "58P01"}}, "lifeboat_database.verify_image: e"),
            (
                "a library that has another function",
                "42883",
                {"log": '42883 ERROR:  could not find function "f" in file "/l/e.so"'},
                "could not find function",
            ),
            (
                "a library of another build",
                "XX000",
                {"log": 'XX000 ERROR:  incompatible library "/l/e.so": missing magic block'},
                "lacks what this needs (ERROR:  incompatible",
            ),
            (
                "a dictionary's file",
                "F0000",
                {"log": 'F0000 ERROR:  could not open dictionary file "/s/de.dict"'},
                "lacks what this needs",
            ),
            (
                "a collation of initdb",
                "42704",
                {"log": '42704 ERROR:  collation "pg_catalog.de_DE.utf8" for encoding "UTF8" does not exist'},
                'lacks what this needs (ERROR:  collation "pg_catalog.de_DE.utf8"',
            ),
            (
                "a locale of a collation",
                "22023",
                {"log": '22023 ERROR:  could not create locale "de_DE.utf8": No such file or directory'},
                "lacks what this needs",
            ),
            (
                "a text search",
                "42704",
                {
                    "how": {"sqlstate": "42704"},
                    "error": 'CREATE INDEX: text search configuration "pg_catalog.finnish" does not exist',
                },
                "lacks what this needs (CREATE INDEX",
            ),
            (
                "another version of an extension",
                "42883",
                {"has": {"plpgsql": "1.1"}, "log": "42883 ERROR:  function new() does not exist"},
                "the image lacks the extension plpgsql 1.0 (it has 1.1); name one",
            ),
            (
                "a check by another order",
                "23514",
                {"sorts": "154", "log": "23514 ERROR:  new row violates partition constraint"},
                "lacks the version 153.120 of its collations (it has 154)",
            ),
            ("a locale", "42809", {"how": {"sqlstate": "42809", "attempted": CREATING}}, "the image lacks the locale"),
            ("a locale", "22023", {"how": {"sqlstate": "22023", "attempted": CREATING}}, "the image lacks the locale"),
        )
    ),
    *(
        (f"{what}, {code}", {"error": "bad", **world}, (0, "", ""), FAIL, "bad")
        for what, code, world in (
            ("another kind of object in the dump", "42809", {"how": {"sqlstate": "42809"}}),
            ("a type that is nowhere", "42704", {"log": "42704 ERROR:  x"}),
            ("a value that does not fit", "22023", {"how": {"sqlstate": "22023"}}),
            (
                "a collation of its own",
                "42704",
                {"log": '42704 ERROR:  collation "public.c" for encoding "UTF8" does not exist'},
            ),
            ("a check", "23514", {"log": "23514 ERROR:  new row violates check constraint"}),
            (
                "a value, with another version of an extension",
                "22003",
                {"has": {"plpgsql": "1.1"}, "log": "22003 ERROR:  out of range"},
            ),
            ("a key that is there twice, then a feature", "23505", {"log": "23505 ERROR:  x\n0A000 ERROR:  y"}),
        )
    ),
    (
        "no disk for the database",
        {"error": "full", "how": {"sqlstate": "53100", "attempted": CREATING}},
        (0, "", ""),
        COULD_NOT_VERIFY,
        "full",
    ),
    (
        "cut off after another error",
        {"error": "bad", "log": "22003 E\n57014 E\n57P01 F\n08006 L"},
        (0, "", ""),
        FAIL,
        "bad",
    ),
    ("the server was killed", {"error": "e", "dead": "no such file"}, (0, "", ""), COULD_NOT_VERIFY, "does not answer"),
    ("pg_restore was killed", {"error": "e", "how": {"exit_status": 137}}, (0, "", ""), COULD_NOT_VERIFY, "e"),
    ("our time limit", {"error": "no end", "how": {"exit_status": None}}, (0, "", ""), COULD_NOT_VERIFY, "no end"),
    ("psql's own code", {"error": "full", "how": {"sqlstate": "53100"}}, (0, "", ""), COULD_NOT_VERIFY, "full"),
    ("psql's code of the data", {"error": "bad", "how": {"sqlstate": "42601"}}, (0, "", ""), FAIL, "bad"),
    (
        "amcheck without memory",
        {"log": "53200 ERROR:  out of memory\n"},
        (2, 'btree index "i": ERROR:  out of memory\n', ""),
        COULD_NOT_VERIFY,
        "out of memory",
    ),
    ("all equal", {}, (0, "", ""), PASS, "every table and B-tree index is sound"),
    ("it does not restore", {"error": "ERROR: out of range"}, (0, "", ""), FAIL, "ERROR: out of range"),
    *(
        (
            f"extensions: {what}",
            {"checks": [checks.Check("extensions", FAIL, "plpgsql differs")], **world},
            (0, "", ""),
            verdict,
            words,
        )
        for what, world, verdict, words in (
            (
                "the image's version",
                {"has": {"plpgsql": "1.1"}},
                COULD_NOT_VERIFY,
                "the image lacks the extension plpgsql 1.0 (it has 1.1); name one that has it",
            ),
            ("one is gone", {"has": {"plpgsql": "1.1"}, "made": []}, FAIL, "plpgsql differs"),
            ("one more", {"has": {"plpgsql": "1.1"}, "made": ["plpgsql", "amcheck"]}, FAIL, "plpgsql differs"),
            ("not the image's", {"made": ["plpgsql"], "installs": "0.9"}, FAIL, "plpgsql differs"),
        )
    ),
    ("another content", {"checks": [checks.Check("tables", FAIL, "x differs")]}, (0, "", ""), FAIL, "x differs"),
    (
        "a damaged index",
        {},
        (2, 'btree index "i": heap tuple lacks matching index tuple\n', ""),
        FAIL,
        "lacks matching",
    ),
    ("no amcheck", {}, (1, "", 'ERROR:  extension "amcheck" is not available'), COULD_NOT_VERIFY, "is not available"),
    ("an older image", {"major": 16}, (0, "", ""), COULD_NOT_VERIFY, "it is of PostgreSQL 17, the image has 16"),
    (
        "a newer image",
        {"major": 18, "checks": [checks.Check("schema", COULD_NOT_VERIFY, "majors")]},
        (0, "", ""),
        COULD_NOT_VERIFY,
        "majors",
    ),
]


@pytest.mark.parametrize(
    ("world", "amcheck", "verdict", "words"), [case[1:] for case in OUTCOMES], ids=[case[0] for case in OUTCOMES]
)
def test_restore(
    tmp_path: Path, container: list[str], runner: Runner, restored: dict[str, Any], world: dict[str, Any],
    amcheck: tuple[int, str, str], verdict: str, words: str,
) -> None:  # fmt: skip
    restored.update(world)
    make(tmp_path, superuser="chief", preload="pg_stat_statements")
    runner.expect("^pg_amcheck .* dbname='lifeboat_verify'$", amcheck)
    runner.expect("pg_restore --file")
    runner.expect("box true$")
    runner.expect("box cat /dev/shm/lifeboat.log$", world.get("log", ""))
    found = run(tmp_path, "restore")
    assert found.verdict == verdict
    assert entries(tmp_path)[0].good is (verdict != FAIL)
    assert words in "; ".join(check.detail for check in found.checks)
    assert (entries(tmp_path)[0].proven_at is not None) is (verdict == PASS)
    if verdict == PASS:
        assert restored["server"]["superuser"] == "chief"
        assert restored["server"]["preload"] == "pg_stat_statements"
        assert restored["compared"] == [("lifeboat_verify", True)], "as a fresh server: every role must be equal"


def test_two_verifications_do_not_run_at_once(tmp_path: Path, container: list[str], runner: Runner) -> None:
    """They would sweep each other's containers."""
    make(tmp_path)
    with lock.held("shop.verify", "another"), pytest.raises(LockedError, match=r"\(another\)"):
        run(tmp_path, "archive")
    assert container == []
    assert not (folder(tmp_path, entries(tmp_path)[0]) / "verification.json").exists(), "nothing was tried"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("component", list(KINDS))
def test_prune_and_verify_lock_each_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, component: str, level: str
) -> None:
    """At each step of a verification a prune changes nothing; while a prune runs, no verification begins."""
    details = {"database": builders.DETAILS, "objects": builders.OBJECTS, "config": builders.CONFIG}.get(component, {})
    whole = make_manifest(id=backup_id(component, NOW), component=component, artefacts=())
    backup = replace(whole, details=details)
    (tmp_path / "backup").mkdir()
    with store(tmp_path).stage(component, backup.id) as staging:
        staging.publish(backup.to_bytes())
    opened, steps = Opened(make_config(tmp_path)), list[str]()

    def prune(step: str) -> checks.Check:
        with pytest.raises(LockedError, match=r"\(verify\)"):
            operations_prune.prune(opened, now=NOW, dry_run=False, log=len)
        assert operations_prune.prune(opened, now=NOW, dry_run=True, log=len)["delete"] == [], "a plan is free"
        steps.append(step)
        return checks.Check(step, PASS)

    def levels(proof: Proof) -> Iterator[checks.Check]:
        yield prune(proof.level)

    monkeypatch.setattr(operations_verify, "checksums", lambda *_: [prune("checksum")])
    monkeypatch.setitem(operations_verify.PROOFS, component, levels)
    assert run(tmp_path, level, backup.id).verdict == PASS
    assert steps == (["checksum"] if level == "checksum" else ["checksum", level])

    real = operations_prune._sides

    def sides(run_: Opened) -> Any:
        with pytest.raises(LockedError, match=r"\(prune\)"):
            run(tmp_path, level, backup.id)
        steps.append("prune")
        return real(run_)

    monkeypatch.setattr(operations_prune, "_sides", sides)
    operations_prune.prune(opened, now=NOW, dry_run=False, log=len)
    assert steps[-1] == "prune"


def test_a_verification_waits_as_long_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    waited: list[float] = []
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, wait=0, **kw: (waited.append(wait), real(*a, **kw))[1])
    run(tmp_path, "checksum", wait=3600)
    assert waited == [3600]


# --- the throw-away container ---


def test_container_is_cut_off_and_removed(runner: Runner, tmp_path: Path) -> None:
    runner.expect("^docker (run|rm) ")
    with scratch.container("postgres:17", "shop", tmp_path / 'a "b", c', timeout=60) as name:
        (started,) = runner.ran
        assert f"--name {name} " in started
        for words in (
            "--network none", "--label lifeboat.scratch=shop", "--entrypoint sleep",
            f'--mount type=bind,"source={tmp_path}/a ""b"", c",target=/backup,readonly postgres:17 60',
        ):  # fmt: skip
            assert words in started
    assert runner.ran[1:] == [f"docker rm --force --volumes {name}"]


def test_container_is_removed_after_an_error_and_when_it_never_started(runner: Runner, tmp_path: Path) -> None:
    runner.expect("^docker run .* broken ", (125, "", "Unable to find image 'broken' locally\nmore\n"))
    runner.expect("^docker (run|rm) ")
    with pytest.raises(ZeroDivisionError), scratch.container("postgres:17", "shop", tmp_path, timeout=60):
        raise ZeroDivisionError
    missing = pytest.raises(UnverifiedError, match=r"Unable to find image 'broken' locally. Name an image")
    with missing, scratch.container("broken", "shop", tmp_path, timeout=60):
        pytest.fail("there is none")
    assert [command.split()[1] for command in runner.ran] == ["run", "rm", "run", "rm"]


def test_a_machine_without_docker_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = pytest.raises(UnverifiedError, match=r"there is no docker command on this machine. Install Docker here")
    with missing, scratch.container("postgres:17", "shop", tmp_path, timeout=60):
        pytest.fail("there is none")


def test_sweep(runner: Runner) -> None:
    """Killed runs' containers; a run that lives, such as a recovery's plan beside a verification, keeps its own."""
    own = f"{os.getpid()} {pipeline.started(os.getpid())}"
    lines = ("a ", "b", f"living {own}", f"c {own}0", "d 999999999 boot 7", f"e {os.getpid()}", "f ² boot 7")
    runner.expect("^docker ps --all --filter label=lifeboat.scratch=shop --format ", "\n".join(lines) + "\n")
    runner.expect("^docker rm --force --volumes a b c d e f$")
    scratch.sweep("shop")
    assert len(runner.ran) == 2


def test_sweep_without_an_engine_is_quiet(runner: Runner) -> None:
    runner.expect("^docker ps", (1, "", "no engine"))
    scratch.sweep("shop")
    assert len(runner.ran) == 1


USERS = [({"postgres": 0}, "postgres"), ({"postgres": 1}, "1001")]


@pytest.mark.parametrize(("known", "user"), USERS)
def test_server_runs_as_the_images_own_account(runner: Runner, known: dict[str, int], user: str) -> None:
    for name, status in known.items():
        runner.expect(f"id {name}$", (status, "", ""))
    runner.expect("id 1001$", (1, "", ""))
    runner.expect("^docker exec ")
    with scratch.server("box", superuser="chief o'x", preload="pg_cron", timeout=60) as server:
        assert (server.user, server.mount) == ("chief o'x", "/backup")
        assert server.tool("psql").argv[:4] == ["docker", "exec", "--user", "0"]
    initdb = next(command for command in runner.ran if " initdb " in command)
    assert f"--user {user} box initdb" in initdb
    assert "-U chief o'x --auth=trust" in initdb
    start = next(command for command in runner.ran if " pg_ctl " in command)
    for words in ("listen_addresses=''", "fsync='off'", "shared_preload_libraries='pg_cron'"):
        assert words in start


def test_a_data_directory_that_is_there_is_started_by_itself(runner: Runner) -> None:
    runner.expect("^docker exec ")
    scratch.start("box", "1001", "/lifeboat/base", {"recovery_target_action": "pause"})
    (start,) = runner.ran
    assert start.startswith("docker exec --user 1001 box pg_ctl -D /lifeboat/base -w")
    assert start.endswith("-o -c recovery_target_action='pause' start")
    assert scratch.make_data("box", "1001", "chief") == "/lifeboat/data"
    assert [" initdb " in command for command in runner.ran] == [False, False, True]


_ICU = Initialised("UTF8", "C", "C.UTF-8", "i", "de", None, 16 << 20)
LIKE = [
    (None, ["--encoding=SQL_ASCII"]),
    (
        replace(_ICU, provider=None, locale=None, wal_segment=0),
        ["--lc-collate=C", "--lc-ctype=C.UTF-8", "--encoding=SQL_ASCII"],
    ),
    (
        replace(_ICU, provider="c", locale=None),
        ["--lc-collate=C", "--lc-ctype=C.UTF-8", "--encoding=SQL_ASCII", "--wal-segsize=16"],
    ),
    (
        _ICU,
        [
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--encoding=UTF8",
            "--locale-provider=icu",
            "--icu-locale=de",
            "--wal-segsize=16",
        ],
    ),
    (
        replace(_ICU, rules="&a < b", wal_segment=64 << 20),
        [
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--encoding=UTF8",
            "--locale-provider=icu",
            "--icu-locale=de",
            "--icu-rules=&a < b",
            "--wal-segsize=64",
        ],
    ),
    (
        replace(_ICU, provider="b", locale="C.UTF-8", wal_segment=0),
        [
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ],
    ),
    (
        replace(_ICU, provider="b", locale="C", wal_segment=0),
        [
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--encoding=SQL_ASCII",
            "--locale-provider=builtin",
            "--builtin-locale=C",
        ],
    ),
]


@pytest.mark.parametrize(("initialised", "options"), LIKE)
def test_the_server_is_initialised_like_the_stacks(
    runner: Runner, initialised: Initialised | None, options: list[str]
) -> None:
    runner.expect("^docker exec ")
    with scratch.server("box", superuser="u", preload="", timeout=60, initialised=initialised):
        initdb = next(command for command in runner.ran if " initdb " in command)
    assert f" --auth=trust {' '.join(options)} --no-sync --data-checksums" in initdb


def test_a_server_that_does_not_start_proves_nothing(runner: Runner) -> None:
    runner.expect("id postgres$")
    runner.expect("pg_ctl", (1, "", "pg_ctl: could not start server\nExamine the log output.\n"))
    log = '58P01 FATAL:  could not access file "pg_cron"\n00000 LOG:  database system is shut down\n'
    runner.expect("cat /dev/shm/lifeboat.log$", log)
    runner.expect("^docker exec ")
    failed = pytest.raises(UnverifiedError, match=r'could not access file "pg_cron"')
    with failed, scratch.server("box", superuser="u", preload="pg_cron", timeout=60):
        pytest.fail("it does not run")


def test_image_major(runner: Runner) -> None:
    runner.expect("box postgres --version$", "postgres (PostgreSQL) 17.12\n")
    assert scratch.image_major("box") == 17


def test_an_image_without_postgresql(runner: Runner) -> None:
    runner.expect("--version$", (127, "", "not found"))
    with pytest.raises(UnverifiedError, match=r"Name another lifeboat_database.verify_image"):
        scratch.image_major("box")


LOCKS = [(0, "64"), (4096, "64"), (4097, "65"), (30_000, "469")]


@pytest.mark.parametrize(("locks", "wanted"), LOCKS)
def test_the_lock_table_is_as_large_as_the_backup_needs(runner: Runner, locks: int, wanted: str) -> None:
    runner.expect("id postgres$")
    runner.expect("^docker exec ")
    with scratch.server("box", superuser="u", preload="", timeout=60, locks=locks):
        start = next(command for command in runner.ran if " pg_ctl " in command)
    assert f"max_locks_per_transaction='{wanted}'" in start


def test_how_many_locks_a_backup_needs() -> None:
    dump = DatabaseDump("shop", 0, relations=40_000)
    content = Content(tables=10_000, objects=30_000, large_objects=5)
    assert database_proof._locks(dump, "custom") == 40_000
    assert database_proof._locks(replace(dump, relations=0, fingerprint=content), "custom") == 60_000, "it does not say"
    plain = database_proof._locks(replace(dump, fingerprint=content), "plain")
    assert plain == 70_005, "one transaction restores all of it"


# --- by database ---

OTHER = {
    "name": "stats", "folder": "databases/001", "taken_at": "2026-11-24T12:00:01.000Z", "size": 500, "relations": 3,
    "fingerprint": {"level": "content", "tables": 1, "rows": 7, "large_objects": 0, "objects": 1},
}  # fmt: skip


def make_two(tmp_path: Path, taken_at: datetime = NOW, *more: str) -> Manifest:
    """A backup of the application's database and of others."""
    others = [{**OTHER, "name": name, "folder": f"databases/{n:03d}"} for n, name in enumerate(("stats", *more), 1)]
    files = {}
    for item in others:
        files[f"{item['folder']}/database.dump"] = b"PGDMP"
        files[f"{item['folder']}/fingerprint.json"] = json.dumps(FACTS).encode()
    return make(tmp_path, taken_at, files=files, others=others)


def by_database(found: Result) -> dict[str, str]:
    return {name: verdict for name, (verdict, _why) in found.databases.items()}


def test_a_spoiled_dump_fails_its_own_database_alone(tmp_path: Path) -> None:
    one = make_two(tmp_path)
    assert run(tmp_path).databases == {}, "what passes needs no telling apart"
    flip(folder(tmp_path, one) / "databases/001/database.dump")
    found = run(tmp_path)
    assert (found.verdict, by_database(found)) == (FAIL, {"shop": PASS, "stats": FAIL})
    kept = entries(tmp_path)[0]
    assert (kept.good, list(kept.spoiled)) == (False, ["stats"])
    assert "databases/001/database.dump has another SHA-256" in kept.spoiled["stats"]
    assert not kept.flawed, "a copy may have the bytes that were written"
    (line,) = [text for text in show.table([], {"database": [kept]}, NOW) if one.id in text]
    assert "BROKEN for the database stats: verification at level checksum failed" in line
    assert kept.as_dict(NOW)["spoiled"] == dict(kept.spoiled)
    flip(folder(tmp_path, one) / "databases/001/database.dump")
    flip(folder(tmp_path, one) / "database.dump")
    assert by_database(run(tmp_path)) == {"shop": FAIL, "stats": PASS}
    assert list(entries(tmp_path)[0].spoiled) == ["shop"], "the application's may be the one"


@pytest.mark.parametrize("name", ["globals.sql.gz", "fingerprint.json"])
def test_what_is_the_server_s_spoils_the_backup_for_every_database(tmp_path: Path, name: str) -> None:
    one = make_two(tmp_path)
    flip(folder(tmp_path, one) / name)
    found = run(tmp_path)
    assert (found.verdict, found.databases, entries(tmp_path)[0].spoiled) == (FAIL, {}, {})


def test_the_other_databases_are_restored_all_the_same(
    tmp_path: Path, container: list[str], runner: Runner, restored: dict[str, Any]
) -> None:
    one = make_two(tmp_path, NOW, "blog")
    flip(folder(tmp_path, one) / "databases/001/database.dump")
    runner.expect("pg_restore --file=/dev/null /backup/database.dump$")
    runner.expect("pg_restore --file=/dev/null /backup/databases/002/database.dump$", (1, "", "broken"))
    runner.expect("box true$")
    runner.expect("--version$", "postgres (PostgreSQL) 17.12\n")
    runner.expect("^pg_amcheck ")
    found = run(tmp_path, "restore")
    assert by_database(found) == {"shop": PASS, "stats": FAIL, "blog": FAIL}
    assert restored["compared"] == [("lifeboat_verify", True)], "shop alone"
    assert dict(found.databases)["blog"][1] == "archive of blog: broken"
    assert entries(tmp_path)[0].flawed is False
    assert sorted(entries(tmp_path)[0].spoiled) == ["blog", "stats"]


def test_what_was_not_reached_before_the_server_ended_is_not_called_right(
    tmp_path: Path, container: list[str], runner: Runner, restored: dict[str, Any]
) -> None:
    make_two(tmp_path)
    runner.expect("pg_restore --file=/dev/null")
    runner.expect("^pg_amcheck ")
    runner.expect("box true$", (1, "", "container box is not running"))
    found = run(tmp_path, "restore")
    assert (found.verdict, by_database(found)) == (COULD_NOT_VERIFY, {"shop": PASS, "stats": COULD_NOT_VERIFY})
    assert len(restored["compared"]) == 1
    assert (entries(tmp_path)[0].good, entries(tmp_path)[0].spoiled) == (True, {}), "nothing was seen of it"


def test_a_database_that_proves_at_a_higher_level_is_spoiled_no_more(tmp_path: Path) -> None:
    one = make_two(tmp_path)
    early, late = NOW, NOW + timedelta(hours=1)
    fails = {"shop": (PASS, ""), "stats": (FAIL, "archive of stats: broken")}
    said = checks.Check("archive of stats", FAIL, "broken")
    opened = Opened(make_config(tmp_path))
    keep = operations_verify.keep
    keep(opened, store(tmp_path), one, Result(one.id, "archive", (said,), early, early, databases=fails))
    assert list(entries(tmp_path)[0].spoiled) == ["stats"]
    swapped = {"shop": (FAIL, "amcheck: x"), "stats": (PASS, "")}
    said = checks.Check("amcheck", FAIL, "x")
    keep(opened, store(tmp_path), one, Result(one.id, "restore", (said,), late, late, databases=swapped))
    assert dict(entries(tmp_path)[0].spoiled) == {"shop": "verification at level restore failed (amcheck: x)"}


@pytest.mark.parametrize(
    "databases",
    [
        None, "x", {}, {"stats": {"verdict": FAIL}}, {"shop": {"verdict": FAIL}, "stats": {"verdict": FAIL}},
        {"shop": {"verdict": PASS}, "stats": {"verdict": PASS}}, {"shop": PASS, "stats": FAIL},
        {"shop": {"verdict": "x"}, "stats": {"verdict": FAIL}},
        {"shop": {"verdict": PASS}, "stats": {"verdict": FAIL}, "blog": {"verdict": PASS}},
    ],
)  # fmt: skip
def test_a_record_that_does_not_tell_of_each_database_is_of_the_whole_backup(tmp_path: Path, databases: object) -> None:
    """Those of the time when a verdict was of the backup alone, and what is damaged."""
    one = make_two(tmp_path)
    flip(folder(tmp_path, one) / "databases/001/database.dump")
    run(tmp_path)
    path = folder(tmp_path, one) / "verification.json"
    record = json.loads(path.read_text())
    del record["levels"]["checksum"]["databases"]
    if databases is not None:
        record["levels"]["checksum"]["databases"] = databases
    path.write_text(json.dumps(record))
    kept = entries(tmp_path)[0]
    assert (kept.good, kept.spoiled, kept.failures) == (False, {}, 1)
    assert kept.problem.startswith("verification at level checksum failed (checksums of stats: ")


def test_an_artefact_that_is_gone_spoils_its_own_database_alone(tmp_path: Path) -> None:
    one = make_two(tmp_path)
    (folder(tmp_path, one) / "databases/001/database.dump").unlink()
    kept = entries(tmp_path)[0]
    assert (kept.good, dict(kept.spoiled)) == (False, {"stats": "databases/001/database.dump is missing"})
    (folder(tmp_path, one) / "globals.sql.gz").unlink()
    assert entries(tmp_path)[0].spoiled == {}
