-- A schema of everything that has ever printed, hashed or sorted differently after a faithful dump and restore.
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION btree_gist;
CREATE SCHEMA "Mixed Case";
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"');
ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok';
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE BETWEEN 1 AND 10 AND VALUE <> 5);
CREATE DOMAIN letter AS varchar(3) COLLATE "C" DEFAULT 'a' CHECK (VALUE IN ('a', 'b'));
CREATE TYPE span AS RANGE (subtype = float8);
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);

CREATE TABLE odd (
  id int GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3) PRIMARY KEY,
  e mood, ea mood[], o oid, c regclass, j json, x xml, p point, d small_positive, l letter, da positive[],
  r int4range, mr nummultirange, sp span, k pair, ka pair[], ci citext, h hstore, lo_text text COLLATE loose,
  bp char(7), m money, bt bit(5), vb bit varying, ts tsvector, tq tsquery, iv interval, f4 float4, f8 float8,
  n numeric, tz timestamptz, tt timetz, dt date, u uuid, ip inet, mac macaddr8, jb jsonb, by bytea, "char" "char",
  nm name, ai int[], at text[], ln line, bx box, pg polygon, ci2 circle, lsn pg_lsn, sn txid_snapshot, jp jsonpath,
  twice int GENERATED ALWAYS AS (coalesce(d, 0) * 2) STORED);
INSERT INTO odd (e, ea, o, c, j, x, p, d, l, da, r, mr, sp, k, ka, ci, h, lo_text, bp, m, bt, vb, ts, tq, iv, f4, f8, n,
  tz, tt, dt, u, ip, mac, jb, by, "char", nm, ai, at, ln, bx, pg, ci2, lsn, sn, jp) VALUES
  ('it''s "fine"', '{sad,"it''s \"fine\""}', 4294967295, 'odd', '{"a": 1,  "a": 2}', '<a b="1">ü</a>', '(1,-0)', 3, 'a',
   '{1,2}', '[1,5)', '{[1.5,2),(7,)}', '[0,1e300]', '(1,"a,""b""")', '{"(1,a)","(,)"}', 'ÄbC', 'a=>"x=>y", b=>NULL',
   'Straße', 'ab ', '-12345.67', '10110', '101', 'fat:2A cat:3B', 'a & !b', '1 mon -2 days +03:04:05.000006', 'NaN',
   '-0', 'NaN', 'infinity', '23:59:60+14', '-infinity', '00000000-0000-0000-0000-00000000000f', '::ffff:1.2.3.4/96',
   '08:00:2b:01:02:03:04:05', '{"b": 1.50, "a": [null, "\u00e9"]}', '\x00ff5c27', '\377', 'nm', '[2:3]={1,NULL}',
   '{"a b",NULL,"","\"","{"}', '{1,2,3}', '(1,2),(3,4)', '((0,0),(1,1),(1,0))', '<(0,0),1.5>', '16/B374D848',
   '10:20:10,14,15', '$.a[*] ? (@ > 1)'),
  ('sad', '{}', 0, NULL, '[]', NULL, '(NaN,Infinity)', NULL, 'b', NULL, 'empty', '{}', 'empty', '(,)', NULL, '', '',
   'strasse', '', '0', '00000', '', '', '', '0', '-Infinity', 'Infinity', '-1e-1000', '4713-11-24 BC', '00:00-15:59',
   '5874897-12-31', NULL, '::/0', NULL, 'null', '', '', '', '{}', '{}', NULL, NULL, NULL, NULL, NULL, NULL, '$'),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL, NULL, NULL, 5e-324, 1e130000, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE INDEX ON odd USING gin (jb jsonb_path_ops); CREATE INDEX ON odd USING gist (r, id); CREATE INDEX ON odd (lo_text);
CREATE INDEX "a ""quoted"" index" ON odd (lower(at[1]) DESC NULLS LAST) INCLUDE (d) WITH (fillfactor = 70) WHERE d > 1;

-- Inheritance: the child's columns stand in another order after a restore.
CREATE TABLE mother (a int, b text NOT NULL DEFAULT 'x'); CREATE TABLE child (c date) INHERITS (mother);
ALTER TABLE mother ADD COLUMN d numeric(5, 2) CHECK (d > 0);
ALTER TABLE mother DROP COLUMN a; ALTER TABLE mother ADD COLUMN a text;
INSERT INTO mother (b, a) VALUES ('m', 'q'); INSERT INTO child VALUES ('c', '2026-11-24', 3.5, 'r');

