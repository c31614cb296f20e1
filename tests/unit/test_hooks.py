# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hooks: what is run before and after, by real processes that end, hang, are killed, or write what they like."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import layers
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, pipeline, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside, drill
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take as mirror_take
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components, preflight, status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.components import Component
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.protect import Protected
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as config_module
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import Hook
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hook_debts, hook_watcher, hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.service import ServiceState
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from builders import NOW, PLAN, Run, make_config, publish, publish_objects, settings, until
from test_modules import RECORD

BEFORE, AFTER = "before", "after"
SECRET = "correct-horse-battery"
CORE = layers.CORE
NAMES = "ansible_collections.lifeboat.dr.plugins.module_utils"
# A run as another process makes it: with the configuration's hooks around a step that lasts until it is killed.
RUN = """
import json, sys, time
from pathlib import Path
from {core}.settings import config
from {core}.stack import hooks
conf = config.from_mapping(json.loads(sys.argv[1]))
with {block}:
    Path(sys.argv[2]).touch()
    time.sleep(600 if {lasts} else 0)
"""
MOMENTS, LASTS = 12, 0.9  # at which a run of so many seconds is killed
WHOLE = "hooks.running(conf, 'backup', print)"
PHASE = "hooks.continued(conf, 'recovery', 'database', print)"


def hook(root: Path, name: str = "page", when: str = "backup", **changes: Any) -> dict[str, Any]:
    """A hook that notes in a journal what it was told."""
    note = f'echo "$0 {name} $LIFEBOAT_STACK $LIFEBOAT_WHAT $LIFEBOAT_RESULT" >> {root}/journal'
    commands = {which: ["sh", "-c", note, which] for which in (BEFORE, AFTER)}
    return {"name": name, "when": when, **commands, **changes}


def configured(root: Path, *entries: Mapping[str, Any], **changes: Any) -> Config:
    return make_config(root, hooks=list(entries), **changes)


def journal(root: Path) -> list[str]:
    path = root / "journal"
    return path.read_text().splitlines() if path.exists() else []


def owed(config: Config) -> list[str]:
    return [debt.hook.name for debt in hook_debts.owed(config)]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()


