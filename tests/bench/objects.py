# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the mirror against `rclone sync --metadata` and `mc mirror`: first run, nothing to do, one percent changed.

With 5,000 and 50,000 objects; then at a million keys, which a generator lists, and the pruning of 100,000 old versions.
--source minio: the source lists tags beside the objects where it is asked to, as MinIO does (its stand-in, a proxy).
--brief: each tool mirrors once, not timed; then nothing to do, and one percent changed.

Two SeaweedFS servers on this machine. Each tool has versioned buckets of its own in the second, and they take turns;
every number is the median of three. Exits 0 also when a target is missed: a speed is a measurement, not a test.
docs/bench/README.md says how it is done.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "integration"), str(ROOT / ".ansible" / "collections")]

import many_keys  # noqa: E402
import measure  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.base import throttle, typed  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import checksums, manifest, repositories  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDump, DumpDetails  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings  # noqa: E402
from measure import Sample  # noqa: E402
from s3_faults import faulty  # noqa: E402
from s3_quirks import minio_tells_tags  # noqa: E402
from s3_servers import SeaweedFS, binary, find_mc, seaweedfs  # noqa: E402

OURS, NOW, RCLONE, MC = "lifeboat, as of an instant", "lifeboat, current state", "rclone sync", "mc mirror"
FLOOR, FLOOR_NOW = "floor: what must be listed", "floor: the same, current state"
SERVERS, SERVERS_NOW = "servers alone: the same lists", "servers alone, current state"
TOOLS = {OURS: "ours", NOW: "now", RCLONE: "rclone", MC: "mc"}
FIRST, IDLE, CHANGED = PHASES = ("first run", "nothing to do", "1 % changed")
PRUNE = "old versions pruned"
FEW_KEYS = 10  # the generator lists so many times fewer keys for comparison, and the forecast is of so many times more
Table = dict[str, dict[str, Sample]]
_MARKS = {
    "key-marker": b"NextKeyMarker", "version-id-marker": b"NextVersionIdMarker",
    "continuation-token": b"NextContinuationToken",
}  # fmt: skip
_started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", flush=True)


