# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of a backup that need no server: words for pg_dump, what comes out of a container, space, names."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, pipeline, text
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Server, require_database
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, checksums
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, fingerprint, make_config, publish, store

COMPRESSIONS = [
    ("directory", "zstd:3", 170000, "zstd:3", "--compress=zstd:3"),
    ("custom", "lz4", 160000, "lz4", "--compress=lz4"),
    ("custom", "none", 170000, "none", "--compress=none"),
    ("directory", "zstd:3", 150000, "gzip:6", "--compress=6"),
    ("directory", "gzip:9", 150000, "gzip:9", "--compress=9"),
    ("directory", "gzip", 150000, "gzip", "--compress=6"),
    ("directory", "none", 150000, "none", "--compress=0"),
    ("plain", "zstd:19", 170000, "gzip:6", "--compress=gzip:6"),
    ("plain", "gzip:1", 170000, "gzip:1", "--compress=gzip:1"),
    ("plain", "none", 170000, "none", "--compress=none"),
    ("plain", "lz4", 140000, "gzip:6", "--compress=6"),
]


def make_head(**changes: Any) -> dump._Head:
    return replace(dump._Head(NOW, "snap-1", 1000, 170000, relations=7, encoding="UTF8"), **changes)


def make_around(**changes: Any) -> dump._Around:
    around = dump._Around(
        is_superuser=True, standby=False, template_encoding="UTF8", role_names="", single_byte=(), databases=()
    )
    return replace(around, **changes)


HEAD = dump._Head(NOW, "s", 1, 170012, 1, "UTF8")


def make_work(pool: ThreadPoolExecutor, root: Path, server: Any) -> dump._Work:
    config = make_config(root)
    dumps = dump._Dumps(pool, config, server)
    return dump._Work(pool, config, server, dump._Sessions(server), dumps, "db_x", root, print)


LATIN = dump._Database("shop", "LATIN1")
# (encoding of template1, what roles are called, databases of one byte a character, where pg_dumpall is to read them)
GLOBALS_FROM = [
    ("UTF8", "app", (LATIN,), "template1"),
    ("UTF8", "café", (LATIN,), "template1"),
    ("UTF8", "caf\udce9", (LATIN,), "shop"),
    ("UTF8", "caf\udce9", (), "template1"),
    ("EUC_JP", "café", (LATIN,), "shop"),
    ("EUC_JP", "app", (LATIN,), "template1"),
]


@pytest.mark.parametrize(("template", "names", "others", "source"), GLOBALS_FROM)
def test_globals_are_read_where_every_role_can_be_named(
    template: str, names: str, others: tuple[dump._Database, ...], source: str
) -> None:
    around = make_around(template_encoding=template, role_names=names, single_byte=others)
    assert around.globals_from == dump._Database(source, "LATIN1" if source == "shop" else template)


@pytest.mark.parametrize(("form", "wanted", "version", "method", "word"), COMPRESSIONS)
def test_what_pg_dump_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, wanted: str, version: int, method: str, word: str
) -> None:
    settings = make_config(tmp_path, database={"format": form, "compression": wanted, "jobs": 3})
    assert dump.compression(settings, version) == method
    said: list[list[str]] = []

    def execute(argv: Sequence[str], *, env: Mapping[str, str], stdin: bool) -> Command:
        said.append(list(argv))
        return Command(["tee", str(told)] if stdin else ["true"])

    server = Server(execute, user="u", database="d=b")
    told = tmp_path / "told"
    monkeypatch.setattr(dump, "_receive", lambda write, _told: write(io.BytesIO()) or [])
    with ThreadPoolExecutor(1) as pool, contextlib.closing(dump._Dumps(pool, settings, server)) as dumps:
        head = make_head(version=version, encoding="LATIN1")
        dumps.tell("d=b", dump._Target(head, tmp_path, "x.sql"))
    (argv,) = said[-1:]
    words = argv[argv.index("pg_dump") :]
    if form == "directory":
        words = [*told.read_text().split(), *words]
    assert word in words
    for each in (
        "--snapshot=snap-1",
        "--encoding=LATIN1",
        f"--format={form}",
        "--no-password",
        "--lock-wait-timeout=60s",
    ):
        assert each in words
    assert words[-2:] == ["--dbname", "dbname='d=b'"]
    assert ("--jobs=3" in words) is (form == "directory")
    assert ("--no-tablespaces" in words) is (form == "plain")


