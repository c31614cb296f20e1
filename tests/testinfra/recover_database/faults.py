"""What can happen to a database, each done for real, and what a recovery must say of it and make of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from support import Stack


@dataclass(frozen=True)
class Fault:
    """condition, finding: what the plan must say. mode: how it must be recovered. kept: where the damaged data lies
    afterwards (database, volume, or empty where there was none left). loses: rows written after the backup are gone.
    killed: the server got no time to stop, so PostgreSQL empties unlogged tables, as documented.
    """

    name: str
    inject: Callable[[Stack], object]
    condition: str
    finding: str
    mode: str
    kept: str = ""
    loses: bool = True
    killed: bool = False


def _stopped(stack: Stack, then: str) -> None:
    """Stop the server, do `then` in its data directory, start it again, whatever comes of that."""
    stack.compose("stop", stack.service)
    stack.host.run("sh", "-ec", f'cd "$0" && {then}', stack.data_directory())
    stack.compose("start", stack.service)


def drop_and_empty_tables(stack: Stack) -> None:
    stack.sql("DROP TABLE app.files CASCADE; TRUNCATE app.orders CASCADE;")


def drop_database(stack: Stack) -> None:
    stack.sql(f'DROP DATABASE "{stack.database}" WITH (FORCE);', database="postgres")


def drop_role(stack: Stack) -> None:
    stack.sql("DROP OWNED BY shop_report CASCADE; DROP ROLE shop_report;")


def stop_server(stack: Stack) -> None:
    stack.compose("stop", stack.service)


def remove_pg_control(stack: Stack) -> None:
    _stopped(stack, "rm global/pg_control")


def corrupt_pages(stack: Stack) -> None:
    """Sixteen bytes inside the third page of a table's file, while nothing of it is in the server's memory."""
    path = stack.sql("SELECT pg_relation_filepath('app.events'); CHECKPOINT;")[0]
    _stopped(stack, f"printf 'not what I wrote' | dd of={path} bs=1 seek=20000 conv=notrunc status=none")
    stack.wait_until_well()


def lose_database_files(stack: Stack) -> None:
    """The server lives, the database is listed, and nothing of it can be opened."""
    oid = stack.sql(f"SELECT oid FROM pg_database WHERE datname = '{stack.database}';")[0]
    _stopped(stack, f"rm -r base/{oid}")
    deadline = time.monotonic() + 60
    while stack.psql("SELECT 1;", database="postgres").returncode and time.monotonic() < deadline:
        time.sleep(0.5)


def empty_data_directory(stack: Stack) -> None:
    stack.compose("stop", stack.service)
    stack.host.run("find", stack.data_directory(), "-mindepth", "1", "-delete")


def remove_container(stack: Stack) -> None:
    stack.host.run("docker", "rm", "--force", stack.container)


def remove_volume(stack: Stack) -> None:
    stack.compose("rm", "--stop", "--force", stack.service)
    stack.host.run("docker", "volume", "rm", stack.volume)


FAULTS = (
    Fault(
        "tables dropped and emptied",
        drop_and_empty_tables,
        "damaged",
        "the table app.files is missing",
        "swap",
        kept="database",
    ),
    Fault("database dropped", drop_database, "damaged", "the database shop is missing", "swap"),
    Fault("role dropped", drop_role, "damaged", "the role shop_report is missing", "swap", kept="database"),
    Fault("server stopped", stop_server, "down", "db is exited", "started", loses=False),
    Fault("server refuses to start", remove_pg_control, "down", "pg_control", "rebuild", kept="volume"),
    Fault("data page corrupted", corrupt_pages, "damaged", "app.events cannot be read", "swap", kept="database"),
    Fault("database files lost", lose_database_files, "damaged", "the database shop cannot be read", "swap"),
    Fault("data directory emptied", empty_data_directory, "down", "db is exited", "swap"),
    Fault("container removed", remove_container, "down", "db is absent", "started", loses=False, killed=True),
    Fault("volume removed", remove_volume, "down", "db is absent", "swap"),
)
