# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing two fingerprints, and how expressions are brought to the form they have after a restore."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
import written
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import Fingerprint, settled
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Content
from builders import DATABASE_FACTS

ID = "db_backup_20261124_120000"
# As PostgreSQL 17 prints an expression when it was made, and after one dump and restore.
SETTLED = [
    (
        "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
    ),
    (
        "((s)::text <> ALL ((ARRAY['a'::character varying(3), fx.x])::text[]))",
        "((s)::text <> ALL (ARRAY[('a'::character varying(3))::text, (fx.x)::text]))",
    ),
    (
        "(ARRAY['it''s, (AND)'::character varying, 'b]'::character varying])::text[]",
        "ARRAY[('it''s, (AND)'::character varying)::text, ('b]'::character varying)::text]",
    ),
    ('(ARRAY[a, b])::"My Type"[]', 'ARRAY[(a)::"My Type", (b)::"My Type"]'),
    ('(ARRAY[a])::"S""c, [x]".ty[]', 'ARRAY[(a)::"S""c, [x]".ty]'),
    ("(ARRAY[a])::character varying(3)[]", "ARRAY[(a)::character varying(3)]"),
    ("(ARRAY[lower(a, b)])::public.ty[]", "ARRAY[(lower(a, b))::public.ty]"),
    ("(ARRAY[ARRAY[a, b], ARRAY[c, d]])::text[]", "ARRAY[ARRAY[(a)::text, (b)::text], ARRAY[(c)::text, (d)::text]]"),
    ("CHECK ((((p >= 1) AND (p <= 100)) AND (q > 0)))", "CHECK (((p >= 1) AND (p <= 100) AND (q > 0)))"),
    ("SELECT (((p < 1) OR (p > 2)) OR b) AS x", "SELECT ((p < 1) OR (p > 2) OR b) AS x"),
    ("((((p = 1) AND (q = 2)) AND b) AND c)", "((p = 1) AND (q = 2) AND b AND c)"),
    ("(((VALUE >= 1) AND (VALUE <= 10)) AND (VALUE <> 5))", "((VALUE >= 1) AND (VALUE <= 10) AND (VALUE <> 5))"),
    (
        "((((p >= 1) AND (p <= 2)) AND b) OR (((q >= 1) AND (q <= 2)) AND (NOT b)))",
        "(((p >= 1) AND (p <= 2) AND b) OR ((q >= 1) AND (q <= 2) AND (NOT b)))",
    ),
    ("(NOT (((p >= 1) AND (p <= 2)) AND b))", "(NOT ((p >= 1) AND (p <= 2) AND b))"),
    ("CASE WHEN (((a) AND (b)) AND c) THEN 1 END", "CASE WHEN ((a) AND (b) AND c) THEN 1 END"),
]
# What must stay exactly as it is: settled already, or something that only looks alike.
LEFT_ALONE = [
    *(after for _, after in SETTLED),
    "",
    "((q > 0) AND ((p >= 1) AND (p <= 100)))",
    "(((a) AND (b)) OR (c))",
    "(((a) OR (b)) AND (c))",
    "((NOT ((a) AND (b))) AND c)",
    "((s = 'a AND b'::text) AND c)",
    '(("a AND b" = 1) AND c)',
    "(( SELECT ((a) AND (b)) AND c) AND d)",
    "(f(((a) AND (b))) AND c)",
    "(((a) AND (b))::text AND c)",
    "'((a) AND (b)) AND c'::text",
    "(ARRAY[1, 2])::bigint",
    "(ARRAY[a])[1]",
    "ARRAY[]::text[]",
    "(array_agg(a))::text[]",
    "unbalanced ) ( [ 'quote",
    "it's unbalanced ((a AND b) AND c",
]


@pytest.mark.parametrize(("before", "after"), SETTLED)
def test_expressions_are_settled(before: str, after: str) -> None:
    assert settled(before) == after
    assert settled(f"x|({before})|y") == f"x|({after})|y"


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_is_settled_or_merely_alike_stays(text: str) -> None:
    assert settled(text) == text


