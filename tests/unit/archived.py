# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What detect-secrets (PyPI) sees in an archive: another program's judgement of what Lifeboat packed in the clear.

All its detectors are asked but those that know a secret by chance: high entropy is a digest's too, and a public address
is no secret. The detector of keywords says `password` of a reference as well; what it means counts only where its value
is one of the stack's secrets. detect-secrets tells values by their SHA-1.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = Path(sys.executable).with_name("detect-secrets")
_LEFT_OUT = ("Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector")
KEYWORD = "Secret Keyword"


@dataclass
class Seen:
    """files: how many it looked at. tokens: (file, kind) of each. values: the SHA-1 of what stands after a keyword."""

    files: int
    tokens: set[tuple[str, str]] = field(default_factory=set)
    values: set[str] = field(default_factory=set)

    def tells(self, secrets: Iterable[str]) -> list[str]:
        """Which of these it found."""
        return [word for word in secrets if hashlib.sha1(word.encode()).hexdigest() in self.values]  # noqa: S324 - its own


def scanned(archive: bytes, room: Path) -> Seen:
    """Unpack it below `room`, as anybody would, and have all of it looked at."""
    room.mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(room, filter="data", members=[member for member in opened if member.isfile()])
    return looked_at(room)


def looked_at(room: Path) -> Seen:
    """Each file below it. Nothing is asked of an issuer."""
    words = [str(COMMAND), "-C", str(room), "scan", "--all-files", "--no-verify"]
    words += [word for name in _LEFT_OUT for word in ("--disable-plugin", name)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    seen = Seen(sum(path.is_file() for path in room.rglob("*")))
    for name, found in json.loads(done.stdout)["results"].items():
        for secret in found:
            if secret["type"] == KEYWORD:
                seen.values.add(secret["hashed_secret"])
            else:
                seen.tokens.add((name, secret["type"]))
    return seen
