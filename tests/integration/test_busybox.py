# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack whose image has BusyBox's tools, uid 70, no bash and no locales, as the official Alpine image has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import STACK, Stack, assert_pass, back_up_and_prove, docker, say

IMAGE = "lifeboat-lab/postgres-busybox:17"
ROWS = """
CREATE ROLE teller LOGIN PASSWORD 'x';
CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL, data bytea); CREATE INDEX ON item (name);
INSERT INTO item (name, data) SELECT '値 ' || n, decode(md5(n::text), 'hex') FROM generate_series(1, 5000) n;
GRANT SELECT ON item TO teller; SELECT lo_from_bytea(4242, 'large');
"""
PORTRAIT = """
SELECT count(*) || ' ' || md5(string_agg(i::text, ',' ORDER BY id)) FROM item i;
SELECT encode(lo_get(4242), 'escape'); SELECT relacl::text FROM pg_class WHERE relname = 'item';
"""


@pytest.fixture(scope="module")
def alpine(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    del engine
    stack = Stack(tmp_path_factory.mktemp("busybox"), f"{STACK}-busybox", image=IMAGE)
    try:
        stack.compose("up", "--detach", "--wait")
        stack.psql("CREATE DATABASE shop;")
        stack.psql(ROWS, "shop")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")
        kept = docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}_data_quarantine_").split()
        if kept:
            docker("volume", "rm", *kept)


def recover(settings: Config, *, mode: str) -> None:
    """What the playbook's phases do: assess, protect, restore."""
    run = Opened(settings)
    planned = database_plan.make(run, log=say)
    assert planned.needed
    protected = database_protect.protect(run, planned, log=say)
    assert protected.mode == mode
    done = database_recovery.restore_database(
        Opened(settings), str(planned.backup["id"]), fresh=protected.fresh, stamp=planned.stamp, log=say
    )
    assert_pass(done.checks, at_least=8)


def test_the_image_is_what_it_stands_for(alpine: Stack) -> None:
    tools = "for tool in tar find mktemp id cat sh; do readlink -f $(which $tool); done"
    told = docker("exec", alpine.container, "sh", "-c", f"id -u postgres; {tools}")
    assert told.split() == ["70", *["/usr/bin/busybox"] * 6]
    assert docker("exec", alpine.container, "sh", "-c", "which bash locale || true") == ""


def test_how_large_a_dump_is_by_now_is_told_there(alpine: Stack, tmp_path: Path) -> None:
    database = server.of(Opened(alpine.config(tmp_path)))
    inside = f"/var/tmp/lifeboat-{alpine.stack}.0123abce"
    try:
        docker("exec", alpine.container, "mkdir", inside)
        docker("exec", alpine.container, "dd", "if=/dev/urandom", f"of={inside}/x", "bs=1024", "count=300")
        assert 300 << 10 <= database.size(inside) <= 320 << 10
    finally:
        docker("exec", alpine.container, "rm", "-r", inside)
    assert database.size(inside) == 0, "it is not there"


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_it_is_backed_up_proved_and_swapped(alpine: Stack, tmp_path: Path, form: str) -> None:
    settings = alpine.config(tmp_path, database={"name": "shop", "format": form})
    before = alpine.psql(PORTRAIT, "shop")
    docker("exec", alpine.container, "mkdir", f"/var/tmp/lifeboat-{alpine.stack}.0123abcd")  # as a killed run leaves it
    back_up_and_prove(settings)
    alpine.psql("DROP TABLE item;", "shop")
    recover(settings, mode="swap")
    assert alpine.psql(PORTRAIT, "shop") == before
    assert alpine.traces() == []


def test_its_server_is_rebuilt(alpine: Stack, tmp_path: Path) -> None:
    settings = alpine.config(tmp_path, database={"name": "shop"})
    before = alpine.psql(PORTRAIT, "shop")
    back_up_and_prove(settings)
    docker("exec", alpine.container, "truncate", "-s", "0", "/var/lib/postgresql/data/global/pg_control")
    docker("kill", alpine.container)
    recover(settings, mode="rebuild")
    assert alpine.psql(PORTRAIT, "shop") == before
    assert alpine.psql("SELECT rolname FROM pg_roles WHERE rolname = 'teller';") == ["teller"]
    assert docker("exec", alpine.container, "stat", "-c", "%u", "/var/lib/postgresql/data/PG_VERSION").strip() == "70"
    assert alpine.traces() == []
