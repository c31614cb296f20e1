# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure continuous protection against Barman, pgBackRest and the seed's dump, on one server and in one run.

Each round begins with the same server: its data directory is put back, every repository is empty. Each tool takes its
base, then all of them receive the same WAL, then the server is lost and each tool brings it back. Exits 0 also when a
target is missed: a speed is a measurement, not a test. docs/bench/README.md says how it is done.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

import measure
from bench import HERE, ROOT, agent, alone, judged, machine, say, verdicts
from stack import BYTES_AN_ORDER, DATABASE, PROJECT, USER, Stack

RESULTS = ROOT / "docs" / "bench" / "continuous.json"
RECEIVER = "lifeboat-wal-bench"
IMAGE, PARENT = "lifeboat-bench/postgres", "lifeboat-lab/postgres:17"
# The server's image has the peers' programs: pgBackRest works in the server's container only.
DOCKERFILE = f"""FROM {PARENT}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends barman pgbackrest rsync \\
 && rm -rf /var/lib/apt/lists/*
"""
INSIDE = "/backup/postgresql"  # where the containers see the directory `seed` of the project
OURS, BARMAN, BACKREST, DUMP = "lifeboat", "barman", "pgbackrest", "seed: pg_dump | gzip"
BARMAN_CONF = f"""[barman]
barman_user = postgres
barman_home = {INSIDE}/barman
barman_lock_directory = /tmp
log_file = /tmp/barman.log
[bench]
description = bench
conninfo = host=127.0.0.1 user={USER} dbname={DATABASE}
streaming_conninfo = host=127.0.0.1 user={USER}
backup_method = postgres
streaming_archiver = on
slot_name = barman
immediate_checkpoint = true
path_prefix = /usr/lib/postgresql/17/bin
"""
PGBACKREST_CONF = f"""[global]
repo1-path = {INSIDE}/pgbackrest
compress-type = zst
compress-level = 1
process-max = 2
start-fast = y
log-level-console = warn
log-level-file = off
lock-path = /tmp
spool-path = /tmp
[bench]
pg1-path = /var/lib/postgresql/data
pg1-user = {USER}
pg1-database = {DATABASE}
"""
PGBACKREST = f"pgbackrest --config={INSIDE}/pgbackrest.conf --stanza=bench"
# What a peer's recovery ends with, in one container: the server runs, and has the last row that was committed.
START = 'started=$EPOCHREALTIME; pg_ctl --pgdata="$PGDATA" --log=/tmp/server.log --timeout=600 --wait start > /dev/null'
STARTED = """
until [ "$(psql -XAtqc 'SELECT pg_is_in_recovery()')" = f ]; do sleep 0.05; done
psql -XAtqc 'SELECT coalesce(max(n), -1) FROM churn' > /tmp/last
now=$EPOCHREALTIME
echo "$began $started $now $(cat /tmp/last)"
"""
MEGABYTE = 1_000_000
WITHOUT = "without"
BASED, RECOVERED, REPLAYED = "base", "lost, running", "started, all replayed"
VERIFIED, SHARE, MEMORY = "verify base", "receiver, % of a core at 200 tps", "receiver, MB"
TPS, ROWLESS, TABLE = "transactions a second", "when, no rows", "when, a named table"
COPY = 'find "$2" -mindepth 1 -delete; cp --archive "$1/." "$2"'


def call(*argv: str, given: str = "") -> str:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)[:300]}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout.strip()


