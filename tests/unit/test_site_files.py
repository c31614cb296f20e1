# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a config backup into their places: what is right stays, what is in the way is kept, schedules come last."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration.restore import Extracted
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import RECOVERING_CONFIG
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.tar import DIRECTORY, FILE, LINK, Entry
from builders import NOW, Runner, make_config, make_manifest

RECIPIENT = "age1px20ruqptq3ct67gnhrw5hhnmsnnsux0w6jmn5lezs2g7qppqcpsa6fxz0"
HERE = {"uid": os.getuid(), "gid": os.getgid(), "mtime": 1_700_000_000}


class Case:
    """A backup of a few files that lay below `host`, unpacked elsewhere."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.host, self.out = root, root / "host", root / "out"
        self.entries: dict[str, Entry] = {}
        self.missing: tuple[str, ...] = ()
        self.host.mkdir()
        self.runtime = {"type": "host", "project_directory": str(self.host)}

        @contextlib.contextmanager
        def unpacked(*_: Any) -> Iterator[Extracted]:
            yield Extracted(make_manifest(NOW), self.out, self.entries, self.missing)

        monkeypatch.setattr(site_files, "_unpacked", unpacked)

    def away(self, name: str, content: str = "new") -> Path:
        """Next to the stack's directory."""
        return self.add(str(self.root / name), content)

    def add(self, name: str, content: str = "new", kind: str = FILE, mode: int = 0o640) -> Path:
        path = self.host / name
        place = self.out / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == FILE:
            place.write_text(content)
        elif kind == LINK:
            place.symlink_to(content)
        else:
            place.mkdir()
        self.entries[str(path)] = Entry(
            str(path), kind, mode, size=len(content) if kind == FILE else 0,
            sha256=hashlib.sha256(content.encode()).hexdigest() if kind == FILE else "",
            target=content if kind == LINK else "", **HERE,
        )  # fmt: skip
        return path

    def place(
        self, which: str = site_files.FILES, *, check: bool = False, allow: Sequence[str] = (), **settings: Any
    ) -> site_files.Placed:
        return site_files.place_files(
            make_config(self.root, **{"runtime": self.runtime, **settings}), None, "config_backup_x", key="",  # type: ignore[arg-type]
            which=which, stamp="S", check=check, log=lambda _: None, allow=allow,
        )  # fmt: skip


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def test_files_links_and_directories_are_put_in_place_once(case: Case) -> None:
    folder = case.add("srv", kind=DIRECTORY, mode=0o751)
    path, link = case.add("srv/.env", mode=0o600), case.add("srv/current", "compose.yml", LINK)
    planned = case.place(check=True)
    assert (sorted(planned.written), folder.exists()) == (sorted(map(str, (folder, path, link))), False)
    case.place()
    assert (path.read_text(), path.stat().st_mode & 0o7777, folder.stat().st_mode & 0o7777) == ("new", 0o600, 0o751)
    assert (path.stat().st_mtime, str(link.readlink())) == (HERE["mtime"], "compose.yml")
    assert not (make_config(case.root).state / RECOVERING_CONFIG).exists()
    again = case.place()
    assert (again.written, again.aside, again.same) == ([], {}, 2)


@pytest.mark.parametrize("way", ["other content", "other mode", "a directory", "a link", "a dead link"])
def test_what_is_in_the_way_is_kept(case: Case, way: str) -> None:
    path = case.add("app.conf")
    if way == "a directory":
        path.mkdir()
        (path / "inside").write_text("mine")
    elif "link" in way:
        path.symlink_to("/nowhere" if way == "a dead link" else "/etc/hostname")
    else:
        path.write_text("new" if way == "other mode" else "old")
        path.chmod(0o644)
    placed = case.place()
    assert (placed.written, path.read_text(), path.is_symlink()) == ([str(path)], "new", False)
    kept = Path(placed.aside[str(path)])
    assert os.path.lexists(kept)
    assert kept.parent.stat().st_mode & 0o077 == 0
    if way == "a directory":
        assert (kept / "inside").read_text() == "mine"