@pytest.mark.slow
def test_long_and_deep_expressions() -> None:
    """A machine-written view: 5,000 levels of brackets, where recursion would end in a traceback."""
    deep = "(" * 5000 + "a" + " || b)" * 5000
    assert settled(deep) == deep
    nested = "(" * 2000 + "(a) AND (b)" + ") AND c" * 2000
    assert settled(f"({nested})") == "((a) AND (b)" + " AND c" * 2000 + ")"


def facts() -> dict[str, Any]:
    def sequence(last: Any, *, up: bool = True, cycle: bool = False) -> dict[str, Any]:
        return {"last": last, "up": up, "cycle": cycle}

    positions = {
        "public.a": sequence("10"),
        "public.down": sequence("-5", up=False),
        "public.new": sequence(None),
        "public.round": sequence("3", cycle=True),
        "public.far": sequence(str(2**63 - 2)),
    }
    return {
        "scheme": fingerprint.SCHEME,
        "level": "content",
        "facts": {
            **DATABASE_FACTS,
            "extensions": {"plpgsql": "1.0", "hstore": "1.8"},
            "owner": "app",
            "encoding": "UTF8",
            "acl": [{"grantee": "app", "privilege": "CONNECT", "grantable": False}],
            "settings": [{"role": "", "setting": "work_mem=64MB"}],
            "comment": None,
            "row": {"datcollate": "C", "datctype": "C", "datlocprovider": "c", "datlocale": None, "datconnlimit": -1},
        },
        "roles": {"app": "1f", "reader": "2f"},
        "schema": {"table public.t": "aa", "index public.i": "bb"},
        "sequences": {"before": positions, "after": copy.deepcopy(positions)},
        "tables": {
            "public.t": {"rows": 5, "hash": "123", "method": "record"},
            "public.u": {"rows": 0, "hash": "0", "method": "text"},
        },
        "large_objects": {"count": 2, "bytes": 10, "hash": "9"},
    }


def read(body: dict[str, Any]) -> Fingerprint:
    return fingerprint.read(json.dumps(body).encode(), ID)


def compare(expected: dict[str, Any], found: dict[str, Any], *, roles: str = "exact") -> list[checks.Check]:
    return fingerprint.compare(read(expected), read(found), roles=roles)


def of(found: list[checks.Check], name: str) -> checks.Check:
    return next(check for check in found if check.name == name)


@pytest.mark.parametrize(("application", "result"), [(True, checks.COULD_NOT_VERIFY), (False, checks.PASS)])
def test_an_applications_database_without_tables_says_nothing_of_the_application(
    application: bool, result: str
) -> None:
    bare = {**facts(), "tables": {}}
    check = of(fingerprint.compare(read(bare), read(bare), application=application), "tables")
    assert check.result == result
    assert ("is lifeboat_database.name the right one?" in check.detail) is application
    more = of(fingerprint.compare(read(bare), read(facts()), application=application), "tables")
    assert more.result == checks.FAIL, "what differs is a difference"


NAMES = ["tables", "sequences", "large objects", "schema", "extensions", "database settings", "roles"]


def test_equal_fingerprints_pass_every_check() -> None:
    found = compare(facts(), facts())
    assert [(check.name, check.result) for check in found] == [(name, checks.PASS) for name in NAMES]
    assert of(found, "tables").detail == "2 tables, 5 rows: rows and content equal"


