# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last built site that a config backup holds: what can still be served when nothing can be built."""

from __future__ import annotations

from pathlib import Path

from ..base.errors import LifeboatError, Log, NotFoundError
from ..configuration import parts
from ..configuration import restore as configuration_restore
from ..repository.details import ConfigDetails
from ..repository.sources import Sources
from ..stack.runtime import Opened
from ..tools import age, tar
from . import site
from .build import Built


def last_site(run: Opened, folder: Path, *, log: Log) -> Built:
    """Unpack the newest one that is whole and tells its commit, from the repository or its copy in the vault. Raises
    NotFoundError where there is none, and says what was wrong with those there are."""
    attempted, problems = "find a built site in the config backups", []
    sources, keys = Sources(run, "config"), age.keys(run.config, run.key)
    for entry in reversed([item for item in sources.entries if item.good and item.manifest]):
        manifest = entry.manifest
        if manifest is None or parts.SITE not in parts.parts_of(manifest):
            continue
        repo, target = sources.repo(entry), folder / f"kept-{entry.id}"
        name = parts.NAMES[parts.SITE]
        try:
            listed = configuration_restore.listing(repo, entry.id, keys)
            listed = {path: item for path, item in listed.items() if item.archive == name}
            target.mkdir(mode=0o700)
            with parts.opened(repo, manifest, parts.SITE, keys) as stream:
                tar.unpack(stream, target, listed, f"{entry.id}/{name}")
        except LifeboatError as exc:
            problems.append(f"{entry.id}: {exc.cause}")
            continue
        directory = target / str(manifest.detailed(ConfigDetails).site["directory"]).lstrip("/")
        commit = site.commit_in(directory, run.config.frontend.marker)
        if commit:
            log(f"{entry.id} holds the site of {commit[:12]}")
            return Built(commit, str(directory))
        problems.append(f"{entry.id}: {run.config.frontend.marker} of its site tells no commit")
    cause = "; ".join(problems) or "none holds one"
    raise NotFoundError(attempted, run.config.stack, cause, "Set lifeboat_config.site_directory.")
