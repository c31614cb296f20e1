# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""What surrounds the databases of a server, and what a dump does not carry: each claim, against a real server."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import carried, cluster, fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Server, drop, identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened, exec_command
from postgres_stack import IMAGE, MakeDatabase, Stack, back_up_and_prove, docker, entries, say

NAME = f"lifeboat-it-cluster-{os.getpid()}"
OPTIONS = {"fsync": "off", "shared_buffers": "32MB", "max_prepared_transactions": "5", "wal_level": "logical"}


def connect(name: str, host: str = "", port: int = 5432) -> Server:
    return Server(functools.partial(exec_command, name), user="postgres", host=host, port=port)


@contextlib.contextmanager
def running(name: str, options: dict[str, str]) -> Iterator[Server]:
    words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    docker("run", "--detach", "--name", name, "--env", "POSTGRES_PASSWORD=x", IMAGE, "postgres", *words)
    try:
        await_answer(name)
        yield connect(name)
    finally:
        docker("rm", "--force", "--volumes", name)


def await_answer(name: str) -> None:
    deadline = time.monotonic() + 60
    # Over TCP: while the image initialises its directory, a first server listens on the socket alone.
    while connect(name, host="127.0.0.1").problem():
        assert time.monotonic() < deadline, docker("logs", name)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def server(engine: None) -> Iterator[Server]:
    """A server of its own: prepared transactions and logical slots need options that the shared one does not have."""
    del engine
    with running(NAME, OPTIONS) as found:
        yield found


