# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headless Chromium by its own protocol over a pipe: nothing but the standard library and Debian's package.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0
# What sticks out of the page to the right.
WIDE = """(() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest("svg"))
  .filter((e) => { const box = e.getBoundingClientRect(); return box.right > innerWidth + 0.5 && box.width > 1; })
  .map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`))()"""


def found() -> Optional[str]:
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Chromium:
    """One page of one browser. `said`: everything it wrote to its console, and every exception of a page."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs_out = os.pipe()
        theirs_in, self._to = os.pipe()
        words = [
            program,
            "--headless=new",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--remote-debugging-pipe",
        ]
        words += ["--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={profile}"]
        words += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses a sandbox to root

        def descriptors() -> None:  # the protocol is spoken on 3 and 4
            high_in, high_out = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(high_in, 3)
            os.dup2(high_out, 4)

        self._from, self._buffer, self._number = ours, b"", 0
        self._process = subprocess.Popen(
            [*words, "about:blank"], close_fds=False, preexec_fn=descriptors,  # noqa: PLW1509 - no thread runs here
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.said: list[str] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, kind: Optional[type], value: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("chromium does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise EOFError("chromium ended")
            self._buffer += data
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        method, given = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded":
            self.said.append(given["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.said.append(json.dumps(given))
        return message

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._message(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path | str, *, width: int, dark: bool) -> None:
        """A file, or a URL."""
        url = page.as_uri() if isinstance(page, Path) else page
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="screen", features=scheme)
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while self.value("document.readyState + location.href") != f"complete{url}":
            if time.monotonic() > deadline:
                raise TimeoutError(url)
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
