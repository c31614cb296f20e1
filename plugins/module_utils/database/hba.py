# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether pg_hba.conf lets the role in that restores rows: a new one with a password (methods/logical/owners.py).

Asked before anything is stopped, by what the file says; the restore itself tries it. Only what is sure is told: a rule
that cannot be judged here leaves it open. https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Sequence
from typing import Optional

from ..base.errors import LifeboatError
from ..base.text import named
from .cluster import HBA, HBA_RULES, Rule
from .server import Server, answers, literal

_OPEN = ("trust", "password", "md5", "scram-sha-256")
_LOOPBACK = ipaddress.ip_address("127.0.0.1")
# Over the socket, and to 127.0.0.1 with TLS and without: libpq tries both.
_WAYS = (("local",), ("host", "hostssl", "hostnogssenc"), ("host", "hostnossl", "hostnogssenc"))


def closed_to_passwords(server: Server, databases: Sequence[str]) -> str:
    """Return why no new role with a password can log in, where rows of these databases have owners that are no
    superusers; empty where one can, nobody needs to, or it is not known."""
    with contextlib.suppress(LifeboatError):
        if server.host or not _needed(server, databases):
            return ""  # how the server sees an address that we come from is not known
        rules = answers(Rule, server.execute(HBA_RULES, attempted=f"read {HBA}"))
        return refusal(rules)
    return ""


def _needed(server: Server, databases: Sequence[str]) -> bool:
    if not databases:
        return False
    listed = ", ".join(literal(name) for name in databases)
    sql = (
        "SELECT to_json(count(*)) FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid"
        " JOIN pg_catalog.pg_database d ON d.oid = s.dbid"
        f" WHERE s.deptype = 'o' AND NOT r.rolsuper AND d.datname IN ({listed});"
    )
    return any(answers(int, server.execute(sql, attempted="look who owns what is in the databases")))


def refusal(rules: Sequence[Rule]) -> str:
    """Return the rules that decide against it, of each way; empty where one way is open or cannot be judged."""
    if any(rule.error is not None for rule in rules):
        return ""  # the server goes on with the rules that it read before
    deciding = []
    for types in _WAYS:
        for rule in rules:
            fits = _fits(rule, types)
            if fits is None:
                return ""
            if fits:
                if rule.method in _OPEN:
                    return ""
                deciding.append(rule.text)
                break
    words = "; ".join(map(named, dict.fromkeys(deciding))) or "no line fits"
    return f"{HBA} lets no new role with a password in ({words})"


def _fits(rule: Rule, types: Sequence[str]) -> Optional[bool]:
    """Return whether it is about a new role, by this way, to a new database; None where that cannot be judged."""
    if rule.type not in types:
        return False
    names = (*rule.databases, *rule.users)
    if any(name.startswith("/") for name in names) or "+pg_write_all_data" in rule.users:
        return None
    if "all" not in rule.databases or "all" not in rule.users:
        return False
    return True if rule.type == "local" else loopback(rule)


def loopback(rule: Rule) -> Optional[bool]:
    address = rule.address or ""
    if address in ("all", "samehost", "samenet", "localhost"):
        return True
    try:
        if ipaddress.ip_address(address).version != _LOOPBACK.version:
            return False
        network = ipaddress.ip_network(f"{address}/{rule.netmask}" if rule.netmask else address, strict=False)
    except ValueError:
        return None  # a host name, which may be this one's
    return _LOOPBACK in network
