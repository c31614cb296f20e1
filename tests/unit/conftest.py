# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process runner, replaced: what the core would run is recorded, what it is answered is in the test's own table.

And a module's real main(), run as Ansible runs it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import socket
import socketserver
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from builders import Run, Runner, settings

_OF_ANSIBLE = re.compile(r"\bansible[-.]|\bansible_runner|playbook")
yaml.SafeLoader = yaml.CSafeLoader  # safe_load's: libyaml reads the same, ten times as fast


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what may depend on the version of ansible-core: a test that runs a module, or whose file names Ansible."""
    paths = {item.path for item in items}
    about_ansible = {path for path in paths if _OF_ANSIBLE.search(path.read_text(encoding="utf-8"))}
    for item in items:
        if "run" in getattr(item, "fixturenames", ()) or item.path in about_ansible:
            item.add_marker("ansible")


def ended(_server: Any, _request: Any, client: Any) -> None:
    """Say in one line that a test's server lost its client.

    A traceback is printed with the help of ast, which CPython 3.11 cannot do in two threads at a time: a test that was
    parsing source just then ended with a SystemError (python/cpython#106905).
    """
    print(f"{client}: {sys.exc_info()[1]!r}", file=sys.stderr)


socketserver.BaseServer.handle_error = ended  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is reserved for examples (RFC 2606) is unknown at once; a name server may take 5 s for it."""
    real = socket.getaddrinfo

    def found(host: Any, *more: Any, **named: Any) -> Any:
        if str(host).endswith((".example", ".invalid", ".test")):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """The command opens its log once in a process: one that an earlier test left would write to that test's streams."""
    yield
    log = logging.getLogger("lifeboat")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


@pytest.fixture(autouse=True)
def no_mounts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's stack has no project and no engine: what it mounts is looked at in the tests of that alone."""
    if request.path.name != "test_state.py":
        monkeypatch.setattr(mounts, "inventory", lambda run: None)


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backup that a test makes is dated later than now, whatever the clock of the machine says."""
    monkeypatch.setattr(clock, "now", lambda: datetime(2199, 1, 1, tzinfo=timezone.utc))


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    """The one that the command runs with, and many an operator's shell."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="session", autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests that run side by side name their stacks alike: each process has locks of its own. Returns the real one."""
    real, lock.DIRECTORY = lock.DIRECTORY, tmp_path_factory.mktemp("locks")
    return real


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    fake = Runner()
    for name in ("output", "probe", "run"):
        monkeypatch.setattr(pipeline, name, getattr(fake, name))
    return fake


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main() and return the JSON that Ansible would get; `failed` says whether it failed."""
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))

    def call(name: str, *, check: bool = False, plain: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.modules.{name}")
        common = {} if plain else {"settings": settings(tmp_path), "secrets": {"database_password": "hunter2"}}
        internal = {"_ansible_check_mode": check, "_ansible_diff": True}
        # A module has a process of its own: no controller, whatever another test has loaded, and no earlier warnings.
        monkeypatch.setattr(_internal, "is_controller", False)
        monkeypatch.setattr(warnings, "_global_warnings", {})
        with patch_module_args({**common, **arguments, **internal}), pytest.raises(SystemExit) as ended:
            module.main()
        said = capsys.readouterr().out
        assert "hunter2" not in said, "a secret in the result"
        result: dict[str, Any] = json.loads(said)
        assert bool(ended.value.code) == bool(result.get("failed"))
        if not plain:
            assert parse_time(result["phase"]["started_at"]) <= parse_time(result["phase"]["finished_at"])
            assert isinstance(result["log"], list)
        return {"failed": False, **result}

    return call
