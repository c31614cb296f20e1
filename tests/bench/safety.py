#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure what signing, encrypting and pulling cost, side by side with the same without: ratios of processor seconds.

Of a backup (rows are compressed, perhaps encrypted, hashed, and published, perhaps signed), of reading one back (its
bytes are compared, perhaps decrypted, and decompressed), of a keeper's pull against a plain copy, of a mirror with its
listing encrypted, and of a list of many signed documents. No PostgreSQL runs. What it works is the same with and
without, so a whole backup's ratio is nearer to 1 than these. Each figure is the median of some rounds that take turns.

The sizes are small; --megabytes, --documents and --objects change them, and 0 leaves a part out. The real age has to be
installed. Exits 0 also when a target is missed: a speed is a measurement, not a test.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / ".ansible" / "collections"), str(ROOT / "tests" / "integration")]

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import receive  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, manifest, repositories  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDump, DumpDetails  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as settings_config  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age  # noqa: E402
from s3_servers import SeaweedFS, seaweedfs  # noqa: E402

OFF, ON = False, True
TARGET, LIST_TARGET = 1.1, 1.5
DAY = timedelta(days=1)


def cpu() -> float:
    """Processor seconds of this process and of those that it waited for."""
    found = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in found)


def seconds(work: Callable[[], object]) -> float:
    before = cpu()
    work()
    return cpu() - before


