# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure Lifeboat against the seed's own script lines on one database, and say which targets are met.

Exits 0 also when a target is missed: a speed is a measurement, not a test. docs/bench/README.md says how it is done.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / ".ansible" / "collections")]

import chart  # noqa: E402
import measure  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.modules import agent  # noqa: E402
from measure import Sample  # noqa: E402
from stack import BYTES_AN_ORDER, DATABASE, HERE, USER, Stack  # noqa: E402

SEED, FLOOR, TOOL = "seed: pg_dump | gzip", "floor: pg_dump > /dev/null", "bare: pg_dump -Fd -j2"
BOTH = "floor: pg_dump -Fd -j2 beside the content query"
ROWS, CONTENT = "lifeboat, fingerprint rows", "lifeboat, fingerprint content"
SEED_RESTORE, RESTORE = "seed: gunzip | psql", "lifeboat: pg_restore -j2"
RECOVER = "lifeboat: restored, compared, analysed, swapped"
RETENTION = "retention plan over 100,000 backups"
MEGABYTE = 1_000_000
_started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", flush=True)


@dataclass
class Run:
    """One run of the bench: where things lie, and what was measured so far."""

    stack: Stack
    directory: Path
    wait: float
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    newest: str = ""  # our newest backup with full content

    def config(self, fingerprint: str) -> Path:
        return self.directory / f"config-{fingerprint}"

    @property
    def app(self) -> str:
        return str(self.directory / "lifeboat")

    @property
    def dump_file(self) -> str:
        """The seed's newest backup, as the container sees it."""
        return f"/backup/postgresql/{max((self.directory / 'seed').glob('*.gz')).name}"

    def measured(self, name: str, argv: list[str], *, memory: bool = False) -> Sample:
        self.stack.settle()
        before = measure.wait_for_quiet(self.wait)
        sample = measure.run(argv, container=self.stack.container, memory=memory)
        self.samples[name].append(sample)
        busy = f"  (other work took {sample.others:.0%} of the machine)" if max(before, sample.others) > 0.1 else ""
        say(f"  {name}: {sample.seconds:.2f} s{busy}")
        return sample

    def seconds(self, name: str) -> float:
        return statistics.median(sample.seconds for sample in self.samples[name])

    def best(self, name: str) -> float:
        return min(sample.seconds for sample in self.samples[name])

    def size(self, name: str) -> int:
        return max(sample.size for sample in self.samples[name])

    def peak(self, name: str) -> int:
        return max(sample.own_peak for sample in self.samples[name])


def prepare(run: Run) -> None:
    """The command as hosts have it, and one configuration for each fingerprint."""
    Path(run.app).write_bytes(agent.build(sys.executable))
    (run.directory / "repository").mkdir()
    (run.directory / "state").mkdir()
    shutil.copy(HERE / "seed_backup.sh", run.directory / "seed")
    for fingerprint in ("rows", "content"):
        settings = {
            "stack": "bench",
            "runtime": {"project_directory": str(run.directory)},
            "database": {"service": "db", "name": DATABASE, "fingerprint": fingerprint},
            "repository": {"type": "local", "path": str(run.directory / "repository")},
            "state_directory": str(run.directory / "state"),
        }
        run.config(fingerprint).mkdir()
        (run.config(fingerprint) / "bench.json").write_text(json.dumps(settings), encoding="utf-8")


def lifeboat(run: Run, name: str, fingerprint: str, *words: str) -> Sample:
    argv = [sys.executable, run.app, *words, "--config-directory", str(run.config(fingerprint)), "--json"]
    return run.measured(name, argv, memory=True)


def driver(run: Run, name: str, *words: str) -> Sample:
    argv = [sys.executable, str(HERE / "driver.py"), words[0], str(run.config("content")), *words[1:]]
    return run.measured(name, argv, memory=True)


