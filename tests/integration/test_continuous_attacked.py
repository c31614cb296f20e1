# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random instants of a server under load, from the repository and from the vault, both ways: exactly the rows of then.

What was there is known by the live server's own WAL, which pg_waldump reads from its data directory: nothing of ours
had a hand in that. SEED=<n> draws other instants.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import canaries
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import facts_of
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods import registry as methods
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base, send, standing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Instant, Latest, Position
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import parse_lsn
from postgres_stack import SUPERUSER, Stack, docker, say
from s3_servers import SeaweedFS
from test_wal_off_the_host import AGE, Elsewhere, weed

__all__ = ["weed"]  # the fixture
SEED = os.environ.get("SEED", "57")
LOAD = 30  # seconds
OPTIONS = ("max_prepared_transactions=40", "wal_keep_size=4GB", "max_connections=60", "fsync=on")
TABLES = """
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0);
INSERT INTO accounts SELECT generate_series(1, 200);
CREATE TABLE ledger (id bigserial PRIMARY KEY, account int NOT NULL, amount bigint NOT NULL, kind text NOT NULL);
BEGIN; INSERT INTO ledger (account, amount, kind) VALUES (200, 1, 'never'); PREPARE TRANSACTION 'never';
CREATE TABLE canaries (text text);
"""
CANARY = f"canary-{secrets.token_hex(8)}"  # in no file but the server's own
WRITE = f"INSERT INTO canaries SELECT '{CANARY} of row ' || g FROM generate_series(1, 20) g"
# Each client of pgbench has accounts of its own for what it prepares: nobody waits for it.
MOVE = """INSERT INTO ledger (account, amount, kind) VALUES (:a, :d, '{kind}');
UPDATE accounts SET balance = balance + :d WHERE id = :a;
"""
DRAW = "\\set a random(1, 100)\n\\set d random(-50, 50)\n"
SCRIPTS = {
    "plain": f"{DRAW}BEGIN;\n{MOVE}COMMIT;\n",
    "async": f"{DRAW}BEGIN;\nSET LOCAL synchronous_commit = off;\n{MOVE}COMMIT;\n",
    "savepoint": (
        f"{DRAW}BEGIN;\n{MOVE}SAVEPOINT one;\n{MOVE}ROLLBACK TO one;\nSAVEPOINT two;\n{MOVE}RELEASE two;\nCOMMIT;\n"
    ),
    "aborted": f"{DRAW}BEGIN;\n{MOVE}ROLLBACK;\n",
    "prepared": (
        "\\set a 101 + :client_id\n\\set d random(-50, 50)\n\\set n random(1, 9000000000)\n\\set wait random(1, 300)\n"
        f"BEGIN;\nSAVEPOINT one;\n{MOVE}RELEASE one;\n{MOVE}PREPARE TRANSACTION 'p:n';\n\\sleep :wait ms\n"
        "\\if :n % 5 = 0\nROLLBACK PREPARED 'p:n';\n\\else\nCOMMIT PREPARED 'p:n';\n\\endif\n"
    ),
}  # fmt: skip
KINDS = ("plain", "async", "savepoint", "prepared")
IDS = "SELECT coalesce(json_agg(id ORDER BY id), '[]') FROM public.ledger;"
UNBALANCED = """SELECT to_json(count(*)) FROM public.accounts a
  WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM public.ledger l WHERE l.account = a.id);"""
_ENDED = re.compile(
    r"tx: +(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), .*desc: (?P<what>COMMIT|ABORT)"
    r"(?:_PREPARED (?P<prepared>\d+):)? (?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) \w+(?P<rest>.*)"
)
_SUBXACTS = re.compile(r"subxacts:((?: \d+)+)")


@dataclass(frozen=True)
class Ended:
    """A transaction that ended, with its parts, as the record in the WAL says."""

    lsn: int
    at: datetime
    committed: bool
    xids: frozenset[int]