class Bench:
    def __init__(self, root: Path, asked: argparse.Namespace) -> None:
        self.root, self.asked = root, asked
        self.identity = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
        self.recipient = age.recipients_of(self.identity)[0]
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "key")], check=True)
        self.nights = 0
        numbers = random.Random(14)  # noqa: S311 - rows, the same each time
        line = "".join(f"{number}\t{numbers.random()}\tcustomer {number % 97}\n" for number in range(20_000)).encode()
        self.rows = (line * (asked.megabytes * 1_000_000 // len(line) + 1))[: asked.megabytes * 1_000_000]

    def config(self, name: str, *, safe: bool, **more: Any) -> Config:
        """safe: it signs and encrypts, and believes its own key only."""
        path = self.root / name / "repository"
        path.mkdir(parents=True, exist_ok=True)
        given: dict[str, Any] = {
            "stack": "shop", "runtime": {"type": "host"}, "repository": {"type": "local", "path": str(path)},
            "state_directory": str(self.root / name / "state"), **more,
        }  # fmt: skip
        if safe:
            given["signing_key"] = str(self.root / "key")
            given["signers"] = [{"name": "host", "key": (self.root / "key.pub").read_text()}]
            given.setdefault("encryption", {"recipients": [self.recipient]})
        return settings_config.from_mapping(given)

    def made(self, artefacts: tuple[Artefact, ...], details: Mapping[str, object]) -> Manifest:
        """The manifest of the next night."""
        self.nights += 1
        at = datetime.now(timezone.utc).replace(microsecond=0) - 20_000 * DAY / 24 + self.nights * DAY / 24
        of = DumpDetails("custom", 170000, "postgres", "", True, databases=(DatabaseDump("shop", 0),))
        whole = {**typed.plain(of), **details}
        return Manifest(manifest.backup_id("database", at), "database", "shop", at, at, artefacts, {}, whole)

    def back_up(self, config: Config) -> Manifest:
        run, seal = Opened(config), age.sealing(config, print)
        name = seal.named("database.dump.gz")
        path = self.root / "dump"
        with path.open("wb") as file:
            seal.write(gzip.compress(self.rows, 1), file, subject=name)
        data = path.read_bytes()
        listed = (Artefact(name, len(data), hashlib.sha256(data).hexdigest()),)
        made = self.made(listed, {"recipients": list(seal.recipients), "host_key": seal.host})
        with repositories.repository_of(run).stage("database", made.id) as staging:
            (staging.path / name).write_bytes(data)
            return repositories.publish(run, made, staging.publish)

    def read_back(self, config: Config, made: Manifest) -> None:
        (artefact,) = made.artefacts
        found = catalog.entries(repositories.repository_of(Opened(config)), "database", "shop")
        (entry,) = [item for item in found if item.id == made.id]
        assert entry.good or not entry.problem, entry.problem
        path = Path(config.backup_directory) / "postgresql" / made.id / artefact.name
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == artefact.sha256
        if artefact.name.endswith(".age"):
            words = ["age", "--decrypt", "--identity", "-", str(path)]
            data = subprocess.run(words, input=self.identity.encode(), capture_output=True, check=True).stdout
        assert len(gzip.decompress(data)) == len(self.rows)

    def backups(self) -> dict[str, dict[bool, float]]:
        """A backup and what reads it, off and on by turns."""
        configs = {on: self.config(f"backup-{on}", safe=on) for on in (OFF, ON)}
        took: dict[str, dict[bool, list[float]]] = {name: {OFF: [], ON: []} for name in ("backup", "restore")}
        for _round in range(self.asked.rounds):
            for on, config in configs.items():
                started = cpu()
                made = self.back_up(config)
                took["backup"][on].append(cpu() - started)
                started = cpu()
                self.read_back(config, made)
                took["restore"][on].append(cpu() - started)
        return {name: _medians(those) for name, those in took.items()}

    def pull(self) -> dict[bool, float]:
        """A keeper takes a night, against a copy of the same folder whose bytes are hashed."""
        took: dict[bool, list[float]] = {OFF: [], ON: []}
        plain = self.config("pulled", safe=False)
        source = Path(plain.backup_directory)
        keeper = {"directory": str(self.root / "kept"), "source": {"mounted": str(source)}, "quota": "100G"}
        (self.root / "kept").mkdir()
        config = self.config("keeper", safe=False, keeper=keeper)
        for number in range(self.asked.rounds):
            made = self.back_up(plain)
            folder = source / "postgresql" / made.id

            def copy(folder: Path = folder, number: int = number) -> None:
                target = self.root / f"copied-{number}"
                shutil.copytree(folder, target)
                for path in target.iterdir():
                    hashlib.sha256(path.read_bytes())

            def pull() -> None:
                with receive.reach(config.keeper) as where:
                    found = receive.pull(Opened(config), where, log=len)
                assert found, "nothing was pulled"

            took[OFF].append(seconds(copy))
            took[ON].append(seconds(pull))
        return _medians(took)

    def listing(self) -> dict[str, float]:
        """A list of many documents: unsigned; signed, by a reader that remembers nothing; and by one that does."""
        took: dict[str, float] = {}
        for on in (OFF, ON):
            config = self.config(f"list-{on}", safe=on, encryption={})
            for _number in range(self.asked.documents):
                run, made = Opened(config), self.made((), {})
                with repositories.repository_of(run).stage("database", made.id) as staging:
                    repositories.publish(run, made, staging.publish)

            def listed(config: Config = config) -> None:
                found = catalog.entries(repositories.repository_of(Opened(config)), "database", "shop")
                assert len(found) == self.asked.documents
                assert not any(item.untrusted for item in found)

            memory = config.state / "signatures.json"
            for name in ("signed, nothing remembered", "signed, remembered") if on else ("unsigned",):
                rounds = []
                for _round in range(self.asked.rounds):
                    if name.endswith("nothing remembered"):
                        memory.unlink(missing_ok=True)
                    rounds.append(seconds(listed))
                took[name] = statistics.median(rounds)
        return took

    def mirror(self, server: SeaweedFS) -> dict[bool, float]:
        """A mirror that finds nothing to do but its listing."""
        took: dict[bool, list[float]] = {OFF: [], ON: []}
        keys = {f"{whose}_access_key": server.access_key for whose in ("objects", "vault")}
        keys |= {f"{whose}_secret_key": server.secret_key for whose in ("objects", "vault")}
        server.client.create_bucket(Bucket="uploads")
        for number in range(self.asked.objects):
            server.client.put_object(Bucket="uploads", Key=f"documents/{number:06}.pdf", Body=os.urandom(2000))
        configs = {}
        for on in (OFF, ON):
            server.client.create_bucket(Bucket=f"mirror-{on}".lower())
            versions = {"Status": "Enabled"}
            server.client.put_bucket_versioning(Bucket=f"mirror-{on}".lower(), VersioningConfiguration=versions)
            objects = {"bucket": "uploads", "endpoint_url": server.url}
            vault = {"objects_bucket": f"mirror-{on}".lower(), "endpoint_url": server.url}
            made = self.config(f"mirror-{on}", safe=on, objects=objects, vault=vault)
            configs[on] = dataclasses.replace(made, secrets=keys)
            take.take(Opened(configs[on]), log=len)
        for _round in range(self.asked.rounds):
            time.sleep(1.1)  # a backup has the second in its name
            for on, config in configs.items():
                took[on].append(seconds(functools.partial(take.take, Opened(config), log=len)))
        return _medians(took)


def _medians(took: Mapping[bool, list[float]]) -> dict[bool, float]:
    return {on: statistics.median(rounds) for on, rounds in took.items()}


def row(name: str, off: float, on: float, target: float) -> dict[str, Any]:
    ratio = on / off if off else 0.0
    print(f"{name:<40} {off:8.3f} s  {on:8.3f} s  {ratio:5.2f}  {'' if ratio <= target else f'more than {target}'}")
    return {"what": name, "off": round(off, 4), "on": round(on, 4), "ratio": round(ratio, 3), "target": target}


def measured(bench: Bench) -> list[dict[str, Any]]:
    asked, found = bench.asked, []
    print(f"{'':<40} {'off':>10}  {'on':>10}  ratio")
    if asked.megabytes:
        for name, those in bench.backups().items():
            found.append(row(f"{name}, signed and encrypted", those[OFF], those[ON], TARGET))
        those = bench.pull()
        found.append(row("a keeper's pull, against a copy", those[OFF], those[ON], TARGET))
    if asked.objects:
        with seaweedfs() as server:
            those = bench.mirror(server)
        found.append(row(f"mirror of {asked.objects} objects, unchanged", those[OFF], those[ON], TARGET))
    if asked.documents:
        took = bench.listing()
        for name in ("signed, nothing remembered", "signed, remembered"):
            found.append(row(f"list of {asked.documents}, {name}", took["unsigned"], took[name], LIST_TARGET))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=32, help="of rows in a backup (default: 32)")
    parser.add_argument("--documents", type=int, default=200, help="in the list (default: 200)")
    parser.add_argument("--objects", type=int, default=200, help="in the mirror (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken (default: 3)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures there as JSON")
    asked = parser.parse_args()
    if not shutil.which("age"):
        sys.exit("age is not installed: apt install age")
    with tempfile.TemporaryDirectory(prefix="lifeboat-bench-") as root:
        found = measured(Bench(Path(root), asked))
    if asked.output:
        body = {"cores": os.cpu_count(), "asked": {**vars(asked), "output": ""}, "rows": found}
        asked.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