UNUSED = {"up": True, "last": None, "cycle": False}
Edit = Callable[[dict[str, Any]], Any]
# (what was changed behind the restored copy, the check that must fail, what it must name)
CHANGES: list[tuple[Edit, str, str]] = [
    (lambda new: new["tables"].pop("public.u"), "tables", "public.u is missing"),
    (lambda new: new["tables"].update(x={"rows": 0, "method": "none"}), "tables", "x was not in the backup"),
    (lambda new: new["tables"]["public.t"].update(rows=4), "tables", "public.t has 4 rows, the backup 5"),
    (lambda new: new["tables"]["public.t"].update(hash="124"), "tables", "public.t has other content"),
    (lambda new: new["tables"]["public.u"].update(hash=None), "tables", "public.u has other content"),
    (lambda new: new["sequences"]["before"].pop("public.a"), "sequences", "public.a is missing"),
    (lambda new: new["sequences"]["before"].update(x={**UNUSED, "last": "1"}), "sequences", "x was not"),
    (lambda new: new["sequences"]["before"]["public.a"].update(last="9"), "sequences", "public.a stands at 9"),
    (lambda new: new["sequences"]["before"]["public.a"].update(last="11"), "sequences", "public.a stands at 11"),
    (lambda new: new["sequences"]["before"]["public.a"].update(last=None), "sequences", "public.a stands at None"),
    (lambda new: new["sequences"]["before"]["public.down"].update(last="-4"), "sequences", "public.down stands at -4"),
    (lambda new: new["sequences"]["before"]["public.down"].update(last="-6"), "sequences", "public.down stands at -6"),
    (lambda new: new["sequences"]["before"]["public.new"].update(last="1"), "sequences", "public.new stands at 1"),
    (lambda new: new["sequences"]["before"]["public.far"].update(last=str(2**63 - 1)), "sequences", "public.far"),
    (lambda new: new["large_objects"].update(hash="8"), "large objects", "hash differs"),
    (lambda new: new["large_objects"].update(count=1), "large objects", "count differs"),
    (lambda new: new["schema"].pop("index public.i"), "schema", "index public.i is missing"),
    (lambda new: new["schema"].update({"table public.t": "ab"}), "schema", "table public.t differs"),
    (lambda new: new["schema"].update({"view v": "ab"}), "schema", "view v was not in the backup"),
    (lambda new: new["facts"]["extensions"].pop("hstore"), "extensions", "hstore is missing"),
    (lambda new: new["facts"]["extensions"].update(hstore="1.7"), "extensions", "hstore differs"),
    (lambda new: new["facts"]["extensions"].update(pg_trgm="1"), "extensions", "pg_trgm was not in the backup"),
    (lambda new: new["facts"].update(owner="root"), "database settings", "owner: 'root', the backup 'app'"),
    (lambda new: new["facts"].update(encoding="LATIN1"), "database settings", "encoding"),
    (lambda new: new["facts"].update(acl=None), "database settings", "acl"),
    (lambda new: new["facts"].update(settings=[]), "database settings", "settings: []"),
    (lambda new: new["facts"].update(comment="x"), "database settings", "comment: 'x'"),
    (lambda new: new["facts"]["row"].update(datcollate="POSIX"), "database settings", "datcollate: 'POSIX'"),
    (lambda new: new["facts"]["row"].update(datconnlimit=3), "database settings", "datconnlimit: 3"),
    (lambda new: new["facts"]["row"].update(datlocale="und"), "database settings", "datlocale"),
    (lambda new: new["roles"].pop("reader"), "roles", "reader is missing"),
    (lambda new: new["roles"].update(reader="2e"), "roles", "reader differs"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "name", "words"), CHANGES)
def test_every_change_fails_its_own_check_and_no_other(edit: Edit, name: str, words: str) -> None:
    changed = facts()
    edit(changed)
    found = compare(facts(), changed)
    assert [check.name for check in found if check.result != checks.PASS] == [name]
    assert words in of(found, name).detail


MOVES = [("10", checks.FAIL), ("11", checks.PASS), ("15", checks.PASS), ("20", checks.PASS), ("21", checks.FAIL)]