def until(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


@dataclass
class Bench:
    """The server, the tools' repositories, and what was measured: seconds by row and tool."""

    stack: Stack
    directory: Path
    wait: float
    rows: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    facts: dict[str, Any] = field(default_factory=dict)
    receivers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def shared(self) -> Path:
        return self.directory / "seed"

    @property
    def config(self) -> Path:
        return self.directory / "config"

    def note(self, row: str, tool: str, seconds: float, words: str = "") -> None:
        self.rows[row][tool].append(seconds)
        say(f"  {row}, {tool}: {seconds:.2f}{words}")

    # --- containers ------------------------------------------------------------------------------------------------

    def shell(self, script: str, *words: str, mounts: tuple[str, ...] = (), user: str = "postgres") -> str:
        """Run a script of bash in a container of its own, without a network, that sees the repositories."""
        folders = [word for mount in (f"{self.shared}:{INSIDE}", *mounts) for word in ("--volume", mount)]
        argv = ["docker", "run", "--rm", "--network=none", f"--user={user}", "--shm-size=256m", *folders]
        settings = ["--env", f"PGUSER={USER}", "--env", f"PGDATABASE={DATABASE}", "--entrypoint", "bash", IMAGE]
        return call(*argv, *settings, "-euc", script, "bash", *words)

    def barman(self, *words: str) -> list[str]:
        return ["docker", "exec", f"{PROJECT}-barman", "barman", "--quiet", f"--config={INSIDE}/barman.conf", *words]

    def pgbackrest(self, *words: str) -> list[str]:
        argv = ["docker", "exec", "--user=postgres", self.stack.container, *PGBACKREST.split()]
        return [*argv, *words]

    def lifeboat(self, *words: str) -> list[str]:
        return [sys.executable, str(self.directory / "lifeboat"), *words, "--config-directory", str(self.config)]

    def driver(self, *words: str) -> list[str]:
        return [sys.executable, str(HERE / "driver.py"), words[0], str(self.config), *words[1:]]

    # --- a round ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """The command, its configuration, and the server's files as each round begins with them."""
        (self.directory / "lifeboat").write_bytes(agent.build(sys.executable))
        settings = {
            "stack": "bench",
            "runtime": {"project_directory": str(self.directory)},
            "database": {"service": "db", "name": DATABASE},
            "repository": {"type": "local", "path": str(self.directory / "repository")},
            "state_directory": str(self.directory / "state"),
            "wal": {"enabled": True, "spool_directory": str(self.directory / "spool")},
        }
        self.config.mkdir()
        (self.config / "bench.json").write_text(json.dumps(settings), encoding="utf-8")
        for name in ("snapshot", "repository", "state", "spool"):
            (self.directory / name).mkdir()
        shutil.copy(HERE / "seed_backup.sh", self.shared)
        (self.shared / "barman.conf").write_text(BARMAN_CONF, encoding="utf-8")
        (self.shared / "pgbackrest.conf").write_text(PGBACKREST_CONF, encoding="utf-8")
        self.stack.sql("CREATE TABLE churn (n bigint, body text);")
        self.stack.sql("ALTER SYSTEM SET archive_mode = on;")
        self.stack.sql("ALTER SYSTEM SET archive_command = '/bin/true';")
        self.stack.compose("stop")
        self.files(COPY, "/data", "/snapshot")

    def files(self, script: str, *words: str) -> None:
        mounts = (f"{PROJECT}_data:/data", f"{self.directory / 'snapshot'}:/snapshot")
        self.shell(script, *words, mounts=mounts, user="root")

    def begin(self, *, peers: bool = True) -> None:
        """The same server as in each round, and every tool with an empty repository, receiving."""
        self.end()
        for name in ("repository", "state", "spool"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir()
        for old in self.shared.glob("*.gz"):
            old.unlink()
        self.empty("barman", "pgbackrest")
        self.stack.compose("down", "--volumes", "--timeout", "5")
        self.stack.compose("create")
        self.files(COPY, "/snapshot", "/data")
        self.stack.compose("up", "--detach", "--wait")
        if peers:
            self.begin_peers()
        call(*self.driver("wal-enable"))
        self.receive(self.lifeboat("wal", "receive"), "lifeboat_wal")
        if peers:
            self.received()

    def begin_barman(self) -> None:
        call(
            "docker", "run", "--detach", f"--name={PROJECT}-barman", f"--network=container:{self.stack.container}",
            "--user=postgres", f"--volume={self.shared}:{INSIDE}", "--entrypoint=sleep", IMAGE, "infinity",
        )  # fmt: skip
        if self.stack.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'barman';") == "0":
            call(*self.barman("receive-wal", "--create-slot", "bench"))
        self.receive(self.barman("receive-wal", "bench"), "barman_receive_wal")

    def begin_peers(self) -> None:
        self.begin_barman()
        call(*self.pgbackrest("stanza-create"))
        self.stack.sql(f"ALTER SYSTEM SET archive_command = '{PGBACKREST} archive-push %p';")
        self.stack.sql("SELECT pg_reload_conf();")

    def empty(self, *names: str) -> None:
        """Directories that the peers, who run as the server's user, may fill."""
        self.shell(f'cd {INSIDE}; rm -rf "$@"; install -d -m 700 -o postgres -g postgres "$@"', *names, user="root")

    def receive(self, argv: list[str], name: str) -> None:
        self.receivers.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        seen = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}';"
        until(lambda: self.stack.sql(seen) != "0", f"{name} is connected")

    def received(self) -> None:
        """Until every tool has all that was committed, in its repository."""
        call(*self.driver("wal-sent"))
        segment = self.stack.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn());")
        self.stack.sql("SELECT pg_switch_wal();")
        archived = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver;"
        until(lambda: self.stack.sql(archived) == "t", f"pgBackRest has {segment}")

        def kept() -> bool:
            call(*self.barman("archive-wal", "bench"))
            return any((self.shared / "barman").glob(f"bench/wals/*/{segment}"))

        until(kept, f"Barman has {segment}")
        call(*self.driver("wal-sent"))

    def churn(self, megabytes: int) -> int:
        """So much WAL of ordinary work, a commit each ten thousand rows. Returns the last row."""
        start, number = self.stack.sql("SELECT pg_current_wal_insert_lsn();"), 0
        while True:
            orders = f"UPDATE orders SET status = 'shipped', total = total + 1 WHERE id % 1000 = {number % 1000}"
            rows = f"SELECT g, repeat(md5(g::text), 4) FROM generate_series({number}0000, {number}9999) g"
            grown = f"SELECT pg_current_wal_insert_lsn() - '{start}'::pg_lsn > {megabytes}000000"
            answer = self.stack.sql(f"INSERT INTO churn {rows};\n{orders};\n{grown};")
            if answer == "t":
                return int(f"{number}9999")
            number += 1

    def end(self) -> None:
        """No receiver, no container beside the server's."""
        for process in self.receivers:
            process.terminate()
            process.wait()
        self.receivers.clear()
        for name in (f"{PROJECT}-barman", RECEIVER):
            subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
        aside = call("docker", "volume", "ls", "--quiet", "--filter", "label=lifeboat.quarantine=bench").split()
        if aside:
            call("docker", "volume", "rm", *aside)

    # --- what is measured --------------------------------------------------------------------------------------------

    def timed(self, argv: list[str], *, memory: bool = False) -> measure.Sample:
        measure.wait_for_quiet(self.wait)
        return measure.run(argv, container=self.stack.container, memory=memory)

    def base(self, tool: str) -> None:
        argv = {
            OURS: self.lifeboat("backup", "base", "--json"),
            BARMAN: self.barman("backup", "bench"),
            BACKREST: self.pgbackrest("--type=full", "backup"),
            DUMP: self.stack.exec("bash", f"{INSIDE}/seed_backup.sh"),
        }[tool]
        self.stack.settle()
        sample = self.timed(argv, memory=tool == OURS)
        self.note(BASED, tool, sample.seconds)
        places = {
            OURS: [*self.directory.glob("repository/base/*")], BARMAN: [*self.shared.glob("barman/bench/base/*")],
            BACKREST: [*self.shared.glob("pgbackrest/backup")], DUMP: [*self.shared.glob("*.gz")],
        }  # fmt: skip
        stored = sum(int(call("du", "-sb", str(place)).split()[0]) for place in places[tool])
        self.facts.setdefault("stored", {})[tool] = stored
        if tool == OURS:
            self.facts["peak of a base"] = max(sample.own_peak, self.facts.get("peak of a base", 0))

    def recover_peer(self, tool: str, last: int) -> None:
        restore = {
            BARMAN: f'barman --quiet --config={INSIDE}/barman.conf recover bench latest "$PGDATA" >&2',
            BACKREST: f'{PGBACKREST} --pg1-path="$PGDATA" restore >&2',
        }[tool]
        script = f"export PGDATA={INSIDE}/restored; began=$EPOCHREALTIME; {restore}\n{START}\n{STARTED}"
        self.recovered(tool, last, script)

    def recover_seed(self) -> None:
        """A new server and the script's restore: of the dump's instant, and nobody has compared anything."""
        (dump,) = self.shared.glob("*.gz")
        made = f"initdb --username={USER} --auth=trust --data-checksums > /dev/null"
        script = (
            f"export PGDATA={INSIDE}/restored; began=$EPOCHREALTIME; {made}\n"
            f"{START}; createdb {DATABASE}\n"
            f"gunzip < {INSIDE}/{dump.name} | psql -Xq > /dev/null\n{STARTED}"
        )
        self.recovered(DUMP, None, script)

    def recovered(self, tool: str, last: Optional[int], script: str) -> None:
        self.empty("restored")
        measure.wait_for_quiet(self.wait)
        began, started, now, found = self.shell(script).splitlines()[-1].split(" ")
        if last is not None and int(found) != last:
            raise RuntimeError(f"{tool} brought back {found} rows of {last}")
        self.note(RECOVERED, tool, float(now) - float(began))
        if last is not None:
            self.note(REPLAYED, tool, float(now) - float(started))
        self.empty("restored")

    def recover_ours(self, last: int) -> None:
        """In its place: from the command to a server that was read to its end and runs. The base that is taken then,
        which no peer takes, is not in it."""
        argv = self.lifeboat("recover", "database", "--confirm", platform.node(), "--reason", "bench", "--json")
        measure.wait_for_quiet(self.wait)
        began = time.time()
        sample = measure.run(argv, memory=True)
        result = json.loads(sample.output)
        self.stack.find()
        if result["verdict"] != "PASS" or int(self.stack.sql("SELECT max(n) FROM churn;")) != last:
            raise RuntimeError(f"the verdict is {result['verdict']}: {result.get('error') or result.get('record')}")
        record = result["record"]
        seconds = datetime.fromisoformat(record["finished_at"]).timestamp() - began
        phases = {phase["name"]: phase["seconds"] for phase in record["phases"]}
        parts = next(phase["seconds_of"] for phase in record["phases"] if phase["name"] == "restore")
        self.note(RECOVERED, OURS, seconds, f"  {phases} {parts}")
        self.note(REPLAYED, OURS, parts["replay"])
        self.facts.setdefault("phases", []).append({**phases, **parts})
        self.facts["peak of a recovery"] = max(sample.own_peak, self.facts.get("peak of a recovery", 0))

    # The receiver, and what reads WAL.

    def receiving(self, seconds: int) -> None:
        """What the receiver takes at 200 transactions a second, and what it takes from the most that there can be."""
        self.begin(peers=False)
        self.stack.sql("CREATE DATABASE tps;", "template1")
        pgbench = self.stack.exec("pgbench", "-U", USER)
        call(*pgbench, "--initialize", "--quiet", "--scale=20", "tps")
        self.stack.settle()
        identity = call("docker", "inspect", "--format", "{{.Id}}", RECEIVER)
        process = call("docker", "inspect", "--format", "{{.State.Pid}}", RECEIVER)
        before = measure.container_cpu(identity)
        call(*pgbench, "--rate=200", "--client=4", f"--time={seconds}", "tps")
        self.note(SHARE, OURS, 100 * (measure.container_cpu(identity) - before) / seconds)
        self.note(MEMORY, OURS, measure.memory(int(process)) / MEGABYTE)
        for _ in range(3):
            for tool in (WITHOUT, OURS, BARMAN):
                self.end()
                if tool == OURS:
                    self.receive(self.lifeboat("wal", "receive"), "lifeboat_wal")
                elif tool == BARMAN:
                    self.begin_barman()
                self.stack.settle()
                printed = call(*pgbench, "--client=4", "--jobs=2", f"--time={max(5, seconds // 2)}", "tps")
                found = re.search(r"tps = ([0-9.]+)", printed)
                self.note(TPS, tool, float(found[1]) if found else 0.0)

    def looking(self, megabytes: int) -> None:
        """A table is dropped and one truncated behind so much WAL."""
        self.begin(peers=False)
        call(*self.lifeboat("backup", "base", "--json"))
        self.churn(megabytes)
        self.stack.sql("TRUNCATE churn;")
        self.stack.sql("DROP TABLE reviews;")
        call(*self.driver("wal-sent"))
        for row, words in ((ROWLESS, ("--rows", "0")), (TABLE, ("--table", "public.churn"))):
            for _ in range(3):
                sample = self.timed(self.lifeboat("when", *words, "--json"))
                if "churn" not in sample.output:
                    raise RuntimeError(f"it does not name the table: {sample.output[:500]}")
                self.note(row, OURS, sample.seconds)


