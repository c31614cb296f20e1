# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CONTRIBUTING's walk-through "add an S3 server", as a script: what it changes in a tree, file by file.

The server is an invented one: SeaweedFS under another name, which keeps no tags and says so in words of its own.
Usage: walk_s3_server.py COPY, the root of a copy of this repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

SERVERS = "tests/integration/s3_servers.py"
CLIENT = "plugins/module_utils/s3/client.py"
FRAGMENT = "changelogs/fragments/99-garage.yml"

# file: what stands there, and what takes its place; where nothing stands, the text goes to the file's end.
STEPS: dict[str, list[tuple[str, str]]] = {
    # How it is started, when it answers, and what the probe must find missing. Each test that takes `server` is then
    # run on it too.
    "tests/integration/s3_servers.py": [
        (
            "# What every S3 endpoint is promised",
            '''class Garage(SeaweedFS):
    """The invented one. A real one has a command() and a ready() of its own."""

    kind = "Garage"
    lacks = frozenset({"tagging"})


# What every S3 endpoint is promised''',
        ),
        ('    "gateway": JuiceFS,\n', '    "gateway": JuiceFS,\n    "garage": Garage,\n'),
    ],
    # The pinned package that brings its binary.
    "requirements.txt": [("", "garage-bin==1.0.0\n")],
    # Its words for "I have no such thing".
    "plugins/module_utils/s3/client.py": [("UNSUPPORTED = (", 'UNSUPPORTED = ("FeatureNotOffered", ')],
    # What it has, as measured.
    "docs/vault.md": [("Measured: ", "Measured: Garage 1.0.0 lacks tagging; ")],
    "changelogs/fragments/garage.yml": [
        ("", '---\nminor_changes:\n  - "objects - Garage is one of the S3 servers that are tested."\n')
    ],
}


def walk(root: Path) -> None:
    for name, changes in STEPS.items():
        path = root / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for before, after in changes:
            if before and text.count(before) != 1:
                raise SystemExit(f"{name} has {text.count(before)} times {before!r}")
            text = text.replace(before, after) if before else text + after
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    walk(Path(sys.argv[1]))
