# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database backup of an earlier commit is restored and proved, and judged by md5 of every row."""

from __future__ import annotations

from pathlib import Path

import pytest
import written
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import facts_of
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest
from postgres_stack import Stack, say, store

ITEMS = "SELECT md5(string_agg(i::text, E'\\n' ORDER BY id)) FROM items i;"
FILES = "SELECT md5(string_agg(key||size||sha256, E'\\n' ORDER BY key)) FROM files;"


@pytest.mark.docker
def test_its_database_comes_back(stack: Stack, tmp_path: Path) -> None:
    settings = written.unpack(tmp_path)
    ours = stack.config(tmp_path, repository=settings["repository"])
    identity = written.DATABASE[written.NEWER]
    repository = store(ours)
    found = manifest.parse(repository.manifest("database", identity), component="database", expected_id=identity)
    server = stack.server(ours)
    stack.psql("CREATE ROLE shop; CREATE ROLE reader;")
    with repository.materialise("database", identity) as folder:
        facts = facts_of(folder)
        database_restore.database(server, found, folder, facts, "came_back", jobs=2, log=say)
    rows = [*stack.psql("SET timezone = 'UTC'; " + ITEMS, "came_back"), *stack.psql(FILES, "came_back")]
    assert rows == (tmp_path / "portrait.txt").read_text(encoding="utf-8").splitlines()[-2:]
