# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat checklist`: one list on the terminal, and where asked for as Markdown and HTML."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

from ..base.checks import CODES
from ..base.errors import UsageError
from ..base.filesystem import explained
from ..operations import checklist_line
from ..operations.checklist import PERIODS, work_through
from ..settings.config import Config

MOST_AHEAD = 3650


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", choices=PERIODS, default="daily", help="which list (default: daily)")
    parser.add_argument(
        "--ahead-days", type=float, default=0, metavar="DAYS",
        help="look at it as after so many days without a backup too; a line is never better for it",
    )  # fmt: skip
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write it there as well, as Markdown")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it there as well, as one page of HTML")


def ahead_of(days: float) -> timedelta:
    if not 0 <= days <= MOST_AHEAD:
        raise UsageError("look ahead", f"{days} days", f"it must be from 0 to {MOST_AHEAD}")
    return timedelta(days=days)


def checklist(config: Config, given: argparse.Namespace, log: Callable[[str], None]) -> tuple[int, object, list[str]]:
    found = work_through(config, given.period, now=datetime.now(timezone.utc), ahead=ahead_of(given.ahead_days))
    for path, content in ((given.markdown, checklist_line.markdown), (given.html, checklist_line.page)):
        if path is not None:
            with explained("write the checklist", path):
                path.write_text(content(found), encoding="utf-8", errors="backslashreplace")
    return CODES[found.verdict], found.as_dict(), checklist_line.text(found)