def inside(run: Run, name: str, script: str) -> Sample:
    """A line of shell in the server's container, without PIPEFAIL: the seed has none."""
    return run.measured(name, run.stack.exec("bash", "-c", script))


def backup_seed(run: Run) -> None:
    for old in (run.directory / "seed").glob("*.gz"):
        old.unlink()
    sample = run.measured(SEED, run.stack.exec("bash", "/backup/postgresql/seed_backup.sh"))
    sample.size = max((run.directory / "seed").glob("*.gz")).stat().st_size


def backup_floor(run: Run) -> None:
    inside(run, FLOOR, f"pg_dump -h localhost -U {USER} -d {DATABASE} > /dev/null")


def pg_dump_alone() -> str:
    method = core_default("compression")
    words = f"-U {USER} -d {DATABASE} --format=directory --jobs=2 --compress={method} --file=/tmp/bare --no-sync"
    return f"pg_dump {words}"


def backup_bare(run: Run) -> None:
    """What the tool alone takes to do what we ask of it: the part of our time that is not ours."""
    inside(run, TOOL, pg_dump_alone())
    run.samples[TOOL][-1].size = int(
        subprocess.run(run.stack.exec("du", "-sb", "/tmp/bare"), capture_output=True, check=True).stdout.split()[0]
    )
    subprocess.run(run.stack.exec("rm", "-rf", "/tmp/bare"), check=True)


def backup_both(run: Run) -> None:
    """What a backup with the content of every row cannot take less than, however little is beside it: the tool, and
    the fingerprint's own query of each table, in one psql, at the same time."""
    from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint

    tables = run.stack.sql(fingerprint.tables_sql()).splitlines()
    sql = "\n".join(fingerprint.content_sql(map(json.loads, tables)))
    query = f"psql -XAtq -v ON_ERROR_STOP=1 -U {USER} -d {DATABASE} -c {shlex.quote('SET search_path = pg_catalog;')}"
    script = f"{pg_dump_alone()} & dump=$!; {query} -f - <<'END' > /dev/null || exit; wait $dump\n{sql}\nEND"
    inside(run, BOTH, script)
    subprocess.run(run.stack.exec("rm", "-rf", "/tmp/bare"), check=True)


def core_default(name: str) -> Any:
    from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import DatabaseSettings

    return getattr(DatabaseSettings(), name)


def backup_ours(run: Run, name: str, fingerprint: str) -> None:
    sample = lifeboat(run, name, fingerprint, "backup", "database")
    result = json.loads(sample.output)
    sample.size = result["size"]
    folder = next((run.directory / "repository").glob(f"*/{result['id']}"))
    if fingerprint == "content":
        run.newest = result["id"]
    else:
        shutil.rmtree(folder)


def restore_seed(run: Run) -> None:
    run.stack.sql("CREATE DATABASE bench_seed;", "template1")
    try:
        inside(run, SEED_RESTORE, f"gunzip < {run.dump_file} | psql -h localhost -U {USER} -d bench_seed > /dev/null")
    finally:
        run.stack.drop("bench_seed")


def restore_ours(run: Run) -> None:
    try:
        driver(run, RESTORE, "restore", run.newest, "bench_ours")
    finally:
        run.stack.drop("bench_ours")


BACKUPS: list[Callable[[Run], None]] = [
    backup_seed,
    lambda run: backup_ours(run, ROWS, "rows"),
    lambda run: backup_ours(run, CONTENT, "content"),
    backup_floor,
    backup_bare,
    backup_both,
]
RESTORES: list[Callable[[Run], None]] = [restore_seed, restore_ours]


def rounds(run: Run, count: int) -> None:
    """Every contender once a round, each round beginning with another: a drift of the machine meets all alike."""
    backup_floor(run)  # fills the page cache for all; not counted
    run.samples.clear()
    for number in range(count):
        say(f"round {number + 1} of {count}: backup")
        for step in range(len(BACKUPS)):
            BACKUPS[(number + step) % len(BACKUPS)](run)
        say(f"round {number + 1} of {count}: restore")
        for step in range(len(RESTORES)):
            RESTORES[(number + step) % len(RESTORES)](run)


