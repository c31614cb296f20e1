# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passwords of roles: what PostgreSQL 17 wrote for them, and what it would let in."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import passwords
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical.restore import statements
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier

# `pg_dumpall --globals-only` of a PostgreSQL 17 with these roles. NBSP, a soft hyphen and a ligature are prepared; a
# text that is both left-to-right and right-to-left, or has a tab, is not.
WRITTEN: dict[str, tuple[str, str]] = {
    'a b"c': (
        "simple",
        "SCRAM-SHA-256$4096:4YMee2JQDVQHR0p6yEaP8Q==$LMFoGqBU+yeOMmIDNMTJffJE3O7iy+S8Lv0B31o55rY="
        ":n9TtT2Ne78Usjyx0W5sw1xK3p0N52AogCFPhMis1uTE=",
    ),
    "u": (
        " ß日 \u00a0x\u00ad ﬁ",
        "SCRAM-SHA-256$4096:XtAZr5s7rSmZSZL/Ba5gJQ==$rGKvEF5I6nTOO71creI7EAvSL/5QQ7lQChpWW+uHHG0="
        ":rR5unO2f22bP63JPDzq4Wp8A3hjwV5Y4yFurPCo95Tk=",
    ),
    "v": (
        "left \u05d0",
        "SCRAM-SHA-256$4096:WTEN8f7yFRcJWfC3kaYLJQ==$s6f4m+s7YtNA3CvfLCxnzzSEwkLYjsNESfq04S06r2s="
        ":wL8O7Ff+j9zbiLxPtX2PYmg8q1pXyhVSmuYCdd+VTxg=",
    ),
    "w": (
        "tab\t ü\t",
        "SCRAM-SHA-256$4096:KnHnN6IF58lcj4IthEXybA==$EUYb+KOHBQQyz/s0mdhz3xvGKj6VtE4EzMJNtDLfOaA="
        ":DKer0in5kn6DWt7SMYd1NC70D2vZ9InEOVoDYCnHAOc=",
    ),
    "m": ("simple", "md5e3856ea5945c7ab219951e9416a86485"),
}


@pytest.mark.parametrize("role", WRITTEN)
def test_what_postgresql_wrote_is_known_again(role: str) -> None:
    password, verifier = WRITTEN[role]
    assert passwords.matches(verifier, role, password) is True
    assert passwords.matches(verifier, role, f"{password}.") is False


@pytest.mark.parametrize("password", ["", "a", *(password for password, _ in WRITTEN.values()), "\udcff"])
def test_what_we_write_is_known_again(password: str) -> None:
    verifier = passwords.verifier_of(password)
    assert passwords.matches(verifier, "any", password) is True
    assert passwords.matches(verifier, "any", f"{password}x") is False
    assert verifier != passwords.verifier_of(password), "a salt of its own"


UNKNOWN: list[tuple[Optional[str], Optional[bool]]] = [
    (None, False),
    ("", None),
    ("plain", None),
    ("SCRAM-SHA-256$0:eA==$" + "A" * 44 + ":" + "A" * 44, None),
    ("SCRAM-SHA-256$999999999:eA==$" + "A" * 44 + ":" + "A" * 44, None),
    ("SCRAM-SHA-256$4096:=A$" + "A" * 44 + ":" + "A" * 44, None),
    ("SCRAM-SHA-512$4096:eA==$" + "A" * 44 + ":" + "A" * 44, None),
]


@pytest.mark.parametrize(("verifier", "known"), UNKNOWN)
def test_of_what_is_no_verifier_nothing_is_said(verifier: Optional[str], known: Optional[bool]) -> None:
    assert passwords.matches(verifier, "any", "plain") is known


@pytest.mark.parametrize("name", ["app", 'a b"c', "x WITH PASSWORD 'y'", "new\nline", "日本", "n\udce9"])
def test_the_globals_tell_each_role_s_own(name: str) -> None:
    quoted = identifier(name)
    script = (
        f"CREATE ROLE {quoted};\nALTER ROLE {quoted} WITH LOGIN PASSWORD 'SCRAM''x' VALID UNTIL 'infinity';\n"
        f"ALTER ROLE {quoted} SET application_name TO ' WITH PASSWORD ''z''';\n"
        "ALTER ROLE plain WITH NOLOGIN;\nCOMMENT ON ROLE plain IS 'ALTER ROLE plain WITH PASSWORD ''z''';\n"
    )
    assert passwords.of_globals(statements(script)) == {name: "SCRAM'x", "plain": None}
