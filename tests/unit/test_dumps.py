# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of other databases: real commands, run here in the place of a container; the servers are in
tests/integration/test_dumps.py."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside, drill
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import (
    backup,
    fresh,
    plan,
    presets,
    proof,
    recovery,
    sources,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps.facts import Facts, read_facts
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps.sources import Reached, Server
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.components import COMPONENTS
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.status_checks import JUDGEMENTS
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import DAMAGED, DOWN, HEALTHY, Unfinished
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpsDetails, HeldDump
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import DATA_OF
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import Volume
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age

FACTS_OF = "import sys; print(open(sys.argv[1]).read(), end='')"


def silent(_words: str) -> None:
    pass


class Runtime:
    """Of a stack whose servers are commands of this machine."""

    label = "test"

    def __init__(self, place: Path) -> None:
        self.place, self.running = place, True

    def state(self, service: str) -> ServiceState:
        status = "running" if self.running else "exited"
        return ServiceState(True, self.running, status, image="wiki:1", id=service, environment={})

    def image(self, service: str) -> str:
        return f"{service}:1"

    def dependants(self, service: str) -> list[str]:
        return ["app"]

    def data_mount(self, service: str, inside: str) -> DataMount:
        return DataMount("bind", str(self.place), self.place)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands are run here, and the runtime is that above."""

    def command(
        _container: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False,
        user: str = "",
    ) -> Command:  # fmt: skip
        del stdin, user
        return Command(list(argv), env)

    monkeypatch.setattr(sources, "exec_command", command)
    monkeypatch.setattr(sources, "compose", lambda run, _subject: run.runtime)
    (tmp_path / "data").mkdir()
    (tmp_path / "facts").write_text("rows of wiki.page\t3 17\naccount root\tx\n")
    (tmp_path / "dump").write_bytes(b"the dump\n")
    return tmp_path


def source(here: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "wiki", "service": "wiki", "take": ["cat", str(here / "dump")],
        "restore": ["sh", "-c", f"cat > {here}/restored"],
        "facts": [sys.executable, "-c", FACTS_OF, str(here / "facts")], "data": "/data", **changes,
    }  # fmt: skip


def opened(here: Path, *named: dict[str, Any], **settings: Any) -> Opened:
    (here / "backup").mkdir(exist_ok=True)
    run = Opened(
        config.from_mapping(
            {
                "stack": "shop", "runtime": {"project_directory": str(here)}, "state_directory": str(here / "state"),
                "repository": {"type": "local", "path": str(here / "backup")},
                "dumps": {"sources": list(named) or [source(here)]}, **settings,
            }
        )
    )  # fmt: skip
    run.runtime = Runtime(here / "data")  # type: ignore[assignment]
    return run


def details(manifest: Manifest) -> DumpsDetails:
    return manifest.detailed(DumpsDetails)


def levels(run: Opened, manifest: Manifest, level: str = "archive") -> list[Check]:
    return list(proof.levels(run, repositories.repository_of(run), manifest, level, silent))


# --- settings ---


@pytest.mark.parametrize(
    ("change", "where", "cause"),
    [
        ({"name": "Wiki"}, ".sources[0].name", "a name is plain"),
        ({"service": ""}, ".sources[0].service", "is not a Compose service"),
        ({"service": "-x"}, ".sources[0].service", "is not a Compose service"),
        ({"take": []}, ".sources[0]", "needs take too"),
        ({"take": [], "facts": [], "data": ""}, ".sources[0]", "needs take, facts, data too"),
        ({"restore": [" "]}, ".sources[0].restore", "a word each"),
        ({"password": "X"}, ".sources[0]", "user and password are a preset's"),
        ({"data": "data"}, ".sources[0].data", "is not a plain absolute path"),
        ({"data": "/data/../x"}, ".sources[0].data", "is not a plain absolute path"),
        ({"preset": "oracle"}, ".sources[0].preset", "oracle"),
        ({"preset": "mariadb", "password": "a=b"}, ".sources[0].password", "is the name of a variable"),
        ({"environment": {"a=b": "x"}}, ".sources[0].environment", "no variable can have"),
        ({"services": ["app"]}, ".sources[0].services", "set pause or stop"),
        ({"services": ["wiki"], "consistency": "pause"}, ".sources[0].services", "has to answer"),
        ({"limit": 0}, ".sources[0].limit", "0"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_right_is_named(here: Path, change: dict[str, Any], where: str, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened(here, source(here, **change))
    assert f"settings.dumps{where}" in caught.value.subject
    assert cause in caught.value.cause


def test_a_password_that_was_given_in_the_place_of_a_variable_is_not_shown(here: Path) -> None:
    with pytest.raises(UsageError) as caught:
        opened(here, {"name": "wiki", "service": "wiki", "preset": "mariadb", "password": "s3cret=1"})
    assert "s3cret" not in str(caught.value)


def test_a_name_and_a_service_are_used_once(here: Path) -> None:
    with pytest.raises(UsageError, match="used once"):
        opened(here, source(here), source(here, service="other"))
    with pytest.raises(UsageError, match="named once"):
        opened(here, source(here), source(here, name="other"))


def test_a_preset_needs_no_more_than_a_service(here: Path) -> None:
    for name in DATA_OF:
        (one,) = opened(here, {"name": "one", "service": "one", "preset": name}).config.dumps.sources
        assert one.data_path == DATA_OF[name]
    assert list(DATA_OF) == list(presets.PRESETS)
    assert {*presets.TRIED} <= {*presets.PRESETS}


# --- the words of a command ---


def test_no_password_is_in_the_words_of_any_command() -> None:
    for name, preset in presets.PRESETS.items():
        for words in (preset.take, preset.restore, preset.facts, preset.ping, preset.ready, preset.append_only):
            assert not [word for word in words if word.startswith(("--password", "-a", "-p"))], name


def test_an_account_takes_the_place_of_the_presets(here: Path) -> None:
    run = opened(here, {"name": "one", "service": "one", "preset": "mariadb", "user": "dumper"})
    (server,) = sources.servers(run)
    assert "--user=dumper" in server.argv("take")
    assert "--user=root" in server.argv("restore", initial=True), "a fresh server has no other"


def test_a_command_by_hand_takes_the_place_of_the_presets(here: Path) -> None:
    run = opened(here, {"name": "one", "service": "one", "preset": "valkey", "facts": ["count"]})
    (server,) = sources.servers(run)
    assert server.argv("facts") == ("count",)
    assert server.argv("take") == ("valkey-cli", "--rdb", "-")
    assert server.stopped


ENVIRONMENT = {"MARIADB_ROOT_PASSWORD": "one", "OTHER": "two", "VALKEY_PASSWORD_FILE": "/run/secrets/valkey"}


@pytest.mark.parametrize(
    ("preset", "password", "login"),
    [
        ("mariadb", "", {"MYSQL_PWD": "one"}),
        ("mysql", "", {}),
        ("mysql", "OTHER", {"MYSQL_PWD": "two"}),
        ("mysql", "/etc/secret", {"MYSQL_PWD": "of /etc/secret"}),
        ("valkey", "", {"REDISCLI_AUTH": "of /run/secrets/valkey"}),
        ("redis", "", {"REDISCLI_AUTH": "of the command"}),
    ],
)
def test_the_password_is_where_the_container_has_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, preset: str, password: str, login: dict[str, str]
) -> None:
    monkeypatch.setattr(sources, "_read", lambda server, container, path: f"of {path}")
    monkeypatch.setattr(sources, "_option", lambda container, name: "of the command")
    run = opened(here, {"name": "one", "service": "one", "preset": preset, "password": password})
    (server,) = sources.servers(run)
    environment = ENVIRONMENT if preset != "redis" else {}
    assert sources._login(server, "container", environment) == login


def test_a_variable_that_the_container_does_not_have_is_named(here: Path) -> None:
    run = opened(here, {"name": "one", "service": "one", "preset": "mysql", "password": "MISSING"})
    with pytest.raises(NotFoundError, match="has no variable MISSING"):
        sources._login(sources.servers(run)[0], "container", {})


def test_the_secret_is_in_no_repr(here: Path) -> None:
    (server,) = sources.servers(opened(here))
    assert "hush" not in repr(Reached(server, "container", login={"MYSQL_PWD": "hush"}))


# --- facts ---


def test_a_fact_is_a_name_and_what_comes_after_the_last_tab() -> None:
    assert sources.facts_of(["a\t1", "b\tc\t2", "alone", "a\t0"]) == {"a": "0\t1", "b\tc": "2", "alone": ""}


@pytest.mark.parametrize(
    ("now", "wrong", "unproved"),
    [
        ({"a": "1", "b": "2"}, (), ()),
        ({"a": "1", "b": "0"}, (), ()),  # it is as it was before the dump
        ({"a": "1", "b": "1"}, (), ("b differs",)),
        ({"a": "1"}, (), ("b is missing",)),
        ({"a": "2", "b": "2"}, ("a differs",), ()),
        ({"b": "2"}, ("a is missing",), ()),
        ({"a": "1", "b": "2", "c": "3"}, ("c is additional",), ()),
    ],
)
def test_what_was_written_meanwhile_is_proved_by_either_of_two(
    now: dict[str, str], wrong: tuple[str, ...], unproved: tuple[str, ...]
) -> None:
    found = Facts({"a": "1", "b": "2"}, {"b": "0"}).differences(now)
    assert (found.wrong, found.unproved) == (wrong, unproved)


def test_a_fact_that_went_or_came_meanwhile_may_be_there_or_not() -> None:
    facts = Facts({"a": "1", "new": "1"}, {"new": None, "gone": "1"})
    assert facts.differences({"a": "1"}).unproved == ()
    assert facts.differences({"a": "1", "gone": "1", "new": "1"}).unproved == ()
    assert facts.differences({"a": "1", "gone": "2"}).unproved == ("gone is additional",)


# --- a backup ---


def test_a_dump_is_in_its_artefact_and_the_facts_beside_it(here: Path) -> None:
    run = opened(here)
    manifest = backup.take(run, log=silent)
    entry = details(manifest).sources["wiki"]
    assert (entry.bytes, entry.lines, entry.unsettled, entry.image) == (9, 2, 0, "wiki:1")
    folder = here / "backup" / "dumps" / manifest.id
    plain = subprocess.run(["zstd", "-dc", str(folder / "wiki.dump.zst")], capture_output=True, check=True).stdout
    assert plain == b"the dump\n"
    told = subprocess.run(["zstd", "-dc", str(folder / entry.facts)], capture_output=True, check=True).stdout
    assert json.loads(told)["facts"] == {"rows of wiki.page": "3 17", "account root": "x"}
    assert {check.name: check.result for check in levels(run, manifest)} == {"dump of wiki": PASS}
    assert "wiki 9 B" in COMPONENTS["dumps"].summary(manifest)


def test_a_dump_that_ends_with_0_and_wrote_nothing_is_refused(here: Path) -> None:
    run = opened(here, source(here, take=["true"]))
    with pytest.raises(IntegrityError, match="true ended with 0 and wrote nothing"):
        backup.take(run, log=silent)
    assert not list((here / "backup" / "dumps").glob("dumps_backup_*")), "nothing is published"


def test_a_dump_that_ends_with_an_error_is_refused(here: Path) -> None:
    run = opened(here, source(here, take=["sh", "-c", "echo half; echo no such table >&2; exit 3"]))
    with pytest.raises(LifeboatError, match="no such table"):
        backup.take(run, log=silent)
    assert not list((here / "backup" / "dumps").glob("dumps_backup_*"))


@pytest.mark.parametrize(
    ("preset", "dump", "cause"),
    [
        ("mariadb", b"-- MariaDB dump\nCREATE TABLE x\n", "does not end"),
        ("mariadb", b"ERROR: no\n-- Dump completed\n", "does not begin"),
        ("mariadb", b"-- MariaDB dump\n\n-- Dump completed\n", ""),
        ("mysql", b"-- MySQL dump\n\n-- Dump completed on 2026-11-24  2:20:00\n", ""),
        ("valkey", b"VALKEY080" + b"\xff" + b"12345678", ""),
        ("redis", b"REDIS0011" + b"\xff" + b"\n\xff345678" + b"0123456789abcdef0123456789abcdef01234567", ""),
        ("redis", b"REDIS0011" + b"\xff" + b"1234", "does not end"),
        ("redis", b"ERR unknown command", "does not begin"),
        ("mongodb", b"\x6d\xe2\x99\x81 and more", ""),
    ],
)
def test_a_presets_dump_is_known_by_its_ends(here: Path, preset: str, dump: bytes, cause: str) -> None:
    (server,) = sources.servers(opened(here, {"name": "one", "service": "one", "preset": preset}))
    assert cause in backup._problem(server, dump[:256], dump[-256:])
    assert bool(cause) == bool(backup._problem(server, dump[:256], dump[-256:]))


@pytest.mark.slow
def test_a_command_that_never_ends_is_ended_with_all_that_it_started(here: Path) -> None:
    script = f"sleep 300 & echo $! > {here}/child; setsid sleep 300 & echo $! > {here}/apart; wait"
    run = opened(here, source(here, take=["sh", "-c", script], facts=["cat", str(here / "facts")], limit=5))
    with pytest.raises(LifeboatError, match="sh did not end in 5 s") as caught:
        backup.take(run, log=silent)
    assert "limit of wiki" in caught.value.remedy
    time.sleep(0.2)
    for name in ("child", "apart"):
        process = Path("/proc") / (here / name).read_text().strip() / "status"
        assert not process.exists() or "State:\tZ" in process.read_text(), (
            "as what runs in a container, it is found there"
        )


def test_facts_that_print_nothing_are_none(here: Path) -> None:
    (here / "facts").write_text("\n")
    with pytest.raises(LifeboatError, match="it printed nothing"):
        backup.take(opened(here), log=silent)


def test_an_error_that_a_client_prints_and_ends_with_0_is_no_fact(here: Path) -> None:
    server = Server(opened(here).config.dumps.sources[0], presets.PRESETS["valkey"])
    by_hand = Reached(server, "x")
    assert by_hand.facts(), "what was given by hand may begin as it likes"
    stub = here / "valkey-cli"
    stub.write_text("#!/bin/sh\necho 'NOAUTH Authentication required.'\n")
    stub.chmod(0o755)
    run = opened(here, {"name": "one", "service": "one", "preset": "valkey"})
    os.environ["PATH"] = f"{here}:{os.environ['PATH']}"
    try:
        with pytest.raises(LifeboatError, match="NOAUTH"):
            Reached(sources.servers(run)[0], "x").facts()
    finally:
        os.environ["PATH"] = os.environ["PATH"].partition(":")[2]


WRITES = """
import sys
path = sys.argv[1]
text = open(path).read()
print(text, end='')
open(path, 'w').write(text.replace('3 17', '4 20') if '3 17' in text else text)
"""


def test_a_server_that_was_written_is_dumped_again(here: Path) -> None:
    log: list[str] = []
    run = opened(here, source(here, facts=[sys.executable, "-c", WRITES, str(here / "facts")]))
    entry = details(backup.take(run, log=log.append)).sources["wiki"]
    assert "wiki was written while it was dumped; again" in log
    assert entry.unsettled == 0


COUNTS = """
import sys
path = sys.argv[1]
count = int(open(path).read() or 0) + 1
open(path, 'w').write(str(count))
print(f'rows\\t{count}')
print('table\\tx')
"""


def test_what_is_always_written_is_told(here: Path) -> None:
    (here / "facts").write_text("")
    run = opened(here, source(here, facts=[sys.executable, "-c", COUNTS, str(here / "facts")]))
    manifest = backup.take(run, log=silent)
    entry = details(manifest).sources["wiki"]
    assert (entry.lines, entry.unsettled) == (2, 1)
    facts = read_facts(repositories.repository_of(run), manifest, "wiki", age.keys(run.config))
    assert (facts.facts, facts.before) == ({"rows": "6", "table": "x"}, {"rows": "5"})
    checks = list(proof.comparison("restore of wiki", "wiki", facts, {"rows": "9", "table": "x"}))
    assert [(check.name, check.result) for check in checks] == [
        ("restore of wiki", PASS),
        (proof.UNSETTLED, COULD_NOT_VERIFY),
    ]
    assert "rows differs" in checks[1].detail


@pytest.mark.parametrize(
    ("facts", "dump"), [(30, 100_000), (12, 100_000), (30, 30_000)], ids=["as it was", "facts are gone", "smaller"]
)
def test_a_server_that_was_emptied_stops_the_backup(here: Path, facts: int, dump: int) -> None:
    run = opened(here)
    (here / "facts").write_text("".join(f"table {n}\tx\n" for n in range(30)))
    (here / "dump").write_bytes(os.urandom(100_000))
    backup.take(run, log=silent)
    (here / "facts").write_text("".join(f"table {n}\tx\n" for n in range(facts)))
    (here / "dump").write_bytes(os.urandom(dump))
    time.sleep(1)  # an id is a second
    stops = (facts, dump) != (30, 100_000)
    with pytest.raises(UsageError, match="wiki") if stops else contextlib.nullcontext():
        backup.take(run, log=silent)
    assert details(backup.take(run, log=silent, override=True)).accepted


def test_no_backup_while_a_recovery_has_not_ended(here: Path) -> None:
    run = opened(here)
    recovery_state.mark(run.config, recovery_state.RECOVERING_DUMPS, Unfinished("dumps_backup_20261124_022000"))
    with pytest.raises(LifeboatError, match="has not ended"):
        backup.take(run, log=silent)


def test_a_server_that_does_not_run_stops_the_backup(here: Path) -> None:
    run = opened(here)
    run.runtime.running = False  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError, match="its container is exited") as caught:
        backup.take(run, log=silent)
    assert "lifeboat.dr.recover_dumps" in caught.value.remedy


def test_no_room_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: object, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup._Edges, "write", full)
    with pytest.raises(LifeboatError, match="No space left on device"):
        backup.take(opened(here), log=silent)


# --- its proof ---


def test_a_damaged_dump_fails(here: Path) -> None:
    run = opened(here)
    manifest = backup.take(run, log=silent)
    assert levels(run, manifest)[0].result == PASS
    path = here / "backup" / "dumps" / manifest.id / "wiki.dump.zst"
    path.chmod(0o600)
    path.write_bytes(subprocess.run(["zstd", "-c"], input=b"the dunp\n", capture_output=True, check=True).stdout)
    (check,) = levels(run, manifest)
    assert (check.result, check.detail) == (FAIL, "wiki.dump.zst has other bytes than were dumped")


@contextlib.contextmanager
def volume(_stack: str) -> Iterator[None]:
    yield None


def restores(now: str, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    """In the place of a throw-away server: the restore is run, and the facts are these then."""

    @contextlib.contextmanager
    def restored(run: Opened, server: Server, entry: HeldDump, dump: fresh.Dump, data: object) -> Iterator[Reached]:
        del run, entry, data
        reached = Reached(server, "fresh", initial=True)
        with dump() as stream:
            reached.run("restore", attempted="restore the dump", source=stream)
        (here / "facts").write_text(now)
        yield reached

    monkeypatch.setattr(fresh, "restored", restored)
    monkeypatch.setattr(fresh, "volume", volume)
    for name in ("sweep", "sweep_volumes"):
        monkeypatch.setattr(scratch, name, lambda _stack: None)


@pytest.mark.parametrize(
    ("now", "result", "words"),
    [
        ("rows of wiki.page\t3 17\naccount root\tx\n", PASS, "2 facts are those that were taken with the dump"),
        ("rows of wiki.page\t3 18\naccount root\tx\n", FAIL, "rows of wiki.page differs"),
        ("account root\tx\n", FAIL, "rows of wiki.page is missing"),
    ],
)
def test_a_restore_is_proved_by_the_facts(
    here: Path, monkeypatch: pytest.MonkeyPatch, now: str, result: str, words: str
) -> None:
    run = opened(here)
    manifest = backup.take(run, log=silent)
    restores(now, monkeypatch, here)
    found = levels(run, manifest, "restore")
    assert [(check.name, check.result) for check in found] == [("dump of wiki", PASS), ("restore of wiki", result)]
    assert words in found[1].detail
    assert (here / "restored").read_bytes() == b"the dump\n"


@pytest.mark.parametrize(("now", "verdict"), [("x\n", PASS), ("y\n", FAIL)])
def test_a_rehearsal_beside_production_is_proved_by_the_facts(
    here: Path, monkeypatch: pytest.MonkeyPatch, now: str, verdict: str
) -> None:
    """Red where only a recovery's check counted as one: "the dumps was compared with nothing"."""
    monkeypatch.setattr(beside, "portrait", lambda _: {"volume shop_wiki": "there"})
    monkeypatch.setattr(drill, "steady", lambda *_: [])
    run = opened(here)
    (here / "facts").write_text("x\n")
    backup.take(run, log=silent)
    restores(now, monkeypatch, here)
    made = beside.rehearse(run, "dumps", reason="r", operator="o", target=60, log=silent)
    assert made.verdict == verdict, made.checks


def test_a_restore_that_could_not_be_tried_proves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(here)
    manifest = backup.take(run, log=silent)

    def refused(*_: object) -> None:
        raise UnverifiedError("use the image", "wiki:2", "it is of MariaDB 12.0, and the dump of 11.8")

    restores("x\n", monkeypatch, here)
    monkeypatch.setattr(fresh, "restored", refused)
    assert levels(run, manifest, "restore")[1].result == COULD_NOT_VERIFY


def test_a_source_that_is_named_no_more_cannot_be_restored(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = backup.take(opened(here), log=silent)
    restores("x\n", monkeypatch, here)
    other = opened(here, source(here, name="other", service="other"))
    assert levels(other, manifest, "restore")[1].result == COULD_NOT_VERIFY
    checks = list(JUDGEMENTS["dumps"](other.config, repositories.repository_of(other), manifest))
    assert [(check.name, check.result) for check in checks] == [("dumps sources", COULD_NOT_VERIFY)]


def test_an_image_of_another_major_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(here, {"name": "one", "service": "one", "preset": "mariadb"})
    (server,) = sources.servers(run)
    entry = HeldDump("one.dump.zst", version="11.8")
    for printed, cause in (
        ("mariadbd  Ver 11.8.9-MariaDB", ""),
        ("mariadbd  Ver 10.11.4-MariaDB", "it is of MySQL or MariaDB 10.11, and the dump of 11.8"),
        ("exec: mariadbd: not found", "not found"),
    ):
        monkeypatch.setattr(pipeline, "probe", lambda *_, printed=printed, **__: (0, printed, ""))
        with pytest.raises(UnverifiedError, match=cause) if cause else contextlib.nullcontext():
            fresh.require_version("image", server, entry)


def test_the_mount_of_a_server_is_the_nearest_above_its_data() -> None:
    volumes = [Volume("volume", "a", "/bitnami"), Volume("volume", "b", "/bitnami/mariadb"), Volume("bind", "c", "/x")]
    assert fresh.target_of(volumes, "/bitnami/mariadb/data") == "/bitnami/mariadb"
    assert fresh.target_of(volumes, "/var/lib/mysql") == "/var/lib/mysql"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ((), []),
        (("mariadbd", "--lower-case-table-names=1", "x"), ["--lower-case-table-names=1"]),
        ("--innodb-page-size=8k --skip-log-bin", ["--innodb-page-size=8k", "--skip-log-bin"]),
        (("--init-connect=SET PASSWORD = 'hush'", "--report-password=hush"), []),
    ],
)
def test_a_throw_away_server_has_the_options_of_the_service_and_runs_no_event(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: Any, options: list[str]
) -> None:
    """An event that deletes rows would make a difference that the dump does not have."""
    run = opened(here, {"name": "one", "service": "one", "preset": "mariadb"})
    monkeypatch.setattr(fresh, "definition", lambda _run, _service: (sources.Definition(command=command), {}))
    assert fresh._own_options(run, sources.servers(run)[0]) == [*options, "--event-scheduler=OFF"]