def one_round(bench: Bench, number: int, megabytes: int) -> None:
    bench.begin()
    tools = [OURS, BARMAN, BACKREST, DUMP]
    for step in range(len(tools)):
        bench.base(tools[(number + step) % len(tools)])
    call(*bench.lifeboat("backup", "database", "--json"))
    last = bench.churn(megabytes)
    bench.received()
    sample = bench.timed(bench.lifeboat("verify", "base", "--json"))
    bench.note(VERIFIED, OURS, sample.seconds)
    bench.end()
    bench.stack.compose("down", "--volumes", "--timeout", "5")
    recoveries: list[Callable[[], None]] = [
        lambda: bench.recover_ours(last), lambda: bench.recover_peer(BARMAN, last),
        lambda: bench.recover_peer(BACKREST, last), bench.recover_seed,
    ]  # fmt: skip
    for step in range(len(recoveries)):
        recoveries[(number + step) % len(recoveries)]()
        bench.stack.compose("stop")


def targets(bench: Bench) -> list[dict[str, Any]]:
    def median(row: str, tool: str = OURS) -> float:
        return statistics.median(bench.rows[row][tool])

    ours = median(RECOVERED)
    cases = (
        ("lost to running and proved, against Barman's running", ours / median(RECOVERED, BARMAN), 1.0, False),
        ("the same: times as fast as the seed", median(RECOVERED, DUMP) / ours, 3.0, True),
        ("base, against pgBackRest's", median(BASED) / median(BASED, BACKREST), 1.0, False),
        ("started and replayed, against Barman's copy", median(REPLAYED) / median(REPLAYED, BARMAN), 1.1, False),
        ("receiver's memory, MB", median(MEMORY), 16, False),
        ("receiver, % of a core at 200 tps", median(SHARE), 2, False),
        ("receiver, % of transactions a second", 100 * (1 - median(TPS) / median(TPS, WITHOUT)), 2, False),
        ("when: DROP and TRUNCATE, seconds", median(ROWLESS), 10, False),
        ("when: a named table, seconds", median(TABLE), 10, False),
        ("verify base, seconds", median(VERIFIED), 60, False),
    )
    return [judged(*case) for case in cases]


