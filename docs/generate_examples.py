#!/usr/bin/env python3
"""Write the examples and the pictures of the docs, from records and from pages that are tested.

docs/example/: the faces of drill-site.json, a real record, and the history and the fleet page of stacks.json, whose
figures are invented. docs/*.svg: what a terminal shows, from the blocks of a page that a test types (tests/testinfra).
`--check` fails where a file is not what it would be; --record <JSON> takes the record of a newer drill.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from plugins.module_utils.evidence import schema  # noqa: E402
from plugins.module_utils.reports import fleet, site  # noqa: E402

DOCS = ROOT / "docs"
EXAMPLE = DOCS / "example"
NOW = datetime(2026, 12, 1, 9, 0, tzinfo=timezone.utc)
# The page whose blocks are the picture of a recovery, and the commands of them that are in it.
PAGE, SHOWN = "first-steps.md", "lifeboat.dr.recover_database"
NAMES = {"recovery": "{}", "drill": "drill_{}", "verification": "verification"}  # how ids begin
LETTER, ROW, EDGE, BAR = 7.83, 18, 18, 34


def record() -> schema.Record:
    body = json.loads((EXAMPLE / "drill-site.json").read_text(encoding="utf-8"))
    found, problem = schema.read(body)
    if not found:
        raise SystemExit(f"docs/example/drill-site.json: {problem}")
    return found


def stacks() -> list[dict[str, Any]]:
    """Answers of hosts, as lifeboat.dr.report collects them, each with the records that its recoveries left."""
    base, answers = record(), []
    for told in json.loads((EXAMPLE / "stacks.json").read_text(encoding="utf-8")):
        recovered = [recovery(base, told, one) for one in told.pop("recoveries", [])]
        kept = [{"id": body["id"], "record": body, "signature": "signed by auditor"} for body in recovered]
        answers.append({**told, "records": kept})
    return answers


def recovery(base: schema.Record, told: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """A record of the same shape as the real one, that ended so many days before NOW."""
    end = NOW - timedelta(days=one["days"])
    start = end - timedelta(seconds=one["seconds"])
    part = timedelta(seconds=one["seconds"] / len(base.phases))
    phases = [
        replace(phase, started_at=start + number * part, finished_at=start + (number + 1) * part)
        for number, phase in enumerate(base.phases)
    ]
    taken = f"{end:%Y-%m-%d}T02:00:00.000Z"
    parts = [schema.Verified(f"{of}_backup_{end:%Y%m%d}_020000", "PASS", taken, 0) for of in one.get("of", [])]
    made = replace(
        base, id=f"{NAMES[one['kind']].format(one['scenario'])}_{end:%Y%m%d_%H%M%S}",
        kind=one["kind"], scenario=one["scenario"], stack=told["stack"], host=told["host"], operator=one["operator"],
        verdict=one["verdict"], recorded_at=end, started_at=start, finished_at=end, seconds=one["seconds"],
        target_seconds=one["target"], phases=tuple(phases), drill=base.drill if one["kind"] == "drill" else None,
        verification=schema.Verification(parts[0].id, "restore", tuple(parts)) if parts else None,
    )  # fmt: skip
    body = schema.plain(made)
    return {**body, "seal": schema.seal(body)}


def blocks(page: Path) -> Iterator[str]:
    yield from re.findall(r"^```\n(\$ .*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def wrapped(text: str, columns: int) -> list[str]:
    """The rows of a terminal: what is longer goes on below, under its words."""
    rows = []
    for line in text.splitlines():
        below = "  " if line.startswith("$ ") else re.sub(r"(shop1 \|)?( *).*", r"\1\2  ", line)
        rest = line
        while len(rest) > columns:
            cut = rest.rfind(" ", len(below) + 1, columns)
            rows.append(rest[:cut])
            rest = below.replace("shop1 |", "       ") + rest[cut + 1 :]
        rows.append(rest)
    return rows


STYLE = """
.back{fill:#ffffff;stroke:#d4d9df}.bar{fill:#f4f6f8}.dot{fill:#d4d9df}
text{font:13px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#1a1d21;white-space:pre}
.typed{font-weight:700}.soft{fill:#525a65}.PASS{fill:#0a6638;font-weight:700}.FAIL{fill:#ad1f17;font-weight:700}
.COULD{fill:#7d5000;font-weight:700}
@media (prefers-color-scheme:dark){.back{fill:#121417;stroke:#363c45}.bar{fill:#1c2025}.dot{fill:#363c45}
text{fill:#e8eaed}.soft{fill:#a9b0ba}.PASS{fill:#62d394}.FAIL{fill:#ff8f86}.COULD{fill:#efb94f}}
"""


def terminal(title: str, text: str, columns: int = 118) -> str:
    """A picture of a terminal, in the reader's own colours. Each row has its width, whatever the font is."""
    rows = wrapped(text, columns)
    wide, high = round(columns * LETTER + 2 * EDGE), BAR + 2 * EDGE + ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {wide} {high}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="back" x=".5" y=".5" width="{wide - 1}" height="{high - 1}" rx="8"/>',
        f'<path class="bar" d="M1 {BAR}V9a8 8 0 0 1 8-8H{wide - 9}a8 8 0 0 1 8 8V{BAR}z"/>',
        *(f'<circle class="dot" cx="{EDGE + 18 * number}" cy="17" r="5"/>' for number in range(3)),
    ]
    parts += [drawn(row, BAR + EDGE + ROW * number + 13) for number, row in enumerate(rows) if row.strip()]
    return "\n".join([*parts, "</svg>", ""])


def drawn(row: str, y: int) -> str:
    indent = len(row) - len(row.lstrip())
    body = row.strip()
    width = f'textLength="{len(body) * LETTER:.1f}" lengthAdjust="spacingAndGlyphs"'
    kind = ' class="typed"' if row.startswith("$ ") else ' class="soft"' if body == "…" else ""
    words = re.sub(r"\b(PASS|FAIL|COULD)( NOT VERIFY)?\b", r'<tspan class="\1">\1\2</tspan>', escape(body, quote=False))
    return f'<text x="{EDGE + indent * LETTER:.1f}" y="{y}" {width}{kind}>{words}</text>'


def everything() -> dict[Path, str]:
    answers = stacks()
    _, files = site.site(answers, NOW, fleet=True)
    table = "\n".join(fleet.text(fleet.judge(answers)))
    recovered = "\n".join(block for block in blocks(DOCS / PAGE) if SHOWN in block.partition("\n")[0])
    pages = {"history.html": files["index.html"].decode(), "fleet.html": files["fleet.html"].decode()}
    # Of these records there are no pages here: a link would lead nowhere.
    linked = re.compile(r'<a href="[^"]*/[^"]*">([^<]*)</a>')
    pages = {name: linked.sub(r"<strong>\1</strong>", text) for name, text in pages.items()}
    pages = {name: text.replace('href="index.html"', 'href="history.html"') for name, text in pages.items()}
    shown = f"$ ansible-playbook -i inventories/mine lifeboat.dr.status\n{table}"
    return {
        EXAMPLE / "drill-site-page.html": site.face("html", record()),
        EXAMPLE / "drill-site.md": site.face("markdown", record()),
        **{EXAMPLE / name: text for name, text in pages.items()},
        DOCS / "recovery.svg": terminal("A table was dropped: the plan of its recovery, and the recovery", recovered),
        DOCS / "fleet.svg": terminal("All stacks in one table, worst first", shown, 128),
    }


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", type=Path, help="a drill's record, to be docs/example/drill-site.json")
    given = parser.parse_args(words)
    if given.record:
        (EXAMPLE / "drill-site.json").write_bytes(given.record.read_bytes())
    found = everything()
    wrong = [path for path, text in found.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in wrong:
        if given.check:
            print(f"{path.relative_to(ROOT)} is not what it would be today: run make docs", file=sys.stderr)
        else:
            path.write_text(found[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if wrong and given.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
