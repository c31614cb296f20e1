# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/servers.md: what each S3 server does, and what the mirror makes of it.

test_conformance.py fills a column for each server and compares it with the page; at the end of a run it is printed.
`SERVERS_PAGE=write pytest tests/objects/test_conformance.py` writes the columns of the servers that ran into the page.
"""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lifeboat.dr.plugins.module_utils.vault import probe, writer

PAGE = Path(__file__).resolve().parents[2] / "docs/servers.md"
BEGIN = "<!-- written by tests/objects/conformance.py -->"
UNSEEN = "–"
FEATURES = {
    "versioning": "keeps versions",
    "times": "lists versions in order, with the times of their writes",
    "etags": "lets no write choose its ETag",
    "dates": "lets no write choose the time that it is listed with",
    "lifecycle": "takes lifecycle rules",
    "object_lock": "holds a lock",
    "tagging": "keeps tags, also of what is uploaded in parts",
    "metadata": "keeps headers and user metadata",
    "multipart": "takes uploads in parts",
    "conditions": "refuses a write on the condition that nothing is there",
}
CLOSED = "closes a bucket to the public"
INSTANT = "mirror: of the instant of the database backup"
PAGES = "mirror: every object, where a page ends in a key with %ff"
CONTROL = "mirror: an object with a control character in its name"
HIDDEN = "mirror: `p/b`, once there is `p`"
AGAIN = "mirror: nothing to do copies nothing"
MIRROR = (INSTANT, PAGES, CONTROL, HIDDEN, AGAIN)
ACTS = {act: f"the writer's key can {act}" for act in (*writer.DESTROYS, *writer.OTHERS)}
assert set(FEATURES) == set(probe.COSTS)
ROWS = (*FEATURES.values(), CLOSED, *MIRROR, *ACTS.values())
COLUMN = "column of docs/servers.md"  # the property of a test that has one: {title: {row: cell}}
STANDIN = "\\*"  # with which the titles of columns end that are not the server itself
SEEN: dict[str, dict[str, str]] = {}  # by server, then by row


def table(columns: dict[str, dict[str, str]]) -> str:
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(column.get(row, UNSEEN) for column in columns.values()) + " |" for row in ROWS]
    return "\n".join(lines) + "\n"


def published() -> dict[str, dict[str, str]]:
    """The columns of the page."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {title: {row[0]: row[number] for row in cells[2:]} for number, title in enumerate(cells[0]) if number}


def write() -> None:
    """Servers first, then the stand-ins."""
    columns = {**published(), **SEEN}
    ordered = sorted(columns, key=lambda title: title.endswith(STANDIN))
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    shown = table({title: columns[title] for title in ordered})
    PAGE.write_text(f"{head}{BEGIN}\n\n{shown}", encoding="utf-8")
