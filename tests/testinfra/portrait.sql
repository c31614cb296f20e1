-- A database's portrait: one line a fact, by psql alone. It shares no code with Lifeboat's fingerprint on purpose.
SET search_path = '';
SET TimeZone = 'UTC';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET row_security = off;

CREATE TEMP VIEW own AS
SELECT c.*, n.nspname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_';

SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(md5(t::text), '''' ORDER BY md5(t::text)), '''')) FROM ONLY %s AS t',
              'table ' || name, name)
FROM pg_temp.own WHERE relkind IN ('r', 'm') ORDER BY name \gexec
SELECT 'sequence', quote_ident(schemaname), quote_ident(sequencename), last_value, increment_by, cycle
FROM pg_catalog.pg_sequences ORDER BY schemaname, sequencename;
SELECT 'large object', count(*), md5(string_agg(md5(lo_get(oid)), '' ORDER BY oid)) FROM pg_catalog.pg_largeobject_metadata;
SELECT 'relation', relkind, name, pg_get_userbyid(relowner), relrowsecurity, relforcerowsecurity, relpersistence,
       (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(relacl) a)
FROM pg_temp.own WHERE relkind <> 'i' ORDER BY relkind, name;
SELECT 'column', own.name, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated
FROM pg_temp.own JOIN pg_catalog.pg_attribute ON attrelid = own.oid AND attnum > 0 AND NOT attisdropped
WHERE relkind IN ('r', 'p', 'v', 'm') ORDER BY own.name, attname;
SELECT 'index', pg_get_indexdef(indexrelid), indisvalid, indisprimary
FROM pg_temp.own JOIN pg_catalog.pg_index ON indrelid = own.oid ORDER BY 2;
SELECT 'constraint', own.name, pg_get_constraintdef(k.oid)
FROM pg_temp.own JOIN pg_catalog.pg_constraint k ON k.conrelid = own.oid ORDER BY 2, 3;
SELECT 'trigger', pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t WHERE NOT tgisinternal ORDER BY 2;
SELECT 'policy', schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check
FROM pg_catalog.pg_policies ORDER BY 2, 3, 4;
SELECT 'function', p.proname, md5(pg_get_functiondef(p.oid)) FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND p.prokind <> 'a' ORDER BY 2, 3;
SELECT 'extension', extname, extversion FROM pg_catalog.pg_extension ORDER BY 2;
SELECT 'schema', quote_ident(nspname), pg_get_userbyid(nspowner),
       (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(nspacl) a)
FROM pg_catalog.pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 2;
SELECT 'database', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
       shobj_description(oid, 'pg_database'),
       (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(datacl) a)
FROM pg_catalog.pg_database WHERE datname = current_database();
SELECT 'setting', coalesce(r.rolname, '*'), one FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) one
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) ORDER BY 2, 3;
-- The first superuser's password is the image's to set; every other role must come back with its own.
SELECT 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
       rolconnlimit, rolvaliduntil, CASE WHEN oid <> 10 THEN md5(rolpassword) END
FROM pg_catalog.pg_authid WHERE rolname !~ '^pg_' ORDER BY rolname;
SELECT 'member', pg_get_userbyid(member), pg_get_userbyid(roleid) FROM pg_catalog.pg_auth_members
WHERE pg_get_userbyid(roleid) !~ '^pg_' ORDER BY 2, 3;
