# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a method of the database's backups: clone, a copy of the whole server and its log, to any instant of it."""

from __future__ import annotations

from pathlib import Path

from edits import insert, run, write

CODE = '''# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clone method: pg_basebackup's copy of the whole server, and the log that it wrote since."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ...base import pipeline
from ...base.checks import PASS, Check, compared
from ...base.clock import format_time
from ...base.errors import Log
from ...base.typed import plain
from ...repository import catalog, repositories
from ...repository.checksums import measure
from ...repository.details import DatabaseDetails, DatabaseEntry
from ...repository.manifest import Manifest
from ...settings.config import Config
from ...stack.runtime import Opened
from .. import server as database_server
from ..assess import Assessment
from .base import Method, Restoration, Restored, ServerMode, Window

BASE, WAL = "base.tar", "wal.tar"
NAME = "clone"


def take(run: Opened, *, log: Log) -> Manifest:
    config, repo, server = run.config, repositories.repository_of(run), database_server.for_backups(run)
    now = datetime.now(timezone.utc)
    identity = catalog.free_id(repo, "database", now)
    commands = {
        BASE: server.tool("pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=none"),
        WAL: server.tool("pg_receivewal", "--directory=-"),
    }
    with repo.stage("database", identity) as staging:
        for name, command in commands.items():
            with (staging.path / name).open("wb") as raw:
                pipeline.run([command], attempted="copy the server", subject=name, sink=raw, timeout=config.timeout)
        artefacts = tuple(measure(staging.path / name, name) for name in commands)
        entry = DatabaseEntry(server.database, artefacts[0].size)
        details = DatabaseDetails("tar", server.version_num, server.user, "", True, method=NAME, databases=(entry,))
        ended = datetime.now(timezone.utc)
        manifest = Manifest(identity, "database", config.stack, now, ended, artefacts, details=plain(details))
        staging.publish(manifest.to_bytes())
    log(f"{identity}: published")
    return manifest


class Clone(Method):
    name = NAME

    def levels(
        self, config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
    ) -> Iterator[Check]:
        try:
            with tarfile.open(folder / BASE) as archive:
                problems = [] if archive.getnames() is not None else ["it is empty"]
        except tarfile.TarError as exc:
            problems = [str(exc)]
        yield compared("archive", problems, "read to its end")

    def reaches(self, manifest: Manifest, target: Optional[datetime]) -> Window:
        return Window(manifest.taken_at, manifest.finished_at)

    def mode(self, assessment: Assessment) -> ServerMode:
        return "empty"

    def steps(self, source: str, live: str) -> tuple[str, ...]:
        return (f"restore: the whole server from {source}, {live} with it",)

    def restore(self, wanted: Restoration) -> Restored:
        subject, until = wanted.manifest.id, format_time(wanted.until)
        unpack = wanted.server.run_command(["tar", "-xf", "-", "-C", "/tmp"], stdin=True)
        for name in (BASE, WAL):
            with (wanted.folder / name).open("rb") as source:
                pipeline.run([unpack], attempted="restore the server", subject=subject, source=source)
        replay = wanted.server.tool("postgres", f"--recovery_target_time={until}")
        pipeline.run([replay], attempted="replay its log", subject=subject)
        wanted.back()
        return Restored((Check("server", PASS, f"it stands at {until}"),))
'''
SHOWN = """
import sys
from datetime import timedelta
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods import registry
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DatabaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config, publish

said = []

class Server:
    database, user, version_num = "shop", "postgres", 170000
    def tool(self, *words):
        said.append(words)
        writes = "sleep 1; tar -cf - --files-from /dev/null" if "receive" in words[0] else "tar -cf - -T /dev/null"
        return Command(["sh", "-c", "true" if words[0] == "postgres" else writes])
    def run_command(self, words, stdin):
        return Command(words)
    def reap(self):
        return 0

database_server.connect = lambda *_, **__: Server()
root = Path(sys.argv[1])
settings = make_config(root, database={"method": "clone"})
run = Opened(settings)
made = components.COMPONENTS["database"].take(run, False, print)
print("taken by:", made.detailed(DatabaseDetails).method)
print("told:", components.COMPONENTS["database"].summary(made).split("  ")[-1])
print("verified:", verify.verify(run, made.id, "archive", log=print).verdict)
later = publish(root, made.finished_at + timedelta(minutes=1))
between = made.taken_at + (made.finished_at - made.taken_at) / 2
sources = Sources(run, "database", "latest", between, reach=registry.reach)
chosen, _passed = sources.choose("latest", between, lambda entry: "")
(step,) = [step for step in plan._steps(settings, chosen, [], "rebuild", between) if "whole server" in step]
print("planned:", chosen.id == made.id and later.taken_at > between, format_time(between) in step)
done = recovery.restore_database(run, chosen.id, fresh=True, stamp="S", asked=format_time(between), log=print)
print("restored:", [check.name for check in done.checks])
print("replayed until then:", said[-1] == ("postgres", f"--recovery_target_time={format_time(between)}"))
between = later.taken_at + timedelta(seconds=1)
chosen, _passed = Sources(run, "database", "latest", between, reach=registry.reach).choose(
    "latest", between, lambda entry: ""
)
print("after it the dump:", chosen.id == later.id)
"""
EXPECTED = (
    "taken by: clone",
    "told: a copy of the server",
    "verified: PASS",
    "planned: True True",
    "restored: ['checksums', 'server']",
    "replayed until then: True",
    "after it the dump: True",
)
TAKES = """    if run.config.database.method == "clone":
        from ..database.methods import clone

        return clone.take(run, log=log)
"""


def add(root: Path) -> None:
    core = root / "plugins" / "module_utils"
    write(core / "database/methods/clone.py", CODE)
    registry = core / "database/methods/registry.py"
    insert(registry, "\nMETHODS: ", "from .clone import Clone\n")
    insert(registry, ")}\n\n\ndef of", " Clone()")
    insert(core / "operations/components.py", "    from ..database.methods.logical import dump", TAKES)
    insert(core / "settings/config.py", ")  # by which the component takes its backups", ' "clone"')


if __name__ == "__main__":
    run(add)