@pytest.mark.parametrize(("last", "result"), MOVES)
def test_a_sequence_that_moved_during_the_dump_lies_between_both_readings(last: str, result: str) -> None:
    expected, found = facts(), facts()
    expected["sequences"]["before"]["public.a"]["last"] = "11"
    expected["sequences"]["after"]["public.a"]["last"] = "20"
    found["sequences"]["before"]["public.a"]["last"] = last
    assert of(compare(expected, found), "sequences").result == result


AHEAD = [("10", checks.FAIL), ("11", checks.PASS), ("20", checks.PASS), ("52", checks.PASS), ("53", checks.FAIL)]


@pytest.mark.parametrize(("last", "result"), AHEAD)
def test_a_sequence_that_was_replayed_may_stand_further_and_not_behind(last: str, result: str) -> None:
    expected, found = facts(), facts()
    expected["sequences"]["before"]["public.a"]["last"] = "11"
    expected["sequences"]["after"]["public.a"]["last"] = "20"
    found["sequences"]["before"]["public.a"]["last"] = last
    check = of(fingerprint.compare(read(expected), read(found), ahead={"public.a": 32}), "sequences")
    assert check.result == result
    assert of(compare(expected, found), "sequences").result == (checks.FAIL if last == "52" else result)


@pytest.mark.parametrize(
    ("last", "result"), [("-4", checks.FAIL), ("-5", checks.PASS), ("-37", checks.PASS), ("-38", checks.FAIL)]
)
def test_one_that_counts_down_goes_the_other_way(last: str, result: str) -> None:
    found = facts()
    found["sequences"]["before"]["public.down"]["last"] = last
    check = of(fingerprint.compare(read(facts()), read(found), ahead={"public.down": 32}), "sequences")
    assert check.result == result


def test_how_far_it_may_go_depends_on_its_step_and_its_cache() -> None:
    class Session:
        def rows(self, sql: str, *, attempted: str) -> list[Any]:
            assert "pg_sequences" in sql
            return [{"name": "public.a", "step": 1, "cache": 1}, {"name": "public.b", "step": 10, "cache": 5}]

    session: Any = Session()
    assert fingerprint.reserve(session) == {"public.a": 32, "public.b": 1600}


def test_a_cycling_sequence_may_stand_anywhere() -> None:
    found = facts()
    found["sequences"]["before"]["public.round"]["last"] = "1"
    assert of(compare(facts(), found), "sequences").result == checks.PASS


def test_sequences_that_came_or_went_during_the_dump() -> None:
    """One made after the first reading, one dropped before the second: the dump may hold either or neither."""
    expected, found = facts(), facts()
    expected["sequences"]["after"]["public.made"] = {"last": "1", "up": True, "cycle": False}
    del expected["sequences"]["after"]["public.a"]
    del found["sequences"]["before"]["public.a"]
    assert of(compare(expected, found), "sequences").result == checks.PASS
    found["sequences"]["before"]["public.made"] = {"last": "1", "up": True, "cycle": False}
    assert of(compare(expected, found), "sequences").result == checks.PASS


def test_roles_of_a_server_that_lived_on_may_have_changed_but_not_gone() -> None:
    found = facts()
    found["roles"].update(reader="changed", newcomer="3")
    assert of(compare(facts(), found, roles="present"), "roles").result == checks.PASS
    assert of(compare(facts(), found, roles="exact"), "roles").result == checks.FAIL
    del found["roles"]["app"]
    assert of(compare(facts(), found, roles="present"), "roles").detail == "app is missing"


def test_across_majors_definitions_cannot_be_compared_and_that_is_no_pass() -> None:
    found = facts()
    found["facts"]["server_version_num"] = 180001
    found["schema"]["table public.t"] = "printed otherwise"
    found["facts"]["extensions"]["hstore"] = "1.9"
    checked = compare(facts(), found)
    assert of(checked, "schema").result == checks.COULD_NOT_VERIFY
    assert of(checked, "extensions").result == checks.PASS
    assert checks.verdict(checked) == checks.COULD_NOT_VERIFY
    del found["schema"]["table public.t"]
    assert of(compare(facts(), found), "schema").result == checks.FAIL


