# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a walk-through of CONTRIBUTING.md does to a copy of this tree: `python tests/walkthroughs/add_check.py COPY`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable


def insert(path: Path, before: str, text: str) -> None:
    """Put `text` in front of the one place that reads `before`."""
    body = path.read_text(encoding="utf-8")
    if body.count(before) != 1:
        raise ValueError(f"{path}: {before!r} is there {body.count(before)} times")
    path.write_text(body.replace(before, text + before), encoding="utf-8")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run(add: Callable[[Path], None]) -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} COPY-OF-THE-TREE")
    add(Path(sys.argv[1]))