def for_information(run: Run) -> None:
    say("for information: verification levels, the whole recovery, retention")
    for level in ("checksum", "archive", "restore"):
        lifeboat(run, f"lifeboat: verify, level {level}", "content", "verify", run.newest, "--level", level)
    sample = driver(run, RECOVER, "recover", run.newest)
    result = json.loads(sample.output)
    sample.extra = result["phases"]
    run.stack.drop(result["quarantined"])
    argv = [sys.executable, str(HERE / "driver.py"), "retention", "100000"]
    for _ in range(3):
        sample = measure.run(argv, memory=True)
        sample.extra = json.loads(sample.output)
        sample.seconds = sample.extra.pop("seconds")
        run.samples[RETENTION].append(sample)
    say(f"  {RETENTION}: {run.seconds(RETENTION):.2f} s")


def targets(run: Run) -> list[dict[str, Any]]:
    seed, seed_size = run.seconds(SEED), run.size(SEED)
    ours = [ROWS, CONTENT, RESTORE]
    cases = (
        ("backup, row counts: times as fast as the seed", seed / run.seconds(ROWS), 3.5, True),
        ("backup, full content: times as fast as the seed", seed / run.seconds(CONTENT), 2.0, True),
        ("backup, full content, against pg_dump -Fd -j2 alone", run.seconds(CONTENT) / run.seconds(TOOL), 1.8, False),
        ("the dump and the content query, against the same", run.seconds(BOTH) / run.seconds(TOOL), 1.8, False),
        ("backup: size as a share of the seed's", run.size(ROWS) / seed_size, 0.6, False),
        ("restore of data: times as fast as the seed", run.seconds(SEED_RESTORE) / run.seconds(RESTORE), 1.3, True),
        ("peak memory of our own processes, MB", max(run.peak(name) for name in ours) / MEGABYTE, 100, False),
        ("retention plan over 100,000 backups, seconds", run.seconds(RETENTION), 1.0, False),
    )
    return [judged(*case) for case in cases]


def judged(name: str, value: float, wanted: float, more: bool) -> dict[str, Any]:
    """A target: what was measured, and whether it is met. more: it is to be at least `wanted`, else at most."""
    return {
        "target": name,
        "measured": round(value, 2),
        "wanted": f"{'at least' if more else 'at most'} {wanted:g}",
        "met": value >= wanted if more else value <= wanted,
    }


def verdicts(found: list[dict[str, Any]]) -> list[str]:
    """A line each."""
    lines = []
    for target in found:
        verdict = "met" if target["met"] else "MISSED"
        lines.append(f"{verdict:8}{target['target']:54}{target['measured']:8.2f}   wanted {target['wanted']}")
    return lines


def table(run: Run, found: list[dict[str, Any]]) -> str:
    lines = [f"{'':50}{'seconds':>9}{'(best)':>9}{'cpu s':>8}{'size':>10}{'memory':>9}{'vs seed':>9}"]
    for name, samples in run.samples.items():
        base = SEED_RESTORE if name in (SEED_RESTORE, RESTORE, RECOVER) else SEED
        backup = name in (SEED, FLOOR, TOOL, BOTH, ROWS, CONTENT)
        ratio = f"{run.seconds(base) / run.seconds(name):.2f}x" if backup or base is SEED_RESTORE else ""
        cpu = statistics.median(sample.cpu_seconds for sample in samples)
        size = f"{run.size(name) / MEGABYTE:.1f} MB" if run.size(name) else ""
        peak = f"{run.peak(name) / MEGABYTE:.0f} MB" if run.peak(name) else ""
        lines.append(f"{name:50}{run.seconds(name):9.2f}{run.best(name):9.2f}{cpu:8.1f}{size:>10}{peak:>9}{ratio:>9}")
    lines.append("")
    lines += verdicts(found)
    return "\n".join(lines)


