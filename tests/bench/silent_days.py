#!/usr/bin/env python3
"""44 simulated days in which no backup is taken: how many messages, to whom, the first when.

Prometheus's own promtool says from the rules of monitoring/rules when each alert fires; a real Alertmanager with
monitoring/alertmanager.yml sends the messages, all its times shortened by the same factor. The receivers are stand-ins.

Usage: silent_days.py [--days 44] [--hour 0.1]      seconds that an hour takes
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
HOUR, DAY = 3600, 86400
DEFAULT = Path("/usr/share/prometheus/alertmanager/default.tmpl")
WINDOW = 2  # days that promtool looks at in one query: more would be too many samples for it
STEP = 300  # seconds between two samples: Prometheus looks back no further
# A stack with everything, and the limits that lifeboat_alarms has where the inventory says nothing.
NIGHTLY, PROOF, DRILL, ESCROW, PRUNE = 26 * HOUR, 8 * DAY, 92 * DAY, 100 * DAY, 8 * DAY
COMPONENTS, SCENARIOS = ("database", "objects", "config"), ("database", "object_storage", "backend", "frontend", "site")
DUTIES = {
    **{("backup", name): NIGHTLY for name in COMPONENTS}, **{("copy", name): NIGHTLY for name in COMPONENTS},
    **{("verify_restore", name): PROOF for name in COMPONENTS}, **{("drill", name): DRILL for name in SCENARIOS},
    ("recovery_point", "stack"): NIGHTLY, ("escrow", "stack"): ESCROW, ("prune", "stack"): PRUNE,
}  # fmt: skip
Alert = tuple[float, dict[str, str]]


def program(name: str, package: str, folder: Path) -> str:
    """As it is installed, or out of Debian's package."""
    installed = shutil.which(name) or shutil.which(package)
    if installed:
        return installed
    subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, capture_output=True, timeout=300)
    (deb,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(folder)], check=True, timeout=300)
    return str(next(path for path in (folder / "usr/bin").iterdir() if path.name in (name, package)))


def fired(promtool: str, folder: Path, days: int) -> list[Alert]:
    """When each alert begins to fire, in seconds, as promtool says."""
    steps = days * DAY // STEP
    series = {
        'lifeboat_metrics_timestamp_seconds{stack="shop"}': f"0+{STEP}x{steps}",
        'lifeboat_expected_stack{stack="shop"}': f"1x{steps}",
        'lifeboat_duty_last_success_timestamp_seconds{stack="shop",duty="status",of="stack"}': f"0+{STEP}x{steps}",
        'lifeboat_duty_allowed_age_seconds{stack="shop",duty="status",of="stack"}': f"21600x{steps}",
    }
    for (duty, of), age in DUTIES.items():
        labels = f'{{stack="shop",duty="{duty}",of="{of}"}}'
        series[f"lifeboat_duty_last_success_timestamp_seconds{labels}"] = f"0x{steps}"
        series[f"lifeboat_duty_allowed_age_seconds{labels}"] = f"{age}x{steps}"
    asked = f'min_over_time(timestamp(ALERTS{{alertstate="firing"}})[{WINDOW}d:{STEP}s])'
    test = {
        "rule_files": [str(ROOT / "monitoring/rules/lifeboat.yml")], "evaluation_interval": f"{STEP}s",
        "tests": [{
            "interval": f"{STEP}s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {"expr": asked, "eval_time": f"{day}d", "exp_samples": []} for day in range(WINDOW, days + 1, WINDOW)
            ],
        }],
    }  # fmt: skip
    (folder / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", str(folder / "test.yml")], capture_output=True, text=True, check=False, timeout=7200
    )
    found: dict[str, float] = {}
    for labels, at in re.findall(r"\{([^{}]*)\} ([0-9.E+]+)", done.stdout + done.stderr):
        if "alertname=" in labels:
            found[labels] = min(found.get(labels, float(at)), float(at))
    if not found:
        raise SystemExit(f"silent_days: promtool said nothing of alerts: {done.stdout}{done.stderr}")
    alerts = [(at, dict(re.findall(r'(\w+)="([^"]*)"', labels))) for labels, at in found.items()]
    for _at, named in alerts:
        named.pop("alertstate", None)
    return sorted(alerts, key=lambda alert: alert[0])


