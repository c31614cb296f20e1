# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_hba.conf says of a new role with a password, before a restore needs one."""

from __future__ import annotations

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import hba
from ansible_collections.lifeboat.dr.plugins.module_utils.database.cluster import Rule


def rule(line: str, error: str | None = None) -> Rule:
    """Of a line as people write it: type, databases, users, address, method."""
    kind, databases, users, *where, method = line.split()
    address, _, mask = where[0].partition("/") if where else ("", "", "")
    netmask = {"": None, "32": "255.255.255.255", "8": "255.0.0.0", "128": "f" * 4 + ":ffff" * 7}.get(mask, mask)
    return Rule(
        kind, tuple(databases.split(",")), tuple(users.split(",")), address or None, netmask, method, (), error, 1
    )


PEER, DENIED = "local all all peer", "host all all 127.0.0.1/32 reject"
# the lines of the file -> the lines that decide against it, None where it is let in or nobody can tell
FILES: list[tuple[str, list[str], list[str] | None]] = [
    ("the official image", ["local all all trust", "host all all all scram-sha-256"], None),
    ("Debian", [PEER, "host all all 127.0.0.1/32 scram-sha-256"], None),
    ("the socket alone", [PEER], ["local all all peer"]),
    ("denied there", [PEER, DENIED, "host all all all md5"], [PEER, "host all all 127.0.0.1 255.255.255.255 reject"]),
    ("no line at all", [], []),
    ("of certain databases", ["local shop all md5", "host shop all all md5"], []),
    ("of certain users", ["local all app md5", "host all app,web all md5"], []),
    ("of replication", ["local replication all trust", "host replication all all trust"], []),
    ("from elsewhere", [PEER, "host all all 10.0.0.0/8 md5"], [PEER]),
    ("from IPv6", [PEER, "host all all ::1/128 md5"], [PEER]),
    ("a network around it", [PEER, "host all all 127.0.0.0/8 md5"], None),
    ("with TLS alone", [PEER, "hostssl all all all md5"], None),
    ("without TLS alone", [PEER, "hostssl all all all cert", "hostnossl all all all md5"], None),
    ("by its name", [PEER, "host all all localhost md5"], None),
    ("by another name", [PEER, "host all all db.example.org md5"], None),
    ("by a pattern", [PEER, "host all /^life all md5"], None),
    ("by a role that it has", [PEER, "host all +pg_write_all_data all md5"], None),
    ("by another role", [PEER, "host all +staff all md5"], [PEER]),
    (
        "a pattern behind what decides",
        ["local all all reject", DENIED, "host all /^x all md5"],
        ["local all all reject"],
    ),
]


@pytest.mark.parametrize(("lines", "deciding"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_who_is_let_in(lines: list[str], deciding: list[str] | None) -> None:
    found = hba.refusal([rule(line) for line in lines])
    assert bool(found) is (deciding is not None)
    for line in deciding or ():
        assert line in found
    if deciding == []:
        assert "no line fits" in found


def test_of_a_file_that_the_server_could_not_read_nothing_is_known() -> None:
    assert hba.refusal([rule(PEER), rule(PEER, error="invalid")]) == ""
