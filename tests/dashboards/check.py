#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the dashboards against Grafana's own types (grafana.ts): a field that Grafana does not know is an error.

Usage: check.py [DIRECTORY]     (by make lint: of monitoring/dashboards)

The two packages are those of package-lock.json, by the hashes there; none of their scripts runs. Without node and npm
nothing is checked, which is said, and fails in CI.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "dashboards"
LOCK = "package-lock.json"
OPTIONS = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution"]


def packages() -> Path:
    """Fetch what the lock names, where that is not there yet, and return its directory."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = CACHE / "node_modules" / f".{LOCK}"
        if not made.is_file() or made.read_bytes() != (HERE / LOCK).read_bytes():
            shutil.rmtree(CACHE / "node_modules", ignore_errors=True)
            for name in ("package.json", LOCK):
                shutil.copy(HERE / name, CACHE / name)
            argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(argv, cwd=CACHE, check=True, timeout=300, stdout=subprocess.DEVNULL)
            shutil.copy(HERE / LOCK, made)
    return CACHE / "node_modules"


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "monitoring" / "dashboards"
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    if missing:
        print(f"dashboards: NOT CHECKED by Grafana's types: no {' and no '.join(missing)} here", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    boards = sorted(folder.glob("*.json"))
    if not boards:
        print(f"dashboards: there is none in {folder}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="lifeboat-dashboards-") as work:
        (Path(work) / "node_modules").symlink_to(packages())
        shutil.copy(HERE / "grafana.ts", work)
        for board in boards:
            text = board.read_text(encoding="utf-8").rstrip()
            made = f"import type {{ Ours }} from './grafana';\nexport const board: Ours = {text};\n"
            (Path(work) / f"{board.stem}.ts").write_text(made, encoding="utf-8")
        argv = ["node", "node_modules/typescript/bin/tsc", *OPTIONS, "bundler"]
        done = subprocess.run([*argv, *(f"{board.stem}.ts" for board in boards)], cwd=work, check=False, timeout=300)
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