@pytest.mark.parametrize("first", ["the fingerprint", "pg_dump"])
def test_of_two_failures_the_first_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """A failed fingerprint ends the session that holds the snapshot; a failed pg_dump ends the fingerprint."""
    over, reaped = threading.Event(), threading.Event()

    def take(*_: object) -> None:
        if first == "pg_dump":
            assert reaped.wait(10)
        raise LifeboatError("take the fingerprint", "shop", "it was ended" if first == "pg_dump" else "a table went")

    def pg_dump(*_: object) -> None:
        if first == "the fingerprint":
            assert over.wait(10)
        raise LifeboatError("dump the database", "shop", "its disk is full" if first == "pg_dump" else "no snapshot")

    class Reaping:
        def reap(self) -> None:
            reaped.set()

    class Told(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *given: Any, **named: Any) -> Any:
            future = super().submit(fn, *given, **named)
            if fn is dump._facts:
                future.add_done_callback(lambda _: over.set())
            return future

    monkeypatch.setattr(dump.fingerprint, "take", take)
    monkeypatch.setattr(dump.fingerprint, "sequences", lambda session: {})
    monkeypatch.setattr(dump._Dump, "take", pg_dump)
    words = "its disk is full" if first == "pg_dump" else "a table went"
    with Told(2) as pool, pytest.raises(LifeboatError, match=words):
        server: Any = Reaping()
        dump._fill(make_work(pool, tmp_path, server), None, HEAD, "shop", "x.sql", "")  # type: ignore[arg-type]


def test_sequences_are_read_before_pg_dump_reads_them_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fingerprint of a large schema takes longer than pg_dump: a sequence that moves would look too high then."""
    stands, dumped = [0], threading.Event()

    def sequences(*_: object) -> dict[str, dump.fingerprint.Position]:
        stands[0] += 100
        return {"public.s": dump.fingerprint.Position(True, str(stands[0]), False)}

    def pg_dump(*_: object) -> list[object]:
        stands[0] = 150
        dumped.set()
        return []

    def facts(*_: object) -> tuple[dump.fingerprint.Fingerprint, tuple[str, ...]]:
        assert dumped.wait(10)
        found = fingerprint()
        return replace(found, sequences=dump.fingerprint.Sequences(sequences())), ()

    class Asked:
        def rows(self, *_: object, **__: object) -> list[object]:
            return []

    monkeypatch.setattr(dump, "_facts", facts)
    monkeypatch.setattr(dump.fingerprint, "sequences", sequences)
    monkeypatch.setattr(dump._Dump, "take", pg_dump)
    with ThreadPoolExecutor(2) as pool:
        server: Any = None
        work = make_work(pool, tmp_path, server)
        _artefacts, found, _lost = dump._fill(work, Asked(), HEAD, "shop", "x.sql", "")  # type: ignore[arg-type]
    assert found.sequences.before["public.s"].last == "100"
    assert found.sequences.after is not None
    assert int(found.sequences.after["public.s"].last or 0) > 150


def tar(*members: tuple[str, Any]) -> bytes:
    """An archive of files, given by their bytes, and of other things, given by their type in a list."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members:
            one = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                one.size = len(content)
                archive.addfile(one, io.BytesIO(content))
            else:
                one.type, one.linkname = content[0], "/etc/passwd"
                archive.addfile(one)
    return packed.getvalue()


def unpack(data: bytes, folder: Path) -> list[Any]:
    folder.mkdir()
    return dump._unpack(io.BytesIO(data), folder)


