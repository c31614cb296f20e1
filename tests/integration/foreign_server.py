# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""A PostgreSQL server as somebody else may have made it, and a picture of it that is taken by PostgreSQL's tools alone.

Five databases beside `postgres`: the application's, one in LATIN1, one in SQL_ASCII whose bytes are no text, one with an
ICU collation, and one with more tables than the default lock table of a server holds.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from postgres_stack import IMAGE, STACK, Stack, docker

APPLICATION = "shop"
# A server of the default settings was seen to hold 12,000 locks at the same time: 64 for each of 112 processes, and what
# shared memory has left. Reading a table locks each of its indexes as well.
TABLES, INDEXES = (10_000, 1) if os.environ.get("LONG") else (1_300, 9)
LOCKS = TABLES * (1 + INDEXES)
OPTIONS = ("wal_level=logical", "max_prepared_transactions=4", f"max_locks_per_transaction={LOCKS // 100 + 20}")

# Names of roles are the bytes of the session that made them.
ROLES = """
CREATE ROLE owner LOGIN PASSWORD 'o''wner' CONNECTION LIMIT 20; CREATE ROLE reader; CREATE ROLE clerk LOGIN IN ROLE reader;
ALTER ROLE clerk SET work_mem = '7MB'; ALTER ROLE clerk IN DATABASE shop SET search_path = shop, public;
COMMENT ON ROLE clerk IS 'who sells';
ALTER SYSTEM SET work_mem = '5MB'; ALTER SYSTEM SET log_min_duration_statement = '250ms'; SELECT pg_reload_conf();
"""
SHOP = """
CREATE SCHEMA shop AUTHORIZATION owner; SET search_path = shop;
CREATE TYPE state AS ENUM ('new', 'paid'); ALTER TYPE state ADD VALUE 'packed' BEFORE 'paid';
CREATE DOMAIN amount AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL COLLATE "C", born date, tags text[]);
CREATE TABLE sale (id bigserial, at timestamptz NOT NULL, customer int REFERENCES customer, total amount, state state DEFAULT 'new',
  twice numeric GENERATED ALWAYS AS (total * 2) STORED, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE sale_2025 PARTITION OF sale FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE sale_rest PARTITION OF sale DEFAULT; CREATE INDEX ON sale (customer) INCLUDE (total);
INSERT INTO customer (name, born, tags) SELECT 'nö ' || n, date '1970-01-01' + n, ARRAY['a', NULL, n::text] FROM generate_series(1, 300) n;
INSERT INTO sale (at, customer, total) SELECT timestamptz '2024-12-01 00:00+00' + n * interval '1 h', 1 + n % 300, n / 3.0 FROM generate_series(1, 3000) n;
CREATE TABLE log (at timestamptz, command text); CREATE UNLOGGED TABLE cart AS SELECT n AS id, md5(n::text) AS content FROM generate_series(1, 50) n;
CREATE VIEW totals WITH (security_barrier = true, check_option = local) AS SELECT id, name FROM customer WHERE born < '1990-01-01';
CREATE MATERIALIZED VIEW best AS SELECT customer, sum(total) FROM sale GROUP BY 1; CREATE UNIQUE INDEX ON best (customer);
SELECT lo_from_bytea(0, decode(repeat('00ff5c', 9000), 'hex')), lo_from_bytea(0, 'small');
ALTER TABLE customer ENABLE ROW LEVEL SECURITY; ALTER TABLE customer FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON customer FOR SELECT TO reader USING (name = current_user); CREATE POLICY write ON customer AS RESTRICTIVE FOR INSERT WITH CHECK (born IS NOT NULL);
CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO shop.log VALUES (now(), tg_tag); END $$;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.name := coalesce(new.name, '?'); RETURN new; END $$;
CREATE TRIGGER touched BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION touched(); ALTER TABLE customer ENABLE ALWAYS TRIGGER touched;
CREATE EXTENSION postgres_fdw SCHEMA public;
CREATE SERVER elsewhere TYPE 'z' VERSION '1' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (port '5433', host '10.0.0.7', dbname 'd', fetch_size '500', application_name 'a');
CREATE USER MAPPING FOR owner SERVER elsewhere OPTIONS ("user" 'u', password 'mapped');
CREATE FOREIGN TABLE remote (a int OPTIONS (column_name 'z'), b text) SERVER elsewhere OPTIONS (table_name 't', schema_name 's', fetch_size '9');
CREATE FOREIGN DATA WRAPPER own OPTIONS (z '1', "A" 'x,y', b '{}');
CREATE PUBLICATION sales FOR TABLE sale, customer (id, name) WITH (publish_via_partition_root = true); CREATE PUBLICATION everything FOR TABLES IN SCHEMA shop WITH (publish = 'insert');
CREATE STATISTICS st (ndistinct) ON customer, total FROM sale_2025;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA shop GRANT SELECT ON TABLES TO reader; ALTER DEFAULT PRIVILEGES FOR ROLE owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA shop TO reader; GRANT SELECT (id, name) ON customer TO reader WITH GRANT OPTION; ALTER TABLE sale OWNER TO owner;
COMMENT ON DATABASE shop IS 'what it''s for'; COMMENT ON COLUMN customer.name IS 'ü';
ALTER DATABASE shop SET timezone = 'Asia/Tokyo'; ALTER DATABASE shop SET search_path = shop, "$user"; ALTER DATABASE shop CONNECTION LIMIT 40;
GRANT CONNECT ON DATABASE shop TO reader; REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC; ALTER DATABASE shop OWNER TO owner;
CREATE EVENT TRIGGER audited ON ddl_command_end EXECUTE FUNCTION audit(); ALTER EVENT TRIGGER audited ENABLE ALWAYS;
SELECT pg_create_logical_replication_slot('reporting', 'pgoutput');
"""
PREPARED = "BEGIN; INSERT INTO shop.customer (name, born) VALUES ('prepared', now()); PREPARE TRANSACTION 'left here';"
LATIN = """
SET client_encoding = 'UTF8'; CREATE ROLE "né" LOGIN; CREATE TABLE "é" (a text PRIMARY KEY, "ß" text DEFAULT 'ü');
INSERT INTO "é" SELECT 'é' || n, repeat('ÿ', n) FROM generate_series(1, 200) n; ALTER TABLE "é" OWNER TO "né"; COMMENT ON TABLE "é" IS 'ü';
ALTER ROLE "né" IN DATABASE latin SET search_path = 'é'; GRANT CREATE ON DATABASE latin TO "né"; ALTER DATABASE latin OWNER TO "né"; COMMENT ON DATABASE latin IS 'ÿ';
"""
BYTES = """
CREATE TABLE t (a text PRIMARY KEY, b bytea); INSERT INTO t SELECT E'\\xe9\\xff' || n, decode('ff00', 'hex') FROM generate_series(1, 100) n;
DO $x$ BEGIN EXECUTE E'CREATE TABLE "t\\xe9" (a int CHECK (a IN (1, 2) AND a BETWEEN 1 AND 2)); CREATE ROLE "r\\xff"; ALTER TABLE t OWNER TO "r\\xff"; COMMENT ON DATABASE bytes IS ''\\xff\\xfe'''; END $x$;
"""
ICU = """
CREATE COLLATION "不分" (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (a text PRIMARY KEY, b text COLLATE "不分" UNIQUE);
INSERT INTO t SELECT '日本 ' || n, 'Ä' || n FROM generate_series(1, 200) n; CREATE INDEX ON t (lower(a)) WHERE a > '日';
"""
MANY = f"""
DO $$ BEGIN FOR n IN 1..{TABLES} LOOP EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY)', n);
  FOR i IN 2..{INDEXES} LOOP EXECUTE format('CREATE INDEX ON t%s (a)', n); END LOOP; END LOOP; END $$;
INSERT INTO t7 SELECT generate_series(1, 70);
"""
TEMPLATE0 = "TEMPLATE template0"
# (name, how it is made, what is in it)
DATABASES = (
    (APPLICATION, f"{TEMPLATE0} ENCODING 'UTF8' LOCALE 'en_US.utf8'", SHOP),
    ("bytes", f"{TEMPLATE0} ENCODING 'SQL_ASCII' LOCALE 'C'", BYTES),
    ("icu, 日本", f"{TEMPLATE0} ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'ja-JP' ICU_RULES '&V << w <<< W' LOCALE 'C'", ICU),
    ("latin", f"{TEMPLATE0} ENCODING 'LATIN1' LOCALE 'C'", LATIN),
    ("many", "", MANY),
)  # fmt: skip
NAMES = tuple(name for name, _options, _sql in DATABASES)
HBA = "host shop clerk 192.0.2.0/24 scram-sha-256"

