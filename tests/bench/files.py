# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure files backups against restic and borg: first run, nothing changed, 1 % changed, one volume lost, all lost.

200,000 small files in four volumes, a third of their bytes noise, and some large ones, on the disk of /var/tmp. All
three encrypt. The tools take turns, and every number is the median of three. Lifeboat's recovery also compares: what
came back with its digests, and of a lost volume all that is in the others.
--memory: a backup and a recovery of so many small files, and of a hundredth of that, by Lifeboat and by restic.

Exits 0 also when a target is missed: a speed is a measurement, not a test. docs/bench/README.md says how it is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / ".ansible" / "collections")]

import measure  # noqa: E402
from measure import Sample  # noqa: E402

OURS, RESTIC, BORG = TOOLS = ("lifeboat", "restic", "borg")
FIRST, IDLE, CHANGED, LOST, RESTORED = PHASES = (
    "first run", "nothing changed", "1 % changed", "one volume restored", "all restored",
)  # fmt: skip
_DRIVER = [sys.executable, str(Path(__file__).parent / "driver.py")]
_PASSWORD = "bench"
_DIRECTORY = 500  # files in one
_VOLUMES = 4  # of small files
_WORDS = b"invoice customer delivery address amount total paid open shipped returned cancelled quantity price "
_started = time.monotonic()
Table = dict[str, dict[str, Sample]]


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", flush=True)