def test_what_comes_out_of_the_container(tmp_path: Path) -> None:
    big = os.urandom(3 << 20)
    data = tar((".", [tarfile.DIRTYPE]), ("./toc.dat", b"toc"), ("./3422.dat.zst", big))
    found = unpack(data + b"\0" * 100000, tmp_path / "database.dump")
    assert [(artefact.name, artefact.size, artefact.sha256) for artefact in found] == [
        ("database.dump/3422.dat.zst", len(big), hashlib.sha256(big).hexdigest()),
        ("database.dump/toc.dat", 3, hashlib.sha256(b"toc").hexdigest()),
    ]
    assert (tmp_path / "database.dump/3422.dat.zst").read_bytes() == big
    assert (tmp_path / "database.dump/toc.dat").stat().st_mode & 0o777 == 0o600


HOSTILE = [
    ("a link", tar(("./x", [tarfile.SYMTYPE])), "it is not a plain file"),
    ("a hard link", tar(("./x", [tarfile.LNKTYPE])), "it is not a plain file"),
    ("a device", tar(("./x", [tarfile.CHRTYPE])), "it is not a plain file"),
    ("a FIFO", tar(("./x", [tarfile.FIFOTYPE])), "it is not a plain file"),
    ("one name twice", tar(("./x", b"1"), ("./x", b"2")), "File exists"),
    ("no archive", b"tar: cannot open\n" * 100, "invalid header|empty|read"),
    ("cut", tar(("./x", b"1" * 5000))[:3000], "unexpected end|end of file"),
]


@pytest.mark.parametrize(("data", "words"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_container_is_not_trusted(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises((LifeboatError, FileExistsError), match=words):
        unpack(data, tmp_path / "out")


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/../../escaped"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    unpack(tar((name, b"x")), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["escaped"]
    assert not (tmp_path / "escaped").exists()


def tools_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_dump: str) -> Server:
    """A server whose pg_dump is that script; its directory is $directory."""
    (tmp_path / "bin").mkdir()
    words = 'for word; do case "$word" in --file=*) directory="${word#--file=}";; esac; done'
    (tmp_path / "bin/pg_dump").write_text(f"#!/bin/sh\n{words}\n{pg_dump}\n")
    (tmp_path / "bin/pg_dump").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(database_server, "SCRATCH", str(tmp_path))
    return here()


def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_dump: str) -> list[dump.Artefact]:
    """What a directory's dump leaves, of a pg_dump that is that script."""
    server = tools_here(tmp_path, monkeypatch, pg_dump)
    with ThreadPoolExecutor(1) as pool:
        dumps = dump._Dumps(pool, make_config(tmp_path), server)
        return dumps.tell("shop", dump._Target(make_head(), tmp_path, "x.sql"))


def test_a_directory_is_brought_out_and_removed_by_the_program_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'echo "$PPID $directory" >"$(dirname "$0")/ran"; mkdir "$directory"; echo toc >"$directory/toc.dat"'
    for name in ("lifeboat.deadbeef", "lifeboat.of-others"):
        (tmp_path / name).mkdir()
    (found,) = taken(tmp_path, monkeypatch, script)
    assert found == checksums.measure(tmp_path / "database.dump/toc.dat", "database.dump/toc.dat")
    assert [path.name for path in tmp_path.glob("lifeboat.*")] == ["lifeboat.of-others"], "nor what a killed run left"


# (what happens where the tools run, what the error tells of, its words)
BROKEN = [
    ('echo "pg_dump: error: no rights" >&2; exit 1', "dump the database", "pg_dump: error: no rights"),
    ('kill -9 $$', "dump the database", "Killed|exit 137"),
    (": nothing is made", dump._BRING, "tar: "),
    ('ln -s /nowhere "$directory"; mkdir "$directory/x"', "dump the database", "mkdir"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "attempted", "words"), BROKEN)
def test_which_step_of_a_directory_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, attempted: str, words: str
) -> None:
    with pytest.raises(LifeboatError, match=words) as error:
        taken(tmp_path, monkeypatch, script)
    assert error.value.attempted == attempted


def test_a_compression_that_pg_dump_was_built_without_names_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = 'echo "pg_dump: error: this build does not support compression with zstd" >&2; exit 1'
    with pytest.raises(LifeboatError) as error:
        taken(tmp_path, monkeypatch, lacks)
    assert error.value.remedy.startswith("Set lifeboat_database.compression to gzip:6. Earlier backups are untouched.")