# What psql alone says of every row, sequence and large object; it runs what it selects.
CONTENT = r"""
SET timezone = 'UTC'; SET row_security = off; SET search_path = '';
SELECT format($f$SELECT %L, count(*), md5(coalesce(string_agg(md5(i::text), '' ORDER BY md5(i::text) COLLATE "C"), '')) FROM ONLY %s i$f$, name, name)
FROM (SELECT format('%I.%I', nspname, relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'm') AND nspname !~ '^(pg_|information_schema)') x ORDER BY name COLLATE "C" \gexec
SELECT format('SELECT %L, last_value, is_called FROM %s', name, name)
FROM (SELECT format('%I.%I', schemaname, sequencename) AS name FROM pg_sequences) x ORDER BY name COLLATE "C" \gexec
SELECT 'large object', oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid;
"""


@dataclass(frozen=True)
class Picture:
    """Of one database: `pg_dump --schema-only --create`, and what CONTENT prints; without lines that are never the same."""

    schema: list[bytes]
    content: list[bytes]


class ForeignServer(Stack):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory, f"{STACK}-foreign", user="postgres", options=OPTIONS)
        clerk = ["sh", "-c", "while :; do psql -qc 'SELECT 1' >/dev/null; sleep 3; done"]
        self.definition["services"]["db"]["healthcheck"]["interval"] = "2s"
        self.definition["services"]["night"] = {
            "image": IMAGE,
            "profiles": ["jobs"],
            "entrypoint": clerk,
            "init": True,
            "environment": {"PGHOST": "db", "PGUSER": "clerk", "PGPASSWORD": "c", "PGDATABASE": APPLICATION},
            "depends_on": ["db"],
        }
        self.write()

    def fill(self) -> None:
        for name, options, _sql in DATABASES:
            self.psql(f"CREATE DATABASE {identifier(name)} {options};")
        self.psql(ROLES + "ALTER ROLE clerk PASSWORD 'c';")
        for name, _options, sql in DATABASES:
            self.psql(sql, name)
        self.psql(PREPARED, APPLICATION)
        self.psql("CREATE TABLE ours AS SELECT 1 AS a;")
        docker("exec", self.container, "sh", "-ec", f"echo '{HBA}' >>$PGDATA/pg_hba.conf")
        self.psql("SELECT pg_reload_conf();")
        self.compose("--profile", "jobs", "up", "--detach", "night")

    def pictures(self, names: Iterable[str] = (*NAMES, "postgres")) -> dict[str, Picture]:
        return {name: self.picture(name) for name in names}

    def picture(self, name: str) -> Picture:
        schema = self._printed("pg_dump", "--schema-only", "--create", "--dbname", f"dbname='{name}'")
        kept = [line for line in schema.split(b"\n") if not re.match(rb"\\(un)?restrict ", line)]
        content = self._printed(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", f"dbname='{name}'", "-f", "-", given=CONTENT
        )
        return Picture(kept, content.split(b"\n"))

    def roles(self) -> list[bytes]:
        """What pg_dumpall says of roles, their passwords among it, but that of the first superuser, which the image
        sets from its environment."""
        said = self._printed("pg_dumpall", "--globals-only", "--database=bytes")
        said = re.sub(rb"(?m)^(ALTER ROLE postgres WITH .*) PASSWORD '.*';$", rb"\1;", said)
        return [line for line in said.split(b"\n") if not re.match(rb"\\(un)?restrict ", line)]

    def _printed(self, *argv: str, given: str = "") -> bytes:
        """Bytes: what these databases hold is not always text."""
        words = ["docker", "exec", "-i", "-e", "PGUSER=postgres", self.container, *argv]
        done = subprocess.run(words, input=given.encode(), capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr[-2000:]!r}"
        return done.stdout
