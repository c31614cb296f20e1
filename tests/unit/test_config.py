# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration: every setting is checked, every mistake is named, no secret is shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import (
    DATABASE,
    OBJECT_STORAGE,
    SCENARIOS,
    SITE,
)

PLAIN: dict[str, Any] = {"stack": "shop", "runtime": {"project_directory": "/srv/shop"}}
FULL: dict[str, Any] = {
    "stack": "shop-1.eu_west",
    "timezone": "Asia/Tokyo",
    "timeout": 60,
    "runtime": {"type": "host", "project": "p", "files": ["a.yml", "b.yml"]},
    "database": {"service": "pg", "name": "日本", "user": "u", "port": 5433, "compression": "zstd:19", "jobs": 8},
    "repository": {"type": "s3", "bucket": "b"},
    "retention": {"daily_days": 3},
    "application": {
        "writers": ["backend"],
        "checks": [{"url": "http://x/", "json": {"ok": True}}, {"url": "http://y/", "body": {"a": 1}, "status": 201}],
        "timeout": 5,
    },
    "alarms": {"backup_age_hours": 2, "proof_age_days": 1},
    "targets": {"database": 60, "object_storage": 61},
    "state_directory": "/var/lib/x",
}


def test_plain_settings_get_every_default() -> None:
    one = config.from_mapping(PLAIN)
    assert (one.database.format, one.database.compression, one.database.fingerprint) == (
        "directory",
        "zstd:1",
        "content",
    )
    assert one.repository == LocalSettings(path="/backup")
    assert (one.timezone, one.timeout, one.alarms.backup_age_hours) == ("UTC", 14400, 26)
    assert [one.target(name) for name in SCENARIOS] == [14400, 7200, 7200, 14400, 3600, 1800, 28800]
    assert one.state == Path("/var/lib/lifeboat/shop")
    assert one.application.checks == ()


def test_full_settings_are_built_to_the_last() -> None:
    one = config.from_mapping(FULL)
    assert one.runtime.files == ("a.yml", "b.yml")
    assert one.application.checks[0].json == {"ok": True}
    assert one.application.checks[0].body is None
    assert (one.application.checks[1].body, one.application.checks[1].status) == ({"a": 1}, 201)
    assert one.state == Path("/var/lib/x")
    assert [one.target(name) for name in (DATABASE, OBJECT_STORAGE, SITE)] == [60, 61, 28800]
    assert one.database.name == "日本"


DEEP: list[Any] = []
for _level in range(60):
    DEEP = [DEEP]

