#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What watching costs: a scrape of one stack's host, and the rules of many stacks, by Prometheus's own figures.

Each stack has what `lifeboat metrics --ask` says of a repository with all three kinds of backups; half of them are
overdue in everything, so that their alerts fire. A real node_exporter serves one stack's file; the others' text comes
from this program. Prometheus and node_exporter are those that are installed, or out of Debian's packages.

Usage: many_stacks.py [--stacks 100] [--seconds 60]
Exits 0 also when a target is missed: a speed is a measurement, not a test.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / ".ansible" / "collections"), str(ROOT / "tests" / "unit")]

from ansible_collections.lifeboat.dr.plugins.module_utils.operations import metrics  # noqa: E402
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened  # noqa: E402
from builders import make_config, prove, publish, publish_config, publish_objects  # noqa: E402
from silent_days import program  # noqa: E402

RULES_TARGET, SCRAPE_TARGET = 1.0, 0.05  # seconds
INTERVAL = 2  # seconds between two looks


def said(root: Path, now: datetime) -> str:
    """What a host tells of a stack of which everything was done an hour ago."""
    at = now - timedelta(hours=1)
    database = publish(root, at)
    for made in (database, publish_objects(root, at, of=database), publish_config(root, at)):
        prove(root, made, at=at)
    vault = {"repository_bucket": "copies", "objects_bucket": "objects", "endpoint_url": "http://127.0.0.1:9"}
    one = make_config(root, vault=vault, objects={"bucket": "uploads", "endpoint_url": "http://127.0.0.1:9"}, config={})
    return metrics.textfile(Opened(one), now=now, ask=True)


def of_stack(text: str, name: str, late: bool) -> str:
    """The same of a stack of another name; late: nothing was ever done."""
    lines = text.replace('stack="shop"', f'stack="{name}"').splitlines()
    done = "lifeboat_duty_last_success_timestamp_seconds{"
    return "".join(
        f"{line.rpartition(' ')[0]} 0\n" if late and line.startswith(done) else f"{line}\n" for line in lines
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(texts: dict[str, str]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = texts[self.path.strip("/")].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


@contextmanager
def running(words: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as sink, subprocess.Popen(words, stdout=sink, stderr=sink) as process:
        try:
            for _ in range(150):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.2)
            else:
                raise SystemExit(f"many_stacks: {words[0]} does not listen: {log.read_text(errors='replace')[-2000:]}")
            yield
        finally:
            process.terminate()


def ask(port: int, query: str) -> list[tuple[dict[str, str], float]]:
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        found = json.load(answer)["data"]["result"]
    return [(one["metric"], float(one["value"][1])) for one in found]


def configure(folder: Path, names: list[str], served: int, exporter: int, own: int) -> Path:
    stacks = [
        {"record": "lifeboat_expected_stack", "expr": "vector(1)", "labels": {"stack": name}}
        for name in ["shop", *names]
    ]
    (folder / "stacks.yml").write_text(yaml.safe_dump({"groups": [{"name": "stacks", "rules": stacks}]}))
    rules = (ROOT / "monitoring/rules/lifeboat.yml").read_text(encoding="utf-8")
    lines = [line for line in rules.splitlines() if not line.startswith("        for: ")]  # so that they fire at once
    (folder / "lifeboat.yml").write_text("\n".join(lines) + "\n")
    jobs = [{"job_name": "lifeboat_shop", "params": {"collect[]": ["textfile"]},
             "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}]},
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{own}"]}]}]  # fmt: skip
    jobs += [
        {
            "job_name": f"lifeboat_{name}",
            "metrics_path": f"/{name}",
            "static_configs": [{"targets": [f"127.0.0.1:{served}"]}],
        }
        for name in names
    ]
    every = {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"}
    files = [str(folder / "lifeboat.yml"), str(folder / "stacks.yml")]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"global": every, "rule_files": files, "scrape_configs": jobs}))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--stacks", type=int, default=100, help="how many stacks there are (default: 100)")
    parser.add_argument("--seconds", type=float, default=60, help="how long it is looked at (default: 60)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as made, ExitStack() as at_the_end:
        folder, now = Path(made), datetime.now(tz=timezone.utc)
        prometheus = program("prometheus", "prometheus", folder)
        node = program("node_exporter", "prometheus-node-exporter", folder)
        for name in ("stack", "textfile", "data"):
            (folder / name).mkdir()
        text = said(folder / "stack", now)
        (folder / "textfile" / "lifeboat_shop.prom").write_text(text)
        names = [f"s{number:04d}" for number in range(1, given.stacks)]
        texts = {name: of_stack(text, name, number % 2 == 0) for number, name in enumerate(names)}
        served, exporter, own = at_the_end.enter_context(serving(texts)), free_port(), free_port()
        words = [
            node,
            f"--web.listen-address=127.0.0.1:{exporter}",
            f"--collector.textfile.directory={folder}/textfile",
        ]
        at_the_end.enter_context(running(words, exporter, folder / "node.log"))
        config = configure(folder, names, served, exporter, own)
        words = [prometheus, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{own}",
                 f"--storage.tsdb.path={folder}/data"]  # fmt: skip
        at_the_end.enter_context(running(words, own, folder / "prometheus.log"))
        rules: list[float] = []
        scrapes: list[float] = []
        deadline = time.monotonic() + given.seconds
        while time.monotonic() < deadline:
            time.sleep(INTERVAL)
            took = ask(own, "sum(prometheus_rule_group_last_duration_seconds)")
            scraped = ask(own, 'scrape_duration_seconds{job="lifeboat_shop"}')
            if took and scraped and len(ask(own, "lifeboat_metrics_timestamp_seconds")) == given.stacks:
                rules.append(took[0][1])
                scrapes.append(scraped[0][1])
        fires = ask(own, 'count(ALERTS{alertstate="firing"})')
        if not rules or not fires:
            raise SystemExit(f"many_stacks: Prometheus has not seen all stacks within {given.seconds:.0f} s")
        samples = int(ask(own, 'scrape_samples_scraped{job="lifeboat_shop"}')[0][1])
    print(
        f"{given.stacks} stacks, {samples} samples of each host, {fires[0][1]:.0f} alerts that fire, {len(rules)} looks"
    )
    for what, found, target in (("all rules", rules, RULES_TARGET), ("a scrape", scrapes, SCRAPE_TARGET)):
        middle, most = statistics.median(found), max(found)
        word = "met" if most <= target else "MISSED"
        print(
            f"{what}: median {1000 * middle:.1f} ms, most {1000 * most:.1f} ms, target {1000 * target:.0f} ms: {word}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
