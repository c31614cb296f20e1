# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modes of what an image is built from: those that Git has, not those of the checkout, which its umask made.

An image keeps the modes of what is copied into it, and the account of its server is not the one that built it.
"""

from __future__ import annotations

from pathlib import Path


def of_git(path: Path) -> int:
    return 0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644


def normalise(context: Path) -> None:
    for path in (context, *context.rglob("*")):
        if not path.is_symlink():
            path.chmod(of_git(path))