def test_the_next_dump_is_started_when_the_one_before_comes_out_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of its own database only, and what is made before the first has come out is not swept away."""
    script = 'echo "$@" >>"$(dirname "$0")/ran"; mkdir "$directory"; echo toc >"$directory/toc.dat"'
    server = tools_here(tmp_path, monkeypatch, script)
    tool = server.tool
    started: list[str] = []
    swept: list[str] = []
    start = dump._Dumps.start

    def noted(dumps: dump._Dumps, database: str) -> None:
        started.append(database)
        start(dumps, database)

    def asked(*words: str, **how: Any) -> Command:
        swept.append(how["wrapper"][-1])
        return tool(*words, **how)

    monkeypatch.setattr(dump._Dumps, "start", noted)
    monkeypatch.setattr(server, "tool", asked)
    with ThreadPoolExecutor(4) as pool, contextlib.closing(
        dump._Dumps(pool, make_config(tmp_path), server)
    ) as dumps:  # fmt: skip
        dumps.expect(["b", "gone", "c"])
        dumps.start("a")
        assert not (tmp_path / "bin/ran").exists(), "it waits for its snapshot"
        for name, before in (("a", ["a"]), ("b", ["a", "b"]), ("c", ["a", "b", "gone"])):
            assert started == before, "only one waits"
            (tmp_path / name).mkdir()
            (found,) = dumps.tell(name, dump._Target(make_head(snapshot=f"snap-{name}"), tmp_path / name, "x.sql"))
            assert found == checksums.measure(tmp_path / name / "database.dump/toc.dat", "database.dump/toc.dat")
    assert started == ["a", "b", "gone", "c"]
    assert swept == [server.scratch_names, "", "", ""], "the next one leaves alone what is brought out"
    ran = (tmp_path / "bin/ran").read_text().splitlines()
    assert [(f"--snapshot=snap-{name}" in line, f"dbname='{name}'" in line) for name, line in zip("abc", ran)] == [
        (True, True)
    ] * 3
    assert len(ran) == 3, "what was not told of a snapshot dumps nothing"
    assert not list(tmp_path.glob("lifeboat.*"))


def test_a_dump_that_is_not_wanted_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tools_here(tmp_path, monkeypatch, 'touch "$(dirname "$0")/ran"')
    with ThreadPoolExecutor(4) as pool:
        dumps = dump._Dumps(pool, make_config(tmp_path), server)
        dumps.start("a")
        dumps.close()
        assert dumps._brought
        with pytest.raises(LifeboatError):
            dumps._brought.result(10)
    assert not (tmp_path / "bin/ran").exists()


# What the tools do when the backup is interrupted; no time limit ends any of it within a minute.
GOES_ON = {
    "dumps": 'mkdir "$directory"; touch "$(dirname "$0")/ran"; sleep 600',
    "is silent": 'mkdir "$directory"; echo >"$directory/x"; touch "$(dirname "$0")/ran"; sleep 1; kill -STOP $PPID',
}


@pytest.mark.parametrize("script", GOES_ON.values(), ids=list(GOES_ON))
def test_a_dump_that_was_told_ends_where_the_backup_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    server = tools_here(tmp_path, monkeypatch, script)
    with ThreadPoolExecutor(4) as pool:
        dumps = dump._Dumps(pool, make_config(tmp_path), server)
        telling = pool.submit(dumps.tell, "a", dump._Target(make_head(), tmp_path, "x.sql"))
        while not (tmp_path / "bin/ran").exists():
            assert not telling.done(), telling.result()
            time.sleep(0.01)
        began = time.monotonic()
        dumps.abandon()
        assert time.monotonic() - began < 50
        with pytest.raises(LifeboatError):
            telling.result(10)
    assert not list(tmp_path.glob("lifeboat.*")), "nor does it leave anything"


def test_receiving_onto_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer at the other end meets a broken pipe; the reason is the reader's."""

    class Full(pipeline.HashingWriter):
        def write(self, data: bytes, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pipeline, "HashingWriter", Full)
    script = 'mkdir "$directory"; for n in x y; do head -c 4194304 /dev/urandom >"$directory/$n"; done'
    with pytest.raises(OSError, match="No space left on device") as error:
        taken(tmp_path, monkeypatch, script)
    assert error.value.errno == errno.ENOSPC
    assert not list(tmp_path.glob("lifeboat.*")), "the container keeps nothing"


