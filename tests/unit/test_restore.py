# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore makes of the globals, and the SQL that it writes, for names and texts of any kind."""

from __future__ import annotations

import contextlib
import gzip
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, ended
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command, Finished
from ansible_collections.lifeboat.dr.plugins.module_utils.database import passwords
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import Facts
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical.restore import (
    keep_globals,
    statements,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import (
    Account,
    Made,
    identifier,
    literal,
    setting_value,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact
from builders import DATABASE_FACTS, NOW, fingerprint, make_manifest

GLOBALS = r"""--
-- PostgreSQL database cluster dump
--

\restrict kPt0oV8oDiJuYz

SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';

--
-- Roles; it's a comment
--

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;y';
COMMENT ON ROLE app IS 'the shop''s
CREATE ROLE evil SUPERUSER;
own';
ALTER ROLE app SET application_name TO E'a\\
ALTER ROLE app SUPERUSER;
';
CREATE ROLE gone;
ALTER ROLE gone WITH NOSUPERUSER NOLOGIN;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER LOGIN CONNECTION LIMIT 9 PASSWORD 'SCRAM-SHA-256$4096:p''q' VALID UNTIL 'infinity';
CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';
ALTER TABLESPACE fast SET (seq_page_cost=1);
GRANT ALL ON TABLESPACE fast TO app WITH GRANT OPTION;
REVOKE ALL ON TABLESPACE fast FROM app;
COMMENT ON TABLESPACE fast IS 'x';
GRANT app TO gone WITH INHERIT TRUE GRANTED BY postgres;
GRANT gone TO app WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;
GRANT app TO postgres GRANTED BY postgres;

\unrestrict kPt0oV8oDiJuYz
"""


def kept(have: set[str], missing: list[str], *, fresh: bool, superuser: str = "postgres", script: str = GLOBALS) -> str:
    return keep_globals(statements(script), have, missing, superuser, fresh=fresh)


def test_statements_are_cut_where_sql_cuts_them() -> None:
    found = statements(GLOBALS)
    assert [statement.split("\n")[0] for statement in found[:8]] == [
        r"\restrict kPt0oV8oDiJuYz",
        "SET default_transaction_read_only = off;",
        "SET client_encoding = 'UTF8';",
        "CREATE ROLE app;",
        "ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;y';",
        "COMMENT ON ROLE app IS 'the shop''s",
        r"ALTER ROLE app SET application_name TO E'a\\",
        "CREATE ROLE gone;",
    ]
    assert len(found) == 20
    assert found[-1] == r"\unrestrict kPt0oV8oDiJuYz"


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\r\n", "\n"])
def test_what_else_ends_a_line_ends_no_statement(end: str) -> None:
    two = [f'CREATE ROLE "a{end}b";', f"COMMENT ON ROLE \"a{end}b\" IS 'c{end}d;';"]
    script = "\n".join(two) + "\n"
    assert statements(script) == two
    assert keep_globals(two, set(), [], "postgres", fresh=True) == script
    assert keep_globals(two, set(), [f"a{end}b"], "postgres", fresh=False) == script


def test_a_fresh_server_gets_everything_but_tablespaces_and_our_own_password() -> None:
    script = kept({"postgres"}, ["app", "gone"], fresh=True)
    assert "TABLESPACE" not in script
    assert "CREATE ROLE postgres" not in script
    assert "ALTER ROLE postgres WITH SUPERUSER LOGIN CONNECTION LIMIT 9 VALID UNTIL 'infinity';" in script
    assert "p''q" not in script
    for line in ("CREATE ROLE app;", "PASSWORD 'SCRAM-SHA-256$4096:x;y'", "GRANT app TO postgres", "GRANT gone TO app"):
        assert line in script
    assert script.startswith("\\restrict")
    assert script.endswith("\\unrestrict kPt0oV8oDiJuYz\n")


def test_a_living_server_gets_the_missing_roles_and_their_memberships_only() -> None:
    script = kept({"postgres", "app"}, ["gone"], fresh=False)
    assert [statement for statement in statements(script) if not statement.startswith(("SET", "\\"))] == [
        "CREATE ROLE gone;",
        "ALTER ROLE gone WITH NOSUPERUSER NOLOGIN;",
        "GRANT app TO gone WITH INHERIT TRUE GRANTED BY postgres;",
        "GRANT gone TO app WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;",
    ]


def test_text_of_a_role_is_never_run_as_a_statement() -> None:
    """Any role may give itself a setting with a line break; cut at the lines, it would come back as a superuser."""
    script = kept({"postgres", "gone"}, ["app"], fresh=False)
    whole = statements(script)
    assert not [
        statement for statement in whole if statement.startswith(("CREATE ROLE evil", "ALTER ROLE app SUPERUSER"))
    ]
    assert [statement for statement in whole if statement.startswith("ALTER ROLE app SET")] == [
        "ALTER ROLE app SET application_name TO E'a\\\\\nALTER ROLE app SUPERUSER;\n';"
    ]


HOSTILE = [
    'q"uote',
    "o'Hara",
    "x; CREATE ROLE evil SUPERUSER; --",
    "a TO b",
    "a.*|(b",
    "back\\slash",
    "UPPER",
    "日本",
    "new\nline",
    "x ON TABLESPACE y",
    "a' PASSWORD 'b",
    "TABLESPACE fast",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_role_names(name: str) -> None:
    quoted = identifier(name)
    script = (
        f"CREATE ROLE {quoted};\nALTER ROLE {quoted} WITH LOGIN PASSWORD 'md5x';\n"
        f"GRANT {quoted} TO other GRANTED BY postgres;\nGRANT other TO {quoted};\n"
        f"CREATE ROLE other;\nALTER ROLE other WITH NOLOGIN;\n"
    )
    mine = statements(script)[:4]
    assert statements(kept({"other"}, [name], fresh=False, script=script)) == mine
    assert statements(kept({name, "other"}, [], fresh=False, script=script)) == []
    alive = statements(kept({name}, ["other"], fresh=True, script=script))
    assert alive == [*mine[1:], "CREATE ROLE other;", "ALTER ROLE other WITH NOLOGIN;"]
    own = statements(kept({name}, ["other"], fresh=True, script=script, superuser=name))
    assert own[0] == f"ALTER ROLE {quoted} WITH LOGIN;"


def test_a_name_that_begins_like_another_is_not_it() -> None:
    script = "CREATE ROLE app;\nCREATE ROLE app2;\nALTER ROLE app2 WITH LOGIN;\nGRANT x TO app2;\nGRANT app2 TO x;\n"
    assert kept({"app2"}, ["app"], fresh=False, script=script) == "CREATE ROLE app;\n"


class Recorder:
    """A server that remembers the SQL it is given."""

    user = "postgres"

    def __init__(self, roles: list[str]) -> None:
        self.roles = roles
        self.scripts: list[bytes] = []

    def execute(self, sql: str, **_: Any) -> list[Any]:
        assert "pg_roles" in sql
        return [{"name": name} for name in self.roles]

    def script(self, sql: bytes, *, database: str, **_: Any) -> None:
        assert database == "takes every name"
        self.scripts.append(sql)

    @contextlib.contextmanager
    def database_for(self, sql: str) -> Iterator[str]:
        assert sql
        yield "takes every name"


ROLES: list[tuple[list[str], bool, list[str], int]] = [
    (["postgres", "app", "gone"], False, [], 0),
    (["postgres", "app"], False, ["gone"], 1),
    (["postgres", "app", "gone"], True, [], 1),
    (["postgres"], True, ["app", "gone"], 1),
]


@pytest.mark.parametrize(("have", "fresh", "made", "scripts"), ROLES)
def test_roles(tmp_path: Path, have: list[str], fresh: bool, made: list[str], scripts: int) -> None:
    with gzip.open(tmp_path / database_restore.GLOBALS, "wb") as file:
        file.write(GLOBALS.replace("own'", "öwn\r\n'").encode())
    server = Recorder(have)
    facts = fingerprint(scheme=3, roles={"postgres": "", "app": "", "gone": ""})
    assert database_restore.roles(server, tmp_path, facts, fresh=fresh) == made  # type: ignore[arg-type]
    assert len(server.scripts) == scripts
    if fresh:
        assert "öwn\r\n'".encode() in server.scripts[0], "line breaks of a comment are left as they are"
        assert b"SET client_encoding" not in server.scripts[0], "names are stored again as they were stored"


class Fresh(Recorder):
    """A fresh server, whose own role the script may keep out. after: which login fails once the script ran."""

    configured: Any = None

    def __init__(self, roles: list[str], stored: dict[str, Optional[str]], *, after: bool = False) -> None:
        super().__init__(roles)
        self.stored, self.after, self.altered = stored, after, list[str]()
        self.initial: Any = lambda: None

    def execute(self, sql: str, **_: Any) -> list[Any]:
        if "pg_authid" in sql:
            return [{"name": name, "password": verifier} for name, verifier in self.stored.items()]
        return super().execute(sql)

    def session(self, database: str) -> Fresh:
        assert database == "template1"
        return self

    def __enter__(self) -> Fresh:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self, sql: str, *, attempted: str) -> list[Any]:
        assert attempted
        if sql.startswith("SELECT"):
            return ["md5before"]
        self.altered.append(sql)
        return []

    def problem(self) -> Optional[LifeboatError]:
        return LifeboatError("log in", "it", "refused", exit_status=2) if self.after and self.scripts else None


OWN = passwords.verifier_of("of the backup")


def globals_with(tmp_path: Path, own: str) -> None:
    script = f"CREATE ROLE app;\nALTER ROLE app WITH LOGIN PASSWORD 'md5app';\nCREATE ROLE postgres;\n{own}"
    with gzip.open(tmp_path / database_restore.GLOBALS, "wb") as file:
        file.write(script.encode())


# What lifeboat_secrets has, what the backup has of our own role -> the password that the script sets.
SET: list[tuple[str, str, str]] = [
    ("", f" PASSWORD '{OWN}'", OWN),
    ("of the backup", f" PASSWORD '{OWN}'", OWN),
    ("newer", f" PASSWORD '{OWN}'", "newer"),
    ("newer", " PASSWORD 'of a form that is not known'", "newer"),
    ("newer", "", "newer"),
    ("", "", "NULL"),
]


@pytest.mark.parametrize(("given", "stored", "then"), SET)
def test_our_own_role_has_the_backup_s_password_or_the_one_that_we_were_given(
    tmp_path: Path, given: str, stored: str, then: str
) -> None:
    globals_with(tmp_path, f"ALTER ROLE postgres WITH SUPERUSER{stored};\n")
    server, facts = Fresh(["postgres"], {}), fingerprint(scheme=3, roles={"postgres": "", "app": ""})
    account = Account("postgres", given)
    assert database_restore.roles(server, tmp_path, facts, fresh=True, account=account) == ["app"]  # type: ignore[arg-type]
    ours = [line for line in server.scripts[0].decode().splitlines() if line.startswith('ALTER ROLE "postgres"')]
    set_to = passwords.of_globals(statements(server.scripts[0].decode())).get("postgres")
    if then == "NULL":
        assert ours == ['ALTER ROLE "postgres" PASSWORD NULL;']
    elif then == OWN:
        assert (set_to, ours) == (OWN, [])
    else:
        verifier = ours[0].split("'")[1]
        assert (set_to, len(ours)) == (None, 1)
        assert passwords.matches(verifier, "postgres", then)
        assert then not in ours[0], "no password in a statement"
    assert b"ALTER ROLE app WITH LOGIN PASSWORD 'md5app';" in server.scripts[0]


def test_a_backup_without_passwords_takes_none_away(tmp_path: Path) -> None:
    globals_with(tmp_path, "ALTER ROLE postgres WITH SUPERUSER;\n")
    server, facts = Fresh(["postgres"], {}), fingerprint(scheme=3, roles={"postgres": "", "app": ""})
    database_restore.roles(
        server, tmp_path, facts, fresh=True, account=Account("postgres", ""), recorded=False  # type: ignore[arg-type]
    )  # fmt: skip
    assert b"NULL" not in server.scripts[0]
    account = Account("postgres", "")
    checked = database_restore.role_passwords(server, tmp_path, facts, account, recorded=False)  # type: ignore[arg-type]
    assert checked == ([], ["no role has the password that it had: the backup has none (app, postgres)"])


def test_who_is_locked_out_by_the_backup_s_password_gets_the_one_before(tmp_path: Path) -> None:
    globals_with(tmp_path, f"ALTER ROLE postgres WITH SUPERUSER PASSWORD '{OWN}';\n")
    server, facts = Fresh(["postgres"], {}, after=True), fingerprint(scheme=3, roles={"postgres": "", "app": ""})
    database_restore.roles(server, tmp_path, facts, fresh=True, account=Account("postgres", ""))  # type: ignore[arg-type]
    assert server.altered == ["ALTER ROLE \"postgres\" PASSWORD 'md5before';\n"]


PASSWORDS: list[tuple[dict[str, Optional[str]], str, str, list[str]]] = [
    ({"app": "md5app", "postgres": OWN}, "", checks.PASS, []),
    ({"app": "md5other", "postgres": OWN}, "", checks.FAIL, []),
    ({"app": None, "postgres": OWN}, "", checks.FAIL, []),
    ({"app": "md5app", "postgres": passwords.verifier_of("newer")}, "newer", checks.PASS, ["keeps the password"]),
    ({"app": "md5app", "postgres": passwords.verifier_of("third")}, "newer", checks.FAIL, []),
    ({"app": "md5app", "postgres": passwords.verifier_of("third")}, "", checks.FAIL, []),
]


@pytest.mark.parametrize(("now", "given", "result", "noted"), PASSWORDS)
def test_whose_password_is_not_the_backup_s_is_named(
    tmp_path: Path, now: dict[str, Optional[str]], given: str, result: str, noted: list[str]
) -> None:
    globals_with(tmp_path, f"ALTER ROLE postgres WITH SUPERUSER PASSWORD '{OWN}';\n")
    server, facts, account = Fresh(["postgres"], now), fingerprint(scheme=3), Account("postgres", given)
    (check,), notes = database_restore.role_passwords(server, tmp_path, facts, account, recorded=True)  # type: ignore[arg-type]
    assert (check.name, check.result, len(notes)) == ("role passwords", result, len(noted))
    assert all(words in note for words, note in zip(noted, notes))
    server.initial = lambda: Account("postgres", "of the environment")
    _checks, more = database_restore.role_passwords(server, tmp_path, facts, account, recorded=True)  # type: ignore[arg-type]
    assert any("is not POSTGRES_PASSWORD" in note for note in more) is (now["postgres"] == OWN)
    server.initial = lambda: Account("postgres", "of the backup")
    assert database_restore.role_passwords(server, tmp_path, facts, account, recorded=True)[1] == notes  # type: ignore[arg-type]


def test_passwords_that_cannot_be_read_are_not_verified(tmp_path: Path) -> None:
    globals_with(tmp_path, "ALTER ROLE postgres WITH SUPERUSER;\n")
    server = Fresh(["postgres"], {})

    def refuse(*_: Any, **__: Any) -> list[Any]:
        raise LifeboatError("read", "it", "permission denied", sqlstate="42501")

    server.execute = refuse  # type: ignore[method-assign]
    (check,), _notes = database_restore.role_passwords(
        server, tmp_path, fingerprint(scheme=3), Account("postgres", ""), recorded=True  # type: ignore[arg-type]
    )  # fmt: skip
    assert (check.result, check.detail) == (checks.COULD_NOT_VERIFY, "not read: permission denied")


def test_globals_of_an_earlier_version_are_text(tmp_path: Path) -> None:
    with gzip.open(tmp_path / database_restore.GLOBALS, "wb") as file:
        file.write(GLOBALS.encode())
    server = Recorder(["postgres"])
    database_restore.roles(server, tmp_path, fingerprint(scheme=2), fresh=True)  # type: ignore[arg-type]
    assert b"SET client_encoding = 'UTF8';" in server.scripts[0]


def test_a_role_whose_name_is_no_text_comes_back_as_those_bytes(tmp_path: Path) -> None:
    with gzip.open(tmp_path / database_restore.GLOBALS, "wb") as file:
        file.write(b'CREATE ROLE "n\xe9";\n')
    server = Recorder(["postgres"])
    facts = fingerprint(scheme=3, roles={"n\udce9": ""})
    assert database_restore.roles(server, tmp_path, facts, fresh=False) == ["n\\xe9"]  # type: ignore[arg-type]
    assert server.scripts == [b'CREATE ROLE "n\xe9";\n']


GONE = [
    ({}, {"schema": {"schema public": "a"}}, []),
    ({}, {"schema": {}}, ["DROP SCHEMA IF EXISTS public;"]),
    ({"extensions": {}}, {"schema": {"schema public": "a"}}, ["DROP EXTENSION IF EXISTS plpgsql;"]),
]


@pytest.mark.parametrize(("facts", "changes", "wanted"), GONE)
def test_what_only_the_template_has_is_not_in_the_restored_database(
    facts: dict[str, Any], changes: dict[str, Any], wanted: list[str]
) -> None:
    done: list[tuple[str, str]] = []

    class Server:
        def execute(self, sql: str, *, database: str = "template1", **_: Any) -> None:
            done.append((database, sql))

        def alter(self, sql: str, **_: Any) -> None:
            done.append(("any", sql))

    found = fingerprint(facts={**DATABASE_FACTS, **facts}, **changes)
    database_restore._create(Server(), found, "new")  # type: ignore[arg-type]
    assert done[1:] == [("new", sql) for sql in wanted]


SETTINGS = [
    ("work_mem", "64MB", "'64MB'"),
    ("application_name", 'it\'s \\ "x"', " E'it''s \\\\ \"x\"'"),
    ("search_path", '"$user", public', "'$user', 'public'"),
    ("search_path", '"a,b", "q""q",c', "'a,b', 'q\"q', 'c'"),
    ("Search_Path", '日本, "it\'s"', "'日本', 'it''s'"),
    ("search_path", '""', "''"),
    ("search_path", "", "''"),
    ("temp_tablespaces", '"fast disk"', "'fast disk'"),
    ("DateStyle", "ISO, DMY", "'ISO, DMY'"),
    ("app.list", "a, b", "'a, b'"),
]


@pytest.mark.parametrize(("key", "value", "sql"), SETTINGS)
def test_setting_value(key: str, value: str, sql: str) -> None:
    assert setting_value(key, value) == sql


def facts(row: Optional[dict[str, Any]] = None, **changes: Any) -> Facts:
    rows = DATABASE_FACTS["row"] if row is None else {"datcollate": "en_US.utf8", "datctype": "C", **row}
    return fingerprint(facts={**DATABASE_FACTS, "acl_is_default": False, **changes, "row": rows}).facts


PROPERTIES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("none", {}, []),
    (
        "owner",
        {"owner": 'o"x'},
        ['ALTER DATABASE "d""b" OWNER TO "o""x";', 'REVOKE ALL ON DATABASE "d""b" FROM "o""x";'],
    ),
    ("comment", {"comment": "it's\nfine"}, ["COMMENT ON DATABASE \"d\"\"b\" IS 'it''s\nfine';"]),
    ("limit", {"row": {"datconnlimit": 7}}, ['ALTER DATABASE "d""b" CONNECTION LIMIT 7;']),
    (
        "settings",
        {"settings": [{"role": "", "setting": "app.x=a=b"}, {"role": "r;", "setting": 'search_path="$user", x'}]},
        [
            'ALTER DATABASE "d""b" SET "app"."x" TO \'a=b\';',
            'ALTER ROLE "r;" IN DATABASE "d""b" SET "search_path" TO \'$user\', \'x\';',
        ],
    ),
    (
        "privileges",
        {
            "acl": [
                {"grantee": "", "privilege": "CONNECT", "grantable": False},
                {"grantee": 'g"', "privilege": "CREATE", "grantable": True},
            ]
        },
        [
            'GRANT CONNECT ON DATABASE "d""b" TO PUBLIC;',
            'GRANT CREATE ON DATABASE "d""b" TO "g""" WITH GRANT OPTION;',
        ],
    ),
]


@pytest.mark.parametrize(("changes", "lines"), [case[1:] for case in PROPERTIES], ids=[case[0] for case in PROPERTIES])
def test_properties_sql(changes: dict[str, Any], lines: list[str]) -> None:
    sql = database_restore._properties_sql(facts(**changes), 'd"b')
    assert sql.startswith("BEGIN;\nALTER DATABASE")
    assert sql.endswith("\nCOMMIT;")
    for line in lines:
        assert f"\n{line}\n" in sql
    words = {"comment": "COMMENT ON", "limit": "CONNECTION LIMIT", "settings": " SET ", "privileges": "GRANT "}
    for name, word in words.items():
        wanted = any(word in line for line in lines)
        assert (word in sql) == wanted, name
    assert "REVOKE ALL ON DATABASE" in sql, "what was revoked from PUBLIC must not come back"


CREATE: list[tuple[dict[str, Any], str]] = [
    (
        {},
        "CREATE DATABASE \"d\"\"b\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'en_US.utf8' LC_CTYPE 'C'"
        " LOCALE_PROVIDER libc;",
    ),
    (
        {"row": {"datcollate": "C", "datctype": "C", "datlocprovider": "i", "datlocale": "ja", "daticurules": "&a<b"}},
        "LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'ja' ICU_RULES '&a<b';",
    ),
    (  # empty rules are not none: pg_dump tells them apart
        {"row": {"datcollate": "C", "datctype": "C", "datlocprovider": "i", "datlocale": "de", "daticurules": None}},
        "LOCALE_PROVIDER icu ICU_LOCALE 'de';",
    ),
    (
        {"row": {"datcollate": "C", "datctype": "C", "datlocprovider": "i", "daticulocale": "de"}},
        "LOCALE_PROVIDER icu ICU_LOCALE 'de';",
    ),
    (
        {"row": {"datcollate": "C", "datctype": "C", "datlocprovider": "b", "datlocale": "C.UTF-8"}},
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8';",
    ),
    (
        {"encoding": "LATIN1", "row": {"datcollate": "C", "datctype": "C"}},
        "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc;",
    ),
]


@pytest.mark.parametrize(("changes", "end"), CREATE)
def test_create_sql(changes: dict[str, Any], end: str) -> None:
    sql = database_restore._create_sql(facts(**changes), 'd"b')
    assert sql.startswith('CREATE DATABASE "d""b" TEMPLATE template0 ENCODING ')
    assert sql.endswith(end)


def test_a_server_that_knows_no_providers_is_told_none() -> None:
    assert "PROVIDER" not in database_restore._create_sql(facts(), "d", provider=False)


@pytest.mark.parametrize(
    ("version", "provider", "told"), [(140010, None, False), (170004, None, True), (150018, "c", True)]
)
def test_the_provider_is_said_where_the_server_knows_it(version: int, provider: Optional[str], told: bool) -> None:
    """Of a database of the C library in a server that was initialised with ICU."""
    done: list[str] = []

    class Server:
        version_num = version

        def alter(self, sql: str, **_: Any) -> None:
            done.append(sql)

    row = {"datcollate": "C", "datctype": "C", "datlocprovider": provider}
    found = fingerprint(facts={**DATABASE_FACTS, "row": row}, schema={"schema public": "a"})
    database_restore._create(Server(), found, "new")  # type: ignore[arg-type]
    assert (" LOCALE_PROVIDER libc;" in done[0]) is told


@pytest.mark.parametrize(
    ("version", "rules", "told"), [(170004, True, True), (170004, False, False), (150018, None, False)]
)
def test_rules_that_the_server_was_initialised_with_are_no_database_s_own(
    version: int, rules: Optional[bool], told: bool
) -> None:
    done: list[str] = []

    class Server:
        version_num = version

        def alter(self, sql: str, **_: Any) -> None:
            done.append(sql)

        def execute(self, sql: str, **_: Any) -> list[Any]:
            assert "template0" in sql and rules is not None
            return [rules]

    row = {"datcollate": "C", "datctype": "C", "datlocprovider": "i", "datlocale": "de", "daticurules": None}
    found = fingerprint(facts={**DATABASE_FACTS, "row": row}, schema={"schema public": "a"})
    database_restore._create(Server(), found, "new")  # type: ignore[arg-type]
    assert ("ICU_RULES ''" in done[0]) is told


class Parallel:
    """A server whose pg_restore fails, and that counted so many deadlocks, or cannot be asked for them."""

    timeout = 60

    def __init__(self, deadlocks: Optional[int]) -> None:
        self.deadlocks = deadlocks
        self.done: list[str] = []
        self.made = Made()
        self.made.add("new")

    def beside(self) -> Parallel:
        return self

    def execute(self, sql: str, **_: Any) -> list[Any]:
        if "to_json(deadlocks)" in sql:
            assert sql.index("pg_terminate_backend") < sql.index("to_json(deadlocks)"), "sessions count when they end"
            assert sql.count("datname = 'new'") == 2
            if self.deadlocks is None:
                raise LifeboatError("ask", "it", "the server is gone")
            return [2, self.deadlocks]
        if "rolsuper" in sql:
            return [{"name": "shop", "superuser": True}]
        self.done.append(" ".join(sql.split()[:2]))
        return []

    silent = ""
    alter = execute

    def tool(self, name: str, *words: str, database: str = "", options: str = "", stdin: bool = False) -> Any:
        assert not stdin
        return words[0]

    @contextlib.contextmanager
    def database_for(self, _sql: str) -> Iterator[str]:
        yield "template1"


BEGUN = ["CREATE DATABASE", "--jobs=4"]
ONCE_MORE = [*BEGUN, "DROP DATABASE", "CREATE DATABASE", "--jobs=1"]


@pytest.mark.parametrize(
    ("said", "deadlocks", "jobs", "done", "fails"),
    [("", 0, 4, BEGUN, False), ("it failed", 1, 4, ONCE_MORE, False), ("deadlock detected", 0, 4, BEGUN, True),
     ("it failed", 1, 1, ["CREATE DATABASE", "--jobs=1"], True), ("the server is gone", None, 4, BEGUN, True)],
)  # fmt: skip
def test_jobs_that_lock_each_other_out_are_followed_by_one(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    said: str,
    deadlocks: Optional[int],
    jobs: int,
    done: list[str],
    fails: bool,
) -> None:
    server = Parallel(deadlocks)

    def run(chain: list[str], **_: Any) -> list[Finished]:
        server.done.append(chain[0])
        failed = bool(said) and (fails or chain[0] != "--jobs=1")
        return [Finished(Command(chain), int(failed), said)]

    monkeypatch.setattr(database_restore.pipeline, "run", run)
    monkeypatch.setattr(database_restore.pipeline, "probe", lambda *_, **__: (0, "", ""))
    monkeypatch.setattr(database_restore, "_dump_where_the_tools_are", lambda *_: contextlib.nullcontext("/dump"))
    monkeypatch.setattr(database_restore, "_properties_sql", lambda facts, name: "ALTER DATABASE x")
    manifest = make_manifest(NOW, details={"format": "directory"})
    with pytest.raises(LifeboatError, match=said) if fails else contextlib.nullcontext():
        facts = fingerprint(scheme=3, schema={"schema public": "a"})
        database_restore.database(server, manifest, tmp_path, facts, "new", jobs=jobs, log=print)  # type: ignore[arg-type]
    assert server.done == done + ([] if fails else ["ALTER DATABASE"])
    assert "new" in server.made.names(), "the second one is as half-made as the first"


HEADER = "pg_restore: error: unsupported version ({}) in file header\n"
READ_ALONE = [
    (1, 1, HEADER.format("0.0"), True), (1, 1, HEADER.format("1.16"), False), (1, 0, "", False),
    (1, 1, "Error response from daemon: container is not running", False), (1, 137, "", False),
    (1, 1, "pg_restore: error: could not read from input file: end of file\nin: f\n", True),
    (1, 1, "pg_restore: error: could not read from input file: Input/output error\n", False),
    (1, 1, "pg_restore: error: cannot restore from compressed archive (this build does not support it)\n", False),
    (137, 1, HEADER.format("0.0"), False), (124, 1, HEADER.format("0.0"), False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "status", "said", "broken"), READ_ALONE)
def test_a_dump_that_no_pg_restore_can_read_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: int, status: int, said: str, broken: bool
) -> None:
    """The same exit status tells of a server that refused a row: so the dump is read once more, to nowhere."""
    monkeypatch.setattr(
        database_restore.pipeline, "run", lambda chain, **_: [Finished(Command(["pg_restore"]), first, said)]
    )
    monkeypatch.setattr(database_restore.pipeline, "probe", lambda *_, **__: (status, "", said))
    monkeypatch.setattr(database_restore, "_dump_where_the_tools_are", lambda *_: contextlib.nullcontext("/dump"))
    manifest, facts = (
        make_manifest(NOW, details={"format": "custom"}),
        fingerprint(scheme=3, schema={"schema public": ""}),
    )
    with pytest.raises(LifeboatError) as failed:
        database_restore.database(Parallel(0), manifest, tmp_path, facts, "new", jobs=4, log=print)  # type: ignore[arg-type]
    assert isinstance(failed.value, IntegrityError) is broken
    assert ended("restore", failed.value).result == (FAIL if broken else COULD_NOT_VERIFY)
    assert not broken or said.splitlines()[0] in failed.value.cause


