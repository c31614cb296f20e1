# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack's whole past in a directory, to be damaged; the commands and modules that read it; what they claim of it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import evidence_world
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store as evidence_store
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import clock_guard
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import tar
from builders import NOW, folder, make_manifest, prove, publish, publish_config, publish_objects, settings, store
from keeper_world import keeper_settings

LOG = """2026-11-23T02:00:01+0000 shop[100] DEBUG backup begins
2026-11-23T02:10:00+0000 shop[100] DEBUG backup ends
2026-11-24T02:00:01+0000 shop[200] DEBUG backup begins
2026-11-24T02:10:00+0000 shop[200] ERROR backup failed: Could not dump the database (shop): no space left.
"""
CRON = "0 2 * * * root lifeboat backup database --stack shop --wait 3600 --prune >/dev/null\n"


@dataclass(frozen=True)
class Done:
    """How one operation ended. claims: the good things that it said."""

    name: str
    code: int
    claims: frozenset[tuple[str, ...]] = frozenset()
    listed: frozenset[str] = frozenset()


@dataclass
class World:
    """`root` is `template`, until something is damaged."""

    template: Path
    root: Path
    intact: dict[int, Done] = field(default_factory=dict)

    def renew(self) -> None:
        clear(self.root)
        shutil.copytree(self.template, self.root, symlinks=True)


def clear(root: Path) -> None:
    """However deep, and whatever is in it."""
    if root.exists():
        shutil.rmtree(os.fsencode(root))


def build(root: Path) -> None:
    """What is good, what failed, what is broken, and what nobody looked at; evidence of both kinds; a host's memory."""
    for name in ("etc", "log", "cron", "locks", "metrics", "srv"):
        (root / name).mkdir(parents=True)
    given = settings(root, alarms={"backup_age_hours": 800_000, "proof_age_days": 36_000, "drill_age_days": 36_000})
    (root / "etc/shop.json").write_text(json.dumps(given, indent=1))
    (root / "etc/shop.secrets.json").write_text(json.dumps({"database_password": "hunter2-hunter2"}))
    (root / "log/shop.log").write_text(LOG)
    (root / "cron/lifeboat-shop").write_text(CRON)
    run = Opened(config.from_mapping(given))
    made = [publish(root, NOW - timedelta(days=days)) for days in (40, 3, 2, 1, 0)]
    prove(root, made[0])
    prove(root, made[1], checks.FAIL)
    prove(root, made[2], checks.COULD_NOT_VERIFY)
    prove(root, made[4], level="archive")
    (folder(root, made[3]) / "database.dump").unlink()
    publish_objects(root, NOW, of=made[4])
    archived(root)
    assert points.seal(run, now=NOW, log=len)[1]
    for body in (
        evidence_world.record(root, 3), evidence_world.drill(root, 2), evidence_world.proof(root, 1),
        evidence_world.proof(root, 1.5, checks.FAIL), evidence_world.proof(root, 1.7, checks.COULD_NOT_VERIFY),
    ):  # fmt: skip
        evidence_store.write(run.config, evidence_world.typed(body))
    clock_guard.accept(run.config, NOW)
    recovery_state.keep(run.config, recovery_state.RECOVERED, json.dumps({"id": made[0].id, "asked": "", "at": "x"}))
    for name in ("signatures.json", "objects-read.json", "endpoint-vault.json", "closed.json.was", "noncurrent.json"):
        (root / "state" / name).write_text(json.dumps({"schema": "x", "version": [1, 0], "at": "2026-11-24T12:00:00Z"}))
        (root / "state" / name).chmod(0o600)


def build_kept(root: Path) -> None:
    """A keeper's host, which has pulled two nights of a stack whose directory is mounted there."""
    for name in ("etc", "kept", "log", "cron"):
        (root / name).mkdir(parents=True)
    given = settings(root)
    for days in (1, 0):
        publish(root, NOW - timedelta(days=days))
        assert points.seal(Opened(config.from_mapping(given)), now=NOW - timedelta(days=days), log=len)[1]
    (root / "etc/shop.json").write_text(json.dumps({**given, "keeper": keeper_settings(root)}))
    assert command(World(root, root), "keeper", "pull")[0] == 0
    publish(root, NOW + timedelta(hours=1))  # what the next pull brings


def archived(root: Path) -> Manifest:
    """A configuration's backup, as builders makes one, with a real archive and its real listing."""
    for name, text in (("compose.yml", "services: {}\n"), (".env", "A=1\n"), ("below/app.yml", "a: 1\n" * 300)):
        (root / "srv" / name).parent.mkdir(exist_ok=True)
        (root / "srv" / name).write_text(text)
    (root / "srv/link").symlink_to("compose.yml")
    out = io.BytesIO()
    with tar.Packer(out, limit=1 << 20) as packer:
        packer.add(str(root / "srv"))
    listed = [{**entry.as_dict(), "archive": "config.tar.gz"} for entry in packer.packed.entries.values()]
    body = {"schema": "lifeboat.dr/files", "version": [1, 0], "files": listed}
    files = {"config.tar.gz": out.getvalue(), "files.json": json.dumps(body).encode()}
    plain = publish_config(root, recipients=[], secrets=0)
    clear(root / "backup/config")
    artefacts = tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    backup = dataclasses.replace(plain, artefacts=artefacts, details={**plain.details, "compose_files": []})
    with store(root).stage("config", backup.id) as staging:
        for name, data in files.items():
            (staging.path / name).write_bytes(data)
        staging.publish(backup.to_bytes())
    return backup


# Operations. Each is what an operator, cron or a playbook does.

Operation = Callable[[World], Done]


class Traceback(Exception):
    """An operation ended with what Lifeboat does not foresee, or without an end."""


