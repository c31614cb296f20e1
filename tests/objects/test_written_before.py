# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault that an earlier commit filled: its mirror is verified, a bucket comes back, copies are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import written
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_servers import SeaweedFS


@contextlib.contextmanager
def vault_of(tmp_path: Path, commit: str) -> Iterator[SeaweedFS]:
    """The vault's server on the data that the other commit left, and the stack's settings pointed at it."""
    settings = written.unpack(tmp_path, commit)
    server = SeaweedFS(tmp_path / "server")
    server.data.rmdir()
    (tmp_path / "vault").rename(server.data)
    server.start()
    settings["vault"]["endpoint_url"] = settings["objects"]["endpoint_url"] = server.url
    settings["objects"]["keys_query"] = ""
    keys = {
        f"{whose}_{kind}_key": getattr(server, f"{kind}_key")
        for whose in ("objects", "vault")
        for kind in ("access", "secret")
    }
    written.write(tmp_path, settings, keys)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[SeaweedFS]:
    with vault_of(tmp_path, "72b9fc2") as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeaweedFS]:
    with vault_of(tmp_path, "a652176d") as server:
        yield server


@pytest.mark.parametrize("identity", written.OBJECTS.values())
def test_its_mirror_is_verified(
    vault: SeaweedFS, tmp_path: Path, capsys: pytest.CaptureFixture[str], identity: str
) -> None:
    code = cli.main(["verify", identity, "--level", "restore", "--config-directory", str(tmp_path / "etc")])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "PASS" in said
    assert "FAIL" not in said


def bodies(client: Any, bucket: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    return {entry["Key"]: client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in listed}


def test_a_bucket_comes_back_from_it(vault: SeaweedFS, tmp_path: Path) -> None:
    """Both points, the older one over the newer: what the bucket held then, to the byte."""
    loaded = config.load("shop", tmp_path / "etc")
    before = {f"photos/{number:03} ü.jpg": f"photo {number} ".encode() * 50 for number in range(20)}
    after = {**before, "photos/003 ü.jpg": b"changed", "new.txt": b"new"}
    del after["photos/004 ü.jpg"]
    for stamp, (point, expected) in enumerate(((written.NEWER, after), (written.OLDER, before))):
        done = objects_recovery.restore_objects(
            Opened(loaded),
            written.OBJECTS[point],
            location="vault",
            stamp=f"2026112600000{stamp}",
            exact=True,
            log=print,
        )
        found = {check.name: check.result for check in done.checks}
        assert found.pop("rows and objects") == "COULD_NOT_VERIFY", "there are no rows here"
        unknown = "" if stamp else "COULD_NOT_VERIFY"  # the first one makes the bucket
        assert found.pop("bucket object lock", "") == unknown, "nobody recorded locks then"
        assert set(found.values()) == {"PASS"}, done.checks
        assert bodies(vault.client, "uploads") == expected


@pytest.mark.parametrize("identity", written.STORE)
def test_every_bucket_of_a_store_is_verified(
    store: SeaweedFS, tmp_path: Path, capsys: pytest.CaptureFixture[str], identity: str
) -> None:
    code = cli.main(["verify", identity, "--level", "restore", "--json", "--config-directory", str(tmp_path / "etc")])
    said = json.loads(capsys.readouterr().out)
    assert (code, said["verdict"]) == (0, "PASS"), said
    names = {check["name"] for check in said["checks"]}
    assert {name for name in names if name.startswith("other buckets: ")}, names


def test_several_buckets_come_back_from_it(store: SeaweedFS, tmp_path: Path) -> None:
    """The newest backup into a store that has none of them, then the first over it."""
    loaded = config.load("shop", tmp_path / "etc")
    uploads = {f"photos/{number} ü.jpg": f"photo {number} ".encode() * 50 for number in range(5)}
    docs = {f"{number}.txt": f"page {number} ".encode() * 9 for number in range(3)}
    after = {"0.txt": docs["0.txt"], "1.txt": b"changed"}
    first, _lacking, newest = written.STORE
    expected = ((newest, {**uploads, "new.txt": b"new"}, after), (first, uploads, docs))
    for stamp, (identity, own, beside) in enumerate(expected):
        done = objects_recovery.restore_objects(
            Opened(loaded), identity, stamp=f"2026120100000{stamp}", exact=True, additional=("docs", "empty"), log=print
        )
        assert {check.result for check in done.checks} <= {"PASS", "COULD_NOT_VERIFY"}, done.checks
        assert (bodies(store.client, "uploads"), bodies(store.client, "docs")) == (own, beside)
        assert store.client.get_bucket_versioning(Bucket="docs")["Status"] == "Enabled"
        assert store.client.head_object(Bucket="docs", Key="0.txt")["Metadata"] == {"author": "jo"}


def test_its_copies_are_read_in_the_vault(vault: SeaweedFS, tmp_path: Path) -> None:
    copies = sources.open_place(Opened(config.load("shop", tmp_path / "etc")), "vault")
    assert sorted(copies.ids("database")) == sorted(written.DATABASE.values())
    assert sorted(copies.ids("config")) == sorted(written.CONFIG.values())