OTHERS = [{"name": "o'ne", "folder": "databases/001", "taken_at": "2026-11-24T02:00:00+00:00", "size": 1}]


@pytest.mark.parametrize(
    ("inside", "dump", "plain"),
    [("", "/backup/database.dump", "x.sql.gz"),
     ("databases/001", "/backup/databases/001/database.dump", "databases/001/database.sql")],
)  # fmt: skip
def test_each_database_is_restored_from_its_own_folder(tmp_path: Path, inside: str, dump: str, plain: str) -> None:
    artefacts = {"globals.sql.gz": b"", "x.sql.gz": gzip.compress(b"own"), "databases/001/database.sql": b"other"}
    named = tuple(Artefact(name, len(data), "0" * 64) for name, data in artefacts.items())
    manifest = make_manifest(NOW, artefacts=named, details={"format": "plain", "others": OTHERS})
    for name, data in artefacts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    directory = tmp_path / inside
    assert database_restore.folder_of(manifest, directory) == inside
    assert database_restore.plain_name(manifest, inside) == plain
    with database_restore.open_plain(manifest, directory) as file:
        assert file.read() == (b"other" if inside else b"own")
    mounted = types.SimpleNamespace(mount="/backup")
    with database_restore._dump_where_the_tools_are(mounted, manifest, directory) as path:  # type: ignore[arg-type]
        assert path == dump


