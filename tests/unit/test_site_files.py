# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a config backup into their places: what is right stays, what is in the way is kept, schedules come last."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration.restore import Extracted
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import RECOVERING_CONFIG
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.tar import DIRECTORY, FILE, LINK, Entry
from builders import NOW, Runner, make_config, make_manifest

HERE = {"uid": os.getuid(), "gid": os.getgid(), "mtime": 1_700_000_000}


class Case:
    """A backup of a few files that lay below `host`, unpacked elsewhere."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.host, self.out = root, root / "host", root / "out"
        self.entries: dict[str, Entry] = {}
        self.missing: tuple[str, ...] = ()
        self.host.mkdir()

        @contextlib.contextmanager
        def unpacked(*_: Any) -> Iterator[Extracted]:
            yield Extracted(make_manifest(NOW), self.out, self.entries, self.missing)

        monkeypatch.setattr(site_files, "_unpacked", unpacked)

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

    def place(self, which: str = site_files.FILES, *, check: bool = False) -> site_files.Placed:
        return site_files.place(
            make_config(self.root), None, "config_backup_x", key="", which=which, stamp="S", check=check,  # type: ignore[arg-type]
            log=lambda _: None,
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
