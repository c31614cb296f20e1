# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that tests/fuzz found to stop a run, or to better a verdict, each once, by name."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import assess as backend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import host as backend_host
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import space
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, clock, filesystem, lock, pipeline, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database import cluster, fingerprint, majors
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as server_module
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Server, Session
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import transaction as drill_transaction
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import site as frontend_site
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import put_back
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    clocks,
    discover,
    escrow_kit,
    glances,
    preflight,
    prune,
    runs,
    schedule,
    shipping,
    status,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.preflight import Location
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, points
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import documents, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.connections import Reply
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer as stack_answer
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import files as stack_files
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import HostRuntime, Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import alertmanager, git, tar
from builders import NOW, Runner, entries, folder, make_config, prove, publish, settings, store

NO_DATES = ["99999999_999999", "00000000_000000", "20260230_250000"]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_has_no_utc_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="not ISO 8601"):
        clock.parse_time(text)


@pytest.mark.parametrize("stamp", NO_DATES)
def test_an_id_that_is_no_date_stops_nothing(tmp_path: Path, stamp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a backup and of a point under such a name: told as broken, and the good one is used."""
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path / "locks")
    one, run = publish(tmp_path), Opened(make_config(tmp_path))
    point, _new = points.seal(run, now=NOW, log=len)
    shutil.copytree(folder(tmp_path, one), folder(tmp_path, one).with_name(f"db_backup_{stamp}"))
    at = tmp_path / "backup/recovery-points"
    shutil.copy(at / f"{point.id}.json", at / f"{stamp}.json")
    found = {entry.id: entry for entry in entries(tmp_path)}
    assert (found[one.id].good, found[f"db_backup_{stamp}"].good) == (True, False)
    assert points.listing([], {"database": list(found.values())}, NOW)
    seen = status.status(run, now=NOW)
    assert [check.name for check in seen.checks if stamp in check.detail] == [
        "broken backups",
        "broken recovery points",
    ]
    planned = prune.prune(run, now=NOW, dry_run=True, log=len, trust_clock=True)
    assert one.id in planned["keep"]


def test_digits_of_other_scripts_are_no_id(tmp_path: Path) -> None:
    """`\\d` is any of 700 digits, and the same date in Arabic ones would be another backup with the same time."""
    one = publish(tmp_path)
    copied = folder(tmp_path, one).with_name(one.id.translate({48 + n: 0x660 + n for n in range(10)}))
    shutil.copytree(folder(tmp_path, one), copied)
    assert [entry.id for entry in entries(tmp_path)] == [one.id]


DAMAGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "cut": lambda record: None,
    "no levels": lambda record: record.pop("levels"),
    "another word": lambda record: record["levels"]["restore"].update(verdict="FAIM"),
    "another level": lambda record: record["levels"].update(sestore=record["levels"].pop("restore")),
    "another seal": lambda record: record.update(seal=f"0{record['seal'][1:-1]}0"),
    "another backup's": lambda record: record.update(id="db_backup_20200101_000000", seal="x", levels={}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_failure_is_not_forgotten_with_its_record(tmp_path: Path, damage: str) -> None:
    """One flipped bit in verification.json made a backup that had failed a good one."""
    one = publish(tmp_path)
    prove(tmp_path, one, checks.FAIL)
    (intact,) = entries(tmp_path)
    assert (intact.good, intact.failures) == (False, 1)
    path = folder(tmp_path, one) / "verification.json"
    record = json.loads(path.read_bytes())
    DAMAGED[damage](record)
    path.write_text(json.dumps(record)[: 40 if damage == "cut" else None])
    (found,) = entries(tmp_path)
    assert (found.good, found.failures, found.unknown) == (False, 1, False)
    assert f"lifeboat verify {one.id}" in found.problem
    with pytest.raises(IntegrityError):
        catalog.choose([found], "shop", identity=one.id, accept=False)
    assert catalog.choose([found], "shop", identity=one.id, accept=True)[0].id == one.id
    prove(tmp_path, one)
    assert entries(tmp_path)[0].good, "a new verification says what is so"


@pytest.mark.parametrize("damage", ["cut", "another seal"])
def test_a_proof_is_lost_with_its_record(tmp_path: Path, damage: str) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one)
    path = folder(tmp_path, one) / "verification.json"
    record = json.loads(path.read_bytes())
    DAMAGED[damage](record)
    path.write_text(json.dumps(record)[: 40 if damage == "cut" else None])
    assert entries(tmp_path)[0].proven_at is None


def test_a_huge_document_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = publish(tmp_path)
    monkeypatch.setattr(filesystem, "LARGEST", 1000)
    (found,) = entries(tmp_path)
    assert (found.id, found.good) == (one.id, False)
    assert "it has more than" in found.problem


def test_directories_may_be_deeper_than_recursion(tmp_path: Path) -> None:
    at, top = os.open(tmp_path, os.O_RDONLY), tmp_path / "d"
    for _level in range(1200):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    try:
        assert len(list(filesystem.walk(top))) == 1200
        assert len(filesystem.relative_files(top)) == 1
        filesystem.remove(top)
        assert not top.exists()
    finally:
        subprocess.run(["rm", "-rf", top], check=True)  # pytest could not remove it either


@pytest.mark.parametrize("levels", [1200, 2000], ids=["deeper than recursion", "longer than a path"])
def test_a_deep_directory_in_a_backup_does_not_end_what_glances_at_it(tmp_path: Path, levels: int) -> None:
    """`lifeboat metrics` ended in a RecursionError."""
    one = publish(tmp_path)
    top = folder(tmp_path, one) / "dd"
    at = os.open(top.parent, os.O_RDONLY)
    for _level in range(levels):
        os.mkdir("dd", dir_fd=at)
        below = os.open("dd", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        (found,) = glances.everything(store(tmp_path), make_config(tmp_path)).backups["database"]
        assert found.id == one.id
    finally:
        subprocess.run(["rm", "-rf", top], check=True)  # pytest could not remove it


def test_a_tree_is_removed_without_following_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "gone/below/deep").mkdir(parents=True)
    for place in ("gone", "gone/below", "gone/below/deep"):
        (tmp_path / place / "link").symlink_to(tmp_path / "kept")
        (tmp_path / place / "file").touch()
    filesystem.remove(tmp_path / "gone")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


ODD: dict[str, Callable[[Path], object]] = {
    "a directory": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "no JSON": lambda path: path.write_bytes(b"\xff"),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_file_of_the_state_directory_that_is_none_is_forgotten(tmp_path: Path, odd: str) -> None:
    """A link to /dev/zero was read until 20 GB of memory were full, a pipe for ever."""
    made = make_config(tmp_path)
    made.state.mkdir()
    ODD[odd](made.state / clocks.MARK)
    ODD[odd](made.state / state.RECOVERED)
    assert state.recovered(made) is None
    clocks.require(made, [NOW], NOW)


def test_another_stacks_configuration_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "blog.json").mkdir()
    (tmp_path / "shop.json").write_text(json.dumps(settings(tmp_path)))
    assert preflight.shared(Location("app1", "app1", "shop", {"type": "local", "path": "/backup"}), [], tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        {"state_directory": "/var/lib/\0"},
        {"runtime": {"project_directory": "/srv/\0"}},
        {"repository": {"type": "local", "path": "/ba\0ckup"}},
        {"application": {"writers": ["a\0"]}},
        {"targets": {"\0": 1}},
    ],
)
def test_a_nul_in_the_configuration_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has a NUL byte"):
        config.from_mapping({**settings(tmp_path), **change})


@pytest.mark.parametrize("change", [{"state_directory": "/var/lib/\ud800"}, {"targets": {"\udfff": 1}}])
def test_half_a_character_in_the_configuration_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """JSON can spell one, and no file, argument or database can be named by it."""
    with pytest.raises(UsageError, match="has half a character"):
        config.from_mapping({**settings(tmp_path), **change})


@pytest.mark.parametrize("url", ["http://[::1", "https://a:99999/x", "http://a:b/"])
@pytest.mark.parametrize(
    "place",
    [
        lambda url: {"vault": {"endpoint_url": url, "objects_bucket": "m"}},
        lambda url: {"repository": {"type": "s3", "endpoint_url": url, "bucket": "b"}},
        lambda url: {"application": {"checks": [{"url": url}]}},
        lambda url: {"frontend": {"url": url, "repository": "a/b"}},
    ],
    ids=["vault", "repository", "checks", "frontend"],
)
def test_an_address_without_a_place_is_refused(
    tmp_path: Path, place: Callable[[str], dict[str, Any]], url: str
) -> None:
    """`status` and `backup objects` ended in a traceback for such an endpoint_url."""
    with pytest.raises(UsageError, match="is not an address: its host or its port"):
        config.from_mapping({**settings(tmp_path), **place(url)})
    for right in ("http://[::1]:9000", "https://a.example:8443/x?y={token}", "ssh://git@a.example:b/c.git"):
        assert config._has_a_place(right)


def test_alertmanagers_address_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="it is not an http or https address"):
        alertmanager.Client("http://[::1")


def test_a_line_of_the_log_with_no_date_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LOGS", tmp_path)
    good = "2026-11-24T02:00:00+0000 shop[1] DEBUG backup begins\n2026-11-24T02:01:00+0000 shop[1] DEBUG backup ends\n"
    (tmp_path / "shop.log").write_text(f"2026-02-30T02:00:00+0000 shop[1] DEBUG backup begins\n{good}")
    assert [run.at for run in schedule.runs(make_config(tmp_path))] == [
        datetime(2026, 11, 24, 2, 1, tzinfo=timezone.utc)
    ]


LYING: dict[str, dict[str, str]] = {
    "an endless time": {"mtime": "inf"},
    "no time": {"mtime": "nan"},
    "an owner beyond all": {"uid": str(2**70)},
    "an owner below all": {"uid": "-1"},
    "a group that means none": {"gid": str(2**32 - 1)},
}


@pytest.mark.parametrize("lie", LYING)
def test_a_header_of_an_archive_that_lies_is_refused(lie: str) -> None:
    """Such an owner was written to the disk with an OverflowError, half the archive later."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("file")
        member.pax_headers = LYING[lie]
        archive.addfile(member)
    with pytest.raises(IntegrityError, match="read the archive"):
        tar.read(io.BytesIO(out.getvalue()), "archive")


def _packed(name: str, **headers: str) -> bytes:
    """An archive of one file of one byte, as its headers have it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size, member.pax_headers = 1, headers
        archive.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()


@pytest.mark.parametrize("size", [str(2**62), "-5", "9" * 30])
def test_a_size_that_lies_is_refused(size: str) -> None:
    with pytest.raises(IntegrityError, match=r"it is cut|is cut\."):
        tar.read(io.BytesIO(_packed("file", size=size)), "archive")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:1024] + b"x" + data[1025:], lambda data: data[:1024]], ids=["header", "end"]
)
def test_an_archive_that_ends_too_early_is_refused(damage: Callable[[bytes], bytes]) -> None:
    """Python's reader takes a header that it cannot read, and a missing one, for the end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("a", "b"):
            archive.addfile(tarfile.TarInfo(name))
            archive.addfile(tarfile.TarInfo(f"{name}2"))
    whole = gzip.compress(out.getvalue())
    assert list(tar.read(io.BytesIO(whole), "archive")) == ["/a", "/a2", "/b", "/b2"]
    with pytest.raises(IntegrityError, match="it is cut or damaged"):
        tar.read(io.BytesIO(gzip.compress(damage(out.getvalue()))), "archive")


def test_a_name_that_no_file_system_takes_is_told_in_short(tmp_path: Path) -> None:
    """It is in an archive that somebody planted, and its error is in logs and evidence."""
    data = _packed("n" * 100_000)
    entries = tar.read(io.BytesIO(data), "archive")
    with pytest.raises(LifeboatError) as error:
        tar.unpack(io.BytesIO(data), tmp_path, entries, "archive")
    assert "File name too long" in str(error.value)
    assert len(str(error.value)) < 10_000


def test_an_archive_of_two_thousand_levels_is_unpacked_and_removed(tmp_path: Path) -> None:
    """Its paths are longer than any that the system takes."""
    data, top = _packed("dd/" * 2000 + "file"), tmp_path / "top"
    top.mkdir()
    try:
        tar.unpack(io.BytesIO(data), top, tar.read(io.BytesIO(data), "archive"), "archive")
        found = subprocess.run(["find", top, "-type", "d"], check=True, capture_output=True, text=True)
        assert len(found.stdout.splitlines()) == 2001
        filesystem.remove(top)
        assert not top.exists()
    finally:
        subprocess.run(["rm", "-rf", top], check=True)  # pytest could not remove it either


def test_a_listing_names_owners_that_there_can_be() -> None:
    body = {"schema": "lifeboat.dr/files", "version": [1, 0]}
    file = {"path": "/x", "type": "file", "mode": "0644", "uid": 2**32, "gid": 0, "mtime": 0}
    with pytest.raises(IntegrityError, match="uid"):
        restore.parse_listing(json.dumps({**body, "files": [file]}).encode(), "x")


@pytest.mark.parametrize("name", ["ExecMainStatus", "NRestarts"])
def test_what_systemd_says_instead_of_a_number(name: str, tmp_path: Path, runner: Runner) -> None:
    runner.expect("systemctl show", f"LoadState=loaded\n{name}=many\n")
    with pytest.raises(LifeboatError, match=f"its {name} is not a number: 'many'"):
        HostRuntime(make_config(tmp_path)).state("postgresql")


@pytest.mark.parametrize("keep", [600, 1100, 1600])
def test_an_archive_that_ends_inside_a_file_is_told(keep: int) -> None:
    """The content is read by who asked for the archive: what tarfile said of its end there was nobody's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 5000
        archive.addfile(member, io.BytesIO(bytes(5000)))
    with pytest.raises(IntegrityError, match="it is cut"):
        tar.read(io.BytesIO(gzip.compress(out.getvalue()[:keep])), "archive")


def test_a_link_that_no_file_system_takes_is_told(tmp_path: Path) -> None:
    out, entry = io.BytesIO(), tar.Entry("/link", tar.LINK, 0o777, 0, 0, 0, target="/etc/\0")
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("link")
        member.type, member.pax_headers = tarfile.SYMTYPE, {"linkpath": entry.target}
        archive.addfile(member)
    with pytest.raises(IntegrityError, match="cut or damaged"):
        tar.unpack(io.BytesIO(out.getvalue()), tmp_path, {entry.path: entry}, "archive")


def test_a_configuration_that_is_no_plain_file_is_told(tmp_path: Path) -> None:
    """A link to /dev/zero was read until the memory was full, a pipe for ever; a link to a file is an operator's."""
    for number, odd in enumerate(("a pipe", "an endless device")):
        ODD[odd](tmp_path / f"odd{number}.json")
        with pytest.raises(UsageError, match="Not a plain file"):
            config.load(f"odd{number}", tmp_path)
    (tmp_path / "kept.txt").write_text(json.dumps(settings(tmp_path)))
    (tmp_path / "shop.json").symlink_to("kept.txt")
    assert config.load("shop", tmp_path).stack == "shop"


@pytest.mark.parametrize("odd", [*ODD, "a link to nothing"])
def test_what_is_remembered_of_a_run_ends_none(tmp_path: Path, odd: str) -> None:
    """A directory of that name made a traceback of a backup that was done."""
    made, at = make_config(tmp_path), tmp_path / "state/runs/backup_config.json"
    at.parent.mkdir(parents=True)
    ODD.get(odd, lambda path: path.symlink_to("nothing"))(at)
    with contextlib.suppress(LifeboatError):  # a directory cannot be replaced, which is told
        runs.remember(made, "backup_config", 0, NOW, NOW)
        assert runs.read(made, "backup_config") is not None


@pytest.mark.parametrize("odd", ["a pipe", "an endless device"])
def test_an_owners_env_that_has_no_end_is_not_read(tmp_path: Path, odd: str) -> None:
    """The project belongs to an unprivileged user, and root reads it."""
    made = make_config(tmp_path)
    ODD[odd](tmp_path / ".env")
    assert backend_assess.environment(made) == {}
    assert stack_files._values(str(tmp_path / ".env")) == {}
    (tmp_path / ".env").unlink()
    (tmp_path / "kept").write_text("A=1\n")
    (tmp_path / ".env").symlink_to("kept")
    assert backend_assess.environment(made) == stack_files._values(str(tmp_path / ".env")) == {"A": "1"}
    ODD[odd](tmp_path / "more.yml")
    (tmp_path / "compose.yml").write_text("include: [more.yml]\nx: ${A:?}\n")
    assert backend_assess.needed_variables(made) == ((), ())
    assert stack_files._fragments([str(tmp_path / "compose.yml")], str(tmp_path), set()) == []


def test_a_cron_file_and_a_log_that_are_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "CRON", tmp_path)
    monkeypatch.setattr(schedule, "LOGS", tmp_path)
    os.mkfifo(tmp_path / "lifeboat-shop")
    os.mkfifo(tmp_path / "shop.log")
    text, found = schedule._file(make_config(tmp_path), tmp_path / "lifeboat-shop")
    assert (text, found.result) == ("", checks.COULD_NOT_VERIFY)
    assert schedule.runs(make_config(tmp_path)) == []


