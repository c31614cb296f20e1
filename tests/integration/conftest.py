# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real PostgreSQL for the whole run. Without an engine or the image these tests fail; they are never skipped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import postgres_majors
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from postgres_stack import IMAGE, MakeDatabase, Stack

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if postgres_majors.MATRIX:
        terminalreporter.write_sep("-", "backups of one PostgreSQL major, verified and recovered in another")
    for line in postgres_majors.MATRIX:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def engine() -> None:
    try:
        asked = ["docker", "image", "inspect", "--format", "ok", IMAGE]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.fail(
            "these tests need Docker and there is no docker command; `make integration` installs it", pytrace=False
        )
    if done.returncode:
        why = done.stderr.strip()
        pytest.fail(
            f"these tests need an engine with the image {IMAGE}; `make engine` makes both: {why}", pytrace=False
        )


@pytest.fixture(scope="session")
def running(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    del engine
    one = Stack(tmp_path_factory.mktemp("project"))
    with one.up():
        yield one


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    """The running project; what a test made in it is gone afterwards, and nothing of the core's own may be left."""
    yield running
    left = running.traces()
    running.wipe()
    assert not left


@pytest.fixture
def make_database(stack: Stack) -> MakeDatabase:
    """Create a database and run SQL in it: make_database(name, sql)."""

    def make(name: str, sql: str = "", options: str = "") -> str:
        stack.psql(f"CREATE DATABASE {identifier(name)} {options};")
        if sql:
            stack.psql(sql, name)
        return name

    return make
