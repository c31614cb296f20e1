# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure what it costs that a store has several buckets: the recovery of five against that of one, as many objects in
all, on SeaweedFS; and the memory of backup and recovery of a thousand against one, on a stand-in that has a thousand.

Medians of three. Exits 0 also when a target is missed: a speed is a measurement, not a test. docs/bench/README.md says
how it is done.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "integration"), str(ROOT / ".ansible" / "collections")]

import many_buckets  # noqa: E402
import measure  # noqa: E402
from measure import Sample  # noqa: E402
from s3_servers import seaweedfs, wipe  # noqa: E402

DRIVER = [sys.executable, str(Path(__file__).parent / "driver.py")]
ENABLED = {"Status": "Enabled"}
FIVE, THOUSAND = 5, 1000
BACKUP, IDLE, RECOVERY = "backup", "backup, nothing to do", "recovery"
_started = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", flush=True)


class Stack:
    """A stack whose store has so many buckets, with so many objects in all."""

    def __init__(self, directory: Path, name: str, count: int, objects: int, source: Any, vault: Any) -> None:
        self.name, self.source, self.vault = name, source, vault
        self.buckets = [f"{name}-{number:04}" for number in range(count)]
        # In a thousand buckets every second one is empty.
        filled = self.buckets if count <= objects // 2 else self.buckets[: objects * 2 : 2]
        self.keys = [(filled[number % len(filled)], f"customers/{number:06}.pdf") for number in range(objects)]
        self.config = directory / name / "config"
        for folder in ("config", "repository"):
            (directory / name / folder).mkdir(parents=True)
        settings = {
            "stack": name, "runtime": {"type": "host"}, "state_directory": str(directory / name / "state"),
            "repository": {"type": "local", "path": str(directory / name / "repository")},
            "objects": {
                "bucket": self.buckets[0], "buckets": [f"{name}-*"], "endpoint_url": source.url,
                "admin": {"api": "elsewhere"},
            },
            "vault": {"objects_bucket": f"vault-{name}", "endpoint_url": vault.url},
        }  # fmt: skip
        keys = {
            "objects_access_key": source.access_key, "objects_secret_key": source.secret_key,
            "vault_access_key": vault.access_key, "vault_secret_key": vault.secret_key,
        }  # fmt: skip
        (self.config / f"{name}.json").write_text(json.dumps(settings), encoding="utf-8")
        (self.config / f"{name}.secrets.json").write_text(json.dumps(keys), encoding="utf-8")

    def prepare(self) -> None:
        places = [f"vault-{self.name}", *(f"vault-{self.name}-{name}" for name in self.buckets[1:])]
        if isinstance(self.source, many_buckets.Store):
            found: dict[str, dict[str, str]] = {name: {} for name in self.buckets}
            for name, key in self.keys:
                found[name][key] = _body(key).decode()
            self.source.fill(found)
            self.vault.fill({name: {} for name in places})
            return
        for store, names in ((self.source, self.buckets), (self.vault, places)):
            _side_by_side(functools.partial(_made, store.client), names)
        _side_by_side(
            lambda item: self.source.client.put_object(Bucket=item[0], Key=item[1], Body=_body(item[1])), self.keys
        )

    def lose(self) -> None:
        if isinstance(self.source, many_buckets.Store):
            self.source.lose()
        else:
            _side_by_side(lambda name: wipe(self.source.client, name), self.buckets)

    def require_whole(self) -> None:
        """What came back is counted, by boto3 where it can."""
        stand_in = isinstance(self.source, many_buckets.Store)
        found = self.source.counts()["objects"] if stand_in else self._counted()
        assert found == len(self.keys), f"{self.name}: {found} of {len(self.keys)} objects came back"

    def _counted(self) -> int:
        return sum(_side_by_side(lambda name: len(list(_listed(self.source.client, name))), self.buckets))

    def run(self, verb: str, quiet_wait: float) -> Sample:
        os.sync()
        measure.wait_for_quiet(quiet_wait)
        sample = measure.run([*DRIVER, verb, str(self.config)], memory=True)
        told = json.loads(sample.output)
        assert not told.get("bad") and not told.get("missing"), told
        return sample


def _made(client: Any, name: str) -> None:
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration=ENABLED)


def _body(key: str) -> bytes:
    return (key.encode() * 400)[: 500 + sum(key.encode()) * 7919 % 8000]


def _listed(client: Any, name: str) -> Iterator[Any]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        yield from page.get("Contents", ())