def test_rows_that_are_not_utf_8_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_commands: object, *, sink: Any, **_: Any) -> None:
        sink.write(b'"\xe9"\n')

    monkeypatch.setattr(pipeline, "run", run)
    server = Server(lambda argv, **_: pipeline.Command(argv), user="app")
    with pytest.raises(LifeboatError, match="is not UTF-8"):
        server.stream("SELECT 1;", print, database="shop", attempted="read the rows")


@pytest.mark.parametrize("said", ["", "\n", "warning: x\n", "\0"])
def test_a_git_remote_that_names_no_commit(runner: Runner, said: str) -> None:
    runner.expect("git ls-remote", said)
    with pytest.raises(LifeboatError, match="it names no commit"):
        git.Remote("https://git.example/app.git", "main", "").head()


@pytest.mark.parametrize("port", ["²", "9" * 5000, "-1", "", "٣"])
def test_a_published_port_that_is_no_number(port: str) -> None:
    service = typed.build(
        discover._Service, {"ports": [{"protocol": "tcp", "target": 80, "published": port}]},
        lambda where, cause: LifeboatError("read", where, cause), unknown="ignore",
    )  # fmt: skip
    assert service.published(80) == 0


NESTED = "[" * 100_000
DEEP_POLICY = b'{"a":' + b"[" * 100_000
DEEP_POLICY = b'{"a":' + b"[" * 100_000


