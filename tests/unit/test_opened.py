# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run has open is opened once: by the openers, for a module or a command, and by no other function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import layers
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import ComposeRuntime, Opened
from builders import make_config, settings
from object_world import OBJECTS, VAULT

# Phases are what modules and `lifeboat recover` run. What opens something -> the files that may.
OPENERS = {
    "stack/runtime.Opened": {"command/cli", "command/completion", "modules", "phases"},
    # A hook's service is looked for each time: a recovery makes containers again.
    "stack/runtime.connect": {"stack/runtime", "stack/hooks", "stack/hook_debts"},
    # stack_images loads images: Compose stacks only; discover looks at a project without a configuration, services
    # at one that is not in its place yet.
    "stack/compose.ComposeRuntime": {
        "stack/runtime",
        "modules/stack_images",
        "operations/discover",
        "configuration/services",
        "site/files",
    },
    "stack/runtime.HostRuntime": {"stack/runtime"},
    # vault makes the buckets that are named, writer tries their key; clocks and preflight ask whether a server answers,
    # before any is opened.
    "stack/buckets.in_vault": {
        "stack/buckets",
        "vault/vault",
        "vault/writer",
        "operations/clock_guard",
        "operations/preflight",
    },
    "s3/bucket.Bucket": {"stack/buckets", "operations/clock_guard", "operations/preflight"},
    # Of a bucket, of a repository, and of the bucket that serves the site where GitHub Pages does not.
    "s3/client.connect": {"s3/bucket", "repository/s3", "frontend/build"},
    "repository/repositories.from_settings": {"repository/repositories"},
    "repository/repositories.in_bucket": {"repository/repositories"},
    "repository/local.LocalRepository": {"repository/repositories"},
    "repository/s3.S3Repository": {"repository/repositories"},
    "database/server.connect": {"database/server"},
    "database/server.Server": {
        "database/server",
        "database/scratch",
        "database/wal/standing",
    },  # throw-away ones of their own
}
CLASSES = tuple(name for name in OPENERS if name.rpartition(".")[2][0].isupper())
COMPOSE = {"stack/runtime.ComposeRuntime": "stack/compose.ComposeRuntime"}  # runtime gives it on
KEYS = {f"{whose}_{what}_key": "k" for whose in ("objects", "vault") for what in ("access", "secret")}
PACKAGE = "ansible_collections.lifeboat.dr.plugins.module_utils."


def used(name: str, text: str) -> Iterator[str]:
    """The openers that a file names; a class only where it is called, as types name it too."""
    tree = ast.parse(text)
    known: dict[str, str] = {opener.rpartition(".")[2]: opener for opener in OPENERS if opener.startswith(f"{name}.")}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").removeprefix(PACKAGE).replace(".", "/")
            folder = PurePosixPath(name, *[".."] * node.level, module) if node.level else PurePosixPath(module)
            for alias in node.names:
                target = layers._flat(folder)
                target += "." + alias.name if f"{target}.{alias.name}" in {*OPENERS, *COMPOSE} else "/" + alias.name
                known[alias.asname or alias.name] = target
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        found = ""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found = known.get(node.id, "")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = f"{known.get(node.value.id, '')}.{node.attr}"
        found = COMPOSE.get(found, found)
        if found in OPENERS and (found not in CLASSES or id(node) in called):
            yield found


def sources() -> dict[str, str]:
    core = {path.relative_to(layers.CORE).with_suffix("").as_posix(): path for path in layers.CORE.rglob("*.py")}
    modules = {f"modules/{path.stem}": path for path in (layers.ROOT / "plugins" / "modules").glob("*.py")}
    return {name: path.read_text(encoding="utf-8") for name, path in {**core, **modules}.items()}


def offences(found: dict[str, str]) -> list[str]:
    return [
        f"{name} calls {opener}"
        for name, text in sorted(found.items())
        for opener in used(name, text)
        if not {name, name.partition("/")[0]} & OPENERS[opener]
    ]


def test_nothing_but_the_openers_opens() -> None:
    assert offences(sources()) == []


def test_each_exception_is_needed() -> None:
    found = [(opener, name) for name, text in sources().items() for opener in used(name, text)]
    named = {(opener, name) for opener, name in found} | {(opener, name.partition("/")[0]) for opener, name in found}
    assert {(opener, name) for opener, names in OPENERS.items() for name in names} <= named


PLANTED = {
    "a runtime": ("site/scope", "from ..stack import runtime\nruntime.connect(config)", "stack/runtime.connect"),
    "under another name": ("drill/clean", "from ..stack.runtime import connect as to\nto(1)", "stack/runtime.connect"),
    "handed on": ("base/lock", "from ..s3 import client\npartial(client.connect, 1)", "s3/client.connect"),
    "in a module": (
        "modules/vault", f"from {PACKAGE}database import server\nserver.connect(1, 2)", "database/server.connect",
    ),
    "a class": ("drill/clean", "from ..stack.runtime import HostRuntime\nHostRuntime(1)", "stack/runtime.HostRuntime"),
    "once more": ("drill/clean", "from ..stack.runtime import Opened\nOpened(config)", "stack/runtime.Opened"),
    "within a function": (
        "drill/clean",
        "def late():\n    from ..repository.repositories import from_settings\n    return from_settings({}, {})",
        "repository/repositories.from_settings",
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(planted: str) -> None:
    name, text, said = PLANTED[planted]
    (found,) = offences({name: text})
    assert found.startswith(f"{name} calls {said}")


def test_a_type_opens_nothing() -> None:
    text = "from ..stack.runtime import ComposeRuntime\ndef of(a: ComposeRuntime): return isinstance(a, ComposeRuntime)"
    assert offences({"drill/clean": text}) == []


# --- what is open ---


def opened(root: Path, **changes: Any) -> Opened:
    return Opened(config.from_mapping(settings(root, **changes), KEYS))


def test_each_is_opened_once_also_by_several_threads(tmp_path: Path) -> None:
    run = opened(tmp_path, vault={**VAULT, "repository_bucket": "copies"})
    calls: list[int] = []

    def opener(given: Opened) -> object:
        calls.append(1)
        return repositories.repository_of(given)  # an opener may ask another

    with ThreadPoolExecutor(8) as pool:
        assert len(set(map(id, pool.map(lambda _: run.once(opener), range(64))))) == 1
    assert calls == [1]
    assert repositories.repository_of(run) is repositories.repository_of(run)
    assert copies.vault(run) is copies.vault(run) is not None
    assert buckets.vault(run) is buckets.vault(run)
    assert repositories.repository_of(Opened(run.config)) is not repositories.repository_of(run), (
        "another run opens its own"
    )


def test_what_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    run = Opened(make_config(tmp_path))
    for _ in range(2):
        with pytest.raises(UsageError, match="the stack has none"):
            buckets.vault(run)


def test_the_address_of_a_container_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery makes it again, and it then has another one."""
    run = opened(tmp_path, objects={**OBJECTS, "endpoint_url": "", "service": "s3"}, vault=VAULT)
    addresses = iter(["10.0.0.1", "10.0.0.2"])
    monkeypatch.setattr(buckets, "_address", lambda _: next(addresses))
    assert [buckets.source(run).endpoint_url[:15] for _ in range(2)] == ["http://10.0.0.1", "http://10.0.0.2"]


def test_a_project_whose_files_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(runtime, "connect", lambda config: asked.append(config) or ComposeRuntime(config))
    run = Opened(make_config(tmp_path))
    before = run.runtime
    assert run.runtime is before
    assert run.reread() is run.runtime is not before
    assert len(asked) == 2