@contextlib.contextmanager
def streams() -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Standard output and error as a process has them: bytes below, and UTF-8 that takes no half of a pair."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode("utf-8")


def command(world: World, *words: str) -> tuple[int, str]:
    """`lifeboat WORDS` on that host: its exit code and what it printed."""
    with streams() as (out, err):
        try:
            code = cli.main([*words, "--config-directory", str(world.root / "etc")])
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        finally:
            forget_log()
        said, told = text(out), text(err)
    if "Traceback (most recent call last)" in told:
        raise Traceback(told)
    return code, said


def forget_log() -> None:
    """The command opens its log once in a process."""
    log = logging.getLogger("lifeboat")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def module(world: World, name: str, **arguments: Any) -> dict[str, Any]:
    """A module's main(), as Ansible runs it; the JSON that it returns."""
    one = importlib.import_module(f"ansible_collections.lifeboat.dr.plugins.modules.{name}")
    warnings._global_warnings.clear()
    internal = {"_ansible_check_mode": True, "_ansible_diff": True}
    given = {"config_directory": str(world.root / "etc"), **arguments, **internal}
    with streams() as (out, _err), patch_module_args(given):
        with contextlib.suppress(SystemExit):
            one.main()
        said = text(out)
    found: dict[str, Any] = json.loads(said)
    if "exception" in found:
        raise Traceback(str(found["exception"]))
    return found


def listed(name: str, found: Sequence[dict[str, Any]], code: int = 0) -> Done:
    claims = {(word, item["id"]) for item in found for word in ("good", "proven") if item.get(word)}
    return Done(name, code, frozenset(claims), frozenset(item["id"] for item in found))


def _list(world: World) -> Done:
    code, said = command(world, "list", "--json")
    return listed("list", json.loads(said), code) if code == 0 else Done("list", code)


def _status(world: World) -> Done:
    code, said = command(world, "status", "--json")
    found = json.loads(said)
    if "checks" not in found:
        return Done("status", code)
    return Done("status", code, judged(found), frozenset(item["id"] for item in found["backups"]))


def judged(found: dict[str, Any]) -> frozenset[tuple[str, ...]]:
    """The checks that passed, and the verdict where it did."""
    good = {("check", item["name"]) for item in found["checks"] if item["result"] == checks.PASS}
    return frozenset(good | ({("verdict",)} if found["verdict"] == checks.PASS else set()))


def verify(identity: str, level: str) -> Operation:
    def work(world: World) -> Done:
        code, said = command(world, "verify", identity, "--level", level, "--json")
        found = json.loads(said)
        good = {("verified", identity, level)} if code == 0 and found.get("verdict") == checks.PASS else set()
        return Done(f"verify {identity} {level}", code, frozenset(good))

    return work


def plain(*words: str) -> Operation:
    """Only that it ends as it should."""

    def work(world: World) -> Done:
        code, said = command(world, *words)
        if "--json" in words:
            json.loads(said)
        return Done(" ".join(words), code)

    return work


def _report(world: World) -> Done:
    code, said = command(world, "report", "--json")
    found = json.loads(said)
    good = {
        ("evidence", item["id"], str(item["scenario"])) for item in found.get("records", ())
        if not item["problem"] and item["verdict"] == checks.PASS
    }  # fmt: skip
    return Done("report", code, frozenset(good))


def _info(world: World) -> Done:
    found = module(world, "backup_info")
    return listed("backup_info", [*found.get("backups", ()), *found.get("points", ())])


def called(name: str, **arguments: Any) -> Operation:
    def work(world: World) -> Done:
        found = module(world, name, **arguments)
        return Done(f"module {name}", int(bool(found.get("failed"))))

    return work


def _pulled(world: World) -> Done:
    """What a keeper has when it has pulled, or could not."""
    command(world, "keeper", "pull")
    return _list(world)


ID = make_manifest(NOW).id
OBJECTS, CONFIG, POINT = ID.replace("db_", "objects_"), ID.replace("db_", "config_"), ID[-15:]
PAST: tuple[Operation, ...] = (
    _list, _status, _info, verify("latest", "checksum"), verify(CONFIG, "restore"), verify(POINT, "checksum"),
    plain("verify", "--level", "archive", "--json"), plain("list"), plain("status"), plain("adopt"),
    plain("metrics", "--stdout"), plain("prune", "--dry-run", "--json", "--trust-clock"),
    plain("prune", "--trust-clock"), plain("checklist", "--period", "daily"), plain("quarantine", "--json"),
    plain("checklist", "--period", "monthly", "--json"), plain("checklist", "--period", "incident"),
    plain("escrow", "--print-kit"), plain("backup", "config", "--seal", "--json"),
    called("backup_verify", level="checksum"), called("backup_prune"), called("recovery_point"),
    called("checklist_info"),
    called("site_plan_info", recovery_point=POINT), called("point_fetch", recovery_point=POINT),
    called("config_deploy", id=CONFIG), called("database_plan_info"), called("site_scope_info"), called("vault"),
)  # fmt: skip
EVIDENCE: tuple[Operation, ...] = (
    _report, plain("report"), plain("checklist", "--period", "quarterly", "--json"), plain("metrics", "--stdout"),
    called("evidence_info"),
)  # fmt: skip
KEPT: tuple[Operation, ...] = (
    _pulled, plain("keeper", "pull", "--json"), plain("keeper", "pull", "--prune"), plain("keeper", "status"),
    plain("keeper", "status", "--json"), plain("keeper", "prune", "--dry-run", "--json"), plain("keeper", "prune"),
    plain("keeper", "log"), plain("keeper", "acknowledge", "--why", "looked"),
)  # fmt: skip