def test_parents_that_are_not_listed_are_open_to_the_stack(case: Case) -> None:
    path = case.add("a/b/app.conf")
    before = os.umask(0o077)
    try:
        case.place()
    finally:
        os.umask(before)
    assert [folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)] == [0o755, 0o755]


def test_a_directory_has_its_mode_from_the_first_moment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed between making it and giving it its mode left 0700, and the next one took that for the
    machine's own."""
    conf = case.add("srv/conf", kind=DIRECTORY, mode=0o751)
    real, killed = Path.chmod, [0o755, 0o751]

    def chmod(path: Path, mode: int) -> None:
        if killed and mode == killed[0]:
            del killed[0]
            raise KeyboardInterrupt
        real(path, mode)

    monkeypatch.setattr(Path, "chmod", chmod)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            case.place()
        assert not conf.exists()
    assert case.place().written == [str(conf)]
    assert [path.stat().st_mode & 0o7777 for path in (conf, conf.parent)] == [0o751, 0o755]
    assert [path.name for path in case.host.rglob("*")] == ["srv", "conf"]


def test_the_way_to_a_named_file_comes_back_as_it_was(case: Case) -> None:
    """An application that runs as another user than root finds its file below a directory of its own."""
    case.add(str(case.root / "var"), kind=DIRECTORY, mode=0o711)
    case.add(str(case.root / "var/app"), kind=DIRECTORY, mode=0o2750)
    case.add(str(case.root / "var/other"), kind=DIRECTORY, mode=0o700)
    path = case.away("var/app/secret")
    placed = case.place(config={"secret_files": [str(path)], "recipients": [RECIPIENT]})
    assert path.read_text() == "new"
    assert [oct(parent.stat().st_mode & 0o7777) for parent in (path.parent, path.parent.parent)] == ["0o2750", "0o711"]
    assert not (case.root / "var/other").exists(), "it is on the way to nothing"
    assert [one.path for one in placed.left] == [str(case.root / "var/other")]
    path.parent.chmod(0o700)
    path.unlink()
    case.place(config={"secret_files": [str(path)], "recipients": [RECIPIENT]})
    assert (path.exists(), path.parent.stat().st_mode & 0o7777) == (True, 0o700), "what is there is the machine's own"
    (case.root / "var").rename(case.root / "disk")
    (case.root / "var").symlink_to(case.root / "disk")
    path.unlink()
    placed = case.place(config={"secret_files": [str(path)], "recipients": [RECIPIENT]})
    assert (path.exists(), (case.root / "var").is_symlink(), placed.aside) == (True, True, {}), "and a link is, too"


def test_our_own_directory_is_not_the_backups(case: Case) -> None:
    """It is on the way to Lifeboat's own files, which the inventory makes: of a keeper's group, it has another mode."""
    case.add("/etc/lifeboat", kind=DIRECTORY, mode=0o750)
    assert case.place().left == []


def test_a_directory_that_is_there_keeps_its_owner_and_mode(case: Case) -> None:
    folder = case.add("etc", kind=DIRECTORY, mode=0o700)
    folder.mkdir()
    folder.chmod(0o755)
    assert case.place().written == []
    assert folder.stat().st_mode & 0o777 == 0o755


def test_schedules_are_put_there_apart_and_units_are_read(
    case: Case, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_files, "_BY_THE_CLOCK", (str(case.host / "cron.d"), str(case.host / "units")))
    monkeypatch.setattr(site_files, "UNITS", str(case.host / "units"))
    plain, job, unit = case.add("app.conf"), case.add("cron.d/job"), case.add("units/app.service")
    assert case.place().written == [str(plain)]
    runner.expect("systemctl daemon-reload")
    assert case.place(site_files.SCHEDULES).written == [str(job), str(unit)]
    assert runner.ran == ["systemctl daemon-reload"]
    case.place(site_files.SCHEDULES)
    assert len(runner.ran) == 1


def test_our_own_files_come_from_the_inventory(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_files, "_OURS", (str(case.host / "lifeboat"),))
    path = case.add("lifeboat/shop.json")
    assert case.place().written == []
    assert not path.exists()