CREATE TABLE other (id int PRIMARY KEY, at date);
CREATE TABLE parted (id int, at date, other int REFERENCES other, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE parted_2 (at date NOT NULL, other int, id int NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE parted_default PARTITION OF parted DEFAULT PARTITION BY HASH (id);
CREATE TABLE parted_default_0 PARTITION OF parted_default FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE refers (id int, at date, FOREIGN KEY (id, at) REFERENCES parted ON DELETE CASCADE DEFERRABLE);
CREATE INDEX ON parted (other);
INSERT INTO other VALUES (1); INSERT INTO parted VALUES (1, '2020-01-01', 1), (2, '2026-06-01', NULL), (3, '2040-01-01', NULL);
INSERT INTO refers VALUES (2, '2026-06-01');

CREATE UNLOGGED TABLE volatile (a int); INSERT INTO volatile VALUES (1);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE TEMPORARY TABLE passing (a int);
CREATE TABLE "Mixed Case"."Tab""le" ("Col umn" int, "sel'ect" text, "日本" int); INSERT INTO "Mixed Case"."Tab""le" VALUES (1, 'x', 2);
CREATE SEQUENCE never_used; CREATE SEQUENCE falling INCREMENT -5 MINVALUE -1000 MAXVALUE 3 CYCLE CACHE 10; SELECT nextval('falling');
CREATE SEQUENCE far AS bigint START 9223372036854775800; SELECT nextval('far');
SELECT lo_from_bytea(0, decode(repeat('00ff', 700000), 'hex')), lo_from_bytea(0, ''), lo_put(lo_from_bytea(4711, 'a'), 3000000, 'sparse');
COMMENT ON LARGE OBJECT 4711 IS 'a large one';

-- Expressions that PostgreSQL prints differently once they were dumped and read again.
CREATE TABLE printed (s varchar(10) CHECK (s IN ('a', 'it''s', 'b]')), p int, q int, b bool,
  g bool GENERATED ALWAYS AS (s IN ('x', 'y')) STORED, w varchar[] DEFAULT ARRAY['a'::varchar, 'b'],
  CHECK (p BETWEEN 1 AND 100 AND q > 0), CHECK (p NOT BETWEEN 200 AND 300 OR q > 0), CHECK ((p, q) = (p, q) AND q > 0 AND p > 0),
  CHECK (CASE WHEN b THEN true ELSE s BETWEEN 'a' AND 'c' AND s <> 'zz' END), EXCLUDE USING gist (p WITH =) WHERE (s IN ('a', 'b')));
CREATE INDEX ON printed ((s IN ('a', 'b')), (p BETWEEN 1 AND 2 AND b)) WHERE p BETWEEN 1 AND 5 AND q > 3;
CREATE VIEW seen WITH (security_barrier) AS SELECT s, count(*) FILTER (WHERE p BETWEEN 1 AND 3 AND q = 1) FROM printed
  WHERE s <> ALL (ARRAY['a', 'b']::varchar(3)[]) AND p BETWEEN 1 AND 5 AND b GROUP BY s HAVING max(p) BETWEEN 1 AND 2 AND min(q) > 0;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM printed WHERE p BETWEEN 1 AND 5 AND s IN ('a', 'b');
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS a WITH NO DATA;
CREATE RECURSIVE VIEW counting (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n BETWEEN 1 AND 9 AND n <> 5;
ALTER TABLE printed ENABLE ROW LEVEL SECURITY;
CREATE POLICY somebody ON printed FOR SELECT USING (s IN ('a', 'b') AND p BETWEEN 1 AND 2);
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; -- it's ((a) AND b) AND c
END$$;
CREATE TRIGGER touch BEFORE INSERT ON printed FOR EACH ROW WHEN (new.p BETWEEN 1 AND 3 AND new.s IN ('a', 'b')) EXECUTE FUNCTION touched();
CREATE TRIGGER parted_touch AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION touched();
CREATE RULE ruled AS ON DELETE TO printed WHERE old.p BETWEEN 1 AND 3 AND old.b DO INSTEAD NOTHING;
CREATE FUNCTION atomic(x varchar DEFAULT 'a', OUT y bool) BEGIN ATOMIC SELECT x IN ('a', 'b') AND length(x) BETWEEN 1 AND 2; END;
CREATE FUNCTION returned(x int) RETURNS bool RETURN x BETWEEN 1 AND 2 AND x <> 3;
CREATE PROCEDURE doing(INOUT a int) LANGUAGE sql AS 'SELECT a + 1';
CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq);
CREATE CAST (pair AS text) WITH INOUT; CREATE STATISTICS st ON (p + 1), q FROM printed;
CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple); CREATE PUBLICATION everything FOR ALL TABLES;
COMMENT ON COLUMN odd.e IS E'two\nlines, a "quote", it''s'; COMMENT ON SCHEMA "Mixed Case" IS 'Ünïcödé 日本語';
COMMENT ON CONSTRAINT positive_check ON DOMAIN positive IS 'c'; COMMENT ON TRIGGER touch ON printed IS 't';
ALTER TABLE odd ALTER j SET STORAGE external; ALTER TABLE odd REPLICA IDENTITY FULL; ALTER TABLE odd SET (autovacuum_enabled = off);
ALTER TABLE odd ALTER at SET (n_distinct = -0.5); ALTER TABLE odd ALTER at SET STATISTICS 7;