def sizes_by_table(run: Run) -> list[dict[str, Any]]:
    """How much of the ratio is the data's: each table through gzip and through zstd. Not timed."""
    method = str(core_default("compression")).partition(":")
    found = []
    for table in run.stack.tables():
        dump = f"pg_dump -U {USER} -d {DATABASE} --data-only -t {table['table']}"
        script = f"{dump} | tee >(gzip | wc -c >&2) | {method[0]} -{method[2]} | wc -c"
        done = subprocess.run(run.stack.exec("bash", "-c", script), capture_output=True, text=True, check=True)
        found.append({**table, "gzip": int(done.stderr), "zstd": int(done.stdout)})
    return found


def machine() -> dict[str, Any]:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {"processors": os.cpu_count(), "processor": cpu, "memory": memory, "kernel": platform.release()}


def versions(run: Run) -> dict[str, str]:
    def output(*argv: str) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    return {
        "lifeboat": output(sys.executable, run.app, "--version").split()[-1],
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "postgresql": run.stack.sql("SHOW server_version;"),
        "python": platform.python_version(),
        "docker": output("docker", "version", "--format", "{{.Server.Version}}"),
    }


def results(run: Run, size: int, speed: float) -> dict[str, Any]:
    say("for information: size by table")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(run),
        "database": {"bytes": size, "tables": sizes_by_table(run)},
        "disk_write_bytes_a_second": round(speed),
        "targets": targets(run),
        "median_seconds": {name: round(run.seconds(name), 3) for name in run.samples},
        "samples": {name: [sample.as_dict() for sample in samples] for name, samples in run.samples.items()},
    }


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two runs at once would measure each other, and share one Compose project."""
    with (Path(tempfile.gettempdir()) / "lifeboat-bench.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("bench: another run of the bench has not ended; wait for it")
        yield


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.5, help="size of the database (default: 2.5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts (default: 3)")
    parser.add_argument("--visits", type=int, default=200, help="web visits at a time in the data (default: 200)")
    parser.add_argument("--image", default="lifeboat-lab/postgres:17", help="PostgreSQL's image")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the backups go, on a real disk")
    parser.add_argument("--output", type=Path, help="for the results (default: docs/bench; .cache/bench below 1 GB)")
    parser.add_argument("--quiet-wait", type=float, default=20, metavar="SECONDS", help="wait for a busy machine")
    parser.add_argument("--keep", action="store_true", help="leave the stack and the directory there")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    output = asked.output or ROOT / ("docs/bench" if asked.gigabytes >= 1 else ".cache/bench")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    with alone():
        directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-", dir=asked.directory))
        run = Run(Stack(directory, asked.image, say), directory, asked.quiet_wait)
        try:
            say(f"building a database of {asked.gigabytes:g} GB in {asked.image} ({directory})")
            run.stack.start(int(asked.gigabytes * 1e9 / BYTES_AN_ORDER), asked.visits)
            prepare(run)
            size = run.stack.size()
            speed = measure.disk_write_speed(directory)
            say(f"{size / 1e9:.2f} GB; the disk writes {speed / MEGABYTE:.0f} MB/s")
            rounds(run, asked.rounds)
            for_information(run)
            found = results(run, size, speed)
        finally:
            if not asked.keep:
                run.stack.remove()
                shutil.rmtree(directory, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (output / "results.svg").write_text(chart.svg(found), encoding="utf-8")
    print(f"\n{size / 1e9:.2f} GB, {asked.rounds} rounds, medians, {os.cpu_count()} processors\n")
    print(table(run, found["targets"]))
    print(f"\nwritten: {output / 'results.json'}, {output / 'results.svg'}")


if __name__ == "__main__":
    main()
