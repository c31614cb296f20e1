# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""A backup of each PostgreSQL major is proved and recovered in a server of that major and of every newer one.

What came back is compared by one pg_dump, the newer one's, of both servers, and by what psql says of every row. The end
prints the matrix. Where the packages cannot be had (postgres_majors.py), the major is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import postgres_majors
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from foreign_server import CONTENT
from postgres_stack import STACK, Stack, docker, say

ROLES = (
    (15, "CREATE ROLE owner NOLOGIN; CREATE ROLE reader; CREATE ROLE clerk LOGIN NOINHERIT PASSWORD 'c'; CREATE ROLE boss LOGIN;"),
    (15, "GRANT owner TO clerk; GRANT reader TO boss WITH ADMIN OPTION; GRANT pg_read_all_stats, pg_checkpoint TO boss;"),
    (16, "GRANT owner TO boss WITH INHERIT FALSE, SET TRUE; GRANT pg_create_subscription, pg_use_reserved_connections TO clerk;"),
    (17, "GRANT pg_maintain TO clerk;"),
    (18, "GRANT pg_signal_autovacuum_worker TO clerk;"),
)  # fmt: skip
SHOP = (
    (15, """
CREATE SCHEMA shop AUTHORIZATION owner; SET search_path = shop, public;
CREATE DOMAIN email AS text NOT NULL CHECK (VALUE LIKE '%@%'); CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mail email, mood mood DEFAULT 'ok',
  upper_name text GENERATED ALWAYS AS (upper(name)) STORED, UNIQUE NULLS NOT DISTINCT (name, mood));
CREATE TABLE sale (id bigserial, at date NOT NULL, customer int NOT NULL REFERENCES customer, total numeric(10, 2) CHECK (total > 0), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sale_2025 PARTITION OF sale FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); CREATE TABLE sale_rest PARTITION OF sale DEFAULT;
CREATE TABLE parent (a int NOT NULL, b text); CREATE TABLE child (c int NOT NULL) INHERITS (parent); ALTER TABLE child ALTER b SET NOT NULL;
INSERT INTO customer (name, mail) SELECT 'Ünal ' || n, n || '@example.org' FROM generate_series(1, 300) n;
INSERT INTO sale (at, customer, total) SELECT '2025-06-01'::date + n, 1 + n % 300, n FROM generate_series(1, 900) n; INSERT INTO child VALUES (1, 'b', 2);
CREATE VIEW nothing AS SELECT NULL::integer, 1 AS a UNION ALL SELECT 2, NULL; CREATE VIEW late AS SELECT c.name, sum(s.total) FROM customer c JOIN sale s ON s.customer = c.id GROUP BY c.id;
CREATE VIEW safe WITH (security_invoker = true, security_barrier) AS SELECT * FROM customer WHERE id IN (1, 2) AND name ~~ 'Ü%' WITH LOCAL CHECK OPTION;
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) AS total FROM sale GROUP BY 1; CREATE INDEX ON totals (customer) INCLUDE (total) WHERE total > 5;
CREATE FUNCTION double(a int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT a * 2; END; CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$;
CREATE PROCEDURE work(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := a + 1; END'; CREATE TRIGGER t BEFORE UPDATE OF name ON customer FOR EACH ROW WHEN (old.name IS DISTINCT FROM new.name) EXECUTE FUNCTION touched();
ALTER TABLE customer ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON customer TO reader USING (id < 10); CREATE RULE r AS ON DELETE TO parent DO INSTEAD NOTHING;
CREATE STATISTICS st (mcv, dependencies) ON customer, (total * 2) FROM sale; CREATE INDEX ON customer (lower(name) COLLATE "C" DESC NULLS LAST);
GRANT ALL ON ALL TABLES IN SCHEMA shop TO owner; GRANT SELECT (id, name) ON customer TO reader WITH GRANT OPTION; ALTER TABLE sale OWNER TO owner; GRANT SET ON PARAMETER work_mem TO clerk;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA shop GRANT ALL ON TABLES TO reader; ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT ALL ON SCHEMAS TO reader;
SELECT lo_from_bytea(4242, 'large'); COMMENT ON DATABASE shop IS 'the shop'; COMMENT ON COLUMN customer.name IS 'ü'; ALTER DATABASE shop SET timezone = 'Asia/Tokyo'; ALTER ROLE clerk IN DATABASE shop SET work_mem = '9MB';
CREATE PUBLICATION whole FOR ALL TABLES; CREATE PUBLICATION part FOR TABLE customer (id, name) WHERE (id > 5), TABLE sale WITH (publish = 'insert', publish_via_partition_root); CREATE PUBLICATION schemas FOR TABLES IN SCHEMA shop;
CREATE SUBSCRIPTION away CONNECTION 'host=nowhere.invalid dbname=x' PUBLICATION p, q WITH (connect = false, slot_name = NONE, binary, disable_on_error);
CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER audited ON ddl_command_end EXECUTE FUNCTION audit();
"""),
    (16, "CREATE SUBSCRIPTION far CONNECTION 'host=nowhere.invalid dbname=x user=u' PUBLICATION p WITH (connect = false, slot_name = NONE, origin = none, password_required = false, run_as_owner, streaming = parallel);"),
    (16, "CREATE TABLE shop.js (a jsonb CHECK (a IS JSON OBJECT)); INSERT INTO shop.js VALUES ('{\"a\": 1}'); CREATE VIEW shop.js_view AS SELECT JSON_ARRAYAGG(a) AS js, any_value(a) FROM shop.js;"),
    (17, "GRANT MAINTAIN ON shop.customer TO reader; CREATE VIEW shop.js_table AS SELECT t.* FROM shop.js, JSON_TABLE(a, '$' COLUMNS (a int PATH '$.a')) t; CREATE SUBSCRIPTION fail CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false, slot_name = NONE, failover);"),
    (17, "CREATE TABLE shop.numbered (id int GENERATED BY DEFAULT AS IDENTITY, a int) PARTITION BY HASH (a); CREATE TABLE shop.numbered_0 PARTITION OF shop.numbered FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO shop.numbered (a) SELECT generate_series(1, 20);"),
    (18, """
CREATE EXTENSION btree_gist; CREATE TABLE shop.lent (id int, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS), twice int GENERATED ALWAYS AS (id * 2), CONSTRAINT unsure CHECK (id > 3) NOT ENFORCED);
CREATE TABLE shop.due (id int, during daterange, FOREIGN KEY (id, PERIOD during) REFERENCES shop.lent (id, PERIOD during)); INSERT INTO shop.lent (id, during) VALUES (1, '[2025-01-01,2025-02-01)');
ALTER TABLE shop.due ADD CONSTRAINT there NOT NULL id NOT VALID; CREATE PUBLICATION generated FOR TABLE shop.customer WITH (publish_generated_columns = stored);
"""),
)  # fmt: skip
ICU = (
    (15, """
CREATE COLLATION "不分" (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (a text PRIMARY KEY, b text COLLATE "不分" UNIQUE);
INSERT INTO t SELECT '日本 ' || n, 'Ä' || n FROM generate_series(1, 200) n; CREATE INDEX ON t (lower(a)) WHERE a > '日'; CREATE PUBLICATION icu FOR TABLE t;
"""),
    (16, "CREATE COLLATION ruled (provider = icu, locale = 'und', rules = '& V << w'); CREATE TABLE r (a text COLLATE ruled PRIMARY KEY); INSERT INTO r VALUES ('w'), ('V');"),
)  # fmt: skip
PLAIN = ((15, "CREATE TABLE t (a text PRIMARY KEY); INSERT INTO t VALUES ('é'), ('z');"),)
TEMPLATE0 = "TEMPLATE template0 ENCODING 'UTF8'"
BEFORE_16 = 15  # 15 keeps the name of a locale as it was typed, and knows no rules
# From which major to which, its name, how it is made, what is in it.
DATABASES = (
    (15, 99, "shop", f"{TEMPLATE0} LOCALE 'en_US.utf8'", SHOP),
    (15, BEFORE_16, "icu, 日本", f"{TEMPLATE0} LOCALE_PROVIDER icu ICU_LOCALE 'en_US' LOCALE 'C'", ICU),
    (16, 99, "icu, 日本", f"{TEMPLATE0} LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' ICU_RULES '&V << w <<< W' LOCALE 'C'", ICU),
    (17, 99, "builtin", f"{TEMPLATE0} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'", PLAIN),
)  # fmt: skip
# Who is whose member, however the majors write it down.
MEMBERSHIPS = """
SELECT m.rolname, g.rolname, pg_has_role(m.oid, g.oid, 'USAGE'), pg_has_role(m.oid, g.oid, 'MEMBER WITH ADMIN OPTION')
FROM pg_roles m, pg_roles g WHERE m.oid <> g.oid AND NOT m.rolsuper AND m.rolname !~ '^pg_' AND pg_has_role(m.oid, g.oid, 'MEMBER') ORDER BY 1, 2;
"""
# No database with a subscription can be dropped, and pg_subscription shows those of every database.
DROP_SUBSCRIPTIONS = r"""
SELECT format('DROP SUBSCRIPTION %I;', subname) FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database() \gexec
"""