def table(bench: Bench, found: list[dict[str, Any]]) -> str:
    """Medians: a line a row, a column a tool; then what was wanted."""
    tools = [OURS, BARMAN, BACKREST, DUMP, WITHOUT]
    lines = [f"{'':36}" + "".join(f"{tool:>24}" for tool in tools)]
    for row, samples in bench.rows.items():
        cells = (f"{statistics.median(samples[tool]):.2f}" if samples[tool] else "" for tool in tools)
        lines.append(f"{row:36}" + "".join(f"{cell:>24}" for cell in cells))
    sizes = (f"{bench.facts['stored'][tool] / MEGABYTE:.0f}" if tool in bench.facts["stored"] else "" for tool in tools)
    lines += [f"{'stored by a base, MB':36}" + "".join(f"{size:>24}" for size in sizes), ""]
    return "\n".join([*lines, *verdicts(found)])


def rounded(samples: list[float]) -> list[float]:
    return [round(sample, 3) for sample in samples]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.5, help="size of the database (default: 2.5)")
    parser.add_argument("--wal", type=int, default=300, metavar="MB", help="WAL behind the base (default: 300)")
    parser.add_argument("--look", type=int, default=1000, metavar="MB", help="WAL that `when` reads (default: 1000)")
    parser.add_argument("--seconds", type=int, default=30, help="of each run of pgbench (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts (default: 3)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the backups go, on a real disk")
    parser.add_argument("--output", type=Path, help="for the results (default: docs/bench; .cache/bench below 1 GB)")
    parser.add_argument("--quiet-wait", type=float, default=20, metavar="SECONDS", help="wait for a busy machine")
    parser.add_argument("--keep", action="store_true", help="leave the stack and the directory there")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    with alone():
        directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-", dir=asked.directory))
        bench = Bench(Stack(directory, IMAGE, say), directory, asked.quiet_wait)
        try:
            call("docker", "build", "--quiet", "--tag", IMAGE, "-", given=DOCKERFILE)
            say(f"building a database of {asked.gigabytes:g} GB ({directory})")
            bench.stack.start(int(asked.gigabytes * 1e9 / BYTES_AN_ORDER), 200)
            size = bench.stack.size()
            bench.prepare()
            for number in range(asked.rounds):
                say(f"round {number + 1} of {asked.rounds}")
                one_round(bench, number, asked.wal)
            say("the receiver")
            bench.receiving(asked.seconds)
            say(f"`lifeboat when`, {asked.look} MB of WAL")
            bench.looking(asked.look)
            found = targets(bench)
            results = {
                "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "machine": machine(), "database": size, "wal": asked.wal * MEGABYTE, "targets": found,
                "rows": {row: {tool: rounded(each) for tool, each in tools.items() if each}
                         for row, tools in bench.rows.items()},
                **bench.facts,
            }  # fmt: skip
        finally:
            if not asked.keep:
                bench.end()
                bench.stack.remove()
                shutil.rmtree(directory, ignore_errors=True)
    output = asked.output or (RESULTS if asked.gigabytes >= 1 else ROOT / ".cache" / "bench" / RESULTS.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\n{size / 1e9:.2f} GB, {asked.wal} MB of WAL, {asked.rounds} rounds, medians\n")
    print(f"{table(bench, found)}\n\nwritten: {output}")


if __name__ == "__main__":
    main()
