# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What surrounds the databases: read strictly, compared, and never a secret in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import cluster
from ansible_collections.lifeboat.dr.plugins.module_utils.database.cluster import (
    AUTO,
    COMMAND_LINE,
    MASK,
    Cluster,
    Extension,
    Inside,
    Origin,
    Setting,
    Slot,
    Subscription,
    Tablespace,
)
from builders import make_config

WORK_MEM = Setting("work_mem", "64MB", "configuration file", AUTO, "integer", "kB")
WHOLE = Cluster(
    scheme=1,
    settings=(WORK_MEM, Setting("fsync", "off", COMMAND_LINE, kind="bool")),
    for_all=(Setting("lock_timeout", "9s", "global", kind="integer", unit="ms"),),
    hba=("local all all trust",),
    ident=("m a b",),
    tablespaces=(Tablespace("fast", "o", "/x"),),
    slots=(Slot("s", "physical"),),
    origins=(Origin("up", "0/7"), Origin("pg_9", "0/8", "sub", "d\udce9")),
    subscriptions=(Subscription("sub", "d\udce9", "o", True, ("p",), "s", "host=a password=***"),),
    databases={"d\udce9": Inside({"p": "all"}, (Extension("e", "1", True),))},
    unreadable={"slots": "why"},
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert cluster.read(WHOLE.to_bytes(), "b") == WHOLE
    assert cluster.of(tmp_path) is None
    (tmp_path / cluster.CLUSTER).write_bytes(WHOLE.to_bytes())
    assert cluster.of(tmp_path) == WHOLE


HOSTILE = {
    "nothing": (b"", "it is not JSON"),
    "a list": (b"[]", "wants a mapping"),
    "no scheme": (b"{}", "lacks scheme"),
    "a scheme of zero": (b'{"scheme": 0}', "scheme 0 is not between 1"),
    "a text for a list": (b'{"scheme": 1, "hba": "local all all trust"}', "hba wants a list"),
    "a number for a text": (b'{"scheme": 1, "hba": [1]}', r"hba\[0\] wants str"),
    "a setting without a value": (b'{"scheme": 1, "settings": [{"name": "a", "source": "x"}]}', r"settings\[0\] lacks value"),
    "a truth that is text": (b'{"scheme": 1, "slots": [{"name": "a", "kind": "logical", "two_phase": "no"}]}', "two_phase wants bool"),
    "a key twice": (b'{"scheme": 1, "scheme": 2}', "a key is given twice"),
    "half a character": (b'{"scheme": 1, "hba": ["\\ud800"]}', "half a character"),
    "a NUL": (b'{"scheme": 1, "hba": ["a\\u0000b"]}', "it has a NUL"),
    "too deep": (b'{"scheme": 1, "x": ' + b"[" * 60 + b"]" * 60 + b"}", "nested more than"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_anything_else_is_refused(case: str) -> None:
    data, words = HOSTILE[case]
    with pytest.raises(IntegrityError, match=words):
        cluster.read(data, "b")


def test_two_characters_that_spell_an_escape_are_no_nul() -> None:
    data = json.dumps({"scheme": 1, "hba": ["\\u0000"]}).encode()
    assert cluster.read(data, "b").hba == ("\\u0000",)


SECRETS = {
    "host=a password=abc user=b": "host=a password=*** user=b",
    "host=a password = 'a b' user=b": "host=a password = *** user=b",
    r"password='it\'s' user=b": "password=*** user=b",
    r"password='a\\' user=b": "password=*** user=b",
    "password='cut off": "password=***",
    "PASSWORD=abc sslpassword=def": "PASSWORD=*** sslpassword=***",
    "postgres://u:abc@h/d": "postgres://u:***@h/d",
    "postgres://u:a@b:c@h/d": "postgres://u:***@h/d",
    "postgres://h/d?password=abc": "postgres://h/d?password=***",
    "PGPASSWORD=abc psql": "PGPASSWORD=*** psql",
    "mc --secret-key abc": "mc --secret-key ***",
    "AWS_SECRET_ACCESS_KEY=abc x": "AWS_SECRET_ACCESS_KEY=*** x",
    "passfile=/root/.pgpass user=b": "passfile=/root/.pgpass user=b",
    "host=a user=b": "host=a user=b",
    '"$user", public': '"$user", public',
    "%m [%p] ": "%m [%p] ",
    "radius radiusservers=h radiussecrets=abc": "radius radiusservers=h radiussecrets=***",
}


@pytest.mark.parametrize("text", SECRETS)
def test_passwords_are_masked_and_nothing_else(text: str) -> None:
    assert cluster.mask(text) == SECRETS[text]


@pytest.mark.parametrize(
    ("name", "kind", "value", "kept"),
    [
        ("app.jwt_secret", "string", "abc", MASK),
        ("app.jwt", "string", "eyJ.abc", MASK),
        ("app.settings.service_key", "string", "abc", MASK),
        ("my.encryption_key", "string", "00ff", MASK),
        ("ssl_passphrase_command", "string", "echo abc", MASK),
        ("archive_command", "string", "curl -u a:abc %p", f"curl {MASK}"),
        ("archive_command", "string", "KEY=abc", MASK),
        ("archive_command", "string", "", ""),
        ("restore_command", "string", "/usr/bin/get", "/usr/bin/get"),
        ("primary_conninfo", "string", "password=abc host=a", "password=*** host=a"),
        ("password_encryption", "enum", "scram-sha-256", "scram-sha-256"),
        ("ssl_key_file", "string", "server.key", "server.key"),
        ("app.api_tokens", "string", "abc,def", MASK),
    ],
)
def test_the_values_of_settings_that_may_hold_a_secret(name: str, kind: str, value: str, kept: str) -> None:
    assert cluster.masked(Setting(name, value, "x", AUTO, kind)).value == kept


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (WORK_MEM, ""),
        (Setting("max_connections", "9", "x", AUTO, "integer", None, True), ""),
        (Setting("wal_level", "logical", "x", AUTO, "enum", None, True), ""),
        (Setting("search_path", "public", "x", AUTO), ""),
        (Setting("wal_level", "minimal", "x", AUTO, "enum", None, True), "max_wal_senders"),
        (Setting("Port", "1", "x", AUTO, "integer", None, True), "where the server is reached"),
        (Setting("shared_preload_libraries", "x", "x", AUTO, "string", None, True), "does not start"),
        (Setting("huge_page_size", "1", "x", AUTO, "integer", "kB", True), "keeps the server from starting"),
        (Setting("dynamic_library_path", "/x", "x", AUTO), "a library"),
        (Setting("work_mem", "1; x", "x", AUTO, "a kind nobody knows"), "a library"),
        (Setting("search_path", MASK, "x", AUTO), "may hold a secret"),
    ],
)
def test_what_is_set_again(setting: Setting, words: str) -> None:
    why = cluster.kept_out(setting)
    assert words in why if words else not why


def found_with(**changes: object) -> Cluster:
    return replace(WHOLE, **{"unreadable": {}, **changes})  # type: ignore[arg-type]


EXPECTED = found_with()


def test_equal_however_a_value_is_written() -> None:
    for value in ("65536", "65536kB", "64MB", "0.0625GB"):
        made = cluster.compare(EXPECTED, found_with(settings=(replace(WORK_MEM, value=value), WHOLE.settings[1])))
        assert {check.result for check in made.checks} == {"PASS"}, value
        assert len(made.checks) == 8
        assert made.notes == ()


# What is otherwise in the server, the check that fails (none: it is a note) and its words.
DIFFERENCES: dict[str, tuple[dict[str, object], str, str]] = {
    "a restored setting": ({"settings": (replace(WORK_MEM, value="1MB"),)}, "server settings", "work_mem: the server has 1MB, the backup 64MB"),
    "a setting of the command line": ({"settings": (WORK_MEM,)}, "", "fsync = off was on the command line, the server has its default"),
    "a setting more": ({"settings": (*WHOLE.settings, Setting("jit", "off", "x", AUTO, "bool"))}, "", "jit = off was not in the backup"),
    "a setting of all roles": ({"for_all": ()}, "", "ALTER ROLE ALL SET lock_timeout = '9s';"),
    "a rule": ({"hba": ()}, "", "pg_hba.conf has other rules than the backup: 0 here, 1 there"),
    "a mapping": ({"ident": ("m a c",)}, "", "pg_ident.conf has other rules"),
    "a tablespace": ({"tablespaces": ()}, "", "CREATE TABLESPACE \"fast\" OWNER \"o\" LOCATION '/x';"),
    "a slot": ({"slots": ()}, "", "SELECT pg_create_physical_replication_slot('s');"),
    "an origin": ({"origins": WHOLE.origins[1:]}, "", "SELECT pg_replication_origin_create('up'); SELECT pg_replication_origin_advance('up', '0/7');"),
    "an origin elsewhere": ({"origins": (replace(WHOLE.origins[0], lsn="0/6"), WHOLE.origins[1])}, "", "origin up at 0/7 is not restored"),
    "the origin of a subscription": ({"origins": (WHOLE.origins[0], replace(WHOLE.origins[1], name="pg_11", lsn=None))}, "", "origin pg_9 of the subscription sub of d\\xe9 at 0/8"),
    "a subscription": ({"subscriptions": ()}, "", "the subscription sub of d\\xe9 is not there"),
    "a subscription that is disabled": (
        {"subscriptions": (replace(WHOLE.subscriptions[0], enabled=False),)}, "", 'ALTER SUBSCRIPTION "sub" ENABLE;'),
    "a publication": ({"databases": {"d\udce9": Inside({}, ())}}, "publications", "p of d\\xe9 is missing"),
    "a publication that differs": ({"databases": {"d\udce9": Inside({"p": "t"}, ())}}, "publications", "p of d\\xe9 differs"),
    "the files of an extension": (
        {"databases": {"d\udce9": Inside({"p": "all"}, (Extension("e", "1", False),))}}, "", "files of the extension e"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENCES)
def test_each_difference_is_named(case: str) -> None:
    changes, failing, words = DIFFERENCES[case]
    made = cluster.compare(EXPECTED, found_with(**changes), ["work_mem"])
    failed = {check.name: check.detail for check in made.checks if check.result == "FAIL"}
    assert list(failed) == ([failing] if failing else [])
    (told,) = [line for line in [*failed.values(), *made.notes] if words in line]
    assert told.isprintable()
    passed = {check.name for check in made.checks if check.result == "PASS"}
    assert len(passed) == 7, "what differs passes"


def test_an_origin_is_known_by_its_subscription_and_not_by_its_number() -> None:
    assert WHOLE.origins
    other = (WHOLE.origins[0], replace(WHOLE.origins[1], name="pg_11"))
    made = cluster.compare(EXPECTED, found_with(origins=other), ["work_mem"])
    assert made.notes == ()
    assert cluster.ORIGINS in [check.name for check in made.checks]


def test_of_origins_that_were_not_recorded_nothing_is_said() -> None:
    """A backup of before says nothing of them, so that no check can pass."""
    made = cluster.compare(replace(EXPECTED, origins=None), EXPECTED, ["work_mem"])
    assert cluster.ORIGINS not in [check.name for check in made.checks]
    assert not [line for line in cluster.notes(replace(EXPECTED, origins=None)) if "origin" in line]


# What a server of 15 and one of 18 said of the same subscription, once its dump of 15 was restored in 18.
OF_15 = {
    "subbinary": True, "substream": False, "subtwophasestate": "d", "subdisableonerr": True, "subsynccommit": "off",
}  # fmt: skip
OF_18 = {
    **OF_15, "substream": "p", "subrunasowner": False, "suborigin": "any", "subpasswordrequired": True,
    "subfailover": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("had", "has", "words"),
    [
        (OF_15, OF_15, ""),
        (OF_15, {**OF_18, "substream": "f", "subrunasowner": True}, ""),
        (OF_15, OF_18, "run_as_owner false instead of true, streaming parallel instead of off"),
        (OF_18, {**OF_18, "subnew": 5}, ""),
        ({**OF_18, "subtwophasestate": "e"}, {**OF_18, "subtwophasestate": "p"}, ""),
        ({**OF_18, "subtwophasestate": "e"}, OF_18, "two_phase false instead of true"),
        ({**OF_18, "suborigin": "none"}, OF_18, "origin any instead of none"),
        (None, OF_18, ""),
        (OF_15, None, ""),
    ],
)
def test_the_options_of_a_subscription_are_compared_by_what_each_major_means(
    had: dict[str, object] | None, has: dict[str, object] | None, words: str
) -> None:
    """18 streams in parallel where nothing is said, and 16 and newer apply as the table's owner: 15 did neither."""
    before, now = (replace(WHOLE.subscriptions[0], options=options) for options in (had, has))
    made = cluster.compare(found_with(subscriptions=(before,)), found_with(subscriptions=(now,)))
    passed = {check.name for check in made.checks if check.result == "PASS"}
    assert (cluster.SUBSCRIPTIONS in passed) == (not words)
    assert len(made.notes) == bool(words)
    assert not words or f"the subscription sub of d\\xe9 has other options: {words}" in made.notes[0], made.notes


def test_the_options_of_a_subscription_come_back_out_of_the_file() -> None:
    kept = replace(WHOLE, subscriptions=(replace(WHOLE.subscriptions[0], options=OF_15),))
    assert cluster.read(kept.to_bytes(), "x").subscriptions[0].options == OF_15


def test_what_was_in_template1_is_named_and_not_silently_gone() -> None:
    """No backup holds template1, which every new database is made of."""
    had = ("extension pg_trgm", "function tools.one()", *(f"table t{number:02}" for number in range(12)))
    (line,) = cluster.notes(Cluster(1, template=had))
    assert line.startswith("not restored: what somebody made in template1: extension pg_trgm, function tools.one(), ")
    assert "table t12" not in line and line.endswith(" and 6 more")
    made = cluster.compare(found_with(template=had), found_with(template=had[1:]))
    assert [line for line in made.notes if "template1" in line] == [
        "in template1 extension pg_trgm is not there any more: a database made from now on lacks it, those restored do not"
    ]
    assert cluster.compare(found_with(template=had), found_with(template=had)).notes == ()
    kept = replace(WHOLE, template=had)
    assert cluster.read(kept.to_bytes(), "x").template == had


def test_what_was_not_read_on_either_side_could_not_be_verified() -> None:
    why = {cluster.RULES: "permission denied"}
    for before, now in ((replace(EXPECTED, unreadable=why), EXPECTED), (EXPECTED, replace(EXPECTED, unreadable=why))):
        made = cluster.compare(before, now)
        assert [check.result for check in made.checks if check.name == cluster.RULES] == ["COULD_NOT_VERIFY"]


def test_what_was_in_a_database_that_is_not_there_is_not_equal() -> None:
    """It was not restored: a check of its own says so, and nothing in it was compared."""
    made = cluster.compare(EXPECTED, found_with(databases={}))
    results = {check.name: (check.result, check.detail) for check in made.checks}
    told = ("COULD_NOT_VERIFY", "not read: in d\\xe9, not there or not readable now")
    assert results[cluster.PUBLICATIONS] == results[cluster.LIBRARIES] == told


def test_the_plan_names_what_does_not_come_back() -> None:
    told = cluster.notes(replace(WHOLE, settings=(*WHOLE.settings, Setting("port", "5\n", "x", AUTO, "integer"))))
    assert all(line.startswith("not restored: ") and line.isprintable() for line in told)
    for words in (
        "port = 5\\n",
        "2 rules of pg_hba.conf",
        "CREATE TABLESPACE",
        "slot s",
        "subscription sub",
        "slots: not",
    ):
        assert any(words in line for line in told), words
    assert not [line for line in told if "work_mem" in line or "fsync" in line]
    assert cluster.notes(Cluster(1)) == []


def test_access_rules_that_differ_are_one_line_and_a_unified_diff(tmp_path: Path) -> None:
    settings = make_config(tmp_path)
    wanted = found_with(hba=("local all all trust", "host all all ::1/128 md5"), ident=("m a b",))
    diff, lines = cluster._aside(settings, wanted, found_with(), "20261126_120000")
    file = settings.state / "pg_hba.conf.lifeboat_20261126_120000"
    assert file.read_text().splitlines() == list(wanted.hba)
    assert (settings.state / f"{file.name}.diff").read_text() == f"{diff}\n"
    assert diff.splitlines() == [
        "--- pg_hba.conf", f"+++ {file.name}", "@@ -1 +1,2 @@", " local all all trust", "+host all all ::1/128 md5",
    ]  # fmt: skip
    assert lines == [
        f"the backup's rules of pg_hba.conf are in {file}, a unified diff in {file.name}.diff next to it and in the"
        " record's log; *** stands for secrets"
    ]
    assert cluster._aside(settings, wanted, wanted, "20261126_120000") == ("", [])
