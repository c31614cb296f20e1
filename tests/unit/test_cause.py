# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stopped a restore, from what pg_restore and psql of PostgreSQL 17 printed."""

from __future__ import annotations

import io

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import cause

OBJECTS = (
    "table public.lookup",
    'table "My shop".lookup',
    "column public.lookup.v",
    "function public.fsql(integer)",
    'function public."f Pl"(integer)',
    "function public.twice(integer)",
    "function other.twice(text)",
    "index public.lookup",
)
INLINED = """pg_restore: error: COPY failed for table "item": ERROR:  relation "lookup" does not exist
LINE 1: SELECT v FROM lookup WHERE k = i
                      ^
QUERY:  SELECT v FROM lookup WHERE k = i
CONTEXT:  SQL function "{name}" during inlining
COPY item, line 1: "secret"
"""
COMMAND = """pg_restore: error: could not execute query: ERROR:  {error}
LINE 1: (SELECT v FROM lookup WHERE k = i)
                       ^
CONTEXT:  {context}
Command was: CREATE INDEX i ON public.item USING btree (public."f Pl"(a));


pg_restore: error: a worker process died unexpectedly
"""
INDEX = 'CREATE INDEX i ON public.item USING btree (public."f Pl"(a));'
RELIES = "relies on search_path, which is empty while a dump is restored"
SCRIPT = b"""SET search_path = '';
--
-- Name: item; Type: TABLE; Schema: public; Owner: o
--
-- Data for Name: item; Type: TABLE DATA; Schema: public; Owner: o
COPY public.item (a) FROM stdin;
-- Name: later; Type: TABLE; Schema: public; Owner: o
"""
PSQL = (
    'psql:<stdin>:6: ERROR:  42P01: relation "lookup" does not exist\nCONTEXT:  SQL function "fsql" during inlining\n'
)
# (what was printed, the cause, what the remedy says)
CASES = {
    "a function of SQL": (
        INLINED.format(name="fsql"),
        f'rows of the table "item": the function public.fsql(integer) {RELIES}: relation "lookup" does not exist',
        'ALTER FUNCTION public.fsql(integer) SET search_path = "My shop", public;',
    ),
    "one of two": (
        INLINED.format(name="twice"),
        f"the function other.twice(text) or public.twice(integer) {RELIES}",
        "ALTER FUNCTION other.twice(text) or public.twice(integer) SET",
    ),
    "of an extension": (INLINED.format(name="a b"), f'the function "a b" {RELIES}', 'ALTER FUNCTION "a b" SET'),
    "a function of PL/pgSQL": (
        COMMAND.format(
            error='relation "lookup" does not exist',
            context='SQL statement "SELECT count(*)\n FROM lookup"\n'
            'PL/pgSQL function public."f Pl"(integer) line 3 at PERFORM\nPL/pgSQL function f() line 1 at RETURN',
        ),
        f'{INDEX}: the function public."f Pl"(integer) {RELIES}: relation "lookup" does not exist',
        'ALTER FUNCTION public."f Pl"(integer) SET search_path = "My shop", public;',
    ),
    "an operator": (
        COMMAND.format(error="operator does not exist: citext = text", context='SQL function "fsql" statement 1'),
        f"the function public.fsql(integer) {RELIES}: operator does not exist",
        "SET search_path = the schemas that it needs;",
    ),
    "compiled": (
        COMMAND.format(
            error='type "ty" does not exist', context='compilation of PL/pgSQL function "f Pl" near line 1'
        ),
        f'the function public."f Pl"(integer) {RELIES}: type "ty" does not exist',
        "",
    ),
    "named with its schema": (
        COMMAND.format(error='relation "public.lookup" does not exist', context='SQL function "fsql" during inlining'),
        f'{INDEX}: relation "public.lookup" does not exist',
        "as it was",
    ),
    "another error": (
        COMMAND.format(error="division by zero", context='SQL function "fsql" statement 1'),
        f"{INDEX}: division by zero",
        "as it was",
    ),
    "no function": (
        COMMAND.format(error='type "x" does not exist', context="nothing"), f'{INDEX}: type "x" does', "as it was"),
    "another language": (
        INLINED.format(name="fsql").replace("ERROR:", "FEHLER:"), "what the program said", "as it was"),
    "nothing": ("", "what the program said", "as it was"),
}  # fmt: skip


def explained(printed: str, script: bytes | None = None) -> LifeboatError:
    error = LifeboatError("restore", "x", "what the program said", "as it was", exit_status=3, sqlstate="42P01")
    found = cause.explained(error, printed, OBJECTS, io.BytesIO(script) if script is not None else None)
    assert (found.attempted, found.subject, found.exit_status, found.sqlstate) == ("restore", "x", 3, "42P01")
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_stopped_a_restore(case: str) -> None:
    printed, words, remedy = CASES[case]
    found = explained(printed)
    assert words in found.cause
    assert remedy in found.remedy
    assert "secret" not in str(found), "a row in an error"


def test_the_object_of_a_script_is_that_of_the_line() -> None:
    assert explained(PSQL, SCRIPT).cause.startswith("table data item: the function public.fsql(integer) relies")
    assert explained(PSQL.replace(":6:", ":4:"), SCRIPT).cause.startswith("table item: ")
    assert explained(PSQL.replace(":6:", ":1:"), SCRIPT).cause == "what the program said"