class Swapping:
    """A server that has the live database or not, and may fail at one statement."""

    def __init__(self, live: bool, fail: str = "", open: bool = True, taken: str = "") -> None:
        self.there = [literal(name) for name in (LIVE if live else "", taken) if name]
        self.open = open
        self.fail = fail
        self.sql: list[str] = []
        self.made = Made()

    def alter(self, sql: str, **_: Any) -> list[Any]:
        self.sql.append(sql)
        kept = re.search(r'RENAME TO ("li.*_quarantine_S")', sql)
        assert not kept or kept[1] in map(identifier, self.made.names()), "it is known as ours before it has the name"
        if self.fail and self.fail in sql:
            raise LifeboatError("swap", "it", "no")
        if "datallowconn" in sql:
            return [{"name": LIVE, "open": self.open}] if literal(LIVE) in self.there else []
        return ["x"] if "to_json(datname)" in sql and any(sql.endswith(f"= {name};") for name in self.there) else []

    def execute(self, sql: str, **_: Any) -> list[Any]:
        return self.alter(sql)

    @contextlib.contextmanager
    def database_for(self, sql: str) -> Iterator[str]:
        yield "template1"


LIVE = "li'v\"e"


def swap(server: Swapping) -> str:
    return database_restore.swap(server, LIVE, "new", "S")  # type: ignore[arg-type]


