#!/usr/bin/env python3
"""Ask an index of known weaknesses (PyPI's, through pip-audit) about everything that the locks name: `make audit`.

Each lock passes, fails, or could not be verified, because nobody answered or a package was left out; the worst of them
is the exit status (0, 1, 2). It is not part of make test, as a weakness can become known on any day.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from locks import LOCKS, ROOT, Lock

CODES = {"PASS": 0, "FAIL": 1, "COULD_NOT_VERIFY": 2}


def judged(lock: str, code: int, out: str, err: str) -> tuple[str, list[str]]:
    """The verdict on what pip-audit has said, and the lines to print. It exits with 1 for weaknesses and for errors."""
    try:
        packages = json.loads(out)["dependencies"]
        weak = [
            f"{package['name']} {package['version']}: {weakness['id']}, fixed in "
            + (", ".join(weakness["fix_versions"]) or "no version yet")
            for package in packages
            for weakness in package.get("vulns", [])
        ]
        skipped = [f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package]
    except (ValueError, KeyError, TypeError):
        said = err.strip().splitlines()[-1:] or [f"pip-audit exited {code} and said nothing"]
        return "COULD_NOT_VERIFY", [f"{lock}: no index answered: {said[0][:300]}"]
    if weak:
        return "FAIL", [
            *(f"{lock}: {line}" for line in weak),
            f"Next: name newer versions in the list of {lock}, make lock",
        ]
    if skipped:  # of which pip-audit says "No known vulnerabilities found", and exits with 0
        return "COULD_NOT_VERIFY", [
            f"{lock}: not looked at: {len(skipped)} of {len(packages)} packages; {skipped[0][:300]}"
        ]
    if code or not packages:
        return "COULD_NOT_VERIFY", [f"{lock}: pip-audit exited {code}: {err.strip()[-300:]}"]
    return "PASS", [f"{lock}: {len(packages)} packages, no known weakness"]


def audited(lock: Lock) -> tuple[str, list[str]]:
    argv = (
        Path(sys.prefix, "bin", "pip-audit"), "--requirement", ROOT / lock.path, "--require-hashes", "--disable-pip",
        "--format", "json", "--progress-spinner", "off", "--timeout", "15",
    )  # fmt: skip
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired:
        return "COULD_NOT_VERIFY", [f"{lock.path}: no answer within 900 s"]
    return judged(lock.path, done.returncode, done.stdout, done.stderr)


def main() -> int:
    worst = 0
    for lock in LOCKS:
        verdict, lines = audited(lock)
        print(f"{verdict:<16}  " + f"\n{'':18}".join(lines), flush=True)
        # A weakness weighs more than what was not looked at.
        worst = max(worst, CODES[verdict], key=lambda code: (code == 1, code))
    return worst


if __name__ == "__main__":
    sys.exit(main())