def had(major: int) -> str:
    try:
        return postgres_majors.image(major)
    except postgres_majors.NotHadError as exc:
        pytest.skip(f"NOT CHECKED with PostgreSQL {major}: {exc}")


class MajorServer(Stack):
    """A stack whose server is of that major, with the volume where its image has it."""

    def __init__(self, directory: Path, name: str, major: int) -> None:
        directory.mkdir()
        super().__init__(directory, f"{STACK}-{name}", user="postgres", image=had(major), options=["wal_level=logical"])
        self.major = major
        services = self.definition["services"]
        for sleeper in ("app", "worker"):
            del services[sleeper]
        if major >= 18:
            services["db"]["volumes"] = ["data:/var/lib/postgresql"]
        self.write()

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """What a rebuild puts aside goes with the server."""
        try:
            with super().up():
                yield
        finally:
            aside = docker("volume", "ls", "--quiet", "--filter", f"name={self.name}_data_quarantine_").split()
            if aside:
                docker("volume", "rm", *aside)

    def fill(self) -> None:
        self.psql(self._since(ROLES))
        for since, until, name, options, sql in DATABASES:
            if since <= self.major <= until:
                self.psql(f"CREATE DATABASE {identifier(name)} {options};")
                self.psql(self._since(sql), name)

    def _since(self, parts: tuple[tuple[int, str], ...]) -> str:
        return "\n".join(sql for since, sql in parts if since <= self.major)

    @property
    def names(self) -> list[str]:
        return [name for since, until, name, _options, _sql in DATABASES if since <= self.major <= until]

    def told(self, client: int, tool: str, name: str, *argv: str, sql: str = "") -> str:
        """What a tool of that major prints of a database of this server."""
        words = [
            *("docker", "run", "--rm", "-i", "--network", f"container:{self.container}", "--entrypoint", tool),
            *(had(client), *argv, "--dbname", f"host=127.0.0.1 user=postgres dbname='{name}'"),
        ]
        done = subprocess.run(words, input=sql, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def schema(self, client: int, name: str, *options: str) -> list[str]:
        text = self.told(client, "pg_dump", name, "--schema-only", *options)
        return [line for line in text.split("\n") if not re.match(r"\\(un)?restrict |-- Dumped (from|by)", line)]


@dataclass(frozen=True)
class Source:
    server: MajorServer
    backups: Path
    backup: str

    def settings(self, at: MajorServer, **database: str) -> Config:
        """The stack of the backup, as it is served by that server."""
        return at.config(
            self.backups,
            stack=self.server.stack,
            state_directory=str(self.backups / f"state-{at.name}"),
            database={"name": "shop", "compression": "gzip:1", "exclude": ["postgres"], **database},
        )


@pytest.fixture(scope="module", params=postgres_majors.MAJORS)
def source(request: pytest.FixtureRequest, engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A server of each major in turn, and one backup of it."""
    del engine
    major, root = request.param, tmp_path_factory.mktemp("majors")
    server = MajorServer(root / "source", f"from{major}", major)
    with server.up():
        server.fill()
        found = Source(server, root, "")
        taken = dump.take(Opened(found.settings(server)), log=say)
        yield replace(found, backup=taken.id)


def results(found: Sequence[checks.Check], *, same: bool) -> str:
    """How many passed. Of another major some definitions print otherwise, which is told and never passes."""
    bad = [f"{check.result} {check.name}: {check.detail}" for check in found if check.result != checks.PASS]
    if not same:
        unsure = re.compile(r"COULD_NOT_VERIFY (schema|publications)( of .*)?: .* another major .*|.* across majors$")
        assert not [line for line in bad if not unsure.match(line)], "\n".join(bad)
        assert [line for line in bad if line.startswith("COULD_NOT_VERIFY schema: ")]
    else:
        assert not bad, "\n".join(bad)
    return f"{len(found) - len(bad)} PASS" + (f", {len(bad)} COULD_NOT_VERIFY" if bad else "")


@pytest.mark.parametrize("new", postgres_majors.MAJORS)
def test_a_backup_is_proved_and_recovered_in_its_major_and_newer_ones(source: Source, new: int) -> None:
    old = source.server.major
    if new < old:
        refused = [f"{check.result} {check.name}: {check.detail}" for check in verified(source, new)]
        words = f"it is of PostgreSQL {old}, the image has {new}"
        assert [line for line in refused if line.startswith("COULD_NOT_VERIFY") and words in line], refused
        assert not [line for line in refused if line.startswith("FAIL")]
        return
    began = time.monotonic()
    proof = results(verified(source, new), same=new == old)
    target = MajorServer(source.backups / f"to{new}", f"to{new}", new)
    with target.up():
        done = recovered(source, target)
        recovery = results(done.checks, same=new == old)
        # A newer major's defaults: streaming of 18, and since 16 rows are not applied as the subscription's owner.
        told = [note for note in done.notes if "the subscription away of shop has other options: " in note]
        assert len(told) == (old < 16 <= new or old < 18 == new), done.notes
        compare(source.server, target)
    took = time.monotonic() - began
    postgres_majors.MATRIX.append(f"{old} in {new}: verify {proof}; recovery {recovery}; equal; {took:.0f} s")


def verified(source: Source, new: int) -> Sequence[checks.Check]:
    settings = source.settings(source.server, verify_image=had(new))
    return operations_verify.verify(Opened(settings), source.backup, "restore", log=say).checks


def recovered(source: Source, target: MajorServer) -> database_recovery.Recovered:
    """What the playbook's phases do, on a host whose server is empty."""
    run = Opened(source.settings(target))
    made = database_plan.make(run, database_plan.Request(method="rebuild", force=True), log=say)
    protected = database_protect.protect(run, made, log=say)
    return database_recovery.restore_database(
        run,
        source.backup,
        place=str(made.backup["place"]),
        fresh=protected.fresh,
        stamp=made.stamp,
        wanted=database_recovery.Wanted(protected.replaced, protected.copied),
        log=say,
    )


def compare(source: MajorServer, target: MajorServer) -> None:
    """By PostgreSQL's own tools. Of another major: with what pg_dump and psql alone make of the same database."""
    new = target.major
    assert target.psql(MEMBERSHIPS) == source.psql(MEMBERSHIPS) != []
    for name in source.names:
        assert target.psql(CONTENT, name) == source.psql(CONTENT, name), name
        before, after = source.schema(new, name, "--create"), target.schema(new, name, "--create")
        if new == source.major:
            assert after == before, name
            continue
        assert of_the_database(after) == of_the_database(before), name
        target.psql("CREATE DATABASE plain TEMPLATE template0;")
        target.told(new, "psql", "plain", "-Xq", sql=source.told(source.major, "pg_dump", name))
        assert target.schema(new, name) == target.schema(new, "plain"), name
        target.psql(DROP_SUBSCRIPTIONS, "plain")
        target.psql("DROP DATABASE plain;")


def of_the_database(schema: list[str]) -> list[str]:
    """Its own definition, settings and privileges. 16 and newer write an ICU locale as a language tag: en_US is en-US."""
    own = [line for line in schema if re.match(r"(CREATE|ALTER|COMMENT ON) DATABASE |ALTER ROLE .* IN DATABASE ", line)]
    return [line.replace("ICU_LOCALE = 'en_US'", "ICU_LOCALE = 'en-US'") for line in own]
