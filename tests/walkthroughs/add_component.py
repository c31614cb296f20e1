# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a component: letters, a file next to the project that is worth a backup of its own."""

from __future__ import annotations

from pathlib import Path

from edits import insert, run, write

CODE = '''# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Back up the letters of a stack, and read them back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable

from ..base.checks import Check, compared
from ..base.typed import plain
from ..repository import catalog, repositories
from ..repository.base import Repository
from ..repository.checksums import measure
from ..repository.details import LettersDetails
from ..repository.manifest import Manifest
from ..stack.runtime import Opened

FILE = "letters.txt"


def take(run: Opened, *, log: Callable[[str], None]) -> Manifest:
    repo = repositories.repository_of(run)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    identity = catalog.free_id(repo, "letters", now)
    text = Path(run.config.runtime.project_directory, FILE).read_text(encoding="utf-8")
    with repo.stage("letters", identity) as staging:
        (staging.path / FILE).write_text(text, encoding="utf-8")
        artefacts = (measure(staging.path / FILE, FILE),)
        details = plain(LettersDetails(len(text)))
        manifest = Manifest(identity, "letters", run.config.stack, now, now, artefacts, details=details)
        staging.publish(manifest.to_bytes())
    log(f"{identity}: published, {len(text)} letters")
    return manifest


def levels(repo: Repository, manifest: Manifest) -> Iterator[Check]:
    """Archive and restore alike: they are read back and counted."""
    with repo.open("letters", manifest.id, FILE) as file:
        found = len(file.read().decode())
    wanted = manifest.detailed(LettersDetails).letters
    yield compared("letters", [] if found == wanted else [f"{found} instead of {wanted}"], f"{found} letters")
'''
SHOWN = """
import contextlib, io, sys
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup, schedule, status, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, publish
root = Path(sys.argv[1])
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
    cli.main(["backup", "--help"])
print("offered:", "{database,objects,files,dumps,config,letters,base}" in said.getvalue())
run = Opened(make_config(root))
(root / "letters.txt").write_text("abc")
(one,) = backup.take(run, "letters", log=print).manifests
print("verified:", verify.verify(run, one.id, "restore", log=print).verdict)
print("scheduled:", "backup letters" in schedule.required(run.config))
print("\\n".join(f"{check.result} {check.name}" for check in status.status(run, now=one.taken_at).checks))
"""
EXPECTED = ("offered: True", "verified: PASS", "scheduled: True", "PASS newest letters backup", "PASS letters proof")


def add(root: Path) -> None:
    core = root / "plugins" / "module_utils"
    insert(
        core / "repository/details.py", "@dataclass(frozen=True)\nclass Unheld",
        '@dataclass(frozen=True)\nclass LettersDetails:\n    """Of the letters."""\n\n    letters: Count\n\n\n',
    )  # fmt: skip
    kinds = core / "repository/components.py"
    insert(kinds, "    )\n}  # fmt: skip\n\n# What continuous", (
        '        Kind(\n            "letters", "letters", "letters", LettersDetails,\n'
        '            counts={"letters": lambda details: details.letters},\n        ),\n'
    ))  # fmt: skip
    insert(kinds, "    ObjectsDetails,\n", "    LettersDetails,\n")
    write(core / "configuration/letters.py", CODE)
    register(core / "operations/components.py", "from ..repository.components", (
        '    "letters": Component(\n'
        "        lambda run, override, log: letters.take(run, log=log),\n"
        '        lambda manifest: f"{human(manifest.size)} of letters",\n'
        "    ),\n"
    ))  # fmt: skip
    line = '    "letters": lambda proof: letters.levels(proof.repo, proof.manifest),\n'
    register(core / "operations/levels.py", "from ..configuration import proof as", line)


def register(path: Path, before: str, line: str) -> None:
    """Import letters, and end the registry by that line."""
    insert(path, before, "from ..configuration import letters\n")
    text = path.read_text(encoding="utf-8").rstrip()
    if not text.endswith("}"):
        raise ValueError(f"{path}: the registry is not at the end any more")
    path.write_text(f"{text[:-1]}{line}}}\n", encoding="utf-8")


if __name__ == "__main__":
    run(add)
