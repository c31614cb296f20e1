#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passed on what, when, and of what no run is recorded: the tables of docs/tested.md, from tests/compat/ran.json.

Usage: matrix.py                                              write the tables
       matrix.py --check                                      fail where a table is not what ran.json says
       matrix.py --record LOG --commit COMMIT --date DATE     take from a suite's log what passed, then write them

LOG: what tests/molecule.sh, tests/compat/compat.sh or `pytest -s tests/integration/test_majors.py` printed. DATE: when
that run ended, as 2026-12-01. A later run of the same thing takes the place of an earlier one. What failed is not
recorded: the table goes on to say when it last passed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RAN = Path(__file__).resolve().parent / "ran.json"
BEGIN, END = "<!-- By tests/compat/matrix.py, from tests/compat/ran.json. -->\n", "<!-- Until here. -->\n"
LAB = {"host": "Debian 13", "server": "17"}  # tests/lab/images
_SCENARIO = re.compile(r"^==> lane \w+: (\w+) passed in \d+ s$")
_MAJORS = re.compile(r"^(\d+) in (\d+): verify [^;]*PASS[^;]*; recovery [^;]*PASS[^;]*; equal; \d+ s$")
_CORE = re.compile(r"==> compat: (a recovery|unit tests|answers) under ansible \[core (\d+\.\d+)\.\S*\]")
_PART = re.compile(r"==> compat: (\w+) passed in \d+ s")
_PARTS = {"recovery": "a recovery", "unit": "unit tests", "answers": "answers"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Record:
    """Something that passed. what: a scenario of Molecule, or a suite. Empty: it does not depend on that."""

    what: str
    server: str
    host: str
    core: str
    date: str
    commit: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.what, self.server, self.host, self.core)


@dataclass(frozen=True)
class Asked:
    """What people have. axis: server, host or core. why: why it did not run, in English and in Japanese."""

    axis: str
    value: str
    why: str
    why_ja: str


def passed(log: str, *, commit: str, date: str, core: str) -> Iterator[Record]:
    """Yield what the log says passed. core: the ansible-core of that commit's own environment."""
    under: list[tuple[str, str]] = []
    for raw in log.splitlines():
        line = _COLOUR.sub("", raw).strip()
        if (scenario := _SCENARIO.match(line)) and scenario[1] != "hosts":
            yield Record(f"molecule {scenario[1]}", LAB["server"], LAB["host"], core, date, commit)
        elif majors := _MAJORS.match(line):
            yield Record(f"recovery into {majors[2]}", majors[1], "", "", date, commit)
        elif begun := _CORE.search(line):
            under.append((begun[1], begun[2]))
        elif ended := _PART.search(line):
            # All cores of a part have passed when the part has.
            for part, version in under:
                if part == _PARTS.get(ended[1]):
                    of_host = LAB if part == "a recovery" else {"host": "", "server": ""}
                    yield Record(part, of_host["server"], of_host["host"], version, date, commit)


def merged(records: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    latest = {record.key: record for record in records}
    for record in new:
        if record.key not in latest or latest[record.key].date <= record.date:
            latest[record.key] = record
    return sorted(latest.values(), key=lambda record: record.key)


def never(records: Sequence[Record], asked: Sequence[Asked]) -> list[Asked]:
    """Return what was asked for and has not passed anywhere."""
    return [want for want in asked if not any(getattr(record, want.axis) == want.value for record in records)]


WORDS = {
    "en": (
        "| what passed | PostgreSQL | host | ansible-core | last | commit |",
        "| no run is recorded of | why |",
        {"server": "PostgreSQL", "host": "host", "core": "ansible-core"},
    ),
    "ja": (
        "| 合格したもの | PostgreSQL | ホスト | ansible-core | 最後 | コミット |",
        "| 実行の記録がないもの | 理由 |",
        {"server": "PostgreSQL", "host": "ホスト", "core": "ansible-core"},
    ),
}


def tables(records: Sequence[Record], asked: Sequence[Asked], language: str) -> str:
    head, head_never, axes = WORDS[language]
    lines = [head, "|---|---|---|---|---|---|"]
    lines += [f"| {r.what} | {r.server} | {r.host} | {r.core} | {r.date} | `{r.commit}` |" for r in records]
    lines += ["", head_never, "|---|---|"]
    for want in never(records, asked):
        lines.append(f"| {axes[want.axis]} {want.value} | {want.why if language == 'en' else want.why_ja} |")
    return "\n".join(lines) + "\n"


def page(text: str, table: str) -> str:
    """Return the page with its tables replaced. Raises ValueError where their place is not marked."""
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page does not mark where its tables stand")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


PAGES = {"en": ROOT / "docs/tested.md", "ja": ROOT / "docs/ja/tested.md"}


def load() -> tuple[list[Record], list[Asked]]:
    stored: dict[str, Any] = json.loads(RAN.read_text(encoding="utf-8"))
    return [Record(**entry) for entry in stored["ran"]], [Asked(**entry) for entry in stored["asked"]]


def save(records: Sequence[Record], asked: Sequence[Asked]) -> None:
    stored = {"ran": [asdict(record) for record in records], "asked": [asdict(want) for want in asked]}
    RAN.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def core_of(commit: str) -> str:
    """Return the ansible-core of the commit's environment. Raises CalledProcessError where git does not have it."""
    argv = ["git", "show", f"{commit}:requirements.lock"]
    lock = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (version,) = re.findall(r"^ansible-core==(\d+\.\d+)\.", lock, re.MULTILINE)
    return str(version)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", type=Path, metavar="LOG")
    parser.add_argument("--commit")
    parser.add_argument("--date", type=lambda text: datetime.date.fromisoformat(text).isoformat())
    options = parser.parse_args()
    records, asked = load()
    if options.record:
        if not options.commit or not options.date:
            parser.error("--record wants --commit and --date")
        log = options.record.read_text(encoding="utf-8", errors="replace")
        core = core_of(options.commit)
        new = list(passed(log, commit=options.commit[:8], date=options.date, core=core))
        if not new:
            parser.error(f"{options.record} does not say that anything passed")
        records = merged(records, new)
        save(records, asked)
    stale = []
    for language, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        after = page(text, tables(records, asked, language))
        if after != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not options.check:
                path.write_text(after, encoding="utf-8")
    if options.check and stale:
        print(f"{', '.join(stale)}: run python tests/compat/matrix.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