def begun(
    root: Path, children: list[subprocess.Popen[bytes]], entries: Sequence[Mapping[str, Any]], block: str = WHOLE,
    *, lasts: bool = True, wait: bool = True, paths: Optional[Sequence[str]] = None, core: str = NAMES,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start such a run, and wait until it is in the middle."""
    program = RUN.format(block=block, lasts=lasts, core=core)
    given = json.dumps(settings(root, hooks=list(entries)))
    path = os.pathsep.join(paths or [path for path in sys.path if path])
    middle = root / f"middle{len(children)}"
    child = subprocess.Popen(
        [sys.executable, "-c", program, given, str(middle)], env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    children.append(child)
    if wait:
        until(lambda: middle.exists() or child.poll() is not None)
        assert middle.exists()
    return child


def kill(*processes: int) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)


def watcher_of(config: Config) -> int:
    return int(hook_debts.owed(config)[0].owners[0].split()[0])


def gone(process: int) -> bool:
    return not pipeline.started(process)


# --- around a backup --------------------------------------------------------------------------------------------------


def backup(
    root: Path, monkeypatch: pytest.MonkeyPatch, log: list[str], *entries: Mapping[str, Any], breaks: str = ""
) -> operations_backup.Taken:  # fmt: skip
    """A night's backup of rows and configuration, each of which the journal notes."""

    def take(name: str) -> Any:
        def taken(run: Opened, override: object, log: object) -> Any:
            with (root / "journal").open("a") as file:
                file.write(f"take {name}\n")
            if name == breaks:
                raise LifeboatError("take it", name, "it broke")
            return publish(root, NOW + timedelta(seconds=len(name)))

        return Component(taken, components.COMPONENTS[name].summary)

    for name in ("database", "config"):
        monkeypatch.setitem(components.COMPONENTS, name, take(name))
    config = configured(root, *entries, config={"enabled": True})
    return operations_backup.take(Opened(config), log=log.append)


def test_a_night_with_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    """Those of all are outside, those of a component around it, and the last that began ends first."""
    entries = [
        hook(tmp_path, "page"),
        hook(tmp_path, "freeze", components=["config"]),
        hook(tmp_path, "flush"),
        hook(tmp_path, "other", when="recovery"),
        hook(tmp_path, "bucket", components=["objects"]),
    ]
    monkeypatch.setattr(operations_backup.points, "seal", lambda *_, **__: (None, False))
    backup(tmp_path, monkeypatch, log, *entries)
    assert journal(tmp_path) == [
        "before page shop backup ",
        "before flush shop backup ",
        "take database",
        "before freeze shop backup ",
        "take config",
        "after freeze shop backup PASS",
        "after flush shop backup PASS",
        "after page shop backup PASS",
    ]
    assert owed(configured(tmp_path)) == []
    assert log.count("hook page: before: sh -c " + entries[0][BEFORE][2] + " before") == 1


def test_no_backup_where_a_before_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    """Its own `after` is run too: it may have done half of its work. Those that were not begun are left alone."""
    broken = hook(tmp_path, "broken", before=["sh", "-c", "echo no room >&2; exit 3"])
    with pytest.raises(LifeboatError, match=r"broken\): sh ended with exit 3; it last said: no room"):
        backup(tmp_path, monkeypatch, log, hook(tmp_path), broken, hook(tmp_path, "last"))
    assert journal(tmp_path) == [
        "before page shop backup ", "after broken shop backup FAIL", "after page shop backup FAIL"
    ]  # fmt: skip
    assert owed(configured(tmp_path)) == []


def test_after_a_backup_that_broke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    with pytest.raises(LifeboatError, match="it broke"):
        backup(tmp_path, monkeypatch, log, hook(tmp_path), breaks="database")
    assert journal(tmp_path)[-1] == "after page shop backup FAIL"


def test_an_after_that_fails_is_owed_until_it_has_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:  # fmt: skip
    """The backup is whole and sealed all the same, the run fails, and status says FAIL until a later try succeeds."""
    sealed: list[str] = []
    monkeypatch.setattr(operations_backup.points, "seal", lambda *_, **__: (sealed.append("sealed"), False))
    entry = hook(tmp_path, after=["sh", "-c", f"test -e {tmp_path}/mended && echo $LIFEBOAT_RESULT > {tmp_path}/ran"])
    with pytest.raises(LifeboatError, match=r"page: sh ended with exit 1. The backup itself is done"):
        backup(tmp_path, monkeypatch, log, entry)
    config = configured(tmp_path)
    assert sealed == ["sealed"]
    (check,) = hook_debts.checked(config)
    assert (check.name, check.result) == ("hooks", FAIL)
    assert "after of the hook page, owed by a backup since" in check.detail
    assert "sh ended with exit 1" in check.detail
    hook_debts.catch_up(config, log.append)
    assert [found.result for found in hook_debts.checked(config)] == [FAIL]
    (tmp_path / "mended").touch()
    hook_debts.catch_up(config, log.append)
    assert (tmp_path / "ran").read_text() == "PASS\n"
    assert not [*hook_debts.checked(config)]


def test_without_hooks_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    monkeypatch.setattr(hook_watcher, "start", lambda config: pytest.fail("a watcher was started"))
    config = configured(tmp_path, hook(tmp_path, when="drill"))
    with hooks.running(config, hooks.BACKUP, log.append) as run, run.around("database"):
        pass
    with hooks.continued(config, hooks.RECOVERY, "database", log.append):
        pass
    assert (log, (config.state / "hooks").exists()) == ([], False)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kill_9_in_the_middle(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    """The watcher undoes it at once, without another command of ours, and ends."""
    config = configured(tmp_path)
    entries = [hook(tmp_path), hook(tmp_path, "flush")]
    child = begun(tmp_path, children, entries)
    assert owed(config) == ["page", "flush"]
    assert not [*hook_debts.checked(config)], "a run that lives owes nothing yet"
    watcher = watcher_of(config)
    kill(child.pid)
    until(lambda: not owed(config))
    assert journal(tmp_path)[2:] == ["after flush shop backup KILLED", "after page shop backup KILLED"]
    until(lambda: gone(watcher))


@pytest.mark.slow
def test_kill_9_in_a_before(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    """What `before` had started is killed first: it must not go on beside what undoes it."""
    forked = f"setsid sleep 600 & echo $! > {tmp_path}/forked; sleep 600"
    left = f"test ! -e /proc/$(cat {tmp_path}/forked)/exe && echo alone > {tmp_path}/after"
    child = begun(
        tmp_path, children, [hook(tmp_path, before=["sh", "-c", forked], after=["sh", "-c", left])], wait=False
    )
    until(lambda: (tmp_path / "forked").exists() and (tmp_path / "forked").read_text().strip().isdecimal())
    kill(child.pid)
    until((tmp_path / "after").exists)
    until(lambda: not owed(configured(tmp_path)))


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    """Before, in and after each step: whatever a `before` began is undone, and nothing is left to do."""
    config, note = configured(tmp_path), ["sh", "-c", hook(tmp_path)[BEFORE][2] + "; sleep 0.1", BEFORE]
    entries = [hook(tmp_path, before=note), hook(tmp_path, "flush", before=note)]
    for moment in range(MOMENTS):
        (tmp_path / "journal").unlink(missing_ok=True)
        child = begun(tmp_path, children, entries, wait=False, lasts=False)
        time.sleep(LASTS * moment / MOMENTS)
        child.kill()
        child.wait()
        until(lambda: not owed(config))
        lines = [line.split()[:2] for line in journal(tmp_path)]
        assert {name for which, name in lines if which == BEFORE} <= {name for which, name in lines if which == AFTER}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_run_and_watcher(
    tmp_path: Path, children: list[subprocess.Popen[bytes]], number: signal.Signals
) -> None:  # fmt: skip
    """As a unit that is stopped, or a session that ends, sends it to both."""
    config = configured(tmp_path)
    child = begun(tmp_path, children, [hook(tmp_path)])
    watcher = watcher_of(config)
    os.kill(watcher, number)
    os.kill(child.pid, number)
    until(lambda: not owed(config))
    assert journal(tmp_path)[-1].startswith("after page shop backup ")


def power_cut(root: Path, children: list[subprocess.Popen[bytes]], entry: Mapping[str, Any]) -> Config:
    """Kill the watcher and the run, as a power cut does."""
    config = configured(root, entry)
    child = begun(root, children, [entry])
    watcher = watcher_of(config)
    kill(watcher, child.pid)
    child.wait()
    until(lambda: gone(watcher))
    return config


@pytest.mark.slow
def test_the_next_command_pays_what_a_power_cut_left(
    tmp_path: Path, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of them, by the `after` as it was then: it may be out of the configuration since."""
    config = power_cut(tmp_path, children, hook(tmp_path))
    (check,) = hook_debts.checked(config)
    assert (check.result, "the run was killed" in check.detail) == (FAIL, True)
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "shop.json").write_text(json.dumps(settings(tmp_path)))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    assert cli.main(["list", "--config-directory", str(etc)]) == 0
    assert journal(tmp_path)[1:] == ["after page shop backup KILLED"]
    assert not [*hook_debts.checked(config)]


@pytest.mark.slow
def test_a_module_pays_too_and_not_in_check_mode(
    run: Run, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    power_cut(tmp_path, children, hook(tmp_path))
    run("backup_info", check=True)
    assert len(journal(tmp_path)) == 1
    result = run("backup_info")
    assert journal(tmp_path)[1:] == ["after page shop backup KILLED"]
    assert "hook page: after is owed by a backup that began at" in result["log"][0]


def test_commands_do_not_wait_for_one_another(tmp_path: Path, log: list[str]) -> None:
    """One that hangs would keep those of every minute; whoever has the lock runs it."""
    config = configured(tmp_path)
    hook_debts.keep(config, hook_debts.Debt(Hook("page", after=("false",), timeout=600), "1-backup-page", ""))
    with lock.held("hooks", "page", directory=config.state / "hooks"):
        hook_debts.catch_up(config, log.append)
    assert len(log) == 1, "nothing was run"
    assert owed(config) == ["page"]


@pytest.mark.slow
def test_status_of_what_cannot_be_undone(
    tmp_path: Path, children: list[subprocess.Popen[bytes]], log: list[str]
) -> None:
    entry = hook(tmp_path, after=[f"{tmp_path}/thaw"])
    config = power_cut(tmp_path, children, entry)
    hook_debts.catch_up(config, log.append)
    (check,) = hook_debts.checked(config)
    assert (check.result, "thaw: No such file or directory" in check.detail) == (FAIL, True)
    removes = check.detail.partition("rm ")[2]
    Path(removes).write_text("{")
    assert [found.result for found in hook_debts.checked(config)] == [FAIL], "what cannot be read is owed all the same"
    Path(removes).unlink()
    assert not [*hook_debts.checked(config)]
    shutil.rmtree(config.state / "hooks")
    (config.state / "hooks").write_text("")
    assert [found.result for found in hook_debts.checked(config)] == [COULD_NOT_VERIFY]


@pytest.mark.slow
def test_the_watcher_needs_no_file_of_what_started_it(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    """Ansible removes the code that it sent when a module ends, and deploy replaces the command's file."""
    archive = tmp_path / "sent.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in CORE.rglob("*.py"):
            file.write(path, f"lifeboat/{path.relative_to(CORE)}")
        for folder in {CORE, *(path.parent for path in CORE.rglob("*.py"))}:
            if not (folder / "__init__.py").exists():
                file.writestr(str(Path("lifeboat", folder.relative_to(CORE), "__init__.py")), "")
    child = begun(tmp_path, children, [hook(tmp_path)], paths=[str(archive)], core="lifeboat")
    archive.unlink()
    kill(child.pid)
    until(lambda: not owed(configured(tmp_path)))
    assert journal(tmp_path)[1:] == ["after page shop backup KILLED"]


def test_a_watcher_that_cannot_start_means_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LifeboatError, match="start the watcher of the hooks"):
        backup(tmp_path, monkeypatch, log, hook(tmp_path))
    assert journal(tmp_path) == []


def test_the_configuration_reaches_the_watcher_whole(tmp_path: Path) -> None:
    """With whatever a stack can have: it goes through a pipe as JSON."""
    whole = make_config(
        tmp_path,
        repository={"type": "s3", "bucket": "b", "endpoint_url": "https://s3.example"},
        signers=[{"name": "a", "key": "ssh-ed25519 " + "A" * 68, "expires": "2030-01-01T00:00:00+00:00"}],
        application={"checks": [{"url": "http://a.example/", "json": {"a": [1, None]}}], "writers": ["caf\udce9"]},
        hooks=[hook(tmp_path)],
    )
    data = json.loads(json.dumps(typed.plain(whole)))
    again = typed.build(Config, data, lambda field, cause: LifeboatError("read", field, cause))
    assert again == whole


# --- what commands do -------------------------------------------------------------------------------------------------


def executed(root: Path, log: list[str], *argv: str, **changes: Any) -> str:
    entry = hook(root, before=list(argv), **changes)
    config = config_module.from_mapping(settings(root, hooks=[entry]), {"database_password": SECRET})
    debt = hook_debts.Debt(config.hooks[0], "1-backup-page", "")
    return hook_debts.execute(config, debt, BEFORE, debt.hook.before, "", log.append)


@pytest.mark.slow
def test_a_command_that_hangs(tmp_path: Path, log: list[str]) -> None:
    """Also one that ignores SIGTERM and has started a process out of its group: nothing of it is left."""
    program = f"trap '' TERM; setsid sleep 600 & echo $! > {tmp_path}/left; echo waiting; sleep 600"
    problem = executed(tmp_path, log, "sh", "-c", program, timeout=1)
    assert problem == "sh had not ended after 1 s and was killed; it last said: waiting"
    assert gone(int((tmp_path / "left").read_text()))


@pytest.mark.slow
def test_100_mb_of_output(tmp_path: Path, log: list[str]) -> None:
    """The end of it is shown; the rest goes nowhere. A line that was cut may begin in the middle of a secret."""
    (tmp_path / "secret").write_text(SECRET * 2000)
    program = f"for n in range(100): print('x' * 999_999)\nprint(open('{tmp_path}/secret').read())\nprint('the end')"
    assert executed(tmp_path, log, sys.executable, "-c", program) == ""
    assert log[1:] == ["hook page: the end"]


def test_hostile_output(tmp_path: Path, log: list[str]) -> None:
    lines = [b"\x1b[2Jred\x07", b"caf\xe9 \x00", f"key {SECRET}".encode(), b"password=hunter2", b"y" * 5000]
    (tmp_path / "said").write_bytes(b"\r\n".join(lines) + b"\n")
    assert executed(tmp_path, log, "sh", "-c", f"cat {tmp_path}/said; cat {tmp_path}/said >&2; exit 1").startswith(
        "sh ended"
    )
    shown = [line.removeprefix("hook page: ") for line in log[1:]]
    assert shown[:5] == shown[5:]
    assert shown[:4] == ["\\x1b[2Jred\\x07", "caf\ufffd \\x00", f"key {pipeline.BLANK}", f"password={pipeline.BLANK}"]
    assert len(shown[4]) == 501
    assert all(line.isprintable() for line in log)


def test_very_many_lines(tmp_path: Path, log: list[str]) -> None:
    executed(tmp_path, log, "seq", "1000")
    assert log[1:] == [f"hook page: {number}" for number in range(981, 1001)]


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["/no/such/command"], "command: No such file or directory"),
        (["/etc/passwd"], "passwd: Permission denied"),
        (["sh", "-c", "kill -9 $$"], "sh was killed by signal 9"),
        (["sh", "-c", "exit 124"], "sh ended with exit 124"),
        (["true"], ""),
        (["sh", "-c", "sleep 600 & "], ""),  # what it leaves behind holds nobody up
    ],
)
def test_how_a_command_ends(tmp_path: Path, log: list[str], argv: list[str], problem: str) -> None:
    assert executed(tmp_path, log, *argv) == problem