class Bench:
    """One run: the servers, the data, and each tool's way to mirror."""

    def __init__(self, directory: Path, source: SeaweedFS, vault: SeaweedFS, asked: argparse.Namespace) -> None:
        self.directory, self.source, self.vault, self.asked = directory, source, vault, asked
        self.at = source.url  # where the tools reach the source
        self.sizes: dict[int, Table] = {}
        self.more: dict[str, Sample] = {}
        self.filled = 0.0

    def prepare(self, count: int) -> None:
        """Fill a source bucket as an application would."""
        files = self.directory / "files"
        for number in range(count):
            path = files / "small" / f"{number % 50:02}" / f"{number:06}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(500 + number * 7919 % 8000))
        (files / "large").mkdir(parents=True)
        for number in range(4):
            with (files / "large" / f"{number}.bin").open("wb") as file:
                for _ in range(int(self.asked.gigabytes * 1e9 / 4) >> 20):
                    file.write(os.urandom(1 << 20))
        _versioned(self.source, _uploads(count))
        self._rclone("copy", str(files), f"src:{_uploads(count)}")
        shutil.rmtree(files)
        self.filled = time.monotonic()
        time.sleep(
            0 if self.asked.brief else 65
        )  # what was written within the minute before a mirror is looked at again by the next

    def change(self, count: int) -> None:
        """Overwrite every hundredth of the small objects."""
        files = self.directory / "changed"
        for number in range(0, count, 100):
            path = files / "small" / f"{number % 50:02}" / f"{number:06}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000))
        self._rclone("copy", str(files), f"src:{_uploads(count)}")
        time.sleep(1.1)

    def _environment(self) -> dict[str, str]:
        # As on a host, where the agent has each file compiled.
        made = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.directory / "compiled")}
        for name, server, at in (("SRC", self.source, self.at), ("VAULT", self.vault, self.vault.url)):
            made |= {
                f"RCLONE_CONFIG_{name}_TYPE": "s3", f"RCLONE_CONFIG_{name}_PROVIDER": "Other",
                f"RCLONE_CONFIG_{name}_ENDPOINT": at, f"RCLONE_CONFIG_{name}_REGION": "us-east-1",
                f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": server.access_key,
                f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": server.secret_key,
                f"MC_HOST_{name.lower()}": at.replace("//", f"//{server.access_key}:{server.secret_key}@"),
            }  # fmt: skip
        return made

    def _rclone(self, *words: str) -> None:
        argv = [binary("rclone"), *words, "--transfers=32", "--checkers=32"]
        subprocess.run(argv, env={**os.environ, **self._environment()}, capture_output=True, check=True)

    def _settings(self, name: str, uploads: str = "uploads") -> dict[str, Any]:
        (self.directory / name / "repository").mkdir(parents=True, exist_ok=True)
        return {
            "stack": name,
            "runtime": {"type": "host"},
            "repository": {"type": "local", "path": str(self.directory / name / "repository")},
            "objects": {"bucket": uploads, "endpoint_url": self.at, "change_limit": 100},
            "vault": {"objects_bucket": f"mirror-{name}", "endpoint_url": self.vault.url},
            "state_directory": str(self.directory / name / "state"),
        }

    def _configure(self, name: str, timed: bool, settings: dict[str, Any] | None = None) -> None:
        folder = self.directory / name / "config"
        settings = settings or self._settings(name)
        folder.mkdir()
        (folder / f"{name}.json").write_text(json.dumps(settings), encoding="utf-8")
        keys = {
            "objects_access_key": self.source.access_key, "objects_secret_key": self.source.secret_key,
            "vault_access_key": self.vault.access_key, "vault_secret_key": self.vault.secret_key,
        }  # fmt: skip
        (folder / f"{name}.secrets.json").write_text(json.dumps(keys), encoding="utf-8")
        if timed:
            self.instant(name)

    def instant(self, name: str) -> None:
        """Publish what stands for a database backup of now: only its instant is of use to a mirror."""
        moment = datetime.now(timezone.utc)
        repo = repositories.from_settings(LocalSettings(**self._settings(name)["repository"]), {})
        identity = manifest.backup_id("database", moment)
        of = DumpDetails("custom", 170000, "postgres", "", True, databases=(DatabaseDump("shop", 0),))
        made = manifest.Manifest(identity, "database", name, moment, moment, (), {}, typed.plain(of))
        with repo.stage("database", identity) as staging:
            staging.publish(made.to_bytes())

    def ready(self, count: int, turn: int) -> None:
        """Give each tool an empty bucket in the vault."""
        for whose in self.tools():
            name = f"{whose}-{count}-{turn}"
            _versioned(self.vault, f"mirror-{name}")
            if whose in ("ours", "now"):
                self._configure(name, whose == "ours", self._settings(name, _uploads(count)))

    def tools(self) -> dict[str, str]:
        brief = {RCLONE} if self.asked.brief else set[str]()
        return {whose: tool for tool, whose in TOOLS.items() if tool not in brief and (tool != MC or find_mc())}

    def run(self, whose: str, count: int, turn: int) -> Sample:
        """One mirror by one tool."""
        source, name = _uploads(count), f"{whose}-{count}-{turn}"
        if whose == "rclone":
            more = ["--metadata", "--fast-list", "--transfers=32", "--checkers=32"]
            return self._run([binary("rclone"), "sync", f"src:{source}", f"vault:mirror-{name}", *more])
        if whose == "mc":
            # In parts, what it sends for an object of another server has a wrong MD5, and it stops at that.
            more = ["mirror", "--overwrite", "--disable-multipart", f"src/{source}", f"vault/mirror-{name}"]
            return self._run([find_mc(), "--quiet", "--config-dir", str(self.directory / "mc"), *more])
        return self._run([*_DRIVER, "mirror", str(self.directory / name / "config")])

    def floor(self, name: str, *more: str) -> Sample:
        """What a mirror must list, at once, and nothing done with it."""
        return self._run([*_DRIVER, "listing", str(self.directory / name / "config"), *more])

    def servers(self, count: int, whose: str, *, current: bool) -> Sample:
        """What the servers take to answer with these lists, at once, where nobody reads the answers: no mirror that
        lists them is faster, whatever it does with them."""
        vault = bucket.Bucket(
            f"mirror-{whose}", self.vault.url, access_key=self.vault.access_key, secret_key=self.vault.secret_key
        )
        source = bucket.Bucket(
            _uploads(count), self.at, access_key=self.source.access_key, secret_key=self.source.secret_key
        )
        self._quiet()
        work, cpu, start = measure.busy(), time.process_time(), time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            both = pool.submit(_drain, source, versions=not current), pool.submit(_drain, vault)
            listed = [each.result() for each in both]
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
        assert min(listed) >= count, f"of {count} objects the lists have {listed}"
        others = max(0.0, measure.busy() - work - cpu) / seconds / (os.cpu_count() or 1)
        return Sample(seconds, cpu, others)

    def _quiet(self) -> None:
        os.sync()
        measure.wait_for_quiet(self.asked.quiet_wait)

    def _run(self, argv: list[str]) -> Sample:
        self._quiet()
        return measure.run(argv, env=self._environment(), memory=True)

    def many(self, count: int) -> None:
        """A mirror with nothing to do, and listing alone, where there are `count` keys."""
        name = f"many-{count}"
        with many_keys.buckets(count) as url:
            made = self._settings(name)
            for whose in ("objects", "vault"):
                made[whose]["endpoint_url"] = url
            self._configure(name, True, made)
            self._publish_listing(name, count, url)
            config = str(self.directory / name / "config")
            idle, floor = self._run([*_DRIVER, "mirror", config]), self._run([*_DRIVER, "listing", config])
        done = json.loads(idle.output)
        assert (done["objects"], done["copied"]) == (count, 0), done
        self.more |= {_many(count): idle, _many(count, FLOOR): floor}
        say(f"{count} keys: {idle.seconds:.1f} s, {idle.own_peak / 1e6:.0f} MB")

    def _publish_listing(self, name: str, count: int, endpoint: str) -> None:
        moment = datetime.now(timezone.utc)
        identity = manifest.backup_id("objects", moment)
        repo = repositories.from_settings(LocalSettings(**self._settings(name)["repository"]), {})
        with repo.stage("objects", identity) as staging:
            summary = many_keys.publish_listing(staging.path, count)
            artefacts = (checksums.measure(staging.path / listing.NAME, listing.NAME),)
            made = self._settings(name)
            details = {
                "objects": summary.objects, "bytes": summary.bytes, "properties": {"encrypted": {}},
                "bucket": made["objects"]["bucket"], "endpoint": endpoint, "versions_listed": format_time(moment),
                "vault": {"endpoint": endpoint, "bucket": made["vault"]["objects_bucket"]},
            }  # fmt: skip
            one = manifest.Manifest(identity, "objects", name, moment, moment, artefacts, {}, details)
            staging.publish(one.to_bytes())

    def prune(self, count: int) -> Sample:
        """`count` objects, each of them replaced once, and a backup that names the live ones."""
        made = self._settings("prune")
        self._configure("prune", False, made)
        where = bucket.Bucket(
            made["vault"]["objects_bucket"], self.vault.url, "", "", self.vault.access_key, self.vault.secret_key
        )
        _versioned(self.vault, where.name)

        def put(number: int) -> None:
            where.requests.call(
                "PUT", where.name, many_keys.key(number), body=b"%d" % number, attempted="put", subject="x"
            )

        for _ in range(2):
            throttle.each(put, iter(range(count)), 16)
            time.sleep(1.1)
        self._publish_listing("prune", count, self.vault.url)
        sample = self._run([*_DRIVER, "prune", str(self.directory / "prune" / "config"), "40"])
        assert json.loads(sample.output)["versions"] == count, sample.output
        left = sum(1 for _ in bucket.versions(where))
        assert left == count, f"{left} versions are left, {count} live objects were there"
        return sample

    def _settle(self, count: int, turn: int) -> None:
        """Let each tool mirror everything, and once more when a minute has passed, as in prepare()."""
        self.ready(count, turn)
        for again in (False, True):
            if again:
                time.sleep(max(0.0, self.filled + 65 - time.monotonic()))
            for whose in self.tools():
                self.run(whose, count, turn)

    def measure(self, count: int) -> None:
        """All phases with so many objects. The tools take turns, so that what else the machine does hits all alike."""
        samples: dict[str, dict[str, list[Sample]]] = {phase: {} for phase in PHASES}
        turns, last = range(self.asked.runs), self.asked.runs - 1

        def note(phase: str, name: str, sample: Sample) -> None:
            samples[phase].setdefault(name, []).append(sample)
            say(f"{count}: {phase}: {name}: {sample.seconds:.2f} s  (other work took {sample.others:.0%})")

        if self.asked.brief:
            self._settle(count, last)
        for turn in () if self.asked.brief else turns:
            self.ready(count, turn)
            for whose, tool in self.tools().items():
                note(FIRST, tool, self.run(whose, count, turn))
        for _turn in turns:
            for whose, tool in self.tools().items():
                note(IDLE, tool, self.run(whose, count, last))
            note(IDLE, FLOOR, self.floor(f"ours-{count}-{last}"))
            note(IDLE, FLOOR_NOW, self.floor(f"ours-{count}-{last}", "now"))
            note(IDLE, SERVERS, self.servers(count, f"ours-{count}-{last}", current=False))
            note(IDLE, SERVERS_NOW, self.servers(count, f"ours-{count}-{last}", current=True))
        for _turn in turns:
            self.change(count)
            self.instant(f"ours-{count}-{last}")
            time.sleep(1.1)
            for whose, tool in self.tools().items():
                note(CHANGED, tool, self.run(whose, count, last))
        self.sizes[count] = {
            phase: {name: _median(runs) for name, runs in table.items()} for phase, table in samples.items()
        }