def test_the_fingerprint_of_another_lifeboat_is_compared_as_far_as_it_goes() -> None:
    """After an upgrade the older backups must still restore: what our queries describe otherwise is no difference."""
    expected, found = facts(), facts()
    del expected["scheme"]
    found["schema"]["table public.t"] = found["roles"]["app"] = "described otherwise"
    checked = compare(expected, found)
    assert of(checked, "schema").result == checks.COULD_NOT_VERIFY
    assert {check.name for check in checked if check.result != checks.PASS} == {"schema"}
    del found["schema"]["table public.t"], found["roles"]["app"]
    checked = compare(expected, found)
    assert {check.name for check in checked if check.result == checks.FAIL} == {"schema", "roles"}


def test_summary() -> None:
    assert read(facts()).summary == Content("content", tables=2, rows=5, large_objects=2, objects=2)


class Answers:
    """A session that answers from a table: the server's version, and nothing for the rest."""

    def __init__(self, version: int) -> None:
        self.version = version

    def rows(self, sql: str, *, attempted: str) -> list[Any]:
        del attempted
        return [{"server_version_num": self.version, "server_version": "x"}] if "pg_control_system" in sql else []


def test_a_server_too_old_is_refused() -> None:
    with pytest.raises(fingerprint.UsageError, match="needs PostgreSQL 14"):
        fingerprint.take(Answers(130020), "content")  # type: ignore[arg-type]


def test_what_scheme_2_asked_is_asked_of_a_backup_of_its_time() -> None:
    """Word for word what an earlier version asked: its fingerprints are compared with the like."""
    asked = " ".join(fingerprint._schema_of(2).split()), " ".join(fingerprint._EVERY_SEQUENCE.split())
    digests = [hashlib.md5(sql.encode(), usedforsecurity=False).hexdigest() for sql in asked]
    assert digests == ["77533bf3e64660d52d602f0239fe231e", "f41036fec4309ae6c9337ea5e5d098f3"]
    assert all(fingerprint._SCHEMA.count(sql) == 1 for sql in fingerprint._AS_SCHEME_2)


@pytest.mark.parametrize(("scheme", "taken"), [(1, 2), (2, 2), (3, 3), (9, 3)])
def test_a_database_is_described_in_the_scheme_of_its_backup(scheme: int, taken: int) -> None:
    asked: list[str] = []

    class Empty:
        def rows(self, sql: str, *, attempted: str) -> list[Any]:
            del attempted
            asked.append(sql)
            return [DATABASE_FACTS] if "pg_control_system" in sql else [0] if "to_json(count" in sql else []

        def each(self, questions: Any) -> list[Any]:
            return list(questions)

    assert fingerprint.take(Empty(), "content", scheme).scheme == taken  # type: ignore[arg-type]
    assert asked[0].startswith("SET client_encoding = 'UTF8';") is (taken == 2)
    assert fingerprint._schema_of(taken) in asked


def test_names_that_are_no_text_are_written_read_and_shown() -> None:
    body = facts()
    body["roles"]["n\udce9"] = "1f"
    data = read(body).to_bytes()
    assert b'"n\\udce9": "1f"' in data
    assert data.decode(), "the file itself is UTF-8"
    assert fingerprint.read(data, ID) == read(body)
    (check,) = [check for check in compare(body, facts()) if check.result != checks.PASS]
    assert check.detail == "n\\xe9 is missing"


def test_a_privilege_that_two_have_granted_is_one() -> None:
    expected, found = facts(), facts()
    row = {"grantee": "app", "privilege": "CREATE", "grantable": False}
    expected["facts"]["acl"] = [row, {**row, "grantable": True}]
    found["facts"]["acl"] = [{**row, "grantable": True}]
    assert of(compare(expected, found), "database settings").result == checks.PASS
    found["facts"]["acl"] = [row]
    assert of(compare(expected, found), "database settings").result == checks.FAIL