class Service:
    """A service's container, or none. command: what is run in it."""

    def __init__(self, running: bool) -> None:
        self.running, self.asked = running, [("", "")]

    def state(self, service: str) -> ServiceState:
        return ServiceState(exists=True, running=self.running, status="running" if self.running else "exited")

    def command(self, service: str, argv: Sequence[str], *, env: Mapping[str, str], user: str) -> Command:
        if not self.running:
            raise NotFoundError("reach the service", service, "its container is exited")
        self.asked.append((service, user))
        return Command(argv, env)


@pytest.mark.parametrize("when", ["backup", "recovery", "drill"])
@pytest.mark.parametrize("running", [True, False])
def test_in_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str], when: str, running: bool
) -> None:  # fmt: skip
    """What a recovery finds down cannot be told anything, and is recovered all the same; its `after` is still run."""
    service = Service(running)
    monkeypatch.setattr(hooks, "connect", lambda config: service)
    monkeypatch.setattr(hook_debts, "connect", lambda config: service)
    config = configured(tmp_path, hook(tmp_path, when=when, service="web", user="app"))
    if running or when == "recovery":
        with hooks.continued(config, when, "database", log.append):
            pass
        service.running = True
        (check,) = hooks.finish(config, when, PASS, log.append)
        assert check.result == PASS
        assert journal(tmp_path) == [f"before page shop {when} "] * running + [f"after page shop {when} PASS"]
        assert set(service.asked[1:]) == {("web", "app")}
    else:
        with (
            pytest.raises(LifeboatError, match="its container is exited"),
            hooks.continued(config, when, "", log.append),
        ):
            pytest.fail("it went on")
        assert owed(config) == ["page"], "who cannot be reached is not told that it is over"