@pytest.mark.parametrize("names", [["other.dump.zst", "wiki.facts.json.zst"], ["wiki.dump.zst"]])
def test_details_that_name_what_is_not_there_are_impossible(names: list[str]) -> None:
    held = DumpsDetails(sources={"wiki": HeldDump("wiki.dump.zst", "wiki.facts.json.zst")})
    assert "no artefact is called" in held.impossible(names)
    assert held.impossible(["wiki.dump.zst", "wiki.facts.json.zst"]) == ""


def test_a_fresh_servers_directory_has_the_mode_of_the_living_ones(here: Path, narrow_umask: None) -> None:
    (here / "data").chmod(0o755)
    with recovery._beside("shop", DataMount("bind", str(here / "data"), here / "data"), "20261121_120000") as data:
        assert data.path.stat().st_mode & 0o7777 == 0o755
    assert [path.name for path in here.iterdir() if "restored" in path.name] == []


# --- a plan ---


@pytest.fixture
def dumped(here: Path) -> Opened:
    run = opened(here)
    backup.take(run, log=silent)
    return run


def planned(run: Opened, **request: Any) -> plan.Plan:
    return plan.make(run, Request(**request), log=silent)


def test_nothing_is_to_be_done_while_everything_is_there(dumped: Opened) -> None:
    found = planned(dumped)
    assert (found.needed, found.condition, found.steps) == (False, HEALTHY, ())


