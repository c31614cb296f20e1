# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of each kind of database server: the commands that dump it, restore it, and tell what it holds.

MariaDB and Valkey are run in this project's tests. MySQL, Redis and MongoDB are not: their commands are written after
their manuals (TRIED).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TRIED = ("mariadb", "valkey")
ENVIRONMENT, INPUT = "environment", "input"


@dataclass(frozen=True)
class Preset:
    """One kind of server. kind: as people call it. take, restore, facts: see settings.parts.DumpSource.

    ping: ends with 0 once the server answers, whatever it answers; ready: the like by an address on which the server
    does not answer that an image starts while it initialises, empty: `facts` tells. version: prints the version; major:
    how it is found there, and what must be the same where a dump is restored. start, stopped, environment: of the
    server that a dump is restored into. config: the paths in the container below which its own settings lie, which that
    server needs too; options: it takes those of the service's command, and calm, so that nothing in it changes what was
    restored. user: the account, `{user}` in the commands.
    passwords: the variables of the container that may hold its password, or with _FILE the path of a file. login: the
    variable that the commands take it from; login_by: INPUT where `take` reads it as its first line. begins, ends: what
    a whole dump has there. facts_begin: how what `facts` prints begins: some clients report an error and end with 0.
    append_only: prints whether the server keeps an append-only file; append: makes one of what was restored, until
    appended says so.
    """

    kind: str
    take: tuple[str, ...]
    restore: tuple[str, ...]
    facts: tuple[str, ...]
    ping: tuple[str, ...]
    version: tuple[str, ...]
    major: re.Pattern[str]
    ready: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    stopped: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    options: bool = False
    calm: tuple[str, ...] = ()
    user: str = ""
    passwords: tuple[str, ...] = ()
    login: str = ""
    login_by: str = ENVIRONMENT
    begins: tuple[bytes, ...] = ()
    ends: re.Pattern[bytes] = re.compile(rb"")
    facts_begin: str = ""
    append_only: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    appended: re.Pattern[str] = re.compile(r"(?!)")


