# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who restores which entry of an archive. tests/attacks/test_table_owner.py restores real ones."""

from __future__ import annotations

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import owners

SUPER, SHOP, HOSTILE = ("postgres", True), ("shop", False), ("my postgres", False)
BEFORE = """;
; Archive created at 2026-11-24
215; 1259 16385 TABLE public orders postgres
3400; 0 0 ACL public TABLE orders postgres
216; 1259 16386 TABLE DATA items shop
3401; 0 0 DEFAULT ACL - DEFAULT PRIVILEGES FOR TABLES shop"""
DATA = """
3390; 0 16385 TABLE DATA public orders postgres
3391; 0 16386 TABLE DATA DATA items shop
3392; 0 0 SEQUENCE SET public orders_id_seq shop
3402; 0 0 ACL - LARGE OBJECT 5 shop"""
AFTER = """
3200; 2606 16390 CONSTRAINT public orders orders_pkey postgres
3201; 2606 16391 CHECK CONSTRAINT DATA items items_check shop
3202; 2606 16392 CHECK CONSTRAINT public orders orders_check postgres"""


def test_rows_and_checks_of_owners_are_apart() -> None:
    """A table in a schema that is called DATA has no rows of its own to restore. Privileges come last."""
    found = owners.order(BEFORE + DATA + AFTER, BEFORE, DATA, [SUPER, SHOP])
    assert found == owners.Order(
        before=["215", "216"], rows=["3391"], rest=["3390", "3392"], checks=["3201"],
        after=["3400", "3401", "3402", "3200", "3202"],
    )  # fmt: skip


def test_each_entry_is_restored_once() -> None:
    found = owners.order(BEFORE + DATA + AFTER, BEFORE, DATA, [SUPER, SHOP])
    every = [*found.before, *found.rows, *found.rest, *found.checks, *found.after]
    assert sorted(every) == sorted(
        line.partition(";")[0] for line in (BEFORE + DATA + AFTER).split("\n") if line[:1] not in ("", ";")
    )


def test_what_is_all_the_superusers_is_restored_at_once() -> None:
    data = DATA.replace("shop", "postgres")
    found = owners.order(BEFORE + data, BEFORE, data, [SUPER, SHOP])
    assert (found.before, found.rows, found.rest, found.checks) == ((), (), (), ())
    assert len(found.after) == 8


@pytest.mark.parametrize("owner", ["my postgres", "my\npostgres", "nobody knows"])
def test_a_name_that_ends_as_the_superusers_is_not_his(owner: str) -> None:
    """`--list` writes a line break as a space. An owner that is not known is no superuser either."""
    data = f"1; 0 2 TABLE DATA public t {owner}".replace("\n", " ")
    found = owners.order(data, "", data, [SUPER, (owner if owner != "nobody knows" else "x", False)])
    assert found.rows == ["1"]


class Reached:
    """A server that lets a role in by these ways; None is the superuser's own."""

    def __init__(self, ways: set[str], host: str = "") -> None:
        self.ways, self.host = ways, host

    def as_user(self, user: str, password: str, host: str = "") -> Reached:
        assert (user, password) == ("r", "p")
        return Reached(self.ways, host)

    def problem(self, database: str) -> LifeboatError | None:
        assert database == "d"
        return None if self.host in self.ways else LifeboatError("reach", "it", "Peer authentication failed")


@pytest.mark.parametrize(("ways", "host"), [({"", "127.0.0.1"}, ""), ({"127.0.0.1"}, "127.0.0.1")])
def test_a_role_comes_as_it_is_let_in(ways: set[str], host: str) -> None:
    """Debian's socket lets only users of the operating system in."""
    assert owners._let_in(Reached(ways), "r", "p", "d").host == host  # type: ignore[arg-type,attr-defined]


def test_a_role_that_is_not_let_in_ends_the_restore() -> None:
    """And nothing is restored as the superuser instead: whoever takes all connections would choose that."""
    with pytest.raises(LifeboatError, match=r"Peer authentication failed.*trust_owners: true"):
        owners._let_in(Reached(set()), "r", "p", "d")  # type: ignore[arg-type]
