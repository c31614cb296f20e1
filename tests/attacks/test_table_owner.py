# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who owns a table, and is no superuser, becomes one at the next restore.

PostgreSQL runs the functions of a table's checks, domains and generated columns as whoever writes the rows, and a
restore writes them. Each role owns a schema and what is in it; its functions try all that takes the rights of a
superuser's session. The control is `pg_restore` as the superuser, as scripts run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint, scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import IMAGE, Stack, docker, restore_beside, say

pytestmark = [pytest.mark.docker, pytest.mark.slow]
# It does nothing where it has not got them. Each way is tried, as the first may be forbidden.
CODE = """
CREATE FUNCTION {0}.become() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE before text;
BEGIN
  FOREACH before IN ARRAY ARRAY['SELECT 1', 'RESET ROLE', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION'] LOOP
    BEGIN
      EXECUTE before;
      ALTER ROLE {0} SUPERUSER;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  RETURN true;
END $$;
CREATE FUNCTION {0}.try(v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN {0}.become(); END';
CREATE FUNCTION {0}.same(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM {0}.become(); RETURN v; END';
{1}
INSERT INTO {0}.t VALUES (1);
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {0} FROM PUBLIC;
"""
WAYS = {
    "of_check": "CREATE TABLE {0}.t (v int CHECK ({0}.try(v)));",
    "of_domain": "CREATE DOMAIN {0}.d AS int CHECK ({0}.try(VALUE)); CREATE TABLE {0}.t (v {0}.d);",
    "of_generated": "CREATE TABLE {0}.t (v int, w int GENERATED ALWAYS AS ({0}.same(v)) STORED);",
    "of_partition": "CREATE TABLE {0}.p (v int) PARTITION BY LIST ({0}.same(v));"
    " CREATE TABLE {0}.t PARTITION OF {0}.p FOR VALUES IN (1);",
    # pg_dump makes this one after the rows, and PostgreSQL then looks at each of them.
    "of_row": "CREATE TABLE {0}.t (v int); CREATE FUNCTION {0}.look(r {0}.t) RETURNS boolean"
    " LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN {0}.try(r.v); END'; ALTER TABLE {0}.t ADD CHECK ({0}.look(t.*));",
}
# PostgreSQL runs these as the owner, in an operation that cannot take another's rights, or not at all.
OWNERS = {
    "of_index": "CREATE TABLE {0}.t (v int); CREATE INDEX ON {0}.t ({0}.same(v));",
    "of_view": "CREATE TABLE {0}.t (v int); CREATE MATERIALIZED VIEW {0}.m AS SELECT {0}.same(v) FROM {0}.t;",
    "of_trigger": "CREATE TABLE {0}.t (v int); CREATE FUNCTION {0}.f() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM {0}.try(1); RETURN NEW; END'; CREATE TRIGGER f BEFORE INSERT ON {0}.t"
    " FOR EACH ROW EXECUTE FUNCTION {0}.f();",
    "of_policy": "CREATE TABLE {0}.t (v int); ALTER TABLE {0}.t ENABLE ROW LEVEL SECURITY;"
    " CREATE POLICY p ON {0}.t USING ({0}.try(v)) WITH CHECK ({0}.try(v));",
    "of_default": "CREATE TABLE {0}.t (v int DEFAULT {0}.same(1));",
    # What a fingerprint reads as text, and what it orders.
    "of_cast": "CREATE TYPE {0}.c AS (v int); CREATE FUNCTION {0}.said(c {0}.c) RETURNS text LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM {0}.become(); RETURN $$x$$; END'; CREATE CAST ({0}.c AS text) WITH FUNCTION {0}.said({0}.c)"
    " AS IMPLICIT; CREATE TABLE {0}.t (v int, c {0}.c DEFAULT ROW(1)::{0}.c);",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a database of the superuser's, and in it a table of his and every role's schema."""
    one = Stack(tmp_path_factory.mktemp("project"))
    with one.up():
        one.psql("CREATE DATABASE shop;")
        one.psql("CREATE TABLE public.orders (id int PRIMARY KEY); INSERT INTO public.orders VALUES (1), (2);", "shop")
        roles = (*WAYS, *OWNERS)
        one.psql(
            "".join(f"CREATE ROLE {role} LOGIN; CREATE SCHEMA {role} AUTHORIZATION {role};" for role in roles), "shop"
        )
        for role, sql in {**WAYS, **OWNERS}.items():
            one.psql(CODE.format(role, sql.format(role)), "shop", user=role)
        assert became(one) == set()
        yield one


def became(stack: Stack) -> set[str]:
    """The roles that are superusers by now; they are none afterwards."""
    found = set(stack.psql("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname ~ '^of_';"))
    for name in found:
        stack.psql(f"ALTER ROLE {name} NOSUPERUSER;")
    return found


def test_control_a_restore_as_the_superuser_makes_them_superusers(stack: Stack) -> None:
    stack.psql("CREATE DATABASE control;")
    script = 'pg_dump -Fc -U "$0" -d shop | pg_restore -U "$0" -d control'
    docker("exec", stack.container, "sh", "-c", script, stack.user)
    assert became(stack) == set(WAYS)


def test_neither_backup_nor_restore_makes_one_of_them_a_superuser(stack: Stack, tmp_path: Path) -> None:
    """And all is back: what a scratch server has after it is equal to the fingerprint."""
    settings = stack.config(tmp_path, database={"name": "shop"})
    taken = dump.take(Opened(settings), log=say)
    assert became(stack) == set(), "nor does a backup or its fingerprint"
    restore_beside(stack, stack.config(tmp_path, database={"name": "shop", "trust_owners": True}), "trusted")
    assert became(stack) == set(WAYS), "control: as all was restored before, and is where an operator wants it"
    restore_beside(stack, settings, "copy")
    assert became(stack) == set()
    rows = [stack.psql(f"SELECT count(*) FROM {role}.t;", "copy") for role in (*WAYS, *OWNERS)]
    assert rows == [["1"]] * len(rows)
    assert stack.psql("SELECT count(*) FROM public.orders;", "copy") == ["2"]
    found = verify.verify(Opened(settings), taken.id, "restore", log=say)
    assert [(check.name, check.detail) for check in found.checks if check.result != PASS] == []
    left = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^lifeboat';"
    assert stack.psql(left) == ["0"], "no role of ours is left"


NEEDS = """
CREATE ROLE needy LOGIN;
CREATE SCHEMA needy AUTHORIZATION needy;
CREATE FUNCTION needy.known(v int) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN RETURN (SELECT count(*) >= 0 FROM pg_catalog.pg_authid); END';
CREATE TABLE needy.t (v int CHECK (needy.known(v)));
INSERT INTO needy.t VALUES (1);
ALTER TABLE needy.t OWNER TO needy;
"""


def test_a_check_that_needs_a_superuser_is_told_and_can_be_trusted(stack: Stack, tmp_path: Path) -> None:
    """Nothing says that the backup is broken: whoever trusts the owners says so, and has it restored as before."""
    stack.psql("CREATE DATABASE needs;")
    stack.psql(NEEDS, "needs")
    settings, trusted = (
        stack.config(
            tmp_path, database={"name": "needs", "exclude": ["shop", "copy", "control", "trusted"], "trust_owners": yes}
        )
        for yes in (False, True)
    )
    taken = dump.take(Opened(settings), log=say)
    with pytest.raises(LifeboatError, match=r"pg_authid.*lifeboat_database\.trust_owners"):
        restore_beside(stack, settings, "refused")
    found = verify.verify(Opened(settings), taken.id, "restore", log=say)
    assert [(check.name, check.result) for check in found.checks if check.result != PASS] == [
        ("restore", COULD_NOT_VERIFY)
    ]
    restore_beside(stack, trusted, "restored")
    assert stack.psql("SELECT count(*) FROM needy.t;", "restored") == ["1"]


def test_a_view_in_the_place_of_a_table_is_not_read(stack: Stack, tmp_path: Path) -> None:
    """Its owner puts it there after the list of tables was read, and before the table is."""
    stack.psql("CREATE VIEW of_check.swapped AS SELECT of_check.become() AS v;", "shop", user="of_check")
    stack.psql("SELECT FROM ONLY of_check.swapped;", "shop")
    assert became(stack) == {"of_check"}, "control"
    server = stack.server(stack.config(tmp_path, database={"name": "shop"}))
    table = fingerprint._Table("of_check.swapped", "x.v", True, False, 0)
    for method in ("", "record", "text"):
        with server.session("shop") as session, pytest.raises(LifeboatError, match="non-system view"):
            session.rows(fingerprint._table_sql(table, method), attempted="take the fingerprint")
    assert became(stack) == set()
    stack.psql("DROP VIEW of_check.swapped;", "shop")


def test_what_runs_in_a_scratch_server_has_no_rights_of_the_machine(stack: Stack, tmp_path: Path) -> None:
    """Whoever becomes a superuser there runs programs there: without a network, a device, or a way to more rights."""
    asked = ["-E", "^(CapBnd|NoNewPrivs):", "/proc/self/status"]
    usual = docker("run", "--rm", "--entrypoint", "grep", IMAGE, *asked).split()
    with scratch.container(IMAGE, stack.stack, tmp_path, timeout=60) as name:
        found = docker("exec", name, "grep", *asked).split() + docker("exec", name, "ls", "/sys/class/net").split()
        limits = docker("inspect", "--format", "{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}}", name).split()
    wide, narrow = (int(words[1], 16) for words in (usual, found))
    assert (wide & 1 << 13 > 0, usual[3]) == (True, "0"), "control: an ordinary container has raw sockets, and more"
    assert (narrow, found[3:]) == (1 << 0 | 1 << 1, ["1", "lo"])
    assert limits[0] == "2048" and int(limits[1]) > 1 << 20
