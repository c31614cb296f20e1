#!/usr/bin/env python3
"""Nothing that was tested may go untested: compare the tests that are here with those of an earlier commit.

72b9fc2.txt holds the tests of that commit, now.txt those of today (`make ids-write` writes it). Each test that went is
named in replaced.txt, with the tests that replace it. Usage: check.py [--list [CHECKOUT]]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLLECT = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "--collect-only", "-q"]
# What an id has from elsewhere: which interpreters a machine has (all of them are one test), where a class is defined.
UNSTABLE = ((re.compile(r"\[/[^]\s]*/python[0-9.]*\]$"), "[python]"), (re.compile(r"<class '(?:\w+\.)*(\w+)'>"), r"\1"))


def collect(root: Path) -> set[str]:
    """The ids of all suites. Each folder has a process of its own: scenarios have files of the same name."""
    folders = sorted({path.parent for top in ("tests", "molecule") for path in (root / top).rglob("test_*.py")})
    with ThreadPoolExecutor(2) as pool:
        return set().union(*pool.map(lambda folder: _collect(root, folder), folders))


def _collect(root: Path, folder: Path) -> set[str]:
    files = sorted(str(path.relative_to(root)) for path in folder.glob("test_*.py"))
    env = {**os.environ, "LONG": "1"}  # with the cases that `make release` alone has: they may not go either
    done = subprocess.run([*COLLECT, *files], cwd=root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ids: {folder} cannot be collected:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return {_stable(line) for line in done.stdout.splitlines() if "::" in line}


def _stable(test: str) -> str:
    for pattern, text in UNSTABLE:
        test = pattern.sub(text, test)
    return test


def replacements(text: str) -> dict[str, list[str]]:
    """A line that begins at the margin names what went, the indented lines below it what replaces it."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            found[next(reversed(found))].append(line.strip())
        else:
            found[line.strip()] = []
    return found


def problems(before: set[str], now: set[str], replaced: dict[str, list[str]]) -> list[str]:
    """What went without a replacement, and what replaced.txt says that is not so.

    A name is a whole id or its beginning up to `::` or `[`: what follows may then be kept, as when a file was renamed.
    A replacement that ends with `[*]` has other parameters, and at least as many: one for each file, say.
    """
    found, used = [], set()
    for test in sorted(before - now):
        stems = [stem for stem in replaced if test == stem or (test.startswith(stem) and test[len(stem)] in ":[")]
        if not stems:
            found.append(f"went, and replaced.txt does not name it: {test}")
            continue
        stem = max(stems, key=len)
        used.add(stem)
        for new in replaced[stem] or [""]:
            whole = new.endswith("[*]") and _count(now, new[:-3]) >= _count(before, stem)
            if not whole and new not in now and new + test[len(stem) :] not in now:
                found.append(f"went, and its replacement is not there: {test} -> {new or 'none is named'}")
    return found + [f"replaced.txt names what did not go: {stem}" for stem in replaced if stem not in used]


def _count(tests: set[str], name: str) -> int:
    return sum(test.startswith(f"{name}[") for test in tests)


def main() -> int:
    if sys.argv[1:2] == ["--list"]:
        print("\n".join(sorted(collect(Path(*sys.argv[2:3] or [HERE.parents[1]]).resolve()))))
        return 0
    now, listed = collect(HERE.parents[1]), set((HERE / "now.txt").read_text(encoding="utf-8").splitlines())
    replaced = replacements((HERE / "replaced.txt").read_text(encoding="utf-8"))
    found = problems(set((HERE / "72b9fc2.txt").read_text(encoding="utf-8").splitlines()), now, replaced)
    found += [f"not as now.txt says (`make ids-write`): {test}" for test in sorted(now ^ listed)]
    print("\n".join(found) or f"ids: {len(now)} tests; each that went is replaced")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