def parsed(dumped: str) -> list[Ended]:
    records = []
    for row in dumped.splitlines():
        if match := _ENDED.search(row):
            parts = _SUBXACTS.search(match["rest"])
            xids = {int(match["prepared"] or match["xid"]), *map(int, parts[1].split() if parts else [])}
            moment = datetime.strptime(match["at"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=timezone.utc)
            records.append(Ended(parse_lsn(match["lsn"]), moment, match["what"] == "COMMIT", frozenset(xids)))
    return records


class Oracle:
    """What the ledger held at any instant since the base. rows: its last state, by id the transaction and the kind."""

    def __init__(self, stack: Stack, start: str) -> None:
        (end,) = stack.psql("SELECT pg_current_wal_flush_lsn()")
        words = f'TZ=UTC pg_waldump --path "$PGDATA/pg_wal" --start {start} --end {end} --rmgr=Transaction'
        self.ended = parsed(docker("exec", stack.container, "sh", "-c", words))
        self.rows = {
            int(number): (int(xid), kind)
            for number, xid, kind in (row.split("|") for row in stack.psql("SELECT id, xmin, kind FROM ledger"))
        }

    def rows_at(self, instant: Instant) -> list[int]:
        """PostgreSQL stops before the first end of a transaction, COMMIT or not, that is not before the instant."""
        known: set[int] = set()
        before: set[int] = set()
        stopped = False
        for record in self.ended:
            behind = record.at >= instant.moment if isinstance(instant, At) else record.lsn >= instant.lsn  # type: ignore[union-attr]
            stopped = stopped or behind
            known |= record.xids
            before |= record.xids if record.committed and not stopped else set()
        return sorted(number for number, (xid, _kind) in self.rows.items() if xid not in known or xid in before)

    def drawn(self, since: datetime, until: datetime, lot: random.Random) -> list[Instant]:
        """Of each kind just before a COMMIT and just behind one; a position; any time."""
        inside = [record for record in self.ended if record.committed and since < record.at < until]
        kinds = dict(self.rows.values())
        drawn: list[Instant] = []
        for kind in KINDS:
            own = [record for record in inside if kind in {kinds.get(xid) for xid in record.xids}]
            assert len(own) > 20, f"{kind}: {len(own)} of {len(inside)}"
            before, behind = lot.sample(own, 2)
            drawn += [At(before.at), At(behind.at + timedelta(microseconds=1))]
        drawn.append(Position(lot.choice(inside).lsn))
        drawn.append(At(since + (until - since) * lot.random()))
        return drawn


class Attacked(Elsewhere):
    """A stack under load, whose WAL goes to its repository and to a vault."""

    base: Manifest

    def load(self, seconds: int) -> subprocess.Popen[str]:
        folder = self.root / "scripts"
        folder.mkdir(exist_ok=True)
        weights = {"plain": 3, "async": 3, "savepoint": 3, "aborted": 1, "prepared": 4}
        words = []
        for name, script in SCRIPTS.items():
            (folder / name).write_text(script.format(kind=name))
            words += ["-f", f"/tmp/scripts/{name}@{weights[name]}"]
        docker("cp", str(folder), f"{self.stack.container}:/tmp")
        docker("exec", "--user", "root", self.stack.container, "chmod", "-R", "a+rX", "/tmp/scripts")
        argv = [
            "docker",
            "exec",
            "-e",
            f"PGUSER={SUPERUSER}",
            self.stack.container,
            "pgbench",
            "-n",
            "-c",
            "16",
            "-j",
            "1",
        ]
        return subprocess.Popen(
            [*argv, "-R", "200", "-T", str(seconds), *words, "postgres"], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def attack(self) -> None:
        """A base and passes of the sender while all clients write."""
        self.enable()
        self.receive()
        self.stack.psql(TABLES)
        self.stack.psql(WRITE)  # in the base, and below in the WAL
        running = self.load(LOAD)
        time.sleep(3)
        self.base = base.take(self.run, print)
        while running.poll() is None:
            time.sleep(2)
            send.send(self.run, print)
        output = running.communicate()[0]
        assert running.returncode == 0, output
        print(output)
        assert "number of failed transactions: 0 " in output
        self.stack.psql(WRITE)
        self.sent()
        assert copies.catch_up(self.run, log=print).failed == ()
        self.sent()


@pytest.fixture(scope="module")
def attacked(engine: None, tmp_path_factory: pytest.TempPathFactory, weed: SeaweedFS) -> Iterator[Attacked]:
    del engine
    stack = Stack(tmp_path_factory.mktemp("project"), f"attacked-{os.getpid()}", options=OPTIONS)
    with stack.up():
        made = Attacked(stack, tmp_path_factory.mktemp("root"), weed, "vault")
        try:
            made.attack()
            yield made
        finally:
            docker("rm", "--force", made.name, check=False)


@pytest.fixture(scope="module")
def oracle(attacked: Attacked) -> Oracle:
    return Oracle(attacked.stack, attacked.base.detailed(BaseDetails).start)


@pytest.fixture(scope="module")
def drawn(attacked: Attacked, oracle: Oracle) -> list[Instant]:
    (window,) = instants.known(attacked.run).catalogue.windows
    made = oracle.drawn(window.since, window.until.at, random.Random(SEED))  # noqa: S311 - a lot, no secret
    print(f"SEED={SEED}: {', '.join(map(str, made))}")
    return made


def assert_exact(oracle: Oracle, instant: Instant, ids: Sequence[int], unbalanced: int) -> None:
    right = oracle.rows_at(instant)
    assert 0 < len(right) < len(oracle.rows)
    lacks, more = sorted({*right} - {*ids}), sorted({*ids} - {*right})
    assert (lacks, more) == ([], []), f"SEED={SEED}: {instant}"
    assert unbalanced == 0, f"SEED={SEED}: {instant}"
    if isinstance(instant, At):
        # PostgreSQL's rule for a time: nothing of that time or later.
        stamps = {xid: record.at for record in oracle.ended for xid in record.xids}
        assert all(stamps.get(oracle.rows[number][0], instant.moment) < instant.moment or
                   oracle.rows[number][0] not in stamps for number in ids)  # fmt: skip


PLACES = [sources.REPOSITORY, sources.VAULT]


@pytest.mark.parametrize("place", PLACES)
def test_a_server_stands_at_any_instant_with_its_rows(
    attacked: Attacked, oracle: Oracle, drawn: list[Instant], place: str
) -> None:
    run = attacked.opened()
    for instant in drawn:
        began = time.monotonic()
        repo = sources.open_place(run, place)
        with standing.archive(run, repo) as archive:
            route = archive.catalogue().route(instant, clock.now(), 0)
            with standing.standing(run, archive, route, print) as server:
                (ids,) = server.server.execute(IDS, database="postgres", attempted="read the ledger")
                (unbalanced,) = server.server.execute(UNBALANCED, database="postgres", attempted="read the accounts")
        print(f"{instant}: {len(ids)} of {len(oracle.rows)} rows in {time.monotonic() - began:.1f} s")  # type: ignore[arg-type]
        assert_exact(oracle, instant, ids, unbalanced)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", PLACES)
def test_a_database_comes_back_as_it_was_at_any_instant(
    attacked: Attacked, oracle: Oracle, drawn: list[Instant], place: str
) -> None:
    """By a dump of the instant, restored into the living server as a recovery does it before it swaps. Half of them
    from either place: a dump takes twice the time."""
    for instant in drawn[PLACES.index(place) :: len(PLACES)]:
        began = time.monotonic()
        run = attacked.opened()
        manifest = instants.dump(run, instant, print, 0, place)
        name, repo = f"beside_{place}", repositories.repository_of(run)
        try:
            with contextlib.ExitStack() as opened:
                stored = opened.enter_context(repo.materialise("database", manifest.id))
                folder = opened.enter_context(methods.of(manifest).opened(run.config, manifest, stored))
                database_restore.database(
                    attacked.stack.server(run.config), manifest, folder, facts_of(folder), name, jobs=1, log=say,
                    trust_owners=True,
                )  # fmt: skip
            ids = [int(row) for row in attacked.stack.psql("SELECT id FROM ledger", name)]
            (unbalanced,) = attacked.stack.psql(UNBALANCED, name)
        finally:
            attacked.stack.psql(f"DROP DATABASE IF EXISTS {name}")
        print(f"{instant}: {len(ids)} of {len(oracle.rows)} rows in {time.monotonic() - began:.1f} s")
        assert_exact(oracle, instant, ids, int(unbalanced))


def plain(*argv: str) -> list[str]:
    """The files that a search names. No file is not a failure."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.splitlines()


def test_a_row_of_an_encrypted_stack_is_nowhere_in_the_clear(
    attacked: Attacked, weed: SeaweedFS, tmp_path: Path
) -> None:
    """But in the data directory and in the spool. Neither after a server has stood there, nor in anything that a run
    has printed, nor decompressed."""
    run, spool = attacked.opened(), attacked.run.config.spool
    assert plain("grep", "-rlaF", CANARY, str(spool)), "the search finds it where it has to be"
    inside = f'grep -rlaF {CANARY} "$PGDATA"'
    assert docker("exec", attacked.stack.container, "sh", "-c", inside, check=False)
    printed = list[str]()
    for place in PLACES:
        instants.stand(run, Latest(), printed.append, 0, place)
    instants.dump(run, Latest(), printed.append)
    instants.happened(run, printed.append, rows=1_000_000)
    logged = subprocess.run(["docker", "logs", attacked.name], capture_output=True, text=True, check=True)
    assert CANARY not in "\n".join([*printed, logged.stdout, logged.stderr])
    for root in (attacked.root / "backup", weed.directory, Path(run.config.state)):
        assert {word: files for word, files in canaries.found(root, [CANARY]).items() if files} == {}, root
    everywhere = [path for path in ("/tmp", "/var/tmp", "/var/log", "/run/lifeboat") if Path(path).exists()]
    own = [str(attacked.root), str(weed.directory), str(tmp_path.parent)]
    found = plain("grep", "-rlaF", "--devices=skip", CANARY, *everywhere, *own)
    assert [path for path in found if not path.startswith(f"{spool}/")] == []
    journal = subprocess.run(["journalctl", "--no-pager", "--since", "-1h"], capture_output=True, check=False)
    assert CANARY.encode() not in journal.stdout
    objects = weed.client.list_object_versions(Bucket=attacked.bucket)["Versions"]
    assert len(objects) > 10
    for each in objects:
        name = each["Key"]
        body = weed.client.get_object(Bucket=attacked.bucket, Key=name, VersionId=each["VersionId"])["Body"].read()
        assert not any(CANARY.encode() in face for face in canaries.faces(body)), name
        assert body.startswith(AGE) is name.endswith(".age"), name