def test_nesting_that_no_parser_follows_in_what_others_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "daemon.json").write_text(NESTED)
    monkeypatch.setattr(backend_host, "Path", lambda _: tmp_path / "daemon.json")
    assert backend_host.docker_root() == backend_host.DOCKER_ROOT
    described = tmp_path / "containers/a/config.v2.json"
    described.parent.mkdir(parents=True)
    for text in (NESTED, '{"Config": {"Labels": "x"}}', '{"Config": {"Labels": [1]}}'):
        described.write_text(text)
        assert space.logs(make_config(tmp_path), tmp_path) == []
    assert frontend_site.commit_of("version.json", NESTED.encode()) == ""
    (tmp_path / "os-release").write_bytes(b"PRETTY_NAME=caf\xe9\n")
    assert scope._system(tmp_path / "os-release") == "caf\ufffd"
    (tmp_path / "kit.json").write_text(NESTED)
    with pytest.raises(UsageError, match="it is no JSON"):
        escrow_kit._json(str(tmp_path / "kit.json"))


def test_a_policy_of_nested_arrays_is_compared_in_one_go() -> None:
    """Each level doubled the work: of 40 of them no server's answer was ever compared."""
    policy = "[" * 60 + "1" + "]" * 60
    assert s3_settings.alike(s3_settings.POLICY, policy, policy)
    for text in (NESTED, "", "{"):
        assert s3_settings.alike(s3_settings.POLICY, text, text)
        assert not s3_settings.alike(s3_settings.POLICY, text, "{}")
    told = s3_settings._parse_setting(
        s3_settings.POLICY, s3_settings._SETTINGS[s3_settings.POLICY], DEEP_POLICY, "x", "y"
    )
    assert told == {}