def test_swap_is_one_transaction() -> None:
    server = Swapping(live=True)
    assert swap(server) == "li'v\"e_quarantine_S"
    assert server.sql[-1].split("\n") == [
        "BEGIN;",
        'ALTER DATABASE "li\'v""e" RENAME TO "li\'v""e_quarantine_S";',
        'ALTER DATABASE "li\'v""e_quarantine_S" ALLOW_CONNECTIONS true IS_TEMPLATE false;',
        'ALTER DATABASE "new" RENAME TO "li\'v""e";',
        "COMMIT;",
    ]
    assert literal("li'v\"e") in server.sql[-2], "sessions are ended by the name as a string"


def test_a_name_in_quarantine_that_is_taken_gets_a_number() -> None:
    """Two databases whose names are as long as they may be can begin alike."""
    server = Swapping(live=True, taken="li'v\"e_quarantine_S")
    assert swap(server) == "li'v\"e_2_quarantine_S"


def test_swap_without_a_live_database_only_renames() -> None:
    server = Swapping(live=False)
    assert swap(server) == ""
    assert server.sql[1:] == ['BEGIN;\nALTER DATABASE "new" RENAME TO "li\'v""e";\nCOMMIT;']


@pytest.mark.parametrize(("live", "before"), [(True, True), (True, False), (False, True)])
def test_a_failed_swap_opens_the_live_database_again(live: bool, before: bool) -> None:
    """One that was closed stays closed: it may be the empty one of a fresh server."""
    server = Swapping(live, fail="RENAME", open=before)
    with pytest.raises(LifeboatError):
        swap(server)
    opened = 'ALTER DATABASE "li\'v""e" ALLOW_CONNECTIONS true;'
    assert (server.sql[-1] == opened) is (live and before)