TABLE_SQL = [
    ("record", "SELECT jsonb_build_object('rows', count(*), 'hash', coalesce(sum(hash_record_extended(ROW(x.a), 0)"),
    ("text", "SELECT jsonb_build_object('rows', count(*), 'hash', coalesce(sum(hashtextextended(ROW(x.a)::text, 0)"),
    ("none", "SELECT jsonb_build_object('rows', count(*)) FROM ONLY s.t x;"),
]


@pytest.mark.parametrize(("method", "start"), TABLE_SQL)
def test_table_sql(method: str, start: str) -> None:
    table = fingerprint._Table("s.t", "x.a", hashable=True, empty=False, bytes=0)
    sql = fingerprint._table_sql(table, method)
    assert sql.startswith(start)
    assert sql.endswith("FROM ONLY s.t x;")
    unread = fingerprint._table_sql(replace(table, empty=True), method)
    hashed = "" if method == "none" else ", 'hash', '0'"
    assert unread == f"SELECT jsonb_build_object('rows', 0{hashed});", "as of a table that has no rows"


def test_what_the_bench_measures_is_what_a_fingerprint_asks() -> None:
    described = {"name": "s.t", "columns": "x.a", "hashable": True, "empty": False, "bytes": 0}
    table = fingerprint._Table("s.t", "x.a", hashable=True, empty=False, bytes=0)
    wide = replace(table, hashable=False)
    said = fingerprint.content_sql([described, {**described, "hashable": False}])
    assert said == [fingerprint._table_sql(table, "record"), fingerprint._table_sql(wide, "text")]
    assert "{hashable}" not in fingerprint.tables_sql() and "'jsonb'" in fingerprint.tables_sql()