def test_a_setting_with_a_thousand_levels_of_xml_is_refused() -> None:
    deep = f"{'<a>' * 1500}{'</a>' * 1500}"
    with pytest.raises(LifeboatError, match="levels"):
        documents.read(deep, "bucket")
    assert not documents.same(deep, "<b/>", "bucket")
    with pytest.raises(LifeboatError, match="levels"):
        s3_settings._parse_setting(
            "lifecycle", s3_settings._SETTINGS["lifecycle"], deep.encode(), "read a setting", "bucket"
        )


@pytest.mark.parametrize("text", ["", "[]", "{", "3", NESTED])
def test_a_damaged_record_of_replaced_settings_is_kept(tmp_path: Path, text: str) -> None:
    run = Opened(make_config(tmp_path))
    path = tmp_path / "state/bucket_settings_S.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(IntegrityError, match="keep what is replaced"):
        put_back._keep(run, "uploads", {"tags": None}, "S", print)
    assert path.read_text() == text
    path.unlink()
    put_back._keep(run, "uploads", {"tags": None}, "S", print)
    put_back._keep(run, "more", {"tags": "x"}, "S", print)
    assert json.loads(path.read_text()) == {"uploads": {"tags": None}, "more": {"tags": "x"}}


def test_a_log_that_is_a_pipe_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("etc", "log"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc/shop.json").write_text(json.dumps(settings(tmp_path)))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    os.mkfifo(tmp_path / "log/shop.log")
    assert cli.main(["list", "--config-directory", str(tmp_path / "etc")]) == 0
    assert "shop.log is not a plain file" in caplog.text


def test_a_line_of_the_log_that_has_no_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python printed a traceback of its own, and the error was in no log."""
    (tmp_path / "log").mkdir()
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")

    def fail(_arguments: object) -> config.Config:
        raise LifeboatError("read the project", "shop", "volumes.a\ud800 wants a mapping")

    monkeypatch.setattr(cli, "_configured", fail)
    assert cli.main(["list", "--stack", "shop"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert "volumes.a\\ud800 wants" in (tmp_path / "log/shop.log").read_text(encoding="utf-8")


# A container's psql, as somebody who took it over made it: at each `\echo` it says much, and then the end.
TALKS = """
import sys
for line in sys.stdin:
    if line.startswith("\\\\echo "):
        for _turn in range(int(sys.argv[1])):
            sys.stdout.write(sys.argv[2])
        sys.stdout.write("\\n" + line[6:])
        sys.stdout.flush()
"""
MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize("said", ["0" * 1024, "[0]\n" * 256], ids=["one line", "many lines"])
def test_an_answer_of_a_session_has_an_end(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read until its last line, which the other side need not say."""
    monkeypatch.setattr(server_module, "ANSWER", MIB)

    def ask(kib: int) -> list[object]:
        command = pipeline.Command([sys.executable, "-c", TALKS, str(kib), said])
        session = Session(command, "shop", 60)
        try:
            return session.rows("SELECT 1;", attempted="read the rows")
        finally:
            session.__exit__(None, None, None)

    if "\n" in said:
        assert len(ask(1000)) == 1000 * 256
    began = time.monotonic()
    with pytest.raises(LifeboatError, match=r"Could not read the rows \(database shop\): .* more than 1 MiB"):
        ask(1 << 12)
    assert time.monotonic() - began < 5, "psql, which waits for a reader, is not waited for"


def test_a_row_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ROW", MIB)
    found: list[object] = []
    sink = server_module._Rows(found.append, "read the rows", "database shop")
    for _turn in range(3):
        sink.write(b'"' + b"x" * (MIB // 2) + b'"\n')
    assert len(found) == 3
    with pytest.raises(LifeboatError, match=r"a row of PostgreSQL's answer has more than 1 MiB"):
        for _turn in range(3):
            sink.write(b"x" * (MIB // 2))


def test_a_process_may_have_any_bytes_for_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a container which listens on the stack's port: its argv is empty, its name is not UTF-8."""
    process = tmp_path / "4711"
    (process / "fd").mkdir(parents=True)
    (process / "fd/3").symlink_to("socket:[77]")
    (process / "cmdline").write_bytes(b"")
    (process / "comm").write_bytes(b"\xff\x1b[2Jthief\n")
    (process / "cgroup").write_bytes(b"0::/\xff/thief.service\n")
    monkeypatch.setattr(backend_host, "PROC", tmp_path)
    number, command, unit = backend_host.owner("77")
    assert (number, unit) == (4711, "thief.service")
    assert command.endswith("thief")
    assert command.isprintable()


def test_another_process_with_that_number_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = b"4711 (a\xff) b) S " + b" ".join(b"%d" % number for number in range(1, 40))

    def read(path: Path, *_: object, errors: str = "strict") -> str:
        return stat.decode("utf-8", errors) if path.name == "stat" else "boot"

    monkeypatch.setattr(Path, "read_text", read)
    assert pipeline.started(4711) == "boot 19"


@pytest.mark.parametrize("odd", ["pipe", "huge", "link"])
def test_the_major_of_a_data_directory_that_its_owner_prepared(tmp_path: Path, odd: str) -> None:
    file = tmp_path / "PG_VERSION"
    file.write_text("17\n")
    assert majors._major_of(tmp_path) == "17"
    file.unlink()
    if odd == "pipe":
        os.mkfifo(file)
        with pytest.raises(OSError, match="Not a plain file"):  # its caller takes that for no answer
            majors._major_of(tmp_path)
        return
    if odd == "huge":
        file.touch()
        os.truncate(file, 1 << 40)
    else:
        file.symlink_to("/dev/zero")
    assert majors._major_of(tmp_path) == ""


@pytest.mark.parametrize("status", ["1e999", "[" * 100_000, "-1e308", "null", '"x"', "{}"])
def test_a_stores_answer_with_a_status_that_is_none(status: str) -> None:
    said = f'{{"items": [{{"create": {{"_id": "a", "status": {status}}}}}]}}'.encode()
    found = shipping._items({"a": b"{}"}, said)
    assert found is None or status == "-1e308"


def test_a_refused_line_that_nests_too_deep_is_kept(tmp_path: Path) -> None:
    line = b'{"id": "a", "line": ' + b"[" * 100_000 + b"}\n"
    (tmp_path / "refused.ndjson").write_bytes(line)
    assert shipping.again(tmp_path, lambda _: (200, b"{}")) == (0, 1, "")
    assert (tmp_path / "refused.ndjson").read_bytes() == line


def test_a_publication_that_nests_too_deep_is_not_compared() -> None:
    deep = f'postgres {{"a": {"[" * 100_000}}}'
    assert cluster._alike(deep, deep) is None
    same = 'postgres {"pubinsert": true}'
    assert cluster._alike(same, same) is True


def test_globals_and_a_fingerprint_that_unpack_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "LARGEST", MIB)
    (tmp_path / fingerprint.GLOBALS).write_bytes(gzip.compress(b"-" * MIB))
    assert len(fingerprint.globals_of(tmp_path)) == MIB
    (tmp_path / fingerprint.GLOBALS).write_bytes(gzip.compress(b"-" * MIB + b"\n"))
    with pytest.raises(IntegrityError, match="unpacks to more than 1 MiB"):
        fingerprint.globals_of(tmp_path)
    (tmp_path / fingerprint.FINGERPRINT).write_bytes(b" " * (MIB + 1))
    with pytest.raises(LifeboatError, match=r"read the fingerprint .*File too large"):
        fingerprint.facts_of(tmp_path)


def test_a_listing_with_a_line_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LONGEST", 4 << 10)
    packed = gzip.compress(b'"' * MIB)
    for read in (listing.read, listing.read_lines):
        with pytest.raises(IntegrityError, match=r"line 1: .*more than"):
            list(read(io.BytesIO(packed), "objects_backup_20261124_030000"))


@pytest.mark.parametrize("page", ["<![foo[", "<![", "<!a <![x"])
def test_a_page_that_pythons_reader_of_html_does_not_know(page: str) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    head = f'<head><meta name="commit" content="{commit}">'
    assert frontend_site.commit_of("index.html", f"{head}{page}".encode()) == commit
    assert frontend_site.commit_of("index.html", page.encode()) == ""


@pytest.mark.parametrize("identity", ['"\\ud800"', f'"{"x" * 100_000}"'], ids=["half a character", "long"])
def test_an_application_that_calls_a_thing_what_no_address_holds(
    tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"write": {"url": "http://127.0.0.1/a", "json": {"t": "{token}"}}, "read": {"url": "http://127.0.0.1/{id}"}}
    transactions = [{"name": "order", **asked}]
    held = make_config(tmp_path, drill={"transactions": transactions})
    monkeypatch.setattr(stack_answer, "send", lambda *_, **__: (200, f'{{"id": {identity}}}'.encode()))
    with pytest.raises(LifeboatError, match="the answer has no field id"):
        drill_transaction.write(held, held.drill.transactions[0], "t")


def test_a_projects_file_without_an_end_is_no_portrait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env").touch()
    os.truncate(project / ".env", 1 << 40)
    with pytest.raises(LifeboatError, match=r"read the project's file .*File too large"):
        beside.project_digest(project / ".env")


def _header(kind: bytes, size: int, name: str = "././@LongLink") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "1"}
BOMBS = {
    "a name of 64 MiB": (_header(b"L", 64 * MIB) + bytes(64 * MIB), "a header of"),
    "a name before a name": ((_header(b"L", 512) + b"a".ljust(512, b"\0")) * 5000, "headers without a file"),
    "what PAX says, of 64 MiB": (_header(b"x", 64 * MIB) + bytes(64 * MIB), "a header of"),
    "a sparse file": (_header(b"S", 512) + bytes(512), "a sparse file"),
    "a sparse file of PAX": (gzip.decompress(_packed("a", **SPARSE)), "a sparse file"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_of_an_archive_without_an_end_is_refused(bomb: str) -> None:
    data, words = BOMBS[bomb]
    with pytest.raises(IntegrityError, match=words):
        tar.read(io.BytesIO(gzip.compress(data + bytes(10240), 1)), "archive")


def test_an_archive_of_more_files_than_any_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for number in range(30):
            archive.addfile(tarfile.TarInfo(f"a{number}"))
    assert len(list(tar.members(io.BytesIO(out.getvalue()), "archive", 30))) == 30
    with pytest.raises(IntegrityError, match="more than 29 files"):
        list(tar.members(io.BytesIO(out.getvalue()), "archive", 29))


def test_an_answer_about_a_bucket_has_an_end() -> None:
    """Whoever gives it: the stack's store is a container, and a vault may be somebody else's."""
    asked: list[int] = []

    class Connections:
        def request(self, *given: Any) -> Reply:
            asked.append(given[-1])
            return Reply(200, {}, b"")

    for bounds, key in ((signed.UNBOUNDED, ""), (signed.Bounds(about=7), "")):
        requests = signed.Requests("http://127.0.0.1:1", "us-east-1", "a", "b", "", bounds)
        requests._connections = Connections()  # type: ignore[assignment]
        requests._send(signed._Request("GET", "bucket", key, {}, {}, b""))
    assert asked == [signed.ABOUT, 7]


@pytest.mark.parametrize("odd", ["pipe", "device", "huge"])
def test_a_name_in_a_file_that_has_no_end_is_not_known(tmp_path: Path, odd: str) -> None:
    """A project names the file of POSTGRES_USER_FILE, and `init` reads it as root."""
    file = tmp_path / "user"
    file.write_text("shop\n")
    project = typed.build(
        discover.Project, {"services": {}, "secrets": {"user": {"file": str(file)}}},
        lambda at, cause: LifeboatError("read", at, cause), unknown="ignore",
    )  # fmt: skip
    environment = {"POSTGRES_USER_FILE": "/run/secrets/user"}
    assert discover._setting(project, environment, ("POSTGRES_USER",), discover.text_of) == "shop"
    file.unlink()
    if odd == "pipe":
        os.mkfifo(file)
    elif odd == "device":
        file.symlink_to("/dev/zero")
    else:
        file.touch()
        os.truncate(file, 1 << 40)
    assert discover._setting(project, environment, ("POSTGRES_USER",), discover.text_of) is None


def test_a_line_of_the_log_of_a_mebibyte_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a container said, in a line of ours; a search that began at each letter took minutes."""
    monkeypatch.setattr(schedule, "LOGS", tmp_path)
    at = "2026-11-24T02:00:00+0000 shop[1]"
    long = f"{at} INFO it said {'x' * MIB}\n"
    (tmp_path / "shop.log").write_text(f"{at} INFO db_backup_20261124_020000: dumping\n{long}")
    began = time.monotonic()
    assert [run.problem for run in schedule.runs(make_config(tmp_path))] == [""]
    assert time.monotonic() - began < 20