def test_what_was_written_since_is_somebodys_work(dumped: Opened, here: Path) -> None:
    (here / "facts").write_text("rows of wiki.page\t9 99\naccount root\tx\nrows of wiki.new\t1 1\n")
    found = planned(dumped)
    assert (found.needed, found.condition) == (False, HEALTHY)
    assert "stays as it is" in found.warnings[0]
    wanted = planned(dumped, identity=str(found.backup["id"]))
    assert (wanted.needed, wanted.condition) == (True, HEALTHY)
    assert "goes back to" in wanted.warnings[0]
    assert wanted.writers == ("app",)


def test_what_is_missing_is_damage(dumped: Opened, here: Path) -> None:
    (here / "facts").write_text("account root\tx\n")
    found = planned(dumped)
    assert (found.needed, found.condition, found.sources[0].missing) == (True, DAMAGED, 1)
    assert "rows of wiki.page is missing" in found.findings[0]
    assert not [step for step in found.steps if step.startswith("start")]
    assert "stop: app" in found.steps
    assert any(line.endswith("is damaged") for line in plan.text(found))


def test_a_server_that_does_not_run_is_started_first(dumped: Opened) -> None:
    dumped.runtime.running = False  # type: ignore[attr-defined]
    found = planned(dumped)
    assert (found.needed, found.condition) == (True, DOWN)
    assert found.steps[0].startswith("start: wiki")