# --- over several processes -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recovery_in_several_processes(
    tmp_path: Path, children: list[subprocess.Popen[bytes]], log: list[str]
) -> None:
    """`before` once, before the first; `after` once, when the record is made."""
    entries = [hook(tmp_path, when="recovery"), hook(tmp_path, "cache", when="recovery", components=["database"])]
    config = configured(tmp_path, *entries)
    for _phase in ("protect", "restore"):
        assert begun(tmp_path, children, entries, PHASE, lasts=False).wait() == 0
    assert journal(tmp_path) == ["before page shop recovery ", "before cache shop recovery "]
    hook_debts.catch_up(config, log.append)
    assert not [*hook_debts.checked(config)], "a recovery that goes on is not disturbed"
    assert owed(config) == ["page", "cache"]
    watcher = watcher_of(config)
    checks = hooks.finish(config, hooks.RECOVERY, "FAIL", log.append)
    assert [(check.name, check.result) for check in checks] == [("hook cache", PASS), ("hook page", PASS)]
    assert journal(tmp_path)[2:] == ["after cache shop recovery FAIL", "after page shop recovery FAIL"]
    until(lambda: gone(watcher))


@pytest.mark.slow
def test_kill_9_of_a_later_process(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    entries = [hook(tmp_path, when="recovery")]
    config = configured(tmp_path)
    begun(tmp_path, children, entries, PHASE, lasts=False).wait()
    first = watcher_of(config)
    child = begun(tmp_path, children, entries, PHASE)
    assert watcher_of(config) != first
    until(lambda: gone(first))
    kill(child.pid)
    until(lambda: not owed(config))
    assert journal(tmp_path) == ["before page shop recovery ", "after page shop recovery KILLED"]


@pytest.mark.slow
def test_a_recovery_that_nobody_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:  # fmt: skip
    """Its controller is gone: after an hour without a run of the stack the watcher undoes it."""
    real = subprocess.Popen

    def impatient(argv: Sequence[str], **named: Any) -> subprocess.Popen[bytes]:
        program = argv[-1].replace(
            "import watch; ", "import watch; import sys; sys.modules[watch.__module__].PATIENCE = 1; "
        )
        return real([*argv[:-1], program], **named)

    monkeypatch.setattr(hook_watcher.subprocess, "Popen", impatient)
    config = configured(tmp_path, hook(tmp_path, when="recovery"))
    with hooks.continued(config, hooks.RECOVERY, "database", log.append):
        pass
    monkeypatch.undo()
    until(lambda: not owed(config))
    assert journal(tmp_path)[1:] == ["after page shop recovery KILLED"]


def test_a_recovery_does_not_begin_where_a_before_fails(tmp_path: Path, log: list[str]) -> None:
    entries = [hook(tmp_path, when="recovery"), hook(tmp_path, "broken", when="recovery", before=["false"])]
    config = configured(tmp_path, *entries)
    refused = pytest.raises(LifeboatError, match="Without it there is no recovery")
    with refused, hooks.continued(config, hooks.RECOVERY, "database", log.append):
        pytest.fail("it went on")
    assert journal(tmp_path)[1:] == ["after broken shop recovery FAIL", "after page shop recovery FAIL"]
    assert owed(config) == []


# --- where they are run -----------------------------------------------------------------------------------------------


def test_what_changes_the_host_in_its_turn_runs_the_hooks() -> None:
    """Every module that takes a turn, and every one that takes a backup on a way of its own."""
    calls: dict[str, set[str]] = {}
    core = layers.CORE / "phases"
    for path in sorted([*(layers.ROOT / "plugins" / "modules").glob("*.py"), *core.glob("*.py")]):
        called = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        names = calls.setdefault(path.stem, set())  # a module's phase has its name
        names |= {function.attr for function in called if isinstance(function, ast.Attribute)}
    # A fault is broken within a drill, whose own hooks run before it and after its end.
    turns = {name for name, names in calls.items() if "own_turn" in names} - {"drill_fault"}
    assert len(turns) == 8
    assert {name for name in turns if "continued" not in calls[name]} == set()
    plans = {name for name in calls if name.endswith("_plan")}
    assert {name for name in plans if "planned" not in calls[name]} == set()
    assert "running" in calls["objects_mirror"]


def module(root: Path, *entries: Mapping[str, Any]) -> dict[str, Any]:
    return settings(root, hooks=list(entries))


@pytest.mark.slow
def test_a_recovery_by_modules(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what stops the writers to the record, which says whether all was undone; check mode runs none."""
    monkeypatch.setattr(database_protect, "protect", lambda *_, **__: Protected("swap"))
    entries = [hook(tmp_path, when="recovery"), hook(tmp_path, "cache", when="recovery", components=["objects"])]
    given = {"settings": module(tmp_path, *entries)}
    plan = typed.plain(PLAN)
    run("database_protect", **given, plan=plan, check=True)
    assert journal(tmp_path) == []
    run("database_protect", **given, plan=plan)
    run("evidence", **given, **RECORD, check=True)
    assert journal(tmp_path) == ["before page shop recovery "]
    done = run("evidence", **given, **RECORD)
    assert journal(tmp_path)[1:] == ["after page shop recovery PASS"]
    assert done["verdict"] == "PASS"
    assert {"name": "hook page", "result": "PASS", "detail": "its after was run"} in done["record"]["checks"]
    assert "hook page" not in json.dumps(run("evidence", **given, **RECORD)["record"]["checks"]), "one that ran none"


@pytest.mark.slow
def test_a_recovery_that_is_not_undone_is_none(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its users still see the maintenance page."""
    monkeypatch.setattr(database_protect, "protect", lambda *_, **__: Protected("swap"))
    given = {"settings": module(tmp_path, hook(tmp_path, when="recovery", after=["false"]))}
    run("database_protect", **given, plan=typed.plain(PLAN))
    done = run("evidence", **given, **RECORD)
    assert done["verdict"] == "FAIL"
    assert "false ended with exit 1" in json.dumps(done["record"]["checks"])


def test_a_recovery_by_a_module_whose_before_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_protect, "protect", lambda *_, **__: pytest.fail("it was changed"))
    given = {"settings": module(tmp_path, hook(tmp_path, when="recovery", before=["false"]))}
    refused = run("database_protect", **given, plan=typed.plain(PLAN))
    assert (refused["failed"], refused["cause"]) == (True, "false ended with exit 1")
    assert "/etc/lifeboat/shop.json" in refused["remedy"]
    assert journal(tmp_path) == ["after page shop recovery FAIL"]


@pytest.mark.parametrize(("broken", "stamp"), [(False, ""), (True, ""), (False, "S")])
def test_a_restore_without_a_plan(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool, stamp: str
) -> None:
    """Nobody records it, so that it ends with itself; one of a plan does not."""
    backup = publish(tmp_path)

    def restore(*_: Any, **__: Any) -> dict[str, Any]:
        if broken:
            raise LifeboatError("restore it", "shop", "it broke")
        return {"id": backup.id, "checks": []}

    monkeypatch.setattr(database_recovery, "restore_database", restore)
    monkeypatch.setattr(logins, "opened_afterwards", lambda *_, **__: contextlib.nullcontext())
    given = module(tmp_path, hook(tmp_path, when="recovery"))
    assert run("database_restore", settings=given, stamp=stamp)["failed"] is broken
    after = [] if stamp else [f"after page shop recovery {'FAIL' if broken else 'PASS'}"]
    assert journal(tmp_path) == ["before page shop recovery ", *after]
    assert len(owed(configured(tmp_path))) == bool(stamp)
    hooks.finish(configured(tmp_path), hooks.RECOVERY, PASS, print)


@pytest.mark.parametrize("broken", [False, True])
def test_a_drill_by_modules(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """It ends by drill_end, also where the stack was not well and nothing was broken."""

    def begin(*_: Any, **__: Any) -> str:
        if broken:
            raise LifeboatError("see the steady state", "shop", "it is ill")
        return "well"

    monkeypatch.setattr(drill, "begin", begin)
    after = ["false"] if broken else hook(tmp_path)[AFTER]
    given = {"settings": {**module(tmp_path, hook(tmp_path, when="drill", after=after)), "environment": "drill"}}
    assert run("drill_begin", **given, scenario="backend")["failed"] is broken
    assert journal(tmp_path) == ["before page shop drill "]
    ended = run("drill_end", **given, scenario="backend", error="it is ill")
    assert journal(tmp_path)[1:] == ([] if broken else ["after page shop drill ABORTED"])
    assert ended["left"] == (["hook page: page: false ended with exit 1"] if broken else [])


def test_a_drill_beside_production(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rehearse(*_: Any, **__: Any) -> Any:
        with (tmp_path / "journal").open("a") as file:
            file.write("rehearse\n")
        raise LifeboatError("restore it", "shop", "no room")

    monkeypatch.setattr(beside, "rehearse", rehearse)
    entries = [hook(tmp_path, when="drill"), hook(tmp_path, "rows", when="drill", components=["database"])]
    run("drill_beside", settings=module(tmp_path, *entries), scenario="database")
    names = [line.split(" shop")[0] for line in journal(tmp_path)]
    assert names == ["before page", "before rows", "rehearse", "after rows", "after page"]
    assert {line.split()[-1] for line in journal(tmp_path) if "after" in line} == {"FAIL"}


def test_a_mirror_by_its_module(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a backup on a way of its own."""
    monkeypatch.setattr(mirror_take, "take", lambda *_, **__: publish_objects(tmp_path))
    monkeypatch.setattr(endpoints, "doubts", lambda *_, **__: Doubts())
    others = {"bucket": ["objects"], "files": ["config"]}
    entries = [hook(tmp_path), *(hook(tmp_path, name, components=each) for name, each in others.items())]
    run("objects_mirror", settings=module(tmp_path, *entries))
    names = [line.split(" shop")[0] for line in journal(tmp_path)]
    assert names == ["before page", "before bucket", "after bucket", "after page"]


def test_status_says_what_is_owed(tmp_path: Path) -> None:
    config = configured(tmp_path)
    hook_debts.keep(config, hook_debts.Debt(Hook("page", after=("false",)), "1-backup-page", "2026-11-24T02:00:00Z"))
    checks = {check.name: check for check in status.status(Opened(config), now=NOW).checks}
    assert checks["hooks"].result == FAIL


def test_a_plan_names_the_hooks(tmp_path: Path) -> None:
    entries = [
        hook(tmp_path, when="recovery", before=["page", "up"], after=["page", "down"]),
        hook(tmp_path, "cache", when="recovery", before=[], after=["redis-cli", "flushall"], service="cache",
             timeout=5, components=["database"]),
        hook(tmp_path, "bucket", when="recovery", components=["objects"]),
        hook(tmp_path, "nightly"),
    ]  # fmt: skip
    config = configured(tmp_path, *entries)
    assert hooks.planned(config, "database") == [
        "hook page: before: page up; after, in any case: page down; on the host, 60 s each at most",
        "hook cache: before: nothing; after, in any case: redis-cli flushall; in the service cache, 5 s each at most",
    ]
    assert len(hooks.planned(config, "database", "objects", "config")) == 3


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "hooks[0].name"),
    ({"name": "../x"}, "hooks[0].name"),
    ({"when": "verify"}, "hooks[0].when): 'verify' is not one of backup, recovery, drill"),
    ({"before": [], "after": []}, "has neither before nor after"),
    ({"before": "page up"}, "hooks[0].before): wants a list"),
    ({"before": [""]}, "a command and its arguments"),
    ({"before": ["mysql", f"-p{SECRET}"]}, "a secret does not belong into the words of a command"),
    ({"after": ["mysql", "--password", "hunter2"]}, "a secret does not belong into the words of a command"),
    ({"service": "--privileged"}, "hooks[0].service"),
    ({"user": "-x"}, "hooks[0].user"),
    ({"timeout": 0}, "hooks[0].timeout"),
    ({"comand": ["x"]}, "does not know comand"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_a_setting_that_is_wrong(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        config_module.from_mapping(settings(tmp_path, hooks=[hook(tmp_path, **changes)]), {"database_password": SECRET})
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_names_and_services(tmp_path: Path) -> None:
    configured(tmp_path, hook(tmp_path), hook(tmp_path, when="drill"))
    with pytest.raises(UsageError, match="used once for each"):
        configured(tmp_path, hook(tmp_path), hook(tmp_path))
    with pytest.raises(UsageError, match="not a Compose service"):
        configured(tmp_path, hook(tmp_path, service="web"), runtime={"type": "host"})


def test_a_component_that_no_stack_has(tmp_path: Path) -> None:
    config = configured(tmp_path, hook(tmp_path, components=["database", "databse"]))
    (problem,) = preflight.hooks(config)
    assert problem.startswith("lifeboat_hooks[0].components: 'databse' is none of database, ")
