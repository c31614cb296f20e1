# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a method of the database's backups: physical, a copy of the whole server by pg_basebackup."""

from __future__ import annotations

from pathlib import Path

from edits import insert, run, write

CODE = '''# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The physical method: pg_basebackup's copy of the whole server."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ...base import pipeline
from ...base.checks import PASS, Check, compared
from ...base.errors import Log
from ...base.typed import plain
from ...repository import catalog, repositories
from ...repository.checksums import measure
from ...repository.details import DatabaseDetails, DatabaseEntry
from ...repository.manifest import Manifest
from ...settings.config import Config
from ...stack.runtime import Opened
from .. import server as database_server
from .base import Method, Restoration, Restored

BASE = "base.tar"


class Physical(Method):
    name = "physical"

    def take(self, run: Opened, *, log: Log, override: bool = False) -> Manifest:
        config, repo, server = run.config, repositories.of(run), database_server.for_backups(run)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        identity = catalog.free_id(repo, "database", now)
        copy = server.tool("pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch")
        with repo.stage("database", identity) as staging:
            with (staging.path / BASE).open("wb") as raw:
                pipeline.run([copy], attempted="copy the server", subject=identity, sink=raw, timeout=config.timeout)
            artefact = measure(staging.path / BASE, BASE)
            details = DatabaseDetails(
                DatabaseEntry(server.database, artefact.size), "tar", server.version_num, server.user, "", True,
                method=self.name,
            )  # fmt: skip
            manifest = Manifest(identity, "database", config.stack, now, now, (artefact,), details=plain(details))
            staging.publish(manifest.to_bytes())
        log(f"{identity}: published")
        return manifest

    def levels(
        self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
    ) -> Iterator[Check]:
        try:
            with tarfile.open(folder / BASE) as archive:
                problems = [] if archive.getnames() is not None else ["it is empty"]
        except tarfile.TarError as exc:
            problems = [str(exc)]
        yield compared("archive", problems, "read to its end")

    def reaches(self, manifest: Manifest, wanted: Optional[datetime]) -> datetime:
        return manifest.taken_at

    def steps(self, manifest: Manifest, wanted: Optional[datetime], live: str) -> tuple[str, ...]:
        return (f"restore: the whole server from {manifest.id}, {live} with it",)

    def restore(self, wanted: Restoration) -> Restored:
        unpack = wanted.server.run_command(["tar", "-xf", "-", "-C", "/tmp"], stdin=True)
        with (wanted.folder / BASE).open("rb") as source:
            pipeline.run([unpack], attempted="restore the server", subject=wanted.manifest.id, source=source)
        wanted.back()
        return Restored((Check("server", PASS, "unpacked"),))
'''
SHOWN = """
import sys
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config

class Server:
    database, user, version_num = "shop", "postgres", 170000
    def tool(self, *words):
        return Command(["tar", "-cf", "-", "--files-from", "/dev/null"])
    def run_command(self, words, stdin):
        return Command(words)
    def reap(self):
        return 0

database_server.connect = lambda *_, **__: Server()
root = Path(sys.argv[1])
(root / "backup").mkdir()
run = Opened(make_config(root, database={"method": "physical"}))
made = components.COMPONENTS["database"].take(run, False, print)
print("taken by:", made.detailed(DatabaseDetails).method)
print("verified:", verify.verify(run, made.id, "archive", log=print).verdict)
done = recovery.restore_database(run, made.id, fresh=True, stamp="S", log=print)
print("restored:", [check.name for check in done.checks])
"""
EXPECTED = ("taken by: physical", "verified: PASS", "restored: ['checksums', 'server']")


def add(root: Path) -> None:
    core = root / "plugins" / "module_utils"
    write(core / "database/methods/physical.py", CODE)
    registry = core / "database/methods/registry.py"
    insert(registry, "\nMETHODS: ", "from .physical import Physical\n")
    insert(registry, ")}\n\n\ndef named", " Physical()")
    insert(core / "settings/config.py", ")  # those of database/methods/registry", ' "physical"')


if __name__ == "__main__":
    run(add)