class Bench:
    """One run: a directory with the files, and a repository for each tool."""

    def __init__(self, directory: Path, asked: argparse.Namespace) -> None:
        self.directory, self.asked, self.data = directory, asked, directory / "data"
        self._lot = random.Random(7)  # noqa: S311 - the same data each time
        self._noise = self._lot.randbytes(4 << 20)
        self._key()

    def _key(self) -> None:
        made = subprocess.run(["age-keygen"], capture_output=True, check=True, text=True)
        self.recipient = made.stderr.partition("Public key: ")[2].strip()
        (self.directory / "key").write_text(made.stdout, encoding="utf-8")

    def _content(self, size: int) -> bytes:
        """A third of it noise, the rest like text."""
        begin = self._lot.randrange(len(self._noise) - size // 3 - 1)
        text = b"%d %s" % (self._lot.randrange(10**9), _WORDS)
        return self._noise[begin : begin + size // 3] + (text * (size // len(text) + 1))[: size - size // 3]

    def prepare(self, count: int, gigabytes: float) -> None:
        for number in range(count):
            path = self._path(number)
            if number % _DIRECTORY == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(self._content(self._lot.randrange(500, self.asked.largest)))
        if gigabytes:
            (self.data / "large").mkdir()
        for number in range(4 if gigabytes else 0):
            with (self.data / "large" / f"{number}.dat").open("wb") as file:
                for _ in range(int(gigabytes * 1e9 / 4) >> 20):
                    file.write(self._content(1 << 20))

    def _path(self, number: int) -> Path:
        folder = number // _DIRECTORY
        return self.data / f"volume-{folder % _VOLUMES}" / f"{folder:05}" / f"{number:07}.dat"

    def change(self, count: int) -> None:
        """Overwrite every hundredth of the small files."""
        for number in range(self._lot.randrange(100), count, 100):
            self._path(number).write_bytes(self._content(self._lot.randrange(500, self.asked.largest)))

    def _environment(self, name: str) -> dict[str, str]:
        place = str(self.directory / name)
        return {
            "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.directory / "compiled"),
            "RESTIC_REPOSITORY": f"{place}/repository", "RESTIC_PASSWORD": _PASSWORD,
            "RESTIC_CACHE_DIR": f"{place}/cache", "BORG_REPO": f"{place}/repository", "BORG_PASSPHRASE": _PASSWORD,
            "BORG_BASE_DIR": f"{place}/base",
        }  # fmt: skip

    def ready(self, name: str) -> None:
        """Give a tool an empty repository. name: of the tool, and the turn."""
        place, tool = self.directory / name, name.partition("-")[0]
        (place / "repository").mkdir(parents=True)
        if tool == OURS:
            settings = {
                "stack": "bench", "runtime": {"type": "host"},
                "repository": {"type": "local", "path": str(place / "repository")},
                "state_directory": str(place / "state"), "encryption": {"recipients": [self.recipient]},
                "files": {
                    "sources": [{"name": path.name, "path": str(path)} for path in sorted(self.data.iterdir())]
                },
            }  # fmt: skip
            (place / "state").mkdir(mode=0o700)
            (place / "config").mkdir()
            (place / "config" / "bench.json").write_text(json.dumps(settings), encoding="utf-8")
            return
        words = ["restic", "init"] if tool == RESTIC else ["borg", "init", "--encryption=repokey"]
        subprocess.run(words, env={**os.environ, **self._environment(name)}, capture_output=True, check=True)

    def back_up(self, name: str) -> Sample:
        tool = name.partition("-")[0]
        words = {
            OURS: [*_DRIVER, "files", str(self.directory / name / "config")],
            RESTIC: ["restic", "backup", "--quiet", str(self.data)],
            BORG: ["borg", "create", "--compression=zstd,1", "::{utcnow}", str(self.data)],
        }[tool]
        found = self._run(name, words)
        found.size = sum(path.stat().st_size for path in (self.directory / name / "repository").rglob("*"))
        return found

    def restore(self, name: str, count: int, volume: str = "") -> Sample:
        """Bring everything back that was lost: one volume, or all. What is compared afterwards is not timed."""
        tool = name.partition("-")[0]
        lost = [path for path in sorted(self.data.iterdir()) if volume in ("", path.name)]
        kept = self.data.with_name("kept")
        kept.mkdir()
        for path in lost:
            path.rename(kept / path.name)
        words = {
            OURS: [*_DRIVER, "recover-files", str(self.directory / name / "config"), str(self.directory / "key")],
            RESTIC: ["restic", "restore", "latest", "--quiet", "--target=/", *(f"--include={path}" for path in lost)],
            BORG: ["borg", "extract", "::" + self._archive(name), *(str(path).lstrip("/") for path in lost)],
        }[tool]
        found = self._run(name, words, cwd=Path("/"))
        compared = 0
        for path in map(self._path, range(0, count, 97)):
            there = kept / path.relative_to(self.data)
            if path.relative_to(self.data).parts[0] not in {each.name for each in lost}:
                continue
            if path.read_bytes() != there.read_bytes() or path.stat().st_mtime_ns != there.stat().st_mtime_ns:
                raise RuntimeError(f"{tool}: {path} is another one")
            compared += 1
        if not compared:
            raise RuntimeError(f"{tool}: no file of {volume or 'all'} was compared")
        for path in lost:
            shutil.rmtree(path)
            (kept / path.name).rename(path)
        kept.rmdir()
        return found

    def _archive(self, name: str) -> str:
        words = ["borg", "list", "--short", "--last=1"] if name.startswith(BORG) else ["true"]
        environment = {**os.environ, **self._environment(name)}
        return subprocess.run(words, env=environment, capture_output=True, check=True, text=True).stdout.strip()

    def _run(self, name: str, words: Sequence[str], cwd: Path | None = None) -> Sample:
        os.sync()
        measure.wait_for_quiet(self.asked.quiet_wait)
        return measure.run(list(words), env=self._environment(name), memory=True, cwd=cwd)

    def measure(self, count: int) -> Table:
        """All phases. The tools take turns, so that what else the machine does hits all alike."""
        samples: dict[str, dict[str, list[Sample]]] = {phase: {} for phase in PHASES}
        last, turns = self.asked.runs - 1, list(itertools.product(range(self.asked.runs), self.asked.tools))

        def note(phase: str, tool: str, sample: Sample) -> None:
            samples[phase].setdefault(tool, []).append(sample)
            say(
                f"{phase}: {tool}: {sample.seconds:.2f} s, {sample.cpu_seconds:.2f} of a processor,"
                f" {sample.own_peak / 1e6:.0f} MB, {sample.size / 1e6:.0f} MB stored"
                f"  (other work took {sample.others:.0%})"
            )

        for turn, tool in turns:
            self.ready(f"{tool}-{turn}")
            note(FIRST, tool, self.back_up(f"{tool}-{turn}"))
            if turn != last:
                shutil.rmtree(self.directory / f"{tool}-{turn}")
        for _turn, tool in turns:
            note(IDLE, tool, self.back_up(f"{tool}-{last}"))
        for _turn, tool in turns:
            if tool == self.asked.tools[0]:
                self.change(count)
            note(CHANGED, tool, self.back_up(f"{tool}-{last}"))
        for _turn, tool in turns:
            note(LOST, tool, self.restore(f"{tool}-{last}", count, "volume-1"))
        for _turn, tool in turns:
            note(RESTORED, tool, self.restore(f"{tool}-{last}", count))
        return {phase: {tool: _median(runs) for tool, runs in table.items()} for phase, table in samples.items()}


def _median(runs: Sequence[Sample]) -> Sample:
    """The run of the median time, with the most memory of all."""
    middle = statistics.median_low([run.seconds for run in runs])
    found = next(run for run in runs if run.seconds == middle)
    return dataclasses.replace(found, own_peak=max(run.own_peak for run in runs))


def targets(table: Table) -> Iterator[tuple[str, float, float]]:
    """(what, how much, at most)"""
    for phase, most in ((FIRST, 0.7), (IDLE, 0.5), (CHANGED, 0.6), (LOST, 1.1), (RESTORED, 1.1)):
        ours, restic = table[phase][OURS], table[phase].get(RESTIC)
        if restic:
            yield f"{phase}, against restic: time", ours.seconds / restic.seconds, most
            yield f"{phase}, against restic: processor", ours.cpu_seconds / restic.cpu_seconds, most
    if RESTIC in table[FIRST]:
        yield "bytes of the first backup, against restic's", table[FIRST][OURS].size / table[FIRST][RESTIC].size, 1.1
        peaks = [max(table[phase][tool].own_peak for phase in PHASES) for tool in (OURS, RESTIC)]
        yield "memory, against restic's", peaks[0] / peaks[1], 1.0


def memory(directory: Path, asked: argparse.Namespace) -> dict[str, dict[str, Sample]]:
    """A backup and a recovery of many files, and of few."""
    found: dict[str, dict[str, Sample]] = {}
    for count in (asked.memory // 100, asked.memory):
        place = directory / f"memory-{count}"
        place.mkdir()
        bench = Bench(place, asked)
        say(f"making {count} small files")
        bench.prepare(count, 0)
        for tool in asked.tools:
            if tool == BORG:
                continue
            bench.ready(f"{tool}-0")
            taken = {FIRST: bench.back_up(f"{tool}-0"), IDLE: bench.back_up(f"{tool}-0")}
            found[f"{tool}, {count} files"] = {**taken, RESTORED: bench.restore(f"{tool}-0", count)}
            for phase, sample in found[f"{tool}, {count} files"].items():
                say(f"{tool}, {count} files: {phase}: {sample.own_peak / 1e6:.0f} MB, {sample.seconds:.1f} s")
        shutil.rmtree(place)
    return found


def of_memory(asked: argparse.Namespace, found: dict[str, dict[str, Sample]]) -> Iterator[tuple[str, float, float]]:
    for phase in (FIRST, IDLE, RESTORED) if found else ():
        many = found[f"{OURS}, {asked.memory} files"][phase].own_peak
        few = found[f"{OURS}, {asked.memory // 100} files"][phase].own_peak
        yield f"memory of {phase}: {asked.memory} files, against {asked.memory // 100}", many / few, 1.3
        if f"{RESTIC}, {asked.memory} files" in found:
            restic = found[f"{RESTIC}, {asked.memory} files"][phase].own_peak
            yield f"memory of {phase}: {asked.memory} files, against restic's", many / restic, 1.0


def show(table: Table) -> None:
    print(f"\n{'':<10}" + "".join(f"{phase:>30}" for phase in PHASES) + f"{'memory':>10}{'first stored':>14}")
    for tool in table[FIRST]:
        cells = [f"{table[phase][tool].seconds:.1f} s ({table[phase][tool].cpu_seconds:.1f})" for phase in PHASES]
        peak = max(table[phase][tool].own_peak for phase in PHASES) / 1e6
        stored = table[FIRST][tool].size / 1e6
        print(f"{tool:<10}" + "".join(f"{cell:>30}" for cell in cells) + f"{peak:>7.0f} MB{stored:>11.0f} MB")
    print("(in brackets: seconds of a processor)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000, help="small ones (default: 200000; 0: none of the table)")
    parser.add_argument("--largest", type=int, default=16_000, help="bytes of a small file (default: 16000)")
    parser.add_argument("--gigabytes", type=float, default=2, help="of large files (default: 2)")
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts (default: 3)")
    parser.add_argument(
        "--memory", type=int, default=1_000_000, help="files, for the memory (default: 1000000; 0: none)"
    )
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=[tool for tool in TOOLS if _is_there(tool)])
    parser.add_argument("--quiet-wait", type=float, default=30, metavar="SECONDS", help="wait for a busy machine")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench", help="for the results")
    asked = parser.parse_args()
    for tool in TOOLS:
        if tool not in asked.tools:
            print(f"NOT MEASURED: {tool} (apt-get install restic borgbackup)")
    directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-files-", dir="/var/tmp"))
    table: Table = {}
    try:
        if asked.files:
            bench = Bench(directory, asked)
            say(f"making {asked.files} small files and {asked.gigabytes:g} GB of large ones")
            bench.prepare(asked.files, asked.gigabytes)
            table = bench.measure(asked.files)
            for place in directory.iterdir():
                shutil.rmtree(place, ignore_errors=True)
        many = memory(directory, asked) if asked.memory else {}
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if table:
        show(table)
    print()
    found = [*(targets(table) if table else ()), *of_memory(asked, many)]
    for what, value, limit in found:
        print(f"{'met   ' if value <= limit else 'MISSED'}  {what:<60} {value:8.2f}   wanted at most {limit:g}")
    asked.output.mkdir(parents=True, exist_ok=True)
    result = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": asked.files, "largest": asked.largest, "gigabytes": asked.gigabytes, "runs": asked.runs,
        "targets": [{"what": what, "value": round(value, 3), "at_most": limit} for what, value, limit in found],
        "samples": {phase: {tool: sample.as_dict() for tool, sample in runs.items()} for phase, runs in table.items()},
        "memory": {name: {phase: sample.as_dict() for phase, sample in runs.items()} for name, runs in many.items()},
    }  # fmt: skip
    (asked.output / "files.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {asked.output / 'files.json'}")


def _is_there(tool: str) -> bool:
    return tool == OURS or shutil.which(tool) is not None


if __name__ == "__main__":
    main()
