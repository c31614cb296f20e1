# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How names and values are quoted, and how psql is driven: argv and environment, answers and failures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    NotFoundError,
    UnverifiedError,
    present,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import Range
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import (
    Server,
    answers,
    conninfo,
    fit_name,
    identifier,
    literal,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import (
    ComposeRuntime,
    HostRuntime,
    Opened,
    ServiceState,
)
from builders import make_config

IDENTIFIERS = [
    ("shop", '"shop"'),
    ("Shop", '"Shop"'),
    ("", '""'),
    ('a"b', '"a""b"'),
    ('"', '""""'),
    ("a'b; DROP TABLE x; --", '"a\'b; DROP TABLE x; --"'),
    ("a\\b$c", '"a\\b$c"'),
    ("日本", '"日本"'),
]


@pytest.mark.parametrize(("name", "quoted"), IDENTIFIERS)
def test_identifier(name: str, quoted: str) -> None:
    assert identifier(name) == quoted


LITERALS = [
    ("", "''"),
    ("plain", "'plain'"),
    ("it's", "'it''s'"),
    ("''", "''''''"),
    ("a\\b", " E'a\\\\b'"),
    ("\\'", " E'\\\\'''"),
    ('"; $1', "'\"; $1'"),
    ("日本\n", "'日本\n'"),
]


@pytest.mark.parametrize(("value", "quoted"), LITERALS)
def test_literal(value: str, quoted: str) -> None:
    assert literal(value) == quoted


CONNINFOS = [
    ({"dbname": "shop"}, "dbname='shop'"),
    ({"dbname": "a b", "host": "x"}, "dbname='a b' host='x'"),
    ({"dbname": "it's"}, "dbname='it\\'s'"),
    ({"dbname": "a\\b"}, "dbname='a\\\\b'"),
    ({"dbname": "\\'"}, "dbname='\\\\\\''"),
    ({"dbname": "x host=evil"}, "dbname='x host=evil'"),
    ({"dbname": "postgres://u@h/d"}, "dbname='postgres://u@h/d'"),
    ({"dbname": ""}, "dbname=''"),
]


@pytest.mark.parametrize(("parts", "text"), CONNINFOS)
def test_conninfo(parts: dict[str, str], text: str) -> None:
    assert conninfo(**parts) == text


SUFFIX = "_quarantine_20261124_020000"
NAMES = [
    "shop",
    "",
    "a" * 63,
    "a" * 36,
    "a" * 37,
    "語" * 21,
    "x" + "語" * 20,
    "xx" + "語" * 20,
    "é" * 31,
    "😀" * 15,
    "a" * 34 + "😀",
]


@pytest.mark.parametrize("name", NAMES)
def test_fit_name_is_cut_at_a_character(name: str) -> None:
    fitted = fit_name(name, SUFFIX)
    assert len(fitted.encode()) <= 63
    assert fitted.endswith(SUFFIX)
    kept = fitted.removesuffix(SUFFIX)
    assert name.startswith(kept)
    longer = name[: len(kept) + 1]
    assert kept == name or len((longer + SUFFIX).encode()) > 63, "cut more than it had to"


# --- the server, through a psql of our own ---

FAKE = """#!{python}
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    names = ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT", "PGAPPNAME", "PGOPTIONS", "PGCLIENTENCODING")
    file.write(json.dumps({{"argv": sys.argv, "env": {{n: os.environ[n] for n in names if n in os.environ}}}}) + "\\n")
behaviour = os.environ.get("BEHAVIOUR", "")
for line in sys.stdin:
    line = line.rstrip("\\n")
    if line.endswith("\\\\gset"):
        continue  # it prints nothing
    if behaviour == "fail" and "SELECT" in line:
        sys.exit("psql: ERROR:  it broke")
    if line.startswith("\\\\echo "):
        print(line[6:], flush=True)
    elif line.startswith("SELECT"):
        print(os.environ.get("ANSWER", ""), flush=True)
    elif line.startswith("EXIT"):
        sys.exit(3)
    elif line.startswith("HANG"):
        import time
        time.sleep(600)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A psql that records how it was called and answers as ANSWER says."""
    path = tmp_path / "bin" / "psql"
    path.parent.mkdir()
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    for name in ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT", "PGOPTIONS", "PGAPPNAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "record"


def execute(argv: Sequence[str], *, env: Mapping[str, str], stdin: bool) -> Command:
    return Command(list(argv), dict(env))


def calls(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def test_a_server_that_tells_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_server.Server, "execute", lambda *_, **__: [])
    server = database_server.Server(lambda *_, **__: Command(["true"]), user="u", database="d")
    with pytest.raises(LifeboatError, match="server_version_num"):
        _ = server.version_num


def test_secrets_and_names_travel_where_no_one_reads_them(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSWER", "1")
    server = Server(execute, user="o'p", password="p'w\"$ \\", host="db", port=5433, application="lifeboat-shop")
    assert server.execute("SELECT 1;", database="it's = x", attempted="try") == [1]
    (call,) = calls(fake)
    assert call["argv"][-2:] == ["-d", "dbname='it\\'s = x'"]
    assert "-w" in call["argv"] or re.match(r"-X\w*w", call["argv"][1]), "it must never wait for a password"
    assert "ON_ERROR_STOP=1" in call["argv"]
    assert not [word for word in call["argv"] if "p'w" in word]
    environment = call["env"]
    assert (environment["PGUSER"], environment["PGPASSWORD"]) == ("o'p", "p'w\"$ \\")
    assert (environment["PGHOST"], environment["PGPORT"], environment["PGAPPNAME"]) == ("db", "5433", "lifeboat-shop")
    assert "statement_timeout=0" in environment["PGOPTIONS"]


def test_without_a_host_the_local_socket_is_used(fake: Path) -> None:
    Server(execute, user="u").execute("SELECT 1;", database="x", attempted="try")
    assert not {"PGHOST", "PGPORT", "PGPASSWORD"} & set(calls(fake)[0]["env"])


def test_names_are_bytes(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither PostgreSQL nor we convert them: what is not UTF-8 goes back as it came."""
    monkeypatch.setenv("ANSWER", '"caf\udce9"')
    server = Server(execute, user="u")
    assert server.execute("SELECT 1;", database="x", attempted="try") == ["caf\udce9"]
    with server.session("x") as session:
        assert session.rows("SELECT 'caf\udce9';", attempted="try") == ["caf\udce9"]
    assert {call["env"]["PGCLIENTENCODING"] for call in calls(fake)} == {"SQL_ASCII"}
    assert database_server.encoded(database_server.decoded(b"caf\xe9 \xc3\xa9")) == b"caf\xe9 \xc3\xa9"
    assert not database_server.is_utf8("caf\udce9 é") and database_server.is_utf8("café")


PLACES = [
    ("DROP ROLE app;", "EUC_JP", "template1"),
    ("DROP ROLE é;", "UTF8", "template1"),
    ("DROP ROLE \udce9;", "SQL_ASCII", "template1"),
    ("DROP ROLE \udce9;", "UTF8", "lifeboat_any_bytes"),
    ("DROP ROLE é;", "EUC_JP", "lifeboat_any_bytes"),
]


@pytest.mark.parametrize(("sql", "encoding", "place"), PLACES)
def test_sql_of_any_bytes_runs_where_they_are_accepted(sql: str, encoding: str, place: str) -> None:
    done: list[str] = []

    class Encoded(Server):
        def execute(self, sql: str, **_: Any) -> list[Any]:
            done.append(" ".join(sql.split()[:2]))
            return [encoding]

    server = Encoded(execute, user="u")
    with server.database_for(sql) as found:
        assert re.sub("_[0-9a-f]{8}$", "", found) == place
        assert server.made.names() == ({found} - {"template1"})
    assert server.made.names() == set()
    made = [word for word in done if not word.startswith("SELECT")]
    assert made == (["CREATE DATABASE", "DROP DATABASE"] if place != "template1" else [])


ANSWERS = [
    ("", []),
    ('"a"', ["a"]),
    ('"a"\n\n{"b": [1, null]}', ["a", {"b": [1, None]}]),
    ('"line\u2028 sep\x85 \\u000b"', ["line\u2028 sep\x85 \x0b"]),
]


@pytest.mark.parametrize(("answer", "rows"), ANSWERS)
def test_every_row_is_one_json_value_whatever_is_in_it(
    fake: Path, monkeypatch: pytest.MonkeyPatch, answer: str, rows: list[Any]
) -> None:
    monkeypatch.setenv("ANSWER", answer)
    server = Server(execute, user="u")
    assert server.execute("SELECT x;", database="d", attempted="try") == rows
    with server.session("d") as session:
        assert session.rows("SELECT x;", attempted="try") == rows
        assert session.rows("SELECT x;", attempted="try") == rows
    streamed: list[Any] = []
    server.stream("SELECT x;", streamed.append, database="d", attempted="try")
    assert streamed == rows


def test_template1_is_asked_in_one_session_as_long_as_that_is_wanted(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSWER", "1")
    server = Server(execute, user="u")
    with server.kept_open():
        assert [server.execute("SELECT 1;", attempted="try") for _ in range(3)] == [[1]] * 3
        assert len(calls(fake)) == 1
        assert server.execute("SELECT 1;", database="d", attempted="try") == [1], "another database is left alone"
        assert len(calls(fake)) == 2
        with pytest.raises(LifeboatError, match=r"Could not count \(database template1\)"):
            server.execute("EXIT", attempted="count")
        assert server.execute("SELECT 1;", attempted="try") == [1], "an error ended the session, and no other one"
        assert len(calls(fake)) == 3
    assert server.execute("SELECT 1;", attempted="try") == [1]
    assert len(calls(fake)) == 4


def test_a_thread_of_its_own_asks_all_databases_in_one_session(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To start psql in a container takes longer than most answers."""
    monkeypatch.setenv("ANSWER", "1")
    server = Server(execute, user="u")
    with server.apart(60) as alone:
        for name in ("template1", "d", "template1", "it's"):
            assert alone.execute("SELECT 1;", database=name, attempted="try") == [1]
        assert len(calls(fake)) == 1
        with pytest.raises(LifeboatError, match=r"Could not count \(database d\)"):
            alone.execute("EXIT", database="d", attempted="count")
        assert alone.execute("SELECT 1;", attempted="try") == [1], "an error ended the session, and no other one"
        assert len(calls(fake)) == 2
        assert server.execute("SELECT 1;", attempted="try") == [1], "the other threads have theirs"
        assert len(calls(fake)) == 3
    with server.kept_open(), server.apart(60) as same:
        assert same is server


def test_what_one_question_sets_is_gone_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Asked(contextlib.nullcontext[Any]):
        def rows(self, sql: str, *, attempted: str) -> list[object]:
            asked.append(sql)
            return []

        def __enter__(self) -> Any:
            return self

    server = Server(execute, user="u")
    monkeypatch.setattr(server, "session", lambda database: Asked())
    with server.kept_open():
        server.execute("SET client_encoding = 'LATIN1'; SELECT 1;", attempted="try")
        server.execute("SELECT 2;", attempted="try")
    assert all(sql.startswith("RESET ALL;\nSET ") for sql in asked)
    assert [sql.splitlines()[-1][-9:] for sql in asked] == ["SELECT 1;", "SELECT 2;"]


FOREIGN = [("{", "not JSON"), ("[" * 100_000, "not JSON"), ("1" * 5000, "not JSON"), ("x", "not JSON")]


@pytest.mark.parametrize(("answer", "words"), FOREIGN, ids=[answer[:4] for answer, _words in FOREIGN])
def test_an_answer_that_cannot_be_read_is_an_error(
    fake: Path, monkeypatch: pytest.MonkeyPatch, answer: str, words: str
) -> None:
    monkeypatch.setenv("ANSWER", answer)
    server = Server(execute, user="u")
    with pytest.raises(LifeboatError, match=rf"Could not count \(database d\): .*{words}.*PostgreSQL's own\.$"):
        server.execute("SELECT 1;", database="d", attempted="count")
    with server.session("d") as session, pytest.raises(LifeboatError, match=f"Could not count.*{words}"):
        session.rows("SELECT 1;", attempted="count")
    with pytest.raises(LifeboatError, match=f"Could not count.*{words}"):
        server.stream("SELECT 1;", [].append, database="d", attempted="count")


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    size: Annotated[int, Range(0)] = 0


TYPED = [
    (int, "x", "a row): wants int, has 'x'"),
    (int, True, "a row): wants int, has True"),
    (int, float("nan"), "a row): wants int, has nan"),
    (int, 10**30, "a row): has a number beyond"),
    (str, None, "a row): wants str, has None"),
    (Row, [], "a row): wants a mapping, has []"),
    (Row, {}, "a row): lacks name"),
    (Row, {"name": "t", "more": 1}, "a row): does not know more"),
    (Row, {"name": "t", "size": -1}, "size): -1 is not between 0 and"),
]


@pytest.mark.parametrize(("kind", "row", "words"), TYPED)
def test_a_row_of_another_type_is_an_error(kind: type[object], row: object, words: str) -> None:
    assert answers(Row, [{"name": "t"}, {"name": "u", "size": 3}]) == [Row("t"), Row("u", 3)]
    with pytest.raises(LifeboatError, match=re.escape(f"Could not read PostgreSQL's answer ({words}")):
        answers(kind, [row])


def test_failures_name_what_was_attempted_in_the_servers_words(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHAVIOUR", "fail")
    server = Server(execute, user="u")
    with pytest.raises(LifeboatError, match=r"Could not count \(database d\): psql: psql: ERROR:  it broke \(exit 1\)"):
        server.execute("SELECT 1;", database="d", attempted="count")
    assert present(server.problem()).cause == "psql: psql: ERROR:  it broke (exit 1)"
    with server.session("d") as session, pytest.raises(LifeboatError, match=r"Could not count.*it broke"):
        session.rows("SELECT 1;", attempted="count")
    with pytest.raises(LifeboatError, match=r"Could not count.*it broke"):
        server.stream("SELECT 1;", [].append, database="d", attempted="count")


def test_each_answer_belongs_to_its_own_statement(fake: Path) -> None:
    """The next statement waits in psql already: the error is still of the one that failed."""
    with Server(execute, user="u").session("d") as session:
        asked = [(f"\\echo {number}", f"count {number}") for number in range(500)]
        assert list(session.each(asked)) == [[number] for number in range(500)]
        assert list(session.each([])) == []
        answered = session.each([("\\echo 1", "first"), ("EXIT", "second"), ("\\echo 3", "third")])
        assert next(answered) == [1]
        with pytest.raises(LifeboatError, match="Could not second"):
            list(answered)


@pytest.mark.slow
def test_a_session_that_hangs_is_bounded(fake: Path) -> None:
    server = Server(execute, user="u")
    # Outermost: a busy machine may not even have started it by then.
    with pytest.raises(LifeboatError, match="ended with signal 9"), server.session("d", timeout=1) as session:
        session.rows("HANG", attempted="wait")


def test_no_psql_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LifeboatError, match="Could not start psql"):
        Server(execute, user="u").session("d")
    assert Server(execute, user="u").problem() is not None


def test_everything_that_changes_how_values_print_is_pinned(fake: Path) -> None:
    """https://www.postgresql.org/docs/current/runtime-config-client.html, the settings that change output."""
    assert {
        "DateStyle", "IntervalStyle", "TimeZone", "bytea_output", "extra_float_digits", "lc_monetary", "xmloption",
        "search_path", "row_security", "quote_all_identifiers", "statement_timeout", "default_transaction_read_only",
    } <= set(database_server.PINNED)  # fmt: skip
    assert database_server.PINNED["row_security"] == "off", "rows left out silently are no backup"


VERSIONS: list[tuple[str, Optional[int]]] = [
    ("postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)", 17),
    ("postgres (PostgreSQL) 18beta1", 18),
    ("postgres (PostgreSQL) 19devel", 19),
    ("postgres (PostgreSQL) 9.6.24", 9),
    ("no version", None),
]


@pytest.mark.parametrize(("printed", "major"), VERSIONS)
def test_major(printed: str, major: Optional[int]) -> None:
    def say(argv: Sequence[str], *, env: Mapping[str, str], stdin: bool) -> Command:
        return Command(["echo", printed])

    if major is None:
        with pytest.raises(UnverifiedError, match="no version"):
            Server(say, user="u").major()
    else:
        assert Server(say, user="u").major() == major


def test_major_where_debian_keeps_postgres_off_the_path() -> None:
    def say(argv: Sequence[str], *, env: Mapping[str, str], stdin: bool) -> Command:
        return Command(["false"] if argv[0] == "postgres" else ["echo", "pg_dump (PostgreSQL) 16.3"])

    assert Server(say, user="u").major() == 16


# (how psql ends in template1, in shop, pg_isready, the look for the catalogue's map) -> refused
REASONS: dict[str, tuple[tuple[int, int, int, int], bool]] = {
    "no session in any database of a server that answers": ((2, 2, 0, 0), True),
    "the tools cannot look for its files": ((2, 2, 0, 126), True),
    "it starts up": ((2, 2, 1, 0), False),
    "it is silent": ((2, 2, 2, 0), False),
    "it cannot be asked": ((2, 2, 3, 0), False),
    "its data is gone below it": ((2, 2, 0, 1), False),
    "only template1 is gone": ((2, 0, 0, 0), False),
    "another database fails otherwise": ((2, 1, 0, 0), False),
    "the question fails, not the session": ((1, 2, 0, 0), False),
    "psql cannot be run": ((127, 127, 0, 0), False),
}


@pytest.mark.parametrize("name", REASONS)
def test_refused_is_told_from_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A server that lives and will not let us in is not to be moved aside, whatever language it says so in."""
    (template, shop, ready, there), refused = REASONS[name]

    def say(argv: Sequence[str], *, env: Mapping[str, str], stdin: bool) -> Command:
        statuses = {"psql": template if "template1" in argv[-1] else shop, "pg_isready": ready, "test": there}
        assert argv[0] != "test" or argv[2] == "/data/global/pg_filenode.map"
        return Command(["sh", "-c", f"echo 'FATAL:  ロール' >&2; exit {statuses[argv[0]]}"])

    monkeypatch.setattr(database_server, "connect", lambda config, stack: Server(say, user="app", database="shop"))
    monkeypatch.setattr(ComposeRuntime, "data_path", lambda self, service: "/data")
    settings = make_config(tmp_path)
    found = database_server.reach(Opened(settings))
    assert (found.server, found.refused) == (None, refused)
    assert "ロール" in found.why


def test_a_server_that_answers_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(lambda argv, *, env, stdin: Command(["cat"]), user="app")
    monkeypatch.setattr(server, "problem", lambda: None)
    monkeypatch.setattr(database_server, "connect", lambda config, stack: server)
    settings = make_config(tmp_path)
    assert database_server.reach(Opened(settings)) == (server, "", False)


class Compose(ComposeRuntime):
    """A Compose project of one running container."""

    environment: Mapping[str, str] = {}

    def state(self, service: str) -> ServiceState:
        return ServiceState(exists=True, running=True, status="running", id="c0ffee", environment=self.environment)


# (settings, the image's environment, backup) -> (user, database, password)
CONNECTIONS: list[tuple[dict[str, Any], dict[str, str], bool, tuple[str, str, str]]] = [
    ({}, {}, False, ("postgres", "postgres", "secret")),
    ({}, {"POSTGRES_USER": "app"}, False, ("app", "app", "secret")),
    ({}, {"POSTGRES_USER": "app", "POSTGRES_DB": "shop"}, False, ("app", "shop", "secret")),
    ({"name": "n", "user": "u"}, {"POSTGRES_USER": "app", "POSTGRES_DB": "shop"}, False, ("u", "n", "secret")),
    ({"name": "n", "backup_user": "b"}, {"POSTGRES_USER": "app"}, True, ("b", "n", "backup")),
    ({"name": "n", "backup_user": "b"}, {"POSTGRES_USER": "app"}, False, ("app", "n", "secret")),
    ({"name": "n"}, {"POSTGRES_USER": "app"}, True, ("app", "n", "secret")),
]  # fmt: skip


@pytest.mark.parametrize(("database", "environment", "backup", "expected"), CONNECTIONS)
def test_connect(
    tmp_path: Path, database: dict[str, str], environment: dict[str, str], backup: bool, expected: tuple[str, str, str]
) -> None:
    settings = make_config(tmp_path, database={"os_user": "pg", **database})
    secrets = {"database_password": "secret", "database_backup_password": "backup"}
    stack = Compose(settings)
    stack.environment = environment
    server = database_server.connect(dataclasses.replace(settings, secrets=secrets), stack, backup=backup)
    assert (server.user, server.database, server._env["PGPASSWORD"]) == expected
    command = server.tool("pg_dump", "--x", database="d b")
    assert command.argv[:4] == ["docker", "exec", "--user", "pg"]
    assert command.argv[-5:] == ["c0ffee", "pg_dump", "--x", "--dbname", "dbname='d b'"]
    assert not [word for word in command.argv if "secret" in word]
    assert command.env is not None
    assert command.env["PGAPPNAME"] == "lifeboat-shop"


# (a recovery fills a fresh server, the login that works, what the environment has) -> the account that is used
FRESH = {"POSTGRES_USER": "root", "POSTGRES_PASSWORD": "initial"}
FILE = {"POSTGRES_USER": "root", "POSTGRES_PASSWORD_FILE": "/run/secrets/password"}
ACCOUNTS: list[tuple[bool, str, dict[str, str], str]] = [
    (True, "root initial", FRESH, "root initial"),
    (True, "root initial", FILE, "root initial"),
    (True, "app secret", FRESH, "app secret"),
    (True, "somebody else", FRESH, "app secret"),
    (True, "root initial", {}, "app secret"),
    (False, "root initial", FRESH, "app secret"),
]


@pytest.mark.parametrize(("fills", "works", "environment", "expected"), ACCOUNTS)
def test_a_fresh_server_is_reached_as_its_image_made_it_until_its_roles_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fills: bool, works: str, environment: dict[str, str], expected: str
) -> None:
    settings = make_config(tmp_path, database={"user": "app", "name": "shop"})
    settings = dataclasses.replace(settings, secrets={"database_password": "secret"})
    if fills:
        recovery_state.mark(settings, recovery_state.RECOVERING, recovery_state.Unfinished("x", empty=True))

    def execute(_id: str, argv: Sequence[str], *, env: Mapping[str, str], stdin: bool, user: str) -> Command:
        if argv[0] == "cat":
            return Command(["echo", "initial"])
        ends = 0 if f"{env['PGUSER']} {env['PGPASSWORD']}" == works else 2
        return Command(["sh", "-c", f"cat > /dev/null; exit {ends}"])

    monkeypatch.setattr(database_server, "exec_command", execute)
    stack = Compose(settings)
    stack.environment = environment
    server = database_server.connect(settings, stack)
    assert (f"{server.user} {server._env['PGPASSWORD']}", server.database) == (expected, "shop")
    server.log_in_as_configured()
    assert (server.user, server._env["PGPASSWORD"], server.configured) == ("app", "secret", None)
    assert "initial" not in repr(server.initial())


def test_connect_to_what_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComposeRuntime, "state", lambda self, service: ServiceState(exists=True, status="exited"))
    run = Opened(make_config(tmp_path, runtime={"project": "p"}))
    with pytest.raises(NotFoundError, match="its container is exited"):
        database_server.of(run)
    assert database_server.reach(run) == (None, "its container is exited", False)


def test_connect_on_the_host_itself(tmp_path: Path) -> None:
    settings = make_config(
        tmp_path, runtime={"type": "host"}, database={"service": "postgresql@17-main", "name": "shop"}
    )
    server = database_server.connect(settings, HostRuntime(settings))
    assert server.tool("psql").argv == ["runuser", "--user", "postgres", "--", "psql"]
    assert (server.user, server.database) == ("postgres", "shop")


WORDS = ["plain", "", "two words", "'$x`\"\\%s", "a\nb\n", "日本", "caf\udce9", "-n"]


def test_bytes_that_are_not_utf_8_reach_a_tool_through_docker(tmp_path: Path) -> None:
    """Docker's client sends words as JSON: what is not UTF-8 would be replaced."""
    assert database_server.as_words(WORDS[:-2]) == WORDS[:-2]
    show = tmp_path / "show"
    show.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    show.chmod(0o755)
    argv = database_server.as_words([str(show), *WORDS])
    assert argv[:2] == ["sh", "-c"] and all(word.isascii() for word in argv)
    printed = subprocess.run(argv, capture_output=True, check=True).stdout
    assert printed.split(b"\0")[:-1] == [database_server.encoded(word) for word in WORDS]