_SYSTEM = "('mysql', 'information_schema', 'performance_schema', 'sys')"
_BINARY = (
    "('binary', 'varbinary', 'tinyblob', 'blob', 'mediumblob', 'longblob', 'bit', 'geometry', 'point', 'linestring',"
    " 'polygon', 'multipoint', 'multilinestring', 'multipolygon', 'geometrycollection', 'geomcollection', 'vector')"
)
_COLUMNS = (
    "CONCAT_WS('|', COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, IFNULL(COLUMN_DEFAULT, '-'), IFNULL(COLLATION_NAME, '-'),"
    " EXTRA)"
)
_INDEXES = "CONCAT_WS('|', INDEX_NAME, NON_UNIQUE, SEQ_IN_INDEX, COLUMN_NAME, IFNULL(SUB_PART, '-'), INDEX_TYPE)"
# A row as the text that a dump carries: FLOAT has fewer digits there than in the server. Of each the first 48 bits of
# its MD5, added up, so that their order does not matter.
_OF_ROWS = f"""
SELECT CONCAT('SELECT ', QUOTE(CONCAT('rows of ', TABLE_SCHEMA, '.', TABLE_NAME)), ', CONCAT_WS('' '', COUNT(*), '
    'IFNULL(SUM(CAST(CONV(SUBSTR(MD5(CONCAT_WS(''|'', ',
    GROUP_CONCAT(IF(DATA_TYPE IN {_BINARY}, CONCAT('HEX(', q, ')'), CONCAT('QUOTE(CONVERT(', q, ' USING utf8mb4))'))
        ORDER BY ORDINAL_POSITION),
    ')), 1, 12), 16, 10) AS UNSIGNED)), 0)) FROM `', REPLACE(TABLE_SCHEMA, '`', '``'), '`.`',
    REPLACE(TABLE_NAME, '`', '``'), '`') AS statement
FROM (SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.DATA_TYPE, c.ORDINAL_POSITION,
        CONCAT('`', REPLACE(c.COLUMN_NAME, '`', '``'), '`') AS q
    FROM information_schema.COLUMNS c JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME)
    WHERE t.TABLE_TYPE = 'BASE TABLE' AND c.TABLE_SCHEMA NOT IN {_SYSTEM}) AS l
GROUP BY TABLE_SCHEMA, TABLE_NAME ORDER BY TABLE_SCHEMA, TABLE_NAME
""".strip()
_DEFINED = f"""
SET SESSION group_concat_max_len = 1073741824, SESSION time_zone = '+00:00', SESSION sql_mode = '';
SELECT CONCAT('database ', SCHEMA_NAME), CONCAT_WS(' ', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME)
    FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {_SYSTEM} ORDER BY 1;
SELECT CONCAT('table ', TABLE_SCHEMA, '.', TABLE_NAME), CONCAT_WS(' ', TABLE_TYPE, ENGINE, TABLE_COLLATION)
    FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN {_SYSTEM} ORDER BY 1;
SELECT CONCAT('columns of ', TABLE_SCHEMA, '.', TABLE_NAME),
    MD5(GROUP_CONCAT({_COLUMNS} ORDER BY ORDINAL_POSITION)) FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA NOT IN {_SYSTEM} GROUP BY TABLE_SCHEMA, TABLE_NAME ORDER BY 1;
SELECT CONCAT('indexes of ', TABLE_SCHEMA, '.', TABLE_NAME),
    MD5(GROUP_CONCAT({_INDEXES} ORDER BY INDEX_NAME, SEQ_IN_INDEX)) FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA NOT IN {_SYSTEM} GROUP BY TABLE_SCHEMA, TABLE_NAME ORDER BY 1;
SELECT CONCAT('view ', TABLE_SCHEMA, '.', TABLE_NAME), MD5(VIEW_DEFINITION) FROM information_schema.VIEWS
    WHERE TABLE_SCHEMA NOT IN {_SYSTEM} ORDER BY 1;
SELECT CONCAT(LOWER(ROUTINE_TYPE), ' ', ROUTINE_SCHEMA, '.', ROUTINE_NAME), MD5(ROUTINE_DEFINITION)
    FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN {_SYSTEM} ORDER BY 1;
SELECT CONCAT('trigger ', TRIGGER_SCHEMA, '.', TRIGGER_NAME),
    MD5(CONCAT_WS('|', EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT))
    FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN {_SYSTEM} ORDER BY 1;
SELECT CONCAT('event ', EVENT_SCHEMA, '.', EVENT_NAME),
    MD5(CONCAT_WS('|', EVENT_DEFINITION, STATUS, INTERVAL_VALUE, INTERVAL_FIELD)) FROM information_schema.EVENTS
    ORDER BY 1;
""".strip()
# One statement a table: 10,000 of them cannot be open at once.
_MARIADB_FACTS = f"""
{_DEFINED}
SELECT CONCAT('account ', User, '@', Host), MD5(Priv) FROM mysql.global_priv ORDER BY 1;
DELIMITER //
BEGIN NOT ATOMIC
    DECLARE done INT DEFAULT 0;
    DECLARE statement LONGTEXT CHARACTER SET utf8mb4;
    DECLARE of_rows CURSOR FOR {_OF_ROWS};
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;
    OPEN of_rows;
    every_table: LOOP
        FETCH of_rows INTO statement;
        IF done THEN LEAVE every_table; END IF;
        EXECUTE IMMEDIATE statement;
    END LOOP;
END//
"""
_MYSQL_FACTS = f"""
{_DEFINED}
SELECT CONCAT('account ', User, '@', Host), MD5(CONCAT_WS('|', plugin, authentication_string, account_locked))
    FROM mysql.user ORDER BY 1;
SELECT GROUP_CONCAT(statement SEPARATOR ' UNION ALL ') INTO @statement FROM ({_OF_ROWS}) AS every_table;
SET @statement = IFNULL(@statement, 'DO 0');
PREPARE of_rows FROM @statement;
EXECUTE of_rows;
"""
_DUMP_OPTIONS = (
    "--user={user}", "--all-databases", "--single-transaction", "--quick", "--routines", "--events", "--triggers",
    "--hex-blob", "--default-character-set=utf8mb4", "--skip-dump-date",
)  # fmt: skip
_CLIENT_OPTIONS = ("--user={user}", "--default-character-set=utf8mb4")
_MYSQL_CONFIG = ("/etc/mysql", "/etc/my.cnf", "/etc/my.cnf.d")
_TWO_NUMBERS = re.compile(r"(\d+\.\d+)\.\d+")


