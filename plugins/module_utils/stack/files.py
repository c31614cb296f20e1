# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files a Compose project is made of, and which of them are secret. Asked of Compose itself where it tells.

Compose does not name the files that others include or extend: those are found in the text. What is missed all the same
shows when a backup is proved, because Compose then reads it from the backup alone.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from ..base import filesystem, pipeline
from ..base.pipeline import Command
from ..settings.config import Config
from .compose import ComposeRuntime, Project, within

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
EXAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist")
# Only from the begin of a word on, and in bounds: a text of the project's owner would take hours else.
_FRAGMENT = re.compile(r"""(?<![^\s"'\[\]{},:])[^\s"'\[\]{},:]+\.ya?ml""")
_VARIABLE = re.compile(r"\$\{(\w{1,1024})(?::?-([^}]{0,1024}))?\}|\$(\w+)")
_TEXT = 1 << 20
_ELF = b"\x7fELF"


@dataclass(frozen=True)
class ProjectFiles:
    """compose: the Compose files, in order. plain, secret: what they use. data: directories that were not taken.
    fragments: of the plain ones those that Compose reads too, because others include or extend them."""

    compose: list[str]
    plain: list[str]
    secret: list[str]
    data: list[str]
    fragments: list[str]


@dataclass(frozen=True)
class _EnvFile:
    path: str
    required: bool = True


@dataclass(frozen=True)
class _Service:
    env_file: Union[str, tuple[Union[str, _EnvFile], ...]] = ()


@dataclass(frozen=True)
class _Project:
    """What Compose says without interpolation."""

    services: Mapping[str, _Service] = field(default_factory=dict)


def find(config: Config, runtime: ComposeRuntime) -> ProjectFiles:
    """Raises LifeboatError where Compose cannot read the project: a broken one must not become the newest backup."""
    model = runtime.model
    labelled = _labelled(runtime, "config_files")
    directory = os.path.normpath(runtime.directory or Path(labelled[0] if labelled else "/x").parent)
    named = [str(path) for path in _named(config, Path(directory))]
    compose = list(dict.fromkeys([*named, *labelled]))
    secret = _secret(runtime, directory, model)
    plain = [path for name in EXAMPLES if Path(path := os.path.join(directory, name)).is_file()]
    plain += [item.file for item in model.configs.values() if item.file]
    fragments = _fragments(compose, directory, set(secret))
    plain += fragments
    data = set()
    for mount in (mount for service in model.services.values() for mount in service.volumes):
        source = mount.source
        if mount.type != "bind" or not source.startswith("/"):
            continue
        own = directory != "/" and within(source, directory)
        if own and _is_program(Path(source)):
            plain.append(source)
        # A key or a certificate is mounted like any file: encrypted unless the operator names it as plain.
        elif own and (Path(source).is_file() or (mount.read_only and Path(source).is_dir())):
            secret.append(source)
        elif not mount.read_only or own:
            data.add(source)
    openly = {*compose, *plain, *config.config.files}
    sealed = [path for path in dict.fromkeys(secret) if path not in openly]
    return ProjectFiles(compose, list(dict.fromkeys(plain)), sealed, sorted(data), fragments)


def _is_program(path: Path) -> bool:
    """Return whether a file may be executed and begins as a program does. The mode alone says nothing of a file on a
    disk that has none, and a program that holds a secret is found by its content, as any plain file is."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
            return False
        return filesystem.read_file(path, len(_ELF), cut=True).startswith((b"#!", _ELF))
    except OSError:
        return False


def _labelled(runtime: ComposeRuntime, label: str) -> list[str]:
    """What the containers there are were made from, as Compose wrote it on them."""
    shown = f'{{{{.Label "com.docker.compose.project.{label}"}}}}'
    wanted = f"label=com.docker.compose.project={runtime.project}"
    _status, out, _err = pipeline.probe(Command(["docker", "ps", "--all", "--filter", wanted, "--format", shown]))
    paths = [path for line in out.splitlines() for path in line.split(",") if path.startswith("/")]
    return [path for path in dict.fromkeys(paths) if Path(path).is_file()]


def _named(config: Config, directory: Path) -> list[Path]:
    """The Compose files that the settings name; where they name none, those that Compose takes then."""
    usual = [path for name in NAMES if (path := directory / name).is_file()][:1]
    usual += [path for name in OVERRIDES if (path := directory / name).is_file()]
    return [directory / name for name in config.runtime.files] or usual


def project_files(config: Config) -> list[Path]:
    """The Compose files that Compose would take, those that are there; it is not asked."""
    return [path for path in _named(config, Path(config.runtime.project_directory)) if path.is_file()]


def read_by_compose(config: Config) -> list[str]:
    """What Compose reads by its name whenever it is called, and what it would read if it were there."""
    directory = config.runtime.project_directory or "/"
    names = [*(config.runtime.files or (*NAMES, *OVERRIDES)), ".env"]
    compose = [os.path.normpath(os.path.join(directory, name)) for name in names]
    there = [path for path in compose if path.endswith((".yml", ".yaml")) and Path(path).is_file()]
    return [*compose, *_fragments(there, directory, set())]


def _secret(runtime: ComposeRuntime, directory: str, model: Project) -> list[str]:
    own = os.path.join(directory, ".env")
    found = [own] if os.path.lexists(own) else []
    found += _labelled(runtime, "environment_file")
    found += [item.file for item in model.secrets.values() if item.file]
    # Only without interpolation does Compose still know of env_file; it has resolved the paths all the same.
    raw = runtime.read(_Project, "--profile", "*", "config", "--no-interpolate")
    values = _values(own)
    for service in raw.services.values():
        entries = (service.env_file,) if isinstance(service.env_file, str) else service.env_file
        for entry in entries:
            named = _EnvFile(entry) if isinstance(entry, str) else entry
            path = os.path.join(directory, _expanded(named.path, values))
            if named.required or os.path.lexists(path):
                found.append(path)
    return found


def _values(path: str) -> dict[str, str]:
    """What of `.env` can stand in a path: plain assignments."""
    try:
        lines = filesystem.read_file(Path(path), _TEXT, cut=True).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("'\"") for name, _sep, value in pairs}


def _expanded(path: str, values: Mapping[str, str]) -> str:
    """As Compose interpolates. What stays unknown stays as it is: the archive then names it as not there."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[3]) or match[2] or match[0], path)


def _fragments(compose: list[str], directory: str, secret: set[str]) -> list[str]:
    """YAML files that the Compose files name and that are there: included, extended."""
    seen, waiting = set(compose), list(compose)
    while waiting:
        path = Path(waiting.pop())
        try:
            text = filesystem.read_file(path, _TEXT, cut=True).decode("utf-8", "replace")
        except OSError:
            continue  # the archive names it as skipped
        for name in _FRAGMENT.findall(re.sub(r"(?m)(^|\s)#.*$", "", text)):
            for base in (str(path.parent), directory):
                one = os.path.normpath(os.path.join(base, name))
                if one not in seen and one not in secret and Path(one).is_file():
                    seen.add(one)
                    waiting.append(one)
                    break
    return sorted(seen - set(compose))
