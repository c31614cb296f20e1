# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup of one PostgreSQL major, restored into a newer one: rows as real servers of 15.18, 16.14, 17.10 and 18.4
gave them for the same database (ICU, a membership, a publication)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.database import cluster, fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database.cluster import Inside
from test_cluster import EXPECTED
from test_fingerprint import facts, of, read

_ROW = {
    "datname": "i", "datctype": "C", "datcollate": "C", "datallowconn": True, "datconnlimit": -1,
    "datistemplate": False, "dattablespace": "1663", "datcollversion": "153.80", "datlocprovider": "i",
}  # fmt: skip
ROWS: dict[int, dict[str, Any]] = {
    15: {**_ROW, "daticulocale": "en-US"},
    16: {**_ROW, "daticulocale": "en-US", "daticurules": None},
    17: {**_ROW, "datlocale": "en-US", "daticurules": None, "dathasloginevt": False},
    18: {**_ROW, "datlocale": "en-US", "daticurules": None, "dathasloginevt": False},
}
_TABLES = "629e2f91971f58f587a824cbb1ef0b31"
_OLD = (
    'postgres {"pubdelete": true, "pubinsert": true, "pubupdate": true, "pubviaroot": false, "pubtruncate": true,'
    f' "puballtables": false}} {_TABLES}'
)
_NEW = _OLD.replace('"pubviaroot"', '"pubgencols": "n", "pubviaroot"')
PUBLICATIONS = {15: _OLD, 16: _OLD, 17: _OLD, 18: _NEW}
NEWER = [(old, new) for old, new in itertools.product(ROWS, ROWS) if old <= new]


def settings(old: int, new: int, before: dict[str, Any] | None = None, now: dict[str, Any] | None = None) -> Check:
    expected, found = facts(), facts()
    for body, major, row in ((expected, old, before), (found, new, now)):
        body["facts"]["row"] = {**ROWS[major], **(row or {})}
        body["facts"]["server_version_num"] = major * 10000 + 4
    return of(fingerprint.compare(read(expected), read(found)), "database settings")


@pytest.mark.parametrize(("old", "new"), NEWER)
def test_an_icu_database_is_the_same_in_every_newer_major(old: int, new: int) -> None:
    assert settings(old, new).result == PASS
    other = "daticulocale" if new < 17 else "datlocale"
    check = settings(old, new, now={other: "de-DE"})
    assert (check.result, check.detail) == (FAIL, "datlocale: 'de-DE', the backup 'en-US'")


def test_the_rules_of_a_locale_are_compared() -> None:
    rules = {"daticurules": "&a < b"}
    assert settings(16, 17, rules, rules).result == PASS
    check = settings(17, 17, rules)
    assert (check.result, check.detail) == (FAIL, "daticurules: None, the backup '&a < b'")


def test_a_locale_that_majors_write_differently() -> None:
    """16 and newer make a language tag of it."""
    assert settings(15, 16, {"daticulocale": "en_US"}).result == PASS
    assert settings(16, 16, {"daticulocale": "en_US"}).result == FAIL, "of one major every difference is one"
    with_options = {"daticulocale": "de@collation=phonebook"}, {"datlocale": "de-u-co-phonebk"}
    assert settings(15, 17, *with_options).result == COULD_NOT_VERIFY


def test_a_major_without_providers_has_libcs() -> None:
    before = {"datlocprovider": None, "daticulocale": None}
    assert settings(15, 17, before, {"datlocprovider": "c", "datlocale": None}).result == PASS
    assert settings(15, 17, before).result == FAIL


@pytest.mark.parametrize(("major", "asked"), [(0, False), (14, True), (15, True), (16, False), (18, False)])
def test_roles_are_described_as_the_backups_major_does(major: int, asked: bool) -> None:
    """Before 16 a membership has no options of its own."""
    sql = fingerprint._roles_of(major)
    assert ("NULLIF((to_jsonb(m)->>'inherit_option')::bool, r.rolinherit)" in sql) is asked
    assert sql.count("inherit_option") == sql.count("set_option") == 1


def published(old: str, new: str) -> tuple[str, str]:
    name = next(iter(EXPECTED.databases))
    before, now = (
        replace(EXPECTED, databases={name: Inside({"p": text}, EXPECTED.databases[name].extensions)})
        for text in (old, new)
    )
    made = cluster.compare(before, now, same_major=False)
    return next((check.result, check.detail) for check in made.checks if check.name == cluster.PUBLICATIONS)


@pytest.mark.parametrize(("old", "new"), NEWER)
def test_a_publication_is_the_same_in_every_newer_major(old: int, new: int) -> None:
    assert published(PUBLICATIONS[old], PUBLICATIONS[new])[0] == PASS


@pytest.mark.parametrize(
    ("now", "result"),
    [
        (_NEW.replace('"pubgencols": "n"', '"pubgencols": "s"'), FAIL),
        (_NEW.replace('"pubdelete": true', '"pubdelete": false'), FAIL),
        (_NEW.replace("postgres ", "other "), FAIL),
        (_NEW.replace(_TABLES, "0" * 32), COULD_NOT_VERIFY),
        ("what no major says", COULD_NOT_VERIFY),
    ],
)
def test_a_publication_that_is_another(now: str, result: str) -> None:
    assert published(_OLD, now)[0] == result