class Asked:
    """A session of a server that is none."""

    def __init__(self, database: str, refuses: str = "") -> None:
        self.went, self.closed, self._refuses = [database], 0, refuses

    def __enter__(self) -> Asked:
        return self

    def again(self, database: str) -> None:
        if database == self._refuses:
            raise LifeboatError("connect to the database", database, "no connection is left")
        self.went.append(database)

    def close(self) -> None:
        self.closed += 1


def test_one_psql_goes_from_one_database_to_the_next() -> None:
    made: list[Asked] = []

    class Serving:
        def session(self, database: str) -> Asked:
            made.append(Asked(database, refuses="c"))
            return made[-1]

    server: Any = Serving()
    with contextlib.closing(dump._Sessions(server)) as sessions:
        for name in ("a", "b", "c"):
            with sessions.session(name):
                pass
        assert [one.went for one in made] == [["a", "b"], ["c"]], "who cannot go on is followed by another"
        assert [one.closed for one in made] == [1, 0], "and leaves its connection to it"
        with pytest.raises(LifeboatError), sessions.session("d"):
            raise LifeboatError("dump the database", "d", "no")
        assert made[1].closed, "no failure leaves a snapshot open"
        with sessions.session("e"):
            pass
        assert [one.went for one in made] == [["a", "b"], ["c", "d"], ["e"]]
    assert all(one.closed for one in made)


def test_an_error_of_the_repository_is_named_and_tells_what_to_do(tmp_path: Path) -> None:
    words = r"write the backup \(.*/backup\): No space left.*earlier ones are untouched"
    with pytest.raises(SpaceError, match=words), dump._named_errors(make_config(tmp_path)):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_ids_of_backups_within_one_second(tmp_path: Path) -> None:
    """Another stack's in the same repository, or one left unfinished, count too."""
    publish(tmp_path)
    publish(tmp_path, NOW + timedelta(seconds=1), stack="blog")
    (tmp_path / "backup/postgresql/db_backup_20261124_120002").mkdir()
    assert catalog.free_id(store(tmp_path), "database", NOW) == "db_backup_20261124_120003"
    assert catalog.free_id(store(tmp_path), "database", NOW + timedelta(hours=1)) == "db_backup_20261124_130000"


SPACES = [
    ([], 3000, 1000, True),
    ([], 3000, 999, False),
    ([729], 10**9, 1093, True),
    ([729], 10**9, 1092, False),
]
# (sizes of the server's databases, of which an earlier backup holds `shop` alone, what is free, is that enough)
SERVERS = [
    ([], {"shop": 3000, "b": 3000}, 2000, True),
    ([], {"shop": 3000, "b": 3000}, 1999, False),
    ([729], {"shop": 10**9, "b": 3000}, 2093, True),
    ([729], {"shop": 10**9, "b": 3000}, 2092, False),
]


@pytest.mark.parametrize(("earlier", "sizes", "free", "enough"), SERVERS)
def test_space_is_judged_for_every_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: list[int], sizes: dict[str, int], free: int, enough: bool
) -> None:
    if earlier:
        assert [publish(tmp_path).size] == earlier
    repo = store(tmp_path)
    monkeypatch.setattr(type(repo), "free_bytes", lambda self: free)
    with contextlib.nullcontext() if enough else pytest.raises(SpaceError, match="free, about"):
        dump._require_space(make_config(tmp_path), repo, sizes)


@pytest.mark.parametrize(("earlier", "database", "free", "enough"), SPACES)
def test_space_is_judged_by_the_last_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: list[int], database: int, free: int, enough: bool
) -> None:
    settings = make_config(tmp_path)
    if earlier:
        assert [publish(tmp_path).size] == earlier
    repo = store(tmp_path)
    monkeypatch.setattr(type(repo), "free_bytes", lambda self: free)
    if enough:
        dump._require_space(settings, repo, {"shop": database})
    else:
        with pytest.raises(SpaceError, match="free, about"):
            dump._require_space(settings, repo, {"shop": database})
    monkeypatch.setattr(type(repo), "free_bytes", lambda self: None)
    dump._require_space(settings, repo, {"shop": 10**18})


