# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log, an error or a name from outside may not carry into the evidence: secrets, rows, control characters."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.redact import Redactor, assignments, secrets_of
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline

SECRET = 'Tr0ub4dor&3/"quoted"'
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END"


@pytest.mark.parametrize(
    "told",
    [
        SECRET,
        f"connecting with {SECRET}, twice: {SECRET}",
        urllib.parse.quote(SECRET, safe=""),
        f"postgresql://shop:{urllib.parse.quote_plus(SECRET)}@db/shop",
        json.dumps({"a": SECRET}),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_blanked_in_the_clear_and_encoded(told: str) -> None:
    veiled = Redactor([SECRET])(told)
    for form in (
        SECRET,
        "Tr0ub4dor",
        urllib.parse.quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode()[:12],
    ):
        assert form not in veiled
    assert "********" in veiled


def test_a_key_of_several_lines_is_blanked_line_by_line() -> None:
    veiled = Redactor([KEY]).lines(f"could not load\n{KEY}\nbye", 10)
    assert "MIIEvQ" not in "".join(veiled)
    assert veiled[0] == "could not load"
    assert veiled[-1] == "bye"


def test_short_words_are_not_taken_for_secrets() -> None:
    """An access key called `shop` must not blank every name of the stack."""
    assert Redactor(["shop", ""])("shop-backend-1 exited") == "shop-backend-1 exited"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m alert", ("red alert",)),
        ("one\rtwo\x00\x07", ("one", "two")),
        (
            "ok\nERROR: duplicate key\nDETAIL:  Key (email)=(a@b.example) already exists.\n",
            ("ok", "ERROR: duplicate key"),
        ),
        ("STATEMENT:  INSERT INTO people VALUES ('x')", ()),
        ("evil\u202egnp.exe", ("evilgnp.exe",)),
        ("x" * 5000, ("x" * 300,)),
        ("PASSWORD=hunter22 in the log", ("PASSWORD=******** in the log",)),
        ("", ()),
    ],
)
def test_lines_are_fit_for_a_terminal(raw: str, shown: tuple[str, ...]) -> None:
    assert Redactor().lines(raw, 10) == shown


def test_only_the_last_lines_are_kept() -> None:
    assert Redactor().lines("\n".join(map(str, range(100))), 3) == ("97", "98", "99")


def test_names_from_outside_stay_on_one_line() -> None:
    assert pipeline.one_line("a\nb\x1b[2J  c\u2066") == "a b c"
    assert len(pipeline.one_line("n" * 999)) == 120


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("A=1", {"A": "1"}),
        ("export A='x # y' # why", {"A": "x # y"}),
        ('A="two words"', {"A": "two words"}),
        ("A=plain # why", {"A": "plain"}),
        ("A: colon", {"A": "colon"}),
        ("A=", {"A": ""}),
        ("# A=1", {}),
        ("=x", {}),
        ("no assignment", {}),
        ("A=b=c", {"A": "b=c"}),
    ],
)
def test_env_files_are_read_as_compose_does(line: str, found: dict[str, str]) -> None:
    assert assignments(line) == found


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("POSTGRES_PASSWORD", "hunter22", ["hunter22"]),
        ("APP_SECRET", "s3cr3t", ["s3cr3t"]),
        ("DATABASE_URL", "postgresql://shop:pa55@db/shop", ["pa55", "postgresql://shop:pa55@db/shop"]),
        ("PUBLIC_URL", "https://shop.example.org/", []),
        ("TZ", "Asia/Tokyo", []),
        ("DATABASE_HOST", "db", []),
        ("ODD_NAME", "AKIAIOSFODNN7EXAMPLEKEY", ["AKIAIOSFODNN7EXAMPLEKEY"]),
        ("STRIPE", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", ["sk_live_4eC39HqLyjWDarjtT1zdp7dc"]),
        ("PASSWORD", "", []),
    ],
)
def test_which_variables_are_secret(name: str, value: str, secret: list[str]) -> None:
    assert secrets_of({name: value}) == secret