# (changes to PLAIN, what the error must say)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"stack": ""}, "'' is not a plain lower-case name"),
    ({"stack": "Shop"}, "not a plain lower-case name"),
    ({"stack": "../etc"}, "not a plain lower-case name"),
    ({"stack": "a/b"}, "not a plain lower-case name"),
    ({"stack": "shop\n"}, "not a plain lower-case name"),
    ({"stack": "x" * 64}, "not a plain lower-case name"),
    ({"stack": None}, "settings.stack): wants str, has None"),
    ({"timeout": 10**30}, "settings.timeout): has a number beyond 1e+18"),
    ({"application": {"checks": [{"url": "x", "json": {"a": DEEP}}]}}, "it is nested more than 40 levels deep"),
    ({"stcak": "x"}, "does not know stcak; it knows adopted, alarms, application"),
    ({"alarms": {"site_target_seconds": 1}}, "settings.alarms): does not know site_target_seconds"),
    ({"targets": {"objects": 1}}, "targets): does not know objects; it knows backend, database, dumps, files"),
    ({"timeout": "60"}, "settings.timeout): wants int, has '60'"),
    ({"timeout": True}, "settings.timeout): wants int, has True"),
    ({"timeout": 0}, "settings.timeout): 0 is not between 1 and 1e+09"),
    ({"timeout": 1.5}, "wants int, has 1.5"),
    ({"database": []}, "settings.database): wants a mapping, has []"),
    ({"database": {"nmae": "x"}}, "settings.database): does not know nmae"),
    ({"database": {"format": "tar"}}, "settings.database.format): 'tar' is not one of directory, custom, plain"),
    ({"database": {"fingerprint": "full"}}, "settings.database.fingerprint): 'full' is not one of content, rows"),
    ({"database": {"compression": "bzip2"}}, "settings.database.compression): 'bzip2' is not none or method:level"),
    ({"database": {"compression": "zstd:"}}, "is not none or method:level"),
    ({"database": {"compression": "zstd:3 --x"}}, "is not none or method:level"),
    ({"database": {"name": "a", "exclude": ["b", "a"]}}, "settings.database.exclude): 'a': it is database.name"),
    ({"database": {"exclude": [""]}}, "settings.database.exclude): '': that is no database"),
    ({"database": {"exclude": "b"}}, "settings.database.exclude): wants a list, has 'b'"),
    ({"database": {"jobs": 0}}, "settings.database.jobs): 0 is not between 1 and 1000"),
    ({"timeout": 10**12}, "settings.timeout): 1000000000000 is not between 1 and 1e+09"),
    ({"alarms": {"backup_age_hours": 10**12}}, "settings.alarms.backup_age_hours): 1000000000000 is not between 0 and"),
    ({"vault": {"noncurrent_days": 0}}, "settings.vault.noncurrent_days): 0 is not between 1 and 36500"),
    ({"objects": {"changes_seconds": 86_401}}, "settings.objects.changes_seconds): 86401 is not between 0 and 86400"),
    ({"objects": {"tags_days": 367}}, "settings.objects.tags_days): 367 is not between 0 and 366"),
    ({"vault": {"read_days": 0}}, "settings.vault.read_days): 0 is not between 1 and 3650"),
    ({"objects": {"change_limit": 101}}, "settings.objects.change_limit): 101 is not between 0 and 100"),
    ({"objects": {"transfers": 0}}, "settings.objects.transfers): 0 is not between 1 and 10000"),
    ({"objects": {"bucket": "b", "endpoint_url": "http://s", "exclude": ["b"]}, "vault": {"objects_bucket": "v"}},
     "settings.objects.exclude): 'b': it is objects.bucket"),
    ({"objects": {"exclude": [""]}}, "settings.objects.exclude): '': that is no bucket"),
    ({"objects": {"engine": "cp"}}, "settings.objects.engine): 'cp' is not one of lifeboat, mc"),
    ({"vault": {"object_lock": "no"}}, "settings.vault.object_lock): 'no' is not one of , GOVERNANCE, COMPLIANCE"),
    ({"config": {"images": "all"}}, "settings.config.images): 'all' is not one of digests, archive"),
    ({"config": {"limit_mb": 0}}, "settings.config.limit_mb): 0 is not between 1 and 1e+09"),
    ({"database": {"method": "wal"}}, "settings.database.method): 'wal' is not one of logical"),
    ({"database": {"port": 65536}}, "settings.database.port): 65536 is not between 1 and 65535"),
    ({"targets": {"site": 0}}, "settings.targets.site): 0 is not between 1 and 1e+09"),
    ({"frontend": {"timeout": 0}}, "settings.frontend.timeout): 0 is not between 1 and 1e+09"),
    ({"drill": {"rate": 101}}, "settings.drill.rate): 101 is not between 1 and 100"),
    ({"database": {"port": "5432"}}, "settings.database.port): wants int, has '5432'"),
    ({"runtime": {}}, "settings.runtime): neither project_directory nor project is given"),
    ({"runtime": {"type": "kubernetes"}}, "'kubernetes' is not one of compose, host"),
    ({"runtime": {"project_directory": "/x", "files": "a.yml"}}, "settings.runtime.files): wants a list, has 'a.yml'"),
    ({"runtime": {"project_directory": "/x", "files": [1]}}, "settings.runtime.files[0]): wants str, has 1"),
    ({"application": {"checks": [{"url": 1}]}}, "settings.application.checks[0].url): wants str, has 1"),
    ({"application": {"checks": ["http://x"]}}, "settings.application.checks[0]): wants a mapping"),
    ({"application": {"checks": [{"url": "x", "json": []}]}}, "settings.application.checks[0].json): wants a mapping"),
    ({"application": {"checks": [{"url": "http://u:hunter2@x/"}]}}, "checks[0].url): credentials do not belong into"),
    ({"application": {"checks": [{"url": "http://hunter2@x/"}]}}, "checks[0].url): credentials do not belong into"),
    ({"application": {"checks": [{"url": "http://x/?token=hunter2"}]}}, "checks[0].url): credentials do not belong"),
    ({"application": {"checks": [{"url": "x", "body": "s"}]}}, "checks[0].body): wants a mapping, has 's'"),
    ({"repository": "/backup"}, "settings.repository): wants a mapping"),
    ({"secrets": {"database_password": "hunter2"}}, "secrets do not belong here"),
    ({"vault": {"mode": "fetch"}}, "settings.vault.mode): 'fetch' is not one of push, pull"),
    ({"vault": {"mode": "pull", "repository_bucket": "b"}}, "settings.vault.repository_bucket): with mode pull"),
    ({"vault": {"mode": "pull"}}, "settings.repository): with mode pull it is a directory, and group says who"),
    ({"vault": {"mode": "pull"}, "repository": {"type": "s3", "bucket": "g"}}, "settings.repository): with mode pull"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_every_mistake_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        config.from_mapping({**PLAIN, **changes})
    assert words in str(error.value)
    assert "hunter2" not in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("data", [[], "text", 5, None, 1.5, True])
def test_what_is_no_mapping_is_a_clear_error(data: Any) -> None:
    with pytest.raises(UsageError, match="wants a mapping"):
        config.from_mapping(data)


@pytest.mark.parametrize(
    "secrets", [[], ["hunter2"], "hunter2", 5, {"database_password": 5}, {"database_password": None}]
)
def test_wrong_secrets_are_refused_and_not_shown(secrets: Any) -> None:
    if not secrets:
        return
    with pytest.raises(UsageError) as error:
        config.from_mapping(PLAIN, secrets)
    assert "secrets" in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("compression", ["none", "gzip", "gzip:9", "lz4", "lz4:1", "zstd", "zstd:22"])
def test_compressions(compression: str) -> None:
    assert config.from_mapping({**PLAIN, "database": {"compression": compression}}).database.compression == compression


def test_secrets_are_shown_by_nothing() -> None:
    one = config.from_mapping(PLAIN, {"database_password": "hunter2"})
    assert one.secrets["database_password"] == "hunter2"
    shown = [repr(one), str(one), repr(dataclasses.replace(one, stack="x")), f"{one!r:s}"]
    assert not [text for text in shown if "hunter2" in text]
    assert one == config.from_mapping(PLAIN), "nor does a comparison tell them apart"


def write(directory: Path, name: str, content: Any) -> None:
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_load(tmp_path: Path) -> None:
    write(tmp_path, "shop.json", PLAIN)
    write(tmp_path, "shop.secrets.json", {"database_password": "x"})
    assert config.stacks(tmp_path) == ["shop"]
    assert config.load("", tmp_path) == config.load("shop", tmp_path) == config.from_mapping(PLAIN)
    assert config.load("shop", tmp_path).secrets == {"database_password": "x"}
    write(tmp_path, "blog.json", {**PLAIN, "stack": "blog"})
    assert config.load("blog", tmp_path).secrets == {}
    with pytest.raises(UsageError, match=r"2 stacks are configured: blog, shop.*Name one with --stack"):
        config.load("", tmp_path)


def test_nothing_deployed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no stack is configured"):
        config.load("", tmp_path)
    with pytest.raises(UsageError, match="no stack is configured"):
        config.load("", tmp_path / "missing")
    with pytest.raises(NotFoundError, match=r"there is no such file.*Run lifeboat.dr.deploy"):
        config.load("shop", tmp_path)


BROKEN = ["", "{", "[]", "5", "null", "\x00", '{"stack": "shop"', "{'stack': 'shop'}", '{"stack": NaN}', "[" * 200_000]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("name", ["shop.json", "shop.secrets.json"])
def test_a_broken_file_is_a_clear_error(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, "shop.json", PLAIN)
    write(tmp_path, "shop.secrets.json", {})
    write(tmp_path, name, content)
    if name == "shop.secrets.json" and content in ("[]", "null"):
        return  # as good as none
    with pytest.raises(LifeboatError) as error:
        config.load("shop", tmp_path)
    assert error.value.exit_code == 2
    assert "shop" in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UsageError, match="read the configuration"):
        config.load("shop", tmp_path)


def test_a_permission_error_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filesystem, "open_file", refuse)
    with pytest.raises(UsageError, match=r"permission denied.*Run as root"):
        config.load("shop", tmp_path)