def test_no_backup_while_a_recovery_has_not_ended(tmp_path: Path) -> None:
    """The server may be an empty one: its backup would be the newest good one."""
    settings = make_config(tmp_path)
    settings.state.mkdir()
    (settings.state / recovery_state.RECOVERING).touch()
    with pytest.raises(LockedError, match=r"a recovery of the database has not ended.*recover_database again.*rm "):
        dump.take(Opened(settings), log=lambda _: None)
    recovery_state.unmark(settings, recovery_state.RECOVERING)
    recovery_state.mark(settings, logins.CLOSED)
    with pytest.raises(
        LockedError, match=r"closed the database to logins and not ended.*that opens the database again"
    ):
        dump.take(Opened(settings), log=lambda _: None)


class Databases:
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def execute(self, sql: str, **_: Any) -> list[Any]:
        assert "'it''s'" in sql
        return self.rows

    def databases(self) -> list[str]:
        return ["a", "b"]


def test_a_database_that_is_not_there() -> None:
    assert require_database(Databases([5]), "it's") == 5  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="the server has a, b"):
        require_database(Databases([]), "it's")  # type: ignore[arg-type]


SIZES = [
    (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99949, "99.9 kB"), (100000, "100 kB"), (1500000, "1.5 MB"),
    (2.8e9, "2.8 GB"), (123e9, "123 GB"), (5e12, "5.0 TB"), (5e15, "5000.0 TB"),
]  # fmt: skip


@pytest.mark.parametrize(("size", "shown"), SIZES)
def test_human(size: float, shown: str) -> None:
    assert text.human(size) == shown


def test_measure(tmp_path: Path) -> None:
    data = os.urandom((2 << 20) + 5)
    (tmp_path / "x").write_bytes(data)
    assert checksums.measure(tmp_path / "x", "n") == dump.Artefact("n", len(data), hashlib.sha256(data).hexdigest())


def item(name: str, **changes: Any) -> dump.Listed:
    return replace(dump.Listed(oid=7, name=name, size=5, connects=True, torn=False), **changes)


def test_which_databases_are_to_be_in_a_backup(tmp_path: Path) -> None:
    settings = make_config(tmp_path, database={"name": "shop", "exclude": ["left", "nowhere"]})
    there = [
        item("shop"), item("wiki"), item("left"), item("closed", connects=False), item("half", torn=True),
        item("shop_quarantine_20261124_120000"), item("wiki_quarantine_20261124_120000"), item("lifeboat_verify"),
        item("a\n\udce9"),
    ]  # fmt: skip
    lines: list[str] = []
    ours = {"shop_quarantine_20261124_120000"}
    wanted, missing = dump._others(settings, make_around(databases=tuple(there)), "shop", ours, lines.append)
    names = ["wiki", "wiki_quarantine_20261124_120000", "lifeboat_verify", "a\n\udce9"]
    assert [one.name for one in wanted] == names, "a name alone makes none ours"
    assert missing == {"closed": "it takes no connections (datallowconn is false)"}
    assert lines[0] == "lifeboat_database.exclude names nowhere: the server has no such database"
    assert "half is what is left of an interrupted DROP DATABASE" in lines[1]
    assert lines[2].startswith("wiki_quarantine_20261124_120000 is in it: ")


def test_the_applications_database_cannot_be_left_out(tmp_path: Path) -> None:
    settings = make_config(tmp_path, database={"exclude": ["from_the_image"]})
    with pytest.raises(UsageError, match=r"lifeboat_database\.exclude leaves it out"):
        dump._refuse_excluded(settings, "from_the_image")


def error(**how: Any) -> LifeboatError:
    return LifeboatError("dump the database", "b", "no", **how)