_DRIVER = [sys.executable, str(Path(__file__).parent / "driver.py")]


def _uploads(count: int) -> str:
    return f"uploads-{count}"


def _drain(where: bucket.Bucket, *, versions: bool = False) -> int:
    """Have a bucket listed to its end; returns how many rows that were. Of each answer only what asks for the next one
    is looked at."""
    rows, server = 0, bucket.server(where)
    keys = 5000 if server.startswith("SeaweedFS") and not versions else 1000  # as the mirror asks
    query = {"versions": ""} if versions else {"list-type": "2"}
    query |= {"prefix": "", "max-keys": str(keys), "encoding-type": "url"}
    query |= {"metadata": "true"} if server.startswith("MinIO") else {}
    while True:
        body = where.ask("GET", query=query, attempted="list the bucket").body
        rows += body.count(b"<Key>")
        if b"<IsTruncated>true</IsTruncated>" not in body:
            return rows
        marks = {mark: re.search(b"<%b>([^<]*)<" % name, body) for mark, name in _MARKS.items()}
        query |= {mark: found[1].decode() for mark, found in marks.items() if found}
        if "key-marker" in query:
            query["key-marker"] = unquote(query["key-marker"])


def _many(count: int, what: str = IDLE) -> str:
    return f"{count} keys, {what}"


