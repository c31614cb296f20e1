# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack whose database backups are encrypted, for an operator and for the host itself."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import make_config, make_manifest, store
from config_world import keys as new_key

NOW = datetime.now(timezone.utc).replace(microsecond=0)


class Lab:
    """A stack with an operator's key. `opened`: what a verification found when it had opened a backup."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.identity, self.recipient = new_key(root)
        self.opened: list[dict[str, bytes]] = []

    def config(self, *recipients: str, **more: Any) -> Config:
        return make_config(self.root, encryption={"recipients": recipients or [self.recipient], **more})

    def back_up(self, settings: Config | None = None, taken_at: datetime = NOW) -> Manifest:
        seal = age.sealing(settings or self.config(), print)
        written: dict[str, bytes] = {}
        root = self.root / "made"
        root.mkdir(exist_ok=True)
        for name in ("database.dump", "globals.sql.gz", "fingerprint.json"):
            with (root / name).open("wb") as file:
                seal.write(b"rows", file, subject=name)
            written[seal.named(name)] = (root / name).read_bytes()
        listed = tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in written.items())
        details = {"recipients": list(seal.recipients), "host_key": seal.host}
        made = make_manifest(taken_at, artefacts=listed, details=details)
        with store(self.root).stage("database", made.id) as staging:
            for name, data in written.items():
                (staging.path / name).write_bytes(data)
            staging.publish(made.to_bytes())
        return made

    def verify(self, level: str, key: str = "", identity: str = "latest") -> dict[str, str]:
        result = operations_verify.verify(Opened(self.config(), key), identity, level, log=print)
        found = {check.name: f"{check.result} {check.detail}" for check in result.checks}
        return {"": result.verdict, **found}

    def lose_the_hosts_keys(self) -> None:
        for key in age.HostKeys(self.config().state).all():
            key.path.unlink()

    def status(self, settings: Config) -> dict[str, tuple[str, str]]:
        seen = status.status(Opened(settings), now=NOW + timedelta(hours=1))
        return {check.name: (check.result, check.detail) for check in seen.checks}