def psql(sql: str, database: str = "postgres", *, name: str = NAME) -> list[str]:
    """Run SQL, no core code involved; what it prints, one row a line."""
    words = ["exec", "-i", name, "psql", "-XAtq", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
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


def test_a_database_with_a_subscription_is_dropped(server: Server, database: str) -> None:
    """A half-restored one has the subscriptions of the backup, and PostgreSQL does not drop it then."""
    psql(CARRIED["subscription"][0], database)
    copy = dumped_and_restored(database)
    with pytest.raises(LifeboatError, match="used by logical replication subscription"):
        server.execute(f"DROP DATABASE {identifier(copy)};", attempted="drop it")
    drop(server, copy)
    left = psql("SELECT datname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid;")
    assert left == [database]


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


# The server around the databases. Each secret has "s3cr" in it, so that one look finds them all.
AROUND = r"""
ALTER SYSTEM SET work_mem = '65MB';
ALTER SYSTEM SET statement_timeout = '7min';
ALTER SYSTEM SET search_path = "$user", 'a"b', public;
ALTER SYSTEM SET log_line_prefix = E'%m it''s \\ ';
ALTER SYSTEM SET max_connections = 123;
ALTER SYSTEM SET shared_buffers = '33MB';
ALTER SYSTEM SET app.note = 'kept';
ALTER SYSTEM SET app.jwt_secret = 's3cr1';
ALTER SYSTEM SET primary_conninfo = E'host=a password=''s3cr2 \\''s3cr'' user=b';
ALTER SYSTEM SET archive_command = 'curl -H "Authorization: Bearer s3cr3" -T %p https://u:s3cr4@host/';
ALTER ROLE ALL SET lock_timeout = '9s';
ALTER ROLE ALL SET app.api_key = 's3cr5';
CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/fast' WITH (seq_page_cost = 0.5);
SELECT pg_create_physical_replication_slot('standby');
ALTER SYSTEM SET standard_conforming_strings = off;
"""
IN_DATABASE = r"""
CREATE TABLE t (a int PRIMARY KEY, b int); CREATE PUBLICATION p FOR TABLE t (a) WHERE (a > 1);
CREATE EXTENSION pg_trgm;
CREATE SUBSCRIPTION sub CONNECTION E'host=nowhere password=''s3cr \\''s3cr''' PUBLICATION p WITH (connect = false);
"""
RULES = """
host "my db",all +admins,"a b" 10.0.0.0/8 ldap ldapserver=l ldapbindpasswd="s3cr 6" ldapbasedn="dc=x, dc=y"
host all all 10.1.0.0/16 radius radiusservers=127.0.0.1 radiussecrets=s3cr7
"""
FULL, FRESH = f"{NAME}-full", f"{NAME}-fresh"
STAMP = "20261126_120000"


def into(path: str, text: str) -> None:
    docker("exec", "-i", FULL, "sh", "-c", 'cat >> "$1"', "sh", f"/var/lib/postgresql/data/{path}", stdin=text)


@pytest.fixture(scope="module")
def around(engine: None) -> Iterator[tuple[Server, cluster.Cluster]]:
    """A server with something of everything around its database `shop`, and what was recorded of it."""
    del engine
    with running(FULL, OPTIONS) as found:
        docker("exec", FULL, "install", "-d", "-o", "postgres", "/var/lib/postgresql/fast")
        psql("CREATE DATABASE shop;", name=FULL)
        psql(IN_DATABASE, "shop", name=FULL)
        psql("SELECT pg_create_logical_replication_slot('logical', 'pgoutput');", "shop", name=FULL)
        psql(AROUND, name=FULL)
        into("postgresql.conf", "cursor_tuple_fraction = 0.25\nlog_min_duration_statement = 2s\n")
        into("pg_hba.conf", RULES)
        into("pg_ident.conf", 'm "/^(.*)@x$" app\n')
        psql("SELECT pg_reload_conf(); SELECT pg_sleep(0.5);", name=FULL)
        assert psql("SHOW standard_conforming_strings;", name=FULL) == ["off"]
        yield found, cluster.take(found, ["postgres", "shop"])


def test_everything_around_the_databases_is_recorded(around: tuple[Server, cluster.Cluster]) -> None:
    _server, told = around
    assert told.unreadable == {}
    values = {setting.name: (setting.value, setting.file or setting.source) for setting in told.settings}
    auto = cluster.AUTO
    assert values["work_mem"] == ("65MB", auto)
    assert values["statement_timeout"] == ("7min", auto)
    assert values["search_path"] == ('"$user", "a""b", public', auto)
    assert values["log_line_prefix"] == ("%m it's \\ ", auto)
    assert values["app.jwt_secret"] == (cluster.MASK, auto)
    assert values["primary_conninfo"] == (f"host=a password={cluster.MASK} user=b", auto)
    assert values["archive_command"] == (f"curl {cluster.MASK}", auto)
    assert values["cursor_tuple_fraction"] == ("0.25", "postgresql.conf")
    assert values["log_min_duration_statement"] == ("2s", "postgresql.conf")
    assert values["fsync"] == ("off", cluster.COMMAND_LINE)
    assert "max_wal_size" not in values, "initdb writes it, and it is the default"
    assert {setting.name: setting.value for setting in told.for_all} == {"app.api_key": "***", "lock_timeout": "9s"}
    assert [rule for rule in told.hba if " 10." in rule] == [
        'host "my db",all +admins,"a b" 10.0.0.0 255.0.0.0 ldap ldapserver=l ldapbasedn="dc=x, dc=y" ldapbindpasswd=*** ldapscope=2',
        "host all all 10.1.0.0 255.255.0.0 radius radiusservers=127.0.0.1 radiussecrets=***",
    ]
    assert told.ident == ("m /^(.*)@x$ app",)
    place = "/var/lib/postgresql/fast"
    assert told.tablespaces == (cluster.Tablespace("fast", "postgres", place, ("seq_page_cost=0.5",)),)
    assert [slot.name for slot in told.slots] == ["logical", "standby"]
    assert told.slots[0] == cluster.Slot("logical", "logical", "pgoutput", "shop")
    assert told.subscriptions[0].conninfo == "host=nowhere password=***"
    assert list(told.databases["shop"].publications) == ["p"]
    assert [each.name for each in told.databases["shop"].extensions] == ["pg_trgm", "plpgsql"]
    data = told.to_bytes()
    assert b"s3cr" not in data
    assert cluster.read(data, "a-backup") == told


def test_each_database_is_looked_into_whatever_its_name(around: tuple[Server, cluster.Cluster]) -> None:
    """All in one session, which an unknown database ends: what comes after it is asked all the same."""
    found, told = around
    names = ["it's", 'a "b" \\c', "x=1 dbname=shop", "two\nlines", "é", "-"]
    for name in names:
        found.execute(f"CREATE DATABASE {identifier(name)};", attempted="make it")
        sql = f"CREATE PUBLICATION {identifier('of ' + name)} FOR ALL TABLES;"
        found.execute(sql, database=name, attempted="make it")
    try:
        seen = cluster.take(found, [*names, "unknown", "shop"])
        assert {name: list(seen.databases[name].publications) for name in names} == {n: [f"of {n}"] for n in names}
        assert seen.databases["shop"] == told.databases["shop"]
        assert set(seen.databases) == {*names, "shop"}
        assert set(seen.unreadable) == {cluster.LIBRARIES}
        assert 'database "unknown" does not exist' in seen.unreadable[cluster.LIBRARIES]
    finally:
        for name in names:
            found.execute(f"DROP DATABASE {identifier(name)};", attempted="drop it")


def test_an_account_of_one_connection_reads_all(around: tuple[Server, cluster.Cluster]) -> None:
    found, told = around
    psql("CREATE ROLE single LOGIN CONNECTION LIMIT 1;", name=FULL)
    try:
        single = Server(functools.partial(exec_command, FULL), user="single")
        assert dict(cluster.take(single, ["postgres", "shop"]).databases) == dict(told.databases)
        assert set(cluster.take(found, ["postgres"]).databases) == {"postgres"}
    finally:
        psql("DROP ROLE single;", name=FULL)


def test_the_settings_of_all_roles_are_in_no_globals(around: tuple[Server, cluster.Cluster]) -> None:
    """Why they are recorded: pg_dumpall writes the settings of roles and not those of all roles."""
    del around
    psql("ALTER ROLE postgres SET deadlock_timeout = '3s';", name=FULL)
    script = docker("exec", FULL, "pg_dumpall", "-U", "postgres", "--globals-only")
    assert "deadlock_timeout" in script
    assert "9s" not in script


def test_an_unchanged_server_equals_itself(around: tuple[Server, cluster.Cluster]) -> None:
    found, told = around
    made = cluster.compare(told, cluster.take(found, ["postgres", "shop"]))
    assert {check.result for check in made.checks} == {"PASS"}
    # What is masked cannot be compared, and is named.
    named = sorted(line.split()[0] for line in made.notes)
    assert named == ["app.api_key", "app.jwt_secret", "archive_command", "primary_conninfo"]


def test_what_an_account_may_not_read_is_not_verified(around: tuple[Server, cluster.Cluster]) -> None:
    found, _told = around
    psql("CREATE ROLE reader LOGIN;", name=FULL)
    reader = Server(functools.partial(exec_command, FULL), user="reader")
    less = cluster.take(reader, ["shop"])
    assert set(less.unreadable) == {cluster.SETTINGS, cluster.RULES, cluster.SUBSCRIPTIONS, cluster.ORIGINS}
    assert "permission denied for view pg_hba_file_rules" in less.unreadable[cluster.RULES]
    made = cluster.compare(less, cluster.take(found, ["shop"]))
    unknown = {check.name for check in made.checks if check.result == "COULD_NOT_VERIFY"}
    assert unknown == set(less.unreadable)
    assert not [check for check in made.checks if check.result == "FAIL"]


def test_a_fresh_server_gets_what_is_safe_and_starts_with_it(
    around: tuple[Server, cluster.Cluster], tmp_path: Path
) -> None:
    _server, wanted = around
    settings = config.from_mapping(
        {
            "stack": "it",
            "runtime": {"project_directory": "/nowhere"},
            "database": {"name": "shop"},
            "repository": {"type": "local", "path": "/nowhere"},
            "state_directory": str(tmp_path),
        }
    )
    with running(FRESH, OPTIONS) as fresh:
        psql("CREATE DATABASE shop;", name=FRESH)
        psql(IN_DATABASE, "shop", name=FRESH)
        made = cluster.restore(fresh, settings, wanted, "20261126_120000", say)
        found = {check.name: check for check in made.checks}
        assert {check.result for check in made.checks} == {"PASS"}, made
        assert found[cluster.SETTINGS].detail == "7 set again as the backup has them"
        assert cluster.RULES not in found
        docker("restart", "--time", "5", FRESH)
        await_answer(FRESH)
        names = ("work_mem", "max_connections", "lock_timeout", "search_path", "log_line_prefix", "statement_timeout")
        shown = "".join(f"SHOW {name};" for name in names)
        assert psql(shown, name=FRESH) == psql(shown.replace("SHOW max_connections", "SELECT 123"), name=FULL)
        left_out = "'primary_conninfo', 'archive_command', 'app.jwt_secret', 'app.note', 'shared_buffers'"
        asked = f"SELECT name FROM pg_file_settings WHERE name IN ({left_out}) AND sourcefile LIKE '%auto.conf';"
        assert psql(asked, name=FRESH) == []
        told = "\n".join(made.notes)
        for words in (
            "archive_command = curl ***, as it may hold a secret",
            "shared_buffers = 33MB, as this host may not have the memory. To set it: ALTER SYSTEM SET shared_buffers = '33MB';",
            "cursor_tuple_fraction = 0.25 of postgresql.conf, the server has its default.",
            "max_connections: set, in effect when",
            "CREATE TABLESPACE \"fast\" OWNER \"postgres\" LOCATION '/var/lib/postgresql/fast' WITH (seq_page_cost = '0.5');",
            "SELECT pg_create_logical_replication_slot('logical', 'pgoutput'); in the database shop",
            "the backup's rules of pg_hba.conf are in",
        ):
            assert words in told
        aside = tmp_path / "pg_hba.conf.lifeboat_20261126_120000"
        assert aside.read_text().splitlines() == list(wanted.hba)
        assert (
            "+host all all 10.1.0.0 255.255.0.0 radius radiusservers=127.0.0.1 radiussecrets=***"
            in made.diff.splitlines()
        )
        # What was set again and is lost is a failure; what the plan named is not.
        psql("ALTER SYSTEM RESET work_mem;", name=FRESH)
        failed = cluster.compare(wanted, cluster.take(fresh, ["shop"]), ["work_mem"])
        assert [(check.name, check.detail) for check in failed.checks if check.result == "FAIL"] == [
            (cluster.SETTINGS, "work_mem: the server has its default, the backup 65MB")
        ]


def test_a_backup_records_it_and_a_rebuild_brings_it_back(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    sql = "CREATE TABLE t AS SELECT 1 AS a; CREATE MATERIALIZED VIEW m AS SELECT random() AS r;"
    settings = stack.config(tmp_path, database={"name": make_database("shop", sql)})
    stack.psql("ALTER SYSTEM SET work_mem = '65MB';")
    stack.psql("ALTER SYSTEM SET temp_tablespaces = '';")
    try:
        identity = back_up_and_prove(settings)
        newest = entries(settings)[-1].manifest
        assert newest
        assert cluster.CLUSTER in [artefact.name for artefact in newest.artefacts]
        (line,) = newest.detailed(DumpDetails).primary.not_carried
        assert line.startswith("materialised view public.m may have other content")
        stack.psql("ALTER SYSTEM RESET ALL;")
        done = database_recovery.restore_database(Opened(settings), identity, fresh=True, stamp=STAMP, log=say)
        assert {check.result for check in done.checks} == {"PASS"}
        assert stack.psql("SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf';") == [
            "work_mem|65MB"
        ]
        told = "\n".join(done.notes)
        assert "differs: shop: materialised view public.m may have other content" in told
        assert 'differs: temp_tablespaces = "", as it may name a path' in told
        # In a server that lives nothing of it is touched or compared.
        stack.psql("ALTER SYSTEM RESET ALL;")
        lived = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp=STAMP, log=say)
        assert not [check for check in lived.checks if check.name in (cluster.SETTINGS, cluster.RULES)]
        assert [note for note in lived.notes if "materialised view" not in note] == []
        assert stack.psql("SELECT name FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf';") == []
    finally:
        stack.psql("ALTER SYSTEM RESET ALL;")
        stack.psql("SELECT pg_reload_conf();")


@pytest.fixture
def standby(server: Server) -> Iterator[Server]:
    """A standby of the module's server, in the same container."""
    del server
    data = "/var/lib/postgresql/standby"
    docker("exec", "--user", "postgres", NAME, "pg_basebackup", "-R", "-c", "fast", "-D", data)
    words = ["-p 5433 -c max_prepared_transactions=5", "-l", f"{data}/log", "start"]
    docker("exec", "--user", "postgres", NAME, "pg_ctl", "-D", data, "-w", "-o", *words)
    yield connect(NAME, port=5433)
    docker("exec", "--user", "postgres", NAME, "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    docker("exec", NAME, "rm", "-r", data)


def test_a_standby_has_no_rows_of_unlogged_tables(
    server: Server, database: str, request: pytest.FixtureRequest
) -> None:
    psql("CREATE UNLOGGED TABLE u AS SELECT 1 AS a; CREATE TABLE t AS SELECT 1 AS a;", database)
    assert taken(server, database) == ()
    second = request.getfixturevalue("standby")
    (found,) = taken(second, database)
    assert found.startswith("unlogged table public.u comes back empty")
    script = 'PGDATABASE="$1" pg_dump -U postgres -p 5433'
    dumped = docker("exec", NAME, "sh", "-ec", script, "sh", database)
    assert "COPY public.t " in dumped
    assert "CREATE UNLOGGED TABLE public.u" in dumped
    assert "COPY public.u " not in dumped
    assert cluster.take(second, [database]).unreadable == {}
    with second.session(database) as session:
        told = fingerprint.take(session, "content")
    # What the dump brings back of it, with the hash of no rows.
    psql("TRUNCATE u;", database)
    with server.session(database) as session:
        assert told.tables == fingerprint.take(session, "content").tables
