# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to a database server besides PostgreSQL. Each is done for real, and looked at."""

from __future__ import annotations

import random

from ...base.errors import Log, UsageError
from ...dumps import sources
from ...dumps.sources import Server
from ...settings import scenarios
from ...stack.runtime import Opened
from ...stack.service import DataMount
from . import service as drill_service


def _random_server(run: Opened, lot: random.Random) -> Server:
    servers = sources.servers(run)
    if not servers:
        cause = "lifeboat_dumps.sources is empty"
        raise UsageError("break another database", run.config.stack, cause, "There is nothing to lose.")
    return lot.choice(servers)


def _data(run: Opened, server: Server) -> DataMount:
    return drill_service.mount(run, server.service, server.source.data_path)


def kill(run: Opened, lot: random.Random, _log: Log) -> str:
    server = _random_server(run, lot)
    return f"{server.service} is {drill_service.kill(run, server.service).describe()}"


def empty(run: Opened, lot: random.Random, _log: Log) -> str:
    server = _random_server(run, lot)
    data = _data(run, server)
    drill_service.kill(run, server.service)
    count = drill_service.empty(data.path)
    state = drill_service.stopped(run, server.service)
    return f"{count} entries of {data.path} deleted; {server.service} is {state.describe()}"


def remove(run: Opened, lot: random.Random, _log: Log) -> str:
    server = _random_server(run, lot)
    return drill_service.remove_volume(run, server.service, _data(run, server))


SCENARIO = scenarios.DUMPS
FAULTS = (
    ("volume_removed", "a server's container and its volume are removed", remove),
    ("data_directory_emptied", "everything in a server's data directory is deleted", empty),
    ("killed", "a server is killed and stays dead", kill),
)