# (what failed, what the database of that number is called now, what becomes of it)
FAILURES: list[tuple[str, LifeboatError, Any, str]] = [
    ("no right", error(exit_status=1), ["b"], "missing"),
    ("a byte that its encoding has not", error(exit_status=3, sqlstate="22021"), ["b"], "missing"),
    ("not let in", error(exit_status=2), ["b"], "missing"),
    ("an answer that cannot be read", error(), ["b"], "missing"),
    ("renamed", error(exit_status=2), ["c"], "it was given the name c"),
    ("dropped", error(exit_status=2), [], "it was dropped while the backup ran"),
    ("dropped by force", error(exit_status=3, sqlstate="57P01"), [], "it was dropped while the backup ran"),
    ("no time", error(exit_status=124), ["b"], "raised"),
    ("killed", error(exit_status=137), ["b"], "raised"),
    ("the server's disk", error(exit_status=3, sqlstate="53100"), ["b"], "raised"),
    ("the tools' disk", SpaceError("dump the database", "b", "no"), ["b"], "raised"),
    ("not brought out", LifeboatError(dump._BRING, "b", "no", exit_status=1), ["b"], "raised"),
    ("the server is gone", error(exit_status=2), error(exit_status=2), "raised"),
]


@pytest.mark.parametrize(
    ("failure", "now", "then"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES]
)
def test_a_failure_is_of_one_database_or_of_the_machine(
    tmp_path: Path, failure: LifeboatError, now: Any, then: str
) -> None:
    class Failing:
        def session(self, name: str) -> Any:
            raise failure

        def execute(self, sql: str, **_: Any) -> list[str]:
            assert "oid = 7;" in sql
            if isinstance(now, LifeboatError):
                raise now
            return list(now)

    lines: list[str] = []
    missing: dict[str, str] = {}
    with ThreadPoolExecutor(1) as pool:
        server: Any = Failing()
        work = replace(make_work(pool, tmp_path, server), log=lines.append)
        if then == "raised":
            with pytest.raises(LifeboatError) as raised:
                dump._other(work, item("b"), "databases/001", missing)
            assert raised.value is failure
        else:
            assert dump._other(work, item("b"), "databases/001", missing) is None
            assert missing["b"].startswith("no" if then == "missing" else then)
            assert (list(missing), lines) == (["b"], [])
    assert not (tmp_path / "databases").exists()


def here() -> Server:
    """A server whose tools run on this machine."""
    return Server(lambda words, *, env, stdin: Command(list(words)), user="u")


def test_a_full_disk_where_the_tools_run_is_told_from_what_a_database_refuses(tmp_path: Path) -> None:
    assert not here().is_full(str(tmp_path))
    assert not here().is_full(str(tmp_path / "none"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/lifeboat").symlink_to("/dev/full")
    assert here().is_full(str(tmp_path / "full"))


def test_a_backup_of_an_earlier_instant_is_of_that_instant() -> None:
    """Out of a throw-away server: its own clock says nothing."""
    head = {"taken_at": "2026-12-02T04:10:56+00:00", "snapshot": "s", "size": 1, "version": 170012, "relations": 1,
            "encoding": "UTF8"}  # fmt: skip

    class Session:
        def rows(self, sql: str, *, attempted: str) -> list[Any]:
            return [head]

    moment = NOW - timedelta(days=1)
    assert dump._read_head(Session(), moment).taken_at == moment  # type: ignore[arg-type]
    assert dump._read_head(Session(), None).taken_at == clock.parse_time(head["taken_at"])  # type: ignore[arg-type]


def test_what_surrounds_an_earlier_instant_is_the_living_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may not have every database any more."""

    class Living:
        def living(self) -> list[Any]:
            return [SimpleNamespace(name="shop")]

    monkeypatch.setattr(dump.cluster, "take", lambda server, names: (server, list(names)))
    server: Any = Living()
    assert dump._look_around(server, ["shop", "gone"], complete=False) == (server, ["shop"])
    assert dump._look_around(server, ["shop", "gone"], complete=True) == (server, ["shop", "gone"])
    earlier = dump.Earlier(server, Living(), NOW)  # type: ignore[arg-type]
    assert dump._servers(Opened.__new__(Opened), earlier) == (server, earlier.living, NOW)
