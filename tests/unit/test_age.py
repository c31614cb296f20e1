# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recipients, the host's own keys, and what opens a backup that is encrypted as a whole."""

from __future__ import annotations

import os
import tarfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import flip, make_config, settings
from config_world import keys as new_key

NOW = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)
RECIPIENT = "age1px20ruqptq3ct67gnhrw5hhnmsnnsux0w6jmn5lezs2g7qppqcpsa6fxz0"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGRmZ2hqa2xxd2VydHl1aW9wYXNkZmdoamtsenhjdmJu me@here"


@pytest.mark.parametrize("text", [RECIPIENT, SSH], ids=["age", "ssh"])
def test_a_recipient_is_one(text: str) -> None:
    assert config.recipient_problem(text) == ""


MALFORMED = [
    (RECIPIENT[:-1] + "q", "checksum"),
    (RECIPIENT.replace("px20", "px21"), "checksum"),
    (RECIPIENT[:-3], "checksum"),
    (RECIPIENT.upper(), "no age recipient"),
    (SSH.replace("AAAAC3Nz", "AAAAB3Nz"), "cut"),
    ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "cut"),
    ("AGE-SECRET-KEY-1QQQ", "secret key"),
    ("shop", "no age recipient"),
]


@pytest.mark.parametrize(("text", "words"), MALFORMED)
@pytest.mark.parametrize("place", ["encryption", "config"])
def test_a_malformed_recipient_is_refused_and_named_by_its_place(
    tmp_path: Path, place: str, text: str, words: str
) -> None:
    data = {**settings(tmp_path), place: {"recipients": [RECIPIENT, text]}}
    with pytest.raises(UsageError) as seen:
        config.from_mapping(data)
    assert f"settings.{place}.recipients[1]" in str(seen.value)
    assert words in str(seen.value)
    assert text not in str(seen.value)


def test_the_recipients_of_all_components_are_those_of_the_configuration_too(tmp_path: Path) -> None:
    base = settings(tmp_path)
    assert config.from_mapping({**base, "config": {"recipients": [RECIPIENT]}}).encryption.recipients == ()
    both = config.from_mapping({**base, "encryption": {"recipients": [RECIPIENT]}})
    assert both.config.recipients == both.encryption.recipients == (RECIPIENT,)
    elsewhere = {"encryption": {"recipients": [RECIPIENT]}, "config": {"secrets": "elsewhere"}}
    assert config.from_mapping({**base, **elsewhere}).config.recipients == ()
    differ = {"encryption": {"recipients": [RECIPIENT]}, "config": {"recipients": [SSH]}}
    with pytest.raises(UsageError, match="others than encryption"):
        config.from_mapping({**base, **differ})