def test_secrets_that_are_in_no_backup_must_be_brought_by_hand(case: Case) -> None:
    case.add("compose.yml")
    env = case.host / ".env"
    case.missing = (str(env),)
    with pytest.raises(UsageError) as error:
        case.place()
    assert str(env) in error.value.cause
    assert "by hand" in error.value.remedy
    assert (make_config(case.root).state / RECOVERING_CONFIG).exists(), "no backup of half a configuration"
    env.write_text("by hand")
    assert len(case.place().written) == 1


def test_the_copy_of_the_identities_is_put_in_its_place_and_nothing_else_of_ours(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role agent writes the rest; nobody but the backup has this one."""
    monkeypatch.setattr(site_files, "_OURS", (f"{case.host}/",))
    monkeypatch.setattr(config.Config, "identities", case.add("shop/identities.zip", mode=0o600))
    case.add("shop/mirror.jsonl")
    assert case.place().written == [str(case.host / "shop/identities.zip")]


def left(placed: site_files.Placed) -> dict[str, str]:
    return {one.path: one.why for one in placed.left}


def test_a_path_that_the_inventory_does_not_name_is_left_out_unless_it_is_allowed_by_name(case: Case) -> None:
    mine, theirs = case.add("compose.yml"), case.away("etc/ld.so.preload", "/tmp/evil.so")
    placed = case.place()
    assert (placed.written, theirs.exists()) == ([str(mine)], False)
    assert left(placed) == {str(theirs): "the inventory does not name it"}
    assert case.place(allow=[str(theirs)]).left == []
    assert theirs.read_text() == "/tmp/evil.so"


def test_what_the_inventory_names_besides_is_placed(case: Case) -> None:
    unit, folder = case.away("etc/shop.service"), case.away("etc/shop.d/inside")
    other = case.away("etc/shop.data")
    placed = case.place(config={"enabled": False, "files": [str(unit)], "secret_files": [str(folder.parent)]})
    assert placed.written == [str(folder), str(unit)]
    assert left(placed) == {str(other): "the inventory does not name it"}


@pytest.mark.parametrize(("bits", "name"), [(0o4755, "setuid"), (0o2755, "setgid"), (0o1755, "sticky")])
def test_special_bits_are_not_placed_unless_that_file_is_allowed(case: Case, bits: int, name: str) -> None:
    path = case.add("bin/helper", mode=bits)
    placed = case.place()
    assert path.stat().st_mode & 0o7777 == 0o755
    assert left(placed) == {str(path): f"it is placed without its {name} bit ({bits:04o})"}
    assert case.place().written == [], "a second run changes nothing"
    assert case.place(allow=[str(path)]).left == []
    assert path.stat().st_mode & 0o7777 == bits


@pytest.mark.parametrize("target", ["/etc", "../../etc", "deep/../../../etc", "/{host}x", "/{host}/../etc"])
def test_a_link_that_leads_outside_is_left_out(case: Case, target: str) -> None:
    target = target.replace("/{host}", str(case.host))
    link = case.add("conf", target, LINK)
    placed = case.place()
    assert (placed.written, os.path.lexists(link)) == ([], False)
    assert left(placed) == {str(link): f"it is a link that leads outside, to {target}"}
    case.place(allow=[str(link)])
    assert str(link.readlink()) == target


def test_a_link_of_this_machine_that_leads_outside_is_not_followed(case: Case) -> None:
    elsewhere = case.root / "elsewhere"
    elsewhere.mkdir()
    path = case.add("conf/app.conf")
    path.parent.symlink_to(elsewhere)
    placed = case.place()
    assert (placed.written, list(elsewhere.iterdir())) == ([], [])
    assert "its directory is a link that leads outside" in left(placed)[str(path)]


def test_a_named_path_may_lie_behind_a_link_of_this_machine(case: Case) -> None:
    """/lib is a link to /usr/lib, and the backup has what is really there."""
    real = case.root / "usr/lib"
    real.mkdir(parents=True)
    (case.root / "lib").symlink_to("usr/lib")
    path = case.away("usr/lib/shop.conf")
    named = {"enabled": False, "files": [str(case.root / "lib/shop.conf")]}
    assert case.place(config=named).written == [str(path)]


COMPOSE = {"name": "shop", "services": {"web": {"image": "web:1"}}}
SOCKET = {"type": "bind", "source": "/var/run/docker.sock", "target": "/s"}


def test_a_service_that_reaches_out_is_refused_before_anything_is_placed(case: Case, runner: Runner) -> None:
    case.runtime = {"project_directory": str(case.host)}
    path = case.add("compose.yml")
    runner.expect("config --format json", json.dumps({"services": {"web": {"image": "web:1", "volumes": [SOCKET]}}}))
    with pytest.raises(UsageError) as error:
        case.place()
    assert error.value.subject == "web: mounts /var/run/docker.sock"
    assert "Nothing was started" in error.value.remedy
    assert not path.exists()
    placed = case.place(allow=["web: mounts /var/run/docker.sock"])
    assert (placed.written, placed.services[0].allowed) == ([str(path)], ("web: mounts /var/run/docker.sock",))


def test_what_compose_reads_only_in_its_place_is_judged_there(case: Case, runner: Runner) -> None:
    """COMPOSE_FILE in .env may name a file by its whole path."""
    case.runtime = {"project_directory": str(case.host)}
    path = case.add("compose.yml")
    runner.expect(f"--project-directory {case.host} config", json.dumps({"services": {"web": {"privileged": True}}}))
    runner.expect("config --format json", (1, "", "no such file"))
    with pytest.raises(UsageError) as error:
        case.place()
    assert (error.value.subject, path.exists()) == ("web: privileged", True)
    assert (make_config(case.root).state / RECOVERING_CONFIG).exists()


def test_a_project_that_compose_cannot_read_is_not_gone_on_with(case: Case, runner: Runner) -> None:
    case.runtime = {"project_directory": str(case.host)}
    case.add("compose.yml")
    runner.expect("config --format json", (1, "", "no such file"))
    with pytest.raises(UnverifiedError, match="Compose cannot read it: no such file"):
        case.place()
    assert case.place(check=True).services == ()


def test_a_plan_names_every_file_and_what_is_left_out(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    new, same, theirs = case.add("new"), case.add("same", mode=0o644), case.away("etc/sudoers.d/x")
    secret = case.add("secret")
    case.entries[str(secret)] = replace(case.entries[str(secret)], sha256="", secret=True)
    for path in (same, secret):
        path.write_text("new")
        path.chmod(0o644)
    monkeypatch.setattr(site_files.configuration_restore, "listing", lambda *_: case.entries)
    one = make_config(case.root, runtime=case.runtime)
    os.utime(same, (HERE["mtime"], HERE["mtime"]))
    made = site_files.plan(one, None, "config_backup_x", key="", allow=(), log=lambda _: None)  # type: ignore[arg-type]
    assert {Path(file.path).name: (file.what, file.when) for file in made.files} == {
        "new": ("new, 0640", "files"), "same": ("there already", "files"),
        "secret": ("replaces what is here, if it differs", "files"),
    }  # fmt: skip
    assert [one.path for one in made.left] == [str(theirs)]
    assert not (case.root / "state").exists() and not new.exists()


@pytest.mark.parametrize(
    ("answers", "services", "unknown"),
    [
        ([("version", "2.26"), ("config", json.dumps(COMPOSE))], ["web"], ""),
        ([("version", "2.26"), ("config", (1, "", "set in .env"))], [], "Compose cannot read it: set in .env. They"),
        ([("version", (127, "", ""))], [], "Compose is not on this machine (apt-get install docker-compose). They"),
    ],
)
def test_a_plan_names_every_service_as_far_as_it_can(
    case: Case, runner: Runner, monkeypatch: pytest.MonkeyPatch, answers: Any, services: list[str], unknown: str
) -> None:
    monkeypatch.setattr(site_files.configuration_restore, "listing", lambda *_: {})
    for pattern, answer in answers:
        runner.expect(pattern, answer)
    one = make_config(case.root, runtime={"project_directory": str(case.host)})
    made = site_files.plan(one, None, "config_backup_x", key="", allow=(), log=lambda _: None)  # type: ignore[arg-type]
    assert [service.name for service in made.services] == services
    assert made.unknown.startswith(unknown) and bool(made.unknown) is bool(unknown)