def _versioned(server: SeaweedFS, name: str) -> None:
    server.client.create_bucket(Bucket=name)
    server.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def _median(runs: Sequence[Sample]) -> Sample:
    """The run of the median time, with the most memory of all."""
    middle = statistics.median_low([run.seconds for run in runs])
    found = next(run for run in runs if run.seconds == middle)
    return dataclasses.replace(found, own_peak=max(run.own_peak for run in runs))


def targets(bench: Bench) -> list[tuple[str, float, float]]:
    """(what, how much, at most)"""
    found = []
    for count, table in bench.sizes.items():
        first, idle = table[FIRST], table[IDLE]
        changed = table[CHANGED]
        ratios = [("first mirror, against rclone sync --metadata", first[OURS], first[RCLONE], 1.0)] if first else []
        ratios += [
            ("nothing to do, against listing what must be listed", idle[OURS], idle[FLOOR], 1.2),
            ("nothing to do, current state, against the same", idle[NOW], idle[FLOOR_NOW], 1.2),
        ]
        if MC in idle:
            ratios += [
                ("nothing to do, against mc mirror", idle[OURS], idle[MC], 1.5),
                ("nothing to do, current state, against mc mirror", idle[NOW], idle[MC], 1.0),
                ("1 % changed, against mc mirror", changed[OURS], changed[MC], 1.5),
                ("1 % changed, current state, against mc mirror", changed[NOW], changed[MC], 1.5),
            ]
        found += [(f"{count}: {what}", ours.seconds / other.seconds, most) for what, ours, other, most in ratios]
    ours = [sample for table in bench.sizes.values() for phase in table.values() for name, sample in phase.items()
            if name in (OURS, NOW)]  # fmt: skip
    peak = max((sample.own_peak for sample in [*ours, *bench.more.values()]), default=0)
    found.append(("peak memory of mirror and prune, MB", peak / 1e6, 200))
    keys = bench.asked.keys
    if keys:
        many, few = bench.more[_many(keys)], bench.more[_many(keys // FEW_KEYS)]
        found.append((f"memory at {keys} keys, against {keys // FEW_KEYS}", many.own_peak / few.own_peak, 1.5))
    return found


def floors(bench: Bench) -> list[tuple[str, float]]:
    """(what, how much of `mc mirror`): below which no mirror gets that lists what it must."""
    return [
        (f"{count}: {what}, against mc mirror", table[IDLE][name].seconds / table[IDLE][MC].seconds)
        for count, table in bench.sizes.items()
        for what, name in (("the servers alone, versions", SERVERS), ("the servers alone, current state", SERVERS_NOW))
        if MC in table[IDLE]
    ]


def forecast(keys: int, few: Sample, many: Sample) -> str:
    """What ten times as many keys would take, if it goes on as from `few` to `many`."""
    more = FEW_KEYS * keys
    times = (more - keys) / (keys - keys // FEW_KEYS)
    memory = many.own_peak + times * max(0, many.own_peak - few.own_peak)
    seconds = many.seconds + times * (many.seconds - few.seconds)
    return f"forecast for {more} keys: {seconds:.0f} s, {memory / 1e6:.0f} MB"


def show(bench: Bench) -> None:
    for count, table in bench.sizes.items():
        print(f"\n{f'{count} objects':<28}" + "".join(f"{phase:>16}" for phase in PHASES)
              + f"{'processor s':>27}{'memory':>12}")  # fmt: skip
        for name in (*TOOLS, FLOOR, FLOOR_NOW, SERVERS, SERVERS_NOW):
            seconds = [table[phase].get(name) for phase in PHASES]
            if any(seconds):
                peak = max(second.own_peak for second in seconds if second) / 1e6
                print(
                    f"{name:<28}"
                    + "".join(f"{second.seconds:>14.2f} s" if second else f"{'':>16}" for second in seconds)
                    + "".join(f"{second.cpu_seconds:>9.2f}" if second else f"{'':>9}" for second in seconds)
                    + f"{peak:>9.0f} MB"
                )
    print()
    for name, sample in bench.more.items():
        print(f"{name:<44}{sample.seconds:>10.2f} s{sample.own_peak / 1e6:>9.0f} MB")
    keys = bench.asked.keys
    if keys:
        print(forecast(keys, bench.more[_many(keys // FEW_KEYS)], bench.more[_many(keys)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--objects", type=int, nargs="*", default=[5_000, 50_000], help="small objects (default: 5000 50000)"
    )
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts (default: 3)")
    parser.add_argument("--source", choices=["seaweedfs", "minio"], default="seaweedfs", help="what the source is")
    parser.add_argument("--brief", action="store_true", help="no first run, and no rclone")
    parser.add_argument("--gigabytes", type=float, default=0.25, help="of large objects (default: 0.25)")
    parser.add_argument(
        "--keys", type=int, default=1_000_000, help="that a generator lists (default: 1000000; 0: none)"
    )
    parser.add_argument("--prune", type=int, default=100_000, help="old versions to prune (default: 100000; 0: none)")
    parser.add_argument("--quiet-wait", type=float, default=30, metavar="SECONDS", help="wait for a busy machine")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench", help="for the results")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-objects-", dir="/var/tmp"))
    try:
        with seaweedfs() as source, seaweedfs() as vault, contextlib.ExitStack() as stack:
            bench = Bench(directory, source, vault, asked)
            if asked.source == "minio":
                edit = minio_tells_tags(source, any_tags=False)
                bench.at = stack.enter_context(faulty(source, edit=edit, calls_itself="MinIO")).url
            for count in asked.objects:
                say(f"making {count} small objects and {asked.gigabytes:g} GB of large ones")
                bench.prepare(count)
                bench.measure(count)
            for count in (asked.keys // FEW_KEYS, asked.keys):
                if count:
                    bench.many(count)
            if asked.prune:
                say(f"making {asked.prune} objects and as many old versions")
                pruned = bench.more[PRUNE] = bench.prune(asked.prune)
                say(f"{asked.prune} old versions: {pruned.seconds:.1f} s, {pruned.own_peak / 1e6:.0f} MB")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    show(bench)
    print()
    found = targets(bench)
    for what, value, limit in found:
        print(f"{'met   ' if value <= limit else 'MISSED'}  {what:<60} {value:8.2f}   wanted at most {limit:g}")
    for what, value in floors(bench):
        print(f"floor   {what:<60} {value:8.2f}")
    asked.output.mkdir(parents=True, exist_ok=True)
    result = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "source": asked.source,
        "runs": asked.runs,
        "gigabytes": asked.gigabytes,
        "keys": asked.keys,
        "prune": asked.prune,
        "targets": [{"what": what, "value": round(value, 3), "at_most": limit} for what, value, limit in found],
        "floors": [{"what": what, "value": round(value, 3)} for what, value in floors(bench)],
        "load": os.getloadavg()[2],
        "samples": {
            f"{count} objects": {
                phase: {name: sample.as_dict() for name, sample in runs.items()} for phase, runs in table.items()
            }
            for count, table in bench.sizes.items()
        },
        "more": {name: sample.as_dict() for name, sample in bench.more.items()},
    }
    path = asked.output / ("objects.json" if asked.source == "seaweedfs" else f"objects-{asked.source}.json")
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