class Log(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


# The host's own key.


@pytest.fixture
def host(tmp_path: Path) -> age.HostKeys:
    new_key(tmp_path)  # age, or what stands in for it
    return age.HostKeys(tmp_path / "state")


def test_a_host_key_is_used_for_a_week_and_not_longer(host: age.HostKeys) -> None:
    log = Log()
    first = host.recipient(NOW, 7, log)
    assert first.startswith("age1")
    assert host.recipient(NOW + timedelta(days=6, hours=23), 7, log) == first
    second = host.recipient(NOW + timedelta(days=7), 7, log)
    assert second not in ("", first)
    assert log == []
    assert [key.recipient for key in host.all()] == [first, second]
    (text, _second) = (key.path.read_text() for key in host.all())
    assert host.text([first, RECIPIENT]) == text
    assert host.text([RECIPIENT]) == ""
    assert {oct(key.path.stat().st_mode & 0o777) for key in host.all()} == {"0o600"}
    assert oct(host.folder.stat().st_mode & 0o777) == "0o700"


def test_no_key_is_made_where_none_is_wanted(host: age.HostKeys) -> None:
    assert host.recipient(NOW, 0, Log()) == ""
    assert host.all() == []


def test_a_key_of_a_clock_that_ran_ahead_is_not_used(host: age.HostKeys) -> None:
    ahead = host.recipient(NOW + timedelta(days=400), 7, Log())
    assert host.recipient(NOW, 7, Log()) != ahead
    host.destroy(NOW, 7, lambda recipient: True, Log())
    assert ahead not in [key.recipient for key in host.all()]


def test_a_host_that_cannot_make_a_key_backs_up_all_the_same(host: age.HostKeys) -> None:
    host.folder.parent.write_text("no directory")
    log = Log()
    assert host.recipient(NOW, 7, log) == ""
    assert "cannot verify what it encrypts" in log[0]


def test_a_key_is_destroyed_when_nothing_is_left_to_verify_with_it(host: age.HostKeys) -> None:
    log = Log()
    old, new = host.recipient(NOW, 7, log), host.recipient(NOW + timedelta(days=7), 7, log)
    later = NOW + timedelta(days=7, hours=1)
    host.destroy(later, 7, lambda recipient: recipient == old, log)
    assert [key.recipient for key in host.all()] == [old, new], "what it opens is not verified yet"
    host.destroy(later, 7, lambda recipient: False, log)
    assert [key.recipient for key in host.all()] == [new], "the one in use stays"
    assert log == ["the host's key of 2026-11-24 is destroyed"]


def test_a_key_is_destroyed_a_week_after_its_last_use_whatever_was_verified(host: age.HostKeys) -> None:
    log = Log()
    host.recipient(NOW, 7, log)
    host.destroy(NOW + timedelta(days=13, hours=23), 7, lambda recipient: True, log)
    assert len(host.all()) == 1
    host.destroy(NOW + timedelta(days=14), 7, lambda recipient: True, log)
    assert host.all() == []
    assert "by the escrowed key alone" in log[0]


# Opening.


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A backup's folder with two artefacts, one of them a directory, for an operator and the host."""
    identity, recipient = new_key(tmp_path)
    (tmp_path / "operator.key").write_text(identity)
    settled = make_config(tmp_path, encryption={"recipients": [recipient]})
    seal = age.sealing(settled, print)
    assert seal.recipients == (recipient,)
    assert seal.host
    folder, plain = tmp_path / "backup-1", tmp_path / "plain"
    (folder / "databases" / "001").mkdir(parents=True)
    plain.mkdir()
    (plain / "toc.dat").write_bytes(b"canary " * 1000)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(plain, ".")
    wanted = {"globals.sql.gz": b"roles", "databases/001/database.dump.tar": (tmp_path / "x.tar").read_bytes()}
    for name, data in wanted.items():
        with (folder / seal.named(name)).open("wb") as file:
            seal.write(data, file, subject=name)
    return folder


def opening(root: Path, given: str = "") -> tuple[age.Keys, age.Seal]:
    recipient = age.recipients_of((root / "operator.key").read_text())[0]
    settled = make_config(root, encryption={"recipients": [recipient]})
    return age.keys(settled, given), age.sealing(settled, print)


def read(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


OPENED = {"databases/001/database.dump/toc.dat": b"canary " * 1000, "globals.sql.gz": b"roles"}


@pytest.mark.parametrize("who", ["host", "operator"])
def test_either_key_opens_all_of_it_and_nothing_is_left(sealed: Path, tmp_path: Path, who: str) -> None:
    assert b"canary" not in b"".join(read(sealed).values())
    keys, seal = opening(tmp_path, (tmp_path / "operator.key").read_text() if who == "operator" else "")
    if who == "operator":
        for key in keys.host.all():
            key.path.unlink()
    with keys.opened(sealed, seal, subject="b") as plain:
        assert read(plain) == OPENED
        assert oct(plain.stat().st_mode & 0o777) == "0o700"
    assert not plain.exists()


def test_only_what_is_asked_for_is_opened(sealed: Path, tmp_path: Path) -> None:
    keys, seal = opening(tmp_path)
    with keys.opened(sealed, seal, subject="b", only=lambda name: "/" not in name) as plain:
        assert list(read(plain)) == ["globals.sql.gz"]


def test_what_is_not_encrypted_is_used_where_it_is(sealed: Path, tmp_path: Path) -> None:
    keys, _seal = opening(tmp_path)
    with keys.opened(sealed, age.OPEN, subject="b") as plain:
        assert plain == sealed


def test_without_a_key_nothing_is_said_of_the_backup(sealed: Path, tmp_path: Path) -> None:
    keys, seal = opening(tmp_path)
    for key in keys.host.all():
        key.path.unlink()
    with pytest.raises(age.NoKeyError) as seen, keys.opened(sealed, seal, subject="b"):
        pass
    assert isinstance(seen.value, UnverifiedError)
    assert seal.recipients[0] in seen.value.cause
    assert "this host's own key that opened it is gone" in seen.value.cause
    assert "identity_file" in seen.value.remedy


def test_a_wrong_key_is_told_from_a_damaged_file(sealed: Path, tmp_path: Path) -> None:
    other, _recipient = new_key(tmp_path)
    keys, seal = opening(tmp_path, other)
    with keys.opened(sealed, seal, subject="b"):
        pass  # the host's own key opens it
    for key in keys.host.all():
        key.path.unlink()
    with pytest.raises(age.WrongKeyError, match="no identity matched"), keys.opened(sealed, seal, subject="b"):
        pass
    damaged = sealed / "globals.sql.gz.age"
    flip(damaged, -1)
    keys = age.Keys(keys.host, keys.directory, (tmp_path / "operator.key").read_text())
    with pytest.raises(IntegrityError, match="cut or damaged"), keys.opened(sealed, seal, subject="b"):
        pass
    with keys.opened(sealed, seal, subject="b", accept=True) as plain:
        assert "databases/001/database.dump/toc.dat" in read(plain)


def test_what_a_killed_run_decrypted_is_removed_and_what_a_living_one_uses_is_not(sealed: Path, tmp_path: Path) -> None:
    keys, seal = opening(tmp_path)
    left = keys.directory / "opened-killed_1"
    left.mkdir()
    (left / "globals.sql.gz").write_bytes(b"roles")
    with keys.opened(sealed, seal, subject="b") as first:
        assert not left.exists()
        with keys.opened(sealed, seal, subject="b") as second:
            assert first.exists()
            assert first != second


@pytest.mark.parametrize("kind", ["link", "elsewhere"])
def test_nothing_in_an_archive_is_written_elsewhere(tmp_path: Path, kind: str) -> None:
    identity, recipient = new_key(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("../../evil" if kind == "elsewhere" else "toc.dat")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    folder, seal = tmp_path / "b", age.Seal((recipient,))
    folder.mkdir()
    with (folder / "database.dump.tar.age").open("wb") as file:
        seal.write((tmp_path / "x.tar").read_bytes(), file, subject="x")
    keys = age.keys(make_config(tmp_path), identity)
    if kind == "link":
        with pytest.raises(IntegrityError, match="not a plain file"), keys.opened(folder, seal, subject="b"):
            pass
        return
    with keys.opened(folder, seal, subject="b") as plain:
        assert list(read(plain)) == ["database.dump/evil"]


def test_nothing_is_backed_up_in_the_clear_where_age_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _identity, recipient = new_key(tmp_path)
    settled = make_config(tmp_path, encryption={"recipients": [recipient]})
    monkeypatch.setitem(os.environ, "PATH", "/nonexistent")
    with pytest.raises(LifeboatError, match="age is not installed"):
        age.sealing(settled, print)
