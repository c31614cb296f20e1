# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""What surrounds the databases of a server, and what a dump does not carry: each claim, against a real server."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import carried
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Server, identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import exec_command
from postgres_stack import IMAGE, docker

NAME = f"lifeboat-it-cluster-{os.getpid()}"
OPTIONS = {"fsync": "off", "shared_buffers": "32MB", "max_prepared_transactions": "5", "wal_level": "logical"}


def connect(name: str, **more: str) -> Server:
    return Server(functools.partial(exec_command, name), user="postgres", **more)


@pytest.fixture(scope="module")
def server(engine: None) -> Iterator[Server]:
    """A server of its own: prepared transactions and logical slots need options that the shared one does not have."""
    del engine
    words = [word for key, value in OPTIONS.items() for word in ("-c", f"{key}={value}")]
    docker("run", "--detach", "--name", NAME, "--env", "POSTGRES_PASSWORD=x", IMAGE, "postgres", *words)
    try:
        found = connect(NAME)
        deadline = time.monotonic() + 60
        # Over TCP: while the image initialises its directory, a first server listens on the socket alone.
        while (
            docker("exec", NAME, "pg_isready", "-qh127.0.0.1", check=False) or connect(NAME, host="127.0.0.1").problem()
        ):
            assert time.monotonic() < deadline, docker("logs", NAME)
            time.sleep(0.2)
        yield found
    finally:
        docker("rm", "--force", "--volumes", NAME)