def _side_by_side(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, items))


def recoveries(stacks: Sequence[Stack], rounds: int, quiet_wait: float) -> dict[str, list[Sample]]:
    """Each stack's recovery of everything, in turn, the first one being another each time."""
    samples: dict[str, list[Sample]] = {stack.name: [] for stack in stacks}
    for number in range(rounds):
        for stack in stacks if number % 2 else reversed(stacks):
            stack.lose()
            samples[stack.name].append(stack.run("recover-objects", quiet_wait))
            stack.require_whole()
            one = samples[stack.name][-1]
            say(f"{stack.name}: recovered in {one.seconds:.2f} s, {one.own_peak / 1e6:.0f} MB")
    return samples


def five(directory: Path, asked: argparse.Namespace) -> dict[str, dict[str, list[Sample]]]:
    """Recovery, by the number of buckets."""
    with seaweedfs() as source, seaweedfs() as vault:
        stacks = [Stack(directory, f"of{count}", count, asked.objects, source, vault) for count in (1, FIVE)]
        for stack in stacks:
            stack.prepare()
            stack.run("mirror", asked.quiet_wait)
        return {RECOVERY: recoveries(stacks, asked.rounds, asked.quiet_wait)}


def thousand(directory: Path, asked: argparse.Namespace) -> dict[str, dict[str, list[Sample]]]:
    """Backup and recovery, by the number of buckets."""
    found: dict[str, dict[str, list[Sample]]] = {BACKUP: {}, IDLE: {}, RECOVERY: {}}
    for count in (1, asked.buckets):
        for number in range(asked.rounds):
            with many_buckets.running(asked.pause) as source, many_buckets.running(asked.pause) as vault:
                stack = Stack(directory / f"{count}-{number}", f"of{count}", count, asked.objects, source, vault)
                stack.prepare()
                for what in (BACKUP, IDLE):
                    source.counts(), vault.counts()
                    sample = stack.run("mirror", asked.quiet_wait)
                    sample.extra["requests"] = source.counts()["requests"] + vault.counts()["requests"]
                    found[what].setdefault(stack.name, []).append(sample)
                stack.lose()
                found[RECOVERY].setdefault(stack.name, []).append(stack.run("recover-objects", asked.quiet_wait))
                stack.require_whole()
            last = [samples[stack.name][-1] for samples in found.values()]
            told = ", ".join(
                f"{what} {one.seconds:.1f} s and {one.own_peak / 1e6:.0f} MB" for what, one in zip(found, last)
            )
            say(f"{count} buckets: {told}; {last[1].extra['requests']} requests with nothing to do")
    return found


def _ratio(table: dict[str, list[Sample]], what: str) -> float:
    few, many = ([getattr(sample, what) for sample in samples] for samples in table.values())
    return statistics.median(many) / statistics.median(few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=500, help="in all buckets together (default: 500)")
    parser.add_argument("--buckets", type=int, default=THOUSAND, help="of the large store (default: 1000; 0: none)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default: 3)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that the stand-in takes for an answer")
    parser.add_argument("--quiet-wait", type=float, default=30, metavar="SECONDS", help="wait for a busy machine")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench", help="for the results")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lifeboat-bench-buckets-", dir="/var/tmp"))
    try:
        samples = {"SeaweedFS": five(directory, asked)}
        targets = [(f"recovery of {FIVE} buckets, against one", _ratio(samples["SeaweedFS"][RECOVERY], "seconds"), 1.2)]
        if asked.buckets:
            samples["stand-in"] = thousand(directory, asked)
            targets += [
                (f"memory of {asked.buckets} buckets, against one: {what}", _ratio(table, "own_peak"), 1.5)
                for what, table in samples["stand-in"].items()
            ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print()
    for what, value, limit in targets:
        print(f"{'met   ' if value <= limit else 'MISSED'}  {what:<64} {value:8.2f}   wanted at most {limit:g}")
    asked.output.mkdir(parents=True, exist_ok=True)
    result = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "objects": asked.objects,
        "targets": [{"what": what, "value": round(value, 3), "at_most": limit} for what, value, limit in targets],
        "samples": {
            server: {
                what: {name: [sample.as_dict() for sample in several] for name, several in table.items()}
                for what, table in tables.items()
            }
            for server, tables in samples.items()
        },
    }
    (asked.output / "buckets.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {asked.output / 'buckets.json'}")


if __name__ == "__main__":
    main()
