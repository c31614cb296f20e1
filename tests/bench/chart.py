# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draw the results as a small SVG: bars, nothing to install, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, LEFT, ROW = 820, 345, 26  # LEFT: room for the longest label
STYLE = """
 text { font: 13px system-ui, sans-serif; fill: #1f2328 }
 .head { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
 .seed { fill: #8c959f } .ours { fill: #0969da } .floor { fill: #d0d7de }
 @media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 }
  .seed { fill: #6e7681 } .ours { fill: #4493f8 } .floor { fill: #3d444d }
 }
"""


def svg(found: dict[str, Any]) -> str:
    """`found`: what bench.py writes to results.json."""
    seconds = found["median_seconds"]
    sizes = {name: max(sample.get("size", 0) for sample in samples) / 1e6 for name, samples in found["samples"].items()}
    backups = [name for name in seconds if sizes[name] or name.startswith("floor")]
    restores = [name for name in seconds if "restore" in name or "psql" in name]
    restores = [name for name in restores if "verify" not in name]
    panels = [
        ("Backup, seconds", backups, {name: seconds[name] for name in backups}, "s"),
        ("Backup, size in MB", [backup for backup in backups if sizes[backup]], sizes, "MB"),
        ("Restore, seconds", restores, {name: seconds[name] for name in restores}, "s"),
    ]
    body: list[str] = []
    y = 24
    for title, names, values, unit in panels:
        body.append(f'<text class="head" x="12" y="{y}">{title}</text>')
        body += _bars(names, values, unit, y + 12)
        y += 12 + ROW * len(names) + 26
    cpu = found["machine"]
    note = (
        f"{found['database']['bytes'] / 1e9:.1f} GB, PostgreSQL {found['versions']['postgresql'].split()[0]},"
        f" {cpu['processors']} processors ({cpu['processor']}), {found['date'][:10]}; medians"
    )
    body.append(f'<text class="small" x="12" y="{y}">{escape(note)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 14}" width="{WIDTH}" role="img">\n'
        f"<title>Lifeboat against the seed's script</title>\n<style>{STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _bars(names: Sequence[str], values: dict[str, float], unit: str, top: int) -> list[str]:
    longest = max(values[name] for name in names)
    drawn = []
    for number, name in enumerate(names):
        y = top + ROW * number
        kind = "seed" if name.startswith("seed") else "ours" if name.startswith("lifeboat") else "floor"
        width = max(1.0, (WIDTH - LEFT - 90) * values[name] / longest)
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        drawn.append(f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="16" rx="2"/>')
        drawn.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 15}">{values[name]:.1f} {unit}</text>')
    return drawn
