# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the mirror of a bucket against `rclone sync` and `mc mirror`: first run, nothing to do, one percent changed;
then the mirror's memory at a million keys, which a generator lists, and the pruning of 100,000 old versions.

Two SeaweedFS servers on this machine, each tool with a versioned bucket of its own in the second. Exits 0 also when a
target is missed: a speed is a measurement, not a test. docs/bench/README.md says how it is done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "integration"), str(ROOT / ".ansible" / "collections")]

import many_keys  # noqa: E402
import measure  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.base import throttle, typed  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import checksums, manifest, repositories  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDetails  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket  # noqa: E402
from measure import Sample  # noqa: E402
from s3_servers import SeaweedFS, binary, find_mc, seaweedfs  # noqa: E402

BUCKET = "uploads"
OURS, NOW, RCLONE, MC = "lifeboat, as of an instant", "lifeboat, current state", "rclone sync", "mc mirror"
FLOOR = "floor: both buckets listed"
PHASES = ("first run", "nothing to do", "1 % changed")
MORE, MANY, MANY_FLOOR, PRUNE = "more", "many keys, nothing to do", "many keys, both listed", "old versions pruned"
_started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", flush=True)


class Bench:
    """One run: the servers, the data, and each tool's way to mirror."""

    def __init__(self, directory: Path, source: SeaweedFS, vault: SeaweedFS, asked: argparse.Namespace) -> None:
        self.directory, self.source, self.vault, self.asked = directory, source, vault, asked
        self.samples: dict[str, dict[str, Sample]] = {}

    def prepare(self) -> None:
        """Fill the source as an application would, and make everybody's target."""
        files = self.directory / "files"
        for number in range(self.asked.small):
            path = files / "small" / f"{number % 50:02}" / f"{number:06}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(500 + number * 7919 % 16000))
        (files / "large").mkdir(parents=True)
        for number in range(4):
            with (files / "large" / f"{number}.bin").open("wb") as file:
                for _ in range(max(1, int(self.asked.gigabytes * 1e9 / 4) >> 20)):
                    file.write(os.urandom(1 << 20))
        client = self.source.client
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self._rclone("copy", str(files), f"src:{BUCKET}")
        for name in ("mirror-ours", "mirror-now", "mirror-rclone", "mirror-mc"):
            self.vault.client.create_bucket(Bucket=name)
            self.vault.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for name, timed in (("ours", True), ("now", False)):
            self._configure(name, timed)
        time.sleep(1.1)  # the servers tell time in seconds; the instant comes after the last object's

    def change(self) -> None:
        """Overwrite every hundredth of the small objects."""
        files = self.directory / "changed"
        for number in range(0, self.asked.small, 100):
            path = files / "small" / f"{number % 50:02}" / f"{number:06}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000))
        self._rclone("copy", str(files), f"src:{BUCKET}")
        time.sleep(1.1)

    def _environment(self) -> dict[str, str]:
        made: dict[str, str] = {}
        for name, server in (("SRC", self.source), ("VAULT", self.vault)):
            made |= {
                f"RCLONE_CONFIG_{name}_TYPE": "s3", f"RCLONE_CONFIG_{name}_PROVIDER": "Other",
                f"RCLONE_CONFIG_{name}_ENDPOINT": server.url, f"RCLONE_CONFIG_{name}_REGION": "us-east-1",
                f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": server.access_key,
                f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": server.secret_key,
                f"MC_HOST_{name.lower()}": f"http://{server.access_key}:{server.secret_key}@127.0.0.1:{server.port}",
            }  # fmt: skip
        return made

    def _rclone(self, *words: str) -> None:
        argv = [binary("rclone"), *words, "--transfers=32", "--checkers=32"]
        subprocess.run(argv, env={**os.environ, **self._environment()}, capture_output=True, check=True)

    def _settings(self, name: str) -> dict[str, Any]:
        (self.directory / name / "repository").mkdir(parents=True, exist_ok=True)
        return {
            "stack": name,
            "runtime": {"type": "host"},
            "repository": {"type": "local", "path": str(self.directory / name / "repository")},
            "objects": {"bucket": BUCKET, "endpoint_url": self.source.url, "change_limit": 100},
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
        repo = repositories.from_settings(self._settings(name)["repository"], {})
        identity = manifest.backup_id("database", moment)
        of = DatabaseDetails("shop", "custom", 170000, "postgres", "", role_passwords=True, database_size=0)
        made = manifest.Manifest(identity, "database", name, moment, moment, (), {}, typed.plain(of))
        with repo.stage("database", identity) as staging:
            staging.publish(made.to_bytes())

    def runs(self) -> list[tuple[str, Callable[[], Sample]]]:
        ours = [sys.executable, str(Path(__file__).parent / "driver.py")]
        rclone = [binary("rclone"), "sync", f"src:{BUCKET}", "vault:mirror-rclone", "--fast-list", "--transfers=32",
                  "--checkers=32"]  # fmt: skip
        made = [
            (OURS, lambda: self._run([*ours, "mirror", str(self.directory / "ours" / "config")])),
            (NOW, lambda: self._run([*ours, "mirror", str(self.directory / "now" / "config")])),
            (RCLONE, lambda: self._run(rclone)),
        ]
        if find_mc():
            # In parts, what it sends for an object of another server has a wrong MD5, and it stops at that.
            argv = [find_mc(), "--quiet", "--config-dir", str(self.directory / "mc"), "mirror", "--overwrite",
                    "--disable-multipart",
                    f"src/{BUCKET}", "vault/mirror-mc"]  # fmt: skip
            made.append((MC, lambda: self._run(argv)))
        return made

    def floor(self) -> Sample:
        driver = [sys.executable, str(Path(__file__).parent / "driver.py")]
        return self._run([*driver, "listing", str(self.directory / "ours" / "config")])

    def _run(self, argv: list[str]) -> Sample:
        os.sync()
        measure.wait_for_quiet(self.asked.quiet_wait)
        return measure.run(argv, env=self._environment(), memory=True)

    def many(self, count: int) -> tuple[Sample, Sample]:
        """A mirror with nothing to do, and listing alone, where there are `count` keys."""
        driver = [sys.executable, str(Path(__file__).parent / "driver.py")]
        with many_keys.buckets(count) as url:
            made = self._settings("many")
            for whose in ("objects", "vault"):
                made[whose]["endpoint_url"] = url
            self._configure("many", True, made)
            self._publish_listing("many", count)
            config = str(self.directory / "many" / "config")
            idle, floor = self._run([*driver, "mirror", config]), self._run([*driver, "listing", config])
        done = json.loads(idle.output)
        assert (done["objects"], done["copied"]) == (count, 0), done
        return idle, floor

    def _publish_listing(self, name: str, count: int) -> None:
        moment = datetime.now(timezone.utc)
        identity = manifest.backup_id("objects", moment)
        repo = repositories.from_settings(self._settings(name)["repository"], {})
        with repo.stage("objects", identity) as staging:
            summary = many_keys.publish_listing(staging.path, count)
            artefacts = (checksums.measure(staging.path / listing.NAME, listing.NAME),)
            details = {"objects": summary.objects, "bytes": summary.bytes}
            one = manifest.Manifest(identity, "objects", name, moment, moment, artefacts, {}, details)
            staging.publish(one.to_bytes())

    def prune(self, count: int) -> Sample:
        """`count` objects, each of them replaced once, and a backup that names the live ones."""
        made = self._settings("prune")
        self._configure("prune", False, made)
        where = bucket.Bucket(
            made["vault"]["objects_bucket"], self.vault.url, "", "", self.vault.access_key, self.vault.secret_key
        )
        self.vault.client.create_bucket(Bucket=where.name)
        self.vault.client.put_bucket_versioning(Bucket=where.name, VersioningConfiguration={"Status": "Enabled"})

        def put(number: int) -> None:
            where.requests.call(
                "PUT", where.name, many_keys.key(number), body=b"%d" % number, attempted="put", subject="x"
            )

        for _ in range(2):
            throttle.each(put, iter(range(count)), 16)
            time.sleep(1.1)
        self._publish_listing("prune", count)
        driver = [sys.executable, str(Path(__file__).parent / "driver.py")]
        sample = self._run([*driver, "prune", str(self.directory / "prune" / "config"), "40"])
        assert json.loads(sample.output)["versions"] == count, sample.output
        left = sum(1 for _ in bucket.versions(where))
        assert left == count, f"{left} versions are left, {count} live objects were there"
        return sample

    def measure(self) -> None:
        for phase in PHASES:
            if phase == "1 % changed":
                self.change()
                self.instant("ours")
                time.sleep(1.1)
            table = self.samples.setdefault(phase, {})
            runs = self.runs()
            for name, run in runs:
                table[name] = run()
                say(f"{phase}: {name}: {table[name].seconds:.2f} s  (other work took {table[name].others:.0%})")
            if phase == "nothing to do":
                table[FLOOR] = self.floor()
                say(f"{phase}: {FLOOR}: {table[FLOOR].seconds:.2f} s")


def targets(samples: dict[str, dict[str, Sample]]) -> list[tuple[str, float, float]]:
    """(what, how much, at most)"""
    first, idle = samples["first run"], samples["nothing to do"]
    found = [
        ("first mirror, against rclone sync", first[NOW].seconds / first[RCLONE].seconds, 1.1),
        ("as of an instant, against current state", first[OURS].seconds / first[NOW].seconds, 1.3),
        ("nothing to do, against listing both buckets", idle[OURS].seconds / idle[FLOOR].seconds, 1.5),
    ]
    if MC in idle:
        found.append(("nothing to do, against mc mirror", idle[OURS].seconds / idle[MC].seconds, 1.0))
    ours = (OURS, NOW, MANY, PRUNE)
    peak = max(sample.own_peak for table in samples.values() for name, sample in table.items() if name in ours)
    return [*found, ("peak memory of mirror and prune, MB", peak / 1e6, 200)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=20_000, help="small objects (default: 20000)")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of large objects (default: 1)")
    parser.add_argument(
        "--keys", type=int, default=1_000_000, help="that a generator lists (default: 1000000; 0: none)"
    )
    parser.add_argument("--prune", type=int, default=100_000, help="old versions to prune (default: 100000; 0: none)")
    parser.add_argument("--quiet-wait", type=float, default=30, metavar="SECONDS", help="wait for a busy machine")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench", help="for the results")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-objects-", dir="/var/tmp"))
    try:
        with seaweedfs() as source, seaweedfs() as vault:
            bench = Bench(directory, source, vault, asked)
            say(f"making {asked.small} small objects and {asked.gigabytes:g} GB of large ones")
            bench.prepare()
            bench.measure()
            more = bench.samples.setdefault(MORE, {})
            if asked.keys:
                more[MANY], more[MANY_FLOOR] = bench.many(asked.keys)
                say(f"{asked.keys} keys: {more[MANY].seconds:.1f} s, {more[MANY].own_peak / 1e6:.0f} MB")
            if asked.prune:
                say(f"making {asked.prune} objects and as many old versions")
                more[PRUNE] = bench.prune(asked.prune)
                say(f"{asked.prune} old versions: {more[PRUNE].seconds:.1f} s, {more[PRUNE].own_peak / 1e6:.0f} MB")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{'':<28}" + "".join(f"{phase:>16}" for phase in PHASES) + f"{'memory':>12}")
    for name in (OURS, NOW, RCLONE, MC, FLOOR):
        seconds = [bench.samples[phase].get(name) for phase in PHASES]
        if any(seconds):
            peak = max(second.own_peak for second in seconds if second) / 1e6
            print(f"{name:<28}" + "".join(f"{second.seconds:>14.2f} s" if second else f"{'':>16}" for second in seconds)
                  + f"{peak:>9.0f} MB")  # fmt: skip
    for name, sample in bench.samples[MORE].items():
        print(f"{name:<28}{sample.seconds:>14.2f} s{'':32}{sample.own_peak / 1e6:>9.0f} MB")
    print()
    found = targets(bench.samples)
    for what, value, limit in found:
        print(f"{'met   ' if value <= limit else 'MISSED'}  {what:<48} {value:8.2f}   wanted at most {limit:g}")
    asked.output.mkdir(parents=True, exist_ok=True)
    result = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "small": asked.small,
        "gigabytes": asked.gigabytes,
        "keys": asked.keys,
        "prune": asked.prune,
        "targets": [{"what": what, "value": round(value, 3), "at_most": limit} for what, value, limit in found],
        "samples": {
            phase: {name: sample.as_dict() for name, sample in table.items()} for phase, table in bench.samples.items()
        },
    }
    (asked.output / "objects.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {asked.output / 'objects.json'}")


if __name__ == "__main__":
    main()