def test_it_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Those of an earlier commit, and one that has everything that theirs have not."""
    written.unpack(tmp_path)
    found = sorted(tmp_path.glob("backup/postgresql/*/fingerprint.json"))
    assert len(found) == len(written.DATABASE)
    body = facts()
    body["large_objects"] = {"hash": "9", "bytes": 10, "count": 2}
    body["tables"] = {"public.t": {"hash": "1", "rows": 5, "method": "record"}, "u": {"rows": 1, "method": "none"}}
    body["facts"] = {name: body["facts"][name] for name in DATABASE_FACTS}
    body["facts"]["acl"] = [{"grantee": "", "grantable": False, "privilege": "CONNECT"}]
    for moment in body["sequences"].values():
        moment.update({name: {key: value[key] for key in ("up", "last", "cycle")} for name, value in moment.items()})
    for data in (*(path.read_bytes() for path in found), json.dumps(body, indent=1, ensure_ascii=False).encode()):
        assert fingerprint.read(data, ID).to_bytes() == data


def test_what_the_server_was_initialised_with_is_written_and_read() -> None:
    body = facts()
    body["facts"]["initialised"] = {"encoding": "UTF8", "collate": "C", "ctype": "C", "provider": "i", "locale": "de"}
    found = read(body)
    assert found.facts.initialised == fingerprint.Initialised("UTF8", "C", "C", "i", "de")
    assert fingerprint.read(found.to_bytes(), ID) == found
    assert b"initialised" not in read(facts()).to_bytes(), "an earlier one stays as it was written"


def test_what_the_first_fingerprints_did_not_tell() -> None:
    body = facts()
    del body["scheme"], body["facts"]["acl_is_default"]
    assert (read(body).scheme, read(body).facts.acl_is_default) == (1, False)
    assert read({**facts(), "later": 1}) == read(facts()), "a newer Lifeboat may tell more"


MALFORMED: list[tuple[bytes | Edit, str]] = [
    (b"{", "it is not JSON that can be read: Expecting"),
    (b"[1]", "wants a mapping, has [1]"),
    (b"null", "wants a mapping, has None"),
    (b'{"scheme": NaN}', "NaN is not a number"),
    (b'{"scheme": 1, "scheme": 2}', "a key is given twice"),
    (b"[" * 100_000, "it is not JSON that can be read"),
    (b"\xff", "it is not JSON that can be read"),
    (b'{"scheme": "\\ud800"}', "it has half a character"),
    (b"1" * 5000, "it is not JSON that can be read"),
    (lambda body: body.pop("tables"), "lacks tables"),
    (lambda body: body.update(scheme="2"), "scheme wants int, has '2'"),
    (lambda body: body.update(scheme=0), "scheme 0 is not between 1 and"),
    (lambda body: body.update(level="all"), "level 'all' is not one of content, rows"),
    (lambda body: body.update(facts=[]), "facts wants a mapping, has []"),
    (lambda body: body.update(roles={"app": 1}), "roles.app wants str, has 1"),
    (lambda body: body.update(schema={"table t": None}), "schema.table t wants str, has None"),
    (lambda body: body["facts"].update(server_version_num=True), "facts.server_version_num wants int, has True"),
    (lambda body: body["facts"].update(settings=[{"role": ""}]), "facts.settings[0] lacks setting"),
    (lambda body: body["facts"].update(acl=[1]), "facts.acl[0] wants a mapping, has 1"),
    (lambda body: body["facts"].update(extensions={"a": {}}), "facts.extensions.a wants str, has {}"),
    (lambda body: body["facts"].update(owner=None), "facts.owner wants str, has None"),
    (lambda body: body["facts"].update(row={}), "facts.row lacks datcollate, datctype"),
    (lambda body: body["facts"]["row"].update(datconnlimit="7"), "facts.row.datconnlimit wants int, has '7'"),
    (lambda body: body["facts"]["row"].update(deep=[[]] * 2 + [json.loads("[" * 50 + "]" * 50)]), "nested more than"),
    (lambda body: body["tables"]["public.t"].update(rows=-1), "tables.public.t.rows -1 is not between 0 and"),
    (lambda body: body["tables"]["public.t"].update(rows=10**30), "tables.public.t.rows has a number beyond"),
    (lambda body: body["tables"]["public.t"].update(rows=1.5), "tables.public.t.rows wants int, has 1.5"),
    (lambda body: body["large_objects"].update(bytes="1"), "large_objects.bytes wants int, has '1'"),
    (lambda body: body["sequences"].pop("before"), "sequences lacks before"),
    (lambda body: body["sequences"]["before"]["public.a"].update(up=1), "before.public.a.up wants bool, has 1"),
    (lambda body: body["sequences"]["after"]["public.a"].update(last="9" * 5000), "sequences.after.public.a.last '999"),
    (lambda body: body["sequences"]["before"]["public.a"].update(last="x"), "last 'x' is not a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "words"), MALFORMED, ids=[words for _broken, words in MALFORMED])
def test_a_malformed_one_is_an_error_that_names_file_and_field(broken: bytes | Edit, words: str) -> None:
    body = facts()
    assert read(body)
    if not isinstance(broken, bytes):
        broken(body)
        broken = json.dumps(body).encode()
    with pytest.raises(IntegrityError) as raised:
        fingerprint.read(broken, ID)
    assert str(raised.value).startswith(f"Could not read the fingerprint ({ID}): fingerprint.json: ")
    assert words in raised.value.cause
    assert "Choose another backup" in raised.value.remedy


def test_an_answer_that_is_not_postgresqls_is_an_error() -> None:
    class Foreign:
        def rows(self, sql: str, *, attempted: str) -> list[object]:
            del sql, attempted
            return [{"server_version_num": "17"}]

    with pytest.raises(LifeboatError, match=r"read PostgreSQL's answer \(a row\): lacks server_version"):
        fingerprint.take(Foreign(), "content")  # type: ignore[arg-type]
