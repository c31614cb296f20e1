# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Compose project in a directory, its engine answered from here; tar, gzip, git and age are the real ones.

Where no age is installed, a stand-in with the same command line and the same words takes its place on PATH, so that
nothing is skipped: what is tested then is what Lifeboat does with age, and tests/testinfra has the real one on hosts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import backup as configuration_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import files as configuration_files
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import store
from fake_age import identity

PLANTED = "planted-Secret-9d1f"
COMPOSE = """\
services:
  web:
    image: web:1
    env_file: [web.env]
    environment: {PASSWORD: "${PASSWORD:?}"}
"""


def keys(path: Path) -> tuple[str, str]:
    """A fresh identity and its recipient."""
    text = identity()
    del path
    return text, age.recipients_of(text)[0]


class World:
    """One stack. `engine`: what docker says; a change of it is seen by the next backup."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.stack = root, root / "srv"
        self.key, self.recipient = keys(root)
        self.image_file = "manifest.json"  # in what `docker save` writes
        self.images = {"web": ("web:1", "sha256:" + "1" * 64)}
        self.saved: list[list[str]] = []
        self.lines: list[str] = []
        self.encryption: dict[str, Any] = {}
        self.etc = root / "etc-lifeboat"
        for folder in (self.stack, self.etc, root / "backup"):
            folder.mkdir()
        (self.stack / "compose.yml").write_text(COMPOSE)
        (self.stack / ".env").write_text(f"PASSWORD={PLANTED}\n")
        (self.stack / "web.env").write_text(f"TOKEN={PLANTED}\n")
        (self.stack / ".env.example").write_text("PASSWORD=\n")
        (self.etc / "shop.json").write_text("{}")
        (self.etc / "shop.secrets.json").write_text(json.dumps({"vault_secret_key": PLANTED}))
        for path in (self.stack / "compose.yml", self.stack / ".env.example"):
            path.chmod(0o644)
        self._run, self._output, self._probe = pipeline.run, pipeline.output, pipeline.probe
        monkeypatch.setattr(pipeline, "probe", self.probe)
        monkeypatch.setattr(pipeline, "output", self.output)
        monkeypatch.setattr(pipeline, "run", self.run)
        monkeypatch.setattr(configuration_files, "CRON", str(root / "cron.d"))
        monkeypatch.setattr(runtime.ComposeRuntime, "images", lambda _: dict.fromkeys(self.images, "web@sha256:2"))
        monkeypatch.setattr(runtime.ComposeRuntime, "state", self.state)

    def configured(self, **changes: Any) -> config.Config:
        more = {"recipients": [self.recipient], **changes}
        settings = {
            "stack": "shop",
            "runtime": {"project_directory": str(self.stack)},
            "repository": {"type": "local", "path": str(self.root / "backup")},
            "state_directory": str(self.root / "state"),
            "config": more,
            "encryption": self.encryption,
            "vault": {"endpoint_url": "https://s3.example", "repository_bucket": "copies"},
        }
        return config.from_mapping(settings, {"vault_secret_key": PLANTED})

    def take(self, **changes: Any) -> Manifest:
        return configuration_backup.take(Opened(self.configured(**changes)), log=self.lines.append, directory=self.etc)

    @property
    def repo(self) -> Repository:
        return store(self.root)

    def folder(self, manifest: Manifest) -> Path:
        return self.root / "backup" / "config" / manifest.id

    @property
    def own_keys(self) -> age.Keys:
        """The host's, which open all but the secret files."""
        return age.keys(self.configured())

    def extract(self, manifest: Manifest, name: str = "out", key: str = "") -> configuration_restore.Extracted:
        """With the key alone, or else with the host's."""
        keys = age.keys_of(key) if key else self.own_keys
        return configuration_restore.extract(self.repo, manifest.id, self.root / name, keys=keys, log=self.lines.append)

    def as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Backups as they were written once: config.recipients alone seal the secret files, and the rest is clear."""
        sealing, files = age.sealing, configuration_backup._Work.files

        def packed(work: Any, wanted: configuration_files.Selection) -> Any:
            return dataclasses.replace(files(work, wanted), recipients=work._config.config.recipients)

        monkeypatch.setattr(age, "sealing", lambda config, log, own=(): sealing(config, log))
        monkeypatch.setattr(configuration_backup._Work, "files", packed)

    # The engine.

    def state(self, service: str) -> Any:
        reference, image = self.images[service]
        return runtime.ServiceState(exists=True, running=True, image=reference, image_id=image)

    def _docker(self, words: list[str]) -> tuple[int, str, str]:
        if "config" in words and "--quiet" in words:
            files = [words[n + 1] for n, word in enumerate(words) if word == "--file"]
            lacking = [file for file in (*files, str(Path(files[0]).parent / "web.env")) if not Path(file).is_file()]
            return (1, "", f"open {lacking[0]}: no such file or directory") if lacking else (0, "", "")
        if "config" in words:
            service: dict[str, Any] = {"image": "web:1"}
            if "--no-interpolate" in words:
                service["env_file"] = [{"path": str(self.stack / "web.env"), "required": True}]
            return 0, json.dumps({"name": "shop", "services": {"web": service}}), ""
        if words[:3] == ["docker", "image", "inspect"]:
            known = {**dict(self.images.values()), **{image: image for _, image in self.images.values()}}
            found = known.get(words[-1])
            return (0, found + "\n", "") if found else (1, "", f"Error: No such image: {words[-1]}")
        return 0, "", ""

    def probe(self, command: pipeline.Command, **more: Any) -> tuple[int, str, str]:
        words = list(command.argv)
        return self._docker(words) if words[0] == "docker" else self._probe(command, **more)

    def output(self, command: pipeline.Command, **more: Any) -> str:
        return self._docker(list(command.argv))[1] if command.argv[0] == "docker" else self._output(command, **more)

    def run(self, commands: Any, **more: Any) -> Any:
        if commands[0].argv[:2] == ["docker", "load"]:
            return []
        if commands[0].argv[:2] == ["docker", "save"]:
            self.saved.append(list(commands[0].argv[2:]))
            made = pipeline.Command(["tar", "-C", str(self.root / "docker-save"), "-cf", "-", self.image_file])
            (self.root / "docker-save").mkdir(exist_ok=True)
            (self.root / "docker-save" / self.image_file).write_text(" ".join(self.saved[-1]))
            commands = [made, *commands[1:]]
        return self._run(commands, **more)


def git_repository(path: Path, text: str = "one") -> Path:
    """One commit and one tag, whatever this machine's git is configured for."""
    environment = {
        **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    first = not path.exists()
    run: Callable[..., Any] = lambda *words: subprocess.run(["git", *words], check=True, env=environment)  # noqa: E731
    if first:
        run("init", "--quiet", "--initial-branch=main", str(path))
    (path / "file").write_text(text)
    run("-C", str(path), "add", "file")
    run("-C", str(path), "commit", "--quiet", "--message", text)
    if first:
        run("-C", str(path), "tag", "--annotate", "v1", "--message", "one")
    return path


assert shutil.which("git"), "these tests need git"
