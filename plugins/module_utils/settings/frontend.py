# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Lifeboat knows of a static frontend on GitHub Pages. A part of the configuration; see config."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from ..base.typed import Range

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SECRET_IN_URL = re.compile(r"://[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class FallbackSettings:
    """Where the last good site is published when GitHub cannot: a directory that a web server of this host serves, or a
    bucket. `url`: its public address. Secrets of a bucket: fallback_access_key, fallback_secret_key.
    """

    url: str = ""
    directory: str = ""
    bucket: str = ""
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""


@dataclass(frozen=True)
class FrontendSettings:
    """A static site on GitHub Pages. `url`, its public address, empty: the stack has none.

    `repository`: owner/name. `remote_url` empty: github.com. `workflow`: the file's name, which builds and deploys
    `branch`. `dispatch_input`: the workflow's own input that takes a commit to deploy; empty: it has none, and the last
    good commit comes back by a commit that reverts. `build`: commands that are run in `directory`, `output` what they
    leave there. `marker`: the file of the site that tells its commit (see frontend_site). `domain`: the custom domain.
    `builder_image` empty: the host's own Node, as `build_user`, found on `builder_path` first.
    `timeout`: seconds that a workflow run and the site after it may take. Secret: github_token.
    """

    url: str = ""
    repository: str = ""
    api_url: str = "https://api.github.com"
    remote_url: str = ""
    branch: str = "main"
    workflow: str = "pages.yml"
    dispatch_input: str = ""
    directory: str = "frontend"
    build: tuple[tuple[str, ...], ...] = (("npm", "ci"), ("npm", "run", "build"))
    output: str = "dist"
    marker: str = "version.json"
    domain: str = ""
    builder_image: str = ""
    builder_path: str = ""
    build_user: str = "nobody"
    build_timeout: Annotated[int, Range(1, 10**9)] = 600
    timeout: Annotated[int, Range(1, 10**9)] = 900
    rate_limit_patience: Annotated[int, Range(0, 10**9)] = 120
    ca_bundle: str = ""
    fallback: FallbackSettings = field(default_factory=FallbackSettings)


def problems(frontend: FrontendSettings) -> Iterator[tuple[str, str]]:
    """(the setting's name with a dot before it, what is wrong with its value)."""
    if not frontend.url:
        return
    addresses = (frontend.url, frontend.api_url, frontend.fallback.url or frontend.url)
    if not all(address.startswith(("https://", "http://")) and "@" not in address for address in addresses):
        yield "", "url, api_url and fallback.url are http or https addresses, without a password in them"
    if not _REPOSITORY.fullmatch(frontend.repository):
        yield ".repository", f"{frontend.repository!r} is not owner/name"
    if _SECRET_IN_URL.search(frontend.remote_url):
        yield ".remote_url", "a password does not belong into an address; give github_token in secrets"
    if frontend.remote_url.startswith("-"):
        yield ".remote_url", f"{frontend.remote_url!r} is not an address"
    for name in ("branch", "workflow", "directory", "output", "marker"):
        value = getattr(frontend, name)
        if not value or value.startswith(("-", "/")) or ".." in value.split("/"):
            yield f".{name}", f"{value!r} is not a plain relative name"
    if not frontend.build or not all(frontend.build):
        yield ".build", "wants a list of commands, each a list of words"
    yield from _fallback_problems(frontend.fallback)


def _fallback_problems(fallback: FallbackSettings) -> Iterator[tuple[str, str]]:
    if (fallback.directory or fallback.bucket) and not fallback.url:
        yield ".fallback", "url is missing, by which it is seen that the fallback serves"
    if fallback.directory and (not fallback.directory.startswith("/") or fallback.directory.count("/") < 2):
        yield ".fallback.directory", f"{fallback.directory!r} is not an absolute path below a directory"
