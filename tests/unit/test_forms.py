# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that PostgreSQL prints otherwise after a restore, as 15.18, 16.14, 17.10 and 18.4 print them, and views that
are others. The server stands for one that made what it was told."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import forms
from builders import fingerprint as make

FIRST = " SELECT a\n   FROM ( SELECT t.a\n           FROM public.t\n        UNION ALL\n         SELECT NULL::integer) x"
THEN = FIRST.replace("NULL::integer", "NULL::integer AS int4")
BODY = "postgres|p|f|f|n|t|{}|postgres/postgres/SELECT/f"
VIEW, ODD, MATERIAL = "view public.v", 'view public."V;\n""x"', "materialized view public.m"


def dump(text: str) -> str:
    return (
        f"--\n-- Name: v; Type: VIEW; Schema: public; Owner: postgres\n--\n\nCREATE VIEW public.v AS\n{text};\n\n\n"
        "ALTER VIEW public.v OWNER TO postgres;\n\n--\n-- Name: V; Type: VIEW; Schema: public; Owner: postgres\n--\n\n"
        f'CREATE VIEW public."V;\n""x" WITH (security_barrier=\'true\') AS\n{text}\n  WITH LOCAL CHECK OPTION;\n\n\n'
        f"CREATE MATERIALIZED VIEW public.m AS\n{text}\n  WITH NO DATA;\n"
    )


class Server:
    """prints: what it makes of a text. body: of every view, with a place for its text."""

    def __init__(self, prints: dict[str, str], body: str = BODY) -> None:
        self.prints, self.body, self.made = prints, body, 0

    def execute(self, sql: str, **_: Any) -> list[object]:
        if "lifeboat_form" not in sql:
            return [{"k": key, "b": self.body.format("\x01")} for key in (VIEW, ODD, MATERIAL)]
        self.made += 1
        made = re.search(r"CREATE TEMPORARY VIEW lifeboat_form AS\n(.*);\nSELECT to_json", sql, re.DOTALL)
        assert made is not None and sql.startswith("BEGIN;\n") and sql.endswith("\nROLLBACK;")
        if made[1] not in self.prints:
            raise LifeboatError("make a view once more", "shop", "syntax error")
        return [f"{self.prints[made[1]]};"]


def schema(text: str, body: str = BODY) -> dict[str, str]:
    return dict.fromkeys((VIEW, ODD, MATERIAL), fingerprint.digest(body.format(f"{text};")))


def different(server: Server, found: dict[str, str], text: str = FIRST) -> list[str]:
    expected = make(schema={**schema(FIRST), "table public.t": "1"})
    restored = replace(expected, schema={**expected.schema, **found})
    made = forms.accepted(server, "w", expected, restored, dump(text).splitlines(keepends=True))  # type: ignore[arg-type]
    return sorted(key for key, digest in made.schema.items() if restored.schema[key] != digest)


def test_a_view_that_is_printed_otherwise_after_a_restore_is_the_same() -> None:
    server = Server({FIRST: THEN})
    assert different(server, schema(THEN)) == []
    assert server.made == 3


@pytest.mark.parametrize(
    ("server", "found", "text"),
    [
        pytest.param(Server({FIRST: THEN}), schema("SELECT 7"), FIRST, id="another view"),
        pytest.param(Server({FIRST: THEN}), schema(THEN, BODY.replace("|p|", "|u|")), FIRST, id="another property"),
        pytest.param(Server({FIRST: THEN}, BODY.replace("|p|", "|u|")), schema(THEN), FIRST, id="others on both sides"),
        pytest.param(Server({"SELECT 7": THEN}), schema(THEN), "SELECT 7", id="not the text of the fingerprint"),
        pytest.param(Server({FIRST: FIRST}), schema(THEN), FIRST, id="its text gives another form"),
        pytest.param(Server({}), schema(THEN), FIRST, id="its text is refused"),
    ],
)
def test_what_is_another_view_stays_a_difference(server: Server, found: dict[str, str], text: str) -> None:
    assert different(server, found, text) == sorted([VIEW, ODD, MATERIAL])


def test_nothing_is_asked_where_nothing_differs() -> None:
    server = Server({})
    assert different(server, {}) == []
    assert different(server, {"table public.t": "2"}) == ["table public.t"], "of other kinds a difference is one"
    assert server.made == 0


@pytest.mark.parametrize("scheme", [2, 3])
def test_the_bodies_are_asked_as_the_fingerprint_asks_them(scheme: int) -> None:
    sql = fingerprint.bodies_sql(scheme, "chr(1)", ["'view public.v'"])
    assert sql.count("chr(1)") == 1 and "pg_get_viewdef(" not in sql
    asked = sql.replace("chr(1)", "pg_get_viewdef(own.oid)").removeprefix(fingerprint.names_of(scheme))
    assert fingerprint._schema_of(scheme).startswith(asked.partition("SELECT jsonb_build_object('k', kind")[0])