def _like_mysql(kind: str, client: str, dump: str, admin: str, server: str, facts: str, *names: str) -> Preset:
    return Preset(
        kind, (dump, *_DUMP_OPTIONS), (client, *_CLIENT_OPTIONS),
        (client, *_CLIENT_OPTIONS, "--batch", "--skip-column-names", "--execute", facts.strip()),
        (admin, "--user={user}", "--connect-timeout=5", "ping"), (server, "--version"), _TWO_NUMBERS,
        (admin, "--user={user}", "--connect-timeout=5", "--protocol=tcp", "--host=127.0.0.1", "ping"),
        environment={f"{names[0]}_ROOT_PASSWORD": "{password}"}, config=_MYSQL_CONFIG, options=True,
        calm=("--event-scheduler=OFF",), user="root",
        passwords=tuple(f"{name}_ROOT_PASSWORD" for name in names), login="MYSQL_PWD", begins=(b"--", b"/*"),
        ends=re.compile(rb"\n-- Dump completed[^\n]*\n*\Z"),
    )  # fmt: skip


# Keys that expire may do so at any moment: they are counted by nobody. Of many keys only their number is told, as a
# server does nothing else meanwhile. A hash, a set and a sorted set have no order of their own that lasts.
_COUNTED = 100_000
_REDIS_FACTS = f"""
local found, keys = {{}}, 0
for db, n, expires in string.gmatch(redis.call('INFO', 'keyspace'), 'db(%d+):keys=(%d+),expires=(%d+)') do
  found[#found + 1] = {{tonumber(db), tonumber(n) - tonumber(expires)}}
  keys = keys + tonumber(n)
end
local out = {{'databases\\t' .. #found}}
for _, entry in ipairs(found) do
  local line = 'db' .. entry[1] .. '\\t' .. entry[2] .. ' keys'
  if keys <= {_COUNTED} then
    if #found > 1 or entry[1] ~= 0 then redis.call('SELECT', entry[1]) end
    local cursor, sum, seen = '0', 0, {{}}
    repeat
      local page = redis.call('SCAN', cursor, 'COUNT', 1000)
      cursor = page[1]
      for _, key in ipairs(page[2]) do
        if not seen[key] and redis.call('PTTL', key) == -1 then
          seen[key] = true
          local kind = redis.call('TYPE', key)['ok']
          local parts
          if kind == 'string' then parts = {{redis.call('GET', key)}}
          elseif kind == 'list' then parts = redis.call('LRANGE', key, 0, -1)
          elseif kind == 'set' then parts = redis.call('SMEMBERS', key) table.sort(parts)
          elseif kind == 'hash' then
            local flat = redis.call('HGETALL', key)
            parts = {{}}
            for i = 1, #flat, 2 do parts[#parts + 1] = #flat[i] .. ':' .. flat[i] .. flat[i + 1] end
            table.sort(parts)
          elseif kind == 'zset' then parts = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
          elseif kind == 'stream' then parts = {{cjson.encode(redis.call('XRANGE', key, '-', '+'))}}
          else parts = {{redis.call('DUMP', key)}} end
          local all = {{kind, #key .. ':' .. key}}
          for _, part in ipairs(parts) do all[#all + 1] = #part .. ':' .. part end
          local digest = redis.sha1hex(table.concat(all, ','))
          sum = (sum + tonumber(string.sub(digest, 1, 8), 16) * 65536
            + tonumber(string.sub(digest, 9, 12), 16)) % 281474976710656
        end
      end
    until cursor == '0'
    line = line .. ' ' .. string.format('%.0f', sum)
  end
  out[#out + 1] = line
end
return out
"""


