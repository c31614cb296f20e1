# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one module call puts on a host: directories and files, compared first, so that a second run changes nothing."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Optional

OLD_SECRET, NEW_SECRET = "(what it held is not shown)", "(what it holds now is not shown)"


def install(path: Path, content: bytes, mode: int = 0o755) -> None:
    """Whole or not at all: cron may start or read it at any moment."""
    handle, partial = tempfile.mkstemp(prefix=".lifeboat-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(mode)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise


class Placing:
    """Puts things in place, or in check mode says what it would, and keeps the diff of what was different.

    All of it belongs to the user that the module runs as; a directory may be of another group. Raises OSError.
    """

    def __init__(self, check: bool) -> None:
        self.check = check
        self.changed = False
        self.before = ""
        self.after = ""

    def directory(self, path: Path, mode: int = 0o700, group: Optional[int] = None) -> None:
        facts = _facts(path, follow=True)
        if facts is not None and stat.S_ISDIR(facts.st_mode) and _as_asked(facts, mode, group):
            return
        of = "" if group is None else f" of {os.geteuid()}:{group}"
        self._differs(path, "absent" if facts is None else _described(facts), f"directory {mode:04o}{of}")
        if not self.check:
            for missing in reversed([one for one in path.parents if not one.exists()]):
                missing.mkdir(mode=mode, exist_ok=True)
            path.mkdir(mode=mode, exist_ok=True)
            os.chown(path, os.geteuid(), os.getegid() if group is None else group)
            path.chmod(mode)

    def file(self, path: Path, content: bytes, mode: int = 0o600, *, secret: bool = False) -> None:
        facts = _facts(path)
        regular = facts is not None and stat.S_ISREG(facts.st_mode)
        old = path.read_bytes() if regular else b""
        if facts is not None and regular and old == content and _as_asked(facts, mode):
            return
        head = "absent" if facts is None else _described(facts)
        shown = [text.decode("utf-8", "replace").rstrip("\n") for text in (old, content)]
        shown = [OLD_SECRET, NEW_SECRET] if secret else shown
        if old != content:
            head, tail = f"{head}\n{shown[0]}" if regular else head, f"file {mode:04o}\n{shown[1]}"
        else:
            tail = f"file {mode:04o}"
        self._differs(path, head, tail)
        if not self.check:
            install(path, content, mode)

    def absent(self, path: Path) -> None:
        facts = _facts(path)
        if facts is None:
            return
        self._differs(path, _described(facts), "absent")
        if not self.check:
            path.unlink()

    def state(self, subject: str, before: str, after: str) -> None:
        """Note a difference that is in no file, such as whether a unit is started; the caller mends it."""
        self.changed = True
        self.before += f"{subject}: {before}\n"
        self.after += f"{subject}: {after}\n"

    def _differs(self, path: Path, before: str, after: str) -> None:
        self.state(str(path), before, after)


def _facts(path: Path, *, follow: bool = False) -> Optional[os.stat_result]:
    try:
        return path.stat() if follow else path.lstat()
    except FileNotFoundError:
        return None


def _as_asked(facts: os.stat_result, mode: int, group: Optional[int] = None) -> bool:
    owner = (os.geteuid(), os.getegid() if group is None else group)
    return stat.S_IMODE(facts.st_mode) == mode and (facts.st_uid, facts.st_gid) == owner


def _described(facts: os.stat_result) -> str:
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
    kind = next((name for is_one, name in kinds if is_one(facts.st_mode)), "neither file nor directory")
    owner = "" if (facts.st_uid, facts.st_gid) == (os.geteuid(), os.getegid()) else f" of {facts.st_uid}:{facts.st_gid}"
    return f"{kind} {stat.S_IMODE(facts.st_mode):04o}{owner}"
