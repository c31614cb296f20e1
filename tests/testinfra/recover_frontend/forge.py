"""The lab's stand-in for GitHub, as its owner has it: faults, and a look at what is served that asks no API."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from support import Host

SITE = "http://www.shop.test/"
FALLBACK = "http://127.0.0.1:8090/"
_COMMIT = """
set -e
rm -rf /tmp/work; git clone -q /srv/forge/git/acme/shop.git /tmp/work; cd /tmp/work
eval "$0"
git add -A; git -c user.name=Dev -c user.email=dev@localhost commit -q --allow-empty -m "$1"
git push -q origin main; git rev-parse HEAD
"""


@dataclass
class Forge:
    host: Host
    app: Host

    def commit(self, script: str, message: str) -> str:
        """Push what the script makes of a clone; the workflow runs for it."""
        return self.host.run("sh", "-c", _COMMIT, script, message).split()[-1]

    def head(self) -> str:
        return self.host.run("git", "-C", "/srv/forge/git/acme/shop.git", "rev-parse", "main").strip()

    def history(self) -> list[str]:
        return self.host.run("git", "-C", "/srv/forge/git/acme/shop.git", "rev-list", "main").split()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.host.run("cat", "/srv/forge/state.json"))
        return found

    def settled(self, seconds: float = 60) -> dict[str, Any]:
        """The newest run, when it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            newest: dict[str, Any] = self.state()["runs"][0]
            if newest["status"] == "completed" and newest["head_sha"] == self.head():
                return newest
            time.sleep(0.3)
        raise AssertionError("the run did not end")

    def control(self, what: str, **given: Any) -> None:
        """The lab's own faults: control (env_once, remaining, reset, retry_after), pages."""
        body = json.dumps(given or None)
        self.host.run("curl", "--silent", "--fail", "--data", body, f"http://127.0.0.1:8000/_lab/{what}")

    def service(self, verb: str) -> None:
        self.host.run("systemctl", verb, "lifeboat-forge@api")

    def served(self, url: str = SITE) -> str:
        """The commit that a browser on the stack's host would get."""
        status, body = self.app.http("GET", f"{url}version.json")
        return str(body["commit"]) if status == 200 and body else ""

    def well(self) -> str:
        """What every case starts from: the newest commit builds, is deployed and served under the site's own name."""
        self.control("control")
        self.app.run("rm", "-f", "/var/lib/lifeboat/shop/recovered_frontend.json")
        pages = self.state()["pages"] or {}
        if pages.get("cname") != "www.shop.test":
            self.control("pages", status="built", cname="www.shop.test", build_type="workflow")
        if self.served() != self.head():
            first = self.history()[-1]
            self.commit(f"git rm -rq .; git checkout -q {first} -- .; date +%s%N > when", "Mend it")
            assert self.settled()["conclusion"] == "success"
        assert self.served() == self.head()
        return self.head()

    def world(self) -> list[Any]:
        """What a plan leaves the same."""
        files = self.app.run("sh", "-c", "find /srv/fallback /var/lib/lifeboat -type f -exec sha256sum {} + | sort")
        runs = [(run["id"], run["attempt"]) for run in self.state()["runs"]]
        return [self.history(), runs, self.state()["pages"], self.served(), files]