def test_a_server_that_answers_and_does_not_tell_is_no_reason_to_replace_it(
    dumped: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_self: Reached) -> dict[str, str]:
        raise LifeboatError("ask what it holds", "wiki", "Access denied for user 'root'")

    monkeypatch.setattr(Reached, "facts", denied)
    monkeypatch.setattr(Reached, "answers", lambda _self: True)
    with pytest.raises(LifeboatError, match="Access denied"):
        planned(dumped)


def test_what_it_was_recovered_to_is_not_done_again(dumped: Opened, here: Path) -> None:
    (here / "facts").write_text("rows of wiki.page\t9 99\naccount root\tx\n")
    identity = str(planned(dumped).backup["id"])
    recovery_state.keep(dumped.config, f"{plan.RECOVERED}wiki", json.dumps({"id": identity, "at": "now"}))
    assert not planned(dumped, identity=identity).needed
    assert planned(dumped, identity=identity, force=True).needed


def test_a_recovery_that_has_not_ended_is_gone_on_with(dumped: Opened) -> None:
    recovery_state.mark(dumped.config, recovery_state.RECOVERING_DUMPS, Unfinished("x", additional=("wiki",)))
    found = planned(dumped)
    assert (found.needed, found.why) == (True, "wiki: a recovery of it has not ended")