# The opcode of the end and the checksum; a server that sends it at once puts a mark of 40 letters behind.
_RDB_END = re.compile(rb"\xff.{8}(?:[0-9a-f]{40})?\Z", re.DOTALL)


def _like_redis(kind: str, name: str, *passwords: str) -> Preset:
    client = f"{name}-cli"
    return Preset(
        kind, (client, "--rdb", "-"), ("dd", "of=/data/dump.rdb", "bs=65536"),
        (client, "EVAL", _REDIS_FACTS.strip(), "0"), (client, "PING"), (f"{name}-server", "--version"),
        re.compile(r"v=(\d+)\."),
        start=(
            f"{name}-server", "--dir", "/data", "--dbfilename", "dump.rdb", "--appendonly", "no", "--save", "",
        ), stopped=True, passwords=passwords, login="REDISCLI_AUTH", begins=(b"REDIS", b"VALKEY"),
        ends=_RDB_END,
        facts_begin="databases\t", append_only=(client, "INFO", "persistence"),
        append=(client, "CONFIG", "SET", "appendonly", "yes"),
        appended=re.compile(r"aof_enabled:1\r?\naof_rewrite_in_progress:0\r?\naof_rewrite_scheduled:0"),
    )  # fmt: skip


# Without an account the server that a dump is restored into asks for none; the live one is told whom by its image.
_MONGO_FACTS = """
const user = process.env.MONGO_INITDB_ROOT_USERNAME, password = process.env.LIFEBOAT_PASSWORD;
if (user && password) db.getSiblingDB('admin').auth(user, password);
const names = db.adminCommand({listDatabases: 1, nameOnly: true}).databases.map(one => one.name);
print('databases\\t' + names.length);
for (const name of names.filter(one => !['admin', 'config', 'local'].includes(one)).sort()) {
  const one = db.getSiblingDB(name), hashes = one.runCommand({dbHash: 1}).collections;
  for (const collection of Object.keys(hashes).sort())
    print(name + '.' + collection + '\\t' + one[collection].countDocuments({}) + ' ' + hashes[collection]);
}
"""

PRESETS: Mapping[str, Preset] = {
    "mariadb": _like_mysql(
        "MySQL or MariaDB", "mariadb", "mariadb-dump", "mariadb-admin", "mariadbd", _MARIADB_FACTS, "MARIADB", "MYSQL"
    ),
    "mysql": _like_mysql(
        "MySQL or MariaDB", "mysql", "mysqldump", "mysqladmin", "mysqld", _MYSQL_FACTS, "MYSQL"
    ),
    "valkey": _like_redis("Redis or Valkey", "valkey", "VALKEY_PASSWORD", "REDIS_PASSWORD", "REDISCLI_AUTH"),
    "redis": _like_redis("Redis or Valkey", "redis", "REDIS_PASSWORD", "VALKEY_PASSWORD", "REDISCLI_AUTH"),
    "mongodb": Preset(
        "MongoDB",
        ("mongodump", "--quiet", "--archive", "--config=/dev/stdin", "--username={user}",
         "--authenticationDatabase=admin"),
        ("mongorestore", "--quiet", "--archive", "--drop"),
        ("mongosh", "--quiet", "--norc", "--eval", _MONGO_FACTS.strip()),
        ("mongosh", "--quiet", "--norc", "--eval", "db.hello().isWritablePrimary || quit(1)"),
        ("mongod", "--version"), re.compile(r"v(\d+\.\d+)\.\d+"), user="root",
        passwords=("MONGO_INITDB_ROOT_PASSWORD",), login="LIFEBOAT_PASSWORD", login_by=INPUT,
        begins=(b"\x6d\xe2\x99\x81",), facts_begin="databases\t",
    ),
}  # fmt: skip
