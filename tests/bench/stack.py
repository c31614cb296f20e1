# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stack that is measured: a Compose project with one PostgreSQL, made for the run and removed after it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

HERE = Path(__file__).parent
PROJECT = "lifeboat-bench"
USER, DATABASE, PASSWORD = "dbuser", "dbname", "bench"  # the seed's own names
# One order of data.sql brings this much: 27 rows in all tables, their indexes, and the free space between.
BYTES_AN_ORDER = 4940
COMPOSE = """\
name: lifeboat-bench
services:
  db:
    image: {image}
    shm_size: 256mb
    network_mode: none
    environment:
      POSTGRES_USER: dbuser
      POSTGRES_DB: dbname
      POSTGRES_PASSWORD: bench
      POSTGRES_INITDB_ARGS: --data-checksums --encoding=UTF8
    volumes:
      - data:/var/lib/postgresql/data
      # The seed keeps its backups in a volume at this place; ours never look there.
      - ./seed:/backup/postgresql
    healthcheck:
      test: [CMD, pg_isready, --quiet, --host=127.0.0.1, --username=dbuser]
      interval: 2s
      start_period: 120s
      start_interval: 500ms
volumes:
  data: {{}}
"""
# Only while the database is filled. What is measured runs with PostgreSQL's own defaults.
LOADING = """\
services:
  db:
    command: [postgres, -c, fsync=off, -c, wal_level=minimal, -c, max_wal_senders=0, -c, max_wal_size=16GB,
              -c, autovacuum=off, -c, shared_buffers=512MB]
"""


class Stack:
    """`directory` holds the project; `say` prints progress."""

    def __init__(self, directory: Path, image: str, say: Callable[[str], None]) -> None:
        self.directory = directory
        self.image = image
        self.say = say
        self.container = ""

    def start(self, orders: int, visits: int) -> None:
        """Bring it up, fill it, bring it up again as an operator would run it."""
        (self.directory / "seed").mkdir()
        (self.directory / "compose.yml").write_text(COMPOSE.format(image=self.image), encoding="utf-8")
        (self.directory / "loading.yml").write_text(LOADING, encoding="utf-8")
        self.remove()  # what a killed run left
        self.compose("--file", "loading.yml", "up", "--detach", "--wait")
        self._fill(orders, visits)
        self.compose("up", "--detach", "--wait")
        self.find()

    def compose(self, *words: str) -> None:
        argv = ["docker", "compose", "--file", "compose.yml", *words]
        done = subprocess.run(argv, cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"docker compose {' '.join(words)}: {done.stderr.strip()[-500:]}")
        self.find()

    def find(self) -> None:
        argv = ["docker", "ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={PROJECT}"]
        self.container = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def remove(self) -> None:
        self.compose("down", "--volumes", "--timeout", "5")

    def exec(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the server's container."""
        return ["docker", "exec", "--interactive", "--env", f"PGPASSWORD={PASSWORD}", self.container, *argv]

    def sql(self, sql: str, database: str = DATABASE) -> str:
        argv = self.exec("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database)
        done = subprocess.run(argv, input=sql, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def drop(self, *databases: str) -> None:
        for name in databases:
            self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);', "template1")

    def settle(self) -> None:
        """What the one before left to be written must not be charged to the next."""
        self.sql("CHECKPOINT;")
        os.sync()

    def _fill(self, orders: int, visits: int) -> None:
        def part(name: str) -> None:
            script = (HERE / "data.sql").read_text(encoding="utf-8")
            self.sql(f"\\set part {name}\n\\set orders {orders}\n\\set visits {visits}\n{script}")

        part("catalogue")
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(part, name) for name in ("sales", "traffic")]
            while not all(future.done() for future in running):
                time.sleep(5)
                if not all(future.done() for future in running):
                    self.say(f"  {self.size() / 1e9:.2f} GB")
            for future in running:
                future.result()
        self.sql("VACUUM (ANALYZE);")

    def size(self) -> int:
        return int(self.sql(f"SELECT pg_database_size('{DATABASE}');", "template1"))

    def tables(self) -> list[dict[str, object]]:
        """What the database holds, biggest table first."""
        return [
            json.loads(line)
            for line in self.sql(
                "SELECT json_build_object('table', relname, 'rows', reltuples::bigint, 'bytes', pg_table_size(oid),"
                " 'index_bytes', pg_indexes_size(oid)) FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace ORDER BY pg_table_size(oid) DESC;"
            ).splitlines()
        ]