def test_what_an_earlier_recovery_stopped_is_started_though_nothing_is_missing(
    dumped: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed when every server was back, and nobody else would start who uses them."""
    started: list[tuple[str, ...]] = []

    def reopened(_run: Any, services: Any, **_how: Any) -> list[Check]:
        started.append(tuple(services))
        return [Check("services", PASS)]

    assert not planned(dumped).needed
    recovery_state.keep(dumped.config, recovery_state.STOPPED, '["app"]')
    made = planned(dumped)
    assert (made.needed, made.why) == (True, "an earlier recovery stopped app and did not come to its end")
    assert ([step.partition(":")[0] for step in made.steps], made.condition) == (["reopen", "record"], "healthy")
    monkeypatch.setattr(reopen, "reopen", reopened)
    assert {check.result for check in recovery.recover(dumped, made, log=silent).checks} == {PASS}
    assert started == [("app",)]


def test_a_name_that_nobody_has_is_refused(dumped: Opened) -> None:
    with pytest.raises(UsageError, match="there are wiki"):
        planned(dumped, sources=("shop",))


def test_a_damaged_backup_gives_way(dumped: Opened, here: Path) -> None:
    time.sleep(1)
    newer = backup.take(dumped, log=silent)
    path = here / "backup" / "dumps" / newer.id / "wiki.dump.zst"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = planned(dumped)
    assert found.backup["id"] != newer.id
    assert [over.id for over in found.passed_over] == [newer.id]


def test_no_room_beside_it_is_said(dumped: Opened, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "facts").write_text("account root\tx\n")
    monkeypatch.setattr(filesystem, "free", lambda _path: 10)
    with pytest.raises(LifeboatError, match="10 B are free"):
        planned(dumped)


@pytest.mark.parametrize("lost", [False, True])
def test_nobody_is_started_who_would_fill_a_server_that_is_still_lost(
    dumped: Opened, here: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Its dump does not come back as it was. The living one goes on as it is found; of a lost one an image would make
    an empty one, in which the application begins anew."""
    (here / "facts").write_text("account root\tx\n")
    if not lost:
        (here / "data" / "ibdata1").touch()
    made = planned(dumped)
    restores("account root\tx\n", monkeypatch, here)
    if not lost:
        monkeypatch.setattr(reopen, "reopen", lambda *_, **__: [Check("services", PASS)])
    found = recovery.recover(dumped, made, log=silent)
    results = {check.name: check for check in found.checks}
    assert results["dump wiki, before the swap"].result == FAIL
    closed = list(recovery_state.kept_closed(dumped.config))
    assert bool(closed) == lost
    assert results["services"].result == (FAIL if lost else PASS)
    if lost:
        assert "the application stays stopped: the other databases were empty" in results["services"].detail
        assert "lifeboat.dr.recover_dumps again" in closed[0]
        assert planned(dumped).needed


def test_who_writes_stays_stopped_when_it_was_killed_between_two_directories(
    dumped: Opened, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "facts").write_text("account root\tx\n")
    (here / "data" / "ibdata1").touch()
    made = planned(dumped)
    restores("rows of wiki.page\t3 17\naccount root\tx\n", monkeypatch, here)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fresh, "stop", lambda _: None)
    monkeypatch.setattr(dumped.runtime, "stop", lambda *_, **__: (), raising=False)
    monkeypatch.setattr(recovery.quarantine, "put_aside", lambda *_, **__: ("aside", []))
    monkeypatch.setattr(recovery, "_swap", killed)
    with pytest.raises(KeyboardInterrupt):
        recovery.recover(dumped, made, log=silent)
    assert list(recovery_state.kept_closed(dumped.config)), "its place may be empty now"