def shortened(value: Any, hour: float) -> Any:
    """The configuration with every time shortened."""
    if isinstance(value, dict):
        return {
            key: f"{max(1, round(seconds(one) * hour / HOUR * 1000))}ms"
            if key in ("group_wait", "group_interval", "repeat_interval") else shortened(one, hour)
            for key, one in value.items()
        }  # fmt: skip
    return [shortened(item, hour) for item in value] if isinstance(value, list) else value


def seconds(text: str) -> float:
    return int(text[:-1]) * UNITS[text[-1]]


class Inbox:
    """What arrived: (when, in seconds since the beginning, which way, the body)."""

    def __init__(self) -> None:
        self.got: list[tuple[float, str, Any]] = []
        inbox = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox.got.append((time.monotonic(), self.path.strip("/"), body))
                self.send_response(202 if "pagerduty" in self.path else 200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_words: object) -> None:
                """Nothing: what arrived is counted."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def configured(folder: Path, inbox: Inbox, hour: float) -> Path:
    """monitoring/alertmanager.yml with the stand-ins' addresses, and without what nothing stands in for here."""
    text = (ROOT / "monitoring/alertmanager.yml").read_text(encoding="utf-8")
    config: dict[str, Any] = shortened(yaml.safe_load(text.replace("/etc/prometheus/lifeboat", str(folder))), hour)
    for name in [name for name in config["global"] if name.startswith("smtp_")]:
        del config["global"][name]
    for receiver in config["receivers"]:
        receiver.pop("email_configs", None)
        for pager in receiver.get("pagerduty_configs", ()):
            pager["url"] = f"{inbox.url}/pagerduty"
        receiver.pop("opsgenie_configs", None)
        receiver.pop("msteamsv2_configs", None)
    shutil.copy(ROOT / "monitoring/alertmanager.tmpl", folder)
    for name, content in {
        "slack_url": f"{inbox.url}/slack", "pagerduty_key": "0" * 32, "webhook_url": f"{inbox.url}/webhook",
        "watchdog_url": f"{inbox.url}/watchdog",
    }.items():  # fmt: skip
        (folder / name).write_text(content, encoding="utf-8")
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextmanager
def alertmanager(binary: str, config: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = [binary, f"--config.file={config}", f"--storage.path={config.parent}/data", "--cluster.listen-address=",
            f"--web.listen-address={address}", "--data.retention=1000h", "--log.level=error"]  # fmt: skip
    if not DEFAULT.exists():  # Debian's reads it by this name, and the package is only unpacked
        share = Path(binary).parents[1] / "share"
        over = f'mount -t overlay -o lowerdir={share}:/usr/share overlay /usr/share && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", over, "sh", *argv]
    with subprocess.Popen(argv) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()


def post(url: str, alerts: list[dict[str, Any]]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/v2/alerts", json.dumps(alerts).encode(), headers)  # noqa: S310 - ours
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=44)
    parser.add_argument("--hour", type=float, default=0.1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifeboat-days-") as name:
        folder = Path(name)
        timeline = fired(program("promtool", "promtool", folder), folder, given.days)
        inbox = Inbox()
        binary = program("alertmanager", "prometheus-alertmanager", folder)
        with alertmanager(binary, configured(folder, inbox, given.hour)) as url:
            began = time.monotonic()
            while (now := (time.monotonic() - began) / given.hour * HOUR) < given.days * DAY:
                lasts = {"startsAt": datetime.now(timezone.utc).isoformat(), "endsAt": "2099-01-01T00:00:00Z"}
                post(url, [
                    {"labels": labels, "annotations": {"summary": labels["alertname"]}, **lasts}
                    for at, labels in timeline if at <= now
                ])  # fmt: skip
                time.sleep(given.hour / 10)
        print("| alert | fires after |\n|---|--:|")
        for alert in dict.fromkeys(labels["alertname"] for _at, labels in timeline):
            print(f"| {alert} | {min(at for at, labels in timeline if labels['alertname'] == alert) / HOUR:.1f} h |")
        print("\n| way | messages | the first after | the longest silence after it |\n|---|--:|--:|--:|")
        for way in sorted({way for _at, way, _body in inbox.got}):
            times = [(at - began) / given.hour for at, one, _body in inbox.got if one == way]
            gaps = [after - before for before, after in zip(times, [*times[1:], given.days * 24])]
            print(f"| {way} | {len(times)} | {times[0]:.1f} h | {max(gaps):.1f} h |")


if __name__ == "__main__":
    sys.exit(main())