def test_a_failed_reopening_does_not_hide_the_first_error() -> None:
    class Broken(Swapping):
        def alter(self, sql: str, **options: Any) -> list[Any]:
            if sql.endswith("ALLOW_CONNECTIONS true;"):
                raise LifeboatError("reopen", "it", "the second error")
            return super().alter(sql, **options)

    with pytest.raises(LifeboatError, match=r"it\): no"):
        swap(Broken(live=True, fail="RENAME"))


@pytest.mark.parametrize(("version", "moved"), [(140009, []), (170012, ["a", 'b"'])])
def test_refresh_collations(version: int, moved: list[str]) -> None:
    done: list[tuple[str, str]] = []

    lines: list[str] = []

    class Server:
        version_num = version
        made = Made()

        def execute(self, sql: str, *, database: str = "template1", **_: Any) -> list[Any]:
            if database == "broken":
                raise LifeboatError("reindex broken", "broken", "could not read block 7")
            done.append((database, sql))
            return [{"name": name} for name in ("aside", "broken", *moved)] if "datcollversion" in sql else []

    Server.made.add("aside")
    assert database_restore.refresh_collations(Server(), lines.append) == moved  # type: ignore[arg-type]
    if moved:
        (line,) = lines
        assert "broken" in line and "could not read block 7" in line
        assert done[-2:] == [
            ('b"', 'REINDEX DATABASE "b""";'),
            ('b"', 'ALTER DATABASE "b""" REFRESH COLLATION VERSION;'),
        ]
    else:
        assert done == []