def psql(sql: str, database: str = "postgres") -> list[str]:
    """Run SQL, no core code involved; what it prints, one row a line."""
    words = ["exec", "-i", NAME, "psql", "-XAtq", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
    return docker(*words, stdin=sql).split("\n")[:-1]


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """An empty database; it and its copy are gone afterwards, whatever the test left in them."""
    del server
    name = 'of "a" test'
    psql(f"CREATE DATABASE {identifier(name)};")
    yield name
    for database in (name, f"{name} restored"):
        if psql(f"SELECT 1 FROM pg_database WHERE datname = '{database}';"):
            for gid in psql(f"SELECT quote_literal(gid) FROM pg_prepared_xacts WHERE database = '{database}';"):
                psql(f"ROLLBACK PREPARED {gid};", database)
            for sub in psql("SELECT quote_ident(subname) FROM pg_subscription;"):
                if psql(
                    f"SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = '{database}';"
                ):
                    psql(f"ALTER SUBSCRIPTION {sub} DISABLE;", database)
                    psql(f"ALTER SUBSCRIPTION {sub} SET (slot_name = NONE);", database)
                    psql(f"DROP SUBSCRIPTION {sub};", database)
            psql(f"DROP DATABASE {identifier(database)} WITH (FORCE);")


def taken(server: Server, database: str) -> tuple[str, ...]:
    with server.session(database) as session:
        session.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", attempted="read")
        return carried.take(session)


def dumped_and_restored(database: str) -> str:
    copy = f"{database} restored"
    psql(f"CREATE DATABASE {identifier(copy)} TEMPLATE template0;")
    script = (
        "PGDATABASE=\"$1\" pg_dump -U postgres -Fc --no-tablespaces > /tmp/dump"
        " && pg_restore -U postgres --exit-on-error --no-tablespaces -d \"dbname='$2'\" /tmp/dump"
    )  # fmt: skip
    docker("exec", NAME, "sh", "-ec", script, "sh", database, copy)
    return copy


# What makes it, the sentence, and a query whose answer a restore changes as told.
CARRIED: dict[str, tuple[str, str, str, list[str] | None, list[str] | None]] = {
    "foreign key": (
        "CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE c (a int REFERENCES p); ALTER TABLE c DISABLE TRIGGER ALL;",
        "table public.c: its constraints c_a_fkey are not enforced now",
        "SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgrelid = 'c'::regclass;",
        ["D"], ["O"],
    ),
    "invalid index": (
        "CREATE TABLE t (a int); CREATE INDEX i ON t (a); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass;",
        "index public.i of public.t is invalid, so no dump has it. REINDEX INDEX public.i;",
        "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass;",
        ["1"], ["0"],
    ),
    "volatile view": (
        "CREATE VIEW v AS SELECT random() AS r; CREATE MATERIALIZED VIEW m AS SELECT * FROM v;",
        "materialised view public.m may have other content after a restore, which computes it again: its query uses random().",
        "SELECT r FROM m;",
        None, None,
    ),
    "subscription": (
        "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=secret' PUBLICATION p WITH (connect = false);"
        " ALTER SUBSCRIPTION sub ENABLE;",
        "subscription sub comes back disabled.",
        "SELECT subenabled FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database();",
        ["t"], ["f"],
    ),
    "prepared transaction": (
        "CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s \\ x';",
        "prepared transaction it's \\ x of postgres has changes that are in no dump. To end it: COMMIT PREPARED E'it''s \\\\ x';",
        "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database();",
        ["1"], ["0"],
    ),
    "table of an extension": (
        "CREATE EXTENSION pg_trgm; CREATE TABLE t AS SELECT 1 AS a; ALTER EXTENSION pg_trgm ADD TABLE t;",
        "table public.t belongs to the extension pg_trgm, which does not mark it for dumps",
        "SELECT count(*) FROM pg_class WHERE relname = 't';",
        ["1"], ["0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CARRIED)
def test_a_dump_does_not_carry(server: Server, database: str, case: str) -> None:
    make, sentence, query, before, after = CARRIED[case]
    assert taken(server, database) == ()
    psql(make, database)
    (found,) = taken(server, database)
    assert found.startswith(sentence)
    assert "secret" not in found
    had, has = psql(query, database), psql(query, dumped_and_restored(database))
    assert had != has
    assert before is None or (had, has) == (before, after)


def test_literals_hold_where_strings_do_not_conform(server: Server, database: str) -> None:
    """standard_conforming_strings = off makes a backslash in a plain literal an escape."""
    psql(f"ALTER DATABASE {identifier(database)} SET standard_conforming_strings = off;")
    psql(CARRIED["prepared transaction"][0].replace("'it", "E'it").replace("\\", "\\\\"), database)
    psql("CREATE MATERIALIZED VIEW m AS SELECT now();", database)
    assert len(taken(server, database)) == 2
    with pytest.raises(UsageError, match="prepared transactions wait") as raised:
        carried.refuse_prepared(server, [database])
    assert "COMMIT PREPARED E'it''s \\\\ x';" in str(raised.value)


def test_a_tablespace_does_not_come_back(server: Server, database: str) -> None:
    docker("exec", NAME, "install", "-d", "-o", "postgres", "/var/lib/postgresql/fast")
    psql("CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/fast';")
    try:
        psql("CREATE TABLE t (a int PRIMARY KEY) TABLESPACE fast; CREATE INDEX i ON t (a) TABLESPACE fast;", database)
        (found,) = taken(server, database)
        assert found.startswith("public.i and 1 more tables, indexes or materialised views come back in the database's")
        copy = dumped_and_restored(database)
        assert psql("SELECT count(*) FROM pg_class WHERE reltablespace > 2000;", copy) == ["0"]
    finally:
        psql("DROP TABLE t;", database)
        psql("DROP TABLESPACE fast;")


def test_a_dump_carries_what_no_sentence_names(server: Server, database: str) -> None:
    psql(
        "CREATE TABLE t (a int); CREATE UNLOGGED TABLE u AS SELECT 1 AS a;"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t DISABLE TRIGGER g;"
        "CREATE RULE r AS ON INSERT TO u DO NOTHING; ALTER TABLE u DISABLE RULE r;"
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION e(); ALTER EVENT TRIGGER e DISABLE;"
        "CREATE TABLE o (a int) PARTITION BY RANGE (a); CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (0) TO (9);"
        "CREATE INDEX oi ON ONLY o (a); CREATE MATERIALIZED VIEW m AS SELECT upper(a::text) FROM t;"
        "SELECT lo_create(42);",
        database,
    )
    asked = (
        "SELECT tgenabled FROM pg_trigger; SELECT ev_enabled FROM pg_rewrite WHERE rulename = 'r';"
        "SELECT evtenabled FROM pg_event_trigger; SELECT count(*) FROM u; SELECT indisvalid FROM pg_index WHERE"
        " indexrelid = 'oi'::regclass; SELECT oid FROM pg_largeobject_metadata;"
    )
    assert taken(server, database) == ()
    before = psql(asked, database)
    assert before == ["D", "D", "D", "1", "f", "42"]
    assert psql(asked, dumped_and_restored(database)) == before


def test_a_prepared_transaction_stands_in_the_way_of_a_swap(server: Server, database: str) -> None:
    carried.refuse_prepared(server, [database])
    psql(CARRIED["prepared transaction"][0], database)
    for sql in (f"ALTER DATABASE {identifier(database)} RENAME TO x;", f"DROP DATABASE {identifier(database)};"):
        with pytest.raises(LifeboatError, match="is being accessed by other users"):
            server.execute(sql, attempted="replace it")
    with pytest.raises(UsageError, match="it can be neither renamed nor replaced"):
        carried.refuse_prepared(server, ["postgres", database])
    carried.refuse_prepared(server, ["postgres"])
